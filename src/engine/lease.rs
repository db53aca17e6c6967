//! Leases: their owner beats, and others watch whether it does.
//!
//! Whether an owner lives is seen by its beat and by nothing else: an observer takes a run over when it has seen the same
//! lease for its whole length by its own monotonic clock, and the store lets it only where the lease still is that one. No
//! clocks of two machines are compared. An owner that was only slow finds its writes refused by the fence.

use std::collections::HashMap;

use tokio_util::sync::CancellationToken;

use super::Engine;
use super::Error;
use super::Held;
use crate::model::Duration;
use crate::model::RunId;
use crate::store::Fence;
use crate::store::Lease;

/// After this long without a changed beat an observer may take a run over.
pub const LEASE: Duration = Duration::from_secs(15);
/// How often the owner of a run changes its beat.
pub const BEAT: Duration = Duration::from_secs(4);
/// Of the time between two looks no more counts: an observer that was stopped, or whose machine slept, has seen nothing
/// meanwhile, and the owner may have slept as well.
pub const LONGEST_LOOK: Duration = Duration::from_millis(7_500);
/// How often somebody who waits for a lease looks at it.
const LOOK: Duration = Duration::from_secs(1);

/// What somebody has seen of the leases of others.
#[derive(Debug, Default)]
pub struct Observer {
    seen: HashMap<RunId, Seen>,
    /// When it looked last, by its own monotonic clock.
    last: Option<Duration>,
}

#[derive(Debug)]
struct Seen {
    lease: Lease,
    /// For how long the lease has been seen as it is.
    silent: Duration,
}

impl Observer {
    /// Looks at all leases that others hold. Returns those that may be taken over: their owners are certainly `gone`, or
    /// have been silent for a lease's length.
    pub fn look(
        &mut self,
        held: impl IntoIterator<Item = (RunId, Lease)>,
        now: Duration,
        gone: impl Fn(&str) -> bool,
    ) -> Vec<(RunId, Lease)> {
        let passed = self.last.map_or(Duration::ZERO, |last| {
            Duration::from_micros(now.micros().saturating_sub(last.micros())).min(LONGEST_LOOK)
        });
        self.last = Some(now);
        let (mut seen, mut lost) = (HashMap::new(), Vec::new());
        for (run, lease) in held {
            let silent = match self.seen.get(&run) {
                Some(before) if before.lease == lease => before.silent.plus(passed),
                _ => Duration::ZERO,
            };
            if silent >= LEASE || lease.owner.as_deref().is_some_and(&gone) {
                lost.push((run, lease.clone()));
            }
            seen.insert(run, Seen { lease, silent });
        }
        self.seen = seen;
        lost
    }
}

/// Keeps a lease alive while it exists.
#[derive(Debug)]
pub(super) struct Heart {
    /// Tells that the lease is lost.
    pub(super) lost: CancellationToken,
    beating: tokio::task::JoinHandle<()>,
}

impl Heart {
    pub(super) fn start(engine: &Engine, run: RunId, fence: Fence) -> Self {
        let lost = CancellationToken::new();
        let (parts, told) = (engine.0.clone(), lost.clone());
        let beating = tokio::spawn(async move {
            loop {
                // By the length of time: a wall clock that is set back must not silence it.
                parts.system.clock.sleep(BEAT).await;
                match parts.store.beat(run, fence).await {
                    Ok(true) => {}
                    Ok(false) => return told.cancel(),
                    Err(error) => tracing::warn!(%run, %error, "the lease could not be renewed"),
                }
            }
        });
        Self { lost, beating }
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

impl Engine {
    /// Claims a run for this process; waits for an owner that may be gone.
    pub(super) async fn claim(&self, run: RunId) -> Result<Held, Error> {
        let (store, clock) = (&self.0.store, &self.0.system.clock);
        if let Some(held) = self.held(run) {
            return Ok(held);
        }
        let (mut observer, mut first) = (Observer::default(), None);
        loop {
            if let Some(fence) = store.claim(run, &self.0.owner).await? {
                return Ok(Held { fence, run: None });
            }
            let lease = store.lease(run).await?.ok_or(Error::NoRun(run))?;
            let lost = observer.look([(run, lease.clone())], clock.monotonic(), self.0.owner_is_gone);
            if !lost.is_empty() {
                let fence = store.steal(run, &self.0.owner, &lease).await?.ok_or(Error::Taken(run))?;
                return Ok(Held { fence, run: None });
            }
            // Whoever lives beats, and then there is nothing to wait for.
            if *first.get_or_insert_with(|| lease.clone()) != lease {
                return Err(Error::Taken(run));
            }
            clock.sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(owner: &str, beat: i64) -> Lease {
        Lease { owner: Some(owner.to_owned()), fence: Fence(1), beat }
    }

    fn looks(observer: &mut Observer, second: u64, beat: i64) -> bool {
        let held = [(RunId::new(1, 1), lease("them", beat))];
        !observer.look(held, Duration::from_secs(second), |_| false).is_empty()
    }

    #[test]
    fn only_whoever_is_silent_for_a_leases_length_loses_a_run() {
        let mut observer = Observer::default();
        assert!(![0, 5, 10].iter().any(|second| looks(&mut observer, *second, 7)));
        assert!(looks(&mut observer, 15, 7));
        assert!(looks(&mut observer, 20, 7), "who could not take it may take it later");
        assert!(!looks(&mut observer, 21, 8), "it has beaten");
        assert!(![26, 31].iter().any(|second| looks(&mut observer, *second, 8)));
        assert!(looks(&mut observer, 36, 8));
    }

    #[test]
    fn an_observer_that_slept_has_seen_nothing_meanwhile() {
        let mut observer = Observer::default();
        assert!(!looks(&mut observer, 0, 7));
        assert!(!looks(&mut observer, 3_600, 7), "both may have slept");
        assert!(!looks(&mut observer, 3_605, 7));
        assert!(looks(&mut observer, 3_610, 7));
    }

    #[test]
    fn whoever_is_certainly_gone_loses_a_run_at_once() {
        let held = [(RunId::new(1, 1), lease("them", 1)), (RunId::new(1, 2), lease("me", 1))];
        let lost = Observer::default().look(held, Duration::ZERO, |owner| owner == "them");
        assert_eq!(lost.len(), 1);
    }
}
