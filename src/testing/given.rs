//! What a case begins with.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::case::is_list;
use crate::connector::notes::Notes;
use crate::diag::Code;
use crate::diag::Span;
use crate::diag::did_you_mean;
use crate::model::Duration;
use crate::model::ErrorClass;
use crate::model::Timestamp;
use crate::model::Value;
use crate::template::TemplateTree;
use crate::yaml::Tree;

/// The keys of `given`.
pub const KEYS: &[&str] = &[
    "inputs",
    "clock",
    "seed",
    "secrets",
    "sandbox",
    "connections",
    "steps",
    "files",
    "trigger",
    "event",
    "slot",
    "started_by",
    "answers",
    "limit",
];
/// The keys of what a step gives instead of its node.
pub const STUB_KEYS: &[&str] = &["output", "error", "after", "items"];
/// The keys of the error that it gives.
pub const ERROR_KEYS: &[&str] = &["class", "message", "lost", "retry_after"];
/// The keys of what somebody answers to an approval.
pub const ANSWER_KEYS: &[&str] = &["approve", "by", "after", "comment", "form"];

/// When a case begins that does not say: 2026-01-01T00:00:00Z.
pub const START: Timestamp = Timestamp(1_767_225_600_000_000);
/// How much virtual time a case may take that does not say: more than a year.
pub const LIMIT: Duration = Duration::from_secs(400 * 86_400);

/// What a case begins with.
#[derive(Clone, Debug)]
pub struct Given {
    pub inputs: Vec<(Arc<str>, Value, Span)>,
    pub clock: Timestamp,
    pub seed: u64,
    pub secrets: BTreeMap<String, String>,
    pub sandbox: Vec<Load>,
    /// Settings of connections, laid over those of the project.
    pub connections: Vec<(Arc<str>, Value, Span)>,
    pub steps: Vec<(Arc<str>, Span, Stub)>,
    pub files: Vec<(Arc<str>, Value, Span)>,
    /// The trigger that fires, by id or kind.
    pub trigger: Option<(Arc<str>, Span)>,
    pub event: Option<(Value, Span)>,
    pub slot: Option<(Timestamp, Span)>,
    pub started_by: Option<Arc<str>>,
    /// By step, what people say to its approvals, in order.
    pub answers: Vec<(Arc<str>, Span, Vec<Said>)>,
    pub limit: Duration,
}

/// Rows that a stand-in begins with.
#[derive(Clone, Debug)]
pub struct Load {
    pub stand: (Arc<str>, Span),
    pub collection: (Arc<str>, Span),
    pub rows: Vec<Value>,
}

/// What a step gives instead of its node.
#[derive(Clone, Debug)]
pub enum Stub {
    /// At each call in order, whatever the item; the last one is given again and again.
    Calls(Vec<Once>),
    /// Of each item at each of its calls in order.
    Items(Vec<Vec<Once>>),
}

/// What a step gives once.
#[derive(Clone, Debug)]
pub struct Once {
    /// After so long.
    pub after: Option<Duration>,
    pub what: Result<TemplateTree, StubError>,
}

/// An error that is given instead of the node's.
#[derive(Clone, Debug)]
pub struct StubError {
    pub class: ErrorClass,
    pub message: String,
    /// Whether what was asked for may have happened.
    pub lost: bool,
    pub retry_after: Option<Duration>,
}

/// What somebody says to an approval.
#[derive(Clone, Debug)]
pub struct Said {
    pub span: Span,
    pub approves: bool,
    pub by: Arc<str>,
    /// How long after it was asked.
    pub after: Duration,
    pub comment: Option<String>,
    pub form: Vec<(String, Value)>,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            inputs: Vec::new(),
            clock: START,
            seed: 1,
            secrets: BTreeMap::new(),
            sandbox: Vec::new(),
            connections: Vec::new(),
            steps: Vec::new(),
            files: Vec::new(),
            trigger: None,
            event: None,
            slot: None,
            started_by: None,
            answers: Vec::new(),
            limit: LIMIT,
        }
    }
}

/// Reads what is given over what was given before; faults are noted.
pub(super) fn read(given: &mut Given, tree: &Tree, notes: &mut Notes) {
    if !notes.keys(tree, KEYS) {
        return;
    }
    if let Some(inputs) = tree.get("inputs").filter(|tree| notes.mapping(tree)) {
        for entry in inputs.entries() {
            given.inputs.retain(|(name, ..)| *name != entry.key);
            given.inputs.push((entry.key.clone(), entry.value.to_value(), entry.key_span.clone()));
        }
    }
    if let Some(clock) = tree.get("clock").and_then(|tree| moment(tree, notes)) {
        given.clock = clock;
    }
    if let Some(seed) = tree.get("seed").and_then(|tree| notes.number(tree, 0, u32::MAX)) {
        given.seed = seed.into();
    }
    if let Some(limit) = tree.get("limit").and_then(|tree| notes.duration(tree)) {
        given.limit = limit;
    }
    for entry in tree.get("secrets").filter(|tree| notes.mapping(tree)).into_iter().flat_map(Tree::entries) {
        if let Some(secret) = notes.text(&entry.value) {
            given.secrets.insert(entry.key.to_string(), secret.to_owned());
        }
    }
    for stand in tree.get("sandbox").filter(|tree| notes.mapping(tree)).into_iter().flat_map(Tree::entries) {
        if !notes.mapping(&stand.value) {
            continue;
        }
        for entry in stand.value.entries().iter().filter(|entry| notes.sequence(&entry.value)) {
            let load = Load {
                stand: (stand.key.clone(), stand.key_span.clone()),
                collection: (entry.key.clone(), entry.key_span.clone()),
                rows: entry.value.items().iter().map(Tree::to_value).collect(),
            };
            given.sandbox.retain(|other| (&other.stand.0, &other.collection.0) != (&load.stand.0, &load.collection.0));
            given.sandbox.push(load);
        }
    }
    for entry in tree.get("connections").filter(|tree| notes.mapping(tree)).into_iter().flat_map(Tree::entries) {
        if notes.mapping(&entry.value) {
            given.connections.push((entry.key.clone(), entry.value.to_value(), entry.key_span.clone()));
        }
    }
    for entry in tree.get("steps").filter(|tree| notes.mapping(tree)).into_iter().flat_map(Tree::entries) {
        if let Some(stub) = stub(&entry.value, notes) {
            given.steps.retain(|(name, ..)| *name != entry.key);
            given.steps.push((entry.key.clone(), entry.key_span.clone(), stub));
        }
    }
    for entry in tree.get("files").filter(|tree| notes.mapping(tree)).into_iter().flat_map(Tree::entries) {
        given.files.retain(|(name, ..)| *name != entry.key);
        given.files.push((entry.key.clone(), entry.value.to_value(), entry.key_span.clone()));
    }
    if let Some(trigger) = tree.get("trigger")
        && let Some(name) = notes.text(trigger)
    {
        given.trigger = Some((name.into(), trigger.span.clone()));
    }
    if let Some(event) = tree.get("event").filter(|tree| notes.mapping(tree)) {
        given.event = Some((event.to_value(), event.span.clone()));
    }
    if let Some(slot) = tree.get("slot")
        && let Some(moment) = moment(slot, notes)
    {
        given.slot = Some((moment, slot.span.clone()));
    }
    if let Some(person) = tree.get("started_by").and_then(|tree| notes.text(tree)) {
        given.started_by = Some(person.into());
    }
    for entry in tree.get("answers").filter(|tree| notes.mapping(tree)).into_iter().flat_map(Tree::entries) {
        let single = std::slice::from_ref(&entry.value);
        let items = if is_list(&entry.value) { entry.value.items() } else { single };
        let said = items.iter().filter_map(|item| said(item, notes)).collect();
        given.answers.retain(|(name, ..)| *name != entry.key);
        given.answers.push((entry.key.clone(), entry.key_span.clone(), said));
    }
}

/// Reads a moment.
pub(super) fn moment(tree: &Tree, notes: &mut Notes) -> Option<Timestamp> {
    match notes.text(tree)?.parse() {
        Ok(moment) => Some(moment),
        Err(error) => {
            let told = format!("`{}` is not a moment: {error}", tree.as_text().unwrap_or_default());
            notes.error(Code::BadTime, &tree.span, told).help =
                Some("write RFC 3339, e.g. `2026-01-31T09:00:00Z`".to_owned());
            None
        }
    }
}

fn stub(tree: &Tree, notes: &mut Notes) -> Option<Stub> {
    if let Some(items) = tree.get("items").filter(|_| !is_list(tree)) {
        notes.keys(tree, &["items"]);
        if !notes.sequence(items) {
            return None;
        }
        return Some(Stub::Items(items.items().iter().map(|item| calls(item, notes)).collect()));
    }
    let calls = calls(tree, notes);
    if calls.is_empty() { None } else { Some(Stub::Calls(calls)) }
}

fn calls(tree: &Tree, notes: &mut Notes) -> Vec<Once> {
    let single = std::slice::from_ref(tree);
    let items = if is_list(tree) { tree.items() } else { single };
    items.iter().filter_map(|item| once(item, notes)).collect()
}

fn once(tree: &Tree, notes: &mut Notes) -> Option<Once> {
    if !notes.keys(tree, STUB_KEYS) {
        return None;
    }
    let after = tree.get("after").and_then(|tree| notes.duration(tree));
    let what = match (tree.get("output"), tree.get("error")) {
        (Some(output), None) => Ok(notes.tree(output)),
        (None, Some(error)) => Err(stub_error(error, notes)?),
        (Some(_), Some(error)) => {
            notes.error(Code::InvalidWith, &error.span, "a step gives an `output` or an `error`, not both");
            return None;
        }
        (None, None) => {
            notes.wrong(tree, "`output` or `error`");
            return None;
        }
    };
    Some(Once { after, what })
}

/// Reads an error that is given instead of the node's.
pub(super) fn stub_error(tree: &Tree, notes: &mut Notes) -> Option<StubError> {
    if !notes.keys(tree, ERROR_KEYS) {
        return None;
    }
    let class = match tree.get("class") {
        Some(class) => error_class(class, notes)?,
        None => ErrorClass::Unavailable,
    };
    let message = tree.get("message").and_then(|tree| notes.text(tree)).unwrap_or("a fault of the test");
    Some(StubError {
        class,
        message: message.to_owned(),
        lost: tree.get("lost").and_then(|tree| notes.flag(tree)).unwrap_or(false),
        retry_after: tree.get("retry_after").and_then(|tree| notes.duration(tree)),
    })
}

/// Reads the word of an error class.
pub(super) fn error_class(tree: &Tree, notes: &mut Notes) -> Option<ErrorClass> {
    let text = notes.text(tree)?;
    let found = ErrorClass::ALL.into_iter().find(|class| class.name() == text);
    if found.is_none() {
        let names = ErrorClass::ALL.map(ErrorClass::name);
        let near = did_you_mean(text, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        let help = near.unwrap_or_else(|| format!("there are `{}`", names.join("`, `")));
        notes.error(Code::UnknownErrorClass, &tree.span, format!("there is no error class `{text}`")).help = Some(help);
    }
    found
}

fn said(tree: &Tree, notes: &mut Notes) -> Option<Said> {
    if !notes.keys(tree, ANSWER_KEYS) {
        return None;
    }
    let Some(approves) = tree.get("approve") else {
        let place = tree.entries().first().map_or(&tree.span, |entry| &entry.key_span);
        notes.error(Code::MissingKey, place, "key `approve` is missing").help =
            Some("add `approve: true`, or `false` to reject".to_owned());
        return None;
    };
    let form = tree.get("form").filter(|tree| notes.mapping(tree)).into_iter().flat_map(Tree::entries);
    Some(Said {
        span: tree.span.clone(),
        approves: notes.flag(approves)?,
        form: form.map(|entry| (entry.key.to_string(), entry.value.to_value())).collect(),
        by: tree.get("by").and_then(|tree| notes.text(tree)).unwrap_or("somebody").into(),
        after: tree.get("after").and_then(|tree| notes.duration(tree)).unwrap_or(Duration::ZERO),
        comment: tree.get("comment").and_then(|tree| notes.text(tree)).map(str::to_owned),
    })
}
