//! JSON text to values and back, with every digit kept.

use std::fmt;
use std::fmt::Write;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;

use super::Map;
use super::Value;
use super::parse_number;

/// Why a text is not JSON; line and column count from 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(#[from] serde_json::Error);

/// The key under which serde_json hands over a number's text (feature `arbitrary_precision`).
const NUMBER_KEY: &str = "$serde_json::private::Number";

/// Reads one JSON document. Depth is bounded (128), numbers keep their digits.
pub fn parse_json(text: &str) -> Result<Value, JsonError> {
    let JsonValue(value) = serde_json::from_str(text)?;
    Ok(value)
}

/// Appends the value as compact JSON. Secrets are written as `"***"`; money, moments and durations as strings; a float
/// that is not a number as null.
pub fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Int(integer) => write(out, format_args!("{integer}")),
        Value::Decimal(decimal) => write(out, format_args!("{decimal}")),
        Value::Number(text) => out.push_str(text),
        Value::Float(float) if float.is_finite() => write(out, format_args!("{float:?}")),
        Value::Float(_) => out.push_str("null"),
        Value::String(text) => write_string(text, out),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_json(value, out);
            }
            out.push('}');
        }
        Value::Money(money) => write(out, format_args!("\"{money}\"")),
        Value::Time(time) => write(out, format_args!("\"{time}\"")),
        Value::Duration(duration) => write(out, format_args!("\"{duration}\"")),
        Value::Blob(blob) => write_string(&format!("blob:{}", blob.address), out),
        Value::Dataset(dataset) => write_string(&format!("dataset:{}", dataset.id), out),
        Value::Secret(_) => out.push_str("\"***\""),
        Value::Unknown(unknown) => write_string(unknown.shown.as_deref().unwrap_or("?"), out),
    }
}

fn write(out: &mut String, arguments: fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("writing into a string cannot fail");
}

/// Appends the text as a JSON string.
pub(super) fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|letter: char| letter == '"' || letter == '\\' || letter < ' ') {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let mut letters = tail.chars();
        match letters.next() {
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(letter @ ('"' | '\\')) => {
                out.push('\\');
                out.push(letter);
            }
            Some(letter) => write(out, format_args!("\\u{:04x}", u32::from(letter))),
            None => {}
        }
        rest = letters.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

/// A value as plain JSON, for serde: secrets masked.
impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error;
        let mut text = String::new();
        write_json(self, &mut text);
        let raw = serde_json::value::RawValue::from_string(text).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// A value read from JSON by serde_json, digits kept.
struct JsonValue(Value);

impl<'de> Deserialize<'de> for JsonValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(JsonValue)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(JsonValue(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::list(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<Arc<str>>()? {
            let JsonValue(value) = entries.next_value()?;
            // serde_json shows a number as an object with this one key.
            if map.is_empty()
                && &*key == NUMBER_KEY
                && let Some(number) = value.as_str().and_then(parse_number)
            {
                return Ok(number);
            }
            map.insert(key, value);
        }
        Ok(Value::from(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trips_to_the_letter() {
        for text in [
            r#"{"b":1,"a":[true,false,null,"x\"\\\n\u0001"],"id":1234567890123456789}"#,
            r#"[12345678901234567890.123456789,1.10,-0.5,123456789012345678901234567890123456789012345]"#,
            r#""""#,
            "{}",
        ] {
            assert_eq!(parse_json(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_json_says_where() {
        let error = parse_json("{\"a\": tru}").unwrap_err().to_string();
        assert!(error.contains("line 1 column"), "{error}");
        assert!(parse_json(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn secrets_are_masked() {
        let value = Value::map([("key", Value::from("hunter2").tainted())]);
        assert_eq!(value.to_string(), r#"{"key":"***"}"#);
    }
}
