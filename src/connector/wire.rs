//! What went over the wire, cut and masked, for a person to look at.

use std::sync::Mutex;
use std::sync::PoisonError;

use super::call::Means;
use super::credentials::Grant;
use super::runtime::Link;
use super::runtime::gather;
use super::session::Opened;
use super::url::Base;
use crate::http::Request;
use crate::http::Response;
use crate::http::TransportError;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::WireAnswer;
use crate::node::WireRecord;
use crate::secrets::Mask;

/// Headers whose values are never shown.
const HIDDEN: &[&str] = &["authorization", "cookie", "set-cookie", "proxy-authorization", "x-csrf-token"];

/// So much more of a body is looked at, so that no piece of a secret stays at the cut.
const MARGIN: usize = 4_096;

/// Everything of an exchange that is recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange<'a> {
    pub request: &'a Request,
    pub result: &'a Result<Response, TransportError>,
    pub began: Timestamp,
    pub ended: Timestamp,
    pub grant: Option<&'a Grant>,
    pub session: Option<&'a Opened>,
    pub base: &'a Base,
    /// What the operation was given: a secret may be in it.
    pub input: &'a Value,
    /// Whether the operation returns a secret, which is somewhere in the answer.
    pub gives_secret: bool,
}

/// The secrets of a connection, ready to be searched for.
#[derive(Debug, Default)]
pub(super) struct Masks(Mutex<(Vec<String>, Mask)>);

impl Masks {
    /// Returns what finds these secrets; of the last ones it is there already.
    pub(super) fn of(&self, secrets: Vec<String>) -> Mask {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != secrets {
            let mask = Mask::default();
            secrets.iter().for_each(|secret| mask.learn(secret));
            *known = (secrets, mask);
        }
        known.1.clone()
    }
}

/// Records an exchange.
pub(super) fn record(link: &Link, means: &Means<'_>, exchange: &Exchange<'_>) {
    let mut secrets = link.secrets();
    if let Some(grant) = exchange.grant {
        gather(&grant.auth, &mut secrets);
    }
    if let Some(session) = exchange.session {
        gather(&session.kept, &mut secrets);
        secrets.extend(session.secrets());
    }
    gather(exchange.input, &mut secrets);
    // A base URL that is computed from a secret shows a part of it.
    secrets.extend(exchange.base.secret.then(|| exchange.base.url.clone()));
    let mask = link.state.masks.of(secrets);
    let Exchange { request, result, began, ended, .. } = *exchange;
    let mut record = masked(&mask, means.log.most_body(), request, result, (began, ended));
    if let Ok(answer) = &mut record.answer
        && exchange.gives_secret
        && answer.status < 400
    {
        hide_answer(answer);
    }
    means.log.wire(record);
}

/// Hides where an answer may hold a secret that nobody knows yet: its body, and the address that it names.
fn hide_answer(answer: &mut WireAnswer) {
    for (name, value) in &mut answer.headers {
        if name.eq_ignore_ascii_case("location") {
            "***".clone_into(value);
        }
    }
    if !answer.body.is_empty() {
        "***".clone_into(&mut answer.body);
    }
}

/// Makes the record of an exchange, with the secrets that a mask knows replaced and the bodies cut.
pub(super) fn masked(
    mask: &Mask,
    most: usize,
    request: &Request,
    result: &Result<Response, TransportError>,
    (began, ended): (Timestamp, Timestamp),
) -> WireRecord {
    let headers = |headers: &[(String, String)]| -> Vec<(String, String)> {
        let shown = |(name, value): &(String, String)| {
            let hidden = HIDDEN.iter().any(|own| own.eq_ignore_ascii_case(name));
            (name.clone(), if hidden { "***".to_owned() } else { mask.hide(value) })
        };
        headers.iter().map(shown).collect()
    };
    let answer = match result {
        Ok(response) => Ok(WireAnswer {
            status: response.status,
            headers: headers(&response.headers),
            body: shown(&response.body, mask, most),
        }),
        Err(error) => Err(mask.hide(&error.to_string())),
    };
    WireRecord {
        at: began,
        took: ended.since(began),
        method: request.method.clone(),
        url: mask.hide(&without_user(&request.url)),
        headers: headers(&request.headers),
        body: match &request.streamed {
            Some(streamed) => format!("<{} bytes>", streamed.size),
            None => shown(&request.body, mask, most),
        },
        answer,
    }
}

/// Hides what a URL says of a user before its host.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest.get(..end).and_then(|authority| authority.rfind('@')) {
        Some(at) => format!("{scheme}://***{}", rest.get(at..).unwrap_or_default()),
        None => url.to_owned(),
    }
}

/// Returns the beginning of a body as text, without its secrets; of bytes their count.
fn shown(body: &[u8], mask: &Mask, most: usize) -> String {
    let head = body.get(..body.len().min(most + MARGIN)).unwrap_or_default();
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A letter that the cut goes through.
        Err(error) if error.error_len().is_none() && head.len() < body.len() => {
            std::str::from_utf8(head.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        Err(_) => return format!("<{} bytes>", body.len()),
    };
    let text = mask.hide_head(text, most);
    if body.len() > most { format!("{text}… <{} bytes>", body.len()) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_piece_of_a_secret_stays_where_a_body_is_cut() {
        let mask = Mask::default();
        mask.learn("hunter2hunter2");
        let body = format!("{}hunter2hunter2{}", "x".repeat(WireRecord::MOST_BODY - 5), "y".repeat(9_000));
        let cut = shown(body.as_bytes(), &mask, WireRecord::MOST_BODY);
        assert!(cut.ends_with(&format!("xxx***… <{} bytes>", body.len())), "{cut}");
        assert_eq!(shown(&[0xff, 0xfe], &mask, WireRecord::MOST_BODY), "<2 bytes>");
    }
}
