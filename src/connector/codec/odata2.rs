//! Values of OData V2 in verbose JSON, both ways.
//!
//! Reading: `/Date(ms)/` becomes a moment in UTC. Decimals and 64-bit integers stay the texts that they are on the
//! wire, since without metadata they cannot be told from keys such as `"0000004712"`; `typed` makes numbers of them.
//! `PT09H15M30S` stays text. Writing: moments become `/Date(ms)/`, decimals and integers beyond 32 bits texts, whatever
//! the service told about itself (`__metadata`, `__deferred`) is left out.

use std::sync::Arc;

use crate::connector::body::Payload;
use crate::connector::body::json;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;

/// Writes the body of a POST, PUT or PATCH.
pub fn encode(value: &Value) -> Result<Payload, String> {
    json::encode(&to_wire(value))
}

/// Reads an answer of any status: errors are JSON as well.
pub fn decode(text: &str) -> Result<Value, String> {
    json::decode(text).map(|value| from_wire(&value))
}

/// Returns the value as it stands in a body.
#[must_use]
pub fn to_wire(value: &Value) -> Value {
    match value {
        Value::Secret(inner) => to_wire(inner),
        Value::Time(time) => Value::from(format!("/Date({})/", time.micros().div_euclid(1000))),
        Value::Duration(duration) => Value::from(time_of_day(duration.micros())),
        Value::Decimal(_) | Value::Number(_) => Value::from(value.to_text()),
        Value::Int(integer) if i32::try_from(*integer).is_err() => Value::from(integer.to_string()),
        Value::Money(money) => Value::from(money.amount.to_string()),
        Value::List(items) => Value::list(items.iter().map(to_wire).collect()),
        Value::Map(map) => {
            let kept = map.iter().filter(|(key, value)| &***key != "__metadata" && !is_deferred(value));
            Value::map(kept.map(|(key, value)| (Arc::clone(key), to_wire(value))))
        }
        plain => plain.clone(),
    }
}

/// Returns the value that a body means.
#[must_use]
pub fn from_wire(value: &Value) -> Value {
    match value {
        Value::String(text) => moment(text).map_or_else(|| value.clone(), Value::Time),
        Value::List(items) => Value::list(items.iter().map(from_wire).collect()),
        Value::Map(map) => Value::map(map.iter().map(|(key, value)| (Arc::clone(key), from_wire(value)))),
        plain => plain.clone(),
    }
}

/// Writes one page of rows, for the side that serves: `{ d: { results, __count, __next } }`.
pub fn encode_page(rows: &[Value], count: Option<u64>, next: Option<&str>) -> Result<Payload, String> {
    let mut page = Map::new();
    if let Some(count) = count {
        page.insert("__count".into(), Value::from(count.to_string()));
    }
    page.insert("results".into(), Value::list(rows.iter().map(to_service_wire).collect()));
    if let Some(next) = next {
        page.insert("__next".into(), Value::from(next));
    }
    served(Value::from(page))
}

/// Writes one entity, for the side that serves: `{ d: … }`.
pub fn encode_entity(entity: &Value) -> Result<Payload, String> {
    served(to_service_wire(entity))
}

fn served(content: Value) -> Result<Payload, String> {
    let text = json::write(&Value::map([("d", content)]))?;
    // Services write the slashes of dates escaped.
    Ok(Payload::new("application/json", text.replace("\"/Date(", "\"\\/Date(").replace(")/\"", ")\\/\"")))
}

/// Like `to_wire`, with what a service tells about itself kept.
fn to_service_wire(value: &Value) -> Value {
    match value {
        Value::List(items) => Value::list(items.iter().map(to_service_wire).collect()),
        Value::Map(map) => Value::map(map.iter().map(|(key, value)| (Arc::clone(key), to_service_wire(value)))),
        plain => to_wire(plain),
    }
}

fn is_deferred(value: &Value) -> bool {
    value.get("__deferred").is_some()
}

/// Reads `/Date(ms)/` or `/Date(ms+zzzz)/`: the number is UTC, the offset (in minutes) tells only how to show it.
fn moment(text: &str) -> Option<Timestamp> {
    let inner = text.strip_prefix("/Date(")?.strip_suffix(")/")?;
    let at = inner.char_indices().skip(1).find(|(_, letter)| matches!(letter, '+' | '-')).map(|(at, _)| at);
    let (number, offset) = at.map_or((inner, ""), |at| inner.split_at(at));
    let offset = offset.strip_prefix(['+', '-']).unwrap_or(offset);
    if !offset.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let micros = number.parse::<i64>().ok()?.checked_mul(1000)?;
    // A year that no calendar here can tell stays the text that it is.
    jiff::Timestamp::from_microsecond(micros).ok()?;
    Some(Timestamp(micros))
}

fn time_of_day(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = micros % 1_000_000;
    if fraction == 0 {
        return format!("PT{hours:02}H{minutes:02}M{rest:02}S");
    }
    let fraction = format!("{fraction:06}");
    format!("PT{hours:02}H{minutes:02}M{rest:02}.{}S", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connector::body::samples;
    use crate::model::Duration;
    use crate::model::parse_json;

    #[test]
    fn dates_become_moments_and_the_rest_stays() {
        let text = r#"{"d":{"__count":"3","results":[{"__metadata":{"etag":"W/\"1\""},"SalesOrder":"0005100017",
            "TotalNetAmount":"1998.00","At":"\/Date(1793610930123+0000)\/","On":"\/Date(1793491200000)\/","T":"PT09H15M30S",
            "Old":"\/Date(-1)\/","Shown":"/Date(0-0120)/","None":null,"to_Item":{"__deferred":{"uri":"x"}}}]}}"#;
        assert_eq!(
            decode(text).unwrap().to_string(),
            r#"{"d":{"__count":"3","results":[{"__metadata":{"etag":"W/\"1\""},"SalesOrder":"0005100017","TotalNetAmount":"1998.00","At":"2026-11-02T09:15:30.123Z","On":"2026-11-01T00:00:00Z","T":"PT09H15M30S","Old":"1969-12-31T23:59:59.999Z","Shown":"1970-01-01T00:00:00Z","None":null,"to_Item":{"__deferred":{"uri":"x"}}}]}}"#
        );
    }

    #[test]
    fn what_only_looks_like_a_date_stays_text() {
        for text in
            ["/Date()/", "/Date(x)/", "/Date(1+x)/", "/Date(99999999999999999)/", "Date(1)", "/Date(1)", "/Date(-)/"]
        {
            assert_eq!(from_wire(&Value::from(text)), Value::from(text), "{text}");
        }
    }

    #[test]
    fn values_are_written_as_the_service_wants_them() {
        let value = Value::map([
            ("__metadata", Value::map([("uri", Value::from("x"))])),
            ("At", Value::Time(Timestamp(1_793_610_930_123_999))),
            ("Amount", parse_json("1998.00").unwrap()),
            ("Price", Value::Money("2.50 EUR".parse().unwrap())),
            ("Count", Value::from(5)),
            ("Big", Value::from(5_000_000_000_i64)),
            ("Time", Value::Duration(Duration::from_millis(33_330_500))),
            ("Flag", Value::from(true)),
            ("Secret", Value::from("s").tainted()),
            ("Clear", Value::Null),
            ("to_Partner", Value::map([("__deferred", Value::Null)])),
            ("to_Item", Value::list(vec![Value::map([("Q", parse_json("2.0").unwrap())])])),
        ]);
        assert_eq!(
            String::from_utf8(encode(&value).unwrap().bytes).unwrap(),
            r#"{"At":"/Date(1793610930123)/","Amount":"1998.00","Price":"2.50","Count":5,"Big":"5000000000","Time":"PT09H15M30.5S","Flag":true,"Secret":"s","Clear":null,"to_Item":[{"Q":"2.0"}]}"#
        );
    }

    #[test]
    fn a_service_writes_pages_with_its_metadata_and_escaped_dates() {
        let row =
            Value::map([("__metadata", Value::map([("etag", Value::from("W/1"))])), ("On", Value::Time(Timestamp(0)))]);
        let text = |payload: Payload| String::from_utf8(payload.bytes).unwrap();
        assert_eq!(
            text(encode_page(std::slice::from_ref(&row), Some(3), Some("https://x?$skiptoken=2")).unwrap()),
            r#"{"d":{"__count":"3","results":[{"__metadata":{"etag":"W/1"},"On":"\/Date(0)\/"}],"__next":"https://x?$skiptoken=2"}}"#
        );
        assert_eq!(text(encode_entity(&row).unwrap()), r#"{"d":{"__metadata":{"etag":"W/1"},"On":"\/Date(0)\/"}}"#);
    }

    proptest! {
        #[test]
        fn moments_survive_to_the_millisecond(milliseconds in -62_000_000_000_000_i64..250_000_000_000_000) {
            let value = Value::Time(Timestamp(milliseconds * 1000));
            prop_assert_eq!(from_wire(&to_wire(&value)), value);
        }

        #[test]
        fn any_value_is_carried(value in samples::tree()) {
            let text = String::from_utf8(encode(&value).unwrap().bytes).unwrap();
            // What went out comes in as its texts: once more changes nothing.
            let read = decode(&text).unwrap();
            prop_assert_eq!(String::from_utf8(encode(&read).unwrap().bytes).unwrap(), text);
        }

        #[test]
        fn damaged_bodies_never_panic(bytes in samples::mutated(br#"{"d":{"a":"\/Date(1-0100)\/","b":[null]}}"#.to_vec())) {
            let _ = decode(&String::from_utf8_lossy(&bytes));
        }
    }
}
