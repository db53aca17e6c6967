//! The nodes by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Node;

/// What `uses` can name.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    nodes: BTreeMap<String, Arc<dyn Node>>,
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
