//! Sessions: what is opened before the first request and kept until it is refused or too old.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use super::call::Asked;
use super::call::Means;
use super::call::Stop;
use super::call::call;
use super::call::output_of;
use super::manifest::RequestSpec;
use super::manifest::SessionUse;
use super::render;
use super::runtime::Link;
use crate::http::Request;
use crate::http::Response;
use crate::model::Timestamp;
use crate::model::Value;
use crate::template::Scope;

/// So many cookies of a session are kept, each so long at most, in bytes: a server cannot fill our memory and requests.
const MAX_COOKIES: usize = 100;
const MAX_COOKIE: usize = 4_096;

/// An open session: what was kept and its cookies are one unit.
#[derive(Debug)]
pub struct Opened {
    /// Root `session`.
    pub kept: Value,
    /// Whether its patch is laid over requests; while it is being opened only its cookies go along.
    pub sends: bool,
    cookies: Arc<Mutex<BTreeMap<String, String>>>,
    expires_at: Option<Timestamp>,
    number: u64,
}

/// The session of a connection, if one is open. Its lock is held while one is being opened.
#[derive(Debug, Default)]
pub struct Slot {
    open: tokio::sync::Mutex<(u64, Option<Arc<Opened>>)>,
}

impl Slot {
    /// Puts a session in as if it had been opened.
    pub(super) async fn put(&self, kept: Value) {
        let opened = Opened { kept: kept.tainted(), sends: true, cookies: Arc::default(), expires_at: None, number: 1 };
        *self.open.lock().await = (1, Some(Arc::new(opened)));
    }
}

/// Returns the session for a request, opened if there is none; nothing where the request needs none.
pub async fn ensure(
    link: &Link,
    means: &Means<'_>,
    asked: &Asked<'_>,
    spec: &RequestSpec,
    scope: &Scope,
) -> Result<Option<Arc<Opened>>, Stop> {
    let Some(session) = &link.manifest.session else { return Ok(None) };
    // What opens the session asks with what is there so far.
    if asked.session.is_some() || asked.operation.session == SessionUse::None {
        return Ok(link.opening(asked));
    }
    if let Some(when) = &session.when {
        let mut scope = scope.clone();
        let method = Value::from(&*spec.method);
        scope.locals.push(("request", Value::map([("method", method)])));
        if !when.eval(&scope).is_ok_and(|value| value.is_truthy()) {
            return Ok(None);
        }
    }
    let mut slot = link.state.session.open.lock().await;
    let now = means.system.clock.now();
    if let Some(open) = slot.1.as_ref().filter(|open| open.expires_at.is_none_or(|expires| now < expires)) {
        return Ok(Some(open.clone()));
    }
    let number = slot.0 + 1;
    let opened = Arc::new(open(link, means, number).await?);
    *slot = (number, Some(opened.clone()));
    Ok(Some(opened))
}

/// Forgets a session that was refused, unless a newer one is there already.
pub async fn forget(link: &Link, refused: &Opened) {
    let mut slot = link.state.session.open.lock().await;
    if slot.0 == refused.number {
        slot.1 = None;
    }
}

async fn open(link: &Link, means: &Means<'_>, number: u64) -> Result<Opened, Stop> {
    let Some(session) = &link.manifest.session else {
        return Err(Stop::Failed(super::judge::Failure::invalid("no session")));
    };
    let cookies = Arc::new(Mutex::new(BTreeMap::new()));
    let mut kept = Value::map::<&str>([]);
    let mut last = None;
    for name in &session.open {
        let operation = link.manifest.operation(name)?;
        let link = link.while_opening(Opened {
            kept: kept.clone(),
            sends: false,
            cookies: cookies.clone(),
            expires_at: None,
            number,
        });
        let asked = Asked {
            places: vec![("session", kept.clone())],
            session: Some(SessionUse::None),
            ..Asked::new(operation, Value::map::<&str>([]))
        };
        // The request that waits for the session is another one: its effect is not that of the opening.
        let means = Means { effect: None, ..*means };
        let success = call(&link, &means, asked).await?;
        let output = output_of(operation, &success)?;
        let mut scope = success.scope;
        scope.locals.push(("output", output));
        last = Some(scope);
    }
    if let Some(scope) = &last {
        // Whatever opens a session is a secret: tokens, ids, cookies.
        kept = render::value(&session.keep, scope)?.tainted();
    }
    let now = means.system.clock.now();
    let expires_at = session.lifetime.map(|lifetime| now.plus(lifetime));
    Ok(Opened { kept, sends: true, cookies, expires_at, number })
}

impl Opened {
    /// Adds the cookies to a request, whatever their domain: they go to our own hosts only.
    pub fn add_cookies(&self, request: &mut Request) {
        let cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        if !cookies.is_empty() {
            let text = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
            request.headers.push(("cookie".to_owned(), text));
        }
    }

    /// Keeps the cookies of an answer.
    pub fn learn_cookies(&self, response: &Response) {
        let mut cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, value) in response.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let mut parts = value.split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
            let (name, value) = (name.trim(), value.trim());
            let is_ended = parts.any(|part| {
                let age = part.split_once('=').filter(|(key, _)| key.eq_ignore_ascii_case("max-age"));
                age.is_some_and(|(_, age)| age.trim().parse::<i64>().is_ok_and(|age| age <= 0))
            });
            if is_ended {
                cookies.remove(name);
            } else if value.len() <= MAX_COOKIE && (cookies.len() < MAX_COOKIES || cookies.contains_key(name)) {
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// Returns the secrets in it, to be masked.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        cookies.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_kept_until_they_are_taken_back_and_never_without_bound() {
        let opened = Opened { kept: Value::Null, sends: true, cookies: Arc::default(), expires_at: None, number: 1 };
        let answer = |values: Vec<String>| {
            let headers = values.into_iter().map(|value| ("set-cookie".to_owned(), value)).collect();
            opened.learn_cookies(&Response { status: 200, headers, body: Vec::new() });
            let mut request = Request::new("GET", "https://a.example");
            opened.add_cookies(&mut request);
            request.headers.first().map(|(_, text)| text.clone()).unwrap_or_default()
        };
        assert_eq!(
            answer(vec!["sid=a; Path=/; HttpOnly".to_owned(), "lang=en; Max-Age=60".to_owned()]),
            "lang=en; sid=a"
        );
        assert_eq!(answer(vec!["lang=; max-age=0".to_owned(), "sid=b".to_owned()]), "sid=b");
        let text = answer((0..500).map(|number| format!("c{number}={}", "x".repeat(number * 20))).collect());
        assert!(text.split("; ").count() <= MAX_COOKIES && text.len() < MAX_COOKIES * (MAX_COOKIE + 8));
        assert!(answer(vec!["sid=c".to_owned()]).contains("sid=c"));
    }
}
