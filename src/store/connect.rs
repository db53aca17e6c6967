//! Opening a store: URL, connections, schema.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::SqliteConnection;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::sqlite::SqliteSynchronous;
use tokio::sync::Mutex;

use super::Cause;
use super::Error;
use super::OpenOptions;
use super::blobs::Blobs;
use super::db::Db;
use super::db::Sqlite;
use super::error::Place;
use super::migrate;

/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(10);

/// What `open` finds or makes.
pub(super) struct Opened {
    pub(super) db: Db,
    pub(super) place: Place,
    pub(super) blobs: Blobs,
}

/// Opens the database that a URL names.
pub(super) async fn open(url: &str, options: &OpenOptions) -> Result<Opened, Error> {
    if matches!(url, "sqlite::memory:" | "sqlite://:memory:") {
        return open_memory(options).await;
    }
    if let Some(path) = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"))
        && !path.is_empty()
    {
        return open_file(Path::new(path), options).await;
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return open_postgres(url, options).await;
    }
    // A URL may hold a password.
    let shown = url.split_once("://").map_or(url, |(scheme, _)| scheme);
    Err(Error::Url { url: shown.to_owned() })
}

async fn open_memory(options: &OpenOptions) -> Result<Opened, Error> {
    let place = Place::new("sqlite::memory:");
    let mut connection = connect(&sqlite_options(options).in_memory(true), &place).await?;
    migrate::sqlite(&mut connection, &place, false).await?;
    let blobs = options.blobs.clone().map_or_else(Blobs::memory, Blobs::folder);
    let db = Db::Sqlite(Sqlite { write: Mutex::new(Some(connection)), read: None, file: None });
    Ok(Opened { db, place, blobs })
}

async fn open_file(path: &Path, options: &OpenOptions) -> Result<Opened, Error> {
    let place = Place::new(path.display().to_string());
    let blobs = Blobs::folder(options.blobs.clone().unwrap_or_else(|| blob_folder(path)));
    if options.read_only {
        let connection = connect_read_only(path, &place, options).await?;
        let db = Db::Sqlite(Sqlite { write: Mutex::new(Some(connection)), read: None, file: None });
        return Ok(Opened { db, place, blobs });
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::Folder { path: folder.to_owned(), source: Cause::new(error) })?;
    }
    let write = sqlite_options(options).filename(path).create_if_missing(true);
    let mut connection = connect(&write, &place).await?;
    migrate::sqlite(&mut connection, &place, false).await?;
    let read = SqlitePoolOptions::new()
        .max_connections(4)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_lazy_with(sqlite_options(options).filename(path).pragma("query_only", "ON"));
    let db = Db::Sqlite(Sqlite { write: Mutex::new(Some(connection)), read: Some(read), file: Some(path.to_owned()) });
    Ok(Opened { db, place, blobs })
}

/// A store on a read-only folder can be read when nobody has it open: its write-ahead log is folded in then.
async fn connect_read_only(path: &Path, place: &Place, options: &OpenOptions) -> Result<SqliteConnection, Error> {
    let options = sqlite_options(options).filename(path).read_only(true);
    let log = path.with_file_name(format!("{}-wal", path.file_name().unwrap_or_default().to_string_lossy()));
    let first = async {
        let mut connection = connect(&options, place).await?;
        migrate::sqlite(&mut connection, place, true).await?;
        Ok(connection)
    };
    match first.await {
        Err(Error::Open { .. } | Error::ReadOnly { .. }) if path.exists() && !log.exists() => {
            let mut connection = connect(&options.immutable(true), place).await?;
            migrate::sqlite(&mut connection, place, true).await?;
            Ok(connection)
        }
        result => result,
    }
}

fn lock_timeout(options: &OpenOptions) -> Duration {
    options.lock_timeout.map_or(BUSY, crate::model::Duration::to_std)
}

fn blob_folder(path: &Path) -> PathBuf {
    path.with_file_name("blobs")
}

fn sqlite_options(options: &OpenOptions) -> SqliteConnectOptions {
    // FULL: with the write-ahead log, NORMAL does not sync each commit, and a commit must survive a power cut.
    SqliteConnectOptions::new()
        .busy_timeout(lock_timeout(options))
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        .pragma("wal_autocheckpoint", "4000")
        // After a burst the log does not stay as long as it ever was.
        .pragma("journal_size_limit", "33554432")
        .row_buffer_size(4096)
        .disable_statement_logging()
}

/// Opens a connection beside the others that waits for nobody longer than `patience`.
pub(super) async fn connect_aside(path: &Path, patience: Duration) -> Result<SqliteConnection, sqlx::Error> {
    let options = sqlite_options(&OpenOptions::default()).filename(path).busy_timeout(patience);
    SqliteConnection::connect_with(&options).await
}

async fn connect(options: &SqliteConnectOptions, place: &Place) -> Result<SqliteConnection, Error> {
    SqliteConnection::connect_with(options).await.map_err(|error| place.opening(error))
}

async fn open_postgres(url: &str, options: &OpenOptions) -> Result<Opened, Error> {
    let parsed: PgConnectOptions = url.parse().map_err(|_| Error::Url { url: "postgres".to_owned() })?;
    let place = Place::new(format!(
        "postgres://{}:{}/{}",
        parsed.get_host(),
        parsed.get_port(),
        parsed.get_database().unwrap_or_default()
    ));
    let parsed = parsed.application_name("pipewright").disable_statement_logging();
    let parsed = if options.read_only { parsed.options([("default_transaction_read_only", "on")]) } else { parsed };
    // By itself first: a pool would go on trying for as long as it may wait for a connection.
    let mut connection = PgConnection::connect_with(&parsed).await.map_err(|error| place.opening(error))?;
    migrate::postgres(&mut connection, &place, options.read_only).await?;
    connection.close().await.map_err(|error| place.error(error))?;
    let pool = PgPoolOptions::new()
        .max_connections(8)
        .acquire_timeout(lock_timeout(options))
        .test_before_acquire(false)
        .connect_lazy_with(parsed);
    let blobs = options.blobs.clone().map_or_else(Blobs::none, Blobs::folder);
    Ok(Opened { db: Db::Postgres(pool), place, blobs })
}
