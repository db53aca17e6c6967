//! What a call of a model costs, by a row of a price table.

use minijinja::Environment;
use minijinja::Error;
use rust_decimal::Decimal;

use super::super::operators::invalid;
use super::call::Arguments;
use super::call::filter;
use crate::model::Map;
use crate::model::Value;
use crate::model::parse_number;

/// How many bytes of a text make a token, about; a little less than most languages have, so that a guess is not short.
const BYTES_A_TOKEN: usize = 3;
/// Prices are for so many tokens.
const MILLION: i64 = 1_000_000;
/// The row of all models that have none of their own.
const ANY: &str = "*";

pub(super) fn register(environment: &mut Environment<'static>) {
    filter(environment, "price", 1, |value, arguments| price(&value, arguments));
    filter(environment, "row_of", 2, |value, arguments| {
        let (Value::Map(rows), Some(model)) = (&value, arguments.get(0, "model")?) else { return Ok(Value::Null) };
        let any = arguments.get(1, "any")?.is_none_or(|any| any.is_truthy());
        let found = row_of(rows, &model.to_text()).filter(|(name, _)| any || *name != ANY);
        Ok(found.map(|(_, row)| row.clone()).unwrap_or_default())
    });
    filter(environment, "estimate_tokens", 0, |value, _| Ok(Value::Int(estimate_tokens(&value))));
}

/// Estimates the tokens of all texts in a value, rather too many than too few.
#[must_use]
pub fn estimate_tokens(value: &Value) -> i128 {
    let mut bytes = 0;
    count(value, &mut bytes);
    i128::try_from(bytes.div_ceil(BYTES_A_TOKEN)).unwrap_or(i128::MAX)
}

/// Counts the bytes of all texts in a value; a message costs a few tokens beside its text.
fn count(value: &Value, bytes: &mut usize) {
    match value {
        Value::String(text) => *bytes += text.len(),
        Value::List(items) => items.iter().for_each(|item| count(item, bytes)),
        Value::Map(map) => {
            *bytes += 4 * BYTES_A_TOKEN;
            map.values().for_each(|item| count(item, bytes));
        }
        Value::Blob(_) => *bytes += 1_000 * BYTES_A_TOKEN,
        Value::Secret(inner) => count(inner, bytes),
        Value::Null => {}
        _ => *bytes += 4,
    }
}

/// Finds the row of a model among rows by model: its own; else, where the provider names models by their day, that of
/// its family; else the one of all.
#[must_use]
pub fn row_of<'r>(rows: &'r Map, model: &str) -> Option<(&'r str, &'r Value)> {
    let get = |name: &str| rows.get_key_value(name).map(|(name, row)| (&**name, row));
    let family = || {
        let found = undated(model).and_then(get);
        found.filter(|(_, row)| row.get("dated").and_then(Value::as_bool) == Some(true))
    };
    get(model).or_else(family).or_else(|| get(ANY))
}

/// Returns a model's name without the day at its end, `-20261001` or `-2026-10-01`.
fn undated(model: &str) -> Option<&str> {
    let is_day = |day: &str| day.len() == 8 && day.bytes().all(|byte| byte.is_ascii_digit()) && day.starts_with("20");
    let (before, last) = model.rsplit_once('-')?;
    if is_day(last) {
        return Some(before);
    }
    let (at, _) = model.rmatch_indices('-').nth(2)?;
    let (family, day) = (model.get(..at)?, model.get(at + 1..)?);
    (day.len() == 10 && is_day(&day.replace('-', ""))).then_some(family)
}

/// Returns the price of so many tokens; null where the table does not know it: unknown is not nothing.
fn price(row: &Value, arguments: &Arguments) -> Result<Value, Error> {
    let Value::Map(row) = row else { return Ok(Value::Null) };
    let usage = arguments.get(0, "usage")?.unwrap_or_default();
    let (tokens_in, tokens_out) = (arguments.get(usize::MAX, "tokens_in")?, arguments.get(usize::MAX, "tokens_out")?);
    let usage = match (tokens_in, tokens_out) {
        (None, None) if usage.is_null() => return Ok(Value::Null),
        (None, None) => usage,
        (input, output) => Value::map([("input", input.unwrap_or_default()), ("output", output.unwrap_or_default())]),
    };
    match price_of(row, &usage) {
        Ok(price) => Ok(price.map(Value::Decimal).unwrap_or_default()),
        Err(OutOfRange) => Err(invalid("the price is out of range")),
    }
}

/// A price that no number holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the price is out of range")]
pub struct OutOfRange;

/// Returns what a usage costs by a row of prices for a million tokens; nothing where the row does not say it.
///
/// # Errors
/// A price that no number holds.
pub fn price_of(row: &Map, usage: &Value) -> Result<Option<Decimal>, OutOfRange> {
    let of_usage = |key: &str| usage.get(key).and_then(number).unwrap_or_default();
    let (total, output) = (of_usage("input"), of_usage("output"));
    let (cached, written, hour) = (of_usage("cached"), of_usage("cache_write"), of_usage("cache_write_1h"));
    let above = row.get("above").and_then(Value::as_map);
    let above = above.filter(|above| above.get("tokens").and_then(number).is_some_and(|limit| total > limit));
    // A long question has prices of its own for all of it.
    let of = |key: &str| above.and_then(|above| above.get(key)).or_else(|| row.get(key)).and_then(number);
    let (Some(input_price), output_price) = (of("in"), of("out")) else { return Ok(None) };
    // What embeds says nothing, and has no price for it.
    let output_price = match output_price {
        Some(price) => price,
        None if output.is_zero() => Decimal::ZERO,
        None => return Ok(None),
    };
    let unknown = |tokens: Decimal, key: &str| row.get(key).is_some_and(Value::is_null) && !tokens.is_zero();
    if unknown(cached, "cache_read") || unknown(written, "cache_write") {
        return Ok(None);
    }
    let cache_read = of("cache_read").unwrap_or(input_price);
    let cache_write = of("cache_write").unwrap_or(input_price);
    let cache_hour = of("cache_write_1h").unwrap_or(cache_write);
    // What came from the cache, or went into it, is counted within the input and has its own price.
    let fresh = (total - cached - written).max(Decimal::ZERO);
    let minutes = (written - hour).max(Decimal::ZERO);
    let parts = [
        (fresh, input_price),
        (cached, cache_read),
        (minutes, cache_write),
        (hour, cache_hour),
        (output, output_price),
    ];
    let mut sum = Decimal::ZERO;
    for (tokens, price) in parts {
        let part = tokens.checked_mul(price).and_then(|product| product.checked_div(Decimal::from(MILLION)));
        sum = part.and_then(|part| sum.checked_add(part)).ok_or(OutOfRange)?;
    }
    Ok(Some(sum.normalize()))
}

fn number(value: &Value) -> Option<Decimal> {
    match value {
        Value::Int(number) => Decimal::try_from_i128_with_scale(*number, 0).ok(),
        Value::Decimal(number) => Some(*number),
        Value::String(text) => match parse_number(text.trim())? {
            Value::Int(number) => Decimal::try_from_i128_with_scale(number, 0).ok(),
            Value::Decimal(number) => Some(number),
            _ => None,
        },
        _ => None,
    }
}
