//! Users' SQLite files.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::Column;
use sqlx::ConnectOptions;
use sqlx::Connection;
use sqlx::Row;
use sqlx::SqliteConnection;
use sqlx::SqlitePool;
use sqlx::TypeInfo;
use sqlx::ValueRef;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::sqlite::SqliteRow;

use super::SqlError;
use super::Statement;
use super::collect;
use super::put;
use crate::model::ErrorClass;
use crate::model::Happened;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;

/// How long to wait for another program that writes.
const BUSY: Duration = Duration::from_secs(5);
/// After so many steps of its machine SQLite asks whether to go on.
const STEPS: i32 = 10_000;

/// One file: connections that can only read, and one that writes. A database in memory has one for both.
#[derive(Clone, Debug)]
pub(super) struct SqliteFile {
    read: SqlitePool,
    write: SqlitePool,
}

/// Stops the statement when nobody waits for it any more.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl SqliteFile {
    pub(super) fn new(url: &str) -> Self {
        let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).unwrap_or(url);
        let options = SqliteConnectOptions::new().busy_timeout(BUSY).disable_statement_logging();
        let pool = |connections, options| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .connect_lazy_with(options)
        };
        if path == ":memory:" {
            let both = pool(1, options.in_memory(true));
            return Self { read: both.clone(), write: both };
        }
        let options = options.filename(path);
        Self {
            read: pool(4, options.clone().pragma("query_only", "ON")),
            write: pool(1, options.create_if_missing(true)),
        }
    }
}

pub(super) async fn query(file: &SqliteFile, statement: Statement<'_>, max_rows: usize) -> Result<Vec<Map>, SqlError> {
    let query = prepare(statement)?;
    let mut connection = file.read.acquire().await.map_err(|error| connecting(&error))?;
    let stop = watch(&mut connection).await?;
    let rows = query.fetch(&mut *connection);
    within(statement, &stop, collect(rows, max_rows, read_row, |error| explain(&error))).await
}

pub(super) async fn execute(file: &SqliteFile, statement: Statement<'_>) -> Result<u64, SqlError> {
    let query = prepare(statement)?;
    let mut connection = file.write.acquire().await.map_err(|error| connecting(&error))?;
    let stop = watch(&mut connection).await?;
    let work = async {
        let done = query.execute(&mut *connection).await;
        done.map(|done| done.rows_affected()).map_err(|error| explain(&error))
    };
    within(statement, &stop, work).await
}

pub(super) async fn execute_many(
    file: &SqliteFile,
    statement: Statement<'_>,
    rows: &[Vec<Value>],
) -> Result<u64, SqlError> {
    let mut connection = file.write.acquire().await.map_err(|error| connecting(&error))?;
    let stop = watch(&mut connection).await?;
    let work = async {
        let mut transaction = connection.begin().await.map_err(|error| explain(&error))?;
        let mut touched = 0;
        for (number, params) in rows.iter().enumerate() {
            let query = prepare(Statement { params, ..statement }).map_err(|error| error.of_row(number))?;
            let done = query.execute(&mut *transaction).await.map_err(|error| explain(&error).of_row(number))?;
            touched += done.rows_affected();
        }
        transaction.commit().await.map_err(|error| explain(&error))?;
        Ok(touched)
    };
    within(statement, &stop, work).await
}

/// Waits for the work; after the statement's time it is stopped, and what became of it is still awaited.
async fn within<T>(
    statement: Statement<'_>,
    stop: &Stop,
    work: impl Future<Output = Result<T, SqlError>>,
) -> Result<T, SqlError> {
    let mut work = pin!(work);
    match tokio::time::timeout(statement.timeout.to_std(), &mut work).await {
        Ok(result) => result,
        Err(_) => {
            stop.0.store(true, Ordering::Release);
            match work.await {
                Err(error) if error.class == ErrorClass::Timeout => Err(SqlError::late(statement.timeout)),
                result => result,
            }
        }
    }
}

async fn watch(connection: &mut SqliteConnection) -> Result<Stop, SqlError> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    let mut handle = connection.lock_handle().await.map_err(|error| connecting(&error))?;
    handle.set_progress_handler(STEPS, move || !asked.load(Ordering::Acquire));
    Ok(Stop(stop))
}

fn prepare<'q>(statement: Statement<'_>) -> Result<Query<'q, sqlx::Sqlite, SqliteArguments>, SqlError> {
    if !is_single(statement.sql) {
        return Err(SqlError::invalid("expected one statement, found several"));
    }
    let mut query = sqlx::query(AssertSqlSafe(statement.sql.to_owned()));
    for (index, value) in statement.params.iter().enumerate() {
        query = bind(query, value, index + 1)?;
    }
    Ok(query)
}

fn bind<'q>(
    query: Query<'q, sqlx::Sqlite, SqliteArguments>,
    value: &Value,
    number: usize,
) -> Result<Query<'q, sqlx::Sqlite, SqliteArguments>, SqlError> {
    Ok(match value {
        Value::Null => query.bind(None::<String>),
        Value::Bool(value) => query.bind(*value),
        Value::Int(value) => query.bind(i64::try_from(*value).map_err(|_| {
            SqlError::invalid(format!("parameter {number} is larger than an integer of SQLite: make it a string"))
        })?),
        Value::Float(value) => query.bind(*value),
        Value::Secret(inner) => bind(query, inner, number)?,
        Value::Blob(_) | Value::Dataset(_) => {
            let kind = value.kind().name();
            return Err(SqlError::invalid(format!("parameter {number} is a {kind}, which a database does not take")));
        }
        // Decimals too: as a text every digit survives.
        other => query.bind(other.to_text()),
    })
}

fn read_row(row: &SqliteRow) -> Result<Map, SqlError> {
    let mut map = Map::with_capacity(row.columns().len());
    for column in row.columns() {
        put(&mut map, column.name(), read_value(row, column.ordinal(), column.type_info().name())?)?;
    }
    Ok(map)
}

fn read_value(row: &SqliteRow, index: usize, declared: &str) -> Result<Value, SqlError> {
    let raw = row.try_get_raw(index).map_err(|error| explain(&error))?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kept = raw.type_info().into_owned();
    let kept = kept.name();
    let failed = |error: sqlx::Error| explain(&error);
    // What the value is counts, not what the column was declared as; the declaration only says what it means.
    Ok(match kept {
        "INTEGER" | "BOOLEAN" => match row.try_get_unchecked::<i64, _>(index).map_err(failed)? {
            truth @ (0 | 1) if declared == "BOOLEAN" => Value::Bool(truth == 1),
            integer => Value::from(integer),
        },
        "REAL" => Value::Float(row.try_get_unchecked(index).map_err(failed)?),
        "BLOB" => {
            let bytes: Vec<u8> = row.try_get_unchecked(index).map_err(failed)?;
            Value::from(format!("\\x{}", crate::store::blobs::hex(&bytes)))
        }
        _ => {
            let text: String = row.try_get_unchecked(index).map_err(failed)?;
            match moment(&text).filter(|_| declared == "DATETIME") {
                Some(moment) => Value::Time(moment),
                None => Value::from(text),
            }
        }
    })
}

/// Reads `2026-01-31T09:00:00Z`, and `2026-01-31 09:00:00` as SQLite writes it, in UTC.
fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(moment) = text.parse() {
        return Some(moment);
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(civil).ok().map(Timestamp::from_jiff)
}

fn connecting(error: &sqlx::Error) -> SqlError {
    let explained = explain(error);
    SqlError { happened: Happened::No, ..explained }
}

/// Says what an error means. A failed statement of SQLite has not happened: it is undone as a whole.
fn explain(error: &sqlx::Error) -> SqlError {
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::PoolTimedOut => SqlError::new(ErrorClass::Locked, "the database is busy"),
            sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
                SqlError::invalid(error.to_string())
            }
            _ => SqlError::new(ErrorClass::Unavailable, error.to_string()).perhaps(),
        };
    };
    let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0);
    let class = match (code, code & 0xff) {
        (1555 | 2067, _) => ErrorClass::Conflict,
        (_, 5 | 6) => ErrorClass::Locked,
        (_, 9) => ErrorClass::Timeout,
        (_, 10 | 13 | 14) => ErrorClass::Unavailable,
        _ => ErrorClass::Invalid,
    };
    let message = database.message();
    if code & 0xff == 8 {
        return SqlError::new(class, format!("{message}: a query only reads, and so does a read-only file"));
    }
    SqlError::new(class, message)
}

/// Tells whether a text is one statement: SQLite's driver would execute several, each by itself.
fn is_single(sql: &str) -> bool {
    let mut rest = sql.trim_start();
    // The body of a trigger holds statements of its own.
    let head: String = rest.chars().take(40).collect::<String>().to_ascii_lowercase();
    if head.starts_with("create") && head.contains("trigger") {
        return true;
    }
    while let Some(at) = rest.find([';', '\'', '"', '`', '[', '-', '/']) {
        let (_, tail) = rest.split_at(at);
        let after = |length: usize| tail.get(length..).unwrap_or_default();
        let past = |end: &str, from: usize| after(from).split_once(end).map_or("", |(_, after)| after);
        rest = match tail.as_bytes() {
            [b';', ..] => return is_blank(after(1)),
            [b'\'', ..] => past("'", 1),
            [b'"', ..] => past("\"", 1),
            [b'`', ..] => past("`", 1),
            [b'[', ..] => past("]", 1),
            [b'-', b'-', ..] => past("\n", 2),
            [b'/', b'*', ..] => past("*/", 2),
            _ => after(1),
        };
    }
    true
}

fn is_blank(sql: &str) -> bool {
    let sql = sql.trim_start_matches(|character: char| character.is_whitespace() || character == ';');
    if let Some(comment) = sql.strip_prefix("--") {
        return comment.split_once('\n').is_none_or(|(_, after)| is_blank(after));
    }
    if let Some(comment) = sql.strip_prefix("/*") {
        return comment.split_once("*/").is_none_or(|(_, after)| is_blank(after));
    }
    sql.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_statements_are_told_from_one() {
        for single in [
            "SELECT 1",
            "SELECT 1;",
            "SELECT ';' -- ; here\n;  -- nothing\n",
            "SELECT \";\", `;`, [;] /* ; */",
            "SELECT 'it''s; one'",
            "SELECT 5 - 3 / 2",
            "CREATE TRIGGER t AFTER INSERT ON x BEGIN DELETE FROM y; END",
        ] {
            assert!(is_single(single), "{single}");
        }
        for several in ["SELECT 1; SELECT 2", "DELETE FROM a;DELETE FROM b", "SELECT ';'; -- x\nSELECT 2"] {
            assert!(!is_single(several), "{several}");
        }
    }
}
