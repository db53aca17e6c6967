//! Times and lists in words.

use crate::model::Duration;
use crate::model::Timestamp;

/// Returns a length of time, as exact as people want it.
pub(super) fn about(length: Duration) -> String {
    let seconds = length.micros() / 1_000_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, ..) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

/// Returns a moment with how far it is: `… (in 2h05m)`, `… (3m10s ago)`.
pub(super) fn at(moment: Timestamp, now: Timestamp) -> String {
    if moment >= now {
        format!("{moment} (in {})", about(moment.since(now)))
    } else {
        format!("{moment} ({} ago)", about(now.since(moment)))
    }
}

/// Returns `1 run`, `2 runs`.
pub(super) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_exact_as_people_want_them() {
        let cases = [(5, "5s"), (65, "1m05s"), (3_725, "1h02m"), (2 * 86_400 + 3_600, "2d01h")];
        for (seconds, text) in cases {
            assert_eq!(about(Duration::from_secs(seconds)), text);
        }
        let now = Timestamp(1_700_000_000_000_000);
        assert_eq!(at(now.plus(Duration::from_secs(60)), now), "2023-11-14T22:14:20Z (in 1m00s)");
        assert_eq!(at(Timestamp(now.micros() - 60_000_000), now), "2023-11-14T22:12:20Z (1m00s ago)");
    }
}
