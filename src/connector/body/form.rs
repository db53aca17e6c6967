//! Forms: `application/x-www-form-urlencoded`.

use std::fmt::Write;

use super::Payload;
use super::scalar;
use crate::model::Map;
use crate::model::Value;

/// Writes a body from an object: a list repeats its key, null leaves it out.
pub fn encode(value: &Value) -> Result<Payload, String> {
    let text = write(&pairs(value)?);
    Ok(Payload::new("application/x-www-form-urlencoded", text.into_bytes()))
}

/// Returns the pairs of an object in its order: a list repeats its key, null leaves it out.
pub fn pairs(value: &Value) -> Result<Vec<(String, String)>, String> {
    let map = value.as_map().ok_or("a form is an object of names and values")?;
    let mut pairs = Vec::new();
    for (key, value) in map {
        let items = value.as_list().unwrap_or(std::slice::from_ref(value));
        for item in items.iter().filter(|item| !item.is_null()) {
            pairs.push((key.to_string(), scalar(item, &format!("`{key}` of a form"))?));
        }
    }
    Ok(pairs)
}

/// Writes pairs: a space as `+`, everything but letters, digits and `*-._` as `%XX`.
#[must_use]
pub fn write(pairs: &[(String, String)]) -> String {
    let mut text = String::new();
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            text.push('&');
        }
        escape(name, &mut text);
        text.push('=');
        escape(value, &mut text);
    }
    text
}

/// Reads a form into an object; a name that is repeated becomes a list.
pub fn decode(text: &str) -> Result<Value, String> {
    let mut map = Map::new();
    for (name, value) in parse(text)? {
        let value = Value::from(value);
        match map.get_mut(name.as_str()) {
            None => {
                map.insert(name.into(), value);
            }
            Some(Value::List(items)) => std::sync::Arc::make_mut(items).push(value),
            Some(first) => *first = Value::list(vec![first.clone(), value]),
        }
    }
    Ok(Value::from(map))
}

/// Reads the pairs of a form or of a query.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let fields = text.trim_end().split('&').filter(|field| !field.is_empty());
    let pair = |field: &str| {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        Ok((unescape(name)?, unescape(value)?))
    };
    fields.map(pair).collect()
}

fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'*' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => write!(out, "%{byte:02X}").expect("writing into a string cannot fail"),
        }
    }
}

/// Undoes `%XX` and `+`; a `%` that begins no escape stands for itself, as on the web.
pub(in crate::connector) fn unescape(text: &str) -> Result<String, String> {
    String::from_utf8(unescape_bytes(text)).map_err(|_| format!("`{text}` is not UTF-8 once its escapes are undone"))
}

/// Undoes `%XX` and `+` to bytes of whatever charset.
pub(in crate::connector) fn unescape_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hexadecimal(*high, *low),
            _ => None,
        };
        rest = tail;
        match (escaped, first) {
            (Some(byte), _) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            (None, b'+') => bytes.push(b' '),
            (None, other) => bytes.push(*other),
        }
    }
    bytes
}

fn hexadecimal(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connector::body::samples;

    fn check(json: &str, text: &str) {
        let value = crate::model::parse_json(json).unwrap();
        assert_eq!(String::from_utf8(encode(&value).unwrap().bytes).unwrap(), text);
    }

    #[test]
    fn a_form_is_written_as_browsers_do() {
        check(
            r#"{"a":"x y&=+~","b":[1,2.50,true],"c":null,"ü":"€"}"#,
            "a=x+y%26%3D%2B%7E&b=1&b=2.50&b=true&%C3%BC=%E2%82%AC",
        );
        check("{}", "");
    }

    #[test]
    fn only_flat_objects_are_forms() {
        let error = |json: &str| encode(&crate::model::parse_json(json).unwrap()).unwrap_err();
        assert_eq!(error("[]"), "a form is an object of names and values");
        assert_eq!(error(r#"{"a":{}}"#), "`a` of a form takes a text or a number, not an object");
    }

    #[test]
    fn a_repeated_name_is_read_as_a_list() {
        assert_eq!(
            decode("a=1&b=%zz+&a=2&a=3&c&=d").unwrap().to_string(),
            r#"{"a":["1","2","3"],"b":"%zz ","c":"","":"d"}"#
        );
        assert!(decode("a=%ff").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(pairs in proptest::collection::vec((".{1,8}", ".{0,12}"), 0..6)) {
            prop_assert_eq!(parse(&write(&pairs)).unwrap(), pairs);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}", printable in samples::printable()) {
            let _ = decode(&text);
            let _ = decode(&format!("a=%{printable}"));
        }
    }
}
