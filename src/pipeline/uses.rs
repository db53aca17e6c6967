//! What `uses` names: a node, an operation of a connector, or, within a manifest, a sibling.

use std::sync::Arc;

use super::compile::Compiler;
use super::compile::Inside;
use crate::diag::Code;
use crate::diag::Span;
use crate::diag::did_you_mean;
use crate::node::Found;
use crate::node::Node;

/// Finds the node that `uses` names, and says so where there is none.
pub(super) fn find_node(compiler: &mut Compiler<'_>, (name, span): (&str, &Span)) -> Option<Arc<dyn Node>> {
    match compiler.found(name) {
        Found::Node(node) => {
            if let Some(connector) = node.connector() {
                compiler.connectors.insert(connector.to_owned());
            }
            return Some(node);
        }
        Found::NoOperation { known, hidden } => {
            let connector = name.split('.').next().unwrap_or(name);
            let operation = name.split_once('.').map_or(name, |(_, operation)| operation);
            if hidden {
                let message = format!("operation `{operation}` of connector `{connector}` is only for its own use");
                compiler.error(Code::UnknownOperation, span, message);
            } else {
                let what = format!("connector `{connector}` has no operation {{}}");
                let known = known.iter().map(String::as_str);
                compiler.unknown(Code::UnknownOperation, span, &what, operation, known);
            }
            let help = format!("`pipewright connectors show {connector}` lists what it can do");
            if let Some(last) = compiler.diagnostics.last_mut() {
                last.help.get_or_insert(help);
            }
            return None;
        }
        Found::Faulty { diagnostics, sources } => {
            let connector = name.split('.').next().unwrap_or(name);
            let message = format!("the manifest of connector `{connector}` has faults");
            compiler.error(Code::FaultyConnector, span, message).help =
                Some(format!("mend it first: `pipewright connectors test {connector}`"));
            compiler.world.foreign.borrow_mut().extend(&sources);
            // Told once, however many steps use it.
            let new: Vec<_> = diagnostics.into_iter().filter(|it| !compiler.diagnostics.contains(it)).collect();
            compiler.diagnostics.extend(new);
            return None;
        }
        Found::NoConnector => {}
    }
    let mut names: Vec<String> = compiler.world.registry.names().map(str::to_owned).collect();
    if let (Some((connector, operation)), Some(operations)) =
        (name.split_once('.'), compiler.world.registry.operations())
    {
        // Only a name near by is looked up: what is not asked for is not loaded.
        let known = operations.connectors();
        let near = did_you_mean(connector, known.iter().map(String::as_str));
        let there = near.map(|near| format!("{near}.{operation}"));
        names.extend(there.filter(|name| matches!(operations.find(name), Found::Node(_))));
    }
    compiler.unknown(Code::UnknownNode, span, "node {} does not exist", name, names.iter().map(String::as_str));
    if let Some(last) = compiler.diagnostics.last_mut() {
        // A list of operations that nobody asked for helps no one.
        last.help = last.help.take().filter(|help| help.starts_with("did you mean"));
        if let Some((connection, operation)) = name.split_once('.')
            && let Some(connector) = compiler.world.declared.connector_of(connection)
        {
            last.help = Some(format!(
                "`{connection}` is a connection: write `uses: {connector}.{operation}` and `with: {{ connection: {connection} }}`"
            ));
        }
        last.help.get_or_insert_with(|| {
            "`pipewright nodes` and `pipewright connectors list` tell what `uses` can name".to_owned()
        });
    }
    None
}

impl Compiler<'_> {
    /// Finds what `uses` names; in the steps of a manifest the operations of that manifest, by their short names.
    pub(super) fn found(&self, name: &str) -> Found {
        let Some(Inside::Manifest(inside)) = &self.inside else { return self.world.registry.find(name) };
        if name == "wait" {
            return self.world.registry.find("time.wait");
        }
        let operations = self.world.registry.operations();
        match operations.and_then(|operations| operations.sibling(inside, name)) {
            Some(node) => Found::Node(node),
            None => Found::NoOperation { known: Vec::new(), hidden: false },
        }
    }

    /// Finds what `uses` names without a word where there is nothing.
    pub(super) fn find_quietly(&self, name: &str) -> Option<Arc<dyn Node>> {
        match self.found(name) {
            Found::Node(node) => Some(node),
            _ => None,
        }
    }
}
