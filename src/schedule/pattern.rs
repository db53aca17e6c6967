//! Cron expressions, and the local times that they name. No zone: a local time here is what a clock on the wall shows.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::civil::DateTime;
use jiff::civil::Time;
use jiff::civil::Weekday;

/// A cron expression: five fields, or six with seconds in front, or a name such as `@daily`.
///
/// Day of month and weekday follow Vixie cron: where both are restricted, a day needs to match one of them only. A field
/// is unrestricted when it is exactly `*` or `?`; `*/2` is a restriction. A `+` before the weekday asks for both.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Arc<str>,
    /// Bit n stands for the number n, here and below.
    seconds: u64,
    minutes: u64,
    hours: u32,
    months: u16,
    days: Days,
}

/// The days that a pattern names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Days {
    dates: u32,
    /// `L`: the last day of the month.
    last: bool,
    /// `LW`: the last day of the month that is no Saturday or Sunday.
    last_working: bool,
    /// `15W`: the day from Monday to Friday that is nearest in the same month.
    nearest: u32,
    /// 0 is Sunday.
    weekdays: u8,
    /// `MON#2`: bit n of entry k is weekday n when it comes for the (k + 1)th time in the month.
    nth: [u8; 5],
    /// `FRIL`: the last Friday of the month.
    last_of: u8,
    any_date: bool,
    any_weekday: bool,
    /// `+`: date and weekday must match both.
    both: bool,
}

/// Why a text is no cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct PatternError {
    pub why: String,
    /// The mend, in the imperative.
    pub help: Option<String>,
}

/// The names for whole expressions.
pub const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * SUN"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

const FIELDS: [&str; 6] = ["seconds", "minutes", "hours", "days of the month", "months", "weekdays"];

/// An expression that is longer is damaged, or means harm.
const LONGEST: usize = 1_000;

/// The bits by which the `cron` crate marks `L`, `W` and `#`; it keeps their names to itself.
const LAST: u8 = 1 << 6;
const NEAREST: u8 = 1 << 7;

impl Pattern {
    /// Returns the expression as it was written, names such as `@daily` included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Tells whether it fires in every hour of its days: then a clock change is no reason to move or to drop anything.
    #[must_use]
    pub fn is_hourly(&self) -> bool {
        self.hours.count_ones() == 24
    }

    /// Returns the first local time from `from` on and before `until`.
    pub(super) fn next(&self, from: DateTime, until: DateTime) -> Option<DateTime> {
        let mut date = from.date();
        let mut earliest =
            if from.subsec_nanosecond() == 0 { seconds_of(from.time()) } else { seconds_of(from.time()) + 1 };
        loop {
            if date > until.date() {
                return None;
            }
            if !bit(self.months.into(), date.month().unsigned_abs().into()) {
                date = date.last_of_month().tomorrow().ok()?;
                earliest = 0;
                continue;
            }
            if self.days.has(date)
                && let Some(time) = self.next_time(earliest)
            {
                return Some(date.to_datetime(time)).filter(|found| *found < until);
            }
            date = date.tomorrow().ok()?;
            earliest = 0;
        }
    }

    /// Returns the first time of a day that is no earlier than this many seconds after midnight.
    fn next_time(&self, earliest: u32) -> Option<Time> {
        let (mut hour, mut minute, mut second) = (earliest / 3_600, earliest / 60 % 60, earliest % 60);
        loop {
            let next_hour = next_bit(self.hours.into(), hour)?;
            if next_hour != hour {
                (hour, minute, second) = (next_hour, 0, 0);
            }
            let Some(next_minute) = next_bit(self.minutes, minute) else {
                (hour, minute, second) = (hour + 1, 0, 0);
                continue;
            };
            if next_minute != minute {
                (minute, second) = (next_minute, 0);
            }
            let Some(second) = next_bit(self.seconds, second) else {
                // A minute of 60 has no bit, so the next round goes on with the next hour.
                (minute, second) = (minute + 1, 0);
                continue;
            };
            let part = |number: u32| i8::try_from(number).ok();
            return Time::new(part(hour)?, part(minute)?, part(second)?, 0).ok();
        }
    }

    /// Tells whether it ever fires; `0 0 30 2 *` does not. The calendar repeats after 400 years, weekdays included.
    #[must_use]
    pub fn fires(&self) -> bool {
        let start = jiff::civil::date(2000, 1, 1).at(0, 0, 0, 0);
        let end = jiff::civil::date(2400, 1, 1).at(0, 0, 0, 0);
        self.next(start, end).is_some()
    }
}

impl Days {
    fn has(&self, date: Date) -> bool {
        let by_date = || self.has_date(date);
        let by_weekday = || self.has_weekday(date);
        match (self.any_date, self.any_weekday) {
            (true, true) => true,
            (true, false) => by_weekday(),
            (false, true) => by_date(),
            (false, false) if self.both => by_date() && by_weekday(),
            (false, false) => by_date() || by_weekday(),
        }
    }

    fn has_date(&self, date: Date) -> bool {
        let last = date.last_of_month();
        bit(self.dates.into(), date.day().unsigned_abs().into())
            || (self.last && date == last)
            || (self.last_working && date == nearest_working(last))
            || (self.nearest != 0 && self.has_nearest(date))
    }

    /// Tells whether a `15W` of this month leads to the day: none is further away than two days.
    fn has_nearest(&self, date: Date) -> bool {
        (1..=31).filter(|day| bit(self.nearest.into(), *day)).any(|day| {
            let meant = i8::try_from(day).ok().and_then(|day| Date::new(date.year(), date.month(), day).ok());
            meant.is_some_and(|meant| nearest_working(meant) == date)
        })
    }

    fn has_weekday(&self, date: Date) -> bool {
        let weekday = date.weekday().to_sunday_zero_offset().unsigned_abs().into();
        let nth = usize::from((date.day() - 1).unsigned_abs() / 7);
        bit(self.weekdays.into(), weekday)
            || self.nth.get(nth).is_some_and(|days| bit((*days).into(), weekday))
            || (date.day() + 7 > date.days_in_month() && bit(self.last_of.into(), weekday))
    }
}

/// Returns the day from Monday to Friday that is nearest to a day without leaving its month.
fn nearest_working(date: Date) -> Date {
    let by = match date.weekday() {
        Weekday::Saturday if date.day() > 1 => -1,
        Weekday::Saturday => 2,
        Weekday::Sunday if date.day() < date.days_in_month() => 1,
        Weekday::Sunday => -2,
        _ => 0,
    };
    Date::new(date.year(), date.month(), date.day() + by).unwrap_or(date)
}

fn seconds_of(time: Time) -> u32 {
    let part = |number: i8| u32::from(number.unsigned_abs());
    part(time.hour()) * 3_600 + part(time.minute()) * 60 + part(time.second())
}

fn bit(bits: u64, number: u32) -> bool {
    bits >> number & 1 == 1
}

fn next_bit(bits: u64, from: u32) -> Option<u32> {
    let rest = if from < 64 { bits >> from } else { 0 };
    (rest != 0).then(|| from + rest.trailing_zeros())
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim();
        let expression = match trimmed.starts_with('@') {
            true => of_nickname(trimmed)?,
            false => trimmed,
        };
        let mut fields: Vec<String> = expression.split_whitespace().map(str::to_uppercase).collect();
        if fields.len() == 5 {
            fields.insert(0, "0".to_owned());
        }
        if fields.len() != 6 || text.len() > LONGEST {
            let count = expression.split_whitespace().count();
            let help = (count == 7).then(|| "leave out the year; for one moment use `at:`".to_owned());
            let fields = if count == 1 { "field" } else { "fields" };
            return Err(PatternError { why: format!("it has {count} {fields}, not five or six"), help });
        }
        for (place, field) in fields.iter().enumerate() {
            check_field(place, field)?;
        }
        let cron = cron::Cron::from_str(&fields.join(" ")).map_err(|error| {
            // The parser's texts are layered, `Component error: Number out of bounds.`: the last part says it.
            let why = error.to_string().to_lowercase();
            let why = why.rsplit("error: ").next().unwrap_or_default().trim_end_matches('.').replace('"', "`");
            PatternError { why, help: None }
        })?;
        Ok(Self::of_parsed(trimmed.into(), &cron.pattern))
    }
}

impl Pattern {
    /// Keeps what a pattern says in a few words: the parser's own form takes kilobytes each.
    fn of_parsed(text: Arc<str>, parsed: &cron::CronPattern) -> Self {
        let mask = |values: Vec<u16>| {
            values.into_iter().fold(0_u64, |mask, value| mask | 1_u64.checked_shl(value.into()).unwrap_or(0))
        };
        let short = |values: Vec<u16>| u32::try_from(mask(values)).unwrap_or(u32::MAX);
        let weekdays = |marked: u8| u8::try_from(mask(parsed.days_of_week.get_set_values(marked))).unwrap_or(u8::MAX);
        let (last, working) = (parsed.days.is_feature_enabled(LAST), parsed.days.is_feature_enabled(NEAREST));
        let days = Days {
            dates: short(parsed.days.values()),
            last: last && !working,
            last_working: last && working,
            nearest: short(parsed.days.get_set_values(NEAREST)),
            weekdays: weekdays(1),
            nth: std::array::from_fn(|nth| weekdays(2 << nth)),
            last_of: weekdays(LAST),
            any_date: parsed.is_dom_wildcard(),
            any_weekday: parsed.is_dow_wildcard(),
            both: parsed.matches_dom_and_dow(),
        };
        Self {
            text,
            seconds: mask(parsed.seconds.values()),
            minutes: mask(parsed.minutes.values()),
            hours: short(parsed.hours.values()),
            months: u16::try_from(mask(parsed.months.values())).unwrap_or(u16::MAX),
            days,
        }
    }
}

fn of_nickname(text: &str) -> Result<&'static str, PatternError> {
    if let Some((_, expression)) = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        return Ok(expression);
    }
    let help = match text.strip_prefix("@every") {
        Some(length) => Some(format!("write `every: {}`", length.trim())),
        None => crate::diag::did_you_mean(text, NICKNAMES.iter().map(|(name, _)| *name))
            .map(|near| format!("did you mean `{near}`?")),
    };
    Err(PatternError { why: "there is no such name".to_owned(), help })
}

/// Refuses what the parser takes and does not mean: names in fields of others, empty entries of lists.
fn check_field(place: usize, field: &str) -> Result<(), PatternError> {
    let fault = |why: String| Err(PatternError { why, help: None });
    if field.split(',').any(str::is_empty) {
        return fault(format!("`{field}` has an empty entry"));
    }
    let names: &[&str] = match place {
        4 => &MONTHS,
        5 => &WEEKDAYS,
        _ => &[],
    };
    let letters = field.split(|letter: char| !letter.is_alphabetic()).filter(|word| !word.is_empty());
    for word in letters {
        let marks = match place {
            3 => matches!(word, "L" | "W" | "LW"),
            5 => word == "L" || word.strip_suffix('L').is_some_and(|word| names.contains(&word)),
            _ => false,
        };
        if !marks && !names.contains(&word) {
            let field = FIELDS.get(place).copied().unwrap_or_default();
            return fault(format!("`{word}` does not belong to the {field}"));
        }
    }
    if place == 5 && field == "L" {
        let help = Some("name the weekday, e.g. `FRIL` for the last Friday of the month".to_owned());
        return Err(PatternError { why: "`L` is no weekday".to_owned(), help });
    }
    Ok(())
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Pattern({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(pattern: &str, from: &str) -> String {
        let pattern: Pattern = pattern.parse().unwrap();
        let end = jiff::civil::date(2500, 1, 1).at(0, 0, 0, 0);
        pattern.next(from.parse().unwrap(), end).map_or_else(|| "never".to_owned(), |found| found.to_string())
    }

    #[test]
    fn the_next_local_time_is_found() {
        for (pattern, from, expected) in [
            ("0 9 * * MON-FRI", "2026-01-31T00:00:00", "2026-02-02T09:00:00"),
            ("0 9 * * *", "2026-01-31T09:00:00", "2026-01-31T09:00:00"),
            ("0 9 * * *", "2026-01-31T09:00:00.5", "2026-02-01T09:00:00"),
            ("*/7 * * * *", "2026-01-31T09:57:00", "2026-01-31T10:00:00"),
            ("5-59/5 * */2 * * *", "2026-01-31T23:59:59", "2026-02-01T00:00:05"),
            ("59 59 23 31 12 *", "2026-01-01T00:00:00", "2026-12-31T23:59:59"),
            ("0 0 29 2 *", "2097-01-01T00:00:00", "2104-02-29T00:00:00"),
            ("0 0 30 2 *", "2026-01-01T00:00:00", "never"),
            // Both restricted: one suffices; `+` asks for both.
            ("0 0 13 * FRI", "2026-02-02T00:00:00", "2026-02-06T00:00:00"),
            ("0 0 13 * +FRI", "2026-02-14T00:00:00", "2026-03-13T00:00:00"),
            ("0 0 29 2 +MON", "2097-01-01T00:00:00", "2112-02-29T00:00:00"),
            ("0 0 L * *", "2026-02-02T00:00:00", "2026-02-28T00:00:00"),
            ("0 0 LW * *", "2026-02-02T00:00:00", "2026-02-27T00:00:00"),
            ("0 0 1W * *", "2026-08-01T00:00:00", "2026-08-03T00:00:00"),
            ("0 0 31W * *", "2026-05-01T00:00:00", "2026-05-29T00:00:00"),
            ("0 0 31W * *", "2026-06-01T00:00:00", "2026-07-31T00:00:00"),
            ("0 0 * * MON#2", "2026-02-02T00:00:00", "2026-02-09T00:00:00"),
            ("0 0 * * FRIL", "2026-02-02T00:00:00", "2026-02-27T00:00:00"),
            ("0 0 * * 7", "2026-02-02T00:00:00", "2026-02-08T00:00:00"),
            ("0 0 * * SAT-SUN", "2026-02-02T00:00:00", "2026-02-07T00:00:00"),
            ("0 0 ? jan-mar mon", "2026-02-03T00:00:00", "2026-02-09T00:00:00"),
            ("@daily", "2026-02-03T00:00:01", "2026-02-04T00:00:00"),
            ("@WEEKLY", "2026-02-03T00:00:01", "2026-02-08T00:00:00"),
        ] {
            assert_eq!(next(pattern, from), expected, "{pattern} from {from}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_and_says_why() {
        for (pattern, why) in [
            ("", "it has 0 fields, not five or six"),
            ("0 9 * *", "it has 4 fields, not five or six"),
            ("0 0 9 * * * 2026", "it has 7 fields, not five or six"),
            ("61 9 * * *", "number out of bounds"),
            ("0 22-2 * * *", "range out of bounds"),
            ("1,,2 * * * *", "`1,,2` has an empty entry"),
            ("0 MON * * *", "`MON` does not belong to the hours"),
            ("0 0 * MON *", "`MON` does not belong to the months"),
            ("0 0 * * MONDAY", "`MONDAY` does not belong to the weekdays"),
            ("0 0 L L *", "`L` does not belong to the months"),
            ("0 0 * * L", "`L` is no weekday"),
            ("0 0 * * MON#6", "nth specifier out of bounds"),
            ("*/0 * * * *", "step cannot be zero"),
            ("@reboot", "there is no such name"),
            ("@every 5m", "there is no such name"),
        ] {
            assert_eq!(pattern.parse::<Pattern>().unwrap_err().why, why, "{pattern}");
        }
        let help = |pattern: &str| pattern.parse::<Pattern>().unwrap_err().help.unwrap_or_default();
        assert_eq!(help("@every 5m"), "write `every: 5m`");
        assert_eq!(help("@dayly"), "did you mean `@daily`?");
    }

    #[test]
    fn patterns_that_never_fire_are_known() {
        let fires = |pattern: &str| pattern.parse::<Pattern>().unwrap().fires();
        assert!(!fires("0 0 30 2 *") && !fires("0 0 31 4,6,9,11 *"));
        assert!(fires("0 0 29 2 *") && fires("0 0 29 2 +SUN") && fires("0 0 30 2 MON"));
    }

    #[test]
    fn the_compact_days_are_the_parsers_days() {
        let patterns = [
            "0 0 1,15 * *",
            "0 0 L * *",
            "0 0 LW * *",
            "0 0 15W * *",
            "0 0 1W,31W * *",
            "0 0 L,10W * *",
            "0 0 * * MON#1",
            "0 0 * * TUE#5",
            "0 0 * * FRIL",
            "0 0 13 * FRI",
            "0 0 13 * +FRI",
            "0 0 */2 * 1",
            "0 0 1-7 * +7",
            "0 0 * * 0-3#2",
            "0 0 31 * 2,FRIL",
        ];
        for text in patterns {
            let pattern: Pattern = text.parse().unwrap();
            let parsed = cron::Cron::from_str(text).unwrap().pattern;
            let mut date = jiff::civil::date(2026, 1, 1);
            while date.year() < 2029 {
                let (month, day) = (u32::from(date.month().unsigned_abs()), u32::from(date.day().unsigned_abs()));
                let weekday =
                    cron::Weekday::from_days_from_sunday(date.weekday().to_sunday_zero_offset().unsigned_abs().into());
                let theirs = parsed.day_match(date.year().into(), month, day, weekday).unwrap();
                assert_eq!(pattern.days.has(date), theirs, "{text} on {date}");
                date = date.tomorrow().unwrap();
            }
        }
    }
}
