//! What no pipeline shows by itself: triggers of several that exclude each other.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;

use super::Pipeline;
use super::Trigger;
use super::TriggerKind;
use crate::diag::Code;
use crate::diag::Diagnostic;

/// What is wrong between the pipelines of a project.
#[derive(Debug, Default)]
pub struct Conflicts {
    pub diagnostics: Vec<Diagnostic>,
    /// The pipelines that cannot be active together with the others.
    pub pipelines: BTreeSet<Arc<str>>,
}

/// Finds triggers that exclude each other: two at one path, and pipelines that start one another in a circle.
#[must_use]
pub fn conflicts<'p>(pipelines: impl IntoIterator<Item = &'p Arc<Pipeline>>) -> Conflicts {
    let pipelines: BTreeMap<&str, &Arc<Pipeline>> =
        pipelines.into_iter().map(|pipeline| (&*pipeline.name, pipeline)).collect();
    let mut conflicts = Conflicts::default();
    paths(&pipelines, &mut conflicts);
    circles(&pipelines, &mut conflicts);
    conflicts
}

fn enabled(pipeline: &Pipeline) -> impl Iterator<Item = &Trigger> {
    pipeline.triggers.iter().filter(|trigger| trigger.enabled)
}

fn paths(pipelines: &BTreeMap<&str, &Arc<Pipeline>>, conflicts: &mut Conflicts) {
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for pipeline in pipelines.values() {
        for trigger in enabled(pipeline) {
            let TriggerKind::Webhook(webhook) = &trigger.kind else { continue };
            let Some(first) = taken.get(&*webhook.path) else {
                taken.insert(&webhook.path, &pipeline.name);
                continue;
            };
            let whose = if *first == &*pipeline.name {
                "another trigger of it has it".to_owned()
            } else {
                format!("pipeline `{first}` has it")
            };
            let message = format!("the path `{}` is taken: {whose}", webhook.path);
            conflicts.diagnostics.push(
                Diagnostic::error(Code::DuplicateWebhook, trigger.span.clone(), message)
                    .with_help("give each webhook a path of its own"),
            );
            conflicts.pipelines.insert(pipeline.name.clone());
        }
    }
}

/// By pipeline those that it runs after, with the trigger that says so.
type AfterGraph<'p> = BTreeMap<&'p str, BTreeMap<&'p str, &'p Trigger>>;

fn circles(pipelines: &BTreeMap<&str, &Arc<Pipeline>>, conflicts: &mut Conflicts) {
    let mut graph = AfterGraph::new();
    for (name, pipeline) in pipelines {
        for trigger in enabled(pipeline) {
            if let TriggerKind::After(after) = &trigger.kind
                && pipelines.contains_key(&*after.pipeline)
            {
                graph.entry(name).or_default().entry(&after.pipeline).or_insert(trigger);
            }
        }
    }
    let mut told = BTreeSet::new();
    for (first, others) in &graph {
        let Some(names) = shortest(&graph, first).filter(|_| !told.contains(first)) else { continue };
        let Some(trigger) = names.get(1).and_then(|next| others.get(next)) else { continue };
        let circle = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" after ");
        let message = format!("pipelines start one another in a circle: {circle}");
        conflicts.diagnostics.push(
            Diagnostic::error(Code::TriggerCycle, trigger.span.clone(), message)
                .with_help("take one `after` away, or start one of them by time"),
        );
        conflicts.pipelines.extend(names.iter().filter_map(|name| Some(pipelines.get(name)?.name.clone())));
        told.extend(names);
    }
}

/// Finds the shortest way from a pipeline back to itself; the pipeline stands at both ends.
fn shortest<'p>(graph: &AfterGraph<'p>, first: &'p str) -> Option<Vec<&'p str>> {
    let mut came_from: BTreeMap<&str, &'p str> = BTreeMap::new();
    let mut open = VecDeque::from([first]);
    while let Some(at) = open.pop_front() {
        for next in graph.get(at).into_iter().flat_map(BTreeMap::keys).copied() {
            if next == first {
                let mut names = vec![first];
                let mut back = at;
                while back != first {
                    names.push(back);
                    back = came_from.get(back)?;
                }
                names.push(first);
                names.reverse();
                return Some(names);
            }
            if !came_from.contains_key(next) {
                came_from.insert(next, at);
                open.push_back(next);
            }
        }
    }
    None
}
