//! What is not answered, and how that is said: a kind in code, its words on the wire from the settings.

use indexmap::IndexMap;
use serde::Deserialize;

use crate::model::Map;
use crate::model::Value;
use crate::sandbox::exchange::Reply;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A parameter is missing, or is not what it may be.
    Invalid,
    /// There is no model of this name.
    UnknownModel,
    /// There is no kept answer of this id.
    UnknownAnswer,
    /// The path is known, the method is not.
    Method,
    /// Too many requests.
    Requests,
    /// Too many tokens.
    Tokens,
}

/// A refusal with what its body says.
#[derive(Debug)]
pub(super) struct Refusal {
    pub kind: Kind,
    pub message: String,
    pub param: Option<String>,
    pub code: Option<String>,
    /// The model that it is about.
    pub model: Option<Box<str>>,
    pub headers: Vec<(String, String)>,
}

/// `errors` of the settings: the shape that all who copy it have, where a manifest says nothing else.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Errors {
    /// A value in which `{message}`, `{type}`, `{param}`, `{code}` and `{status}` stand for what they name.
    pub body: Value,
    /// What the wire calls a status, where an error that was written does not say it.
    pub types: IndexMap<String, String>,
    /// What the wire calls a kind, where it differs.
    pub kinds: IndexMap<Kind, Named>,
}

/// What the wire says of a kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Named {
    pub status: Option<u16>,
    pub r#type: Option<String>,
    pub code: Option<String>,
    /// What it says, with `{model}` for the name in it.
    pub message: Option<String>,
}

impl Default for Errors {
    fn default() -> Self {
        let marks = ["message", "type", "param", "code"].map(|name| (name, Value::from(format!("{{{name}}}"))));
        Self { body: Value::map([("error", Value::map(marks))]), types: IndexMap::new(), kinds: IndexMap::new() }
    }
}

impl Kind {
    fn usual(self) -> (u16, &'static str, Option<&'static str>) {
        match self {
            Self::Invalid => (400, "invalid_request_error", None),
            Self::UnknownModel => (404, "invalid_request_error", Some("model_not_found")),
            Self::UnknownAnswer => (404, "invalid_request_error", None),
            Self::Method => (405, "invalid_request_error", Some("method_not_supported")),
            Self::Requests => (429, "requests", Some("rate_limit_exceeded")),
            Self::Tokens => (429, "tokens", Some("rate_limit_exceeded")),
        }
    }
}

impl Refusal {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), param: None, code: None, model: None, headers: Vec::new() }
    }

    /// Makes a refusal of a parameter.
    pub(super) fn of(param: &str, code: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::new(Kind::Invalid, message) }.coded(code)
    }

    /// Says which model it is about.
    pub(super) fn about(mut self, model: &str) -> Self {
        self.model = Some(model.into());
        self
    }

    pub(super) fn coded(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned()).filter(|code| !code.is_empty());
        self
    }
}

impl Errors {
    pub(super) fn reply(&self, refusal: Refusal) -> Reply {
        let (status, kind, code) = refusal.kind.usual();
        let named = self.kinds.get(&refusal.kind).cloned().unwrap_or_default();
        let status = named.status.unwrap_or(status);
        let message = match (named.message, &refusal.model) {
            (Some(own), Some(model)) => own.replace("{model}", model),
            (Some(own), None) => own,
            (None, _) => refusal.message,
        };
        let said = [
            ("message", Value::from(message)),
            ("status", Value::from(status)),
            ("type", named.r#type.map_or_else(|| kind.into(), Value::from)),
            ("param", refusal.param.map(Value::from).unwrap_or_default()),
            (
                "code",
                refusal.code.or(named.code).or_else(|| code.map(str::to_owned)).map(Value::from).unwrap_or_default(),
            ),
        ];
        let mut reply = Reply::json(status, &self.body_of(&said));
        reply.headers.extend(refusal.headers);
        reply
    }

    /// Returns the body of an error that says so much.
    pub(super) fn body_of(&self, said: &[(&str, Value)]) -> Value {
        filled(&self.body, said)
    }
}

fn filled(shape: &Value, said: &[(&str, Value)]) -> Value {
    match shape {
        Value::String(text) => {
            let found =
                said.iter().find(|(name, _)| text.strip_prefix('{').and_then(|it| it.strip_suffix('}')) == Some(name));
            found.map_or_else(|| shape.clone(), |(_, value)| value.clone())
        }
        Value::Map(map) => {
            Value::from(map.iter().map(|(key, value)| (key.clone(), filled(value, said))).collect::<Map>())
        }
        Value::List(items) => Value::list(items.iter().map(|item| filled(item, said)).collect()),
        other => other.clone(),
    }
}
