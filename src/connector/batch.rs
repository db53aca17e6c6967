//! The results of a part of a list: each is judged by rules of its own.

use super::call::Success;
use super::judge::Failure;
use super::judge::class_of;
use super::judge::judge_row;
use super::manifest::Batch;
use super::manifest::Operation;
use super::manifest::OutcomeKind;
use super::manifest::Then;
use super::render;
use super::runtime::Link;
use crate::model::Value;
use crate::template::Scope;

/// Gives one `{ ok, output, error }` for each item.
pub(super) fn judged(
    link: &Link,
    operation: &Operation,
    batch: &Batch,
    part: &[Value],
    success: &Success,
) -> Result<Vec<Value>, Failure> {
    let results = match batch.results.eval(&success.scope)? {
        Value::List(results) => results.to_vec(),
        Value::Null => Vec::new(),
        other => {
            let message = format!("`results` gives {}, expected a list", other.kind().name());
            return Err(Failure::new(OutcomeKind::Rejected, message));
        }
    };
    let rows = matched(batch, part, &results, &success.scope)?;
    let mut judged = Vec::with_capacity(part.len());
    for (item, row) in part.iter().zip(rows) {
        let mut scope = success.scope.clone();
        scope.locals.push(("item", item.clone()));
        scope.locals.push(("row", row.clone().unwrap_or_default()));
        judged.push(match row {
            Some(row) => of_row(link, operation, batch, &row, &scope)?,
            None => of_missing(link, operation, batch, &scope),
        });
    }
    Ok(judged)
}

/// Finds the result of each item: by what the manifest compares, else by place.
fn matched(batch: &Batch, part: &[Value], results: &[Value], scope: &Scope) -> Result<Vec<Option<Value>>, Failure> {
    let Some((input, result)) = &batch.matching else {
        return Ok((0..part.len()).map(|place| results.get(place).cloned()).collect());
    };
    let of = |template: &crate::template::Template, name: &'static str, value: &Value| -> Result<Value, Failure> {
        let mut scope = scope.clone();
        scope.locals.push((name, value.clone()));
        Ok(template.eval(&scope)?.revealed())
    };
    let mut keyed = std::collections::HashMap::with_capacity(results.len());
    for row in results {
        // The first of several with one key is meant: systems list duplicates behind it.
        keyed.entry(of(result, "row", row)?.to_text()).or_insert(row);
    }
    part.iter().map(|item| Ok(keyed.get(&of(input, "item", item)?.to_text()).map(|row| Value::clone(row)))).collect()
}

fn of_row(link: &Link, operation: &Operation, batch: &Batch, row: &Value, scope: &Scope) -> Result<Value, Failure> {
    let verdict = judge_row(&batch.errors, scope);
    super::contract::note(link.fired.as_ref(), verdict.rule);
    if verdict.outcome == OutcomeKind::Done {
        let output = match (verdict.rule.and_then(|rule| rule.output.as_ref()), &batch.output) {
            (Some(tree), _) | (None, Some(tree)) => render::output(tree, scope)?,
            (None, None) => row.clone(),
        };
        return Ok(result(true, output, Value::Null));
    }
    let message = verdict.rule.and_then(|rule| rule.message.as_ref());
    let message = message.and_then(|tree| render::written(tree, scope).ok().flatten());
    let message = message.map_or_else(|| row.to_string(), |message| message.revealed().to_text());
    let message = link.masked(&message);
    Ok(result(false, Value::Null, error(link, operation, verdict.outcome, message)))
}

fn of_missing(link: &Link, operation: &Operation, batch: &Batch, scope: &Scope) -> Value {
    let outcome = match &batch.missing {
        Some(Then::Word(outcome)) => *outcome,
        Some(Then::Computed(template)) => {
            let word = template.eval(scope).ok().map(|word| word.revealed().to_text());
            word.and_then(|word| OutcomeKind::by_word(&word)).unwrap_or(OutcomeKind::NotFound)
        }
        None => OutcomeKind::NotFound,
    };
    if outcome == OutcomeKind::Done {
        return result(true, Value::Null, Value::Null);
    }
    result(false, Value::Null, error(link, operation, outcome, "the answer has no result for it".to_owned()))
}

fn error(link: &Link, operation: &Operation, outcome: OutcomeKind, message: String) -> Value {
    let _ = (link, operation);
    Value::map([
        ("class", Value::from(class_of(outcome).name())),
        ("outcome", Value::from(outcome.word())),
        ("message", Value::from(message)),
    ])
}

fn result(ok: bool, output: Value, error: Value) -> Value {
    Value::map([("ok", Value::Bool(ok)), ("output", output), ("error", error)])
}
