//! The walk over a pipeline that makes a plan of it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use rust_decimal::Decimal;
use tokio::task::JoinSet;

use super::Fact;
use super::Open;
use super::Place;
use super::Plan;
use super::PlanOptions;
use super::PlannedEffect;
use super::Read;
use super::Rest;
use super::ground::Ground;
use super::guard;
use super::step::One;
use super::view::Foreseen;
use super::view::Seen;
use crate::engine::Engine;
use crate::engine::Error;
use crate::engine::RunRoot;
use crate::engine::child::child_run;
use crate::engine::perform::check_guards;
use crate::engine::roots;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Map;
use crate::model::Phase;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::StepState;
use crate::model::Timestamp;
use crate::model::Unknown;
use crate::model::Value;
use crate::node::Cost;
use crate::pipeline::Graph;
use crate::pipeline::Pipeline;
use crate::template::Scope;
use crate::template::StepView;

/// What all of a plan shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) ground: Ground,
    pub(super) run: RunId,
    pub(super) at: Timestamp,
    slot: Value,
    /// What is left of the money for paid reads.
    left: Mutex<Option<Decimal>>,
    paid: Vec<(Place, Value)>,
    rest: Option<Rest>,
}

/// What came of a part of the walk, in the order of the steps.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) reads: Vec<Read>,
    pub(super) effects: Vec<PlannedEffect>,
    pub(super) open: Vec<Open>,
    pub(super) facts: Vec<Fact>,
}

impl Found {
    pub(super) fn take(&mut self, other: Self) {
        self.reads.extend(other.reads);
        self.effects.extend(other.effects);
        self.open.extend(other.open);
        self.facts.extend(other.facts);
    }
}

/// One pipeline of the plan: the run's, or one that a step calls.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) shared: Arc<Shared>,
    pub(super) pipeline: Arc<Pipeline>,
    /// The run that it will be; of one that a step calls its id derives from the caller's.
    pub(super) run: RunId,
    inputs: Value,
    pub(super) above: Vec<StepPath>,
    view: Arc<Foreseen>,
    /// What comes before the whole, and decides whether it happens.
    pub(super) after: Vec<Arc<str>>,
    pub(super) only_if: Vec<Arc<str>>,
    /// Whether it stands for many that are not known yet.
    pub(super) each: bool,
}

/// How a step of the walk ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) found: Found,
    pub(super) seen: Seen,
    /// Effects, waits and questions that come before whatever needs this step.
    pub(super) after: Vec<Arc<str>>,
    pub(super) failure: Option<(Place, StepError)>,
    /// Whether all of it is known, so that the run can begin behind it.
    pub(super) whole: bool,
}

/// How the walk over a pipeline ended.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) found: Found,
    pub(super) outputs: Value,
    pub(super) after: Vec<Arc<str>>,
    pub(super) failure: Option<(Place, StepError)>,
}

pub(super) async fn plan(
    engine: &Engine,
    pipeline: &Arc<Pipeline>,
    inputs: Value,
    options: PlanOptions,
) -> Result<Plan, Error> {
    let parts = engine.parts();
    let (run, at) = options.of.unwrap_or_else(|| (parts.system.run_id(), parts.system.clock.now()));
    let ground = Ground::new(parts, pipeline, run).await?;
    let shared = Arc::new(Shared {
        ground,
        run,
        at,
        slot: options.slot,
        left: Mutex::new(options.spend),
        paid: options.paid,
        rest: options.rest,
    });
    let walk = Walk::new(shared, pipeline.clone(), run, inputs.clone(), Vec::new());
    let walked = Arc::new(walk).whole().await;
    let Walked { found: Found { reads, effects, open, facts }, outputs, failure, .. } = walked;
    let guards = guard::judge(&pipeline.guards_plan, &effects, &inputs, parts, at);
    let (name, version) = (pipeline.name.clone(), pipeline.version.clone());
    Ok(Plan { run, pipeline: name, version, at, inputs, reads, effects, open, facts, outputs, failure, guards })
}

impl Walk {
    fn new(shared: Arc<Shared>, pipeline: Arc<Pipeline>, run: RunId, inputs: Value, above: Vec<StepPath>) -> Self {
        let view = Arc::new(Foreseen::new(shared.ground.parts.secrets.clone()));
        Self { shared, pipeline, run, inputs, above, view, after: Vec::new(), only_if: Vec::new(), each: false }
    }

    pub(super) fn place(&self, path: StepPath) -> Place {
        Place { above: self.above.clone(), path }
    }

    /// Names a step for what depends on it.
    pub(super) fn name(&self, path: &StepPath) -> Arc<str> {
        self.place(path.clone()).to_string().into()
    }

    pub(super) fn scope(&self, locals: Vec<(&'static str, Value)>, error: Option<&StepError>, in_doubt: bool) -> Scope {
        let told = error.map_or(Value::Null, StepError::to_value);
        let doubtful = self.only_if.iter().any(|of| &**of == FAILURE);
        let state = if error.is_some() || doubtful { RunState::Failed } else { RunState::Running };
        let run = RunRoot {
            id: self.run,
            slot: if self.above.is_empty() { self.shared.slot.clone() } else { Value::Null },
            state: if in_doubt { Unknown::of("run.state") } else { state.name().into() },
            error: if doubtful || in_doubt { Unknown::of("run.error") } else { told },
        };
        let globals = roots(&self.pipeline, &self.inputs, run);
        Scope { lookup: self.view.clone(), globals: Arc::new(globals), locals, now: self.shared.at }
    }

    pub(super) fn error(&self, class: ErrorClass, message: impl Into<String>) -> StepError {
        StepError { class, message: self.shared.ground.parts.secrets.mask(message.into()) }
    }

    /// Walks over the main part, and over what follows it: `on_failure` where it fails for certain, and `finally`.
    pub(super) fn whole(self: Arc<Self>) -> Pin<Box<dyn Future<Output = Walked> + Send>> {
        Box::pin(async move {
            let pipeline = self.pipeline.clone();
            let mut walked =
                Walked { found: Found::default(), outputs: Value::Null, after: self.after.clone(), failure: None };
            if self.rest().is_some() {
                // What comes after the main part is not what is asked about.
                self.graph(&pipeline.main, Phase::Main, &mut walked).await;
                return walked;
            }
            let scope = self.scope(Vec::new(), None, false);
            if let Err(error) = check_guards(&pipeline.guards_before, &scope, |class, text| self.error(class, text)) {
                let place = self.place(StepPath::step("guards"));
                walked.failure = Some((place, error));
                return walked;
            }
            self.graph(&pipeline.main, Phase::Main, &mut walked).await;
            let error = walked.failure.as_ref().map(|(_, error)| error.clone());
            if error.is_some() {
                self.graph(&pipeline.on_failure, Phase::OnFailure, &mut walked).await;
            } else if !pipeline.on_failure.steps.is_empty() {
                // What it would do then is planned, too, though nothing is known of how far the run will have come.
                let doubtful = Arc::new(self.in_case_of_failure());
                let mut aside =
                    Walked { found: Found::default(), outputs: Value::Null, after: Vec::new(), failure: None };
                doubtful.graph(&pipeline.on_failure, Phase::OnFailure, &mut aside).await;
                walked.found.take(aside.found);
            }
            self.graph(&pipeline.finally, Phase::Finally, &mut walked).await;
            if error.is_none() && walked.failure.is_none() {
                let scope = self.scope(Vec::new(), None, false);
                let mut outputs = Map::new();
                for (name, tree) in &pipeline.outputs {
                    match tree.eval(&scope) {
                        Ok(value) => drop(outputs.insert(name.clone(), value)),
                        Err(error) => {
                            let message = format!("output `{name}`: {}", error.message);
                            let place = self.place(StepPath::step("outputs"));
                            walked.failure.get_or_insert((place, self.error(ErrorClass::Invalid, message)));
                        }
                    }
                }
                walked.outputs = Value::from(outputs);
            }
            walked
        })
    }

    /// Walks over the steps of a phase, those at the same time that do not need each other.
    async fn graph(self: &Arc<Self>, graph: &Graph, phase: Phase, walked: &mut Walked) {
        let error = walked.failure.as_ref().map(|(_, error)| error.clone());
        let before = walked.after.clone();
        let mut ended: BTreeMap<usize, Ended> = BTreeMap::new();
        let mut under_way: JoinSet<(usize, Ended)> = JoinSet::new();
        let mut next = 0;
        let mut failed = false;
        loop {
            // Steps stand behind those that they need.
            while let Some(step) = graph.steps.get(next).filter(|_| !failed) {
                if !step.needs.iter().all(|need| ended.contains_key(need)) {
                    break;
                }
                let mut after = before.clone();
                step.needs.iter().filter_map(|need| ended.get(need)).for_each(|need| join(&mut after, &need.after));
                let one = One { walk: self.clone(), step: Arc::new(step.clone()), phase, after, error: error.clone() };
                let index = next;
                next += 1;
                if let Some(done) = self.given(step) {
                    failed |= self.note(index, &step.id, done, &mut ended);
                    continue;
                }
                if is_quick(step) {
                    let done = one.walk_over().await;
                    failed |= self.note(index, &step.id, done, &mut ended);
                } else {
                    under_way.spawn(async move { (index, one.walk_over().await) });
                }
            }
            let Some(joined) = under_way.join_next().await else { break };
            // What panics in a node is caught by its attempt.
            let Ok((index, done)) = joined else { continue };
            let Some(step) = graph.steps.get(index) else { continue };
            failed |= self.note(index, &step.id, done, &mut ended);
        }
        let mut whole = vec![false; graph.steps.len()];
        for (index, mut done) in ended {
            // A run begins with what stands behind nothing that is still to be done. Later phases begin by themselves.
            let needs = graph.steps.get(index).map(|step| step.needs.as_slice()).unwrap_or_default();
            let begins = phase == Phase::Main && needs.iter().all(|need| whole.get(*need).copied().unwrap_or(false));
            if let Some(whole) = whole.get_mut(index) {
                *whole = begins && done.whole;
            }
            if !begins {
                done.found.facts.retain(|fact| fact.place().above.len() > self.above.len());
            }
            walked.found.take(done.found);
            join(&mut walked.after, &done.after);
            if walked.failure.is_none() {
                walked.failure = done.failure;
            }
        }
    }

    /// Returns the part that is planned, where it is not the whole run.
    fn rest(&self) -> Option<&Rest> {
        self.shared.rest.as_ref().filter(|_| self.above.is_empty())
    }

    /// Returns how a step has ended that is not walked over, because only a part of a run is planned.
    fn given(&self, step: &crate::pipeline::Step) -> Option<Ended> {
        let rest = self.rest()?;
        if rest.behind.contains(&step.id) {
            return None;
        }
        let known = rest.known.iter().find(|(id, _)| *id == step.id);
        let unknown = |what: &str| Unknown::of(format!("steps.{}.{what}", step.id));
        let open = || StepView { output: unknown("output"), state: StepState::Succeeded, error: None };
        let approved = step.id == rest.approved;
        let (seen, after) = match known {
            Some((_, view)) => (Seen { view: view.clone(), state: None }, Vec::new()),
            // It is planned as if it were approved.
            None if approved => (Seen { view: open(), state: None }, Vec::new()),
            None => (Seen { view: open(), state: Some(unknown("state")) }, vec![step.id.clone()]),
        };
        let whole = known.is_some() || approved;
        Some(Ended { found: Found::default(), seen, after, failure: None, whole })
    }

    fn note(&self, index: usize, id: &Arc<str>, done: Ended, ended: &mut BTreeMap<usize, Ended>) -> bool {
        self.view.publish(id, done.seen.clone());
        let failed = done.failure.is_some();
        ended.insert(index, done);
        failed
    }

    /// Makes the walk over what is done if the run fails.
    fn in_case_of_failure(&self) -> Self {
        let mut only_if = self.only_if.clone();
        join(&mut only_if, &[FAILURE.into()]);
        let main = self.pipeline.main.steps.iter().map(|step| step.id.clone());
        Self {
            shared: self.shared.clone(),
            pipeline: self.pipeline.clone(),
            run: self.run,
            inputs: self.inputs.clone(),
            above: self.above.clone(),
            view: Arc::new(Foreseen::in_doubt(self.shared.ground.parts.secrets.clone(), main)),
            after: Vec::new(),
            only_if,
            each: self.each,
        }
    }

    /// Makes the walk over a pipeline that a step of this one calls.
    pub(super) fn below(&self, pipeline: Arc<Pipeline>, inputs: Value, path: StepPath, rounds: bool) -> Self {
        let round = StepPath { round: rounds.then_some(1), ..path.clone() };
        let run = child_run(self.run, &round, 0);
        let mut above = self.above.clone();
        above.push(path);
        Self { each: self.each, ..Self::new(self.shared.clone(), pipeline, run, inputs, above) }
    }
}

impl Shared {
    /// Returns what a paid read gave when the plan was made that is made again.
    pub(super) fn paid_before(&self, place: &Place) -> Option<Value> {
        self.paid.iter().find(|(own, _)| own == place).map(|(_, output)| output.clone())
    }

    /// Takes money for a paid read; false where there is not enough, or it is not known how much it is.
    pub(super) fn spend(&self, costs: &[Cost]) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = left.as_mut() else { return false };
        let mut money = costs.iter().filter(|cost| cost.unit.is_some()).peekable();
        // Where nobody says what it costs, that is not known: it is not nothing.
        if money.peek().is_none() {
            return false;
        }
        let Some(sum) = money.map(|cost| cost.amount).sum::<Option<Decimal>>() else { return false };
        if sum > *left {
            return false;
        }
        *left -= sum;
        true
    }
}

/// What decides on the steps of `on_failure`.
pub(super) const FAILURE: &str = "a failure of the run";

/// Adds what is not there yet.
pub(super) fn join(names: &mut Vec<Arc<str>>, more: &[Arc<str>]) {
    for name in more {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
}

/// Tells whether a step waits for nothing outside, so that a task of its own would cost more than it.
pub(super) fn is_quick(step: &crate::pipeline::Step) -> bool {
    step.effect == Effect::Pure && step.child.is_none()
}
