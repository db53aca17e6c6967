//! Values into typed structs, through serde.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::DeserializeOwned;
use serde::de::DeserializeSeed;
use serde::de::EnumAccess;
use serde::de::IntoDeserializer;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::VariantAccess;
use serde::de::Visitor;

use super::Value;

/// Why a value does not fit the type that was asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct DecodeError(String);

impl serde::de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// The name by which a `Value` asks for itself, whole.
pub(crate) const WHOLE: &str = "$pipewright::Value";

thread_local! {
    /// Hands a value through serde untouched: serde has no call for "as it is", and rebuilding would lose kinds.
    static HANDED: RefCell<Option<Value>> = const { RefCell::new(None) };
}

/// Hands a value to the next field of type `Value`; for other deserializers of ours.
pub(crate) fn hand_over(value: Value) {
    HANDED.with(|slot| *slot.borrow_mut() = Some(value));
}

/// Reads a typed struct out of a value. Secrets are laid open: the caller is about to act on them.
pub fn decode<T: DeserializeOwned>(value: Value) -> Result<T, DecodeError> {
    T::deserialize(ValueDeserializer(value))
}

struct ValueDeserializer(Value);

impl<'de> Deserializer<'de> for ValueDeserializer {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Int(value) => {
                if let Ok(small) = i64::try_from(value) {
                    visitor.visit_i64(small)
                } else if let Ok(small) = u64::try_from(value) {
                    visitor.visit_u64(small)
                } else {
                    visitor.visit_str(&value.to_string())
                }
            }
            Value::Decimal(value) => visitor.visit_str(&value.to_string()),
            Value::Number(text) | Value::String(text) => visitor.visit_str(&text),
            // Decimals ask for anything: a binary float must not slip into them unseen.
            Value::Float(value) => Err(DecodeError(format!("expected an exact value, found the float `{value}`"))),
            Value::List(items) => {
                let items = Arc::try_unwrap(items).unwrap_or_else(|shared| (*shared).clone());
                visitor.visit_seq(Items(items.into_iter()))
            }
            Value::Map(map) => {
                let map = Arc::try_unwrap(map).unwrap_or_else(|shared| (*shared).clone());
                visitor.visit_map(Entries { entries: map.into_iter(), value: None })
            }
            Value::Secret(inner) => Self((*inner).clone()).deserialize_any(visitor),
            other => visitor.visit_string(other.to_text()),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if name == WHOLE {
            hand_over(self.0);
            return visitor.visit_unit();
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Map(map) if map.len() == 1 => {
                let (key, value) = map.get_index(0).expect("the length is one");
                visitor.visit_enum(Variant { name: key.clone(), value: Some(value.clone()) })
            }
            Value::String(name) => visitor.visit_enum(Variant { name, value: None }),
            other => {
                Err(DecodeError(format!("expected one word or an object with one key, found {}", other.kind().name())))
            }
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Float(value) => visitor.visit_f64(value),
            other => Self(other).deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Secret(inner) => Self((*inner).clone()).deserialize_str(visitor),
            // A number is no string: `"5"` and `5` are two things in JSON, and silently both would hide a mistake.
            number @ (Value::Int(_) | Value::Float(_)) => {
                Err(DecodeError(format!("expected a string, found `{number}`")))
            }
            other => Self(other).deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for Items {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        self.0.next().map(|item| seed.deserialize(ValueDeserializer(item))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries {
    entries: indexmap::map::IntoIter<Arc<str>, Value>,
    value: Option<(Arc<str>, Value)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        let decoded = seed.deserialize((&*key).into_deserializer())?;
        self.value = Some((key, value));
        Ok(Some(decoded))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        let (key, value) = self.value.take().expect("serde asks for a value after its key");
        seed.deserialize(ValueDeserializer(value)).map_err(|error| DecodeError(format!("`{key}`: {error}")))
    }
}

struct Variant {
    name: Arc<str>,
    value: Option<Value>,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), DecodeError> {
        let variant = seed.deserialize((&*self.name).into_deserializer())?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Variant {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.value {
            None => Ok(()),
            Some(_) => Err(DecodeError(format!("`{}` takes no value", self.name))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DecodeError> {
        seed.deserialize(ValueDeserializer(self.value.unwrap_or_default()))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DecodeError> {
        ValueDeserializer(self.value.unwrap_or_default()).deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, DecodeError> {
        ValueDeserializer(self.value.unwrap_or_default()).deserialize_any(visitor)
    }
}

/// A field of type `Value` takes what stands there, with its kind. Works with `decode` only.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Taken;

        impl Visitor<'_> for Taken {
            type Value = Value;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value handed over by `decode`")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(HANDED.with(|slot| slot.borrow_mut().take()).unwrap_or_default())
            }
        }

        deserializer.deserialize_newtype_struct(WHOLE, Taken)
    }
}

impl schemars::JsonSchema for Value {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Value".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::Schema::default()
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;

    use super::super::parse_json;
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Order {
        symbol: String,
        price: Decimal,
        #[serde(default)]
        quantity: u32,
        extra: Option<Value>,
    }

    fn check(json: &str, expected: &str) {
        let error = decode::<Order>(parse_json(json).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{json}");
    }

    #[test]
    fn a_decimal_keeps_its_digits_and_a_value_its_kind() {
        let text = r#"{"symbol":"A","price":1234567890.123456789012345678,"extra":{"id":9007199254740993}}"#;
        let order: Order = decode(parse_json(text).unwrap()).unwrap();
        assert_eq!(order.price.to_string(), "1234567890.123456789012345678");
        assert_eq!(order.extra.unwrap().to_string(), r#"{"id":9007199254740993}"#);
    }

    #[test]
    fn a_wrong_value_names_its_key() {
        check(r#"{"symbol":5,"price":1}"#, "`symbol`: expected a string, found `5`");
        check(
            r#"{"symbol":"A","price":1,"qty":2}"#,
            "unknown field `qty`, expected one of `symbol`, `price`, `quantity`, `extra`",
        );
    }
}
