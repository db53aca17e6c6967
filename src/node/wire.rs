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

impl WireRecord {
    /// How much of a body is kept, in bytes.
    pub const MOST_BODY: usize = 4_096;

    /// Cuts bodies that are longer.
    pub fn shorten(&mut self, most: usize) {
        let cut = |body: &mut String| {
            if body.len() > most + MARK {
                let whole = body.len();
                let end = (0..=most).rev().find(|end| body.is_char_boundary(*end)).unwrap_or(0);
                body.truncate(end);
                body.push_str(&format!("… <{whole} bytes>"));
            }
        };
        cut(&mut self.body);
        if let Ok(answer) = &mut self.answer {
            cut(&mut answer.body);
        }
    }
}

/// A body that was cut already bears a mark behind it, and is not cut again.
const MARK: usize = 64;

/// An answer on the wire.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WireAnswer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}
