//! Runs a checked pipeline: a pure machine decides, a driver does, a ledger keeps effects from happening twice.

mod ask;
mod attempt;
mod bound;
mod child;
mod claim;
mod driver;
mod finish;
mod fired;
mod journal;
pub mod lease;
mod ledger;
mod machine;
mod paid;
mod perform;
mod permits;
pub mod plan;
mod probe;
pub mod retry;
mod scope;
mod sink;
mod tape;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use self::finish::hash;
pub use self::fired::slot;
pub use self::lease::LEASE;
pub use self::machine::Machine;
pub use self::machine::Task;
pub use self::machine::UnitKey;
use self::plan::Bond;
pub use self::probe::Point;
pub use self::probe::Probe;
pub use self::probe::StandIn;
pub use self::scope::NoSecrets;
pub use self::scope::RunRoot;
pub use self::scope::SecretSource;
pub use self::scope::roots;
pub use self::tape::Call;
pub use self::tape::Deck;
pub use self::tape::Said;
pub use self::tape::Tape;
use crate::http::Transport;
use crate::memory::Memory;
use crate::model::Answer;
use crate::model::Ask;
use crate::model::AskId;
use crate::model::Duration;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::VersionId;
use crate::node::Access;
use crate::node::Services;
use crate::pipeline::Pipeline;
use crate::store;
use crate::store::Claimed;
use crate::store::Fence;
use crate::store::Lease;
use crate::store::NewRun;
use crate::store::RunRecord;
use crate::store::Store;
use crate::store::VersionRecord;
use crate::system::System;

/// What the engine works with; cheap to clone by `Arc`.
#[derive(Clone, Debug)]
pub struct Parts {
    pub system: System,
    pub store: Store,
    pub http: Arc<dyn Transport>,
    pub access: Access,
    pub secrets: Arc<dyn SecretSource>,
    /// Names this process in leases.
    pub owner: String,
    /// Tells of an owner whether its process certainly no longer exists: its runs are then taken over at once.
    pub owner_is_gone: fn(&str) -> bool,
    /// How long after an intent its first byte may leave.
    pub send_window: Duration,
    /// What rooms above share with their own nodes.
    pub services: Services,
    /// Told of the points between which a crash must do no harm; for tests.
    pub probe: Probe,
    /// Who records what nodes are asked, or answers in their place.
    pub tape: Deck,
}

/// Executes runs.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Parts>, Arc<Shared>);

/// How the slot of a run begins that a plan has made, with the plan's hash behind it.
const PLANNED: &str = "plan@";

/// A version is put into the store again after so long: housekeeping removes what nothing has needed for a day.
const KEPT: Duration = Duration::from_secs(3_600);

/// What the executions of a process share.
#[derive(Debug, Default)]
struct Shared {
    /// Claims of this process for executions to come.
    held: Mutex<HashMap<RunId, Held>>,
    /// Versions that the store keeps, and when they were put there.
    kept: Mutex<HashMap<VersionId, Timestamp>>,
    /// Told when permits were given out here.
    granted: Notify,
    /// How many steps may do something outside at the same time.
    room: Option<Arc<Semaphore>>,
}

/// A claim of this process for an execution to come, with the run as it was then where it is known.
#[derive(Clone, Debug)]
struct Held {
    fence: Fence,
    run: Option<Box<RunRecord>>,
}

/// Whose child a run is.
#[derive(Clone, Debug)]
struct Parent {
    run: RunId,
    path: StepPath,
    fence: Fence,
    /// Whether any worker may execute the child.
    spread: bool,
}

/// How a run is executed.
#[derive(Clone, Debug)]
pub struct ExecuteOptions {
    /// Stops in good order: no step starts any more, writes under way end, the run can be resumed.
    pub stop: CancellationToken,
    /// Whether waits of any length are waited for here; otherwise the run is parked and `Waiting` comes back.
    pub foreground: bool,
    /// Takes the committed events, for those who watch.
    pub observer: Option<mpsc::UnboundedSender<(RunId, RunEvent)>>,
    /// When the run must have ended: a parent's deadline.
    pub deadline: Option<Timestamp>,
    /// What a plan binds a run to that has not begun.
    pub bond: Option<Arc<Bond>>,
}

/// What an execution came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Execution {
    /// The run ended.
    Finished { state: RunState, outputs: Value, error: Option<StepError> },
    /// Nothing can go on before `until`, or, without it, without a person or a signal.
    Waiting { until: Option<Timestamp>, reason: String, in_doubt: bool },
    /// `stop` was asked for: the run can be resumed.
    Stopped,
}

/// What a person may say to a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    Cancel {
        undo: bool,
    },
    /// A step run has got the permits that it asked for; the store says so itself.
    Permitted {
        path: StepPath,
    },
    /// A step run that waits for locks fails: it and others wait for each other; the store says so itself.
    GiveWay {
        path: StepPath,
        reason: String,
    },
    /// Another run, or a limit, ends this one; the store says so itself.
    Replaced {
        reason: String,
    },
    /// Settles an effect in doubt.
    Resolve {
        effect: String,
        verdict: crate::model::Verdict,
    },
    /// Answers what a step run asks.
    Answer {
        ask: AskId,
        answer: Answer,
    },
    /// A child run was told something; who executes its parent goes on with it.
    Child {
        run: RunId,
    },
    /// Child runs that others execute have ended; whoever ends them says so.
    Ended,
}

/// Why a run cannot be executed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the store failed")]
    Store(#[from] crate::store::Error),
    #[error("there is no run `{0}`")]
    NoRun(RunId),
    #[error("run `{0}` is being executed by another process")]
    Taken(RunId),
    #[error("the lease of run `{0}` was lost to another process")]
    LeaseLost(RunId),
    #[error("run `{run}` is {state}: {help}")]
    WrongState { run: RunId, state: &'static str, help: &'static str },
    #[error("`{pipeline}` cannot run yet: {keys}")]
    NotYet { pipeline: Arc<str>, keys: String },
    #[error("there is no step `{0}`")]
    NoStep(String),
    #[error("`{pipeline}` cannot start: {key} has no value: {message}")]
    NoKey { pipeline: Arc<str>, key: &'static str, message: String },
}

impl Parts {
    /// Adds the memory of content to the services: it is the same store.
    fn with_memory(mut self) -> Self {
        self.services = self.services.with(Arc::new(Memory::of(self.store.clone())));
        self
    }
}

impl Engine {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts.with_memory()), Arc::default())
    }

    /// Makes an engine that does at most so many steps at the same time that look or work outside, of all its runs.
    #[must_use]
    pub fn limited(parts: Parts, steps: usize) -> Self {
        let room = Some(Arc::new(Semaphore::new(steps.clamp(1, Semaphore::MAX_PERMITS))));
        Self(Arc::new(parts.with_memory()), Arc::new(Shared { room, ..Shared::default() }))
    }

    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.0
    }

    /// Makes a run of a pipeline with checked inputs (see `pipeline::check_inputs`), for this process to execute. It is
    /// queued and durable.
    ///
    /// # Errors
    /// The store's, and `NotYet` where the pipeline uses what does not work yet.
    pub async fn start(&self, pipeline: &Pipeline, inputs: Value) -> Result<RunId, Error> {
        self.start_as(None, pipeline, inputs).await
    }

    /// Makes a run that a person starts; see `start`.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_as(&self, person: Option<&str>, pipeline: &Pipeline, inputs: Value) -> Result<RunId, Error> {
        let id = self.0.system.run_id();
        let run = NewRun { started_by: person.map(Arc::from), ..self.new_run(pipeline, id, inputs).await? };
        if let Some(fence) = self.0.store.create_held(&run, &self.0.owner).await? {
            self.hold(id, fence, None);
        }
        self.admit(&run.requests).await?;
        Ok(id)
    }

    /// Makes the run of a plan, for this process to execute with the bond that comes back. False where the plan was applied
    /// before.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_planned(
        &self,
        person: Option<&str>,
        pipeline: &Pipeline,
        plan: &plan::Plan,
        hash: &str,
    ) -> Result<Option<Arc<Bond>>, Error> {
        let run = self.new_run(pipeline, plan.run, plan.inputs.clone()).await?;
        let slot = Some(format!("{PLANNED}{hash}"));
        let run = NewRun { started_by: person.map(Arc::from), slot, ..run };
        let Some(fence) = self.0.store.create_held(&run, &self.0.owner).await? else { return Ok(None) };
        self.hold(plan.run, fence, None);
        self.admit(&run.requests).await?;
        Ok(Some(Arc::new(Bond::of(plan, hash))))
    }

    /// Makes a run that has been before, under its id; repeating is harmless.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_again(
        &self,
        pipeline: &Pipeline,
        id: RunId,
        inputs: Value,
        slot: Option<String>,
    ) -> Result<(), Error> {
        // What bound it to a plan was written into its journal then.
        let slot = slot.filter(|slot| !slot.starts_with(PLANNED));
        let run = NewRun { slot, ..self.new_run(pipeline, id, inputs).await? };
        self.0.store.create_run(&run).await?;
        self.admit(&run.requests).await
    }

    /// Makes a run for whoever works off the queue. Nothing where the slot has a run already.
    ///
    /// # Errors
    /// As `start`.
    pub async fn enqueue(
        &self,
        pipeline: &Pipeline,
        inputs: Value,
        slot: Option<String>,
    ) -> Result<Option<RunId>, Error> {
        let id = self.0.system.run_id();
        let run = NewRun { slot, ..self.new_run(pipeline, id, inputs).await? };
        let made = self.0.store.create_run(&run).await?;
        self.admit(&run.requests).await?;
        Ok(made.then_some(id))
    }

    /// Takes runs from the queue for this process to execute; see `Store::claim_due`.
    ///
    /// # Errors
    /// The store's.
    pub async fn take(&self, most: u32) -> Result<Vec<Claimed>, Error> {
        let claimed = self.0.store.claim_due(&self.0.owner, self.0.system.clock.now(), most).await?;
        for claimed in &claimed {
            self.hold(claimed.run.id, claimed.fence, Some(Box::new(claimed.run.clone())));
        }
        Ok(claimed)
    }

    /// Takes a run over from an owner that is gone; see `Store::steal`.
    ///
    /// # Errors
    /// The store's.
    pub async fn take_over(&self, run: RunId, seen: &Lease) -> Result<bool, Error> {
        let fence = self.0.store.steal(run, &self.0.owner, seen).await?;
        if let Some(fence) = fence {
            self.hold(run, fence, None);
        }
        Ok(fence.is_some())
    }

    /// Gives a run back that cannot go on, with the reason; a person or another version of the program goes on with it.
    ///
    /// # Errors
    /// The store's.
    pub async fn hold_back(&self, run: RunId, reason: &str) -> Result<(), Error> {
        if let Some(held) = self.held(run) {
            self.0.store.hold_back(run, held.fence, reason).await?;
        }
        Ok(())
    }

    /// Notes a claim of this process, for the execution to come.
    fn hold(&self, id: RunId, fence: Fence, run: Option<Box<RunRecord>>) {
        self.1.held.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Held { fence, run });
    }

    /// Makes a child run for the holder of its parent; repeating is harmless.
    async fn create(&self, pipeline: &Pipeline, id: RunId, inputs: Value, parent: Parent) -> Result<(), Error> {
        let Parent { run, path, fence, spread } = parent;
        let mut child = self.new_run(pipeline, id, inputs).await?;
        if !child.requests.is_empty() {
            // What those above it hold it need not wait for, and could not.
            let above = self.held_above(run, Some(&path)).await?;
            child.requests.retain(|request| !above.contains(&request.scope));
        }
        let child = NewRun { parent: Some((run, path)), spread, ..child };
        self.0.store.create_child(&child, run, fence).await?;
        self.admit(&child.requests).await
    }

    /// Makes the row of a run; its version is kept.
    async fn new_run(&self, pipeline: &Pipeline, id: RunId, inputs: Value) -> Result<NewRun, Error> {
        let run = NewRun { id, ..self.row(pipeline, inputs)? };
        self.keep_version(pipeline).await?;
        Ok(run)
    }

    /// Has the store keep a pipeline's version, which its runs name; repeating is harmless, and soon costs nothing.
    ///
    /// # Errors
    /// The store's.
    pub async fn keep_version(&self, pipeline: &Pipeline) -> Result<(), Error> {
        let now = self.0.system.clock.now();
        let kept = |put: &Timestamp| now.micros().abs_diff(put.micros()) < KEPT.micros();
        if self.1.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&pipeline.version).is_some_and(kept) {
            return Ok(());
        }
        let version = VersionRecord {
            id: pipeline.version.clone(),
            pipeline: pipeline.name.clone(),
            definition: pipeline.definition.clone(),
        };
        self.0.store.put_version(&version).await?;
        let mut all = self.1.kept.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, put| kept(put));
        all.insert(pipeline.version.clone(), now);
        Ok(())
    }

    /// Makes the row of a run with checked inputs, which nobody has stored yet.
    ///
    /// # Errors
    /// `NotYet` where the pipeline uses what does not work yet; `NoKey` where the key of its `concurrency` or the name of a
    /// lock cannot be evaluated.
    pub fn row(&self, pipeline: &Pipeline, inputs: Value) -> Result<NewRun, Error> {
        if !pipeline.not_yet.is_empty() {
            let keys = pipeline.not_yet.join("; ");
            return Err(Error::NotYet { pipeline: pipeline.name.clone(), keys });
        }
        let requests = self.requests(pipeline, &inputs)?;
        Ok(NewRun {
            id: self.0.system.run_id(),
            pipeline: pipeline.name.clone(),
            version: pipeline.version.clone(),
            inputs,
            slot: None,
            priority: pipeline.priority,
            parent: None,
            spread: false,
            started_by: None,
            requests,
            created_at: self.0.system.clock.now(),
        })
    }

    /// Executes a run from where its journal ends: a new one from its beginning, one that a crash cut off from there.
    ///
    /// # Errors
    /// The store's; `Taken` when another process executes it. What fails inside the run is in `Execution`.
    pub async fn execute(
        &self,
        run: RunId,
        pipeline: Arc<Pipeline>,
        options: ExecuteOptions,
    ) -> Result<Execution, Error> {
        let end = driver::execute(self, run, pipeline, driver::Mode::Forward, options).await;
        self.0.store.spending_written().await;
        end
    }

    /// Runs again what failed in a run, and with `from` that step and all behind it.
    ///
    /// # Errors
    /// As `execute`; `WrongState` when nothing of it failed and no step is named.
    pub async fn retry(
        &self,
        run: RunId,
        pipeline: Arc<Pipeline>,
        from: Option<String>,
        options: ExecuteOptions,
    ) -> Result<Execution, Error> {
        if let Some(step) = from.as_deref().filter(|step| !pipeline.main.index.contains_key(*step)) {
            return Err(Error::NoStep(step.to_owned()));
        }
        let end = driver::execute(self, run, pipeline, driver::Mode::Retry { from }, options).await;
        self.0.store.spending_written().await;
        end
    }

    /// Leaves a signal for a run, whoever executes it; of a child run its parent hears, too.
    ///
    /// # Errors
    /// The store's.
    pub async fn signal(&self, run: RunId, signal: &Signal) -> Result<(), Error> {
        let (kind, payload) = signal.to_stored();
        let now = self.0.system.clock.now();
        if self.0.store.inbox_send(run, kind, &payload, now).await? { Ok(()) } else { Err(Error::NoRun(run)) }
    }

    /// Takes out the claim that was noted for an execution.
    fn held(&self, run: RunId) -> Option<Held> {
        self.1.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&run)
    }
}

impl Signal {
    fn to_stored(&self) -> (&'static str, Value) {
        use crate::model::Verdict;
        match self {
            Self::Cancel { undo } => (store::CANCEL, Value::map([("undo", Value::Bool(*undo))])),
            Self::Permitted { path } => (store::PERMITTED, Value::map([("path", Value::from(path.to_string()))])),
            Self::GiveWay { path, reason } => {
                let entries = [("path", Value::from(path.to_string())), ("reason", reason.as_str().into())];
                (store::GIVE_WAY, Value::map(entries))
            }
            Self::Replaced { reason } => (store::CANCEL, Value::map([("reason", Value::from(reason.as_str()))])),
            Self::Resolve { effect, verdict } => {
                let (word, output) = match verdict {
                    Verdict::Happened { output, .. } => ("happened", output.clone()),
                    Verdict::SendAgain => ("send_again", Value::Null),
                    Verdict::Dropped => ("dropped", Value::Null),
                };
                let entries = [("effect", Value::from(effect.as_str())), ("verdict", word.into()), ("output", output)];
                ("resolve", Value::map(entries))
            }
            Self::Answer { ask, answer } => (Ask::ANSWERED, Ask::answered(ask, answer)),
            Self::Ended => (store::CHILD_ENDED, Value::Null),
            Self::Child { run } => (store::CHILD_TOLD, Value::map([("run", Value::from(run.to_string()))])),
        }
    }

    fn from_stored(kind: &str, payload: &Value) -> Option<Self> {
        use crate::model::Verdict;
        match kind {
            store::CANCEL => Some(match payload.get("reason").and_then(Value::as_str) {
                Some(reason) => Self::Replaced { reason: reason.to_owned() },
                None => Self::Cancel { undo: payload.get("undo").and_then(Value::as_bool).unwrap_or(false) },
            }),
            store::GIVE_WAY => Some(Self::GiveWay {
                path: payload.get("path")?.as_str()?.parse().ok()?,
                reason: payload.get("reason")?.as_str()?.to_owned(),
            }),
            store::PERMITTED => Some(Self::Permitted { path: payload.get("path")?.as_str()?.parse().ok()? }),
            "resolve" => {
                let output = payload.get("output").cloned().unwrap_or_default();
                let verdict = match payload.get("verdict")?.as_str()? {
                    "happened" => Verdict::Happened { output, remote_id: None },
                    "send_again" => Verdict::SendAgain,
                    _ => Verdict::Dropped,
                };
                Some(Self::Resolve { effect: payload.get("effect")?.as_str()?.to_owned(), verdict })
            }
            Ask::ANSWERED => Ask::read_answered(payload).map(|(ask, answer)| Self::Answer { ask, answer }),
            store::CHILD_ENDED => Some(Self::Ended),
            store::CHILD_TOLD => Some(Self::Child { run: payload.get("run")?.as_str()?.parse().ok()? }),
            _ => None,
        }
    }
}

impl Default for ExecuteOptions {
    /// Waits here for as long as it takes.
    fn default() -> Self {
        Self { stop: CancellationToken::new(), foreground: true, observer: None, deadline: None, bond: None }
    }
}
