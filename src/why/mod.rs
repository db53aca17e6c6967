//! Why a run, a step or a schedule is as it is: the chain of causes in words. Read from the store and the definition;
//! nothing is executed.

mod history;
mod run;
mod schedule;
mod step;
mod words;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use self::history::History;
pub use self::schedule::Known as KnownSchedule;
pub use self::schedule::schedule;
use crate::model::RunId;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::Registry;
use crate::pipeline;
use crate::pipeline::Person;
use crate::pipeline::Pipeline;
use crate::store;
use crate::store::RunRecord;
use crate::store::Store;

/// Through how many runs a chain is followed, from one that waits to one that holds.
const DEEPEST: usize = 8;

/// A fact, and the facts that it comes of.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// A word for machines, e.g. `approval`.
    pub kind: &'static str,
    /// A sentence for people.
    pub text: String,
    /// What the sentence is made of, for machines.
    pub facts: Vec<(&'static str, Value)>,
    pub because: Vec<Cause>,
}

/// What is asked, and what is known beside the store.
#[derive(Clone, Debug)]
pub struct Asker {
    pub store: Store,
    pub registry: Registry,
    pub now: Timestamp,
    /// Whether a daemon works on the project.
    pub daemon: bool,
    /// This process, as leases name it.
    pub owner: String,
    /// Tells of an owner whether its process certainly no longer exists.
    pub owner_is_gone: fn(&str) -> bool,
    pub people: Vec<Person>,
}

/// A run with all that is known of it.
#[derive(Debug)]
struct Case {
    record: RunRecord,
    /// Nothing where this program cannot read the definition any more.
    pipeline: Option<Arc<Pipeline>>,
    history: History,
}

type Told<'a> = Pin<Box<dyn Future<Output = Result<Cause, store::Error>> + Send + 'a>>;

impl Cause {
    fn new(kind: &'static str, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), facts: Vec::new(), because: Vec::new() }
    }

    fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.facts.push((key, value.into()));
        self
    }

    fn because(mut self, cause: impl IntoIterator<Item = Self>) -> Self {
        self.because.extend(cause);
        self
    }

    /// Returns it as an object: kind, text, the facts, and under `because` the causes.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let own = [("kind", Value::from(self.kind)), ("text", Value::from(self.text.as_str()))];
        let because = Value::list(self.because.iter().map(Self::to_value).collect());
        Value::map(own.into_iter().chain(self.facts.iter().cloned()).chain([("because", because)]))
    }
}

impl Asker {
    /// Says why a run is as it is; nothing when there is no such run.
    ///
    /// # Errors
    /// The store's.
    pub async fn run(&self, id: RunId) -> Result<Option<Cause>, store::Error> {
        let Some(case) = self.case(id).await? else { return Ok(None) };
        Ok(Some(self.of_run(&case, &[]).await?))
    }

    /// Says why a step of a run is as it is, or one item of it, `publish[3]`; nothing when there is no such step.
    ///
    /// # Errors
    /// The store's.
    pub async fn step(&self, run: RunId, path: &crate::model::StepPath) -> Result<Option<Cause>, store::Error> {
        let Some(case) = self.case(run).await? else { return Ok(None) };
        if !case.has(path) {
            return Ok(None);
        }
        Ok(Some(self.of_step(&case, path, &[run]).await?))
    }

    async fn case(&self, id: RunId) -> Result<Option<Case>, store::Error> {
        let Some(record) = self.store.run(id).await? else { return Ok(None) };
        let version = self.store.version(&record.version).await?;
        let compiled = version.and_then(|it| pipeline::compile_definition(&it.definition, &self.registry).ok());
        let history = History::read(&self.store.journal(id).await?, compiled.as_deref());
        Ok(Some(Case { record, pipeline: compiled, history }))
    }

    /// Says why another run is as it is, which this one waits for. The trail are the runs that led to it.
    fn of_other<'a>(&'a self, id: RunId, trail: &'a [RunId]) -> Told<'a> {
        Box::pin(async move {
            if trail.contains(&id) {
                return Ok(Cause::new("circle", format!("run {id} waits for this one: they wait for each other")));
            }
            match self.case(id).await? {
                Some(case) if trail.len() < DEEPEST => self.of_run(&case, trail).await,
                Some(case) => Ok(Cause::new("run", format!("run {id} is {}", case.record.state.name()))),
                None => Ok(Cause::new("run", format!("run {id} is not in the store any more"))),
            }
        })
    }
}
