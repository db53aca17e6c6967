//! The figures of the connectors, beside what the machine gives raw. `cargo bench --bench connectors` prints them.
//!
//! Nothing here passes or fails.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has nothing to say")]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use pipewright::connector::auth::custody::Custody;
use pipewright::connector::call::Asked;
use pipewright::connector::call::Means;
use pipewright::connector::call::call;
use pipewright::connector::connection::Connection;
use pipewright::connector::library;
use pipewright::connector::library::Library;
use pipewright::connector::library::Loaded;
use pipewright::connector::manifest::Manifest;
use pipewright::connector::runtime::Connections;
use pipewright::connector::runtime::Runtime;
use pipewright::http::ReqwestTransport;
use pipewright::model::StepPath;
use pipewright::model::Value;
use pipewright::model::VersionId;
use pipewright::store::NewRun;
use pipewright::store::OpenOptions;
use pipewright::store::Store;
use pipewright::store::VersionRecord;
use pipewright::system::System;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const CALLS: u32 = 5_000;
const ROUNDS: usize = 5;
/// Rows of one page.
const PAGE: usize = 1_000;

#[tokio::main]
async fn main() {
    println!("{:<44} {:>16} {:>16}   beside it", "workload", "measured", "goal");
    manifests();
    overhead().await;
    chat().await;
    paged().await;
}

fn row(name: &str, measured: &str, goal: &str, beside: &str) {
    println!("{name:<44} {measured:>16} {goal:>16}   {beside}");
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Reads each manifest of the binary, as a run does that names it.
fn manifests() {
    for (name, text) in library::BUILT_IN {
        let load = || {
            // A library remembers; each round has its own.
            let library = Library::default();
            let began = Instant::now();
            assert!(matches!(library.get(name), Loaded::Manifest(_)));
            began.elapsed().as_secs_f64() * 1e3
        };
        let mut times: Vec<f64> = (0..ROUNDS * 4).map(|_| load()).collect();
        let beside = format!("{} bytes with its examples", text.len());
        row(&format!("load `{name}`"), &format!("{:.2} ms", middle(&mut times)), "2 ms", &beside);
    }
}

#[derive(Debug)]
struct To(String);

impl Connections for To {
    fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
        let settings = Value::map([("base_url", Value::from(self.0.as_str()))]);
        let key = if &*manifest.name == "openai" { "api_key" } else { "token" };
        Connection::make(name, manifest, settings, &Value::map([(key, Value::from(TOKEN))]), true)
    }
}

/// Long enough to be searched for in what is recorded.
const TOKEN: &str = "sk-0123456789abcdefghijklmnopqrstuvwxyz";

const SHOP: &str = r#"connector: shop
base_url: { api: "{{ config.base_url }}" }
auth: { bearer: { token: "{{ auth.token }}" } }
errors: [ { status: 404, then: not_found } ]
operations:
  get: { effect: read, input: { properties: { id: { type: string } } }, request: { get: "/things/{{ input.id }}", query: { a: b } }, output: { ok: "{{ body.ok }}" } }
"#;

/// One call after the other on a kept-alive connection, beside the same by reqwest alone.
async fn overhead() {
    let url = serve(|_, _| r#"{"ok":true}"#.to_owned()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}", folder.path().join("s.db").display());
    let store = Store::open(&file, OpenOptions::default()).await.unwrap();
    let custody = Custody { store, http: Arc::new(ReqwestTransport::new()), system: System::real() };
    let Loaded::Manifest(manifest) = library::read(&"shop.yaml".into(), &SHOP.into()) else { return };
    // As the program has it: with limits that are kept in the store.
    let runtime = Runtime::new(Arc::new(To(url.clone()))).with_custody(custody.clone());
    let link = runtime.link(&manifest, "shop").unwrap();
    let operation = manifest.operations.get("get").unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bare = reqwest::Client::new();
    let canceled = CancellationToken::new();
    let (mut differences, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..CALLS {
            let answer = bare.get(format!("{url}/things/7?a=b")).bearer_auth(TOKEN).send().await.unwrap();
            let _: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        }
        let alone = began.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS);
        let began = Instant::now();
        for _ in 0..CALLS {
            let asked = Asked::new(operation, Value::map([("id", Value::from("7"))]));
            call(&link, &custody.means(&canceled), asked).await.unwrap();
        }
        let ours = began.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS);
        differences.push(ours - alone);
        raw.push(alone);
    }
    let beside = format!("reqwest alone {:.1} µs", middle(&mut raw));
    row("overhead of a connector's call", &format!("{:.1} µs", middle(&mut differences)), "30 µs", &beside);
}

/// How many questions are under way at once, and how long a provider thinks.
const AT_ONCE: usize = 1_000;
const THINKS: Duration = Duration::from_millis(200);

/// A question to a model on a kept-alive connection, and many at once to one that thinks, beside the same by reqwest alone.
async fn chat() {
    const ANSWER: &str = r#"{"id":"resp_1","object":"response","status":"completed","error":null,"model":"gpt-6-luna","output":[{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"Release 2.4 imports twice as fast."}]}],"usage":{"input_tokens":27,"output_tokens":9,"total_tokens":36}}"#;
    const QUESTION: &str = r#"{"model":"gpt-6-luna","input":[{"role":"user","content":[{"type":"input_text","text":"Post about release 2.4"}]}],"store":false,"max_output_tokens":400}"#;
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}", folder.path().join("s.db").display());
    let store = Store::open(&file, OpenOptions::default()).await.unwrap();
    let custody = Custody { store, http: Arc::new(ReqwestTransport::new()), system: System::real() };
    let library = Library::default();
    let Loaded::Manifest(manifest) = library.get("openai") else { return };
    let operation = manifest.operations.get("chat").unwrap();
    let message = Value::map([("role", Value::from("user")), ("content", "Post about release 2.4".into())]);
    let question = Value::map([
        ("model", Value::from("gpt-6-luna")),
        ("messages", Value::list(vec![message])),
        ("max_tokens", 400_u64.into()),
    ]);
    let bare = reqwest::Client::new();
    let ask = |url: String| {
        let bare = bare.clone();
        async move {
            let request = bare.post(format!("{url}/responses")).bearer_auth(TOKEN);
            let answer = request.header("content-type", "application/json").body(QUESTION).send().await.unwrap();
            let _: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        }
    };
    let canceled = CancellationToken::new();
    // A step of a run, as questions have it: what they have cost is written behind.
    let (run, path): (_, StepPath) = (custody.system.run_id(), "draft".parse().unwrap());
    let version = VersionId("v".into());
    let kept = VersionRecord { id: version.clone(), pipeline: "posts".into(), definition: "{}".into() };
    custody.store.put_version(&kept).await.unwrap();
    let new = NewRun {
        id: run,
        pipeline: "posts".into(),
        version,
        inputs: Value::Null,
        slot: None,
        priority: 5,
        parent: None,
        spread: false,
        started_by: None,
        requests: Vec::new(),
        created_at: custody.system.clock.now(),
    };
    custody.store.create_run(&new).await.unwrap();
    let url = serve(|_, _| ANSWER.to_owned()).await;
    let link = Runtime::new(Arc::new(To(url.clone()))).with_custody(custody.clone()).link(&manifest, "writer").unwrap();
    let (mut alone, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        let began = Instant::now();
        ask(url.clone()).await;
        alone.push(began.elapsed().as_secs_f64() * 1e3);
        let began = Instant::now();
        let means = Means { step: Some((run, &path)), ..custody.means(&canceled) };
        call(&link, &means, Asked::new(operation, question.clone())).await.unwrap();
        ours.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let at = |values: &mut Vec<f64>, percent: usize| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() * percent / 100).copied().unwrap_or_default()
    };
    for percent in [50, 99] {
        let (alone, ours) = (at(&mut alone, percent), at(&mut ours, percent));
        let beside = format!("{ours:.3} ms, reqwest alone {alone:.3} ms");
        row(&format!("overhead of a question, p{percent}"), &format!("{:.3} ms", ours - alone), "1 ms", &beside);
    }
    let slow = serve_after(THINKS, |_, _| ANSWER.to_owned()).await;
    let link =
        Runtime::new(Arc::new(To(slow.clone()))).with_custody(custody.clone()).link(&manifest, "writer").unwrap();
    let began = Instant::now();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        all.spawn(ask(slow.clone()));
    }
    all.join_all().await;
    let alone = began.elapsed();
    let began = Instant::now();
    let mut all = tokio::task::JoinSet::new();
    let link = Arc::new(link);
    for _ in 0..AT_ONCE {
        let (link, custody, question, manifest) = (link.clone(), custody.clone(), question.clone(), manifest.clone());
        let path = path.clone();
        all.spawn(async move {
            let canceled = CancellationToken::new();
            let operation = manifest.operations.get("chat").unwrap();
            let means = Means { step: Some((run, &path)), ..custody.means(&canceled) };
            call(&link, &means, Asked::new(operation, question)).await.unwrap();
        });
    }
    all.join_all().await;
    let ours = began.elapsed();
    let beside = format!("{} ms, reqwest alone {} ms", ours.as_millis(), alone.as_millis());
    let times = ours.as_secs_f64() / THINKS.as_secs_f64();
    row(&format!("{AT_ONCE} questions at once, 200 ms each"), &format!("{times:.2} of ideal"), "1.2", &beside);
}

const ERP: &str = r#"connector: erp
base_url: { api: "{{ config.base_url }}" }
operations:
  rows:
    effect: read
    answer: odata2
    input: { required: [rows], properties: { rows: { type: integer } } }
    request: { get: "/rows/{{ input.rows }}", query: { $skiptoken: 0 } }
    items: "{{ body.d.results }}"
    paging: { url: "{{ body.d.__next }}" }
"#;

/// A paged read into a dataset by the program itself, from a server that has its pages ready.
async fn paged() {
    let mut rows = String::new();
    for at in 0..PAGE {
        let _ = write!(
            rows,
            "{}{{\"SalesOrder\":\"{at:010}\",\"SoldToParty\":\"17100001\",\"TotalNetAmount\":\"1998.00\",\"TransactionCurrency\":\"EUR\",\"CreationDate\":\"\\/Date(1793491200000)\\/\",\"LastChangeDateTime\":\"\\/Date(1793610930123+0000)\\/\",\"Note\":\"a row as an ERP system writes it\"}}",
            if at == 0 { "" } else { "," }
        );
    }
    let url = serve(move |path, host| {
        let total: usize = path.split('/').nth(2).and_then(|it| it.split('?').next()?.parse().ok()).unwrap_or(0);
        let from: usize = path.split("skiptoken=").nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
        let next = from + PAGE;
        let more = if next < total {
            format!(",\"__next\":\"http://{host}/rows/{total}?$skiptoken={next}\"")
        } else {
            String::new()
        };
        format!("{{\"d\":{{\"results\":[{rows}]{more}}}}}")
    })
    .await;
    let (_, small) = read_into(&url, 10_000).await;
    let mut rates = Vec::new();
    for _ in 0..3 {
        let (took, _) = read_into(&url, 100_000).await;
        rates.push(100_000.0 / took.as_secs_f64());
    }
    let (took, large) = read_into(&url, 1_000_000).await;
    let raw = raw_insert(100_000).await;
    let rate = format!("{:.0} rows/s", middle(&mut rates));
    row(
        "100,000 OData rows into SQLite",
        &rate,
        "40,000 rows/s",
        &format!("whole program; raw SQLite {raw:.0} rows/s"),
    );
    let growth = (large as f64 - small as f64) / 1024.0;
    let beside =
        format!("peak {:.1} and {:.1} MiB, {:.1} s", small as f64 / 1024.0, large as f64 / 1024.0, took.as_secs_f64());
    row("memory, 10,000 → 1,000,000 rows", &format!("{growth:+.1} MiB"), "±10 MiB", &beside);
}

/// Runs the program; returns how long it took and its peak of memory in KiB.
async fn read_into(url: &str, rows: usize) -> (Duration, u64) {
    let folder = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("connectors/erp.yaml", ERP);
    put(
        "pipewright.yaml",
        &format!("connections: {{ erp: {{ connector: erp, base_url: \"{url}\", private: true }} }}\n"),
    );
    let step = format!(
        "steps: {{ read: {{ uses: erp.rows, with: {{ rows: {rows} }}, into: orders, timeout: 10m }} }}\noutputs: {{ n: \"{{{{ steps.read.output.rows }}}}\" }}\n"
    );
    put("pipelines/read.yaml", &step);
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipewright"));
    command.args(["run", "read", "--json"]).current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let watching = tokio::task::spawn_blocking(move || {
        let mut peak = 0;
        while let Ok(text) = fs::read_to_string(Path::new(&status)) {
            let line =
                text.lines().find(|line| line.starts_with("VmHWM")).and_then(|line| line.split_whitespace().nth(1));
            let Some(kib) = line.and_then(|kib| kib.parse::<u64>().ok()) else { break };
            peak = peak.max(kib);
            std::thread::sleep(Duration::from_millis(5));
        }
        peak
    });
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let took = began.elapsed();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(out.contains(&format!("\"n\":{rows}")), "{out}{}", String::from_utf8_lossy(&output.stderr));
    (took, watching.await.unwrap())
}

/// What SQLite takes of the same rows in transactions of a page.
async fn raw_insert(rows: usize) -> f64 {
    use sqlx::Connection;
    use sqlx::Executor;
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("raw.db").display());
    let mut db = sqlx::SqliteConnection::connect(&url).await.unwrap();
    db.execute("PRAGMA journal_mode = WAL").await.unwrap();
    db.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY, value TEXT NOT NULL)").await.unwrap();
    let text = "x".repeat(240);
    let began = Instant::now();
    for page in 0..rows / PAGE {
        db.execute("BEGIN").await.unwrap();
        for at in 0..PAGE {
            let n = i64::try_from(page * PAGE + at).unwrap();
            sqlx::query("INSERT INTO rows VALUES ($1, $2)").bind(n).bind(&text).execute(&mut db).await.unwrap();
        }
        db.execute("COMMIT").await.unwrap();
    }
    rows as f64 / began.elapsed().as_secs_f64()
}

/// Serves on loopback what a function makes of a path and the host.
async fn serve(answer: impl Fn(&str, &str) -> String + Send + Sync + 'static) -> String {
    serve_after(Duration::ZERO, answer).await
}

/// The same, by a server that takes its time.
async fn serve_after(thinks: Duration, answer: impl Fn(&str, &str) -> String + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let (answer, own) = (Arc::new(answer), host.clone());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answer, host) = (answer.clone(), own.clone());
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let mut buffer = [0_u8; 4096];
                let mut held = Vec::new();
                while let Ok(count) = stream.read(&mut buffer).await {
                    if count == 0 {
                        break;
                    }
                    held.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    while let Some(end) = held.windows(4).position(|window| window == b"\r\n\r\n") {
                        let head: Vec<u8> = held.drain(..end + 4).collect();
                        let head = String::from_utf8_lossy(&head).into_owned();
                        let lengths = head.lines().filter_map(|line| line.split_once(": "));
                        let length = lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
                        let length = length.filter_map(|(_, length)| length.parse::<usize>().ok()).sum::<usize>();
                        while held.len() < length {
                            match stream.read(&mut buffer).await {
                                Ok(count) if count > 0 => {
                                    held.extend_from_slice(buffer.get(..count).unwrap_or_default())
                                }
                                _ => return,
                            }
                        }
                        held.drain(..length);
                        if thinks > Duration::ZERO {
                            tokio::time::sleep(thinks).await;
                        }
                        let body = answer(head.split(' ').nth(1).unwrap_or("/"), &host);
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    format!("http://{host}")
}
