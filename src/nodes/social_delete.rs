//! `social.delete`: deletes a post wherever its connection leads.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::social;
use crate::model::Effect;
use crate::model::Value;
use crate::node::Misfit;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;
use crate::node::Surroundings;
use crate::node::Wanted;

/// The operation of a connector that deletes.
const DELETE: &str = "delete";

/// Deletes a post, by the operation `delete` of the connection's connector. One that is gone already is no error.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SocialDelete {
    /// The connection to the platform; its connector has an operation `delete`.
    connection: String,
    /// The platform's id of the post.
    id: String,
}

/// That it is gone.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Deleted {
    /// Always true.
    deleted: bool,
}

#[async_trait]
impl NodeType for SocialDelete {
    const NAME: &'static str = "social.delete";
    const EXAMPLE: &'static str = "connection: x\nid: \"1889999999999999101\"\n";
    type Output = Deleted;

    /// Reads: what it writes goes through the ledger of its steps.
    fn effect(_with: &Value) -> Effect {
        Effect::Read
    }

    fn calls(with: &Value) -> Vec<Wanted> {
        social::wanted(with, DELETE)
    }

    fn expand(with: &Value, around: &dyn Surroundings) -> Result<Option<String>, Misfit> {
        let places = social::places(with, around, DELETE)?;
        let steps = social::steps(&places, "", "input", &[]);
        Ok(Some(json!({ "steps": steps, "output": { "deleted": true } }).to_string()))
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        ctx.called(&self.connection, DELETE)?;
        let input = Value::map([("connection", self.connection.into()), ("id", self.id.into())]);
        Ok(Outcome::Child { pipeline: Self::NAME.to_owned(), inputs: Value::map([("input", input)]) })
    }
}
