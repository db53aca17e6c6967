//! What the expressions of a run can see.

use std::sync::Arc;
use std::sync::OnceLock;

use crate::model::Phase;
use crate::model::RunId;
use crate::model::StepState;
use crate::model::Value;
use crate::pipeline::Graph;
use crate::pipeline::Pipeline;
use crate::secrets::Secrets;
use crate::template::Lookup;
use crate::template::StepView;

/// Gives secrets and hides them.
pub trait SecretSource: Send + Sync + std::fmt::Debug {
    /// Returns the secret, marked as such, or why there is none.
    fn get(&self, name: &str) -> Result<Value, String>;
    /// Replaces every known secret in a text by `***`.
    fn mask(&self, text: String) -> String;
    /// Learns the secrets in a value that another process read, so that `mask` and `scan` know them.
    fn learn(&self, value: &Value);
    /// Marks every string as secret that holds a known secret.
    fn scan(&self, value: Value) -> Value;
}

impl SecretSource for Secrets {
    fn get(&self, name: &str) -> Result<Value, String> {
        Self::get(self, name).map_err(|error| error.to_string())
    }

    fn mask(&self, text: String) -> String {
        Self::mask(self).hide(&text)
    }

    fn learn(&self, value: &Value) {
        Self::mask(self).learn_value(value);
    }

    fn scan(&self, value: Value) -> Value {
        Self::mask(self).scan(&value)
    }
}

/// No secrets at all.
#[derive(Clone, Copy, Debug)]
pub struct NoSecrets;

impl SecretSource for NoSecrets {
    fn learn(&self, _: &Value) {}

    fn get(&self, name: &str) -> Result<Value, String> {
        Err(format!("there is no secret `{name}`"))
    }

    fn mask(&self, text: String) -> String {
        text
    }

    fn scan(&self, value: Value) -> Value {
        value
    }
}

/// What `run` shows.
#[derive(Clone, Debug)]
pub struct RunRoot {
    pub id: RunId,
    pub slot: Value,
    pub state: Value,
    pub error: Value,
}

/// Makes the roots of a whole run: `inputs`, `run`, and of the steps of a manifest what they read by its own names.
#[must_use]
pub fn roots(pipeline: &Pipeline, inputs: &Value, run: RunRoot) -> Vec<(Arc<str>, Value)> {
    let run = Value::map([
        ("id", Value::from(run.id.to_string())),
        ("pipeline", Value::from(&*pipeline.name)),
        ("slot", run.slot),
        ("state", run.state),
        ("error", run.error),
    ]);
    let mut roots = vec![("inputs".into(), inputs.clone()), ("run".into(), run)];
    if pipeline.composite {
        // The steps of a manifest read `input`, `config` and `tables`.
        let inputs = inputs.as_map().into_iter().flatten();
        roots.extend(inputs.map(|(name, value)| (name.clone(), value.clone())));
    }
    roots
}

/// The ended steps of a run, published one by one, read by every expression.
#[derive(Debug)]
pub(super) struct Published {
    pipeline: Arc<Pipeline>,
    main: Vec<OnceLock<StepView>>,
    on_failure: Vec<OnceLock<StepView>>,
    finally: Vec<OnceLock<StepView>>,
    secrets: Arc<dyn SecretSource>,
}

impl Published {
    pub(super) fn new(pipeline: Arc<Pipeline>, secrets: Arc<dyn SecretSource>) -> Self {
        let places = |graph: &Graph| graph.steps.iter().map(|_| OnceLock::new()).collect();
        Self {
            main: places(&pipeline.main),
            on_failure: places(&pipeline.on_failure),
            finally: places(&pipeline.finally),
            pipeline,
            secrets,
        }
    }

    pub(super) fn publish(&self, phase: Phase, step: usize, view: StepView) {
        if let Some(place) = self.part(phase).1.get(step) {
            // A step ends once; a second publication after a replay says the same.
            let _ = place.set(view);
        }
    }

    fn part(&self, phase: Phase) -> (&Graph, &[OnceLock<StepView>]) {
        let places = match phase {
            Phase::Main | Phase::Undo => &self.main,
            Phase::OnFailure => &self.on_failure,
            Phase::Finally => &self.finally,
        };
        (self.pipeline.graph(phase), places)
    }
}

impl Lookup for Published {
    fn step(&self, id: &str) -> Option<StepView> {
        for phase in [Phase::Main, Phase::OnFailure, Phase::Finally] {
            let (graph, places) = self.part(phase);
            let Some(place) = graph.index.get(id).and_then(|step| places.get(*step)) else { continue };
            let pending = || StepView { output: Value::Null, state: StepState::Pending, error: None };
            return Some(place.get().cloned().unwrap_or_else(pending));
        }
        None
    }

    fn secret(&self, name: &str) -> Result<Value, String> {
        self.secrets.get(name)
    }
}
