//! Filters over objects, and over lists of which only the order and grouping matter.

use minijinja::Environment;
use minijinja::Error;

use super::super::operators::MAX_LIST;
use super::super::operators::invalid;
use super::super::operators::too_many;
use super::blobs::sliced;
use super::call::Arguments;
use super::call::making;
use super::call::moving;
use super::list;
use super::lists::sorted;
use super::rows::plucked;
use crate::model::Map;
use crate::model::Value;
use crate::text::Count;
use crate::text::count_text;

pub(super) fn register(environment: &mut Environment<'static>) {
    moving(environment, "keys", 0, 0, |value, _| {
        Ok(Value::list(object(&value)?.keys().map(|key| Value::String(key.clone())).collect()))
    });
    moving(environment, "values", 0, 0, |value, _| Ok(Value::list(object(&value)?.values().cloned().collect())));
    moving(environment, "items", 0, 1, |value, _| Ok(pairs(object(&value)?.clone())));
    making(environment, "dictsort", 2, 1, |value, arguments| {
        let by = arguments.text(0, "by")?.unwrap_or_else(|| "key".to_owned());
        let reverse = arguments.flag(1, "reverse")?;
        let place = usize::from(by == "value");
        let Value::List(pairs) = pairs(object(&value)?.clone()) else { return Ok(Value::Null) };
        let mut pairs = sorted(pairs.to_vec(), |pair| {
            pair.as_list().and_then(|pair| pair.get(place)).cloned().unwrap_or_default()
        })?;
        if reverse {
            pairs.reverse();
        }
        Ok(Value::list(pairs))
    });
    moving(environment, "merge", 1, 0, |value, arguments| {
        let mut merged = object(&value)?.clone();
        let other = arguments.kept(0, "")?.unwrap_or_default();
        merged.extend(object(&other)?.iter().map(|(key, value)| (key.clone(), value.clone())));
        Ok(Value::from(merged))
    });
    moving(environment, "pluck", 64, 0, |value, arguments| {
        if matches!(value, Value::List(_)) {
            return plucked(&value, arguments);
        }
        let object = object(&value)?;
        let mut kept = Map::new();
        for place in 0..arguments.len() {
            let Some(key) = arguments.text(place, "")? else { continue };
            if let Some((key, value)) = object.get_key_value(&*key) {
                kept.insert(key.clone(), value.clone());
            }
        }
        Ok(Value::from(kept))
    });
    moving(environment, "list", 0, 0, |value, _| match value {
        Value::List(_) => Ok(value),
        Value::String(text) if text.len() > MAX_LIST => Err(too_many()),
        Value::String(text) => Ok(Value::list(text.chars().map(|letter| Value::from(String::from(letter))).collect())),
        Value::Map(map) => Ok(Value::list(map.keys().map(|key| Value::String(key.clone())).collect())),
        other => Err(invalid(format!("expected a list, found {}", other.kind().name()))),
    });
    moving(environment, "reverse", 0, 0, |value, _| match value {
        Value::String(text) => Ok(Value::from(text.chars().rev().collect::<String>())),
        other => Ok(Value::list(list(other)?.iter().rev().cloned().collect())),
    });
    for name in ["length", "count"] {
        moving(environment, name, 1, 0, |value, arguments| {
            let count = match arguments.text(0, "as")? {
                None => Count::Chars,
                Some(name) => Count::by_name(&name).ok_or_else(|| {
                    let known = "`chars`, `utf16`, `bytes` and `twitter`";
                    invalid(format!("a length is not counted as `{name}`; there are {known}"))
                })?,
            };
            let length = match &value {
                Value::List(items) => items.len(),
                Value::Map(map) => map.len(),
                Value::String(text) => count_text(text, count),
                other => return Err(invalid(format!("{} has no length", other.kind().name()))),
            };
            Ok(Value::Int(i128::try_from(length).unwrap_or(i128::MAX)))
        });
    }
    moving(environment, "bool", 0, 0, |value, _| Ok(Value::Bool(value.is_truthy())));
    moving(environment, "chain", 64, 1, |value, arguments| {
        let mut chained = list(value)?.to_vec();
        for other in others(arguments)? {
            if chained.len() + other.len() > MAX_LIST {
                return Err(too_many());
            }
            chained.extend(other.iter().cloned());
        }
        Ok(Value::list(chained))
    });
    moving(environment, "zip", 64, 1, |value, arguments| {
        let (first, others) = (list(value)?, others(arguments)?);
        let length = others.iter().map(|other| other.len()).min().unwrap_or(usize::MAX).min(first.len());
        if length.saturating_mul(others.len() + 1) > MAX_LIST {
            return Err(too_many());
        }
        let row = |place: usize| {
            let items = std::iter::once(&first).chain(&others).filter_map(|list| list.get(place).cloned());
            Value::list(items.collect())
        };
        Ok(Value::list((0..length).map(row).collect()))
    });
    moving(environment, "batch", 2, 1, |value, arguments| {
        let size = arguments.count(0, "")?.filter(|size| *size > 0).ok_or_else(|| invalid("`batch` takes a size"))?;
        let filler = arguments.kept(1, "fill_with")?;
        let mut parts: Vec<Vec<Value>> = list(value)?.chunks(size).map(<[Value]>::to_vec).collect();
        if let (Some(filler), Some(last)) = (filler, parts.last_mut()) {
            if size > MAX_LIST {
                return Err(too_many());
            }
            last.resize(size, filler);
        }
        Ok(Value::list(parts.into_iter().map(Value::list).collect()))
    });
    moving(environment, "slice", 2, 1, |value, arguments| {
        if let Value::Blob(blob) = &value {
            return sliced(blob, arguments);
        }
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
}

fn others(arguments: &Arguments) -> Result<Vec<std::sync::Arc<Vec<Value>>>, Error> {
    (0..arguments.len()).map(|place| list(arguments.kept(place, "")?.unwrap_or_default())).collect()
}

/// Returns the members as pairs of name and value.
fn pairs(map: Map) -> Value {
    Value::list(map.into_iter().map(|(key, value)| Value::list(vec![Value::String(key), value])).collect())
}

pub(super) fn object(value: &Value) -> Result<&Map, Error> {
    value.as_map().ok_or_else(|| invalid(format!("expected an object, found {}", value.kind().name())))
}
