//! `data.map`: makes a new list, an item at a time.

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

/// Computes a new value for every item of a list.
///
/// The expression sees the item as `item` and its number, from 0, as `index`. The output is the list of the results.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DataMap {
    /// The list.
    items: Rows,
    /// What an item becomes, e.g. `"{{ item.price * item.quantity }}"`.
    #[serde(rename = "to")]
    _to: String,
}

#[async_trait]
impl NodeType for DataMap {
    const NAME: &'static str = "data.map";
    const EXAMPLE: &'static str =
        "items: [{ price: 19.99, quantity: 3 }]\nto: \"{{ { 'total': item.price * item.quantity } }}\"\n";
    const EXPRESSIONS: &'static [ExpressionKey] = &[ExpressionKey { key: "to", roots: &["item", "index"] }];
    type Output = Vec<Value>;

    fn effect(_with: &Value) -> Effect {
        Effect::Pure
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let mut results = Vec::with_capacity(self.items.len());
        let mut rows = self.items.read(ctx);
        while let Some((index, item)) = rows.next().await? {
            results.push(eval_item(ctx, "to", index, &item)?);
        }
        Ok(Outcome::Done(Value::list(results)))
    }
}
