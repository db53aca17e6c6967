//! What must come of a case.

use std::sync::Arc;

use super::given::error_class;
use super::given::moment;
use super::matcher::Matcher;
use super::matcher::conditions;
use crate::connector::notes::Notes;
use crate::diag::Code;
use crate::diag::Span;
use crate::model::Duration;
use crate::model::RunState;
use crate::model::StepState;
use crate::model::Timestamp;
use crate::model::Value;
use crate::template::Template;
use crate::yaml::Entry;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// The keys of `then`.
pub const KEYS: &[&str] = &[
    "state",
    "error",
    "waits",
    "outputs",
    "steps",
    "that",
    "requests",
    "sandbox",
    "messages",
    "effects",
    "asks",
    "logs",
    "files",
    "finished_by",
    "snapshot",
];
/// The keys of what must come of a step.
pub const STEP_KEYS: &[&str] =
    &["state", "output", "error", "attempts", "skipped", "rounds", "items", "undone", "that", "snapshot"];

/// What must come of a case.
#[derive(Clone, Debug, Default)]
pub struct Then {
    /// Where it stands.
    pub span: Option<Span>,
    pub state: Option<(RunState, Span)>,
    /// Of the run: `{ class, message }`.
    pub error: Option<Matcher>,
    /// Why the run waits, where it does in the end.
    pub waits: Option<Matcher>,
    pub outputs: Option<Matcher>,
    pub steps: Vec<StepThen>,
    pub that: Vec<(Template, Span)>,
    /// By operation, stand-in, or method and path.
    pub requests: Vec<(Arc<str>, Span, Matcher)>,
    /// By stand-in, what it holds.
    pub sandbox: Vec<(Arc<str>, Span, Matcher)>,
    /// By connection or connector, which messages were delivered.
    pub messages: Vec<(Arc<str>, Span, Matcher)>,
    /// By kind, or by a state that is no good end, how many effects there were.
    pub effects: Vec<(Arc<str>, Span, Matcher)>,
    pub asks: Option<Matcher>,
    pub logs: Option<Matcher>,
    pub files: Vec<(Arc<str>, Span, Matcher)>,
    pub finished_by: Option<(By, Span)>,
    /// Whether the outputs must be what they were when the snapshot was taken.
    pub snapshot: Option<Span>,
}

/// When a run must have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Moment(Timestamp),
    /// After its start.
    Length(Duration),
}

/// What must come of a step.
#[derive(Clone, Debug)]
pub struct StepThen {
    pub step: Arc<str>,
    pub span: Span,
    /// What its record must be: `{ state, output, error, attempts, skipped, rounds, items, undone }`.
    pub record: Vec<(Arc<str>, Matcher)>,
    /// Over `value`, its output.
    pub that: Vec<(Template, Span)>,
    pub snapshot: Option<Span>,
}

/// The words that `effects` counts by beside the kinds.
pub const EFFECT_STATES: &[&str] = &["refused", "in_doubt", "dropped"];
/// The kinds of effects.
pub const EFFECT_KINDS: &[&str] = &["create", "update", "upsert", "delete", "message", "spend"];

/// Reads what must come; faults are noted.
pub(super) fn read(tree: &Tree, notes: &mut Notes) -> Then {
    let mut then = Then { span: Some(tree.span.clone()), ..Then::default() };
    if !notes.keys(tree, KEYS) {
        return then;
    }
    for entry in tree.entries() {
        let value = &entry.value;
        match &*entry.key {
            "state" => then.state = run_state(value, notes).map(|state| (state, value.span.clone())),
            "error" => then.error = error(value, notes),
            "waits" => then.waits = Some(text_or(value, notes)),
            "outputs" => then.outputs = Some(Matcher::read(value, notes)),
            "steps" => then.steps = named(value, notes, step).into_iter().flatten().collect(),
            "that" => then.that = conditions(value, notes),
            "requests" => then.requests = matchers(value, notes),
            "sandbox" => then.sandbox = matchers(value, notes),
            "messages" => then.messages = matchers(value, notes),
            "effects" => then.effects = effects(value, notes),
            "asks" => then.asks = Some(Matcher::read(value, notes)),
            "logs" => then.logs = Some(Matcher::read(value, notes)),
            "files" => then.files = matchers(value, notes),
            "finished_by" => then.finished_by = by(value, notes).map(|by| (by, value.span.clone())),
            "snapshot" => then.snapshot = notes.flag(value).filter(|it| *it).map(|_| value.span.clone()),
            _ => {}
        }
    }
    then
}

fn named<T>(tree: &Tree, notes: &mut Notes, mut read: impl FnMut(&Entry, &mut Notes) -> T) -> Vec<T> {
    if !notes.mapping(tree) {
        return Vec::new();
    }
    tree.entries().iter().map(|entry| read(entry, notes)).collect()
}

fn matchers(tree: &Tree, notes: &mut Notes) -> Vec<(Arc<str>, Span, Matcher)> {
    named(tree, notes, |entry, notes| (entry.key.clone(), entry.key_span.clone(), Matcher::read(&entry.value, notes)))
}

fn effects(tree: &Tree, notes: &mut Notes) -> Vec<(Arc<str>, Span, Matcher)> {
    let known: Vec<&str> = EFFECT_KINDS.iter().chain(EFFECT_STATES).copied().collect();
    if !notes.keys(tree, &known) {
        return Vec::new();
    }
    matchers(tree, notes)
}

fn word<T: Copy>(tree: &Tree, notes: &mut Notes, words: impl IntoIterator<Item = (&'static str, T)>) -> Option<T> {
    let words: Vec<_> = words.into_iter().collect();
    notes.word(tree, &words)
}

fn run_state(tree: &Tree, notes: &mut Notes) -> Option<RunState> {
    let states = [RunState::Succeeded, RunState::Failed, RunState::Canceled, RunState::Waiting];
    word(tree, notes, states.map(|state| (state.name(), state)))
}

/// Reads what an error must be: a part of its message, or class and message.
fn error(tree: &Tree, notes: &mut Notes) -> Option<Matcher> {
    if matches!(tree.kind, TreeKind::Scalar { .. }) {
        let message = Matcher::containing(Matcher::read(tree, notes));
        return Some(Matcher::with_fields(&tree.span, vec![("message".into(), message)]));
    }
    if !notes.keys(tree, &["class", "message", "contains"]) {
        return None;
    }
    let mut fields: Vec<(Arc<str>, Matcher)> = Vec::new();
    if let Some(class) = tree.get("class") {
        let name = error_class(class, notes)?.name();
        fields.push(("class".into(), Matcher::of(Value::from(name), &class.span)));
    }
    fields.extend(tree.get("message").map(|message| ("message".into(), Matcher::read(message, notes))));
    let contained = tree.get("contains").map(|text| Matcher::containing(Matcher::read(text, notes)));
    fields.extend(contained.map(|contained| ("message".into(), contained)));
    Some(Matcher::with_fields(&tree.span, fields))
}

/// Reads a part of a text, or what holds for it.
fn text_or(tree: &Tree, notes: &mut Notes) -> Matcher {
    let matcher = Matcher::read(tree, notes);
    if matches!(tree.kind, TreeKind::Scalar { .. }) { Matcher::containing(matcher) } else { matcher }
}

fn by(tree: &Tree, notes: &mut Notes) -> Option<By> {
    let text = notes.text(tree)?;
    if let Ok(length) = text.parse() {
        return Some(By::Length(length));
    }
    // A length begins with a number and has no dash.
    if !text.contains('-') {
        notes.error(Code::BadDuration, &tree.span, format!("`{text}` is neither a length of time nor a moment")).help =
            Some("write `2h30m` after the start, or `2026-01-31T09:00:00Z`".to_owned());
        return None;
    }
    moment(tree, notes).map(By::Moment)
}

fn step(entry: &Entry, notes: &mut Notes) -> Option<StepThen> {
    let tree = &entry.value;
    let mut then = StepThen {
        step: entry.key.clone(),
        span: entry.key_span.clone(),
        record: Vec::new(),
        that: Vec::new(),
        snapshot: None,
    };
    // A word alone is the state.
    if tree.as_text().is_some() {
        let state = step_state(tree, notes)?;
        then.record.push(("state".into(), Matcher::of(Value::from(state.name()), &tree.span)));
        return Some(then);
    }
    if !notes.keys(tree, STEP_KEYS) {
        return None;
    }
    for entry in tree.entries() {
        let value = &entry.value;
        let matcher = match &*entry.key {
            "state" => step_state(value, notes).map(|state| Matcher::of(Value::from(state.name()), &value.span)),
            "error" => error(value, notes),
            "skipped" => Some(match value.as_text() {
                Some("true") => Matcher::there(true, &value.span),
                Some("false") => Matcher::there(false, &value.span),
                _ => text_or(value, notes),
            }),
            "that" => {
                then.that = conditions(value, notes);
                None
            }
            "snapshot" => {
                then.snapshot = notes.flag(value).filter(|it| *it).map(|_| value.span.clone());
                None
            }
            _ => Some(Matcher::read(value, notes)),
        };
        then.record.extend(matcher.map(|matcher| (entry.key.clone(), matcher)));
    }
    Some(then)
}

fn step_state(tree: &Tree, notes: &mut Notes) -> Option<StepState> {
    let states = [
        StepState::Succeeded,
        StepState::Failed,
        StepState::Skipped,
        StepState::Canceled,
        StepState::Waiting,
        StepState::Pending,
        StepState::Running,
    ];
    word(tree, notes, states.map(|state| (state.name(), state)))
}
