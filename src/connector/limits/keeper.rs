//! Keeps all limits of a process: reserves before a request leaves, settles when its answer has come.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use jiff::tz::TimeZone;
use rust_decimal::Decimal;

use super::breaker::Breaker;
use super::gauge::Blocked;
use super::gauge::Gauge;
use super::gauge::Pause;
use super::gauge::UnderWay;
use super::purse::Purse;
use super::purse::Ticket;
use super::sending::Declared;
use super::sending::Sending;
use super::spec::Budget;
use super::spec::Calendar;
use super::spec::Learn;
use super::spec::Limits;
use super::spec::Per;
use super::window::Usage;
use super::window::Window;
use crate::connector::call::PATIENCE;
use crate::connector::call::Stop;
use crate::connector::call::is_patient;
use crate::connector::judge::Failure;
use crate::connector::judge::Verdict;
use crate::connector::manifest::Operation;
use crate::connector::manifest::OutcomeKind;
use crate::connector::render;
use crate::http::Origin;
use crate::http::TransportError;
use crate::model::Duration;
use crate::model::Timestamp;
use crate::model::Value;
use crate::store::SpendingState;
use crate::store::Store;
use crate::template::Scope;
use crate::template::Template;

/// A budget for at least so long is kept in the store; what is shorter is over before a process has started again.
const KEPT_FROM: Duration = Duration::from_secs(60);
/// A pause for at least so long is.
const PAUSE_KEPT_FROM: Duration = Duration::from_secs(5);
/// So often the store is asked whether another process has paused.
const READ_EVERY: Duration = Duration::from_secs(10);
/// What is used up without a word of when it is not, is asked again after this.
const UNKNOWN_RESET: Duration = Duration::from_secs(300);
const LONGEST_BACKOFF: u64 = 60;
/// From so many on, those of which nothing is known are forgotten: pipelines may ask any number of hosts.
const MANY: usize = 4_096;

/// The limits of a process.
#[derive(Debug, Default)]
pub struct Keeper {
    gauges: Mutex<HashMap<String, Arc<Gauge>>>,
    hosts: Mutex<HashMap<String, Breaker>>,
    purse: Purse,
}

/// What was reserved for a request.
#[derive(Debug)]
pub struct Permit {
    host: String,
    drawn: Vec<Drawn>,
    /// What was taken of what answers have said is left.
    taken: Vec<(Arc<Gauge>, Decimal)>,
    /// Those that a success lets run faster.
    gauges: Vec<Arc<Gauge>>,
    /// What was counted of money.
    paid: Option<Ticket>,
    _under_way: Vec<UnderWay>,
}

#[derive(Debug)]
struct Drawn {
    budget: Arc<str>,
    amount: Decimal,
    /// Where it was counted; nothing where there is no limit.
    counted: Option<Counted>,
}

#[derive(Debug)]
struct Counted {
    key: String,
    gauge: Arc<Gauge>,
    window: Window,
    is_kept: bool,
}

fn stored(error: impl std::fmt::Display) -> Stop {
    Failure::new(OutcomeKind::Unavailable, format!("the limits in the store: {error}")).into()
}

impl Keeper {
    /// Makes the limits of a process with an account of money.
    #[must_use]
    pub fn with_purse(purse: Purse) -> Self {
        Self { purse, ..Self::default() }
    }

    /// Returns the account of money.
    #[must_use]
    pub fn purse(&self) -> &Purse {
        &self.purse
    }

    fn gauge(&self, key: &str) -> Arc<Gauge> {
        let mut gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        if gauges.len() >= MANY && !gauges.contains_key(key) {
            gauges.retain(|_, gauge| Arc::strong_count(gauge) > 1 || !gauge.is_idle());
        }
        match gauges.get(key) {
            Some(gauge) => gauge.clone(),
            None => gauges.entry(key.to_owned()).or_default().clone(),
        }
    }

    fn host<T>(&self, host: &str, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MANY && !hosts.contains_key(host) {
            hosts.retain(|_, breaker| *breaker != Breaker::default());
        }
        match hosts.get_mut(host) {
            Some(breaker) => act(breaker),
            None => act(hosts.entry(host.to_owned()).or_default()),
        }
    }

    /// Waits until all limits let a request go, and counts it.
    ///
    /// # Errors
    /// `Later` where the wait is too long to be waited for here; a failure where it can never go, or where its host has
    /// stopped answering.
    pub async fn reserve(&self, sending: &Sending<'_>) -> Result<Permit, Stop> {
        let clock = &sending.means.system.clock;
        let host =
            Origin::of(sending.url).map_or_else(String::new, |origin| format!("{}:{}", origin.host, origin.port));
        let amounts = amounts(sending)?;
        let began = clock.now();
        loop {
            if let Err(until) = self.host(&host, |breaker| breaker.ask(clock.now())) {
                let message = format!("`{host}` has failed several times in a row and is left alone for a while");
                let wait = until.since(clock.now());
                return Err(
                    Failure { retry_after: Some(wait), ..Failure::new(OutcomeKind::Unavailable, message) }.into()
                );
            }
            let blocked = match self.all(sending, &host, &amounts).await {
                Ok(permit) => return Ok(permit),
                Err(blocked) => blocked,
            };
            self.host(&host, Breaker::given_up);
            match blocked? {
                Blocked::Until(until, reason) if is_patient(sending.means, until) => {
                    tracing::debug!(reason, "a limit is waited for");
                    wait(sending, clock.sleep_until(until)).await?;
                }
                Blocked::Until(until, reason) => return Err(Stop::Later { until, reason }),
                Blocked::Busy(gauge, reason) => {
                    let now = clock.now();
                    if now.since(began) >= PATIENCE {
                        return Err(Stop::Later { until: now.plus(Duration::from_secs(1)), reason });
                    }
                    let freed = async {
                        tokio::select! {
                            () = gauge.freed() => {}
                            () = clock.sleep_until(now.plus(Duration::from_secs(1))) => {}
                        }
                    };
                    wait(sending, freed).await?;
                }
            }
        }
    }

    /// Counts what a request costs that all limits let go, just before it is sent: from here on it is spent, whatever
    /// becomes of this process.
    ///
    /// # Errors
    /// A budget that it does not fit into; what the limits have counted is given back.
    pub async fn pay(&self, sending: &Sending<'_>, mut permit: Permit) -> Result<Permit, Stop> {
        let paid = match amounts(sending) {
            Ok(amounts) => self.purse.reserve(sending, &amounts).await,
            Err(stop) => Err(stop),
        };
        match paid {
            Ok(paid) => {
                permit.paid = paid;
                Ok(permit)
            }
            Err(stop) => {
                self.not_sent(sending, permit).await;
                Err(stop)
            }
        }
    }

    /// Reserves with every limit, or with none.
    async fn all(
        &self,
        sending: &Sending<'_>,
        host: &str,
        amounts: &[Amount],
    ) -> Result<Permit, Result<Blocked, Stop>> {
        let mut permit = Permit {
            host: host.to_owned(),
            drawn: Vec::new(),
            taken: Vec::new(),
            gauges: Vec::new(),
            paid: None,
            _under_way: Vec::new(),
        };
        let all = self.each(sending, host, amounts, &mut permit).await;
        match all {
            Ok(()) => Ok(permit),
            Err(blocked) => {
                give_back(sending, &permit).await;
                Err(blocked)
            }
        }
    }

    async fn each(
        &self,
        sending: &Sending<'_>,
        host: &str,
        amounts: &[Amount],
        permit: &mut Permit,
    ) -> Result<(), Result<Blocked, Stop>> {
        let now = sending.now();
        for (key, name) in &sending.gauges(host) {
            let gauge = self.gauge(key);
            self.read_pause(sending, key, &gauge).await.map_err(Err)?;
            gauge.check(name, Decimal::ONE, now).map_err(Ok)?;
            permit.taken.push((gauge.clone(), Decimal::ONE));
            permit._under_way.extend(gauge.enter(name, None).map_err(Ok)?);
            permit.gauges.push(gauge);
        }
        let Some(declared) = &sending.declared else { return Ok(()) };
        for budget in &declared.link.manifest.limits.budgets {
            let amount = match amounts.iter().find(|(name, _)| *name == budget.name) {
                // What is not known is counted when the answer tells it.
                Some((_, amount)) => amount.unwrap_or_default(),
                None if budget.is_named => continue,
                None => Decimal::ONE,
            };
            let counted = self.draw(sending, (declared, budget, amount), host, permit).await?;
            permit.drawn.push(Drawn { budget: budget.name.clone(), amount, counted });
        }
        Ok(())
    }

    async fn draw(
        &self,
        sending: &Sending<'_>,
        (declared, budget, amount): (&Declared<'_>, &Budget, Decimal),
        host: &str,
        permit: &mut Permit,
    ) -> Result<Option<Counted>, Result<Blocked, Stop>> {
        let now = sending.now();
        let key = declared.key(budget, host);
        let gauge = self.gauge(&key);
        let unit = budget.unit.as_deref().map(|unit| format!(" {unit}")).unwrap_or_default();
        let mut name = format!("the limit `{}` of `{}`", budget.name, declared.link.manifest.name);
        self.read_pause(sending, &key, &gauge).await.map_err(Err)?;
        gauge.check(&name, amount, now).map_err(Ok)?;
        permit.taken.push((gauge.clone(), amount));
        let number = |tree: &Option<crate::template::TemplateTree>| -> Result<Option<Decimal>, Result<Blocked, Stop>> {
            let Some(tree) = tree else { return Ok(None) };
            let value = render::value(tree, declared.scope).map_err(|error| Err(Failure::from(error).into()))?;
            Ok(decimal(&value))
        };
        let most = number(&budget.in_flight)?.map(|most| u32::try_from(most.trunc()).unwrap_or(u32::MAX).max(1));
        permit._under_way.extend(gauge.enter(&name, most).map_err(Ok)?);
        permit.gauges.push(gauge.clone());
        let (Some(limit), Some(per)) = (number(&budget.limit)?, &budget.per) else { return Ok(None) };
        let (window, is_kept, shown) = match per {
            Per::Rolling(length) => (Window::Rolling(*length), *length >= KEPT_FROM, length.to_string()),
            Per::Calendar(calendar, zone) => {
                let zone = self::zone(zone.as_ref(), declared.scope).map_err(Err)?;
                let window = Window::of_calendar(*calendar, &zone, now);
                (window, true, format!("a {}", Calendar::word(*calendar)))
            }
        };
        name = format!("{name} ({limit}{unit} in {shown}) is used up");
        let counted = Counted { key, gauge, window, is_kept };
        match sending.store.filter(|_| is_kept) {
            Some(store) => kept(store, &counted, |usage, window| fit(usage, window, limit, amount, now, &name)).await,
            None => fit(&mut counted.gauge.lock().usage, &counted.window, limit, amount, now, &name),
        }?;
        Ok(Some(counted))
    }

    /// Takes over a pause that was kept, by another process or before a restart.
    async fn read_pause(&self, sending: &Sending<'_>, key: &str, gauge: &Gauge) -> Result<(), Stop> {
        let Some(store) = sending.store else { return Ok(()) };
        let at = sending.means.system.clock.monotonic();
        {
            let mut state = gauge.lock();
            let recent = |read: Duration| at.micros().saturating_sub(read.micros()) < READ_EVERY.micros();
            if state.read_at.is_some_and(recent) {
                return Ok(());
            }
            state.read_at = Some(at);
        }
        let row = store.budget(&format!("pause:{key}")).await.map_err(stored)?;
        if let Some(pause) = row.and_then(|row| pause_of(&row.state)).filter(|pause| sending.now() < pause.until) {
            gauge.pause(pause.until, &pause.reason);
        }
        Ok(())
    }

    async fn pause(&self, sending: &Sending<'_>, key: &str, until: Timestamp, reason: &str) {
        self.gauge(key).pause(until, reason);
        let Some(store) = sending.store.filter(|_| until.since(sending.now()) >= PAUSE_KEPT_FROM) else { return };
        let name = format!("pause:{key}");
        let state = format!("{}\n{reason}", until.micros());
        // Whoever is faster has been told of the same limit.
        let written = match store.budget(&name).await {
            Ok(row) => store.put_budget(&name, row.map_or(0, |row| row.version), &state).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "a pause was not kept");
        }
    }

    /// Notes that no answer came.
    pub async fn no_answer(&self, sending: &Sending<'_>, permit: Permit, error: &TransportError) {
        let now = sending.now();
        match error {
            TransportError::TooLarge { .. } => self.host(&permit.host, Breaker::answered),
            TransportError::NotAllowed { .. } => self.host(&permit.host, Breaker::given_up),
            _ => self.host(&permit.host, |breaker| breaker.failed(now)),
        }
        let mut paid = SpendingState::Unknown;
        if error.nothing_was_sent() {
            give_back(sending, &permit).await;
            paid = SpendingState::Released;
        }
        self.purse.settle(sending, permit.paid.as_ref(), paid).await;
    }

    /// Notes that what was let go was not sent after all.
    pub async fn not_sent(&self, sending: &Sending<'_>, permit: Permit) {
        self.host(&permit.host, Breaker::given_up);
        give_back(sending, &permit).await;
        self.purse.settle(sending, permit.paid.as_ref(), SpendingState::Released).await;
    }

    /// Notes what an answer teaches of the limits and what it cost. `until` is when the system lets us come again.
    pub async fn answered(
        &self,
        sending: &Sending<'_>,
        permit: Permit,
        status: u16,
        verdict: &Verdict<'_>,
        until: Option<Timestamp>,
    ) {
        let now = sending.now();
        let down = verdict.outcome == OutcomeKind::Unavailable && status >= 500;
        self.host(&permit.host, |breaker| if down { breaker.failed(now) } else { breaker.answered() });
        if let Some(declared) = &sending.declared {
            self.settle(sending, declared, &permit).await;
        }
        // Nobody charges for what he refuses; one that broke down on the way may have.
        let paid = match (verdict.outcome, status) {
            (OutcomeKind::Done | OutcomeKind::Duplicate, _) => SpendingState::Settled,
            (_, 400..500) => SpendingState::Released,
            (_, 500..) => SpendingState::Unknown,
            _ => SpendingState::Settled,
        };
        self.purse.settle(sending, permit.paid.as_ref(), paid).await;
        if verdict.outcome != OutcomeKind::Throttled {
            permit.gauges.iter().for_each(|gauge| gauge.went_well());
            return;
        }
        let key = sending.refused(verdict, &permit.host);
        let strikes = {
            let gauge = self.gauge(&key);
            let mut state = gauge.lock();
            // Those that were under way together count as one.
            if state.paused.is_none() {
                state.strikes = state.strikes.saturating_add(1);
            }
            state.strikes
        };
        let until = until.filter(|until| *until > now).unwrap_or_else(|| {
            let seconds = 1_u64.checked_shl(strikes.saturating_sub(1)).unwrap_or(LONGEST_BACKOFF).min(LONGEST_BACKOFF);
            now.plus(Duration::from_secs(seconds))
        });
        self.pause(sending, &key, until, &format!("the system answered {status}")).await;
    }

    /// Takes over what an answer says of the limits and of what the request has cost.
    async fn settle(&self, sending: &Sending<'_>, declared: &Declared<'_>, permit: &Permit) {
        for learn in &declared.link.manifest.limits.learn {
            self.learn(sending, declared, learn, &permit.host).await;
        }
        for (budget, tree) in &declared.operation.spent {
            let Some(drawn) = permit.drawn.iter().find(|drawn| drawn.budget == *budget) else { continue };
            // An answer without it has cost what was reserved.
            let spent = render::value(tree, declared.scope).ok().and_then(|value| decimal(&value));
            if let Some(difference) = spent.map(|spent| spent - drawn.amount).filter(|it| !it.is_zero()) {
                correct(sending, drawn, difference).await;
            }
        }
    }

    async fn learn(&self, sending: &Sending<'_>, declared: &Declared<'_>, learn: &Learn, host: &str) {
        let now = sending.now();
        let number = |template: &Option<Template>| {
            let value = template.as_ref()?.eval(declared.scope).ok()?;
            decimal(&value)
        };
        let remaining = number(&learn.remaining).or_else(|| Some(number(&learn.limit)? - number(&learn.used)?));
        let Some(remaining) = remaining else { return };
        let reset = learn.reset.as_ref().and_then(|reset| moment(&reset.eval(declared.scope).ok()?, now));
        let key = match learn.budget.as_deref().map(|name| declared.budget(name)) {
            None => format!("o:{}:{}", declared.link.connection().name, declared.operation.name),
            Some(Some(budget)) => declared.key(budget, host),
            // Each that is learned is a budget: see `spec::read`.
            Some(None) => return,
        };
        let reset = reset.unwrap_or_else(|| now.plus(UNKNOWN_RESET));
        self.gauge(&key).learn(remaining, reset);
        if remaining <= Decimal::ZERO && reset > now {
            self.pause(sending, &key, reset, "it is used up, as the system says").await;
        }
    }
}

/// Waits, unless the run is canceled meanwhile.
async fn wait(sending: &Sending<'_>, until: impl Future<Output = ()>) -> Result<(), Stop> {
    tokio::select! {
        () = until => Ok(()),
        () = sending.means.canceled.cancelled() => {
            Err(Failure::new(OutcomeKind::Unavailable, "it was canceled while it waited for a limit").into())
        }
    }
}

/// Evaluates what a request costs, with what an operation that uses it does.
fn amounts(sending: &Sending<'_>) -> Result<Vec<Amount>, Stop> {
    let Some(declared) = &sending.declared else { return Ok(Vec::new()) };
    let mut amounts = costs(&declared.link.manifest.limits, declared.operation, declared.scope)?;
    for (budget, amount) in declared.also {
        match amounts.iter_mut().find(|(own, _)| own == budget) {
            Some((_, own)) => *own = own.zip(*amount).map(|(left, right)| left + right),
            None => amounts.push((budget.clone(), *amount)),
        }
    }
    Ok(amounts)
}

/// What is drawn on a budget; nothing where that is not known, which is not zero.
pub type Amount = (Arc<str>, Option<Decimal>);

/// Evaluates what an operation says that it costs. A null says that it does not draw on a budget of requests, and that
/// nobody knows how much on one of money.
///
/// # Errors
/// An expression without a value, or what is no amount.
pub fn costs(limits: &Limits, operation: &Operation, scope: &Scope) -> Result<Vec<Amount>, Failure> {
    let mut costs = Vec::with_capacity(operation.cost.len());
    for (budget, tree) in &operation.cost {
        let value = render::value(tree, scope)?;
        if value.is_null() {
            if limits.has_unit(budget) {
                costs.push((budget.clone(), None));
            }
            continue;
        }
        let amount = decimal(&value).filter(|amount| *amount >= Decimal::ZERO);
        let amount = amount.ok_or_else(|| Failure::invalid(format!("`cost.{budget}` gives no amount")))?;
        costs.push((budget.clone(), Some(amount)));
    }
    Ok(costs)
}

pub(super) fn decimal(value: &Value) -> Option<Decimal> {
    match value.revealed() {
        Value::Null => None,
        other => other.to_text().trim().parse().ok(),
    }
}

fn moment(value: &Value, now: Timestamp) -> Option<Timestamp> {
    match value.revealed() {
        Value::Time(moment) => Some(moment),
        Value::Duration(length) => Some(now.plus(length)),
        Value::String(text) => text.parse().ok().or_else(|| Some(now.plus(text.parse().ok()?))),
        _ => None,
    }
}

fn zone(template: Option<&Template>, scope: &Scope) -> Result<TimeZone, Stop> {
    let Some(template) = template else { return Ok(TimeZone::UTC) };
    let name = template.eval(scope).map_err(Failure::from)?.revealed().to_text();
    if name.is_empty() {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(&name).map_err(|_| Failure::invalid(format!("there is no time zone `{name}`")).into())
}

/// Counts an amount where it fits.
fn fit(
    usage: &mut Usage,
    window: &Window,
    limit: Decimal,
    amount: Decimal,
    now: Timestamp,
    used_up: &str,
) -> Result<(), Result<Blocked, Stop>> {
    match usage.free_at(window, limit, amount, now) {
        Some(free) if free <= now => {
            usage.add(window, amount, now);
            Ok(())
        }
        Some(free) => Err(Ok(Blocked::Until(free, used_up.to_owned()))),
        None => {
            let message = format!("one request needs {amount} and can never go: {used_up}");
            Err(Err(Failure::invalid(message).into()))
        }
    }
}

/// Changes a usage in the store; whoever else does so at the same time is not overwritten.
async fn kept(
    store: &Store,
    counted: &Counted,
    change: impl Fn(&mut Usage, &Window) -> Result<(), Result<Blocked, Stop>>,
) -> Result<(), Result<Blocked, Stop>> {
    // In this process one after the other: only others are met in the store.
    let _turn = counted.gauge.turn.lock().await;
    loop {
        let row = store.budget(&counted.key).await.map_err(|error| Err(stored(error)))?;
        let mut usage = row.as_ref().map(|row| Usage::of_text(&row.state)).unwrap_or_default();
        change(&mut usage, &counted.window)?;
        let version = row.map_or(0, |row| row.version);
        if store.put_budget(&counted.key, version, &usage.to_text()).await.map_err(|error| Err(stored(error)))? {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

/// Takes back what was counted for a request that was not sent.
async fn give_back(sending: &Sending<'_>, permit: &Permit) {
    for drawn in &permit.drawn {
        correct(sending, drawn, -drawn.amount).await;
    }
    permit.taken.iter().for_each(|(gauge, amount)| gauge.give_back(*amount));
}

/// Corrects what was counted for a request by a difference.
async fn correct(sending: &Sending<'_>, drawn: &Drawn, difference: Decimal) {
    let Some(counted) = &drawn.counted else { return };
    let Some(store) = sending.store.filter(|_| counted.is_kept) else {
        counted.gauge.lock().usage.correct(difference);
        return;
    };
    let changed = kept(store, counted, |usage, _| {
        usage.correct(difference);
        Ok(())
    });
    // Too much was counted then, which only makes us wait.
    if changed.await.is_err() {
        tracing::warn!(budget = &*drawn.budget, "what a request cost was not kept");
    }
}

fn pause_of(state: &str) -> Option<Pause> {
    let (until, reason) = state.split_once('\n')?;
    Some(Pause { until: Timestamp(until.parse().ok()?), reason: reason.into() })
}
