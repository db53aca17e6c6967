//! The contract suite: a manifest is held against its own examples.
//!
//! Every example is replayed; every error rule must be shown by one, every paging must turn a page and end, every write
//! that can be asked for must be found again after a lost answer; one that may be repeated must be the same request again,
//! and budgets must hold requests back. What an expression reads of an answer must stand in an answer of some example, or
//! it may be misspelled.

mod budgets;
mod shown;
mod twice;

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::body;
use super::call::Means;
use super::call::Stop;
use super::connection;
use super::connection::Connection;
use super::inline;
use super::manifest::Act;
use super::manifest::Example;
use super::manifest::ExchangeSpec;
use super::manifest::Manifest;
use super::manifest::Operation;
use super::manifest::Reconcile;
use super::manifest::Rule;
use super::operation::OperationNode;
use super::runtime::Connections;
use super::runtime::Link;
use super::runtime::Runtime;
use super::runtime::completed_config;
use super::runtime::with_nulls;
use crate::http::Request;
use crate::http::Response;
use crate::http::Transport;
use crate::http::TransportError;
use crate::model::Blob;
use crate::model::Duration;
use crate::model::EffectId;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::parse_json;
use crate::node::EffectContext;
use crate::node::Keep;
use crate::node::LogLevel;
use crate::node::LogSink;
use crate::node::NodeError;
use crate::system::System;

/// Which rules were applied, by the places where they stand.
pub type Fired = Arc<Mutex<BTreeSet<(u32, u32)>>>;

/// What the suite found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many examples were replayed.
    pub examples: usize,
    /// How many requests they made.
    pub requests: usize,
    pub findings: Vec<Finding>,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The line of the manifest.
    pub line: u32,
    pub message: String,
}

/// Holds a manifest against its examples.
pub async fn check(manifest: &Arc<Manifest>, system: &System) -> Report {
    let mut report = Report::default();
    let fired: Fired = Arc::default();
    let mut shown = shown::Shown::default();
    for operation in manifest.operations.values() {
        for example in &operation.examples {
            report.examples += 1;
            let replay = Replay::new(example);
            let found = replayed(manifest, operation, example, &replay, system, &fired).await;
            report.requests += replay.asked();
            shown.learn(operation, example);
            if let Err(message) = found {
                report.finding(example.line, format!("`{}`: {message}", operation.name));
            }
        }
    }
    for operation in manifest.operations.values() {
        shape(operation, &mut report);
        shown::unshown(operation, &shown, &mut report);
        if let Some(example) = operation.examples.iter().find(|example| twice::may_be_repeated(operation, example))
            && let Err(message) = twice::check(manifest, operation, example).await
        {
            report.finding(example.line, format!("`{}`: {message}", operation.name));
        }
    }
    budgets::check(manifest, &mut report).await;
    let fired = fired.lock().unwrap_or_else(PoisonError::into_inner);
    let of_rows = manifest.operations.values().filter_map(|operation| operation.batch.as_ref());
    let rules = manifest.operations.values().flat_map(|operation| &operation.errors).chain(&manifest.errors);
    let rules = rules.chain(of_rows.flat_map(|batch| &batch.errors));
    for rule in rules.filter(|rule| !fired.contains(&(rule.line, rule.column))) {
        report.finding(rule.line, "no example shows an answer to which this rule applies".to_owned());
    }
    report.findings.sort_by_key(|finding| finding.line);
    report
}

impl Report {
    fn finding(&mut self, line: u32, message: String) {
        self.findings.push(Finding { line, message });
    }
}

/// Looks at what the examples of an operation must show.
fn shape(operation: &Operation, report: &mut Report) {
    let line = operation.span.start.line;
    let asked = matches!(operation.act, Act::Request(_));
    if operation.examples.is_empty() && !operation.hidden && asked {
        report.finding(line, format!("`{}` has no example", operation.name));
        return;
    }
    let most = operation.examples.iter().map(|example| example.exchanges.len()).max().unwrap_or(0);
    if operation.paging.is_some() && most < 2 && !operation.hidden {
        report.finding(line, format!("no example of `{}` turns a page", operation.name));
    }
    let lost = operation.examples.iter().flat_map(|example| &example.exchanges).any(ExchangeSpec::is_lost);
    let asks = matches!(operation.reconcile, Reconcile::Ask(_));
    if asks && !lost && !operation.hidden {
        report.finding(line, format!("no example of `{}` loses its answer and finds it again", operation.name));
    }
}

/// One time that an operation is asked.
#[derive(Clone, Copy, Debug)]
struct Trial<'a> {
    system: &'a System,
    attempt: u32,
    /// When its effect was first intended.
    started_at: Timestamp,
    /// Whether an earlier sending is in doubt.
    doubted: bool,
}

/// Replays one example; an error says what came instead.
async fn replayed(
    manifest: &Arc<Manifest>,
    operation: &Arc<Operation>,
    example: &Example,
    replay: &Replay,
    system: &System,
    fired: &Fired,
) -> Result<(), String> {
    let link = link_of(manifest, example).await?.watched(fired.clone());
    let trial = Trial { system, attempt: 1, started_at: system.clock.now(), doubted: example.is_doubted() };
    let result = asked(&link, operation, example, replay, trial).await;
    let left = replay.left();
    match (result, &example.output, &example.error) {
        (Ok(output), Some(expected), _) => {
            let output = output.revealed();
            if !same(expected, &output) {
                return Err(format!("the output is {output}, expected {expected}"));
            }
        }
        (Err(Stop::Failed(failure)), None, Some(class)) => {
            if failure.class.name() != &**class && failure.outcome.word() != &**class {
                return Err(format!(
                    "it fails with `{}`, expected `{class}`: {}",
                    failure.class.name(),
                    failure.message
                ));
            }
        }
        (Ok(output), None, _) => return Err(format!("it gives {}, and should fail", output.revealed())),
        (Err(Stop::Failed(failure)), _, _) => return Err(replay.complaint().unwrap_or(failure.message)),
        (Err(Stop::Later { reason, .. }), ..) => return Err(reason),
    }
    if let Some(complaint) = replay.complaint() {
        return Err(complaint);
    }
    if left > 0 { Err(format!("{left} of the exchanges did not take place")) } else { Ok(()) }
}

/// Connects a manifest as an example says.
async fn link_of(manifest: &Arc<Manifest>, example: &Example) -> Result<Link, String> {
    let connection = connection_of(manifest, example)?;
    let runtime = Runtime::new(Arc::new(One(connection)));
    let link = runtime.link(manifest, "example").map_err(|failure| failure.message)?;
    if !example.account.is_null() {
        // Who we are is asked by an operation with an example of its own.
        let _ = link.state.account.set(example.account.clone());
    }
    if !example.session.is_null() {
        link.state.session.put(example.session.clone()).await;
    }
    Ok(link)
}

/// Asks an operation as a step does.
async fn asked(
    link: &Link,
    operation: &Arc<Operation>,
    example: &Example,
    replay: &Replay,
    trial: Trial<'_>,
) -> Result<Value, Stop> {
    let canceled = CancellationToken::new();
    let effect = EffectContext {
        id: EffectId("example/step".into()),
        key: "example-key".into(),
        started_at: trial.started_at,
        send_within: None,
        doubted: trial.doubted,
    };
    let means = Means {
        system: trial.system,
        http: replay,
        log: &Quiet,
        keep: replay,
        canceled: &canceled,
        deadline: None,
        attempt: trial.attempt,
        effect: is_write(operation).then_some(&effect),
        step: None,
        begun: None,
    };
    let input = replay.with_files(&example.input);
    match &operation.act {
        Act::Steps { .. } => inline::run_whole(link, &means, operation, &input).await,
        _ => {
            let node = OperationNode::new(link.manifest.clone(), operation.clone());
            node.call_whole(link, &means, &input).await
        }
    }
}

fn is_write(operation: &Operation) -> bool {
    operation.effect.is_some_and(crate::model::Effect::is_write)
}

/// Makes the connection of an example: what it says, and stand-ins for all other secrets.
fn connection_of(manifest: &Manifest, example: &Example) -> Result<Connection, String> {
    let config = completed_config(manifest, example.config.clone())?;
    let given = example.auth.as_map().cloned().unwrap_or_default();
    let mut auth = given;
    let first = manifest.auth.first().map(|kind| kind.name.clone());
    for key in connection::auth_names(manifest) {
        // With them a refused token would be renewed, which no example shows.
        if !["refresh_token", "private_key", "flow", "scopes"].contains(&&*key) {
            auth.entry(key.clone()).or_insert_with(|| Value::from(format!("example-{key}")));
        }
    }
    // What would have to be fetched or signed is there already.
    auth.entry("access_token".into()).or_insert_with(|| Value::from("example-access_token"));
    Ok(Connection {
        name: "example".into(),
        connector: manifest.name.clone(),
        config,
        kind: example.auth.get("kind").map(|kind| kind.to_text().into()).or(first).unwrap_or_else(|| "none".into()),
        auth: with_nulls(&Value::from(auth), manifest.auth_keys.iter()).tainted(),
        private: true,
    })
}

/// Compares what is expected with what came: numbers by value, everything else as it is written.
fn same(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Map(expected), Value::Map(found)) => {
            expected.len() == found.len()
                && expected.iter().all(|(key, value)| found.get(key).is_some_and(|found| same(value, found)))
        }
        (Value::List(expected), Value::List(found)) => {
            expected.len() == found.len() && expected.iter().zip(found.iter()).all(|(one, other)| same(one, other))
        }
        (Value::String(text), Value::Time(_) | Value::Money(_) | Value::Duration(_) | Value::Blob(_)) => {
            **text == *found.to_text() || found.to_string().trim_matches('"') == &**text
        }
        _ => expected == found,
    }
}

#[derive(Debug)]
struct One(Connection);

impl Connections for One {
    fn get(&self, _: &str, _: &Manifest) -> Result<Connection, String> {
        Ok(self.0.clone())
    }
}

#[derive(Debug)]
struct Quiet;

impl LogSink for Quiet {
    fn log(&self, _: LogLevel, _: &str) {}
}

/// Answers as an example says, and complains where the request is another.
#[derive(Debug)]
struct Replay {
    left: Mutex<VecDeque<(Value, Value)>>,
    /// Where the stream of an incremental read stands.
    stream: Option<Value>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sent: Vec<Request>,
    complaint: Option<String>,
    files: Vec<Vec<u8>>,
}

impl Replay {
    fn new(example: &Example) -> Self {
        let exchanges = example.exchanges.iter().map(|it| (it.expect.clone(), it.reply.clone()));
        let stream = example.state.as_map().filter(|map| !map.contains_key("doubted")).map(|_| example.state.clone());
        Self { left: Mutex::new(exchanges.collect()), stream, state: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> usize {
        self.lock().sent.len()
    }

    /// Takes out what was sent.
    fn sent(&self) -> Vec<Request> {
        std::mem::take(&mut self.lock().sent)
    }

    fn left(&self) -> usize {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn complaint(&self) -> Option<String> {
        self.lock().complaint.clone()
    }

    /// Makes files of `{ file: { text, name, media_type } }` in an input.
    fn with_files(&self, value: &Value) -> Value {
        match value {
            // `{ file: { file: … } }` is an object that holds one.
            Value::Map(map) if map.len() == 1 && map.get("file").is_some_and(|file| file.get("text").is_some()) => {
                let file = map.get("file").cloned().unwrap_or_default();
                let text = |key: &str| file.get(key).and_then(Value::as_str).map(str::to_owned);
                let bytes = text("text").unwrap_or_default().into_bytes();
                let mut state = self.lock();
                let blob = Blob {
                    address: format!("sha256:{:064}", state.files.len()),
                    size: u64::try_from(bytes.len()).unwrap_or(0),
                    offset: None,
                    media_type: text("media_type"),
                    file_name: text("name"),
                };
                state.files.push(bytes);
                Value::Blob(Arc::new(blob))
            }
            Value::Map(map) => Value::map(map.iter().map(|(key, value)| (key.clone(), self.with_files(value)))),
            Value::List(items) => Value::list(items.iter().map(|item| self.with_files(item)).collect()),
            other => other.clone(),
        }
    }
}

#[async_trait]
impl Transport for Replay {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let next = self.left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let mut state = self.lock();
        state.sent.push(request.clone());
        let Some((expect, reply)) = next else {
            let told = format!("{} {} was not expected", request.method, request.url);
            state.complaint.get_or_insert(told);
            return Err(refused("no further answer"));
        };
        if let Some(complaint) = differs(&expect, &request) {
            state.complaint.get_or_insert(complaint);
            return Err(refused("not the request that was expected"));
        }
        if reply.get("lost").is_some_and(Value::is_truthy) {
            return Err(TransportError::Timeout { host: "example".to_owned(), after: Duration::from_secs(1) });
        }
        Ok(response(&reply))
    }
}

#[async_trait]
impl Keep for Replay {
    async fn read_blob(&self, blob: &Blob) -> Result<Vec<u8>, NodeError> {
        let number = blob.address.strip_prefix("sha256:").and_then(|digits| digits.parse::<usize>().ok());
        let files = &self.lock().files;
        let whole = number.and_then(|number| files.get(number)).cloned().unwrap_or_default();
        let start = usize::try_from(blob.offset.unwrap_or(0)).unwrap_or(usize::MAX).min(whole.len());
        let end = start.saturating_add(usize::try_from(blob.size).unwrap_or(usize::MAX)).min(whole.len());
        Ok(whole.get(start..end).unwrap_or_default().to_vec())
    }

    async fn put_blob(&self, bytes: Vec<u8>, media_type: Option<&str>, name: Option<&str>) -> Result<Blob, NodeError> {
        let mut state = self.lock();
        let size = u64::try_from(bytes.len()).unwrap_or(0);
        let address = format!("sha256:{:064}", state.files.len());
        state.files.push(bytes);
        Ok(Blob {
            address,
            size,
            offset: None,
            media_type: media_type.map(str::to_owned),
            file_name: name.map(str::to_owned),
        })
    }

    async fn stream(&self, _: &str) -> Result<Option<Value>, NodeError> {
        Ok(self.stream.clone())
    }
}

fn refused(reason: &str) -> TransportError {
    TransportError::NotSent { host: "example".to_owned(), reason: reason.to_owned() }
}

/// Says how a request is not the one that is expected; what the example does not name may be anything.
#[must_use]
pub fn differs(expect: &Value, request: &Request) -> Option<String> {
    let expected = expect.as_map()?;
    let methods = ["get", "head", "post", "put", "patch", "delete", "options"];
    let (method, path) = expected.iter().find(|(key, _)| methods.contains(&&***key))?;
    if !method.eq_ignore_ascii_case(&request.method) {
        return Some(format!("the method is {}, expected {}", request.method, method.to_uppercase()));
    }
    let (url, query) = request.url.split_once('?').unwrap_or((&request.url, ""));
    let path = path.to_text();
    let (path, path_query) = path.split_once('?').unwrap_or((&path, ""));
    let whole = path.contains("://");
    let fits = if whole { url == path } else { url.ends_with(path) && is_path(url, path) };
    if !fits || (!path_query.is_empty() && path_query != query) {
        return Some(format!("the URL is {}, expected {path}", request.url));
    }
    if let Some(wanted) = expected.get("query").and_then(Value::as_map) {
        let found = body::form::parse(query).unwrap_or_default();
        for (key, value) in wanted {
            let given = found.iter().find(|(name, _)| **name == **key).map(|(_, value)| value.as_str());
            let wanted = value.to_text();
            if value.is_null() != given.is_none() || given.is_some_and(|given| given != wanted) {
                return Some(format!("query `{key}` is {}, expected `{wanted}`", quoted(given)));
            }
        }
    }
    if let Some(wanted) = expected.get("headers").and_then(Value::as_map) {
        for (key, value) in wanted {
            let given =
                request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, it)| it.as_str());
            let wanted = value.to_text();
            if value.is_null() != given.is_none() || given.is_some_and(|given| given != wanted) {
                return Some(format!("header `{key}` is {}, expected `{wanted}`", quoted(given)));
            }
        }
    }
    let text = String::from_utf8_lossy(&request.body);
    if let Some(wanted) = expected.get("json") {
        let found = parse_json(&text).unwrap_or_default();
        if !same(wanted, &found) {
            return Some(format!("the body is {text}, expected {wanted}"));
        }
    }
    if let Some(wanted) = expected.get("form").and_then(Value::as_map) {
        let found: Vec<_> = body::form::parse(&text).unwrap_or_default();
        let wanted: Vec<_> = wanted.iter().map(|(key, value)| (key.to_string(), value.to_text())).collect();
        if found != wanted {
            return Some(format!("the form is {text}, expected {wanted:?}"));
        }
    }
    for key in ["text", "xml", "csv", "body"] {
        if let Some(wanted) = expected.get(key).map(Value::to_text).filter(|wanted| wanted.trim() != text.trim()) {
            return Some(format!("the body is {text}, expected {wanted}"));
        }
    }
    // Of a multipart body what must stand in it.
    for part in expected.get("multipart").and_then(Value::as_list).unwrap_or_default() {
        let part = part.to_text();
        if !text.contains(&part) {
            return Some(format!("the body is {text}, expected {part:?} in it"));
        }
    }
    None
}

/// Tells whether a URL ends with a path, and not in the middle of a segment.
fn is_path(url: &str, path: &str) -> bool {
    path.starts_with('/')
        || url.len() == path.len()
        || url.get(..url.len() - path.len()).is_some_and(|it| it.ends_with('/'))
}

/// Makes the answer that an example writes.
#[must_use]
pub fn response(reply: &Value) -> Response {
    let status = reply.get("status").and_then(|status| status.to_text().parse().ok()).unwrap_or(200);
    let mut headers: Vec<(String, String)> = Vec::new();
    for (key, value) in reply.get("headers").and_then(Value::as_map).into_iter().flatten() {
        match value {
            Value::List(items) => headers.extend(items.iter().map(|item| (key.to_lowercase(), item.to_text()))),
            value => headers.push((key.to_lowercase(), value.to_text())),
        }
    }
    let (kind, body) = match reply.as_map() {
        Some(map) if map.contains_key("json") => {
            let mut text = String::new();
            crate::model::write_json(map.get("json").unwrap_or(&Value::Null), &mut text);
            ("application/json", text)
        }
        Some(map) => {
            let kinds = [
                ("text", "text/plain"),
                ("xml", "application/xml"),
                ("csv", "text/csv"),
                ("bytes", "application/octet-stream"),
            ];
            let found = kinds.into_iter().find_map(|(key, kind)| Some((kind, map.get(key)?.to_text())));
            found.unwrap_or_default()
        }
        None => Default::default(),
    };
    if !kind.is_empty() && !headers.iter().any(|(name, _)| name == "content-type") {
        headers.push(("content-type".to_owned(), kind.to_owned()));
    }
    Response { status, headers, body: body.into_bytes() }
}

impl ExchangeSpec {
    /// Tells whether the answer does not arrive.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.reply.get("lost").is_some_and(Value::is_truthy)
    }
}

impl Example {
    /// Tells whether the example begins with an earlier sending in doubt.
    fn is_doubted(&self) -> bool {
        self.state.get("doubted").is_some_and(Value::is_truthy)
    }
}

/// Notes which rule was applied, for the suite.
pub(super) fn note(fired: Option<&Fired>, rule: Option<&Rule>) {
    if let (Some(fired), Some(rule)) = (fired, rule) {
        fired.lock().unwrap_or_else(PoisonError::into_inner).insert((rule.line, rule.column));
    }
}

fn quoted(given: Option<&str>) -> String {
    given.map_or_else(|| "not there".to_owned(), |given| format!("`{given}`"))
}
