//! Bodies of requests and answers in plain formats: bytes ⇄ values, pure.
//!
//! What an encoder gets is laid open (`Value::revealed`): its bytes go out and nowhere else.

pub mod charset;
pub mod csv;
pub mod form;
pub mod json;
pub mod media;
pub mod multipart;
pub mod ndjson;
pub mod sse;
pub mod xml;

pub use self::charset::text_of;
pub use self::media::MediaType;

use crate::model::Value;

/// The body of a request as it goes out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    pub content_type: Option<String>,
    pub bytes: Vec<u8>,
}

impl Payload {
    #[must_use]
    pub fn new(content_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { content_type: Some(content_type.to_owned()), bytes: bytes.into() }
    }
}

/// How the body of an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Json,
    Text,
    /// Kept as a file; not read into a value.
    Bytes,
    Xml,
    Csv,
    Ndjson,
    Form,
    Sse,
}

/// Returns how an answer is read where the manifest does not say: by its `Content-Type`, or, where there is none, by
/// how it begins.
#[must_use]
pub fn answer_kind(content_type: Option<&str>, bytes: &[u8]) -> Kind {
    let Some(media) = content_type.map(MediaType::parse).filter(|media| !media.essence.is_empty()) else {
        return sniffed(bytes);
    };
    match media.essence.as_str() {
        "application/json" | "text/json" | "application/x-json" => Kind::Json,
        "application/xml" | "text/xml" => Kind::Xml,
        "text/csv" | "application/csv" | "text/x-csv" => Kind::Csv,
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/x-jsonlines"
        | "application/jsonlines"
        | "application/x-json-stream" => Kind::Ndjson,
        "text/event-stream" => Kind::Sse,
        "application/x-www-form-urlencoded" => Kind::Form,
        essence if essence.ends_with("+json") => Kind::Json,
        essence if essence.ends_with("+xml") && !essence.starts_with("image/") => Kind::Xml,
        essence if essence.starts_with("text/") => Kind::Text,
        _ => Kind::Bytes,
    }
}

fn sniffed(bytes: &[u8]) -> Kind {
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[') => Kind::Json,
        Some(b'<') => Kind::Xml,
        _ if std::str::from_utf8(bytes).is_ok() => Kind::Text,
        _ => Kind::Bytes,
    }
}

/// Reads the body of an answer. An empty one is null, as text the empty text, as rows an empty list; `Kind::Bytes` is
/// always null, since the caller keeps the bytes.
pub fn read(kind: Kind, content_type: Option<&str>, bytes: &[u8]) -> Result<Value, String> {
    let media = content_type.map(MediaType::parse);
    let blank = bytes.iter().all(u8::is_ascii_whitespace);
    match kind {
        Kind::Bytes => Ok(Value::Null),
        Kind::Sse => Ok(sse::decode(bytes)?),
        Kind::Json | Kind::Xml if blank => Ok(Value::Null),
        Kind::Json => json::decode(&charset::decode(media.as_ref(), bytes)?),
        Kind::Xml => xml::decode(&charset::decode_xml(media.as_ref(), bytes)?),
        Kind::Text => Ok(Value::from(charset::decode(media.as_ref(), bytes)?)),
        Kind::Csv => csv::decode(&charset::decode(media.as_ref(), bytes)?),
        Kind::Ndjson => ndjson::decode(&charset::decode(media.as_ref(), bytes)?),
        Kind::Form => form::decode(&charset::decode(media.as_ref(), bytes)?),
    }
}

/// Makes a body of plain text.
pub fn text(value: &Value) -> Result<Payload, String> {
    Ok(Payload::new("text/plain; charset=utf-8", scalar(value, "text")?.into_bytes()))
}

/// Returns the text of a scalar as it stands in a body; null is the empty text. Lists, maps and files have none.
pub(super) fn scalar(value: &Value, place: &str) -> Result<String, String> {
    match value {
        Value::Secret(inner) => scalar(inner, place),
        Value::List(_) | Value::Map(_) | Value::Blob(_) | Value::Dataset(_) => {
            Err(format!("{place} takes a text or a number, not {}", described(value)))
        }
        plain => Ok(plain.to_text()),
    }
}

/// Names the kind of a value with its article.
pub(in crate::connector) fn described(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Blob(_) => "a file".to_owned(),
        Value::Dataset(_) => "a dataset".to_owned(),
        other => {
            let name = other.kind().name();
            let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
            format!("{article} {name}")
        }
    }
}

/// Values to test formats with.
#[cfg(test)]
pub(crate) mod samples {
    use proptest::prelude::*;

    use super::*;
    use crate::model::parse_number;

    /// Any text without control characters, which not every format can carry.
    pub(crate) fn printable() -> impl Strategy<Value = String> {
        "[ -~äß€😀\u{301}]{0,12}"
    }

    /// A key such as systems use.
    pub(crate) fn key() -> impl Strategy<Value = String> {
        "[A-Za-z_][A-Za-z0-9_]{0,8}"
    }

    /// A number with digits that a float would lose.
    pub(crate) fn number() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::from),
            "-?(0|[1-9][0-9]{0,20})\\.[0-9]{1,7}".prop_map(|text| parse_number(&text).unwrap()),
        ]
    }

    pub(crate) fn leaf() -> impl Strategy<Value = Value> {
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number(), printable().prop_map(Value::from),]
    }

    /// Any value that JSON can hold.
    pub(crate) fn tree() -> impl Strategy<Value = Value> {
        leaf().prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::list),
                proptest::collection::vec((key(), inner), 0..5).prop_map(Value::map),
            ]
        })
    }

    /// Bytes with some of them changed, cut, or doubled.
    pub(crate) fn mutated(original: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
        let length = original.len().max(1);
        let changes = proptest::collection::vec((0..length, any::<u8>(), 0_u8..4), 1..6);
        changes.prop_map(move |changes| {
            let mut bytes = original.clone();
            for (at, byte, how) in changes {
                let at = at.min(bytes.len());
                match how {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at, byte),
                    2 if at < bytes.len() => bytes[at] = byte,
                    _ => {
                        let tail = bytes[at..].to_vec();
                        bytes.extend(tail);
                    }
                }
            }
            bytes
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_says_how_an_answer_is_read() {
        let cases = [
            (Some("application/json; charset=utf-8"), Kind::Json),
            (Some("application/problem+json"), Kind::Json),
            (Some("Application/JSON;odata=verbose"), Kind::Json),
            (Some("text/xml"), Kind::Xml),
            (Some("application/atom+xml;type=feed"), Kind::Xml),
            (Some("image/svg+xml"), Kind::Bytes),
            (Some("text/csv; charset=UTF-8"), Kind::Csv),
            (Some("application/x-ndjson"), Kind::Ndjson),
            (Some("text/event-stream"), Kind::Sse),
            (Some("application/x-www-form-urlencoded"), Kind::Form),
            (Some("text/html"), Kind::Text),
            (Some("image/png"), Kind::Bytes),
            (Some("application/octet-stream"), Kind::Bytes),
        ];
        for (content_type, kind) in cases {
            assert_eq!(answer_kind(content_type, b"{}"), kind, "{content_type:?}");
        }
    }

    #[test]
    fn an_answer_without_content_type_is_known_by_how_it_begins() {
        let cases: [(&[u8], Kind); 6] = [
            (b" {\"a\":1}", Kind::Json),
            (b"[]", Kind::Json),
            (b"<?xml version=\"1.0\"?><a/>", Kind::Xml),
            (b"hello", Kind::Text),
            (b"", Kind::Text),
            (b"\xff\x00\x01", Kind::Bytes),
        ];
        for (bytes, kind) in cases {
            assert_eq!(answer_kind(None, bytes), kind, "{bytes:?}");
            assert_eq!(answer_kind(Some(" "), bytes), kind, "{bytes:?}");
        }
    }

    #[test]
    fn an_empty_answer_is_no_fault() {
        assert_eq!(read(Kind::Json, Some("application/json"), b" \r\n").unwrap(), Value::Null);
        assert_eq!(read(Kind::Xml, None, b"").unwrap(), Value::Null);
        assert_eq!(read(Kind::Text, None, b"").unwrap(), Value::from(""));
        for kind in [Kind::Csv, Kind::Ndjson, Kind::Sse] {
            assert_eq!(read(kind, None, b"").unwrap(), Value::list(vec![]), "{kind:?}");
        }
    }

    #[test]
    fn every_kind_is_read_in_its_charset() {
        let latin = "text/csv; charset=iso-8859-1";
        assert_eq!(read(Kind::Csv, Some(latin), b"n\nM\xfcller\n").unwrap().to_string(), r#"[{"n":"Müller"}]"#);
        let xml = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a>\xe4</a>";
        assert_eq!(read(Kind::Xml, Some("text/xml"), xml).unwrap().to_string(), r#"{"a":"ä"}"#);
        assert!(read(Kind::Json, None, b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn text_takes_scalars_only() {
        assert_eq!(text(&Value::from("a").tainted()).unwrap().bytes, b"a");
        assert_eq!(text(&Value::list(vec![])).unwrap_err(), "text takes a text or a number, not an array");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            for kind in [Kind::Json, Kind::Text, Kind::Xml, Kind::Csv, Kind::Ndjson, Kind::Form, Kind::Sse] {
                for content_type in [None, Some("a/b; charset=utf-16"), Some("a/b; charset=latin1")] {
                    let _ = read(kind, content_type, &bytes);
                }
            }
        }
    }
}
