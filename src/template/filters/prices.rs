//! What a call of a model costs, by a row of a price table.

use minijinja::Environment;
use minijinja::Error;
use rust_decimal::Decimal;

use super::super::operators::invalid;
use super::call::Arguments;
use super::call::filter;
use crate::model::Value;
use crate::model::parse_number;

/// How many bytes of a text make a token, about; a little less than most languages have, so that a guess is not short.
const BYTES_A_TOKEN: usize = 3;
/// Prices are for so many tokens.
const MILLION: i64 = 1_000_000;

pub(super) fn register(environment: &mut Environment<'static>) {
    filter(environment, "price", 1, |value, arguments| price(&value, arguments));
    filter(environment, "estimate_tokens", 0, |value, _| {
        let mut bytes = 0;
        count(&value, &mut bytes);
        Ok(Value::Int(i128::try_from(bytes.div_ceil(BYTES_A_TOKEN)).unwrap_or(i128::MAX)))
    });
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
        _ => *bytes += 4,
    }
}

/// Returns the price of so many tokens; null where the table does not know it: unknown is not nothing.
fn price(row: &Value, arguments: &Arguments) -> Result<Value, Error> {
    let Value::Map(row) = row else { return Ok(Value::Null) };
    let usage = arguments.get(0, "usage")?.unwrap_or_default();
    let of_usage = |key: &str| usage.get(key).and_then(number).unwrap_or_default();
    let (mut fresh, output) = match (arguments.get(usize::MAX, "tokens_in")?, arguments.get(usize::MAX, "tokens_out")?)
    {
        (None, None) if usage.is_null() => return Ok(Value::Null),
        (None, None) => (of_usage("input"), of_usage("output")),
        (input, output) => {
            (input.as_ref().and_then(number).unwrap_or_default(), output.as_ref().and_then(number).unwrap_or_default())
        }
    };
    let (cached, written) = (of_usage("cached_input"), of_usage("cache_write"));
    let total = fresh;
    // What came from the cache is counted within the input, and costs its own price.
    fresh -= cached + written;
    let mut prices = row.clone();
    if let Some(above) = row.get("above").and_then(Value::as_map) {
        let limit = above.get("tokens").and_then(number).unwrap_or(Decimal::MAX);
        if total > limit {
            let map = std::sync::Arc::make_mut(&mut prices);
            map.extend(above.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
    }
    let of = |key: &str| prices.get(key).and_then(number);
    let (Some(input_price), Some(output_price)) = (of("in"), of("out")) else { return Ok(Value::Null) };
    let cache_read = of("cache_read").unwrap_or(input_price);
    let cache_write = of("cache_write_5m").or_else(|| of("cache_write")).unwrap_or(input_price);
    let parts =
        [(fresh.max(Decimal::ZERO), input_price), (cached, cache_read), (written, cache_write), (output, output_price)];
    let mut sum = Decimal::ZERO;
    for (tokens, price) in parts {
        let part = tokens.checked_mul(price).and_then(|product| product.checked_div(Decimal::from(MILLION)));
        sum = part.and_then(|part| sum.checked_add(part)).ok_or_else(|| invalid("the price is out of range"))?;
    }
    Ok(Value::Decimal(sum.normalize()))
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
