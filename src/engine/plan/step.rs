//! One step of the walk: whether it runs, over which items, what becomes of a failure.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::Fact;
use super::unit::Unit;
use super::value::holds_handles;
use super::value::label;
use super::view::Seen;
use super::walk::Ended;
use super::walk::Found;
use super::walk::Walk;
use super::walk::is_quick;
use super::walk::join;
use crate::model::ErrorClass;
use crate::model::Phase;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::StepState;
use crate::model::Unknown;
use crate::model::Value;
use crate::pipeline::OnError;
use crate::pipeline::Step;
use crate::template::EvalError;
use crate::template::Scope;
use crate::template::StepView;

/// One step of the walk.
#[derive(Clone, Debug)]
pub(super) struct One {
    pub(super) walk: Arc<Walk>,
    pub(super) step: Arc<Step>,
    pub(super) phase: Phase,
    pub(super) after: Vec<Arc<str>>,
    pub(super) error: Option<StepError>,
}

/// What one step run of the walk came to.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) found: Found,
    pub(super) result: Result<Value, StepError>,
    /// What comes before whatever needs it, beside what came before it.
    pub(super) after: Vec<Arc<str>>,
    pub(super) recovered: Option<StepError>,
}

impl One {
    pub(super) fn path(&self, item: Option<u32>) -> StepPath {
        StepPath { phase: self.phase, step: self.step.id.clone(), item, round: None }
    }

    fn scope(&self, locals: Vec<(&'static str, Value)>) -> Scope {
        // How the run will have ended is not known before its effects.
        let in_doubt = self.phase == Phase::Finally && self.error.is_none() && !self.after.is_empty();
        self.walk.scope(locals, self.error.as_ref(), in_doubt)
    }

    pub(super) async fn walk_over(self) -> Ended {
        let mut found = Found::default();
        match self.prepare(&mut found).await {
            Err(error) => self.ended(found, Err(error), &[], None),
            Ok(Prepared::Skipped) => {
                let view = StepView { output: Value::Null, state: StepState::Skipped, error: None };
                let whole = !found.facts.is_empty();
                Ended { found, seen: Seen { view, state: None }, after: self.after, failure: None, whole }
            }
            Ok(Prepared::Runs { items, only_if, conditional }) => {
                self.run_all(found, items, only_if, conditional).await
            }
        }
    }

    async fn prepare(&self, found: &mut Found) -> Result<Prepared, StepError> {
        let invalid = |error: EvalError| self.walk.error(ErrorClass::Invalid, error.message);
        let scope = self.scope(Vec::new());
        let (mut only_if, mut conditional) = (self.walk.only_if.clone(), false);
        if let Some(when) = &self.step.when {
            let value = when.eval(&scope).map_err(invalid)?;
            conditional = value.unknowns(&mut only_if);
            if !conditional && !value.is_truthy() {
                if only_if.is_empty() && !self.walk.each {
                    let reason = "`when` is false".into();
                    found.facts.push(Fact::Skipped { place: self.walk.place(self.path(None)), reason });
                }
                return Ok(Prepared::Skipped);
            }
        }
        let Some(for_each) = &self.step.for_each else {
            return Ok(Prepared::Runs { items: Items::One, only_if, conditional });
        };
        let items = for_each.eval(&scope).map_err(invalid)?;
        let items = match items {
            Value::List(items) => {
                // Items that are not known to the last are decided on again in the run.
                let all = Value::List(items.clone());
                if all.is_known() && only_if.is_empty() && !self.walk.each && !holds_handles(&all) {
                    found.facts.push(Fact::Items { place: self.walk.place(self.path(None)), items: all });
                }
                Items::Many(items)
            }
            Value::Unknown(unknown) => Items::Each(Value::Unknown(unknown)),
            Value::Dataset(dataset) => {
                let rows = self.walk.shared.ground.parts.store.rows(&dataset.id, 0, dataset.rows).await;
                let rows = rows.map_err(|error| self.walk.error(ErrorClass::Unavailable, error.to_string()))?;
                Items::Many(Arc::new(rows))
            }
            other => {
                let message = format!("`for_each` gives {}, expected a list", other.kind().name());
                return Err(invalid(EvalError { message }));
            }
        };
        Ok(Prepared::Runs { items, only_if, conditional })
    }

    /// Walks over the one step run of a step, or over all of its items.
    async fn run_all(self, mut found: Found, items: Items, only_if: Vec<Arc<str>>, conditional: bool) -> Ended {
        let unit = |item: Option<u32>, value: Value, previous: Value, each: bool| {
            let mut locals = Vec::new();
            if let Some(index) = item {
                locals.push(("item", value));
                locals.push(("index", Value::from(index)));
            } else if each {
                locals.push(("item", value.clone()));
                locals.push(("index", value));
            }
            if item.is_some() || each || self.step.until.is_some() {
                locals.push(("previous", previous));
            }
            Unit {
                one: self.clone(),
                path: self.path(item),
                scope: self.scope(locals),
                only_if: only_if.clone(),
                each: each || self.walk.each,
                conditional,
                seeds: true,
            }
        };
        let (result, recovered, after) = match items {
            Items::One => {
                let run = unit(None, Value::Null, Value::Null, false).run().await;
                found.take(run.found);
                (run.result, run.recovered, run.after)
            }
            Items::Each(item) => {
                let run = unit(None, item.clone(), item.clone(), true).run().await;
                found.take(run.found);
                let mut of = Vec::new();
                item.unknowns(&mut of);
                (run.result.map(|_| Unknown::of_all(of)), run.recovered, run.after)
            }
            Items::Many(items) => {
                let ended = self.run_items(&mut found, &items, unit).await;
                if !found.facts.iter().any(|fact| matches!(fact, Fact::Items { .. })) {
                    // Without its items no step run of it can be known.
                    let above = self.walk.above.len();
                    found.facts.retain(|fact| fact.place().above.len() > above);
                }
                ended
            }
        };
        let mut ended = self.ended(found, result, &after, recovered);
        if conditional && ended.failure.is_none() {
            // Whether it runs is not known, so its output and its state are not.
            let mut of = only_if;
            ended.seen.view.output.unknowns(&mut of);
            ended.seen.view.output = Unknown::of_all(of.clone());
            ended.seen.state = Some(Unknown::of_all(of));
        }
        ended
    }

    async fn run_items(
        &self,
        found: &mut Found,
        items: &Arc<Vec<Value>>,
        unit: impl Fn(Option<u32>, Value, Value, bool) -> Unit,
    ) -> (Result<Value, StepError>, Option<StepError>, Vec<Arc<str>>) {
        let mut runs: BTreeMap<u32, Run> = BTreeMap::new();
        let (mut previous, mut last) = (Value::Null, Vec::new());
        let mut under_way: JoinSet<(u32, Run)> = JoinSet::new();
        let quick = is_quick(&self.step);
        for (index, item) in (0..).zip(items.iter()) {
            if self.step.max_parallel <= 1 || quick {
                let mut one = unit(Some(index), item.clone(), previous.clone(), false);
                if self.step.max_parallel <= 1 {
                    // One after the other: each comes after what the one before it does.
                    join(&mut one.one.after, &last);
                }
                let run = one.run().await;
                last.clone_from(&run.after);
                previous = run.result.clone().unwrap_or_default();
                runs.insert(index, run);
                continue;
            }
            while under_way.len() >= self.step.max_parallel {
                if let Some(Ok((index, run))) = under_way.join_next().await {
                    runs.insert(index, run);
                }
            }
            let one = unit(Some(index), item.clone(), Value::Null, false);
            under_way.spawn(async move { (index, one.run().await) });
        }
        while let Some(joined) = under_way.join_next().await {
            if let Ok((index, run)) = joined {
                runs.insert(index, run);
            }
        }
        let (mut outputs, mut after) = (Vec::with_capacity(runs.len()), Vec::new());
        for run in runs.into_values() {
            found.take(run.found);
            join(&mut after, &run.after);
            match run.result {
                Ok(output) => outputs.push(output),
                // The step goes on; what failed is known of its items.
                Err(_) if matches!(self.step.on_error, OnError::Continue) => outputs.push(Value::Null),
                Err(error) => return (Err(error), None, after),
            }
        }
        (Ok(Value::list(outputs)), None, after)
    }

    /// Tells whether the facts say of every step run of the step that it has ended.
    fn is_whole(&self, facts: &[Fact]) -> bool {
        let above = self.walk.above.len();
        let own = |fact: &&Fact| fact.place().above.len() == above;
        let done = facts.iter().filter(own).filter(|fact| matches!(fact, Fact::Done { .. })).count();
        let items = facts.iter().filter(own).find_map(|fact| match fact {
            Fact::Items { items, .. } => items.as_list().map(<[Value]>::len),
            _ => None,
        });
        match (&self.step.for_each, items) {
            (None, _) => done == 1,
            (Some(_), Some(items)) => done == items,
            (Some(_), None) => false,
        }
    }

    /// Ends the step: `on_error` says what becomes of a failure.
    fn ended(
        &self,
        found: Found,
        result: Result<Value, StepError>,
        after: &[Arc<str>],
        recovered: Option<StepError>,
    ) -> Ended {
        let mut before = self.after.clone();
        join(&mut before, after);
        let (view, failure) = match result {
            Ok(output) => (StepView { output, state: StepState::Succeeded, error: recovered }, None),
            Err(error) => {
                let view = StepView { output: Value::Null, state: StepState::Failed, error: Some(error.clone()) };
                let goes_on = matches!(self.step.on_error, OnError::Continue);
                let failure = (!goes_on).then(|| (self.walk.place(self.path(None)), error));
                (view, failure)
            }
        };
        let whole = failure.is_none() && self.is_whole(&found.facts);
        let mut seen = Seen { view, state: None };
        if !found.effects.is_empty() && !matches!(self.step.on_error, OnError::Fail) {
            // The run goes on where it fails, and how it will have ended is not known.
            let name = self.walk.name(&self.path(None));
            seen.view.output = Unknown::of(format!("steps.{name}.output"));
            seen.state = Some(Unknown::of(format!("steps.{name}.state")));
        }
        Ended { found, seen, after: before, failure, whole }
    }
}

/// What a step has to do.
enum Prepared {
    Skipped,
    /// `only_if` decides whether it does, and where it is `conditional`, the step's own `when` adds to that.
    Runs {
        items: Items,
        only_if: Vec<Arc<str>>,
        conditional: bool,
    },
}

enum Items {
    One,
    Many(Arc<Vec<Value>>),
    /// How many there are is not known: this stands for each.
    Each(Value),
}

/// Makes an output of what is predicted: what is null in it is known later.
pub(super) fn predicted(output: Option<&Value>, place: &str) -> Value {
    match output {
        Some(output) => label(output, place),
        None => Unknown::of(place),
    }
}
