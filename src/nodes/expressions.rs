//! Evaluating a node's own expressions, a row at a time.

use crate::model::ErrorClass;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::StepContext;

/// Evaluates the expression `key` for the row `index`.
pub(super) fn eval_row(
    ctx: &StepContext<'_>,
    key: &'static str,
    index: usize,
    locals: &[(&'static str, Value)],
) -> Result<Value, NodeError> {
    ctx.eval(key, locals)
        .map_err(|error| NodeError::new(ErrorClass::Invalid, error).at(format!("`{key}` of row {index}")))
}

/// Evaluates the expression `key` over one item of a list, as `item` and `index`.
pub(super) fn eval_item(
    ctx: &StepContext<'_>,
    key: &'static str,
    index: usize,
    item: &Value,
) -> Result<Value, NodeError> {
    eval_row(ctx, key, index, &[("item", item.clone()), ("index", index_value(index))])
}

pub(super) fn index_value(index: usize) -> Value {
    i64::try_from(index).map_or(Value::Null, Value::from)
}

impl NodeError {
    /// Says where it happened.
    pub(super) fn at(mut self, place: impl Into<String>) -> Self {
        self.cause = self.cause.context(place.into());
        self
    }
}
