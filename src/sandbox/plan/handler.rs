//! `sandbox` of an operation: what it does to the rows of the stand-in, and what it answers.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::connector::manifest::place::Place;
use crate::connector::notes::Notes;
use crate::connector::notes::first_line;
use crate::diag::Code;
use crate::diag::did_you_mean;
use crate::model::Value;
use crate::template::Template;
use crate::template::TemplateTree;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

const KEYS: &[&str] = &["path", "when", "refuse", "find", "list", "insert", "set", "remove", "reply"];

/// What an operation does in the sandbox, in this order.
#[derive(Debug, Default)]
pub struct Handler {
    /// Where its requests arrive, where the manifest computes the whole URL: `/uploads/{{ id }}`.
    pub path: Option<Arc<str>>,
    /// Of several operations that one path leads to, it is the one for which this holds.
    pub when: Option<Template>,
    /// The first that holds answers, and nothing else is done.
    pub refuse: Vec<Refusal>,
    /// Gives `row`.
    pub find: Option<Find>,
    /// Gives `items` and `next`.
    pub list: Option<List>,
    /// Each gives `row`.
    pub insert: Vec<Insert>,
    /// What changes of the row that was found.
    pub set: Option<TemplateTree>,
    /// Takes the row away that was found.
    pub remove: bool,
    pub reply: Option<TemplateTree>,
}

/// A condition over request and rows, and what is answered where it holds.
#[derive(Debug)]
pub struct Refusal {
    pub when: Template,
    pub reply: TemplateTree,
}

/// A row that is added.
#[derive(Debug)]
pub struct Insert {
    pub collection: Arc<str>,
    /// Whether it is, where that depends.
    pub when: Option<Template>,
    pub row: TemplateTree,
}

/// One row, by a condition over `item`.
#[derive(Debug)]
pub struct Find {
    pub collection: Arc<str>,
    pub matching: Template,
    /// What is answered where there is none.
    pub missing: Option<TemplateTree>,
}

/// A page of rows.
#[derive(Debug)]
pub struct List {
    pub collection: Arc<str>,
    pub matching: Option<Template>,
    pub newest_first: bool,
    /// Rows of a page; all without.
    pub size: Option<Template>,
    /// The `next` of the page before.
    pub after: Option<Template>,
    /// How a row is shown; as it is kept without.
    pub item: Option<TemplateTree>,
}

type Collections = IndexMap<Arc<str>, Vec<Value>>;

/// Reads `sandbox` of an operation; its collections are those of `data`.
pub(super) fn read(tree: &Tree, place: &Place<'_>, data: &Collections, notes: &mut Notes) -> Option<Handler> {
    if !notes.keys(tree, KEYS) {
        return None;
    }
    let when = tree.get("when").and_then(|it| place.template(it, notes));
    let path = tree.get("path").and_then(|it| read_path(it, notes));
    let mut handler = Handler { path, when, ..Handler::default() };
    for item in tree.get("refuse").filter(|it| notes.sequence(it)).into_iter().flat_map(Tree::items) {
        if !notes.keys(item, &["when", "reply"]) {
            continue;
        }
        let (Some(when), Some(reply)) = (needed(item, "when", notes), needed(item, "reply", notes)) else { continue };
        if let Some(when) = place.template(when, notes) {
            handler.refuse.push(Refusal { when, reply: place.tree(reply, notes) });
        }
    }
    handler.find = tree.get("find").and_then(|it| read_find(it, place, data, notes));
    handler.list = tree.get("list").and_then(|it| read_list(it, place, data, notes));
    if let Some(insert) = tree.get("insert") {
        let single = std::slice::from_ref(insert);
        let items = if matches!(insert.kind, TreeKind::Sequence(_)) { insert.items() } else { single };
        handler.insert = items.iter().filter_map(|item| read_insert(item, place, data, notes)).collect();
    }
    handler.set = tree.get("set").map(|it| place.tree(it, notes));
    handler.remove = tree.get("remove").and_then(|it| notes.flag(it)).unwrap_or(false);
    handler.reply = tree.get("reply").map(|it| place.tree(it, notes));
    if (handler.set.is_some() || handler.remove) && tree.get("find").is_none() {
        let message = "`set` and `remove` are about the row that `find` finds";
        notes.error(Code::MissingKey, &first_line(&tree.span), message).help =
            Some("add `find: { in: …, where: … }`".to_owned());
    }
    Some(handler)
}

fn read_path(tree: &Tree, notes: &mut Notes) -> Option<Arc<str>> {
    let text = notes.text(tree)?;
    if !text.starts_with('/') {
        notes.wrong(tree, "a path from the root, such as `/uploads/{{ id }}`");
        return None;
    }
    Some(text.into())
}

fn read_find(tree: &Tree, place: &Place<'_>, data: &Collections, notes: &mut Notes) -> Option<Find> {
    if !notes.keys(tree, &["in", "where", "missing"]) {
        return None;
    }
    Some(Find {
        collection: collection(tree, "in", data, notes)?,
        matching: place.template(needed(tree, "where", notes)?, notes)?,
        missing: tree.get("missing").map(|it| place.tree(it, notes)),
    })
}

fn read_list(tree: &Tree, place: &Place<'_>, data: &Collections, notes: &mut Notes) -> Option<List> {
    if !notes.keys(tree, &["in", "where", "newest_first", "size", "after", "item"]) {
        return None;
    }
    Some(List {
        collection: collection(tree, "in", data, notes)?,
        matching: tree.get("where").and_then(|it| place.template(it, notes)),
        newest_first: tree.get("newest_first").and_then(|it| notes.flag(it)).unwrap_or(false),
        size: tree.get("size").and_then(|it| place.template(it, notes)),
        after: tree.get("after").and_then(|it| place.template(it, notes)),
        item: tree.get("item").map(|it| place.tree(it, notes)),
    })
}

fn read_insert(tree: &Tree, place: &Place<'_>, data: &Collections, notes: &mut Notes) -> Option<Insert> {
    if !notes.keys(tree, &["in", "when", "row"]) {
        return None;
    }
    Some(Insert {
        collection: collection(tree, "in", data, notes)?,
        when: tree.get("when").and_then(|it| place.template(it, notes)),
        row: place.tree(needed(tree, "row", notes)?, notes),
    })
}

fn collection(tree: &Tree, key: &str, data: &Collections, notes: &mut Notes) -> Option<Arc<str>> {
    let named = needed(tree, key, notes)?;
    let name = notes.text(named)?;
    if !data.contains_key(name) {
        let near = did_you_mean(name, data.keys().map(|key| &**key)).map(|near| format!("did you mean `{near}`?"));
        notes.error(Code::UnknownName, &named.span, format!("`sandbox.data` has no `{name}`")).help =
            Some(near.unwrap_or_else(|| format!("add `{name}: []` to `sandbox.data`")));
    }
    Some(name.into())
}

fn needed<'t>(tree: &'t Tree, key: &str, notes: &mut Notes) -> Option<&'t Tree> {
    let found = tree.get(key);
    if found.is_none() {
        notes.error(Code::MissingKey, &first_line(&tree.span), format!("key `{key}` is missing")).help =
            Some(format!("add `{key}:`"));
    }
    found
}
