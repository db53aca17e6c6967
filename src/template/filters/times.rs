//! Filters and functions over moments and lengths of time.

use minijinja::Environment;
use minijinja::Error;
use minijinja::State;

use super::super::budget::plain_text as text;
use super::super::operators::bare;
use super::super::operators::invalid;
use super::super::operators::ours;
use super::super::value::to_jinja;
use super::call::Arguments;
use super::call::filter;
use crate::model;
use crate::model::Duration;
use crate::model::Timestamp;
use crate::model::Value;

/// The longest pattern of `format_time`, in bytes: each sign of it may ask for much text.
const MAX_PATTERN: usize = 1_000;

pub(super) fn register(environment: &mut Environment<'static>) {
    environment.add_function("now", |state: &State<'_, '_>| -> Result<minijinja::Value, Error> {
        state.lookup("__now").ok_or_else(|| invalid("there is no time here"))
    });
    environment.add_function("duration", |length: minijinja::Value| -> Result<minijinja::Value, Error> {
        let length = ours(&length)?;
        let is_secret = matches!(length, Value::Secret(_));
        let value = duration(bare(&length))?;
        Ok(to_jinja(&if is_secret { value.tainted() } else { value }))
    });
    filter(environment, "duration", 0, |value, _| duration(&value));
    filter(environment, "datetime", 0, |value, _| moment(&value).map(Value::Time));
    filter(environment, "iso", 0, |value, _| Ok(Value::from(moment(&value)?.to_string())));
    filter(environment, "from_epoch", 0, |value, _| epoch(&value, 1_000_000));
    filter(environment, "from_epoch_ms", 0, |value, _| epoch(&value, 1_000));
    filter(environment, "date", 1, |value, arguments| {
        let zone = arguments.text(0, "zone")?;
        // A text that `in_zone` wrote knows its zone.
        if let (Value::String(text), None) = (&value, &zone)
            && text.ends_with(']')
            && let Ok(zoned) = text.parse::<jiff::ZonedDateTime>()
        {
            return Ok(Value::from(zoned.date().to_string()));
        }
        Ok(Value::from(zoned(&value, zone)?.date().to_string()))
    });
    filter(environment, "in_zone", 1, |value, arguments| {
        let zone = arguments.text(0, "zone")?.ok_or_else(|| invalid("`in_zone` takes a time zone"))?;
        Ok(Value::from(zoned(&value, Some(zone))?.to_string()))
    });
    filter(environment, "next_midnight", 1, |value, arguments| {
        let zoned = zoned(&value, arguments.text(0, "zone")?)?;
        let next = zoned.tomorrow().and_then(|tomorrow| tomorrow.start_of_day());
        let next = next.map_err(|_| invalid("the moment is out of range"))?;
        Ok(Value::Time(Timestamp::from_jiff(next.timestamp())))
    });
    filter(environment, "utc_text", 0, |value, _| {
        let text = jiff::fmt::strtime::format("%Y-%m-%d %H:%M:%S", &zoned(&value, None)?);
        text.map(Value::from).map_err(|error| invalid(error.to_string()))
    });
    filter(environment, "http_date", 0, |value, _| {
        let text = jiff::fmt::strtime::format("%a, %d %b %Y %H:%M:%S GMT", &zoned(&value, None)?);
        text.map(Value::from).map_err(|error| invalid(error.to_string()))
    });
    filter(environment, "format_time", 2, |value, arguments| format_time(&value, arguments));
}

fn format_time(value: &Value, arguments: &Arguments) -> Result<Value, Error> {
    let pattern =
        arguments.text(0, "pattern")?.ok_or_else(|| invalid("`format_time` takes a pattern such as `%Y-%m-%d`"))?;
    if pattern.len() > MAX_PATTERN {
        return Err(invalid(format!("a pattern of more than {MAX_PATTERN} bytes")));
    }
    let zoned = zoned(value, arguments.text(1, "zone")?)?;
    let formatted = jiff::fmt::strtime::format(&pattern, &zoned);
    formatted.map(Value::from).map_err(|error| invalid(format!("the pattern `{pattern}`: {error}")))
}

fn zoned(value: &Value, zone: Option<String>) -> Result<jiff::ZonedDateTime, Error> {
    let zone = zone.unwrap_or_else(|| "UTC".to_owned());
    let zone = jiff::tz::TimeZone::get(&zone).map_err(|_| invalid(format!("there is no time zone `{zone}`")))?;
    Ok(moment(value)?.to_jiff().to_zoned_datetime(zone))
}

fn moment(value: &Value) -> Result<Timestamp, Error> {
    match value {
        Value::Time(time) => Ok(*time),
        Value::String(text) => {
            if let Some(zoned) = text.ends_with(']').then(|| text.parse::<jiff::ZonedDateTime>().ok()).flatten() {
                return Ok(Timestamp::from_jiff(zoned.timestamp()));
            }
            text.parse().map_err(|error: <Timestamp as std::str::FromStr>::Err| invalid(error.to_string()))
        }
        other => Err(invalid(format!("expected a moment, found {}", other.kind().name()))),
    }
}

fn duration(value: &Value) -> Result<Value, Error> {
    match value {
        Value::Duration(_) => Ok(value.clone()),
        other => {
            let text = text(other)?;
            let length: Result<Duration, _> = text.parse();
            match (length, lenient_duration(&text)) {
                (Ok(length), _) | (Err(_), Some(length)) => Ok(Value::Duration(length)),
                (Err(error), None) => Err(invalid(error.to_string())),
            }
        }
    }
}

/// Reads a length of time as headers give it: with fractions, `1.5s`, or as `6m0s`.
fn lenient_duration(text: &str) -> Option<Duration> {
    let mut micros = rust_decimal::Decimal::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, behind) = rest.split_at(end);
        let units = [
            ("ms", 1_000_u64),
            ("us", 1),
            ("s", 1_000_000),
            ("m", 60_000_000),
            ("h", 3_600_000_000),
            ("d", 86_400_000_000),
        ];
        let (unit, length) = units.into_iter().find(|(unit, _)| behind.starts_with(unit))?;
        let part = number.parse::<rust_decimal::Decimal>().ok()?.checked_mul(length.into())?;
        micros = micros.checked_add(part)?;
        rest = behind.get(unit.len()..)?;
    }
    rust_decimal::prelude::ToPrimitive::to_u64(&micros.ceil()).map(Duration::from_micros)
}

/// Reads a moment from a cell of a table: with an offset, else in a zone (UTC where none is given), also without `T`.
pub(super) fn moment_in(cell: &Value, zone: Option<&str>) -> Result<Timestamp, Error> {
    if let Ok(moment) = moment(cell) {
        return Ok(moment);
    }
    let written = text(cell)?;
    let wrong = || invalid(format!("expected a moment, found `{}`", written.escape_debug()));
    let local: jiff::civil::DateTime = match written.trim().parse() {
        Ok(local) => local,
        Err(_) => written.trim().replacen(' ', "T", 1).parse().map_err(|_| wrong())?,
    };
    let zone = zone.unwrap_or("UTC");
    let zone = jiff::tz::TimeZone::get(zone).map_err(|_| invalid(format!("there is no time zone `{zone}`")))?;
    let zoned = local.to_zoned_datetime(zone).map_err(|_| wrong())?;
    Ok(Timestamp::from_jiff(zoned.timestamp()))
}

/// Reads a day, of a date or of the beginning of a moment.
pub(super) fn date_text(text: &str) -> Option<String> {
    let date: jiff::civil::Date = text.get(..10).unwrap_or(text).parse().ok()?;
    Some(date.to_string())
}

/// Reads a count of seconds or milliseconds since 1970, exactly.
fn epoch(value: &Value, micros: i64) -> Result<Value, Error> {
    let number = match value {
        Value::String(text) => {
            model::parse_number(text.trim()).ok_or_else(|| invalid(format!("{value} is not a number")))?
        }
        number => number.clone(),
    };
    let product = model::multiply(&number, &Value::from(micros)).map_err(|error| invalid(error.to_string()))?;
    let micros = match product {
        Value::Int(micros) => i64::try_from(micros).ok(),
        Value::Decimal(micros) => rust_decimal::prelude::ToPrimitive::to_i64(&micros.trunc()),
        _ => None,
    };
    micros.map(|micros| Value::Time(Timestamp(micros))).ok_or_else(|| invalid("the moment is out of range"))
}
