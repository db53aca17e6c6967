//! What runs, in which order, and what it comes to.

use pipewright::engine::Execution;
use pipewright::engine::Signal;
use pipewright::model::Duration;
use pipewright::model::ErrorClass;
use pipewright::model::RunState;
use pipewright::model::Value;

use super::Act;
use super::Stage;
use super::give;
use super::held;

fn echo(_: usize, input: &Value) -> Act {
    give(input.get("n").cloned().unwrap_or_default())
}

#[tokio::test]
async fn items_run_in_parallel_up_to_a_limit_and_keep_their_order() {
    let stage = Stage::new().read("t.echo", echo);
    let text = "steps:\n  a:\n    for_each: \"{{ range(40) }}\"\n    max_parallel: 7\n    uses: t.echo\n    with: { n: \"{{ item * 2 }}\" }\noutputs: { a: \"{{ steps.a.output }}\" }\n";
    let played = stage.play(text).await;
    let expected: Vec<_> = (0..40).map(|n| (2 * n).to_string()).collect();
    assert_eq!(played.outputs(), format!("{{\"a\":[{}]}}", expected.join(",")));
    assert_eq!(stage.world.seen.lock().unwrap().most_at_once, 7);
}

#[tokio::test]
async fn steps_side_by_side_run_at_the_same_time() {
    let stage = Stage::new().read("t.echo", echo);
    let steps: String = (0..5).map(|n| format!("  s{n}: {{ uses: t.echo, with: {{ n: {n} }} }}\n")).collect();
    stage.play(&format!("steps:\n{steps}")).await.outputs();
    assert_eq!(stage.world.seen.lock().unwrap().most_at_once, 5);
}

#[tokio::test]
async fn one_item_retries_alone_and_one_that_fails_for_good_fails_the_step() {
    let script = |call: usize, input: &Value| match (input.to_string().as_str(), call) {
        (r#"{"n":1}"#, 0) => Act::Fail(ErrorClass::Unavailable),
        (r#"{"n":2}"#, _) => Act::Fail(ErrorClass::Rejected),
        _ => echo(call, input),
    };
    let text = "steps:\n  a:\n    for_each: [0, 1, 2, 3]\n    uses: t.item\n    with: { n: \"{{ item }}\" }\n    retry: { attempts: 2, delay: 5s, jitter: false }\nONERRORoutputs: { a: \"{{ steps.a.output | default(none) }}\" }\n";
    let stage = Stage::new().read("t.item", script);
    let failed = stage.play(&text.replace("ONERROR", "")).await;
    assert_eq!(failed.failure(), "rejected: step `a`: item 2: t.item fails");
    let stage = Stage::new().read("t.item", script);
    let went_on = stage.play(&text.replace("ONERROR", "    on_error: continue\n")).await;
    assert_eq!(went_on.outputs(), r#"{"a":[0,1,null,3]}"#);
    let again = stage.world.calls().iter().filter(|call| call.contains(r#"{"n":1}"#)).count();
    assert_eq!(again, 2, "{:?}", stage.world.calls());
}

#[tokio::test]
async fn an_empty_list_is_an_empty_result() {
    let stage = Stage::new().read("t.echo", echo);
    let text = "steps:\n  a: { for_each: [], uses: t.echo, with: { n: \"{{ item }}\" } }\n  b: { uses: t.echo, with: { n: \"{{ steps.a.output | length }}\" } }\noutputs: { b: \"{{ steps.b.output }}\" }\n";
    assert_eq!(stage.play(text).await.outputs(), r#"{"b":0}"#);
}

#[tokio::test]
async fn an_item_that_reads_the_one_before_runs_behind_it() {
    let stage = Stage::new().read("t.echo", echo);
    let text = "steps:\n  a:\n    for_each: [1, 2, 3, 4]\n    uses: t.echo\n    with: { n: \"{{ item + (previous | default(0)) }}\" }\noutputs: { a: \"{{ steps.a.output }}\" }\n";
    assert_eq!(stage.play(text).await.outputs(), r#"{"a":[1,3,6,10]}"#);
    assert_eq!(stage.world.seen.lock().unwrap().most_at_once, 1);
}

#[tokio::test]
async fn a_skipped_step_does_not_skip_those_behind_it() {
    let stage = Stage::new().read("t.echo", echo);
    let text = "steps:\n  a: { when: \"{{ 1 > 2 }}\", uses: t.echo, with: { n: 1 } }\n  b: { needs: [a], uses: t.echo, with: { n: \"{{ steps.a.output | default(7) }}\" } }\noutputs: { b: \"{{ steps.b.output }}\", a: \"{{ steps.a.state }}\" }\n";
    assert_eq!(stage.play(text).await.outputs(), r#"{"b":7,"a":"skipped"}"#);
}

#[tokio::test]
async fn an_error_may_be_left_behind_or_replaced() {
    let stage = Stage::new().read("t.fail", |_, _| Act::Fail(ErrorClass::Rejected)).read("t.echo", echo);
    let text = "steps:\n  a: { uses: t.fail, on_error: continue }\n  b: { uses: t.fail, on_error: { default: { n: 5 } } }\n  c: { needs: [a], uses: t.echo, with: { n: \"{{ steps.b.output.n }}\" } }\noutputs: { a: \"{{ steps.a.state }}\", why: \"{{ steps.a.error.class }}\", b: \"{{ steps.b.state }}\", c: \"{{ steps.c.output }}\" }\n";
    assert_eq!(stage.play(text).await.outputs(), r#"{"a":"failed","why":"rejected","b":"succeeded","c":5}"#);
}

#[tokio::test]
async fn a_failed_step_stops_what_needs_it_and_not_its_neighbors() {
    let stage = Stage::new().read("t.fail", |_, _| Act::Fail(ErrorClass::Rejected)).read("t.echo", echo);
    let text = "steps:\n  a: { uses: t.fail }\n  behind: { needs: [a], uses: t.echo, with: { n: 1 } }\n  beside: { uses: t.echo, with: { n: 2 } }\n  later: { needs: [beside], uses: t.echo, with: { n: 3 } }\n";
    let played = stage.play(text).await;
    assert_eq!(played.failure(), "rejected: step `a`: t.fail fails");
    let mut ends = played.ends();
    ends.sort();
    assert_eq!(ends, ["a failed", "behind canceled", "beside succeeded", "later succeeded"]);
}

#[tokio::test]
async fn a_panic_fails_its_step_and_nothing_else() {
    let stage = Stage::new().read("t.broken", |_, _| Act::Panic).read("t.echo", echo);
    let played = stage.play("steps:\n  a: { uses: t.broken }\n  b: { uses: t.echo, with: { n: 1 } }\n").await;
    assert_eq!(played.failure(), "bug: step `a`: the node panicked: t.broken breaks");
    assert!(played.ends().contains(&"b succeeded".to_owned()));
}

#[tokio::test]
async fn undo_goes_backwards_then_on_failure_then_finally() {
    let stage = Stage::new()
        .write("t.make", held(), echo)
        .write("t.take_back", held(), echo)
        .read("t.fail", |_, _| Act::Fail(ErrorClass::Rejected))
        .read("t.tell", echo);
    let make = |id: &str, needs: &str, n: u32| {
        format!(
            "  {id}: {{ needs: [{needs}], uses: t.make, with: {{ n: {n} }}, undo: {{ uses: t.take_back, with: {{ n: \"{{{{ output * 10 }}}}\" }} }} }}\n"
        )
    };
    let text = format!(
        "steps:\n{}{}  c: {{ needs: [b], uses: t.fail }}\non_failure:\n  tell: {{ uses: t.tell, with: {{ n: \"{{{{ run.error.class }}}}\" }} }}\nfinally:\n  tidy: {{ uses: t.tell, with: {{ n: 0 }} }}\n",
        make("a", "", 1),
        make("b", "a", 2)
    );
    let played = stage.play(&text).await;
    assert_eq!(played.failure(), "rejected: step `c`: t.fail fails");
    let calls: Vec<_> = stage.world.calls();
    assert_eq!(
        calls,
        [
            r#"0 t.make {"n":1}"#,
            r#"0 t.make {"n":2}"#,
            "0 t.fail {}",
            r#"0 t.take_back {"n":20}"#,
            r#"0 t.take_back {"n":10}"#,
            r#"0 t.tell {"n":"rejected"}"#,
            r#"0 t.tell {"n":0}"#,
        ]
    );
}

#[tokio::test]
async fn an_undo_that_fails_holds_the_run() {
    let stage = Stage::new()
        .write("t.make", held(), echo)
        .write(
            "t.take_back",
            held(),
            |call, input| {
                if call == 0 { Act::Fail(ErrorClass::Rejected) } else { echo(call, input) }
            },
        )
        .read("t.fail", |_, _| Act::Fail(ErrorClass::Rejected));
    let text = "steps:\n  a: { uses: t.make, with: { n: 1 }, undo: { uses: t.take_back, with: { n: 1 } } }\n  b: { needs: [a], uses: t.fail }\n";
    let played = stage.play(text).await;
    assert!(played.waits().contains("the undo of step `a` failed"), "{}", played.waits());
    // A person has looked, and it goes on.
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(text);
    let again = stage.resume(&engine, played.run, &pipeline, Default::default()).await;
    assert_eq!(again.failure(), "rejected: step `b`: t.fail fails");
}

#[tokio::test]
async fn a_guard_stops_the_run_before_anything_happens_or_fails_it_at_the_end() {
    let stage = Stage::new().read("t.echo", echo);
    let text = "guards: { before: [{ that: \"{{ 1 > 2 }}\", message: the market is closed }] }\nsteps:\n  a: { uses: t.echo }\n";
    let before = stage.play(text).await;
    assert_eq!(before.failure(), "rejected: guard does not hold: the market is closed");
    assert!(stage.world.calls().is_empty());
    let text = "guards: { after: [\"{{ steps.a.output == 2 }}\"] }\nsteps:\n  a: { uses: t.echo, with: { n: 1 } }\n";
    let after = stage.play(text).await;
    assert!(after.failure().starts_with("rejected: guard does not hold"), "{}", after.failure());
}

#[tokio::test]
async fn strict_durability_stores_every_result_before_the_next_step() {
    let stage = Stage::new().read("t.echo", echo);
    let steps: String = (0..4)
        .map(|n| {
            let needs = if n == 0 { String::new() } else { format!("needs: [s{}], ", n - 1) };
            format!("  s{n}: {{ {needs}uses: t.echo, with: {{ n: {n} }} }}\n")
        })
        .collect();
    let played = stage.play(&format!("durability: strict\nsteps:\n{steps}")).await;
    played.outputs();
    assert_eq!(played.ends(), ["s0 succeeded", "s1 succeeded", "s2 succeeded", "s3 succeeded"]);
}

#[tokio::test]
async fn canceling_reaches_a_running_step_and_the_run_still_tidies_up() {
    let stage = Stage::new().read("t.hang", |_, _| Act::Hang(Duration::from_secs(1))).read("t.echo", echo);
    let pipeline = stage.pipeline("steps:\n  a: { uses: t.hang }\n  b: { needs: [a], uses: t.echo }\nfinally:\n  c: { uses: t.echo, with: { n: \"{{ run.state }}\" } }\n");
    let engine = stage.engine().await;
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    engine.signal(run, &Signal::Cancel { undo: false }).await.unwrap();
    // The signal is taken first: nothing starts at all.
    let before = engine.execute(run, pipeline.clone(), Default::default()).await.unwrap();
    assert!(matches!(before, Execution::Finished { state: RunState::Canceled, .. }), "{before:?}");
    assert_eq!(stage.world.calls(), [r#"0 t.echo {"n":"canceled"}"#]);
    // While a step hangs: the inbox is looked at as the clock goes on.
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let executing = tokio::spawn({
        let (engine, pipeline) = (engine.clone(), pipeline.clone());
        async move { engine.execute(run, pipeline, Default::default()).await.unwrap() }
    });
    while !stage.world.calls().iter().any(|call| call.contains("t.hang")) {
        tokio::task::yield_now().await;
    }
    engine.signal(run, &Signal::Cancel { undo: false }).await.unwrap();
    while !executing.is_finished() {
        stage.world.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let execution = executing.await.unwrap();
    assert!(matches!(execution, Execution::Finished { state: RunState::Canceled, .. }), "{execution:?}");
    let calls = stage.world.calls();
    assert!(calls.last().unwrap().ends_with(r#"t.echo {"n":"canceled"}"#), "{calls:?}");
}

#[tokio::test]
async fn what_a_canceled_run_undoes_and_tidies_up_is_tried_again() {
    let flaky =
        |call: usize, input: &Value| if call == 0 { Act::Fail(ErrorClass::Throttled) } else { echo(call, input) };
    let stage = Stage::new().write("t.make", held(), echo).write("t.remove", held(), flaky).read("t.tell", flaky);
    let again = "retry: { attempts: 2, delay: 5s, jitter: false }";
    let pipeline = stage.pipeline(&format!(
        "steps:\n  a: {{ uses: t.make, with: {{ n: 1 }}, undo: {{ uses: t.remove, with: {{ n: 2 }}, {again} }} }}\n  \
         b: {{ needs: [a], uses: time.wait, with: {{ for: 2h }} }}\nfinally:\n  \
         c: {{ uses: t.tell, with: {{ n: 3 }}, {again} }}\n"
    ));
    let engine = stage.engine().await;
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let asleep = pipewright::engine::ExecuteOptions { foreground: false, ..Default::default() };
    let parked = engine.execute(run, pipeline.clone(), asleep).await.unwrap();
    assert!(matches!(parked, Execution::Waiting { .. }), "{parked:?}");
    engine.signal(run, &Signal::Cancel { undo: true }).await.unwrap();
    let execution = stage.resume(&engine, run, &pipeline, Default::default()).await.execution;
    assert!(matches!(execution, Execution::Finished { state: RunState::Canceled, .. }), "{execution:?}");
    let calls = stage.world.calls();
    let times = |name: &str| calls.iter().filter(|call| call.contains(name)).count();
    assert_eq!((times("t.remove"), times("t.tell")), (2, 2), "{calls:?}");
}

#[tokio::test]
async fn a_retry_runs_what_failed_and_keeps_what_succeeded() {
    let stage = Stage::new()
        .read("t.echo", echo)
        .read("t.once", |call, _| if call == 0 { Act::Fail(ErrorClass::Rejected) } else { give("at last") });
    let text = "steps:\n  a: { uses: t.echo, with: { n: 1 } }\n  b: { needs: [a], uses: t.once }\n  c: { needs: [b], uses: t.echo, with: { n: 3 } }\noutputs: { b: \"{{ steps.b.output }}\" }\n";
    let played = stage.play(text).await;
    played.failure();
    let (engine, pipeline) = (stage.engine().await, stage.pipeline(text));
    let again = stage.retry(&engine, played.run, &pipeline, None).await;
    assert_eq!(again.outputs(), r#"{"b":"at last"}"#);
    let calls = stage.world.calls();
    assert_eq!(calls, [r#"0 t.echo {"n":1}"#, "0 t.once {}", "0 t.once {}", r#"0 t.echo {"n":3}"#]);
    // From a step on: it and what is behind it, though they had succeeded.
    let from = stage.retry(&engine, played.run, &pipeline, Some("b")).await;
    from.outputs();
    assert_eq!(stage.world.calls().len(), 6);
}

#[tokio::test]
async fn rows_become_a_dataset_that_the_next_steps_read() {
    let stage = Stage::new().read("t.rows", |_, _| give(Value::list((0..2_500).map(Value::from).collect())));
    let text = "steps:\n  load: { uses: t.rows, into: numbers }\n  sum: { uses: data.reduce, with: { items: \"{{ steps.load.output }}\", initial: 0, to: \"{{ acc + item }}\" } }\n  each: { for_each: \"{{ steps.load.output }}\", uses: data.map, with: { items: [\"{{ item }}\"], to: \"{{ item * 2 }}\" } }\noutputs: { sum: \"{{ steps.sum.output }}\", last: \"{{ steps.each.output[2499][0] }}\" }\n";
    assert_eq!(stage.play(text).await.outputs(), r#"{"sum":3123750,"last":4998}"#);
}

#[tokio::test]
async fn the_rows_of_a_table_become_a_dataset() {
    let stage = Stage::new().read("t.number", |_, _| give(7));
    let text = "steps:\n  load: { uses: csv.read, with: { text: \"a,b\\n1,2\\n3,4\\n\" }, into: table }\n  sum: { uses: data.reduce, with: { items: \"{{ steps.load.output }}\", initial: 0, to: \"{{ acc + (item.b | int) }}\" } }\n  each: { for_each: \"{{ steps.load.output }}\", uses: data.map, with: { items: [\"{{ item.a }}\"], to: \"{{ item | int }}\" } }\noutputs: { sum: \"{{ steps.sum.output }}\", each: \"{{ steps.each.output }}\" }\n";
    assert_eq!(stage.play(text).await.outputs(), r#"{"sum":6,"each":[[1],[3]]}"#);
    let no_rows = stage.play("steps:\n  a: { uses: t.number, into: numbers }\n").await;
    assert_eq!(
        no_rows.failure(),
        "invalid: step `a`: `into` takes a list of rows, or an output with `rows`; here it is integer"
    );
}

#[tokio::test]
async fn priority_decides_who_starts_first() {
    let stage = Stage::new().read("t.echo", echo);
    let text = "steps:\n  low: { uses: t.echo, priority: 1, with: { n: 1 } }\n  high: { uses: t.echo, priority: 9, with: { n: 9 } }\n  middle: { uses: t.echo, with: { n: 5 } }\n";
    stage.play(text).await.outputs();
    assert_eq!(stage.world.calls(), [r#"0 t.echo {"n":9}"#, r#"0 t.echo {"n":5}"#, r#"0 t.echo {"n":1}"#]);
}

#[tokio::test]
async fn undo_takes_back_the_items_that_succeeded_and_no_others() {
    let stage = Stage::new()
        .write("t.make", held(), |_, input| match input.to_string().as_str() {
            r#"{"n":3}"# => Act::Fail(ErrorClass::Rejected),
            text => give(format!("made {text}")),
        })
        .write("t.drop", held(), |_, _| give("dropped"));
    let text = "steps:\n  each: { for_each: [1, 2, 3], max_parallel: 1, uses: t.make, with: { n: \"{{ item }}\" }, undo: { uses: t.drop, with: { id: \"{{ output }}\", item: \"{{ item }}\" } } }\n";
    stage.play(text).await.failure();
    let calls = stage.world.calls();
    let expected = [
        r#"0 t.make {"n":1}"#,
        r#"0 t.make {"n":2}"#,
        r#"0 t.make {"n":3}"#,
        r#"0 t.drop {"id":"made {\"n\":2}","item":2}"#,
        r#"0 t.drop {"id":"made {\"n\":1}","item":1}"#,
    ];
    assert_eq!(calls, expected);
}
