//! How often something may happen: a bucket of tokens that fills again evenly.

use crate::model::Duration;
use crate::model::Timestamp;

/// A bucket of `max` tokens that is full again `window` after it was empty: at most `max` firings at once, and in the long
/// run `max` in each `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub max: u32,
    pub window: Duration,
}

/// A token that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// When it may be used: at once, or when it is there.
    pub at: Timestamp,
    /// When the bucket is full again if no more is taken: all that must be kept of a bucket.
    pub full_at: Timestamp,
}

impl Bucket {
    /// Takes one token from a bucket that is full at `full_at`. The one that is returned may be of the future.
    #[must_use]
    pub fn take(self, full_at: Timestamp, now: Timestamp) -> Token {
        // Rounded up: it never gives more than it says.
        let each = self.window.micros().div_ceil(u64::from(self.max.max(1))).max(1);
        let whole = Duration::from_micros(each.saturating_mul(u64::from(self.max.max(1))));
        let full_at = full_at.max(now).plus(Duration::from_micros(each));
        let at = Timestamp(full_at.micros().saturating_sub_unsigned(whole.micros()));
        Token { at: at.max(now), full_at }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn taken(bucket: Bucket, moments: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let mut full_at = Timestamp(0);
        let take = |moment| {
            let token = bucket.take(full_at, Timestamp(moment));
            full_at = token.full_at;
            token.at.micros()
        };
        moments.into_iter().map(take).collect()
    }

    #[test]
    fn a_full_bucket_gives_all_at_once_and_then_one_at_a_time() {
        let bucket = Bucket { max: 3, window: Duration::from_secs(6) };
        let at: Vec<_> = taken(bucket, [10 * SECOND; 6]).iter().map(|at| at / SECOND).collect();
        assert_eq!(at, [10, 10, 10, 12, 14, 16]);
    }

    #[test]
    fn it_fills_again_and_never_above_its_brim() {
        let bucket = Bucket { max: 2, window: Duration::from_secs(10) };
        let at: Vec<_> =
            taken(bucket, [0, 0, 5, 100, 100, 100].map(|it| it * SECOND)).iter().map(|at| at / SECOND).collect();
        assert_eq!(at, [0, 0, 5, 100, 100, 105]);
    }

    #[test]
    fn a_clock_that_goes_back_empties_nothing() {
        let bucket = Bucket { max: 1, window: Duration::from_secs(60) };
        assert_eq!(taken(bucket, [100 * SECOND, 10 * SECOND]), [100 * SECOND, 160 * SECOND]);
    }

    proptest! {
        #[test]
        fn no_window_ever_has_more_than_twice_the_bucket_and_the_long_run_keeps_to_it(
            max in 1_u32..20,
            window in 1_u64..100_000_000,
            steps in proptest::collection::vec(0_i64..10_000_000, 1..200),
        ) {
            let bucket = Bucket { max, window: Duration::from_micros(window) };
            let mut now = 0;
            let moments: Vec<_> = steps.iter().map(|step| { now += step; now }).collect();
            let at = taken(bucket, moments.iter().copied());
            prop_assert!(at.iter().zip(&moments).all(|(at, moment)| at >= moment));
            prop_assert!(at.is_sorted());
            let most = usize::try_from(max).unwrap();
            for (first, start) in at.iter().enumerate() {
                // What is given from a moment on: a full bucket, and what flows in meanwhile.
                for (count, later) in at.iter().skip(first).enumerate() {
                    let flowed = i128::from(later - start) * i128::from(max) / i128::from(window);
                    prop_assert!(count as i128 <= most as i128 + flowed, "{count} from {start} to {later}");
                }
            }
        }
    }
}
