//! Token requests: what is sent to a provider, and what its answer means. None of it is ever recorded.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::spec::ClientAuth;
use super::spec::Flow;
use super::spec::Jwt;
use super::spec::Oauth2;
use crate::connector::body::form;
use crate::connector::call::Means;
use crate::connector::judge;
use crate::connector::judge::Failure;
use crate::connector::manifest::RequestSpec;
use crate::connector::render;
use crate::connector::runtime::Link;
use crate::connector::send;
use crate::connector::sign::jwt;
use crate::connector::url;
use crate::http::Origin;
use crate::http::Request;
use crate::http::Response;
use crate::model::Duration;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::parse_json;
use crate::template::Scope;
use crate::template::Template;
use crate::template::TemplateTree;

/// Shorter than the right to renew lasts, so that nobody else renews meanwhile.
const TIMEOUT: Duration = Duration::from_secs(20);
const MAX_ANSWER: u64 = 1024 * 1024;
/// The longest piece of a provider's words that a message quotes, in characters: it may repeat what it was sent.
const MAX_QUOTED: usize = 160;
/// What of an answer is kept by itself (RFC 6749, 5.1).
const KEPT: &[&str] = &["access_token", "refresh_token", "token_type", "expires_in", "scope", "id_token"];

/// Why there is no token.
#[derive(Debug)]
pub(super) enum Denied {
    /// What was shown is bad: spent, expired, revoked. A person has to agree again.
    Refused(String),
    /// The client or what it asks for is wrong; nothing was spent.
    Wrong(String),
    /// Not now; nothing was spent.
    Unavailable { reason: String, wait: Option<Duration> },
    /// No answer, or none that says whether anything was done.
    Lost(String),
    /// The person has not agreed yet (RFC 8628); the flag asks for a slower pace.
    Pending { slower: bool },
}

impl From<Failure> for Denied {
    fn from(failure: Failure) -> Self {
        Self::Wrong(failure.message)
    }
}

impl From<crate::template::EvalError> for Denied {
    fn from(error: crate::template::EvalError) -> Self {
        Self::Wrong(error.message)
    }
}

/// Who asks for a token, and with what.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    pub link: &'a Link,
    pub means: &'a Means<'a>,
    pub oauth2: &'a Oauth2,
    /// Root `auth`: what the connection says and what was learned so far.
    pub auth: Map,
}

impl Asker<'_> {
    /// Makes the scope of the manifest's expressions; `base_url` has those bases that have a value already.
    pub(super) fn scope(&self) -> Scope {
        let mut roots = self.link.settings();
        roots.push(("auth", Value::from(self.auth.clone())));
        let mut scope = self.link.scope(self.means, roots);
        let bases = self.link.manifest.base_url.keys().filter_map(|name| {
            let base = url::base(&self.link.manifest, Some(name), &scope).ok()?;
            Some((name.clone(), Value::from(base.url)))
        });
        let bases = Value::map(bases.collect::<Vec<_>>());
        scope.locals.push(("base_url", bases));
        scope
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        let value = self.auth.get(key).filter(|value| !value.is_null())?;
        Some(value.revealed().to_text()).filter(|text| !text.is_empty())
    }

    fn needed(&self, key: &str) -> Result<String, Denied> {
        self.text(key).ok_or_else(|| {
            let name = &self.link.connection().name;
            let help = format!("add `auth: {{ {key}: … }}` to it in the project file");
            Denied::Wrong(format!("connection `{name}` has no `{key}`: {help}"))
        })
    }

    /// Returns the scopes that are asked for, as the provider writes a list of them.
    pub(super) fn scopes(&self) -> Result<Option<String>, Denied> {
        let given = self.auth.get("scopes").filter(|scopes| !scopes.is_null()).cloned();
        let scopes = match (given, &self.oauth2.scopes) {
            (Some(given), _) => given,
            (None, Some(tree)) => render::value(tree, &self.scope())?,
            (None, None) => return Ok(None),
        };
        let text = match scopes.revealed() {
            Value::List(items) => {
                let items = items.iter().filter(|item| !item.is_null()).map(Value::to_text);
                items.collect::<Vec<_>>().join(&self.oauth2.scope_separator)
            }
            other => other.to_text(),
        };
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// Evaluates a URL of the manifest; only one that is protected, or of a private network, is asked for tokens.
    pub(super) fn url(&self, template: &Template, what: &str) -> Result<String, Denied> {
        let text = template.eval(&self.scope())?.revealed().to_text();
        let origin = Origin::of(&text).ok_or_else(|| Denied::Wrong(format!("`{what}` is not a URL")))?;
        if origin.scheme != "https" && !self.link.connection().private {
            let message = format!("`{what}` is not https: a token would travel in clear");
            return Err(Denied::Wrong(message));
        }
        Ok(text)
    }

    fn token_url(&self) -> Result<String, Denied> {
        match &self.oauth2.token_url {
            Some(template) => self.url(template, "token_url"),
            None => Err(Denied::Wrong("the manifest gives no `token_url`".to_owned())),
        }
    }

    /// Gets a token by a flow that needs no person.
    pub(super) async fn alone(&self, flow: Flow) -> Result<Map, Denied> {
        let scope = self.scopes()?;
        let scope = scope.map(|scope| ("scope", scope));
        match flow {
            Flow::ClientCredentials => {
                let form = [("grant_type", "client_credentials".to_owned())];
                self.standard(form.into_iter().chain(scope).collect()).await
            }
            Flow::JwtBearer => {
                let Some(jwt) = &self.oauth2.jwt else { return Err(Denied::Wrong("there is no `jwt`".to_owned())) };
                let assertion = self.assertion(jwt, Vec::new())?;
                let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned();
                self.standard(vec![("grant_type", grant), ("assertion", assertion)]).await
            }
            Flow::AuthorizationCode | Flow::Device => {
                let name = &self.link.connection().name;
                Err(Denied::Refused(format!("nobody has logged in: `pipewright auth login {name}`")))
            }
        }
    }

    /// Exchanges a refresh token.
    pub(super) async fn refresh(&self, refresh_token: &str) -> Result<Map, Denied> {
        let form = vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", refresh_token.to_owned())];
        self.standard(form).await
    }

    /// Sends a form to the token endpoint, with the client's authentication, and reads the answer.
    pub(super) async fn standard(&self, form: Vec<(&str, String)>) -> Result<Map, Denied> {
        let url = self.token_url()?;
        let response = self.post(&url, form, Some(&url)).await?;
        self.read(&response, self.oauth2.token.as_ref())
    }

    /// Sends a form to an endpoint of the provider. `audience` is whom an assertion is for.
    pub(super) async fn post(
        &self,
        url: &str,
        form: Vec<(&str, String)>,
        audience: Option<&str>,
    ) -> Result<Response, Denied> {
        let mut pairs: Vec<(String, String)> = form.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut request = Request { timeout: TIMEOUT, max_body: MAX_ANSWER, ..Request::new("POST", url) };
        self.authenticate(&mut request, &mut pairs, audience)?;
        request.headers.push(("accept".to_owned(), "application/json".to_owned()));
        request.headers.push(("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
        request.body = form::write(&pairs).into_bytes();
        self.send(request).await
    }

    async fn send(&self, mut request: Request) -> Result<Response, Denied> {
        request.private = self.link.connection().private;
        request.connection = Some(self.link.connection().name.clone());
        self.means.http.send(request).await.map_err(|error| match error.nothing_was_sent() {
            true => Denied::Unavailable { reason: error.to_string(), wait: None },
            false => Denied::Lost(error.to_string()),
        })
    }

    /// Shows who the client is.
    fn authenticate(
        &self,
        request: &mut Request,
        form: &mut Vec<(String, String)>,
        audience: Option<&str>,
    ) -> Result<(), Denied> {
        let way = match &self.oauth2.client_auth {
            None if self.text("client_secret").is_some() => ClientAuth::Basic,
            None => ClientAuth::None,
            Some(template) => {
                let word = template.eval(&self.scope())?.revealed().to_text();
                ClientAuth::by_word(&word)
                    .ok_or_else(|| Denied::Wrong(format!("`client_auth` gives `{word}`, which is no way of it")))?
            }
        };
        let mut basic = |id: String, secret: String| {
            let encoded = STANDARD.encode(format!("{id}:{secret}"));
            request.headers.push(("authorization".to_owned(), format!("Basic {encoded}")));
        };
        match way {
            ClientAuth::Basic => {
                let encoded = |key: &str| -> Result<String, Denied> {
                    let pair = form::write(&[(String::new(), self.needed(key)?)]);
                    Ok(pair.trim_start_matches('=').to_owned())
                };
                basic(encoded("client_id")?, encoded("client_secret")?);
            }
            ClientAuth::BasicRaw => basic(self.needed("client_id")?, self.needed("client_secret")?),
            ClientAuth::Post => {
                form.push(("client_id".to_owned(), self.needed("client_id")?));
                form.push(("client_secret".to_owned(), self.needed("client_secret")?));
            }
            // An assertion of the JWT-bearer flow names the client by itself.
            ClientAuth::None => form.extend(self.text("client_id").map(|id| ("client_id".to_owned(), id))),
            ClientAuth::PrivateKeyJwt => {
                let Some(jwt) = &self.oauth2.jwt else {
                    return Err(Denied::Wrong("`client_auth: private_key_jwt` needs `jwt`".to_owned()));
                };
                let id = self.needed("client_id")?;
                let jti = format!("{:032x}", self.means.system.random.bits());
                let standard = vec![
                    ("iss", id.clone()),
                    ("sub", id),
                    ("aud", audience.unwrap_or_default().to_owned()),
                    ("jti", jti),
                ];
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                form.push(("client_assertion_type".to_owned(), kind.to_owned()));
                form.push(("client_assertion".to_owned(), self.assertion(jwt, standard)?));
            }
        }
        Ok(())
    }

    /// Signs an assertion with the connection's private key; the manifest's claims win over the standard ones.
    fn assertion(&self, spec: &Jwt, standard: Vec<(&str, String)>) -> Result<String, Denied> {
        let scope = self.scope();
        let mut claims: Map = standard.into_iter().map(|(key, value)| (key.into(), Value::from(value))).collect();
        if let Some(tree) = &spec.claims {
            let own = render::value(tree, &scope)?.revealed();
            claims.extend(own.as_map().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
        }
        let claims =
            jwt::claims(&Value::from(claims), self.means.system.clock.now(), spec.ttl).map_err(Denied::Wrong)?;
        let kid = match &spec.kid {
            Some(template) => Some(template.eval(&scope)?.revealed().to_text()).filter(|kid| !kid.is_empty()),
            None => None,
        };
        let key = self.needed("private_key")?;
        let mut last = Denied::Wrong("`alg` names no algorithm".to_owned());
        for alg in &spec.algorithms {
            match jwt::sign(&jwt::Settings { alg, kid: kid.as_deref(), key: &key }, &claims) {
                Ok(token) => return Ok(token),
                Err(reason) => last = Denied::Wrong(reason),
            }
        }
        Err(last)
    }

    /// Sends a request of the vendor's own; `token` names what of its answer is kept.
    pub(super) async fn own(&self, spec: &RequestSpec, token: Option<&TemplateTree>) -> Result<Map, Denied> {
        let scope = self.scope();
        let base = url::base(&self.link.manifest, spec.base.as_deref(), &scope)?;
        let making = send::Making {
            name: "the token request",
            below: [None, None],
            spec,
            session: None,
            auth: None,
            verbatim: None,
            base: &base,
            keep: self.means.keep,
            boundary: self.means.system.random.bits(),
            may_stream: false,
        };
        let mut request = send::make(making, &scope).await?.request;
        request.timeout = TIMEOUT;
        request.max_body = MAX_ANSWER;
        if !self.link.is_ours(&request.url, &scope) {
            return Err(Denied::Wrong(crate::connector::call::egress(self.link, &request.url)));
        }
        let response = self.send(request).await?;
        self.read(&response, token.or(self.oauth2.token.as_ref()))
    }

    /// Reads a token's answer.
    fn read(&self, response: &Response, token: Option<&TemplateTree>) -> Result<Map, Denied> {
        let body = std::str::from_utf8(&response.body).ok().and_then(|text| parse_json(text).ok()).unwrap_or_default();
        if !(200..300).contains(&response.status) || body.get("error").is_some_and(|error| !error.is_null()) {
            return Err(self.denied(response, &body));
        }
        let mut values = Map::new();
        for key in KEPT {
            if let Some(value) = body.get(key).filter(|value| !value.is_null()) {
                values.insert((*key).into(), value.clone());
            }
        }
        if let Some(tree) = token {
            let mut scope = self.scope();
            let headers = response.headers.iter().map(|(name, value)| (name.as_str(), Value::from(value.as_str())));
            scope.locals.push(("headers", Value::map(headers)));
            scope.locals.push(("status", Value::Int(response.status.into())));
            scope.locals.push(("body", body));
            let own = render::value(tree, &scope)?.revealed();
            for (key, value) in own.as_map().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
                self.pinned(key, value)?;
                values.insert(key.clone(), value.clone());
            }
        }
        if values.get("access_token").is_none_or(|token| token.to_text().is_empty()) {
            // It may have been done all the same.
            return Err(Denied::Lost(format!("its answer ({}) holds no access token", response.status)));
        }
        Ok(values)
    }

    /// Sees that a URL of a token's answer names a host of ours: requests with the token will go there.
    fn pinned(&self, key: &str, value: &Value) -> Result<(), Denied> {
        let text = value.to_text();
        let Some(origin) = Origin::of(&text) else { return Ok(()) };
        let token_url = self.oauth2.token_url.as_ref().and_then(|url| url.eval(&self.scope()).ok());
        let own = token_url.is_some_and(|url| Origin::of(&url.revealed().to_text()).as_ref() == Some(&origin));
        if own || self.link.is_ours(&text, &self.scope()) {
            return Ok(());
        }
        let host = &origin.host;
        Err(Denied::Wrong(format!(
            "`{key}` of the token's answer names `{host}`, which neither `base_url` nor `hosts` do"
        )))
    }

    /// Says why there is no token: only the error's word and the beginning of its description.
    pub(super) fn denied(&self, response: &Response, body: &Value) -> Denied {
        let error = body.get("error").unwrap_or(&Value::Null);
        // The second form is that of the Graph API.
        let word = error.as_str().map(str::to_owned).or_else(|| error.get("type").map(Value::to_text));
        let word = word.unwrap_or_default();
        let said = body.get("error_description").or_else(|| error.get("message")).map(Value::to_text);
        let said: String = said.unwrap_or_default().chars().filter(|it| !it.is_control()).take(MAX_QUOTED).collect();
        let status = response.status;
        let mut reason = match (word.is_empty(), said.is_empty()) {
            (true, true) => format!("{status}"),
            (false, true) => format!("{status} {word}"),
            (true, false) => format!("{status}: {said}"),
            (false, false) => format!("{status} {word}: {said}"),
        };
        for key in ["refresh_token", "access_token", "client_secret", "code"] {
            if let Some(secret) = self.text(key).filter(|secret| secret.len() >= 4) {
                reason = reason.replace(&secret, "***");
            }
        }
        let now = self.means.system.clock.now();
        let wait = || {
            let until = response.header("retry-after").and_then(|text| judge::retry_after(text, now));
            until.map(|until| until.since(now))
        };
        match word.as_str() {
            "authorization_pending" => return Denied::Pending { slower: false },
            "slow_down" => return Denied::Pending { slower: true },
            "temporarily_unavailable" | "server_error" => return Denied::Unavailable { reason, wait: wait() },
            "invalid_client"
            | "unauthorized_client"
            | "invalid_request"
            | "unsupported_grant_type"
            | "invalid_scope" => return Denied::Wrong(format!("the provider refuses the client: {reason}")),
            _ => {}
        }
        match status {
            408 | 425 | 429 | 503 => Denied::Unavailable { reason, wait: wait() },
            // A gateway may have lost an answer that its server gave.
            500..=599 => Denied::Lost(reason),
            _ => Denied::Refused(reason),
        }
    }
}

/// Returns when a token expires, as its answer says: seconds as a number or a text.
pub(super) fn expires_at(values: &Map, now: Timestamp) -> Option<Timestamp> {
    let seconds = values.get("expires_in")?.to_text().trim().parse::<rust_decimal::Decimal>().ok()?;
    let seconds = u64::try_from(seconds.trunc()).ok().filter(|seconds| *seconds > 0)?;
    Some(now.plus(Duration::from_secs(seconds)))
}
