//! Filters that turn what systems answer into rows: tables, keyed objects, typed cells.

use std::sync::Arc;

use minijinja::Environment;
use minijinja::Error;

use super::super::budget::plain_text as text;
use super::super::operators::MAX_LIST;
use super::super::operators::invalid;
use super::super::operators::ours;
use super::super::operators::too_many;
use super::super::value::to_jinja_made;
use super::call::Arguments;
use super::call::filter;
use super::call::making;
use super::list;
use super::objects::object;
use super::times;
use crate::model::Map;
use crate::model::Value;
use crate::model::parse_number;

pub(super) fn register(environment: &mut Environment<'static>) {
    making(environment, "listed", 0, 1, |value, _| {
        Ok(match value {
            Value::Null => Value::list(Vec::new()),
            Value::List(_) => value,
            one => Value::list(vec![one]),
        })
    });
    making(environment, "to_rows", 1, 1, |value, arguments| {
        let key = arguments.name(0, "key")?.ok_or_else(|| invalid("`to_rows` takes a name"))?;
        let key: Arc<str> = text(&key)?.into();
        let rows = object(&value)?.iter().map(|(name, row)| {
            let mut map = Map::new();
            map.insert(key.clone(), Value::String(name.clone()));
            match row {
                Value::Map(row) => map.extend(row.iter().map(|(key, value)| (key.clone(), value.clone()))),
                other => drop(map.insert("value".into(), other.clone())),
            }
            Value::from(map)
        });
        Ok(Value::list(rows.collect()))
    });
    making(environment, "with_columns", 1, 1, |value, arguments| {
        let names = list(arguments.name(0, "names")?.unwrap_or_default())?;
        let names: Vec<Arc<str>> = names.iter().map(|name| text(name).map(Arc::from)).collect::<Result<_, _>>()?;
        let rows = list(value)?;
        let named = rows.iter().map(|row| {
            let cells = list(row.clone())?;
            Ok(Value::map(names.iter().cloned().zip(cells.iter().cloned())))
        });
        named.collect::<Result<Vec<_>, Error>>().map(Value::list)
    });
    environment.add_function("columns", |columns: minijinja::Value| -> Result<minijinja::Value, Error> {
        let rows = columns_to_rows(&ours(&columns)?)?;
        to_jinja_made(rows, 2).map_err(invalid)
    });
    filter(environment, "rename_keys", 2, |value, arguments| {
        let pattern = arguments.text(0, "pattern")?.ok_or_else(|| invalid("`rename_keys` takes a pattern"))?;
        let to = arguments.name(1, "to")?.map(|to| text(&to)).transpose()?.unwrap_or_default();
        let pattern = regex_lite::RegexBuilder::new(&pattern).size_limit(1 << 20).build();
        let pattern = pattern.map_err(|error| invalid(format!("the pattern is not valid: {error}")))?;
        let renamed = object(&value)?.iter().map(|(key, value)| {
            let name: Arc<str> = pattern.replace(key, to.as_str()).into_owned().into();
            (name, value.clone())
        });
        Ok(Value::from(renamed.collect::<Map>()))
    });
    filter(environment, "by_prefix", 1, |value, arguments| {
        let prefix = arguments.text(0, "prefix")?.ok_or_else(|| invalid("`by_prefix` takes a text"))?;
        let found = object(&value)?.iter().find(|(key, _)| key.starts_with(&prefix));
        Ok(found.map_or(Value::Null, |(_, value)| value.clone()))
    });
    filter(environment, "drop", 64, |value, arguments| {
        let without = |value: &Value| -> Result<Value, Error> {
            let mut kept = object(value)?.clone();
            for place in 0..arguments.len() {
                if let Some(key) = arguments.text(place, "")? {
                    kept.shift_remove(&*key);
                }
            }
            Ok(Value::from(kept))
        };
        match &value {
            Value::List(items) => items.iter().map(without).collect::<Result<_, _>>().map(Value::list),
            one => without(one),
        }
    });
    filter(environment, "prefix_keys", 1, |value, arguments| {
        let prefix = arguments.name(0, "prefix")?.ok_or_else(|| invalid("`prefix_keys` takes a text"))?;
        let prefix = text(&prefix)?;
        let named = object(&value)?.iter().map(|(key, value)| (Arc::from(format!("{prefix}{key}")), value.clone()));
        Ok(Value::from(named.collect::<Map>()))
    });
    filter(environment, "typed", 3, |value, arguments| typed(&value, arguments));
}

/// Takes the values at paths out of every item; `*` stands for each item of a list or member of an object.
pub(super) fn plucked(value: &Value, arguments: &Arguments) -> Result<Value, Error> {
    let mut found = Vec::new();
    for item in list(value.clone())?.iter() {
        for place in 0..arguments.len() {
            let Some(path) = arguments.text(place, "")? else { continue };
            walk(item, &path, &mut found);
            if found.len() > MAX_LIST {
                return Err(too_many());
            }
        }
    }
    Ok(Value::list(found))
}

fn walk(value: &Value, path: &str, found: &mut Vec<Value>) {
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    let mut go = |next: &Value| match rest {
        Some(rest) => walk(next, rest, found),
        None if next.is_null() => {}
        None => found.push(next.clone()),
    };
    match (value, key) {
        (Value::List(items), "*") => items.iter().for_each(go),
        (Value::Map(map), "*") => map.values().for_each(go),
        (Value::Map(map), key) => {
            if let Some(next) = map.get(key) {
                go(next);
            }
        }
        (Value::List(items), key) => {
            if let Some(next) = key.parse::<usize>().ok().and_then(|place| items.get(place)) {
                go(next);
            }
        }
        _ => {}
    }
}

/// Makes rows of lists that stand side by side; a short or missing one gives nulls.
fn columns_to_rows(columns: &Value) -> Result<Value, Error> {
    let columns = object(columns)?;
    let lists: Vec<(&Arc<str>, &[Value])> =
        columns.iter().map(|(name, list)| (name, list.as_list().unwrap_or_default())).collect();
    let length = lists.iter().map(|(_, list)| list.len()).max().unwrap_or(0);
    if length.saturating_mul(lists.len()) > MAX_LIST {
        return Err(too_many());
    }
    let row = |place: usize| {
        let cells = lists.iter().map(|(name, list)| (Arc::clone(name), list.get(place).cloned().unwrap_or_default()));
        Value::map(cells)
    };
    Ok(Value::list((0..length).map(row).collect()))
}

/// Gives the members of an object, or of each of a list, the types that they are declared with.
fn typed(value: &Value, arguments: &Arguments) -> Result<Value, Error> {
    let types = match arguments.get(0, "types")? {
        Some(Value::Map(types)) => types,
        // Nothing is declared, so everything stays.
        None | Some(Value::Null) => Arc::default(),
        Some(other) => return Err(invalid(format!("`typed` takes an object of types, found {}", other.kind().name()))),
    };
    let nulls = match arguments.get(1, "nulls")? {
        None | Some(Value::Null) => Arc::default(),
        Some(nulls) => list(nulls)?,
    };
    let zone = arguments.text(2, "zone")?;
    let one = |row: &Value| -> Result<Value, Error> {
        let mut map = object(row)?.clone();
        for (key, kind) in types.iter() {
            let cell = map.get(key).cloned().unwrap_or_default();
            let kind = text(kind)?;
            let cell = if nulls.contains(&cell) { Value::Null } else { cell };
            let cell = cell_of(&cell, &kind, zone.as_deref())
                .map_err(|error| invalid(format!("`{key}`: {}", error.detail().unwrap_or("it is not of its type"))))?;
            map.insert(key.clone(), cell);
        }
        Ok(Value::from(map))
    };
    match value {
        Value::List(rows) => rows.iter().map(one).collect::<Result<Vec<_>, _>>().map(Value::list),
        row => one(row),
    }
}

fn cell_of(cell: &Value, kind: &str, zone: Option<&str>) -> Result<Value, Error> {
    if cell.is_null() {
        return Ok(Value::Null);
    }
    // Some systems say `false` for a field of any other kind that is empty.
    if matches!(cell, Value::Bool(false)) && !matches!(kind, "boolean" | "any") {
        return Ok(Value::Null);
    }
    let wrong = || invalid(format!("expected {kind}, found {}", cell.kind().name()));
    let trimmed = || -> Result<String, Error> { Ok(text(cell)?.trim().to_owned()) };
    match kind {
        "any" => Ok(cell.clone()),
        "string" | "char" | "text" | "selection" | "html" => text(cell).map(Value::from),
        "decimal" | "float" | "monetary" | "number" => match cell {
            Value::Int(_) | Value::Decimal(_) | Value::Number(_) => Ok(cell.clone()),
            _ => parse_number(&trimmed()?.replace(',', "")).ok_or_else(wrong),
        },
        "integer" => match cell {
            Value::Int(_) => Ok(cell.clone()),
            _ => parse_number(&trimmed()?.replace(',', "")).filter(|it| matches!(it, Value::Int(_))).ok_or_else(wrong),
        },
        "percent" => {
            let text = trimmed()?;
            let number = parse_number(text.trim_end_matches('%').trim()).ok_or_else(wrong)?;
            crate::model::divide(&number, &Value::Int(100)).map_err(|error| invalid(error.to_string()))
        }
        "boolean" => match (cell, trimmed()?.as_str()) {
            (Value::Bool(_), _) => Ok(cell.clone()),
            (_, "T" | "t" | "true" | "True" | "TRUE" | "1" | "X" | "Y" | "yes") => Ok(Value::Bool(true)),
            (_, "F" | "f" | "false" | "False" | "FALSE" | "0" | "" | "N" | "no") => Ok(Value::Bool(false)),
            _ => Err(wrong()),
        },
        "date" => times::date_text(&trimmed()?).map(Value::from).ok_or_else(wrong),
        "datetime" => times::moment_in(cell, zone).map(Value::Time),
        // A reference to a row of another table comes as `[id, name]`.
        "many2one" | "reference" => match cell.as_list() {
            Some([id, name, ..]) => Ok(Value::map([("id", id.clone()), ("name", name.clone())])),
            _ => Ok(Value::map([("id", cell.clone()), ("name", Value::Null)])),
        },
        "one2many" | "many2many" | "list" => match cell {
            Value::List(_) => Ok(cell.clone()),
            one => Ok(Value::list(vec![one.clone()])),
        },
        "object" | "binary" => Ok(cell.clone()),
        other => Err(invalid(format!("there is no type `{other}`"))),
    }
}
