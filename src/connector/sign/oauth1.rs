//! OAuth 1.0a (RFC 5849) with HMAC-SHA256 and a realm.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::Unsigned;
use super::UrlParts;
use super::percent;
use crate::connector::body::MediaType;
use crate::connector::body::form;
use crate::model::Timestamp;

const METHOD: &str = "HMAC-SHA256";

/// The secrets of a connection and its realm.
#[derive(Clone, Copy)]
pub struct Settings<'s> {
    pub consumer_key: &'s str,
    pub consumer_secret: &'s str,
    pub token: &'s str,
    pub token_secret: &'s str,
    pub realm: Option<&'s str>,
}

impl std::fmt::Debug for Settings<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Settings").field("realm", &self.realm).finish_non_exhaustive()
    }
}

/// What a request that was verified says about itself; whoever serves checks age and reuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// In seconds since 1970.
    pub timestamp: i64,
    pub nonce: String,
}

/// Returns the `Authorization` header. The nonce must be new for every sending.
pub fn sign(
    request: &Unsigned<'_>,
    settings: &Settings<'_>,
    now: Timestamp,
    nonce: &str,
) -> Result<Vec<(String, String)>, String> {
    let own = own_parameters(settings, now.micros().div_euclid(1_000_000), nonce);
    let base = base_string(request, &own)?;
    let signature = STANDARD.encode(hmac::sign(&key(settings), base.as_bytes()).as_ref());
    let realm = settings.realm.map(|realm| ("realm", realm.to_owned()));
    let signature = ("oauth_signature", signature);
    let fields = realm.into_iter().chain(own).chain([signature]);
    let fields: Vec<String> = fields.map(|(name, value)| format!("{name}=\"{}\"", percent(&value))).collect();
    Ok(vec![("Authorization".to_owned(), format!("OAuth {}", fields.join(", ")))])
}

/// Tells whether a request bears the signature that these settings give, for the side that serves.
pub fn verify(request: &Unsigned<'_>, settings: &Settings<'_>) -> Result<Signed, String> {
    let header = request.header("authorization").ok_or("there is no `Authorization` header")?;
    let fields = fields(header)?;
    let field = |name: &str| {
        let found = fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        found.ok_or_else(|| format!("`{name}` is missing"))
    };
    let must_be = |name: &str, expected: &str| {
        if field(name)? == expected { Ok(()) } else { Err(format!("`{name}` is wrong")) }
    };
    must_be("oauth_signature_method", METHOD)?;
    must_be("oauth_consumer_key", settings.consumer_key)?;
    must_be("oauth_token", settings.token)?;
    settings.realm.map_or(Ok(()), |realm| must_be("realm", realm))?;
    let timestamp = field("oauth_timestamp")?.parse().map_err(|_| "`oauth_timestamp` is no number of seconds")?;
    let own = own_parameters(settings, timestamp, field("oauth_nonce")?);
    let base = base_string(request, &own)?;
    let signature = STANDARD.decode(field("oauth_signature")?).map_err(|_| "`oauth_signature` is not base64")?;
    hmac::verify(&key(settings), base.as_bytes(), &signature).map_err(|_| "`oauth_signature` is wrong")?;
    Ok(Signed { timestamp, nonce: field("oauth_nonce")?.to_owned() })
}

fn fields(header: &str) -> Result<Vec<(String, String)>, String> {
    let rest = header.strip_prefix("OAuth ").ok_or("the `Authorization` header is not of the scheme `OAuth`")?;
    let pair = |field: &str| {
        let (name, value) = field.trim().split_once('=').ok_or("a field of the `Authorization` header has no value")?;
        // A `+` is itself here, unlike in a form.
        let value = form::unescape(&value.trim_matches('"').replace('+', "%2B"))?;
        Ok((name.to_owned(), value))
    };
    rest.split(',').map(pair).collect()
}

fn own_parameters(settings: &Settings<'_>, seconds: i64, nonce: &str) -> [(&'static str, String); 6] {
    [
        ("oauth_consumer_key", settings.consumer_key.to_owned()),
        ("oauth_token", settings.token.to_owned()),
        ("oauth_signature_method", METHOD.to_owned()),
        ("oauth_timestamp", seconds.to_string()),
        ("oauth_nonce", nonce.to_owned()),
        ("oauth_version", "1.0".to_owned()),
    ]
}

fn key(settings: &Settings<'_>) -> hmac::Key {
    let secret = format!("{}&{}", percent(settings.consumer_secret), percent(settings.token_secret));
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}

/// What is signed: method, URL without query, and all parameters, each encoded, sorted, and encoded once more.
fn base_string(request: &Unsigned<'_>, own: &[(&str, String)]) -> Result<String, String> {
    let url = UrlParts::of(request.url)?;
    let mut parameters: Vec<(String, String)> =
        own.iter().map(|(name, value)| (percent(name), percent(value))).collect();
    for (name, value) in form::parse(url.query)?.into_iter().chain(form_of(request)?) {
        parameters.push((percent(&name), percent(&value)));
    }
    parameters.sort();
    let joined: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let base = format!("{}://{}{}", url.scheme.to_ascii_lowercase(), url.host(), url.path);
    Ok(format!("{}&{}&{}", request.method, percent(&base), percent(&joined.join("&"))))
}

/// Only a form in the body belongs to the parameters.
fn form_of(request: &Unsigned<'_>) -> Result<Vec<(String, String)>, String> {
    let media = request.header("content-type").map(MediaType::parse).unwrap_or_default();
    if media.essence != "application/x-www-form-urlencoded" {
        return Ok(Vec::new());
    }
    form::parse(std::str::from_utf8(request.body).map_err(|_| "the form is not UTF-8")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "https://1234567-sb1.suitetalk.api.netsuite.com/services/rest";
    const BASE: &str = "https%3A%2F%2F1234567-sb1.suitetalk.api.netsuite.com%2Fservices%2Frest";
    const OWN: &str = "oauth_consumer_key%3D0a1b2c3d4e5f60718293a4b5c6d7e8f9%26oauth_nonce%3DfjaLirsIcCGVZWzBX0pg%26\
        oauth_signature_method%3DHMAC-SHA256%26oauth_timestamp%3D1767225600%26\
        oauth_token%3D9f8e7d6c5b4a39281706f5e4d3c2b1a0%26oauth_version%3D1.0";
    const NONCE: &str = "fjaLirsIcCGVZWzBX0pg";

    const SETTINGS: Settings<'_> = Settings {
        consumer_key: "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
        consumer_secret: "cs-7f3d/+=&secret",
        token: "9f8e7d6c5b4a39281706f5e4d3c2b1a0",
        token_secret: "ts~A-b_c.1%2",
        realm: Some("1234567_SB1"),
    };

    fn now() -> Timestamp {
        Timestamp(1_767_225_600_000_000)
    }

    fn base_of(request: &Unsigned<'_>) -> String {
        base_string(request, &own_parameters(&SETTINGS, 1_767_225_600, NONCE)).unwrap()
    }

    fn header_of(request: &Unsigned<'_>) -> String {
        let mut headers = sign(request, &SETTINGS, now(), NONCE).unwrap();
        assert_eq!(headers.len(), 1);
        assert_eq!(headers[0].0, "Authorization");
        headers.remove(0).1
    }

    fn check(method: &str, path: &str, base: &str, signature: &str) {
        let url = format!("{ACCOUNT}{path}");
        let json = [("Content-Type".to_owned(), "application/json".to_owned())];
        let request = Unsigned { method, url: &url, headers: &json, body: b"{\"q\":\"SELECT 1\"}" };
        assert_eq!(base_of(&request), base);
        let header = header_of(&request);
        assert!(header.contains(&format!("oauth_signature=\"{}\"", percent(signature))), "{header}");
    }

    #[test]
    fn the_vectors_of_the_fact_sheet_are_met() {
        check(
            "GET",
            "/record/v1/customer/107",
            &format!("GET&{BASE}%2Frecord%2Fv1%2Fcustomer%2F107&{OWN}"),
            "Dq4uOaz7MivWwuSX8IoStg6JsixO4Bio8jARxcYKGeE=",
        );
        check(
            "POST",
            "/query/v1/suiteql?limit=1000&offset=2000",
            &format!("POST&{BASE}%2Fquery%2Fv1%2Fsuiteql&limit%3D1000%26{OWN}%26offset%3D2000"),
            "TOfa8yVvWdNwXF2p1quXHTcOhEFTG8GfCSy1Z/3fOBc=",
        );
        check(
            "GET",
            "/record/v1/customer?q=email%20IS%20%22a%2Bb%40x.test%22&limit=50",
            &format!(
                "GET&{BASE}%2Frecord%2Fv1%2Fcustomer&limit%3D50%26{OWN}%26q%3Demail%2520IS%2520%2522a%252Bb%2540x.test%2522"
            ),
            "y5CDfDuU1Tpj+DqSR0fcRgbqhalurABs+YsTa/U3Eow=",
        );
    }

    #[test]
    fn the_header_is_written_as_the_sheet_shows_it() {
        let url = format!("{ACCOUNT}/query/v1/suiteql?limit=1000&offset=2000");
        let header = header_of(&Unsigned { method: "POST", url: &url, headers: &[], body: b"{}" });
        assert_eq!(
            header,
            "OAuth realm=\"1234567_SB1\", oauth_consumer_key=\"0a1b2c3d4e5f60718293a4b5c6d7e8f9\", \
             oauth_token=\"9f8e7d6c5b4a39281706f5e4d3c2b1a0\", oauth_signature_method=\"HMAC-SHA256\", \
             oauth_timestamp=\"1767225600\", oauth_nonce=\"fjaLirsIcCGVZWzBX0pg\", oauth_version=\"1.0\", \
             oauth_signature=\"TOfa8yVvWdNwXF2p1quXHTcOhEFTG8GfCSy1Z%2F3fOBc%3D\""
        );
    }

    #[test]
    fn a_form_counts_and_parameters_are_sorted_by_encoded_name_and_value() {
        let headers = [("content-type".to_owned(), "application/x-www-form-urlencoded; charset=utf-8".to_owned())];
        let url = "HTTP://Example.com:80/r%20v/X?b5=%3D%253D&a3=a&c%40=&a2=r%20b";
        let request = Unsigned { method: "POST", url, headers: &headers, body: b"c2&a3=2+q" };
        let base = base_of(&request);
        // The parameters of RFC 5849, 3.4.1.3.1.
        assert!(base.starts_with("POST&http%3A%2F%2Fexample.com%2Fr%2520v%2FX&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D%253D%25253D%26c%2540%3D%26c2%3D%26oauth_"), "{base}");
    }

    #[test]
    fn a_request_verifies_only_as_it_was_signed() {
        let url = format!("{ACCOUNT}/x?a=1%2B2");
        let unsigned = Unsigned { method: "GET", url: &url, headers: &[], body: b"" };
        let headers = sign(&unsigned, &SETTINGS, now(), NONCE).unwrap();
        let signed = Unsigned { headers: &headers, ..unsigned };
        assert_eq!(verify(&signed, &SETTINGS).unwrap(), Signed { timestamp: 1_767_225_600, nonce: NONCE.to_owned() });
        let other_url = format!("{ACCOUNT}/x?a=1%2B3");
        assert_eq!(
            verify(&Unsigned { url: &other_url, ..signed }, &SETTINGS).unwrap_err(),
            "`oauth_signature` is wrong"
        );
        let other = Settings { token_secret: "other", ..SETTINGS };
        assert_eq!(verify(&signed, &other).unwrap_err(), "`oauth_signature` is wrong");
        let other = Settings { realm: Some("1234567"), ..SETTINGS };
        assert_eq!(verify(&signed, &other).unwrap_err(), "`realm` is wrong");
        assert!(verify(&unsigned, &SETTINGS).is_err());
    }

    #[test]
    fn settings_do_not_show_their_secrets() {
        let shown = format!("{SETTINGS:?}");
        assert!(!shown.contains("cs-7f3d") && !shown.contains("ts~A"), "{shown}");
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_refused_without_a_panic(text in ".{0,60}", wrapped in proptest::bool::ANY) {
            let text = if wrapped { format!("OAuth oauth_token=\"{text}\", oauth_nonce={text}") } else { text };
            let headers = [("Authorization".to_owned(), text)];
            let request = Unsigned { method: "GET", url: "https://a.test/", headers: &headers, body: b"" };
            proptest::prop_assert!(verify(&request, &SETTINGS).is_err());
        }
    }
}
