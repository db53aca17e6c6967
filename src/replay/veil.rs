//! Secrets become names: a cassette tells which secrets are equal, and nothing else of them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::RunEvent;
use crate::model::Value;

/// Gives each secret a name.
#[derive(Debug, Default)]
pub(super) struct Veil(HashMap<String, usize>);

impl Veil {
    /// Returns the value with `secret-1` and the like in the place of secrets; they stay marked as such.
    pub(super) fn over(&mut self, value: &Value) -> Value {
        match value {
            Value::Secret(inner) => Value::from(self.name(&inner.to_text())).tainted(),
            Value::List(items) if value.is_tainted() => Value::list(items.iter().map(|item| self.over(item)).collect()),
            Value::Map(map) if value.is_tainted() => {
                Value::map(map.iter().map(|(key, value)| (key.clone(), self.over(value))).collect::<Vec<_>>())
            }
            open => open.clone(),
        }
    }

    /// Returns the event without its secrets.
    pub(super) fn over_event(&mut self, event: &RunEvent) -> RunEvent {
        let value = event.to_value();
        if !value.is_tainted() {
            return event.clone();
        }
        RunEvent::from_value(&self.over(&value)).unwrap_or_else(|_| event.clone())
    }

    fn name(&mut self, secret: &str) -> String {
        let next = self.0.len() + 1;
        let number = *self.0.entry(secret.to_owned()).or_insert(next);
        format!("secret-{number}")
    }
}

/// Applies `hide` to every text of a value that is not marked as secret; keys, too.
pub(super) fn masked(value: &Value, hide: &dyn Fn(String) -> String) -> Value {
    match value {
        Value::String(text) => {
            let hidden = hide(text.to_string());
            if *hidden == **text { value.clone() } else { Value::from(hidden) }
        }
        Value::List(items) => Value::list(items.iter().map(|item| masked(item, hide)).collect()),
        Value::Map(map) => Value::map(map.iter().map(|(key, value)| {
            let key: Arc<str> = hide(key.to_string()).into();
            (key, masked(value, hide))
        })),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_secrets_have_one_name_and_nothing_else_of_them_stays() {
        let mut veil = Veil::default();
        let value = Value::map([
            ("a", Value::from("hunter2").tainted()),
            ("b", Value::list(vec![Value::from("other").tainted(), Value::from("hunter2").tainted()])),
            ("c", Value::from("open")),
        ]);
        let veiled = veil.over(&value);
        assert!(veiled.get("a").unwrap().is_tainted());
        assert_eq!(veiled.revealed().to_string(), r#"{"a":"secret-1","b":["secret-2","secret-1"],"c":"open"}"#);
    }
}
