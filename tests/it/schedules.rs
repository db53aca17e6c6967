//! Schedules: every clock change of every zone against a slow reference, expressions against another implementation, and
//! what the command line shows.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::tz::TimeZoneDatabase;
use pipewright::model;
use pipewright::model::Duration;
use pipewright::schedule::Dst;
use pipewright::schedule::Missing;
use pipewright::schedule::Pattern;
use pipewright::schedule::Repeated;
use pipewright::schedule::Schedule;
use pipewright::schedule::When;

use crate::support::shell::Shell;

const HOUR: i64 = 3_600;

fn schedule(cron: &str, zone: TimeZone, dst: Dst) -> Schedule {
    let when = When::Cron(cron.parse().unwrap());
    Schedule { when, zone, dst, calendar: None, jitter: Duration::ZERO, name: "x".into() }
}

/// A clock change: when, and the offsets before and after in seconds.
type Change = (i64, i64, i64);

/// Returns the clock changes of a zone from 2000 to 2040, those of the offset only.
fn changes(zone: &TimeZone) -> Vec<Change> {
    let (from, to): (Timestamp, Timestamp) =
        ("2000-01-01T00:00:00Z".parse().unwrap(), "2041-01-01T00:00:00Z".parse().unwrap());
    let mut before = i64::from(zone.to_offset(from).seconds());
    let mut found = Vec::new();
    for change in zone.following(from).take_while(|change| change.timestamp() < to) {
        let after = i64::from(change.offset().seconds());
        if after != before {
            found.push((change.timestamp().as_second(), before, after));
        }
        before = after;
    }
    found
}

/// The local clock of a change, read minute by minute.
struct Clock {
    /// What the clock shows, in seconds, with the moments at which it shows it.
    shown: BTreeMap<i64, Vec<i64>>,
    before: i64,
}

impl Clock {
    /// Reads the clock from some hours before a change until some hours after it.
    fn around((at, before, after): Change) -> Self {
        let mut shown: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let reach = 2 * HOUR + (after - before).abs();
        for moment in (at - reach..at + reach).step_by(60) {
            let offset = if moment < at { before } else { after };
            shown.entry(moment + offset).or_default().push(moment);
        }
        Self { shown, before }
    }

    /// Returns when a schedule fires by the rules as they are told to users.
    fn firings(&self, named: impl Fn(i64) -> bool, dst: Dst) -> BTreeSet<i64> {
        let mut firings = BTreeSet::new();
        let (first, last) = (*self.shown.keys().next().unwrap(), *self.shown.keys().last().unwrap());
        for local in (first..=last).step_by(60).filter(|local| named(*local)) {
            match (self.shown.get(&local).map(Vec::as_slice), dst) {
                (None, Dst { missing: Missing::Shift, .. }) => {
                    firings.insert(local - self.before);
                }
                (None, Dst { missing: Missing::Skip, .. }) => {}
                (Some([one]), _) => {
                    firings.insert(*one);
                }
                (Some([first, ..]), Dst { repeated: Repeated::First, .. }) => {
                    firings.insert(*first);
                }
                (Some([.., last]), Dst { repeated: Repeated::Last, .. }) => {
                    firings.insert(*last);
                }
                (Some(both), _) => firings.extend(both),
            }
        }
        firings
    }
}

/// Tells whether a local time, in seconds, is one of a pattern of minutes and hours.
fn is_named(local: i64, minutes: i64, offset: i64, hours: Option<&[i64]>) -> bool {
    let (hour, minute) = (local.rem_euclid(24 * HOUR) / HOUR, local.rem_euclid(HOUR) / 60);
    minute % minutes == offset && hours.is_none_or(|hours| hours.contains(&hour))
}

#[test]
fn every_clock_change_of_every_zone_is_kept_to() {
    // Zones with the same changes are one; a change that many zones share is read once and tried in each.
    let mut zones: BTreeMap<Vec<Change>, TimeZone> = BTreeMap::new();
    let database = TimeZoneDatabase::bundled();
    let mut names = 0;
    for name in database.available() {
        let zone = database.get(name.as_str()).unwrap();
        names += 1;
        zones.entry(changes(&zone)).or_insert(zone);
    }
    assert!(names > 500 && zones.len() > 100, "{names} names, {} zones", zones.len());
    let rules = [
        Dst { missing: Missing::Shift, repeated: Repeated::First },
        Dst { missing: Missing::Skip, repeated: Repeated::Last },
        Dst { missing: Missing::Shift, repeated: Repeated::Both },
        Dst { missing: Missing::Skip, repeated: Repeated::First },
        Dst { missing: Missing::Shift, repeated: Repeated::Last },
        Dst { missing: Missing::Skip, repeated: Repeated::Both },
    ];
    let few: &[i64] = &[0, 2, 3, 23];
    let patterns = [("*/30 * * * *", 30, 0, None), ("7-59/20 0,2,3,23 * * *", 20, 7, Some(few))];
    let mut clocks: BTreeMap<(Change, usize), Vec<Vec<i64>>> = BTreeMap::new();
    let mut turn = 0;
    for (changes, zone) in &zones {
        for change in changes {
            let near = |other: &Change| (other.0 - change.0).abs() < 60 * HOUR;
            assert_eq!(changes.iter().filter(|other| near(other)).count(), 1, "{zone:?} changes twice in two days");
            // The rules take turns, so that changes of every kind meet all of them.
            turn += 1;
            let rule = turn % rules.len();
            // What the window cuts off at its edges is no firing of the change.
            let jump = (change.2 - change.1).abs();
            let (from, to) = (change.0 - HOUR - jump, change.0 + HOUR + jump);
            let expected = clocks.entry((*change, rule)).or_insert_with(|| {
                let clock = Clock::around(*change);
                let firings = patterns.map(|(_, minutes, offset, hours)| {
                    let firings = clock.firings(|local| is_named(local, minutes, offset, hours), rules[rule]);
                    firings.range(from + 1..=to).copied().collect()
                });
                firings.into()
            });
            for ((text, ..), expected) in patterns.iter().zip(expected) {
                let schedule = schedule(text, zone.clone(), rules[rule]);
                let moment = |second: i64| model::Timestamp(second * 1_000_000);
                let found: Vec<i64> =
                    schedule.slots_between(moment(from), moment(to)).map(|slot| slot.logical.0 / 1_000_000).collect();
                assert_eq!(found, *expected, "{text} in {zone:?} at {} by {:?}", moment(change.0), rules[rule]);
            }
        }
    }
    assert!(clocks.len() > 1_000 && turn > 5_000, "{} changes, {turn} times", clocks.len());
}

#[test]
fn expressions_are_read_as_another_implementation_reads_them() {
    let text = fs::read_to_string("tests/data/cron.csv").unwrap();
    let usual = Dst { missing: Missing::Shift, repeated: Repeated::First };
    let (mut count, mut wrong) = (0, Vec::new());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(';').collect();
        let [expression, zone, start, answers @ ..] = fields.as_slice() else { panic!("{line}") };
        let schedule = schedule(expression, TimeZone::get(zone).unwrap(), usual);
        let slots = schedule.slots_after(start.parse().unwrap()).take(answers.len());
        let found: Vec<DateTime> = slots.map(|slot| slot.local.time).collect();
        let answers: Vec<DateTime> = answers.iter().map(|answer| answer.parse().unwrap()).collect();
        if found != answers {
            wrong.push(format!("{expression} in {zone} from {start}: {found:?}, not {answers:?}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{} of {count}\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 2_000, "{count} cases");
}

#[test]
fn where_we_differ_from_the_other_implementation_is_known() {
    let refused = |pattern: &str| pattern.parse::<Pattern>().is_err();
    // It reads ranges that wrap around, a step behind one number, and random fields.
    assert!(refused("0 22-2 * * *") && refused("0 0 * * FRI-MON") && refused("5/15 * * * *") && refused("H * * * *"));
    // It knows no nearest weekday; ours is Quartz's.
    assert!(!refused("0 0 15W * *") && !refused("0 0 LW * *"));
    // It counts seconds as a sixth field at the end; ours stand in front.
    let at = |pattern: &str| {
        let schedule = schedule(pattern, TimeZone::UTC, Dst { missing: Missing::Shift, repeated: Repeated::First });
        schedule.next_after("2026-01-01T00:00:00Z".parse().unwrap()).unwrap().local.time
    };
    assert_eq!(at("30 5 * * * *"), "2026-01-01T00:05:30".parse::<DateTime>().unwrap());
    // Beside a weekday with `#` or `L` it forgets the date: there it answers the second Monday, the 12th.
    assert_eq!(at("0 0 5 * MON#2"), "2026-01-05T00:00:00".parse::<DateTime>().unwrap());
}

const REPORT: &str = "\
triggers:
  - { cron: 30 2 * * *, timezone: Europe/Berlin }
  - { cron: 30 2 * * *, timezone: Europe/Berlin, dst: { missing: skip, repeated: both }, jitter: 10m }
  - { cron: 0 9 * * *, calendar: office }
  - { every: 6h, enabled: false }
  - { at: 2026-12-24T18:00:00Z }
  - { cron: 0 9 30 2 * }
  - manual: true
steps:
  write: { uses: log.write, with: { message: hi } }
";

fn project() -> Shell {
    let shell = Shell::project();
    shell.file("pipelines/report.yaml", REPORT);
    shell.file("calendars/office.yaml", "on: weekdays\nclosed: [2026-03-30]\n");
    shell
}

macro_rules! assert_shown {
    ($name:literal, $ended:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false }, { insta::assert_snapshot!($name, $ended.shown()) });
    };
}

#[test]
fn schedules_are_listed_and_shown_ahead() {
    let shell = project();
    let spring = ["--from", "2026-03-27T12:00:00Z"];
    assert_shown!("schedules_list", shell.run(&[["schedules", "list"], spring].concat()));
    assert_shown!("schedules_list_json", shell.run(&[["schedules", "list"].as_slice(), &spring, &["--json"]].concat()));
    let preview = ["schedules", "preview", "report"];
    assert_shown!("schedules_preview_spring", shell.run(&[preview.as_slice(), &spring, &["--count", "3"]].concat()));
    let autumn = ["--from", "2026-10-24T12:00:00Z", "--count", "2"];
    assert_shown!("schedules_preview_autumn", shell.run(&[preview.as_slice(), &autumn].concat()));
    assert_shown!(
        "schedules_preview_json",
        shell.run(&[preview.as_slice(), &spring, &["--count", "2", "--json"]].concat())
    );
}

#[test]
fn a_project_without_schedules_or_with_faults_says_so() {
    let shell = Shell::project();
    assert_shown!("schedules_none", shell.run(&["schedules", "list"]));
    shell.file("pipelines/broken.yaml", "triggers: [{ cron: hourly }]\nsteps: {}\n");
    assert_shown!("schedules_faulty", shell.run(&["schedules", "preview"]));
    assert_shown!("schedules_faulty_one", shell.run(&["schedules", "preview", "broken"]));
}

#[test]
fn a_pipeline_with_triggers_is_run_by_hand() {
    let ended = project().run(&["run", "report"]);
    assert_eq!(ended.code, 0, "{}", ended.shown());
}

#[test]
fn the_identity_of_a_trigger_survives_its_neighbors() {
    let ids = |triggers: &str| {
        let text = format!("triggers: [{triggers}]\nsteps: {{ x: {{ uses: log.write, with: {{ message: hi }} }} }}\n");
        let (pipeline, faults) = pipewright::pipeline::compile_text("x.yaml", &text, &pipewright::nodes::registry());
        let pipeline = pipeline.unwrap_or_else(|| panic!("{faults:?}"));
        pipeline.triggers.iter().map(|trigger| trigger.id.to_string()).collect::<Vec<_>>()
    };
    let one = ids("{ cron: 0 9 * * MON }, { every: 5m }, { manual: true }");
    let other = ids(
        "{ manual: true }, { every: 300s, missed: last }, { cron: '0  9 * * mon', jitter: 5s }, { at: 2026-01-01T00:00:00Z }",
    );
    assert_eq!([&one[0], &one[1], &one[2]], [&other[2], &other[1], &other[0]]);
    assert!(one[0].starts_with("cron-") && one[0].len() == 13, "{}", one[0]);
    assert_ne!(ids("{ cron: 0 9 * * MON, timezone: Asia/Tokyo }")[0], one[0]);
    let twice = ids("{ every: 5m }, { every: 5m }");
    assert_eq!(twice[1], format!("{}-2", twice[0]));
}
