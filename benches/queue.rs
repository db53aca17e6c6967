//! The figures of the queue: runs that are enqueued and executed, one step each. `cargo bench --bench queue` prints them.
//!
//! Nothing here passes or fails. `TEST_POSTGRES_URL` names a server for the rows of PostgreSQL. Where
//! `npm install --prefix benches/graphile` was called, graphile-worker does as many empty jobs beside them.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has nothing to say")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use pipewright::daemon::bell::Bell;
use pipewright::daemon::metrics::Metrics;
use pipewright::daemon::worker::Worker;
use pipewright::engine::Engine;
use pipewright::engine::NoSecrets;
use pipewright::engine::Parts;
use pipewright::http::ReqwestTransport;
use pipewright::model::RunState;
use pipewright::model::Value;
use pipewright::node::Access;
use pipewright::node::Services;
use pipewright::pipeline::Catalog;
use pipewright::pipeline::Pipeline;
use pipewright::store::OpenOptions;
use pipewright::store::RunFilter;
use pipewright::store::Store;
use pipewright::system::System;
use tokio_util::sync::CancellationToken;

/// How many runs there are.
const RUNS: usize = 20_000;
/// How many are enqueued in one transaction.
const BATCH: usize = 1_000;
const ROUNDS: usize = 3;

const ONE_STEP: &str = "steps:\n  a: { uses: data.map, with: { items: [1], to: \"{{ item }}\" } }\n";

#[tokio::main]
async fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    println!("{:<52} {:>14} {:>14}   beside it", "workload", "measured", "goal");
    for runs in [32, 128] {
        if "embedded".contains(&filter) {
            embedded(runs).await;
        }
    }
    let Ok(server) = std::env::var("TEST_POSTGRES_URL") else {
        return println!("{:<52} {:>14}", "the same on PostgreSQL", "no server");
    };
    for workers in [1, 2, 4] {
        if "postgres".contains(&filter) {
            postgres(&server, workers).await;
        }
    }
}

fn pipeline(root: &Path) -> Arc<Pipeline> {
    std::fs::create_dir_all(root.join("pipelines")).unwrap();
    std::fs::write(root.join("pipelines/one.yaml"), ONE_STEP).unwrap();
    let loaded = Catalog::open(root, pipewright::nodes::registry()).load("one").unwrap();
    loaded.pipeline.unwrap()
}

async fn engine(root: &Path, url: &str) -> Engine {
    let access =
        Access { root: root.to_owned(), files_outside: false, shell: false, databases: Vec::new(), rehearsal: false };
    Engine::new(Parts {
        system: System::real(),
        store: Store::open(url, OpenOptions::default()).await.unwrap(),
        http: Arc::new(ReqwestTransport::new()),
        access,
        secrets: Arc::new(NoSecrets),
        owner: "bench".to_owned(),
        owner_is_gone: |_| false,
        send_window: pipewright::model::Duration::from_secs(30),
        services: Services::default(),
        probe: pipewright::engine::Probe::default(),
        tape: Default::default(),
    })
}

/// Enqueues all runs, many in a transaction.
async fn enqueue(engine: &Engine, pipeline: &Pipeline) {
    engine.keep_version(pipeline).await.unwrap();
    for _ in 0..RUNS / BATCH {
        let runs: Vec<_> = (0..BATCH).map(|_| engine.row(pipeline, Value::map::<&str>([])).unwrap()).collect();
        engine.parts().store.create_runs(&runs).await.unwrap();
    }
}

/// A worker in this process, with the bell that wakes it.
fn worker(engine: &Engine, runs: usize) -> (Worker, Bell, Arc<Metrics>, CancellationToken) {
    let (bell, metrics, stop) = (Bell::default(), Arc::new(Metrics::default()), CancellationToken::new());
    let worker = Worker {
        engine: engine.clone(),
        registry: pipewright::nodes::registry(),
        active: tokio::sync::watch::channel(Arc::default()).1,
        bell: bell.clone(),
        metrics: metrics.clone(),
        most: runs,
        stop: stop.clone(),
        drain: pipewright::model::Duration::from_secs(30),
    };
    (worker, bell, metrics, stop)
}

async fn embedded(at_once: usize) {
    let mut took = Vec::new();
    let mut parts = String::new();
    for _ in 0..ROUNDS {
        let folder = tempfile::Builder::new().prefix("bench").tempdir_in(target()).unwrap();
        let url = format!("sqlite://{}", folder.path().join("state.db").display());
        let engine = engine(folder.path(), &url).await;
        let pipeline = pipeline(folder.path());
        let begin = Instant::now();
        enqueue(&engine, &pipeline).await;
        let enqueued = begin.elapsed();
        let (worker, _, metrics, stop) = worker(&engine, at_once);
        let working = tokio::spawn(worker.work());
        let done = format!("runs_ended_total{{state=\"succeeded\"}} {RUNS}\n");
        while !metrics.text(&[]).contains(&done) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        took.push(begin.elapsed());
        parts = format!("enqueue {:.0} ms, execute {:.0} ms", ms(enqueued), ms(begin.elapsed() - enqueued));
        stop.cancel();
        working.await.unwrap();
        let filter = RunFilter { states: vec![RunState::Succeeded], ..RunFilter::default() };
        assert_eq!(engine.parts().store.runs(&filter).await.unwrap().len(), RUNS);
    }
    took.sort_unstable();
    let rate = RUNS as f64 / took[took.len() / 2].as_secs_f64();
    let name = format!("20,000 one-step runs, embedded, `--runs {at_once}`");
    println!("{name:<52} {:>14} {:>14}   {parts}", format!("{rate:.0} runs/s"), "10,000 runs/s");
}

/// Enqueues in this process, executes in others, each a daemon of its own.
async fn postgres(server: &str, workers: usize) {
    use sqlx::Connection;
    use sqlx::Executor;
    let mut rates = Vec::new();
    for round in 0..ROUNDS {
        let folder = tempfile::Builder::new().prefix("bench").tempdir_in(target()).unwrap();
        let name = format!("bench_{}_{workers}_{round}", std::process::id());
        let mut admin = sqlx::PgConnection::connect(server).await.unwrap();
        admin.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
        std::fs::write(folder.path().join("pipewright.yaml"), format!("store: \"{url}\"\n")).unwrap();
        let pipeline = pipeline(folder.path());
        let engine = engine(folder.path(), &url).await;
        let mut daemons: Vec<_> = (0..workers)
            .map(|_| {
                let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pipewright"));
                command.args([
                    "--log",
                    "error",
                    "daemon",
                    "--listen",
                    "127.0.0.1:0",
                    "--role",
                    "worker",
                    "--runs",
                    "128",
                ]);
                command.current_dir(folder.path()).stdout(std::process::Stdio::null()).spawn().unwrap()
            })
            .collect();
        // They are there, connected, and have nothing to do.
        while engine.parts().store.workers().await.unwrap().len() < workers {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let begin = Instant::now();
        enqueue(&engine, &pipeline).await;
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        let open = "SELECT COUNT(*) FROM runs WHERE state <> 'succeeded'";
        while sqlx::query_scalar::<_, i64>(open).fetch_one(&mut connection).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        rates.push(RUNS as f64 / begin.elapsed().as_secs_f64());
        for daemon in &mut daemons {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
        engine.parts().store.close().await.unwrap();
        drop(connection);
        admin.execute(sqlx::AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await.unwrap();
    }
    rates.sort_by(f64::total_cmp);
    let name = format!("20,000 one-step runs, PostgreSQL, {workers} processes");
    let beside = graphile(server, workers).await.unwrap_or_else(|| "graphile-worker is not installed".to_owned());
    let rate = format!("{:.0} runs/s", rates[rates.len() / 2]);
    println!("{name:<52} {rate:>14} {:>14}   {beside}", "15,000 runs/s");
}

/// Has graphile-worker do as many jobs that do nothing, in so many processes.
async fn graphile(server: &str, workers: usize) -> Option<String> {
    use sqlx::Connection;
    use sqlx::Executor;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/graphile");
    if !folder.join("node_modules").exists() {
        return None;
    }
    let name = format!("bench_graphile_{}_{workers}", std::process::id());
    let mut admin = sqlx::PgConnection::connect(server).await.unwrap();
    admin.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let mut command = std::process::Command::new("node");
    command.arg(folder.join("measure.mjs")).arg(workers.to_string());
    command.env("DATABASE_URL", format!("{}/{name}", server.rsplit_once('/').unwrap().0));
    let told = command.output().unwrap();
    admin.execute(sqlx::AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await.unwrap();
    Some(format!("graphile-worker {} jobs/s", String::from_utf8_lossy(&told.stdout).trim()))
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The folder of the build: on a disk, unlike the system's folder for temporary files.
fn target() -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_pipewright")).parent().unwrap().to_owned();
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
