//! Runs that are bound to a plan, from their beginning or from an approval on: what people see is what will happen, or they
//! are asked again.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Error;
use super::driver::Driver;
use super::finish::Done;
use super::machine::UnitKey;
use super::plan::Bond;
use super::plan::Circumstances;
use super::plan::Judged;
use super::plan::Plan;
use super::plan::PlanFile;
use super::plan::PlanOptions;
use super::plan::Rest;
use crate::model::Answer;
use crate::model::AskId;
use crate::model::ErrorClass;
use crate::model::Lapse;
use crate::model::Phase;
use crate::model::StepState;
use crate::model::Timestamp;
use crate::model::Value;

/// What a bound approval is about to ask.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) kind: &'static str,
    pub(super) request: Value,
    pub(super) reason: String,
    pub(super) lapse: Option<Lapse>,
}

impl Driver {
    /// Binds a run that begins to its plan: the one that it was made of, or, where guards judge that, one of its own.
    pub(super) async fn bind(&mut self) -> Result<(), Error> {
        let unbound = self.bond.is_none() && !self.machine.is_halting();
        // One that a plan has made, and that lost its bond, never goes on without.
        if !unbound
            || !(self.fresh || self.planned)
            || self.machine.finished().is_some()
            || self.machine.phase() != Phase::Main
        {
            return Ok(());
        }
        let bond = match self.options.bond.take() {
            Some(bond) => bond,
            None if self.planned => {
                let message = "the plan was not written when its process died: nothing was sent; make a new plan";
                let error = self.step_error(ErrorClass::Rejected, message);
                self.machine.refuse(error, self.now());
                return Ok(());
            }
            None if self.pipeline.guards_plan.is_empty() => return Ok(()),
            None => {
                let of = Some((self.run, self.now()));
                let options = PlanOptions { of, slot: self.slot.clone(), ..PlanOptions::default() };
                let plan = self.engine.plan(&self.pipeline, self.inputs.clone(), options).await?;
                if let Some(message) = Judged::refusal(&plan.guards) {
                    let error = self.step_error(ErrorClass::Rejected, message);
                    self.machine.refuse(error, self.now());
                    return Ok(());
                }
                let hash = PlanFile::new(&plan, &Circumstances::default()).hash().to_owned();
                Arc::new(Bond::of(&plan, &hash))
            }
        };
        let now = self.now();
        self.machine.adopt(bond.events(now), now);
        self.bond = Some(bond);
        self.flush();
        self.publish();
        Ok(())
    }

    /// Says how that is planned which comes behind a step once it is approved, as of a moment.
    fn rest(&self, key: UnitKey, at: Timestamp) -> PlanOptions {
        let behind = self.behind(key.step);
        let steps = self.pipeline.main.steps.iter().enumerate();
        let known = steps.filter_map(|(index, step)| {
            let view = self.machine.view(Phase::Main, index)?;
            let ended = matches!(view.state, StepState::Succeeded | StepState::Failed | StepState::Skipped);
            (ended && !behind.contains(&step.id)).then(|| (step.id.clone(), view))
        });
        let approved = self.machine.definition(key).id.clone();
        let rest = Rest { known: known.collect(), approved, behind };
        PlanOptions { of: Some((self.run, at)), slot: self.slot.clone(), rest: Some(rest), ..PlanOptions::default() }
    }

    /// Asks with the plan of what comes behind.
    pub(super) fn ask_with_plan(&mut self, key: UnitKey, asking: Asking) {
        // The moment is stored with the event that follows: the plan is made again for the same.
        let at = self.now();
        let options = self.rest(key, at);
        let (engine, pipeline, inputs) = (self.engine.clone(), self.pipeline.clone(), self.inputs.clone());
        self.jobs.spawn(async move {
            let plan = engine.plan(&pipeline, inputs, options).await;
            (key, Done::Planned(Box::new((asking, plan))))
        });
    }

    /// Returns the steps that stand behind a step of the main part, at any distance.
    fn behind(&self, step: usize) -> BTreeSet<Arc<str>> {
        let mut found = BTreeSet::from([step]);
        // Steps stand behind those that they need.
        for (index, step) in self.pipeline.main.steps.iter().enumerate() {
            if step.needs.iter().any(|need| found.contains(need)) {
                found.insert(index);
            }
        }
        found.remove(&step);
        let name = |index: usize| self.pipeline.main.steps.get(index).map(|step| step.id.clone());
        found.into_iter().filter_map(name).collect()
    }

    /// Asks: what comes behind is planned.
    pub(super) fn planned(&mut self, key: UnitKey, asking: Asking, plan: Result<Plan, Error>) {
        let now = self.now();
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => return self.failure = Some(error),
        };
        if let Some((place, error)) = &plan.failure {
            let message = format!("what is to be approved would fail at `{place}`: {}", error.message);
            let error = self.step_error(error.class, message);
            return self.give_up(key, now, error);
        }
        let mut request = asking.request.as_map().cloned().unwrap_or_default();
        request.insert("plan".into(), shown(&plan));
        self.ask_outside(key, asking.kind, Value::from(request), &asking.reason, asking.lapse);
    }

    /// Obeys an answer of the inbox. A yes to a plan counts as long as the plan is the same: it is made again.
    pub(super) async fn answered(&mut self, ask: &AskId, answer: Answer) -> Result<(), Error> {
        let Some(key) = self.machine.asker(ask) else {
            // The step run no longer asks.
            tracing::info!(run = %self.run, %ask, "an answer comes too late");
            return Ok(());
        };
        let Some((hash, at)) = self.asked_about(key).filter(|_| answer.is_ok()) else {
            self.answer(key, answer);
            return Ok(());
        };
        let plan = self.engine.plan(&self.pipeline, self.inputs.clone(), self.rest(key, at)).await?;
        let now = self.now();
        let file = PlanFile::new(&plan, &Circumstances::default());
        if *hash != *file.hash() {
            // What was approved is not what would happen now: the yes is void, and it is asked anew.
            let path = self.machine.path(key);
            tracing::warn!(run = %self.run, step = %path, "the plan has changed since it was approved");
            let error =
                self.step_error(ErrorClass::Conflict, "the plan has changed since it was approved: asking again");
            self.machine.fail(key, now, error, Some(now), now);
            return Ok(());
        }
        let bond = Bond::of(&plan, file.hash()).only(self.behind(key.step), self.bond.as_deref());
        let events = bond.events(now);
        self.bond = Some(Arc::new(bond));
        self.answer(key, answer);
        self.machine.adopt(events, now);
        self.publish();
        Ok(())
    }

    /// Returns the hash of the plan that was asked about, and for which moment it was made.
    fn asked_about(&self, key: UnitKey) -> Option<(Arc<str>, Timestamp)> {
        let (_, ask) = self.machine.asks(key)?;
        let plan = ask.request.get("plan")?;
        let at = match plan.get("at")? {
            Value::Time(at) => *at,
            _ => return None,
        };
        Some((plan.get("hash")?.as_str()?.into(), at))
    }
}

/// Returns a plan as those see it who are asked.
fn shown(plan: &Plan) -> Value {
    let file = PlanFile::new(plan, &Circumstances::default());
    let open = plan.open.iter().map(|open| Value::from(open.place.to_string()));
    Value::map([
        ("hash", Value::from(file.hash())),
        ("at", Value::Time(plan.at)),
        ("effects", plan.effects_value()),
        ("open", Value::list(open.collect())),
    ])
}
