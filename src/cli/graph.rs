//! `pipewright graph`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use clap::ValueHint;
use clap_complete::engine::ArgValueCandidates;

use super::Exit;
use super::Global;
use super::complete;
use super::print;
use super::runs::find;
use super::validate::load_definition;
use super::validate::open_project;
use super::validate::stored_pipeline;
use crate::app::Fault;
use crate::engine::Machine;
use crate::model::Phase;
use crate::model::StepState;
use crate::pipeline::Graph as StepGraph;
use crate::pipeline::Pipeline;

/// Draws what waits for what.
#[derive(Debug, Args)]
pub(super) struct Graph {
    /// A file, or the name of a pipeline; not needed with `--run`.
    #[arg(value_name = "FILE|NAME", required_unless_present = "run", value_hint = ValueHint::FilePath)]
    #[arg(add = ArgValueCandidates::new(complete::pipelines))]
    target: Option<String>,
    /// How it is drawn.
    #[arg(long, value_enum, default_value = "mermaid")]
    format: Format,
    /// Color the steps by what they came to in this run.
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::runs))]
    run: Option<String>,
    /// Write to a file instead of stdout.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Mermaid,
    Dot,
    Svg,
}

type States = BTreeMap<usize, StepState>;

/// One phase of a pipeline, with what its steps came to.
struct Part<'p> {
    /// The key of the file; nothing for the main steps.
    title: Option<&'static str>,
    /// Goes before the names of the steps, which may be the same in two phases.
    prefix: &'static str,
    graph: &'p StepGraph,
    states: States,
}

/// Returns the phases that have steps.
fn parts<'p>(pipeline: &'p Pipeline, machine: Option<&Machine>) -> Vec<Part<'p>> {
    let phases = [
        (Phase::Main, None, "s", &pipeline.main),
        (Phase::OnFailure, Some("on_failure"), "f", &pipeline.on_failure),
        (Phase::Finally, Some("finally"), "z", &pipeline.finally),
    ];
    let parts = phases.into_iter().filter(|(_, _, _, graph)| !graph.steps.is_empty());
    let parts = parts.map(|(phase, title, prefix, graph)| {
        let state = |step| Some((step, machine?.view(phase, step)?.state));
        Part { title, prefix, graph, states: (0..graph.steps.len()).filter_map(state).collect() }
    });
    parts.collect()
}

impl Graph {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let (pipeline, machine) = match (&self.run, &self.target) {
            (Some(run), _) => {
                let app = open_project(global).await?;
                let run = find(&app, run).await?;
                let pipeline = stored_pipeline(&app, &run.version).await?;
                let machine = Machine::replay(pipeline.clone(), &app.engine.parts().store.journal(run.id).await?);
                (pipeline, Some(machine))
            }
            (None, Some(target)) => (load_definition(global, target)?, None),
            (None, None) => return Err(Fault::Usage("name a pipeline, or a run with `--run`".to_owned())),
        };
        let parts = parts(&pipeline, machine.as_ref());
        let drawn = match self.format {
            Format::Mermaid => mermaid(&parts),
            Format::Dot => dot(&pipeline.name, &parts),
            Format::Svg => svg(&pipeline.name, &parts),
        };
        match &self.output {
            Some(path) => std::fs::write(path, drawn)?,
            None => print::data(&drawn),
        }
        Ok(Exit::Well)
    }
}

fn edges(graph: &StepGraph) -> Vec<(usize, usize)> {
    let mut edges = Vec::new();
    for (to, step) in graph.steps.iter().enumerate() {
        edges.extend(step.needs.iter().map(|from| (*from, to)));
    }
    edges
}

/// Fill and line colors of a state.
fn colors(state: Option<&StepState>) -> (&'static str, &'static str) {
    match state {
        Some(StepState::Succeeded) => ("#d1f0d9", "#1a7f37"),
        Some(StepState::Failed) => ("#ffd7d5", "#cf222e"),
        Some(StepState::Skipped) => ("#f0f0f0", "#8c959f"),
        Some(StepState::Canceled) => ("#fff1cc", "#9a6700"),
        Some(StepState::Running | StepState::Waiting) => ("#d6e8ff", "#0969da"),
        Some(StepState::Pending) | None => ("#f6f8fa", "#57606a"),
    }
}

fn mermaid(parts: &[Part<'_>]) -> String {
    let mut out = "flowchart TD\n".to_owned();
    for Part { title, prefix, graph, states } in parts {
        let margin = if title.is_some() { "        " } else { "    " };
        // Writing into a string does not fail.
        if let Some(title) = title {
            let _ = writeln!(out, "    subgraph {prefix}[{title}]");
        }
        for (index, step) in graph.steps.iter().enumerate() {
            let each = if step.for_each.is_some() { " ×n" } else { "" };
            // Steps may have names that Mermaid keeps for itself, such as `end`: so they are numbered.
            let name = step.node.name();
            let _ = writeln!(out, "{margin}{prefix}{index}[\"{}{each}<br/><small>{name}</small>\"]", step.id);
            if let Some(state) = states.get(&index) {
                let (fill, line) = colors(Some(state));
                let _ = writeln!(out, "{margin}style {prefix}{index} fill:{fill},stroke:{line}");
            }
        }
        for (from, to) in edges(graph) {
            let _ = writeln!(out, "{margin}{prefix}{from} --> {prefix}{to}");
        }
        if title.is_some() {
            out.push_str("    end\n");
        }
    }
    out
}

fn dot(name: &str, parts: &[Part<'_>]) -> String {
    let mut out =
        format!("digraph \"{name}\" {{\n    node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"];\n");
    for Part { title, prefix, graph, states } in parts {
        let margin = if title.is_some() { "        " } else { "    " };
        if let Some(title) = title {
            let _ = writeln!(out, "    subgraph \"cluster_{title}\" {{\n        label=\"{title}\";");
        }
        for (index, step) in graph.steps.iter().enumerate() {
            let (fill, line) = colors(states.get(&index));
            let (id, node) = (&step.id, step.node.name());
            let label = format!("label=\"{id}\\n{node}\", fillcolor=\"{fill}\", color=\"{line}\"");
            let _ = writeln!(out, "{margin}{prefix}{index} [{label}];");
        }
        for (from, to) in edges(graph) {
            let _ = writeln!(out, "{margin}{prefix}{from} -> {prefix}{to};");
        }
        if title.is_some() {
            out.push_str("    }\n");
        }
    }
    out.push_str("}\n");
    out
}

/// The narrowest and the widest box.
const WIDTHS: (usize, usize) = (150, 420);
const HEIGHT: usize = 48;
const GAP: (usize, usize) = (28, 52);
/// The room of a phase's name.
const HEADING: usize = 26;

/// Returns a width of boxes in which the longest name of a step has room.
fn box_width(parts: &[Part<'_>]) -> usize {
    let steps = parts.iter().flat_map(|part| &part.graph.steps);
    let widths = steps.map(|step| (step.id.chars().count() * 9).max(step.node.name().len() * 7 + 70) + 36);
    widths.max().unwrap_or(0).clamp(WIDTHS.0, WIDTHS.1)
}

/// Where the boxes of a phase stand, and how much room they take.
struct Layout {
    /// The width of a box.
    each: usize,
    places: BTreeMap<usize, (usize, usize)>,
    width: usize,
    height: usize,
}

/// Lays out layers by the longest way from a root, each ordered by the middle of what its steps need.
fn layout(graph: &StepGraph, each: usize) -> Layout {
    let mut layers: Vec<Vec<usize>> = Vec::new();
    let mut layer_of = vec![0_usize; graph.steps.len()];
    for (index, step) in graph.steps.iter().enumerate() {
        let layer = step.needs.iter().filter_map(|need| layer_of.get(*need)).max().map_or(0, |above| above + 1);
        if let Some(place) = layer_of.get_mut(index) {
            *place = layer;
        }
        if layers.len() <= layer {
            layers.resize(layer + 1, Vec::new());
        }
        if let Some(list) = layers.get_mut(layer) {
            list.push(index);
        }
    }
    let widest = layers.iter().map(Vec::len).max().unwrap_or(1);
    let width = widest * (each + GAP.0) + GAP.0;
    let height = layers.len() * (HEIGHT + GAP.1) + GAP.0;
    let mut places: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for (row, layer) in layers.iter_mut().enumerate() {
        let middle = |index: &usize| {
            let needs = graph.steps.get(*index).map(|step| step.needs.as_slice()).unwrap_or_default();
            let above: Vec<usize> = needs.iter().filter_map(|need| places.get(need)).map(|(x, _)| *x).collect();
            if above.is_empty() { width / 2 } else { above.iter().sum::<usize>() / above.len() }
        };
        layer.sort_by_key(middle);
        let left = (width - layer.len() * (each + GAP.0) + GAP.0) / 2;
        let row_places: Vec<_> = layer
            .iter()
            .enumerate()
            .map(|(column, index)| (*index, (left + column * (each + GAP.0), GAP.0 / 2 + row * (HEIGHT + GAP.1))))
            .collect();
        places.extend(row_places);
    }
    Layout { each, places, width, height }
}

/// Draws the phases one below the other.
fn svg(name: &str, parts: &[Part<'_>]) -> String {
    let each = box_width(parts);
    let layouts: Vec<Layout> = parts.iter().map(|part| layout(part.graph, each)).collect();
    let width = layouts.iter().map(|layout| layout.width).max().unwrap_or(each);
    let heading = |part: &Part<'_>| if part.title.is_some() { HEADING } else { 0 };
    let height: usize = parts.iter().zip(&layouts).map(|(part, layout)| heading(part) + layout.height).sum();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"system-ui, sans-serif\">\n\
         <title>{}</title>\n<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#8c959f\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        escape(name)
    );
    let mut top = 0;
    for (part, layout) in parts.iter().zip(&layouts) {
        if let Some(title) = part.title {
            let _ = writeln!(
                out,
                "<path d=\"M0 {top}H{width}\" stroke=\"#d0d7de\"/><text x=\"{}\" y=\"{}\" font-size=\"12\" fill=\"#57606a\">{title}</text>",
                GAP.0 / 2,
                top + 18
            );
        }
        top += heading(part);
        let left = (width - layout.width) / 2;
        let _ = writeln!(out, "<g transform=\"translate({left} {top})\">");
        draw(part, layout, &mut out);
        out.push_str("</g>\n");
        top += layout.height;
    }
    out.push_str("</svg>\n");
    out
}

fn draw(part: &Part<'_>, layout: &Layout, out: &mut String) {
    for (from, to) in edges(part.graph) {
        let (Some((x1, y1)), Some((x2, y2))) = (layout.places.get(&from), layout.places.get(&to)) else { continue };
        let (x1, y1, x2, y2) = (x1 + layout.each / 2, y1 + HEIGHT, x2 + layout.each / 2, *y2);
        let half = GAP.1 / 2;
        let _ = writeln!(
            out,
            "<path d=\"M{x1} {y1}C{x1} {} {x2} {} {x2} {y2}\" fill=\"none\" stroke=\"#8c959f\" stroke-width=\"1.5\" marker-end=\"url(#tip)\"/>",
            y1 + half,
            y2.saturating_sub(half)
        );
    }
    for (index, step) in part.graph.steps.iter().enumerate() {
        let Some((x, y)) = layout.places.get(&index) else { continue };
        let (fill, line) = colors(part.states.get(&index));
        let each = if step.for_each.is_some() { " ×n" } else { "" };
        let state = part.states.get(&index).map(|state| format!(" · {}", state.name())).unwrap_or_default();
        let width = layout.each;
        let (middle, first, second) = (x + layout.each / 2, y + 20, y + 37);
        let _ = writeln!(
            out,
            "<g><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{HEIGHT}\" rx=\"8\" fill=\"{fill}\" stroke=\"{line}\" stroke-width=\"1.5\"/>\
             <text x=\"{middle}\" y=\"{first}\" text-anchor=\"middle\" font-size=\"14\" font-weight=\"600\" fill=\"#1f2328\">{}{each}</text>\
             <text x=\"{middle}\" y=\"{second}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#57606a\">{}{state}</text></g>",
            escape(&step.id),
            escape(step.node.name())
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
