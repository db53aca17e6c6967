//! Answers that are heard while they come.

use std::fmt;
use std::sync::Arc;

type Listener = dyn Fn(&[u8]) + Send + Sync;

/// Is told the pieces of an answer's body as they come, in their order; the answer itself is given whole at its end.
#[derive(Clone)]
pub struct Heard(Arc<Listener>);

impl Heard {
    /// Makes one of a function, which must be quick: the answer waits for it.
    #[must_use]
    pub fn new(hear: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    /// Tells the next piece.
    pub fn tell(&self, piece: &[u8]) {
        (self.0)(piece);
    }
}

impl fmt::Debug for Heard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Heard")
    }
}
