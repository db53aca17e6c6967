//! The daemon under a load of schedules, parked runs, retries and writes, while it is killed, its disk is full and its
//! database is locked: no slot is lost or doubled, no effect is doubled, every run ends.
//!
//! `CHAOS_ROUNDS=300` kills it so often.

#![expect(clippy::print_stdout, reason = "the long version says what it has counted")]
#![expect(clippy::disallowed_methods, reason = "the length is told by the environment, and processes have real clocks")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::model::parse_json;
use rustix::process::Resource;
use rustix::process::Rlimit;
use sqlx::ConnectOptions;
use sqlx::Executor;
use sqlx::sqlite::SqliteConnectOptions;

use crate::support::daemon::Daemon;
use crate::support::server::Reply;
use crate::support::server::Seen;
use crate::support::server::Server;
use crate::support::shell::Shell;

/// A remote that makes an object for each order, and counts.
#[derive(Clone, Default)]
struct Remote(Arc<Mutex<Made>>);

#[derive(Default)]
struct Made {
    /// Bodies of what was made, by path.
    objects: Vec<(String, String)>,
    /// What was made under which key.
    keys: BTreeMap<String, usize>,
    seen: BTreeMap<String, usize>,
    requests: usize,
}

impl Remote {
    fn answer(&self, seen: &Seen) -> Reply {
        let mut made = self.0.lock().unwrap();
        made.requests += 1;
        if seen.method == "GET" {
            let all = made.objects.iter().enumerate().filter(|(_, (path, _))| *path == seen.path);
            let all: Vec<_> = all.map(|(id, (_, body))| format!("{{\"id\":{id},\"order\":{body}}}")).collect();
            return Reply::json(200, &format!("[{}]", all.join(",")));
        }
        let times = made.seen.entry(format!("{} {}", seen.path, seen.body)).or_default();
        *times += 1;
        let first = *times == 1;
        if seen.path == "/busy" && first {
            return Reply::json(429, "{}").with_header("Retry-After", "1");
        }
        let key = seen.header("idempotency-key").filter(|_| seen.path != "/asked").map(str::to_owned);
        let id = match key.as_ref().and_then(|key| made.keys.get(key)) {
            Some(id) => *id,
            None => {
                let id = made.objects.len();
                made.objects.push((seen.path.clone(), seen.body.clone()));
                made.keys.extend(key.map(|key| (key, id)));
                id
            }
        };
        // Now and then it happens, and the answer is lost.
        if first && made.requests.is_multiple_of(5) {
            return Reply::Drop;
        }
        Reply::json(201, &format!("{{\"id\":{id}}}"))
    }

    /// Counts how often each order became an object.
    fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (path, body) in &self.0.lock().unwrap().objects {
            *counts.entry(format!("{path} {body}")).or_default() += 1;
        }
        counts
    }
}

/// How often each pipeline is due, in seconds, and where it orders.
const LOAD: [(&str, i64, &str); 4] =
    [("keyed", 1, "/keyed"), ("asked", 2, "/asked"), ("busy", 2, "/busy"), ("parked", 1, "")];

struct Ground {
    shell: Shell,
    remote: Remote,
    _server: Server,
}

impl Ground {
    fn new() -> Self {
        let (shell, remote) = (Shell::project(), Remote::default());
        let answering = remote.clone();
        let server = Server::start(move |seen: &Seen| answering.answer(seen));
        for (name, every, path) in LOAD {
            let url = format!("{}{path}", server.url);
            let order = |more: &str| {
                format!(
                    "  order:\n    uses: http.request\n    needs: [rest]\n    retry: {{ attempts: 20, delay: 300ms, max_delay: 1s }}\n    with:\n      method: POST\n      url: {url}\n      json: {{ slot: \"{{{{ run.slot }}}}\" }}\n      timeout: 500ms\n{more}"
                )
            };
            let asked = format!(
                "      reconcile: {{ url: {url}, found: \"{{{{ item.order == input.body }}}}\", id: \"{{{{ item.id }}}}\", settle: 0s }}\n"
            );
            let steps = match name {
                "parked" => "  late: { uses: time.wait, needs: [rest], with: { for: 1200ms } }\n".to_owned(),
                "asked" => order(&asked),
                _ => order("      repeat: 1h\n"),
            };
            let head = format!("triggers: [ {{ every: {every}s, missed: all, max: 1000 }} ]\n");
            let rest = "steps:\n  rest: { uses: time.wait, with: { for: 60ms } }\n";
            shell.file(&format!("pipelines/{name}.yaml"), &format!("{head}{rest}{steps}"));
        }
        std::fs::remove_file(shell.path().join("pipelines/hello.yaml")).ok();
        let valid = shell.run(&["validate"]);
        assert_eq!(valid.code, 0, "{}", valid.shown());
        Self { shell, remote, _server: server }
    }

    fn runs(&self) -> Vec<Value> {
        let listed = self.shell.run(&["runs", "list", "--limit", "1000000", "--json"]);
        listed.out.lines().map(|line| parse_json(line).unwrap()).collect()
    }

    /// Switches the schedules off, waits until no run is open, and looks at the world.
    fn settle(&self, daemon: &Daemon, least: usize) {
        for (name, ..) in LOAD {
            assert_eq!(self.shell.run(&["schedules", "disable", name]).code, 0);
        }
        let ended = |run: &Value| {
            let state = run.get("state").unwrap().to_text();
            ["succeeded", "failed", "canceled"].contains(&state.as_str())
        };
        let start = Instant::now();
        while !self.runs().iter().all(ended) {
            let status = || format!("{}\n{}", self.shell.run(&["status"]).out, daemon.said());
            assert!(start.elapsed() < Duration::from_secs(150), "a run does not end\n{}", status());
            sleep(Duration::from_millis(300));
        }
        let runs = self.runs();
        for run in &runs {
            assert_eq!(run.get("state").unwrap().to_text(), "succeeded", "{run}");
        }
        let (made, mut all) = (self.remote.counts(), 0);
        for (name, every, path) in LOAD {
            let mut slots: Vec<Timestamp> =
                runs.iter().filter(|run| run.get("pipeline").unwrap().to_text() == name).map(slot).collect();
            slots.sort();
            for pair in slots.windows(2) {
                assert_eq!(pair[1].micros() - pair[0].micros(), every * 1_000_000, "{name}: {slots:?}");
            }
            assert!(!slots.is_empty(), "{name}");
            all += slots.len();
            for slot in slots.iter().filter(|_| !path.is_empty()) {
                let order = format!("{path} {{\"slot\":\"{slot}\"}}");
                let story = || self.story(&runs, slot);
                assert_eq!(made.get(&order), Some(&1), "{order}\n{}\n{}", story(), daemon.said());
            }
        }
        assert!(all >= least, "{all} runs");
        let orders: usize = made.values().sum();
        assert_eq!(orders, made.len(), "an effect is doubled");
        println!("{all} runs, {orders} effects, {} requests", self.remote.0.lock().unwrap().requests);
    }

    /// Tells what became of the runs of a slot.
    fn story(&self, runs: &[Value], wanted: &Timestamp) -> String {
        let of = runs.iter().filter(|run| slot(run) == *wanted);
        let ids = of.map(|run| run.get("run").unwrap().to_text());
        ids.map(|id| self.shell.run(&["runs", "show", &id, "--json"]).out).collect()
    }

    /// Every schedule has its next slot, or a reason why not.
    fn sound(&self, after: &str) {
        let doctor = self.shell.run(&["schedules", "doctor"]);
        assert_eq!(doctor.code, 0, "{after}: {}", doctor.shown());
    }
}

/// Returns the slot of a run; `runs list` tells it.
fn slot(run: &Value) -> Timestamp {
    let slot = run.get("slot").unwrap().to_text();
    slot.rsplit_once('@').unwrap().1.parse().unwrap()
}

fn rounds(usual: usize) -> usize {
    std::env::var("CHAOS_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

#[test]
fn a_daemon_under_load_that_is_killed_at_random_loses_and_doubles_nothing() {
    let ground = Ground::new();
    let seed = std::env::var("CHAOS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let random = pipewright::system::Random::seeded(seed);
    for round in 0..rounds(25) {
        let daemon = Daemon::start(&ground.shell);
        if round % 8 == 3 {
            assert_eq!(daemon.get("/readyz"), "ready\n");
            ground.sound(&format!("round {round}"));
        }
        sleep(Duration::from_millis(20 + u64::try_from(random.bits() % 700).unwrap()));
        let said = daemon.kill();
        assert!(!said.contains("panicked"), "{said}");
    }
    let daemon = Daemon::start(&ground.shell);
    sleep(Duration::from_millis(1_500));
    ground.sound("at the end");
    ground.settle(&daemon, 30);
    assert_eq!(daemon.end(), 0);
}

#[test]
fn a_daemon_whose_database_is_locked_says_so_and_goes_on_by_itself() {
    let ground = Ground::new();
    let mut daemon = Daemon::start(&ground.shell);
    sleep(Duration::from_millis(2_500));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let path = ground.shell.path().join(".pipewright/state.db");
        let patience = Duration::from_secs(20);
        let mut other = SqliteConnectOptions::new().filename(&path).busy_timeout(patience).connect().await.unwrap();
        other.execute("BEGIN EXCLUSIVE").await.unwrap();
        // Longer than anybody waits for the lock.
        tokio::time::sleep(Duration::from_secs(13)).await;
        other.execute("ROLLBACK").await.unwrap();
    });
    assert!(daemon.lives(), "{}", daemon.said());
    sleep(Duration::from_millis(2_500));
    assert!(daemon.said().contains("is locked by another program"), "{}", daemon.said());
    ground.sound("after the lock");
    ground.settle(&daemon, 20);
    assert_eq!(daemon.end(), 0);
}

#[test]
fn a_daemon_whose_disk_is_full_says_so_and_goes_on_by_itself() {
    let ground = Ground::new();
    let mut daemon = Daemon::start_hardened(&ground.shell);
    sleep(Duration::from_millis(2_500));
    let limit = |bytes| {
        let limit = Rlimit { current: bytes, maximum: None };
        rustix::process::prlimit(Some(daemon.id()), Resource::Fsize, limit).unwrap();
    };
    // No file may be written beyond its first page: to whoever writes that is a disk without room.
    limit(Some(4_096));
    sleep(Duration::from_secs(5));
    limit(None);
    assert!(daemon.lives(), "{}", daemon.said());
    sleep(Duration::from_millis(2_500));
    let said = daemon.said();
    assert!(said.contains("cannot be written: the disk is full, or a quota is reached"), "{said}");
    ground.sound("after the full disk");
    ground.settle(&daemon, 15);
    assert_eq!(daemon.end(), 0);
}
