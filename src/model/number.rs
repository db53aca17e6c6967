//! Exact arithmetic and comparison on values.

use std::cmp::Ordering;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::Money;
use super::Timestamp;
use super::Value;

/// Why two values do not calculate or compare.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum NumberError {
    #[error("cannot {verb} {left} and {right}")]
    Kinds { verb: &'static str, left: &'static str, right: &'static str },
    #[error("cannot {verb} {left} and {right}: two currencies")]
    Currencies { verb: &'static str, left: String, right: String },
    #[error("a float does not mix with {0}: take `| float` away, or make both floats")]
    Float(&'static str),
    #[error("`{0}` has more than 28 digits: it is carried as it is and cannot be calculated with")]
    TooLong(String),
    #[error("the result does not fit: integers hold 38 digits, decimals 28")]
    Overflow,
    #[error("division by zero")]
    DivisionByZero,
}

/// Reads a JSON number without losing a digit.
#[must_use]
pub fn parse_number(text: &str) -> Option<Value> {
    if !is_json_number(text) {
        return None;
    }
    if !text.contains(['.', 'e', 'E']) {
        if let Ok(integer) = text.parse::<i128>() {
            return Some(Value::Int(integer));
        }
        return Some(Value::Number(text.into()));
    }
    let decimal = if text.contains(['e', 'E']) {
        // Only a number that comes out with the digits that went in: rust_decimal rounds what it cannot hold.
        exact_scientific(text)
    } else {
        Decimal::from_str_exact(text).ok()
    };
    Some(decimal.map_or_else(|| Value::Number(text.into()), Value::Decimal))
}

fn is_json_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(unsigned);
    if whole == 0 || (whole > 1 && unsigned.starts_with('0')) {
        return false;
    }
    let (_, mut rest) = unsigned.split_at(whole);
    if let Some(fraction) = rest.strip_prefix('.') {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = fraction.split_at(count).1;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let count = digits(exponent);
        if count == 0 {
            return false;
        }
        rest = exponent.split_at(count).1;
    }
    rest.is_empty()
}

fn exact_scientific(text: &str) -> Option<Decimal> {
    let (mantissa, exponent) = text.split_once(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let mut decimal = Decimal::from_str_exact(mantissa).ok()?.normalize();
    let scale = i32::try_from(decimal.scale()).ok()?.checked_sub(exponent)?;
    if (0..=28).contains(&scale) {
        decimal.set_scale(u32::try_from(scale).ok()?).ok()?;
        return Some(decimal);
    }
    if !(-28..0).contains(&scale) {
        return None;
    }
    decimal.set_scale(0).ok()?;
    for _ in scale..0 {
        decimal = decimal.checked_mul(Decimal::TEN)?;
    }
    Some(decimal)
}

/// Two numbers brought to one kind.
enum Pair {
    Ints(i128, i128),
    Decimals(Decimal, Decimal),
    Floats(f64, f64),
}

fn pair(verb: &'static str, left: &Value, right: &Value) -> Result<Pair, NumberError> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => Ok(Pair::Ints(*left, *right)),
        (Value::Float(left), Value::Float(right)) => Ok(Pair::Floats(*left, *right)),
        // An integer is not a fraction that could have been rounded: where a float exists on purpose, it joins it.
        (Value::Float(left), Value::Int(right)) => Ok(Pair::Floats(*left, int_to_float(*right))),
        (Value::Int(left), Value::Float(right)) => Ok(Pair::Floats(int_to_float(*left), *right)),
        (Value::Float(_), other) | (other, Value::Float(_))
            if matches!(other, Value::Decimal(_) | Value::Money(_) | Value::Number(_)) =>
        {
            Err(NumberError::Float(if matches!(other, Value::Money(_)) { "money" } else { "decimals" }))
        }
        (Value::Number(text), _) | (_, Value::Number(text)) => Err(NumberError::TooLong(text.to_string())),
        (Value::Int(_) | Value::Decimal(_), Value::Int(_) | Value::Decimal(_)) => {
            Ok(Pair::Decimals(to_decimal(left)?, to_decimal(right)?))
        }
        _ => Err(kinds(verb, left, right)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "the author asked for a binary float")]
fn int_to_float(value: i128) -> f64 {
    value as f64
}

fn to_decimal(value: &Value) -> Result<Decimal, NumberError> {
    match value {
        Value::Decimal(decimal) => Ok(*decimal),
        Value::Int(integer) => Decimal::try_from_i128_with_scale(*integer, 0).map_err(|_| NumberError::Overflow),
        _ => Err(NumberError::Overflow),
    }
}

fn kinds(verb: &'static str, left: &Value, right: &Value) -> NumberError {
    NumberError::Kinds { verb, left: left.kind().name(), right: right.kind().name() }
}

/// Applies an operation to open values and marks the result secret if a part of it was.
fn with_taint(
    left: &Value,
    right: &Value,
    operate: impl FnOnce(&Value, &Value) -> Result<Value, NumberError>,
) -> Result<Value, NumberError> {
    if matches!(left, Value::Secret(_)) || matches!(right, Value::Secret(_)) {
        return operate(&left.revealed(), &right.revealed()).map(Value::tainted);
    }
    operate(left, right)
}

fn same_currency(verb: &'static str, left: &Money, right: &Money) -> Result<(), NumberError> {
    if left.currency == right.currency {
        return Ok(());
    }
    Err(NumberError::Currencies { verb, left: left.currency.to_string(), right: right.currency.to_string() })
}

/// Adds numbers, money of one currency, a moment and a duration, two strings or two lists.
pub fn add(left: &Value, right: &Value) -> Result<Value, NumberError> {
    with_taint(left, right, |left, right| match (left, right) {
        (Value::Money(a), Value::Money(b)) => {
            same_currency("add", a, b)?;
            let amount = a.amount.checked_add(b.amount).ok_or(NumberError::Overflow)?;
            Ok(Value::Money(Money { amount, currency: a.currency }))
        }
        (Value::Time(time), Value::Duration(length)) | (Value::Duration(length), Value::Time(time)) => {
            Ok(Value::Time(time.plus(*length)))
        }
        (Value::Duration(a), Value::Duration(b)) => Ok(Value::Duration(a.plus(*b))),
        (Value::String(a), Value::String(b)) => Ok(Value::from(format!("{a}{b}"))),
        (Value::List(a), Value::List(b)) => Ok(Value::list(a.iter().chain(b.iter()).cloned().collect())),
        _ => match pair("add", left, right)? {
            Pair::Ints(a, b) => a.checked_add(b).map(Value::Int).ok_or(NumberError::Overflow),
            Pair::Decimals(a, b) => a.checked_add(b).map(Value::Decimal).ok_or(NumberError::Overflow),
            Pair::Floats(a, b) => Ok(Value::Float(a + b)),
        },
    })
}

/// Subtracts numbers, money of one currency, moments (giving a duration), or a duration from a moment.
pub fn subtract(left: &Value, right: &Value) -> Result<Value, NumberError> {
    with_taint(left, right, |left, right| match (left, right) {
        (Value::Money(a), Value::Money(b)) => {
            same_currency("subtract", a, b)?;
            let amount = a.amount.checked_sub(b.amount).ok_or(NumberError::Overflow)?;
            Ok(Value::Money(Money { amount, currency: a.currency }))
        }
        (Value::Time(a), Value::Time(b)) if a >= b => Ok(Value::Duration(a.since(*b))),
        (Value::Time(_), Value::Time(_)) => Err(NumberError::Overflow),
        (Value::Time(time), Value::Duration(length)) => {
            let micros = i64::try_from(length.micros()).map_err(|_| NumberError::Overflow)?;
            time.micros().checked_sub(micros).map(|micros| Value::Time(Timestamp(micros))).ok_or(NumberError::Overflow)
        }
        _ => match pair("subtract", left, right)? {
            Pair::Ints(a, b) => a.checked_sub(b).map(Value::Int).ok_or(NumberError::Overflow),
            Pair::Decimals(a, b) => a.checked_sub(b).map(Value::Decimal).ok_or(NumberError::Overflow),
            Pair::Floats(a, b) => Ok(Value::Float(a - b)),
        },
    })
}

/// Multiplies numbers, or money by a number.
///
/// # Errors
/// A product that would need more than 28 digits is an error, never a rounding.
pub fn multiply(left: &Value, right: &Value) -> Result<Value, NumberError> {
    with_taint(left, right, |left, right| match (left, right) {
        (Value::Money(money), factor @ (Value::Int(_) | Value::Decimal(_)))
        | (factor @ (Value::Int(_) | Value::Decimal(_)), Value::Money(money)) => {
            let amount = exact_product(money.amount, to_decimal(factor)?)?;
            Ok(Value::Money(Money { amount, currency: money.currency }))
        }
        (Value::Duration(length), Value::Int(count)) | (Value::Int(count), Value::Duration(length)) => {
            u64::try_from(*count).map(|count| Value::Duration(length.times(count))).map_err(|_| NumberError::Overflow)
        }
        _ => match pair("multiply", left, right)? {
            Pair::Ints(a, b) => a.checked_mul(b).map(Value::Int).ok_or(NumberError::Overflow),
            Pair::Decimals(a, b) => exact_product(a, b).map(Value::Decimal),
            Pair::Floats(a, b) => Ok(Value::Float(a * b)),
        },
    })
}

/// Multiplies without rounding. rust_decimal rounds a product whose scale passes 28 or whose digits pass 96 bits;
/// trailing zeros are taken away first, then such a product is refused.
pub fn exact_product(left: Decimal, right: Decimal) -> Result<Decimal, NumberError> {
    let exact = |left: Decimal, right: Decimal| {
        let mantissa = left.mantissa().checked_mul(right.mantissa())?;
        Decimal::try_from_i128_with_scale(mantissa, left.scale() + right.scale()).ok()
    };
    exact(left, right).or_else(|| exact(left.normalize(), right.normalize())).ok_or(NumberError::Overflow)
}

/// Adds without rounding. rust_decimal drops digits of a sum that needs more than 96 bits; such a sum is refused.
pub fn exact_sum(left: Decimal, right: Decimal) -> Result<Decimal, NumberError> {
    let exact = |left: Decimal, right: Decimal| {
        let scale = left.scale().max(right.scale());
        let scaled = |value: Decimal| value.mantissa().checked_mul(10_i128.checked_pow(scale - value.scale())?);
        Decimal::try_from_i128_with_scale(scaled(left)?.checked_add(scaled(right)?)?, scale).ok()
    };
    exact(left, right).or_else(|| exact(left.normalize(), right.normalize())).ok_or(NumberError::Overflow)
}

/// Divides numbers, money by a number, or money by money of the same currency (giving a ratio). The quotient has up to
/// 28 digits; round it to say how many are meant.
pub fn divide(left: &Value, right: &Value) -> Result<Value, NumberError> {
    let quotient = |a: Decimal, b: Decimal| {
        if b.is_zero() { Err(NumberError::DivisionByZero) } else { a.checked_div(b).ok_or(NumberError::Overflow) }
    };
    with_taint(left, right, |left, right| match (left, right) {
        (Value::Money(a), Value::Money(b)) => {
            same_currency("divide", a, b)?;
            quotient(a.amount, b.amount).map(Value::Decimal)
        }
        (Value::Money(money), Value::Int(_) | Value::Decimal(_)) => {
            let amount = quotient(money.amount, to_decimal(right)?)?;
            Ok(Value::Money(Money { amount, currency: money.currency }))
        }
        _ => match pair("divide", left, right)? {
            Pair::Ints(a, b) if b != 0 && a.checked_rem(b) == Some(0) => {
                a.checked_div(b).map(Value::Int).ok_or(NumberError::Overflow)
            }
            Pair::Ints(..) => quotient(to_decimal(left)?, to_decimal(right)?).map(Value::Decimal),
            Pair::Decimals(a, b) => quotient(a, b).map(Value::Decimal),
            Pair::Floats(a, b) => Ok(Value::Float(a / b)),
        },
    })
}

/// Divides and rounds down (towards minus infinity), as `//` in Jinja and Python.
pub fn floor_divide(left: &Value, right: &Value) -> Result<Value, NumberError> {
    with_taint(left, right, |left, right| match pair("divide", left, right)? {
        Pair::Ints(_, 0) => Err(NumberError::DivisionByZero),
        Pair::Ints(a, b) => {
            let quotient = a.checked_div(b).ok_or(NumberError::Overflow)?;
            let inexact = a % b != 0 && ((a < 0) != (b < 0));
            Ok(Value::Int(quotient - i128::from(inexact)))
        }
        Pair::Decimals(_, b) if b.is_zero() => Err(NumberError::DivisionByZero),
        Pair::Decimals(a, b) => {
            a.checked_div(b).map(|quotient| Value::Decimal(quotient.floor())).ok_or(NumberError::Overflow)
        }
        Pair::Floats(a, b) => Ok(Value::Float((a / b).floor())),
    })
}

/// Returns the remainder that belongs to `floor_divide`: its sign is the divisor's, as `%` in Jinja and Python.
pub fn remainder(left: &Value, right: &Value) -> Result<Value, NumberError> {
    with_taint(left, right, |left, right| match pair("divide", left, right)? {
        Pair::Ints(_, 0) => Err(NumberError::DivisionByZero),
        Pair::Ints(a, b) => {
            let rest = a.checked_rem(b).ok_or(NumberError::Overflow)?;
            Ok(Value::Int(if rest != 0 && ((rest < 0) != (b < 0)) { rest + b } else { rest }))
        }
        Pair::Decimals(_, b) if b.is_zero() => Err(NumberError::DivisionByZero),
        Pair::Decimals(a, b) => {
            let rest = a.checked_rem(b).ok_or(NumberError::Overflow)?;
            let differs = !rest.is_zero() && rest.is_sign_negative() != b.is_sign_negative();
            let rest = if differs { rest.checked_add(b).ok_or(NumberError::Overflow)? } else { rest };
            Ok(Value::Decimal(rest))
        }
        Pair::Floats(a, b) => Ok(Value::Float(a.rem_euclid(b))),
    })
}

/// Returns the number or money with its sign turned.
pub fn negate(value: &Value) -> Result<Value, NumberError> {
    match value {
        Value::Int(integer) => integer.checked_neg().map(Value::Int).ok_or(NumberError::Overflow),
        Value::Decimal(decimal) => Ok(Value::Decimal(-*decimal)),
        Value::Float(float) => Ok(Value::Float(-*float)),
        Value::Money(money) => Ok(Value::Money(Money { amount: -money.amount, currency: money.currency })),
        Value::Number(text) => Err(NumberError::TooLong(text.to_string())),
        Value::Secret(inner) => negate(inner).map(Value::tainted),
        other => Err(kinds("negate", other, other)),
    }
}

/// Compares numbers, money of one currency, strings, moments, durations, booleans, or lists of these.
pub fn compare(left: &Value, right: &Value) -> Result<Ordering, NumberError> {
    match (left, right) {
        (Value::Secret(inner), other) => compare(inner, other),
        (other, Value::Secret(inner)) => compare(other, inner),
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(b)),
        (Value::Time(a), Value::Time(b)) => Ok(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Ok(a.cmp(b)),
        (Value::Null, Value::Null) => Ok(Ordering::Equal),
        (Value::Money(a), Value::Money(b)) => {
            same_currency("compare", a, b)?;
            Ok(a.amount.cmp(&b.amount))
        }
        (Value::List(a), Value::List(b)) => {
            for (left, right) in a.iter().zip(b.iter()) {
                let order = compare(left, right)?;
                if order != Ordering::Equal {
                    return Ok(order);
                }
            }
            Ok(a.len().cmp(&b.len()))
        }
        // A decimal cannot hold every i128; an integer beyond its range is larger in size than any decimal.
        (Value::Int(integer), Value::Decimal(decimal)) => Ok(compare_mixed(*integer, *decimal)),
        (Value::Decimal(decimal), Value::Int(integer)) => Ok(compare_mixed(*integer, *decimal).reverse()),
        _ => match pair("compare", left, right)? {
            Pair::Ints(a, b) => Ok(a.cmp(&b)),
            Pair::Decimals(a, b) => Ok(a.cmp(&b)),
            Pair::Floats(a, b) => a.partial_cmp(&b).ok_or_else(|| kinds("compare", left, right)),
        },
    }
}

fn compare_mixed(integer: i128, decimal: Decimal) -> Ordering {
    match Decimal::try_from_i128_with_scale(integer, 0) {
        Ok(exact) => exact.cmp(&decimal),
        Err(_) => integer.cmp(&decimal.trunc().to_i128().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Value {
        parse_number(text).unwrap()
    }

    #[test]
    fn numbers_keep_every_digit() {
        for text in ["0", "-7", "1.10", "9007199254740993", "1234567890123456789", "12345678901234567890.123456789"] {
            assert_eq!(number(text).to_string(), text);
        }
        let long = "123456789012345678901234567890123456789012345678901234567890.5";
        assert_eq!(number(long).to_string(), long);
        assert!(matches!(number(long), Value::Number(_)));
        assert_eq!(number("1.5e-7").to_string(), "0.00000015");
        assert_eq!(number("15e2").to_string(), "1500");
        assert_eq!(number("1e400").to_string(), "1e400");
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        for text in ["", "-", "01", "1.", ".5", "1e", "0x10", "1_000", "NaN", "+1", " 1"] {
            assert!(parse_number(text).is_none(), "{text}");
        }
    }

    #[test]
    fn arithmetic_is_exact() {
        assert_eq!(add(&number("0.1"), &number("0.2")).unwrap(), number("0.3"));
        assert_eq!(multiply(&number("19.99"), &number("3")).unwrap().to_string(), "59.97");
        assert_eq!(divide(&number("6"), &number("3")).unwrap().to_string(), "2");
        assert_eq!(divide(&number("1"), &number("8")).unwrap().to_string(), "0.125");
        assert_eq!(floor_divide(&number("-7"), &number("2")).unwrap(), number("-4"));
        assert_eq!(remainder(&number("-7"), &number("2")).unwrap(), number("1"));
        assert_eq!(divide(&number("1"), &number("0")), Err(NumberError::DivisionByZero));
        let tiny = number("0.0000000000000000000000000001");
        assert_eq!(multiply(&tiny, &tiny), Err(NumberError::Overflow));
    }

    #[test]
    fn money_of_two_currencies_does_not_mix() {
        let dollars = Value::Money("1.50 USD".parse().unwrap());
        let euros = Value::Money("1.50 EUR".parse().unwrap());
        assert!(matches!(add(&dollars, &euros), Err(NumberError::Currencies { .. })));
        assert!(matches!(compare(&dollars, &euros), Err(NumberError::Currencies { .. })));
        assert_eq!(multiply(&dollars, &number("3")).unwrap().to_string(), "\"4.50 USD\"");
        assert!(matches!(multiply(&dollars, &Value::Float(0.5)), Err(NumberError::Float(_))));
    }

    #[test]
    fn what_touches_a_secret_is_secret() {
        let sum = add(&number("1").tainted(), &number("2")).unwrap();
        assert!(sum.is_tainted());
        assert_eq!(sum.revealed(), number("3"));
    }
}
