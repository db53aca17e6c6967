//! Fires the time triggers of the active pipelines: each slot once, whoever looks, and none forgotten.
//!
//! Where a schedule stands is a row: up to which logical time its slots have been decided on. A firing makes the run and
//! moves the row in one transaction, and a slot that has a run gets no second one, so that two schedulers on one store, or
//! one that dies in between, do no harm. Why nobody looked does not matter: `missed` of the trigger decides.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::bell::Bell;
use super::metrics::Metrics;
use super::metrics::Outcome;
use super::told;
use crate::engine::Engine;
use crate::engine::Error;
use crate::model::Duration;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::Pipeline;
use crate::pipeline::Trigger;
use crate::schedule::Schedule;
use crate::schedule::Slot;
use crate::store::NewRun;
use crate::store::Progress;

/// How often the rows are looked at where nobody rings; in this time a schedule that another process has switched off may
/// still fire.
const LOOK: Duration = Duration::from_secs(60);
/// Wait so long after a fault of the store before asking it again.
const REST: Duration = Duration::from_secs(1);

/// The pipelines whose triggers fire.
pub type Active = Arc<Vec<Arc<Pipeline>>>;

/// A scheduler of a daemon.
#[derive(Debug)]
pub struct Scheduler {
    pub engine: Engine,
    pub active: watch::Receiver<Active>,
    pub bell: Bell,
    pub metrics: Arc<Metrics>,
    pub stop: CancellationToken,
}

/// A schedule that may fire.
#[derive(Debug)]
struct Armed {
    pipeline: Arc<Pipeline>,
    /// Which of the pipeline's triggers.
    trigger: usize,
    schedule: Schedule,
    seen: Timestamp,
    /// When the trigger's bucket is full again.
    full_at: Timestamp,
    /// When there is something to decide; nothing where it never fires again.
    next: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct State {
    armed: Vec<Armed>,
}

/// What a turn has to write.
#[derive(Debug, Default)]
struct Firing {
    /// Each with when it may start, where its trigger's bucket is empty.
    runs: Vec<(NewRun, Option<Timestamp>)>,
    progress: Vec<Progress>,
}

impl Scheduler {
    /// Fires until it is stopped.
    pub async fn run(mut self) {
        let clock = self.engine.parts().system.clock.clone();
        let mut rung = self.bell.listen();
        let mut state = State::default();
        let mut look = true;
        while !self.stop.is_cancelled() {
            let mut rest = LOOK;
            if let Err(error) = self.turn(&mut state, look).await {
                tracing::error!(error = told(&error), "the schedules could not be looked at; trying again");
                rest = REST;
            }
            let until = clock.now().plus(rest);
            let next = state.armed.iter().filter_map(|armed| armed.next).min().filter(|_| rest == LOOK);
            let until = next.map_or(until, |next| next.min(until));
            look = tokio::select! {
                changed = self.active.changed() => {
                    // Without a sender nothing changes any more.
                    if changed.is_err() {
                        self.stop.cancelled().await;
                    }
                    true
                }
                () = Bell::rung(&mut rung) => true,
                () = clock.sleep_until(until) => next.is_none_or(|next| until < next),
                () = self.stop.cancelled() => false,
            };
        }
    }

    async fn turn(&mut self, state: &mut State, look: bool) -> Result<(), Error> {
        let now = self.engine.parts().system.clock.now();
        if look || state.armed.is_empty() {
            state.armed = self.armed(now).await?;
        }
        let mut firing = Firing::default();
        for armed in &mut state.armed {
            if armed.next.is_some_and(|next| next <= now) {
                self.decide(armed, now, &mut firing);
            }
        }
        let written = self.write(state, &firing).await;
        if written.is_err() {
            // Nothing is known of what was written: the rows tell.
            state.armed.clear();
        }
        written
    }

    /// Looks up where the schedules of the active pipelines stand; new ones stand at this moment.
    async fn armed(&mut self, now: Timestamp) -> Result<Vec<Armed>, Error> {
        let active = self.active.borrow_and_update().clone();
        let store = &self.engine.parts().store;
        let rows = store.schedules().await?;
        let rows: HashMap<_, _> = rows.iter().map(|row| ((row.pipeline.as_str(), row.trigger.as_str()), row)).collect();
        let (mut armed, mut new, mut off, mut over) = (Vec::new(), Vec::new(), 0, 0);
        for pipeline in active.iter() {
            for (place, trigger) in pipeline.triggers.iter().enumerate() {
                let Some(schedule) = trigger.schedule(&pipeline.name) else { continue };
                let row = rows.get(&(&*pipeline.name, &*trigger.id));
                if row.is_none() {
                    new.push((pipeline.name.to_string(), trigger.id.to_string()));
                }
                if !trigger.enabled || row.is_some_and(|row| row.disabled) {
                    off += 1;
                    continue;
                }
                let seen = row.map_or(now, |row| row.seen);
                let next = schedule.next_after(seen).map(|slot| slot.due);
                over += u64::from(next.is_none());
                let full_at = row.map_or(Timestamp(0), |row| row.full_at);
                armed.push(Armed { pipeline: pipeline.clone(), trigger: place, schedule, seen, full_at, next });
            }
        }
        if !new.is_empty() {
            store.meet_schedules(&new, now).await?;
        }
        self.metrics.schedules_off.store(off, Relaxed);
        self.metrics.schedules_over.store(over, Relaxed);
        self.metrics.schedules_armed.store(armed.len() as u64 - over, Relaxed);
        Ok(armed)
    }

    /// Decides which slots of a schedule fire now, and when there is something to decide again.
    fn decide(&self, armed: &mut Armed, now: Timestamp, firing: &mut Firing) {
        let pipeline = armed.pipeline.clone();
        let Some(trigger) = pipeline.triggers.get(armed.trigger) else { return };
        let before = firing.runs.len();
        let mut slots = armed.schedule.missed(trigger.missed, armed.seen, now).into_iter().peekable();
        let mut seen = armed.seen;
        while let Some(slot) = slots.next_if(|slot| slot.due <= now) {
            self.fire(&pipeline, trigger, &slot, &mut armed.full_at, firing);
            seen = slot.logical;
        }
        // One whose jitter has not passed is not decided on.
        let waiting = slots.peek().map(|slot| slot.due);
        armed.seen = if waiting.is_some() { seen } else { now };
        armed.next = waiting.or_else(|| armed.schedule.next_after(armed.seen).map(|slot| slot.due));
        firing.progress.push(Progress {
            pipeline: armed.pipeline.name.to_string(),
            trigger: trigger.id.to_string(),
            seen: armed.seen,
            full_at: armed.full_at,
            fired_at: (firing.runs.len() > before).then_some(now),
        });
    }

    fn fire(&self, pipeline: &Pipeline, trigger: &Trigger, slot: &Slot, full_at: &mut Timestamp, firing: &mut Firing) {
        let (name, id, kind) = (&*pipeline.name, &*trigger.id, trigger.kind.name());
        match run_of_slot(&self.engine, pipeline, trigger, slot) {
            Ok(run) => {
                let token = trigger.bucket.map(|bucket| bucket.take(*full_at, run.created_at));
                let not_before = token.map(|token| token.at).filter(|at| *at > run.created_at);
                *full_at = token.map_or(*full_at, |token| token.full_at);
                tracing::info!(run = %run.id, pipeline = name, trigger = id, slot = %slot.logical, "a schedule fires");
                self.metrics.fired.fetch_add(1, Relaxed);
                self.metrics.trigger(kind, if not_before.is_some() { Outcome::PutOff } else { Outcome::Fired });
                firing.runs.push((run, not_before));
            }
            Err(reason) => {
                tracing::error!(pipeline = name, trigger = id, slot = %slot.logical, reason, "a schedule cannot fire");
                self.metrics.not_fired.fetch_add(1, Relaxed);
                self.metrics.trigger(kind, Outcome::Unfit);
            }
        }
    }

    async fn write(&self, state: &mut State, firing: &Firing) -> Result<(), Error> {
        if firing.progress.is_empty() {
            return Ok(());
        }
        for armed in &state.armed {
            if firing.runs.iter().any(|(run, _)| run.version == armed.pipeline.version) {
                self.engine.keep_version(&armed.pipeline).await?;
            }
        }
        self.engine.parts().store.fire(&firing.runs, &firing.progress).await?;
        if !firing.runs.is_empty() {
            let requests: Vec<_> = firing.runs.iter().flat_map(|(run, _)| run.requests.clone()).collect();
            self.engine.admit(&requests).await?;
            self.bell.ring();
        }
        Ok(())
    }
}

/// Makes the row of a slot's run, which nobody has stored yet.
///
/// # Errors
/// Why its inputs cannot be made, without secrets.
pub(super) fn run_of_slot(
    engine: &Engine,
    pipeline: &Pipeline,
    trigger: &Trigger,
    slot: &Slot,
) -> Result<NewRun, String> {
    let id = &*trigger.id;
    let event = [("slot", Value::Time(slot.logical)), ("local", Value::from(slot.local.to_string()))];
    let inputs = engine.inputs_of_event(pipeline, trigger, event, Value::Time(slot.logical));
    let run = engine.row(pipeline, inputs.map_err(|reasons| reasons.join("; "))?);
    let run = run.map_err(|error| error.to_string())?;
    Ok(NewRun { slot: Some(slot.key(id)), started_by: Some(format!("trigger {id}").into()), ..run })
}
