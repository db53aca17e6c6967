//! Nodes that are made of steps, and the operations that nodes call by themselves.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;
use serde_json::json;

use super::Pipeline;
use super::compile::Child;
use super::compile::Compiler;
use super::compile::Inside;
use super::compile::World;
use super::compile::first_line;
use super::composite;
use super::with;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Span;
use crate::model::Value;
use crate::node::Callable;
use crate::node::Called;
use crate::node::Found;
use crate::node::Node;
use crate::node::Surroundings;
use crate::yaml;
use crate::yaml::Tree;

/// Finds the operations that a step's node calls by itself; those that are missing are told.
pub(super) fn calls(
    compiler: &mut Compiler<'_>,
    node: &Arc<dyn Node>,
    with: Option<&Tree>,
    uses: &Span,
) -> Vec<Called> {
    let written = with.map_or_else(|| Value::map::<&str>([]), with::literals);
    let mut found: Vec<Called> = Vec::new();
    for wanted in node.calls(&written) {
        let operation = wanted.operation;
        let names = match &wanted.connection {
            Some(connection) => vec![connection.clone()],
            None => Around(compiler).connections_with(operation),
        };
        for connection in names {
            if found.iter().any(|it| *it.connection == *connection && it.operation == operation) {
                continue;
            }
            match Around(compiler).operation(&connection, operation) {
                Some(called) => {
                    compiler.connectors.extend(called.connector().map(str::to_owned));
                    found.push(Called { connection: connection.into(), operation, node: called });
                }
                None if wanted.connection.is_some() => {
                    let place = with.and_then(|with| place_of(with, &wanted.key, &connection));
                    cannot(compiler, node, &connection, operation, &place.unwrap_or_else(|| uses.clone()));
                }
                None => {}
            }
        }
    }
    found
}

/// Finds where a connection is named: under the key, or in a list of it.
fn place_of(with: &Tree, key: &str, connection: &str) -> Option<Span> {
    fn text(tree: &Tree, wanted: &str) -> Option<Span> {
        if tree.as_text() == Some(wanted) {
            return Some(first_line(&tree.span));
        }
        let inner = tree.items().iter().chain(tree.entries().iter().map(|entry| &entry.value));
        inner.filter_map(|tree| text(tree, wanted)).next()
    }
    text(with.get(key)?, connection)
}

/// Says that a connection cannot do what a node wants of it.
fn cannot(compiler: &mut Compiler<'_>, node: &Arc<dyn Node>, connection: &str, operation: &str, place: &Span) {
    let declared = compiler.world.declared;
    let Some(connector) = declared.connector_of(connection).map(str::to_owned) else {
        compiler.known_connection(connection, place);
        return;
    };
    let message =
        format!("`{}` needs a connection that can `{operation}`, and connector `{connector}` cannot", node.name());
    let able = Around(compiler).connections_with(operation);
    let help = match able.as_slice() {
        [] => format!("`pipewright connectors show {connector}` lists what it can do"),
        able => format!("these can: {}", able.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ")),
    };
    compiler.error(Code::UnknownOperation, place, message).help = Some(help);
}

/// Compiles the steps that a node is made of, with a step's `with:`. `resends` is what the step says of its paid reads.
pub(super) fn child(
    compiler: &mut Compiler<'_>,
    node: &Arc<dyn Node>,
    with: Option<&Tree>,
    uses: &Span,
    resends: bool,
) -> Option<Arc<Pipeline>> {
    let written = with.map_or_else(|| Value::map::<&str>([]), with::literals);
    let text = match node.expand(&written, &Around(compiler)) {
        Ok(text) => text?,
        Err(misfit) => {
            let place = misfit.key.split('.').try_fold(with?, |tree, key| match key.parse::<usize>() {
                Ok(index) => tree.items().get(index),
                Err(_) => tree.get(key),
            });
            let place = place.map_or_else(|| uses.clone(), |tree| first_line(&tree.span));
            compiler.error(Code::InvalidWith, &place, misfit.message).help = misfit.help;
            return None;
        }
    };
    let mut nesting = compiler.nesting.clone();
    nesting.push(node.name().to_owned());
    let compiled = compile(node.name(), &text, compiler.world, nesting, resends);
    compiler.connectors.extend(compiled.connectors);
    compiler.children.extend(compiled.children);
    if compiled.pipeline.is_none() {
        // What was written leads to steps that do not fit: told where it was written.
        for told in compiled.diagnostics {
            // A connection that is not there is told where the step names it.
            if compiler.diagnostics.iter().any(|known| (known.code, &known.message) == (told.code, &told.message)) {
                continue;
            }
            compiler.error(told.code, uses, told.message).help = told.help;
        }
    }
    compiled.pipeline
}

/// What came of a node's steps.
pub(super) struct Compiled {
    pub(super) pipeline: Option<Arc<Pipeline>>,
    pub(super) diagnostics: Vec<Diagnostic>,
    connectors: BTreeSet<String>,
    children: BTreeMap<String, Arc<Pipeline>>,
}

/// Compiles steps that a node has written.
pub(super) fn compile(node: &str, text: &str, world: &World<'_>, nesting: Vec<String>, resends: bool) -> Compiled {
    let (tree, diagnostics) = yaml::parse(&node.into(), text);
    let mut compiler = Compiler::new(world, text, diagnostics);
    compiler.inside = Some(Inside::Node);
    compiler.nesting = nesting;
    compiler.resends = resends;
    let made = composite::Made { name: node, file: node, text, operation: None, node: Some(node) };
    let (steps, output) = (tree.as_ref().and_then(|it| it.get("steps")), tree.as_ref().and_then(|it| it.get("output")));
    let pipeline = composite::pipeline(&mut compiler, &made, steps, output);
    let Compiler { diagnostics, connectors, children, .. } = compiler;
    Compiled { pipeline, diagnostics, connectors, children }
}

/// What a node may know before a run.
struct Around<'a, 'w>(&'a Compiler<'w>);

impl fmt::Debug for Around<'_, '_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Around")
    }
}

impl Surroundings for Around<'_, '_> {
    fn connections_with(&self, operation: &str) -> Vec<String> {
        let declared = self.0.world.declared;
        // In one order always: a stored version knows no other.
        let mut all: BTreeSet<String> = declared.connections().map(str::to_owned).collect();
        // A file that stands alone knows of no connections: they may be named as their connectors are.
        if all.is_empty() && !declared.is_complete() {
            all.extend(self.0.world.registry.operations().map(|it| it.connectors()).unwrap_or_default());
        }
        all.into_iter().filter(|name| self.operation(name, operation).is_some()).collect()
    }

    fn operation(&self, connection: &str, operation: &str) -> Option<Arc<dyn Node>> {
        // One that the project file does not name may be named as its connector is.
        let connector = self.0.world.declared.connector_of(connection).unwrap_or(connection);
        self.node(&format!("{connector}.{operation}")).filter(|node| node.connector().is_some())
    }

    fn node(&self, name: &str) -> Option<Arc<dyn Node>> {
        match self.0.world.registry.find(name) {
            Found::Node(node) => Some(node),
            _ => None,
        }
    }

    fn pipeline(&self, name: &str) -> Option<Callable> {
        let Child::Found(pipeline) = self.0.find_child(name) else { return None };
        let properties = pipeline.inputs.iter().map(|input| (input.name.to_string(), input.schema.clone()));
        let required: Vec<&str> = pipeline.inputs.iter().filter(|it| it.required).map(|it| &*it.name).collect();
        let properties = Json::Object(properties.collect());
        let inputs =
            json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false });
        let description = pipeline.description.as_deref().unwrap_or(&pipeline.name).to_owned();
        Some(Callable { inputs, description, writes: writes(&pipeline) })
    }
}

/// Tells whether a step of a pipeline, or of what it calls, changes the world.
fn writes(pipeline: &Pipeline) -> bool {
    let graphs = [&pipeline.main, &pipeline.on_failure, &pipeline.finally];
    graphs
        .iter()
        .flat_map(|graph| &graph.steps)
        .any(|step| step.effect.is_write() || step.child.as_ref().is_some_and(|child| writes(child)))
}
