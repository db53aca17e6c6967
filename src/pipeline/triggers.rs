//! Triggers: checked now, working with the daemon.

use std::str::FromStr;

use super::compile::Compiler;
use super::compile::first_line;
use super::expressions::Place;
use super::read::Reader;
use crate::diag::Code;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

const KINDS: [&str; 7] = ["cron", "every", "at", "webhook", "files", "after", "manual"];
pub(super) const KEYS: &[&str] = &[
    "cron", "every", "at", "webhook", "files", "after", "manual", "timezone", "dst", "missed", "window", "max",
    "jitter", "calendar", "inputs", "enabled",
];

pub(super) fn check(compiler: &mut Compiler<'_>, tree: &Tree) {
    if !matches!(tree.kind, TreeKind::Sequence(_)) {
        compiler.error(
            Code::WrongType,
            &first_line(&tree.span),
            format!("expected a list of triggers, found {}", tree.describe()),
        );
        return;
    }
    for trigger in tree.items() {
        one(compiler, trigger);
    }
}

fn one(compiler: &mut Compiler<'_>, tree: &Tree) {
    let Some(mut reader) = Reader::new(compiler, tree, KEYS) else { return };
    for key in ["every", "window", "jitter"] {
        reader.duration(key);
    }
    reader.number("max", 1, 1_000_000);
    reader.flag("enabled");
    reader.word("missed", &["none", "last", "all"]);
    reader.text("calendar");
    let zone = reader.text("timezone");
    let cron = reader.text("cron");
    let at = reader.text("at");
    if let Some((zone, span)) = zone
        && jiff::tz::TimeZone::get(zone).is_err()
    {
        let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        let known = known.iter().map(String::as_str);
        compiler.unknown(Code::UnknownTimeZone, span, "time zone {} does not exist", zone, known);
    }
    if let Some((text, span)) = cron
        && let Err(error) = cron::Cron::from_str(text)
    {
        // The parser's texts are layered, `Component error: Number out of bounds.`: the last part says it.
        let why = error.to_string().to_lowercase();
        let why = why.rsplit(": ").next().unwrap_or_default().trim_end_matches('.');
        compiler.error(Code::BadCron, span, format!("`{text}` is not a schedule: {why}")).help =
            Some("minute hour day month weekday, e.g. `0 9 * * MON-FRI`".to_owned());
    }
    if let Some((text, span)) = at
        && let Err(error) = text.parse::<crate::model::Timestamp>()
    {
        compiler.error(Code::BadTime, span, error.to_string());
    }
    if let Some(dst) = tree.get("dst")
        && let Some(mut reader) = Reader::new(compiler, dst, &["missing", "repeated"])
    {
        reader.word("missing", &["shift", "skip"]);
        reader.word("repeated", &["first", "last", "both"]);
    }
    if let Some(webhook) = tree.get("webhook") {
        if let Some(mut reader) = Reader::new(compiler, webhook, &["path", "secret", "preset"]) {
            reader.require("path");
            reader.word("preset", &["github", "stripe", "slack", "meta"]);
        }
        if let Some(secret) = webhook.get("secret") {
            compiler.template(secret, &Place::event());
        }
    }
    let given: Vec<_> = tree.entries().iter().filter(|entry| KINDS.contains(&&*entry.key)).collect();
    match given.as_slice() {
        [_] => {}
        [] => {
            let kinds = KINDS.map(|kind| format!("`{kind}`")).join(", ");
            compiler.error(Code::MissingKey, &first_line(&tree.span), format!("a trigger needs one of {kinds}"));
        }
        [first, second, ..] => {
            let message = format!("a trigger is one thing: `{}` or `{}`", first.key, second.key);
            compiler.error(Code::WrongType, &second.key_span, message).help =
                Some("make two triggers of it".to_owned());
        }
    }
    inputs(compiler, tree);
}

fn inputs(compiler: &mut Compiler<'_>, tree: &Tree) {
    let Some(inputs) = tree.get("inputs") else { return };
    if !Reader::mapping(compiler, inputs) {
        return;
    }
    for entry in inputs.entries() {
        compiler.tree(&entry.value, &Place::event());
        let known: Vec<String> = compiler.inputs.iter().map(|input| input.name.to_string()).collect();
        if compiler.inputs_known && !known.iter().any(|name| *name == *entry.key) {
            compiler.unknown(
                Code::UnknownInput,
                &entry.key_span,
                "input {} does not exist",
                &entry.key,
                known.iter().map(String::as_str),
            );
        }
    }
}
