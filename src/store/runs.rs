//! Versions and runs.

use std::sync::Arc;

use super::Arg;
use super::Error;
use super::Row;
use super::Store;
use super::db::args;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::VersionId;

/// A run as it is known; a projection of its journal.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    pub id: RunId,
    pub pipeline: Arc<str>,
    pub version: VersionId,
    pub inputs: Value,
    pub slot: Option<String>,
    pub priority: u8,
    pub parent: Option<(RunId, StepPath)>,
    pub created_at: Timestamp,
    pub state: RunState,
    pub error: Option<StepError>,
    /// Null until the run has ended well.
    pub outputs: Value,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// When a waiting run goes on by itself.
    pub waiting_until: Option<Timestamp>,
    /// Why it waits.
    pub reason: Option<String>,
    /// Whether a worker holds it.
    pub owned: bool,
    /// A person, or what else started it.
    pub started_by: Option<Arc<str>>,
    /// Where it stands in the queue; see `turn_of`.
    pub turn: Timestamp,
    pub gate: Gate,
    /// Whether signals wait for its owner.
    pub signaled: bool,
}

/// Who may take a run from the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Any worker.
    Open,
    /// Nobody before it has its permits.
    Permits,
    /// Nobody: its parent executes it.
    Parent,
}

/// Which runs to list; newest first.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    pub states: Vec<RunState>,
    pub pipeline: Option<String>,
    /// The beginning of the id, in any case.
    pub id_prefix: Option<String>,
    pub parent: Option<RunId>,
    /// At most so many; all when there is no limit.
    pub limit: Option<u32>,
}

/// The definition that a version stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRecord {
    pub id: VersionId,
    pub pipeline: Arc<str>,
    pub definition: Arc<str>,
}

pub(super) const COLUMNS: &str = "id, pipeline, version, inputs, slot, priority, parent_run, parent_path, created_at, state, error, \
                       outputs, started_at, ended_at, waiting_until, reason, owner, started_by, turn, gate, \
                                  signals";

impl RunRecord {
    /// Tells whether it is a child run that any worker may execute.
    #[must_use]
    pub fn is_spread(&self) -> bool {
        self.parent.is_some() && self.gate != Gate::Parent
    }
}

impl Gate {
    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Open => 0,
            Self::Permits => 1,
            Self::Parent => 2,
        }
    }

    pub(super) const fn by_number(number: i64) -> Self {
        match number {
            0 => Self::Open,
            1 => Self::Permits,
            _ => Self::Parent,
        }
    }
}

impl Store {
    pub async fn run(&self, id: RunId) -> Result<Option<RunRecord>, Error> {
        let rows = self.fetch(format!("SELECT {COLUMNS} FROM runs WHERE id = $1"), args![id.to_string()]).await?;
        rows.first().map(|row| self.run_record(row)).transpose()
    }

    /// Lists runs, newest first.
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRecord>, Error> {
        let mut sql = format!("SELECT {COLUMNS} FROM runs WHERE 1 = 1");
        let mut args: Vec<Arg> = Vec::new();
        let mut bind = |arg: Arg| {
            args.push(arg);
            format!("${}", args.len())
        };
        if !filter.states.is_empty() {
            let places: Vec<String> = filter.states.iter().map(|state| bind(state.name().into())).collect();
            sql.push_str(&format!(" AND state IN ({})", places.join(", ")));
        }
        if let Some(pipeline) = &filter.pipeline {
            sql.push_str(&format!(" AND pipeline = {}", bind(pipeline.as_str().into())));
        }
        if let Some(parent) = filter.parent {
            sql.push_str(&format!(" AND parent_run = {}", bind(parent.to_string().into())));
        }
        if let Some(prefix) = &filter.id_prefix {
            let Some((first, last)) = ids_from_to(prefix) else { return Ok(Vec::new()) };
            let (first, last) = (bind(first.into()), bind(last.into()));
            sql.push_str(&format!(" AND id BETWEEN {first} AND {last}"));
        }
        // Ids begin with the time of their making.
        sql.push_str(" ORDER BY id DESC");
        if let Some(limit) = filter.limit {
            sql.push_str(&format!(" LIMIT {}", bind(i64::from(limit).into())));
        }
        let rows = self.fetch(sql, args).await?;
        rows.iter().map(|row| self.run_record(row)).collect()
    }

    /// Returns the run that a trigger fired last.
    pub async fn last_firing(&self, pipeline: &str, trigger: &str) -> Result<Option<RunRecord>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM runs WHERE pipeline = $1 AND slot LIKE $2 ORDER BY id DESC LIMIT 1");
        // The id of a trigger holds no character that `LIKE` knows.
        let rows = self.fetch(sql, args![pipeline, format!("{trigger}@%")]).await?;
        rows.first().map(|row| self.run_record(row)).transpose()
    }

    /// Keeps a version; repeating is harmless.
    pub async fn put_version(&self, version: &VersionRecord) -> Result<(), Error> {
        // Whoever puts it is about to need it.
        const PUT: &str = "INSERT INTO versions (id, pipeline, definition) VALUES ($1, $2, $3) \
                           ON CONFLICT (id) DO UPDATE SET idle_since = NULL WHERE versions.idle_since IS NOT NULL";
        self.execute(PUT, args![&*version.id.0, &*version.pipeline, &*version.definition]).await?;
        Ok(())
    }

    pub async fn version(&self, id: &VersionId) -> Result<Option<VersionRecord>, Error> {
        const GET: &str = "SELECT pipeline, definition FROM versions WHERE id = $1";
        let rows = self.fetch(GET, args![&*id.0]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (pipeline, definition) = (row.text(0)?.into(), row.text(1)?.into());
        Ok(Some(VersionRecord { id: id.clone(), pipeline, definition }))
    }

    /// Lists the versions of a pipeline whose ids begin so.
    pub async fn versions(&self, pipeline: &str, prefix: &str) -> Result<Vec<VersionId>, Error> {
        const LIST: &str = "SELECT id FROM versions WHERE pipeline = $1 ORDER BY id";
        let rows = self.fetch(LIST, args![pipeline]).await?;
        let ids = rows.iter().map(|row| row.text(0).map(|id| VersionId(id.into())));
        let ids: Vec<_> = ids.collect::<Result<_, _>>()?;
        Ok(ids.into_iter().filter(|id| id.0.starts_with(prefix)).collect())
    }

    pub(super) fn run_record(&self, row: &Row) -> Result<RunRecord, Error> {
        let id: RunId = row.parsed(0)?;
        let what = format!("run {id}");
        let time = |column| row.optional_int(column).map(|micros| micros.map(Timestamp));
        let damaged = |reason: String| Error::Damaged { what: what.clone(), reason };
        let parent = match row.optional_text(6)? {
            Some(_) => Some((row.parsed(6)?, row.parsed(7)?)),
            None => None,
        };
        let state = row.text(9)?;
        Ok(RunRecord {
            id,
            pipeline: row.text(1)?.into(),
            version: VersionId(row.text(2)?.into()),
            inputs: self.codec().decode(row.text(3)?, &what)?,
            slot: row.optional_text(4)?.map(str::to_owned),
            priority: u8::try_from(row.int(5)?).map_err(|error| damaged(error.to_string()))?,
            parent,
            created_at: Timestamp(row.int(8)?),
            state: RunState::by_name(state).ok_or_else(|| damaged(format!("unknown state `{state}`")))?,
            error: step_error(row.optional_text(10)?, &what)?,
            outputs: row.optional_text(11)?.map_or(Ok(Value::Null), |text| self.codec().decode(text, &what))?,
            started_at: time(12)?,
            ended_at: time(13)?,
            waiting_until: time(14)?,
            reason: row.optional_text(15)?.map(str::to_owned),
            owned: row.optional_text(16)?.is_some(),
            started_by: row.optional_text(17)?.map(Arc::from),
            turn: Timestamp(row.int(18)?),
            gate: Gate::by_number(row.int(19)?),
            signaled: row.int(20)? > 0,
        })
    }
}

/// Reads an error column.
pub(super) fn step_error(text: Option<&str>, what: &str) -> Result<Option<StepError>, Error> {
    let error = text.map(serde_json::from_str).transpose();
    error.map_err(|error| Error::Damaged { what: what.to_owned(), reason: error.to_string() })
}

/// Writes an error column.
pub(super) fn step_error_text(error: &StepError) -> String {
    serde_json::to_string(error).expect("an error is a plain struct")
}

/// Returns the first and the last id with this beginning: a range that an index can answer, in every collation.
pub(super) fn ids_from_to(prefix: &str) -> Option<(String, String)> {
    let prefix = prefix.trim().to_ascii_uppercase();
    if prefix.len() > 26 || !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    Some((format!("{prefix:0<26}"), format!("{prefix:Z<26}")))
}
