//! What is wrong with a request, and how both versions say it.

use super::edm::Version;
use super::settings::Settings;
use crate::model::Timestamp;
use crate::model::Value;
use crate::sandbox::exchange::Reply;

/// What is wrong. Its name finds the vendor's code in the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Service,
    Resource,
    Entity,
    Query,
    Value,
    Exists,
    Body,
    Method,
    Unsupported,
    /// A condition is missing.
    Unconditional,
    Stale,
    /// What the service itself refuses; it has a code of its own.
    Business,
}

#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub reason: Reason,
    pub status: u16,
    pub code: Option<String>,
    pub message: String,
    /// The property that is at fault.
    pub target: Option<String>,
    pub html: bool,
}

/// What an error tells about where it happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'a> {
    pub settings: &'a Settings,
    pub version: Version,
    pub service: &'a str,
    pub component: &'a str,
    pub now: Timestamp,
    pub transaction: u128,
}

impl Reason {
    pub(super) const ALL: [Self; 12] = [
        Self::Service,
        Self::Resource,
        Self::Entity,
        Self::Query,
        Self::Value,
        Self::Exists,
        Self::Body,
        Self::Method,
        Self::Unsupported,
        Self::Unconditional,
        Self::Stale,
        Self::Business,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Resource => "resource",
            Self::Entity => "entity",
            Self::Query => "query",
            Self::Value => "value",
            Self::Exists => "exists",
            Self::Body => "body",
            Self::Method => "method",
            Self::Unsupported => "unsupported",
            Self::Unconditional => "unconditional",
            Self::Stale => "stale",
            Self::Business => "business",
        }
    }

    fn status(self) -> u16 {
        match self {
            Self::Service | Self::Resource | Self::Entity => 404,
            Self::Query | Self::Value | Self::Exists | Self::Body | Self::Business => 400,
            Self::Method => 405,
            Self::Unsupported => 501,
            Self::Unconditional => 428,
            Self::Stale => 412,
        }
    }
}

impl Fault {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        let status = reason.status();
        Self { reason, status, code: None, message: message.into(), target: None, html: false }
    }

    /// Names the property that is at fault.
    pub(super) fn at(mut self, property: &str) -> Self {
        self.target = Some(property.to_owned());
        self
    }

    pub(super) fn with_code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    pub(super) fn reply(&self, scene: Scene<'_>) -> Reply {
        if self.html {
            let text = format!("<html><head><title>Error</title></head><body><p>{}</p></body></html>", self.message);
            return Reply::typed(self.status, "text/html; charset=utf-8", text);
        }
        let protocol = match scene.version {
            Version::V2 => &scene.settings.v2,
            Version::V4 => &scene.settings.v4,
        };
        let known = protocol.as_ref().and_then(|protocol| protocol.codes.get(self.reason.name()));
        let code = self.code.as_ref().or(known).map_or(self.reason.name(), String::as_str);
        let text = |text: &str| Value::from(text);
        let target = self.target.as_deref().unwrap_or_default();
        let mut detail = vec![("code", text(code)), ("message", text(&self.message))];
        let error = match scene.version {
            Version::V2 => {
                detail.extend([("propertyref", text(target)), ("severity", text("error")), ("target", text(target))]);
                Value::map([
                    ("code", text(code)),
                    ("message", Value::map([("lang", text("en")), ("value", text(&self.message))])),
                    ("innererror", scene.inner(Value::map(detail))),
                ])
            }
            Version::V4 => {
                detail.push(("target", text(target)));
                detail.push(("details", Value::list(Vec::new())));
                detail.retain(|(key, value)| *key != "target" || *value != text(""));
                Value::map(detail)
            }
        };
        Reply::json(self.status, &Value::map([("error", error)]))
    }
}

impl Scene<'_> {
    fn inner(&self, detail: Value) -> Value {
        // A version may follow the name of a service.
        let (name, version) = self.service.split_once(";v=").unwrap_or((self.service, "0001"));
        let application = [
            ("component_id", self.component),
            ("service_namespace", &self.settings.error_namespace),
            ("service_id", name),
            ("service_version", version),
        ];
        let time = self.now.to_jiff().strftime("%Y%m%d%H%M%S");
        let micros = self.now.micros().rem_euclid(1_000_000);
        Value::map([
            ("application", Value::map(application.map(|(key, value)| (key, Value::from(value))))),
            ("transactionid", Value::from(format!("{:032X}", self.transaction))),
            ("timestamp", Value::from(format!("{time}.{micros:06}0"))),
            ("errordetails", Value::list(vec![detail])),
        ])
    }
}
