//! Signature Version 4 of AWS, as headers and as a presigned URL.

use ring::digest;
use ring::hmac;

use super::Unsigned;
use super::UrlParts;
use super::hexadecimal;
use super::percent;
use super::percent_bytes;
use crate::connector::body::form::unescape_bytes;
use crate::model::Duration;
use crate::model::Timestamp;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Whose signature it is, and for which service.
#[derive(Clone, Copy)]
pub struct Settings<'s> {
    pub service: &'s str,
    pub region: &'s str,
    pub access_key: &'s str,
    pub secret_key: &'s str,
    pub session_token: Option<&'s str>,
    /// Leaves the body out of the signature, where it is not at hand or too large to hash.
    pub unsigned_payload: bool,
}

impl std::fmt::Debug for Settings<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Settings");
        shown.field("service", &self.service).field("region", &self.region).finish_non_exhaustive()
    }
}

impl Settings<'_> {
    /// The object store encodes a path once, does not normalize it, and wants the hash of the payload as a header.
    fn is_object_store(&self) -> bool {
        self.service == "s3"
    }

    fn scope(&self, date: &str) -> String {
        format!("{date}/{}/{}/aws4_request", self.region, self.service)
    }
}

/// Returns the headers to lay over a request: the date, the signature, and what the service wants besides.
pub fn sign(request: &Unsigned<'_>, settings: &Settings<'_>, now: Timestamp) -> Result<Vec<(String, String)>, String> {
    let moment = amz_date(now);
    let payload = if settings.unsigned_payload { UNSIGNED.to_owned() } else { sha256(request.body) };
    let mut added = vec![("x-amz-date".to_owned(), moment.clone())];
    if settings.is_object_store() {
        added.push(("x-amz-content-sha256".to_owned(), payload.clone()));
    }
    if let Some(token) = settings.session_token {
        added.push(("x-amz-security-token".to_owned(), token.to_owned()));
    }
    let url = UrlParts::of(request.url)?;
    let headers = signed_headers(request, &added, &url);
    let canonical = canonical_request(request.method, &url, url.query, settings, &headers, &payload)?;
    let signature = signature(&canonical, settings, &moment);
    let authorization = format!(
        "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={signature}",
        settings.access_key,
        settings.scope(date_of(&moment)),
        names(&headers)
    );
    added.push(("Authorization".to_owned(), authorization));
    Ok(added)
}

/// Returns the URL with a signature in its query: whoever has it may do this one thing until it expires.
pub fn presign(
    method: &str,
    url: &str,
    settings: &Settings<'_>,
    now: Timestamp,
    expires: Duration,
) -> Result<String, String> {
    let seconds = expires.micros() / 1_000_000;
    if !(1..=604_800).contains(&seconds) {
        return Err("a presigned URL lives from one second to seven days".to_owned());
    }
    let (url, _) = url.split_once('#').unwrap_or((url, ""));
    let parts = UrlParts::of(url)?;
    let moment = amz_date(now);
    let credential = format!("{}/{}", settings.access_key, settings.scope(date_of(&moment)));
    let mut added = vec![
        ("X-Amz-Algorithm", ALGORITHM.to_owned()),
        ("X-Amz-Credential", credential),
        ("X-Amz-Date", moment.clone()),
        ("X-Amz-Expires", seconds.to_string()),
        ("X-Amz-SignedHeaders", "host".to_owned()),
    ];
    added.extend(settings.session_token.map(|token| ("X-Amz-Security-Token", token.to_owned())));
    let added: Vec<String> = added.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect();
    let joint = if parts.query.is_empty() { "" } else { "&" };
    let query = format!("{}{joint}{}", parts.query, added.join("&"));
    let headers = [("host".to_owned(), parts.host())];
    let canonical = canonical_request(method, &parts, &query, settings, &headers, UNSIGNED)?;
    let signature = signature(&canonical, settings, &moment);
    let bare = url.split_once('?').map_or(url, |(bare, _)| bare);
    Ok(format!("{bare}?{query}&X-Amz-Signature={signature}"))
}

/// Tells whether a request bears the signature that these settings give, for the side that serves; returns the moment
/// that it was signed at. The credential's scope must be ours.
pub fn verify(request: &Unsigned<'_>, settings: &Settings<'_>) -> Result<Timestamp, String> {
    let header = request.header("authorization").ok_or("there is no `Authorization` header")?;
    let fields = header.strip_prefix(ALGORITHM).ok_or_else(|| format!("the signature is not of `{ALGORITHM}`"))?;
    let field = |name: &str| {
        let found = fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
        found.ok_or_else(|| format!("`{name}` is missing"))
    };
    let moment = request.header("x-amz-date").ok_or("`x-amz-date` is missing")?;
    let signed_at = parse_date(moment).ok_or("`x-amz-date` is no moment")?;
    if field("Credential")? != format!("{}/{}", settings.access_key, settings.scope(date_of(moment))) {
        return Err("`Credential` is wrong".to_owned());
    }
    let url = UrlParts::of(request.url)?;
    let mut headers = Vec::new();
    for name in field("SignedHeaders")?.split(';') {
        let value = request.header(name).map(str::to_owned);
        let value = value.or_else(|| (name == "host").then(|| url.host()));
        let value = value.ok_or_else(|| format!("the signed header `{name}` is missing"))?;
        headers.push((name.to_owned(), trimmed(&value)));
    }
    let hash = sha256(request.body);
    let payload = request.header("x-amz-content-sha256").unwrap_or(&hash);
    if payload != hash && payload != UNSIGNED {
        return Err("`x-amz-content-sha256` is not the hash of the body".to_owned());
    }
    let canonical = canonical_request(request.method, &url, url.query, settings, &headers, payload)?;
    let expected = signature(&canonical, settings, moment);
    // Equal lengths first; the comparison itself takes the same time wherever they differ.
    let given = field("Signature")?.as_bytes();
    let differs = given.iter().zip(expected.as_bytes()).fold(0, |sum, (one, other)| sum | (one ^ other));
    if given.len() != expected.len() || differs != 0 {
        return Err("`Signature` is wrong".to_owned());
    }
    Ok(signed_at)
}

/// Host, content type and everything of AWS itself is signed; what a proxy may change is not.
fn signed_headers(request: &Unsigned<'_>, added: &[(String, String)], url: &UrlParts<'_>) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = vec![("host".to_owned(), url.host())];
    headers.extend(added.iter().cloned());
    for (name, value) in request.headers {
        let name = name.to_ascii_lowercase();
        let signed = name.starts_with("x-amz-") || name == "content-type" || name == "content-md5";
        let replaced = added.iter().any(|(own, _)| *own == name);
        match headers.iter_mut().find(|(own, _)| *own == name) {
            _ if !signed || replaced => {}
            Some((_, together)) => {
                together.push(',');
                together.push_str(&trimmed(value));
            }
            None => headers.push((name, trimmed(value))),
        }
    }
    headers.sort();
    headers
}

/// Takes white space off both ends and makes each run of it one space.
fn trimmed(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

fn names(headers: &[(String, String)]) -> String {
    headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";")
}

fn canonical_request(
    method: &str,
    url: &UrlParts<'_>,
    query: &str,
    settings: &Settings<'_>,
    headers: &[(String, String)],
    payload: &str,
) -> Result<String, String> {
    let path = canonical_path(url.path, settings);
    let query = canonical_query(query);
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    if lines.contains('\r') {
        return Err("a header has more than one line".to_owned());
    }
    Ok(format!("{method}\n{path}\n{query}\n{lines}\n{}\n{payload}", names(headers)))
}

fn canonical_path(path: &str, settings: &Settings<'_>) -> String {
    let once = |path: &str| {
        let segments = path.split('/').map(|segment| percent_bytes(&unescape_bytes(&segment.replace('+', "%2B"))));
        segments.collect::<Vec<_>>().join("/")
    };
    if settings.is_object_store() {
        return once(path);
    }
    let encoded = once(&normalized(path));
    encoded.split('/').map(percent).collect::<Vec<_>>().join("/")
}

/// Resolves `.` and `..` and empty segments, as services other than the object store do.
fn normalized(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let end = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

fn canonical_query(query: &str) -> String {
    let pair = |field: &str| {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        (percent_bytes(&unescape_bytes(name)), percent_bytes(&unescape_bytes(value)))
    };
    let mut pairs: Vec<(String, String)> = query.split('&').filter(|field| !field.is_empty()).map(pair).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn signature(canonical: &str, settings: &Settings<'_>, moment: &str) -> String {
    let scope = settings.scope(date_of(moment));
    let to_sign = format!("{ALGORITHM}\n{moment}\n{scope}\n{}", sha256(canonical.as_bytes()));
    let key = signing_key(settings, date_of(moment));
    hexadecimal(hmac_sha256(&key, to_sign.as_bytes()).as_ref())
}

fn signing_key(settings: &Settings<'_>, date: &str) -> Vec<u8> {
    let secret = format!("AWS4{}", settings.secret_key);
    let steps = [date, settings.region, settings.service, "aws4_request"];
    steps.iter().fold(secret.into_bytes(), |key, step| hmac_sha256(&key, step.as_bytes()).as_ref().to_vec())
}

fn hmac_sha256(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
}

fn sha256(bytes: &[u8]) -> String {
    hexadecimal(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Writes a moment as `20260115T120000Z`.
fn amz_date(now: Timestamp) -> String {
    now.to_jiff().strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn date_of(moment: &str) -> &str {
    moment.get(..8).unwrap_or(moment)
}

fn parse_date(moment: &str) -> Option<Timestamp> {
    let civil = moment.strip_suffix('Z')?;
    jiff::Timestamp::strptime("%Y%m%dT%H%M%S%z", format!("{civil}+0000")).ok().map(Timestamp::from_jiff)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S3: Settings<'_> = Settings {
        service: "s3",
        region: "us-east-1",
        access_key: "AKIDEXAMPLE",
        secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        session_token: None,
        unsigned_payload: false,
    };
    const KMS: Settings<'_> = Settings { service: "kms", ..S3 };
    const OBJECT: &str = "http://127.0.0.1:9000/pipeline-artifacts/runs/2026/a%20b.json";

    fn now() -> Timestamp {
        "2026-01-15T12:00:00Z".parse().unwrap()
    }

    fn pairs(headers: &[(&str, &str)]) -> Vec<(String, String)> {
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// A vector of the fact sheet: what is signed, by which names, and what comes out.
    struct Vector<'v> {
        method: &'v str,
        url: &'v str,
        headers: &'v [(&'v str, &'v str)],
        body: &'v [u8],
        names: &'v str,
        payload: &'v str,
        canonical: &'v str,
        signature: &'v str,
    }

    fn check(settings: &Settings<'_>, vector: &Vector<'_>) {
        let headers = pairs(vector.headers);
        let request = Unsigned { method: vector.method, url: vector.url, headers: &headers, body: vector.body };
        assert_eq!(sha256(vector.body), vector.payload);
        let added = sign(&request, settings, now()).unwrap();
        let authorization = &added.last().unwrap().1;
        let expected = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260115/us-east-1/{}/aws4_request, SignedHeaders={}, Signature={}",
            settings.service, vector.names, vector.signature
        );
        assert_eq!(*authorization, expected);
        let all: Vec<_> = headers.iter().cloned().chain(added.iter().cloned()).collect();
        let url = UrlParts::of(vector.url).unwrap();
        let signed = signed_headers(&Unsigned { headers: &all, ..request }, &[], &url);
        let canonical = canonical_request(vector.method, &url, url.query, settings, &signed, vector.payload).unwrap();
        assert_eq!(sha256(canonical.as_bytes()), vector.canonical, "{canonical}");
        assert_eq!(verify(&Unsigned { headers: &all, ..request }, settings).unwrap(), now());
    }

    #[test]
    fn the_vectors_of_the_object_store_are_met() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let get = Vector {
            method: "GET",
            url: OBJECT,
            headers: &[],
            body: b"",
            names: "host;x-amz-content-sha256;x-amz-date",
            payload: empty,
            canonical: "37d11122578dde45f113a6dd9a35936d2568f1cf9e2a758d799d70a11da9426b",
            signature: "33e7bf313d7e85bed145d45c7aee9bd4fb76880813701748cd1a1c12e51bc8d0",
        };
        check(&S3, &get);
        let list = Vector {
            url: "http://127.0.0.1:9000/pipeline-artifacts?list-type=2&max-keys=2&prefix=runs%2F",
            canonical: "4b0c7bcc0e9babe27ccef545c1ae9ae571c6382ec7bcc933341849fb1ab843be",
            signature: "7edd102a70e054b25243ad6ca92ad6abd2f3f3511ca4d5d71ecc20183a3cd177",
            ..get
        };
        check(&S3, &list);
        // The order of a query and how it was escaped are of no account.
        let url = "http://127.0.0.1:9000/pipeline-artifacts?prefix=runs/&list-type=2&max-keys=2";
        check(&S3, &Vector { url, ..list });
        check(
            &S3,
            &Vector {
                method: "PUT",
                url: OBJECT,
                headers: &[("Content-Type", " application/json "), ("x-amz-meta-run-id", "r1"), ("Accept", "*/*")],
                body: b"{\"ok\":true}",
                names: "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-meta-run-id",
                payload: "4062edaf750fb8074e7e83e0c9028c94e32468a8b6f1614774328ef045150f93",
                canonical: "8fc6f7f04364d5f8c1a82fafae2cec61ae44407a2069cf51098da317d5db43b9",
                signature: "5a6fc4bf8eef115c6cd1e1f314c39c05ed4c3ec2e1691a4fc0244cceb0a73b5f",
            },
        );
    }

    #[test]
    fn the_vector_of_the_key_service_is_met() {
        check(
            &KMS,
            &Vector {
                method: "POST",
                url: "http://127.0.0.1:9001/",
                headers: &[
                    ("content-type", "application/x-amz-json-1.1"),
                    ("X-Amz-Target", "TrentService.GenerateDataKey"),
                ],
                body: b"{\"KeyId\":\"alias/pipeline\",\"KeySpec\":\"AES_256\"}",
                names: "content-type;host;x-amz-date;x-amz-target",
                payload: "ebbf591342ddfdb77698946b18e8a9d82816a4a1bdea8d3a30e53a05270a8794",
                canonical: "dd4bf9f02d0ac09f9cd0cd3a148d833672d089c473783cfc1bfb61ae16bd49f4",
                signature: "b702c66416034b67e3e3e84f5f0fbed9db9876cea8ab29490c69da17612e3ef2",
            },
        );
    }

    #[test]
    fn the_signing_keys_are_those_of_the_sheet() {
        let key = |settings| hexadecimal(&signing_key(settings, "20260115"));
        assert_eq!(key(&S3), "752c0fbdc2c2d87910a21a6805cc5a7923650984c6c2c9489995de6c86f80530");
        assert_eq!(key(&KMS), "4aa2373794a3cd6f811598de986d3dc4f6b5d922348f827d307b6b18df57d936");
    }

    #[test]
    fn a_presigned_url_is_that_of_the_documentation() {
        let settings = Settings {
            access_key: "AKIAIOSFODNN7EXAMPLE",
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            ..S3
        };
        let now = "2013-05-24T00:00:00Z".parse().unwrap();
        let url = "https://examplebucket.s3.amazonaws.com/test.txt";
        let presigned = presign("GET", url, &settings, now, Duration::from_secs(86_400)).unwrap();
        assert_eq!(
            presigned,
            "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z\
             &X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
        for seconds in [0, 604_801] {
            assert!(presign("GET", url, &settings, now, Duration::from_secs(seconds)).is_err());
        }
        let with_query = presign("GET", &format!("{url}?a=1#f"), &settings, now, Duration::from_secs(1)).unwrap();
        assert!(with_query.contains("/test.txt?a=1&X-Amz-Algorithm="), "{with_query}");
    }

    #[test]
    fn a_session_token_is_sent_and_signed() {
        let settings = Settings { session_token: Some("token/+="), ..S3 };
        let request = Unsigned { method: "GET", url: OBJECT, headers: &[], body: b"" };
        let added = sign(&request, &settings, now()).unwrap();
        assert!(added.contains(&("x-amz-security-token".to_owned(), "token/+=".to_owned())));
        assert!(added.last().unwrap().1.contains("x-amz-date;x-amz-security-token,"));
        let url = presign("GET", OBJECT, &settings, now(), Duration::from_secs(60)).unwrap();
        assert!(url.contains("&X-Amz-Security-Token=token%2F%2B%3D&X-Amz-Signature="), "{url}");
    }

    #[test]
    fn the_payload_may_stay_unsigned() {
        let settings = Settings { unsigned_payload: true, ..S3 };
        let request = Unsigned { method: "PUT", url: OBJECT, headers: &[], body: b"large" };
        let added = sign(&request, &settings, now()).unwrap();
        assert!(added.contains(&("x-amz-content-sha256".to_owned(), "UNSIGNED-PAYLOAD".to_owned())));
        verify(&Unsigned { headers: &added, body: b"other", ..request }, &settings).unwrap();
    }

    #[test]
    fn the_object_store_takes_a_path_as_it_is_and_others_normalize_it() {
        assert_eq!(canonical_path("/a//../b%20c/+(1)", &S3), "/a//../b%20c/%2B%281%29");
        assert_eq!(canonical_path("/a//./x/../b%20c/", &KMS), "/a/b%2520c/");
        assert_eq!(canonical_path("/", &KMS), "/");
        assert_eq!(canonical_query("b&a=2&a=1+2&%7e="), "a=1%202&a=2&b=&~=");
    }

    #[test]
    fn a_request_verifies_only_as_it_was_signed() {
        let request = Unsigned { method: "PUT", url: OBJECT, headers: &[], body: b"{}" };
        let added = sign(&request, &S3, now()).unwrap();
        let signed = Unsigned { headers: &added, ..request };
        verify(&signed, &S3).unwrap();
        let wrong = |request: &Unsigned<'_>, settings: &Settings<'_>| verify(request, settings).unwrap_err();
        assert_eq!(wrong(&Unsigned { method: "POST", ..signed }, &S3), "`Signature` is wrong");
        assert_eq!(
            wrong(&Unsigned { body: b"{} ", ..signed }, &S3),
            "`x-amz-content-sha256` is not the hash of the body"
        );
        assert_eq!(wrong(&signed, &Settings { secret_key: "x", ..S3 }), "`Signature` is wrong");
        assert_eq!(wrong(&signed, &Settings { region: "eu-west-1", ..S3 }), "`Credential` is wrong");
        assert!(verify(&request, &S3).is_err());
    }

    #[test]
    fn settings_do_not_show_their_secrets() {
        assert!(!format!("{S3:?}").contains("wJalr"));
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_refused_without_a_panic(text in ".{0,80}", date in ".{0,20}") {
            let headers = pairs(&[("authorization", &format!("{ALGORITHM} {text}")), ("x-amz-date", &date)]);
            let request = Unsigned { method: "GET", url: OBJECT, headers: &headers, body: b"" };
            proptest::prop_assert!(verify(&request, &S3).is_err());
        }
    }
}
