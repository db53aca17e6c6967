//! Playing a case: a run on virtual time, with a store, a sandbox and people of its own, as far as it goes.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Poll;

use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::came::Played;
use super::case::Case;
use super::faults::Crash;
use super::faults::TroubleKind;
use super::people::People;
use super::stage::Stage;
use super::stubs::Stubs;
use crate::connector::auth::custody::Custody;
use crate::connector::prices::Prices;
use crate::connector::runtime::RulesApplied;
use crate::connector::runtime::Runtime;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Span;
use crate::diag::did_you_mean;
use crate::engine::Deck;
use crate::engine::Engine;
use crate::engine::Error as EngineError;
use crate::engine::ExecuteOptions;
use crate::engine::Execution;
use crate::engine::Parts;
use crate::engine::Point;
use crate::engine::Probe;
use crate::engine::SecretSource;
use crate::http::Transport;
use crate::model::Duration;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::Services;
use crate::nodes::scratch::Scratch;
use crate::pipeline::Given as GivenInput;
use crate::pipeline::Pipeline;
use crate::pipeline::Trigger;
use crate::pipeline::TriggerKind;
use crate::pipeline::check_inputs;
use crate::sandbox::cast::SandboxConnections;
use crate::sandbox::fault::Faults;
use crate::sandbox::fault::When;
use crate::sandbox::transport::Here;
use crate::sandbox::world::World;
use crate::secrets::Secrets;
use crate::store::OpenOptions;
use crate::store::Store;
use crate::store::external;
use crate::system::Clock;
use crate::system::Random;
use crate::system::Stopped;
use crate::system::System;
use crate::system::VirtualClock;

/// How long the machine may take for a case, whatever its virtual time.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// How a case ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The run ended, or waits for what does not come.
    Execution(Execution),
    /// It did not begin: what is given does not fit.
    NotBegun,
    /// It would take longer than it may.
    TooLong(Duration),
    /// Nobody can go on, and nobody waits for a time.
    Stuck,
    /// It took the machine too long.
    Slow,
    /// The store failed, or the engine.
    Broken(String),
}

/// Plays a case to its end, on this thread.
#[must_use]
pub fn play(stage: &Stage, pipeline: &Arc<Pipeline>, case: &Arc<Case>) -> Played {
    let start = case.given.clock;
    let clock = VirtualClock::new(start, start.plus(case.given.limit));
    let work = async {
        // Bounded by the machine's time, which is not the case's own.
        let played = tokio::time::timeout(PATIENCE, played(stage, pipeline, case, &clock)).await;
        external::let_go();
        played.unwrap_or_else(|_| Played::without_run(pipeline, case, End::Slow))
    };
    match clock.run(work) {
        Ok(played) => played,
        Err(error) => Played::without_run(pipeline, case, End::Broken(format!("no runtime: {error}"))),
    }
}

/// When a process dies, and at which step.
type Death = (Crash, Arc<str>);

/// A case that is being played.
struct Player<'s> {
    stage: &'s Stage,
    pipeline: &'s Arc<Pipeline>,
    case: &'s Arc<Case>,
    clock: &'s VirtualClock,
    system: System,
    store: Store,
    secrets: Arc<Secrets>,
    world: Arc<World>,
    scratch: Scratch,
    stubs: Arc<Stubs>,
    /// Crashes that are still to come.
    crashes: Arc<Mutex<Vec<Death>>>,
    /// Told when a process died.
    died: Arc<Notify>,
    /// Told when somebody answered.
    answered: Arc<Notify>,
    problems: Vec<Diagnostic>,
}

async fn played(stage: &Stage, pipeline: &Arc<Pipeline>, case: &Arc<Case>, clock: &VirtualClock) -> Played {
    let system = System { clock: Arc::new(clock.clone()), random: Random::seeded(case.given.seed) };
    let broken = |reason: String| Played::without_run(pipeline, case, End::Broken(reason));
    let options = OpenOptions { sealer: Some(stage.sealer.clone()), ..OpenOptions::default() };
    let store = match Store::open("sqlite::memory:", options).await {
        Ok(store) => store,
        Err(error) => return broken(error.to_string()),
    };
    let secrets = match stage.secrets(&case.given.secrets).await {
        Ok(secrets) => secrets,
        Err(reason) => return broken(reason),
    };
    let remote = case.faults.iter().filter_map(|trouble| match &trouble.kind {
        TroubleKind::Remote { faults, .. } => Some(faults.clone()),
        _ => None,
    });
    let world = match stage.world(case, &secrets, system.clone(), Faults::new(remote.flatten())) {
        Ok(world) => Arc::new(world),
        Err(reason) => return broken(reason),
    };
    let crashes = case.faults.iter().filter_map(|trouble| match &trouble.kind {
        TroubleKind::Crash { at, step } => Some((*at, step.0.clone())),
        _ => None,
    });
    let player = Player {
        stage,
        pipeline,
        case,
        clock,
        system,
        store,
        secrets,
        world,
        scratch: Scratch::new(stage.scratch()),
        stubs: Arc::new(Stubs::new(case)),
        crashes: Arc::new(Mutex::new(crashes.collect())),
        died: Arc::default(),
        answered: Arc::default(),
        problems: Vec::new(),
    };
    player.play().await
}

impl Player<'_> {
    async fn play(mut self) -> Played {
        self.set_up();
        let (mut engine, mut runtime) = self.engine();
        let (asked, people) = mpsc::unbounded_channel();
        let begun = if self.problems.is_empty() { self.begin(&engine).await } else { None };
        let Some(run) = begun else {
            let mut played = Played::without_run(self.pipeline, self.case, End::NotBegun);
            played.problems = self.problems;
            return played;
        };
        // What stands for the run of the case and no other.
        let _ = self.stubs.run.set(run);
        let said = People::of(self.case);
        let answering = tokio::spawn(self.answer(people, said.clone()));
        let mut rules = Vec::new();
        let end = loop {
            match self.execute(&engine, run, &asked).await {
                Step::Crashed => {
                    // It is told of once, however it was heard of.
                    tokio::select! {
                        biased;
                        () = self.died.notified() => {}
                        () = std::future::ready(()) => {}
                    }
                    rules.push(runtime.rules_applied());
                    drop(engine);
                    if let Err(error) = self.store.written().await {
                        tracing::debug!(%error, "what a dead process had appended is lost");
                    }
                    (engine, runtime) = self.engine();
                }
                Step::Again => {}
                Step::Ended(end) => break end,
            }
        };
        rules.push(runtime.rules_applied());
        answering.abort();
        self.problems.extend(said.told());
        self.collect(run, end, rules).await
    }

    /// Puts into the world what is given.
    fn set_up(&mut self) {
        let given = &self.case.given;
        for load in &given.sandbox {
            let stand = self.world.stand_of_connection(&load.stand.0);
            let loaded = match self.world.seat(&stand) {
                Ok(seat) => seat.load(&load.collection.0, &load.rows).map_err(|reason| (&load.collection.1, reason)),
                Err(error) => Err((&load.stand.1, error.to_string())),
            };
            if let Err((span, reason)) = loaded {
                self.problems.push(Diagnostic::error(Code::UnknownName, span.clone(), reason));
            }
        }
        let access = self.stage.access();
        for (path, content, span) in &given.files {
            let text = content.to_text();
            if let Err(error) = self.scratch.put(&access, path, text.as_bytes()) {
                self.problems.push(Diagnostic::error(Code::BadPath, span.clone(), format!("`{path}`: {error}")));
            }
        }
    }

    /// Makes an engine as a process would that has just started.
    fn engine(&self) -> (Engine, Arc<Runtime>) {
        let http: Arc<dyn Transport> = Arc::new(Here(self.world.clone()));
        let custody = Custody { store: self.store.clone(), http: http.clone(), system: self.system.clone() };
        let runtime = Runtime::new(Arc::new(SandboxConnections(self.world.clone())));
        let runtime = runtime.with_library(self.world.library().clone()).with_custody(custody);
        // Faults of the project's own are told where it is checked.
        let prices = Prices::open(&self.stage.root).unwrap_or_else(|_| Prices::built_in());
        let runtime = Arc::new(runtime.with_prices(prices).noting_rules());
        let parts = Parts {
            system: self.system.clone(),
            store: self.store.clone(),
            http,
            access: self.stage.access(),
            secrets: self.secrets.clone(),
            owner: "test".to_owned(),
            owner_is_gone: |_| true,
            send_window: Duration::from_secs(10),
            services: Services::default().with(runtime.clone()).with(Arc::new(self.scratch.clone())),
            probe: self.probe(),
            tape: Deck::default(),
        };
        (Engine::new(parts), runtime)
    }

    fn probe(&self) -> Probe {
        let crashes = lock(&self.crashes).clone();
        let probe = if crashes.is_empty() { Probe::default() } else { self.deadly() };
        if self.stubs.is_needed() { probe.with_stand_in(self.stubs.clone()) } else { probe }
    }

    /// Makes a probe that dies at the next crash of the case.
    fn deadly(&self) -> Probe {
        let (crashes, died) = (self.crashes.clone(), self.died.clone());
        Probe::new(move |point| {
            let (at, path) = match point {
                Point::Ended(path) => (Crash::After, path),
                Point::Sending(path) => (Crash::Sending, path),
                Point::Answered(path) => (Crash::Answered, path),
                Point::Appended(_) | Point::Committed(_) => return,
            };
            {
                let mut crashes = lock(&crashes);
                let meant = |(when, step): &Death| *when == at && (**step == *path.step || **step == *path.to_string());
                let Some(index) = crashes.iter().position(meant) else { return };
                crashes.remove(index);
            }
            died.notify_one();
            // Not a fault that anybody should read of: nothing goes on behind this point.
            std::panic::resume_unwind(Box::new("the process of a case dies here"));
        })
    }

    /// Makes the run as whoever starts it would; faults of what is given are told.
    async fn begin(&mut self, engine: &Engine) -> Option<RunId> {
        let given = &self.case.given;
        let (mut inputs, mut slot) = (Vec::new(), None);
        if given.trigger.is_some() || given.event.is_some() || given.slot.is_some() {
            let trigger = self.trigger()?;
            let moment = given.slot.as_ref().map(|(moment, _)| *moment);
            let event = given.event.as_ref().map(|(event, _)| event.clone()).unwrap_or_default();
            let event: Vec<(String, Value)> =
                event.as_map().into_iter().flatten().map(|(key, value)| (key.to_string(), value.clone())).collect();
            let event = event.iter().map(|(key, value)| (key.as_str(), value.clone()));
            let made = engine.given_by_event(trigger, event, moment.map_or(Value::Null, Value::Time));
            match made {
                Ok(made) => {
                    let made = made.as_map().cloned().unwrap_or_default();
                    inputs.extend(made.into_iter().map(|(name, value)| (name.to_string(), GivenInput::Value(value))));
                }
                Err(reason) => {
                    let message = format!("the inputs of the trigger `{}`: {reason}", trigger.id);
                    self.problem(Code::InvalidWith, self.case.span.clone(), message);
                    return None;
                }
            }
            slot = moment.map(|moment| format!("{}@{moment}", trigger.id));
        }
        for (name, value, _) in &given.inputs {
            inputs.retain(|(own, _)| **own != **name);
            inputs.push((name.to_string(), GivenInput::Value(value.clone())));
        }
        let values = match check_inputs(self.pipeline, &inputs) {
            Ok(values) => values,
            Err(reasons) => {
                // A reason names its input in backticks first.
                let place = |reason: &str| {
                    let meant = |(name, ..): &&(Arc<str>, Value, Span)| reason.contains(&format!("input `{name}`"));
                    given.inputs.iter().find(meant).map_or(&self.case.span, |(.., span)| span).clone()
                };
                let reasons: Vec<_> = reasons.into_iter().map(|reason| (place(&reason), reason)).collect();
                for (span, reason) in reasons {
                    // Nobody types this one in.
                    let reason = reason.split("; give it with `-i").next().unwrap_or(&reason).to_owned();
                    self.problem(Code::InvalidWith, span, reason);
                }
                return None;
            }
        };
        let made = match (&slot, &given.started_by) {
            (Some(slot), _) => engine.enqueue(self.pipeline, values, Some(slot.clone())).await,
            (None, person) => engine.start_as(person.as_deref(), self.pipeline, values).await.map(Some),
        };
        match made {
            Ok(run) => run,
            Err(error) => {
                self.problem(Code::InvalidWith, self.case.span.clone(), error.to_string());
                None
            }
        }
    }

    /// Finds the trigger that fires in this case.
    fn trigger(&mut self) -> Option<&Trigger> {
        let given = &self.case.given;
        let timed = |trigger: &&Trigger| matches!(trigger.kind, TriggerKind::Time(_));
        let all = &self.pipeline.triggers;
        let found = match &given.trigger {
            Some((name, _)) => all.iter().find(|own| *own.id == **name || own.kind.name() == &**name),
            None if given.event.is_none() => all.iter().find(timed).or(all.first()),
            None => all.iter().find(|trigger| !timed(trigger)).or(all.first()),
        };
        if found.is_none() {
            let (message, span) = match &given.trigger {
                Some((name, span)) => {
                    let names = all.iter().flat_map(|own| [&*own.id, own.kind.name()]);
                    let near = did_you_mean(name, names).map(|near| format!("; did you mean `{near}`?"));
                    (format!("there is no trigger `{name}`{}", near.unwrap_or_default()), span.clone())
                }
                None => {
                    let message = "the pipeline has no trigger that could give this".to_owned();
                    let spans = given.event.as_ref().map(|(_, span)| span);
                    let span = spans.or(given.slot.as_ref().map(|(_, span)| span));
                    (message, span.unwrap_or(&self.case.span).clone())
                }
            };
            self.problem(Code::UnknownName, span, message);
        }
        found
    }

    fn problem(&mut self, code: Code, span: Span, message: String) {
        self.problems.push(Diagnostic::error(code, span, message));
    }

    /// Executes the run until it ends, waits, or its process dies.
    async fn execute(&self, engine: &Engine, run: RunId, asked: &mpsc::UnboundedSender<(RunId, RunEvent)>) -> Step {
        let stop = CancellationToken::new();
        let options = ExecuteOptions {
            stop: stop.clone(),
            foreground: false,
            observer: Some(asked.clone()),
            ..ExecuteOptions::default()
        };
        let mut work: Pin<Box<dyn Future<Output = _> + '_>> =
            Box::pin(engine.execute(run, self.pipeline.clone(), options));
        // A crash within the engine's own work comes up through it.
        let work =
            std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
                Ok(Poll::Ready(result)) => Poll::Ready(Some(result)),
                Ok(Poll::Pending) => Poll::Pending,
                Err(_) => Poll::Ready(None),
            });
        let executed = tokio::select! {
            biased;
            () = self.died.notified() => return Step::Crashed,
            executed = work => executed,
            stopped = self.clock.stopped() => return Step::Ended(self.stopped(stopped, None)),
        };
        match executed {
            None => Step::Crashed,
            // The process died when nothing was left to do.
            Some(Err(EngineError::WrongState { .. })) => Step::Ended(self.finished(run).await),
            Some(Err(error)) => Step::Ended(End::Broken(chain(&error))),
            Some(Ok(execution @ Execution::Waiting { until, .. })) => self.wait(execution, until).await,
            Some(Ok(execution)) => Step::Ended(End::Execution(execution)),
        }
    }

    /// Waits for what a parked run waits for.
    async fn wait(&self, execution: Execution, until: Option<Timestamp>) -> Step {
        let time = async {
            match until {
                Some(until) => self.system.clock.sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.answered.notified() => Step::Again,
            () = time => Step::Again,
            stopped = self.clock.stopped() => Step::Ended(self.stopped(stopped, Some(execution))),
        }
    }

    /// Reads how the run ended.
    async fn finished(&self, run: RunId) -> End {
        match self.store.run(run).await {
            Ok(Some(record)) => {
                let (state, outputs, error) = (record.state, record.outputs, record.error);
                End::Execution(Execution::Finished { state, outputs, error })
            }
            Ok(None) => End::Broken("the run is not in the store any more".to_owned()),
            Err(error) => End::Broken(chain(&error)),
        }
    }

    fn stopped(&self, stopped: Stopped, waits: Option<Execution>) -> End {
        match (stopped, waits) {
            (Stopped::Deadlock, Some(execution)) => End::Execution(execution),
            (Stopped::Deadlock, None) => End::Stuck,
            (Stopped::End, _) => End::TooLong(self.case.given.limit),
        }
    }

    /// Has the people of the case answer what is asked.
    fn answer(
        &self,
        events: mpsc::UnboundedReceiver<(RunId, RunEvent)>,
        people: People,
    ) -> impl Future<Output = ()> + Send + 'static {
        let known = self.case.given.answers.iter().flat_map(|(_, _, said)| said);
        let persons = known.map(|said| self.stage.person(&said.by)).collect();
        people.answer(events, persons, self.store.clone(), self.clock.clone(), self.answered.clone())
    }

    async fn collect(self, run: RunId, end: End, rules: Vec<RulesApplied>) -> Played {
        let Self { stage, pipeline, case, clock, store, secrets, world, scratch, stubs, mut problems, crashes, .. } =
            self;
        let now = clock.now();
        let mut remote = world.struck().into_iter();
        let of_steps = stubs.struck();
        let mut left = lock(&crashes).clone();
        for (index, trouble) in case.faults.iter().enumerate() {
            let told = match &trouble.kind {
                TroubleKind::Remote { faults, .. } => {
                    let told: Vec<(u64, u64)> = remote.by_ref().take(faults.len()).collect();
                    let perhaps = faults.iter().all(|fault| matches!(fault.when, When::Chance(_)));
                    let seen = told.iter().map(|(seen, _)| *seen).max().unwrap_or(0);
                    let missed = told.iter().any(|(_, struck)| *struck == 0) && !perhaps;
                    missed.then(|| format!("this fault never came: there were {seen} requests that it could strike"))
                }
                TroubleKind::Step { step, .. } => (of_steps.get(index) == Some(&0))
                    .then(|| format!("this fault never came: `{}` was not called so often", step.0)),
                TroubleKind::Crash { at, step } => {
                    let place = left.iter().position(|(when, name)| when == at && *name == step.0);
                    place.map(|place| {
                        left.remove(place);
                        format!("the process did not die: `{}` did not come so far", step.0)
                    })
                }
            };
            if let Some(message) = told {
                problems.push(Diagnostic::error(Code::TestFailed, trouble.span.clone(), message));
            }
        }
        let access = stage.access();
        let files = case.then.files.iter().map(|(path, ..)| {
            let bytes = scratch.content(&access, path);
            (path.clone(), bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        });
        let files = files.collect();
        let secrets: Arc<dyn SecretSource> = secrets;
        let mut played = Played {
            pipeline: pipeline.clone(),
            case: case.clone(),
            end,
            run: Some(run),
            start: case.given.clock,
            now,
            journals: Vec::new(),
            effects: Vec::new(),
            logs: Vec::new(),
            world: Some(world),
            files,
            rules,
            secrets: Some(secrets),
            problems,
            took: std::time::Duration::ZERO,
        };
        if let Err(error) = played.read(&store, run).await {
            played.end = End::Broken(chain(&error));
        }
        played
    }
}

/// What an execution came to.
enum Step {
    Crashed,
    Again,
    Ended(End),
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns an error with all its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
