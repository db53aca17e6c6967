//! The daemon as a process: what others left is gone on with, it ends in good order, and dies without harm.

use std::io::BufRead;
use std::io::BufReader;
use std::process::Child;
use std::process::Stdio;

use pipewright::model::Value;
use pipewright::model::parse_json;

use crate::support::clients;
use crate::support::shell::Shell;

/// A daemon that runs as long as the test.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: String,
}

impl Daemon {
    pub(crate) fn start(shell: &Shell) -> Self {
        let mut command = shell.command(&["daemon", "--listen", "127.0.0.1:0", "--drain-timeout", "5s"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the daemon ended").unwrap();
            if let Some(fields) = parse_json(&line).ok().and_then(|line| line.get("fields").cloned())
                && let Some(address) = fields.get("address")
            {
                break address.to_text();
            }
        };
        // Whoever is not read would wait for it some day.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    pub(crate) fn get(&self, path: &str) -> String {
        clients::get(&format!("http://{}{path}", self.address))
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn end(mut self) -> i32 {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn states(shell: &Shell) -> Vec<String> {
    let listed = shell.run(&["runs", "list", "--limit", "100", "--json"]).out;
    let state = |line: &str| parse_json(line).unwrap().get("state").map(Value::to_text).unwrap();
    listed.lines().map(state).collect()
}

/// Waits until no run is open; half a minute at most.
pub(crate) fn settle(shell: &Shell) -> Vec<String> {
    for _ in 0..300 {
        let states = states(shell);
        if states.iter().all(|state| ["succeeded", "failed", "canceled"].contains(&state.as_str())) {
            return states;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{:?}\n{}", states(shell), shell.run(&["status"]).out);
}

/// Waits until so many runs are there.
pub(crate) fn begun(shell: &Shell, count: usize) {
    for _ in 0..300 {
        if states(shell).len() >= count {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let told = std::fs::read_to_string(shell.path().join("told")).unwrap_or_default();
    panic!("{:?}\n{told}", states(shell));
}

/// Where processes that are killed say what they have to say.
fn told(shell: &Shell) -> std::fs::File {
    std::fs::File::options().create(true).append(true).open(shell.path().join("told")).unwrap()
}

const SLOW: &str = r#"inputs: { name: { type: string } }
steps:
  items:
    for_each: "{{ range(6) | list }}"
    max_parallel: 1
    uses: time.wait
    with: { for: 100ms }
  kept:
    needs: [items]
    uses: file.write
    with: { path: "out/{{ inputs.name }}.txt", content: done }
"#;

#[test]
fn a_daemon_tells_how_it_is_and_ends_in_good_order() {
    let shell = Shell::project();
    let daemon = Daemon::start(&shell);
    assert_eq!(daemon.get("/healthz"), "ok\n");
    assert_eq!(daemon.get("/readyz"), "ready\n");
    assert!(daemon.get("/metrics").contains("pipewright_runs_executing 0"));
    let second = shell.run(&["daemon", "--listen", "127.0.0.1:0"]);
    assert!(second.code == 2 && second.err.contains("has a daemon already"), "{}", second.shown());
    assert_eq!(daemon.end(), 0);
    let daemon = Daemon::start(&shell);
    assert_eq!(daemon.get("/healthz"), "ok\n", "a lock is not left behind");
}

#[test]
fn what_a_killed_process_left_is_gone_on_with() {
    let shell = Shell::project();
    shell.file("pipelines/slow.yaml", SLOW);
    let mut runs: Vec<Child> = (0..4)
        .map(|number| {
            let mut command = shell.command(&["run", "slow", "-q", "-i", &format!("name=r{number}")]);
            command.stdout(Stdio::null()).stderr(told(&shell)).spawn().unwrap()
        })
        .collect();
    // All of them have begun, and none has ended.
    begun(&shell, 4);
    for run in &mut runs {
        run.kill().unwrap();
        run.wait().unwrap();
    }
    let daemon = Daemon::start(&shell);
    assert_eq!(settle(&shell), ["succeeded"; 4]);
    for number in 0..4 {
        assert!(shell.path().join(format!("out/r{number}.txt")).exists(), "{number}");
    }
    // One or another may have ended before it was killed.
    assert!(!daemon.get("/metrics").contains("pipewright_runs_taken_over_total 0"), "{}", daemon.get("/metrics"));
}

#[test]
fn a_daemon_that_is_killed_again_and_again_loses_no_run() {
    let shell = Shell::project();
    shell.file("pipelines/slow.yaml", SLOW);
    let mut first = Vec::new();
    for number in 0..6 {
        let mut command = shell.command(&["run", "slow", "-q", "-i", &format!("name=r{number}")]);
        first.push(command.stdout(Stdio::null()).stderr(told(&shell)).spawn().unwrap());
    }
    begun(&shell, 6);
    for run in &mut first {
        run.kill().unwrap();
        run.wait().unwrap();
    }
    for round in 0..8_u64 {
        let daemon = Daemon::start(&shell);
        std::thread::sleep(std::time::Duration::from_millis(30 + round * 23));
        daemon.kill();
    }
    let _daemon = Daemon::start(&shell);
    assert_eq!(settle(&shell), ["succeeded"; 6]);
    // A journal that anybody reads afterwards has each item once.
    let listed = shell.run(&["runs", "list", "--limit", "100", "--json"]).out;
    for line in listed.lines() {
        let run = parse_json(line).unwrap().get("run").unwrap().to_text();
        let journal = shell.run(&["runs", "show", &run, "--json"]).out;
        for item in 0..6 {
            let ends = journal
                .lines()
                .filter(|line| line.contains(r#""event":"succeeded""#) && line.contains(&format!("items[{item}]")));
            assert_eq!(ends.count(), 1, "item {item}\n{journal}");
        }
    }
}

#[test]
fn a_person_s_word_reaches_a_run_that_sleeps_through_the_daemon() {
    let shell = Shell::project();
    shell.file("pipelines/long.yaml", "steps: { rest: { uses: time.wait, with: { for: 3d } } }\n");
    let parked = shell.run(&["run", "long", "--detach"]);
    assert_eq!(parked.code, 3, "{}", parked.shown());
    let daemon = Daemon::start(&shell);
    let canceled = shell.run(&["runs", "cancel", "last"]);
    assert!(canceled.code == 0 && canceled.err.contains("the daemon goes on with run"), "{}", canceled.shown());
    assert_eq!(settle(&shell), ["canceled"]);
    assert_eq!(daemon.end(), 0);
}

#[test]
fn a_daemon_that_is_killed_again_and_again_loses_no_slot_and_fires_none_twice() {
    let shell = Shell::project();
    shell.file(
        "pipelines/tick.yaml",
        "triggers: [ { every: 1s, missed: all } ]\nsteps:\n  a: { uses: time.wait, with: { for: 50ms } }\n  b: { uses: file.write, needs: [a], with: { path: \"out/{{ run.slot }}.txt\", content: done } }\n",
    );
    for round in 0..7_u64 {
        let daemon = Daemon::start(&shell);
        std::thread::sleep(std::time::Duration::from_millis(300 + round * 217));
        daemon.kill();
    }
    let daemon = Daemon::start(&shell);
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    // Switched off, so that the runs come to an end.
    assert_eq!(shell.run(&["schedules", "disable", "tick"]).code, 0);
    assert!(settle(&shell).iter().all(|state| state == "succeeded"));
    let listed = shell.run(&["runs", "list", "--limit", "100", "--json"]).out;
    let mut slots: Vec<_> = std::fs::read_dir(shell.path().join("out"))
        .unwrap()
        .map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.trim_end_matches(".txt").parse::<pipewright::model::Timestamp>().unwrap()
        })
        .collect();
    slots.sort();
    assert!(slots.len() >= 6, "{slots:?}");
    assert_eq!(slots.len(), listed.lines().count(), "a slot has one run\n{listed}");
    for pair in slots.windows(2) {
        assert_eq!(pair[1].micros() - pair[0].micros(), 1_000_000, "a slot is missing: {slots:?}");
    }
    assert_eq!(daemon.end(), 0);
}

#[test]
fn edited_prices_count_without_a_restart_and_broken_ones_do_not() {
    let shell = Shell::empty();
    let connections = "connections: { gpt: { connector: openai, model: gpt-6-luna, auth: { api_key: k } } }\n";
    shell.file("pipewright.yaml", connections);
    let price = |each: &str| {
        let row =
            format!("from: 2026-01-01, currency: USD, in: \"{each}\", out: \"{each}\", source: ours, seen: 2026-01");
        shell.file("prices.yaml", &format!("prices:\n  - {{ connector: openai, model: gpt-6-luna, {row} }}\n"));
    };
    price("0");
    let step = "uses: ai.generate, with: { connection: gpt, text: Hello., max_tokens: 50 }";
    shell.file("pipelines/ask.yaml", &format!("triggers: [ {{ every: 1s }} ]\nsteps: {{ ask: {{ {step} }} }}\n"));
    let daemon = crate::support::daemon::Daemon::start_rehearsing(&shell);
    let spent = |of: &str| -> Vec<String> {
        let told = shell.run(&["--sandbox", "usage", "--by", "run", "--json"]).out;
        told.lines().filter_map(|line| parse_json(line).unwrap().get(of).map(Value::to_text)).collect()
    };
    let until = |holds: &dyn Fn() -> bool| {
        for _ in 0..300 {
            if holds() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("{:?}\n{}", spent("spent"), daemon.said());
    };
    until(&|| !spent("spent").is_empty());
    assert!(spent("spent").iter().all(|spent| spent == "0"));
    shell.file("prices.yaml", "prices: nothing\n");
    until(&|| daemon.said().contains("the last good ones stay in effect"));
    price("1000");
    until(&|| spent("spent").iter().any(|spent| spent != "0"));
    // None was asked without a price in between.
    assert!(spent("unknown").iter().all(|unknown| unknown == "0"), "{:?}", spent("unknown"));
    drop(daemon);
}
