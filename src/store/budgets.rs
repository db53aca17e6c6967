//! Budgets of connections as rows; `connector::limits` knows what is in them.

use super::Error;
use super::Store;
use super::db::args;

/// What is used of a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetRow {
    /// Grows with every change.
    pub version: i64,
    /// As `connector::limits` writes it.
    pub state: String,
}

impl Store {
    /// Returns a budget; nothing when nobody has drawn on it yet.
    pub async fn budget(&self, name: &str) -> Result<Option<BudgetRow>, Error> {
        let rows = self.fetch("SELECT version, state FROM budgets WHERE budget = $1", args![name]).await?;
        let row = |row: &super::Row| Ok(BudgetRow { version: row.int(0)?, state: row.text(1)?.to_owned() });
        rows.first().map(row).transpose()
    }

    /// Writes a budget over the version that was read, 0 where there was none. Returns false when somebody else was
    /// faster.
    pub async fn put_budget(&self, name: &str, seen: i64, state: &str) -> Result<bool, Error> {
        const NEW: &str = "INSERT INTO budgets (budget, version, state) VALUES ($1, 1, $2) ON CONFLICT DO NOTHING";
        const NEXT: &str = "UPDATE budgets SET version = version + 1, state = $3 WHERE budget = $1 AND version = $2";
        let written = match seen {
            0 => self.execute(NEW, args![name, state]).await?,
            seen => self.execute(NEXT, args![name, seen, state]).await?,
        };
        Ok(written > 0)
    }
}
