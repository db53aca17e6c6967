//! `pipewright replay`, and what `run --record` keeps for it.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use clap::ValueHint;
use clap_complete::engine::ArgValueCandidates;

use super::Exit;
use super::Global;
use super::complete;
use super::print;
use super::run::View;
use super::validate::load_to_read;
use super::validate::open_project;
use crate::app::App;
use crate::app::Fault;
use crate::difference::Change;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::Value;
use crate::node::Registry;
use crate::pipeline::Pipeline;
use crate::pipeline::compile_definition;
use crate::replay;
use crate::replay::Cassette;
use crate::replay::Compared;
use crate::replay::Difference;
use crate::replay::EffectSeen;
use crate::replay::Recorder;
use crate::replay::Sum;
use crate::store::RunFilter;

/// Where cassettes are kept, below the project's folder.
const CASSETTES: &str = ".pipewright/cassettes";
/// The longest value that is shown in a line.
const VALUE: usize = 60;

/// Runs again, offline: on the recorded clock, with the recorded answers.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Runs of the store (ids, their beginnings, `last`), or files that `run --record` has written.
    #[arg(value_name = "RUN|CASSETTE", required_unless_present = "of", value_hint = ValueHint::FilePath, add = ArgValueCandidates::new(complete::runs))]
    targets: Vec<String>,
    /// The latest ended runs of this pipeline.
    #[arg(long, value_name = "PIPELINE", conflicts_with = "targets", add = ArgValueCandidates::new(complete::pipelines))]
    of: Option<String>,
    /// How many of them.
    #[arg(long, default_value_t = 20, requires = "of")]
    limit: u32,
    /// Execute another version of the pipeline, by file or by name, against what was recorded.
    #[arg(long, value_name = "FILE|NAME", value_hint = ValueHint::FilePath)]
    with: Option<String>,
    /// Print one replay a line as JSON, and the sum last.
    #[arg(long)]
    json: bool,
}

impl Replay {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let with = self.with.as_deref().map(|target| load_to_read(global, target)).transpose()?;
        let (cassettes, registry) = self.cassettes(global).await?;
        let mut work = tokio::task::JoinSet::new();
        let mut waiting = cassettes.into_iter().enumerate();
        let most = std::thread::available_parallelism().map_or(2, usize::from);
        let mut done: Vec<(usize, Compared)> = Vec::new();
        loop {
            while work.len() < most
                && let Some((number, cassette)) = waiting.next()
            {
                let recorded = version(&cassette, &registry)?;
                let with = with.clone();
                work.spawn_blocking(move || {
                    let run = cassette.head.run;
                    (number, run, replay::replay(cassette, &recorded, with.as_ref()))
                });
            }
            let Some(joined) = work.join_next().await else { break };
            let (number, run, compared) = joined.context("replaying")?;
            done.push((number, compared.with_context(|| format!("replaying run {run}"))?));
        }
        done.sort_by_key(|(number, _)| *number);
        let all: Vec<Compared> = done.into_iter().map(|(_, compared)| compared).collect();
        let sum = replay::sum(&all);
        if self.json {
            all.iter().for_each(|compared| print::line(&as_value(compared).to_string()));
            print::line(&sum_value(&sum).to_string());
        } else {
            print::data(&shown(&all, &sum, print::color_out()));
        }
        Ok(if sum.differ == 0 { Exit::Well } else { Exit::Failed })
    }

    async fn cassettes(&self, global: &Global) -> Result<(Vec<Cassette>, Registry), Fault> {
        let (files, runs): (Vec<_>, Vec<_>) = self.targets.iter().partition(|target| is_file(target));
        let mut all = Vec::with_capacity(self.targets.len());
        for file in files.into_iter().map(PathBuf::from) {
            for file in if file.is_dir() { inside(&file)? } else { vec![file] } {
                all.push(replay::read(&file).map_err(unreadable)?);
            }
        }
        if runs.is_empty() && self.of.is_none() {
            let (_, registry) = super::validate::catalog(global, Path::new("."))?;
            return Ok((all, registry));
        }
        let app = open_project(global).await?;
        let mut ids: Vec<RunId> = Vec::new();
        for run in runs {
            ids.push(super::runs::find(&app, run).await?.id);
        }
        if let Some(pipeline) = &self.of {
            let states = vec![RunState::Succeeded, RunState::Failed, RunState::Canceled];
            let filter =
                RunFilter { states, pipeline: Some(pipeline.clone()), limit: Some(self.limit), ..RunFilter::default() };
            let found = app.engine.parts().store.runs(&filter).await?;
            ids.extend(found.into_iter().filter(|run| run.parent.is_none()).map(|run| run.id));
            if ids.is_empty() {
                return Err(Fault::Usage(format!("no run of `{pipeline}` has ended")));
            }
        }
        for id in ids {
            let gathered = replay::gather(&app.engine.parts().store, &app.registry, id, None).await;
            all.push(gathered.map_err(|error| match error {
                replay::GatherError::Store(error) => Fault::Other(error.into()),
                missing => Fault::Usage(missing.to_string()),
            })?);
        }
        Ok((all, app.registry))
    }
}

/// Lists the cassettes of a folder. One that belongs to a cassette has none: a pattern of a shell names it, too.
fn inside(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    if folder.extension().is_some_and(|ending| ending == "files") {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() && path.extension().is_some_and(|ending| ending == "jsonl") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Fault::Usage(format!("`{}` holds no cassettes (`*.jsonl`)", folder.display())));
    }
    Ok(files)
}

/// Tells whether a target is a file: ids have neither dots nor slashes.
fn is_file(target: &str) -> bool {
    Path::new(target).exists() || target.contains(['.', '/', '\\'])
}

fn unreadable(error: replay::ReadError) -> Fault {
    match error {
        replay::ReadError::Open { path, source } => Fault::Usage(format!("cannot read `{}`: {source}", path.display())),
        other => Fault::Usage(other.to_string()),
    }
}

fn version(cassette: &Cassette, registry: &Registry) -> Result<Arc<Pipeline>, Fault> {
    let compiled = compile_definition(&cassette.definition, registry);
    compiled.map_err(|(diagnostics, sources)| Fault::Invalid { diagnostics, sources, files: 1 })
}

/// Keeps what was recorded of a run.
pub(super) async fn keep(
    app: &App,
    run: RunId,
    recorder: &Recorder,
    file: Option<PathBuf>,
    view: View,
) -> Result<(), Fault> {
    let cassette = replay::gather(&app.engine.parts().store, &app.registry, run, Some(recorder)).await?;
    let file = file.unwrap_or_else(|| app.root.join(CASSETTES).join(format!("{run}.jsonl")));
    replay::write(&cassette, &file).with_context(|| format!("writing `{}`", file.display()))?;
    if view.quiet || view.json {
        return Ok(());
    }
    let near = std::env::current_dir().ok().and_then(|here| file.strip_prefix(here).ok().map(Path::to_owned));
    let shown = near.as_deref().unwrap_or(&file).display().to_string();
    print::talk(&format!("recorded in {shown}"));
    if !cassette.head.state.is_final() {
        print::talk("the run has not ended: what it is told later is not in it");
    }
    print::hint(&format!("`pipewright replay {shown}` runs it again, offline; `--with FILE` what you have edited"));
    Ok(())
}

fn shown(all: &[Compared], sum: &Sum, color: bool) -> String {
    let mut text = String::new();
    for compared in all {
        one(compared, color, &mut text);
    }
    if all.len() > 1 {
        let rest = if sum.differ == 1 { "1 differs".to_owned() } else { format!("{} differ", sum.differ) };
        let head = format!("{} runs: {} the same, {rest}", sum.runs, sum.same);
        text.push_str(&print::paint("1", &head, color));
        text.push('\n');
        for (count, kind) in &sum.kinds {
            let runs = if *count == 1 { "run" } else { "runs" };
            text.push_str(&format!("  {count} {runs}: {}\n", print::clean(kind)));
        }
    }
    text
}

fn one(compared: &Compared, color: bool, text: &mut String) {
    let effects = match compared.effects {
        0 => "no effects".to_owned(),
        1 => "1 effect".to_owned(),
        count => format!("{count} effects"),
    };
    let verdict = if compared.is_same() {
        print::paint("32", "the same", color)
    } else if compared.differences.is_empty() {
        print::paint("31", "not replayed to its end", color)
    } else {
        let count = compared.differences.len();
        let word = if count == 1 { "1 difference".to_owned() } else { format!("{count} differences") };
        print::paint("33", &word, color)
    };
    text.push_str(&format!("{} {}  {effects}, {verdict}\n", compared.run, compared.pipeline));
    for difference in &compared.differences {
        let (sign, shade, lines) = told(difference);
        let mut lines = lines.iter().map(|line| print::clean(line));
        let first = lines.next().unwrap_or_default();
        text.push_str(&format!("  {} {first}\n", print::paint(shade, sign, color)));
        lines.for_each(|line| text.push_str(&format!("      {line}\n")));
    }
    for miss in &compared.misses {
        let line = format!("{}  {}: {}", miss.place, miss.node, miss.reason);
        text.push_str(&format!("  {} {}\n", print::paint("31", "?", color), print::clean(&line)));
    }
    if !compared.unreached.is_empty() {
        text.push_str(&format!("    not replayed behind it: {}\n", compared.unreached.join(", ")));
    }
    if !compared.supposed.is_empty() {
        let places = compared.supposed.join(", ");
        text.push_str(&format!("    answered as the recorded request was, although it is another: {places}\n"));
    }
}

/// Returns the sign of a difference, its color, and its lines.
fn told(difference: &Difference) -> (&'static str, &'static str, Vec<String>) {
    match difference {
        Difference::New { effect, known } => {
            let known = if *known { "" } else { "  (its answer is not known)" };
            ("+", "32", vec![format!("{}  {}{known}", head(effect), short(&effect.request))])
        }
        Difference::Gone { effect, reached } => {
            let reached = if *reached { "" } else { "  (not reached)" };
            ("-", "31", vec![format!("{}  {}{reached}", head(effect), short(&effect.request))])
        }
        Difference::Changed { before, now, fields } => {
            let mut lines = vec![head(now)];
            if before.place != now.place {
                lines.push(format!("was {}", before.place));
            }
            if before.operation != now.operation {
                lines.push(format!("{} → {}", before.operation, now.operation));
            }
            lines.extend(fields.iter().map(changed));
            if before.fate != now.fate {
                lines.push(format!("{} → {}", before.fate, now.fate));
            }
            ("~", "33", lines)
        }
        Difference::Step { step, before, now } => ("~", "33", vec![format!("step {step}: {before} → {now}")]),
        Difference::State { before, now, why } => {
            let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            ("~", "33", vec![format!("the run: {} → {}{why}", before.name(), now.name())])
        }
        Difference::Outputs { fields } => {
            let mut lines = vec!["outputs".to_owned()];
            lines.extend(fields.iter().map(changed));
            ("~", "33", lines)
        }
    }
}

fn head(effect: &EffectSeen) -> String {
    format!("{}  {} ({})", effect.place, effect.operation, effect.kind)
}

fn changed(change: &Change) -> String {
    let field = if change.field.is_empty() { "all of it" } else { &change.field };
    let side = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let (old, new) = (side(&change.old), side(&change.new));
    let common = old.chars().zip(new.chars()).take_while(|(old, new)| old == new).count();
    // Of long texts what they begin with alike is left out, but for a little.
    let skipped = common.saturating_sub(20);
    if skipped < 10 || old.chars().count().max(new.chars().count()) <= VALUE {
        return format!("{field}: {} → {}", clip(&old), clip(&new));
    }
    let tail = |text: &str| format!("…{}", clip(&text.chars().skip(skipped).collect::<String>()));
    format!("{field}: {} → {}", tail(&old), tail(&new))
}

fn short(value: &Value) -> String {
    clip(&value.to_string())
}

fn clip(text: &str) -> String {
    if text.chars().count() <= VALUE { text.to_owned() } else { text.chars().take(VALUE - 1).chain(['…']).collect() }
}

fn as_value(compared: &Compared) -> Value {
    let texts = |texts: &[String]| Value::list(texts.iter().map(|text| Value::from(text.as_str())).collect());
    let misses = compared.misses.iter().map(|miss| {
        Value::map([
            ("step", Value::from(miss.place.as_str())),
            ("operation", Value::from(&*miss.node)),
            ("reason", Value::from(miss.reason.as_str())),
        ])
    });
    Value::map([
        ("run", Value::from(compared.run.to_string())),
        ("pipeline", Value::from(&*compared.pipeline)),
        ("same", Value::Bool(compared.is_same())),
        ("effects", count(compared.effects)),
        ("differences", Value::list(compared.differences.iter().map(difference_value).collect())),
        ("missing", Value::list(misses.collect())),
        ("not_replayed", texts(&compared.unreached)),
        ("supposed", texts(&compared.supposed)),
    ])
}

fn count(count: usize) -> Value {
    Value::Int(i128::try_from(count).unwrap_or(i128::MAX))
}

fn difference_value(difference: &Difference) -> Value {
    match difference {
        Difference::New { effect, known } => {
            Value::map([("new", effect_value(effect)), ("answer_known", Value::Bool(*known))])
        }
        Difference::Gone { effect, reached } => {
            Value::map([("gone", effect_value(effect)), ("reached", Value::Bool(*reached))])
        }
        Difference::Changed { before, now, fields } => Value::map([
            ("changed", effect_value(now)),
            ("before", effect_value(before)),
            ("fields", fields_value(fields)),
        ]),
        Difference::Step { step, before, now } => Value::map([
            ("step", Value::from(step.as_str())),
            ("before", before.as_str().into()),
            ("now", now.as_str().into()),
        ]),
        Difference::State { before, now, why } => Value::map([
            ("state", Value::from(now.name())),
            ("before", before.name().into()),
            ("why", why.as_deref().map_or(Value::Null, Value::from)),
        ]),
        Difference::Outputs { fields } => Value::map([("outputs", fields_value(fields))]),
    }
}

fn fields_value(fields: &[Change]) -> Value {
    Value::list(
        fields
            .iter()
            .map(|change| {
                let mut entries = vec![("field", Value::from(change.field.as_str()))];
                entries.extend(change.old.clone().map(|old| ("old", old)));
                entries.extend(change.new.clone().map(|new| ("new", new)));
                Value::map(entries)
            })
            .collect(),
    )
}

fn effect_value(effect: &EffectSeen) -> Value {
    Value::map([
        ("step", Value::from(effect.place.as_str())),
        ("operation", Value::from(&*effect.operation)),
        ("kind", effect.kind.into()),
        ("request", effect.request.clone()),
        ("fate", effect.fate.as_str().into()),
    ])
}

fn sum_value(sum: &Sum) -> Value {
    let kinds =
        sum.kinds.iter().map(|(runs, kind)| Value::map([("runs", count(*runs)), ("what", Value::from(kind.as_str()))]));
    Value::map([
        ("runs", count(sum.runs)),
        ("same", count(sum.same)),
        ("differ", count(sum.differ)),
        ("kinds", Value::list(kinds.collect())),
    ])
}
