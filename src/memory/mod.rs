//! The memory of content: what was generated and can be found again, lessons, the calendar of posts, and the statistics that
//! say when to publish. The nodes on top are thin; all that decides is pure.

pub mod bandit;
pub mod best_time;
pub mod calendar;
pub mod lessons;
pub mod measured;
pub mod reflection;
pub mod search;
mod terms;
mod unfinished;

pub use self::terms::terms;
pub use self::unfinished::Conversation;
pub use self::unfinished::Unfinished;
use crate::model::ErrorClass;
use crate::model::RunId;
use crate::node::NodeError;
use crate::node::StepContext;
use crate::store;
use crate::store::GenerationRecord;
use crate::store::Indexed;
use crate::store::Store;

/// The memory that steps work with. The engine makes one of its store; that of a plan looks into the project's store and
/// changes nothing.
#[derive(Clone, Debug)]
pub struct Memory {
    store: Store,
    looks_only: bool,
    unfinished: Unfinished,
}

impl Memory {
    /// Makes the memory that a store holds.
    #[must_use]
    pub fn of(store: Store) -> Self {
        Self { store, looks_only: false, unfinished: Unfinished::default() }
    }

    /// Makes one that changes nothing.
    #[must_use]
    pub fn looking(store: Store) -> Self {
        Self { store, looks_only: true, unfinished: Unfinished::default() }
    }

    /// Returns the memory of a step.
    ///
    /// # Errors
    /// The engine has none; an engine always has.
    pub fn of_step<'c>(ctx: &'c StepContext<'_>) -> Result<&'c Self, NodeError> {
        let missing = || NodeError::message(ErrorClass::Bug, "the engine has no memory");
        ctx.services.get::<Self>().ok_or_else(missing)
    }

    /// Returns the store, for looking.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the conversations that a failed request has interrupted.
    #[must_use]
    pub fn unfinished(&self) -> &Unfinished {
        &self.unfinished
    }

    /// Tells whether it only looks: a plan's does.
    #[must_use]
    pub fn looks_only(&self) -> bool {
        self.looks_only
    }

    /// Returns the store, for changing what is in it.
    ///
    /// # Errors
    /// A plan changes nothing.
    pub fn changing(&self) -> Result<&Store, NodeError> {
        if self.looks_only {
            return Err(NodeError::message(ErrorClass::Bug, "a plan changes nothing"));
        }
        Ok(&self.store)
    }
}

/// Keeps a generation so that it is found again by its text, its topic and its tags; and by its vector, where there is one.
///
/// # Errors
/// The store's.
pub async fn keep(
    store: &Store,
    record: &GenerationRecord,
    vector: Option<(String, Vec<f32>)>,
) -> Result<(), store::Error> {
    let mut text = record.output.clone();
    for more in record.topic.iter().chain(&record.tags) {
        text.push('\n');
        text.push_str(more);
    }
    store.put_generation(record, &Indexed { terms: terms(&text), vector }).await
}

/// Returns the name of the pipeline that a run belongs to: that of the run above all. Nothing of a run that is not kept.
///
/// # Errors
/// The store's.
pub async fn pipeline_of(store: &Store, run: RunId) -> Result<String, store::Error> {
    let mut run = run;
    loop {
        let Some(record) = store.run(run).await? else { return Ok(String::new()) };
        match record.parent {
            Some((parent, _)) => run = parent,
            None => return Ok(record.pipeline.to_string()),
        }
    }
}

/// Makes an error of the store that of a step.
#[must_use]
pub fn failed(error: store::Error) -> NodeError {
    NodeError::new(ErrorClass::Unavailable, error)
}
