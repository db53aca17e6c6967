//! Where triggers stand, and the firings of those that go by time.

use std::collections::HashMap;

use super::Arg;
use super::Batch;
use super::Error;
use super::NewRun;
use super::Row;
use super::Store;
use super::db::args;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::Timestamp;

/// Where a trigger stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRow {
    pub pipeline: String,
    pub trigger: String,
    /// Slots up to this logical time have been decided on; of `after`: ends up to this moment.
    pub seen: Timestamp,
    /// Whether a person has switched it off.
    pub disabled: bool,
    /// Since when files and ends of runs count; zero where nobody has looked yet.
    pub begun: Timestamp,
    /// When its bucket is full again.
    pub full_at: Timestamp,
    pub fired_at: Option<Timestamp>,
}

pub(super) const COLUMNS: &str = "pipeline, trigger_id, seen, disabled, begun, full_at, fired_at";

/// Lets a run that was just made wait for its trigger's bucket.
pub(super) const PUT_OFF: &str = "UPDATE runs SET state = 'waiting', waiting_until = $2, reason = $3 \
                                  WHERE id = $1 AND state = 'queued' AND owner IS NULL";

pub(super) fn put_off(run: RunId, until: Timestamp) -> Vec<Arg> {
    args![run.to_string(), until.micros(), "its trigger has fired as often as it may"]
}

pub(super) fn row(row: &Row) -> Result<ScheduleRow, Error> {
    Ok(ScheduleRow {
        pipeline: row.text(0)?.to_owned(),
        trigger: row.text(1)?.to_owned(),
        seen: Timestamp(row.int(2)?),
        disabled: row.int(3)? != 0,
        begun: Timestamp(row.int(4)?),
        full_at: Timestamp(row.int(5)?),
        fired_at: row.optional_int(6)?.map(Timestamp),
    })
}

/// How far a schedule has come, and when its bucket is full again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub pipeline: String,
    pub trigger: String,
    pub seen: Timestamp,
    pub full_at: Timestamp,
    /// Nothing where it only comes further.
    pub fired_at: Option<Timestamp>,
}

impl Store {
    /// Lists all triggers that were ever looked at.
    ///
    /// # Errors
    /// The store's.
    pub async fn schedules(&self) -> Result<Vec<ScheduleRow>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM schedules ORDER BY pipeline, trigger_id");
        let rows = self.fetch(sql, args![]).await?;
        rows.iter().map(row).collect()
    }

    /// Notes triggers that are new: what lay before `now` is none of theirs.
    ///
    /// # Errors
    /// The store's.
    pub async fn meet_schedules(&self, new: &[(String, String)], now: Timestamp) -> Result<(), Error> {
        const MEET: &str = "INSERT INTO schedules (pipeline, trigger_id, seen, disabled) VALUES ($1, $2, $3, 0) \
                            ON CONFLICT DO NOTHING";
        let mut batch = Batch::default();
        for (pipeline, trigger) in new {
            batch.push(MEET, args![pipeline.as_str(), trigger.as_str(), now.micros()]);
        }
        self.apply(batch).await?.map_err(|error| self.place().error(error))
    }

    /// Makes the runs of slots, each with when it may start where its trigger's bucket is empty, and notes how far their schedules have come, in one transaction. A slot that has a run, of
    /// this process or another, gets no second one; nobody's progress is taken back.
    ///
    /// # Errors
    /// The store's.
    pub async fn fire(&self, runs: &[(NewRun, Option<Timestamp>)], progress: &[Progress]) -> Result<(), Error> {
        const SEEN: &str = "UPDATE schedules SET seen = $3, full_at = CASE WHEN full_at > $4 THEN full_at ELSE $4 END, \
                            fired_at = COALESCE($5, fired_at) WHERE pipeline = $1 AND trigger_id = $2 AND seen < $3";
        let mut batch = Batch::default();
        let new: Vec<NewRun> = runs.iter().map(|(run, _)| run.clone()).collect();
        self.add_runs(&mut batch, &new).await?;
        for (run, not_before) in runs {
            if let Some(until) = not_before {
                batch.push(PUT_OFF, put_off(run.id, *until));
            }
        }
        for one in progress {
            let (pipeline, trigger) = (one.pipeline.as_str(), one.trigger.as_str());
            let fired = one.fired_at.map(Timestamp::micros);
            batch.push(SEEN, args![pipeline, trigger, one.seen.micros(), one.full_at.micros(), fired]);
        }
        self.apply(batch).await?.map_err(|error| self.place().error(error))?;
        if !runs.is_empty() {
            self.announce();
        }
        Ok(())
    }

    /// Switches a trigger off or on. Returns false where it was never looked at.
    ///
    /// # Errors
    /// The store's.
    pub async fn switch_schedule(&self, pipeline: &str, trigger: &str, disabled: bool) -> Result<bool, Error> {
        const SWITCH: &str = "UPDATE schedules SET disabled = $3 WHERE pipeline = $1 AND trigger_id = $2";
        let switched = self.execute(SWITCH, args![pipeline, trigger, i64::from(disabled)]).await? > 0;
        if switched {
            self.announce();
        }
        Ok(switched)
    }

    /// Finds the runs of some slots, and their states.
    ///
    /// # Errors
    /// The store's.
    pub async fn runs_of_slots(
        &self,
        pipeline: &str,
        slots: &[String],
    ) -> Result<HashMap<String, (RunId, RunState)>, Error> {
        const AT_ONCE: usize = 100;
        let places: Vec<String> = (0..AT_ONCE).map(|place| format!("${}", place + 2)).collect();
        let sql = format!("SELECT slot, id, state FROM runs WHERE pipeline = $1 AND slot IN ({})", places.join(", "));
        let mut found = HashMap::new();
        for some in slots.chunks(AT_ONCE) {
            let mut args = args![pipeline];
            // Always as many, so that the text stays the same; no slot is called nothing.
            let asked = some.iter().map(String::as_str).chain(std::iter::repeat("")).take(AT_ONCE);
            args.extend(asked.map(Arg::from));
            for row in self.fetch(sql.as_str(), args).await? {
                let state = RunState::by_name(row.text(2)?).unwrap_or(RunState::Queued);
                found.insert(row.text(0)?.to_owned(), (row.parsed(1)?, state));
            }
        }
        Ok(found)
    }

    /// Returns the run of a slot.
    ///
    /// # Errors
    /// The store's.
    pub async fn run_of_slot(&self, pipeline: &str, slot: &str) -> Result<Option<RunId>, Error> {
        const FIND: &str = "SELECT id FROM runs WHERE pipeline = $1 AND slot = $2";
        let rows = self.fetch(FIND, args![pipeline, slot]).await?;
        rows.first().map(|row| row.parsed(0)).transpose()
    }
}
