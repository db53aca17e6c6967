//! Tests: what stands behind `is`.

use std::cmp::Ordering;

use minijinja::Environment;
use minijinja::Error;
use minijinja::State;
use minijinja::value::Rest;

use super::super::budget;
use super::super::environment::is_lenient;
use super::super::operators::contains;
use super::super::operators::equal;
use super::super::operators::invalid;
use super::super::operators::order;
use super::super::value::from_jinja;
use super::super::value::touch;
use super::call::defined;
use crate::model;
use crate::model::Value;

pub(super) fn register(environment: &mut Environment<'static>) {
    // Whether something is there is no secret, whatever it is.
    environment.add_test("defined", |value: minijinja::Value| !value.is_undefined());
    environment.add_test("undefined", |value: minijinja::Value| value.is_undefined());
    environment.add_test("none", |value: minijinja::Value| value.is_none());
    environment.add_test("truthy", |value: minijinja::Value| value.is_true());
    test(environment, "boolean", 0, |_, value, _| Ok(matches!(value, Value::Bool(_))));
    test(environment, "true", 0, |_, value, _| Ok(matches!(value, Value::Bool(true))));
    test(environment, "false", 0, |_, value, _| Ok(matches!(value, Value::Bool(false))));
    test(environment, "integer", 0, |_, value, _| Ok(matches!(value, Value::Int(_))));
    test(environment, "string", 0, |_, value, _| Ok(matches!(value, Value::String(_))));
    test(environment, "sequence", 0, |_, value, _| Ok(matches!(value, Value::List(_))));
    test(environment, "mapping", 0, |_, value, _| Ok(matches!(value, Value::Map(_))));
    test(environment, "number", 0, |_, value, _| {
        Ok(matches!(value, Value::Int(_) | Value::Decimal(_) | Value::Number(_) | Value::Float(_)))
    });
    test(environment, "even", 0, |_, value, _| divides(value, &Value::Int(2)));
    test(environment, "odd", 0, |_, value, _| divides(value, &Value::Int(2)).map(|even| !even));
    test(environment, "divisibleby", 1, |_, value, others| others.first().map_or(Ok(false), |by| divides(value, by)));
    test(environment, "startingwith", 1, |_, value, others| {
        Ok(texts(value, others).is_some_and(|(text, part)| text.starts_with(part)))
    });
    test(environment, "endingwith", 1, |_, value, others| {
        Ok(texts(value, others).is_some_and(|(text, part)| text.ends_with(part)))
    });
    test(environment, "containing", 1, |state, value, others| match (value, others.first()) {
        (Value::String(text), Some(Value::String(part))) => Ok(text.contains(&**part)),
        (Value::List(_), Some(item)) => contains(state, value, item),
        (Value::Map(whole), Some(Value::Map(part))) => {
            for (key, wanted) in part.iter() {
                let found = whole.get(key).unwrap_or(&Value::Null);
                if !equal(state, found, wanted)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(false),
    });
    test(environment, "in", 1, |state, value, others| {
        others.first().map_or(Ok(false), |container| contains(state, container, value))
    });
    for (names, wanted) in [(["eq", "equalto", "=="].as_slice(), true), (["ne", "!="].as_slice(), false)] {
        for name in names {
            test(environment, name, 1, move |state, value, others| {
                Ok(equal(state, value, others.first().unwrap_or(&Value::Null))? == wanted)
            });
        }
    }
    for (names, holds) in [
        (["lt", "lessthan", "<"].as_slice(), Ordering::is_lt as fn(Ordering) -> bool),
        (["le", "<="].as_slice(), Ordering::is_le),
        (["gt", "greaterthan", ">"].as_slice(), Ordering::is_gt),
        (["ge", ">="].as_slice(), Ordering::is_ge),
    ] {
        for name in names {
            test(environment, name, 1, move |state, value, others| {
                let outcome = order(state, value, others.first().unwrap_or(&Value::Null), holds)?;
                Ok(outcome.is_truthy())
            });
        }
    }
}

/// Registers a test that takes so many values beside its own. A secret among them is laid open, and the result of the
/// evaluation is secret.
pub(super) fn test(
    environment: &mut Environment<'static>,
    name: &'static str,
    others: usize,
    holds: impl Fn(&State<'_, '_>, &Value, &[Value]) -> Result<bool, Error> + Send + Sync + 'static,
) {
    environment.add_test(
        name,
        move |state: &State<'_, '_>, value: minijinja::Value, rest: Rest<minijinja::Value>| -> Result<bool, Error> {
            if is_lenient(state) && (value.is_undefined() || value.is_none()) && !matches!(name, "eq" | "ne" | "in") {
                return Ok(false);
            }
            if !is_lenient(state) {
                defined(name, &value)?;
            }
            if rest.len() != others {
                let takes = if others == 0 { "nothing".to_owned() } else { "one value".to_owned() };
                return Err(invalid(format!("`is {name}` takes {takes} behind it")));
            }
            let value = bare(state, &value)?;
            let others = rest.iter().map(|other| bare(state, other)).collect::<Result<Vec<_>, _>>()?;
            holds(state, &value, &others).inspect_err(|_| {
                if std::iter::once(&value).chain(&others).any(budget::may_be_tainted) {
                    touch();
                }
            })
        },
    );
}

/// Returns a value, paid for if it is a text; of a secret what is in it.
fn bare(state: &State<'_, '_>, value: &minijinja::Value) -> Result<Value, Error> {
    if value.is_undefined() && !is_lenient(state) {
        return Err(Error::new(minijinja::ErrorKind::UndefinedError, "what a test compares with is undefined"));
    }
    budget::read(state, value.as_str().map_or(0, str::len))?;
    match from_jinja(value).map_err(invalid)? {
        Value::Secret(inner) => {
            touch();
            Ok(Value::clone(&inner))
        }
        value => Ok(value),
    }
}

fn divides(value: &Value, by: &Value) -> Result<bool, Error> {
    let rest = model::remainder(value, by).map_err(|error| invalid(error.to_string()))?;
    Ok(!rest.is_truthy())
}

fn texts<'v>(value: &'v Value, others: &'v [Value]) -> Option<(&'v str, &'v str)> {
    Some((value.as_str()?, others.first()?.as_str()?))
}
