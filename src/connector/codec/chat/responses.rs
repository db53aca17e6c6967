//! OpenAI Responses (OpenAPI document 2.3.0 of 2026-08-21).

use super::Dialect;
use super::Part;
use super::Reading;
use super::Usage;
use super::arguments;
use super::broken_off;
use super::copy;
use super::count;
use super::image_of;
use super::image_url;
use super::list;
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
use crate::connector::body::sse;
use crate::model::Map;
use crate::model::Value;

pub(super) fn question(question: &Value) -> Result<Map, String> {
    let mut wire = Map::new();
    let keys =
        [("model", "model"), ("system", "instructions"), ("max_tokens", "max_output_tokens"), ("stream", "stream")];
    copy(question, &keys, &mut wire);
    if samples(question) {
        copy(question, &[("temperature", "temperature"), ("top_p", "top_p")], &mut wire);
    }
    if question.get("stop").is_some_and(Value::is_truthy) {
        return Err("the dialect `openai_responses` has no `stop`".to_owned());
    }
    let mut items = Vec::new();
    for message in messages(question)? {
        turn(message, &mut items)?;
    }
    wire.insert("input".into(), Value::list(items));
    // Its own default keeps every answer for a month.
    let store = question.get("store").filter(|store| !store.is_null()).cloned();
    let stores = store.as_ref().is_some_and(Value::is_truthy);
    wire.insert("store".into(), store.unwrap_or(Value::Bool(false)));
    if let Some(effort) = question.get("effort").filter(|effort| !effort.is_null()) {
        wire.insert("reasoning".into(), object([("effort", effort.clone())]));
    }
    if !stores {
        // What it has thought comes along, since nothing of it stays there.
        wire.insert("include".into(), Value::list(vec!["reasoning.encrypted_content".into()]));
    }
    let tools: Vec<_> = list(question, "tools").iter().map(tool).collect();
    if !tools.is_empty() {
        wire.insert("tools".into(), Value::list(tools));
        if let Some(choice) = question.get("tool_choice").filter(|choice| !choice.is_null()) {
            let named = text(choice, "name").map(|name| object([("type", "function".into()), ("name", name.into())]));
            wire.insert("tool_choice".into(), named.unwrap_or_else(|| choice.clone()));
        }
    }
    if let Some((name, schema, strict)) = schema(question) {
        let format = object([("type", "json_schema".into()), ("name", name), ("schema", schema), ("strict", strict)]);
        wire.insert("text".into(), object([("format", format)]));
    }
    Ok(wire)
}

fn tool(tool: &Value) -> Value {
    let get = |key: &str| tool.get(key).cloned().unwrap_or_default();
    let mut flat = Map::from_iter([("type".into(), "function".into()), ("name".into(), get("name"))]);
    copy(tool, &[("description", "description")], &mut flat);
    // Both must be there, if only as null.
    flat.insert("parameters".into(), get("parameters"));
    flat.insert("strict".into(), get("strict"));
    flat.into()
}

fn turn(message: &Value, items: &mut Vec<Value>) -> Result<(), String> {
    // What the same provider has said goes back as it came.
    if let Some(raw) = raw(message, Dialect::Responses).and_then(Value::as_list) {
        items.extend(raw.iter().cloned());
        return Ok(());
    }
    let role = text(message, "role").ok_or("a message needs a `role`")?;
    if role == "tool" {
        let id = message.get("tool_call_id").cloned().ok_or("a message of a tool needs its `tool_call_id`")?;
        let output = message.get("content").map(|content| match content {
            Value::String(_) => content.clone(),
            other => words(other).into(),
        });
        let output = output.unwrap_or_else(|| "".into());
        items.push(object([("type", "function_call_output".into()), ("call_id", id), ("output", output)]));
        return Ok(());
    }
    let parts = parts(message.get("content"))?;
    if !parts.is_empty() {
        let kind = if role == "assistant" { "output_text" } else { "input_text" };
        let content: Result<Vec<_>, String> = parts.iter().map(|it| part(it, kind)).collect();
        items.push(object([("role", role.into()), ("content", Value::list(content?))]));
    }
    for call in list(message, "tool_calls") {
        items.push(object([
            ("type", "function_call".into()),
            ("call_id", call.get("id").cloned().unwrap_or_default()),
            ("name", call.get("name").cloned().unwrap_or_default()),
            ("arguments", arguments(call)),
        ]));
    }
    Ok(())
}

fn part(part: &Part<'_>, kind: &str) -> Result<Value, String> {
    Ok(match part {
        Part::Text(text) => object([("type", kind.into()), ("text", (*text).into())]),
        Part::Image(image) => {
            let mut own = Map::from_iter([("type".into(), "input_image".into())]);
            own.insert("image_url".into(), image_url(image)?.into());
            copy(image, &[("detail", "detail")], &mut own);
            own.into()
        }
    })
}

pub(super) fn answer(body: &Value) -> Value {
    let items = list(body, "output");
    let (mut said, mut refusal, mut calls, mut summaries) = (String::new(), String::new(), Vec::new(), Vec::new());
    for item in items {
        match text(item, "type") {
            Some("message") => {
                for part in list(item, "content") {
                    said.push_str(text(part, "text").unwrap_or_default());
                    refusal.push_str(text(part, "refusal").unwrap_or_default());
                }
            }
            Some("function_call") => {
                calls.push(tool_call(item.get("call_id"), item.get("name"), item.get("arguments")));
            }
            Some("reasoning") => summaries.extend(list(item, "summary").iter().filter_map(|part| text(part, "text"))),
            _ => {}
        }
    }
    let status = text(body, "status").unwrap_or_default();
    let reason = body.get("incomplete_details").and_then(|details| text(details, "reason")).unwrap_or_default();
    let stop = match (status, reason) {
        _ if !refusal.is_empty() => "refusal",
        ("incomplete", "max_output_tokens") => "length",
        ("incomplete", "content_filter") => "filter",
        ("completed", _) if !calls.is_empty() => "tool_use",
        ("completed", _) => "end",
        _ => "other",
    };
    let used = body.get("usage").filter(|used| !used.is_null());
    let top = |key: &str| count(used.and_then(|used| used.get(key)));
    let detail = |part: &str, key: &str| count(used.and_then(|used| used.get(part)).and_then(|part| part.get(key)));
    let usage = used.map(|_| Usage {
        input: top("input_tokens"),
        cached: detail("input_tokens_details", "cached_tokens"),
        cache_write: detail("input_tokens_details", "cache_write_tokens"),
        output: top("output_tokens"),
        reasoning: detail("output_tokens_details", "reasoning_tokens"),
        ..Usage::default()
    });
    let get = |key: &str| body.get(key).cloned().unwrap_or_default();
    let reading = Reading {
        id: get("id"),
        model: get("model"),
        text: or_null(said),
        thinking: summaries.join("\n\n"),
        refusal: or_null(refusal),
        stop,
        reason: if reason.is_empty() { status.to_owned() } else { reason.to_owned() },
        calls,
        usage,
        raw: Value::list(items.to_vec()),
        status: Some(get("status")),
        error: get("error"),
    };
    reading.value(Dialect::Responses)
}

/// Finds the answer in a stream: its last event holds the whole.
pub(super) fn fold(events: &[Value]) -> Result<Value, String> {
    for event in events.iter().rev() {
        match text(event, "type") {
            Some("response.completed" | "response.incomplete" | "response.failed") => {
                return event.get("response").cloned().ok_or_else(|| "the last event holds no response".to_owned());
            }
            Some("error") => {
                let mut error = Map::new();
                copy(event, &[("code", "code"), ("message", "message"), ("param", "param")], &mut error);
                // Some put it a level deeper.
                let inner = event.get("error").cloned();
                return Ok(object([("error", inner.unwrap_or_else(|| error.into()))]));
            }
            _ => {}
        }
    }
    Err(broken_off())
}

pub(super) fn read_question(wire: &Value) -> Result<Value, String> {
    let mut question = Map::new();
    let keys = [
        ("model", "model"),
        ("instructions", "system"),
        ("max_output_tokens", "max_tokens"),
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("stream", "stream"),
        ("store", "store"),
        ("tool_choice", "tool_choice"),
        ("parallel_tool_calls", "parallel_tool_calls"),
        ("previous_response_id", "previous_response_id"),
        ("metadata", "metadata"),
    ];
    copy(wire, &keys, &mut question);
    let turns = match wire.get("input") {
        Some(Value::String(text)) => vec![object([("role", "user".into()), ("content", Value::String(text.clone()))])],
        Some(Value::List(items)) => items.iter().filter_map(read_item).collect(),
        _ => return Err("a response needs `input`".to_owned()),
    };
    question.insert("messages".into(), Value::list(turns));
    question.insert("tools".into(), Value::list(list(wire, "tools").to_vec()));
    if let Some(effort) = wire.get("reasoning").and_then(|reasoning| reasoning.get("effort")) {
        question.insert("effort".into(), effort.clone());
    }
    if let Some(format) = wire.get("text").and_then(|text| text.get("format")) {
        copy(format, &[("schema", "schema"), ("name", "schema_name"), ("strict", "strict")], &mut question);
    }
    Ok(question.into())
}

fn read_item(item: &Value) -> Option<Value> {
    let get = |key: &str| item.get(key).cloned().unwrap_or_default();
    match text(item, "type").unwrap_or("message") {
        "message" => {
            let content = match item.get("content") {
                Some(Value::List(parts)) => Value::list(
                    parts
                        .iter()
                        .map(|part| match text(part, "image_url") {
                            Some(url) => image_of(url),
                            None => object([("text", part.get("text").cloned().unwrap_or_default())]),
                        })
                        .collect(),
                ),
                other => other.cloned().unwrap_or_default(),
            };
            Some(object([("role", get("role")), ("content", content)]))
        }
        "function_call" => {
            let call = tool_call(item.get("call_id"), item.get("name"), item.get("arguments"));
            Some(object([
                ("role", "assistant".into()),
                ("content", Value::Null),
                ("tool_calls", Value::list(vec![call])),
            ]))
        }
        "function_call_output" => {
            Some(object([("role", "tool".into()), ("tool_call_id", get("call_id")), ("content", get("output"))]))
        }
        _ => None,
    }
}

pub(super) fn write_answer(answer: &Value, question: &Value, created: i64) -> Value {
    let get = |key: &str| answer.get(key).cloned().unwrap_or_default();
    let id = text(answer, "id").unwrap_or("resp_1");
    // Thoughts are items of this dialect alone, and come before what they led to.
    let mut output = list(answer, "thoughts").to_vec();
    let said = match (text(answer, "text"), text(answer, "refusal")) {
        (_, Some(refusal)) => Some(object([("type", "refusal".into()), ("refusal", refusal.into())])),
        (Some(said), _) => Some(object([
            ("type", "output_text".into()),
            ("text", said.into()),
            ("annotations", Value::list(Vec::new())),
            ("logprobs", Value::list(Vec::new())),
        ])),
        _ => None,
    };
    if let Some(said) = said {
        output.push(object([
            ("id", format!("msg_{id}").into()),
            ("type", "message".into()),
            ("status", "completed".into()),
            ("role", "assistant".into()),
            ("content", Value::list(vec![said])),
        ]));
    }
    for call in list(answer, "tool_calls") {
        let call_id = call.get("id").cloned().unwrap_or_default();
        output.push(object([
            ("id", format!("fc_{}", call_id.to_text()).into()),
            ("type", "function_call".into()),
            ("call_id", call_id),
            ("name", call.get("name").cloned().unwrap_or_default()),
            ("arguments", arguments(call)),
            ("status", "completed".into()),
        ]));
    }
    let usage = Usage::of(answer);
    let error = get("error");
    let (status, details) = match text(answer, "stop").unwrap_or("end") {
        _ if !error.is_null() => ("failed", Value::Null),
        "length" => ("incomplete", object([("reason", "max_output_tokens".into())])),
        "filter" => ("incomplete", object([("reason", "content_filter".into())])),
        _ => ("completed", Value::Null),
    };
    let asked = |key: &str, default: Value| question.get(key).filter(|it| !it.is_null()).cloned().unwrap_or(default);
    let format = match schema(question) {
        Some((name, schema, strict)) => {
            object([("type", "json_schema".into()), ("name", name), ("strict", strict), ("schema", schema)])
        }
        None => object([("type", "text".into())]),
    };
    object([
        ("id", id.into()),
        ("object", "response".into()),
        ("created_at", Value::Int(created.into())),
        ("completed_at", if status == "completed" { Value::Int(created.into()) } else { Value::Null }),
        ("status", status.into()),
        ("error", error),
        ("incomplete_details", details),
        ("instructions", asked("system", Value::Null)),
        ("max_output_tokens", asked("max_tokens", Value::Null)),
        ("model", get("model")),
        ("output", Value::list(output)),
        ("parallel_tool_calls", asked("parallel_tool_calls", Value::Bool(true))),
        ("previous_response_id", asked("previous_response_id", Value::Null)),
        ("reasoning", object([("effort", asked("effort", Value::Null)), ("summary", Value::Null)])),
        ("store", asked("store", Value::Bool(true))),
        ("temperature", asked("temperature", Value::Int(1))),
        ("text", object([("format", format), ("verbosity", "medium".into())])),
        ("tool_choice", asked("tool_choice", "auto".into())),
        ("tools", asked("tools", Value::list(Vec::new()))),
        ("top_p", asked("top_p", Value::Int(1))),
        ("truncation", "disabled".into()),
        (
            "usage",
            object([
                ("input_tokens", Value::Int(usage.input)),
                (
                    "input_tokens_details",
                    object([
                        ("cached_tokens", Value::Int(usage.cached)),
                        ("cache_write_tokens", Value::Int(usage.cache_write)),
                    ]),
                ),
                ("output_tokens", Value::Int(usage.output)),
                ("output_tokens_details", object([("reasoning_tokens", Value::Int(usage.reasoning))])),
                ("total_tokens", Value::Int(usage.input + usage.output)),
            ]),
        ),
        ("metadata", asked("metadata", Value::map::<&str>([]))),
    ])
}

/// Writes the events of a stream, each with its number.
struct Events {
    out: String,
    number: i128,
}

impl Events {
    fn put<const N: usize>(&mut self, kind: &str, entries: [(&str, Value); N]) {
        let mut data =
            Map::from_iter([("type".into(), kind.into()), ("sequence_number".into(), Value::Int(self.number))]);
        data.extend(entries.map(|(key, value)| (key.into(), value)));
        self.number += 1;
        sse::write(Some(kind), &words(&data.into()), &mut self.out);
    }
}

/// Returns a value with some of its keys replaced.
fn with<const N: usize>(value: &Value, entries: [(&str, Value); N]) -> Value {
    let mut map = value.as_map().cloned().unwrap_or_default();
    map.extend(entries.map(|(key, value)| (key.into(), value)));
    map.into()
}

pub(super) fn write_stream(whole: &Value) -> String {
    let mut events = Events { out: String::new(), number: 0 };
    let begun = with(
        whole,
        [
            ("status", "in_progress".into()),
            ("output", Value::list(Vec::new())),
            ("usage", Value::Null),
            ("completed_at", Value::Null),
        ],
    );
    events.put("response.created", [("response", begun.clone())]);
    events.put("response.in_progress", [("response", begun)]);
    for (index, item) in (0..).zip(list(whole, "output")) {
        let output_index = Value::Int(index);
        let id = item.get("id").cloned().unwrap_or_default();
        let of_item = || [("item_id", id.clone()), ("output_index", output_index.clone())];
        if text(item, "type") == Some("reasoning") {
            events.put("response.output_item.added", [("output_index", output_index.clone()), ("item", item.clone())]);
        } else if text(item, "type") == Some("function_call") {
            let begun = with(item, [("status", "in_progress".into()), ("arguments", "".into())]);
            events.put("response.output_item.added", [("output_index", output_index.clone()), ("item", begun)]);
            let [item_id, at] = of_item();
            let written = text(item, "arguments").unwrap_or_default();
            for piece in pieces(written) {
                let event = [item_id.clone(), at.clone(), ("delta", piece.into())];
                events.put("response.function_call_arguments.delta", event);
            }
            let name = item.get("name").cloned().unwrap_or_default();
            let done = [item_id, at, ("name", name), ("arguments", written.into())];
            events.put("response.function_call_arguments.done", done);
        } else {
            let begun = with(item, [("status", "in_progress".into()), ("content", Value::list(Vec::new()))]);
            events.put("response.output_item.added", [("output_index", output_index.clone()), ("item", begun)]);
            for (content_index, part) in (0..).zip(list(item, "content")) {
                let [item_id, at] = of_item();
                let place = ("content_index", Value::Int(content_index));
                let (key, name) = match text(part, "type") {
                    Some("refusal") => ("refusal", "response.refusal"),
                    _ => ("text", "response.output_text"),
                };
                let empty = with(part, [(key, "".into())]);
                let added = [item_id.clone(), at.clone(), place.clone(), ("part", empty)];
                events.put("response.content_part.added", added);
                let said = text(part, key).unwrap_or_default();
                for piece in pieces(said) {
                    let event = [item_id.clone(), at.clone(), place.clone(), ("delta", piece.into()), logprobs()];
                    events.put(&format!("{name}.delta"), event);
                }
                let done = [item_id.clone(), at.clone(), place.clone(), (key, said.into()), logprobs()];
                events.put(&format!("{name}.done"), done);
                events.put("response.content_part.done", [item_id, at, place, ("part", part.clone())]);
            }
        }
        events.put("response.output_item.done", [("output_index", output_index), ("item", item.clone())]);
    }
    let last = match text(whole, "status") {
        Some("incomplete") => "response.incomplete",
        Some("failed") => "response.failed",
        _ => "response.completed",
    };
    events.put(last, [("response", whole.clone())]);
    events.out
}

fn logprobs() -> (&'static str, Value) {
    ("logprobs", Value::list(Vec::new()))
}
