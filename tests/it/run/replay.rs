//! Runs that are in the store, again: from their journals alone, whatever happened in them.

use std::sync::Arc;

use pipewright::engine::ExecuteOptions;
use pipewright::engine::Signal;
use pipewright::model::Duration;
use pipewright::model::ErrorClass;
use pipewright::model::Value;
use pipewright::model::Verdict;
use pipewright::pipeline::Pipeline;
use pipewright::pipeline::compile_definition;
use pipewright::replay;
use pipewright::replay::Compared;
use pipewright::replay::Difference;

use super::Act;
use super::Played;
use super::Stage;
use super::askable;
use super::give;
use super::held;
use super::repeatable;

impl Stage {
    /// Replays a run from the store, with the version that it had or another one.
    async fn again(&self, played: &Played, with: Option<Arc<Pipeline>>) -> Compared {
        let engine = self.engine().await;
        let cassette = replay::gather(&engine.parts().store, &self.registry(), played.run, None).await.unwrap();
        let recorded = compile_definition(&cassette.definition, &self.registry()).unwrap();
        // A replay has a runtime of its own.
        tokio::task::spawn_blocking(move || replay::replay(cassette, &recorded, with.as_ref())).await.unwrap().unwrap()
    }

    #[track_caller]
    fn calls_since(&self, before: usize) -> usize {
        self.world.calls().len() - before
    }
}

#[track_caller]
fn same(compared: &Compared, effects: usize) {
    assert!(compared.is_same(), "{compared:#?}");
    assert_eq!(compared.effects, effects);
}

#[tokio::test]
async fn whatever_happened_in_a_run_happens_in_its_replay() {
    let cases: [(&str, usize, Stage, &str); 9] = [
        (
            "retries and a Retry-After",
            1,
            Stage::new()
                .read("t.busy", |call, _| match call {
                    0 => Act::Later(ErrorClass::Throttled, Duration::from_secs(45)),
                    1 => Act::Fail(ErrorClass::Unavailable),
                    _ => give("done"),
                })
                .write("t.make", held(), |_, _| give(1)),
            "steps:\n  a: { uses: t.busy, retry: { attempts: 4, delay: 1s } }\n  b: { uses: t.make, with: { x: \"{{ steps.a.output }}\" } }\n",
        ),
        (
            "two days asleep, and the time of a later step in its request",
            1,
            Stage::new().write("t.make", held(), |_, _| give(1)),
            "steps:\n  w: { uses: time.wait, with: { for: 2d } }\n  b: { needs: [w], uses: t.make, with: { at: \"{{ now() }}\" } }\n",
        ),
        (
            "an answer that is lost, and the remote that is asked",
            1,
            Stage::new().write("t.make", askable(), |_, _| Act::Lose(true)),
            "steps:\n  b: { uses: t.make, with: { x: 1 } }\n",
        ),
        (
            "an answer that is lost before anything happened",
            1,
            Stage::new().write("t.make", askable(), |call, _| if call == 0 { Act::Lose(false) } else { give(7) }),
            "steps:\n  b: { uses: t.make, with: { x: 1 } }\noutputs: { b: \"{{ steps.b.output }}\" }\n",
        ),
        (
            "what may be sent again",
            1,
            Stage::new().write("t.make", repeatable(), |call, _| if call < 1 { Act::Lose(true) } else { give(7) }),
            "steps:\n  b: { uses: t.make, with: { x: 1 } }\n",
        ),
        (
            "put off by a limit, and a failure that allows no more attempts",
            1,
            Stage::new()
                .write(
                    "t.make",
                    held(),
                    |call, _| if call == 0 { Act::PutOff(Duration::from_secs(20)) } else { give(1) },
                )
                .read("t.strict", |_, _| Act::FailWithin(ErrorClass::Unavailable, 2)),
            "steps:\n  a: { uses: t.make }\n  b: { needs: [a], uses: t.strict, retry: { attempts: 9, delay: 1s } }\n",
        ),
        (
            "items in parallel, one fails for good, all are undone",
            6,
            Stage::new()
                .write("t.make", held(), |_, input| give(input.clone()))
                .write("t.take", held(), |_, _| give(0))
                .read("t.check", |_, _| Act::Fail(ErrorClass::Rejected)),
            "steps:\n  a:\n    for_each: [1, 2, 3]\n    uses: t.make\n    with: { item: \"{{ item }}\" }\n    undo: { uses: t.take, with: { item: \"{{ output.item }}\" } }\n  b: { needs: [a], uses: t.check }\n",
        ),
        (
            "rounds",
            1,
            Stage::new().read("t.poll", |call, _| give(Value::Int(i128::try_from(call).unwrap()))).write(
                "t.make",
                held(),
                |_, _| give(1),
            ),
            "steps:\n  a: { uses: t.poll, until: { holds: \"{{ output >= 3 }}\", every: 10m, limit: 9 } }\n  b: { uses: t.make, with: { x: \"{{ steps.a.output }}\" } }\n",
        ),
        (
            "an attempt that hangs",
            1,
            Stage::new()
                .read("t.slow", |call, _| if call == 0 { Act::Hang(Duration::from_secs(5)) } else { give(1) })
                .write("t.make", held(), |_, _| give(1)),
            "steps:\n  a: { uses: t.slow, timeout: 5s, retry: { attempts: 2, delay: 10s } }\n  b: { needs: [a], uses: t.make }\n",
        ),
    ];
    for (what, effects, stage, text) in cases {
        let played = stage.play(text).await;
        let (calls, happened) = (stage.world.calls().len(), stage.world.happened());
        let compared = stage.again(&played, None).await;
        assert!(compared.is_same(), "{what}: {compared:#?}\n{}", played.told());
        assert_eq!(compared.effects, effects, "{what}");
        // Nothing was asked, and nothing happened, outside.
        assert_eq!((stage.calls_since(calls), stage.world.happened()), (0, happened), "{what}");
    }
}

#[tokio::test]
async fn children_and_their_effects_are_replayed_with_their_parent() {
    let stage = Stage::new().write("t.make", held(), |_, _| give(1));
    stage.file(
        "child",
        "inputs: { n: { type: integer } }\nsteps:\n  m: { uses: t.make, with: { n: \"{{ inputs.n }}\" } }\n",
    );
    let text = "steps:\n  c:\n    for_each: [1, 2]\n    uses: pipeline.run\n    with: { pipeline: child, inputs: { n: \"{{ item }}\" } }\n";
    let played = stage.play(text).await;
    same(&stage.again(&played, None).await, 2);
    // Another version gives its children something else.
    let with = stage.pipeline(&text.replace("{{ item }}", "{{ item + 10 }}"));
    let compared = stage.again(&played, Some(with)).await;
    let changed: Vec<_> = compared
        .differences
        .iter()
        .filter_map(|difference| match difference {
            Difference::Changed { now, fields, .. } => Some((now.place.as_str(), fields.len())),
            _ => None,
        })
        .collect();
    assert_eq!(changed, [("c[0] > m", 1), ("c[1] > m", 1)], "{compared:#?}");
}

#[tokio::test]
async fn what_people_said_is_said_again_at_its_time() {
    let stage = Stage::new().write("t.make", held(), |_, _| Act::Lose(true));
    let engine = stage.engine().await;
    let pipeline = stage.pipeline("steps:\n  b: { uses: t.make, with: { x: 1 } }\n");
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let options = || ExecuteOptions { foreground: false, ..ExecuteOptions::default() };
    let waiting = stage.resume(&engine, run, &pipeline, options()).await;
    assert!(waiting.waits().starts_with("in doubt: "));
    same(&stage.again(&waiting, None).await, 1);
    stage.world.clock.advance(Duration::from_secs(86_400));
    let verdict = Verdict::Happened { output: Value::from("it did"), remote_id: None };
    engine.signal(run, &Signal::Resolve { effect: format!("{run}/b"), verdict }).await.unwrap();
    let ended = stage.resume(&engine, run, &pipeline, options()).await;
    ended.outputs();
    same(&stage.again(&ended, None).await, 1);
}

#[tokio::test]
async fn a_run_that_was_tried_again_is_tried_again() {
    let stage = Stage::new()
        .read("t.flaky", |call, _| if call == 0 { Act::Fail(ErrorClass::Rejected) } else { give(2) })
        .write("t.make", held(), |_, _| give(1));
    let text = "steps:\n  a: { uses: t.flaky }\n  b: { uses: t.make, with: { x: \"{{ steps.a.output }}\" } }\n";
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(text);
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let failed = stage.resume(&engine, run, &pipeline, ExecuteOptions::default()).await;
    failed.failure();
    same(&stage.again(&failed, None).await, 0);
    let ended = stage.retry(&engine, run, &pipeline, None).await;
    ended.outputs();
    same(&stage.again(&ended, None).await, 1);
}

#[tokio::test]
async fn another_version_is_held_against_what_the_store_knows() {
    let stage = Stage::new()
        .read("t.stock", |_, input| give(input.get("of").unwrap().clone()))
        .write("t.order", held(), |_, _| give("ordered"))
        .write("t.tell", held(), |_, _| give("told"));
    let text = "steps:\n  stock: { uses: t.stock, with: { of: 12 } }\n  order: { uses: t.order, with: { quantity: \"{{ steps.stock.output }}\" } }\n  behind: { needs: [order], uses: t.tell, with: { text: done } }\n";
    let played = stage.play(text).await;
    // A write that is another one is answered as the recorded one was, and said to be.
    let less = stage.pipeline(&text.replace("{{ steps.stock.output }}", "{{ steps.stock.output - 2 }}"));
    let compared = stage.again(&played, Some(less)).await;
    assert_eq!(compared.supposed, ["order"]);
    let [Difference::Changed { now, fields, .. }] = compared.differences.as_slice() else { panic!("{compared:#?}") };
    assert_eq!((now.place.as_str(), fields[0].field.as_str()), ("order", "quantity"));
    assert_eq!((&fields[0].old, &fields[0].new), (&Some(Value::Int(12)), &Some(Value::Int(10))));
    // A read that asks something else has no answer: it says so, and what hangs on it is not made up.
    let other = stage.pipeline(&text.replace("of: 12", "of: 13"));
    let compared = stage.again(&played, Some(other)).await;
    assert_eq!(compared.misses.len(), 1, "{compared:#?}");
    assert_eq!(compared.misses[0].place, "stock");
    assert_eq!(compared.misses[0].reason, "`of` is 13, and was 12 when `stock` was recorded");
    assert_eq!(compared.unreached, ["behind", "order"]);
    // A step under a new name is answered all the same; a new write is not.
    let renamed = stage.pipeline(
        &format!(
            "{}  more: {{ uses: t.fresh, with: {{ a: 1 }} }}\n",
            text.replace("  stock:", "  store:").replace("steps.stock", "steps.store")
        )
        .replace("t.fresh", "t.tell"),
    );
    let compared = stage.again(&played, Some(renamed)).await;
    assert!(compared.misses.iter().all(|miss| miss.place != "store"), "{compared:#?}");
    let new = compared.differences.iter().any(|difference| {
        matches!(difference, Difference::New { effect, .. } if effect.place == "more" || effect.place == "behind")
    });
    assert!(new, "{compared:#?}");
}

#[tokio::test]
async fn what_the_store_has_lost_is_said() {
    let stage = Stage::new();
    let engine = stage.engine().await;
    let missing = pipewright::model::RunId::new(5, 5);
    let error = replay::gather(&engine.parts().store, &stage.registry(), missing, None).await.unwrap_err();
    assert_eq!(error.to_string(), format!("there is no run `{missing}`"));
}
