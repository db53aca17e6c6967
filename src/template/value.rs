//! Values of ours inside minijinja: wrapped in O(1), never copied, never rounded.

use std::cell::Cell;
use std::cell::RefCell;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use minijinja::value::DynObject;
use minijinja::value::Enumerator;
use minijinja::value::Object;
use minijinja::value::ObjectExt;
use minijinja::value::ObjectRepr;
use minijinja::value::ValueKind;

use crate::model::Map;
use crate::model::Value;
use crate::model::compare;

thread_local! {
    /// Whether the evaluation under way looked into a secret: then its result is secret.
    static TOUCHED: Cell<bool> = const { Cell::new(false) };
}

thread_local! {
    /// In a plan, what the evaluation under way looked into that is not known yet.
    static UNKNOWN: RefCell<Option<Vec<Arc<str>>>> = const { RefCell::new(None) };
}

/// How many levels of lists and objects a template may put around what it is given.
const MAX_MADE_DEPTH: u16 = 64;

/// Runs an evaluation and tells whether it looked into a secret.
pub(super) fn watch<T>(evaluate: impl FnOnce() -> T) -> (T, bool) {
    let before = TOUCHED.replace(false);
    let result = evaluate();
    let touched = TOUCHED.replace(before);
    (result, touched)
}

/// Runs an evaluation and tells, where it is one of a plan, what it looked into that is not known yet.
pub(super) fn watch_unknown<T>(plans: bool, evaluate: impl FnOnce() -> T) -> (T, Vec<Arc<str>>) {
    if !plans {
        return (evaluate(), Vec::new());
    }
    let before = UNKNOWN.replace(Some(Vec::new()));
    let result = evaluate();
    let met = UNKNOWN.replace(before);
    (result, met.unwrap_or_default())
}

/// Notes what is not known in a value that is looked into.
fn note_unknown(value: &Value) {
    UNKNOWN.with_borrow_mut(|met| {
        if let Some(met) = met {
            value.unknowns(met);
        }
    });
}

/// Notes that a secret is laid open.
pub(super) fn touch() {
    TOUCHED.set(true);
}

/// What minijinja has no kind for, and lists and objects, which it shares with us.
#[derive(Clone, Debug)]
pub(super) struct Wrapped {
    pub(super) value: Value,
    /// At least the levels of lists and objects in it that the template itself made; nothing for data from outside.
    pub(super) made: u16,
}

/// Makes a minijinja value of data from outside.
pub(super) fn to_jinja(value: &Value) -> minijinja::Value {
    wrap(value.clone(), 0)
}

/// Makes a minijinja value of what the template made, in so many levels.
pub(super) fn to_jinja_made(value: Value, made: u16) -> Result<minijinja::Value, String> {
    if made > MAX_MADE_DEPTH {
        return Err(format!("lists and objects are nested deeper than {MAX_MADE_DEPTH}"));
    }
    Ok(wrap(value, made))
}

fn wrap(value: Value, made: u16) -> minijinja::Value {
    match value {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(value) => minijinja::Value::from(value),
        Value::Int(value) => match i64::try_from(value) {
            Ok(small) => minijinja::Value::from(small),
            Err(_) => minijinja::Value::from(value),
        },
        Value::Float(value) => minijinja::Value::from(value),
        Value::String(text) => minijinja::Value::from(text),
        // A secret object is an object of secrets: its members are there to be taken.
        Value::Secret(inner) if matches!(*inner, Value::List(_) | Value::Map(_)) => {
            minijinja::Value::from_object(Wrapped { value: Value::clone(&inner).tainted(), made })
        }
        unknown @ Value::Unknown(_) => {
            note_unknown(&unknown);
            minijinja::Value::from_object(Wrapped { value: unknown, made })
        }
        value => minijinja::Value::from_object(Wrapped { value, made }),
    }
}

/// Returns at least the levels of lists and objects that the template made.
pub(super) fn made(value: &minijinja::Value) -> u16 {
    value.downcast_object_ref::<Wrapped>().map_or(0, |wrapped| wrapped.made)
}

/// Takes a value of ours out to work on it; undefined becomes null.
pub(super) fn from_jinja(value: &minijinja::Value) -> Result<Value, String> {
    let value = taken(value)?;
    if matches!(value, Value::List(_) | Value::Map(_)) {
        note_unknown(&value);
    }
    Ok(value)
}

/// Takes a value of ours out as it is.
pub(super) fn taken(value: &minijinja::Value) -> Result<Value, String> {
    if let Some(wrapped) = value.downcast_object_ref::<Wrapped>() {
        return Ok(wrapped.value.clone());
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Ok(Value::Null),
        ValueKind::Bool => Ok(Value::Bool(value.is_true())),
        ValueKind::Number => match i128::try_from(value.clone()) {
            Ok(integer) if value.is_integer() => Ok(Value::Int(integer)),
            _ => f64::try_from(value.clone()).map(Value::Float).map_err(|_| "the number is too large".to_owned()),
        },
        ValueKind::String => Ok(value.to_str().map_or(Value::Null, Value::String)),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().map_err(|error| error.to_string())?;
            items.map(|item| taken(&item)).collect::<Result<Vec<_>, _>>().map(Value::list)
        }
        ValueKind::Map => {
            let mut map = Map::new();
            for key in value.try_iter().map_err(|error| error.to_string())? {
                let item = value.get_item(&key).map_err(|error| error.to_string())?;
                map.insert(name_of_member(&key)?, taken(&item)?);
            }
            Ok(Value::from(map))
        }
        other => Err(format!("a value of kind {other} cannot be kept")),
    }
}

/// Returns the name that a key gives to a member.
///
/// # Errors
/// A secret: the names of members are shown and stored in clear.
pub(super) fn name_of_member(key: &minijinja::Value) -> Result<Arc<str>, String> {
    if let Some(text) = key.to_str() {
        return Ok(text);
    }
    match from_jinja(key)? {
        Value::Secret(_) => {
            touch();
            Err("a secret cannot be the name of a member: names are not masked".to_owned())
        }
        Value::List(_) | Value::Map(_) => Err("a list or an object cannot be the name of a member".to_owned()),
        scalar => Ok(scalar.to_text().into()),
    }
}

impl Wrapped {
    fn child(&self, value: &Value) -> minijinja::Value {
        wrap(value.clone(), self.made.saturating_sub(1))
    }
}

impl Object for Wrapped {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match &self.value {
            Value::List(_) => ObjectRepr::Seq,
            Value::Map(_) => ObjectRepr::Map,
            _ => ObjectRepr::Plain,
        }
    }

    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        match &self.value {
            Value::List(items) => {
                let index = usize::try_from(i64::try_from(key.clone()).ok()?).ok()?;
                items.get(index).map(|item| self.child(item))
            }
            Value::Unknown(unknown) => Some(wrap(unknown.member(&key.to_string()), 0)),
            _ => self.get_value_by_str(key.as_str()?),
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<minijinja::Value> {
        match &self.value {
            Value::Map(map) => map.get(key).map(|item| self.child(item)),
            Value::Unknown(unknown) => Some(wrap(unknown.member(key), 0)),
            Value::Money(money) => match key {
                "amount" => Some(to_jinja(&Value::Decimal(money.amount))),
                "currency" => Some(minijinja::Value::from(money.currency.as_str())),
                _ => None,
            },
            Value::Dataset(dataset) => match key {
                "rows" => Some(minijinja::Value::from(dataset.rows)),
                "name" => Some(minijinja::Value::from(dataset.name.as_str())),
                _ => None,
            },
            Value::Blob(blob) => match key {
                "size" => Some(minijinja::Value::from(blob.size)),
                "media_type" => Some(minijinja::Value::from(blob.media_type.clone())),
                "file_name" => Some(minijinja::Value::from(blob.file_name.clone())),
                _ => None,
            },
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match &self.value {
            Value::List(items) => Enumerator::Seq(items.len()),
            // One by one: a loop may break off after the first.
            Value::Map(_) => self.mapped_enumerator(|this| match &this.value {
                Value::Map(map) => Box::new(map.keys().cloned().map(minijinja::Value::from)),
                _ => Box::new(std::iter::empty()),
            }),
            _ => Enumerator::NonEnumerable,
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        match &self.value {
            Value::List(items) => Some(items.len()),
            Value::Map(map) => Some(map.len()),
            _ => None,
        }
    }

    /// What a condition decides on a secret, the secret has decided: the result is secret too.
    fn is_true(self: &Arc<Self>) -> bool {
        if matches!(self.value, Value::Secret(_)) {
            touch();
        }
        self.value.is_truthy()
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        let other = other.downcast_ref::<Self>()?;
        compare(&self.value, &other.value).ok()
    }

    /// What minijinja shows of a value by itself, in its messages: the kind, since the value may be secret or large.
    fn render(self: &Arc<Self>, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.value.kind().name())
    }
}
