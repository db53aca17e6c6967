//! Whether a question is one: its parameters by the rules of its dialect, its turns, its schemas.

use rust_decimal::Decimal;

use super::dialect::Dialect;
use super::dialect::Is;
use super::dialect::Style;
use super::list;
use super::manners;
use super::refusal::Kind;
use super::refusal::Refusal;
use super::text;
use super::words::said;
use crate::model::Kind as Sort;
use crate::model::Value;

/// How long the name of a tool or a schema may be.
const LONGEST_NAME: usize = 64;

/// Returns what stands at a path of keys; null is nothing.
pub(super) fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, key| value.get(key)).filter(|value| !value.is_null())
}

/// Checks the parameters of a question, by themselves.
pub(super) fn parameters(dialect: &Dialect, wire: &Value) -> Result<(), Refusal> {
    for rule in dialect.rules {
        match (at(wire, rule.path), &rule.is) {
            (None, Is::Needed) => return Err(missing(rule.path)),
            (None, _) => {}
            (Some(value), is) => parameter(rule.path, value, is)?,
        }
    }
    if wire.get("stream_options").is_some_and(Value::is_truthy) && !wire.get("stream").is_some_and(Value::is_truthy) {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Refusal::of("stream_options", "", message));
    }
    match dialect.style {
        Style::OpenAi => {}
        Style::Anthropic => return manners::of_anthropic(dialect, wire),
        Style::Cohere => return manners::of_cohere(wire),
        Style::Ollama => return Ok(()),
    }
    for (number, tool) in list(wire, "tools").iter().enumerate() {
        if text(tool, "type") == Some("function") {
            tool_of(number, tool)?;
        }
    }
    format(dialect, wire)
}

pub(super) fn missing(path: &str) -> Refusal {
    Refusal::of(path, "missing_required_parameter", format!("Missing required parameter: '{path}'."))
}

fn parameter(path: &str, value: &Value, is: &Is) -> Result<(), Refusal> {
    match is {
        Is::Needed => Ok(()),
        Is::Text if value.as_str().is_some() => Ok(()),
        Is::Text => Err(wrong_type(path, "a string", value)),
        Is::Flag if value.as_bool().is_some() => Ok(()),
        Is::Flag => Err(wrong_type(path, "a boolean", value)),
        Is::Map if value.as_map().is_some() => Ok(()),
        Is::Map => Err(wrong_type(path, "an object", value)),
        Is::Pairs(most) => match value.as_map() {
            Some(map) if map.len() <= *most => Ok(()),
            Some(map) => Err(Refusal::of(
                path,
                "object_above_max_properties",
                format!(
                    "Invalid '{path}': too many properties. Expected an object with at most {most} properties, but got an object with {} properties instead.",
                    map.len()
                ),
            )),
            None => Err(wrong_type(path, "an object", value)),
        },
        Is::Whole(least, most) => match value {
            Value::Int(number) => within(path, "integer", whole(*number), *least, *most),
            _ => Err(wrong_type(path, "an integer", value)),
        },
        Is::Decimal(least, most) => match value {
            Value::Int(number) => within(path, "decimal", whole(*number), *least, *most),
            Value::Decimal(number) => within(path, "decimal", Some(*number), *least, *most),
            _ => Err(wrong_type(path, "a decimal", value)),
        },
        Is::Word(allowed) => match value.as_str() {
            Some(word) if allowed.contains(&word) => Ok(()),
            Some(word) => Err(wrong_word(path, word, allowed)),
            None => Err(wrong_type(path, "a string", value)),
        },
        Is::List(least, most) => match value.as_list() {
            Some(items) => length(path, items.len(), *least, *most),
            None => Err(wrong_type(path, "an array", value)),
        },
        Is::Texts(most) => match value {
            Value::String(_) => Ok(()),
            Value::List(items) => length(path, items.len(), 1, *most),
            _ => Err(wrong_type(path, "a string or an array", value)),
        },
        Is::Only(one) if value.to_text() == *one => Ok(()),
        Is::Only(_) => Err(Refusal::of(path, "", format!("'{path}' is beyond what this sandbox can do."))),
    }
}

fn whole(number: i128) -> Option<Decimal> {
    Decimal::try_from_i128_with_scale(number, 0).ok()
}

fn within(path: &str, sort: &str, number: Option<Decimal>, least: i64, most: i64) -> Result<(), Refusal> {
    let shown = number.map(|number| number.to_string()).unwrap_or_default();
    if number.is_some_and(|number| number < Decimal::from(least)) {
        let message = format!(
            "Invalid '{path}': {sort} below minimum value. Expected a value >= {least}, but got {shown} instead."
        );
        return Err(Refusal::of(path, &format!("{sort}_below_min_value"), message));
    }
    if number.is_none_or(|number| number > Decimal::from(most)) {
        let message = format!(
            "Invalid '{path}': {sort} above maximum value. Expected a value <= {most}, but got {shown} instead."
        );
        return Err(Refusal::of(path, &format!("{sort}_above_max_value"), message));
    }
    Ok(())
}

pub(super) fn length(path: &str, length: usize, least: usize, most: usize) -> Result<(), Refusal> {
    if length < least {
        let message = format!(
            "Invalid '{path}': empty array. Expected an array with minimum length {least}, but got an empty array instead."
        );
        return Err(Refusal::of(path, "empty_array", message));
    }
    if length > most {
        let message = format!(
            "Invalid '{path}': array too long. Expected an array with maximum length {most}, but got an array with length {length} instead."
        );
        return Err(Refusal::of(path, "array_above_max_length", message));
    }
    Ok(())
}

pub(super) fn wrong_type(path: &str, expected: &str, value: &Value) -> Refusal {
    let found = match value.kind() {
        Sort::Integer => "an integer",
        Sort::Decimal | Sort::Float => "a decimal",
        Sort::Boolean => "a boolean",
        Sort::Array => "an array",
        Sort::Object => "an object",
        Sort::Null => "null",
        _ => "a string",
    };
    let message = format!("Invalid type for '{path}': expected {expected}, but got {found} instead.");
    Refusal::of(path, "invalid_type", message)
}

pub(super) fn wrong_word(path: &str, word: &str, allowed: &[&str]) -> Refusal {
    let quoted: Vec<String> = allowed.iter().map(|it| format!("'{it}'")).collect();
    let message = match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => {
            format!("Invalid value: '{word}'. Supported values are: {}, and {last}.", rest.join(", "))
        }
        _ => format!("Invalid value: '{word}'. Supported values are: {}.", quoted.join(", ")),
    };
    Refusal::of(path, "invalid_value", message)
}

fn name(path: &str, name: Option<&Value>) -> Result<(), Refusal> {
    let Some(name) = name.filter(|name| !name.is_null()) else { return Err(missing(path)) };
    let Some(name) = name.as_str() else { return Err(wrong_type(path, "a string", name)) };
    if name.len() > LONGEST_NAME {
        let message = format!(
            "Invalid '{path}': string too long. Expected a string with maximum length {LONGEST_NAME}, but got a string with length {} instead.",
            name.len()
        );
        return Err(Refusal::of(path, "string_above_max_length", message));
    }
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
        let message = format!(
            "Invalid '{path}': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
        );
        return Err(Refusal::of(path, "invalid_value", message));
    }
    Ok(())
}

fn tool_of(number: usize, tool: &Value) -> Result<(), Refusal> {
    let (path, function) = match tool.get("function") {
        Some(function) => (format!("tools[{number}].function"), function),
        None => (format!("tools[{number}]"), tool),
    };
    name(&format!("{path}.name"), function.get("name"))?;
    let parameters = function.get("parameters").filter(|it| !it.is_null());
    if let (Some(parameters), Some(true)) = (parameters, function.get("strict").and_then(Value::as_bool)) {
        let of = format!("function '{}'", text(function, "name").unwrap_or_default());
        strict(&format!("{path}.parameters"), &of, "invalid_function_parameters", parameters, &mut Vec::new())?;
    }
    Ok(())
}

/// Checks the form that the answer is to have.
fn format(dialect: &Dialect, wire: &Value) -> Result<(), Refusal> {
    let Some(form) = at(wire, dialect.format) else { return Ok(()) };
    match text(form, "type") {
        Some("json_schema") => {
            let path = dialect.schema;
            let Some(shape) = at(wire, path) else { return Err(missing(path)) };
            name(&format!("{path}.name"), shape.get("name"))?;
            let schema = shape.get("schema").filter(|it| !it.is_null());
            match (schema, shape.get("strict").and_then(Value::as_bool)) {
                (None, _) if path == dialect.format => Err(missing(&format!("{path}.schema"))),
                (Some(schema), Some(true)) => {
                    let of = format!("response_format '{}'", text(shape, "name").unwrap_or_default());
                    strict(&format!("{path}.schema"), &of, "invalid_json_schema", schema, &mut Vec::new())
                }
                _ => Ok(()),
            }
        }
        Some(_) => Ok(()),
        None => Err(missing(&format!("{}.type", dialect.format))),
    }
}

/// Checks what a strict schema must say of every object in it: all of its properties are required, and no others are
/// there.
fn strict(param: &str, of: &str, code: &str, schema: &Value, context: &mut Vec<String>) -> Result<(), Refusal> {
    let is_object = match schema.get("type") {
        Some(Value::String(kind)) => &**kind == "object",
        Some(Value::List(kinds)) => kinds.iter().any(|kind| kind.as_str() == Some("object")),
        _ => schema.get("properties").is_some(),
    };
    let fault = |context: &[String], what: &str| {
        let place = context.iter().map(|part| format!("'{part}'")).collect::<Vec<_>>().join(", ");
        Refusal::of(param, code, format!("Invalid schema for {of}: In context=({place}), {what}"))
    };
    if context.is_empty() && !is_object {
        return Err(fault(context, "schema must be a JSON Schema of 'type: \"object\"'."));
    }
    if is_object {
        if schema.get("additionalProperties").and_then(Value::as_bool) != Some(false) {
            return Err(fault(context, "'additionalProperties' is required to be supplied and to be false."));
        }
        let required: Vec<&str> = list(schema, "required").iter().filter_map(Value::as_str).collect();
        let properties = schema.get("properties").and_then(Value::as_map).into_iter().flatten();
        let lacking = properties.map(|(key, _)| &**key).find(|key| !required.contains(key));
        if let Some(lacking) = lacking {
            let what = format!(
                "'required' is required to be supplied and to be an array including every key in properties. Missing '{lacking}'."
            );
            return Err(fault(context, &what));
        }
    }
    for keyword in ["properties", "$defs", "definitions"] {
        for (key, inner) in schema.get(keyword).and_then(Value::as_map).into_iter().flatten() {
            within_context(param, of, code, inner, context, &[keyword, key])?;
        }
    }
    if let Some(items) = schema.get("items") {
        within_context(param, of, code, items, context, &["items"])?;
    }
    for (number, inner) in list(schema, "anyOf").iter().enumerate() {
        within_context(param, of, code, inner, context, &["anyOf", &number.to_string()])?;
    }
    Ok(())
}

fn within_context(
    param: &str,
    of: &str,
    code: &str,
    schema: &Value,
    context: &mut Vec<String>,
    below: &[&str],
) -> Result<(), Refusal> {
    let before = context.len();
    context.extend(below.iter().map(|part| (*part).to_owned()));
    strict(param, of, code, schema, context)?;
    context.truncate(before);
    Ok(())
}

/// Checks that the turns of a question, in their canonical shape, follow from each other.
pub(super) fn turns(dialect: &Dialect, wire: &Value, messages: &[Value]) -> Result<(), Refusal> {
    if dialect.style == Style::Ollama {
        return Ok(());
    }
    let roles = ["system", "assistant", "user", "function", "tool", "developer"];
    let mut open: Vec<&str> = Vec::new();
    for (number, message) in messages.iter().enumerate() {
        let path = format!("{}[{number}]", dialect.messages);
        let Some(role) = text(message, "role") else { return Err(missing(&format!("{path}.role"))) };
        if !roles.contains(&role) {
            return Err(wrong_word(&format!("{path}.role"), role, &roles));
        }
        // Where the turns are items, a call and its answer may be apart.
        if role != "tool" && !open.is_empty() && !dialect.keeps {
            return Err(unanswered(dialect, &open));
        }
        open.extend(list(message, "tool_calls").iter().filter_map(|call| text(call, "id")));
        if role == "tool" {
            let id = text(message, "tool_call_id").unwrap_or_default();
            let before = open.len();
            open.retain(|call| *call != id);
            if before == open.len() {
                return Err(unasked(dialect, id));
            }
        }
    }
    if !open.is_empty() {
        return Err(unanswered(dialect, &open));
    }
    if dialect.style != Style::OpenAi {
        return Ok(());
    }
    let wants_json = at(wire, dialect.format).and_then(|form| text(form, "type")) == Some("json_object");
    let speaks_of_it = || {
        let system = wire.get("instructions").map(Value::to_text).unwrap_or_default();
        system.to_lowercase().contains("json") || messages.iter().any(|it| said(it).to_lowercase().contains("json"))
    };
    if wants_json && !speaks_of_it() {
        let message = format!(
            "'{}' must contain the word 'json' in some form, to use '{}' of type 'json_object'.",
            dialect.messages, dialect.format
        );
        return Err(Refusal::of(dialect.messages, "", message));
    }
    Ok(())
}

fn unanswered(dialect: &Dialect, open: &[&str]) -> Refusal {
    let message = if dialect.style == Style::Anthropic {
        format!(
            "messages: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
            open.join(", ")
        )
    } else if dialect.keeps {
        format!("No tool output found for function call {}.", open.join(", "))
    } else {
        format!(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: {}",
            open.join(", ")
        )
    };
    Refusal::of(dialect.messages, "", message)
}

fn unasked(dialect: &Dialect, id: &str) -> Refusal {
    let message = if dialect.style == Style::Anthropic {
        format!("messages: unexpected `tool_use_id` found in `tool_result` blocks: {id}.")
    } else if dialect.keeps {
        format!("No tool call found for function call output with call_id {id}.")
    } else {
        "Invalid parameter: messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
            .to_owned()
    };
    Refusal::of(dialect.messages, "", message)
}

/// Says that there is no such model.
pub(super) fn no_model(id: &str) -> Refusal {
    let message = format!("The model `{id}` does not exist or you do not have access to it.");
    Refusal::new(Kind::UnknownModel, message).about(id)
}
