//! What expressions give, against what is asked for where they stand.

use std::sync::Arc;

use serde_json::Value as Json;

use super::Input;
use super::InputType;
use super::compile::Compiler;
use super::compile::first_line;
use super::kinds::Kinds;
use super::kinds::Type;
use crate::diag::Code;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// A moment or its text.
pub(super) const MOMENT: Kinds = Kinds::TIME.or(Kinds::TEXT);
/// A length of time or its text.
pub(super) const LENGTH: Kinds = Kinds::DURATION.or(Kinds::TEXT);
/// What a `for_each` walks over.
pub(super) const ITEMS: Kinds = Kinds::LIST.or(Kinds::DATASET);
/// How deep a schema is followed.
const MAX_DEPTH: usize = 32;

impl Compiler<'_> {
    /// Returns what the template at a place gives, where it has been inferred.
    fn inferred_at(&self, tree: &Tree) -> Option<&Type> {
        let text = tree.as_text().filter(|text| text.contains("{{") || text.contains("{%"))?;
        // What is more than one expression gives a text, whatever it is made of.
        self.inferred.templates.get(&tree.span.start.offset).filter(|_| !text.is_empty())
    }

    /// Says so where an expression gives nothing that a key takes.
    pub(super) fn expect(&mut self, tree: &Tree, takes: Kinds, wanted: &str) {
        let Some(gives) = self.inferred_at(tree).map(|gives| gives.kinds) else { return };
        if gives.is_empty() || gives.has(takes) || gives.only(Kinds::NULL) {
            return;
        }
        let message = format!("expected {wanted}, and the expression gives {}", gives.named());
        let help = mend(tree, takes, gives);
        self.error(Code::ExpressionType, &first_line(&tree.span), message).help = help;
    }

    /// Checks the expressions of `with:` against the node's input schema; keys that the node evaluates are left out.
    pub(super) fn expect_schema(&mut self, tree: &Tree, schema: &Json, root: &Json, skip: &[&str]) {
        self.expect_at(tree, schema, root, skip, "", 0);
    }

    fn expect_at(&mut self, tree: &Tree, schema: &Json, root: &Json, skip: &[&str], path: &str, depth: usize) {
        if depth > MAX_DEPTH || skip.contains(&path) {
            return;
        }
        let schema = super::with::resolve(schema, root);
        match &tree.kind {
            TreeKind::Scalar { .. } => {
                if self.inferred_at(tree).is_some() {
                    let takes = accepts(schema, root, 0);
                    if takes != Kinds::ALL {
                        self.expect(tree, takes, &wanted(schema, root));
                    }
                }
            }
            TreeKind::Sequence(items) => {
                let Some(inner) = schema.get("items") else { return };
                for item in items {
                    self.expect_at(item, inner, root, skip, path, depth + 1);
                }
            }
            TreeKind::Mapping(entries) => {
                let rest = schema.get("additionalProperties").filter(|rest| rest.is_object());
                for entry in entries {
                    let known = schema.get("properties").and_then(|properties| properties.get(&*entry.key));
                    let Some(inner) = known.or(rest) else { continue };
                    let path = if path.is_empty() { entry.key.to_string() } else { format!("{path}.{}", entry.key) };
                    self.expect_at(&entry.value, inner, root, skip, &path, depth + 1);
                }
            }
        }
    }

    /// Checks an expression that is given to an input of a child.
    pub(super) fn expect_input(&mut self, tree: &Tree, input: &Input, child: &Arc<str>) {
        if let Some((takes, wanted)) = taken_by(input.kind) {
            self.expect(tree, takes, &format!("{wanted} for input `{}` of `{child}`", input.name));
        }
    }

    /// Checks an expression that is the default of a form's field.
    pub(super) fn expect_default(&mut self, tree: &Tree, field: &Input) {
        if let Some((takes, wanted)) = taken_by(field.kind) {
            self.expect(tree, takes.or(Kinds::NULL), &format!("{wanted} for field `{}`", field.name));
        }
    }
}

/// Returns what an input takes, and how that is called; a secret takes anything.
fn taken_by(kind: InputType) -> Option<(Kinds, &'static str)> {
    Some(match kind {
        InputType::String | InputType::Date => (Kinds::TEXT, "a text"),
        InputType::Integer => (Kinds::INTEGER, "a whole number"),
        InputType::Number => (Kinds::EXACT, "a number"),
        InputType::Decimal => (Kinds::EXACT.or(Kinds::TEXT), "a number"),
        InputType::Boolean => (Kinds::BOOL, "`true` or `false`"),
        InputType::Money => (Kinds::MONEY.or(Kinds::TEXT), "money"),
        InputType::Datetime => (MOMENT, "a moment"),
        InputType::Duration => (LENGTH, "a duration"),
        InputType::Array => (Kinds::LIST, "a list"),
        InputType::Object => (Kinds::MAP, "an object"),
        InputType::Blob => (Kinds::BLOB.or(Kinds::TEXT), "a file"),
        InputType::Secret => return None,
    })
}

/// Returns how to bring what an expression gives to what is asked for.
fn mend(tree: &Tree, takes: Kinds, gives: Kinds) -> Option<String> {
    let inner = tree.as_text()?.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let simple = inner.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '.' | '_' | '[' | ']'));
    if !simple {
        return None;
    }
    if takes == LENGTH && gives.only(Kinds::INTEGER) {
        return Some(format!("say which unit: `\"{{{{ {inner} }}}}s\"`"));
    }
    let filter = match () {
        () if gives.only(Kinds::TEXT) && takes.has(Kinds::DECIMAL) => "decimal",
        () if gives.only(Kinds::TEXT.or(Kinds::DECIMAL)) && takes.has(Kinds::INTEGER) => "int",
        // Where any text goes, and not one of a moment or of money.
        () if takes.has(Kinds::TEXT) && takes.has(Kinds::DECIMAL) && gives.only(Kinds::NUMBER.or(Kinds::BOOL)) => {
            "string"
        }
        () => return None,
    };
    Some(format!("write `{{{{ {inner} | {filter} }}}}`"))
}

/// Returns the kinds that a field with this schema can be read from, as `model::decode` does it. Null stands for what
/// is left out.
fn accepts(schema: &Json, root: &Json, depth: usize) -> Kinds {
    if depth > MAX_DEPTH {
        return Kinds::ALL;
    }
    let schema = super::with::resolve(schema, root);
    if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
        return choices.iter().map(|choice| accepts(choice, root, depth + 1)).fold(Kinds::NULL, Kinds::or);
    }
    if schema.get("enum").is_some() || schema.get("const").is_some() {
        // A word, or an object with one key.
        return Kinds::TEXT.or(Kinds::MAP).or(Kinds::NULL);
    }
    let texts = Kinds::TEXT
        .or(Kinds::DECIMAL)
        .or(Kinds::MONEY)
        .or(Kinds::TIME)
        .or(Kinds::DURATION)
        .or(Kinds::BLOB)
        .or(Kinds::DATASET);
    let one = |kind: &str| match kind {
        "boolean" => Kinds::BOOL,
        "integer" => Kinds::INTEGER,
        "number" => Kinds::NUMBER.or(Kinds::TEXT),
        "array" => ITEMS,
        "object" => Kinds::MAP,
        "string" => match schema.get("format").and_then(Json::as_str) {
            Some("pipewright-duration") => LENGTH,
            Some("pipewright-money") => Kinds::MONEY.or(Kinds::TEXT),
            _ => texts,
        },
        _ => Kinds::NULL,
    };
    match schema.get("type") {
        Some(Json::String(kind)) => one(kind).or(Kinds::NULL),
        Some(Json::Array(kinds)) => kinds.iter().filter_map(Json::as_str).map(one).fold(Kinds::NULL, Kinds::or),
        _ => Kinds::ALL,
    }
}

/// Says what a field takes, as its author means it.
fn wanted(schema: &Json, root: &Json) -> String {
    let choices = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array);
    if let Some(choices) = choices {
        let of = |choice: &Json| wanted(super::with::resolve(choice, root), root);
        let mut words: Vec<String> = choices.iter().map(of).filter(|word| word != "nothing").collect();
        words.dedup();
        return words.join(" or ");
    }
    match schema.get("format").and_then(Json::as_str) {
        Some("pipewright-duration") => "a duration".to_owned(),
        Some("pipewright-money") => "money".to_owned(),
        _ if schema.get("enum").is_some() || schema.get("const").is_some() => "a word".to_owned(),
        _ => super::with::expected(schema),
    }
}
