//! `context.recent`: what was written lately.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::generations::Remembered;
use super::generations::remembered;
use super::generations::rows;
use super::moments;
use crate::memory;
use crate::memory::Memory;
use crate::model::Effect;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;
use crate::store::GenerationFilter;

/// Returns what was generated or noted lately, the newest first.
///
/// It reads the project's memory: what earlier runs, and earlier steps of this one, have kept there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ContextRecent {
    /// Only of this topic.
    #[serde(default)]
    topic: Option<String>,
    /// Only what has all of these tags.
    #[serde(default)]
    tags: Vec<String>,
    /// Only of these kinds, e.g. `[generate, note]`.
    #[serde(default)]
    kinds: Vec<String>,
    /// Only what runs of this pipeline have kept.
    #[serde(default)]
    pipeline: Option<String>,
    /// Only what was kept since this moment, or for so long, e.g. `30d`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    since: Value,
    /// How many at most.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1000))]
    limit: u32,
}

/// What was kept lately.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Recent {
    items: Vec<Remembered>,
    /// The number of items.
    count: u64,
}

fn ten() -> u32 {
    10
}

#[async_trait]
impl NodeType for ContextRecent {
    const NAME: &'static str = "context.recent";
    const EXAMPLE: &'static str = "topic: tea\nsince: 30d\nlimit: 5\n";
    type Output = Recent;

    fn effect(_with: &Value) -> Effect {
        Effect::Read
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let filter = GenerationFilter {
            kinds: self.kinds,
            topic: self.topic,
            pipeline: self.pipeline,
            tags: self.tags,
            since: moments::since(&self.since, "since", ctx.system.clock.now())?,
            limit: Some(self.limit.clamp(1, 1_000)),
            id_prefix: None,
        };
        let found = Memory::of_step(ctx)?.store().generations(&filter).await.map_err(memory::failed)?;
        let items = found.into_iter().map(|record| Value::map(remembered(record)));
        Ok(Outcome::Done(rows("items", items.collect())))
    }
}
