//! `context.store`: keeps a text so that later runs find it.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::memory;
use crate::memory::Memory;
use crate::model::Duration;
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
use crate::store::GenerationRecord;
use crate::store::generation_id;

/// Keeps a text in the project's memory, where `context.recent` and `context.search` find it.
///
/// What `ai.generate` makes is kept by itself; this is for notes and for what comes from elsewhere. A step run keeps one text:
/// performed again, it keeps the same once more, under the same id. How long it is kept is `retention.generations` of the
/// project file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ContextStore {
    /// The text. A secret is refused: it could be found.
    #[schemars(with = "String")]
    text: Value,
    /// What the text means, where it has structure.
    #[serde(default)]
    value: Value,
    /// What it is about.
    #[serde(default)]
    topic: Option<String>,
    #[serde(default)]
    /// Words to find it by.
    tags: Vec<String>,
    /// What it is, e.g. `note`.
    #[serde(default = "note")]
    kind: String,
    /// A vector of the text, from `ai.embed` say; it is found by its likeness then, too.
    #[serde(default)]
    vector: Option<Vec<f32>>,
    /// The model that made the vector; only vectors of one model are compared.
    #[serde(default)]
    model: Option<String>,
}

/// A text that was kept.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Stored {
    id: String,
}

fn note() -> String {
    "note".to_owned()
}

#[async_trait]
impl NodeType for ContextStore {
    const NAME: &'static str = "context.store";
    const EXAMPLE: &'static str = "text: Our new oolong is light and sweet.\ntopic: tea\ntags: [product]\n";
    type Output = Stored;

    fn effect(_with: &Value) -> Effect {
        Effect::Write(WriteKind::Upsert)
    }

    fn check(with: &Value) -> Vec<(Option<String>, String)> {
        if with.get("vector").is_none() || with.get("model").is_some() {
            return Vec::new();
        }
        vec![(Some("vector".to_owned()), "say the `model` that made the vector".to_owned())]
    }

    fn settlement(&self) -> Settlement {
        Settlement { repeat: Repeat::Always, reconcile: false, settle: Duration::ZERO, ..Settlement::default() }
    }

    async fn predict(self, ctx: &StepContext<'_>) -> Result<Prediction, NodeError> {
        let output = Value::map([("id", Value::from(generation_id(ctx.run, ctx.path, "")))]);
        Ok(Prediction { output: Some(output), ..Prediction::default() })
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        if self.text.is_tainted() {
            return Err(NodeError::invalid("`text` is secret, and what is kept can be found"));
        }
        let vector = match (self.vector, &self.model) {
            (Some(vector), Some(model)) => Some((model.clone(), vector)),
            (Some(_), None) => return Err(NodeError::invalid("say the `model` that made the vector")),
            (None, _) => None,
        };
        let store = Memory::of_step(ctx)?.changing()?;
        let id = generation_id(ctx.run, ctx.path, "");
        let record = GenerationRecord {
            id: id.clone(),
            at: ctx.system.clock.now(),
            run: ctx.run,
            path: ctx.path.clone(),
            part: String::new(),
            pipeline: memory::pipeline_of(store, ctx.run).await.map_err(memory::failed)?.into(),
            kind: self.kind,
            topic: self.topic,
            connection: None,
            model: self.model,
            prompt: None,
            prompt_version: None,
            inputs: Value::Null,
            output: self.text.to_text(),
            value: self.value,
            usage: Value::Null,
            cost: None,
            unit: None,
            tags: self.tags,
        };
        memory::keep(store, &record, vector).await.map_err(memory::failed)?;
        Ok(Outcome::Done(Value::map([("id", Value::from(id))])))
    }
}
