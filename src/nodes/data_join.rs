//! `data.join`: brings two lists together.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use std::collections::HashMap;
use std::collections::HashSet;

use super::expressions::eval_item;
use super::expressions::eval_row;
use super::keys::key_text;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Map;
use crate::model::Value;
use crate::node::ExpressionKey;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::Rows;
use crate::node::StepContext;

/// Joins two lists on equal keys, as SQL does.
///
/// Each key is an expression over `item`, an item of its own list. Two items with equal keys make one row: what `to` says
/// over `left` and `right`, else the keys of both objects (where both have one, the left stays). The rows come in the
/// order of the left list, then what is left over of the right. A key that is null matches nothing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DataJoin {
    /// The left list.
    left: Rows,
    /// The right list.
    right: Rows,
    /// The key of a left item, e.g. `"{{ item.symbol }}"`.
    #[serde(rename = "left_key")]
    _left_key: String,
    /// The key of a right item.
    #[serde(rename = "right_key")]
    _right_key: String,
    /// What becomes of items without a partner.
    #[serde(default)]
    keep: Keep,
    /// The row made of `left` and `right`; the side without a partner is null.
    #[serde(default, rename = "to")]
    _to: Option<String>,
    /// How many rows may come out; more are an error.
    #[serde(default = "default_max_rows")]
    max_rows: usize,
}

/// What becomes of items without a partner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Keep {
    /// They are dropped.
    #[default]
    None,
    /// Those of the left list are kept.
    Left,
    /// Those of the right list are kept.
    Right,
    /// Those of both lists are kept.
    Both,
}

fn default_max_rows() -> usize {
    1_000_000
}

#[async_trait]
impl NodeType for DataJoin {
    const NAME: &'static str = "data.join";
    const EXAMPLE: &'static str = "left: [{ symbol: A, quantity: 3 }]
right: [{ symbol: A, price: 19.99 }]
left_key: \"{{ item.symbol }}\"
right_key: \"{{ item.symbol }}\"
to: \"{{ { 'symbol': left.symbol, 'value': left.quantity * right.price } }}\"
";
    const EXPRESSIONS: &'static [ExpressionKey] = &[
        ExpressionKey { key: "left_key", roots: &["item", "index"] },
        ExpressionKey { key: "right_key", roots: &["item", "index"] },
        ExpressionKey { key: "to", roots: &["left", "right"] },
    ];
    type Output = Vec<Value>;

    fn effect(_with: &Value) -> Effect {
        Effect::Pure
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let mut by_key: HashMap<String, Vec<usize>> = HashMap::new();
        let mut rights = Vec::with_capacity(self.right.len());
        let mut reader = self.right.read(ctx);
        while let Some((index, item)) = reader.next().await? {
            let key = eval_item(ctx, "right_key", index, &item)?;
            rights.push(item);
            if !key.is_null() {
                by_key.entry(key_text(&key)).or_default().push(index);
            }
        }
        let mut rows = Joined { rows: Vec::new(), max_rows: self.max_rows };
        let mut met = HashSet::new();
        let mut lefts = self.left.read(ctx);
        while let Some((index, left)) = lefts.next().await? {
            let key = eval_item(ctx, "left_key", index, &left)?;
            let partners = if key.is_null() { None } else { by_key.get(&key_text(&key)) };
            for partner in partners.into_iter().flatten() {
                met.insert(*partner);
                rows.push(ctx, &left, rights.get(*partner).unwrap_or(&Value::Null))?;
            }
            if partners.is_none() && matches!(self.keep, Keep::Left | Keep::Both) {
                rows.push(ctx, &left, &Value::Null)?;
            }
        }
        if matches!(self.keep, Keep::Right | Keep::Both) {
            for (_, right) in rights.iter().enumerate().filter(|(index, _)| !met.contains(index)) {
                rows.push(ctx, &Value::Null, right)?;
            }
        }
        Ok(Outcome::Done(Value::list(rows.rows)))
    }
}

/// The rows made so far.
struct Joined {
    rows: Vec<Value>,
    max_rows: usize,
}

impl Joined {
    fn push(&mut self, ctx: &StepContext<'_>, left: &Value, right: &Value) -> Result<(), NodeError> {
        if self.rows.len() >= self.max_rows {
            let message = format!("the join has more than {} rows (`max_rows`)", self.max_rows);
            return Err(NodeError::message(ErrorClass::Exhausted, message));
        }
        let row = if ctx.has_expression("to") {
            eval_row(ctx, "to", self.rows.len(), &[("left", left.clone()), ("right", right.clone())])?
        } else {
            merged(left, right)?
        };
        self.rows.push(row);
        Ok(())
    }
}

fn merged(left: &Value, right: &Value) -> Result<Value, NodeError> {
    let mut row = Map::new();
    for side in [left, right] {
        match side {
            Value::Null => {}
            Value::Map(map) => {
                for (key, value) in map.iter() {
                    row.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            other => {
                let kind = other.kind().name();
                return Err(NodeError::invalid(format!("without `to` the items must be objects, found {kind}")));
            }
        }
    }
    Ok(row.into())
}
