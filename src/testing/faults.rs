//! What goes wrong in a case.

use std::sync::Arc;

use super::case::is_list;
use super::given::StubError;
use super::given::stub_error;
use crate::connector::notes::Notes;
use crate::diag::Code;
use crate::diag::Span;
use crate::sandbox::fault::Fault;
use crate::sandbox::fault::Kind;
use crate::sandbox::fault::When;
use crate::yaml::Tree;

/// The keys of a fault that is written out.
pub const KEYS: &[&str] = &[
    "on",
    "call",
    "page",
    "share",
    "status",
    "lost",
    "refuse",
    "delay",
    "token",
    "tokens_serve",
    "step",
    "error",
    "crash",
];

/// Something that goes wrong, and where it is written.
#[derive(Clone, Debug)]
pub struct Trouble {
    pub span: Span,
    pub kind: TroubleKind,
}

#[derive(Clone, Debug)]
pub enum TroubleKind {
    /// At a stand-in. `on` is where its name stands.
    Remote { faults: Vec<Fault>, on: Option<Span> },
    /// A step run fails instead of being done; at these of its calls, counted from 1, or at all.
    Step { step: (Arc<str>, Span), calls: Vec<u64>, error: StubError },
    /// The process dies.
    Crash { at: Crash, step: (Arc<str>, Span) },
}

/// When a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The step has ended, and its event is durable.
    After,
    /// The write is intended, and nothing of it has left.
    Sending,
    /// The write is answered, and nothing of that is kept.
    Answered,
}

/// Reads what goes wrong; faults are noted.
pub(super) fn read(tree: &Tree, notes: &mut Notes) -> Vec<Trouble> {
    if !notes.sequence(tree) {
        return Vec::new();
    }
    tree.items().iter().filter_map(|item| one(item, notes)).collect()
}

fn one(tree: &Tree, notes: &mut Notes) -> Option<Trouble> {
    let span = tree.span.clone();
    if let Some(text) = tree.as_text() {
        return match text.parse() {
            Ok(fault) => Some(Trouble { span, kind: TroubleKind::Remote { faults: vec![fault], on: None } }),
            Err(reason) => {
                notes.error(Code::WrongType, &tree.span, reason);
                None
            }
        };
    }
    if !notes.keys(tree, KEYS) {
        return None;
    }
    if let Some(crash) = tree.get("crash") {
        return crash_of(tree, crash, notes).map(|kind| Trouble { span, kind });
    }
    let calls = tree.get("call").map(|call| calls(call, notes)).unwrap_or_default();
    if let Some(step) = tree.get("step") {
        let name = notes.text(step)?.into();
        let error = match tree.get("error") {
            Some(error) => stub_error(error, notes)?,
            None => {
                notes.error(Code::MissingKey, &step.span, "key `error` is missing").help =
                    Some("say how it fails, e.g. `error: { class: unavailable }`".to_owned());
                return None;
            }
        };
        let kind = TroubleKind::Step { step: (name, step.span.clone()), calls, error };
        return Some(Trouble { span, kind });
    }
    let on = tree.get("on");
    let (stand, operation) = match on.map(|on| notes.text(on)) {
        Some(None) => return None,
        Some(Some(text)) => match text.split_once('.') {
            Some((stand, operation)) => (Some(stand.to_owned()), Some(operation.to_owned())),
            None => (Some(text.to_owned()), None),
        },
        None => (None, None),
    };
    let kind = kind_of(tree, notes)?;
    let whens = whens(tree, &calls, notes)?;
    let fault = |when| Fault { stand: stand.clone(), operation: operation.clone(), kind, when };
    let faults = whens.into_iter().map(fault).collect();
    Some(Trouble { span, kind: TroubleKind::Remote { faults, on: on.map(|on| on.span.clone()) } })
}

/// The keys that say what goes wrong at a stand-in.
const WHAT: &[&str] = &["status", "lost", "refuse", "delay", "token", "tokens_serve"];

fn kind_of(tree: &Tree, notes: &mut Notes) -> Option<Kind> {
    let mut said = tree.entries().iter().filter(|entry| WHAT.contains(&&*entry.key));
    let Some(entry) = said.next() else {
        notes.wrong(tree, "what goes wrong").help = Some(format!("say one of `{}`", WHAT.join("`, `")));
        return None;
    };
    if let Some(other) = said.next() {
        let message = format!("a fault is one thing: `{}` stands here already", entry.key);
        notes.error(Code::InvalidWith, &other.key_span, message).help = Some("write two faults".to_owned());
        return None;
    }
    let value = &entry.value;
    Some(match &*entry.key {
        "status" => Kind::Status(u16::try_from(notes.number(value, 400, 599)?).unwrap_or(503)),
        "lost" => notes.word(value, &[("before", Kind::DropBeforeSend), ("after", Kind::DropAfterSend)])?,
        "refuse" => {
            notes.flag(value)?;
            Kind::Refuse
        }
        "delay" => Kind::Delay(notes.duration(value)?),
        "token" => notes.word(value, &[("expired", Kind::Expired)])?,
        _ => Kind::ExpireTokens(notes.duration(value)?),
    })
}

fn whens(tree: &Tree, calls: &[u64], notes: &mut Notes) -> Option<Vec<When>> {
    if let Some(page) = tree.get("page") {
        let number = notes.number(page, 1, 1_000_000)?;
        return Some(vec![When::Page(number.into())]);
    }
    if let Some(share) = tree.get("share") {
        let text = format!("503={}", notes.text(share)?);
        return match text.parse::<Fault>() {
            Ok(fault) => Some(vec![fault.when]),
            Err(_) => {
                notes.wrong(share, "a share such as `0.2`");
                None
            }
        };
    }
    if calls.is_empty() { Some(vec![When::Always]) } else { Some(calls.iter().map(|call| When::Nth(*call)).collect()) }
}

fn calls(tree: &Tree, notes: &mut Notes) -> Vec<u64> {
    let single = std::slice::from_ref(tree);
    let items = if is_list(tree) { tree.items() } else { single };
    items.iter().filter_map(|item| notes.number(item, 1, 1_000_000)).map(u64::from).collect()
}

fn crash_of(tree: &Tree, crash: &Tree, notes: &mut Notes) -> Option<TroubleKind> {
    for entry in tree.entries().iter().filter(|entry| &*entry.key != "crash") {
        notes.error(Code::InvalidWith, &entry.key_span, format!("`{}` says nothing of a crash", entry.key));
    }
    if !notes.keys(crash, &["after", "sending", "answered"]) {
        return None;
    }
    let [entry] = crash.entries() else {
        notes.wrong(crash, "one of `after`, `sending`, `answered` with the name of a step");
        return None;
    };
    let at = match &*entry.key {
        "sending" => Crash::Sending,
        "answered" => Crash::Answered,
        _ => Crash::After,
    };
    let step = notes.text(&entry.value)?;
    Some(TroubleKind::Crash { at, step: (step.into(), entry.value.span.clone()) })
}
