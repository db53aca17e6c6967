//! Child runs of `pipeline.run`, each with a journal of its own: executed in this process, or, where they are spread, by
//! whoever claims them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Engine;
use super::Error;
use super::ExecuteOptions;
use super::Execution;
use super::Parent;
use super::Signal;
use super::driver;
use super::driver::Driver;
use super::finish::Done;
use super::machine::Child;
use super::machine::UnitKey;
use crate::model::Duration;
use crate::model::ErrorClass;
use crate::model::Phase;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::Pipeline;
use crate::pipeline::check_values;
use crate::store::Fence;
use crate::store::Gate;
use crate::store::SILENT;
use crate::store::WorkerRow;

/// A child run that others may execute waits so long for somebody to take it, before whoever sits before its parent helps.
const PATIENCE: Duration = Duration::from_secs(5);

impl Driver {
    /// Starts the child run of a step run. Its id derives from the parent's, so a repeated start is harmless.
    pub(super) fn start_child(&mut self, key: UnitKey, started: Timestamp, inputs: Value) {
        let Some(pipeline) = self.doing(key).child().cloned() else {
            let error = self.step_error(ErrorClass::Bug, "the step has no child pipeline");
            return self.give_up(key, started, error);
        };
        let checked = if pipeline.composite { Ok(inputs) } else { check_values(&pipeline, inputs) };
        let inputs = match checked {
            Ok(inputs) => inputs,
            Err(problems) => {
                let error = self.step_error(ErrorClass::Invalid, problems.join("; "));
                return self.give_up(key, started, error);
            }
        };
        let path = self.machine.path(key);
        let generation = self.machine.generation(key);
        let child = child_run(self.run, &path, generation);
        if let Some(tape) = self.parts().tape.tape() {
            tape.child(self.run, &path, child);
        }
        self.machine.start_child(key, child, self.now());
        self.machine.forget_rousing(key);
        self.flush();
        let (engine, journal, run, fence) = (self.engine.clone(), self.journal.clone(), self.run, self.fence);
        let options = self.child_options(&path);
        // What binds the parent is not known elsewhere.
        let spread = self.machine.definition(key).spread && key.phase != Phase::Undo && self.bond.is_none();
        let canceled = self.canceled.clone();
        self.jobs.spawn(async move {
            // A child run is visible outside: what led to it comes first.
            if let Err(error) = journal.commit().await {
                return (key, Done::Failed(error));
            }
            let result = async {
                engine.create(&pipeline, child, inputs, Parent { run, path, fence, spread }).await?;
                // Whoever canceled the parent before this moment found no child to cancel.
                if canceled.is_cancelled() && !options.stop.is_cancelled() {
                    engine.signal_child(child, run, fence, &Signal::Cancel { undo: false }).await?;
                }
                let mode = match engine.finished(child).await? {
                    None => driver::Mode::Forward,
                    Some(done @ Execution::Finished { state: RunState::Succeeded, .. }) => return Ok(Some(done)),
                    // The step is tried again, so the child is: what succeeded in it stays.
                    Some(_) => driver::Mode::Retry { from: None },
                };
                if spread {
                    return engine.spread(child, pipeline, mode, options).await;
                }
                execute(engine.clone(), child, pipeline, mode, options).await.map(Some)
            };
            let result = result.await;
            (key, Done::child(&engine, child, started, result).await)
        });
    }

    /// Goes on with a child run that was started before, or undoes one that had succeeded.
    pub(super) fn resume_child(&mut self, key: UnitKey) {
        let main = UnitKey { phase: Phase::Main, ..key };
        let started = self.now();
        let undoes = key.phase == Phase::Undo && self.machine.definition(key).undo.is_none();
        let pipeline = self.doing(key).child().cloned();
        let known = if undoes { self.machine.child(main) } else { self.machine.child(key) };
        let (Some(child), Some(pipeline)) = (known, pipeline) else {
            let error = self.step_error(ErrorClass::Bug, "the child run is not known");
            return self.give_up(key, started, error);
        };
        let mode = if undoes { driver::Mode::Undo } else { driver::Mode::Forward };
        self.machine.forget_rousing(key);
        let (engine, options) = (self.engine.clone(), self.child_options(&self.machine.path(key)));
        let spread = self.machine.definition(key).spread && key.phase != Phase::Undo && self.bond.is_none();
        self.jobs.spawn(async move {
            let result = match engine.finished(child).await {
                Ok(Some(execution)) if !undoes => Ok(Some(execution)),
                Ok(_) if spread => engine.spread(child, pipeline, mode, options).await,
                Ok(_) => execute(engine.clone(), child, pipeline, mode, options).await.map(Some),
                // The process died between the journal and the child.
                Err(Error::NoRun(_)) if !undoes => return (key, Done::Unmade),
                Err(error) => Err(error),
            };
            (key, Done::child(&engine, child, started, result).await)
        });
    }

    /// Looks whether child runs that others execute have ended.
    pub(super) fn look_after_children(&mut self) {
        self.children_seen = self.now();
        for key in self.machine.recall() {
            self.resume_child(key);
        }
    }

    fn child_options(&self, path: &StepPath) -> ExecuteOptions {
        let bond = self.bond.as_ref().and_then(|bond| bond.below(path)).map(Arc::new);
        ExecuteOptions { deadline: self.must_end(), bond, ..self.options.clone() }
    }

    /// Cancels child runs. One that sleeps is executed to its end here: nobody else would.
    pub(super) async fn cancel_children(&mut self, children: Vec<Child>, undo: bool) -> Result<(), Error> {
        for child in children {
            match self.engine.signal_child(child.run, self.run, self.fence, &Signal::Cancel { undo }).await {
                Ok(()) => {}
                // It was not made yet. One that is just being made looks for itself, see `start_child`.
                Err(Error::NoRun(_)) => continue,
                Err(error) => return Err(error),
            }
            let Some(pipeline) = self.machine.definition(child.key).child.clone().filter(|_| !child.flies) else {
                continue;
            };
            let path = self.machine.path(child.key);
            let options = ExecuteOptions { deadline: None, ..self.child_options(&path) };
            let executed = if child.away {
                // Its end is told as every other one.
                self.engine.spread(child.run, pipeline, driver::Mode::Forward, options).await.map(drop)
            } else {
                execute(self.engine.clone(), child.run, pipeline, driver::Mode::Forward, options).await.map(drop)
            };
            match executed {
                Ok(()) | Err(Error::WrongState { .. } | Error::Taken(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Returns how a run ended, if it has.
    async fn finished(&self, run: RunId) -> Result<Option<Execution>, Error> {
        let record = self.parts().store.run(run).await?.ok_or(Error::NoRun(run))?;
        let ended = record.state.is_final();
        Ok(ended.then(|| Execution::Finished { state: record.state, outputs: record.outputs, error: record.error }))
    }

    /// Leaves a signal for a child run, as long as its parent is held by this fence.
    async fn signal_child(&self, child: RunId, parent: RunId, fence: Fence, signal: &Signal) -> Result<(), Error> {
        let (kind, payload) = signal.to_stored();
        let now = self.parts().system.clock.now();
        let told = self.parts().store.tell_child(child, parent, fence, (kind, &payload), now).await?;
        if told { Ok(()) } else { Err(Error::NoRun(child)) }
    }

    /// Leaves a child run to whoever claims it; nothing then. Where nobody would, whoever sits before its parent executes
    /// it, and gets what it came to.
    async fn spread(
        &self,
        child: RunId,
        pipeline: Arc<Pipeline>,
        mode: driver::Mode,
        options: ExecuteOptions,
    ) -> Result<Option<Execution>, Error> {
        let (store, retries) = (&self.parts().store, matches!(mode, driver::Mode::Retry { .. }));
        let helps = options.foreground && !options.stop.is_cancelled() && self.is_left(child, retries).await?;
        if !helps && !retries {
            return Ok(None);
        }
        // Others may have been faster.
        let Some(fence) = store.claim(child, &self.parts().owner).await? else { return Ok(None) };
        self.hold(child, fence, None);
        if helps {
            return match execute(self.clone(), child, pipeline, mode, options).await {
                // This process was too slow, and others go on with it.
                Err(Error::LeaseLost(_) | Error::Store(crate::store::Error::LeaseLost { .. })) => Ok(None),
                result => result.map(Some),
            };
        }
        // Its journal says that it begins again; then it is left like any other.
        let stop = CancellationToken::new();
        stop.cancel();
        let options = ExecuteOptions { stop, foreground: false, ..options };
        match execute(self.clone(), child, pipeline, mode, options).await? {
            Execution::Stopped => Ok(None),
            done => Ok(Some(done)),
        }
    }

    /// Tells whether nobody else executes a child run: no daemon is there, or none has taken it for a while.
    async fn is_left(&self, child: RunId, is_new: bool) -> Result<bool, Error> {
        // One that waits for permits is nobody's yet.
        let run = self.parts().store.run(child).await?.filter(|run| !run.owned && run.gate == Gate::Open);
        let Some(run) = run else { return Ok(false) };
        let alone = !self.has_workers().await?;
        if alone || is_new {
            return Ok(alone);
        }
        let now = self.parts().system.clock.now();
        let due = if run.state == RunState::Waiting { run.waiting_until } else { Some(run.created_at) };
        Ok(due.is_some_and(|due| due.plus(PATIENCE) <= now))
    }

    /// Tells whether a daemon that executes runs is there.
    ///
    /// # Errors
    /// The store's.
    pub async fn has_workers(&self) -> Result<bool, Error> {
        let workers = self.parts().store.workers().await?;
        Ok(workers.iter().any(|worker| worker.has_role("worker") && self.lives(worker)))
    }

    /// Tells whether a daemon is to be counted on.
    #[must_use]
    pub fn lives(&self, worker: &WorkerRow) -> bool {
        // One on this machine is known by its process; an embedded store has no others.
        let shared = self.parts().store.is_shared();
        !(self.parts().owner_is_gone)(&worker.presence.id) && (!shared || worker.silent < SILENT)
    }
}

/// Returns the id of the run that a step run calls, so that whoever makes it again makes the same. `generation` counts how
/// often a retry has taken the step run back.
pub(super) fn child_run(parent: RunId, path: &StepPath, generation: u32) -> RunId {
    RunId::child_of(parent, &format!("{path}~{generation}"))
}

/// Breaks the circle of types: a run's future holds its children's.
fn execute(
    engine: Engine,
    run: RunId,
    pipeline: Arc<Pipeline>,
    mode: driver::Mode,
    options: ExecuteOptions,
) -> Pin<Box<dyn Future<Output = Result<Execution, Error>> + Send>> {
    Box::pin(async move { driver::execute(&engine, run, pipeline, mode, options).await })
}
