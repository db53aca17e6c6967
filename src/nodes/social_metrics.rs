//! `social.metrics`: measures how a post does, wherever its connection leads.

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

/// The operation of a connector that measures.
const METRICS: &str = "metrics";

/// Measures how a post does, by the operation `metrics` of the connection's connector: one set of figures for all platforms.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SocialMetrics {
    /// The connection to the platform; its connector has an operation `metrics`.
    connection: String,
    /// The platform's id of the post.
    id: String,
}

/// Figures of a post; null is unknown, and not nothing.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Metrics {
    /// How often it was shown.
    impressions: Option<u64>,
    /// How many people it was shown to.
    reach: Option<u64>,
    likes: Option<u64>,
    comments: Option<u64>,
    shares: Option<u64>,
    /// How often a link in it was opened.
    clicks: Option<u64>,
    /// How often it was kept for later.
    saves: Option<u64>,
    video_views: Option<u64>,
}

#[async_trait]
impl NodeType for SocialMetrics {
    const NAME: &'static str = "social.metrics";
    const EXAMPLE: &'static str = "connection: x\nid: \"1889999999999999101\"\n";
    type Output = Metrics;

    /// Reads: where the platform charges for it, its step is a paid one.
    fn effect(_with: &Value) -> Effect {
        Effect::Read
    }

    fn calls(with: &Value) -> Vec<Wanted> {
        social::wanted(with, METRICS)
    }

    fn expand(with: &Value, around: &dyn Surroundings) -> Result<Option<String>, Misfit> {
        let places = social::places(with, around, METRICS)?;
        let steps = social::steps(&places, "", "input", &[]);
        let output = format!("{{{{ {} }}}}", social::output(&places));
        Ok(Some(json!({ "steps": steps, "output": output }).to_string()))
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        ctx.called(&self.connection, METRICS)?;
        let input = Value::map([("connection", self.connection.into()), ("id", self.id.into())]);
        Ok(Outcome::Child { pipeline: Self::NAME.to_owned(), inputs: Value::map([("input", input)]) })
    }
}
