//! Plans: what a run will do to the world, before it does it.
//!
//! ```text
//! Pipeline + inputs ──Walk──> Plan ──file──> apply: the same walk again, compared ──> Bond, in the journal ──> the run
//!      pure and read steps run; writes are predicted; what depends on a prediction is `Value::Unknown`
//! ```
//!
//! A walk works on a store in memory and a network that takes reads only, so that whatever a node says, nothing is written.

mod bond;
mod file;
mod ground;
mod guard;
mod step;
mod unit;
mod value;
mod view;
mod walk;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use rust_decimal::Decimal;

pub use self::bond::Bond;
pub use self::file::Circumstances;
pub use self::file::MAX_AGE;
pub use self::file::NoPlan;
pub use self::file::PlanFile;
pub use self::guard::Judged;
use super::Engine;
use super::Error;
use crate::model::RunId;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::VersionId;
use crate::model::WriteKind;
use crate::node::Change;
use crate::node::Cost;
use crate::pipeline::Pipeline;
use crate::template::StepView;

/// Where something stands: a step run, with those above it that call other pipelines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The outermost first.
    pub above: Vec<StepPath>,
    pub path: StepPath,
}

impl Place {
    /// Returns the step of the outermost pipeline.
    #[must_use]
    pub fn first(&self) -> &Arc<str> {
        &self.above.first().unwrap_or(&self.path).step
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for path in &self.above {
            write!(formatter, "{path} > ")?;
        }
        write!(formatter, "{}", self.path)
    }
}

/// What a run will do, as far as that is known before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The run that it will be: a plan is applied once.
    pub run: RunId,
    pub pipeline: Arc<str>,
    pub version: VersionId,
    /// The moment that `now()` gave.
    pub at: Timestamp,
    /// Secret ones are left out of what is shown and stored.
    pub inputs: Value,
    pub reads: Vec<Read>,
    pub effects: Vec<PlannedEffect>,
    /// Steps of which nothing is known yet although they only read or compute.
    pub open: Vec<Open>,
    /// What of the run is known already: it begins with this.
    pub facts: Vec<Fact>,
    pub outputs: Value,
    /// Where the run would fail.
    pub failure: Option<(Place, StepError)>,
    /// Guards of the pipeline over the effects, each with what came of it.
    pub guards: Vec<Judged>,
}

/// A look outside that the plan rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    pub place: Place,
    pub node: Arc<str>,
    /// Whether it costs money.
    pub paid: bool,
    /// Hash of what it gave.
    pub fingerprint: Arc<str>,
    /// What it gave, of a paid one: it is not asked again.
    pub output: Option<Value>,
    pub costs: Vec<Cost>,
    /// Whether it was made to see what an effect will change.
    pub is_question: bool,
}

/// An effect that the run will have.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedEffect {
    pub place: Place,
    /// Whether it stands for all items of a `for_each` that are not known yet.
    pub each: bool,
    pub node: Arc<str>,
    pub connection: Option<Arc<str>>,
    pub kind: WriteKind,
    /// What is sent; what is not known of it is `Value::Unknown`.
    pub input: Value,
    /// The business key, where the step gives one.
    pub key: Option<Value>,
    pub changes: Vec<Change>,
    /// Whether there is something already that it changes; nothing where that is not known.
    pub exists: Option<bool>,
    /// What is predicted of its output.
    pub output: Value,
    pub costs: Vec<Cost>,
    /// Effects, waits and questions to people that come before it.
    pub after: Vec<Arc<str>>,
    /// What decides whether it happens at all.
    pub only_if: Vec<Arc<str>>,
    pub not_before: Option<Timestamp>,
}

/// A step of which nothing is known before something else has happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    pub place: Place,
    pub node: Arc<str>,
    pub of: Vec<Arc<str>>,
    pub reason: Arc<str>,
    /// Whether the run will pay for it.
    pub paid: bool,
    /// What it is predicted to cost then; none where nothing is known of that.
    pub costs: Vec<Cost>,
    /// Whether it runs in any case, and once.
    pub certain: bool,
}

/// Something of the run that is known already.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    Skipped { place: Place, reason: Arc<str> },
    Items { place: Place, items: Value },
    Done { place: Place, output: Value, recovered: Option<StepError>, visible: bool },
}

impl Fact {
    #[must_use]
    pub fn place(&self) -> &Place {
        match self {
            Self::Skipped { place, .. } | Self::Items { place, .. } | Self::Done { place, .. } => place,
        }
    }
}

impl Plan {
    /// Returns the effects as `effects` of `guards.plan` shows them.
    #[must_use]
    pub fn effects_value(&self) -> Value {
        Value::list(self.effects.iter().map(|effect| known(&guard::seen(effect))).collect())
    }
}

/// Returns a value for a journal: what is unknown in it becomes a text that says so.
fn known(value: &Value) -> Value {
    match value {
        Value::Unknown(_) => Value::from(value.to_text()),
        Value::List(items) => Value::list(items.iter().map(known).collect()),
        Value::Map(map) => Value::map(map.iter().map(|(key, value)| (key.clone(), known(value)))),
        other => other.clone(),
    }
}

impl PlannedEffect {
    /// Tells whether it happens in any case.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.only_if.is_empty() && !self.each
    }
}

/// How a plan is made.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// How much paid reads may cost in all, in the units of their budgets; without it they are not made.
    pub spend: Option<Decimal>,
    /// What paid reads gave when the plan was made that is made again.
    pub paid: Vec<(Place, Value)>,
    /// The run that it will be, and the moment it is planned for.
    pub of: Option<(RunId, Timestamp)>,
    /// What `run.slot` gives.
    pub slot: Value,
    /// Of a run that is under way: the part that is planned.
    pub rest: Option<Rest>,
}

/// The part of a run that comes behind an approval.
#[derive(Clone, Debug)]
pub struct Rest {
    /// The steps that have ended.
    pub known: Vec<(Arc<str>, StepView)>,
    /// The step that is to be approved.
    pub approved: Arc<str>,
    /// The steps behind it, at any distance.
    pub behind: BTreeSet<Arc<str>>,
}

impl Engine {
    /// Plans a run with checked inputs: pure and read steps run, writes are predicted, and nothing is written anywhere.
    ///
    /// # Errors
    /// The store's; `NotYet` where the pipeline uses what does not work yet. What would fail in the run is in the plan.
    pub async fn plan(&self, pipeline: &Arc<Pipeline>, inputs: Value, options: PlanOptions) -> Result<Plan, Error> {
        if !pipeline.not_yet.is_empty() {
            let keys = pipeline.not_yet.join("; ");
            return Err(Error::NotYet { pipeline: pipeline.name.clone(), keys });
        }
        walk::plan(self, pipeline, inputs, options).await
    }
}
