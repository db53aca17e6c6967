//! `file.write`: writes a file of the project.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::files;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::Repeat;
use crate::model::Settlement;
use crate::model::Value;
use crate::model::WriteKind;
use crate::node::Change;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::Prediction;
use crate::node::StepContext;

/// Writes a file, whole or not at all.
///
/// The content is written beside the file, made durable, and renamed over it: a reader sees the old file or the new one,
/// also after a crash. Folders on the way are made. Only inside the project, as `file.read`. Writing the same again does
/// no harm, so a write whose end was lost is repeated.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FileWrite {
    /// The file, e.g. `out/report.md`.
    path: String,
    /// The content: a string as it is, anything else as JSON.
    content: Value,
}

/// A file that was written.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Written {
    /// The path as it was given.
    path: String,
    /// The length in bytes.
    size: u64,
}

#[async_trait]
impl NodeType for FileWrite {
    const NAME: &'static str = "file.write";
    const EXAMPLE: &'static str = "path: out/report.md\ncontent: \"# Report\\n\"\n";
    type Output = Written;

    fn effect(_with: &Value) -> Effect {
        Effect::Write(WriteKind::Upsert)
    }

    fn settlement(&self) -> Settlement {
        Settlement { repeat: Repeat::Always, reconcile: false, settle: Duration::ZERO, ..Settlement::default() }
    }

    async fn predict(self, ctx: &StepContext<'_>) -> Result<Prediction, NodeError> {
        let old = files::preview(ctx, &self.path).await?;
        let content = self.content.to_text();
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let output = Value::map([("path", Value::from(self.path)), ("size", size.into())]);
        let exists = Some(!old.is_null());
        let new = if self.content.is_tainted() { Value::from(content).tainted() } else { Value::from(content) };
        let changes = if old == new { Vec::new() } else { vec![Change { field: "content".into(), old, new }] };
        Ok(Prediction { output: Some(output), changes, exists, ..Prediction::default() })
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        // The file is what goes out: secrets in the content are meant to be in it.
        let content = self.content.to_text().into_bytes();
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        files::write(ctx, &self.path, content).await?;
        Ok(Outcome::Done(Value::map([("path", Value::from(self.path)), ("size", size.into())])))
    }
}
