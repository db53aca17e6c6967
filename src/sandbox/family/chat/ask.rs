//! From a question to its answer.

use super::Chat;
use super::HELD;
use super::Kept;
use super::cache::Counted;
use super::check;
use super::compose::Question;
use super::compose::Said;
use super::dialect::Dialect;
use super::dialect::Style;
use super::list;
use super::parsed;
use super::refusal::Refusal;
use super::script;
use super::script::Asked;
use super::script::Script;
use super::settings::Model;
use super::text;
use super::thought;
use super::words;
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
        self.settings.versions.check(request, &wire)?;
        self.draw_request(&model, moment)?;
        let answered = self.ready(dialect, &wire, &model, moment).and_then(|ready| self.give(&ready, moment));
        self.told(answered, &model, moment)
    }

    /// Counts a question without answering it.
    pub(super) fn count(&mut self, dialect: &'static Dialect, request: &Received) -> Result<Reply, Refusal> {
        let wire = parsed(request)?;
        self.model(&wire)?;
        self.settings.versions.check(request, &wire)?;
        let canonical =
            chat::read_question(dialect.name, &wire).map_err(|message| Refusal::of(dialect.messages, "", message))?;
        Ok(Reply::json(
            200,
            &Value::map([("input_tokens", Value::from(counted(&canonical, list(&canonical, "messages"))))]),
        ))
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
        let effort = self.effort(dialect, wire, &canonical, model)?;
        let mut messages = self.before(wire)?;
        messages.extend(list(&canonical, "messages").iter().cloned());
        check::turns(dialect, wire, &messages)?;
        let asked = counted(&canonical, &messages);
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
    fn effort(&self, dialect: &Dialect, wire: &Value, canonical: &Value, model: &Model) -> Result<String, Refusal> {
        let models = &self.settings.models;
        let asked = text(canonical, "effort");
        let unsupported = |param: &str, instead: Option<&str>| {
            if dialect.style == Style::Ollama {
                return Refusal::of(param, "", format!("{:?} does not support thinking", model.id));
            }
            let hint = instead.map(|it| format!(" Use '{it}' instead.")).unwrap_or_default();
            let message = format!("Unsupported parameter: '{param}' is not supported with this model.{hint}");
            Refusal::of(param, "unsupported_parameter", message)
        };
        if !model.thinks {
            // Of models that nobody has listed nothing is known.
            let is_told = dialect.style == Style::OpenAi || asked != Some("none");
            return match asked.filter(|_| !models.list.is_empty() && is_told) {
                Some(_) => Err(unsupported(dialect.effort, None)),
                None => Ok("none".to_owned()),
            };
        }
        let efforts: Vec<&str> = models.efforts(model).iter().map(String::as_str).collect();
        let effort = match &models.thinking.effort {
            usual if usual.is_empty() => asked.unwrap_or("high"),
            usual => asked.unwrap_or(usual),
        };
        let is_refused = asked.is_some_and(|asked| !efforts.contains(&asked));
        if is_refused && !efforts.is_empty() {
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
        let mut asked = ready.model.id.clone();
        write_json(&Value::list(ready.messages.clone()), &mut asked);
        let question = Question {
            wire: &ready.wire,
            format: ready.dialect.format,
            canonical: &ready.canonical,
            messages: &ready.messages,
            seed: hash(self.seed.unwrap_or_default(), &asked),
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
        let counted = match ready.dialect.style {
            Style::Anthropic => self.cache.count(&ready.wire, &ready.model.id),
            _ => Counted::default(),
        };
        let answer = answer(ready, said, (failed, counted), moment);
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
        let usual = self.settings.errors.types.get(&status.to_string()).map_or(usual, String::as_str);
        let get = |key: &str| error.get(key).cloned();
        let said = [
            ("message", get("message").unwrap_or_else(|| "The sandbox was told to fail.".into())),
            ("type", get("type").unwrap_or_else(|| usual.into())),
            ("param", get("param").unwrap_or_default()),
            ("code", get("code").filter(|_| !failed).unwrap_or_default()),
            ("status", Value::from(status)),
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
        let kind = payload.content_type.as_deref().unwrap_or_default();
        let between: &[u8] = match kind {
            kind if kind.starts_with("text/event-stream") => b"\n\n",
            kind if kind.starts_with("application/x-ndjson") => b"\n",
            _ => {
                bytes.truncate(bytes.len() / 2);
                return Payload { content_type: payload.content_type, bytes };
            }
        };
        let length = between.len();
        let ends: Vec<usize> =
            (length..=bytes.len()).filter(|end| bytes.get(end - length..*end) == Some(between)).collect();
        let middle = ends.get(ends.len() / 2).copied().unwrap_or(0);
        bytes.truncate(middle);
        if let Some(error) = &script.error {
            bytes.extend(self.last_words(error, dialect, ends.len() / 2 + 1).into_bytes());
        }
        Payload { content_type: payload.content_type, bytes }
    }

    /// Writes the error that ends a stream.
    fn last_words(&self, error: &Value, dialect: &Dialect, number: usize) -> String {
        let get = |key: &str| error.get(key).cloned().unwrap_or_default();
        let said = ["message", "type", "param", "code", "status"].map(|key| (key, get(key)));
        let mut out = String::new();
        match dialect.style {
            Style::OpenAi if dialect.keeps => {
                let told = said.into_iter().filter(|(key, _)| *key != "status");
                let mut event: Map = told.map(|(key, value)| (key.into(), value)).collect();
                event.insert("type".into(), "error".into());
                event.insert("sequence_number".into(), Value::from(u64::try_from(number).unwrap_or(0)));
                sse::write(Some("error"), &Value::from(event).to_text(), &mut out);
            }
            Style::OpenAi => sse::write(None, &self.settings.errors.body_of(&said).to_text(), &mut out),
            Style::Anthropic => sse::write(Some("error"), &self.settings.errors.body_of(&said).to_text(), &mut out),
            Style::Cohere => {
                let delta = Value::map([("finish_reason", "ERROR".into()), ("error", get("message"))]);
                let event = Value::map([("type", Value::from("message-end")), ("delta", delta)]);
                sse::write(Some("message-end"), &event.to_text(), &mut out);
            }
            Style::Ollama => {
                out.push_str(&self.settings.errors.body_of(&said).to_text());
                out.push('\n');
            }
        }
        out
    }
}

/// Counts the tokens of a canonical question with these messages.
fn counted(canonical: &Value, messages: &[Value]) -> u64 {
    let beside = ["system", "tools", "schema"].iter().filter_map(|key| canonical.get(key));
    tokens_of_messages(messages) + beside.filter(|value| value.is_truthy()).map(tokens_of).sum::<u64>()
}

/// Makes a canonical answer: what is said, no longer than it may be, with its ids and what it used.
fn answer(ready: &Ready, mut said: Said, (failed, counted): (Option<&Value>, Counted), moment: &mut Moment) -> Value {
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
            ("id".into(), Value::from(thought::call_id(dialect, &name, moment))),
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
    let id = thought::id(dialect, moment);
    let sealed = list(&ready.wire, "include").iter().any(|it| it.as_str() == Some(SEALED));
    let about = ready.messages.last().map(words::said).unwrap_or_default();
    let items = if *thoughts > 0 { thought::items(dialect, &about, sealed, moment) } else { Vec::new() };
    let cached = counted.read.min(ready.asked);
    let written = counted.written.min(ready.asked - cached);
    let usage = [
        ("input", ready.asked),
        ("cached", cached),
        ("cache_write", written),
        ("cache_write_1h", counted.hour.min(written)),
        ("output", output + thoughts),
        ("reasoning", *thoughts),
        ("total", ready.asked + output + thoughts),
    ];
    let or_null = |text: Option<String>| text.map(Value::from).unwrap_or_default();
    Value::map([
        ("id", id),
        ("model", model.id.as_str().into()),
        ("text", or_null(said.text)),
        ("refusal", or_null(said.refusal)),
        ("stop", stop.into()),
        ("stop_sequence", or_null(said.stopped_at)),
        ("tool_calls", Value::list(calls)),
        ("thoughts", Value::list(items)),
        ("usage", Value::map(usage.map(|(key, count)| (key, Value::from(count))))),
        ("error", failed.cloned().unwrap_or_default()),
    ])
}
