//! What an answer means: error rules, the built-in ones last.

use super::manifest::Explain;
use super::manifest::OutcomeKind;
use super::manifest::Rule;
use super::manifest::Then;
use super::render;
use crate::model::Duration;
use crate::model::ErrorClass;
use crate::model::Happened;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::NodeError;
use crate::template::Scope;

/// The longest piece of an answer that a message quotes, in characters.
const MAX_QUOTED: usize = 300;

/// What a rule, or the built-in ones, make of an answer.
#[derive(Debug)]
pub struct Verdict<'m> {
    pub outcome: OutcomeKind,
    /// The rule that matched; nothing where it was built in.
    pub rule: Option<&'m Rule>,
}

/// A call that came to nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub outcome: OutcomeKind,
    /// Where it differs from that of the outcome: time-outs, a limit of ours.
    pub class: ErrorClass,
    pub happened: Happened,
    pub retry_after: Option<Duration>,
    pub attempts: Option<u32>,
    pub message: String,
}

impl Failure {
    /// Makes a failure after which the world is unchanged.
    #[must_use]
    pub fn new(outcome: OutcomeKind, message: impl Into<String>) -> Self {
        Self {
            outcome,
            class: class_of(outcome),
            happened: Happened::No,
            retry_after: None,
            attempts: None,
            message: message.into(),
        }
    }

    /// The input, or the manifest, is wrong: nothing was sent.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::Invalid, ..Self::new(OutcomeKind::Rejected, message) }
    }

    #[must_use]
    pub fn into_node_error(self) -> NodeError {
        NodeError {
            happened: self.happened,
            retry_after: self.retry_after,
            attempts: self.attempts,
            ..NodeError::message(self.class, self.message)
        }
    }
}

impl From<crate::template::EvalError> for Failure {
    fn from(error: crate::template::EvalError) -> Self {
        Self::invalid(error.message)
    }
}

/// Returns the error class of an outcome.
#[must_use]
pub fn class_of(outcome: OutcomeKind) -> ErrorClass {
    match outcome {
        OutcomeKind::Throttled => ErrorClass::Throttled,
        OutcomeKind::Unavailable => ErrorClass::Unavailable,
        OutcomeKind::Locked => ErrorClass::Locked,
        OutcomeKind::Conflict | OutcomeKind::Duplicate | OutcomeKind::CursorLost => ErrorClass::Conflict,
        OutcomeKind::Exhausted => ErrorClass::Exhausted,
        OutcomeKind::RefreshAuth | OutcomeKind::RenewSession | OutcomeKind::AuthBroken => ErrorClass::Auth,
        OutcomeKind::NotFound | OutcomeKind::Rejected | OutcomeKind::Done => ErrorClass::Rejected,
    }
}

/// Finds what an answer means. Rules of the operation first, then the connector's, then the built-in ones.
#[must_use]
pub fn judge<'m>(rules: impl IntoIterator<Item = &'m [Rule]>, status: u16, scope: &Scope) -> Verdict<'m> {
    for rule in rules.into_iter().flatten() {
        if let Some(outcome) = matches(rule, Some(status), scope) {
            return Verdict { outcome, rule: Some(rule) };
        }
    }
    Verdict { outcome: built_in(status), rule: None }
}

/// Finds what a row of a batch means by its own rules; without one that matches, it is done.
#[must_use]
pub fn judge_row<'m>(rules: &'m [Rule], scope: &Scope) -> Verdict<'m> {
    for rule in rules {
        if let Some(outcome) = matches(rule, None, scope) {
            return Verdict { outcome, rule: Some(rule) };
        }
    }
    Verdict { outcome: OutcomeKind::Done, rule: None }
}

fn matches(rule: &Rule, status: Option<u16>, scope: &Scope) -> Option<OutcomeKind> {
    if status.is_some_and(|status| !rule.status.contains(status)) {
        return None;
    }
    // What cannot be evaluated says nothing of this answer.
    if let Some(when) = &rule.when
        && !when.eval(scope).is_ok_and(|value| value.is_truthy())
    {
        return None;
    }
    match &rule.then {
        Then::Word(outcome) => Some(*outcome),
        Then::Computed(template) => {
            let word = template.eval(scope).ok()?.revealed();
            OutcomeKind::by_word(word.as_str()?)
        }
    }
}

/// The meaning of a status where no rule says otherwise.
#[must_use]
pub fn built_in(status: u16) -> OutcomeKind {
    match status {
        200..=299 => OutcomeKind::Done,
        401 => OutcomeKind::RefreshAuth,
        402 => OutcomeKind::Exhausted,
        404 => OutcomeKind::NotFound,
        408 | 425 | 500..=599 => OutcomeKind::Unavailable,
        409 | 412 => OutcomeKind::Conflict,
        423 => OutcomeKind::Locked,
        429 => OutcomeKind::Throttled,
        _ => OutcomeKind::Rejected,
    }
}

/// Says why: the rule's own words, else where the manifest says the system says it, else the status. `hide` takes the
/// secrets out of what is quoted, before it is cut.
#[must_use]
pub fn message(
    what: &str,
    verdict: &Verdict<'_>,
    explains: [&Explain; 2],
    status: u16,
    scope: &Scope,
    body: &str,
    hide: &dyn Fn(&str) -> String,
) -> String {
    let text = |tree: &Option<crate::template::TemplateTree>| {
        let value = render::written(tree.as_ref()?, scope).ok()??;
        Some(shortened(&hide(&value.revealed().to_text()))).filter(|text| !text.is_empty())
    };
    let mut message = format!("`{what}`: {status}{}", reason(status));
    let said = verdict.rule.and_then(|rule| text(&rule.message));
    let said = said.or_else(|| explains.iter().find_map(|explain| text(&explain.message)));
    match said {
        Some(said) => message = format!("{message}: {said}"),
        None if !body.trim().is_empty() => message = format!("{message}: {}", shortened(&hide(body.trim()))),
        None => {}
    }
    if let Some(code) = explains.iter().find_map(|explain| text(&explain.code)) {
        message = format!("{message} (code {code})");
    }
    if let Some(id) = explains.iter().find_map(|explain| text(&explain.request_id)) {
        message = format!("{message} [request {id}]");
    }
    message
}

fn shortened(text: &str) -> String {
    let short: String =
        text.chars().take(MAX_QUOTED).map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

/// Returns the words that stand behind a status, with the space before them.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        400 => " Bad Request",
        401 => " Unauthorized",
        402 => " Payment Required",
        403 => " Forbidden",
        404 => " Not Found",
        409 => " Conflict",
        412 => " Precondition Failed",
        422 => " Unprocessable Content",
        423 => " Locked",
        429 => " Too Many Requests",
        500 => " Internal Server Error",
        502 => " Bad Gateway",
        503 => " Service Unavailable",
        504 => " Gateway Timeout",
        _ => "",
    }
}

/// Returns until when a rule says to wait; nothing where it does not say.
pub fn wait(rule: Option<&Rule>, scope: &Scope) -> Option<Timestamp> {
    let value = render::written(rule?.wait.as_ref()?, scope).ok()??.revealed();
    let until = match value {
        Value::Time(moment) => Some(moment),
        Value::Duration(length) => Some(scope.now.plus(length)),
        Value::String(text) => match text.parse::<Duration>() {
            Ok(length) => Some(scope.now.plus(length)),
            Err(_) => text.parse::<Timestamp>().ok().or_else(|| fractional(&text).map(|it| scope.now.plus(it))),
        },
        _ => None,
    };
    until.map(|until| until.max(scope.now))
}

/// Reads seconds with a fraction, as some servers give them: `1.337s`.
fn fractional(text: &str) -> Option<Duration> {
    let seconds = text.strip_suffix('s')?.trim().parse::<rust_decimal::Decimal>().ok()?;
    let micros = seconds.checked_mul(rust_decimal::Decimal::from(1_000_000))?.ceil();
    u64::try_from(micros).ok().map(Duration::from_micros)
}

/// Reads a Retry-After header: seconds, or a moment as HTTP writes it.
#[must_use]
pub fn retry_after(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    if let Some(length) = fractional(&format!("{text}s")) {
        return Some(now.plus(length));
    }
    let moment = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(Timestamp(moment.timestamp().as_microsecond()).max(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = Timestamp(1_700_000_000_000_000);
        let after = |text: &str| retry_after(text, now).map(|until| until.since(now).to_string());
        assert_eq!(after("120").as_deref(), Some("2m"));
        assert_eq!(after("0.5").as_deref(), Some("500ms"));
        assert_eq!(after("Tue, 14 Nov 2023 22:13:50 GMT").as_deref(), Some("30s"));
        assert_eq!(after("Tue, 14 Nov 2000 22:13:50 GMT").as_deref(), Some("0s"));
        assert_eq!(after("soon"), None);
    }

    #[test]
    fn the_built_in_rules_are_those_of_the_vocabulary() {
        let words: Vec<_> = [200, 204, 304, 400, 401, 402, 403, 404, 408, 409, 412, 423, 425, 429, 500, 503]
            .map(|status| built_in(status).word())
            .into();
        assert_eq!(
            words,
            [
                "done",
                "done",
                "rejected",
                "rejected",
                "refresh_auth",
                "exhausted",
                "rejected",
                "not_found",
                "unavailable",
                "conflict",
                "conflict",
                "locked",
                "unavailable",
                "throttled",
                "unavailable",
                "unavailable"
            ]
        );
    }
}
