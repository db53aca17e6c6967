//! The two databases behind one text of SQL: connections, arguments, rows and transactions.

use std::fmt::Write;
use std::path::PathBuf;

use sqlx::AssertSqlSafe;
use sqlx::Column;
use sqlx::Connection;
use sqlx::Executor;
use sqlx::PgPool;
use sqlx::Row as _;
use sqlx::SqliteConnection;
use sqlx::SqlitePool;
use sqlx::TypeInfo;
use sqlx::ValueRef;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use tokio::sync::Mutex;

use super::Error;
use crate::system::outside;

/// The database of a store.
#[derive(Debug)]
pub(super) enum Db {
    Sqlite(Sqlite),
    Postgres(PgPool),
}

/// One connection writes; the others read. A database in memory has only the one.
#[derive(Debug)]
pub(super) struct Sqlite {
    pub(super) write: Mutex<Option<SqliteConnection>>,
    pub(super) read: Option<SqlitePool>,
    /// The file, where there is one that may be written.
    pub(super) file: Option<PathBuf>,
}

/// A bound argument.
#[derive(Clone, Debug)]
pub(super) enum Arg {
    Int(Option<i64>),
    Text(Option<String>),
}

/// A fetched row; columns by their place.
#[derive(Clone, Debug)]
pub(super) struct Row(Vec<Cell>);

#[derive(Clone, Debug)]
enum Cell {
    Null,
    Int(i64),
    Text(String),
}

/// Statements that take effect together.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    statements: Vec<Statement>,
    /// Whether the text differs with the number of rows, so that keeping the prepared statement is of no use.
    varied: bool,
}

#[derive(Clone, Debug)]
enum Statement {
    One {
        sql: String,
        args: Vec<Arg>,
    },
    /// `head`, then a list of rows, then `tail`.
    Rows {
        head: &'static str,
        rows: Vec<Vec<Arg>>,
        tail: &'static str,
    },
}

/// A statement takes no more arguments than this; the databases' own limits are higher.
const MOST_ARGS: usize = 8_000;
/// Of PostgreSQL's statements with rows those that have so many go in one: see `project::add_all` for why not more.
const MOST_ROWS: usize = 50;

/// Runs a body once for each driver, with a connection for reading.
macro_rules! on_pool {
    ($db:expr, $connection:ident => $body:expr) => {
        match $db {
            Db::Sqlite(Sqlite { read: Some(pool), .. }) => {
                let mut pooled = pool.acquire().await?;
                let $connection = &mut *pooled;
                $body
            }
            Db::Sqlite(sqlite) => {
                let mut guard = sqlite.write.lock().await;
                let $connection = guard.as_mut().ok_or(sqlx::Error::PoolClosed)?;
                $body
            }
            Db::Postgres(pool) => {
                let mut pooled = pool.acquire().await?;
                let $connection = &mut *pooled;
                $body
            }
        }
    };
}

/// Runs a body once for each driver, with the connection that writes.
macro_rules! on_writer {
    ($db:expr, $connection:ident => $body:expr) => {
        match $db {
            Db::Sqlite(sqlite) => {
                let mut guard = sqlite.write.lock().await;
                let $connection = guard.as_mut().ok_or(sqlx::Error::PoolClosed)?;
                $body
            }
            Db::Postgres(pool) => {
                let mut pooled = pool.acquire().await?;
                let $connection = &mut *pooled;
                $body
            }
        }
    };
}

/// Binds arguments; a macro because the two drivers share no trait for it.
macro_rules! bound {
    ($sql:expr, $args:expr, $persistent:expr) => {{
        let mut query = sqlx::query($sql).persistent($persistent);
        for arg in $args {
            query = match arg {
                Arg::Int(int) => query.bind(int),
                Arg::Text(text) => query.bind(text),
            };
        }
        query
    }};
}

impl Db {
    /// Returns the clause that locks rows against change while a statement looks at them. SQLite has one writer at a
    /// time and needs none.
    pub(super) fn share_lock(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "",
            Self::Postgres(_) => " FOR SHARE",
        }
    }

    /// Returns the clause that takes the rows that a statement looks at and passes over those that others hold.
    pub(super) fn take_lock(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "",
            Self::Postgres(_) => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// Reads rows.
    pub(super) async fn fetch(&self, sql: impl Into<String>, args: Vec<Arg>) -> Result<Vec<Row>, sqlx::Error> {
        self.fetch_with(sql.into(), args, true).await
    }

    /// Reads rows by a text that is not the same next time: keeping the prepared statement is of no use.
    pub(super) async fn fetch_varied(&self, sql: String) -> Result<Vec<Row>, sqlx::Error> {
        self.fetch_with(sql, Vec::new(), false).await
    }

    async fn fetch_with(&self, sql: String, args: Vec<Arg>, keep: bool) -> Result<Vec<Row>, sqlx::Error> {
        let sql = AssertSqlSafe(sql);
        let args = self.clean(args);
        outside(async {
            on_pool!(self, connection => {
                let rows = bound!(sql, args, keep).fetch_all(connection).await?;
                rows.iter().map(Row::read).collect()
            })
        })
        .await
    }

    /// Executes one statement that writes and gives rows back.
    pub(super) async fn fetch_write(&self, sql: impl Into<String>, args: Vec<Arg>) -> Result<Vec<Row>, sqlx::Error> {
        let sql = AssertSqlSafe(sql.into());
        let args = self.clean(args);
        outside(async {
            on_writer!(self, connection => {
                let rows = bound!(sql, args, true).fetch_all(connection).await?;
                rows.iter().map(Row::read).collect()
            })
        })
        .await
    }

    /// Executes one statement that writes; returns how many rows it touched.
    pub(super) async fn execute(&self, sql: impl Into<String>, args: Vec<Arg>) -> Result<u64, sqlx::Error> {
        let sql = AssertSqlSafe(sql.into());
        let args = self.clean(args);
        outside(async {
            on_writer!(self, connection => Ok(bound!(sql, args, true).execute(connection).await?.rows_affected()))
        })
        .await
    }

    /// Executes a batch as one transaction.
    ///
    /// Must run to its end: callers that can be canceled run it in a task of its own.
    pub(super) async fn apply(&self, batch: Batch) -> Result<(), sqlx::Error> {
        outside(self.transact(batch)).await
    }

    async fn transact(&self, batch: Batch) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(sqlite) => {
                let mut guard = sqlite.write.lock().await;
                let connection = guard.as_mut().ok_or(sqlx::Error::PoolClosed)?;
                apply_sqlite(connection, batch).await
            }
            Self::Postgres(pool) => {
                let mut connection = pool.acquire().await?;
                let varied = batch.varied;
                let statements: Vec<_> = batch.statements.into_iter().flat_map(Statement::split).collect();
                let mut statements = statements.into_iter().map(Statement::numbered);
                if statements.len() == 1 {
                    for (sql, args) in statements {
                        bound!(AssertSqlSafe(sql), self.clean(args), !varied).execute(&mut *connection).await?;
                    }
                    return Ok(());
                }
                let mut transaction = connection.begin().await?;
                for (sql, args) in statements.by_ref() {
                    let query = bound!(AssertSqlSafe(sql), self.clean(args), !varied);
                    query.execute(&mut *transaction).await?;
                }
                transaction.commit().await
            }
        }
    }

    /// Closes the connections; what is under way ends first.
    pub(super) async fn close(&self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(sqlite) => {
                if let Some(read) = &sqlite.read {
                    read.close().await;
                }
                let connection = sqlite.write.lock().await.take();
                match connection {
                    Some(connection) => connection.close().await,
                    None => Ok(()),
                }
            }
            Self::Postgres(pool) => {
                pool.close().await;
                Ok(())
            }
        }
    }

    /// PostgreSQL's TEXT cannot hold the character 0.
    fn clean(&self, mut args: Vec<Arg>) -> Vec<Arg> {
        if matches!(self, Self::Postgres(_)) {
            for arg in &mut args {
                if let Arg::Text(Some(text)) = arg
                    && text.contains('\0')
                {
                    *text = text.replace('\0', "\u{FFFD}");
                }
            }
        }
        args
    }
}

/// Sends the whole transaction to the connection's thread as one text: each trip there costs more than a statement.
async fn apply_sqlite(connection: &mut SqliteConnection, batch: Batch) -> Result<(), sqlx::Error> {
    let single = batch.statements.len() == 1;
    let mut text = String::from(if single { "" } else { "BEGIN IMMEDIATE;" });
    // Arguments of rows have places, not numbers, because SQLite searches all numbers for each. They come first.
    let rows_args = batch.statements.iter().map(Statement::rows_args).sum();
    let mut all_args = Vec::with_capacity(rows_args);
    let mut numbered_args = Vec::new();
    for statement in batch.statements {
        match statement {
            Statement::One { sql, args } => {
                renumber(&sql, rows_args + numbered_args.len(), &mut text);
                numbered_args.extend(args);
            }
            Statement::Rows { head, rows, tail } => {
                text.push_str(head);
                push_rows(&mut text, &mut all_args, rows, |text, _| text.push('?'));
                text.push_str(tail);
            }
        }
        text.push(';');
    }
    all_args.extend(numbered_args);
    text.push_str(if single { "" } else { "COMMIT" });
    let query = bound!(AssertSqlSafe(text), all_args, !batch.varied);
    match connection.execute(query).await {
        Ok(_) => Ok(()),
        Err(error) => {
            if !single {
                // Fails when SQLite has rolled back by itself; the first error is the one that tells.
                let _ = connection.execute("ROLLBACK").await;
            }
            Err(error)
        }
    }
}

/// Copies a statement, its placeholders moved on by `offset`.
fn renumber(sql: &str, offset: usize, out: &mut String) {
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = after.split_at(digits);
        let number = number.parse::<usize>().unwrap_or(0) + offset;
        write!(out, "${number}").expect("writing into a string cannot fail");
        rest = tail;
    }
    out.push_str(rest);
}

/// Writes `(…), (…)` and collects the arguments.
fn push_rows(sql: &mut String, args: &mut Vec<Arg>, rows: Vec<Vec<Arg>>, place: impl Fn(&mut String, usize)) {
    for (index, row) in rows.into_iter().enumerate() {
        sql.push_str(if index == 0 { "(" } else { ", (" });
        for (column, arg) in row.into_iter().enumerate() {
            args.push(arg);
            sql.push_str(if column == 0 { "" } else { ", " });
            place(sql, args.len());
        }
        sql.push(')');
    }
}

impl Statement {
    fn rows_args(&self) -> usize {
        match self {
            Self::One { .. } => 0,
            Self::Rows { rows, .. } => rows.iter().map(Vec::len).sum(),
        }
    }

    /// Cuts one with many rows into several.
    fn split(self) -> Vec<Self> {
        match self {
            Self::Rows { head, rows, tail } if rows.len() > MOST_ROWS => {
                let parts = rows.chunks(MOST_ROWS).map(|rows| Self::Rows { head, rows: rows.to_vec(), tail });
                parts.collect()
            }
            whole => vec![whole],
        }
    }

    /// Returns the text with numbered places, and the arguments.
    fn numbered(self) -> (String, Vec<Arg>) {
        match self {
            Self::One { sql, args } => (sql, args),
            Self::Rows { head, rows, tail } => {
                let (mut sql, mut args) = (head.to_owned(), Vec::new());
                push_rows(&mut sql, &mut args, rows, |sql, number| {
                    write!(sql, "${number}").expect("writing into a string cannot fail");
                });
                sql.push_str(tail);
                (sql, args)
            }
        }
    }
}

impl Batch {
    pub(super) fn push(&mut self, sql: impl Into<String>, args: Vec<Arg>) {
        self.statements.push(Statement::One { sql: sql.into(), args });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Says that the text is not the same next time.
    pub(super) fn vary(&mut self) {
        self.varied = true;
    }

    /// Adds a statement with a list of rows: `head`, then the rows, then `tail`; several of them when there are many.
    pub(super) fn push_rows(&mut self, head: &'static str, rows: Vec<Vec<Arg>>, tail: &'static str) {
        self.varied |= rows.len() > 1;
        let most = MOST_ARGS / rows.first().map_or(1, Vec::len).max(1);
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let rows = rows.by_ref().take(most).collect();
            self.statements.push(Statement::Rows { head, rows, tail });
        }
    }
}

/// Reads a row of one of the drivers; a trait of our own because theirs share no way to ask for a type's name.
trait Source {
    fn cells(&self) -> Result<Vec<Cell>, sqlx::Error>;
}

macro_rules! source {
    ($row:ty) => {
        impl Source for $row {
            fn cells(&self) -> Result<Vec<Cell>, sqlx::Error> {
                let mut cells = Vec::with_capacity(self.columns().len());
                for column in self.columns() {
                    let index = column.ordinal();
                    let raw = self.try_get_raw(index)?;
                    let cell = if raw.is_null() {
                        Cell::Null
                    } else if matches!(raw.type_info().name(), "INTEGER" | "INT8") {
                        Cell::Int(self.try_get(index)?)
                    } else if raw.type_info().name() == "INT4" {
                        // What a number written out is to PostgreSQL, `SELECT 1`; no column of ours.
                        Cell::Int(self.try_get::<i32, _>(index)?.into())
                    } else {
                        Cell::Text(self.try_get(index)?)
                    };
                    cells.push(cell);
                }
                Ok(cells)
            }
        }
    };
}
source!(SqliteRow);
source!(PgRow);

impl Row {
    fn read(row: &impl Source) -> Result<Self, sqlx::Error> {
        row.cells().map(Self)
    }

    pub(super) fn text(&self, column: usize) -> Result<&str, Error> {
        self.optional_text(column)?.ok_or_else(|| wrong(column, "nothing instead of a text"))
    }

    pub(super) fn optional_text(&self, column: usize) -> Result<Option<&str>, Error> {
        match self.0.get(column) {
            Some(Cell::Text(text)) => Ok(Some(text)),
            Some(Cell::Null) => Ok(None),
            _ => Err(wrong(column, "not a text")),
        }
    }

    pub(super) fn int(&self, column: usize) -> Result<i64, Error> {
        self.optional_int(column)?.ok_or_else(|| wrong(column, "nothing instead of an integer"))
    }

    pub(super) fn optional_int(&self, column: usize) -> Result<Option<i64>, Error> {
        match self.0.get(column) {
            Some(Cell::Int(int)) => Ok(Some(*int)),
            Some(Cell::Null) => Ok(None),
            _ => Err(wrong(column, "not an integer")),
        }
    }

    /// Reads a text as something that is written as text.
    pub(super) fn parsed<T: std::str::FromStr>(&self, column: usize) -> Result<T, Error>
    where
        T::Err: std::fmt::Display,
    {
        self.text(column)?.parse().map_err(|error: T::Err| wrong(column, &error.to_string()))
    }
}

fn wrong(column: usize, reason: &str) -> Error {
    Error::Damaged { what: format!("column {}", column + 1), reason: reason.to_owned() }
}

impl From<i64> for Arg {
    fn from(int: i64) -> Self {
        Self::Int(Some(int))
    }
}

impl From<Option<i64>> for Arg {
    fn from(int: Option<i64>) -> Self {
        Self::Int(int)
    }
}

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Arg {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<String>> for Arg {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<Option<&str>> for Arg {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

/// Makes the arguments of a statement.
macro_rules! args {
    ($($arg:expr),* $(,)?) => {
        vec![$($crate::store::db::Arg::from($arg)),*]
    };
}
pub(super) use args;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_move_on_by_the_arguments_before() {
        let mut out = String::new();
        renumber("SELECT $1, $12 WHERE a = $2", 10, &mut out);
        assert_eq!(out, "SELECT $11, $22 WHERE a = $12");
    }
}
