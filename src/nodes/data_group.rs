//! `data.group`: puts items that belong together into groups.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use indexmap::IndexMap;

use super::expressions::eval_item;
use super::keys::key_text;
use crate::model::Effect;
use crate::model::Value;
use crate::node::ExpressionKey;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::Rows;
use crate::node::StepContext;

/// Groups the items of a list by an expression.
///
/// The output is a list of `{ key, items }`, one for each key, in the order in which the keys first came. Keys are equal
/// by value: `1` and `1.00` are one group. Sum or count the groups with `data.map`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DataGroup {
    /// The list.
    items: Rows,
    /// What to group by, over `item` and `index`, e.g. `"{{ item.sector }}"`.
    #[serde(rename = "by")]
    _by: String,
}

/// The items with one key.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Group {
    /// What the expression gave for each of the items.
    key: Value,
    items: Vec<Value>,
}

#[async_trait]
impl NodeType for DataGroup {
    const NAME: &'static str = "data.group";
    const EXAMPLE: &'static str =
        "items: [{ sector: tech, symbol: A }, { sector: oil, symbol: B }]\nby: \"{{ item.sector }}\"\n";
    const EXPRESSIONS: &'static [ExpressionKey] = &[ExpressionKey { key: "by", roots: &["item", "index"] }];
    type Output = Vec<Group>;

    fn effect(_with: &Value) -> Effect {
        Effect::Pure
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let mut groups: IndexMap<String, (Value, Vec<Value>)> = IndexMap::new();
        let mut rows = self.items.read(ctx);
        while let Some((index, item)) = rows.next().await? {
            let key = eval_item(ctx, "by", index, &item)?;
            groups.entry(key_text(&key)).or_insert_with(|| (key, Vec::new())).1.push(item);
        }
        let groups = groups.into_values().map(|(key, items)| Value::map([("key", key), ("items", Value::list(items))]));
        Ok(Outcome::Done(Value::list(groups.collect())))
    }
}
