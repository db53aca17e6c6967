//! `http.request`: talks to any HTTP server.

use async_trait::async_trait;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::http_answer;
use super::http_answer::Answer;
use super::keys::key_text;
use crate::connector::call::Means;
use crate::connector::call::Stop;
use crate::connector::plain;
use crate::connector::runtime::Runtime;
use crate::http::Request;
use crate::http::Response;
use crate::http::TransportError;
use crate::http::form;
use crate::http::with_query;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Repeat;
use crate::model::Settlement;
use crate::model::Value;
use crate::model::WriteKind;
use crate::model::write_json;
use crate::node::Candidate;
use crate::node::ExpressionKey;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::Reconciled;
use crate::node::StepContext;
use crate::secrets::Mask;

/// Sends an HTTP request and gives back status, headers and body.
///
/// GET, HEAD and OPTIONS read. Every other method is a write and goes through the effect ledger: POST creates, PUT
/// upserts, PATCH updates, DELETE deletes; `effect` says otherwise (`effect: read` for a query that is sent by POST).
///
/// A write is sent again only where it is proven that nothing happened: no connection came about, or the server refused
/// it (4xx, but not 408 and 425). After a time-out, a cut connection or a 5xx it is in doubt, and `repeat` and `reconcile`
/// say how the doubt is settled; without them it waits for a person.
///
/// After a 429 no `http.request` goes to this host before the moment that the answer names, in this process or another; a
/// host that fails five times in a row is left alone for a while. `runs show --wire` prints what was sent and came back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpRequest {
    /// The method; literal, because it decides the effect.
    #[serde(default = "get")]
    method: String,
    /// The URL, e.g. `https://api.example.com/orders`.
    url: String,
    /// What the request does to the world: `read`, `create`, `update`, `upsert`, `delete`, `message` or `spend`; literal.
    /// By default the method says it.
    #[serde(default)]
    #[expect(dead_code, reason = "is read from the literal `with:`")]
    effect: Option<Declared>,
    /// Headers, e.g. `{ Authorization: "Bearer {{ secrets.API_KEY }}" }`.
    #[serde(default)]
    headers: IndexMap<String, Value>,
    /// What is appended to the URL's query; a null is left out.
    #[serde(default)]
    query: IndexMap<String, Value>,
    /// A body as JSON; money, moments and durations are written as strings.
    #[serde(default)]
    json: Option<Value>,
    /// A body as a form.
    #[serde(default)]
    form: Option<IndexMap<String, Value>>,
    /// A body as text.
    #[serde(default)]
    text: Option<String>,
    /// The statuses that mean success; 200 to 299 where none are given.
    #[serde(default)]
    expect: Vec<u16>,
    /// How long the whole exchange may take.
    #[serde(default = "thirty_seconds")]
    timeout: Duration,
    /// How the body of the answer is read.
    #[serde(default)]
    answer: Answer,
    /// The largest answer that is read, unpacked, in bytes.
    #[serde(default = "default_max_body")]
    max_body: u64,
    /// How many redirects to the same origin a read follows.
    #[serde(default)]
    redirects: u32,
    /// Whether a write whose answer was lost may be sent again: `never`, `always`, or for how long, e.g. `24h`, where the
    /// server knows the effect's key from `idempotency_header`. By default `always` for PUT and DELETE, which HTTP
    /// defines so, and `never` for the others.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    repeat: Option<RepeatRule>,
    /// The header that carries the effect's key, the same on every attempt; sent where it is given or `repeat` is a time.
    #[serde(default)]
    idempotency_header: Option<String>,
    /// How to ask the server whether a write happened.
    #[serde(default)]
    reconcile: Option<Reconcile>,
}

/// How to ask the server whether a write happened.
///
/// The expressions see `input` (the request's `url`, `query` and body, as they were sent), `effect` (`id`, `key`, `started_at`), the answer's
/// `body`, and each of its items as `item`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Reconcile {
    /// Where to ask, by GET, e.g. `"https://api.example.com/orders?reference={{ effect.key }}"`. A 404 says that it did
    /// not happen.
    url: String,
    /// Headers of the question; by default those of the request.
    #[serde(default)]
    headers: Option<IndexMap<String, Value>>,
    /// The list in the answer, e.g. `"{{ body.orders }}"`; by default the body, which may be one object.
    #[serde(default, rename = "items")]
    _items: Option<String>,
    /// Whether an item is what the write made, e.g. `"{{ item.reference == effect.key }}"`.
    #[serde(rename = "found")]
    _found: String,
    /// The server's own id of an item, by which it settles one effect only; by default `item.id`.
    #[serde(default, rename = "id")]
    _id: Option<String>,
    /// The step's output where it happened; by default `{ status: 200, headers: {}, body: item }`.
    #[serde(default, rename = "output")]
    _output: Option<String>,
    /// How long the server may take to show what was written, e.g. `10s`.
    #[serde(default)]
    settle: Duration,
}

/// What a request does to the world.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Declared {
    Read,
    Create,
    Update,
    Upsert,
    Delete,
    Message,
    Spend,
}

/// `never`, `always`, or a duration.
#[derive(Clone, Copy, Debug)]
struct RepeatRule(Repeat);

impl<'de> Deserialize<'de> for RepeatRule {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "never" => Ok(Self(Repeat::Never)),
            "always" => Ok(Self(Repeat::Always)),
            length => match length.parse() {
                Ok(length) => Ok(Self(Repeat::Within(length))),
                Err(_) => {
                    let message = format!("expected `never`, `always` or a duration such as `24h`, found `{text}`");
                    Err(serde::de::Error::custom(message))
                }
            },
        }
    }
}

/// An answer.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Answered {
    status: u16,
    /// By name in lower case; a repeated one holds its values with commas between.
    headers: IndexMap<String, String>,
    /// As `answer` says; null where it is empty.
    body: Value,
}

const DEFAULT_KEY_HEADER: &str = "Idempotency-Key";

fn get() -> String {
    "GET".to_owned()
}

fn thirty_seconds() -> Duration {
    Duration::from_secs(30)
}

fn default_max_body() -> u64 {
    16 * 1024 * 1024
}

fn is_read(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS"].iter().any(|read| read.eq_ignore_ascii_case(method))
}

#[async_trait]
impl NodeType for HttpRequest {
    const NAME: &'static str = "http.request";
    const EXAMPLE: &'static str = "method: POST
url: http://localhost:8080/orders
headers: { Accept: application/json }
json: { symbol: ACME, quantity: 3 }
repeat: 24h
";
    const LITERALS: &'static [&'static str] = &["method", "effect"];
    const EXPRESSIONS: &'static [ExpressionKey] = &[
        ExpressionKey { key: "reconcile.url", roots: &["input", "effect"] },
        ExpressionKey { key: "reconcile.items", roots: &["body", "input", "effect"] },
        ExpressionKey { key: "reconcile.found", roots: &["item", "body", "input", "effect"] },
        ExpressionKey { key: "reconcile.id", roots: &["item", "body", "input", "effect"] },
        ExpressionKey { key: "reconcile.output", roots: &["item", "body", "input", "effect"] },
    ];
    type Output = Answered;

    fn effect(with: &Value) -> Effect {
        let word = |key: &str| with.get(key).and_then(Value::as_str);
        match word("effect") {
            Some("read") => return Effect::Read,
            Some(kind) => return Effect::Write(WriteKind::by_name(kind).unwrap_or(WriteKind::Create)),
            None => {}
        }
        let method = word("method").unwrap_or(if with.get("method").is_some() { "POST" } else { "GET" });
        if is_read(method) {
            return Effect::Read;
        }
        Effect::Write(match method.to_ascii_uppercase().as_str() {
            "PUT" => WriteKind::Upsert,
            "PATCH" => WriteKind::Update,
            "DELETE" => WriteKind::Delete,
            _ => WriteKind::Create,
        })
    }

    fn check(with: &Value) -> Vec<(Option<String>, String)> {
        let mut faults = Vec::new();
        let bodies: Vec<_> = ["json", "form", "text"].into_iter().filter(|key| with.get(key).is_some()).collect();
        if let [_, second, ..] = bodies.as_slice() {
            faults.push((Some((*second).to_owned()), "give one body: `json`, `form` or `text`".to_owned()));
        }
        if !Self::effect(with).is_write() {
            for key in ["repeat", "reconcile", "idempotency_header"] {
                if with.get(key).is_some() {
                    faults.push((Some(key.to_owned()), format!("`{key}` is for writes, and this request reads")));
                }
            }
        }
        faults
    }

    fn settlement(&self) -> Settlement {
        Settlement {
            repeat: self.repeat(),
            reconcile: self.reconcile.is_some(),
            settle: self.reconcile.as_ref().map_or(Duration::ZERO, |reconcile| reconcile.settle),
            timeout: self.timeout,
        }
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let write = ctx.declared.is_write();
        let now = ctx.system.clock.now();
        let request = self.request(ctx)?;
        let asked = format!("{} {}", request.method, host(&request.url));
        let answer = match self.exchange(ctx, request).await {
            Ok(answer) => answer.map_err(|error| http_answer::failure(error, write))?,
            Err(Stop::Later { until, reason }) => return Ok(Outcome::Later { until, reason }),
            Err(Stop::Failed(failure)) => return Err(failure.into_node_error()),
        };
        if !self.expects(answer.status) {
            return Err(http_answer::refusal(&answer, &asked, write, now));
        }
        let body = http_answer::body(&answer, self.answer).map_err(|message| {
            let error = NodeError::invalid(format!("{asked}: {message}"));
            if write { error.perhaps() } else { error }
        })?;
        let output = output(&answer, body.clone());
        let asked_later = self.reconcile.is_some() && write;
        match self.remote_id(ctx, &body, &body).filter(|_| asked_later) {
            Some(remote_id) => Ok(Outcome::Created { output, remote_id }),
            None => Ok(Outcome::Done(output)),
        }
    }

    async fn reconcile(self, ctx: &StepContext<'_>) -> Result<Reconciled, NodeError> {
        let Some(reconcile) = &self.reconcile else {
            return Err(NodeError::message(ErrorClass::Bug, "there is no `reconcile`"));
        };
        let url = if ctx.has_expression("reconcile.url") {
            self.ask(ctx, "reconcile.url", &[])?.to_text()
        } else {
            reconcile.url.clone()
        };
        let request = Request {
            headers: texts(reconcile.headers.as_ref().unwrap_or(&self.headers)),
            timeout: self.timeout,
            max_body: self.max_body,
            ..Request::new("GET", &url)
        };
        let asked = format!("GET {}", host(&url));
        let answer = match self.exchange(ctx, request).await {
            Ok(answer) => answer.map_err(|error| http_answer::failure(error, false))?,
            Err(Stop::Later { until, reason }) => {
                let retry_after = Some(until.since(ctx.system.clock.now()));
                return Err(NodeError { retry_after, ..NodeError::message(ErrorClass::Throttled, reason) });
            }
            Err(Stop::Failed(failure)) => return Err(failure.into_node_error()),
        };
        if answer.status == 404 {
            return Ok(Reconciled::NotFound);
        }
        if !(200..300).contains(&answer.status) {
            return Err(http_answer::refusal(&answer, &asked, false, ctx.system.clock.now()));
        }
        let body = http_answer::body(&answer, Answer::Json).map_err(|m| NodeError::invalid(format!("{asked}: {m}")))?;
        self.candidates(ctx, &body)
    }
}

impl HttpRequest {
    fn repeat(&self) -> Repeat {
        let idempotent = ["PUT", "DELETE"].iter().any(|method| method.eq_ignore_ascii_case(&self.method));
        self.repeat.map_or(if idempotent { Repeat::Always } else { Repeat::Never }, |rule| rule.0)
    }

    fn expects(&self, status: u16) -> bool {
        match self.expect.as_slice() {
            [] => (200..300).contains(&status),
            statuses => statuses.contains(&status),
        }
    }

    /// Sends a request on the runtime of the connectors: with the breaker and the pauses of its host, and recorded.
    async fn exchange(
        &self,
        ctx: &StepContext<'_>,
        request: Request,
    ) -> Result<Result<Response, TransportError>, Stop> {
        let mask = Mask::default();
        let asked = self.reconcile.as_ref().and_then(|reconcile| reconcile.headers.as_ref());
        let given = [Some(&self.headers), Some(&self.query), self.form.as_ref(), asked].into_iter().flatten();
        given.flat_map(IndexMap::values).chain(&self.json).for_each(|value| mask.learn_value(value));
        let runtime = ctx.services.get::<Runtime>();
        plain::exchange(runtime, &Means::of(ctx), request, |status| self.expects(status), &mask).await
    }

    fn request(&self, ctx: &StepContext<'_>) -> Result<Request, NodeError> {
        let url = with_query(&self.url, &texts(&self.query))
            .map_err(|error| NodeError::invalid(format!("`url` is not a URL: {error}")))?;
        let mut headers = texts(&self.headers);
        let (kind, body) = self.body()?;
        if let Some(kind) = kind.filter(|_| !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")))
        {
            headers.push(("Content-Type".to_owned(), kind.to_owned()));
        }
        let named = self.idempotency_header.as_deref();
        let named = named.or(matches!(self.repeat(), Repeat::Within(_)).then_some(DEFAULT_KEY_HEADER));
        if let (Some(name), Some(effect)) = (named, ctx.effect) {
            headers.push((name.to_owned(), effect.key.to_string()));
        }
        let left = ctx.deadline.map(|deadline| deadline.since(ctx.system.clock.now()));
        Ok(Request {
            method: self.method.to_ascii_uppercase(),
            url,
            headers,
            body,
            streamed: None,
            timeout: left.map_or(self.timeout, |left| left.min(self.timeout)),
            max_body: self.max_body,
            redirects: self.redirects,
            private: true,
            reads: !ctx.declared.is_write() && ctx.effect.is_none(),
            connection: None,
            heard: None,
        })
    }

    fn body(&self) -> Result<(Option<&'static str>, Vec<u8>), NodeError> {
        match (&self.json, &self.form, &self.text) {
            (None, None, None) => Ok((None, Vec::new())),
            (Some(json), None, None) => {
                let mut text = String::new();
                write_json(&json.revealed(), &mut text);
                Ok((Some("application/json"), text.into_bytes()))
            }
            (None, Some(pairs), None) => {
                Ok((Some("application/x-www-form-urlencoded"), form(&texts(pairs)).into_bytes()))
            }
            (None, None, Some(text)) => Ok((Some("text/plain; charset=utf-8"), text.clone().into_bytes())),
            _ => Err(NodeError::invalid("give one body: `json`, `form` or `text`")),
        }
    }

    /// Evaluates one of the expressions of `reconcile`.
    fn ask(
        &self,
        ctx: &StepContext<'_>,
        key: &'static str,
        locals: &[(&'static str, Value)],
    ) -> Result<Value, NodeError> {
        let body = match (&self.json, &self.form, &self.text) {
            (Some(json), ..) => as_sent(json),
            (_, Some(form), _) => Value::map(form.iter().map(|(key, value)| (key.as_str(), value.clone()))),
            (.., text) => text.as_deref().map_or(Value::Null, Value::from),
        };
        let query = Value::map(self.query.iter().map(|(key, value)| (key.as_str(), value.clone())));
        let input = Value::map([("url", Value::from(self.url.as_str())), ("query", query), ("body", body)]);
        let mut roots = vec![("input", input)];
        if let Some(effect) = ctx.effect {
            let effect = Value::map([
                ("id", Value::from(&*effect.id.0)),
                ("key", Value::from(&*effect.key)),
                ("started_at", Value::Time(effect.started_at)),
            ]);
            roots.push(("effect", effect));
        }
        roots.extend_from_slice(locals);
        ctx.eval(key, &roots).map_err(|error| NodeError::new(ErrorClass::Invalid, error).at(format!("`{key}`")))
    }

    fn candidates(&self, ctx: &StepContext<'_>, body: &Value) -> Result<Reconciled, NodeError> {
        let listed = if ctx.has_expression("reconcile.items") {
            self.ask(ctx, "reconcile.items", &[("body", body.clone())])?
        } else {
            body.clone()
        };
        let items = match &listed {
            Value::List(items) => items.to_vec(),
            Value::Null => Vec::new(),
            one => vec![one.clone()],
        };
        let mut candidates = Vec::new();
        for item in items {
            let locals = [("item", item.clone()), ("body", body.clone())];
            if !self.ask(ctx, "reconcile.found", &locals)?.is_truthy() {
                continue;
            }
            let output = if ctx.has_expression("reconcile.output") {
                self.ask(ctx, "reconcile.output", &locals)?
            } else {
                Value::map([("status", Value::from(200)), ("headers", Value::map::<&str>([])), ("body", item.clone())])
            };
            // An object without an id is known by all that it is.
            let remote_id = self.remote_id(ctx, &item, body).unwrap_or_else(|| key_text(&item));
            candidates.push(Candidate { remote_id, output });
        }
        Ok(if candidates.is_empty() { Reconciled::NotFound } else { Reconciled::Found(candidates) })
    }

    /// Returns the server's id of an object, where it has one.
    fn remote_id(&self, ctx: &StepContext<'_>, item: &Value, body: &Value) -> Option<String> {
        let id = if ctx.has_expression("reconcile.id") {
            self.ask(ctx, "reconcile.id", &[("item", item.clone()), ("body", body.clone())]).ok()?
        } else {
            item.get("id")?.clone()
        };
        Some(id.to_text()).filter(|id| !id.is_empty())
    }
}

/// Returns a body as whoever receives it reads it: a moment or money is a text there, and equal only to a text.
fn as_sent(value: &Value) -> Value {
    match value {
        Value::List(items) => Value::list(items.iter().map(as_sent).collect()),
        Value::Map(map) => Value::map(map.iter().map(|(key, value)| (&**key, as_sent(value)))),
        Value::Secret(inner) => as_sent(inner).tainted(),
        Value::Money(_) | Value::Time(_) | Value::Duration(_) => Value::from(value.to_text()),
        other => other.clone(),
    }
}

fn output(answer: &Response, body: Value) -> Value {
    Value::map([("status", Value::from(answer.status)), ("headers", http_answer::headers(answer)), ("body", body)])
}

fn texts(values: &IndexMap<String, Value>) -> Vec<(String, String)> {
    let given = values.iter().filter(|(_, value)| !value.is_null());
    given.map(|(name, value)| (name.clone(), value.to_text())).collect()
}

/// Returns what may be shown of a URL: paths and queries can hold credentials.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::model::parse_json;

    #[test]
    fn a_body_that_is_asked_for_is_what_the_other_side_has_read() {
        let slot = Value::Time(Timestamp(1_700_000_000_000_000));
        let money = Value::Money("1.50 USD".parse().unwrap());
        let body = Value::map([("slot", slot), ("all", Value::list(vec![money, Value::from(7)]))]);
        let mut sent = String::new();
        write_json(&body, &mut sent);
        assert_eq!(as_sent(&body), parse_json(&sent).unwrap());
        assert!(as_sent(&Value::from("x").tainted()).is_tainted());
    }
}
