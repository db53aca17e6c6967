//! The daemon's worker on virtual time: parked runs, signals, owners that are gone, draining.

use std::sync::Arc;

use pipewright::daemon::bell::Bell;
use pipewright::daemon::metrics::Metrics;
use pipewright::daemon::worker::Worker;
use pipewright::engine::Engine;
use pipewright::engine::ExecuteOptions;
use pipewright::engine::Execution;
use pipewright::engine::Signal;
use pipewright::model::Duration;
use pipewright::model::RunId;
use pipewright::model::RunState;
use pipewright::model::Value;
use tokio_util::sync::CancellationToken;

use super::Stage;
use super::give;

/// A worker at work.
pub(super) struct At {
    pub(super) bell: Bell,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    working: tokio::task::JoinHandle<usize>,
}

impl Stage {
    pub(super) fn worker(&self, engine: &Engine) -> At {
        let (bell, metrics, stop) = (Bell::default(), Arc::new(Metrics::default()), CancellationToken::new());
        let worker = Worker {
            engine: engine.clone(),
            registry: self.registry(),
            active: tokio::sync::watch::channel(Arc::default()).1,
            bell: bell.clone(),
            metrics: metrics.clone(),
            most: 8,
            stop: stop.clone(),
            drain: Duration::from_secs(30),
        };
        At { bell, metrics, stop, working: tokio::spawn(worker.work()) }
    }

    /// Moves the clock by steps until a run is in a state.
    pub(super) async fn until(&self, engine: &Engine, run: RunId, state: RunState, step: Duration) {
        for _ in 0..100_000 {
            let record = engine.parts().store.run(run).await.unwrap().unwrap();
            if record.state == state {
                return;
            }
            self.world.clock.advance(step);
            tokio::task::yield_now().await;
        }
        panic!("run {run} is never {}", state.name());
    }
}

impl At {
    pub(super) async fn end(self) -> usize {
        self.stop.cancel();
        self.working.await.unwrap()
    }
}

const LONG: &str = r#"steps:
  first: { uses: test.one, with: { value: 1 } }
  rest: { uses: time.wait, needs: [first], with: { for: 3d } }
  last: { uses: test.one, needs: [rest], with: { value: 2 } }
outputs: { last: "{{ steps.last.output }}" }
"#;

#[tokio::test]
async fn a_parked_run_goes_on_when_its_time_has_come_and_not_before() {
    let stage = Stage::new().read("test.one", |_, _| give(7));
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(LONG);
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let options = ExecuteOptions { foreground: false, ..ExecuteOptions::default() };
    let parked = engine.execute(run, pipeline, options).await.unwrap();
    let Execution::Waiting { until: Some(until), .. } = parked else { panic!("{parked:?}") };
    let at = stage.worker(&engine);
    stage.world.clock.advance_to(until.plus(Duration::from_secs(1)));
    stage.until(&engine, run, RunState::Succeeded, Duration::from_secs(1)).await;
    let record = engine.parts().store.run(run).await.unwrap().unwrap();
    assert!(record.ended_at.unwrap() >= until && record.outputs.to_string() == r#"{"last":7}"#, "{record:?}");
    let metrics = at.metrics.clone();
    assert_eq!(at.end().await, 0);
    assert!(metrics.text(&[]).contains(r#"runs_ended_total{state="succeeded"} 1"#), "{}", metrics.text(&[]));
}

#[tokio::test]
async fn the_higher_priority_begins_first_and_each_run_once() {
    let stage = Stage::new().read("test.one", |_, _| give(7));
    let engine = stage.engine().await;
    let text = "steps: { a: { uses: test.one, with: { value: 1 } } }\n";
    let (low, high) =
        (stage.pipeline(&format!("priority: 2\n{text}")), stage.pipeline(&format!("priority: 8\n{text}")));
    let mut runs = Vec::new();
    for pipeline in [&low, &high, &low, &high] {
        let run = engine.enqueue(pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap();
        runs.push(run);
        stage.world.clock.advance(Duration::from_secs(1));
    }
    let order: Vec<_> = engine.take(10).await.unwrap().into_iter().map(|claimed| claimed.run.id).collect();
    assert_eq!(order, [runs[1], runs[3], runs[0], runs[2]]);
    assert!(engine.take(10).await.unwrap().is_empty(), "who was taken is not taken again");
}

#[tokio::test]
async fn a_slot_has_one_run_however_often_it_is_fired() {
    let stage = Stage::new().read("test.one", |_, _| give(7));
    let engine = stage.engine().await;
    let pipeline = stage.pipeline("steps: { a: { uses: test.one, with: { value: 1 } } }\n");
    let fire = || engine.enqueue(&pipeline, Value::map::<&str>([]), Some("2026-01-01T00:00:00Z".to_owned()));
    assert!(fire().await.unwrap().is_some());
    assert!(fire().await.unwrap().is_none());
}

#[tokio::test]
async fn a_run_whose_owner_is_gone_goes_on_from_its_journal() {
    let stage = Stage::new().read("test.one", |_, _| give(7));
    let dead = stage.engine().await;
    let pipeline = stage.pipeline(LONG);
    // It was made, and its process died before it did anything.
    let run = dead.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    drop(dead);
    let engine = stage.engine().await;
    let at = stage.worker(&engine);
    stage.until(&engine, run, RunState::Succeeded, Duration::from_secs(3_600)).await;
    assert!(at.metrics.text(&[]).contains("runs_taken_over_total 1"), "{}", at.metrics.text(&[]));
    assert_eq!(at.end().await, 0);
}

#[tokio::test]
async fn a_signal_wakes_a_run_that_sleeps_for_days() {
    let stage = Stage::new().read("test.one", |_, _| give(7));
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(LONG);
    let run = engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap();
    let at = stage.worker(&engine);
    stage.until(&engine, run, RunState::Waiting, Duration::ZERO).await;
    engine.signal(run, &Signal::Cancel { undo: false }).await.unwrap();
    at.bell.ring();
    stage.until(&engine, run, RunState::Canceled, Duration::ZERO).await;
    assert_eq!(at.end().await, 0);
}

#[tokio::test]
async fn what_is_under_way_when_the_daemon_ends_is_in_the_queue_afterwards() {
    let stage = Stage::new().read("test.one", |_, _| give(7));
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(
        "steps:\n  a: { uses: test.one, with: { value: 1 } }\n  b: { uses: time.wait, needs: [a], with: { for: 30s } }\n",
    );
    let run = engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap();
    let at = stage.worker(&engine);
    stage.until(&engine, run, RunState::Running, Duration::ZERO).await;
    assert_eq!(at.end().await, 0);
    let record = engine.parts().store.run(run).await.unwrap().unwrap();
    assert!(!record.owned && matches!(record.state, RunState::Queued | RunState::Waiting), "{record:?}");
    let at = stage.worker(&engine);
    stage.until(&engine, run, RunState::Succeeded, Duration::from_secs(1)).await;
    assert_eq!(at.end().await, 0);
}
