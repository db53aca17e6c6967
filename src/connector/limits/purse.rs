//! The account of money: what a request costs is counted before it leaves, against the budgets of its step, its run, its
//! pipeline and the project, and corrected by its answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::keeper::decimal;
use super::sending::Declared;
use super::sending::Sending;
use super::spec::Calendar;
use super::window::Window;
use crate::connector::call::Stop;
use crate::connector::judge::Failure;
use crate::connector::manifest::OutcomeKind;
use crate::connector::render;
use crate::model::Currency;
use crate::model::Money;
use crate::model::RunId;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::Budget;
use crate::pipeline::Spend;
use crate::store::Error;
use crate::store::NewSpending;
use crate::store::Overspent;
use crate::store::Reservation;
use crate::store::Settlement;
use crate::store::SpendingLimits;
use crate::store::SpendingScope;
use crate::store::SpendingState;
use crate::store::SpendingStep;
use crate::store::Store;

/// From so many on, the runs whose budgets are known are forgotten.
const MANY: usize = 4_096;

/// The account of money of a process; what is in it is in the store.
#[derive(Debug)]
pub struct Purse {
    /// How much the whole project may spend on one day.
    day: Option<Money>,
    zone: TimeZone,
    /// By run the run above all.
    tops: Mutex<HashMap<RunId, Arc<Top>>>,
}

/// The run above all, whose budgets hold for everything below it.
#[derive(Debug)]
struct Top {
    run: RunId,
    pipeline: String,
    budget: Budget,
}

/// What was counted for a request.
#[derive(Debug)]
pub(super) struct Ticket {
    reservation: Reservation,
    /// What was counted of each budget of the manifest.
    parts: Vec<(Arc<str>, Option<Decimal>)>,
}

/// What a request costs.
struct Price {
    unit: Currency,
    /// By budget of the manifest; nothing where nobody knows.
    parts: Vec<(Arc<str>, Option<Decimal>)>,
}

impl Default for Purse {
    fn default() -> Self {
        Self::new(&Spend::default())
    }
}

impl Purse {
    /// Makes an account under the project's own limit.
    #[must_use]
    pub fn new(spend: &Spend) -> Self {
        let zone = spend.timezone.as_deref().and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
        Self { day: spend.day, zone, tops: Mutex::default() }
    }

    /// Returns the date of a moment.
    #[must_use]
    pub fn day(&self, now: Timestamp) -> String {
        self.shown(now, "%Y-%m-%d")
    }

    fn shown(&self, moment: Timestamp, format: &str) -> String {
        moment.to_jiff().to_zoned_datetime(self.zone.clone()).strftime(format).to_string()
    }

    /// Counts a request that costs money; nothing where it does not, or where nothing is kept.
    ///
    /// # Errors
    /// A budget that it does not fit into.
    pub(super) async fn reserve(
        &self,
        sending: &Sending<'_>,
        amounts: &[(Arc<str>, Option<Decimal>)],
    ) -> Result<Option<Ticket>, Stop> {
        let (Some(declared), Some(store)) = (&sending.declared, sending.store) else { return Ok(None) };
        let Some(price) = price(declared, amounts)? else { return Ok(None) };
        let top = match sending.means.step {
            Some((run, _)) => Some(self.top(store, run).await.map_err(stored)?),
            None => None,
        };
        let none = Budget::default();
        let budget = top.as_ref().map_or(&none, |top| &top.budget);
        let now = sending.now();
        let pipeline = top.as_ref().map(|top| top.pipeline.clone()).unwrap_or_default();
        let what = declared.link.name_of(declared.operation);
        let own = |limit: Option<Money>, name: &str| match limit {
            Some(limit) if limit.currency != price.unit => {
                let message = format!(
                    "`{what}` was not sent: it costs {}, and {name} is in {}: nobody could say what is left of it",
                    price.unit, limit.currency
                );
                Err(Failure::new(OutcomeKind::Exhausted, message))
            }
            limit => Ok(limit.map(|limit| limit.amount)),
        };
        let limits = SpendingLimits {
            step: own(budget.step, &format!("the budget `step` of pipeline `{pipeline}`"))?,
            run: own(budget.run, &format!("the budget `run` of pipeline `{pipeline}`"))?,
            pipeline: own(budget.day, &format!("the budget `day` of pipeline `{pipeline}`"))?,
            project: own(self.day, "the project's `limits.spend.day`")?,
        };
        let step = top.as_ref().zip(sending.means.step);
        let connection = declared.link.connection();
        let new = Arc::new(NewSpending {
            id: sending.means.system.run_id().to_string(),
            at: now,
            day: self.day(now),
            step: step.map(|(top, (run, path))| SpendingStep {
                top: top.run,
                run,
                path: path.to_string(),
                begun: sending.means.begun,
            }),
            pipeline,
            connection: connection.name.to_string(),
            connector: declared.link.manifest.name.to_string(),
            operation: declared.operation.name.to_string(),
            unit: price.unit,
            reserved: price.total(),
        });
        match store.reserve_spending(&new, &limits).await.map_err(stored)? {
            Ok(reservation) => Ok(Some(Ticket { reservation, parts: price.parts })),
            Err(over) => {
                let message = format!("`{what}` was not sent: {}", self.refusal(&new, &over));
                Err(Failure::new(OutcomeKind::Exhausted, message).into())
            }
        }
    }

    /// Says which budget a request does not fit into.
    fn refusal(&self, new: &NewSpending, over: &Overspent) -> String {
        let name = match &over.scope {
            SpendingScope::Step(..) => format!("the budget `step` of pipeline `{}`", new.pipeline),
            SpendingScope::Run(_) => format!("the budget `run` of pipeline `{}`", new.pipeline),
            SpendingScope::Pipeline(name, _) => format!("the budget `day` of pipeline `{name}`"),
            SpendingScope::Project(_) => "the project's `limits.spend.day`".to_owned(),
        };
        let (unit, used, limit) = (new.unit, over.used.normalize(), over.limit.normalize());
        let asked =
            new.reserved.map_or_else(|| "an unknown amount".to_owned(), |it| format!("{} {unit}", it.normalize()));
        let mut text = format!("{name} does not allow it: {used} of {limit} {unit} are used, and it costs {asked}");
        let daily = matches!(over.scope, SpendingScope::Pipeline(..) | SpendingScope::Project(_));
        if let Window::Fixed(_, next) = Window::of_calendar(Calendar::Day, &self.zone, new.at)
            && daily
        {
            text.push_str(&format!("; a new day begins at {}", self.shown(next, "%Y-%m-%d %H:%M %:z")));
        }
        text
    }

    /// Says what a request has come to. What cannot be said counts as it was reserved.
    pub(super) async fn settle(&self, sending: &Sending<'_>, ticket: Option<&Ticket>, state: SpendingState) {
        let (Some(ticket), Some(store)) = (ticket, sending.store) else { return };
        let mut end = Settlement::bare(state);
        if let (SpendingState::Settled, Some(declared)) = (state, &sending.declared) {
            end.amount = ticket.spent(declared);
            if end.amount.is_none() {
                end.state = SpendingState::Unknown;
            }
            let body = declared.scope.locals.iter().rev().find(|(name, _)| *name == "body").map(|(_, body)| body);
            if let Some(body) = body {
                end.model = body.get("model").and_then(Value::as_str).map(str::to_owned);
                end.tokens_in = tokens(body, &["input", "input_tokens", "prompt_tokens", "promptTokenCount"]);
                end.tokens_out =
                    tokens(body, &["output", "output_tokens", "completion_tokens", "candidatesTokenCount"]);
            }
        }
        // The answer does not wait for its price to be written.
        if sending.means.step.is_some() {
            store.settle_spending_behind(&ticket.reservation, end, sending.now());
            return;
        }
        // Outside of runs nothing follows that would wait for it.
        if let Err(error) = store.settle_spending(&ticket.reservation, end, sending.now()).await {
            tracing::warn!(%error, "what a request has cost was not kept; it counts as it was reserved");
        }
    }

    /// Finds the run above all. One that is not kept, as that of a plan, has no budgets.
    async fn top(&self, store: &Store, run: RunId) -> Result<Arc<Top>, Error> {
        if let Some(top) = self.tops.lock().unwrap_or_else(PoisonError::into_inner).get(&run) {
            return Ok(top.clone());
        }
        let mut above = run;
        let top = loop {
            let Some(record) = store.run(above).await? else {
                return Ok(Arc::new(Top { run, pipeline: String::new(), budget: Budget::default() }));
            };
            if let Some((parent, _)) = record.parent {
                above = parent;
                continue;
            }
            let version = store.version(&record.version).await?;
            let budget = version.map(|version| Budget::of_definition(&version.definition)).unwrap_or_default();
            break Arc::new(Top { run: above, pipeline: record.pipeline.to_string(), budget });
        };
        let mut tops = self.tops.lock().unwrap_or_else(PoisonError::into_inner);
        if tops.len() >= MANY {
            tops.clear();
        }
        tops.insert(run, top.clone());
        Ok(top)
    }
}

impl Price {
    fn total(&self) -> Option<Decimal> {
        self.parts.iter().map(|(_, amount)| *amount).sum()
    }
}

impl Ticket {
    /// Returns what the answer says that it has cost; nothing where nobody knows.
    fn spent(&self, declared: &Declared<'_>) -> Option<Decimal> {
        let part = |(budget, reserved): &(Arc<str>, Option<Decimal>)| match declared
            .operation
            .spent
            .iter()
            .find(|(own, _)| own == budget)
        {
            Some((_, tree)) => decimal(&render::value(tree, declared.scope).ok()?),
            None => *reserved,
        };
        self.parts.iter().map(part).sum()
    }
}

/// Returns what a request costs of those budgets that are money; nothing where it names none.
fn price(declared: &Declared<'_>, amounts: &[(Arc<str>, Option<Decimal>)]) -> Result<Option<Price>, Failure> {
    let own = declared.operation.cost.iter().map(|(budget, _)| budget);
    let mut price: Option<Price> = None;
    for name in own.chain(declared.also.iter().map(|(budget, _)| budget)) {
        let unit = declared.budget(name).and_then(|budget| budget.unit.as_deref()?.parse::<Currency>().ok());
        let Some(unit) = unit else { continue };
        let price = price.get_or_insert_with(|| Price { unit, parts: Vec::new() });
        if price.unit != unit {
            let what = declared.link.name_of(declared.operation);
            return Err(Failure::invalid(format!("`{what}` costs {} and {unit} at once", price.unit)));
        }
        if price.parts.iter().all(|(own, _)| own != name) {
            let amount = amounts.iter().find(|(own, _)| own == name).and_then(|(_, amount)| *amount);
            price.parts.push((name.clone(), amount));
        }
    }
    Ok(price)
}

/// Reads how many tokens an answer names, under the first of some names.
fn tokens(body: &Value, names: &[&str]) -> Option<u64> {
    let billed = || body.get("meta")?.get("billed_units");
    let usage = body.get("usage").or_else(|| body.get("usageMetadata")).or_else(billed)?;
    names.iter().find_map(|name| decimal(usage.get(name)?)?.to_u64())
}

fn stored(error: impl std::fmt::Display) -> Stop {
    Failure::new(OutcomeKind::Unavailable, format!("the account of money in the store: {error}")).into()
}
