//! Makes up for slots of a time trigger that have no run, oldest first, never too many unfinished at once.
//!
//! What is done is known from the rows alone: a slot has one run, whoever made it. So a backfill that is stopped or killed
//! is gone on with by asking for it again, and none of its slots is run twice.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::scheduler::run_of_slot;
use crate::engine::Engine;
use crate::engine::Error;
use crate::engine::ExecuteOptions;
use crate::engine::Execution;
use crate::model::Duration;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::Timestamp;
use crate::node::Registry;
use crate::pipeline::Pipeline;
use crate::pipeline::Trigger;
use crate::pipeline::compile_definition;
use crate::schedule::Schedule;
use crate::schedule::Slot;
use crate::store::NewRun;
use crate::store::RunRecord;

/// More slots than this are not made up for at once.
pub const MOST: usize = 100_000;
/// How often it is looked at what a daemon has done.
const LOOK: Duration = Duration::from_millis(250);

/// A slot, and its run where it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub slot: Slot,
    pub run: Option<(RunId, RunState)>,
}

/// What is made up for.
#[expect(missing_debug_implementations, reason = "a function has nothing to show")]
pub struct Backfill<'a> {
    pub engine: &'a Engine,
    pub registry: &'a Registry,
    pub pipeline: &'a Arc<Pipeline>,
    pub trigger: &'a Trigger,
    /// At most so many of the slots' runs are unfinished.
    pub parallel: usize,
    /// Ends it in good order.
    pub stop: CancellationToken,
    /// Tells whether a daemon works: what is queued is left to it then.
    pub daemon: &'a (dyn Fn() -> bool + Sync),
}

/// What is told meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Made {
        slot: Timestamp,
        run: RunId,
    },
    /// Its inputs could not be made.
    NotMade {
        slot: Timestamp,
        why: String,
    },
    Ended {
        slot: Timestamp,
        run: RunId,
        state: RunState,
    },
    /// It waits for a person.
    Stuck {
        slot: Timestamp,
        run: RunId,
        reason: String,
    },
}

/// What it came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub succeeded: usize,
    /// Runs that failed or were canceled, and slots whose run could not be made.
    pub failed: usize,
    /// Runs that wait for a person.
    pub stuck: usize,
    /// Slots whose runs have not ended, or have not been made.
    pub left: usize,
}

/// Reads a moment: with `Z` or an offset as it is, else on the clocks of a zone; a day alone is its midnight.
///
/// # Errors
/// A text that is neither.
pub fn moment(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    let local = text.parse::<DateTime>().ok().and_then(|local| zone.to_timestamp(local).ok());
    let wrong = || {
        format!("expected a moment such as `2026-01-31`, `2026-01-31T09:00` or `2026-01-31T09:00:00Z`, found `{text}`")
    };
    local.map(Timestamp::from_jiff).ok_or_else(wrong)
}

/// Lists the slots from one moment on and before another, at most one more than [`MOST`].
#[must_use]
pub fn slots(schedule: &Schedule, from: Timestamp, to: Timestamp) -> Vec<Slot> {
    let before = Timestamp(from.0.saturating_sub(1));
    schedule.slots_after(before).take_while(|slot| slot.logical < to).take(MOST + 1).collect()
}

impl Backfill<'_> {
    /// Finds the runs that slots have already.
    ///
    /// # Errors
    /// The store's.
    pub async fn look(&self, slots: Vec<Slot>) -> Result<Vec<Wanted>, Error> {
        let keys: Vec<String> = slots.iter().map(|slot| slot.key(&self.trigger.id)).collect();
        let known = self.engine.parts().store.runs_of_slots(&self.pipeline.name, &keys).await?;
        let wanted = slots.into_iter().zip(&keys).map(|(slot, key)| Wanted { slot, run: known.get(key).copied() });
        Ok(wanted.collect())
    }

    /// Makes the runs that are missing, and sees to it that all unfinished ones end: here, or by the daemon where one
    /// works. What has ended before is left alone.
    ///
    /// # Errors
    /// The store's.
    pub async fn fill(&self, wanted: Vec<Wanted>, tell: &mut (dyn FnMut(Told) + Send)) -> Result<Outcome, Error> {
        let mut state = State::default();
        for one in wanted {
            match one.run {
                None => state.missing.push_back(one.slot),
                Some((run, known)) if !known.is_final() => state.open.push((run, one.slot.logical)),
                Some(_) => {}
            }
        }
        self.engine.keep_version(self.pipeline).await?;
        let clock = self.engine.parts().system.clock.clone();
        loop {
            self.make(&mut state, tell).await?;
            self.watch(&mut state, tell).await?;
            let waits_for_people = state.stuck.len() >= state.open.len();
            let done = state.missing.is_empty() || state.open.len() >= self.parallel;
            if (waits_for_people && done && state.running.is_empty()) || self.stop.is_cancelled() {
                break;
            }
            tokio::select! {
                Some(ended) = state.running.join_next(), if !state.running.is_empty() => {
                    state.executed(ended, self.engine).await?;
                }
                () = clock.sleep_until(clock.now().plus(LOOK)) => {}
                () = self.stop.cancelled() => {}
            }
        }
        while let Some(ended) = state.running.join_next().await {
            state.executed(ended, self.engine).await?;
        }
        self.watch_ends(&mut state, tell).await?;
        let left = state.open.len() + state.missing.len();
        Ok(Outcome { stuck: state.stuck.len(), left, ..state.outcome })
    }

    /// Makes the oldest missing runs, as many as there is room for.
    async fn make(&self, state: &mut State, tell: &mut (dyn FnMut(Told) + Send)) -> Result<(), Error> {
        let store = &self.engine.parts().store;
        let mut any = false;
        while state.open.len() < self.parallel && !self.stop.is_cancelled() {
            let Some(slot) = state.missing.pop_front() else { break };
            let made = match run_of_slot(self.engine, self.pipeline, self.trigger, &slot) {
                Ok(run) => run,
                Err(why) => {
                    state.outcome.failed += 1;
                    tell(Told::NotMade { slot: slot.logical, why });
                    continue;
                }
            };
            let run = NewRun { started_by: Some("backfill".into()), ..made };
            if store.create_run(&run).await? {
                self.engine.admit(&run.requests).await?;
                tell(Told::Made { slot: slot.logical, run: run.id });
                state.open.push((run.id, slot.logical));
                any = true;
            } else if let Some(run) = store.run_of_slot(&self.pipeline.name, &slot.key(&self.trigger.id)).await? {
                // Somebody else was faster.
                state.open.push((run, slot.logical));
            }
        }
        if any {
            (self.daemon)();
        }
        Ok(())
    }

    /// Looks at unfinished runs: what ended is told; what nobody executes is executed here.
    async fn watch(&self, state: &mut State, tell: &mut (dyn FnMut(Told) + Send)) -> Result<(), Error> {
        let daemon = (self.daemon)();
        for run in self.watch_ends(state, tell).await? {
            let waits = run.state == RunState::Waiting;
            if waits && run.waiting_until.is_none() && !run.owned {
                let slot = state.slot(run.id);
                if state.stuck.insert(run.id) {
                    let reason = run.reason.unwrap_or_default();
                    tell(Told::Stuck { slot, run: run.id, reason });
                }
                continue;
            }
            state.stuck.remove(&run.id);
            if daemon || state.own.contains(&run.id) || self.stop.is_cancelled() || self.held_elsewhere(&run).await? {
                continue;
            }
            // It may have begun with an older version of the file.
            let (engine, pipeline, id) = (self.engine.clone(), self.version_of(&run).await?, run.id);
            let options = ExecuteOptions { stop: self.stop.child_token(), ..ExecuteOptions::default() };
            state.own.push(id);
            state.running.spawn(async move { (id, engine.execute(id, pipeline, options).await) });
        }
        Ok(())
    }

    async fn version_of(&self, run: &RunRecord) -> Result<Arc<Pipeline>, Error> {
        if run.version == self.pipeline.version {
            return Ok(self.pipeline.clone());
        }
        let damaged = |reason: &str| crate::store::Error::Damaged {
            what: format!("the version of run {}", run.id),
            reason: reason.to_owned(),
        };
        let version = self.engine.parts().store.version(&run.version).await?;
        let version = version.ok_or_else(|| damaged("it is not in the store"))?;
        let compiled = compile_definition(&version.definition, self.registry);
        Ok(compiled.map_err(|_| damaged("this version of the program cannot read it"))?)
    }

    async fn held_elsewhere(&self, run: &RunRecord) -> Result<bool, Error> {
        if !run.owned {
            return Ok(false);
        }
        let parts = self.engine.parts();
        let owner = parts.store.lease(run.id).await?.and_then(|lease| lease.owner);
        Ok(owner.is_some_and(|owner| !(parts.owner_is_gone)(&owner)))
    }

    /// Tells which runs have ended, and returns the others.
    async fn watch_ends(
        &self,
        state: &mut State,
        tell: &mut (dyn FnMut(Told) + Send),
    ) -> Result<Vec<RunRecord>, Error> {
        let mut others = Vec::new();
        for (run, slot) in std::mem::take(&mut state.open) {
            let Some(record) = self.engine.parts().store.run(run).await? else { continue };
            if !record.state.is_final() || state.own.contains(&run) {
                state.open.push((run, slot));
                others.push(record);
                continue;
            }
            state.stuck.remove(&run);
            match record.state {
                RunState::Succeeded => state.outcome.succeeded += 1,
                _ => state.outcome.failed += 1,
            }
            tell(Told::Ended { slot, run, state: record.state });
        }
        Ok(others)
    }
}

#[derive(Debug, Default)]
struct State {
    /// Slots without a run, oldest first.
    missing: VecDeque<Slot>,
    /// Runs that have not ended, with their slots.
    open: Vec<(RunId, Timestamp)>,
    /// Those that wait for a person.
    stuck: HashSet<RunId>,
    /// Those that are executed here.
    own: Vec<RunId>,
    running: JoinSet<(RunId, Result<Execution, Error>)>,
    outcome: Outcome,
}

impl State {
    fn slot(&self, run: RunId) -> Timestamp {
        self.open.iter().find(|(open, _)| *open == run).map_or(Timestamp(0), |(_, slot)| *slot)
    }

    async fn executed(
        &mut self,
        ended: Result<(RunId, Result<Execution, Error>), tokio::task::JoinError>,
        engine: &Engine,
    ) -> Result<(), Error> {
        let Ok((run, result)) = ended else { return Ok(()) };
        self.own.retain(|own| *own != run);
        match result {
            Ok(Execution::Stopped) => Ok(engine.parts().store.requeue(run).await?),
            // Somebody else goes on with it.
            Ok(_) | Err(Error::Taken(_) | Error::LeaseLost(_) | Error::WrongState { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_local_unless_they_say_otherwise() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        for (text, expected) in [
            ("2026-01-31", "2026-01-30T23:00:00Z"),
            ("2026-07-31T09:00", "2026-07-31T07:00:00Z"),
            ("2026-07-31 09:00:30", "2026-07-31T07:00:30Z"),
            ("2026-07-31T09:00:00Z", "2026-07-31T09:00:00Z"),
            ("2026-07-31T09:00:00+05:00", "2026-07-31T04:00:00Z"),
        ] {
            assert_eq!(moment(text, &zone).map(|moment| moment.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "09:00"] {
            assert!(moment(text, &zone).is_err(), "{text}");
        }
    }
}
