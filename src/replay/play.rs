//! One run, again: on a store in memory, on virtual time, with nobody to talk to but the player.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::calls;
use super::cassette::Cassette;
use super::clock::Virtual;
use super::player::Miss;
use super::player::Player;
use crate::engine::Deck;
use crate::engine::Engine;
use crate::engine::ExecuteOptions;
use crate::engine::Execution;
use crate::engine::Parts;
use crate::engine::Probe;
use crate::engine::SecretSource;
use crate::engine::Signal;
use crate::http::Request;
use crate::http::Response;
use crate::http::Transport;
use crate::http::TransportError;
use crate::model::Duration;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::SettledBy;
use crate::model::StepError;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::Access;
use crate::node::Services;
use crate::pipeline::Pipeline;
use crate::pipeline::check_values;
use crate::store::OpenOptions;
use crate::store::SealError;
use crate::store::Sealer;
use crate::store::Store;
use crate::system::Clock;
use crate::system::Random;
use crate::system::System;

/// A run that goes to sleep and wakes more often is not waited for.
const MOST_WAKES: usize = 100_000;

/// What a replay came to.
#[derive(Clone, Debug)]
pub struct Played {
    /// The run's state; `waiting` where it can go no further.
    pub state: RunState,
    pub outputs: Value,
    pub error: Option<StepError>,
    /// Why it waits.
    pub reason: Option<String>,
    /// The journals of the run and its child runs.
    pub events: Vec<(RunId, RunEvent)>,
    /// The pipeline of each run.
    pub pipelines: HashMap<RunId, Arc<Pipeline>>,
    /// What stands before the steps of each run.
    pub prefixes: HashMap<RunId, String>,
    /// Calls that nothing on the cassette answered.
    pub misses: Vec<Miss>,
    /// Writes that were answered by the answer to another one.
    pub supposed: Vec<String>,
    /// What the calls of the cassette were asked this time, by their number.
    pub asked: HashMap<usize, Value>,
}

/// Why a run cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    #[error("its inputs do not fit the other version: {0}")]
    Inputs(String),
    #[error("it could not be executed")]
    Engine(#[from] crate::engine::Error),
    #[error("the store in memory failed")]
    Store(#[from] crate::store::Error),
    #[error("no thread could be started for it")]
    Thread(#[source] std::io::Error),
    #[error("it goes to sleep again and again")]
    Restless,
}

/// Executes a pipeline against a cassette; `recorded` is the version that the cassette was made with. Blocks, on a runtime
/// of its own with one thread: virtual time moves when nothing on that thread can.
///
/// # Errors
/// What keeps it from being executed. What is missing on the cassette is in `Played`.
pub fn play(cassette: &Cassette, recorded: &Arc<Pipeline>, pipeline: &Arc<Pipeline>) -> Result<Played, PlayError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(PlayError::Thread)?;
    runtime.block_on(execute(cassette, recorded, pipeline))
}

async fn execute(cassette: &Cassette, recorded: &Arc<Pipeline>, pipeline: &Arc<Pipeline>) -> Result<Played, PlayError> {
    let clock = Virtual::new(cassette.head.created);
    let player = Arc::new(Player::new(cassette, recorded, clock.clone()));
    let options = OpenOptions { sealer: Some(Arc::new(Nothing)), ..OpenOptions::default() };
    let store = Store::open("sqlite::memory:", options).await?;
    let engine = engine(&clock, store.clone(), player.clone(), cassette.head.seed);
    let root = cassette.root();
    let inputs = if Arc::ptr_eq(recorded, pipeline) || recorded.version == pipeline.version {
        root.inputs.clone()
    } else {
        fitting(pipeline, &root.inputs)?
    };
    let time = tokio::spawn(clock.clone().run(store.clone()));
    engine.start_again(pipeline, root.id, inputs, root.slot.clone()).await?;
    if let Some(RunEvent::Started { at }) = cassette.journal(root.id).next() {
        clock.advance_to(*at);
    }
    let told = Told::of(cassette);
    let execution = told.execute(&engine, &clock, root.id, pipeline).await;
    time.abort();
    let execution = execution?;
    let (runs, events) = journals(&store, root.id).await?;
    let (misses, supposed, asked) = player.ended();
    let pipelines = calls::pipelines(root.id, pipeline, &events);
    let (state, outputs, error, reason) = match execution {
        Execution::Finished { state, outputs, error } => (state, outputs, error, None),
        Execution::Waiting { reason, .. } => (RunState::Waiting, Value::Null, None, Some(reason)),
        Execution::Stopped => (RunState::Waiting, Value::Null, None, None),
    };
    store.close().await?;
    Ok(Played { state, outputs, error, reason, events, pipelines, prefixes: runs, misses, supposed, asked })
}

fn engine(clock: &Virtual, store: Store, player: Arc<Player>, seed: u64) -> Engine {
    Engine::new(Parts {
        system: System { clock: Arc::new(clock.clone()), random: Random::seeded(seed) },
        store,
        http: Arc::new(Nothing),
        access: Access {
            root: PathBuf::new(),
            files_outside: false,
            shell: false,
            databases: Vec::new(),
            rehearsal: true,
        },
        secrets: Arc::new(Nothing),
        owner: "replay".to_owned(),
        owner_is_gone: |_| false,
        send_window: Duration::from_secs(10),
        services: Services::default(),
        probe: Probe::default(),
        tape: Deck::new(player),
    })
}

/// Returns the inputs of a run as another version takes them: what it does not know is left out, what is new has its
/// default.
fn fitting(pipeline: &Pipeline, inputs: &Value) -> Result<Value, PlayError> {
    let given = inputs.as_map().into_iter().flatten();
    let known = given.filter(|(name, _)| pipeline.inputs.iter().any(|input| input.name == **name));
    let known = Value::map(known.map(|(name, value)| (name.clone(), value.clone())));
    check_values(pipeline, known).map_err(|problems| PlayError::Inputs(problems.join("; ")))
}

/// What people told the run, and when.
struct Told {
    signals: Vec<(RunId, Timestamp, Signal)>,
    retries: Vec<(Timestamp, Option<String>)>,
}

impl Told {
    fn of(cassette: &Cassette) -> Self {
        let root = cassette.head.run;
        let (mut signals, mut retries) = (Vec::new(), Vec::new());
        for (run, event) in &cassette.events {
            match event {
                RunEvent::CancelRequested { at, undo, reason } if *run == root => {
                    let signal = match reason {
                        Some(reason) => Signal::Replaced { reason: reason.to_string() },
                        None => Signal::Cancel { undo: *undo },
                    };
                    signals.push((*run, *at, signal));
                }
                RunEvent::Settled { effect, by: SettledBy::Person, verdict, at, .. } => {
                    let signal = Signal::Resolve { effect: effect.to_string(), verdict: (**verdict).clone() };
                    signals.push((*run, *at, signal));
                }
                RunEvent::Retried { at, from } if *run == root => {
                    retries.push((*at, from.as_deref().map(str::to_owned)));
                }
                _ => {}
            }
        }
        signals.sort_by_key(|(_, at, _)| *at);
        Self { signals, retries }
    }

    /// Executes a run to its end, or to where nothing goes on any more.
    async fn execute(
        self,
        engine: &Engine,
        clock: &Virtual,
        run: RunId,
        pipeline: &Arc<Pipeline>,
    ) -> Result<Execution, PlayError> {
        let (signals, mut retries) = (self.signals, self.retries.into_iter());
        // So many signals were left in the inbox, by whoever was first to come to their time.
        let told = Cell::new(0);
        let mut again: Option<Option<String>> = None;
        for _ in 0..MOST_WAKES {
            let options = ExecuteOptions { foreground: false, ..ExecuteOptions::default() };
            let work = async {
                match again.take() {
                    None => engine.execute(run, pipeline.clone(), options).await,
                    Some(from) => engine.retry(run, pipeline.clone(), from, options).await,
                }
            };
            let tell = async {
                while let Some((to, at, signal)) = signals.get(told.get()) {
                    clock.sleep_until(*at).await;
                    told.set(told.get() + 1);
                    // A run that another version never makes hears nothing.
                    let _ = engine.signal(*to, signal).await;
                }
                std::future::pending::<()>().await;
            };
            let execution = tokio::select! {
                execution = work => execution?,
                () = tell => continue,
            };
            match execution {
                Execution::Finished { .. } => match retries.next() {
                    Some((at, from)) => {
                        clock.advance_to(at);
                        again = Some(from);
                    }
                    None => return Ok(execution),
                },
                Execution::Waiting { until, .. } => {
                    let next = signals.get(told.get());
                    let until = until.filter(|until| *until < for_ever(clock));
                    let Some(at) = [until, next.map(|(_, at, _)| *at)].into_iter().flatten().min() else {
                        return Ok(execution);
                    };
                    clock.advance_to(at);
                    if let Some((to, _, signal)) = next.filter(|(_, due, _)| *due == at) {
                        told.set(told.get() + 1);
                        let _ = engine.signal(*to, signal).await;
                    }
                }
                Execution::Stopped => return Ok(execution),
            }
        }
        Err(PlayError::Restless)
    }
}

/// No run waits so long, but one for an answer that nobody knows.
fn for_ever(clock: &Virtual) -> Timestamp {
    clock.now().plus(Duration::from_secs(100 * 365 * 86_400))
}

/// Reads the journals of a run and its child runs, and what stands before their steps.
async fn journals(
    store: &Store,
    root: RunId,
) -> Result<(HashMap<RunId, String>, Vec<(RunId, RunEvent)>), crate::store::Error> {
    let (mut prefixes, mut events) = (HashMap::new(), Vec::new());
    let mut open = VecDeque::from([(root, String::new())]);
    while let Some((run, prefix)) = open.pop_front() {
        if prefixes.contains_key(&run) {
            continue;
        }
        for event in store.journal(run).await? {
            if let RunEvent::Child { path, run: child, .. } = &event {
                open.push_back((*child, format!("{prefix}{path} > ")));
            }
            events.push((run, event));
        }
        prefixes.insert(run, prefix);
    }
    Ok((prefixes, events))
}

/// No network, no secrets, no keys.
#[derive(Debug)]
struct Nothing;

#[async_trait]
impl Transport for Nothing {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let host = crate::http::Origin::of(&request.url).map(|origin| origin.host).unwrap_or_default();
        Err(TransportError::NotAllowed { host, reason: "a replay has no network".to_owned() })
    }
}

impl SecretSource for Nothing {
    fn get(&self, name: &str) -> Result<Value, String> {
        Ok(Value::from(format!("secret {name}")).tainted())
    }

    fn mask(&self, text: String) -> String {
        text
    }

    fn learn(&self, _: &Value) {}

    fn scan(&self, value: Value) -> Value {
        value
    }
}

/// What is sealed here are names of secrets, in memory.
impl Sealer for Nothing {
    fn seal(&self, open: &str) -> Result<String, SealError> {
        Ok(open.to_owned())
    }

    fn unseal(&self, sealed: &str) -> Result<String, SealError> {
        Ok(sealed.to_owned())
    }
}
