//! `assert.that`: stops a run that is about to go wrong.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;

/// Fails the step unless a condition holds.
///
/// The error has the class `rejected`, so it is not retried by default. Steps that must not happen when the condition
/// is false say `needs: [the assertion]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AssertThat {
    /// The condition, e.g. `"{{ steps.plan.output.balanced }}"`. Null, false, zero and what is empty count as false.
    that: Value,
    /// What the error says when the condition does not hold.
    #[serde(default = "default_message")]
    message: String,
}

fn default_message() -> String {
    "the assertion does not hold".to_owned()
}

#[async_trait]
impl NodeType for AssertThat {
    const NAME: &'static str = "assert.that";
    const EXAMPLE: &'static str = "that: \"{{ 0.1 + 0.2 == 0.3 }}\"\nmessage: arithmetic is exact\n";
    type Output = bool;

    fn effect(_with: &Value) -> Effect {
        Effect::Pure
    }

    async fn run(self, _ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        if self.that.is_truthy() {
            return Ok(Outcome::Done(Value::Bool(true)));
        }
        Err(NodeError::message(ErrorClass::Rejected, self.message))
    }
}
