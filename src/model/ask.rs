//! What a step run asks of the world outside, and the answer that ends it.

use std::fmt;
use std::sync::Arc;

use super::ErrorClass;
use super::StepError;
use super::Timestamp;
use super::Value;

/// The id of what a step run asks: the text of a ULID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub Arc<str>);

/// What ends a step run that asked: its output, or why it failed.
pub type Answer = Result<Value, StepError>;

/// What a step run asks. It sleeps until a signal brings the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    pub id: AskId,
    /// Who answers, e.g. `approval`.
    pub kind: Arc<str>,
    /// What is asked; secrets in it are stored sealed.
    pub request: Value,
    /// Why the step run waits, for people.
    pub reason: Arc<str>,
    /// What becomes of it when nobody has answered; without it, it waits for ever.
    pub lapse: Option<Lapse>,
}

/// The end of an ask that nobody answered in time.
#[derive(Clone, Debug, PartialEq)]
pub struct Lapse {
    pub at: Timestamp,
    pub answer: Answer,
}

impl Ask {
    /// The kind of those that people decide on.
    pub const APPROVAL: &'static str = "approval";
    /// The kind of those that the calendar of posts holds until their time.
    pub const POST: &'static str = "post";
    /// The kind of the signal that brings an answer.
    pub const ANSWERED: &'static str = "answer";

    /// Returns the payload of the signal that brings an answer.
    #[must_use]
    pub fn answered(id: &AskId, answer: &Answer) -> Value {
        let [key, value] = answer_entries(answer);
        Value::map([("ask", Value::from(&*id.0)), key, value])
    }

    /// Reads the payload of the signal that brings an answer.
    #[must_use]
    pub fn read_answered(payload: &Value) -> Option<(AskId, Answer)> {
        Some((AskId(payload.get("ask")?.as_str()?.into()), read_answer(payload)?))
    }
}

impl Lapse {
    /// Returns it as an object, for the journal.
    #[must_use]
    pub(super) fn to_value(&self) -> Value {
        let [key, value] = answer_entries(&self.answer);
        Value::map([("at", Value::Int(self.at.micros().into())), key, value])
    }

    /// Reads the object back.
    pub(super) fn from_value(value: &Value) -> Option<Self> {
        let Some(Value::Int(at)) = value.get("at") else { return None };
        Some(Self { at: Timestamp(i64::try_from(*at).ok()?), answer: read_answer(value)? })
    }
}

fn answer_entries(answer: &Answer) -> [(&'static str, Value); 2] {
    match answer {
        Ok(output) => [("output", output.clone()), ("error", Value::Null)],
        Err(error) => [("output", Value::Null), ("error", error.to_value())],
    }
}

fn read_answer(value: &Value) -> Option<Answer> {
    let error = value.get("error").cloned().unwrap_or_default();
    if error.is_null() {
        return Some(Ok(value.get("output").cloned().unwrap_or_default()));
    }
    let class = error.get("class")?.as_str()?.to_owned();
    let class = ErrorClass::ALL.into_iter().find(|known| known.name() == class)?;
    Some(Err(StepError { class, message: error.get("message")?.as_str()?.to_owned() }))
}

impl fmt::Display for AskId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
