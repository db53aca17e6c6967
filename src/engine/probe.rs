//! What tests put into executions: who is told of the points between which a crash must do no harm, and who does steps
//! instead of their nodes.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::model::StepPath;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::Outcome;
use crate::node::StepContext;

/// Something that just happened, before which or after which a process may die.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// So many events are appended to the journal, and perhaps not yet durable.
    Appended(u64),
    /// A step run has ended, and its event is appended.
    Ended(StepPath),
    /// The intent of a write or a paid read is durable, its first byte has not left.
    Sending(StepPath),
    /// The answer of a write or a paid read is here and nothing of it is appended.
    Answered(StepPath),
    /// So many events are durable.
    Committed(u64),
}

/// Does steps instead of their nodes.
#[async_trait]
pub trait StandIn: Send + Sync {
    /// Does an attempt of the node with this name; nothing where the node does it itself.
    async fn run(&self, node: &str, input: &Value, ctx: &StepContext<'_>) -> Option<Result<Outcome, NodeError>>;
}

/// Is told of the points, and does steps; by default nobody is there.
#[derive(Clone, Default)]
pub struct Probe {
    told: Option<Arc<dyn Fn(Point) + Send + Sync>>,
    stand_in: Option<Arc<dyn StandIn>>,
}

impl Probe {
    /// Makes a probe that calls `told`.
    #[must_use]
    pub fn new(told: impl Fn(Point) + Send + Sync + 'static) -> Self {
        Self { told: Some(Arc::new(told)), stand_in: None }
    }

    /// The same probe with somebody who does steps.
    #[must_use]
    pub fn with_stand_in(self, stand_in: Arc<dyn StandIn>) -> Self {
        Self { stand_in: Some(stand_in), ..self }
    }

    /// Tells of a point; making it costs nothing where nobody listens.
    pub(super) fn tell(&self, point: impl FnOnce() -> Point) {
        if let Some(told) = &self.told {
            told(point());
        }
    }

    pub(super) fn is_told(&self) -> bool {
        self.told.is_some()
    }

    /// Has an attempt done by whoever stands in for its node, if somebody does.
    pub(super) async fn instead(
        &self,
        node: &str,
        input: &Value,
        ctx: &StepContext<'_>,
    ) -> Option<Result<Outcome, NodeError>> {
        match &self.stand_in {
            Some(stand_in) => stand_in.run(node, input, ctx).await,
            None => None,
        }
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.told.is_some() || self.stand_in.is_some() { "Probe(..)" } else { "Probe" })
    }
}
