//! A manifest's text to a manifest: every fault is told.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::Manifest;
use super::Operation;
use super::operation::Names;
use super::operation::read_account;
use super::operation::read_operation;
use super::operation::read_session;
use super::patch::read_patch;
use super::place::Place;
use super::place::Seen;
use super::rules::read_explain;
use super::rules::read_rules;
use super::schema::read_schema;
use crate::connector::credentials;
use crate::connector::limits;
use crate::connector::notes::Notes;
use crate::connector::notes::first_line;
use crate::connector::runtime::PRICES;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Severity;
use crate::diag::first_faults;
use crate::model::Value;
use crate::yaml;
use crate::yaml::Tree;

const KEYS: &[&str] = &[
    "connector",
    "title",
    "docs",
    "base_url",
    "hosts",
    "config",
    "auth",
    "session",
    "account",
    "send",
    "limits",
    "errors",
    "explain",
    "tables",
    "timeout",
    "operations",
    "sandbox",
];

/// Reads a manifest's text. A manifest with an error is none.
#[must_use]
pub fn read(file: &Arc<str>, source: &Arc<str>) -> (Option<Manifest>, Vec<Diagnostic>) {
    let (tree, diagnostics) = yaml::parse(file, source);
    let mut notes = Notes::new(source.clone());
    notes.diagnostics = diagnostics;
    let manifest = tree.and_then(|tree| manifest(file, &tree, &mut notes));
    let failed = notes.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    (manifest.filter(|_| !failed), first_faults(notes.diagnostics))
}

fn manifest(file: &Arc<str>, tree: &Tree, notes: &mut Notes) -> Option<Manifest> {
    if !notes.keys(tree, KEYS) {
        return None;
    }
    let name = name(file, tree, notes);
    let budgets = budget_names(tree);
    let keys = |key: &str| -> Vec<String> {
        tree.get(key).map(Tree::entries).unwrap_or_default().iter().map(|entry| entry.key.to_string()).collect()
    };
    let (mut tables, bases, operations) = (keys("tables"), keys("base_url"), keys("operations"));
    tables.push(PRICES.to_owned());
    let names = Names { bases: &bases, budgets: &budgets, operations: &operations };
    let seen = Seen::default();
    let place = Place::new(&tables, &seen);
    let answered = place.answered();
    let text = |key: &str, notes: &mut Notes| tree.get(key).and_then(|it| notes.text(it).map(Arc::from));
    let mut read = IndexMap::new();
    match tree.get("operations") {
        Some(list) if notes.mapping(list) => {
            for entry in list.entries() {
                check_name(&entry.key, &entry.key_span, notes);
                if let Some(operation) = read_operation(entry, &place, &names, notes) {
                    read.insert(entry.key.clone(), Arc::new(operation));
                }
            }
        }
        Some(_) => {}
        None => {
            notes.error(Code::MissingKey, &first_line(&tree.span), "key `operations` is missing").help =
                Some("add `operations:` with what can be called".to_owned());
        }
    }
    let base_url = base_urls(tree, &place, notes);
    let config =
        tree.get("config").map_or_else(|| serde_json::json!({ "type": "object" }), |it| read_schema(it, &place, notes));
    let costs = read.values().flat_map(|operation: &Arc<Operation>| &operation.cost);
    let named: Vec<Arc<str>> = costs.map(|(budget, _)| budget.clone()).collect();
    let mut manifest = Manifest {
        name,
        title: text("title", notes),
        docs: text("docs", notes),
        file: file.clone(),
        source: notes.source.clone(),
        base_url,
        hosts: hosts(tree, notes),
        config,
        auth: tree.get("auth").map(|auth| credentials::read(auth, &place, &bases, notes)).unwrap_or_default(),
        auth_keys: Vec::new(),
        limits: tree.get("limits").map(|it| limits::read(it, &place, &named, notes)).unwrap_or_default(),
        send: tree.get("send").map(|it| read_patch(it, &place, notes)).unwrap_or_default(),
        session: tree.get("session").and_then(|it| read_session(it, &place, &names, notes)),
        account: tree.get("account").and_then(|it| read_account(it, &place, &names, notes)),
        errors: tree.get("errors").map(|it| read_rules(it, &answered, &budgets, notes)).unwrap_or_default(),
        explain: tree.get("explain").map(|it| read_explain(it, &answered, notes)).unwrap_or_default(),
        tables: tree.get("tables").map_or_else(|| Value::map::<&str>([]), Tree::to_value),
        timeout: tree.get("timeout").and_then(|it| notes.duration(it)),
        operations: read,
        sandbox: tree.get("sandbox").cloned(),
    };
    // What expressions read of the connection is known when all of them are.
    manifest.config = known_config(manifest.config, &seen);
    manifest.auth_keys = seen.auth.borrow().iter().map(|key| Arc::from(key.as_str())).collect();
    Some(manifest)
}

/// Reads the connector's name, which is also the name of its file.
fn name(file: &Arc<str>, tree: &Tree, notes: &mut Notes) -> Arc<str> {
    let stem = file.rsplit('/').next().unwrap_or(file);
    let stem = stem.strip_suffix(".yaml").or_else(|| stem.strip_suffix(".yml")).unwrap_or(stem);
    let Some(entry) = tree.entry("connector") else {
        notes.error(Code::MissingKey, &first_line(&tree.span), "key `connector` is missing").help =
            Some(format!("add `connector: {stem}`"));
        return stem.into();
    };
    let Some(name) = notes.text(&entry.value) else { return stem.into() };
    check_name(name, &entry.value.span, notes);
    if name != stem {
        let message = format!("connector `{name}` stands in `{stem}.yaml`, where nobody finds it");
        notes.error(Code::BadName, &entry.value.span, message).help =
            Some(format!("call the file `{name}.yaml`, or the connector `{stem}`"));
    }
    name.into()
}

fn check_name(name: &str, span: &crate::diag::Span, notes: &mut Notes) {
    let good = name.chars().next().is_some_and(|first| first.is_ascii_lowercase())
        && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    if !good {
        notes.error(Code::BadName, span, format!("`{name}` cannot be a name here")).help = Some(
            "use small letters, digits and `_`, a letter first: pipelines say `uses: CONNECTOR.OPERATION`".to_owned(),
        );
    }
}

/// Lists the budgets that are declared or learned.
fn budget_names(tree: &Tree) -> Vec<String> {
    let Some(limits) = tree.get("limits") else { return Vec::new() };
    let declared = limits.get("budgets").map(Tree::entries).unwrap_or_default();
    let mut names: Vec<String> = declared.iter().map(|entry| entry.key.to_string()).collect();
    for learn in limits.get("learn").map(Tree::items).unwrap_or_default() {
        names.extend(learn.get("budget").and_then(Tree::as_text).map(str::to_owned));
    }
    names
}

fn base_urls(tree: &Tree, place: &Place<'_>, notes: &mut Notes) -> IndexMap<Arc<str>, crate::template::Template> {
    let mut urls = IndexMap::new();
    let Some(bases) = tree.get("base_url") else {
        notes.error(Code::MissingKey, &first_line(&tree.span), "key `base_url` is missing").help =
            Some("say where the system is: `base_url: { api: \"https://api.example.com\" }`".to_owned());
        return urls;
    };
    if notes.mapping(bases) {
        for entry in bases.entries() {
            if let Some(url) = place.template(&entry.value, notes) {
                urls.insert(entry.key.clone(), url);
            }
        }
    }
    urls
}

fn hosts(tree: &Tree, notes: &mut Notes) -> Vec<Arc<str>> {
    let Some(list) = tree.get("hosts").filter(|list| notes.sequence(list)) else { return Vec::new() };
    let mut hosts = Vec::new();
    for item in list.items() {
        let Some(pattern) = notes.text(item) else { continue };
        let bare = pattern.strip_prefix("*.").unwrap_or(pattern);
        // A pattern for a whole top-level domain would let credentials go anywhere.
        if bare.contains(['*', '/', ':']) || !bare.contains('.') {
            notes.error(Code::WrongType, &item.span, format!("`{pattern}` is no pattern of hosts")).help =
                Some("write `uploads.example.com` or `*.example.com`".to_owned());
            continue;
        }
        hosts.push(pattern.into());
    }
    hosts
}

/// Adds what expressions read to the keys that a connection may say.
fn known_config(mut config: Json, seen: &Seen) -> Json {
    let Some(schema) = config.as_object_mut() else { return config };
    let properties = schema.entry("properties").or_insert_with(|| Json::Object(serde_json::Map::new()));
    if let Some(properties) = properties.as_object_mut() {
        for key in seen.config.borrow().iter() {
            properties.entry(key.clone()).or_insert_with(|| Json::Object(serde_json::Map::new()));
        }
    }
    config
}
