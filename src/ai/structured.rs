//! Answers by a JSON Schema: read from a model's text, held against the schema, mended by asking again.

use serde_json::Value as Json;

use crate::model::Value;
use crate::model::parse_json;

/// The most faults that a model is told at once; more confuse it.
const MOST_FAULTS: usize = 8;

/// Reads the value that a model's text holds: the text itself, else what stands in its fence, else its outermost object
/// or list. Models that no schema binds write around it.
///
/// # Errors
/// Why there is no JSON in it.
pub fn read(text: &str) -> Result<Value, String> {
    let whole = text.trim();
    let failed = match parse_json(whole) {
        Ok(value) => return Ok(value),
        Err(error) => format!("the answer is no JSON: {error}"),
    };
    let fenced = fenced(whole).and_then(|inner| parse_json(inner.trim()).ok());
    fenced.or_else(|| outermost(whole).and_then(|inner| parse_json(inner).ok())).ok_or(failed)
}

/// Returns what stands between the first pair of fences.
fn fenced(text: &str) -> Option<&str> {
    let (_, behind) = text.split_once("```")?;
    let (_, body) = behind.split_once('\n')?;
    body.split_once("```").map(|(inner, _)| inner)
}

fn outermost(text: &str) -> Option<&str> {
    let start = text.find(['{', '['])?;
    let closing = if text.get(start..)?.starts_with('{') { '}' } else { ']' };
    let end = text.rfind(closing)?;
    text.get(start..=end)
}

/// Says what of a value does not fit a schema, each with its place; nothing where it fits.
///
/// # Errors
/// The schema is none.
pub fn faults(schema: &Json, value: &Value) -> Result<Vec<String>, String> {
    let validator = jsonschema::validator_for(schema).map_err(|error| format!("the schema is none: {error}"))?;
    let instance: Json = serde_json::from_str(&value.revealed().to_string()).map_err(|error| error.to_string())?;
    let told = validator.iter_errors(&instance).take(MOST_FAULTS).map(|error| {
        let place = error.instance_path().to_string();
        let place = if place.is_empty() { "the whole".to_owned() } else { format!("`{place}`") };
        format!("{place}: {error}")
    });
    Ok(told.collect())
}

/// Tells whether a schema is what providers enforce to the letter: every object is closed and requires all that it has.
#[must_use]
pub fn is_strict(schema: &Json) -> bool {
    match schema {
        Json::Object(map) => {
            let sound = match map.get("properties").and_then(Json::as_object) {
                None => true,
                Some(properties) => {
                    let required = map.get("required").and_then(Json::as_array);
                    let is_required = |key: &str| required.is_some_and(|it| it.iter().any(|own| own == key));
                    map.get("additionalProperties") == Some(&Json::Bool(false))
                        && properties.keys().all(|key| is_required(key))
                }
            };
            sound && map.values().all(is_strict)
        }
        Json::Array(items) => items.iter().all(is_strict),
        _ => true,
    }
}

/// What a model is told that knows no schemas of its own.
#[must_use]
pub fn instruction(schema: &Json) -> String {
    format!(
        "Answer with one JSON value and nothing else: no words around it, no fence. It must fit this JSON Schema:\n{schema}"
    )
}

/// What a model is told whose answer does not fit.
#[must_use]
pub fn repair(faults: &[String]) -> String {
    let listed: Vec<String> = faults.iter().map(|fault| format!("- {fault}")).collect();
    format!(
        "That answer does not fit the JSON Schema:\n{}\nAnswer again with the whole JSON value, mended, and nothing else.",
        listed.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_value_is_found_in_what_models_write_around_it() {
        let plain = read(r#"{"a": 1.10}"#).unwrap();
        assert_eq!(plain.to_string(), r#"{"a":1.10}"#);
        for text in [
            " {\"a\": 1.10} \n",
            "```json\n{\"a\": 1.10}\n```",
            "Here it is:\n```\n{\"a\": 1.10}\n```\nGood luck!",
            "Sure! {\"a\": 1.10} is it.",
        ] {
            assert_eq!(read(text).unwrap(), plain, "{text}");
        }
        assert_eq!(read("the list [1, 2] it is").unwrap().to_string(), "[1,2]");
        for text in ["", "no", "{\"a\": ", "} {", "```", "]["] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn faults_have_their_places() {
        let schema = json!({ "type": "object", "required": ["score", "why"], "properties": { "score": { "type": "integer", "maximum": 5 } } });
        let told = faults(&schema, &read(r#"{"score": 7}"#).unwrap()).unwrap();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().any(|fault| fault.starts_with("`/score`: ")), "{told:?}");
        assert!(told.iter().any(|fault| fault.contains("why")), "{told:?}");
        assert!(faults(&schema, &read(r#"{"score": 5, "why": "x"}"#).unwrap()).unwrap().is_empty());
        assert!(faults(&json!({ "type": 7 }), &Value::Null).is_err());
    }

    #[test]
    fn exact_numbers_stay_exact_when_they_are_checked() {
        let schema = json!({ "type": "number", "maximum": 0.3 });
        assert!(faults(&schema, &read("0.3").unwrap()).unwrap().is_empty());
        assert_eq!(faults(&schema, &read("0.30000001").unwrap()).unwrap().len(), 1);
    }

    #[test]
    fn strict_is_what_providers_enforce() {
        let inner =
            json!({ "type": "object", "properties": { "a": {} }, "required": ["a"], "additionalProperties": false });
        assert!(is_strict(&inner));
        assert!(is_strict(&json!({ "type": "array", "items": inner })));
        assert!(!is_strict(&json!({ "type": "object", "properties": { "a": {} }, "required": ["a"] })));
        assert!(!is_strict(&json!({ "type": "object", "properties": { "a": {} }, "additionalProperties": false })));
        assert!(!is_strict(&json!({ "anyOf": [ { "properties": { "a": {} } } ] })));
    }
}
