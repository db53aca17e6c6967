//! Executes what the queue has: claims runs, drives them, and takes over those whose owner is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::watch;
use tokio::task::Id;
use tokio::task::JoinError;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::bell::Bell;
use super::metrics::Metrics;
use super::scheduler::Active;
use super::told;
use crate::engine::Engine;
use crate::engine::Error;
use crate::engine::ExecuteOptions;
use crate::engine::Execution;
use crate::engine::lease::Observer;
use crate::model::Duration;
use crate::model::RunId;
use crate::model::Timestamp;
use crate::model::VersionId;
use crate::node::Registry;
use crate::pipeline;
use crate::pipeline::Pipeline;
use crate::store;
use crate::system::Clock;

/// How often the queue is looked at where nobody rings.
const LOOK: Duration = Duration::from_secs(5);
/// How often leases are looked at.
const WATCH: Duration = Duration::from_secs(5);
/// Wait so long after a fault of the store before asking it again.
const REST: Duration = Duration::from_secs(1);
/// How many compiled versions are kept.
const VERSIONS: usize = 256;

/// A worker of a daemon.
#[derive(Debug)]
pub struct Worker {
    pub engine: Engine,
    pub registry: Registry,
    /// What is active is compiled already.
    pub active: watch::Receiver<Active>,
    pub bell: Bell,
    pub metrics: Arc<Metrics>,
    /// So many runs at the same time.
    pub most: usize,
    /// Ends it in good order: nothing new is taken, steps under way end, runs go back into the queue.
    pub stop: CancellationToken,
    /// How long steps under way may take to end.
    pub drain: Duration,
}

/// What became of an execution.
type Ended = Result<Execution, Error>;

#[derive(Debug, Default)]
struct State {
    running: JoinSet<Ended>,
    /// What is executed here, by task.
    own: HashMap<Id, RunId>,
    versions: HashMap<VersionId, Arc<Pipeline>>,
    active: HashMap<VersionId, Arc<Pipeline>>,
    /// What was seen of the leases of others.
    observer: Observer,
    watched: Option<Duration>,
}

impl Worker {
    /// Works until it is stopped. Returns how many executions had to be given up at the end of the drain.
    pub async fn work(mut self) -> usize {
        let mut state = State::default();
        self.active.mark_changed();
        let mut rung = self.bell.listen();
        let clock = self.engine.parts().system.clock.clone();
        while !self.stop.is_cancelled() {
            let mut rest = LOOK;
            match self.turn(&mut state).await {
                Ok(full) if full && state.running.len() < self.most => continue,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(error = told(&error), "the store failed; trying again");
                    rest = REST;
                }
            }
            // Where there is no room, an execution that ends is waited for, and not whose time has come.
            let due = if rest == LOOK && state.running.len() < self.most {
                self.engine.parts().store.next_due().await.unwrap_or_default()
            } else {
                None
            };
            tokio::select! {
                Some(ended) = state.running.join_next_with_id(), if !state.running.is_empty() => {
                    self.ended(&mut state, ended).await;
                    // A place is free. Others that ended meanwhile are told now, too.
                    while let Some(ended) = state.running.try_join_next_with_id() {
                        self.ended(&mut state, ended).await;
                    }
                }
                () = Bell::rung(&mut rung) => {}
                () = wait_until(&*clock, due) => {}
                // By the length of time: a wall clock that is set back must not make it blind.
                () = clock.sleep(rest) => {}
                () = self.stop.cancelled() => {}
            }
        }
        self.drained(state).await
    }

    /// Takes what can be taken. Returns whether there may be more.
    async fn turn(&mut self, state: &mut State) -> Result<bool, Error> {
        if self.active.has_changed().unwrap_or_default() {
            let active = self.active.borrow_and_update();
            state.active = active.iter().map(|pipeline| (pipeline.version.clone(), pipeline.clone())).collect();
        }
        let clock = &self.engine.parts().system.clock;
        let now = clock.monotonic();
        if state.watched.is_none_or(|last| now.micros().saturating_sub(last.micros()) >= WATCH.micros()) {
            state.watched = Some(now);
            self.watch(state, now).await?;
            self.engine.tidy_permits().await?;
        }
        let room = self.most.saturating_sub(state.running.len());
        if room == 0 {
            return Ok(false);
        }
        let claimed = self.engine.take(u32::try_from(room).unwrap_or(u32::MAX)).await?;
        let full = claimed.len() == room;
        for one in claimed {
            self.metrics.late(clock.now().since(one.due));
            self.start(state, one.run.id, &one.run.version).await?;
        }
        Ok(full)
    }

    async fn start(&self, state: &mut State, run: RunId, version: &VersionId) -> Result<(), Error> {
        let Some(pipeline) = self.pipeline(state, version).await? else {
            let reason = "its definition cannot be read by this version of the program";
            tracing::error!(%run, version = &*version.0, reason, "a run is held");
            self.engine.hold_back(run, reason).await?;
            return Ok(());
        };
        let options = ExecuteOptions { stop: self.stop.child_token(), foreground: false, ..ExecuteOptions::default() };
        let engine = self.engine.clone();
        self.metrics.executing.fetch_add(1, Relaxed);
        tracing::info!(%run, pipeline = &*pipeline.name, "a run begins or goes on");
        let bell = self.bell.clone();
        let task = state.running.spawn(async move {
            let name = pipeline.name.clone();
            let ended = engine.execute(run, pipeline, options).await;
            if matches!(ended, Ok(Execution::Finished { .. })) {
                bell.ended(&name);
            }
            ended
        });
        state.own.insert(task.id(), run);
        Ok(())
    }

    async fn pipeline(&self, state: &mut State, version: &VersionId) -> Result<Option<Arc<Pipeline>>, Error> {
        if let Some(known) = state.active.get(version).or_else(|| state.versions.get(version)) {
            return Ok(Some(known.clone()));
        }
        let Some(record) = self.engine.parts().store.version(version).await? else { return Ok(None) };
        let Ok(compiled) = pipeline::compile_definition(&record.definition, &self.registry) else { return Ok(None) };
        if state.versions.len() >= VERSIONS {
            state.versions.clear();
        }
        state.versions.insert(version.clone(), compiled.clone());
        Ok(Some(compiled))
    }

    async fn ended(&self, state: &mut State, ended: Result<(Id, Ended), JoinError>) {
        let task = match &ended {
            Ok((task, _)) => *task,
            Err(error) => error.id(),
        };
        let Some(run) = state.own.remove(&task) else { return };
        self.metrics.executing.fetch_sub(1, Relaxed);
        let result = match ended {
            Ok((_, result)) => result,
            Err(error) => {
                // Steps catch their panics, so this is a fault of ours; `watch` finds the run and goes on with it.
                tracing::error!(%run, %error, "an execution broke");
                self.metrics.broken.fetch_add(1, Relaxed);
                return;
            }
        };
        match result {
            Ok(Execution::Finished { state, error, .. }) => {
                self.metrics.ended(state);
                match error {
                    Some(error) => tracing::warn!(%run, state = state.name(), %error, "a run ended"),
                    None => tracing::info!(%run, state = state.name(), "a run ended"),
                }
            }
            Ok(Execution::Waiting { until, reason, .. }) => {
                self.metrics.parked.fetch_add(1, Relaxed);
                tracing::info!(%run, until = until.map(|until| until.to_string()), reason, "a run sleeps");
            }
            // It is in the queue again.
            Ok(Execution::Stopped) => tracing::info!(%run, "a run is stopped"),
            // Somebody else is at it, or has been: it ends there.
            Err(
                error @ (Error::LeaseLost(_)
                | Error::Taken(_)
                | Error::WrongState { .. }
                | Error::Store(store::Error::LeaseLost { .. })),
            ) => {
                tracing::warn!(%run, %error, "a run goes on elsewhere");
            }
            Err(error) => {
                self.metrics.broken.fetch_add(1, Relaxed);
                tracing::error!(%run, error = told(&error), "an execution broke; it is tried again");
            }
        }
    }

    /// Looks at the leases of runs that somebody holds: whoever is gone, or has not beaten for a lease's length by our own
    /// clock, loses his runs. Then tells what such processes have left untold.
    async fn watch(&self, state: &mut State, now: Duration) -> Result<(), Error> {
        let parts = self.engine.parts();
        let (mut versions, mut held) = (HashMap::new(), Vec::new());
        for (run, lease, version) in parts.store.held().await? {
            if !state.own.values().any(|own| *own == run) {
                versions.insert(run, version);
                held.push((run, lease));
            }
        }
        // What is ours and is not executed was left by an execution that broke.
        let gone = |owner: &str| owner == parts.owner || (parts.owner_is_gone)(owner);
        for (run, lease) in state.observer.look(held, now, gone) {
            let Some(version) = versions.get(&run).filter(|_| state.running.len() < self.most) else { continue };
            if self.engine.take_over(run, &lease).await? {
                let owner = lease.owner.as_deref().unwrap_or_default();
                tracing::warn!(%run, owner, "a run is taken over: its owner is gone");
                self.metrics.taken_over.fetch_add(1, Relaxed);
                self.start(state, run, version).await?;
            }
        }
        parts.store.tell_parents(parts.system.clock.now()).await?;
        Ok(())
    }

    /// Waits for executions to end in good order, for so long and no longer.
    async fn drained(&self, mut state: State) -> usize {
        let clock = self.engine.parts().system.clock.clone();
        let end = clock.now().plus(self.drain);
        while !state.running.is_empty() {
            tokio::select! {
                Some(ended) = state.running.join_next_with_id() => self.ended(&mut state, ended).await,
                () = clock.sleep_until(end) => break,
            }
        }
        let left = state.running.len();
        if left > 0 {
            tracing::warn!(left, "executions are given up; they go on from their journals");
        }
        left
    }
}

async fn wait_until(clock: &dyn Clock, due: Option<Timestamp>) {
    match due {
        Some(due) => clock.sleep_until(due).await,
        None => std::future::pending().await,
    }
}
