//! Signals to a run: what people and other runs tell it, kept until its owner has journaled what follows.

use super::Batch;
use super::Error;
use super::Store;
use super::db::args;
use crate::model::RunId;
use crate::model::Timestamp;
use crate::model::Value;

/// One message to a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// Names it in `Record::Taken`; grows within a run.
    pub number: i64,
    /// What is asked, e.g. `cancel` or `resolve`.
    pub kind: String,
    pub payload: Value,
    pub at: Timestamp,
}

impl Store {
    /// Leaves a signal for the run's owner; a waiting run becomes queued. Returns false when there is no such run.
    pub async fn inbox_put(&self, run: RunId, kind: &str, payload: &Value, at: Timestamp) -> Result<bool, Error> {
        if self.lease(run).await?.is_none() {
            return Ok(false);
        }
        let mut batch = Batch::default();
        self.add_signal(&mut batch, &run.to_string(), kind, payload, at).await?;
        self.apply(batch).await?.map_err(|error| self.place().error(error))?;
        Ok(true)
    }

    /// Adds a signal to a transaction; without effect where there is no such run.
    pub(super) async fn add_signal(
        &self,
        batch: &mut Batch,
        run: &str,
        kind: &str,
        payload: &Value,
        at: Timestamp,
    ) -> Result<(), Error> {
        // The count in the run's row is what going to sleep looks at: both meet on that row, so no wake-up is lost.
        const WAKE: &str = "UPDATE runs SET signals = signals + 1, last_signal = last_signal + 1, \
                            state = CASE WHEN state = 'waiting' THEN 'queued' ELSE state END WHERE id = $1";
        const PUT: &str = "INSERT INTO inbox (run_id, number, kind, payload, sent_at) \
                           SELECT id, last_signal, $2, $3, $4 FROM runs WHERE id = $1";
        let payload = self.encode(payload).await?;
        batch.push(WAKE, args![run]);
        batch.push(PUT, args![run, kind, payload, at.micros()]);
        Ok(())
    }

    /// Returns the signals that are not yet taken, oldest first. They stay until a `Record::Taken` is committed with
    /// what they caused, so that a crash loses none.
    pub async fn inbox(&self, run: RunId) -> Result<Vec<Signal>, Error> {
        const ALL: &str = "SELECT number, kind, payload, sent_at FROM inbox WHERE run_id = $1 ORDER BY number";
        let what = format!("the inbox of run {run}");
        let rows = self.fetch(ALL, args![run.to_string()]).await?;
        rows.iter()
            .map(|row| {
                Ok(Signal {
                    number: row.int(0)?,
                    kind: row.text(1)?.to_owned(),
                    payload: self.codec().decode(row.text(2)?, &what)?,
                    at: Timestamp(row.int(3)?),
                })
            })
            .collect()
    }
}
