//! `spread: true`: the items of a `for_each` as child runs that any worker may execute. Whoever executes them, it comes to
//! what it would without.

use std::sync::Arc;

use pipewright::daemon::worker::Worker;
use pipewright::engine::Engine;
use pipewright::engine::ExecuteOptions;
use pipewright::engine::Execution;
use pipewright::engine::Signal;
use pipewright::model::Duration;
use pipewright::model::ErrorClass;
use pipewright::model::RunEvent;
use pipewright::model::RunId;
use pipewright::model::RunState;
use pipewright::model::Settlement;
use pipewright::model::Value;
use pipewright::pipeline::Pipeline;
use pipewright::store::Record;
use pipewright::store::RunFilter;
use pipewright::store::RunRecord;
use tokio_util::sync::CancellationToken;

use super::Act;
use super::Stage;
use super::give;
use super::held;
use super::repeatable;

const CHILD: &str = "inputs: { n: { type: integer } }\nsteps:\n  a: { uses: t.twice, with: { n: \"{{ inputs.n }}\" } }\noutputs: { twice: \"{{ steps.a.output }}\" }\n";

fn parent(more: &str) -> String {
    format!(
        "steps:\n  each:\n    for_each: [1, 2, 3, 4, 5]\n    spread: true\n    uses: pipeline.run\n    with: {{ pipeline: child, inputs: {{ n: \"{{{{ item }}}}\" }} }}\n{more}outputs: {{ all: \"{{{{ steps.each.output | map(attribute='twice') | list }}}}\" }}\n"
    )
}

fn twice(stage: Stage) -> Stage {
    stage.read("t.twice", |_, input| give(input.get("n").unwrap().to_text().parse::<i64>().unwrap() * 2))
}

fn background() -> ExecuteOptions {
    ExecuteOptions { foreground: false, ..ExecuteOptions::default() }
}

async fn start(engine: &Engine, pipeline: &Pipeline) -> RunId {
    engine.start(pipeline, Value::map::<&str>([])).await.unwrap()
}

async fn children(engine: &Engine, parent: RunId) -> Vec<RunRecord> {
    let filter = RunFilter { parent: Some(parent), ..RunFilter::default() };
    engine.parts().store.runs(&filter).await.unwrap()
}

/// A worker that works until it is dropped.
pub(super) struct Working(
    CancellationToken,
    #[expect(dead_code, reason = "ends with the runtime")] tokio::task::JoinHandle<usize>,
);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Stage {
    pub(super) fn works(&self, engine: &Engine) -> Working {
        let stop = CancellationToken::new();
        let worker = Worker {
            engine: engine.clone(),
            registry: self.registry(),
            active: tokio::sync::watch::channel(Arc::default()).1,
            bell: Default::default(),
            metrics: Default::default(),
            most: 4,
            stop: stop.clone(),
            drain: Duration::from_secs(30),
        };
        // As the daemon does: what is announced rings its bell.
        let (bell, mut notices) = (worker.bell.clone(), engine.parts().store.notices());
        tokio::spawn(async move {
            while notices.changed().await.is_ok() {
                bell.ring();
            }
        });
        Working(stop, tokio::spawn(worker.work()))
    }

    /// Executes a run as a worker does, until it sleeps.
    async fn parks(&self, engine: &Engine, run: RunId, pipeline: &Arc<Pipeline>) -> Execution {
        let (engine, pipeline) = (engine.clone(), pipeline.clone());
        let executing = tokio::spawn(async move { engine.execute(run, pipeline, background()).await.unwrap() });
        while !executing.is_finished() {
            self.world.clock.advance(Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
        executing.await.unwrap()
    }

    /// Moves the clock on until a run has ended; two minutes of real time at most.
    pub(super) async fn ended(&self, engine: &Engine, run: RunId, step: Duration) -> RunRecord {
        let ended = tokio::time::timeout(std::time::Duration::from_secs(120), async {
            loop {
                let record = engine.parts().store.run(run).await.unwrap().unwrap();
                if record.state.is_final() {
                    return record;
                }
                self.world.clock.advance(step);
                tokio::task::yield_now().await;
            }
        });
        match ended.await {
            Ok(record) => record,
            Err(_) => panic!(
                "{:#?}\n{:#?}\n{:#?}",
                engine.parts().store.run(run).await.unwrap(),
                children(engine, run).await,
                engine.parts().store.journal(run).await.unwrap()
            ),
        }
    }
}

#[tokio::test]
async fn without_a_daemon_whoever_sits_before_the_run_executes_its_children() {
    let stage = twice(Stage::new());
    stage.file("child", CHILD);
    let played = stage.play(&parent("")).await;
    assert_eq!(played.outputs(), r#"{"all":[2,4,6,8,10]}"#);
    let made = children(&stage.engine().await, played.run).await;
    assert!(made.len() == 5 && made.iter().all(RunRecord::is_spread), "{made:?}");
}

#[tokio::test]
async fn a_parent_sleeps_as_a_whole_while_workers_execute_its_children() {
    let stage = twice(Stage::new());
    stage.file("child", CHILD);
    let (engine, pipeline) = (stage.engine().await, stage.pipeline(&parent("    max_parallel: 2\n")));
    let run = start(&engine, &pipeline).await;
    let parked = stage.parks(&engine, run, &pipeline).await;
    assert!(matches!(&parked, Execution::Waiting { reason, .. } if reason == "waits for 2 child runs"), "{parked:?}");
    assert_eq!(children(&engine, run).await.len(), 2, "no more are open than may be");
    assert!(!engine.parts().store.run(run).await.unwrap().unwrap().owned);
    let _working = stage.works(&engine);
    let record = stage.ended(&engine, run, Duration::from_millis(1)).await;
    assert_eq!(record.outputs.to_string(), r#"{"all":[2,4,6,8,10]}"#);
    assert_eq!(stage.world.seen.lock().unwrap().calls.len(), 5);
}

#[tokio::test]
async fn a_parent_hears_of_an_end_though_the_worker_died_right_after_it() {
    let stage = twice(Stage::new());
    stage.file("child", CHILD);
    let (engine, pipeline) = (stage.engine().await, stage.pipeline(&parent("")));
    let run = start(&engine, &pipeline).await;
    stage.parks(&engine, run, &pipeline).await;
    // All children end, and nobody tells of it.
    let store = &engine.parts().store;
    for child in children(&engine, run).await {
        let fence = store.claim(child.id, "dies").await.unwrap().unwrap();
        let writer = store.writer(child.id, fence, 1, []);
        let (state, at) = (RunState::Succeeded, super::START);
        let outputs = Value::map([("twice", Value::from(7))]);
        writer.append([Record::Event(RunEvent::Finished { at, state, outputs, error: None })]);
        writer.commit().await.unwrap();
    }
    let _working = stage.works(&engine);
    let record = stage.ended(&engine, run, Duration::from_millis(1)).await;
    assert_eq!(record.outputs.to_string(), r#"{"all":[7,7,7,7,7]}"#);
}

#[tokio::test]
async fn a_child_that_was_never_made_is_made() {
    for spread in [true, false] {
        let stage = twice(Stage::new());
        stage.file("child", CHILD);
        let text = parent("").replace("spread: true", &format!("spread: {spread}"));
        let (engine, pipeline) = (stage.engine().await, stage.pipeline(&text));
        let run = engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap();
        // A process told its journal of a child, and died before it made it.
        let store = &engine.parts().store;
        let fence = store.claim(run, "dies").await.unwrap().unwrap();
        let writer = store.writer(run, fence, 1, []);
        let at = super::START;
        let items = Value::list((1..=5).map(Value::from).collect());
        let child = RunId::child_of(run, "each[2]~0");
        writer.append([
            Record::Event(RunEvent::Started { at }),
            Record::Event(RunEvent::Items { step: "each".parse().unwrap(), items, at }),
            Record::Event(RunEvent::Child { path: "each[2]".parse().unwrap(), run: child, at }),
        ]);
        writer.commit().await.unwrap();
        store.release(run, fence).await.unwrap();
        let played = stage.resume(&engine, run, &pipeline, ExecuteOptions::default()).await;
        assert_eq!(played.outputs(), r#"{"all":[2,4,6,8,10]}"#, "spread: {spread}");
        assert!(store.run(child).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn canceling_a_parent_ends_its_children_wherever_they_are() {
    for works in [true, false] {
        let stage = Stage::new().read("t.tidy", |_, _| give(1));
        let rest = "inputs: { n: { type: integer } }\nsteps:\n  a: { uses: time.wait, with: { for: 2h } }\nfinally:\n  b: { uses: t.tidy }\noutputs: { twice: 8 }\n";
        stage.file("child", rest);
        let (engine, pipeline) = (stage.engine().await, stage.pipeline(&parent("")));
        let run = start(&engine, &pipeline).await;
        stage.parks(&engine, run, &pipeline).await;
        engine.signal(run, &Signal::Cancel { undo: false }).await.unwrap();
        let state = if works {
            let _working = stage.works(&engine);
            stage.ended(&engine, run, Duration::from_millis(1)).await.state
        } else {
            // As `runs cancel` does where no daemon is.
            match stage.resume(&engine, run, &pipeline, ExecuteOptions::default()).await.execution {
                Execution::Finished { state, .. } => state,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(state, RunState::Canceled, "works: {works}");
        let made = children(&engine, run).await;
        assert!(made.len() == 5 && made.iter().all(|child| child.state == RunState::Canceled), "{made:?}");
        let tidied = stage.world.seen.lock().unwrap().calls.len();
        assert_eq!(tidied, 5, "works: {works}: each child tidies up before its parent has ended");
    }
}

#[tokio::test]
async fn a_deadline_ends_a_parent_that_sleeps_and_its_children() {
    let stage = Stage::new();
    let rest = "inputs: { n: { type: integer } }\nsteps:\n  a: { uses: time.wait, with: { for: 2h } }\noutputs: { twice: 8 }\n";
    stage.file("child", rest);
    let (engine, pipeline) = (stage.engine().await, stage.pipeline(&format!("deadline: 30m\n{}", parent(""))));
    let run = start(&engine, &pipeline).await;
    stage.parks(&engine, run, &pipeline).await;
    let _working = stage.works(&engine);
    stage.world.clock.advance_to(super::START.plus(Duration::from_secs(1_799)));
    let record = stage.ended(&engine, run, Duration::from_millis(1)).await;
    let error = record.error.clone().unwrap();
    assert_eq!((record.state, error.class), (RunState::Failed, ErrorClass::Timeout), "{record:?}");
    let took = record.ended_at.unwrap().since(super::START);
    assert!(took >= Duration::from_secs(1_800) && took < Duration::from_secs(3_600), "{took}");
    let made = children(&engine, run).await;
    assert!(made.iter().all(|child| child.state == RunState::Canceled), "{made:?}");
}

#[tokio::test]
async fn a_child_that_a_person_cancels_fails_its_step_alone() {
    for spread in [true, false] {
        let stage = Stage::new();
        let rest = "inputs: { n: { type: integer } }\nsteps:\n  a: { uses: time.wait, with: { for: 2h } }\noutputs: { twice: 8 }\n";
        stage.file("child", rest);
        let text = parent("    on_error: continue\n").replace("spread: true", &format!("spread: {spread}"));
        let text = text.split("outputs: { all").next().unwrap().to_owned();
        let (engine, pipeline) = (stage.engine().await, stage.pipeline(&text));
        let run = start(&engine, &pipeline).await;
        stage.parks(&engine, run, &pipeline).await;
        for child in children(&engine, run).await {
            engine.signal(child.id, &Signal::Cancel { undo: false }).await.unwrap();
        }
        let _working = stage.works(&engine);
        let record = stage.ended(&engine, run, Duration::from_millis(1)).await;
        assert_eq!(record.state, RunState::Succeeded, "spread: {spread}, {record:?}");
        let journal = engine.parts().store.journal(run).await.unwrap();
        let failed = journal.iter().filter(|event| match event {
            RunEvent::Failed { error, .. } => error.message == "the child run was canceled",
            _ => false,
        });
        assert_eq!(failed.count(), 5, "spread: {spread}, {journal:#?}\n{:#?}", children(&engine, run).await);
    }
}

#[tokio::test]
async fn children_of_children_are_spread_too_and_a_word_to_one_reaches_it() {
    let stage = twice(Stage::new()).write("t.doubtful", held(), |_, _| Act::Lose(false));
    stage.file("child", CHILD);
    stage.file("middle", &format!("inputs: {{ n: {{ type: integer }} }}\n{}", parent("")));
    stage.file("doubtful", "inputs: { n: { type: integer } }\nsteps:\n  a: { uses: t.doubtful, with: { n: \"{{ inputs.n }}\" } }\noutputs: { twice: 1 }\n");
    let text = "steps:\n  call: { uses: pipeline.run, with: { pipeline: middle, inputs: { n: 1 } } }\n  doubt: { uses: pipeline.run, with: { pipeline: doubtful, inputs: { n: 1 } } }\noutputs: { all: \"{{ steps.call.output.all }}\" }\n";
    let (engine, pipeline) = (stage.engine().await, stage.pipeline(text));
    let run = engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap();
    let _working = stage.works(&engine);
    // The child that the parent executes is in doubt; a person's word to it wakes its parent.
    let doubts =
        pipewright::store::EffectFilter { states: vec![pipewright::store::EffectState::InDoubt], ..Default::default() };
    let doubt = loop {
        if let Some(doubt) = engine.parts().store.effects(&doubts).await.unwrap().pop() {
            break doubt;
        }
        stage.world.clock.advance(Duration::from_millis(1));
        tokio::task::yield_now().await;
    };
    for _ in 0..200 {
        stage.world.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let verdict = pipewright::model::Verdict::Dropped;
    engine.signal(doubt.run, &Signal::Resolve { effect: doubt.id.to_string(), verdict }).await.unwrap();
    let record = stage.ended(&engine, run, Duration::from_millis(1)).await;
    assert_eq!(record.outputs.to_string(), r#"{"all":[2,4,6,8,10]}"#, "{record:?}");
}

#[tokio::test]
async fn a_retry_of_a_parent_tries_its_failed_children_again() {
    for works in [true, false] {
        let stage = Stage::new().read("t.twice", |call, input| {
            if call == 0 { Act::Fail(ErrorClass::Rejected) } else { give(input.get("n").unwrap().clone()) }
        });
        stage.file("child", CHILD);
        let (engine, pipeline) = (stage.engine().await, stage.pipeline(&parent("    max_parallel: 5\n")));
        let played = stage.play(&parent("    max_parallel: 5\n")).await;
        assert_eq!(played.failure(), "rejected: step `each`: item 0: step `a`: t.twice fails");
        let options = if works { background() } else { ExecuteOptions::default() };
        let again = engine.retry(played.run, pipeline.clone(), None, options);
        let moving = async {
            loop {
                stage.world.clock.advance(Duration::from_millis(1));
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            again = again => drop(again.unwrap()),
            () = moving => {}
        }
        let _working = works.then(|| stage.works(&engine));
        let record = stage.ended(&engine, played.run, Duration::from_millis(1)).await;
        assert_eq!(record.outputs.to_string(), r#"{"all":[1,2,3,4,5]}"#, "works: {works}, {record:?}");
        assert_eq!(children(&engine, played.run).await.len(), 5);
    }
}

/// A pipeline of some steps with random keys, and a child whose items fail as their input says.
fn random(random: &mut fastrand::Rng) -> String {
    let mut text = String::from("steps:\n");
    let steps = random.usize(1..4);
    for step in 0..steps {
        let items = random.usize(0..6);
        let on_error = ["fail", "continue", "{ default: { twice: -1 } }"][random.usize(..3)];
        let one = if random.u8(..3) > 0 { items + 1 } else { random.usize(0..items + 1) };
        // An item ends well, fails once, or fails for good; one at most where that would end the step early.
        let list: Vec<String> = (0..items)
            .map(|item| {
                let fault = if on_error == "fail" { usize::from(item == one) * 2 } else { random.usize(..3) };
                (step * 1_000 + item * 10 + fault).to_string()
            })
            .collect();
        text += &format!("  s{step}:\n    for_each: [{}]\n    spread: SPREAD\n", list.join(", "));
        if step > 0 && random.bool() {
            text += &format!("    needs: [s{}]\n", random.usize(..step));
        }
        // One after the other where a failure ends what comes after it, so that it is the same in every order.
        let at_once = if on_error == "fail" && one < items { 1 } else { random.usize(1..5) };
        text += &format!("    max_parallel: {at_once}\n    on_error: {on_error}\n");
        text += "    retry: { attempts: 2, delay: 1s, jitter: false, on: [conflict] }\n";
        text += "    uses: pipeline.run\n    with: { pipeline: child, inputs: { n: \"{{ item }}\" } }\n";
    }
    let outputs: Vec<_> = (0..steps).map(|step| format!("s{step}: \"{{{{ steps.s{step}.output }}}}\"")).collect();
    text + &format!("outputs: {{ {} }}\n", outputs.join(", "))
}

async fn outcome(text: &str, spread: bool, works: bool) -> (RunState, String, Vec<String>, Vec<String>) {
    let fault = |call: usize, input: &Value| match input.get("n").unwrap().to_text().parse::<i64>().unwrap() % 10 {
        2 => Act::Fail(ErrorClass::Rejected),
        1 if call == 0 => Act::Fail(ErrorClass::Conflict),
        _ => give(input.get("n").unwrap().clone()),
    };
    // The clock is moved as fast as it goes: nothing is to be late by it.
    let patient = |settlement: Settlement| Settlement { timeout: Duration::from_secs(1_000_000), ..settlement };
    let stage = Stage::new()
        .write("t.make", patient(repeatable()), move |_, input| give(input.get("n").unwrap().clone()))
        .write("t.take_back", patient(held()), |_, input| give(input.clone()))
        .read("t.check", fault);
    stage.file("child", "inputs: { n: { type: integer } }\nsteps:\n  make: { uses: t.make, with: { n: \"{{ inputs.n }}\" }, undo: { uses: t.take_back, with: { n: \"{{ inputs.n }}\" } } }\n  check: { needs: [make], uses: t.check, with: { n: \"{{ inputs.n }}\" }, retry: { attempts: 1 } }\noutputs: { twice: \"{{ steps.check.output }}\" }\n");
    let text = text.replace("SPREAD", &spread.to_string());
    let (engine, pipeline) = (stage.engine().await, stage.pipeline(&text));
    let record = if works {
        let run = engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap();
        let _working = stage.works(&engine);
        stage.ended(&engine, run, Duration::from_millis(20)).await
    } else {
        let run = start(&engine, &pipeline).await;
        stage.resume(&engine, run, &pipeline, ExecuteOptions::default()).await;
        engine.parts().store.run(run).await.unwrap().unwrap()
    };
    let mut calls: Vec<_> = stage.world.seen.lock().unwrap().calls.iter().map(|(_, call)| call.clone()).collect();
    calls.sort();
    let mut happened: Vec<_> =
        stage.world.seen.lock().unwrap().happened.iter().map(|(_, value)| value.to_string()).collect();
    happened.sort();
    let error = record.error.as_ref().map(ToString::to_string).unwrap_or_default();
    (record.state, format!("{}{error}", record.outputs), calls, happened)
}

/// Outputs, failures, retries, defaults, undo: what comes of a graph does not depend on who executes its items.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spread_graph_comes_to_what_it_would_without() {
    let mut failed = 0;
    for seed in 0..8 {
        let text = random(&mut fastrand::Rng::with_seed(seed));
        let plain = outcome(&text, false, false).await;
        failed += usize::from(plain.0 == RunState::Failed);
        for works in [false, true] {
            let spread = outcome(&text, true, works).await;
            assert_eq!(plain, spread, "seed {seed}, works: {works}\n{text}");
        }
    }
    assert!((1..8).contains(&failed), "both ends are met: {failed}");
}
