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

impl Metrics {
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
