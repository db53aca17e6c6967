use super::*;

fn schedule(cron: &str, zone: &str) -> Schedule {
    let when = When::Cron(cron.parse().unwrap());
    Schedule {
        dst: when.usual_dst(),
        when,
        zone: TimeZone::get(zone).unwrap(),
        calendar: None,
        jitter: Duration::ZERO,
        name: "pipeline/trigger".into(),
    }
}

fn rules(missing: Missing, repeated: Repeated) -> Dst {
    Dst { missing, repeated }
}

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Returns the next slots as text: local time, and what a clock change did.
fn next(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
    let slots = schedule.slots_after(moment(after)).take(count);
    let shown = slots.map(|slot| match slot.moved {
        Some(moved) => format!("{} {}", slot.local, moved.name()),
        None => slot.local.to_string(),
    });
    shown.collect()
}

const SPRING: &str = "2026-03-28T12:00:00Z";
const AUTUMN: &str = "2026-10-24T12:00:00Z";

#[test]
fn a_missing_time_is_shifted_or_skipped() {
    let mut daily = schedule("30 2 * * *", "Europe/Berlin");
    assert_eq!(next(&daily, SPRING, 2), ["2026-03-29 03:30:00 +02:00 missing", "2026-03-30 02:30:00 +02:00"]);
    daily.dst = rules(Missing::Skip, Repeated::First);
    assert_eq!(next(&daily, SPRING, 1), ["2026-03-30 02:30:00 +02:00"]);
    let over: Vec<_> = daily.passed_over(moment(SPRING), moment("2026-03-30T12:00:00Z")).collect();
    assert_eq!(over, [PassedOver { named: "2026-03-29T02:30:00".parse().unwrap(), why: Why::Missing }]);
}

#[test]
fn a_shifted_time_that_falls_on_another_is_one_slot() {
    let twice = schedule("30 2,3 * * *", "Europe/Berlin");
    assert_eq!(next(&twice, SPRING, 2), ["2026-03-29 03:30:00 +02:00", "2026-03-30 02:30:00 +02:00"]);
}

#[test]
fn a_repeated_time_fires_at_the_first_the_last_or_both() {
    let mut daily = schedule("30 2 * * *", "Europe/Berlin");
    let (first, second) = ("2026-10-25 02:30:00 +02:00 first", "2026-10-25 02:30:00 +01:00 second");
    let after = "2026-10-26 02:30:00 +01:00";
    assert_eq!(next(&daily, AUTUMN, 2), [first, after]);
    daily.dst = rules(Missing::Shift, Repeated::Last);
    assert_eq!(next(&daily, AUTUMN, 2), [second, after]);
    daily.dst = rules(Missing::Shift, Repeated::Both);
    assert_eq!(next(&daily, AUTUMN, 3), [first, second, after]);
}

#[test]
fn a_pattern_of_all_hours_goes_on_evenly() {
    let hourly = schedule("0 * * * *", "Europe/Berlin");
    for start in [SPRING, AUTUMN] {
        let mut last = moment(start);
        for slot in hourly.slots_after(last).take(30) {
            assert_eq!(slot.logical.since(last), Duration::from_secs(3_600), "after {last}");
            last = slot.logical;
        }
    }
}

#[test]
fn a_day_that_a_zone_left_out_keeps_its_firing_where_the_calendar_has_it() {
    // Samoa went from Thursday to Saturday in one night.
    let mut daily = schedule("0 9 * * *", "Pacific/Apia");
    let (thursday, saturday) = ("2011-12-29 09:00:00 -10:00", "2011-12-31 09:00:00 +14:00");
    assert_eq!(next(&daily, "2011-12-29T12:00:00Z", 2), [thursday, saturday]);
    daily.calendar = Calendar::built_in("weekdays").map(Arc::new);
    assert_eq!(next(&daily, "2011-12-29T12:00:00Z", 2), [thursday, "2011-12-31 09:00:00 +14:00 missing"]);
}

#[test]
fn a_calendar_leaves_days_out() {
    let mut daily = schedule("0 9 * * *", "Europe/Berlin");
    daily.calendar = Calendar::built_in("weekdays").map(Arc::new);
    assert_eq!(next(&daily, "2026-01-30T10:00:00Z", 1), ["2026-02-02 09:00:00 +01:00"]);
    let over = daily.passed_over(moment("2026-01-30T10:00:00Z"), moment("2026-02-03T00:00:00Z"));
    assert_eq!(
        over.map(|it| (it.named.to_string(), it.why.name())).collect::<Vec<_>>(),
        [("2026-01-31T09:00:00".to_owned(), "closed"), ("2026-02-01T09:00:00".to_owned(), "closed")]
    );
    // Sessions end: so does the schedule, at once.
    let sessions = Calendar::parse(&"x".into(), "open: [2026-02-05, 2026-02-07]").0.unwrap();
    daily.calendar = Some(Arc::new(sessions));
    let all: Vec<_> =
        daily.slots_after(moment("2026-01-01T00:00:00Z")).map(|slot| slot.local.time.date().day()).collect();
    assert_eq!(all, [5, 7]);
}

#[test]
fn every_counts_from_a_fixed_moment() {
    let mut every = schedule("* * * * *", "Europe/Berlin");
    every.when = When::Every("90s".parse().unwrap());
    let slots = every.slots_after(moment("2026-01-31T09:00:00.5Z")).take(2);
    assert_eq!(
        slots.map(|slot| slot.logical.to_string()).collect::<Vec<_>>(),
        ["2026-01-31T09:01:30Z", "2026-01-31T09:03:00Z"]
    );
    every.when = When::Every("1w".parse().unwrap());
    assert_eq!(next(&every, "2026-01-31T09:00:00Z", 1), ["2026-02-02 01:00:00 +01:00"]);
    every.when = When::Every("6h".parse().unwrap());
    every.calendar = Calendar::built_in("weekdays").map(Arc::new);
    assert_eq!(next(&every, "2026-01-30T18:00:00Z", 2), ["2026-02-02 01:00:00 +01:00", "2026-02-02 07:00:00 +01:00"]);
    every.calendar = Calendar::parse(&"x".into(), "open: [2026-02-05]").0.map(Arc::new);
    assert_eq!(next(&every, "2026-01-30T18:00:00Z", 9).len(), 4);
}

#[test]
fn a_moment_is_due_once() {
    let mut once = schedule("* * * * *", "America/New_York");
    once.when = When::At(moment("2026-01-31T09:00:00Z"));
    assert_eq!(next(&once, "2026-01-31T08:59:59.999999Z", 5), ["2026-01-31 04:00:00 -05:00"]);
    assert_eq!(next(&once, "2026-01-31T09:00:00Z", 5), [""; 0]);
}

#[test]
fn what_never_fires_ends() {
    for zone in ["UTC", "Europe/Berlin", "Africa/Casablanca"] {
        assert_eq!(schedule("0 0 30 2 *", zone).next_after(moment(SPRING)), None);
    }
    let mut closed = schedule("* * * * SUN", "Europe/Berlin");
    closed.calendar = Calendar::built_in("weekdays").map(Arc::new);
    assert_eq!(closed.next_after(moment(SPRING)), None);
    // Only in the hour that is missing.
    let mut missing = schedule("30 2 29 3 *", "Europe/Berlin");
    missing.dst = rules(Missing::Skip, Repeated::First);
    assert_eq!(next(&missing, SPRING, 1), ["2027-03-29 02:30:00 +02:00"]);
    // The end of time is no fault.
    let minutely = schedule("* * * * *", "Europe/Berlin");
    assert_eq!(minutely.next_after(Timestamp(i64::MAX)), None);
    assert!(minutely.next_after(Timestamp(i64::MIN)).is_none_or(|slot| slot.logical > Timestamp(i64::MIN)));
    let mut every = minutely;
    every.when = When::Every(Duration::from_secs(1));
    assert_eq!(every.next_after(Timestamp(i64::MAX)), None);
}

#[test]
fn jitter_moves_the_start_and_nothing_else() {
    let mut hourly = schedule("0 * * * *", "UTC");
    let calm: Vec<_> = hourly.slots_after(moment(SPRING)).take(200).collect();
    hourly.jitter = "10m".parse().unwrap();
    let moved: Vec<_> = hourly.slots_after(moment(SPRING)).take(200).collect();
    assert_eq!(moved, hourly.slots_after(moment(SPRING)).take(200).collect::<Vec<_>>());
    let mut delays = std::collections::BTreeSet::new();
    for (calm, moved) in calm.iter().zip(&moved) {
        assert_eq!((calm.logical, calm.local), (moved.logical, moved.local));
        assert!(moved.due >= moved.logical && moved.due.since(moved.logical) < hourly.jitter);
        delays.insert(moved.due.since(moved.logical));
    }
    assert!(delays.len() > 190 && *delays.first().unwrap() < Duration::from_secs(60));
    assert!(*delays.last().unwrap() > Duration::from_secs(540));
    hourly.name = "another/trigger".into();
    assert_ne!(moved, hourly.slots_after(moment(SPRING)).take(200).collect::<Vec<_>>());
}

#[test]
fn the_last_slot_is_found_without_walking_there() {
    let start = moment("2024-01-01T00:00:00Z");
    for (cron, zone) in [
        ("* * * * * *", "UTC"),
        ("*/5 * * 1 *", "Europe/Berlin"),
        ("30 2 * * *", "Europe/Berlin"),
        ("0 0 29 2 *", "Asia/Tokyo"),
    ] {
        let schedule = schedule(cron, zone);
        for until in ["2024-01-01T00:00:30Z", "2024-03-31T01:30:00Z", "2024-10-27T01:30:00Z", "2024-12-31T23:59:59.5Z"]
        {
            let until = moment(until);
            let found = schedule.last_between(start, until);
            match &found {
                Some(slot) => {
                    assert!(slot.logical > start && slot.logical <= until, "{cron}");
                    assert!(schedule.next_after(slot.logical).is_none_or(|next| next.logical > until), "{cron}");
                }
                None => assert!(schedule.next_after(start).is_none_or(|next| next.logical > until), "{cron}"),
            }
        }
    }
}

#[test]
fn ten_years_of_a_hundred_schedules_take_seconds() {
    let patterns = ["0 */6 * * *", "30 2 * * *", "0 9 * * MON-FRI", "0 0 1 * *", "0 8-18/2 * * 1-5"];
    let zones = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"];
    let (from, to) = (moment("2026-01-01T00:00:00Z"), moment("2036-01-01T00:00:00Z"));
    let mut count = 0;
    for number in 0..100 {
        let mut schedule = schedule(patterns[number % 5], zones[number % 4]);
        schedule.name = number.to_string().into();
        count += schedule.slots_between(from, to).count();
    }
    assert!(count > 600_000, "{count}");
}

#[test]
fn a_slot_has_one_key() {
    let slot = schedule("30 2 * * *", "Europe/Berlin").next_after(moment(SPRING)).unwrap();
    assert_eq!(slot.key("cron-1a2b"), "cron-1a2b@2026-03-29T01:30:00Z");
}
