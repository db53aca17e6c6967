//! What ends outside the tasks of a runtime: work of other threads, answers of a database.

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

thread_local! {
    /// The count of this thread's runtime, where one counts. A runtime that has a thread for itself knows by it whether all
    /// its tasks wait for the clock, or one of them waits for somebody else.
    static COUNT: RefCell<Option<Count>> = const { RefCell::new(None) };
}

/// How much of a runtime's work is under way elsewhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(super) fn is_nothing(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }

    /// Counts what this thread begins from now on, until the guard is dropped.
    pub(super) fn here(&self) -> Here {
        Here(COUNT.with(|count| count.borrow_mut().replace(self.clone())))
    }
}

/// Counts while it exists; then what counted before does.
#[derive(Debug)]
pub(super) struct Here(Option<Count>);

impl Drop for Here {
    fn drop(&mut self) {
        COUNT.with(|count| *count.borrow_mut() = self.0.take());
    }
}

/// Something under way elsewhere.
#[derive(Debug)]
struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Awaits what is done outside the tasks of this runtime. A virtual clock stands still meanwhile, because nobody knows when
/// it ends.
pub async fn outside<F: Future>(work: F) -> F::Output {
    let count = COUNT.with(|count| count.borrow().clone());
    let _under_way = count.map(|Count(count)| {
        count.fetch_add(1, Ordering::AcqRel);
        UnderWay(count)
    });
    work.await
}
