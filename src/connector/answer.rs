//! What came back, as expressions see it.

use std::sync::Arc;

use super::body;
use super::body::Kind;
use super::manifest::Act;
use super::manifest::Answer;
use super::manifest::Body;
use super::manifest::Operation;
use crate::http::Response;
use crate::model::Map;
use crate::model::Value;
use crate::template::TemplateTree;

/// An answer, read.
#[derive(Clone, Debug)]
pub struct Answered {
    pub status: u16,
    /// By name in lower case; a repeated one holds its values with commas between, `set-cookie` a list.
    pub headers: Value,
    /// Null where it is empty, or cannot be read as it should.
    pub body: Value,
    /// The body as text; null where it is none.
    pub text: Value,
    /// Whether the body could not be read as it should.
    pub unreadable: Option<String>,
    /// The bytes of an answer that is to become a file.
    pub bytes: Option<Vec<u8>>,
}

impl Answered {
    /// Returns the roots that the answer gives to expressions.
    #[must_use]
    pub fn roots(&self) -> [(&'static str, Value); 4] {
        [
            ("status", Value::Int(self.status.into())),
            ("headers", self.headers.clone()),
            ("body", self.body.clone()),
            ("text", self.text.clone()),
        ]
    }
}

/// Reads an answer as the operation says, else by its content type; a codec may look at what was asked.
#[must_use]
pub fn read(operation: &Operation, asked: &Value, response: Response) -> Answered {
    let headers = headers(&response);
    let content_type = response.header("content-type").unwrap_or_default().to_owned();
    let how = how(operation, &content_type, response.status, &response.body);
    let Response { status, body: bytes, .. } = response;
    let mut answered =
        Answered { status, headers, body: Value::Null, text: Value::Null, unreadable: None, bytes: None };
    if bytes.is_empty() {
        return answered;
    }
    if matches!(how, How::Kind(Kind::Bytes)) {
        answered.bytes = Some(bytes);
        return answered;
    }
    let content_type = Some(content_type.as_str()).filter(|text| !text.is_empty());
    let text = body::text_of(content_type, &bytes);
    let read = match &how {
        How::Kind(kind) => body::read(*kind, content_type, &bytes),
        How::Codec(name) => super::codec::decode(name, content_type, &bytes, &codec_options(operation, asked)),
    };
    match read {
        Ok(body) => answered.body = body,
        Err(reason) => answered.unreadable = Some(reason),
    }
    answered.text = Value::from(text);
    answered
}

/// What the request gave its codec beside the content: an answer is read in the same dialect.
fn codec_options(operation: &Operation, asked: &Value) -> Value {
    let Act::Request(request) = &operation.act else { return Value::Null };
    let Body::Codec(_, TemplateTree::Map(entries)) = &request.body else { return Value::Null };
    let literals = entries.iter().filter_map(|(key, tree)| match tree {
        TemplateTree::Literal(value) => Some((Arc::clone(key), value.clone())),
        _ => None,
    });
    Value::map(literals.chain([("asked".into(), asked.clone())]))
}

/// How an answer is read.
#[derive(Debug)]
enum How {
    Kind(Kind),
    Codec(Arc<str>),
}

impl From<Kind> for How {
    fn from(kind: Kind) -> Self {
        Self::Kind(kind)
    }
}

fn how(operation: &Operation, content_type: &str, status: u16, bytes: &[u8]) -> How {
    // A refusal comes in a form of its own, whatever a success would be.
    let refused = status >= 400;
    match &operation.answer {
        Some(Answer::Codec(name)) => return How::Codec(name.clone()),
        Some(answer) if !refused => {
            return How::Kind(match answer {
                Answer::Text => Kind::Text,
                Answer::Bytes => Kind::Bytes,
                Answer::Xml => Kind::Xml,
                Answer::Csv => Kind::Csv,
                Answer::Ndjson => Kind::Ndjson,
                Answer::Json | Answer::Codec(_) => Kind::Json,
            });
        }
        _ => {}
    }
    if let Act::Request(request) = &operation.act
        && let Body::Codec(name, _) = &request.body
    {
        return How::Codec(name.clone());
    }
    match body::answer_kind(Some(content_type), bytes) {
        // A refusal is never a file.
        Kind::Bytes if refused => Kind::Text.into(),
        kind => kind.into(),
    }
}

fn headers(response: &Response) -> Value {
    let mut map = Map::with_capacity(response.headers.len());
    for (name, value) in &response.headers {
        if name == "set-cookie" {
            continue;
        }
        match map.get(name.as_str()).and_then(Value::as_str) {
            Some(earlier) => {
                let joined = format!("{earlier}, {value}");
                map.insert(name.as_str().into(), joined.into());
            }
            None => drop(map.insert(name.as_str().into(), Value::from(value.as_str()))),
        }
    }
    Value::from(map)
}
