//! The family `chat`: a stand-in of servers that answer questions by models. What a vendor has of its own, paths, models,
//! limits, stands in the manifest; the shapes are those of the codec `chat`.
//!
//! ```text
//! Received ── check ──> Question ── script, compose ──> answer ── codec ──> Reply
//!               │          ^                              │
//!            Refusal    kept answers  <───────────────────┘
//! ```

mod ask;
mod cache;
mod check;
mod compose;
mod dialect;
mod embed;
mod fit;
mod listing;
mod manners;
mod pattern;
mod quota;
mod refusal;
mod script;
mod settings;
mod thought;
mod words;

use std::collections::VecDeque;

use indexmap::IndexMap;

use self::cache::Cache;
use self::dialect::Dialect;
use self::dialect::Style;
use self::quota::Drawn;
use self::refusal::Kind;
use self::refusal::Refusal;
use self::script::Script;
use self::settings::Model;
use self::settings::Settings;
use super::Family;
use super::Moment;
use crate::model::Value;
use crate::model::decode;
use crate::sandbox::exchange::Received;
use crate::sandbox::exchange::Reply;

/// How many questions and kept answers are held; older ones go, since a stand-in may run for days.
const HELD: usize = 1_000;

/// A stand-in of a server with models.
#[derive(Debug)]
pub(super) struct Chat {
    settings: Settings,
    drawn: Drawn,
    kept: IndexMap<String, Kept>,
    /// What was asked and answered, as rows.
    asked: VecDeque<Value>,
    cache: Cache,
    /// Drawn once: the same question gets the same answer as long as the stand-in lives.
    seed: Option<u64>,
}

/// An answer that stays.
#[derive(Debug)]
struct Kept {
    body: Value,
    /// All messages up to it, with it.
    messages: Vec<Value>,
}

impl Chat {
    pub(super) fn new(section: &Value) -> Result<Self, String> {
        let settings = Settings::read(section)?;
        let (drawn, kept, asked) = (Drawn::default(), IndexMap::new(), VecDeque::new());
        Ok(Self { settings, drawn, kept, asked, cache: Cache::default(), seed: None })
    }

    fn route(&mut self, request: &Received, moment: &mut Moment) -> Option<Result<Reply, Refusal>> {
        let path = request.path.trim_end_matches('/');
        let method = request.method.as_str();
        if let Some(dialect) = self.settings.paths.get(path).and_then(|name| Dialect::of(name)) {
            return Some(only("POST", method, path).and_then(|()| self.ask(dialect, request, moment)));
        }
        if let Some(dialect) = self.settings.count.get(path).and_then(|name| Dialect::of(name)) {
            return Some(only("POST", method, path).and_then(|()| self.count(dialect, request)));
        }
        if self.settings.models.show.as_deref() == Some(path) {
            return Some(only("POST", method, path).and_then(|()| self.show(request)));
        }
        if self.settings.embeddings.as_deref() == Some(path) {
            return Some(only("POST", method, path).and_then(|()| self.embed(request, moment)));
        }
        if let Some(below) = self.settings.models.path.as_deref().and_then(|own| path.strip_prefix(own)) {
            return Some(only("GET", method, path).and_then(|()| self.models(below.strip_prefix('/'), request)));
        }
        let (before, after) = self.settings.kept.as_deref()?.split_once("{id}")?;
        let id = path.strip_prefix(before)?.strip_suffix(after).filter(|id| !id.contains('/'))?;
        Some(self.kept(method, path, id))
    }

    fn models(&self, below: Option<&str>, request: &Received) -> Result<Reply, Refusal> {
        let models = &self.settings.models;
        let Some(id) = below else { return models.listed(self.settings.shape, request) };
        let model = models.find(id).ok_or_else(|| check::no_model(id))?;
        Ok(Reply::json(200, &models.row(self.settings.shape, &model)))
    }

    fn show(&self, request: &Received) -> Result<Reply, Refusal> {
        let model = self.model(&parsed(request)?)?;
        Ok(Reply::json(200, &self.settings.models.shown(&model)))
    }

    fn embed(&mut self, request: &Received, moment: &mut Moment) -> Result<Reply, Refusal> {
        let wire = parsed(request)?;
        let model = self.model(&wire)?;
        self.draw_request(&model, moment)?;
        let answered = embed::answer(self.settings.shape, &wire, &model, moment).and_then(|(body, used)| {
            self.draw_tokens(&model, used, moment)?;
            Ok(Reply::json(200, &body))
        });
        self.told(answered, &model, moment)
    }

    fn kept(&mut self, method: &str, path: &str, id: &str) -> Result<Reply, Refusal> {
        let missing = || Refusal::new(Kind::UnknownAnswer, format!("Response with id '{id}' not found."));
        match method {
            "GET" => self.kept.get(id).map(|kept| Reply::json(200, &kept.body)).ok_or_else(missing),
            "DELETE" => {
                let kept = self.kept.shift_remove(id).ok_or_else(missing)?;
                let object = kept.body.get("object").cloned().unwrap_or_default();
                let gone = [("id", Value::from(id)), ("object", object), ("deleted", Value::Bool(true))];
                Ok(Reply::json(200, &Value::map(gone)))
            }
            _ => only("GET", method, path).map(|()| Reply::empty(405)),
        }
    }

    /// Finds the model that a request names.
    fn model(&self, wire: &Value) -> Result<Model, Refusal> {
        match check::at(wire, "model") {
            None => Err(check::missing("model")),
            Some(Value::String(id)) => self.settings.models.find(id).ok_or_else(|| check::no_model(id)),
            Some(other) => Err(check::wrong_type("model", "a string", other)),
        }
    }

    fn draw_request(&mut self, model: &Model, moment: &Moment) -> Result<(), Refusal> {
        let Some(quota) = &self.settings.quota else { return Ok(()) };
        let drawn = self.drawn.request(quota, &model.id, moment.now);
        drawn.map_err(|refusal| self.telling(refusal, model, moment))
    }

    fn draw_tokens(&mut self, model: &Model, amount: u64, moment: &Moment) -> Result<(), Refusal> {
        let Some(quota) = &self.settings.quota else { return Ok(()) };
        self.drawn.tokens(quota, &model.id, amount, moment.now)
    }

    /// Tells with an answer, or with why there is none, what is left of the quota.
    fn told(&self, answered: Result<Reply, Refusal>, model: &Model, moment: &Moment) -> Result<Reply, Refusal> {
        match (answered, &self.settings.quota) {
            (Ok(mut reply), Some(quota)) => {
                reply.headers.extend(self.drawn.headers(quota, &model.id, moment.now));
                Ok(reply)
            }
            (Ok(reply), None) => Ok(reply),
            (Err(refusal), _) => Err(self.telling(refusal, model, moment)),
        }
    }

    fn telling(&self, mut refusal: Refusal, model: &Model, moment: &Moment) -> Refusal {
        if let Some(quota) = &self.settings.quota {
            refusal.headers.extend(self.drawn.headers(quota, &model.id, moment.now));
        }
        refusal
    }
}

impl Family for Chat {
    fn answer(&mut self, request: &Received, moment: &mut Moment) -> Option<Reply> {
        // Before anything else is drawn: what was asked before must not matter.
        self.seed.get_or_insert_with(|| moment.random.u64(..));
        let answered = self.route(request, moment)?;
        let mut reply = answered.unwrap_or_else(|refusal| self.settings.errors.reply(refusal));
        for (name, value) in &self.settings.headers {
            reply.headers.push((name.to_lowercase(), value.clone()));
        }
        if let Some(name) = &self.settings.request_id {
            reply.headers.push((name.to_lowercase(), format!("req_{:032x}", moment.random.u128(..))));
        }
        Some(reply)
    }

    fn state(&self) -> Value {
        let kept = self.kept.values().map(|kept| kept.body.clone()).collect();
        let replies = self.settings.replies.iter().map(Script::row).collect();
        let models = &self.settings.models;
        Value::map([
            ("questions", Value::list(self.asked.iter().cloned().collect())),
            ("kept", Value::list(kept)),
            ("replies", Value::list(replies)),
            ("models", Value::list(models.list.iter().map(|model| models.row(Style::OpenAi, model)).collect())),
        ])
    }

    fn load(&mut self, collection: &str, rows: &[Value]) -> Result<(), String> {
        match collection {
            "replies" => self.settings.replies = rows.iter().map(Script::read).collect::<Result<_, _>>()?,
            "questions" => self.asked = rows.iter().cloned().collect(),
            "models" => {
                let read = |row: &Value| decode(row.clone()).map_err(|error| error.to_string());
                self.settings.models.list = rows.iter().map(read).collect::<Result<_, _>>()?;
            }
            "kept" => {
                let one = |row: &Value| {
                    let id = text(row, "id").ok_or("a kept answer has an `id`")?;
                    Ok((id.to_owned(), Kept { body: row.clone(), messages: Vec::new() }))
                };
                self.kept = rows.iter().map(one).collect::<Result<_, String>>()?;
            }
            other => {
                return Err(format!(
                    "there is no collection `{other}`; there are `questions`, `kept`, `replies` and `models`"
                ));
            }
        }
        Ok(())
    }
}

fn only(allowed: &str, method: &str, path: &str) -> Result<(), Refusal> {
    if method == allowed {
        return Ok(());
    }
    Err(Refusal::new(Kind::Method, format!("Not allowed to {method} on {path}.")))
}

fn parsed(request: &Received) -> Result<Value, Refusal> {
    let wire = request.json();
    if wire.as_map().is_some() {
        return Ok(wire);
    }
    let message = "We could not parse the JSON body of your request. The body is expected to be a JSON object.";
    Err(Refusal::new(Kind::Invalid, message))
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_list).unwrap_or_default()
}

#[cfg(test)]
mod tests;
