//! What went over the wire in an attempt, for a person to look at.

use crate::model::Duration;
use crate::model::Timestamp;

/// One exchange of an attempt. Secrets are masked and bodies are cut before it is made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WireRecord {
    pub at: Timestamp,
    /// From the first byte out to the last byte in.
    pub took: Duration,
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    /// Text, cut; of bytes their count.
    pub body: String,
    /// The answer, or why there is none.
    pub answer: Result<WireAnswer, String>,
}

/// An answer on the wire.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WireAnswer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}
