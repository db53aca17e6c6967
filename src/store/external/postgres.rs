//! Users' PostgreSQL databases.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::Column;
use sqlx::ConnectOptions;
use sqlx::Connection;
use sqlx::Either;
use sqlx::Executor;
use sqlx::PgConnection;
use sqlx::PgPool;
use sqlx::Row;
use sqlx::Statement as _;
use sqlx::ValueRef;
use sqlx::postgres::PgArguments;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::postgres::PgRow;
use sqlx::postgres::PgTypeInfo;

use super::SqlError;
use super::Statement;
use super::collect;
use super::postgres_values;
use super::put;
use crate::model::ErrorClass;
use crate::model::Happened;
use crate::model::Map;
use crate::model::Value;

const CONNECT: Duration = Duration::from_secs(5);
/// How much longer than the server we wait for its answer.
const GRACE: Duration = Duration::from_secs(5);

pub(super) fn pool(url: &str) -> Result<PgPool, SqlError> {
    let options: PgConnectOptions =
        url.parse().map_err(|_| SqlError::invalid("the database's URL is not one of PostgreSQL"))?;
    let options = options.application_name("pipewright").disable_statement_logging();
    Ok(PgPoolOptions::new().max_connections(8).acquire_timeout(CONNECT).connect_lazy_with(options))
}

pub(super) async fn query(pool: &PgPool, statement: Statement<'_>, max_rows: usize) -> Result<Vec<Map>, SqlError> {
    let work = async {
        let mut connection = pool.acquire().await.map_err(|error| explain(&error))?;
        let begun = connection.begin_with("BEGIN READ ONLY").await;
        let mut transaction = begun.map_err(|error| explain(&error))?;
        let types = prepare(&mut transaction, statement).await?;
        let arguments = arguments(&types, statement.params)?;
        let query = sqlx::query_with(AssertSqlSafe(statement.sql.to_owned()), arguments);
        let rows = query.fetch(&mut *transaction);
        let maps = collect(rows, max_rows, read_row, |error| explain(&error)).await?;
        transaction.commit().await.map_err(|error| explain(&error))?;
        Ok(maps)
    };
    within(statement, work).await.map_err(|error| SqlError { happened: Happened::No, ..error })
}

pub(super) async fn execute(pool: &PgPool, statement: Statement<'_>) -> Result<u64, SqlError> {
    let only = [statement.params];
    change(pool, statement, &only).await
}

pub(super) async fn execute_many(
    pool: &PgPool,
    statement: Statement<'_>,
    rows: &[Vec<Value>],
) -> Result<u64, SqlError> {
    let rows: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
    change(pool, statement, &rows).await
}

/// Executes a statement with each of the parameters, in one transaction.
async fn change(pool: &PgPool, statement: Statement<'_>, rows: &[&[Value]]) -> Result<u64, SqlError> {
    let several = rows.len() > 1;
    let of_row = |error: SqlError, number| if several { error.of_row(number) } else { error };
    let work = async {
        let not_sent = |error: &sqlx::Error| SqlError { happened: Happened::No, ..explain(error) };
        let mut connection = pool.acquire().await.map_err(|error| not_sent(&error))?;
        let mut transaction = connection.begin().await.map_err(|error| not_sent(&error))?;
        let types = prepare(&mut transaction, statement).await?;
        let mut touched = 0;
        for (number, params) in rows.iter().enumerate() {
            let arguments = arguments(&types, params).map_err(|error| of_row(error, number))?;
            let query = sqlx::query_with(AssertSqlSafe(statement.sql.to_owned()), arguments);
            // Nothing has happened before the commit: until then a broken connection undoes it all.
            let done = query.execute(&mut *transaction).await.map_err(|error| of_row(not_sent(&error), number))?;
            touched += done.rows_affected();
        }
        transaction.commit().await.map_err(|error| explain(&error))?;
        Ok(touched)
    };
    within(statement, work).await
}

async fn within<T>(statement: Statement<'_>, work: impl Future<Output = Result<T, SqlError>>) -> Result<T, SqlError> {
    let limit = statement.timeout.to_std().saturating_add(GRACE);
    match tokio::time::timeout(limit, work).await {
        Ok(Err(error)) if error.class == ErrorClass::Timeout => {
            Err(SqlError { happened: error.happened, ..SqlError::late(statement.timeout) })
        }
        Ok(result) => result,
        // Where it hangs is not known: it may be the commit.
        Err(_) => Err(SqlError::late(statement.timeout).perhaps()),
    }
}

/// Limits the statement's time and asks for the types of its parameters.
async fn prepare(connection: &mut PgConnection, statement: Statement<'_>) -> Result<Vec<PgTypeInfo>, SqlError> {
    let failed = |error: sqlx::Error| SqlError { happened: Happened::No, ..explain(&error) };
    let milliseconds = i32::try_from(statement.timeout.micros().div_ceil(1_000)).unwrap_or(i32::MAX).max(1);
    let limit = AssertSqlSafe(format!("SET LOCAL statement_timeout = {milliseconds}"));
    connection.execute(limit).await.map_err(failed)?;
    let sql = sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(statement.sql.to_owned()));
    let prepared = connection.prepare(sql).await.map_err(failed)?;
    Ok(match prepared.parameters() {
        Some(Either::Left(types)) => types.to_vec(),
        _ => Vec::new(),
    })
}

fn arguments(types: &[PgTypeInfo], params: &[Value]) -> Result<PgArguments, SqlError> {
    if types.len() != params.len() {
        let (expected, found) = (types.len(), params.len());
        return Err(SqlError::invalid(format!("the statement takes {expected} parameters, found {found}")));
    }
    postgres_values::arguments(types, params)
}

fn read_row(row: &PgRow) -> Result<Map, SqlError> {
    let mut map = Map::with_capacity(row.columns().len());
    for column in row.columns() {
        let raw = row.try_get_raw(column.ordinal()).map_err(|error| explain(&error))?;
        let value = if raw.is_null() {
            Value::Null
        } else {
            let bytes = raw.as_bytes().map_err(|error| SqlError::invalid(error.to_string()))?;
            postgres_values::read(&raw.type_info(), bytes)
                .map_err(|error| SqlError::invalid(format!("column `{}`: {}", column.name(), error.message)))?
        };
        put(&mut map, column.name(), value)?;
    }
    Ok(map)
}

/// Says what an error means.
fn explain(error: &sqlx::Error) -> SqlError {
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
                SqlError::invalid(error.to_string())
            }
            sqlx::Error::PoolTimedOut => {
                SqlError::new(ErrorClass::Unavailable, "no connection to the database came up")
            }
            _ => SqlError::new(ErrorClass::Unavailable, error.to_string()).perhaps(),
        };
    };
    let code = database.code().unwrap_or_default();
    let class = match &*code {
        "23505" | "23P01" => ErrorClass::Conflict,
        "40001" | "40P01" | "55P03" => ErrorClass::Locked,
        "57014" => ErrorClass::Timeout,
        "42501" => ErrorClass::Auth,
        code if code.starts_with("28") => ErrorClass::Auth,
        code if ["08", "53", "57P", "58"].iter().any(|start| code.starts_with(start)) => ErrorClass::Unavailable,
        _ => ErrorClass::Invalid,
    };
    let mut explained = SqlError::new(class, database.message());
    if &*code == "25006" {
        explained.message.push_str(": a query only reads");
    }
    // An answer proves that the transaction was undone, unless the server was on its way out.
    if code.starts_with("08") || code.starts_with("57P") || &*code == "40003" { explained.perhaps() } else { explained }
}
