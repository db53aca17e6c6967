//! Evaluating a node's own expressions, a row at a time.

use crate::model::ErrorClass;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::StepContext;

/// How many rows are worked on before other tasks get their turn.
const ROWS_A_TURN: usize = 2_048;

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

/// Lets other tasks run now and then, and ends early when the step was canceled.
pub(super) async fn breathe(ctx: &StepContext<'_>, index: usize) -> Result<(), NodeError> {
    if index % ROWS_A_TURN == ROWS_A_TURN - 1 {
        tokio::task::yield_now().await;
        if ctx.canceled.is_cancelled() {
            return Err(NodeError::message(ErrorClass::Canceled, "canceled"));
        }
    }
    Ok(())
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
