//! What a store knows of the world outside, for rehearsals: another sandbox is another world.

use super::Error;
use super::Store;
use super::db::args;

/// The row of `streams` that names the world.
const WORLD: &str = "sandbox.world";

impl Store {
    /// Enters a world. What was learned of another is forgotten: its objects, where reads of it stood, what its limits had
    /// left, what it has cost, its tokens, what was cached. Runs and their journals stay; a run that has not ended keeps its objects.
    ///
    /// # Errors
    /// The store.
    pub async fn enter(&self, world: &str) -> Result<(), Error> {
        const KNOWN: &str = "SELECT state FROM streams WHERE stream_key = $1";
        const OBJECTS: &str = "DELETE FROM remote_objects WHERE effect_id NOT IN (SELECT e.id FROM effects e JOIN runs r \
                               ON r.id = e.run_id WHERE r.state NOT IN ('succeeded', 'failed', 'canceled'))";
        let known = self.fetch(KNOWN, args![WORLD]).await?;
        if known.first().map(|row| row.text(0)).transpose()?.is_some_and(|known| known == world) {
            return Ok(());
        }
        self.execute(OBJECTS, args![]).await?;
        for table in ["streams", "budgets", "tokens", "cache", "spending", "spending_totals"] {
            self.execute(format!("DELETE FROM {table}"), args![]).await?;
        }
        self.execute("INSERT INTO streams (stream_key, state) VALUES ($1, $2)", args![WORLD, world]).await?;
        Ok(())
    }
}
