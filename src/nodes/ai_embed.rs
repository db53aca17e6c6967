//! `ai.embed`: has a model make vectors of texts.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::asking;
use crate::ai::conversation;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Value;
use crate::node::LogLevel;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::Prediction;
use crate::node::StepContext;
use crate::node::Wanted;

/// The operation of a connector that makes vectors.
const EMBED: &str = "embed";

/// Has a model make a vector of numbers of each text: texts that mean the like have vectors that point the same way.
///
/// More texts than the provider takes at once go in several requests. It costs money: the intent is durable before it asks.
/// After a crash what was asked counts as spent, and it is asked again only where the step says `in_doubt: resend`.
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
        let mut vectors = Vec::with_capacity(self.texts.len());
        let (mut model, mut usage, mut cost) = (Value::Null, Value::Null, Value::Null);
        for (number, texts) in self.texts.chunks(most_at_once(&node.input_schema())).enumerate() {
            let answer = match node.run(self.input(texts), &ctx.calling(&**node)).await? {
                Outcome::Done(answer) => answer,
                // What was answered is paid for: to begin again would pay for it again.
                Outcome::Later { until, reason } if number > 0 => {
                    ctx.log.log(LogLevel::Info, &format!("waits until {until} with the next texts: {reason}"));
                    ctx.system.clock.sleep_until(until).await;
                    match node.run(self.input(texts), &ctx.calling(&**node)).await? {
                        Outcome::Done(answer) => answer,
                        other => return Ok(other),
                    }
                }
                other => return Ok(other),
            };
            let of = |key: &str| answer.get(key).cloned().unwrap_or_default();
            let came = of("vectors").as_list().unwrap_or_default().to_vec();
            if came.len() != texts.len() {
                let message = format!("{} vectors came for {} texts", came.len(), texts.len());
                return Err(NodeError::message(ErrorClass::Unavailable, message));
            }
            vectors.extend(came);
            model = of("model");
            usage = conversation::usage(&usage, &of("usage"));
            let price = asking::price(&answer, &self.connection, ctx);
            cost = if number == 0 { price } else { asking::sum(&cost, &price) };
        }
        Ok(Outcome::Done(Value::map([
            ("vectors", Value::list(vectors)),
            ("model", model),
            ("usage", usage),
            ("cost", cost),
        ])))
    }

    async fn predict(self, ctx: &StepContext<'_>) -> Result<Prediction, NodeError> {
        let node = ctx.called(&self.connection, EMBED)?;
        let mut whole = Prediction::default();
        for texts in self.texts.chunks(most_at_once(&node.input_schema())) {
            let part = node.predict(self.input(texts), &ctx.calling(&**node)).await?;
            whole.connection = part.connection;
            part.costs.into_iter().for_each(|cost| whole.add(cost));
        }
        Ok(whole)
    }
}

impl AiEmbed {
    /// Makes the input of the operation for some of the texts.
    fn input(&self, texts: &[String]) -> Value {
        let texts = texts.iter().map(|text| Value::from(text.as_str())).collect();
        let mut input = vec![("connection", Value::from(self.connection.as_str())), ("texts", Value::list(texts))];
        input.extend(self.model.as_deref().map(|model| ("model", model.into())));
        input.extend(self.dimensions.map(|dimensions| ("dimensions", Value::Int(dimensions.into()))));
        Value::map(input)
    }
}

/// Returns how many texts the operation takes in one request; all where it does not say.
fn most_at_once(schema: &serde_json::Value) -> usize {
    let most = schema.pointer("/properties/texts/maxItems").and_then(serde_json::Value::as_u64);
    most.and_then(|most| usize::try_from(most).ok()).filter(|most| *most > 0).unwrap_or(usize::MAX)
}
