//! Keeping the files of the database small: the write-ahead log is folded in, free pages are given back.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::Connection;
use sqlx::Row as _;
use sqlx::SqliteConnection;

use super::Error;
use super::Store;
use super::connect::connect_aside;
use super::db::Db;
use super::db::args;

/// A write-ahead log that is smaller needs no care.
const SMALL: u64 = 1 << 20;
/// One that is larger is cut off.
const LARGE: u64 = 32 << 20;
/// One that is larger than this although it was cut off is held by somebody who reads.
const HELD: u64 = 64 << 20;
/// How long cutting the log off may keep writers waiting.
const PATIENCE: Duration = Duration::from_millis(200);
/// Free pages are given back where there are more than this, and more than a fifth of all.
const FREE: i64 = 2_000;
/// So many at once.
const GIVEN: &str = "PRAGMA incremental_vacuum(400)";

/// How much room the database takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// The database, with its free pages.
    pub bytes: u64,
    /// Of that what is free: it is used again before the file grows.
    pub free_bytes: u64,
    /// The write-ahead log.
    pub log_bytes: u64,
}

/// What tending the database came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tended {
    pub size: Size,
    /// Whether a reader keeps the write-ahead log from being folded in, so that it grows.
    pub held: bool,
    /// Whether there are more free pages to give back.
    pub more: bool,
}

impl Store {
    /// Returns how much room the database takes.
    ///
    /// # Errors
    /// The store's.
    pub async fn size(&self) -> Result<Size, Error> {
        if self.is_postgres() {
            let rows = self.fetch("SELECT pg_database_size(current_database())", args![]).await?;
            let bytes = rows.first().map(|row| row.int(0)).transpose()?.unwrap_or_default();
            return Ok(Size { bytes: bytes.unsigned_abs(), ..Size::default() });
        }
        let (pages, free, page) =
            (self.pragma("page_count").await?, self.pragma("freelist_count").await?, self.pragma("page_size").await?);
        let bytes = |pages: i64| pages.unsigned_abs().saturating_mul(page.unsigned_abs());
        let log_bytes = self.log_file().map_or(0, |path| path.metadata().map_or(0, |about| about.len()));
        Ok(Size { bytes: bytes(pages), free_bytes: bytes(free), log_bytes })
    }

    /// Folds the write-ahead log into the database, cuts it off where it is large, and gives some free pages back. Nobody
    /// who writes waits for longer than a moment. PostgreSQL does all this by itself.
    ///
    /// # Errors
    /// The store's.
    pub async fn tend(&self) -> Result<Tended, Error> {
        let Db::Sqlite(sqlite) = &self.0.shared.db else {
            return Ok(Tended { size: self.size().await?, ..Tended::default() });
        };
        let mut size = self.size().await?;
        if let Some(file) = sqlite.file.as_deref().filter(|_| size.log_bytes > SMALL) {
            fold(file, size.log_bytes > LARGE).await.map_err(|error| self.place().error(error))?;
            size = self.size().await?;
        }
        let mut more = false;
        let page = self.pragma("page_size").await?;
        let pages = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
        if pages(size.free_bytes) > FREE.max(pages(size.bytes) / 5) && self.pragma("auto_vacuum").await? == 2 {
            self.execute(GIVEN, args![]).await?;
            let left = self.size().await?;
            more = left.free_bytes < size.free_bytes && pages(left.free_bytes) > FREE.max(pages(left.bytes) / 5);
            size = left;
        }
        Ok(Tended { size, held: size.log_bytes > HELD, more })
    }

    /// Writes the whole database anew, as small as it can be; nobody else can write meanwhile. Afterwards free pages can be
    /// given back bit by bit, also where the file was made before that was possible.
    ///
    /// # Errors
    /// The store's: it needs room for a second copy, and waits for no other process.
    pub async fn compact(&self) -> Result<(), Error> {
        if self.is_postgres() {
            return Ok(());
        }
        self.execute("PRAGMA auto_vacuum = INCREMENTAL", args![]).await?;
        self.execute("VACUUM", args![]).await?;
        Ok(())
    }

    async fn pragma(&self, name: &str) -> Result<i64, Error> {
        let rows = self.fetch(format!("PRAGMA {name}"), args![]).await?;
        Ok(rows.first().map(|row| row.int(0)).transpose()?.unwrap_or_default())
    }

    fn log_file(&self) -> Option<PathBuf> {
        let Db::Sqlite(sqlite) = &self.0.shared.db else { return None };
        let file = sqlite.file.as_deref()?;
        Some(file.with_file_name(format!("{}-wal", file.file_name()?.to_string_lossy())))
    }
}

/// Folds the log in by a connection of its own, so that the writer goes on meanwhile.
async fn fold(file: &Path, cut: bool) -> Result<(), sqlx::Error> {
    let mut connection: SqliteConnection = connect_aside(file, PATIENCE).await?;
    let folded = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut connection).await?;
    let (all, done): (i64, i64) = (folded.try_get(1)?, folded.try_get(2)?);
    if cut && all == done {
        // Whoever reads keeps it from being cut off; then it is next time.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut connection).await?;
    }
    connection.close().await
}
