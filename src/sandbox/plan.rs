//! What a manifest says of its stand-in, read once: `sandbox` of the manifest and of each operation, the paths of the
//! operations, the answers that their examples show.

mod handler;
mod inferred;
mod route;

use std::sync::Arc;

use indexmap::IndexMap;
use jiff::tz::TimeZone;

pub use self::handler::Find;
pub use self::handler::Handler;
pub use self::handler::Insert;
pub use self::handler::List;
pub use self::handler::Refusal;
pub use self::route::Route;
pub use self::route::Shown;
use crate::connector::auth::Oauth2;
use crate::connector::connection;
use crate::connector::contract;
use crate::connector::credentials::Carried;
use crate::connector::credentials::Kind;
use crate::connector::manifest::Act;
use crate::connector::manifest::Manifest;
use crate::connector::manifest::place::Place;
use crate::connector::manifest::place::Seen;
use crate::connector::notes::Notes;
use crate::connector::render;
use crate::connector::runtime;
use crate::connector::url;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::http::Origin;
use crate::model::Duration;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::sandbox::exchange::Reply;
use crate::template::Scope;
use crate::template::Template;
use crate::template::TemplateTree;
use crate::yaml::Tree;

/// The keys that every stand-in has; a family takes others.
pub(super) const KEYS: &[&str] = &["family", "config", "auth", "oauth", "data", "limits", "denied", "unknown"];
/// What the expressions of a stand-in may read.
const ROOTS: &[&str] = &[
    "request",
    "operation",
    "params",
    "rows",
    "row",
    "found",
    "item",
    "items",
    "next",
    "new_id",
    "new_token",
    "config",
    "tables",
    "limit",
    "remaining",
    "reset",
    "reset_after",
];

/// The stand-in of one connector, before anything was asked of it.
#[derive(Debug)]
pub struct Plan {
    pub manifest: Arc<Manifest>,
    /// What a connection says in the sandbox, where the project gives nothing.
    pub config: Value,
    /// The credentials of the sandbox.
    pub auth: Map,
    pub routes: Vec<Route>,
    pub oauth: Option<Oauth>,
    /// How requests show who they are from; one of them is enough.
    pub carried: Vec<Carried>,
    pub limits: Vec<Limit>,
    /// The rows at the start, by collection.
    pub data: IndexMap<Arc<str>, Vec<Value>>,
    /// A family and its settings.
    pub family: Option<(Arc<str>, Value)>,
    /// What is answered to who may not, and where nothing is.
    pub denied: Option<TemplateTree>,
    pub unknown: Option<TemplateTree>,
    /// All exchanges of examples, for requests that no path tells: links of answers above all.
    pub shown: Vec<Shown>,
    /// Answers that examples show to a fault, by status.
    pub faults: Vec<(u16, Value)>,
}

/// An authorization server: its paths, and how it issues tokens.
#[derive(Debug)]
pub struct Oauth {
    pub authorize: Option<String>,
    pub token: Option<String>,
    pub device: Option<String>,
    pub revoke: Option<String>,
    /// Requests by which a token is had off the standard: method and path.
    pub own: Vec<(Arc<str>, String)>,
    /// Whether the manifest's client sends a challenge (RFC 7636).
    pub pkce: bool,
    /// How long an access token serves.
    pub lifetime: Duration,
    /// How long a refresh token serves.
    pub refresh_lifetime: Duration,
    /// The same where it depends on the request.
    pub lifetime_by: Option<Template>,
    /// Whether a refresh token serves once.
    pub rotate: bool,
    /// Over an authorization: whether it gives a refresh token. Always, where it does not say.
    pub offline: Option<Template>,
    /// What a token's answer has beside the names of the RFC: `oauth.token` of the manifest.
    pub extra: Option<TemplateTree>,
}

/// How long an access token serves where the manifest does not say.
const LIFETIME: Duration = Duration::from_secs(7200);

/// How long refresh tokens serve where the manifest does not say.
const REFRESH_LIFETIME: Duration = Duration::from_secs(180 * 86_400);

/// A limit that the stand-in keeps.
#[derive(Debug)]
pub struct Limit {
    pub limit: u32,
    pub per: Per,
    /// Nothing means all.
    pub operations: Vec<Arc<str>>,
    /// How much of it a request takes; one where it does not say.
    pub cost: Option<Template>,
    /// Go with every answer.
    pub headers: Option<TemplateTree>,
    pub refuse: Option<TemplateTree>,
}

/// How long the windows of a limit last.
#[derive(Clone, Debug)]
pub enum Per {
    /// From their first request on.
    Length(Duration),
    /// From midnight to midnight of a time zone.
    Day(TimeZone),
}

impl Per {
    /// Returns when the window ends that a request begins.
    #[must_use]
    pub fn end(&self, now: Timestamp) -> Timestamp {
        match self {
            Self::Length(length) => now.plus(*length),
            Self::Day(zone) => {
                let local = now.to_jiff().to_zoned_datetime(zone.clone());
                let next = local.tomorrow().and_then(|tomorrow| tomorrow.start_of_day());
                // At the end of the calendar only.
                next.map_or_else(|_| now.plus(DAY), |next| Timestamp::from_jiff(next.timestamp()))
            }
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);

impl Plan {
    /// Makes the plan of a manifest, which is whole: with its examples. `given` is what a connection says beside `auth`;
    /// it wins over what the manifest says of the sandbox.
    #[must_use]
    pub fn make(manifest: &Arc<Manifest>, given: &Value) -> (Self, Vec<Diagnostic>) {
        let mut notes = Notes::new(manifest.source.clone());
        let seen = Seen::default();
        let tables: Vec<String> =
            manifest.tables.as_map().into_iter().flatten().map(|(name, _)| name.to_string()).collect();
        let place = Place::of(ROOTS, &tables, &seen);
        let mut plan = Self {
            manifest: manifest.clone(),
            config: Value::map::<&str>([]),
            auth: Map::new(),
            routes: Vec::new(),
            oauth: None,
            carried: Vec::new(),
            limits: Vec::new(),
            data: IndexMap::new(),
            family: None,
            denied: None,
            unknown: None,
            shown: Vec::new(),
            faults: shown_faults(manifest),
        };
        if let Some(tree) = manifest.sandbox.as_ref().filter(|tree| notes.mapping(tree)) {
            plan.read(tree, &place, &mut notes);
        }
        let mut config = plan.config.as_map().cloned().unwrap_or_default();
        config.extend(given.as_map().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
        let config = Value::from(config);
        plan.config = runtime::completed_config(manifest, config.clone()).unwrap_or(config);
        for key in connection::auth_names(manifest) {
            plan.auth.entry(key.clone()).or_insert_with(|| Value::from(format!("sandbox-{key}")));
        }
        plan.carried = manifest.auth.iter().map(|kind| kind.carried(&plan.scope(false))).collect();
        let issuing = manifest.sandbox.as_ref().and_then(|tree| tree.get("oauth"));
        let oauth2 = manifest.auth.iter().find_map(Kind::oauth2);
        plan.oauth = oauth2.map(|oauth2| plan.oauth(oauth2, issuing, &place, &mut notes));
        // What nobody has written is guessed of what the operations look like.
        let mut inferred = match manifest.sandbox {
            None => inferred::infer(manifest, &mut plan.data),
            Some(_) => IndexMap::new(),
        };
        plan.shown = Shown::of(manifest);
        for operation in manifest.operations.values() {
            let Act::Request(request) = &operation.act else { continue };
            let written = operation.sandbox.as_ref();
            let handler = written.and_then(|tree| handler::read(tree, &place, &plan.data, &mut notes));
            let handler = handler.or_else(|| inferred.shift_remove(&operation.name));
            let prefix = plan.base(request.base.as_deref());
            plan.routes.push(Route::make(operation, request, &prefix, handler, &plan.shown));
        }
        for (name, operation) in &manifest.operations {
            if let (Some(tree), false) = (&operation.sandbox, matches!(operation.act, Act::Request(_))) {
                let message = format!("`{name}` sends no request of its own that a stand-in could answer");
                notes.error(Code::UnknownKey, &tree.span, message);
            }
        }
        (plan, notes.diagnostics)
    }

    fn read(&mut self, tree: &Tree, place: &Place<'_>, notes: &mut Notes) {
        let family = tree.get("family").and_then(|it| notes.text(it));
        if family.is_none() {
            notes.keys(tree, KEYS);
        }
        self.family = family.map(|name| (Arc::from(name), tree.to_value()));
        if let Some(config) = tree.get("config").filter(|it| notes.mapping(it)) {
            self.config = config.to_value();
        }
        if let Some(auth) = tree.get("auth").filter(|it| notes.mapping(it)) {
            self.auth = auth.to_value().as_map().cloned().unwrap_or_default();
        }
        for entry in tree.get("data").filter(|it| notes.mapping(it)).into_iter().flat_map(Tree::entries) {
            if notes.sequence(&entry.value) {
                self.data.insert(entry.key.clone(), entry.value.items().iter().map(Tree::to_value).collect());
            }
        }
        for item in tree.get("limits").filter(|it| notes.sequence(it)).into_iter().flat_map(Tree::items) {
            self.limits.extend(read_limit(item, place, &self.manifest, notes));
        }
        self.denied = tree.get("denied").map(|it| place.tree(it, notes));
        self.unknown = tree.get("unknown").map(|it| place.tree(it, notes));
    }

    /// Makes the scope of the manifest's own expressions, with the settings of the sandbox.
    fn scope(&self, auth: bool) -> Scope {
        let mut roots = vec![("config", self.config.clone()), ("tables", self.manifest.tables.clone())];
        roots.push(("auth", Value::from(self.auth.clone())));
        if auth {
            let bases = self
                .manifest
                .base_url
                .iter()
                .filter_map(|(name, template)| Some((name.clone(), template.eval(&self.scope(false)).ok()?)));
            roots.push(("base_url", Value::map(bases.collect::<Vec<_>>())));
        }
        render::scope(roots, Timestamp(0))
    }

    /// Returns the path of a base URL, which stands before those of its operations.
    #[must_use]
    pub fn base(&self, name: Option<&str>) -> String {
        let base = match name {
            Some(name) => self.manifest.base_url.get(name),
            None => self.manifest.base_url.values().next(),
        };
        base.and_then(|template| self.path_of(template, false)).unwrap_or_default()
    }

    /// Tells whether a URL leads to the system that this stands in for.
    #[must_use]
    pub fn is_at(&self, url: &str) -> bool {
        let Some(origin) = Origin::of(url) else { return false };
        let manifest = &self.manifest;
        let oauth2 = manifest.auth.iter().find_map(Kind::oauth2);
        let tokens =
            oauth2.into_iter().flat_map(|own| [&own.authorize_url, &own.token_url, &own.device_url, &own.revoke]);
        let urls = manifest.base_url.values().chain(tokens.flatten());
        let scope = self.scope(true);
        let own = urls.filter_map(|template| Origin::of(&template.eval(&scope).ok()?.revealed().to_text()));
        own.into_iter().any(|own| own == origin) || url::is_ours(manifest, &[], url)
    }

    fn path_of(&self, template: &Template, auth: bool) -> Option<String> {
        let url = template.eval(&self.scope(auth)).ok()?.to_text();
        let (_, rest) = url.split_once("://")?;
        let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default();
        Some(path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/').to_owned())
    }

    fn oauth(&self, oauth2: &Oauth2, issuing: Option<&Tree>, place: &Place<'_>, notes: &mut Notes) -> Oauth {
        let issuing =
            issuing.filter(|tree| notes.keys(tree, &["lifetime", "refresh_lifetime", "rotate", "offline", "token"]));
        let told = |key: &str| issuing.and_then(|tree| tree.get(key));
        let path = |template: &Option<Template>| template.as_ref().and_then(|it| self.path_of(it, true));
        let exchanges = oauth2.exchange.iter().map(|exchange| &exchange.request);
        let own = exchanges.chain(oauth2.refresh.as_ref().map(|refresh| &refresh.request));
        Oauth {
            authorize: path(&oauth2.authorize_url),
            token: path(&oauth2.token_url),
            device: path(&oauth2.device_url),
            revoke: path(&oauth2.revoke),
            own: own
                .filter_map(|spec| {
                    let path = spec.path.eval(&self.scope(true)).ok()?.to_text();
                    let path = path.split('?').next().unwrap_or_default();
                    Some((spec.method.clone(), format!("{}{path}", self.base(spec.base.as_deref()))))
                })
                .collect(),
            pkce: oauth2.pkce,
            lifetime: told("lifetime")
                .filter(|it| !is_computed(it))
                .and_then(|it| notes.duration(it))
                .unwrap_or(LIFETIME),
            lifetime_by: told("lifetime").filter(|it| is_computed(it)).and_then(|it| place.template(it, notes)),
            refresh_lifetime: told("refresh_lifetime").and_then(|it| notes.duration(it)).unwrap_or(REFRESH_LIFETIME),
            rotate: told("rotate").and_then(|it| notes.flag(it)).unwrap_or(true),
            offline: told("offline").and_then(|it| place.template(it, notes)),
            extra: told("token").map(|it| place.tree(it, notes)).or_else(|| guessed_extra(oauth2)),
        }
    }
}

fn is_computed(tree: &Tree) -> bool {
    tree.as_text().is_some_and(|text| text.contains("{{"))
}

/// Guesses what a token's answer has besides: a URL that the client keeps of it is where the token was asked for.
fn guessed_extra(oauth2: &Oauth2) -> Option<TemplateTree> {
    let Some(TemplateTree::Map(kept)) = &oauth2.token else { return None };
    let urls = kept.iter().filter_map(|(_, tree)| match tree {
        TemplateTree::Template(template) => {
            let read =
                template.references().iter().find(|read| read.path.first().is_some_and(|root| &**root == "body"));
            read?.path.get(1).filter(|name| name.ends_with("url")).cloned()
        }
        _ => None,
    });
    let origin = Template::parse_lenient("{{ request.origin }}").ok()?;
    let entries: Vec<_> = urls.map(|name| (name, TemplateTree::Template(origin.clone()))).collect();
    if entries.is_empty() { None } else { Some(TemplateTree::Map(entries)) }
}

fn read_limit(tree: &Tree, place: &Place<'_>, manifest: &Manifest, notes: &mut Notes) -> Option<Limit> {
    if !notes.keys(tree, &["limit", "per", "timezone", "operations", "cost", "headers", "refuse"]) {
        return None;
    }
    let zone = tree.get("timezone").map(|it| read_zone(it, notes));
    let mut operations = Vec::new();
    for item in tree.get("operations").filter(|it| notes.sequence(it)).into_iter().flat_map(Tree::items) {
        let Some(name) = notes.text(item) else { continue };
        if !manifest.operations.contains_key(name) {
            notes.error(Code::UnknownName, &item.span, format!("there is no operation `{name}`"));
        }
        operations.push(name.into());
    }
    let mut needed = |key: &str| {
        let found = tree.get(key);
        if found.is_none() {
            notes.error(Code::MissingKey, &tree.span, format!("key `{key}` is missing"));
        }
        found
    };
    let (limit, per) = (needed("limit")?, needed("per")?);
    Some(Limit {
        limit: notes.number(limit, 1, u32::MAX)?,
        per: match (per.as_text(), zone) {
            (Some("day"), None) => Per::Day(TimeZone::UTC),
            (Some("day"), Some(zone)) => Per::Day(zone?),
            _ => Per::Length(notes.duration(per)?),
        },
        operations,
        cost: tree.get("cost").and_then(|it| place.template(it, notes)),
        headers: tree.get("headers").map(|it| place.tree(it, notes)),
        refuse: tree.get("refuse").map(|it| place.tree(it, notes)),
    })
}

fn read_zone(tree: &Tree, notes: &mut Notes) -> Option<TimeZone> {
    let name = notes.text(tree)?;
    let zone = TimeZone::get(name).ok();
    if zone.is_none() {
        notes.error(Code::UnknownName, &tree.span, format!("there is no time zone `{name}`")).help =
            Some("write a name of the time zone database, e.g. `America/Los_Angeles`".to_owned());
    }
    zone
}

/// Gathers the refusals that examples show, the throttled ones first: a fault of their status looks like them.
fn shown_faults(manifest: &Manifest) -> Vec<(u16, Value)> {
    let mut found = Vec::new();
    for operation in manifest.operations.values() {
        for example in operation.examples.iter().filter(|example| example.error.is_some()) {
            let throttled = example.error.as_deref().is_some_and(|error| matches!(error, "throttled" | "auth"));
            for exchange in example.exchanges.iter().filter(|exchange| !exchange.is_lost()) {
                let status = contract::response(&exchange.reply).status;
                if status >= 400 {
                    found.push((throttled, status, exchange.reply.clone()));
                }
            }
        }
    }
    found.sort_by_key(|(throttled, ..)| !throttled);
    found.into_iter().map(|(_, status, reply)| (status, reply)).collect()
}

/// Makes an answer of what a manifest writes, evaluated: `{ status, headers, json | text | xml | csv | bytes }`.
#[must_use]
pub fn reply_of(written: &Value) -> Reply {
    let response = contract::response(written);
    Reply { status: response.status, headers: response.headers, body: response.body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_after_its_length_or_at_midnight_of_its_zone() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let evening = at("2026-10-24T21:30:00Z");
        assert_eq!(Per::Length(Duration::from_secs(900)).end(evening), at("2026-10-24T21:45:00Z"));
        assert_eq!(Per::Day(TimeZone::UTC).end(evening), at("2026-10-25T00:00:00Z"));
        // Half past eleven in the night in which the clocks are set back: the day that follows has 25 hours.
        let berlin = Per::Day(TimeZone::get("Europe/Berlin").unwrap());
        assert_eq!(berlin.end(evening), at("2026-10-24T22:00:00Z"));
        assert_eq!(berlin.end(at("2026-10-24T22:00:00Z")), at("2026-10-25T23:00:00Z"));
    }
}
