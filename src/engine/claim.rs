//! Which remote object is an effect's: a remote object settles one effect at most.
//!
//! Effects with equal requests look alike to the remote, in this run and in others. An object is claimed only when no
//! equal effect can be between its first byte and its answer: that object could be the other's.

use crate::model::Duration;
use crate::model::EffectId;
use crate::model::RunId;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::Reconciled;
use crate::store::Error;
use crate::store::Fence;
use crate::store::Rivals;
use crate::store::Store;

/// How long to wait before the remote is asked again, while an equal effect is under way.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// What the remote said about an effect in doubt.
pub(super) enum Asked {
    Happened {
        output: Value,
        remote_id: String,
    },
    DidNotHappen,
    /// An equal effect is under way: what is seen could be its object.
    TooEarly,
    /// Several objects could be it.
    Ambiguous,
    /// No usable answer.
    Failed(NodeError),
    Store(Error),
}

/// An effect in doubt that looks for its object.
pub(super) struct Claim<'a> {
    pub(super) store: &'a Store,
    pub(super) run: RunId,
    pub(super) fence: Fence,
    pub(super) effect: &'a EffectId,
    /// What the remote's ids are unique within: the operation.
    pub(super) scope: &'a str,
    pub(super) fingerprint: Option<&'a str>,
}

impl Claim<'_> {
    /// Claims the one object that is the effect's, after the remote answered.
    pub(super) async fn of(&self, answer: Result<Reconciled, NodeError>, now: Timestamp) -> Asked {
        let candidates = match answer {
            Ok(Reconciled::NotFound) => return Asked::DidNotHappen,
            Ok(Reconciled::Found(candidates)) => candidates,
            Err(error) => return Asked::Failed(error),
        };
        // In this order: whoever is no rival any more after the listing has stored the name of its object.
        let rivals = match self.fingerprint {
            Some(fingerprint) => self.store.rivals(self.run, self.effect, fingerprint, now).await,
            None => Ok(Rivals::default()),
        };
        let rivals = match rivals {
            Ok(rivals) => rivals,
            Err(error) => return Asked::Store(error),
        };
        let mut free = Vec::new();
        for candidate in candidates {
            match self.store.remote_owner(self.scope, &candidate.remote_id).await {
                Ok(None) => free.push(candidate),
                // It was named by the lost answer itself: there is nothing to choose.
                Ok(Some(owner)) if owner == *self.effect => {
                    return Asked::Happened { output: candidate.output, remote_id: candidate.remote_id };
                }
                Ok(Some(_)) => {}
                Err(error) => return Asked::Store(error),
            }
        }
        if free.is_empty() {
            return Asked::DidNotHappen;
        }
        if rivals.in_flight > 0 {
            return Asked::TooEarly;
        }
        // Effects in doubt may share the free objects out in any order; an object whose owner is not known, or one
        // more than there are effects, could be somebody else's.
        if rivals.unnamed > 0 || free.len() > rivals.in_doubt + 1 {
            return Asked::Ambiguous;
        }
        for candidate in free {
            match self.store.claim_remote(self.run, self.fence, self.effect, self.scope, &candidate.remote_id).await {
                Ok(true) => return Asked::Happened { output: candidate.output, remote_id: candidate.remote_id },
                Ok(false) => {}
                Err(error) => return Asked::Store(error),
            }
        }
        Asked::DidNotHappen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EffectIntent;
    use crate::model::RunEvent;
    use crate::model::StepError;
    use crate::model::StepPath;
    use crate::model::VersionId;
    use crate::model::WriteKind;
    use crate::node::Candidate;
    use crate::store::JournalWriter;
    use crate::store::NewRun;
    use crate::store::OpenOptions;
    use crate::store::Record;

    const SENT: Timestamp = Timestamp(1_000_000_000);
    /// Nothing of what was sent can still be answered.
    const LATE: Timestamp = Timestamp(1_060_000_000);

    async fn run(store: &Store, number: u128) -> (RunId, JournalWriter) {
        let id = RunId::new(1, number);
        let run = NewRun {
            id,
            pipeline: "demo".into(),
            version: VersionId("v".into()),
            inputs: Value::Null,
            slot: None,
            priority: 5,
            parent: None,
            spread: false,
            started_by: None,
            requests: Vec::new(),
            created_at: SENT,
        };
        assert!(store.create_run(&run).await.unwrap());
        let fence = store.claim(id, "w").await.unwrap().unwrap();
        (id, store.writer(id, fence, 1, []))
    }

    fn path(step: &str) -> StepPath {
        step.parse().unwrap()
    }

    fn effect(run: RunId, step: &str) -> EffectId {
        EffectId(format!("{run}/{step}").into())
    }

    async fn intend(writer: &JournalWriter, run: RunId, step: &str) {
        let intent = EffectIntent {
            id: effect(run, step),
            key: "k".into(),
            kind: WriteKind::Create,
            request: Value::Null,
            send_before: SENT.plus(Duration::from_secs(30)),
            answer_before: SENT.plus(Duration::from_secs(40)),
            fingerprint: Some("equal".into()),
        };
        let event = RunEvent::Intent { path: path(step), attempt: 1, intent: Box::new(intent), at: SENT };
        writer.append([Record::Event(event)]);
        writer.commit().await.unwrap();
    }

    async fn succeed(writer: &JournalWriter, run: RunId, step: &str, remote_id: Option<&str>) {
        let remote = remote_id.map(|remote_id| Record::Remote {
            effect: effect(run, step),
            scope: "post".to_owned(),
            remote_id: remote_id.to_owned(),
        });
        let (output, recovered) = (Value::Null, None);
        let event = RunEvent::Succeeded { path: path(step), attempt: 1, started: SENT, at: SENT, output, recovered };
        writer.append(remote.into_iter().chain([Record::Event(event)]));
        writer.commit().await.unwrap();
    }

    async fn claim(store: &Store, run: RunId, step: &str, seen: &[&str], now: Timestamp) -> String {
        let effect = effect(run, step);
        let claim = Claim { store, run, fence: Fence(1), effect: &effect, scope: "post", fingerprint: Some("equal") };
        let found = seen.iter().map(|id| Candidate { remote_id: (*id).to_owned(), output: Value::Null }).collect();
        match claim.of(Ok(Reconciled::Found(found)), now).await {
            Asked::Happened { remote_id, .. } => remote_id,
            Asked::DidNotHappen => "did not happen".to_owned(),
            Asked::TooEarly => "too early".to_owned(),
            Asked::Ambiguous => "ambiguous".to_owned(),
            Asked::Failed(error) => error.text(),
            Asked::Store(error) => error.to_string(),
        }
    }

    async fn store(folder: &tempfile::TempDir) -> Store {
        let url = format!("sqlite://{}", folder.path().join("state.db").display());
        Store::open(&url, OpenOptions::default()).await.unwrap()
    }

    #[tokio::test]
    async fn an_object_is_left_alone_while_an_equal_effect_may_have_made_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let ((mine, journal), (other, others)) = (run(&store, 1).await, run(&store, 2).await);
        intend(&journal, mine, "a").await;
        intend(&others, other, "a").await;
        let early = SENT.plus(Duration::from_secs(35));
        assert_eq!(claim(&store, mine, "a", &["1"], early).await, "too early");
        assert_eq!(claim(&store, mine, "a", &[], early).await, "did not happen");
        // The answer of the other comes, and names the object.
        succeed(&others, other, "a", Some("1")).await;
        assert_eq!(claim(&store, mine, "a", &["1"], early).await, "did not happen");
        assert_eq!(claim(&store, mine, "a", &["1", "2"], early).await, "2");
    }

    #[tokio::test]
    async fn an_equal_effect_of_the_same_run_counts_until_its_answer_is_late() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let (mine, journal) = run(&store, 1).await;
        intend(&journal, mine, "a").await;
        intend(&journal, mine, "b").await;
        assert_eq!(claim(&store, mine, "a", &["1"], SENT.plus(Duration::from_secs(35))).await, "too early");
        assert_eq!(claim(&store, mine, "a", &["1", "2"], SENT.plus(Duration::from_secs(41))).await, "1");
        assert_eq!(claim(&store, mine, "b", &["1", "2"], LATE).await, "2");
    }

    #[tokio::test]
    async fn what_could_be_somebody_elses_is_not_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let ((mine, journal), (other, others)) = (run(&store, 1).await, run(&store, 2).await);
        intend(&journal, mine, "a").await;
        assert_eq!(claim(&store, mine, "a", &["1", "2"], LATE).await, "ambiguous");
        // With an equal doubt, two objects are shared out; three are still too many.
        intend(&others, other, "a").await;
        let message = "no answer".to_owned();
        let error = Box::new(StepError { class: crate::model::ErrorClass::Timeout, message });
        others.append([Record::Event(RunEvent::InDoubt {
            path: path("a"),
            effect: effect(other, "a"),
            at: SENT,
            error,
        })]);
        others.commit().await.unwrap();
        assert_eq!(claim(&store, mine, "a", &["1", "2", "3"], LATE).await, "ambiguous");
        assert_eq!(claim(&store, mine, "a", &["1", "2"], LATE).await, "1");
        // An effect that happened, and whose object nobody named, could own any of them.
        succeed(&others, other, "a", None).await;
        intend(&journal, mine, "b").await;
        assert_eq!(claim(&store, mine, "b", &["1", "2"], LATE).await, "ambiguous");
    }
}
