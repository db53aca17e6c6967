//! Time of a replay: it stands still while anything can go on, and then jumps to whatever is due next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::model::Duration;
use crate::model::Timestamp;
use crate::store::Store;
use crate::system::Clock;
use crate::system::SimClock;

/// So many turns of the runtime in which nothing happened mean that nothing will by itself.
const CALM: usize = 64;

/// A simulated clock that knows who sleeps until when.
#[derive(Clone, Debug)]
pub(super) struct Virtual {
    inner: SimClock,
    sleepers: Arc<Sleepers>,
}

#[derive(Debug, Default)]
struct Sleepers {
    due: Mutex<BTreeMap<Timestamp, usize>>,
    came: Notify,
}

/// A sleeper, as long as it sleeps.
struct Sleeper<'s>(&'s Sleepers, Timestamp);

impl Sleepers {
    fn due(&self) -> MutexGuard<'_, BTreeMap<Timestamp, usize>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, due: Timestamp) -> Sleeper<'_> {
        *self.due().entry(due).or_default() += 1;
        self.came.notify_one();
        Sleeper(self, due)
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        let mut due = self.0.due();
        if let Some(count) = due.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                due.remove(&self.1);
            }
        }
    }
}

impl Virtual {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { inner: SimClock::new(now), sleepers: Arc::default() }
    }

    pub(super) fn advance_to(&self, moment: Timestamp) {
        self.inner.advance_to(moment);
    }

    /// Moves the time on for as long as it is polled. The runtime must have one thread: what can go on there does so
    /// before this gets its turn again.
    pub(super) async fn run(self, store: Store) {
        loop {
            let mut calm = 0;
            while calm < CALM {
                tokio::task::yield_now().await;
                calm = if store.is_idle() { calm + 1 } else { 0 };
            }
            let next = self.sleepers.due().keys().find(|due| **due > self.now()).copied();
            match next {
                Some(next) => self.inner.advance_to(next),
                None => self.sleepers.came.notified().await,
            }
        }
    }
}

#[async_trait]
impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn monotonic(&self) -> Duration {
        self.inner.monotonic()
    }

    async fn sleep_until(&self, due: Timestamp) {
        if due <= self.now() {
            return;
        }
        let _sleeper = self.sleepers.enter(due);
        self.inner.sleep_until(due).await;
    }
}
