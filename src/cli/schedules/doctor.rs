//! `pipewright schedules doctor`.

use crate::app::App;
use crate::app::Fault;
use crate::cli::Exit;
use crate::cli::Global;
use crate::cli::print;
use crate::cli::validate::load_all;
use crate::cli::validate::open_project;
use crate::daemon::invariant::LATE;
use crate::daemon::invariant::Standing;
use crate::daemon::invariant::standing;
use crate::model::Timestamp;
use crate::pipeline::Pipeline;
use crate::pipeline::Trigger;
use crate::pipeline::TriggerKind;
use crate::schedule::Schedule;
use crate::store::Ends;
use crate::store::ScheduleRow;

const OFF_IN_FILE: &str = "off: its file says `enabled: false`";
const SWITCHED_OFF: &str = "off: `pipewright schedules enable` switches it on";

/// What is said of a trigger, and whether it is well.
type Words = (bool, String);

/// Holds every trigger against its row: it is armed, or there is a reason why not.
pub(super) async fn doctor(global: &Global) -> Result<Exit, Fault> {
    let (pipelines, exit) = load_all(global)?;
    let app = open_project(global).await?;
    let now = app.engine.parts().system.clock.now();
    let rows = app.engine.parts().store.schedules().await?;
    let (mut ill, mut known) = (false, Vec::new());
    let daemon = app.ring().await?;
    for pipeline in &pipelines {
        for trigger in &pipeline.triggers {
            let name = &*pipeline.name;
            let row = rows.iter().find(|row| row.pipeline == name && row.trigger == *trigger.id);
            known.push((name, &*trigger.id));
            let (well, words) = match (trigger.schedule(name), row) {
                (Some(schedule), row) => by_time(trigger, &schedule, row, now, daemon),
                _ if !trigger.enabled => (true, OFF_IN_FILE.to_owned()),
                (_, Some(row)) if row.disabled => (true, SWITCHED_OFF.to_owned()),
                (None, row) => by_event(&app, pipeline, trigger, row, now, daemon).await?,
            };
            ill |= !well;
            print::line(&format!("{} {name}: {}: {words}", if well { "✓" } else { "✗" }, trigger.id));
        }
    }
    if known.is_empty() {
        print::talk("no pipeline has a trigger");
    }
    for row in rows.iter().filter(|row| !known.contains(&(row.pipeline.as_str(), row.trigger.as_str()))) {
        print::line(&format!("- {}: {}: no pipeline has this trigger any more", row.pipeline, row.trigger));
    }
    if !daemon {
        print::hint("no daemon works on this project: `pipewright daemon` fires what is due");
    }
    Ok(if ill { Exit::Failed } else { exit })
}

fn by_time(trigger: &Trigger, schedule: &Schedule, row: Option<&ScheduleRow>, now: Timestamp, daemon: bool) -> Words {
    match standing(trigger, schedule, row, now) {
        Standing::OffInFile => (true, OFF_IN_FILE.to_owned()),
        Standing::SwitchedOff => (true, SWITCHED_OFF.to_owned()),
        Standing::Over => (true, "never due again".to_owned()),
        Standing::Unmet => (daemon, "no daemon has looked at it yet".to_owned()),
        Standing::Late(slot, by) => {
            let why = if daemon { "the daemon has not decided on it" } else { "no daemon works on this project" };
            (false, format!("late: {} was due {} ago; {why}", slot.logical, print::length(by)))
        }
        Standing::Next(slot) => (true, format!("next {} ({})", slot.local, slot.logical)),
    }
}

async fn by_event(
    app: &App,
    pipeline: &Pipeline,
    trigger: &Trigger,
    row: Option<&ScheduleRow>,
    now: Timestamp,
    daemon: bool,
) -> Result<Words, Fault> {
    let fired = row.and_then(|row| row.fired_at);
    let last = fired.map_or_else(
        || "it has not fired yet".to_owned(),
        |at| format!("last fired {} ago", print::length(now.since(at))),
    );
    let waits = format!("waits for {}; {last}", trigger.kind);
    let begun = row.filter(|row| row.begun > Timestamp(0));
    Ok(match &trigger.kind {
        TriggerKind::Manual | TriggerKind::Time(_) => (true, "by hand".to_owned()),
        TriggerKind::Webhook(webhook) => {
            let secrets = webhook.secrets.iter().map(|secret| app.engine.secret_text(secret));
            let faulty = secrets.filter_map(|secret| match secret {
                Ok(text) if text.is_empty() => Some("its secret is empty".to_owned()),
                Ok(_) => None,
                Err(reason) => Some(format!("its secret cannot be read: {reason}")),
            });
            match faulty.into_iter().next() {
                Some(fault) => (false, fault),
                None if !daemon => (false, format!("{waits}; no daemon works on this project")),
                None => (true, waits),
            }
        }
        TriggerKind::Files(_) | TriggerKind::After(_) if begun.is_none() => {
            (daemon, "no daemon has looked at it yet".to_owned())
        }
        TriggerKind::Files(_) => (daemon, waits),
        TriggerKind::After(after) => {
            let ends = Ends {
                of: &after.pipeline,
                states: after.on.states(),
                pipeline: &pipeline.name,
                trigger: &trigger.id,
                since: begun.map_or(now, |row| row.begun.max(row.seen)),
                most: 1,
            };
            let late = app.engine.parts().store.ends(ends).await?.into_iter().next();
            let late = late.and_then(|run| Some((run.id, now.since(run.ended_at?)))).filter(|(_, age)| *age > LATE);
            match late {
                Some((run, age)) => {
                    let why = if daemon { "the daemon's log says why" } else { "no daemon works on this project" };
                    (false, format!("late: run {run} ended {} ago and has not fired it; {why}", print::length(age)))
                }
                None => (daemon, waits),
            }
        }
    })
}
