//! The nodes by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Found;
use super::Node;
use super::Operations;

/// What `uses` can name.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    nodes: BTreeMap<String, Arc<dyn Node>>,
    operations: Option<Arc<dyn Operations>>,
}

impl Registry {
    /// Makes a registry of nodes; of two with one name the first stays.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = Arc<dyn Node>>) -> Self {
        let mut registry = Self::default();
        for node in nodes {
            registry.nodes.entry(node.name().to_owned()).or_insert(node);
        }
        registry
    }

    /// Adds the operations of connectors, which are found behind the nodes.
    #[must_use]
    pub fn with_operations(self, operations: Arc<dyn Operations>) -> Self {
        Self { operations: Some(operations), ..self }
    }

    #[must_use]
    pub fn operations(&self) -> Option<&Arc<dyn Operations>> {
        self.operations.as_ref()
    }

    /// Finds what `uses` names: a node, else an operation, whose manifest is loaded for it.
    #[must_use]
    pub fn find(&self, name: &str) -> Found {
        match (self.nodes.get(name), &self.operations) {
            (Some(node), _) => Found::Node(node.clone()),
            (None, Some(operations)) => operations.find(name),
            (None, None) => Found::NoConnector,
        }
    }

    /// Returns the node; see `find`.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<Arc<dyn Node>> {
        match self.find(name) {
            Found::Node(node) => Some(node),
            _ => None,
        }
    }

    /// Returns a built-in node.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Node>> {
        self.nodes.get(name)
    }

    /// Lists the nodes by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Node>> {
        self.nodes.values()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(String::as_str)
    }
}
