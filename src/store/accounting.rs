//! Who writes the account of money: what asks at one time is decided in turn and becomes durable in one transaction.
//!
//! ```text
//! reserve, settle ──> waiting ──(nobody writes)──> decide on totals ──> one transaction ──> answers
//!                        └── what nobody waits for stays a moment, for company ──┘
//! ```
//!
//! A reservation is waited for, what a request has come to is not: it goes with the next reservation, or soon by itself.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use rust_decimal::Decimal;
use tokio::sync::Notify;
use tokio::sync::oneshot;

use super::Batch;
use super::Error;
use super::Overspent;
use super::Reservation;
use super::Settlement;
use super::Shared;
use super::SpendingLimits;
use super::SpendingState;
use super::datasets::is_guard;
use super::db::args;
use super::generations::places;
use super::inbox::is_in_the_way;
use super::spending::INSERT;
use super::spending::SETTLE;
use super::spending::SETTLE_TAIL;
use super::spending::settled_as;
use crate::model::Currency;
use crate::model::Timestamp;

/// How long what nobody waits for stays for company.
const BEHIND: Duration = Duration::from_millis(20);
/// More does not go into one transaction: it bounds how long the first of them waits.
const MOST: usize = 500;
/// So many totals are remembered.
const REMEMBERED: usize = 4_096;
/// A total that was written so long ago is read again: keeping house may have removed it.
const FRESH: crate::model::Duration = crate::model::Duration::from_secs(60);

/// The writer of the account of money.
#[derive(Debug)]
pub(super) struct Accounting {
    shared: Arc<Shared>,
    state: Mutex<State>,
    /// Ends the wait for company.
    hurry: Notify,
    /// Totals as they were written last; only who writes uses it.
    known: Mutex<HashMap<Key, Total>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Entry>,
    /// Somebody waits for something of it.
    urgent: bool,
    at_work: Work,
    /// How many have ever been taken, and how many of them are written or have failed.
    pushed: u64,
    ended: u64,
    /// Who waits until so many have ended.
    flushed: Vec<(u64, oneshot::Sender<()>)>,
}

/// What the one task does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Work {
    #[default]
    Nothing,
    WaitsForCompany,
    Writes,
}

/// What is to be written.
#[derive(Debug)]
pub(super) enum Entry {
    Reserve { reservation: Reservation, limits: SpendingLimits, done: oneshot::Sender<Reserved> },
    Settle { reservation: Reservation, end: Settlement, at: Timestamp, done: Option<oneshot::Sender<Settled>> },
}

type Reserved = Result<Result<(), Overspent>, Error>;
type Settled = Result<bool, Error>;
type Key = (String, Currency);

/// What is spent of something, as it was last seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Total {
    amount: Decimal,
    /// 0 where there is none yet. Grows with every change, so that nobody changes what he has not seen.
    version: i64,
    changed_at: Option<Timestamp>,
}

/// What becomes of some entries, if the totals are as they are believed to be.
struct Decision {
    batch: Batch,
    totals: HashMap<Key, Total>,
    refusals: HashMap<usize, Overspent>,
}

impl Accounting {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, state: Mutex::default(), hurry: Notify::new(), known: Mutex::default() }
    }

    /// Takes an entry; it is written at once where somebody waits for it.
    pub(super) fn push(self: &Arc<Self>, entry: Entry) {
        let urgent = !matches!(entry, Entry::Settle { done: None, .. });
        let mut state = locked(&self.state);
        state.push(entry);
        state.urgent |= urgent;
        self.start(&mut state);
    }

    /// Returns when all that was taken so far is written, or has failed.
    pub(super) async fn flush(self: &Arc<Self>) {
        let flushed = {
            let mut state = locked(&self.state);
            if state.ended >= state.pushed {
                return;
            }
            let (done, flushed) = oneshot::channel();
            let target = state.pushed;
            state.flushed.push((target, done));
            state.urgent = true;
            self.start(&mut state);
            flushed
        };
        // The sender is gone only when the task is.
        let _ = flushed.await;
    }

    /// Tells whether nothing is being written, nor should be at once.
    pub(super) fn is_idle(&self) -> bool {
        let state = locked(&self.state);
        state.at_work != Work::Writes && !state.urgent
    }

    fn start(self: &Arc<Self>, state: &mut State) {
        match (state.at_work, state.urgent) {
            (Work::Nothing, urgent) => {
                state.at_work = if urgent { Work::Writes } else { Work::WaitsForCompany };
                tokio::spawn(AtWork(self.clone()).run());
            }
            (Work::WaitsForCompany, true) => {
                state.at_work = Work::Writes;
                self.hurry.notify_one();
            }
            (Work::WaitsForCompany, false) | (Work::Writes, _) => {}
        }
    }

    /// Takes what is to be written next: what is settled first, because it may make room. Nothing where there is no more
    /// that somebody waits for.
    fn take(&self) -> Option<Vec<Entry>> {
        let mut state = locked(&self.state);
        if state.waiting.is_empty() {
            state.urgent = false;
            state.at_work = Work::Nothing;
            return None;
        }
        if !state.urgent {
            state.at_work = Work::WaitsForCompany;
            return Some(Vec::new());
        }
        let most = state.waiting.len().min(MOST);
        let mut taken: Vec<Entry> = state.waiting.drain(..most).collect();
        let waited_for = |entry: &Entry| !matches!(entry, Entry::Settle { done: None, .. });
        state.urgent = !state.flushed.is_empty() || state.waiting.iter().any(waited_for);
        drop(state);
        taken.sort_by_key(|entry| matches!(entry, Entry::Reserve { .. }));
        Some(taken)
    }

    async fn write(&self, mut entries: Vec<Entry>) {
        let mut remembers = true;
        loop {
            let totals = match self.totals(&entries, remembers).await {
                Ok(totals) => totals,
                Err(error) => return fail(entries, &error),
            };
            let decision = decide(&entries, totals);
            // Another process may have made room since.
            if std::mem::take(&mut remembers) && !decision.refusals.is_empty() {
                locked(&self.known).clear();
                continue;
            }
            let Decision { batch, totals, mut refusals } = decision;
            let written = if batch.is_empty() { Ok(()) } else { self.shared.db.apply(batch).await };
            match written {
                Ok(()) => {
                    self.remember(totals);
                    for (index, entry) in entries.into_iter().enumerate() {
                        self.answer(entry, refusals.remove(&index));
                    }
                    return;
                }
                Err(error) if is_contended(&error) => {
                    locked(&self.known).clear();
                    entries = match self.without_ended(&mut entries).await {
                        Ok(left) => left,
                        Err(error) => return fail(entries, &error),
                    };
                    if entries.is_empty() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                Err(error) => return fail(entries, &self.shared.place.error(error)),
            }
        }
    }

    /// Returns all totals that some entries change or that limit them.
    async fn totals(&self, entries: &[Entry], remembers: bool) -> Result<HashMap<Key, Total>, Error> {
        let wanted: HashSet<Key> = entries.iter().flat_map(Entry::keys).collect();
        let now = entries.iter().map(Entry::at).max().unwrap_or_default();
        let mut totals = HashMap::with_capacity(wanted.len());
        if remembers {
            let known = locked(&self.known);
            for key in &wanted {
                let total = known.get(key).filter(|it| it.changed_at.is_some_and(|at| now.since(at) < FRESH));
                totals.extend(total.map(|total| (key.clone(), *total)));
            }
        }
        let missing: HashSet<&str> =
            wanted.iter().filter(|key| !totals.contains_key(*key)).map(|(scope, _)| scope.as_str()).collect();
        if !missing.is_empty() {
            let (places, args) = places(missing.into_iter());
            let sql = format!("SELECT scope, unit, amount, version FROM spending_totals WHERE scope IN ({places})");
            let rows = self.shared.db.fetch(sql, args).await.map_err(|error| self.shared.place.error(error))?;
            for row in &rows {
                let total = Total { amount: row.parsed(2)?, version: row.int(3)?, changed_at: None };
                totals.entry((row.text(0)?.to_owned(), row.parsed(1)?)).or_insert(total);
            }
        }
        Ok(totals)
    }

    fn remember(&self, totals: HashMap<Key, Total>) {
        let mut known = locked(&self.known);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.extend(totals.into_iter().filter(|(_, total)| total.changed_at.is_some()));
    }

    /// Answers an entry that is written.
    fn answer(&self, entry: Entry, refusal: Option<Overspent>) {
        match entry {
            Entry::Reserve { reservation, done, .. } => {
                let granted = refusal.is_none();
                let heard = done.send(Ok(refusal.map_or(Ok(()), Err))).is_ok();
                if granted && !heard {
                    // Whoever asked has been canceled meanwhile, so nothing is sent.
                    let at = reservation.new.at;
                    let end = Settlement::bare(SpendingState::Released);
                    locked(&self.state).push(Entry::Settle { reservation, end, at, done: None });
                }
            }
            Entry::Settle { done: Some(done), .. } => drop(done.send(Ok(true))),
            Entry::Settle { done: None, .. } => {}
        }
    }

    /// Answers those entries that can never be written, and returns the others.
    async fn without_ended(&self, entries: &mut Vec<Entry>) -> Result<Vec<Entry>, Error> {
        let (places, args) = places(entries.iter().map(|entry| entry.reservation().new.id.as_str()));
        let sql = format!("SELECT id, state FROM spending WHERE id IN ({places})");
        let rows = self.shared.db.fetch(sql, args).await.map_err(|error| self.shared.place.error(error))?;
        let mut states = HashMap::new();
        for row in &rows {
            states.insert(row.text(0)?.to_owned(), row.text(1)? == SpendingState::Reserved.name());
        }
        let mut left = Vec::with_capacity(entries.len());
        let mut told = HashSet::new();
        for entry in entries.drain(..) {
            let id = entry.reservation().new.id.clone();
            match (entry, states.get(&id)) {
                (Entry::Reserve { done, .. }, Some(_)) => {
                    let reason = "another request has its id".to_owned();
                    drop(done.send(Err(Error::Damaged { what: format!("spending `{id}`"), reason })));
                }
                (entry @ Entry::Reserve { .. }, None) => left.push(entry),
                // The first one says it, if it is told twice.
                (entry @ Entry::Settle { .. }, Some(true)) if told.insert(id) => left.push(entry),
                (Entry::Settle { done, .. }, _) => drop(done.map(|done| done.send(Ok(false)))),
            }
        }
        Ok(left)
    }
}

/// The task that writes. Whatever ends it, nobody waits for it afterwards.
struct AtWork(Arc<Accounting>);

impl AtWork {
    async fn run(self) {
        loop {
            if locked(&self.0.state).at_work == Work::WaitsForCompany {
                let _ = tokio::time::timeout(BEHIND, self.0.hurry.notified()).await;
                let mut state = locked(&self.0.state);
                state.at_work = Work::Writes;
                state.urgent = true;
            }
            match self.0.take() {
                None => return,
                Some(entries) if entries.is_empty() => {}
                Some(entries) => {
                    let count = entries.len();
                    self.0.write(entries).await;
                    locked(&self.0.state).ended(count);
                }
            }
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut state = locked(&self.0.state);
        // After an end in order there is nothing; after a panic, or without a runtime, whoever waits hears of it.
        if state.at_work != Work::Nothing {
            *state = State::default();
        }
    }
}

impl State {
    fn push(&mut self, entry: Entry) {
        self.waiting.push(entry);
        self.pushed += 1;
    }

    fn ended(&mut self, count: usize) {
        self.ended += u64::try_from(count).unwrap_or_default();
        let ended = self.ended;
        for (_, done) in self.flushed.extract_if(.., |(target, _)| *target <= ended) {
            let _ = done.send(());
        }
    }
}

impl Entry {
    fn reservation(&self) -> &Reservation {
        match self {
            Self::Reserve { reservation, .. } | Self::Settle { reservation, .. } => reservation,
        }
    }

    fn at(&self) -> Timestamp {
        match self {
            Self::Reserve { reservation, .. } => reservation.new.at,
            Self::Settle { at, .. } => *at,
        }
    }

    fn keys(&self) -> Vec<Key> {
        let reservation = self.reservation();
        reservation.scopes().map(|scope| (scope.to_string(), reservation.new.unit)).collect()
    }
}

/// Decides on entries one after the other.
fn decide(entries: &[Entry], totals: HashMap<Key, Total>) -> Decision {
    let mut decision = Decision { batch: Batch::default(), totals, refusals: HashMap::new() };
    let (mut inserts, mut ends) = (Vec::new(), Vec::new());
    let mut changed: HashSet<Key> = HashSet::new();
    let mut now = Timestamp::default();
    for (index, entry) in entries.iter().enumerate() {
        now = now.max(entry.at());
        let difference = match entry {
            Entry::Reserve { reservation, limits, .. } => {
                let amount = reservation.new.reserved;
                let unit = reservation.new.unit;
                let over = reservation.scopes().find_map(|scope| {
                    let limit = limits.of(&scope)?;
                    let used = decision.totals.get(&(scope.to_string(), unit)).map_or(Decimal::ZERO, |it| it.amount);
                    let fits = match amount {
                        Some(amount) => used.saturating_add(amount) <= limit,
                        None => used < limit,
                    };
                    (!fits).then_some(Overspent { scope, used, limit })
                });
                if let Some(over) = over {
                    decision.refusals.insert(index, over);
                    continue;
                }
                inserts.push(reservation.new.row());
                amount.unwrap_or_default()
            }
            Entry::Settle { reservation, end, .. } => {
                let (row, difference) = settled_as(&reservation.new, end);
                ends.push(row);
                difference
            }
        };
        if difference.is_zero() {
            continue;
        }
        for key in entry.keys() {
            let total = decision.totals.entry(key.clone()).or_default();
            total.amount = total.amount.saturating_add(difference);
            changed.insert(key);
        }
    }
    if !ends.is_empty() {
        decision.batch.push_rows(SETTLE, ends, SETTLE_TAIL);
    }
    if !inserts.is_empty() {
        decision.batch.push_rows(INSERT, inserts, "");
    }
    // In one order for all, so that nobody waits in a circle.
    let mut changed: Vec<Key> = changed.into_iter().collect();
    changed.sort_unstable();
    for key in changed {
        if let Some(total) = decision.totals.get_mut(&key) {
            put(&mut decision.batch, &key, *total, now);
            total.version += 1;
            total.changed_at = Some(now);
        }
    }
    decision
}

/// Writes a total; the transaction fails where it has changed since it was seen.
fn put(batch: &mut Batch, (scope, unit): &Key, total: Total, now: Timestamp) {
    const NEW: &str =
        "INSERT INTO spending_totals (scope, unit, amount, version, changed_at) VALUES ($1, $2, $3, 1, $4)";
    const NEXT: &str = "UPDATE spending_totals SET amount = $3, version = CASE WHEN version = $5 THEN version + 1 END, \
                        changed_at = $4 WHERE scope = $1 AND unit = $2";
    let amount = total.amount.normalize().to_string();
    let mut args = args![scope.as_str(), unit.as_str(), amount, now.micros()];
    let sql = match total.version {
        0 => NEW,
        seen => {
            args.push(seen.into());
            NEXT
        }
    };
    batch.push(sql, args);
}

/// Tells whether another process was faster.
fn is_contended(error: &sqlx::Error) -> bool {
    is_in_the_way(error) || error.as_database_error().is_some_and(|error| is_guard(&error.kind()))
}

fn fail(entries: Vec<Entry>, error: &Error) {
    for entry in entries {
        match entry {
            Entry::Reserve { done, .. } => drop(done.send(Err(error.clone()))),
            Entry::Settle { done: Some(done), .. } => drop(done.send(Err(error.clone()))),
            Entry::Settle { done: None, .. } => {
                tracing::warn!(%error, "what a request has cost was not kept; it counts as it was reserved");
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
