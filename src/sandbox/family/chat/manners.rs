//! What each provider demands of a question beside its parameters.

use super::check::at;
use super::check::missing;
use super::check::wrong_type;
use super::dialect::Dialect;
use super::list;
use super::refusal::Refusal;
use super::text;
use crate::model::Value;

/// How long the name of a tool may be.
const LONGEST_NAME: usize = 128;

fn refused(param: &str, message: impl Into<String>) -> Refusal {
    Refusal::of(param, "", message)
}

pub(super) fn of_anthropic(dialect: &Dialect, wire: &Value) -> Result<(), Refusal> {
    for (number, tool) in list(wire, "tools").iter().enumerate() {
        let path = format!("tools.{number}");
        let Some(name) = text(tool, "name") else { return Err(missing(&format!("{path}.name"))) };
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(known) {
            return Err(refused(&path, format!("{path}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")));
        }
        // Tools of the provider's own have a type and no schema.
        if text(tool, "type").is_none_or(|kind| kind == "custom") {
            let schema = tool.get("input_schema").ok_or_else(|| missing(&format!("{path}.input_schema")))?;
            if text(schema, "type") != Some("object") {
                return Err(refused(&path, format!("{path}.input_schema.type: Input should be 'object'")));
            }
        }
    }
    if let Some(schema) = at(wire, dialect.schema).and_then(|format| format.get("schema")) {
        closed(schema)?;
    } else if at(wire, dialect.format).is_some() {
        return Err(missing("output_config.format.schema"));
    }
    let turns = list(wire, "messages");
    for (number, turn) in turns.iter().enumerate() {
        if !matches!(text(turn, "role"), Some("user" | "assistant" | "system")) {
            let message = format!("messages.{number}.role: Input should be 'user' or 'assistant'");
            return Err(refused("messages", message));
        }
        for (part, block) in list(turn, "content").iter().enumerate() {
            let signed = text(block, "signature").is_some_and(|signature| !signature.is_empty());
            if text(block, "type") == Some("thinking") && !signed {
                let message = format!("messages.{number}.content.{part}.thinking.signature: Field required");
                return Err(refused("messages", message));
            }
        }
    }
    if turns.last().and_then(|turn| text(turn, "role")) == Some("assistant") {
        let message =
            "This model does not support assistant message prefill. The conversation must end with a user message.";
        return Err(refused("messages", message));
    }
    if let Some(budget) = at(wire, "thinking.budget_tokens") {
        let Value::Int(budget) = budget else { return Err(wrong_type("thinking.budget_tokens", "an integer", budget)) };
        let most = match wire.get("max_tokens") {
            Some(Value::Int(most)) => *most,
            _ => 0,
        };
        if *budget < 1_024 || *budget >= most {
            let message = "thinking.budget_tokens: it must be at least 1024 and less than `max_tokens`";
            return Err(refused("thinking.budget_tokens", message));
        }
    }
    Ok(())
}

/// Checks that every object of a schema says that it has no other properties.
fn closed(schema: &Value) -> Result<(), Refusal> {
    match schema {
        Value::List(items) => items.iter().try_for_each(closed),
        Value::Map(map) => {
            let is_object = text(schema, "type") == Some("object");
            if is_object && schema.get("additionalProperties").and_then(Value::as_bool) != Some(false) {
                let message = "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false";
                return Err(refused("output_config.format.schema", message));
            }
            map.values().try_for_each(closed)
        }
        _ => Ok(()),
    }
}

pub(super) fn of_cohere(wire: &Value) -> Result<(), Refusal> {
    for (number, tool) in list(wire, "tools").iter().enumerate() {
        let name = at(tool, "function.name").and_then(Value::as_str).unwrap_or_default();
        let known = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if name.is_empty() || !known || name.bytes().next().is_some_and(|first| first.is_ascii_digit()) {
            let message = format!(
                "invalid request: tools[{number}].function.name must only contain letters, numbers and underscores and not start with a number"
            );
            return Err(refused("tools", message));
        }
    }
    if at(wire, "tool_choice").is_some() && list(wire, "tools").is_empty() {
        return Err(refused("tool_choice", "invalid request: tool_choice requires tools"));
    }
    if at(wire, "response_format").is_some() && !list(wire, "documents").is_empty() {
        return Err(refused("response_format", "invalid request: response_format is not supported with documents"));
    }
    Ok(())
}
