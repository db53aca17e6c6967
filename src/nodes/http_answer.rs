//! What an HTTP answer means: its content, and for a failed one, whose fault it is and whether anything happened.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::http::Response;
use crate::http::TransportError;
use crate::model::Duration;
use crate::model::ErrorClass;
use crate::model::Happened;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::parse_json;
use crate::node::NodeError;

/// How the body of an answer is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answer {
    /// By its content type: JSON as a value, text as a string, anything else as base64.
    #[default]
    Auto,
    /// As JSON, whatever the server says; numbers are exact.
    Json,
    /// As UTF-8 text.
    Text,
    /// As base64.
    Bytes,
}

/// Reads the body of an answer; an empty one is null.
pub(super) fn body(answer: &Response, how: Answer) -> Result<Value, String> {
    if answer.body.is_empty() {
        return Ok(Value::Null);
    }
    let text = || std::str::from_utf8(&answer.body);
    let base64 = || Value::from(STANDARD.encode(&answer.body));
    match how {
        Answer::Bytes => Ok(base64()),
        Answer::Text => text().map(Value::from).map_err(|_| "the answer is not UTF-8 text".to_owned()),
        Answer::Json => {
            let text = text().map_err(|_| "the answer is not UTF-8 text".to_owned())?;
            parse_json(text).map_err(|error| format!("the answer is not JSON: {error}"))
        }
        Answer::Auto => match text() {
            Err(_) => Ok(base64()),
            Ok(text) if says_json(answer) => Ok(parse_json(text).unwrap_or_else(|_| Value::from(text))),
            Ok(text) => Ok(Value::from(text)),
        },
    }
}

fn says_json(answer: &Response) -> bool {
    let media_type = answer.header("content-type").unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}

/// Returns the headers as an object; a repeated one holds its values with commas between.
pub(super) fn headers(answer: &Response) -> Value {
    let mut map = Map::new();
    for (name, value) in &answer.headers {
        let joined = match map.get(name.as_str()).and_then(Value::as_str) {
            Some(earlier) => format!("{earlier}, {value}"),
            None => value.clone(),
        };
        map.insert(name.as_str().into(), joined.into());
    }
    map.into()
}

/// Makes an error of an answer whose status was not expected.
pub(super) fn refusal(answer: &Response, asked: &str, write: bool, now: Timestamp) -> NodeError {
    let mut error =
        NodeError::message(class(answer.status), format!("{asked} answered {}{}", answer.status, said(answer)));
    error.retry_after = answer.header("retry-after").and_then(|text| retry_after(text, now));
    if write && happened(answer.status) == Happened::Perhaps { error.perhaps() } else { error }
}

fn class(status: u16) -> ErrorClass {
    match status {
        401 | 403 | 407 => ErrorClass::Auth,
        402 => ErrorClass::Exhausted,
        408 => ErrorClass::Timeout,
        409 | 412 => ErrorClass::Conflict,
        423 => ErrorClass::Locked,
        429 => ErrorClass::Throttled,
        425 | 500..=599 => ErrorClass::Unavailable,
        _ => ErrorClass::Invalid,
    }
}

/// Tells whether a status proves that a write did not happen. A refusal of the request (4xx) does; a server that broke
/// down on the way, or an answer that is not a refusal at all, does not.
fn happened(status: u16) -> Happened {
    match status {
        408 | 425 => Happened::Perhaps,
        400..=499 => Happened::No,
        _ => Happened::Perhaps,
    }
}

/// Returns the beginning of what the server said, which often names the fault.
fn said(answer: &Response) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return String::new();
    }
    let short: String = line.chars().take(200).collect();
    let more = if short.len() < line.len() { " …" } else { "" };
    format!(": {short}{more}")
}

/// Reads a Retry-After: seconds, or a moment as RFC 9110 writes it.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let moment = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    Some(Timestamp::from_jiff(moment.timestamp()).since(now))
}

/// Makes an error of an exchange without an answer.
pub(super) fn failure(error: TransportError, write: bool) -> NodeError {
    let in_doubt = write && !error.nothing_was_sent();
    let error = NodeError::new(error.class(), error);
    if in_doubt { error.perhaps() } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Response { status, headers, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_status_says_whose_fault_it_is_and_whether_it_happened() {
        let cases = [
            (400, ErrorClass::Invalid, Happened::No),
            (401, ErrorClass::Auth, Happened::No),
            (404, ErrorClass::Invalid, Happened::No),
            (408, ErrorClass::Timeout, Happened::Perhaps),
            (409, ErrorClass::Conflict, Happened::No),
            (423, ErrorClass::Locked, Happened::No),
            (425, ErrorClass::Unavailable, Happened::Perhaps),
            (429, ErrorClass::Throttled, Happened::No),
            (500, ErrorClass::Unavailable, Happened::Perhaps),
            (503, ErrorClass::Unavailable, Happened::Perhaps),
            (303, ErrorClass::Invalid, Happened::Perhaps),
        ];
        for (status, class, happened) in cases {
            let error = refusal(&answer(status, &[], ""), "POST example.com", true, Timestamp(0));
            assert_eq!((error.class, error.happened), (class, happened), "{status}");
            let error = refusal(&answer(status, &[], ""), "GET example.com", false, Timestamp(0));
            assert_eq!(error.happened, Happened::No, "{status}");
        }
    }

    #[test]
    fn retry_after_comes_in_seconds_or_as_a_moment() {
        let now: Timestamp = "2015-10-21T07:27:00Z".parse().unwrap();
        let cases = [
            ("7", Some("7s")),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some("1m")),
            ("Wed, 21 Oct 2015 07:20:00 GMT", Some("0s")),
            ("soon", None),
        ];
        for (text, expected) in cases {
            assert_eq!(retry_after(text, now).map(|length| length.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn bodies_are_read_by_their_type() {
        let json = [("content-type", "application/problem+json; charset=utf-8")];
        let shown = |answer: &Response, how| body(answer, how).map_or_else(|error| error, |value| value.to_string());
        assert_eq!(
            shown(&answer(200, &json, r#"{"id":9007199254740993}"#), Answer::Auto),
            r#"{"id":9007199254740993}"#
        );
        assert_eq!(shown(&answer(200, &[], "[1]"), Answer::Auto), "\"[1]\"");
        assert_eq!(shown(&answer(200, &[], "[1.10]"), Answer::Json), "[1.10]");
        assert_eq!(shown(&answer(200, &json, "oops"), Answer::Auto), "\"oops\"");
        assert_eq!(shown(&answer(200, &[], "hi"), Answer::Bytes), "\"aGk=\"");
        assert_eq!(shown(&answer(204, &json, ""), Answer::Json), "null");
        assert!(shown(&answer(200, &[], "oops"), Answer::Json).starts_with("the answer is not JSON"));
    }
}
