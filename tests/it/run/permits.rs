//! `concurrency`, locks, and the limit of steps of a process, on virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use pipewright::engine::Engine;
use pipewright::engine::ExecuteOptions;
use pipewright::engine::Execution;
use pipewright::engine::Parts;
use pipewright::engine::Signal;
use pipewright::model::Duration;
use pipewright::model::Effect;
use pipewright::model::ErrorClass;
use pipewright::model::RunId;
use pipewright::model::RunState;
use pipewright::model::Settlement;
use pipewright::model::Value;
use pipewright::node::ExpressionKey;
use pipewright::node::Node;
use pipewright::node::NodeError;
use pipewright::node::Outcome;
use pipewright::node::Reconciled;
use pipewright::node::StepContext;
use pipewright::pipeline::Pipeline;
use pipewright::store::RunRecord;

use super::Act;
use super::Stage;
use super::give;

const SECOND: Duration = Duration::from_secs(1);

/// A node that takes `for` seconds and counts who is inside at the same time, by each word of `inside`.
#[derive(Clone, Debug, Default)]
struct Slow(Arc<Mutex<BTreeMap<String, (usize, usize)>>>);

impl Slow {
    /// Returns how many were inside at most at the same time.
    fn most(&self, word: &str) -> usize {
        self.0.lock().unwrap().get(word).map_or(0, |(_, most)| *most)
    }

    fn count(&self, words: &[String], by: isize) {
        let mut counts = self.0.lock().unwrap();
        for word in words {
            let (now, most) = counts.entry(word.clone()).or_default();
            *now = now.checked_add_signed(by).unwrap();
            *most = (*most).max(*now);
        }
    }
}

#[async_trait]
impl Node for Slow {
    fn name(&self) -> &str {
        "test.slow"
    }
    fn docs(&self) -> String {
        "Takes its time.".to_owned()
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
        Effect::Read
    }
    fn check(&self, _: &Value) -> Vec<(Option<String>, String)> {
        Vec::new()
    }
    fn settlement(&self, _: &Value) -> Settlement {
        Settlement::default()
    }
    async fn run(&self, input: Value, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let words = input.get("inside").and_then(Value::as_list).unwrap_or_default();
        let words: Vec<_> = words.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let clock = &ctx.system.clock;
        self.count(&words, 1);
        clock.sleep_until(clock.now().plus(SECOND)).await;
        self.count(&words, -1);
        Ok(Outcome::Done(Value::Null))
    }
    async fn reconcile(&self, _: Value, _: &StepContext<'_>) -> Result<Reconciled, NodeError> {
        Ok(Reconciled::NotFound)
    }
}

fn stage() -> (Stage, Slow) {
    let slow = Slow::default();
    let mut stage = Stage::new().read("test.one", |_, _| give(7));
    stage.nodes.push(Arc::new(slow.clone()));
    (stage, slow)
}

async fn put(engine: &Engine, pipeline: &Arc<Pipeline>, key: &str) -> RunId {
    engine.enqueue(pipeline, Value::map([("key", Value::from(key))]), None).await.unwrap().unwrap()
}

/// Moves the clock until a run has ended.
async fn ended(stage: &Stage, engine: &Engine, run: RunId) -> RunRecord {
    for _ in 0..100_000 {
        let record = record(engine, run).await;
        if record.state.is_final() {
            return record;
        }
        stage.world.clock.advance(Duration::from_millis(10));
        tokio::task::yield_now().await;
    }
    panic!("run {run} does not end");
}

async fn record(engine: &Engine, run: RunId) -> RunRecord {
    engine.parts().store.run(run).await.unwrap().unwrap()
}

/// Tells whether two runs were under way at the same time.
fn overlap(a: &RunRecord, b: &RunRecord) -> bool {
    a.started_at < b.ended_at && b.started_at < a.ended_at
}

const KEYED: &str = r#"inputs: { key: { type: string } }
concurrency: { limit: 1, key: "{{ inputs.key }}" }
steps:
  a: { uses: test.one, with: { value: 1 } }
  b: { uses: time.wait, needs: [a], with: { for: 2h } }
"#;

#[tokio::test]
async fn runs_of_one_key_follow_one_another_in_their_order_also_while_they_sleep() {
    let (stage, _) = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(KEYED);
    let mut runs = Vec::new();
    for key in ["tea", "tea", "coffee", "tea"] {
        runs.push(put(&engine, &pipeline, key).await);
        stage.world.clock.advance(SECOND);
    }
    let at = stage.worker(&engine);
    at.bell.ring();
    for run in &runs {
        stage.until(&engine, *run, RunState::Succeeded, Duration::from_secs(30)).await;
    }
    at.end().await;
    let mut records = Vec::new();
    for run in runs {
        records.push(record(&engine, run).await);
    }
    let [first, second, other, third] = &records[..] else { unreachable!() };
    assert!(!overlap(first, second) && !overlap(second, third) && !overlap(first, third), "{records:#?}");
    assert!(first.started_at < second.started_at && second.started_at < third.started_at, "{records:#?}");
    assert!(overlap(first, other), "another key has places of its own");
    assert_eq!(engine.parts().store.holders("run:test:tea").await.unwrap(), []);
}

#[tokio::test]
async fn a_run_that_finds_its_group_full_is_canceled_where_the_pipeline_says_skip() {
    let (stage, _) = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(&KEYED.replace("key }}\" }", "key }}\", when_full: skip }"));
    let first = put(&engine, &pipeline, "tea").await;
    let second = put(&engine, &pipeline, "tea").await;
    let at = stage.worker(&engine);
    at.bell.ring();
    stage.until(&engine, second, RunState::Canceled, SECOND).await;
    let skipped = record(&engine, second).await;
    let message = skipped.error.unwrap().message;
    assert_eq!(message, "`concurrency` of `test` with the key `tea` is full, and `when_full` is `skip`");
    assert!(stage.world.calls().len() <= 1, "nothing of it ran: {:?}", stage.world.calls());
    stage.until(&engine, first, RunState::Succeeded, Duration::from_secs(30)).await;
    let third = put(&engine, &pipeline, "tea").await;
    at.bell.ring();
    stage.until(&engine, third, RunState::Succeeded, Duration::from_secs(30)).await;
    at.end().await;
}

#[tokio::test]
async fn the_newest_run_replaces_those_before_it() {
    let (stage, _) = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(&KEYED.replace("key }}\" }", "key }}\", when_full: replace }"));
    let first = put(&engine, &pipeline, "tea").await;
    let at = stage.worker(&engine);
    at.bell.ring();
    stage.until(&engine, first, RunState::Waiting, SECOND).await;
    let second = put(&engine, &pipeline, "tea").await;
    let third = put(&engine, &pipeline, "tea").await;
    at.bell.ring();
    stage.until(&engine, third, RunState::Succeeded, Duration::from_secs(30)).await;
    for run in [first, second] {
        let canceled = record(&engine, run).await;
        assert_eq!(canceled.state, RunState::Canceled);
        assert!(canceled.error.unwrap().message.starts_with("a newer run replaces it"));
    }
    let (first, third) = (record(&engine, first).await, record(&engine, third).await);
    assert!(!overlap(&first, &third));
    at.end().await;
}

#[tokio::test]
async fn a_run_that_is_retried_waits_for_its_turn_as_a_new_one_does() {
    let mut stage = stage().0;
    stage = stage.read("test.late", |count, _| if count == 0 { Act::Fail(ErrorClass::Rejected) } else { give(7) });
    let engine = stage.engine().await;
    let text = "concurrency: { limit: 1 }\nsteps:\n  a: { uses: test.late, with: {} }\n  \
                b: { uses: time.wait, needs: [a], with: { for: 2h } }\n";
    let pipeline = stage.pipeline(text);
    let mut runs = Vec::new();
    let at = stage.worker(&engine);
    for state in [RunState::Failed, RunState::Waiting] {
        let run = engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap();
        at.bell.ring();
        stage.until(&engine, run, state, SECOND).await;
        runs.push(run);
    }
    // The second holds the group while the first begins again.
    let options = ExecuteOptions { foreground: false, ..ExecuteOptions::default() };
    let waits = engine.retry(runs[0], pipeline.clone(), None, options).await.unwrap();
    let Execution::Waiting { reason, .. } = waits else { panic!("{waits:?}") };
    assert!(reason.starts_with("waits for `concurrency`"), "{reason}");
    let store = &engine.parts().store;
    assert_eq!(store.requests_of(runs[0]).await.unwrap().len(), 1);
    stage.until(&engine, runs[0], RunState::Succeeded, Duration::from_secs(30)).await;
    let (first, second) = (record(&engine, runs[0]).await, record(&engine, runs[1]).await);
    assert_eq!(second.state, RunState::Succeeded);
    assert!(second.ended_at < first.ended_at);
    let waited = first.ended_at.unwrap().since(second.ended_at.unwrap());
    assert!(waited >= Duration::from_secs(2 * 3600), "the first slept after the second had ended: {waited}");
    assert_eq!(store.requests_of(runs[0]).await.unwrap(), []);
    assert_eq!(store.permits_of(runs[0]).await.unwrap(), []);
    at.end().await;
}

const LOCKED: &str = r#"steps:
  a: { uses: test.slow, with: { inside: [erp] }, locks: [{ name: erp, limit: 2 }] }
  b: { uses: test.slow, with: { inside: [free] } }
"#;

#[tokio::test]
async fn steps_of_many_runs_share_a_lock_and_give_it_back() {
    let (stage, slow) = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(LOCKED);
    let mut runs = Vec::new();
    for _ in 0..8 {
        runs.push(engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap());
    }
    let at = stage.worker(&engine);
    at.bell.ring();
    for run in &runs {
        stage.until(&engine, *run, RunState::Succeeded, Duration::from_millis(20)).await;
    }
    at.end().await;
    assert_eq!(slow.most("erp"), 2);
    assert!(slow.most("free") > 2, "what needs no lock waits for none");
    assert_eq!(engine.parts().store.holders("lock:erp").await.unwrap(), []);
    assert_eq!(engine.parts().store.line_for("lock:erp").await.unwrap(), []);
}

#[tokio::test]
async fn a_run_that_waits_for_a_lock_sleeps_and_is_woken_when_whoever_held_it_is_gone() {
    let (stage, slow) = stage();
    let pipeline = stage.pipeline("steps:\n  a: { uses: test.slow, with: { inside: [x] }, locks: [{ name: x }] }\n");
    // A process takes the lock and dies in the middle.
    let dying = stage.engine().await;
    let first = dying.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap();
    let executing = tokio::spawn({
        let (engine, pipeline) = (dying.clone(), pipeline.clone());
        async move { engine.execute(first, pipeline, ExecuteOptions::default()).await }
    });
    for _ in 0..100_000 {
        if slow.most("x") > 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    executing.abort();
    let _ = executing.await;
    slow.count(&["x".to_owned()], -1);

    let engine = stage.engine().await;
    let second = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let options = ExecuteOptions { foreground: false, ..ExecuteOptions::default() };
    let parked = engine.execute(second, pipeline.clone(), options).await.unwrap();
    let Execution::Waiting { until: None, .. } = parked else { panic!("{parked:?}") };
    assert_eq!(engine.parts().store.line_for("lock:x").await.unwrap()[0].run, second);
    // Whoever takes the first run over has its lock, and gives it back.
    let at = stage.worker(&engine);
    stage.until(&engine, first, RunState::Succeeded, Duration::from_millis(50)).await;
    stage.until(&engine, second, RunState::Succeeded, Duration::from_millis(50)).await;
    at.end().await;
    assert_eq!(slow.most("x"), 1);
    assert_eq!(engine.parts().store.permits_of(second).await.unwrap(), []);
}

#[tokio::test]
async fn a_run_in_the_foreground_waits_for_its_turn_and_can_be_canceled_there() {
    let (stage, _) = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline("locks: [{ name: all }]\nsteps: { a: { uses: test.one, with: { value: 1 } } }\n");
    let none = || Value::map::<&str>([]);
    let first = engine.start(&pipeline, none()).await.unwrap();
    let second = engine.start(&pipeline, none()).await.unwrap();
    let third = engine.start(&pipeline, none()).await.unwrap();
    let go = |run| {
        let (engine, pipeline) = (engine.clone(), pipeline.clone());
        tokio::spawn(async move { engine.execute(run, pipeline, ExecuteOptions::default()).await.unwrap() })
    };
    let waiting = [go(second), go(third)];
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(stage.world.calls().is_empty(), "{:?}", stage.world.calls());
    engine.signal(second, &Signal::Cancel { undo: false }).await.unwrap();
    let ended = engine.execute(first, pipeline.clone(), ExecuteOptions::default()).await.unwrap();
    assert!(matches!(ended, Execution::Finished { state: RunState::Succeeded, .. }), "{ended:?}");
    let mut states = Vec::new();
    for execution in waiting {
        let clock = stage.world.clock.clone();
        let moving = tokio::spawn(async move {
            loop {
                clock.advance(Duration::from_millis(100));
                tokio::task::yield_now().await;
            }
        });
        match execution.await.unwrap() {
            Execution::Finished { state, .. } => states.push(state),
            other => panic!("{other:?}"),
        }
        moving.abort();
    }
    // The canceled one may have been let in before it read its signal; it ended at once all the same.
    assert_eq!(states, [RunState::Canceled, RunState::Succeeded]);
    assert_eq!(stage.world.calls().len(), 2);
}

#[tokio::test]
async fn a_child_does_not_wait_for_what_its_parent_holds() {
    let (stage, slow) = stage();
    stage.file(
        "child",
        "locks: [{ name: all }, { name: own }]\nsteps:\n  a: { uses: test.slow, with: { inside: [all] }, locks: [{ name: all }, { name: step }] }\n",
    );
    let parent = "locks: [{ name: all }]\nsteps:\n  call:\n    for_each: [1, 2]\n    uses: pipeline.run\n    \
                  with: { pipeline: child }\n    locks: [{ name: step }]\n";
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(parent);
    let run = engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap();
    let at = stage.worker(&engine);
    at.bell.ring();
    stage.until(&engine, run, RunState::Succeeded, Duration::from_millis(50)).await;
    at.end().await;
    assert_eq!(slow.most("all"), 1, "the two children wait for each other all the same");
}

#[tokio::test]
async fn a_process_does_no_more_steps_at_the_same_time_than_it_may() {
    let (stage, slow) = stage();
    stage.file("child", "steps:\n  a: { uses: test.slow, with: { inside: [all] } }\n");
    let text = "steps:\n  many: { for_each: [1, 2, 3, 4, 5, 6, 7, 8, 9], uses: test.slow, with: { inside: [all] } }\n  \
                call: { for_each: [1, 2, 3, 4], uses: pipeline.run, with: { pipeline: child } }\n";
    let pipeline = stage.pipeline(text);
    let engine = Engine::limited(stage.engine().await.parts().clone(), 2);
    let run = engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap();
    let at = stage.worker(&engine);
    at.bell.ring();
    stage.until(&engine, run, RunState::Succeeded, Duration::from_millis(50)).await;
    at.end().await;
    assert_eq!(slow.most("all"), 2);
}

#[tokio::test]
async fn two_workers_never_break_a_limit_and_every_run_ends() {
    for seed in 0..4 {
        let (stage, slow) = stage();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut engines = Vec::new();
        for owner in ["one", "two"] {
            let parts = stage.engine().await.parts().clone();
            engines.push(Engine::new(Parts { owner: owner.to_owned(), owner_is_gone: |_| false, ..parts }));
        }
        let (first, second) = (engines.remove(0), engines.remove(0));
        let limits = [("a", 1), ("b", 2), ("c", 3)];
        let mut runs = Vec::new();
        for number in 0..24 {
            let mut pick = || -> Vec<(&str, i32)> { limits.into_iter().filter(|_| random.u8(..3) == 0).collect() };
            let list = |locks: &[(&str, i32)], inside: &[(&str, i32)]| {
                let locks: Vec<_> =
                    locks.iter().map(|(name, most)| format!("{{ name: {name}, limit: {most} }}")).collect();
                let inside: Vec<_> = inside.iter().map(|(name, _)| *name).collect();
                (format!("[{}]", locks.join(", ")), format!("[{}]", inside.join(", ")))
            };
            let (own, one, two) = (pick(), pick(), pick());
            let both = |step: &[(&'static str, i32)]| {
                let more = step.iter().filter(|lock| !own.contains(lock));
                own.iter().chain(more).copied().collect::<Vec<_>>()
            };
            let (one, two) = (list(&one, &both(&one)), list(&two, &both(&two)));
            // A run's own locks are inside of both steps, so these follow each other.
            let text = format!(
                "locks: {}\npriority: {}\nsteps:\n  x: {{ uses: test.slow, with: {{ inside: {} }}, locks: {} }}\n  \
                 y: {{ uses: test.slow, needs: [x], with: {{ inside: {} }}, locks: {} }}\n",
                list(&own, &[]).0,
                number % 3,
                one.1,
                one.0,
                two.1,
                two.0
            );
            let pipeline = stage.pipeline(&text);
            runs.push(first.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap());
        }
        let (one, two) = (stage.worker(&first), stage.worker(&second));
        one.bell.ring();
        two.bell.ring();
        let mut succeeded = 0;
        for run in &runs {
            let ended = ended(&stage, &first, *run).await;
            succeeded += usize::from(ended.state == RunState::Succeeded);
            // Those whose locks cross each other's are told so.
            if let Some(error) = ended.error {
                assert!(error.message.contains("a deadlock"), "seed {seed}: {}", error.message);
            }
        }
        assert!(succeeded > runs.len() / 2, "seed {seed}: {succeeded}");
        one.end().await;
        two.end().await;
        for (name, most) in limits {
            assert!(slow.most(name) <= usize::try_from(most).unwrap(), "seed {seed}: {name}: {}", slow.most(name));
            assert_eq!(first.parts().store.holders(&format!("lock:{name}")).await.unwrap(), [], "seed {seed}");
        }
        assert!(slow.most("c") > 1, "seed {seed}: there was something to count");
    }
}

#[tokio::test]
async fn runs_that_wait_for_each_other_are_told_and_the_older_one_goes_on() {
    let (stage, _) = stage();
    let engine = stage.engine().await;
    let text = |own: &str, step: &str| {
        format!(
            "locks: [{{ name: {own} }}]\nsteps:\n  first: {{ uses: test.slow, with: {{}} }}\n  \
             then: {{ uses: test.slow, needs: [first], with: {{}}, locks: [{{ name: {step} }}] }}\n"
        )
    };
    let mut runs = Vec::new();
    for (own, step) in [("a", "b"), ("b", "a")] {
        let pipeline = stage.pipeline(&text(own, step));
        runs.push(engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap());
    }
    let at = stage.worker(&engine);
    at.bell.ring();
    let (older, newer) = (ended(&stage, &engine, runs[0]).await, ended(&stage, &engine, runs[1]).await);
    assert_eq!(older.state, RunState::Succeeded, "{:?}", older.error);
    let message = newer.error.unwrap().message;
    let told = format!("step `then`: a deadlock: the lock `a` is held by run `{}`, which waits for this one", runs[0]);
    assert_eq!(message, told);
    at.end().await;
}
