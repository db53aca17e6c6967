//! Filters over the items of lists.

use std::cmp::Ordering;

use minijinja::Environment;
use minijinja::Error;

use super::super::MAX_TEXT;
use super::super::budget::plain_text;
use super::super::operators::MAX_LIST;
use super::super::operators::invalid;
use super::super::operators::same;
use super::super::operators::too_long;
use super::super::operators::too_many;
use super::call::Arguments;
use super::call::filter;
use super::call::making;
use super::list;
use super::member;
use crate::model;
use crate::model::Value;

pub(super) fn register(environment: &mut Environment<'static>) {
    filter(environment, "sum", 2, |value, arguments| {
        let attribute = arguments.text(0, "attribute")?;
        let start = arguments.get(1, "start")?;
        let items = list(value)?;
        sum(start.into_iter().chain(items.iter().map(|item| pick(item, attribute.as_deref()))))
    });
    filter(environment, "min", 1, |value, arguments| extreme(value, arguments, Ordering::Less));
    filter(environment, "max", 1, |value, arguments| extreme(value, arguments, Ordering::Greater));
    filter(environment, "sort", 2, |value, arguments| {
        let attribute = arguments.text(0, "attribute")?;
        let reverse = arguments.flag(1, "reverse")?;
        let items = sorted(list(value)?.to_vec(), |item| pick(item, attribute.as_deref()))?;
        Ok(Value::list(if reverse { items.into_iter().rev().collect() } else { items }))
    });
    filter(environment, "unique", 1, |value, arguments| {
        let attribute = arguments.text(0, "attribute")?;
        let mut seen = std::collections::HashSet::new();
        let mut kept = Vec::new();
        for item in list(value)?.iter() {
            let mut name = String::new();
            name_of(&pick(item, attribute.as_deref()), &mut name);
            let new = seen.insert(name);
            if new {
                kept.push(item.clone());
            }
        }
        Ok(Value::list(kept))
    });
    making(environment, "groupby", 1, 2, |value, arguments| {
        let attribute = arguments.text(0, "attribute")?.ok_or_else(|| invalid("`groupby` takes a key"))?;
        let items = sorted(list(value)?.to_vec(), |item| member(item, &attribute))?;
        let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
        for item in items {
            let key = member(&item, &attribute);
            match groups.last_mut().filter(|(last, _)| same(last, &key)) {
                Some((_, group)) => group.push(item),
                None => groups.push((key, vec![item])),
            }
        }
        Ok(Value::list(groups.into_iter().map(|(key, group)| Value::list(vec![key, Value::list(group)])).collect()))
    });
    filter(environment, "join", 2, |value, arguments| {
        let between = arguments.text(0, "between")?.unwrap_or_default();
        let attribute = arguments.text(1, "attribute")?;
        let items = match value {
            Value::String(text) => letters(&text)?,
            other => list(other)?,
        };
        let mut joined = String::new();
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                joined.push_str(&between);
            }
            match pick(item, attribute.as_deref()) {
                Value::String(text) => joined.push_str(&text),
                other => joined.push_str(&plain_text(&other)?),
            }
            if joined.len() > MAX_TEXT {
                return Err(too_long());
            }
        }
        Ok(Value::from(joined))
    });
}

/// Adds up. Texts and lists are appended in place: adding them one by one would copy the sum at every step.
fn sum(mut items: impl Iterator<Item = Value>) -> Result<Value, Error> {
    let add = |sum: Value, item: &Value| model::add(&sum, item).map_err(|error| invalid(error.to_string()));
    match items.next() {
        None => Ok(Value::Int(0)),
        Some(Value::String(first)) => {
            let mut text = first.to_string();
            for item in items {
                let Value::String(part) = item else { return add(Value::from(""), &item) };
                text.push_str(&part);
                if text.len() > MAX_TEXT {
                    return Err(too_long());
                }
            }
            Ok(Value::from(text))
        }
        Some(Value::List(first)) => {
            let mut all = first.to_vec();
            for item in items {
                let Value::List(part) = item else { return add(Value::list(Vec::new()), &item) };
                all.extend(part.iter().cloned());
                if all.len() > MAX_LIST {
                    return Err(too_many());
                }
            }
            Ok(Value::list(all))
        }
        Some(first) => items.try_fold(first, |sum, item| add(sum, &item)),
    }
}

fn letters(text: &str) -> Result<std::sync::Arc<Vec<Value>>, Error> {
    if text.len() > MAX_LIST {
        return Err(too_many());
    }
    Ok(std::sync::Arc::new(text.chars().map(|letter| Value::from(String::from(letter))).collect()))
}

fn pick(item: &Value, attribute: Option<&str>) -> Value {
    attribute.map_or_else(|| item.clone(), |path| member(item, path))
}

/// Appends a text that is the same for equal values and for no others.
fn name_of(value: &Value, out: &mut String) {
    match value {
        Value::Int(_) | Value::Decimal(_) => number_name(&value.to_string(), out),
        Value::Money(money) => {
            number_name(&money.amount.to_string(), out);
            out.push_str(money.currency.as_str());
        }
        Value::Float(float) => out.push_str(&format!("f{float};")),
        Value::List(items) => {
            out.push_str(&format!("l{}:", items.len()));
            items.iter().for_each(|item| name_of(item, out));
        }
        Value::Map(map) => {
            // Two objects are equal whatever the order of their members.
            let mut members: Vec<_> = map.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            out.push_str(&format!("m{}:", map.len()));
            for (key, value) in members {
                out.push_str(&format!("{}:{key}", key.len()));
                name_of(value, out);
            }
        }
        other => {
            let text = other.to_text();
            out.push_str(&format!("{}{}:{text}", other.kind().name(), text.len()));
        }
    }
}

/// `1`, `1.0` and `1.00` are one number.
fn number_name(digits: &str, out: &mut String) {
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    out.push_str(&format!("n{};", if digits == "-0" { "0" } else { digits }));
}

fn extreme(value: Value, arguments: &Arguments, wanted: Ordering) -> Result<Value, Error> {
    let attribute = arguments.text(0, "attribute")?;
    let mut best: Option<Value> = None;
    for item in list(value)?.iter() {
        let better = match &best {
            None => true,
            Some(best) => {
                let (left, right) = (pick(item, attribute.as_deref()), pick(best, attribute.as_deref()));
                model::compare(&left, &right).map_err(|error| invalid(error.to_string()))? == wanted
            }
        };
        if better {
            best = Some(item.clone());
        }
    }
    best.ok_or_else(|| invalid("the list is empty; put `default` before it"))
}

/// Sorts stably; items that do not compare are an error.
pub(in crate::template) fn sorted(mut items: Vec<Value>, key: impl Fn(&Value) -> Value) -> Result<Vec<Value>, Error> {
    let mut keyed: Vec<_> = items.drain(..).map(|item| (key(&item), item)).collect();
    let mut failed = None;
    keyed.sort_by(|(left, _), (right, _)| {
        model::compare(left, right).unwrap_or_else(|error| {
            failed.get_or_insert(error);
            Ordering::Equal
        })
    });
    match failed {
        Some(error) => Err(invalid(error.to_string())),
        None => Ok(keyed.into_iter().map(|(_, item)| item).collect()),
    }
}
