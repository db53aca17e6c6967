//! Serves stand-ins on loopback, a port each, and tells of them: `GET /_sandbox/`, `/_sandbox/NAME/received`,
//! `/_sandbox/NAME/state`.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;

use axum::body::Body;
use axum::body::Bytes;
use axum::extract::Request;
use axum::extract::State;
use axum::response::Response;
use tokio::net::TcpListener;

use super::exchange::Received;
use super::exchange::Reply;
use super::world::Fate;
use super::world::NoStand;
use super::world::Seat;
use super::world::World;
use crate::model::Value;

/// Tells a stand-in where the client believes it is.
pub const ORIGIN: &str = "x-sandbox-origin";
/// The largest request that is read, in bytes.
pub const MAX_REQUEST: u64 = 64 * 1024 * 1024;

/// A sandbox that listens.
#[derive(Debug)]
pub struct Served {
    /// Where it tells of itself.
    pub control: SocketAddr,
    /// By stand-in.
    pub stands: Vec<Place>,
}

/// What is served at an address.
#[derive(Clone, Debug)]
struct At {
    world: Arc<World>,
    /// Nothing at the address that tells of all.
    seat: Option<Arc<Seat>>,
    told: Arc<OnceLock<Vec<Place>>>,
}

/// A stand-in and its address.
type Place = (Arc<str>, SocketAddr);

/// Why a sandbox does not come about.
#[derive(Debug)]
pub enum Failed {
    Stand(NoStand),
    Port(u16, std::io::Error),
}

/// Listens on loopback: at `port`, and for each stand-in at one of the following; port 0 takes what is free. The servers
/// end with the runtime.
///
/// # Errors
/// A manifest that is faulty, a port that is taken.
pub async fn serve(world: Arc<World>, names: &[Arc<str>], port: u16) -> Result<Served, Failed> {
    let told = Arc::new(OnceLock::new());
    let control = listen(port).await?;
    let address = control.local_addr().map_err(|error| Failed::Port(port, error))?;
    let mut stands = Vec::new();
    let mut listeners = vec![(control, None)];
    for (number, name) in names.iter().enumerate() {
        let seat = world.seat(name).map_err(Failed::Stand)?;
        let own = if port == 0 { 0 } else { port.saturating_add(u16::try_from(number + 1).unwrap_or(u16::MAX)) };
        let listener = listen(own).await?;
        stands.push((name.clone(), listener.local_addr().map_err(|error| Failed::Port(own, error))?));
        listeners.push((listener, Some(seat)));
    }
    let _ = told.set(stands.clone());
    for (listener, seat) in listeners {
        let at = At { world: world.clone(), seat, told: told.clone() };
        let app = axum::Router::new().fallback(answer).with_state(at);
        tokio::spawn(async move { axum::serve(listener, app).await });
    }
    Ok(Served { control: address, stands })
}

async fn listen(port: u16) -> Result<TcpListener, Failed> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| Failed::Port(port, error))
}

async fn answer(State(at): State<At>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::try_from(MAX_REQUEST).unwrap_or(usize::MAX)).await else {
        return response(Reply::empty(413));
    };
    let mut received = Received::new(parts.method.as_str(), parts.uri.path_and_query().map_or("/", |it| it.as_str()));
    received.headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    received.body = body.to_vec();
    let host = received.header("host").unwrap_or("127.0.0.1").to_owned();
    received.origin = received.header(ORIGIN).map_or_else(|| format!("http://{host}"), str::to_owned);
    received.headers.retain(|(name, _)| name != ORIGIN);
    if let Some(rest) = received.path.strip_prefix("/_sandbox").map(str::to_owned) {
        return response(told(&at, &received, rest.trim_matches('/')));
    }
    let Some(seat) = &at.seat else { return response(Reply::empty(404)) };
    let (fate, delay) = at.world.exchange(seat, &received);
    if let Some(delay) = delay {
        let clock = &at.world.system().clock;
        clock.sleep_until(clock.now().plus(delay)).await;
    }
    match fate {
        Fate::Answered(reply) => response(reply),
        // A body that fails before its first byte has the connection closed without an answer.
        Fate::Refused | Fate::Lost => Response::new(Body::new(Cut)),
    }
}

/// A body that fails at once.
#[derive(Debug)]
struct Cut;

impl http_body::Body for Cut {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        std::task::Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
    }
}

fn response(reply: Reply) -> Response {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = axum::http::StatusCode::from_u16(reply.status).unwrap_or_default();
    for (name, value) in reply.headers {
        let name = axum::http::HeaderName::from_bytes(name.as_bytes());
        // What no header may hold was never one of a vendor's.
        if let (Ok(name), Ok(value)) = (name, axum::http::HeaderValue::from_str(&value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// Answers what is asked of the sandbox itself.
fn told(at: &At, request: &Received, path: &str) -> Reply {
    let (seat, what) = match &at.seat {
        Some(seat) => (Some(seat.clone()), path),
        None if path.is_empty() => (None, path),
        None => {
            let (name, what) = path.split_once('/').unwrap_or((path, ""));
            match at.world.seat(name) {
                Ok(seat) => (Some(seat), what),
                Err(error) => return wrong(404, &error.to_string()),
            }
        }
    };
    let Some(seat) = seat else {
        return Reply::json(200, &Value::map([("id", Value::from(at.world.id())), ("stands", listed(at))]));
    };
    let (what, rest) = what.split_once('/').unwrap_or((what, ""));
    match (request.method.as_str(), what, rest) {
        ("GET", "", "") => Reply::json(200, &described(&seat, None)),
        ("GET", "received", "") => {
            Reply::json(200, &Value::list(seat.received().iter().map(super::world::Seen::value).collect()))
        }
        ("DELETE", "received", "") => {
            seat.forget();
            Reply::empty(204)
        }
        ("GET", "state", "") => Reply::json(200, &seat.state()),
        ("PUT", "state", collection) if !collection.is_empty() => {
            let json = request.json();
            let Some(rows) = json.as_list() else { return wrong(400, "expected a list of rows, as JSON") };
            match seat.load(collection, rows) {
                Ok(()) => Reply::empty(204),
                Err(reason) => wrong(400, &reason),
            }
        }
        _ => wrong(404, "there are `received`, `state` and `state/COLLECTION`"),
    }
}

fn wrong(status: u16, reason: &str) -> Reply {
    Reply::json(status, &Value::map([("error", Value::from(reason))]))
}

fn listed(at: &At) -> Value {
    let stands = at.told.get().map(Vec::as_slice).unwrap_or_default();
    let one = |(name, address): &(Arc<str>, SocketAddr)| Some(described(&*at.world.seat(name).ok()?, Some(*address)));
    Value::list(stands.iter().filter_map(one).collect())
}

#[must_use]
pub fn described(seat: &Seat, address: Option<SocketAddr>) -> Value {
    let state = seat.state();
    let rows = state
        .as_map()
        .into_iter()
        .flatten()
        .map(|(name, rows)| (name.clone(), Value::Int(rows.as_list().map_or(0, |rows| rows.len() as i128))));
    let rows = Value::map(rows.collect::<Vec<_>>());
    Value::map([
        ("name", Value::from(&*seat.name)),
        ("connector", Value::from(&*seat.connector)),
        ("url", address.map_or(Value::Null, |address| Value::from(format!("http://{address}")))),
        ("base_path", Value::from(seat.base_path())),
        ("auth", Value::from(seat.credentials())),
        ("received", Value::Int(seat.received().len() as i128)),
        ("rows", rows),
    ])
}
