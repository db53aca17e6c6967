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

/// The kind of the signal by which a parent hears that a child run was told something.
pub const CHILD_TOLD: &str = "child";

/// How often a transaction is tried again that another one stood in the way of.
const ATTEMPTS: usize = 8;

/// The signals of one transaction: to a run, and to the parents above it.
#[derive(Debug)]
pub(super) struct Letters {
    /// In the order of the runs' ids: two that send to the same runs wait for each other, and not both for ever.
    letters: Vec<Letter>,
    at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Letter {
    run: RunId,
    kind: String,
    payload: String,
}

impl Store {
    /// Leaves a signal for the run's owner; a waiting run becomes queued. Returns false when there is no such run.
    pub async fn inbox_put(&self, run: RunId, kind: &str, payload: &Value, at: Timestamp) -> Result<bool, Error> {
        if self.lease(run).await?.is_none() {
            return Ok(false);
        }
        let letter = self.letter(run, kind, payload).await?;
        self.deliver(&Letters { letters: vec![letter], at }).await?;
        self.announce();
        Ok(true)
    }

    /// Adds a signal to a transaction, and tells the runs above; without effect where there is no such run.
    pub(super) async fn add_signal(
        &self,
        batch: &mut Batch,
        run: &str,
        kind: &str,
        payload: &Value,
        at: Timestamp,
    ) -> Result<(), Error> {
        // What is no run's id is none of a row.
        let Ok(run) = run.parse() else { return Ok(()) };
        self.letters(run, kind, payload, at).await?.add_to(batch);
        Ok(())
    }

    /// Leaves a signal for a run, and tells the runs above it, because nobody but its parent executes a child run.
    pub async fn inbox_send(&self, run: RunId, kind: &str, payload: &Value, at: Timestamp) -> Result<bool, Error> {
        if self.lease(run).await?.is_none() {
            return Ok(false);
        }
        let letters = self.letters(run, kind, payload, at).await?;
        self.deliver(&letters).await?;
        self.announce();
        Ok(true)
    }

    /// Makes a signal to one run.
    pub(super) async fn letter(&self, run: RunId, kind: &str, payload: &Value) -> Result<Letter, Error> {
        Ok(Letter { run, kind: kind.to_owned(), payload: self.encode(payload).await? })
    }

    async fn deliver(&self, letters: &Letters) -> Result<(), Error> {
        self.apply_again(|| {
            let mut batch = Batch::default();
            letters.add_to(&mut batch);
            batch
        })
        .await?
        .map_err(|error| self.place().error(error))
    }

    /// Makes the signals to a run and to those above it.
    pub(super) async fn letters(
        &self,
        run: RunId,
        kind: &str,
        payload: &Value,
        at: Timestamp,
    ) -> Result<Letters, Error> {
        // One that any worker may execute needs no parent for it.
        const PARENT: &str = "SELECT parent_run FROM runs WHERE id = $1 AND gate = 2";
        let mut letters = vec![self.letter(run, kind, payload).await?];
        let mut child = run;
        loop {
            let rows = self.fetch(PARENT, args![child.to_string()]).await?;
            let Some(row) = rows.first().filter(|row| matches!(row.optional_text(0), Ok(Some(_)))) else { break };
            let parent: RunId = row.parsed(0)?;
            let payload = self.encode(&Value::map([("run", Value::from(child.to_string()))])).await?;
            letters.push(Letter { run: parent, kind: CHILD_TOLD.to_owned(), payload });
            child = parent;
        }
        letters.sort_by_key(|letter| letter.run);
        Ok(Letters { letters, at })
    }

    /// Applies a transaction, again where another stood in its way.
    pub(super) async fn apply_again(&self, batch: impl Fn() -> Batch) -> Result<Result<(), sqlx::Error>, Error> {
        let mut attempts = 0;
        loop {
            let result = self.apply(batch()).await?;
            attempts += 1;
            match &result {
                Err(error) if attempts < ATTEMPTS && is_in_the_way(error) => {}
                _ => return Ok(result),
            }
        }
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

impl Letters {
    /// Adds them to a transaction, before what else it changes: rows of runs are taken first, as journals do.
    pub(super) fn add_to(&self, batch: &mut Batch) {
        for letter in &self.letters {
            letter.push(batch, self.at);
        }
    }
}

impl Letter {
    pub(super) fn push(&self, batch: &mut Batch, at: Timestamp) {
        // The count in the run's row is what going to sleep looks at: both meet on that row, so no wake-up is lost.
        // One that was stopped and that nobody holds is queued as well: whoever is told something goes on.
        const WAKE: &str = "UPDATE runs SET signals = signals + 1, last_signal = last_signal + 1, \
                            state = CASE WHEN state = 'waiting' OR (state = 'running' AND owner IS NULL) THEN 'queued' \
                            ELSE state END WHERE id = $1";
        const PUT: &str = "INSERT INTO inbox (run_id, number, kind, payload, sent_at) \
                           SELECT id, last_signal, $2, $3, $4 FROM runs WHERE id = $1";
        batch.push(WAKE, args![self.run.to_string()]);
        batch.push(PUT, args![self.run.to_string(), self.kind.as_str(), self.payload.as_str(), at.micros()]);
    }
}

/// Tells whether two transactions of PostgreSQL stood in each other's way.
pub(super) fn is_in_the_way(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("40P01" | "40001"))
}
