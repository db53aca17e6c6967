//! Doing what the machine asks: prepare a step, start an attempt, settle a doubt, close the main part.

use std::sync::Arc;

use super::attempt::Attempt;
use super::attempt::Log;
use super::attempt::run_rest;
use super::claim::Claim;
use super::driver::Driver;
use super::finish::AttemptEnd;
use super::finish::Done;
use super::ledger;
use super::machine::Task;
use super::machine::UnitKey;
use super::probe::Point;
use crate::model::Effect;
use crate::model::EffectId;
use crate::model::EffectIntent;
use crate::model::ErrorClass;
use crate::model::InDoubt;
use crate::model::Phase;
use crate::model::SettledBy;
use crate::model::StepError;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::Verdict;
use crate::model::WriteKind;
use crate::node::Called;
use crate::node::EffectContext;
use crate::node::Node;
use crate::pipeline::Cache;
use crate::pipeline::Guard;
use crate::pipeline::Pipeline;
use crate::pipeline::Retry;
use crate::pipeline::Step;
use crate::pipeline::Undo;
use crate::template::EvalError;
use crate::template::Scope;
use crate::template::Template;
use crate::template::TemplateTree;

/// An attempt that begins so soon behind the evaluation of its input begins at that moment.
const SAME_MOMENT: crate::model::Duration = crate::model::Duration::from_secs(1);

/// What a step run runs: the step's own node, or its undo's. Borrowed from the pipeline, so it costs nothing.
#[derive(Clone, Debug)]
pub(super) struct Doing {
    pipeline: Arc<Pipeline>,
    key: UnitKey,
}

impl Doing {
    pub(super) fn new(pipeline: Arc<Pipeline>, key: UnitKey) -> Self {
        Self { pipeline, key }
    }

    fn step(&self) -> &Step {
        let graph = self.pipeline.graph(self.key.phase);
        graph.steps.get(self.key.step).expect("a key's step comes from the same pipeline")
    }

    fn undo(&self) -> Option<&Undo> {
        self.step().undo.as_deref().filter(|_| self.key.phase == Phase::Undo)
    }

    pub(super) fn node(&self) -> &Arc<dyn Node> {
        self.undo().map_or(&self.step().node, |undo| &undo.node)
    }

    pub(super) fn effect(&self) -> Effect {
        self.undo().map_or(self.step().effect, |undo| undo.effect)
    }

    /// What runs as a child: a pipeline, or the steps of an operation. An undo that there is not is the child's own.
    pub(super) fn child(&self) -> Option<&Arc<Pipeline>> {
        match self.undo() {
            Some(undo) => undo.child.as_ref(),
            None => self.step().child.as_ref(),
        }
    }

    /// Tells whether it is a child run of the project's own, and not the steps of an operation.
    pub(super) fn is_child(&self) -> bool {
        self.undo().is_none() && self.step().child.as_ref().is_some_and(|child| !child.composite)
    }

    pub(super) fn with(&self) -> &TemplateTree {
        self.undo().map_or(&self.step().with, |undo| &undo.with)
    }

    pub(super) fn expressions(&self) -> &[(&'static str, Template)] {
        self.undo().map_or(&self.step().expressions, |undo| &undo.expressions)
    }

    /// The operations that the node calls by itself.
    pub(super) fn calls(&self) -> &[Called] {
        self.undo().map_or(&self.step().calls, |undo| &undo.calls)
    }

    pub(super) fn retry(&self) -> &Retry {
        self.undo().map_or(&self.step().retry, |undo| &undo.retry)
    }

    fn timeout(&self) -> Option<crate::model::Duration> {
        self.undo().map_or(self.step().timeout, |undo| undo.timeout)
    }

    /// How long the answer to a write may take.
    fn write_timeout(&self, input: &Value) -> crate::model::Duration {
        self.timeout().unwrap_or_else(|| self.node().settlement(input).timeout)
    }
}

impl Driver {
    pub(super) fn perform(&mut self, task: &Task) {
        match *task {
            Task::Prepare { phase, step } => {
                if let Err(error) = self.prepare(phase, step) {
                    let error = self.step_error(ErrorClass::Invalid, error.message);
                    self.machine.fail_step(phase, step, error, self.now());
                }
            }
            Task::Run(key) => self.run(key),
            Task::Settle(key) => self.settle(key),
            Task::Conclude => {
                let result = self.conclude();
                self.machine.conclude(result, self.now());
                self.refresh_globals();
            }
        }
    }

    /// Fails the run at its start when a guard does not hold.
    pub(super) fn check_guards_before(&mut self) {
        let fresh = self.machine.phase() == Phase::Main && self.machine.outcome().is_none();
        if !fresh || self.machine.finished().is_some() {
            return;
        }
        let pipeline = self.pipeline.clone();
        if let Err(error) = self.check_guards(&pipeline.guards_before) {
            self.machine.refuse(error, self.now());
        }
    }

    fn check_guards(&self, guards: &[Guard]) -> Result<(), StepError> {
        check_guards(guards, &self.scope(Vec::new()), |class, message| self.step_error(class, message))
    }

    fn conclude(&mut self) -> Result<Value, StepError> {
        if self.machine.is_halting() {
            return Ok(Value::Null);
        }
        let pipeline = self.pipeline.clone();
        self.check_guards(&pipeline.guards_after)?;
        let scope = self.scope(Vec::new());
        let mut outputs = crate::model::Map::new();
        for (name, tree) in &pipeline.outputs {
            let value = tree
                .eval(&scope)
                .map_err(|error| self.step_error(ErrorClass::Invalid, format!("output `{name}`: {}", error.message)))?;
            outputs.insert(name.clone(), value);
        }
        Ok(Value::from(outputs))
    }

    fn prepare(&mut self, phase: Phase, step: usize) -> Result<(), EvalError> {
        let pipeline = self.pipeline.clone();
        let Some(definition) = pipeline.graph(phase).steps.get(step) else { return Ok(()) };
        if definition.when.is_none() && definition.for_each.is_none() {
            self.machine.begin_step(phase, step);
            return Ok(());
        }
        let scope = self.scope(Vec::new());
        if let Some(when) = &definition.when
            && !when.eval(&scope)?.is_truthy()
        {
            self.machine.skip_step(phase, step, "`when` is false", self.now());
            return Ok(());
        }
        let Some(for_each) = &definition.for_each else {
            self.machine.begin_step(phase, step);
            return Ok(());
        };
        match for_each.eval(&scope)? {
            items @ Value::List(_) => self.machine.begin_items(phase, step, items, self.now()),
            Value::Dataset(dataset) => {
                let store = self.parts().store.clone();
                let key = UnitKey { phase, step, item: None };
                self.jobs.spawn(async move { (key, Done::Rows(store.rows(&dataset.id, 0, dataset.rows).await)) });
            }
            other => {
                let message = format!("`for_each` gives {}, expected a list", other.kind().name());
                return Err(EvalError { message });
            }
        }
        Ok(())
    }

    pub(super) fn doing(&self, key: UnitKey) -> Doing {
        Doing { pipeline: self.pipeline.clone(), key }
    }

    /// Makes the scope of a step run: the run's roots and its own.
    pub(super) fn unit_scope(&self, key: UnitKey) -> Scope {
        let mut locals = Vec::new();
        if let Some(item) = key.item {
            locals.push(("item", self.machine.item(key).unwrap_or_default()));
            locals.push(("index", Value::from(item)));
        }
        if key.phase == Phase::Undo {
            let undone = UnitKey { phase: Phase::Main, ..key };
            locals.push(("output", self.machine.output(undone)));
            // An undo that an operation declares reads what the operation was given.
            locals.push(("input", self.given(undone)));
        } else if key.item.is_some() || self.machine.definition(key).until.is_some() {
            locals.push(("previous", self.machine.previous(key).unwrap_or_default()));
        }
        self.scope(locals)
    }

    /// Returns what an operation was given that has ended: a write's request, or, of one of several steps, what its `with`
    /// comes to.
    fn given(&self, key: UnitKey) -> Value {
        if let Some(intent) = self.machine.intent(key) {
            return intent.request.clone();
        }
        let step = self.machine.definition(key);
        let composite = step.child.as_ref().is_some_and(|child| child.composite);
        let given = composite.then(|| step.with.eval(&self.unit_scope(key)).ok()).flatten();
        given.unwrap_or_default()
    }

    pub(super) fn run(&mut self, key: UnitKey) {
        let now = self.now();
        let scope = self.unit_scope(key);
        if let Err(error) = self.try_run(key, scope, now) {
            let error = self.step_error(ErrorClass::Invalid, error.message);
            self.give_up(key, now, error);
        }
    }

    fn try_run(&mut self, key: UnitKey, scope: Scope, now: Timestamp) -> Result<(), EvalError> {
        if self.machine.asks(key).is_some() {
            self.lapse(key, now);
            return Ok(());
        }
        if key.phase != Phase::Undo
            && !self.machine.has_slept(key)
            && let Some((until, reason)) = self.not_before(key, &scope, now)?
        {
            self.machine.sleep(key, Some(until), reason, None, now);
            return Ok(());
        }
        if !self.permitted(key, &scope)? {
            return Ok(());
        }
        let doing = self.doing(key);
        let undoes_child = key.phase == Phase::Undo && self.machine.definition(key).undo.is_none();
        if doing.child().is_some() && (self.machine.child(key).is_some() || undoes_child) {
            self.resume_child(key);
            return Ok(());
        }
        let scope = self.as_it_was(key, scope);
        // What was intended once is sent exactly as it was stored.
        let input = match self.machine.intent(key) {
            Some(intent) => intent.request.clone(),
            None => {
                let input = doing.with().eval(&scope)?;
                match self.bond.as_ref().filter(|_| doing.effect().is_write()) {
                    None => input,
                    Some(bond) => match bond.input_of(&self.machine.path(key), doing.node().name(), input) {
                        Ok(input) => input,
                        Err(message) => {
                            let error = self.step_error(ErrorClass::Rejected, message);
                            self.machine.fail(key, now, error.clone(), None, now);
                            // The run as a whole is another than planned.
                            self.machine.halt(error, now);
                            return Ok(());
                        }
                    },
                }
            }
        };
        if let Some(cache) = self.machine.definition(key).cache.clone() {
            return self.look_up_cache(key, doing, input, scope, &cache);
        }
        self.begin(key, doing, input, scope)
    }

    /// Moves the scope of an attempt to the time that a recording says.
    fn as_it_was(&self, key: UnitKey, scope: Scope) -> Scope {
        let Some(tape) = self.parts().tape.tape() else { return scope };
        let begun = self.machine.attempts_begun(key);
        match tape.moment(self.run, &self.machine.path(key), begun + 1) {
            Some(now) => Scope { now, ..scope },
            None => scope,
        }
    }

    /// Returns until when `at` and `delay` make a step run wait, and which of them.
    fn not_before(
        &self,
        key: UnitKey,
        scope: &Scope,
        now: Timestamp,
    ) -> Result<Option<(Timestamp, &'static str)>, EvalError> {
        let step = self.machine.definition(key);
        let mut until = None;
        if let Some(at) = &step.at {
            until = Some((moment(&at.eval(scope)?, "at")?, "`at`"));
        } else if let Some(delay) = &step.delay {
            until = Some((now.plus(duration(&delay.eval(scope)?, "delay")?), "`delay`"));
        }
        Ok(until.filter(|(until, _)| *until > now))
    }

    fn look_up_cache(
        &mut self,
        key: UnitKey,
        doing: Doing,
        input: Value,
        scope: Scope,
        cache: &Cache,
    ) -> Result<(), EvalError> {
        let chosen = cache.key.as_ref().map(|template| template.eval(&scope)).transpose()?;
        let address = super::finish::cache_address(doing.node().name(), chosen.as_ref().unwrap_or(&input));
        let (store, now) = (self.parts().store.clone(), self.now());
        self.jobs.spawn(async move {
            let found = store.cache_get(&address, now).await;
            (key, Done::Cache(found, Box::new((doing, input, scope))))
        });
        Ok(())
    }

    /// Starts an attempt.
    pub(super) fn start(&mut self, key: UnitKey, doing: Doing, input: Value, scope: Scope) -> Result<(), EvalError> {
        // One moment for what it evaluates and when it begins, so that a replay can name it.
        let now = self.now();
        let started = if now.since(scope.now) < SAME_MOMENT { scope.now } else { now };
        let visible = doing.effect() != Effect::Pure;
        let number = self.machine.start_attempt(key, visible, started);
        let begun = self.machine.begun(key).map(|begun| begun.number);
        let mut effect = None;
        let mut deadline = doing.timeout().map(|timeout| started.plus(timeout));
        let mut send_within = None;
        if let Effect::Write(kind) = doing.effect() {
            let intent = self.intent(key, kind, &doing, &input, &scope, started)?;
            deadline = Some(intent.answer_before);
            send_within = Some(self.parts().system.clock.monotonic().plus(self.parts().send_window));
            effect = Some(EffectContext {
                id: intent.id.clone(),
                key: intent.key.clone(),
                started_at: self.machine.first_intended(key).unwrap_or(started),
                send_within,
                doubted: self.machine.is_unproven(key),
            });
            self.machine.intend(key, intent, started);
        }
        let deadline = [deadline, self.must_end().filter(|_| key.phase == Phase::Main)].into_iter().flatten().min();
        let attempt = Attempt {
            parts: self.parts().clone(),
            run: self.run,
            path: self.machine.path(key),
            number,
            begun,
            declared: doing.effect(),
            doing,
            input,
            scope,
            effect,
            fence: Some(self.fence),
            deadline,
            canceled: if key.phase == Phase::Main { self.canceled.clone() } else { Default::default() },
            log: Log::Journal(self.log_sink(key)),
            into: self.sink(key),
            keep: None,
        };
        match (attempt.declared, send_within) {
            (Effect::Pure, _) => self.run_pure(key, started, attempt),
            (_, Some(send_within)) => self.run_write(key, started, attempt, send_within),
            // The intent of a paid read is durable before it is asked: it shows in `step_started`.
            (Effect::PaidRead, None) => {
                self.flush();
                let journal = self.journal.clone();
                self.jobs.spawn(async move {
                    if let Err(error) = journal.commit().await {
                        return (key, Done::Failed(error));
                    }
                    attempt.parts.probe.tell(|| Point::Sending(attempt.path.clone()));
                    (key, Done::Attempt(started, AttemptEnd::Node(attempt.run().await)))
                });
            }
            _ => {
                self.jobs.spawn(async move { (key, Done::Attempt(started, AttemptEnd::Node(attempt.run().await))) });
            }
        }
        Ok(())
    }

    fn run_pure(&mut self, key: UnitKey, started: Timestamp, attempt: Attempt) {
        let (canceled, deadline) = (attempt.canceled.clone(), attempt.deadline);
        let clock = self.parts().system.clock.clone();
        match attempt.run_inline() {
            Ok(result) => self.ended(key, started, AttemptEnd::Node(result)),
            Err(rest) => {
                self.jobs.spawn(async move {
                    (key, Done::Attempt(started, AttemptEnd::Node(run_rest(rest, canceled, clock, deadline).await)))
                });
            }
        }
    }

    fn run_write(&mut self, key: UnitKey, started: Timestamp, attempt: Attempt, send_within: crate::model::Duration) {
        let send_before = started.plus(self.parts().send_window);
        self.flush();
        let journal = self.journal.clone();
        let clock = self.parts().system.clock.clone();
        self.jobs.spawn(async move {
            if let Err(error) = journal.commit().await {
                return (key, Done::Failed(error));
            }
            // Checked on the monotonic clock, right before the first byte: later, somebody may already be asking
            // whether it happened. On the wall clock, too: the other one stands still while a machine sleeps.
            if clock.monotonic() > send_within || clock.now() > send_before {
                return (key, Done::Attempt(started, AttemptEnd::Expired));
            }
            attempt.parts.probe.tell(|| Point::Sending(attempt.path.clone()));
            (key, Done::Attempt(started, AttemptEnd::Node(attempt.run().await)))
        });
    }

    fn intent(
        &self,
        key: UnitKey,
        kind: WriteKind,
        doing: &Doing,
        input: &Value,
        scope: &Scope,
        now: Timestamp,
    ) -> Result<EffectIntent, EvalError> {
        let send_before = now.plus(self.parts().send_window);
        let settlement = doing.node().settlement(input);
        let answer_before = send_before.plus(doing.timeout().unwrap_or(settlement.timeout));
        if let Some(intent) = self.machine.intent(key) {
            return Ok(EffectIntent { send_before, answer_before, ..intent.clone() });
        }
        let generation = self.machine.generation(key);
        let again = if generation > 0 { format!("~{generation}") } else { String::new() };
        let id = EffectId(format!("{}/{}{again}", self.run, self.machine.path(key)).into());
        let template = self.machine.definition(key).key.as_ref().filter(|_| key.phase != Phase::Undo);
        let key = match template {
            Some(template) => template.eval(scope)?.to_text().into(),
            None => id.0.clone(),
        };
        let fingerprint = settlement.reconcile.then(|| fingerprint(doing.node().name(), input));
        Ok(EffectIntent { id, key, kind, request: input.clone(), send_before, answer_before, fingerprint })
    }

    fn settle(&mut self, key: UnitKey) {
        let now = self.now();
        let doing = self.doing(key);
        let Some(intent) = self.machine.intent(key).cloned() else { return };
        let step = self.machine.definition(key);
        let phase_drops = matches!(key.phase, Phase::OnFailure | Phase::Finally) && step.in_doubt == InDoubt::Hold;
        let mut settlement = doing.node().settlement(&intent.request);
        settlement.timeout = doing.timeout().unwrap_or(settlement.timeout);
        let doubt = ledger::Doubt {
            settlement,
            policy: if phase_drops { InDoubt::Drop } else { step.in_doubt },
            first_intended: self.machine.first_intended(key).unwrap_or(now),
            send_before: intent.send_before,
            resent: self.machine.resent(key),
        };
        let due = intent.send_before.plus(ledger::pause(doubt.resent));
        match ledger::decide(&doubt, now) {
            ledger::Next::Repeat | ledger::Next::Resend if doubt.resent > 0 && now < due => {
                self.machine.hold(key, Some(due));
            }
            ledger::Next::Repeat => self.machine.settle(key, SettledBy::Repeat, Verdict::SendAgain, now),
            ledger::Next::Resend => self.machine.settle(key, SettledBy::Policy, Verdict::SendAgain, now),
            ledger::Next::Drop => self.machine.settle(key, SettledBy::Policy, Verdict::Dropped, now),
            ledger::Next::Hold => self.machine.hold(key, None),
            ledger::Next::Ask { not_before } if now < not_before => self.machine.hold(key, Some(not_before)),
            ledger::Next::Ask { .. } => self.ask(key, doing, &intent, now),
        }
    }

    fn ask(&mut self, key: UnitKey, doing: Doing, intent: &EffectIntent, now: Timestamp) {
        let timeout = doing.write_timeout(&intent.request);
        let attempt = Attempt {
            parts: self.parts().clone(),
            run: self.run,
            path: self.machine.path(key),
            number: 1,
            begun: None,
            declared: Effect::Read,
            doing,
            input: intent.request.clone(),
            scope: self.unit_scope(key),
            fence: None,
            effect: Some(EffectContext {
                id: intent.id.clone(),
                key: intent.key.clone(),
                started_at: self.machine.first_intended(key).unwrap_or(now),
                send_within: None,
                doubted: true,
            }),
            deadline: Some(now.plus(timeout)),
            canceled: Default::default(),
            log: Log::Journal(self.log_sink(key)),
            into: None,
            keep: None,
        };
        let (store, journal, run, fence) = (self.parts().store.clone(), self.journal.clone(), self.run, self.fence);
        let (effect, fingerprint) = (intent.id.clone(), intent.fingerprint.clone());
        self.jobs.spawn(async move {
            // The remote objects of effects that were answered meanwhile must be known as theirs.
            if let Err(error) = journal.commit().await {
                return (key, Done::Failed(error));
            }
            let scope = attempt.doing.node().name().to_owned();
            let clock = attempt.parts.system.clock.clone();
            let fingerprint = fingerprint.as_deref();
            let claim = Claim { store: &store, run, fence, effect: &effect, scope: &scope, fingerprint };
            let answer = attempt.reconcile().await;
            (key, Done::Asked(claim.of(answer, clock.now()).await))
        });
    }
}

/// Checks conditions, and says of the first that does not hold why.
pub(super) fn check_guards(
    guards: &[Guard],
    scope: &Scope,
    error: impl Fn(ErrorClass, String) -> StepError,
) -> Result<(), StepError> {
    for guard in guards {
        let holds = guard.that.eval(scope).map_err(|fault| error(ErrorClass::Invalid, fault.message))?;
        if !holds.is_truthy() {
            return Err(error(ErrorClass::Rejected, format!("guard does not hold: {}", guard.said())));
        }
    }
    Ok(())
}

/// Returns a text that is equal for writes that the remote cannot tell apart. Secrets count as equal: a fingerprint
/// lies in the store in clear, and a wrong match only costs a pause.
fn fingerprint(node: &str, input: &Value) -> std::sync::Arc<str> {
    super::finish::hash(&format!("{node}\n{input}")).into()
}

/// Reads a moment: a time, or an RFC 3339 text.
pub(super) fn moment(value: &Value, key: &str) -> Result<Timestamp, EvalError> {
    match value {
        Value::Time(time) => Ok(*time),
        Value::String(text) => text.parse().map_err(|error| EvalError { message: format!("`{key}`: {error}") }),
        other => Err(EvalError { message: format!("`{key}`: expected a moment, found {}", other.kind().name()) }),
    }
}

/// Reads a length of time: a duration, or a text such as `90s`.
pub(super) fn duration(value: &Value, key: &str) -> Result<crate::model::Duration, EvalError> {
    match value {
        Value::Duration(duration) => Ok(*duration),
        Value::String(text) => text.parse().map_err(|error| EvalError { message: format!("`{key}`: {error}") }),
        other => Err(EvalError { message: format!("`{key}`: expected a duration, found {}", other.kind().name()) }),
    }
}
