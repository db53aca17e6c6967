//! From an operation's `request` to a request that can leave.

use std::convert::Infallible;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::body;
use super::body::Payload;
use super::body::multipart;
use super::call::Means;
use super::judge::Failure;
use super::manifest::Body;
use super::manifest::Part;
use super::manifest::PartContent;
use super::manifest::Patch;
use super::manifest::Query;
use super::manifest::RequestSpec;
use super::render;
use super::render::Laid;
use super::render::header_text;
use crate::http::Request;
use crate::http::Response;
use crate::http::Streamed;
use crate::http::TransportError;
use crate::model::Blob;
use crate::model::Map;
use crate::model::Value;
use crate::model::write_json;
use crate::node::Keep;
use crate::template::Scope;

/// The largest answer that is read, unpacked, in bytes.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;
/// A file from this size on is read while it is sent, in bytes.
const STREAMED_FROM: u64 = 1024 * 1024;
/// How much of it is read at once.
const PIECE: u64 = 256 * 1024;

/// What a request is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Making<'a> {
    /// Names what is made, for messages.
    pub name: &'a str,
    /// The patches that are laid first: the connector's and the operation's.
    pub below: [Option<&'a Patch>; 2],
    pub spec: &'a RequestSpec,
    /// The patches of session and auth, which are laid over last.
    pub session: Option<&'a Patch>,
    pub auth: Option<&'a Patch>,
    /// A URL that is followed verbatim, instead of the operation's own.
    pub verbatim: Option<&'a str>,
    pub base: &'a super::url::Base,
    pub keep: &'a dyn Keep,
    /// Sets the parts of a multipart body apart.
    pub boundary: u128,
    /// Whether a large file may be read while it is sent; not where a signature covers it.
    pub may_stream: bool,
}

/// A request that is made, but for what signs it.
#[derive(Debug)]
pub(super) struct Made {
    pub request: Request,
    /// The file that is its body, read while it is sent.
    pub file: Option<File>,
}

/// A file that is read while it is sent.
#[derive(Debug)]
pub(super) struct File {
    blob: Arc<Blob>,
    to: mpsc::Sender<Bytes>,
}

/// Sends a request, and hands over its file meanwhile.
pub(super) async fn send(means: &Means<'_>, request: Request, file: Option<File>) -> Result<Response, TransportError> {
    let Some(file) = file else { return means.http.send(request).await };
    tokio::select! {
        result = means.http.send(request) => result,
        never = file.hand_over(means.keep) => match never {},
    }
}

impl File {
    /// Hands the file over piece by piece, and then waits for ever: the answer ends it. Where the file is not what its
    /// address says, its end is kept back.
    async fn hand_over(self, keep: &dyn Keep) -> Infallible {
        if let Err(error) = self.pieces(keep).await {
            tracing::warn!(%error, "a file could not be sent to its end");
        }
        // What is given up here ends the request.
        drop(self);
        std::future::pending().await
    }

    async fn pieces(&self, keep: &dyn Keep) -> Result<(), String> {
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        let (start, mut at) = (self.blob.offset.unwrap_or(0), 0);
        while at < self.blob.size {
            let size = PIECE.min(self.blob.size - at);
            let part = Blob { offset: Some(start + at), size, ..Blob::clone(&self.blob) };
            let bytes = keep.read_blob(&part).await.map_err(|error| error.text())?;
            digest.update(&bytes);
            at += size;
            if at == self.blob.size && self.blob.offset.is_none() {
                let found = digest.clone().finish();
                let found: String = found.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
                if !self.blob.address.ends_with(&found) {
                    return Err(format!("the content of `{}` is not what its address says", self.blob.address));
                }
            }
            if self.to.send(Bytes::from(bytes)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Makes the request: patches laid in their order, body encoded. Credentials of signers are not in it yet.
///
/// # Errors
/// An expression without a value, a value that a body cannot hold.
pub(super) async fn make(making: Making<'_>, scope: &Scope) -> Result<Made, Failure> {
    let spec = making.spec;
    let mut laid = Laid::default();
    for patch in making.below.into_iter().flatten() {
        laid.lay(patch, scope)?;
    }
    laid.headers(&spec.headers, scope)?;
    if let Query::Map(query) = &spec.query {
        laid.query(query, scope)?;
    }
    for patch in making.session.into_iter().chain(making.auth) {
        laid.lay(patch, scope)?;
    }
    // The next page has the same headers and auth, and nothing but its own link.
    let url = match making.verbatim {
        Some(url) => url.to_owned(),
        None => super::url::of_request(spec, making.base, &laid, scope)?,
    };
    let method = if making.verbatim.is_some() { "GET" } else { &spec.method };
    let mut request = Request { max_body: MAX_ANSWER, redirects: spec.redirects, ..Request::new(method, &url) };
    request.headers.extend(laid.headers.iter().map(|(name, value)| (name.to_string(), header_text(value))));
    let mut file = None;
    if making.verbatim.is_none() {
        let payload = match (&spec.body, making.may_stream) {
            (Body::Bytes(tree), true) => match render::value(tree, scope)? {
                Value::Blob(blob) if blob.size >= STREAMED_FROM => {
                    let (to, streamed) = Streamed::new(blob.size);
                    request.streamed = Some(streamed);
                    let content_type = Some(media_type_of(&blob));
                    file = Some(File { blob, to });
                    Some(Payload { content_type, bytes: Vec::new() })
                }
                value => Some(bytes_payload(&value, making.keep).await?),
            },
            _ => payload(&making, &mut laid, scope).await?,
        };
        if let Some(Payload { content_type, bytes }) = payload {
            request.body = bytes;
            let given = request.headers.iter().any(|(name, _)| name == "content-type");
            // The boundary is in the type, so that of a multipart body cannot be another.
            let own = matches!(spec.body, Body::Multipart(_));
            if let Some(content_type) = content_type.filter(|_| !given || own) {
                request.headers.retain(|(name, _)| name != "content-type");
                request.headers.push(("content-type".to_owned(), content_type));
            }
        }
    }
    Ok(Made { request, file })
}

fn media_type_of(blob: &Blob) -> String {
    blob.media_type.clone().unwrap_or_else(|| "application/octet-stream".to_owned())
}

async fn bytes_payload(value: &Value, keep: &dyn Keep) -> Result<Payload, Failure> {
    let content_type = match value {
        Value::Blob(blob) => media_type_of(blob),
        _ => "application/octet-stream".to_owned(),
    };
    Ok(Payload { content_type: Some(content_type), bytes: bytes_of(value, keep).await? })
}

async fn payload(making: &Making<'_>, laid: &mut Laid, scope: &Scope) -> Result<Option<Payload>, Failure> {
    let wrong = |reason: String| Failure::invalid(format!("the body of `{}`: {reason}", making.name));
    let payload = match &making.spec.body {
        Body::None => match (laid.json.take(), laid.form.take()) {
            (Some(json), _) => json_payload(&json),
            (None, Some(form)) => form_payload(&form).map_err(wrong)?,
            (None, None) => return Ok(None),
        },
        Body::Json(tree) => {
            let own = render::written(tree, scope)?.unwrap_or_else(|| Value::map::<&str>([]));
            json_payload(&laid_over(own, laid.json.as_ref()))
        }
        Body::Form(tree) => {
            let own = render::written(tree, scope)?.unwrap_or_else(|| Value::map::<&str>([]));
            form_payload(&laid_over(own, laid.form.as_ref())).map_err(wrong)?
        }
        Body::Multipart(parts) => {
            let mut made = Vec::new();
            for part in parts {
                make_parts(part, making.keep, scope, &mut made).await?;
            }
            multipart::encode(&made, &multipart::boundary(making.boundary)).map_err(wrong)?
        }
        Body::Text(tree) => body::text(&render::value(tree, scope)?.revealed()).map_err(wrong)?,
        Body::Bytes(tree) => bytes_payload(&render::value(tree, scope)?, making.keep).await?,
        Body::Xml(tree) => body::xml::encode(&render::value(tree, scope)?.revealed()).map_err(wrong)?,
        Body::Csv(tree) => body::csv::encode(&render::value(tree, scope)?.revealed()).map_err(wrong)?,
        Body::Codec(name, tree) => {
            let value = match &**name {
                // A chat's content is the operation's input; the manifest gives its dialect and what it may change.
                "chat" => held(&chat_value(&render::value(tree, scope)?, scope), making.keep).await?,
                _ => render::value(tree, scope)?,
            };
            super::codec::encode(name, &value.revealed()).map_err(wrong)?
        }
    };
    Ok(Some(payload))
}

/// Puts the operation's input beside what the manifest says of the dialect.
fn chat_value(options: &Value, scope: &Scope) -> Value {
    let input = scope.locals.iter().rev().find(|(name, _)| *name == "input").map(|(_, value)| value.clone());
    let mut map = input.as_ref().and_then(Value::as_map).cloned().unwrap_or_default();
    if let Some(options) = options.as_map() {
        map.extend(options.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    Value::from(map)
}

/// Replaces the files in a chat by what they hold: the codec itself reads nothing.
fn held<'a>(
    value: &'a Value,
    keep: &'a dyn Keep,
) -> std::pin::Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send + 'a>> {
    Box::pin(async move {
        Ok(match value {
            Value::Blob(blob) => {
                let data = STANDARD.encode(bytes_of(value, keep).await?);
                let media_type = blob.media_type.as_deref().map_or(Value::Null, Value::from);
                Value::map([("data", Value::from(data)), ("media_type", media_type)])
            }
            Value::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for item in items.iter() {
                    list.push(held(item, keep).await?);
                }
                Value::list(list)
            }
            Value::Map(map) => {
                let mut made = Map::with_capacity(map.len());
                for (key, item) in map.iter() {
                    made.insert(key.clone(), held(item, keep).await?);
                }
                Value::from(made)
            }
            plain => plain.clone(),
        })
    })
}

fn laid_over(own: Value, patch: Option<&Value>) -> Value {
    match (own.as_map(), patch.and_then(Value::as_map)) {
        (Some(below), Some(above)) => {
            let mut map = below.clone();
            map.extend(above.iter().map(|(key, value)| (key.clone(), value.clone())));
            Value::from(map)
        }
        _ => own,
    }
}

fn json_payload(value: &Value) -> Payload {
    let mut text = String::new();
    write_json(&value.revealed(), &mut text);
    Payload { content_type: Some("application/json".to_owned()), bytes: text.into_bytes() }
}

fn form_payload(value: &Value) -> Result<Payload, String> {
    let Some(map) = value.as_map() else { return Err(format!("expected a mapping, found {}", value.kind().name())) };
    Ok(Payload::new("application/x-www-form-urlencoded", body::form::write(&render::pairs(map))))
}

async fn make_parts(
    part: &Part,
    keep: &dyn Keep,
    scope: &Scope,
    made: &mut Vec<multipart::Part>,
) -> Result<(), Failure> {
    let Some(each) = &part.each else {
        if let Some(one) = make_part(part, keep, scope).await? {
            made.push(one);
        }
        return Ok(());
    };
    let items = match each.eval(scope)? {
        Value::List(items) => items,
        Value::Null => return Ok(()),
        other => return Err(Failure::invalid(format!("`each` gives {}, expected a list", other.kind().name()))),
    };
    for (index, item) in items.iter().enumerate() {
        let mut scope = scope.clone();
        scope.locals.push(("item", item.clone()));
        scope.locals.push(("index", Value::Int(i128::try_from(index).unwrap_or(0))));
        if let Some(one) = make_part(part, keep, &scope).await? {
            made.push(one);
        }
    }
    Ok(())
}

/// Makes a part; nothing where its content comes out null.
async fn make_part(part: &Part, keep: &dyn Keep, scope: &Scope) -> Result<Option<multipart::Part>, Failure> {
    let text = |tree: &crate::template::TemplateTree| -> Result<String, Failure> {
        Ok(render::value(tree, scope)?.revealed().to_text())
    };
    let (content_type, bytes) = match &part.content {
        PartContent::Text(tree) => match render::written(tree, scope)? {
            Some(value) => (None, value.revealed().to_text().into_bytes()),
            None => return Ok(None),
        },
        PartContent::Json(tree) => match render::written(tree, scope)? {
            Some(value) => {
                let payload = json_payload(&value);
                (payload.content_type, payload.bytes)
            }
            None => return Ok(None),
        },
        PartContent::Bytes(tree) => match render::written(tree, scope)? {
            Some(value) => {
                let kind = match &value {
                    Value::Blob(blob) => blob.media_type.clone(),
                    _ => None,
                };
                (Some(kind.unwrap_or_else(|| "application/octet-stream".to_owned())), bytes_of(&value, keep).await?)
            }
            None => return Ok(None),
        },
    };
    let filename = match (&part.filename, &part.content) {
        (Some(tree), _) => Some(text(tree)?).filter(|name| !name.is_empty()),
        // Without a name, servers take a part for a text.
        (None, PartContent::Bytes(_)) => Some("file".to_owned()),
        (None, _) => None,
    };
    Ok(Some(multipart::Part { name: text(&part.name)?, filename, content_type, bytes }))
}

/// Returns the bytes of a file, a part of one, or a text.
async fn bytes_of(value: &Value, keep: &dyn Keep) -> Result<Vec<u8>, Failure> {
    match value {
        Value::Blob(blob) => keep.read_blob(blob).await.map_err(|error| Failure::invalid(error.text())),
        Value::Null => Ok(Vec::new()),
        other => Ok(other.revealed().to_text().into_bytes()),
    }
}
