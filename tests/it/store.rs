//! The store: every case on SQLite and on PostgreSQL.

mod cases;
mod content;
mod damage;
mod external;
mod keep;
mod spending;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use pipewright::model::RunEvent;
use pipewright::model::RunId;
use pipewright::model::StepPath;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::model::VersionId;
use pipewright::secrets::MasterKey;
use pipewright::store::NewRun;
use pipewright::store::OpenOptions;
use pipewright::store::Record;
use pipewright::store::Sealer;
use pipewright::store::Store;

use crate::support::postgres;

/// An empty database for one case.
#[derive(Clone, Debug)]
struct Ground {
    url: String,
    folder: PathBuf,
}

type Case = fn(Ground) -> Pin<Box<dyn Future<Output = ()> + Send>>;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

impl Ground {
    async fn open(&self) -> Store {
        Store::open(&self.url, self.options()).await.unwrap()
    }

    fn options(&self) -> OpenOptions {
        let sealer: Arc<dyn Sealer> = Arc::new(MasterKey::from_base64(KEY).unwrap());
        OpenOptions { sealer: Some(sealer), blobs: Some(self.folder.join("blobs")), ..OpenOptions::default() }
    }
}

fn all_cases() -> Vec<(&'static str, Case)> {
    [cases::CASES, content::CASES, keep::CASES, spending::CASES].concat()
}

/// Runs the cases side by side and names those that fail.
fn check_all(cases: &[(&'static str, Case)], ground: impl Fn(usize) -> Ground) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let failed = runtime.block_on(async {
        let tasks: Vec<_> =
            cases.iter().enumerate().map(|(index, (name, case))| (*name, tokio::spawn(case(ground(index))))).collect();
        let mut failed = Vec::new();
        for (name, task) in tasks {
            if task.await.is_err() {
                failed.push(name);
            }
        }
        failed
    });
    assert!(failed.is_empty(), "these cases failed: {failed:#?}");
}

#[test]
fn every_case_holds_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    check_all(&all_cases(), |index| {
        let folder = folder.path().join(index.to_string());
        Ground { url: format!("sqlite://{}", folder.join("state.db").display()), folder }
    });
}

#[test]
fn every_case_holds_on_postgresql_and_users_databases_there_work() {
    let folder = tempfile::tempdir().unwrap();
    let server = postgres::Server::start();
    let cases = all_cases();
    let urls: Vec<String> = (0..cases.len()).map(|index| server.schema(index)).collect();
    check_all(&cases, |index| Ground { url: urls[index].clone(), folder: folder.path().join(index.to_string()) });
    external::check_on(&server, cases.len());
}

fn run_id(number: u128) -> RunId {
    RunId::new(1_700_000_000_000, number)
}

fn new_run(id: RunId) -> NewRun {
    NewRun {
        id,
        pipeline: "demo".into(),
        version: VersionId("v1".into()),
        inputs: Value::map([("topic", Value::from("tea"))]),
        slot: None,
        priority: 5,
        parent: None,
        spread: false,
        started_by: None,
        requests: Vec::new(),
        created_at: NOW,
    }
}

fn path(text: &str) -> StepPath {
    text.parse().unwrap()
}

fn succeeded(step: &str, output: Value) -> Record {
    Record::Event(RunEvent::Succeeded { path: path(step), attempt: 1, started: NOW, at: NOW, output, recovered: None })
}
