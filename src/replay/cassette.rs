//! What a cassette holds.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::Duration;
use crate::model::ErrorClass;
use crate::model::Happened;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::VersionId;

/// A run as it was.
#[derive(Clone, Debug)]
pub struct Cassette {
    pub head: Head,
    /// The version's stored definition: all that is needed to compile it again.
    pub definition: Arc<str>,
    /// The run, and its child runs behind their parents.
    pub runs: Vec<KeptRun>,
    /// The journals, each in its order.
    pub events: Vec<(RunId, RunEvent)>,
    /// What nodes were asked and said, in the order in which it began.
    pub calls: Vec<KeptCall>,
    /// The rows of datasets that steps have put into the store.
    pub rows: HashMap<String, Vec<Value>>,
}

/// What is told of a run at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    pub run: RunId,
    pub pipeline: Arc<str>,
    pub version: VersionId,
    /// The program that wrote it.
    pub program: String,
    /// Whether calls were recorded; otherwise they are what the store tells of them.
    pub recorded: bool,
    /// Whether stand-ins answered.
    pub rehearsal: bool,
    /// What chance was drawn from.
    pub seed: u64,
    pub created: Timestamp,
    pub ended: Option<Timestamp>,
    pub state: RunState,
}

/// A run of a cassette.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptRun {
    pub id: RunId,
    /// What stands before its steps: nothing for the run itself, `import > ` for the child of step `import`.
    pub prefix: String,
    pub pipeline: Arc<str>,
    pub inputs: Value,
    pub slot: Option<String>,
}

/// A call of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptCall {
    pub run: RunId,
    pub path: StepPath,
    pub attempt: u32,
    pub question: bool,
    pub node: Arc<str>,
    /// Whether it changes the world.
    pub writes: bool,
    /// What it was asked; of a read that the store alone tells of it is not known.
    pub input: Option<Value>,
    pub began: Timestamp,
    pub took: Duration,
    pub said: KeptSaid,
    /// What went over the wire, masked and cut, for people.
    pub wire: Vec<Value>,
}

/// What a node said, as far as it can be said again.
#[derive(Clone, Debug, PartialEq)]
pub enum KeptSaid {
    Done {
        output: Value,
    },
    Created {
        output: Value,
        remote_id: String,
    },
    Later {
        until: Timestamp,
        reason: String,
    },
    /// The steps of an operation begin with these inputs.
    Steps {
        inputs: Value,
    },
    Failed {
        class: ErrorClass,
        message: String,
        happened: Happened,
        retry_after: Option<Duration>,
        attempts: Option<u32>,
    },
    Found {
        candidates: Vec<(String, Value)>,
    },
    NotFound,
    /// It waits or asks by itself, and can do so again.
    Itself,
    /// It was given up before it had said anything.
    Nothing,
}

impl Cassette {
    /// Returns the run itself.
    #[must_use]
    pub fn root(&self) -> &KeptRun {
        // Whoever makes a cassette puts the run first.
        self.runs.first().expect("a cassette holds its run")
    }

    /// Returns the journal of a run.
    pub fn journal(&self, run: RunId) -> impl Iterator<Item = &RunEvent> {
        self.events.iter().filter(move |(id, _)| *id == run).map(|(_, event)| event)
    }

    /// Names a step run as people read it.
    #[must_use]
    pub fn place(&self, run: RunId, path: &StepPath) -> String {
        let prefix = self.runs.iter().find(|kept| kept.id == run).map(|kept| kept.prefix.as_str());
        format!("{}{path}", prefix.unwrap_or_default())
    }
}
