//! `data.reduce`: folds a list into one value.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::expressions::eval_row;
use super::expressions::index_value;
use crate::model::Effect;
use crate::model::Value;
use crate::node::ExpressionKey;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::Rows;
use crate::node::StepContext;

/// Folds the items of a list, from first to last, into one value.
///
/// The expression sees what has been computed so far as `acc`, the item as `item` and its number, from 0, as `index`; its
/// result is the next `acc`. The output is the last one, `initial` for an empty list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DataReduce {
    /// The list.
    items: Rows,
    /// The value before the first item.
    #[serde(default)]
    initial: Value,
    /// The next value, e.g. `"{{ acc + item.price }}"`.
    #[serde(rename = "to")]
    _to: String,
}

#[async_trait]
impl NodeType for DataReduce {
    const NAME: &'static str = "data.reduce";
    const EXAMPLE: &'static str = "items: [0.1, 0.2]\ninitial: 0\nto: \"{{ acc + item }}\"\n";
    const EXPRESSIONS: &'static [ExpressionKey] = &[ExpressionKey { key: "to", roots: &["acc", "item", "index"] }];
    type Output = Value;

    fn effect(_with: &Value) -> Effect {
        Effect::Pure
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let mut acc = self.initial;
        let mut rows = self.items.read(ctx);
        while let Some((index, item)) = rows.next().await? {
            acc = eval_row(ctx, "to", index, &[("acc", acc), ("item", item), ("index", index_value(index))])?;
        }
        Ok(Outcome::Done(acc))
    }
}
