//! The transport that uses the network.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration as StdDuration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use reqwest::Client;
use reqwest::Method;
use reqwest::Url;
use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;
use reqwest::header::LOCATION;

use super::Request;
use super::Response;
use super::Transport;
use super::TransportError;
use super::origin::is_private;

/// How long a connection may take to come about, and how long a server may say nothing.
const CONNECT_TIMEOUT: StdDuration = StdDuration::from_secs(10);
/// Why an address is refused.
const NOT_PUBLIC: &str = "its address is not public; a connection to it must say `private: true`";
const READ_TIMEOUT: StdDuration = StdDuration::from_secs(120);

/// Sends requests over the network, with one pool of connections. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ReqwestTransport(Arc<Clients>);

/// The clients by kind, each made when it is first needed: the certificates of the system take milliseconds to load, and
/// a run that calls nobody, or only this machine, must not pay for them.
#[derive(Debug, Default)]
struct Clients {
    made: Mutex<Vec<(ClientKind, Client)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClientKind {
    tls: bool,
    /// This machine: never through a proxy.
    loopback: bool,
    /// Public addresses only.
    public: bool,
}

impl ReqwestTransport {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Clients {
    fn get(&self, kind: ClientKind) -> Result<Client, String> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = made.iter().find(|(own, _)| *own == kind) {
            return Ok(client.clone());
        }
        let client = build(kind).map_err(|error| reason(&error))?;
        made.push((kind, client.clone()));
        Ok(client)
    }
}

fn build(kind: ClientKind) -> Result<Client, reqwest::Error> {
    // Another part of the process may have installed one already, and then that one serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("pipewright/", env!("CARGO_PKG_VERSION")))
        // Redirects are followed by us: same origin only, and only where asked.
        .redirect(reqwest::redirect::Policy::none())
        // A request is sent once: who repeats it is decided by the effect ledger.
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .gzip(true);
    if !kind.tls {
        builder = builder.tls_certs_only([]);
    }
    if kind.loopback {
        builder = builder.no_proxy();
    }
    if kind.public {
        builder = builder.dns_resolver(Arc::new(PublicAddresses));
    }
    builder.build()
}

#[async_trait]
impl Transport for ReqwestTransport {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let mut url = Url::parse(&request.url).map_err(|error| not_sent("", error.to_string()))?;
        let mut left = request.redirects;
        loop {
            let answer = exchange(&self.0, &request, &url).await?;
            let Some(next) = redirect(&url, &answer).filter(|_| left > 0 && is_read(&request.method)) else {
                return Ok(answer);
            };
            url = next;
            left -= 1;
        }
    }
}

/// Resolves names to public addresses only, at the moment of connecting: a name that was checked before could lead
/// elsewhere by then.
#[derive(Debug)]
struct PublicAddresses;

impl Resolve for PublicAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<_> = found.filter(|address| !is_private(address.ip())).collect();
            if public.is_empty() {
                return Err(NOT_PUBLIC.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Tells whether a URL names an address that is not public. Of names the resolver tells.
fn names_private_address(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.parse().is_ok_and(is_private)
}

fn is_read(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

/// Returns where an answer leads, if that is the same origin: headers may hold credentials that are only for it.
fn redirect(url: &Url, answer: &Response) -> Option<Url> {
    if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let next = url.join(answer.header(LOCATION.as_str())?).ok()?;
    (next.origin() == url.origin()).then_some(next)
}

async fn exchange(clients: &Clients, request: &Request, url: &Url) -> Result<Response, TransportError> {
    let host = url.host_str().unwrap_or_default().to_owned();
    let refuse = |reason: String| not_sent(&host, reason);
    let kind = ClientKind { tls: url.scheme() == "https", loopback: is_loopback(url), public: !request.private };
    if !kind.tls && url.scheme() != "http" {
        return Err(refuse(format!("`{}` is not a scheme for HTTP", url.scheme())));
    }
    if kind.public && names_private_address(url) {
        return Err(refuse(NOT_PUBLIC.to_owned()));
    }
    let client = clients.get(kind).map_err(refuse)?;
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|error| refuse(error.to_string()))?;
    let touched = Arc::new(AtomicBool::new(false));
    let mut builder = client.request(method, url.clone()).timeout(request.timeout.to_std());
    for (name, value) in &request.headers {
        // The value stays out of the message: it may be a credential.
        let header =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| refuse(format!("`{name}` names no header")))?;
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| refuse(format!("the header `{name}` holds what no header may hold")))?;
        value.set_sensitive(true);
        builder = builder.header(header, value);
    }
    if let Some(streamed) = &request.streamed {
        let pieces = streamed.body(touched.clone()).ok_or_else(|| refuse("its body was sent already".to_owned()))?;
        builder = builder.body(reqwest::Body::wrap(pieces));
    } else if !request.body.is_empty() || !is_read(&request.method) {
        let left = Some(Bytes::from(request.body.clone()));
        builder = builder.body(reqwest::Body::wrap(Watched { left, touched: touched.clone() }));
    } else {
        touched.store(true, Ordering::Relaxed);
    }
    let failed = |error: reqwest::Error| classify(&error, &host, request, &touched);
    let mut answer = builder.send().await.map_err(failed)?;
    let too_large = || TransportError::TooLarge { host: host.clone(), limit: request.max_body };
    if request.method != "HEAD" && answer.content_length().is_some_and(|length| length > request.max_body) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    // The chunks come unpacked, a small one at a time, so a bomb is stopped before it has grown.
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if u64::try_from(body.len() + chunk.len()).unwrap_or(u64::MAX) > request.max_body {
            return Err(too_large());
        }
        if let Some(heard) = &request.heard {
            heard.tell(&chunk);
        }
        body.extend_from_slice(&chunk);
    }
    let headers = answer.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    Ok(Response { status: answer.status().as_u16(), headers: headers.collect(), body })
}

fn is_loopback(url: &Url) -> bool {
    // The URL writes the host of an IPv6 address in brackets.
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Decides whether nothing was sent. Where that is not proven, something may have been.
fn classify(error: &reqwest::Error, host: &str, request: &Request, touched: &AtomicBool) -> TransportError {
    // The body is asked for only when there is a connection, before the first byte leaves.
    let untouched = !touched.load(Ordering::Relaxed) && error.is_timeout();
    if error.is_connect() || error.is_builder() || untouched {
        return not_sent(host, reason(error));
    }
    let host = host.to_owned();
    if error.is_timeout() {
        return TransportError::Timeout { host, after: request.timeout };
    }
    TransportError::Broken { host, reason: reason(error) }
}

fn not_sent(host: &str, reason: String) -> TransportError {
    if reason == NOT_PUBLIC {
        return TransportError::NotAllowed { host: host.to_owned(), reason };
    }
    TransportError::NotSent { host: host.to_owned(), reason }
}

/// Returns the innermost cause, which says it best and holds no URL.
fn reason(error: &reqwest::Error) -> String {
    let mut innermost = error.source();
    while let Some(deeper) = innermost.and_then(Error::source) {
        innermost = Some(deeper);
    }
    innermost.map_or_else(|| "the request is unusable".to_owned(), ToString::to_string)
}

/// Resolves a link against the URL at which it stood, and keeps it on that origin: servers behind a proxy name hosts
/// that only they know. Nothing where that gives no URL.
#[must_use]
pub fn resolve_here(base: &str, link: &str) -> Option<String> {
    let here = Url::parse(base).ok()?;
    let mut url = here.join(link).ok().filter(|url| url.has_host())?;
    if url.origin() != here.origin() {
        let rest = url.as_str().get(url.origin().ascii_serialization().len()..).filter(|_| url.username().is_empty());
        url = match rest {
            Some(rest) => here.join(&format!("/{}", rest.trim_start_matches('/'))).ok()?,
            None => return None,
        };
    }
    Some(url.into())
}

/// Appends a query to a URL, percent-encoded.
///
/// # Errors
/// Why the text is not a URL.
pub fn with_query(url: &str, pairs: &[(String, String)]) -> Result<String, String> {
    let mut parsed = Url::parse(url).map_err(|error| error.to_string())?;
    if !pairs.is_empty() {
        parsed.query_pairs_mut().extend_pairs(pairs);
    }
    Ok(parsed.into())
}

/// Writes pairs as `application/x-www-form-urlencoded`.
#[must_use]
pub fn form(pairs: &[(String, String)]) -> String {
    let url = with_query("http://form.invalid/", pairs).unwrap_or_default();
    url.split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default()
}

/// A body that notes when it is first looked at.
#[derive(Debug)]
struct Watched {
    left: Option<Bytes>,
    touched: Arc<AtomicBool>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        self.touched.store(true, Ordering::Relaxed);
        Poll::Ready(self.left.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.touched.store(true, Ordering::Relaxed);
        self.left.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.as_ref().map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX)))
    }
}
