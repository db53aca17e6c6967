//! A value that fits a JSON Schema, made of the words of a question.

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::list;
use super::pattern;
use super::text;
use super::words::hash;
use super::words::pick;
use crate::model::Map;
use crate::model::Value;

/// How deep optional members are filled in; what refers to itself ends there.
const DEEP: usize = 4;
/// How deep a schema is followed at all.
const DEEPEST: usize = 16;
/// How far a number is from its least value, where nothing else binds it.
const SPAN: i64 = 9;

/// What values are made of.
#[derive(Debug)]
pub(super) struct Source<'s> {
    pub words: &'s [&'s str],
    pub seed: u64,
}

/// Makes a value that fits the schema.
pub(super) fn fit(schema: &Value, source: &Source<'_>) -> Value {
    Fitter { root: schema, source }.value(schema, "$", 0)
}

struct Fitter<'s> {
    root: &'s Value,
    source: &'s Source<'s>,
}

impl Fitter<'_> {
    /// A number for a place in the value; the same place gets the same one.
    fn number(&self, path: &str) -> u64 {
        hash(self.source.seed, path)
    }

    fn value(&self, schema: &Value, path: &str, depth: usize) -> Value {
        let schema = &self.resolved(schema, path, depth);
        if depth > DEEPEST {
            return Value::Null;
        }
        if let Some(constant) = schema.get("const") {
            return constant.clone();
        }
        if let Some(options) = schema.get("enum").and_then(Value::as_list) {
            return self.option(options, path);
        }
        match kind(schema, depth) {
            "object" => self.object(schema, path, depth),
            "array" => self.array(schema, path, depth),
            "integer" => self.integer(schema, path),
            "number" => self.decimal(schema, path),
            "boolean" => Value::Bool(self.number(path).is_multiple_of(2)),
            "null" => Value::Null,
            _ => self.string(schema, path).into(),
        }
    }

    /// Follows references, takes one of several alternatives, and lays together what must all hold.
    fn resolved(&self, schema: &Value, path: &str, depth: usize) -> Value {
        let mut found = schema.clone();
        for _ in 0..DEEPEST {
            let laid = if let Some(target) = text(&found, "$ref") {
                self.target(target).unwrap_or_default()
            } else if let Some(parts) = found.get("allOf").and_then(Value::as_list) {
                parts
                    .iter()
                    .fold(Value::map::<&str>([]), |sum, part| laid_over(&sum, &self.resolved(part, path, depth + 1)))
            } else {
                let options = [list(&found, "anyOf"), list(&found, "oneOf")].concat();
                let Some(option) = self.alternative(&options, path, depth) else { break };
                option
            };
            if depth > DEEPEST {
                break;
            }
            let rest: Map = found
                .as_map()
                .into_iter()
                .flatten()
                .filter(|(key, _)| !matches!(&***key, "$ref" | "allOf" | "anyOf" | "oneOf"))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            found = laid_over(&laid, &rest.into());
        }
        found
    }

    fn target(&self, reference: &str) -> Option<Value> {
        let pointer = reference.strip_prefix('#')?;
        let keys = pointer.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~"));
        keys.into_iter().try_fold(self.root.clone(), |value, key| match &value {
            Value::List(items) => items.get(key.parse::<usize>().ok()?).cloned(),
            value => value.get(&key).cloned(),
        })
    }

    /// Takes the first alternative that is something; deep down the one that is nothing, so that it ends.
    fn alternative(&self, options: &[Value], path: &str, depth: usize) -> Option<Value> {
        let is_null = |option: &&Value| text(option, "type") == Some("null");
        if depth > DEEP
            && let Some(null) = options.iter().find(is_null)
        {
            return Some(null.clone());
        }
        let some: Vec<&Value> = options.iter().filter(|option| !is_null(option)).collect();
        let all = || options.first();
        pick(&some, self.number(path)).copied().or_else(all).cloned()
    }

    /// Takes the option that the question names, or any.
    fn option(&self, options: &[Value], path: &str) -> Value {
        let named = |option: &&Value| {
            option.as_str().is_some_and(|it| self.source.words.iter().any(|word| word.eq_ignore_ascii_case(it)))
        };
        options.iter().find(named).or_else(|| pick(options, self.number(path))).cloned().unwrap_or_default()
    }

    fn object(&self, schema: &Value, path: &str, depth: usize) -> Value {
        let mut map = Map::new();
        let required: Vec<&str> = list(schema, "required").iter().filter_map(Value::as_str).collect();
        for (key, inner) in schema.get("properties").and_then(Value::as_map).into_iter().flatten() {
            if depth <= DEEP || required.contains(&&**key) {
                map.insert(key.clone(), self.value(inner, &format!("{path}.{key}"), depth + 1));
            }
        }
        let others = schema.get("additionalProperties");
        let other = others
            .filter(|it| it.as_map().is_some())
            .cloned()
            .unwrap_or_else(|| Value::map([("type", "string".into())]));
        for key in required {
            if !map.contains_key(key) {
                map.insert(key.into(), self.value(&other, &format!("{path}.{key}"), depth + 1));
            }
        }
        // A map of anything has at least one entry, unless it may have none but those it names.
        let least = size(schema, "minProperties")
            .unwrap_or(usize::from(map.is_empty() && others.is_some_and(|it| it.as_map().is_some())));
        let mut number = 0;
        while map.len() < least && number < least * 2 {
            number += 1;
            let word = pick(self.source.words, self.number(&format!("{path}#{number}"))).copied().unwrap_or("key");
            let key = if map.contains_key(word) { format!("{word}_{number}") } else { word.to_owned() };
            let value = self.value(&other, &format!("{path}.{key}"), depth + 1);
            map.insert(key.into(), value);
        }
        map.into()
    }

    fn array(&self, schema: &Value, path: &str, depth: usize) -> Value {
        let first = list(schema, "prefixItems");
        let least = size(schema, "minItems").unwrap_or(0);
        let most = size(schema, "maxItems").unwrap_or(usize::MAX);
        let usual = if depth > DEEP { 0 } else { first.len().max(2) };
        let length = usual.max(least).min(most);
        let any = Value::map([("type", "string".into())]);
        let rest = schema.get("items").filter(|it| it.as_map().is_some()).unwrap_or(&any);
        let unique = schema.get("uniqueItems").is_some_and(Value::is_truthy);
        let mut items: Vec<Value> = Vec::new();
        let mut tried = 0;
        while items.len() < length && tried < length.saturating_mul(8) {
            let inner = first.get(items.len()).unwrap_or(rest);
            let item = self.value(inner, &format!("{path}[{tried}]"), depth + 1);
            tried += 1;
            if !unique || !items.contains(&item) {
                items.push(item);
            }
        }
        Value::list(items)
    }

    fn integer(&self, schema: &Value, path: &str) -> Value {
        let bounds = Bounds::of(schema);
        let step = decimal(schema.get("multipleOf")).filter(|step| *step > Decimal::ZERO).unwrap_or(Decimal::ONE);
        let low = (bounds.low / step).ceil();
        let low = if bounds.above && low * step == bounds.low { low + Decimal::ONE } else { low };
        let high = (bounds.high / step).floor();
        let high = if bounds.below && high * step == bounds.high { high - Decimal::ONE } else { high };
        let count = (high - low + Decimal::ONE).to_u64().unwrap_or(1).clamp(1, SPAN.unsigned_abs() + 1);
        let chosen = (low + Decimal::from(self.number(path) % count)) * step;
        chosen.to_i128().map_or(Value::Int(1), Value::Int)
    }

    fn decimal(&self, schema: &Value, path: &str) -> Value {
        let bounds = Bounds::of(schema);
        let step = decimal(schema.get("multipleOf")).filter(|step| *step > Decimal::ZERO);
        // Between the ends and never one of them, which may not belong to it.
        let eighths = Decimal::from(1 + self.number(path) % 7) / Decimal::from(8);
        let chosen = bounds.low + (bounds.high - bounds.low) * eighths;
        let chosen = step.map_or(chosen, |step| (chosen / step).ceil() * step);
        Value::Decimal(chosen.normalize())
    }

    fn string(&self, schema: &Value, path: &str) -> String {
        let number = self.number(path);
        if let Some(made) = text(schema, "format").and_then(|format| formatted(format, number)) {
            return made;
        }
        if let Some(made) = text(schema, "pattern").and_then(|pattern| pattern::example(pattern, number)) {
            return made;
        }
        let least = size(schema, "minLength").unwrap_or(0);
        let most = size(schema, "maxLength").unwrap_or(usize::MAX);
        let words = if self.source.words.is_empty() { &["answer"] } else { self.source.words };
        let mut at = usize::try_from(number % u64::try_from(words.len()).unwrap_or(1)).unwrap_or(0);
        let wanted = 2 + usize::try_from(number % 5).unwrap_or(0);
        let mut out = String::new();
        let mut taken = 0;
        while (taken < wanted.min(words.len()) || out.chars().count() < least) && out.chars().count() < most {
            if taken > 0 {
                out.push(' ');
            }
            out.push_str(words.get(at % words.len()).copied().unwrap_or_default());
            at += 1;
            taken += 1;
        }
        out.chars().take(most).collect()
    }
}

fn kind(schema: &Value, depth: usize) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::List(kinds)) => {
            let mut names = kinds.iter().filter_map(Value::as_str);
            let null = depth > DEEP && names.clone().any(|kind| kind == "null");
            if null { "null" } else { names.find(|kind| *kind != "null").unwrap_or("null") }
        }
        _ if schema.get("properties").is_some() => "object",
        _ if schema.get("items").is_some() => "array",
        _ if schema.get("minimum").is_some() || schema.get("maximum").is_some() => "number",
        _ => "string",
    }
}

/// Lays one schema over another: members of objects come together, of the rest the upper one stays.
fn laid_over(below: &Value, above: &Value) -> Value {
    let mut map = below.as_map().cloned().unwrap_or_default();
    for (key, value) in above.as_map().into_iter().flatten() {
        let laid = match (&**key, map.get(key)) {
            ("properties", Some(own)) => laid_over(own, value),
            ("required", Some(own)) => {
                Value::list([own.as_list().unwrap_or_default(), value.as_list().unwrap_or_default()].concat())
            }
            _ => value.clone(),
        };
        map.insert(key.clone(), laid);
    }
    map.into()
}

fn size(schema: &Value, key: &str) -> Option<usize> {
    match schema.get(key)? {
        Value::Int(number) => usize::try_from(*number).ok(),
        _ => None,
    }
}

fn decimal(value: Option<&Value>) -> Option<Decimal> {
    match value? {
        Value::Int(number) => Decimal::try_from_i128_with_scale(*number, 0).ok(),
        Value::Decimal(number) => Some(*number),
        _ => None,
    }
}

/// Where a number may lie.
struct Bounds {
    low: Decimal,
    high: Decimal,
    /// Whether the ends themselves do not belong to it.
    above: bool,
    below: bool,
}

impl Bounds {
    fn of(schema: &Value) -> Self {
        let of = |key: &str| decimal(schema.get(key));
        let (least, above) = (of("minimum"), of("exclusiveMinimum"));
        let (most, below) = (of("maximum"), of("exclusiveMaximum"));
        let given_low = least.into_iter().chain(above).max();
        let given_high = most.into_iter().chain(below).min();
        let span = Decimal::from(SPAN);
        let step = of("multipleOf").unwrap_or(Decimal::ONE).max(Decimal::ONE);
        let low = given_low.unwrap_or_else(|| match given_high {
            Some(high) if high < Decimal::ONE => high - span * step,
            _ => Decimal::ONE,
        });
        let high = given_high.unwrap_or(low + span * step);
        Self { low, high, above: above == Some(low), below: below == Some(high) }
    }
}

/// Makes a text of a format; nothing for one that is not known.
fn formatted(format: &str, number: u64) -> Option<String> {
    let part = |shift: u32, most: u64| (number >> shift) % most;
    let date = || format!("2026-{:02}-{:02}", 1 + part(0, 12), 1 + part(8, 28));
    let time = || format!("{:02}:{:02}:00Z", part(16, 24), part(24, 60));
    Some(match format {
        "date" => date(),
        "time" => time(),
        "date-time" => format!("{}T{}", date(), time()),
        "duration" => format!("PT{}M", 1 + part(0, 59)),
        "email" | "idn-email" => format!("person{}@example.com", part(0, 1_000)),
        "hostname" | "idn-hostname" => format!("host{}.example.com", part(0, 1_000)),
        "uri" | "url" | "iri" | "uri-reference" => format!("https://example.com/{}", part(0, 100_000)),
        "ipv4" => format!("192.0.2.{}", 1 + part(0, 254)),
        "ipv6" => format!("2001:db8::{:x}", 1 + part(0, 65_000)),
        "uuid" => {
            let other = hash(number, "uuid");
            format!(
                "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
                number >> 32,
                (number >> 16) & 0xffff,
                number & 0xfff,
                (other >> 48) & 0xfff,
                other & 0xffff_ffff_ffff
            )
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parse_json;

    fn fitted(schema: &str, seed: u64) -> Value {
        let words = ["Post", "about", "release", "2.4", "urgent"];
        fit(&parse_json(schema).unwrap(), &Source { words: &words, seed })
    }

    #[test]
    fn values_fit_their_schemas() {
        for schema in [
            r#"{"type":"object","properties":{"score":{"type":"integer","minimum":1,"maximum":5},"why":{"type":"string"}},"required":["score","why"],"additionalProperties":false}"#,
            r#"{"type":"integer","exclusiveMinimum":3,"exclusiveMaximum":5}"#,
            r#"{"type":"integer","minimum":7,"multipleOf":5}"#,
            r#"{"type":"integer","maximum":-3}"#,
            r#"{"type":"number","exclusiveMinimum":0,"maximum":1}"#,
            r#"{"type":"number","multipleOf":0.25}"#,
            r#"{"type":"string","minLength":40}"#,
            r#"{"type":"string","maxLength":3}"#,
            r#"{"type":"string","pattern":"^[A-Z]{3}-\\d+$"}"#,
            r#"{"type":"string","format":"date-time"}"#,
            r#"{"type":"string","format":"email"}"#,
            r#"{"type":"string","format":"uuid"}"#,
            r#"{"type":"string","format":"uri"}"#,
            r#"{"type":["null","boolean"]}"#,
            r#"{"enum":["calm","urgent"]}"#,
            r#"{"const":{"a":1}}"#,
            r#"{"type":"array","items":{"type":"integer"},"minItems":3,"maxItems":4}"#,
            r#"{"type":"array","items":{"enum":["a","b","c"]},"uniqueItems":true,"minItems":2}"#,
            r#"{"type":"object","additionalProperties":{"type":"number"},"minProperties":2}"#,
            r#"{"type":"object","required":["x"]}"#,
            r##"{"$defs":{"node":{"type":"object","properties":{"name":{"type":"string"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]},"kids":{"type":"array","items":{"$ref":"#/$defs/node"}}},"required":["name","next","kids"],"additionalProperties":false}},"$ref":"#/$defs/node"}"##,
            r#"{"allOf":[{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]},{"properties":{"b":{"type":"string"}},"required":["b"]}]}"#,
            r#"{"oneOf":[{"type":"string"},{"type":"integer"}]}"#,
            r#"{"type":"array","prefixItems":[{"type":"string"},{"type":"integer"}]}"#,
            "true",
        ] {
            let own: serde_json::Value = serde_json::from_str(schema).unwrap();
            let validator = jsonschema::options().should_validate_formats(true).build(&own).unwrap();
            for seed in 0..20 {
                let value = fitted(schema, seed);
                let shown: serde_json::Value = serde_json::from_str(&value.to_string()).unwrap();
                assert!(validator.is_valid(&shown), "{schema} does not take {shown}");
                assert_eq!(fitted(schema, seed), value, "the same question has the same answer");
            }
        }
    }

    #[test]
    fn an_option_that_the_question_names_is_taken() {
        for seed in 0..5 {
            assert_eq!(fitted(r#"{"enum":["calm","URGENT","old"]}"#, seed), "URGENT".into());
        }
    }
}
