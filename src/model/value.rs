//! The one value type: what inputs, step outputs, templates and the journal hold.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use rust_decimal::Decimal;

use super::Duration;
use super::Money;
use super::Timestamp;

/// An object: keys in the order in which they were written.
pub type Map = IndexMap<Arc<str>, Value>;

/// A dynamically typed value that is cheap to clone and exact in its numbers.
///
/// A number that came in as text keeps every digit: as `Int` up to i128, as `Decimal` up to 28 digits, else verbatim as
/// `Number`. A `Float` exists only where an author asked for one.
#[derive(Clone, Default)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i128),
    Decimal(Decimal),
    /// A number too long for `Int` and `Decimal`, carried as written; arithmetic on it is an error.
    Number(Arc<str>),
    Float(f64),
    String(Arc<str>),
    List(Arc<Vec<Value>>),
    Map(Arc<Map>),
    Money(Money),
    Time(Timestamp),
    Duration(Duration),
    /// A file, by handle.
    Blob(Arc<Blob>),
    /// Rows kept in the store, by handle.
    Dataset(Arc<Dataset>),
    /// A scalar that is, or was computed from, a secret. Shown as `***`, stored sealed.
    Secret(Arc<Value>),
    /// What is not known before something else has happened. Only in plans: shown as `?`, and no run ever holds one.
    Unknown(Arc<Unknown>),
}

/// What is not known yet, and what it depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown {
    /// Where it will come from, e.g. `steps.pay.output.id`; none twice.
    pub of: Vec<Arc<str>>,
    /// Of a text of which parts are known: the text, with `?` for the rest.
    pub shown: Option<Arc<str>>,
}

impl Unknown {
    /// Makes what comes from one place.
    #[must_use]
    pub fn of(place: impl Into<Arc<str>>) -> Value {
        Value::Unknown(Arc::new(Self { of: vec![place.into()], shown: None }))
    }

    /// Makes what depends on all of these.
    #[must_use]
    pub fn of_all(places: impl IntoIterator<Item = Arc<str>>) -> Value {
        let mut of: Vec<Arc<str>> = Vec::new();
        for place in places {
            if !of.contains(&place) {
                of.push(place);
            }
        }
        Value::Unknown(Arc::new(Self { of, shown: None }))
    }

    /// Returns what a member of it is: unknown too.
    #[must_use]
    pub fn member(&self, key: &str) -> Value {
        Value::Unknown(Arc::new(Self {
            of: self.of.iter().map(|place| format!("{place}.{key}").into()).collect(),
            shown: None,
        }))
    }
}

/// The handle of a file in the blob store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Content address, `sha256:` and 64 hexadecimal digits.
    pub address: String,
    /// Length in bytes, of the part where it is one.
    pub size: u64,
    /// Where the part begins within the file; nothing for the whole file.
    pub offset: Option<u64>,
    pub media_type: Option<String>,
    pub file_name: Option<String>,
}

/// The handle of rows in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Name given by `into`.
    pub name: String,
    /// Unique id in the store (run and step make it).
    pub id: String,
    pub rows: u64,
}

/// The kind of a value, as it is named in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    Boolean,
    Integer,
    Decimal,
    Float,
    String,
    Array,
    Object,
    Money,
    DateTime,
    Duration,
    Blob,
    Dataset,
    Secret,
    Unknown,
}

impl Kind {
    /// Returns the name that messages and schemas use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Decimal => "decimal",
            Self::Float => "float",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
            Self::Money => "money",
            Self::DateTime => "datetime",
            Self::Duration => "duration",
            Self::Blob => "blob",
            Self::Dataset => "dataset",
            Self::Secret => "secret",
            Self::Unknown => "unknown",
        }
    }
}

impl Value {
    /// Makes a list.
    #[must_use]
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(items))
    }

    /// Makes an object from its entries.
    #[must_use]
    pub fn map<K: Into<Arc<str>>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::Map(Arc::new(entries.into_iter().map(|(key, value)| (key.into(), value)).collect()))
    }

    /// Returns what kind of value this is; a long verbatim number counts as a decimal.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Bool(_) => Kind::Boolean,
            Self::Int(_) => Kind::Integer,
            Self::Decimal(_) | Self::Number(_) => Kind::Decimal,
            Self::Float(_) => Kind::Float,
            Self::String(_) => Kind::String,
            Self::List(_) => Kind::Array,
            Self::Map(_) => Kind::Object,
            Self::Money(_) => Kind::Money,
            Self::Time(_) => Kind::DateTime,
            Self::Duration(_) => Kind::Duration,
            Self::Blob(_) => Kind::Blob,
            Self::Dataset(_) => Kind::Dataset,
            Self::Secret(_) => Kind::Secret,
            Self::Unknown(_) => Kind::Unknown,
        }
    }

    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Returns the text of a string; a secret is not a string here.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the member `key` of an object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_map()?.get(key)
    }

    /// Tells whether a template counts the value as true: not null, false, zero, or empty.
    #[must_use]
    pub fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Decimal(value) => !value.is_zero(),
            Self::Number(text) => text.bytes().any(|byte| matches!(byte, b'1'..=b'9')),
            Self::Float(value) => *value != 0.0,
            Self::String(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Money(money) => !money.amount.is_zero(),
            Self::Secret(inner) => inner.is_truthy(),
            Self::Time(_) | Self::Duration(_) | Self::Blob(_) | Self::Dataset(_) | Self::Unknown(_) => true,
        }
    }

    /// Returns the value with every scalar in it marked as secret.
    #[must_use]
    pub fn tainted(self) -> Self {
        match self {
            Self::Null | Self::Secret(_) | Self::Unknown(_) => self,
            Self::List(items) => Self::list(items.iter().cloned().map(Self::tainted).collect()),
            Self::Map(map) => Self::map(map.iter().map(|(key, value)| (key.clone(), value.clone().tainted()))),
            scalar => Self::Secret(Arc::new(scalar)),
        }
    }

    /// Tells whether anything in the value is secret.
    #[must_use]
    pub fn is_tainted(&self) -> bool {
        match self {
            Self::Secret(_) => true,
            Self::List(items) => items.iter().any(Self::is_tainted),
            Self::Map(map) => map.values().any(Self::is_tainted),
            _ => false,
        }
    }

    /// Adds the places that anything unknown in the value comes from; returns whether there is any.
    pub fn unknowns(&self, places: &mut Vec<Arc<str>>) -> bool {
        match self {
            Self::Unknown(unknown) => {
                for place in &unknown.of {
                    if !places.contains(place) {
                        places.push(place.clone());
                    }
                }
                true
            }
            Self::List(items) => items.iter().fold(false, |any, item| item.unknowns(places) | any),
            Self::Map(map) => map.values().fold(false, |any, item| item.unknowns(places) | any),
            _ => false,
        }
    }

    /// Tells whether nothing in the value is unknown.
    #[must_use]
    pub fn is_known(&self) -> bool {
        match self {
            Self::Unknown(_) => false,
            Self::List(items) => items.iter().all(Self::is_known),
            Self::Map(map) => map.values().all(Self::is_known),
            _ => true,
        }
    }

    /// Returns the value with secrets laid open: for the request that goes out, never for anything that is shown.
    #[must_use]
    pub fn revealed(&self) -> Self {
        match self {
            Self::Secret(inner) => inner.revealed(),
            Self::List(items) if self.is_tainted() => Self::list(items.iter().map(Self::revealed).collect()),
            Self::Map(map) if self.is_tainted() => {
                Self::map(map.iter().map(|(key, value)| (key.clone(), value.revealed())))
            }
            other => other.clone(),
        }
    }

    /// Returns the text that a template writes for this value: a string as it is, null as nothing, the rest as JSON.
    /// Secrets are laid open.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::String(text) => text.to_string(),
            Self::Money(money) => money.to_string(),
            Self::Time(time) => time.to_string(),
            Self::Duration(duration) => duration.to_string(),
            Self::Secret(inner) => inner.to_text(),
            Self::Unknown(unknown) => unknown.shown.as_deref().unwrap_or("?").to_owned(),
            other => {
                let mut text = String::new();
                super::write_json(&other.revealed(), &mut text);
                text
            }
        }
    }
}

/// Shows the value as JSON, secrets as `***`.
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        super::write_json(self, &mut text);
        formatter.write_str(&text)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Structural equality; numbers compare by value, so `1`, `1.0` and `1.00` are equal. A float equals only a float.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(left), Self::Bool(right)) => left == right,
            (Self::Float(left), Self::Float(right)) => left == right,
            (Self::Number(left), Self::Number(right)) => left == right,
            (Self::String(left), Self::String(right)) => left == right,
            (Self::List(left), Self::List(right)) => Arc::ptr_eq(left, right) || left == right,
            (Self::Map(left), Self::Map(right)) => Arc::ptr_eq(left, right) || left == right,
            (Self::Time(left), Self::Time(right)) => left == right,
            (Self::Duration(left), Self::Duration(right)) => left == right,
            (Self::Blob(left), Self::Blob(right)) => left == right,
            (Self::Dataset(left), Self::Dataset(right)) => left == right,
            (Self::Secret(left), Self::Secret(right)) => left == right,
            (Self::Secret(inner), other) | (other, Self::Secret(inner)) => **inner == *other,
            (Self::Int(_) | Self::Decimal(_) | Self::Money(_), Self::Int(_) | Self::Decimal(_) | Self::Money(_)) => {
                matches!(super::compare(self, other), Ok(std::cmp::Ordering::Equal))
            }
            _ => false,
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<Decimal> for Value {
    fn from(value: Decimal) -> Self {
        Self::Decimal(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(value.into())
    }
}

impl From<Vec<Self>> for Value {
    fn from(items: Vec<Self>) -> Self {
        Self::list(items)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(Arc::new(map))
    }
}

macro_rules! from_integers {
    ($($integer:ty),*) => {
        $(impl From<$integer> for Value {
            fn from(value: $integer) -> Self {
                Self::Int(i128::from(value))
            }
        })*
    };
}
from_integers!(i32, i64, i128, u16, u32, u64);
