//! Moments in a `with:`: as times, as texts, and as how long ago.

use crate::model::Duration;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::NodeError;

/// Reads a moment; nothing where none is given.
pub(super) fn moment(value: &Value, key: &str) -> Result<Option<Timestamp>, NodeError> {
    match value {
        Value::Null => Ok(None),
        Value::Time(moment) => Ok(Some(*moment)),
        Value::String(text) => text.parse().map(Some).map_err(|error| NodeError::invalid(format!("`{key}`: {error}"))),
        other => Err(NodeError::invalid(format!("`{key}` must be a moment, found {}", other.kind().name()))),
    }
}

/// Reads since when something counts: a moment, or how long ago that is, as `7d`.
pub(super) fn since(value: &Value, key: &str, now: Timestamp) -> Result<Option<Timestamp>, NodeError> {
    let length = match value {
        Value::Duration(length) => Some(*length),
        Value::String(text) => text.parse::<Duration>().ok(),
        _ => None,
    };
    match length {
        Some(length) => Ok(Some(Timestamp(now.micros().saturating_sub_unsigned(length.micros())))),
        None => moment(value, key),
    }
}
