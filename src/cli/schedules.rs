//! `pipewright schedules`.

use std::sync::Arc;

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;

use super::Exit;
use super::Global;
use super::complete;
use super::print;
use super::validate::load_all;
use super::validate::load_definition;
use super::validate::open_project;
use crate::app::Fault;
use crate::daemon::invariant::Standing;
use crate::daemon::invariant::standing;
use crate::diag::did_you_mean;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::Pipeline;
use crate::pipeline::Trigger;
use crate::pipeline::TriggerKind;
use crate::schedule::PassedOver;
use crate::schedule::Schedule;
use crate::schedule::Slot;
use crate::schedule::When;
use crate::system::System;

#[derive(Debug, Subcommand)]
pub(super) enum Schedules {
    /// List the triggers that go by time, each with its next firing.
    List {
        /// As of this moment instead of now, e.g. `2026-03-28T12:00:00Z`.
        #[arg(long, value_name = "MOMENT")]
        from: Option<Timestamp>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show the next firings, and what clock changes and calendars do to them.
    Preview {
        /// A pipeline, by name or by file; by default all of the project.
        #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::pipelines))]
        name: Option<String>,
        /// How many firings of each trigger.
        #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        count: u32,
        /// From this moment on instead of now, e.g. `2026-03-28T12:00:00Z`.
        #[arg(long, value_name = "MOMENT")]
        from: Option<Timestamp>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Say of every schedule whether it has its next slot, or why not.
    Doctor,
    /// Switch a pipeline's schedules on again; `missed` of each says what becomes of the slots that lie between.
    Enable {
        /// A pipeline.
        #[arg(add = ArgValueCandidates::new(complete::pipelines))]
        pipeline: String,
        /// Only this trigger of it, by the id that `list` shows.
        trigger: Option<String>,
    },
    /// Switch a pipeline's schedules off until they are enabled again.
    Disable {
        /// A pipeline.
        #[arg(add = ArgValueCandidates::new(complete::pipelines))]
        pipeline: String,
        /// Only this trigger of it, by the id that `list` shows.
        trigger: Option<String>,
    },
}

/// How many times that are passed over are shown between two firings.
const SHOWN: usize = 5;

/// A trigger that goes by time, with all that it needs to be shown.
struct Timed<'p> {
    pipeline: &'p str,
    trigger: &'p Trigger,
    when: &'p When,
    schedule: Schedule,
}

impl Schedules {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        match self {
            Self::Doctor => doctor(global).await,
            Self::Enable { pipeline, trigger } => switch(global, &pipeline, trigger.as_deref(), false).await,
            Self::Disable { pipeline, trigger } => switch(global, &pipeline, trigger.as_deref(), true).await,
            Self::List { from, json } => {
                let (pipelines, exit) = load_all(global)?;
                list(&pipelines, moment(from), json);
                Ok(exit)
            }
            Self::Preview { name, count, from, json } => {
                let (pipelines, exit) = match name {
                    Some(name) => (vec![load_definition(global, &name)?], Exit::Well),
                    None => load_all(global)?,
                };
                preview(&pipelines, count, moment(from), json);
                Ok(exit)
            }
        }
    }
}

/// Switches schedules off or on, also where no daemon has looked at them yet.
async fn switch(global: &Global, name: &str, trigger: Option<&str>, disabled: bool) -> Result<Exit, Fault> {
    let pipeline = load_definition(global, name)?;
    let pipelines = [pipeline];
    let mut meant = timed(&pipelines);
    if let Some(wanted) = trigger {
        let ids: Vec<_> = meant.iter().map(|timed| timed.trigger.id.clone()).collect();
        meant.retain(|timed| *timed.trigger.id == *wanted);
        if meant.is_empty() {
            let near = did_you_mean(wanted, ids.iter().map(|id| &**id)).map(|near| format!("; did you mean `{near}`?"));
            let near = near.unwrap_or_default();
            return Err(Fault::Usage(format!("pipeline `{name}` has no schedule `{wanted}`{near}")));
        }
    }
    let app = open_project(global).await?;
    let store = &app.engine.parts().store;
    let now = app.engine.parts().system.clock.now();
    let new: Vec<_> = meant.iter().map(|timed| (timed.pipeline.to_owned(), timed.trigger.id.to_string())).collect();
    store.meet_schedules(&new, now).await?;
    for (pipeline, trigger) in &new {
        store.switch_schedule(pipeline, trigger, disabled).await?;
        print::talk(&format!("{pipeline}: {trigger} is {}", if disabled { "off" } else { "on" }));
    }
    app.ring();
    Ok(Exit::Well)
}

/// Holds every schedule against its row: it is armed, or there is a reason why not.
async fn doctor(global: &Global) -> Result<Exit, Fault> {
    let (pipelines, exit) = load_all(global)?;
    let app = open_project(global).await?;
    let now = app.engine.parts().system.clock.now();
    let rows = app.engine.parts().store.schedules().await?;
    let (mut ill, mut known) = (false, Vec::new());
    let daemon = app.ring();
    for Timed { pipeline, trigger, schedule, .. } in timed(&pipelines) {
        let row = rows.iter().find(|row| row.pipeline == pipeline && row.trigger == *trigger.id);
        known.push((pipeline, &*trigger.id));
        let (well, words) = match standing(trigger, &schedule, row, now) {
            Standing::OffInFile => (true, "off: its file says `enabled: false`".to_owned()),
            Standing::SwitchedOff => (true, "off: `pipewright schedules enable` switches it on".to_owned()),
            Standing::Over => (true, "never due again".to_owned()),
            Standing::Unmet => (daemon, "no daemon has looked at it yet".to_owned()),
            Standing::Late(slot, by) => {
                let why = if daemon { "the daemon has not decided on it" } else { "no daemon works on this project" };
                (false, format!("late: {} was due {} ago; {why}", slot.logical, print::length(by)))
            }
            Standing::Next(slot) => (true, format!("next {} ({})", slot.local, slot.logical)),
        };
        ill |= !well;
        print::line(&format!("{} {pipeline}: {}: {words}", if well { "✓" } else { "✗" }, trigger.id));
    }
    for pipeline in &pipelines {
        for trigger in pipeline.triggers.iter().filter(|trigger| trigger.enabled && trigger.kind.is_idle()) {
            ill = true;
            print::line(&format!("✗ {}: {}: this version does not fire it", pipeline.name, trigger.id));
        }
    }
    for row in rows.iter().filter(|row| !known.contains(&(row.pipeline.as_str(), row.trigger.as_str()))) {
        print::line(&format!("- {}: {}: no pipeline has this trigger any more", row.pipeline, row.trigger));
    }
    if !daemon {
        print::hint("no daemon works on this project: `pipewright daemon` fires what is due");
    }
    Ok(if ill { Exit::Failed } else { exit })
}

fn moment(from: Option<Timestamp>) -> Timestamp {
    from.unwrap_or_else(|| System::real().clock.now())
}

fn timed(pipelines: &[Arc<Pipeline>]) -> Vec<Timed<'_>> {
    let mut found = Vec::new();
    for pipeline in pipelines {
        for trigger in &pipeline.triggers {
            let TriggerKind::Time(when) = &trigger.kind else { continue };
            let Some(schedule) = trigger.schedule(&pipeline.name) else { continue };
            found.push(Timed { pipeline: &pipeline.name, trigger, when, schedule });
        }
    }
    if found.is_empty() {
        print::talk("no pipeline has a trigger that goes by time");
    }
    found
}

fn list(pipelines: &[Arc<Pipeline>], from: Timestamp, json: bool) {
    let mut rows = Vec::new();
    for Timed { pipeline, trigger, when, schedule } in timed(pipelines) {
        let next = schedule.next_after(from).filter(|_| trigger.enabled);
        if json {
            let entry = [
                ("pipeline", Value::from(pipeline)),
                ("trigger", Value::from(&*trigger.id)),
                ("kind", Value::from(when.name())),
                ("when", Value::from(when.to_string())),
                ("timezone", Value::from(zone(&schedule))),
                ("enabled", Value::from(trigger.enabled)),
                ("next", next.map_or(Value::Null, |slot| Value::Time(slot.logical))),
            ];
            print::line(&Value::map(entry).to_string());
            continue;
        }
        let (local, utc) = match &next {
            Some(slot) => (slot.local.to_string(), slot.logical.to_string()),
            None if trigger.enabled => ("never".to_owned(), String::new()),
            None => ("off: `enabled: false`".to_owned(), String::new()),
        };
        let when = format!("{}: {when}", when.name());
        rows.push(vec![pipeline.to_owned(), trigger.id.to_string(), when, zone(&schedule), local, utc]);
    }
    if !rows.is_empty() {
        print::table(&["pipeline", "trigger", "when", "zone", "next, local", "UTC"], &rows);
    }
}

fn preview(pipelines: &[Arc<Pipeline>], count: u32, from: Timestamp, json: bool) {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    for (place, entry) in timed(pipelines).iter().enumerate() {
        let Timed { pipeline, trigger, when, schedule } = entry;
        let mut rows = Vec::new();
        let mut last = from;
        for slot in schedule.slots_after(from).take(count) {
            let mut over: Vec<PassedOver> = schedule.passed_over(last, slot.logical).take(SHOWN + 1).collect();
            let more = over.len() > SHOWN;
            over.truncate(SHOWN);
            for passed in over {
                if json {
                    print::line(&passed_entry(entry, passed).to_string());
                }
                rows.push(vec![
                    passed.named.to_string().replace('T', " "),
                    "-".to_owned(),
                    format!("not: {}", passed.why),
                ]);
            }
            if more {
                rows.push(vec!["…".to_owned(), "-".to_owned(), "and more are passed over".to_owned()]);
            }
            if json {
                print::line(&slot_entry(entry, &slot).to_string());
            }
            rows.push(vec![slot.local.to_string(), slot.logical.to_string(), note(&slot)]);
            last = slot.logical;
        }
        if json {
            continue;
        }
        let off = if trigger.enabled { "" } else { ", off" };
        let title = format!("{pipeline}, {}: {when} in {} ({}{off})", when.name(), zone(schedule), trigger.id);
        print::line(&format!("{}{title}", if place == 0 { "" } else { "\n" }));
        match rows.is_empty() {
            true => print::line("never"),
            false => print::table(&["local", "UTC", "note"], &rows),
        }
    }
}

fn note(slot: &Slot) -> String {
    let jitter = slot.due.since(slot.logical);
    let moved = slot.moved.map(|moved| moved.to_string());
    let late = (slot.due > slot.logical).then(|| format!("starts {} later", print::length(jitter)));
    moved.into_iter().chain(late).collect::<Vec<_>>().join("; ")
}

fn slot_entry(entry: &Timed<'_>, slot: &Slot) -> Value {
    let moved = slot.moved.map_or(Value::Null, |moved| {
        Value::map([("why", Value::from(moved.name())), ("note", Value::from(moved.to_string()))])
    });
    Value::map([
        ("pipeline", Value::from(entry.pipeline)),
        ("trigger", Value::from(&*entry.trigger.id)),
        ("slot", Value::from(slot.key(&entry.trigger.id))),
        ("logical", Value::Time(slot.logical)),
        ("local", Value::from(slot.local.to_string())),
        ("timezone", Value::from(zone(&entry.schedule))),
        ("due", Value::Time(slot.due)),
        ("moved", moved),
    ])
}

fn passed_entry(entry: &Timed<'_>, passed: PassedOver) -> Value {
    Value::map([
        ("pipeline", Value::from(entry.pipeline)),
        ("trigger", Value::from(&*entry.trigger.id)),
        ("passed_over", Value::from(passed.named.to_string())),
        ("why", Value::from(passed.why.name())),
    ])
}

fn zone(schedule: &Schedule) -> String {
    schedule.zone.iana_name().unwrap_or("UTC").to_owned()
}
