//! How fast the daemon is ready, and what it takes when it idles. `cargo bench --bench start` prints it.
//!
//! Nothing here passes or fails.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has nothing to say")]

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use pipewright::store::OpenOptions;
use pipewright::store::Store;
use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::Executor;

const STARTS: usize = 15;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("{:<60} {:>10} {:>10}   goal", "workload", "p50", "worst");
    for (pipelines, runs, goal) in [(10, 0, ""), (1_000, 0, ""), (1_000, 100_000, "300 ms")] {
        let folder = tempfile::tempdir().unwrap();
        project(folder.path(), pipelines);
        if runs > 0 {
            fill(folder.path(), runs).await;
        }
        let mut took: Vec<Duration> = (0..STARTS).map(|_| start(folder.path())).collect();
        took.sort_unstable();
        let name = format!("ready with {pipelines} pipelines and {runs} finished runs");
        println!("{name:<60} {:>10.1?} {:>10.1?}   {goal}", took[took.len() / 2], took[took.len() - 1]);
    }
    let folder = tempfile::tempdir().unwrap();
    project(folder.path(), 500);
    let (_, mut daemon) = idle(folder.path());
    let before = cpu(&daemon);
    sleep(Duration::from_secs(60));
    let used = cpu(&daemon) - before;
    for part in ["VmRSS", "RssAnon", "RssFile"] {
        let name = format!("500 idle pipelines, {part}");
        println!("{name:<60} {:>10} KiB   20 MiB in all", memory(&daemon, part));
    }
    let name = "500 idle pipelines, of one core in a minute";
    println!("{name:<60} {:>9.3} %   0.05 %", used * 100.0 / 60.0);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

/// Starts a daemon and measures until it is ready, then ends it.
fn start(root: &Path) -> Duration {
    let (took, mut daemon) = idle(root);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    took
}

fn idle(root: &Path) -> (Duration, Child) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let begin = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_pipewright"))
        .args(["daemon", "--listen", &address, "--log", "error"])
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !ready(&address) {
        assert!(begin.elapsed() < Duration::from_secs(60), "it is never ready");
        sleep(Duration::from_millis(1));
    }
    (begin.elapsed(), child)
}

fn ready(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let mut text = String::new();
    let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    asked.is_ok() && stream.read_to_string(&mut text).is_ok() && text.starts_with("HTTP/1.1 200")
}

fn memory(daemon: &Child, part: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(part)).unwrap_or_default();
    line.split_whitespace().nth(1).unwrap_or("?").to_owned()
}

/// Returns the processor time that a process has used, in seconds.
fn cpu(daemon: &Child) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.id())).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn project(root: &Path, pipelines: usize) {
    fs::create_dir_all(root.join("pipelines")).unwrap();
    fs::write(root.join("pipewright.yaml"), "store: sqlite://.pipewright/state.db\n").unwrap();
    for number in 0..pipelines {
        let text = format!(
            "description: Pipeline {number}.
inputs: {{ topic: {{ type: string, default: news }} }}
triggers:
  - cron: \"{} 9 1 1 *\"
    timezone: Europe/Berlin
steps:
  rows: {{ uses: data.filter, with: {{ items: [{{ n: 1 }}, {{ n: 2 }}], where: \"{{{{ item.n > 1 }}}}\" }} }}
  text: {{ uses: template.render, with: {{ text: \"{{{{ inputs.topic }}}}\" }} }}
  each:
    for_each: \"{{{{ steps.rows.output }}}}\"
    uses: template.render
    with: {{ text: \"{{{{ steps.text.output }}}} {{{{ item.n }}}}\" }}
outputs: {{ texts: \"{{{{ steps.each.output }}}}\" }}
",
            number % 60
        );
        fs::write(root.join(format!("pipelines/p{number}.yaml")), text).unwrap();
    }
}

/// Puts finished runs with their journals into the store.
async fn fill(root: &Path, runs: usize) {
    let url = format!("sqlite://{}", root.join(".pipewright/state.db").display());
    Store::open(&url, OpenOptions::default()).await.unwrap().close().await.unwrap();
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let numbers = format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {runs})");
    let id = "printf('01ARZ3NDEKTSV4RRFF%08d', i)";
    let ended = 1_790_000_000_000_000_i64;
    for sql in [
        "BEGIN".to_owned(),
        format!(
            "INSERT INTO runs (id, pipeline, version, inputs, priority, created_at, state, outputs, started_at, ended_at, \
             fence, beat, signals, last_signal) {numbers} SELECT {id}, 'p' || (i % 1000), 'v', '{{\"topic\":\"news\"}}', 5, \
             {ended}, 'succeeded', '{{\"texts\":[\"a\",\"b\"]}}', {ended}, {ended} + i, 1, 3, 0, 0 FROM n"
        ),
        format!(
            "INSERT INTO journal (run_id, seq, last_seq, events) {numbers} SELECT {id}, 1, 8, \
             '{{\"event\":\"succeeded\",\"path\":\"rows\",\"output\":\"' || hex(randomblob(300)) || '\"}}' FROM n"
        ),
        "COMMIT".to_owned(),
    ] {
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    connection.close().await.unwrap();
}
