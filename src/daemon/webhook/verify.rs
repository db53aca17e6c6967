//! Who sends: signatures over the raw body, and the time stamps in them. Pure; nothing of a secret comes out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use crate::model::Duration;
use crate::model::Timestamp;
use crate::pipeline::Preset;

/// Headers by their names in lower case.
pub(super) type Headers = [(String, String)];

/// What keeps a request from being believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It bears no signature, or none that can be read.
    Missing,
    /// Its signature is of no secret that there is.
    Wrong,
    /// It is signed, but not of this time: somebody sends again what was sent before.
    Stale,
}

impl Refusal {
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Missing => "the signature is missing",
            Self::Wrong => "the signature does not fit",
            Self::Stale => "the time stamp is not of now",
        }
    }
}

/// The headers of signatures, which no run needs to see.
pub(super) const SIGNATURES: [&str; 5] =
    ["x-hub-signature", "x-hub-signature-256", "stripe-signature", "x-slack-signature", "webhook-signature"];

/// Returns the first header of a name.
pub(super) fn header<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}

/// Checks that a request was signed with one of the secrets, and just now.
pub(super) fn verify(
    preset: Option<Preset>,
    secrets: &[String],
    headers: &Headers,
    body: &[u8],
    (now, window): (Timestamp, Duration),
) -> Result<(), Refusal> {
    let signed = signed(preset, headers, body).ok_or(Refusal::Missing)?;
    let fits = |secret: &String| {
        let key = key(preset, secret);
        // All are compared, so that the time tells nothing.
        signed.signatures.iter().filter(|signature| hmac::verify(&key, &signed.text, signature).is_ok()).count() > 0
    };
    if secrets.iter().filter(|secret| fits(secret)).count() == 0 {
        return Err(Refusal::Wrong);
    }
    match signed.stamp {
        Some(stamp) if now.since(stamp) > window || stamp.since(now) > window => Err(Refusal::Stale),
        _ => Ok(()),
    }
}

/// Tells whether two texts are the same, in a time that does not tell where they differ.
pub(super) fn same(one: &str, other: &str) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"compared");
    hmac::verify(&key, one.as_bytes(), hmac::sign(&key, other.as_bytes()).as_ref()).is_ok()
}

/// What is signed, and the signatures that are said to be of it.
struct Signed {
    text: Vec<u8>,
    signatures: Vec<Vec<u8>>,
    stamp: Option<Timestamp>,
}

fn signed(preset: Option<Preset>, headers: &Headers, body: &[u8]) -> Option<Signed> {
    let header = |name: &str| header(headers, name);
    let (text, signatures, stamp) = match preset {
        Some(Preset::Github | Preset::Meta) => {
            let signature = header("x-hub-signature-256")?.trim().strip_prefix("sha256=")?;
            (body.to_vec(), vec![hexadecimal(signature)?], None)
        }
        Some(Preset::Stripe) => {
            let parts = || header("stripe-signature").into_iter().flat_map(|text| text.split(','));
            let pair =
                |part: &'_ str| part.trim().split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
            let stamp = parts().filter_map(pair).find(|(key, _)| key == "t")?.1;
            // Older schemes are weaker: only v1 counts.
            let signatures = parts().filter_map(pair).filter(|(key, _)| key == "v1");
            let signatures = signatures.filter_map(|(_, value)| hexadecimal(&value)).collect();
            (joined(&[stamp.as_bytes(), b".", body]), signatures, Some(seconds(&stamp)?))
        }
        Some(Preset::Slack) => {
            let stamp = header("x-slack-request-timestamp")?.trim();
            let signature = header("x-slack-signature")?.trim().strip_prefix("v0=")?;
            (joined(&[b"v0:", stamp.as_bytes(), b":", body]), vec![hexadecimal(signature)?], Some(seconds(stamp)?))
        }
        None => {
            let (id, stamp) = (header("webhook-id")?.trim(), header("webhook-timestamp")?.trim());
            let signatures = header("webhook-signature")?.split_whitespace();
            let signatures = signatures.filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok()).collect();
            let text = joined(&[id.as_bytes(), b".", stamp.as_bytes(), b".", body]);
            (text, signatures, Some(seconds(stamp)?))
        }
    };
    Some(Signed { text, signatures, stamp }).filter(|signed| !signed.signatures.is_empty())
}

/// Makes the key of a secret; one of Standard Webhooks is written in base64.
fn key(preset: Option<Preset>, secret: &str) -> hmac::Key {
    let written = secret.strip_prefix("whsec_").filter(|_| preset.is_none());
    let decoded = written.and_then(|text| STANDARD.decode(text).ok());
    hmac::Key::new(hmac::HMAC_SHA256, decoded.as_deref().unwrap_or(secret.as_bytes()))
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn seconds(text: &str) -> Option<Timestamp> {
    let plain = !text.is_empty() && text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    Some(Timestamp(text.parse::<i64>().ok().filter(|_| plain)?.checked_mul(1_000_000)?))
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(300);

    fn check(
        preset: Option<Preset>,
        secrets: &[&str],
        headers: &[(&str, &str)],
        body: &str,
        now: i64,
    ) -> Result<(), Refusal> {
        let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let secrets: Vec<_> = secrets.iter().map(ToString::to_string).collect();
        verify(preset, &secrets, &headers, body.as_bytes(), (Timestamp(now * 1_000_000), WINDOW))
    }

    /// <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>
    #[test]
    fn the_example_of_github_s_documentation() {
        let secret = "It's a Secret to Everybody";
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let github = |secrets: &[&str], signature: &str, body: &str| {
            check(Some(Preset::Github), secrets, &[("x-hub-signature-256", signature)], body, 0)
        };
        assert_eq!(github(&[secret], signature, "Hello, World!"), Ok(()));
        assert_eq!(github(&["new", secret], signature, "Hello, World!"), Ok(()), "a secret that is being changed");
        assert_eq!(github(&[secret], signature, "Hello, World?"), Err(Refusal::Wrong));
        assert_eq!(github(&["other"], signature, "Hello, World!"), Err(Refusal::Wrong));
        assert_eq!(github(&[], signature, "Hello, World!"), Err(Refusal::Wrong));
        for bad in ["", "sha1=757107ea", "sha256=", "sha256=xyz1", "sha256=757"] {
            assert!(github(&[secret], bad, "Hello, World!").is_err(), "{bad}");
        }
        assert!(github(&[secret], "sha256=757107ea0eb2509f", "Hello, World!").is_err(), "a beginning is not enough");
        assert_eq!(check(Some(Preset::Github), &[secret], &[], "Hello, World!", 0), Err(Refusal::Missing));
    }

    /// <https://api.slack.com/authentication/verifying-requests-from-slack>
    #[test]
    fn the_example_of_slack_s_documentation() {
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let headers = [
            ("x-slack-signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
            ("x-slack-request-timestamp", "1531420618"),
        ];
        let slack = |now: i64| check(Some(Preset::Slack), &["8f742231b10e8888abcd99yyyzzz85a5"], &headers, body, now);
        assert_eq!(slack(1_531_420_618), Ok(()));
        assert_eq!(slack(1_531_420_618 + 300), Ok(()));
        assert_eq!(slack(1_531_420_618 - 300), Ok(()), "a clock that is behind");
        assert_eq!(slack(1_531_420_618 + 301), Err(Refusal::Stale));
        assert_eq!(slack(1_531_420_618 - 301), Err(Refusal::Stale));
        let other = [headers[0], ("x-slack-request-timestamp", "1531420619")];
        assert_eq!(
            check(Some(Preset::Slack), &["8f742231b10e8888abcd99yyyzzz85a5"], &other, body, 1_531_420_619),
            Err(Refusal::Wrong),
            "the time stamp is signed"
        );
    }

    /// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>
    #[test]
    fn the_example_of_standard_webhooks() {
        let headers = [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v2,g0hM"),
        ];
        let body = r#"{"test": 2432232314}"#;
        let secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];
        assert_eq!(check(None, &secrets, &headers, body, 1_614_265_330), Ok(()));
        assert_eq!(check(None, &secrets, &headers, body, 1_614_265_631), Err(Refusal::Stale));
        let other = [("webhook-id", "msg_other"), headers[1], headers[2]];
        assert_eq!(check(None, &secrets, &other, body, 1_614_265_330), Err(Refusal::Wrong), "the id is signed");
        let weaker = [headers[0], headers[1], ("webhook-signature", "v0,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")];
        assert_eq!(check(None, &secrets, &weaker, body, 1_614_265_330), Err(Refusal::Missing));
    }

    /// The scheme of <https://docs.stripe.com/webhooks/signature>, signed here by hand.
    #[test]
    fn stripe_may_sign_with_several_secrets() {
        let body = r#"{"id":"evt_1","object":"event"}"#;
        let sign = |secret: &str, stamp: &str| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
            let signature = hmac::sign(&key, format!("{stamp}.{body}").as_bytes());
            signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let stripe = |header: &str, now: i64| {
            check(Some(Preset::Stripe), &["whsec_new"], &[("stripe-signature", header)], body, now)
        };
        let (old, new) = (sign("whsec_old", "1492774577"), sign("whsec_new", "1492774577"));
        assert_eq!(stripe(&format!("t=1492774577,v1={old},v1={new}"), 1_492_774_600), Ok(()));
        assert_eq!(stripe(&format!("t=1492774577, v1={new}, v0={old}"), 1_492_774_600), Ok(()));
        assert_eq!(stripe(&format!("t=1492774577,v1={old}"), 1_492_774_600), Err(Refusal::Wrong));
        assert_eq!(stripe(&format!("t=1492774577,v0={new}"), 1_492_774_600), Err(Refusal::Missing));
        assert_eq!(stripe(&format!("v1={new}"), 1_492_774_600), Err(Refusal::Missing));
        assert_eq!(stripe(&format!("t=1492774578,v1={new}"), 1_492_774_600), Err(Refusal::Wrong));
        assert_eq!(stripe(&format!("t=1492774577,v1={new}"), 1_492_774_877), Ok(()));
        assert_eq!(stripe(&format!("t=1492774577,v1={new}"), 1_492_774_878), Err(Refusal::Stale));
    }

    #[test]
    fn texts_are_the_same_or_not() {
        assert!(same("a token", "a token"));
        assert!(!same("a token", "a toker") && !same("a token", "a toke") && !same("", "a"));
    }
}
