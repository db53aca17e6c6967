//! Who owns a run: owner, fence and beat.

use super::Error;
use super::Row;
use super::Store;
use super::db::args;
use crate::model::RunId;

/// The number of a claim; it grows with each one, and every write of a run names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub i64);

/// A lease as an observer sees it. Whoever has seen the same beat for the lease's length on its own monotonic clock may
/// `steal` it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Nobody, when the run is free.
    pub owner: Option<String>,
    pub fence: Fence,
    pub beat: i64,
}

impl Store {
    /// Takes a free run. Returns nothing when it has an owner (or does not exist).
    pub async fn claim(&self, id: RunId, owner: &str) -> Result<Option<Fence>, Error> {
        const CLAIM: &str = "UPDATE runs SET owner = $2, fence = fence + 1, beat = beat + 1 \
                             WHERE id = $1 AND owner IS NULL RETURNING fence";
        fence_of(&self.fetch_write(CLAIM, args![id.to_string(), owner]).await?)
    }

    /// Takes a run over from an owner whose lease still is exactly `seen`.
    pub async fn steal(&self, id: RunId, owner: &str, seen: &Lease) -> Result<Option<Fence>, Error> {
        const STEAL: &str = "UPDATE runs SET owner = $2, fence = fence + 1, beat = beat + 1 \
                             WHERE id = $1 AND fence = $3 AND beat = $4 RETURNING fence";
        fence_of(&self.fetch_write(STEAL, args![id.to_string(), owner, seen.fence.0, seen.beat]).await?)
    }

    /// Returns the lease of a run; nothing when there is no such run.
    pub async fn lease(&self, id: RunId) -> Result<Option<Lease>, Error> {
        const LEASE: &str = "SELECT owner, fence, beat FROM runs WHERE id = $1";
        let rows = self.fetch(LEASE, args![id.to_string()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let owner = row.optional_text(0)?.map(str::to_owned);
        Ok(Some(Lease { owner, fence: Fence(row.int(1)?), beat: row.int(2)? }))
    }

    /// Shows that the owner lives. Returns false when the lease is lost.
    pub async fn beat(&self, id: RunId, fence: Fence) -> Result<bool, Error> {
        const BEAT: &str = "UPDATE runs SET beat = beat + 1 WHERE id = $1 AND fence = $2 AND owner IS NOT NULL";
        Ok(self.execute(BEAT, args![id.to_string(), fence.0]).await? > 0)
    }

    /// Frees the run. Returns false when the lease was lost before.
    pub async fn release(&self, id: RunId, fence: Fence) -> Result<bool, Error> {
        const RELEASE: &str =
            "UPDATE runs SET owner = NULL, beat = beat + 1 WHERE id = $1 AND fence = $2 AND owner IS NOT NULL";
        Ok(self.execute(RELEASE, args![id.to_string(), fence.0]).await? > 0)
    }

    /// Frees the run and puts it back into the queue at once. Returns false when the lease was lost before.
    pub async fn release_to_queue(&self, id: RunId, fence: Fence) -> Result<bool, Error> {
        const RELEASE: &str = "UPDATE runs SET owner = NULL, beat = beat + 1, \
                               state = CASE WHEN state = 'running' THEN 'queued' ELSE state END \
                               WHERE id = $1 AND fence = $2 AND owner IS NOT NULL";
        let freed = self.execute(RELEASE, args![id.to_string(), fence.0]).await? > 0;
        if freed {
            self.announce();
        }
        Ok(freed)
    }
}

fn fence_of(rows: &[Row]) -> Result<Option<Fence>, Error> {
    rows.first().map(|row| row.int(0).map(Fence)).transpose()
}
