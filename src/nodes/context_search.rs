//! `context.search`: what was written before about something.

use async_trait::async_trait;
use rust_decimal::Decimal;
use rust_decimal::prelude::FromPrimitive;
use schemars::JsonSchema;
use serde::Deserialize;

use super::generations::Remembered;
use super::generations::remembered;
use super::generations::rows;
use super::moments;
use crate::memory;
use crate::memory::Memory;
use crate::memory::search::Query;
use crate::memory::search::search;
use crate::model::Effect;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;
use crate::store::GenerationFilter;

/// Finds what was generated or noted before and is most like a text, the best first.
///
/// Texts are compared by their words, rare ones counting more (BM25); in any language, without case and accents. With a
/// `vector` of the query, from `ai.embed` say, they are compared by meaning as well, each counting half: those that words have
/// found, and the thousand newest that have a vector of the same model.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ContextSearch {
    /// What is looked for, e.g. `green tea in the morning`.
    query: String,
    /// Only of this topic.
    #[serde(default)]
    topic: Option<String>,
    /// Only what has all of these tags.
    #[serde(default)]
    tags: Vec<String>,
    /// Only of these kinds, e.g. `[generate, note]`.
    #[serde(default)]
    kinds: Vec<String>,
    /// Only what was kept since this moment, or for so long, e.g. `30d`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    since: Value,
    /// A vector of the query.
    #[serde(default)]
    vector: Option<Vec<f32>>,
    /// The model that made the vector.
    #[serde(default)]
    model: Option<String>,
    /// How many at most.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 100))]
    limit: u32,
}

/// What was found.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Hits {
    items: Vec<Hit>,
    /// The number of items.
    count: u64,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
struct Hit {
    #[schemars(flatten)]
    remembered: Remembered,
    /// How much it is like the query, only for comparing what was found together.
    #[schemars(with = "String")]
    score: Value,
}

fn five() -> u32 {
    5
}

#[async_trait]
impl NodeType for ContextSearch {
    const NAME: &'static str = "context.search";
    const EXAMPLE: &'static str = "query: light oolong\nlimit: 3\n";
    type Output = Hits;

    fn effect(_with: &Value) -> Effect {
        Effect::Read
    }

    fn check(with: &Value) -> Vec<(Option<String>, String)> {
        if with.get("vector").is_none() || with.get("model").is_some() {
            return Vec::new();
        }
        vec![(Some("vector".to_owned()), "say the `model` that made the vector".to_owned())]
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let vector = match (self.vector, self.model) {
            (Some(vector), Some(model)) => Some((model, vector)),
            (Some(_), None) => return Err(NodeError::invalid("say the `model` that made the vector")),
            (None, _) => None,
        };
        let query = Query {
            text: self.query,
            vector,
            filter: GenerationFilter {
                kinds: self.kinds,
                topic: self.topic,
                tags: self.tags,
                since: moments::since(&self.since, "since", ctx.system.clock.now())?,
                ..GenerationFilter::default()
            },
            limit: usize::try_from(self.limit.clamp(1, 100)).unwrap_or(100),
        };
        let found = search(Memory::of_step(ctx)?.store(), &query).await.map_err(memory::failed)?;
        let items = found.into_iter().map(|found| {
            let score = Decimal::from_f64(found.score).unwrap_or_default().round_dp(4).normalize();
            let mut fields = remembered(found.generation);
            fields.push(("score".into(), Value::Decimal(score)));
            Value::map(fields)
        });
        Ok(Outcome::Done(rows("items", items.collect())))
    }
}
