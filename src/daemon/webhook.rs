//! Requests from outside that start runs: `POST /hooks/PATH`.
//!
//! A request is believed when its signature fits and its time stamp is of now. It starts one run: the delivery's id is in the
//! run's slot, so that one that comes again is answered with the run that there is. The run is durable before the answer.

mod verify;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header::ALLOW;
use axum::http::header::CONTENT_LENGTH;
use axum::http::header::CONTENT_TYPE;
use axum::http::header::RETRY_AFTER;
use axum::response::IntoResponse;
use axum::response::Response;
use http_body::Body as _;
use tokio::sync::Semaphore;
use tokio::sync::watch;

use self::verify::header;
use super::bell::Bell;
use super::metrics::Metrics;
use super::metrics::Outcome;
use super::scheduler::Active;
use crate::connector::body;
use crate::connector::body::form;
use crate::engine::Engine;
use crate::engine::Error;
use crate::model::Duration;
use crate::model::Map;
use crate::model::RunId;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::parse_json;
use crate::pipeline::Given;
use crate::pipeline::Pipeline;
use crate::pipeline::Preset;
use crate::pipeline::Trigger;
use crate::pipeline::TriggerKind;
use crate::pipeline::Webhook;
use crate::pipeline::check_inputs;
use crate::store::NewFiring;
use crate::store::NewRun;
use crate::store::ScheduleRow;

/// So many requests are read at the same time: it bounds the memory that senders can take.
const AT_ONCE: usize = 64;
/// So much of a body that is too large is read all the same.
const READ_AWAY: usize = 8 << 20;
/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// Who comes too early, and nobody knows for how much, may ask again after this.
const LATER: Duration = Duration::from_secs(5);
/// The longest id of a delivery that is kept as it is.
const LONGEST_ID: usize = 128;
/// How often a token is reached for while others reach for it.
const REACHES: usize = 32;

/// Headers that are for us and no run needs to see.
const PRIVATE: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Takes requests for the webhooks of the active pipelines.
#[derive(Debug)]
pub struct Hooks {
    engine: Engine,
    active: watch::Receiver<Active>,
    bell: Bell,
    metrics: Arc<Metrics>,
    /// Whether runs are taken.
    ready: Arc<AtomicBool>,
    room: Semaphore,
}

/// A webhook that is waited at.
struct Hook {
    pipeline: Arc<Pipeline>,
    place: usize,
}

/// A request that has arrived whole.
struct Arrived {
    headers: Vec<(String, String)>,
    query: String,
    body: Vec<u8>,
    at: Timestamp,
}

/// What a request says, once it is believed.
struct Said {
    body: Value,
    /// Whether its members are texts that stand for values of other types.
    is_form: bool,
    delivery: String,
}

/// What the sender is told when no run is made.
enum Refused {
    Status(StatusCode, &'static str),
    /// The pipeline's inputs cannot be made of it.
    Unfit(Vec<String>),
    /// The bucket has room again after this.
    Throttled(Duration),
    Unavailable(&'static str),
}

impl Hooks {
    #[must_use]
    pub fn new(
        engine: Engine,
        active: watch::Receiver<Active>,
        bell: Bell,
        metrics: Arc<Metrics>,
        ready: Arc<AtomicBool>,
    ) -> Self {
        Self { engine, active, bell, metrics, ready, room: Semaphore::new(AT_ONCE) }
    }

    /// Answers a request, whose path begins with `/hooks/`.
    pub async fn answer(&self, request: Request) -> Response {
        if !self.ready.load(Relaxed) {
            let response =
                json(StatusCode::SERVICE_UNAVAILABLE, &Value::map([("error", Value::from("no runs are taken now"))]));
            self.metrics.trigger("webhook", Outcome::Unavailable);
            return ([(RETRY_AFTER, seconds(LATER))], response).into_response();
        }
        let path = request.uri().path();
        let path = path.strip_prefix("/hooks/").unwrap_or(path).to_owned();
        let Some(hook) = self.find(&path) else { return plain(StatusCode::NOT_FOUND, "there is no such webhook") };
        match self.answered(&hook, request).await {
            Ok(response) => response,
            Err(refused) => self.refuse(&hook, refused),
        }
    }

    fn find(&self, path: &str) -> Option<Hook> {
        let active = self.active.borrow().clone();
        active.iter().find_map(|pipeline| {
            let waits = |trigger: &Trigger| match &trigger.kind {
                TriggerKind::Webhook(webhook) => trigger.enabled && *webhook.path == *path,
                _ => false,
            };
            let place = pipeline.triggers.iter().position(waits)?;
            Some(Hook { pipeline: pipeline.clone(), place })
        })
    }

    async fn answered(&self, hook: &Hook, request: Request) -> Result<Response, Refused> {
        let Some((trigger, webhook)) = hook.parts() else {
            return Err(Refused::Status(StatusCode::NOT_FOUND, "there is no such webhook"));
        };
        let meta = webhook.preset == Some(Preset::Meta);
        match *request.method() {
            Method::POST => {}
            Method::GET if meta => return self.registered(webhook, request.uri().query().unwrap_or_default()),
            _ => {
                let allowed = if meta { "GET, POST" } else { "POST" };
                let response = plain(StatusCode::METHOD_NOT_ALLOWED, "a webhook takes POST");
                return Ok(([(ALLOW, allowed)], response).into_response());
            }
        }
        let _room = self.room.try_acquire().map_err(|_| Refused::Unavailable("too many requests at once"))?;
        let arrived = self.arrived(webhook, request).await?;
        self.believed(webhook, &arrived)?;
        let mut said = said(webhook, &arrived)?;
        if said.delivery.is_empty() {
            said.delivery = format!("{:032x}", self.engine.parts().system.random.bits());
        }
        if let Some(answer) = greeting(webhook, &arrived, &said) {
            return Ok(answer);
        }
        self.started(&hook.pipeline, trigger, webhook, &arrived, &said).await
    }

    /// Answers Meta, which asks whether the address is ours before it sends anything there.
    fn registered(&self, webhook: &Webhook, query: &str) -> Result<Response, Refused> {
        let wrong = Refused::Status(StatusCode::UNAUTHORIZED, "the token does not fit");
        let Some(template) = &webhook.verify_token else { return Err(wrong) };
        let wanted = self.secret(template)?;
        let asked = form::decode(query).unwrap_or_default();
        let text = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default();
        let challenge = text("hub.challenge");
        let sound = challenge.len() <= 256
            && challenge.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if text("hub.mode") != "subscribe" || !verify::same(&wanted, text("hub.verify_token")) || !sound {
            return Err(wrong);
        }
        Ok(plain(StatusCode::OK, challenge))
    }

    /// Reads a request to its end, and no further than is allowed.
    async fn arrived(&self, webhook: &Webhook, request: Request) -> Result<Arrived, Refused> {
        let clock = &self.engine.parts().system.clock;
        let most = usize::try_from(webhook.max_body).unwrap_or(usize::MAX);
        let large = Refused::Status(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large");
        let (head, body) = request.into_parts();
        let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > READ_AWAY.max(most)) {
            return Err(large);
        }
        let slow = Refused::Status(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
        let body = tokio::select! {
            body = whole(body, most) => body.map_err(|too_large| match too_large {
                true => large,
                false => Refused::Status(StatusCode::BAD_REQUEST, "the body did not arrive whole"),
            })?,
            () = clock.sleep_until(clock.now().plus(PATIENCE)) => return Err(slow),
        };
        let query = head.uri.query().unwrap_or_default().to_owned();
        Ok(Arrived { headers: texts(&head.headers), query, body, at: clock.now() })
    }

    /// Checks who sends.
    fn believed(&self, webhook: &Webhook, arrived: &Arrived) -> Result<(), Refused> {
        if webhook.secrets.is_empty() {
            return Ok(());
        }
        let secrets = webhook.secrets.iter().map(|secret| self.secret(secret)).collect::<Result<Vec<_>, _>>()?;
        let time = (arrived.at, webhook.window);
        verify::verify(webhook.preset, &secrets, &arrived.headers, &arrived.body, time)
            .map_err(|refusal| Refused::Status(StatusCode::UNAUTHORIZED, refusal.message()))
    }

    /// Reads a secret when it is needed: so one that is set later needs no restart.
    fn secret(&self, template: &crate::template::Template) -> Result<String, Refused> {
        match self.engine.secret_text(template) {
            // Everybody could sign with it.
            Ok(text) if text.is_empty() => {
                tracing::error!("the secret of a webhook is empty");
                Err(Refused::Unavailable("the webhook is not set up"))
            }
            Ok(text) => Ok(text),
            Err(reason) => {
                tracing::error!(reason, "the secret of a webhook cannot be read");
                Err(Refused::Unavailable("the webhook is not set up"))
            }
        }
    }

    async fn started(
        &self,
        pipeline: &Pipeline,
        trigger: &Trigger,
        webhook: &Webhook,
        arrived: &Arrived,
        said: &Said,
    ) -> Result<Response, Refused> {
        let store = &self.engine.parts().store;
        let mark = format!("delivery:{}", said.delivery);
        let row = self.row(pipeline, trigger).await?;
        if row.disabled {
            return Err(Refused::Status(StatusCode::NOT_FOUND, "there is no such webhook"));
        }
        let before = store.run_of_firing(&pipeline.name, &trigger.id, &mark).await.map_err(|error| gone(&error))?;
        if let Some(run) = before {
            return Ok(self.repeated(run));
        }
        let slot = format!("{}@{mark}", trigger.id);
        let inputs = self.inputs(pipeline, trigger, webhook, arrived, said, &slot).map_err(Refused::Unfit)?;
        let run = self.engine.row(pipeline, inputs).map_err(|error| Refused::Unfit(vec![error.to_string()]))?;
        self.reach(pipeline, trigger, row, arrived.at).await?;
        let started_by = Some(format!("trigger {}", trigger.id).into());
        let run = NewRun { slot: Some(slot), started_by, ..run };
        let made = self.make(pipeline, trigger, &mark, run.clone(), arrived.at).await.map_err(|error| match error {
            Error::Store(error) => gone(&error),
            error => {
                tracing::error!(%error, "a webhook cannot fire");
                Refused::Unavailable("the run could not be made")
            }
        })?;
        if made != run.id {
            return Ok(self.repeated(made));
        }
        self.bell.ring();
        self.metrics.trigger("webhook", Outcome::Fired);
        let (name, id) = (&*pipeline.name, &*trigger.id);
        tracing::info!(run = %run.id, pipeline = name, trigger = id, delivery = said.delivery, "a webhook fires");
        Ok(json(StatusCode::ACCEPTED, &Value::map([("run", Value::from(run.id.to_string()))])))
    }

    async fn row(&self, pipeline: &Pipeline, trigger: &Trigger) -> Result<ScheduleRow, Refused> {
        let store = &self.engine.parts().store;
        let found = async {
            if let Some(row) = store.trigger(&pipeline.name, &trigger.id).await? {
                return Ok(Some(row));
            }
            let new = [(pipeline.name.to_string(), trigger.id.to_string())];
            store.meet_schedules(&new, self.engine.parts().system.clock.now()).await?;
            store.trigger(&pipeline.name, &trigger.id).await
        };
        found.await.map_err(|error| gone(&error))?.ok_or(Refused::Unavailable("the trigger went away"))
    }

    /// Takes a token of the trigger's bucket, or says when there is one.
    async fn reach(
        &self,
        pipeline: &Pipeline,
        trigger: &Trigger,
        mut row: ScheduleRow,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let Some(bucket) = trigger.bucket else { return Ok(()) };
        let store = &self.engine.parts().store;
        for _ in 0..REACHES {
            let token = bucket.take(row.full_at, now);
            if token.at > now {
                return Err(Refused::Throttled(token.at.since(now)));
            }
            let taken = store.take_tokens(&pipeline.name, &trigger.id, row.full_at, token.full_at).await;
            if taken.map_err(|error| gone(&error))? {
                return Ok(());
            }
            row = self.row(pipeline, trigger).await?;
        }
        Err(Refused::Throttled(LATER))
    }

    fn inputs(
        &self,
        pipeline: &Pipeline,
        trigger: &Trigger,
        webhook: &Webhook,
        arrived: &Arrived,
        said: &Said,
        slot: &str,
    ) -> Result<Value, Vec<String>> {
        // Who sends may send what is a secret here.
        let body = self.engine.parts().secrets.scan(said.body.clone());
        if webhook.takes_members {
            let given = members(pipeline, &body, said.is_form);
            let short = |reason: String| reason.split("; give it with").next().unwrap_or_default().to_owned();
            return check_inputs(pipeline, &given)
                .map_err(|reasons| self.engine.masked(reasons.into_iter().map(short).collect()));
        }
        let shown = |name: &str| !PRIVATE.contains(&name) && !verify::SIGNATURES.contains(&name);
        let mut headers = Map::new();
        for (name, value) in arrived.headers.iter().filter(|(name, _)| shown(name)) {
            let before = headers.get(name.as_str()).map(|before| format!("{}, {value}", before.to_text()));
            headers.insert(name.as_str().into(), Value::from(before.unwrap_or_else(|| value.clone())));
        }
        let event = [
            ("body", body),
            ("headers", Value::from(headers)),
            ("query", form::decode(&arrived.query).unwrap_or_default()),
            ("path", Value::from(format!("/hooks/{}", webhook.path))),
            ("delivery", Value::from(said.delivery.as_str())),
            ("received", Value::Time(arrived.at)),
        ];
        self.engine.inputs_of_event(pipeline, trigger, event, Value::from(slot))
    }

    /// Makes the run, unless another request of the same delivery was faster. Returns the one that there is.
    async fn make(
        &self,
        pipeline: &Pipeline,
        trigger: &Trigger,
        mark: &str,
        run: NewRun,
        now: Timestamp,
    ) -> Result<RunId, Error> {
        self.engine.keep_version(pipeline).await?;
        let (id, requests, store) = (run.id, run.requests.clone(), &self.engine.parts().store);
        let (trigger, own) = (trigger.id.to_string(), trigger.id.clone());
        let firing = NewFiring { trigger, mark: mark.to_owned(), run, not_before: None, file: None };
        store.fire_events(&[firing], now).await?;
        // The run is durable: whatever happens now, the sender need not send again.
        if let Err(error) = self.engine.admit(&requests).await {
            tracing::error!(run = %id, %error, "a run could not be admitted to its group; the worker does it later");
        }
        Ok(store.run_of_firing(&pipeline.name, &own, mark).await?.unwrap_or(id))
    }

    fn repeated(&self, run: RunId) -> Response {
        self.metrics.trigger("webhook", Outcome::Repeated);
        let answer = [("run", Value::from(run.to_string())), ("repeated", Value::Bool(true))];
        json(StatusCode::OK, &Value::map(answer))
    }

    fn refuse(&self, hook: &Hook, refused: Refused) -> Response {
        let (status, message, outcome) = match &refused {
            Refused::Status(status, message) => {
                let outcome = match *status {
                    StatusCode::UNAUTHORIZED => Some(Outcome::Unsigned),
                    StatusCode::NOT_FOUND => None,
                    _ => Some(Outcome::Unreadable),
                };
                (*status, *message, outcome)
            }
            Refused::Unfit(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "the inputs of the pipeline cannot be made of it",
                Some(Outcome::Unfit),
            ),
            Refused::Throttled(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "the webhook has fired as often as it may", Some(Outcome::Throttled))
            }
            Refused::Unavailable(message) => (StatusCode::SERVICE_UNAVAILABLE, *message, Some(Outcome::Unavailable)),
        };
        if let Some(outcome) = outcome {
            self.metrics.trigger("webhook", outcome);
            let trigger = hook.parts().map_or("", |(trigger, _)| &*trigger.id);
            tracing::warn!(
                pipeline = &*hook.pipeline.name,
                trigger,
                status = status.as_u16(),
                message,
                "a webhook is refused"
            );
        }
        let mut answer = vec![("error", Value::from(message))];
        let later = match refused {
            Refused::Unfit(reasons) => {
                answer.push(("reasons", Value::list(reasons.into_iter().map(Value::from).collect())));
                None
            }
            Refused::Throttled(after) => Some(after),
            Refused::Unavailable(_) => Some(LATER),
            Refused::Status(..) => None,
        };
        let response = json(status, &Value::map(answer));
        match later {
            Some(after) => ([(RETRY_AFTER, seconds(after))], response).into_response(),
            None => response,
        }
    }
}

impl Hook {
    fn parts(&self) -> Option<(&Trigger, &Webhook)> {
        let trigger = self.pipeline.triggers.get(self.place)?;
        match &trigger.kind {
            TriggerKind::Webhook(webhook) => Some((trigger, webhook)),
            _ => None,
        }
    }
}

/// Says that the store does not answer; its own words may name paths and hosts, and are in the log.
fn gone(error: &crate::store::Error) -> Refused {
    tracing::error!(%error, "the store does not answer");
    Refused::Unavailable("the store does not answer")
}

/// Reads a body to its end; the error tells whether it was too large. What is too large is read on for a while and not
/// kept: a sender that is cut off in the middle never sees the answer.
async fn whole(mut body: Body, most: usize) -> Result<Vec<u8>, bool> {
    let (mut bytes, mut length) = (Vec::new(), 0_usize);
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|_| false)?.into_data() else { continue };
        length = length.saturating_add(data.len());
        match length {
            length if length > READ_AWAY.max(most) => return Err(true),
            length if length > most => bytes = Vec::new(),
            _ => bytes.extend_from_slice(&data),
        }
    }
    if length > most { Err(true) } else { Ok(bytes) }
}

fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// Reads what a body says: JSON, a form, XML, CSV or text.
fn said(webhook: &Webhook, arrived: &Arrived) -> Result<Said, Refused> {
    let media = header(&arrived.headers, "content-type");
    let kind = body::answer_kind(media, &arrived.body);
    if matches!(kind, body::Kind::Bytes | body::Kind::Sse) {
        let message = "the body is neither JSON nor a form, XML, CSV or text";
        return Err(Refused::Status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let mut value = body::read(kind, media, &arrived.body)
        .map_err(|reason| Refused::Unfit(vec![format!("the body cannot be read: {reason}")]))?;
    let mut is_form = kind == body::Kind::Form;
    // GitHub and Slack put JSON into a field of a form.
    let inner = value.get("payload").and_then(Value::as_str).filter(|_| is_form && webhook.preset.is_some());
    if let Some(Ok(payload)) = inner.map(parse_json) {
        (value, is_form) = (payload, false);
    }
    let delivery = delivery(webhook, arrived, &value);
    Ok(Said { body: value, is_form, delivery })
}

/// Names a delivery by what its sender names it, else by what it holds; empty where every request is another.
fn delivery(webhook: &Webhook, arrived: &Arrived, body: &Value) -> String {
    let header = |name: &str| header(&arrived.headers, name).map(str::to_owned);
    let member = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let id = match webhook.preset {
        Some(Preset::Github) => header("x-github-delivery"),
        Some(Preset::Stripe) => member("id"),
        Some(Preset::Slack) => member("event_id"),
        Some(Preset::Meta) => None,
        None => header("webhook-id"),
    };
    let id = id.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
    let plain = |id: &String| id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic());
    match id {
        Some(id) if plain(&id) => id,
        Some(id) => digest(&[id.as_bytes()]),
        None if webhook.secrets.is_empty() => String::new(),
        // A signed body that comes again is the same delivery; Slack signs the time, too.
        None => {
            let stamp = header("x-slack-request-timestamp").filter(|_| webhook.preset == Some(Preset::Slack));
            digest(&[stamp.unwrap_or_default().as_bytes(), &arrived.body])
        }
    }
}

fn digest(parts: &[&[u8]]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Answers what a sender asks to see whether somebody is there; it starts no run.
fn greeting(webhook: &Webhook, arrived: &Arrived, said: &Said) -> Option<Response> {
    match webhook.preset? {
        Preset::Github if header(&arrived.headers, "x-github-event") == Some("ping") => {
            Some(json(StatusCode::OK, &Value::map([("pong", Value::Bool(true))])))
        }
        Preset::Slack if said.body.get("type").and_then(Value::as_str) == Some("url_verification") => {
            Some(plain(StatusCode::OK, said.body.get("challenge")?.as_str()?))
        }
        _ => None,
    }
}

/// Takes the members of a body that are named like inputs.
fn members(pipeline: &Pipeline, body: &Value, is_form: bool) -> Vec<(String, Given)> {
    let Some(map) = body.as_map() else { return Vec::new() };
    let member = |name: &Arc<str>| {
        let given = match map.get(name)? {
            Value::String(text) if is_form => Given::Text(text.to_string()),
            value => Given::Value(value.clone()),
        };
        Some((name.to_string(), given))
    };
    pipeline.inputs.iter().filter_map(|input| member(&input.name)).collect()
}

/// Writes a length of time as `Retry-After` has it.
fn seconds(length: Duration) -> String {
    length.micros().div_ceil(1_000_000).max(1).to_string()
}

fn plain(status: StatusCode, text: &str) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], text.to_owned()).into_response()
}

fn json(status: StatusCode, value: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}
