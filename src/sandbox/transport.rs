//! The network of a sandbox: requests go to stand-ins, in this process or on loopback, and nowhere else.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::exchange::Received;
use super::server::MAX_REQUEST;
use super::server::ORIGIN;
use super::stand::UNANSWERED;
use super::world::Fate;
use super::world::World;
use crate::http::Origin;
use crate::http::Request;
use crate::http::ReqwestTransport;
use crate::http::Response;
use crate::http::Transport;
use crate::http::TransportError;
use crate::model::Duration;

/// Has stand-ins of this process answer.
#[derive(Clone, Debug)]
pub struct Here(pub Arc<World>);

/// Sends requests to a sandbox that another process serves.
#[derive(Clone, Debug)]
pub struct There {
    world: Arc<World>,
    /// By stand-in.
    addresses: HashMap<String, String>,
    network: ReqwestTransport,
    id: String,
}

/// Finds the stand-in that a request is for.
fn stand_of(world: &World, request: &Request) -> Result<Arc<str>, TransportError> {
    let by_connection = request.connection.as_deref().map(|name| world.stand_of_connection(name));
    by_connection.or_else(|| world.stand_at(&request.url)).ok_or_else(|| {
        let host = Origin::of(&request.url).map_or_else(|| request.url.clone(), |origin| origin.host);
        let reason = "the sandbox has no stand-in for it, and reaches nothing else".to_owned();
        TransportError::NotAllowed { host, reason }
    })
}

fn host_of(request: &Request) -> String {
    Origin::of(&request.url).map(|origin| origin.host).unwrap_or_default()
}

#[async_trait]
impl Transport for Here {
    async fn send(&self, mut request: Request) -> Result<Response, TransportError> {
        let name = stand_of(&self.0, &request)?;
        let host = host_of(&request);
        // What is read while it is sent arrives here whole.
        if let Some(streamed) = request.streamed.take() {
            let reason = "the file could not be read to its end".to_owned();
            let whole = streamed.whole().await;
            request.body = whole.ok_or_else(|| TransportError::Broken { host: host.clone(), reason })?;
        }
        let seat = self
            .0
            .seat(&name)
            .map_err(|error| TransportError::NotAllowed { host: host.clone(), reason: error.to_string() })?;
        if let Some(streamed) = request.streamed.take() {
            if streamed.size > MAX_REQUEST {
                return Ok(Response { status: 413, headers: Vec::new(), body: Vec::new() });
            }
            // Of a body that ends too early no server hears the end.
            let cut = "the file was not sent to its end".to_owned();
            let cut = || TransportError::Broken { host: host.clone(), reason: cut };
            request.body = streamed.whole().await.ok_or_else(cut)?;
        }
        loop {
            let received = Received::of(&request);
            let (fate, delay) = self.0.exchange(&seat, &received);
            if let Some(delay) = delay {
                let clock = &self.0.system().clock;
                let length = delay.min(request.timeout);
                clock.sleep_until(clock.now().plus(length)).await;
                if delay > request.timeout {
                    return Err(TransportError::Timeout { host, after: request.timeout });
                }
            }
            let broken = |reason: &str| TransportError::Broken { host: host.clone(), reason: reason.to_owned() };
            let reply = match fate {
                Fate::Answered(reply) => reply,
                Fate::Refused => {
                    let reason = "a fault that the sandbox was asked for".to_owned();
                    return Err(TransportError::NotSent { host, reason });
                }
                Fate::Lost => return Err(broken("a fault that the sandbox was asked for")),
            };
            if let Some(reason) = reply.header(UNANSWERED) {
                return Err(TransportError::NotAllowed { host, reason: reason.to_owned() });
            }
            if reply.body.len() as u64 > request.max_body {
                return Err(TransportError::TooLarge { host, limit: request.max_body });
            }
            let next =
                reply.header("location").filter(|_| request.redirects > 0 && (301..=308).contains(&reply.status));
            let same = next.filter(|url| Origin::of(url) == Origin::of(&request.url)).map(str::to_owned);
            match same {
                Some(url) if request.method == "GET" => {
                    request.url = url;
                    request.redirects -= 1;
                }
                _ => {
                    if let Some(heard) = &request.heard {
                        heard.tell(&reply.body);
                    }
                    return Ok(Response { status: reply.status, headers: reply.headers, body: reply.body });
                }
            }
        }
    }
}

impl There {
    /// Asks a sandbox at an address of its own, `http://127.0.0.1:4100`, where its stand-ins are.
    ///
    /// # Errors
    /// There is no sandbox.
    pub async fn connect(url: &str, world: Arc<World>) -> Result<Self, String> {
        let network = ReqwestTransport::new();
        let list = format!("{}/_sandbox/", url.trim_end_matches('/'));
        let request = Request { timeout: Duration::from_secs(5), ..Request::new("GET", &list) };
        let response = network.send(request).await.map_err(|error| error.to_string())?;
        let body = std::str::from_utf8(&response.body).ok().and_then(|text| crate::model::parse_json(text).ok());
        let stands = body.as_ref().and_then(|body| body.get("stands")).and_then(crate::model::Value::as_list);
        let Some(stands) = stands else { return Err(format!("what answers at {url} is no sandbox")) };
        let text = |stand: &crate::model::Value, key: &str| stand.get(key).map(crate::model::Value::to_text);
        let addresses = stands.iter().filter_map(|stand| Some((text(stand, "name")?, text(stand, "url")?)));
        let id = body.as_ref().and_then(|body| text(body, "id")).unwrap_or_default();
        Ok(Self { world, addresses: addresses.collect(), network, id })
    }

    /// Tells this sandbox from every other.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

#[async_trait]
impl Transport for There {
    async fn send(&self, mut request: Request) -> Result<Response, TransportError> {
        let name = stand_of(&self.world, &request)?;
        let host = host_of(&request);
        let Some(address) = self.addresses.get(&*name) else {
            let reason = format!("the sandbox that was named serves no `{name}`");
            return Err(TransportError::NotAllowed { host, reason });
        };
        let (origin, rest) = split(&request.url);
        request.headers.push((ORIGIN.to_owned(), origin.to_owned()));
        request.url = format!("{address}{rest}");
        request.private = true;
        let response = self.network.send(request).await?;
        match response.header(UNANSWERED) {
            Some(reason) => Err(TransportError::NotAllowed { host, reason: reason.to_owned() }),
            None => Ok(response),
        }
    }
}

/// Splits a URL into its origin and the rest.
fn split(url: &str) -> (&str, &str) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(start..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(url.len(), |at| start + at);
    url.split_at_checked(end).unwrap_or((url, ""))
}

impl Received {
    /// Reads a request that is about to leave.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        let (origin, rest) = split(&request.url);
        let rest = rest.split('#').next().unwrap_or_default();
        let target = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
        let mut received = Self::new(&request.method, &target);
        received.origin = origin.to_owned();
        received.headers = request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
        received.body.clone_from(&request.body);
        received
    }
}
