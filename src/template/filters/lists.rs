//! Filters over lists and objects.

use std::cmp::Ordering;

use minijinja::Environment;
use minijinja::Error;

use super::super::operators::equal;
use super::super::operators::invalid;
use super::super::operators::ours;
use super::Arguments;
use super::filter;
use super::list;
use super::member;
use crate::model;
use crate::model::Map;
use crate::model::Value;

pub(super) fn register(environment: &mut Environment<'static>) {
    filter(environment, "sum", 2, |value, arguments| {
        let attribute = arguments.text(0, "attribute")?;
        let mut sum = arguments.get(1, "start")?;
        for item in list(value)?.iter() {
            let item = pick(item, attribute.as_deref());
            sum = Some(match sum {
                Some(sum) => model::add(&sum, &item).map_err(|error| invalid(error.to_string()))?,
                None => item,
            });
        }
        Ok(sum.unwrap_or(Value::Int(0)))
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
        let mut others: Vec<Value> = Vec::new();
        let mut kept = Vec::new();
        for item in list(value)?.iter() {
            let key = pick(item, attribute.as_deref());
            let new = match name_of(&key) {
                Some(name) => seen.insert(name),
                None if others.iter().any(|other| equal(other, &key)) => false,
                None => {
                    others.push(key);
                    true
                }
            };
            if new {
                kept.push(item.clone());
            }
        }
        Ok(Value::list(kept))
    });
    filter(environment, "groupby", 1, |value, arguments| {
        let attribute = arguments.text(0, "attribute")?.ok_or_else(|| invalid("`groupby` takes a key"))?;
        let items = sorted(list(value)?.to_vec(), |item| member(item, &attribute))?;
        let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
        for item in items {
            let key = member(&item, &attribute);
            match groups.last_mut().filter(|(last, _)| equal(last, &key)) {
                Some((_, group)) => group.push(item),
                None => groups.push((key, vec![item])),
            }
        }
        Ok(Value::list(groups.into_iter().map(|(key, group)| Value::list(vec![key, Value::list(group)])).collect()))
    });
    filter(environment, "keys", 0, |value, _| {
        Ok(Value::list(object(&value)?.keys().map(|key| Value::from(&**key)).collect()))
    });
    filter(environment, "values", 0, |value, _| Ok(Value::list(object(&value)?.values().cloned().collect())));
    filter(environment, "merge", 1, |value, arguments| {
        let mut merged = object(&value)?.clone();
        let other = arguments.get(0, "")?.unwrap_or_default();
        merged.extend(object(&other)?.iter().map(|(key, value)| (key.clone(), value.clone())));
        Ok(Value::from(merged))
    });
    filter(environment, "pluck", 64, |value, arguments| {
        let object = object(&value)?;
        let mut kept = Map::new();
        for place in 0.. {
            let Some(key) = arguments.text(place, "")? else { break };
            if let Some((key, value)) = object.get_key_value(&*key) {
                kept.insert(key.clone(), value.clone());
            }
        }
        Ok(Value::from(kept))
    });
    filter(environment, "batch", 1, |value, arguments| {
        let size = arguments.count(0, "")?.filter(|size| *size > 0).ok_or_else(|| invalid("`batch` takes a size"))?;
        Ok(Value::list(list(value)?.chunks(size).map(|part| Value::list(part.to_vec())).collect()))
    });
    filter(environment, "slice", 1, |value, arguments| {
        let count =
            arguments.count(0, "")?.filter(|count| *count > 0).ok_or_else(|| invalid("`slice` takes a count"))?;
        let items = list(value)?;
        let (size, longer) = (items.len() / count, items.len() % count);
        let mut rest = items.as_slice();
        let mut parts = Vec::new();
        for part in 0..count.min(items.len().max(1)) {
            let (head, tail) = rest.split_at(size + usize::from(part < longer));
            parts.push(Value::list(head.to_vec()));
            rest = tail;
        }
        Ok(Value::list(parts))
    });
    environment.add_test("containing", |value: minijinja::Value, part: minijinja::Value| -> Result<bool, Error> {
        let part = ours(&part)?;
        Ok(match ours(&value)? {
            Value::String(text) => part.as_str().is_some_and(|part| text.contains(part)),
            Value::List(items) => items.iter().any(|item| equal(item, &part)),
            _ => false,
        })
    });
}

fn pick(item: &Value, attribute: Option<&str>) -> Value {
    attribute.map_or_else(|| item.clone(), |path| member(item, path))
}

/// Returns a text that is the same for equal scalars.
fn name_of(value: &Value) -> Option<String> {
    match value {
        Value::Int(_) | Value::Decimal(_) => {
            let text = value.to_string();
            let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
            Some(format!("n{text}"))
        }
        Value::String(text) => Some(format!("s{text}")),
        Value::Bool(flag) => Some(format!("b{flag}")),
        _ => None,
    }
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

fn object(value: &Value) -> Result<&Map, Error> {
    value.as_map().ok_or_else(|| invalid(format!("expected an object, found {}", value.kind().name())))
}
