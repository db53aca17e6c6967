//! The checked form of a pipeline: only `compile` makes one, and only this form runs.

use std::collections::HashMap;
use std::sync::Arc;

use petgraph::graph::DiGraph;

use super::Trigger;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::InDoubt;
use crate::model::Phase;
use crate::model::Value;
use crate::model::VersionId;
use crate::node::Called;
use crate::node::Node;
use crate::template::Template;
use crate::template::TemplateTree;

/// A checked pipeline.
#[derive(Clone, Debug)]
pub struct Pipeline {
    pub name: Arc<str>,
    /// What it is for, as its file says.
    pub description: Option<Arc<str>>,
    pub version: VersionId,
    /// The text, prompts and settings that the version is the hash of, as JSON: enough to compile it again.
    pub definition: Arc<str>,
    pub inputs: Vec<Input>,
    pub main: Graph,
    pub on_failure: Graph,
    pub finally: Graph,
    pub outputs: Vec<(Arc<str>, TemplateTree)>,
    /// In the order of the file.
    pub triggers: Vec<Trigger>,
    /// Of work; time asleep does not count.
    pub timeout: Option<Duration>,
    /// Of all time since the run was made.
    pub deadline: Option<Duration>,
    /// 0 to 9, higher first.
    pub priority: u8,
    pub durability: Durability,
    /// Conditions checked at the start.
    pub guards_before: Vec<Guard>,
    /// Conditions over the effects that the run would have, checked before it has any.
    pub guards_plan: Vec<Guard>,
    /// Conditions checked at the end: reported, and fail the run.
    pub guards_after: Vec<Guard>,
    /// How many step runs may be under way at once in one run.
    pub max_parallel: usize,
    /// How many runs may be under way at the same time.
    pub concurrency: Option<Concurrency>,
    /// What a run holds from its beginning to its end.
    pub locks: Vec<Lock>,
    /// Keys that parse and are checked but do not work yet, each as `key: what it waits for`. Running refuses them.
    pub not_yet: Vec<String>,
    /// Whether it is an operation made of steps: its roots are `input` and its like, and its one output is the operation's.
    pub composite: bool,
}

/// The steps of one phase and what they wait for.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// In an order in which every step stands behind those that it needs.
    pub steps: Vec<Step>,
    /// Node weight: the index in `steps`; an edge leads from a step to one that needs it.
    pub dag: DiGraph<usize, ()>,
    pub index: HashMap<Arc<str>, usize>,
}

/// One checked step.
#[derive(Clone, Debug)]
pub struct Step {
    pub id: Arc<str>,
    pub node: Arc<dyn Node>,
    pub effect: Effect,
    pub with: TemplateTree,
    /// The expressions that the node evaluates itself.
    pub expressions: Vec<(&'static str, Template)>,
    /// The operations that the node calls by itself.
    pub calls: Vec<Called>,
    /// The child of a `pipeline.run`, and the steps that a node is made of.
    pub child: Option<Arc<Pipeline>>,
    /// Whether any worker may execute the child runs of its items.
    pub spread: bool,
    /// Indexes in `Graph::steps`, ascending, without repetition.
    pub needs: Vec<usize>,
    pub when: Option<Template>,
    pub for_each: Option<Template>,
    /// How many items may be under way at once; 1 where an item reads `previous`.
    pub max_parallel: usize,
    /// Whether an item begins only when the one before has ended, however long that sleeps or is in doubt: it reads
    /// `previous`.
    pub sequential: bool,
    /// The step starts no earlier than the moment that this gives.
    pub at: Option<Template>,
    /// The step starts this long after what it needs has ended.
    pub delay: Option<Template>,
    pub until: Option<Until>,
    pub retry: Retry,
    /// Of one attempt.
    pub timeout: Option<Duration>,
    pub on_error: OnError,
    pub in_doubt: InDoubt,
    pub undo: Option<Arc<Undo>>,
    pub irreversible: bool,
    pub cache: Option<Cache>,
    /// The business key of the effect.
    pub key: Option<Template>,
    pub locks: Vec<Lock>,
    /// 0 to 9, higher first among the steps that could start.
    pub priority: u8,
    /// The dataset that takes the rows of the output.
    pub into: Option<Arc<str>>,
}

/// The compensation of a step run.
#[derive(Clone, Debug)]
pub struct Undo {
    pub node: Arc<dyn Node>,
    /// The steps that it is made of, where it is an operation of several.
    pub child: Option<Arc<Pipeline>>,
    pub effect: Effect,
    pub with: TemplateTree,
    pub expressions: Vec<(&'static str, Template)>,
    pub calls: Vec<Called>,
    pub retry: Retry,
    pub timeout: Option<Duration>,
}

/// Repetition until an expression over `output` holds.
#[derive(Clone, Debug)]
pub struct Until {
    pub holds: Template,
    /// The pause between rounds: a duration, may read `output`.
    pub every: Option<Template>,
    /// The number of rounds after which the step fails with class `timeout`.
    pub limit: u32,
}

/// When and how often an attempt is repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// In all, the first included.
    pub attempts: u32,
    pub on: Vec<ErrorClass>,
    /// Whether the pause doubles each time.
    pub exponential: bool,
    pub delay: Duration,
    pub max_delay: Duration,
    /// Whether the pause is drawn from half to whole of its length.
    pub jitter: bool,
}

/// What becomes of a step that fails for good.
#[derive(Clone, Debug)]
pub enum OnError {
    Fail,
    Continue,
    Default(TemplateTree),
}

/// Gives back an earlier output of the same operation, inputs and connection.
#[derive(Clone, Debug)]
pub struct Cache {
    pub key: Option<Template>,
    pub ttl: Duration,
}

/// A named lock: of a step while an attempt of it runs, of a pipeline while a run lasts.
#[derive(Clone, Debug)]
pub struct Lock {
    pub name: Template,
    /// How many may hold it at a time.
    pub limit: u32,
}

/// How many runs of a pipeline may be under way at the same time, asleep ones included.
#[derive(Clone, Debug)]
pub struct Concurrency {
    pub limit: u32,
    /// Runs with another key are counted apart; it reads `inputs`.
    pub key: Option<Template>,
    pub when_full: WhenFull,
}

/// What becomes of a run that finds `concurrency` full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits for its turn.
    Queue,
    /// It is canceled.
    Skip,
    /// The runs before it are.
    Replace,
}

/// A condition that stops a run.
#[derive(Clone, Debug)]
pub struct Guard {
    pub that: Template,
    pub message: Option<Arc<str>>,
}

/// How soon results are durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Results of pure and read steps are written behind; writes go through the ledger.
    #[default]
    Effects,
    /// Every result is durable before the next step starts.
    Strict,
}

/// One declared input.
#[derive(Clone, Debug)]
pub struct Input {
    pub name: Arc<str>,
    pub kind: InputType,
    pub required: bool,
    pub default: Option<Value>,
    pub description: Option<Arc<str>>,
    /// The whole declaration as JSON Schema: what `check_inputs` and forms use.
    pub schema: serde_json::Value,
}

/// The type of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputType {
    String,
    Integer,
    Number,
    Boolean,
    Decimal,
    Money,
    Date,
    Datetime,
    Duration,
    Array,
    Object,
    Secret,
    Blob,
}

impl Pipeline {
    /// Returns the steps of a phase; compensations are those of the main part.
    #[must_use]
    pub fn graph(&self, phase: Phase) -> &Graph {
        match phase {
            Phase::Main | Phase::Undo => &self.main,
            Phase::OnFailure => &self.on_failure,
            Phase::Finally => &self.finally,
        }
    }

    /// Tells whether undoing a run of it would do anything.
    #[must_use]
    pub fn can_be_undone(&self) -> bool {
        let takes_back =
            |step: &Step| step.undo.is_some() || step.child.as_ref().is_some_and(|child| child.can_be_undone());
        !self.finally.is_empty() || self.main.steps.iter().any(takes_back)
    }

    /// Tells whether a step of it is a paid read whose `in_doubt` is that of the step above. A project's pipeline says its own.
    #[must_use]
    pub fn pays(&self) -> bool {
        self.composite && self.main.steps.iter().any(Step::pays)
    }

    /// Tells whether a step takes a lock.
    #[must_use]
    pub fn has_locks(&self) -> bool {
        let graphs = [&self.main, &self.on_failure, &self.finally];
        graphs.iter().any(|graph| graph.steps.iter().any(|step| !step.locks.is_empty()))
    }
}

impl Step {
    /// Tells whether it is a paid read, or made of steps of which one is.
    #[must_use]
    pub fn pays(&self) -> bool {
        self.effect == Effect::PaidRead || self.child.as_ref().is_some_and(|child| child.pays())
    }
}

impl Guard {
    /// Returns what it says of itself, else its condition.
    #[must_use]
    pub fn said(&self) -> &str {
        self.message.as_deref().unwrap_or_else(|| self.that.source())
    }
}

impl Graph {
    /// Returns the step with this id.
    #[must_use]
    pub fn step(&self, id: &str) -> Option<&Step> {
        self.index.get(id).and_then(|index| self.steps.get(*index))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl Default for Retry {
    /// One attempt: nothing is retried unless the file says so.
    fn default() -> Self {
        Self {
            attempts: 1,
            on: ErrorClass::ALL.into_iter().filter(|class| class.is_retried_by_default()).collect(),
            exponential: true,
            delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
            jitter: true,
        }
    }
}
