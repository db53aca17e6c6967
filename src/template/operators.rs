//! The operators of expressions, exact: what `+`, `<`, `in`, `~` compile to.

use std::cmp::Ordering;

use minijinja::Environment;
use minijinja::Error;
use minijinja::ErrorKind;
use minijinja::value::Rest;

use super::MAX_TEXT;
use super::value::from_jinja;
use super::value::text;
use super::value::to_jinja;
use super::value::touch;
use crate::model;
use crate::model::NumberError;
use crate::model::Value;

/// The largest list that an operator or `range` makes.
pub(super) const MAX_LIST: usize = 1_000_000;

pub(super) fn register(environment: &mut Environment<'_>) {
    binary(environment, "__add", |left, right| bounded(model::add(left, right)));
    binary(environment, "__sub", |left, right| said(model::subtract(left, right)));
    binary(environment, "__mul", multiply);
    binary(environment, "__div", |left, right| said(model::divide(left, right)));
    binary(environment, "__floordiv", |left, right| said(model::floor_divide(left, right)));
    binary(environment, "__rem", |left, right| said(model::remainder(left, right)));
    binary(environment, "__pow", power);
    binary(environment, "__eq", |left, right| Ok(Value::Bool(equal(left, right))));
    binary(environment, "__ne", |left, right| Ok(Value::Bool(!equal(left, right))));
    binary(environment, "__lt", |left, right| order(left, right, Ordering::is_lt));
    binary(environment, "__le", |left, right| order(left, right, Ordering::is_le));
    binary(environment, "__gt", |left, right| order(left, right, Ordering::is_gt));
    binary(environment, "__ge", |left, right| order(left, right, Ordering::is_ge));
    binary(environment, "__in", |left, right| contains(right, left).map(Value::Bool));
    for (test, holds) in [
        ("lt", Ordering::is_lt as fn(Ordering) -> bool),
        ("le", Ordering::is_le),
        ("gt", Ordering::is_gt),
        ("ge", Ordering::is_ge),
    ] {
        let compare = move |left: minijinja::Value, right: minijinja::Value| -> Result<bool, Error> {
            let outcome = order(&ours(&left)?, &ours(&right)?, holds).map_err(invalid)?;
            Ok(outcome.is_truthy())
        };
        for name in aliases(test) {
            environment.add_test(*name, compare);
        }
    }
    for (name, wanted) in [("eq", true), ("equalto", true), ("==", true), ("ne", false), ("!=", false)] {
        environment.add_test(name, move |left: minijinja::Value, right: minijinja::Value| -> Result<bool, Error> {
            Ok(equal(&ours(&left)?, &ours(&right)?) == wanted)
        });
    }
    environment.add_test("in", |item: minijinja::Value, list: minijinja::Value| -> Result<bool, Error> {
        contains(&ours(&list)?, &ours(&item)?).map_err(invalid)
    });
    environment.add_function("__neg", |value: minijinja::Value| -> Result<minijinja::Value, Error> {
        said(model::negate(&ours(&value)?)).map(|value| to_jinja(&value)).map_err(invalid)
    });
    environment.add_function("__decimal", |digits: &str| -> Result<minijinja::Value, Error> {
        let number = model::parse_number(digits).ok_or_else(|| invalid(format!("`{digits}` is not a number")))?;
        Ok(to_jinja(&number))
    });
    environment.add_function("__concat", |parts: Rest<minijinja::Value>| -> Result<String, Error> { join(&parts) });
}

fn aliases(test: &'static str) -> &'static [&'static str] {
    match test {
        "lt" => &["lt", "lessthan", "<"],
        "le" => &["le", "<="],
        "gt" => &["gt", "greaterthan", ">"],
        _ => &["ge", ">="],
    }
}

fn binary(
    environment: &mut Environment<'_>,
    name: &'static str,
    operate: impl Fn(&Value, &Value) -> Result<Value, String> + Send + Sync + 'static,
) {
    environment.add_function(
        name,
        move |left: minijinja::Value, right: minijinja::Value| -> Result<minijinja::Value, Error> {
            for (side, value) in [("left", &left), ("right", &right)] {
                if value.is_undefined() {
                    return Err(Error::new(
                        ErrorKind::UndefinedError,
                        format!("the {side} side of `{}` is undefined", symbol(name)),
                    ));
                }
            }
            operate(&ours(&left)?, &ours(&right)?).map(|value| to_jinja(&value)).map_err(invalid)
        },
    );
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

fn said(result: Result<Value, NumberError>) -> Result<Value, String> {
    result.map_err(|error| error.to_string())
}

fn bounded(result: Result<Value, NumberError>) -> Result<Value, String> {
    let value = said(result)?;
    match &value {
        Value::List(items) if items.len() > MAX_LIST => Err(format!("a list of more than {MAX_LIST} items")),
        Value::String(text) if text.len() > MAX_TEXT => Err(format!("a text of more than {MAX_TEXT} bytes")),
        _ => Ok(value),
    }
}

/// Numbers multiply; a text or a list is repeated.
fn multiply(left: &Value, right: &Value) -> Result<Value, String> {
    match (left, right) {
        (Value::String(text), Value::Int(count)) | (Value::Int(count), Value::String(text)) => {
            let count = usize::try_from(*count).unwrap_or(0);
            if text.len().saturating_mul(count) > MAX_TEXT {
                return Err(format!("a text of more than {MAX_TEXT} bytes"));
            }
            Ok(Value::from(text.repeat(count)))
        }
        (Value::List(items), Value::Int(count)) | (Value::Int(count), Value::List(items)) => {
            let count = usize::try_from(*count).unwrap_or(0);
            if items.len().saturating_mul(count) > MAX_LIST {
                return Err(format!("a list of more than {MAX_LIST} items"));
            }
            Ok(Value::list(items.iter().cycle().take(items.len() * count).cloned().collect()))
        }
        _ => said(model::multiply(left, right)),
    }
}

/// A number to a whole power, by repeated exact multiplication.
fn power(base: &Value, exponent: &Value) -> Result<Value, String> {
    if let (Value::Float(base), Value::Float(exponent)) = (base, exponent) {
        return Ok(Value::Float(base.powf(*exponent)));
    }
    let Value::Int(exponent) = exponent else { return Err("a power must be a whole number".to_owned()) };
    let count = u32::try_from(*exponent).ok().filter(|count| *count <= 10_000);
    let count = count.ok_or_else(|| "a power must be from 0 to 10000".to_owned())?;
    let mut product = Value::Int(1);
    for _ in 0..count {
        product = said(model::multiply(&product, base))?;
    }
    Ok(product)
}

pub(super) fn equal(left: &Value, right: &Value) -> bool {
    if let (Value::Float(float), other) | (other, Value::Float(float)) = (left, right) {
        return matches!(model::compare(&Value::Float(*float), other), Ok(Ordering::Equal));
    }
    left == right
}

fn order(left: &Value, right: &Value, holds: impl Fn(Ordering) -> bool) -> Result<Value, String> {
    model::compare(left, right).map(|order| Value::Bool(holds(order))).map_err(|error| error.to_string())
}

fn contains(container: &Value, item: &Value) -> Result<bool, String> {
    match container {
        Value::List(items) => Ok(items.iter().any(|other| equal(other, item))),
        Value::Map(map) => Ok(item.as_str().is_some_and(|key| map.contains_key(key))),
        Value::String(text) => match item {
            Value::String(part) => Ok(text.contains(&**part)),
            other => Err(format!("a text cannot hold {}", other.kind().name())),
        },
        Value::Secret(inner) => {
            touch();
            contains(inner, item)
        }
        Value::Null => Ok(false),
        other => Err(format!("`in` looks into a list, an object or a text, not into {}", other.kind().name())),
    }
}

/// Joins the texts of values; the whole is bounded.
fn join(parts: &[minijinja::Value]) -> Result<String, Error> {
    let mut joined = String::new();
    for part in parts {
        if part.is_undefined() {
            return Err(Error::new(ErrorKind::UndefinedError, "a part of the text is undefined"));
        }
        match part.as_str() {
            Some(plain) => joined.push_str(plain),
            None => joined.push_str(&text(&ours(part)?)),
        }
        if joined.len() > MAX_TEXT {
            return Err(invalid(format!("a text of more than {MAX_TEXT} bytes")));
        }
    }
    Ok(joined)
}
