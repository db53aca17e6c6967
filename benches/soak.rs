//! Leaves a daemon running under load and says whether it grows: memory, file handles, store, write-ahead log, blobs.
//! `scripts/soak [--minutes N]` runs it; it ends with an error where something grows beyond its limit.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "a soak reads the machine's clock")]
#![expect(clippy::unwrap_used, reason = "a soak that cannot go on has nothing to say")]

use std::fs;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

/// What is measured, and by how much it may grow from the end of the warm-up to the end: a part of its mean, and a rest.
const MEASURES: [(&str, &str, f64, f64); 6] = [
    ("memory", "KiB", 0.05, 3_072.0),
    ("handles", "", 0.0, 4.0),
    ("store", "KiB", 0.15, 2_048.0),
    ("log", "KiB", 0.10, 8_192.0),
    ("blobs", "", 0.25, 40.0),
    ("threads", "", 0.0, 3.0),
];

/// What was measured at one moment, in the order of [`MEASURES`].
type Levels = [f64; 6];

/// A moment in seconds, and what was measured then.
type Sample = (f64, Levels);

/// Processes that end with this one.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> ExitCode {
    let minutes = std::env::args().skip_while(|argument| argument != "--minutes").nth(1);
    let minutes: u64 = minutes.and_then(|minutes| minutes.parse().ok()).unwrap_or(60).max(2);
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    project(root);
    let sandbox = Running(program(root, &["sandbox", "discord", "--port", "0"]).spawn().unwrap());
    let url = served(root);
    let log = fs::File::create(root.join("daemon.log")).unwrap();
    let arguments = [&format!("--sandbox={url}"), "daemon", "--listen", "127.0.0.1:0", "--log", "warn"];
    let mut daemon = Running(program(root, &arguments).stderr(log).spawn().unwrap());
    let (start, length) = (Instant::now(), Duration::from_secs(minutes * 60));
    // Memory, caches and the first housekeeping come to rest.
    let warm = Duration::from_secs((minutes * 60 / 3).clamp(60, 600));
    let mut samples: Vec<Sample> = Vec::new();
    print!("{:<7}", "minute");
    MEASURES.iter().for_each(|(name, unit, ..)| print!(" {:>14}", format!("{name} {unit}")));
    println!(" {:>10}", "runs");
    let mut edit = 0;
    while start.elapsed() < length {
        sleep(Duration::from_secs(2));
        if let Some(ended) = daemon.0.try_wait().unwrap() {
            println!("the daemon ended: {ended}\n{}", fs::read_to_string(root.join("daemon.log")).unwrap());
            return ExitCode::FAILURE;
        }
        edit += 1;
        edited(root, edit);
        let second = start.elapsed().as_secs_f64();
        let before = samples.last().map_or(0, |(at, _)| whole_minutes(*at));
        samples.push((second, measured(root, &daemon.0)));
        if whole_minutes(second) > before {
            let minute = whole_minutes(second);
            let of: Vec<_> = samples.iter().filter(|(at, _)| whole_minutes(*at) == minute - 1).collect();
            print!("{minute:<7}");
            for place in 0..MEASURES.len() {
                let mean = of.iter().map(|(_, values)| values[place]).sum::<f64>() / of.len() as f64;
                print!(" {mean:>14.0}");
            }
            println!(" {:>10}", ended(root));
        }
    }
    drop(sandbox);
    verdict(&samples, warm.as_secs_f64())
}

/// Waits until the sandbox says where it is.
fn served(root: &Path) -> String {
    for _ in 0..600 {
        let told = fs::read_to_string(root.join(".pipewright/sandbox.json")).unwrap_or_default();
        let told: Option<serde_json::Value> = serde_json::from_str(&told).ok();
        if let Some(url) = told.as_ref().and_then(|told| told.get("url")).and_then(serde_json::Value::as_str) {
            return url.to_owned();
        }
        sleep(Duration::from_millis(50));
    }
    panic!("the sandbox does not start")
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a soak does not last for ever")]
fn whole_minutes(seconds: f64) -> u64 {
    (seconds / 60.0) as u64
}

/// Fits a line through what was measured after the warm-up, and says whether it rises by more than it may.
fn verdict(samples: &[Sample], warm: f64) -> ExitCode {
    let of: Vec<_> = samples.iter().filter(|(at, _)| *at >= warm).collect();
    let (Some(first), Some(last)) = (of.first(), of.last()) else { return ExitCode::FAILURE };
    let length = last.0 - first.0;
    println!("\n{:<10} {:>12} {:>14} {:>12}   after {warm:.0} s, over {length:.0} s", "", "mean", "growth", "allowed");
    let mut grows = false;
    for (place, (name, unit, part, rest)) in MEASURES.iter().enumerate() {
        let count = of.len() as f64;
        let mean = |value: &dyn Fn(&Sample) -> f64| of.iter().map(|sample| value(sample)).sum::<f64>() / count;
        let (time, level) = (mean(&|sample| sample.0), mean(&|sample| sample.1[place]));
        let above = mean(&|sample| (sample.0 - time) * (sample.1[place] - level));
        let below = mean(&|sample| (sample.0 - time).powi(2));
        let growth = above / below.max(1.0) * length;
        let allowed = level * part + rest;
        let well = growth <= allowed;
        grows |= !well;
        let word = if well { "well" } else { "GROWS" };
        println!("{name:<10} {level:>12.0} {growth:>+14.1} {allowed:>12.1}   {unit:<4} {word}");
    }
    if grows { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn program(root: &Path, arguments: &[&str]) -> Command {
    // `SOAK_PROGRAM` is another build of the program, e.g. one that is to be released.
    let built = std::env::var("SOAK_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pipewright").to_owned());
    let mut command = Command::new(built);
    command.args(arguments).current_dir(root).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn measured(root: &Path, daemon: &Child) -> Levels {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap_or_default();
    let value = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0.0)
    };
    let handles = fs::read_dir(format!("/proc/{}/fd", daemon.id())).map_or(0, Iterator::count);
    let kept = root.join(".pipewright");
    let size = |name: &str| kept.join(name).metadata().map_or(0.0, |about| about.len() as f64 / 1_024.0);
    [
        value("RssAnon"),
        handles as f64,
        size("sandbox.db"),
        size("sandbox.db-wal"),
        files(&kept.join("blobs")) as f64,
        value("Threads"),
    ]
}

/// Counts the ended runs that are kept.
fn ended(root: &Path) -> usize {
    let mut command = program(root, &["--sandbox", "runs", "list", "--limit", "100000", "--json"]);
    let listed = command.stdout(Stdio::piped()).output().unwrap().stdout;
    String::from_utf8_lossy(&listed).lines().filter(|line| !line.contains("\"ended\":null")).count()
}

fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

/// Many schedules; runs that wait, that fail and try again, that do something outside, that carry large values. Of these
/// there are only a few different ones: files that nobody names go after two days, which no soak waits for.
fn project(root: &Path) {
    fs::create_dir_all(root.join("pipelines")).unwrap();
    let settings = "connections:\n  team: { connector: discord, auth: { webhook_url: \"https://discord.com/api/webhooks/1/x\" } }\nretention: { runs: { age: 1m, count: 60 }, logs: 1m, wire: 1m }\n";
    fs::write(root.join("pipewright.yaml"), settings).unwrap();
    for number in 0..40 {
        edited(root, number);
    }
}

/// Writes one of the pipelines as it is after so many edits; now and then one that is invalid, and is mended by the next.
fn edited(root: &Path, edit: usize) {
    let number = edit % 40;
    let (every, steps) = match number % 5 {
        0 => (
            2,
            "  a: { uses: time.wait, with: { for: 300ms } }\n  b: { uses: log.write, needs: [a], with: { message: \"edit EDIT\" } }\n",
        ),
        1 => (6, "  a: { uses: discord.send, with: { connection: team, text: \"edit EDIT at {{ run.slot }}\" } }\n"),
        2 => (20, "  a: { uses: time.wait, with: { for: 65s } }\n"),
        3 => (
            5,
            "  a: { uses: assert.that, with: { that: \"{{ false }}\", message: \"edit EDIT\" }, retry: { attempts: 3, on: [rejected, invalid, bug], delay: 500ms } }\n",
        ),
        _ => (
            7,
            "  a: { uses: template.render, with: { text: \"NUMBER{% for n in range(9000) %}0123456789{% endfor %}\" } }\n",
        ),
    };
    let steps = if edit % 17 == 16 {
        "  a: { uses: no.such_node }\n".to_owned()
    } else {
        steps.replace("EDIT", &edit.to_string())
    };
    let text = format!("triggers: [ {{ every: {every}s }} ]\nsteps:\n{steps}");
    fs::write(root.join(format!("pipelines/p{number}.yaml")), text).unwrap();
}
