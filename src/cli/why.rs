//! `pipewright why`.

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;

use super::Exit;
use super::Global;
use super::complete;
use super::print;
use super::runs::find;
use super::validate::load_definition;
use super::validate::open_project;
use crate::app::App;
use crate::app::Fault;
use crate::diag::did_you_mean;
use crate::model::StepPath;
use crate::pipeline::TriggerKind;
use crate::why::Asker;
use crate::why::Cause;
use crate::why::KnownSchedule;
use crate::why::schedule;

/// What it can be asked of.
#[derive(Debug, Subcommand)]
pub(super) enum Why {
    /// Why a run waits, stands in the queue, or ended as it did.
    Run {
        /// The run's id, its beginning, or `last`.
        #[arg(default_value = "last", add = ArgValueCandidates::new(complete::runs))]
        run: String,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Why a step waits, has not started, was skipped, or failed.
    Step {
        /// The run and the step: `01M8GC…/publish`, `last/publish[3]`, `last/finally/tell`.
        #[arg(value_name = "RUN/STEP")]
        step: String,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Why a schedule is due when it is, or never.
    Schedule {
        /// The pipeline, or one of its triggers: `report`, `report/cron-1f6d3a90`.
        #[arg(value_name = "PIPELINE[/TRIGGER]", add = ArgValueCandidates::new(complete::pipelines))]
        schedule: String,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
}

impl Why {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let (causes, json) = match self {
            Self::Run { run, json } => {
                let app = open_project(global).await?;
                let run = find(&app, &run).await?;
                (Vec::from_iter(asker(&app).await?.run(run.id).await?), json)
            }
            Self::Step { step, json } => (vec![of_step(global, &step).await?], json),
            Self::Schedule { schedule, json } => (of_schedule(global, &schedule).await?, json),
        };
        for cause in &causes {
            if json {
                print::line(&cause.to_value().to_string());
            } else {
                let mut text = String::new();
                draw(cause, "", "", &mut text);
                print::data(&text);
            }
        }
        Ok(Exit::Well)
    }
}

async fn asker(app: &App) -> Result<Asker, Fault> {
    let parts = app.engine.parts();
    Ok(Asker {
        store: parts.store.clone(),
        registry: app.registry.clone(),
        now: parts.system.clock.now(),
        // To ring is to ask whether somebody is there; that it looks at the queue then does no harm.
        daemon: app.ring().await?,
        owner: parts.owner.clone(),
        owner_is_gone: parts.owner_is_gone,
        people: app.project.people.clone(),
    })
}

async fn of_step(global: &Global, named: &str) -> Result<Cause, Fault> {
    let Some((run, path)) = named.split_once('/') else {
        return Err(Fault::Usage(format!("`{named}`: expected a run and a step, as in `last/publish`")));
    };
    let path: StepPath = path.parse().map_err(Fault::Usage)?;
    let app = open_project(global).await?;
    let run = find(&app, run).await?;
    let cause = asker(&app).await?.step(run.id, &path).await?;
    cause.ok_or_else(|| {
        Fault::Usage(format!("run `{}` has no step `{path}`; `pipewright runs show {}` lists them", run.id, run.id))
    })
}

async fn of_schedule(global: &Global, named: &str) -> Result<Vec<Cause>, Fault> {
    let (name, wanted) = match named.split_once('/') {
        Some((name, trigger)) if !std::path::Path::new(named).is_file() => (name, Some(trigger)),
        _ => (named, None),
    };
    let pipeline = load_definition(global, name)?;
    let app = open_project(global).await?;
    let store = &app.engine.parts().store;
    let rows = store.schedules().await?;
    let daemon = app.ring().await?;
    let now = app.engine.parts().system.clock.now();
    let mut causes = Vec::new();
    for trigger in pipeline.triggers.iter().filter(|trigger| wanted.is_none_or(|wanted| *trigger.id == *wanted)) {
        let row = rows.iter().find(|row| row.pipeline == *pipeline.name && row.trigger == *trigger.id);
        let last = store.last_firing(&pipeline.name, &trigger.id).await?;
        let known = KnownSchedule { row, last: last.as_ref(), daemon, now };
        causes.extend(schedule(&pipeline, trigger, known));
    }
    if causes.is_empty() {
        let ids = pipeline.triggers.iter().filter(|trigger| matches!(trigger.kind, TriggerKind::Time(_)));
        let ids: Vec<_> = ids.map(|trigger| &*trigger.id).collect();
        return Err(Fault::Usage(match wanted {
            Some(wanted) => {
                let near = did_you_mean(wanted, ids.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
                format!("pipeline `{}` has no schedule `{wanted}`{}", pipeline.name, near.unwrap_or_default())
            }
            None => format!("pipeline `{}` has no trigger that goes by time", pipeline.name),
        }));
    }
    Ok(causes)
}

/// Draws a cause with what it comes of below it.
fn draw(cause: &Cause, first: &str, rest: &str, out: &mut String) {
    out.push_str(first);
    out.push_str(&print::clean(&cause.text).replace('\n', " "));
    out.push('\n');
    for (index, inner) in cause.because.iter().enumerate() {
        let last = index + 1 == cause.because.len();
        let branch = if last { "└ " } else { "├ " };
        let below = if last { "  " } else { "│ " };
        draw(inner, &format!("{rest}{branch}"), &format!("{rest}{below}"), out);
    }
}
