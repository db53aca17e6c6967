//! One canonical chat for all providers: messages, tools, schema, usage. Each dialect is a file.
//!
//! A question is `{ model, system, messages, tools, tool_choice, schema, schema_name, max_tokens, temperature, top_p,
//! stop, seed, effort, stream, sampling, extra }`; a message `{ role: system | user | assistant | tool, content,
//! tool_calls, tool_call_id, raw }` with a text or a list of `{ text }` and `{ image: { url | data, media_type } }` as
//! its content. `sampling: false` leaves out what some models refuse; `extra` is laid over the body as it is.
//!
//! An answer is `{ id, model, text, refusal, stop, tool_calls, usage, message, status, error }`; `stop` is one of `end
//! length tool_use refusal filter pause other`, `usage` counts `input cached cache_write output reasoning total`
//! tokens, where `input` holds those from the cache; `message` is what goes back in the next question, unchanged. A
//! stream is folded into the same. What is no answer, an error above all, is given as it came.

mod completions;
mod responses;

use std::sync::Arc;

use crate::connector::body;
use crate::connector::body::Payload;
use crate::connector::body::json;
use crate::connector::body::sse;
use crate::model::Map;
use crate::model::Value;
use crate::model::parse_json;
use crate::model::write_json;

/// The shapes that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// OpenAI Chat Completions, and those who copy it.
    Completions,
    /// OpenAI Responses.
    Responses,
}

impl Dialect {
    fn of(name: &str) -> Result<Self, String> {
        match name {
            "openai" => Ok(Self::Completions),
            "openai_responses" => Ok(Self::Responses),
            other => Err(format!("there is no dialect `{other}`; there are `openai` and `openai_responses`")),
        }
    }

    fn named(options: &Value) -> Option<Result<Self, String>> {
        options.get("dialect").and_then(Value::as_str).map(Self::of)
    }

    /// Tells a dialect by an answer, or by one event of its stream.
    fn of_answer(body: &Value) -> Self {
        let object = text(body, "object").unwrap_or_default();
        let kind = text(body, "type").unwrap_or_default();
        if object == "response" || kind.starts_with("response.") { Self::Responses } else { Self::Completions }
    }
}

/// Writes a question.
///
/// # Errors
/// What the question lacks, or cannot be said in this dialect.
pub fn encode(question: &Value) -> Result<Payload, String> {
    let dialect = Dialect::named(question).ok_or("`chat` needs a `dialect`")??;
    let mut wire = match dialect {
        Dialect::Completions => completions::question(question)?,
        Dialect::Responses => responses::question(question)?,
    };
    if let Some(extra) = question.get("extra").and_then(Value::as_map) {
        wire.extend(extra.iter().map(|(key, value)| (Arc::clone(key), value.clone())));
    }
    json::encode(&Value::from(wire))
}

/// Reads an answer or a stream. Without a dialect in `options` the answer tells it.
///
/// # Errors
/// What is no JSON, and a stream that breaks off: nothing is known of its end, nor of what it cost.
pub fn decode(content_type: Option<&str>, bytes: &[u8], options: &Value) -> Result<Value, String> {
    let is_stream = content_type.is_some_and(|kind| kind.trim_start().starts_with("text/event-stream"));
    let named = Dialect::named(options).transpose()?;
    if !is_stream {
        let body = json::decode(&body::text_of(content_type, bytes))?;
        return Ok(read(named.unwrap_or_else(|| Dialect::of_answer(&body)), body));
    }
    let events = sse::events(bytes)?;
    let first = events.first().and_then(|event| parse_json(&event.data).ok()).unwrap_or_default();
    let dialect = named.unwrap_or_else(|| Dialect::of_answer(&first));
    let mut datas = Vec::with_capacity(events.len());
    for event in events.iter().filter(|event| event.data != "[DONE]") {
        let data = parse_json(&event.data).map_err(|error| format!("an event of the stream is no JSON: {error}"))?;
        datas.push(data);
    }
    let whole = match dialect {
        Dialect::Completions => completions::fold(&datas, events.last().is_some_and(|last| last.data == "[DONE]")),
        Dialect::Responses => responses::fold(&datas),
    };
    Ok(read(dialect, whole?))
}

fn read(dialect: Dialect, body: Value) -> Value {
    match dialect {
        Dialect::Completions if body.get("choices").is_some() => completions::answer(&body),
        Dialect::Responses if body.get("output").is_some() => responses::answer(&body),
        _ => body,
    }
}

/// Reads a question, for the side that answers: its canonical shape without `raw`.
///
/// # Errors
/// What is no question of this dialect.
pub fn read_question(dialect: &str, wire: &Value) -> Result<Value, String> {
    match Dialect::of(dialect)? {
        Dialect::Completions => completions::read_question(wire),
        Dialect::Responses => responses::read_question(wire),
    }
}

/// Writes a canonical answer, for the side that answers: as one body, or as a stream where it was asked for. Beside
/// what is read of an answer, `thoughts` are items of the wire that come before the rest; a dialect without them leaves
/// them out, and so it does with an `error`, which is an answer that failed.
///
/// # Errors
/// A dialect that there is not.
pub fn write_answer(dialect: &str, answer: &Value, question: &Value, created: i64) -> Result<Payload, String> {
    let dialect = Dialect::of(dialect)?;
    let whole = match dialect {
        Dialect::Completions => completions::write_answer(answer, created),
        Dialect::Responses => responses::write_answer(answer, question, created),
    };
    if question.get("stream").and_then(Value::as_bool) != Some(true) {
        return json::encode(&whole);
    }
    let text = match dialect {
        Dialect::Completions => completions::write_stream(&whole, question),
        Dialect::Responses => responses::write_stream(&whole),
    };
    Ok(Payload::new("text/event-stream; charset=utf-8", text.into_bytes()))
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_list).unwrap_or_default()
}

fn count(value: Option<&Value>) -> i128 {
    match value {
        Some(Value::Int(count)) => *count,
        _ => 0,
    }
}

fn object<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::map(entries)
}

fn words(value: &Value) -> String {
    let mut text = String::new();
    write_json(value, &mut text);
    text
}

/// Copies what is given under the name of the wire.
fn copy(question: &Value, keys: &[(&str, &str)], wire: &mut Map) {
    for (own, theirs) in keys {
        if let Some(value) = question.get(own).filter(|value| !value.is_null()) {
            wire.insert((*theirs).into(), value.clone());
        }
    }
}

fn samples(question: &Value) -> bool {
    question.get("sampling").and_then(Value::as_bool) != Some(false)
}

fn messages(question: &Value) -> Result<&[Value], String> {
    match question.get("messages") {
        Some(Value::List(messages)) if !messages.is_empty() => Ok(messages),
        _ => Err("a chat needs `messages`".to_owned()),
    }
}

/// What a message says.
enum Part<'v> {
    Text(&'v str),
    Image(&'v Value),
}

/// Returns the parts of a message's content.
fn parts(content: Option<&Value>) -> Result<Vec<Part<'_>>, String> {
    match content {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::Text(text)]),
        Some(Value::List(parts)) => parts
            .iter()
            .map(|part| match (part, part.get("text"), part.get("image")) {
                (Value::String(text), ..) | (_, Some(Value::String(text)), _) => Ok(Part::Text(text)),
                (.., Some(image @ Value::Map(_))) => Ok(Part::Image(image)),
                _ => Err("a part of a message is `{ text }` or `{ image: { url } }`".to_owned()),
            })
            .collect(),
        Some(other) => Err(format!("the content of a message is a text or a list, not {}", other.kind().name())),
    }
}

/// Returns the address of an image: its own, or one that holds it.
fn image_url(image: &Value) -> Result<String, String> {
    if let Some(url) = text(image, "url") {
        return Ok(url.to_owned());
    }
    let data = text(image, "data").ok_or("an image has a `url`, or `data` in base64 and a `media_type`")?;
    Ok(format!("data:{};base64,{data}", text(image, "media_type").unwrap_or("image/png")))
}

/// Reads an image's address back.
fn image_of(url: &str) -> Value {
    let held = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    let image = match held {
        Some((media_type, data)) => object([("media_type", media_type.into()), ("data", data.into())]),
        None => object([("url", url.into())]),
    };
    object([("image", image)])
}

/// The schema of a structured answer, with the name that providers ask for.
fn schema(question: &Value) -> Option<(Value, Value, Value)> {
    let schema = question.get("schema").filter(|schema| !schema.is_null())?;
    let name = text(question, "schema_name").unwrap_or("answer");
    let strict = question.get("strict").and_then(Value::as_bool).unwrap_or(true).into();
    Some((name.into(), schema.clone(), strict))
}

/// Reads a call of a tool; its arguments come as a text that a model has written.
fn tool_call(id: Option<&Value>, name: Option<&Value>, arguments: Option<&Value>) -> Value {
    let written = arguments.and_then(Value::as_str).unwrap_or_default();
    let parsed = if written.trim().is_empty() { Ok(Value::map::<&str>([])) } else { parse_json(written) };
    let get = |value: Option<&Value>| value.cloned().unwrap_or_default();
    match parsed {
        Ok(arguments) => object([("id", get(id)), ("name", get(name)), ("arguments", arguments)]),
        Err(error) => object([
            ("id", get(id)),
            ("name", get(name)),
            ("arguments", Value::Null),
            ("written", written.into()),
            ("error", format!("the arguments are no JSON: {error}").into()),
        ]),
    }
}

/// Writes the arguments of a call as the text that the wire wants.
fn arguments(call: &Value) -> Value {
    if let Some(written) = call.get("written") {
        return written.clone();
    }
    call.get("arguments").filter(|it| !it.is_null()).map_or_else(|| "{}".into(), |it| words(it).into())
}

/// What an answer used.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    input: i128,
    cached: i128,
    cache_write: i128,
    output: i128,
    reasoning: i128,
}

impl Usage {
    fn value(self) -> Value {
        object([
            ("input", Value::Int(self.input)),
            ("cached", Value::Int(self.cached)),
            ("cache_write", Value::Int(self.cache_write)),
            ("output", Value::Int(self.output)),
            ("reasoning", Value::Int(self.reasoning)),
            ("total", Value::Int(self.input + self.output)),
        ])
    }

    fn of(answer: &Value) -> Self {
        let get = |key: &str| count(answer.get("usage").and_then(|usage| usage.get(key)));
        Self {
            input: get("input"),
            cached: get("cached"),
            cache_write: get("cache_write"),
            output: get("output"),
            reasoning: get("reasoning"),
        }
    }
}

fn or_null(text: String) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

/// Cuts a text into the pieces of a stream.
fn pieces(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(8).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests;
