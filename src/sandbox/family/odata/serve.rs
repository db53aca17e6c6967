//! One request to a service, not a batch: what it reads or writes, and the answer.

use super::Desk;
use super::State;
use super::edm::Version;
use super::fault::Fault;
use super::fault::Reason;
use super::metadata;
use super::query::Of;
use super::query::Query;
use super::query::Shape;
use super::resource;
use super::resource::Call;
use super::resource::Resource;
use super::resource::Rows;
use super::schema::Returns;
use super::schema::Set;
use super::show;
use super::write;
use crate::connector::body::Payload;
use crate::connector::body::json;
use crate::connector::codec::odata2;
use crate::model::Map;
use crate::model::Value;
use crate::sandbox::exchange::Reply;

/// A request behind the root of its service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub method: &'a str,
    /// Encoded, without its first slash.
    pub path: &'a str,
    pub query: &'a [(String, String)],
    pub headers: &'a [(String, String)],
    /// Null where there is none.
    pub body: &'a Value,
}

impl Ask<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns what the client would rather have, of this name: `odata.maxpagesize`, `return`.
    fn preference(&self, name: &str) -> Option<&str> {
        let mut pairs = self.header("prefer").unwrap_or_default().split([',', ';']).filter_map(|it| it.split_once('='));
        let found = pairs.find(|(own, _)| own.trim().trim_start_matches("odata.") == name);
        found.map(|(_, value)| value.trim())
    }
}

/// Answers a request; what it did before it failed is taken back.
pub(super) fn serve(desk: &Desk<'_>, state: &mut State, ask: Ask<'_>) -> Result<Reply, Fault> {
    let before = (ask.method != "GET").then(|| state.store.clone());
    let answered = answer(desk, state, ask);
    if let (Err(_), Some(before)) = (&answered, before) {
        state.store = before;
    }
    answered
}

fn answer(desk: &Desk<'_>, state: &mut State, ask: Ask<'_>) -> Result<Reply, Fault> {
    let version = desk.service.version;
    let found = resource::resolve(desk, &state.store, ask.path)?;
    match (ask.method, found) {
        ("GET", Resource::Service) => Ok(service(desk)),
        ("GET", Resource::Metadata) => metadata::describe(desk).map(|payload| Reply::payload(200, payload)),
        ("GET", Resource::Many(rows)) => list(desk, state, ask, &rows),
        ("GET", Resource::Count(rows)) => {
            let query = Query::read(desk, rows.set, Of::Count, ask.query)?;
            let page = query.page(&state.store, rows.set, &rows.rows, usize::MAX);
            Ok(Reply::typed(200, "text/plain;charset=utf-8", page.count.to_string()))
        }
        ("GET", Resource::One(set, Some(row))) => {
            let query = Query::read(desk, set, Of::One, ask.query)?;
            played(desk, state, ask, set, row)?;
            let reply = one(desk, state, set, row, &query.shape, 200);
            let unchanged = reply.header("etag").is_some_and(|etag| ask.header("if-none-match") == Some(etag));
            Ok(if unchanged { Reply { status: 304, body: Vec::new(), ..reply } } else { reply })
        }
        ("GET", Resource::One(_, None)) if version == Version::V4 => Ok(Reply::empty(204)),
        (_, Resource::One(set, None)) => Err(resource::none(set)),
        ("GET", Resource::Property { set, row, name, raw }) => Ok(property(desk, state, set, row, &name, raw)),
        ("POST", Resource::Many(rows)) if !rows.set.read_only => create(desk, state, ask, &rows),
        ("PATCH" | "MERGE" | "PUT", Resource::One(set, Some(row))) if !set.read_only => {
            check_version(desk, state, ask, set, row)?;
            let message = played(desk, state, ask, set, row)?;
            write::update(desk, &mut state.store, set, row, ask.body, ask.method == "PUT")?;
            let wanted = version == Version::V4 && ask.preference("return") == Some("representation");
            let reply = if wanted {
                one(desk, state, set, row, &Shape::default(), 200)
            } else {
                let row = state.store.row(set.table, row);
                let etag = row.and_then(|row| show::etag(desk, set, row)).filter(|_| version == Version::V4);
                etag.map_or_else(|| Reply::empty(204), |etag| Reply::empty(204).with_header("etag", etag))
            };
            Ok(with_message(desk, reply, message))
        }
        ("DELETE", Resource::One(set, Some(row))) if !set.read_only => {
            check_version(desk, state, ask, set, row)?;
            let message = played(desk, state, ask, set, row)?;
            write::delete(desk, &mut state.store, set, row);
            Ok(with_message(desk, Reply::empty(204), message))
        }
        (method, Resource::Call(call))
            if (method == "GET") == call.function.reads && matches!(method, "GET" | "POST") =>
        {
            called(desk, state, ask, &call)
        }
        (method, _) => Err(Fault::new(Reason::Method, format!("Method '{method}' is not allowed for this resource"))),
    }
}

fn service(desk: &Desk<'_>) -> Reply {
    let names = desk.service.sets.keys().map(|name| Value::from(&**name));
    match desk.service.version {
        Version::V2 => reply(odata2::encode_entity(&Value::map([("EntitySets", Value::list(names.collect()))])), 200),
        Version::V4 => {
            let set =
                |name: Value| Value::map([("name", name.clone()), ("kind", Value::from("EntitySet")), ("url", name)]);
            let value = Value::list(names.map(set).collect());
            v4(desk, &Value::map([("@odata.context", Value::from("$metadata")), ("value", value)]), 200)
        }
    }
}

/// Makes an answer of what a codec has written.
fn reply(payload: Result<Payload, String>, status: u16) -> Reply {
    match payload {
        Ok(payload) => Reply::payload(status, payload),
        Err(error) => Reply::typed(500, "text/plain", error),
    }
}

fn v4(desk: &Desk<'_>, content: &Value, status: u16) -> Reply {
    let kind = format!("application/json;odata.metadata=minimal;IEEE754Compatible={}", desk.texts);
    reply(json::write(content).map(|text| Payload::new(&kind, text.into_bytes())), status)
}

fn list(desk: &Desk<'_>, state: &State, ask: Ask<'_>, rows: &Rows<'_>) -> Result<Reply, Fault> {
    let version = desk.service.version;
    let query = Query::read(desk, rows.set, Of::Many, ask.query)?;
    let wish = ask.preference("maxpagesize").and_then(|wish| wish.parse::<usize>().ok());
    let wish = wish.filter(|wish| *wish > 0 && version == Version::V4);
    let length = desk.protocol.page.min(wish.unwrap_or(usize::MAX)).max(1);
    let page = query.page(&state.store, rows.set, &rows.rows, length);
    let shown = page.rows.iter().filter_map(|at| state.store.row(rows.set.table, *at));
    let shown = shown.map(|row| show::entity(desk, &state.store, rows.set, row, &query.shape)).collect::<Vec<_>>();
    let count = query.count.then_some(page.count as u64);
    let next = page.next.map(|token| {
        let mut pairs: Vec<_> = ask.query.iter().filter(|(name, _)| name != "$skiptoken").cloned().collect();
        pairs.push(("$skiptoken".to_owned(), token.to_string()));
        match version {
            Version::V2 => format!("{}/{}?{}", desk.link_root(), ask.path, show::query(&pairs)),
            // Relative to the request.
            Version::V4 => {
                format!("{}?{}", ask.path.rsplit('/').next().unwrap_or_default(), show::query(&pairs))
            }
        }
    });
    if version == Version::V2 {
        return Ok(reply(odata2::encode_page(&shown, count, next.as_deref()), 200));
    }
    let mut map = Map::new();
    map.insert("@odata.context".into(), Value::from(format!("$metadata#{}", rows.set.name)));
    map.extend(count.map(|count| ("@odata.count".into(), Value::from(count))));
    map.insert("value".into(), Value::list(shown));
    map.extend(next.map(|next| ("@odata.nextLink".into(), Value::from(next))));
    let reply = v4(desk, &Value::from(map), 200);
    Ok(match wish {
        Some(wish) => reply.with_header("preference-applied", format!("odata.maxpagesize={wish}")),
        None => reply,
    })
}

fn one(desk: &Desk<'_>, state: &State, set: &Set, row: usize, shape: &Shape, status: u16) -> Reply {
    let row = state.store.row(set.table, row).cloned().unwrap_or_default();
    let shown = show::entity(desk, &state.store, set, &row, shape);
    let reply = match desk.service.version {
        Version::V2 => reply(odata2::encode_entity(&shown), status),
        Version::V4 => {
            let context = Value::from(format!("$metadata#{}/$entity", set.name));
            let mut map = Map::from_iter([("@odata.context".into(), context)]);
            map.extend(shown.as_map().cloned().unwrap_or_default());
            v4(desk, &Value::from(map), status)
        }
    };
    match show::etag(desk, set, &row) {
        Some(etag) => reply.with_header("etag", etag),
        None => reply,
    }
}

fn property(desk: &Desk<'_>, state: &State, set: &Set, row: usize, name: &str, raw: bool) -> Reply {
    let row = state.store.row(set.table, row);
    let found = set.column(name).and_then(|(column, kind)| Some((row?.get(&column)?.clone(), kind)));
    let Some((value, kind)) = found else { return Reply::empty(204) };
    let shown = kind.shown(&value, desk.service.version, desk.texts);
    match (raw, desk.service.version) {
        (true, _) => Reply::typed(200, "text/plain;charset=utf-8", shown.to_text()),
        (false, Version::V2) => reply(odata2::encode_entity(&Value::map([(name, shown)])), 200),
        (false, Version::V4) if value.is_null() => Reply::empty(204),
        (false, Version::V4) => {
            let context = Value::from(format!("$metadata#{}", kind.name(Version::V4)));
            v4(desk, &Value::map([("@odata.context", context), ("value", shown)]), 200)
        }
    }
}

fn create(desk: &Desk<'_>, state: &mut State, ask: Ask<'_>, rows: &Rows<'_>) -> Result<Reply, Fault> {
    let set = rows.set;
    let row = write::create(desk, &mut state.store, set, ask.body, &rows.given)?;
    let message = played(desk, state, ask, set, row)?;
    // The answer holds the parts that came with it.
    let mut shape = Shape::default();
    let parts = ask.body.as_map().into_iter().flatten().map(|(name, _)| name);
    for name in parts.filter(|name| set.navigations.contains_key(*name)) {
        shape.expand.insert(name.clone(), Query::default());
    }
    let values = state.store.row(set.table, row).cloned().unwrap_or_default();
    let location = format!("{}/{}", desk.link_root(), show::address(desk, set, &values));
    let minimal = desk.service.version == Version::V4 && ask.preference("return") == Some("minimal");
    let reply = if minimal {
        Reply::empty(204).with_header("odata-entityid", location.clone())
    } else {
        one(desk, state, set, row, &shape, 201)
    };
    Ok(with_message(desk, reply.with_header("location", location), message))
}

/// Changes need the version that they change, where there is one.
fn check_version(desk: &Desk<'_>, state: &State, ask: Ask<'_>, set: &Set, row: usize) -> Result<(), Fault> {
    let current = state.store.row(set.table, row).and_then(|row| show::etag(desk, set, row));
    let Some(current) = current else { return Ok(()) };
    let Some(given) = ask.header("if-match") else {
        return Err(Fault::new(Reason::Unconditional, "Precondition required: If-Match header is missing"));
    };
    if given.trim() == "*" || given.split(',').any(|given| given.trim() == current) {
        return Ok(());
    }
    Err(Fault::new(Reason::Stale, "Precondition failed: the entity was changed meanwhile"))
}

fn called(desk: &Desk<'_>, state: &mut State, ask: Ask<'_>, call: &Call<'_>) -> Result<Reply, Fault> {
    let (function, set) = (call.function, call.set);
    let parameters = call.parameters(desk, ask.query, ask.body)?;
    let wanted = parameters.iter().filter_map(|(name, value)| Some((set.column(name)?.0, value.clone())));
    let wanted: Vec<_> = wanted.filter(|_| call.rows.is_none()).collect();
    let found = call.rows.clone().unwrap_or_else(|| state.store.positions(set.table, &wanted));
    let first = found.first().copied();
    if first.is_none() && function.returns != Returns::Many {
        return Err(resource::none(set));
    }
    let first = first.unwrap_or_default();
    if !function.change.is_empty() {
        // Not every function wants a version, but a stale one is refused.
        if ask.header("if-match").is_some() && !found.is_empty() {
            check_version(desk, state, ask, set, first)?;
        }
        for row in &found {
            write::change(desk, &mut state.store, set, *row, &function.change);
        }
    }
    match &function.returns {
        Returns::Nothing => Ok(Reply::empty(204)),
        Returns::One => Ok(one(desk, state, set, first, &Shape::default(), 200)),
        Returns::Many => {
            let ask = Ask { query: &[], ..ask };
            list(desk, state, ask, &Rows { set, rows: found, given: Vec::new() })
        }
        Returns::Value(name) => {
            let reply = property(desk, state, set, first, name, false);
            // V2 names the function, V4 nothing.
            if desk.service.version == Version::V4 {
                return Ok(reply);
            }
            let (column, kind) = set.column(name).ok_or_else(|| resource::none(set))?;
            let value = state.store.row(set.table, first).and_then(|row| row.get(&column)).cloned().unwrap_or_default();
            let shown = kind.shown(&value, Version::V2, false);
            Ok(self::reply(odata2::encode_entity(&Value::map([(call.name.clone(), shown)])), 200))
        }
    }
}

/// Looks whether the content of a request brings something about: a fault, or a message that rides on the answer.
fn played(desk: &Desk<'_>, state: &mut State, ask: Ask<'_>, set: &Set, row: usize) -> Result<Option<Value>, Fault> {
    let Some(values) = state.store.row(set.table, row) else { return Ok(None) };
    for (scene, left) in desk.schema.scenes.iter().zip(&mut state.left) {
        let (written, own) = (&scene.written, &scene.set);
        let here = desk.schema.services.get(own.0).is_some_and(|service| service.name == desk.service.name);
        let method = if ask.method == "MERGE" { "PATCH" } else { ask.method };
        let fits = here && own.1 == set.name && written.methods.iter().any(|own| own == method);
        if !fits || *left == Some(0) || !scene.when.holds(values) {
            continue;
        }
        *left = left.map(|left| left - 1);
        if written.status < 300 {
            let severity = written.severity.as_deref().unwrap_or("warning");
            return Ok(Some(Value::map([
                ("code", Value::from(written.code.as_str())),
                ("message", Value::from(written.message.as_str())),
                ("severity", Value::from(severity)),
                ("target", Value::from("")),
                ("details", Value::list(Vec::new())),
            ])));
        }
        let fault = Fault::new(Reason::Business, written.message.as_str()).with_code(&written.code);
        return Err(Fault { status: written.status, html: written.html, ..fault });
    }
    Ok(None)
}

fn with_message(desk: &Desk<'_>, reply: Reply, message: Option<Value>) -> Reply {
    match (message, &desk.settings.message_header) {
        (Some(message), Some(header)) => reply.with_header(header, message.to_string()),
        _ => reply,
    }
}
