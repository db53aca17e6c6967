//! `sql.query`: reads rows from a database.

use async_trait::async_trait;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::sql;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;
use crate::store::external;

/// Reads rows from a database.
///
/// Parameters stand as `$1`, `$2` … in the statement and are bound, never pasted into it. Numbers are exact: integers stay
/// integers, NUMERIC comes as a decimal; a binary float of the database is a float. The database refuses a statement that would
/// write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlQuery {
    /// A connection of the project file, or `sqlite://path` for a file of the project, e.g. `sqlite://data/shop.db`.
    database: String,
    /// One statement, e.g. `SELECT id, total FROM orders WHERE day = $1`.
    sql: String,
    /// The values of `$1`, `$2` …; lists and objects are bound as JSON text.
    #[serde(default)]
    params: Vec<Value>,
    /// How many rows may come; more are an error.
    #[serde(default = "default_max_rows")]
    max_rows: usize,
    /// How long the statement may take.
    #[serde(default = "thirty_seconds")]
    timeout: Duration,
}

/// Rows that were read.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct QueryRows {
    /// Each an object by column.
    rows: Vec<IndexMap<String, Value>>,
    /// The number of rows.
    count: u64,
}

fn default_max_rows() -> usize {
    100_000
}

fn thirty_seconds() -> Duration {
    Duration::from_secs(30)
}

#[async_trait]
impl NodeType for SqlQuery {
    const NAME: &'static str = "sql.query";
    const EXAMPLE: &'static str = "database: sqlite://data/shop.db
sql: SELECT $1 + 1 AS next, $2 AS name
params: [41, Ada]
";
    type Output = QueryRows;

    fn effect(_with: &Value) -> Effect {
        Effect::Read
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let url = sql::database_url(ctx, &self.database)?;
        let rows = external::query(&url, &self.sql, &sql::opened(&self.params), self.max_rows, self.timeout).await;
        let rows: Vec<Value> = rows.map_err(sql::failed)?.into_iter().map(Value::from).collect();
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        Ok(Outcome::Done(Value::map([("rows", Value::list(rows)), ("count", count.into())])))
    }
}
