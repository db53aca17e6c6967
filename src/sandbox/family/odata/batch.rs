//! Several requests in one: multipart in both versions, JSON in V4. The writes of a set are done all or not at all.

use super::Desk;
use super::State;
use super::edm::Version;
use super::fault::Fault;
use super::fault::Reason;
use super::resource::decoded;
use super::serve;
use super::serve::Ask;
use crate::connector::body::form;
use crate::connector::body::multipart;
use crate::connector::codec::odata_batch;
use crate::model::Map;
use crate::model::Value;
use crate::model::parse_json;
use crate::sandbox::exchange::Received;
use crate::sandbox::exchange::Reply;

/// What each part of a batch needs.
struct Batch<'a, 'd> {
    desk: &'a Desk<'d>,
    state: &'a mut State,
}

/// A part's answer, and where what it made is.
struct Done {
    reply: Reply,
    location: Option<String>,
}

/// Answers a batch.
pub(super) fn answer(desk: &Desk<'_>, state: &mut State, request: &Received) -> Result<Reply, Fault> {
    let kind = request.header("content-type").unwrap_or_default();
    let wrong = |error: String| Fault::new(Reason::Body, format!("The batch is malformed: {error}"));
    let mut batch = Batch { desk, state };
    if kind.starts_with("application/json") && desk.service.version == Version::V4 {
        return batch.json(&request.json());
    }
    let mut parts = odata_batch::decode_requests(kind, &request.body).map_err(wrong)?;
    number(&mut parts, kind, &request.body);
    let mut responses = Vec::new();
    for part in parts.as_list().unwrap_or_default() {
        responses.push(match part.get("changes").and_then(Value::as_list) {
            Some(changes) => match batch.set(changes) {
                Ok(done) => Value::map([("changes", Value::list(done.iter().map(told).collect()))]),
                Err(reply) => told(&reply),
            },
            None => {
                let method = part.get("method").and_then(Value::as_str).unwrap_or_default();
                match (method, desk.service.version) {
                    ("GET", _) | (_, Version::V4) => told(&batch.one(part, &[]).reply),
                    _ => {
                        let fault = Fault::new(Reason::Body, format!("A {method} must stand in a change set"));
                        told(&desk.refuse(&fault))
                    }
                }
            }
        });
    }
    let payload = odata_batch::encode_responses(&Value::list(responses)).map_err(wrong)?;
    Ok(Reply::payload(if desk.service.version == Version::V2 { 202 } else { 200 }, payload))
}

/// Puts the `Content-ID` of each change into it: the codec leaves the headers around a request out.
fn number(parts: &mut Value, content_type: &str, bytes: &[u8]) {
    let Ok(outer) = multipart::split(content_type, bytes) else { return };
    let mut numbered = Vec::new();
    for (entity, part) in outer.iter().zip(parts.as_list().unwrap_or_default()) {
        let inner = entity.header("content-type").map(|kind| multipart::split(kind, entity.content));
        let (Some(Ok(inner)), Some(changes)) = (inner, part.get("changes").and_then(Value::as_list)) else {
            numbered.push(part.clone());
            continue;
        };
        let changes = inner.iter().zip(changes).map(|(entity, change)| {
            let mut change = change.as_map().cloned().unwrap_or_default();
            change.extend(entity.header("content-id").map(|id| ("id".into(), Value::from(id))));
            Value::from(change)
        });
        numbered.push(Value::map([("changes", Value::list(changes.collect()))]));
    }
    *parts = Value::list(numbered);
}

/// Writes an answer as the codec takes it; a text is a body as it is.
fn told(reply: &Reply) -> Value {
    let headers = reply.headers.iter().map(|(name, value)| (name.as_str(), Value::from(value.as_str())));
    let body = match reply.body.as_slice() {
        [] => Value::Null,
        bytes => Value::from(String::from_utf8_lossy(bytes).into_owned()),
    };
    Value::map([("status", Value::from(reply.status)), ("headers", Value::map(headers)), ("body", body)])
}

impl Batch<'_, '_> {
    /// Does the writes of a set, or, where one fails, none.
    fn set(&mut self, changes: &[Value]) -> Result<Vec<Reply>, Reply> {
        let before = self.state.store.clone();
        let (mut done, mut made) = (Vec::new(), Vec::new());
        for change in changes {
            let answered = match change.get("method").and_then(Value::as_str) {
                Some("GET") | None => {
                    let fault = Fault::new(Reason::Body, "A read cannot stand in a change set");
                    Done { reply: self.desk.refuse(&fault), location: None }
                }
                Some(_) => self.one(change, &made),
            };
            if answered.reply.status >= 400 {
                self.state.store = before;
                return Err(answered.reply);
            }
            let id = change.get("id").map(Value::to_text).unwrap_or_default();
            made.extend(answered.location.filter(|_| !id.is_empty()).map(|location| (id.clone(), location)));
            done.push(if id.is_empty() { answered.reply } else { answered.reply.with_header("content-id", id) });
        }
        Ok(done)
    }

    /// Answers one request; `made` is what earlier ones made, by their numbers.
    fn one(&mut self, request: &Value, made: &[(String, String)]) -> Done {
        let text = |key: &str| request.get(key).and_then(Value::as_str).unwrap_or_default();
        let (path, query) = text("url").split_once('?').unwrap_or((text("url"), ""));
        let path = self.behind(path, made);
        let query = form::parse(query).unwrap_or_default();
        let headers = request.get("headers").and_then(Value::as_map).cloned().unwrap_or_default();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.to_lowercase(), value.to_text())).collect();
        let body = request.get("body").cloned().unwrap_or_default();
        let tunnelled = headers.iter().find(|(name, _)| name == "x-http-method" && text("method") == "POST");
        let method = tunnelled.map_or(text("method"), |(_, method)| method.as_str());
        let ask = Ask { method, path: &path, query: &query, headers: &headers, body: &body };
        let reply = match serve::serve(self.desk, self.state, ask) {
            Ok(reply) => self.desk.finished(reply),
            Err(fault) => self.desk.refuse(&fault),
        };
        let location = reply.header("location").map(|location| self.behind(location, &[]));
        Done { reply, location }
    }

    /// Returns the path behind the service: URLs are relative to it, to the server, or whole.
    fn behind(&self, url: &str, made: &[(String, String)]) -> String {
        if let Some(rest) = url.strip_prefix('$') {
            let (id, rest) = rest.split_once('/').map_or((rest, String::new()), |(id, rest)| (id, format!("/{rest}")));
            if let Some((_, location)) = made.iter().find(|(own, _)| own == id) {
                return format!("{location}{rest}");
            }
        }
        let path = match url.split_once("://") {
            Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default(),
            None => url,
        };
        let (root, decoded) = (decoded(&self.desk.path), decoded(path));
        match path.strip_prefix(&self.desk.path) {
            Some(rest) => rest.trim_start_matches('/').to_owned(),
            None if decoded.starts_with(&root) => {
                let slashes = root.matches('/').count();
                path.split('/').skip(slashes + 1).collect::<Vec<_>>().join("/")
            }
            None => path.trim_start_matches('/').to_owned(),
        }
    }

    fn json(&mut self, content: &Value) -> Result<Reply, Fault> {
        let wrong = || Fault::new(Reason::Body, "The batch holds no list of requests");
        let requests = content.get("requests").and_then(Value::as_list).ok_or_else(wrong)?;
        let group = |request: &Value| request.get("atomicityGroup").and_then(Value::as_str).map(str::to_owned);
        let mut responses = Vec::new();
        for part in requests.chunk_by(|one, other| group(one).is_some() && group(one) == group(other)) {
            let name = part.first().and_then(group);
            let replies = match (&name, part) {
                (None, [request]) => vec![self.one(request, &[]).reply],
                _ => match self.set(part) {
                    Ok(replies) => replies,
                    // None was done, and each says why.
                    Err(reply) => vec![reply; part.len()],
                },
            };
            for (request, reply) in part.iter().zip(replies) {
                responses.push(answered(request, name.as_deref(), &reply));
            }
        }
        let content = Value::map([("responses", Value::list(responses))]);
        Ok(Reply::json(200, &content))
    }
}

fn answered(request: &Value, group: Option<&str>, reply: &Reply) -> Value {
    let mut map = Map::new();
    map.insert("id".into(), request.get("id").cloned().unwrap_or_default());
    map.extend(group.map(|group| ("atomicityGroup".into(), Value::from(group))));
    map.insert("status".into(), Value::from(reply.status));
    let headers = reply.headers.iter().map(|(name, value)| (name.as_str(), Value::from(value.as_str())));
    map.insert("headers".into(), Value::map(headers));
    let text = String::from_utf8_lossy(&reply.body);
    if !text.is_empty() {
        map.insert("body".into(), parse_json(&text).unwrap_or_else(|_| Value::from(text.as_ref())));
    }
    Value::from(map)
}
