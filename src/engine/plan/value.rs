//! Values in plans: what is not known of them, their fingerprints, their readable form.

use std::sync::Arc;

use crate::engine::finish::hash;
use crate::model::Map;
use crate::model::Unknown;
use crate::model::Value;

/// Makes what is null in a prediction unknown, named by where it will be found.
pub(super) fn label(value: &Value, place: &str) -> Value {
    match value {
        Value::Null => Unknown::of(place),
        // What depends on what was unknown before it names that already.
        Value::Map(map) => {
            Value::map(map.iter().map(|(key, value)| (key.clone(), label(value, &format!("{place}.{key}")))))
        }
        Value::List(items) => {
            let items = items.iter().enumerate();
            Value::list(items.map(|(index, item)| label(item, &format!("{place}[{index}]"))).collect())
        }
        other => other.clone(),
    }
}

/// Returns a text that is equal for equal values. Secrets count as equal: the text is shown and stored in clear.
pub(super) fn fingerprint(value: &Value) -> Arc<str> {
    hash(&value.to_string()).into()
}

/// Tells whether there are rows or files in it that are kept elsewhere.
pub(super) fn holds_handles(value: &Value) -> bool {
    match value {
        Value::Blob(_) | Value::Dataset(_) => true,
        Value::List(items) => items.iter().any(holds_handles),
        Value::Map(map) => map.values().any(holds_handles),
        Value::Secret(inner) => holds_handles(inner),
        _ => false,
    }
}

/// Lays what is known of a plan over what came out in the run.
///
/// # Errors
/// Where the two are not of one shape, and how they differ.
pub(super) fn bound(planned: &Value, now: Value, place: &str) -> Result<Value, String> {
    match (planned, now) {
        (Value::Unknown(_), now) => Ok(now),
        (Value::Map(planned), Value::Map(now)) => {
            if let Some(extra) = now.keys().find(|key| !planned.contains_key(*key)) {
                return Err(format!("`{place}.{extra}` is not in the plan"));
            }
            let mut merged = Map::with_capacity(planned.len());
            for (key, planned) in planned.iter() {
                let place = format!("{place}.{key}");
                let Some(now) = now.get(key) else { return Err(format!("`{place}` of the plan is missing")) };
                merged.insert(key.clone(), bound(planned, now.clone(), &place)?);
            }
            Ok(Value::from(merged))
        }
        (Value::List(planned), Value::List(now)) => {
            if planned.len() != now.len() {
                return Err(format!("`{place}` has {} items, and {} in the plan", now.len(), planned.len()));
            }
            let items = planned.iter().zip(now.iter()).enumerate();
            let items = items.map(|(index, (planned, now))| bound(planned, now.clone(), &format!("{place}[{index}]")));
            items.collect::<Result<Vec<_>, _>>().map(Value::list)
        }
        (Value::Map(_) | Value::List(_), now) => {
            Err(format!("`{place}` is {}, and {} in the plan", now.kind().name(), planned.kind().name()))
        }
        // What was evaluated for the plan holds, `now()` above all.
        (planned, _) => Ok(planned.clone()),
    }
}

/// Writes a value so that every kind can be read back, and secrets and what is unknown stay out.
pub(super) fn stored(value: &Value) -> Value {
    let mut text = String::new();
    let mut seal = |_: &str| Ok::<_, std::convert::Infallible>("***".to_owned());
    let Ok(()) = crate::model::to_stored(&without_unknowns(value), &mut text, &mut seal);
    crate::model::parse_json(&text).unwrap_or_default()
}

/// Reads what `stored` wrote.
pub(super) fn restored(value: &Value) -> Result<Value, String> {
    crate::model::from_stored(&value.to_string(), &|_| Err("a secret is not in a plan".to_owned()))
}

fn without_unknowns(value: &Value) -> Value {
    match value {
        Value::Unknown(unknown) => {
            let of = unknown.of.iter().map(|place| Value::from(&**place)).collect();
            Value::map([("?", unknown.shown.as_deref().map_or(Value::list(of), Value::from))])
        }
        Value::List(items) => Value::list(items.iter().map(without_unknowns).collect()),
        Value::Map(map) => Value::map(map.iter().map(|(key, value)| (key.clone(), without_unknowns(value)))),
        other => other.clone(),
    }
}
