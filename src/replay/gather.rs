//! A cassette out of the store: the journals of a run and of all that it started.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;

use super::calls;
use super::cassette::Cassette;
use super::cassette::Head;
use super::cassette::KeptCall;
use super::cassette::KeptRun;
use super::veil::Veil;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::Value;
use crate::node::ROWS_A_BATCH;
use crate::node::Registry;
use crate::pipeline::compile_definition;
use crate::store::Error;
use crate::store::Store;

/// Why the store does not have what a replay needs.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    #[error("the store failed")]
    Store(#[from] Error),
    #[error("there is no run `{0}`")]
    NoRun(RunId),
    #[error("run `{0}` is itself a child; replay the run that started it")]
    Child(RunId),
    #[error("the journal of run `{0}` is not in the store any more")]
    NoJournal(RunId),
    #[error("the version of run `{0}` is not in the store any more")]
    NoVersion(RunId),
    #[error("the version of run `{0}` does not compile with this program any more")]
    Outdated(RunId),
}

/// What was recorded beside the journal.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) calls: Vec<KeptCall>,
    pub(super) veil: Veil,
}

/// Reads a run from the store. What `recorded` has heard is on the cassette, too; without it, calls are what the journal
/// tells of them.
///
/// # Errors
/// What the store does not have.
pub async fn gather(
    store: &Store,
    registry: &Registry,
    run: RunId,
    recorded: Option<&super::Recorder>,
) -> Result<Cassette, GatherError> {
    let record = store.run(run).await?.ok_or(GatherError::NoRun(run))?;
    if record.parent.is_some() {
        return Err(GatherError::Child(run));
    }
    let version = store.version(&record.version).await?.ok_or(GatherError::NoVersion(run))?;
    let Taken { calls: taken, mut veil } =
        recorded.map_or_else(|| Taken { calls: Vec::new(), veil: Veil::default() }, super::Recorder::take);
    let (mut runs, mut events) = (Vec::new(), Vec::new());
    let mut open = VecDeque::from([(run, String::new())]);
    while let Some((id, prefix)) = open.pop_front() {
        let Some(own) = store.run(id).await? else { continue };
        let journal = store.journal(id).await?;
        if journal.is_empty() && own.state.is_final() {
            return Err(GatherError::NoJournal(id));
        }
        let mut seen = HashSet::new();
        for event in &journal {
            if let RunEvent::Child { path, run, .. } = event
                && seen.insert(*run)
            {
                open.push_back((*run, format!("{prefix}{path} > ")));
            }
        }
        let inputs = veil.over(&own.inputs);
        runs.push(KeptRun { id, prefix, pipeline: own.pipeline, inputs, slot: own.slot });
        events.extend(journal.iter().map(|event| (id, veil.over_event(event))));
    }
    let rows = rows(store, &events, &mut veil).await?;
    let head = Head {
        run,
        pipeline: record.pipeline,
        version: record.version,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        recorded: recorded.is_some(),
        rehearsal: recorded.is_some_and(super::Recorder::is_rehearsal),
        seed: recorded.map_or(0, super::Recorder::seed),
        created: record.created_at,
        ended: record.ended_at,
        state: record.state,
    };
    let mut cassette = Cassette { head, definition: version.definition, runs, events, calls: taken, rows };
    if recorded.is_none() {
        let pipeline = compile_definition(&cassette.definition, registry).map_err(|_| GatherError::Outdated(run))?;
        cassette.calls = calls::of_journal(&cassette, &pipeline);
    }
    Ok(cassette)
}

/// Reads the rows that outputs name.
async fn rows(
    store: &Store,
    events: &[(RunId, RunEvent)],
    veil: &mut Veil,
) -> Result<HashMap<String, Vec<Value>>, Error> {
    let mut all = HashMap::new();
    for (_, event) in events {
        let (RunEvent::Succeeded { output, .. } | RunEvent::Round { output, .. }) = event else { continue };
        let Value::Dataset(dataset) = output else { continue };
        let mut kept: Vec<Value> = Vec::new();
        loop {
            let from = u64::try_from(kept.len()).unwrap_or(u64::MAX);
            let batch = store.rows(&dataset.id, from, u64::try_from(ROWS_A_BATCH).unwrap_or(u64::MAX)).await?;
            if batch.is_empty() {
                break;
            }
            kept.extend(batch.iter().map(|row| veil.over(row)));
        }
        all.insert(dataset.id.clone(), kept);
    }
    Ok(all)
}
