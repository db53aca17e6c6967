//! `pipewright backfill` and `runs prune` as processes.

use std::process::Stdio;
use std::time::Duration;

use pipewright::model::parse_json;

use crate::support::daemon::Daemon;
use crate::support::shell::Shell;

const DAILY: &str = r#"name: daily
triggers: [ { cron: "30 2 * * *", timezone: Europe/Berlin, inputs: { day: "{{ event.slot }}" } } ]
inputs: { day: { type: datetime } }
steps:
  rest: { uses: time.wait, with: { for: 50ms } }
  kept: { uses: file.write, needs: [rest], with: { path: "out/{{ run.slot }}.txt", content: "{{ inputs.day }}" } }
"#;
/// Four days, in one of which there is no half past two.
const DAYS: [&str; 6] = ["backfill", "daily", "--from", "2026-03-27", "--to", "2026-03-31"];
const SLOTS: [&str; 4] =
    ["2026-03-27T01:30:00Z", "2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"];

fn outputs(shell: &Shell) -> Vec<String> {
    let entries = std::fs::read_dir(shell.path().join("out")).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names.iter().map(|name| name.trim_end_matches(".txt").to_owned()).collect()
}

fn runs(shell: &Shell) -> Vec<String> {
    let listed = shell.run(&["runs", "list", "--limit", "1000", "--json"]).out;
    let slot = |line: &str| parse_json(line).unwrap().get("slot").unwrap().to_text();
    let mut slots: Vec<_> = listed.lines().map(slot).collect();
    slots.sort();
    slots
}

#[test]
fn slots_without_a_run_are_made_up_for_once() {
    let shell = Shell::project();
    shell.file("pipelines/daily.yaml", DAILY);
    let dry = shell.run(&[&DAYS[..], &["--dry"]].concat());
    assert_eq!(dry.code, 0, "{}", dry.shown());
    for slot in SLOTS {
        assert!(dry.out.contains(slot), "{}", dry.shown());
    }
    assert!(dry.err.contains("4 of 4 slots have no run") && runs(&shell).is_empty(), "{}", dry.shown());
    let done = shell.run(&[&DAYS[..], &["--parallel", "2"]].concat());
    assert_eq!(done.code, 0, "{}", done.shown());
    assert!(done.err.contains("4 runs succeeded, 0 failed"), "{}", done.shown());
    assert_eq!(outputs(&shell), SLOTS);
    let again = shell.run(&DAYS);
    assert!(again.code == 0 && again.err.contains("0 of 4 slots have no run"), "{}", again.shown());
    // Each bears the key that the scheduler would have given it.
    let slots = runs(&shell);
    assert_eq!(slots.len(), 4);
    assert!(slots.iter().zip(SLOTS).all(|(own, slot)| own.starts_with("cron-") && own.ends_with(slot)), "{slots:?}");
    let listed = shell.run(&[&DAYS[..], &["--dry"]].concat());
    assert_eq!(listed.out.matches("succeeded").count(), 4, "{}", listed.shown());
}

#[test]
fn a_backfill_that_is_killed_is_gone_on_with() {
    let shell = Shell::project();
    shell.file("pipelines/daily.yaml", &DAILY.replace("50ms", "250ms"));
    let all = ["backfill", "daily", "--from", "2026-02-01", "--to", "2026-02-21", "--parallel", "3"];
    let mut kills = 0;
    while outputs(&shell).len() < 20 && kills < 20 {
        let mut child = shell.command(&all).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(700 + kills * 100));
        child.kill().unwrap();
        child.wait().unwrap();
        let open = shell.run(&["runs", "list", "--limit", "1000", "--json"]).out;
        let open = open.lines().filter(|line| !line.contains(r#""state":"succeeded""#)).count();
        assert!(open <= 3, "never more than three are unfinished: {open}");
        kills += 1;
        if kills >= 4 {
            break;
        }
    }
    let done = shell.run(&all);
    assert_eq!(done.code, 0, "{}", done.shown());
    assert_eq!((outputs(&shell).len(), runs(&shell).len()), (20, 20));
}

#[test]
fn a_daemon_does_the_work_where_there_is_one() {
    let shell = Shell::project();
    shell.file("pipelines/daily.yaml", DAILY);
    let daemon = Daemon::start(&shell);
    let done = shell.run(&DAYS);
    assert_eq!(done.code, 0, "{}", done.shown());
    assert_eq!(outputs(&shell), SLOTS);
    assert!(daemon.get("/metrics").contains(r#"pipewright_runs_ended_total{state="succeeded"} 4"#));
    assert_eq!(daemon.end(), 0);
}

#[test]
fn what_fails_and_what_cannot_be_meant_is_told() {
    let shell = Shell::project();
    let broken = DAILY.replace("path: \"out/", "path: \"../outside/");
    shell.file("pipelines/daily.yaml", &broken);
    let failed = shell.run(&DAYS);
    assert!(failed.code == 1 && failed.err.contains("0 runs succeeded, 4 failed"), "{}", failed.shown());
    shell.file(
        "pipelines/two.yaml",
        "triggers: [ { every: 1h }, { every: 2h } ]\nsteps: { a: { uses: log.write, with: { message: a } } }\n",
    );
    for (arguments, expected) in [
        (
            &["backfill", "two", "--from", "2026-01-01"][..],
            "has several schedules: say `--trigger` with one of `every-",
        ),
        (&["backfill", "hello", "--from", "2026-01-01"], "has no trigger that goes by time"),
        (&["backfill", "two", "--from", "2026-01-01", "--trigger", "x"], "has no schedule `x`"),
        (&["backfill", "daily", "--from", "yesterday"], "expected a moment such as `2026-01-31`"),
        (&["backfill", "daily", "--from", "2026-02-01", "--to", "2026-01-01"], "`--to` must be later than `--from`"),
        (&["backfill", "nobody", "--from", "2026-01-01"], "nobody"),
    ] {
        let told = shell.run(arguments);
        assert!(told.code == 2 && told.err.contains(expected), "{arguments:?}: {}", told.shown());
    }
    // What is still to come is the scheduler's.
    let future = shell.run(&["backfill", "daily", "--from", "2100-01-01", "--to", "2101-01-01"]);
    assert!(future.code == 0 && future.err.contains("0 of 0 slots"), "{}", future.shown());
}

#[test]
fn ended_runs_are_removed_by_hand() {
    let shell = Shell::project();
    for _ in 0..4 {
        assert_eq!(shell.run(&["run", "hello", "-q"]).code, 0);
    }
    let old = shell.run(&["runs", "prune", "--older-than", "1h"]);
    assert!(old.code == 0 && old.err.contains("0 runs are removed"), "{}", old.shown());
    let dry = shell.run(&["runs", "prune", "--keep", "1", "--dry"]);
    assert!(dry.code == 0 && dry.err.contains("3 runs would be removed"), "{}", dry.shown());
    assert_eq!(runs(&shell).len(), 4);
    let last = shell.last();
    let pruned = shell.run(&["runs", "prune", "--keep", "1", "--compact"]);
    assert!(pruned.code == 0 && pruned.err.contains("3 runs are removed"), "{}", pruned.shown());
    assert_eq!((runs(&shell).len(), shell.last()), (1, last));
    shell
        .file("pipewright.yaml", "retention: { runs: { count: 2 }, pipelines: { hello: { runs: { count: all } } } }\n");
    for _ in 0..3 {
        assert_eq!(shell.run(&["run", "hello", "-q"]).code, 0);
    }
    let kept = shell.run(&["runs", "prune"]);
    assert!(kept.code == 0 && kept.err.contains("0 runs are removed"), "{}", kept.shown());
}
