//! A seam between step runs and the world: whoever records hears what nodes were asked and what they said, whoever
//! replays answers in their place.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;

use crate::model::Effect;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::Outcome;
use crate::node::Reconciled;
use crate::node::WireRecord;

/// What a node is asked in one attempt of a step run. Attempts without an effect are not told of: they look at nothing
/// but their input.
#[derive(Clone, Debug)]
pub struct Call {
    pub run: RunId,
    pub path: StepPath,
    /// From 1.
    pub attempt: u32,
    /// Whether it is only asked if an earlier sending of the write has happened.
    pub question: bool,
    pub node: Arc<str>,
    pub effect: Effect,
    /// What `with:` came to, secrets laid open where they were.
    pub input: Value,
    /// What `now()` was while `with:` was evaluated.
    pub evaluated: Timestamp,
}

/// What a node said.
#[derive(Debug)]
pub enum Said {
    Done(Result<Outcome, NodeError>),
    Reconciled(Result<Reconciled, NodeError>),
}

/// Hears calls, or answers them.
#[async_trait]
pub trait Tape: Send + Sync + fmt::Debug {
    /// Returns what time it was when this attempt was evaluated, where that is to be so again.
    fn moment(&self, _run: RunId, _path: &StepPath, _attempt: u32) -> Option<Timestamp> {
        None
    }

    /// Answers in the place of the node; nothing where it is to be asked itself.
    async fn answer(&self, call: &Call) -> Option<Said>;

    /// Hears what the node itself said, and returns what the engine is to take for it.
    fn hear(&self, call: &Call, said: Said) -> Said;

    /// A step run starts a child run.
    fn child(&self, _parent: RunId, _path: &StepPath, _child: RunId) {}

    /// Hears of an exchange; secrets in it are masked.
    fn wire(&self, _run: RunId, _path: &StepPath, _attempt: u32, _record: &WireRecord) {}

    /// Returns how much of the bodies of exchanges it wants to have, in bytes; nothing where it wants none.
    fn most_body(&self) -> Option<usize> {
        None
    }
}

/// Where a tape lies in, or none, which is the rule.
#[derive(Clone, Default)]
pub struct Deck(Option<Arc<dyn Tape>>);

impl Deck {
    #[must_use]
    pub fn new(tape: Arc<dyn Tape>) -> Self {
        Self(Some(tape))
    }

    pub(super) fn tape(&self) -> Option<&Arc<dyn Tape>> {
        self.0.as_ref()
    }

    /// Has a call answered by the tape, or else by the node, which the tape then hears.
    pub(super) async fn outcome(
        &self,
        call: impl FnOnce() -> Call,
        node: impl Future<Output = Result<Outcome, NodeError>>,
    ) -> Result<Outcome, NodeError> {
        let Some(tape) = &self.0 else { return node.await };
        let call = call();
        match tape.answer(&call).await {
            Some(Said::Done(result)) => result,
            _ => match tape.hear(&call, Said::Done(node.await)) {
                Said::Done(result) => result,
                Said::Reconciled(_) => Err(mixed_up()),
            },
        }
    }

    /// As `outcome`, of a question.
    pub(super) async fn reconciled(
        &self,
        call: impl FnOnce() -> Call,
        node: impl Future<Output = Result<Reconciled, NodeError>>,
    ) -> Result<Reconciled, NodeError> {
        let Some(tape) = &self.0 else { return node.await };
        let call = call();
        match tape.answer(&call).await {
            Some(Said::Reconciled(result)) => result,
            _ => match tape.hear(&call, Said::Reconciled(node.await)) {
                Said::Reconciled(result) => result,
                Said::Done(_) => Err(mixed_up()),
            },
        }
    }
}

fn mixed_up() -> NodeError {
    NodeError::message(crate::model::ErrorClass::Bug, "the tape took a question for a call")
}

impl fmt::Debug for Deck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Deck(..)" } else { "Deck" })
    }
}
