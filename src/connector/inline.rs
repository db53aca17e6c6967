//! Operations made of steps, run here and now: for reads that others ask within a call, as `reconcile` does.
//!
//! A step of a pipeline that uses such an operation runs it as a child, step by step in the journal; this is for what
//! has no effect and needs no memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::call::Means;
use super::call::Stop;
use super::call::checked_input;
use super::judge::Failure;
use super::manifest::Act;
use super::manifest::Operation;
use super::read;
use super::render;
use super::runtime::Link;
use crate::model::Duration;
use crate::model::ErrorClass;
use crate::model::StepState;
use crate::model::Value;
use crate::template::Lookup;
use crate::template::Scope;
use crate::template::StepView;
use crate::template::Template;
use crate::yaml::Tree;

/// How many rounds an `until` may take where it does not say.
const ROUNDS: u32 = 1_000;

/// Calls an operation, of whatever it is made, and returns its output.
///
/// # Errors
/// Those of its requests.
pub(super) async fn output(
    link: &Link,
    means: &Means<'_>,
    operation: &Arc<Operation>,
    input: &Value,
) -> Result<Value, Stop> {
    match &operation.act {
        Act::Steps { .. } => run_whole(link, means, operation, input).await,
        _ => read::output(link, means, operation, input).await,
    }
}

/// Runs the steps of an operation, one after the other in the order of their needs: what it reads, or, for the contract
/// suite, what it would write.
///
/// # Errors
/// Those of its steps.
pub(super) fn run_whole<'a>(
    link: &'a Link,
    means: &'a Means<'a>,
    operation: &'a Arc<Operation>,
    input: &'a Value,
) -> std::pin::Pin<Box<dyn Future<Output = Result<Value, Stop>> + Send + 'a>> {
    Box::pin(async move {
        let Act::Steps { steps, output } = &operation.act else {
            return Err(Failure::invalid("the operation is not made of steps").into());
        };
        let input = checked_input(link, operation, input.clone(), means)?;
        let mut roots = link.settings();
        roots.push(("input", input));
        let mut done: BTreeMap<String, Value> = BTreeMap::new();
        let mut last = Value::Null;
        let scope = |done: &BTreeMap<String, Value>| Scope {
            lookup: Arc::new(Ended(done.clone())),
            ..link.scope(means, roots.clone())
        };
        for (name, step) in ordered(steps)? {
            if let Some(output) = run_step(link, means, step, scope(&done)).await? {
                done.insert(name.to_owned(), output.clone());
                last = output;
            }
        }
        let Some(output) = output else { return Ok(last) };
        Ok(evaluated(output, &scope(&done))?)
    })
}

/// The steps that have ended, as expressions see them.
#[derive(Debug)]
struct Ended(BTreeMap<String, Value>);

impl Lookup for Ended {
    fn step(&self, id: &str) -> Option<StepView> {
        // A step that was skipped, or has not run, gave nothing.
        let output = self.0.get(id).cloned().unwrap_or_default();
        Some(StepView { output, state: StepState::Succeeded, error: None })
    }

    fn secret(&self, name: &str) -> Result<Value, String> {
        Err(format!("there is no secret `{name}`"))
    }
}

/// Orders the steps so that each stands behind those that it reads or needs.
fn ordered(steps: &Tree) -> Result<Vec<(&str, &Tree)>, Failure> {
    let mut left: Vec<(&str, &Tree)> = steps.entries().iter().map(|entry| (&*entry.key, &entry.value)).collect();
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let names: Vec<&str> = left.iter().map(|(name, _)| *name).collect();
        let free = left.iter().position(|(name, step)| !names.iter().any(|other| other != name && needs(step, other)));
        let Some(free) = free else { return Err(Failure::invalid("the steps wait for one another")) };
        order.push(left.remove(free));
    }
    Ok(order)
}

fn needs(step: &Tree, other: &str) -> bool {
    let named = step.get("needs").map(Tree::items).unwrap_or_default();
    named.iter().any(|item| item.as_text() == Some(other)) || reads(step, other)
}

fn reads(tree: &Tree, other: &str) -> bool {
    match tree.as_text() {
        Some(text) => {
            text.contains("steps")
                && Template::parse_lenient(text).is_ok_and(|template| {
                    template
                        .references()
                        .iter()
                        .any(|it| matches!(it.path.as_slice(), [root, id, ..] if &**root == "steps" && &**id == other))
                })
        }
        None => {
            tree.items().iter().any(|item| reads(item, other))
                || tree.entries().iter().any(|entry| reads(&entry.value, other))
        }
    }
}

/// Runs a step; nothing where its `when` does not hold.
async fn run_step(link: &Link, means: &Means<'_>, step: &Tree, scope: Scope) -> Result<Option<Value>, Stop> {
    if let Some(when) = step.get("when")
        && !evaluated(when, &scope)?.is_truthy()
    {
        return Ok(None);
    }
    let Some(each) = step.get("for_each") else { return rounds(link, means, step, scope).await.map(Some) };
    let items = match evaluated(each, &scope)? {
        Value::List(items) => items,
        Value::Null => Arc::default(),
        other => return Err(Failure::invalid(format!("`for_each` gives {}", other.kind().name())).into()),
    };
    let mut outputs: Vec<Value> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let mut scope = scope.clone();
        scope.locals.push(("item", item.clone()));
        scope.locals.push(("index", Value::Int(i128::try_from(index).unwrap_or(0))));
        scope.locals.push(("previous", outputs.last().cloned().unwrap_or_default()));
        outputs.push(rounds(link, means, step, scope).await?);
    }
    Ok(Some(Value::list(outputs)))
}

async fn rounds(link: &Link, means: &Means<'_>, step: &Tree, scope: Scope) -> Result<Value, Stop> {
    let until = step.get("until");
    let limit = until.and_then(|until| until.get("limit")?.as_text()?.parse::<u32>().ok()).unwrap_or(ROUNDS);
    let mut previous = Value::Null;
    for _ in 0..limit {
        let mut scope = scope.clone();
        if until.is_some() {
            scope.locals.push(("previous", previous.clone()));
        }
        let output = once(link, means, step, &scope).await?;
        let Some(until) = until else { return Ok(output) };
        scope.locals.push(("output", output.clone()));
        let holds = until.get("holds").map(|holds| evaluated(holds, &scope)).transpose()?;
        if holds.is_none_or(|holds| holds.is_truthy()) {
            return Ok(output);
        }
        let every = until.get("every").map(|every| evaluated(every, &scope)).transpose()?;
        pause(means, every.as_ref()).await?;
        previous = output;
    }
    let message = format!("`until` did not hold within {limit} rounds");
    Err(Failure { class: ErrorClass::Timeout, ..Failure::invalid(message) }.into())
}

async fn once(link: &Link, means: &Means<'_>, step: &Tree, scope: &Scope) -> Result<Value, Stop> {
    let name = step.get("uses").and_then(Tree::as_text).unwrap_or_default();
    let with = match step.get("with") {
        Some(with) => written(with, scope)?,
        None => Value::map::<&str>([]),
    };
    if name == "wait" {
        pause(means, with.get("for")).await?;
        return Ok(Value::Null);
    }
    let operation = link.manifest.operation(name)?;
    output(link, means, operation, &with).await
}

async fn pause(means: &Means<'_>, length: Option<&Value>) -> Result<(), Stop> {
    let length = match length {
        Some(Value::Duration(length)) => *length,
        Some(Value::String(text)) => text.parse().map_err(|_| Failure::invalid(format!("`{text}` is no duration")))?,
        _ => Duration::ZERO,
    };
    let clock = &means.system.clock;
    let until = clock.now().plus(length);
    tokio::select! {
        () = clock.sleep_until(until) => Ok(()),
        () = means.canceled.cancelled() => {
            Err(Failure { class: ErrorClass::Canceled, ..Failure::invalid("canceled") }.into())
        }
    }
}

fn compiled(tree: &Tree) -> crate::template::TemplateTree {
    super::notes::Notes::new("".into()).tree(tree)
}

fn evaluated(tree: &Tree, scope: &Scope) -> Result<Value, Failure> {
    Ok(render::output(&compiled(tree), scope)?)
}

fn written(tree: &Tree, scope: &Scope) -> Result<Value, Failure> {
    Ok(render::written(&compiled(tree), scope)?.unwrap_or_else(|| Value::map::<&str>([])))
}
