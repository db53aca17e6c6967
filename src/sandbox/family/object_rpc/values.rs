//! Values of fields: as callers give them, as they are stored, as callers see them.

use rust_decimal::Decimal;
use rust_decimal::RoundingStrategy;

use super::rows::View;
use super::schema::Field;
use super::schema::Kind;
use super::schema::Model;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::parse_number;

/// Returns the id that a value is.
pub(super) fn id_of(value: &Value) -> Option<i64> {
    match value {
        Value::Int(id) => i64::try_from(*id).ok(),
        // A pair as callers see it, of which they give back what they got.
        Value::List(pair) => match pair.as_slice() {
            [id @ Value::Int(_), Value::String(_)] => id_of(id),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the ids that a value holds: one or many.
pub(super) fn ids_of(value: &Value) -> Vec<i64> {
    match value {
        Value::List(items) => items.iter().filter_map(id_of).collect(),
        other => id_of(other).into_iter().collect(),
    }
}

/// Writes a moment as databases do: in UTC, with its fraction of a second where there is one.
pub(super) fn moment_text(now: Timestamp) -> String {
    let whole = now.to_jiff().strftime("%Y-%m-%d %H:%M:%S").to_string();
    match now.micros().rem_euclid(1_000_000) {
        0 => whole,
        micros => format!("{whole}.{micros:06}"),
    }
}

/// Reads a moment as it is written in settings, `2026-01-31 09:00:00`.
pub(super) fn read_moment(text: &str) -> Option<Timestamp> {
    let (day, time) = text.split_once(' ')?;
    format!("{day}T{time}Z").parse().ok()
}

/// Turns what a caller gives into what is stored; nothing, false and empty text are null.
pub(super) fn stored(field: &Field, value: &Value) -> Result<Value, String> {
    let empty = matches!(value, Value::Null | Value::Bool(false)) || value.as_str().is_some_and(str::is_empty);
    if empty && field.kind != Kind::Boolean && !field.kind.is_number() {
        return Ok(Value::Null);
    }
    match field.kind {
        Kind::Text => Ok(Value::from(value.to_text())),
        Kind::Selection => {
            let text = value.to_text();
            let known = field.selection.is_empty() || field.selection.iter().any(|(key, _)| **key == *text);
            let wrong = || format!("Wrong value for {}: '{text}'", field.name);
            if known { Ok(Value::from(text)) } else { Err(wrong()) }
        }
        Kind::Integer => match number(value) {
            Some(Value::Int(number)) => Ok(Value::Int(number)),
            Some(Value::Decimal(number)) => Ok(decimal_to_int(number)),
            _ => Err(format!("invalid literal for int() with base 10: '{}'", value.to_text())),
        },
        Kind::Float | Kind::Monetary => {
            let wrong = || format!("could not convert string to float: '{}'", value.to_text());
            let number = match number(value).ok_or_else(wrong)? {
                Value::Int(number) => i64::try_from(number).map(Decimal::from).map_err(|_| wrong())?,
                Value::Decimal(number) => number,
                _ => return Err(wrong()),
            };
            Ok(Value::Decimal(floating(if field.kind == Kind::Monetary { cents(number) } else { number })))
        }
        Kind::Boolean => Ok(Value::Bool(value.is_truthy())),
        Kind::Date => date(&value.to_text()).map(Value::from),
        Kind::DateTime => date_time(&value.to_text()).map(Value::from),
        Kind::Many2one => {
            id_of(value).map(Value::from).ok_or_else(|| format!("Wrong value for {}: {}", field.name, value.to_text()))
        }
        Kind::One2many | Kind::Many2many => Ok(Value::list(ids_of(value).into_iter().map(Value::from).collect())),
        Kind::Any => Ok(value.clone()),
    }
}

fn number(value: &Value) -> Option<Value> {
    match value {
        Value::Int(_) | Value::Decimal(_) => Some(value.clone()),
        Value::Null => Some(Value::Int(0)),
        Value::Bool(value) => Some(Value::Int(i128::from(*value))),
        Value::Float(float) => parse_number(&format!("{float}")),
        Value::String(text) if text.trim().is_empty() => Some(Value::Int(0)),
        Value::String(text) => parse_number(text.trim()),
        _ => None,
    }
}

fn decimal_to_int(number: Decimal) -> Value {
    number.trunc().to_string().parse().map_or(Value::Int(0), Value::Int)
}

/// Rounds an amount as currencies do.
fn cents(number: Decimal) -> Decimal {
    number.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero)
}

/// Gives a number the shortest text that a floating one has: at least one digit behind the point.
fn floating(number: Decimal) -> Decimal {
    let mut number = number.normalize();
    if number.scale() == 0 {
        number.rescale(1);
    }
    number
}

fn date(text: &str) -> Result<String, String> {
    let day = text.get(..10).unwrap_or(text);
    let wrong = || format!("time data '{text}' does not match format '%Y-%m-%d'");
    day.parse::<jiff::civil::Date>().map(|day| day.to_string()).map_err(|_| wrong())
}

fn date_time(text: &str) -> Result<String, String> {
    let wrong = || format!("time data '{text}' does not match format '%Y-%m-%d %H:%M:%S'");
    let whole = match text.len() {
        10 => format!("{text} 00:00:00"),
        _ => text.to_owned(),
    };
    if whole.as_bytes().get(10) != Some(&b' ') || read_moment(&whole).is_none() {
        return Err(wrong());
    }
    Ok(whole)
}

/// Fills an empty field as expressions want it: numbers are zero, truths false.
pub(super) fn filled(field: &Field, value: Value) -> Value {
    match field.kind {
        Kind::Integer if value.is_null() => Value::Int(0),
        Kind::Float | Kind::Monetary if value.is_null() => Value::Decimal(Decimal::new(0, 1)),
        Kind::Boolean if value.is_null() => Value::Bool(false),
        _ => value,
    }
}

impl View<'_> {
    /// Returns a field as callers see it.
    pub(super) fn shown(&self, model: &Model, id: i64, field: &Field, classic: bool) -> Value {
        let value = filled(field, self.value(model, id, field));
        match (&value, field.kind) {
            (Value::Null, kind) if kind.is_many() => Value::list(Vec::new()),
            (Value::Null, _) => Value::Bool(false),
            // Fractions of seconds are kept and never shown.
            (Value::String(text), Kind::DateTime) => Value::from(text.get(..19).unwrap_or(text)),
            (Value::Int(target), Kind::Many2one) if classic => {
                let target = i64::try_from(*target).unwrap_or_default();
                let name = field.relation.as_deref().and_then(|name| self.schema.model(name));
                let name = name.map(|model| self.name(model, target)).unwrap_or_default();
                Value::list(vec![Value::from(target), Value::from(name)])
            }
            _ => value,
        }
    }
}
