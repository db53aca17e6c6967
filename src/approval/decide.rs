//! Who may say what, and when it decides: pure.

use super::Request;
use super::form;
use super::request;
use crate::model::Answer;
use crate::model::ErrorClass;
use crate::model::StepError;
use crate::model::Timestamp;
use crate::pipeline::Person;
use crate::store::ApprovalRecord;
use crate::store::ApprovalState;
use crate::store::Vote;

/// An approval as it is when somebody votes.
#[derive(Clone, Copy, Debug)]
pub struct Case<'c> {
    pub record: &'c ApprovalRecord,
    pub request: &'c Request,
    /// The votes so far, one a person.
    pub votes: &'c [Vote],
    /// Who started the run; nothing where no person did.
    pub started_by: Option<&'c str>,
}

/// Where votes leave an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Open { approvals: u32, rejections: u32 },
    Approved,
    Rejected,
}

/// What a vote that decides comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub state: ApprovalState,
    /// What the step ends with.
    pub answer: Answer,
}

/// Why a vote does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is {} already, since {since}", state.name())]
    Over { state: ApprovalState, since: Timestamp },
    #[error("it expired at {at}")]
    Expired { at: Timestamp },
    #[error("`{person}` is not asked: it asks {asked}")]
    NotAsked { person: String, asked: String },
    #[error("`{person}` started the run, so somebody else must approve it")]
    OwnRun { person: String },
    #[error("{}", .0.join("; "))]
    Form(Vec<String>),
    #[error("what it asks is not in the store any more")]
    Lost,
}

/// Tells whether a person is asked.
#[must_use]
pub fn is_asked(request: &Request, person: &Person) -> bool {
    let by_role = |name: &String| *name == person.name || person.roles.contains(name);
    request.approvers.is_empty() || request.approvers.iter().any(by_role)
}

/// Counts votes.
#[must_use]
pub fn standing(request: &Request, votes: &[Vote]) -> Standing {
    let approvals = u32::try_from(votes.iter().filter(|vote| vote.approves).count()).unwrap_or(u32::MAX);
    let rejections = u32::try_from(votes.len()).unwrap_or(u32::MAX).saturating_sub(approvals);
    // Each vote is counted as it comes, so that only one of the two can be reached at a time.
    if rejections >= request.rejections {
        Standing::Rejected
    } else if approvals >= request.quorum {
        Standing::Approved
    } else {
        Standing::Open { approvals, rejections }
    }
}

/// Says what a person's vote comes to: nothing yet, or a decision.
///
/// # Errors
/// Why it does not count.
pub fn decide(case: Case<'_>, voter: &Person, vote: &Vote) -> Result<Option<Decision>, Refusal> {
    let Case { record, request, votes, started_by } = case;
    if record.state != ApprovalState::Open {
        return Err(Refusal::Over { state: record.state, since: record.ended_at.unwrap_or(record.asked_at) });
    }
    if let Some(at) = record.expires_at.filter(|at| *at <= vote.at) {
        return Err(Refusal::Expired { at });
    }
    if !is_asked(request, voter) {
        return Err(Refusal::NotAsked { person: voter.name.clone(), asked: request.asked() });
    }
    // Whoever started a run may well stop it.
    if vote.approves && !request.self_approval && started_by == Some(&*voter.name) {
        return Err(Refusal::OwnRun { person: voter.name.clone() });
    }
    let mut votes: Vec<Vote> = votes.iter().filter(|other| other.person != vote.person).cloned().collect();
    votes.push(vote.clone());
    match standing(request, &votes) {
        Standing::Open { .. } => Ok(None),
        Standing::Approved => {
            let fields = form::fields(&request.form).map_err(|problem| Refusal::Form(vec![problem]))?;
            let form = form::merged(&fields, &votes).map_err(Refusal::Form)?;
            let answer = Ok(request::output(&votes, form, vote.at));
            Ok(Some(Decision { state: ApprovalState::Approved, answer }))
        }
        Standing::Rejected => {
            let message = rejection(&votes);
            let answer = Err(StepError { class: ErrorClass::Rejected, message });
            Ok(Some(Decision { state: ApprovalState::Rejected, answer }))
        }
    }
}

fn rejection(votes: &[Vote]) -> String {
    let said = votes.iter().filter(|vote| !vote.approves).map(|vote| match &vote.comment {
        Some(comment) => format!("`{}` ({comment})", vote.person),
        None => format!("`{}`", vote.person),
    });
    format!("rejected by {}", said.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::AskId;
    use crate::model::RunId;
    use crate::model::StepPath;
    use crate::model::Value;
    use crate::model::parse_json;

    const PEOPLE: [(&str, &[&str]); 5] =
        [("anna", &["editor"]), ("bob", &["editor", "ops"]), ("cleo", &["ops"]), ("dan", &[]), ("eve", &["editor"])];

    fn person(index: usize) -> Person {
        let (name, roles) = PEOPLE[index];
        Person { name: name.to_owned(), roles: roles.iter().map(ToString::to_string).collect() }
    }

    fn record(expires_at: Option<Timestamp>) -> ApprovalRecord {
        ApprovalRecord {
            id: AskId("01A".into()),
            run: RunId::new(1, 1),
            path: StepPath::step("review"),
            asked_at: Timestamp(0),
            expires_at,
            state: ApprovalState::Open,
            ended_at: None,
            revision: 0,
            ask: None,
        }
    }

    fn request(approvers: &[&str]) -> Request {
        Request {
            title: Value::Null,
            show: Value::Null,
            form: Value::Null,
            approvers: approvers.iter().map(ToString::to_string).collect(),
            quorum: 1,
            rejections: 1,
            self_approval: false,
        }
    }

    fn vote(person: &str, approves: bool, at: i64) -> Vote {
        Vote { person: person.to_owned(), approves, comment: None, form: Value::map::<&str>([]), at: Timestamp(at) }
    }

    fn check(request: &Request, voter: usize, approves: bool, started_by: Option<&str>, expected: &str) {
        let record = record(Some(Timestamp(100)));
        let case = Case { record: &record, request, votes: &[], started_by };
        let said = match decide(case, &person(voter), &vote(PEOPLE[voter].0, approves, 5)) {
            Ok(None) => "open".to_owned(),
            Ok(Some(decision)) => match decision.answer {
                Ok(output) => output.to_string(),
                Err(error) => error.to_string(),
            },
            Err(refusal) => refusal.to_string(),
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn persons_and_roles_are_asked_and_nobody_approves_the_own_run() {
        let given = r#"{"approved":true,"by":["bob"],"at":"1970-01-01T00:00:00.000005Z","comments":[],"form":{}}"#;
        check(&request(&["editor"]), 1, true, None, given);
        check(&request(&["bob"]), 1, true, Some("anna"), given);
        check(&request(&[]), 1, true, None, given);
        check(&request(&["editor", "dan"]), 2, true, None, "`cleo` is not asked: it asks `editor`, `dan`");
        check(&request(&["editor"]), 2, false, None, "`cleo` is not asked: it asks `editor`");
        let own = "`bob` started the run, so somebody else must approve it";
        check(&request(&["editor"]), 1, true, Some("bob"), own);
        check(&request(&["editor"]), 1, false, Some("bob"), "rejected: rejected by `bob`");
        check(&Request { self_approval: true, ..request(&["editor"]) }, 1, true, Some("bob"), given);
        check(&Request { quorum: 2, ..request(&["editor"]) }, 1, true, None, "open");
        check(&Request { rejections: 2, ..request(&["editor"]) }, 1, false, None, "open");
    }

    #[test]
    fn the_form_is_complete_when_it_is_decided_and_the_latest_value_counts() {
        let form = parse_json(
            r#"{"text":{"type":"string"},"count":{"type":"integer","default":3},"note":{"type":"string","default":null}}"#,
        );
        let request = Request { form: form.unwrap(), quorum: 2, ..request(&[]) };
        let record = record(None);
        let filled = |person: &str, form: &str, at| Vote { form: parse_json(form).unwrap(), ..vote(person, true, at) };
        let case = |votes| Case { record: &record, request: &request, votes, started_by: None };
        // The first vote may leave it to the second.
        assert_eq!(decide(case(&[]), &person(0), &filled("anna", "{}", 1)), Ok(None));
        let first = [filled("anna", "{}", 1)];
        let refused = decide(case(&first), &person(1), &filled("bob", "{}", 2)).unwrap_err();
        assert_eq!(refused.to_string(), "field `text` is missing; give it with `--form text=…`");
        let first = [filled("anna", r#"{"text":"old","count":4}"#, 1)];
        let decision = decide(case(&first), &person(1), &filled("bob", r#"{"text":"new"}"#, 2)).unwrap().unwrap();
        let form = decision.answer.unwrap().get("form").unwrap().to_string();
        assert_eq!(form, r#"{"text":"new","count":4,"note":null}"#);
    }

    proptest! {
        /// Votes in any order, of anybody, at any time, against a count by hand.
        #[test]
        fn any_votes_come_to_what_a_count_by_hand_does(
            quorum in 1_u32..4,
            rejections in 1_u32..4,
            self_approval: bool,
            starter in prop::option::of(0_usize..5),
            expires in prop::option::of(1_i64..30),
            editors_only: bool,
            ballots in prop::collection::vec((0_usize..5, any::<bool>()), 0..20),
        ) {
            let approvers: &[&str] = if editors_only { &["editor"] } else { &[] };
            let request = Request { quorum, rejections, self_approval, ..request(approvers) };
            let record = record(expires.map(Timestamp));
            let started_by = starter.map(|index| PEOPLE[index].0);
            let mut votes: Vec<Vote> = Vec::new();
            let mut counted: BTreeMap<usize, bool> = BTreeMap::new();
            for (at, (voter, approves)) in (0_i64..).zip(ballots) {
                let case = Case { record: &record, request: &request, votes: &votes, started_by };
                let cast = vote(PEOPLE[voter].0, approves, at);
                let result = decide(case, &person(voter), &cast);
                let late = expires.is_some_and(|expires| at >= expires);
                let asked = !editors_only || [0, 1, 4].contains(&voter);
                let own = approves && !self_approval && starter == Some(voter);
                if late || !asked || own {
                    prop_assert!(result.is_err());
                    continue;
                }
                counted.insert(voter, approves);
                votes.retain(|other| other.person != cast.person);
                votes.push(cast);
                let yes = counted.values().filter(|approves| **approves).count();
                let no = counted.len() - yes;
                let over = yes >= quorum as usize || no >= rejections as usize;
                let decided = result.unwrap();
                prop_assert_eq!(decided.is_some(), over);
                let Some(decision) = decided else { continue };
                prop_assert_eq!(decision.state == ApprovalState::Approved, no < rejections as usize);
                if let Ok(output) = decision.answer {
                    let by = output.get("by").unwrap().as_list().unwrap().to_vec();
                    prop_assert_eq!(by.len(), yes, "distinct people");
                    let own = started_by.filter(|_| !self_approval).map(Value::from);
                    prop_assert!(own.is_none_or(|own| !by.contains(&own)));
                }
                break;
            }
        }
    }
}
