//! The schemas of a manifest at work: an input is completed from its schema and checked against it.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::model::Map;
use crate::model::Value;
use crate::model::compare;
use crate::model::parse_json;
use crate::model::parse_number;
use crate::template::Scope;
use crate::template::Template;
use crate::text::Count;
use crate::text::Measure;
use crate::text::count_text;
use crate::text::fits_media;
use crate::text::joined;
use crate::text::media_type;
use crate::text::media_type_of;
use crate::text::most_bytes;
use crate::text::not_beside;
use crate::text::wrong_kind;

/// How deep a value is looked at.
const MAX_DEPTH: usize = 64;

/// What is wrong with a value: where, as a path from the input, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub path: String,
    pub message: String,
}

/// Completes an object from its schema: a declared property that is not given is its default, or null. Null is not given where
/// there is a default and the schema does not name null itself.
#[must_use]
pub fn completed(schema: &Json, value: Value) -> Value {
    let Some(properties) = schema.get("properties").and_then(Json::as_object) else { return value };
    let given = match &value {
        Value::Map(map) => Some(map),
        Value::Null => None,
        _ => return value,
    };
    let missing = |map: &Map, key: &str, property: &Json| match map.get(key) {
        None => true,
        Some(Value::Null) => property.get("default").is_some() && !takes_null(property),
        Some(_) => false,
    };
    if given.is_some_and(|map| !properties.iter().any(|(key, property)| missing(map, key, property))) {
        return value;
    }
    let mut map = given.map_or_else(Map::new, |map| Map::clone(map));
    for (key, property) in properties {
        if missing(&map, key, property) {
            let default = property.get("default").map(|default| parse_json(&default.to_string()).unwrap_or_default());
            map.insert(key.as_str().into(), default.unwrap_or_default());
        }
    }
    Value::from(map)
}

/// Tells whether a schema names null among what it takes.
fn takes_null(schema: &Json) -> bool {
    let named = |key: &str, null: &Json| match schema.get(key) {
        Some(Json::Array(all)) => all.contains(null),
        Some(one) => one == null,
        None => false,
    };
    named("type", &Json::from("null")) || named("enum", &Json::Null)
}

/// Computes the words of a schema that depend on the connection.
#[must_use]
pub fn computed(schema: &Json, scope: &Scope) -> Json {
    match schema {
        Json::String(text) if text.contains("{{") => {
            let value = Template::parse(text).ok().and_then(|template| template.eval(scope).ok());
            value.and_then(|value| serde_json::from_str(&value.revealed().to_string()).ok()).unwrap_or(Json::Null)
        }
        Json::Array(items) => Json::Array(items.iter().map(|item| computed(item, scope)).collect()),
        Json::Object(map) => {
            Json::Object(map.iter().map(|(key, value)| (key.clone(), computed(value, scope))).collect())
        }
        other => other.clone(),
    }
}

/// Checks a value, and says everything that is wrong. `partial` lets nulls pass: what is not known yet.
#[must_use]
pub fn check(schema: &Json, value: &Value, partial: bool) -> Vec<Fault> {
    let mut checking = Checking { faults: Vec::new(), partial };
    checking.value(schema, value, &mut String::from("input"), 0);
    checking.faults
}

struct Checking {
    faults: Vec<Fault>,
    partial: bool,
}

impl Checking {
    fn fault(&mut self, path: &str, message: String) {
        self.faults.push(Fault { path: path.to_owned(), message });
    }

    fn value(&mut self, schema: &Json, value: &Value, path: &mut String, depth: usize) {
        let revealed;
        let value = match value {
            Value::Secret(inner) => {
                revealed = Value::clone(inner);
                &revealed
            }
            value => value,
        };
        let Some(schema) = schema.as_object().filter(|_| depth < MAX_DEPTH) else { return };
        if value.is_null() && self.partial {
            return;
        }
        if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
            let fits = |choice: &Json| {
                let mut trial = Self { faults: Vec::new(), partial: self.partial };
                trial.value(choice, value, &mut path.clone(), depth + 1);
                trial.faults.is_empty()
            };
            if !choices.iter().any(fits) {
                self.fault(path, "fits none of what is allowed here".to_owned());
            }
        }
        if !self.kind(schema.get("type"), value, path) {
            return;
        }
        self.words(schema, value, path);
        self.length(schema, value, path);
        self.range(schema, value, path);
        match value {
            Value::Map(map) => self.object(schema, map, path, depth),
            Value::List(items) => self.items(schema, items, path, depth),
            Value::Blob(blob) => self.blob(schema, blob, path),
            _ => {}
        }
    }

    fn kind(&mut self, kinds: Option<&Json>, value: &Value, path: &str) -> bool {
        let kinds: Vec<&str> = match kinds {
            Some(Json::String(kind)) => vec![kind],
            Some(Json::Array(kinds)) => kinds.iter().filter_map(Json::as_str).collect(),
            _ => return true,
        };
        if kinds.iter().any(|kind| is_kind(kind, value)) {
            return true;
        }
        self.fault(path, format!("expected {}, found {}", kinds.join(" or "), value.kind().name()));
        false
    }

    fn words(&mut self, schema: &serde_json::Map<String, Json>, value: &Value, path: &str) {
        let same = |word: &Json| {
            let word = parse_json(&word.to_string()).unwrap_or_default();
            word == *value || compare(&word, value).is_ok_and(std::cmp::Ordering::is_eq)
        };
        if let Some(words) = schema.get("enum").and_then(Json::as_array).filter(|words| !words.iter().any(same)) {
            let listed = words.iter().map(|word| format!("`{}`", plain(word))).collect::<Vec<_>>().join(", ");
            self.fault(path, format!("expected one of {listed}, found `{}`", value.to_text()));
        }
        if let Some(word) = schema.get("const").filter(|word| !same(word)) {
            self.fault(path, format!("expected `{}`, found `{}`", plain(word), value.to_text()));
        }
    }

    fn length(&mut self, schema: &serde_json::Map<String, Json>, value: &Value, path: &str) {
        let number = |key: &str| schema.get(key).and_then(|bound| plain(bound).parse::<usize>().ok());
        match value {
            Value::String(text) => {
                self.pattern(schema, text, path);
                let allowed = schema.get("media_types").and_then(Json::as_array).into_iter().flatten();
                let allowed: Vec<&str> = allowed.filter_map(Json::as_str).collect();
                if let Some(fault) = wrong_kind(&allowed, media_type_of(text)) {
                    self.fault(path, fault);
                }
                for fault in Measure::of(schema).faults(text) {
                    self.fault(path, fault);
                }
            }
            Value::List(items) => {
                let length = items.len();
                if let Some(most) = number("maxItems").filter(|most| length > *most) {
                    self.fault(path, format!("has {length} items, at most {most} are allowed"));
                }
                if let Some(least) = number("minItems").filter(|least| length < *least) {
                    self.fault(path, format!("has {length} items, at least {least} are needed"));
                }
                self.together(schema, items, path);
            }
            _ => {}
        }
    }

    /// Checks what is said of the items of a list together.
    fn together(&mut self, schema: &serde_json::Map<String, Json>, items: &[Value], path: &str) {
        if let Some(most) = schema.get("maxJoined").and_then(|most| plain(most).parse::<usize>().ok()) {
            let count = schema.get("count").and_then(Json::as_str).and_then(Count::by_name).unwrap_or_default();
            let length = count_text(&joined(items.iter().filter_map(Value::as_str)), count);
            if length > most {
                self.fault(path, format!("has {length} {} in one line, at most {most} are allowed", count.unit()));
            }
        }
        let alone: Vec<&str> =
            schema.get("alone").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect();
        if items.len() < 2 || alone.is_empty() {
            return;
        }
        for (index, item) in items.iter().enumerate() {
            let kind = media_type(item).filter(|kind| alone.iter().any(|alone| fits_media(alone, kind)));
            if let Some(kind) = kind {
                self.fault(&format!("{path}[{index}]"), format!("is `{kind}`, which stands alone"));
            }
        }
    }

    fn pattern(&mut self, schema: &serde_json::Map<String, Json>, text: &str, path: &str) {
        let Some(pattern) = schema.get("pattern").and_then(Json::as_str) else { return };
        if regex_lite::Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text)) {
            self.fault(path, format!("does not match `{pattern}`"));
        }
    }

    fn range(&mut self, schema: &serde_json::Map<String, Json>, value: &Value, path: &str) {
        use std::cmp::Ordering;
        type Allowed = fn(Ordering) -> bool;
        let bounds: [(&str, &str, Allowed); 4] = [
            ("minimum", "at least", Ordering::is_ge),
            ("maximum", "at most", Ordering::is_le),
            ("exclusiveMinimum", "more than", Ordering::is_gt),
            ("exclusiveMaximum", "less than", Ordering::is_lt),
        ];
        for (key, word, allowed) in bounds {
            let Some(bound) = schema.get(key).and_then(|bound| parse_number(&plain(bound))) else { continue };
            if compare(value, &bound).is_ok_and(|order| !allowed(order)) {
                self.fault(path, format!("expected {word} {bound}, found {}", value.to_text()));
            }
        }
    }

    fn object(&mut self, schema: &serde_json::Map<String, Json>, map: &Map, path: &mut String, depth: usize) {
        let required = schema.get("required").and_then(Json::as_array);
        for key in required.into_iter().flatten().filter_map(Json::as_str) {
            if map.get(key).is_none_or(Value::is_null) && !self.partial {
                self.fault(path, format!("`{key}` is missing"));
            }
        }
        let has = |key: &str| map.get(key).is_some_and(|value| !value.is_null());
        let dependent = schema.get("dependentRequired").and_then(Json::as_object).filter(|_| !self.partial);
        for (key, needed) in dependent.into_iter().flatten().filter(|(key, _)| has(key)) {
            let needed = needed.as_array().into_iter().flatten().filter_map(Json::as_str);
            for missing in needed.filter(|needed| !has(needed)) {
                self.fault(path, format!("`{missing}` is missing, which `{key}` needs"));
            }
        }
        let properties = schema.get("properties").and_then(Json::as_object);
        for (key, property) in properties.into_iter().flatten().filter(|(key, _)| has(key)) {
            let others = property.get("excludes").and_then(Json::as_array).into_iter().flatten();
            for other in others.filter_map(Json::as_str).filter(|other| has(other)) {
                self.fault(&format!("{path}.{key}"), format!("does not go with `{other}`"));
            }
            for (other, word) in property.get("beside").and_then(Json::as_object).into_iter().flatten() {
                let told = map.get(other.as_str()).and_then(Value::as_list).and_then(|items| not_beside(word, items));
                if let Some(told) = told {
                    self.fault(&format!("{path}.{key}"), format!("does not go with this `{other}`: it {told}"));
                }
            }
        }
        let rest = schema.get("additionalProperties");
        for (key, value) in map {
            let length = path.len();
            path.push('.');
            path.push_str(key);
            match (properties.and_then(|properties| properties.get(&**key)), rest) {
                // What is optional and not given is null after completion.
                (Some(_), _) if value.is_null() => {}
                (Some(property), _) => self.value(property, value, path, depth + 1),
                (None, Some(Json::Bool(false))) => self.fault(path, "is not known here".to_owned()),
                (None, Some(rest)) => self.value(rest, value, path, depth + 1),
                (None, None) if properties.is_some() && depth == 0 => self.fault(path, "is not known here".to_owned()),
                (None, None) => {}
            }
            path.truncate(length);
        }
    }

    fn items(&mut self, schema: &serde_json::Map<String, Json>, items: &[Value], path: &mut String, depth: usize) {
        let Some(inner) = schema.get("items") else { return };
        for (index, item) in items.iter().enumerate() {
            let length = path.len();
            path.push_str(&format!("[{index}]"));
            self.value(inner, item, path, depth + 1);
            path.truncate(length);
        }
    }

    fn blob(&mut self, schema: &serde_json::Map<String, Json>, blob: &crate::model::Blob, path: &str) {
        if let Some(most) =
            most_bytes(schema.get("maxBytes"), blob.media_type.as_deref()).filter(|most| blob.size > *most)
        {
            self.fault(path, format!("has {} bytes, at most {most} are allowed", blob.size));
        }
        if schema.get("deliver").and_then(Json::as_str) == Some("url") {
            // What is sent instead would be our handle, which means nothing to anybody else.
            self.fault(path, "is wanted as a public URL, and there is no server here that could lend one".to_owned());
        }
        let allowed = schema.get("media_types").and_then(Json::as_array).into_iter().flatten();
        let allowed: Vec<&str> = allowed.filter_map(Json::as_str).collect();
        if let Some(fault) = wrong_kind(&allowed, blob.media_type.as_deref()) {
            self.fault(path, fault);
        }
    }
}

fn plain(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), str::to_owned)
}

fn is_kind(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => matches!(value, Value::Bool(_)),
        "integer" => matches!(value, Value::Int(_)),
        "number" | "decimal" => {
            matches!(value, Value::Int(_) | Value::Decimal(_) | Value::Number(_) | Value::Float(_))
                || kind == "decimal" && value.as_str().is_some_and(|text| parse_number(text).is_some())
        }
        "string" | "secret" => {
            matches!(value, Value::String(_) | Value::Time(_) | Value::Money(_) | Value::Duration(_))
        }
        "array" => matches!(value, Value::List(_)),
        "object" => matches!(value, Value::Map(_)),
        "blob" => matches!(value, Value::Blob(_)),
        "money" => {
            matches!(value, Value::Money(_))
                || value.as_str().is_some_and(|text| text.parse::<crate::model::Money>().is_ok())
        }
        "datetime" => {
            matches!(value, Value::Time(_))
                || value.as_str().is_some_and(|text| text.parse::<crate::model::Timestamp>().is_ok())
        }
        "duration" => {
            matches!(value, Value::Duration(_))
                || value.as_str().is_some_and(|text| text.parse::<crate::model::Duration>().is_ok())
        }
        "date" => value.as_str().is_some_and(|text| text.parse::<jiff::civil::Date>().is_ok()),
        _ => true,
    }
}

/// Words beyond JSON Schema, which nobody else would understand.
const BEYOND: [&str; 13] = [
    "excludes",
    "beside",
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
];

/// Returns the schema as JSON Schema alone, for the checker and for editors: the words beyond it become what is nearest.
#[must_use]
pub fn standard(schema: &Json) -> Json {
    match schema {
        Json::Object(map) => {
            let mut plain = serde_json::Map::new();
            for (key, value) in map {
                match key.as_str() {
                    word if BEYOND.contains(&word) => {}
                    "properties" => {
                        let properties = value.as_object().into_iter().flatten();
                        let properties = properties.map(|(name, property)| (name.clone(), standard(property)));
                        plain.insert(key.clone(), Json::Object(properties.collect()));
                    }
                    "items" | "additionalProperties" | "oneOf" | "anyOf" => {
                        plain.insert(key.clone(), standard(value));
                    }
                    "type" => {
                        if let Some(kind) = standard_type(value) {
                            plain.insert(key.clone(), kind);
                        }
                    }
                    // What depends on the connection is checked when it is known.
                    _ if value.as_str().is_some_and(|text| text.contains("{{")) => {}
                    _ => drop(plain.insert(key.clone(), value.clone())),
                }
            }
            Json::Object(plain)
        }
        Json::Array(items) => Json::Array(items.iter().map(standard).collect()),
        other => other.clone(),
    }
}

/// Says of every object that its declared members are all that it has, unless it says otherwise.
pub fn close(schema: &mut Json) {
    match schema {
        Json::Object(map) => {
            if map.contains_key("properties") {
                map.entry("additionalProperties").or_insert(Json::Bool(false));
            }
            map.values_mut().for_each(close);
        }
        Json::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Kinds that JSON Schema does not know fit anything in the checker: they are checked when the value is there.
fn standard_type(kind: &Json) -> Option<Json> {
    let known = |kind: &Json| {
        let name = kind.as_str().unwrap_or_default();
        ["string", "integer", "number", "boolean", "object", "array", "null"].contains(&name)
    };
    match kind {
        Json::String(name) if name == "secret" => Some("string".into()),
        Json::Array(kinds) if kinds.iter().all(known) => Some(kind.clone()),
        Json::Array(_) => None,
        kind if known(kind) => Some(kind.clone()),
        _ => None,
    }
}

/// Puts `kind`s of secrets in: what a schema calls secret is masked wherever it shows.
#[must_use]
pub fn with_secrets(schema: &Json, value: Value) -> Value {
    if schema.get("type").and_then(Json::as_str) == Some("secret") {
        return value.tainted();
    }
    match (&value, schema.get("properties").and_then(Json::as_object), schema.get("items")) {
        (Value::Map(map), Some(properties), _) => {
            let entries = map.iter().map(|(key, value)| {
                let value = value.clone();
                let value = match properties.get(&**key) {
                    Some(property) => with_secrets(property, value),
                    None => value,
                };
                (Arc::clone(key), value)
            });
            Value::map(entries.collect::<Vec<_>>())
        }
        (Value::List(items), _, Some(inner)) => {
            Value::list(items.iter().map(|item| with_secrets(inner, item.clone())).collect())
        }
        _ => value,
    }
}

/// Tells whether a schema names a secret anywhere.
#[must_use]
pub fn has_secrets(schema: &Json) -> bool {
    match schema {
        Json::Object(map) => map.get("type").and_then(Json::as_str) == Some("secret") || map.values().any(has_secrets),
        Json::Array(items) => items.iter().any(has_secrets),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(schema: &str, value: &str, partial: bool) -> String {
        let schema = serde_json::from_str(schema).unwrap();
        let value = completed(&schema, parse_json(value).unwrap());
        let faults = check(&schema, &value, partial);
        faults.into_iter().map(|fault| format!("{} {}", fault.path, fault.message)).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_path() {
        let schema = r#"{"type":"object","required":["text"],"properties":{
            "text":{"type":"string","maxLength":5},"n":{"type":"integer","minimum":1,"maximum":3},
            "kind":{"enum":["a","b"]},"tags":{"type":"array","maxItems":1,"items":{"type":"string"}},
            "deep":{"type":"object","properties":{"x":{"type":"boolean"}}},"amount":{"type":"decimal"}}}"#;
        let cases = [
            (r#"{"text":"hello"}"#, ""),
            ("{}", "input `text` is missing"),
            (r#"{"text":"hello!"}"#, "input.text has 6 characters, at most 5 are allowed"),
            (r#"{"text":5}"#, "input.text expected string, found integer"),
            (r#"{"text":"a","n":4}"#, "input.n expected at most 3, found 4"),
            (r#"{"text":"a","n":1.5}"#, "input.n expected integer, found decimal"),
            (r#"{"text":"a","kind":"c"}"#, "input.kind expected one of `a`, `b`, found `c`"),
            (
                r#"{"text":"a","tags":["x",1]}"#,
                "input.tags has 2 items, at most 1 are allowed; input.tags[1] expected string, found integer",
            ),
            (r#"{"text":"a","deep":{"x":1}}"#, "input.deep.x expected boolean, found integer"),
            (r#"{"text":"a","deep":{"y":1}}"#, ""),
            (r#"{"text":"a","other":1}"#, "input.other is not known here"),
            (r#"{"text":"a","amount":"1.10"}"#, ""),
            (r#"{"text":"a","amount":"x"}"#, "input.amount expected decimal, found string"),
            (r#"{"text":"a","n":null}"#, ""),
        ];
        for (value, expected) in cases {
            assert_eq!(show(schema, value, false), expected, "{value}");
        }
        assert_eq!(show(schema, r#"{"text":null}"#, true), "");
    }

    #[test]
    fn a_file_is_held_against_what_is_said_of_it() {
        let file = |schema: &str| {
            let schema = serde_json::from_str(schema).unwrap();
            let blob = crate::model::Blob {
                address: "sha256:0".to_owned(),
                size: 9,
                offset: None,
                media_type: Some("image/png".to_owned()),
                file_name: None,
            };
            let faults = check(&schema, &Value::Blob(std::sync::Arc::new(blob)), false);
            faults.into_iter().map(|fault| fault.message).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(file(r#"{"type":"blob","media_types":["image/*"],"maxBytes":9,"deliver":"bytes"}"#), "");
        assert_eq!(file(r#"{"type":"blob","maxBytes":8}"#), "has 9 bytes, at most 8 are allowed");
        assert_eq!(file(r#"{"media_types":["image/jpeg"]}"#), "is `image/png`, and only image/jpeg is taken");
        let told = "is wanted as a public URL, and there is no server here that could lend one";
        assert_eq!(file(r#"{"type":"blob","deliver":"url"}"#), told);
    }

    #[test]
    fn an_address_and_what_stands_beside_media_are_held_against_what_is_said_of_them() {
        let schema = r#"{"properties":{"link":{"beside":{"media":{"maxItems":1,"media_types":["image/*"]}}},
            "media":{"type":"array","items":{"properties":{"url":{"type":"string","media_types":["image/jpeg","video/mp4"]}}}}}}"#;
        let of = |value: &str| show(schema, value, true);
        assert_eq!(of(r#"{"link":"l","media":[{"url":"https://e.com/a.jpg"}]}"#), "");
        assert_eq!(of(r#"{"media":[{"url":"https://e.com/a"},{"url":"https://e.com/a.mp4?b=1"}]}"#), "");
        let told = "input.media[0].url is `image/png`, and only image/jpeg, video/mp4 is taken";
        assert_eq!(of(r#"{"media":[{"url":"https://e.com/a.png"}]}"#), told);
        let told = "input.link does not go with this `media`: it goes with image/* only, and one is `video/mp4`";
        assert_eq!(of(r#"{"link":"l","media":[{"url":"https://e.com/a.mp4"}]}"#), told);
    }

    #[test]
    fn an_input_is_completed_from_its_schema() {
        let schema = serde_json::from_str(r#"{ "properties": { "a": { "default": 1.10 }, "b": {} } }"#).unwrap();
        assert_eq!(completed(&schema, Value::Null).to_string(), r#"{"a":1.10,"b":null}"#);
        let given = parse_json(r#"{"b":2}"#).unwrap();
        assert_eq!(completed(&schema, given).to_string(), r#"{"b":2,"a":1.10}"#);
    }
}
