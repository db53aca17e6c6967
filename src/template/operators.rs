//! The operators of expressions, exact: what `+`, `<`, `in`, `~`, `[…]` and `{…}` compile to.

use std::cmp::Ordering;

use minijinja::Environment;
use minijinja::Error;
use minijinja::ErrorKind;
use minijinja::State;
use minijinja::value::Rest;

use super::MAX_TEXT;
use super::budget;
use super::environment::is_lenient;
use super::filters;
use super::value::from_jinja;
use super::value::made;
use super::value::name_of_member;
use super::value::to_jinja;
use super::value::to_jinja_made;
use super::value::touch;
use crate::model;
use crate::model::Map;
use crate::model::NumberError;
use crate::model::Value;

/// The largest list that an operator or `range` makes.
pub(super) const MAX_LIST: usize = 1_000_000;

pub(super) fn register(environment: &mut Environment<'_>) {
    binary(environment, "__add", |_, left, right| bounded(model::add(left, right)));
    binary(environment, "__sub", |_, left, right| said(model::subtract(left, right)));
    binary(environment, "__mul", |_, left, right| multiply(left, right));
    binary(environment, "__div", |_, left, right| said(model::divide(left, right)));
    binary(environment, "__floordiv", |_, left, right| said(model::floor_divide(left, right)));
    binary(environment, "__rem", |_, left, right| said(model::remainder(left, right)));
    binary(environment, "__pow", |_, left, right| power(left, right));
    binary(environment, "__eq", |state, left, right| equal(state, left, right).map(Value::Bool));
    binary(environment, "__ne", |state, left, right| equal(state, left, right).map(|equal| Value::Bool(!equal)));
    binary(environment, "__lt", |state, left, right| order(state, left, right, Ordering::is_lt));
    binary(environment, "__le", |state, left, right| order(state, left, right, Ordering::is_le));
    binary(environment, "__gt", |state, left, right| order(state, left, right, Ordering::is_gt));
    binary(environment, "__ge", |state, left, right| order(state, left, right, Ordering::is_ge));
    binary(environment, "__in", |state, left, right| contains(state, right, left).map(Value::Bool));
    binary(environment, "__notin", |state, left, right| contains(state, right, left).map(|is_in| Value::Bool(!is_in)));
    environment.add_filter("__neg", |value: minijinja::Value| -> Result<minijinja::Value, Error> {
        defined("the operand", "-", &value)?;
        said(model::negate(&ours(&value)?)).map(|value| to_jinja(&value))
    });
    environment.add_filter("__decimal", |digits: &str| -> Result<minijinja::Value, Error> {
        let number = model::parse_number(digits).ok_or_else(|| invalid(format!("`{digits}` is not a number")))?;
        Ok(to_jinja(&number))
    });
    environment.add_filter(
        "__concat",
        |state: &State<'_, '_>,
         first: minijinja::Value,
         rest: Rest<minijinja::Value>|
         -> Result<minijinja::Value, Error> {
            let mut joined = String::new();
            let mut is_secret = append(state, &first, &mut joined)?;
            for part in rest.iter() {
                is_secret |= append(state, part, &mut joined)?;
            }
            let joined = Value::from(joined);
            Ok(to_jinja(&if is_secret { joined.tainted() } else { joined }))
        },
    );
    environment.add_filter("__list", list_of);
    environment.add_filter("__map", map_of);
    environment.add_filter("__slice", slice);
    environment.add_filter("__get", |value: minijinja::Value, key: minijinja::Value| -> minijinja::Value {
        value.get_item(&key).unwrap_or(minijinja::Value::UNDEFINED)
    });
    environment.add_filter("__find", |value: minijinja::Value, key: minijinja::Value| -> minijinja::Value {
        let found = value.get_item(&key).ok().filter(|found| !found.is_undefined());
        found.unwrap_or_else(|| minijinja::Value::from(()))
    });
    environment.add_filter("__encode", |state: &State<'_, '_>, value: minijinja::Value| encode(state, &value));
    environment.add_filter(
        "__keep",
        |state: &mut State<'_, '_>, value: minijinja::Value, place: usize| -> minijinja::Value {
            state.set_temp(&place.to_string(), value.clone());
            value
        },
    );
    environment.add_filter("__kept", |state: &State<'_, '_>, place: usize| -> minijinja::Value {
        state.get_temp(&place.to_string()).unwrap_or(minijinja::Value::UNDEFINED)
    });
}

fn binary(
    environment: &mut Environment<'_>,
    name: &'static str,
    operate: impl Fn(&State<'_, '_>, &Value, &Value) -> Result<Value, Error> + Send + Sync + 'static,
) {
    environment.add_filter(
        name,
        move |state: &State<'_, '_>,
              left: minijinja::Value,
              right: minijinja::Value|
              -> Result<minijinja::Value, Error> {
            if !is_lenient(state) {
                defined("the left side", symbol(name), &left)?;
                defined("the right side", symbol(name), &right)?;
            }
            let levels = made(&left).max(made(&right));
            let (left, right) = (ours(&left)?, ours(&right)?);
            if let Some(unknown) = [&left, &right].into_iter().find(|side| matches!(side, Value::Unknown(_))) {
                return Ok(to_jinja(unknown));
            }
            let result = match apply(state, &left, &right, &operate) {
                Ok(result) => result,
                Err(error) => {
                    if budget::may_be_tainted(&left) || budget::may_be_tainted(&right) {
                        touch();
                    }
                    return Err(error);
                }
            };
            if let Value::List(_) = &result {
                budget::pay_for(state, &result)?;
                return to_jinja_made(result, levels.max(1)).map_err(invalid);
            }
            Ok(to_jinja(&result))
        },
    );
}

/// Operates on what secrets hold; then the result is secret.
fn apply(
    state: &State<'_, '_>,
    left: &Value,
    right: &Value,
    operate: impl Fn(&State<'_, '_>, &Value, &Value) -> Result<Value, Error>,
) -> Result<Value, Error> {
    if matches!(left, Value::Secret(_)) || matches!(right, Value::Secret(_)) {
        let ((left, _), (right, _)) = (budget::open(state, left.clone())?, budget::open(state, right.clone())?);
        return operate(state, &left, &right).map(Value::tainted);
    }
    operate(state, left, right)
}

fn defined(side: &str, operator: &str, value: &minijinja::Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, format!("{side} of `{operator}` is undefined")));
    }
    Ok(())
}

fn symbol(name: &str) -> &str {
    match name {
        "__add" => "+",
        "__sub" => "-",
        "__mul" => "*",
        "__div" => "/",
        "__floordiv" => "//",
        "__rem" => "%",
        "__pow" => "**",
        "__eq" => "==",
        "__ne" => "!=",
        "__lt" => "<",
        "__le" => "<=",
        "__gt" => ">",
        "__ge" => ">=",
        "__notin" => "not in",
        _ => "in",
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

pub(super) fn ours(value: &minijinja::Value) -> Result<Value, Error> {
    let value = from_jinja(value).map_err(invalid)?;
    if matches!(value, Value::Secret(_)) {
        // Whatever comes of it is secret, an error's text too.
        touch();
    }
    Ok(value)
}

/// Returns what a secret holds, else the value itself.
pub(super) fn bare(value: &Value) -> &Value {
    match value {
        Value::Secret(inner) => inner,
        value => value,
    }
}

fn said(result: Result<Value, NumberError>) -> Result<Value, Error> {
    result.map_err(|error| invalid(error.to_string()))
}

fn bounded(result: Result<Value, NumberError>) -> Result<Value, Error> {
    let value = said(result)?;
    match &value {
        Value::List(items) if items.len() > MAX_LIST => Err(too_many()),
        Value::String(text) if text.len() > MAX_TEXT => Err(too_long()),
        _ => Ok(value),
    }
}

pub(super) fn too_many() -> Error {
    invalid(format!("a list of more than {MAX_LIST} items"))
}

pub(super) fn too_long() -> Error {
    invalid(format!("a text of more than {MAX_TEXT} bytes"))
}

/// Numbers multiply; a text or a list is repeated.
fn multiply(left: &Value, right: &Value) -> Result<Value, Error> {
    match (left, right) {
        (Value::String(text), Value::Int(count)) | (Value::Int(count), Value::String(text)) => {
            let count = usize::try_from(*count).unwrap_or(if *count > 0 { usize::MAX } else { 0 });
            if text.len().saturating_mul(count) > MAX_TEXT {
                return Err(too_long());
            }
            Ok(Value::from(if text.is_empty() { String::new() } else { text.repeat(count) }))
        }
        (Value::List(items), Value::Int(count)) | (Value::Int(count), Value::List(items)) => {
            let count = usize::try_from(*count).unwrap_or(if *count > 0 { usize::MAX } else { 0 });
            let length = items.len().saturating_mul(count);
            if length > MAX_LIST {
                return Err(too_many());
            }
            Ok(Value::list(items.iter().cycle().take(length).cloned().collect()))
        }
        _ => said(model::multiply(left, right)),
    }
}

/// A number to a whole power, by repeated exact multiplication.
fn power(base: &Value, exponent: &Value) -> Result<Value, Error> {
    if let (Value::Float(base), Value::Float(exponent)) = (base, exponent) {
        return Ok(Value::Float(base.powf(*exponent)));
    }
    let Value::Int(exponent) = exponent else { return Err(invalid("a power must be a whole number")) };
    let count = u32::try_from(*exponent).ok().filter(|count| *count <= 10_000);
    let count = count.ok_or_else(|| invalid("a power must be from 0 to 10000"))?;
    let mut product = Value::Int(1);
    for _ in 0..count {
        product = said(model::multiply(&product, base))?;
    }
    Ok(product)
}

/// Compares by value; lists and objects are walked within bounds.
pub(super) fn equal(state: &State<'_, '_>, left: &Value, right: &Value) -> Result<bool, Error> {
    if let (Value::List(_) | Value::Map(_) | Value::String(_), Value::List(_) | Value::Map(_) | Value::String(_)) =
        (left, right)
    {
        let (left, _) = budget::open(state, left.clone())?;
        let (right, _) = budget::open(state, right.clone())?;
        return Ok(left == right);
    }
    Ok(same(left, right))
}

/// Compares by value what is known to be of bounded size.
pub(super) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Secret(left), right) | (right, Value::Secret(left)) => same(left, right),
        (Value::Float(_), _) | (_, Value::Float(_)) => matches!(model::compare(left, right), Ok(Ordering::Equal)),
        _ => left == right,
    }
}

pub(super) fn order(
    state: &State<'_, '_>,
    left: &Value,
    right: &Value,
    holds: impl Fn(Ordering) -> bool,
) -> Result<Value, Error> {
    let (left, _) = budget::open(state, left.clone())?;
    let (right, _) = budget::open(state, right.clone())?;
    model::compare(&left, &right).map(|order| Value::Bool(holds(order))).map_err(|error| invalid(error.to_string()))
}

pub(super) fn contains(state: &State<'_, '_>, container: &Value, item: &Value) -> Result<bool, Error> {
    match container {
        Value::List(items) => {
            // Each comparison is small work, but there may be a million of them in every round of a loop.
            budget::spend(state, items.len() / 16)?;
            if let Value::String(text) = bare(item) {
                // Texts of the same length are compared to the end.
                let alike = items.iter().filter(|it| it.as_str().is_some_and(|other| other.len() == text.len()));
                budget::read(state, text.len().saturating_mul(alike.count()))?;
            }
            if is_scalar(item) {
                let is_secret = |other: &Value| matches!(other, Value::Secret(_));
                if items.iter().any(is_secret) {
                    touch();
                }
                return Ok(items.iter().any(|other| is_scalar(other) && same(other, item)));
            }
            let (items, _) = budget::open(state, container.clone())?;
            let (item, _) = budget::open(state, item.clone())?;
            Ok(items.as_list().is_some_and(|items| items.iter().any(|other| same(other, &item))))
        }
        Value::Map(map) => match item {
            Value::Secret(inner) => {
                touch();
                contains(state, container, inner)
            }
            item => Ok(item.as_str().is_some_and(|key| map.contains_key(key))),
        },
        Value::String(text) => match item {
            Value::String(part) => {
                budget::read(state, text.len())?;
                Ok(text.contains(&**part))
            }
            Value::Secret(inner) => contains(state, container, inner),
            other => Err(invalid(format!("a text cannot hold {}", other.kind().name()))),
        },
        Value::Secret(inner) => {
            touch();
            contains(state, inner, item)
        }
        Value::Null => Ok(false),
        other => Err(invalid(format!("`in` looks into a list, an object or a text, not into {}", other.kind().name()))),
    }
}

/// Writes a value as a part of a URL: all but the unreserved letters of RFC 3986 percent-encoded.
fn encode(state: &State<'_, '_>, value: &minijinja::Value) -> Result<minijinja::Value, Error> {
    if value.is_undefined() || value.is_none() {
        return Ok(minijinja::Value::from(""));
    }
    let (text, is_secret) = budget::text(state, &ours(value)?)?;
    let encoded = Value::from(filters::percent(&text, false));
    Ok(to_jinja(&if is_secret { encoded.tainted() } else { encoded }))
}

fn is_scalar(value: &Value) -> bool {
    match value {
        Value::List(_) | Value::Map(_) => false,
        Value::Secret(inner) => is_scalar(inner),
        _ => true,
    }
}

/// Appends the text of a value; the whole is bounded. Tells whether there was a secret in it.
fn append(state: &State<'_, '_>, part: &minijinja::Value, joined: &mut String) -> Result<bool, Error> {
    if part.is_undefined() && !is_lenient(state) {
        return Err(Error::new(ErrorKind::UndefinedError, "a part of the text is undefined"));
    }
    let is_secret = match part.as_str() {
        Some(plain) => {
            joined.push_str(plain);
            false
        }
        None => {
            let (text, is_secret) = budget::text(state, &ours(part)?)?;
            joined.push_str(&text);
            is_secret
        }
    };
    if joined.len() > MAX_TEXT {
        return Err(too_long());
    }
    Ok(is_secret)
}

/// Takes what a literal holds, and how deep it is.
fn items_of(literal: &minijinja::Value, what: &str) -> Result<(Vec<minijinja::Value>, u16), Error> {
    let items: Vec<_> = literal.try_iter()?.collect();
    if items.iter().any(minijinja::Value::is_undefined) {
        return Err(Error::new(ErrorKind::UndefinedError, format!("{what} is undefined")));
    }
    let levels = items.iter().map(made).max().unwrap_or(0);
    Ok((items, levels + 1))
}

#[expect(clippy::needless_pass_by_value, reason = "the engine calls filters so")]
fn list_of(literal: minijinja::Value) -> Result<minijinja::Value, Error> {
    let (items, levels) = items_of(&literal, "an item of a list")?;
    let items = items.iter().map(|item| from_jinja(item).map_err(invalid)).collect::<Result<Vec<_>, _>>()?;
    to_jinja_made(Value::list(items), levels).map_err(invalid)
}

#[expect(clippy::needless_pass_by_value, reason = "the engine calls filters so")]
fn map_of(literal: minijinja::Value) -> Result<minijinja::Value, Error> {
    let (items, levels) = items_of(&literal, "a member of an object")?;
    let mut map = Map::new();
    for pair in items.chunks_exact(2) {
        if let [name, item] = pair {
            map.insert(name_of_member(name).map_err(invalid)?, from_jinja(item).map_err(invalid)?);
        }
    }
    to_jinja_made(Value::from(map), levels).map_err(invalid)
}

/// `x[start:stop:step]` of a list or a text, with places from the end as in Python.
#[expect(clippy::needless_pass_by_value, reason = "the engine calls filters so")]
fn slice(
    state: &State<'_, '_>,
    value: minijinja::Value,
    start: minijinja::Value,
    stop: minijinja::Value,
    step: minijinja::Value,
) -> Result<minijinja::Value, Error> {
    defined("what stands before", "[…]", &value)?;
    let levels = made(&value);
    let place = |value: &minijinja::Value| match ours(value)? {
        Value::Null => Ok(None),
        Value::Int(place) => Ok(Some(place)),
        other => Err(invalid(format!("a place in `[…]` is a whole number, not {}", other.kind().name()))),
    };
    let (start, stop, step) = (place(&start)?, place(&stop)?, place(&step)?.unwrap_or(1));
    let letters = |text: &str| -> Result<Value, Error> {
        budget::read(state, text.len() * 8)?;
        let letters: Vec<char> = text.chars().collect();
        Ok(Value::from(picked(&letters, start, stop, step)?.into_iter().collect::<String>()))
    };
    let result = match ours(&value)? {
        Value::List(items) => Value::list(picked(&items, start, stop, step)?),
        Value::String(text) => letters(&text)?,
        Value::Secret(inner) => letters(&inner.to_text())?.tainted(),
        Value::Null => Value::list(Vec::new()),
        other => return Err(invalid(format!("only a list or a text has parts, {} has none", other.kind().name()))),
    };
    budget::pay_for(state, &result)?;
    to_jinja_made(result, levels).map_err(invalid)
}

fn picked<T: Clone>(items: &[T], start: Option<i128>, stop: Option<i128>, step: i128) -> Result<Vec<T>, Error> {
    let length = i128::try_from(items.len()).unwrap_or(i128::MAX);
    if step == 0 {
        return Err(invalid("the step in `[…]` cannot be 0"));
    }
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let bound = |place: Option<i128>, open: i128| match place {
        Some(place) if place < 0 => place.saturating_add(length).clamp(low, high),
        Some(place) => place.clamp(low, high),
        None => open,
    };
    let (mut at, end) =
        if step > 0 { (bound(start, low), bound(stop, high)) } else { (bound(start, high), bound(stop, low)) };
    let mut kept = Vec::new();
    while (step > 0 && at < end) || (step < 0 && at > end) {
        kept.extend(usize::try_from(at).ok().and_then(|at| items.get(at)).cloned());
        at = at.saturating_add(step);
    }
    Ok(kept)
}
