//! When an attempt is repeated: pure decisions.

use crate::model::Duration;
use crate::model::ErrorClass;
use crate::model::Timestamp;
use crate::pipeline::Retry;

/// Returns when the next attempt is due, or nothing when the failure is for good.
///
/// A server's Retry-After wins over the backoff. `fraction` is a random number in 0..1 for the jitter.
#[must_use]
pub fn next_attempt(
    retry: &Retry,
    attempt: u32,
    class: ErrorClass,
    retry_after: Option<Duration>,
    fraction: f64,
    now: Timestamp,
) -> Option<Timestamp> {
    if attempt >= retry.attempts || !retry.on.contains(&class) {
        return None;
    }
    Some(now.plus(retry_after.unwrap_or_else(|| backoff(retry, attempt, fraction))))
}

/// Returns the pause behind the attempt with this number (from 1).
#[must_use]
pub fn backoff(retry: &Retry, attempt: u32, fraction: f64) -> Duration {
    let doublings = if retry.exponential { attempt.saturating_sub(1).min(40) } else { 0 };
    let pause = retry.delay.times(1_u64 << doublings).min(retry.max_delay.max(retry.delay));
    if !retry.jitter {
        return pause;
    }
    // From half to whole: apart enough that many do not come back together, never much too early.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction of 0..1000 is small")]
    let thousandths = (fraction.clamp(0.0, 1.0) * 500.0) as u64 + 500;
    Duration::from_micros(pause.micros() / 1_000 * thousandths + pause.micros() % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(attempts: u32) -> Retry {
        Retry { attempts, delay: Duration::from_secs(1), max_delay: Duration::from_secs(8), ..Retry::default() }
    }

    #[test]
    fn the_pause_doubles_up_to_its_bound() {
        let retry = Retry { jitter: false, ..policy(9) };
        let pauses: Vec<_> = (1..=6).map(|attempt| backoff(&retry, attempt, 0.3).to_string()).collect();
        assert_eq!(pauses, ["1s", "2s", "4s", "8s", "8s", "8s"]);
        assert_eq!(backoff(&retry, u32::MAX, 0.0).to_string(), "8s");
    }

    #[test]
    fn jitter_stays_between_half_and_whole() {
        proptest::proptest!(|(attempt in 1_u32..50, fraction in 0.0_f64..1.0)| {
            let whole = backoff(&Retry { jitter: false, ..policy(60) }, attempt, 0.0);
            let drawn = backoff(&policy(60), attempt, fraction);
            proptest::prop_assert!(drawn <= whole && drawn.times(2) >= whole);
        });
    }

    #[test]
    fn retry_after_wins_and_classes_decide() {
        let now = Timestamp(0);
        let soon = Some(Duration::from_secs(30));
        let due = next_attempt(&policy(3), 1, ErrorClass::Throttled, soon, 0.0, now);
        assert_eq!(due, Some(now.plus(Duration::from_secs(30))));
        assert_eq!(next_attempt(&policy(3), 3, ErrorClass::Throttled, soon, 0.0, now), None);
        assert_eq!(next_attempt(&policy(3), 1, ErrorClass::Invalid, None, 0.0, now), None);
    }
}
