//! Outputs kept for `cache:`; written by `Record::Cache`.

use super::Error;
use super::Store;
use super::db::args;
use crate::model::Timestamp;
use crate::model::Value;

impl Store {
    /// Returns the output under a key, unless it has expired.
    pub async fn cache_get(&self, key: &str, now: Timestamp) -> Result<Option<Value>, Error> {
        const GET: &str = "SELECT output FROM cache WHERE cache_key = $1 AND expires_at > $2";
        let rows = self.fetch(GET, args![key, now.micros()]).await?;
        rows.first().map(|row| self.codec().decode(row.text(0)?, "the cache")).transpose()
    }

    /// Removes up to `most` entries that have expired. Returns how many.
    pub async fn cache_prune(&self, now: Timestamp, most: u32) -> Result<u64, Error> {
        const PRUNE: &str = "DELETE FROM cache WHERE cache_key IN \
                             (SELECT cache_key FROM cache WHERE expires_at <= $1 LIMIT $2)";
        self.execute(PRUNE, args![now.micros(), i64::from(most)]).await
    }
}
