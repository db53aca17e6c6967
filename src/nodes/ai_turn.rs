//! `ai.turn`: one turn of a conversation with a model.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::asking;
use super::asking::Fallback;
use super::asking::On;
use super::asking::Record;
use super::asking::Turn;
use crate::model::Effect;
use crate::model::Map;
use crate::model::Value;
use crate::model::decode;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::Prediction;
use crate::node::StepContext;
use crate::node::Wanted;

/// Takes one turn of a conversation: a model answers, or says which tools it wants to be called.
///
/// This is what `ai.generate` is made of where it has tools; use it where a pipeline calls the tools by itself. It costs money:
/// the intent is durable before it asks. After a crash what was asked counts as spent, and it is asked again only where the
/// step says `in_doubt: resend`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AiTurn {
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
    /// What the model is told before all else.
    #[serde(default)]
    system: Option<String>,
    /// `{ role, content }` each, the oldest first; `messages` of an earlier turn go back as they are.
    #[serde(default)]
    messages: Vec<Value>,
    /// The turn whose calls were made: its output. Its messages come first, then what came of the calls.
    #[serde(default)]
    after: Value,
    /// By tool what its calls gave, in the order of `after.tool_calls`; null of one that failed.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    outcomes: Value,
    /// By tool why a call failed: `{ class, message }`.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    failures: Value,
    /// `{ name, description, parameters }` each, the last one a JSON Schema.
    #[serde(default)]
    tools: Vec<Value>,
    /// `auto`, `none`, `required` or `{ name }`.
    #[serde(default)]
    tool_choice: Value,
    /// A JSON Schema that the answer must fit.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    schema: Value,
    /// What the schema is called.
    #[serde(default)]
    schema_name: Option<String>,
    /// How often the model may mend an answer that does not fit.
    #[serde(default = "asking::two")]
    #[schemars(range(max = 10))]
    repairs: u32,
    /// The longest answer, in tokens, thoughts included.
    #[serde(default)]
    max_tokens: Option<u64>,
    /// How much chance there is in the answer; some models refuse it.
    #[serde(default)]
    #[schemars(with = "rust_decimal::Decimal")]
    temperature: Value,
    /// The share of likely words that is drawn from.
    #[serde(default)]
    #[schemars(with = "rust_decimal::Decimal")]
    top_p: Value,
    /// Texts at which the answer ends.
    #[serde(default)]
    stop: Value,
    /// A number from which the chance in it is drawn, where the provider has that.
    #[serde(default)]
    seed: Option<i64>,
    /// How hard the model thinks, e.g. `low`.
    #[serde(default)]
    effort: Option<String>,
    /// Further settings of the provider, laid over the request as they are.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    extra: Value,
    /// How the answer is kept in the memory of content: `{ kind, topic, tags, prompt, prompt_version, inputs }`.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    record: Value,
}

/// What a turn gives.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Turned {
    /// Its id in the memory of content; null where it only wants tools.
    generation: Option<String>,
    /// What the model says; null where it only wants tools.
    text: Option<String>,
    /// The answer by its schema; null without one.
    value: Value,
    /// Why it ends: `end`, `length`, `tool_use`, `pause` or `other`.
    stop: String,
    /// `{ id, name, arguments }` each.
    tool_calls: Vec<Value>,
    /// The connection that has answered.
    connection: String,
    /// The model that has answered.
    model: Option<String>,
    /// Tokens of all turns: `input`, `cached`, `cache_write`, `output`, `reasoning`, `total`.
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    usage: Value,
    /// What all turns cost; null where a price is not known.
    cost: Value,
    /// How often an answer was mended.
    repairs: u32,
    /// How many turns there were.
    turns: u32,
    /// All messages, for the next turn.
    messages: Vec<Value>,
}

#[async_trait]
impl NodeType for AiTurn {
    const NAME: &'static str = "ai.turn";
    const EXAMPLE: &'static str = "connection: openai
model: gpt-6-luna
messages: [ { role: user, content: What is the weather in Oslo? } ]
tools: [ { name: weather, parameters: { type: object, properties: { city: { type: string } } } } ]
";
    type Output = Turned;

    fn effect(_with: &Value) -> Effect {
        Effect::PaidRead
    }

    fn calls(with: &Value) -> Vec<Wanted> {
        asking::wanted(with, asking::CHAT)
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        asking::take(self.turn(), ctx).await
    }

    async fn predict(self, ctx: &StepContext<'_>) -> Result<Prediction, NodeError> {
        asking::predict(&self.turn(), ctx).await
    }
}

impl AiTurn {
    fn turn(self) -> Turn {
        let mut settings = Map::new();
        let mut set = |key: &str, value: Value| {
            if !value.is_null() {
                settings.insert(key.into(), value);
            }
        };
        let text = |text: Option<String>| text.map_or(Value::Null, Value::from);
        set("system", text(self.system));
        if !self.tools.is_empty() {
            set("tools", Value::list(self.tools));
            set("tool_choice", self.tool_choice);
        }
        set("schema_name", text(self.schema_name));
        set("max_tokens", self.max_tokens.map_or(Value::Null, Value::from));
        set("temperature", self.temperature);
        set("top_p", self.top_p);
        set("stop", self.stop);
        set("seed", self.seed.map_or(Value::Null, |seed| Value::Int(seed.into())));
        set("effort", text(self.effort));
        set("extra", self.extra);
        let messages = if self.after.is_null() {
            self.messages
        } else {
            asking::continued(&self.after, &self.outcomes, &self.failures)
        };
        let before = |key: &str| self.after.get(key).cloned().unwrap_or_default();
        let turns = match before("turns") {
            Value::Int(turns) => turns,
            _ => 0,
        };
        let first = Fallback { connection: self.connection, model: self.model };
        Turn {
            chain: std::iter::once(first).chain(self.fallback).collect(),
            on: self.fallback_on.into_iter().map(On::class).collect(),
            settings,
            messages,
            schema: (!self.schema.is_null()).then(|| asking::to_json(&self.schema)),
            repairs: self.repairs,
            usage: before("usage"),
            cost: before("cost"),
            turns,
            record: match self.record {
                Value::Null => Record::of("turn"),
                record => decode(record).unwrap_or_else(|_| Record::of("turn")),
            },
        }
    }
}
