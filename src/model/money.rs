//! Money: an exact amount and its currency.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;

/// An ISO 4217 code, three capital letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// An exact amount of one currency. Amounts of two currencies neither add nor compare.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    pub amount: Decimal,
    pub currency: Currency,
}

/// Why a text is not money.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected an amount and a currency such as `12.50 USD`, found `{0}`")]
pub struct ParseMoneyError(String);

impl Currency {
    /// Returns the three letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("from_str() accepts ASCII letters only")
    }
}

impl FromStr for Currency {
    type Err = ParseMoneyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.as_bytes() {
            &[first, second, third] if text.bytes().all(|byte| byte.is_ascii_uppercase()) => {
                Ok(Self([first, second, third]))
            }
            _ => Err(ParseMoneyError(text.to_owned())),
        }
    }
}

impl FromStr for Money {
    type Err = ParseMoneyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseMoneyError(text.to_owned());
        let (amount, currency) = text.trim().split_once(' ').ok_or_else(wrong)?;
        let amount = Decimal::from_str_exact(amount).map_err(|_| wrong())?;
        let currency = currency.trim().parse().map_err(|_| wrong())?;
        Ok(Self { amount, currency })
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Display for Money {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.amount, self.currency)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl serde::Serialize for Money {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Money {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Money {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Money".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "pipewright-money",
            "description": "An exact amount and its currency, e.g. `12.50 USD`.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_keeps_its_digits() {
        assert_eq!("12.50 USD".parse::<Money>().unwrap().to_string(), "12.50 USD");
    }

    #[test]
    fn what_is_not_money_is_refused() {
        for text in ["12.50", "USD", "12.50 usd", "12.50 DOLLARS", "a USD", "", " "] {
            assert!(text.parse::<Money>().is_err(), "{text}");
        }
    }
}
