//! What paid requests cost: a row for each, and exact totals of all that can have a budget.
//!
//! ```text
//! reserved ──answer──> settled (above the reservation, too)
//!    │ ├── nothing was charged ──> released
//!    │ └── nobody knows ──> unknown: counts as it was reserved
//!    └── crash: stays, and counts as it was reserved
//! ```

use std::fmt;
use std::sync::Arc;

use rust_decimal::Decimal;
use tokio::sync::oneshot;

use super::Arg;
use super::Error;
use super::Row;
use super::Store;
use super::accounting::Entry;
use super::db::args;
use crate::model::Currency;
use crate::model::RunId;
use crate::model::Timestamp;

/// Something that can have a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpendingScope {
    /// One step run, in all its attempts.
    Step(RunId, String),
    /// A run with all that runs below it.
    Run(RunId),
    /// All runs of a pipeline on a day.
    Pipeline(String, String),
    /// Everything on a day.
    Project(String),
}

/// A paid request that is about to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSpending {
    pub id: String,
    pub at: Timestamp,
    /// The date where the project counts its days, e.g. `2026-03-02`.
    pub day: String,
    /// The step that asks; nothing outside of runs.
    pub step: Option<SpendingStep>,
    /// That of the run above all; empty outside of runs.
    pub pipeline: String,
    pub connection: String,
    pub connector: String,
    pub operation: String,
    pub unit: Currency,
    /// Nothing where nobody knows before.
    pub reserved: Option<Decimal>,
}

/// The step run that spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendingStep {
    /// The run above all.
    pub top: RunId,
    pub run: RunId,
    pub path: String,
    /// The number of the journal's event with which the attempt began; nothing where nobody journals.
    pub begun: Option<u64>,
}

/// A request that was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub(super) new: Arc<NewSpending>,
    /// Whether its step and its run have limits.
    step: bool,
    run: bool,
}

/// How much may be spent, in the unit of the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpendingLimits {
    pub step: Option<Decimal>,
    pub run: Option<Decimal>,
    pub pipeline: Option<Decimal>,
    pub project: Option<Decimal>,
}

/// The budget that a request does not fit into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overspent {
    pub scope: SpendingScope,
    pub used: Decimal,
    pub limit: Decimal,
}

/// What became of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendingState {
    Reserved,
    Settled,
    Released,
    Unknown,
}

/// What is known of a request that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub state: SpendingState,
    /// What it has cost; nothing where it is what was reserved.
    pub amount: Option<Decimal>,
    pub model: Option<String>,
    pub tokens_in: Option<u64>,
    pub tokens_out: Option<u64>,
}

/// A paid request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendingRecord {
    pub new: NewSpending,
    pub model: Option<String>,
    pub tokens_in: Option<u64>,
    pub tokens_out: Option<u64>,
    pub settled: Option<Decimal>,
    pub state: SpendingState,
}

/// Which requests to list, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct SpendingFilter {
    pub since: Option<Timestamp>,
    pub pipeline: Option<String>,
    /// The last one of the page before.
    pub after: Option<(Timestamp, String)>,
    pub most: u32,
}

pub(super) const INSERT: &str = "INSERT INTO spending (id, asked_at, day, top_run, run_id, path, pipeline, connection, \
                                 connector, operation, unit, reserved, state, begun) VALUES ";
/// Fails where the end of one was told before.
pub(super) const SETTLE: &str = "WITH told (id, state, settled, model, tokens_in, tokens_out) AS (VALUES ";
pub(super) const SETTLE_TAIL: &str = ") UPDATE spending SET \
     state = CASE WHEN spending.state = 'reserved' THEN told.state END, settled = told.settled, model = told.model, \
     tokens_in = told.tokens_in, tokens_out = told.tokens_out FROM told WHERE spending.id = told.id";

pub(super) const COLUMNS: &str = "id, asked_at, day, top_run, run_id, path, pipeline, connection, connector, operation, \
                                  unit, reserved, settled, state, model, tokens_in, tokens_out, begun";

impl Settlement {
    /// Says that nothing was charged, or that nobody knows what was.
    #[must_use]
    pub fn bare(state: SpendingState) -> Self {
        Self { state, amount: None, model: None, tokens_in: None, tokens_out: None }
    }
}

impl SpendingState {
    const ALL: [Self; 4] = [Self::Reserved, Self::Settled, Self::Released, Self::Unknown];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Settled => "settled",
            Self::Released => "released",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for SpendingScope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(run, path) => write!(formatter, "step:{run}/{path}"),
            Self::Run(run) => write!(formatter, "run:{run}"),
            Self::Pipeline(name, day) => write!(formatter, "pipeline:{day}:{name}"),
            Self::Project(day) => write!(formatter, "project:{day}"),
        }
    }
}

impl NewSpending {
    /// Returns the row of `INSERT`.
    pub(super) fn row(&self) -> Vec<Arg> {
        let step = self.step.as_ref();
        args![
            self.id.as_str(),
            self.at.micros(),
            self.day.as_str(),
            step.map(|step| step.top.to_string()),
            step.map(|step| step.run.to_string()),
            step.map(|step| step.path.clone()),
            self.pipeline.as_str(),
            self.connection.as_str(),
            self.connector.as_str(),
            self.operation.as_str(),
            self.unit.as_str(),
            self.reserved.map(text),
            SpendingState::Reserved.name(),
            step.and_then(|step| i64::try_from(step.begun?).ok()),
        ]
    }
}

impl Reservation {
    /// Lists what it counts for. Steps and runs without a limit need no total: a run keeps the limits that it began with.
    pub(super) fn scopes(&self) -> impl Iterator<Item = SpendingScope> {
        let new = &self.new;
        let step = new.step.as_ref();
        let own = step.filter(|_| self.step).map(|step| SpendingScope::Step(step.run, step.path.clone()));
        let run = step.filter(|_| self.run).map(|step| SpendingScope::Run(step.top));
        let named = !new.pipeline.is_empty();
        let pipeline = named.then(|| SpendingScope::Pipeline(new.pipeline.clone(), new.day.clone()));
        let project = SpendingScope::Project(new.day.clone());
        [own, run, pipeline, Some(project)].into_iter().flatten()
    }
}

impl SpendingLimits {
    pub(super) fn of(&self, scope: &SpendingScope) -> Option<Decimal> {
        match scope {
            SpendingScope::Step(..) => self.step,
            SpendingScope::Run(_) => self.run,
            SpendingScope::Pipeline(..) => self.pipeline,
            SpendingScope::Project(_) => self.project,
        }
    }
}

impl SpendingRecord {
    /// Returns what it counts as; nothing where nobody knows.
    #[must_use]
    pub fn counted(&self) -> Option<Decimal> {
        match self.state {
            SpendingState::Settled => self.settled,
            SpendingState::Released => Some(Decimal::ZERO),
            SpendingState::Reserved | SpendingState::Unknown => self.new.reserved,
        }
    }
}

impl Store {
    /// Counts a request before it is sent, in all totals at once and with its row, or not at all. What comes back as too
    /// much has not been counted. An unknown amount goes as long as something is left.
    ///
    /// # Errors
    /// The store's, here and below.
    pub async fn reserve_spending(
        &self,
        new: &Arc<NewSpending>,
        limits: &SpendingLimits,
    ) -> Result<Result<Reservation, Overspent>, Error> {
        let (done, answer) = oneshot::channel();
        let (step, run) = (limits.step.is_some(), limits.run.is_some());
        let reservation = Reservation { new: new.clone(), step, run };
        let mut asking = Asking { store: self, reservation: &reservation, answer };
        self.0.accounting.push(Entry::Reserve { reservation: reservation.clone(), limits: *limits, done });
        let answer = (&mut asking.answer).await.map_err(|_| Error::Closed)??;
        drop(asking);
        Ok(answer.map(|()| reservation))
    }

    /// Says what a request has come to, and corrects the totals. False where that was said before.
    pub async fn settle_spending(
        &self,
        reservation: &Reservation,
        end: Settlement,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let (done, answer) = oneshot::channel();
        let reservation = reservation.clone();
        self.0.accounting.push(Entry::Settle { reservation, end, at: now, done: Some(done) });
        answer.await.map_err(|_| Error::Closed)?
    }

    /// As `settle_spending`, but returns at once: it is written within a moment, and before the next reservation. What
    /// cannot be written counts as it was reserved.
    pub fn settle_spending_behind(&self, reservation: &Reservation, end: Settlement, now: Timestamp) {
        let reservation = reservation.clone();
        self.0.accounting.push(Entry::Settle { reservation, end, at: now, done: None });
    }

    /// Returns when all is written that was said so far of what requests have come to.
    pub async fn spending_written(&self) {
        self.0.accounting.flush().await;
    }

    /// Returns what is spent of something that can have a budget.
    ///
    /// Of steps and runs it is kept only where their pipeline limits it.
    pub async fn spent(&self, scope: &SpendingScope, unit: Currency) -> Result<Decimal, Error> {
        const TOTAL: &str = "SELECT amount FROM spending_totals WHERE scope = $1 AND unit = $2";
        self.spending_written().await;
        let rows = self.fetch(TOTAL, args![scope.to_string(), unit.as_str()]).await?;
        rows.first().map_or(Ok(Decimal::ZERO), |row| row.parsed(0))
    }

    /// Lists a page of paid requests.
    pub async fn spending(&self, filter: &SpendingFilter) -> Result<Vec<SpendingRecord>, Error> {
        self.spending_written().await;
        let sql = format!(
            "SELECT {COLUMNS} FROM spending WHERE (asked_at, id) > ($1, $2) AND asked_at >= $3 \
             AND ($4 = '' OR pipeline = $4) ORDER BY asked_at, id LIMIT $5"
        );
        let (at, id) = filter.after.clone().map_or((i64::MIN, String::new()), |(at, id)| (at.micros(), id));
        let since = filter.since.map_or(i64::MIN, Timestamp::micros);
        let pipeline = filter.pipeline.as_deref().unwrap_or_default();
        let rows = self.fetch(sql, args![at, id, since, pipeline, i64::from(filter.most)]).await?;
        rows.iter().map(record).collect()
    }

    /// Removes what was spent before a moment, a bounded number of requests. Returns how many rows went.
    pub async fn remove_spending(&self, before: Timestamp, most: u32) -> Result<u64, Error> {
        const ROWS: &str = "DELETE FROM spending WHERE id IN \
                            (SELECT id FROM spending WHERE asked_at < $1 ORDER BY asked_at LIMIT $2)";
        const TOTALS: &str = "DELETE FROM spending_totals WHERE (scope, unit) IN (SELECT scope, unit FROM \
                              spending_totals WHERE changed_at < $1 ORDER BY changed_at LIMIT $2)";
        let mut removed = 0;
        for sql in [ROWS, TOTALS] {
            removed += self.execute(sql, args![before.micros(), i64::from(most)]).await?;
        }
        Ok(removed)
    }
}

/// A reservation that is waited for. Where nobody waits any more, nothing is sent: it is given back.
struct Asking<'a> {
    store: &'a Store,
    reservation: &'a Reservation,
    answer: oneshot::Receiver<Result<Result<(), Overspent>, Error>>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        // An answer that comes later is not heard, and who gives it gives the reservation back.
        self.answer.close();
        if let Ok(Ok(Ok(()))) = self.answer.try_recv() {
            let released = Settlement::bare(SpendingState::Released);
            self.store.settle_spending_behind(self.reservation, released, self.reservation.new.at);
        }
    }
}

/// Returns the row of `SETTLE` for the end of a request, and by how much the totals change.
pub(super) fn settled_as(new: &NewSpending, end: &Settlement) -> (Vec<Arg>, Decimal) {
    let before = new.reserved.unwrap_or_default();
    let settled = end.amount.or(new.reserved).filter(|_| end.state == SpendingState::Settled);
    // Settled without an amount: that it has cost something is all that is known.
    let state = match (end.state, settled) {
        (SpendingState::Settled, None) => SpendingState::Unknown,
        (state, _) => state,
    };
    let after = match state {
        SpendingState::Released => Decimal::ZERO,
        SpendingState::Settled => settled.unwrap_or_default(),
        SpendingState::Reserved | SpendingState::Unknown => before,
    };
    let number = |tokens: Option<u64>| tokens.and_then(|tokens| i64::try_from(tokens).ok());
    let row = args![
        new.id.as_str(),
        state.name(),
        settled.map(text),
        end.model.clone(),
        number(end.tokens_in),
        number(end.tokens_out),
    ];
    (row, after - before)
}

fn text(amount: Decimal) -> String {
    amount.normalize().to_string()
}

pub(super) fn record(row: &Row) -> Result<SpendingRecord, Error> {
    let owned = |column: usize| row.text(column).map(str::to_owned);
    let amount = |column: usize| match row.optional_text(column)? {
        Some(_) => row.parsed(column).map(Some),
        None => Ok::<Option<Decimal>, Error>(None),
    };
    let tokens = |column: usize| Ok::<_, Error>(row.optional_int(column)?.and_then(|it| u64::try_from(it).ok()));
    let step = match row.optional_text(3)? {
        Some(_) => {
            let begun = row.optional_int(17)?.and_then(|number| u64::try_from(number).ok());
            Some(SpendingStep { top: row.parsed(3)?, run: row.parsed(4)?, path: owned(5)?, begun })
        }
        None => None,
    };
    let id = owned(0)?;
    let state = row.text(13)?;
    let state = SpendingState::ALL
        .into_iter()
        .find(|known| known.name() == state)
        .ok_or_else(|| Error::Damaged { what: format!("spending `{id}`"), reason: format!("`{state}` is no state") })?;
    Ok(SpendingRecord {
        new: NewSpending {
            id,
            at: Timestamp(row.int(1)?),
            day: owned(2)?,
            step,
            pipeline: owned(6)?,
            connection: owned(7)?,
            connector: owned(8)?,
            operation: owned(9)?,
            unit: row.parsed(10)?,
            reserved: amount(11)?,
        },
        settled: amount(12)?,
        state,
        model: row.optional_text(14)?.map(str::to_owned),
        tokens_in: tokens(15)?,
        tokens_out: tokens(16)?,
    })
}
