//! What paid requests cost: a row for each, and exact totals of all that can have a budget.
//!
//! ```text
//! reserved ──answer──> settled (above the reservation, too)
//!    │ ├── nothing was charged ──> released
//!    │ └── nobody knows ──> unknown: counts as it was reserved
//!    └── crash: stays, and counts as it was reserved
//! ```

use std::fmt;

use rust_decimal::Decimal;

use super::Batch;
use super::Error;
use super::Row;
use super::Store;
use super::datasets::is_guard;
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

struct Total {
    key: String,
    amount: Decimal,
    /// 0 where there is none yet.
    version: i64,
}

const COLUMNS: &str = "id, asked_at, day, top_run, run_id, path, pipeline, connection, connector, operation, unit, \
                       reserved, settled, state, model, tokens_in, tokens_out";

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
    /// Lists what it counts for. Whoever changes several totals does so in this order, so that nobody waits in a circle.
    fn scopes(&self) -> Vec<SpendingScope> {
        let mut scopes = Vec::with_capacity(4);
        if let Some(step) = &self.step {
            scopes.push(SpendingScope::Step(step.run, step.path.clone()));
            scopes.push(SpendingScope::Run(step.top));
        }
        if !self.pipeline.is_empty() {
            scopes.push(SpendingScope::Pipeline(self.pipeline.clone(), self.day.clone()));
        }
        scopes.push(SpendingScope::Project(self.day.clone()));
        scopes
    }
}

impl SpendingLimits {
    fn of(&self, scope: &SpendingScope) -> Option<Decimal> {
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
    /// Counts a request before it is sent, in all totals at once and with its row, or not at all. What comes back has not
    /// been counted. An unknown amount goes as long as something is left.
    ///
    /// # Errors
    /// The store's, here and below.
    pub async fn reserve_spending(
        &self,
        new: &NewSpending,
        limits: &SpendingLimits,
    ) -> Result<Result<(), Overspent>, Error> {
        const INSERT: &str = "INSERT INTO spending (id, asked_at, day, top_run, run_id, path, pipeline, connection, \
                              connector, operation, unit, reserved, state) \
                              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'reserved')";
        let scopes = new.scopes();
        loop {
            let totals = self.totals(&scopes, new.unit).await?;
            for (scope, total) in scopes.iter().zip(&totals) {
                let Some(limit) = limits.of(scope) else { continue };
                let fits = match new.reserved {
                    Some(amount) => total.amount.saturating_add(amount) <= limit,
                    None => total.amount < limit,
                };
                if !fits {
                    return Ok(Err(Overspent { scope: scope.clone(), used: total.amount, limit }));
                }
            }
            let step = new.step.as_ref();
            let mut batch = Batch::default();
            let args = args![
                new.id.as_str(),
                new.at.micros(),
                new.day.as_str(),
                step.map(|step| step.top.to_string()),
                step.map(|step| step.run.to_string()),
                step.map(|step| step.path.clone()),
                new.pipeline.as_str(),
                new.connection.as_str(),
                new.connector.as_str(),
                new.operation.as_str(),
                new.unit.as_str(),
                new.reserved.map(text),
            ];
            batch.push(INSERT, args);
            add(&mut batch, &totals, new.unit, new.reserved.unwrap_or_default(), new.at);
            if self.guarded_apply(batch).await? {
                return Ok(Ok(()));
            }
            if !self.fetch("SELECT 1 FROM spending WHERE id = $1", args![new.id.as_str()]).await?.is_empty() {
                let reason = "another request has its id".to_owned();
                return Err(Error::Damaged { what: format!("spending `{}`", new.id), reason });
            }
            tokio::task::yield_now().await;
        }
    }

    /// Says what a request has come to, and corrects the totals. False where that was said before.
    pub async fn settle_spending(&self, id: &str, end: &Settlement, now: Timestamp) -> Result<bool, Error> {
        const SETTLE: &str = "UPDATE spending SET state = CASE WHEN state = 'reserved' THEN $2 END, settled = $3, \
                              model = $4, tokens_in = $5, tokens_out = $6 WHERE id = $1";
        let one = format!("SELECT {COLUMNS} FROM spending WHERE id = $1");
        loop {
            let rows = self.fetch(one.as_str(), args![id]).await?;
            let Some(record) = rows.first().map(record).transpose()? else { return Ok(false) };
            if record.state != SpendingState::Reserved {
                return Ok(false);
            }
            let before = record.new.reserved.unwrap_or_default();
            let settled = end.amount.or(record.new.reserved).filter(|_| end.state == SpendingState::Settled);
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
            let mut batch = Batch::default();
            let args = args![
                id,
                state.name(),
                settled.map(text),
                end.model.clone(),
                number(end.tokens_in),
                number(end.tokens_out),
            ];
            batch.push(SETTLE, args);
            if after != before {
                let totals = self.totals(&record.new.scopes(), record.new.unit).await?;
                add(&mut batch, &totals, record.new.unit, after - before, now);
            }
            if self.guarded_apply(batch).await? {
                return Ok(true);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Returns what is spent of something that can have a budget.
    pub async fn spent(&self, scope: &SpendingScope, unit: Currency) -> Result<Decimal, Error> {
        let totals = self.totals(std::slice::from_ref(scope), unit).await?;
        Ok(totals.first().map(|total| total.amount).unwrap_or_default())
    }

    /// Lists a page of paid requests.
    pub async fn spending(&self, filter: &SpendingFilter) -> Result<Vec<SpendingRecord>, Error> {
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

    /// Returns the totals of some scopes, in their order.
    async fn totals(&self, scopes: &[SpendingScope], unit: Currency) -> Result<Vec<Total>, Error> {
        let places: Vec<String> = (0..scopes.len()).map(|index| format!("${}", index + 2)).collect();
        let sql = format!(
            "SELECT scope, amount, version FROM spending_totals WHERE unit = $1 AND scope IN ({})",
            places.join(", ")
        );
        let keys: Vec<String> = scopes.iter().map(ToString::to_string).collect();
        let mut args = args![unit.as_str()];
        args.extend(keys.iter().map(|key| key.as_str().into()));
        let rows = self.fetch(sql, args).await?;
        let mut totals: Vec<Total> =
            keys.into_iter().map(|key| Total { key, amount: Decimal::ZERO, version: 0 }).collect();
        for row in &rows {
            let key = row.text(0)?;
            for total in totals.iter_mut().filter(|total| total.key == key) {
                (total.amount, total.version) = (row.parsed(1)?, row.int(2)?);
            }
        }
        Ok(totals)
    }

    /// Executes a transaction. False where somebody else was faster.
    async fn guarded_apply(&self, batch: Batch) -> Result<bool, Error> {
        match self.apply(batch).await? {
            Ok(()) => Ok(true),
            Err(error) if error.as_database_error().is_some_and(|error| is_guard(&error.kind())) => Ok(false),
            Err(error) => Err(self.place().error(error)),
        }
    }
}

/// Adds to totals as they were read; the transaction fails where one has changed since.
fn add(batch: &mut Batch, totals: &[Total], unit: Currency, amount: Decimal, now: Timestamp) {
    const NEW: &str =
        "INSERT INTO spending_totals (scope, unit, amount, version, changed_at) VALUES ($1, $2, $3, 1, $4)";
    const NEXT: &str = "UPDATE spending_totals SET amount = $3, version = CASE WHEN version = $5 THEN version + 1 END, \
                        changed_at = $4 WHERE scope = $1 AND unit = $2";
    if amount.is_zero() {
        return;
    }
    for total in totals {
        let mut args =
            args![total.key.as_str(), unit.as_str(), text(total.amount.saturating_add(amount)), now.micros()];
        let sql = match total.version {
            0 => NEW,
            seen => {
                args.push(seen.into());
                NEXT
            }
        };
        batch.push(sql, args);
    }
}

fn text(amount: Decimal) -> String {
    amount.normalize().to_string()
}

fn record(row: &Row) -> Result<SpendingRecord, Error> {
    let owned = |column: usize| row.text(column).map(str::to_owned);
    let amount = |column: usize| match row.optional_text(column)? {
        Some(_) => row.parsed(column).map(Some),
        None => Ok::<Option<Decimal>, Error>(None),
    };
    let tokens = |column: usize| Ok::<_, Error>(row.optional_int(column)?.and_then(|it| u64::try_from(it).ok()));
    let step = match row.optional_text(3)? {
        Some(_) => Some(SpendingStep { top: row.parsed(3)?, run: row.parsed(4)?, path: owned(5)? }),
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
