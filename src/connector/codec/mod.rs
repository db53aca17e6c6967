//! Wire formats that YAML cannot express: bytes ⇄ values, pure.

use super::body::Payload;
use crate::model::Value;

/// Writes a request's body.
///
/// # Errors
/// A value that the format cannot hold, in words.
pub fn encode(name: &str, _value: &Value) -> Result<Payload, String> {
    Err(format!("codec `{name}` cannot write yet"))
}

/// Reads an answer. `options` are what the manifest writes out beside the request's content.
///
/// # Errors
/// What the answer is not, in words.
pub fn decode(
    name: &str,
    _status: u16,
    _content_type: Option<&str>,
    _bytes: &[u8],
    _options: &Value,
) -> Result<Value, String> {
    Err(format!("codec `{name}` cannot read yet"))
}
