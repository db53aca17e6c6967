//! Values as keys of groups and joins.

use std::fmt::Write;

use crate::model::Value;

/// Returns a text that is equal for two values exactly when they are equal: `1`, `1.0` and `1.00` give the same.
pub(super) fn key_text(value: &Value) -> String {
    let mut text = String::new();
    write_key(value, &mut text);
    text
}

fn write_key(value: &Value, out: &mut String) {
    match value {
        Value::Decimal(decimal) => out.push_str(&decimal.normalize().to_string()),
        Value::Money(money) => {
            let written = write!(out, "m{} {}", money.amount.normalize(), money.currency);
            written.expect("writing into a string cannot fail");
        }
        Value::Float(float) => {
            write!(out, "f{float}").expect("writing into a string cannot fail");
        }
        Value::Time(time) => {
            write!(out, "t{time}").expect("writing into a string cannot fail");
        }
        Value::Duration(length) => {
            write!(out, "d{length}").expect("writing into a string cannot fail");
        }
        Value::List(items) => {
            out.push('[');
            for item in items.iter() {
                write_key(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Map(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            out.push('{');
            for key in keys {
                write_key(&Value::String(key.clone()), out);
                out.push(':');
                write_key(map.get(key).unwrap_or(&Value::Null), out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Secret(inner) => write_key(inner, out),
        plain => crate::model::write_json(plain, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parse_json;

    #[test]
    fn equal_values_have_equal_keys() {
        let key = |json: &str| key_text(&parse_json(json).unwrap());
        assert_eq!(key("[1, 2.50]"), key("[1.0, 2.5]"));
        assert_eq!(key(r#"{"a":1,"b":2}"#), key(r#"{"b":2,"a":1}"#));
        for (left, right) in [("1", "\"1\""), ("null", "\"null\""), ("[1,2]", "[12]"), ("[[1],2]", "[[1,2]]")] {
            assert_ne!(key(left), key(right), "{left} {right}");
        }
    }
}
