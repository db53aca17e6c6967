//! The way of a cron pattern through a zone's time: what fires, what is moved, what is passed over.
//!
//! A zone's time is cut into stretches, from one clock change to the next. Within a stretch local time and time go at the
//! same pace, so that the moments of a pattern come in their order there, also where a clock change shows a local time
//! twice or never.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::tz::TimeZone;

use super::calendar::Calendar;
use super::dst::Dst;
use super::dst::Missing;
use super::dst::Moved;
use super::dst::Repeated;
use super::dst::Why;
use super::pattern::Pattern;

/// The calendar repeats after so many seconds, weekdays included: a pattern that is silent for as long never fires.
const CYCLE: i64 = 146_097 * 86_400;

/// The time between two clock changes.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// Its first moment, and the offset before; nothing when it has always been so.
    start: Option<(Timestamp, Offset)>,
    offset: Offset,
    /// The first moment behind it, and the offset from there.
    end: Option<(Timestamp, Offset)>,
}

/// What the walk meets.
#[derive(Clone, Debug)]
pub(super) struct Met {
    pub(super) at: Timestamp,
    /// The local time that the pattern names.
    pub(super) named: DateTime,
    pub(super) offset: Offset,
    pub(super) fate: Fate,
    /// Where the walk goes on.
    resume: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Fires(Option<Moved>),
    /// One for all times of the pattern in the same hour that is missing or repeated, and on the same closed day.
    PassedOver(Why),
}

/// Goes through what a pattern names, in the order of time.
#[derive(Debug)]
pub(super) struct Walk<'s> {
    pattern: &'s Pattern,
    zone: &'s TimeZone,
    dst: Dst,
    calendar: Option<&'s Calendar>,
    /// The earliest moment that comes into question.
    at: Timestamp,
    horizon: Timestamp,
    stretch: Option<Stretch>,
    /// The clock change whose missing times have been told as passed over.
    told: Option<Timestamp>,
}

impl<'s> Walk<'s> {
    /// Starts behind a moment.
    pub(super) fn new(
        pattern: &'s Pattern,
        zone: &'s TimeZone,
        dst: Dst,
        calendar: Option<&'s Calendar>,
        after: Timestamp,
    ) -> Self {
        let at = second(after.as_second().saturating_add(if after.subsec_nanosecond() < 0 { 0 } else { 1 }));
        let mut horizon = second(at.as_second().saturating_add(CYCLE));
        if let Some(end) = calendar.and_then(Calendar::end) {
            // Two days behind its end, no zone is at that day any more.
            let days =
                Offset::UTC.to_timestamp(end.at(0, 0, 0, 0)).map_or(Timestamp::MIN, |end| later(end, 3 * 86_400));
            horizon = horizon.min(days);
        }
        Self { pattern, zone, dst, calendar, at, horizon, stretch: None, told: None }
    }

    fn stretch(&mut self) -> Stretch {
        let within = |stretch: &Stretch| {
            stretch.start.is_none_or(|(start, _)| start <= self.at) && stretch.end.is_none_or(|(end, _)| self.at < end)
        };
        if let Some(stretch) = self.stretch.filter(within) {
            return stretch;
        }
        let offset_at = |moment: Timestamp| self.zone.to_offset(moment);
        // Changes are in whole seconds, so the one at this moment is before the next second.
        let start = self.zone.preceding(later(self.at, 1)).next().map(|change| change.timestamp());
        let end = self.zone.following(self.at).next().map(|change| (change.timestamp(), change.offset()));
        let start = start.map(|start| (start, offset_at(later(start, -1))));
        let stretch = Stretch { start, offset: offset_at(self.at), end };
        self.stretch = Some(stretch);
        stretch
    }

    /// Returns the first named time of a stretch that is not before `self.at`.
    fn named(&self, stretch: &Stretch) -> Option<Met> {
        let offset = stretch.offset;
        let mut from = offset.to_datetime(self.at);
        let until = offset.to_datetime(stretch.end.map_or(self.horizon, |(end, _)| end.min(self.horizon)));
        let named = self.pattern.next(from, until)?;
        let at = offset.to_timestamp(named).ok()?;
        let met = |fate, resume| Some(Met { at, named, offset, fate, resume });
        if self.closed(named) {
            from = named.date().tomorrow().ok()?.at(0, 0, 0, 0);
            return met(Fate::PassedOver(Why::Closed), offset.to_timestamp(from.min(until)).ok()?);
        }
        let next = later(at, 1);
        // The local time was shown before the change at the start, if the clock went back then.
        if let Some((start, before)) = stretch.start
            && before.seconds() > offset.seconds()
            && named < before.to_datetime(start)
        {
            return match self.dst.repeated {
                Repeated::First => {
                    met(Fate::PassedOver(Why::Repeated), later(start, before.seconds() - offset.seconds()))
                }
                Repeated::Last | Repeated::Both => met(Fate::Fires(Some(Moved::Second)), next),
            };
        }
        // It will be shown again behind the end.
        if let Some((end, after)) = stretch.end
            && after.seconds() < offset.seconds()
            && named >= after.to_datetime(end)
        {
            return match self.dst.repeated {
                Repeated::Last => met(Fate::PassedOver(Why::Repeated), end),
                Repeated::First | Repeated::Both => met(Fate::Fires(Some(Moved::First)), next),
            };
        }
        met(Fate::Fires(None), next)
    }

    /// Returns the first time that the clock jumped over at the start of a stretch.
    fn missing(&self, stretch: &Stretch) -> Option<Met> {
        let (start, before) = stretch.start.filter(|(_, before)| before.seconds() < stretch.offset.seconds())?;
        // As the clock would have gone on.
        let mut from = before.to_datetime(self.at);
        let until = stretch.offset.to_datetime(start);
        loop {
            let named = self.pattern.next(from, until)?;
            if self.closed(named) {
                from = named.date().tomorrow().ok()?.at(0, 0, 0, 0);
                continue;
            }
            let at = before.to_timestamp(named).ok().filter(|at| *at < self.horizon)?;
            let (offset, resume) = (stretch.offset, later(at, 1));
            return match self.dst.missing {
                Missing::Shift => {
                    Some(Met { at, named, offset, fate: Fate::Fires(Some(Moved::Missing { named })), resume })
                }
                Missing::Skip => (self.at == start && self.told != Some(start)).then_some(Met {
                    at: start,
                    named,
                    offset,
                    fate: Fate::PassedOver(Why::Missing),
                    resume: start,
                }),
            };
        }
    }

    fn closed(&self, named: DateTime) -> bool {
        self.calendar.is_some_and(|calendar| !calendar.allows(named.date()))
    }
}

impl Iterator for Walk<'_> {
    type Item = Met;

    fn next(&mut self) -> Option<Met> {
        loop {
            if self.at >= self.horizon {
                return None;
            }
            let stretch = self.stretch();
            let met = match (self.named(&stretch), self.missing(&stretch)) {
                (Some(named), Some(missing)) => Some(earlier(named, missing)),
                (named, missing) => named.or(missing),
            };
            if let Some(met) = met {
                if let Fate::PassedOver(Why::Missing) = met.fate {
                    self.told = Some(met.at);
                }
                self.at = met.resume;
                return Some(met);
            }
            self.at = stretch.end?.0;
        }
    }
}

/// Returns which of both is met first. At the same moment there is one firing, and it was not moved.
fn earlier(named: Met, missing: Met) -> Met {
    match (named.fate, missing.fate) {
        (_, Fate::PassedOver(_)) => missing,
        (Fate::PassedOver(_), Fate::Fires(_)) if missing.at < named.resume => missing,
        _ if missing.at < named.at => missing,
        _ => named,
    }
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(if second < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

fn later(moment: Timestamp, seconds: i32) -> Timestamp {
    second(moment.as_second().saturating_add(seconds.into()))
}
