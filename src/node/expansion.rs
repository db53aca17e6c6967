//! What a node asks of the project before a run: operations that it calls by itself, and steps that it is made of.

use std::fmt::Debug;
use std::sync::Arc;

use serde_json::Value as Json;

use super::Node;
use super::NodeError;
use super::StepContext;
use crate::model::Effect;

/// Operations that a node calls by itself, named by a key of `with:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The key that names the connection, for messages; dotted where it lies deeper.
    pub key: String,
    /// The connection; nothing where it is computed, and any that has the operation may be meant.
    pub connection: Option<String>,
    /// What its connector must be able to do, e.g. `chat`.
    pub operation: &'static str,
}

/// An operation that a step calls by itself: that of the version which the run keeps.
#[derive(Clone, Debug)]
pub struct Called {
    pub connection: Arc<str>,
    /// The operation's name within its connector.
    pub operation: &'static str,
    pub node: Arc<dyn Node>,
}

/// What the project around a step has, as far as it is known before a run.
pub trait Surroundings: Debug {
    /// Lists the connections whose connector has an operation of this name, by name.
    fn connections_with(&self, operation: &str) -> Vec<String>;
    /// Returns the operation of a connection, with its full name in `Node::name`.
    fn operation(&self, connection: &str, operation: &str) -> Option<Arc<dyn Node>>;
    /// Returns what `uses` names.
    fn node(&self, name: &str) -> Option<Arc<dyn Node>>;
    /// Returns a pipeline of the project; nothing where it has faults.
    fn pipeline(&self, name: &str) -> Option<Callable>;
}

/// A pipeline as others may call it.
#[derive(Clone, Debug)]
pub struct Callable {
    /// JSON Schema of its inputs.
    pub inputs: Json,
    pub description: String,
    /// Whether a step of it, or of what it calls, changes the world.
    pub writes: bool,
}

/// What is wrong with a `with:` that cannot be made into steps: the key, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    pub key: String,
    pub message: String,
    pub help: Option<String>,
}

impl Misfit {
    #[must_use]
    pub fn new(key: &str, message: impl Into<String>) -> Self {
        Self { key: key.to_owned(), message: message.into(), help: None }
    }

    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

impl StepContext<'_> {
    /// Returns the operation of a connection that `Node::calls` has asked for.
    ///
    /// # Errors
    /// The connection is not in the project, or its connector cannot do that.
    pub fn called(&self, connection: &str, operation: &str) -> Result<&Arc<dyn Node>, NodeError> {
        let found = self.calls.iter().find(|it| &*it.connection == connection && it.operation == operation);
        found.map(|called| &called.node).ok_or_else(|| {
            let there: Vec<String> = self
                .calls
                .iter()
                .filter(|it| it.operation == operation)
                .map(|it| format!("`{}`", it.connection))
                .collect();
            let there =
                if there.is_empty() { "none can".to_owned() } else { format!("there are {}", there.join(", ")) };
            NodeError::invalid(format!("connection `{connection}` cannot `{operation}`: {there}"))
        })
    }

    /// Returns the context for an operation that the node calls: the same, but that it does what it declares.
    #[must_use]
    pub fn calling<'c>(&'c self, node: &dyn Node) -> StepContext<'c> {
        let declared = node.effect(&crate::model::Value::Null);
        let declared = if declared.is_write() { Effect::Read } else { declared };
        StepContext { declared, expressions: &[], calls: &[], into: None, ..*self }
    }
}
