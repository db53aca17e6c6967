//! Child runs: who makes them, and how a parent hears of those that others execute.

use super::Batch;
use super::Error;
use super::Fence;
use super::NewRun;
use super::Row;
use super::Store;
use super::datasets::is_guard;
use super::db::args;
use crate::model::RunId;
use crate::model::Timestamp;
use crate::model::Value;

/// The kind of the signal by which a parent hears that a child run has ended which others execute.
pub const CHILD_ENDED: &str = "child_ended";

/// So many ends are told at once.
const MOST: u32 = 500;

impl Store {
    /// Makes a child run for the holder of its parent. Repeating is harmless: the id says which step run it belongs to.
    ///
    /// # Errors
    /// The store's; `LeaseLost` when the parent was taken over: its new owner may have decided otherwise, and nobody would
    /// know of the child.
    pub async fn create_child(&self, run: &NewRun, parent: RunId, fence: Fence) -> Result<(), Error> {
        let mut batch = guarded(parent, fence);
        self.add_runs(&mut batch, std::slice::from_ref(run)).await?;
        let applied = self.apply(batch).await?;
        self.judge(applied, parent)?;
        if run.spread {
            // Whoever has room takes it.
            self.announce();
        }
        Ok(())
    }

    /// Leaves a signal for a child run, for the holder of its parent. Returns false when there is no such run.
    ///
    /// # Errors
    /// The store's; `LeaseLost` when the parent was taken over: what its old owner wants counts no more.
    pub async fn tell_child(
        &self,
        child: RunId,
        parent: RunId,
        fence: Fence,
        signal: (&str, &Value),
        at: Timestamp,
    ) -> Result<bool, Error> {
        if self.lease(child).await?.is_none() {
            return Ok(false);
        }
        // The parent is the one that speaks: nobody above need hear of it.
        let letter = self.letter(child, signal.0, signal.1).await?;
        // Whoever executes both may just be writing for both, in the other order.
        let applied = self.apply_again(|| {
            let mut batch = guarded(parent, fence);
            letter.push(&mut batch, at);
            batch
        });
        let applied = applied.await?;
        self.judge(applied, parent)?;
        self.announce();
        Ok(true)
    }

    /// Says why a guarded transaction was refused.
    fn judge(&self, applied: Result<(), sqlx::Error>, run: RunId) -> Result<(), Error> {
        match applied {
            Ok(()) => Ok(()),
            Err(error) if error.as_database_error().is_some_and(|error| is_guard(&error.kind())) => {
                Err(Error::LeaseLost { run })
            }
            Err(error) => Err(self.place().error(error)),
        }
    }

    /// Tells the parent of a spread child run that has just ended.
    ///
    /// # Errors
    /// The store's.
    pub async fn tell_parent(&self, child: RunId, now: Timestamp) -> Result<(), Error> {
        let sql = format!("{UNTOLD} AND id = $1");
        let rows = self.fetch(sql, args![child.to_string()]).await?;
        self.tell(&rows, now).await
    }

    /// Tells parents of spread child runs that have ended. Returns how many ends were told. Whoever ends a child tells of
    /// it; what a process that died has left untold, everybody else may tell later, and twice does no harm.
    ///
    /// # Errors
    /// The store's.
    pub async fn tell_parents(&self, now: Timestamp) -> Result<usize, Error> {
        let sql = format!("{UNTOLD} ORDER BY parent_run, id LIMIT $1");
        let rows = self.fetch(sql, args![i64::from(MOST)]).await?;
        self.tell(&rows, now).await?;
        Ok(rows.len())
    }

    async fn tell(&self, untold: &[Row], now: Timestamp) -> Result<(), Error> {
        const TOLD: &str = "UPDATE runs SET told = $2 WHERE id = $1 AND fence = $2";
        let mut parents: Vec<RunId> = Vec::new();
        for row in untold {
            let parent = row.parsed(2)?;
            if parents.last() != Some(&parent) {
                parents.push(parent);
            }
        }
        for parent in parents {
            self.inbox_send(parent, CHILD_ENDED, &Value::Null, now).await?;
        }
        // Behind the signals: whoever dies in between leaves them to be told again.
        let mut batch = Batch::default();
        for row in untold {
            batch.push(TOLD, args![row.text(0)?, row.int(1)?]);
        }
        if !untold.is_empty() {
            self.apply(batch).await?.map_err(|error| self.place().error(error))?;
        }
        Ok(())
    }
}

/// The end of a run has the fence of whoever brought it about, so a child that ends again is told of again.
const UNTOLD: &str = "SELECT id, fence, parent_run FROM runs WHERE parent_run IS NOT NULL AND gate = 0 \
                      AND ended_at IS NOT NULL AND told <> fence";

/// Begins a transaction that only the holder of a run may carry out.
fn guarded(run: RunId, fence: Fence) -> Batch {
    const GUARD: &str = "UPDATE runs SET fence = CASE WHEN fence = $2 THEN fence END WHERE id = $1";
    let mut batch = Batch::default();
    batch.push(GUARD, args![run.to_string(), fence.0]);
    batch
}
