//! What becomes of slots that came while nobody fired them.

use std::collections::VecDeque;

use super::Schedule;
use super::Slot;
use crate::model::Duration;
use crate::model::Timestamp;

/// A slot that is late by no more than this was not missed: a daemon that is restarted in the wrong second loses nothing.
pub const GRACE: Duration = Duration::from_secs(60);

/// How many missed slots fire where the trigger says `all` and no `max`.
pub const MOST_MISSED: u32 = 100;

/// Which of the slots fire that nobody fired at their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// None, but for the last one where it is no later than [`GRACE`].
    #[default]
    None,
    /// The last one.
    Last,
    /// All, in their order.
    All,
}

/// What a trigger says of missed slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub missed: Missed,
    /// What is older is let go.
    pub window: Option<Duration>,
    /// Of more slots than this the newest fire.
    pub max: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self { missed: Missed::None, window: None, max: MOST_MISSED }
    }
}

impl Schedule {
    /// Returns the slots to fire now, in the order of their logical times, when slots up to `last_seen` have been decided
    /// on. It does not matter why nobody looked since: the daemon was down, the pipeline disabled, the machine asleep.
    ///
    /// Slots go by their logical time. One whose jitter has not passed is among them, and starts when it is due.
    #[must_use]
    pub fn missed(&self, policy: Policy, last_seen: Timestamp, now: Timestamp) -> Vec<Slot> {
        let (window, most) = match policy.missed {
            Missed::None => (Some(policy.window.map_or(GRACE, |window| window.min(GRACE))), 1),
            Missed::Last => (policy.window, 1),
            Missed::All => (policy.window, policy.max),
        };
        let floor = match window {
            // A slot that is just as old as the window is within it.
            Some(window) => last_seen.max(Timestamp(now.0.saturating_sub_unsigned(window.micros()).saturating_sub(1))),
            None => last_seen,
        };
        let mut slots = VecDeque::new();
        let mut until = now;
        while slots.len() < usize::try_from(most).unwrap_or(usize::MAX) {
            let Some(slot) = self.last_between(floor, until) else { break };
            until = Timestamp(slot.logical.0 - 1);
            slots.push_front(slot);
        }
        slots.into()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::tz::TimeZone;

    use super::super::Dst;
    use super::super::Missing;
    use super::super::Repeated;
    use super::super::When;
    use super::*;

    fn fired(cron: &str, policy: (Missed, Option<u64>, u32), last_seen: &str, now: &str) -> String {
        let schedule = Schedule {
            when: When::Cron(cron.parse().unwrap()),
            zone: TimeZone::UTC,
            dst: Dst { missing: Missing::Shift, repeated: Repeated::First },
            calendar: None,
            jitter: Duration::ZERO,
            name: Arc::from("x"),
        };
        let policy = Policy { missed: policy.0, window: policy.1.map(Duration::from_secs), max: policy.2 };
        let moment = |time: &str| format!("2026-03-02T{time}Z").parse().unwrap();
        let slots = schedule.missed(policy, moment(last_seen), moment(now));
        slots.iter().map(|slot| slot.local.time.strftime("%H:%M").to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_policy_says_which_slots_fire_late() {
        use Missed::All;
        use Missed::Last;
        use Missed::None as Never;
        let hourly = "0 * * * *";
        for (policy, last_seen, now, expected) in [
            // Nothing came: nothing fires, whatever the policy.
            ((All, None, 100), "09:00:00", "09:59:59", ""),
            ((Last, None, 100), "09:00:00", "09:00:00", ""),
            // On time, and late by no more than a minute.
            ((Never, None, 100), "09:00:00", "10:00:00", "10:00"),
            ((Never, None, 100), "09:00:00", "10:01:00", "10:00"),
            ((Never, None, 100), "09:00:00", "10:01:01", ""),
            ((Never, None, 100), "10:00:00", "10:00:30", ""),
            // A window that is shorter than the grace counts.
            ((Never, Some(10), 100), "09:00:00", "10:00:30", ""),
            ((Last, None, 100), "09:00:00", "13:30:00", "13:00"),
            ((Last, Some(3_600), 100), "09:00:00", "13:30:00", "13:00"),
            ((Last, Some(1_800), 100), "09:00:00", "13:30:00", "13:00"),
            ((Last, Some(1_799), 100), "09:00:00", "13:30:00", ""),
            ((All, None, 100), "09:00:00", "13:30:00", "10:00 11:00 12:00 13:00"),
            ((All, None, 2), "09:00:00", "13:30:00", "12:00 13:00"),
            ((All, Some(7_200), 100), "09:00:00", "13:30:00", "12:00 13:00"),
            ((All, Some(7_200), 1), "09:00:00", "13:30:00", "13:00"),
            // The clock was put back: nothing fires twice.
            ((All, None, 100), "13:00:00", "11:30:00", ""),
        ] {
            assert_eq!(fired(hourly, policy, last_seen, now), expected, "{policy:?} from {last_seen} at {now}");
        }
    }

    #[test]
    fn to_look_once_or_often_comes_to_the_same() {
        let schedule = Schedule {
            when: When::Cron("*/20 8-10 * * *".parse().unwrap()),
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            dst: Dst { missing: Missing::Shift, repeated: Repeated::First },
            calendar: None,
            jitter: Duration::ZERO,
            name: Arc::from("x"),
        };
        let policy = Policy { missed: Missed::All, window: None, max: 1_000 };
        let start: Timestamp = "2026-03-28T00:00:00Z".parse().unwrap();
        let end = start.plus(Duration::from_secs(3 * 86_400));
        let once = schedule.missed(policy, start, end);
        for step in [61, 600, 3_599, 50_000] {
            let (mut often, mut seen, mut now) = (Vec::new(), start, start);
            while now < end {
                now = now.plus(Duration::from_secs(step)).min(end);
                let slots = schedule.missed(policy, seen, now);
                seen = slots.last().map_or(seen, |slot| slot.logical);
                often.extend(slots);
            }
            assert_eq!(often, once, "looked every {step} s");
        }
        assert_eq!(once.len(), 27);
    }

    #[test]
    fn a_day_of_seconds_is_not_walked_through() {
        let slots = fired("* * * * * *", (Missed::All, None, 3), "00:00:00", "23:59:59");
        assert_eq!(slots, "23:59 23:59 23:59");
    }
}
