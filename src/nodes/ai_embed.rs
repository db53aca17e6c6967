//! `ai.embed`: has a model make vectors of texts.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::asking;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;
use crate::node::Wanted;

/// The operation of a connector that makes vectors.
const EMBED: &str = "embed";

/// Has a model make a vector of numbers of each text: texts that mean the like have vectors that point the same way.
///
/// It costs money: the intent is durable before it asks. After a crash it is asked
/// again, and what was asked before stays counted as spent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AiEmbed {
    /// The connection; its connector has an operation `embed`.
    connection: String,
    /// The model; by default the one that the connection names for it.
    #[serde(default)]
    model: Option<String>,
    /// The texts, none of them empty.
    #[schemars(length(min = 1))]
    texts: Vec<String>,
    /// How many numbers a vector has, where the model can make shorter ones.
    #[serde(default)]
    #[schemars(range(min = 1))]
    dimensions: Option<u32>,
}

/// Vectors.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Embedded {
    /// In the order of the texts.
    vectors: Vec<Vec<f64>>,
    /// The model that made them: vectors of different ones cannot be compared.
    model: Option<String>,
    /// Tokens: `input`, `total`.
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    usage: Value,
    /// What it cost; null where a price is not known.
    cost: Value,
}

#[async_trait]
impl NodeType for AiEmbed {
    const NAME: &'static str = "ai.embed";
    const EXAMPLE: &'static str =
        "connection: openai\nmodel: text-embedding-3-small\ntexts: [ release notes, fast import ]\ndimensions: 256\n";
    type Output = Embedded;

    fn effect(_with: &Value) -> Effect {
        Effect::PaidRead
    }

    fn calls(with: &Value) -> Vec<Wanted> {
        asking::wanted(with, EMBED)
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let node = ctx.called(&self.connection, EMBED)?;
        let count = self.texts.len();
        let texts = self.texts.into_iter().map(Value::from).collect();
        let mut input = vec![("connection", Value::from(self.connection.as_str())), ("texts", Value::list(texts))];
        input.extend(self.model.map(|model| ("model", model.into())));
        input.extend(self.dimensions.map(|dimensions| ("dimensions", Value::Int(dimensions.into()))));
        let outcome = node.run(Value::map(input), &ctx.calling(&**node)).await?;
        let Outcome::Done(answer) = outcome else { return Ok(outcome) };
        let of = |key: &str| answer.get(key).cloned().unwrap_or_default();
        let vectors = of("vectors");
        let came = vectors.as_list().map_or(0, <[Value]>::len);
        if came != count {
            let message = format!("{came} vectors came for {count} texts");
            return Err(NodeError::message(ErrorClass::Unavailable, message));
        }
        Ok(Outcome::Done(Value::map([
            ("vectors", vectors),
            ("model", of("model")),
            ("usage", of("usage")),
            ("cost", asking::price(&answer, &self.connection, ctx)),
        ])))
    }
}
