//! Two values, field by field.

use crate::model::Value;

/// One place at which two values differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Keys and indexes from the value's root, `lines[2].quantity`; empty for the value itself.
    pub field: String,
    /// Nothing where the field is new.
    pub old: Option<Value>,
    /// Nothing where the field is gone.
    pub new: Option<Value>,
}

/// Tells whether two values are equal as far as anybody may see: secrets are.
#[must_use]
pub fn alike(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Secret(_), Value::Secret(_)) => true,
        (Value::List(old), Value::List(new)) => {
            old.len() == new.len() && old.iter().zip(new.iter()).all(|(old, new)| alike(old, new))
        }
        (Value::Map(old), Value::Map(new)) => {
            old.len() == new.len() && old.iter().all(|(key, old)| new.get(key).is_some_and(|new| alike(old, new)))
        }
        (Value::Secret(_), _) | (_, Value::Secret(_)) => false,
        (old, new) => old == new,
    }
}

/// Lists where two values differ, in the order of the old one's fields, new fields behind.
#[must_use]
pub fn changes(old: &Value, new: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    walk(String::new(), Some(old), Some(new), &mut found);
    found
}

fn walk(field: String, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Change>) {
    match (old, new) {
        (Some(old), Some(new)) if alike(old, new) => {}
        (Some(Value::Map(old)), Some(Value::Map(new))) => {
            for (key, value) in old.iter() {
                walk(below(&field, key), Some(value), new.get(key), found);
            }
            for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                walk(below(&field, key), None, Some(value), found);
            }
        }
        // Lists of other lengths are told whole: which item is which nobody knows.
        (Some(Value::List(old)), Some(Value::List(new))) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new.iter()).enumerate() {
                walk(format!("{field}[{index}]"), Some(old), Some(new), found);
            }
        }
        (old, new) => found.push(Change { field, old: old.cloned(), new: new.cloned() }),
    }
}

fn below(field: &str, key: &str) -> String {
    if field.is_empty() { key.to_owned() } else { format!("{field}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parse_json;

    #[track_caller]
    fn check(old: &str, new: &str, expected: &[&str]) {
        let (old, new) = (parse_json(old).unwrap(), parse_json(new).unwrap());
        let shown = |value: Option<Value>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let told = changes(&old, &new)
            .into_iter()
            .map(|change| format!("{}: {} to {}", change.field, shown(change.old), shown(change.new)));
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn only_what_differs_is_told_with_its_place() {
        check("{\"a\": 1, \"b\": {\"c\": 1.0}}", "{\"b\": {\"c\": 1}, \"a\": 1}", &[]);
        check("{\"a\": {\"b\": [1, {\"c\": 2}]}}", "{\"a\": {\"b\": [1, {\"c\": 3}]}}", &["a.b[1].c: 2 to 3"]);
        check("{\"a\": 1, \"b\": 2}", "{\"b\": 2, \"c\": 3}", &["a: 1 to -", "c: - to 3"]);
        check("{\"a\": [1]}", "{\"a\": [1, 2]}", &["a: [1] to [1,2]"]);
        check("1", "\"1\"", &[": 1 to \"1\""]);
    }

    #[test]
    fn secrets_are_equal_to_whoever_may_not_see_them() {
        let secret = |text: &str| Value::map([("key", Value::from(text).tainted())]);
        assert!(alike(&secret("a"), &secret("b")));
        assert!(!alike(&secret("a"), &Value::map([("key", Value::from("a"))])));
    }
}
