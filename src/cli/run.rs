//! `pipewright run`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use clap::ValueHint;
use clap_complete::engine::ArgValueCandidates;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Exit;
use super::Global;
use super::complete;
use super::interrupts::Interrupts;
use super::person::Who;
use super::print;
use super::progress::Key;
use super::progress::Seen;
use super::sandbox::Troubles;
use super::screen::Screen;
use crate::app::App;
use crate::app::Fault;
use crate::app::Rehearsal;
use crate::engine::Engine;
use crate::engine::Error;
use crate::engine::ExecuteOptions;
use crate::engine::Execution;
use crate::engine::plan::Bond;
use crate::model::Phase;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::StepError;
use crate::model::Value;
use crate::pipeline::Given;
use crate::pipeline::OnError;
use crate::pipeline::Pipeline;
use crate::pipeline::Trigger;
use crate::pipeline::TriggerKind;
use crate::store::ApprovalFilter;

/// Runs a pipeline to its end and shows its steps as they happen.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// A file, or the name of a pipeline of the project.
    #[arg(value_name = "FILE|NAME", value_hint = ValueHint::FilePath, add = ArgValueCandidates::new(complete::pipelines))]
    target: String,
    #[command(flatten)]
    inputs: Inputs,
    /// Print one committed event a line as JSON, and nothing else, to stdout.
    #[arg(long)]
    json: bool,
    /// Print the outputs only.
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    troubles: Troubles,
    /// Keep what the run is told by the world in a file, for `pipewright replay`; by default
    /// `.pipewright/cassettes/RUN.jsonl`. Secrets are not in it.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, value_hint = ValueHint::FilePath)]
    record: Option<Option<PathBuf>>,
    /// Leave the run waiting when it has to wait longer than a minute, and end with code 3.
    #[arg(long)]
    detach: bool,
    /// Show what it would do to the world, ask, and do exactly that.
    #[arg(long, conflicts_with_all = ["json", "record"])]
    plan_first: bool,
}

/// What a pipeline is given, and by whom.
#[derive(Debug, Args)]
pub(super) struct Inputs {
    #[command(flatten)]
    who: Who,
    /// An input, as text or as JSON; may be repeated.
    #[arg(short, long = "input", value_name = "KEY=VALUE")]
    input: Vec<String>,
    /// A JSON or YAML file with inputs; `-i` wins over it.
    #[arg(long, value_name = "FILE")]
    input_file: Option<PathBuf>,
}

impl Run {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let rehearsal = self.troubles.rehearsal(global)?;
        let view = View { json: self.json, quiet: self.quiet, foreground: !self.detach };
        if self.plan_first {
            let (app, pipeline) = load(global, &self.target, rehearsal).await?;
            let values = self.inputs.of(&app, &pipeline)?;
            return super::plan::first(&app, &pipeline, values, self.inputs.person().as_deref(), view).await;
        }
        start(global, &self.target, &self.inputs, rehearsal, view, self.record).await
    }
}

/// Loads a pipeline, starts it, and shows it to its end.
pub(super) async fn start(
    global: &Global,
    target: &str,
    inputs: &Inputs,
    rehearsal: Option<Rehearsal>,
    view: View,
    record: Option<Option<PathBuf>>,
) -> Result<Exit, Fault> {
    let (mut app, pipeline) = load(global, target, rehearsal).await?;
    let mut recorder = None;
    if record.is_some() {
        let (recorded, with) = app.recorded();
        (app, recorder) = (recorded, Some(with));
    }
    let values = inputs.of(&app, &pipeline)?;
    let run = app.engine.start_as(inputs.who.name().as_deref(), &pipeline, values).await.map_err(fault)?;
    let exit = follow(&app, run, pipeline, None, view).await?;
    if let (Some(recorder), Some(file)) = (recorder, record) {
        super::replay::keep(&app, run, &recorder, file, view).await?;
    }
    Ok(exit)
}

/// Loads a pipeline and its project.
pub(super) async fn load(
    global: &Global,
    target: &str,
    rehearsal: Option<Rehearsal>,
) -> Result<(App, Arc<Pipeline>), Fault> {
    let (app, pipeline) = super::validate::load_one(global, target, rehearsal).await?;
    if let Some(world) = &app.sandbox {
        app.engine.parts().store.enter(world.id()).await?;
    }
    Ok((app, pipeline))
}

/// Returns what the pipeline's `manual` trigger gives to a run that a person starts.
fn by_hand(engine: &Engine, pipeline: &Pipeline) -> Result<Vec<(String, Given)>, Fault> {
    let manual = |trigger: &&Trigger| trigger.enabled && matches!(trigger.kind, TriggerKind::Manual);
    let Some(trigger) = pipeline.triggers.iter().find(manual) else { return Ok(Vec::new()) };
    let given = engine.given_by_event(trigger, [], Value::Null);
    let given = given.map_err(|reason| Fault::Usage(format!("the inputs of the trigger `manual`: {reason}")))?;
    let entries = given.as_map().into_iter().flatten();
    Ok(entries.map(|(name, value)| (name.to_string(), Given::Value(value.clone()))).collect())
}

impl Inputs {
    pub(super) fn is_empty(&self) -> bool {
        self.input.is_empty() && self.input_file.is_none()
    }

    /// Returns who starts it.
    pub(super) fn person(&self) -> Option<String> {
        self.who.name()
    }

    /// Returns the names of what is given by `-i`.
    pub(super) fn names(&self) -> Vec<&str> {
        self.input.iter().filter_map(|input| input.split_once('=')).map(|(name, _)| name).collect()
    }

    /// Reads what is given, over what the pipeline's trigger `manual` gives.
    pub(super) fn of(&self, app: &App, pipeline: &Pipeline) -> Result<Value, Fault> {
        self.read(pipeline, by_hand(&app.engine, pipeline)?)
    }

    /// Reads what is given; what is not may be in `given` before.
    pub(super) fn read(&self, pipeline: &Pipeline, mut given: Vec<(String, Given)>) -> Result<Value, Fault> {
        if let Some(path) = &self.input_file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Fault::Usage(format!("cannot read `{}`: {error}", path.display())))?;
            let (tree, diagnostics) = crate::yaml::parse(&path.display().to_string().into(), &text);
            let Some(tree) = tree.filter(|_| diagnostics.is_empty()) else {
                let mut sources = crate::diag::Sources::default();
                sources.insert(path.display().to_string().into(), text.into());
                return Err(Fault::Invalid { diagnostics, sources, files: 1 });
            };
            for entry in tree.entries() {
                given.retain(|(name, _)| **name != *entry.key);
                given.push((entry.key.to_string(), Given::Value(entry.value.to_value())));
            }
        }
        for input in &self.input {
            let Some((key, value)) = input.split_once('=') else {
                return Err(Fault::Usage(format!("`-i {input}`: expected `key=value`")));
            };
            given.retain(|(name, _)| name != key);
            given.push((key.to_owned(), Given::Text(value.to_owned())));
        }
        crate::pipeline::check_inputs(pipeline, &given).map_err(|problems| Fault::Usage(problems.join("\n       ")))
    }
}

/// How a run is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) json: bool,
    pub(super) quiet: bool,
    pub(super) foreground: bool,
}

/// What `follow` does with a run.
#[derive(Clone, Debug)]
pub(super) struct Again {
    /// The step that a retry begins from, beside what failed.
    pub(super) from: Option<String>,
}

/// Executes a run (or retries it) and shows it.
pub(super) async fn follow(
    app: &App,
    run: RunId,
    pipeline: Arc<Pipeline>,
    again: Option<Again>,
    view: View,
) -> Result<Exit, Fault> {
    follow_bound(app, run, pipeline, again, view, None).await
}

/// Executes a run that a plan may bind, and shows it.
pub(super) async fn follow_bound(
    app: &App,
    run: RunId,
    pipeline: Arc<Pipeline>,
    again: Option<Again>,
    view: View,
    bond: Option<Arc<Bond>>,
) -> Result<Exit, Fault> {
    let (observer, events) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let screen = Screen::new(view, program(app));
    let secrets = app.engine.parts().secrets.clone();
    let (pieces, texts) = mpsc::unbounded_channel();
    if screen.is_live() {
        app.live.listen(move |of, path, piece| {
            // Whoever watched may be gone by now.
            let _ = pieces.send((of, path.clone(), piece.to_owned()));
        });
    }
    let shown = tokio::spawn(screen.clone().show(events, texts, run, pipeline.name.clone(), secrets));
    let options = ExecuteOptions {
        stop: stop.clone(),
        foreground: view.foreground,
        observer: Some(observer),
        bond,
        ..ExecuteOptions::default()
    };
    // Where others execute a part of it, what they announce is heard.
    let spread = pipeline.main.steps.iter().any(|step| step.spread);
    let store = app.engine.parts().store.clone();
    let _listening = spread.then(|| AbortOnDropHandle::new(tokio::spawn(async move { store.listen().await })));
    let work = async {
        match again {
            None => app.engine.execute(run, pipeline.clone(), options).await,
            Some(again) => app.engine.retry(run, pipeline.clone(), again.from, options).await,
        }
    };
    let execution = tokio::select! {
        execution = work => execution,
        () = interrupted_twice(&stop, run, &screen) => {
            screen.say(&format!("stopped at once; `{} runs resume {run}` goes on with it", program(app)));
            return Ok(Exit::Interrupted);
        }
    };
    let seen = shown.await.unwrap_or_default();
    if let Some(world) = app.sandbox.as_ref().filter(|_| !view.json && !view.quiet) {
        super::sandbox::tell(world);
    }
    let runs = program(app);
    if matches!(execution, Ok(Execution::Finished { .. })) {
        // Other pipelines may run after it.
        app.ring().await?;
    }
    match execution.map_err(fault)? {
        Execution::Finished { state, outputs, error } => {
            let exit = finished(&pipeline, &seen, state, &outputs, error, view);
            if state == RunState::Failed {
                print::hint(&format!("`{runs} runs retry {run}` tries what failed again; what succeeded stays"));
            }
            Ok(exit)
        }
        Execution::Waiting { until, reason, in_doubt } => {
            // Its time is the daemon's to know.
            app.ring().await?;
            let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
            // Some reasons say nothing else.
            let reason = if reason == format!("waits{until}") { String::new() } else { format!(": {reason}") };
            print::talk(&format!("run {run} waits{until}{}", print::clean(&reason)));
            let asks = ApprovalFilter { open: true, run: Some(run), ..ApprovalFilter::default() };
            let asks = app.engine.parts().store.approvals(&asks).await?;
            print::hint(&if in_doubt {
                format!("`{runs} effects list --run {run}` shows what is in doubt")
            } else if let Some(asked) = asks.first() {
                format!("`{runs} approvals approve {}` decides; `{runs} runs resume {run}` goes on then", asked.id)
            } else {
                format!("`{runs} runs resume {run}` goes on with it")
            });
            Ok(Exit::Waiting)
        }
        Execution::Stopped => {
            print::talk(&format!("run {run} is stopped; `{runs} runs resume {run}` goes on with it"));
            Ok(Exit::Interrupted)
        }
    }
}

/// Returns how the program is called to go on with a run of this project: a rehearsal has a store of its own.
pub(super) fn program(app: &App) -> &'static str {
    if app.engine.parts().access.rehearsal { "pipewright --sandbox" } else { "pipewright" }
}

/// Sorts the engine's errors: what the user asked for wrongly, and what failed.
pub(super) fn fault(error: Error) -> Fault {
    match error {
        Error::NotYet { .. } | Error::NoRun(_) | Error::NoStep(_) | Error::WrongState { .. } => {
            Fault::Usage(error.to_string())
        }
        other => other.into(),
    }
}

fn finished(
    pipeline: &Pipeline,
    seen: &Seen,
    state: RunState,
    outputs: &Value,
    error: Option<StepError>,
    view: View,
) -> Exit {
    if state == RunState::Succeeded {
        if !view.json && outputs.as_map().is_some_and(|map| !map.is_empty()) {
            print::line(&print::pretty(outputs));
        }
        return Exit::Well;
    }
    let mut told = false;
    for (key, text) in seen.failures().filter(|(key, _)| counts(pipeline, key)) {
        print::error(&text);
        if let Some(place) = place(pipeline, &key) {
            print::talk(&format!("  --> {place}"));
        }
        told = true;
    }
    match error {
        Some(error) if !told => print::error(&print::clean(&error.to_string())),
        _ => {}
    }
    Exit::Failed
}

/// Tells whether the failure of a step fails the run.
fn counts(pipeline: &Pipeline, (phase, step): &Key) -> bool {
    let step = if *phase == Phase::Main { pipeline.main.step(step) } else { None };
    step.is_none_or(|step| matches!(step.on_error, OnError::Fail))
}

/// Finds where a step stands in the file that the run was made from.
fn place(pipeline: &Pipeline, (phase, step): &Key) -> Option<String> {
    let definition = crate::model::parse_json(&pipeline.definition).ok()?;
    let file = definition.get("file")?.as_str()?.to_owned();
    let (tree, _) = crate::yaml::parse(&file.as_str().into(), definition.get("text")?.as_str()?);
    let part = match phase {
        Phase::Main | Phase::Undo => "steps",
        Phase::OnFailure => "on_failure",
        Phase::Finally => "finally",
    };
    let start = tree?.get(part)?.entry(step)?.key_span.start;
    Some(format!("{file}:{}:{}", start.line, start.column))
}

/// The first Ctrl-C (or a request to end) stops in good order; returns at the second one.
async fn interrupted_twice(stop: &CancellationToken, run: RunId, screen: &Screen) {
    let Ok(mut interrupts) = Interrupts::listen() else { return std::future::pending().await };
    interrupts.next().await;
    screen.say(&format!("\nstopping run {run} in good order; press Ctrl-C again to stop at once"));
    stop.cancel();
    interrupts.next().await;
}
