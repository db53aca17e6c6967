//! `pipewright runs`.

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;

use super::Exit;
use super::Global;
use super::complete;
use super::print;
use super::progress::HEAD;
use super::progress::Seen;
use super::run::Again;
use super::run::View;
use super::run::follow;
use super::validate::open_project;
use super::validate::stored_pipeline;
use crate::app::App;
use crate::app::Fault;
use crate::engine::Signal;
use crate::model::Phase;
use crate::model::RunEvent;
use crate::model::RunState;
use crate::model::Value;
use crate::store::ApprovalFilter;
use crate::store::RunFilter;
use crate::store::RunRecord;

/// What can be done with runs.
#[derive(Debug, Subcommand)]
pub(super) enum Runs {
    /// List the latest runs.
    List {
        /// Only runs in this state.
        #[arg(long, value_name = "STATE", value_parser = state)]
        state: Option<RunState>,
        /// Only runs of this pipeline.
        #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::pipelines))]
        pipeline: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one run: its inputs, steps, outputs.
    Show {
        /// The run's id, its beginning, or `last`.
        #[arg(add = ArgValueCandidates::new(complete::runs))]
        run: String,
        /// Print the journal as JSON, one event a line.
        #[arg(long)]
        json: bool,
        /// Print what this step gave, whole.
        #[arg(long, value_name = "STEP", conflicts_with = "json")]
        step: Option<String>,
        /// Print the requests that its steps made, and the answers; with `--json` one exchange a line.
        #[arg(long, conflicts_with = "step")]
        wire: bool,
    },
    /// Show the log of a run.
    Logs {
        /// The run's id, its beginning, or `last`.
        #[arg(add = ArgValueCandidates::new(complete::runs))]
        run: String,
    },
    /// End a run: no further step starts, what is under way is told.
    Cancel {
        /// The run's id, its beginning, or `last`.
        #[arg(add = ArgValueCandidates::new(complete::runs))]
        run: String,
        /// Compensate what was done.
        #[arg(long)]
        undo: bool,
    },
    /// Run again what failed; what succeeded stays.
    Retry {
        /// The run's id, its beginning, or `last`.
        #[arg(add = ArgValueCandidates::new(complete::runs))]
        run: String,
        /// Begin anew from this step, with all behind it.
        #[arg(long, value_name = "STEP")]
        from: Option<String>,
    },
    /// Remove ended runs with all that belongs to them, as `retention` of the project file says; the daemon does so by itself.
    Prune(super::prune::Arguments),
    /// Go on with a run that was stopped, crashed or waits.
    Resume {
        /// The run's id, its beginning, or `last`.
        #[arg(add = ArgValueCandidates::new(complete::runs))]
        run: String,
    },
}

fn state(text: &str) -> Result<RunState, String> {
    RunState::by_name(text).ok_or_else(|| "queued, running, waiting, succeeded, failed, canceled".to_owned())
}

const VIEW: View = View { json: false, quiet: false, foreground: true };

impl Runs {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let app = open_project(global).await?;
        match self {
            Self::List { state, pipeline, limit, json } => {
                let states = state.into_iter().collect();
                let filter = RunFilter { states, pipeline, limit: Some(limit), ..RunFilter::default() };
                list(&app, &filter, json).await
            }
            Self::Show { run, json, wire: true, .. } => super::wire::show(&app, &find(&app, &run).await?, json).await,
            Self::Show { run, json, step: None, .. } => show(&app, &find(&app, &run).await?, json).await,
            Self::Show { run, step: Some(step), .. } => outputs_of(&app, &find(&app, &run).await?, &step).await,
            Self::Logs { run } => logs(&app, &find(&app, &run).await?).await,
            Self::Cancel { run, undo } => cancel(&app, &find(&app, &run).await?, undo).await,
            Self::Prune(arguments) => super::prune::prune(&app, arguments).await,
            Self::Retry { run, from } => {
                let run = find(&app, &run).await?;
                let pipeline = stored_pipeline(&app, &run.version).await?;
                follow(&app, run.id, pipeline, Some(Again { from }), VIEW).await
            }
            Self::Resume { run } => {
                let run = find(&app, &run).await?;
                let pipeline = stored_pipeline(&app, &run.version).await?;
                follow(&app, run.id, pipeline, None, VIEW).await
            }
        }
    }
}

/// Finds the one run whose id begins so.
pub(super) async fn find(app: &App, prefix: &str) -> Result<RunRecord, Fault> {
    is_given(prefix)?;
    let filter = match prefix {
        "last" => RunFilter { limit: Some(1), ..RunFilter::default() },
        prefix => RunFilter { id_prefix: Some(prefix.to_uppercase()), limit: Some(2), ..RunFilter::default() },
    };
    let mut found = app.engine.parts().store.runs(&filter).await?;
    match (found.pop(), found.pop()) {
        (Some(run), None) => Ok(run),
        (None, _) => Err(Fault::Usage(format!("there is no run `{prefix}`; `pipewright runs list` shows them"))),
        (Some(_), Some(_)) => Err(Fault::Usage(format!("several runs begin with `{prefix}`; give more of the id"))),
    }
}

/// Refuses the id that a script has lost: every id begins with it, and the only one there is would be taken.
pub(super) fn is_given(prefix: &str) -> Result<(), Fault> {
    if prefix.trim().is_empty() { Err(Fault::Usage("the id is empty".to_owned())) } else { Ok(()) }
}

async fn list(app: &App, filter: &RunFilter, json: bool) -> Result<Exit, Fault> {
    let runs = app.engine.parts().store.runs(filter).await?;
    if json {
        for run in &runs {
            print::line(&summary(run).to_string());
        }
        return Ok(Exit::Well);
    }
    let rows = runs.iter().map(|run| {
        let took = match (run.started_at, run.ended_at) {
            (Some(began), Some(ended)) => print::length(ended.since(began)),
            _ => String::new(),
        };
        let note = run.error.as_ref().map(ToString::to_string).or_else(|| run.reason.clone()).unwrap_or_default();
        let note = print::clip(&note, 70);
        vec![
            run.id.to_string(),
            run.pipeline.to_string(),
            run.state.name().to_owned(),
            run.created_at.to_string(),
            took,
            note,
        ]
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        print::talk("no runs yet");
    } else {
        print::table(&["run", "pipeline", "state", "made", "took", "note"], &rows);
    }
    Ok(Exit::Well)
}

fn summary(run: &RunRecord) -> Value {
    let time = |time: Option<crate::model::Timestamp>| time.map_or(Value::Null, Value::Time);
    Value::map([
        ("run", Value::from(run.id.to_string())),
        ("pipeline", Value::from(&*run.pipeline)),
        ("version", run.version.to_string().into()),
        ("slot", run.slot.clone().map_or(Value::Null, Value::from)),
        ("state", run.state.name().into()),
        ("made", Value::Time(run.created_at)),
        ("started_by", run.started_by.as_deref().map_or(Value::Null, Value::from)),
        ("started", time(run.started_at)),
        ("ended", time(run.ended_at)),
        ("inputs", run.inputs.clone()),
        ("outputs", run.outputs.clone()),
        ("error", run.error.as_ref().map_or(Value::Null, |error| error.to_string().into())),
        ("reason", run.reason.clone().map_or(Value::Null, Value::from)),
    ])
}

async fn show(app: &App, run: &RunRecord, json: bool) -> Result<Exit, Fault> {
    let events = app.engine.parts().store.journal(run.id).await?;
    if json {
        for event in &events {
            print::line(&event.to_value().to_string());
        }
        return Ok(Exit::Well);
    }
    let mut facts = vec![
        ("run", run.id.to_string()),
        ("pipeline", format!("{} (version {:.12})", run.pipeline, run.version.to_string())),
        ("state", run.state.name().to_owned()),
        ("made", run.created_at.to_string()),
    ];
    if let (Some(began), Some(ended)) = (run.started_at, run.ended_at) {
        facts.push(("took", print::length(ended.since(began))));
    }
    facts.extend(run.started_by.as_ref().map(|name| ("started by", name.to_string())));
    if let Some((parent, path)) = &run.parent {
        facts.push(("child of", format!("{parent}, step {path}")));
    }
    facts.extend(run.error.as_ref().map(|error| ("error", error.to_string())));
    facts.extend(run.reason.clone().map(|reason| ("waits", reason)));
    facts.extend(run.waiting_until.map(|until| ("until", until.to_string())));
    let asks = ApprovalFilter { open: true, run: Some(run.id), ..ApprovalFilter::default() };
    for asked in app.engine.parts().store.approvals(&asks).await? {
        let reason = asked.ask.map(|ask| ask.reason.to_string()).unwrap_or_default();
        facts.push(("approval", format!("{} of step {}: {reason}", asked.id, asked.path)));
    }
    facts.push(("inputs", run.inputs.to_string()));
    for (name, text) in facts {
        print::line(&format!("{name:<12}{}", print::clean(&text)));
    }
    let mut seen = Seen::default();
    for event in &events {
        seen.follow(event);
    }
    print::line("");
    print::table(&HEAD, &seen.rows_with_outputs());
    if run.state == RunState::Succeeded && run.outputs.as_map().is_some_and(|outputs| !outputs.is_empty()) {
        print::line(&format!("\noutputs\n{}", print::pretty(&run.outputs)));
    }
    Ok(Exit::Well)
}

/// Prints what a step gave; of a `for_each` one line an item.
async fn outputs_of(app: &App, run: &RunRecord, step: &str) -> Result<Exit, Fault> {
    let events = app.engine.parts().store.journal(run.id).await?;
    let mut found = false;
    for event in &events {
        match event {
            RunEvent::Succeeded { path, output, .. } if *path.step == *step && path.phase == Phase::Main => {
                found = true;
                print::line(&if path.item.is_some() { output.to_string() } else { print::pretty(output) });
            }
            _ => {}
        }
    }
    if found {
        return Ok(Exit::Well);
    }
    Err(Fault::Usage(format!("run `{}` has no output of a step `{step}`", run.id)))
}

async fn logs(app: &App, run: &RunRecord) -> Result<Exit, Fault> {
    for line in app.engine.parts().store.logs(run.id).await? {
        let path = line.path.map(|path| path.to_string()).unwrap_or_default();
        let level = format!("{:?}", line.level).to_lowercase();
        let whose = if path.is_empty() { String::new() } else { format!("{path}: ") };
        print::line(&format!("{} {level:<5} {whose}{}", line.at, print::clean(&line.message)));
    }
    Ok(Exit::Well)
}

async fn cancel(app: &App, run: &RunRecord, undo: bool) -> Result<Exit, Fault> {
    if run.state.is_final() {
        return Err(Fault::Usage(format!("run `{}` is {} already", run.id, run.state.name())));
    }
    app.engine.signal(run.id, &Signal::Cancel { undo }).await?;
    if app.ring().await? {
        print::talk(&format!("the daemon goes on with run {}", run.id));
        return Ok(Exit::Well);
    }
    let lease = app.engine.parts().store.lease(run.id).await?;
    if lease.is_some_and(|lease| lease.owner.is_some_and(|owner| !(app.engine.parts().owner_is_gone)(&owner))) {
        print::talk(&format!("run {} is told to end; the process that executes it obeys within a second", run.id));
        return Ok(Exit::Well);
    }
    let pipeline = stored_pipeline(app, &run.version).await?;
    match follow(app, run.id, pipeline, None, VIEW).await? {
        // That the run ends as canceled is what was asked for.
        Exit::Failed => Ok(Exit::Well),
        exit => Ok(exit),
    }
}
