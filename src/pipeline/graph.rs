//! From steps and what they need to a graph without loops.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use petgraph::algo::tarjan_scc;
use petgraph::algo::toposort;
use petgraph::graph::DiGraph;
use petgraph::graph::NodeIndex;

use super::Graph;
use super::OnError;
use super::Step;
use super::compile::Compiler;
use crate::diag::Code;
use crate::diag::Span;

/// Builds the graph of a phase. `outer` are steps of an earlier phase, which have ended by then.
pub(super) fn build(compiler: &mut Compiler<'_>, steps: Vec<(Step, Vec<(String, Span)>)>, outer: &[String]) -> Graph {
    let places: HashMap<Arc<str>, usize> =
        steps.iter().enumerate().map(|(index, (step, _))| (step.id.clone(), index)).collect();
    let mut written: DiGraph<usize, Span> = DiGraph::new();
    let nodes: Vec<NodeIndex> = (0..steps.len()).map(|index| written.add_node(index)).collect();
    for (index, (_, needs)) in steps.iter().enumerate() {
        let mut seen = BTreeSet::new();
        for (need, span) in needs {
            if outer.contains(need) {
                continue;
            }
            let Some(from) = places.get(need.as_str()) else { continue };
            if let (true, Some(from), Some(to)) = (seen.insert(*from), nodes.get(*from), nodes.get(index)) {
                written.add_edge(*from, *to, span.clone());
            }
        }
    }
    let Ok(order) = toposort(&written, None) else {
        tell_loops(compiler, &written, &steps);
        return Graph::default();
    };
    // Steps in an order in which each stands behind what it needs; among equals as written.
    let position: HashMap<usize, usize> =
        order.iter().enumerate().filter_map(|(place, node)| Some((*written.node_weight(*node)?, place))).collect();
    let mut dag = DiGraph::with_capacity(steps.len(), written.edge_count());
    let indexes: Vec<NodeIndex> = (0..steps.len()).map(|index| dag.add_node(index)).collect();
    let mut needs = vec![Vec::new(); steps.len()];
    for edge in written.raw_edges() {
        let from = written.node_weight(edge.source()).and_then(|old| position.get(old));
        let to = written.node_weight(edge.target()).and_then(|old| position.get(old));
        if let (Some(from), Some(to)) = (from, to) {
            if let (Some(a), Some(b)) = (indexes.get(*from), indexes.get(*to)) {
                dag.add_edge(*a, *b, ());
            }
            if let Some(list) = needs.get_mut(*to) {
                list.push(*from);
            }
        }
    }
    let mut placed: Vec<(usize, Step)> =
        steps.into_iter().enumerate().filter_map(|(old, (step, _))| Some((*position.get(&old)?, step))).collect();
    placed.sort_by_key(|(place, _)| *place);
    let mut steps: Vec<Step> = placed.into_iter().map(|(_, step)| step).collect();
    for (step, mut list) in steps.iter_mut().zip(needs) {
        list.sort_unstable();
        step.needs = list;
    }
    warn_behind_irreversible(compiler, &steps);
    let index = steps.iter().enumerate().map(|(index, step)| (step.id.clone(), index)).collect();
    Graph { steps, dag, index }
}

fn tell_loops(compiler: &mut Compiler<'_>, written: &DiGraph<usize, Span>, steps: &[(Step, Vec<(String, Span)>)]) {
    let name = |node: NodeIndex| {
        written.node_weight(node).and_then(|index| steps.get(*index)).map(|(step, _)| step.id.to_string())
    };
    for component in tarjan_scc(written).into_iter().filter(|component| component.len() > 1) {
        // Walk along edges that stay inside until a step comes again: that is one whole loop.
        let Some(mut at) = component.iter().copied().min() else { continue };
        let mut walked = vec![at];
        let mut place = None;
        loop {
            let next = written.edges(at).find(|edge| component.contains(&petgraph::visit::EdgeRef::target(edge)));
            let Some(next) = next else { break };
            place = Some(next.weight().clone());
            at = petgraph::visit::EdgeRef::target(&next);
            if let Some(start) = walked.iter().position(|node| *node == at) {
                walked.drain(..start);
                break;
            }
            walked.push(at);
        }
        walked.push(at);
        // An edge leads from what is needed to what needs it; people read "a needs b".
        let names: Vec<String> =
            walked.iter().rev().filter_map(|node| name(*node)).map(|id| format!("`{id}`")).collect();
        if let Some(place) = place {
            compiler
                .error(Code::DependencyCycle, &place, format!("the steps wait for each other: {}", names.join(" → ")))
                .help = Some("each needs the next; take one of them away".to_owned());
        }
    }
}

/// Warns where a step behind an irreversible one can fail: the run can then not go back.
fn warn_behind_irreversible(compiler: &mut Compiler<'_>, steps: &[Step]) {
    let mut behind = vec![None; steps.len()];
    let mut found = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let cause = step.needs.iter().find_map(|need| {
            let before = steps.get(*need)?;
            if before.irreversible { Some(before.id.clone()) } else { behind.get(*need).cloned().flatten() }
        });
        if let (Some(cause), OnError::Fail) = (&cause, &step.on_error) {
            found.push((step.id.clone(), cause.clone()));
        }
        if let Some(place) = behind.get_mut(index) {
            *place = cause;
        }
    }
    for (id, cause) in found {
        let span = compiler.step_spans.get(&*id).cloned();
        if let Some(span) = span {
            let message =
                format!("step `{id}` can fail behind the irreversible step `{cause}`: the run could then not go back");
            compiler.warning(Code::FailsBehindIrreversible, &span, message).help =
                Some("give it `on_error`, or accept that a person decides".to_owned());
        }
    }
}
