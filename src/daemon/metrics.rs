//! What the daemon counts, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::model::Duration;
use crate::model::RunState;

/// The upper bounds of the buckets of lateness, in milliseconds.
const BUCKETS: [u64; 8] = [5, 10, 25, 50, 100, 500, 5_000, 60_000];

/// Counters of a daemon since it began.
#[derive(Debug, Default)]
pub struct Metrics {
    /// What the daemon does, e.g. `scheduler,worker`.
    roles: String,
    succeeded: AtomicU64,
    failed: AtomicU64,
    canceled: AtomicU64,
    /// Executions that went to sleep.
    pub parked: AtomicU64,
    /// Executions that ended by a fault of the store or of ours.
    pub broken: AtomicU64,
    /// Runs whose owner was gone.
    pub taken_over: AtomicU64,
    /// Runs that are being executed.
    pub executing: AtomicU64,
    /// Slots that got a run, and those whose inputs could not be made.
    pub fired: AtomicU64,
    pub not_fired: AtomicU64,
    /// Schedules by why they have a next slot or have none.
    pub schedules_armed: AtomicU64,
    pub schedules_off: AtomicU64,
    pub schedules_over: AtomicU64,
    /// By kind of trigger what became of what came.
    triggers: Mutex<BTreeMap<(&'static str, Outcome), u64>>,
    /// What the minute's look found.
    pub schedules_astray: AtomicU64,
    pub runs_left_lying: AtomicU64,
    pub runs_left_held: AtomicU64,
    pub keeping: Keeping,
    late: [AtomicU64; BUCKETS.len()],
    late_sum_micros: AtomicU64,
    late_count: AtomicU64,
}

/// What became of something that came for a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Fired,
    /// It fired, and the run starts when the trigger's bucket has room.
    PutOff,
    /// It has a run already.
    Repeated,
    /// The sender could not show who he is.
    Unsigned,
    /// Too large, or not what it says that it is.
    Unreadable,
    /// The inputs could not be made of it.
    Unfit,
    /// The bucket is empty.
    Throttled,
    /// The daemon drains, or something that it needs does not answer.
    Unavailable,
}

/// What housekeeping has removed, and how large the store is.
#[derive(Debug, Default)]
pub struct Keeping {
    pub runs: AtomicU64,
    /// Rows of logs and of what went over the wire, removed before their runs.
    pub lines: AtomicU64,
    pub cached: AtomicU64,
    pub versions: AtomicU64,
    pub schedules: AtomicU64,
    pub claims: AtomicU64,
    /// What has fired, and contents that files had.
    pub firings: AtomicU64,
    /// Generations, posts and lessons.
    pub content: AtomicU64,
    pub blobs: AtomicU64,
    pub failures: AtomicU64,
    /// When the last round ended, in seconds since 1970.
    pub done_at: AtomicU64,
    pub store_bytes: AtomicU64,
    pub free_bytes: AtomicU64,
    pub log_bytes: AtomicU64,
    /// As of the last collection.
    pub blob_files: AtomicU64,
    pub blob_bytes: AtomicU64,
}

impl Metrics {
    /// Makes those of a daemon with these roles.
    #[must_use]
    pub fn of(roles: &[String]) -> Self {
        Self { roles: roles.join(","), ..Self::default() }
    }

    /// Counts what became of something that came for a trigger of a kind.
    pub fn trigger(&self, kind: &'static str, outcome: Outcome) {
        *self.triggers.lock().unwrap_or_else(PoisonError::into_inner).entry((kind, outcome)).or_default() += 1;
    }

    /// Counts the end of a run.
    pub fn ended(&self, state: RunState) {
        match state {
            RunState::Succeeded => &self.succeeded,
            RunState::Canceled => &self.canceled,
            _ => &self.failed,
        }
        .fetch_add(1, Relaxed);
    }

    /// Counts how long after its time a run began or went on.
    pub fn late(&self, by: Duration) {
        let place = BUCKETS.iter().position(|bound| by.micros() <= bound * 1_000);
        if let Some(bucket) = place.and_then(|place| self.late.get(place)) {
            bucket.fetch_add(1, Relaxed);
        }
        self.late_sum_micros.fetch_add(by.micros(), Relaxed);
        self.late_count.fetch_add(1, Relaxed);
    }

    /// Writes everything; `states` are the runs in the store that have not ended, by state.
    #[must_use]
    pub fn text(&self, states: &[(String, u64)]) -> String {
        let mut page = String::new();
        let mut family = |name: &str, kind: &str, help: &str, rows: &[(String, String)]| {
            // Writing into a text does not fail.
            let _ = writeln!(page, "# HELP pipewright_{name} {help}\n# TYPE pipewright_{name} {kind}");
            for (labels, value) in rows {
                let _ = writeln!(page, "pipewright_{name}{labels} {value}");
            }
        };
        let about = format!("{{roles=\"{}\",version=\"{}\"}}", self.roles, env!("CARGO_PKG_VERSION"));
        family("daemon", "gauge", "What this daemon does.", &[(about, "1".to_owned())]);
        let ended = [("succeeded", &self.succeeded), ("failed", &self.failed), ("canceled", &self.canceled)];
        let ended: Vec<_> = ended
            .iter()
            .map(|(state, count)| (format!("{{state=\"{state}\"}}"), count.load(Relaxed).to_string()))
            .collect();
        family("runs_ended_total", "counter", "Runs that ended here.", &ended);
        let open: Vec<_> =
            states.iter().map(|(state, count)| (format!("{{state=\"{state}\"}}"), count.to_string())).collect();
        family("runs_open", "gauge", "Runs in the store that have not ended.", &open);
        let one = |value: &AtomicU64| vec![(String::new(), value.load(Relaxed).to_string())];
        family("runs_executing", "gauge", "Runs that are being executed here.", &one(&self.executing));
        family("runs_parked_total", "counter", "Times that a run went to sleep here.", &one(&self.parked));
        family(
            "runs_taken_over_total",
            "counter",
            "Runs taken over from an owner that was gone.",
            &one(&self.taken_over),
        );
        family("executions_broken_total", "counter", "Executions that a fault of the store ended.", &one(&self.broken));
        family("slots_fired_total", "counter", "Due firings of schedules that got a run.", &one(&self.fired));
        family(
            "slots_not_fired_total",
            "counter",
            "Due firings whose inputs could not be made.",
            &one(&self.not_fired),
        );
        let triggers = self.triggers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let triggers: Vec<_> = triggers
            .into_iter()
            .map(|((kind, outcome), count)| {
                (format!("{{kind=\"{kind}\",outcome=\"{}\"}}", outcome.name()), count.to_string())
            })
            .collect();
        family("triggers_total", "counter", "What became of what came for triggers.", &triggers);
        let schedules =
            [("armed", &self.schedules_armed), ("off", &self.schedules_off), ("over", &self.schedules_over)];
        let schedules =
            schedules.map(|(state, count)| (format!("{{state=\"{state}\"}}"), count.load(Relaxed).to_string()));
        let help = "Schedules: with a next slot, switched off, never due again.";
        family("schedules", "gauge", help, &schedules);
        let help = "Schedules that have neither a next slot nor a reason why not; 0 when all is well.";
        family("schedules_astray", "gauge", help, &one(&self.schedules_astray));
        let astray = [("queued", &self.runs_left_lying), ("held", &self.runs_left_held)];
        let astray = astray.map(|(why, count)| (format!("{{why=\"{why}\"}}"), count.load(Relaxed).to_string()));
        let help = "Runs that nobody goes on with although there is room; 0 when all is well.";
        family("runs_astray", "gauge", help, &astray);
        self.keeping.write(&mut family);
        let mut rows = Vec::new();
        let mut below = 0;
        for (bound, count) in BUCKETS.iter().zip(&self.late) {
            below += count.load(Relaxed);
            rows.push((format!("_bucket{{le=\"{}\"}}", seconds(bound * 1_000)), below.to_string()));
        }
        let count = self.late_count.load(Relaxed);
        rows.push(("_bucket{le=\"+Inf\"}".to_owned(), count.to_string()));
        rows.push(("_sum".to_owned(), seconds(self.late_sum_micros.load(Relaxed))));
        rows.push(("_count".to_owned(), count.to_string()));
        family("run_lateness_seconds", "histogram", "How long after its time a run began or went on.", &rows);
        page
    }
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::PutOff => "put_off",
            Self::Repeated => "repeated",
            Self::Unsigned => "unsigned",
            Self::Unreadable => "unreadable",
            Self::Unfit => "unfit",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Writes a family of figures: its name, its type, what it is, and its rows of labels and values.
type Family<'f> = dyn FnMut(&str, &str, &str, &[(String, String)]) + 'f;

impl Keeping {
    fn write(&self, family: &mut Family<'_>) {
        let removed = [
            ("runs", &self.runs),
            ("lines", &self.lines),
            ("cached", &self.cached),
            ("versions", &self.versions),
            ("schedules", &self.schedules),
            ("claims", &self.claims),
            ("firings", &self.firings),
            ("content", &self.content),
            ("blobs", &self.blobs),
        ];
        let removed = removed.map(|(what, count)| (format!("{{what=\"{what}\"}}"), count.load(Relaxed).to_string()));
        family("removed_total", "counter", "What housekeeping has removed.", &removed);
        let one = |value: &AtomicU64| vec![(String::new(), value.load(Relaxed).to_string())];
        let help = "Rounds of housekeeping that a fault ended.";
        family("housekeeping_failures_total", "counter", help, &one(&self.failures));
        let help = "When housekeeping was done last here, in seconds since 1970.";
        family("housekeeping_done_seconds", "gauge", help, &one(&self.done_at));
        let bytes = [("database", &self.store_bytes), ("free", &self.free_bytes), ("log", &self.log_bytes)];
        let bytes = bytes.map(|(of, count)| (format!("{{of=\"{of}\"}}"), count.load(Relaxed).to_string()));
        let help = "The database with its free pages, the free pages alone, the write-ahead log.";
        family("store_bytes", "gauge", help, &bytes);
        family("blobs", "gauge", "Files beside the database, as of the last collection.", &one(&self.blob_files));
        family("blob_bytes", "gauge", "Their bytes.", &one(&self.blob_bytes));
    }
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_all_that_is_not_later() {
        let metrics = Metrics::default();
        for milliseconds in [3, 7, 30, 70_000] {
            metrics.late(Duration::from_millis(milliseconds));
        }
        metrics.ended(RunState::Succeeded);
        let text = metrics.text(&[("waiting".to_owned(), 4)]);
        for line in [
            "pipewright_run_lateness_seconds_bucket{le=\"0.005000\"} 1",
            "pipewright_run_lateness_seconds_bucket{le=\"0.050000\"} 3",
            "pipewright_run_lateness_seconds_bucket{le=\"+Inf\"} 4",
            "pipewright_run_lateness_seconds_sum 70.040000",
            "pipewright_runs_ended_total{state=\"succeeded\"} 1",
            "pipewright_runs_open{state=\"waiting\"} 4",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
    }
}
