//! What a journal tells of the calls that were made: outputs and errors with their moments, inputs of writes alone.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use super::cassette::Cassette;
use super::cassette::KeptCall;
use super::cassette::KeptSaid;
use crate::model::Effect;
use crate::model::Happened;
use crate::model::Phase;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::SettledBy;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::Verdict;
use crate::pipeline::Pipeline;

/// What a step run runs.
#[derive(Clone, Debug)]
pub(super) struct Doing {
    pub(super) node: Arc<str>,
    pub(super) effect: Effect,
    /// The pipeline of a child run, or of the steps of an operation.
    pub(super) child: Option<Arc<Pipeline>>,
}

/// Finds what a step run of a pipeline runs.
pub(super) fn doing(pipeline: &Pipeline, path: &StepPath) -> Option<Doing> {
    let step = pipeline.graph(path.phase).step(&path.step)?;
    if path.phase == Phase::Undo {
        let undo = step.undo.as_ref()?;
        return Some(Doing { node: undo.node.name().into(), effect: undo.effect, child: None });
    }
    Some(Doing { node: step.node.name().into(), effect: step.effect, child: step.child.clone() })
}

/// Finds the pipeline of each run, as the runs above it say.
pub(super) fn pipelines(
    root: RunId,
    pipeline: &Arc<Pipeline>,
    events: &[(RunId, RunEvent)],
) -> HashMap<RunId, Arc<Pipeline>> {
    let mut known = HashMap::from([(root, pipeline.clone())]);
    // Events of a child stand behind those of its parent, but not always in the order of depth.
    loop {
        let before = known.len();
        for (run, event) in events {
            let RunEvent::Child { path, run: child, .. } = event else { continue };
            let found = known.get(run).and_then(|pipeline| doing(pipeline, path)).and_then(|doing| doing.child);
            if let Some(found) = found {
                known.entry(*child).or_insert(found);
            }
        }
        if known.len() == before {
            return known;
        }
    }
}

/// Makes the calls of a journal.
pub(super) fn of_journal(cassette: &Cassette, pipeline: &Arc<Pipeline>) -> Vec<KeptCall> {
    let pipelines = pipelines(cassette.head.run, pipeline, &cassette.events);
    let mut reading =
        Reading { cassette, calls: Vec::new(), open: HashMap::new(), doubts: HashSet::new(), inputs: HashMap::new() };
    for (run, event) in &cassette.events {
        let Some(path) = event.path() else { continue };
        let Some(doing) = pipelines.get(run).and_then(|pipeline| doing(pipeline, path)) else { continue };
        // Without an effect nothing was asked, and a child run of the project's own is executed again.
        let own_child = doing.child.as_ref().is_some_and(|child| !child.composite);
        if doing.effect != Effect::Pure && !own_child {
            reading.read(*run, path, event, &doing);
        }
    }
    let mut calls = reading.calls;
    calls.sort_by_key(|call| call.began);
    calls
}

struct Reading<'c> {
    cassette: &'c Cassette,
    calls: Vec<KeptCall>,
    /// Attempts that have begun.
    open: HashMap<(RunId, StepPath), (u32, Timestamp)>,
    /// Writes whose answer was lost.
    doubts: HashSet<(RunId, StepPath)>,
    /// What a write was asked.
    inputs: HashMap<(RunId, StepPath), Value>,
}

impl Reading<'_> {
    fn read(&mut self, run: RunId, path: &StepPath, event: &RunEvent, doing: &Doing) {
        let key = (run, path.clone());
        match event {
            RunEvent::StepStarted { attempt, at, .. } => {
                self.open.insert(key, (*attempt, *at));
            }
            RunEvent::Intent { intent, .. } => {
                self.inputs.insert(key, intent.request.clone());
            }
            RunEvent::Child { run: child, at, .. } => {
                let inputs = self.cassette.runs.iter().find(|kept| kept.id == *child);
                let inputs = inputs.map(|kept| kept.inputs.clone()).unwrap_or_default();
                self.close(key, doing, *at, KeptSaid::Steps { inputs });
            }
            // The end of an operation's steps is no answer of the node.
            RunEvent::Succeeded { .. } | RunEvent::Failed { .. } if doing.child.is_some() => {}
            RunEvent::Succeeded { output, at, recovered, .. } => match recovered {
                Some(error) => self.close(key, doing, *at, failed(error, Happened::No, None, None)),
                None => self.close(key, doing, *at, KeptSaid::Done { output: self.whole(output) }),
            },
            // The answer about a doubt can be the result of a round.
            RunEvent::Round { output, at, .. } if self.doubts.remove(&key) => {
                let candidates = vec![(String::new(), output.clone())];
                self.open.insert(key.clone(), (1, *at));
                self.add(key, doing, *at, KeptSaid::Found { candidates }, true);
            }
            RunEvent::Round { output, at, .. } => {
                self.close(key, doing, *at, KeptSaid::Done { output: self.whole(output) });
            }
            RunEvent::Failed { attempt, at, error, happened, retry_at, .. } => {
                let put_off = self.open.get(&key).is_some_and(|(open, _)| open > attempt);
                let said = match retry_at {
                    Some(until) if put_off => KeptSaid::Later { until: *until, reason: error.message.clone() },
                    Some(until) => failed(error, *happened, Some(until.since(*at)), None),
                    // It was for good, whatever the step would allow.
                    None => failed(error, *happened, None, Some(*attempt)),
                };
                self.close(key, doing, *at, said);
            }
            RunEvent::InDoubt { at, error, .. } => {
                self.doubts.insert(key.clone());
                self.close(key, doing, *at, failed(error, Happened::Perhaps, None, None));
            }
            RunEvent::Settled { at, by: SettledBy::Reconcile, verdict, .. } => {
                self.doubts.remove(&key);
                let said = match &**verdict {
                    Verdict::Happened { output, remote_id } => {
                        let id = remote_id.clone().unwrap_or_default();
                        KeptSaid::Found { candidates: vec![(id, output.clone())] }
                    }
                    _ => KeptSaid::NotFound,
                };
                self.open.insert(key.clone(), (1, *at));
                self.add(key, doing, *at, said, true);
            }
            RunEvent::Asked { at, .. } | RunEvent::Waiting { at, .. } if self.open.contains_key(&key) => {
                self.close(key, doing, *at, KeptSaid::Itself);
            }
            _ => {}
        }
    }

    /// Returns an output with the rows that it names.
    fn whole(&self, output: &Value) -> Value {
        let Value::Dataset(dataset) = output else { return output.clone() };
        self.cassette.rows.get(&dataset.id).map_or_else(|| output.clone(), |rows| Value::list(rows.clone()))
    }

    fn close(&mut self, key: (RunId, StepPath), doing: &Doing, at: Timestamp, said: KeptSaid) {
        if self.open.contains_key(&key) {
            self.add(key, doing, at, said, false);
        }
    }

    fn add(&mut self, key: (RunId, StepPath), doing: &Doing, at: Timestamp, said: KeptSaid, question: bool) {
        let (attempt, began) = self.open.remove(&key).unwrap_or((1, at));
        let input = self.inputs.get(&key).cloned();
        let (run, path) = key;
        let (node, writes) = (doing.node.clone(), doing.effect.is_write());
        let took = at.since(began);
        self.calls.push(KeptCall {
            run,
            path,
            attempt,
            question,
            node,
            writes,
            input,
            began,
            took,
            said,
            wire: Vec::new(),
        });
    }
}

fn failed(
    error: &crate::model::StepError,
    happened: Happened,
    retry_after: Option<crate::model::Duration>,
    attempts: Option<u32>,
) -> KeptSaid {
    KeptSaid::Failed { class: error.class, message: error.message.clone(), happened, retry_after, attempts }
}
