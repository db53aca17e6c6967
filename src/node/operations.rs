//! Operations of connectors, as the checker finds them.

use std::fmt::Debug;
use std::sync::Arc;

use super::Node;
use crate::diag::Diagnostic;
use crate::diag::Sources;
use crate::model::Value;
use crate::yaml::Tree;

/// Finds operations by name, `CONNECTOR.OPERATION`; a manifest is loaded when it is first named.
pub trait Operations: Send + Sync + Debug {
    /// Finds an operation that pipelines may use.
    fn find(&self, name: &str) -> Found;
    /// Finds an operation of one manifest for another of it, hidden ones too.
    fn sibling(&self, connector: &str, operation: &str) -> Option<Arc<dyn Node>>;
    /// Lists the connectors.
    fn connectors(&self) -> Vec<String>;
    /// Lists the connectors that the project itself has written.
    fn own_connectors(&self) -> Vec<String>;
    /// Returns a whole connector, to be checked whether pipelines use it or not.
    fn whole(&self, connector: &str) -> Whole;
    /// Says what is wrong with what the project says beside its connectors: what their models cost.
    fn beside(&self) -> Whole {
        Whole::default()
    }
    /// Says what is wrong with a connection's settings: the key, and what.
    fn check_connection(&self, connector: &str, settings: &Value, auth: &Value) -> Vec<(Option<String>, String)>;
    /// Returns what a version must keep so that this connector's operations mean the same later. Null where there is no
    /// such connector.
    fn kept(&self, connector: &str) -> Value;
    /// Returns the operations as they were when `kept` was asked, by connector; others are as they are now.
    fn restored(&self, kept: &Value) -> Arc<dyn Operations>;
}

/// What a name leads to.
#[derive(Clone, Debug)]
pub enum Found {
    Node(Arc<dyn Node>),
    /// There is no connector of this name.
    NoConnector,
    /// The connector has no such operation, or keeps it to itself.
    NoOperation {
        known: Vec<String>,
        hidden: bool,
    },
    /// The manifest has faults.
    Faulty {
        diagnostics: Vec<Diagnostic>,
        sources: Sources,
    },
}

/// All of a connector.
#[derive(Clone, Debug, Default)]
pub struct Whole {
    /// Its operations, hidden ones too; none where the manifest has faults.
    pub operations: Vec<Arc<dyn Node>>,
    /// Faults of the manifest, with its text.
    pub diagnostics: Vec<Diagnostic>,
    pub sources: Sources,
}

/// An operation that is written as steps: compiled like a pipeline, run as a child.
///
/// Its expressions read `input`, `steps`, `config` and `tables`; `uses` names operations of the same manifest, hidden ones
/// too, or `wait`.
#[derive(Clone, Debug)]
pub struct Composite {
    /// The manifest's file and text, for places.
    pub file: Arc<str>,
    pub source: Arc<str>,
    pub connector: Arc<str>,
    pub operation: Arc<str>,
    pub steps: Tree,
    /// What it gives; the output of the last step where there is none.
    pub output: Option<Tree>,
    /// JSON Schemas of the roots `input`, `config` and `tables`.
    pub input: serde_json::Value,
    pub config: serde_json::Value,
    pub tables: Value,
}
