//! The journal of one run, as its driver writes it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::Machine;
use super::probe::Point;
use super::probe::Probe;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::StepPath;
use crate::store::Error;
use crate::store::Fence;
use crate::store::JournalWriter;
use crate::store::Record;
use crate::store::Store;

/// Names the step run that ends with an event.
fn ended(event: &RunEvent) -> Option<StepPath> {
    match event {
        RunEvent::Succeeded { path, .. }
        | RunEvent::Failed { path, retry_at: None, .. }
        | RunEvent::Skipped { path, .. } => Some(path.clone()),
        _ => None,
    }
}

/// Appends events behind, and commits when something is about to become visible.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    writer: JournalWriter,
    /// How many events the journal has.
    length: Arc<AtomicU64>,
    probe: Probe,
}

impl Journal {
    pub(super) fn new(store: &Store, run: RunId, fence: Fence, length: u64, machine: &Machine, probe: Probe) -> Self {
        let writer = store.writer(run, fence, length + 1, machine.open_effects());
        writer.knows_asks(machine.open_asks());
        Self { writer, length: Arc::new(AtomicU64::new(length)), probe }
    }

    /// Appends; returns at once.
    pub(super) fn append(&self, events: Vec<RunEvent>) {
        if events.is_empty() {
            return;
        }
        let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
        let ended = if self.probe.is_told() { events.iter().filter_map(ended).collect() } else { Vec::new() };
        self.writer.append(events.into_iter().map(Record::Event));
        let length = self.length.fetch_add(count, Ordering::Relaxed) + count;
        self.probe.tell(|| Point::Appended(length));
        for path in ended {
            self.probe.tell(|| Point::Ended(path));
        }
    }

    /// The run may hold permits, which its last event ends.
    pub(super) fn holds_permits(&self) {
        self.writer.holds_permits();
    }

    pub(super) fn record(&self, record: Record) {
        self.writer.append([record]);
    }

    /// Returns when all that was appended is durable.
    pub(super) async fn commit(&self) -> Result<(), Error> {
        let length = self.length.load(Ordering::Relaxed);
        self.writer.commit().await?;
        self.probe.tell(|| Point::Committed(length));
        Ok(())
    }

    /// Waits while too much is appended and not yet written.
    pub(super) async fn room(&self) {
        self.writer.room().await;
    }

    /// Returns the events that are committed from now on.
    pub(super) fn committed(&self) -> tokio::sync::mpsc::UnboundedReceiver<(u64, RunEvent)> {
        self.writer.events()
    }
}
