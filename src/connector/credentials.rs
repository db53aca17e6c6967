//! What a request shows who it is from: the kinds of auth whose secrets are given, not fetched.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::judge::Failure;
use super::manifest::OutcomeKind;
use super::manifest::Patch;
use super::manifest::place::Place;
use super::manifest::read_patch;
use super::notes::Notes;
use super::notes::first_line;
use super::render;
use super::runtime::Link;
use crate::diag::Code;
use crate::diag::did_you_mean;
use crate::http::Request;
use crate::http::with_query;
use crate::model::Value;
use crate::template::Scope;
use crate::template::TemplateTree;
use crate::yaml::Tree;

/// The kinds of auth, each with what a connection may say for it beside what expressions read.
pub const KINDS: &[(&str, &[&str])] = &[
    ("none", &[]),
    ("basic", &["user", "password"]),
    ("bearer", &["token"]),
    ("api_key", &["api_key"]),
    ("oauth1", &["consumer_key", "consumer_secret", "token", "token_secret"]),
    ("sigv4", &["access_key", "secret_key", "session_token"]),
    (
        "oauth2",
        &[
            "client_id",
            "client_secret",
            "scopes",
            "access_token",
            "refresh_token",
            "private_key",
            "certificate_id",
            "username",
            "redirect_uri",
            "flow",
        ],
    ),
    ("custom", &[]),
];

/// One kind of auth of a manifest.
#[derive(Debug)]
pub struct Kind {
    pub name: Arc<str>,
    way: Way,
    send: Option<Patch>,
}

/// How the secrets get into a request.
#[derive(Debug)]
enum Way {
    /// By the patch alone.
    Patch,
    Basic {
        user: TemplateTree,
        password: TemplateTree,
    },
    /// In the header `Authorization`.
    Bearer(TemplateTree),
    Header(Arc<str>, TemplateTree),
    Query(Arc<str>, TemplateTree),
    /// Needs what is not there yet.
    Later(&'static str),
}

/// Reads the section `auth` of a manifest.
pub(super) fn read(tree: &Tree, place: &Place<'_>, notes: &mut Notes) -> Vec<Kind> {
    if tree.as_text() == Some("none") {
        return Vec::new();
    }
    if !notes.mapping(tree) {
        return Vec::new();
    }
    let mut kinds = Vec::new();
    for entry in tree.entries() {
        if !KINDS.iter().any(|(kind, _)| *kind == &*entry.key) {
            let known = KINDS.iter().map(|(kind, _)| *kind);
            let listed = known.clone().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(", ");
            let near = did_you_mean(&entry.key, known).map(|near| format!("did you mean `{near}`?"));
            notes.error(Code::UnknownKey, &entry.key_span, format!("there is no kind of auth `{}`", entry.key)).help =
                Some(near.unwrap_or_else(|| format!("known here: {listed}")));
            continue;
        }
        if let Some(kind) = read_kind(&entry.key, &entry.value, place, notes) {
            kinds.push(kind);
        }
    }
    kinds
}

fn read_kind(name: &Arc<str>, tree: &Tree, place: &Place<'_>, notes: &mut Notes) -> Option<Kind> {
    let done = |way, send| Some(Kind { name: name.clone(), way, send });
    if tree.is_null() {
        return done(by_name(name), None);
    }
    let send = tree.get("send").map(|send| read_patch(send, place, notes));
    let keys: &[&str] = match &**name {
        "none" => &["send"],
        "basic" => &["user", "password", "send"],
        "bearer" => &["token", "send"],
        "api_key" => &["header", "query", "value", "prefix", "send"],
        "custom" => &["properties", "send"],
        _ => return done(Way::Later(later(name)), send),
    };
    if !notes.keys(tree, keys) {
        return None;
    }
    let value = |key: &str, default: &str, notes: &mut Notes| match tree.get(key) {
        Some(tree) => place.tree(tree, notes),
        None => expression(default),
    };
    let way = match &**name {
        "basic" => {
            Way::Basic { user: value("user", "auth.user", notes), password: value("password", "auth.password", notes) }
        }
        "bearer" => Way::Bearer(value("token", "auth.token", notes)),
        "api_key" => {
            let secret = value("value", "auth.api_key", notes);
            match (tree.get("header").and_then(Tree::as_text), tree.get("query").and_then(Tree::as_text)) {
                (Some(header), None) => Way::Header(header.to_lowercase().into(), secret),
                (None, Some(query)) => Way::Query(query.into(), secret),
                _ => {
                    let message = "`api_key` goes into one of `header` and `query`";
                    notes.error(Code::MissingKey, &first_line(&tree.span), message).help =
                        Some("write `api_key: { header: x-api-key }`".to_owned());
                    return None;
                }
            }
        }
        _ => Way::Patch,
    };
    done(way, send)
}

fn by_name(name: &str) -> Way {
    match name {
        "basic" => Way::Basic { user: expression("auth.user"), password: expression("auth.password") },
        "bearer" => Way::Bearer(expression("auth.token")),
        "none" | "custom" => Way::Patch,
        other => Way::Later(later(other)),
    }
}

fn later(name: &str) -> &'static str {
    match name {
        "oauth1" => "signing by OAuth 1.0a",
        "sigv4" => "signing by SigV4",
        _ => "fetching tokens",
    }
}

fn expression(text: &str) -> TemplateTree {
    let template = crate::template::Template::parse_lenient(&format!("{{{{ {text} }}}}"));
    template.map_or(TemplateTree::Literal(Value::Null), TemplateTree::Template)
}

/// What a connection may use for now.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Root `auth`.
    pub auth: Value,
    pub version: u64,
    kind: Arc<str>,
}

impl Grant {
    /// Takes what the project file says.
    #[must_use]
    pub fn of(link: &Link) -> Self {
        let connection = link.connection();
        let mut auth = connection.auth.as_map().cloned().unwrap_or_default();
        auth.entry("kind".into()).or_insert_with(|| Value::from(&*connection.kind));
        Self { auth: Value::from(auth), version: 0, kind: connection.kind.clone() }
    }

    fn kind<'l>(&self, link: &'l Link) -> Option<&'l Kind> {
        link.manifest.auth.iter().find(|kind| kind.name == self.kind)
    }

    /// Returns the patch of the kind of auth.
    #[must_use]
    pub fn patch<'l>(&self, link: &'l Link) -> Option<&'l Patch> {
        self.kind(link)?.send.as_ref()
    }

    /// Puts what is secret into a request.
    ///
    /// # Errors
    /// A secret that is not there.
    pub fn apply(&self, link: &Link, request: &mut Request, scope: &Scope) -> Result<(), Failure> {
        let Some(kind) = self.kind(link) else { return Ok(()) };
        let text = |tree: &TemplateTree, what: &str| {
            let value = render::written(tree, scope)?.map(|value| value.revealed().to_text());
            value.filter(|text| !text.is_empty()).ok_or_else(|| missing(link, what))
        };
        match &kind.way {
            Way::Patch => {}
            Way::Basic { user, password } => {
                let (user, password) = (text(user, "user")?, text(password, "password")?);
                let encoded = STANDARD.encode(format!("{user}:{password}"));
                put(request, "authorization", format!("Basic {encoded}"));
            }
            Way::Bearer(token) => put(request, "authorization", format!("Bearer {}", text(token, "token")?)),
            Way::Header(name, value) => put(request, name, text(value, "api_key")?),
            Way::Query(name, value) => {
                let pair = (name.to_string(), text(value, "api_key")?);
                request.url = with_query(&request.url, &[pair]).map_err(Failure::invalid)?;
            }
            // A token that is given is used as it is.
            Way::Later(what) => match self.auth.get("access_token").filter(|token| !token.is_null()) {
                Some(token) => put(request, "authorization", format!("Bearer {}", token.revealed().to_text())),
                None => {
                    let message = format!("connection `{}`: {what} does not work yet", link.connection().name);
                    return Err(Failure::new(OutcomeKind::AuthBroken, message));
                }
            },
        }
        Ok(())
    }

    /// Tells whether a refused one can be renewed.
    #[must_use]
    pub fn can_renew(&self) -> bool {
        false
    }
}

/// Puts a header in; what the manifest wrote under this name stays.
fn put(request: &mut Request, name: &str, value: String) {
    if !request.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)) {
        request.headers.push((name.to_owned(), value));
    }
}

fn missing(link: &Link, what: &str) -> Failure {
    let name = &link.connection().name;
    let message = format!("connection `{name}` has no `{what}`: add `auth: {{ {what}: … }}` to it in the project file");
    Failure::new(OutcomeKind::AuthBroken, message)
}
