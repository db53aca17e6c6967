//! What nodes say while they work, for somebody who watches.

use std::fmt;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

use crate::model::RunId;
use crate::model::StepPath;

/// Is told pieces of a text that a step is making: of which run, which step.
type Listener = Arc<dyn Fn(RunId, &StepPath, &str) + Send + Sync>;

/// Where pieces of texts go while they are made; nowhere unless somebody listens. A service: clones are the same.
///
/// What is told here is for the eye only. The text itself is the step's output, and only that is kept.
#[derive(Clone, Default)]
pub struct Live(Arc<RwLock<Option<Listener>>>);

impl Live {
    /// Has a function listen, in place of another.
    pub fn listen(&self, listener: impl Fn(RunId, &StepPath, &str) + Send + Sync + 'static) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(listener));
    }

    /// Tells whether anybody listens.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Tells a piece of a text.
    pub fn tell(&self, run: RunId, path: &StepPath, piece: &str) {
        let listener = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(listener) = listener {
            listener(run, path, piece);
        }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Live").field(&self.is_heard()).finish()
    }
}
