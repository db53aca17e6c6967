//! Filters over numbers and money.

use minijinja::Environment;
use minijinja::Error;
use minijinja::State;
use minijinja::value::Rest;
use rust_decimal::Decimal;
use rust_decimal::RoundingStrategy;
use rust_decimal::prelude::ToPrimitive;

use super::super::budget;
use super::super::budget::plain_text;
use super::super::operators::MAX_LIST;
use super::super::operators::bare;
use super::super::operators::invalid;
use super::super::operators::ours;
use super::super::value::to_jinja;
use super::call::Arguments;
use super::call::filter;
use crate::model;
use crate::model::Money;
use crate::model::Value;

pub(super) fn register(environment: &mut Environment<'static>) {
    filter(environment, "abs", 0, |value, _| match model::compare(&value, &zero_like(&value)) {
        Ok(std::cmp::Ordering::Less) => model::negate(&value).map_err(|error| invalid(error.to_string())),
        Ok(_) => Ok(value),
        Err(error) => Err(invalid(error.to_string())),
    });
    filter(environment, "round", 2, round);
    filter(environment, "int", 0, |value, _| whole(&value));
    filter(environment, "float", 0, |value, _| match &value {
        Value::Float(_) => Ok(value),
        other => {
            let text = plain_text(other)?;
            text.trim().parse().map(Value::Float).map_err(|_| invalid(format!("{other} is not a number")))
        }
    });
    filter(environment, "decimal", 0, |value, _| match &value {
        Value::Int(_) | Value::Decimal(_) => Ok(value),
        Value::Money(money) => Ok(Value::Decimal(money.amount)),
        Value::String(text) => {
            model::parse_number(text.trim()).ok_or_else(|| invalid(format!("{value} is not a number")))
        }
        // The shortest decimal that reads back as the same float.
        Value::Float(float) => {
            model::parse_number(&float.to_string()).ok_or_else(|| invalid(format!("{value} is not a number")))
        }
        other => Err(invalid(format!("{} is not a number", other.kind().name()))),
    });
    filter(environment, "money", 1, money);
    filter(environment, "amount", 0, |value, _| match value {
        Value::Money(money) => Ok(Value::Decimal(money.amount)),
        other => Err(invalid(format!("expected money, found {}", other.kind().name()))),
    });
    filter(environment, "currency", 0, |value, _| match value {
        Value::Money(money) => Ok(Value::from(money.currency.as_str())),
        other => Err(invalid(format!("expected money, found {}", other.kind().name()))),
    });
    environment.add_function("range", range);
}

/// Returns the zero that a value compares with.
fn zero_like(value: &Value) -> Value {
    match value {
        Value::Money(money) => Value::Money(Money { amount: Decimal::ZERO, currency: money.currency }),
        Value::Float(_) => Value::Float(0.0),
        _ => Value::Int(0),
    }
}

fn round(value: Value, arguments: &Arguments) -> Result<Value, Error> {
    let places = arguments.count(0, "places")?.unwrap_or(0);
    let mode = arguments.text(1, "mode")?;
    let strategy = match mode.as_deref().unwrap_or("half_even") {
        "half_even" => RoundingStrategy::MidpointNearestEven,
        "half_up" | "common" => RoundingStrategy::MidpointAwayFromZero,
        "up" => RoundingStrategy::AwayFromZero,
        "down" => RoundingStrategy::ToZero,
        "floor" => RoundingStrategy::ToNegativeInfinity,
        "ceil" => RoundingStrategy::ToPositiveInfinity,
        other => return Err(invalid(format!("no rounding `{other}`: half_even, half_up, up, down, floor, ceil"))),
    };
    let places = u32::try_from(places).ok().filter(|places| *places <= 28);
    let places = places.ok_or_else(|| invalid("at most 28 decimal places"))?;
    let rounded = |decimal: Decimal| {
        let mut rounded = decimal.round_dp_with_strategy(places, strategy);
        rounded.rescale(places);
        rounded
    };
    match value {
        Value::Int(_) => Ok(value),
        Value::Decimal(decimal) => Ok(Value::Decimal(rounded(decimal))),
        Value::Money(money) => Ok(Value::Money(Money { amount: rounded(money.amount), ..money })),
        Value::Float(float) => {
            let factor = 10_f64.powi(i32::try_from(places).unwrap_or(28));
            Ok(Value::Float((float * factor).round_ties_even() / factor))
        }
        other => Err(invalid(format!("cannot round {}", other.kind().name()))),
    }
}

fn whole(value: &Value) -> Result<Value, Error> {
    let cut = |decimal: Decimal| decimal.trunc().to_i128().map(Value::Int).ok_or_else(|| invalid("too large"));
    match value {
        Value::Int(_) => Ok(value.clone()),
        Value::Bool(flag) => Ok(Value::Int(i128::from(*flag))),
        Value::Decimal(decimal) => cut(*decimal),
        Value::Float(float) => {
            let decimal = Decimal::try_from(float.trunc()).map_err(|_| invalid("too large"))?;
            cut(decimal)
        }
        Value::String(text) => match model::parse_number(&without_zeros(text.trim())) {
            Some(number @ (Value::Int(_) | Value::Decimal(_))) => whole(&number),
            _ => Err(invalid(format!("{value} is not a number"))),
        },
        other => Err(invalid(format!("{} is not a number", other.kind().name()))),
    }
}

/// Leaves out the zeros that fill a number up, as in the hour `08`.
fn without_zeros(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let bare = digits.trim_start_matches('0');
    let zero =
        if bare.starts_with(|first: char| first.is_ascii_digit()) || bare.len() == digits.len() { "" } else { "0" };
    format!("{sign}{zero}{bare}")
}

fn money(value: Value, arguments: &Arguments) -> Result<Value, Error> {
    let currency = arguments.text(0, "currency")?;
    let text = match (&value, &currency) {
        (Value::Money(_), None) => return Ok(value),
        (Value::String(text), None) => text.to_string(),
        (Value::Int(_) | Value::Decimal(_) | Value::String(_), Some(currency)) => {
            format!("{} {currency}", value.to_text())
        }
        (_, None) => return Err(invalid("name the currency: `money('USD')`")),
        (other, Some(_)) => return Err(invalid(format!("{} is not an amount", other.kind().name()))),
    };
    text.parse().map(Value::Money).map_err(|error: <Money as std::str::FromStr>::Err| invalid(error.to_string()))
}

#[expect(clippy::needless_pass_by_value, reason = "the engine calls functions so")]
fn range(state: &State<'_, '_>, arguments: Rest<minijinja::Value>) -> Result<minijinja::Value, Error> {
    let mut numbers = Vec::new();
    let mut is_secret = false;
    for argument in arguments.iter() {
        let argument = ours(argument)?;
        is_secret |= matches!(argument, Value::Secret(_));
        match bare(&argument) {
            Value::Int(number) => numbers.push(*number),
            other => return Err(invalid(format!("`range` takes whole numbers, found {}", other.kind().name()))),
        }
    }
    let (start, end, step) = match numbers.as_slice() {
        [end] => (0, *end, 1),
        [start, end] => (*start, *end, 1),
        [start, end, step] if *step != 0 => (*start, *end, *step),
        _ => return Err(invalid("`range` takes an end, or a start, an end and a step that is not 0")),
    };
    let mut items = Vec::new();
    let mut number = start;
    while (step > 0 && number < end) || (step < 0 && number > end) {
        if items.len() >= MAX_LIST {
            return Err(invalid(format!("a range of more than {MAX_LIST} numbers")));
        }
        if items.len().is_multiple_of(64) {
            budget::spend(state, 64)?;
        }
        items.push(Value::Int(number));
        number = number.checked_add(step).ok_or_else(|| invalid("the range does not fit"))?;
    }
    let items = Value::list(items);
    Ok(to_jinja(&if is_secret { items.tainted() } else { items }))
}
