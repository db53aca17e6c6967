//! What an expression may give: the set of kinds that its value can have, and what is known of its inside.
//!
//! A type is always a superset of what can come, so that a fault is told only where no value could work.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::model::Value;

/// A set of kinds, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds(u16);

impl Kinds {
    pub(super) const NULL: Self = Self(1);
    pub(super) const BOOL: Self = Self(1 << 1);
    pub(super) const INTEGER: Self = Self(1 << 2);
    pub(super) const DECIMAL: Self = Self(1 << 3);
    pub(super) const FLOAT: Self = Self(1 << 4);
    pub(super) const TEXT: Self = Self(1 << 5);
    pub(super) const LIST: Self = Self(1 << 6);
    pub(super) const MAP: Self = Self(1 << 7);
    pub(super) const MONEY: Self = Self(1 << 8);
    pub(super) const TIME: Self = Self(1 << 9);
    pub(super) const DURATION: Self = Self(1 << 10);
    pub(super) const BLOB: Self = Self(1 << 11);
    pub(super) const DATASET: Self = Self(1 << 12);
    pub(super) const NONE: Self = Self(0);
    pub(super) const ALL: Self = Self((1 << 13) - 1);
    /// Whole numbers and fractions, exact.
    pub(super) const EXACT: Self = Self(Self::INTEGER.0 | Self::DECIMAL.0);
    pub(super) const NUMBER: Self = Self(Self::EXACT.0 | Self::FLOAT.0);

    const NAMED: [(Self, &'static str); 13] = [
        (Self::NULL, "null"),
        (Self::BOOL, "a boolean"),
        (Self::INTEGER, "a whole number"),
        (Self::DECIMAL, "a decimal"),
        (Self::FLOAT, "a binary float"),
        (Self::TEXT, "a text"),
        (Self::LIST, "a list"),
        (Self::MAP, "an object"),
        (Self::MONEY, "money"),
        (Self::TIME, "a moment"),
        (Self::DURATION, "a duration"),
        (Self::BLOB, "a file"),
        (Self::DATASET, "a dataset"),
    ];

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Tells whether nothing beside these is possible.
    pub(super) fn only(self, others: Self) -> bool {
        self.0 != 0 && self.0 & !others.0 == 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Lists the single kinds of the set.
    pub(super) fn each(self) -> impl Iterator<Item = Self> {
        Self::NAMED.into_iter().map(|(kind, _)| kind).filter(move |kind| self.has(*kind))
    }

    /// Names the set for a message, e.g. `a text or null`.
    pub(super) fn named(self) -> String {
        if self == Self::ALL {
            return "anything".to_owned();
        }
        let number = self.and(Self::EXACT) == Self::EXACT;
        let rest = if number { self.without(Self::NUMBER) } else { self };
        let names = Self::NAMED.into_iter().filter(|(kind, _)| rest.has(*kind)).map(|(_, name)| name);
        let names: Vec<&str> = number.then_some("a number").into_iter().chain(names).collect();
        names.join(" or ")
    }
}

/// What is known of a value before there is one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Type {
    pub(super) kinds: Kinds,
    /// What a list's items are; nothing where they may be anything.
    item: Option<Arc<Type>>,
    /// What an object's fields are; nothing where they may be anything.
    shape: Option<Arc<Shape>>,
    /// The currency of money, where it is certain.
    pub(super) currency: Option<Arc<str>>,
    /// How many types it is made of, itself included.
    size: usize,
}

/// The fields of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    pub(super) fields: Vec<(Arc<str>, Type)>,
    pub(super) rest: Rest,
}

/// What an object has beside its known fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rest {
    /// Nothing.
    Closed,
    /// Nothing that is declared; more is let through.
    Undeclared,
    /// Anything.
    Open,
}

/// What a field of a type is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Field {
    Known(Type),
    /// It cannot be there: no possible value has it.
    Missing,
    /// It is not declared, but may be there.
    Undeclared,
}

/// How many items of a written list are looked at.
const MOST_ITEMS: usize = 100;
/// Of how many types one is made at most. Parts are shared, so a short text could build one that takes for ever to
/// compare; of what is larger the inside is not known.
const MAX_SIZE: usize = 2_000;
/// How deep a schema or a value is followed.
const MAX_DEPTH: usize = 32;

impl Type {
    pub(super) const ANY: Self = Self::of(Kinds::ALL);

    pub(super) const fn of(kinds: Kinds) -> Self {
        Self { kinds, item: None, shape: None, currency: None, size: 1 }
    }

    pub(super) fn text() -> Self {
        Self::of(Kinds::TEXT)
    }

    pub(super) fn list(item: Self) -> Self {
        let item = (!item.is_any()).then(|| Arc::new(item));
        Self { item, ..Self::of(Kinds::LIST) }.measured()
    }

    pub(super) fn map(fields: Vec<(Arc<str>, Self)>, rest: Rest) -> Self {
        Self { shape: Some(Arc::new(Shape { fields, rest })), ..Self::of(Kinds::MAP) }.measured()
    }

    /// Counts what it is made of, and forgets the inside of what is too large.
    fn measured(mut self) -> Self {
        let fields = self.shape.iter().flat_map(|shape| &shape.fields).map(|(_, kind)| kind.size);
        self.size = fields.chain(self.item.iter().map(|item| item.size)).sum::<usize>() + 1;
        if self.size > MAX_SIZE {
            return Self { currency: self.currency, ..Self::of(self.kinds) };
        }
        self
    }

    pub(super) fn money(currency: Option<&str>) -> Self {
        Self { currency: currency.map(Arc::from), ..Self::of(Kinds::MONEY) }
    }

    pub(super) fn is_any(&self) -> bool {
        self.kinds == Kinds::ALL
    }

    pub(super) fn or_null(self) -> Self {
        Self { kinds: self.kinds.or(Kinds::NULL), ..self }
    }

    /// Keeps these kinds only.
    pub(super) fn narrowed(&self, kinds: Kinds) -> Self {
        Self { kinds: self.kinds.and(kinds), ..self.clone() }
    }

    /// Returns the type of a value that has the one or the other.
    pub(super) fn or(self, other: Self) -> Self {
        if self == other {
            return self;
        }
        let kinds = self.kinds.or(other.kinds);
        let (one, two) = (&self.kinds, &other.kinds);
        let item = match (&self.item, &other.item) {
            (Some(left), Some(right)) => Some(Arc::new(Type::clone(left).or(Type::clone(right)))),
            (Some(item), None) if !two.has(Kinds::LIST) => Some(item.clone()),
            (None, Some(item)) if !one.has(Kinds::LIST) => Some(item.clone()),
            _ => None,
        };
        let shape = match (&self.shape, &other.shape) {
            (Some(left), Some(right)) => Some(Arc::new(left.or(right))),
            (Some(shape), None) if !two.has(Kinds::MAP) => Some(shape.clone()),
            (None, Some(shape)) if !one.has(Kinds::MAP) => Some(shape.clone()),
            _ => None,
        };
        let currency = match (one.has(Kinds::MONEY), two.has(Kinds::MONEY)) {
            (true, true) => self.currency.filter(|currency| other.currency.as_ref() == Some(currency)),
            (true, false) => self.currency,
            _ => other.currency,
        };
        Self { kinds, item, shape, currency, size: 0 }.measured()
    }

    /// Returns what the items of a list are; anything where it may be no list.
    pub(super) fn item(&self) -> Self {
        match &self.item {
            Some(item) if self.kinds.only(Kinds::LIST.or(Kinds::NULL)) => (**item).clone(),
            _ => Self::ANY,
        }
    }

    /// Returns an object's type with another type for one of its fields.
    pub(super) fn with_field(&self, name: &str, kind: Self) -> Self {
        let Some(shape) = &self.shape else { return self.clone() };
        let mut fields = shape.fields.clone();
        fields.retain(|(key, _)| &**key != name);
        fields.push((name.into(), kind));
        Self { shape: Some(Arc::new(Shape { fields, rest: shape.rest })), ..self.clone() }.measured()
    }

    /// Looks for a field by its name.
    pub(super) fn field(&self, name: &str) -> Field {
        let mut found: Option<Self> = None;
        let mut missing = Field::Missing;
        let mut add = |kind: Self| {
            found = Some(match found.take() {
                Some(before) => before.or(kind),
                None => kind,
            });
        };
        if self.kinds.has(Kinds::MAP) {
            match self.shape.as_deref() {
                None => add(Self::ANY),
                Some(shape) => match (shape.fields.iter().find(|(key, _)| &**key == name), shape.rest) {
                    (Some((_, kind)), _) => add(kind.clone()),
                    (None, Rest::Open) => add(Self::ANY),
                    (None, Rest::Undeclared) => missing = Field::Undeclared,
                    (None, Rest::Closed) => {}
                },
            }
        }
        let of_others = [
            (Kinds::MONEY, "amount", Kinds::EXACT),
            (Kinds::MONEY, "currency", Kinds::TEXT),
            (Kinds::DATASET, "rows", Kinds::INTEGER),
            (Kinds::DATASET, "name", Kinds::TEXT),
            (Kinds::BLOB, "size", Kinds::INTEGER),
            (Kinds::BLOB, "media_type", Kinds::TEXT.or(Kinds::NULL)),
            (Kinds::BLOB, "file_name", Kinds::TEXT.or(Kinds::NULL)),
        ];
        for (kind, key, gives) in of_others {
            if self.kinds.has(kind) && key == name {
                add(Self::of(gives));
            }
        }
        found.map_or(missing, Field::Known)
    }

    /// Lists the names of the fields that are known.
    pub(super) fn field_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        if let Some(shape) = self.shape.as_deref().filter(|_| self.kinds.has(Kinds::MAP)) {
            names.extend(shape.fields.iter().map(|(key, _)| &**key));
        }
        let of_others: [(Kinds, &[&str]); 3] = [
            (Kinds::MONEY, &["amount", "currency"]),
            (Kinds::DATASET, &["rows", "name"]),
            (Kinds::BLOB, &["size", "media_type", "file_name"]),
        ];
        for (kind, keys) in of_others {
            if self.kinds.has(kind) {
                names.extend(keys);
            }
        }
        names
    }

    /// Returns the type of a value that is written out.
    pub(super) fn of_value(value: &Value) -> Self {
        Self::of_value_at(value, 0)
    }

    fn of_value_at(value: &Value, depth: usize) -> Self {
        if depth > MAX_DEPTH {
            return Self::ANY;
        }
        match value {
            Value::Null => Self::of(Kinds::NULL),
            Value::Bool(_) => Self::of(Kinds::BOOL),
            Value::Int(_) => Self::of(Kinds::INTEGER),
            Value::Decimal(_) | Value::Number(_) => Self::of(Kinds::DECIMAL),
            Value::Float(_) => Self::of(Kinds::FLOAT),
            Value::String(_) => Self::text(),
            Value::List(items) => Self::list(Self::of_items(
                items.iter().take(MOST_ITEMS + 1).map(|item| Self::of_value_at(item, depth + 1)),
            )),
            Value::Map(map) => Self::map(
                map.iter().map(|(key, item)| (key.clone(), Self::of_value_at(item, depth + 1))).collect(),
                Rest::Closed,
            ),
            Value::Money(money) => Self::money(Some(money.currency.as_str())),
            Value::Time(_) => Self::of(Kinds::TIME),
            Value::Duration(_) => Self::of(Kinds::DURATION),
            Value::Blob(_) => Self::of(Kinds::BLOB),
            Value::Dataset(_) => Self::of(Kinds::DATASET),
            Value::Secret(inner) => Self::of_value_at(inner, depth + 1),
            Value::Unknown(_) => Self::ANY,
        }
    }

    /// Returns the type of the items of a list that is written out; of a long or empty one nothing is known.
    pub(super) fn of_items(items: impl Iterator<Item = Self>) -> Self {
        let mut whole: Option<Self> = None;
        for (index, item) in items.enumerate() {
            if index >= MOST_ITEMS {
                return Self::ANY;
            }
            whole = Some(match whole {
                Some(before) => before.or(item),
                None => item,
            });
        }
        whole.unwrap_or(Self::ANY)
    }

    /// Returns the type of what a JSON Schema describes. Texts of a format may come as the kind that they name.
    pub(super) fn of_schema(schema: &Json, root: &Json) -> Self {
        Self::of_schema_at(schema, root, 0)
    }

    fn of_schema_at(schema: &Json, root: &Json, depth: usize) -> Self {
        if depth > MAX_DEPTH {
            return Self::ANY;
        }
        let deeper = |inner: &Json| Self::of_schema_at(inner, root, depth + 1);
        if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
            return reference.strip_prefix('#').and_then(|path| root.pointer(path)).map_or(Self::ANY, deeper);
        }
        if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
            return choices.iter().map(deeper).reduce(Self::or).unwrap_or(Self::ANY);
        }
        if let Some(words) = schema.get("enum").and_then(Json::as_array) {
            return words.iter().map(kind_of_json).reduce(Self::or).unwrap_or(Self::ANY);
        }
        if let Some(word) = schema.get("const") {
            return kind_of_json(word);
        }
        let one = |kind: &str| match kind {
            "null" => Self::of(Kinds::NULL),
            "boolean" => Self::of(Kinds::BOOL),
            "integer" => Self::of(Kinds::INTEGER),
            "number" => Self::of(Kinds::NUMBER),
            "array" => Self::list(schema.get("items").map_or(Self::ANY, deeper)),
            "object" => {
                let declared = schema.get("properties").and_then(Json::as_object);
                let fields = declared.into_iter().flatten().map(|(key, inner)| (key.as_str().into(), deeper(inner)));
                let closed = schema.get("additionalProperties") == Some(&Json::Bool(false));
                Self::map(fields.collect(), if closed { Rest::Closed } else { Rest::Open })
            }
            "string" => Self::of(match schema.get("format").and_then(Json::as_str) {
                None => Kinds::TEXT,
                Some("pipewright-money") => Kinds::TEXT.or(Kinds::MONEY),
                Some("pipewright-duration") => Kinds::TEXT.or(Kinds::DURATION),
                Some(_) => Kinds::TEXT.or(Kinds::TIME).or(Kinds::MONEY).or(Kinds::DURATION),
            }),
            _ => Self::ANY,
        };
        match schema.get("type") {
            Some(Json::String(kind)) => one(kind),
            Some(Json::Array(kinds)) => {
                kinds.iter().filter_map(Json::as_str).map(one).reduce(Self::or).unwrap_or(Self::ANY)
            }
            _ => Self::ANY,
        }
    }
}

impl Shape {
    fn or(&self, other: &Self) -> Self {
        let mut fields = self.fields.clone();
        for (key, kind) in &other.fields {
            match fields.iter_mut().find(|(known, _)| known == key) {
                Some((_, known)) => *known = known.clone().or(kind.clone()),
                None => fields.push((key.clone(), kind.clone())),
            }
        }
        Self { fields, rest: self.rest.max(other.rest) }
    }
}

fn kind_of_json(value: &Json) -> Type {
    Type::of(match value {
        Json::Null => Kinds::NULL,
        Json::Bool(_) => Kinds::BOOL,
        Json::Number(_) => Kinds::NUMBER,
        Json::String(_) => Kinds::TEXT,
        Json::Array(_) => Kinds::LIST,
        Json::Object(_) => Kinds::MAP,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_holds_itself_twice_over_and_over_stays_small() {
        let grown = || {
            let mut kind = Type::text();
            for _ in 0..64 {
                kind = Type::map(vec![("a".into(), kind.clone()), ("b".into(), Type::list(kind))], Rest::Closed);
            }
            kind
        };
        let (one, two) = (grown(), grown());
        assert!(one.size <= MAX_SIZE);
        assert_eq!(one.clone().or(two), one);
    }

    #[test]
    fn what_may_be_either_has_the_fields_of_both() {
        let map = |key: &str, kind| Type::map(vec![(key.into(), kind)], Rest::Closed);
        let either = map("a", Type::text()).or(map("b", Type::of(Kinds::INTEGER)));
        assert_eq!(either.field("a"), Field::Known(Type::text()));
        assert_eq!(either.field("b"), Field::Known(Type::of(Kinds::INTEGER)));
        assert_eq!(either.field("c"), Field::Missing);
        assert!(matches!(either.or(Type::of(Kinds::MAP)).field("c"), Field::Known(kind) if kind.is_any()));
        assert_eq!(Type::money(Some("USD")).or(Type::money(Some("EUR"))).currency, None);
    }
}
