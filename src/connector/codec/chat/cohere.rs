//! Cohere's second version (OpenAPI document of 2026-08-20).

use super::Dialect;
use super::Part;
use super::Reading;
use super::Usage;
use super::arguments;
use super::broken_off;
use super::content_text;
use super::copy;
use super::image_of;
use super::image_url;
use super::list;
use super::listed;
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
use crate::connector::body::sse;
use crate::model::Map;
use crate::model::Value;

pub(super) fn question(question: &Value) -> Result<Map, String> {
    let mut wire = Map::new();
    let keys = [("model", "model"), ("max_tokens", "max_tokens"), ("seed", "seed")];
    copy(question, &keys, &mut wire);
    // Said either way: it is the default of this interface, and not of all who serve it.
    let streams = question.get("stream").and_then(Value::as_bool).unwrap_or(false);
    wire.insert("stream".into(), Value::Bool(streams));
    let mut turns = Vec::new();
    if let Some(system) = question.get("system").filter(|system| system.is_truthy()) {
        turns.push(object([("role", "system".into()), ("content", system.clone())]));
    }
    for message in messages(question)? {
        turns.push(turn(message)?);
    }
    wire.insert("messages".into(), Value::list(turns));
    if samples(question) {
        copy(question, &[("temperature", "temperature"), ("top_p", "p")], &mut wire);
    }
    wire.extend(listed(question.get("stop")).map(|stop| ("stop_sequences".into(), stop)));
    tools(question, &mut wire)?;
    if let Some(effort) = text(question, "effort") {
        let kind = if effort == "none" { "disabled" } else { "enabled" };
        wire.insert("thinking".into(), object([("type", kind.into())]));
    }
    if let Some(schema) = question.get("schema").filter(|schema| !schema.is_null()) {
        let format = object([("type", "json_object".into()), ("json_schema", schema.clone())]);
        wire.insert("response_format".into(), format);
    }
    Ok(wire)
}

fn tools(question: &Value, wire: &mut Map) -> Result<(), String> {
    let choice = question.get("tool_choice").filter(|choice| !choice.is_null());
    let named = choice.and_then(|choice| text(choice, "name"));
    // It cannot name one: so there is no other.
    let offered = list(question, "tools").iter();
    let offered: Vec<&Value> =
        offered.filter(|tool| named.is_none_or(|name| text(tool, "name") == Some(name))).collect();
    if offered.is_empty() {
        return match named {
            Some(name) => Err(format!("`tool_choice` names `{name}`, which is not among the tools")),
            None => Ok(()),
        };
    }
    if let Some(name) = offered.iter().filter_map(|tool| text(tool, "name")).find(|name| !is_name(name)) {
        return Err(format!(
            "the dialect `cohere` takes no tool named `{name}`: letters, digits and `_`, and no digit first"
        ));
    }
    let strict = offered.iter().any(|tool| tool.get("strict").and_then(Value::as_bool) == Some(true));
    wire.insert("tools".into(), Value::list(offered.into_iter().map(tool).collect()));
    if strict {
        wire.insert("strict_tools".into(), Value::Bool(true));
    }
    let choice = match choice.and_then(Value::as_str) {
        Some("required") => Some("REQUIRED"),
        Some("none") => Some("NONE"),
        _ => named.map(|_| "REQUIRED"),
    };
    wire.extend(choice.map(|choice| ("tool_choice".into(), choice.into())));
    Ok(())
}

fn is_name(name: &str) -> bool {
    let known = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    known && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

fn tool(tool: &Value) -> Value {
    let mut function = Map::new();
    let keys = [("name", "name"), ("description", "description"), ("parameters", "parameters")];
    copy(tool, &keys, &mut function);
    object([("type", "function".into()), ("function", Value::from(function))])
}

fn turn(message: &Value) -> Result<Value, String> {
    if let Some(raw) = raw(message, Dialect::Cohere).filter(|raw| raw.get("role").is_some()) {
        return Ok(raw.clone());
    }
    let role = text(message, "role").ok_or("a message needs a `role`")?;
    let mut turn = Map::from_iter([("role".into(), if role == "developer" { "system" } else { role }.into())]);
    if role == "tool" {
        copy(message, &[("tool_call_id", "tool_call_id")], &mut turn);
        turn.insert("content".into(), content_text(message.get("content")));
        return Ok(turn.into());
    }
    let parts = parts(message.get("content"))?;
    match parts.as_slice() {
        [] => {}
        [Part::Text(text)] => drop(turn.insert("content".into(), (*text).into())),
        parts => {
            let parts: Result<Vec<_>, String> = parts.iter().map(part).collect();
            turn.insert("content".into(), Value::list(parts?));
        }
    }
    let calls: Vec<_> = list(message, "tool_calls").iter().map(call).collect();
    if !calls.is_empty() {
        turn.insert("tool_calls".into(), Value::list(calls));
    }
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
    let message = body.get("message").cloned().unwrap_or_default();
    let calls: Vec<_> = list(&message, "tool_calls").iter().map(read_call).collect();
    let (mut said, mut thinking) = (String::new(), String::new());
    // A tool's plan is a thought, whose name is older.
    thinking.push_str(text(&message, "tool_plan").unwrap_or_default());
    match message.get("content") {
        Some(Value::String(text)) => said.push_str(text),
        _ => {
            for part in list(&message, "content") {
                said.push_str(text(part, "text").unwrap_or_default());
                thinking.push_str(text(part, "thinking").unwrap_or_default());
            }
        }
    }
    let reason = text(body, "finish_reason").unwrap_or_default();
    let stop = match reason {
        "COMPLETE" | "STOP_SEQUENCE" => "end",
        "TOOL_CALL" => "tool_use",
        "MAX_TOKENS" => "length",
        _ => "other",
    };
    let told = body.get("error").and_then(Value::as_str);
    let failure = match reason {
        "ERROR" => Some(told.unwrap_or("the model failed")),
        "TIMEOUT" => Some(told.unwrap_or("the model ran out of time")),
        _ => told,
    };
    let get = |key: &str| body.get(key).cloned().unwrap_or_default();
    let reading = Reading {
        id: get("id"),
        model: get("model"),
        text: or_null(said),
        thinking,
        refusal: Value::Null,
        stop,
        reason: reason.to_owned(),
        calls,
        usage: body.get("usage").filter(|used| !used.is_null()).map(usage),
        raw: message,
        status: None,
        error: failure.map(|failure| object([("message", failure.into())])).unwrap_or_default(),
    };
    reading.value(Dialect::Cohere)
}

fn read_call(call: &Value) -> Value {
    let function = call.get("function").cloned().unwrap_or_default();
    tool_call(call.get("id"), function.get("name"), function.get("arguments"))
}

/// What is billed counts; beside it the provider counts words of its own that it puts before every question.
fn usage(used: &Value) -> Usage {
    let of = |part: &str, key: &str| whole(used.get(part).and_then(|part| part.get(key)));
    let either = |key: &str| of("billed_units", key).or_else(|| of("tokens", key)).unwrap_or_default();
    let input = either("input_tokens");
    // Those from the cache are counted with its own words, of which the bill knows nothing.
    let cached = whole(used.get("cached_tokens")).unwrap_or_default().min(input);
    Usage { input, cached, output: either("output_tokens"), ..Usage::default() }
}

/// Reads a count that may be written as `19.0`.
fn whole(value: Option<&Value>) -> Option<i128> {
    match value? {
        Value::Int(count) => Some(*count),
        Value::Null => None,
        other => {
            let text = other.to_text();
            let digits = text.split_once('.').map_or(text.as_str(), |(digits, _)| digits);
            digits.parse().ok()
        }
    }
}

/// Folds the events of a stream into the body that it stands for.
pub(super) fn fold(events: &[Value]) -> Result<Value, String> {
    let mut whole = Map::new();
    let (mut plan, mut contents, mut calls, mut citations) = (String::new(), Vec::new(), Vec::new(), Vec::new());
    let mut ended = false;
    for event in events {
        let delta = event.get("delta").cloned().unwrap_or_default();
        let message = delta.get("message").cloned().unwrap_or_default();
        let get = |key: &str| message.get(key).cloned().unwrap_or_default();
        match text(event, "type").unwrap_or_default() {
            "message-start" => copy(event, &[("id", "id")], &mut whole),
            "content-start" => contents.push((event.get("index").cloned(), get("content"))),
            "content-delta" => {
                let index = event.get("index").cloned();
                let found = contents.iter_mut().rev().find(|(own, _)| *own == index);
                if let Some((_, content)) = found {
                    joined(content, &get("content"), &["text", "thinking"]);
                }
            }
            "tool-plan-delta" => plan.push_str(text(&message, "tool_plan").unwrap_or_default()),
            "tool-call-start" => calls.push((event.get("index").cloned(), get("tool_calls"))),
            "tool-call-delta" => {
                let index = event.get("index").cloned();
                let piece = get("tool_calls").get("function").cloned().unwrap_or_default();
                if let Some((_, call)) = calls.iter_mut().rev().find(|(own, _)| *own == index) {
                    let mut function = call.get("function").cloned().unwrap_or_default();
                    joined(&mut function, &piece, &["arguments"]);
                    put(call, "function", function);
                }
            }
            "citation-start" => citations.push(get("citations")),
            "message-end" => {
                ended = true;
                copy(&delta, &[("finish_reason", "finish_reason"), ("usage", "usage"), ("error", "error")], &mut whole);
                copy(event, &[("id", "id")], &mut whole);
            }
            _ => {}
        }
    }
    if !ended {
        // Some tell a failure as they tell it of a request.
        let failed = events.iter().find(|event| event.get("type").is_none() && event.get("message").is_some());
        return failed.cloned().ok_or_else(broken_off);
    }
    let mut message = Map::from_iter([("role".into(), "assistant".into())]);
    if !plan.is_empty() {
        message.insert("tool_plan".into(), plan.into());
    }
    let parts = |list: Vec<(Option<Value>, Value)>| Value::list(list.into_iter().map(|(_, it)| it).collect());
    if !contents.is_empty() {
        message.insert("content".into(), parts(contents));
    }
    if !calls.is_empty() {
        message.insert("tool_calls".into(), parts(calls));
    }
    if !citations.is_empty() {
        message.insert("citations".into(), Value::list(citations));
    }
    whole.insert("message".into(), message.into());
    whole.entry("finish_reason".into()).or_insert_with(|| "ERROR".into());
    Ok(whole.into())
}

fn put(value: &mut Value, key: &str, inner: Value) {
    let mut map = value.as_map().cloned().unwrap_or_default();
    map.insert(key.into(), inner);
    *value = map.into();
}

/// Joins the next piece of some texts to what there is of them.
fn joined(value: &mut Value, piece: &Value, keys: &[&str]) {
    for key in keys {
        if let Some(more) = text(piece, key) {
            let whole = format!("{}{more}", text(value, key).unwrap_or_default());
            put(value, key, whole.into());
        }
    }
}

pub(super) fn read_question(wire: &Value) -> Result<Value, String> {
    let mut question = Map::new();
    let keys = [
        ("model", "model"),
        ("max_tokens", "max_tokens"),
        ("temperature", "temperature"),
        ("p", "top_p"),
        ("seed", "seed"),
        ("stop_sequences", "stop"),
        ("stream", "stream"),
    ];
    copy(wire, &keys, &mut question);
    let turns = messages(wire)?.iter().map(read_turn).collect();
    question.insert("messages".into(), Value::list(turns));
    let tools: Vec<_> = list(wire, "tools").iter().filter_map(|tool| tool.get("function").cloned()).collect();
    question.insert("tools".into(), Value::list(tools));
    if let Some(choice) = text(wire, "tool_choice") {
        question.insert("tool_choice".into(), choice.to_lowercase().into());
    }
    match wire.get("thinking").and_then(|thinking| text(thinking, "type")) {
        Some("disabled") => drop(question.insert("effort".into(), "none".into())),
        Some(_) => drop(question.insert("effort".into(), "high".into())),
        None => {}
    }
    if let Some(format) = wire.get("response_format") {
        copy(format, &[("json_schema", "schema")], &mut question);
    }
    Ok(question.into())
}

fn read_turn(turn: &Value) -> Value {
    let mut message = Map::new();
    copy(turn, &[("role", "role"), ("tool_call_id", "tool_call_id")], &mut message);
    let content = match turn.get("content") {
        Some(Value::List(parts)) => {
            let read = parts.iter().filter(|part| text(part, "type") != Some("thinking")).map(|part| {
                let document = part.get("document").and_then(|document| document.get("data"));
                match (part.get("image_url").and_then(|image| text(image, "url")), document) {
                    (Some(url), _) => image_of(url),
                    (None, Some(data)) => object([("text", content_text(Some(data)))]),
                    _ => object([("text", part.get("text").cloned().unwrap_or_default())]),
                }
            });
            Value::list(read.collect())
        }
        other => other.cloned().unwrap_or_default(),
    };
    message.insert("content".into(), content);
    let calls: Vec<_> = list(turn, "tool_calls").iter().map(read_call).collect();
    if !calls.is_empty() {
        message.insert("tool_calls".into(), Value::list(calls));
    }
    message.into()
}

pub(super) fn write_answer(answer: &Value) -> Value {
    let calls: Vec<_> = list(answer, "tool_calls").iter().map(call).collect();
    let mut message = Map::from_iter([("role".into(), "assistant".into())]);
    let mut content = list(answer, "thoughts").to_vec();
    if let Some(said) = text(answer, "text").or_else(|| text(answer, "refusal")) {
        content.push(object([("type", "text".into()), ("text", said.into())]));
    }
    if calls.is_empty() {
        message.insert("content".into(), Value::list(content));
    } else {
        // Beside calls there is a plan, and no content.
        let names: Vec<&str> = list(answer, "tool_calls").iter().filter_map(|call| text(call, "name")).collect();
        let plan = text(answer, "text").map_or_else(|| format!("I will use {}.", names.join(" and ")), str::to_owned);
        message.insert("tool_plan".into(), plan.into());
        message.insert("tool_calls".into(), Value::list(calls));
    }
    let error = answer.get("error").filter(|error| !error.is_null());
    let reason = match text(answer, "stop").unwrap_or("end") {
        _ if error.is_some() => "ERROR",
        "length" => "MAX_TOKENS",
        "tool_use" => "TOOL_CALL",
        "filter" => "ERROR",
        _ if answer.get("stop_sequence").is_some_and(Value::is_truthy) => "STOP_SEQUENCE",
        _ => "COMPLETE",
    };
    let mut whole = Map::from_iter([
        ("id".into(), answer.get("id").cloned().unwrap_or_default()),
        ("finish_reason".into(), reason.into()),
        ("message".into(), message.into()),
        ("usage".into(), write_usage(Usage::of(answer))),
    ]);
    if let Some(error) = error {
        whole.insert("error".into(), text(error, "message").unwrap_or("the model failed").into());
    }
    whole.into()
}

/// Tokens of the words that the provider puts before every question.
const OWN_WORDS: i128 = 497;

fn write_usage(usage: Usage) -> Value {
    // Clients take them for numbers with a fraction, and so they come.
    let number = |count: i128| {
        Value::Decimal(rust_decimal::Decimal::try_from_i128_with_scale(count * 10, 1).unwrap_or_default())
    };
    let pair = |input: i128, output: i128| object([("input_tokens", number(input)), ("output_tokens", number(output))]);
    object([
        ("billed_units", pair(usage.input, usage.output)),
        ("tokens", pair(usage.input + OWN_WORDS, usage.output + 2)),
        ("cached_tokens", number(usage.cached)),
    ])
}

pub(super) fn write_stream(whole: &Value) -> String {
    let mut out = String::new();
    let mut put = |kind: &str, index: Option<i128>, delta: Option<Value>| {
        let mut data = Map::from_iter([("type".into(), kind.into())]);
        if kind == "message-start" || kind == "message-end" {
            data.insert("id".into(), whole.get("id").cloned().unwrap_or_default());
        }
        data.extend(index.map(|index| ("index".into(), Value::Int(index))));
        data.extend(delta.map(|delta| ("delta".into(), delta)));
        sse::write(Some(kind), &words(&data.into()), &mut out);
    };
    let of = |key: &str, value: Value| Some(object([("message", object([(key, value)]))]));
    let message = whole.get("message").cloned().unwrap_or_default();
    let none = || Value::list(Vec::new());
    let begun = [("role", "assistant".into()), ("content", none()), ("tool_plan", "".into())];
    let [role, content, plan] = begun;
    let begun = object([role, content, plan, ("tool_calls", none()), ("citations", none())]);
    put("message-start", None, Some(object([("message", begun)])));
    for (index, part) in (0..).zip(list(&message, "content")) {
        let key = if text(part, "type") == Some("thinking") { "thinking" } else { "text" };
        put("content-start", Some(index), of("content", object([("type", key.into()), (key, "".into())])));
        for piece in pieces(text(part, key).unwrap_or_default()) {
            put("content-delta", Some(index), of("content", object([(key, piece.into())])));
        }
        put("content-end", Some(index), None);
    }
    for piece in pieces(text(&message, "tool_plan").unwrap_or_default()) {
        put("tool-plan-delta", None, of("tool_plan", piece.into()));
    }
    for (index, call) in (0..).zip(list(&message, "tool_calls")) {
        let function = call.get("function").cloned().unwrap_or_default();
        let mut head = call.clone();
        let mut empty = function.clone();
        self::put(&mut empty, "arguments", "".into());
        self::put(&mut head, "function", empty);
        // One call, and no list of calls.
        put("tool-call-start", Some(index), of("tool_calls", head));
        for piece in pieces(text(&function, "arguments").unwrap_or_default()) {
            let piece = object([("function", object([("arguments", piece.into())]))]);
            put("tool-call-delta", Some(index), of("tool_calls", piece));
        }
        put("tool-call-end", Some(index), None);
    }
    let mut last = Map::new();
    copy(whole, &[("finish_reason", "finish_reason"), ("error", "error"), ("usage", "usage")], &mut last);
    put("message-end", None, Some(last.into()));
    out
}
