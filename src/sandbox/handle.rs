//! What an operation does to the rows of its stand-in, as its manifest says.

use std::sync::Arc;

use super::exchange::Received;
use super::exchange::Reply;
use super::plan::Find;
use super::plan::Handler;
use super::plan::List;
use super::plan::reply_of;
use super::rows::Found;
use super::rows::Rows;
use crate::connector::render;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::template::EvalError;
use crate::template::Scope;
use crate::template::Template;
use crate::template::TemplateTree;

/// The roots that every expression of a stand-in reads; a handler adds its own.
pub type Roots = Vec<(&'static str, Value)>;

/// Evaluates what a manifest writes of an answer.
///
/// # Errors
/// An expression without a value.
pub fn reply(tree: &TemplateTree, roots: &Roots, now: Timestamp) -> Result<Reply, EvalError> {
    Ok(reply_of(&render::value(tree, &render::scope(roots.clone(), now))?.revealed()))
}

/// Does what an operation does, in the order of `Handler`.
///
/// # Errors
/// An expression without a value: a fault of the manifest.
pub fn handle(handler: &Handler, rows: &mut Rows, roots: Roots, now: Timestamp) -> Result<Reply, EvalError> {
    let mut turn = Turn { rows, roots, now };
    turn.roots.push(("rows", turn.rows.value()));
    turn.roots.push(("new_id", Value::from(turn.rows.next_id(now))));
    for refusal in &handler.refuse {
        if turn.holds(&refusal.when)? {
            return turn.reply(&refusal.reply);
        }
    }
    let mut found = None;
    if let Some(find) = &handler.find {
        found = turn.find(find)?;
        match &found {
            Some(found) => turn.roots.extend([("row", found.row.clone()), ("found", found.row.clone())]),
            None => return find.missing.as_ref().map_or_else(|| Ok(Reply::empty(404)), |tree| turn.reply(tree)),
        }
    }
    if let Some(list) = &handler.list {
        turn.list(list)?;
    }
    for insert in &handler.insert {
        if let Some(when) = &insert.when
            && !turn.holds(when)?
        {
            continue;
        }
        let row = render::value(&insert.row, &turn.scope())?.revealed();
        turn.roots.push(("row", row.clone()));
        turn.rows.insert(&insert.collection, row);
        turn.rows.take_id();
        turn.roots.push(("new_id", Value::from(turn.rows.next_id(now))));
    }
    if let (Some(tree), Some(found)) = (&handler.set, &found) {
        let changes = render::value(tree, &turn.scope())?.revealed();
        let mut row: Map = found.row.as_map().cloned().unwrap_or_default();
        row.extend(changes.as_map().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
        turn.roots.push(("row", Value::from(row.clone())));
        turn.rows.replace(found, Value::from(row));
    }
    if let (true, Some(found)) = (handler.remove, &found) {
        turn.rows.remove(found);
    }
    match &handler.reply {
        Some(tree) => turn.reply(tree),
        None => Ok(turn.plain(handler)),
    }
}

struct Turn<'s> {
    rows: &'s mut Rows,
    roots: Roots,
    now: Timestamp,
}

impl Turn<'_> {
    fn scope(&self) -> Scope {
        render::scope(self.roots.clone(), self.now)
    }

    fn holds(&self, template: &Template) -> Result<bool, EvalError> {
        Ok(template.eval(&self.scope())?.is_truthy())
    }

    fn reply(&self, tree: &TemplateTree) -> Result<Reply, EvalError> {
        reply(tree, &self.roots, self.now)
    }

    fn root(&self, name: &str) -> Value {
        self.roots.iter().rev().find(|(own, _)| *own == name).map(|(_, value)| value.clone()).unwrap_or_default()
    }

    /// The answer of a handler that writes none: the row, or the rows.
    fn plain(&self, handler: &Handler) -> Reply {
        if handler.list.is_some() {
            return Reply::json(200, &Value::map([("data", self.root("items")), ("next", self.root("next"))]));
        }
        if handler.remove || (handler.find.is_none() && handler.insert.is_empty()) {
            return Reply::empty(204);
        }
        Reply::json(if !handler.insert.is_empty() { 201 } else { 200 }, &self.root("row"))
    }

    fn matches(&self, scope: &mut Scope, template: Option<&Template>, row: &Value) -> Result<bool, EvalError> {
        let Some(template) = template else { return Ok(true) };
        scope.locals.push(("item", row.clone()));
        let held = template.eval(scope).map(|value| value.is_truthy());
        scope.locals.pop();
        held
    }

    fn find(&self, find: &Find) -> Result<Option<Found>, EvalError> {
        let mut scope = self.scope();
        for (at, (_, row)) in self.rows.of(&find.collection).enumerate() {
            if self.matches(&mut scope, Some(&find.matching), row)? {
                return Ok(Some(Found { collection: find.collection.clone(), at, row: row.clone() }));
            }
        }
        Ok(None)
    }

    /// Gives `items` and `next`: the number of the last row of the page, where more follow.
    fn list(&mut self, list: &List) -> Result<(), EvalError> {
        let mut scope = self.scope();
        let size = match &list.size {
            Some(template) => template.eval(&scope)?.to_text().trim().parse().ok().filter(|size| *size > 0),
            None => None,
        };
        let size: usize = size.unwrap_or(usize::MAX);
        let after: Option<u64> = match &list.after {
            Some(template) => template.eval(&scope)?.to_text().strip_prefix('p').and_then(|text| text.parse().ok()),
            None => None,
        };
        let (mut items, mut last, mut more) = (Vec::new(), None, false);
        let rows: Box<dyn Iterator<Item = (u64, &Value)>> = match list.newest_first {
            true => Box::new(self.rows.of(&list.collection).rev()),
            false => Box::new(self.rows.of(&list.collection)),
        };
        for (number, row) in rows {
            let is_before =
                after.is_some_and(|after| if list.newest_first { number >= after } else { number <= after });
            if is_before || !self.matches(&mut scope, list.matching.as_ref(), row)? {
                continue;
            }
            if items.len() == size {
                more = true;
                break;
            }
            items.push(match &list.item {
                Some(tree) => shown(&mut scope, tree, row)?,
                None => row.clone(),
            });
            last = Some(number);
        }
        let next = last.filter(|_| more).map_or(Value::Null, |number| Value::from(format!("p{number}")));
        self.roots.push(("items", Value::list(items)));
        self.roots.push(("next", next));
        Ok(())
    }
}

/// Shows a row as the vendor does.
fn shown(scope: &mut Scope, tree: &TemplateTree, row: &Value) -> Result<Value, EvalError> {
    scope.locals.push(("item", row.clone()));
    let shown = render::value(tree, scope).map(|value| value.revealed());
    scope.locals.pop();
    shown
}

/// Makes root `request`.
#[must_use]
pub fn request_root(request: &Received) -> Value {
    let pairs = |pairs: &[(String, String)]| super::exchange::map_of(pairs);
    let kind = request.header("content-type").unwrap_or_default();
    let mut map: Vec<(Arc<str>, Value)> = vec![
        ("method".into(), Value::from(request.method.as_str())),
        ("origin".into(), Value::from(request.origin.as_str())),
        ("path".into(), Value::from(request.path.as_str())),
        ("query".into(), pairs(&request.query)),
        ("query_text".into(), Value::from(request.query_text.as_str())),
        ("headers".into(), pairs(&request.headers)),
        ("size".into(), Value::Int(request.body.len() as i128)),
    ];
    let mut given: Map = super::exchange::map_of(&request.query).as_map().cloned().unwrap_or_default();
    if kind.starts_with("multipart/") {
        let parts = parts(kind, &request.body);
        let texts =
            parts.as_map().into_iter().flatten().filter(|(_, part)| part.get("filename").is_none_or(Value::is_null));
        given.extend(texts.map(|(name, part)| (name.clone(), part.get("text").cloned().unwrap_or_default())));
        map.push(("parts".into(), parts));
    } else if kind.starts_with("application/x-www-form-urlencoded") {
        let form = crate::connector::body::form::parse(&request.text()).unwrap_or_default();
        let form = pairs(&form);
        given.extend(form.as_map().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        map.push(("form".into(), form));
    } else if kind.contains("json") {
        let json = request.json();
        given.extend(json.as_map().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        map.push(("json".into(), json));
    } else if !request.body.is_empty() {
        // Files are told apart by it; a stand-in keeps none.
        let digest = ring::digest::digest(&ring::digest::SHA256, &request.body);
        let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        map.push(("sha256".into(), Value::from(digest)));
        if std::str::from_utf8(&request.body).is_ok() {
            map.push(("text".into(), Value::from(request.text())));
        }
    }
    map.push(("given".into(), Value::from(given)));
    Value::map(map)
}

/// Reads the parts of a body by their names: `{ text, json, size, filename, content_type }`.
fn parts(content_type: &str, body: &[u8]) -> Value {
    let parts = crate::connector::body::multipart::decode(content_type, body).unwrap_or_default();
    Value::map(parts.into_iter().map(|part| {
        let text = String::from_utf8(part.bytes.clone()).ok();
        let json = text.as_deref().and_then(|text| crate::model::parse_json(text).ok());
        let optional = |value: Option<String>| value.map_or(Value::Null, Value::from);
        let described = Value::map([
            ("size", Value::Int(part.bytes.len() as i128)),
            ("filename", optional(part.filename)),
            ("content_type", optional(part.content_type)),
            ("json", json.unwrap_or_default()),
            ("text", optional(text)),
        ]);
        (part.name, described)
    }))
}
