//! When a time trigger is due: cron expressions, fixed distances and single moments, in any zone. No I/O and no clock.
//!
//! Each firing is a [`Slot`]. What it is called is its logical time, which neither jitter nor a late start changes.

mod bucket;
mod calendar;
mod dst;
mod missed;
mod pattern;
mod walk;

use std::fmt;
use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::tz::TimeZone;

use self::walk::Fate;
use self::walk::Met;
use self::walk::Walk;
use crate::model::Duration;
use crate::model::Timestamp;

pub use self::bucket::Bucket;
pub use self::bucket::Token;
pub use self::calendar::BUILT_IN as BUILT_IN_CALENDARS;
pub use self::calendar::Calendar;
pub use self::dst::Dst;
pub use self::dst::Missing;
pub use self::dst::Moved;
pub use self::dst::Repeated;
pub use self::dst::Why;
pub use self::missed::GRACE;
pub use self::missed::MOST_MISSED;
pub use self::missed::Missed;
pub use self::missed::Policy;
pub use self::pattern::NICKNAMES;
pub use self::pattern::Pattern;
pub use self::pattern::PatternError;

/// Where `every` counts from: Monday, 1970-01-05T00:00:00Z. So restarts change nothing, and `1w` is due on Mondays.
pub const ANCHOR: Timestamp = Timestamp(4 * 86_400_000_000);

/// One time trigger: all that decides when it is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub when: When,
    /// In which local times are read and shown, and days of the calendar begin.
    pub zone: TimeZone,
    pub dst: Dst,
    pub calendar: Option<Arc<Calendar>>,
    /// The start is put off by less than this.
    pub jitter: Duration,
    /// Pipeline and trigger: two schedules of different names get different jitter at the same time.
    pub name: Arc<str>,
}

/// What makes a schedule due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    Cron(Pattern),
    /// Whole multiples of this length after [`ANCHOR`], at least a microsecond.
    Every(Duration),
    /// Once.
    At(Timestamp),
}

/// One due firing of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The time that it stands for: with the trigger it is the slot's identity.
    pub logical: Timestamp,
    pub local: Local,
    /// When it starts: the logical time and the jitter.
    pub due: Timestamp,
    /// How a clock change touched it.
    pub moved: Option<Moved>,
}

/// A time on the clocks of a zone, shown as `2026-03-29 03:30:00 +02:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    pub time: DateTime,
    pub offset: Offset,
}

/// A local time that the pattern names and that does not fire. One for all times of a closed day, and of a clock change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedOver {
    pub named: DateTime,
    pub why: Why,
}

impl When {
    /// Returns the rules for clock changes that suit it, where nothing else is asked for.
    ///
    /// A pattern of certain hours fires once on each of its days: missing times are shifted, and of two the first fires.
    /// One of all hours goes on evenly in the night of a change: nothing is shifted, and both of two fire.
    #[must_use]
    pub fn usual_dst(&self) -> Dst {
        match self {
            Self::Cron(pattern) if pattern.is_hourly() => Dst { missing: Missing::Skip, repeated: Repeated::Both },
            _ => Dst { missing: Missing::Shift, repeated: Repeated::First },
        }
    }

    /// Returns the key of a trigger that says it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cron(_) => "cron",
            Self::Every(_) => "every",
            Self::At(_) => "at",
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(pattern) => pattern.fmt(formatter),
            Self::Every(length) => length.fmt(formatter),
            Self::At(moment) => moment.fmt(formatter),
        }
    }
}

impl Schedule {
    /// Returns the first slot whose logical time is later than a moment; nothing when it never fires again.
    ///
    /// The work is bounded: the calendar repeats after 400 years, and what does not fire in them never does.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Slot> {
        self.slots_after(after).next()
    }

    /// Returns all slots later than a moment, in the order of their logical times.
    #[must_use]
    pub fn slots_after(&self, after: Timestamp) -> Slots<'_> {
        Slots { schedule: self, after, walk: self.walk(after) }
    }

    /// Returns the slots later than `from`, up to `to` and with it.
    pub fn slots_between(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Slot> + '_ {
        self.slots_after(from).take_while(move |slot| slot.logical <= to)
    }

    /// Returns what is passed over between two moments. Only cron patterns pass over single times.
    pub fn passed_over(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = PassedOver> + '_ {
        let met = self.walk(from).into_iter().flatten();
        met.take_while(move |met| Timestamp::from_jiff(met.at) <= to).filter_map(|met| match met.fate {
            Fate::PassedOver(why) => Some(PassedOver { named: met.named, why }),
            Fate::Fires(_) => None,
        })
    }

    /// Returns the last slot that is later than `floor` and not later than `until`.
    #[must_use]
    pub fn last_between(&self, floor: Timestamp, until: Timestamp) -> Option<Slot> {
        let within = |after: Timestamp| self.next_after(after).filter(|slot| slot.logical <= until);
        // Back in growing steps until there is a slot, then forth by halves: few questions, however long the time.
        let mut step = 1_000_000_i64;
        let mut found = loop {
            let from = Timestamp(until.0.saturating_sub(step)).max(floor);
            match within(from) {
                Some(slot) => break slot,
                None if from == floor => return None,
                None => step = step.saturating_mul(4),
            }
        };
        let mut high = until;
        while found.logical < high {
            let middle = Timestamp(found.logical.0 + (high.0 - found.logical.0) / 2);
            match within(middle) {
                Some(slot) => found = slot,
                None if middle == found.logical => break,
                None => high = middle,
            }
        }
        Some(found)
    }

    fn walk(&self, after: Timestamp) -> Option<Walk<'_>> {
        match &self.when {
            When::Cron(pattern) => {
                let calendar = self.calendar.as_deref();
                Some(Walk::new(pattern, &self.zone, self.dst, calendar, after.to_jiff()))
            }
            When::Every(_) | When::At(_) => None,
        }
    }

    fn slot(&self, logical: Timestamp, local: Local, moved: Option<Moved>) -> Slot {
        Slot { logical, local, due: logical.plus(self.jitter_at(logical)), moved }
    }

    /// Returns by how much a start is put off: always the same for the same schedule and slot.
    fn jitter_at(&self, logical: Timestamp) -> Duration {
        if self.jitter == Duration::ZERO {
            return Duration::ZERO;
        }
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(self.name.as_bytes());
        context.update(&logical.0.to_be_bytes());
        let number =
            context.finish().as_ref().iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        Duration::from_micros(number % self.jitter.micros())
    }

    fn local(&self, moment: Timestamp) -> Local {
        let offset = self.zone.to_offset(moment.to_jiff());
        Local { time: offset.to_datetime(moment.to_jiff()), offset }
    }

    fn allows(&self, local: Local) -> bool {
        self.calendar.as_deref().is_none_or(|calendar| calendar.allows(local.time.date()))
    }

    /// Returns the first multiple of a length later than a moment whose day the calendar allows.
    fn next_multiple(&self, length: Duration, after: Timestamp) -> Option<Slot> {
        let length = i64::try_from(length.micros()).ok().filter(|length| *length > 0)?;
        let mut after = after.0;
        loop {
            let count = after.checked_sub(ANCHOR.0)?.div_euclid(length).checked_add(1)?;
            let moment = Timestamp(count.checked_mul(length)?.checked_add(ANCHOR.0)?);
            let local = self.local(moment);
            if self.allows(local) {
                return Some(self.slot(moment, local, None));
            }
            let tomorrow = local.time.date().tomorrow().ok()?;
            if self.calendar.as_deref().and_then(Calendar::end).is_some_and(|end| end < tomorrow) {
                return None;
            }
            let midnight = self.zone.to_timestamp(tomorrow.at(0, 0, 0, 0)).ok()?;
            after = Timestamp::from_jiff(midnight).0.max(moment.0 + 1) - 1;
        }
    }
}

/// The slots of a schedule, in the order of their logical times.
#[derive(Debug)]
pub struct Slots<'s> {
    schedule: &'s Schedule,
    after: Timestamp,
    walk: Option<Walk<'s>>,
}

impl Iterator for Slots<'_> {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        let schedule = self.schedule;
        if let Some(walk) = &mut self.walk {
            return walk.find_map(|met| fired(schedule, &met));
        }
        let slot = match schedule.when {
            When::Every(length) => schedule.next_multiple(length, self.after),
            When::At(moment) if moment > self.after => {
                let local = schedule.local(moment);
                schedule.allows(local).then(|| schedule.slot(moment, local, None))
            }
            When::At(_) | When::Cron(_) => None,
        }?;
        self.after = slot.logical;
        Some(slot)
    }
}

fn fired(schedule: &Schedule, met: &Met) -> Option<Slot> {
    let Fate::Fires(moved) = met.fate else { return None };
    let local = Local { time: met.offset.to_datetime(met.at), offset: met.offset };
    Some(schedule.slot(Timestamp::from_jiff(met.at), local, moved))
}

impl Slot {
    /// Returns what makes the slot unique in its pipeline: the trigger and the logical time.
    #[must_use]
    pub fn key(&self, trigger: &str) -> String {
        format!("{trigger}@{}", self.logical)
    }
}

impl fmt::Display for Local {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.offset.seconds();
        let (sign, seconds) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs());
        write!(
            formatter,
            "{} {} {sign}{:02}:{:02}",
            self.time.date(),
            self.time.time(),
            seconds / 3_600,
            seconds / 60 % 60
        )
    }
}

#[cfg(test)]
mod tests;
