//! What becomes of local times that a clock change shows never or twice.

use std::fmt;

use jiff::civil::DateTime;

/// The rules of a schedule for local times that are missing or repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dst {
    pub missing: Missing,
    pub repeated: Repeated,
}

/// What becomes of a local time that does not exist, as 02:30 in the night in which the clock goes from 02:00 to 03:00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It fires at the moment at which the clock would have shown it, had it not been changed: 02:30 becomes 03:30. So it
    /// keeps its distance from what came before, and times keep their distances from one another. A time that so falls on
    /// another of the same schedule is one firing with it.
    Shift,
    /// It does not fire.
    Skip,
}

/// At which of both moments a local time fires that the clock shows twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeated {
    First,
    Last,
    Both,
}

/// How a clock change touched a firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The local time that was named does not exist.
    Missing { named: DateTime },
    /// The clock shows the local time twice; this is the first.
    First,
    /// The clock shows the local time twice; this is the second.
    Second,
}

/// Why a local time that the pattern names does not fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It does not exist on this day.
    Missing,
    /// The clock shows it twice, and it fires at the other of both.
    Repeated,
    /// The calendar does not allow the day.
    Closed,
}

impl Moved {
    /// Returns a word for machines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::First => "first",
            Self::Second => "second",
        }
    }
}

impl Why {
    /// Returns a word for machines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Repeated => "repeated",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { named } => {
                write!(formatter, "moved: {} does not exist on {}", named.time(), named.date())
            }
            Self::First => formatter.write_str("the first of two: the clock goes back"),
            Self::Second => formatter.write_str("the second of two: the clock went back"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Missing => "the clock jumps over it",
            Self::Repeated => "the clock shows it twice",
            Self::Closed => "the calendar is closed",
        })
    }
}
