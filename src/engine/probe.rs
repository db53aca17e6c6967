//! Points of an execution that crash tests stop at.

use std::fmt;
use std::sync::Arc;

use crate::model::StepPath;

/// Something that just happened, before which or after which a process may die.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// So many events are appended to the journal, and perhaps not yet durable.
    Appended(u64),
    /// A write's intent is durable, its first byte has not left.
    Sending(StepPath),
    /// A write's answer is here and nothing of it is appended.
    Answered(StepPath),
    /// So many events are durable.
    Committed(u64),
}

/// Is told of the points; by default nobody is.
#[derive(Clone, Default)]
pub struct Probe(Option<Arc<dyn Fn(Point) + Send + Sync>>);

impl Probe {
    /// Makes a probe that calls `told`.
    #[must_use]
    pub fn new(told: impl Fn(Point) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }

    /// Tells of a point; making it costs nothing where nobody listens.
    pub(super) fn tell(&self, point: impl FnOnce() -> Point) {
        if let Some(told) = &self.0 {
            told(point());
        }
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Probe(..)" } else { "Probe" })
    }
}
