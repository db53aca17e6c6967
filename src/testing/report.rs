//! What is told of cases: to people, and as JSON.

use std::collections::BTreeMap;

use super::came::Played;
use super::came::counted;
use super::run::Verdict;
use crate::diag;
use crate::diag::Format;
use crate::diag::Sources;
use crate::model::Duration;
use crate::model::RunEvent;
use crate::model::SettledBy;
use crate::model::StepError;
use crate::model::Value;
use crate::model::Verdict as Settled;

/// How many lines of a journal are told, and how many requests.
const MOST: usize = 60;

/// Returns what is told of a case that is not kept: what was expected where, and what happened.
#[must_use]
pub fn failure(verdict: &Verdict, sources: &Sources, color: bool) -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = diag::render(&verdict.findings, sources, Format::Text, color, &mut text);
    let journal = journal(&verdict.played);
    if !journal.is_empty() {
        text.push_str("\njournal:\n");
        lines(&journal, &mut text);
    }
    let requests = requests(&verdict.played);
    if !requests.is_empty() {
        text.push_str("\nrequests:\n");
        lines(&requests, &mut text);
    }
    text
}

fn lines(all: &[String], out: &mut String) {
    let more = all.len().saturating_sub(MOST);
    // The end is what tells.
    let (first, last) = if more > 0 { (MOST / 2, all.len() - MOST / 2) } else { (all.len(), all.len()) };
    for line in all.iter().take(first) {
        out.push_str(&format!("  {line}\n"));
    }
    if more > 0 {
        out.push_str(&format!("  … {} more …\n", last - first));
    }
    for line in all.iter().skip(last) {
        out.push_str(&format!("  {line}\n"));
    }
}

/// Lists what happened in a run, and in those below it, with the time since its start.
#[must_use]
pub fn journal(played: &Played) -> Vec<String> {
    let mut all: Vec<(i64, String)> = Vec::new();
    for (index, (_, pipeline, events)) in played.journals.iter().enumerate() {
        let whose = if index == 0 { String::new() } else { format!("{}: ", pipeline.name) };
        for event in events {
            if let Some(told) = told(event) {
                let since = event.at().since(played.start);
                let line = format!("{:>12}  {whose}{told}", format!("+{}", length(since)));
                all.push((event.at().micros(), played.masked(line)));
            }
        }
    }
    // Runs below stand where they happened; what came at once stays in its order.
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, line)| line).collect()
}

fn told(event: &RunEvent) -> Option<String> {
    let path = event.path().map(ToString::to_string).unwrap_or_default();
    Some(match event {
        RunEvent::Started { .. } => "the run goes on".to_owned(),
        RunEvent::Planned { .. } => "the run is bound to its plan".to_owned(),
        RunEvent::Items { items, .. } => format!("{path} has {} items", items.as_list().map_or(0, <[Value]>::len)),
        RunEvent::StepStarted { attempt, .. } => format!("{path} starts, attempt {attempt}"),
        RunEvent::Intent { intent, .. } => format!("{path} intends to {}", intent.kind.name()),
        RunEvent::Succeeded { output, recovered, .. } => {
            let instead = recovered.as_ref().map(|error| format!(" instead of {error}")).unwrap_or_default();
            format!("{path} succeeded{instead}: {}", super::matcher::shown(output))
        }
        RunEvent::Failed { attempt, error, retry_at, .. } => {
            let again = if retry_at.is_some() { ", is tried again" } else { "" };
            format!("{path} failed at attempt {attempt}{again}: {error}")
        }
        RunEvent::Skipped { reason, .. } => format!("{path} is skipped: {reason}"),
        RunEvent::Waiting { until, reason, .. } => {
            let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
            format!("{path} sleeps{until}: {reason}")
        }
        RunEvent::Round { output, .. } => format!("{path} goes another round: {}", super::matcher::shown(output)),
        RunEvent::InDoubt { error, .. } => format!("{path} is in doubt: {error}"),
        RunEvent::Settled { by, verdict, .. } => {
            let by = match by {
                SettledBy::Repeat => "it may be repeated",
                SettledBy::Reconcile => "the other side was asked",
                SettledBy::Policy => "the step says so",
                SettledBy::Person => "somebody says so",
            };
            let verdict = match &**verdict {
                Settled::Happened { .. } => "it happened",
                Settled::SendAgain => "it is sent again",
                Settled::Dropped => "it is left",
            };
            format!("{path} is settled ({by}): {verdict}")
        }
        RunEvent::Asked { ask, .. } => format!("{path} asks: {}", ask.reason),
        RunEvent::Woken { .. } => format!("{path} is woken"),
        RunEvent::Child { .. } => format!("{path} starts a run below"),
        RunEvent::StepCanceled { .. } => format!("{path} is canceled"),
        RunEvent::CancelRequested { .. } => "the run is to be canceled".to_owned(),
        RunEvent::Retried { .. } => "the run is tried again".to_owned(),
        RunEvent::PhaseStarted { phase, state, .. } => format!("{} begins, the run {}", phase.name(), state.name()),
        // What follows says it.
        RunEvent::Parked { .. } => return None,
        RunEvent::Finished { state, error, .. } => {
            let why = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            format!("the run {}{why}", state.name())
        }
    })
}

/// Lists what stand-ins received.
#[must_use]
pub fn requests(played: &Played) -> Vec<String> {
    let received = played.received();
    let line = |(stand, _, seen): &(std::sync::Arc<str>, std::sync::Arc<str>, crate::sandbox::world::Seen)| {
        let since = format!("+{}", length(seen.at.since(played.start)));
        let operation =
            seen.operation.as_deref().map(|name| format!("{stand}.{name}")).unwrap_or_else(|| stand.to_string());
        let answer = seen.status.map_or_else(|| "the answer is lost".to_owned(), |status| status.to_string());
        played.masked(format!("{since:>12}  {operation}  {} {} → {answer}", seen.method, seen.path))
    };
    received.iter().map(line).collect()
}

/// Returns a length of virtual time in at most two units.
#[must_use]
pub fn length(length: Duration) -> String {
    let text = length.to_string();
    let mut units = 0;
    let mut cut = text.len();
    let mut letters = false;
    for (at, letter) in text.char_indices() {
        if letter.is_ascii_digit() && letters {
            units += 1;
            if units == 2 {
                cut = at;
                break;
            }
        }
        letters = letter.is_ascii_alphabetic();
    }
    text.get(..cut).unwrap_or(&text).to_owned()
}

/// Returns all verdicts as one JSON object.
#[must_use]
pub fn json(verdicts: &[Verdict], took: std::time::Duration) -> Value {
    let mut suites: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for verdict in verdicts {
        let played = &verdict.played;
        let findings = verdict.findings.iter().map(|finding| {
            Value::map([
                ("file", Value::from(&*finding.span.file)),
                ("line", Value::from(finding.span.start.line)),
                ("column", Value::from(finding.span.start.column)),
                ("message", Value::from(finding.message.as_str())),
            ])
        });
        let texts = |lines: Vec<String>| Value::list(lines.iter().map(|line| Value::from(line.trim())).collect());
        let mut case = vec![
            ("name", Value::from(&*verdict.job.case.name)),
            ("passed", Value::Bool(verdict.findings.is_empty())),
            ("state", Value::from(played.state().name())),
            ("error", played.error().map_or(Value::Null, StepError::to_value)),
            ("milliseconds", Value::from(u64::try_from(played.took.as_millis()).unwrap_or(u64::MAX))),
            ("virtual", Value::from(played.now.since(played.start).to_string())),
        ];
        if !verdict.findings.is_empty() {
            case.push(("findings", Value::list(findings.collect())));
            case.push(("journal", texts(journal(played))));
            case.push(("requests", texts(requests(played))));
        }
        suites.entry(verdict.job.suite.file.to_string()).or_default().push(Value::map(case));
    }
    let failed = verdicts.iter().filter(|verdict| !verdict.findings.is_empty()).count();
    let suites = suites
        .into_iter()
        .map(|(file, cases)| Value::map([("file", Value::from(file)), ("cases", Value::list(cases))]));
    Value::map([
        ("passed", counted(verdicts.len() - failed)),
        ("failed", counted(failed)),
        ("milliseconds", Value::from(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))),
        ("suites", Value::list(suites.collect())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_told_in_two_units() {
        for (micros, text) in [(0, "0s"), (90_000_000, "1m30s"), (90_061_500_000, "1d1h"), (1_250_000, "1s250ms")] {
            assert_eq!(length(Duration::from_micros(micros)), text);
        }
    }
}
