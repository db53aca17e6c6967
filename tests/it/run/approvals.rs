//! Steps that ask people: who decides, when, and what becomes of the run, on virtual time.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;

use pipewright::approval;
use pipewright::approval::Ballot;
use pipewright::approval::Standing;
use pipewright::engine::Engine;
use pipewright::engine::ExecuteOptions;
use pipewright::engine::Execution;
use pipewright::engine::Signal;
use pipewright::model::Duration;
use pipewright::model::RunEvent;
use pipewright::model::RunId;
use pipewright::model::RunState;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::model::Verdict;
use pipewright::pipeline::Given;
use pipewright::pipeline::Person;
use pipewright::pipeline::Pipeline;
use pipewright::store::ApprovalFilter;
use pipewright::store::ApprovalRecord;
use pipewright::store::RunFilter;

use super::Act;
use super::START;
use super::Stage;
use super::give;
use super::held;

const ASKS: &str = r#"steps:
  before: { uses: test.one }
  review:
    needs: [before]
    uses: approval.request
    with: { title: Publish?, show: { text: tea }, form: { note: { type: string, default: "none" } }, expires: 2d }
  behind: { uses: test.one, with: { note: "{{ steps.review.output.form.note }}" } }
outputs: { by: "{{ steps.review.output.by }}", at: "{{ steps.review.output.at }}" }
"#;

fn stage() -> Stage {
    Stage::new().read("test.one", |_, _| give(7))
}

/// Executes as a daemon does, as far as it goes without waiting.
async fn go(engine: &Engine, run: RunId, pipeline: &Arc<Pipeline>) -> Execution {
    let options = ExecuteOptions { foreground: false, ..ExecuteOptions::default() };
    engine.execute(run, pipeline.clone(), options).await.unwrap()
}

async fn begun(engine: &Engine, pipeline: &Arc<Pipeline>) -> RunId {
    let run = engine.start(pipeline, Value::map::<&str>([])).await.unwrap();
    let parked = go(engine, run, pipeline).await;
    assert!(matches!(parked, Execution::Waiting { .. }), "{parked:?}");
    run
}

async fn asked(engine: &Engine) -> Vec<ApprovalRecord> {
    let filter = ApprovalFilter { open: true, ..ApprovalFilter::default() };
    engine.parts().store.approvals(&filter).await.unwrap()
}

async fn states(engine: &Engine) -> Vec<&'static str> {
    let all = engine.parts().store.approvals(&ApprovalFilter::default()).await.unwrap();
    all.iter().map(|approval| approval.state.name()).collect()
}

fn person(name: &str) -> Person {
    Person { name: name.to_owned(), roles: vec!["editor".to_owned()] }
}

fn ballot(name: &str, approves: bool, form: &[(&str, &str)]) -> Ballot {
    let form = form.iter().map(|(field, text)| ((*field).to_owned(), Given::Text((*text).to_owned()))).collect();
    Ballot { voter: person(name), approves, comment: None, form }
}

async fn say(engine: &Engine, record: &ApprovalRecord, ballot: Ballot) -> Result<Standing, String> {
    let parts = engine.parts();
    let cast = approval::cast(&parts.store, record.clone(), &ballot, parts.system.clock.now()).await;
    cast.map_err(|error| error.to_string())
}

async fn only(engine: &Engine) -> ApprovalRecord {
    let mut open = asked(engine).await;
    assert_eq!(open.len(), 1, "{open:#?}");
    open.remove(0)
}

#[track_caller]
fn outputs(execution: &Execution) -> String {
    match execution {
        Execution::Finished { state: RunState::Succeeded, outputs, .. } => outputs.to_string(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn failure(execution: &Execution) -> String {
    match execution {
        Execution::Finished { state: RunState::Failed, error: Some(error), .. } => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_run_sleeps_until_somebody_approves() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(ASKS);
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let parked = go(&engine, run, &pipeline).await;
    let Execution::Waiting { until, reason, in_doubt: false } = parked else { panic!("{parked:?}") };
    let expires = START.plus(Duration::from_secs(2 * 86_400));
    assert_eq!(until, Some(expires));
    assert_eq!(reason, format!("waits for approval by anybody, until {expires}"));
    let record = only(&engine).await;
    assert_eq!((record.run, record.path.to_string().as_str(), record.expires_at), (run, "review", Some(expires)));
    // Nothing goes on before, however often somebody looks.
    assert!(matches!(go(&engine, run, &pipeline).await, Execution::Waiting { .. }));
    assert_eq!(only(&engine).await.id, record.id, "it is not asked anew");
    stage.world.clock.advance(Duration::from_secs(60));
    assert_eq!(say(&engine, &record, ballot("anna", true, &[("note", "good")])).await, Ok(Standing::Approved));
    let woken = engine.parts().store.run(run).await.unwrap().unwrap();
    assert_eq!(woken.state, RunState::Queued);
    let execution = go(&engine, run, &pipeline).await;
    assert_eq!(outputs(&execution), r#"{"by":["anna"],"at":"2023-11-14T22:14:20Z"}"#);
    assert_eq!(stage.world.calls(), [r#"0 test.one {}"#, r#"60 test.one {"note":"good"}"#]);
    assert_eq!(states(&engine).await, ["approved"]);
    let again = say(&engine, &record, ballot("bob", true, &[])).await;
    assert_eq!(again, Err("it is approved already, since 2023-11-14T22:14:20Z".to_owned()));
}

#[tokio::test]
async fn a_rejection_fails_the_step_and_a_retry_asks_anew() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(ASKS);
    let run = begun(&engine, &pipeline).await;
    let first = only(&engine).await;
    let no = Ballot { comment: Some("too long".to_owned()), ..ballot("anna", false, &[]) };
    assert_eq!(say(&engine, &first, no).await, Ok(Standing::Rejected));
    let told = failure(&go(&engine, run, &pipeline).await);
    assert_eq!(told, "rejected: step `review`: rejected by `anna` (too long)");
    stage.world.clock.advance(Duration::from_secs(1));
    let options = ExecuteOptions { foreground: false, ..ExecuteOptions::default() };
    let again = engine.retry(run, pipeline.clone(), None, options).await.unwrap();
    assert!(matches!(again, Execution::Waiting { .. }), "{again:?}");
    let second = only(&engine).await;
    assert_ne!(first.id, second.id);
    assert_eq!(say(&engine, &second, ballot("bob", true, &[])).await, Ok(Standing::Approved));
    assert!(outputs(&go(&engine, run, &pipeline).await).contains("bob"));
    assert_eq!(states(&engine).await, ["rejected", "approved"]);
}

#[tokio::test]
async fn a_step_that_retries_rejections_asks_again_by_itself() {
    let stage = stage();
    let engine = stage.engine().await;
    let text = ASKS.replace(
        "    with: { title",
        "    retry: { on: [rejected], attempts: 2, delay: 10s, jitter: false }\n    with: { title",
    );
    let pipeline = stage.pipeline(&text);
    let run = begun(&engine, &pipeline).await;
    let first = only(&engine).await;
    say(&engine, &first, ballot("anna", false, &[])).await.unwrap();
    let executing = tokio::spawn({
        let (engine, pipeline) = (engine.clone(), pipeline.clone());
        async move { go(&engine, run, &pipeline).await }
    });
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while !executing.is_finished() {
            stage.world.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    });
    ended.await.expect("the run asks again");
    assert!(matches!(executing.await.unwrap(), Execution::Waiting { .. }));
    let second = only(&engine).await;
    assert_ne!(first.id, second.id);
    say(&engine, &second, ballot("anna", false, &[])).await.unwrap();
    assert_eq!(failure(&go(&engine, run, &pipeline).await), "rejected: step `review`: rejected by `anna`");
}

#[tokio::test]
async fn what_nobody_decides_on_in_time_ends_as_it_says() {
    let expired = "nobody decided until 2023-11-16T22:13:20Z";
    let cases = [
        ("reject", format!("rejected: step `review`: {expired}")),
        ("fail", format!("timeout: step `review`: {expired}")),
        ("approve", r#"{"by":[],"at":"2023-11-16T22:13:20Z"}"#.to_owned()),
    ];
    for (word, expected) in cases {
        let stage = stage();
        let engine = stage.engine().await;
        let pipeline = stage.pipeline(&ASKS.replace("expires: 2d", &format!("expires: 2d, on_expiry: {word}")));
        let run = begun(&engine, &pipeline).await;
        let record = only(&engine).await;
        let at = stage.worker(&engine);
        stage.world.clock.advance_to(record.expires_at.unwrap());
        let end = if word == "approve" { RunState::Succeeded } else { RunState::Failed };
        stage.until(&engine, run, end, Duration::from_millis(100)).await;
        let ended = engine.parts().store.run(run).await.unwrap().unwrap();
        let told = ended.error.map_or_else(|| ended.outputs.to_string(), |error| error.to_string());
        assert_eq!(told, expected);
        assert_eq!(states(&engine).await, ["expired"]);
        let record = engine.parts().store.approval(&record.id).await.unwrap().unwrap();
        let late = say(&engine, &record, ballot("anna", true, &[])).await.unwrap_err();
        assert_eq!(late, "it is expired already, since 2023-11-16T22:13:20Z");
        assert_eq!(at.end().await, 0);
    }
}

#[tokio::test]
async fn of_a_vote_and_the_expiry_one_wins_whoever_looks_first() {
    // The last moment counts, though the run wakes long after.
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(ASKS);
    let run = begun(&engine, &pipeline).await;
    let record = only(&engine).await;
    let expires = record.expires_at.unwrap();
    stage.world.clock.advance_to(Timestamp(expires.micros() - 1));
    assert_eq!(say(&engine, &record, ballot("anna", true, &[])).await, Ok(Standing::Approved));
    stage.world.clock.advance_to(expires.plus(Duration::from_secs(86_400)));
    assert!(outputs(&go(&engine, run, &pipeline).await).contains("anna"));
    // At the moment itself it is too late, though the run has not woken yet.
    let run = begun(&engine, &pipeline).await;
    let record = only(&engine).await;
    stage.world.clock.advance_to(record.expires_at.unwrap());
    let late = say(&engine, &record, ballot("anna", true, &[])).await.unwrap_err();
    assert_eq!(late, format!("it expired at {}", record.expires_at.unwrap()));
    assert!(failure(&go(&engine, run, &pipeline).await).starts_with("rejected: "));
}

/// A decision that is stored between the moment at which the run wakes and the one at which it looks.
#[tokio::test]
async fn a_run_that_wakes_for_the_expiry_finds_the_vote_that_was_before() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(ASKS);
    let run = begun(&engine, &pipeline).await;
    let record = only(&engine).await;
    let expires = record.expires_at.unwrap();
    let early = Timestamp(expires.micros() - 1);
    // The vote carries the time at which it was cast by its own process, whose clock is behind.
    stage.world.clock.advance_to(expires.plus(Duration::from_secs(1)));
    let cast = approval::cast(&engine.parts().store, record, &ballot("anna", true, &[]), early).await;
    assert_eq!(cast.unwrap(), Standing::Approved);
    assert!(outputs(&go(&engine, run, &pipeline).await).contains("anna"));
}

#[tokio::test]
async fn a_quorum_is_of_different_people_and_a_word_can_be_changed() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(&ASKS.replace("expires: 2d", "approvers: [editor], quorum: 2, rejections: 2"));
    let run = engine.start_as(Some("eve"), &pipeline, Value::map::<&str>([])).await.unwrap();
    let parked = go(&engine, run, &pipeline).await;
    let Execution::Waiting { until: None, reason, .. } = parked else { panic!("{parked:?}") };
    assert_eq!(reason, "waits for approval by 2 of `editor`");
    let record = only(&engine).await;
    let open = |approvals, rejections| Ok(Standing::Open { approvals, rejections });
    assert_eq!(say(&engine, &record, ballot("anna", true, &[("note", "one")])).await, open(1, 0));
    assert_eq!(say(&engine, &record, ballot("anna", true, &[("note", "two")])).await, open(1, 0));
    assert_eq!(say(&engine, &record, ballot("anna", false, &[])).await, open(0, 1));
    assert_eq!(say(&engine, &record, ballot("anna", true, &[("note", "three")])).await, open(1, 0));
    let own = say(&engine, &record, ballot("eve", true, &[])).await.unwrap_err();
    assert_eq!(own, "`eve` started the run, so somebody else must approve it");
    let stranger = Ballot { voter: Person { name: "dan".to_owned(), roles: Vec::new() }, ..ballot("", true, &[]) };
    assert_eq!(say(&engine, &record, stranger).await.unwrap_err(), "`dan` is not asked: it asks 2 of `editor`");
    let unknown = say(&engine, &record, ballot("bob", true, &[("nota", "x")])).await.unwrap_err();
    assert_eq!(unknown, "there is no field `nota`; did you mean `note`?");
    assert_eq!(say(&engine, &record, ballot("bob", true, &[])).await, Ok(Standing::Approved));
    let execution = go(&engine, run, &pipeline).await;
    assert!(outputs(&execution).starts_with(r#"{"by":["anna","bob"]"#), "{execution:?}");
    assert_eq!(stage.world.calls().last().unwrap(), r#"0 test.one {"note":"three"}"#);
}

#[tokio::test]
async fn many_people_at_once_decide_once() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(&ASKS.replace("expires: 2d", "quorum: 5"));
    let run = begun(&engine, &pipeline).await;
    let record = only(&engine).await;
    let votes = (0..12).map(|number| {
        let (engine, record) = (engine.clone(), record.clone());
        tokio::spawn(async move { say(&engine, &record, ballot(&format!("p{number}"), true, &[])).await })
    });
    let mut decided = 0;
    for vote in votes.collect::<Vec<_>>() {
        match vote.await.unwrap() {
            Ok(Standing::Approved) => decided += 1,
            Ok(Standing::Open { approvals, .. }) => assert!(approvals < 5),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => assert!(refusal.starts_with("it is approved already"), "{refusal}"),
        }
    }
    assert_eq!(decided, 1);
    assert_eq!(engine.parts().store.inbox(run).await.unwrap().len(), 1);
    let execution = go(&engine, run, &pipeline).await;
    let Execution::Finished { outputs, .. } = &execution else { panic!("{execution:?}") };
    assert_eq!(outputs.get("by").unwrap().as_list().unwrap().len(), 5);
}

#[tokio::test]
async fn each_item_is_asked_for_by_itself() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(
        "steps:\n  each: { for_each: [a, b, c], on_error: continue, uses: approval.request, with: { title: \"{{ item }}\" } }\noutputs: { by: \"{{ steps.each.output | map(attribute='by') | list }}\" }\n",
    );
    let run = begun(&engine, &pipeline).await;
    let reason = engine.parts().store.run(run).await.unwrap().unwrap().reason.unwrap();
    assert_eq!(reason, "waits for approval by anybody, and 2 more");
    let open = asked(&engine).await;
    let of = |item: &str| open.iter().find(|record| record.path.to_string() == format!("each[{item}]")).unwrap();
    say(&engine, of("1"), ballot("anna", false, &[])).await.unwrap();
    say(&engine, of("2"), ballot("anna", true, &[])).await.unwrap();
    assert!(matches!(go(&engine, run, &pipeline).await, Execution::Waiting { .. }));
    say(&engine, of("0"), ballot("bob", true, &[])).await.unwrap();
    let execution = go(&engine, run, &pipeline).await;
    assert!(matches!(&execution, Execution::Finished { .. }), "{execution:?}");
    let journal = engine.parts().store.journal(run).await.unwrap();
    let ended = journal.iter().filter(|event| matches!(event, RunEvent::Succeeded { .. } | RunEvent::Failed { .. }));
    assert_eq!(
        ended.map(|event| event.path().unwrap().to_string()).collect::<Vec<_>>(),
        ["each[1]", "each[2]", "each[0]"]
    );
}

#[tokio::test]
async fn a_canceled_run_asks_nobody_any_more() {
    let stage = stage();
    stage.file("child", ASKS);
    let engine = stage.engine().await;
    let text = "steps:\n  here: { for_each: [1, 2], uses: approval.request }\n  there: { uses: pipeline.run, with: { pipeline: child } }\n";
    let pipeline = stage.pipeline(text);
    let run = begun(&engine, &pipeline).await;
    let open = asked(&engine).await;
    assert_eq!(open.len(), 3);
    engine.signal(run, &Signal::Cancel { undo: false }).await.unwrap();
    let execution = go(&engine, run, &pipeline).await;
    assert!(matches!(execution, Execution::Finished { state: RunState::Canceled, .. }), "{execution:?}");
    assert_eq!(states(&engine).await, ["canceled"; 3]);
    let late = say(&engine, &open[0], ballot("anna", true, &[])).await.unwrap_err();
    assert!(late.starts_with("it is canceled already"), "{late}");
}

#[tokio::test]
async fn a_deadline_counts_while_people_think() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(&format!("timeout: 1m\ndeadline: 1d\n{ASKS}"));
    let run = begun(&engine, &pipeline).await;
    let record = only(&engine).await;
    stage.world.clock.advance(Duration::from_secs(3 * 3_600));
    assert!(matches!(go(&engine, run, &pipeline).await, Execution::Waiting { .. }), "the time-out is of work");
    stage.world.clock.advance(Duration::from_secs(86_400));
    say(&engine, &record, ballot("anna", true, &[])).await.unwrap();
    let told = go(&engine, run, &pipeline).await;
    // The answer came in time for the ask, but not for the run.
    assert!(matches!(&told, Execution::Finished { .. }), "{told:?}");
}

#[tokio::test]
async fn an_approval_of_a_child_wakes_its_parents() {
    let stage = stage();
    stage.file("grandchild", ASKS);
    stage.file("child", "steps:\n  down: { uses: pipeline.run, with: { pipeline: grandchild } }\noutputs: { by: \"{{ steps.down.output.by }}\" }\n");
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(
        "steps:\n  down: { uses: pipeline.run, with: { pipeline: child } }\noutputs: { by: \"{{ steps.down.output.by }}\" }\n",
    );
    let run = engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap();
    let at = stage.worker(&engine);
    stage.until(&engine, run, RunState::Waiting, Duration::ZERO).await;
    let record = only(&engine).await;
    assert_ne!(record.run, run);
    assert_eq!(say(&engine, &record, ballot("anna", true, &[])).await, Ok(Standing::Approved));
    at.bell.ring();
    stage.until(&engine, run, RunState::Succeeded, Duration::ZERO).await;
    let runs = engine.parts().store.runs(&RunFilter::default()).await.unwrap();
    assert_eq!(runs.len(), 3);
    for run in &runs {
        assert_eq!(run.state, RunState::Succeeded);
        assert!(engine.parts().store.inbox(run.id).await.unwrap().is_empty());
    }
    assert_eq!(runs.iter().find(|other| other.id == run).unwrap().outputs.to_string(), r#"{"by":["anna"]}"#);
    assert_eq!(at.end().await, 0);
}

#[tokio::test]
async fn a_childs_starter_is_who_started_its_parent() {
    let stage = stage();
    stage.file("child", ASKS);
    let engine = stage.engine().await;
    let pipeline = stage.pipeline("steps: { down: { uses: pipeline.run, with: { pipeline: child } } }\n");
    let run = engine.start_as(Some("anna"), &pipeline, Value::map::<&str>([])).await.unwrap();
    go(&engine, run, &pipeline).await;
    let own = say(&engine, &only(&engine).await, ballot("anna", true, &[])).await.unwrap_err();
    assert_eq!(own, "`anna` started the run, so somebody else must approve it");
}

#[tokio::test]
async fn a_childs_expiry_wakes_its_parent_too() {
    let stage = stage();
    stage.file("child", ASKS);
    let engine = stage.engine().await;
    let pipeline = stage.pipeline("steps: { down: { uses: pipeline.run, with: { pipeline: child } } }\n");
    let run = engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap();
    let at = stage.worker(&engine);
    stage.until(&engine, run, RunState::Waiting, Duration::ZERO).await;
    stage.world.clock.advance_to(only(&engine).await.expires_at.unwrap());
    stage.until(&engine, run, RunState::Failed, Duration::from_millis(100)).await;
    assert_eq!(at.end().await, 0);
}

/// A lock that a step of a child run waits for wakes its parent as well.
#[tokio::test]
async fn a_lock_that_a_child_gets_wakes_its_parents() {
    let stage = stage();
    stage.file("child", "steps: { locked: { uses: test.one, locks: [{ name: erp }] } }\n");
    let engine = stage.engine().await;
    let holds = stage.pipeline("locks: [{ name: erp }]\nsteps: { ask: { uses: approval.request } }\n");
    let holder = engine.enqueue(&holds, Value::map::<&str>([]), None).await.unwrap().unwrap();
    let at = stage.worker(&engine);
    stage.until(&engine, holder, RunState::Waiting, Duration::ZERO).await;
    let pipeline = stage.pipeline("steps: { down: { uses: pipeline.run, with: { pipeline: child } } }\n");
    let run = engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap();
    at.bell.ring();
    stage.until(&engine, run, RunState::Waiting, Duration::ZERO).await;
    say(&engine, &only(&engine).await, ballot("anna", true, &[])).await.unwrap();
    at.bell.ring();
    stage.until(&engine, holder, RunState::Succeeded, Duration::ZERO).await;
    stage.until(&engine, run, RunState::Succeeded, Duration::from_millis(100)).await;
    assert_eq!(at.end().await, 0);
}

/// What a person says about a doubt in a child run wakes its parent as well.
#[tokio::test]
async fn a_doubt_of_a_child_that_is_resolved_wakes_its_parent() {
    let stage = Stage::new().write("test.lose", held(), |_, _| Act::Lose(true));
    stage.file("child", "steps: { write: { uses: test.lose } }\n");
    let engine = stage.engine().await;
    let pipeline = stage.pipeline("steps: { down: { uses: pipeline.run, with: { pipeline: child } } }\n");
    let run = engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap();
    let at = stage.worker(&engine);
    stage.until(&engine, run, RunState::Waiting, Duration::from_secs(1)).await;
    let effects = engine.parts().store.effects(&Default::default()).await.unwrap();
    let (child, effect) = (effects[0].run, effects[0].id.to_string());
    assert_ne!(child, run);
    let verdict = Verdict::Happened { output: Value::Null, remote_id: None };
    engine.signal(child, &Signal::Resolve { effect, verdict }).await.unwrap();
    at.bell.ring();
    stage.until(&engine, run, RunState::Succeeded, Duration::ZERO).await;
    assert_eq!(at.end().await, 0);
}

#[tokio::test]
async fn people_are_asked_after_a_failure_and_at_the_end_as_well() {
    let stage = stage().read("test.bad", |_, _| Act::Fail(pipewright::model::ErrorClass::Rejected));
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(
        "steps: { bad: { uses: test.bad } }\non_failure: { ask: { uses: approval.request } }\nfinally: { ask_too: { uses: approval.request } }\n",
    );
    let run = begun(&engine, &pipeline).await;
    let first = only(&engine).await;
    assert_eq!(first.path.to_string(), "on_failure/ask");
    say(&engine, &first, ballot("anna", true, &[])).await.unwrap();
    assert!(matches!(go(&engine, run, &pipeline).await, Execution::Waiting { .. }));
    let second = only(&engine).await;
    assert_eq!(second.path.to_string(), "finally/ask_too");
    say(&engine, &second, ballot("anna", false, &[])).await.unwrap();
    // What becomes of a phase changes the outcome no more.
    assert_eq!(failure(&go(&engine, run, &pipeline).await), "rejected: step `bad`: test.bad fails");
}

#[tokio::test]
async fn an_until_asks_every_round() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(
        "steps:\n  ask:\n    uses: approval.request\n    with: { form: { done: { type: boolean } } }\n    until: { holds: \"{{ output.form.done }}\", limit: 3 }\noutputs: { done: \"{{ steps.ask.output.form.done }}\" }\n",
    );
    let run = begun(&engine, &pipeline).await;
    let first = only(&engine).await;
    say(&engine, &first, ballot("anna", true, &[("done", "false")])).await.unwrap();
    assert!(matches!(go(&engine, run, &pipeline).await, Execution::Waiting { .. }));
    let second = only(&engine).await;
    assert_eq!((first.path.to_string(), second.path.to_string()), ("ask#1".to_owned(), "ask#2".to_owned()));
    let wrong = say(&engine, &second, ballot("anna", true, &[("done", "maybe")])).await.unwrap_err();
    assert_eq!(wrong, "field `done`: expected `true` or `false`, found `maybe`");
    let missing = say(&engine, &second, ballot("anna", true, &[])).await.unwrap_err();
    assert_eq!(missing, "field `done` is missing; give it with `--form done=…`");
    say(&engine, &second, ballot("anna", true, &[("done", "true")])).await.unwrap();
    assert_eq!(outputs(&go(&engine, run, &pipeline).await), r#"{"done":true}"#);
}

#[tokio::test]
async fn who_watches_a_run_waits_with_it() {
    let stage = stage();
    let engine = stage.engine().await;
    for expires in ["expires: 2d", "quorum: 1"] {
        let pipeline = stage.pipeline(&ASKS.replace("expires: 2d", expires));
        let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
        let executing = tokio::spawn({
            let (engine, pipeline) = (engine.clone(), pipeline.clone());
            async move { engine.execute(run, pipeline, ExecuteOptions::default()).await.unwrap() }
        });
        // The store works in a thread of its own, so that only real time can tell a run that never goes on.
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), async {
            while !executing.is_finished() {
                if let Some(record) = asked(&engine).await.first() {
                    say(&engine, record, ballot("anna", true, &[])).await.unwrap();
                }
                stage.world.clock.advance(Duration::from_millis(100));
                tokio::task::yield_now().await;
            }
        });
        ended.await.expect("the run goes on");
        assert!(outputs(&executing.await.unwrap()).contains("anna"));
    }
}

/// Whoever watched has stopped it by Ctrl-C; the answer has the daemon go on with it.
#[tokio::test]
async fn a_run_that_was_stopped_goes_on_when_it_is_answered() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(ASKS);
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let options = ExecuteOptions::default();
    let stop = options.stop.clone();
    let executing = tokio::spawn({
        let (engine, pipeline) = (engine.clone(), pipeline.clone());
        async move { engine.execute(run, pipeline, options).await.unwrap() }
    });
    let found = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while asked(&engine).await.is_empty() {
            tokio::task::yield_now().await;
        }
    });
    found.await.expect("somebody is asked");
    stop.cancel();
    assert_eq!(executing.await.unwrap(), Execution::Stopped);
    say(&engine, &only(&engine).await, ballot("anna", true, &[])).await.unwrap();
    let at = stage.worker(&engine);
    stage.until(&engine, run, RunState::Succeeded, Duration::from_millis(100)).await;
    assert_eq!(at.end().await, 0);
}

#[tokio::test]
async fn defaults_may_be_computed_and_those_that_do_not_fit_fail_the_step() {
    let stage = Stage::new().read("test.one", |_, _| give(7)).read("test.word", |_, _| give("seven"));
    let engine = stage.engine().await;
    let text = "steps:\n  one: { uses: test.one }\n  ask: { uses: approval.request, with: { form: { n: { type: integer, default: \"{{ steps.one.output }}\" } } } }\noutputs: { n: \"{{ steps.ask.output.form.n }}\" }\n";
    let pipeline = stage.pipeline(text);
    let run = begun(&engine, &pipeline).await;
    say(&engine, &only(&engine).await, ballot("anna", true, &[])).await.unwrap();
    assert_eq!(outputs(&go(&engine, run, &pipeline).await), r#"{"n":7}"#);
    let pipeline = stage.pipeline(&text.replace("test.one", "test.word"));
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let told = failure(&go(&engine, run, &pipeline).await);
    assert_eq!(told, r#"invalid: step `ask`: the default of `n`: expected a whole number, found "seven""#);
}

#[tokio::test]
async fn a_secret_that_is_shown_is_sealed_and_masked() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(
        "inputs: { key: { type: secret } }\nsteps:\n  ask: { uses: approval.request, with: { show: { key: \"{{ inputs.key }}\" }, form: { pin: { type: secret } } } }\n",
    );
    let run = engine.start(&pipeline, Value::map([("key", Value::from("hunter2-a").tainted())])).await.unwrap();
    go(&engine, run, &pipeline).await;
    let record = only(&engine).await;
    let shown = record.ask.as_ref().unwrap().request.to_string();
    assert!(shown.contains(r#"{"key":"***"}"#), "{shown}");
    say(&engine, &record, ballot("anna", true, &[("pin", "hunter2-b")])).await.unwrap();
    assert!(matches!(go(&engine, run, &pipeline).await, Execution::Finished { state: RunState::Succeeded, .. }));
    engine.parts().store.close().await.unwrap();
    for name in ["state.db", "state.db-wal"] {
        let bytes = std::fs::read(stage.folder.path().join(name)).unwrap_or_default();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{name} holds a secret in clear");
    }
}

#[tokio::test]
async fn an_answer_is_not_lost_wherever_the_process_ends() {
    let stage = stage();
    let pipeline = stage.pipeline(ASKS);
    // Each engine is another process: asked, decided and gone on with by three of them.
    let (first, second, third) = (stage.engine().await, stage.engine().await, stage.engine().await);
    let run = begun(&first, &pipeline).await;
    drop(first);
    let record = only(&second).await;
    say(&second, &record, ballot("anna", true, &[])).await.unwrap();
    drop(second);
    let execution = go(&third, run, &pipeline).await;
    assert!(outputs(&execution).contains("anna"));
    let journal = third.parts().store.journal(run).await.unwrap();
    let asks = journal.iter().filter(|event| matches!(event, RunEvent::Asked { .. })).count();
    assert_eq!(asks, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yes_to_a_plan_is_void_when_the_plan_has_changed_and_binds_the_run_when_it_has_not() {
    let world = Arc::new(AtomicI64::new(1));
    let seen = world.clone();
    let stage = Stage::new().read("test.look", move |_, _| give(seen.load(Ordering::SeqCst))).write(
        "test.do",
        pipewright::model::Settlement::default(),
        |_, input| give(input.clone()),
    );
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(
        r#"steps:
  first: { uses: test.do, with: { first: true } }
  review: { needs: [first], uses: approval.request, with: { title: Do it?, bind: plan } }
  look: { needs: [review], uses: test.look }
  act: { uses: test.do, with: { n: "{{ steps.look.output }}", of: "{{ steps.review.output.by | first }}" } }
outputs: { n: "{{ steps.act.output.n }}" }
"#,
    );
    let run = begun(&engine, &pipeline).await;
    let plan = |record: &ApprovalRecord| record.ask.as_ref().unwrap().request.get("plan").unwrap().clone();
    let (first, shown) = {
        let record = only(&engine).await;
        let shown = plan(&record);
        (record, shown)
    };
    let effects = shown.get("effects").unwrap().as_list().unwrap().to_vec();
    assert_eq!(effects.len(), 1, "what has happened is not planned: {shown}");
    assert_eq!(effects[0].get("input").unwrap().to_string(), r#"{"n":1,"of":"?"}"#);
    // The world changes before somebody says yes to how it was.
    world.store(2, Ordering::SeqCst);
    assert_eq!(say(&engine, &first, ballot("anna", true, &[])).await, Ok(Standing::Approved));
    assert!(matches!(go(&engine, run, &pipeline).await, Execution::Waiting { .. }));
    let second = only(&engine).await;
    assert_ne!((&second.id, plan(&second).get("hash")), (&first.id, shown.get("hash")));
    assert_eq!(
        plan(&second).get("effects").unwrap().as_list().unwrap()[0].get("input").unwrap().to_string(),
        r#"{"n":2,"of":"?"}"#
    );
    assert_eq!(say(&engine, &second, ballot("bob", true, &[])).await, Ok(Standing::Approved));
    let execution = go(&engine, run, &pipeline).await;
    assert_eq!(outputs(&execution), r#"{"n":2}"#);
    let happened: Vec<_> =
        stage.world.seen.lock().unwrap().happened.iter().map(|(_, input)| input.to_string()).collect();
    assert_eq!(happened, [r#"{"first":true}"#, r#"{"n":2,"of":"bob"}"#]);
    let journal = engine.parts().store.journal(run).await.unwrap();
    assert_eq!(journal.iter().filter(|event| matches!(event, RunEvent::Planned { .. })).count(), 1);
    assert_eq!(states(&engine).await.len(), 2);
}
