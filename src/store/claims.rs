//! The queue: which runs can go on, and who takes them.

use std::sync::atomic::Ordering::Relaxed;

use super::Error;
use super::Fence;
use super::Lease;
use super::Row;
use super::RunRecord;
use super::Store;
use super::db::args;
use super::runs::COLUMNS;
use crate::model::Duration;
use crate::model::RunId;
use crate::model::Timestamp;
use crate::model::VersionId;

/// How often it is looked at least whose time has come while there is more in the queue than can be taken.
const WAKES: Duration = Duration::from_millis(50);

/// A run that was taken from the queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    pub run: RunRecord,
    pub fence: Fence,
    /// Since when it could have gone on: for how late it is.
    pub due: Timestamp,
}

impl Store {
    /// Takes up to `most` runs that nobody holds and that can go on now: queued ones, and waiting ones whose time has
    /// come, in the order of their turns. Several processes never take the same.
    ///
    /// # Errors
    /// The store's.
    pub async fn claim_due(&self, owner: &str, now: Timestamp, most: u32) -> Result<Vec<Claimed>, Error> {
        const WAKE: &str = "UPDATE runs SET state = 'queued' WHERE owner IS NULL AND gate = 0 AND state = 'waiting' \
                            AND waiting_until <= $1";
        const SELECT: &str =
            "SELECT id FROM runs WHERE owner IS NULL AND gate = 0 AND state = 'queued' ORDER BY turn LIMIT $2";
        // Of rows that another process is just taking there is no waiting for.
        let skip = self.0.shared.db.take_lock();
        let sql = format!(
            "UPDATE runs SET owner = $1, fence = fence + 1, beat = beat + 1 WHERE id IN ({SELECT}{skip}) \
             RETURNING {COLUMNS}, fence"
        );
        // Under load it is not looked at each time; whoever is woken stands before what came later.
        let looked = self.0.woken.load(Relaxed);
        let mut woken = now.micros().abs_diff(looked) >= WAKES.micros();
        if woken {
            self.0.woken.store(now.micros(), Relaxed);
            self.execute(WAKE, args![now.micros()]).await?;
        }
        let mut rows = self.fetch_write(sql.as_str(), args![owner, i64::from(most)]).await?;
        if !woken && rows.len() < usize::try_from(most).unwrap_or(usize::MAX) {
            woken = self.execute(WAKE, args![now.micros()]).await? > 0;
            let rest = i64::from(most) - i64::try_from(rows.len()).unwrap_or(0);
            if woken {
                rows.extend(self.fetch_write(sql, args![owner, rest]).await?);
            }
        }
        let mut claimed = rows.iter().map(|row| self.claimed(row, now)).collect::<Result<Vec<_>, Error>>()?;
        // What is returned has no order of its own.
        claimed.sort_by_key(|claimed| (claimed.run.turn, claimed.run.id));
        Ok(claimed)
    }

    fn claimed(&self, row: &Row, now: Timestamp) -> Result<Claimed, Error> {
        let run = self.run_record(row)?;
        // A signal, which tells no time, may have woken one that had begun.
        let begun = if run.started_at.is_some() { now } else { run.created_at };
        let due = run.waiting_until.filter(|until| *until <= now).unwrap_or(begun);
        Ok(Claimed { fence: Fence(row.int(21)?), due, run })
    }

    /// Returns when the next waiting run that nobody holds can go on; nothing when none waits for a time.
    ///
    /// # Errors
    /// The store's.
    pub async fn next_due(&self) -> Result<Option<Timestamp>, Error> {
        const NEXT: &str = "SELECT MIN(waiting_until) FROM runs WHERE owner IS NULL AND gate = 0 AND state = 'waiting' \
                            AND waiting_until IS NOT NULL";
        let rows = self.fetch(NEXT, args![]).await?;
        Ok(rows.first().map(|row| row.optional_int(0)).transpose()?.flatten().map(Timestamp))
    }

    /// Puts a run that was stopped in good order back into the queue.
    ///
    /// # Errors
    /// The store's.
    pub async fn requeue(&self, run: RunId) -> Result<(), Error> {
        const REQUEUE: &str = "UPDATE runs SET state = 'queued' WHERE id = $1 AND owner IS NULL AND state = 'running'";
        self.execute(REQUEUE, args![run.to_string()]).await?;
        Ok(())
    }

    /// Frees a run that cannot go on, waiting without a time.
    ///
    /// # Errors
    /// The store's.
    pub async fn hold_back(&self, run: RunId, fence: Fence, reason: &str) -> Result<(), Error> {
        const HOLD: &str = "UPDATE runs SET state = 'waiting', waiting_until = NULL, reason = $3, owner = NULL, \
                            beat = beat + 1 WHERE id = $1 AND fence = $2";
        self.execute(HOLD, args![run.to_string(), fence.0, reason]).await?;
        Ok(())
    }

    /// Lists the leases of runs that somebody holds, for whoever looks for owners that are gone.
    ///
    /// # Errors
    /// The store's.
    pub async fn held(&self) -> Result<Vec<(RunId, Lease, VersionId)>, Error> {
        const HELD: &str = "SELECT id, owner, fence, beat, version FROM runs WHERE owner IS NOT NULL \
                            AND gate < 2 AND state NOT IN ('succeeded', 'failed', 'canceled')";
        let rows = self.fetch(HELD, args![]).await?;
        rows.iter()
            .map(|row| {
                let owner = row.optional_text(1)?.map(str::to_owned);
                let lease = Lease { owner, fence: Fence(row.int(2)?), beat: row.int(3)? };
                Ok((row.parsed(0)?, lease, VersionId(row.text(4)?.into())))
            })
            .collect()
    }

    /// Counts the runs that go before this place in the queue, by their priorities, the highest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn ahead_of(&self, turn: Timestamp, run: RunId) -> Result<Vec<(u8, u64)>, Error> {
        const AHEAD: &str = "SELECT priority, COUNT(*) FROM runs WHERE owner IS NULL AND gate = 0 AND state = 'queued' \
                             AND (turn < $1 OR (turn = $1 AND id < $2)) GROUP BY priority ORDER BY priority DESC";
        let rows = self.fetch(AHEAD, args![turn.micros(), run.to_string()]).await?;
        let count = |row: &Row| Ok((u8::try_from(row.int(0)?).unwrap_or_default(), row.int(1)?.unsigned_abs()));
        rows.iter().map(count).collect()
    }

    /// Lists some of the runs that nobody holds and that could have gone on at a moment, with their leases.
    ///
    /// # Errors
    /// The store's.
    pub async fn left_lying(&self, since: Timestamp) -> Result<Vec<(RunId, Lease)>, Error> {
        // Each half by its own index, however many runs have ended.
        const LYING: &str = "SELECT id, fence, beat FROM (SELECT id, fence, beat FROM runs WHERE owner IS NULL \
                             AND gate = 0 AND state = 'queued' AND created_at <= $1 LIMIT 50) AS queued UNION ALL \
                             SELECT id, fence, beat FROM (SELECT id, fence, beat FROM runs WHERE owner IS NULL \
                             AND gate = 0 AND state = 'waiting' AND waiting_until <= $1 LIMIT 50) AS asleep";
        let rows = self.fetch(LYING, args![since.micros()]).await?;
        let lease = |row: &Row| Ok(Lease { owner: None, fence: Fence(row.int(1)?), beat: row.int(2)? });
        rows.iter().map(|row| Ok((row.parsed(0)?, lease(row)?))).collect()
    }

    /// Counts the runs that have not ended by their states; child runs are their parents'.
    ///
    /// # Errors
    /// The store's.
    pub async fn run_counts(&self) -> Result<Vec<(String, u64)>, Error> {
        // Each part by its own index, however many runs have ended.
        const COUNTS: &str = "SELECT 'queued', COUNT(*) FROM runs WHERE owner IS NULL AND state = 'queued' \
                              AND gate < 2 UNION ALL SELECT 'waiting', COUNT(*) FROM runs WHERE owner IS NULL \
                              AND gate = 0 AND state = 'waiting' UNION ALL SELECT 'running', COUNT(*) FROM runs \
                              WHERE owner IS NOT NULL AND gate < 2 AND state NOT IN ('succeeded', 'failed', 'canceled')";
        let rows = self.fetch(COUNTS, args![]).await?;
        let counts = rows.iter().map(|row| Ok((row.text(0)?.to_owned(), row.int(1)?.unsigned_abs())));
        counts.filter(|count| !matches!(count, Ok((_, 0)))).collect()
    }

    /// Asks the store something that costs nothing, to see whether it answers.
    ///
    /// # Errors
    /// The store's.
    pub async fn answers(&self) -> Result<(), Error> {
        self.fetch("SELECT id FROM runs LIMIT 1", args![]).await.map(drop)
    }
}
