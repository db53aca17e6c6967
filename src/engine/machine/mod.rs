//! The run as a pure machine: facts go in, events and tasks come out. No I/O, no clock, no chance.
//!
//! Every change of state is one call of `apply` with one event, live as in replay, so a run that is rebuilt from its
//! journal stands where the live one stood. What is not journaled (which step runs are under way in this process, what
//! is held for a person) is found again by `resume`.

mod apply;
mod ask;
mod phase;
mod retry;
mod state;
mod view;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

pub(super) use self::state::Begun;
pub(super) use self::state::Child;
use self::state::StepRecord;
pub use self::state::Task;
use self::state::Unit;
pub use self::state::UnitKey;
use self::state::UnitState;
use self::state::Work;
use crate::model::EffectIntent;
use crate::model::Happened;
use crate::model::Phase;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::SettledBy;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::StepState;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::Verdict;
use crate::pipeline::Graph;
use crate::pipeline::Pipeline;
use crate::pipeline::Step;

/// A run of a pipeline.
#[derive(Debug)]
pub struct Machine {
    pipeline: Arc<Pipeline>,
    main: Part,
    on_failure: Part,
    finally: Part,
    undo: Undoing,
    phase: Phase,
    /// What could be done now, by priority, the highest last.
    ready: [VecDeque<Task>; 10],
    /// Sleepers by the time they wake; the number keeps order among equals.
    timers: BTreeMap<(Timestamp, u64), UnitKey>,
    timer_count: u64,
    flying: usize,
    /// How many of those that fly are executed elsewhere.
    away: usize,
    /// Steps that can no longer run, to be canceled by events.
    blocked: VecDeque<(Phase, usize)>,
    /// Steps that have ended since `take_ended` was called.
    ended: Vec<(Phase, usize)>,
    events: Vec<RunEvent>,
    /// How many events the journal has, with those that are still to be appended.
    length: u64,
    halt: Option<Halt>,
    /// State and error of the main part, once it is clear.
    outcome: Option<(RunState, Option<StepError>)>,
    outputs: Value,
    concluding: bool,
    finished: Option<RunState>,
    /// Why nothing goes on without a person.
    held: Option<String>,
    /// Error of the step that failed for good first.
    first_error: Option<StepError>,
    irreversible: Option<Arc<str>>,
    started: bool,
    /// What a plan binds the run to, as the journal has it.
    bond: Option<Value>,
}

/// The steps of one phase.
#[derive(Debug, Default)]
struct Part {
    steps: Vec<StepRecord>,
    dependents: Vec<Vec<usize>>,
    remaining: usize,
}

/// The compensations of a run, in the order in which they are done.
#[derive(Debug, Default)]
struct Undoing {
    /// Succeeded step runs that have an `undo`, in order of completion.
    completed: Vec<UnitKey>,
    queue: Vec<UnitKey>,
    next: usize,
    units: HashMap<UnitKey, Unit>,
}

/// Why no further step starts.
#[derive(Clone, Debug)]
enum Halt {
    Cancel { undo: bool, reason: Option<Arc<str>> },
    Failure(StepError),
}

impl Machine {
    /// Makes a new run.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        let mut machine = Self {
            main: Part::new(&pipeline.main),
            on_failure: Part::new(&pipeline.on_failure),
            finally: Part::new(&pipeline.finally),
            pipeline,
            undo: Undoing::default(),
            phase: Phase::Main,
            ready: std::array::from_fn(|_| VecDeque::new()),
            timers: BTreeMap::new(),
            timer_count: 0,
            flying: 0,
            away: 0,
            blocked: VecDeque::new(),
            ended: Vec::new(),
            events: Vec::new(),
            length: 0,
            halt: None,
            outcome: None,
            outputs: Value::Null,
            concluding: false,
            finished: None,
            held: None,
            first_error: None,
            irreversible: None,
            started: false,
            bond: None,
        };
        machine.enter_phase(Phase::Main);
        machine
    }

    /// Rebuilds a run from its journal. Call `resume` before asking for tasks.
    #[must_use]
    pub fn replay(pipeline: Arc<Pipeline>, journal: &[RunEvent]) -> Self {
        let mut machine = Self::new(pipeline);
        for event in journal {
            machine.apply(event);
        }
        machine
    }

    /// Begins the run, or goes on with it: step runs without an answer are ready again, writes without one are in doubt.
    pub fn resume(&mut self, now: Timestamp) {
        if self.finished.is_some() {
            return;
        }
        self.held = None;
        self.record(RunEvent::Started { at: now });
        self.started = true;
        self.requeue(now);
        self.settle_blocked(now);
    }

    /// Takes over what is known of the run already: a plan has found it out.
    pub fn adopt(&mut self, events: Vec<RunEvent>, now: Timestamp) {
        for event in events {
            let items = match &event {
                RunEvent::Items { step, .. } => self.key(step),
                _ => None,
            };
            self.record(event);
            if let Some(key) = items {
                self.queue_items(key.phase, key.step);
            }
        }
        self.settle_blocked(now);
    }

    /// Returns what a plan binds the run to.
    #[must_use]
    pub fn bond(&self) -> Option<&Value> {
        self.bond.as_ref()
    }

    /// Takes the next thing to do, if there is one that may be done now.
    pub fn next_task(&mut self) -> Option<Task> {
        if self.finished.is_some() || self.held.is_some() {
            return None;
        }
        for priority in (0..self.ready.len()).rev() {
            for _ in 0..self.ready.get(priority).map_or(0, VecDeque::len) {
                let Some(task) = self.ready.get_mut(priority).and_then(VecDeque::pop_front) else { break };
                match self.admit(priority, task) {
                    Admission::Now(task) => return Some(task),
                    Admission::Dropped => {}
                    Admission::Full(task) => {
                        if let Some(queue) = self.ready.get_mut(priority) {
                            queue.push_front(task);
                        }
                        return None;
                    }
                }
            }
        }
        self.conclusion()
    }

    /// Wakes whoever is due. Step runs that end by waking end here.
    pub fn wake(&mut self, now: Timestamp) {
        while let Some((&(until, number), &key)) = self.timers.first_key_value() {
            if until > now {
                break;
            }
            self.timers.remove(&(until, number));
            let Some(unit) = self.unit_mut(key) else { continue };
            if let UnitState::InDoubt { held: false } = unit.state {
                self.make_ready(key);
                continue;
            }
            let UnitState::Asleep { until: Some(expected), then } = &mut unit.state else { continue };
            if *expected > now {
                continue;
            }
            let (then, attempt) = (then.take(), unit.attempt.max(1));
            match then {
                Some(output) => {
                    let path = self.path(key);
                    self.record(RunEvent::Succeeded { path, attempt, started: now, at: now, output, recovered: None });
                }
                None => self.make_ready(key),
            }
        }
        self.settle_blocked(now);
    }

    /// Returns when the next sleeper wakes.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.timers.first_key_value().map(|((until, _), _)| *until)
    }

    /// Takes the events that are to be journaled.
    pub fn take_events(&mut self) -> Vec<RunEvent> {
        std::mem::take(&mut self.events)
    }

    /// Takes the steps that have ended, for those who read `steps.ID`.
    pub fn take_ended(&mut self) -> Vec<(Phase, usize)> {
        std::mem::take(&mut self.ended)
    }

    /// The step does not run: its `when` is false.
    pub fn skip_step(&mut self, phase: Phase, step: usize, reason: &str, now: Timestamp) {
        let path = self.path(UnitKey { phase, step, item: None });
        self.record(RunEvent::Skipped { path: StepPath { round: None, ..path }, at: now, reason: reason.into() });
        self.settle_blocked(now);
    }

    /// The step is prepared: it has no `for_each`, and may run.
    pub fn begin_step(&mut self, phase: Phase, step: usize) {
        let key = UnitKey { phase, step, item: None };
        self.ensure_single(key);
        self.make_ready(key);
    }

    /// The step is prepared: these are the items of its `for_each`.
    pub fn begin_items(&mut self, phase: Phase, step: usize, items: Value, now: Timestamp) {
        let path = StepPath { round: None, ..self.path(UnitKey { phase, step, item: None }) };
        self.record(RunEvent::Items { step: path, items, at: now });
        self.queue_items(phase, step);
        self.settle_blocked(now);
    }

    /// The step cannot be prepared: `when` or `for_each` has no value.
    pub fn fail_step(&mut self, phase: Phase, step: usize, error: StepError, now: Timestamp) {
        let key = UnitKey { phase, step, item: None };
        self.ensure_single(key);
        self.record(RunEvent::Failed {
            path: self.path(key),
            attempt: 1,
            started: now,
            at: now,
            error: Box::new(error),
            happened: Happened::No,
            retry_at: None,
        });
        self.settle_blocked(now);
    }

    /// Counts an attempt and, where it is to be seen, records that it began. Returns its number.
    pub fn start_attempt(&mut self, key: UnitKey, recorded: bool, now: Timestamp) -> u32 {
        let Some(unit) = self.unit_mut(key) else { return 1 };
        let attempt = unit.attempt + 1;
        if recorded {
            let path = self.path(key);
            self.record(RunEvent::StepStarted { path, attempt, at: now });
        } else {
            unit.attempt = attempt;
        }
        attempt
    }

    /// A write is about to leave.
    pub fn intend(&mut self, key: UnitKey, intent: EffectIntent, now: Timestamp) {
        let (path, attempt) = self.path_and_attempt(key);
        self.record(RunEvent::Intent { path, attempt, intent: Box::new(intent), at: now });
    }

    /// A step run ended well.
    pub fn succeed(
        &mut self,
        key: UnitKey,
        started: Timestamp,
        output: Value,
        recovered: Option<StepError>,
        now: Timestamp,
    ) {
        let (path, attempt) = self.path_and_attempt(key);
        let recovered = recovered.map(Box::new);
        self.record(RunEvent::Succeeded { path, attempt, started, at: now, output, recovered });
        self.settle_blocked(now);
    }

    /// A round of an `until` ended and the next one is due at `until`.
    pub fn next_round(&mut self, key: UnitKey, started: Timestamp, output: Value, until: Timestamp, now: Timestamp) {
        let (path, attempt) = self.path_and_attempt(key);
        self.record(RunEvent::Round { path, attempt, started, at: now, output, until });
    }

    /// An attempt failed; for good when there is no `retry_at`.
    pub fn fail(
        &mut self,
        key: UnitKey,
        started: Timestamp,
        error: StepError,
        retry_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        self.failed(key, started, error, Happened::No, retry_at, now);
    }

    /// The answer to a paid read is lost: it counts as spent, and only with a `retry_at` it is asked again.
    pub fn lose(
        &mut self,
        key: UnitKey,
        started: Timestamp,
        error: StepError,
        retry_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        self.failed(key, started, error, Happened::Perhaps, retry_at, now);
    }

    fn failed(
        &mut self,
        key: UnitKey,
        started: Timestamp,
        error: StepError,
        happened: Happened,
        retry_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        let (path, attempt) = self.path_and_attempt(key);
        self.record(RunEvent::Failed { path, attempt, started, at: now, error: Box::new(error), happened, retry_at });
        self.settle_blocked(now);
    }

    /// Nothing was sent: the attempt is made again at `until` and does not count, so it is recorded under the number before
    /// its own.
    pub fn postpone(&mut self, key: UnitKey, started: Timestamp, reason: StepError, until: Timestamp, now: Timestamp) {
        let (path, attempt) = self.path_and_attempt(key);
        let (attempt, error, happened) = (attempt.saturating_sub(1), Box::new(reason), Happened::No);
        self.record(RunEvent::Failed { path, attempt, started, at: now, error, happened, retry_at: Some(until) });
        self.settle_blocked(now);
    }

    /// A step run sleeps.
    pub fn sleep(&mut self, key: UnitKey, until: Option<Timestamp>, reason: &str, then: Option<Value>, now: Timestamp) {
        let path = self.path(key);
        self.record(RunEvent::Waiting { path, at: now, until, reason: reason.into(), then });
        self.settle_blocked(now);
    }

    /// A step run that sleeps without a time goes on: what it waited for is there.
    pub fn awaken(&mut self, key: UnitKey) {
        let sleeps = self.unit_mut(key).map(|unit| &unit.state);
        if sleeps == Some(&UnitState::Asleep { until: None, then: None }) {
            self.make_ready(key);
        }
    }

    /// A write's answer was lost.
    pub fn doubt(&mut self, key: UnitKey, error: StepError, now: Timestamp) {
        let Some(effect) = self.intent(key).map(|intent| intent.id.clone()) else { return };
        let path = self.path(key);
        self.record(RunEvent::InDoubt { path, effect, at: now, error: Box::new(error) });
        self.settle_blocked(now);
    }

    /// A doubt was settled.
    pub fn settle(&mut self, key: UnitKey, by: SettledBy, verdict: Verdict, now: Timestamp) {
        let Some(effect) = self.intent(key).map(|intent| intent.id.clone()) else { return };
        let path = self.path(key);
        self.record(RunEvent::Settled { path, effect, at: now, by, verdict: Box::new(verdict) });
        self.settle_blocked(now);
    }

    /// Nothing can be found out about a doubt before `until`, or, without it, without a person.
    pub fn hold(&mut self, key: UnitKey, until: Option<Timestamp>) {
        self.land(key);
        if let Some(unit) = self.unit_mut(key) {
            unit.state = UnitState::InDoubt { held: until.is_none() };
        }
        if let Some(until) = until {
            self.set_timer(key, until);
        }
    }

    /// Counts a question to the remote that brought no answer; returns how many there were.
    pub fn count_question(&mut self, key: UnitKey) -> u32 {
        let Some(unit) = self.unit_mut(key) else { return 0 };
        let rare = unit.rare();
        rare.questions += 1;
        rare.questions
    }

    /// Compensates a run that had succeeded: its parent is being undone.
    pub fn undo_all(&mut self, now: Timestamp) {
        if self.phase == Phase::Main {
            let message = "the parent run is undone".to_owned();
            let error = Box::new(StepError { class: crate::model::ErrorClass::Canceled, message });
            self.finished = None;
            self.record(RunEvent::PhaseStarted {
                phase: Phase::Undo,
                at: now,
                state: RunState::Canceled,
                error: Some(error),
            });
        }
    }

    /// A child run was started for the step run.
    pub fn start_child(&mut self, key: UnitKey, run: RunId, now: Timestamp) {
        let path = self.path(key);
        self.record(RunEvent::Child { path, run, at: now });
    }

    /// The step run stopped because the run is being canceled or the process ends; nothing is known to have happened.
    pub fn abandon(&mut self, key: UnitKey, now: Timestamp) {
        self.land(key);
        if self.halt.is_some() {
            let path = self.path(key);
            self.record(RunEvent::StepCanceled { path, at: now });
            self.settle_blocked(now);
        } else if let Some(unit) = self.unit_mut(key) {
            unit.state = UnitState::Ready;
        }
    }

    /// The step run's child run is left to whoever claims it.
    pub fn leave(&mut self, key: UnitKey) {
        if let Some(unit) = self.unit_mut(key).filter(|unit| unit.state == UnitState::Flying) {
            unit.state = UnitState::Away;
            self.away += 1;
        }
    }

    /// Takes back the step runs whose child runs others execute: somebody looks now whether they have ended.
    pub fn recall(&mut self) -> Vec<UnitKey> {
        if self.away == 0 {
            return Vec::new();
        }
        self.away = 0;
        let away = self.children().into_iter().filter(|child| child.away).map(|child| child.key).collect::<Vec<_>>();
        for key in &away {
            if let Some(unit) = self.unit_mut(*key) {
                unit.state = UnitState::Flying;
            }
        }
        away
    }

    /// The child run that the journal names was never made.
    pub fn forget_child(&mut self, key: UnitKey) {
        if let Some(rare) = self.unit_mut(key).and_then(|unit| unit.rare.as_mut()) {
            rare.child = None;
        }
    }

    /// Asks for the end of the run.
    pub fn cancel(&mut self, undo: bool, reason: Option<Arc<str>>, now: Timestamp) {
        if self.finished.is_none() && self.outcome.is_none() {
            self.held = None;
            self.record(RunEvent::CancelRequested { at: now, undo, reason });
            self.settle_blocked(now);
        }
    }

    /// Starts no further step and fails the run with this error: its time is up.
    pub fn halt(&mut self, error: StepError, now: Timestamp) {
        if self.halt.is_none() && self.outcome.is_none() {
            self.halt = Some(Halt::Failure(error));
            self.settle_blocked(now);
        }
    }

    /// Runs again what failed, and with `from` that step and all behind it.
    pub fn retry(&mut self, from: Option<&str>, now: Timestamp) {
        self.record(RunEvent::Retried { at: now, from: from.map(Into::into) });
    }

    /// No step run can go on without a wait.
    pub fn park(&mut self, until: Option<Timestamp>, reason: &str, now: Timestamp) {
        self.record(RunEvent::Parked { at: now, until, reason: reason.into() });
    }

    /// Applies an event and keeps it for the journal.
    fn record(&mut self, event: RunEvent) {
        self.apply(&event);
        self.events.push(event);
    }

    fn graph(&self, phase: Phase) -> &Graph {
        self.pipeline.graph(phase)
    }

    fn part(&self, phase: Phase) -> &Part {
        match phase {
            Phase::Main | Phase::Undo => &self.main,
            Phase::OnFailure => &self.on_failure,
            Phase::Finally => &self.finally,
        }
    }

    fn part_mut(&mut self, phase: Phase) -> &mut Part {
        match phase {
            Phase::Main | Phase::Undo => &mut self.main,
            Phase::OnFailure => &mut self.on_failure,
            Phase::Finally => &mut self.finally,
        }
    }

    /// Returns the definition of the step.
    pub(super) fn step(&self, key: UnitKey) -> &Step {
        self.graph(key.phase).steps.get(key.step).expect("a key's step comes from the same pipeline")
    }

    fn unit_mut(&mut self, key: UnitKey) -> Option<&mut Unit> {
        if key.phase == Phase::Undo {
            return self.undo.units.get_mut(&key);
        }
        self.part_mut(key.phase).steps.get_mut(key.step)?.unit(key.item)
    }

    fn path_and_attempt(&mut self, key: UnitKey) -> (StepPath, u32) {
        let attempt = self.unit_mut(key).map_or(1, |unit| unit.attempt.max(1));
        (self.path(key), attempt)
    }

    fn ensure_single(&mut self, key: UnitKey) {
        if let Some(record) = self.part_mut(key.phase).steps.get_mut(key.step)
            && matches!(record.work, Work::None)
        {
            record.work = Work::Single(Unit::fresh(record.generation));
            record.state = StepState::Running;
        }
    }

    fn set_timer(&mut self, key: UnitKey, until: Timestamp) {
        self.timer_count += 1;
        self.timers.insert((until, self.timer_count), key);
    }
}

/// Whether a task may be done now.
enum Admission {
    Now(Task),
    /// It needs nothing any more, or comes back by itself.
    Dropped,
    /// The run has no free place.
    Full(Task),
}

impl Machine {
    fn admit(&mut self, priority: usize, task: Task) -> Admission {
        let key = match task {
            Task::Prepare { phase, step } => {
                let fresh = self.part(phase).steps.get(step).is_some_and(|record| record.state == StepState::Pending);
                return if fresh && phase == self.phase { Admission::Now(task) } else { Admission::Dropped };
            }
            Task::Run(key) | Task::Settle(key) => key,
            Task::Conclude => return Admission::Now(task),
        };
        if self.flying >= self.pipeline.max_parallel {
            return Admission::Full(task);
        }
        if key.phase == Phase::Undo {
            return self.take_off(key);
        }
        let (limit, sequential) = (self.step(key).max_parallel, self.step(key).sequential);
        let Some(record) = self.part_mut(key.phase).steps.get_mut(key.step) else { return Admission::Dropped };
        match (&mut record.work, key.item) {
            (Work::Items(items), None) => {
                // The whole step stands in the queue: hand out its next fresh item and queue up again behind it.
                while items.units.get(items.next).is_some_and(|unit| unit.state != UnitState::Fresh) {
                    items.next += 1;
                }
                if items.next >= items.units.len() || items.failed.is_some() || items.flying >= limit {
                    return Admission::Dropped;
                }
                let before = items.next.checked_sub(1).and_then(|before| items.units.get(before));
                // The end of the one before queues the step again.
                if sequential && before.is_some_and(|before| !before.is_done()) {
                    return Admission::Dropped;
                }
                let Ok(item) = u32::try_from(items.next) else { return Admission::Dropped };
                items.next += 1;
                if let Some(queue) = self.ready.get_mut(priority) {
                    queue.push_front(task);
                }
                let key = UnitKey { item: Some(item), ..key };
                self.take_off(key)
            }
            (Work::Items(items), Some(item)) if items.flying >= limit => {
                items.stalled.push(item);
                Admission::Dropped
            }
            _ => self.take_off(key),
        }
    }

    /// Gives a step run a place. Its state says what is to be done, not who queued it: a doubt is settled, never run.
    fn take_off(&mut self, key: UnitKey) -> Admission {
        let Some(unit) = self.unit_mut(key) else { return Admission::Dropped };
        let task = match unit.state {
            UnitState::Fresh | UnitState::Ready => Task::Run(key),
            UnitState::InDoubt { .. } => Task::Settle(key),
            _ => return Admission::Dropped,
        };
        unit.state = UnitState::Flying;
        self.flying += 1;
        if let Some(Work::Items(items)) = self.work_of(key) {
            items.flying += 1;
        }
        Admission::Now(task)
    }

    /// Gives back the place of a step run that was under way.
    fn land(&mut self, key: UnitKey) {
        let Some(unit) = self.unit_mut(key) else { return };
        let away = unit.state == UnitState::Away;
        if !away && unit.state != UnitState::Flying {
            return;
        }
        unit.state = UnitState::Ready;
        self.flying -= 1;
        self.away -= usize::from(away);
        let priority = self.priority(key);
        let mut waiting = None;
        if let Some(Work::Items(items)) = self.work_of(key) {
            items.flying -= 1;
            let stalled = items.stalled.pop();
            waiting = Some(stalled.map_or(Task::Run(UnitKey { item: None, ..key }), |item| {
                Task::Run(UnitKey { item: Some(item), ..key })
            }));
        }
        if let (Some(task), Some(queue)) = (waiting, self.ready.get_mut(priority)) {
            // One entry for the whole step is enough, however many places become free.
            if queue.front() != Some(&task) {
                queue.push_front(task);
            }
        }
    }

    fn work_of(&mut self, key: UnitKey) -> Option<&mut Work> {
        if key.phase == Phase::Undo {
            return None;
        }
        self.part_mut(key.phase).steps.get_mut(key.step).map(|record| &mut record.work)
    }

    fn priority(&self, key: UnitKey) -> usize {
        usize::from(self.step(key).priority).min(9)
    }

    fn make_ready(&mut self, key: UnitKey) {
        let Some(unit) = self.unit_mut(key) else { return };
        let task = match unit.state {
            UnitState::InDoubt { .. } => Task::Settle(key),
            UnitState::Done(_) | UnitState::Flying | UnitState::Away => return,
            _ => {
                unit.state = UnitState::Ready;
                Task::Run(key)
            }
        };
        let priority = self.priority(key);
        if let Some(queue) = self.ready.get_mut(priority) {
            queue.push_back(task);
        }
    }

    fn queue_items(&mut self, phase: Phase, step: usize) {
        let key = UnitKey { phase, step, item: None };
        let priority = self.priority(key);
        if let Some(queue) = self.ready.get_mut(priority) {
            queue.push_back(Task::Run(key));
        }
    }

    fn queue_prepare(&mut self, phase: Phase, step: usize) {
        let priority = self.priority(UnitKey { phase, step, item: None });
        if let Some(queue) = self.ready.get_mut(priority) {
            queue.push_back(Task::Prepare { phase, step });
        }
    }
}

impl Part {
    fn new(graph: &Graph) -> Self {
        let mut dependents = vec![Vec::new(); graph.steps.len()];
        for edge in graph.dag.raw_edges() {
            let (Some(from), Some(to)) = (graph.dag.node_weight(edge.source()), graph.dag.node_weight(edge.target()))
            else {
                continue;
            };
            if let Some(list) = dependents.get_mut(*from) {
                list.push(*to);
            }
        }
        let steps: Vec<_> = graph.steps.iter().map(|step| StepRecord::new(step.needs.len())).collect();
        Self { remaining: steps.len(), steps, dependents }
    }
}
