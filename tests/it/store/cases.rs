//! The cases that hold on every database.

use std::collections::BTreeSet;
use std::sync::Arc;

use pipewright::model::Ask;
use pipewright::model::AskId;
use pipewright::model::Blob;
use pipewright::model::Dataset;
use pipewright::model::Duration;
use pipewright::model::EffectId;
use pipewright::model::EffectIntent;
use pipewright::model::ErrorClass;
use pipewright::model::Happened;
use pipewright::model::Lapse;
use pipewright::model::Phase;
use pipewright::model::RunEvent;
use pipewright::model::RunId;
use pipewright::model::RunState;
use pipewright::model::SettledBy;
use pipewright::model::StepError;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::model::Verdict;
use pipewright::model::VersionId;
use pipewright::model::WriteKind;
use pipewright::model::parse_json;
use pipewright::node::LogLevel;
use pipewright::store::ApprovalFilter;
use pipewright::store::ApprovalState;
use pipewright::store::EffectFilter;
use pipewright::store::EffectState;
use pipewright::store::Ends;
use pipewright::store::Error;
use pipewright::store::Fence;
use pipewright::store::FileRow;
use pipewright::store::Lapsed;
use pipewright::store::NewFiring;
use pipewright::store::NewRun;
use pipewright::store::OpenOptions;
use pipewright::store::Presence;
use pipewright::store::Record;
use pipewright::store::Request;
use pipewright::store::RunFilter;
use pipewright::store::Store;
use pipewright::store::VersionRecord;
use pipewright::store::Vote;
use pipewright::store::WhenFull;
use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::Executor;

use super::Case;
use super::Ground;
use super::NOW;
use super::new_run;
use super::path;
use super::run_id;
use super::succeeded;

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(super) const CASES: &[(&str, Case)] = &[$((stringify!($name), |ground| Box::pin($name(ground)))),*];
    };
}

cases![
    a_run_comes_back_as_it_was_made,
    a_run_is_made_once_for_an_id_and_once_for_a_slot,
    runs_are_listed_newest_first_and_filtered,
    a_version_is_kept_as_it_was_first_put,
    what_has_fired_is_remembered_and_what_has_not_is_found,
    files_of_a_trigger_are_rows_and_tokens_are_taken_once,
    every_event_comes_back_in_order_after_a_restart,
    the_run_follows_its_journal,
    a_claim_is_exclusive_until_it_is_released_or_stolen,
    permits_are_given_to_those_who_wait_and_end_with_their_run,
    whoever_does_not_wait_is_canceled_and_who_is_replaced_too,
    permits_of_steps_are_for_the_owner_of_the_fence,
    a_writer_that_lost_its_lease_changes_nothing,
    one_run_that_lost_its_lease_does_not_harm_the_others,
    a_journal_has_no_gap_and_no_event_twice,
    effects_follow_the_journal,
    a_remote_object_settles_one_effect,
    a_signal_wakes_a_sleeping_run_and_is_not_lost,
    a_run_that_is_put_back_is_in_the_queue,
    a_child_run_is_made_by_the_holder_of_its_parent_only,
    a_parent_is_told_of_every_end_of_a_spread_child_even_when_its_worker_dies,
    daemons_join_show_up_and_leave,
    an_announcement_reaches_the_other_processes_of_this_store_only,
    an_approval_begins_with_its_event_and_ends_with_its_step,
    a_vote_that_decides_wakes_the_run_and_those_above_it,
    a_vote_counts_only_on_what_was_read,
    of_a_vote_and_the_expiry_one_wins,
    signals_to_a_family_from_many_sides_all_arrive,
    the_cache_forgets_what_has_expired,
    log_lines_keep_their_order_over_owners,
    large_outputs_become_blobs,
    without_a_folder_large_outputs_are_kept_all_the_same,
    blobs_come_back_by_address,
    a_page_of_a_dataset_is_appended_once,
    a_secret_is_never_stored_in_clear,
    without_a_master_key_a_secret_is_an_error,
    many_runs_write_at_once_from_two_stores,
    records_are_written_behind_without_a_commit,
    subscribers_hear_of_committed_events_only,
    a_fast_producer_is_held_back,
    a_newer_or_altered_schema_is_refused,
    two_processes_may_make_the_store_at_once,
    a_closed_store_says_so,
    texts_with_zeros_do_no_harm,
];

async fn claimed(store: &Store, number: u128) -> (NewRun, Fence) {
    let run = new_run(run_id(number));
    assert!(store.create_run(&run).await.unwrap());
    let fence = store.claim(run.id, "worker-1").await.unwrap().unwrap();
    (run, fence)
}

fn failure() -> Box<StepError> {
    Box::new(StepError { class: ErrorClass::Timeout, message: "no answer".into() })
}

fn intent(run: &NewRun, step: &str) -> (EffectId, Record) {
    let id = EffectId(format!("{}/{step}", run.id).into());
    let intent = EffectIntent {
        id: id.clone(),
        key: "order-7".into(),
        kind: WriteKind::Create,
        request: Value::map([("body", Value::from("buy"))]),
        send_before: NOW.plus(Duration::from_secs(30)),
        answer_before: NOW.plus(Duration::from_secs(40)),
        fingerprint: None,
    };
    (id, Record::Event(RunEvent::Intent { path: path(step), attempt: 1, intent: Box::new(intent), at: NOW }))
}

/// A value in which every kind occurs.
fn every_kind() -> Value {
    let blob = Blob {
        address: "sha256:ab".into(),
        size: 3,
        offset: None,
        media_type: None,
        file_name: Some("a b.txt".into()),
    };
    let dataset = Dataset { name: "rows".into(), id: "01A/x".into(), rows: 7 };
    Value::map([
        ("null", Value::Null),
        ("bool", Value::from(true)),
        ("int", Value::Int(i128::MAX)),
        ("number", parse_json("12345678901234567890.123456789").unwrap()),
        ("long", parse_json("1234567890123456789012345678901234567890.5").unwrap()),
        ("float", Value::Float(0.1)),
        ("text", Value::from("ä \u{0} \n \"quoted\" 💥")),
        ("money", Value::Money("1.50 USD".parse().unwrap())),
        ("time", Value::Time(NOW)),
        ("duration", Value::Duration(Duration::from_secs(90))),
        ("blob", Value::Blob(Arc::new(blob))),
        ("dataset", Value::Dataset(Arc::new(dataset))),
        ("secret", Value::from("hunter2-secret").tainted()),
        ("dollar", parse_json(r#"{"$":["big","sha256:no"]}"#).unwrap()),
    ])
}

async fn a_run_comes_back_as_it_was_made(ground: Ground) {
    let store = ground.open().await;
    let run = NewRun {
        inputs: every_kind(),
        slot: Some("cron:0".into()),
        parent: Some((run_id(9), path("child[2]#3"))),
        ..new_run(run_id(1))
    };
    assert!(store.create_run(&run).await.unwrap());
    let found = store.run(run.id).await.unwrap().unwrap();
    assert_eq!(found.inputs, run.inputs);
    assert!(found.inputs.get("secret").unwrap().is_tainted());
    assert_eq!((found.slot, found.parent), (run.slot, run.parent));
    assert_eq!((found.state, found.priority, found.created_at), (RunState::Queued, 5, NOW));
    assert_eq!((found.outputs, found.error, found.started_at), (Value::Null, None, None));
    assert_eq!(store.run(run_id(2)).await.unwrap(), None);
}

async fn a_run_is_made_once_for_an_id_and_once_for_a_slot(ground: Ground) {
    let store = ground.open().await;
    let slot = |number, slot: &str| NewRun { slot: Some(slot.into()), ..new_run(run_id(number)) };
    assert!(store.create_run(&new_run(run_id(1))).await.unwrap());
    assert!(!store.create_run(&new_run(run_id(1))).await.unwrap());
    assert!(store.create_run(&slot(2, "9:00")).await.unwrap());
    assert!(!store.create_run(&slot(3, "9:00")).await.unwrap());
    assert!(store.create_run(&slot(3, "10:00")).await.unwrap());
}

async fn runs_are_listed_newest_first_and_filtered(ground: Ground) {
    let store = ground.open().await;
    for number in 1..=5 {
        let pipeline = if number % 2 == 0 { "even" } else { "odd" };
        store.create_run(&NewRun { pipeline: pipeline.into(), ..new_run(run_id(number)) }).await.unwrap();
    }
    let listed = |filter: RunFilter| {
        let store = store.clone();
        async move { store.runs(&filter).await.unwrap().into_iter().map(|run| run.id).collect::<Vec<_>>() }
    };
    let ids = |numbers: &[u128]| numbers.iter().map(|number| run_id(*number)).collect::<Vec<_>>();
    assert_eq!(listed(RunFilter::default()).await, ids(&[5, 4, 3, 2, 1]));
    assert_eq!(listed(RunFilter { limit: Some(2), ..RunFilter::default() }).await, ids(&[5, 4]));
    assert_eq!(listed(RunFilter { pipeline: Some("even".into()), ..RunFilter::default() }).await, ids(&[4, 2]));
    let prefix = run_id(3).to_string().to_lowercase();
    assert_eq!(listed(RunFilter { id_prefix: Some(prefix), ..RunFilter::default() }).await, ids(&[3]));
    let common = run_id(3).to_string().chars().take(20).collect();
    assert_eq!(listed(RunFilter { id_prefix: Some(common), ..RunFilter::default() }).await.len(), 5);
    assert!(listed(RunFilter { id_prefix: Some("'; --".into()), ..RunFilter::default() }).await.is_empty());
    let states = vec![RunState::Queued, RunState::Failed];
    assert_eq!(listed(RunFilter { states, ..RunFilter::default() }).await.len(), 5);
    assert!(listed(RunFilter { states: vec![RunState::Failed], ..RunFilter::default() }).await.is_empty());
    assert!(listed(RunFilter { parent: Some(run_id(1)), ..RunFilter::default() }).await.is_empty());
}

async fn a_version_is_kept_as_it_was_first_put(ground: Ground) {
    let store = ground.open().await;
    let version = |definition: &str| VersionRecord {
        id: VersionId("abc".into()),
        pipeline: "demo".into(),
        definition: definition.into(),
    };
    store.put_version(&version("first")).await.unwrap();
    store.put_version(&version("second")).await.unwrap();
    assert_eq!(store.version(&VersionId("abc".into())).await.unwrap(), Some(version("first")));
    assert_eq!(store.version(&VersionId("abd".into())).await.unwrap(), None);
}

fn all_events() -> Vec<RunEvent> {
    let (step, at) = (path("publish[3]#2"), NOW);
    let effect = EffectId("01/publish".into());
    let output = every_kind();
    let intent = EffectIntent {
        id: effect.clone(),
        key: "k".into(),
        kind: WriteKind::Spend,
        request: output.clone(),
        send_before: at,
        answer_before: at,
        fingerprint: Some("equal".into()),
    };
    let settled = |verdict| RunEvent::Settled {
        path: path("publish"),
        effect: EffectId("01/publish".into()),
        at: NOW,
        by: SettledBy::Person,
        verdict: Box::new(verdict),
    };
    vec![
        RunEvent::Started { at },
        RunEvent::Items { step: path("publish"), items: Value::list(vec![output.clone(), Value::Null]), at },
        RunEvent::StepStarted { path: step.clone(), attempt: 1, at },
        RunEvent::Intent { path: step.clone(), attempt: 1, intent: Box::new(intent), at },
        RunEvent::Succeeded {
            path: step.clone(),
            attempt: 2,
            started: at,
            at,
            output: output.clone(),
            recovered: Some(failure()),
        },
        RunEvent::Failed {
            path: step.clone(),
            attempt: 1,
            started: at,
            at,
            error: failure(),
            happened: Happened::Perhaps,
            retry_at: Some(at),
        },
        RunEvent::Skipped { path: step.clone(), at, reason: "when".into() },
        RunEvent::Waiting { path: step.clone(), at, until: None, reason: "x".into(), then: Some(output.clone()) },
        RunEvent::Round { path: step.clone(), attempt: 1, started: at, at, output: output.clone(), until: at },
        RunEvent::InDoubt { path: step.clone(), effect, at, error: failure() },
        settled(Verdict::Happened { output: output.clone(), remote_id: Some("7".into()) }),
        settled(Verdict::SendAgain),
        settled(Verdict::Dropped),
        RunEvent::Child { path: step.clone(), run: run_id(6), at },
        RunEvent::StepCanceled { path: step, at },
        RunEvent::CancelRequested { at, undo: true, reason: None },
        RunEvent::Retried { at, from: Some("publish".into()) },
        RunEvent::PhaseStarted { phase: Phase::Undo, at, state: RunState::Failed, error: Some(failure()) },
        RunEvent::Parked { at, until: Some(at), reason: "x".into() },
        RunEvent::Finished { at, state: RunState::Failed, outputs: output, error: Some(failure()) },
    ]
}

async fn every_event_comes_back_in_order_after_a_restart(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    let mut expected = Vec::new();
    for round in 0..3 {
        for event in all_events() {
            writer.append([Record::Event(event.clone())]);
            expected.push(event);
            if round == 1 {
                writer.commit().await.unwrap();
            }
        }
    }
    writer.commit().await.unwrap();
    store.close().await.unwrap();
    let store = ground.open().await;
    assert_eq!(store.journal(run.id).await.unwrap(), expected);
    // A second owner goes on where the first one stopped.
    let lease = store.lease(run.id).await.unwrap().unwrap();
    let fence = store.steal(run.id, "worker-2", &lease).await.unwrap().unwrap();
    let writer = store.writer(run.id, fence, u64::try_from(expected.len()).unwrap() + 1, []);
    writer.append([Record::Event(RunEvent::Started { at: NOW })]);
    writer.commit().await.unwrap();
    assert_eq!(store.journal(run.id).await.unwrap().len(), expected.len() + 1);
}

async fn the_run_follows_its_journal(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    let later = |seconds| NOW.plus(Duration::from_secs(seconds));
    writer.append([Record::Event(RunEvent::Started { at: later(1) })]);
    writer.commit().await.unwrap();
    let found = store.run(run.id).await.unwrap().unwrap();
    assert_eq!((found.state, found.started_at, found.owned), (RunState::Running, Some(later(1)), true));
    let until = Some(later(90));
    writer.append([Record::Event(RunEvent::Parked { at: later(2), until, reason: "a timer".into() })]);
    writer.commit().await.unwrap();
    let found = store.run(run.id).await.unwrap().unwrap();
    assert_eq!((found.state, found.waiting_until), (RunState::Waiting, until));
    assert_eq!(found.reason.as_deref(), Some("a timer"));
    let outputs = every_kind();
    writer.append([
        Record::Event(RunEvent::Started { at: later(90) }),
        Record::Event(RunEvent::Finished {
            at: later(91),
            state: RunState::Failed,
            outputs: outputs.clone(),
            error: Some(failure()),
        }),
    ]);
    writer.commit().await.unwrap();
    let found = store.run(run.id).await.unwrap().unwrap();
    assert_eq!((found.state, found.started_at, found.ended_at), (RunState::Failed, Some(later(1)), Some(later(91))));
    assert_eq!((found.outputs, found.error, found.waiting_until), (outputs, Some(*failure()), None));
}

async fn a_claim_is_exclusive_until_it_is_released_or_stolen(ground: Ground) {
    let store = ground.open().await;
    let (run, first) = claimed(&store, 1).await;
    assert_eq!(store.claim(run.id, "worker-2").await.unwrap(), None);
    let seen = store.lease(run.id).await.unwrap().unwrap();
    assert_eq!((seen.owner.as_deref(), seen.fence), (Some("worker-1"), first));
    assert!(store.beat(run.id, first).await.unwrap());
    // The owner lives: what was seen is out of date.
    assert_eq!(store.steal(run.id, "worker-2", &seen).await.unwrap(), None);
    let seen = store.lease(run.id).await.unwrap().unwrap();
    let second = store.steal(run.id, "worker-2", &seen).await.unwrap().unwrap();
    assert!(second > first);
    assert!(!store.beat(run.id, first).await.unwrap());
    assert!(!store.release(run.id, first).await.unwrap());
    assert!(store.release(run.id, second).await.unwrap());
    assert!(!store.beat(run.id, second).await.unwrap());
    assert!(store.claim(run.id, "worker-3").await.unwrap().unwrap() > second);
    assert_eq!(store.claim(run_id(2), "worker-1").await.unwrap(), None);
    assert_eq!(store.lease(run_id(2)).await.unwrap(), None);
}

async fn steal(store: &Store, run: &NewRun) -> Fence {
    let seen = store.lease(run.id).await.unwrap().unwrap();
    store.steal(run.id, "thief", &seen).await.unwrap().unwrap()
}

async fn a_writer_that_lost_its_lease_changes_nothing(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    writer.append([Record::Event(RunEvent::Started { at: NOW })]);
    writer.commit().await.unwrap();
    steal(&store, &run).await;
    let log = Record::Log { path: None, level: LogLevel::Info, message: "late".into(), at: NOW };
    let cache = Record::Cache { key: "late".into(), output: Value::Null, expires_at: NOW.plus(Duration::from_secs(1)) };
    for records in [vec![intent(&run, "late").1], vec![log], vec![cache]] {
        let writer = store.writer(run.id, fence, 2, []);
        writer.append(records);
        assert!(matches!(writer.commit().await, Err(Error::LeaseLost { .. })));
        // It stays so.
        writer.append([Record::Event(RunEvent::Started { at: NOW })]);
        assert!(matches!(writer.commit().await, Err(Error::LeaseLost { .. })));
    }
    assert_eq!(store.journal(run.id).await.unwrap().len(), 1);
    assert!(store.effects(&EffectFilter::default()).await.unwrap().is_empty());
    assert!(store.logs(run.id).await.unwrap().is_empty());
    assert_eq!(store.cache_get("late", NOW).await.unwrap(), None);
}

async fn one_run_that_lost_its_lease_does_not_harm_the_others(ground: Ground) {
    let store = ground.open().await;
    let mut writers = Vec::new();
    for number in 1..=5 {
        let (run, fence) = claimed(&store, number).await;
        if number == 3 {
            steal(&store, &run).await;
        }
        writers.push((number, run.id, store.writer(run.id, fence, 1, [])));
    }
    for (_, _, writer) in &writers {
        writer.append([Record::Event(RunEvent::Started { at: NOW }), succeeded("a", Value::from(1))]);
    }
    for (number, run, writer) in &writers {
        let result = writer.commit().await;
        assert_eq!(result.is_ok(), *number != 3, "run {number}: {result:?}");
        let length = store.journal(*run).await.unwrap().len();
        assert_eq!(length, if *number == 3 { 0 } else { 2 });
    }
}

async fn a_journal_has_no_gap_and_no_event_twice(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    writer.append((0..7).map(|_| Record::Event(RunEvent::Started { at: NOW })));
    writer.commit().await.unwrap();
    for next_seq in [1, 2, 7, 9, 100] {
        let writer = store.writer(run.id, fence, next_seq, []);
        writer.append([Record::Event(RunEvent::Started { at: NOW })]);
        assert!(matches!(writer.commit().await, Err(Error::Gap { .. })), "{next_seq}");
    }
    assert_eq!(store.journal(run.id).await.unwrap().len(), 7);
}

async fn effects_follow_the_journal(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    let mut ids = Vec::new();
    for step in ["happened", "refused", "doubted", "settled", "dropped", "open"] {
        let (id, record) = intent(&run, step);
        ids.push(id);
        writer.append([record]);
    }
    writer.commit().await.unwrap();
    let all = store.effects(&EffectFilter { run: Some(run.id), ..EffectFilter::default() }).await.unwrap();
    assert!(all.len() == 6 && all.iter().all(|effect| effect.state == EffectState::Open));
    let failed = |step: &str, happened| {
        Record::Event(RunEvent::Failed {
            path: path(step),
            attempt: 1,
            started: NOW,
            at: NOW,
            error: failure(),
            happened,
            retry_at: None,
        })
    };
    let in_doubt = |index: usize, step: &str| {
        Record::Event(RunEvent::InDoubt { path: path(step), effect: ids[index].clone(), at: NOW, error: failure() })
    };
    writer.append([
        succeeded("happened", Value::from(1)),
        failed("refused", Happened::No),
        in_doubt(2, "doubted"),
        in_doubt(3, "settled"),
        in_doubt(4, "dropped"),
    ]);
    writer.commit().await.unwrap();
    // A later owner knows of the open ones only from the journal.
    let fence = steal(&store, &run).await;
    let open = [(path("settled"), ids[3].clone()), (path("dropped"), ids[4].clone()), (path("open"), ids[5].clone())];
    let writer = store.writer(run.id, fence, 12, open);
    let verdict = Verdict::Happened { output: Value::from(7), remote_id: Some("remote-7".into()) };
    writer.append([
        Record::Event(RunEvent::Settled {
            path: path("settled"),
            effect: ids[3].clone(),
            at: NOW,
            by: SettledBy::Reconcile,
            verdict: Box::new(verdict),
        }),
        Record::Event(RunEvent::Skipped { path: path("dropped"), at: NOW, reason: "in_doubt".into() }),
        // Sent again, and refused, in one go.
        intent(&run, "open").1,
        failed("open", Happened::No),
    ]);
    writer.commit().await.unwrap();
    let state = |id: &EffectId| {
        let (store, id) = (store.clone(), id.clone());
        async move { store.effect(&id).await.unwrap().unwrap() }
    };
    let expected = [
        EffectState::Confirmed,
        EffectState::Refused,
        EffectState::InDoubt,
        EffectState::Confirmed,
        EffectState::Dropped,
        EffectState::Refused,
    ];
    for (id, expected) in ids.iter().zip(expected) {
        let effect = state(id).await;
        assert_eq!(effect.state, expected, "{id}");
        assert_eq!(effect.request, Some(Value::map([("body", Value::from("buy"))])), "{id}");
        assert_eq!((&*effect.key, effect.kind, effect.run), ("order-7", WriteKind::Create, run.id));
    }
    let settled = state(&ids[3]).await;
    assert_eq!((settled.remote_id.as_deref(), settled.settled_by), (Some("remote-7"), Some(SettledBy::Reconcile)));
    assert_eq!(state(&ids[1]).await.error, Some(*failure()));
    let doubted = EffectFilter { states: vec![EffectState::InDoubt], ..EffectFilter::default() };
    assert_eq!(store.effects(&doubted).await.unwrap().len(), 1);
    let two = vec![EffectState::InDoubt, EffectState::Confirmed];
    let two = EffectFilter { states: two, limit: Some(2), ..EffectFilter::default() };
    assert_eq!(store.effects(&two).await.unwrap().len(), 2);
    assert_eq!(store.effect(&EffectId("no".into())).await.unwrap(), None);
}

async fn a_remote_object_settles_one_effect(ground: Ground) {
    let store = ground.open().await;
    let (one, two) = (EffectId("1".into()), EffectId("2".into()));
    let (holder, held) = claimed(&store, 7).await;
    assert!(store.claim_remote(holder.id, held, &one, "x", "7").await.unwrap());
    assert!(store.claim_remote(holder.id, held, &one, "x", "7").await.unwrap());
    assert!(!store.claim_remote(holder.id, held, &two, "x", "7").await.unwrap());
    assert!(store.claim_remote(holder.id, held, &two, "y", "7").await.unwrap());
    // Whoever has lost the run takes nothing for it any more.
    let lost = store.claim_remote(holder.id, Fence(held.0 - 1), &two, "w", "1").await;
    assert!(matches!(lost, Err(Error::LeaseLost { .. })), "{lost:?}");
    assert_eq!(store.remote_owner("w", "1").await.unwrap(), None);
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    let remote = |effect: &EffectId, id: &str| Record::Remote {
        effect: effect.clone(),
        scope: "x".into(),
        remote_id: id.into(),
    };
    writer.append([remote(&two, "7"), remote(&two, "8")]);
    writer.commit().await.unwrap();
    assert_eq!(store.remote_owner("x", "7").await.unwrap(), Some(one.clone()));
    assert_eq!(store.remote_owner("x", "8").await.unwrap(), Some(two));
    assert_eq!(store.remote_owner("x", "9").await.unwrap(), None);
    // Many at once: one wins.
    let claims = (0..20).map(|number| {
        let store = store.clone();
        let run = holder.id;
        tokio::spawn(async move {
            let effect = EffectId(format!("{number}").into());
            store.claim_remote(run, held, &effect, "z", "1").await.unwrap()
        })
    });
    let mut winners = 0;
    for claim in claims.collect::<Vec<_>>() {
        winners += usize::from(claim.await.unwrap());
    }
    assert_eq!(winners, 1);
}

async fn a_signal_wakes_a_sleeping_run_and_is_not_lost(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    let parked = || Record::Event(RunEvent::Parked { at: NOW, until: None, reason: "approval".into() });
    let state = || async { store.run(run.id).await.unwrap().unwrap().state };
    writer.append([parked()]);
    writer.commit().await.unwrap();
    assert_eq!(state().await, RunState::Waiting);
    let payload = Value::map([("verdict", Value::from("happened").tainted())]);
    assert!(store.inbox_put(run.id, "resolve", &payload, NOW).await.unwrap());
    assert!(store.inbox_put(run.id, "cancel", &Value::Null, NOW).await.unwrap());
    assert!(!store.inbox_put(run_id(2), "cancel", &Value::Null, NOW).await.unwrap());
    assert_eq!(state().await, RunState::Queued);
    let signals = store.inbox(run.id).await.unwrap();
    assert_eq!(signals.len(), 2);
    assert_eq!((signals[0].kind.as_str(), &signals[0].payload, signals[0].at), ("resolve", &payload, NOW));
    // One is taken; with the other there the run does not fall asleep.
    writer.append([Record::Taken { signals: vec![signals[0].number] }, parked()]);
    writer.commit().await.unwrap();
    assert_eq!(state().await, RunState::Queued);
    writer.append([Record::Taken { signals: vec![signals[1].number] }, parked()]);
    writer.commit().await.unwrap();
    assert_eq!(state().await, RunState::Waiting);
    assert!(store.inbox(run.id).await.unwrap().is_empty());
    let puts = (0..10).map(|_| {
        let store = store.clone();
        let run = run.id;
        tokio::spawn(async move { store.inbox_put(run, "ping", &Value::Null, NOW).await.unwrap() })
    });
    for put in puts.collect::<Vec<_>>() {
        assert!(put.await.unwrap());
    }
    let numbers: BTreeSet<i64> = store.inbox(run.id).await.unwrap().iter().map(|signal| signal.number).collect();
    assert_eq!(numbers.len(), 10);
    assert!(numbers.iter().all(|number| *number > signals[1].number));
}

fn asks(id: &str, step: &str, expires: Option<Timestamp>) -> Record {
    let lapse = expires.map(|at| Lapse { at, answer: Err(*failure()) });
    let request = Value::map([("show", Value::from("key-1").tainted())]);
    let ask = Ask { id: AskId(id.into()), kind: Ask::APPROVAL.into(), request, reason: "waits".into(), lapse };
    Record::Event(RunEvent::Asked { path: path(step), attempt: 1, at: NOW, ask: Box::new(ask) })
}

fn vote(person: &str, approves: bool, at: Timestamp) -> Vote {
    let form = Value::map([("pin", Value::from("1234").tainted())]);
    Vote { person: person.to_owned(), approves, comment: Some("well".to_owned()), form, at }
}

const ASK_1: &str = "01HF7YAT000000000000000001";
const ASK_2: &str = "01HF7YAT000000000000000002";

async fn an_approval_begins_with_its_event_and_ends_with_its_step(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    writer.append([asks(ASK_1, "review[1]", None), asks(ASK_2, "review[2]", Some(NOW))]);
    writer.commit().await.unwrap();
    let open = ApprovalFilter { open: true, ..ApprovalFilter::default() };
    assert_eq!(store.open_approvals().await.unwrap(), 2);
    let found = store.approvals(&open).await.unwrap();
    let of: Vec<_> = found.iter().map(|it| (&*it.id.0, it.path.to_string(), it.expires_at, it.run)).collect();
    assert_eq!(of, [(ASK_1, "review[1]".to_owned(), None, run.id), (ASK_2, "review[2]".to_owned(), Some(NOW), run.id)]);
    assert_eq!(found[0].ask.as_ref().unwrap().request.get("show"), Some(&Value::from("key-1").tainted()));
    let prefix = ApprovalFilter { id_prefix: Some(ASK_2.to_lowercase()), ..ApprovalFilter::default() };
    assert_eq!(store.approvals(&prefix).await.unwrap().len(), 1);
    // A worker that takes the run over knows of what its journal asks.
    assert!(store.release(run.id, fence).await.unwrap());
    let fence = store.claim(run.id, "worker-2").await.unwrap().unwrap();
    let writer = store.writer(run.id, fence, 3, []);
    writer.knows_asks(found.iter().map(|it| (it.path.clone(), it.id.clone())));
    writer.append([succeeded("review[1]", Value::Null)]);
    writer.commit().await.unwrap();
    assert_eq!(store.open_approvals().await.unwrap(), 1);
    // The whole step is canceled, with its items.
    writer.append([Record::Event(RunEvent::StepCanceled { path: path("review"), at: NOW })]);
    writer.commit().await.unwrap();
    let all = store.approvals(&ApprovalFilter { run: Some(run.id), ..ApprovalFilter::default() }).await.unwrap();
    assert!(all.iter().all(|it| it.state == ApprovalState::Canceled && it.ended_at == Some(NOW)), "{all:?}");
}

async fn a_vote_that_decides_wakes_the_run_and_those_above_it(ground: Ground) {
    let store = ground.open().await;
    let parked = || Record::Event(RunEvent::Parked { at: NOW, until: None, reason: "approval".into() });
    let (top, fence) = claimed(&store, 1).await;
    let writer = store.writer(top.id, fence, 1, []);
    writer.append([parked()]);
    writer.commit().await.unwrap();
    let middle = NewRun { parent: Some((top.id, path("call"))), ..new_run(run_id(2)) };
    let child = NewRun { parent: Some((middle.id, path("call"))), ..new_run(run_id(3)) };
    for run in [&middle, &child] {
        assert!(store.create_run(run).await.unwrap());
    }
    let fence = store.claim(child.id, "worker").await.unwrap().unwrap();
    let writer = store.writer(child.id, fence, 1, []);
    writer.append([asks(ASK_1, "review", None), parked()]);
    writer.commit().await.unwrap();
    let record = store.approval(&AskId(ASK_1.into())).await.unwrap().unwrap();
    // One that does not decide wakes nobody.
    assert!(store.vote(&record, &vote("anna", true, NOW), None).await.unwrap());
    assert!(store.inbox(child.id).await.unwrap().is_empty());
    let record = store.approval(&record.id).await.unwrap().unwrap();
    let answer = Ask::answered(&record.id, &Ok(Value::from("yes")));
    let decision = Some((ApprovalState::Approved, &answer));
    assert!(store.vote(&record, &vote("bob", true, NOW), decision).await.unwrap());
    let inbox = store.inbox(child.id).await.unwrap();
    assert_eq!((inbox.len(), inbox[0].kind.as_str(), &inbox[0].payload), (1, Ask::ANSWERED, &answer));
    for (run, child) in [(top.id, middle.id), (middle.id, child.id)] {
        let inbox = store.inbox(run).await.unwrap();
        assert_eq!(inbox.len(), 1);
        assert_eq!(inbox[0].payload.to_string(), format!("{{\"run\":\"{child}\"}}"));
        assert_eq!(store.run(run).await.unwrap().unwrap().state, RunState::Queued);
    }
    let votes = store.votes(&record.id).await.unwrap();
    assert_eq!(votes, [vote("anna", true, NOW), vote("bob", true, NOW)]);
    let record = store.approval(&record.id).await.unwrap().unwrap();
    assert_eq!((record.state, record.ended_at), (ApprovalState::Approved, Some(NOW)));
    assert!(!store.vote(&record, &vote("cleo", false, NOW), None).await.unwrap(), "it is decided");
}

async fn a_vote_counts_only_on_what_was_read(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    writer.append([asks(ASK_1, "review", Some(NOW.plus(Duration::from_secs(1))))]);
    writer.commit().await.unwrap();
    let seen = store.approval(&AskId(ASK_1.into())).await.unwrap().unwrap();
    let answer = Ask::answered(&seen.id, &Ok(Value::Null));
    let decision = Some((ApprovalState::Approved, &answer));
    assert!(store.vote(&seen, &vote("anna", false, NOW), None).await.unwrap());
    assert!(!store.vote(&seen, &vote("bob", true, NOW), decision).await.unwrap(), "anna was not seen");
    assert!(store.inbox(run.id).await.unwrap().is_empty());
    assert_eq!(store.votes(&seen.id).await.unwrap().len(), 1);
    let seen = store.approval(&seen.id).await.unwrap().unwrap();
    let late = NOW.plus(Duration::from_secs(1));
    assert!(!store.vote(&seen, &vote("bob", true, late), decision).await.unwrap(), "it is too late");
    assert!(store.vote(&seen, &vote("anna", true, NOW), decision).await.unwrap());
    assert_eq!(store.votes(&seen.id).await.unwrap(), [vote("anna", true, NOW)], "her last word counts");
}

async fn of_a_vote_and_the_expiry_one_wins(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let expires = NOW.plus(Duration::from_secs(1));
    for round in 0..20 {
        let id = format!("01HF7YAT0000000000000001{round:02}");
        let writer = store.writer(run.id, fence, round + 1, []);
        writer.append([asks(&id, "review", Some(expires))]);
        writer.commit().await.unwrap();
        let seen = store.approval(&AskId(id.as_str().into())).await.unwrap().unwrap();
        let answer = Ask::answered(&seen.id, &Ok(Value::Null));
        let signals = store.inbox(run.id).await.unwrap().len();
        let (cast, ask) = (vote("anna", true, NOW), seen.ask.clone().unwrap());
        let (voted, lapsed) = tokio::join!(
            store.vote(&seen, &cast, Some((ApprovalState::Approved, &answer))),
            store.lapse(&ask, run.id, fence),
        );
        let (voted, lapsed) = (voted.unwrap(), lapsed.unwrap());
        assert_eq!(lapsed, if voted { Lapsed::Answered } else { Lapsed::Yes }, "round {round}");
        assert_eq!(store.inbox(run.id).await.unwrap().len() - signals, usize::from(voted));
        // Asked again, after a crash say, it is the same.
        assert_eq!(store.lapse(&ask, run.id, fence).await.unwrap(), lapsed);
        let state = store.approval(&seen.id).await.unwrap().unwrap().state;
        assert_eq!(state, if voted { ApprovalState::Approved } else { ApprovalState::Expired });
    }
    // A worker that lost the run ends nothing.
    let writer = store.writer(run.id, fence, 21, []);
    writer.append([asks(ASK_1, "review", Some(expires))]);
    writer.commit().await.unwrap();
    let ask = store.approval(&AskId(ASK_1.into())).await.unwrap().unwrap().ask.unwrap();
    assert_eq!(store.lapse(&ask, run.id, Fence(fence.0 - 1)).await.unwrap(), Lapsed::Answered);
    assert_eq!(store.open_approvals().await.unwrap(), 1);
}

async fn signals_to_a_family_from_many_sides_all_arrive(ground: Ground) {
    let store = ground.open().await;
    let top = new_run(run_id(5));
    // Some ids are before their parent's, some behind.
    let children: Vec<_> = (1..9)
        .map(|number| NewRun {
            parent: Some((top.id, path("call"))),
            ..new_run(run_id(number + u128::from(number > 4)))
        })
        .collect();
    for run in std::iter::once(&top).chain(&children) {
        assert!(store.create_run(run).await.unwrap());
    }
    let sends = (0..80).map(|number: usize| {
        let (store, run) = (store.clone(), children[number % children.len()].id);
        tokio::spawn(async move { store.inbox_send(run, "ping", &Value::Null, NOW).await })
    });
    for send in sends.collect::<Vec<_>>() {
        assert!(send.await.unwrap().unwrap());
    }
    assert_eq!(store.inbox(top.id).await.unwrap().len(), 80);
    for child in &children {
        assert_eq!(store.inbox(child.id).await.unwrap().len(), 10);
    }
}

async fn the_cache_forgets_what_has_expired(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    let later = NOW.plus(Duration::from_secs(60));
    let put = |key: &str, output: Value| Record::Cache { key: key.into(), output, expires_at: later };
    writer.append([put("a", Value::from(1)), put("b", Value::from(2)), put("a", every_kind())]);
    writer.commit().await.unwrap();
    writer.append([put("b", Value::from(3))]);
    writer.commit().await.unwrap();
    assert_eq!(store.cache_get("a", NOW).await.unwrap(), Some(every_kind()));
    assert_eq!(store.cache_get("b", NOW).await.unwrap(), Some(Value::from(3)));
    assert_eq!(store.cache_get("b", later).await.unwrap(), None);
    assert_eq!(store.cache_prune(NOW, 10).await.unwrap(), 0);
    assert_eq!(store.cache_prune(later, 10).await.unwrap(), 2);
    assert_eq!(store.cache_get("a", NOW).await.unwrap(), None);
}

async fn log_lines_keep_their_order_over_owners(ground: Ground) {
    let store = ground.open().await;
    let (run, first) = claimed(&store, 1).await;
    let line = |message: String| Record::Log { path: Some(path("a[1]")), level: LogLevel::Warn, message, at: NOW };
    let writer = store.writer(run.id, first, 1, []);
    writer.append((0..1000).map(|number| line(number.to_string())));
    writer.commit().await.unwrap();
    let second = steal(&store, &run).await;
    let writer = store.writer(run.id, second, 1, []);
    writer.append((1000..1010).map(|number| line(number.to_string())));
    writer.commit().await.unwrap();
    let lines = store.logs(run.id).await.unwrap();
    assert_eq!(lines.len(), 1010);
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(line.message, number.to_string());
    }
    assert_eq!((lines[0].level, lines[0].path.clone(), lines[0].at), (LogLevel::Warn, Some(path("a[1]")), NOW));
}

async fn large_outputs_become_blobs(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    let large = Value::map([("text", Value::from("x".repeat(200_000)))]);
    writer.append([succeeded("a", large.clone()), succeeded("b", large.clone()), succeeded("c", Value::from(1))]);
    writer.append([Record::Event(RunEvent::Finished {
        at: NOW,
        state: RunState::Succeeded,
        outputs: large.clone(),
        error: None,
    })]);
    writer.commit().await.unwrap();
    let files = walk(&ground.folder.join("blobs"));
    // The same content is kept once.
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(std::fs::metadata(&files[0]).unwrap().len() > 200_000);
    store.close().await.unwrap();
    let store = ground.open().await;
    let events = store.journal(run.id).await.unwrap();
    assert!(matches!(&events[1], RunEvent::Succeeded { output, .. } if *output == large));
    assert_eq!(store.run(run.id).await.unwrap().unwrap().outputs, large);
    std::fs::write(&files[0], "damaged").unwrap();
    assert!(matches!(store.journal(run.id).await, Err(Error::Damaged { .. })));
    std::fs::remove_file(&files[0]).unwrap();
    assert!(matches!(store.journal(run.id).await, Err(Error::NoBlob { .. })));
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() { files.extend(walk(&entry.path())) } else { files.push(entry.path()) }
    }
    files
}

async fn without_a_folder_large_outputs_are_kept_all_the_same(ground: Ground) {
    let options = OpenOptions { blobs: None, ..ground.options() };
    let store = Store::open(&ground.url, options.clone()).await.unwrap();
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    let large = Value::map([("text", Value::from("x".repeat(3_000_000)))]);
    writer.append([succeeded("a", large.clone())]);
    writer.commit().await.unwrap();
    store.close().await.unwrap();
    let store = Store::open(&ground.url, options).await.unwrap();
    let events = store.journal(run.id).await.unwrap();
    assert!(matches!(&events[0], RunEvent::Succeeded { output, .. } if *output == large));
}

async fn blobs_come_back_by_address(ground: Ground) {
    let store = ground.open().await;
    let bytes = b"a file\0with zeros".to_vec();
    let blob = store.put_blob(bytes.clone(), Some("text/plain"), Some("a b.txt")).await.unwrap();
    assert_eq!((blob.size, blob.media_type.as_deref()), (17, Some("text/plain")));
    let again = store.put_blob(bytes.clone(), None, None).await.unwrap();
    assert_eq!(again.address, blob.address);
    assert_eq!(store.get_blob(&blob.address).await.unwrap(), bytes);
    for address in ["sha256:../../etc/passwd", "sha256:", "nonsense", &format!("sha256:{}", "0".repeat(64))] {
        assert!(matches!(store.get_blob(address).await, Err(Error::NoBlob { .. })), "{address}");
    }
}

async fn a_page_of_a_dataset_is_appended_once(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let id = format!("{}/rows", run.id);
    store.create_dataset(run.id, fence, &id, "rows").await.unwrap();
    store.create_dataset(run.id, fence, &id, "rows").await.unwrap();
    let page = |from: i64, count: i64| (from..from + count).map(Value::from).collect::<Vec<_>>();
    let append =
        async |at: u64, rows: Vec<Value>, cursor| store.append_rows(run.id, fence, &id, at, &rows, cursor).await;
    assert_eq!(append(0, page(0, 10), Some("c1")).await.unwrap().rows, 10);
    assert_eq!(append(0, page(0, 10), Some("c1")).await.unwrap().rows, 10);
    assert!(append(11, page(0, 10), Some("c1")).await.is_err());
    assert_eq!(append(10, page(10, 5), Some("c2")).await.unwrap().rows, 15);
    assert_eq!(store.dataset(&id).await.unwrap().unwrap().cursor.as_deref(), Some("c2"));
    let last = vec![every_kind(), Value::from("x\ny")];
    assert_eq!(append(15, last.clone(), None).await.unwrap().rows, 17);
    assert_eq!(append(17, Vec::new(), None).await.unwrap().rows, 17);
    let record = store.dataset(&id).await.unwrap().unwrap();
    assert_eq!((record.complete, record.cursor, record.run), (true, None, run.id));
    assert_eq!(store.rows(&id, 8, 4).await.unwrap(), page(8, 4));
    assert_eq!(store.rows(&id, 15, 100).await.unwrap(), last);
    assert!(store.rows(&id, 17, 100).await.unwrap().is_empty());
    assert!(store.rows("none", 0, 100).await.unwrap().is_empty());
    // Whoever begins anew finds nothing of the rows before.
    store.clear_dataset(run.id, fence, &id).await.unwrap();
    assert!(store.rows(&id, 0, 100).await.unwrap().is_empty());
    assert!(!store.dataset(&id).await.unwrap().unwrap().complete);
    assert_eq!(append(0, page(0, 17), None).await.unwrap().rows, 17);
    steal(&store, &run).await;
    assert!(matches!(append(17, page(0, 1), None).await, Err(Error::LeaseLost { .. })));
    assert!(matches!(store.create_dataset(run.id, fence, "x", "x").await, Err(Error::LeaseLost { .. })));
    assert!(matches!(store.clear_dataset(run.id, fence, &id).await, Err(Error::LeaseLost { .. })));
    assert_eq!(store.dataset(&id).await.unwrap().unwrap().dataset.rows, 17);
}

async fn a_secret_is_never_stored_in_clear(ground: Ground) {
    let needle = "plain-needle-4711";
    let store = ground.open().await;
    let secret = Value::map([("token", Value::from(needle).tainted()), ("open", Value::from("visible-text"))]);
    let run = NewRun { inputs: secret.clone(), ..new_run(run_id(1)) };
    store.create_run(&run).await.unwrap();
    let fence = store.claim(run.id, "w").await.unwrap().unwrap();
    let writer = store.writer(run.id, fence, 1, []);
    let (id, record) = intent(&run, "a");
    let Record::Event(RunEvent::Intent { intent: mut sealed, at, .. }) = record else { panic!("an intent") };
    sealed.request = secret.clone();
    writer.append([
        Record::Event(RunEvent::Intent { path: path("a"), attempt: 1, intent: sealed, at }),
        succeeded("a", secret.clone()),
        succeeded("b", Value::list(vec![Value::from(format!("{needle}{}", "x".repeat(100_000))).tainted()])),
        Record::Cache { key: "k".into(), output: secret.clone(), expires_at: NOW.plus(Duration::from_secs(9)) },
        Record::Event(RunEvent::Finished { at, state: RunState::Succeeded, outputs: secret.clone(), error: None }),
    ]);
    writer.commit().await.unwrap();
    store.inbox_put(run.id, "resolve", &secret, NOW).await.unwrap();
    store.create_dataset(run.id, fence, "d", "d").await.unwrap();
    store.append_rows(run.id, fence, "d", 0, std::slice::from_ref(&secret), None).await.unwrap();
    store.put_secret("TOKEN", &store.seal(needle).unwrap()).await.unwrap();
    assert_eq!(store.effect(&id).await.unwrap().unwrap().request, Some(secret.clone()));
    assert_eq!(store.unseal(&store.secret("TOKEN").await.unwrap().unwrap()).unwrap(), needle);
    let stored = everything(&ground, &store).await;
    assert!(contains(&stored, b"visible-text"), "the search itself must find something");
    assert!(!contains(&stored, needle.as_bytes()));
}

/// Returns every byte that the store keeps.
async fn everything(ground: &Ground, store: &Store) -> Vec<u8> {
    let mut stored = Vec::new();
    for file in walk(&ground.folder) {
        stored.extend(std::fs::read(file).unwrap());
    }
    if ground.url.starts_with("postgres") {
        let mut connection = sqlx::PgConnection::connect(&ground.url).await.unwrap();
        for table in ["runs", "journal", "effects", "cache", "inbox", "dataset_pages", "secrets"] {
            let sql = AssertSqlSafe(format!("SELECT t::TEXT FROM {table} t"));
            let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
            assert!(!rows.is_empty(), "{table}");
            stored.extend(rows.concat().into_bytes());
        }
    }
    store.close().await.unwrap();
    stored
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

async fn without_a_master_key_a_secret_is_an_error(ground: Ground) {
    let options = OpenOptions { sealer: None, ..ground.options() };
    let store = Store::open(&ground.url, options).await.unwrap();
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    writer.append([succeeded("a", Value::from("x").tainted())]);
    assert!(matches!(writer.commit().await, Err(Error::NoMasterKey)));
    let secret = NewRun { inputs: Value::from("x").tainted(), ..new_run(run_id(2)) };
    assert!(matches!(store.create_run(&secret).await, Err(Error::NoMasterKey)));
    assert!(ground.open().await.create_run(&secret).await.unwrap());
    assert!(matches!(store.run(secret.id).await, Err(Error::NoMasterKey)));
    assert!(store.journal(run.id).await.unwrap().is_empty());
}

async fn many_runs_write_at_once_from_two_stores(ground: Ground) {
    const RUNS: u128 = 20;
    const EVENTS: usize = 50;
    let stores = [ground.open().await, ground.open().await];
    let tasks = (0..RUNS).map(|number| {
        let store = stores[usize::try_from(number % 2).unwrap()].clone();
        tokio::spawn(async move {
            let (run, fence) = claimed(&store, number).await;
            let writer = store.writer(run.id, fence, 1, []);
            for event in 0..EVENTS {
                writer.append([succeeded(&format!("s{event}"), Value::from(number.to_string()))]);
                if event % 7 == 0 {
                    writer.commit().await.unwrap();
                }
            }
            writer.commit().await.unwrap();
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    for number in 0..RUNS {
        let events = stores[0].journal(run_id(number)).await.unwrap();
        let steps: Vec<String> = events.iter().map(|event| event.path().unwrap().to_string()).collect();
        let expected: Vec<String> = (0..EVENTS).map(|event| format!("s{event}")).collect();
        assert_eq!(steps, expected);
    }
}

async fn records_are_written_behind_without_a_commit(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    let mut events = writer.events();
    writer.append([Record::Event(RunEvent::Started { at: NOW })]);
    // Nobody commits: the event comes by itself.
    let (seq, _) = events.recv().await.unwrap();
    assert_eq!((seq, store.journal(run.id).await.unwrap().len()), (1, 1));
    // What was appended before the end is written, too, when all handles are gone.
    writer.append([Record::Event(RunEvent::Started { at: NOW })]);
    store.close().await.unwrap();
    drop(writer);
    assert_eq!(ground.open().await.journal(run.id).await.unwrap().len(), 2);
}

async fn subscribers_hear_of_committed_events_only(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    let mut events = writer.events();
    for step in ["a", "b", "c"] {
        writer.append([succeeded(step, Value::from(1))]);
    }
    writer.commit().await.unwrap();
    steal(&store, &run).await;
    writer.append([succeeded("d", Value::from(1))]);
    assert!(writer.commit().await.is_err());
    let mut heard = Vec::new();
    while let Some((seq, event)) = events.recv().await {
        heard.push(format!("{seq}{}", event.path().unwrap()));
    }
    assert_eq!(heard, ["1a", "2b", "3c"]);
}

async fn a_fast_producer_is_held_back(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    let output = Value::from("x".repeat(10_000));
    for number in 0..4_000 {
        writer.append([succeeded(&format!("s{number}"), output.clone())]);
        writer.room().await;
    }
    writer.commit().await.unwrap();
    writer.room().await;
    assert_eq!(store.journal(run.id).await.unwrap().len(), 4_000);
}

async fn a_newer_or_altered_schema_is_refused(ground: Ground) {
    ground.open().await.close().await.unwrap();
    alter(&ground, "UPDATE pipewright_migrations SET checksum = 'x' WHERE number = 1").await;
    let altered = Store::open(&ground.url, ground.options()).await;
    assert!(matches!(altered, Err(Error::Altered { number: 1, .. })), "{altered:?}");
    alter(&ground, "INSERT INTO pipewright_migrations (number, checksum) VALUES (9999, 'x')").await;
    let newer = Store::open(&ground.url, ground.options()).await;
    assert!(matches!(newer, Err(Error::Newer { found: 9999, .. })), "{newer:?}");
    assert!(newer.unwrap_err().to_string().contains("use a newer Pipewright"));
}

async fn alter(ground: &Ground, sql: &'static str) {
    if ground.url.starts_with("postgres") {
        sqlx::PgConnection::connect(&ground.url).await.unwrap().execute(sql).await.unwrap();
    } else {
        sqlx::SqliteConnection::connect(&ground.url).await.unwrap().execute(sql).await.unwrap();
    }
}

async fn two_processes_may_make_the_store_at_once(ground: Ground) {
    let opens = (0..6).map(|_| {
        let ground = ground.clone();
        tokio::spawn(async move { ground.open().await.runs(&RunFilter::default()).await.unwrap().len() })
    });
    for open in opens.collect::<Vec<_>>() {
        assert_eq!(open.await.unwrap(), 0);
    }
}

async fn a_closed_store_says_so(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    store.close().await.unwrap();
    writer.append([Record::Event(RunEvent::Started { at: Timestamp(0) })]);
    assert!(matches!(writer.commit().await, Err(Error::Closed)));
    assert!(matches!(store.run(run.id).await, Err(Error::Closed)));
    assert!(matches!(store.create_run(&run).await, Err(Error::Closed)));
    store.close().await.unwrap();
}

async fn texts_with_zeros_do_no_harm(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    writer.append([
        Record::Log { path: None, level: LogLevel::Info, message: "a\0b".into(), at: NOW },
        succeeded("a", Value::from("a\0b")),
    ]);
    writer.commit().await.unwrap();
    assert_eq!(store.logs(run.id).await.unwrap().len(), 1);
    let events = store.journal(run.id).await.unwrap();
    assert!(matches!(&events[0], RunEvent::Succeeded { output, .. } if *output == Value::from("a\0b")));
}

fn asking(number: u128, requests: &[(&str, u32, WhenFull)]) -> NewRun {
    let requests = requests.iter().map(|(scope, most, when_full)| Request {
        scope: (*scope).into(),
        most: *most,
        when_full: *when_full,
    });
    NewRun { requests: requests.collect(), ..new_run(run_id(number)) }
}

async fn let_in(store: &Store) -> Vec<RunId> {
    let claimed = store.claim_due("w", NOW, 10).await.unwrap();
    claimed.into_iter().map(|claimed| claimed.run.id).collect()
}

async fn permits_are_given_to_those_who_wait_and_end_with_their_run(ground: Ground) {
    let store = ground.open().await;
    for number in 1..=3 {
        assert!(store.create_run(&asking(number, &[("lock:a", 1, WhenFull::Queue)])).await.unwrap());
    }
    assert!(!store.create_run(&asking(3, &[("lock:a", 1, WhenFull::Queue)])).await.unwrap());
    assert_eq!(let_in(&store).await, [], "nobody may be taken before he is let in");
    assert!(store.admit(None, NOW).await.unwrap());
    assert!(!store.admit(None, NOW).await.unwrap());
    assert_eq!(let_in(&store).await, [run_id(1)]);
    let line: Vec<_> = store.line_for("lock:a").await.unwrap().into_iter().map(|waiting| waiting.run).collect();
    assert_eq!(line, [run_id(2), run_id(3)]);

    let writer = store.writer(run_id(1), Fence(1), 1, []);
    writer.holds_permits();
    let ended = RunEvent::Finished { at: NOW, state: RunState::Succeeded, outputs: Value::Null, error: None };
    writer.append([Record::Event(ended)]);
    writer.commit().await.unwrap();
    assert_eq!(store.holders("lock:a").await.unwrap(), []);
    assert!(store.admit(Some(&["lock:a".into()]), NOW).await.unwrap());
    assert_eq!(let_in(&store).await, [run_id(2)]);

    // One that ended without giving anything back: its process died at the wrong moment.
    let ended = RunEvent::Finished { at: NOW, state: RunState::Failed, outputs: Value::Null, error: None };
    let writer = store.writer(run_id(2), Fence(1), 1, []);
    writer.append([Record::Event(ended)]);
    writer.commit().await.unwrap();
    assert!(!store.admit(None, NOW).await.unwrap());
    assert_eq!(store.sweep_permits().await.unwrap(), 1);
    assert!(store.admit(None, NOW).await.unwrap());
    assert_eq!(let_in(&store).await, [run_id(3)]);
}

async fn whoever_does_not_wait_is_canceled_and_who_is_replaced_too(ground: Ground) {
    let store = ground.open().await;
    for number in 1..=2 {
        store.create_run(&asking(number, &[("run:demo", 1, WhenFull::Skip)])).await.unwrap();
        store.admit(None, NOW).await.unwrap();
    }
    // The second can be taken, to be canceled.
    assert_eq!(let_in(&store).await, [run_id(1), run_id(2)]);
    assert_eq!(store.inbox(run_id(1)).await.unwrap(), []);
    let signals = store.inbox(run_id(2)).await.unwrap();
    assert_eq!((signals.len(), signals[0].kind.as_str()), (1, "cancel"));
    let reason = signals[0].payload.get("reason").unwrap().to_string();
    assert!(reason.contains("`concurrency` of `demo` is full"), "{reason}");

    store.create_run(&asking(3, &[("run:demo", 1, WhenFull::Replace)])).await.unwrap();
    store.create_run(&asking(4, &[("run:demo", 1, WhenFull::Replace)])).await.unwrap();
    store.admit(None, NOW).await.unwrap();
    // The one that runs is told once, the one that waited is not to begin, the newest waits for its end.
    store.admit(None, NOW).await.unwrap();
    assert_eq!(store.inbox(run_id(1)).await.unwrap().len(), 2, "each of the two has asked it to go");
    assert_eq!(store.inbox(run_id(3)).await.unwrap().len(), 1);
    assert_eq!(store.inbox(run_id(4)).await.unwrap(), []);
    assert_eq!(store.requests_of(run_id(4)).await.unwrap().len(), 1);
    assert_eq!(let_in(&store).await, [run_id(3)]);
}

async fn permits_of_steps_are_for_the_owner_of_the_fence(ground: Ground) {
    let store = ground.open().await;
    let lock = [Request { scope: "lock:x".into(), most: 1, when_full: WhenFull::Queue }];
    for number in 1..=2 {
        store.create_run(&new_run(run_id(number))).await.unwrap();
    }
    let first = store.claim(run_id(1), "w").await.unwrap().unwrap();
    let second = store.claim(run_id(2), "w").await.unwrap().unwrap();
    let step = path("write[3]");
    store.request(run_id(1), first, Some(&step), &lock).await.unwrap();
    store.request(run_id(1), first, Some(&step), &lock).await.unwrap();
    assert!(store.admit(Some(&["lock:x".into()]), NOW).await.unwrap());
    // What is held is not asked for once more.
    store.request(run_id(1), first, Some(&step), &lock).await.unwrap();
    assert_eq!(store.requests_of(run_id(1)).await.unwrap(), []);
    assert_eq!(store.permits_of(run_id(1)).await.unwrap()[0].path, Some(step.clone()));
    let signals = store.inbox(run_id(1)).await.unwrap();
    assert_eq!((signals.len(), signals[0].kind.as_str()), (1, "permitted"));

    store.request(run_id(2), second, Some(&path("write")), &lock).await.unwrap();
    assert!(!store.admit(None, NOW).await.unwrap());
    // Who has lost the run can neither give back nor ask.
    store.give_back(run_id(1), Fence(first.0 - 1), &step).await.unwrap();
    store.request(run_id(1), Fence(first.0 - 1), Some(&path("other")), &lock).await.unwrap();
    assert_eq!(store.line_for("lock:x").await.unwrap().len(), 1);
    assert!(!store.admit(None, NOW).await.unwrap());
    store.give_back(run_id(1), first, &step).await.unwrap();
    assert!(store.admit(None, NOW).await.unwrap());
    assert_eq!(store.holders("lock:x").await.unwrap()[0].run, run_id(2));
}

async fn parented(store: &Store, number: u128, spread: bool) -> (NewRun, Fence, NewRun) {
    let (parent, fence) = claimed(store, number).await;
    let parent_path = Some((parent.id, path("call")));
    let child = NewRun { parent: parent_path, spread, ..new_run(run_id(number + 1)) };
    store.create_child(&child, parent.id, fence).await.unwrap();
    (parent, fence, child)
}

async fn finish(store: &Store, run: RunId, fence: Fence, next_seq: u64) {
    let writer = store.writer(run, fence, next_seq, []);
    let (state, outputs) = (RunState::Succeeded, Value::Null);
    writer.append([Record::Event(RunEvent::Finished { at: NOW, state, outputs, error: None })]);
    writer.commit().await.unwrap();
}

async fn a_run_that_is_put_back_is_in_the_queue(ground: Ground) {
    let store = ground.open().await;
    let (run, fence) = claimed(&store, 1).await;
    let writer = store.writer(run.id, fence, 1, []);
    writer.append([Record::Event(RunEvent::Started { at: NOW })]);
    writer.commit().await.unwrap();
    assert!(!store.release_to_queue(run.id, Fence(fence.0 - 1)).await.unwrap());
    assert!(store.release_to_queue(run.id, fence).await.unwrap());
    let record = store.run(run.id).await.unwrap().unwrap();
    assert!(record.state == RunState::Queued && !record.owned, "{record:?}");
    assert_eq!(store.claim_due("w", NOW, 5).await.unwrap().len(), 1);
}

async fn a_child_run_is_made_by_the_holder_of_its_parent_only(ground: Ground) {
    let store = ground.open().await;
    let (parent, fence, child) = parented(&store, 1, true).await;
    // Repeating is harmless.
    store.create_child(&child, parent.id, fence).await.unwrap();
    assert!(store.run(child.id).await.unwrap().unwrap().is_spread());
    let seen = store.lease(parent.id).await.unwrap().unwrap();
    let stolen = store.steal(parent.id, "other", &seen).await.unwrap().unwrap();
    let late = NewRun { id: run_id(5), ..child.clone() };
    let refused = store.create_child(&late, parent.id, fence).await;
    assert!(matches!(refused, Err(Error::LeaseLost { .. })), "{refused:?}");
    assert_eq!(store.run(late.id).await.unwrap(), None);
    store.create_child(&late, parent.id, stolen).await.unwrap();
    // Nor does it cancel what the new owner goes on with.
    let cancel = ("cancel", &Value::Null);
    let refused = store.tell_child(child.id, parent.id, fence, cancel, NOW).await;
    assert!(matches!(refused, Err(Error::LeaseLost { .. })), "{refused:?}");
    assert!(store.inbox(child.id).await.unwrap().is_empty());
    assert!(store.tell_child(child.id, parent.id, stolen, cancel, NOW).await.unwrap());
    assert_eq!(store.inbox(child.id).await.unwrap().len(), 1);
    assert!(!store.tell_child(run_id(77), parent.id, stolen, cancel, NOW).await.unwrap());
}

async fn a_parent_is_told_of_every_end_of_a_spread_child_even_when_its_worker_dies(ground: Ground) {
    let store = ground.open().await;
    let (parent, _, child) = parented(&store, 1, true).await;
    assert_eq!(store.tell_parents(NOW).await.unwrap(), 0, "it has not ended");
    let fence = store.claim(child.id, "dies").await.unwrap().unwrap();
    finish(&store, child.id, fence, 1).await;
    // Its worker is gone; anybody tells.
    assert_eq!(store.tell_parents(NOW).await.unwrap(), 1);
    assert_eq!(store.inbox(parent.id).await.unwrap().len(), 1);
    assert_eq!(store.tell_parents(NOW).await.unwrap(), 0, "once is enough");
    // It is tried again, and ends again.
    let fence = store.claim(child.id, "again").await.unwrap().unwrap();
    let writer = store.writer(child.id, fence, 2, []);
    writer.append([Record::Event(RunEvent::Retried { at: NOW, from: None })]);
    writer.commit().await.unwrap();
    assert_eq!(store.tell_parents(NOW).await.unwrap(), 0);
    finish(&store, child.id, fence, 3).await;
    assert_eq!(store.tell_parents(NOW).await.unwrap(), 1);
    // Those that their parents execute are none of this.
    let (_, _, own) = parented(&store, 11, false).await;
    let fence = store.claim(own.id, "w").await.unwrap().unwrap();
    finish(&store, own.id, fence, 1).await;
    assert_eq!(store.tell_parents(NOW).await.unwrap(), 0);
}

async fn daemons_join_show_up_and_leave(ground: Ground) {
    let (store, other) = (ground.open().await, ground.open().await);
    let presence = |id: &str, roles: &[&str]| Presence {
        id: id.to_owned(),
        host: "there".to_owned(),
        pid: 7,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        version: "1".to_owned(),
    };
    store.join_workers(&presence("worker-1", &["scheduler", "worker"])).await.unwrap();
    other.join_workers(&presence("worker-2", &["worker"])).await.unwrap();
    claimed(&store, 1).await;
    let listed = other.workers().await.unwrap();
    let ids: Vec<_> = listed.iter().map(|worker| (worker.presence.id.as_str(), worker.holds)).collect();
    assert_eq!(ids, [("worker-1", 1), ("worker-2", 0)]);
    assert!(listed[1].has_role("worker") && !listed[1].has_role("scheduler"));
    assert!(listed[0].silent < Duration::from_secs(60) && listed[0].started_at.micros() > 1_600_000_000_000_000);
    assert!(store.show_up("worker-1").await.unwrap());
    let beat = other.workers().await.unwrap()[0].beat;
    assert!(beat > listed[0].beat);
    assert!(!other.forget_worker("worker-1", listed[0].beat).await.unwrap(), "it has beaten meanwhile");
    assert!(other.forget_worker("worker-1", beat).await.unwrap());
    assert!(!store.show_up("worker-1").await.unwrap(), "it is told, and joins again");
    other.leave_workers("worker-2").await.unwrap();
    assert!(store.workers().await.unwrap().is_empty());
}

async fn an_announcement_reaches_the_other_processes_of_this_store_only(ground: Ground) {
    let (store, other) = (ground.open().await, ground.open().await);
    let mut own = store.notices();
    store.announce();
    assert!(own.has_changed().unwrap(), "this process hears it at once");
    own.mark_unchanged();
    if !store.is_shared() {
        return;
    }
    let mut heard = other.notices();
    let listening = tokio::spawn({
        let other = other.clone();
        async move { other.listen().await }
    });
    let soon = std::time::Duration::from_secs(20);
    tokio::time::timeout(soon, heard.changed()).await.expect("it rings when it begins to listen").unwrap();
    heard.mark_unchanged();
    for number in 0..50 {
        store.create_run(&new_run(run_id(number))).await.unwrap();
    }
    store.announced().await;
    tokio::time::timeout(soon, heard.changed()).await.expect("it hears of new runs").unwrap();
    // A cut connection is made again, and then it is looked once more.
    let mut connection = sqlx::PgConnection::connect(&ground.url).await.unwrap();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT CAST(current_schema()%' \
               AND pid <> pg_backend_pid()";
    heard.mark_unchanged();
    connection.execute(cut).await.unwrap();
    tokio::time::timeout(soon, heard.changed()).await.expect("it listens again").unwrap();
    heard.mark_unchanged();
    store.inbox_put(run_id(1), "cancel", &Value::Null, NOW).await.unwrap();
    tokio::time::timeout(soon, heard.changed()).await.expect("it hears of signals").unwrap();
    listening.abort();
}

fn firing(run: NewRun, mark: &str) -> NewFiring {
    let run = NewRun { slot: Some(format!("t@{mark}")), ..run };
    NewFiring { trigger: "t".to_owned(), mark: mark.to_owned(), run, not_before: None, file: None }
}

async fn what_has_fired_is_remembered_and_what_has_not_is_found(ground: Ground) {
    let store = ground.open().await;
    let later = |seconds: i64| Timestamp(NOW.micros() + seconds * 1_000_000);
    store.meet_schedules(&[("demo".to_owned(), "t".to_owned())], NOW).await.unwrap();
    let row = store.trigger("demo", "t").await.unwrap().unwrap();
    assert!(row.begun == Timestamp(0) && row.fired_at.is_none() && !row.disabled);
    // Runs of another pipeline end; a child and one that goes on do not count.
    let other = |number: u128| NewRun { pipeline: "first".into(), ..new_run(run_id(number)) };
    for number in 1..=5 {
        let run = other(number);
        let parent = (number == 4).then(|| (run_id(1), path("a")));
        store.create_run(&NewRun { parent, ..run.clone() }).await.unwrap();
        let fence = store.claim(run.id, "w").await.unwrap().unwrap();
        let writer = store.writer(run.id, fence, 1, []);
        let at = later(i64::try_from(number).unwrap());
        writer.append([Record::Event(RunEvent::Started { at })]);
        if number < 5 {
            let state = if number == 2 { RunState::Failed } else { RunState::Succeeded };
            writer.append([Record::Event(RunEvent::Finished { at, state, outputs: Value::from(7), error: None })]);
        }
        writer.commit().await.unwrap();
    }
    let ends = |states: &'static [RunState], since, most| Ends {
        of: "first",
        states,
        pipeline: "demo",
        trigger: "t",
        since,
        most,
    };
    let found =
        async |ends: Ends<'static>| store.ends(ends).await.unwrap().into_iter().map(|run| run.id).collect::<Vec<_>>();
    const BOTH: &[RunState] = &[RunState::Succeeded, RunState::Failed];
    assert_eq!(found(ends(BOTH, NOW, 10)).await, [run_id(1), run_id(2), run_id(3)]);
    assert_eq!(found(ends(BOTH, NOW, 2)).await, [run_id(1), run_id(2)]);
    assert_eq!(found(ends(&[RunState::Failed], NOW, 10)).await, [run_id(2)]);
    assert_eq!(found(ends(BOTH, later(3), 10)).await, [run_id(3)]);
    // What has fired is found no more, and has one run, however often it is tried.
    let mark = format!("after:{}", run_id(1));
    store.fire_events(&[firing(new_run(run_id(11)), &mark)], later(9)).await.unwrap();
    store.fire_events(&[firing(new_run(run_id(12)), &mark)], later(10)).await.unwrap();
    assert_eq!(store.run_of_firing("demo", "t", &mark).await.unwrap(), Some(run_id(11)));
    assert_eq!(store.run_of_firing("demo", "other", &mark).await.unwrap(), None);
    assert!(store.run(run_id(12)).await.unwrap().is_none());
    assert_eq!(found(ends(BOTH, NOW, 10)).await, [run_id(2), run_id(3)]);
    assert_eq!(store.trigger("demo", "t").await.unwrap().unwrap().fired_at, Some(later(10)));
    // One that has to wait is asleep, and nobody takes it before its time.
    let waits = NewFiring { not_before: Some(later(60)), ..firing(new_run(run_id(13)), "delivery:1") };
    store.fire_events(&[waits], later(11)).await.unwrap();
    let run = store.run(run_id(13)).await.unwrap().unwrap();
    assert!(run.state == RunState::Waiting && run.waiting_until == Some(later(60)), "{run:?}");
    let taken = |claimed: &[pipewright::store::Claimed]| claimed.iter().any(|it| it.run.id == run_id(13));
    assert!(!taken(&store.claim_due("w", later(59), 10).await.unwrap()));
    assert!(taken(&store.claim_due("w", later(60), 10).await.unwrap()));
    // What is old is forgotten; its run is not made again, as long as it is there.
    store.forget_firings(later(10), NOW).await.unwrap();
    assert_eq!(store.run_of_firing("demo", "t", &mark).await.unwrap(), None);
    store.begin_triggers(&[("demo".to_owned(), "t".to_owned())], later(2)).await.unwrap();
    store.begin_triggers(&[("demo".to_owned(), "t".to_owned())], later(1)).await.unwrap();
    assert_eq!(store.trigger("demo", "t").await.unwrap().unwrap().begun, later(2));
}

async fn files_of_a_trigger_are_rows_and_tokens_are_taken_once(ground: Ground) {
    let store = ground.open().await;
    store.meet_schedules(&[("demo".to_owned(), "t".to_owned())], NOW).await.unwrap();
    let file = |path: &str, hash: &str| FileRow {
        path: path.to_owned(),
        hash: hash.to_owned(),
        size: 3,
        stamp: format!("stamp of {hash}"),
    };
    let all: Vec<_> = (0..450).map(|number| file(&format!("in/{number:03}"), "h")).collect();
    store.note_files("demo", "t", &all, NOW, true).await.unwrap();
    assert_eq!(store.trigger_files("demo", "t").await.unwrap(), all);
    assert_eq!(store.trigger("demo", "t").await.unwrap().unwrap().begun, NOW);
    // A file that fires has another content from then on, and the one before is known still.
    let fires = NewFiring { file: Some(file("in/000", "other")), ..firing(new_run(run_id(1)), "file:other:in/000") };
    store.fire_events(&[fires], NOW).await.unwrap();
    let now = store.trigger_files("demo", "t").await.unwrap();
    assert!(now.len() == 450 && now[0] == file("in/000", "other"), "{:?}", now[0]);
    let paths: Vec<&str> = all.iter().map(|file| file.path.as_str()).collect();
    let known = store.known_contents("demo", "t", &paths).await.unwrap();
    assert_eq!(known.iter().filter(|(path, _)| path == "in/000").count(), 2);
    assert_eq!(known.len(), 451);
    // It goes, comes back as it was, and is forgotten in the end.
    store.files_left("demo", "t", &["in/000".to_owned()], NOW).await.unwrap();
    assert_eq!(store.trigger_files("demo", "t").await.unwrap().len(), 449);
    store.note_files("demo", "t", &[file("in/000", "h")], NOW, false).await.unwrap();
    assert_eq!(store.trigger_files("demo", "t").await.unwrap().len(), 450);
    store.forget_firings(NOW, Timestamp(NOW.micros() + 1)).await.unwrap();
    assert_eq!(store.known_contents("demo", "t", &["in/000"]).await.unwrap(), [("in/000".to_owned(), "h".to_owned())]);
    // Of many who reach for a token one gets it.
    let reach = |store: Store| async move { store.take_tokens("demo", "t", Timestamp(0), Timestamp(5)).await.unwrap() };
    let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(reach(store.clone()))).collect();
    let mut got = 0;
    for task in tasks {
        got += u32::from(task.await.unwrap());
    }
    assert_eq!(got, 1);
    assert_eq!(store.trigger("demo", "t").await.unwrap().unwrap().full_at, Timestamp(5));
}
