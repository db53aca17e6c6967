//! The people of a case: they answer what its run asks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::sync::Notify;
use tokio::sync::mpsc;

use super::case::Case;
use super::given::Said;
use super::play::chain;
use super::play::lock;
use crate::approval::Ballot;
use crate::approval::Error as VoteError;
use crate::approval::Refusal;
use crate::approval::Standing;
use crate::approval::cast;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::pipeline::Given as GivenInput;
use crate::pipeline::Person;
use crate::store::ApprovalFilter;
use crate::store::Store;
use crate::system::Clock;
use crate::system::VirtualClock;

/// What people have to say, and which of it did not count. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct People(Arc<Mutex<Voices>>);

#[derive(Debug)]
struct Voices {
    /// By step, what is still to be said.
    left: Vec<(Arc<str>, VecDeque<Said>)>,
    refused: Vec<Diagnostic>,
}

impl People {
    pub(super) fn of(case: &Case) -> Self {
        let left = case.given.answers.iter().map(|(step, _, said)| (step.clone(), said.iter().cloned().collect()));
        Self(Arc::new(Mutex::new(Voices { left: left.collect(), refused: Vec::new() })))
    }

    /// Answers what is asked, as long as anybody may ask. `answered` is told of each answer.
    pub(super) async fn answer(
        self,
        mut events: mpsc::UnboundedReceiver<(RunId, RunEvent)>,
        persons: Vec<Person>,
        store: Store,
        clock: VirtualClock,
        answered: Arc<Notify>,
    ) {
        while let Some((run, event)) = events.recv().await {
            let RunEvent::Asked { path, ask, at, .. } = event else { continue };
            while let Some(said) = self.next(&path.step) {
                clock.sleep_until(at.plus(said.after)).await;
                let filter = ApprovalFilter { run: Some(run), ..ApprovalFilter::default() };
                let all = store.approvals(&filter).await.unwrap_or_default();
                let Some(record) = all.into_iter().find(|record| record.id == ask.id) else { break };
                let voter = persons.iter().find(|person| *person.name == *said.by).cloned().unwrap_or_default();
                let form = said.form.iter().map(|(key, value)| (key.clone(), GivenInput::Value(value.clone())));
                let ballot =
                    Ballot { voter, approves: said.approves, comment: said.comment.clone(), form: form.collect() };
                match cast(&store, record, &ballot, clock.now()).await {
                    Ok(standing) => {
                        self.has_said(&path.step, None);
                        answered.notify_one();
                        if !matches!(standing, Standing::Open { .. }) {
                            break;
                        }
                    }
                    // What is over is over: this is said to the next question.
                    Err(VoteError::Refused(Refusal::Over { .. } | Refusal::Expired { .. })) => break,
                    Err(error) => {
                        let message = format!("this answer does not count: {}", chain(&error));
                        let told = Diagnostic::error(Code::TestFailed, said.span.clone(), message);
                        self.has_said(&path.step, Some(told));
                    }
                }
            }
        }
    }

    /// Returns what is said next to what a step asks.
    fn next(&self, step: &str) -> Option<Said> {
        let voices = lock(&self.0);
        voices.left.iter().find(|(own, _)| **own == *step)?.1.front().cloned()
    }

    /// It was said; with what is wrong where it did not count.
    fn has_said(&self, step: &str, refused: Option<Diagnostic>) {
        let mut voices = lock(&self.0);
        voices.refused.extend(refused);
        if let Some((_, left)) = voices.left.iter_mut().find(|(own, _)| **own == *step) {
            left.pop_front();
        }
    }

    /// Tells what did not count, and what nobody has asked for.
    pub(super) fn told(&self) -> Vec<Diagnostic> {
        let voices = lock(&self.0);
        let unasked = voices.left.iter().flat_map(|(step, left)| {
            let message = format!("`{step}` did not ask for this answer");
            left.iter().map(move |said| Diagnostic::error(Code::TestFailed, said.span.clone(), message.clone()))
        });
        voices.refused.iter().cloned().chain(unasked).collect()
    }
}
