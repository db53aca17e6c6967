//! OData V2 and V4, as business systems serve them: services with descriptions, sets with filters and pages, versions,
//! tokens that writes need, batches. What there is comes from the manifest (`Settings`).
//!
//! ```text
//! Received ──session──> Desk (service, schema, now) ──resource──> rows of the store
//!              │                                      ├─ query, show   what is read
//!              └─ 403                                 └─ write         what is changed; all or nothing
//! ```

mod batch;
mod edm;
mod expression;
mod fault;
mod filter;
mod metadata;
mod query;
mod resource;
mod schema;
mod serve;
mod session;
mod settings;
mod show;
mod store;
#[cfg(test)]
mod tests;
mod token;
mod write;

use self::edm::Source;
use self::edm::Version;
use self::fault::Fault;
use self::fault::Reason;
use self::schema::Schema;
use self::schema::Service;
use self::schema::Set;
use self::serve::Ask;
use self::session::Sessions;
use self::settings::Protocol;
use self::settings::Settings;
use self::store::Store;
use super::Family;
use super::Moment;
use crate::connector::codec::odata2;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::decode;
use crate::model::parse_json;
use crate::sandbox::exchange::Received;
use crate::sandbox::exchange::Reply;

/// Keys of the section that are not the family's.
const OTHERS: &[&str] = &["family", "config", "auth", "oauth", "data", "limits", "denied", "unknown"];

/// The stand-in of a system of services.
#[derive(Debug)]
pub(super) struct OData {
    settings: Settings,
    schema: Schema,
    sessions: Sessions,
    state: State,
}

/// What requests change.
#[derive(Debug)]
struct State {
    store: Store,
    /// How often each scene is still played.
    left: Vec<Option<u32>>,
}

/// What a request is served with.
#[derive(Clone, Debug)]
struct Desk<'a> {
    settings: &'a Settings,
    schema: &'a Schema,
    service: &'a Service,
    protocol: &'a Protocol,
    origin: &'a str,
    /// The path of the service as the client wrote it, without a slash at its end.
    path: String,
    /// V4: whether the client wants decimals as texts.
    texts: bool,
    /// V4: whether the client writes decimals as texts.
    texts_given: bool,
    now: Timestamp,
    transaction: u128,
}

/// Makes a stand-in.
pub(super) fn make(settings: &Value) -> Result<OData, String> {
    let own = settings.as_map().into_iter().flatten().filter(|(key, _)| !OTHERS.contains(&&***key));
    let own: Map = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    let settings: Settings = decode(Value::from(own)).map_err(|error| error.to_string())?;
    for protocol in settings.v2.iter().chain(&settings.v4) {
        let unknown = protocol.codes.keys().find(|name| !Reason::ALL.iter().any(|reason| reason.name() == *name));
        if let Some(name) = unknown {
            return Err(format!("`codes` knows no `{name}`"));
        }
    }
    let schema = Schema::make(&settings)?;
    for service in &schema.services {
        let (there, version) = match service.version {
            Version::V2 => (settings.v2.is_some(), "v2"),
            Version::V4 => (settings.v4.is_some(), "v4"),
        };
        if !there {
            return Err(format!("service `{}` needs `{version}`", service.name));
        }
    }
    let mut store = Store::new(&schema);
    for (collection, rows) in &settings.rows {
        store.load(&schema, collection, rows)?;
    }
    let left = schema.scenes.iter().map(|scene| scene.written.times).collect();
    Ok(OData { schema, settings, sessions: Sessions::default(), state: State { store, left } })
}

impl Family for OData {
    fn answer(&mut self, request: &Received, moment: &mut Moment) -> Option<Reply> {
        let (version, protocol) = self.protocol_of(&request.path)?;
        let reads = matches!(request.method.as_str(), "GET" | "HEAD");
        let csrf = self.settings.csrf.clone();
        let cookies = request.header("cookie");
        let token = csrf.as_ref().and_then(|csrf| request.header(&csrf.header));
        let mut more = Vec::new();
        match &csrf {
            Some(csrf) if reads && token.is_some_and(|token| token.eq_ignore_ascii_case("fetch")) => {
                more = self.sessions.fetch(csrf, cookies, moment);
            }
            Some(csrf) if !reads && !self.sessions.admits(csrf, token, cookies, moment.now) => {
                let reply = Reply::typed(403, "text/plain;charset=utf-8", "CSRF token validation failed");
                return Some(reply.with_header(&csrf.header, "Required"));
            }
            _ => {}
        }
        let mut reply = self.reply(version, &protocol, request, moment);
        // An error may carry a token as well.
        reply.headers.extend(more);
        if request.method == "HEAD" {
            reply.body.clear();
        }
        Some(reply)
    }

    fn state(&self) -> Value {
        self.state.store.state(&self.schema)
    }

    fn load(&mut self, collection: &str, rows: &[Value]) -> Result<(), String> {
        self.state.store.load(&self.schema, collection, rows)
    }
}

impl OData {
    fn protocol_of(&self, path: &str) -> Option<(Version, Protocol)> {
        let below = |protocol: &Protocol| {
            path.strip_prefix(protocol.root.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let of = |version, protocol: &Option<Protocol>| Some((version, protocol.clone().filter(&below)?));
        of(Version::V2, &self.settings.v2).or_else(|| of(Version::V4, &self.settings.v4))
    }

    fn reply(&mut self, version: Version, protocol: &Protocol, request: &Received, moment: &mut Moment) -> Reply {
        let transaction = moment.random.u128(..);
        let Some((service, path, rest)) = find(&self.schema.services, version, protocol, &request.path) else {
            let name = request.path.get(protocol.root.len()..).unwrap_or_default().trim_matches('/');
            let fault = Fault::new(Reason::Service, format!("No service found for '{}'", resource::decoded(name)));
            let (settings, now) = (&self.settings, moment.now);
            let scene = fault::Scene { settings, version, service: "", component: "", now, transaction };
            return fault.reply(scene);
        };
        let texts = |header: &str| {
            let value = request.header(header).unwrap_or_default().to_lowercase();
            value.replace(' ', "").contains("ieee754compatible=true")
        };
        let desk = Desk {
            settings: &self.settings,
            schema: &self.schema,
            service,
            protocol,
            origin: &request.origin,
            path,
            texts: texts("accept"),
            texts_given: texts("content-type"),
            now: moment.now,
            transaction,
        };
        let answered = match request.method.as_str() {
            "POST" if matches!(rest.as_str(), "$batch" | "%24batch") => batch::answer(&desk, &mut self.state, request),
            _ => asked(&desk, &mut self.state, request, &rest),
        };
        match answered {
            Ok(reply) => desk.finished(reply),
            Err(fault) => desk.refuse(&fault),
        }
    }
}

fn asked(desk: &Desk<'_>, state: &mut State, request: &Received, rest: &str) -> Result<Reply, Fault> {
    let body = body_of(desk.service.version, request)?;
    let tunnelled = request.header("x-http-method").filter(|_| request.method == "POST");
    let method = match tunnelled.unwrap_or(&request.method) {
        "HEAD" => "GET",
        method => method,
    };
    serve::serve(desk, state, Ask { method, path: rest, query: &request.query, headers: &request.headers, body: &body })
}

fn body_of(version: Version, request: &Received) -> Result<Value, Fault> {
    if request.body.iter().all(u8::is_ascii_whitespace) || matches!(request.method.as_str(), "GET" | "HEAD" | "DELETE")
    {
        return Ok(Value::Null);
    }
    let kind = request.header("content-type").unwrap_or_default().to_lowercase();
    if !kind.is_empty() && !kind.contains("json") {
        let message = format!("Content of type '{kind}' is not supported");
        return Err(Fault { status: 415, ..Fault::new(Reason::Unsupported, message) });
    }
    let text = request.text();
    let read = match version {
        Version::V2 => odata2::decode(&text),
        Version::V4 => parse_json(&text).map_err(|error| error.to_string()),
    };
    read.map_err(|error| Fault::new(Reason::Body, format!("The request body is malformed: {error}")))
}

/// Finds a service: its path as it was written, and what stands behind it.
fn find<'a>(
    services: &'a [Service],
    version: Version,
    protocol: &Protocol,
    path: &str,
) -> Option<(&'a Service, String, String)> {
    let behind = path.strip_prefix(protocol.root.as_str())?.trim_start_matches('/');
    let segments: Vec<_> = behind.split('/').collect();
    let fits = |service: &&Service| {
        let mut given = segments.iter().map(|segment| resource::decoded(segment));
        service.version == version && service.name.split('/').all(|name| given.next().is_some_and(|own| own == name))
    };
    let service = services.iter().filter(fits).max_by_key(|service| service.name.len())?;
    let (own, rest) = segments.split_at_checked(service.name.split('/').count())?;
    Some((service, format!("{}/{}", protocol.root, own.join("/")), rest.join("/")))
}

impl<'a> Desk<'a> {
    fn set(&self, name: &str) -> Result<&'a Set, Fault> {
        let set = self.service.sets.get(name);
        set.ok_or_else(|| Fault::new(Reason::Resource, format!("Resource not found for segment '{name}'")))
    }

    /// Returns the address of the service as links in answers give it.
    fn link_root(&self) -> String {
        let origin = match (&self.settings.link_origin, self.service.version) {
            (Some(origin), Version::V2) => origin,
            _ => self.origin,
        };
        format!("{origin}{}", self.path)
    }

    /// Returns where values in bodies come from.
    fn source(&self) -> Source {
        match self.service.version {
            Version::V2 => Source::V2,
            Version::V4 => Source::V4 { texts: self.texts_given },
        }
    }

    fn shown_set(&self, set: &Set) -> String {
        format!("{}.{}", self.service.namespace, set.type_name)
    }

    fn finished(&self, reply: Reply) -> Reply {
        match self.service.version {
            Version::V2 => reply.with_header("dataserviceversion", "2.0"),
            Version::V4 => reply.with_header("odata-version", "4.0"),
        }
    }

    fn refuse(&self, fault: &Fault) -> Reply {
        self.finished(fault.reply(fault::Scene {
            settings: self.settings,
            version: self.service.version,
            service: &self.service.name,
            component: &self.service.component,
            now: self.now,
            transaction: self.transaction,
        }))
    }
}
