//! The effect ledger as rows: projections of journal events, written in the same transaction.

use std::sync::Arc;

use super::Arg;
use super::Error;
use super::Fence;
use super::Row;
use super::Store;
use super::db::args;
use super::runs::step_error;
use crate::model::EffectId;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::SettledBy;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::WriteKind;

/// Where an effect stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EffectState {
    /// Its intent is durable; it may have been sent.
    Open,
    /// It happened.
    Confirmed,
    /// It is proven that it did not happen.
    Refused,
    /// Nobody knows.
    InDoubt,
    /// It was in doubt and left so.
    Dropped,
}

/// One effect.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectRecord {
    pub id: EffectId,
    pub run: RunId,
    pub path: StepPath,
    pub key: Arc<str>,
    pub kind: WriteKind,
    pub state: EffectState,
    pub attempt: u32,
    pub send_before: Timestamp,
    pub intended_at: Timestamp,
    pub updated_at: Timestamp,
    pub error: Option<StepError>,
    pub remote_id: Option<String>,
    pub settled_by: Option<SettledBy>,
    /// The node's input; only `Store::effect` fills it.
    pub request: Option<Value>,
}

/// Which effects to list; newest first.
#[derive(Clone, Debug, Default)]
pub struct EffectFilter {
    pub states: Vec<EffectState>,
    pub run: Option<RunId>,
    pub limit: Option<u32>,
}

impl EffectState {
    pub const ALL: [Self; 5] = [Self::Open, Self::Confirmed, Self::Refused, Self::InDoubt, Self::Dropped];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Confirmed => "confirmed",
            Self::Refused => "refused",
            Self::InDoubt => "in_doubt",
            Self::Dropped => "dropped",
        }
    }

    /// Finds the state by its lower-case word.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

const COLUMNS: &str = "id, run_id, path, business_key, kind, state, attempt, send_before, intended_at, updated_at, error, \
                       remote_id, settled_by, intent_seq";

impl Store {
    /// Lists effects, newest first, without their requests.
    pub async fn effects(&self, filter: &EffectFilter) -> Result<Vec<EffectRecord>, Error> {
        let mut sql = format!("SELECT {COLUMNS} FROM effects WHERE 1 = 1");
        let mut args: Vec<Arg> = Vec::new();
        // Written out, not bound: only so can the database use the index of the effects in doubt.
        if !filter.states.is_empty() {
            let states: Vec<String> = filter.states.iter().map(|state| format!("'{}'", state.name())).collect();
            let (operator, states) = match states.as_slice() {
                [state] => ("=", state.clone()),
                states => ("IN", format!("({})", states.join(", "))),
            };
            sql.push_str(&format!(" AND state {operator} {states}"));
        }
        if let Some(run) = filter.run {
            args.push(run.to_string().into());
            sql.push_str(&format!(" AND run_id = ${}", args.len()));
        }
        sql.push_str(" ORDER BY intended_at DESC, id DESC");
        if let Some(limit) = filter.limit {
            args.push(i64::from(limit).into());
            sql.push_str(&format!(" LIMIT ${}", args.len()));
        }
        self.fetch(sql, args).await?.iter().map(record).collect()
    }

    /// Returns one effect with its request.
    pub async fn effect(&self, id: &EffectId) -> Result<Option<EffectRecord>, Error> {
        let mut sql = format!("SELECT {COLUMNS} FROM effects WHERE id = $1");
        let mut args = args![&*id.0];
        // The id begins with the run, which the index wants.
        if let Some(run) = id.0.split_once('/').and_then(|(run, _)| run.parse::<RunId>().ok()) {
            sql.push_str(" AND run_id = $2");
            args.push(run.to_string().into());
        }
        let rows = self.fetch(sql, args).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let mut effect = record(row)?;
        if let Some(RunEvent::Intent { intent, .. }) = self.event(effect.run, row.int(13)?).await? {
            effect.request = Some(intent.request);
        }
        Ok(Some(effect))
    }

    /// Claims a remote object for an effect of a run that the caller holds. Returns whether it is this effect's: a remote
    /// object settles one at most.
    pub async fn claim_remote(
        &self,
        run: RunId,
        fence: Fence,
        effect: &EffectId,
        scope: &str,
        remote_id: &str,
    ) -> Result<bool, Error> {
        // Whoever has lost the run must not take an object for it that its new owner does not know of.
        let claim = format!(
            "INSERT INTO remote_objects (scope, remote_id, effect_id) SELECT $1, $2, $3 FROM runs \
             WHERE id = $4 AND fence = $5{} ON CONFLICT DO NOTHING",
            self.0.shared.db.share_lock()
        );
        self.execute(claim, args![scope, remote_id, &*effect.0, run.to_string(), fence.0]).await?;
        match self.remote_owner(scope, remote_id).await? {
            Some(owner) => Ok(owner == *effect),
            None => Err(Error::LeaseLost { run }),
        }
    }

    /// Counts the other effects with an equal fingerprint.
    pub async fn rivals(
        &self,
        run: RunId,
        effect: &EffectId,
        fingerprint: &str,
        now: Timestamp,
    ) -> Result<Rivals, Error> {
        // Of another run, an answer that came in time may still be on its way to the store.
        const WRITTEN_WITHIN: i64 = 5_000_000;
        const RIVALS: &str = "SELECT COUNT(*) FILTER (WHERE state = 'open' AND late), \
             COUNT(*) FILTER (WHERE state = 'in_doubt' OR (state = 'open' AND NOT late)), \
             COUNT(*) FILTER (WHERE state = 'dropped' OR (state = 'confirmed' AND remote_id IS NULL)) \
             FROM (SELECT state, remote_id, answer_before > CASE WHEN run_id = $3 THEN $4 ELSE $5 END AS late \
                   FROM effects WHERE fingerprint = $1 AND id <> $2) AS equal";
        let now = now.micros();
        let args = args![fingerprint, &*effect.0, run.to_string(), now, now.saturating_sub(WRITTEN_WITHIN)];
        let rows = self.fetch(RIVALS, args).await?;
        let Some(row) = rows.first() else { return Ok(Rivals::default()) };
        let count = |column| row.int(column).map(|count| usize::try_from(count).unwrap_or(0));
        Ok(Rivals { in_flight: count(0)?, in_doubt: count(1)?, unnamed: count(2)? })
    }

    /// Returns the effect that owns a remote object.
    pub async fn remote_owner(&self, scope: &str, remote_id: &str) -> Result<Option<EffectId>, Error> {
        const OWNER: &str = "SELECT effect_id FROM remote_objects WHERE scope = $1 AND remote_id = $2";
        let rows = self.fetch(OWNER, args![scope, remote_id]).await?;
        rows.first().map(|row| row.text(0).map(|id| EffectId(id.into()))).transpose()
    }
}

/// Other effects that the remote cannot tell from one that is in doubt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rivals {
    /// So many may still be answered: an object that is seen now may be theirs.
    pub in_flight: usize,
    /// So many are in doubt as well: with them, free objects may be shared out in any order.
    pub in_doubt: usize,
    /// So many may own an object whose id nobody knows.
    pub unnamed: usize,
}

/// The first claim stays.
pub(super) const CLAIM_REMOTE: &str =
    "INSERT INTO remote_objects (scope, remote_id, effect_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";

fn record(row: &Row) -> Result<EffectRecord, Error> {
    let id = EffectId(row.text(0)?.into());
    let what = format!("effect {id}");
    let unknown = |name: &str| Error::Damaged { what: what.clone(), reason: format!("unknown word `{name}`") };
    let (kind, state) = (row.text(4)?, row.text(5)?);
    let settled_by = row.optional_text(12)?;
    Ok(EffectRecord {
        run: row.parsed(1)?,
        path: row.parsed(2)?,
        key: row.text(3)?.into(),
        kind: WriteKind::by_name(kind).ok_or_else(|| unknown(kind))?,
        state: EffectState::by_name(state).ok_or_else(|| unknown(state))?,
        attempt: u32::try_from(row.int(6)?).unwrap_or(u32::MAX),
        send_before: Timestamp(row.int(7)?),
        intended_at: Timestamp(row.int(8)?),
        updated_at: Timestamp(row.int(9)?),
        error: step_error(row.optional_text(10)?, &what)?,
        remote_id: row.optional_text(11)?.map(str::to_owned),
        settled_by: settled_by.map(|name| SettledBy::by_name(name).ok_or_else(|| unknown(name))).transpose()?,
        request: None,
        id,
    })
}
