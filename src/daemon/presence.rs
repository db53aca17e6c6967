//! Shows others that a daemon is there, sees who of them is gone, and keeps to the time that all agree on.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::engine::Parts;
use crate::model::Duration;
use crate::store::Error;
use crate::store::Presence;
use crate::store::Store;
use crate::system::AgreedClock;

/// How often a daemon shows that it lives.
const BEAT: Duration = Duration::from_secs(5);
/// Whoever has not beaten for so long, by the monotonic clock of whoever watched, is taken for dead and taken off the list.
/// He is not counted on long before.
const DEAD: Duration = Duration::from_secs(120);

/// What a daemon may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Fires triggers.
    Scheduler,
    /// Executes runs.
    Worker,
}

impl Role {
    pub const ALL: [Self; 2] = [Self::Scheduler, Self::Worker];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Worker => "worker",
        }
    }

    /// Finds a role by its word.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Takes the store's time over, where the machine's clock differs from it.
///
/// # Errors
/// The store's.
pub async fn agree(store: &Store, clock: &AgreedClock) -> Result<(), Error> {
    let asked = clock.own();
    let Some(theirs) = store.clock().await? else { return Ok(()) };
    match clock.agree(theirs, asked, clock.own()) {
        None => {}
        Some(0) => tracing::warn!("this machine's clock agrees with the store's again"),
        Some(micros) => {
            let seconds = micros / 1_000_000;
            tracing::warn!(
                seconds,
                "this machine's clock is behind the store's by so many seconds; the store's is used"
            );
        }
    }
    Ok(())
}

/// Shows that the daemon is there until it is stopped, and that it has left then.
pub async fn show(engine: Engine, presence: Presence, clock: Option<Arc<AgreedClock>>, stop: CancellationToken) {
    let parts = engine.parts();
    let store = &parts.store;
    // Whoever has an embedded store to himself is known by his process: nobody needs to see him beat.
    let beats = store.is_shared();
    let mut others = HashMap::new();
    let mut joined = false;
    while !stop.is_cancelled() {
        let turn = async {
            if !joined || (beats && !store.show_up(&presence.id).await?) {
                store.join_workers(&presence).await?;
            }
            if let Some(clock) = &clock {
                agree(store, clock).await?;
            }
            watch(parts, &presence, &mut others).await
        };
        match turn.await {
            Ok(()) => joined = true,
            Err(error) => tracing::warn!(%error, "other daemons could not be told that this one works"),
        }
        let rest = async {
            if beats || !joined { parts.system.clock.sleep(BEAT).await } else { std::future::pending().await }
        };
        tokio::select! {
            () = rest => {}
            () = stop.cancelled() => {}
        }
    }
    if let Err(error) = store.leave_workers(&presence.id).await {
        tracing::warn!(%error, "other daemons could not be told that this one has left");
    }
}

/// Takes those off the list that are certainly gone, or have been silent for long.
async fn watch(parts: &Parts, own: &Presence, others: &mut HashMap<String, (i64, Duration)>) -> Result<(), Error> {
    let now = parts.system.clock.monotonic();
    let mut seen = HashMap::new();
    for worker in parts.store.workers().await? {
        let id = worker.presence.id;
        if id == own.id {
            continue;
        }
        let since = others.get(&id).filter(|(beat, _)| *beat == worker.beat).map_or(now, |(_, since)| *since);
        let silent = now.micros().saturating_sub(since.micros());
        // Of an embedded store the one that is there has the lock.
        let dead = !parts.store.is_shared() || (parts.owner_is_gone)(&id) || silent >= DEAD.micros();
        if dead && parts.store.forget_worker(&id, worker.beat).await? {
            tracing::warn!(daemon = id, host = worker.presence.host, "a daemon is gone without a word");
        }
        seen.insert(id, (worker.beat, since));
    }
    *others = seen;
    Ok(())
}
