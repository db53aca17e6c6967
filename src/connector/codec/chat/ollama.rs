//! Ollama's own interface (repository of 2026-08-21): a document, or one a line.

use super::Dialect;
use super::Part;
use super::Reading;
use super::Usage;
use super::arguments_map;
use super::broken_off;
use super::content_text;
use super::copy;
use super::count;
use super::list;
use super::listed;
use super::made_up_id;
use super::messages;
use super::object;
use super::or_null;
use super::parts;
use super::pieces;
use super::raw;
use super::samples;
use super::text;
use super::tool_call;
use super::words;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;

pub(super) fn question(question: &Value) -> Result<Map, String> {
    let mut wire = Map::new();
    copy(question, &[("model", "model"), ("keep_alive", "keep_alive")], &mut wire);
    // Its own default is a stream.
    let streams = question.get("stream").and_then(Value::as_bool).unwrap_or(false);
    wire.insert("stream".into(), Value::Bool(streams));
    let mut turns = Vec::new();
    if let Some(system) = question.get("system").filter(|system| system.is_truthy()) {
        turns.push(object([("role", "system".into()), ("content", system.clone())]));
    }
    let asked = messages(question)?;
    for message in asked {
        turns.push(turn(message, asked)?);
    }
    wire.insert("messages".into(), Value::list(turns));
    let mut options = Map::new();
    copy(question, &[("max_tokens", "num_predict"), ("context", "num_ctx")], &mut options);
    if samples(question) {
        copy(question, &[("temperature", "temperature"), ("top_p", "top_p"), ("seed", "seed")], &mut options);
    }
    options.extend(listed(question.get("stop")).map(|stop| ("stop".into(), stop)));
    if !options.is_empty() {
        wire.insert("options".into(), options.into());
    }
    let tools: Vec<_> = list(question, "tools").iter().map(tool).collect();
    match question.get("tool_choice").filter(|choice| !choice.is_null()).map(Value::as_str) {
        Some(Some("none")) => {}
        None | Some(Some("auto")) if tools.is_empty() => {}
        None | Some(Some("auto")) => drop(wire.insert("tools".into(), Value::list(tools))),
        Some(_) => {
            return Err("the dialect `ollama` cannot have a tool called: `tool_choice` is `auto` or `none`".to_owned());
        }
    }
    let think = match text(question, "effort") {
        None => None,
        Some("none") => Some(Value::Bool(false)),
        Some("minimal" | "low") => Some("low".into()),
        Some("xhigh" | "high") => Some("high".into()),
        Some(other) => Some(other.into()),
    };
    wire.extend(think.map(|think| ("think".into(), think)));
    copy(question, &[("schema", "format")], &mut wire);
    Ok(wire)
}

fn tool(tool: &Value) -> Value {
    let mut function = Map::new();
    let keys = [("name", "name"), ("description", "description"), ("parameters", "parameters")];
    copy(tool, &keys, &mut function);
    object([("type", "function".into()), ("function", Value::from(function))])
}

fn turn(message: &Value, all: &[Value]) -> Result<Value, String> {
    if let Some(raw) = raw(message, Dialect::Ollama).filter(|raw| raw.get("role").is_some()) {
        return Ok(raw.clone());
    }
    let role = text(message, "role").ok_or("a message needs a `role`")?;
    let mut turn = Map::from_iter([("role".into(), if role == "developer" { "system" } else { role }.into())]);
    if role == "tool" {
        turn.insert("content".into(), content_text(message.get("content")));
        copy(message, &[("tool_call_id", "tool_call_id")], &mut turn);
        // Older servers know a call by its tool alone.
        let id = text(message, "tool_call_id");
        let calls = all.iter().flat_map(|message| list(message, "tool_calls"));
        let called = calls.filter(|call| text(call, "id") == id).find_map(|call| call.get("name"));
        turn.extend(called.map(|name| ("tool_name".into(), name.clone())));
        return Ok(turn.into());
    }
    let (mut said, mut images) = (Vec::new(), Vec::new());
    for part in parts(message.get("content"))? {
        match part {
            Part::Text(text) => said.push(text),
            Part::Image(image) => images.push(data_of(image)?.into()),
        }
    }
    turn.insert("content".into(), said.join("\n").into());
    if !images.is_empty() {
        turn.insert("images".into(), Value::list(images));
    }
    let calls: Vec<_> =
        list(message, "tool_calls").iter().zip(0..).map(|(call, number)| self::call(call, number)).collect();
    if !calls.is_empty() {
        turn.insert("tool_calls".into(), Value::list(calls));
    }
    Ok(turn.into())
}

/// Returns what an image holds: it is never fetched from elsewhere.
fn data_of(image: &Value) -> Result<String, String> {
    let inside = text(image, "url").map(|url| url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")));
    match (inside, text(image, "data")) {
        (Some(Some((_, data))), _) | (None, Some(data)) => Ok(data.to_owned()),
        (Some(None), _) => Err("the dialect `ollama` takes an image as `data`, not from an address".to_owned()),
        (None, None) => Err("an image has a `url`, or `data` in base64 and a `media_type`".to_owned()),
    }
}

fn call(call: &Value, number: i128) -> Value {
    let get = |key: &str| call.get(key).cloned().unwrap_or_default();
    let function = object([("index", Value::Int(number)), ("name", get("name")), ("arguments", arguments_map(call))]);
    object([("id", get("id")), ("function", function)])
}

pub(super) fn answer(body: &Value) -> Value {
    let mut message = body.get("message").and_then(Value::as_map).cloned().unwrap_or_default();
    let created = text(body, "created_at").unwrap_or_default();
    let mut raw_calls = Vec::new();
    for (number, call) in list(&message.clone().into(), "tool_calls").iter().enumerate() {
        let mut own = call.as_map().cloned().unwrap_or_default();
        if call.get("id").is_none_or(|id| !id.is_truthy()) {
            own.insert("id".into(), made_up_id(created, number));
        }
        raw_calls.push(own.into());
    }
    let calls: Vec<Value> = raw_calls.iter().map(read_call).collect();
    if !raw_calls.is_empty() {
        message.insert("tool_calls".into(), Value::list(raw_calls));
    }
    let message = Value::from(message);
    let said = text(&message, "content").unwrap_or_default();
    let reason = text(body, "done_reason").unwrap_or_default();
    let stop = match reason {
        "length" => "length",
        // It says `stop` all the same.
        _ if !calls.is_empty() => "tool_use",
        "stop" => "end",
        _ => "other",
    };
    // What is nought is left out; an answer without the count of its own words has counted nothing.
    let output = body.get("eval_count").map(|it| count(Some(it)));
    let usage = output.map(|output| Usage { input: count(body.get("prompt_eval_count")), output, ..Usage::default() });
    let get = |key: &str| body.get(key).cloned().unwrap_or_default();
    let reading = Reading {
        id: Value::Null,
        model: get("model"),
        text: or_null(said.to_owned()),
        thinking: text(&message, "thinking").unwrap_or_default().to_owned(),
        refusal: Value::Null,
        stop,
        reason: reason.to_owned(),
        calls,
        usage,
        raw: message,
        status: None,
        error: get("error"),
    };
    reading.value(Dialect::Ollama)
}

fn read_call(call: &Value) -> Value {
    let function = call.get("function").cloned().unwrap_or_default();
    tool_call(call.get("id"), function.get("name"), function.get("arguments"))
}

/// Folds the lines of a stream into the body that they stand for.
pub(super) fn fold(lines: &[Value]) -> Result<Value, String> {
    let (mut said, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    for line in lines {
        if line.get("error").is_some_and(|error| !error.is_null()) {
            return Ok(line.clone());
        }
        let message = line.get("message").cloned().unwrap_or_default();
        said.push_str(text(&message, "content").unwrap_or_default());
        thinking.push_str(text(&message, "thinking").unwrap_or_default());
        calls.extend(list(&message, "tool_calls").iter().cloned());
        if line.get("done").and_then(Value::as_bool) != Some(true) {
            continue;
        }
        let mut message = Map::from_iter([("role".into(), "assistant".into()), ("content".into(), said.into())]);
        if !thinking.is_empty() {
            message.insert("thinking".into(), thinking.into());
        }
        if !calls.is_empty() {
            message.insert("tool_calls".into(), Value::list(calls));
        }
        let mut whole = line.as_map().cloned().unwrap_or_default();
        whole.insert("message".into(), message.into());
        return Ok(whole.into());
    }
    Err(broken_off())
}

pub(super) fn read_question(wire: &Value) -> Result<Value, String> {
    let mut question = Map::new();
    copy(wire, &[("model", "model")], &mut question);
    let streams = wire.get("stream").and_then(Value::as_bool).unwrap_or(true);
    question.insert("stream".into(), Value::Bool(streams));
    let options = wire.get("options").cloned().unwrap_or_default();
    let keys = [
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("seed", "seed"),
        ("stop", "stop"),
        ("num_ctx", "context"),
    ];
    copy(&options, &keys, &mut question);
    // -1 is without an end, -2 as long as the context.
    if let Some(Value::Int(most)) = options.get("num_predict").filter(|most| count(Some(most)) > 0) {
        question.insert("max_tokens".into(), Value::Int(*most));
    }
    let turns = messages(wire)?.iter().map(read_turn).collect();
    question.insert("messages".into(), Value::list(turns));
    let tools: Vec<_> = list(wire, "tools").iter().filter_map(|tool| tool.get("function").cloned()).collect();
    question.insert("tools".into(), Value::list(tools));
    match wire.get("think") {
        Some(Value::Bool(true)) => drop(question.insert("effort".into(), "medium".into())),
        Some(Value::Bool(false)) => drop(question.insert("effort".into(), "none".into())),
        Some(level @ Value::String(_)) => drop(question.insert("effort".into(), level.clone())),
        _ => {}
    }
    if let Some(schema) = wire.get("format").filter(|format| format.as_map().is_some()) {
        question.insert("schema".into(), schema.clone());
    }
    Ok(question.into())
}

fn read_turn(turn: &Value) -> Value {
    let mut message = Map::new();
    copy(turn, &[("role", "role"), ("content", "content"), ("tool_call_id", "tool_call_id")], &mut message);
    let images = list(turn, "images");
    if !images.is_empty() {
        let mut parts = vec![object([("text", turn.get("content").cloned().unwrap_or_default())])];
        parts.extend(images.iter().map(|data| object([("image", object([("data", data.clone())]))])));
        message.insert("content".into(), Value::list(parts));
    }
    let calls: Vec<_> = list(turn, "tool_calls").iter().map(read_call).collect();
    if !calls.is_empty() {
        message.insert("tool_calls".into(), Value::list(calls));
    }
    message.into()
}

pub(super) fn write_answer(answer: &Value, created: i64) -> Value {
    let mut message = Map::from_iter([("role".into(), "assistant".into())]);
    let said = text(answer, "text").or_else(|| text(answer, "refusal")).unwrap_or_default();
    message.insert("content".into(), said.into());
    let thoughts: Vec<&str> = list(answer, "thoughts").iter().filter_map(|thought| text(thought, "thinking")).collect();
    if !thoughts.is_empty() {
        message.insert("thinking".into(), thoughts.join("\n").into());
    }
    let calls: Vec<_> =
        list(answer, "tool_calls").iter().zip(0..).map(|(call, number)| self::call(call, number)).collect();
    if !calls.is_empty() {
        message.insert("tool_calls".into(), Value::list(calls));
    }
    let usage = Usage::of(answer);
    let reason = if text(answer, "stop") == Some("length") { "length" } else { "stop" };
    object([
        ("model", answer.get("model").cloned().unwrap_or_default()),
        ("created_at", Timestamp(created.saturating_mul(1_000_000)).to_string().into()),
        ("message", message.into()),
        ("done", Value::Bool(true)),
        ("done_reason", reason.into()),
        ("total_duration", Value::Int(912_000_000)),
        ("load_duration", Value::Int(41_000_000)),
        ("prompt_eval_count", Value::Int(usage.input)),
        ("prompt_eval_duration", Value::Int(120_000_000)),
        ("eval_count", Value::Int(usage.output)),
        ("eval_duration", Value::Int(700_000_000)),
    ])
}

pub(super) fn write_stream(whole: &Value) -> String {
    let mut out = String::new();
    let get = |key: &str| whole.get(key).cloned().unwrap_or_default();
    let message = get("message");
    let mut put = |line: Value| {
        out.push_str(&words(&line));
        out.push('\n');
    };
    let mut piece = |entries: &[(&str, Value)]| {
        let mut own = Map::from_iter([("role".into(), "assistant".into()), ("content".into(), "".into())]);
        own.extend(entries.iter().map(|(key, value)| ((*key).into(), value.clone())));
        put(object([
            ("model", get("model")),
            ("created_at", get("created_at")),
            ("message", own.into()),
            ("done", Value::Bool(false)),
        ]));
    };
    for thought in pieces(text(&message, "thinking").unwrap_or_default()) {
        piece(&[("thinking", thought.into())]);
    }
    for said in pieces(text(&message, "content").unwrap_or_default()) {
        piece(&[("content", said.into())]);
    }
    // A call comes whole, in one line.
    for call in list(&message, "tool_calls") {
        piece(&[("tool_calls", Value::list(vec![call.clone()]))]);
    }
    let mut last = whole.as_map().cloned().unwrap_or_default();
    last.insert("message".into(), object([("role", "assistant".into()), ("content", "".into())]));
    put(last.into());
    out
}
