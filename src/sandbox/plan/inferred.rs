//! A stand-in for a manifest that says nothing of the sandbox: what its operations and examples look like when they are
//! the usual ones, a collection at `/things` and its rows at `/things/ID`.

use std::sync::Arc;

use indexmap::IndexMap;

use super::handler::Find;
use super::handler::Handler;
use super::handler::Insert;
use super::handler::List;
use super::route;
use crate::connector::manifest::Act;
use crate::connector::manifest::Body;
use crate::connector::manifest::Manifest;
use crate::connector::manifest::Operation;
use crate::connector::manifest::Paging;
use crate::connector::manifest::Query;
use crate::connector::manifest::RequestSpec;
use crate::model::Value;
use crate::template::Template;
use crate::template::TemplateTree;

/// Rows of a page.
const PAGE: &str = "{{ 10 }}";

/// A collection: where its rows are asked for, and how they look.
#[derive(Debug)]
struct Collection {
    name: Arc<str>,
    /// `/things`, without a slash at its end.
    path: String,
    /// The member of a row that is its id.
    id: Arc<str>,
}

/// Makes handlers for the usual operations; the rows of their examples become those of the collections.
pub(super) fn infer(manifest: &Manifest, data: &mut IndexMap<Arc<str>, Vec<Value>>) -> IndexMap<Arc<str>, Handler> {
    let mut handlers = IndexMap::new();
    let mut collections = Vec::new();
    for operation in manifest.operations.values() {
        let Some((collection, rows, handler)) = list(operation) else { continue };
        data.entry(collection.name.clone()).or_default().extend(rows);
        handlers.insert(operation.name.clone(), handler);
        collections.push(collection);
    }
    for operation in manifest.operations.values().filter(|operation| operation.items.is_none()) {
        let Act::Request(request) = &operation.act else { continue };
        let found = collections.iter().find_map(|collection| of_collection(operation, request, collection));
        handlers.extend(found.map(|handler| (operation.name.clone(), handler)));
    }
    handlers
}

fn of_collection(operation: &Operation, request: &RequestSpec, collection: &Collection) -> Option<Handler> {
    let path = request.path.source().split('?').next().unwrap_or_default().trim_end_matches('/');
    let rest = path.strip_prefix(&*collection.path)?;
    if rest.is_empty() {
        return if &*request.method == "POST" { create(operation, request, collection) } else { None };
    }
    let of_row = rest.strip_prefix("/{{")?.strip_suffix("}}")?;
    if of_row.contains(['{', '/']) { None } else { row(operation, request, collection) }
}

/// The rows of a collection, in pages where the manifest asks for the next one by a parameter.
fn list(operation: &Operation) -> Option<(Collection, Vec<Value>, Handler)> {
    let Act::Request(request) = &operation.act else { return None };
    let path = request.path.source();
    if &*request.method != "GET" || path.contains("{{") || path.contains('?') {
        return None;
    }
    let at = read_path(operation.items.as_ref()?, "body")?;
    let replies = replies(operation);
    let id = id_of(operation);
    let mut rows: Vec<Value> = Vec::new();
    for item in replies.iter().filter_map(|reply| deep(reply, &at)?.as_list()).flatten() {
        let is_known = |row: &Value| row.get(&id).is_some() && row.get(&id) == item.get(&id);
        if !rows.iter().any(is_known) {
            rows.push(item.clone());
        }
    }
    let next = match &operation.paging {
        Some(Paging::Next(template)) => read_path(template, "body"),
        _ => None,
    };
    let asked = match &request.query {
        Query::Map(TemplateTree::Map(entries)) => entries.iter().find(|(_, tree)| is_next(tree)).map(|(key, _)| key),
        _ => None,
    };
    let asked = asked.filter(|_| next.is_some());
    let name: Arc<str> = path.trim_matches('/').replace('/', "_").into();
    let list = List {
        collection: name.clone(),
        matching: None,
        newest_first: false,
        size: asked.and_then(|_| expression(PAGE)),
        after: asked.and_then(|asked| expression(&format!("{{{{ request.query['{asked}'] }}}}"))),
        item: None,
    };
    let mut reply = put(TemplateTree::Literal(replies.first()?.clone()), &at, "{{ items }}");
    if let Some(next) = &next {
        reply = put(reply, next, "{{ next }}");
    }
    let handler = Handler { list: Some(list), reply: Some(json_reply(200, reply)), ..Handler::default() };
    Some((Collection { name, path: path.trim_end_matches('/').to_owned(), id }, rows, handler))
}

/// Names the member of a row that the operation takes for its id.
fn id_of(operation: &Operation) -> Arc<str> {
    let id = match &operation.item {
        Some(TemplateTree::Map(entries)) => entries.iter().find(|(key, _)| &**key == "id").map(|(_, tree)| tree),
        _ => None,
    };
    let read = match id {
        Some(TemplateTree::Template(template)) => read_path(template, "item"),
        _ => None,
    };
    read.and_then(|path| path.into_iter().next()).unwrap_or_else(|| "id".into())
}

/// A row that is made of what was sent, and given an id.
fn create(operation: &Operation, request: &RequestSpec, collection: &Collection) -> Option<Handler> {
    if !matches!(request.body, Body::Json(_)) {
        return None;
    }
    let reply = replies(operation).into_iter().next()?;
    let row = expression(&format!("{{{{ (request.json or {{}}) | merge({{'{}': new_id}}) }}}}", collection.id))?;
    Some(Handler {
        insert: vec![Insert { collection: collection.name.clone(), when: None, row: TemplateTree::Template(row) }],
        reply: Some(json_reply(201, within(reply, &collection.id)?)),
        ..Handler::default()
    })
}

/// What is done to one row.
fn row(operation: &Operation, request: &RequestSpec, collection: &Collection) -> Option<Handler> {
    let name = route::names_of(request.path.source()).into_iter().last()?;
    let matching = expression(&format!("{{{{ item['{}'] | string == params.{name} }}}}", collection.id))?;
    let find = Some(Find { collection: collection.name.clone(), matching, missing: None });
    let reply = replies(operation).into_iter().next();
    let shown = reply.clone().and_then(|reply| within(reply, &collection.id)).map(|tree| json_reply(200, tree));
    match &*request.method {
        "GET" => Some(Handler { find, reply: shown, ..Handler::default() }),
        "DELETE" => {
            let reply = reply.map(|reply| json_reply(200, TemplateTree::Literal(reply)));
            Some(Handler { find, remove: true, reply, ..Handler::default() })
        }
        "PATCH" | "PUT" if matches!(request.body, Body::Json(_)) => {
            let set = Some(TemplateTree::Template(expression("{{ request.json or {} }}")?));
            Some(Handler { find, set, reply: shown, ..Handler::default() })
        }
        _ => None,
    }
}

/// Gathers the JSON objects that the operation's own examples show as answers.
fn replies(operation: &Operation) -> Vec<Value> {
    let examples = operation.examples.iter().filter(|example| example.error.is_none());
    let shown = examples.flat_map(|example| &example.exchanges);
    shown.filter_map(|exchange| exchange.reply.get("json").filter(|json| json.as_map().is_some()).cloned()).collect()
}

/// Returns the keys that an expression reads of a root, where it is nothing but that: `{{ body.data.items }}`.
fn read_path(template: &Template, root: &str) -> Option<Vec<Arc<str>>> {
    let inner = template.source().trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let mut words = inner.split('.');
    if words.next() != Some(root) {
        return None;
    }
    let is_plain =
        |word: &str| !word.is_empty() && word.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    words.map(|word| is_plain(word).then(|| Arc::from(word))).collect()
}

fn is_next(tree: &TemplateTree) -> bool {
    matches!(tree, TemplateTree::Template(template) if read_path(template, "next").is_some_and(|path| path.is_empty()))
}

fn deep<'v>(value: &'v Value, path: &[Arc<str>]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

fn expression(text: &str) -> Option<Template> {
    Template::parse_lenient(text).ok()
}

/// Puts an expression at a place of a tree.
fn put(tree: TemplateTree, path: &[Arc<str>], text: &str) -> TemplateTree {
    let Some((first, rest)) = path.split_first() else {
        return expression(text).map_or(tree, TemplateTree::Template);
    };
    let mut entries = match tree {
        TemplateTree::Map(entries) => entries,
        TemplateTree::Literal(Value::Map(map)) => {
            map.iter().map(|(key, value)| (key.clone(), TemplateTree::Literal(value.clone()))).collect()
        }
        _ => Vec::new(),
    };
    match entries.iter_mut().find(|(key, _)| key == first) {
        Some((_, inner)) => {
            let taken = std::mem::replace(inner, TemplateTree::Literal(Value::Null));
            *inner = put(taken, rest, text);
        }
        None => entries.push((first.clone(), put(TemplateTree::Literal(Value::Null), rest, text))),
    }
    TemplateTree::Map(entries)
}

/// Puts the row where a shown answer has one: the object with the id, at the top or one level down.
fn within(reply: Value, id: &str) -> Option<TemplateTree> {
    if reply.get(id).is_some() {
        return expression("{{ row }}").map(TemplateTree::Template);
    }
    let found = reply.as_map()?.iter().find(|(_, member)| member.get(id).is_some()).map(|(key, _)| key.clone())?;
    Some(put(TemplateTree::Literal(reply), &[found], "{{ row }}"))
}

fn json_reply(status: u16, json: TemplateTree) -> TemplateTree {
    let status = TemplateTree::Literal(Value::Int(status.into()));
    TemplateTree::Map(vec![("status".into(), status), ("json".into(), json)])
}
