//! `pipewright schedules`.

mod doctor;

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
use super::validate::settings;
use crate::app;
use crate::app::Fault;
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
use crate::store::ScheduleRow;
use crate::system::System;

#[derive(Debug, Subcommand)]
pub(super) enum Schedules {
    /// List the triggers: what each waits for, when it fires next, and when it last did.
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
    /// Say of every trigger whether it has its next slot or waits as it should, or why not.
    Doctor,
    /// Switch a pipeline's triggers on again; `missed` of each says what becomes of the slots that lie between. Files that
    /// came meanwhile fire then; requests and ends of runs are let go.
    Enable {
        /// A pipeline.
        #[arg(add = ArgValueCandidates::new(complete::pipelines))]
        pipeline: String,
        /// Only this trigger of it, by the id that `list` shows.
        trigger: Option<String>,
    },
    /// Switch a pipeline's triggers off until they are enabled again.
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
            Self::Doctor => doctor::doctor(global).await,
            Self::Enable { pipeline, trigger } => switch(global, &pipeline, trigger.as_deref(), false).await,
            Self::Disable { pipeline, trigger } => switch(global, &pipeline, trigger.as_deref(), true).await,
            Self::List { from, json } => {
                let (pipelines, exit) = load_all(global)?;
                let rows = match app::open_to_read(&settings(global)?.0).await {
                    Some(store) => store.schedules().await.unwrap_or_default(),
                    None => Vec::new(),
                };
                list(&pipelines, &rows, moment(from), json);
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

/// Switches triggers off or on, also where no daemon has looked at them yet.
async fn switch(global: &Global, name: &str, trigger: Option<&str>, disabled: bool) -> Result<Exit, Fault> {
    let pipeline = load_definition(global, name)?;
    let fires = |trigger: &&Trigger| !matches!(trigger.kind, TriggerKind::Manual);
    let mut meant: Vec<&Trigger> = pipeline.triggers.iter().filter(fires).collect();
    if let Some(wanted) = trigger {
        let near = did_you_mean(wanted, meant.iter().map(|trigger| &*trigger.id));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        meant.retain(|trigger| *trigger.id == *wanted);
        if meant.is_empty() {
            return Err(Fault::Usage(format!("pipeline `{name}` has no trigger `{wanted}`{near}")));
        }
    } else if meant.is_empty() {
        print::talk("the pipeline has no trigger that a daemon fires");
    }
    let app = open_project(global).await?;
    let store = &app.engine.parts().store;
    let now = app.engine.parts().system.clock.now();
    let key = |trigger: &&Trigger| (pipeline.name.to_string(), trigger.id.to_string());
    let new: Vec<_> = meant.iter().map(key).collect();
    store.meet_schedules(&new, now).await?;
    for ((pipeline, id), trigger) in new.iter().zip(&meant) {
        let was_off = store.trigger(pipeline, id).await?.is_some_and(|row| row.disabled);
        if was_off && !disabled && matches!(trigger.kind, TriggerKind::After(_)) {
            // What ended while it was off is let go.
            store.begin_triggers(&[(pipeline.clone(), id.clone())], now).await?;
        }
        store.switch_schedule(pipeline, id, disabled).await?;
        print::talk(&format!("{pipeline}: {id} is {}", if disabled { "off" } else { "on" }));
    }
    app.ring().await?;
    Ok(Exit::Well)
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
    found
}

fn list(pipelines: &[Arc<Pipeline>], rows: &[ScheduleRow], from: Timestamp, json: bool) {
    let mut table = Vec::new();
    for pipeline in pipelines {
        for trigger in &pipeline.triggers {
            let row = rows.iter().find(|row| row.pipeline == *pipeline.name && row.trigger == *trigger.id);
            let schedule = trigger.schedule(&pipeline.name);
            let switched_off = row.is_some_and(|row| row.disabled);
            let enabled = trigger.enabled && !switched_off;
            let next = schedule.as_ref().filter(|_| enabled).and_then(|schedule| schedule.next_after(from));
            let last = row.and_then(|row| row.fired_at);
            let (kind, whole) = (trigger.kind.name(), trigger.kind.to_string());
            if json {
                let when = whole.split_once(": ").map_or("", |(_, when)| when);
                let zone = schedule.as_ref().map_or(Value::Null, |schedule| Value::from(zone(schedule)));
                let entry = [
                    ("pipeline", Value::from(&*pipeline.name)),
                    ("trigger", Value::from(&*trigger.id)),
                    ("kind", Value::from(kind)),
                    ("when", Value::from(when)),
                    ("timezone", zone),
                    ("enabled", Value::from(enabled)),
                    ("next", next.map_or(Value::Null, |slot| Value::Time(slot.logical))),
                    ("last", last.map_or(Value::Null, Value::Time)),
                ];
                print::line(&Value::map(entry).to_string());
                continue;
            }
            let (local, utc) = match (&next, &trigger.kind) {
                _ if !trigger.enabled => ("off: `enabled: false`".to_owned(), String::new()),
                _ if switched_off => ("off: switched off".to_owned(), String::new()),
                (Some(slot), _) => (slot.local.to_string(), slot.logical.to_string()),
                (None, TriggerKind::Time(_)) => ("never".to_owned(), String::new()),
                (None, TriggerKind::Webhook(_)) => ("at a request".to_owned(), String::new()),
                (None, TriggerKind::Files(_)) => ("when files come".to_owned(), String::new()),
                (None, TriggerKind::After(_)) => ("when a run ends".to_owned(), String::new()),
                (None, TriggerKind::Manual) => ("by hand".to_owned(), String::new()),
            };
            let zone = schedule.as_ref().map(zone).unwrap_or_default();
            let last = last.map(|last| last.to_string()).unwrap_or_default();
            table.push(vec![pipeline.name.to_string(), trigger.id.to_string(), whole, zone, local, utc, last]);
        }
    }
    if pipelines.iter().all(|pipeline| pipeline.triggers.is_empty()) {
        print::talk("no pipeline has a trigger");
    }
    if !table.is_empty() {
        print::table(&["pipeline", "trigger", "when", "zone", "next, local", "UTC", "last fired, UTC"], &table);
    }
}

fn preview(pipelines: &[Arc<Pipeline>], count: u32, from: Timestamp, json: bool) {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let timed = timed(pipelines);
    if timed.is_empty() {
        print::talk("no pipeline has a trigger that goes by time");
    }
    for (place, entry) in timed.iter().enumerate() {
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
