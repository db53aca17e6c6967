//! Rows that are too many for a value: pages of rows, appended together with the cursor of the source.

use super::Batch;
use super::Error;
use super::Fence;
use super::Store;
use super::db::args;
use crate::model::Dataset;
use crate::model::RunId;
use crate::model::Value;

/// A dataset as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetRecord {
    pub run: RunId,
    pub dataset: Dataset,
    /// Where the source goes on after the rows that are here.
    pub cursor: Option<String>,
    /// Whether the last page has come.
    pub complete: bool,
}

/// Keeps where an incremental read stands.
pub(super) const PUT_STREAM: &str = "INSERT INTO streams (stream_key, state) VALUES ($1, $2) ON CONFLICT (stream_key) DO UPDATE SET state = excluded.state";

impl Store {
    /// Makes an empty dataset of a run; repeating is harmless.
    pub async fn create_dataset(&self, run: RunId, fence: Fence, id: &str, name: &str) -> Result<(), Error> {
        const CREATE: &str = "INSERT INTO datasets (id, run_id, name, row_count, complete) \
                              SELECT $1, $2, $3, 0, 0 FROM runs WHERE id = $2 AND fence = $4 ON CONFLICT DO NOTHING";
        self.execute(CREATE, args![id, run.to_string(), name, fence.0]).await?;
        match self.lease(run).await? {
            Some(lease) if lease.fence == fence => Ok(()),
            _ => Err(Error::LeaseLost { run }),
        }
    }

    /// Takes all rows away again: whoever made them begins anew.
    pub async fn clear_dataset(&self, run: RunId, fence: Fence, id: &str) -> Result<(), Error> {
        // Without the lease the count becomes null, which the table refuses, and nothing happens.
        let count = format!(
            "UPDATE datasets SET next_cursor = NULL, complete = 0, row_count = CASE WHEN EXISTS \
             (SELECT 1 FROM runs WHERE id = $2 AND fence = $3{}) THEN 0 END WHERE id = $1",
            self.0.shared.db.share_lock()
        );
        let mut batch = Batch::default();
        batch.push(count, args![id, run.to_string(), fence.0]);
        batch.push("DELETE FROM dataset_pages WHERE dataset_id = $1", args![id]);
        match self.apply(batch).await? {
            Ok(()) => Ok(()),
            Err(error) if error.as_database_error().is_some_and(|error| is_guard(&error.kind())) => {
                Err(Error::LeaseLost { run })
            }
            Err(error) => Err(self.place().error(error)),
        }
    }

    /// Appends a page of rows and keeps the cursor, in one transaction. `at_row` is how many rows were there before: a
    /// page that was appended already is not appended twice. `cursor` is nothing with the last page.
    pub async fn append_rows(
        &self,
        run: RunId,
        fence: Fence,
        id: &str,
        at_row: u64,
        rows: &[Value],
        cursor: Option<&str>,
    ) -> Result<Dataset, Error> {
        self.append_page(run, fence, id, at_row, rows, cursor, None).await
    }

    /// Appends a page as `append_rows` does, and keeps where a stream stands in the same transaction.
    #[expect(clippy::too_many_arguments, reason = "one transaction, each part of it once")]
    pub async fn append_page(
        &self,
        run: RunId,
        fence: Fence,
        id: &str,
        at_row: u64,
        rows: &[Value],
        cursor: Option<&str>,
        stream: Option<(&str, &Value)>,
    ) -> Result<Dataset, Error> {
        // Where the guard does not hold, the count becomes null, which the table refuses, and nothing happens.
        let count = format!(
            "UPDATE datasets SET row_count = CASE WHEN row_count = $2 AND EXISTS \
             (SELECT 1 FROM runs WHERE id = $5 AND fence = $6{}) THEN row_count + $3 END, \
             next_cursor = $4, complete = $7 WHERE id = $1",
            self.0.shared.db.share_lock()
        );
        const PAGE: &str = "INSERT INTO dataset_pages (dataset_id, first_row, row_count, page) \
                            SELECT id, $2, $3, $4 FROM datasets WHERE id = $1";
        let mut page = String::new();
        for row in rows {
            page.push_str(&self.encode(row).await?);
            page.push('\n');
        }
        let at_row = count_of(at_row);
        let added = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let complete = i64::from(cursor.is_none());
        let mut batch = Batch::default();
        batch.push(count, args![id, at_row, added, cursor, run.to_string(), fence.0, complete]);
        if !rows.is_empty() {
            batch.push(PAGE, args![id, at_row, added, page]);
        }
        if let Some((key, state)) = stream {
            batch.push(PUT_STREAM, args![key, self.encode(state).await?]);
        }
        let applied = self.apply(batch).await?;
        let record = self.dataset(id).await?;
        let record =
            record.ok_or_else(|| Error::Damaged { what: id.to_owned(), reason: "it was not created".into() })?;
        match applied {
            Ok(()) => Ok(record.dataset),
            Err(error) if error.as_database_error().is_some_and(|error| is_guard(&error.kind())) => {
                let lease = self.lease(run).await?;
                if lease.is_none_or(|lease| lease.fence != fence) {
                    return Err(Error::LeaseLost { run });
                }
                if record.dataset.rows < u64::try_from(at_row.saturating_add(added)).unwrap_or(u64::MAX) {
                    let reason = format!("it has {} rows, and a page begins at {at_row}", record.dataset.rows);
                    return Err(Error::Damaged { what: format!("dataset `{id}`"), reason });
                }
                // The page is there already: the same answer as the first time.
                Ok(record.dataset)
            }
            Err(error) => Err(self.place().error(error)),
        }
    }

    /// Returns where an incremental read stands.
    pub async fn stream(&self, key: &str) -> Result<Option<Value>, Error> {
        let rows = self.fetch("SELECT state FROM streams WHERE stream_key = $1", args![key]).await?;
        rows.first().map(|row| self.codec().decode(row.text(0)?, "a stream")).transpose()
    }

    /// Returns what is known of a dataset, its count of rows among it.
    pub async fn dataset(&self, id: &str) -> Result<Option<DatasetRecord>, Error> {
        const GET: &str = "SELECT run_id, name, row_count, next_cursor, complete FROM datasets WHERE id = $1";
        let rows = self.fetch(GET, args![id]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let rows = u64::try_from(row.int(2)?).unwrap_or(0);
        Ok(Some(DatasetRecord {
            run: row.parsed(0)?,
            dataset: Dataset { name: row.text(1)?.to_owned(), id: id.to_owned(), rows },
            cursor: row.optional_text(3)?.map(str::to_owned),
            complete: row.int(4)? != 0,
        }))
    }

    /// Returns up to `limit` rows from row `from` (counted from 0) on.
    pub async fn rows(&self, id: &str, from: u64, limit: u64) -> Result<Vec<Value>, Error> {
        const PAGES: &str = "SELECT first_row, page FROM dataset_pages \
                             WHERE dataset_id = $1 AND first_row < $3 AND first_row >= COALESCE(\
                             (SELECT MAX(first_row) FROM dataset_pages WHERE dataset_id = $1 AND first_row <= $2), 0) \
                             ORDER BY first_row";
        let to = from.saturating_add(limit);
        let pages = self.fetch(PAGES, args![id, count_of(from), count_of(to)]).await?;
        let what = format!("dataset `{id}`");
        let mut rows = Vec::new();
        for page in &pages {
            let first = u64::try_from(page.int(0)?).unwrap_or(0);
            for (number, line) in (first..).zip(page.text(1)?.lines()) {
                if (from..to).contains(&number) {
                    rows.push(self.codec().decode(line, &what)?);
                }
            }
        }
        Ok(rows)
    }
}

fn count_of(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// Tells whether a guard in a statement has said no, and not the database.
pub(super) fn is_guard(kind: &sqlx::error::ErrorKind) -> bool {
    matches!(kind, sqlx::error::ErrorKind::NotNullViolation | sqlx::error::ErrorKind::UniqueViolation)
}
