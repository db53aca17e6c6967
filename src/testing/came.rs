//! What came of a case: what its run, its sandbox and its people say afterwards.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use super::case::Case;
use super::play::End;
use super::then::EFFECT_KINDS;
use super::then::EFFECT_STATES;
use crate::connector::runtime::RulesApplied;
use crate::diag::Diagnostic;
use crate::engine::Execution;
use crate::engine::Machine;
use crate::engine::SecretSource;
use crate::model::Map;
use crate::model::Phase;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::WriteKind;
use crate::pipeline::Pipeline;
use crate::sandbox::world::Seen;
use crate::sandbox::world::World;
use crate::store::EffectFilter;
use crate::store::EffectRecord;
use crate::store::EffectState;
use crate::store::LogLine;
use crate::store::Store;
use crate::template::Lookup;
use crate::template::Scope;
use crate::template::StepView;

/// A run and all that was executed below it, each with its journal.
pub type Journals = Vec<(RunId, Arc<Pipeline>, Vec<RunEvent>)>;

/// A case that was played.
#[derive(Clone, Debug)]
pub struct Played {
    pub pipeline: Arc<Pipeline>,
    pub case: Arc<Case>,
    pub end: End,
    /// Nothing where it did not begin.
    pub run: Option<RunId>,
    pub start: Timestamp,
    /// When it ended, on its own clock.
    pub now: Timestamp,
    /// Its run first, then child runs in the order in which they were made.
    pub journals: Journals,
    /// In the order in which they were intended.
    pub effects: Vec<EffectRecord>,
    pub logs: Vec<LogLine>,
    pub world: Option<Arc<World>>,
    /// What the files hold that are asked for; nothing where there is none.
    pub files: Vec<(Arc<str>, Option<String>)>,
    /// Which error rules were applied, by each process that the case had.
    pub rules: Vec<RulesApplied>,
    pub secrets: Option<Arc<dyn SecretSource>>,
    /// What is wrong with the case itself.
    pub problems: Vec<Diagnostic>,
    /// How long the machine took.
    pub took: std::time::Duration,
}

/// A step as its run left it.
#[derive(Clone, Debug)]
struct Steps(HashMap<String, StepView>);

impl Lookup for Steps {
    fn step(&self, id: &str) -> Option<StepView> {
        self.0.get(id).cloned()
    }

    fn secret(&self, name: &str) -> Result<Value, String> {
        Err(format!("a test does not read secrets, and `{name}` is one"))
    }
}

impl Played {
    /// Makes what comes of a case that did not begin.
    pub(super) fn without_run(pipeline: &Arc<Pipeline>, case: &Arc<Case>, end: End) -> Self {
        let start = case.given.clock;
        Self {
            pipeline: pipeline.clone(),
            case: case.clone(),
            end,
            run: None,
            start,
            now: start,
            journals: Vec::new(),
            effects: Vec::new(),
            logs: Vec::new(),
            world: None,
            files: Vec::new(),
            rules: Vec::new(),
            secrets: None,
            problems: Vec::new(),
            took: std::time::Duration::ZERO,
        }
    }

    /// Reads from the store what came of the run and of those below it.
    pub(super) async fn read(&mut self, store: &Store, run: RunId) -> Result<(), crate::store::Error> {
        let mut open = vec![(run, self.pipeline.clone())];
        while let Some((run, pipeline)) = open.pop() {
            let events = store.journal(run).await?;
            let mut children = Vec::new();
            for event in &events {
                let RunEvent::Child { path, run: child, .. } = event else { continue };
                let graph = pipeline.graph(path.phase);
                if let Some(step) = graph.step(&path.step).and_then(|step| step.child.clone()) {
                    children.push((*child, step));
                }
            }
            self.journals.push((run, pipeline, events));
            open.extend(children.into_iter().rev());
        }
        let mut effects = Vec::new();
        for record in store.effects(&EffectFilter::default()).await?.into_iter().rev() {
            let is_message = record.kind == WriteKind::Message;
            let whole = if is_message { store.effect(&record.id).await? } else { None };
            effects.push(whole.unwrap_or(record));
        }
        self.effects = effects;
        if self.case.then.logs.is_some() {
            for (run, ..) in &self.journals {
                self.logs.extend(store.logs(*run).await?);
            }
        }
        Ok(())
    }

    /// Hides the secrets of the case in a text.
    #[must_use]
    pub fn masked(&self, text: String) -> String {
        match &self.secrets {
            Some(secrets) => secrets.mask(text),
            None => text,
        }
    }

    /// Returns the events of the case's own run.
    #[must_use]
    pub fn events(&self) -> &[RunEvent] {
        self.journals.first().map_or(&[], |(_, _, events)| events)
    }

    /// Returns the state that the run came to.
    #[must_use]
    pub fn state(&self) -> RunState {
        match &self.end {
            End::Execution(Execution::Finished { state, .. }) => *state,
            End::Execution(Execution::Waiting { .. }) | End::TooLong(_) => RunState::Waiting,
            _ => RunState::Running,
        }
    }

    /// Returns why the run failed, if it did.
    #[must_use]
    pub fn error(&self) -> Option<&StepError> {
        match &self.end {
            End::Execution(Execution::Finished { error, .. }) => error.as_ref(),
            _ => None,
        }
    }

    /// Returns why the run waits, if it does.
    #[must_use]
    pub fn waits(&self) -> Option<&str> {
        match &self.end {
            End::Execution(Execution::Waiting { reason, .. }) => Some(reason),
            _ => None,
        }
    }

    #[must_use]
    pub fn outputs(&self) -> Value {
        match &self.end {
            End::Execution(Execution::Finished { outputs, .. }) => outputs.clone(),
            _ => Value::map::<&str>([]),
        }
    }

    /// Returns the records of all steps by their ids: `{ state, output, error, attempts, … }`.
    #[must_use]
    pub fn steps(&self) -> Map {
        let events = self.events();
        let machine = Machine::replay(self.pipeline.clone(), events);
        let mut steps = Map::new();
        let parts = [Phase::Main, Phase::OnFailure, Phase::Finally];
        for phase in parts {
            for (index, step) in self.pipeline.graph(phase).steps.iter().enumerate() {
                let view = machine.view(phase, index);
                steps.insert(step.id.clone(), record(phase, &step.id, view.as_ref(), events));
            }
        }
        steps
    }

    /// Makes the scope in which the expressions of the case are evaluated.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let machine = Machine::replay(self.pipeline.clone(), self.events());
        let (mut views, mut attempts) = (HashMap::new(), Map::new());
        for phase in [Phase::Main, Phase::OnFailure, Phase::Finally] {
            for (index, step) in self.pipeline.graph(phase).steps.iter().enumerate() {
                let pending = || StepView { output: Value::Null, state: crate::model::StepState::Pending, error: None };
                views.insert(step.id.to_string(), machine.view(phase, index).unwrap_or_else(pending));
                attempts.insert(step.id.clone(), Value::from(attempts_of(phase, &step.id, self.events())));
            }
        }
        let locals = vec![
            ("outputs", self.outputs()),
            ("attempts", Value::from(attempts)),
            ("sandbox", self.sandbox()),
            ("requests", self.requests()),
            ("messages", Value::list(self.messages())),
            ("effects", self.effects_value()),
            ("asks", Value::list(self.asks())),
            ("logs", Value::list(self.log_lines())),
        ];
        let run = Value::map([
            ("state", Value::from(self.state().name())),
            ("error", self.error().map_or(Value::Null, StepError::to_value)),
            ("took", Value::Duration(self.now.since(self.start))),
            ("id", self.run.map_or(Value::Null, |run| Value::from(run.to_string()))),
        ]);
        let inputs = Value::map(self.case.given.inputs.iter().map(|(name, value, _)| (name.clone(), value.clone())));
        let globals = vec![("inputs".into(), inputs), ("run".into(), run)];
        Scope { lookup: Arc::new(Steps(views)), globals: Arc::new(globals), locals, now: self.now }
    }

    /// Returns what each stand-in holds that was asked or given something.
    fn sandbox(&self) -> Value {
        let Some(world) = &self.world else { return Value::Null };
        let mut names: BTreeSet<Arc<str>> = world.asked().into_iter().map(|(name, _)| name).collect();
        names.extend(self.case.given.sandbox.iter().map(|load| load.stand.0.clone()));
        Value::map(names.into_iter().filter_map(|name| Some((name.clone(), self.stand(&name)?))))
    }

    /// Returns what a stand-in holds, by its own name or that of a connection.
    #[must_use]
    pub fn stand(&self, name: &str) -> Option<Value> {
        let world = self.world.as_ref()?;
        world.seat(&world.stand_of_connection(name)).ok().map(|seat| seat.state())
    }

    /// Lists what was received: with the name of the stand-in, and of its connector, in order of time.
    #[must_use]
    pub fn received(&self) -> Vec<(Arc<str>, Arc<str>, Seen)> {
        let Some(world) = &self.world else { return Vec::new() };
        let mut all = Vec::new();
        for (name, seen) in world.asked() {
            let connector = world.seat(&name).map_or_else(|_| name.clone(), |seat| seat.connector.clone());
            all.extend(seen.into_iter().map(|one| (name.clone(), connector.clone(), one)));
        }
        all.sort_by_key(|(_, _, seen)| seen.at);
        all
    }

    /// Counts the requests that a name means: of an operation, of a stand-in, or of a method and a path.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        let received = self.received();
        let stand = |name: &str| self.world.as_ref().map(|world| world.stand_of_connection(name));
        received
            .iter()
            .filter(|(own, connector, seen)| {
                let is_stand = |wanted: &str| {
                    **own == *wanted || **connector == *wanted || stand(wanted).is_some_and(|stand| stand == *own)
                };
                match (name.split_once('.'), name.split_once(' ')) {
                    (_, Some((method, path))) => seen.method == method && seen.path == path,
                    (Some((wanted, operation)), None) => {
                        is_stand(wanted) && seen.operation.as_deref() == Some(operation)
                    }
                    (None, None) => is_stand(name),
                }
            })
            .count()
    }

    fn requests(&self) -> Value {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for (stand, _, seen) in self.received() {
            let operation =
                seen.operation.as_deref().map_or_else(|| seen.path.clone(), |name| format!("{stand}.{name}"));
            *counts.entry(operation).or_default() += 1;
        }
        Value::map(counts.into_iter().map(|(name, count)| (name, Value::from(count))))
    }

    /// Names the node of a step run.
    fn node_of(&self, run: RunId, path: &StepPath) -> Option<Arc<str>> {
        let (_, pipeline, _) = self.journals.iter().find(|(own, ..)| *own == run)?;
        let step = pipeline.graph(path.phase).step(&path.step)?;
        let undo = step.undo.as_ref().filter(|_| path.phase == Phase::Undo);
        Some(undo.map_or(&step.node, |undo| &undo.node).name().into())
    }

    /// Lists the messages that were delivered: what their steps were given, with `operation`, `connector` and `step`.
    #[must_use]
    pub fn messages(&self) -> Vec<Value> {
        let delivered =
            |record: &&EffectRecord| record.kind == WriteKind::Message && record.state == EffectState::Confirmed;
        let message = |record: &EffectRecord| {
            let operation = self.node_of(record.run, &record.path).unwrap_or_default();
            let connector = operation.split('.').next().unwrap_or_default();
            let request = record.request.clone().unwrap_or_default();
            let mut map = request.as_map().cloned().unwrap_or_default();
            map.insert("step".into(), Value::from(&*record.path.step));
            map.insert("connector".into(), Value::from(connector));
            map.insert("operation".into(), Value::from(&*operation));
            Value::from(map)
        };
        self.effects.iter().filter(delivered).map(message).collect()
    }

    /// Lists the messages over a connection, of a connector, or by an operation.
    #[must_use]
    pub fn messages_of(&self, name: &str) -> Vec<Value> {
        let is = |message: &Value, key: &str| message.get(key).and_then(Value::as_str) == Some(name);
        let keys = ["connection", "connector", "operation"];
        self.messages().into_iter().filter(|message| keys.iter().any(|key| is(message, key))).collect()
    }

    /// Counts the effects that came about by kind, and those that did not by their state.
    #[must_use]
    pub fn effects_value(&self) -> Value {
        let count = |is: &dyn Fn(&EffectRecord) -> bool| self.effects.iter().filter(|record| is(record)).count();
        let kinds = EFFECT_KINDS.iter().map(|kind| {
            (*kind, count(&|record| record.state == EffectState::Confirmed && record.kind.name() == *kind))
        });
        let states = EFFECT_STATES.iter().map(|state| (*state, count(&|record| record.state.name() == *state)));
        Value::map(kinds.chain(states).map(|(name, count)| (name, counted(count))))
    }

    /// Lists what was asked of people, with the step that asked.
    #[must_use]
    pub fn asks(&self) -> Vec<Value> {
        let mut asks = Vec::new();
        for event in self.journals.iter().flat_map(|(_, _, events)| events) {
            let RunEvent::Asked { path, ask, .. } = event else { continue };
            let mut map = ask.request.as_map().cloned().unwrap_or_default();
            map.insert("step".into(), Value::from(&*path.step));
            asks.push(Value::from(map));
        }
        asks
    }

    /// Lists the lines of the log: `{ step, level, message }`.
    #[must_use]
    pub fn log_lines(&self) -> Vec<Value> {
        let line = |line: &LogLine| {
            let level = serde_json::to_value(line.level).ok();
            let level = level.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
            Value::map([
                ("step", line.path.as_ref().map_or(Value::Null, |path| Value::from(&*path.step))),
                ("level", Value::from(level)),
                ("message", Value::from(line.message.as_str())),
            ])
        };
        self.logs.iter().map(line).collect()
    }
}

/// Returns a number of things.
#[must_use]
pub fn counted(count: usize) -> Value {
    Value::Int(count as i128)
}

/// Makes the record of a step.
fn record(phase: Phase, id: &str, view: Option<&StepView>, events: &[RunEvent]) -> Value {
    let of = |event: &&RunEvent| event.path().is_some_and(|path| path.phase == phase && *path.step == *id);
    let mut map = Map::new();
    let state = view.map_or("pending", |view| view.state.name());
    map.insert("state".into(), Value::from(state));
    if let Some(view) = view {
        map.insert("output".into(), view.output.clone());
        map.insert("error".into(), view.error.as_ref().map_or(Value::Null, StepError::to_value));
    }
    let skipped = events.iter().filter(of).find_map(|event| match event {
        RunEvent::Skipped { reason, .. } => Some(Value::from(&**reason)),
        _ => None,
    });
    map.insert("skipped".into(), skipped.unwrap_or_default());
    map.insert("attempts".into(), Value::from(attempts_of(phase, id, events)));
    let rounds = events.iter().filter(of).filter(|event| matches!(event, RunEvent::Round { .. })).count();
    map.insert("rounds".into(), counted(rounds + usize::from(state == "succeeded")));
    let undone = events.iter().filter(
        |event| matches!(event, RunEvent::Succeeded { path, .. } if path.phase == Phase::Undo && *path.step == *id),
    );
    map.insert("undone".into(), counted(undone.count()));
    let items = items(&events.iter().filter(of).collect::<Vec<_>>());
    map.insert("items".into(), Value::list(items));
    Value::from(map)
}

/// Counts the attempts of a step, of all its items and rounds.
fn attempts_of(phase: Phase, id: &str, events: &[RunEvent]) -> u64 {
    let mut most: HashMap<&StepPath, u32> = HashMap::new();
    for event in events {
        let (path, attempt) = match event {
            RunEvent::StepStarted { path, attempt, .. }
            | RunEvent::Intent { path, attempt, .. }
            | RunEvent::Succeeded { path, attempt, .. }
            | RunEvent::Failed { path, attempt, .. }
            | RunEvent::Round { path, attempt, .. } => (path, *attempt),
            _ => continue,
        };
        if path.phase == phase && *path.step == *id {
            let most = most.entry(path).or_default();
            *most = (*most).max(attempt);
        }
    }
    most.values().map(|attempts| u64::from(*attempts)).sum()
}

/// Makes the records of the items of a step.
fn items(events: &[&RunEvent]) -> Vec<Value> {
    let mut items: BTreeMap<u32, Map> = BTreeMap::new();
    for event in events {
        let Some(item) = event.path().and_then(|path| path.item) else { continue };
        let map = items.entry(item).or_default();
        let mut put = |key: &str, value: Value| {
            map.insert(key.into(), value);
        };
        match event {
            RunEvent::Succeeded { output, attempt, .. } => {
                put("state", Value::from("succeeded"));
                put("output", output.clone());
                put("attempts", Value::from(*attempt));
            }
            RunEvent::Failed { error, attempt, retry_at: None, .. } => {
                put("state", Value::from("failed"));
                put("error", error.to_value());
                put("attempts", Value::from(*attempt));
            }
            RunEvent::Skipped { reason, .. } => {
                put("state", Value::from("skipped"));
                put("skipped", Value::from(&**reason));
            }
            _ => {}
        }
    }
    items.into_values().map(Value::from).collect()
}
