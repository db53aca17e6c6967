//! `file.delete`: removes a file of the project.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::files;
use crate::model::Effect;
use crate::model::Repeat;
use crate::model::Settlement;
use crate::model::Value;
use crate::model::WriteKind;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::Prediction;
use crate::node::StepContext;

/// Removes a file; one that is not there is no error.
///
/// The usual undo of `file.write`. Only inside the project, as `file.read`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FileDelete {
    /// The file, e.g. `out/report.md`.
    path: String,
}

/// What became of it.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Deleted {
    /// The path as it was given.
    path: String,
    /// Whether there was such a file.
    existed: bool,
}

#[async_trait]
impl NodeType for FileDelete {
    const NAME: &'static str = "file.delete";
    const EXAMPLE: &'static str = "path: out/old-report.md\n";
    type Output = Deleted;

    fn effect(_with: &Value) -> Effect {
        Effect::Write(WriteKind::Delete)
    }

    fn settlement(&self) -> Settlement {
        Settlement { repeat: Repeat::Always, ..Settlement::default() }
    }

    async fn predict(self, ctx: &StepContext<'_>) -> Result<Prediction, NodeError> {
        let exists = !files::preview(ctx, &self.path).await?.is_null();
        let output = Value::map([("path", Value::from(self.path)), ("existed", exists.into())]);
        Ok(Prediction { output: Some(output), exists: Some(exists), ..Prediction::default() })
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let existed = files::delete(ctx, &self.path).await?;
        Ok(Outcome::Done(Value::map([("path", Value::from(self.path)), ("existed", existed.into())])))
    }
}
