//! The figures of the engine: one table, measured against what the machine gives raw. `cargo bench` prints it.
//!
//! Nothing here passes or fails. Rows marked *disk* are bounded by fsync and stand beside the raw store, measured in
//! the same run and the same folder.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has nothing to say")]

use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use pipewright::engine::Engine;
use pipewright::engine::ExecuteOptions;
use pipewright::engine::Execution;
use pipewright::engine::NoSecrets;
use pipewright::engine::Parts;
use pipewright::engine::plan::Circumstances;
use pipewright::engine::plan::PlanFile;
use pipewright::engine::plan::PlanOptions;
use pipewright::http::Request;
use pipewright::http::ReqwestTransport;
use pipewright::http::Response;
use pipewright::http::Transport;
use pipewright::http::TransportError;
use pipewright::model::RunState;
use pipewright::model::Value;
use pipewright::node::Access;
use pipewright::pipeline::Pipeline;
use pipewright::store::OpenOptions;
use pipewright::store::Store;
use pipewright::system::System;
use sqlx::Connection;
use sqlx::Executor;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

/// How often each row is measured; the median is shown.
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    // `cargo bench -- FILTER` runs the rows whose name holds the filter.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let bench = Bench { filter };
    println!("{:<52} {:>14} {:>14}   beside it", "workload", "measured", "goal");
    bench.whole_process();
    bench.chain("").await;
    bench.strict().await;
    bench.fan("W3 1 → 1,000 → 1", 1_000).await;
    bench.layers().await;
    bench.side_by_side().await;
    bench.big_fan().await;
    bench.http().await;
    bench.effects_in_parallel().await;
    bench.effects_in_a_chain().await;
    bench.plan().await;
    bench.validate();
}

struct Bench {
    filter: String,
}

/// A remote that answers at once, so that the ledger is measured and not the network.
#[derive(Debug)]
struct Instantly;

#[async_trait::async_trait]
impl Transport for Instantly {
    async fn send(&self, _: Request) -> Result<Response, TransportError> {
        Ok(Response {
            status: 200,
            headers: vec![("content-type".into(), "application/json".into())],
            body: "{}".into(),
        })
    }
}

/// An engine on a fresh embedded store.
struct World {
    engine: Engine,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with(Arc::new(ReqwestTransport::new())).await
    }

    async fn with(http: Arc<dyn Transport>) -> Self {
        let folder = tempfile::Builder::new().prefix("bench").tempdir_in(target()).unwrap();
        let url = format!("sqlite://{}", folder.path().join("state.db").display());
        let store = Store::open(&url, OpenOptions::default()).await.unwrap();
        let engine = Engine::new(Parts {
            system: System::real(),
            store,
            http,
            access: Access {
                root: folder.path().to_owned(),
                files_outside: false,
                shell: false,
                databases: Vec::new(),
                rehearsal: false,
            },
            secrets: Arc::new(NoSecrets),
            owner: "bench".to_owned(),
            owner_is_gone: |_| false,
            send_window: pipewright::model::Duration::from_secs(30),
            services: pipewright::node::Services::default(),
            probe: pipewright::engine::Probe::default(),
            tape: Default::default(),
        });
        Self { engine, folder }
    }

    /// Runs a pipeline to its end and tells how long it took, everything durable.
    async fn run(&self, pipeline: &Arc<Pipeline>) -> Duration {
        let begin = Instant::now();
        let run = self.engine.start(pipeline, Value::map::<&str>([])).await.unwrap();
        let execution = self.engine.execute(run, pipeline.clone(), ExecuteOptions::default()).await.unwrap();
        let took = begin.elapsed();
        match execution {
            Execution::Finished { state: RunState::Succeeded, .. } => took,
            other => panic!("the run did not succeed: {other:?}"),
        }
    }
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        name.to_lowercase().contains(&self.filter.to_lowercase())
    }

    fn whole_process(&self) {
        let name = "W1 cold `run` of one pure step, whole process";
        if !self.wants(name) {
            return;
        }
        let Some(binary) = binary() else { return println!("{name:<52} {:>14}", "no binary") };
        let folder = tempfile::tempdir_in(target()).unwrap();
        std::fs::write(
            folder.path().join("one.yaml"),
            pipeline_text("  a: { uses: data.map, with: { items: [1], to: \"{{ item }}\" } }\n"),
        )
        .unwrap();
        let once = || {
            let begin = Instant::now();
            let mut command = Command::new(&binary);
            command
                .args(["run", "one.yaml", "--quiet"])
                .current_dir(&folder)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            assert!(command.status().unwrap().success());
            begin.elapsed()
        };
        once();
        let took = median((0..20).map(|_| once()).collect());
        let memory = peak_of(&binary, folder.path());
        row(name, &format!("{:.1} ms", milliseconds(took)), "15 ms, 20 MiB", &memory);
    }

    async fn chain(&self, extra: &str) {
        let name = "W2 chain of 1,000 pure steps, written behind";
        if !self.wants(name) {
            return;
        }
        let pipeline = compile(&chain(1_000, extra));
        let took = median_of(&pipeline).await;
        row(name, &rate(1_000, took, "steps"), "50,000 steps/s", "");
    }

    async fn strict(&self) {
        let name = "W2 with `durability: strict` (disk)";
        if !self.wants(name) {
            return;
        }
        let pipeline = compile(&chain(1_000, "durability: strict\n"));
        let mut ratios = Vec::new();
        let mut shown = (Duration::ZERO, Duration::ZERO);
        for _ in 0..ROUNDS {
            let world = World::new().await;
            let raw = raw_commits(world.folder.path(), 1_000, 1).await;
            let took = world.run(&pipeline).await;
            ratios.push(raw.as_secs_f64() / took.as_secs_f64());
            shown = (took, raw);
        }
        let beside = format!("raw {}", rate(1_000, shown.1, "commits"));
        row(name, &format!("{:.0} % of raw", middle(&mut ratios) * 100.0), "70 % of raw", &beside);
    }

    async fn fan(&self, name: &str, items: usize) {
        if !self.wants(name) {
            return;
        }
        let pipeline = compile(&fan(items));
        let took = median_of(&pipeline).await;
        row(name, &rate(items + 2, took, "steps"), "100,000 steps/s", "");
    }

    async fn layers(&self) {
        let name = "W4 ten layers of 100, each on 3 before";
        if !self.wants(name) {
            return;
        }
        let mut steps = String::new();
        for layer in 0..10 {
            for place in 0..100 {
                let needs: Vec<_> = (0..3).map(|by| format!("s{}_{}", layer - 1, (place + by * 7) % 100)).collect();
                let list = match layer {
                    0 => format!("[{place}]"),
                    _ => needs
                        .iter()
                        .map(|id| format!("\"{{{{ steps.{id}.output[0] }}}}\""))
                        .collect::<Vec<_>>()
                        .join(", "),
                };
                let list = if layer == 0 { list } else { format!("[{list}]") };
                steps.push_str(&format!(
                    "  s{layer}_{place}: {{ uses: data.map, with: {{ items: {list}, to: \"{{{{ item }}}}\" }} }}\n"
                ));
            }
        }
        let pipeline = compile(&pipeline_text(&steps));
        let took = median_of(&pipeline).await;
        row(name, &rate(1_000, took, "steps"), "60,000 steps/s", "");
    }

    async fn side_by_side(&self) {
        let name = "W5 40 light steps side by side, one run";
        if !self.wants(name) {
            return;
        }
        let steps: String = (0..40).map(|index| light(&format!("s{index}"), &index.to_string())).collect();
        let took = median_of(&compile(&pipeline_text(&steps))).await;
        row(name, &format!("{:.2} ms", milliseconds(took)), "5 ms", "");
    }

    async fn big_fan(&self) {
        let name = "W3 with 100,000 items";
        if !self.wants(name) {
            return;
        }
        let (small, big) = (compile(&fan(1_000)), compile(&fan(100_000)));
        let small = median_of(&small).await.as_secs_f64() / 1_000.0;
        let world = World::new().await;
        let took = world.run(&big).await.as_secs_f64() / 100_000.0;
        let beside = format!("{:.1} µs a step; peak {}", took * 1e6, own_peak());
        row(name, &format!("{:.2} × small", took / small), "1.5 ×, 300 MiB", &beside);
    }

    async fn http(&self) {
        let name = "W8 200 HTTP calls of 50 ms, recorded";
        if !self.wants(name) {
            return;
        }
        let address = slow_server(Duration::from_millis(50)).await;
        let items: Vec<_> = (0..200).map(|item| item.to_string()).collect();
        let step = format!(
            "  calls:\n    for_each: [{}]\n    max_parallel: 200\n    uses: http.request\n    with: {{ method: GET, url: \"http://{address}/{{{{ item }}}}\" }}\n",
            items.join(", ")
        );
        let pipeline = compile(&pipeline_text(&step));
        let took = median_of(&pipeline).await;
        row(name, &format!("{:.1} ms", milliseconds(took)), "65 ms", "ideal 50 ms");
    }

    async fn effects_in_parallel(&self) {
        let name = "1,000 write effects in parallel (disk)";
        if !self.wants(name) {
            return;
        }
        let items: Vec<_> = (0..1_000).map(|item| item.to_string()).collect();
        let pipeline = |address: &str| {
            compile(&pipeline_text(&format!(
                "  calls:\n    for_each: [{}]\n    max_parallel: 1000\n    uses: http.request\n    with: {{ method: POST, url: \"http://{address}/{{{{ item }}}}\" }}\n",
                items.join(", ")
            )))
        };
        let remote = pipeline("remote");
        let (mut ratios, mut shown) = (Vec::new(), Default::default());
        for _ in 0..ROUNDS {
            let world = World::with(Arc::new(Instantly)).await;
            // Two commits an effect, a hundred effects to a group: what a store could do that did nothing else.
            let raw = raw_commits(world.folder.path(), 20, 100).await;
            let rows = raw_effects(world.folder.path(), 10, 100).await;
            let took = world.run(&remote).await;
            ratios.push(took.as_secs_f64() / rows.as_secs_f64());
            shown = (took, raw, rows);
        }
        let beside = format!(
            "{:.1} ms; raw SQLite in groups of 100: the same rows {:.1} ms, rows of 64 bytes {:.1} ms",
            milliseconds(shown.0),
            milliseconds(shown.2),
            milliseconds(shown.1)
        );
        row(name, &format!("{:.1} × raw", middle(&mut ratios)), "2 × raw", &beside);
        let address = slow_server(Duration::ZERO).await;
        let took = World::new().await.run(&pipeline(&address.to_string())).await;
        row(
            "  the same over loopback HTTP",
            &format!("{:.1} ms", milliseconds(took)),
            "",
            "requests on the same two cores",
        );
    }

    async fn effects_in_a_chain(&self) {
        let name = "1,000 write effects in a chain (disk)";
        if !self.wants(name) {
            return;
        }
        let pipeline = |address: &str| {
            let mut steps = String::new();
            for index in 0..1_000 {
                let needs = if index == 0 { String::new() } else { format!("needs: [s{}], ", index - 1) };
                steps.push_str(&format!("  s{index}: {{ {needs}uses: http.request, with: {{ method: POST, url: \"http://{address}/{index}\" }} }}\n"));
            }
            compile(&pipeline_text(&steps))
        };
        let remote = pipeline("remote");
        let (mut ratios, mut shown) = (Vec::new(), Default::default());
        for _ in 0..ROUNDS {
            let world = World::with(Arc::new(Instantly)).await;
            let raw = raw_commits(world.folder.path(), 2_000, 1).await;
            let took = world.run(&remote).await;
            ratios.push(took.as_secs_f64() / raw.as_secs_f64());
            shown = (took, raw);
        }
        let beside = format!("{:.0} ms, two raw commits each {:.0} ms", milliseconds(shown.0), milliseconds(shown.1));
        row(name, &format!("{:.2} × raw", middle(&mut ratios)), "1.3 × raw", &beside);
        let address = slow_server(Duration::ZERO).await;
        let took = World::new().await.run(&pipeline(&address.to_string())).await;
        row("  the same over loopback HTTP", &format!("{:.0} ms", milliseconds(took)), "", "");
    }

    async fn plan(&self) {
        let name = "W9 plan of 1,000 predicted effects";
        if !self.wants(name) {
            return;
        }
        let pipeline = compile(
            "steps:\n  rows: { uses: data.map, with: { items: \"{{ range(1000) | list }}\", to: \"{{ item }}\" } }\n  \
             each: { for_each: \"{{ steps.rows.output }}\", uses: http.request, with: { method: POST, \
             url: \"https://example.com/orders\", json: { number: \"{{ item }}\", of: \"{{ steps.rows.output | length }}\" } } }\n",
        );
        let world = World::new().await;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            let inputs = Value::map::<&str>([]);
            let plan = world.engine.plan(&pipeline, inputs, PlanOptions::default()).await.unwrap();
            let file = PlanFile::new(&plan, &Circumstances::default()).to_text();
            rounds.push(begin.elapsed());
            assert_eq!((plan.effects.len(), plan.failure), (1_000, None));
            assert!(file.len() > 1_000);
        }
        row(name, &format!("{:.1} ms", milliseconds(median(rounds))), "100 ms", "");
    }

    fn validate(&self) {
        let name = "`validate` of 1,000 files of 20 steps";
        if !self.wants(name) {
            return;
        }
        let Some(binary) = binary() else { return println!("{name:<52} {:>14}", "no binary") };
        let folder = tempfile::tempdir_in(target()).unwrap();
        std::fs::create_dir(folder.path().join("pipelines")).unwrap();
        for file in 0..1_000 {
            let text = chain(20, "").replacen("name: bench", &format!("name: bench-{file}"), 1);
            std::fs::write(folder.path().join(format!("pipelines/bench-{file}.yaml")), text).unwrap();
        }
        let once = || {
            let begin = Instant::now();
            let mut command = Command::new(&binary);
            command.args(["validate", "pipelines"]).current_dir(&folder).stdout(Stdio::null()).stderr(Stdio::null());
            assert!(command.status().unwrap().success());
            begin.elapsed()
        };
        let took = median((0..ROUNDS).map(|_| once()).collect());
        row(name, &format!("{:.0} ms", milliseconds(took)), "1,000 ms", "");
    }
}

/// A step that does next to nothing.
fn light(id: &str, value: &str) -> String {
    format!("  {id}: {{ uses: data.map, with: {{ items: [{value}], to: \"{{{{ item }}}}\" }} }}\n")
}

fn pipeline_text(steps: &str) -> String {
    format!("name: bench\nsteps:\n{steps}")
}

fn chain(length: usize, extra: &str) -> String {
    let mut steps = light("s0", "0");
    for index in 1..length {
        steps.push_str(&light(&format!("s{index}"), &format!("\"{{{{ steps.s{}.output[0] + 1 }}}}\"", index - 1)));
    }
    pipeline_text(&steps).replacen("steps:\n", &format!("{extra}steps:\n"), 1)
}

fn fan(items: usize) -> String {
    let steps = format!(
        "  first: {{ uses: data.map, with: {{ items: \"{{{{ range({items}) | list }}}}\", to: \"{{{{ item }}}}\" }} }}\n  each:\n    for_each: \"{{{{ steps.first.output }}}}\"\n    uses: data.map\n    with: {{ items: [\"{{{{ item }}}}\"], to: \"{{{{ item }}}}\" }}\n  last: {{ uses: data.map, with: {{ items: [\"{{{{ steps.each.output | length }}}}\"], to: \"{{{{ item }}}}\" }} }}\n"
    );
    pipeline_text(&steps)
}

fn compile(text: &str) -> Arc<Pipeline> {
    match pipewright::pipeline::compile_text("bench.yaml", text, &pipewright::nodes::registry()) {
        (Some(pipeline), _) => pipeline,
        (None, diagnostics) => panic!("{diagnostics:#?}"),
    }
}

async fn median_of(pipeline: &Arc<Pipeline>) -> Duration {
    let world = World::new().await;
    world.run(pipeline).await;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(world.run(pipeline).await);
    }
    median(rounds)
}

/// Commits `count` transactions of `rows` rows each, one after the other, in a database of its own.
async fn raw_commits(folder: &Path, count: usize, rows: usize) -> Duration {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(folder.join("raw.db"))
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
        .synchronous(sqlx::sqlite::SqliteSynchronous::Full);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    connection.execute("CREATE TABLE IF NOT EXISTS raw (id INTEGER PRIMARY KEY, text TEXT)").await.unwrap();
    let values = vec!["('0123456789012345678901234567890123456789012345678901234567890123')"; rows].join(",");
    let statement: &'static str = Box::leak(format!("INSERT INTO raw (text) VALUES {values}").into_boxed_str());
    let begin = Instant::now();
    for _ in 0..count {
        connection.execute(statement).await.unwrap();
    }
    begin.elapsed()
}

/// Does to raw tables what the ledger must do: in groups, the rows of intents with their journal, then their ends.
async fn raw_effects(folder: &Path, groups: usize, rows: usize) -> Duration {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(folder.join("raw-effects.db"))
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
        .synchronous(sqlx::sqlite::SqliteSynchronous::Full);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let tables = "CREATE TABLE effects (id TEXT NOT NULL, run_id TEXT NOT NULL, path TEXT, business_key TEXT, kind TEXT, \
                  state TEXT, attempt BIGINT, send_before BIGINT, answer_before BIGINT, intended_at BIGINT, \
                  updated_at BIGINT, error TEXT, remote_id TEXT, settled_by TEXT, fingerprint TEXT, intent_seq BIGINT, \
                  PRIMARY KEY (run_id, id)); \
                  CREATE TABLE journal (run_id TEXT, seq BIGINT, last_seq BIGINT, events TEXT, PRIMARY KEY (run_id, seq))";
    connection.execute(tables).await.unwrap();
    let run = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let mut script: Vec<String> = Vec::new();
    for group in 0..groups {
        let ids = || (group * rows..(group + 1) * rows).map(|row| format!("{run}/calls[{row}]"));
        let values: Vec<_> = ids()
            .map(|id| format!("('{id}','{run}','calls','{id}','create','open',1,1,1,1,1,NULL,NULL,NULL,NULL,1)"))
            .collect();
        let changed: Vec<_> = ids().map(|id| format!("('{run}','{id}','confirmed',2)")).collect();
        // About as long as the events of an intent and of its end.
        let events = |length: usize| "e".repeat(length * rows);
        script.push(format!(
            "BEGIN; INSERT INTO effects VALUES {}; INSERT INTO journal VALUES ('{run}',{},1,'{}'); COMMIT",
            values.join(","),
            2 * group,
            events(450)
        ));
        script.push(format!(
            "BEGIN; WITH changed (run_id, id, state, at) AS (VALUES {}) UPDATE effects SET state = changed.state, \
             updated_at = changed.at FROM changed WHERE effects.run_id = changed.run_id AND effects.id = changed.id; \
             INSERT INTO journal VALUES ('{run}',{},1,'{}'); COMMIT",
            changed.join(","),
            2 * group + 1,
            events(250)
        ));
    }
    let script: Vec<&'static str> = script.into_iter().map(|text| &*Box::leak(text.into_boxed_str())).collect();
    let begin = Instant::now();
    for statement in script {
        connection.execute(statement).await.unwrap();
    }
    begin.elapsed()
}

/// Serves any request with an empty JSON object after a pause, connections kept alive.
async fn slow_server(pause: Duration) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let mut buffer = [0_u8; 4096];
                let mut held = Vec::new();
                while let Ok(count) = stream.read(&mut buffer).await {
                    if count == 0 {
                        break;
                    }
                    held.extend_from_slice(&buffer[..count]);
                    while let Some(end) = held.windows(4).position(|window| window == b"\r\n\r\n") {
                        held.drain(..end + 4);
                        if !pause.is_zero() {
                            tokio::time::sleep(pause).await;
                        }
                        let answer =
                            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

fn row(name: &str, measured: &str, goal: &str, beside: &str) {
    println!("{name:<52} {measured:>14} {goal:>14}   {beside}");
}

fn rate(count: usize, took: Duration, what: &str) -> String {
    #[expect(clippy::cast_precision_loss, reason = "counts here are small")]
    let rate = count as f64 / took.as_secs_f64();
    format!("{rate:.0} {what}/s")
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

fn median(mut rounds: Vec<Duration>) -> Duration {
    rounds.sort();
    rounds[rounds.len() / 2]
}

fn middle(ratios: &mut [f64]) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// The folder that the build uses: on the disk that is to be measured, not in a memory file system.
fn target() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target").leak_path()
}

trait LeakPath {
    fn leak_path(self) -> &'static Path;
}

impl LeakPath for std::path::PathBuf {
    fn leak_path(self) -> &'static Path {
        Box::leak(self.into_boxed_path())
    }
}

fn binary() -> Option<std::path::PathBuf> {
    let path = std::path::PathBuf::from(env!("CARGO_BIN_EXE_pipewright"));
    path.exists().then_some(path)
}

/// The peak memory of a whole `run`, as GNU time reports it, where it is installed.
fn peak_of(binary: &Path, folder: &Path) -> String {
    let mut command = Command::new("/usr/bin/time");
    let output =
        command.args(["-f", "%M"]).arg(binary).args(["run", "one.yaml", "--quiet"]).current_dir(folder).output();
    let text = output.ok().map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    let kilobytes = text.and_then(|text| text.lines().last()?.trim().parse::<f64>().ok());
    kilobytes.map_or("peak unknown (no GNU time)".to_owned(), |kilobytes| format!("peak {:.1} MiB", kilobytes / 1024.0))
}

/// The peak memory of this process so far.
fn own_peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kilobytes.map_or("unknown".to_owned(), |kilobytes| format!("{:.0} MiB", kilobytes / 1024.0))
}
