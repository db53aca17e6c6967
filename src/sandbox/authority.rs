//! An authorization server (RFC 6749, 7009, 7636, 8628) that agrees to everything: it issues, rotates, expires, revokes.
//!
//! A token says itself what it is and when it ends, so that one that an earlier process has issued still serves; only
//! what was spent or revoked is remembered.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::exchange::Received;
use super::exchange::Reply;
use super::family::Moment;
use super::plan::Oauth;
use crate::connector::body::form;
use crate::model::Duration;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;

/// How long a code of an authorization serves.
const CODE_LIFETIME: Duration = Duration::from_secs(60);

/// The state of an authorization server.
#[derive(Debug)]
pub struct Authority {
    /// Seeds of the sandbox: a connection that has logged in nowhere begins with them. They do not rotate.
    seeds: [String; 2],
    /// Instead of the plan's, where a fault asks for it.
    lifetime: Option<Duration>,
    /// Whether an authorization gives a refresh token.
    offline: bool,
    codes: HashMap<String, Code>,
    /// Device codes, and whether they were asked for already: the second time the person has agreed.
    devices: HashMap<String, bool>,
    gone: HashSet<String>,
    issued: u64,
}

/// What an authorization was given for.
#[derive(Debug)]
struct Code {
    redirect_uri: Option<String>,
    challenge: Option<String>,
    scope: Option<String>,
    offline: bool,
    expires: Timestamp,
}

/// What a token that is issued now is like.
#[derive(Clone, Debug)]
pub struct Terms {
    pub lifetime: Duration,
    /// What is laid over the answer with it.
    pub more: Value,
    /// Whether the request is an operation's: then it is not the server's, though a token is had by it.
    pub is_operation: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Access,
    Refresh,
}

impl Token {
    fn word(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
        }
    }
}

impl Authority {
    /// Makes one that takes these tokens from the start.
    #[must_use]
    pub fn new(access: &str, refresh: &str) -> Self {
        Self {
            seeds: [access.to_owned(), refresh.to_owned()],
            lifetime: None,
            offline: true,
            codes: HashMap::new(),
            devices: HashMap::new(),
            gone: HashSet::new(),
            issued: 0,
        }
    }

    /// Has access tokens serve no longer than this; the seed does not serve at all then.
    pub fn expire(&mut self, lifetime: Duration) {
        self.lifetime = Some(lifetime);
    }

    /// Has authorizations from now on give a refresh token, or none.
    pub fn allow_offline(&mut self, allowed: bool) {
        self.offline = allowed;
    }

    /// Has an access token serve no longer.
    pub fn spend(&mut self, token: &str) {
        self.gone.insert(token.to_owned());
    }

    /// Tells whether an access token serves.
    #[must_use]
    pub fn takes(&self, token: &str, now: Timestamp) -> bool {
        if token == self.seeds[0] {
            return self.lifetime.is_none() && !self.gone.contains(token);
        }
        self.serves(Token::Access, token, now)
    }

    fn serves(&self, kind: Token, token: &str, now: Timestamp) -> bool {
        let mut parts = token.split('.');
        let is_ours = parts.next() == Some("sandbox") && parts.next() == Some(kind.word());
        let expires = parts.next().and_then(|micros| micros.parse().ok()).map(Timestamp);
        is_ours && expires.is_some_and(|expires| now < expires) && !self.gone.contains(token)
    }

    fn issue(&mut self, kind: Token, lifetime: Duration, moment: &mut Moment) -> String {
        self.issued += 1;
        let expires = moment.now.plus(lifetime).micros();
        format!("sandbox.{}.{expires}.{}.{:016x}", kind.word(), self.issued, moment.random.u64(..))
    }

    /// Issues an access token for an answer that is none of the server's.
    pub fn token(&mut self, lifetime: Duration, moment: &mut Moment) -> String {
        self.issue(Token::Access, self.lifetime.unwrap_or(lifetime), moment)
    }

    /// Answers a request to one of the server's paths; nothing where the path is another's.
    pub fn answer(&mut self, plan: &Oauth, request: &Received, terms: &Terms, moment: &mut Moment) -> Option<Reply> {
        let at = |path: &Option<String>| path.as_deref().is_some_and(|path| same_path(path, &request.path));
        let form = form::parse(&request.text()).unwrap_or_default();
        if at(&plan.token) && request.method == "POST" {
            return Some(self.exchanged(plan, request, &form, terms, moment));
        }
        if at(&plan.authorize) && request.method == "GET" {
            return Some(self.authorize(plan, request, moment));
        }
        if at(&plan.device) && request.method == "POST" {
            return Some(self.device(request, &form, moment));
        }
        if at(&plan.revoke) && request.method == "POST" {
            self.gone.extend(value_of(&form, "token").map(str::to_owned));
            return Some(Reply::empty(200));
        }
        let is_own =
            |(method, path): &(Arc<str>, String)| **method == *request.method && same_path(path, &request.path);
        if !terms.is_operation && plan.own.iter().any(is_own) {
            return Some(self.granted(None, None, terms, moment));
        }
        None
    }

    /// Agrees at once, as a person would who wants to.
    fn authorize(&mut self, plan: &Oauth, request: &Received, moment: &mut Moment) -> Reply {
        let Some(redirect) = request.parameter("redirect_uri") else {
            return refused(400, "invalid_request", "redirect_uri is missing");
        };
        let separator = if redirect.contains('?') { '&' } else { '?' };
        let back = |pairs: &mut Vec<(String, String)>| {
            pairs.extend(request.parameter("state").map(|state| ("state".to_owned(), state.to_owned())));
            Reply::empty(302).with_header("location", format!("{redirect}{separator}{}", form::write(pairs)))
        };
        let error = |word: &str| vec![("error".to_owned(), word.to_owned())];
        if request.parameter("response_type") != Some("code") {
            return back(&mut error("unsupported_response_type"));
        }
        let challenge = request.parameter("code_challenge").map(str::to_owned);
        let hashed = request.parameter("code_challenge_method") == Some("S256");
        if (plan.pkce && challenge.is_none())
            || (challenge.is_some() && !hashed)
            || request.parameter("client_id").is_none()
        {
            return back(&mut error("invalid_request"));
        }
        let code = format!("code-{:016x}", moment.random.u64(..));
        let given = Code {
            redirect_uri: Some(redirect.to_owned()),
            challenge,
            scope: request.parameter("scope").map(str::to_owned),
            offline: self.offline,
            expires: moment.now.plus(CODE_LIFETIME),
        };
        self.codes.insert(code.clone(), given);
        back(&mut vec![("code".to_owned(), code)])
    }

    fn device(&mut self, request: &Received, form: &[(String, String)], moment: &mut Moment) -> Reply {
        if client_of(request, form).is_none() {
            return refused(401, "invalid_client", "client_id is missing");
        }
        let code = format!("device-{:016x}", moment.random.u64(..));
        self.devices.insert(code.clone(), false);
        let answer = Value::map([
            ("device_code", Value::from(code)),
            (
                "user_code",
                Value::from(format!("{:04}-{:04}", moment.random.u32(..10_000), moment.random.u32(..10_000))),
            ),
            ("verification_uri", Value::from(format!("{}/device", request.origin))),
            ("expires_in", Value::Int(900)),
            ("interval", Value::Int(1)),
        ]);
        Reply::json(200, &answer)
    }

    fn exchanged(
        &mut self,
        plan: &Oauth,
        request: &Received,
        form: &[(String, String)],
        terms: &Terms,
        moment: &mut Moment,
    ) -> Reply {
        let given = |key: &str| value_of(form, key);
        let grant = given("grant_type").unwrap_or_default();
        let assertion = grant == "urn:ietf:params:oauth:grant-type:jwt-bearer";
        if client_of(request, form).is_none() && !assertion {
            return refused(401, "invalid_client", "no client has shown who it is");
        }
        match grant {
            "authorization_code" => {
                // A code serves once, also where what comes with it is wrong.
                let code = given("code").and_then(|code| self.codes.remove(code));
                let Some(code) = code.filter(|code| moment.now < code.expires) else {
                    return refused(400, "invalid_grant", "the code is unknown, spent or expired");
                };
                if code.redirect_uri.as_deref() != given("redirect_uri") {
                    return refused(400, "invalid_grant", "redirect_uri is another than that of the authorization");
                }
                let verified = given("code_verifier").map(|verifier| {
                    let digest = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
                    URL_SAFE_NO_PAD.encode(digest)
                });
                if code.challenge.is_some() && code.challenge != verified {
                    return refused(400, "invalid_grant", "code_verifier does not fit the challenge");
                }
                let refresh = code.offline.then(|| self.issue(Token::Refresh, plan.refresh_lifetime, moment));
                self.granted(refresh, code.scope, terms, moment)
            }
            "refresh_token" => {
                let token = given("refresh_token").unwrap_or_default();
                let is_seed = token == self.seeds[1];
                if !is_seed && !self.serves(Token::Refresh, token, moment.now) {
                    return refused(400, "invalid_grant", "the refresh token is unknown, spent, expired or revoked");
                }
                let rotates = plan.rotate;
                if rotates && !is_seed {
                    self.gone.insert(token.to_owned());
                }
                let refresh = rotates.then(|| self.issue(Token::Refresh, plan.refresh_lifetime, moment));
                self.granted(refresh, None, terms, moment)
            }
            "urn:ietf:params:oauth:grant-type:device_code" => {
                let code = given("device_code").unwrap_or_default();
                match self.devices.get_mut(code) {
                    None => refused(400, "expired_token", "the device code is unknown or spent"),
                    Some(agreed) if !*agreed => {
                        *agreed = true;
                        refused(400, "authorization_pending", "the person has not agreed yet")
                    }
                    Some(_) => {
                        self.devices.remove(code);
                        let refresh = self.issue(Token::Refresh, plan.refresh_lifetime, moment);
                        self.granted(Some(refresh), None, terms, moment)
                    }
                }
            }
            "client_credentials" => self.granted(None, given("scope").map(str::to_owned), terms, moment),
            _ if assertion => match given("assertion").filter(|text| text.split('.').count() == 3) {
                Some(_) => self.granted(None, None, terms, moment),
                None => refused(400, "invalid_grant", "the assertion is no JWT"),
            },
            other => refused(400, "unsupported_grant_type", &format!("there is no grant `{other}`")),
        }
    }

    fn granted(&mut self, refresh: Option<String>, scope: Option<String>, terms: &Terms, moment: &mut Moment) -> Reply {
        let lifetime = self.lifetime.unwrap_or(terms.lifetime);
        let mut answer = Map::new();
        answer.insert("token_type".into(), Value::from("bearer"));
        answer.insert("expires_in".into(), Value::Int((lifetime.micros() / 1_000_000).max(1).into()));
        answer.insert("access_token".into(), Value::from(self.issue(Token::Access, lifetime, moment)));
        answer.extend(refresh.map(|token| ("refresh_token".into(), Value::from(token))));
        answer.extend(scope.map(|scope| ("scope".into(), Value::from(scope))));
        answer.extend(terms.more.as_map().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
        Reply::json(200, &Value::from(answer)).with_header("cache-control", "no-store")
    }
}

fn same_path(own: &str, asked: &str) -> bool {
    own.trim_end_matches('/') == asked.trim_end_matches('/')
}

fn value_of<'f>(form: &'f [(String, String)], key: &str) -> Option<&'f str> {
    form.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}

/// Returns who the client says it is: by HTTP Basic, in the form, or by an assertion.
fn client_of(request: &Received, form: &[(String, String)]) -> Option<String> {
    let basic = request.header("authorization").and_then(|text| text.strip_prefix("Basic "));
    let basic = basic.and_then(|text| STANDARD.decode(text).ok()).and_then(|bytes| String::from_utf8(bytes).ok());
    let of_basic = basic.and_then(|text| text.split_once(':').map(|(id, _)| id.to_owned())).filter(|id| !id.is_empty());
    of_basic.or_else(|| {
        let named = value_of(form, "client_id").or_else(|| value_of(form, "client_assertion"));
        named.map(str::to_owned)
    })
}

fn refused(status: u16, error: &str, description: &str) -> Reply {
    let body = [("error", Value::from(error)), ("error_description", Value::from(description))];
    Reply::json(status, &Value::map(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Oauth {
        Oauth {
            authorize: Some("/authorize".to_owned()),
            token: Some("/token".to_owned()),
            device: Some("/device".to_owned()),
            revoke: Some("/revoke".to_owned()),
            own: Vec::new(),
            pkce: true,
            lifetime: Duration::from_secs(60),
            refresh_lifetime: Duration::from_secs(3_600),
            lifetime_by: None,
            rotate: true,
            offline: None,
            extra: None,
        }
    }

    fn terms() -> Terms {
        Terms { lifetime: plan().lifetime, more: Value::Null, is_operation: false }
    }

    fn moment(seconds: i64) -> Moment {
        Moment { now: Timestamp(seconds * 1_000_000), random: fastrand::Rng::with_seed(1) }
    }

    fn ask(authority: &mut Authority, form: &str, seconds: i64) -> (u16, Value) {
        let mut request =
            Received::new("POST", "/token").with_header("content-type", "application/x-www-form-urlencoded");
        request.body = format!("client_id=c&{form}").into_bytes();
        let reply = authority.answer(&plan(), &request, &terms(), &mut moment(seconds)).unwrap();
        (reply.status, crate::model::parse_json(std::str::from_utf8(&reply.body).unwrap()).unwrap())
    }

    fn text(body: &Value, key: &str) -> String {
        body.get(key).map(Value::to_text).unwrap_or_default()
    }

    #[test]
    fn a_refresh_token_serves_once_and_an_access_token_for_its_time() {
        let mut authority = Authority::new("seed-access", "seed-refresh");
        assert!(authority.takes("seed-access", Timestamp(0)));
        let (status, first) = ask(&mut authority, "grant_type=refresh_token&refresh_token=seed-refresh", 0);
        assert_eq!(status, 200);
        let (access, refresh) = (text(&first, "access_token"), text(&first, "refresh_token"));
        assert!(authority.takes(&access, Timestamp(59_000_000)));
        assert!(!authority.takes(&access, Timestamp(60_000_000)));
        assert!(!authority.takes(&refresh, Timestamp(0)), "a refresh token is no access token");
        let form = format!("grant_type=refresh_token&refresh_token={refresh}");
        assert_eq!(ask(&mut authority, &form, 1).0, 200);
        let (status, body) = ask(&mut authority, &form, 2);
        assert_eq!((status, text(&body, "error").as_str()), (400, "invalid_grant"));
        // Another process knows the tokens that this one has issued.
        assert!(Authority::new("a", "b").takes(&access, Timestamp(0)));
    }

    #[test]
    fn a_code_needs_the_verifier_of_its_challenge_and_serves_once() {
        let mut authority = Authority::new("a", "b");
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        // The example of RFC 7636, appendix B.
        let query = "response_type=code&client_id=c&redirect_uri=http%3A%2F%2F127.0.0.1%2Fback&state=s1\
                     &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";
        let code = |authority: &mut Authority| {
            let request = Received::new("GET", &format!("/authorize?{query}"));
            let reply = authority.answer(&plan(), &request, &terms(), &mut moment(0)).unwrap();
            let location = reply.header("location").unwrap().to_owned();
            assert!(location.ends_with("&state=s1"), "{location}");
            location.split("code=").nth(1).unwrap().split('&').next().unwrap().to_owned()
        };
        let form = |code: &str, verifier: &str| {
            let uri = "redirect_uri=http%3A%2F%2F127.0.0.1%2Fback";
            format!("grant_type=authorization_code&code={code}&{uri}&code_verifier={verifier}")
        };
        let first = code(&mut authority);
        assert_eq!(ask(&mut authority, &form(&first, "wrong"), 1).0, 400);
        assert_eq!(ask(&mut authority, &form(&first, verifier), 1).0, 400, "it was spent on the wrong one");
        let second = code(&mut authority);
        assert_eq!(ask(&mut authority, &form(&second, verifier), 61).0, 400, "it has expired");
        let third = code(&mut authority);
        assert_eq!(ask(&mut authority, &form(&third, verifier), 59).0, 200);
    }

    #[test]
    fn a_device_is_let_in_when_it_asks_again() {
        let mut authority = Authority::new("a", "b");
        let mut request = Received::new("POST", "/device");
        request.body = b"client_id=c".to_vec();
        let reply = authority.answer(&plan(), &request, &terms(), &mut moment(0)).unwrap();
        let body = crate::model::parse_json(std::str::from_utf8(&reply.body).unwrap()).unwrap();
        let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code";
        let form = format!("{grant}&device_code={}", text(&body, "device_code"));
        assert_eq!(text(&ask(&mut authority, &form, 1).1, "error"), "authorization_pending");
        assert_eq!(ask(&mut authority, &form, 2).0, 200);
        assert_eq!(text(&ask(&mut authority, &form, 3).1, "error"), "expired_token");
    }
}
