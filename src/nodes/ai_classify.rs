//! `ai.classify`: has a model choose among labels.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::asking;
use super::asking::Fallback;
use super::asking::On;
use super::asking::Record;
use super::asking::Turn;
use crate::ai::conversation;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Map;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::Prediction;
use crate::node::StepContext;
use crate::node::Wanted;

/// The most labels there may be.
const MOST_LABELS: usize = 200;

/// Has a model choose the label, or the labels, that fit a text.
///
/// Only labels that were given come out: the answer is bound by a schema, and mended where it does not fit. It costs money: see
/// `ai.generate`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AiClassify {
    /// The connection that is asked; its connector has an operation `chat`.
    connection: String,
    /// The model; by default the one that the connection names.
    #[serde(default)]
    model: Option<String>,
    /// Connections that are asked, in this order, where the one before cannot answer.
    #[serde(default)]
    fallback: Vec<Fallback>,
    /// The classes of errors after which the next one is asked.
    #[serde(default = "asking::usual")]
    fallback_on: Vec<On>,
    /// What is to be classified.
    text: Value,
    /// By label what it stands for; empty where the label says it itself.
    #[schemars(with = "std::collections::BTreeMap<String, String>", extend("minProperties" = 2))]
    labels: Value,
    /// Whether several labels may fit, or none.
    #[serde(default)]
    several: bool,
    /// What the model is told beside, e.g. whose texts they are.
    #[serde(default)]
    system: Option<String>,
    /// How often the model may mend an answer that does not fit.
    #[serde(default = "asking::two")]
    #[schemars(range(max = 10))]
    repairs: u32,
    /// The longest answer, in tokens, thoughts included.
    #[serde(default)]
    max_tokens: Option<u64>,
}

/// What a model has chosen.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Classified {
    /// The label that fits best; null where none does.
    label: Option<String>,
    /// All that fit, the best first.
    labels: Vec<String>,
    /// Why, in a sentence.
    why: String,
    /// The connection that has answered.
    connection: String,
    /// The model that has answered.
    model: Option<String>,
    /// Tokens: `input`, `output` and the like.
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    usage: Value,
    /// What it cost; null where a price is not known.
    cost: Value,
}

#[async_trait]
impl NodeType for AiClassify {
    const NAME: &'static str = "ai.classify";
    const EXAMPLE: &'static str = "connection: openai
model: gpt-6-luna
text: The import has been failing since this morning!
labels: { praise: somebody is pleased, complaint: something does not work, question: somebody wants to know }
";
    type Output = Classified;

    fn effect(_with: &Value) -> Effect {
        Effect::PaidRead
    }

    fn calls(with: &Value) -> Vec<Wanted> {
        asking::wanted(with, asking::CHAT)
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let several = self.several;
        let outcome = asking::take(self.turn()?, ctx).await?;
        let Outcome::Done(turned) = outcome else { return Ok(outcome) };
        let of = |key: &str| turned.get(key).cloned().unwrap_or_default();
        let value = of("value");
        let labels = if several {
            value.get("labels").cloned().unwrap_or_default()
        } else {
            Value::list(vec![value.get("label").cloned().unwrap_or_default()])
        };
        let best = labels.as_list().and_then(|labels| labels.first()).cloned().unwrap_or_default();
        Ok(Outcome::Done(Value::map([
            ("label", best),
            ("labels", labels),
            ("why", value.get("why").cloned().unwrap_or_default()),
            ("connection", of("connection")),
            ("model", of("model")),
            ("usage", of("usage")),
            ("cost", of("cost")),
        ])))
    }

    async fn predict(self, ctx: &StepContext<'_>) -> Result<Prediction, NodeError> {
        asking::predict(&self.turn()?, ctx).await
    }
}

impl AiClassify {
    fn turn(self) -> Result<Turn, NodeError> {
        let labels = self.labels.as_map().ok_or_else(|| NodeError::invalid("`labels` is an object"))?;
        if !(2..=MOST_LABELS).contains(&labels.len()) {
            let message = format!("there are {} labels, and 2 to {MOST_LABELS} can be chosen from", labels.len());
            return Err(NodeError::message(ErrorClass::Invalid, message));
        }
        let names: Vec<&str> = labels.keys().map(|name| &**name).collect();
        let listed: Vec<String> = labels.iter().map(|(name, what)| format!("- {name}: {}", what.to_text())).collect();
        let task = if self.several {
            "Choose all labels that fit the text, the best first; none where none fits."
        } else {
            "Choose the one label that fits the text best."
        };
        let own = self.system.map(|system| format!("{system}\n\n")).unwrap_or_default();
        let system = format!("{own}{task} Say in one sentence why.\nLabels:\n{}", listed.join("\n"));
        let (key, chosen) = if self.several {
            ("labels", json!({ "type": "array", "items": { "enum": names }, "uniqueItems": true }))
        } else {
            ("label", json!({ "enum": names }))
        };
        let schema = json!({
            "type": "object",
            "properties": { "why": { "type": "string" }, key: chosen },
            "required": ["why", key],
            "additionalProperties": false,
        });
        let mut settings = Map::new();
        settings.insert("system".into(), system.into());
        settings.insert("schema_name".into(), "classification".into());
        if let Some(most) = self.max_tokens {
            settings.insert("max_tokens".into(), most.into());
        }
        let first = Fallback { connection: self.connection, model: self.model };
        Ok(Turn {
            chain: std::iter::once(first).chain(self.fallback).collect(),
            on: self.fallback_on.into_iter().map(On::class).collect(),
            settings,
            messages: vec![conversation::message("user", self.text.to_text())],
            schema: Some(schema),
            repairs: self.repairs,
            usage: Value::Null,
            cost: Value::Null,
            turns: 0,
            record: Record::of("classify"),
        })
    }
}
