//! `pipewright why`: the chain of causes, on virtual time.

use std::sync::Arc;

use pipewright::engine::Engine;
use pipewright::engine::ExecuteOptions;
use pipewright::engine::Execution;
use pipewright::engine::Signal;
use pipewright::model::Duration;
use pipewright::model::ErrorClass;
use pipewright::model::RunId;
use pipewright::model::RunState;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::pipeline::Person;
use pipewright::pipeline::Pipeline;
use pipewright::store::ApprovalFilter;
use pipewright::store::ScheduleRow;
use pipewright::why::Asker;
use pipewright::why::Cause;
use pipewright::why::KnownSchedule;
use pipewright::why::schedule;

use super::Act;
use super::START;
use super::Stage;
use super::give;
use super::held;

fn asker(engine: &Engine, stage: &Stage) -> Asker {
    let parts = engine.parts();
    Asker {
        store: parts.store.clone(),
        registry: stage.registry(),
        now: parts.system.clock.now(),
        daemon: false,
        owner: "4711@here".to_owned(),
        owner_is_gone: |owner| owner == "test",
        people: vec![Person { name: "anna".to_owned(), roles: vec!["editor".to_owned()] }],
    }
}

/// Draws a cause, runs by their names.
fn drawn(cause: &Cause, runs: &[(&str, RunId)]) -> String {
    fn draw(cause: &Cause, depth: usize, out: &mut String) {
        out.push_str(&"  ".repeat(depth));
        out.push_str(&cause.text);
        out.push('\n');
        cause.because.iter().for_each(|inner| draw(inner, depth + 1, out));
    }
    let mut text = String::new();
    draw(cause, 0, &mut text);
    for (name, id) in runs {
        text = text.replace(&id.to_string(), name);
    }
    text
}

async fn go(engine: &Engine, run: RunId, pipeline: &Arc<Pipeline>) -> Execution {
    let options = ExecuteOptions { foreground: false, ..ExecuteOptions::default() };
    engine.execute(run, pipeline.clone(), options).await.unwrap()
}

async fn begun(engine: &Engine, pipeline: &Arc<Pipeline>, inputs: &[(&str, Value)]) -> RunId {
    let inputs = Value::map(inputs.iter().map(|(name, value)| (*name, value.clone())));
    let run = engine.start(pipeline, inputs).await.unwrap();
    go(engine, run, pipeline).await;
    run
}

async fn run_told(stage: &Stage, engine: &Engine, run: RunId, runs: &[(&str, RunId)]) -> String {
    drawn(&asker(engine, stage).run(run).await.unwrap().unwrap(), runs)
}

async fn step_told(stage: &Stage, engine: &Engine, run: RunId, step: &str) -> String {
    let cause = asker(engine, stage).step(run, &step.parse().unwrap()).await.unwrap();
    drawn(&cause.unwrap_or_else(|| panic!("there is no step {step}")), &[("RUN", run)])
}

#[tokio::test]
async fn a_run_waits_for_times_limits_people_and_retries() {
    let stage = Stage::new()
        .read("test.one", |_, _| give(7))
        .read("test.limited", |_, _| Act::PutOff(Duration::from_secs(3 * 3_600)))
        .read("test.later", |_, _| Act::Later(ErrorClass::Unavailable, Duration::from_secs(7_200)));
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(
        r#"steps:
  first: { uses: test.one }
  rest: { uses: time.wait, needs: [first], with: { for: 3d } }
  publish: { uses: test.one, delay: 1d }
  limited: { uses: test.limited }
  again: { uses: test.later, retry: { attempts: 4 } }
  review: { uses: approval.request, with: { approvers: [editor], quorum: 2, expires: 2d } }
  last: { uses: test.one, needs: [rest, first] }
"#,
    );
    let run = begun(&engine, &pipeline, &[]).await;
    stage.world.clock.advance(Duration::from_secs(60));
    let told = run_told(&stage, &engine, run, &[("RUN", run)]).await;
    let expected = "\
run RUN of `test` waits since 2023-11-14T22:13:20Z (1m00s ago)
  step `publish` sleeps until 2023-11-15T22:13:20Z (in 23h59m): `delay`
    `delay` is `1d`
  step `limited` waits until 2023-11-15T01:13:20Z (in 2h59m): nothing was sent
    the limit is reached
  step `again` is tried again at 2023-11-15T00:13:20Z (in 1h59m): attempt 1 of 4 failed
    unavailable: test.later fails
  step `review` waits for approval by 2 of `editor`, until 2023-11-16T22:13:20Z (asked 2023-11-14T22:13:20Z (1m00s ago))
    0 of 2 approve, 0 of 1 reject: nobody has said anything
    those who are asked: `anna`
  step `rest` sleeps until 2023-11-17T22:13:20Z (in 2d23h): waits until 2023-11-17T22:13:20Z
";
    let mut lines: Vec<_> = told.lines().collect();
    let mut wanted: Vec<_> = expected.lines().collect();
    // Which of independent steps is first is no matter.
    lines.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(lines, wanted, "\n{told}");
    let told = step_told(&stage, &engine, run, "last").await;
    let expected = "\
step `last` has not started
  it needs `rest`
    step `rest` sleeps until 2023-11-17T22:13:20Z (in 2d23h): waits until 2023-11-17T22:13:20Z
";
    assert_eq!(told, expected);
    let first = step_told(&stage, &engine, run, "first").await;
    assert_eq!(first, "step `first` succeeded at 2023-11-14T22:13:20Z (1m00s ago)\n");
    let nothing = asker(&engine, &stage).step(run, &"nowhere".parse().unwrap()).await.unwrap();
    assert!(nothing.is_none());
    // Long after its time it says that nobody is there.
    stage.world.clock.advance(Duration::from_secs(30 * 86_400));
    let late = run_told(&stage, &engine, run, &[]).await;
    assert!(late.contains("it could have gone on at ") && late.contains("no daemon works on this project"), "{late}");
}

#[tokio::test]
async fn a_step_failed_was_skipped_or_never_began() {
    let stage = Stage::new()
        .read("test.one", |_, _| give(7))
        .read("test.tired", |_, _| Act::Fail(ErrorClass::Unavailable))
        .read("test.bad", |_, _| Act::Fail(ErrorClass::Rejected));
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(
        r#"inputs: { publish: { type: boolean, default: false }, key: { type: secret, default: hunter2 } }
steps:
  tired: { uses: test.tired, retry: { attempts: 3, delay: 1s, jitter: false, backoff: constant } }
  bad: { uses: test.bad, retry: { attempts: 3 } }
  quiet: { uses: test.bad, on_error: continue }
  maybe: { uses: test.one, when: "{{ inputs.publish and inputs.key }}" }
  behind: { uses: test.one, needs: [bad] }
  further: { uses: test.one, needs: [behind] }
  each: { for_each: [1, 2, 3], uses: test.one }
finally: { end: { uses: test.one } }
"#,
    );
    let run = engine
        .start(&pipeline, Value::map([("publish", Value::Bool(false)), ("key", Value::from("hunter2").tainted())]))
        .await
        .unwrap();
    let played = stage.resume(&engine, run, &pipeline, ExecuteOptions::default()).await;
    assert!(played.failure().contains("test.bad fails"));
    let tired = "\
step `tired` failed at 2023-11-14T22:13:22Z (0s ago): unavailable: test.tired fails
  its 3 attempts are used up
  attempt 2 failed at 2023-11-14T22:13:21Z (1s ago): unavailable: test.tired fails
  attempt 1 failed at 2023-11-14T22:13:20Z (2s ago): unavailable: test.tired fails
";
    // The clock stands where the last event was.
    let soon = |text: String| text.replace("(in 0s)", "(0s ago)");
    assert_eq!(soon(step_told(&stage, &engine, run, "tired").await), tired);
    let bad = "\
step `bad` failed at 2023-11-14T22:13:20Z (2s ago): rejected: test.bad fails
  errors of class `rejected` are not retried: `retry.on` is throttled, unavailable, timeout, locked
";
    assert_eq!(step_told(&stage, &engine, run, "bad").await, bad);
    let quiet = step_told(&stage, &engine, run, "quiet").await;
    assert!(quiet.ends_with("  the run goes on: `on_error: continue`\n"), "{quiet}");
    let maybe = "\
step `maybe` was skipped at 2023-11-14T22:13:20Z (2s ago): `when` is false
  `when` is `{{ inputs.publish and inputs.key }}`; `inputs.publish` is false, `inputs.key` is \"***\"
";
    assert_eq!(step_told(&stage, &engine, run, "maybe").await, maybe);
    let further = step_told(&stage, &engine, run, "further").await;
    for line in [
        "step `further` was canceled",
        "  step `behind` was canceled",
        "    step `bad` failed",
        "      errors of class",
    ] {
        assert!(further.lines().any(|other| other.starts_with(line)), "`{line}` is not in\n{further}");
    }
    let each = step_told(&stage, &engine, run, "each").await;
    assert_eq!(each, "step `each`: 3 of 3 items have ended\n");
    assert!(step_told(&stage, &engine, run, "each[1]").await.starts_with("step `each[1]` succeeded at "));
    assert!(step_told(&stage, &engine, run, "finally/end").await.starts_with("step `finally/end` succeeded at "));
    let whole = run_told(&stage, &engine, run, &[("RUN", run)]).await;
    assert!(whole.starts_with("run RUN of `test` failed at 2023-11-14T22:13:22Z"), "{whole}");
    assert!(whole.contains("\n  step `tired` failed") && whole.contains("\n  step `bad` failed"), "{whole}");
    assert!(!whole.contains("quiet"), "what went on failed nothing: {whole}");
    // Tried again, what failed is as if it had never been.
    let again =
        engine.retry(run, pipeline.clone(), None, ExecuteOptions { foreground: false, ..ExecuteOptions::default() });
    let mut again = Box::pin(again);
    for _ in 0..10_000 {
        if let Ok(done) = tokio::time::timeout(std::time::Duration::from_millis(1), &mut again).await {
            done.unwrap();
            break;
        }
        stage.world.clock.advance(Duration::from_secs(1));
    }
    let tired = step_told(&stage, &engine, run, "tired").await;
    assert_eq!(tired.matches("attempt ").count(), 2, "the attempts of before are not told:\n{tired}");
}

#[tokio::test]
async fn a_run_stands_in_the_queue_behind_others_and_behind_full_groups() {
    let stage = Stage::new().read("test.one", |_, _| give(7));
    let engine = stage.engine().await;
    let text = "steps: { a: { uses: test.one } }\n";
    let (low, high) =
        (stage.pipeline(&format!("priority: 5\n{text}")), stage.pipeline(&format!("priority: 7\n{text}")));
    let put = |pipeline: Arc<Pipeline>| {
        let engine = engine.clone();
        async move { engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap() }
    };
    let (_, mine) = (put(low.clone()).await, put(low.clone()).await);
    for _ in 0..3 {
        put(high.clone()).await;
    }
    stage.world.clock.advance(Duration::from_secs(5));
    let expected = "\
run RUN of `test` is queued since 2023-11-14T22:13:20Z (5s ago)
  behind 3 runs of priority 7, 1 run of priority 5
  no daemon works on this project, so nobody works off the queue
";
    assert_eq!(run_told(&stage, &engine, mine, &[("RUN", mine)]).await, expected);
    let with_daemon = Asker { daemon: true, ..asker(&engine, &stage) }.run(mine).await.unwrap().unwrap();
    assert!(drawn(&with_daemon, &[]).contains("the daemon works off the queue; 0 runs under way"));
    // One holds the group while it asks; the others wait for it.
    let asks = stage.pipeline("concurrency: { limit: 1 }\nsteps: { ask: { uses: approval.request } }\n");
    let holder = begun(&engine, &asks, &[]).await;
    let (second, third) = (put(asks.clone()).await, put(asks.clone()).await);
    let told = run_told(&stage, &engine, third, &[("HOLDER", holder), ("SECOND", second), ("THIRD", third)]).await;
    let expected = "\
run THIRD of `test` is queued since 2023-11-14T22:13:25Z (in 0s)
  it waits for `concurrency` of `test`, one at a time
    it is held by run HOLDER, which began at 2023-11-14T22:13:25Z (in 0s)
      run HOLDER of `test` waits since 2023-11-14T22:13:25Z (in 0s)
        step `ask` waits for approval by anybody (asked 2023-11-14T22:13:25Z (in 0s))
          0 of 1 approve, 0 of 1 reject: nobody has said anything
    1 other stand before it
";
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_step_waits_for_a_lock_that_a_step_of_another_run_holds() {
    let stage = Stage::new().read("test.one", |_, _| give(7)).read("test.hang", |_, _| Act::Hang(Duration::ZERO));
    let engine = stage.engine().await;
    let holds = stage.pipeline("steps: { write: { uses: test.hang, locks: [{ name: \"erp:acme\" }] } }\n");
    let holder = engine.start(&holds, Value::map::<&str>([])).await.unwrap();
    let executing = tokio::spawn({
        let (engine, holds) = (engine.clone(), holds.clone());
        async move { engine.execute(holder, holds, ExecuteOptions::default()).await }
    });
    while stage.world.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    let waits = stage.pipeline("steps: { read: { uses: test.one, locks: [{ name: \"erp:acme\" }] } }\n");
    let run = begun(&engine, &waits, &[]).await;
    let told = run_told(&stage, &engine, run, &[("HOLDER", holder), ("RUN", run)]).await;
    let expected = "\
run RUN of `test` waits since 2023-11-14T22:13:20Z (in 0s)
  step `read` waits for the lock `erp:acme` since 2023-11-14T22:13:20Z (in 0s)
    it waits for the lock `erp:acme`, one at a time
      it is held by run HOLDER, step `write`, which began at 2023-11-14T22:13:20Z (in 0s)
        run HOLDER of `test` is being executed
          process test, which held it, is gone; the daemon takes it over
          step `write` is under way since 2023-11-14T22:13:20Z (in 0s)
";
    assert_eq!(told, expected);
    executing.abort();
}

#[tokio::test]
async fn what_a_child_waits_for_is_what_its_parent_waits_for() {
    let stage = Stage::new().write("test.lose", held(), |_, _| Act::Lose(true));
    stage.file("child", "steps: { ask: { uses: approval.request }, write: { uses: test.lose } }\n");
    let engine = stage.engine().await;
    let pipeline = stage.pipeline("steps: { down: { uses: pipeline.run, with: { pipeline: child } } }\n");
    let run = begun(&engine, &pipeline, &[]).await;
    let told = run_told(&stage, &engine, run, &[]).await;
    for line in [
        "  step `down` waits",
        "    run ",
        "      step `ask` waits for approval by anybody",
        "      step `write` is in doubt since",
    ] {
        assert!(told.lines().any(|other| other.starts_with(line)), "`{line}` is not in\n{told}");
    }
    let filter = ApprovalFilter { open: true, ..ApprovalFilter::default() };
    let child = engine.parts().store.approvals(&filter).await.unwrap().remove(0).run;
    let own = run_told(&stage, &engine, child, &[]).await;
    assert!(own.contains("timeout: no answer"), "{own}");
    // Canceled, it says by whom and over what.
    engine.signal(run, &Signal::Cancel { undo: false }).await.unwrap();
    go(&engine, run, &pipeline).await;
    let told = run_told(&stage, &engine, run, &[("RUN", run)]).await;
    let record = engine.parts().store.run(run).await.unwrap().unwrap();
    if record.state == RunState::Canceled {
        assert!(told.contains("somebody asked for it at 2023-11-14T22:13:2"), "{told}");
    }
    let json = asker(&engine, &stage).run(run).await.unwrap().unwrap().to_value().to_string();
    assert!(json.starts_with(r#"{"kind":"run","text":"run "#) && json.contains(r#""because":["#), "{json}");
}

#[tokio::test]
async fn a_schedule_names_the_run_that_it_fired_last() {
    let stage = Stage::new().read("test.one", |_, _| give(7));
    let engine = stage.engine().await;
    let pipeline = stage.pipeline("triggers: [{ every: 1h }]\nsteps: { a: { uses: test.one } }\n");
    let trigger = &pipeline.triggers[0];
    let mut runs = Vec::new();
    for slot in ["2023-11-14T20:00:00Z", "2023-11-14T21:00:00Z"] {
        let slot = Some(format!("{}@{slot}", trigger.id));
        runs.push(engine.enqueue(&pipeline, Value::map::<&str>([]), slot).await.unwrap().unwrap());
        stage.world.clock.advance(Duration::from_secs(1));
    }
    engine.enqueue(&pipeline, Value::map::<&str>([]), Some("every-0@2023-11-14T22:00:00Z".to_owned())).await.unwrap();
    let last = engine.parts().store.last_firing("test", &trigger.id).await.unwrap();
    assert_eq!(last.as_ref().map(|run| run.id), Some(runs[1]));
    let now = engine.parts().system.clock.now();
    let known = KnownSchedule { row: None, last: last.as_ref(), daemon: true, now };
    let told = drawn(&schedule(&pipeline, trigger, known).unwrap(), &[("LAST", runs[1])]);
    let expected = "  its last run is LAST, of slot 2023-11-14T21:00:00Z: queued since 2023-11-14T22:13:21Z (1s ago)\n";
    assert!(told.ends_with(expected), "{told}");
}

#[tokio::test]
async fn runs_that_wait_for_each_other_end_the_chain() {
    let stage = Stage::new().read("test.one", |_, _| give(7));
    let engine = stage.engine().await;
    // Each holds a lock while it asks, and lets its step wait for the other's.
    let text = |own: &str, other: &str| {
        format!(
            "locks: [{{ name: {own} }}]\nsteps:\n  ask: {{ uses: approval.request }}\n  go: {{ uses: test.one, locks: [{{ name: {other} }}] }}\n"
        )
    };
    let (a, b) = (stage.pipeline(&text("a", "b")), stage.pipeline(&text("b", "a")));
    let mut runs = Vec::new();
    for pipeline in [&a, &b] {
        runs.push(engine.enqueue(pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap());
    }
    for (run, pipeline) in runs.iter().zip([&a, &b]) {
        go(&engine, *run, pipeline).await;
    }
    let told = run_told(&stage, &engine, runs[0], &[("A", runs[0]), ("B", runs[1])]).await;
    assert!(told.lines().count() < 60 && told.contains("B"), "{told}");
}

fn of_schedule(stage: &Stage, trigger: &str, row: Option<(Timestamp, bool)>, daemon: bool, now: Timestamp) -> String {
    let pipeline = stage.pipeline(&format!("triggers: [{trigger}]\nsteps: {{ a: {{ uses: test.one }} }}\n"));
    let trigger = &pipeline.triggers[0];
    let row = row.map(|(seen, disabled)| ScheduleRow {
        pipeline: pipeline.name.to_string(),
        trigger: trigger.id.to_string(),
        seen,
        disabled,
        begun: Timestamp(0),
        full_at: Timestamp(0),
        fired_at: None,
    });
    let known = KnownSchedule { row: row.as_ref(), last: None, daemon, now };
    let told = drawn(&schedule(&pipeline, trigger, known).unwrap(), &[]);
    told.replace(&*trigger.id, "ID")
}

#[test]
fn a_schedule_says_when_and_why_then() {
    let stage = Stage::new().read("test.one", |_, _| give(7));
    let moment = |text: &str| text.parse::<Timestamp>().unwrap();
    let cases = [
        (
            r#"{ cron: "30 2 * * *", timezone: Europe/Berlin }"#,
            "2026-03-28T12:00:00Z",
            "ID of `test` (cron: 30 2 * * *, Europe/Berlin) is due next at 2026-03-29 03:30:00 +02:00, which is 2026-03-29T01:30:00Z (in 13h30m)",
            "02:30",
        ),
        (
            r#"{ cron: "0 9 * * *", calendar: weekdays }"#,
            "2026-03-27T12:00:00Z",
            "ID of `test` (cron: 0 9 * * *, UTC) is due next at 2026-03-30 09:00:00 +00:00, which is 2026-03-30T09:00:00Z (in 2d21h)",
            "it passes over 2026-03-28 09:00:00",
        ),
    ];
    for (trigger, now, first, within) in cases {
        let now = moment(now);
        let told = of_schedule(&stage, trigger, Some((now, false)), true, now);
        assert_eq!(told.lines().next().unwrap(), first);
        assert!(told.contains(within), "{told}");
    }
    let now = moment("2026-03-27T12:00:00Z");
    let daily = r#"{ cron: "0 9 * * *" }"#;
    let ago = moment("2026-03-20T12:00:00Z");
    let cases = [
        (
            daily,
            Some((now, true)),
            true,
            "ID of `test` (cron: 0 9 * * *, UTC) is off\n  somebody switched it off; `pipewright schedules enable test` switches it on\n",
        ),
        (
            r#"{ cron: "0 9 * * *", enabled: false }"#,
            None,
            true,
            "ID of `test` (cron: 0 9 * * *, UTC) is off\n  its file says `enabled: false`\n",
        ),
        (
            daily,
            Some((ago, false)),
            false,
            "ID of `test` (cron: 0 9 * * *, UTC) is late: its slot of 2026-03-21 09:00:00 +00:00 was due at 2026-03-21T09:00:00Z (6d03h ago)\n  no daemon works on this project\n",
        ),
        (
            r#"{ at: "2026-03-01T09:00:00Z" }"#,
            Some((now, false)),
            true,
            "ID of `test` (at: 2026-03-01T09:00:00Z, UTC) is never due again\n  its moment is over\n",
        ),
    ];
    for (trigger, row, daemon, expected) in cases {
        assert_eq!(of_schedule(&stage, trigger, row, daemon, now), expected);
    }
    assert!(of_schedule(&stage, daily, Some((now, false)), false, now).ends_with("so nothing fires it\n"));
    let unmet = of_schedule(&stage, daily, None, false, now);
    assert!(unmet.ends_with("  no daemon works on this project, so nothing fires it\n"), "{unmet}");
    assert!(START < now);
}
