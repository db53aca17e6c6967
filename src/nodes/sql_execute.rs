//! `sql.execute`: changes a database.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::expressions::eval_item;
use super::sql;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::Repeat;
use crate::model::Settlement;
use crate::model::Value;
use crate::model::WriteKind;
use crate::node::ExpressionKey;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::Rows;
use crate::node::StepContext;
use crate::store::external;

/// Executes a statement that changes a database.
///
/// Parameters stand as `$1`, `$2` … in the statement and are bound, never pasted into it. The statement is one transaction.
/// If the connection breaks before the answer, the effect is in doubt: say `repeat: always` where the same statement
/// twice does no harm (`INSERT … ON CONFLICT`, `CREATE TABLE IF NOT EXISTS`). With
/// `rows`, a list or a dataset, the statement is executed once a row, all in one transaction; `row` says what its
/// parameters are.
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
    /// Rows to execute the statement for, instead of `params`.
    #[serde(default)]
    rows: Option<Rows>,
    /// The parameters of a row as a list, over `item` and `index`, e.g. `"{{ [item.id, item.total] }}"`.
    #[serde(default, rename = "row")]
    _row: Option<String>,
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
    const EXPRESSIONS: &'static [ExpressionKey] = &[ExpressionKey { key: "row", roots: &["item", "index"] }];
    const LITERALS: &'static [&'static str] = &["effect"];
    type Output = Executed;

    fn effect(with: &Value) -> Effect {
        let kind = with.get("effect").and_then(Value::as_str).and_then(WriteKind::by_name);
        Effect::Write(kind.unwrap_or(WriteKind::Update))
    }

    fn check(with: &Value) -> Vec<(Option<String>, String)> {
        let fault = |key: &str, message: &str| vec![(Some(key.to_owned()), message.to_owned())];
        match (with.get("rows").is_some(), with.get("row").is_some(), with.get("params").is_some()) {
            (true, false, _) => fault("rows", "`rows` needs `row`: what the parameters of a row are"),
            (false, true, _) => fault("row", "`row` needs `rows`: a list or a dataset"),
            (true, _, true) => fault("params", "with `rows`, the parameters come from `row`"),
            _ => Vec::new(),
        }
    }

    fn settlement(&self) -> Settlement {
        let repeat = if self.repeat == Again::Always { Repeat::Always } else { Repeat::Never };
        Settlement { repeat, timeout: self.timeout, ..Settlement::default() }
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let url = sql::database_url(ctx, &self.database)?;
        sql::make_folder(&url).await?;
        let count = match &self.rows {
            Some(rows) => {
                let rows = parameters(rows, ctx).await?;
                external::execute_many(&url, &self.sql, &rows, self.timeout).await
            }
            None => external::execute(&url, &self.sql, &sql::opened(&self.params), self.timeout).await,
        };
        Ok(Outcome::Done(Value::map([("count", Value::from(count.map_err(sql::failed)?))])))
    }
}

/// Evaluates the parameters of each row.
async fn parameters(rows: &Rows, ctx: &StepContext<'_>) -> Result<Vec<Vec<Value>>, NodeError> {
    let mut all = Vec::with_capacity(rows.len());
    let mut reader = rows.read(ctx);
    while let Some((index, item)) = reader.next().await? {
        let Value::List(params) = eval_item(ctx, "row", index, &item)?.revealed() else {
            return Err(NodeError::invalid(format!("`row` of row {index}: expected a list of parameters")));
        };
        all.push(sql::opened(&params));
    }
    Ok(all)
}
