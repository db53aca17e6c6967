//! The schema's versions.

use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::Executor;
use sqlx::PgConnection;
use sqlx::Row;
use sqlx::SqliteConnection;

use super::Error;
use super::error::Place;

/// The scripts in order; a script that was released is never changed.
const MIGRATIONS: &[(i64, &str)] = &[
    (1, include_str!("../../migrations/0001_store.sql")),
    (2, include_str!("../../migrations/0002_streams.sql")),
    (3, include_str!("../../migrations/0003_connections.sql")),
    (4, include_str!("../../migrations/0004_queue.sql")),
    (5, include_str!("../../migrations/0005_schedules.sql")),
    (6, include_str!("../../migrations/0006_turns.sql")),
    (7, include_str!("../../migrations/0007_triggers.sql")),
    (8, include_str!("../../migrations/0008_approvals.sql")),
    (9, include_str!("../../migrations/0009_workers.sql")),
    (10, include_str!("../../migrations/0010_keep.sql")),
    (11, include_str!("../../migrations/0011_spending.sql")),
    (12, include_str!("../../migrations/0012_content.sql")),
    (13, include_str!("../../migrations/0013_attempts.sql")),
];

const APPLIED: &str = "SELECT number, checksum FROM pipewright_migrations ORDER BY number";
const CREATE: &str =
    "CREATE TABLE IF NOT EXISTS pipewright_migrations (number BIGINT NOT NULL PRIMARY KEY, checksum TEXT NOT NULL)";
const INSERT: &str = "INSERT INTO pipewright_migrations (number, checksum) VALUES ($1, $2)";
/// Any number that nobody else takes: processes that open a new store at once wait for each other.
const POSTGRES_LOCK: &str = "SELECT pg_advisory_xact_lock(7089237510834617)";
/// How often a new file is asked for its write-ahead log while another process makes it, too.
const WAL_ATTEMPTS: u32 = 100;

/// Brings a SQLite store up to date; one query when it is.
pub(super) async fn sqlite(connection: &mut SqliteConnection, place: &Place, read_only: bool) -> Result<(), Error> {
    let mut known = sqlx::query(APPLIED).fetch_all(&mut *connection).await;
    if known.as_ref().is_err_and(is_no_table) {
        let tables = sqlx::query("SELECT COUNT(*) FROM sqlite_master").fetch_one(&mut *connection).await;
        let tables: i64 = tables.and_then(|row| row.try_get(0)).map_err(|error| place.error(error))?;
        if tables > 0 {
            // Another process may have made them between the two questions.
            known = sqlx::query(APPLIED).fetch_all(&mut *connection).await;
            if known.as_ref().is_err_and(is_no_table) {
                return Err(Error::Foreign { place: place.name().to_owned() });
            }
        }
    }
    let missing = match known {
        Ok(rows) => {
            let applied = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<_>, _>>();
            check(&applied.map_err(|error| place.error(error))?, place)?
        }
        Err(error) if is_no_table(&error) => MIGRATIONS,
        Err(error) => return Err(place.opening(error)),
    };
    if missing.is_empty() {
        return Ok(());
    }
    if read_only {
        return Err(Error::ReadOnly { place: place.name().to_owned() });
    }
    // Of a new file only: pages that are no longer needed can be given back then, a few at a time.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL").await.map_err(|error| place.error(error))?;
    switch_to_log(connection, place).await?;
    let result = apply_sqlite(connection, place).await;
    if result.is_err() {
        // Fails when no transaction is open; the first error is the one that tells.
        let _ = connection.execute("ROLLBACK").await;
    }
    result
}

async fn apply_sqlite(connection: &mut SqliteConnection, place: &Place) -> Result<(), Error> {
    let at = |error| place.error(error);
    connection.execute("BEGIN IMMEDIATE").await.map_err(at)?;
    connection.execute(CREATE).await.map_err(at)?;
    // Another process may have been faster.
    let rows = connection.fetch_all(APPLIED).await.map_err(at)?;
    let applied = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<_>, _>>();
    for (number, script) in check(&applied.map_err(at)?, place)? {
        connection.execute(AssertSqlSafe(*script)).await.map_err(at)?;
        let insert = sqlx::query(INSERT).bind(*number).bind(checksum(script));
        insert.execute(&mut *connection).await.map_err(at)?;
    }
    connection.execute("COMMIT").await.map_err(at)?;
    Ok(())
}

/// Turns the write-ahead log on: a property of the file, set once. SQLite does not wait here by itself.
#[expect(clippy::disallowed_methods, reason = "waits for another process, which no simulated clock can move")]
async fn switch_to_log(connection: &mut SqliteConnection, place: &Place) -> Result<(), Error> {
    let mut attempts = 0;
    loop {
        match connection.execute("PRAGMA journal_mode = WAL").await.map_err(|error| place.error(error)) {
            Ok(_) => return Ok(()),
            Err(Error::Locked { .. }) if attempts < WAL_ATTEMPTS => attempts += 1,
            Err(error) => return Err(error),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Brings a PostgreSQL store up to date; one query when it is.
pub(super) async fn postgres(connection: &mut PgConnection, place: &Place, read_only: bool) -> Result<(), Error> {
    let at = |error| place.error(error);
    let missing = match sqlx::query(APPLIED).fetch_all(&mut *connection).await {
        Ok(rows) => {
            let applied = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<_>, _>>();
            check(&applied.map_err(at)?, place)?
        }
        Err(error) if is_no_table(&error) => MIGRATIONS,
        Err(error) => return Err(at(error)),
    };
    if missing.is_empty() {
        return Ok(());
    }
    if read_only {
        return Err(Error::ReadOnly { place: place.name().to_owned() });
    }
    let mut transaction = connection.begin().await.map_err(at)?;
    transaction.execute(POSTGRES_LOCK).await.map_err(at)?;
    transaction.execute(CREATE).await.map_err(at)?;
    let rows = transaction.fetch_all(APPLIED).await.map_err(at)?;
    let applied = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<_>, _>>();
    for (number, script) in check(&applied.map_err(at)?, place)? {
        transaction.execute(AssertSqlSafe(*script)).await.map_err(at)?;
        let insert = sqlx::query(INSERT).bind(*number).bind(checksum(script));
        insert.execute(&mut *transaction).await.map_err(at)?;
    }
    transaction.commit().await.map_err(at)
}

/// Compares what is applied with what this program brings; returns what is missing.
fn check(applied: &[(i64, String)], place: &Place) -> Result<&'static [(i64, &'static str)], Error> {
    let place = || place.name().to_owned();
    let known = MIGRATIONS.last().map_or(0, |(number, _)| *number);
    if let Some((found, _)) = applied.last().filter(|(number, _)| *number > known) {
        return Err(Error::Newer { place: place(), found: *found, known });
    }
    for ((number, found), (_, script)) in applied.iter().zip(MIGRATIONS) {
        if *found != checksum(script) {
            return Err(Error::Altered { place: place(), number: *number });
        }
    }
    Ok(MIGRATIONS.get(applied.len()..).unwrap_or_default())
}

fn checksum(script: &str) -> String {
    super::blobs::hex(ring::digest::digest(&ring::digest::SHA256, script.as_bytes()).as_ref())
}

fn is_no_table(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    // SQLite has no code of its own for it.
    error.code().as_deref() == Some("42P01") || error.message().starts_with("no such table")
}
