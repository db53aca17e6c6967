//! Anthropic Messages (versions 2023-06-01 and 2026-10-21).

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
use crate::model::parse_json;

pub(super) fn question(question: &Value) -> Result<Map, String> {
    let mut wire = Map::new();
    copy(question, &[("model", "model"), ("max_tokens", "max_tokens"), ("stream", "stream")], &mut wire);
    if !wire.contains_key("max_tokens") {
        return Err("the dialect `anthropic` needs `max_tokens`".to_owned());
    }
    let mut system: Vec<String> = Vec::new();
    system.extend(text(question, "system").filter(|system| !system.is_empty()).map(str::to_owned));
    let mut turns = Turns::default();
    for message in messages(question)? {
        match text(message, "role").ok_or("a message needs a `role`")? {
            // There is one place for it, before all turns.
            "system" | "developer" => system.push(content_text(message.get("content")).to_text()),
            role => turns.take(role, message)?,
        }
    }
    if !system.is_empty() {
        wire.insert("system".into(), system.join("\n\n").into());
    }
    wire.insert("messages".into(), turns.written());
    wire.extend(listed(question.get("stop")).map(|stop| ("stop_sequences".into(), stop)));
    if samples(question) {
        copy(question, &[("temperature", "temperature"), ("top_p", "top_p")], &mut wire);
    }
    let tools: Vec<_> = list(question, "tools").iter().map(tool).collect();
    if !tools.is_empty() {
        wire.insert("tools".into(), Value::list(tools));
        wire.extend(choice(question).map(|choice| ("tool_choice".into(), choice)));
    }
    let mut output = Map::new();
    match text(question, "effort") {
        None => {}
        Some("none") => drop(wire.insert("thinking".into(), object([("type", "disabled".into())]))),
        Some("minimal") => drop(output.insert("effort".into(), "low".into())),
        Some(effort) => drop(output.insert("effort".into(), effort.into())),
    }
    if let Some(schema) = question.get("schema").filter(|schema| !schema.is_null()) {
        let format = object([("type", "json_schema".into()), ("schema", closed(schema))]);
        output.insert("format".into(), format);
    }
    if !output.is_empty() {
        wire.insert("output_config".into(), output.into());
    }
    Ok(wire)
}

/// Says of every object in a schema that it has no other properties, where it says nothing of them: the provider
/// demands it of all.
fn closed(schema: &Value) -> Value {
    match schema {
        Value::List(items) => Value::list(items.iter().map(closed).collect()),
        Value::Map(map) => {
            let mut own: Map = map.iter().map(|(key, value)| (key.clone(), closed(value))).collect();
            let is_object = text(schema, "type") == Some("object");
            if is_object && !own.contains_key("additionalProperties") {
                own.insert("additionalProperties".into(), Value::Bool(false));
            }
            own.into()
        }
        other => other.clone(),
    }
}

fn tool(tool: &Value) -> Value {
    let mut own = Map::new();
    copy(tool, &[("name", "name"), ("description", "description"), ("strict", "strict")], &mut own);
    let schema = tool.get("parameters").filter(|it| !it.is_null()).cloned();
    let schema = schema.unwrap_or_else(|| object([("type", "object".into())]));
    let strict = tool.get("strict").and_then(Value::as_bool) == Some(true);
    own.insert("input_schema".into(), if strict { closed(&schema) } else { schema });
    own.into()
}

fn choice(question: &Value) -> Option<Value> {
    let choice = question.get("tool_choice").filter(|choice| !choice.is_null())?;
    if let Some(name) = text(choice, "name") {
        return Some(object([("type", "tool".into()), ("name", name.into())]));
    }
    Some(match choice.as_str() {
        Some("required") => object([("type", "any".into())]),
        Some(word) => object([("type", word.into())]),
        None => choice.clone(),
    })
}

/// The turns of a question: two of one side that follow each other are one, results of tools first in it.
#[derive(Default)]
struct Turns {
    turns: Vec<(&'static str, Vec<Value>)>,
}

impl Turns {
    fn take(&mut self, role: &str, message: &Value) -> Result<(), String> {
        match role {
            "assistant" => {
                if let Some(blocks) = raw(message, Dialect::Anthropic).and_then(Value::as_list) {
                    self.push("assistant", blocks.to_vec());
                    return Ok(());
                }
                let mut blocks = blocks(message.get("content"))?;
                blocks.extend(list(message, "tool_calls").iter().map(call));
                self.push("assistant", blocks);
            }
            "tool" => {
                let id = message.get("tool_call_id").cloned().ok_or("a message of a tool needs its `tool_call_id`")?;
                let mut result = Map::from_iter([("type".into(), "tool_result".into()), ("tool_use_id".into(), id)]);
                let content = match message.get("content") {
                    Some(Value::List(_)) => Value::list(self::blocks(message.get("content"))?),
                    other => content_text(other),
                };
                result.insert("content".into(), content);
                copy(message, &[("is_error", "is_error")], &mut result);
                self.push("user", vec![result.into()]);
            }
            "user" => self.push("user", blocks(message.get("content"))?),
            other => return Err(format!("the dialect `anthropic` knows no role `{other}`")),
        }
        Ok(())
    }

    fn push(&mut self, role: &'static str, blocks: Vec<Value>) {
        match self.turns.last_mut() {
            Some((last, own)) if *last == role => own.extend(blocks),
            _ => self.turns.push((role, blocks)),
        }
    }

    fn written(self) -> Value {
        let written = self.turns.into_iter().map(|(role, blocks)| {
            let content = match blocks.as_slice() {
                [only] if only.as_map().is_some_and(|map| map.len() == 2) && text(only, "text").is_some() => {
                    only.get("text").cloned().unwrap_or_default()
                }
                _ => Value::list(blocks),
            };
            object([("role", role.into()), ("content", content)])
        });
        Value::list(written.collect())
    }
}

fn blocks(content: Option<&Value>) -> Result<Vec<Value>, String> {
    let parts = parts(content)?;
    // An empty text is refused.
    let said = parts.iter().filter(|part| !matches!(part, Part::Text("")));
    said.map(|part| match part {
        Part::Text(text) => Ok(object([("type", "text".into()), ("text", (*text).into())])),
        Part::Image(image) => Ok(object([("type", "image".into()), ("source", source(image)?)])),
    })
    .collect()
}

fn source(image: &Value) -> Result<Value, String> {
    let held = |media_type: &str, data: &str| {
        object([("type", "base64".into()), ("media_type", media_type.into()), ("data", data.into())])
    };
    if let Some(url) = text(image, "url") {
        let inside = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
        return Ok(match inside {
            Some((media_type, data)) => held(media_type, data),
            None => object([("type", "url".into()), ("url", url.into())]),
        });
    }
    let data = text(image, "data").ok_or("an image has a `url`, or `data` in base64 and a `media_type`")?;
    Ok(held(text(image, "media_type").unwrap_or("image/png"), data))
}

fn call(call: &Value) -> Value {
    let get = |key: &str| call.get(key).cloned().unwrap_or_default();
    object([("type", "tool_use".into()), ("id", get("id")), ("name", get("name")), ("input", arguments_map(call))])
}

pub(super) fn answer(body: &Value) -> Value {
    let (mut said, mut thinking, mut calls, mut blocks) = (String::new(), String::new(), Vec::new(), Vec::new());
    for block in list(body, "content") {
        let mut own = block.clone();
        match text(block, "type") {
            Some("text") => said.push_str(text(block, "text").unwrap_or_default()),
            Some("thinking") => thinking.push_str(text(block, "thinking").unwrap_or_default()),
            Some("tool_use") => {
                let input = block.get("input");
                calls.push(tool_call(block.get("id"), block.get("name"), input));
                if input.and_then(Value::as_str).is_some() {
                    // It was cut in its middle, and could not go back so.
                    own = with(block, "input", Value::map::<&str>([]));
                }
            }
            _ => {}
        }
        blocks.push(own);
    }
    let reason = text(body, "stop_reason").unwrap_or_default();
    let stop = match reason {
        "end_turn" | "stop_sequence" => "end",
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_use",
        "pause_turn" => "pause",
        "refusal" => "refusal",
        _ => "other",
    };
    let details = body.get("stop_details");
    let why = details.and_then(|details| text(details, "explanation").or_else(|| text(details, "category")));
    let get = |key: &str| body.get(key).cloned().unwrap_or_default();
    let reading = Reading {
        id: get("id"),
        model: get("model"),
        text: or_null(said),
        thinking,
        refusal: if stop == "refusal" { why.unwrap_or("it was refused").into() } else { Value::Null },
        stop,
        reason: reason.to_owned(),
        calls,
        usage: body.get("usage").filter(|used| !used.is_null()).map(usage),
        raw: Value::list(blocks),
        status: None,
        error: Value::Null,
    };
    reading.value(Dialect::Anthropic)
}

/// What it counts apart, read, from and for the cache, is counted together here.
fn usage(used: &Value) -> Usage {
    let get = |key: &str| count(used.get(key));
    let (cached, cache_write) = (get("cache_read_input_tokens"), get("cache_creation_input_tokens"));
    let detail = |part: &str, key: &str| count(used.get(part).and_then(|part| part.get(key)));
    Usage {
        input: get("input_tokens") + cached + cache_write,
        cached,
        cache_write,
        cache_write_1h: detail("cache_creation", "ephemeral_1h_input_tokens"),
        output: get("output_tokens"),
        reasoning: detail("output_tokens_details", "thinking_tokens"),
        estimated: false,
    }
}

fn with(value: &Value, key: &str, inner: Value) -> Value {
    let mut map = value.as_map().cloned().unwrap_or_default();
    map.insert(key.into(), inner);
    map.into()
}

/// A block whose pieces are put together.
struct Folded {
    index: i128,
    block: Value,
    /// What a tool is called with, as far as it has come.
    input: String,
}

impl Folded {
    fn take(&mut self, delta: &Value) {
        for key in ["text", "thinking", "signature", "data"] {
            if let Some(piece) = text(delta, key) {
                let whole = format!("{}{piece}", text(&self.block, key).unwrap_or_default());
                self.block = with(&self.block, key, whole.into());
            }
        }
        self.input.push_str(text(delta, "partial_json").unwrap_or_default());
        if let Some(citation) = delta.get("citation") {
            let mut citations = list(&self.block, "citations").to_vec();
            citations.push(citation.clone());
            self.block = with(&self.block, "citations", Value::list(citations));
        }
    }

    fn value(self) -> Value {
        if self.input.trim().is_empty() {
            return self.block;
        }
        // What is no JSON stays a text: the reader says so.
        let input = parse_json(&self.input).unwrap_or_else(|_| self.input.as_str().into());
        with(&self.block, "input", input)
    }
}

/// Folds the events of a stream into the body that it stands for.
pub(super) fn fold(events: &[Value]) -> Result<Value, String> {
    let mut whole = Map::new();
    let mut usage = Map::new();
    let mut blocks: Vec<Folded> = Vec::new();
    let mut ended = false;
    for event in events {
        let index = count(event.get("index"));
        match text(event, "type").unwrap_or_default() {
            "error" => return Ok(event.clone()),
            "message_start" => {
                whole = event.get("message").and_then(Value::as_map).cloned().unwrap_or_default();
                usage.extend(whole.get("usage").and_then(Value::as_map).cloned().unwrap_or_default());
            }
            "content_block_start" => {
                let block = event.get("content_block").cloned().unwrap_or_default();
                blocks.push(Folded { index, block, input: String::new() });
            }
            "content_block_delta" => {
                let delta = event.get("delta").cloned().unwrap_or_default();
                if let Some(block) = blocks.iter_mut().rev().find(|block| block.index == index) {
                    block.take(&delta);
                }
            }
            "message_delta" => {
                let delta = event.get("delta").and_then(Value::as_map);
                whole.extend(delta.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
                // It counts from the beginning, and leaves out what has not changed.
                let used = event.get("usage").and_then(Value::as_map).into_iter().flatten();
                usage.extend(used.filter(|(_, it)| !it.is_null()).map(|(key, value)| (key.clone(), value.clone())));
            }
            "message_stop" => ended = true,
            _ => {}
        }
    }
    if !ended {
        return Err(broken_off());
    }
    whole.insert("content".into(), Value::list(blocks.into_iter().map(Folded::value).collect()));
    whole.insert("usage".into(), usage.into());
    Ok(whole.into())
}

pub(super) fn read_question(wire: &Value) -> Result<Value, String> {
    let mut question = Map::new();
    let keys = [
        ("model", "model"),
        ("max_tokens", "max_tokens"),
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("stop_sequences", "stop"),
        ("stream", "stream"),
    ];
    copy(wire, &keys, &mut question);
    if let Some(system) = wire.get("system").filter(|system| system.is_truthy()) {
        question.insert("system".into(), content_text(Some(system)));
    }
    let mut turns = Vec::new();
    for turn in messages(wire)? {
        read_turn(turn, &mut turns);
    }
    question.insert("messages".into(), Value::list(turns));
    let tools = list(wire, "tools").iter().map(|tool| {
        let mut own = Map::new();
        let keys =
            [("name", "name"), ("description", "description"), ("strict", "strict"), ("input_schema", "parameters")];
        copy(tool, &keys, &mut own);
        own.into()
    });
    question.insert("tools".into(), Value::list(tools.collect()));
    if let Some(choice) = wire.get("tool_choice").filter(|choice| !choice.is_null()) {
        let read = match text(choice, "type") {
            Some("any") => "required".into(),
            Some("tool") => object([("name", choice.get("name").cloned().unwrap_or_default())]),
            Some(word) => word.into(),
            None => Value::Null,
        };
        question.insert("tool_choice".into(), read);
        if choice.get("disable_parallel_tool_use").and_then(Value::as_bool) == Some(true) {
            question.insert("parallel_tool_calls".into(), Value::Bool(false));
        }
    }
    let output = wire.get("output_config").cloned().unwrap_or_default();
    copy(&output, &[("effort", "effort")], &mut question);
    if wire.get("thinking").and_then(|thinking| text(thinking, "type")) == Some("disabled") {
        question.insert("effort".into(), "none".into());
    }
    if let Some(format) = output.get("format") {
        copy(format, &[("schema", "schema")], &mut question);
    }
    Ok(question.into())
}

/// Reads a turn: one message, or one for each result in it and one for the rest, as they stand.
fn read_turn(turn: &Value, turns: &mut Vec<Value>) {
    let role = turn.get("role").cloned().unwrap_or_default();
    let Some(Value::List(blocks)) = turn.get("content") else {
        turns.push(object([("role", role), ("content", turn.get("content").cloned().unwrap_or_default())]));
        return;
    };
    let (mut parts, mut calls) = (Vec::new(), Vec::new());
    let begun = turns.len();
    for block in blocks.iter() {
        let get = |key: &str| block.get(key).cloned().unwrap_or_default();
        match text(block, "type") {
            Some("text") => parts.push(object([("text", get("text"))])),
            Some("image") => parts.push(object([("image", read_source(&get("source")))])),
            Some("tool_use") => calls.push(tool_call(block.get("id"), block.get("name"), block.get("input"))),
            Some("tool_result") => {
                if !parts.is_empty() {
                    turns.push(object([("role", role.clone()), ("content", Value::list(std::mem::take(&mut parts)))]));
                }
                turns.push(object([
                    ("role", "tool".into()),
                    ("tool_call_id", get("tool_use_id")),
                    ("content", content_text(block.get("content"))),
                ]));
            }
            _ => {}
        }
    }
    if parts.is_empty() && calls.is_empty() && turns.len() > begun {
        return;
    }
    let mut message = Map::from_iter([("role".into(), role), ("content".into(), Value::list(parts))]);
    if !calls.is_empty() {
        message.insert("tool_calls".into(), Value::list(calls));
    }
    turns.push(message.into());
}

fn read_source(source: &Value) -> Value {
    let mut image = Map::new();
    copy(source, &[("url", "url"), ("data", "data"), ("media_type", "media_type")], &mut image);
    image.into()
}

pub(super) fn write_answer(answer: &Value) -> Value {
    let get = |key: &str| answer.get(key).cloned().unwrap_or_default();
    let mut content = list(answer, "thoughts").to_vec();
    if let Some(said) = text(answer, "text").filter(|said| !said.is_empty()) {
        content.push(object([("type", "text".into()), ("text", said.into())]));
    }
    for one in list(answer, "tool_calls") {
        let mut block = call(one).as_map().cloned().unwrap_or_default();
        if let Some(written) = one.get("written") {
            block.insert("input".into(), written.clone());
        }
        block.insert("caller".into(), object([("type", "direct".into())]));
        content.push(block.into());
    }
    let (reason, details) = match text(answer, "stop").unwrap_or("end") {
        "length" => ("max_tokens", Value::Null),
        "tool_use" => ("tool_use", Value::Null),
        "pause" => ("pause_turn", Value::Null),
        "refusal" | "filter" => {
            let why = answer.get("refusal").cloned().unwrap_or_default();
            let category = Value::from("general_harms");
            ("refusal", object([("type", "refusal".into()), ("category", category), ("explanation", why)]))
        }
        _ if answer.get("stop_sequence").is_some_and(Value::is_truthy) => ("stop_sequence", Value::Null),
        _ => ("end_turn", Value::Null),
    };
    object([
        ("id", get("id")),
        ("type", "message".into()),
        ("role", "assistant".into()),
        ("model", get("model")),
        ("content", Value::list(content)),
        ("stop_reason", reason.into()),
        ("stop_sequence", get("stop_sequence")),
        ("stop_details", details),
        ("usage", write_usage(Usage::of(answer))),
    ])
}

fn write_usage(usage: Usage) -> Value {
    let (hour, minutes) = (usage.cache_write_1h, usage.cache_write - usage.cache_write_1h);
    object([
        ("input_tokens", Value::Int(usage.input - usage.cached - usage.cache_write)),
        ("cache_creation_input_tokens", Value::Int(usage.cache_write)),
        ("cache_read_input_tokens", Value::Int(usage.cached)),
        (
            "cache_creation",
            object([
                ("ephemeral_5m_input_tokens", Value::Int(minutes)),
                ("ephemeral_1h_input_tokens", Value::Int(hour)),
            ]),
        ),
        ("output_tokens", Value::Int(usage.output)),
        ("output_tokens_details", object([("thinking_tokens", Value::Int(usage.reasoning))])),
        ("service_tier", "standard".into()),
        ("inference_geo", "global".into()),
    ])
}

pub(super) fn write_stream(whole: &Value) -> String {
    let mut out = String::new();
    let mut put = |kind: &str, entries: &[(&str, Value)]| {
        let mut data = Map::from_iter([("type".into(), kind.into())]);
        data.extend(entries.iter().map(|(key, value)| ((*key).into(), value.clone())));
        sse::write(Some(kind), &words(&data.into()), &mut out);
    };
    let usage = whole.get("usage").cloned().unwrap_or_default();
    let mut begun = with(whole, "content", Value::list(Vec::new()));
    for key in ["stop_reason", "stop_sequence", "stop_details"] {
        begun = with(&begun, key, Value::Null);
    }
    // What is said is not counted yet.
    let at_first = with(&with(&usage, "output_tokens", Value::Int(1)), "output_tokens_details", Value::Null);
    put("message_start", &[("message", with(&begun, "usage", at_first))]);
    for (number, block) in (0..).zip(list(whole, "content")) {
        let index = ("index", Value::Int(number));
        let get = |key: &str| text(block, key).unwrap_or_default();
        let (empty, kind, key, said) = match text(block, "type") {
            Some("thinking") => {
                let empty = with(&with(block, "thinking", "".into()), "signature", "".into());
                (empty, "thinking_delta", "thinking", get("thinking").to_owned())
            }
            Some("tool_use") => {
                let input = block.get("input");
                let written = input.map(|it| it.as_str().map_or_else(|| words(it), str::to_owned)).unwrap_or_default();
                let empty = with(block, "input", Value::map::<&str>([]));
                (empty, "input_json_delta", "partial_json", if written == "{}" { String::new() } else { written })
            }
            Some("text") => (with(block, "text", "".into()), "text_delta", "text", get("text").to_owned()),
            _ => (block.clone(), "", "", String::new()),
        };
        put("content_block_start", &[index.clone(), ("content_block", empty)]);
        if number == 0 {
            put("ping", &[]);
        }
        for piece in pieces(&said) {
            let delta = object([("type", kind.into()), (key, piece.into())]);
            put("content_block_delta", &[index.clone(), ("delta", delta)]);
        }
        if let Some(signature) = text(block, "signature") {
            let delta = object([("type", "signature_delta".into()), ("signature", signature.into())]);
            put("content_block_delta", &[index.clone(), ("delta", delta)]);
        }
        put("content_block_stop", &[index]);
    }
    let get = |key: &str| whole.get(key).cloned().unwrap_or_default();
    let ended = ["stop_reason", "stop_sequence", "stop_details"].map(|key| (key, get(key)));
    let counted =
        ["output_tokens", "output_tokens_details"].map(|key| (key, usage.get(key).cloned().unwrap_or_default()));
    put("message_delta", &[("delta", object(ended)), ("usage", object(counted))]);
    put("message_stop", &[]);
    out
}
