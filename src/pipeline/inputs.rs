//! Inputs: their declarations, and what is given to a run against them.

use super::Input;
use super::InputType;
use super::Pipeline;
use super::compile::Compiler;
use super::compile::first_line;
use super::read::Reader;
use crate::diag::Code;
use crate::diag::did_you_mean;
use crate::model::Map;
use crate::model::Money;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::parse_json;
use crate::model::parse_number;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

pub(super) const KEYS: &[&str] = &[
    "type",
    "default",
    "description",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "items",
    "properties",
    "required",
    "media_types",
];
pub(super) const TYPES: [(&str, InputType); 13] = [
    ("string", InputType::String),
    ("integer", InputType::Integer),
    ("number", InputType::Number),
    ("boolean", InputType::Boolean),
    ("decimal", InputType::Decimal),
    ("money", InputType::Money),
    ("date", InputType::Date),
    ("datetime", InputType::Datetime),
    ("duration", InputType::Duration),
    ("array", InputType::Array),
    ("object", InputType::Object),
    ("secret", InputType::Secret),
    ("blob", InputType::Blob),
];

/// An input as somebody gave it.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// From a command line: the declared type decides what it means.
    Text(String),
    /// From a file or another program.
    Value(Value),
}

/// Reads the declarations; nothing when they are no mapping.
pub(super) fn read(compiler: &mut Compiler<'_>, tree: &Tree) -> Option<Vec<Input>> {
    if !Reader::mapping(compiler, tree) {
        return None;
    }
    let mut inputs = Vec::new();
    for entry in tree.entries() {
        let Some(mut reader) = Reader::new(compiler, &entry.value, KEYS) else { continue };
        let words = TYPES.map(|(word, _)| word);
        let has_choices = entry.value.get("enum").is_some();
        let kind = match (reader.word("type", &words), entry.value.get("type").is_some()) {
            (Some(word), _) => {
                TYPES.iter().find(|(known, _)| *known == word).map_or(InputType::String, |(_, kind)| *kind)
            }
            // A faulty declaration declares its name all the same, so that reading it is no second fault.
            (None, true) => InputType::Object,
            (None, false) if has_choices => InputType::String,
            (None, false) => {
                reader.require("type");
                InputType::Object
            }
        };
        let faulty = reader.faults() > 0;
        let description = reader.text("description").map(|(text, _)| text.into());
        if let Some((pattern, span)) = reader.text("pattern")
            && let Err(error) = regex_lite::Regex::new(pattern)
        {
            compiler.error(Code::BadPattern, span, format!("`{pattern}` is not a pattern: {error}"));
        }
        check_inner(compiler, &entry.value, 0);
        let schema = serde_json::from_str(&entry.value.to_value().to_string()).unwrap_or_default();
        let mut input = Input { name: entry.key.clone(), kind, required: true, default: None, description, schema };
        if let Some(default) = entry.value.get("default") {
            input.required = false;
            match convert(&input, &default.to_value()) {
                // A null says that the input may be left out.
                _ if faulty || default.is_null() => {}
                Ok(value) => input.default = Some(value),
                Err(problem) => {
                    compiler.error(
                        Code::BadDefault,
                        &first_line(&default.span),
                        format!("the default of `{}`: {problem}", entry.key),
                    );
                }
            }
        }
        inputs.push(input);
    }
    Some(inputs)
}

/// Checks what is declared within a declaration: `required`, `items`, `properties`.
fn check_inner(compiler: &mut Compiler<'_>, tree: &Tree, depth: usize) {
    if depth > 32 {
        return;
    }
    if let Some(required) = tree.get("required") {
        if !matches!(required.kind, TreeKind::Sequence(_)) {
            let message = format!("expected a list of keys, found {}", required.describe());
            compiler.error(Code::WrongType, &required.span, message).help =
                Some("an input without `default` must be given; `required` lists the keys of an object".to_owned());
        }
        let known = tree.get("properties").map(Tree::entries).unwrap_or_default();
        for key in required.items().iter().filter(|_| !known.is_empty()) {
            let name = key.as_text().unwrap_or_default();
            if !known.iter().any(|entry| &*entry.key == name) {
                let names = known.iter().map(|entry| &*entry.key);
                compiler.unknown(Code::UnknownField, &key.span, "`properties` has no {}", name, names);
            }
        }
    }
    let properties = tree.get("properties");
    let inner = properties.map(Tree::entries).unwrap_or_default().iter().map(|entry| &entry.value);
    for inner in tree.get("items").into_iter().chain(inner) {
        let Some(mut reader) = Reader::new(compiler, inner, KEYS) else { continue };
        reader.word("type", &TYPES.map(|(word, _)| word));
        check_inner(compiler, inner, depth + 1);
    }
    if let Some(properties) = properties {
        Reader::mapping(compiler, properties);
    }
}

/// Returns why a written value does not fit an input; nothing where it holds templates.
pub(super) fn literal_problem(input: &Input, tree: &Tree) -> Option<String> {
    fn templated(tree: &Tree) -> bool {
        match &tree.kind {
            TreeKind::Scalar { text, .. } => text.contains("{{") || text.contains("{%"),
            TreeKind::Sequence(items) => items.iter().any(templated),
            TreeKind::Mapping(entries) => entries.iter().any(|entry| templated(&entry.value)),
        }
    }
    if templated(tree) || (tree.is_null() && !input.required) {
        return None;
    }
    convert(input, &tree.to_value()).err()
}

/// Checks what is given to a run and completes it with defaults.
///
/// # Errors
/// Every problem, in words: unknown, missing and unfit inputs.
pub fn check_inputs(pipeline: &Pipeline, given: &[(String, Given)]) -> Result<Value, Vec<String>> {
    let mut problems = Vec::new();
    let mut values = Map::new();
    for (name, _) in given {
        if !pipeline.inputs.iter().any(|input| *input.name == **name) {
            let near = did_you_mean(name, pipeline.inputs.iter().map(|input| &*input.name));
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            problems.push(format!("`{}` has no input `{name}`{near}", pipeline.name));
        }
    }
    for input in &pipeline.inputs {
        let found = given.iter().rev().find(|(name, _)| **name == *input.name);
        let value = match found {
            Some((_, given)) => check_input(input, given),
            None => match &input.default {
                Some(default) => Ok(default.clone()),
                None if input.required => {
                    problems.push(format!("input `{0}` is missing; give it with `-i {0}=…`", input.name));
                    continue;
                }
                None => Ok(Value::Null),
            },
        };
        match value {
            Ok(value) => {
                values.insert(input.name.clone(), value);
            }
            Err(problem) => problems.push(format!("input `{}`: {problem}", input.name)),
        }
    }
    if problems.is_empty() { Ok(Value::from(values)) } else { Err(problems) }
}

/// Reads a declaration that is a value: of a form, whose defaults may be computed.
///
/// # Errors
/// What is wrong with it.
pub fn declared_input(name: &str, declared: &Value) -> Result<Input, String> {
    let word = declared.get("type").and_then(Value::as_str);
    let kind = match word {
        Some(word) => TYPES.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind),
        None => declared.get("enum").map(|_| InputType::String),
    };
    let kind = kind.ok_or_else(|| format!("`{name}` has no type that is known"))?;
    let default = declared.get("default");
    let schema = serde_json::from_str(&declared.to_string()).unwrap_or_default();
    let description = declared.get("description").and_then(Value::as_str).map(Into::into);
    let mut input = Input { name: name.into(), kind, required: default.is_none(), default: None, description, schema };
    if let Some(default) = default.filter(|default| !default.is_null()) {
        let value = convert(&input, default).map_err(|problem| format!("the default of `{name}`: {problem}"))?;
        input.default = Some(value);
    }
    Ok(input)
}

/// Checks what somebody gives for an input.
///
/// # Errors
/// Why it does not fit.
pub fn check_input(input: &Input, given: &Given) -> Result<Value, String> {
    match given {
        Given::Text(text) => read_text(input, text).and_then(|value| convert(input, &value)),
        Given::Value(Value::Null) if !input.required && input.default.is_none() => Ok(Value::Null),
        Given::Value(value) => convert(input, value),
    }
}

/// Checks the inputs of a child run; see `check_inputs`.
///
/// # Errors
/// Every problem, in words.
pub fn check_values(pipeline: &Pipeline, given: Value) -> Result<Value, Vec<String>> {
    let given = match given {
        Value::Null => Map::new(),
        Value::Map(map) => (*map).clone(),
        other => return Err(vec![format!("inputs are an object, found {}", other.kind().name())]),
    };
    let given: Vec<_> = given.into_iter().map(|(name, value)| (name.to_string(), Given::Value(value))).collect();
    check_inputs(pipeline, &given)
}

fn read_text(input: &Input, text: &str) -> Result<Value, String> {
    match input.kind {
        InputType::Array | InputType::Object => parse_json(text).map_err(|error| format!("not JSON: {error}")),
        InputType::Integer | InputType::Number | InputType::Decimal => {
            parse_number(text.trim()).ok_or_else(|| format!("expected a number, found `{text}`"))
        }
        InputType::Boolean => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            other => Err(format!("expected `true` or `false`, found `{other}`")),
        },
        _ => Ok(Value::from(text)),
    }
}

/// Brings a value to the declared type.
fn convert(input: &Input, value: &Value) -> Result<Value, String> {
    let expected = |what: &str| Err(format!("expected {what}, found {value}"));
    let text = value.as_str().map(str::to_owned);
    let converted = match (input.kind, value) {
        (InputType::Secret, Value::Secret(_)) => value.clone(),
        (InputType::Secret, _) => value.clone().tainted(),
        (InputType::String, Value::String(_) | Value::Secret(_)) => value.clone(),
        // What files write as texts, too.
        (InputType::String, Value::Time(_) | Value::Duration(_) | Value::Money(_)) => Value::from(value.to_text()),
        (InputType::String, _) => return expected("a text"),
        (InputType::Integer, Value::Int(_)) => value.clone(),
        (InputType::Integer, _) => return expected("a whole number"),
        (InputType::Number | InputType::Decimal, Value::Int(_) | Value::Decimal(_) | Value::Number(_)) => value.clone(),
        (InputType::Decimal, Value::String(text)) => match parse_number(text) {
            Some(number) => number,
            None => return expected("a number"),
        },
        (InputType::Number | InputType::Decimal, _) => return expected("a number"),
        (InputType::Boolean, Value::Bool(_)) => value.clone(),
        (InputType::Boolean, _) => return expected("`true` or `false`"),
        (InputType::Money, Value::Money(_)) => value.clone(),
        (InputType::Money, Value::String(text)) => {
            text.parse::<Money>().map(Value::Money).map_err(|error| error.to_string())?
        }
        (InputType::Money, _) => return expected("money such as `12.50 USD`"),
        (InputType::Datetime, Value::Time(_)) => value.clone(),
        (InputType::Datetime, Value::String(text)) => {
            text.parse::<Timestamp>().map(Value::Time).map_err(|error| error.to_string())?
        }
        (InputType::Datetime, _) => return expected("a moment such as `2026-01-31T09:00:00Z`"),
        (InputType::Date, Value::String(text)) => match text.parse::<jiff::civil::Date>() {
            Ok(date) => Value::from(date.to_string()),
            Err(_) => return expected("a day such as `2026-01-31`"),
        },
        (InputType::Date, _) => return expected("a day such as `2026-01-31`"),
        (InputType::Duration, Value::Duration(_)) => value.clone(),
        (InputType::Duration, Value::String(text)) => text
            .parse()
            .map(Value::Duration)
            .map_err(|error: <crate::model::Duration as std::str::FromStr>::Err| error.to_string())?,
        (InputType::Duration, _) => return expected("a duration such as `90s`"),
        (InputType::Array, Value::List(_)) | (InputType::Object, Value::Map(_)) => value.clone(),
        (InputType::Array, _) => return expected("a list"),
        (InputType::Object, _) => return expected("an object"),
        (InputType::Blob, Value::Blob(_) | Value::String(_)) => value.clone(),
        (InputType::Blob, _) => return expected("a file"),
    };
    check_bounds(input, &converted, text.as_deref())?;
    convert_inner(input, converted)
}

fn check_bounds(input: &Input, value: &Value, text: Option<&str>) -> Result<(), String> {
    let schema = &input.schema;
    let shown = || value.to_string();
    if let Some(words) = schema.get("enum").and_then(|list| list.as_array()) {
        let known: Vec<Value> = words.iter().filter_map(|word| parse_json(&word.to_string()).ok()).collect();
        if !known.contains(value) {
            let listed = known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(format!("expected one of {listed}, found {}", shown()));
        }
    }
    if let (Some(pattern), Some(text)) = (schema.get("pattern").and_then(|it| it.as_str()), text)
        && regex_lite::Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text))
    {
        return Err(format!("{} does not match `{pattern}`", shown()));
    }
    for (key, word, wrong) in
        [("minimum", "at least", std::cmp::Ordering::Less), ("maximum", "at most", std::cmp::Ordering::Greater)]
    {
        let Some(bound) = schema.get(key) else { continue };
        let bound = match (bound.as_str(), input.kind) {
            (Some(text), InputType::Money) => text.parse().ok().map(Value::Money),
            (Some(text), InputType::Duration) => text.parse().ok().map(Value::Duration),
            (Some(text), _) => Some(Value::from(text)),
            (None, _) => parse_number(&bound.to_string()),
        };
        let Some(bound) = bound else { continue };
        match crate::model::compare(value, &bound) {
            Ok(order) if order == wrong => return Err(format!("expected {word} {bound}, found {}", shown())),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

/// Brings the items of an array and the keys of an object to their declared types.
fn convert_inner(input: &Input, value: Value) -> Result<Value, String> {
    let schema = &input.schema;
    match (&value, schema.get("items")) {
        (Value::List(values), Some(items)) => {
            let convert_one = |(index, item): (usize, &Value)| {
                convert(&inner_input(input, items, item), item).map_err(|problem| format!("item {index}: {problem}"))
            };
            return values.iter().enumerate().map(convert_one).collect::<Result<Vec<_>, _>>().map(Value::list);
        }
        (Value::Map(_), _) => {}
        _ => return Ok(value),
    }
    let Value::Map(map) = &value else { return Ok(value) };
    for key in schema.get("required").and_then(|keys| keys.as_array()).into_iter().flatten() {
        let key = key.as_str().unwrap_or_default();
        if !map.contains_key(key) {
            return Err(format!("the key `{key}` is missing"));
        }
    }
    let Some(properties) = schema.get("properties").and_then(|it| it.as_object()) else { return Ok(value) };
    let mut map = (**map).clone();
    for (key, declared) in properties {
        if let Some(item) = map.get_mut(key.as_str()).filter(|item| !item.is_null()) {
            let inner = inner_input(input, declared, item);
            *item = convert(&inner, item).map_err(|problem| format!("`{key}`: {problem}"))?;
        }
    }
    Ok(Value::from(map))
}

/// Returns a part of an input as an input of its own.
fn inner_input(outer: &Input, declared: &serde_json::Value, value: &Value) -> Input {
    let kind = declared.get("type").and_then(|kind| kind.as_str()).unwrap_or("");
    let kind = TYPES.iter().find(|(word, _)| *word == kind).map(|(_, kind)| *kind);
    Input {
        name: outer.name.clone(),
        kind: kind.unwrap_or_else(|| kind_of(value)),
        required: true,
        default: None,
        description: None,
        schema: declared.clone(),
    }
}

/// Returns a type that any such value has: for items whose type is not stated.
fn kind_of(value: &Value) -> InputType {
    match value {
        Value::Int(_) | Value::Decimal(_) | Value::Number(_) => InputType::Number,
        Value::Bool(_) => InputType::Boolean,
        Value::List(_) => InputType::Array,
        Value::Map(_) => InputType::Object,
        Value::Money(_) => InputType::Money,
        Value::Null => InputType::Secret,
        _ => InputType::String,
    }
}
