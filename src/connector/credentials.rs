//! What a request shows who it is from: the kinds of auth, and how their secrets get into a request.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use super::auth;
use super::auth::Oauth2;
use super::auth::custody;
use super::auth::custody::Held;
use super::call::Means;
use super::judge::Failure;
use super::manifest::OutcomeKind;
use super::manifest::Patch;
use super::manifest::place::Place;
use super::manifest::read_patch;
use super::manifest::read_schema;
use super::notes::Notes;
use super::notes::first_line;
use super::render;
use super::runtime::Link;
use super::sign::Unsigned;
use super::sign::oauth1;
use super::sign::sigv4;
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
    /// JSON Schema of what a connection says for it, where the manifest gives one.
    pub given: Option<Json>,
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
    /// Signed with two secrets, OAuth 1.0a.
    Oauth1(Box<Oauth1>),
    /// Signed, AWS Signature Version 4.
    Sigv4(Box<Sigv4>),
    /// In the header `Authorization`, unless the kind says where.
    Oauth2(Box<Oauth2>),
}

#[derive(Debug)]
struct Oauth1 {
    consumer_key: TemplateTree,
    consumer_secret: TemplateTree,
    token: TemplateTree,
    token_secret: TemplateTree,
    realm: Option<TemplateTree>,
}

#[derive(Debug)]
struct Sigv4 {
    service: TemplateTree,
    region: TemplateTree,
    access_key: TemplateTree,
    secret_key: TemplateTree,
    session_token: TemplateTree,
    unsigned_payload: bool,
}

/// Where a request carries what shows who it is from, for the side that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// Somewhere that only the manifest knows.
    Anywhere,
    /// In a header, with this value; nothing where the value is a signature.
    Header(Arc<str>, Option<String>),
    /// In the query, with this value.
    Query(Arc<str>, Option<String>),
    /// A token that was issued.
    Token,
}

/// Reads the section `auth` of a manifest.
///
/// Its expressions may read `base_url`, too: token endpoints often stand below it. `bases` are its names.
pub(super) fn read(tree: &Tree, place: &Place<'_>, bases: &[String], notes: &mut Notes) -> Vec<Kind> {
    let place = &place.and(&["base_url"]);
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
        if let Some(kind) = read_kind(&entry.key, &entry.value, place, bases, notes) {
            kinds.push(kind);
        }
    }
    kinds
}

fn read_kind(name: &Arc<str>, tree: &Tree, place: &Place<'_>, bases: &[String], notes: &mut Notes) -> Option<Kind> {
    if &**name == "oauth2" {
        let (oauth2, send) = auth::read(tree, place, bases, notes)?;
        return Some(Kind { name: name.clone(), given: None, way: Way::Oauth2(Box::new(oauth2)), send });
    }
    let keys: &[&str] = match &**name {
        "basic" => &["user", "password", "send"],
        "bearer" => &["token", "send"],
        "api_key" => &["header", "query", "value", "send"],
        "oauth1" => &["signature", "realm", "consumer_key", "consumer_secret", "token", "token_secret", "send"],
        "sigv4" => &["service", "region", "access_key", "secret_key", "session_token", "unsigned_payload", "send"],
        "custom" => &["properties", "send"],
        _ => &["send"],
    };
    if !tree.is_null() && !notes.keys(tree, keys) {
        return None;
    }
    let own = |key: &str, notes: &mut Notes| tree.get(key).map(|tree| place.tree(tree, notes));
    // What the manifest does not say, the connection says by the same name.
    let value = |key: &str, notes: &mut Notes| {
        own(key, notes).unwrap_or_else(|| {
            place.reads_auth(key);
            expression(&format!("auth.{key}"))
        })
    };
    let way = match &**name {
        "basic" => Way::Basic { user: value("user", notes), password: value("password", notes) },
        "bearer" => Way::Bearer(value("token", notes)),
        "api_key" => {
            let secret = own("value", notes).unwrap_or_else(|| {
                place.reads_auth("api_key");
                expression("auth.api_key")
            });
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
        "oauth1" => {
            if let Some(signature) = tree.get("signature") {
                notes.word(signature, &[("HMAC-SHA256", ())]);
            }
            Way::Oauth1(Box::new(Oauth1 {
                consumer_key: value("consumer_key", notes),
                consumer_secret: value("consumer_secret", notes),
                token: value("token", notes),
                token_secret: value("token_secret", notes),
                realm: own("realm", notes),
            }))
        }
        "sigv4" => Way::Sigv4(Box::new(Sigv4 {
            service: own("service", notes).unwrap_or_else(|| {
                notes.error(Code::MissingKey, &first_line(&tree.span), "`sigv4` needs `service`").help =
                    Some("add `service: s3`".to_owned());
                TemplateTree::Literal(Value::Null)
            }),
            region: own("region", notes).unwrap_or(TemplateTree::Literal(Value::Null)),
            access_key: value("access_key", notes),
            secret_key: value("secret_key", notes),
            session_token: value("session_token", notes),
            unsigned_payload: tree.get("unsigned_payload").and_then(|it| notes.flag(it)).unwrap_or(false),
        })),
        _ => Way::Patch,
    };
    let send = tree.get("send").map(|send| read_patch(send, place, notes));
    let given = tree.get("properties").filter(|properties| notes.mapping(properties)).map(|properties| {
        let read = properties.entries().iter().map(|entry| {
            place.reads_auth(&entry.key);
            (entry.key.to_string(), read_schema(&entry.value, place, notes))
        });
        serde_json::json!({ "properties": read.collect::<serde_json::Map<_, _>>(), "additionalProperties": true })
    });
    Some(Kind { name: name.clone(), given, way, send })
}

impl Kind {
    /// Says where a request carries it, and what, with the credentials of this scope.
    #[must_use]
    pub fn carried(&self, scope: &Scope) -> Carried {
        let text = |tree: &TemplateTree| {
            let value = render::written(tree, scope).ok().flatten();
            value.map(|value| value.revealed().to_text()).filter(|text| !text.is_empty())
        };
        let authorization = |value| Carried::Header("authorization".into(), value);
        match &self.way {
            Way::Patch => Carried::Anywhere,
            Way::Basic { user, password } => authorization(
                text(user)
                    .zip(text(password))
                    .map(|(user, password)| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))),
            ),
            Way::Bearer(token) => authorization(text(token).map(|token| format!("Bearer {token}"))),
            Way::Oauth1(_) | Way::Sigv4(_) => authorization(None),
            Way::Header(name, value) => Carried::Header(name.clone(), text(value)),
            Way::Query(name, value) => Carried::Query(name.clone(), text(value)),
            Way::Oauth2(_) => Carried::Token,
        }
    }

    /// Returns what it says of OAuth 2.0.
    #[must_use]
    pub fn oauth2(&self) -> Option<&Oauth2> {
        match &self.way {
            Way::Oauth2(oauth2) => Some(oauth2),
            _ => None,
        }
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
    /// That of a token that was fetched.
    pub version: i64,
    kind: Arc<str>,
    renewable: bool,
}

impl Grant {
    /// Takes what the project file says.
    #[must_use]
    pub fn of(link: &Link) -> Self {
        let connection = link.connection();
        let mut auth = connection.auth.as_map().cloned().unwrap_or_default();
        auth.entry("kind".into()).or_insert_with(|| Value::from(&*connection.kind));
        Self { auth: Value::from(auth), version: 0, kind: connection.kind.clone(), renewable: false }
    }

    /// Takes a token that was fetched, too.
    #[must_use]
    pub fn of_token(link: &Link, oauth2: &Oauth2, held: &Held) -> Self {
        Self {
            auth: Value::from(custody::auth_root(link, held)),
            version: held.version,
            kind: link.connection().kind.clone(),
            renewable: custody::can_renew(link, oauth2, held),
        }
    }

    fn kind<'l>(&self, link: &'l Link) -> Option<&'l Kind> {
        link.manifest.auth.iter().find(|kind| kind.name == self.kind)
    }

    /// Returns the patch of the kind of auth.
    #[must_use]
    pub fn patch<'l>(&self, link: &'l Link) -> Option<&'l Patch> {
        self.kind(link)?.send.as_ref()
    }

    /// Tells whether it signs the body, which must be known then.
    #[must_use]
    pub fn signs_body(&self, link: &Link) -> bool {
        match self.kind(link).map(|kind| &kind.way) {
            Some(Way::Sigv4(own)) => !own.unsigned_payload,
            _ => false,
        }
    }

    /// Puts what is secret into a request, which must be whole: a signature covers all of it.
    ///
    /// # Errors
    /// A secret that is not there, a request that cannot be signed.
    pub fn apply(&self, link: &Link, means: &Means<'_>, request: &mut Request, scope: &Scope) -> Result<(), Failure> {
        let Some(kind) = self.kind(link) else { return Ok(()) };
        let given = |tree: &TemplateTree| -> Result<Option<String>, Failure> {
            let value = render::written(tree, scope)?.map(|value| value.revealed().to_text());
            Ok(value.filter(|text| !text.is_empty()))
        };
        let text = |tree: &TemplateTree, what: &str| given(tree)?.ok_or_else(|| missing(link, what));
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
            Way::Oauth1(own) => {
                let (consumer_key, consumer_secret) =
                    (text(&own.consumer_key, "consumer_key")?, text(&own.consumer_secret, "consumer_secret")?);
                let (token, token_secret) = (text(&own.token, "token")?, text(&own.token_secret, "token_secret")?);
                let realm = own.realm.as_ref().map(given).transpose()?.flatten();
                let settings = oauth1::Settings {
                    consumer_key: &consumer_key,
                    consumer_secret: &consumer_secret,
                    token: &token,
                    token_secret: &token_secret,
                    realm: realm.as_deref(),
                };
                let nonce = format!("{:032x}", means.system.random.bits());
                let signed = oauth1::sign(&unsigned(request), &settings, means.system.clock.now(), &nonce);
                request.headers.extend(signed.map_err(Failure::invalid)?);
            }
            Way::Sigv4(own) => {
                let (access_key, secret_key) =
                    (text(&own.access_key, "access_key")?, text(&own.secret_key, "secret_key")?);
                let session_token = given(&own.session_token)?;
                let service = given(&own.service)?.ok_or_else(|| Failure::invalid("`sigv4` names no service"))?;
                let region = given(&own.region)?.unwrap_or_else(|| "us-east-1".to_owned());
                let settings = sigv4::Settings {
                    service: &service,
                    region: &region,
                    access_key: &access_key,
                    secret_key: &secret_key,
                    session_token: session_token.as_deref(),
                    unsigned_payload: own.unsigned_payload,
                };
                let signed = sigv4::sign(&unsigned(request), &settings, means.system.clock.now());
                request.headers.extend(signed.map_err(Failure::invalid)?);
            }
            // The kind itself says where the token goes.
            Way::Oauth2(_) if kind.send.is_some() => {}
            Way::Oauth2(_) => {
                let token = self.auth.get("access_token").filter(|token| !token.is_null());
                let token = token.ok_or_else(|| missing(link, "access_token"))?;
                put(request, "authorization", format!("Bearer {}", token.revealed().to_text()));
            }
        }
        Ok(())
    }

    /// Tells whether a refused one can be renewed.
    #[must_use]
    pub fn can_renew(&self) -> bool {
        self.renewable
    }
}

fn unsigned(request: &Request) -> Unsigned<'_> {
    Unsigned { method: &request.method, url: &request.url, headers: &request.headers, body: &request.body }
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
