//! What a computation needs from outside and a test must be able to move: clock and randomness.

mod agreed;
mod outside;
mod virtual_clock;

use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use tokio::sync::watch;

pub use self::agreed::AgreedClock;
pub use self::outside::outside;
pub use self::virtual_clock::Stopped;
pub use self::virtual_clock::VirtualClock;
use crate::model::Duration;
use crate::model::RunId;
use crate::model::Timestamp;

/// Tells the time and wakes sleepers.
#[async_trait]
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Returns the wall clock's moment.
    fn now(&self) -> Timestamp;

    /// Returns a reading that only ever grows, unlike the wall clock; for measuring lengths on this machine.
    fn monotonic(&self) -> Duration;

    /// Returns when `due` has come.
    async fn sleep_until(&self, due: Timestamp);

    /// Returns when so much time has passed, whatever becomes of the wall clock meanwhile.
    async fn sleep(&self, length: Duration) {
        self.sleep_until(self.now().plus(length)).await;
    }
}

/// Clock and random source, handed to everything that needs them.
#[derive(Clone, Debug)]
pub struct System {
    pub clock: Arc<dyn Clock>,
    pub random: Random,
}

/// A seeded random source, shared by clones.
#[derive(Clone, Debug)]
pub struct Random(Arc<Mutex<fastrand::Rng>>);

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
    /// Microseconds by which it goes wrong on purpose; see `wrong_by`.
    wrong_by: i64,
}

/// A clock that stands still until it is moved.
#[derive(Clone, Debug)]
pub struct SimClock {
    now: Arc<watch::Sender<Timestamp>>,
    start: Timestamp,
}

impl System {
    /// Makes the real one: the machine's clock and an unpredictable seed.
    #[must_use]
    pub fn real() -> Self {
        Self { clock: Arc::new(SystemClock::new()), random: Random::seeded(fastrand::u64(..)) }
    }

    /// Makes one for tests: a clock that stands at `now`, and a seed.
    #[must_use]
    pub fn simulated(now: Timestamp, seed: u64) -> (Self, SimClock) {
        let clock = SimClock::new(now);
        (Self { clock: Arc::new(clock.clone()), random: Random::seeded(seed) }, clock)
    }

    /// Makes the id of a new run.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        let milliseconds = u64::try_from(self.clock.now().micros() / 1_000).unwrap_or(0);
        RunId::new(milliseconds, self.random.bits())
    }
}

impl Random {
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// Returns a number in 0..1.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        self.with(fastrand::Rng::f64)
    }

    /// Returns 128 random bits.
    #[must_use]
    pub fn bits(&self) -> u128 {
        self.with(|random| random.u128(..))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl SystemClock {
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now(), wrong_by: 0 }
    }

    /// Makes one whose wall clock is wrong by so many microseconds: what several machines do whose clocks differ can be
    /// tested on one.
    #[must_use]
    pub fn wrong_by(micros: i64) -> Self {
        Self { wrong_by: micros, ..Self::new() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::from_jiff(jiff::Timestamp::now());
        Timestamp(now.micros().saturating_add(self.wrong_by))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that sleeps on the machine's clock")]
    async fn sleep_until(&self, due: Timestamp) {
        // A long sleep is cut into pieces: a machine that was suspended, or whose clock was set, wakes in time.
        let longest = Duration::from_secs(60);
        loop {
            let left = due.since(self.now());
            if left == Duration::ZERO {
                return;
            }
            tokio::time::sleep(left.min(longest).to_std()).await;
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that sleeps on the machine's clock")]
    async fn sleep(&self, length: Duration) {
        tokio::time::sleep(length.to_std()).await;
    }
}

impl SimClock {
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { now: Arc::new(watch::Sender::new(now)), start: now }
    }

    /// Moves the clock on and wakes whoever is due.
    pub fn advance(&self, length: Duration) {
        self.now.send_modify(|now| *now = now.plus(length));
    }

    /// Moves the clock to a later moment; an earlier one changes nothing.
    pub fn advance_to(&self, moment: Timestamp) {
        self.now.send_modify(|now| *now = (*now).max(moment));
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    fn monotonic(&self) -> Duration {
        self.now().since(self.start)
    }

    async fn sleep_until(&self, due: Timestamp) {
        let mut now = self.now.subscribe();
        // The sender lives in `self`, so waiting can only end by the time coming.
        let _ = now.wait_for(|now| *now >= due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_clock_is_moved() {
        let (system, clock) = System::simulated(Timestamp(0), 1);
        let sleeper = tokio::spawn(async move { system.clock.sleep_until(Timestamp(90_000_000)).await });
        clock.advance(Duration::from_secs(89));
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        assert_eq!(Random::seeded(7).bits(), Random::seeded(7).bits());
    }
}
