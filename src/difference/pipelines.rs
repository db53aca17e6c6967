//! Two versions of a pipeline, as a careful colleague would tell what is new: what is risky first.

use std::sync::Arc;

use super::finding::Area;
use super::finding::Finding;
use super::finding::Findings;
use super::finding::Weight;
use super::graph;
use super::schedule;
use super::texts;
use super::words::from_to;
use super::words::shown;
use super::words::source;
use super::words::written;
use crate::model::Duration;
use crate::model::Phase;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::parse_json;
use crate::pipeline::Guard;
use crate::pipeline::Input;
use crate::pipeline::Lock;
use crate::pipeline::Pipeline;

/// Child pipelines are compared down to this depth.
const DEEPEST: usize = 8;

/// Compares two versions of a pipeline. Firings are looked at from `now` on.
///
/// What is found has a fixed order: by weight, then area, then as it stands in the files. Comments, the order of keys and
/// of steps, and quoting are no difference.
#[must_use]
pub fn compare(old: &Arc<Pipeline>, new: &Arc<Pipeline>, now: Timestamp) -> Vec<Finding> {
    let mut findings = Findings::default();
    whole(old, new, now, 0, &mut findings);
    let mut all = findings.all;
    all.sort_by_key(|finding| (finding.weight, finding.area));
    all
}

fn whole(old: &Arc<Pipeline>, new: &Arc<Pipeline>, now: Timestamp, depth: usize, findings: &mut Findings) {
    if old.version == new.version {
        return;
    }
    if old.name != new.name {
        let text = format!("the pipeline is called `{}` instead of `{}`", new.name, old.name);
        findings.add(Weight::Other, Area::Graph, text);
    }
    inputs(old, new, findings);
    schedule::compare(old, new, now, findings);
    guards(&old.guards_before, &new.guards_before, "before", findings);
    guards(&old.guards_after, &new.guards_after, "after", findings);
    limits(old, new, findings);
    let children = [
        graph::compare(Phase::Main, &old.main, &new.main, findings),
        graph::compare(Phase::OnFailure, &old.on_failure, &new.on_failure, findings),
        graph::compare(Phase::Finally, &old.finally, &new.finally, findings),
    ];
    outputs(old, new, findings);
    definitions(old, new, findings);
    for (step, old, new) in children.into_iter().flatten() {
        if old.version == new.version || depth >= DEEPEST {
            continue;
        }
        let mut inner = Findings::within(format!("{}{step} > ", findings.prefix()));
        whole(&old, &new, now, depth + 1, &mut inner);
        findings.all.extend(inner.all);
    }
}

fn inputs(old: &Pipeline, new: &Pipeline, findings: &mut Findings) {
    let find = |all: &[Input], name: &str| all.iter().find(|input| *input.name == *name).cloned();
    for input in &old.inputs {
        let name = &input.name;
        let Some(other) = find(&new.inputs, name) else {
            let text = format!("input `{name}` is gone: whoever gives it is refused");
            findings.add(Weight::Risk, Area::Inputs, text);
            continue;
        };
        if input.kind != other.kind {
            let (old, new) = (kind(input), kind(&other));
            findings.add(Weight::Risk, Area::Inputs, format!("input `{name}` is of type {new} instead of {old}"));
        }
        match (input.required, other.required) {
            (false, true) => {
                let text = format!("input `{name}` must be given now: it has no default any more");
                findings.add(Weight::Risk, Area::Inputs, text);
            }
            (true, false) => {
                let text = format!("input `{name}` may be left out now{}", default(&other));
                findings.add(Weight::Other, Area::Inputs, text);
            }
            _ if input.default != other.default => {
                let side = |value: &Option<Value>| value.as_ref().map_or_else(|| "`null`".to_owned(), shown);
                let text =
                    format!("the default of input `{name}`: {} → {}", side(&input.default), side(&other.default));
                findings.add(Weight::Effect, Area::Inputs, text);
            }
            _ => {}
        }
        let bounds = |input: &Input| {
            let mut schema = input.schema.clone();
            if let Some(schema) = schema.as_object_mut() {
                ["type", "default", "description"].iter().for_each(|key| drop(schema.remove(*key)));
            }
            schema
        };
        if bounds(input) != bounds(&other) {
            let text = format!(
                "what input `{name}` may be: {}",
                from_to(&bounds(input).to_string(), &bounds(&other).to_string())
            );
            findings.add(Weight::Effect, Area::Inputs, text);
        }
    }
    for input in new.inputs.iter().filter(|input| find(&old.inputs, &input.name).is_none()) {
        if input.required {
            let text = format!("input `{}` is new and must be given: triggers and callers have to know it", input.name);
            findings.add(Weight::Risk, Area::Inputs, text);
        } else {
            let text = format!("input `{}` is new{}", input.name, default(input));
            findings.add(Weight::Other, Area::Inputs, text);
        }
    }
}

fn kind(input: &Input) -> String {
    format!("{:?}", input.kind).to_lowercase()
}

fn default(input: &Input) -> String {
    input.default.as_ref().map_or_else(String::new, |value| format!(", by default {}", shown(value)))
}

fn guards(old: &[Guard], new: &[Guard], when: &str, findings: &mut Findings) {
    let that = |guard: &Guard| source(Some(&guard.that)).unwrap_or_default();
    let has = |all: &[Guard], wanted: &Guard| all.iter().any(|guard| that(guard) == that(wanted));
    for guard in old.iter().filter(|guard| !has(new, guard)) {
        let text = format!("the guard `{}` {when} the run is gone", that(guard));
        findings.add(Weight::Risk, Area::Guards, text);
    }
    for guard in new.iter().filter(|guard| !has(old, guard)) {
        let text = format!("a guard {when} the run is new: `{}`", that(guard));
        findings.add(Weight::Effect, Area::Guards, text);
    }
}

fn limits(old: &Pipeline, new: &Pipeline, findings: &mut Findings) {
    let length = |length: Option<Duration>| length.map_or_else(|| "none".to_owned(), |length| length.to_string());
    let mut tell = |what: &str, old: String, new: String| {
        if old != new {
            // Without a bound something can go on that could not before.
            let weight = if new == "none" { Weight::Risk } else { Weight::Effect };
            findings.add(weight, Area::Limits, format!("{what} of the run: {old} → {new}"));
        }
    };
    tell("`timeout`", length(old.timeout), length(new.timeout));
    tell("`deadline`", length(old.deadline), length(new.deadline));
    let concurrency = |pipeline: &Pipeline| {
        pipeline.concurrency.as_ref().map_or_else(
            || "none".to_owned(),
            |limit| {
                let key = source(limit.key.as_ref()).map(|key| format!(" for each `{key}`")).unwrap_or_default();
                format!("{}{key}, then {}", limit.limit, format!("{:?}", limit.when_full).to_lowercase())
            },
        )
    };
    tell("`concurrency`", concurrency(old), concurrency(new));
    tell("`locks`", locks(&old.locks), locks(&new.locks));
    let number = |number: usize| number.to_string();
    tell("`max_parallel`", number(old.max_parallel), number(new.max_parallel));
    tell("`priority`", old.priority.to_string(), new.priority.to_string());
    if old.durability != new.durability {
        let word = |pipeline: &Pipeline| format!("{:?}", pipeline.durability).to_lowercase();
        tell("`durability`", word(old), word(new));
    }
}

/// Names locks with their limits.
pub(super) fn locks(locks: &[Lock]) -> String {
    if locks.is_empty() {
        return "none".to_owned();
    }
    let mut names: Vec<_> = locks
        .iter()
        .map(|lock| {
            let name = source(Some(&lock.name)).unwrap_or_default();
            if lock.limit == 1 { format!("`{name}`") } else { format!("`{name}` ({})", lock.limit) }
        })
        .collect();
    names.sort();
    names.join(", ")
}

fn outputs(old: &Pipeline, new: &Pipeline, findings: &mut Findings) {
    for (name, tree) in &old.outputs {
        match new.outputs.iter().find(|(other, _)| other == name) {
            None => {
                let text = format!("output `{name}` is gone: what reads it fails");
                findings.add(Weight::Risk, Area::Outputs, text);
            }
            Some((_, other)) if written(tree) != written(other) => {
                let side = |tree| super::words::bare(&text_of(&written(tree))).to_owned();
                let text = format!("output `{name}`: {}", from_to(&side(tree), &side(other)));
                findings.add(Weight::Effect, Area::Outputs, text);
            }
            Some(_) => {}
        }
    }
    for (name, _) in new.outputs.iter().filter(|(name, _)| !old.outputs.iter().any(|(other, _)| other == name)) {
        findings.add(Weight::Other, Area::Outputs, format!("output `{name}` is new"));
    }
}

/// Returns a text as it is, anything else as JSON.
pub(super) fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Compares what definitions hold beside the pipeline's own text: prompts, and the manifests of connectors.
fn definitions(old: &Pipeline, new: &Pipeline, findings: &mut Findings) {
    let (old, new) = (parse_json(&old.definition).unwrap_or_default(), parse_json(&new.definition).unwrap_or_default());
    let entries =
        |definition: &Value, key: &str| definition.get(key).and_then(Value::as_map).cloned().unwrap_or_default();
    let (before, after) = (entries(&old, "prompts"), entries(&new, "prompts"));
    for (path, text) in &before {
        match after.get(path) {
            None => findings.add(Weight::Other, Area::Prompts, format!("the prompt `{path}` is not used any more")),
            Some(other) if other != text => {
                let details = texts::lines(&text.to_text(), &other.to_text());
                let what = format!("the prompt `{path}` says something else");
                findings.add_with(Weight::Effect, Area::Prompts, None, what, details);
            }
            Some(_) => {}
        }
    }
    for (path, _) in after.iter().filter(|(path, _)| !before.contains_key(*path)) {
        findings.add(Weight::Effect, Area::Prompts, format!("the prompt `{path}` is new"));
    }
    let (before, after) = (entries(&old, "connectors"), entries(&new, "connectors"));
    for (name, kept) in &before {
        let text = |kept: &Value| kept.get("text").map(Value::to_text).unwrap_or_default();
        if let Some(other) = after.get(name).filter(|other| text(other) != text(kept)) {
            let details = texts::lines(&text(kept), &text(other));
            let what = format!("the manifest of connector `{name}` is another");
            findings.add_with(Weight::Effect, Area::Effects, None, what, details);
        }
    }
}
