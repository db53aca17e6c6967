//! The steps of two versions: which are the same, which are new, gone or have another name, and what waits for what.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use super::finding::Area;
use super::finding::Findings;
use super::finding::Weight;
use super::step;
use super::words::and;
use super::words::written;
use crate::model::Effect;
use crate::model::Phase;
use crate::model::Value;
use crate::pipeline::Graph;
use crate::pipeline::Pipeline;
use crate::pipeline::Step;

/// The name of the node that asks people.
const APPROVAL: &str = "approval.request";
/// Steps are taken for one under another name from this likeness on, in parts of a hundred.
const LIKE: usize = 60;

/// The child pipelines that both versions of a step have.
pub(super) type Children = Vec<(Arc<str>, Arc<Pipeline>, Arc<Pipeline>)>;

/// Compares the steps of a phase.
pub(super) fn compare(phase: Phase, old: &Graph, new: &Graph, findings: &mut Findings) -> Children {
    let name = |id: &str| if phase == Phase::Main { id.to_owned() } else { format!("{}/{id}", phase.name()) };
    let renamed = renamed(old, new);
    let mut children = Vec::new();
    for step in in_order(old) {
        let now = match new.step(&step.id) {
            Some(now) => now,
            None => match renamed.get(&step.id).and_then(|id| new.step(id)) {
                Some(now) => {
                    called_anew(step, now, &name(&now.id), findings);
                    now
                }
                None => {
                    gone(step, &name(&step.id), findings);
                    continue;
                }
            },
        };
        let shown = name(&now.id);
        step::compare(step, now, &shown, findings);
        dependencies((old, step), (new, now), &renamed, &shown, findings);
        if let (Some(old), Some(new)) = (&step.child, &now.child)
            && !new.composite
        {
            children.push((Arc::from(shown), old.clone(), new.clone()));
        }
    }
    for step in in_order(new) {
        let known = old.step(&step.id).is_some() || renamed.values().any(|id| *id == step.id);
        if !known {
            added((new, step), &name(&step.id), findings);
        }
    }
    children
}

/// Returns the steps by name, so that the order in a file changes nothing.
fn in_order(graph: &Graph) -> Vec<&Step> {
    let mut steps: Vec<_> = graph.steps.iter().collect();
    steps.sort_by(|one, other| one.id.cmp(&other.id));
    steps
}

/// Finds steps that are gone and come back under another name, the likest first.
fn renamed(old: &Graph, new: &Graph) -> HashMap<Arc<str>, Arc<str>> {
    let gone = in_order(old).into_iter().filter(|step| new.step(&step.id).is_none());
    let come: Vec<_> = in_order(new).into_iter().filter(|step| old.step(&step.id).is_none()).collect();
    let mut pairs: Vec<(usize, &Step, &Step)> = Vec::new();
    for step in gone {
        pairs.extend(come.iter().map(|other| (likeness(step, other), step, *other)));
    }
    pairs.retain(|(likeness, ..)| *likeness >= LIKE);
    pairs.sort_by(|one, other| (other.0, &one.1.id, &one.2.id).cmp(&(one.0, &other.1.id, &other.2.id)));
    let mut found: HashMap<Arc<str>, Arc<str>> = HashMap::new();
    for (_, step, other) in pairs {
        if !found.contains_key(&step.id) && !found.values().any(|id| *id == other.id) {
            found.insert(step.id.clone(), other.id.clone());
        }
    }
    found
}

/// Says how much of two steps is equal, in parts of a hundred.
fn likeness(old: &Step, new: &Step) -> usize {
    if old.node.name() != new.node.name() {
        return 0;
    }
    let (mut before, mut after) = (Vec::new(), Vec::new());
    leaves("", &written(&old.with), &mut before);
    leaves("", &written(&new.with), &mut after);
    let shared = before.iter().filter(|leaf| after.contains(leaf)).count();
    let all = before.len().max(after.len());
    // Two steps that say nothing are alike in nothing but their node.
    (shared * 100).checked_div(all).unwrap_or(LIKE)
}

fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Map(map) => map.iter().for_each(|(key, value)| leaves(&format!("{path}.{key}"), value, found)),
        other => found.push(format!("{path}={other}")),
    }
}

fn called_anew(old: &Step, new: &Step, name: &str, findings: &mut Findings) {
    let text = format!("step `{}` is called `{}`", old.id, new.id);
    if old.effect.is_write() && old.key.is_none() {
        // Effects bear the names of their steps: by default that is the key by which the remote knows them.
        let text = format!("{text}, and with it the keys of its effects: a run that is retried does them again");
        return findings.add_with(Weight::Risk, Area::Graph, Some(name), text, Vec::new());
    }
    findings.add_with(Weight::Other, Area::Graph, Some(name), text, Vec::new());
}

fn gone(step: &Step, name: &str, findings: &mut Findings) {
    let node = step.node.name();
    let (weight, area, text) = match step.effect {
        _ if node == APPROVAL => {
            (Weight::Risk, Area::Guards, format!("nobody is asked any more: step `{name}` is gone"))
        }
        Effect::Write(kind) => {
            (Weight::Effect, Area::Effects, format!("step `{name}` is gone: no {} by `{node}` any more", kind.name()))
        }
        Effect::Pure if node == "assert.that" => (Weight::Risk, Area::Guards, format!("the check `{name}` is gone")),
        _ => (Weight::Other, Area::Graph, format!("step `{name}` ({node}) is gone")),
    };
    findings.add_with(weight, area, Some(name), text, Vec::new());
}

fn added((graph, step): (&Graph, &Step), name: &str, findings: &mut Findings) {
    let node = step.node.name();
    let (weight, area, text) = match step.effect {
        Effect::Write(kind) => {
            let mut text = format!("step `{name}` is new and changes the world: {} by `{node}`", kind.name());
            if step.for_each.is_some() {
                text.push_str(", once for each item");
            }
            if step.undo.is_none() && !step.irreversible {
                text.push_str(", and has no `undo`");
            }
            (Weight::Risk, Area::Effects, text)
        }
        Effect::PaidRead => {
            (Weight::Risk, Area::Effects, format!("step `{name}` is new: each call of `{node}` costs money"))
        }
        _ => (Weight::Other, Area::Graph, format!("step `{name}` ({node}) is new")),
    };
    let fields = if step.effect.is_write() { step::fields(&written(&step.with)) } else { Vec::new() };
    findings.add_with(weight, area, Some(name), text, fields);
    if step.effect.is_write() && !asked(graph, step).is_empty() {
        let by: Vec<_> = asked(graph, step).iter().map(|id| format!("`{id}`")).collect();
        let text = format!("it waits for the approval {}", and(&by));
        findings.add_with(Weight::Other, Area::Guards, Some(name), text, Vec::new());
    }
}

/// Compares what a step waits for.
fn dependencies(
    (old, before): (&Graph, &Step),
    (new, now): (&Graph, &Step),
    renamed: &HashMap<Arc<str>, Arc<str>>,
    name: &str,
    findings: &mut Findings,
) {
    let current = |id: &Arc<str>| renamed.get(id).unwrap_or(id).clone();
    let needs = |graph: &Graph, step: &Step| -> BTreeSet<Arc<str>> {
        step.needs.iter().filter_map(|index| graph.steps.get(*index)).map(|step| step.id.clone()).collect()
    };
    let was: BTreeSet<Arc<str>> = needs(old, before).iter().map(current).collect();
    let is = needs(new, now);
    let quoted = |ids: Vec<&Arc<str>>| and(&ids.into_iter().map(|id| format!("`{id}`")).collect::<Vec<_>>());
    let (less, more): (Vec<_>, Vec<_>) = (was.difference(&is).collect(), is.difference(&was).collect());
    if before.effect.is_write() || now.effect.is_write() {
        let asked_before: BTreeSet<Arc<str>> = asked(old, before).iter().map(current).collect();
        let asked_now = asked(new, now);
        let free: Vec<_> = asked_before.difference(&asked_now).collect();
        if !free.is_empty() {
            let text = format!("step `{name}` does not wait for the approval {} any more", quoted(free));
            findings.add_with(Weight::Risk, Area::Guards, Some(name), text, Vec::new());
        }
    }
    if !less.is_empty() {
        // A step that is gone cannot be waited for.
        let there: Vec<_> = less.into_iter().filter(|id| new.index.contains_key(*id)).collect();
        if !there.is_empty() {
            let text = format!("step `{name}` does not wait for {} any more", quoted(there));
            let weight = if now.effect.is_write() { Weight::Effect } else { Weight::Other };
            findings.add_with(weight, Area::Graph, Some(name), text, Vec::new());
        }
    }
    if !more.is_empty() {
        let text = format!("step `{name}` waits for {}", quoted(more));
        findings.add_with(Weight::Other, Area::Graph, Some(name), text, Vec::new());
    }
}

/// Finds the approvals that a step waits for, however far above.
fn asked(graph: &Graph, step: &Step) -> BTreeSet<Arc<str>> {
    let (mut found, mut open, mut seen) = (BTreeSet::new(), step.needs.clone(), BTreeSet::new());
    while let Some(index) = open.pop() {
        let Some(above) = graph.steps.get(index).filter(|_| seen.insert(index)) else { continue };
        if above.node.name() == APPROVAL {
            found.insert(above.id.clone());
        }
        open.extend(&above.needs);
    }
    found
}
