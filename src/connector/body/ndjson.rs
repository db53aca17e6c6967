//! Newline-delimited JSON: one document a line.

use super::Payload;
use super::json;
use crate::model::Value;

/// Writes the items of a list, one a line.
pub fn encode(value: &Value) -> Result<Payload, String> {
    let items = value.as_list().ok_or("ndjson takes a list")?;
    let mut text = String::new();
    for item in items {
        text.push_str(&json::write(item)?);
        text.push('\n');
    }
    Ok(Payload::new("application/x-ndjson", text.into_bytes()))
}

/// Reads the documents; empty lines are passed over.
pub fn decode(text: &str) -> Result<Value, String> {
    let mut items = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        items.push(json::decode(line).map_err(|error| format!("line {}: {error}", index + 1))?);
    }
    Ok(Value::list(items))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connector::body::samples;

    #[test]
    fn each_line_is_a_document() {
        assert_eq!(decode("{\"a\":1.10}\r\n\n[2]\n").unwrap().to_string(), r#"[{"a":1.10},[2]]"#);
        assert!(decode("1\n{").unwrap_err().starts_with("line 2: the body is not JSON"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(items in proptest::collection::vec(samples::tree(), 0..5)) {
            let value = Value::list(items);
            let text = String::from_utf8(encode(&value).unwrap().bytes).unwrap();
            prop_assert_eq!(decode(&text).unwrap(), value);
        }
    }
}
