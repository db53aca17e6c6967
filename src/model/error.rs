//! The one set of error classes, and a failed step's error as it is journaled.

use serde::Deserialize;
use serde::Serialize;

use super::Value;

/// Why something failed: one set for the language, manifests, journal and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ErrorClass {
    /// The remote asks for less (429).
    Throttled,
    /// The remote cannot answer now (5xx, connection refused).
    Unavailable,
    /// No answer in time.
    Timeout,
    /// The remote's state does not allow it (409, 412).
    Conflict,
    /// Somebody else holds it (423).
    Locked,
    /// Credentials are missing, wrong or expired.
    Auth,
    /// The input is wrong: the same input will fail again.
    Invalid,
    /// The remote, or a person, refused.
    Rejected,
    /// A budget or quota is used up.
    Exhausted,
    /// It was canceled.
    Canceled,
    /// A fault in Pipewright or in a node.
    Bug,
}

/// The error of a failed step run. The message is shown to people; secrets in it are masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepError {
    pub class: ErrorClass,
    pub message: String,
}

impl ErrorClass {
    pub const ALL: [Self; 11] = [
        Self::Throttled,
        Self::Unavailable,
        Self::Timeout,
        Self::Conflict,
        Self::Locked,
        Self::Auth,
        Self::Invalid,
        Self::Rejected,
        Self::Exhausted,
        Self::Canceled,
        Self::Bug,
    ];

    /// Finds the class by its lower-case word.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Returns the lower-case word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Conflict => "conflict",
            Self::Locked => "locked",
            Self::Auth => "auth",
            Self::Invalid => "invalid",
            Self::Rejected => "rejected",
            Self::Exhausted => "exhausted",
            Self::Canceled => "canceled",
            Self::Bug => "bug",
        }
    }

    /// Tells whether a step is retried by default.
    #[must_use]
    pub fn is_retried_by_default(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable | Self::Timeout | Self::Locked)
    }
}

impl StepError {
    /// Returns the error as expressions, journals and programs see it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::map([("class", Value::from(self.class.name())), ("message", self.message.as_str().into())])
    }
}

impl std::fmt::Display for StepError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.class.name(), self.message)
    }
}
