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
        let zoned = zoned(&value, arguments.text(0, "zone")?)?;
        Ok(Value::from(zoned.date().to_string()))
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
            text.parse().map_err(|error: <Timestamp as std::str::FromStr>::Err| invalid(error.to_string()))
        }
        other => Err(invalid(format!("expected a moment, found {}", other.kind().name()))),
    }
}

fn duration(value: &Value) -> Result<Value, Error> {
    match value {
        Value::Duration(_) => Ok(value.clone()),
        other => {
            let length: Result<Duration, _> = text(other)?.parse();
            length.map(Value::Duration).map_err(|error| invalid(error.to_string()))
        }
    }
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
