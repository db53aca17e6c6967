//! What an attempt of a step run has asked for money: whether a paid read that a crash cut off may have been paid.

use super::Error;
use super::SpendingRecord;
use super::Store;
use super::db::args;
use super::spending::COLUMNS;
use super::spending::record;
use crate::model::RunId;
use crate::model::StepPath;

impl Store {
    /// Lists the paid requests of an attempt that may have been charged, the oldest first. `begun` is the number of the
    /// journal's event with which it began: it tells attempts apart that bear the same number, and needs no clock. What
    /// says of no attempt that it is its own may be this one's.
    ///
    /// # Errors
    /// The store's.
    pub async fn paid_by(&self, run: RunId, path: &StepPath, begun: u64) -> Result<Vec<SpendingRecord>, Error> {
        self.spending_written().await;
        let sql = format!(
            "SELECT {COLUMNS} FROM spending WHERE run_id = $1 AND path = $2 AND (begun IS NULL OR begun = $3) \
             AND state <> 'released' ORDER BY asked_at, id"
        );
        let begun = i64::try_from(begun).unwrap_or(i64::MAX);
        let rows = self.fetch(sql, args![run.to_string(), path.to_string(), begun]).await?;
        rows.iter().map(record).collect()
    }
}
