//! Why a call goes wrong, and how each protocol says it.

use crate::model::Map;
use crate::model::Value;

/// The exception that a call ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) message: String,
}

/// Which exception it is; it decides codes and statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A rule of the business.
    User,
    /// Values that may not be stored.
    Validation,
    /// Rows that are gone.
    Missing,
    /// No right to do it.
    Access,
    /// No user of that name and key.
    Denied,
    /// No such model.
    Model,
    /// No such method.
    Method,
    /// A method that is not for callers from outside.
    Private,
    /// Arguments that the method does not take.
    Arguments,
    /// An exception of the language, of this class.
    Broken(&'static str),
}

impl Fault {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Makes the fault of a value that the language itself refuses.
    pub(super) fn value(message: impl Into<String>) -> Self {
        Self::new(Kind::Broken("builtins.ValueError"), message)
    }

    /// Makes the fault of what is nested too deep.
    pub(super) fn too_deep() -> Self {
        Self::new(Kind::Broken("builtins.RecursionError"), "maximum recursion depth exceeded")
    }

    /// Makes the fault of a write that others were in the way of, however often it was tried.
    pub(super) fn contended() -> Self {
        let message = "could not serialize access due to concurrent update";
        Self::new(Kind::Broken("psycopg2.errors.SerializationFailure"), message)
    }

    /// Makes the fault of a field that a model does not have.
    pub(super) fn field(model: &str, field: &str) -> Self {
        Self::value(format!("Invalid field '{field}' on model '{model}'"))
    }

    /// Makes the fault of rows that are gone.
    pub(super) fn missing(model: &str, id: i64, user: i64) -> Self {
        let message = format!("Record does not exist or has been deleted.\n(Record: {model}({id},), User: {user})");
        Self::new(Kind::Missing, message)
    }

    /// Returns the class of the exception, as remote procedure calls know it.
    fn class(&self, package: &str) -> String {
        match self.kind {
            Kind::User | Kind::Model => format!("{package}.exceptions.UserError"),
            Kind::Validation => format!("{package}.exceptions.ValidationError"),
            Kind::Missing => format!("{package}.exceptions.MissingError"),
            Kind::Access | Kind::Private => format!("{package}.exceptions.AccessError"),
            Kind::Denied => format!("{package}.exceptions.AccessDenied"),
            Kind::Method => "builtins.AttributeError".to_owned(),
            Kind::Arguments => "builtins.TypeError".to_owned(),
            Kind::Broken(class) => class.to_owned(),
        }
    }

    /// Returns what a traceback of the server says; its last line names the exception.
    pub(super) fn traceback(&self, package: &str) -> String {
        let class = self.class(package);
        let class = class.strip_prefix("builtins.").unwrap_or(&class);
        format!(
            "Traceback (most recent call last):\n  File \"sandbox\", line 1, in dispatch\n{class}: {}\n",
            self.message
        )
    }

    /// Returns code and text of a fault of XML-RPC.
    pub(super) fn coded(&self, package: &str) -> (i64, String) {
        match self.kind {
            Kind::User | Kind::Validation | Kind::Missing | Kind::Model => (2, self.message.clone()),
            Kind::Denied => (3, self.message.clone()),
            Kind::Access | Kind::Private => (4, self.message.clone()),
            Kind::Method | Kind::Arguments | Kind::Broken(_) => (1, self.traceback(package)),
        }
    }

    /// Returns code and text of a fault of the first XML-RPC, whose codes are texts.
    pub(super) fn named(&self, package: &str) -> (String, String) {
        let warning = |class: &str| (format!("warning -- {class}\n\n{}", self.message), String::new());
        match self.kind {
            Kind::User | Kind::Validation | Kind::Model => warning("UserError"),
            Kind::Missing => warning("MissingError"),
            Kind::Access | Kind::Private => warning("AccessError"),
            Kind::Denied => ("AccessDenied".to_owned(), self.message.clone()),
            Kind::Method | Kind::Arguments | Kind::Broken(_) => (self.message.clone(), self.traceback(package)),
        }
    }

    /// Returns the exception as JSON-RPC shows it.
    pub(super) fn described(&self, package: &str) -> Value {
        let arguments = vec![Value::from(self.message.as_str())];
        description(&self.class(package), &self.message, arguments, self.traceback(package))
    }

    /// Returns status and body of JSON-2.
    pub(super) fn answered(&self, package: &str) -> (u16, Value) {
        let (status, class) = match self.kind {
            Kind::User | Kind::Validation => (422, None),
            Kind::Missing => (404, None),
            Kind::Access | Kind::Denied => (403, None),
            Kind::Model | Kind::Method | Kind::Private => (404, Some("NotFound")),
            Kind::Arguments => (422, Some("UnprocessableEntity")),
            Kind::Broken(_) => (500, None),
        };
        match class {
            Some(class) => (status, http_error(status, class, &self.message)),
            None => (status, self.described(package)),
        }
    }
}

/// Describes an error of HTTP.
pub(super) fn http_error(status: u16, class: &str, message: &str) -> Value {
    let class = format!("werkzeug.exceptions.{class}");
    let debug = format!("Traceback (most recent call last):\n{class}: {status}: {message}\n");
    description(&class, message, vec![Value::from(message), Value::from(status)], debug)
}

fn description(class: &str, message: &str, arguments: Vec<Value>, debug: String) -> Value {
    Value::map([
        ("name", Value::from(class)),
        ("message", Value::from(message)),
        ("arguments", Value::list(arguments)),
        ("context", Value::from(Map::new())),
        ("debug", Value::from(debug)),
    ])
}
