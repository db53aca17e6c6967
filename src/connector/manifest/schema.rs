//! JSON Schemas in a manifest: their words, and those of the vocabulary beyond them.

use serde_json::Value as Json;

use super::place::Place;
use crate::connector::notes::Notes;
use crate::diag::Code;
use crate::diag::did_you_mean;
use crate::text::Count;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// The words that a schema may use; what is not here would be ignored in silence.
const WORDS: &[&str] = &[
    "type",
    "title",
    "description",
    "properties",
    "required",
    "dependentRequired",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "default",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
    "format",
    "examples",
    "oneOf",
    "anyOf",
    "count",
    "media_types",
    "maxBytes",
    "deliver",
    "maxHashtags",
    "maxMentions",
    "maxCashtags",
    "maxLinks",
    "links",
    "maxJoined",
    "alone",
    "excludes",
    "beside",
];
/// Those that are counts.
const COUNTED: &[&str] = &["maxHashtags", "maxMentions", "maxCashtags", "maxLinks", "maxJoined"];
const TYPES: &[&str] = &[
    "string", "integer", "number", "boolean", "object", "array", "null", "blob", "secret", "decimal", "money", "date",
    "datetime", "duration",
];

/// Reads a schema. An object is implied where `properties` or `required` stand without a `type`.
pub(in crate::connector) fn read_schema(tree: &Tree, place: &Place<'_>, notes: &mut Notes) -> Json {
    check(tree, place, notes, 0);
    to_json(tree)
}

fn check(tree: &Tree, place: &Place<'_>, notes: &mut Notes, depth: usize) {
    if depth > 64 || matches!(tree.as_text(), Some("true" | "false")) || !notes.keys(tree, WORDS) {
        return;
    }
    for entry in tree.entries() {
        let value = &entry.value;
        // Values may depend on the connection: `maxLength: "{{ config.max_length }}"`.
        let computed = value.as_text().is_some_and(|text| text.contains("{{"));
        if computed {
            place.template(value, notes);
            continue;
        }
        match &*entry.key {
            "type" => check_type(value, notes),
            "properties" if notes.mapping(value) => {
                value.entries().iter().for_each(|property| check(&property.value, place, notes, depth + 1));
            }
            "items" | "additionalProperties" => check(value, place, notes, depth + 1),
            "oneOf" | "anyOf" if notes.sequence(value) => {
                value.items().iter().for_each(|item| check(item, place, notes, depth + 1));
            }
            "required" | "enum" | "media_types" | "examples" | "alone" | "excludes" => drop(notes.sequence(value)),
            "count" if value.as_text().and_then(Count::by_name).is_none() => {
                notes.wrong(value, "one of `chars`, `utf16`, `bytes`, `twitter`");
            }
            "links" if !matches!(value.as_text(), Some("live" | "plain")) => {
                notes.wrong(value, "`live` or `plain`");
            }
            word if COUNTED.contains(&word) && !is_number(value) => {
                notes.wrong(value, "a whole number, 0 or more");
            }
            "maxBytes" => check_bytes(value, place, notes),
            "beside" if notes.mapping(value) => {
                value.entries().iter().for_each(|other| check_beside(&other.value, notes));
            }
            "dependentRequired" if notes.mapping(value) => {
                for entry in value.entries() {
                    notes.sequence(&entry.value);
                }
            }
            _ => {}
        }
    }
    required_exist(tree, notes);
}

/// How large a file may be: a number, or one for each media type, `{ "video/*": 536870912 }`.
fn check_bytes(tree: &Tree, place: &Place<'_>, notes: &mut Notes) {
    if !matches!(tree.kind, TreeKind::Mapping(_)) {
        if !is_number(tree) {
            notes.wrong(tree, "a number of bytes, or one for each media type");
        }
        return;
    }
    for entry in tree.entries() {
        if entry.value.as_text().is_some_and(|text| text.contains("{{")) {
            place.template(&entry.value, notes);
        } else if !is_number(&entry.value) {
            notes.wrong(&entry.value, "a number of bytes");
        }
    }
}

/// What of a list a property goes with: `{ maxItems: 1, media_types: [image/*] }`.
fn check_beside(tree: &Tree, notes: &mut Notes) {
    if !notes.keys(tree, &["maxItems", "media_types"]) {
        return;
    }
    if let Some(most) = tree.get("maxItems").filter(|most| !is_number(most)) {
        notes.wrong(most, "a whole number, 0 or more");
    }
    if let Some(kinds) = tree.get("media_types") {
        notes.sequence(kinds);
    }
}

fn is_number(tree: &Tree) -> bool {
    tree.as_text().is_some_and(|text| text.parse::<u64>().is_ok())
}

fn check_type(tree: &Tree, notes: &mut Notes) {
    let single = std::slice::from_ref(tree);
    let items = if matches!(tree.kind, TreeKind::Sequence(_)) { tree.items() } else { single };
    for item in items {
        let text = item.as_text().unwrap_or_default();
        // YAML reads the word `null` as nothing, which is meant here.
        if !TYPES.contains(&text) {
            let near = did_you_mean(text, TYPES.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            notes.wrong(item, "a type such as `string` or `integer`").help = near;
        }
    }
}

fn required_exist(tree: &Tree, notes: &mut Notes) {
    let Some(properties) = tree.get("properties") else { return };
    let required = tree.get("required").map(Tree::items).unwrap_or_default();
    let dependent = tree.get("dependentRequired").map(Tree::entries).unwrap_or_default();
    for item in required.iter().chain(dependent.iter().flat_map(|entry| entry.value.items())) {
        let Some(name) = item.as_text().filter(|name| properties.get(name).is_none()) else { continue };
        let known = properties.entries().iter().map(|entry| &*entry.key);
        let near = did_you_mean(name, known).map(|near| format!("did you mean `{near}`?"));
        let message = format!("`required` names `{name}`, which is no property");
        notes.error(Code::UnknownName, &item.span, message).help = near;
    }
}

/// Tells whether words of a schema depend on the connection.
pub(super) fn is_computed(schema: &Json) -> bool {
    match schema {
        Json::String(text) => text.contains("{{"),
        Json::Array(items) => items.iter().any(is_computed),
        Json::Object(map) => map.values().any(is_computed),
        _ => false,
    }
}

/// Makes JSON of a tree; an object that does not say so is one.
fn to_json(tree: &Tree) -> Json {
    let mut json = plain(tree);
    imply(&mut json);
    json
}

fn plain(tree: &Tree) -> Json {
    let text = tree.to_value().to_string();
    serde_json::from_str(&text).unwrap_or(Json::Null)
}

fn imply(json: &mut Json) {
    let Json::Object(schema) = json else { return };
    let is_object = schema.contains_key("properties") || schema.contains_key("required");
    if is_object && !schema.contains_key("type") {
        schema.insert("type".to_owned(), "object".into());
    }
    for (key, value) in schema.iter_mut() {
        match (key.as_str(), value) {
            ("properties", Json::Object(properties)) => properties.values_mut().for_each(imply),
            ("items" | "additionalProperties", value) => imply(value),
            ("oneOf" | "anyOf", Json::Array(items)) => items.iter_mut().for_each(imply),
            _ => {}
        }
    }
}
