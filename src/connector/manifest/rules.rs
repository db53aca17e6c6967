//! Error rules: what an answer means.

use super::Explain;
use super::OutcomeKind;
use super::Rule;
use super::Statuses;
use super::Then;
use super::place::Place;
use crate::connector::notes::Notes;
use crate::connector::notes::first_line;
use crate::diag::Code;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

const RULE_KEYS: &[&str] = &["status", "when", "then", "wait", "budget", "attempts", "happened", "message", "output"];

pub(super) const OUTCOMES: &[(&str, OutcomeKind)] = &[
    ("done", OutcomeKind::Done),
    ("duplicate", OutcomeKind::Duplicate),
    ("throttled", OutcomeKind::Throttled),
    ("unavailable", OutcomeKind::Unavailable),
    ("locked", OutcomeKind::Locked),
    ("conflict", OutcomeKind::Conflict),
    ("not_found", OutcomeKind::NotFound),
    ("rejected", OutcomeKind::Rejected),
    ("exhausted", OutcomeKind::Exhausted),
    ("refresh_auth", OutcomeKind::RefreshAuth),
    ("renew_session", OutcomeKind::RenewSession),
    ("auth_broken", OutcomeKind::AuthBroken),
    ("cursor_lost", OutcomeKind::CursorLost),
];

/// Reads a list of rules; `place` is that of an answer.
pub(super) fn read_rules(tree: &Tree, place: &Place<'_>, budgets: &[String], notes: &mut Notes) -> Vec<Rule> {
    if !notes.sequence(tree) {
        return Vec::new();
    }
    tree.items().iter().filter_map(|item| read_rule(item, place, budgets, notes)).collect()
}

fn read_rule(tree: &Tree, place: &Place<'_>, budgets: &[String], notes: &mut Notes) -> Option<Rule> {
    if !notes.keys(tree, RULE_KEYS) {
        return None;
    }
    if tree.get("status").is_none() && tree.get("when").is_none() {
        notes.error(Code::MissingKey, &first_line(&tree.span), "a rule needs `status` or `when`").help =
            Some("say when it applies; `status: any` applies to every answer".to_owned());
    }
    let Some(then) = tree.get("then") else {
        notes.error(Code::MissingKey, &first_line(&tree.span), "key `then` is missing").help =
            Some("say what the answer means, e.g. `then: rejected`".to_owned());
        return None;
    };
    let budget = tree.get("budget").and_then(|budget| {
        let name = notes.text(budget)?;
        if name != "host" && !budgets.iter().any(|known| known == name) {
            let known = budgets.iter().map(String::as_str).chain(["host"]);
            let near = crate::diag::did_you_mean(name, known).map(|near| format!("did you mean `{near}`?"));
            notes.error(Code::UnknownName, &budget.span, format!("there is no budget `{name}`")).help = near;
        }
        Some(name.into())
    });
    Some(Rule {
        status: tree.get("status").map_or(Statuses::Any, |status| read_statuses(status, notes)),
        when: tree.get("when").and_then(|when| place.template(when, notes)),
        then: read_then(then, place, notes)?,
        wait: tree.get("wait").map(|wait| place.tree(wait, notes)),
        budget,
        attempts: tree.get("attempts").and_then(|attempts| notes.number(attempts, 1, 1_000)),
        happened: tree.get("happened").and_then(|happened| notes.flag(happened)),
        message: tree.get("message").map(|message| place.tree(message, notes)),
        output: tree.get("output").map(|output| place.tree(output, notes)),
        line: tree.span.start.line,
        column: tree.span.start.column,
    })
}

pub(super) fn read_then(tree: &Tree, place: &Place<'_>, notes: &mut Notes) -> Option<Then> {
    if tree.as_text().is_some_and(|text| text.contains("{{")) {
        return place.template(tree, notes).map(Then::Computed);
    }
    notes.word(tree, OUTCOMES).map(Then::Word)
}

fn read_statuses(tree: &Tree, notes: &mut Notes) -> Statuses {
    if tree.as_text() == Some("any") {
        return Statuses::Any;
    }
    let single = std::slice::from_ref(tree);
    let items = if matches!(tree.kind, TreeKind::Sequence(_)) { tree.items() } else { single };
    let mut ranges = Vec::new();
    for item in items {
        match item.as_text().and_then(range) {
            Some(range) => ranges.push(range),
            None => {
                notes.wrong(item, "a status such as `404`, `4xx` or `any`");
            }
        }
    }
    Statuses::Ranges(ranges)
}

fn range(text: &str) -> Option<(u16, u16)> {
    if let Some(hundred) = text.strip_suffix("xx") {
        let first = hundred.parse::<u16>().ok().filter(|first| (1..=5).contains(first))? * 100;
        return Some((first, first + 99));
    }
    let status = text.parse::<u16>().ok().filter(|status| (100..=599).contains(status))?;
    Some((status, status))
}

impl Statuses {
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Ranges(ranges) => ranges.iter().any(|(first, last)| (*first..=*last).contains(&status)),
        }
    }
}

impl OutcomeKind {
    /// Returns the word of the vocabulary.
    #[must_use]
    pub fn word(self) -> &'static str {
        OUTCOMES.iter().find(|(_, kind)| *kind == self).map_or("rejected", |(word, _)| word)
    }

    /// Finds the outcome by its word.
    #[must_use]
    pub fn by_word(word: &str) -> Option<Self> {
        OUTCOMES.iter().find(|(own, _)| *own == word).map(|(_, kind)| *kind)
    }
}

/// Reads where a refusal says why.
pub(super) fn read_explain(tree: &Tree, place: &Place<'_>, notes: &mut Notes) -> Explain {
    let mut explain = Explain::default();
    if !notes.keys(tree, &["message", "code", "request_id"]) {
        return explain;
    }
    explain.message = tree.get("message").map(|it| place.tree(it, notes));
    explain.code = tree.get("code").map(|it| place.tree(it, notes));
    explain.request_id = tree.get("request_id").map(|it| place.tree(it, notes));
    explain
}
