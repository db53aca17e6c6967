//! What a stand-in receives and what it answers.

use std::sync::Arc;

use crate::connector::body;
use crate::connector::body::Payload;
use crate::model::Value;
use crate::model::parse_json;
use crate::model::write_json;

/// A request as a stand-in sees it.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Upper case.
    pub method: String,
    /// Where the client believes it is, `https://api.example.com`: links in answers begin with it.
    pub origin: String,
    /// As it was sent, percent-encoded, with its first slash.
    pub path: String,
    /// Decoded, in order.
    pub query: Vec<(String, String)>,
    /// As it was sent, percent-encoded, without its question mark.
    pub query_text: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What a stand-in answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case; a repeated one stands repeatedly.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    /// Makes a request of a method and a target: a path with its query, percent-encoded.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: method.to_owned(),
            origin: "http://sandbox".to_owned(),
            path: path.to_owned(),
            query: body::form::parse(query).unwrap_or_default(),
            query_text: query.to_owned(),
            ..Self::default()
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_lowercase(), value.to_owned()));
        self
    }

    /// Gives it a body of JSON.
    #[must_use]
    pub fn with_json(mut self, json: &Value) -> Self {
        let mut text = String::new();
        write_json(json, &mut text);
        self.body = text.into_bytes();
        self.with_header("content-type", "application/json")
    }

    /// Returns the first header with this name, which is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Returns the first parameter of the query with this name.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Returns the URL that the client has asked.
    #[must_use]
    pub fn url(&self) -> String {
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", body::form::write(&self.query)) };
        format!("{}{}{query}", self.origin, self.path)
    }

    /// Reads the body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        parse_json(&self.text()).unwrap_or_default()
    }

    /// Reads the body as text.
    #[must_use]
    pub fn text(&self) -> String {
        body::text_of(self.header("content-type"), &self.body)
    }
}

impl Reply {
    /// Makes an answer without a body.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Makes an answer of JSON.
    #[must_use]
    pub fn json(status: u16, json: &Value) -> Self {
        let mut text = String::new();
        write_json(json, &mut text);
        Self::typed(status, "application/json", text)
    }

    /// Makes an answer of a type.
    #[must_use]
    pub fn typed(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("content-type".to_owned(), content_type.to_owned())], body: body.into() }
    }

    /// Makes an answer of what a codec has written.
    #[must_use]
    pub fn payload(status: u16, payload: Payload) -> Self {
        let headers = payload.content_type.map(|kind| ("content-type".to_owned(), kind)).into_iter().collect();
        Self { status, headers, body: payload.bytes }
    }

    /// Adds a header; its name is given in lower case.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Returns the first header with this name, which is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// Makes a value of pairs; of a repeated name the first stays.
#[must_use]
pub fn map_of(pairs: &[(String, String)]) -> Value {
    let mut map = crate::model::Map::new();
    for (name, value) in pairs {
        map.entry(Arc::from(name.as_str())).or_insert_with(|| Value::from(value.as_str()));
    }
    Value::from(map)
}
