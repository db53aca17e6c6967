//! JSON bodies; numbers keep every digit.

use super::Payload;
use super::described;
use crate::model::Value;
use crate::model::parse_json;
use crate::model::write_json;

/// Writes a body. Moments, durations and money are texts; a file has no place in JSON.
pub fn encode(value: &Value) -> Result<Payload, String> {
    Ok(Payload::new("application/json", write(value)?.into_bytes()))
}

/// Writes the text of a value, secrets laid open.
pub fn write(value: &Value) -> Result<String, String> {
    refuse_files(value)?;
    let mut text = String::new();
    write_json(&value.revealed(), &mut text);
    Ok(text)
}

/// Reads one document.
pub fn decode(text: &str) -> Result<Value, String> {
    parse_json(text).map_err(|error| format!("the body is not JSON: {error}"))
}

fn refuse_files(value: &Value) -> Result<(), String> {
    match value {
        Value::Blob(_) | Value::Dataset(_) => {
            Err(format!("JSON cannot hold {}: send it by `bytes` or `multipart`", described(value)))
        }
        Value::List(items) => items.iter().try_for_each(refuse_files),
        Value::Map(map) => map.values().try_for_each(refuse_files),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connector::body::samples;
    use crate::model::Dataset;

    #[test]
    fn a_body_holds_what_is_secret_in_clear() {
        let value = Value::map([("token", Value::from("hunter2").tainted()), ("n", Value::Null)]);
        let payload = encode(&value).unwrap();
        assert_eq!(payload.bytes, br#"{"token":"hunter2","n":null}"#);
        assert_eq!(payload.content_type.as_deref(), Some("application/json"));
    }

    #[test]
    fn files_and_datasets_are_refused() {
        let rows = Dataset { name: "rows".to_owned(), id: "1".to_owned(), rows: 2 };
        let value = Value::list(vec![Value::map([("a", Value::Dataset(rows.into()))])]);
        assert_eq!(encode(&value).unwrap_err(), "JSON cannot hold a dataset: send it by `bytes` or `multipart`");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in samples::tree()) {
            let text = write(&value).unwrap();
            let read = decode(&text).unwrap();
            prop_assert_eq!(&read, &value);
            prop_assert_eq!(write(&read).unwrap(), text);
        }

        #[test]
        fn damaged_json_never_panics(bytes in samples::mutated(br#"{"a":[1.50,"x",null,{"b":1e7}]}"#.to_vec())) {
            let _ = decode(&String::from_utf8_lossy(&bytes));
        }
    }
}
