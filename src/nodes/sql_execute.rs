//! `sql.execute`: changes a database.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::sql;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::Repeat;
use crate::model::Settlement;
use crate::model::Value;
use crate::model::WriteKind;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;
use crate::store::external;

/// Executes a statement that changes a database.
///
/// Parameters stand as `$1`, `$2` … in the statement and are bound, never pasted into it. The statement is one transaction.
/// If the connection breaks before the answer, the effect is in doubt: say `repeat: always` where the same statement
/// twice does no harm (`INSERT … ON CONFLICT`, `CREATE TABLE IF NOT EXISTS`). Many rows go in one statement, on SQLite for
/// example by `INSERT INTO t SELECT value ->> 'id', value ->> 'name' FROM json_each($1)`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlExecute {
    /// A connection of the project file, or `sqlite://path` for a file of the project, which is made where it is missing.
    database: String,
    /// One statement, e.g. `INSERT INTO orders (id, total) VALUES ($1, $2) ON CONFLICT DO NOTHING`.
    sql: String,
    /// The values of `$1`, `$2` …; lists and objects are bound as JSON text.
    #[serde(default)]
    params: Vec<Value>,
    /// What it does: `create`, `update`, `upsert` or `delete`; literal.
    #[serde(default)]
    #[expect(dead_code, reason = "is read from the literal `with:`")]
    effect: Change,
    /// Whether the same statement again does harm: `never` or `always` may it be sent again when its answer was lost.
    #[serde(default)]
    repeat: Again,
    /// How long the statement may take.
    #[serde(default = "thirty_seconds")]
    timeout: Duration,
}

/// What a statement does.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Change {
    Create,
    #[default]
    Update,
    Upsert,
    Delete,
}

/// Whether a statement may be sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Again {
    #[default]
    Never,
    Always,
}

/// What a statement did.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Executed {
    /// The number of rows that were touched.
    count: u64,
}

fn thirty_seconds() -> Duration {
    Duration::from_secs(30)
}

#[async_trait]
impl NodeType for SqlExecute {
    const NAME: &'static str = "sql.execute";
    const EXAMPLE: &'static str = "database: sqlite://data/shop.db
sql: CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, total TEXT)
repeat: always
";
    const LITERALS: &'static [&'static str] = &["effect"];
    type Output = Executed;

    fn effect(with: &Value) -> Effect {
        let kind = with.get("effect").and_then(Value::as_str).and_then(WriteKind::by_name);
        Effect::Write(kind.unwrap_or(WriteKind::Update))
    }

    fn settlement(&self) -> Settlement {
        let repeat = if self.repeat == Again::Always { Repeat::Always } else { Repeat::Never };
        Settlement { repeat, timeout: self.timeout, ..Settlement::default() }
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let url = sql::database_url(ctx, &self.database)?;
        sql::make_folder(&url).await?;
        let count = external::execute(&url, &self.sql, &sql::opened(&self.params), self.timeout).await;
        Ok(Outcome::Done(Value::map([("count", Value::from(count.map_err(sql::failed)?))])))
    }
}
