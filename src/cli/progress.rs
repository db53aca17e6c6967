//! What is known of a run from its events: the lines while it runs, and the table at its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::print;
use crate::model::Ask;
use crate::model::Phase;
use crate::model::RunEvent;
use crate::model::StepPath;
use crate::model::StepState;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::Verdict;

/// Names a step of a run.
pub(super) type Key = (Phase, Arc<str>);

/// What was seen of a run.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// In the order in which they were first heard of.
    steps: Vec<StepLine>,
    places: BTreeMap<Key, usize>,
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
}

/// One step.
#[derive(Debug)]
pub(super) struct StepLine {
    phase: Phase,
    id: Arc<str>,
    pub(super) state: StepState,
    attempts: u32,
    /// How many items a `for_each` has.
    items: Option<usize>,
    done: usize,
    failed: usize,
    skipped: usize,
    pub(super) began: Timestamp,
    ended: Timestamp,
    note: String,
    /// What it gave, where it is not of items.
    output: Option<Value>,
}

/// What an event means for its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    GoesOn,
    /// Something that a watcher wants to read at once: a failure that is retried, a wait, a doubt.
    Told,
    Ended,
}

impl Seen {
    /// Follows an event; gives the step that it is about and what it means for it.
    pub(super) fn follow(&mut self, event: &RunEvent) -> Option<(Key, News)> {
        self.began.get_or_insert(event.at());
        self.ended = Some(event.at());
        if let RunEvent::Retried { .. } = event {
            self.began = Some(event.at());
        }
        let path = event.path()?;
        let key = (path.phase, path.step.clone());
        let steps = &mut self.steps;
        let place = *self.places.entry(key.clone()).or_insert_with(|| {
            steps.push(StepLine::new(path, event.at()));
            steps.len() - 1
        });
        let line = self.steps.get_mut(place)?;
        let told = line.follow(event, path);
        // Of a `for_each` the whole step has ended when its last item has.
        let counted = line.done + line.failed + line.skipped;
        let all = line.items.is_none_or(|items| counted >= items || path.item.is_none());
        if line.state.is_final() && !all {
            line.state = StepState::Running;
        }
        let news = match (line.state.is_final(), told) {
            (true, _) => News::Ended,
            (false, true) => News::Told,
            (false, false) => News::GoesOn,
        };
        Some((key, news))
    }

    pub(super) fn step(&self, key: &Key) -> Option<&StepLine> {
        self.places.get(key).and_then(|place| self.steps.get(*place))
    }

    /// Returns how long the run took, as far as it was seen.
    pub(super) fn took(&self) -> String {
        match (self.began, self.ended) {
            (Some(began), Some(ended)) => print::length(ended.since(began)),
            _ => "0 ms".to_owned(),
        }
    }

    /// Counts the steps by their states: `3 succeeded, 1 skipped`.
    pub(super) fn counts(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for line in &self.steps {
            *counts.entry(line.state.name()).or_default() += 1;
        }
        let counts: Vec<_> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
        if counts.is_empty() { "no steps".to_owned() } else { counts.join(", ") }
    }

    /// Returns the rows of the table of steps; its head is `HEAD`.
    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        self.steps.iter().map(StepLine::row).collect()
    }

    /// Returns the rows with what the steps gave where there is nothing else to note.
    pub(super) fn rows_with_outputs(&self) -> Vec<Vec<String>> {
        let row = |line: &StepLine| {
            let mut row = line.row();
            if let (Some(note), Some(output)) = (row.last_mut().filter(|note| note.is_empty()), &line.output) {
                *note = output.to_string();
            }
            row
        };
        self.steps.iter().map(row).collect()
    }

    /// Returns the steps that failed for good, in the order of their beginnings, with how and after how many attempts.
    pub(super) fn failures(&self) -> impl Iterator<Item = (Key, String)> {
        self.steps.iter().filter(|line| line.state == StepState::Failed).map(|line| {
            let attempts = if line.attempts > 1 { format!(" after {} attempts", line.attempts) } else { String::new() };
            let text = format!("step `{}` failed{attempts}: {}", line.name(), print::clean(&line.note));
            ((line.phase, line.id.clone()), text)
        })
    }
}

/// The head of the table of steps.
pub(super) const HEAD: [&str; 5] = ["step", "state", "attempts", "took", "note"];

impl StepLine {
    fn new(path: &StepPath, at: Timestamp) -> Self {
        Self {
            phase: path.phase,
            id: path.step.clone(),
            state: StepState::Running,
            attempts: 0,
            items: None,
            done: 0,
            failed: 0,
            skipped: 0,
            began: at,
            ended: at,
            note: String::new(),
            output: None,
        }
    }

    /// Returns whether a watcher wants to read it at once.
    fn follow(&mut self, event: &RunEvent, path: &StepPath) -> bool {
        self.ended = event.at();
        match event {
            RunEvent::Items { items, .. } => {
                // The items are made anew when a person retries the step.
                self.items = items.as_list().map(<[Value]>::len);
                (self.done, self.failed, self.skipped) = (0, 0, 0);
                self.state = if self.items == Some(0) { StepState::Succeeded } else { StepState::Running };
            }
            RunEvent::StepStarted { attempt, at, .. } => {
                if self.attempts == 0 {
                    self.began = *at;
                }
                self.attempts = self.attempts.max(*attempt);
                self.state = StepState::Running;
            }
            RunEvent::Succeeded { attempt, started, recovered, output, .. } => {
                self.output = path.item.is_none().then(|| output.clone());
                self.attempts = self.attempts.max(*attempt);
                self.began = self.began.min(*started);
                self.done += 1;
                self.state = if self.failed > 0 { StepState::Failed } else { StepState::Succeeded };
                if let Some(error) = recovered {
                    self.note = format!("default instead of: {error}");
                } else if self.failed == 0 {
                    self.note.clear();
                }
            }
            RunEvent::Failed { attempt, started, error, retry_at, .. } => {
                self.attempts = self.attempts.max(*attempt);
                self.began = self.began.min(*started);
                self.note = format!("{}{error}", item(path));
                self.state = if retry_at.is_some() { StepState::Waiting } else { StepState::Failed };
                self.failed += usize::from(retry_at.is_none());
                return true;
            }
            RunEvent::Skipped { reason, .. } => {
                self.skipped += 1;
                self.state = StepState::Skipped;
                self.note = reason.to_string();
            }
            RunEvent::StepCanceled { .. } => self.state = StepState::Canceled,
            RunEvent::Waiting { reason, until, .. } => {
                self.state = StepState::Waiting;
                self.note = match until {
                    Some(until) if !reason.contains("until") => format!("{reason}, until {until}"),
                    _ => reason.to_string(),
                };
                return path.item.is_none();
            }
            RunEvent::Asked { ask, .. } => {
                self.state = StepState::Waiting;
                let show = match (&*ask.kind, ask.request.get("id").and_then(Value::as_str)) {
                    (Ask::POST, Some(post)) => format!("posts show {post}"),
                    _ => format!("approvals show {}", ask.id),
                };
                self.note = format!("{}{}: `{show}`", item(path), ask.reason);
                return path.item.is_none();
            }
            RunEvent::Woken { .. } => self.state = StepState::Running,
            RunEvent::Round { path, .. } => {
                self.note = path.round.map_or_else(String::new, |round| format!("round {round}"));
            }
            RunEvent::InDoubt { error, .. } => {
                self.state = StepState::Waiting;
                self.note = format!("{}in doubt: {error}", item(path));
                return true;
            }
            RunEvent::Settled { by, verdict, .. } => {
                self.note = format!("{}the doubt was settled by {}", item(path), by.name());
                match &**verdict {
                    Verdict::Happened { output, .. } => {
                        self.output = path.item.is_none().then(|| output.clone());
                        self.done += 1;
                        self.state = if self.failed > 0 { StepState::Failed } else { StepState::Succeeded };
                    }
                    Verdict::Dropped => {
                        self.skipped += 1;
                        self.state = StepState::Skipped;
                    }
                    Verdict::SendAgain => self.state = StepState::Running,
                }
            }
            RunEvent::Child { run, .. } => self.note = format!("run {run}"),
            _ => {}
        }
        false
    }

    fn name(&self) -> String {
        let items = self.items.map(|items| format!(" × {items}")).unwrap_or_default();
        match self.phase {
            Phase::Main => format!("{}{items}", self.id),
            phase => format!("{}/{}{items}", phase.name(), self.id),
        }
    }

    /// Returns what a running step shows of itself.
    pub(super) fn running(&self) -> String {
        let counted = self.done + self.failed + self.skipped;
        let name = match (self.items, self.phase) {
            (Some(items), _) => format!("{} {counted}/{items}", self.id),
            (None, _) => self.name(),
        };
        if self.note.is_empty() { name } else { format!("{name}  {}", print::clean(&self.note)) }
    }

    /// Returns the line of a step for those who read without a terminal.
    pub(super) fn text(&self) -> String {
        let state = print::state(self.state, 9);
        let attempts = if self.attempts > 1 { format!(", {} attempts", self.attempts) } else { String::new() };
        let note = if self.note.is_empty() { String::new() } else { format!(": {}", print::clean(&self.note)) };
        let took = if self.is_timed() { format!("  {}", self.took()) } else { String::new() };
        format!("{state}  {}{took}{attempts}{note}", self.name())
    }

    /// Tells whether it worked at all, and so took a time.
    fn is_timed(&self) -> bool {
        self.attempts > 0 && self.state != StepState::Waiting
    }

    fn took(&self) -> String {
        print::length(self.ended.since(self.began))
    }

    fn row(&self) -> Vec<String> {
        let attempts = if self.attempts == 0 { String::new() } else { self.attempts.to_string() };
        let took = if self.is_timed() { self.took() } else { String::new() };
        vec![self.name(), self.state.name().to_owned(), attempts, took, self.note.clone()]
    }
}

/// Names the item of a `for_each` that something is about.
fn item(path: &StepPath) -> String {
    path.item.map(|item| format!("item {item}: ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EffectId;
    use crate::model::ErrorClass;
    use crate::model::Happened;
    use crate::model::SettledBy;
    use crate::model::StepError;

    fn succeeded(path: &str, started: i64, at: i64) -> RunEvent {
        let (started, at) = (Timestamp(started), Timestamp(at));
        let path = path.parse().unwrap();
        RunEvent::Succeeded { path, attempt: 1, started, at, output: Value::Null, recovered: None }
    }

    fn failed(path: &str, at: i64, retry_at: Option<i64>) -> RunEvent {
        RunEvent::Failed {
            path: path.parse().unwrap(),
            attempt: 1,
            started: Timestamp(at),
            at: Timestamp(at),
            error: Box::new(StepError { class: ErrorClass::Unavailable, message: "gone".to_owned() }),
            happened: Happened::No,
            retry_at: retry_at.map(Timestamp),
        }
    }

    #[test]
    fn a_step_of_items_ends_with_its_last_item() {
        let mut seen = Seen::default();
        let items = Value::list(vec![1.into(), 2.into()]);
        let events = [
            RunEvent::Items { step: "a".parse().unwrap(), items, at: Timestamp(0) },
            failed("a[1]", 10, Some(20)),
            succeeded("a[0]", 5, 2_000),
            succeeded("a[1]", 20, 3_000),
        ];
        let news: Vec<_> = events.iter().filter_map(|event| seen.follow(event)).map(|(_, news)| news).collect();
        assert_eq!(news, [News::GoesOn, News::Told, News::GoesOn, News::Ended]);
        assert_eq!(seen.rows(), [["a × 2", "succeeded", "1", "3 ms", ""]]);
        assert_eq!(seen.counts(), "1 succeeded");
    }

    #[test]
    fn an_item_whose_doubt_was_settled_has_ended() {
        let settled = |item: &str, verdict: Verdict| RunEvent::Settled {
            path: item.parse().unwrap(),
            effect: EffectId("e".into()),
            at: Timestamp(3_000),
            by: SettledBy::Reconcile,
            verdict: Box::new(verdict),
        };
        let mut seen = Seen::default();
        let items = Value::list(vec![1.into(), 2.into()]);
        let events = [
            RunEvent::Items { step: "a".parse().unwrap(), items, at: Timestamp(0) },
            settled("a[0]", Verdict::Happened { output: Value::Null, remote_id: None }),
            settled("a[1]", Verdict::SendAgain),
        ];
        for event in &events {
            seen.follow(event);
        }
        assert_eq!(seen.counts(), "1 running");
        seen.follow(&succeeded("a[1]", 10, 4_000));
        assert_eq!(seen.counts(), "1 succeeded");
    }

    #[test]
    fn an_item_that_fails_for_good_fails_its_step() {
        let mut seen = Seen::default();
        let items = Value::list(vec![1.into(), 2.into()]);
        let events = [
            RunEvent::Items { step: "a".parse().unwrap(), items, at: Timestamp(0) },
            failed("a[0]", 10, None),
            succeeded("a[1]", 10, 1_000),
        ];
        for event in &events {
            seen.follow(event);
        }
        assert_eq!(seen.rows(), [["a × 2", "failed", "1", "1 ms", "item 0: unavailable: gone"]]);
    }
}
