//! Budgets must hold requests back: examples are replayed, in one moment, until their budget is used up.

use std::sync::Arc;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::Replay;
use super::Report;
use super::Trial;
use super::asked;
use super::link_of;
use crate::connector::call::Stop;
use crate::connector::limits;
use crate::connector::manifest::Act;
use crate::connector::manifest::Example;
use crate::connector::manifest::ExchangeSpec;
use crate::connector::manifest::Manifest;
use crate::connector::manifest::Operation;
use crate::connector::render;
use crate::connector::runtime::Link;
use crate::connector::schema;
use crate::model::Timestamp;
use crate::system::System;

const NOW: Timestamp = Timestamp(1_790_000_000_000_000);
/// A budget for more requests than this is not used up to see it.
const MOST: usize = 2_000;
/// So often the one that asks may be asked whether it has ended; it waits for a limit then, since nothing else takes time.
const POLLS: usize = 64;

/// Uses up each budget that has a limit.
pub(super) async fn check(manifest: &Arc<Manifest>, report: &mut Report) {
    for budget in manifest.limits.limited() {
        let drawing = manifest.operations.values().find_map(|operation| {
            let draws = budget.counts_all || operation.cost.iter().any(|(name, _)| name == budget.name);
            let asks = matches!(operation.act, Act::Request(_)) && operation.spent.is_empty();
            let example = operation.examples.iter().find(|example| is_calm(example));
            example.filter(|_| draws && asks).map(|example| (operation, example))
        });
        let Some((operation, example)) = drawing else { continue };
        if let Err(message) = used_up(manifest, operation, example, &budget).await {
            report.finding(budget.line, format!("budget `{}`: {message}", budget.name));
        }
    }
}

fn is_calm(example: &Example) -> bool {
    let succeeds = example.output.is_some() && example.state.is_null() && !example.exchanges.is_empty();
    succeeds && !example.exchanges.iter().any(ExchangeSpec::is_lost)
}

async fn used_up(
    manifest: &Arc<Manifest>,
    operation: &Arc<Operation>,
    example: &Example,
    budget: &limits::Limited<'_>,
) -> Result<(), String> {
    let link = link_of(manifest, example).await?;
    let (system, _) = System::simulated(NOW, 1);
    let Some(most) = requests(&link, operation, example, budget)? else { return Ok(()) };
    let rounds = most / example.exchanges.len().max(1) + 1;
    for round in 0..rounds {
        let replay = Replay::new(example);
        let trial = Trial { system: &system, attempt: 1, started_at: NOW, doubted: false };
        let ended = tokio::select! {
            biased;
            ended = asked(&link, operation, example, &replay, trial) => ended,
            () = patience() => return Ok(()),
        };
        match ended {
            Ok(_) => {}
            Err(Stop::Later { .. }) => return Ok(()),
            // What else is wrong with an example is told by its replay.
            Err(Stop::Failed(_)) if round == 0 => return Ok(()),
            Err(Stop::Failed(failure)) => return Err(failure.message),
        }
    }
    Err(format!("`{}` was let go {rounds} times at once, which is more than it allows", operation.name))
}

/// Returns how many requests use a budget up; nothing where they are too many to try.
fn requests(
    link: &Link,
    operation: &Operation,
    example: &Example,
    budget: &limits::Limited<'_>,
) -> Result<Option<usize>, String> {
    let mut roots = link.settings();
    roots.push(("input", schema::completed(&operation.input, example.input.clone())));
    roots.push(("account", example.account.clone()));
    let scope = render::scope(roots, NOW);
    let limit = render::value(budget.limit, &scope).map_err(|error| format!("its `limit`: {}", error.message))?;
    let Ok(limit) = limit.revealed().to_text().trim().parse::<Decimal>() else {
        return Err(format!("its `limit` gives {}, and so it holds nothing back", limit.kind().name()));
    };
    // A cost that depends on an answer, or on what only a call knows, is not told beforehand.
    let Ok(costs) = limits::costs(&link.manifest.limits, operation, &scope) else { return Ok(None) };
    let cost = costs.iter().find(|(name, _)| name == budget.name).map_or(Some(Decimal::ONE), |(_, amount)| *amount);
    let Some(cost) = cost else { return Ok(None) };
    if cost.is_zero() {
        return Ok(None);
    }
    if cost > limit {
        return Err(format!("one request of `{}` needs {cost} of {limit}, and can never go", operation.name));
    }
    let most = limit.checked_div(cost).and_then(|most| most.ceil().to_usize()).unwrap_or(usize::MAX);
    Ok((most <= MOST).then_some(most))
}

async fn patience() {
    for _ in 0..POLLS {
        tokio::task::yield_now().await;
    }
}
