//! Values of ours inside minijinja: wrapped in O(1), never copied, never rounded.

use std::cell::Cell;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use minijinja::value::DynObject;
use minijinja::value::Enumerator;
use minijinja::value::Object;
use minijinja::value::ObjectRepr;
use minijinja::value::ValueKind;

use crate::model::Map;
use crate::model::Value;
use crate::model::compare;

thread_local! {
    /// Whether the evaluation under way looked into a secret: then its result is secret.
    static TOUCHED: Cell<bool> = const { Cell::new(false) };
}

/// Runs an evaluation and tells whether it looked into a secret.
pub(super) fn watch<T>(evaluate: impl FnOnce() -> T) -> (T, bool) {
    let before = TOUCHED.replace(false);
    let result = evaluate();
    let touched = TOUCHED.replace(before);
    (result, touched)
}

/// Notes that a secret is laid open.
pub(super) fn touch() {
    TOUCHED.set(true);
}

/// What minijinja has no kind for, and lists and objects, which it shares with us.
#[derive(Clone, Debug)]
pub(super) struct Wrapped(pub(super) Value);

/// Makes a minijinja value.
pub(super) fn to_jinja(value: &Value) -> minijinja::Value {
    match value {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(value) => minijinja::Value::from(*value),
        Value::Int(value) => match i64::try_from(*value) {
            Ok(small) => minijinja::Value::from(small),
            Err(_) => minijinja::Value::from(*value),
        },
        Value::Float(value) => minijinja::Value::from(*value),
        Value::String(text) => minijinja::Value::from(text.clone()),
        other => minijinja::Value::from_object(Wrapped(other.clone())),
    }
}

/// Makes a value of ours; undefined becomes null.
pub(super) fn from_jinja(value: &minijinja::Value) -> Result<Value, String> {
    if let Some(wrapped) = value.downcast_object_ref::<Wrapped>() {
        return Ok(wrapped.0.clone());
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Ok(Value::Null),
        ValueKind::Bool => Ok(Value::Bool(value.is_true())),
        ValueKind::Number => match i128::try_from(value.clone()) {
            Ok(integer) if value.is_integer() => Ok(Value::Int(integer)),
            _ => f64::try_from(value.clone()).map(Value::Float).map_err(|_| "the number is too large".to_owned()),
        },
        ValueKind::String => Ok(Value::from(value.as_str().unwrap_or_default())),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().map_err(|error| error.to_string())?;
            items.map(|item| from_jinja(&item)).collect::<Result<Vec<_>, _>>().map(Value::list)
        }
        ValueKind::Map => {
            let mut map = Map::new();
            for key in value.try_iter().map_err(|error| error.to_string())? {
                let item = value.get_item(&key).map_err(|error| error.to_string())?;
                map.insert(key.to_string().into(), from_jinja(&item)?);
            }
            Ok(Value::from(map))
        }
        other => Err(format!("a value of kind {other} cannot be kept")),
    }
}

impl Object for Wrapped {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match &self.0 {
            Value::List(_) => ObjectRepr::Seq,
            Value::Map(_) => ObjectRepr::Map,
            _ => ObjectRepr::Plain,
        }
    }

    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        match &self.0 {
            Value::List(items) => {
                let index = usize::try_from(i64::try_from(key.clone()).ok()?).ok()?;
                items.get(index).map(to_jinja)
            }
            Value::Map(map) => map.get(key.as_str()?).map(to_jinja),
            _ => None,
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<minijinja::Value> {
        match &self.0 {
            Value::Map(map) => map.get(key).map(to_jinja),
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
        match &self.0 {
            Value::List(items) => Enumerator::Seq(items.len()),
            Value::Map(map) => Enumerator::Values(map.keys().map(|key| minijinja::Value::from(key.clone())).collect()),
            _ => Enumerator::NonEnumerable,
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        match &self.0 {
            Value::List(items) => Some(items.len()),
            Value::Map(map) => Some(map.len()),
            _ => None,
        }
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.0.is_truthy()
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        let other = other.downcast_ref::<Self>()?;
        compare(&self.0, &other.0).ok()
    }

    fn render(self: &Arc<Self>, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&text(&self.0))
    }
}

/// Returns the text that a template writes for a value, and notes when it is a secret's.
pub(super) fn text(value: &Value) -> String {
    if value.is_tainted() {
        touch();
    }
    value.to_text()
}
