//! Retries, time-outs, waits and rounds.

use pipewright::engine::ExecuteOptions;
use pipewright::engine::Execution;
use pipewright::model::Duration;
use pipewright::model::Effect;
use pipewright::model::ErrorClass;
use pipewright::model::RunEvent;
use pipewright::model::RunState;
use pipewright::model::Value;

use super::Act;
use super::Stage;
use super::give;
use super::held;

#[tokio::test]
async fn a_retry_backs_off_exponentially_up_to_its_bound() {
    let stage =
        Stage::new().read("t.flaky", |call, _| if call < 4 { Act::Fail(ErrorClass::Unavailable) } else { give(1) });
    let retry = "{ attempts: 5, delay: 10s, max_delay: 30s, backoff: exponential, jitter: false }";
    let played = stage
        .play(&format!(
            "steps:\n  a: {{ uses: t.flaky, retry: {retry} }}\noutputs: {{ a: \"{{{{ steps.a.output }}}}\" }}\n"
        ))
        .await;
    assert_eq!(played.outputs(), r#"{"a":1}"#);
    let seconds: Vec<_> = stage.world.calls();
    assert_eq!(seconds, ["0 t.flaky {}", "10 t.flaky {}", "30 t.flaky {}", "60 t.flaky {}", "90 t.flaky {}"]);
}

#[tokio::test]
async fn retry_after_wins_over_the_backoff() {
    let stage = Stage::new().read("t.busy", |call, _| match call {
        0 => Act::Later(ErrorClass::Throttled, Duration::from_secs(45)),
        _ => give("done"),
    });
    let played = stage.play("steps:\n  a: { uses: t.busy, retry: { attempts: 2, delay: 1s } }\n").await;
    played.outputs();
    assert_eq!(stage.world.calls(), ["0 t.busy {}", "45 t.busy {}"]);
}

#[tokio::test]
async fn jitter_draws_from_half_to_whole() {
    let stage = Stage::new().read("t.flaky", |_, _| Act::Fail(ErrorClass::Timeout));
    let retry = "{ attempts: 8, delay: 100s, backoff: constant, jitter: true }";
    let played = stage.play(&format!("steps:\n  a: {{ uses: t.flaky, retry: {retry} }}\n")).await;
    assert_eq!(played.failure(), "timeout: step `a`: t.flaky fails");
    let moments: Vec<_> = played
        .journal
        .iter()
        .filter_map(|event| match event {
            RunEvent::Failed { at, retry_at: Some(retry_at), .. } => Some(retry_at.since(*at).micros() / 1_000_000),
            _ => None,
        })
        .collect();
    assert_eq!(moments.len(), 7);
    assert!(moments.iter().all(|pause| (50..=100).contains(pause)), "{moments:?}");
    assert!(moments.windows(2).any(|pair| pair[0] != pair[1]), "{moments:?}");
}

#[tokio::test]
async fn what_will_fail_again_is_not_retried() {
    let stage = Stage::new().read("t.wrong", |_, _| Act::Fail(ErrorClass::Invalid));
    let played = stage.play("steps:\n  a: { uses: t.wrong, retry: { attempts: 5, delay: 1s } }\n").await;
    assert_eq!(played.failure(), "invalid: step `a`: t.wrong fails");
    assert_eq!(stage.world.calls().len(), 1);
}

#[tokio::test]
async fn the_classes_of_a_retry_are_the_authors() {
    let stage =
        Stage::new().read("t.wrong", |call, _| if call < 2 { Act::Fail(ErrorClass::Conflict) } else { give(1) });
    let played = stage
        .play("steps:\n  a: { uses: t.wrong, retry: { attempts: 3, delay: 1s, on: [conflict], jitter: false } }\n")
        .await;
    played.outputs();
    assert_eq!(stage.world.calls(), ["0 t.wrong {}", "1 t.wrong {}", "3 t.wrong {}"]);
}

#[tokio::test]
async fn an_attempt_ends_with_its_time_out_and_is_retried() {
    let stage =
        Stage::new().read("t.slow", |call, _| if call == 0 { Act::Hang(Duration::from_secs(5)) } else { give(1) });
    let retry = "{ attempts: 2, delay: 10s, jitter: false }";
    let played = stage.play(&format!("steps:\n  a: {{ uses: t.slow, timeout: 5s, retry: {retry} }}\n")).await;
    played.outputs();
    assert_eq!(stage.world.calls(), ["0 t.slow {}", "15 t.slow {}"]);
}

#[tokio::test]
async fn pure_work_has_a_time_out_as_well() {
    let hang = |_: usize, _: &Value| Act::Hang(Duration::from_secs(5));
    let stage = Stage::new().node("t.think", Effect::Pure, held(), hang);
    let played = stage.play("steps:\n  a: { uses: t.think, timeout: 5s }\n").await;
    assert_eq!(played.failure(), "timeout: step `a`: no result within the time-out");
}

#[tokio::test]
async fn the_time_out_of_a_run_ends_what_runs_and_finally_still_tidies_up() {
    let stage = Stage::new().read("t.slow", |_, _| Act::Hang(Duration::from_secs(60))).read("t.tidy", |_, _| give(1));
    let played =
        stage.play("timeout: 1m\nsteps:\n  a: { uses: t.slow }\n  b: { needs: [a], uses: t.tidy }\nfinally:\n  c: { uses: t.tidy }\n").await;
    assert!(played.failure().starts_with("timeout: "), "{}", played.failure());
    assert_eq!(stage.world.calls(), ["0 t.slow {}", "60 t.tidy {}"]);
    assert_eq!(played.ends().last().unwrap(), "finally/c succeeded");
}

#[tokio::test]
async fn time_asleep_counts_for_the_deadline_only() {
    let stage = Stage::new().read("t.quick", |_, _| give(1));
    let wait = "steps:\n  a: { uses: time.wait, with: { for: 10m } }\n  b: { needs: [a], uses: t.quick }\n";
    stage.play(&format!("timeout: 1m\n{wait}")).await.outputs();
    let stage = Stage::new().read("t.quick", |_, _| give(1));
    let late = stage.play(&format!("deadline: 5m\n{wait}")).await;
    assert!(late.failure().starts_with("timeout: "), "{}", late.failure());
    assert!(stage.world.calls().is_empty());
}

#[tokio::test]
async fn a_step_waits_for_its_moment_and_for_its_delay() {
    let stage = Stage::new().read("t.now", |_, input| give(input.clone()));
    let at = "{ uses: t.now, at: \"{{ now() + duration('2h') }}\", with: { n: 1 } }";
    let delay = "{ needs: [a], uses: t.now, delay: 90s, with: { n: 2 } }";
    stage.play(&format!("steps:\n  a: {at}\n  b: {delay}\n")).await.outputs();
    assert_eq!(stage.world.calls(), [r#"7200 t.now {"n":1}"#, r#"7290 t.now {"n":2}"#]);
}

#[tokio::test]
async fn until_repeats_at_its_pace_and_gives_up_at_its_limit() {
    let text = "steps:\n  a:\n    uses: t.count\n    until: { holds: \"{{ output >= 3 }}\", every: \"{{ duration('10s') }}\", limit: LIMIT }\noutputs: { a: \"{{ steps.a.output }}\" }\n";
    let count = |call: usize, _: &Value| give(i64::try_from(call).unwrap() + 1);
    let stage = Stage::new().read("t.count", count);
    assert_eq!(stage.play(&text.replace("LIMIT", "5")).await.outputs(), r#"{"a":3}"#);
    assert_eq!(stage.world.calls(), ["0 t.count {}", "10 t.count {}", "20 t.count {}"]);
    let stage = Stage::new().read("t.count", count);
    let given_up = stage.play(&text.replace("LIMIT", "2")).await;
    assert_eq!(given_up.failure(), "timeout: step `a`: `until` did not hold within 2 rounds");
    assert_eq!(stage.world.calls().len(), 2);
}

#[tokio::test]
async fn a_long_wait_parks_the_run_and_another_process_goes_on_with_it() {
    let stage = Stage::new().read("t.quick", |_, input| give(input.clone()));
    let pipeline = stage.pipeline(
        "steps:\n  a: { uses: t.quick, with: { n: 1 } }\n  w: { needs: [a], uses: time.wait, with: { for: 3h } }\n  b: { needs: [w], uses: t.quick, with: { n: 2 } }\n",
    );
    let engine = stage.engine().await;
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let background = || ExecuteOptions { foreground: false, ..ExecuteOptions::default() };
    let execution = engine.execute(run, pipeline.clone(), background()).await.unwrap();
    let Execution::Waiting { until: Some(until), in_doubt: false, .. } = execution else { panic!("{execution:?}") };
    assert_eq!(until, super::START.plus(Duration::from_secs(10_800)));
    let record = engine.parts().store.run(run).await.unwrap().unwrap();
    assert_eq!((record.state, record.waiting_until), (RunState::Waiting, Some(until)));
    engine.parts().store.close().await.unwrap();
    drop(engine);
    // Too early it goes to sleep again, for the same moment.
    let engine = stage.engine().await;
    stage.world.clock.advance(Duration::from_secs(3_600));
    let early = engine.execute(run, pipeline.clone(), background()).await.unwrap();
    assert!(matches!(early, Execution::Waiting { until: Some(same), .. } if same == until), "{early:?}");
    stage.world.clock.advance_to(until);
    let played = stage.resume(&engine, run, &pipeline, background()).await;
    played.outputs();
    assert_eq!(stage.world.calls(), [r#"0 t.quick {"n":1}"#, r#"10800 t.quick {"n":2}"#]);
}

#[tokio::test]
async fn a_retry_that_is_far_away_parks_the_run() {
    let stage = Stage::new().read("t.busy", |call, _| match call {
        0 => Act::Later(ErrorClass::Throttled, Duration::from_secs(7_200)),
        _ => give(1),
    });
    let pipeline = stage.pipeline("steps:\n  a: { uses: t.busy, retry: { attempts: 2, delay: 1s } }\n");
    let engine = stage.engine().await;
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let options = ExecuteOptions { foreground: false, ..ExecuteOptions::default() };
    let parked = engine.execute(run, pipeline.clone(), options.clone()).await.unwrap();
    assert!(matches!(parked, Execution::Waiting { until: Some(_), .. }), "{parked:?}");
    stage.world.clock.advance(Duration::from_secs(7_200));
    stage.resume(&engine, run, &pipeline, options).await.outputs();
    assert_eq!(stage.world.calls(), ["0 t.busy {}", "7200 t.busy {}"]);
}

#[tokio::test]
async fn a_cached_output_is_given_back_until_it_expires() {
    let stage = Stage::new().read("t.price", |call, _| give(i64::try_from(call).unwrap()));
    let text = "steps:\n  a: { uses: t.price, with: { s: X }, cache: { ttl: 1h } }\noutputs: { a: \"{{ steps.a.output }}\" }\n";
    assert_eq!(stage.play(text).await.outputs(), r#"{"a":0}"#);
    stage.world.clock.advance(Duration::from_secs(3_500));
    assert_eq!(stage.play(text).await.outputs(), r#"{"a":0}"#);
    assert_eq!(stage.play(&text.replace("s: X", "s: Y")).await.outputs(), r#"{"a":0}"#);
    stage.world.clock.advance(Duration::from_secs(200));
    assert_eq!(stage.play(text).await.outputs(), r#"{"a":1}"#);
    assert_eq!(stage.world.calls().len(), 3);
}

#[tokio::test]
async fn the_key_of_a_cache_stands_for_the_whole_input() {
    let stage = Stage::new().read("t.price", |_, input| give(input.to_string()));
    let text = "steps:\n  a: { uses: t.price, with: { s: X }, cache: { key: \"one\", ttl: 1h } }\noutputs: { a: \"{{ steps.a.output }}\" }\n";
    let first = stage.play(text).await.outputs();
    assert_eq!(stage.play(&text.replace("s: X", "s: Y")).await.outputs(), first);
    stage.play(&text.replace("one", "two")).await.outputs();
    assert_eq!(stage.world.calls(), [r#"0 t.price {"s":"X"}"#, r#"0 t.price {"s":"X"}"#]);
}

#[tokio::test]
async fn an_attempt_that_is_put_off_does_not_count() {
    let put_off = |name: &str| {
        let stage = Stage::new();
        let script = |call: usize, _: &Value| match call {
            0..6 => Act::PutOff(Duration::from_secs(100)),
            6 => Act::Fail(ErrorClass::Unavailable),
            _ => give("done"),
        };
        match name {
            "t.read" => stage.read("t.read", script),
            _ => stage.write("t.write", pipewright::model::Settlement::default(), script),
        }
    };
    for name in ["t.read", "t.write"] {
        let stage = put_off(name);
        let played =
            stage.play(&format!("steps:\n  a: {{ uses: {name}, retry: {{ attempts: 2, delay: 1s }} }}\n")).await;
        played.outputs();
        assert_eq!(stage.world.calls().len(), 8, "{name}");
        let seconds: Vec<_> =
            stage.world.calls().iter().map(|call| call.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(&seconds[..7], ["0", "100", "200", "300", "400", "500", "600"], "{name}");
        // Nothing was sent, so nothing was ever in doubt.
        let doubts = played.journal.iter().filter(|event| matches!(event, RunEvent::InDoubt { .. })).count();
        assert_eq!(doubts, 0, "{name}");
    }
}

#[tokio::test]
async fn a_failure_may_allow_fewer_attempts_than_the_step() {
    let stage = Stage::new().read("t.flaky", |_, _| Act::FailWithin(ErrorClass::Unavailable, 2));
    let played = stage.play("steps:\n  a: { uses: t.flaky, retry: { attempts: 9, delay: 1s } }\n").await;
    assert_eq!(played.failure(), "unavailable: step `a`: t.flaky fails");
    assert_eq!(stage.world.calls().len(), 2);
}
