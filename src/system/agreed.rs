//! One time for all that share a store, however their machines' clocks stand.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use async_trait::async_trait;

use super::Clock;
use crate::model::Duration;
use crate::model::Timestamp;

/// What clocks that somebody sets may differ by; less is left as it is, because asking takes time, too.
const TOLERANCE: Duration = Duration::from_secs(1);
/// A sleep is cut into pieces: what was agreed on may change meanwhile.
const PIECE: Duration = Duration::from_secs(30);

/// The machine's clock, moved to the time of somebody whom all others ask, too.
#[derive(Debug)]
pub struct AgreedClock {
    own: Arc<dyn Clock>,
    /// Microseconds by which the agreed time is ahead of our own.
    ahead: AtomicI64,
}

impl AgreedClock {
    /// Makes one that goes as the machine's until `agree` is called.
    #[must_use]
    pub fn new(own: Arc<dyn Clock>) -> Self {
        Self { own, ahead: AtomicI64::new(0) }
    }

    /// Returns the machine's own time, for `agree`.
    #[must_use]
    pub fn own(&self) -> Timestamp {
        self.own.now()
    }

    /// Takes over what somebody else says the time is; we asked at `asked` and heard at `heard` by our own time. Returns
    /// how many microseconds our own clock is behind, where that is news.
    pub fn agree(&self, theirs: Timestamp, asked: Timestamp, heard: Timestamp) -> Option<i64> {
        let took = heard.micros().saturating_sub(asked.micros());
        // A clock that was set while we asked measured nothing.
        let took = u64::try_from(took).ok().filter(|took| *took < 10_000_000)?;
        let half = i64::try_from(took / 2).unwrap_or(0);
        let ahead = theirs.micros().saturating_sub(asked.micros().saturating_add(half));
        let news = ahead.saturating_sub(self.ahead.load(Relaxed)).unsigned_abs() > TOLERANCE.micros() + took;
        if !news {
            return None;
        }
        let ahead = if ahead.unsigned_abs() > TOLERANCE.micros() { ahead } else { 0 };
        self.ahead.store(ahead, Relaxed);
        Some(ahead)
    }
}

#[async_trait]
impl Clock for AgreedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.own.now().micros().saturating_add(self.ahead.load(Relaxed)))
    }

    fn monotonic(&self) -> Duration {
        self.own.monotonic()
    }

    async fn sleep_until(&self, due: Timestamp) {
        loop {
            let left = due.since(self.now());
            if left == Duration::ZERO {
                return;
            }
            self.own.sleep_until(self.own.now().plus(left.min(PIECE))).await;
        }
    }

    async fn sleep(&self, length: Duration) {
        self.own.sleep(length).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::SimClock;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    #[test]
    fn a_clock_that_differs_goes_by_the_agreed_time() {
        let own = SimClock::new(at(1_000));
        let clock = AgreedClock::new(Arc::new(own.clone()));
        assert_eq!(clock.agree(at(1_000), at(1_000), at(1_000)), None);
        assert_eq!(clock.agree(Timestamp(1_000_900_000), at(1_000), at(1_000)), None, "within what clocks differ by");
        assert_eq!(clock.agree(at(1_600), at(1_000), at(1_000)), Some(600_000_000));
        assert_eq!(clock.now(), at(1_600));
        own.advance(Duration::from_secs(5));
        assert_eq!(clock.now(), at(1_605));
        assert_eq!(clock.monotonic(), Duration::from_secs(5));
        // Somebody has set our clock: nothing is to be added any more.
        own.advance_to(at(1_605));
        assert_eq!(clock.agree(at(1_605), clock.own(), clock.own()), Some(0));
        assert_eq!(clock.now(), at(1_605));
    }

    #[test]
    fn an_answer_that_took_long_says_little() {
        let clock = AgreedClock::new(Arc::new(SimClock::new(at(1_000))));
        assert_eq!(clock.agree(at(1_004), at(1_000), at(1_006)), None, "it may have been said at 1004");
        assert_eq!(clock.agree(at(1_600), at(1_000), at(990)), None);
        assert_eq!(clock.agree(at(1_600), at(1_000), at(1_100)), None);
    }

    #[tokio::test]
    async fn a_sleeper_wakes_at_the_agreed_moment() {
        let own = SimClock::new(at(1_000));
        let clock = Arc::new(AgreedClock::new(Arc::new(own.clone())));
        clock.agree(at(1_600), at(1_000), at(1_000));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(at(1_650)).await }
        });
        for _ in 0..49 {
            own.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
        assert!(!sleeper.is_finished());
        own.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
    }
}
