//! The contract between the engine and what a step `uses`.

mod context;
mod error;
mod expansion;
mod live;
mod operations;
mod prediction;
mod registry;
mod rows;
mod services;
mod sink;
mod typed;
mod wire;

use async_trait::async_trait;

pub use self::context::Access;
pub use self::context::EffectContext;
pub use self::context::LogLevel;
pub use self::context::LogSink;
pub use self::context::StepContext;
pub use self::error::NodeError;
pub use self::expansion::Callable;
pub use self::expansion::Called;
pub use self::expansion::Misfit;
pub use self::expansion::Surroundings;
pub use self::expansion::Wanted;
pub use self::live::Live;
pub use self::operations::Composite;
pub use self::operations::Found;
pub use self::operations::Operations;
pub use self::operations::Whole;
pub use self::prediction::Change;
pub use self::prediction::Cost;
pub use self::prediction::Prediction;
pub use self::registry::Registry;
pub use self::rows::ROWS_A_BATCH;
pub use self::rows::RowReader;
pub use self::rows::RowSource;
pub use self::rows::Rows;
pub use self::services::Services;
pub use self::sink::Keep;
pub use self::sink::RowSink;
pub use self::sink::StreamState;
pub use self::typed::NodeType;
pub use self::typed::Typed;
pub use self::wire::WireAnswer;
pub use self::wire::WireRecord;
use crate::model::Effect;
use crate::model::Lapse;
use crate::model::Settlement;
use crate::model::Timestamp;
use crate::model::Value;
use crate::template::TemplateTree;

/// Something a step can run: a built-in node or, later, a connector's operation. One object for each name.
///
/// The engine evaluates the templates of `with:` and hands the node a plain value, its *input*. For a write this input
/// is the sealed request of the effect ledger: the same input sent again must mean the same request.
#[async_trait]
pub trait Node: Send + Sync + std::fmt::Debug {
    /// What `uses` says, e.g. `http.request`.
    fn name(&self) -> &str;
    /// Number of the node's meaning; a journal names it, so that an older run is not continued with another meaning.
    fn meaning(&self) -> u32 {
        1
    }
    /// Markdown: the first line is one sentence.
    fn docs(&self) -> String;
    /// A `with:` that works, as YAML.
    fn example(&self) -> &str;
    /// JSON Schema of `with:`.
    fn input_schema(&self) -> serde_json::Value;
    /// JSON Schema of the output, where it is known.
    fn output_schema(&self) -> Option<serde_json::Value>;
    /// The keys of `with:` that hold an expression for the node to evaluate itself.
    fn expressions(&self) -> &'static [ExpressionKey];
    /// The keys of `with:` that name a prompt's file, by a literal path relative to the pipeline's file; `StepContext::eval`
    /// renders it.
    fn prompts(&self) -> &'static [ExpressionKey] {
        &[]
    }
    /// The settings that a prompt's file may have as front matter; none where a file has no such thing.
    fn front_matter(&self) -> &'static [&'static str] {
        &[]
    }
    /// The steps of a composite operation, which run as a child.
    fn composite(&self) -> Option<Composite> {
        None
    }
    /// The operations that it calls by itself; in `with`, a key that holds a template is null.
    fn calls(&self, _with: &Value) -> Vec<Wanted> {
        Vec::new()
    }
    /// The steps that it is made of with this `with:`, as YAML with `steps` and `output`, which run as a child; nothing where
    /// it does all by itself. They read what the node gives as the child's inputs.
    ///
    /// # Errors
    /// What of `with:` cannot be made into steps.
    fn expand(&self, _with: &Value, _around: &dyn Surroundings) -> Result<Option<String>, Misfit> {
        Ok(None)
    }
    /// The connector of an operation; such a one is retried where the step does not say.
    fn connector(&self) -> Option<&str> {
        None
    }
    /// Whether an operation needs a connection: settings, or credentials.
    fn needs_connection(&self) -> bool {
        false
    }
    /// The undo that `undo: auto` takes: the operation's name and its `with:`, over `input` and `output`.
    fn undo(&self) -> Option<(String, TemplateTree)> {
        None
    }
    /// The keys of `with:` that must be literal because they decide the effect, or what must be known before a run.
    fn literals(&self) -> &'static [&'static str];
    /// What it does to the world. In `with`, a key that holds a template is null.
    fn effect(&self, with: &Value) -> Effect;
    /// Tells whether it changes the world, by steps of its own, too.
    fn changes(&self, with: &Value) -> bool {
        self.effect(with).is_write()
    }
    /// Faults of a literal `with:` that its schema cannot express, each with the key it belongs to.
    fn check(&self, with: &Value) -> Vec<(Option<String>, String)>;
    /// Faults of a literal `with:` against the input that an operation of `calls` declares; see `check`.
    fn check_called(&self, _with: &Value, _declared: &serde_json::Value) -> Vec<(Option<String>, String)> {
        Vec::new()
    }
    /// The input that an operation of a connector declares, with the words beyond JSON Schema, and those computed that
    /// depend on the settings of a connection; what is null of them is not known yet.
    fn declared_input(&self, _settings: &Value) -> Option<serde_json::Value> {
        None
    }
    /// How a write with this input can be settled when its answer is lost.
    fn settlement(&self, input: &Value) -> Settlement;
    /// Does it.
    async fn run(&self, input: Value, ctx: &StepContext<'_>) -> Result<Outcome, NodeError>;
    /// Says what a plan may say of it with this input, in which parts may be unknown. It may read; it changes nothing.
    async fn predict(&self, _input: Value, _ctx: &StepContext<'_>) -> Result<Prediction, NodeError> {
        Ok(Prediction::default())
    }
    /// Asks the remote whether a write with this input happened (only where `settlement` says `reconcile`).
    async fn reconcile(&self, input: Value, ctx: &StepContext<'_>) -> Result<Reconciled, NodeError>;
}

/// A key of `with:` whose text is an expression that the node evaluates, once a row, say.
///
/// A dotted key, `reconcile.found`, names a key within an object of `with:`; it is optional wherever it or the object
/// is not there. In the evaluated input such a key holds the expression's source text.
#[derive(Clone, Copy, Debug)]
pub struct ExpressionKey {
    pub key: &'static str,
    /// The roots that the node gives it beyond those of the step.
    pub roots: &'static [&'static str],
}

/// What a node gives back.
#[derive(Clone, Debug)]
pub enum Outcome {
    Done(Value),
    /// A write that made a remote object: its id settles no other effect.
    Created {
        output: Value,
        remote_id: String,
    },
    /// A read that came to where it stands in its stream, which is kept with the output.
    Read {
        output: Value,
        stream: StreamState,
    },
    /// Nothing was sent because a limit does not allow it before `until`: the attempt is made again then, and does not
    /// count.
    Later {
        until: Timestamp,
        reason: String,
    },
    /// Ends the attempt and frees the worker; at `until` the step ends with `then`.
    Wait {
        until: Timestamp,
        reason: String,
        then: Value,
    },
    /// Ends the attempt and frees the worker until a signal brings the answer, which ends the step.
    Ask {
        /// Who answers, e.g. `approval`.
        kind: &'static str,
        /// What is asked.
        request: Value,
        reason: String,
        /// What becomes of it when nobody has answered; without it, it waits for ever.
        lapse: Option<Lapse>,
        /// Whether a yes counts for the effects behind it alone that were known when it was asked.
        binds: bool,
    },
    /// Starts a child run; its outputs become the step's output.
    Child {
        pipeline: String,
        inputs: Value,
    },
}

/// What the remote says about an effect in doubt.
#[derive(Clone, Debug)]
pub enum Reconciled {
    /// It happened, and this is its output. A remote object settles one effect at most: candidates in order, the first
    /// that no other effect owns is taken; several free ones hold.
    Found(Vec<Candidate>),
    /// It did not happen.
    NotFound,
}

/// A remote object that may be the effect's.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The remote's id for it.
    pub remote_id: String,
    pub output: Value,
}
