//! The stored form of a value: JSON in which every kind survives.
//!
//! What JSON has no word for is an object with the one key `$`: `{"$":["money","1.50 USD"]}`. An object of the user's
//! that has just this key is wrapped as `{"$":["map",{…}]}`. Secrets are handed to `seal`, which turns the stored form
//! of the open value into a sealed text.

use std::fmt::Write;
use std::sync::Arc;

use super::Blob;
use super::Dataset;
use super::JsonError;
use super::Map;
use super::Value;
use super::json::write_string;
use super::parse_json;
use super::write_json;

/// Appends the stored form of a value.
///
/// # Errors
/// Those of `seal`, when a secret cannot be sealed.
pub fn to_stored<E>(value: &Value, out: &mut String, seal: &mut dyn FnMut(&str) -> Result<String, E>) -> Result<(), E> {
    match value {
        Value::Float(float) => tag(out, "float", &format!("{float:?}")),
        Value::Money(money) => tag(out, "money", &money.to_string()),
        Value::Time(time) => tag(out, "time", &time.micros().to_string()),
        Value::Duration(duration) => tag(out, "duration", &duration.micros().to_string()),
        Value::Blob(blob) => tag(out, "blob", &blob_text(blob)),
        Value::Dataset(dataset) => tag(out, "dataset", &format!("{} {} {}", dataset.rows, dataset.id, dataset.name)),
        Value::Secret(inner) => {
            let mut open = String::new();
            to_stored(inner, &mut open, seal)?;
            tag(out, "sealed", &seal(&open)?);
        }
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                to_stored(item, out, seal)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            let wrapped = map.len() == 1 && map.contains_key("$");
            out.push_str(if wrapped { "{\"$\":[\"map\",{" } else { "{" });
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                to_stored(value, out, seal)?;
            }
            out.push_str(if wrapped { "}]}" } else { "}" });
        }
        scalar => write_json(scalar, out),
    }
    Ok(())
}

/// Reads the stored form back; `unseal` opens what `seal` closed.
///
/// # Errors
/// A text that this module did not write, or a secret that cannot be opened (the message says why).
pub fn from_stored(text: &str, unseal: &dyn Fn(&str) -> Result<String, String>) -> Result<Value, String> {
    let value = parse_json(text).map_err(|error: JsonError| error.to_string())?;
    restore(value, unseal)
}

fn restore(value: Value, unseal: &dyn Fn(&str) -> Result<String, String>) -> Result<Value, String> {
    match value {
        Value::List(items) => {
            let items = Arc::try_unwrap(items).unwrap_or_else(|shared| (*shared).clone());
            items.into_iter().map(|item| restore(item, unseal)).collect::<Result<Vec<_>, _>>().map(Value::list)
        }
        Value::Map(map) => {
            if let Some(Value::List(tagged)) = map.get("$").filter(|_| map.len() == 1) {
                return untag(tagged, unseal);
            }
            let map = Arc::try_unwrap(map).unwrap_or_else(|shared| (*shared).clone());
            let entries = map.into_iter().map(|(key, value)| Ok((key, restore(value, unseal)?)));
            entries.collect::<Result<Map, String>>().map(Value::from)
        }
        scalar => Ok(scalar),
    }
}

fn untag(tagged: &[Value], unseal: &dyn Fn(&str) -> Result<String, String>) -> Result<Value, String> {
    let wrong = || format!("the stored value {} is damaged", Value::list(tagged.to_vec()));
    let [tag, payload] = tagged else { return Err(wrong()) };
    if let (Some("map"), Value::Map(map)) = (tag.as_str(), payload) {
        let entries = map.iter().map(|(key, value)| Ok((key.clone(), restore(value.clone(), unseal)?)));
        return entries.collect::<Result<Map, String>>().map(Value::from);
    }
    let text = payload.as_str().ok_or_else(wrong)?;
    match tag.as_str().ok_or_else(wrong)? {
        "float" => text.parse().map(Value::Float).map_err(|_| wrong()),
        "money" => text.parse().map(Value::Money).map_err(|_| wrong()),
        "time" => text.parse().map(|micros| Value::Time(super::Timestamp(micros))).map_err(|_| wrong()),
        "duration" => {
            text.parse().map(|micros| Value::Duration(super::Duration::from_micros(micros))).map_err(|_| wrong())
        }
        "blob" => parse_blob(text).map(|blob| Value::Blob(Arc::new(blob))).ok_or_else(wrong),
        "dataset" => {
            let mut parts = text.splitn(3, ' ');
            let rows = parts.next().and_then(|rows| rows.parse().ok()).ok_or_else(wrong)?;
            let id = parts.next().ok_or_else(wrong)?.to_owned();
            let name = parts.next().ok_or_else(wrong)?.to_owned();
            Ok(Value::Dataset(Arc::new(Dataset { name, id, rows })))
        }
        "sealed" => from_stored(&unseal(text)?, unseal).map(Value::tainted),
        _ => Err(wrong()),
    }
}

fn tag(out: &mut String, tag: &str, payload: &str) {
    write!(out, "{{\"$\":[\"{tag}\",").expect("writing into a string cannot fail");
    write_string(payload, out);
    out.push_str("]}");
}

fn blob_text(blob: &Blob) -> String {
    let media_type = blob.media_type.as_deref().unwrap_or("-");
    let part = blob.offset.map(|offset| format!("@{offset}")).unwrap_or_default();
    format!("{}{part} {} {media_type} {}", blob.address, blob.size, blob.file_name.as_deref().unwrap_or(""))
}

fn parse_blob(text: &str) -> Option<Blob> {
    let mut parts = text.splitn(4, ' ');
    let address = parts.next()?;
    let (address, offset) = match address.split_once('@') {
        Some((address, offset)) => (address, Some(offset.parse().ok()?)),
        None => (address, None),
    };
    let address = address.to_owned();
    let size = parts.next()?.parse().ok()?;
    let media_type = parts.next().filter(|text| *text != "-").map(str::to_owned);
    let file_name = parts.next().filter(|text| !text.is_empty()).map(str::to_owned);
    Some(Blob { address, size, offset, media_type, file_name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(value: &Value) -> Value {
        let mut text = String::new();
        let mut seal = |open: &str| Ok::<_, String>(open.chars().rev().collect::<String>());
        to_stored(value, &mut text, &mut seal).unwrap();
        from_stored(&text, &|sealed| Ok(sealed.chars().rev().collect())).unwrap()
    }

    #[test]
    fn every_kind_survives_the_store() {
        let blob = Blob {
            address: "sha256:ab".into(),
            size: 3,
            offset: Some(7),
            media_type: None,
            file_name: Some("a b.txt".into()),
        };
        let dataset = Dataset { name: "rows of x".into(), id: "01A/x".into(), rows: 7 };
        let value = Value::map([
            ("float", Value::Float(0.1)),
            ("money", Value::Money("1.50 USD".parse().unwrap())),
            ("time", Value::Time(super::super::Timestamp(-5))),
            ("duration", Value::Duration(super::super::Duration::from_secs(90))),
            ("blob", Value::Blob(Arc::new(blob))),
            ("dataset", Value::Dataset(Arc::new(dataset))),
            ("number", parse_json("12345678901234567890.123456789").unwrap()),
            ("dollar", parse_json(r#"{"$":["money","no"]}"#).unwrap()),
            ("list", parse_json(r#"[1,{"a":null}]"#).unwrap()),
        ]);
        assert_eq!(round_trip(&value), value);
    }

    #[test]
    fn a_secret_is_sealed_and_comes_back_secret() {
        let value = Value::from("hunter2").tainted();
        let back = round_trip(&value);
        assert!(back.is_tainted());
        assert_eq!(back.revealed(), Value::from("hunter2"));
    }
}
