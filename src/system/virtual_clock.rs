//! A clock whose time passes by itself: whenever everything waits for it, it is the moment that the next one waits for.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use async_trait::async_trait;

use super::Clock;
use super::outside::Count;
use crate::model::Duration;
use crate::model::Timestamp;

/// A clock for one runtime of one thread. It never goes while a task can go on, or waits for what is done outside: so the
/// same work sees the same moments, however fast the machine is, and a month passes in no time.
#[derive(Clone, Debug)]
pub struct VirtualClock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    start: Timestamp,
    /// It goes no further.
    end: Timestamp,
    state: Mutex<State>,
    outside: Count,
}

#[derive(Debug)]
struct State {
    now: Timestamp,
    /// By moment, and in the order in which they came.
    sleepers: BTreeMap<(Timestamp, u64), Waker>,
    counted: u64,
    /// Why time does not go on any more, once somebody wants to know.
    stopped: Option<Stopped>,
    watcher: Option<Waker>,
}

/// Why a virtual clock stands still for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// What is waited for comes later than time goes.
    End,
    /// Nobody waits for a moment, and nobody can go on.
    Deadlock,
}

impl VirtualClock {
    /// Makes a clock that stands at `start`, and goes to `end`.
    #[must_use]
    pub fn new(start: Timestamp, end: Timestamp) -> Self {
        let state = State { now: start, sleepers: BTreeMap::new(), counted: 0, stopped: None, watcher: None };
        Self(Arc::new(Inner { start, end, state: Mutex::new(state), outside: Count::default() }))
    }

    /// Runs work to its end, on this thread and on a runtime of its own, on which time passes by this clock.
    ///
    /// # Errors
    /// The runtime cannot be made.
    pub fn run<F: Future>(&self, work: F) -> std::io::Result<F::Output> {
        let clock = self.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            // Called when no task can go on: the one moment at which time may pass.
            .on_thread_park(move || clock.pass())
            .build()?;
        let _counted = self.0.outside.here();
        let output = runtime.block_on(work);
        // What still works on other threads is nobody's any more.
        runtime.shutdown_background();
        Ok(output)
    }

    /// Returns when time does not go on any more, and why. One at a time may ask.
    pub async fn stopped(&self) -> Stopped {
        Watch(self.clone()).await
    }

    /// Lets time pass to the next moment that somebody waits for.
    fn pass(&self) {
        if !self.0.outside.is_nothing() {
            return;
        }
        let mut due = Vec::new();
        {
            let mut state = self.state();
            let next = state.sleepers.first_key_value().map(|((moment, _), _)| *moment);
            match next.filter(|moment| *moment <= self.0.end) {
                Some(moment) => {
                    state.now = state.now.max(moment);
                    while let Some(entry) = state.sleepers.first_entry().filter(|entry| entry.key().0 <= moment) {
                        due.push(entry.remove());
                    }
                }
                None => {
                    if let Some(watcher) = state.watcher.take() {
                        state.stopped = Some(if next.is_some() { Stopped::End } else { Stopped::Deadlock });
                        due.push(watcher);
                    }
                }
            }
        }
        due.into_iter().for_each(Waker::wake);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.state().now
    }

    fn monotonic(&self) -> Duration {
        self.now().since(self.0.start)
    }

    async fn sleep_until(&self, due: Timestamp) {
        Sleep { clock: self.clone(), due, number: None }.await;
    }
}

/// Somebody who wants to know when time does not go on any more.
struct Watch(VirtualClock);

impl Future for Watch {
    type Output = Stopped;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Stopped> {
        let mut state = self.0.state();
        if let Some(stopped) = state.stopped.take() {
            return Poll::Ready(stopped);
        }
        state.watcher = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.watcher, state.stopped) = (None, None);
    }
}

/// Somebody who waits for a moment. One who is gone is not waited for: time would stop at moments that nobody means.
struct Sleep {
    clock: VirtualClock,
    due: Timestamp,
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut state = clock.state();
        if self.due <= state.now {
            return Poll::Ready(());
        }
        let number = match self.number {
            Some(number) => number,
            None => {
                state.counted += 1;
                state.counted
            }
        };
        self.number = Some(number);
        state.sleepers.insert((self.due, number), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.clock.state().sleepers.remove(&(self.due, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::outside;

    const DAY: Duration = Duration::from_secs(86_400);

    fn clock() -> VirtualClock {
        VirtualClock::new(Timestamp(0), Timestamp(0).plus(DAY.times(400)))
    }

    #[test]
    fn time_passes_when_everybody_sleeps_and_in_the_order_of_the_moments() {
        let clock = clock();
        let order = Arc::new(Mutex::new(Vec::new()));
        let sleeper = |days: u64| {
            let (clock, order) = (clock.clone(), order.clone());
            async move {
                clock.sleep(DAY.times(days)).await;
                order.lock().unwrap().push(days);
                clock.now()
            }
        };
        let ended = clock.run(async {
            let tasks = [tokio::spawn(sleeper(30)), tokio::spawn(sleeper(2)), tokio::spawn(sleeper(31))];
            let mut ended = Vec::new();
            for task in tasks {
                ended.push(task.await.unwrap().since(Timestamp(0)));
            }
            ended
        });
        assert_eq!(ended.unwrap(), [DAY.times(30), DAY.times(2), DAY.times(31)]);
        assert_eq!(*order.lock().unwrap(), [2, 30, 31]);
    }

    #[test]
    fn no_time_passes_while_another_thread_works() {
        let clock = clock();
        let passed = clock.run(async {
            let (sleeping, now) = (clock.clone(), clock.now());
            let sleeper = tokio::spawn(async move { sleeping.sleep(DAY).await });
            let work = tokio::task::spawn_blocking(|| std::thread::sleep(std::time::Duration::from_millis(30)));
            outside(work).await.unwrap();
            let passed = clock.now().since(now);
            sleeper.await.unwrap();
            passed
        });
        assert_eq!(passed.unwrap(), Duration::ZERO);
    }

    #[test]
    fn whoever_is_gone_is_not_waited_for() {
        let clock = clock();
        let now = clock.run(async {
            tokio::select! {
                () = clock.sleep(DAY.times(300)) => {}
                () = clock.sleep(DAY) => {}
            }
            clock.sleep(DAY).await;
            clock.now()
        });
        assert_eq!(now.unwrap().since(Timestamp(0)), DAY.times(2));
    }

    #[test]
    fn what_never_comes_is_told() {
        let never = clock();
        assert_eq!(never.run(never.stopped()).unwrap(), Stopped::Deadlock);
        let late = clock();
        let told = late.run(async {
            tokio::select! {
                () = late.sleep(DAY.times(500)) => None,
                stopped = late.stopped() => Some(stopped),
            }
        });
        assert_eq!(told.unwrap(), Some(Stopped::End));
        assert_eq!(late.now(), Timestamp(0));
    }
}
