//! The error of a node: what decides is in its fields, never in its text.

use crate::model::Duration;
use crate::model::ErrorClass;
use crate::model::Happened;

/// Why an attempt failed.
#[derive(Debug)]
pub struct NodeError {
    pub class: ErrorClass,
    /// For a write: whether it is proven that nothing happened.
    pub happened: Happened,
    /// What the server's Retry-After says.
    pub retry_after: Option<Duration>,
    /// How many attempts this failure allows in all, where it is fewer than the step allows.
    pub attempts: Option<u32>,
    /// Tells the user what is wrong; holds no secret that the node knows of.
    pub cause: anyhow::Error,
}

impl NodeError {
    /// Makes an error after which the world is unchanged: nothing was sent, or the answer proves it.
    #[must_use]
    pub fn new(class: ErrorClass, cause: impl Into<anyhow::Error>) -> Self {
        Self { class, happened: Happened::No, retry_after: None, attempts: None, cause: cause.into() }
    }

    /// Makes an error from a message; see `new`.
    #[must_use]
    pub fn message(class: ErrorClass, message: impl Into<String>) -> Self {
        Self::new(class, anyhow::Error::msg(message.into()))
    }

    /// The same input will fail again.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::message(ErrorClass::Invalid, message)
    }

    /// The write may have happened.
    #[must_use]
    pub fn perhaps(mut self) -> Self {
        self.happened = Happened::Perhaps;
        self
    }

    /// Returns the whole chain of causes in one line.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:#}", self.cause)
    }
}
