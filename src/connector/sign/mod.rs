//! Signers of requests: OAuth 1.0a, SigV4, JWT; pure.
//!
//! A signer gets the request exactly as it will be sent, and gives headers that are laid over it. Whatever changes the
//! URL or the body after signing breaks the signature.

pub mod jwt;
pub mod oauth1;
pub mod sigv4;

use std::fmt::Write;

/// A request before it is signed.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'r> {
    /// Upper case.
    pub method: &'r str,
    /// Absolute, percent-encoded, as it goes out.
    pub url: &'r str,
    pub headers: &'r [(String, String)],
    pub body: &'r [u8],
}

impl Unsigned<'_> {
    /// Returns the first header with this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The parts of a URL that signatures look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UrlParts<'u> {
    scheme: &'u str,
    /// Host and port, without user.
    authority: &'u str,
    path: &'u str,
    query: &'u str,
}

impl<'u> UrlParts<'u> {
    fn of(url: &'u str) -> Result<Self, String> {
        let (url, _) = url.split_once('#').unwrap_or((url, ""));
        let (scheme, rest) = url.split_once("://").ok_or("only an absolute URL can be signed")?;
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match before.find('/') {
            Some(at) => before.split_at(at),
            None => (before, "/"),
        };
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if authority.is_empty() {
            return Err("only a URL with a host can be signed".to_owned());
        }
        Ok(Self { scheme, authority, path, query })
    }

    /// Returns the host in lower case, with its port unless that is the scheme's own.
    fn host(&self) -> String {
        let host = self.authority.to_ascii_lowercase();
        let default = match self.scheme.to_ascii_lowercase().as_str() {
            "https" => ":443",
            "http" => ":80",
            _ => "",
        };
        match host.strip_suffix(default) {
            Some(bare) if !default.is_empty() => bare.to_owned(),
            _ => host,
        }
    }
}

/// Percent-encodes by RFC 3986: everything but letters, digits and `-._~`.
fn percent(text: &str) -> String {
    percent_bytes(text.as_bytes())
}

fn percent_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing into a string cannot fail");
        }
    }
    out
}

/// Writes bytes as lower-case hexadecimal digits.
fn hexadecimal(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(out, "{byte:02x}").expect("writing into a string cannot fail");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let parts = UrlParts::of("HTTPS://me:pw@Api.Example.com:443/a/b?x=1?#f").unwrap();
        assert_eq!((parts.path, parts.query, parts.host().as_str()), ("/a/b", "x=1?", "api.example.com"));
        let parts = UrlParts::of("http://127.0.0.1:9000?list").unwrap();
        assert_eq!((parts.path, parts.query, parts.host().as_str()), ("/", "list", "127.0.0.1:9000"));
        assert!(UrlParts::of("/relative").is_err());
        assert!(UrlParts::of("https:///path").is_err());
    }
}
