//! What can be wrong with an SQLite file and its folder, and what a crash leaves.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use pipewright::model::Duration;
use pipewright::model::RunEvent;
use pipewright::store::Error;
use pipewright::store::OpenOptions;
use pipewright::store::Record;
use pipewright::store::RunFilter;
use pipewright::store::Store;
use sqlx::ConnectOptions;
use sqlx::Connection;
use sqlx::Executor;
use sqlx::sqlite::SqliteConnectOptions;

use super::NOW;
use super::new_run;
use super::run_id;

async fn open(url: &str) -> Result<Store, Error> {
    Store::open(url, OpenOptions::default()).await
}

fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

#[tokio::test]
async fn a_url_that_is_no_store_is_refused_without_its_password() {
    for wrong in ["", "sqlite://", "mysql://root:hunter2@host/db", "state.db", "postgres//x"] {
        let error = open(wrong).await.unwrap_err();
        assert!(matches!(error, Error::Url { .. }), "{wrong}: {error}");
        assert!(!error.to_string().contains("hunter2"));
    }
    let error = open("postgres://root:hunter2@127.0.0.1:1/db").await.unwrap_err();
    assert!(matches!(error, Error::Open { .. }), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("hunter2"));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_called_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    std::fs::write(&path, "this is not a database, only a text that is long enough to be looked at".repeat(99))
        .unwrap();
    assert!(matches!(open(&url(&path)).await, Err(Error::Corrupt { .. })));
}

#[tokio::test]
async fn a_database_of_somebody_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    connection.execute("CREATE TABLE theirs (x)").await.unwrap();
    connection.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(open(&url(&path)).await, Err(Error::Foreign { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_damaged_page_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = open(&url(&path)).await.unwrap();
    for number in 0..200 {
        store.create_run(&new_run(run_id(number))).await.unwrap();
    }
    store.close().await.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    // All but the first page, which holds the schema.
    bytes[4096..length].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let error = match open(&url(&path)).await {
        Ok(store) => store.runs(&RunFilter::default()).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = open(&url(&folder.path().join("file/inside/state.db"))).await.unwrap_err();
    assert!(matches!(error, Error::Folder { .. }), "{error:?}");
    let error = open(&url(folder.path())).await.unwrap_err();
    assert!(matches!(error, Error::Open { .. }), "{error:?}");
}

#[tokio::test]
async fn a_store_that_is_only_read_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let read_only = || OpenOptions { read_only: true, ..OpenOptions::default() };
    let missing = Store::open(&url(&path), read_only()).await.unwrap_err();
    assert!(matches!(missing, Error::Open { .. }), "{missing:?}");
    assert!(!path.exists());
    let store = open(&url(&path)).await.unwrap();
    store.create_run(&new_run(run_id(1))).await.unwrap();
    store.close().await.unwrap();
    let reader = Store::open(&url(&path), read_only()).await.unwrap();
    assert_eq!(reader.runs(&RunFilter::default()).await.unwrap().len(), 1);
    let refused = reader.create_run(&new_run(run_id(2))).await.unwrap_err();
    assert!(matches!(refused, Error::ReadOnly { .. }), "{refused:?}");
    // It also reads what another process has open.
    let store = open(&url(&path)).await.unwrap();
    store.create_run(&new_run(run_id(3))).await.unwrap();
    let reader = Store::open(&url(&path), read_only()).await.unwrap();
    assert_eq!(reader.runs(&RunFilter::default()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_file_that_another_program_holds_is_told_as_locked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let options = OpenOptions { lock_timeout: Some(Duration::from_millis(50)), ..OpenOptions::default() };
    let store = Store::open(&url(&path), options).await.unwrap();
    store.create_run(&new_run(run_id(1))).await.unwrap();
    let fence = store.claim(run_id(1), "w").await.unwrap().unwrap();
    let mut other = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let error = store.create_run(&new_run(run_id(2))).await.unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error:?}");
    let writer = store.writer(run_id(1), fence, 1, []);
    writer.append([Record::Event(RunEvent::Started { at: NOW })]);
    assert!(matches!(writer.commit().await, Err(Error::Locked { .. })));
    // Readers are not held up.
    assert_eq!(store.runs(&RunFilter::default()).await.unwrap().len(), 1);
    other.execute("ROLLBACK").await.unwrap();
    assert!(store.create_run(&new_run(run_id(2))).await.unwrap());
    assert!(store.journal(run_id(1)).await.unwrap().is_empty());
}

const CHILD: &str = "PIPEWRIGHT_TEST_STORE";

/// The test starts itself as a child that commits and says so, kills it, and looks at what is left.
#[test]
fn what_was_acknowledged_survives_a_kill() {
    #[expect(clippy::disallowed_methods, reason = "tells the child from the parent")]
    let path = std::env::var(CHILD);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Ok(path) = path {
        runtime.block_on(commit_for_ever(&path));
        return;
    }
    for round in 1_usize..=5 {
        let folder = tempfile::tempdir().unwrap();
        let path = url(&folder.path().join("state.db"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::damage::what_was_acknowledged_survives_a_kill", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = 0;
        for line in lines.map(Result::unwrap).filter(|line| line.starts_with("committed ")) {
            acknowledged = line.split(' ').nth(1).unwrap().parse::<usize>().unwrap();
            if acknowledged >= 40 * round {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let journal = runtime.block_on(async { open(&path).await.unwrap().journal(run_id(1)).await.unwrap() });
        assert!(acknowledged >= 40 * round && journal.len() >= acknowledged, "{} of {acknowledged}", journal.len());
        for (index, event) in journal.iter().enumerate() {
            assert_eq!(event.path().unwrap().to_string(), format!("s{}", index + 1));
        }
    }
}

async fn commit_for_ever(url: &str) {
    let store = open(url).await.unwrap();
    store.create_run(&new_run(run_id(1))).await.unwrap();
    let fence = store.claim(run_id(1), "w").await.unwrap().unwrap();
    let writer = store.writer(run_id(1), fence, 1, []);
    for number in 1.. {
        writer.append([super::succeeded(&format!("s{number}"), number.into())]);
        if number % 3 == 0 {
            writer.commit().await.unwrap();
            // Ends with the parent, which has had enough.
            let mut out = std::io::stdout();
            if writeln!(out, "committed {number}").and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    }
}
