//! `data.sort`: puts a list in order.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::expressions::eval_item;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::NumberError;
use crate::model::Value;
use crate::model::compare;
use crate::node::ExpressionKey;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::Rows;
use crate::node::StepContext;

/// Sorts a list by an expression over its items.
///
/// Equal items keep their order, also when descending. Numbers sort by value, strings by code point; several keys are
/// given as a list, e.g. `"{{ [item.sector, item.symbol] }}"`. Keys that do not compare (a string and a number, money of
/// two currencies) are an error.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DataSort {
    /// The list.
    items: Rows,
    /// What to sort by, over `item` and `index`, e.g. `"{{ item.price }}"`.
    #[serde(rename = "by")]
    _by: String,
    /// Whether the greatest comes first.
    #[serde(default)]
    descending: bool,
}

#[async_trait]
impl NodeType for DataSort {
    const NAME: &'static str = "data.sort";
    const EXAMPLE: &'static str =
        "items: [{ price: 9.99 }, { price: 10 }]\nby: \"{{ item.price }}\"\ndescending: true\n";
    const EXPRESSIONS: &'static [ExpressionKey] = &[ExpressionKey { key: "by", roots: &["item", "index"] }];
    type Output = Vec<Value>;

    fn effect(_with: &Value) -> Effect {
        Effect::Pure
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let mut keyed = Vec::with_capacity(self.items.len());
        let mut rows = self.items.read(ctx);
        while let Some((index, item)) = rows.next().await? {
            keyed.push((eval_item(ctx, "by", index, &item)?, item));
        }
        let sorted =
            sorted(keyed, self.descending).map_err(|error| NodeError::new(ErrorClass::Invalid, error).at("`by`"))?;
        Ok(Outcome::Done(Value::list(sorted.into_iter().map(|(_, item)| item).collect())))
    }
}

/// Sorts stably by merging. The standard sort may panic where keys do not compare, and cannot stop at the first fault.
fn sorted(mut items: Vec<(Value, Value)>, descending: bool) -> Result<Vec<(Value, Value)>, NumberError> {
    if items.len() < 2 {
        return Ok(items);
    }
    let right = items.split_off(items.len() / 2);
    let mut left = sorted(items, descending)?.into_iter().peekable();
    let mut right = sorted(right, descending)?.into_iter().peekable();
    let mut merged = Vec::with_capacity(left.len() + right.len());
    while let (Some((first, _)), Some((second, _))) = (left.peek(), right.peek()) {
        let order = compare(first, second)?;
        let order = if descending { order.reverse() } else { order };
        merged.extend(if order.is_gt() { right.next() } else { left.next() });
    }
    merged.extend(left);
    merged.extend(right);
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parse_json;

    fn check(keys: &str, descending: bool, expected: Option<&str>) {
        let keys = parse_json(keys).unwrap().as_list().unwrap().to_vec();
        let result = sorted(keys.into_iter().map(|key| (key.clone(), key)).collect(), descending);
        let shown = result.ok().map(|items| Value::list(items.into_iter().map(|(_, item)| item).collect()).to_string());
        assert_eq!(shown.as_deref(), expected);
    }

    #[test]
    fn sorting_is_stable_exact_and_refuses_what_does_not_compare() {
        check("[3, 1.50, 2, 1.5]", false, Some("[1.50,1.5,2,3]"));
        check("[1.50, 3, 1.5]", true, Some("[3,1.50,1.5]"));
        check("[[1,\"b\"],[1,\"a\"]]", false, Some("[[1,\"a\"],[1,\"b\"]]"));
        check("[1, \"a\"]", false, None);
        check("[]", false, Some("[]"));
    }
}
