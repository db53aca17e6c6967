//! The log lines of runs; written by `Record::Log`.

use super::Error;
use super::Store;
use super::db::args;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::node::LogLevel;
use crate::node::WireRecord;

/// One line of a run's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub at: Timestamp,
    pub path: Option<StepPath>,
    pub level: LogLevel,
    pub message: String,
}

impl Store {
    /// Returns the log of a run, oldest first.
    pub async fn logs(&self, run: RunId) -> Result<Vec<LogLine>, Error> {
        const ALL: &str = "SELECT logged_at, path, level, message FROM logs WHERE run_id = $1 ORDER BY number";
        let rows = self.fetch(ALL, args![run.to_string()]).await?;
        rows.iter()
            .map(|row| {
                let name = row.text(2)?;
                let level = level_by_name(name).ok_or_else(|| Error::Damaged {
                    what: format!("the log of run {run}"),
                    reason: format!("unknown level `{name}`"),
                })?;
                let path = row.optional_text(1)?.map(|_| row.parsed(1)).transpose()?;
                Ok(LogLine { at: Timestamp(row.int(0)?), path, level, message: row.text(3)?.to_owned() })
            })
            .collect()
    }
}

/// An exchange of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireLine {
    pub path: StepPath,
    pub attempt: u32,
    pub record: WireRecord,
}

impl Store {
    /// Returns what went over the wire in a run, oldest first.
    pub async fn wire(&self, run: RunId) -> Result<Vec<WireLine>, Error> {
        const ALL: &str = "SELECT path, attempt, record FROM wire WHERE run_id = $1 ORDER BY number";
        let rows = self.fetch(ALL, args![run.to_string()]).await?;
        let damaged = |reason: String| Error::Damaged { what: format!("the wire records of run {run}"), reason };
        rows.iter()
            .map(|row| {
                let record = serde_json::from_str(row.text(2)?).map_err(|error| damaged(error.to_string()))?;
                Ok(WireLine { path: row.parsed(0)?, attempt: u32::try_from(row.int(1)?).unwrap_or(0), record })
            })
            .collect()
    }
}

/// Returns the word under which a level is stored.
pub(super) fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

fn level_by_name(name: &str) -> Option<LogLevel> {
    let levels = [LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];
    levels.into_iter().find(|level| level_name(*level) == name)
}
