//! What went over the wire, cut and masked, for a person to look at.

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
use crate::node::WireAnswer;
use crate::node::WireRecord;

/// How much of a body is kept, in bytes.
const MAX_BODY: usize = 4_096;
/// Headers whose values are never shown.
const HIDDEN: &[&str] = &["authorization", "cookie", "set-cookie", "proxy-authorization", "x-csrf-token"];

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
}

/// Records an exchange.
pub(super) fn record(link: &Link, means: &Means<'_>, exchange: &Exchange<'_>) {
    let mut secrets = link.secrets();
    if let Some(grant) = exchange.grant {
        gather(&grant.auth, &mut secrets);
    }
    if let Some(session) = exchange.session {
        gather(&session.kept, &mut secrets);
        secrets.extend(session.secrets().into_iter().filter(|secret| secret.len() >= 4));
    }
    // A base URL that is computed from a secret shows a part of it.
    secrets.extend(exchange.base.secret.then(|| exchange.base.url.clone()));
    let mask = |text: String| secrets.iter().fold(text, |text, secret| masked(text, secret));
    let headers = |headers: &[(String, String)]| -> Vec<(String, String)> {
        let shown = |(name, value): &(String, String)| {
            let hidden = HIDDEN.iter().any(|own| own.eq_ignore_ascii_case(name));
            (name.clone(), if hidden { "***".to_owned() } else { mask(value.clone()) })
        };
        headers.iter().map(shown).collect()
    };
    let Exchange { request, result, began, ended, .. } = *exchange;
    let answer = match result {
        Ok(response) => Ok(WireAnswer {
            status: response.status,
            headers: headers(&response.headers),
            body: mask(shown(&response.body)),
        }),
        Err(error) => Err(mask(error.to_string())),
    };
    means.log.wire(WireRecord {
        at: began,
        took: ended.since(began),
        method: request.method.clone(),
        url: mask(request.url.clone()),
        headers: headers(&request.headers),
        body: mask(shown(&request.body)),
        answer,
    });
}

/// Replaces a secret, also as a URL and base64 write it.
fn masked(text: String, secret: &str) -> String {
    if text.contains(secret) {
        return text.replace(secret, "***");
    }
    let encoded = crate::http::form(&[(String::new(), secret.to_owned())]);
    let encoded = encoded.trim_start_matches('=');
    if encoded != secret && text.contains(encoded) { text.replace(encoded, "***") } else { text }
}

/// Returns the beginning of a body as text; of bytes their count.
fn shown(body: &[u8]) -> String {
    let head = body.get(..body.len().min(MAX_BODY)).unwrap_or_default();
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A letter that the cut goes through.
        Err(error) if error.error_len().is_none() && head.len() < body.len() => {
            std::str::from_utf8(head.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        Err(_) => return format!("<{} bytes>", body.len()),
    };
    if text.len() < body.len() { format!("{text}… <{} bytes>", body.len()) } else { text.to_owned() }
}
