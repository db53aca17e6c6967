//! Which operation a request is, by its method and path.

use std::sync::Arc;

use regex_lite::Regex;

use super::handler::Handler;
use crate::connector::body::form;
use crate::connector::contract;
use crate::connector::manifest::Manifest;
use crate::connector::manifest::Operation;
use crate::connector::manifest::Query;
use crate::connector::manifest::RequestSpec;
use crate::http::Request;
use crate::model::Map;
use crate::model::Value;
use crate::sandbox::exchange::Received;
use crate::template::TemplateTree;

/// The way to an operation.
#[derive(Debug)]
pub struct Route {
    pub operation: Arc<str>,
    pub method: Arc<str>,
    /// Whether the operation sends no credentials.
    pub bare: bool,
    pub handler: Option<Handler>,
    /// Answers of examples to requests of this kind.
    pub shown: Vec<Shown>,
    /// Nothing where the path is computed as a whole.
    path: Option<Regex>,
    names: Vec<Arc<str>>,
    /// How much of the path is written out: of two ways, the one that says more is meant.
    written: usize,
    /// Parameters of the query that are written out.
    query: Vec<(Arc<str>, String)>,
}

/// An exchange of an example that goes well.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The operation that shows it.
    pub operation: Arc<str>,
    /// Upper case.
    method: String,
    /// Without scheme, host and query.
    path: String,
    /// What its path says behind a question mark.
    query: Value,
    expect: Value,
    pub reply: Value,
    /// Whether the reply itself is a success.
    well: bool,
}

impl Shown {
    /// Gathers the exchanges of all examples.
    pub(super) fn of(manifest: &Manifest) -> Vec<Self> {
        let mut found = Vec::new();
        for operation in manifest.operations.values() {
            let examples = operation.examples.iter().filter(|example| example.error.is_none());
            for exchange in examples.flat_map(|example| &example.exchanges).filter(|exchange| !exchange.is_lost()) {
                let methods = ["get", "head", "post", "put", "patch", "delete", "options"];
                let asked = exchange.expect.as_map().into_iter().flatten().find(|(key, _)| methods.contains(&&***key));
                let Some((method, path)) = asked else { continue };
                let query = path.to_text().split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default();
                let query = form::parse(&query).unwrap_or_default();
                found.push(Self {
                    operation: operation.name.clone(),
                    method: method.to_uppercase(),
                    path: path_only(&path.to_text()),
                    query: Value::map(query.into_iter().map(|(key, value)| (key, Value::from(value)))),
                    expect: exchange.expect.clone(),
                    reply: exchange.reply.clone(),
                    well: contract::response(&exchange.reply).status < 400,
                });
            }
        }
        found
    }

    /// Tells whether a request has its method and path.
    #[must_use]
    pub fn is_of(&self, request: &Received) -> bool {
        let path = self.path.trim_end_matches('/');
        let rest = request.path.trim_end_matches('/').strip_suffix(path);
        self.method == request.method && rest.is_some_and(|rest| path.starts_with('/') || rest.ends_with('/'))
    }

    /// Says how well it answers a request: whether it is a success, then how much of what it expects is asked.
    #[must_use]
    pub fn fitness(&self, request: &Request) -> (bool, usize) {
        // Credentials are the sandbox's own, and its hosts may be others.
        let method = (Arc::from(self.method.to_lowercase()), Value::from(self.path.as_str()));
        let part = |keys: &[&str]| {
            let kept = self.expect.as_map().into_iter().flatten().filter(|(key, _)| keys.contains(&&***key));
            Value::map(kept.map(|(key, value)| (key.clone(), value.clone())).chain([method.clone()]))
        };
        let query = Value::map([method.clone(), ("query".into(), self.query.clone())]);
        let body = part(&["json", "form", "text", "xml", "csv", "body", "multipart"]);
        let asked = [part(&["query"]), query, body];
        (self.well, asked.iter().filter(|expect| contract::differs(expect, request).is_none()).count())
    }
}

/// Takes scheme, host and query off a URL.
fn path_only(url: &str) -> String {
    let rest =
        url.split_once("://").map_or(url, |(_, rest)| rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"));
    rest.split('?').next().unwrap_or_default().to_owned()
}

impl Route {
    pub(super) fn make(
        operation: &Operation,
        request: &RequestSpec,
        prefix: &str,
        handler: Option<Handler>,
        shown: &[Shown],
    ) -> Self {
        // A URL that is computed as a whole says nothing of where it leads; the stand-in, which gave it, does.
        let told = handler.as_ref().and_then(|handler| handler.path.clone());
        let whole = told.is_none() && request.path.is_one_expression();
        let prefix = if told.is_some() { "" } else { prefix };
        let (pattern, names, written) = pattern(told.as_deref().unwrap_or(request.path.source()));
        // The base itself is asked without a slash behind it.
        let pattern = pattern.trim_end_matches('/');
        let anchored = |start: &str| Regex::new(&format!("{start}{pattern}/?$")).ok().filter(|_| !whole);
        let below = anchored("(?:^|/)");
        let query = match &request.query {
            Query::Map(TemplateTree::Map(entries)) => entries
                .iter()
                .filter_map(|(key, tree)| match tree {
                    TemplateTree::Literal(value) if !value.is_null() => Some((key.clone(), value.to_text())),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        let fits = |shown: &&Shown| {
            let is_path = below.as_ref().is_some_and(|below| below.is_match(&shown.path));
            shown.method == *request.method && (is_path || (whole && shown.operation == operation.name))
        };
        Self {
            operation: operation.name.clone(),
            method: request.method.clone(),
            bare: request.bare,
            handler,
            shown: shown.iter().filter(fits).cloned().collect(),
            path: anchored(&format!("^{}", escaped(prefix))),
            names,
            written,
            query,
        }
    }

    /// Returns the values in the path, where the request is this operation's.
    #[must_use]
    pub fn parameters(&self, request: &Received) -> Option<Value> {
        let head = request.method == "HEAD" && &*self.method == "GET";
        if request.method != *self.method && !head {
            return None;
        }
        let found = self.path.as_ref()?.captures(&request.path)?;
        let mut map = Map::new();
        for (number, name) in self.names.iter().enumerate() {
            let text = found.get(number + 1).map(|it| it.as_str()).unwrap_or_default();
            map.insert(name.clone(), Value::from(decoded(text)));
        }
        Some(Value::from(map))
    }

    /// Says how well the way fits, among those that do: the larger the better.
    #[must_use]
    pub fn fitness(&self, request: &Received) -> (usize, usize, bool) {
        let told = self.query.iter().filter(|(key, value)| request.parameter(key) == Some(value.as_str())).count();
        (self.written, told, self.handler.is_some())
    }
}

fn decoded(text: &str) -> String {
    // A plus in a path is a plus.
    form::parse(&format!("x={}", text.replace('+', "%2B")))
        .ok()
        .and_then(|pairs| pairs.into_iter().next())
        .map_or_else(|| text.to_owned(), |(_, value)| value)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if !letter.is_alphanumeric() && !matches!(letter, '/' | '_' | '-' | '%') {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// Makes a pattern of a path with expressions: each gives a name, the last word of what it reads.
fn pattern(source: &str) -> (String, Vec<Arc<str>>, usize) {
    let (mut out, mut names, mut written) = (String::new(), Vec::<Arc<str>>::new(), 0);
    let mut rest = source;
    loop {
        let (text, after) = rest.split_once("{{").map_or((rest, None), |(text, after)| (text, Some(after)));
        // What stands behind a question mark is no path.
        let path = text.split('?').next().unwrap_or_default();
        let path = if out.is_empty() { path.trim_start_matches('/') } else { path };
        if out.is_empty() && (!path.is_empty() || text.starts_with('/')) {
            out.push('/');
        }
        out.push_str(&escaped(if after.is_none() { path.trim_end_matches('/') } else { path }));
        written += path.len();
        let Some(after) = after.filter(|_| path.len() + 1 >= text.len()) else { break };
        let Some((expression, after)) = after.split_once("}}") else { break };
        let slashes = expression.contains("| path") || expression.contains("|path");
        out.push_str(if slashes { "(.+?)" } else { "([^/]+?)" });
        let (read, _) = expression.split_once('|').unwrap_or((expression, ""));
        let word = read.trim().rsplit('.').next().unwrap_or_default();
        let plain = !word.is_empty() && word.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
        let name = if plain { word.to_owned() } else { format!("p{}", names.len() + 1) };
        names.push(name.into());
        rest = after;
    }
    (out, names, written)
}

/// Returns the names of the values in a path.
pub(super) fn names_of(source: &str) -> Vec<Arc<str>> {
    pattern(source).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_expressions_becomes_a_pattern() {
        let one = |source: &str| {
            let (pattern, names, _) = pattern(source);
            (pattern, names.iter().map(|name| name.to_string()).collect::<Vec<_>>().join(" "))
        };
        let pair = |pattern: &str, names: &str| (pattern.to_owned(), names.to_owned());
        assert_eq!(one("/2/tweets/{{ input.id }}"), pair("/2/tweets/([^/]+?)", "id"));
        assert_eq!(one("/a.b/{{ input.x | path }}/c?d={{ y }}"), pair(r"/a\.b/(.+?)/c", "x"));
        assert_eq!(one("/"), pair("/", ""));
        assert_eq!(one("/s({{ a if b else c }})"), pair(r"/s\(([^/]+?)\)", "p1"));
        assert_eq!(one("messages"), pair("/messages", ""));
    }
}
