//! The one writer: takes what all runs append, groups what waits into one transaction, and answers commits.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Interval;

use super::Error;
use super::INLINE;
use super::Shared;
use super::datasets::is_guard;
use super::db::Batch;
use super::db::args;
use super::inbox::is_in_the_way;
use super::project::Chunk;
use super::project::add_all;
use super::project::add_cache;
use super::queue::Demand;
use super::queue::Queue;
use super::queue::QueueHandle;
use super::queue::Taken;
use crate::system::outside;

/// How long records wait for company when nobody waits for them.
const BEHIND: Duration = Duration::from_millis(50);

/// Starts the writer. It ends when its queue is closed and empty.
pub(super) fn start(shared: Arc<Shared>) -> (Arc<QueueHandle>, JoinHandle<()>) {
    let queue = Arc::new(Queue::default());
    let task = tokio::spawn(run(shared, queue.clone()));
    (Arc::new(QueueHandle(queue)), task)
}

/// Ends all writers when the task ends, even by a panic or with its runtime.
struct Abandon(Arc<Queue>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

async fn run(shared: Arc<Shared>, queue: Arc<Queue>) {
    let queue = Abandon(queue);
    // One clock that goes on, not one for each record: setting a clock costs more than an append.
    let mut clock = tokio::time::interval(BEHIND);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while gather(&queue.0, &mut clock).await {
        let taken = queue.0.take();
        let bytes = taken.iter().map(|taken| taken.bytes).sum();
        if let Some(chunks) = encode(&shared, taken).await {
            write(&shared, chunks).await;
        }
        queue.0.free(bytes);
    }
}

/// Waits until there is enough to write, or somebody waits for it, or what is there has waited for long enough. Returns
/// false at the end.
async fn gather(queue: &Queue, clock: &mut Interval) -> bool {
    loop {
        match queue.demand() {
            Demand::Closed => return false,
            Demand::Now => return true,
            Demand::Nothing | Demand::Some => {}
        }
        tokio::select! {
            biased;
            () = queue.wake.notified() => {}
            _ = clock.tick() => match queue.demand() {
                Demand::Some => return true,
                Demand::Nothing if queue.fall_asleep() => {
                    queue.wake.notified().await;
                    clock.reset();
                }
                _ => {}
            }
        }
    }
}

/// Encodes: a little at once, because a trip to another thread costs more; much there, so that the engine goes on.
async fn encode(shared: &Arc<Shared>, taken: Vec<Taken>) -> Option<Vec<Chunk>> {
    let bytes: usize = taken.iter().map(|taken| taken.bytes).sum();
    if bytes < INLINE {
        return Some(encode_all(shared, taken));
    }
    let lanes: Vec<_> = taken.iter().map(|taken| taken.lane.clone()).collect();
    let shared = shared.clone();
    let encoded = outside(tokio::task::spawn_blocking(move || encode_all(&shared, taken))).await;
    if encoded.is_err() {
        for lane in lanes {
            lane.fail(&Error::Closed);
        }
    }
    encoded.ok()
}

fn encode_all(shared: &Shared, taken: Vec<Taken>) -> Vec<Chunk> {
    let mut chunks = Vec::with_capacity(taken.len());
    for taken in taken {
        let lane = taken.lane.clone();
        match Chunk::encode(taken, &shared.codec) {
            Ok(chunk) => chunks.push(chunk),
            Err(error) => lane.fail(&error),
        }
    }
    chunks
}

/// Writes all chunks in one transaction. If one run may not write, the others are written each in its own.
async fn write(shared: &Shared, chunks: Vec<Chunk>) {
    if chunks.is_empty() {
        return;
    }
    match transact(shared, &chunks).await {
        Ok(()) => chunks.into_iter().for_each(committed),
        Err(error) if is_one_of(&error) && chunks.len() > 1 => {
            for chunk in chunks {
                let alone = vec![chunk];
                let result = transact(shared, &alone).await;
                for chunk in alone {
                    match &result {
                        Ok(()) => committed(chunk),
                        Err(error) => chunk.lane.fail(&explain(shared, &chunk, error).await),
                    }
                }
            }
        }
        Err(error) => {
            for chunk in chunks {
                chunk.lane.fail(&explain(shared, &chunk, &error).await);
            }
        }
    }
}

async fn transact(shared: &Shared, chunks: &[Chunk]) -> Result<(), Arc<sqlx::Error>> {
    let mut batch = Batch::default();
    add_all(chunks, &mut batch, !shared.db.share_lock().is_empty());
    add_cache(chunks, &mut batch);
    shared.db.apply(batch).await.map_err(Arc::new)
}

fn committed(chunk: Chunk) {
    chunk.lane.committed(chunk.records, chunk.events);
}

/// Tells whether one run's guard has failed, or two workers stood in each other's way, and not the database.
fn is_one_of(error: &sqlx::Error) -> bool {
    is_in_the_way(error) || error.as_database_error().is_some_and(|error| is_guard(&error.kind()))
}

/// Finds out why a chunk was refused.
async fn explain(shared: &Shared, chunk: &Chunk, error: &Arc<sqlx::Error>) -> Error {
    const FENCE: &str = "SELECT fence FROM runs WHERE id = $1";
    let run = chunk.lane.run;
    if error.as_database_error().is_some_and(|error| is_guard(&error.kind())) {
        let rows = shared.db.fetch(FENCE, args![run.to_string()]).await.unwrap_or_default();
        let fence = rows.first().and_then(|row| row.int(0).ok());
        if fence != Some(chunk.lane.fence.0) {
            return Error::LeaseLost { run };
        }
        return Error::Gap { run, seq: u64::try_from(chunk.first_seq).unwrap_or(0) };
    }
    shared.place.shared_error(error)
}
