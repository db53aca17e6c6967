//! One step run of the walk: it runs, is predicted, or stays open.

use std::sync::Arc;

use super::Fact;
use super::Judged;
use super::Open;
use super::PlannedEffect;
use super::Read;
use super::step::One;
use super::step::Run;
use super::step::predicted;
use super::value::fingerprint;
use super::value::holds_handles;
use super::walk::Found;
use super::walk::join;
use crate::engine::attempt::Attempt;
use crate::engine::attempt::Log;
use crate::engine::finish::rows_of;
use crate::engine::machine::UnitKey;
use crate::engine::perform::Doing;
use crate::engine::perform::duration;
use crate::engine::perform::moment;
use crate::engine::retry::next_attempt;
use crate::engine::sink::DatasetSink;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Unknown;
use crate::model::Value;
use crate::model::WriteKind;
use crate::node::Change;
use crate::node::Cost;
use crate::node::NodeError;
use crate::node::Outcome;
use crate::node::Prediction;
use crate::pipeline::COMPOSITE_OUTPUT;
use crate::pipeline::OnError;
use crate::pipeline::check_values;
use crate::template::EvalError;
use crate::template::Scope;

/// A plan waits so long for a limit or the next attempt of a read.
const PATIENCE: Duration = Duration::from_secs(30);

/// When a step run may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Now,
    At(Timestamp),
    /// It waits, and it is not known for how long.
    Unknown,
}

/// One step run of the walk.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) one: One,
    pub(super) path: StepPath,
    pub(super) scope: Scope,
    /// What decides whether it happens.
    pub(super) only_if: Vec<Arc<str>>,
    /// Whether it stands for items that are not known yet.
    pub(super) each: bool,
    /// Whether the step's own `when` is not known.
    pub(super) conditional: bool,
    /// Whether its end may be a fact with which the run begins: where a read stands is stored by the run alone.
    pub(super) seeds: bool,
}

impl Unit {
    pub(super) async fn run(mut self) -> Run {
        let mut found = Found::default();
        let mut after = Vec::new();
        let done = self.done(&mut found, &mut after).await;
        let (result, recovered) = match done {
            Ok(output) => (Ok(output), None),
            Err(error) => self.recovered(error),
        };
        if let Ok(output) = &result
            && self.is_fact(&found, &after)
            && !holds_handles(output)
        {
            found.facts.push(Fact::Done {
                place: self.one.walk.place(self.path.clone()),
                output: output.clone(),
                recovered: recovered.clone(),
                visible: self.one.step.effect != Effect::Pure,
            });
        }
        Run { found, result, after, recovered }
    }

    fn recovered(&self, error: StepError) -> (Result<Value, StepError>, Option<StepError>) {
        match &self.one.step.on_error {
            OnError::Default(tree) => match tree.eval(&self.scope) {
                Ok(output) => (Ok(output), Some(error)),
                Err(fault) => {
                    let message =
                        format!("{}; and `default` of `on_error` has no value: {}", error.message, fault.message);
                    (Err(self.one.walk.error(error.class, message)), None)
                }
            },
            _ => (Err(error), None),
        }
    }

    fn name(&self) -> Arc<str> {
        self.one.walk.name(&self.path)
    }

    /// Says where what it gives will be found.
    fn source(&self) -> String {
        let item = match (self.path.item, self.each) {
            (Some(item), _) => format!("[{item}]"),
            (None, true) => "[]".to_owned(),
            (None, false) => String::new(),
        };
        let above: Vec<_> = self.one.walk.place(self.path.clone()).above.iter().map(ToString::to_string).collect();
        let above = if above.is_empty() { String::new() } else { format!("{} > ", above.join(" > ")) };
        format!("{above}steps.{}{item}.output", self.path.step)
    }

    /// Leaves it open: nothing is known of its output.
    fn leave(&self, found: &mut Found, of: Vec<Arc<str>>, reason: &str) -> Value {
        let place = self.one.walk.place(self.path.clone());
        let node = self.one.step.node.name().into();
        let certain = self.only_if.is_empty() && !self.each && !self.conditional;
        let paid = self.one.step.effect == Effect::PaidRead;
        found.open.push(Open { place, node, of, reason: reason.into(), paid, costs: Vec::new(), certain });
        Unknown::of(self.source())
    }

    /// Leaves a paid read open of which it is known what it will cost.
    fn leave_unpaid(&self, found: &mut Found, costs: Vec<Cost>) -> Value {
        let output = self.leave(found, Vec::new(), "it costs money, and `--spend` does not allow it");
        if let Some(open) = found.open.last_mut() {
            open.costs = costs;
        }
        output
    }

    /// Tells whether the run can begin with its end: it is certain, and has neither effects nor waits, nor rows that are
    /// kept for the plan alone.
    fn is_fact(&self, found: &Found, after: &[Arc<str>]) -> bool {
        let step = &self.one.step;
        let plain = found.effects.is_empty() && found.open.is_empty() && after.is_empty();
        let own = step.child.is_none() && !step.effect.is_write() && step.into.is_none();
        let certain = self.only_if.is_empty() && !self.each && !self.conditional;
        plain && own && certain && self.seeds
    }

    async fn done(&mut self, found: &mut Found, after: &mut Vec<Arc<str>>) -> Result<Value, StepError> {
        let invalid = |error: EvalError| self.one.walk.error(ErrorClass::Invalid, error.message);
        let step = self.one.step.clone();
        let start = self.start().map_err(invalid)?;
        let input = step.with.eval(&self.scope).map_err(invalid)?;
        if let Effect::Write(kind) = step.effect {
            return self.write(found, after, kind, input, start).await;
        }
        let mut of = self.one.after.clone();
        if start != Start::Now {
            // What it would see then is not there yet, and neither for those behind it.
            join(&mut of, &[self.name()]);
            join(after, &[self.name()]);
        }
        if step.child.is_some() {
            return self.call(found, after, input, of).await;
        }
        let mut unknown = Vec::new();
        input.unknowns(&mut unknown);
        self.read_unknown(&mut unknown);
        if !unknown.is_empty() {
            let output = self.leave(found, unknown.clone(), "its input is not known yet");
            return Ok(if step.effect == Effect::Pure { Unknown::of_all(unknown) } else { output });
        }
        if !self.only_if.is_empty() && step.effect != Effect::Pure {
            return Ok(self.leave(found, self.only_if.clone(), "whether it runs is not known yet"));
        }
        if step.effect != Effect::Pure && !of.is_empty() {
            return Ok(self.leave(found, of, "it looks after what is only planned"));
        }
        self.look(found, after, input).await
    }

    /// Adds what the expressions read that the node evaluates itself and is not known.
    fn read_unknown(&self, unknown: &mut Vec<Arc<str>>) {
        for (_, template) in &self.one.step.expressions {
            template.unknowns(&self.scope, unknown);
        }
    }

    /// Says when it may start.
    fn start(&self) -> Result<Start, EvalError> {
        let step = &self.one.step;
        let now = self.one.walk.shared.at;
        let value = match (&step.at, &step.delay) {
            (Some(at), _) => at.eval(&self.scope)?,
            (None, Some(delay)) => delay.eval(&self.scope)?,
            (None, None) => return Ok(Start::Now),
        };
        if !value.is_known() {
            return Ok(Start::Unknown);
        }
        let until = match &step.at {
            Some(_) => moment(&value, "at")?,
            None => now.plus(duration(&value, "delay")?),
        };
        Ok(if until > now { Start::At(until) } else { Start::Now })
    }

    /// Runs a pure step or a read.
    async fn look(&mut self, found: &mut Found, after: &mut Vec<Arc<str>>, input: Value) -> Result<Value, StepError> {
        let step = self.one.step.clone();
        let place = self.one.walk.place(self.path.clone());
        let mut costs = Vec::new();
        let paid = step.effect == Effect::PaidRead;
        if paid {
            if let Some(output) = self.one.walk.shared.paid_before(&place) {
                let fingerprint = fingerprint(&output);
                let (node, kept) = (step.node.name().into(), Some(output.clone()));
                found.reads.push(Read { place, node, paid, fingerprint, output: kept, costs, is_question: false });
                return self.until_over(found, after, output);
            }
            if step.into.is_some() {
                return Ok(self.leave(found, Vec::new(), "it costs money, and a plan keeps no rows"));
            }
        }
        let outcome = match self.cached(&input).await {
            Some(output) => Ok(Outcome::Done(output)),
            None => {
                if paid {
                    costs = self.predict(&input).await.map(|prediction| prediction.costs).unwrap_or_default();
                    if !self.one.walk.shared.spend(&costs) {
                        return Ok(self.leave_unpaid(found, costs));
                    }
                }
                self.attempts(&input).await
            }
        };
        let output = match outcome.map_err(|error| self.told(&error))? {
            Outcome::Done(output) | Outcome::Created { output, .. } => output,
            Outcome::Read { output, .. } => {
                self.seeds = false;
                output
            }
            Outcome::Wait { then, .. } => {
                join(after, &[self.name()]);
                return Ok(then);
            }
            Outcome::Ask { .. } => {
                join(after, &[self.name()]);
                return Ok(self.leave(found, vec![self.name()], "people are asked"));
            }
            Outcome::Later { until, reason } => {
                return Err(self.one.walk.error(ErrorClass::Throttled, format!("{reason}, until {until}")));
            }
            Outcome::Child { .. } => {
                return Err(self.one.walk.error(ErrorClass::Bug, "the step has no child pipeline"));
            }
        };
        let output = if step.effect == Effect::Pure { output } else { self.secrets().scan(output) };
        let output = self.stored(output).await?;
        if paid && output.is_tainted() {
            return Ok(self.leave(found, Vec::new(), "what it gave is secret, and no plan keeps that"));
        }
        if step.effect != Effect::Pure {
            let kept = paid.then(|| output.clone());
            let (node, fingerprint) = (step.node.name().into(), self.fingerprint(&output).await?);
            found.reads.push(Read { place, node, paid, fingerprint, output: kept, costs, is_question: false });
        }
        self.until_over(found, after, output)
    }

    /// Returns the output where an `until` holds; else it stays open.
    fn until_over(&self, found: &mut Found, after: &mut Vec<Arc<str>>, output: Value) -> Result<Value, StepError> {
        let Some(until) = &self.one.step.until else { return Ok(output) };
        let mut scope = self.scope.clone();
        scope.locals.push(("output", output.clone()));
        let holds = until
            .holds
            .eval(&scope)
            .map_err(|error| self.one.walk.error(ErrorClass::Invalid, format!("`until`: {}", error.message)))?;
        if holds.is_truthy() && holds.is_known() {
            return Ok(output);
        }
        join(after, &[self.name()]);
        Ok(self.leave(found, vec![self.name()], "`until` does not hold yet"))
    }

    /// Returns the hash of an output; of rows that are kept, of what is in them.
    async fn fingerprint(&self, output: &Value) -> Result<Arc<str>, StepError> {
        let Value::Dataset(dataset) = output else { return Ok(fingerprint(output)) };
        let store = &self.one.walk.shared.ground.parts.store;
        let mut hashes = vec![Value::from(dataset.rows)];
        let mut at = 0;
        while at < dataset.rows {
            let page = u64::try_from(crate::node::ROWS_A_BATCH).unwrap_or(u64::MAX);
            let rows = store.rows(&dataset.id, at, page).await;
            let rows = rows.map_err(|error| self.one.walk.error(ErrorClass::Unavailable, error.to_string()))?;
            at += u64::try_from(rows.len()).unwrap_or(0).max(1);
            hashes.push(Value::from(&*fingerprint(&Value::list(rows))));
        }
        Ok(fingerprint(&Value::list(hashes)))
    }

    fn secrets(&self) -> &dyn crate::engine::SecretSource {
        &*self.one.walk.shared.ground.parts.secrets
    }

    fn told(&self, error: &NodeError) -> StepError {
        self.one.walk.error(error.class, error.text())
    }

    async fn cached(&self, input: &Value) -> Option<Value> {
        let cache = self.one.step.cache.as_ref()?;
        let chosen = match &cache.key {
            Some(key) => key.eval(&self.scope).ok()?,
            None => input.clone(),
        };
        let address = crate::engine::finish::cache_address(self.one.step.node.name(), &chosen);
        let shared = &self.one.walk.shared;
        shared.ground.store.cache_get(&address, shared.ground.parts.system.clock.now()).await.ok().flatten()
    }

    /// Makes a dataset of the rows of a step that says `into`, as the run will.
    async fn stored(&self, output: Value) -> Result<Value, StepError> {
        let Some(name) = self.one.step.into.as_ref().filter(|_| !matches!(output, Value::Dataset(_))) else {
            return Ok(output);
        };
        let rows = rows_of(&output).map_err(|message| self.one.walk.error(ErrorClass::Invalid, message))?;
        let sink = self.sink(name);
        use crate::node::RowSink;
        let appended = async {
            sink.restart().await?;
            for page in rows.chunks(crate::node::ROWS_A_BATCH) {
                sink.append(page.to_vec(), None, None).await?;
            }
            Ok::<_, NodeError>(sink.handle().unwrap_or_default())
        };
        appended.await.map_err(|error| self.told(&error))
    }

    fn sink(&self, name: &Arc<str>) -> DatasetSink {
        let shared = &self.one.walk.shared;
        DatasetSink {
            store: shared.ground.parts.store.clone(),
            run: shared.run,
            fence: shared.ground.fence,
            id: format!("{}/{}", shared.run, self.name()),
            name: name.clone(),
            rows: Arc::default(),
        }
    }

    /// Tries as the step says, as long as that is not for long.
    async fn attempts(&self, input: &Value) -> Result<Outcome, NodeError> {
        let step = &self.one.step;
        let system = &self.one.walk.shared.ground.parts.system;
        let patience = system.clock.now().plus(PATIENCE);
        let mut number = 1;
        loop {
            let result = self.attempt(input.clone(), number).run().await;
            let now = system.clock.now();
            let due = match &result {
                Ok(Outcome::Later { until, .. }) => Some(*until),
                Err(error) if error.attempts.is_none_or(|most| number < most) => {
                    let fraction = system.random.fraction();
                    next_attempt(&step.retry, number, error.class, error.retry_after, fraction, now)
                }
                _ => None,
            };
            let Some(due) = due.filter(|due| *due <= patience) else { return result };
            system.clock.sleep_until(due).await;
            number += 1;
        }
    }

    fn attempt(&self, input: Value, number: u32) -> Attempt {
        let shared = &self.one.walk.shared;
        let now = shared.ground.parts.system.clock.now();
        let key = UnitKey { phase: self.path.phase, step: self.index(), item: self.path.item };
        let doing = Doing::new(self.one.walk.pipeline.clone(), key);
        Attempt {
            parts: shared.ground.parts.clone(),
            run: self.one.walk.run,
            path: self.path.clone(),
            number,
            begun: None,
            declared: self.one.step.effect,
            doing,
            input,
            scope: self.scope.clone(),
            effect: None,
            fence: None,
            deadline: self.one.step.timeout.map(|timeout| now.plus(timeout)),
            canceled: Default::default(),
            log: Log::Quiet,
            into: self.one.step.into.as_ref().map(|name| self.sink(name)),
            keep: Some(shared.ground.keep.clone()),
        }
    }

    fn index(&self) -> usize {
        let graph = self.one.walk.pipeline.graph(self.path.phase);
        graph.index.get(&self.path.step).copied().unwrap_or_default()
    }

    async fn predict(&self, input: &Value) -> Result<Prediction, NodeError> {
        self.attempt(input.clone(), 1).predict().await
    }

    /// Predicts a write.
    async fn write(
        &self,
        found: &mut Found,
        after: &mut Vec<Arc<str>>,
        kind: WriteKind,
        input: Value,
        start: Start,
    ) -> Result<Value, StepError> {
        let step = &self.one.step;
        let place = self.one.walk.place(self.path.clone());
        // What is there after other effects is not what is there now.
        let first = self.one.after.is_empty() && self.only_if.is_empty() && start == Start::Now;
        let prediction = self.predict(&input).await;
        let mut prediction = match prediction {
            Ok(prediction) => prediction,
            Err(error) if error.class == ErrorClass::Bug => Prediction::default(),
            Err(error) => return Err(self.told(&error)),
        };
        if !first {
            prediction.changes.iter_mut().for_each(|change| change.old = Unknown::of(self.one.after.join(", ")));
            prediction.exists = None;
        }
        if prediction.exists.is_some() {
            let seen: Vec<_> =
                prediction.changes.iter().map(|change| (change.field.clone(), change.old.clone())).collect();
            let fingerprint = fingerprint(&Value::map(seen));
            let node = step.node.name().into();
            let place = place.clone();
            let costs = Vec::new();
            found.reads.push(Read { place, node, paid: false, fingerprint, output: None, costs, is_question: true });
        }
        let key = match &step.key {
            Some(key) => {
                let key = key.eval(&self.scope);
                Some(
                    key.map_err(|error| self.one.walk.error(ErrorClass::Invalid, format!("`key`: {}", error.message)))?,
                )
            }
            None => None,
        };
        // What is there now may hold a secret as well as what is sent.
        let scan = |value: Value| self.secrets().scan(value);
        let changes = prediction.changes.into_iter();
        let changes = changes.map(|change| Change { old: scan(change.old), new: scan(change.new), ..change });
        let (changes, key) = (changes.collect::<Vec<_>>(), key.map(scan));
        let output = scan(predicted(prediction.output.as_ref(), &self.source()));
        let name = self.name();
        found.effects.push(PlannedEffect {
            place,
            each: self.each,
            node: step.node.name().into(),
            connection: prediction.connection,
            kind,
            input: self.secrets().scan(input),
            key,
            changes,
            exists: prediction.exists,
            output: output.clone(),
            costs: prediction.costs,
            after: self.one.after.clone(),
            only_if: self.only_if.clone(),
            not_before: if let Start::At(until) = start { Some(until) } else { None },
        });
        join(after, &[name]);
        Ok(output)
    }

    /// Walks over the pipeline that the step calls, or the operation that is made of steps.
    async fn call(
        &self,
        found: &mut Found,
        after: &mut Vec<Arc<str>>,
        input: Value,
        before: Vec<Arc<str>>,
    ) -> Result<Value, StepError> {
        let Some(pipeline) = self.one.step.child.clone() else { return Ok(Value::Null) };
        let outcome = self.attempt(input, 1).run().await.map_err(|error| self.told(&error))?;
        let Outcome::Child { inputs, .. } = outcome else {
            return Err(self.one.walk.error(ErrorClass::Bug, "the step calls nothing"));
        };
        let inputs = if pipeline.composite || !inputs.is_known() {
            inputs
        } else {
            let invalid = |problems: Vec<String>| self.one.walk.error(ErrorClass::Invalid, problems.join("; "));
            check_values(&pipeline, inputs).map_err(invalid)?
        };
        let given = inputs.clone();
        let mut below = self.one.walk.below(pipeline.clone(), inputs, self.path.clone(), self.one.step.until.is_some());
        below.after = before;
        below.only_if.clone_from(&self.only_if);
        below.each = self.each;
        let walked = Arc::new(below).whole().await;
        let parts = &self.one.walk.shared.ground.parts;
        let effects = &walked.found.effects;
        let judged = super::guard::judge(&pipeline.guards_plan, effects, &given, parts, self.one.walk.shared.at);
        if let Some(message) = Judged::refusal(&judged) {
            // What it refuses is not in the plan, whatever becomes of the failure.
            return Err(self.one.walk.error(ErrorClass::Rejected, message));
        }
        found.take(walked.found);
        join(after, &walked.after);
        if let Some((_, error)) = walked.failure {
            return Err(error);
        }
        Ok(match pipeline.composite {
            true => walked.outputs.get(COMPOSITE_OUTPUT).cloned().unwrap_or_default(),
            false => walked.outputs,
        })
    }
}
