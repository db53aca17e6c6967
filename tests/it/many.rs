//! Many daemons on one PostgreSQL: what one writes another hears of, and whatever happens to them, every run ends once.
//!
//! `MANY_ROUNDS=10` makes the long test last so many times as long.

#![expect(clippy::disallowed_methods, reason = "processes are killed, stopped and waited for in real time")]
#![expect(clippy::print_stdout, reason = "what was counted is told")]

mod leases;
mod permits;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Child;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use pipewright::connector::library::Library;
use pipewright::engine::Engine;
use pipewright::engine::NoSecrets;
use pipewright::engine::Parts;
use pipewright::engine::Probe;
use pipewright::http::ReqwestTransport;
use pipewright::model::RunEvent;
use pipewright::model::RunState;
use pipewright::model::Value;
use pipewright::model::parse_json;
use pipewright::node::Access;
use pipewright::node::Services;
use pipewright::pipeline::Catalog;
use pipewright::pipeline::Pipeline;
use pipewright::store::EffectFilter;
use pipewright::store::EffectState;
use pipewright::store::OpenOptions;
use pipewright::store::RunFilter;
use pipewright::store::RunRecord;
use pipewright::store::Store;
use pipewright::system::System;
use rustix::process::Signal;
use sqlx::Connection;
use sqlx::Executor;

use crate::support::postgres::Server as Postgres;
use crate::support::server::Answer;
use crate::support::server::Reply;
use crate::support::server::Seen;
use crate::support::server::Server;
use crate::support::shell::Shell;

/// A machine: a project of its own on the common store, with a clock of its own.
struct Machine {
    shell: Shell,
    /// Seconds by which its clock is wrong.
    wrong_by: i64,
    daemon: Option<Child>,
    starts: usize,
    roles: &'static str,
}

impl Machine {
    fn new(store: &str, wrong_by: i64) -> Self {
        let shell = Shell::project();
        shell.file("pipewright.yaml", &format!("store: \"{store}\"\n"));
        Self { shell, wrong_by, daemon: None, starts: 0, roles: "scheduler,worker" }
    }

    fn log(&self, start: usize) -> PathBuf {
        self.shell.path().join(format!("log-{start}"))
    }

    /// Starts its daemon where none is.
    fn start(&mut self) {
        let gone = self.daemon.as_mut().is_none_or(|daemon| daemon.try_wait().unwrap().is_some());
        if !gone {
            return;
        }
        let arguments =
            ["daemon", "--listen", "127.0.0.1:0", "--runs", "16", "--drain-timeout", "5s", "--role", self.roles];
        let mut command = self.shell.command(&arguments);
        command.env("PIPEWRIGHT_TEST_CLOCK_WRONG_BY", self.wrong_by.to_string());
        let log = File::create(self.log(self.starts)).unwrap();
        self.starts += 1;
        self.daemon = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    fn signal(&self, signal: Signal) {
        let Some(daemon) = &self.daemon else { return };
        let id = rustix::process::Pid::from_raw(i32::try_from(daemon.id()).unwrap()).unwrap();
        // It may have ended by itself: the store was away when it began.
        let _ = rustix::process::kill_process(id, signal);
    }

    fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            daemon.wait().unwrap();
        }
    }

    fn end(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.daemon.take().unwrap().wait().unwrap().code().unwrap()
    }

    /// Returns what its daemons logged.
    fn told(&self) -> String {
        (0..self.starts).map(|start| std::fs::read_to_string(self.log(start)).unwrap()).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        self.kill();
    }
}

/// Waits until something holds; so long at most.
fn until(what: &str, most: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < most, "{what}: not within {most:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    began.elapsed()
}

fn states(shell: &Shell) -> Vec<String> {
    let listed = shell.run(&["runs", "list", "--limit", "1000", "--json"]);
    let state = |line: &str| parse_json(line).unwrap().get("state").map(Value::to_text).unwrap();
    listed.out.lines().map(state).collect()
}

#[test]
fn daemons_of_several_machines_share_the_work_and_hear_of_it_at_once() {
    let postgres = Postgres::start();
    let url = postgres.schema(900);
    let (mut fires, mut works, asks) = (Machine::new(&url, 600), Machine::new(&url, -600), Machine::new(&url, 0));
    (fires.roles, works.roles) = ("scheduler", "worker");
    let tick = "triggers: [ { every: 1s } ]\nsteps: { a: { uses: time.wait, with: { for: 1ms } } }\n";
    for machine in [&fires, &works] {
        machine.shell.file("pipelines/tick.yaml", tick);
    }
    asks.shell.file("pipelines/long.yaml", "steps: { rest: { uses: time.wait, with: { for: 3d } } }\n");
    fires.start();
    // Whoever fires does not execute.
    until("slots are fired", Duration::from_secs(60), || !states(&asks.shell).is_empty());
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(states(&asks.shell).iter().all(|state| state == "queued"), "{:?}", states(&asks.shell));
    let status = asks.shell.run(&["status"]);
    assert!(status.err.contains("(scheduler), with 0 runs"), "{}", status.shown());
    assert!(status.err.contains("no daemon executes runs of this project"), "{}", status.shown());
    works.start();
    until("what was fired is executed", Duration::from_secs(60), || {
        states(&asks.shell).contains(&"succeeded".to_owned())
    });
    let listed = asks.shell.run(&["workers", "--json"]).out;
    let roles: Vec<_> =
        listed.lines().map(|line| parse_json(line).unwrap().get("roles").unwrap().to_string()).collect();
    assert_eq!(roles, [r#"["scheduler"]"#, r#"["worker"]"#], "{listed}");
    // They agree on the time, whatever their clocks say.
    assert!(fires.told().contains("the store's is used") && works.told().contains("the store's is used"));
    assert_eq!(fires.end(), 0);
    // A word that is given on one machine is heard on another long before it would look by itself.
    let mut heard = Vec::new();
    for _ in 0..5 {
        let parked = asks.shell.run(&["run", "long", "--detach"]);
        assert_eq!(parked.code, 3, "{}", parked.shown());
        let canceled = asks.shell.run(&["runs", "cancel", "last"]);
        let began = Instant::now();
        assert!(canceled.code == 0 && canceled.err.contains("the daemon goes on with run"), "{}", canceled.shown());
        until("the run is canceled", Duration::from_secs(30), || {
            asks.shell.run(&["runs", "list", "--limit", "1", "--json"]).out.contains(r#""state":"canceled""#)
        });
        heard.push(began.elapsed());
    }
    heard.sort();
    println!(
        "a cancel is obeyed on another machine after {:?} (of 5 the third), with the command that looks",
        heard[2]
    );
    assert!(heard[2] < Duration::from_secs(3), "{heard:?}");
    // A killed daemon is on the list until others miss it, but is not counted on.
    works.kill();
    let status = asks.shell.run(&["status"]);
    assert!(status.err.contains("no daemon executes runs of this project"), "{}", status.shown());
    let listed = asks.shell.run(&["workers"]);
    assert!(listed.out.contains("gone"), "{}", listed.shown());
    works.start();
    until("the dead one is taken off the list", Duration::from_secs(60), || {
        let listed = asks.shell.run(&["workers", "--json"]).out;
        listed.lines().count() == 1 && listed.contains(r#""lives":true"#)
    });
    assert_eq!(works.end(), 0);
    let listed = asks.shell.run(&["workers"]);
    assert!(listed.err.contains("no daemon works on this project"), "{}", listed.shown());
}

#[test]
fn an_embedded_store_wants_every_role_of_its_one_daemon() {
    let shell = Shell::project();
    let refused = shell.run(&["daemon", "--listen", "127.0.0.1:0", "--role", "worker"]);
    assert!(refused.code == 2 && refused.err.contains("must have every role"), "{}", refused.shown());
}

/// The system outside: it counts what arrives, loses some answers, and takes its time.
#[derive(Clone, Default)]
struct Remote(Arc<Mutex<Arrived>>);

#[derive(Default)]
struct Arrived {
    random: fastrand::Rng,
    /// By idempotency key: how often it arrived.
    safe: BTreeMap<String, (i64, usize)>,
    asked: Vec<(i64, Instant)>,
    once: Vec<(i64, Instant)>,
}

impl Remote {
    fn answer(&self, request: &Seen) -> Reply {
        let mut state = self.0.lock().unwrap();
        if request.method == "GET" {
            let made = state.asked.iter().enumerate();
            let items: Vec<_> = made.map(|(id, (n, _))| format!(r#"{{"id":"{id}","n":{n}}}"#)).collect();
            return Reply::json(200, &format!("[{}]", items.join(",")));
        }
        let n = parse_json(&request.body).unwrap().get("n").unwrap().to_text().parse().unwrap();
        let id = match request.path.as_str() {
            "/safe" => {
                let key = request.header("idempotency-key").unwrap().to_owned();
                state.safe.entry(key).or_insert((n, 0)).1 += 1;
                n.to_string()
            }
            "/asked" => {
                state.asked.push((n, Instant::now()));
                (state.asked.len() - 1).to_string()
            }
            _ => {
                state.once.push((n, Instant::now()));
                n.to_string()
            }
        };
        if state.random.u8(..50) == 0 {
            return Reply::Drop;
        }
        let Reply::Answer(answer) = Reply::json(200, &format!(r#"{{"id":"{id}"}}"#)) else { return Reply::Drop };
        let delay = Duration::from_millis(state.random.u64(..80));
        Reply::Late(delay, Answer { ..answer })
    }
}

const WORK: &str = r#"inputs: { n: { type: integer } }
steps:
  safe:
    uses: http.request
    with: { method: POST, url: "URL/safe", json: { n: "{{ inputs.n }}" }, repeat: 24h, idempotency_header: Idempotency-Key, timeout: 3s }
  asked:
    needs: [safe]
    uses: http.request
    with:
      method: POST
      url: "URL/asked"
      json: { n: "{{ inputs.n }}" }
      timeout: 2s
      reconcile: { url: "URL/asked", found: "{{ item.n == input.body.n }}", id: "{{ item.id }}", settle: 1s }
  once:
    needs: [asked]
    uses: http.request
    with: { method: POST, url: "URL/once", json: { n: "{{ inputs.n }}" }, timeout: 2s }
    in_doubt: drop
outputs: { n: "{{ inputs.n }}" }
"#;

const SPREAD: &str = r#"inputs: { from: { type: integer } }
steps:
  all:
    for_each: "{{ range(20) | list }}"
    spread: true
    max_parallel: 6
    uses: pipeline.run
    with: { pipeline: work, inputs: { n: "{{ inputs.from + item }}" } }
outputs: { count: "{{ steps.all.output | length }}" }
"#;

/// An engine of the test itself, which makes runs and reads what came of them.
struct Desk {
    runtime: tokio::runtime::Runtime,
    engine: Engine,
    folder: tempfile::TempDir,
    url: String,
}

impl Desk {
    fn open(url: &str, remote: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("pipelines")).unwrap();
        for (name, text) in [("work", WORK), ("spread", SPREAD)] {
            let path = folder.path().join(format!("pipelines/{name}.yaml"));
            std::fs::write(path, text.replace("URL", remote)).unwrap();
        }
        let root = folder.path().to_owned();
        let engine = runtime.block_on(async {
            Engine::new(Parts {
                system: System::real(),
                store: Store::open(url, OpenOptions::default()).await.unwrap(),
                http: Arc::new(ReqwestTransport::new()),
                access: Access { root, files_outside: false, shell: false, databases: Vec::new(), rehearsal: false },
                secrets: Arc::new(NoSecrets),
                owner: "desk".to_owned(),
                owner_is_gone: |_| false,
                send_window: pipewright::model::Duration::from_secs(10),
                services: Services::default(),
                probe: Probe::default(),
                tape: Default::default(),
            })
        });
        Self { runtime, engine, folder, url: url.to_owned() }
    }

    fn pipeline(&self, name: &str) -> Arc<Pipeline> {
        let library = Arc::new(Library::open(self.folder.path()));
        let registry = pipewright::nodes::registry().with_operations(library);
        let loaded = Catalog::open(self.folder.path(), registry).load(name).unwrap();
        loaded.pipeline.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics))
    }

    /// Makes a run; the store may be away for a while.
    fn enqueue(&self, pipeline: &Pipeline, input: &str, n: i64) {
        // A slot: where the answer of a making is lost, its repetition makes no second run.
        let slot = format!("desk@{n}");
        for _ in 0..200 {
            let inputs = Value::map([(input, Value::from(n))]);
            match self.runtime.block_on(self.engine.enqueue(pipeline, inputs, Some(slot.clone()))) {
                Ok(_) => return,
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
        panic!("the store does not come back");
    }

    fn runs(&self) -> Option<Vec<RunRecord>> {
        self.runtime.block_on(self.engine.parts().store.runs(&RunFilter::default())).ok()
    }

    /// Cuts connections of daemons. Returns how many.
    fn cut(&self, random: &mut fastrand::Rng) -> usize {
        let most = random.usize(1..4);
        self.runtime.block_on(async {
            let Ok(mut connection) = sqlx::PgConnection::connect(&self.url).await else { return 0 };
            let sql = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pipewright' \
                 AND pid <> pg_backend_pid() ORDER BY random() LIMIT {most}"
            );
            connection
                .execute(sqlx::AssertSqlSafe(sql))
                .await
                .map_or(0, |done| usize::try_from(done.rows_affected()).unwrap())
        })
    }
}

#[test]
fn whatever_happens_to_daemons_and_store_every_run_ends_once_and_effects_are_as_promised() {
    let rounds: u64 = std::env::var("MANY_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut random = fastrand::Rng::with_seed(rounds + 11);
    let postgres = Postgres::start_own();
    let url = postgres.url().to_owned();
    let remote = Remote::default();
    let server = Server::start({
        let remote = remote.clone();
        move |request| remote.answer(request)
    });
    let desk = Desk::open(&url, &server.url);
    let (work, spread) = (desk.pipeline("work"), desk.pipeline("spread"));
    let mut machines: Vec<_> = [0, 600, -600, 3].map(|wrong_by| Machine::new(&url, wrong_by)).into();
    machines.iter_mut().for_each(Machine::start);
    let (mut kills, mut stops, mut cuts, mut restarts) = (0, 0, 0, 0);
    // When somebody went on who had been stopped for longer than a lease.
    let mut woken: Vec<Instant> = Vec::new();
    let mut next = 0;
    let mut parents = 0;
    for round in 0..rounds {
        let began = Instant::now();
        let length = Duration::from_secs(24);
        let (mut stopped, mut restarted) = (None, false);
        while began.elapsed() < length {
            for _ in 0..6 {
                desk.enqueue(&work, "n", next);
                next += 1;
            }
            if parents < (round + 1) * 4 {
                // Its children count on from here.
                desk.enqueue(&spread, "from", 1_000_000 + i64::try_from(parents).unwrap() * 100);
                parents += 1;
            }
            std::thread::sleep(Duration::from_millis(250));
            if stopped.is_none() && began.elapsed() > Duration::from_secs(2) {
                let chosen = random.usize(..machines.len());
                machines[chosen].signal(Signal::STOP);
                stopped = Some(chosen);
                stops += 1;
            }
            let free: Vec<_> = (0..machines.len()).filter(|place| Some(*place) != stopped).collect();
            match random.u8(..12) {
                0 | 1 => {
                    machines[free[random.usize(..free.len())]].kill();
                    kills += 1;
                }
                2 | 3 => cuts += desk.cut(&mut random),
                _ => {}
            }
            if !restarted && began.elapsed() > length / 2 {
                postgres.restart();
                restarted = true;
                restarts += 1;
            }
            for place in free {
                machines[place].start();
            }
        }
        if let Some(stopped) = stopped {
            machines[stopped].signal(Signal::CONT);
            woken.push(Instant::now());
        }
    }
    let calm = Instant::now();
    let expected = usize::try_from(next).unwrap() + usize::try_from(parents).unwrap() * 21;
    let most = Duration::from_secs(120);
    until("every run ends", most, || {
        machines.iter_mut().for_each(Machine::start);
        std::thread::sleep(Duration::from_millis(200));
        let runs = desk.runs().unwrap_or_default();
        let ended = runs.iter().filter(|run| run.state.is_final()).count();
        if calm.elapsed() + Duration::from_secs(3) > most {
            let open: Vec<_> = runs.iter().filter(|run| !run.state.is_final()).take(5).collect();
            panic!("{ended} of {expected} runs have ended: {open:#?}\n{}", machines[0].told());
        }
        ended == expected && runs.len() == expected
    });
    let settled = calm.elapsed();
    let taken_over: usize = machines.iter().map(|machine| machine.told().matches("a run is taken over").count()).sum();
    machines.iter_mut().for_each(|machine| assert_eq!(machine.end(), 0));
    let doubled = judge(&desk, &remote, &woken);
    println!(
        "{expected} runs; {kills} daemons killed, {stops} stopped for longer than the lease, {cuts} connections cut, \
         {restarts} restarts of PostgreSQL, {taken_over} runs taken over; {doubled} effects doubled by whoever was frozen \
         between its check and its first byte (the one exception); all ended {settled:?} after the last trouble"
    );
    assert!(kills > 0 && cuts > 0 && taken_over > 0, "trouble was met");
}

/// Holds everything against what is promised. Returns how often the one exception was met.
fn judge(desk: &Desk, remote: &Remote, woken: &[Instant]) -> usize {
    let store = &desk.engine.parts().store;
    let runs = desk.runs().unwrap();
    let mut numbers = Vec::new();
    for run in &runs {
        assert_eq!(run.state, RunState::Succeeded, "{run:#?}");
        // A gap or a double number is an error of reading it.
        let journal = desk.runtime.block_on(store.journal(run.id)).unwrap();
        let ends = journal.iter().filter(|event| matches!(event, RunEvent::Finished { .. })).count();
        assert_eq!(ends, 1, "{run:?} ends once");
        let mut steps: BTreeMap<String, usize> = BTreeMap::new();
        for event in &journal {
            if let RunEvent::Succeeded { path, .. } | RunEvent::Skipped { path, .. } = event {
                *steps.entry(path.to_string()).or_default() += 1;
            }
        }
        assert!(steps.values().all(|count| *count == 1), "{run:?}: {steps:?}");
        match &*run.pipeline {
            "spread" => assert_eq!(run.outputs.to_string(), r#"{"count":20}"#),
            _ => numbers.push(run.inputs.get("n").unwrap().to_text().parse::<i64>().unwrap()),
        }
    }
    numbers.sort_unstable();
    let arrived = remote.0.lock().unwrap();
    // Known by its key: each effect has one, and one is of one effect.
    let mut keyed: Vec<i64> = arrived.safe.values().map(|(n, _)| *n).collect();
    keyed.sort_unstable();
    assert_eq!(keyed, numbers, "with `repeat` an effect happens exactly once");
    let count = |list: &[(i64, Instant)], n: i64| list.iter().filter(|(own, _)| *own == n).count();
    let mut doubled = 0;
    for n in &numbers {
        let times = count(&arrived.asked, *n);
        assert!(times > 0, "with `reconcile` an effect is not lost: {n}");
        if times > 1 {
            // Frozen between the check of the window and the first byte, and gone on after others had asked.
            let late =
                |at: &Instant| woken.iter().any(|woken| *at >= *woken && at.duration_since(*woken).as_secs() < 5);
            let mut all = arrived.asked.iter().filter(|(own, _)| own == n);
            assert!(times == 2 && all.any(|(_, at)| late(at)), "effect {n} was made {times} times");
            doubled += 1;
        }
    }
    let confirmed = EffectFilter { states: vec![EffectState::Confirmed], ..EffectFilter::default() };
    let confirmed = desk.runtime.block_on(store.effects(&confirmed)).unwrap();
    let once = confirmed.iter().filter(|effect| effect.path.to_string() == "once").count();
    for n in &numbers {
        assert!(count(&arrived.once, *n) <= 1, "without either an effect happens at most once: {n}");
    }
    assert!(once <= arrived.once.len(), "what is told to have happened has happened");
    println!(
        "{} effects known by their keys arrived {} times, {} of {} whose remote is asked, {} of {} that nobody can ask about",
        keyed.len(),
        arrived.safe.values().map(|(_, times)| times).sum::<usize>(),
        arrived.asked.len(),
        numbers.len(),
        arrived.once.len(),
        numbers.len(),
    );
    doubled
}
