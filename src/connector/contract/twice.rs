//! A write that may be sent again must be the same request again: by that the system knows it, and one write stays one.

use std::sync::Arc;

use super::Replay;
use super::Trial;
use super::asked;
use super::is_write;
use super::link_of;
use super::same;
use crate::connector::call::Stop;
use crate::connector::manifest::Act;
use crate::connector::manifest::Example;
use crate::connector::manifest::ExchangeSpec;
use crate::connector::manifest::Manifest;
use crate::connector::manifest::Operation;
use crate::connector::manifest::Reconcile;
use crate::http::Request;
use crate::model::Duration;
use crate::model::Repeat;
use crate::model::Timestamp;
use crate::system::System;

/// When the first sending takes place; the second follows an hour later.
const FIRST: Timestamp = Timestamp(1_790_000_000_000_000);
const LATER: Duration = Duration::from_secs(3_600);
/// What a signature makes anew each time, and by what no system knows a request.
const SIGNED: &[&str] = &["authorization", "x-amz-date"];

/// Tells whether an example shows a write that succeeds and may be sent again.
pub(super) fn may_be_repeated(operation: &Operation, example: &Example) -> bool {
    let repeats = operation.repeat != Repeat::Never || matches!(operation.reconcile, Reconcile::Resend);
    let succeeds = example.output.is_some() && example.state.is_null() && !example.exchanges.is_empty();
    let calm = !example.exchanges.iter().any(ExchangeSpec::is_lost);
    repeats && is_write(operation) && matches!(operation.act, Act::Request(_)) && succeeds && calm
}

/// Sends a write twice, as the ledger does after a lost answer.
pub(super) async fn check(
    manifest: &Arc<Manifest>,
    operation: &Arc<Operation>,
    example: &Example,
) -> Result<(), String> {
    let link = link_of(manifest, example).await?;
    let mut sent = Vec::new();
    for (attempt, at) in [(1, FIRST), (2, FIRST.plus(LATER))] {
        // Chance is the same: a boundary of parts, say, is no difference.
        let (system, _) = System::simulated(at, 1);
        let replay = Replay::new(example);
        let trial = Trial { system: &system, attempt, started_at: FIRST, doubted: attempt > 1 };
        let output = match asked(&link, operation, example, &replay, trial).await {
            Ok(output) => output.revealed(),
            // What is wrong with the first is told by its replay.
            Err(_) if attempt == 1 => return Ok(()),
            Err(Stop::Failed(failure)) => {
                return Err(format!("sent again, it fails: {}", replay.complaint().unwrap_or(failure.message)));
            }
            Err(Stop::Later { reason, .. }) => return Err(format!("it cannot be sent again: {reason}")),
        };
        if attempt > 1 && example.output.as_ref().is_some_and(|expected| !same(expected, &output)) {
            return Err(format!("sent again, it gives {output}"));
        }
        sent.push(replay.sent());
    }
    let [first, second] = sent.as_slice() else { return Ok(()) };
    let differing = first.iter().zip(second).find_map(|(first, second)| difference(first, second));
    match differing {
        Some(what) => Err(format!("sent again, it is another request, which the system cannot know again: {what}")),
        None if first.len() != second.len() => Err("sent again, it makes other requests".to_owned()),
        None => Ok(()),
    }
}

/// Says in what a request differs from another one.
fn difference(first: &Request, second: &Request) -> Option<String> {
    if (&first.method, &first.url) != (&second.method, &second.url) {
        return Some(format!("{} {}, then {} {}", first.method, first.url, second.method, second.url));
    }
    let value = |request: &Request, name: &str| {
        request.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let names = first.headers.iter().chain(&second.headers).map(|(name, _)| name.as_str());
    for name in names.filter(|name| !SIGNED.iter().any(|signed| signed.eq_ignore_ascii_case(name))) {
        let (one, other) = (value(first, name), value(second, name));
        if one != other {
            return Some(format!("header `{name}` is `{one}`, then `{other}`"));
        }
    }
    let text = |request: &Request| String::from_utf8_lossy(&request.body).into_owned();
    (first.body != second.body).then(|| format!("the body is {}, then {}", text(first), text(second)))
}
