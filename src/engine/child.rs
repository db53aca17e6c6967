//! Child runs of `pipeline.run`: executed in this process, each with a journal of its own.

use std::future::Future;
use std::pin::Pin;

use super::Engine;
use super::Error;
use super::ExecuteOptions;
use super::Execution;
use super::Signal;
use super::driver;
use super::driver::Driver;
use super::finish::Done;
use super::machine::Child;
use super::machine::UnitKey;
use crate::model::ErrorClass;
use crate::model::Phase;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::check_values;

impl Driver {
    /// Starts the child run of a step run. Its id derives from the parent's, so a repeated start is harmless.
    pub(super) fn start_child(&mut self, key: UnitKey, started: Timestamp, inputs: Value) {
        let Some(pipeline) = self.machine.definition(key).child.clone() else {
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
        let child = RunId::child_of(self.run, &format!("{path}~{generation}"));
        self.machine.start_child(key, child, self.now());
        self.machine.forget_rousing(key);
        self.flush();
        let (engine, journal, run, options) =
            (self.engine.clone(), self.journal.clone(), self.run, self.child_options());
        let canceled = self.canceled.clone();
        self.jobs.spawn(async move {
            // A child run is visible outside: what led to it comes first.
            if let Err(error) = journal.commit().await {
                return (key, Done::Failed(error));
            }
            let result = async {
                engine.create(&pipeline, child, inputs, Some((run, path))).await?;
                // Whoever canceled the parent before this moment found no child to cancel.
                if canceled.is_cancelled() && !options.stop.is_cancelled() {
                    engine.signal_child(child, &Signal::Cancel { undo: false }).await?;
                }
                let mode = match engine.finished(child).await? {
                    None => driver::Mode::Forward,
                    Some(done @ Execution::Finished { state: RunState::Succeeded, .. }) => return Ok(done),
                    // The step is tried again, so the child is: what succeeded in it stays.
                    Some(_) => driver::Mode::Retry { from: None },
                };
                execute(engine, child, pipeline, mode, options).await
            };
            (key, Done::Child(started, result.await))
        });
    }

    /// Goes on with a child run that was started before, or undoes one that had succeeded.
    pub(super) fn resume_child(&mut self, key: UnitKey) {
        let main = UnitKey { phase: Phase::Main, ..key };
        let started = self.now();
        let pipeline = self.machine.definition(key).child.clone();
        let (Some(child), Some(pipeline)) = (self.machine.child(main), pipeline) else {
            let error = self.step_error(ErrorClass::Bug, "the child run is not known");
            return self.give_up(key, started, error);
        };
        let mode = if key.phase == Phase::Undo { driver::Mode::Undo } else { driver::Mode::Forward };
        self.machine.forget_rousing(key);
        let (engine, options) = (self.engine.clone(), self.child_options());
        self.jobs.spawn(async move {
            let result = match engine.finished(child).await {
                Ok(Some(execution)) if matches!(mode, driver::Mode::Forward) => Ok(execution),
                Ok(_) => execute(engine, child, pipeline, mode, options).await,
                Err(error) => Err(error),
            };
            (key, Done::Child(started, result))
        });
    }

    fn child_options(&self) -> ExecuteOptions {
        ExecuteOptions { deadline: self.must_end(), ..self.options.clone() }
    }

    /// Cancels child runs. One that sleeps is executed to its end here: nobody else would.
    pub(super) async fn cancel_children(&mut self, children: Vec<Child>, undo: bool) -> Result<(), Error> {
        for child in children {
            match self.engine.signal_child(child.run, &Signal::Cancel { undo }).await {
                Ok(()) => {}
                // It was not made yet. One that is just being made looks for itself, see `start_child`.
                Err(Error::NoRun(_)) => continue,
                Err(error) => return Err(error),
            }
            let Some(pipeline) = self.machine.definition(child.key).child.clone().filter(|_| !child.flies) else {
                continue;
            };
            let options = ExecuteOptions { deadline: None, ..self.child_options() };
            match execute(self.engine.clone(), child.run, pipeline, driver::Mode::Forward, options).await {
                Ok(_) | Err(Error::WrongState { .. } | Error::Taken(_)) => {}
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
}

/// Breaks the circle of types: a run's future holds its children's.
fn execute(
    engine: Engine,
    run: RunId,
    pipeline: std::sync::Arc<crate::pipeline::Pipeline>,
    mode: driver::Mode,
    options: ExecuteOptions,
) -> Pin<Box<dyn Future<Output = Result<Execution, Error>> + Send>> {
    Box::pin(async move { driver::execute(&engine, run, pipeline, mode, options).await })
}
