//! Calendars: the days on which a schedule fires.

use std::sync::Arc;

use jiff::civil::Date;
use jiff::civil::Weekday;

use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Position;
use crate::diag::Span;
use crate::diag::did_you_mean;
use crate::yaml;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// The days on which a schedule fires. A pure value: it says for a local date whether it is one of them.
///
/// A file is YAML with `on` (`every-day`, `weekdays`, `weekends`; where it is not given: `every-day`, or no day when there
/// is `open`), `closed` (days taken away) and `open` (days added); or plain lines with one closed day each. A day is
/// `2026-12-25`, a range `2026-12-24..2026-12-26` with both its ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    on: On,
    /// Sorted, without overlaps.
    closed: Vec<Days>,
    open: Vec<Days>,
}

/// The days to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    EveryDay,
    Weekdays,
    Weekends,
    None,
}

/// From the first day to the last, both included.
type Days = (Date, Date);

/// The calendars that need no file.
pub const BUILT_IN: [&str; 2] = ["weekdays", "weekends"];

const KEYS: [&str; 3] = ["on", "closed", "open"];
const WORDS: [&str; 3] = ["every-day", "weekdays", "weekends"];

impl Calendar {
    /// Returns the built-in calendar of this name.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        let on = match name {
            "weekdays" => On::Weekdays,
            "weekends" => On::Weekends,
            _ => return None,
        };
        Some(Self { on, closed: Vec::new(), open: Vec::new() })
    }

    /// Tells whether a schedule fires on this day.
    #[must_use]
    pub fn allows(&self, date: Date) -> bool {
        if among(&self.closed, date) {
            return false;
        }
        let weekend = matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
        let usual = match self.on {
            On::EveryDay => true,
            On::Weekdays => !weekend,
            On::Weekends => weekend,
            On::None => false,
        };
        usual || among(&self.open, date)
    }

    /// Returns the last day that it knows to be open, where it ends: a list of sessions does.
    #[must_use]
    pub fn end(&self) -> Option<Date> {
        match self.on {
            On::None => Some(self.open.last().map_or(Date::MIN, |(_, last)| *last)),
            _ => None,
        }
    }

    /// Reads the text of a calendar's file. A text without errors gives a calendar.
    #[must_use]
    pub fn parse(file: &Arc<str>, text: &str) -> (Option<Self>, Vec<Diagnostic>) {
        let mut faults = Vec::new();
        let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let (on, closed, open) = if first.is_some_and(|line| line.starts_with(|letter: char| letter.is_ascii_digit())) {
            (On::EveryDay, plain(file, text, &mut faults), Vec::new())
        } else {
            match read(file, text, &mut faults) {
                Some(parts) => parts,
                None => return (None, faults),
            }
        };
        for (days, span) in &open {
            if closed.iter().any(|(other, _)| days.0 <= other.1 && other.0 <= days.1) {
                let message = format!("`{}` is both open and closed", shown(*days));
                faults.push(Diagnostic::error(Code::BadTime, span.clone(), message));
            }
        }
        let calendar = Self { on, closed: merged(closed), open: merged(open) };
        (faults.is_empty().then_some(calendar), faults)
    }
}

type Placed = Vec<(Days, Span)>;

fn plain(file: &Arc<str>, text: &str, faults: &mut Vec<Diagnostic>) -> Placed {
    let mut found = Vec::new();
    let mut offset = 0;
    for (number, line) in (1..).zip(text.split('\n')) {
        let code = line.split('#').next().unwrap_or_default();
        let days = code.trim();
        let before = code.len() - code.trim_start().len();
        let at = |bytes: usize, columns: &str| Position {
            line: number,
            column: u32::try_from(columns.chars().count()).unwrap_or(u32::MAX).saturating_add(1),
            offset: offset + bytes,
        };
        let span = Span {
            file: file.clone(),
            start: at(before, code.get(..before).unwrap_or_default()),
            end: at(before + days.len(), code.trim_end()),
        };
        if !days.is_empty() {
            take(days, span, &mut found, faults);
        }
        offset += line.len() + 1;
    }
    found
}

fn read(file: &Arc<str>, text: &str, faults: &mut Vec<Diagnostic>) -> Option<(On, Placed, Placed)> {
    let (tree, found) = yaml::parse(file, text);
    faults.extend(found);
    let tree = tree?;
    if !matches!(tree.kind, TreeKind::Mapping(_)) {
        let message = format!("expected `on`, `closed` and `open`, found {}", tree.describe());
        faults.push(Diagnostic::error(Code::WrongType, line_of(&tree), message));
        return None;
    }
    for entry in tree.entries() {
        if !KEYS.contains(&&*entry.key) {
            let fault =
                Diagnostic::error(Code::UnknownKey, entry.key_span.clone(), format!("unknown key `{}`", entry.key));
            faults.push(match did_you_mean(&entry.key, KEYS) {
                Some(near) => fault.with_help(format!("did you mean `{near}`?")),
                None => fault.with_help("known here: `on`, `closed`, `open`"),
            });
        }
    }
    let mut list = |key: &str| {
        let mut found = Vec::new();
        let Some(tree) = tree.get(key) else { return found };
        if !matches!(tree.kind, TreeKind::Sequence(_)) {
            let message = format!("expected a list of days, found {}", tree.describe());
            faults.push(Diagnostic::error(Code::WrongType, line_of(tree), message));
        }
        for item in tree.items() {
            match item.as_text() {
                Some(text) => take(text, item.span.clone(), &mut found, faults),
                None => faults.push(bad_day(&item.describe().to_string(), line_of(item))),
            }
        }
        found
    };
    let (closed, open) = (list("closed"), list("open"));
    let on = match tree.get("on") {
        None if tree.get("open").is_some() => On::None,
        None => On::EveryDay,
        Some(word) => match word.as_text() {
            Some("every-day") => On::EveryDay,
            Some("weekdays") => On::Weekdays,
            Some("weekends") => On::Weekends,
            other => {
                let message = format!("expected one of `every-day`, `weekdays`, `weekends`, found {}", word.describe());
                let mut fault = Diagnostic::error(Code::WrongType, line_of(word), message);
                let near = other.and_then(|text| did_you_mean(text, WORDS));
                fault.help = near.map(|near| format!("did you mean `{near}`?"));
                faults.push(fault);
                On::EveryDay
            }
        },
    };
    Some((on, closed, open))
}

/// Returns the place of a tree, or its beginning where it has many lines.
fn line_of(tree: &Tree) -> Span {
    let span = tree.span.clone();
    if span.start.line == span.end.line { span } else { Span { end: span.start, ..span } }
}

fn take(text: &str, span: Span, found: &mut Placed, faults: &mut Vec<Diagnostic>) {
    let (first, last) = match text.split_once("..") {
        Some((first, last)) => (first.trim(), last.trim()),
        None => (text, text),
    };
    // More than a date would be taken as one: `2026-01-01T09:00`.
    let date = |text: &str| text.parse::<Date>().ok().filter(|_| text.len() == 10);
    match (date(first), date(last)) {
        (Some(first), Some(last)) if first <= last => found.push(((first, last), span)),
        (Some(_), Some(_)) => {
            faults.push(Diagnostic::error(Code::BadTime, span, format!("the range `{text}` ends before it begins")));
        }
        _ => faults.push(bad_day(&format!("`{text}`"), span)),
    }
}

fn bad_day(found: &str, span: Span) -> Diagnostic {
    let message =
        format!("expected a day such as `2026-12-25` or a range such as `2026-12-24..2026-12-26`, found {found}");
    Diagnostic::error(Code::BadTime, span, message)
}

fn shown(days: Days) -> String {
    if days.0 == days.1 { days.0.to_string() } else { format!("{}..{}", days.0, days.1) }
}

fn merged(placed: Placed) -> Vec<Days> {
    let mut days: Vec<Days> = placed.into_iter().map(|(days, _)| days).collect();
    days.sort_unstable();
    let mut merged: Vec<Days> = Vec::with_capacity(days.len());
    for (first, last) in days {
        match merged.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn among(days: &[Days], date: Date) -> bool {
    let begun = days.partition_point(|(first, _)| *first <= date);
    begun.checked_sub(1).and_then(|last| days.get(last)).is_some_and(|(_, last)| date <= *last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str, days: &[&str]) -> String {
        let (calendar, faults) = Calendar::parse(&"calendars/x.yaml".into(), text);
        assert_eq!(faults, []);
        let calendar = calendar.unwrap();
        days.iter().map(|day| if calendar.allows(day.parse().unwrap()) { 'o' } else { '-' }).collect()
    }

    #[test]
    fn a_calendar_says_which_days_are_open() {
        // Thursday to Monday.
        let days = ["2026-12-24", "2026-12-25", "2026-12-26", "2026-12-27", "2026-12-28"];
        assert_eq!(open("2026-12-25 # Christmas\n\n2026-12-26..2026-12-27\n", &days), "o---o");
        assert_eq!(open("# holidays\nclosed:\n  - 2026-12-25\n", &days), "o-ooo");
        assert_eq!(open("on: weekdays\nclosed: [2026-12-24..2026-12-25]\n", &days), "----o");
        assert_eq!(open("on: weekdays\nclosed: [2026-12-25]\nopen: [2026-12-27]\n", &days), "o--oo");
        assert_eq!(open("open: [2026-12-24, 2026-12-28]\n", &days), "o---o");
        assert_eq!(open("closed: [2026-12-24..2026-12-27, 2026-12-24, 2026-12-26]\n", &days), "----o");
        let built_in = |name| Calendar::built_in(name).unwrap();
        let is_open = |calendar: &Calendar| days.map(|day| calendar.allows(day.parse().unwrap()));
        assert_eq!(is_open(&built_in("weekdays")), [true, true, false, false, true]);
        assert_eq!(is_open(&built_in("weekends")), [false, false, true, true, false]);
    }

    #[test]
    fn what_is_wrong_in_a_calendar_has_its_place() {
        let faults = |text: &str| {
            let (calendar, faults) = Calendar::parse(&"c".into(), text);
            assert_eq!(calendar, None);
            let told = faults.iter().map(|fault| {
                let start = fault.span.start;
                format!("{}:{}-{} {}", start.line, start.column, fault.span.end.column, fault.message)
            });
            told.collect::<Vec<_>>().join("\n")
        };
        let expected = "expected a day such as `2026-12-25` or a range such as `2026-12-24..2026-12-26`, found";
        assert_eq!(faults("2026-01-01\n  2026-02-30 # no\n"), format!("2:3-13 {expected} `2026-02-30`"));
        assert_eq!(faults("closed:\n  - 2026-01-01T09:00\n"), format!("2:5-21 {expected} `2026-01-01T09:00`"));
        assert_eq!(faults("2026-02-02..2026-01-01"), "1:1-23 the range `2026-02-02..2026-01-01` ends before it begins");
        assert_eq!(faults("close: []"), "1:1-6 unknown key `close`");
        assert_eq!(faults("closed: 2026-01-01"), "1:9-19 expected a list of days, found `2026-01-01`");
        let both = "closed: [2026-01-01..2026-01-05]\nopen: [2026-01-03]";
        assert_eq!(faults(both), "2:8-18 `2026-01-03` is both open and closed");
    }
}
