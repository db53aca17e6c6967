//! One canonical chat for all providers: messages, tools, schema, usage. Each dialect is a file.
//!
//! A question is `{ model, system, messages, tools, tool_choice, schema, schema_name, max_tokens, temperature, top_p,
//! stop, seed, effort, stream, sampling, extra }`; a message `{ role: system | user | assistant | tool, content,
//! tool_calls, tool_call_id, raw, dialect }` with a text or a list of `{ text }` and `{ image: { url | data, media_type } }`
//! as its content. `sampling: false` leaves out what some models refuse; `extra` is laid over the body as it is, key by
//! key where both are maps.
//!
//! An answer is `{ id, model, text, thinking, refusal, stop, stop_reason, tool_calls, usage, message, status, error }`;
//! `stop` is one of `end length tool_use refusal filter pause other`, `usage` counts `input cached cache_write output
//! reasoning total` tokens, where `input` holds those from and for the cache, and `cache_write_1h` those of
//! `cache_write` that are kept for an hour, where there are any; `estimated: true` says that nobody has counted them.
//! `message` is what goes back in the next question, unchanged: to another dialect goes what it means, to its own what
//! it was (`raw`), thoughts with their signatures above all. A stream is folded into the same. What is no answer, an
//! error above all, is given as it came.

mod anthropic;
mod cohere;
mod completions;
mod ollama;
pub mod pieces;
mod reading;
mod responses;

use std::sync::Arc;

use self::reading::Reading;
use self::reading::Usage;
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
    /// Anthropic Messages.
    Anthropic,
    /// Cohere, the second version.
    Cohere,
    /// Ollama's own.
    Ollama,
    /// OpenAI Chat Completions, and those who copy it.
    Completions,
    /// OpenAI Responses.
    Responses,
}

const DIALECTS: &[(&str, Dialect)] = &[
    ("anthropic", Dialect::Anthropic),
    ("cohere", Dialect::Cohere),
    ("ollama", Dialect::Ollama),
    ("openai", Dialect::Completions),
    ("openai_responses", Dialect::Responses),
];

impl Dialect {
    fn of(name: &str) -> Result<Self, String> {
        let found = DIALECTS.iter().find(|(own, _)| *own == name);
        found.map(|(_, dialect)| *dialect).ok_or_else(|| {
            let known: Vec<String> = DIALECTS.iter().map(|(own, _)| format!("`{own}`")).collect();
            format!("there is no dialect `{name}`; there are {}", known.join(", "))
        })
    }

    fn name(self) -> &'static str {
        DIALECTS.iter().find(|(_, own)| *own == self).map_or("", |(name, _)| name)
    }

    fn named(options: &Value) -> Option<Result<Self, String>> {
        options.get("dialect").and_then(Value::as_str).map(Self::of)
    }

    /// Tells a dialect by an answer, or by one event of its stream.
    fn of_answer(body: &Value) -> Self {
        let object = text(body, "object").unwrap_or_default();
        let kind = text(body, "type").unwrap_or_default();
        if object == "response" || kind.starts_with("response.") {
            Self::Responses
        } else if kind == "message" || kind.starts_with("message_") {
            Self::Anthropic
        } else if kind.starts_with("message-") || body.get("finish_reason").is_some() {
            Self::Cohere
        } else if body.get("done").is_some() {
            Self::Ollama
        } else {
            Self::Completions
        }
    }
}

/// Writes a question.
///
/// # Errors
/// What the question lacks, or cannot be said in this dialect.
pub fn encode(question: &Value) -> Result<Payload, String> {
    let dialect = Dialect::named(question).ok_or("`chat` needs a `dialect`")??;
    let mut wire = match dialect {
        Dialect::Anthropic => anthropic::question(question)?,
        Dialect::Cohere => cohere::question(question)?,
        Dialect::Ollama => ollama::question(question)?,
        Dialect::Completions => completions::question(question)?,
        Dialect::Responses => responses::question(question)?,
    };
    for (key, value) in question.get("extra").and_then(Value::as_map).into_iter().flatten() {
        let laid = match (wire.get(key).and_then(Value::as_map), value.as_map()) {
            (Some(below), Some(above)) => {
                let mut both = below.clone();
                both.extend(above.iter().map(|(key, value)| (Arc::clone(key), value.clone())));
                both.into()
            }
            _ => value.clone(),
        };
        wire.insert(Arc::clone(key), laid);
    }
    json::encode(&Value::from(wire))
}

/// Reads an answer or a stream. Without a dialect in `options` the answer tells it; with `estimates: true` there, what
/// an answer used is estimated where it does not say it, by what was `asked`.
///
/// # Errors
/// What is no JSON, and a stream that breaks off: nothing is known of its end, nor of what it cost.
pub fn decode(content_type: Option<&str>, bytes: &[u8], options: &Value) -> Result<Value, String> {
    let named = Dialect::named(options).transpose()?;
    let (dialect, body) = match Wire::of(content_type) {
        Wire::Events => {
            let (datas, done) = events(bytes)?;
            let dialect = named.unwrap_or_else(|| Dialect::of_answer(datas.first().unwrap_or(&Value::Null)));
            (dialect, fold(dialect, &datas, done)?)
        }
        Wire::Lines => {
            let lines = lines(content_type, bytes)?;
            let dialect = named.unwrap_or_else(|| Dialect::of_answer(lines.first().unwrap_or(&Value::Null)));
            (dialect, fold(dialect, &lines, false)?)
        }
        Wire::Whole => {
            let body = json::decode(&body::text_of(content_type, bytes))?;
            (named.unwrap_or_else(|| Dialect::of_answer(&body)), body)
        }
    };
    let answer = read(dialect, body);
    if options.get("estimates").and_then(Value::as_bool) != Some(true) {
        return Ok(answer);
    }
    Ok(reading::estimated(answer, options.get("asked").unwrap_or(&Value::Null)))
}

/// How an answer comes.
enum Wire {
    Whole,
    /// Server-sent events.
    Events,
    /// A document a line.
    Lines,
}

impl Wire {
    fn of(content_type: Option<&str>) -> Self {
        let kind = content_type.unwrap_or_default().trim_start();
        if kind.starts_with("text/event-stream") {
            Self::Events
        } else if kind.starts_with("application/x-ndjson") || kind.starts_with("application/jsonl") {
            Self::Lines
        } else {
            Self::Whole
        }
    }
}

/// Returns what the events of a stream say, and whether it said that it was done. Comments are passed over.
fn events(bytes: &[u8]) -> Result<(Vec<Value>, bool), String> {
    let events = sse::events(bytes)?;
    let done = events.last().is_some_and(|last| last.data.trim() == "[DONE]");
    let mut datas = Vec::with_capacity(events.len());
    for event in events.iter().filter(|event| !matches!(event.data.trim(), "[DONE]" | "")) {
        let data = parse_json(&event.data).map_err(|error| format!("an event of the stream is no JSON: {error}"))?;
        datas.push(data);
    }
    Ok((datas, done))
}

/// Returns the documents of a stream of lines; a last line that broke off in its middle is none.
fn lines(content_type: Option<&str>, bytes: &[u8]) -> Result<Vec<Value>, String> {
    let text = body::text_of(content_type, bytes);
    let written: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut lines = Vec::with_capacity(written.len());
    for (number, line) in written.iter().enumerate() {
        match parse_json(line) {
            Ok(value) => lines.push(value),
            Err(_) if number + 1 == written.len() && !text.ends_with('\n') => {}
            Err(error) => return Err(format!("line {} of the stream is no JSON: {error}", number + 1)),
        }
    }
    Ok(lines)
}

fn fold(dialect: Dialect, datas: &[Value], done: bool) -> Result<Value, String> {
    match dialect {
        Dialect::Anthropic => anthropic::fold(datas),
        Dialect::Cohere => cohere::fold(datas),
        Dialect::Ollama => ollama::fold(datas),
        Dialect::Completions => completions::fold(datas, done),
        Dialect::Responses => responses::fold(datas),
    }
}

fn broken_off() -> String {
    "the stream broke off before its end".to_owned()
}

fn read(dialect: Dialect, body: Value) -> Value {
    match dialect {
        Dialect::Anthropic if text(&body, "type") == Some("message") => anthropic::answer(&body),
        Dialect::Cohere if body.get("finish_reason").is_some() => cohere::answer(&body),
        Dialect::Ollama if body.get("message").is_some_and(|it| it.as_map().is_some()) => ollama::answer(&body),
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
        Dialect::Anthropic => anthropic::read_question(wire),
        Dialect::Cohere => cohere::read_question(wire),
        Dialect::Ollama => ollama::read_question(wire),
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
        Dialect::Anthropic => anthropic::write_answer(answer),
        Dialect::Cohere => cohere::write_answer(answer),
        Dialect::Ollama => ollama::write_answer(answer, created),
        Dialect::Completions => completions::write_answer(answer, created),
        Dialect::Responses => responses::write_answer(answer, question, created),
    };
    if question.get("stream").and_then(Value::as_bool) != Some(true) {
        return json::encode(&whole);
    }
    let text = match dialect {
        Dialect::Anthropic => anthropic::write_stream(&whole),
        Dialect::Cohere => cohere::write_stream(&whole),
        Dialect::Ollama => return Ok(Payload::new("application/x-ndjson", ollama::write_stream(&whole).into_bytes())),
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

/// What this dialect itself has said goes back as it came; to others goes what it means.
fn raw(message: &Value, dialect: Dialect) -> Option<&Value> {
    let own = text(message, "dialect").is_none_or(|own| own == dialect.name());
    message.get("raw").filter(|raw| own && !raw.is_null())
}

/// Reads a call of a tool; its arguments come as a text that a model has written, or as what it says.
fn tool_call(id: Option<&Value>, name: Option<&Value>, arguments: Option<&Value>) -> Value {
    if let Some(Value::Map(_)) = arguments {
        return object([
            ("id", id.cloned().unwrap_or_default()),
            ("name", name.cloned().unwrap_or_default()),
            ("arguments", arguments.cloned().unwrap_or_default()),
        ]);
    }
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

/// Returns the arguments of a call as the map that some wires want; what a model has written that is none is nothing.
fn arguments_map(call: &Value) -> Value {
    call.get("arguments").filter(|it| it.as_map().is_some()).cloned().unwrap_or_else(|| Value::map::<&str>([]))
}

/// Makes up the id of a call that came without one, from what is the answer's own.
fn made_up_id(of: &str, number: usize) -> Value {
    let letters: String = of.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("call_{letters}_{number}").into()
}

/// Returns the text that stands for a content: one text, or the JSON of what is none.
fn content_text(content: Option<&Value>) -> Value {
    match content {
        None | Some(Value::Null) => "".into(),
        Some(text @ Value::String(_)) => text.clone(),
        Some(Value::List(parts)) if parts.iter().all(|part| text(part, "text").is_some()) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| text(part, "text")).collect();
            texts.join("\n").into()
        }
        Some(other) => words(other).into(),
    }
}

/// Returns the names that a text or a list of texts holds, as a list.
fn listed(value: Option<&Value>) -> Option<Value> {
    match value {
        None | Some(Value::Null) => None,
        Some(list @ Value::List(_)) => Some(list.clone()),
        Some(one) => Some(Value::list(vec![one.clone()])),
    }
}

/// Writes the arguments of a call as the text that the wire wants.
fn arguments(call: &Value) -> Value {
    if let Some(written) = call.get("written") {
        return written.clone();
    }
    call.get("arguments").filter(|it| !it.is_null()).map_or_else(|| "{}".into(), |it| words(it).into())
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
