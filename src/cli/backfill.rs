//! `pipewright backfill`.

use std::sync::Arc;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use tokio_util::sync::CancellationToken;

use super::Exit;
use super::Global;
use super::complete;
use super::interrupts::Interrupts;
use super::print;
use super::run::program;
use super::validate::load_one;
use crate::app::Fault;
use crate::daemon::backfill;
use crate::daemon::backfill::Backfill;
use crate::daemon::backfill::Outcome;
use crate::daemon::backfill::Told;
use crate::daemon::backfill::Wanted;
use crate::model::Timestamp;
use crate::pipeline::Pipeline;
use crate::pipeline::Trigger;
use crate::schedule::Schedule;

/// Makes up for slots of a schedule that have no run, oldest first. Asked for again, it goes on where it was.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A pipeline, by name or by file.
    #[arg(value_name = "PIPELINE", add = ArgValueCandidates::new(complete::pipelines))]
    pipeline: String,
    /// From this moment on, e.g. `2026-01-31` or `2026-01-31T09:00` on the trigger's clocks, or with `Z` or an offset.
    #[arg(long, value_name = "MOMENT")]
    from: String,
    /// Before this moment; by default now.
    #[arg(long, value_name = "MOMENT")]
    to: Option<String>,
    /// Which trigger, by the id that `schedules list` shows, where the pipeline has several that go by time.
    #[arg(long, value_name = "ID")]
    trigger: Option<String>,
    /// At most so many unfinished runs at the same time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    parallel: u16,
    /// Only list the slots.
    #[arg(long)]
    dry: bool,
}

impl Arguments {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let (app, pipeline) = load_one(global, &self.pipeline, global.rehearsal()).await?;
        if let Some(world) = &app.sandbox {
            app.engine.parts().store.enter(world.id()).await?;
        }
        let (trigger, schedule) = find(&pipeline, self.trigger.as_deref())?;
        let moment = |text: &str| backfill::moment(text, &schedule.zone).map_err(Fault::Usage);
        let now = app.engine.parts().system.clock.now();
        let from = moment(&self.from)?;
        let to = self.to.as_deref().map(moment).transpose()?.unwrap_or(now);
        if to <= from {
            return Err(Fault::Usage(format!("`--to` must be later than `--from`: {to} is not later than {from}")));
        }
        // What is still to come is the scheduler's.
        let slots = backfill::slots(&schedule, from, to.min(now));
        if slots.len() > backfill::MOST {
            let most = backfill::MOST;
            return Err(Fault::Usage(format!("more than {most} slots lie in between: take a shorter time")));
        }
        let stop = CancellationToken::new();
        let works = app.ring().await? && app.engine.parts().store.is_shared();
        let ring = || app.ring_now() || works;
        let work = Backfill {
            engine: &app.engine,
            registry: &app.registry,
            pipeline: &pipeline,
            trigger,
            parallel: usize::from(self.parallel),
            stop: stop.clone(),
            daemon: &ring,
        };
        let wanted = work.look(slots).await?;
        let missing = wanted.iter().filter(|wanted| wanted.run.is_none()).count();
        if self.dry {
            list(&wanted);
            print::talk(&format!("{missing} of {} slots have no run", wanted.len()));
            return Ok(Exit::Well);
        }
        print::talk(&format!("{missing} of {} slots have no run", wanted.len()));
        let mut interrupts = Interrupts::listen()?;
        let mut tell = |told: Told| print::line(&words(&told));
        let filling = work.fill(wanted, &mut tell);
        tokio::pin!(filling);
        let mut interrupted = false;
        let outcome = loop {
            tokio::select! {
                outcome = &mut filling => break outcome?,
                () = interrupts.next() => {
                    if std::mem::replace(&mut interrupted, true) {
                        print::talk("stopped at once; the same command goes on with it");
                        return Ok(Exit::Interrupted);
                    }
                    print::talk("stopping in good order; press Ctrl-C again to stop at once");
                    stop.cancel();
                }
            }
        };
        app.ring().await?;
        Ok(told(outcome, interrupted, program(&app)))
    }
}

/// Finds the trigger that is meant.
fn find<'p>(pipeline: &'p Arc<Pipeline>, wanted: Option<&str>) -> Result<(&'p Trigger, Schedule), Fault> {
    let name = &pipeline.name;
    let timed = pipeline.triggers.iter().filter_map(|trigger| Some((trigger, trigger.schedule(name)?)));
    let mut timed: Vec<_> = timed.filter(|(trigger, _)| wanted.is_none_or(|wanted| *trigger.id == *wanted)).collect();
    match (timed.pop(), timed.is_empty()) {
        (Some(found), true) => Ok(found),
        (None, _) => Err(Fault::Usage(match wanted {
            Some(wanted) => {
                format!("pipeline `{name}` has no schedule `{wanted}`; `pipewright schedules list` shows them")
            }
            None => format!("pipeline `{name}` has no trigger that goes by time"),
        })),
        (Some(_), false) => {
            let ids: Vec<_> = pipeline.triggers.iter().filter(|trigger| trigger.schedule(name).is_some()).collect();
            let ids: Vec<_> = ids.iter().map(|trigger| format!("`{}`", trigger.id)).collect();
            Err(Fault::Usage(format!(
                "pipeline `{name}` has several schedules: say `--trigger` with one of {}",
                ids.join(", ")
            )))
        }
    }
}

fn list(wanted: &[Wanted]) {
    let rows = wanted.iter().map(|wanted| {
        let (run, state) = match wanted.run {
            Some((run, state)) => (run.to_string(), state.name().to_owned()),
            None => (String::new(), "missing".to_owned()),
        };
        vec![wanted.slot.logical.to_string(), wanted.slot.local.to_string(), state, run]
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        print::table(&["slot", "local", "state", "run"], &rows);
    }
}

fn words(told: &Told) -> String {
    let line = |slot: &Timestamp, what: String| format!("{slot} {what}");
    match told {
        Told::Made { slot, run } => line(slot, format!("run {run} is made")),
        Told::NotMade { slot, why } => line(slot, format!("no run can be made: {}", print::clean(why))),
        Told::Ended { slot, run, state } => line(slot, format!("run {run} {}", state.name())),
        Told::Stuck { slot, run, reason } => line(slot, format!("run {run} waits: {}", print::clean(reason))),
    }
}

fn told(outcome: Outcome, interrupted: bool, program: &str) -> Exit {
    let Outcome { succeeded, failed, stuck, left } = outcome;
    let open = if left > 0 { format!(", {left} are left") } else { String::new() };
    print::talk(&format!("{succeeded} runs succeeded, {failed} failed{open}"));
    if interrupted {
        print::hint("the same command goes on with it");
        return Exit::Interrupted;
    }
    if failed > 0 {
        print::hint(&format!(
            "`{program} runs list --state failed` shows what failed; `{program} runs retry` tries it again"
        ));
        return Exit::Failed;
    }
    if stuck > 0 || left > 0 {
        print::hint(&format!("`{program} status` shows what waits; the same command goes on with the others"));
        return Exit::Waiting;
    }
    Exit::Well
}
