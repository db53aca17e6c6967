//! What is known of one limit in this process: used, learned, paused, under way.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use rust_decimal::Decimal;
use tokio::sync::Notify;

use super::window::Usage;
use crate::model::Duration;
use crate::model::Timestamp;

/// After a pause so many requests may be under way at once, and twice as many after each success, up to this number;
/// then there is no bound any more.
const SLOW_UNTIL: u32 = 64;

/// One limit.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    state: Mutex<State>,
    /// Told when a request has ended.
    freed: Notify,
    /// Held while its row in the store is changed.
    pub(super) turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) usage: Usage,
    pub(super) learned: Option<Learned>,
    pub(super) paused: Option<Pause>,
    /// How many may be under way after a pause.
    pub(super) slow: Option<u32>,
    /// How often it was throttled without a success between.
    pub(super) strikes: u32,
    /// When the store was last asked for a pause, on the clock that only grows.
    pub(super) read_at: Option<Duration>,
    under_way: u32,
}

/// What an answer has said of a limit.
#[derive(Clone, Debug)]
pub(super) struct Learned {
    pub(super) remaining: Decimal,
    pub(super) reset: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pause {
    pub(super) until: Timestamp,
    pub(super) reason: Arc<str>,
}

/// Why a request may not go now.
#[derive(Debug)]
pub(super) enum Blocked {
    /// Not before this moment.
    Until(Timestamp, String),
    /// Not before another one has ended.
    Busy(Arc<Gauge>, String),
}

/// Counts a request that is under way, until it is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Gauge>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.lock().under_way -= 1;
        self.0.freed.notify_one();
    }
}

impl Gauge {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether nothing is known of it that a new one would not know.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        let quiet = state.learned.is_none() && state.paused.is_none() && state.slow.is_none() && state.strikes == 0;
        quiet && state.under_way == 0 && state.usage == Usage::default()
    }

    /// Returns when a request has ended.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Sees that it is neither paused nor known to be used up; `name` is for messages.
    pub(super) fn check(&self, name: &str, amount: Decimal, now: Timestamp) -> Result<(), Blocked> {
        let mut state = self.lock();
        if let Some(pause) = &state.paused {
            if now < pause.until {
                return Err(Blocked::Until(pause.until, format!("{name} is paused: {}", pause.reason)));
            }
            state.paused = None;
            // All that have waited must not come at once.
            state.slow = Some(1);
        }
        if let Some(learned) = &mut state.learned {
            if now >= learned.reset {
                state.learned = None;
            } else if learned.remaining < amount {
                return Err(Blocked::Until(learned.reset, format!("{name} is used up")));
            } else {
                learned.remaining -= amount;
            }
        }
        Ok(())
    }

    /// Gives back what `check` has taken: another limit did not let the request go.
    pub(super) fn give_back(&self, amount: Decimal) {
        if let Some(learned) = &mut self.lock().learned {
            learned.remaining += amount;
        }
    }

    /// Counts a request as under way, unless as many are as may be.
    pub(super) fn enter(self: &Arc<Self>, name: &str, most: Option<u32>) -> Result<Option<UnderWay>, Blocked> {
        let mut state = self.lock();
        let most = match (most, state.slow) {
            (Some(most), Some(slow)) => most.min(slow),
            (Some(most), None) => most,
            (None, Some(slow)) => slow,
            (None, None) => return Ok(None),
        };
        if state.under_way >= most {
            let reason = format!("{name} allows {most} at once");
            return Err(Blocked::Busy(self.clone(), reason));
        }
        state.under_way += 1;
        Ok(Some(UnderWay(self.clone())))
    }

    /// Notes an answer that was no refusal.
    pub(super) fn went_well(&self) {
        let mut state = self.lock();
        state.strikes = 0;
        state.slow = state.slow.map(|slow| slow.saturating_mul(2)).filter(|slow| *slow < SLOW_UNTIL);
    }

    /// Takes over what an answer says is left until a reset.
    pub(super) fn learn(&self, remaining: Decimal, reset: Timestamp) {
        let mut state = self.lock();
        let same = |learned: &Learned| {
            let (one, other) = (learned.reset.micros(), reset.micros());
            one.abs_diff(other) <= 2_000_000
        };
        match &mut state.learned {
            // Answers overtake one another: of one window the least counts.
            Some(learned) if same(learned) => learned.remaining = learned.remaining.min(remaining),
            learned => *learned = Some(Learned { remaining, reset }),
        }
    }

    /// Lets nothing go before a moment.
    pub(super) fn pause(&self, until: Timestamp, reason: &str) {
        let mut state = self.lock();
        if state.paused.as_ref().is_none_or(|pause| pause.until < until) {
            state.paused = Some(Pause { until, reason: reason.into() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp(second * 1_000_000)
    }

    #[test]
    fn after_a_pause_requests_come_back_slowly() {
        let gauge = Arc::new(Gauge::default());
        gauge.pause(at(10), "429");
        assert!(matches!(gauge.check("x", Decimal::ONE, at(9)), Err(Blocked::Until(until, _)) if until == at(10)));
        gauge.check("x", Decimal::ONE, at(10)).unwrap();
        let first = gauge.enter("x", None).unwrap();
        assert!(matches!(gauge.enter("x", None), Err(Blocked::Busy(..))));
        drop(first);
        let mut together = Vec::new();
        for _ in 0..6 {
            gauge.went_well();
            let most = gauge.lock().slow.unwrap_or(1_000);
            let held: Vec<_> = std::iter::from_fn(|| gauge.enter("x", None).ok().flatten()).take(200).collect();
            together.push((most, held.len()));
        }
        assert_eq!(together, [(2, 2), (4, 4), (8, 8), (16, 16), (32, 32), (1_000, 0)]);
    }

    #[test]
    fn what_is_learned_is_used_and_forgotten_with_its_window() {
        let gauge = Gauge::default();
        gauge.learn(Decimal::from(2), at(60));
        gauge.check("x", Decimal::ONE, at(1)).unwrap();
        // A late answer says there is more than there is.
        gauge.learn(Decimal::from(9), at(61));
        gauge.check("x", Decimal::ONE, at(2)).unwrap();
        gauge.give_back(Decimal::ONE);
        gauge.check("x", Decimal::ONE, at(2)).unwrap();
        assert!(matches!(gauge.check("x", Decimal::ONE, at(3)), Err(Blocked::Until(until, _)) if until == at(60)));
        gauge.check("x", Decimal::ONE, at(60)).unwrap();
    }
}
