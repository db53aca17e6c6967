//! The users' own databases, for `sql.query` and `sql.execute`.
//!
//! Parameters are bound, never pasted. Numbers stay exact: integers are `Int`, PostgreSQL's NUMERIC comes digit by digit
//! as `Decimal` (or `Number`). REAL and DOUBLE PRECISION are `Float`, because a float is what the database keeps; exact
//! fractions in SQLite belong into TEXT columns. Moments are `Time` (a TIMESTAMP without zone counts as UTC), dates and
//! times of day are strings, JSON of PostgreSQL comes as values, bytes as `\x…` text.

mod numeric;
mod postgres;
mod postgres_values;
mod sqlite;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use sqlx::PgPool;

use self::sqlite::SqliteFile;
use crate::model::Duration;
use crate::model::ErrorClass;
use crate::model::Happened;
use crate::model::Map;
use crate::model::Value;
use crate::system::outside;

/// Connections to users' databases, kept by URL. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Databases(Arc<Mutex<HashMap<Key, Database>>>);

/// A connection belongs to the runtime that made it.
type Key = (tokio::runtime::Id, String);

#[derive(Clone, Debug)]
enum Database {
    Sqlite(SqliteFile),
    Postgres(PgPool),
}

/// One statement with its parameters.
#[derive(Clone, Copy, Debug)]
struct Statement<'a> {
    sql: &'a str,
    params: &'a [Value],
    timeout: Duration,
}

/// Why a statement failed. The message holds no parameter.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct SqlError {
    pub class: ErrorClass,
    /// Whether a write may have happened.
    pub happened: Happened,
    pub message: String,
}

/// Reads rows with the connections that the process shares; see `Databases::query`.
pub async fn query(
    url: &str,
    sql: &str,
    params: &[Value],
    max_rows: usize,
    timeout: Duration,
) -> Result<Vec<Map>, SqlError> {
    outside(shared().query(url, sql, params, max_rows, timeout)).await
}

/// Executes a statement with the connections that the process shares; see `Databases::execute`.
pub async fn execute(url: &str, sql: &str, params: &[Value], timeout: Duration) -> Result<u64, SqlError> {
    outside(shared().execute(url, sql, params, timeout)).await
}

/// Executes a statement for each of many rows, with the connections that the process shares; see
/// `Databases::execute_many`.
pub async fn execute_many(url: &str, sql: &str, rows: &[Vec<Value>], timeout: Duration) -> Result<u64, SqlError> {
    outside(shared().execute_many(url, sql, rows, timeout)).await
}

/// Lets go of the connections that belong to this runtime, before it ends.
pub fn let_go() {
    let here = tokio::runtime::Handle::current().id();
    shared().0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(runtime, _), _| *runtime != here);
}

fn shared() -> &'static Databases {
    static SHARED: OnceLock<Databases> = OnceLock::new();
    SHARED.get_or_init(Databases::default)
}

impl Databases {
    /// Reads rows. The database itself refuses a statement that would write; more than `max_rows` is an error of class
    /// `exhausted`.
    pub async fn query(
        &self,
        url: &str,
        sql: &str,
        params: &[Value],
        max_rows: usize,
        timeout: Duration,
    ) -> Result<Vec<Map>, SqlError> {
        let statement = Statement { sql, params, timeout };
        match self.database(url)? {
            Database::Sqlite(file) => sqlite::query(&file, statement, max_rows).await,
            Database::Postgres(pool) => postgres::query(&pool, statement, max_rows).await,
        }
    }

    /// Executes one statement and returns how many rows it touched. It happens as a whole or not at all.
    pub async fn execute(&self, url: &str, sql: &str, params: &[Value], timeout: Duration) -> Result<u64, SqlError> {
        let statement = Statement { sql, params, timeout };
        match self.database(url)? {
            Database::Sqlite(file) => sqlite::execute(&file, statement).await,
            Database::Postgres(pool) => postgres::execute(&pool, statement).await,
        }
    }

    /// Executes one statement with the parameters of each row, in one transaction: all of it happens, or nothing. Returns
    /// how many rows it touched in all; `timeout` is of the whole.
    pub async fn execute_many(
        &self,
        url: &str,
        sql: &str,
        rows: &[Vec<Value>],
        timeout: Duration,
    ) -> Result<u64, SqlError> {
        let statement = Statement { sql, params: &[], timeout };
        match self.database(url)? {
            Database::Sqlite(file) => sqlite::execute_many(&file, statement, rows).await,
            Database::Postgres(pool) => postgres::execute_many(&pool, statement, rows).await,
        }
    }

    fn database(&self, url: &str) -> Result<Database, SqlError> {
        let key = (tokio::runtime::Handle::current().id(), url.to_owned());
        let mut databases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = databases.get(&key) {
            return Ok(database.clone());
        }
        let database = if url.starts_with("sqlite:") {
            Database::Sqlite(SqliteFile::new(url))
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Database::Postgres(postgres::pool(url)?)
        } else {
            // A URL may hold a password: it is not shown.
            return Err(SqlError::invalid("the database's URL must begin with `sqlite:` or `postgres://`"));
        };
        databases.insert(key, database.clone());
        Ok(database)
    }
}

impl SqlError {
    fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, happened: Happened::No, message: message.into() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Invalid, message)
    }

    fn perhaps(mut self) -> Self {
        self.happened = Happened::Perhaps;
        self
    }

    /// Says which row it was.
    fn of_row(mut self, row: usize) -> Self {
        self.message = format!("row {row}: {}", self.message);
        self
    }

    fn too_many(max_rows: usize) -> Self {
        Self::new(ErrorClass::Exhausted, format!("the query gives more than {max_rows} rows"))
    }

    fn late(timeout: Duration) -> Self {
        Self::new(ErrorClass::Timeout, format!("the statement took longer than {timeout}"))
    }
}

/// Reads rows from a stream, up to a limit.
async fn collect<S, R>(
    mut rows: S,
    max_rows: usize,
    mut read: impl FnMut(&R) -> Result<Map, SqlError>,
    error: impl Fn(sqlx::Error) -> SqlError,
) -> Result<Vec<Map>, SqlError>
where
    S: futures_core::Stream<Item = Result<R, sqlx::Error>> + Unpin,
{
    let mut maps = Vec::new();
    while let Some(row) = std::future::poll_fn(|context| std::pin::Pin::new(&mut rows).poll_next(context)).await {
        let row = row.map_err(&error)?;
        if maps.len() == max_rows {
            return Err(SqlError::too_many(max_rows));
        }
        maps.push(read(&row)?);
    }
    Ok(maps)
}

/// Adds a column to a row; two columns of one name would hide one of them.
fn put(map: &mut Map, name: &str, value: Value) -> Result<(), SqlError> {
    match map.insert(name.into(), value) {
        None => Ok(()),
        Some(_) => Err(SqlError::invalid(format!("two columns are named `{name}`: give one of them another name"))),
    }
}
