//! OpenAI Chat Completions (OpenAPI document 2.3.0 of 2026-08-21).

use std::fmt::Write;

use super::Dialect;
use super::Part;
use super::Reading;
use super::Usage;
use super::arguments;
use super::broken_off;
use super::content_text;
use super::copy;
use super::count;
use super::image_of;
use super::image_url;
use super::list;
use super::made_up_id;
use super::messages;
use super::object;
use super::or_null;
use super::parts;
use super::pieces;
use super::raw;
use super::samples;
use super::schema;
use super::text;
use super::tool_call;
use super::words;
use crate::model::Map;
use crate::model::Value;

const SAMPLING: &[(&str, &str)] = &[("temperature", "temperature"), ("top_p", "top_p"), ("seed", "seed")];

pub(super) fn question(question: &Value) -> Result<Map, String> {
    let mut wire = Map::new();
    copy(question, &[("model", "model")], &mut wire);
    let mut turns = Vec::new();
    if let Some(system) = question.get("system").filter(|system| system.is_truthy()) {
        turns.push(object([("role", "system".into()), ("content", system.clone())]));
    }
    for message in messages(question)? {
        turns.push(turn(message)?);
    }
    wire.insert("messages".into(), Value::list(turns));
    copy(question, &[("stop", "stop"), ("effort", "reasoning_effort"), ("stream", "stream")], &mut wire);
    // Those who copy the shape know the old name only; the question says which of them it asks.
    let cap = text(question, "max_tokens_key").unwrap_or("max_completion_tokens");
    copy(question, &[("max_tokens", cap)], &mut wire);
    if samples(question) {
        copy(question, SAMPLING, &mut wire);
    }
    if question.get("stream").and_then(Value::as_bool) == Some(true) {
        wire.insert("stream_options".into(), object([("include_usage", Value::Bool(true))]));
    }
    let tools: Vec<_> = list(question, "tools").iter().map(tool).collect();
    if !tools.is_empty() {
        wire.insert("tools".into(), Value::list(tools));
        if let Some(choice) = question.get("tool_choice").filter(|choice| !choice.is_null()) {
            let named = text(choice, "name").map(|name| object([("name", name.into())]));
            let asked = choice.clone();
            let choice = named.map(|named| object([("type", "function".into()), ("function", named)]));
            wire.insert("tool_choice".into(), choice.unwrap_or(asked));
        }
    }
    if let Some((name, schema, strict)) = schema(question) {
        let format = if text(question, "schema_as") == Some("json_object") {
            // Some know a schema as a part of their JSON mode only.
            object([("type", "json_object".into()), ("schema", schema)])
        } else {
            let shape = object([("name", name), ("schema", schema), ("strict", strict)]);
            object([("type", "json_schema".into()), ("json_schema", shape)])
        };
        wire.insert("response_format".into(), format);
    }
    Ok(wire)
}

fn tool(tool: &Value) -> Value {
    let mut function = Map::new();
    let keys = [("name", "name"), ("description", "description"), ("parameters", "parameters"), ("strict", "strict")];
    copy(tool, &keys, &mut function);
    object([("type", "function".into()), ("function", Value::from(function))])
}

fn turn(message: &Value) -> Result<Value, String> {
    // What the same provider has said goes back as it came.
    if let Some(raw) = raw(message, Dialect::Completions).filter(|raw| raw.get("role").is_some()) {
        return Ok(raw.clone());
    }
    let role = text(message, "role").ok_or("a message needs a `role`")?;
    let mut turn = Map::from_iter([("role".into(), role.into())]);
    let parts = parts(message.get("content"))?;
    let content = match parts.as_slice() {
        [] => Value::Null,
        [Part::Text(text)] => (*text).into(),
        parts => Value::list(parts.iter().map(part).collect::<Result<_, _>>()?),
    };
    turn.insert("content".into(), content);
    let calls: Vec<_> = list(message, "tool_calls").iter().map(call).collect();
    if !calls.is_empty() {
        turn.insert("tool_calls".into(), Value::list(calls));
    }
    copy(message, &[("tool_call_id", "tool_call_id")], &mut turn);
    Ok(turn.into())
}

fn part(part: &Part<'_>) -> Result<Value, String> {
    Ok(match part {
        Part::Text(text) => object([("type", "text".into()), ("text", (*text).into())]),
        Part::Image(image) => {
            let mut url = Map::from_iter([("url".into(), image_url(image)?.into())]);
            copy(image, &[("detail", "detail")], &mut url);
            object([("type", "image_url".into()), ("image_url", url.into())])
        }
    })
}

fn call(call: &Value) -> Value {
    let function = object([("name", call.get("name").cloned().unwrap_or_default()), ("arguments", arguments(call))]);
    let id = call.get("id").cloned().unwrap_or_default();
    object([("id", id), ("type", "function".into()), ("function", function)])
}

pub(super) fn answer(body: &Value) -> Value {
    let choice = list(body, "choices").first().cloned().unwrap_or_default();
    let message = with_ids(choice.get("message").cloned().unwrap_or_default(), body);
    let calls: Vec<_> = list(&message, "tool_calls").iter().map(read_call).collect();
    let refusal = message.get("refusal").cloned().unwrap_or_default();
    let reason = text(&choice, "finish_reason").unwrap_or_default();
    let stop = match reason {
        _ if !refusal.is_null() => "refusal",
        "stop" if calls.is_empty() => "end",
        // Some who copy the shape say `stop` and call.
        "stop" | "tool_calls" | "function_call" => "tool_use",
        "length" => "length",
        "content_filter" => "filter",
        _ => "other",
    };
    let used = body.get("usage").filter(|used| !used.is_null());
    let detail = |part: &str, key: &str| count(used.and_then(|used| used.get(part)).and_then(|part| part.get(key)));
    let usage = used.map(|used| Usage {
        input: count(used.get("prompt_tokens")),
        cached: detail("prompt_tokens_details", "cached_tokens"),
        cache_write: detail("prompt_tokens_details", "cache_write_tokens"),
        output: count(used.get("completion_tokens")),
        reasoning: detail("completion_tokens_details", "reasoning_tokens"),
        ..Usage::default()
    });
    let get = |key: &str| body.get(key).cloned().unwrap_or_default();
    let content = match message.get("content") {
        // Beside calls, an empty text is none.
        Some(Value::String(text)) if text.is_empty() && !calls.is_empty() => Value::Null,
        // Some give it in parts.
        Some(parts @ Value::List(_)) => content_text(Some(parts)),
        content => content.cloned().unwrap_or_default(),
    };
    let reading = Reading {
        id: get("id"),
        model: get("model"),
        text: content,
        thinking: thinking(&message).to_owned(),
        refusal,
        stop,
        reason: reason.to_owned(),
        calls,
        usage,
        raw: message,
        status: None,
        error: get("error"),
    };
    reading.value(Dialect::Completions)
}

/// What a model thought: two names for it are in use.
fn thinking(message: &Value) -> &str {
    let found = ["reasoning", "reasoning_content"].iter().find_map(|key| text(message, key));
    found.unwrap_or_default()
}

/// Gives an id to calls that have none, so that their results can name them.
fn with_ids(message: Value, body: &Value) -> Value {
    let lacks = |call: &Value| call.get("id").is_none_or(|id| !id.is_truthy());
    let calls = list(&message, "tool_calls");
    if !calls.iter().any(lacks) {
        return message;
    }
    let of = text(body, "id").unwrap_or_default();
    let calls: Vec<Value> = calls
        .iter()
        .enumerate()
        .map(|(number, call)| {
            let mut own = call.as_map().cloned().unwrap_or_default();
            if lacks(call) {
                own.insert("id".into(), made_up_id(of, number));
                own.entry("type".into()).or_insert_with(|| "function".into());
            }
            own.into()
        })
        .collect();
    let mut message = message.as_map().cloned().unwrap_or_default();
    message.insert("tool_calls".into(), Value::list(calls));
    message.into()
}

fn read_call(call: &Value) -> Value {
    let function = call.get("function").cloned().unwrap_or_default();
    tool_call(call.get("id"), function.get("name"), function.get("arguments"))
}

/// Folds the chunks of a stream into the body that it stands for.
pub(super) fn fold(chunks: &[Value], done: bool) -> Result<Value, String> {
    let mut whole = Map::new();
    let (mut content, mut refusal, mut role) = (String::new(), String::new(), Value::from("assistant"));
    let (mut has_content, mut reason, mut usage) = (false, Value::Null, Value::Null);
    let mut thoughts: Option<(&str, String)> = None;
    let mut calls: Vec<Folded> = Vec::new();
    for chunk in chunks {
        if chunk.get("error").is_some_and(|error| !error.is_null()) {
            return Ok(chunk.clone());
        }
        copy(chunk, &[("id", "id"), ("model", "model"), ("created", "created")], &mut whole);
        if let Some(used) = chunk.get("usage").filter(|used| !used.is_null()) {
            usage = used.clone();
        }
        let Some(choice) = list(chunk, "choices").iter().find(|choice| count(choice.get("index")) == 0) else {
            continue;
        };
        if let Some(said) = choice.get("finish_reason").filter(|said| !said.is_null()) {
            reason = said.clone();
        }
        let Some(delta) = choice.get("delta") else { continue };
        if let Some(said) = delta.get("role").filter(|said| !said.is_null()) {
            role = said.clone();
        }
        if let Some(piece) = text(delta, "content") {
            has_content = true;
            content.push_str(piece);
        }
        refusal.push_str(text(delta, "refusal").unwrap_or_default());
        if let Some((key, piece)) =
            ["reasoning", "reasoning_content"].iter().find_map(|key| Some((*key, text(delta, key)?)))
        {
            thoughts.get_or_insert_with(|| (key, String::new())).1.push_str(piece);
        }
        for piece in list(delta, "tool_calls") {
            Folded::take(&mut calls, piece);
        }
    }
    // Some who copy the shape forget the last line, but none the reason.
    if !done && reason.is_null() {
        return Err(broken_off());
    }
    calls.sort_by_key(|call| call.index);
    let calls: Vec<_> = calls.into_iter().map(Folded::value).collect();
    let mut message = Map::from_iter([
        ("role".into(), role),
        (
            "content".into(),
            // The first chunk has an empty content even where nothing but calls or a refusal follows.
            if has_content && (!content.is_empty() || calls.is_empty() && refusal.is_empty()) {
                content.into()
            } else {
                Value::Null
            },
        ),
        ("refusal".into(), or_null(refusal)),
    ]);
    message.extend(thoughts.map(|(key, thoughts)| (key.into(), thoughts.into())));
    if !calls.is_empty() {
        message.insert("tool_calls".into(), Value::list(calls));
    }
    let choice = object([("index", Value::Int(0)), ("finish_reason", reason), ("message", message.into())]);
    whole.insert("choices".into(), Value::list(vec![choice]));
    whole.insert("usage".into(), usage);
    Ok(whole.into())
}

/// A call whose pieces are put together.
struct Folded {
    index: i128,
    id: Value,
    name: Value,
    written: String,
    /// Arguments that came as what they say, in one piece.
    whole: Option<Value>,
}

impl Folded {
    fn take(calls: &mut Vec<Self>, piece: &Value) {
        let last = calls.last().map_or(-1, |call| call.index);
        let function = piece.get("function").cloned().unwrap_or_default();
        let named = function.get("name").filter(|said| said.is_truthy()).cloned();
        let index = match piece.get("index") {
            Some(Value::Int(index)) => *index,
            // Without a number a name begins the next call, and what has none goes on.
            _ if named.is_some() => last + 1,
            _ => last.max(0),
        };
        let at = calls.iter().position(|own| own.index == index).unwrap_or_else(|| {
            calls.push(Self { index, id: Value::Null, name: Value::Null, written: String::new(), whole: None });
            calls.len() - 1
        });
        let Some(call) = calls.get_mut(at) else { return };
        if let Some(said) = piece.get("id").filter(|said| said.is_truthy()) {
            call.id = said.clone();
        }
        if let Some(said) = named {
            call.name = said;
        }
        match function.get("arguments") {
            Some(whole @ Value::Map(_)) => call.whole = Some(whole.clone()),
            arguments => call.written.push_str(arguments.and_then(Value::as_str).unwrap_or_default()),
        }
    }

    fn value(self) -> Value {
        let arguments = self.whole.unwrap_or_else(|| self.written.into());
        let function = object([("name", self.name), ("arguments", arguments)]);
        object([("id", self.id), ("type", "function".into()), ("function", function)])
    }
}

pub(super) fn read_question(wire: &Value) -> Result<Value, String> {
    let mut question = Map::new();
    let keys = [
        ("model", "model"),
        ("max_tokens", "max_tokens"),
        ("max_completion_tokens", "max_tokens"),
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("seed", "seed"),
        ("stop", "stop"),
        ("reasoning_effort", "effort"),
        ("stream", "stream"),
        ("stream_options", "stream_options"),
        ("parallel_tool_calls", "parallel_tool_calls"),
    ];
    copy(wire, &keys, &mut question);
    let mut turns = Vec::new();
    for turn in messages(wire)? {
        turns.push(read_turn(turn));
    }
    question.insert("messages".into(), Value::list(turns));
    let tools: Vec<_> = list(wire, "tools").iter().filter_map(|tool| tool.get("function").cloned()).collect();
    question.insert("tools".into(), Value::list(tools));
    let choice = wire.get("tool_choice").map(|choice| choice.get("function").unwrap_or(choice));
    question.insert("tool_choice".into(), choice.cloned().unwrap_or_default());
    if let Some(format) = wire.get("response_format") {
        copy(
            format.get("json_schema").unwrap_or(format),
            &[("schema", "schema"), ("name", "schema_name"), ("strict", "strict")],
            &mut question,
        );
    }
    Ok(question.into())
}

fn read_turn(turn: &Value) -> Value {
    let mut message = Map::new();
    copy(turn, &[("role", "role"), ("tool_call_id", "tool_call_id")], &mut message);
    let content = match turn.get("content") {
        Some(Value::List(parts)) => Value::list(
            parts
                .iter()
                .map(|part| match part.get("image_url").and_then(|image| text(image, "url")) {
                    Some(url) => image_of(url),
                    None => object([("text", part.get("text").cloned().unwrap_or_default())]),
                })
                .collect(),
        ),
        other => other.cloned().unwrap_or_default(),
    };
    message.insert("content".into(), content);
    let calls: Vec<_> = list(turn, "tool_calls").iter().map(read_call).collect();
    if !calls.is_empty() {
        message.insert("tool_calls".into(), Value::list(calls));
    }
    message.into()
}

pub(super) fn write_answer(answer: &Value, created: i64) -> Value {
    let calls: Vec<_> = list(answer, "tool_calls").iter().map(call).collect();
    let reason = match text(answer, "stop").unwrap_or("end") {
        "length" => "length",
        "tool_use" => "tool_calls",
        "filter" => "content_filter",
        _ => "stop",
    };
    let get = |key: &str| answer.get(key).cloned().unwrap_or_default();
    let mut message = Map::from_iter([
        ("role".into(), "assistant".into()),
        ("content".into(), get("text")),
        ("refusal".into(), get("refusal")),
        ("annotations".into(), Value::list(Vec::new())),
    ]);
    if !calls.is_empty() {
        message.insert("tool_calls".into(), Value::list(calls));
    }
    let usage = Usage::of(answer);
    let choice = object([
        ("index", Value::Int(0)),
        ("finish_reason", reason.into()),
        ("logprobs", Value::Null),
        ("message", message.into()),
    ]);
    object([
        ("id", get("id")),
        ("object", "chat.completion".into()),
        ("created", Value::Int(created.into())),
        ("model", get("model")),
        ("service_tier", "default".into()),
        ("choices", Value::list(vec![choice])),
        (
            "usage",
            object([
                ("prompt_tokens", Value::Int(usage.input)),
                ("completion_tokens", Value::Int(usage.output)),
                ("total_tokens", Value::Int(usage.input + usage.output)),
                (
                    "prompt_tokens_details",
                    object([
                        ("cached_tokens", Value::Int(usage.cached)),
                        ("audio_tokens", Value::Int(0)),
                        ("cache_write_tokens", Value::Int(usage.cache_write)),
                    ]),
                ),
                (
                    "completion_tokens_details",
                    object([
                        ("reasoning_tokens", Value::Int(usage.reasoning)),
                        ("audio_tokens", Value::Int(0)),
                        ("accepted_prediction_tokens", Value::Int(0)),
                        ("rejected_prediction_tokens", Value::Int(0)),
                    ]),
                ),
            ]),
        ),
    ])
}

pub(super) fn write_stream(whole: &Value, question: &Value) -> String {
    let mut out = String::new();
    let get = |key: &str| whole.get(key).cloned().unwrap_or_default();
    let mut chunk = |choices: Vec<Value>, usage: Option<Value>| {
        let mut data = Map::from_iter([
            ("id".into(), get("id")),
            ("object".into(), "chat.completion.chunk".into()),
            ("created".into(), get("created")),
            ("model".into(), get("model")),
            ("choices".into(), Value::list(choices)),
        ]);
        data.extend(usage.map(|usage| ("usage".into(), usage)));
        let _ = write!(out, "data: {}\n\n", words(&data.into()));
    };
    let choice = |delta: Value, reason: Value| {
        vec![object([("index", Value::Int(0)), ("delta", delta), ("logprobs", Value::Null), ("finish_reason", reason)])]
    };
    let first = list(whole, "choices").first().cloned().unwrap_or_default();
    let message = first.get("message").cloned().unwrap_or_default();
    chunk(choice(object([("role", "assistant".into()), ("content", "".into())]), Value::Null), None);
    for piece in pieces(text(&message, "content").unwrap_or_default()) {
        chunk(choice(object([("content", piece.into())]), Value::Null), None);
    }
    for piece in pieces(text(&message, "refusal").unwrap_or_default()) {
        chunk(choice(object([("refusal", piece.into())]), Value::Null), None);
    }
    for (index, call) in (0..).zip(list(&message, "tool_calls")) {
        let get = |key: &str| call.get(key).cloned().unwrap_or_default();
        let function = get("function");
        let name = function.get("name").cloned().unwrap_or_default();
        let head = object([
            ("index", Value::Int(index)),
            ("id", get("id")),
            ("type", "function".into()),
            ("function", object([("name", name), ("arguments", "".into())])),
        ]);
        chunk(choice(object([("tool_calls", Value::list(vec![head]))]), Value::Null), None);
        for piece in pieces(text(&function, "arguments").unwrap_or_default()) {
            let rest = object([("index", Value::Int(index)), ("function", object([("arguments", piece.into())]))]);
            chunk(choice(object([("tool_calls", Value::list(vec![rest]))]), Value::Null), None);
        }
    }
    chunk(choice(Value::map::<&str>([]), first.get("finish_reason").cloned().unwrap_or_default()), None);
    let options = question.get("stream_options");
    if options.and_then(|options| options.get("include_usage")).is_some_and(Value::is_truthy) {
        chunk(Vec::new(), whole.get("usage").cloned());
    }
    out.push_str("data: [DONE]\n\n");
    out
}
