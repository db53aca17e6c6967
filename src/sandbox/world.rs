//! All stand-ins of a sandbox: one for each connector and set of settings, made when it is first needed.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use indexmap::IndexMap;

use super::exchange::Received;
use super::exchange::Reply;
use super::family::Moment;
use super::fault::Faults;
use super::fault::Kind;
use super::plan::Plan;
use super::stand::Answered;
use super::stand::Stand;
use crate::connector::connection::Connection;
use crate::connector::library::Library;
use crate::connector::library::Loaded;
use crate::connector::manifest::Manifest;
use crate::diag::Diagnostic;
use crate::diag::Severity;
use crate::diag::Sources;
use crate::model::Duration;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::system::System;

/// How many requests a stand-in remembers.
const REMEMBERED: usize = 10_000;
/// How much of a body it remembers, in bytes.
const REMEMBERED_BODY: usize = 64 * 1024;

/// A connection of the project, as far as the sandbox needs it: no secret is in it.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub connection: Arc<str>,
    pub connector: Arc<str>,
    /// What it says beside `auth`.
    pub settings: Value,
    /// The kind of auth that it names, and the flow.
    pub kind: Option<Arc<str>>,
    pub flow: Option<Value>,
}

/// A sandbox.
#[derive(Debug)]
pub struct World {
    plans: Arc<Plans>,
    system: System,
    connections: HashMap<Arc<str>, (Wanted, Arc<str>)>,
    /// By stand-in: its connector and the settings of its connections.
    cast: IndexMap<Arc<str>, (Arc<str>, Value)>,
    stands: Mutex<IndexMap<Arc<str>, Arc<Seat>>>,
    faults: Mutex<(Faults, fastrand::Rng)>,
    /// Tells this sandbox from every other: what was learned of one says nothing of the next.
    id: String,
}

/// A stand-in and what it has received.
#[derive(Debug)]
pub struct Seat {
    pub name: Arc<str>,
    pub connector: Arc<str>,
    inner: Mutex<(Stand, VecDeque<Seen>)>,
}

/// A request that a stand-in has received.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Timestamp,
    pub operation: Option<Arc<str>>,
    pub method: String,
    pub path: String,
    pub query: Value,
    /// Without what shows who the client is.
    pub headers: Value,
    pub body: Value,
    /// What was answered; nothing where the answer was lost on purpose.
    pub status: Option<u16>,
}

/// The plans of stand-ins: made when they are first needed, once for any number of sandboxes.
#[derive(Debug, Default)]
pub struct Plans {
    library: Arc<Library>,
    made: Mutex<HashMap<Wants, Result<Arc<Plan>, NoStand>>>,
}

/// A connector, and the settings of its connections as text.
type Wants = (Arc<str>, String);

/// Why there is no stand-in.
#[derive(Clone, Debug)]
pub enum NoStand {
    /// There is no such connector, or nothing of this name.
    Unknown(String),
    /// Its manifest is faulty.
    Faulty { diagnostics: Vec<Diagnostic>, sources: Sources },
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Answered(Reply),
    /// No connection comes about.
    Refused,
    /// The connection ends without an answer.
    Lost,
}

impl World {
    /// Makes a sandbox. Connections of one connector share a stand-in where they say the same; else the first of them has
    /// the one with the connector's name.
    #[must_use]
    pub fn new(library: Library, connections: Vec<Wanted>, system: System, faults: Faults, seed: u64) -> Self {
        Self::of(Arc::new(Plans::new(Arc::new(library))), connections, system, faults, seed)
    }

    /// Makes a sandbox of plans that it shares with others; see `new`.
    #[must_use]
    pub fn of(plans: Arc<Plans>, connections: Vec<Wanted>, system: System, faults: Faults, seed: u64) -> Self {
        let mut cast: IndexMap<Arc<str>, (Arc<str>, Value)> = IndexMap::new();
        let mut placed = HashMap::new();
        for wanted in connections {
            let same = cast.iter().find(|(_, own)| own.0 == wanted.connector && own.1 == wanted.settings);
            let stand = match same {
                Some((name, _)) => name.clone(),
                None if !cast.contains_key(&wanted.connector) => wanted.connector.clone(),
                None => wanted.connection.clone(),
            };
            cast.entry(stand.clone()).or_insert_with(|| (wanted.connector.clone(), wanted.settings.clone()));
            placed.insert(wanted.connection.clone(), (wanted, stand));
        }
        for name in plans.names() {
            cast.entry(name.clone()).or_insert_with(|| (name, Value::map::<&str>([])));
        }
        let faults = Mutex::new((faults, fastrand::Rng::with_seed(seed)));
        let id = format!("{:032x}", system.random.bits());
        Self { plans, system, connections: placed, cast, stands: Mutex::default(), faults, id }
    }

    /// Tells of each fault, in the order in which they were given, how many requests it could have struck, and how many it
    /// did.
    #[must_use]
    pub fn struck(&self) -> Vec<(u64, u64)> {
        lock(&self.faults).0.told().collect()
    }

    /// Lists the names of all stand-ins.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        self.cast.keys().cloned().collect()
    }

    /// Returns the stand-in of this name; makes it where it is needed for the first time.
    ///
    /// # Errors
    /// There is none, or its manifest is faulty.
    pub fn seat(&self, name: &str) -> Result<Arc<Seat>, NoStand> {
        let mut stands = lock(&self.stands);
        if let Some(seat) = stands.get(name) {
            return Ok(seat.clone());
        }
        let Some((name, (connector, settings))) = self.cast.get_key_value(name) else {
            return Err(NoStand::Unknown(format!("the sandbox has no stand-in `{name}`")));
        };
        let mut stand = self.plans.stand(connector, settings)?;
        if let Some(lifetime) = lock(&self.faults).0.token_lifetime(&[name, connector]) {
            stand.expire_tokens(lifetime);
        }
        let inner = Mutex::new((stand, VecDeque::new()));
        let seat = Arc::new(Seat { name: name.clone(), connector: connector.clone(), inner });
        stands.insert(name.clone(), seat.clone());
        Ok(seat)
    }

    /// Names the stand-in of a connection; of one that the project does not have, its connector's.
    #[must_use]
    pub fn stand_of_connection(&self, connection: &str) -> Arc<str> {
        self.connections.get(connection).map_or_else(|| connection.into(), |(_, stand)| stand.clone())
    }

    /// Names the connector of a connection; nothing where there is no stand-in for it.
    #[must_use]
    pub fn connector(&self, connection: &str) -> Option<Arc<str>> {
        self.cast.get(&self.stand_of_connection(connection)).map(|(connector, _)| connector.clone())
    }

    /// Returns the manifests that the stand-ins are made of.
    #[must_use]
    pub fn library(&self) -> &Arc<Library> {
        &self.plans.library
    }

    /// Finds the stand-in that a URL leads to, for a request without a connection.
    #[must_use]
    pub fn stand_at(&self, url: &str) -> Option<Arc<str>> {
        let is_at = |name: &Arc<str>| self.seat(name).is_ok_and(|seat| lock(&seat.inner).0.plan().is_at(url));
        self.cast.keys().find(|name| is_at(name)).cloned()
    }

    /// Returns a connection as the sandbox has it: the project's settings, the sandbox's credentials.
    ///
    /// # Errors
    /// What does not fit the manifest.
    pub fn connection(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
        let stand = self.stand_of_connection(name);
        let seat = self.seat(&stand).map_err(|error| error.to_string())?;
        if seat.connector != manifest.name {
            return Err(format!("connection `{name}` is of connector `{}`, not `{}`", seat.connector, manifest.name));
        }
        let (config, mut auth) = {
            let inner = lock(&seat.inner);
            (inner.0.plan().config.clone(), inner.0.plan().auth.clone())
        };
        let wanted = self.connections.get(name).map(|(wanted, _)| wanted);
        match wanted.and_then(|wanted| wanted.flow.clone()) {
            Some(flow) => drop(auth.insert("flow".into(), flow)),
            None => drop(auth.shift_remove("flow")),
        }
        // The manifest's own are asked for.
        auth.shift_remove("scopes");
        // Where an answer with a token says more than the token, one has to be had.
        if manifest.auth.iter().any(|kind| kind.oauth2().is_some_and(|oauth2| oauth2.token.is_some())) {
            auth.shift_remove("access_token");
        }
        let kind = wanted.and_then(|wanted| wanted.kind.clone());
        let kind = kind.or_else(|| manifest.auth.first().map(|kind| kind.name.clone()));
        let auth = kind.map_or(Value::Null, |kind| Value::map([(kind, Value::from(auth))]));
        Connection::make(name, manifest, config, &auth, true)
    }

    /// Has a stand-in answer a request, or not, as the faults will. The delay is the caller's to wait for.
    pub fn exchange(&self, seat: &Seat, request: &Received) -> (Fate, Option<Duration>) {
        let now = self.system.clock.now();
        let mut inner = lock(&seat.inner);
        let operation = inner.0.operation_of(request, now);
        let (trouble, seed) = {
            let mut faults = lock(&self.faults);
            let (faults, random) = &mut *faults;
            let trouble = faults.decide(&[&seat.name, &seat.connector], operation.as_deref(), random);
            (trouble, random.u64(..))
        };
        let mut moment = Moment { now, random: fastrand::Rng::with_seed(seed) };
        let (operation, fate) = match trouble.kind {
            Some(Kind::Refuse) => (operation, Fate::Refused),
            Some(Kind::DropBeforeSend) => (operation, Fate::Lost),
            Some(Kind::Status(status)) => {
                let reply = inner.0.fault(status, operation.as_deref(), request, now);
                (operation, Fate::Answered(reply))
            }
            other => {
                if other == Some(Kind::Expired) {
                    inner.0.spend_token(request);
                }
                let Answered { operation, reply } = inner.0.answer(request, &mut moment);
                let is_lost = other == Some(Kind::DropAfterSend);
                (operation, if is_lost { Fate::Lost } else { Fate::Answered(reply) })
            }
        };
        // What did not arrive was not received.
        if !matches!(trouble.kind, Some(Kind::Refuse | Kind::DropBeforeSend)) {
            let status = match &fate {
                Fate::Answered(reply) => Some(reply.status),
                Fate::Refused | Fate::Lost => None,
            };
            if inner.1.len() >= REMEMBERED {
                inner.1.pop_front();
            }
            inner.1.push_back(Seen::of(request, operation, status, now));
        }
        (fate, trouble.delay)
    }

    /// Lists the stand-ins that were asked, with how often.
    #[must_use]
    pub fn asked(&self) -> Vec<(Arc<str>, Vec<Seen>)> {
        let seats: Vec<Arc<Seat>> = lock(&self.stands).values().cloned().collect();
        let asked = seats.into_iter().map(|seat| (seat.name.clone(), seat.received()));
        asked.filter(|(_, seen)| !seen.is_empty()).collect()
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    #[must_use]
    pub fn system(&self) -> &System {
        &self.system
    }
}

impl Plans {
    #[must_use]
    pub fn new(library: Arc<Library>) -> Self {
        Self { library, made: Mutex::default() }
    }

    /// Lists the connectors.
    fn names(&self) -> Vec<Arc<str>> {
        self.library.names().into_iter().map(|(name, _)| name.into()).collect()
    }

    /// Returns the plan of a stand-in.
    ///
    /// # Errors
    /// There is no such connector, or its manifest is faulty.
    pub fn plan(&self, connector: &Arc<str>, settings: &Value) -> Result<Arc<Plan>, NoStand> {
        let key = (connector.clone(), settings.to_string());
        let mut made = lock(&self.made);
        made.entry(key).or_insert_with(|| plan_of(&self.library, connector, settings)).clone()
    }

    fn stand(&self, connector: &Arc<str>, settings: &Value) -> Result<Stand, NoStand> {
        let plan = self.plan(connector, settings)?;
        Stand::new(plan).map_err(|reason| NoStand::Unknown(format!("the sandbox of `{connector}`: {reason}")))
    }
}

fn plan_of(library: &Library, connector: &str, settings: &Value) -> Result<Arc<Plan>, NoStand> {
    let manifest = match library.whole(connector) {
        Loaded::Manifest(manifest) => manifest,
        Loaded::Faulty { diagnostics, sources } => return Err(NoStand::Faulty { diagnostics, sources }),
        Loaded::Missing => return Err(NoStand::Unknown(format!("there is no connector `{connector}`"))),
    };
    let (plan, diagnostics) = Plan::make(&manifest, settings);
    if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        let mut sources = Sources::default();
        sources.insert(manifest.file.clone(), manifest.source.clone());
        return Err(NoStand::Faulty { diagnostics, sources });
    }
    Ok(Arc::new(plan))
}

impl std::fmt::Display for NoStand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(reason) => f.write_str(reason),
            Self::Faulty { diagnostics, .. } => match diagnostics.first() {
                Some(first) => {
                    let place = &first.span;
                    write!(f, "{}:{}: {}", place.file, place.start.line, first.message)
                }
                None => f.write_str("the manifest is faulty"),
            },
        }
    }
}

impl Seat {
    /// Returns what was received, the oldest first.
    #[must_use]
    pub fn received(&self) -> Vec<Seen> {
        lock(&self.inner).1.iter().cloned().collect()
    }

    /// Forgets what was received.
    pub fn forget(&self) {
        lock(&self.inner).1.clear();
    }

    /// Returns what the stand-in holds.
    #[must_use]
    pub fn state(&self) -> Value {
        lock(&self.inner).0.state()
    }

    /// Replaces the rows of a collection.
    ///
    /// # Errors
    /// There is no such collection, or a row does not fit it.
    pub fn load(&self, collection: &str, rows: &[Value]) -> Result<(), String> {
        lock(&self.inner).0.load(collection, rows)
    }

    /// Returns the credentials that the stand-in takes.
    #[must_use]
    pub fn credentials(&self) -> Map {
        lock(&self.inner).0.plan().auth.clone()
    }

    /// Returns the path that stands before those of all operations, of the default base.
    #[must_use]
    pub fn base_path(&self) -> String {
        lock(&self.inner).0.plan().base(None)
    }
}

impl Seen {
    fn of(request: &Received, operation: Option<Arc<str>>, status: Option<u16>, at: Timestamp) -> Self {
        let headers = request.headers.iter().map(|(name, value)| {
            let hides = ["authorization", "cookie", "proxy-authorization"].contains(&name.as_str())
                || ["key", "token", "secret"].iter().any(|word| name.contains(word));
            (name.clone(), if hides { "***".to_owned() } else { value.clone() })
        });
        let headers: Vec<_> = headers.collect();
        let kind = request.header("content-type").unwrap_or_default();
        let body = match () {
            () if request.body.is_empty() => Value::Null,
            () if request.body.len() > REMEMBERED_BODY => Value::from(format!("({} bytes)", request.body.len())),
            () if kind.contains("json") => request.json(),
            () if std::str::from_utf8(&request.body).is_ok() => Value::from(request.text()),
            () => Value::from(format!("({} bytes)", request.body.len())),
        };
        Self {
            at,
            operation,
            method: request.method.clone(),
            path: request.path.clone(),
            query: super::exchange::map_of(&request.query),
            headers: super::exchange::map_of(&headers),
            body,
            status,
        }
    }

    /// Returns it as JSON has it.
    #[must_use]
    pub fn value(&self) -> Value {
        Value::map([
            ("at", Value::Time(self.at)),
            ("operation", self.operation.as_deref().map_or(Value::Null, Value::from)),
            ("method", Value::from(self.method.as_str())),
            ("path", Value::from(self.path.as_str())),
            ("query", self.query.clone()),
            ("headers", self.headers.clone()),
            ("body", self.body.clone()),
            ("status", self.status.map_or(Value::Null, |status| Value::Int(status.into()))),
        ])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
