//! All that a node may see.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Called;
use super::Keep;
use super::RowSink;
use super::RowSource;
use super::Services;
use super::WireRecord;
use crate::http::Transport;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::EffectId;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::system::System;
use crate::template::EvalError;
use crate::template::Prompt;
use crate::template::Scope;
use crate::template::Template;

/// All that a node may see; nothing else is reachable from a node. Made in O(1) for each attempt.
#[derive(Debug)]
pub struct StepContext<'a> {
    pub run: RunId,
    pub path: &'a StepPath,
    /// From 1.
    pub attempt: u32,
    /// The number of the journal's event with which the attempt began; nothing where it is not journaled.
    pub begun: Option<u64>,
    /// What the step declared: a node must not do more.
    pub declared: Effect,
    pub system: &'a System,
    pub http: &'a dyn Transport,
    pub access: &'a Access,
    /// For writes: the ledger's entry.
    pub effect: Option<&'a EffectContext>,
    /// When the attempt must have ended: the nearest of the step's and the run's time-outs.
    pub deadline: Option<Timestamp>,
    pub canceled: &'a CancellationToken,
    /// The compiled expressions of `Node::expressions`, by key.
    pub expressions: &'a [(&'static str, Template)],
    pub scope: &'a Scope,
    /// The operations that `Node::calls` has asked for.
    pub calls: &'a [Called],
    /// Takes lines for the run's log.
    pub log: &'a dyn LogSink,
    /// Reads datasets; see `Rows`.
    pub rows: &'a dyn RowSource,
    /// Takes the rows of a step that says `into`.
    pub into: Option<&'a dyn RowSink>,
    /// Keeps files, and where incremental reads stand.
    pub keep: &'a dyn Keep,
    /// What rooms above share with their own nodes.
    pub services: &'a Services,
}

/// Takes lines for the run's log; secrets in them are masked on the way.
pub trait LogSink: Send + Sync + std::fmt::Debug {
    fn log(&self, level: LogLevel, message: &str);
    /// Keeps what went over the wire.
    fn wire(&self, _record: WireRecord) {}
    /// Returns how much of a body of what goes over the wire is wanted, in bytes.
    fn most_body(&self) -> usize {
        WireRecord::MOST_BODY
    }
}

/// The ledger's entry of a write.
#[derive(Clone, Debug)]
pub struct EffectContext {
    pub id: EffectId,
    /// The business key: the same on every attempt.
    pub key: Arc<str>,
    /// When the effect was first intended.
    pub started_at: Timestamp,
    /// The first byte must leave before this reading of the monotonic clock; a question has none.
    pub send_within: Option<Duration>,
    /// Whether an earlier sending of this effect is in doubt.
    pub doubted: bool,
}

/// What the project allows.
#[derive(Clone, Debug)]
pub struct Access {
    /// The project's folder, absolute. Relative paths start here.
    pub root: PathBuf,
    /// Whether files outside the project may be read and written.
    pub files_outside: bool,
    /// Whether `shell.run` may run programs.
    pub shell: bool,
    /// Databases by connection name, as URLs, for `sql.query` and `sql.execute`.
    pub databases: Vec<(String, String)>,
    /// Whether the world outside is a sandbox: then no program runs and no server's database is reached.
    pub rehearsal: bool,
}

/// How loud a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

impl StepContext<'_> {
    /// Evaluates the expression of `with:` under `key` with further roots; a row at a time, say.
    pub fn eval(&self, key: &str, locals: &[(&'static str, Value)]) -> Result<Value, EvalError> {
        let Some((_, template)) = self.expressions.iter().find(|(name, _)| *name == key) else {
            return Err(EvalError { message: format!("`{key}` is not given") });
        };
        let mut scope = self.scope.clone();
        scope.locals.extend_from_slice(locals);
        template.eval(&scope)
    }

    /// Returns the prompt that `with:` names under `key`.
    #[must_use]
    pub fn prompt(&self, key: &str) -> Option<&Prompt> {
        self.expressions.iter().find(|(name, _)| *name == key)?.1.prompt()
    }

    /// Tells whether `with:` gives the expression `key`.
    #[must_use]
    pub fn has_expression(&self, key: &str) -> bool {
        self.expressions.iter().any(|(name, _)| *name == key)
    }
}
