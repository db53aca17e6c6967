//! `data.filter`: keeps some items of a list.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::expressions::eval_item;
use crate::model::Effect;
use crate::model::Value;
use crate::node::ExpressionKey;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::Rows;
use crate::node::StepContext;

/// Keeps the items of a list for which a condition holds, in their order.
///
/// The expression sees the item as `item` and its number, from 0, as `index`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DataFilter {
    /// The list.
    items: Rows,
    /// The condition, e.g. `"{{ item.price > 10 }}"`.
    #[serde(rename = "where")]
    _where: String,
}

#[async_trait]
impl NodeType for DataFilter {
    const NAME: &'static str = "data.filter";
    const EXAMPLE: &'static str = "items: [{ price: 9.99 }, { price: 10.01 }]\nwhere: \"{{ item.price > 10 }}\"\n";
    const EXPRESSIONS: &'static [ExpressionKey] = &[ExpressionKey { key: "where", roots: &["item", "index"] }];
    type Output = Vec<Value>;

    fn effect(_with: &Value) -> Effect {
        Effect::Pure
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let mut kept = Vec::new();
        let mut rows = self.items.read(ctx);
        while let Some((index, item)) = rows.next().await? {
            if eval_item(ctx, "where", index, &item)?.is_truthy() {
                kept.push(item);
            }
        }
        Ok(Outcome::Done(Value::list(kept)))
    }
}
