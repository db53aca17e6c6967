//! Wire formats that YAML cannot express: bytes ⇄ values, pure.

pub mod chat;
pub mod odata2;
pub mod odata_batch;
pub mod xmlrpc;

use super::body;
use super::body::Payload;
use crate::model::Value;

/// Writes a request's body.
///
/// # Errors
/// A value that the format cannot hold, in words.
pub fn encode(name: &str, value: &Value) -> Result<Payload, String> {
    match name {
        "xmlrpc" => xmlrpc::encode(value),
        "odata2" => odata2::encode(value),
        "odata_batch" => odata_batch::encode(value),
        "chat" => chat::encode(value),
        _ => Err(format!("there is no codec `{name}`")),
    }
}

/// Reads an answer. `options` are what the manifest writes out beside the request's content.
///
/// # Errors
/// What the answer is not, in words.
pub fn decode(name: &str, content_type: Option<&str>, bytes: &[u8], options: &Value) -> Result<Value, String> {
    let text = || body::text_of(content_type, bytes);
    match name {
        "xmlrpc" => xmlrpc::decode(&text()),
        "odata2" => odata2::decode(&text()),
        "odata_batch" => odata_batch::decode(content_type, bytes),
        "chat" => chat::decode(content_type, bytes, options),
        _ => Err(format!("there is no codec `{name}`")),
    }
}
