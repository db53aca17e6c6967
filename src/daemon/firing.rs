//! Makes the runs of what fires: those of files and of ends of runs.

use std::sync::Arc;

use super::bell::Bell;
use super::metrics::Metrics;
use super::metrics::Outcome;
use super::scheduler::Scheduler;
use crate::engine::Engine;
use crate::engine::Error;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::Pipeline;
use crate::pipeline::Trigger;
use crate::store::FileRow;
use crate::store::NewFiring;
use crate::store::NewRun;

/// How often tokens are reached for while others reach for them.
const REACHES: usize = 32;
/// So many runs are made in one transaction.
const TOGETHER: usize = 200;

/// Makes the runs of what fires.
#[derive(Debug)]
pub(super) struct Starter {
    pub(super) engine: Engine,
    pub(super) bell: Bell,
    pub(super) metrics: Arc<Metrics>,
}

/// Something that fires a trigger.
#[derive(Debug)]
pub(super) struct Firing {
    /// What it is, unique for the trigger.
    pub(super) mark: String,
    pub(super) run: NewRun,
    pub(super) file: Option<FileRow>,
}

impl Starter {
    pub(super) fn new(scheduler: &Scheduler) -> Self {
        let Scheduler { engine, bell, metrics, .. } = scheduler;
        Self { engine: engine.clone(), bell: bell.clone(), metrics: metrics.clone() }
    }

    /// Makes the run that a trigger makes of an event; where it cannot, that is told and counted.
    pub(super) fn run<'e>(
        &self,
        pipeline: &Pipeline,
        trigger: &Trigger,
        mark: &str,
        event: impl IntoIterator<Item = (&'e str, Value)>,
    ) -> Option<NewRun> {
        let (name, id) = (&*pipeline.name, &*trigger.id);
        let slot = format!("{id}@{mark}");
        let inputs = self.engine.inputs_of_event(pipeline, trigger, event, Value::from(slot.as_str()));
        let run = inputs.map_err(|reasons| reasons.join("; ")).and_then(|inputs| {
            let run = self.engine.row(pipeline, inputs).map_err(|error| error.to_string())?;
            Ok(NewRun { slot: Some(slot), started_by: Some(format!("trigger {id}").into()), ..run })
        });
        match run {
            Ok(run) => Some(run),
            Err(reason) => {
                tracing::error!(pipeline = name, trigger = id, event = mark, reason, "a trigger cannot fire");
                self.metrics.trigger(trigger.kind.name(), Outcome::Unfit);
                None
            }
        }
    }

    /// Makes a run for each firing. Those that the trigger's bucket has no room for start when it has.
    pub(super) async fn start(
        &mut self,
        pipeline: &Pipeline,
        trigger: &Trigger,
        firings: Vec<Firing>,
        now: Timestamp,
    ) -> Result<(), Error> {
        if firings.is_empty() {
            return Ok(());
        }
        self.engine.keep_version(pipeline).await?;
        let (name, id, kind) = (&*pipeline.name, &*trigger.id, trigger.kind.name());
        let mut firings = firings.into_iter().peekable();
        while firings.peek().is_some() {
            let together: Vec<Firing> = firings.by_ref().take(TOGETHER).collect();
            let starts = self.reach(pipeline, trigger, together.len(), now).await?;
            let mut new = Vec::with_capacity(together.len());
            for (firing, not_before) in together.into_iter().zip(starts) {
                let Firing { mark, run, file } = firing;
                new.push(NewFiring { trigger: id.to_owned(), mark, run, not_before, file });
            }
            let requests: Vec<_> = new.iter().flat_map(|firing| firing.run.requests.clone()).collect();
            self.engine.parts().store.fire_events(&new, now).await?;
            for NewFiring { run, mark, not_before, .. } in &new {
                self.metrics.trigger(kind, if not_before.is_some() { Outcome::PutOff } else { Outcome::Fired });
                tracing::info!(run = %run.id, pipeline = name, trigger = id, event = mark, "a trigger fires");
            }
            self.engine.admit(&requests).await?;
            self.bell.ring();
        }
        Ok(())
    }

    /// Takes tokens of the trigger's bucket, each with when it may be used where that is not now.
    async fn reach(
        &self,
        pipeline: &Pipeline,
        trigger: &Trigger,
        count: usize,
        now: Timestamp,
    ) -> Result<Vec<Option<Timestamp>>, Error> {
        let Some(bucket) = trigger.bucket else { return Ok(vec![None; count]) };
        let store = &self.engine.parts().store;
        for round in 0.. {
            let row = store.trigger(&pipeline.name, &trigger.id).await?;
            let seen = row.map_or(Timestamp(0), |row| row.full_at);
            let mut full_at = seen;
            let mut starts = Vec::with_capacity(count);
            for _ in 0..count {
                let token = bucket.take(full_at, now);
                full_at = token.full_at;
                starts.push((token.at > now).then_some(token.at));
            }
            // Others that are always faster must not keep it from firing for ever.
            if store.take_tokens(&pipeline.name, &trigger.id, seen, full_at).await? || round == REACHES {
                return Ok(starts);
            }
        }
        Ok(Vec::new())
    }
}
