//! Holding what came of a case against what must come of it.

use std::sync::Arc;

use super::came::Played;
use super::came::counted;
use super::matcher::Difference;
use super::matcher::Matcher;
use super::matcher::shown;
use super::play::End;
use super::snapshot::Snapshots;
use super::then::By;
use super::then::StepThen;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Span;
use crate::model::RunState;
use crate::model::StepError;
use crate::model::Value;
use crate::template::Scope;

/// How many differences of one case are told.
const MOST: usize = 20;

/// Tells what is not as it must be; nothing where all is well.
#[must_use]
pub fn judge(played: &Played, snapshots: &mut Snapshots) -> Vec<Diagnostic> {
    let case = &played.case;
    let mut findings = played.problems.clone();
    if let Some(told) = ended_badly(played) {
        findings.push(Diagnostic::error(Code::TestFailed, case.span.clone(), told));
    }
    // What did not end says nothing.
    if matches!(played.end, End::Execution(_)) {
        let scope = played.scope();
        let mut differences = Vec::new();
        state(played, &mut differences);
        values(played, &scope, &mut differences);
        let steps = played.steps();
        for then in &case.then.steps {
            step(then, steps.get(&then.step).unwrap_or(&Value::Null), &scope, &mut differences);
        }
        findings.extend(differences.into_iter().map(|difference| told(played, &difference)));
        findings.extend(conditions(played, &scope));
        findings.extend(in_time(played));
        findings.extend(snapshot(played, snapshots));
    }
    let more = findings.len().saturating_sub(MOST);
    findings.truncate(MOST);
    if let (true, Some(last)) = (more > 0, findings.last_mut()) {
        last.notes.push((None, format!("{more} more differences of this case are not shown")));
    }
    for finding in &mut findings {
        finding.message = played.masked(std::mem::take(&mut finding.message));
    }
    findings
}

fn ended_badly(played: &Played) -> Option<String> {
    match &played.end {
        End::Execution(_) => None,
        // What is wrong is told as a problem.
        End::NotBegun => played.problems.is_empty().then(|| "the run did not begin".to_owned()),
        End::TooLong(length) => {
            Some(format!("the run is not over after {length} of virtual time; `given.limit` allows more"))
        }
        End::Stuck => Some("the run stands still: nothing can go on, and nothing waits for a time".to_owned()),
        End::Slow => Some("the case takes the machine longer than a minute".to_owned()),
        End::Broken(reason) => Some(format!("the case could not be played: {reason}")),
    }
}

fn state(played: &Played, out: &mut Vec<Difference>) {
    let then = &played.case.then;
    let found = played.state();
    let (expected, span) = match (&then.state, &then.error, &then.waits) {
        (Some((state, span)), ..) => (*state, span.clone()),
        (None, Some(error), _) => (RunState::Failed, error.span.clone()),
        (None, None, Some(waits)) => (RunState::Waiting, waits.span.clone()),
        // What nobody speaks of must have gone well.
        (None, None, None) => (RunState::Succeeded, played.case.span.clone()),
    };
    if found != expected && matches!(played.end, End::Execution(_)) {
        let mut found = Value::from(found.name());
        if let Some(error) = played.error() {
            found = Value::from(format!("{} ({error})", played.state().name()));
        } else if let Some(reason) = played.waits() {
            found = Value::from(format!("{} ({reason})", played.state().name()));
        }
        let (path, expected) = ("the run".to_owned(), expected.name().to_owned());
        out.push(Difference { span, path, expected, found: Some(found) });
    }
}

fn values(played: &Played, scope: &Scope, out: &mut Vec<Difference>) {
    let then = &played.case.then;
    let mut check = |path: &str, matcher: &Option<Matcher>, found: Option<Value>| {
        if let Some(matcher) = matcher {
            matcher.check(path, found.as_ref(), scope, out);
        }
    };
    check("error", &then.error, played.error().map(StepError::to_value));
    check("waits", &then.waits, played.waits().map(Value::from));
    check("outputs", &then.outputs, Some(played.outputs()));
    check("asks", &then.asks, then.asks.as_ref().map(|_| Value::list(played.asks())));
    check("logs", &then.logs, then.logs.as_ref().map(|_| Value::list(played.log_lines())));
    for (name, _, matcher) in &then.requests {
        let count = counted(played.count(name));
        matcher.check(&format!("requests[{name}]"), Some(&count), scope, out);
    }
    for (name, _, matcher) in &then.sandbox {
        let state = played.stand(name).unwrap_or_default();
        matcher.check(&format!("sandbox.{name}"), Some(&state), scope, out);
    }
    for (name, _, matcher) in &then.messages {
        let messages = Value::list(played.messages_of(name));
        matcher.check(&format!("messages.{name}"), Some(&messages), scope, out);
    }
    let effects = played.effects_value();
    for (name, _, matcher) in &then.effects {
        matcher.check(&format!("effects.{name}"), effects.get(name), scope, out);
    }
    for (path, _, matcher) in &then.files {
        let content = played.files.iter().find(|(own, _)| own == path).and_then(|(_, content)| content.as_deref());
        matcher.check(&format!("files[{path}]"), content.map(Value::from).as_ref(), scope, out);
    }
}

fn step(then: &StepThen, record: &Value, scope: &Scope, out: &mut Vec<Difference>) {
    let path = format!("steps.{}", then.step);
    for (key, matcher) in &then.record {
        matcher.check(&format!("{path}.{key}"), record.get(key), scope, out);
    }
    let mut scope = scope.clone();
    scope.locals.push(("value", record.get("output").cloned().unwrap_or_default()));
    for (template, span) in &then.that {
        let expected = match template.eval(&scope) {
            Ok(value) if value.is_truthy() => continue,
            Ok(_) => format!("what `{}` holds for", template.source()),
            Err(error) => format!("what `{}` holds for ({})", template.source(), error.message),
        };
        let (path, found) = (format!("{path}.output"), record.get("output").cloned());
        out.push(Difference { span: span.clone(), path, expected, found });
    }
}

fn conditions(played: &Played, scope: &Scope) -> Vec<Diagnostic> {
    let mut told = Vec::new();
    for (template, span) in &played.case.then.that {
        let message = match template.eval(scope) {
            Ok(value) if value.is_truthy() => continue,
            Ok(value) => format!("does not hold: it gives {}", shown(&value)),
            Err(error) => format!("does not hold: {}", error.message),
        };
        let mut diagnostic = Diagnostic::error(Code::TestFailed, span.clone(), message);
        for reference in template.references() {
            if let Some(note) = read(scope, &reference.path) {
                diagnostic.notes.push((None, note));
            }
        }
        diagnostic.notes.dedup();
        told.push(diagnostic);
    }
    told
}

/// Says what a name has that a condition reads.
fn read(scope: &Scope, path: &[Arc<str>]) -> Option<String> {
    let name = path.join(".");
    let template = crate::template::Template::parse(&format!("{{{{ {name} }}}}")).ok()?;
    match template.eval(scope) {
        Ok(value) => Some(format!("{name} is {}", shown(&value))),
        Err(error) => Some(format!("{name}: {}", error.message)),
    }
}

fn in_time(played: &Played) -> Option<Diagnostic> {
    let (by, span) = played.case.then.finished_by.as_ref()?;
    let end = match by {
        By::Moment(moment) => *moment,
        By::Length(length) => played.start.plus(*length),
    };
    if played.state().is_final() && played.now <= end {
        return None;
    }
    let took = played.now.since(played.start);
    let message = match played.state().is_final() {
        true => format!("the run ended at {}, after {took}", played.now),
        false => format!("the run has not ended; it is {}", played.state().name()),
    };
    Some(Diagnostic::error(Code::TestFailed, span.clone(), message))
}

fn snapshot(played: &Played, snapshots: &mut Snapshots) -> Vec<Diagnostic> {
    let case = &played.case;
    let mut findings = Vec::new();
    let mut check = |part: &str, span: &Span, found: &Value| {
        let (differences, kept) =
            snapshots.check(&case.name, part, &Value::from(played.masked(found.to_string())), found);
        for difference in differences {
            let mut finding = Diagnostic::error(Code::TestFailed, span.clone(), difference);
            finding.help = Some(format!("`pipewright test --update` keeps what it is now in {kept}"));
            findings.push(finding);
        }
    };
    if let Some(span) = &case.then.snapshot {
        check("outputs", span, &played.outputs());
    }
    let steps = played.steps();
    for then in &case.then.steps {
        if let Some(span) = &then.snapshot {
            let output = steps.get(&then.step).and_then(|record| record.get("output")).cloned().unwrap_or_default();
            check(&format!("steps.{}", then.step), span, &output);
        }
    }
    findings
}

fn told(played: &Played, difference: &Difference) -> Diagnostic {
    let Difference { span, path, expected, found } = difference;
    let found = match found {
        Some(Value::String(text)) if path == "the run" => text.to_string(),
        Some(found) => shown(found),
        None => "not there".to_owned(),
    };
    let message = match path.as_str() {
        "the run" => format!("the run is {found}, expected {expected}"),
        path => format!("`{path}` is {found}, expected {expected}"),
    };
    Diagnostic::error(Code::TestFailed, span.clone(), played.masked(message))
}
