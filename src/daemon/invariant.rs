//! What must hold at every minute: every enabled schedule has its next slot or a visible reason why not, and no run lies
//! where nobody goes on with it.
//!
//! The checks are plain functions of what is in the store and what was there a minute ago; the inspector asks them, and
//! whoever asks for the metrics or `schedules doctor` sees the same.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::scheduler::Active;
use super::told;
use crate::engine::LEASE;
use crate::model::Duration;
use crate::model::RunId;
use crate::model::Timestamp;
use crate::pipeline::Trigger;
use crate::schedule::Schedule;
use crate::schedule::Slot;
use crate::store::Error;
use crate::store::Lease;
use crate::store::ScheduleRow;
use crate::store::Store;
use crate::system::System;

/// How often it is looked at.
pub const LOOK: Duration = Duration::from_secs(60);
/// A slot that is due for longer than this and was not decided on is late.
pub const LATE: Duration = Duration::from_secs(120);
/// A run that could have begun for longer than this, while there was room, was left lying.
pub const LYING: Duration = Duration::from_secs(60);

/// Where a schedule stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Next(Slot),
    /// Its file says so.
    OffInFile,
    /// A person has said so.
    SwitchedOff,
    /// It is never due again.
    Over,
    /// No daemon has looked at it yet.
    Unmet,
    /// This slot was due so long ago, and nobody has decided on it.
    Late(Slot, Duration),
}

/// What is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Astray {
    Schedule {
        pipeline: String,
        trigger: String,
        why: String,
    },
    /// It could go on, there is room, and nobody takes it.
    Lying(RunId),
    /// Its owner has not beaten for two leases, there is room, and nobody takes it over.
    Held {
        run: RunId,
        owner: String,
    },
}

/// Looks every minute.
#[derive(Debug)]
pub struct Inspector {
    pub store: Store,
    pub system: System,
    pub active: watch::Receiver<Active>,
    pub metrics: Arc<Metrics>,
    /// So many runs at the same time.
    pub most: usize,
    pub stop: CancellationToken,
}

/// What was seen of runs in earlier looks.
#[derive(Debug, Default)]
pub struct Memory {
    lying: HashMap<RunId, Lease>,
    /// Leases, and since when they have not changed.
    held: HashMap<RunId, (Lease, Duration)>,
}

/// What is seen of runs in one look.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// By a clock that only grows.
    pub at: Duration,
    /// Whether another run could be executed.
    pub room: bool,
    /// Runs that nobody holds and that could have gone on for a while.
    pub lying: Vec<(RunId, Lease)>,
    pub held: Vec<(RunId, Lease)>,
}

/// Says where a schedule stands.
#[must_use]
pub fn standing(trigger: &Trigger, schedule: &Schedule, row: Option<&ScheduleRow>, now: Timestamp) -> Standing {
    if !trigger.enabled {
        return Standing::OffInFile;
    }
    let Some(row) = row else {
        return if schedule.next_after(now).is_none() { Standing::Over } else { Standing::Unmet };
    };
    if row.disabled {
        return Standing::SwitchedOff;
    }
    match schedule.next_after(row.seen) {
        None => Standing::Over,
        Some(slot) if now.since(slot.due) > LATE => Standing::Late(slot.clone(), now.since(slot.due)),
        Some(slot) => Standing::Next(slot),
    }
}

/// Lists the schedules of some pipelines that have neither a next slot nor a reason why not.
#[must_use]
pub fn astray_schedules(active: &Active, rows: &[ScheduleRow], now: Timestamp) -> Vec<Astray> {
    let rows: HashMap<_, _> = rows.iter().map(|row| ((row.pipeline.as_str(), row.trigger.as_str()), row)).collect();
    let mut astray = Vec::new();
    for pipeline in active.iter() {
        for trigger in &pipeline.triggers {
            let Some(schedule) = trigger.schedule(&pipeline.name) else { continue };
            let row = rows.get(&(&*pipeline.name, &*trigger.id)).copied();
            let why = match standing(trigger, &schedule, row, now) {
                Standing::Unmet => "nobody has looked at it".to_owned(),
                Standing::Late(slot, by) => format!("{} was due {by} ago", slot.logical),
                _ => continue,
            };
            let (pipeline, trigger) = (pipeline.name.to_string(), trigger.id.to_string());
            astray.push(Astray::Schedule { pipeline, trigger, why });
        }
    }
    astray
}

impl Memory {
    /// Lists the runs that nobody goes on with: what looks now as it looked before, while there was room both times.
    pub fn astray_runs(&mut self, seen: Seen) -> Vec<Astray> {
        let mut astray = Vec::new();
        let mut lying = HashMap::new();
        for (run, lease) in seen.lying.into_iter().filter(|_| seen.room) {
            if self.lying.get(&run) == Some(&lease) {
                astray.push(Astray::Lying(run));
            }
            lying.insert(run, lease);
        }
        self.lying = lying;
        let mut held = HashMap::new();
        for (run, lease) in seen.held {
            let since = match self.held.get(&run) {
                Some((before, since)) if *before == lease => *since,
                _ => seen.at,
            };
            let silent = seen.at.micros().saturating_sub(since.micros());
            if seen.room && silent > LEASE.times(2).micros() {
                astray.push(Astray::Held { run, owner: lease.owner.clone().unwrap_or_default() });
            }
            held.insert(run, (lease, since));
        }
        self.held = held;
        astray
    }
}

impl Inspector {
    /// Looks until it is stopped.
    pub async fn inspect(self) {
        let clock = self.system.clock.clone();
        let (mut memory, mut known) = (Memory::default(), HashSet::new());
        while !self.stop.is_cancelled() {
            tokio::select! {
                () = clock.sleep_until(clock.now().plus(LOOK)) => {}
                () = self.stop.cancelled() => return,
            }
            match self.look(&mut memory).await {
                Ok(astray) => known = note(astray, &known),
                Err(error) => tracing::error!(error = told(&error), "whether all is well could not be looked at"),
            }
        }
    }

    /// Looks once; the metrics show what was found.
    ///
    /// # Errors
    /// The store's.
    pub async fn look(&self, memory: &mut Memory) -> Result<Vec<Astray>, Error> {
        let now = self.system.clock.now();
        let rows = self.store.schedules().await?;
        let mut astray = astray_schedules(&self.active.borrow().clone(), &rows, now);
        let schedules = astray.len();
        let room = self.metrics.executing.load(Relaxed) < self.most as u64;
        let since = Timestamp(now.0.saturating_sub_unsigned(LYING.micros()));
        let lying = self.store.left_lying(since).await?;
        let held = self.store.held().await?.into_iter().map(|(run, lease, _)| (run, lease)).collect();
        let seen = Seen { at: self.system.clock.monotonic(), room, lying, held };
        astray.extend(memory.astray_runs(seen));
        let held = astray.iter().filter(|one| matches!(one, Astray::Held { .. })).count();
        self.metrics.schedules_astray.store(schedules as u64, Relaxed);
        self.metrics.runs_left_held.store(held as u64, Relaxed);
        self.metrics.runs_left_lying.store((astray.len() - schedules - held) as u64, Relaxed);
        Ok(astray)
    }
}

/// Logs what is new, and returns all.
fn note(astray: Vec<Astray>, known: &HashSet<Astray>) -> HashSet<Astray> {
    for one in astray.iter().filter(|one| !known.contains(one)) {
        tracing::warn!(what = %one, "something is not as it must be");
    }
    astray.into_iter().collect()
}

impl fmt::Display for Astray {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schedule { pipeline, trigger, why } => {
                write!(formatter, "schedule `{trigger}` of `{pipeline}` has no next slot: {why}")
            }
            Self::Lying(run) => write!(formatter, "run {run} could go on, and nobody takes it although there is room"),
            Self::Held { run, owner } => {
                write!(formatter, "run {run} is held by `{owner}`, which has not beaten for two leases")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::compile_text;
    use crate::store::Fence;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    fn active(trigger: &str) -> Active {
        let text = format!("triggers: [ {trigger} ]\nsteps: {{ a: {{ uses: log.write, with: {{ message: hi }} }} }}\n");
        let (pipeline, faults) = compile_text("p.yaml", &text, &crate::nodes::registry());
        Arc::new(vec![pipeline.unwrap_or_else(|| panic!("{faults:?}"))])
    }

    /// What is astray of a schedule whose row was decided on so many seconds ago.
    fn found(trigger: &str, row: Option<(i64, bool)>) -> Vec<String> {
        let active = active(trigger);
        let rows: Vec<_> = row
            .map(|(ago, disabled)| ScheduleRow {
                pipeline: active[0].name.to_string(),
                trigger: active[0].triggers[0].id.to_string(),
                seen: Timestamp(NOW.0 - ago * 1_000_000),
                disabled,
                begun: Timestamp(0),
                full_at: Timestamp(0),
                fired_at: None,
            })
            .into_iter()
            .collect();
        astray_schedules(&active, &rows, NOW).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_schedule_has_its_next_slot_or_a_reason_why_not() {
        let minutely = "{ cron: \"* * * * *\" }";
        for (trigger, row) in [
            (minutely, Some((30, false))),
            // A slot may be decided on a little late.
            (minutely, Some((110, false))),
            (minutely, Some((100_000, true))),
            ("{ cron: \"* * * * *\", enabled: false }", None),
            ("{ at: 2020-01-01T00:00:00Z }", None),
            ("{ at: 2020-01-01T00:00:00Z }", Some((10, false))),
            ("{ manual: true }", None),
        ] {
            assert_eq!(found(trigger, row), [""; 0], "{trigger} {row:?}");
        }
        let unmet = found(minutely, None);
        assert!(unmet.len() == 1 && unmet[0].ends_with("nobody has looked at it"), "{unmet:?}");
        let late = found(minutely, Some((1_000, false)));
        assert!(late.len() == 1 && late[0].contains("was due 16m"), "{late:?}");
    }

    fn lease(owner: Option<&str>, beat: i64) -> Lease {
        Lease { owner: owner.map(str::to_owned), fence: Fence(1), beat }
    }

    fn run(number: u128) -> RunId {
        RunId::new(1, number)
    }

    fn seen(second: u64, room: bool, lying: &[(u128, i64)], held: &[(u128, i64)]) -> Seen {
        Seen {
            at: Duration::from_secs(second),
            room,
            lying: lying.iter().map(|(number, beat)| (run(*number), lease(None, *beat))).collect(),
            held: held.iter().map(|(number, beat)| (run(*number), lease(Some("w"), *beat))).collect(),
        }
    }

    #[test]
    fn a_run_that_lies_there_in_two_looks_while_there_is_room_is_told() {
        let mut memory = Memory::default();
        assert_eq!(memory.astray_runs(seen(0, true, &[(1, 0), (2, 0)], &[])), []);
        // The second was executed in between and lies there again.
        assert_eq!(memory.astray_runs(seen(60, true, &[(1, 0), (2, 3)], &[])), [Astray::Lying(run(1))]);
        // Where there is no room it has to wait.
        assert_eq!(memory.astray_runs(seen(120, false, &[(1, 0)], &[])), []);
        assert_eq!(memory.astray_runs(seen(180, true, &[(1, 0)], &[])), []);
        assert_eq!(memory.astray_runs(seen(240, true, &[(1, 0)], &[])), [Astray::Lying(run(1))]);
    }

    #[test]
    fn a_run_that_is_held_without_a_beat_for_two_leases_is_told() {
        let held = |number| Astray::Held { run: run(number), owner: "w".to_owned() };
        let mut memory = Memory::default();
        assert_eq!(memory.astray_runs(seen(0, true, &[], &[(1, 5), (2, 5)])), []);
        assert_eq!(memory.astray_runs(seen(20, true, &[], &[(1, 5), (2, 9)])), []);
        assert_eq!(memory.astray_runs(seen(60, true, &[], &[(1, 5), (2, 20)])), [held(1)]);
        assert_eq!(memory.astray_runs(seen(80, false, &[], &[(1, 5), (2, 20)])), []);
        assert_eq!(memory.astray_runs(seen(100, true, &[], &[(1, 6), (2, 20)])), [held(2)]);
    }
}
