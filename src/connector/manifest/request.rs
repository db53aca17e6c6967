//! `request:` of an operation.

use super::Body;
use super::Part;
use super::PartContent;
use super::Query;
use super::RequestSpec;
use super::place::Place;
use crate::connector::notes::Notes;
use crate::connector::notes::first_line;
use crate::diag::Code;
use crate::model::Value;
use crate::template::TemplateTree;
use crate::yaml::Tree;

const METHODS: &[&str] = &["get", "head", "post", "put", "patch", "delete", "options"];
const BODIES: &[&str] = &["json", "form", "multipart", "text", "bytes", "xml", "csv"];
const OTHERS: &[&str] = &["base", "query", "headers", "auth", "redirects"];
/// The codecs that a body may name; the closed list.
pub(super) const CODECS: &[&str] = &["xmlrpc", "odata2", "odata_batch", "chat"];

/// Reads a request; `bases` are the names of `base_url`.
pub(in crate::connector) fn read_request(
    tree: &Tree,
    place: &Place<'_>,
    bases: &[String],
    notes: &mut Notes,
) -> Option<RequestSpec> {
    let known: Vec<&str> = [METHODS, OTHERS, BODIES, CODECS].concat();
    if !notes.keys(tree, &known) {
        return None;
    }
    let methods: Vec<_> = tree.entries().iter().filter(|entry| METHODS.contains(&&*entry.key)).collect();
    let [method] = methods.as_slice() else {
        let message = if methods.is_empty() { "a request needs a method" } else { "a request has one method" };
        notes.error(Code::MissingKey, &first_line(&tree.span), message).help =
            Some("write `get: /path`, or `post`, `put`, `patch`, `delete`, `head`, `options`".to_owned());
        return None;
    };
    let base = tree.get("base").and_then(|base| {
        let name = notes.text(base)?;
        if !bases.iter().any(|known| known == name) {
            let near = crate::diag::did_you_mean(name, bases.iter().map(String::as_str));
            let help = near.map(|near| format!("did you mean `{near}`?"));
            notes.error(Code::UnknownName, &base.span, format!("`base_url` has no `{name}`")).help = help;
        }
        Some(name.into())
    });
    let bare = match tree.get("auth") {
        None => false,
        Some(auth) if auth.as_text() == Some("none") => true,
        Some(auth) => {
            notes.wrong(auth, "`none`");
            false
        }
    };
    Some(RequestSpec {
        method: method.key.to_uppercase().into(),
        path: place.url(&method.value, notes)?,
        base,
        query: tree.get("query").map_or(Query::None, |query| read_query(query, place, notes)),
        headers: tree.get("headers").map_or(TemplateTree::Literal(Value::Null), |it| place.tree(it, notes)),
        body: read_body(tree, place, notes),
        bare,
        redirects: tree.get("redirects").and_then(|it| notes.number(it, 0, 10)).unwrap_or(0),
    })
}

fn read_query(tree: &Tree, place: &Place<'_>, notes: &mut Notes) -> Query {
    match tree.as_text() {
        // One expression may give the whole map.
        Some(text) if is_one_expression(text) => Query::Map(place.tree(tree, notes)),
        Some(_) => place.url(tree, notes).map_or(Query::None, Query::Text),
        None if notes.mapping(tree) => Query::Map(place.tree(tree, notes)),
        None => Query::None,
    }
}

/// Tells whether a text is one `{{ … }}` and nothing else.
pub(super) fn is_one_expression(text: &str) -> bool {
    let inner = text.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    inner.is_some_and(|inner| !inner.contains("}}") && !inner.contains("{{"))
}

fn read_body(tree: &Tree, place: &Place<'_>, notes: &mut Notes) -> Body {
    let is_body = |key: &str| BODIES.contains(&key) || CODECS.contains(&key);
    let bodies: Vec<_> = tree.entries().iter().filter(|entry| is_body(&entry.key)).collect();
    if let [first, second, ..] = bodies.as_slice() {
        let message = format!("a request has one body, and `{}` is given already", first.key);
        notes.error(Code::DuplicateKey, &second.key_span, message).help = Some("take one of them away".to_owned());
    }
    let Some(entry) = bodies.first() else { return Body::None };
    let value = &entry.value;
    match &*entry.key {
        "json" => Body::Json(place.tree(value, notes)),
        "form" => Body::Form(place.tree(value, notes)),
        "text" => Body::Text(place.tree(value, notes)),
        "bytes" => Body::Bytes(place.tree(value, notes)),
        "xml" => Body::Xml(place.tree(value, notes)),
        "csv" => Body::Csv(place.tree(value, notes)),
        "multipart" => Body::Multipart(read_parts(value, place, notes)),
        codec => Body::Codec(codec.into(), place.tree(value, notes)),
    }
}

fn read_parts(tree: &Tree, place: &Place<'_>, notes: &mut Notes) -> Vec<Part> {
    if !notes.sequence(tree) {
        return Vec::new();
    }
    tree.items().iter().filter_map(|item| read_part(item, place, notes)).collect()
}

fn read_part(tree: &Tree, place: &Place<'_>, notes: &mut Notes) -> Option<Part> {
    if !notes.keys(tree, &["name", "text", "json", "bytes", "filename", "each"]) {
        return None;
    }
    let each = tree.get("each").and_then(|each| place.template(each, notes));
    let place = if tree.get("each").is_some() { place.and(&["item", "index"]) } else { place.clone() };
    let contents: Vec<_> =
        tree.entries().iter().filter(|entry| ["text", "json", "bytes"].contains(&&*entry.key)).collect();
    let [content] = contents.as_slice() else {
        notes.error(Code::MissingKey, &first_line(&tree.span), "a part has one of `text`, `json` and `bytes`");
        return None;
    };
    let value = place.tree(&content.value, notes);
    let Some(name) = tree.get("name") else {
        notes.error(Code::MissingKey, &first_line(&tree.span), "key `name` is missing").help =
            Some("add `name:`".to_owned());
        return None;
    };
    Some(Part {
        each,
        name: place.tree(name, notes),
        filename: tree.get("filename").map(|it| place.tree(it, notes)),
        content: match &*content.key {
            "text" => PartContent::Text(value),
            "json" => PartContent::Json(value),
            _ => PartContent::Bytes(value),
        },
    })
}
