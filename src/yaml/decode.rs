//! Tree to typed values, through serde, with the place of every fault.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

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

use super::Entry;
use super::Tree;
use super::TreeKind;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Span;
use crate::diag::did_you_mean;

/// A decoded value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

/// How many faults of one struct are told before it is enough.
const MOST: usize = 50;
/// The names under which `Tree` and `Spanned` ask for the node as it is.
const TREE: &str = "$pipewright::Tree";
const SPANNED: &str = "$pipewright::Spanned";

thread_local! {
    /// Hands a node through serde untouched.
    static HANDED: RefCell<Option<Tree>> = const { RefCell::new(None) };
    static PLACES: RefCell<Vec<Span>> = const { RefCell::new(Vec::new()) };
}

/// Reads a typed struct; all faults at once: a faulty field is told and left out, and the rest is read on.
pub fn decode<T: DeserializeOwned>(tree: &Tree) -> Result<T, Vec<Diagnostic>> {
    let faults = RefCell::new(Faults::default());
    for _ in 0..MOST {
        let before = faults.borrow().diagnostics.len();
        match T::deserialize(TreeDeserializer { tree, faults: &faults, field: None }) {
            Ok(value) => {
                let diagnostics = faults.into_inner().diagnostics;
                return if diagnostics.is_empty() { Ok(value) } else { Err(diagnostics) };
            }
            Err(Fault(None)) => break,
            Err(Fault(Some(diagnostic))) => {
                let mut faults = faults.borrow_mut();
                let diagnostic = diagnostic
                    .unwrap_or_else(|message| Box::new(Diagnostic::error(Code::WrongType, tree.span.clone(), message)));
                if !faults.diagnostics.contains(&diagnostic) {
                    faults.diagnostics.push(*diagnostic);
                }
                if faults.diagnostics.len() == before && faults.skipped_now == 0 {
                    break;
                }
                if faults.skipped_now == 0 {
                    break;
                }
                faults.skipped_now = 0;
            }
        }
    }
    Err(faults.into_inner().diagnostics)
}

#[derive(Debug, Default)]
struct Faults {
    diagnostics: Vec<Diagnostic>,
    /// Fields that are left out because they are faulty, by the place of their key.
    skipped: HashSet<Span>,
    skipped_now: usize,
}

/// serde's error: a diagnostic once a place is known, a message before that, nothing where all is told already.
#[derive(Debug)]
struct Fault(Option<Result<Box<Diagnostic>, String>>);

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(Ok(diagnostic)) => formatter.write_str(&diagnostic.message),
            Some(Err(message)) => formatter.write_str(message),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Some(Err(message.to_string())))
    }

    fn missing_field(field: &'static str) -> Self {
        Self(Some(Err(format!("{MISSING}{field}"))))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let mut message = format!("unknown word `{variant}`");
        if let Some(near) = did_you_mean(variant, expected.iter().copied()) {
            message.push_str(&format!("{HELP}did you mean `{near}`?"));
        } else {
            message.push_str(&format!("{HELP}use one of {}", listed(expected)));
        }
        Self(Some(Err(message)))
    }

    fn invalid_type(_: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self(Some(Err(format!("{EXPECTED}{expected}"))))
    }

    fn invalid_value(_: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self(Some(Err(format!("{EXPECTED}{expected}"))))
    }
}

/// Marks in messages that have no place yet: serde makes them where the node is not known.
const MISSING: &str = "\u{1}missing ";
const EXPECTED: &str = "\u{1}expected ";
const HELP: &str = "\u{1}help ";

fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

impl Fault {
    /// Gives a message that has no place yet the place of this node.
    fn at(self, tree: &Tree) -> Self {
        let Some(Err(message)) = self.0 else { return self };
        let diagnostic = if let Some(field) = message.strip_prefix(MISSING) {
            let mut span = tree.span.clone();
            // The whole mapping would be underlined otherwise; its first key is enough to find it.
            if let Some(first) = tree.entries().first() {
                span = first.key_span.clone();
            }
            Diagnostic::error(Code::MissingKey, span, format!("key `{field}` is missing"))
                .with_help(format!("add `{field}:`"))
        } else if let Some(expected) = message.strip_prefix(EXPECTED) {
            let message = format!("expected {}, found {}", plain(expected), tree.describe());
            Diagnostic::error(Code::WrongType, tree.span.clone(), message)
        } else if let Some((message, help)) = message.split_once(HELP) {
            Diagnostic::error(Code::WrongType, tree.span.clone(), message).with_help(help)
        } else {
            Diagnostic::error(Code::WrongType, tree.span.clone(), message)
        };
        Self(Some(Ok(Box::new(diagnostic))))
    }
}

/// Says in the user's words what serde expects.
fn plain(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a map" => "a mapping",
        "a boolean" => "`true` or `false`",
        "a string" => "a text",
        text if text.starts_with("struct ") => "a mapping",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not negative",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "a Decimal type representing a fixed-point number" => "a number",
        text => text,
    }
}

#[derive(Clone, Copy)]
struct TreeDeserializer<'t> {
    tree: &'t Tree,
    faults: &'t RefCell<Faults>,
    /// The key of the struct field that this node is the value of.
    field: Option<&'t Span>,
}

impl<'t> TreeDeserializer<'t> {
    fn child(self, tree: &'t Tree, field: Option<&'t Span>) -> Self {
        Self { tree, field, ..self }
    }

    fn placed<T>(self, result: Result<T, Fault>) -> Result<T, Fault> {
        result.map_err(|fault| fault.at(self.tree))
    }

    fn expected<T>(self, what: &str) -> Result<T, Fault> {
        Err(Fault(Some(Err(format!("{EXPECTED}{what}")))).at(self.tree))
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty, $what:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let parsed = self.tree.as_text().and_then(|text| text.parse::<$type>().ok());
            match parsed {
                Some(value) => self.placed(visitor.$visit(value)),
                None => self.expected($what),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for TreeDeserializer<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.tree.kind {
            TreeKind::Scalar { .. } if self.tree.is_null() => self.placed(visitor.visit_unit()),
            TreeKind::Scalar { text, .. } => self.placed(visitor.visit_str(text)),
            TreeKind::Sequence(_) => self.deserialize_seq(visitor),
            TreeKind::Mapping(_) => self.deserialize_map(visitor),
        }
    }

    parsed! {
        deserialize_i8 visit_i8 i8, "a whole number";
        deserialize_i16 visit_i16 i16, "a whole number";
        deserialize_i32 visit_i32 i32, "a whole number";
        deserialize_i64 visit_i64 i64, "a whole number";
        deserialize_i128 visit_i128 i128, "a whole number";
        deserialize_u8 visit_u8 u8, "a whole number from 0 to 255";
        deserialize_u16 visit_u16 u16, "a whole number, not negative";
        deserialize_u32 visit_u32 u32, "a whole number, not negative";
        deserialize_u64 visit_u64 u64, "a whole number, not negative";
        deserialize_u128 visit_u128 u128, "a whole number, not negative";
        deserialize_f32 visit_f32 f32, "a number";
        deserialize_f64 visit_f64 f64, "a number";
        deserialize_char visit_char char, "one letter";
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.tree.as_text() {
            Some("true") => self.placed(visitor.visit_bool(true)),
            Some("false") => self.placed(visitor.visit_bool(false)),
            _ => self.expected("`true` or `false`"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.tree.kind {
            TreeKind::Scalar { text, .. } if !self.tree.is_null() => self.placed(visitor.visit_str(text)),
            _ => self.expected("a text"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.tree.is_null() { self.placed(visitor.visit_none()) } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.tree.is_null() { self.placed(visitor.visit_unit()) } else { self.expected("nothing") }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        match name {
            TREE => {
                HANDED.with(|slot| *slot.borrow_mut() = Some(self.tree.clone()));
                visitor.visit_unit()
            }
            SPANNED => {
                PLACES.with(|places| places.borrow_mut().push(self.tree.span.clone()));
                let result = visitor.visit_newtype_struct(self);
                if result.is_err() {
                    PLACES.with(|places| places.borrow_mut().pop());
                }
                result
            }
            crate::model::WHOLE => {
                crate::model::hand_over(self.tree.to_value());
                visitor.visit_unit()
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let TreeKind::Sequence(items) = &self.tree.kind else { return self.expected("a list") };
        let access = Items { items: items.iter(), parent: self };
        self.placed(visitor.visit_seq(access))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let TreeKind::Mapping(entries) = &self.tree.kind else { return self.expected("a mapping") };
        let access = Entries { entries: entries.iter(), known: None, value: None, parent: self };
        self.placed(visitor.visit_map(access))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let TreeKind::Mapping(entries) = &self.tree.kind else { return self.expected("a mapping") };
        let access = Entries { entries: entries.iter(), known: Some(fields), value: None, parent: self };
        let result = self.placed(visitor.visit_map(access));
        let Err(Fault(Some(Ok(diagnostic)))) = result else { return result };
        // A key that was given and is faulty is not missing.
        let given = |key: &str| self.tree.entry(key).is_some();
        let missing = diagnostic.message.strip_prefix("key `").and_then(|rest| rest.strip_suffix("` is missing"));
        if diagnostic.code == Code::MissingKey && missing.is_some_and(given) {
            return Err(Fault(None));
        }
        Err(Fault(Some(Ok(diagnostic))))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.tree.kind {
            TreeKind::Scalar { .. } => self.placed(visitor.visit_enum(Variant { parent: self, entry: None })),
            TreeKind::Mapping(entries) => match entries.as_slice() {
                [entry] => self.placed(visitor.visit_enum(Variant { parent: self, entry: Some(entry) })),
                _ => self.expected(&format!("one key out of {}", listed(variants))),
            },
            TreeKind::Sequence(_) => self.expected(&format!("one of {}", listed(variants))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { bytes byte_buf unit_struct tuple_struct }
}

struct Items<'t> {
    items: std::slice::Iter<'t, Tree>,
    parent: TreeDeserializer<'t>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.items.next().map(|item| seed.deserialize(self.parent.child(item, self.parent.field))).transpose()
    }
}

struct Entries<'t> {
    entries: std::slice::Iter<'t, Entry>,
    /// The fields of a struct; nothing for a map with any keys.
    known: Option<&'static [&'static str]>,
    value: Option<&'t Entry>,
    parent: TreeDeserializer<'t>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        loop {
            let Some(entry) = self.entries.next() else { return Ok(None) };
            let mut faults = self.parent.faults.borrow_mut();
            if faults.skipped.contains(&entry.key_span) {
                continue;
            }
            if let Some(known) = self.known.filter(|known| !known.contains(&&*entry.key)) {
                let message = format!("unknown key `{}`", entry.key);
                let diagnostic = Diagnostic::error(Code::UnknownKey, entry.key_span.clone(), message);
                let help = match did_you_mean(&entry.key, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here: {}", listed(known)),
                };
                if faults.diagnostics.len() < MOST {
                    faults.diagnostics.push(diagnostic.with_help(help));
                }
                faults.skipped.insert(entry.key_span.clone());
                continue;
            }
            self.value = Some(entry);
            drop(faults);
            return seed.deserialize((&*entry.key).into_deserializer()).map(Some);
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(entry) = self.value.take() else { return Err(Fault(None)) };
        let child = self.parent.child(&entry.value, Some(&entry.key_span));
        seed.deserialize(child).map_err(|fault| {
            let fault = fault.at(&entry.value);
            let mut faults = self.parent.faults.borrow_mut();
            // The innermost field is left out on the next reading; where that leaves a gap, the ones around it follow.
            let gap = matches!(fault, Fault(None));
            if faults.skipped_now == 0 || gap {
                faults.skipped.insert(entry.key_span.clone());
                faults.skipped_now += 1;
            }
            if gap {
                let told = faults.diagnostics.last().cloned();
                return Fault(told.map(|told| Ok(Box::new(told))));
            }
            fault
        })
    }
}

struct Variant<'t> {
    parent: TreeDeserializer<'t>,
    entry: Option<&'t Entry>,
}

impl<'de, 't> EnumAccess<'de> for Variant<'t> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let name = match self.entry {
            Some(entry) => &*entry.key,
            None => self.parent.tree.as_text().unwrap_or_default(),
        };
        let variant = seed.deserialize(IntoDeserializer::<Fault>::into_deserializer(name))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.entry {
            None => Ok(()),
            Some(entry) => Err(Fault(Some(Err(format!("`{}` takes no value", entry.key)))).at(&entry.value)),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        match self.entry {
            Some(entry) => seed.deserialize(self.parent.child(&entry.value, Some(&entry.key_span))),
            None => self.parent.expected("a mapping with a value"),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        match self.entry {
            Some(entry) => self.parent.child(&entry.value, None).deserialize_seq(visitor),
            None => self.parent.expected("a list"),
        }
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        match self.entry {
            Some(entry) => self.parent.child(&entry.value, None).deserialize_struct("", fields, visitor),
            None => self.parent.expected("a mapping"),
        }
    }
}

/// A field of type `Tree` takes the node as it is. Works with `decode` only.
impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Taken;

        impl Visitor<'_> for Taken {
            type Value = Tree;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a node handed over by `decode`")
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Tree, E> {
                HANDED.with(|slot| slot.borrow_mut().take()).ok_or_else(|| E::custom("no node was handed over"))
            }
        }

        deserializer.deserialize_newtype_struct(TREE, Taken)
    }
}

/// Any value.
impl schemars::JsonSchema for Tree {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Tree".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::Schema::default()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Inner<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Inner<T> {
            type Value = Spanned<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value with its place")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Spanned<T>, D::Error> {
                let value = T::deserialize(deserializer)?;
                let span = PLACES.with(|places| places.borrow_mut().pop());
                let span = span.ok_or_else(|| serde::de::Error::custom("no place was handed over"))?;
                Ok(Spanned { value, span })
            }
        }

        deserializer.deserialize_newtype_struct(SPANNED, Inner(std::marker::PhantomData))
    }
}

/// As the value's.
impl<T: schemars::JsonSchema> schemars::JsonSchema for Spanned<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rust_decimal::Decimal;

    use super::super::parse;
    use super::*;
    use crate::model::Value;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "the test looks at faults")]
    struct Shape {
        name: Spanned<String>,
        version: String,
        count: u32,
        price: Decimal,
        #[serde(default)]
        kind: Kind,
        #[serde(default)]
        inner: Option<Inner>,
        #[serde(default)]
        many: BTreeMap<String, Inner>,
        #[serde(default)]
        any: Value,
        tree: Option<Tree>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[expect(dead_code, reason = "the test looks at the variant")]
    enum Kind {
        #[default]
        Plain,
        Fancy(Inner),
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "the test looks at faults")]
    struct Inner {
        on: bool,
    }

    fn faults(text: &str) -> Vec<String> {
        let (tree, diagnostics) = parse(&"t.yaml".into(), text);
        assert_eq!(diagnostics, []);
        let show = |d: &Diagnostic| {
            format!("{}:{}: {}: {}", d.span.start.line, d.span.start.column, d.code.as_str(), d.message)
        };
        match decode::<Shape>(&tree.unwrap()) {
            Ok(_) => Vec::new(),
            Err(diagnostics) => diagnostics.iter().map(show).collect(),
        }
    }

    #[test]
    fn text_stays_text_and_decimals_keep_their_digits() {
        let text = "name: x\nversion: 1.10\ncount: 3\nprice: 0.1000000000000000055511151231\nkind: { fancy: { on: true } }\nany: [1.50, a]\ntree: { b: 1 }\n";
        let (tree, _) = parse(&"t.yaml".into(), text);
        let shape: Shape = decode(&tree.unwrap()).unwrap();
        assert_eq!(shape.version, "1.10");
        assert_eq!(shape.price.to_string(), "0.1000000000000000055511151231");
        assert_eq!(shape.any.to_string(), "[1.50,\"a\"]");
        assert_eq!(shape.name.span.start.column, 7);
        assert!(matches!(shape.kind, Kind::Fancy(_)));
    }

    #[test]
    fn all_faults_of_a_mapping_are_told_at_once() {
        let text = "nam: x\nversion: []\ncount: soon\nprice: much\ninner: { on: maybe, off: 1 }\nmany: { a: { on: 3 }, b: { onn: true } }\n";
        assert_eq!(
            faults(text),
            [
                "1:1: unknown-key: unknown key `nam`",
                "2:10: wrong-type: expected a text, found a list",
                "3:8: wrong-type: expected a whole number, not negative, found `soon`",
                "4:8: wrong-type: expected a number, found `much`",
                "5:14: wrong-type: expected `true` or `false`, found `maybe`",
                "5:21: unknown-key: unknown key `off`",
                "6:18: wrong-type: expected `true` or `false`, found `3`",
                "6:28: unknown-key: unknown key `onn`",
                "6:28: missing-key: key `on` is missing",
                "1:1: missing-key: key `name` is missing",
            ]
        );
    }
}
