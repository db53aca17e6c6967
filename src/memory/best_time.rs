//! When to publish next: the moments that are allowed, and which of them the bandit takes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;

use super::bandit;
use super::bandit::Arm;
use super::bandit::Belief;
use super::bandit::Pull;
use super::measured::Measured;
use super::measured::is_weekend;
use crate::model::Duration;
use crate::model::Timestamp;
use crate::system::Random;

/// It is looked ahead no further.
pub const FURTHEST: Duration = Duration::from_secs(62 * 86_400);
/// What format a post has that says none.
pub const PLAIN: &str = "post";
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// A part of every day in which nothing is published, as `22:00-07:00`; in minutes of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    from: u16,
    to: u16,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The audience's.
    pub zone: TimeZone,
    pub after: Timestamp,
    /// How long after that at the latest.
    pub within: Duration,
    pub quiet: Vec<Quiet>,
    /// One of these; `post` where there are none.
    pub formats: Vec<String>,
    /// How far from other posts of the account.
    pub spacing: Duration,
    /// When those are.
    pub taken: Vec<Timestamp>,
}

/// The moment that was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    pub at: Timestamp,
    pub arm: Arm,
    pub expected: f64,
    pub sampled: f64,
    pub explored: bool,
    /// What could have been chosen, the most promising first.
    pub arms: Vec<(Arm, Belief)>,
}

/// A moment at which something may be published: the first of an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub at: Timestamp,
    pub hour: u8,
    pub weekend: bool,
}

/// Why a text is no part of the day.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a part of the day such as `22:00-07:00`, found `{0}`")]
pub struct ParseQuietError(String);

impl FromStr for Quiet {
    type Err = ParseQuietError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseQuietError(text.to_owned());
        let minutes = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let (hours, minutes) = (hours.parse::<u16>().ok()?, minutes.parse::<u16>().ok()?);
            let whole_day = hours == 24 && minutes == 0;
            (whole_day || (hours < 24 && minutes < 60)).then_some(hours * 60 + minutes)
        };
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let (from, to) = (minutes(from).ok_or_else(wrong)?, minutes(to).ok_or_else(wrong)?);
        // Who says the same twice means nothing or all.
        if from == to { Err(wrong()) } else { Ok(Self { from, to }) }
    }
}

impl Quiet {
    /// Tells whether a minute of the day is in it; the last minute is not.
    fn holds(self, minute: u16) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

impl fmt::Display for Quiet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(formatter, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

/// Lists the moments that are allowed: of each hour of the audience's clocks the first minute that is neither quiet nor too
/// near another post. An hour that a clock change shows twice is there twice, one that it passes over never.
#[must_use]
pub fn slots(wish: &Wish) -> Vec<Slot> {
    let end = wish.after.plus(wish.within.min(FURTHEST));
    let mut found = Vec::new();
    let mut begin = wish.after;
    while begin <= end {
        let local = begin.to_jiff().to_zoned_datetime(wish.zone.clone());
        let into_hour = u64::try_from(i64::from(local.minute()) * 60 + i64::from(local.second())).unwrap_or_default();
        let into_hour = into_hour * 1_000_000 + u64::try_from(local.subsec_nanosecond() / 1_000).unwrap_or_default();
        // A clock change may come within the hour, and then it ends so much earlier.
        let next = begin.plus(Duration::from_micros(HOUR.micros().saturating_sub(into_hour).max(1)));
        let mut at = begin;
        while at < next && at <= end {
            if is_free(wish, at) {
                let then = at.to_jiff().to_zoned_datetime(wish.zone.clone());
                let hour = u8::try_from(then.hour()).unwrap_or_default();
                found.push(Slot { at, hour, weekend: is_weekend(then.weekday()) });
                break;
            }
            at = at.plus(MINUTE);
        }
        begin = next;
    }
    found
}

fn is_free(wish: &Wish, at: Timestamp) -> bool {
    let near = |other: &Timestamp| at.micros().abs_diff(other.micros()) < wish.spacing.micros();
    if wish.taken.iter().any(near) {
        return false;
    }
    let local = at.to_jiff().to_zoned_datetime(wish.zone.clone());
    let minute = u16::try_from(i64::from(local.hour()) * 60 + i64::from(local.minute())).unwrap_or_default();
    !wish.quiet.iter().any(|quiet| quiet.holds(minute))
}

/// Makes of posts what the bandit learns from.
#[must_use]
pub fn pulls(posts: &[Measured], now: Timestamp) -> Vec<Pull> {
    let pull = |post: &Measured| {
        let format = post.labels.get("format").cloned().unwrap_or_else(|| PLAIN.to_owned());
        let arm = Arm { hour: post.hour, weekend: post.is_weekend(), format };
        Some(Pull { arm, reward: post.reward?, age: now.since(post.published_at) })
    };
    posts.iter().filter_map(pull).collect()
}

/// Chooses when to publish, and in which format. Nothing where no moment is allowed.
#[must_use]
pub fn best_time(wish: &Wish, pulls: &[Pull], random: &Random) -> Option<Chosen> {
    let plain = [PLAIN.to_owned()];
    let formats = if wish.formats.is_empty() { &plain } else { wish.formats.as_slice() };
    // Of an arm the first moment: the sooner it is known, the better.
    let mut first: BTreeMap<Arm, Timestamp> = BTreeMap::new();
    for slot in slots(wish) {
        for format in formats {
            let arm = Arm { hour: slot.hour, weekend: slot.weekend, format: format.clone() };
            first.entry(arm).or_insert(slot.at);
        }
    }
    let arms: Vec<(Arm, Timestamp)> = first.into_iter().collect();
    let beliefs: Vec<Belief> = arms.iter().map(|(arm, _)| bandit::belief(arm, pulls)).collect();
    let choice = bandit::choose(&beliefs, random)?;
    let (arm, at) = arms.get(choice.arm)?.clone();
    let expected = beliefs.get(choice.arm)?.expected();
    let mut told: Vec<(Arm, Belief)> = arms.into_iter().map(|(arm, _)| arm).zip(beliefs).collect();
    told.sort_by(|(_, one), (_, other)| other.expected().total_cmp(&one.expected()));
    Some(Chosen { at, arm, expected, sampled: choice.sampled, explored: choice.explored, arms: told })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moment(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn wish(zone: &str, after: &str, hours: u64, quiet: &[&str]) -> Wish {
        Wish {
            zone: TimeZone::get(zone).unwrap(),
            after: moment(after),
            within: Duration::from_secs(hours * 3_600),
            quiet: quiet.iter().map(|text| text.parse().unwrap()).collect(),
            formats: Vec::new(),
            spacing: Duration::from_secs(3 * 3_600),
            taken: Vec::new(),
        }
    }

    fn times(wish: &Wish) -> Vec<String> {
        slots(wish).iter().map(|slot| format!("{} {}", slot.at, slot.hour)).collect()
    }

    #[test]
    fn quiet_parts_of_the_day_are_read() {
        for text in ["22:00-07:00", "00:00-06:30", "12:00-24:00"] {
            assert_eq!(text.parse::<Quiet>().unwrap().to_string(), text);
        }
        for text in ["", "22-7", "22:00", "25:00-07:00", "22:60-07:00", "07:00-07:00", "24:30-07:00"] {
            assert!(text.parse::<Quiet>().is_err(), "{text}");
        }
    }

    #[test]
    fn moments_keep_out_of_quiet_hours_and_their_distance() {
        let quiet = wish("UTC", "2026-03-02T05:20:00Z", 4, &["22:00-07:30"]);
        assert_eq!(times(&quiet), ["2026-03-02T07:30:00Z 7", "2026-03-02T08:00:00Z 8", "2026-03-02T09:00:00Z 9"]);
        let spaced = Wish { taken: vec![moment("2026-03-02T06:10:00Z")], ..quiet };
        assert_eq!(times(&spaced), ["2026-03-02T09:10:00Z 9"]);
        let full = wish("UTC", "2026-03-02T05:20:00Z", 2, &["00:00-24:00"]);
        assert_eq!(times(&full), [""; 0]);
        assert_eq!(best_time(&full, &[], &Random::seeded(1)), None);
    }

    #[test]
    fn hours_are_those_of_the_audiences_clocks_through_clock_changes() {
        // 02:00 does not exist in Berlin on this day.
        let spring = wish("Europe/Berlin", "2026-03-28T23:30:00Z", 4, &[]);
        let hours: Vec<u8> = slots(&spring).iter().map(|slot| slot.hour).collect();
        assert_eq!(hours, [0, 1, 3, 4, 5]);
        // 02:00 is there twice.
        let autumn = wish("Europe/Berlin", "2026-10-24T23:00:00Z", 3, &[]);
        let hours: Vec<u8> = slots(&autumn).iter().map(|slot| slot.hour).collect();
        assert_eq!(hours, [1, 2, 2, 3]);
        // Half an hour is passed over here, and the time beside UTC is no whole hour.
        let island = wish("Australia/Lord_Howe", "2026-10-03T14:45:00Z", 3, &[]);
        let hours: Vec<u8> = slots(&island).iter().map(|slot| slot.hour).collect();
        assert_eq!(hours, [1, 2, 3, 4]);
        let quiet = wish("Europe/Berlin", "2026-03-28T23:30:00Z", 5, &["00:00-05:00"]);
        assert_eq!(times(&quiet), ["2026-03-29T03:00:00Z 5", "2026-03-29T04:00:00Z 6"]);
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_always_allowed(
            start in 1_700_000_000_i64..1_900_000_000,
            minutes in 0_u64..5_000,
            quiet in prop::collection::vec((0_u16..1_440, 0_u16..1_440), 0..3),
            taken in prop::collection::vec(0_u64..5_000, 0..6),
            spacing in 0_u64..300,
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
            formats in prop::collection::vec("[a-c]", 0..3),
            rewards in prop::collection::vec((0_u8..24, any::<bool>(), 0.0_f64..1.0), 0..20),
            seed: u64,
        ) {
            let after = Timestamp(start * 1_000_000);
            let minute = |minute: u64| Duration::from_secs(minute * 60);
            let quiet: Vec<Quiet> =
                quiet.into_iter().filter(|(from, to)| from != to).map(|(from, to)| Quiet { from, to }).collect();
            let wish = Wish {
                zone: TimeZone::get(zone).unwrap(),
                after,
                within: minute(minutes),
                quiet: quiet.clone(),
                formats: formats.clone(),
                spacing: minute(spacing),
                taken: taken.into_iter().map(|at| after.plus(minute(at))).collect(),
            };
            let pulls: Vec<Pull> = rewards
                .into_iter()
                .map(|(hour, weekend, reward)| Pull {
                    arm: Arm { hour, weekend, format: PLAIN.to_owned() },
                    reward,
                    age: Duration::ZERO,
                })
                .collect();
            let chosen = best_time(&wish, &pulls, &Random::seeded(seed));
            prop_assert_eq!(&chosen, &best_time(&wish, &pulls, &Random::seeded(seed)), "a function of the seed");
            let Some(chosen) = chosen else {
                // Nothing is chosen only where nothing is free for a whole minute.
                let free = |seconds: u64| is_free(&wish, after.plus(Duration::from_secs(seconds)));
                let found = (0..minutes).find(|at| (0..=6).all(|step| free(at * 60 + step * 10)));
                prop_assert_eq!(found, None, "a free moment was not found");
                return Ok(());
            };
            prop_assert!(chosen.at >= after && chosen.at <= after.plus(wish.within));
            for other in &wish.taken {
                prop_assert!(chosen.at.micros().abs_diff(other.micros()) >= wish.spacing.micros());
            }
            let local = chosen.at.to_jiff().to_zoned_datetime(wish.zone);
            let time = u16::try_from(local.hour()).unwrap() * 60 + u16::try_from(local.minute()).unwrap();
            prop_assert!(!quiet.iter().any(|quiet| quiet.holds(time)));
            prop_assert_eq!(chosen.arm.hour, u8::try_from(local.hour()).unwrap());
            prop_assert!(formats.is_empty() || formats.contains(&chosen.arm.format));
            prop_assert!((0.0..=1.0).contains(&chosen.expected) && (0.0..=1.0).contains(&chosen.sampled));
        }
    }

    /// An audience that likes one hour and one format of working days best, another hour at the end of the week.
    fn taste(arm: &Arm, noise: f64) -> f64 {
        let best = if arm.weekend { 11_i16 } else { 18 };
        let distance = (i16::from(arm.hour) - best).abs().min(24 - (i16::from(arm.hour) - best).abs());
        let hour = 1.0 + 1.6 * (-f64::from(distance * distance) / 6.0).exp();
        let format = if arm.format == "thread" { 1.25 } else { 1.0 };
        0.02 * hour * format * (1.0 + 0.35 * (noise - 0.5))
    }

    struct Played {
        regret: Vec<f64>,
        near: usize,
    }

    type Rule = dyn Fn(&Wish, &[Pull], &Random) -> Option<Chosen>;

    /// Publishes twice a day for some days, by a rule, and notes what each post cost against the best moment.
    fn play(seed: u64, days: u64, rule: &Rule) -> Played {
        let random = Random::seeded(seed);
        let start = moment("2026-02-02T00:00:00Z");
        let mut history: Vec<(Arm, f64, Timestamp)> = Vec::new();
        let mut played = Played { regret: Vec::new(), near: 0 };
        for day in 0..days {
            let mut taken = Vec::new();
            for _ in 0..2 {
                let now = start.plus(Duration::from_secs(day * 86_400));
                let wish = Wish {
                    formats: vec!["post".to_owned(), "thread".to_owned()],
                    taken: taken.clone(),
                    spacing: Duration::from_secs(3_600),
                    ..wish("UTC", &now.to_string(), 23, &[])
                };
                let rates: Vec<f64> = history.iter().map(|(_, rate, _)| *rate).collect();
                let rewards = super::super::measured::rewards(&rates);
                let pulls: Vec<Pull> = history
                    .iter()
                    .zip(rewards)
                    .map(|((arm, _, at), reward)| Pull { arm: arm.clone(), reward, age: now.since(*at) })
                    .collect();
                let chosen = rule(&wish, &pulls, &random).unwrap();
                let best = taste(
                    &Arm {
                        hour: if chosen.arm.weekend { 11 } else { 18 },
                        format: "thread".to_owned(),
                        ..chosen.arm.clone()
                    },
                    0.5,
                );
                played.regret.push(1.0 - taste(&chosen.arm, 0.5) / best);
                if day >= days - 20 && chosen.arm.hour.abs_diff(if chosen.arm.weekend { 11 } else { 18 }) <= 2 {
                    played.near += 1;
                }
                taken.push(chosen.at);
                history.push((chosen.arm.clone(), taste(&chosen.arm, random.fraction()), chosen.at));
            }
        }
        played
    }

    #[test]
    fn it_finds_the_hour_that_the_audience_likes() {
        let sum = |played: &Played, days: std::ops::Range<usize>| -> f64 {
            played.regret[days.start * 2..days.end * 2].iter().sum()
        };
        let (mut learned, mut early, mut late, mut near, mut chance, mut fixed) = (0.0, 0.0, 0.0, 0, 0.0, 0.0);
        for seed in 0..6 {
            let bandit = play(seed, 90, &best_time);
            let random = play(seed, 90, &|wish, _, random| best_time(wish, &[], random));
            let noon = play(seed, 90, &|wish, pulls, random| {
                let hour = slots(wish).into_iter().find(|slot| slot.hour == 12 || slot.hour == 14)?;
                let arm = Arm { hour: hour.hour, weekend: hour.weekend, format: "post".to_owned() };
                Some(Chosen { at: hour.at, arm, ..best_time(wish, pulls, random)? })
            });
            learned += sum(&bandit, 0..90);
            early += sum(&bandit, 0..20);
            late += sum(&bandit, 70..90);
            near += bandit.near;
            chance += sum(&random, 0..90);
            fixed += sum(&noon, 0..90);
        }
        let told = format!(
            "learned {learned:.0}, chance {chance:.0}, fixed {fixed:.0}; first 20 days {early:.0}, last {late:.0}; near {near} of 240"
        );
        assert!(learned < 0.45 * chance && learned < 0.45 * fixed, "{told}");
        assert!(late < 0.6 * early, "regret grows ever slower: {told}");
        assert!(near > 190, "{told}");
    }
}
