//! Sub-pipelines.

use pipewright::engine::Execution;
use pipewright::engine::Signal;
use pipewright::model::Duration;
use pipewright::model::ErrorClass;
use pipewright::model::RunEvent;
use pipewright::model::RunId;
use pipewright::model::RunState;
use pipewright::model::StepPath;
use pipewright::model::Value;
use pipewright::store::Record;

use super::Act;
use super::Stage;
use super::give;
use super::held;

const PARENT: &str = "steps:\n  call: { uses: pipeline.run, with: { pipeline: child, inputs: { n: 4 } } }\noutputs: { twice: \"{{ steps.call.output.twice }}\" }\n";

#[tokio::test]
async fn a_child_gets_inputs_and_gives_outputs() {
    let stage = Stage::new();
    stage.file("child", "inputs: { n: { type: integer } }\nsteps:\n  a: { uses: data.map, with: { items: [\"{{ inputs.n }}\"], to: \"{{ item * 2 }}\" } }\noutputs: { twice: \"{{ steps.a.output[0] }}\" }\n");
    assert_eq!(stage.play(PARENT).await.outputs(), r#"{"twice":8}"#);
}

#[tokio::test]
async fn a_childs_failure_is_the_steps_and_a_retry_goes_on_in_it() {
    let stage =
        Stage::new().read("t.once", |call, _| if call == 0 { Act::Fail(ErrorClass::Rejected) } else { give(8) });
    stage.file("child", "inputs: { n: { type: integer } }\nsteps:\n  a: { uses: t.once }\noutputs: { twice: \"{{ steps.a.output }}\" }\n");
    let played = stage.play(PARENT).await;
    assert_eq!(played.failure(), "rejected: step `call`: step `a`: t.once fails");
    let (engine, pipeline) = (stage.engine().await, stage.pipeline(PARENT));
    assert_eq!(stage.retry(&engine, played.run, &pipeline, None).await.outputs(), r#"{"twice":8}"#);
}

#[tokio::test]
async fn each_round_of_an_until_has_a_child_of_its_own() {
    let stage = Stage::new().read("t.count", |call, _| give(i128::try_from(call).unwrap()));
    stage.file("child", "steps:\n  a: { uses: t.count }\noutputs: { n: \"{{ steps.a.output }}\" }\n");
    let parent = "steps:\n  call: { uses: pipeline.run, with: { pipeline: child }, until: { holds: \"{{ output.n == 2 }}\", every: 10s, limit: 5 } }\noutputs: { n: \"{{ steps.call.output.n }}\" }\n";
    assert_eq!(stage.play(parent).await.outputs(), r#"{"n":2}"#);
    assert_eq!(stage.engine().await.parts().store.runs(&Default::default()).await.unwrap().len(), 4);
}

#[tokio::test]
async fn the_deadline_of_a_parent_reaches_its_child() {
    let stage = Stage::new().read("t.hang", |_, _| Act::Hang(Duration::from_secs(60)));
    stage.file("child", "inputs: { n: { type: integer } }\nsteps:\n  a: { uses: t.hang }\noutputs: { twice: 1 }\n");
    let played = stage.play(&format!("timeout: 1m\n{PARENT}")).await;
    assert!(played.failure().starts_with("timeout: "), "{}", played.failure());
}

#[tokio::test]
async fn canceling_a_parent_cancels_its_child() {
    let stage = Stage::new().read("t.hang", |_, _| Act::Hang(Duration::from_secs(1)));
    stage.file("child", "inputs: { n: { type: integer } }\nsteps:\n  a: { uses: t.hang }\noutputs: { twice: 1 }\n");
    let pipeline = stage.pipeline(PARENT);
    let engine = stage.engine().await;
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let executing = tokio::spawn({
        let (engine, pipeline) = (engine.clone(), pipeline.clone());
        async move { engine.execute(run, pipeline, Default::default()).await.unwrap() }
    });
    while stage.world.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    engine.signal(run, &Signal::Cancel { undo: false }).await.unwrap();
    // The store works in a thread of its own, so that only real time can tell a child that goes on.
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while !executing.is_finished() {
            stage.world.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    });
    ended.await.expect("the child goes on");
    let execution = executing.await.unwrap();
    assert!(matches!(execution, Execution::Finished { state: RunState::Canceled, .. }), "{execution:?}");
    let runs = engine.parts().store.runs(&Default::default()).await.unwrap();
    assert_eq!(runs.len(), 2);
    assert!(runs.iter().all(|run| run.state == RunState::Canceled), "{runs:?}");
}

#[tokio::test]
async fn a_parent_that_fails_undoes_what_its_child_did() {
    let stage = Stage::new()
        .write("t.make", held(), |_, _| give(1))
        .write("t.take_back", held(), |_, _| give(1))
        .read("t.fail", |_, _| Act::Fail(ErrorClass::Rejected));
    stage.file("child", "inputs: { n: { type: integer } }\nsteps:\n  a: { uses: t.make, undo: { uses: t.take_back } }\noutputs: { twice: 1 }\n");
    let text = PARENT.replace("outputs:", "  fail: { needs: [call], uses: t.fail }\noutputs:");
    let played = stage.play(&text).await;
    assert_eq!(played.failure(), "rejected: step `fail`: t.fail fails");
    assert_eq!(stage.world.calls(), ["0 t.make {}", "0 t.fail {}", "0 t.take_back {}"]);
}

#[tokio::test]
async fn a_waiting_child_parks_its_parent_and_both_go_on() {
    let stage = Stage::new();
    stage.file("child", "inputs: { n: { type: integer } }\nsteps:\n  a: { uses: time.wait, with: { for: 2h } }\noutputs: { twice: 8 }\n");
    let pipeline = stage.pipeline(PARENT);
    let engine = stage.engine().await;
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let options = || pipewright::engine::ExecuteOptions { foreground: false, ..Default::default() };
    let parked = engine.execute(run, pipeline.clone(), options()).await.unwrap();
    assert!(matches!(parked, Execution::Waiting { until: Some(_), .. }), "{parked:?}");
    stage.world.clock.advance(Duration::from_secs(7_200));
    assert_eq!(stage.resume(&engine, run, &pipeline, options()).await.outputs(), r#"{"twice":8}"#);
}

#[tokio::test]
async fn the_retry_of_a_step_tries_its_child_again() {
    let stage =
        Stage::new().read("t.once", |call, _| if call == 0 { Act::Fail(ErrorClass::Conflict) } else { give(8) });
    stage.file("child", "inputs: { n: { type: integer } }\nsteps:\n  a: { uses: t.once }\noutputs: { twice: \"{{ steps.a.output }}\" }\n");
    let retry = "inputs: { n: 4 } }, retry: { attempts: 2, delay: 30s, jitter: false, on: [conflict] } }";
    let text = PARENT.replace("inputs: { n: 4 } } }", retry);
    assert_eq!(stage.play(&text).await.outputs(), r#"{"twice":8}"#);
    assert_eq!(stage.world.calls(), ["0 t.once {}", "30 t.once {}"]);
}

#[tokio::test]
async fn canceling_a_parent_ends_a_child_that_sleeps() {
    let stage = Stage::new().read("t.tidy", |_, _| give(1));
    stage.file("child", "inputs: { n: { type: integer } }\nsteps:\n  a: { uses: time.wait, with: { for: 2h } }\nfinally:\n  b: { uses: t.tidy }\noutputs: { twice: 8 }\n");
    let pipeline = stage.pipeline(PARENT);
    let engine = stage.engine().await;
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let options = || pipewright::engine::ExecuteOptions { foreground: false, ..Default::default() };
    let parked = engine.execute(run, pipeline.clone(), options()).await.unwrap();
    assert!(matches!(parked, Execution::Waiting { until: Some(_), .. }), "{parked:?}");
    engine.signal(run, &Signal::Cancel { undo: false }).await.unwrap();
    let canceled = engine.execute(run, pipeline.clone(), options()).await.unwrap();
    assert!(matches!(canceled, Execution::Finished { state: RunState::Canceled, .. }), "{canceled:?}");
    let runs = engine.parts().store.runs(&Default::default()).await.unwrap();
    assert!(runs.iter().all(|run| run.state == RunState::Canceled), "{runs:?}");
    assert_eq!(stage.world.calls(), ["0 t.tidy {}"]);
}

#[tokio::test]
async fn a_parent_whose_child_was_never_made_can_be_canceled() {
    let stage = Stage::new();
    stage.file("child", "inputs: { n: { type: integer } }\nsteps:\n  a: { uses: time.wait, with: { for: 2h } }\noutputs: { twice: 8 }\n");
    let pipeline = stage.pipeline(PARENT);
    let engine = stage.engine().await;
    let run = engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap();
    // A process told its journal of the child, and died before it made it.
    let store = &engine.parts().store;
    let fence = store.claim(run, "test").await.unwrap().unwrap();
    let writer = store.writer(run, fence, 1, []);
    let (path, at) = ("call".parse::<StepPath>().unwrap(), super::START);
    writer.append([
        Record::Event(RunEvent::Started { at }),
        Record::Event(RunEvent::Child { path, run: RunId::new(1, 1), at }),
    ]);
    writer.commit().await.unwrap();
    store.release(run, fence).await.unwrap();
    engine.signal(run, &Signal::Cancel { undo: false }).await.unwrap();
    let canceled = engine.execute(run, pipeline, Default::default()).await.unwrap();
    assert!(matches!(canceled, Execution::Finished { state: RunState::Canceled, .. }), "{canceled:?}");
}

#[tokio::test]
async fn each_round_of_an_until_has_a_child_run_of_its_own() {
    let stage = Stage::new().read("t.count", |call, _| give(u64::try_from(call).unwrap()));
    stage.file("child", "steps:\n  a: { uses: t.count }\noutputs: { n: \"{{ steps.a.output }}\" }\n");
    let steps = "steps:\n  call: { uses: pipeline.run, with: { pipeline: child }, until: { holds: \"{{ output.n == 3 }}\", every: 1s, limit: 10 } }\noutputs: { n: \"{{ steps.call.output.n }}\" }\n";
    assert_eq!(stage.play(steps).await.outputs(), r#"{"n":3}"#);
}

#[tokio::test]
async fn a_child_run_that_can_take_nothing_back_is_not_done_again_by_a_retry() {
    let stage = Stage::new()
        .write("t.make", held(), |_, _| give(1))
        .read("t.once", |call, _| if call == 0 { Act::Fail(ErrorClass::Rejected) } else { give(8) });
    stage.file("child", "steps:\n  a: { uses: t.make }\noutputs: { n: \"{{ steps.a.output }}\" }\n");
    let steps = "steps:\n  call: { uses: pipeline.run, with: { pipeline: child } }\n  then: { uses: t.once, needs: [call] }\noutputs: { n: \"{{ steps.call.output.n }}\" }\n";
    let played = stage.play(steps).await;
    assert_eq!(played.failure(), "rejected: step `then`: t.once fails");
    let (engine, pipeline) = (stage.engine().await, stage.pipeline(steps));
    assert_eq!(stage.retry(&engine, played.run, &pipeline, None).await.outputs(), r#"{"n":1}"#);
    assert_eq!(stage.world.happened(), 1);
}
