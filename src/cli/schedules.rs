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
use crate::app::Fault;
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
    pub(super) fn execute(self, global: &Global) -> Result<Exit, Fault> {
        match self {
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
