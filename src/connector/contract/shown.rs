//! What answers of examples show, and what expressions read of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Report;
use super::response;
use crate::connector::answer;
use crate::connector::manifest::Act;
use crate::connector::manifest::Body;
use crate::connector::manifest::Example;
use crate::connector::manifest::Operation;
use crate::model::Value;
use crate::template::Template;

/// The members that answers of examples show, by operation: paths with `*` for places in lists.
#[derive(Debug, Default)]
pub(super) struct Shown {
    body: BTreeSet<(Arc<str>, String)>,
    headers: BTreeSet<String>,
}

impl Shown {
    pub(super) fn learn(&mut self, operation: &Operation, example: &Example) {
        for exchange in &example.exchanges {
            if let Some(json) = exchange.reply.get("json") {
                self.walk(&operation.name, json, "", 0);
            }
            if matches!(&operation.act, Act::Request(request) if matches!(request.body, Body::Codec(..))) {
                // What expressions see is what the codec has made of it.
                let read = answer::read(operation, &example.input, response(&exchange.reply));
                self.walk(&operation.name, &read.body, "", 0);
            }
            for (key, _) in exchange.reply.get("headers").and_then(Value::as_map).into_iter().flatten() {
                self.headers.insert(key.to_lowercase());
            }
        }
    }

    fn has(&self, operation: &Operation, below: &str, keys: &[&str]) -> bool {
        let path = format!("{below}.{}", keys.join("."));
        self.body.contains(&(operation.name.clone(), path))
    }

    fn walk(&mut self, operation: &Arc<str>, value: &Value, path: &str, depth: usize) {
        if depth > 32 {
            return;
        }
        match value {
            Value::Map(map) => {
                for (key, value) in map.iter() {
                    let path = format!("{path}.{key}");
                    self.body.insert((operation.clone(), path.clone()));
                    self.walk(operation, value, &path, depth + 1);
                }
            }
            Value::List(items) => {
                let path = format!("{path}.*");
                self.body.insert((operation.clone(), path.clone()));
                items.iter().for_each(|item| self.walk(operation, item, &path, depth + 1));
            }
            _ => {}
        }
    }
}

/// Tells what an operation reads of answers that no example shows.
pub(super) fn unshown(operation: &Operation, shown: &Shown, report: &mut Report) {
    let is_json = operation.answer.is_none() && matches!(operation.act, Act::Request(_));
    if operation.examples.is_empty() || !is_json {
        return;
    }
    let mut missing = BTreeSet::new();
    for template in operation.answer_templates() {
        for (root, keys) in read(template) {
            match (root, keys.as_slice()) {
                ("headers", [name, ..]) if !shown.headers.contains(&name.to_lowercase()) => {
                    missing.insert(format!("headers.{name}"));
                }
                ("body", [_, ..]) if !shown.has(operation, "", &keys) => {
                    missing.insert(path_of("body", &keys));
                }
                _ => {}
            }
        }
    }
    let lists = [
        ("item", operation.items.as_ref(), operation.item_templates()),
        ("row", operation.batch.as_ref().map(|batch| &batch.results), operation.row_templates()),
    ];
    for (root, list, templates) in lists {
        // Where the rows stand is known if nothing is computed on the way to them.
        let Some(place) = list.and_then(place) else { continue };
        if !shown.has(operation, &place, &["*"]) {
            continue;
        }
        for (_, keys) in templates.into_iter().flat_map(read).filter(|(own, keys)| *own == root && !keys.is_empty()) {
            if !shown.has(operation, &format!("{place}.*"), &keys) {
                missing.insert(path_of(root, &keys));
            }
        }
    }
    for path in missing {
        let message = format!("`{}` reads `{path}`, which no answer of its examples has", operation.name);
        report.finding(operation.span.start.line, message);
    }
}

/// Lists what a template reads: roots, with the keys behind them.
fn read(template: &Template) -> Vec<(&str, Vec<&str>)> {
    let references = template.references().iter();
    let split = references.filter_map(|reference| {
        let (root, keys) = reference.path.split_first()?;
        Some((&**root, keys.iter().map(|key| &**key).collect()))
    });
    split.collect()
}

fn path_of(root: &str, keys: &[&str]) -> String {
    format!("{root}.{}", keys.join("."))
}

/// Returns where in a body a list stands, as `Shown` writes it, if an expression is nothing but the way to it.
fn place(list: &Template) -> Option<String> {
    let [reference] = list.references() else { return None };
    let source = list.source();
    let around = [source.get(..reference.range.start)?, source.get(reference.range.end..)?];
    let plain = around.concat().chars().all(|letter| matches!(letter, '{' | '}' | ' '));
    match (&*reference.path, plain && list.is_one_expression()) {
        ([root, keys @ ..], true) if &**root == "body" => Some(keys.iter().map(|key| format!(".{key}")).collect()),
        _ => None,
    }
}
