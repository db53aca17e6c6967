//! What a journal tells of each step run; pure.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::model::Ask;
use crate::model::Phase;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::pipeline::Pipeline;

/// What a journal tells.
#[derive(Debug, Default)]
pub(super) struct History {
    /// By path without round, in the order in which they were first heard of. A whole step has no item.
    pub(super) step_runs: IndexMap<StepPath, StepRun>,
    /// How many items a `for_each` has.
    pub(super) items: IndexMap<StepPath, usize>,
    /// When somebody asked for the end, and why.
    pub(super) cancel: Option<(Timestamp, Option<Arc<str>>)>,
    pub(super) phase: Phase,
    pub(super) parked: Option<Timestamp>,
    pub(super) ended: Option<(Timestamp, RunState)>,
}

/// A step run.
#[derive(Clone, Debug)]
pub(super) struct StepRun {
    pub(super) last: Last,
    /// The number of the last attempt that was begun.
    pub(super) attempt: u32,
    pub(super) round: u32,
    /// Its failed attempts: when, which, and why.
    pub(super) failures: Vec<(Timestamp, u32, StepError)>,
    pub(super) child: Option<RunId>,
}

/// What was last heard of a step run.
#[derive(Clone, Debug)]
pub(super) enum Last {
    Running {
        since: Timestamp,
    },
    /// Nothing was sent because something did not allow it.
    PutOff {
        until: Timestamp,
        reason: StepError,
    },
    Retrying {
        until: Timestamp,
        error: StepError,
    },
    Waiting {
        since: Timestamp,
        until: Option<Timestamp>,
        reason: Arc<str>,
    },
    Asks {
        since: Timestamp,
        ask: Box<Ask>,
    },
    NextRound {
        until: Timestamp,
    },
    InDoubt {
        since: Timestamp,
        error: StepError,
    },
    Succeeded {
        at: Timestamp,
        recovered: Option<StepError>,
    },
    Failed {
        at: Timestamp,
        error: StepError,
    },
    Skipped {
        at: Timestamp,
        reason: Arc<str>,
    },
    Canceled {
        at: Timestamp,
    },
}

impl Last {
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Succeeded { .. } | Self::Failed { .. } | Self::Skipped { .. } | Self::Canceled { .. })
    }
}

impl History {
    pub(super) fn read(events: &[RunEvent], pipeline: Option<&Pipeline>) -> Self {
        let mut history = Self::default();
        for event in events {
            history.follow(event, pipeline);
        }
        history
    }

    fn follow(&mut self, event: &RunEvent, pipeline: Option<&Pipeline>) {
        match event {
            RunEvent::Items { step, items, .. } => {
                self.items.insert(whole(step), items.as_list().map_or(0, <[_]>::len));
            }
            RunEvent::CancelRequested { at, reason, .. } => self.cancel = Some((*at, reason.clone())),
            RunEvent::Retried { from, .. } => self.forget(from.as_deref(), pipeline),
            RunEvent::PhaseStarted { phase, .. } => self.phase = *phase,
            RunEvent::Parked { at, .. } => self.parked = Some(*at),
            RunEvent::Started { .. } => self.parked = None,
            RunEvent::Finished { at, state, .. } => self.ended = Some((*at, *state)),
            _ => {}
        }
        let Some(path) = event.path().filter(|_| !matches!(event, RunEvent::Items { .. })) else { return };
        let at = event.at();
        let path = StepPath { round: None, ..path.clone() };
        let run = self.step_runs.entry(path).or_insert_with(|| StepRun {
            last: Last::Running { since: at },
            attempt: 0,
            round: 1,
            failures: Vec::new(),
            child: None,
        });
        let last = match event {
            RunEvent::StepStarted { attempt, .. } | RunEvent::Intent { attempt, .. } => {
                run.attempt = *attempt;
                Last::Running { since: at }
            }
            RunEvent::Child { run: child, .. } => {
                run.child = Some(*child);
                Last::Running { since: at }
            }
            RunEvent::Succeeded { attempt, recovered, .. } => {
                run.attempt = *attempt;
                Last::Succeeded { at, recovered: recovered.as_deref().cloned() }
            }
            RunEvent::Failed { attempt, error, retry_at, .. } => {
                // One that was put off bears the number before its own.
                let put_off = *attempt < run.attempt;
                run.attempt = *attempt;
                match retry_at {
                    Some(until) if put_off => Last::PutOff { until: *until, reason: (**error).clone() },
                    retry_at => {
                        run.failures.push((at, *attempt, (**error).clone()));
                        match retry_at {
                            Some(until) => Last::Retrying { until: *until, error: (**error).clone() },
                            None => Last::Failed { at, error: (**error).clone() },
                        }
                    }
                }
            }
            RunEvent::Skipped { reason, .. } => Last::Skipped { at, reason: reason.clone() },
            RunEvent::Waiting { until, reason, .. } => {
                Last::Waiting { since: at, until: *until, reason: reason.clone() }
            }
            RunEvent::Asked { attempt, ask, .. } => {
                run.attempt = *attempt;
                Last::Asks { since: at, ask: ask.clone() }
            }
            RunEvent::Round { until, path, .. } => {
                run.round = path.round.unwrap_or(1) + 1;
                run.attempt = 0;
                Last::NextRound { until: *until }
            }
            RunEvent::InDoubt { error, .. } => Last::InDoubt { since: at, error: (**error).clone() },
            RunEvent::Settled { verdict, .. } => match &**verdict {
                crate::model::Verdict::Happened { .. } => Last::Succeeded { at, recovered: None },
                crate::model::Verdict::SendAgain => Last::Running { since: at },
                crate::model::Verdict::Dropped => Last::Skipped { at, reason: "its write was left in doubt".into() },
            },
            RunEvent::StepCanceled { .. } => Last::Canceled { at },
            _ => Last::Running { since: at },
        };
        run.last = last;
    }

    /// A person has it run again: what failed is as if it had never been, and what is behind the step that is named.
    fn forget(&mut self, from: Option<&str>, pipeline: Option<&Pipeline>) {
        let mut anew: Vec<Arc<str>> = Vec::new();
        let index = pipeline.zip(from).and_then(|(pipeline, from)| pipeline.main.index.get(from).copied());
        if let (Some(pipeline), Some(first)) = (pipeline, index) {
            let mut open = vec![first];
            while let Some(next) = open.pop() {
                let Some(step) = pipeline.main.steps.get(next).filter(|step| !anew.contains(&step.id)) else {
                    continue;
                };
                anew.push(step.id.clone());
                let behind = pipeline.main.steps.iter().enumerate().filter(|(_, step)| step.needs.contains(&next));
                open.extend(behind.map(|(index, _)| index));
            }
        }
        self.step_runs.retain(|path, run| {
            let failed = matches!(run.last, Last::Failed { .. } | Last::Canceled { .. });
            path.phase == Phase::Main && !failed && !anew.contains(&path.step)
        });
        (self.cancel, self.ended, self.phase) = (None, None, Phase::Main);
    }

    /// Lists the step runs that have begun and not ended.
    pub(super) fn open(&self) -> impl Iterator<Item = (&StepPath, &StepRun)> {
        let over = |path: &StepPath| self.step_runs.get(&whole(path)).is_some_and(|run| run.last.is_over());
        self.step_runs.iter().filter(move |(path, run)| !run.last.is_over() && !over(path))
    }
}

/// Returns the path of the step that a step run belongs to.
pub(super) fn whole(path: &StepPath) -> StepPath {
    StepPath { item: None, round: None, ..path.clone() }
}
