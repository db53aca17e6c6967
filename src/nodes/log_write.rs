//! `log.write`: writes a line into the run's log.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::Effect;
use crate::model::Value;
use crate::node::LogLevel;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;

/// Writes a line into the run's log.
///
/// `pipewright runs logs ID` shows it. Secrets in it are masked. The output is the line.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogWrite {
    /// The line; what is not a string is written as JSON.
    message: Value,
    /// How loud it is.
    #[serde(default = "default_level")]
    level: LogLevel,
}

fn default_level() -> LogLevel {
    LogLevel::Info
}

#[async_trait]
impl NodeType for LogWrite {
    const NAME: &'static str = "log.write";
    const EXAMPLE: &'static str = "message: \"{{ 3 }} orders\"\nlevel: info\n";
    type Output = String;

    fn effect(_with: &Value) -> Effect {
        Effect::Pure
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let line = match &self.message {
            Value::String(text) => text.to_string(),
            // Shown by `Display`, which masks secrets; `to_text` would lay them open.
            other => other.to_string(),
        };
        ctx.log.log(self.level, &line);
        Ok(Outcome::Done(Value::from(line)))
    }
}
