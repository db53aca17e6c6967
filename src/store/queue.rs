//! What runs append, until the writer takes it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use super::Error;
use super::Fence;
use super::Store;
use super::project::Projection;
use crate::model::AskId;
use crate::model::EffectId;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::LogLevel;
use crate::node::WireRecord;

/// So many records are written without waiting for more.
const ENOUGH_RECORDS: usize = 512;
/// So many bytes are written without waiting for more.
const ENOUGH_BYTES: usize = 1 << 20;
/// More is not taken of one run at once: it bounds a row of the journal.
const MOST_RECORDS: usize = 8192;
const MOST_BYTES: usize = 4 << 20;
/// With more than this in the queue, `JournalWriter::room` waits.
const FULL: usize = 16 << 20;

/// What a run's owner appends; all of one writer stays in its order, and becomes durable in whole prefixes.
#[derive(Clone, Debug)]
pub enum Record {
    Event(RunEvent),
    /// A line of the run's log. Secrets in it must have been masked.
    Log {
        path: Option<StepPath>,
        level: LogLevel,
        message: String,
        at: Timestamp,
    },
    /// An entry of the cache, visible once it is committed.
    Cache {
        key: String,
        output: Value,
        expires_at: Timestamp,
    },
    /// The remote object that an effect made: it settles no other effect.
    Remote {
        effect: EffectId,
        scope: String,
        remote_id: String,
    },
    /// What went over the wire in an attempt. Secrets in it must have been masked.
    Wire {
        path: StepPath,
        attempt: u32,
        record: Box<WireRecord>,
    },
    /// Where an incremental read stands, visible once it is committed.
    Stream {
        key: String,
        state: Value,
    },
    /// Signals whose consequences were appended before: they leave the inbox in the same transaction.
    Taken {
        signals: Vec<i64>,
    },
}

/// Writes one run's journal. Clones write to the same journal.
#[derive(Clone, Debug)]
pub struct JournalWriter {
    lane: Arc<Lane>,
    queue: Arc<QueueHandle>,
}

/// What waits to be written, of all runs.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    pub(super) wake: Notify,
    room: Notify,
    /// Bytes in the queue and in the transaction that is under way.
    bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    /// Lanes with something to write, each once.
    lanes: Vec<Arc<Lane>>,
    /// Lanes whose records are being written.
    under_way: Vec<Arc<Lane>>,
    records: usize,
    bytes: usize,
    /// Somebody waits.
    urgent: bool,
    /// The writer sleeps without a clock: the first record must wake it.
    asleep: bool,
    closed: bool,
}

/// Closes the queue when the store and all its writers are gone.
#[derive(Debug)]
pub(super) struct QueueHandle(pub(super) Arc<Queue>);

/// The queue of one run.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) run: RunId,
    pub(super) fence: Fence,
    state: Mutex<LaneState>,
    /// Only the writer's task uses it.
    pub(super) projection: Mutex<Projection>,
    /// Whether the run may hold permits, which end with it.
    pub(super) permitted: AtomicBool,
}

#[derive(Debug, Default)]
struct LaneState {
    records: VecDeque<(Record, usize)>,
    /// Whether it stands in the list of lanes.
    listed: bool,
    appended: u64,
    committed: u64,
    error: Option<Error>,
    waiting: Vec<(u64, oneshot::Sender<()>)>,
    subscribers: Vec<mpsc::UnboundedSender<(u64, RunEvent)>>,
}

/// What was taken of one lane.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) lane: Arc<Lane>,
    pub(super) records: Vec<Record>,
    pub(super) bytes: usize,
}

/// How much there is to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    Nothing,
    /// It may wait for more.
    Some,
    Now,
    /// Nothing will come any more.
    Closed,
}

impl JournalWriter {
    /// Appends records and returns at once; they are written behind, in order. After an error they are dropped: the
    /// next `commit` tells.
    pub fn append(&self, records: impl IntoIterator<Item = Record>) {
        let (mut count, mut bytes, mut list) = (0, 0, false);
        {
            let mut state = locked(&self.lane.state);
            if state.error.is_some() {
                return;
            }
            for record in records {
                let weight = record.weight();
                state.records.push_back((record, weight));
                count += 1;
                bytes += weight;
            }
            if count > 0 {
                state.appended += u64::try_from(count).unwrap_or(u64::MAX);
                list = !std::mem::replace(&mut state.listed, true);
            }
        }
        if count > 0 {
            self.queue.0.add(list.then(|| self.lane.clone()), count, bytes);
        }
    }

    /// Says that the run may hold permits: they end with its last event.
    pub fn holds_permits(&self) {
        self.lane.permitted.store(true, Ordering::Relaxed);
    }

    /// Returns when everything that was appended so far is durable.
    ///
    /// # Errors
    /// The first error of this writer; after it every commit fails.
    pub async fn commit(&self) -> Result<(), Error> {
        let (wait, target) = {
            let mut state = locked(&self.lane.state);
            if let Some(error) = &state.error {
                return Err(error.clone());
            }
            if state.committed >= state.appended {
                return Ok(());
            }
            let (done, wait) = oneshot::channel();
            let target = state.appended;
            state.waiting.push((target, done));
            (wait, target)
        };
        self.queue.0.hurry();
        // The sender is gone only when the writer's task is.
        let _ = wait.await;
        let state = locked(&self.lane.state);
        match &state.error {
            _ if state.committed >= target => Ok(()),
            Some(error) => Err(error.clone()),
            None => Err(Error::Closed),
        }
    }

    /// Waits while too many bytes are queued. A fast producer calls it between steps; it costs nothing when there is
    /// room.
    pub async fn room(&self) {
        let queue = &self.queue.0;
        while queue.bytes.load(Ordering::Acquire) > FULL {
            let freed = queue.room.notified();
            if queue.bytes.load(Ordering::Acquire) > FULL && !queue.is_closed() {
                freed.await;
            } else {
                return;
            }
        }
    }

    /// Tells which asks the journal leaves without an answer.
    pub fn knows_asks(&self, asks: impl IntoIterator<Item = (StepPath, AskId)>) {
        locked(&self.lane.projection).knows_asks(asks);
    }

    /// Subscribes to the events that are committed from now on, with their numbers.
    ///
    /// The channel is unbounded: it holds no more than what this process itself has produced.
    #[must_use]
    pub fn events(&self) -> mpsc::UnboundedReceiver<(u64, RunEvent)> {
        let (sender, receiver) = mpsc::unbounded_channel();
        locked(&self.lane.state).subscribers.push(sender);
        receiver
    }
}

impl Store {
    /// Returns when all is durable that was appended so far, whoever appended it and is gone meanwhile.
    ///
    /// # Errors
    /// The first error of a writer.
    pub async fn written(&self) -> Result<(), Error> {
        let lanes: Vec<_> = {
            let state = locked(&self.0.queue.0.state);
            state.lanes.iter().chain(&state.under_way).cloned().collect()
        };
        for lane in lanes {
            JournalWriter { lane, queue: self.0.queue.clone() }.commit().await?;
        }
        self.spending_written().await;
        Ok(())
    }

    /// Makes the writer of a run that the caller has claimed. `next_seq` is the number of the next event (the journal's
    /// length + 1); `open_effects` are the effects that the journal leaves without an end (open or in doubt).
    #[must_use]
    pub fn writer(
        &self,
        run: RunId,
        fence: Fence,
        next_seq: u64,
        open_effects: impl IntoIterator<Item = (StepPath, EffectId)>,
    ) -> JournalWriter {
        let projection = Mutex::new(Projection::new(next_seq, fence, open_effects));
        let lane = Lane { run, fence, state: Mutex::default(), projection, permitted: AtomicBool::new(false) };
        JournalWriter { lane: Arc::new(lane), queue: self.0.queue.clone() }
    }
}

impl Queue {
    /// Counts what was appended; wakes the writer if it sleeps, and when there is enough.
    fn add(&self, lane: Option<Arc<Lane>>, count: usize, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let wake = {
            let mut state = locked(&self.state);
            if state.closed {
                drop(state);
                if let Some(lane) = lane {
                    lane.fail(&Error::Closed);
                }
                return;
            }
            let before = state.demand();
            state.lanes.extend(lane);
            state.records += count;
            state.bytes += bytes;
            std::mem::take(&mut state.asleep) || (state.demand() == Demand::Now && before != Demand::Now)
        };
        if wake {
            self.wake.notify_one();
        }
    }

    fn hurry(&self) {
        let wake = !std::mem::replace(&mut locked(&self.state).urgent, true);
        if wake {
            self.wake.notify_one();
        }
    }

    fn is_closed(&self) -> bool {
        locked(&self.state).closed
    }

    pub(super) fn demand(&self) -> Demand {
        locked(&self.state).demand()
    }

    /// Tells whether nothing is being written, nor should be at once.
    pub(super) fn is_idle(&self) -> bool {
        let state = locked(&self.state);
        state.under_way.is_empty() && state.demand() != Demand::Now
    }

    /// Tells that the writer sleeps until it is woken, unless there is something to write.
    pub(super) fn fall_asleep(&self) -> bool {
        let mut state = locked(&self.state);
        state.asleep = state.demand() == Demand::Nothing;
        state.asleep
    }

    /// Takes what is there: of each lane as much as fits into one row.
    pub(super) fn take(&self) -> Vec<Taken> {
        let lanes = {
            let mut state = locked(&self.state);
            (state.records, state.bytes, state.urgent) = (0, 0, false);
            let state = &mut *state;
            state.under_way.clone_from(&state.lanes);
            std::mem::take(&mut state.lanes)
        };
        let mut all = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let mut taken = Taken { lane: lane.clone(), records: Vec::new(), bytes: 0 };
            let more = {
                let mut state = locked(&lane.state);
                while taken.records.len() < MOST_RECORDS && taken.bytes < MOST_BYTES {
                    let Some((record, weight)) = state.records.pop_front() else { break };
                    taken.records.push(record);
                    taken.bytes += weight;
                }
                state.listed = !state.records.is_empty();
                state.listed
            };
            if more {
                let mut state = locked(&self.state);
                state.lanes.push(lane);
                state.urgent = true;
            }
            if !taken.records.is_empty() {
                all.push(taken);
            }
        }
        all
    }

    /// Ends what `take` began and makes room again.
    pub(super) fn free(&self, bytes: usize) {
        locked(&self.state).under_way.clear();
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        if before > FULL {
            self.room.notify_waiters();
        }
    }

    /// Lets everybody go who still waits; for the end of the writer's task.
    pub(super) fn abandon(&self) {
        let lanes = {
            let mut state = locked(&self.state);
            state.closed = true;
            let under_way = std::mem::take(&mut state.under_way);
            std::mem::take(&mut state.lanes).into_iter().chain(under_way)
        };
        for lane in lanes {
            lane.fail(&Error::Closed);
        }
        self.room.notify_waiters();
    }
}

impl State {
    fn demand(&self) -> Demand {
        if self.lanes.is_empty() {
            return if self.closed { Demand::Closed } else { Demand::Nothing };
        }
        let enough = self.urgent || self.closed || self.records >= ENOUGH_RECORDS || self.bytes >= ENOUGH_BYTES;
        if enough { Demand::Now } else { Demand::Some }
    }
}

impl QueueHandle {
    /// Takes no more; what is there is still written.
    pub(super) fn close(&self) {
        locked(&self.0.state).closed = true;
        self.0.wake.notify_one();
    }
}

impl Drop for QueueHandle {
    fn drop(&mut self) {
        self.close();
    }
}

impl Lane {
    /// Tells everybody that the first `records` of what was not yet committed are durable now.
    pub(super) fn committed(&self, records: usize, events: Vec<(u64, RunEvent)>) {
        let mut state = locked(&self.state);
        state.committed += u64::try_from(records).unwrap_or(u64::MAX);
        let committed = state.committed;
        for (seq, event) in events {
            state.subscribers.retain(|subscriber| subscriber.send((seq, event.clone())).is_ok());
        }
        let mut index = 0;
        while let Some((target, _)) = state.waiting.get(index) {
            if *target <= committed {
                let (_, done) = state.waiting.swap_remove(index);
                // Whoever does not wait any more needs no answer.
                let _ = done.send(());
            } else {
                index += 1;
            }
        }
    }

    /// Ends the writer: what is queued is dropped, and every commit fails from now on.
    pub(super) fn fail(&self, error: &Error) {
        let mut state = locked(&self.state);
        state.error.get_or_insert_with(|| error.clone());
        state.records.clear();
        state.subscribers.clear();
        // Dropping the senders wakes those who wait.
        state.waiting.clear();
    }

    pub(super) fn has_subscribers(&self) -> bool {
        !locked(&self.state).subscribers.is_empty()
    }
}

impl Record {
    /// Estimates how many bytes it holds.
    fn weight(&self) -> usize {
        const SMALL: usize = 256;
        SMALL
            + match self {
                Self::Event(event) => match event {
                    RunEvent::Succeeded { output: value, .. }
                    | RunEvent::Items { items: value, .. }
                    | RunEvent::Round { output: value, .. }
                    | RunEvent::Waiting { then: Some(value), .. }
                    | RunEvent::Finished { outputs: value, .. } => weight(value),
                    RunEvent::Intent { intent, .. } => weight(&intent.request),
                    RunEvent::Asked { ask, .. } => weight(&ask.request),
                    RunEvent::Settled { verdict, .. } => match &**verdict {
                        crate::model::Verdict::Happened { output, .. } => weight(output),
                        _ => 0,
                    },
                    _ => 0,
                },
                Self::Log { message, .. } => message.len(),
                Self::Cache { output, .. } => weight(output),
                Self::Wire { record, .. } => record.body.len() + record.url.len(),
                Self::Stream { state, .. } => weight(state),
                Self::Remote { .. } | Self::Taken { .. } => 0,
            }
    }
}

/// Estimates how many bytes a value holds.
pub(super) fn weight(value: &Value) -> usize {
    const SCALAR: usize = 32;
    match value {
        Value::String(text) | Value::Number(text) => SCALAR + text.len(),
        Value::List(items) => items.iter().map(weight).sum::<usize>() + SCALAR,
        Value::Map(map) => map.iter().map(|(key, value)| SCALAR + key.len() + weight(value)).sum::<usize>() + SCALAR,
        Value::Secret(inner) => weight(inner),
        _ => SCALAR,
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
