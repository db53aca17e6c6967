//! Paging and incremental reading of a table that changes meanwhile: whatever moves between two pages, a copy that is kept
//! by it comes to hold what the table holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use pipewright::connector::body::form;
use pipewright::connector::call::Means;
use pipewright::connector::connection::Connection;
use pipewright::connector::library;
use pipewright::connector::library::Loaded;
use pipewright::connector::manifest::Manifest;
use pipewright::connector::read;
use pipewright::connector::runtime::Connections;
use pipewright::connector::runtime::Runtime;
use pipewright::http::Request;
use pipewright::http::Response;
use pipewright::http::Transport;
use pipewright::http::TransportError;
use pipewright::model::Blob;
use pipewright::model::Duration;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::node::Keep;
use pipewright::node::LogLevel;
use pipewright::node::LogSink;
use pipewright::node::NodeError;
use pipewright::system::SimClock;
use pipewright::system::System;
use tokio_util::sync::CancellationToken;

/// Rows of one page.
const PAGE: usize = 3;
/// How long a transaction may take: its rows are seen so much later than they say.
const SLOWEST: u64 = 12;

const ERP: &str = r#"connector: erp
base_url: { api: https://erp.example }
operations:
  changes:
    effect: read
    request: { get: /rows, query: { from: "{{ window.from | iso }}", to: "{{ window.to | iso }}", at: "{{ next.at }}", id: "{{ next.id }}" } }
    items: "{{ body.rows }}"
    paging: { next: "{{ {'at': (items | last).at, 'id': (items | last).id} if items | length == 3 else none }}" }
    sync: { id: "{{ item.id }}", changed_at: "{{ item.at }}", deleted: "{{ item.gone }}", window: { overlap: 10s, settle: 13s } }
"#;

/// A row: when it says that it was changed, and what it holds; nothing where it is gone.
type Row = (String, Option<u64>);

/// A table that is written while it is read.
struct Table {
    clock: SimClock,
    system: System,
    state: Mutex<State>,
}

struct State {
    rows: BTreeMap<u64, Row>,
    /// Rows of transactions that have not ended: when they end, the id and the row.
    open: Vec<(Timestamp, u64, Row)>,
    chance: fastrand::Rng,
    quiet: bool,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").finish_non_exhaustive()
    }
}

impl State {
    /// Lets others write: new rows, rows that change and so move behind the last page, rows that go.
    fn write(&mut self, now: Timestamp) {
        let ended: Vec<_> = self.open.extract_if(.., |(end, ..)| *end <= now).collect();
        self.rows.extend(ended.into_iter().map(|(_, id, row)| (id, row)));
        if self.quiet {
            return;
        }
        for _ in 0..self.chance.u32(0..4) {
            let id = self.chance.u64(0..40);
            let holds = (self.chance.u8(0..5) > 0).then(|| self.chance.u64(..));
            // Nobody else can change a row before the one who does has ended.
            if self.open.iter().all(|(_, own, _)| *own != id) {
                let end = now.plus(Duration::from_secs(self.chance.u64(0..=SLOWEST)));
                self.open.push((end, id, (now.to_string(), holds)));
            }
        }
    }
}

#[async_trait]
impl Transport for Table {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        self.clock.advance(Duration::from_secs(1));
        let mut state = self.state.lock().unwrap();
        state.write(self.system.clock.now());
        let query = form::parse(request.url.split_once('?').unwrap().1).unwrap();
        let get = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let (from, to) = (get("from").unwrap(), get("to").unwrap());
        let behind = get("at").map(|at| (at, get("id").unwrap().parse::<u64>().unwrap()));
        let mut rows: Vec<_> = state.rows.iter().map(|(id, (at, holds))| ((at.clone(), *id), *holds)).collect();
        rows.retain(|(place, _)| from <= place.0 && place.0 < to && behind.as_ref().is_none_or(|it| place > it));
        rows.sort();
        let rows = rows.into_iter().take(PAGE).map(|((at, id), holds)| {
            let gone = holds.is_none();
            format!(r#"{{"id":{id},"at":"{at}","holds":{},"gone":{gone}}}"#, holds.unwrap_or_default())
        });
        let body = format!(r#"{{"rows":[{}]}}"#, rows.collect::<Vec<_>>().join(","));
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Ok(Response { status: 200, headers, body: body.into_bytes() })
    }
}

/// Keeps where streams stand, and nothing else.
#[derive(Debug, Default)]
struct Streams(Mutex<BTreeMap<String, Value>>);

#[async_trait]
impl Keep for Streams {
    async fn read_blob(&self, _: &Blob) -> Result<Vec<u8>, NodeError> {
        Err(NodeError::invalid("there are no files"))
    }

    async fn put_blob(&self, _: Vec<u8>, _: Option<&str>, _: Option<&str>) -> Result<Blob, NodeError> {
        Err(NodeError::invalid("there are no files"))
    }

    async fn stream(&self, key: &str) -> Result<Option<Value>, NodeError> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }
}

#[derive(Debug)]
struct Quiet;

impl LogSink for Quiet {
    fn log(&self, _: LogLevel, _: &str) {}
}

#[derive(Debug)]
struct One;

impl Connections for One {
    fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
        Connection::make(name, manifest, Value::map::<&str>([]), &Value::Null, false)
    }
}

/// Reads a table again and again while it is written; returns what the copy holds in the end, and what the table does.
async fn copied(manifest: &str, seed: u64) -> [BTreeMap<u64, Row>; 2] {
    let (system, clock) = System::simulated("2026-11-20T09:00:00Z".parse().unwrap(), seed);
    let chance = fastrand::Rng::with_seed(seed);
    let state = State { rows: BTreeMap::new(), open: Vec::new(), chance, quiet: false };
    let table = Table { clock: clock.clone(), system: system.clone(), state: Mutex::new(state) };
    let Loaded::Manifest(manifest) = library::read(&"erp.yaml".into(), &manifest.into()) else { panic!() };
    let link = Runtime::new(Arc::new(One)).link(&manifest, "erp").unwrap();
    let (streams, canceled) = (Streams::default(), CancellationToken::new());
    let means = Means {
        system: &system,
        http: &table,
        log: &Quiet,
        keep: &streams,
        canceled: &canceled,
        deadline: None,
        attempt: 1,
        effect: None,
        step: None,
        begun: None,
    };
    let mut copy: BTreeMap<u64, Row> = BTreeMap::new();
    for round in 0..40 {
        for _ in 0..7 {
            clock.advance(Duration::from_secs(1));
            table.state.lock().unwrap().write(system.clock.now());
        }
        table.state.lock().unwrap().quiet = round >= 38;
        if round == 39 {
            clock.advance(Duration::from_secs(60));
        }
        let operation = manifest.operation("changes").unwrap();
        let read = read::read(&link, &means, operation, &Value::map::<&str>([]), None).await.unwrap();
        for row in read.rows.unwrap() {
            let text = |key: &str| row.get(key).unwrap().to_text();
            let holds = (text("gone") != "true").then(|| text("holds").parse().unwrap());
            let (id, row) = (text("id").parse().unwrap(), (text("at"), holds));
            // What is read again is older than what is there, or the same.
            let own = copy.entry(id).or_insert_with(|| row.clone());
            if row.0 >= own.0 {
                *own = row;
            }
        }
        if let Some(stream) = read.stream {
            streams.0.lock().unwrap().insert(stream.key, stream.state);
        }
    }
    [copy, table.state.into_inner().unwrap().rows]
}

#[tokio::test]
async fn rows_that_move_while_they_are_read_are_neither_lost_nor_old() {
    for seed in 0..25 {
        let [copy, table] = copied(ERP, seed).await;
        assert!(table.len() > 30, "{table:?}");
        assert_eq!(copy, table, "seed {seed}");
    }
}

#[tokio::test]
async fn it_is_the_time_to_settle_that_keeps_slow_transactions() {
    let hasty = ERP.replace("overlap: 10s, settle: 13s", "overlap: 0s, settle: 0s");
    let mut lost = 0;
    for seed in 0..25 {
        let [copy, table] = copied(&hasty, seed).await;
        lost += usize::from(copy != table);
    }
    assert!(lost > 0, "the test would see no loss");
}
