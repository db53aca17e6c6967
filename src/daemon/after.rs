//! Starts runs when runs of other pipelines end, also those that ended elsewhere or while nobody looked.
//!
//! A run that ends is found by when it ended. As the clocks of machines differ, what ended a while before the last look is
//! looked at again; what has fired is remembered, so that each end fires once.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::bell::Bell;
use super::firing::Firing;
use super::firing::Starter;
use super::scheduler::Active;
use super::scheduler::Scheduler;
use crate::engine::Error;
use crate::model::Duration;
use crate::model::RunId;
use crate::model::StepError;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::After;
use crate::pipeline::Pipeline;
use crate::pipeline::TriggerKind;
use crate::store::Ends;
use crate::store::Progress;
use crate::store::RunRecord;

/// How often it is looked whether runs have ended elsewhere, where nobody rings.
const LOOK: Duration = Duration::from_secs(30);
/// All triggers are not looked at more often than this, however often somebody rings.
const PAUSE: Duration = Duration::from_secs(1);
/// Wait so long after a fault of the store before asking it again.
const REST: Duration = Duration::from_secs(1);
/// The clocks of machines differ by less than this.
const OVERLAP: Duration = Duration::from_secs(15 * 60);
/// What ends here is stored within this time.
const BEHIND: Duration = Duration::from_secs(10);
/// How far a look goes on before that is written down.
const STRIDE: Duration = Duration::from_secs(5 * 60);
/// So many ends are taken at once.
const AT_ONCE: u32 = 200;
/// So many ends that fit no inputs are remembered, so that they are told once.
const MOST_REFUSED: usize = 10_000;

/// Waits for the ends of runs.
#[derive(Debug)]
pub struct Afters {
    active: watch::Receiver<Active>,
    stop: CancellationToken,
    starter: Starter,
    waiting: Vec<Waiting>,
    /// Ends whose inputs could not be made, by trigger; tried again when the daemon begins anew.
    refused: HashMap<(Arc<str>, Arc<str>), HashSet<RunId>>,
}

/// A trigger that waits.
#[derive(Debug)]
struct Waiting {
    pipeline: Arc<Pipeline>,
    trigger: usize,
    after: After,
    /// Ends before this moment are none of its.
    begun: Timestamp,
    /// Up to when it has looked, and what is written of that.
    seen: Timestamp,
    stored: Timestamp,
}

/// What is looked at.
enum Look {
    /// Every trigger, as the rows say, and as far back as clocks may differ.
    All,
    /// Every trigger, as the rows say, for what has ended just now: somebody rang.
    Rung,
    /// Those that wait for these pipelines, of which runs have just ended here.
    Some(BTreeSet<Arc<str>>),
}

impl Afters {
    /// Makes one that works beside a scheduler, on what it works on.
    #[must_use]
    pub fn new(scheduler: &Scheduler) -> Self {
        let (active, stop, starter) = (scheduler.active.clone(), scheduler.stop.clone(), Starter::new(scheduler));
        Self { active, stop, starter, waiting: Vec::new(), refused: HashMap::new() }
    }

    /// Waits until it is stopped.
    pub async fn run(mut self) {
        let clock = self.starter.engine.parts().system.clock.clone();
        let bell = self.starter.bell.clone();
        let mut rung = bell.listen();
        let mut look = Some(Look::All);
        let (mut last, mut until, mut heard) = (clock.now(), clock.now(), false);
        while !self.stop.is_cancelled() {
            if let Some(look) = look.take() {
                let (all, some) = (matches!(look, Look::All), matches!(look, Look::Some(_)));
                let mut rest = LOOK;
                if let Err(error) = self.turn(look).await {
                    tracing::error!(%error, "ended runs could not be looked at; trying again");
                    rest = REST;
                }
                if !some {
                    (last, heard) = (clock.now(), false);
                }
                // However often somebody rings, all is looked at in its time.
                until = if all { clock.now().plus(rest) } else { until.min(clock.now().plus(rest)) };
            }
            // The bell rings for much else: not every time is worth a look of its own.
            let early = last.plus(PAUSE);
            look = tokio::select! {
                changed = self.active.changed() => {
                    // Without a sender nothing changes any more.
                    if changed.is_err() {
                        self.stop.cancelled().await;
                    }
                    Some(Look::All)
                }
                ended = bell.some_ended() => Some(Look::Some(ended)),
                () = Bell::rung(&mut rung), if !heard => {
                    heard = true;
                    None
                }
                () = clock.sleep_until(early), if heard && early < until => Some(Look::Rung),
                () = clock.sleep_until(until) => Some(Look::All),
                () = self.stop.cancelled() => return,
            };
        }
    }

    async fn turn(&mut self, look: Look) -> Result<(), Error> {
        let now = self.starter.engine.parts().system.clock.now();
        if !matches!(look, Look::Some(_)) {
            self.arm(now).await?;
        }
        let mut moved = Vec::new();
        for mut waiting in std::mem::take(&mut self.waiting) {
            let wanted = match &look {
                Look::All | Look::Rung => true,
                Look::Some(ended) => ended.contains(&waiting.after.pipeline),
            };
            let looked = if wanted { self.look(&mut waiting, &look, now, &mut moved).await } else { Ok(()) };
            self.waiting.push(waiting);
            looked?;
        }
        let store = &self.starter.engine.parts().store;
        if !moved.is_empty() {
            store.fire(&[], &moved).await?;
        }
        Ok(())
    }

    /// Looks up where the triggers stand; one that is new, or off, begins at this moment.
    async fn arm(&mut self, now: Timestamp) -> Result<(), Error> {
        let active = self.active.borrow_and_update().clone();
        let store = &self.starter.engine.parts().store;
        let waits =
            |pipeline: &Pipeline| pipeline.triggers.iter().any(|trigger| matches!(trigger.kind, TriggerKind::After(_)));
        let before: HashMap<_, _> = std::mem::take(&mut self.waiting)
            .into_iter()
            .filter_map(|waiting| {
                let trigger = waiting.pipeline.triggers.get(waiting.trigger)?.id.clone();
                Some(((waiting.pipeline.name.clone(), trigger), waiting.seen))
            })
            .collect();
        if !active.iter().any(|pipeline| waits(pipeline)) {
            self.starter.bell.await_ends(BTreeSet::new());
            return Ok(());
        }
        let rows = store.schedules().await?;
        let rows: HashMap<_, _> = rows.iter().map(|row| ((row.pipeline.as_str(), row.trigger.as_str()), row)).collect();
        let (mut new, mut begin) = (Vec::new(), Vec::new());
        for pipeline in active.iter() {
            for (place, trigger) in pipeline.triggers.iter().enumerate() {
                let TriggerKind::After(after) = &trigger.kind else { continue };
                let row = rows.get(&(&*pipeline.name, &*trigger.id));
                let key = || (pipeline.name.to_string(), trigger.id.to_string());
                if row.is_none() {
                    new.push(key());
                }
                let begun = row.map_or(Timestamp(0), |row| row.begun);
                let off = !trigger.enabled || row.is_some_and(|row| row.disabled);
                // What ends while it is off is let go.
                if begun == Timestamp(0) || (off && now.since(begun) > LOOK) {
                    begin.push(key());
                }
                if off {
                    continue;
                }
                let begun = if begun == Timestamp(0) { now } else { begun };
                let stored = row.map_or(now, |row| row.seen);
                // How far it has looked is written down rarely.
                let looked = before.get(&(pipeline.name.clone(), trigger.id.clone())).copied().unwrap_or(stored);
                let (pipeline, after, seen) = (pipeline.clone(), after.clone(), stored.max(begun).max(looked));
                self.waiting.push(Waiting { pipeline, trigger: place, after, begun, seen, stored });
            }
        }
        if !new.is_empty() {
            store.meet_schedules(&new, now).await?;
        }
        if !begin.is_empty() {
            store.begin_triggers(&begin, now).await?;
        }
        self.starter.bell.await_ends(self.waiting.iter().map(|waiting| waiting.after.pipeline.clone()).collect());
        Ok(())
    }

    /// Fires what has ended since a trigger has looked last.
    async fn look(
        &mut self,
        waiting: &mut Waiting,
        look: &Look,
        now: Timestamp,
        moved: &mut Vec<Progress>,
    ) -> Result<(), Error> {
        let pipeline = waiting.pipeline.clone();
        let Some(trigger) = pipeline.triggers.get(waiting.trigger) else { return Ok(()) };
        let back = if matches!(look, Look::All) { OVERLAP } else { BEHIND };
        let mut since = Timestamp(waiting.seen.micros().saturating_sub_unsigned(back.micros())).max(waiting.begun);
        loop {
            let ends = Ends {
                of: &waiting.after.pipeline,
                states: waiting.after.on.states(),
                pipeline: &pipeline.name,
                trigger: &trigger.id,
                since,
                most: AT_ONCE,
            };
            let found = self.starter.engine.parts().store.ends(ends).await?;
            let full = found.len() == usize::try_from(AT_ONCE).unwrap_or(usize::MAX);
            let last = found.last().and_then(|run| run.ended_at);
            let refused = self.refused.entry((pipeline.name.clone(), trigger.id.clone())).or_default();
            if refused.len() > MOST_REFUSED {
                refused.clear();
            }
            let fresh: Vec<RunRecord> = found.into_iter().filter(|run| !refused.contains(&run.id)).collect();
            let mut firings = Vec::with_capacity(fresh.len());
            for run in fresh {
                let mark = format!("after:{}", run.id);
                // What was secret there is secret here.
                self.starter.engine.parts().secrets.learn(&run.outputs);
                match self.starter.run(&pipeline, trigger, &mark, event(&run)) {
                    Some(run) => firings.push(Firing { mark, run, file: None }),
                    None => drop(refused.insert(run.id)),
                }
            }
            let none = firings.is_empty();
            self.starter.start(&pipeline, trigger, firings, now).await?;
            if !full {
                break;
            }
            // What has fired is not found again; what was refused is, and is gone by.
            if let Some(last) = last.filter(|_| none) {
                since = last.plus(Duration::from_micros(1));
            }
        }
        waiting.seen = waiting.seen.max(now);
        if matches!(look, Look::All) && waiting.seen.since(waiting.stored) > STRIDE {
            moved.push(Progress {
                pipeline: pipeline.name.to_string(),
                trigger: trigger.id.to_string(),
                seen: waiting.seen,
                full_at: Timestamp(0),
                fired_at: None,
            });
        }
        Ok(())
    }
}

/// What the inputs of a trigger can read of a run that has ended.
fn event(run: &RunRecord) -> [(&'static str, Value); 6] {
    let error = run.error.as_ref().map_or(Value::Null, StepError::to_value);
    [
        ("run", Value::from(run.id.to_string())),
        ("pipeline", Value::from(&*run.pipeline)),
        ("state", Value::from(run.state.name())),
        ("outputs", run.outputs.clone()),
        ("error", error),
        ("ended", run.ended_at.map_or(Value::Null, Value::Time)),
    ]
}
