//! A person's consent: the authorization code with PKCE (RFC 7636, RFC 8252), and the device flow (RFC 8628).

use oauth2::CsrfToken;
use oauth2::PkceCodeChallenge;
use tokio_util::sync::CancellationToken;

use super::custody;
use super::custody::Custody;
use super::custody::Held;
use super::request::Asker;
use super::request::Denied;
use super::spec::Oauth2;
use crate::connector::account;
use crate::connector::body::form;
use crate::connector::call::Stop;
use crate::connector::judge::Failure;
use crate::connector::manifest::OutcomeKind;
use crate::connector::render;
use crate::connector::runtime::Link;
use crate::http::Origin;
use crate::http::with_query;
use crate::model::Duration;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::parse_json;

/// How long a device is polled where the provider does not say.
const DEVICE_LIFE: Duration = Duration::from_secs(600);

/// Where the provider sends the person back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// To this machine. Without a port, any is fine for the provider.
    Loopback { host: String, port: Option<u16>, path: String },
    /// To a page elsewhere, from whose address the person copies the code.
    Elsewhere(String),
}

/// A consent that a person has been asked for.
#[derive(Debug)]
pub struct Begun {
    /// What the person opens.
    pub url: String,
    /// What the answer must bring back.
    pub state: String,
    redirect: String,
    verifier: Option<String>,
}

/// A device that waits for a person.
#[derive(Debug)]
pub struct Device {
    /// What the person types in.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it, if the provider gives one.
    pub complete: Option<String>,
    device_code: String,
    interval: Duration,
    expires_at: Timestamp,
}

/// A consent that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Who we are, where the manifest says how to ask.
    pub account: Option<String>,
    pub expires_at: Option<Timestamp>,
    /// Whether the token can be renewed without a person.
    pub renewable: bool,
    /// Why we could not ask who we are.
    pub warning: Option<String>,
}

/// Returns where the provider sends the person back to: what the connection says, else the manifest.
///
/// # Errors
/// An expression without a value, or what is no URL.
pub fn redirect(link: &Link, custody: &Custody, oauth2: &Oauth2) -> Result<Redirect, Stop> {
    let canceled = CancellationToken::new();
    let means = custody.means(&canceled);
    let asker = asker(link, &means, oauth2);
    let text = match (asker.text("redirect_uri"), &oauth2.redirect) {
        (Some(given), _) => given,
        (None, Some(template)) => template.eval(&asker.scope()).map_err(Failure::from)?.revealed().to_text(),
        (None, None) => "loopback".to_owned(),
    };
    if text == "loopback" {
        return Ok(Redirect::Loopback { host: "127.0.0.1".to_owned(), port: None, path: "/callback".to_owned() });
    }
    let Some(origin) = Origin::of(&text) else {
        return Err(Failure::invalid(format!("the redirect `{text}` is neither `loopback` nor a URL")).into());
    };
    let ours = matches!(origin.host.as_str(), "127.0.0.1" | "localhost" | "[::1]") && origin.scheme == "http";
    if !ours {
        return Ok(Redirect::Elsewhere(text));
    }
    let after = text.split_once("://").map_or("", |(_, rest)| rest);
    let path = after.find('/').and_then(|at| after.get(at..)).unwrap_or("/");
    let has_port = after
        .split('/')
        .next()
        .is_some_and(|authority| authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()));
    Ok(Redirect::Loopback { host: origin.host, port: has_port.then_some(origin.port), path: path.to_owned() })
}

fn asker<'a>(link: &'a Link, means: &'a crate::connector::call::Means<'a>, oauth2: &'a Oauth2) -> Asker<'a> {
    Asker { link, means, oauth2, auth: custody::auth_root(link, &Held::default()) }
}

/// Makes the URL that a person opens.
///
/// # Errors
/// What the connection or the manifest does not give.
pub fn begin(link: &Link, custody: &Custody, oauth2: &Oauth2, redirect: &str) -> Result<Begun, Stop> {
    let canceled = CancellationToken::new();
    let means = custody.means(&canceled);
    let asker = asker(link, &means, oauth2);
    let denied = |denied| Stop::from(custody::failed(link, denied));
    let Some(template) = &oauth2.authorize_url else {
        return Err(Failure::invalid("the manifest gives no `authorize_url`").into());
    };
    let url = asker.url(template, "authorize_url").map_err(denied)?;
    let Some(client_id) = asker.text("client_id") else {
        let name = &link.connection().name;
        let message = format!("connection `{name}` has no `client_id`: add `auth: {{ client_id: … }}` to it");
        return Err(Failure::new(OutcomeKind::AuthBroken, message).into());
    };
    let state = CsrfToken::new_random().into_secret();
    let mut query = vec![
        ("response_type".to_owned(), "code".to_owned()),
        ("client_id".to_owned(), client_id),
        ("redirect_uri".to_owned(), redirect.to_owned()),
        ("state".to_owned(), state.clone()),
    ];
    query.extend(asker.scopes().map_err(denied)?.map(|scopes| ("scope".to_owned(), scopes)));
    let verifier = oauth2.pkce.then(|| {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        query.push(("code_challenge".to_owned(), challenge.as_str().to_owned()));
        query.push(("code_challenge_method".to_owned(), "S256".to_owned()));
        verifier.into_secret()
    });
    if let Some(tree) = &oauth2.authorize {
        let more = render::value(tree, &asker.scope()).map_err(Failure::from)?;
        query.extend(more.as_map().map(render::pairs).unwrap_or_default());
    }
    let url = with_query(&url, &query).map_err(Failure::invalid)?;
    Ok(Begun { url, state, redirect: redirect.to_owned(), verifier })
}

/// Takes what the person came back with: the whole address, its query, or the code alone where a page has shown it.
///
/// # Errors
/// The person, or the provider, has said no; the answer is not to our question; it is another person.
pub async fn finish(
    link: &Link,
    custody: &Custody,
    oauth2: &Oauth2,
    begun: &Begun,
    returned: &str,
) -> Result<Login, Stop> {
    let code = code(begun, returned)?;
    let canceled = CancellationToken::new();
    let means = custody.means(&canceled);
    let mut asker = asker(link, &means, oauth2);
    let began = means.system.clock.now();
    let denied = |denied| Stop::from(custody::failed(link, denied));
    let mut values = Map::new();
    if oauth2.token_url.is_some() {
        let mut form = vec![
            ("grant_type", "authorization_code".to_owned()),
            ("code", code.clone()),
            ("redirect_uri", begun.redirect.clone()),
        ];
        form.extend(begun.verifier.clone().map(|verifier| ("code_verifier", verifier)));
        values = asker.standard(form).await.map_err(denied)?;
    }
    let mut once = vec![("code", code), ("redirect_uri", begun.redirect.clone())];
    once.extend(begun.verifier.clone().map(|verifier| ("code_verifier", verifier)));
    asker.auth.extend(once.into_iter().map(|(key, value)| (key.into(), Value::from(value).tainted())));
    for exchange in &oauth2.exchange {
        asker.auth.extend(values.iter().map(|(key, value)| (key.clone(), value.clone().tainted())));
        let next = asker.own(&exchange.request, exchange.token.as_ref()).await.map_err(denied)?;
        // How long an earlier token of the chain lives says nothing of the last.
        values.shift_remove("expires_in");
        values.extend(next);
    }
    adopt(link, custody, oauth2, Held::new(values, began)).await
}

fn code(begun: &Begun, returned: &str) -> Result<String, Stop> {
    let returned = returned.trim();
    let query = returned.split_once('?').map_or(returned, |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let is_code = !query.contains('=') && !returned.contains("://");
    if is_code && !query.is_empty() {
        return Ok(query.to_owned());
    }
    let pairs = form::parse(query).map_err(Failure::invalid)?;
    let get = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let broken = |message: String| Stop::from(Failure::new(OutcomeKind::AuthBroken, message));
    // An answer to another question could be an attacker's code, which would log us in as him.
    if get("state") != Some(&begun.state) {
        return Err(broken("the answer is not to this question: its `state` is another; log in again".to_owned()));
    }
    if let Some(error) = get("error") {
        let said: String = get("error_description").unwrap_or_default().chars().take(160).collect();
        let said = if said.is_empty() { error.to_owned() } else { format!("{error}: {said}") };
        return Err(broken(format!("the provider says no ({said})")));
    }
    let code = get("code").filter(|code| !code.is_empty());
    code.map(str::to_owned).ok_or_else(|| broken("the address that came back holds no `code`".to_owned()))
}

/// Asks for a code that a person types in elsewhere.
///
/// # Errors
/// The provider refuses.
pub async fn begin_device(link: &Link, custody: &Custody, oauth2: &Oauth2) -> Result<Device, Stop> {
    let canceled = CancellationToken::new();
    let means = custody.means(&canceled);
    let asker = asker(link, &means, oauth2);
    let denied = |denied| Stop::from(custody::failed(link, denied));
    let Some(template) = &oauth2.device_url else {
        return Err(Failure::invalid("the manifest gives no `device_url`").into());
    };
    let url = asker.url(template, "device_url").map_err(denied)?;
    let scopes = asker.scopes().map_err(denied)?;
    let form = scopes.map(|scopes| ("scope", scopes)).into_iter().collect();
    let began = means.system.clock.now();
    let response = asker.post(&url, form, Some(&url)).await.map_err(denied)?;
    let body = std::str::from_utf8(&response.body).ok().and_then(|text| parse_json(text).ok()).unwrap_or_default();
    let text = |key: &str| body.get(key).filter(|it| !it.is_null()).map(Value::to_text);
    let seconds = |key: &str| text(key).and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let (Some(device_code), Some(user_code), Some(verification_uri)) =
        (text("device_code"), text("user_code"), text("verification_uri").or_else(|| text("verification_url")))
    else {
        return Err(denied(asker.denied(&response, &body)));
    };
    Ok(Device {
        user_code,
        verification_uri,
        complete: text("verification_uri_complete"),
        device_code,
        interval: seconds("interval").unwrap_or(Duration::from_secs(5)),
        expires_at: began.plus(seconds("expires_in").unwrap_or(DEVICE_LIFE)),
    })
}

/// Asks, at the pace that the provider wants, until the person has agreed.
///
/// # Errors
/// The person has said no, or the code has expired.
pub async fn finish_device(link: &Link, custody: &Custody, oauth2: &Oauth2, device: &Device) -> Result<Login, Stop> {
    let canceled = CancellationToken::new();
    let means = custody.means(&canceled);
    let asker = asker(link, &means, oauth2);
    let clock = &custody.system.clock;
    let mut interval = device.interval;
    loop {
        let now = clock.now();
        if now >= device.expires_at {
            return Err(Failure::new(OutcomeKind::AuthBroken, "the code has expired; log in again").into());
        }
        clock.sleep_until(now.plus(interval)).await;
        let began = clock.now();
        let form = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code".to_owned()),
            ("device_code", device.device_code.clone()),
        ];
        match asker.standard(form).await {
            Ok(values) => return adopt(link, custody, oauth2, Held::new(values, began)).await,
            Err(Denied::Pending { slower: false }) => {}
            Err(Denied::Pending { slower: true }) => interval = interval.plus(Duration::from_secs(5)),
            Err(Denied::Lost(_) | Denied::Unavailable { .. }) => interval = interval.times(2),
            Err(denied) => return Err(custody::failed(link, denied).into()),
        }
    }
}

/// Takes tokens over when it is sure whose they are.
async fn adopt(link: &Link, custody: &Custody, oauth2: &Oauth2, mut held: Held) -> Result<Login, Stop> {
    let known = custody.look(link).await?.and_then(|(_, held)| held).and_then(|held| held.account);
    let mut warning = None;
    if link.manifest.account.is_some() {
        let asking = link.anew();
        asking.state.token.put(held.clone());
        let canceled = CancellationToken::new();
        match account::id(&asking, &custody.means(&canceled)).await {
            Ok(id) => held.account = id,
            Err(Stop::Failed(failure)) => warning = Some(failure.message),
            Err(Stop::Later { reason, .. }) => warning = Some(reason),
        }
    }
    let name = &link.connection().name;
    if let Some(known) = &known
        && held.account.as_ref() != Some(known)
    {
        let found = held.account.as_deref().map_or_else(
            || format!("it could not be found out who has logged in ({})", warning.clone().unwrap_or_default()),
            |found| format!("`{found}` has logged in"),
        );
        let message = format!(
            "connection `{name}` belongs to the account `{known}`, and {found}: nothing was changed; \
             `pipewright auth logout {name}` gives it up first"
        );
        return Err(Failure::new(OutcomeKind::AuthBroken, message).into());
    }
    let kept = custody.keep(link, &held).await?;
    let renewable = custody::can_renew(link, oauth2, &kept) || custody::refresh(link, oauth2).is_some();
    let login = Login { account: kept.account.clone(), expires_at: kept.expires_at, renewable, warning };
    link.state.token.put(kept);
    Ok(login)
}

/// Tells the provider that tokens are given up, and forgets them whatever it says. Returns whether there were any, and
/// why the provider could not be told.
///
/// # Errors
/// The store.
pub async fn logout(link: &Link, custody: &Custody, oauth2: &Oauth2) -> Result<(bool, Option<String>), Stop> {
    let name = &link.connection().name;
    let held = custody.look(link).await.ok().flatten().and_then(|(_, held)| held);
    let mut untold = None;
    if let (Some(held), Some(template)) = (&held, &oauth2.revoke) {
        let canceled = CancellationToken::new();
        let means = custody.means(&canceled);
        let asker = Asker { link, means: &means, oauth2, auth: custody::auth_root(link, held) };
        for hint in ["refresh_token", "access_token"] {
            let Some(token) = asker.text(hint) else { continue };
            let told = async {
                let url = asker.url(template, "revoke")?;
                let form = vec![("token", token), ("token_type_hint", hint.to_owned())];
                let response = asker.post(&url, form, Some(&url)).await?;
                match (200..300).contains(&response.status) {
                    true => Ok(()),
                    false => Err(asker.denied(&response, &Value::Null)),
                }
            };
            if let Err(denied) = told.await {
                untold = Some(custody::failed(link, denied).message);
            }
        }
    }
    let deleted = custody.store.delete_token(name).await;
    let deleted = deleted.map_err(|error| Failure::new(OutcomeKind::Unavailable, error.to_string()))?;
    link.state.token.put(Held::default());
    Ok((deleted && held.is_some(), untold))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> Begun {
        Begun { url: String::new(), state: "s1".to_owned(), redirect: String::new(), verifier: None }
    }

    fn check(returned: &str, expected: &str) {
        let found = match code(&begun(), returned) {
            Ok(code) => code,
            Err(Stop::Failed(failure)) => failure.message,
            Err(Stop::Later { reason, .. }) => reason,
        };
        assert!(found.contains(expected), "{returned}: {found}");
    }

    #[test]
    fn a_code_is_taken_from_what_comes_back() {
        check("http://127.0.0.1:1/callback?code=a%2Fb&state=s1#_", "a/b");
        check("code=x&state=s1", "x");
        check("  AQB-xyz  ", "AQB-xyz");
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        check("http://127.0.0.1:1/callback?code=a&state=s2", "not to this question");
        check("http://127.0.0.1:1/callback?code=a", "not to this question");
        check("http://127.0.0.1:1/callback", "not to this question");
        check("http://x/?error=access_denied&error_description=no+way&state=s1", "access_denied: no way");
        check("http://x/?state=s1", "no `code`");
    }
}
