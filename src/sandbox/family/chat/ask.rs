//! From a question to its answer.

use super::Chat;
use super::HELD;
use super::Kept;
use super::check;
use super::compose::Question;
use super::compose::Said;
use super::dialect::Dialect;
use super::list;
use super::parsed;
use super::refusal::Refusal;
use super::script;
use super::script::Asked;
use super::script::Script;
use super::settings::Model;
use super::text;
use super::words::cut;
use super::words::hash;
use super::words::tokens;
use super::words::tokens_of;
use super::words::tokens_of_messages;
use crate::connector::body::Payload;
use crate::connector::body::sse;
use crate::connector::codec::chat;
use crate::connector::contract;
use crate::model::Map;
use crate::model::Value;
use crate::model::parse_json;
use crate::model::write_json;
use crate::sandbox::exchange::Received;
use crate::sandbox::exchange::Reply;
use crate::sandbox::family::Moment;

/// How much is thought at the least effort that is one; every further one doubles it.
const LEAST_THOUGHTS: u64 = 8;
const EFFORTS: &[&str] = &["minimal", "low", "medium", "high", "xhigh", "max"];
/// Where thoughts are asked for, sealed.
const SEALED: &str = "reasoning.encrypted_content";

/// A question that can be answered.
struct Ready {
    dialect: &'static Dialect,
    model: Model,
    wire: Value,
    canonical: Value,
    /// With those of the answers before it.
    messages: Vec<Value>,
    /// Tokens of all that was asked, and the most that the answer may have.
    asked: u64,
    most: Option<u64>,
    thoughts: u64,
}

impl Chat {
    pub(super) fn ask(
        &mut self,
        dialect: &'static Dialect,
        request: &Received,
        moment: &mut Moment,
    ) -> Result<Reply, Refusal> {
        let wire = parsed(request)?;
        let model = self.model(&wire)?;
        self.draw_request(&model, moment)?;
        let answered = self.ready(dialect, &wire, &model, moment).and_then(|ready| self.give(&ready, moment));
        self.told(answered, &model, moment)
    }

    /// Reads a question and checks all that can be wrong with it.
    fn ready(
        &mut self,
        dialect: &'static Dialect,
        wire: &Value,
        model: &Model,
        moment: &Moment,
    ) -> Result<Ready, Refusal> {
        if model.dimensions.is_some() {
            let message = format!("The model `{}` makes embeddings and answers no questions.", model.id);
            return Err(Refusal::of("model", "", message));
        }
        check::parameters(dialect, wire)?;
        let canonical =
            chat::read_question(dialect.name, wire).map_err(|message| Refusal::of(dialect.messages, "", message))?;
        let effort = self.effort(dialect, wire, model)?;
        let mut messages = self.before(wire)?;
        messages.extend(list(&canonical, "messages").iter().cloned());
        check::turns(dialect, wire, &messages)?;
        let beside = ["system", "tools", "schema"].iter().filter_map(|key| canonical.get(key));
        let beside = beside.filter(|value| value.is_truthy()).map(tokens_of).sum::<u64>();
        let asked = tokens_of_messages(&messages) + beside;
        if let Some(most) = model.context.filter(|most| asked > *most) {
            let message = format!(
                "This model's maximum context length is {most} tokens. However, your messages resulted in {asked} tokens. Please reduce the length of the messages."
            );
            return Err(Refusal::of(dialect.messages, "context_length_exceeded", message));
        }
        let most = match canonical.get("max_tokens") {
            Some(Value::Int(most)) => u64::try_from(*most).ok(),
            _ => None,
        };
        // What it may become is charged, not what it becomes.
        self.draw_tokens(model, asked.max(most.unwrap_or(0)), moment)?;
        let at = EFFORTS.iter().position(|known| *known == effort);
        let thoughts = at.and_then(|at| u32::try_from(at).ok()).map_or(0, |at| LEAST_THOUGHTS << at);
        // A lower cap leaves at least half of it to what is said.
        let thoughts = most.map_or(thoughts, |most| thoughts.min(most / 2));
        Ok(Ready { dialect, model: model.clone(), wire: wire.clone(), canonical, messages, asked, most, thoughts })
    }

    /// Returns how hard the model thinks, or what it refuses for that.
    fn effort(&self, dialect: &Dialect, wire: &Value, model: &Model) -> Result<String, Refusal> {
        let models = &self.settings.models;
        let asked = check::at(wire, dialect.effort).and_then(Value::as_str);
        let unsupported = |param: &str, instead: Option<&str>| {
            let hint = instead.map(|it| format!(" Use '{it}' instead.")).unwrap_or_default();
            let message = format!("Unsupported parameter: '{param}' is not supported with this model.{hint}");
            Refusal::of(param, "unsupported_parameter", message)
        };
        if !model.thinks {
            // Of models that nobody has listed nothing is known.
            return match asked.filter(|_| !models.list.is_empty()) {
                Some(_) => Err(unsupported(dialect.effort, None)),
                None => Ok("none".to_owned()),
            };
        }
        let efforts: Vec<&str> = models.efforts(model).iter().map(String::as_str).collect();
        let effort = asked.unwrap_or(&models.thinking.effort);
        if asked.is_some_and(|asked| !efforts.contains(&asked)) {
            let known: Vec<String> = efforts.iter().map(|it| format!("'{it}'")).collect();
            let message = format!(
                "Unsupported value: '{}' does not support '{effort}' with this model. Supported values are: {}.",
                dialect.effort,
                known.join(", ")
            );
            return Err(Refusal::of(dialect.effort, "unsupported_value", message));
        }
        for (param, instead) in &models.thinking.refuses {
            if check::at(wire, param).is_some() {
                return Err(unsupported(param, instead.as_deref()));
            }
        }
        let refused = models.thinking.refuses_in_thought.iter().find(|param| check::at(wire, param).is_some());
        match refused.filter(|_| effort != "none") {
            Some(param) => Err(unsupported(param, None)),
            None => Ok(effort.to_owned()),
        }
    }

    /// Returns the messages of the answer that a question goes on from.
    fn before(&self, wire: &Value) -> Result<Vec<Value>, Refusal> {
        let Some(id) = text(wire, "previous_response_id") else { return Ok(Vec::new()) };
        self.kept.get(id).map(|kept| kept.messages.clone()).ok_or_else(|| {
            let message = format!("Previous response with id '{id}' not found.");
            Refusal::of("previous_response_id", "previous_response_not_found", message)
        })
    }

    fn give(&mut self, ready: &Ready, moment: &mut Moment) -> Result<Reply, Refusal> {
        let mut words = ready.model.id.clone();
        write_json(&Value::list(ready.messages.clone()), &mut words);
        let question = Question {
            wire: &ready.wire,
            format: ready.dialect.format,
            canonical: &ready.canonical,
            messages: &ready.messages,
            seed: hash(self.seed.unwrap_or_default(), &words),
        };
        let (last, offered, called) = (question.last(), question.offered(), question.called());
        let asked = Asked { model: &ready.model.id, said: &last, offered: &offered, called: &called };
        let script = script::take(&mut self.settings.replies, &asked);
        let failed = script.as_ref().and_then(|script| script.failed.as_ref());
        let error = script.as_ref().filter(|script| !script.breaks).and_then(|script| script.error.as_ref());
        // Where the dialect has no answers that failed, the request has.
        if let Some(error) = error.or(failed.filter(|_| !ready.dialect.keeps)) {
            let reply = self.written_error(error, failed.is_some());
            self.note(ready, &last, Value::map([("status", Value::from(reply.status))]), moment);
            return Ok(reply);
        }
        let said = question.say(script.as_ref(), self.settings.tools);
        let answer = answer(ready, said, failed, moment);
        let created = moment.now.micros() / 1_000_000;
        let wrong = |message: String| Refusal::of(ready.dialect.messages, "", message);
        let payload = chat::write_answer(ready.dialect.name, &answer, &ready.canonical, created).map_err(wrong)?;
        self.keep(ready, &answer, created).map_err(wrong)?;
        self.note(ready, &last, answer, moment);
        let payload = match script.filter(|script| script.breaks) {
            Some(script) => self.broken(payload, ready.dialect, &script),
            None => payload,
        };
        Ok(Reply::payload(200, payload))
    }

    fn keep(&mut self, ready: &Ready, answer: &Value, created: i64) -> Result<(), String> {
        let store = ready.wire.get("store").and_then(Value::as_bool).unwrap_or(true);
        if !ready.dialect.keeps || !store || self.settings.kept.is_none() {
            return Ok(());
        }
        let mut whole = ready.canonical.as_map().cloned().unwrap_or_default();
        whole.insert("stream".into(), Value::Bool(false));
        let payload = chat::write_answer(ready.dialect.name, answer, &whole.into(), created)?;
        let body = parse_json(&String::from_utf8_lossy(&payload.bytes)).map_err(|error| error.to_string())?;
        let get = |key: &str| answer.get(key).cloned().unwrap_or_default();
        let mut messages = ready.messages.clone();
        messages.push(Value::map([
            ("role", "assistant".into()),
            ("content", get("text")),
            ("tool_calls", get("tool_calls")),
        ]));
        if self.kept.len() >= HELD {
            self.kept.shift_remove_index(0);
        }
        self.kept.insert(get("id").to_text(), Kept { body, messages });
        Ok(())
    }

    /// Remembers what was asked, for people and tests.
    fn note(&mut self, ready: &Ready, last: &str, answer: Value, moment: &Moment) {
        if self.asked.len() >= HELD {
            self.asked.pop_front();
        }
        self.asked.push_back(Value::map([
            ("at", Value::Time(moment.now)),
            ("dialect", ready.dialect.name.into()),
            ("model", ready.model.id.as_str().into()),
            ("asked", last.into()),
            ("question", ready.canonical.clone()),
            ("answer", answer),
        ]));
    }

    /// Makes the answer of an error that someone wrote.
    fn written_error(&self, error: &Value, failed: bool) -> Reply {
        let status = match error.get("status") {
            Some(Value::Int(status)) => u16::try_from(*status).unwrap_or(500),
            _ => 500,
        };
        let usual = match status {
            429 => "requests",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let get = |key: &str| error.get(key).cloned();
        let said = [
            ("message", get("message").unwrap_or_else(|| "The sandbox was told to fail.".into())),
            ("type", get("type").unwrap_or_else(|| usual.into())),
            ("param", get("param").unwrap_or_default()),
            ("code", get("code").filter(|_| !failed).unwrap_or_default()),
        ];
        let written = [
            ("status", Value::from(status)),
            ("headers", get("headers").unwrap_or_default()),
            ("json", self.settings.errors.body_of(&said)),
        ];
        let response = contract::response(&Value::map(written));
        Reply { status: response.status, headers: response.headers, body: response.body }
    }

    /// Breaks a stream off in its middle, between two events; what is no stream, anywhere.
    fn broken(&self, payload: Payload, dialect: &Dialect, script: &Script) -> Payload {
        let mut bytes = payload.bytes;
        let is_stream = payload.content_type.as_deref().is_some_and(|kind| kind.starts_with("text/event-stream"));
        if !is_stream {
            bytes.truncate(bytes.len() / 2);
            return Payload { content_type: payload.content_type, bytes };
        }
        let ends: Vec<usize> = (2..=bytes.len()).filter(|end| bytes.get(end - 2..*end) == Some(b"\n\n")).collect();
        let middle = ends.get(ends.len() / 2).copied().unwrap_or(0);
        bytes.truncate(middle);
        if let Some(error) = &script.error {
            let get = |key: &str| error.get(key).cloned().unwrap_or_default();
            let said = ["message", "type", "param", "code"].map(|key| (key, get(key)));
            let mut out = String::new();
            if dialect.keeps {
                let number = Value::from(u64::try_from(ends.len() / 2 + 1).unwrap_or(0));
                let mut event: Map = said.into_iter().map(|(key, value)| (key.into(), value)).collect();
                event.insert("type".into(), "error".into());
                event.insert("sequence_number".into(), number);
                sse::write(Some("error"), &Value::from(event).to_text(), &mut out);
            } else {
                sse::write(None, &self.settings.errors.body_of(&said).to_text(), &mut out);
            }
            bytes.extend(out.into_bytes());
        }
        Payload { content_type: payload.content_type, bytes }
    }
}

/// Makes a canonical answer: what is said, no longer than it may be, with its ids and what it used.
fn answer(ready: &Ready, mut said: Said, failed: Option<&Value>, moment: &mut Moment) -> Value {
    let Ready { dialect, model, thoughts, .. } = ready;
    let room = ready.most.map_or(u64::MAX, |most| most - thoughts);
    let mut stop = match (&said.stop, &said.refusal) {
        (Some(stop), _) => stop.clone(),
        (None, Some(_)) => "refusal".to_owned(),
        (None, None) if !said.calls.is_empty() => "tool_use".to_owned(),
        (None, None) => "end".to_owned(),
    };
    let mut output = 0;
    for text in [&mut said.text, &mut said.refusal].into_iter().flatten() {
        if tokens(text) > room {
            *text = cut(text, room).to_owned();
            "length".clone_into(&mut stop);
            said.calls.clear();
        }
        output += tokens(text);
    }
    let mut calls = Vec::new();
    for (name, arguments) in said.calls {
        let mut call = Map::from_iter([
            ("id".into(), Value::from(format!("call_{}", letters(moment)))),
            ("name".into(), name.as_str().into()),
        ]);
        let written = arguments.to_text();
        let left = room.saturating_sub(output + tokens(&name));
        if tokens(&written) > left {
            // The wire gives what there is of it, and that is no JSON any more.
            "length".clone_into(&mut stop);
            call.insert("written".into(), cut(&written, left).into());
        } else {
            call.insert("arguments".into(), arguments);
        }
        output += tokens(&name) + tokens(&written).min(left);
        calls.push(call.into());
    }
    let id = format!("{}{}", dialect.id, letters(moment));
    let sealed = list(&ready.wire, "include").iter().any(|it| it.as_str() == Some(SEALED));
    let thought = (*thoughts > 0 && dialect.keeps).then(|| {
        let mut item = Map::from_iter([
            ("id".into(), Value::from(format!("rs_{}", letters(moment)))),
            ("type".into(), "reasoning".into()),
            ("summary".into(), Value::list(Vec::new())),
        ]);
        if sealed {
            item.insert("encrypted_content".into(), format!("gAAAAA{}", letters(moment)).into());
        }
        item.into()
    });
    let usage = [("input", ready.asked), ("cached", 0), ("cache_write", 0), ("output", output + thoughts)];
    let usage = usage.into_iter().chain([("reasoning", *thoughts), ("total", ready.asked + output + thoughts)]);
    let or_null = |text: Option<String>| text.map(Value::from).unwrap_or_default();
    Value::map([
        ("id", id.into()),
        ("model", model.id.as_str().into()),
        ("text", or_null(said.text)),
        ("refusal", or_null(said.refusal)),
        ("stop", stop.into()),
        ("tool_calls", Value::list(calls)),
        ("thoughts", Value::list(thought.into_iter().collect())),
        ("usage", Value::map(usage.map(|(key, count)| (key, Value::from(count))))),
        ("error", failed.cloned().unwrap_or_default()),
    ])
}

/// Draws the part of an id that nobody can guess.
fn letters(moment: &mut Moment) -> String {
    std::iter::repeat_with(|| moment.random.alphanumeric()).take(24).collect()
}
