//! Hears what nodes are asked and say, while a run is executed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use async_trait::async_trait;

use super::cassette::KeptCall;
use super::cassette::KeptSaid;
use super::gather::Taken;
use super::veil::Veil;
use super::veil::masked;
use crate::engine::Call;
use crate::engine::Said;
use crate::engine::SecretSource;
use crate::engine::Tape;
use crate::model::Duration;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Value;
use crate::model::parse_json;
use crate::node::NodeError;
use crate::node::Outcome;
use crate::node::Reconciled;
use crate::node::WireRecord;
use crate::system::Clock;

/// How much of the bodies of an exchange is kept, in bytes. It is for people: what is answered again is what the node made
/// of it, and that is kept whole.
const MOST_BODY: usize = 64 * 1024;

/// The tape that records. Nothing secret stays on it: what a secret source knows is hidden before it is kept.
#[derive(Debug)]
pub struct Recorder {
    clock: Arc<dyn Clock>,
    secrets: Arc<dyn SecretSource>,
    seed: u64,
    rehearsal: bool,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    calls: Vec<KeptCall>,
    /// Calls that have not ended.
    open: HashMap<Key, usize>,
    veil: Veil,
}

/// Names an attempt, or a question about it.
type Key = (RunId, StepPath, u32, bool);

impl Recorder {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, secrets: Arc<dyn SecretSource>, seed: u64, rehearsal: bool) -> Self {
        Self { clock, secrets, seed, rehearsal, heard: Mutex::default() }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn is_rehearsal(&self) -> bool {
        self.rehearsal
    }

    /// Takes out what was heard.
    pub(super) fn take(&self) -> Taken {
        let Heard { calls, veil, .. } = std::mem::take(&mut *self.heard());
        Taken { calls, veil }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a value as it may be kept.
    fn clean(&self, heard: &mut Heard, value: &Value) -> Value {
        let scanned = self.secrets.scan(value.clone());
        masked(&heard.veil.over(&scanned), &|text| self.secrets.mask(text))
    }

    fn said(&self, heard: &mut Heard, said: &Said) -> KeptSaid {
        match said {
            Said::Done(Ok(outcome)) => self.outcome(heard, outcome),
            Said::Reconciled(Ok(Reconciled::Found(candidates))) => KeptSaid::Found {
                candidates: candidates
                    .iter()
                    .map(|found| {
                        let id = self.secrets.mask(found.remote_id.clone());
                        (id, self.clean(heard, &found.output))
                    })
                    .collect(),
            },
            Said::Reconciled(Ok(Reconciled::NotFound)) => KeptSaid::NotFound,
            Said::Done(Err(error)) | Said::Reconciled(Err(error)) => self.failed(error),
        }
    }

    fn outcome(&self, heard: &mut Heard, outcome: &Outcome) -> KeptSaid {
        match outcome {
            Outcome::Done(output) | Outcome::Read { output, .. } => {
                KeptSaid::Done { output: self.clean(heard, output) }
            }
            Outcome::Created { output, remote_id } => {
                KeptSaid::Created { output: self.clean(heard, output), remote_id: self.secrets.mask(remote_id.clone()) }
            }
            Outcome::Later { until, reason } => {
                KeptSaid::Later { until: *until, reason: self.secrets.mask(reason.clone()) }
            }
            Outcome::Child { inputs, .. } => KeptSaid::Steps { inputs: self.clean(heard, inputs) },
            Outcome::Wait { .. } | Outcome::Ask { .. } => KeptSaid::Itself,
        }
    }

    fn failed(&self, error: &NodeError) -> KeptSaid {
        KeptSaid::Failed {
            class: error.class,
            message: self.secrets.mask(error.text()),
            happened: error.happened,
            retry_after: error.retry_after,
            attempts: error.attempts,
        }
    }
}

fn key(call: &Call) -> Key {
    (call.run, call.path.clone(), call.attempt, call.question)
}

#[async_trait]
impl Tape for Recorder {
    async fn answer(&self, call: &Call) -> Option<Said> {
        let mut heard = self.heard();
        let input = self.clean(&mut heard, &call.input);
        let index = heard.calls.len();
        heard.open.insert(key(call), index);
        heard.calls.push(KeptCall {
            run: call.run,
            path: call.path.clone(),
            attempt: call.attempt,
            question: call.question,
            node: call.node.clone(),
            writes: call.effect.is_write(),
            input: Some(input),
            began: self.clock.now(),
            took: Duration::ZERO,
            said: KeptSaid::Nothing,
            wire: Vec::new(),
        });
        None
    }

    fn hear(&self, call: &Call, said: Said) -> Said {
        let mut heard = self.heard();
        if let Some(index) = heard.open.remove(&key(call)) {
            let kept = self.said(&mut heard, &said);
            let now = self.clock.now();
            if let Some(own) = heard.calls.get_mut(index) {
                own.took = now.since(own.began);
                own.said = kept;
            }
        }
        said
    }

    fn wire(&self, run: RunId, path: &StepPath, attempt: u32, record: &WireRecord) {
        let text = serde_json::to_string(record).unwrap_or_default();
        let Ok(value) = parse_json(&text) else { return };
        let value = masked(&value, &|text| self.secrets.mask(text));
        let mut heard = self.heard();
        // A question goes by the number of the attempt that it is about.
        let open = heard.open.iter().filter(|((of, at, number, _), _)| *of == run && at == path && *number == attempt);
        let index = open.map(|(_, index)| *index).max();
        let index = index.or_else(|| heard.calls.iter().rposition(|call| call.run == run && call.path == *path));
        if let Some(call) = index.and_then(|index| heard.calls.get_mut(index)) {
            call.wire.push(value);
        }
    }

    fn most_body(&self) -> Option<usize> {
        Some(MOST_BODY)
    }
}
