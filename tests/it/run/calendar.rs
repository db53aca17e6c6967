//! Posts that wait in the calendar until their time: runs that sleep over them, and what people change meanwhile.

use std::sync::Arc;

use pipewright::engine::Engine;
use pipewright::engine::ExecuteOptions;
use pipewright::engine::Execution;
use pipewright::engine::Signal;
use pipewright::engine::plan::PlanOptions;
use pipewright::memory::calendar;
use pipewright::memory::calendar::Change;
use pipewright::memory::calendar::Standing;
use pipewright::model::Duration;
use pipewright::model::ErrorClass;
use pipewright::model::RunId;
use pipewright::model::RunState;
use pipewright::model::Settlement;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::pipeline::Pipeline;
use pipewright::store::PostFilter;
use pipewright::store::PostRecord;
use pipewright::store::PostState;

use super::Act;
use super::START;
use super::Stage;
use super::give;
use super::repeatable;

/// As `social.publish` does it.
const PUBLISH: &str = r#"inputs: { at: { type: string, default: "2023-11-15T00:13:20Z" } }
steps:
  hold:
    uses: posts.hold
    with:
      connection: x
      connector: x
      post: { text: Tea is ready. }
      at: "{{ inputs.at }}"
      labels: { format: post }
    until: { holds: "{{ output.state != 'rescheduled' }}", limit: 100 }
  publish:
    uses: test.publish
    when: "{{ steps.hold.output.state == 'due' }}"
    with: { text: "{{ steps.hold.output.post.text }}" }
  mark:
    uses: posts.mark
    when: "{{ steps.publish.state == 'succeeded' }}"
    with: { id: "{{ steps.hold.output.id }}", output: "{{ steps.publish.output }}" }
outputs: { state: "{{ steps.hold.output.state }}", at: "{{ steps.hold.output.at }}" }
"#;

const HOUR: Duration = Duration::from_secs(3_600);

fn published() -> Value {
    Value::map([("id", Value::from("r1")), ("url", "https://x.example/r1".into()), ("ids", Value::Null)])
}

fn stage() -> Stage {
    Stage::new().write("test.publish", repeatable(), |_, _| give(published()))
}

async fn go(engine: &Engine, run: RunId, pipeline: &Arc<Pipeline>) -> Execution {
    let options = ExecuteOptions { foreground: false, ..ExecuteOptions::default() };
    engine.execute(run, pipeline.clone(), options).await.unwrap()
}

async fn begun(engine: &Engine, pipeline: &Arc<Pipeline>) -> RunId {
    let at = Value::map([("at", Value::from("2023-11-15T00:13:20Z"))]);
    let run = engine.start(pipeline, at).await.unwrap();
    let parked = go(engine, run, pipeline).await;
    assert!(matches!(parked, Execution::Waiting { .. }), "{parked:?}");
    run
}

async fn only(engine: &Engine) -> PostRecord {
    let mut posts = engine.parts().store.posts(&PostFilter::default()).await.unwrap();
    assert_eq!(posts.len(), 1, "{posts:#?}");
    posts.remove(0)
}

async fn change(engine: &Engine, post: &PostRecord, change: Change) -> Result<PostRecord, String> {
    let now = engine.parts().system.clock.now();
    calendar::change(&engine.parts().store, &post.id, change, now).await.map_err(|error| error.to_string())
}

#[track_caller]
fn waits_until(execution: &Execution, expected: Timestamp) {
    let Execution::Waiting { until, reason, in_doubt: false } = execution else { panic!("{execution:?}") };
    assert_eq!(*until, Some(expected));
    assert_eq!(*reason, format!("waits until {expected} to publish over `x`"));
}

#[track_caller]
fn outputs(execution: &Execution) -> String {
    match execution {
        Execution::Finished { state: RunState::Succeeded, outputs, .. } => outputs.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_post_is_published_at_its_time() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(PUBLISH);
    let run = engine.start(&pipeline, Value::map([("at", Value::from("2023-11-15T00:13:20Z"))])).await.unwrap();
    let due = START.plus(HOUR.times(2));
    waits_until(&go(&engine, run, &pipeline).await, due);
    let post = only(&engine).await;
    assert_eq!((post.state, post.due_at, post.run, post.pipeline.as_str()), (PostState::Scheduled, due, run, "test"));
    assert!(post.ask.is_some(), "its run sleeps over it");
    // Nothing goes on before, however often somebody looks, and it is not entered twice.
    waits_until(&go(&engine, run, &pipeline).await, due);
    assert_eq!(only(&engine).await, post);
    assert_eq!(stage.world.calls(), [""; 0]);
    stage.world.clock.advance_to(due);
    assert_eq!(outputs(&go(&engine, run, &pipeline).await), r#"{"state":"due","at":"2023-11-15T00:13:20Z"}"#);
    assert_eq!(stage.world.calls(), [r#"7200 test.publish {"text":"Tea is ready."}"#]);
    let post = only(&engine).await;
    assert_eq!((post.state, post.remote_id.as_deref(), post.ask), (PostState::Published, Some("r1"), None));
    assert_eq!((post.ids, post.published_at), (vec!["r1".to_owned()], Some(due)));
    let late = change(&engine, &only(&engine).await, Change::Cancel).await.unwrap_err();
    assert_eq!(late, "it is published already");
}

#[tokio::test]
async fn a_post_whose_time_has_passed_is_published_at_once() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(PUBLISH);
    let run = engine.start(&pipeline, Value::map([("at", Value::from("2023-11-14T00:00:00Z"))])).await.unwrap();
    assert_eq!(outputs(&go(&engine, run, &pipeline).await), r#"{"state":"due","at":"2023-11-14T00:00:00Z"}"#);
    assert_eq!(only(&engine).await.state, PostState::Published);
}

#[tokio::test]
async fn a_post_that_is_canceled_is_not_published() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(PUBLISH);
    let run = begun(&engine, &pipeline).await;
    let post = only(&engine).await;
    change(&engine, &post, Change::Cancel).await.unwrap();
    // The run is told in the same transaction, and wakes for it.
    assert_eq!(engine.parts().store.run(run).await.unwrap().unwrap().state, RunState::Queued);
    assert_eq!(only(&engine).await.state, PostState::Canceled);
    assert_eq!(change(&engine, &post, Change::Cancel).await.unwrap_err(), "it is canceled already");
    assert_eq!(outputs(&go(&engine, run, &pipeline).await), r#"{"state":"canceled","at":"2023-11-15T00:13:20Z"}"#);
    assert_eq!(stage.world.calls(), [""; 0]);
    assert_eq!(only(&engine).await.state, PostState::Canceled);
}

#[tokio::test]
async fn a_post_can_be_moved_later_and_earlier_any_number_of_times() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(PUBLISH);
    let run = begun(&engine, &pipeline).await;
    let later = START.plus(HOUR.times(30));
    change(&engine, &only(&engine).await, Change::Reschedule(later)).await.unwrap();
    assert_eq!(only(&engine).await.due_at, later);
    waits_until(&go(&engine, run, &pipeline).await, later);
    // The time that it had at first passes.
    stage.world.clock.advance(HOUR.times(3));
    waits_until(&go(&engine, run, &pipeline).await, later);
    // Twice before anybody goes on with the run.
    change(&engine, &only(&engine).await, Change::Reschedule(START.plus(HOUR.times(50)))).await.unwrap();
    let earlier = START.plus(HOUR.times(4));
    change(&engine, &only(&engine).await, Change::Reschedule(earlier)).await.unwrap();
    waits_until(&go(&engine, run, &pipeline).await, earlier);
    assert_eq!(stage.world.calls(), [""; 0]);
    stage.world.clock.advance_to(earlier);
    assert_eq!(outputs(&go(&engine, run, &pipeline).await), r#"{"state":"due","at":"2023-11-15T02:13:20Z"}"#);
    assert_eq!(only(&engine).await.published_at, Some(earlier));
    assert_eq!(stage.world.calls().len(), 1);
}

#[tokio::test]
async fn a_post_that_is_moved_and_then_canceled_before_its_run_goes_on_is_canceled() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(PUBLISH);
    let run = begun(&engine, &pipeline).await;
    change(&engine, &only(&engine).await, Change::Reschedule(START.plus(HOUR.times(50)))).await.unwrap();
    change(&engine, &only(&engine).await, Change::Cancel).await.unwrap();
    assert!(outputs(&go(&engine, run, &pipeline).await).starts_with(r#"{"state":"canceled""#));
    assert_eq!(stage.world.calls(), [""; 0]);
}

#[tokio::test]
async fn of_a_cancelation_and_the_time_one_wins() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(PUBLISH);
    // Its time has come, but nobody has gone on with the run: it can still be canceled.
    let run = begun(&engine, &pipeline).await;
    stage.world.clock.advance(HOUR.times(5));
    change(&engine, &only(&engine).await, Change::Cancel).await.unwrap();
    assert!(outputs(&go(&engine, run, &pipeline).await).starts_with(r#"{"state":"canceled""#));
    assert_eq!(stage.world.calls(), [""; 0]);
}

#[tokio::test]
async fn a_run_that_is_killed_goes_on_with_its_post() {
    let stage = stage();
    let pipeline = stage.pipeline(PUBLISH);
    let engine = stage.engine().await;
    let run = begun(&engine, &pipeline).await;
    let due = only(&engine).await.due_at;
    drop(engine);
    let engine = stage.engine().await;
    waits_until(&go(&engine, run, &pipeline).await, due);
    change(&engine, &only(&engine).await, Change::Reschedule(due.plus(HOUR))).await.unwrap();
    drop(engine);
    let engine = stage.engine().await;
    waits_until(&go(&engine, run, &pipeline).await, due.plus(HOUR));
    stage.world.clock.advance_to(due.plus(HOUR));
    drop(engine);
    let engine = stage.engine().await;
    assert!(outputs(&go(&engine, run, &pipeline).await).starts_with(r#"{"state":"due""#));
    assert_eq!((only(&engine).await.state, stage.world.calls().len()), (PostState::Published, 1));
}

#[tokio::test]
async fn a_run_that_is_canceled_or_fails_leaves_a_row_that_says_so() {
    let stage = Stage::new().write("test.publish", Settlement::default(), |_, _| Act::Fail(ErrorClass::Invalid));
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(PUBLISH);
    let run = begun(&engine, &pipeline).await;
    engine.signal(run, &Signal::Cancel { undo: false }).await.unwrap();
    go(&engine, run, &pipeline).await;
    let post = only(&engine).await;
    assert_eq!((post.state, post.run_state, post.ask.as_ref()), (PostState::Scheduled, Some(RunState::Canceled), None));
    assert_eq!(calendar::standing(&post), Standing::Stranded);
    let told = change(&engine, &post, Change::Reschedule(START.plus(HOUR))).await.unwrap_err();
    assert_eq!(told, "its run was canceled, so nobody would publish it");
    change(&engine, &post, Change::Cancel).await.unwrap();
    assert_eq!(only(&engine).await.state, PostState::Canceled);
    // One whose publishing fails.
    let run = begun(&engine, &pipeline).await;
    stage.world.clock.advance(HOUR.times(2));
    assert!(matches!(go(&engine, run, &pipeline).await, Execution::Finished { state: RunState::Failed, .. }));
    let filter = PostFilter { states: vec![PostState::Publishing], ..PostFilter::default() };
    let post = engine.parts().store.posts(&filter).await.unwrap().remove(0);
    assert_eq!((post.run, calendar::standing(&post)), (run, Standing::Stranded));
}

#[tokio::test]
async fn a_run_that_is_retried_takes_its_own_post_up_again() {
    let stage = Stage::new().write("test.publish", repeatable(), |count, _| match count {
        0 => Act::Fail(ErrorClass::Invalid),
        _ => give(published()),
    });
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(PUBLISH);
    let run = begun(&engine, &pipeline).await;
    stage.world.clock.advance(HOUR.times(2));
    assert!(matches!(go(&engine, run, &pipeline).await, Execution::Finished { state: RunState::Failed, .. }));
    let again = stage.retry(&engine, run, &pipeline, Some("hold")).await;
    assert_eq!(again.outputs(), r#"{"state":"due","at":"2023-11-15T00:13:20Z"}"#);
    assert_eq!(only(&engine).await.state, PostState::Published);
    // Once it is there, it is not published again, whatever is repeated.
    let engine = stage.engine().await;
    let calls = stage.world.calls().len();
    let third = stage.retry(&engine, run, &pipeline, Some("hold")).await;
    assert_eq!((third.outputs(), stage.world.calls().len()), (again.outputs().replace("due", "published"), calls));
}

#[tokio::test]
async fn a_plan_enters_nothing_and_knows_what_would_be_published() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(PUBLISH);
    let inputs = Value::map([("at", Value::from("2023-11-15T00:13:20Z"))]);
    let plan = engine.plan(&pipeline, inputs, PlanOptions::default()).await.unwrap();
    assert!(plan.failure.is_none(), "{plan:#?}");
    let nodes: Vec<&str> = plan.effects.iter().map(|effect| &*effect.node).collect();
    assert_eq!(nodes, ["test.publish", "posts.mark"]);
    assert_eq!(plan.effects[0].input.to_string(), r#"{"text":"Tea is ready."}"#);
    assert!(engine.parts().store.posts(&PostFilter::default()).await.unwrap().is_empty());
}
