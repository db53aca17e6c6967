//! A schedule: its next slot, or why there is none; what it passes over; what it fired last.

use super::Cause;
use super::words;
use crate::model::Duration;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::Pipeline;
use crate::pipeline::Trigger;
use crate::pipeline::TriggerKind;
use crate::schedule::Schedule;
use crate::schedule::Slot;
use crate::store::RunRecord;
use crate::store::ScheduleRow;

/// A slot that is due for longer than this and was not decided on is late.
const LATE: Duration = Duration::from_secs(120);
/// So many times that are passed over are told.
const MOST: usize = 5;

/// What is known of a schedule beside its file.
#[derive(Clone, Copy, Debug)]
pub struct Known<'k> {
    pub row: Option<&'k ScheduleRow>,
    /// The run that it fired last.
    pub last: Option<&'k RunRecord>,
    /// Whether a daemon works on the project.
    pub daemon: bool,
    pub now: Timestamp,
}

/// Says why a trigger that goes by time is due when it is, or never; pure.
#[must_use]
pub fn schedule(pipeline: &Pipeline, trigger: &Trigger, known: Known<'_>) -> Option<Cause> {
    let TriggerKind::Time(when) = &trigger.kind else { return None };
    let schedule = trigger.schedule(&pipeline.name)?;
    let zone = schedule.zone.iana_name().unwrap_or("UTC");
    let name = format!("{} of `{}` ({}: {when}, {zone})", trigger.id, pipeline.name, when.name());
    let about = |state: &'static str, text: String| {
        Cause::new("schedule", text)
            .with("pipeline", &*pipeline.name)
            .with("trigger", &*trigger.id)
            .with("state", state)
    };
    let now = known.now;
    let cause = if !trigger.enabled {
        about("off", format!("{name} is off")).because([Cause::new("file", "its file says `enabled: false`")])
    } else if known.row.is_some_and(|row| row.disabled) {
        let text = format!("somebody switched it off; `pipewright schedules enable {}` switches it on", pipeline.name);
        about("off", format!("{name} is off")).because([Cause::new("disabled", text)])
    } else {
        let seen = known.row.map_or(now, |row| row.seen);
        match schedule.next_after(seen) {
            None => about("over", format!("{name} is never due again")).because([never(trigger, &schedule, seen)]),
            Some(slot) if now.since(slot.due) > LATE => {
                let why =
                    if known.daemon { "the daemon has not decided on it" } else { "no daemon works on this project" };
                let text =
                    format!("{name} is late: its slot of {} was due at {}", slot.local, words::at(slot.due, now));
                about("late", text).with("slot", Value::Time(slot.logical)).because([Cause::new("daemon", why)])
            }
            Some(slot) => {
                let text = format!("{name} is due next at {}, which is {}", slot.local, words::at(slot.logical, now));
                let met = known.row.is_none().then(|| {
                    let why = if known.daemon {
                        "no daemon has looked at it yet"
                    } else {
                        "no daemon works on this project, so nothing fires it"
                    };
                    Cause::new("daemon", why)
                });
                let gone = (known.row.is_some() && !known.daemon)
                    .then(|| Cause::new("daemon", "no daemon works on this project, so nothing fires it"));
                about("armed", text)
                    .with("slot", Value::Time(slot.logical))
                    .with("due", Value::Time(slot.due))
                    .because(moved(&slot))
                    .because(passed_over(&schedule, seen.max(now), &slot))
                    .because(met)
                    .because(gone)
            }
        }
    };
    Some(cause.because(last(known.last, now)))
}

fn moved(slot: &Slot) -> Vec<Cause> {
    let clock = slot.moved.map(|moved| Cause::new("clock_change", moved.to_string()).with("why", moved.name()));
    let jitter = (slot.due > slot.logical).then(|| {
        let text = format!("its `jitter` has it start {} later", words::about(slot.due.since(slot.logical)));
        Cause::new("jitter", text)
    });
    clock.into_iter().chain(jitter).collect()
}

fn passed_over(schedule: &Schedule, from: Timestamp, slot: &Slot) -> Vec<Cause> {
    let mut over: Vec<_> = schedule.passed_over(from, slot.logical).take(MOST + 1).collect();
    let more = over.len() > MOST;
    over.truncate(MOST);
    let told = over.into_iter().map(|passed| {
        let named = passed.named.to_string().replace('T', " ");
        Cause::new("passed_over", format!("it passes over {named}: {}", passed.why)).with("why", passed.why.name())
    });
    told.chain(more.then(|| Cause::new("more", "and more are passed over"))).collect()
}

/// Says why there is no next slot.
fn never(trigger: &Trigger, schedule: &Schedule, seen: Timestamp) -> Cause {
    if let TriggerKind::Time(crate::schedule::When::At(moment)) = &trigger.kind {
        let text = if *moment <= seen { "its moment is over" } else { "its calendar is closed then" };
        return Cause::new("over", text);
    }
    // What is named and not allowed: a calendar that closes all days.
    let closed =
        trigger.calendar.is_some() && Schedule { calendar: None, ..schedule.clone() }.next_after(seen).is_some();
    let text = if closed { "its calendar allows none of its times" } else { "no day is as its pattern says" };
    Cause::new(if closed { "calendar" } else { "pattern" }, text)
}

fn last(run: Option<&RunRecord>, now: Timestamp) -> Option<Cause> {
    let run = run?;
    let slot = run.slot.as_deref().and_then(|slot| slot.rsplit_once('@')).map(|(_, time)| time).unwrap_or_default();
    let text = format!(
        "its last run is {}, of slot {slot}: {} since {}",
        run.id,
        run.state.name(),
        words::at(run.ended_at.or(run.started_at).unwrap_or(run.created_at), now)
    );
    Some(Cause::new("last", text).with("run", run.id.to_string()).with("slot", slot))
}
