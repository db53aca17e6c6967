//! What the expressions of a planned run can see.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::engine::SecretSource;
use crate::model::StepState;
use crate::model::Unknown;
use crate::model::Value;
use crate::template::Lookup;
use crate::template::StepView;

/// A step of a planned run, as expressions see it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) view: StepView,
    /// Its state where that is not known.
    pub(super) state: Option<Value>,
}

/// The steps of a planned run that have been walked over.
#[derive(Debug)]
pub(super) struct Foreseen {
    steps: Mutex<HashMap<Arc<str>, Seen>>,
    secrets: Arc<dyn SecretSource>,
}

impl Foreseen {
    pub(super) fn new(secrets: Arc<dyn SecretSource>) -> Self {
        Self { steps: Mutex::default(), secrets }
    }

    /// Makes a view of which nothing is known of these steps.
    pub(super) fn in_doubt(secrets: Arc<dyn SecretSource>, steps: impl Iterator<Item = Arc<str>>) -> Self {
        let view = Self::new(secrets);
        for step in steps {
            let output = Unknown::of(format!("steps.{step}.output"));
            let seen = StepView { output, state: StepState::Pending, error: None };
            view.publish(&step, Seen { view: seen, state: Some(Unknown::of(format!("steps.{step}.state"))) });
        }
        view
    }

    pub(super) fn publish(&self, step: &Arc<str>, seen: Seen) {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).insert(step.clone(), seen);
    }

    fn get(&self, id: &str) -> Option<Seen> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

impl Lookup for Foreseen {
    fn step(&self, id: &str) -> Option<StepView> {
        let pending = StepView { output: Value::Null, state: StepState::Pending, error: None };
        Some(self.get(id).map_or(pending, |seen| seen.view))
    }

    fn secret(&self, name: &str) -> Result<Value, String> {
        self.secrets.get(name)
    }

    fn plans(&self) -> bool {
        true
    }

    fn unknown_state(&self, id: &str) -> Option<Value> {
        self.get(id)?.state
    }
}
