//! The URL of a request: below our base, or one from an answer that is still ours.

use super::judge::Failure;
use super::manifest::Manifest;
use super::manifest::OutcomeKind;
use super::manifest::Query;
use super::manifest::RequestSpec;
use super::render;
use super::render::Laid;
use crate::http::Origin;
use crate::http::with_query;
use crate::template::Scope;
use crate::template::Template;

/// A base URL of a connection.
#[derive(Clone, Debug)]
pub(super) struct Base {
    /// Without a slash at its end.
    pub url: String,
    /// Whether it was computed from a secret: then it is masked.
    pub secret: bool,
}

/// Evaluates a base URL.
pub(super) fn base(manifest: &Manifest, name: Option<&str>, scope: &Scope) -> Result<Base, Failure> {
    let template = match name {
        Some(name) => manifest.base_url.get(name),
        None => manifest.base_url.values().next(),
    };
    let Some(template) = template else { return Err(Failure::invalid("there is no base URL")) };
    let value = template.eval(scope)?;
    let secret = value.is_tainted();
    let text = value.revealed().to_text();
    if Origin::of(&text).is_none() {
        let shown = if secret || text.is_empty() { template.source().to_owned() } else { text };
        return Err(Failure::invalid(format!("the base URL `{shown}` is not a URL")));
    }
    Ok(Base { url: text.trim_end_matches('/').to_owned(), secret })
}

/// Makes the URL of a request, with its query.
pub(super) fn of_request(spec: &RequestSpec, base: &Base, laid: &Laid, scope: &Scope) -> Result<String, Failure> {
    let path = spec.path.eval(scope)?.revealed().to_text();
    // One expression gives a whole URL, or what stands behind the base, byte for byte.
    if spec.path.is_one_expression() {
        return Ok(if path.contains("://") { path } else { joined(&base.url, &path) });
    }
    let url = joined(&base.url, &path);
    let url = match &spec.query {
        Query::Text(text) => {
            let query = text.eval(scope)?.revealed().to_text();
            if query.is_empty() { url } else { format!("{url}{}{query}", mark(&url)) }
        }
        Query::None | Query::Map(_) => url,
    };
    with_query(&url, &render::pairs(&laid.query))
        .map_err(|reason| Failure::invalid(format!("the URL is unusable: {reason}")))
}

fn joined(base: &str, path: &str) -> String {
    match path {
        "" | "/" => base.to_owned(),
        path if path.starts_with(['/', '?']) => format!("{base}{path}"),
        path => format!("{base}/{path}"),
    }
}

fn mark(url: &str) -> char {
    if url.contains('?') { '&' } else { '?' }
}

/// Evaluates the URL of the next page: verbatim, relative to the request's where it is not whole, and always on the
/// origin of the page that names it.
pub(super) fn next_page(template: &Template, scope: &Scope, current: &str) -> Result<Option<String>, Failure> {
    let value = template.eval(scope)?.revealed();
    if !value.is_truthy() {
        return Ok(None);
    }
    let text = value.to_text();
    match crate::http::resolve_here(current, &text) {
        Some(url) => Ok(Some(url)),
        None => Err(Failure::new(OutcomeKind::Rejected, "the link to the next page is not a URL")),
    }
}

/// Tells whether a URL may be asked: the host of a base, or one that the manifest names.
#[must_use]
pub fn is_ours(manifest: &Manifest, bases: &[String], url: &str) -> bool {
    let Some(origin) = Origin::of(url) else { return false };
    if bases.iter().any(|base| Origin::of(base).is_some_and(|own| own == origin)) {
        return true;
    }
    // Further hosts are reached by TLS only: credentials go there.
    origin.scheme == "https" && manifest.hosts.iter().any(|pattern| fits(pattern, &origin.host))
}

fn fits(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(suffix) => host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_hosts_below_them_only() {
        assert!(fits("*.example.com", "a.example.com") && fits("*.example.com", "a.b.example.com"));
        assert!(!fits("*.example.com", "example.com") && !fits("*.example.com", "notexample.com"));
        assert!(!fits("*.example.com", ".example.com") && fits("up.example.com", "up.example.com"));
    }

    #[test]
    fn a_link_to_the_next_page_stays_on_its_origin() {
        let next = |link| crate::http::resolve_here("https://a.example:8443/odata/Set?x=1", link);
        let here = |rest: &str| Some(format!("https://a.example:8443{rest}"));
        assert_eq!(next("Set?$skiptoken=2"), here("/odata/Set?$skiptoken=2"));
        assert_eq!(next("/p?a=b"), here("/p?a=b"));
        assert_eq!(next("https://a.example:8443/q"), here("/q"));
        assert_eq!(next("http://internal:80/odata/Set?$skiptoken=2"), here("/odata/Set?$skiptoken=2"));
        assert_eq!(next("//evil.example//x?y"), here("/x?y"));
        assert_eq!((next("javascript:alert(1)"), next("https://u:p@evil.example/x")), (None, None));
    }

    #[test]
    fn a_path_stands_behind_its_base() {
        assert_eq!(joined("https://a/b", "/c"), "https://a/b/c");
        assert_eq!(joined("https://a/b", "/"), "https://a/b");
        assert_eq!(joined("https://a/b", "?x=1"), "https://a/b?x=1");
        assert_eq!(joined("https://a/b", "c"), "https://a/b/c");
    }
}
