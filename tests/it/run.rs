//! Whole runs on virtual time: what the design promises, with the moments at which it happens.
//!
//! The nodes of these tests do what a script says and note when they were called. Time stands still until somebody
//! sleeps: an observer of the journal moves the clock to the moment that the run waits for.

mod approvals;
mod calendar;
mod cases;
mod children;
mod effects;
mod files;
mod keeper;
mod operations;
mod paid;
mod permits;
mod plans;
mod posts;
mod rehearsal;
mod replay;
mod requests;
mod scheduler;
#[path = "social_c.rs"]
mod social_c;
mod spread;
mod time;
mod triggers;
mod why;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use pipewright::connector::library::Library;
use pipewright::engine::Engine;
use pipewright::engine::ExecuteOptions;
use pipewright::engine::Execution;
use pipewright::engine::NoSecrets;
use pipewright::engine::Parts;
use pipewright::engine::Probe;
use pipewright::engine::SecretSource;
use pipewright::http::ReqwestTransport;
use pipewright::http::Transport;
use pipewright::model::Duration;
use pipewright::model::Effect;
use pipewright::model::ErrorClass;
use pipewright::model::Repeat;
use pipewright::model::RunEvent;
use pipewright::model::RunId;
use pipewright::model::RunState;
use pipewright::model::Settlement;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::model::WriteKind;
use pipewright::node::Access;
use pipewright::node::Candidate;
use pipewright::node::ExpressionKey;
use pipewright::node::Node;
use pipewright::node::NodeError;
use pipewright::node::Outcome;
use pipewright::node::Reconciled;
use pipewright::node::Registry;
use pipewright::node::Services;
use pipewright::node::StepContext;
use pipewright::pipeline::Catalog;
use pipewright::pipeline::Pipeline;
use pipewright::secrets::MasterKey;
use pipewright::store::OpenOptions;
use pipewright::store::Store;
use pipewright::system::SimClock;
use pipewright::system::System;
use tokio::sync::mpsc;

const START: Timestamp = Timestamp(1_700_000_000_000_000);

/// What a node of these tests does when it is called.
#[derive(Clone, Debug)]
enum Act {
    Give(Value),
    Fail(ErrorClass),
    /// Fails with a Retry-After.
    Later(ErrorClass, Duration),
    /// Is put off for so long before anything is sent.
    PutOff(Duration),
    /// Fails, and allows so many attempts in all.
    FailWithin(ErrorClass, u32),
    /// A write whose answer is lost; `true` when it happened all the same.
    Lose(bool),
    Panic,
    /// Never answers; meanwhile the clock goes on by so much.
    Hang(Duration),
}

/// What a node does at its n-th call with an input, from 0.
type Script = Arc<dyn Fn(usize, &Value) -> Act + Send + Sync>;

#[derive(Clone)]
struct Stub {
    name: &'static str,
    effect: Effect,
    settlement: Settlement,
    script: Script,
    world: World,
}

impl std::fmt::Debug for Stub {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

/// What the nodes saw and made.
#[derive(Clone, Debug)]
struct World {
    clock: SimClock,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Seconds since the start, the node, and its input.
    calls: Vec<(u64, String)>,
    count: BTreeMap<String, usize>,
    /// What writes did, by effect id.
    happened: Vec<(String, Value)>,
    at_once: usize,
    most_at_once: usize,
}

impl World {
    fn calls(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.calls.iter().map(|(second, call)| format!("{second} {call}")).collect()
    }

    fn happened(&self) -> usize {
        self.seen.lock().unwrap().happened.len()
    }
}

#[async_trait]
impl Node for Stub {
    fn name(&self) -> &str {
        self.name
    }
    fn docs(&self) -> String {
        "A node of a test.".to_owned()
    }
    fn example(&self) -> &str {
        "{}"
    }
    fn input_schema(&self) -> serde_json::Value {
        serde_json::json!({ "type": "object" })
    }
    fn output_schema(&self) -> Option<serde_json::Value> {
        None
    }
    fn expressions(&self) -> &'static [ExpressionKey] {
        &[]
    }
    fn literals(&self) -> &'static [&'static str] {
        &[]
    }
    fn effect(&self, _: &Value) -> Effect {
        self.effect
    }
    fn check(&self, _: &Value) -> Vec<(Option<String>, String)> {
        Vec::new()
    }
    fn settlement(&self, _: &Value) -> Settlement {
        self.settlement
    }

    async fn run(&self, input: Value, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let number = {
            let mut seen = self.world.seen.lock().unwrap();
            let second = self.world.clock_now().since(START).micros() / 1_000_000;
            seen.calls.push((second, format!("{} {input}", self.name)));
            seen.at_once += 1;
            seen.most_at_once = seen.most_at_once.max(seen.at_once);
            let count = seen.count.entry(format!("{} {input}", self.name)).or_default();
            *count += 1;
            *count - 1
        };
        // Others that may run at the same time get their turn.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        self.world.seen.lock().unwrap().at_once -= 1;
        let happens = |output: &Value| {
            if let Some(effect) = ctx.effect {
                self.world.seen.lock().unwrap().happened.push((effect.id.to_string(), output.clone()));
            }
        };
        match (self.script)(number, &input) {
            Act::Give(output) => {
                happens(&output);
                Ok(Outcome::Done(output))
            }
            Act::Fail(class) => Err(NodeError::message(class, format!("{} fails", self.name))),
            Act::Later(class, after) => {
                let error = NodeError::message(class, format!("{} fails", self.name));
                Err(NodeError { retry_after: Some(after), ..error })
            }
            Act::Lose(made) => {
                if made {
                    happens(&input);
                }
                Err(NodeError::message(ErrorClass::Timeout, "no answer").perhaps())
            }
            Act::PutOff(length) => {
                let until = self.world.clock_now().plus(length);
                Ok(Outcome::Later { until, reason: "the limit is reached".to_owned() })
            }
            Act::FailWithin(class, attempts) => {
                let error = NodeError::message(class, format!("{} fails", self.name));
                Err(NodeError { attempts: Some(attempts), ..error })
            }
            Act::Panic => panic!("{} breaks", self.name),
            Act::Hang(length) => {
                self.world.clock.advance(length);
                std::future::pending().await
            }
        }
    }

    async fn reconcile(&self, input: Value, ctx: &StepContext<'_>) -> Result<Reconciled, NodeError> {
        let id = ctx.effect.map(|effect| effect.id.to_string()).unwrap_or_default();
        let seen = self.world.seen.lock().unwrap();
        let found = seen.happened.iter().any(|(effect, _)| *effect == id);
        Ok(if found {
            Reconciled::Found(vec![Candidate { remote_id: id, output: input }])
        } else {
            Reconciled::NotFound
        })
    }
}

impl World {
    fn clock_now(&self) -> Timestamp {
        pipewright::system::Clock::now(&self.clock)
    }
}

/// A project in a folder of its own, with nodes that follow scripts.
struct Stage {
    folder: tempfile::TempDir,
    system: System,
    world: World,
    nodes: Vec<Arc<dyn Node>>,
    /// How long after a doubt the remote is asked; nothing where no question is waited for.
    asked_after: Option<Duration>,
    secrets: Arc<dyn SecretSource>,
    services: Services,
    http: Arc<dyn Transport>,
}

/// A run that was executed as far as it goes.
struct Played {
    run: RunId,
    execution: Execution,
    journal: Vec<RunEvent>,
}

impl Stage {
    fn new() -> Self {
        let (system, clock) = System::simulated(START, 7);
        let world = World { clock, seen: Arc::default() };
        let nodes = pipewright::nodes::registry().iter().cloned().collect();
        Self {
            folder: tempfile::tempdir().unwrap(),
            system,
            world,
            nodes,
            asked_after: None,
            secrets: Arc::new(NoSecrets),
            services: Services::default(),
            http: Arc::new(ReqwestTransport::new()),
        }
    }

    /// Adds a node that reads.
    fn read(self, name: &'static str, script: impl Fn(usize, &Value) -> Act + Send + Sync + 'static) -> Self {
        self.node(name, Effect::Read, Settlement::default(), script)
    }

    /// Adds a node that writes.
    fn write(
        self,
        name: &'static str,
        settlement: Settlement,
        script: impl Fn(usize, &Value) -> Act + Send + Sync + 'static,
    ) -> Self {
        self.node(name, Effect::Write(WriteKind::Create), settlement, script)
    }

    fn node(
        mut self,
        name: &'static str,
        effect: Effect,
        settlement: Settlement,
        script: impl Fn(usize, &Value) -> Act + Send + Sync + 'static,
    ) -> Self {
        let (script, world) = (Arc::new(script), self.world.clone());
        if settlement.reconcile {
            // The send window, the time-out and the time that the remote may take.
            self.asked_after = Some(Duration::from_secs(10).plus(settlement.timeout).plus(settlement.settle));
        }
        self.nodes.push(Arc::new(Stub { name, effect, settlement, script, world }));
        self
    }

    fn registry(&self) -> Registry {
        let library = Arc::new(Library::open(self.folder.path()));
        Registry::new(self.nodes.iter().cloned()).with_operations(library)
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.folder.path().join("pipelines").join(format!("{name}.yaml"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn pipeline(&self, text: &str) -> Arc<Pipeline> {
        self.file("test", text);
        let loaded = Catalog::open(self.folder.path(), self.registry()).load("test").unwrap();
        loaded.pipeline.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics))
    }

    /// Opens an engine as a process would; a second one is a restart.
    async fn engine(&self) -> Engine {
        let url = format!("sqlite://{}", self.folder.path().join("state.db").display());
        let key = MasterKey::from_base64("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").unwrap();
        let options = OpenOptions { sealer: Some(Arc::new(key)), ..OpenOptions::default() };
        let root = self.folder.path().to_owned();
        Engine::new(Parts {
            system: self.system.clone(),
            store: Store::open(&url, options).await.unwrap(),
            http: self.http.clone(),
            access: Access { root, files_outside: false, shell: false, databases: Vec::new(), rehearsal: false },
            secrets: self.secrets.clone(),
            owner: "test".to_owned(),
            owner_is_gone: |_| true,
            send_window: Duration::from_secs(10),
            services: self.services.clone(),
            probe: Probe::default(),
            tape: Default::default(),
        })
    }

    /// Runs a pipeline as far as it goes, moving the clock to whatever it waits for.
    async fn play(&self, text: &str) -> Played {
        let engine = self.engine().await;
        let pipeline = self.pipeline(text);
        let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
        self.resume(&engine, run, &pipeline, ExecuteOptions::default()).await
    }

    async fn resume(&self, engine: &Engine, run: RunId, pipeline: &Arc<Pipeline>, options: ExecuteOptions) -> Played {
        let (observer, events) = mpsc::unbounded_channel();
        let moving = tokio::spawn(move_on(self.world.clone(), self.asked_after, events));
        let options = ExecuteOptions { observer: Some(observer), ..options };
        let execution = engine.execute(run, pipeline.clone(), options).await.unwrap();
        moving.await.unwrap();
        self.played(engine, run, execution).await
    }

    async fn retry(&self, engine: &Engine, run: RunId, pipeline: &Arc<Pipeline>, from: Option<&str>) -> Played {
        let (observer, events) = mpsc::unbounded_channel();
        let moving = tokio::spawn(move_on(self.world.clone(), self.asked_after, events));
        let options = ExecuteOptions { observer: Some(observer), ..ExecuteOptions::default() };
        let from = from.map(str::to_owned);
        let execution = engine.retry(run, pipeline.clone(), from, options).await.unwrap();
        moving.await.unwrap();
        self.played(engine, run, execution).await
    }

    async fn played(&self, engine: &Engine, run: RunId, execution: Execution) -> Played {
        let journal = engine.parts().store.journal(run).await.unwrap();
        Played { run, execution, journal }
    }
}

/// Moves the clock to every moment that the run sleeps until.
async fn move_on(world: World, asked_after: Option<Duration>, mut events: mpsc::UnboundedReceiver<(RunId, RunEvent)>) {
    while let Some((_, event)) = events.recv().await {
        let until = match event {
            RunEvent::Failed { retry_at, .. } => retry_at,
            RunEvent::Waiting { until, .. } => until,
            RunEvent::Round { until, .. } => Some(until),
            RunEvent::InDoubt { at, .. } => asked_after.map(|length| at.plus(length)),
            _ => None,
        };
        if let Some(until) = until {
            world.clock.advance_to(until);
        }
    }
}

impl Played {
    /// Returns the outputs of a run that succeeded, as JSON.
    #[track_caller]
    fn outputs(&self) -> String {
        match &self.execution {
            Execution::Finished { state: RunState::Succeeded, outputs, .. } => outputs.to_string(),
            other => panic!("{other:?}\n{}", self.told()),
        }
    }

    /// Returns class and message of a run that failed.
    #[track_caller]
    fn failure(&self) -> String {
        match &self.execution {
            Execution::Finished { state: RunState::Failed, error: Some(error), .. } => {
                format!("{}: {}", error.class.name(), error.message)
            }
            other => panic!("{other:?}\n{}", self.told()),
        }
    }

    /// Returns why the run waits.
    #[track_caller]
    fn waits(&self) -> String {
        match &self.execution {
            Execution::Waiting { reason, .. } => reason.clone(),
            other => panic!("{other:?}\n{}", self.told()),
        }
    }

    /// Lists the ends of step runs in their order.
    fn ends(&self) -> Vec<String> {
        let end = |event: &RunEvent| {
            let word = match event {
                RunEvent::Succeeded { .. } => "succeeded",
                RunEvent::Failed { retry_at: None, .. } => "failed",
                RunEvent::Skipped { .. } => "skipped",
                RunEvent::StepCanceled { .. } => "canceled",
                _ => return None,
            };
            Some(format!("{} {word}", event.path()?))
        };
        self.journal.iter().filter_map(end).collect()
    }

    fn told(&self) -> String {
        self.journal.iter().map(|event| format!("{event:?}\n")).collect()
    }
}

fn give(value: impl Into<Value>) -> Act {
    Act::Give(value.into())
}

/// Nothing settles a doubt but a person.
fn held() -> Settlement {
    Settlement { timeout: Duration::from_secs(5), ..Settlement::default() }
}

fn repeatable() -> Settlement {
    Settlement { repeat: Repeat::Always, ..held() }
}

fn askable() -> Settlement {
    Settlement { reconcile: true, settle: Duration::from_secs(3), ..held() }
}
