//! The loop of one run: takes tasks from the machine, does them, tells it what came of them, journals its events.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::Error;
use super::ExecuteOptions;
use super::Execution;
use super::Held;
use super::Machine;
use super::Parts;
use super::SecretSource;
use super::Signal;
use super::UnitKey;
use super::finish::Done;
use super::journal::Journal;
use super::lease::Heart;
use super::machine::Child;
use super::permits::Permits;
use super::plan::Bond;
use super::scope::Published;
use super::scope::RunRoot;
use super::scope::roots;
use crate::model::Duration;
use crate::model::ErrorClass;
use crate::model::Phase;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::Verdict;
use crate::pipeline::Durability;
use crate::pipeline::Pipeline;
use crate::store::Fence;
use crate::store::Record;
use crate::store::Request;
use crate::template::Scope;

/// How often a waiting run looks for signals of other processes.
pub(super) const INBOX: Duration = Duration::from_millis(500);
/// How often it is looked whether child runs that others execute have ended, where nobody tells.
const CHILDREN: Duration = Duration::from_secs(5);
/// How long a run whose child runs others execute waits for the end of one before it sleeps.
const LINGER: Duration = Duration::from_millis(250);
/// A wait longer than this parks a run that is not waited for.
const PARK: Duration = Duration::from_secs(60);
/// How many steps run in one go before the journal and other tasks get their turn.
const BATCH: usize = 256;

/// What an execution is for.
#[derive(Clone, Debug)]
pub(super) enum Mode {
    Forward,
    Retry {
        from: Option<String>,
    },
    /// A child run that succeeded is undone because its parent is.
    Undo,
}

/// The driver of one run.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) engine: Engine,
    pub(super) run: RunId,
    pub(super) fence: Fence,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) machine: Machine,
    pub(super) journal: Journal,
    pub(super) published: Arc<Published>,
    pub(super) globals: Arc<Vec<(Arc<str>, Value)>>,
    pub(super) inputs: Value,
    pub(super) parent: Option<(RunId, StepPath)>,
    pub(super) slot: Value,
    pub(super) jobs: JoinSet<(UnitKey, Done)>,
    pub(super) options: ExecuteOptions,
    /// Reaches running steps when the run is canceled, times out or is stopped.
    pub(super) canceled: CancellationToken,
    /// When the run's `timeout` is over; moves on while everything sleeps.
    pub(super) work_ends: Option<Timestamp>,
    /// When all must have ended, asleep or not.
    pub(super) deadline: Option<Timestamp>,
    pub(super) failure: Option<Error>,
    /// Hears that somebody has announced something.
    pub(super) notices: watch::Receiver<u64>,
    /// When it was last looked whether child runs of others have ended.
    pub(super) children_seen: Timestamp,
    /// Whether a child run ended while it, or another, was just being looked after.
    ends_heard: bool,
    /// Whether signals waited when the run was taken.
    pub(super) signaled: bool,
    /// What the run must hold before it begins.
    pub(super) gates: Vec<Request>,
    /// What step runs hold: locks, and a place among the steps of this process.
    pub(super) permits: HashMap<UnitKey, Permits>,
    /// What a plan binds the run to.
    pub(super) bond: Option<Arc<Bond>>,
    /// Whether no step of it has begun yet.
    pub(super) fresh: bool,
    /// Whether a plan has made it.
    pub(super) planned: bool,
}

/// Claims the run, replays its journal, and drives it as far as it goes.
pub(super) async fn execute(
    engine: &Engine,
    run: RunId,
    pipeline: Arc<Pipeline>,
    mode: Mode,
    options: ExecuteOptions,
) -> Result<Execution, Error> {
    let parts = engine.parts();
    let Held { fence, run: known } = engine.claim(run).await?;
    let record = match known {
        Some(record) => *record,
        None => parts.store.run(run).await?.ok_or(Error::NoRun(run))?,
    };
    // Nobody has written for a run that was never held before.
    let events = if fence.0 == 1 { Vec::new() } else { parts.store.journal(run).await? };
    let mut machine = Machine::replay(pipeline.clone(), &events);
    if let Some(state) = machine.finished() {
        let help = match (&mode, state) {
            (Mode::Retry { from: None }, RunState::Succeeded) => Some("name the step to begin from with `--from`"),
            (Mode::Forward, RunState::Failed | RunState::Canceled) => Some("run it again with `runs retry`"),
            (Mode::Forward, _) => Some("there is nothing left to do"),
            _ => None,
        };
        if let Some(help) = help {
            parts.store.release(run, fence).await?;
            return Err(Error::WrongState { run, state: state.name(), help });
        }
    }
    let now = parts.system.clock.now();
    match mode {
        Mode::Forward => {}
        Mode::Retry { from } => machine.retry(from.as_deref(), now),
        Mode::Undo => machine.undo_all(now),
    }
    let length = u64::try_from(events.len()).unwrap_or(u64::MAX);
    let gates = engine.requests(&pipeline, &record.inputs)?;
    let journal = Journal::new(&parts.store, run, fence, length, &machine, parts.probe.clone());
    let locks = pipeline.has_locks();
    if !gates.is_empty() || locks {
        journal.holds_permits();
    }
    let (foreground, spread) = (options.foreground, record.is_spread());
    let watch = options.observer.clone().map(|observer| Watch::start(run, &journal, observer));
    // What was secret to whoever ran it before is secret here, though nobody has read its source yet.
    parts.secrets.learn(&record.inputs);
    events.iter().for_each(|event| learn(event, &*parts.secrets));
    let fresh = !events.iter().any(is_work);
    drop(events);
    let bond = machine.bond().and_then(Bond::from_value).map(Arc::new);
    let published = Arc::new(Published::new(pipeline.clone(), parts.secrets.clone()));
    let work_ends = pipeline.timeout.map(|timeout| now.plus(timeout));
    let deadline = [pipeline.deadline.map(|deadline| record.created_at.plus(deadline)), options.deadline];
    let mut driver = Driver {
        engine: engine.clone(),
        run,
        fence,
        pipeline,
        machine,
        journal,
        published,
        globals: Arc::default(),
        inputs: record.inputs,
        parent: record.parent,
        slot: record.slot.as_deref().map_or(Value::Null, super::slot),
        jobs: JoinSet::new(),
        canceled: CancellationToken::new(),
        work_ends,
        deadline: deadline.into_iter().flatten().min(),
        options,
        failure: None,
        notices: parts.store.notices(),
        children_seen: now,
        ends_heard: false,
        signaled: record.signaled,
        gates: gates.clone(),
        permits: HashMap::new(),
        bond,
        fresh,
        planned: record.slot.as_deref().is_some_and(|slot| slot.starts_with(super::PLANNED)),
    };
    driver.refresh_globals();
    let heart = Heart::start(engine, run, fence);
    let execution = driver.drive(&heart).await;
    drop(heart);
    driver.jobs.shutdown().await;
    // The journal is ended first: after the release somebody else may write.
    let closed = driver.journal.commit().await;
    drop(driver);
    if let Some(watch) = watch {
        watch.end().await;
    }
    // One that ended or sleeps was freed with its last event.
    let freed = closed.is_ok()
        && gates.is_empty()
        && matches!(execution, Ok(Execution::Finished { .. } | Execution::Waiting { .. }));
    // What the store broke off stays held: whoever looks at the leases goes on with it. Free, it would lie there for ever.
    let broken = closed.is_err() || matches!(execution, Err(Error::Store(_)));
    if !freed && !broken && !matches!(execution, Err(Error::LeaseLost(_))) {
        match execution {
            Ok(Execution::Stopped) if spread || !foreground => parts.store.release_to_queue(run, fence).await?,
            // One that begins again, and waits for its turn.
            Ok(Execution::Waiting { .. }) => parts.store.release_to_queue(run, fence).await?,
            _ => parts.store.release(run, fence).await?,
        };
    }
    // Whoever waited for what this run held goes on, here or elsewhere.
    engine.admit(&gates).await?;
    let execution = execution?;
    closed?;
    if spread && matches!(execution, Execution::Finished { .. }) {
        // What cannot be told now is told by whoever looks next.
        if let Err(error) = parts.store.tell_parent(run, parts.system.clock.now()).await {
            tracing::warn!(%run, %error, "the parent could not be told of the end of its child run");
        }
    }
    Ok(execution)
}

/// Tells whether an event is one of work: a run that was refused, or canceled before it began, has none.
fn is_work(event: &RunEvent) -> bool {
    let main = event.path().is_some_and(|path| path.phase == Phase::Main);
    main && !matches!(event, RunEvent::StepCanceled { .. } | RunEvent::Skipped { .. })
}

fn learn(event: &RunEvent, secrets: &dyn SecretSource) {
    let value = match event {
        RunEvent::Items { items: value, .. }
        | RunEvent::Succeeded { output: value, .. }
        | RunEvent::Round { output: value, .. }
        | RunEvent::Waiting { then: Some(value), .. } => value,
        RunEvent::Intent { intent, .. } => &intent.request,
        RunEvent::Planned { bond, .. } => bond,
        RunEvent::Asked { ask, .. } => &ask.request,
        RunEvent::Settled { verdict, .. } => match &**verdict {
            Verdict::Happened { output, .. } => output,
            _ => return,
        },
        _ => return,
    };
    secrets.learn(value);
}

impl Driver {
    async fn drive(&mut self, heart: &Heart) -> Result<Execution, Error> {
        self.machine.resume(self.now());
        self.ask_again().await?;
        if let Some(execution) = self.wait_for_permits(heart).await? {
            return Ok(execution);
        }
        if self.signaled {
            self.take_signals().await?;
        }
        self.check_deadline().await?;
        self.look_after_children();
        self.take_permits_over().await?;
        self.check_guards_before();
        self.bind().await?;
        loop {
            self.work().await?;
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if let Some(state) = self.machine.finished() {
                self.journal.commit().await?;
                let error = self.machine.outcome().and_then(|(_, error)| error.clone());
                return Ok(Execution::Finished { state, outputs: self.machine.outputs().clone(), error });
            }
            if self.machine.flying() == 0 && self.options.stop.is_cancelled() {
                return Ok(Execution::Stopped);
            }
            if let Some(execution) = self.park().await? {
                return Ok(execution);
            }
            self.wait(heart).await?;
        }
    }

    /// Does everything that can be done without waiting.
    async fn work(&mut self) -> Result<(), Error> {
        loop {
            self.machine.wake(self.now());
            let mut done = 0;
            while done < BATCH && !self.options.stop.is_cancelled() {
                let Some(task) = self.machine.next_task() else { break };
                self.publish();
                self.perform(&task);
                self.publish();
                done += 1;
                self.flush_for_probe();
                if self.pipeline.durability == Durability::Strict {
                    self.flush();
                    self.journal.commit().await?;
                }
                if self.failure.is_some() {
                    return Ok(());
                }
            }
            self.flush();
            while let Some(joined) = self.jobs.try_join_next() {
                self.joined(joined);
                self.flush_for_probe();
                done += 1;
            }
            self.give_back().await?;
            if done == 0 {
                return Ok(());
            }
            self.journal.room().await;
            tokio::task::yield_now().await;
        }
    }

    /// Waits for whatever comes first: a result, a timer, a signal, the deadline, the end.
    async fn wait(&mut self, heart: &Heart) -> Result<(), Error> {
        let clock = self.parts().system.clock.clone();
        let now = clock.now();
        let mut due = now.plus(INBOX);
        let mut look = true;
        let asleep = self.machine.flying() == 0 && self.jobs.is_empty();
        let end = if asleep { self.deadline } else { self.must_end() };
        for moment in [self.machine.next_wake(), end.filter(|_| !self.machine.is_halting())] {
            if let Some(moment) = moment.filter(|moment| *moment <= due) {
                due = moment;
                look = false;
            }
        }
        let shared = self.engine.1.clone();
        let granted = shared.granted.notified();
        let asks = self.pipeline.has_locks();
        let stop = self.options.stop.clone();
        let stopping = stop.is_cancelled();
        let away = self.machine.away() > 0;
        if away && self.children_seen.plus(CHILDREN) <= now {
            self.look_after_children();
        }
        // It lingers for the end of one; afterwards something else keeps it awake.
        let lingers = self.children_seen.plus(LINGER);
        if away && !self.options.foreground && lingers > now {
            due = due.min(lingers);
        }
        tokio::select! {
            Some(joined) = self.jobs.join_next() => {
                self.joined(joined);
                self.flush_for_probe();
            }
            () = stop.cancelled(), if !stopping => self.canceled.cancel(),
            () = heart.lost.cancelled() => return Err(Error::LeaseLost(self.run)),
            // Somebody may have ended a child run.
            Ok(()) = self.notices.changed(), if away => {
                self.take_signals().await?;
            }
            () = granted, if asks => {
                self.take_signals().await?;
            }
            () = clock.sleep_until(due) => {
                if look {
                    self.take_signals().await?;
                }
            }
        }
        if let (true, Some(end)) = (asleep, &mut self.work_ends) {
            *end = end.plus(clock.now().since(now));
        }
        self.check_deadline().await
    }

    /// Returns when work that starts now must have ended.
    pub(super) fn must_end(&self) -> Option<Timestamp> {
        [self.work_ends, self.deadline].into_iter().flatten().min()
    }

    async fn check_deadline(&mut self) -> Result<(), Error> {
        let now = self.now();
        if self.machine.phase() == Phase::Main && self.must_end().is_some_and(|end| end <= now) {
            let message = "the run took longer than its `timeout` or `deadline` allows".to_owned();
            let children = self.machine.children();
            self.machine.halt(StepError { class: ErrorClass::Timeout, message }, now);
            self.canceled.cancel();
            (self.work_ends, self.deadline) = (None, None);
            // Those that run in this process have the deadline themselves.
            let spread = |child: &Child| self.machine.definition(child.key).spread;
            let others = children.into_iter().filter(|child| !child.flies || spread(child)).collect();
            self.cancel_children(others, false).await?;
        }
        Ok(())
    }

    /// Goes to sleep where nothing can go on soon and nobody waits here.
    async fn park(&mut self) -> Result<Option<Execution>, Error> {
        // Rows that a `for_each` waits for are under way without a step run.
        if self.machine.flying() > 0 || !self.jobs.is_empty() {
            return Ok(None);
        }
        if std::mem::take(&mut self.ends_heard) {
            self.look_after_children();
            if self.machine.flying() > 0 {
                return Ok(None);
            }
        }
        let now = self.now();
        let wake = self.machine.next_wake();
        let in_doubt = !self.machine.held_doubts().is_empty();
        // Whoever sits before a run waits for its child runs, whoever executes them. Elsewhere it does not sleep yet while
        // they end one after the other: each time it would be read again.
        let lingers = self.options.foreground || now < self.children_seen.plus(LINGER);
        if self.machine.away() > 0 && lingers {
            return Ok(None);
        }
        let reason = if let Some(held) = self.machine.held() {
            held.to_owned()
        } else if let (None, true) = (wake, in_doubt) {
            self.describe_doubts()
        } else if let Some(until) = wake.filter(|until| !self.options.foreground && until.since(now) > PARK) {
            self.machine.asking().unwrap_or_else(|| format!("waits until {until}"))
        } else if wake.is_none() {
            match (self.machine.asking(), self.machine.away()) {
                // Whoever watches may be who answers, or waits for it.
                (Some(_), _) if self.options.foreground => return Ok(None),
                (Some(asking), _) => asking,
                (None, 0) => "waits for a signal".to_owned(),
                (None, 1) => "waits for a child run".to_owned(),
                (None, away) => format!("waits for {away} child runs"),
            }
        } else {
            return Ok(None);
        };
        // The deadline wakes it, whatever it waits for.
        let deadline = self.deadline.filter(|_| self.machine.phase() == Phase::Main && !self.machine.is_halting());
        let until = [wake, deadline].into_iter().flatten().min().filter(|_| self.machine.held().is_none());
        // The inbox is looked at once more, so that a signal that came meanwhile is not slept over.
        if self.take_signals().await? {
            return Ok(None);
        }
        self.machine.park(until, &reason, now);
        self.flush();
        self.journal.commit().await?;
        Ok(Some(Execution::Waiting { until, reason, in_doubt }))
    }

    fn describe_doubts(&self) -> String {
        let doubts = self.machine.held_doubts();
        let names: Vec<_> = doubts.iter().take(3).map(|key| format!("`{}`", self.machine.path(*key))).collect();
        let more = doubts.len().saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("in doubt: {}{more}; a person decides with `pipewright effects resolve`", names.join(", "))
    }

    /// Obeys the signals in the inbox. Returns whether there were any.
    async fn take_signals(&mut self) -> Result<bool, Error> {
        let signals = self.parts().store.inbox(self.run).await?;
        if signals.is_empty() {
            return Ok(false);
        }
        let now = self.now();
        for signal in &signals {
            match Signal::from_stored(&signal.kind, &signal.payload) {
                Some(Signal::Cancel { undo }) => self.cancel(undo, None).await?,
                Some(Signal::Replaced { reason }) => self.cancel(false, Some(reason.into())).await?,
                Some(Signal::GiveWay { path, reason }) => self.give_way(&path, reason),
                Some(Signal::Permitted { path }) => self.has_locks(&path),
                Some(Signal::Resolve { effect, verdict }) => self.resolve(&effect, verdict, now),
                Some(Signal::Answer { ask, answer }) => self.answered(&ask, answer).await?,
                Some(Signal::Child { run }) => self.machine.rouse(run, now),
                Some(Signal::Ended) => {
                    // Whoever is just being looked after may have ended behind the look.
                    self.ends_heard = self.machine.flying() > 0;
                    self.look_after_children();
                }
                None => tracing::warn!(run = %self.run, kind = signal.kind, "unknown signal"),
            }
        }
        self.flush();
        // The signals leave the inbox together with what they caused.
        self.journal.record(Record::Taken { signals: signals.iter().map(|signal| signal.number).collect() });
        self.journal.commit().await?;
        Ok(true)
    }

    async fn cancel(&mut self, undo: bool, reason: Option<Arc<str>>) -> Result<(), Error> {
        let children = self.machine.children();
        self.machine.cancel(undo, reason, self.now());
        self.canceled.cancel();
        self.cancel_children(children, undo).await
    }

    /// Makes the outputs of ended steps visible to expressions.
    pub(super) fn publish(&mut self) {
        for (phase, step) in self.machine.take_ended() {
            // A replay tells of every end, also of those that a retry took back.
            if let Some(view) = self.machine.view(phase, step).filter(|view| view.state.is_final()) {
                self.published.publish(phase, step, view);
            }
        }
    }

    /// Whoever is told of points is told of each where it is, before anything else begins.
    fn flush_for_probe(&mut self) {
        if self.parts().probe.is_told() {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        self.journal.append(self.machine.take_events());
    }

    /// Makes the roots `inputs` and `run` as they are now.
    pub(super) fn refresh_globals(&mut self) {
        let outcome = self.machine.outcome();
        let error = outcome.and_then(|(_, error)| error.as_ref()).map_or(Value::Null, StepError::to_value);
        let state = outcome.map_or(RunState::Running, |(state, _)| *state).name().into();
        let run = RunRoot { id: self.run, slot: self.slot.clone(), state, error };
        self.globals = Arc::new(roots(&self.pipeline, &self.inputs, run));
    }

    pub(super) fn scope(&self, locals: Vec<(&'static str, Value)>) -> Scope {
        Scope { lookup: self.published.clone(), globals: self.globals.clone(), locals, now: self.now() }
    }

    pub(super) fn parts(&self) -> &Arc<Parts> {
        &self.engine.0
    }

    pub(super) fn now(&self) -> Timestamp {
        self.parts().system.clock.now()
    }
}

/// Hands committed events to whoever watches.
#[derive(Debug)]
struct Watch(tokio::task::JoinHandle<()>);

impl Watch {
    fn start(run: RunId, journal: &Journal, observer: Observer) -> Self {
        let mut events = journal.committed();
        Self(tokio::spawn(async move {
            while let Some((_, event)) = events.recv().await {
                if observer.send((run, event)).is_err() {
                    return;
                }
            }
        }))
    }

    /// Waits until the last event is handed over; the journal must be gone.
    async fn end(self) {
        // It fails only by panicking, and then there is nothing more to hand over.
        let _ = self.0.await;
    }
}

/// The sender that observers of a run get.
pub(super) type Observer = mpsc::UnboundedSender<(RunId, RunEvent)>;
