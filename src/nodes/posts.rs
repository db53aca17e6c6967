//! Posts against what the `publish` of a connection declares: the optimiser and the connector's own check in one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::connector::call;
use crate::connector::manifest::Manifest;
use crate::connector::manifest::Operation;
use crate::connector::schema;
use crate::content;
use crate::content::Adapted;
use crate::content::Banned;
use crate::content::Fault;
use crate::content::PUBLISH;
use crate::content::Post;
use crate::content::Rules;
use crate::content::Wishes;
use crate::model::Timestamp;
use crate::model::Value;

/// By name, as posts mention it, what each platform calls it.
pub type Mentions = BTreeMap<String, BTreeMap<String, String>>;

/// What takes a post: the `publish` of a connection.
#[derive(Clone, Debug)]
pub struct Platform {
    manifest: Arc<Manifest>,
    operation: Arc<Operation>,
    config: Value,
    /// The name of the connection.
    pub name: String,
    /// What it declares.
    pub declared: Json,
    pub rules: Rules,
}

impl Platform {
    /// Finds what takes a post; nothing where the connector has no such operation.
    #[must_use]
    pub fn of(name: &str, manifest: &Arc<Manifest>, config: Value, now: Timestamp) -> Option<Self> {
        let operation = manifest.operations.get(PUBLISH).filter(|operation| !operation.hidden)?;
        let settings = settings(manifest, &config);
        let declared = call::declared_input(operation, settings, now);
        let rules = Rules::of(&declared);
        let (manifest, operation, name) = (manifest.clone(), operation.clone(), name.to_owned());
        Some(Self { manifest, operation, config, name, declared, rules })
    }

    /// Names the connector.
    #[must_use]
    pub fn connector(&self) -> &str {
        &self.manifest.name
    }

    /// Chooses from a table what this platform calls those who are mentioned: by the connection, else by the connector.
    #[must_use]
    pub fn mentions(&self, table: &Mentions) -> BTreeMap<String, Option<String>> {
        let own =
            |names: &BTreeMap<String, String>| names.get(&self.name).or_else(|| names.get(self.connector())).cloned();
        table.iter().map(|(name, names)| (name.clone(), own(names))).collect()
    }

    /// Adapts a post, and holds what became of it against the declaration and its checks.
    #[must_use]
    pub fn adapt(&self, post: Post, wishes: &Wishes, now: Timestamp) -> Adapted {
        let mut adapted = content::adapt(post, &self.rules, wishes);
        let input = schema::completed(&self.declared, adapted.post.to_value());
        further(&mut adapted, &self.declared, &input, false);
        let failed = call::failed_checks(&self.operation, settings(&self.manifest, &self.config), &input, now);
        let messages = match &failed {
            Ok(messages) => messages.iter().map(|message| (*message).to_owned()).collect(),
            // What is missing is told already.
            Err(_) if !adapted.faults.is_empty() => Vec::new(),
            Err(failure) => vec![failure.message.clone()],
        };
        adapted.faults.extend(messages.into_iter().map(|message| Fault { at: String::new(), message, mend: None }));
        adapted
    }
}

fn settings(manifest: &Manifest, config: &Value) -> Vec<(&'static str, Value)> {
    vec![("config", config.clone()), ("tables", manifest.tables.clone())]
}

/// Adapts a post of which parts are not known yet, null, to a declaration; returns what is wrong whatever they will be.
#[must_use]
pub(super) fn known_faults(post: &Value, declared: &Json, wishes: &Wishes) -> Vec<Fault> {
    let Ok(read) = Post::read(post) else { return Vec::new() };
    let mut adapted = content::adapt(read, &Rules::of(declared), wishes);
    let input = adapted.post.to_value();
    further(&mut adapted, declared, &input, true);
    let is_open = |fault: &Fault| {
        let name = fault.at.split(['[', '.']).next().unwrap_or_default();
        post.get(name).is_some_and(|value| !value.is_known() || has_null(value))
    };
    adapted.faults.retain(|fault| !is_open(fault));
    adapted.faults
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::List(items) => items.iter().any(has_null),
        Value::Map(map) => map.values().any(has_null),
        _ => false,
    }
}

/// Adds what the schema says of a post beyond what the adaptation has told of it.
fn further(adapted: &mut Adapted, declared: &Json, input: &Value, partial: bool) {
    let name = |at: &str| at.split(['[', '.']).next().unwrap_or_default().to_owned();
    for fault in schema::check(declared, input, partial) {
        // That something is missing is told already, see `content`.
        let Some(at) = fault.path.strip_prefix("input.") else { continue };
        if !adapted.faults.iter().any(|told| name(&told.at) == name(at)) {
            adapted.faults.push(Fault { at: at.to_owned(), message: fault.message, mend: None });
        }
    }
}

/// Writes a fault as one line.
#[must_use]
pub fn in_words(fault: &Fault) -> String {
    let place = if fault.at.is_empty() { String::new() } else { format!("`{}` ", fault.at) };
    let mend = fault.mend.as_ref().map(|mend| format!("; {mend}")).unwrap_or_default();
    format!("{place}{}{mend}", fault.message)
}

/// Tells which banned words the texts of a post have.
#[must_use]
pub fn banned_words(post: &Post, banned: &Banned) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (at, text) in post.texts() {
        let found = banned.found(text);
        if !found.is_empty() {
            let listed = found.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            let message = format!("has {listed}, which no post may have");
            faults.push(Fault { at, message, mend: Some("say it otherwise".to_owned()) });
        }
    }
    faults
}
