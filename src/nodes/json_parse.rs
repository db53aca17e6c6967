//! `json.parse`: reads JSON text.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Value;
use crate::model::parse_json;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;

/// Reads a JSON text into a value; every number keeps its digits.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JsonParse {
    /// The JSON text.
    #[schemars(with = "String")]
    text: Value,
}

#[async_trait]
impl NodeType for JsonParse {
    const NAME: &'static str = "json.parse";
    const EXAMPLE: &'static str = "text: '{\"id\": 9007199254740993, \"price\": 1.10}'\n";
    type Output = Value;

    fn effect(_with: &Value) -> Effect {
        Effect::Pure
    }

    async fn run(self, _ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let secret = self.text.is_tainted();
        let Value::String(text) = self.text.revealed() else {
            return Err(NodeError::invalid(format!("`text` must be a string, found {}", self.text.kind().name())));
        };
        // serde_json quotes no content in its messages, only what it expected and where.
        let value =
            parse_json(&text).map_err(|error| NodeError::new(ErrorClass::Invalid, error).at("`text` is not JSON"))?;
        Ok(Outcome::Done(if secret { value.tainted() } else { value }))
    }
}
