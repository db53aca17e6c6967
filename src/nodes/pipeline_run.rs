//! `pipeline.run`: runs another pipeline as a step.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::Effect;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;

/// Runs another pipeline of the project and gives back its outputs.
///
/// The child is a run of its own with a journal of its own; it ends before the step does, and its undo runs with the
/// parent's. A pipeline that ends up calling itself is an error of `pipewright validate`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PipelineRun {
    /// The child's name; literal, so that the version that runs is known beforehand.
    pipeline: String,
    /// The child's inputs, checked as those of any run.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    inputs: Value,
}

#[async_trait]
impl NodeType for PipelineRun {
    const NAME: &'static str = "pipeline.run";
    const EXAMPLE: &'static str = "pipeline: invoice\ninputs: { customer: ACME, net: \"100.00 EUR\" }\n";
    const LITERALS: &'static [&'static str] = &["pipeline"];
    type Output = Value;

    /// Reads: what the child writes goes through the child's own ledger.
    fn effect(_with: &Value) -> Effect {
        Effect::Read
    }

    async fn run(self, _ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let inputs = if self.inputs.is_null() { Value::map::<&str>([]) } else { self.inputs };
        Ok(Outcome::Child { pipeline: self.pipeline, inputs })
    }
}
