//! A vote, from whoever casts it to the run that waits for it.

use super::Case;
use super::Decision;
use super::Refusal;
use super::Request;
use super::Standing;
use super::decide;
use super::form;
use super::standing;
use crate::model::Ask;
use crate::model::RunId;
use crate::model::Timestamp;
use crate::pipeline::Given;
use crate::pipeline::Person;
use crate::store;
use crate::store::ApprovalRecord;
use crate::store::Store;
use crate::store::Vote;

/// How often a vote is counted anew because others voted at the same time.
const ATTEMPTS: usize = 64;

/// What a person says to an approval.
#[derive(Clone, Debug)]
pub struct Ballot {
    pub voter: Person,
    pub approves: bool,
    pub comment: Option<String>,
    /// The fields of the form that are filled in.
    pub form: Vec<(String, Given)>,
}

/// Why a vote was not cast.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the store failed")]
    Store(#[from] store::Error),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Casts a vote. What it decides goes to the run in the same transaction.
///
/// # Errors
/// Why it does not count, and the store's.
pub async fn cast(store: &Store, seen: ApprovalRecord, ballot: &Ballot, now: Timestamp) -> Result<Standing, Error> {
    let request = seen.ask.as_ref().and_then(|ask| Request::from_value(&ask.request)).ok_or(Refusal::Lost)?;
    let fields = form::fields(&request.form).map_err(|problem| Refusal::Form(vec![problem]))?;
    let vote = Vote {
        person: ballot.voter.name.clone(),
        approves: ballot.approves,
        comment: ballot.comment.clone(),
        form: form::check(&fields, &ballot.form).map_err(Refusal::Form)?,
        at: now,
    };
    let started_by = starter(store, seen.run).await?;
    let mut record = seen;
    for _ in 0..ATTEMPTS {
        let votes = store.votes(&record.id).await?;
        let case = Case { record: &record, request: &request, votes: &votes, started_by: started_by.as_deref() };
        let decision = decide(case, &ballot.voter, &vote)?;
        let answer = decision.as_ref().map(|Decision { state, answer }| (*state, Ask::answered(&record.id, answer)));
        let decided = answer.as_ref().map(|(state, answer)| (*state, answer));
        if store.vote(&record, &vote, decided).await? {
            let mut votes = votes;
            votes.retain(|other| other.person != vote.person);
            votes.push(vote);
            return Ok(standing(&request, &votes));
        }
        // Somebody else voted, or decided, in between: what it comes to now is another question.
        record = store.approval(&record.id).await?.ok_or(Refusal::Lost)?;
    }
    Err(store::Error::Locked { place: format!("approval {}", record.id) }.into())
}

/// Returns who started a run: of a child run, who started the run that it belongs to.
///
/// # Errors
/// The store's.
pub async fn starter(store: &Store, run: RunId) -> Result<Option<String>, store::Error> {
    let mut run = run;
    loop {
        let Some(record) = store.run(run).await? else { return Ok(None) };
        match record.parent {
            Some((parent, _)) => run = parent,
            None => return Ok(record.started_by.map(|name| name.to_string())),
        }
    }
}
