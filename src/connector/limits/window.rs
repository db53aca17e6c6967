//! How much of a budget is used in its window; pure.

use std::collections::VecDeque;

use jiff::ToSpan;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;

use super::spec::Calendar;
use crate::model::Duration;
use crate::model::Timestamp;

/// So many entries are kept one by one; beyond, those that are close together are counted as one, as late as the last.
const EXACT: usize = 120;
/// Into so many parts a window is divided then.
const PARTS: u64 = 60;

/// A budget's window at a moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Window {
    Rolling(Duration),
    /// From its beginning to the next one's.
    Fixed(Timestamp, Timestamp),
}

/// What was used, by when.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// The oldest first.
    entries: VecDeque<(Timestamp, Decimal)>,
}

impl Window {
    /// Returns the window of a calendar in which a moment lies.
    pub(super) fn of_calendar(calendar: Calendar, zone: &TimeZone, now: Timestamp) -> Self {
        let local = now.to_jiff().to_zoned_datetime(zone.clone());
        let hours = calendar == Calendar::Hour;
        let minute = local.with().second(0).subsec_nanosecond(0).build();
        let start = match calendar {
            Calendar::Minute => minute,
            Calendar::Hour => minute.and_then(|it| it.with().minute(0).build()),
            Calendar::Day => local.start_of_day(),
            Calendar::Week => local.start_of_day().and_then(|day| {
                let since_monday = i64::from(day.weekday().to_monday_zero_offset());
                day.checked_sub(since_monday.days()).and_then(|day| day.start_of_day())
            }),
            Calendar::Month => local.first_of_month().and_then(|day| day.start_of_day()),
        };
        let end = start.clone().and_then(|start| match calendar {
            Calendar::Minute => start.checked_add(1.minute()),
            Calendar::Hour => start.checked_add(1.hour()),
            Calendar::Day => start.checked_add(1.day()).and_then(|day| day.start_of_day()),
            Calendar::Week => start.checked_add(7.days()).and_then(|day| day.start_of_day()),
            Calendar::Month => start.checked_add(1.month()).and_then(|day| day.start_of_day()),
        });
        match (start, end) {
            (Ok(start), Ok(end)) => {
                Self::Fixed(Timestamp::from_jiff(start.timestamp()), Timestamp::from_jiff(end.timestamp()))
            }
            // At the ends of the calendar only.
            _ => Self::Rolling(Duration::from_secs(if hours { 3_600 } else { 86_400 })),
        }
    }
}

impl Usage {
    /// Forgets what no longer counts.
    fn expire(&mut self, window: &Window, now: Timestamp) {
        while let Some((at, _)) = self.entries.front() {
            let counts = match window {
                Window::Rolling(length) => at.plus(*length) > now,
                Window::Fixed(start, _) => at >= start,
            };
            if counts {
                break;
            }
            self.entries.pop_front();
        }
    }

    /// Returns how much is used.
    pub(super) fn used(&mut self, window: &Window, now: Timestamp) -> Decimal {
        self.expire(window, now);
        self.entries.iter().map(|(_, amount)| *amount).sum()
    }

    /// Returns when so much is free; `now` where it is. What is more than the limit never is.
    pub(super) fn free_at(
        &mut self,
        window: &Window,
        limit: Decimal,
        amount: Decimal,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if amount > limit {
            return None;
        }
        let mut used = self.used(window, now);
        if used + amount <= limit {
            return Some(now);
        }
        let length = match window {
            Window::Fixed(_, end) => return Some(*end),
            Window::Rolling(length) => *length,
        };
        for (at, own) in &self.entries {
            used -= *own;
            if used + amount <= limit {
                return Some(at.plus(length));
            }
        }
        Some(now.plus(length))
    }

    /// Counts an amount.
    pub(super) fn add(&mut self, window: &Window, amount: Decimal, now: Timestamp) {
        self.expire(window, now);
        match self.entries.back_mut() {
            // A clock that was set back must not disorder them.
            Some((at, own)) if *at >= now => *own += amount,
            _ => self.entries.push_back((now, amount)),
        }
        if self.entries.len() > EXACT {
            self.merge(window);
        }
    }

    fn merge(&mut self, window: &Window) {
        let length = match window {
            Window::Rolling(length) => *length,
            Window::Fixed(start, end) => end.since(*start),
        };
        let part = i64::try_from(length.micros() / PARTS).unwrap_or(i64::MAX).max(1);
        let mut merged: VecDeque<(Timestamp, Decimal)> = VecDeque::new();
        for (at, amount) in self.entries.drain(..) {
            match merged.back_mut() {
                Some((last, own)) if last.micros().div_euclid(part) == at.micros().div_euclid(part) => {
                    *own += amount;
                    // As late as the last: nothing is free too early.
                    *last = at;
                }
                _ => merged.push_back((at, amount)),
            }
        }
        self.entries = merged;
    }

    /// Takes a part of what was counted last back, or adds to it: it cost something else.
    pub(super) fn correct(&mut self, mut difference: Decimal) {
        for (_, own) in self.entries.iter_mut().rev() {
            let before = *own;
            *own = (before + difference).max(Decimal::ZERO);
            difference -= *own - before;
            if difference.is_zero() {
                return;
            }
        }
    }

    /// Writes it for the store: `micros amount`, one a line.
    pub(super) fn to_text(&self) -> String {
        let lines = self.entries.iter().map(|(at, amount)| format!("{} {amount}", at.micros()));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Reads what `to_text` wrote; a line that is damaged is left out.
    pub(super) fn of_text(text: &str) -> Self {
        let entries = text.lines().filter_map(|line| {
            let (at, amount) = line.split_once(' ')?;
            Some((Timestamp(at.parse().ok()?), amount.parse().ok()?))
        });
        Self { entries: entries.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp(1_790_000_000_000_000 + second * 1_000_000)
    }

    fn number(value: i64) -> Decimal {
        Decimal::from(value)
    }

    #[test]
    fn a_rolling_window_frees_the_oldest_first() {
        let window = Window::Rolling(Duration::from_secs(10));
        let mut usage = Usage::default();
        for second in [0, 2, 4] {
            assert_eq!(usage.free_at(&window, number(3), number(1), at(second)), Some(at(second)));
            usage.add(&window, number(1), at(second));
        }
        assert_eq!(usage.free_at(&window, number(3), number(1), at(5)), Some(at(10)));
        assert_eq!(usage.free_at(&window, number(3), number(2), at(5)), Some(at(12)));
        assert_eq!(usage.free_at(&window, number(3), number(1), at(10)), Some(at(10)));
        assert_eq!(usage.free_at(&window, number(3), number(4), at(5)), None);
    }

    #[test]
    fn many_entries_are_counted_together_and_never_free_too_early() {
        let window = Window::Rolling(Duration::from_secs(3_600));
        let mut usage = Usage::default();
        for second in 0..3_000 {
            usage.add(&window, number(1), at(second));
        }
        assert!(usage.entries.len() <= EXACT + 1);
        assert_eq!(usage.used(&window, at(3_000)), number(3_000));
        // Of those of the first minute, none counts less than it should.
        assert!(usage.used(&window, at(3_630)) >= number(2_970));
        assert_eq!(usage.used(&window, at(7_000)), number(0));
        assert_eq!(Usage::of_text(&usage.to_text()), usage);
    }

    #[test]
    fn a_correction_changes_what_was_counted_last() {
        let window = Window::Rolling(Duration::from_secs(10));
        let mut usage = Usage::default();
        usage.add(&window, number(5), at(0));
        usage.add(&window, number(3), at(1));
        usage.correct(number(-4));
        assert_eq!(usage.used(&window, at(2)), number(4));
        usage.correct(number(2));
        assert_eq!(usage.used(&window, at(10)), number(2));
    }

    #[test]
    fn a_day_ends_at_midnight_of_its_zone() {
        let zone = TimeZone::get("America/Los_Angeles").unwrap();
        let moment = |text: &str| text.parse::<Timestamp>().unwrap();
        let check = |calendar, now: &str, from: &str, to: &str| {
            let window = Window::of_calendar(calendar, &zone, moment(now));
            assert_eq!(window, Window::Fixed(moment(from), moment(to)), "{calendar:?}");
        };
        // The clocks are set back on 1 November: that day has 25 hours.
        check(Calendar::Day, "2026-11-01T12:00:00Z", "2026-11-01T07:00:00Z", "2026-11-02T08:00:00Z");
        check(Calendar::Hour, "2026-11-01T09:30:15Z", "2026-11-01T09:00:00Z", "2026-11-01T10:00:00Z");
        check(Calendar::Week, "2026-11-04T12:00:00Z", "2026-11-02T08:00:00Z", "2026-11-09T08:00:00Z");
        check(Calendar::Month, "2026-11-04T12:00:00Z", "2026-11-01T07:00:00Z", "2026-12-01T08:00:00Z");
        check(Calendar::Minute, "2026-11-04T12:00:59Z", "2026-11-04T12:00:00Z", "2026-11-04T12:01:00Z");
    }
}
