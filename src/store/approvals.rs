//! What runs ask people, and their votes.

use super::Arg;
use super::Batch;
use super::Error;
use super::Fence;
use super::Row;
use super::Store;
use super::datasets::is_guard;
use super::db::args;
use super::runs::ids_from_to;
use crate::model::Answer;
use crate::model::Ask;
use crate::model::AskId;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;

/// Where an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalState {
    /// Nobody has decided yet.
    Open,
    Approved,
    Rejected,
    /// Its time was over before anybody had decided.
    Expired,
    /// Its run ended, or went on without it.
    Canceled,
}

/// What a run asks people.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalRecord {
    pub id: AskId,
    pub run: RunId,
    pub path: StepPath,
    pub asked_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub state: ApprovalState,
    pub ended_at: Option<Timestamp>,
    /// Grows with every vote.
    pub revision: i64,
    /// What is asked; nothing when its event is not there.
    pub ask: Option<Ask>,
}

/// What a person says.
#[derive(Clone, Debug, PartialEq)]
pub struct Vote {
    pub person: String,
    pub approves: bool,
    pub comment: Option<String>,
    /// What the person filled in, by field.
    pub form: Value,
    pub at: Timestamp,
}

/// What becomes of a question whose time is over.
#[derive(Clone, Debug, PartialEq)]
pub enum Lapsed {
    /// It ends as it says.
    Yes,
    /// Somebody had decided before: the answer is in the inbox.
    Answered,
    /// It ends with this: what it asks about was changed before anybody could answer.
    Instead(Answer),
}

/// Which approvals to list; the oldest first.
#[derive(Clone, Debug, Default)]
pub struct ApprovalFilter {
    /// Only those that nobody has decided on.
    pub open: bool,
    pub run: Option<RunId>,
    /// The beginning of the id, in any case.
    pub id_prefix: Option<String>,
    /// At most so many, the newest of them; all when there is no limit.
    pub limit: Option<u32>,
}

/// Makes an approval with the event that asks.
pub(super) const ASK: &str = "INSERT INTO approvals (id, run_id, path, asked_at, expires_at, event_seq, state, revision) \
                              VALUES ($1, $2, $3, $4, $5, $6, 'open', 0)";
/// Ends one that nobody decided on, with the end of its step run.
pub(super) const CLOSE: &str =
    "UPDATE approvals SET state = 'canceled', ended_at = $2 WHERE id = $1 AND state = 'open'";

impl ApprovalState {
    const ALL: [Self; 5] = [Self::Open, Self::Approved, Self::Rejected, Self::Expired, Self::Canceled];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Canceled => "canceled",
        }
    }
}

impl Store {
    /// Lists approvals, with what they ask.
    ///
    /// # Errors
    /// The store's.
    pub async fn approvals(&self, filter: &ApprovalFilter) -> Result<Vec<ApprovalRecord>, Error> {
        let mut sql = "SELECT id, run_id, path, asked_at, expires_at, state, ended_at, event_seq, revision \
                       FROM approvals WHERE 1 = 1"
            .to_owned();
        let mut args: Vec<Arg> = Vec::new();
        let mut bind = |arg: Arg| {
            args.push(arg);
            format!("${}", args.len())
        };
        if filter.open {
            sql.push_str(" AND state = 'open'");
        }
        if let Some(run) = filter.run {
            sql.push_str(&format!(" AND run_id = {}", bind(run.to_string().into())));
        }
        if let Some(prefix) = &filter.id_prefix {
            let Some((first, last)) = ids_from_to(prefix) else { return Ok(Vec::new()) };
            let (first, last) = (bind(first.into()), bind(last.into()));
            sql.push_str(&format!(" AND id BETWEEN {first} AND {last}"));
        }
        sql.push_str(" ORDER BY asked_at DESC, id DESC");
        if let Some(limit) = filter.limit {
            sql.push_str(&format!(" LIMIT {}", bind(i64::from(limit).into())));
        }
        let rows = self.fetch(sql, args).await?;
        let mut records = Vec::with_capacity(rows.len());
        for row in rows.iter().rev() {
            records.push(self.approval_record(row).await?);
        }
        Ok(records)
    }

    /// Returns an approval by its whole id.
    ///
    /// # Errors
    /// The store's.
    pub async fn approval(&self, id: &AskId) -> Result<Option<ApprovalRecord>, Error> {
        let filter = ApprovalFilter { id_prefix: Some(id.to_string()), limit: Some(1), ..ApprovalFilter::default() };
        Ok(self.approvals(&filter).await?.pop())
    }

    /// Counts the approvals that nobody has decided on.
    ///
    /// # Errors
    /// The store's.
    pub async fn open_approvals(&self) -> Result<u64, Error> {
        let rows = self.fetch("SELECT COUNT(*) FROM approvals WHERE state = 'open'", args![]).await?;
        rows.first().map_or(Ok(0), |row| Ok(row.int(0)?.unsigned_abs()))
    }

    async fn approval_record(&self, row: &Row) -> Result<ApprovalRecord, Error> {
        let run: RunId = row.parsed(1)?;
        let state = row.text(5)?;
        let damaged =
            || Error::Damaged { what: format!("an approval of run {run}"), reason: format!("unknown state `{state}`") };
        let ask = match self.event(run, row.int(7)?).await? {
            Some(RunEvent::Asked { ask, .. }) => Some(*ask),
            _ => None,
        };
        Ok(ApprovalRecord {
            id: AskId(row.text(0)?.into()),
            run,
            path: row.parsed(2)?,
            asked_at: Timestamp(row.int(3)?),
            expires_at: row.optional_int(4)?.map(Timestamp),
            state: ApprovalState::ALL.into_iter().find(|known| known.name() == state).ok_or_else(damaged)?,
            ended_at: row.optional_int(6)?.map(Timestamp),
            revision: row.int(8)?,
            ask,
        })
    }

    /// Lists the votes of an approval, the oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn votes(&self, approval: &AskId) -> Result<Vec<Vote>, Error> {
        const VOTES: &str = "SELECT person, verdict, comment, form, voted_at FROM votes WHERE approval = $1 \
                             ORDER BY voted_at, person";
        let what = format!("the votes of approval {approval}");
        let rows = self.fetch(VOTES, args![&*approval.0]).await?;
        rows.iter()
            .map(|row| {
                Ok(Vote {
                    person: row.text(0)?.to_owned(),
                    approves: row.text(1)? == "approve",
                    comment: row.optional_text(2)?.map(str::to_owned),
                    form: self.codec().decode(row.text(3)?, &what)?,
                    at: Timestamp(row.int(4)?),
                })
            })
            .collect()
    }

    /// Casts a vote on an approval as it was read. With an answer it decides: the state changes and the answer goes to the
    /// run, in the same transaction. Returns false where the approval is no longer as it was read, or has expired.
    ///
    /// # Errors
    /// The store's.
    pub async fn vote(
        &self,
        seen: &ApprovalRecord,
        vote: &Vote,
        decision: Option<(ApprovalState, &Value)>,
    ) -> Result<bool, Error> {
        // Without the revision, or too late, the number becomes null, which the table refuses.
        const DECIDE: &str = "UPDATE approvals SET state = $4, ended_at = $5, revision = CASE WHEN state = 'open' \
                              AND revision = $2 AND (expires_at IS NULL OR expires_at > $3) THEN revision + 1 END \
                              WHERE id = $1";
        const VOTE: &str = "INSERT INTO votes (approval, person, verdict, comment, form, voted_at) \
                            SELECT id, $2, $3, $4, $5, $6 FROM approvals WHERE id = $1 \
                            ON CONFLICT (approval, person) DO UPDATE SET verdict = excluded.verdict, \
                            comment = excluded.comment, form = excluded.form, voted_at = excluded.voted_at";
        let (id, at) = (&*seen.id.0, vote.at.micros());
        let letters = match &decision {
            Some((_, answer)) => Some(self.letters(seen.run, Ask::ANSWERED, answer, vote.at).await?),
            None => None,
        };
        let state = decision.map_or(ApprovalState::Open, |(state, _)| state);
        let ended = decision.map(|_| at);
        let form = self.encode(&vote.form).await?;
        let verdict = if vote.approves { "approve" } else { "reject" };
        let cast = self
            .apply_again(|| {
                let mut batch = Batch::default();
                if let Some(letters) = &letters {
                    letters.add_to(&mut batch);
                }
                batch.push(DECIDE, args![id, seen.revision, at, state.name(), ended]);
                let (person, comment) = (vote.person.as_str(), vote.comment.as_deref());
                batch.push(VOTE, args![id, person, verdict, comment, form.as_str(), at]);
                batch
            })
            .await?;
        match cast {
            Ok(()) => Ok(true),
            Err(error) if error.as_database_error().is_some_and(|error| is_guard(&error.kind())) => Ok(false),
            Err(error) => Err(self.place().error(error)),
        }
    }

    /// Ends what is asked and whose time is over, for the run's owner.
    ///
    /// # Errors
    /// The store's.
    pub async fn lapse(&self, ask: &Ask, run: RunId, fence: Fence) -> Result<Lapsed, Error> {
        const LAPSE: &str = "UPDATE approvals SET state = 'expired', ended_at = $2 WHERE id = $1 AND state = 'open' \
                             AND EXISTS (SELECT 1 FROM runs WHERE id = $3 AND fence = $4)";
        const STATE: &str = "SELECT state FROM approvals WHERE id = $1";
        // Without a time it is not over.
        let Some(lapse) = &ask.lapse else { return Ok(Lapsed::Answered) };
        if *ask.kind == *Ask::POST {
            return self.lapse_post(ask, lapse, run, fence).await;
        }
        self.execute(LAPSE, args![&*ask.id.0, lapse.at.micros(), run.to_string(), fence.0]).await?;
        let rows = self.fetch(STATE, args![&*ask.id.0]).await?;
        // What nobody but the run itself ends has no row here.
        let expired = rows.first().map_or(Ok(true), |row| Ok(row.text(0)? == "expired"))?;
        Ok(if expired { Lapsed::Yes } else { Lapsed::Answered })
    }
}
