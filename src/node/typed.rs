//! Built-in nodes: a struct whose fields are the keys of `with:`.

use std::fmt;
use std::marker::PhantomData;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::ExpressionKey;
use super::Misfit;
use super::Node;
use super::NodeError;
use super::Outcome;
use super::Prediction;
use super::Reconciled;
use super::StepContext;
use super::Surroundings;
use super::Wanted;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Settlement;
use crate::model::Value;
use crate::model::decode;

/// A built-in node. The struct's fields are the keys of `with:`, its doc comment is the node's documentation.
#[async_trait]
pub trait NodeType: DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// What `uses` says.
    const NAME: &'static str;
    /// A `with:` that works offline, as YAML; a test runs it.
    const EXAMPLE: &'static str;
    /// Keys whose text the node evaluates itself; such a field has the type `String`.
    const EXPRESSIONS: &'static [ExpressionKey] = &[];
    /// Keys that name a prompt's file.
    const PROMPTS: &'static [ExpressionKey] = &[];
    /// The settings that a prompt's file may have as front matter.
    const FRONT_MATTER: &'static [&'static str] = &[];
    /// Keys that must be literal.
    const LITERALS: &'static [&'static str] = &[];
    /// The shape of the output; `Value` where anything may come.
    type Output: JsonSchema;

    /// What it does to the world; in `with`, keys with templates are null.
    fn effect(with: &Value) -> Effect;

    /// Faults of a literal `with:` that the schema cannot express.
    fn check(_with: &Value) -> Vec<(Option<String>, String)> {
        Vec::new()
    }

    /// The operations that it calls by itself; see `Node::calls`.
    fn calls(_with: &Value) -> Vec<Wanted> {
        Vec::new()
    }

    /// The steps that it is made of; see `Node::expand`.
    ///
    /// # Errors
    /// What of `with:` cannot be made into steps.
    fn expand(_with: &Value, _around: &dyn Surroundings) -> Result<Option<String>, Misfit> {
        Ok(None)
    }

    /// Faults of a literal `with:` against what an operation declares that it calls; see `Node::check_called`.
    fn check_called(_with: &Value, _declared: &serde_json::Value) -> Vec<(Option<String>, String)> {
        Vec::new()
    }

    /// How a write can be settled; see `Node::settlement`.
    fn settlement(&self) -> Settlement {
        Settlement::default()
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError>;

    /// Says what a plan may say of it; all of the input is known.
    async fn predict(self, _ctx: &StepContext<'_>) -> Result<Prediction, NodeError> {
        Ok(Prediction::default())
    }

    async fn reconcile(self, _ctx: &StepContext<'_>) -> Result<Reconciled, NodeError> {
        Err(NodeError::message(ErrorClass::Bug, format!("`{}` cannot reconcile", Self::NAME)))
    }
}

/// Makes a `Node` of a `NodeType`.
pub struct Typed<T>(PhantomData<fn() -> T>);

impl<T> Typed<T> {
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for Typed<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: NodeType> fmt::Debug for Typed<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(T::NAME)
    }
}

fn decoded<T: NodeType>(input: Value) -> Result<T, NodeError> {
    decode(input).map_err(|error| NodeError::new(ErrorClass::Invalid, error).context(T::NAME))
}

impl NodeError {
    fn context(mut self, node: &'static str) -> Self {
        self.cause = self.cause.context(format!("the input of `{node}`"));
        self
    }
}

/// Says of every object that its declared keys are all that it has: an output is what its struct writes, no more.
fn close(schema: &mut serde_json::Value) {
    match schema {
        serde_json::Value::Object(map) => {
            if map.contains_key("properties") && !map.contains_key("additionalProperties") {
                map.insert("additionalProperties".to_owned(), false.into());
            }
            map.values_mut().for_each(close);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[async_trait]
impl<T: NodeType> Node for Typed<T> {
    fn name(&self) -> &str {
        T::NAME
    }

    fn docs(&self) -> String {
        let schema = self.input_schema();
        schema.get("description").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    }

    fn example(&self) -> &str {
        T::EXAMPLE
    }

    fn input_schema(&self) -> serde_json::Value {
        schemars::SchemaGenerator::default().into_root_schema_for::<T>().to_value()
    }

    fn output_schema(&self) -> Option<serde_json::Value> {
        let mut schema = schemars::SchemaGenerator::default().into_root_schema_for::<T::Output>().to_value();
        close(&mut schema);
        let says_something =
            schema.as_object().is_some_and(|object| object.keys().any(|key| !key.starts_with('$') && key != "title"));
        says_something.then_some(schema)
    }

    fn expressions(&self) -> &'static [ExpressionKey] {
        T::EXPRESSIONS
    }

    fn prompts(&self) -> &'static [ExpressionKey] {
        T::PROMPTS
    }

    fn front_matter(&self) -> &'static [&'static str] {
        T::FRONT_MATTER
    }

    fn literals(&self) -> &'static [&'static str] {
        T::LITERALS
    }

    fn effect(&self, with: &Value) -> Effect {
        T::effect(with)
    }

    fn check(&self, with: &Value) -> Vec<(Option<String>, String)> {
        T::check(with)
    }

    fn calls(&self, with: &Value) -> Vec<Wanted> {
        T::calls(with)
    }

    fn expand(&self, with: &Value, around: &dyn Surroundings) -> Result<Option<String>, Misfit> {
        T::expand(with, around)
    }

    fn check_called(&self, with: &Value, declared: &serde_json::Value) -> Vec<(Option<String>, String)> {
        T::check_called(with, declared)
    }

    fn settlement(&self, input: &Value) -> Settlement {
        decode::<T>(input.clone()).map(|node| node.settlement()).unwrap_or_default()
    }

    async fn run(&self, input: Value, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        decoded::<T>(input)?.run(ctx).await
    }

    async fn predict(&self, input: Value, ctx: &StepContext<'_>) -> Result<Prediction, NodeError> {
        if input.is_known() { decoded::<T>(input)?.predict(ctx).await } else { Ok(Prediction::default()) }
    }

    async fn reconcile(&self, input: Value, ctx: &StepContext<'_>) -> Result<Reconciled, NodeError> {
        decoded::<T>(input)?.reconcile(ctx).await
    }
}
