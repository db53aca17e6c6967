//! `auth.oauth2` of a manifest.

use std::sync::Arc;

use crate::connector::manifest::Patch;
use crate::connector::manifest::RequestSpec;
use crate::connector::manifest::place::Place;
use crate::connector::manifest::read_patch;
use crate::connector::manifest::read_request;
use crate::connector::notes::Notes;
use crate::connector::notes::first_line;
use crate::connector::sign::jwt;
use crate::diag::Code;
use crate::model::Duration;
use crate::template::Template;
use crate::template::TemplateTree;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

const KEYS: &[&str] = &[
    "flow",
    "authorize_url",
    "authorize",
    "token_url",
    "device_url",
    "client_auth",
    "scopes",
    "scope_separator",
    "pkce",
    "redirect",
    "revoke",
    "jwt",
    "token",
    "exchange",
    "refresh",
    "send",
];

/// How a token is first had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    AuthorizationCode,
    ClientCredentials,
    JwtBearer,
    Device,
}

const FLOWS: &[(&str, Flow)] = &[
    ("authorization_code", Flow::AuthorizationCode),
    ("client_credentials", Flow::ClientCredentials),
    ("jwt_bearer", Flow::JwtBearer),
    ("device", Flow::Device),
];

/// How a client shows who it is to the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientAuth {
    /// By HTTP Basic, id and secret percent-encoded (RFC 6749, 2.3.1).
    Basic,
    /// The same without the encoding.
    BasicRaw,
    /// In the form.
    Post,
    /// By its id alone: a public client.
    None,
    /// By an assertion that it signs (RFC 7523, 2.2).
    PrivateKeyJwt,
}

const CLIENT_AUTHS: &[(&str, ClientAuth)] = &[
    ("basic", ClientAuth::Basic),
    ("basic_raw", ClientAuth::BasicRaw),
    ("post", ClientAuth::Post),
    ("none", ClientAuth::None),
    ("private_key_jwt", ClientAuth::PrivateKeyJwt),
];

/// What a manifest says of OAuth 2.0.
#[derive(Debug)]
pub struct Oauth2 {
    /// The first is the default; a connection may name another.
    pub flows: Vec<Flow>,
    pub authorize_url: Option<Template>,
    /// What is added to the query of the authorization URL.
    pub authorize: Option<TemplateTree>,
    pub token_url: Option<Template>,
    /// Where a device asks for its code (RFC 8628).
    pub device_url: Option<Template>,
    /// A word of `ClientAuth`; by default `basic` with a secret, `none` without.
    pub client_auth: Option<Template>,
    pub scopes: Option<TemplateTree>,
    pub scope_separator: Arc<str>,
    pub pkce: bool,
    /// `loopback`, or the URL that is registered with the provider.
    pub redirect: Option<Template>,
    pub revoke: Option<Template>,
    pub jwt: Option<Jwt>,
    /// What of a token answer is kept, beside the names of the RFC.
    pub token: Option<TemplateTree>,
    /// Requests after the standard one, or instead of it where there is no `token_url`.
    pub exchange: Vec<Exchange>,
    /// Instead of the standard refresh.
    pub refresh: Option<Refresh>,
}

/// An assertion that is signed.
#[derive(Debug)]
pub struct Jwt {
    /// The first with which the key can sign is taken.
    pub algorithms: Vec<Arc<str>>,
    pub kid: Option<Template>,
    pub ttl: Duration,
    pub claims: Option<TemplateTree>,
}

/// A request of the chain from a code to a token that lasts.
#[derive(Debug)]
pub struct Exchange {
    pub request: RequestSpec,
    pub token: Option<TemplateTree>,
}

/// Renewal by a request of its own, and by age instead of on a refusal.
#[derive(Debug)]
pub struct Refresh {
    pub request: RequestSpec,
    pub token: Option<TemplateTree>,
    /// Whether the connection's tokens are renewed at all.
    pub when: Option<Template>,
    /// Renewed when the token is as old.
    pub due: Option<Duration>,
    /// Never renewed before it is as old.
    pub not_before: Option<Duration>,
}

impl Flow {
    /// Finds a flow by its word.
    #[must_use]
    pub fn by_word(word: &str) -> Option<Self> {
        FLOWS.iter().find(|(own, _)| *own == word).map(|(_, flow)| *flow)
    }

    #[must_use]
    pub fn word(self) -> &'static str {
        FLOWS.iter().find(|(_, flow)| *flow == self).map_or("", |(word, _)| word)
    }

    /// Tells whether a person has to agree.
    #[must_use]
    pub fn needs_consent(self) -> bool {
        matches!(self, Self::AuthorizationCode | Self::Device)
    }
}

impl ClientAuth {
    /// Finds a way by its word.
    #[must_use]
    pub(super) fn by_word(word: &str) -> Option<Self> {
        CLIENT_AUTHS.iter().find(|(own, _)| *own == word).map(|(_, way)| *way)
    }
}

/// Reads `auth.oauth2`, and the patch by which its token gets into requests.
pub(in crate::connector) fn read(
    tree: &Tree,
    place: &Place<'_>,
    bases: &[String],
    notes: &mut Notes,
) -> Option<(Oauth2, Option<Patch>)> {
    if !notes.keys(tree, KEYS) {
        return None;
    }
    let answered = place.answered();
    let template = |key: &str, notes: &mut Notes| tree.get(key).and_then(|it| place.template(it, notes));
    let value = |key: &str, notes: &mut Notes| tree.get(key).map(|it| place.tree(it, notes));
    let flows = tree.get("flow").map(|it| read_flows(it, notes)).unwrap_or_default();
    if tree.get("flow").is_none() {
        notes.error(Code::MissingKey, &first_line(&tree.span), "key `flow` is missing").help =
            Some("say how a token is had, e.g. `flow: authorization_code`".to_owned());
    }
    let oauth2 = Oauth2 {
        authorize_url: template("authorize_url", notes),
        authorize: value("authorize", notes),
        token_url: template("token_url", notes),
        device_url: template("device_url", notes),
        client_auth: tree.get("client_auth").and_then(|it| read_client_auth(it, place, notes)),
        scopes: value("scopes", notes),
        scope_separator: tree.get("scope_separator").and_then(|it| notes.text(it)).unwrap_or(" ").into(),
        pkce: tree.get("pkce").and_then(|it| notes.flag(it)).unwrap_or(true),
        redirect: template("redirect", notes),
        revoke: template("revoke", notes),
        jwt: tree.get("jwt").and_then(|it| read_jwt(it, place, notes)),
        token: tree.get("token").map(|it| answered.tree(it, notes)),
        exchange: read_exchanges(tree, place, bases, notes),
        refresh: tree.get("refresh").and_then(|it| read_refresh(it, place, bases, notes)),
        flows,
    };
    complete(&oauth2, tree, notes);
    let send = tree.get("send").map(|send| read_patch(send, place, notes));
    Some((oauth2, send))
}

/// Says what a flow needs and the manifest does not give.
fn complete(oauth2: &Oauth2, tree: &Tree, notes: &mut Notes) {
    let mut missing = |key: &str, flow: Flow| {
        let message = format!("flow `{}` needs `{key}`", flow.word());
        notes.error(Code::MissingKey, &first_line(&tree.span), message).help = Some(format!("add `{key}:`"));
    };
    for flow in &oauth2.flows {
        // The code may be exchanged by a request of the vendor's own alone.
        let by_chain = *flow == Flow::AuthorizationCode && !oauth2.exchange.is_empty();
        if oauth2.token_url.is_none() && !by_chain {
            missing("token_url", *flow);
        }
        match flow {
            Flow::Device if oauth2.device_url.is_none() => missing("device_url", *flow),
            Flow::JwtBearer if oauth2.jwt.is_none() => missing("jwt", *flow),
            _ => {}
        }
    }
}

fn read_flows(tree: &Tree, notes: &mut Notes) -> Vec<Flow> {
    let single = std::slice::from_ref(tree);
    let items = if matches!(tree.kind, TreeKind::Sequence(_)) { tree.items() } else { single };
    items.iter().filter_map(|item| notes.word(item, FLOWS)).collect()
}

fn read_client_auth(tree: &Tree, place: &Place<'_>, notes: &mut Notes) -> Option<Template> {
    if !tree.as_text().is_some_and(|text| text.contains("{{")) {
        notes.word(tree, CLIENT_AUTHS)?;
    }
    place.template(tree, notes)
}

fn read_jwt(tree: &Tree, place: &Place<'_>, notes: &mut Notes) -> Option<Jwt> {
    if !notes.keys(tree, &["alg", "kid", "ttl", "claims"]) {
        return None;
    }
    let known: Vec<(&str, &str)> = jwt::ALGORITHMS.iter().map(|alg| (*alg, *alg)).collect();
    let algorithms = match tree.get("alg") {
        None => vec!["RS256".into()],
        Some(alg) => {
            let single = std::slice::from_ref(alg);
            let items = if matches!(alg.kind, TreeKind::Sequence(_)) { alg.items() } else { single };
            items.iter().filter_map(|item| notes.word(item, &known).map(Arc::from)).collect()
        }
    };
    Some(Jwt {
        algorithms,
        kid: tree.get("kid").and_then(|it| place.template(it, notes)),
        ttl: tree.get("ttl").and_then(|it| notes.duration(it)).unwrap_or(Duration::from_secs(180)),
        claims: tree.get("claims").map(|it| place.tree(it, notes)),
    })
}

fn read_exchanges(tree: &Tree, place: &Place<'_>, bases: &[String], notes: &mut Notes) -> Vec<Exchange> {
    let Some(list) = tree.get("exchange").filter(|list| notes.sequence(list)) else { return Vec::new() };
    let mut read = Vec::new();
    for item in list.items() {
        if !notes.keys(item, &["base", "request", "token"]) {
            continue;
        }
        if let Some((request, token)) = read_step(item, place, bases, notes) {
            read.push(Exchange { request, token });
        }
    }
    read
}

fn read_refresh(tree: &Tree, place: &Place<'_>, bases: &[String], notes: &mut Notes) -> Option<Refresh> {
    if !notes.keys(tree, &["base", "request", "token", "when", "due", "not_before"]) {
        return None;
    }
    let (request, token) = read_step(tree, place, bases, notes)?;
    let duration = |key: &str, notes: &mut Notes| tree.get(key).and_then(|it| notes.duration(it));
    let (due, not_before) = (duration("due", notes), duration("not_before", notes));
    let when = tree.get("when").and_then(|it| place.template(it, notes));
    Some(Refresh { request, token, when, due, not_before })
}

fn read_step(
    tree: &Tree,
    place: &Place<'_>,
    bases: &[String],
    notes: &mut Notes,
) -> Option<(RequestSpec, Option<TemplateTree>)> {
    let Some(request) = tree.get("request") else {
        notes.error(Code::MissingKey, &first_line(&tree.span), "key `request` is missing").help =
            Some("say what is sent: `request: { post: /oauth/token, form: { … } }`".to_owned());
        return None;
    };
    let mut request = read_request(request, place, bases, notes)?;
    if let Some(base) = tree.get("base") {
        let name = notes.text(base)?;
        if !bases.iter().any(|known| known == name) {
            let near = crate::diag::did_you_mean(name, bases.iter().map(String::as_str));
            notes.error(Code::UnknownName, &base.span, format!("`base_url` has no `{name}`")).help =
                near.map(|near| format!("did you mean `{near}`?"));
        }
        request.base = Some(name.into());
    }
    let token = tree.get("token").map(|it| place.answered().tree(it, notes));
    Some((request, token))
}
