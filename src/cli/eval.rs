//! `pipewright eval`.

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::Exit;
use super::Global;
use super::complete;
use super::print;
use super::validate::open_project;
use super::validate::stored_pipeline;
use crate::app::App;
use crate::app::Fault;
use crate::diag::did_you_mean;
use crate::engine::Machine;
use crate::engine::RunRoot;
use crate::engine::UnitKey;
use crate::engine::roots;
use crate::engine::slot;
use crate::model::Phase;
use crate::model::RunEvent;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::Value;
use crate::model::parse_json;
use crate::pipeline::Pipeline;
use crate::store::RunRecord;
use crate::system::System;
use crate::template::EvalError;
use crate::template::Lookup;
use crate::template::Scope;
use crate::template::StepView;
use crate::template::Template;

/// Evaluates an expression: `steps.orders.output | length`. Secrets are shown as `***`.
#[derive(Debug, Args)]
pub(super) struct Eval {
    /// The expression, with or without braces; `-` reads it from stdin.
    expression: String,
    /// Over this run: its id, its beginning, or `last`.
    #[arg(long, value_name = "RUN", add = ArgValueCandidates::new(complete::runs))]
    run: Option<String>,
    /// As this step run sees it, e.g. `publish` or `publish[3]`: with `item`, `index`, `output` and `input`.
    #[arg(long, value_name = "PATH", requires = "run")]
    step: Option<StepPath>,
    /// An input, as text or as JSON; may be repeated. Over a run it replaces that run's.
    #[arg(short, long = "input", value_name = "KEY=VALUE")]
    input: Vec<String>,
    /// Print JSON, texts too.
    #[arg(long)]
    json: bool,
}

/// What the names of an expression mean here.
struct World {
    scope: Scope,
    /// The names behind `steps`.
    steps: Vec<String>,
    /// What else there is.
    roots: Vec<String>,
}

impl Eval {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let source = self.source()?;
        let (template, from) = match compile(&source) {
            Ok(compiled) => compiled,
            Err((message, range)) => {
                print::error(&pointed(&message, &source, range));
                return Ok(Exit::Wrong);
            }
        };
        let world = match &self.run {
            None => self.without_run()?,
            Some(run) => {
                let app = open_project(global).await?;
                let record = super::runs::find(&app, run).await?;
                self.over_run(&app, &record).await?
            }
        };
        match template.eval(&world.scope) {
            Ok(value) => {
                print::line(&match &value {
                    Value::String(text) if !self.json => print::clean(text),
                    value if self.json => value.to_string(),
                    value => print::pretty(value),
                });
                Ok(Exit::Well)
            }
            Err(error) => {
                print::error(&explained(&error, &template, &world, &source, from));
                Ok(Exit::Failed)
            }
        }
    }

    fn source(&self) -> Result<String, Fault> {
        let mut source = self.expression.clone();
        if source == "-" {
            source.clear();
            std::io::stdin().read_to_string(&mut source)?;
        }
        let source = source.trim().to_owned();
        if source.is_empty() {
            return Err(Fault::Usage("the expression is empty".to_owned()));
        }
        Ok(source)
    }

    fn given(&self) -> Result<Vec<(Arc<str>, Value)>, Fault> {
        let given = self.input.iter().map(|input| {
            let (key, text) =
                input.split_once('=').ok_or_else(|| Fault::Usage(format!("`-i {input}`: expected `key=value`")))?;
            // What is no JSON is a text, as a person means it.
            Ok((Arc::from(key), parse_json(text).unwrap_or_else(|_| Value::from(text))))
        });
        given.collect()
    }

    fn without_run(&self) -> Result<World, Fault> {
        let inputs = Value::map(self.given()?);
        let now = System::real().clock.now();
        let globals = Arc::new(vec![(Arc::from("inputs"), inputs)]);
        let lookup = Arc::new(Stored::default());
        Ok(World {
            scope: Scope { lookup, globals, locals: Vec::new(), now },
            steps: Vec::new(),
            roots: vec!["inputs".to_owned()],
        })
    }

    async fn over_run(&self, app: &App, record: &RunRecord) -> Result<World, Fault> {
        let pipeline = stored_pipeline(app, &record.version).await?;
        let events = app.engine.parts().store.journal(record.id).await?;
        let machine = Machine::replay(pipeline.clone(), &events);
        let mut steps = HashMap::new();
        for (phase, graph) in [
            (Phase::Main, &pipeline.main),
            (Phase::OnFailure, &pipeline.on_failure),
            (Phase::Finally, &pipeline.finally),
        ] {
            for (index, step) in graph.steps.iter().enumerate() {
                if let Some(view) = machine.view(phase, index) {
                    steps.insert(step.id.to_string(), view);
                }
            }
        }
        let mut inputs = record.inputs.as_map().cloned().unwrap_or_default();
        inputs.extend(self.given()?);
        let inputs = Value::from(inputs);
        let run = RunRoot {
            id: record.id,
            slot: record.slot.as_deref().map_or(Value::Null, slot),
            state: record.state.name().into(),
            error: record.error.as_ref().map_or(Value::Null, StepError::to_value),
        };
        let globals = roots(&pipeline, &inputs, run);
        let locals = match &self.step {
            Some(path) => locals(&machine, &pipeline, &events, path)?,
            None => Vec::new(),
        };
        let mut names: Vec<_> = steps.keys().cloned().collect();
        names.sort();
        let roots = globals.iter().map(|(name, _)| name.to_string());
        let roots = roots.chain(locals.iter().map(|(name, _)| (*name).to_owned())).collect();
        let now = record.ended_at.unwrap_or_else(|| app.engine.parts().system.clock.now());
        Ok(World {
            scope: Scope { lookup: Arc::new(Stored(steps)), globals: Arc::new(globals), locals, now },
            steps: names,
            roots,
        })
    }
}

/// Makes what a step run alone sees.
fn locals(
    machine: &Machine,
    pipeline: &Pipeline,
    events: &[RunEvent],
    path: &StepPath,
) -> Result<Vec<(&'static str, Value)>, Fault> {
    let graph = pipeline.graph(path.phase);
    let Some(step) = graph.index.get(&path.step).copied() else {
        let near = did_you_mean(&path.step, graph.index.keys().map(|id| &**id));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(Fault::Usage(format!("the run has no step `{}`{near}", path.step)));
    };
    let key = UnitKey { phase: path.phase, step, item: path.item };
    let main = UnitKey { phase: if path.phase == Phase::Undo { Phase::Main } else { path.phase }, ..key };
    let mut locals = Vec::new();
    if let Some(item) = path.item {
        let Some(value) = machine.item(main) else {
            return Err(Fault::Usage(format!("step `{}` has no item {item}", path.step)));
        };
        locals.extend([("item", value), ("index", Value::Int(item.into()))]);
    }
    // Of an `until` each round has its own output.
    let round = events.iter().rev().find_map(|event| match event {
        RunEvent::Round { path: own, output, .. } if path.round.is_some() && own == path => Some(output.clone()),
        _ => None,
    });
    locals.push(("output", round.unwrap_or_else(|| machine.output(main))));
    if let Some(intent) = machine.intent(main) {
        locals.push(("input", intent.request.clone()));
    }
    if let Some(previous) = machine.previous(main) {
        locals.push(("previous", previous));
    }
    Ok(locals)
}

/// The steps of a run as they ended. Of secrets there is but the name: whatever is computed of one is one.
#[derive(Debug, Default)]
struct Stored(HashMap<String, StepView>);

impl Lookup for Stored {
    fn step(&self, id: &str) -> Option<StepView> {
        self.0.get(id).cloned()
    }

    fn secret(&self, _: &str) -> Result<Value, String> {
        Ok(Value::from("***").tainted())
    }
}

/// Compiles an expression. Returns the template, and where in its source the expression begins.
fn compile(source: &str) -> Result<(Template, usize), (String, Range<usize>)> {
    const OPEN: &str = "{{ ";
    let braced = ["{{", "{%"].iter().any(|open| source.contains(open));
    let text = if braced { source.to_owned() } else { format!("{OPEN}{source} }}}}") };
    let from = if braced { 0 } else { OPEN.len() };
    match Template::parse(&text) {
        Ok(template) => Ok((template, from)),
        Err(error) => {
            // Whoever wrote no braces has no block that ends.
            let ends = !braced && error.message.contains("end of variable block");
            let message = if ends { "the expression ends where more should follow".to_owned() } else { error.message };
            Err((message, error.range.start.saturating_sub(from)..error.range.end.saturating_sub(from)))
        }
    }
}

/// Says why an expression has no value, at the name that has none where one is to blame.
fn explained(error: &EvalError, template: &Template, world: &World, source: &str, from: usize) -> String {
    for reference in template.references().iter().filter(|reference| !reference.optional) {
        for length in 1..=reference.path.len() {
            let Some(path) = reference.path.get(..length) else { continue };
            if is_there(path, &world.scope) {
                continue;
            }
            let mut range = reference.range.start.saturating_sub(from)..reference.range.end.saturating_sub(from);
            // Where the path is written with dots, it is the last of these names that is missing.
            let written = path.join(".");
            if source.get(range.clone()).is_some_and(|text| text.starts_with(&written)) {
                range.end = range.start + written.len();
                range.start = range.end - path.last().map_or(0, |last| last.len());
            }
            let message = match missing(path, world) {
                Some(message) => message,
                None => error.message.clone(),
            };
            return pointed(&message, source, range);
        }
    }
    pointed(&error.message, source, 0..source.len())
}

fn is_there(path: &[Arc<str>], scope: &Scope) -> bool {
    // `now` and the other functions are no names.
    if let [root] = path
        && (["steps", "secrets"].contains(&&**root) || root.starts_with("now"))
    {
        return true;
    }
    let keys = path.iter().skip(1).map(|key| format!("[{}]", Value::from(&**key)));
    let text =
        format!("{{{{ {}{} }}}}", path.first().map(|root| &**root).unwrap_or_default(), keys.collect::<String>());
    Template::parse(&text).is_ok_and(|template| template.eval(scope).is_ok())
}

/// Says which name is not known, and what is near.
fn missing(path: &[Arc<str>], world: &World) -> Option<String> {
    let near = |name: &str, all: &[String]| {
        did_you_mean(name, all.iter().map(String::as_str)).map(|near| format!("; did you mean `{near}`?"))
    };
    match path {
        [root] => {
            let mut all = world.roots.clone();
            all.extend(["steps".to_owned(), "secrets".to_owned()]);
            let near = near(root, &all).unwrap_or_else(|| format!("; there are {}", listed(&all)));
            Some(format!("`{root}` is not known here{near}"))
        }
        [root, id] if &**root == "steps" => {
            if world.steps.is_empty() {
                return Some("without `--run` there are no steps".to_owned());
            }
            let near = near(id, &world.steps).unwrap_or_else(|| format!("; there are {}", listed(&world.steps)));
            Some(format!("there is no step `{id}`{near}"))
        }
        [above @ .., last] => {
            let keys = above.iter().skip(1).map(|key| format!("[{}]", Value::from(&**key))).collect::<String>();
            let text = format!("{{{{ {}{keys} }}}}", above.first()?);
            let holder = Template::parse(&text).ok()?.eval(&world.scope).ok()?.revealed();
            let Some(map) = holder.as_map() else {
                return Some(format!("`{}` is of kind {}: it has no `{last}`", above.join("."), holder.kind().name()));
            };
            let all: Vec<_> = map.keys().map(ToString::to_string).collect();
            let near = near(last, &all).unwrap_or_else(|| format!("; it has {}", listed(&all)));
            Some(format!("`{}` has no `{last}`{near}", above.join(".")))
        }
        [] => None,
    }
}

fn listed(names: &[String]) -> String {
    const MOST: usize = 12;
    let mut shown: Vec<_> = names.iter().take(MOST).map(|name| format!("`{}`", print::clean(name))).collect();
    if names.len() > MOST {
        shown.push("…".to_owned());
    }
    if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
}

/// Returns a message with the line of the expression that it is about, and carets below.
fn pointed(message: &str, source: &str, range: Range<usize>) -> String {
    let start = (0..=range.start.min(source.len())).rev().find(|at| source.is_char_boundary(*at)).unwrap_or(0);
    let (before, behind) = source.split_at(start);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line_end = behind.find('\n').map_or(source.len(), |at| start + at);
    let line = source.get(line_start..line_end).unwrap_or_default();
    let column = source.get(line_start..start).unwrap_or_default().chars().count();
    let end = range.end.clamp(start, line_end);
    let width = source.get(start..end).map_or(1, |text| text.chars().count()).max(1);
    let width = width.min(line.chars().count().saturating_sub(column).max(1));
    format!("{}\n  | {}\n  | {}{}", print::clean(message), print::clean(line), " ".repeat(column), "^".repeat(width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_stand_below_what_is_wrong() {
        let (message, range) = compile("steps.a.output | lenght").unwrap_err();
        assert_eq!(
            pointed(&message, "steps.a.output | lenght", range),
            "there is no filter `lenght`; did you mean `length`?\n  | steps.a.output | lenght\n  |                  ^^^^^^"
        );
        assert_eq!(pointed("m", "a\nbä c", 6..7), "m\n  | bä c\n  |    ^");
        assert_eq!(pointed("m", "ab", 9..12), "m\n  | ab\n  |   ^");
    }
}
