//! Writes whose answers are lost.

use std::sync::Arc;

use pipewright::engine::Execution;
use pipewright::engine::SecretSource;
use pipewright::engine::Signal;
use pipewright::model::ErrorClass;
use pipewright::model::RunState;
use pipewright::model::Value;
use pipewright::model::Verdict;
use pipewright::secrets::Mask;

use super::Act;
use super::Stage;
use super::askable;
use super::give;
use super::held;
use super::repeatable;

const ORDER: &str = "steps:\n  order: { uses: t.order, with: { n: 1 } }\noutputs: { order: \"{{ steps.order.output | default('none') }}\" }\n";

fn lost_once(made: bool) -> impl Fn(usize, &Value) -> Act {
    move |call, input| if call == 0 { Act::Lose(made) } else { give(input.clone()) }
}

#[tokio::test]
async fn a_write_that_may_have_happened_is_not_retried_but_settled() {
    // Repeating does no harm: the same effect again.
    let stage = Stage::new().write("t.order", repeatable(), lost_once(true));
    assert_eq!(stage.play(ORDER).await.outputs(), r#"{"order":{"n":1}}"#);
    assert_eq!(stage.world.calls().len(), 2);
    let ids: Vec<_> = stage.world.seen.lock().unwrap().happened.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids[0], ids[1], "the remote sees the same key");
    // The remote is asked and says yes: nothing is sent again.
    let stage = Stage::new().write("t.order", askable(), lost_once(true));
    assert_eq!(stage.play(ORDER).await.outputs(), r#"{"order":{"n":1}}"#);
    assert_eq!((stage.world.calls().len(), stage.world.happened()), (1, 1));
    // It says no: it is sent, once.
    let stage = Stage::new().write("t.order", askable(), lost_once(false));
    assert_eq!(stage.play(ORDER).await.outputs(), r#"{"order":{"n":1}}"#);
    assert_eq!((stage.world.calls().len(), stage.world.happened()), (2, 1));
    // Asked is only after the send window, the time-out and the time that the remote takes to show it.
    assert!(stage.world.calls()[1].starts_with("18 "), "{:?}", stage.world.calls());
}

#[tokio::test]
async fn a_proof_that_nothing_happened_is_an_ordinary_retry() {
    let script = |call: usize, input: &Value| match call {
        0 => Act::Fail(ErrorClass::Throttled),
        _ => give(input.clone()),
    };
    let stage = Stage::new().write("t.order", held(), script);
    let text = ORDER.replace("with: { n: 1 } }", "with: { n: 1 }, retry: { attempts: 2, delay: 20s, jitter: false } }");
    stage.play(&text).await.outputs();
    assert_eq!(stage.world.calls(), [r#"0 t.order {"n":1}"#, r#"20 t.order {"n":1}"#]);
}

#[tokio::test]
async fn the_step_decides_where_neither_key_nor_question_can() {
    let with = |policy: &str| ORDER.replace("with: { n: 1 } }", &format!("with: {{ n: 1 }}, in_doubt: {policy} }}"));
    let stage = Stage::new().write("t.order", held(), lost_once(true));
    assert_eq!(stage.play(&with("resend")).await.outputs(), r#"{"order":{"n":1}}"#);
    assert_eq!(stage.world.happened(), 2);
    let stage = Stage::new().write("t.order", held(), lost_once(true));
    assert_eq!(stage.play(&with("drop")).await.outputs(), r#"{"order":"none"}"#);
    assert_eq!(stage.world.happened(), 1);
}

#[tokio::test]
async fn a_person_says_what_became_of_a_held_effect() {
    let cases = [
        (Verdict::Happened { output: Value::from("by hand"), remote_id: None }, r#"{"order":"by hand"}"#, 1),
        (Verdict::SendAgain, r#"{"order":{"n":1}}"#, 2),
        (Verdict::Dropped, r#"{"order":"none"}"#, 1),
    ];
    for (verdict, expected, calls) in cases {
        let stage = Stage::new().write("t.order", held(), lost_once(false));
        let played = stage.play(ORDER).await;
        assert!(played.waits().starts_with("in doubt: `order`"), "{}", played.waits());
        let engine = stage.engine().await;
        let effect = format!("{}/order", played.run);
        engine.signal(played.run, &Signal::Resolve { effect, verdict }).await.unwrap();
        let pipeline = stage.pipeline(ORDER);
        let again = stage.resume(&engine, played.run, &pipeline, Default::default()).await;
        assert_eq!(again.outputs(), expected);
        assert_eq!(stage.world.calls().len(), calls);
    }
}

#[tokio::test]
async fn a_doubt_does_not_keep_the_others_from_going_on() {
    let stage = Stage::new().write("t.order", held(), lost_once(false)).read("t.echo", |_, input| give(input.clone()));
    let text =
        ORDER.replace("outputs:", "  other: { uses: t.echo }\n  more: { needs: [other], uses: t.echo }\noutputs:");
    let played = stage.play(&text).await;
    played.waits();
    assert_eq!(played.ends(), ["other succeeded", "more succeeded"]);
}

#[tokio::test]
async fn a_write_that_panics_is_in_doubt() {
    let stage = Stage::new().write("t.order", held(), |_, _| Act::Panic);
    let played = stage.play(ORDER).await;
    assert!(played.waits().starts_with("in doubt: `order`"), "{}", played.waits());
}

#[tokio::test]
async fn a_write_under_way_ends_before_a_canceled_run_does() {
    let stage = Stage::new().write("t.order", held(), lost_once(true));
    let played = stage.play(ORDER).await;
    played.waits();
    let engine = stage.engine().await;
    engine.signal(played.run, &Signal::Cancel { undo: false }).await.unwrap();
    let again = stage.resume(&engine, played.run, &stage.pipeline(ORDER), Default::default()).await;
    // Whether it happened is still not known, so the run does not say that it ended.
    assert!(again.waits().starts_with("in doubt: `order`"), "{}", again.waits());
    let effect = format!("{}/order", played.run);
    let verdict = Verdict::Happened { output: Value::Null, remote_id: None };
    engine.signal(played.run, &Signal::Resolve { effect, verdict }).await.unwrap();
    let ended = stage.resume(&engine, played.run, &stage.pipeline(ORDER), Default::default()).await;
    let state = RunState::Canceled;
    assert!(matches!(ended.execution, Execution::Finished { state: found, .. } if found == state), "{}", ended.told());
}

#[tokio::test]
async fn signals_and_retries_that_mean_nothing_are_refused() {
    let stage = Stage::new().write("t.order", held(), |_, _| Act::Fail(ErrorClass::Rejected));
    let played = stage.play(ORDER).await;
    played.failure();
    let (engine, pipeline) = (stage.engine().await, stage.pipeline(ORDER));
    let nowhere = engine.retry(played.run, pipeline.clone(), Some("nowhere".into()), Default::default()).await;
    assert_eq!(nowhere.unwrap_err().to_string(), "there is no step `nowhere`");
    let unknown = pipewright::model::RunId::new(1, 1);
    let nobody = engine.signal(unknown, &Signal::Cancel { undo: false }).await;
    assert_eq!(nobody.unwrap_err().to_string(), format!("there is no run `{unknown}`"));
    let done = engine.execute(played.run, pipeline, Default::default()).await;
    assert!(done.unwrap_err().to_string().contains("run it again with `runs retry`"));
}

/// A source of one secret, as a process knows it: the mask learns it when it is read.
#[derive(Debug, Default)]
struct OneSecret(Mask);

impl SecretSource for OneSecret {
    fn get(&self, _: &str) -> Result<Value, String> {
        let value = Value::from("correct-horse-battery").tainted();
        self.0.learn("correct-horse-battery");
        Ok(value)
    }

    fn mask(&self, text: String) -> String {
        self.0.hide(&text)
    }

    fn learn(&self, value: &Value) {
        self.0.learn_value(value);
    }

    fn scan(&self, value: Value) -> Value {
        self.0.scan(&value)
    }
}

#[tokio::test]
async fn a_secret_of_the_journal_is_usable_and_masked_after_a_restart() {
    let mut stage = Stage::new().read("t.leak", |_, _| Act::Fail(ErrorClass::Rejected));
    stage = stage.node("t.pass", pipewright::model::Effect::Pure, held(), |_, input| give(input.clone()));
    stage = stage.read("t.use", |_, input| {
        assert_eq!(input.get("key").map(Value::revealed), Some(Value::from("correct-horse-battery")));
        give("it is correct-horse-battery")
    });
    stage.secrets = Arc::new(OneSecret::default());
    let text = "steps:\n  keep: { uses: t.pass, with: { key: \"{{ secrets.KEY }}\" } }\n  wait: { needs: [keep], uses: time.wait, with: { for: 2h } }\n  use: { needs: [wait], uses: t.use, with: { key: \"{{ steps.keep.output.key }}\" } }\noutputs: { said: \"{{ steps.use.output }}\" }\n";
    let pipeline = stage.pipeline(text);
    let engine = stage.engine().await;
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let options = pipewright::engine::ExecuteOptions { foreground: false, ..Default::default() };
    engine.execute(run, pipeline.clone(), options.clone()).await.unwrap();
    engine.parts().store.close().await.unwrap();
    drop(engine);
    // Another process: nobody has read the secret here.
    stage.secrets = Arc::new(OneSecret::default());
    let engine = stage.engine().await;
    stage.world.clock.advance(pipewright::model::Duration::from_secs(7_200));
    let played = stage.resume(&engine, run, &pipeline, options).await;
    assert_eq!(played.outputs(), r#"{"said":"***"}"#);
}

#[tokio::test]
async fn an_item_that_reads_the_one_before_waits_for_it_although_it_is_in_doubt() {
    // The first answer is lost, and it had happened.
    let stage = Stage::new().write("t.say", askable(), |_, input| {
        if input.to_string().contains("one") { Act::Lose(true) } else { give(input.clone()) }
    });
    let played = stage
        .play("steps:\n  say: { for_each: [one, two, three], uses: t.say, with: { text: \"{{ item }}\", after: \"{{ previous.text | default('nothing') }}\" } }\noutputs: { said: \"{{ steps.say.output | length }}\" }\n")
        .await;
    assert_eq!(played.outputs(), r#"{"said":3}"#);
    let calls = stage.world.calls();
    assert!(calls[0].contains(r#""after":"nothing""#) && calls[1].contains(r#""after":"one""#), "{calls:?}");
    assert_eq!(stage.world.happened(), 3);
}
