//! One operation of a manifest.

use std::sync::Arc;

use serde_json::Value as Json;

use super::Account;
use super::Act;
use super::Answer;
use super::Ask;
use super::Batch;
use super::Call;
use super::Check;
use super::Operation;
use super::Paging;
use super::ReadBack;
use super::Reconcile;
use super::Session;
use super::SessionUse;
use super::Sync;
use super::Window;
use super::example::read_example;
use super::patch::read_patch;
use super::place::Place;
use super::request::CODECS;
use super::request::read_request;
use super::rules::read_explain;
use super::rules::read_rules;
use super::rules::read_then;
use super::schema::read_schema;
use crate::connector::notes::Notes;
use crate::connector::notes::first_line;
use crate::diag::Code;
use crate::diag::did_you_mean;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::Repeat;
use crate::model::WriteKind;
use crate::template::TemplateTree;
use crate::yaml::Entry;
use crate::yaml::Tree;

const KEYS: &[&str] = &[
    "title",
    "description",
    "docs",
    "effect",
    "hidden",
    "input",
    "returns",
    "request",
    "uses",
    "with",
    "steps",
    "send",
    "session",
    "answer",
    "output",
    "items",
    "item",
    "paging",
    "batch",
    "sync",
    "repeat",
    "reconcile",
    "undo",
    "predict",
    "read_back",
    "cost",
    "spent",
    "errors",
    "explain",
    "checks",
    "timeout",
    "examples",
    "sandbox",
];

const EFFECTS: &[(&str, Effect)] = &[
    ("read", Effect::Read),
    ("create", Effect::Write(WriteKind::Create)),
    ("update", Effect::Write(WriteKind::Update)),
    ("upsert", Effect::Write(WriteKind::Upsert)),
    ("delete", Effect::Write(WriteKind::Delete)),
    ("message", Effect::Write(WriteKind::Message)),
    ("spend", Effect::Write(WriteKind::Spend)),
];

/// What an operation may name of the rest of its manifest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'m> {
    pub(super) bases: &'m [String],
    pub(super) budgets: &'m [String],
    pub(super) operations: &'m [String],
}

/// Reads an operation; nothing where it says not what it does.
pub(super) fn read_operation(
    entry: &Entry,
    outer: &Place<'_>,
    names: &Names<'_>,
    notes: &mut Notes,
) -> Option<Operation> {
    let tree = &entry.value;
    if !notes.keys(tree, KEYS) {
        return None;
    }
    let hidden = tree.get("hidden").and_then(|it| notes.flag(it)).unwrap_or(false);
    let effect = tree.get("effect").and_then(|it| notes.word(it, EFFECTS));
    if tree.get("effect").is_none() && !hidden {
        let message = format!("operation `{}` does not say what it does to the world", entry.key);
        notes.error(Code::MissingKey, &entry.key_span, message).help =
            Some("add `effect: read`, or `create`, `update`, `upsert`, `delete`, `message`, `spend`".to_owned());
    }
    let before = outer.roots_read();
    let input = tree.get("input").map(|it| read_schema(it, outer, notes));
    let place = outer.of_input(input.as_ref());
    let act = read_act(entry, &place, names, notes)?;
    let answered = match &act {
        Act::Uses { .. } => place.answered().and(&["output"]),
        Act::Steps { .. } => place.answered().and(&["output", "steps"]),
        Act::Request(_) => place.answered(),
    };
    let items = tree.get("items").and_then(|it| answered.template(it, notes));
    let rows = answered.and(&["item", "index"]);
    let steps = matches!(act, Act::Steps { .. });
    let output = tree.get("output").filter(|_| !steps);
    let mut operation = Operation {
        name: entry.key.clone(),
        title: text(tree, "title", notes),
        description: text(tree, "description", notes),
        effect,
        hidden,
        returns: tree.get("returns").map(|it| read_schema(it, outer, notes)),
        answer: tree.get("answer").and_then(|it| read_answer(it, notes)),
        output: output.map(|it| answered.tree(it, notes)),
        items,
        item: tree.get("item").map(|it| rows.tree(it, notes)),
        paging: tree.get("paging").and_then(|it| read_paging(it, &answered, notes)),
        batch: tree.get("batch").and_then(|it| read_batch(it, &answered, names, notes)),
        sync: tree.get("sync").and_then(|it| read_sync(it, &rows, notes)),
        repeat: tree.get("repeat").map_or(Repeat::Never, |it| read_repeat(it, notes)),
        reconcile: tree.get("reconcile").map_or(Reconcile::None, |it| read_reconcile(it, &rows, names, notes)),
        undo: tree.get("undo").and_then(|it| read_call(it, &place.and(&["output"]), names, notes)),
        predict: tree.get("predict").map(|it| place.tree(it, notes)),
        read_back: tree.get("read_back").and_then(|it| read_read_back(it, &place, names, notes)),
        cost: tree.get("cost").map(|it| read_amounts(it, &place, names, notes)).unwrap_or_default(),
        spent: tree.get("spent").map(|it| read_amounts(it, &answered, names, notes)).unwrap_or_default(),
        errors: tree.get("errors").map(|it| read_rules(it, &answered, names.budgets, notes)).unwrap_or_default(),
        explain: tree.get("explain").map(|it| read_explain(it, &answered, notes)).unwrap_or_default(),
        checks: tree.get("checks").map(|it| read_checks(it, &place, notes)).unwrap_or_default(),
        send: tree.get("send").map(|it| read_patch(it, &place, notes)).unwrap_or_default(),
        session: tree.get("session").map_or(SessionUse::Full, |it| read_session_use(it, notes)),
        timeout: tree.get("timeout").and_then(|it| notes.duration(it)),
        examples: tree
            .get("examples")
            .filter(|it| notes.sequence(it))
            .map(|it| it.items().iter().filter_map(|item| read_example(item, notes)).collect())
            .unwrap_or_default(),
        computed_input: input.as_ref().is_some_and(super::schema::is_computed),
        reads_account: false,
        reads_items: false,
        secret_output: false,
        sandbox: tree.get("sandbox").cloned(),
        span: entry.key_span.clone(),
        act,
        input: input.unwrap_or(Json::Bool(true)),
    };
    let read = outer.roots_since(before);
    operation.reads_account = read.contains("account");
    operation.reads_items = read.contains("items");
    operation.secret_output = operation.returns.as_ref().is_some_and(crate::connector::schema::has_secrets);
    check_settlement(&operation, tree, entry, notes);
    check_shape(&operation, tree, notes);
    Some(operation)
}

fn text(tree: &Tree, key: &str, notes: &mut Notes) -> Option<Arc<str>> {
    tree.get(key).and_then(|it| notes.text(it).map(Arc::from))
}

fn read_act(entry: &Entry, place: &Place<'_>, names: &Names<'_>, notes: &mut Notes) -> Option<Act> {
    let tree = &entry.value;
    let acts: Vec<_> =
        tree.entries().iter().filter(|entry| ["request", "uses", "steps"].contains(&&*entry.key)).collect();
    let [act] = acts.as_slice() else {
        let message = format!("operation `{}` needs one of `request`, `uses` and `steps`", entry.key);
        let span = acts.get(1).map_or(&entry.key_span, |second| &second.key_span).clone();
        notes.error(Code::MissingKey, &span, message).help =
            Some("`request` sends, `uses` calls another operation, `steps` calls several".to_owned());
        return None;
    };
    match &*act.key {
        "request" => Some(Act::Request(Box::new(read_request(&act.value, place, names.bases, notes)?))),
        "uses" => {
            let operation = place.template(&act.value, notes)?;
            if let Some(name) = operation.literal() {
                known_operation(name, &act.value, names, notes);
            }
            for reference in operation.references() {
                let root = reference.path.first().map_or("", |root| &**root);
                if !["config", "tables"].contains(&root) {
                    let span = act.value.span_within(&notes.source, reference.range.clone());
                    let message = format!("the name of an operation cannot depend on `{root}`");
                    notes.error(Code::MustBeLiteral, &span, message).help =
                        Some("it may depend on `config` and `tables`, which are known before a run".to_owned());
                }
            }
            let with = tree.get("with").map_or(TemplateTree::Map(Vec::new()), |it| place.tree(it, notes));
            Some(Act::Uses { operation, with })
        }
        _ => {
            notes.mapping(&act.value);
            for step in act.value.entries() {
                let Some(uses) = step.value.get("uses") else { continue };
                if let Some(name) = uses.as_text().filter(|name| *name != "wait") {
                    known_operation(name, uses, names, notes);
                }
            }
            Some(Act::Steps { steps: act.value.clone(), output: tree.get("output").cloned() })
        }
    }
}

pub(super) fn known_operation(name: &str, tree: &Tree, names: &Names<'_>, notes: &mut Notes) {
    if names.operations.iter().any(|known| known == name) {
        return;
    }
    let near = did_you_mean(name, names.operations.iter().map(String::as_str));
    notes.error(Code::UnknownOperation, &tree.span, format!("operation `{name}` does not exist")).help =
        near.map(|near| format!("did you mean `{near}`?"));
}

fn read_answer(tree: &Tree, notes: &mut Notes) -> Option<Answer> {
    let plain = [
        ("json", Answer::Json),
        ("text", Answer::Text),
        ("bytes", Answer::Bytes),
        ("xml", Answer::Xml),
        ("csv", Answer::Csv),
        ("ndjson", Answer::Ndjson),
    ];
    let text = tree.as_text()?;
    if let Some((_, answer)) = plain.iter().find(|(word, _)| *word == text) {
        return Some(answer.clone());
    }
    if CODECS.contains(&text) {
        return Some(Answer::Codec(text.into()));
    }
    let known = plain.iter().map(|(word, _)| *word).chain(CODECS.iter().copied());
    let listed = known.clone().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let near = did_you_mean(text, known).map(|near| format!("did you mean `{near}`?"));
    notes.wrong(tree, &format!("one of {listed}")).help = near;
    None
}

fn read_paging(tree: &Tree, place: &Place<'_>, notes: &mut Notes) -> Option<Paging> {
    if !notes.keys(tree, &["next", "url"]) {
        return None;
    }
    match (tree.get("next"), tree.get("url")) {
        (Some(next), None) => Some(Paging::Next(place.template(next, notes)?)),
        (None, Some(url)) => Some(Paging::Url(place.template(url, notes)?)),
        _ => {
            notes.error(Code::MissingKey, &first_line(&tree.span), "paging has one of `next` and `url`");
            None
        }
    }
}

fn read_batch(tree: &Tree, answered: &Place<'_>, names: &Names<'_>, notes: &mut Notes) -> Option<Batch> {
    if !notes.keys(tree, &["over", "max", "results", "match", "missing", "output", "errors"]) {
        return None;
    }
    let row = answered.and(&["row", "item", "index"]);
    let (Some(over), Some(results)) = (tree.get("over"), tree.get("results")) else {
        notes.error(Code::MissingKey, &first_line(&tree.span), "a batch needs `over` and `results`");
        return None;
    };
    let matching = tree.get("match").and_then(|it| {
        if !notes.keys(it, &["input", "result"]) {
            return None;
        }
        let (Some(input), Some(result)) = (it.get("input"), it.get("result")) else {
            notes.error(Code::MissingKey, &first_line(&it.span), "`match` needs `input` and `result`");
            return None;
        };
        Some((row.template(input, notes)?, row.template(result, notes)?))
    });
    Some(Batch {
        over: answered.template(over, notes)?,
        max: tree.get("max").and_then(|it| notes.number(it, 1, 10_000_000)).unwrap_or(100),
        results: answered.template(results, notes)?,
        matching,
        missing: tree.get("missing").and_then(|it| read_then(it, &row, notes)),
        output: tree.get("output").map(|it| row.tree(it, notes)),
        errors: tree.get("errors").map(|it| read_rules(it, &row, names.budgets, notes)).unwrap_or_default(),
    })
}

fn read_sync(tree: &Tree, row: &Place<'_>, notes: &mut Notes) -> Option<Sync> {
    if !notes.keys(tree, &["id", "changed_at", "version", "deleted", "window", "cursor", "valid"]) {
        return None;
    }
    let window = tree.get("window").and_then(|it| {
        if !notes.keys(it, &["overlap", "settle", "resolution"]) {
            return None;
        }
        let mut length = |key: &str| it.get(key).and_then(|it| notes.duration(it)).unwrap_or(Duration::ZERO);
        Some(Window { overlap: length("overlap"), settle: length("settle"), resolution: length("resolution") })
    });
    if tree.get("window").is_some() == tree.get("cursor").is_some() && tree.get("cursor").is_some() {
        notes.error(Code::DuplicateKey, &first_line(&tree.span), "a stream goes on by `window` or by `cursor`").help =
            Some("take one of them away".to_owned());
    }
    let mut each = |key: &str| tree.get(key).and_then(|it| row.template(it, notes));
    let (id, changed_at, version, deleted, cursor) =
        (each("id"), each("changed_at"), each("version"), each("deleted"), each("cursor"));
    let valid = tree.get("valid").and_then(|it| notes.duration(it));
    Some(Sync { id, changed_at, version, deleted, window, cursor, valid })
}

fn read_repeat(tree: &Tree, notes: &mut Notes) -> Repeat {
    match tree.as_text() {
        Some("always") => Repeat::Always,
        Some("never") => Repeat::Never,
        _ => notes.duration(tree).map_or(Repeat::Never, Repeat::Within),
    }
}

fn read_reconcile(tree: &Tree, rows: &Place<'_>, names: &Names<'_>, notes: &mut Notes) -> Reconcile {
    match tree.as_text() {
        Some("resend") => return Reconcile::Resend,
        Some("none") => return Reconcile::None,
        Some(_) => {
            notes.wrong(tree, "`resend`, `none` or `{ operation, with, found, output }`");
            return Reconcile::None;
        }
        None => {}
    }
    if !notes.keys(tree, &["operation", "with", "after", "found", "output", "kind"]) {
        return Reconcile::None;
    }
    let (Some(operation), Some(found)) = (tree.get("operation"), tree.get("found")) else {
        notes.error(Code::MissingKey, &first_line(&tree.span), "`reconcile` needs `operation` and `found`");
        return Reconcile::None;
    };
    let Some(name) = notes.text(operation) else { return Reconcile::None };
    known_operation(name, operation, names, notes);
    let Some(found) = rows.template(found, notes) else { return Reconcile::None };
    Reconcile::Ask(Box::new(Ask {
        operation: name.into(),
        with: tree.get("with").map_or(TemplateTree::Map(Vec::new()), |it| rows.tree(it, notes)),
        after: tree.get("after").and_then(|it| notes.duration(it)).unwrap_or(Duration::ZERO),
        found,
        output: tree.get("output").map_or(TemplateTree::Literal(crate::model::Value::Null), |it| rows.tree(it, notes)),
        kind: tree.get("kind").map(|it| rows.tree(it, notes)),
    }))
}

fn read_read_back(tree: &Tree, place: &Place<'_>, names: &Names<'_>, notes: &mut Notes) -> Option<ReadBack> {
    if !notes.keys(tree, &["operation", "with", "changes"]) {
        return None;
    }
    let (Some(operation), Some(changes)) = (tree.get("operation"), tree.get("changes")) else {
        notes.error(Code::MissingKey, &first_line(&tree.span), "`read_back` needs `operation` and `changes`").help =
            Some("name a read that gives what is there, and the new values by its names".to_owned());
        return None;
    };
    let name = notes.text(operation)?;
    known_operation(name, operation, names, notes);
    Some(ReadBack {
        operation: name.into(),
        with: tree.get("with").map_or(TemplateTree::Map(Vec::new()), |it| place.tree(it, notes)),
        changes: place.and(&["item"]).tree(changes, notes),
    })
}

fn read_call(tree: &Tree, place: &Place<'_>, names: &Names<'_>, notes: &mut Notes) -> Option<Call> {
    if !notes.keys(tree, &["operation", "with"]) {
        return None;
    }
    let Some(operation) = tree.get("operation") else {
        notes.error(Code::MissingKey, &first_line(&tree.span), "key `operation` is missing");
        return None;
    };
    let name = notes.text(operation)?;
    known_operation(name, operation, names, notes);
    let with = tree.get("with").map_or(TemplateTree::Map(Vec::new()), |it| place.tree(it, notes));
    Some(Call { operation: name.into(), with })
}

fn read_amounts(tree: &Tree, place: &Place<'_>, names: &Names<'_>, notes: &mut Notes) -> Vec<(Arc<str>, TemplateTree)> {
    if !notes.mapping(tree) {
        return Vec::new();
    }
    let mut amounts = Vec::new();
    for entry in tree.entries() {
        if !names.budgets.iter().any(|known| **known == *entry.key) {
            let near = did_you_mean(&entry.key, names.budgets.iter().map(String::as_str));
            let message = format!("there is no budget `{}`", entry.key);
            notes.error(Code::UnknownName, &entry.key_span, message).help = Some(near.map_or_else(
                || format!("declare it: `limits: {{ budgets: {{ {}: {{ … }} }} }}`", entry.key),
                |near| format!("did you mean `{near}`?"),
            ));
        }
        amounts.push((entry.key.clone(), place.tree(&entry.value, notes)));
    }
    amounts
}

fn read_checks(tree: &Tree, place: &Place<'_>, notes: &mut Notes) -> Vec<Check> {
    if !notes.sequence(tree) {
        return Vec::new();
    }
    let mut checks = Vec::new();
    for item in tree.items() {
        if !notes.keys(item, &["that", "message"]) {
            continue;
        }
        let (Some(that), Some(message)) = (item.get("that"), item.get("message")) else {
            notes.error(Code::MissingKey, &first_line(&item.span), "a check needs `that` and `message`");
            continue;
        };
        if let (Some(that), Some(message)) = (place.template(that, notes), notes.text(message)) {
            checks.push(Check { that, message: message.into() });
        }
    }
    checks
}

fn read_session_use(tree: &Tree, notes: &mut Notes) -> SessionUse {
    let words = [("none", SessionUse::None), ("cookies", SessionUse::Cookies)];
    notes.word(tree, &words).unwrap_or_default()
}

/// Reads the section `session`.
pub(super) fn read_session(tree: &Tree, place: &Place<'_>, names: &Names<'_>, notes: &mut Notes) -> Option<Session> {
    if !notes.keys(tree, &["open", "keep", "cookies", "send", "when", "lifetime"]) {
        return None;
    }
    let mut open = Vec::new();
    match tree.get("open") {
        Some(list) if notes.sequence(list) => {
            for item in list.items() {
                if let Some(name) = notes.text(item) {
                    known_operation(name, item, names, notes);
                    open.push(name.into());
                }
            }
        }
        Some(_) => {}
        None => {
            notes.error(Code::MissingKey, &first_line(&tree.span), "key `open` is missing").help =
                Some("name the operations that open it: `open: [login]`".to_owned());
        }
    }
    let answered = place.answered().and(&["output"]);
    Some(Session {
        open,
        keep: tree.get("keep").map_or(TemplateTree::Map(Vec::new()), |it| answered.tree(it, notes)),
        cookies: tree.get("cookies").and_then(|it| notes.flag(it)).unwrap_or(false),
        send: tree.get("send").map(|it| read_patch(it, place, notes)).unwrap_or_default(),
        when: tree.get("when").and_then(|it| place.and(&["request"]).template(it, notes)),
        lifetime: tree.get("lifetime").and_then(|it| notes.duration(it)),
    })
}

/// Reads the section `account`.
pub(super) fn read_account(tree: &Tree, place: &Place<'_>, names: &Names<'_>, notes: &mut Notes) -> Option<Account> {
    if !notes.keys(tree, &["operation", "id"]) {
        return None;
    }
    let (Some(operation), Some(id)) = (tree.get("operation"), tree.get("id")) else {
        notes.error(Code::MissingKey, &first_line(&tree.span), "`account` needs `operation` and `id`");
        return None;
    };
    let name = notes.text(operation)?;
    known_operation(name, operation, names, notes);
    Some(Account { operation: name.into(), id: place.and(&["output"]).template(id, notes)? })
}

/// A write whose answer is lost must not be lost in silence: it says how that is found out, or that it cannot be.
fn check_settlement(operation: &Operation, tree: &Tree, entry: &Entry, notes: &mut Notes) {
    let write = operation.effect.is_some_and(Effect::is_write);
    let says = tree.get("repeat").is_some() || tree.get("reconcile").is_some();
    let steps = matches!(operation.act, Act::Steps { .. });
    if write && !says && !steps {
        let message = format!("operation `{}` writes, and does not say what a lost answer means", entry.key);
        notes.error(Code::UnsettledWrite, &entry.key_span, message).help =
            Some("add `repeat: always`, `reconcile: { operation, found }`, or `reconcile: none`".to_owned());
    }
    if operation.effect == Some(Effect::Read) {
        for key in ["repeat", "reconcile", "undo", "predict", "read_back"] {
            if let Some(entry) = tree.entry(key) {
                let message = format!("`{key}` is for writes, and this operation reads");
                notes.error(Code::NotAWrite, &entry.key_span, message).help = Some("take it away".to_owned());
            }
        }
    }
}

/// Keys that mean something together only.
fn check_shape(operation: &Operation, tree: &Tree, notes: &mut Notes) {
    for (key, needs) in [("item", "items"), ("paging", "items"), ("sync", "items")] {
        if let (Some(entry), None) = (tree.entry(key), tree.get(needs)) {
            let message = format!("`{key}` needs `{needs}`: an operation without it has no rows");
            notes.error(Code::MissingKey, &entry.key_span, message).help = Some(format!("add `{needs}:`"));
        }
    }
    if let (Some(entry), Act::Request(_) | Act::Steps { .. }) = (tree.entry("with"), &operation.act) {
        notes.error(Code::UnknownKey, &entry.key_span, "`with` belongs to `uses`").help =
            Some("take it away".to_owned());
    }
    let steps = matches!(operation.act, Act::Steps { .. });
    for key in ["answer", "items", "item", "paging", "sync", "send"] {
        if let Some(entry) = tree.entry(key).filter(|_| steps) {
            let message = format!("`{key}` means nothing beside `steps`: it belongs to the operations that they use");
            notes.error(Code::UnknownKey, &entry.key_span, message).help = Some("take it away".to_owned());
        }
    }
}
