//! The machine against a small world: any graph, any order of completion, a crash behind any event.

use std::collections::BTreeMap;
use std::collections::HashMap;

use async_trait::async_trait;
use petgraph::graph::DiGraph;
use proptest::prelude::*;

use super::*;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::EffectId;
use crate::model::ErrorClass;
use crate::model::InDoubt;
use crate::model::Settlement;
use crate::model::VersionId;
use crate::model::WriteKind;
use crate::node::ExpressionKey;
use crate::node::Node;
use crate::node::NodeError;
use crate::node::Outcome;
use crate::node::Reconciled;
use crate::node::StepContext;
use crate::pipeline::Durability;
use crate::pipeline::OnError;
use crate::pipeline::Retry;
use crate::pipeline::Undo;
use crate::template::TemplateTree;

#[derive(Debug)]
struct Nothing;

#[async_trait]
impl Node for Nothing {
    fn name(&self) -> &str {
        "test.nothing"
    }
    fn docs(&self) -> String {
        String::new()
    }
    fn example(&self) -> &str {
        ""
    }
    fn input_schema(&self) -> serde_json::Value {
        serde_json::Value::Bool(true)
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
        Effect::Pure
    }
    fn check(&self, _: &Value) -> Vec<(Option<String>, String)> {
        Vec::new()
    }
    fn settlement(&self, _: &Value) -> Settlement {
        Settlement::default()
    }
    async fn run(&self, _: Value, _: &StepContext<'_>) -> Result<Outcome, NodeError> {
        Ok(Outcome::Done(Value::Null))
    }
    async fn reconcile(&self, _: Value, _: &StepContext<'_>) -> Result<Reconciled, NodeError> {
        Ok(Reconciled::NotFound)
    }
}

/// What the small world does with a step.
#[derive(Clone, Debug, Default)]
struct Plan {
    needs: Vec<usize>,
    items: Option<usize>,
    skipped: bool,
    fails: bool,
    continues: bool,
    write: bool,
    undo: bool,
    max_parallel: usize,
    sequential: bool,
}

fn step(index: usize, plan: &Plan) -> Step {
    let undo = plan.undo.then(|| {
        Arc::new(Undo {
            node: Arc::new(Nothing),
            child: None,
            effect: Effect::Pure,
            with: TemplateTree::Literal(Value::Null),
            expressions: Vec::new(),
            calls: Vec::new(),
            retry: Retry::default(),
            timeout: None,
        })
    });
    Step {
        id: format!("s{index}").into(),
        node: Arc::new(Nothing),
        effect: if plan.write { Effect::Write(WriteKind::Create) } else { Effect::Pure },
        with: TemplateTree::Literal(Value::Null),
        expressions: Vec::new(),
        calls: Vec::new(),
        child: None,
        spread: false,
        needs: plan.needs.clone(),
        when: None,
        for_each: None,
        max_parallel: if plan.sequential { 1 } else { plan.max_parallel.max(1) },
        sequential: plan.sequential,
        at: None,
        delay: None,
        until: None,
        retry: Retry::default(),
        timeout: None,
        on_error: if plan.continues { OnError::Continue } else { OnError::Fail },
        in_doubt: InDoubt::Hold,
        undo,
        irreversible: false,
        cache: None,
        key: None,
        locks: Vec::new(),
        priority: u8::try_from(index % 3).unwrap(),
        into: None,
    }
}

fn graph(plans: &[Plan]) -> Graph {
    let steps: Vec<_> = plans.iter().enumerate().map(|(index, plan)| step(index, plan)).collect();
    let mut dag = DiGraph::new();
    let nodes: Vec<_> = (0..steps.len()).map(|index| dag.add_node(index)).collect();
    for (index, plan) in plans.iter().enumerate() {
        for need in &plan.needs {
            dag.add_edge(nodes[*need], nodes[index], ());
        }
    }
    let index: HashMap<_, _> = steps.iter().enumerate().map(|(index, step)| (step.id.clone(), index)).collect();
    Graph { steps, dag, index }
}

fn pipeline(plans: &[Plan], max_parallel: usize) -> Arc<Pipeline> {
    let phase = [Plan::default()];
    Arc::new(Pipeline {
        name: "test".into(),
        description: None,
        version: VersionId("0".into()),
        definition: "".into(),
        inputs: Vec::new(),
        main: graph(plans),
        on_failure: graph(&phase),
        finally: graph(&phase),
        outputs: Vec::new(),
        triggers: Vec::new(),
        timeout: None,
        deadline: None,
        priority: 5,
        durability: Durability::Effects,
        guards_before: Vec::new(),
        guards_plan: Vec::new(),
        guards_after: Vec::new(),
        max_parallel,
        concurrency: None,
        locks: Vec::new(),
        not_yet: Vec::new(),
        composite: false,
    })
}

/// Drives a machine through the small world.
struct World {
    plans: Vec<Plan>,
    random: fastrand::Rng,
    journal: Vec<RunEvent>,
    /// How often each write arrived in the world.
    arrived: BTreeMap<String, usize>,
    now: Timestamp,
}

impl World {
    fn new(plans: &[Plan], seed: u64) -> Self {
        Self {
            plans: plans.to_vec(),
            random: fastrand::Rng::with_seed(seed),
            journal: Vec::new(),
            arrived: BTreeMap::new(),
            now: Timestamp(1),
        }
    }

    /// Runs to the end, or until an event would follow the first `crash` ones: it is lost, though what it tells of
    /// happened.
    fn run(&mut self, pipeline: &Arc<Pipeline>, crash: Option<usize>) -> bool {
        let mut machine = Machine::replay(pipeline.clone(), &self.journal);
        machine.resume(self.now);
        let mut flying = Vec::new();
        for _ in 0..100_000 {
            self.now = self.now.plus(Duration::from_secs(1));
            self.journal.extend(machine.take_events());
            if let Some(crash) = crash.filter(|crash| self.journal.len() > *crash) {
                self.journal.truncate(crash);
                return false;
            }
            if machine.finished().is_some() {
                return true;
            }
            assert!(machine.flying() <= pipeline.max_parallel, "too much at once");
            let start = flying.is_empty() || self.random.bool();
            if let Some(task) = start.then(|| machine.next_task()).flatten() {
                self.begin(&mut machine, &task, &mut flying);
            } else if flying.is_empty() {
                let wake = machine.next_wake().expect("nothing flies, nothing is ready, and nobody sleeps");
                self.now = wake;
                machine.wake(self.now);
            } else {
                let key = flying.swap_remove(self.random.usize(..flying.len()));
                self.end(&mut machine, key);
            }
        }
        panic!("the run does not end");
    }

    fn begin(&mut self, machine: &mut Machine, task: &Task, flying: &mut Vec<UnitKey>) {
        match *task {
            Task::Prepare { phase: Phase::Main, step } => {
                let plan = self.plans[step].clone();
                for need in &plan.needs {
                    let view = machine.view(Phase::Main, *need).unwrap();
                    assert!(view.state.is_final(), "step {step} starts before step {need} has ended");
                }
                match plan.items {
                    _ if plan.skipped => machine.skip_step(Phase::Main, step, "when", self.now),
                    Some(count) => {
                        let items = (0..count).map(|item| Value::from(u32::try_from(item).unwrap())).collect();
                        machine.begin_items(Phase::Main, step, Value::list(items), self.now);
                    }
                    None => machine.begin_step(Phase::Main, step),
                }
            }
            Task::Prepare { phase, step } => machine.begin_step(phase, step),
            Task::Run(key) => {
                if key.phase == Phase::Main && key.item.is_some_and(|item| item > 0) {
                    let plan = &self.plans[key.step];
                    let before = machine.previous(key).is_some_and(|output| !output.is_null());
                    assert!(before || !plan.sequential || plan.fails, "an item begins before the one before has ended");
                }
                machine.start_attempt(key, false, self.now);
                if key.phase == Phase::Main && self.plans[key.step].write {
                    let id = EffectId(machine.path(key).to_string().into());
                    let intent = EffectIntent {
                        key: id.0.clone(),
                        id,
                        kind: WriteKind::Create,
                        request: Value::Null,
                        send_before: self.now,
                        answer_before: self.now,
                        fingerprint: None,
                    };
                    machine.intend(key, intent, self.now);
                }
                flying.push(key);
            }
            // The small world's remote can be asked, and answers truly.
            Task::Settle(key) => {
                let arrived = self.arrived.contains_key(&machine.path(key).to_string());
                let verdict = if arrived {
                    Verdict::Happened { output: self.output(machine, key), remote_id: None }
                } else {
                    Verdict::SendAgain
                };
                machine.settle(key, SettledBy::Reconcile, verdict, self.now);
            }
            Task::Conclude => machine.conclude(Ok(Value::Null), self.now),
        }
    }

    fn end(&mut self, machine: &mut Machine, key: UnitKey) {
        let plan = if key.phase == Phase::Main { self.plans[key.step].clone() } else { Plan::default() };
        if plan.fails && key.item.is_none_or(|item| item == 1) {
            let error = StepError { class: ErrorClass::Rejected, message: "no".into() };
            return machine.fail(key, self.now, error, None, self.now);
        }
        if plan.write {
            *self.arrived.entry(machine.path(key).to_string()).or_default() += 1;
        }
        let output = self.output(machine, key);
        machine.succeed(key, self.now, output, None, self.now);
    }

    /// The output of a step run: a number that depends on what it needs and on its item.
    fn output(&self, machine: &Machine, key: UnitKey) -> Value {
        if key.phase != Phase::Main {
            return Value::Null;
        }
        let mut sum = i128::try_from(key.step).unwrap() * 7 + i128::from(key.item.unwrap_or(0));
        for need in &self.plans[key.step].needs {
            let text = machine.view(Phase::Main, *need).unwrap().output.to_string();
            sum += text.bytes().map(i128::from).sum::<i128>();
        }
        Value::Int(sum)
    }

    /// Says what each step came to, whatever the order was.
    fn results(&self, pipeline: &Arc<Pipeline>) -> Vec<(StepState, String)> {
        let machine = Machine::replay(pipeline.clone(), &self.journal);
        let views = (0..self.plans.len()).map(|step| machine.view(Phase::Main, step).unwrap());
        views.map(|view| (view.state, view.output.to_string())).collect()
    }
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let plan = (any::<u64>(), proptest::option::weighted(0.3, 0_usize..5), any::<[bool; 6]>(), 1_usize..4);
    proptest::collection::vec(plan, 1..9).prop_map(|drawn| {
        let plans = drawn.into_iter().enumerate().map(|(index, (bits, items, flags, max_parallel))| Plan {
            needs: (0..index).filter(|need| bits >> need & 1 == 1).collect(),
            items,
            skipped: flags[0] && flags[1],
            fails: flags[2] && flags[3] && flags[1],
            continues: flags[4],
            write: flags[5],
            undo: flags[0] != flags[3],
            max_parallel,
            sequential: flags[2] != flags[5],
        });
        plans.collect()
    })
}

proptest! {
    #[test]
    fn every_graph_gives_the_same_at_any_parallelism_and_any_order(plans in plans(), seed in any::<u64>()) {
        // Which items a failing `for_each` still begins depends on the order, by design; results do not.
        let one = pipeline(&plans, 1);
        let mut calm = World::new(&plans, 0);
        prop_assert!(calm.run(&one, None));
        let many = pipeline(&plans, 16);
        let mut wild = World::new(&plans, seed);
        prop_assert!(wild.run(&many, None));
        prop_assert_eq!(calm.results(&one), wild.results(&many));
    }

    #[test]
    fn every_step_run_ends_exactly_once(plans in plans(), seed in any::<u64>()) {
        let pipeline = pipeline(&plans, 4);
        let mut world = World::new(&plans, seed);
        prop_assert!(world.run(&pipeline, None));
        let mut ends = BTreeMap::new();
        for event in &world.journal {
            if let RunEvent::Succeeded { path, .. } | RunEvent::Failed { path, .. } = event {
                *ends.entry(path.to_string()).or_insert(0) += 1;
            }
        }
        prop_assert!(ends.values().all(|count| *count == 1), "{:?}", ends);
        prop_assert!(world.arrived.values().all(|count| *count == 1), "{:?}", world.arrived);
    }

    #[test]
    fn a_crash_behind_any_event_changes_nothing(plans in plans(), seed in any::<u64>()) {
        let pipeline = pipeline(&plans, 3);
        let mut calm = World::new(&plans, seed);
        prop_assert!(calm.run(&pipeline, None));
        for at in 0..calm.journal.len() {
            let mut world = World::new(&plans, seed);
            world.run(&pipeline, Some(at));
            // The journal may go on differently, with another order, but not come to anything else.
            prop_assert!(world.run(&pipeline, None), "crash behind event {}", at);
            prop_assert_eq!(calm.results(&pipeline), world.results(&pipeline), "crash behind event {}", at);
            prop_assert!(world.arrived.values().all(|count| *count == 1), "crash behind event {}: {:?}", at, world.arrived);
        }
    }

    #[test]
    fn a_replayed_machine_stands_where_the_live_one_stood(plans in plans(), seed in any::<u64>()) {
        let pipeline = pipeline(&plans, 3);
        let mut world = World::new(&plans, seed);
        prop_assert!(world.run(&pipeline, None));
        let once = world.results(&pipeline);
        let finished = world.journal.iter().filter(|event| matches!(event, RunEvent::Finished { .. })).count();
        prop_assert_eq!(finished, 1);
        prop_assert_eq!(once, world.results(&pipeline));
    }

    #[test]
    fn a_retry_runs_only_what_had_not_succeeded(plans in plans(), seed in any::<u64>()) {
        let plain: Vec<_> = plans.iter().map(|plan| Plan { undo: false, ..plan.clone() }).collect();
        let pipeline = pipeline(&plain, 3);
        let mut world = World::new(&plain, seed);
        prop_assert!(world.run(&pipeline, None));
        let mended: Vec<_> = plain.iter().map(|plan| Plan { fails: false, ..plan.clone() }).collect();
        let mut machine = Machine::replay(pipeline.clone(), &world.journal);
        machine.retry(None, world.now);
        world.journal.extend(machine.take_events());
        world.plans.clone_from(&mended);
        prop_assert!(world.run(&pipeline, None));
        prop_assert!(world.arrived.values().all(|count| *count == 1), "{:?}", world.arrived);
        let failed = |(state, _): &(StepState, String)| matches!(state, StepState::Canceled);
        prop_assert!(!world.results(&pipeline).iter().any(failed));
    }
}

#[test]
fn undo_runs_backwards_over_what_had_succeeded() {
    let chain = |index: usize| Plan { needs: (0..index).rev().take(1).collect(), undo: true, ..Plan::default() };
    let plans = [chain(0), Plan { items: Some(2), ..chain(1) }, Plan { fails: true, ..chain(2) }];
    let pipeline = pipeline(&plans, 1);
    let mut world = World::new(&plans, 3);
    assert!(world.run(&pipeline, None));
    let undone = world.journal.iter().filter_map(|event| match event {
        RunEvent::Succeeded { path, .. } if path.phase != Phase::Main => Some(path.to_string()),
        _ => None,
    });
    let undone: Vec<_> = undone.collect();
    assert_eq!(undone, ["undo/s1[1]", "undo/s1[0]", "undo/s0", "on_failure/s0", "finally/s0"]);
}

#[test]
fn a_canceled_run_starts_nothing_more_and_still_tidies_up() {
    let plans = [Plan::default(), Plan { needs: vec![0], ..Plan::default() }];
    let pipeline = pipeline(&plans, 1);
    let mut world = World::new(&plans, 3);
    let mut machine = Machine::new(pipeline.clone());
    machine.resume(world.now);
    machine.cancel(false, None, world.now);
    world.journal.extend(machine.take_events());
    assert!(world.run(&pipeline, None));
    assert!(world.results(&pipeline).iter().all(|(state, _)| *state == StepState::Canceled));
    let last = world.journal.last().unwrap();
    assert!(matches!(last, RunEvent::Finished { state: RunState::Canceled, .. }), "{last:?}");
    assert!(
        world
            .journal
            .iter()
            .any(|event| matches!(event, RunEvent::Succeeded { path, .. } if path.phase == Phase::Finally))
    );
}

#[test]
fn an_item_that_reads_the_one_before_waits_for_it_however_long_it_is_in_doubt() {
    for sequential in [true, false] {
        let plan = Plan { items: Some(2), write: true, sequential, max_parallel: 1, ..Plan::default() };
        let mut machine = Machine::replay(pipeline(&[plan], 16), &[]);
        machine.resume(Timestamp(1));
        let now = Timestamp(2);
        assert_eq!(machine.next_task(), Some(Task::Prepare { phase: Phase::Main, step: 0 }));
        machine.begin_items(Phase::Main, 0, Value::list(vec![Value::Int(0), Value::Int(1)]), now);
        let item = |item| UnitKey { phase: Phase::Main, step: 0, item: Some(item) };
        assert_eq!(machine.next_task(), Some(Task::Run(item(0))));
        machine.start_attempt(item(0), false, now);
        let intent = EffectIntent {
            id: EffectId("s0[0]".into()),
            key: "s0[0]".into(),
            kind: WriteKind::Create,
            request: Value::Null,
            send_before: now,
            answer_before: now,
            fingerprint: None,
        };
        machine.intend(item(0), intent, now);
        machine.doubt(item(0), StepError { class: ErrorClass::Unavailable, message: "lost".into() }, now);
        if !sequential {
            // Others go on meanwhile.
            assert_eq!(machine.next_task(), Some(Task::Run(item(1))));
        } else {
            assert_eq!(machine.next_task(), Some(Task::Settle(item(0))));
            machine.hold(item(0), Some(Timestamp(60)));
            assert_eq!(machine.next_task(), None);
            machine.wake(Timestamp(60));
            assert_eq!(machine.next_task(), Some(Task::Settle(item(0))));
            let verdict = Verdict::Happened { output: Value::Int(7), remote_id: None };
            machine.settle(item(0), SettledBy::Reconcile, verdict, Timestamp(60));
            assert_eq!(machine.next_task(), Some(Task::Run(item(1))));
            assert_eq!(machine.previous(item(1)), Some(Value::Int(7)));
        }
    }
}
