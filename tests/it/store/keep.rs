//! What is removed, what must stay, and what a crash leaves of a removal.

use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;

use pipewright::model::Ask;
use pipewright::model::AskId;
use pipewright::model::Duration;
use pipewright::model::EffectId;
use pipewright::model::EffectIntent;
use pipewright::model::ErrorClass;
use pipewright::model::RunEvent;
use pipewright::model::RunId;
use pipewright::model::RunState;
use pipewright::model::StepError;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::model::VersionId;
use pipewright::model::WriteKind;
use pipewright::node::LogLevel;
use pipewright::node::WireRecord;
use pipewright::store::Belonging;
use pipewright::store::Ended;
use pipewright::store::Error;
use pipewright::store::Fence;
use pipewright::store::JournalWriter;
use pipewright::store::NewRun;
use pipewright::store::OpenOptions;
use pipewright::store::Record;
use pipewright::store::RunFilter;
use pipewright::store::Store;
use pipewright::store::VersionRecord;
use pipewright::store::Vote;
use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::Row;

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
    an_ended_run_goes_with_all_that_belongs_to_it,
    a_run_stays_while_anything_below_it_is_open,
    a_removal_that_was_cut_off_is_gone_on_with,
    more_belongs_to_a_run_than_one_transaction_removes,
    the_count_keeps_the_newest_of_each_pipeline,
    logs_and_wire_records_may_go_before_their_runs,
    a_run_that_logs_for_ever_keeps_its_last_lines,
    a_version_goes_when_nothing_has_needed_it_for_long,
    a_schedule_is_forgotten_when_no_file_has_it_for_long,
    an_effect_that_later_ones_are_told_apart_by_is_remembered,
    one_of_many_takes_a_chore,
    files_that_no_row_names_go_in_the_end,
    a_file_that_only_a_secret_or_a_large_value_names_stays,
    without_the_master_key_no_file_is_taken_for_garbage,
];

const DAY: Duration = Duration::from_secs(86_400);

/// A run, and who writes its journal.
struct Written {
    run: RunId,
    fence: Fence,
    writer: JournalWriter,
}

async fn begun(store: &Store, run: NewRun) -> Written {
    assert!(store.create_run(&run).await.unwrap());
    let fence = store.claim(run.id, "w").await.unwrap().unwrap();
    Written { run: run.id, fence, writer: store.writer(run.id, fence, 1, []) }
}

impl Written {
    async fn end(&self, store: &Store, at: Timestamp) {
        let end = RunEvent::Finished { at, state: RunState::Succeeded, outputs: Value::Null, error: None };
        self.writer.append([Record::Event(end)]);
        self.writer.commit().await.unwrap();
        // Whoever ends a run holds it no longer.
        assert!(store.lease(self.run).await.unwrap().unwrap().owner.is_none());
    }

    /// Appends one of everything that belongs to a run.
    async fn fill(&self, store: &Store) {
        let log =
            |message: &str| Record::Log { path: None, level: LogLevel::Info, message: message.to_owned(), at: NOW };
        let record = WireRecord {
            at: NOW,
            took: Duration::ZERO,
            method: "GET".to_owned(),
            url: "https://example.com".to_owned(),
            headers: Vec::new(),
            body: String::new(),
            answer: Err("none".to_owned()),
        };
        let wire = Record::Wire { path: path("a"), attempt: 1, record: Box::new(record) };
        self.writer.append([succeeded("a", Value::from(1)), log("one"), log("two"), wire]);
        self.writer.append([self.intent("w", None), succeeded("w", Value::from(2))]);
        self.writer.commit().await.unwrap();
        let rows = format!("{}/rows", self.run);
        store.create_dataset(self.run, self.fence, &rows, "rows").await.unwrap();
        let some = [Value::from(1), Value::from(2)];
        store.append_rows(self.run, self.fence, &rows, 0, &some, Some("c")).await.unwrap();
        store.append_rows(self.run, self.fence, &rows, 2, &some, None).await.unwrap();
        let id = AskId(self.run.to_string().into());
        let (kind, reason) = (Ask::APPROVAL.into(), "waits".into());
        let ask = Ask { id: id.clone(), kind, request: Value::Null, reason, lapse: None };
        let asked = RunEvent::Asked { path: path("ask"), attempt: 1, at: NOW, ask: Box::new(ask) };
        self.writer.append([Record::Event(asked)]);
        self.writer.commit().await.unwrap();
        let form = Value::map([("note", Value::from("fine"))]);
        for person in ["anna", "bob"] {
            let seen = store.approval(&id).await.unwrap().unwrap();
            let vote = Vote { person: person.to_owned(), approves: true, comment: None, form: form.clone(), at: NOW };
            assert!(store.vote(&seen, &vote, None).await.unwrap());
        }
        self.writer.append([succeeded("ask", Value::Null)]);
        self.writer.commit().await.unwrap();
        assert!(store.inbox_put(self.run, "cancel", &Value::Null, NOW).await.unwrap());
    }

    fn intent(&self, step: &str, fingerprint: Option<&str>) -> Record {
        let intent = EffectIntent {
            id: EffectId(format!("{}/{step}", self.run).into()),
            key: "k".into(),
            kind: WriteKind::Create,
            request: Value::Null,
            send_before: NOW,
            answer_before: NOW,
            fingerprint: fingerprint.map(Into::into),
        };
        Record::Event(RunEvent::Intent { path: path(step), attempt: 1, intent: Box::new(intent), at: NOW })
    }
}

/// A run of its own pipeline that has everything and has ended.
async fn whole(store: &Store, number: u128, parent: Option<RunId>, at: Timestamp) -> RunId {
    let parent = parent.map(|parent| (parent, path("child")));
    let written = begun(store, NewRun { parent, ..new_run(run_id(number)) }).await;
    written.fill(store).await;
    written.end(store, at).await;
    written.run
}

/// Reads one number from the database itself.
async fn number(ground: &Ground, sql: &str) -> i64 {
    let sql = AssertSqlSafe(sql.to_owned());
    if ground.url.starts_with("postgres") {
        let mut connection = sqlx::PgConnection::connect(&ground.url).await.unwrap();
        sqlx::query(sql).fetch_one(&mut connection).await.unwrap().get(0)
    } else {
        let mut connection = sqlx::SqliteConnection::connect(&ground.url).await.unwrap();
        sqlx::query(sql).fetch_one(&mut connection).await.unwrap().get(0)
    }
}

/// Counts the rows of everything that belongs to runs.
async fn belongings(ground: &Ground) -> Vec<(&'static str, i64)> {
    let mut counts = Vec::new();
    let tables = ["runs", "journal", "effects", "inbox", "logs", "wire", "datasets", "dataset_pages", "removals"];
    for table in tables.into_iter().chain(["approvals", "votes"]) {
        counts.push((table, number(ground, &format!("SELECT COUNT(*) FROM {table}")).await));
    }
    counts
}

async fn swept(store: &Store) -> usize {
    for round in 0..1_000 {
        if !store.sweep().await.unwrap() {
            return round;
        }
    }
    panic!("it never ends");
}

async fn removed(store: &Store, run: RunId) -> u64 {
    let stay = store.must_stay(&[run]).await.unwrap();
    if stay.contains(&run) { 0 } else { store.remove_runs(&[run]).await.unwrap() }
}

async fn an_ended_run_goes_with_all_that_belongs_to_it(ground: Ground) {
    let store = ground.open().await;
    let kept = whole(&store, 1, None, NOW).await;
    let kept_child = whole(&store, 2, Some(kept), NOW).await;
    let before = belongings(&ground).await;
    let old = whole(&store, 3, None, NOW).await;
    let child = whole(&store, 4, Some(old), NOW).await;
    whole(&store, 5, Some(child), NOW).await;
    let journal = store.journal(kept).await.unwrap();
    assert_eq!(store.remove_runs(&[old]).await.unwrap(), 1);
    assert!(store.run(old).await.unwrap().is_none(), "nobody sees half a run");
    swept(&store).await;
    assert_eq!(belongings(&ground).await, before);
    assert_eq!(store.journal(kept).await.unwrap(), journal);
    assert!(store.run(kept_child).await.unwrap().is_some());
    assert_eq!(store.rows(&format!("{kept}/rows"), 0, 10).await.unwrap().len(), 4);
    assert_eq!(store.remove_runs(&[old]).await.unwrap(), 1, "again it does no harm");
    assert_eq!(belongings(&ground).await, before);
}

async fn a_run_stays_while_anything_below_it_is_open(ground: Ground) {
    let store = ground.open().await;
    let parent = whole(&store, 1, None, NOW).await;
    let child = whole(&store, 2, Some(parent), NOW).await;
    let doubt = begun(&store, NewRun { parent: Some((child, path("c"))), ..new_run(run_id(3)) }).await;
    assert_eq!(removed(&store, parent).await, 0, "a run below it has not ended");
    let error = Box::new(StepError { class: ErrorClass::Timeout, message: "no answer".into() });
    let in_doubt =
        RunEvent::InDoubt { path: path("w"), effect: EffectId(format!("{}/w", doubt.run).into()), at: NOW, error };
    doubt.writer.append([doubt.intent("w", None), Record::Event(in_doubt)]);
    doubt.end(&store, NOW).await;
    assert_eq!(removed(&store, parent).await, 0, "an effect below it is in doubt");
    let alone = whole(&store, 4, None, NOW).await;
    let fence = store.claim(alone, "somebody").await.unwrap().unwrap();
    assert_eq!(removed(&store, alone).await, 0, "somebody holds it");
    assert!(store.release(alone, fence).await.unwrap());
    assert_eq!(removed(&store, alone).await, 1);
    let running = begun(&store, new_run(run_id(5))).await;
    assert_eq!(removed(&store, running.run).await, 0);
    swept(&store).await;
    assert_eq!(store.runs(&RunFilter::default()).await.unwrap().len(), 4);
}

async fn a_removal_that_was_cut_off_is_gone_on_with(ground: Ground) {
    let store = ground.open().await;
    let old = whole(&store, 1, None, NOW).await;
    whole(&store, 2, Some(old), NOW).await;
    assert_eq!(store.remove_runs(&[old]).await.unwrap(), 1);
    drop(store);
    let store = ground.open().await;
    swept(&store).await;
    assert!(belongings(&ground).await.iter().all(|(_, count)| *count == 0), "{:?}", belongings(&ground).await);
}

async fn more_belongs_to_a_run_than_one_transaction_removes(ground: Ground) {
    let store = ground.open().await;
    let written = begun(&store, new_run(run_id(1))).await;
    for line in 0..2_500 {
        let message = format!("line {line}");
        written.writer.append([Record::Log { path: None, level: LogLevel::Info, message, at: NOW }]);
    }
    for step in 0..700 {
        written.writer.append([succeeded(&format!("s{step}"), Value::from(step))]);
        if step % 2 == 0 {
            written.writer.commit().await.unwrap();
        }
    }
    written.end(&store, NOW).await;
    for child in 0..450 {
        let parent = Some((written.run, path(&format!("c[{child}]"))));
        begun(&store, NewRun { parent, ..new_run(run_id(100 + child)) }).await.end(&store, NOW).await;
    }
    assert_eq!(removed(&store, written.run).await, 1);
    assert!(swept(&store).await > 2);
    assert!(belongings(&ground).await.iter().all(|(_, count)| *count == 0), "{:?}", belongings(&ground).await);
}

async fn the_count_keeps_the_newest_of_each_pipeline(ground: Ground) {
    let store = ground.open().await;
    for number in 0..9_u128 {
        // Several end in the same moment: their ids decide then.
        let at = Timestamp(NOW.0 + i64::try_from(number / 3).unwrap());
        let pipeline = if number == 8 { "other" } else { "demo" };
        let run = NewRun { pipeline: pipeline.into(), ..new_run(run_id(number)) };
        begun(&store, run).await.end(&store, at).await;
    }
    let child = NewRun { parent: Some((run_id(0), path("c"))), ..new_run(run_id(20)) };
    begun(&store, child).await.end(&store, NOW).await;
    assert_eq!(store.ended_pipelines().await.unwrap(), ["demo", "other"]);
    assert_eq!(store.first_beyond("demo", 8).await.unwrap(), None);
    let beyond = store.first_beyond("demo", 5).await.unwrap().unwrap();
    assert_eq!(beyond, Ended { at: NOW, run: run_id(2) });
    let first = store.ended_runs("demo", None, beyond, 2).await.unwrap();
    assert_eq!(first.iter().map(|ended| ended.run).collect::<Vec<_>>(), [run_id(0), run_id(1)]);
    let rest = store.ended_runs("demo", first.last().copied(), beyond, 10).await.unwrap();
    assert_eq!(rest, [beyond]);
    let all = store.ended_runs("demo", None, Ended::upto(NOW), 10).await.unwrap();
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(store.all_ended_runs("demo", None, Ended::upto(NOW), 10).await.unwrap().len(), 4);
}

async fn logs_and_wire_records_may_go_before_their_runs(ground: Ground) {
    let store = ground.open().await;
    let (one, other) = (whole(&store, 1, None, NOW).await, whole(&store, 2, None, NOW).await);
    assert_eq!(store.drop_belongings(Belonging::Logs, &[one]).await.unwrap(), 2);
    assert_eq!(store.drop_belongings(Belonging::Logs, &[one]).await.unwrap(), 0);
    assert_eq!(store.drop_belongings(Belonging::Wire, &[other]).await.unwrap(), 1);
    assert!(store.logs(one).await.unwrap().is_empty() && store.wire(other).await.unwrap().is_empty());
    assert_eq!((store.logs(other).await.unwrap().len(), store.wire(one).await.unwrap().len()), (2, 1));
}

async fn a_run_that_logs_for_ever_keeps_its_last_lines(ground: Ground) {
    let store = ground.open().await;
    assert!(store.create_run(&new_run(run_id(1))).await.unwrap());
    let mut written = 0;
    for execution in 0..5 {
        let fence = store.claim(run_id(1), "w").await.unwrap().unwrap();
        let writer = store.writer(run_id(1), fence, 1, []);
        for _ in 0..6_000 {
            let message = format!("line {written}");
            written += 1;
            writer.append([Record::Log { path: None, level: LogLevel::Info, message, at: NOW }]);
            if written % 700 == 0 {
                writer.commit().await.unwrap();
            }
        }
        writer.commit().await.unwrap();
        assert!(store.release(run_id(1), fence).await.unwrap());
        let lines = store.logs(run_id(1)).await.unwrap();
        assert!(lines.len() <= 12_000 && (execution == 0 || lines.len() >= 10_000), "{}", lines.len());
        assert_eq!(lines.last().unwrap().message, format!("line {}", written - 1));
    }
}

async fn a_version_goes_when_nothing_has_needed_it_for_long(ground: Ground) {
    let store = ground.open().await;
    let version = |id: &str| VersionRecord {
        id: VersionId(id.into()),
        pipeline: "demo".into(),
        definition: format!("definition of {id}").into(),
    };
    for id in ["v0", "v1", "v2"] {
        store.put_version(&version(id)).await.unwrap();
    }
    whole(&store, 1, None, NOW).await;
    let found = store.versions_after("", 10).await.unwrap();
    let needed: Vec<_> = found.iter().map(|(id, needed)| (&*id.0, *needed)).collect();
    assert_eq!(needed, [("v0", false), ("v1", true), ("v2", false)]);
    assert_eq!(store.versions_after("v1", 10).await.unwrap().len(), 1);
    let idle: Vec<_> = found.iter().filter(|(_, needed)| !needed).map(|(id, _)| id.clone()).collect();
    let day = |days: u64| NOW.plus(DAY.times(days));
    let retire = async |now: Timestamp| {
        store.retire_versions(&idle, now, Timestamp(now.0.saturating_sub_unsigned(DAY.micros()))).await.unwrap()
    };
    assert_eq!(retire(day(0)).await, 0, "it is noted");
    // Somebody is about to start a run with it.
    store.put_version(&version("v2")).await.unwrap();
    assert_eq!(retire(day(2)).await, 1, "the other one goes");
    assert!(store.version(&idle[0]).await.unwrap().is_none());
    let definition = store.version(&idle[1]).await.unwrap().unwrap().definition;
    assert_eq!(&*definition, "definition of v2");
    assert_eq!(retire(day(4)).await, 1);
}

async fn a_schedule_is_forgotten_when_no_file_has_it_for_long(ground: Ground) {
    let store = ground.open().await;
    let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
    store.meet_schedules(&[pair("a", "t1"), pair("a", "t2"), pair("b", "t1")], NOW).await.unwrap();
    let (both, one) = (HashSet::from([("a", "t1"), ("b", "t1")]), HashSet::from([("a", "t1")]));
    let day = |days: u64| NOW.plus(DAY.times(days));
    let retire = async |known: &HashSet<(&str, &str)>, now: Timestamp| {
        let before = Timestamp(now.0.saturating_sub_unsigned(DAY.times(30).micros()));
        store.retire_schedules(known, now, before).await.unwrap()
    };
    assert_eq!(retire(&one, day(0)).await, 0);
    // The file of `b` is there again in between.
    assert_eq!(retire(&both, day(20)).await, 0);
    assert_eq!(retire(&one, day(31)).await, 1);
    assert_eq!(store.schedules().await.unwrap().len(), 2);
    assert_eq!(retire(&one, day(62)).await, 1);
    assert_eq!(store.schedules().await.unwrap().len(), 1);
}

async fn an_effect_that_later_ones_are_told_apart_by_is_remembered(ground: Ground) {
    let store = ground.open().await;
    let old = begun(&store, new_run(run_id(1))).await;
    old.writer.append([old.intent("named", Some("same"))]);
    let effect = EffectId(format!("{}/named", old.run).into());
    let (scope, remote_id) = ("shop.create".to_owned(), "7".to_owned());
    old.writer.append([Record::Remote { effect: effect.clone(), scope, remote_id }]);
    old.writer.append([succeeded("named", Value::Null)]);
    // Of this one nobody knows which object it made.
    old.writer.append([old.intent("unnamed", Some("same")), succeeded("unnamed", Value::Null)]);
    old.writer.append([old.intent("other", None), succeeded("other", Value::Null)]);
    old.end(&store, NOW).await;
    let later = begun(&store, new_run(run_id(2))).await;
    let doubt = EffectId(format!("{}/w", later.run).into());
    later.writer.append([later.intent("w", Some("same"))]);
    later.writer.commit().await.unwrap();
    let rivals = async || store.rivals(later.run, &doubt, "same", NOW.plus(DAY)).await.unwrap();
    let before = rivals().await;
    assert_eq!(before.unnamed, 1);
    assert_eq!(removed(&store, old.run).await, 1);
    swept(&store).await;
    // The remote shows the old objects still: none of them may be taken for that of the later effect.
    assert_eq!(rivals().await, before);
    assert_eq!(store.remote_owner("shop.create", "7").await.unwrap(), Some(effect));
    assert_eq!(number(&ground, "SELECT COUNT(*) FROM effects").await, 2);
    assert_eq!(number(&ground, "SELECT COUNT(*) FROM removals").await, 0);
    // Who says for how long they are remembered takes it on himself.
    let young = Timestamp(NOW.0.saturating_sub_unsigned(DAY.micros()));
    assert_eq!(store.forget_claims(young, None).await.unwrap(), (0, None));
    assert_eq!(store.forget_claims(NOW.plus(DAY), None).await.unwrap(), (2, None));
    assert_eq!(store.remote_owner("shop.create", "7").await.unwrap(), None);
    assert_eq!(rivals().await.unnamed, 0);
    assert_eq!(number(&ground, "SELECT COUNT(*) FROM effects").await, 1, "the run that goes on keeps its own");
}

async fn one_of_many_takes_a_chore(ground: Ground) {
    let stores = [ground.open().await, ground.open().await];
    for round in 0..5_u64 {
        let (now, mut taken) = (NOW.plus(DAY.times(round)), 0);
        for store in stores.iter().chain(&stores) {
            taken += u32::from(store.take_chore("round", now, now.plus(DAY)).await.unwrap());
        }
        assert_eq!(taken, 1, "round {round}");
    }
    assert!(stores[0].take_chore("other", NOW, NOW.plus(DAY)).await.unwrap());
}

fn files(ground: &Ground) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() { walk(&entry.path(), found) } else { found.push(entry.path()) }
        }
    }
    let mut found = Vec::new();
    walk(&ground.folder.join("blobs"), &mut found);
    found.sort();
    found
}

/// The moment so many days from now, by the machine's clock, which the files' times go by.
#[expect(clippy::disallowed_methods, reason = "the ages of files go by the machine's clock")]
fn in_days(days: u64) -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_micros()).unwrap()).plus(DAY.times(days))
}

async fn files_that_no_row_names_go_in_the_end(ground: Ground) {
    let store = ground.open().await;
    let (kept, old) = (begun(&store, new_run(run_id(1))).await, begun(&store, new_run(run_id(2))).await);
    let large = |letter: &str| Value::from(letter.repeat(100_000));
    kept.writer.append([succeeded("a", large("k"))]);
    old.writer.append([succeeded("a", large("o")), succeeded("b", large("k"))]);
    let blob = store.put_blob(b"a file".to_vec(), None, None).await.unwrap();
    old.writer.append([succeeded("f", Value::Blob(std::sync::Arc::new(blob.clone())))]);
    kept.end(&store, NOW).await;
    old.end(&store, NOW).await;
    let half = files(&ground)[0].with_file_name(".4711-0");
    std::fs::write(&half, "half").unwrap();
    assert_eq!(files(&ground).len(), 4);
    let collect = async |days: u64| store.collect_garbage(in_days(days), DAY).await.unwrap();
    let young = collect(0).await;
    assert_eq!((young.files, young.aside, files(&ground).len()), (0, 0, 4), "they are young");
    let named = collect(2).await;
    assert_eq!((named.files, named.aside), (1, 0), "what a writer left half-written goes alone: {named:?}");
    assert_eq!(removed(&store, old.run).await, 1);
    swept(&store).await;
    let aside = collect(4).await;
    assert_eq!((aside.files, aside.aside, files(&ground).len()), (0, 2, 3));
    // One of them is wanted once more: it is read where it lies, put again, and put back.
    assert_eq!(store.get_blob(&blob.address).await.unwrap(), b"a file");
    let again = begun(&store, new_run(run_id(3))).await;
    again.writer.append([succeeded("f", Value::Blob(std::sync::Arc::new(blob.clone())))]);
    again.writer.commit().await.unwrap();
    let gone = collect(6).await;
    assert_eq!((gone.files, gone.aside, files(&ground).len()), (1, 0, 2));
    assert!(!files(&ground).iter().any(|path| path.to_string_lossy().contains("aside")));
    assert_eq!(store.get_blob(&blob.address).await.unwrap(), b"a file");
    assert!(matches!(&store.journal(kept.run).await.unwrap()[0], RunEvent::Succeeded { .. }));
}

async fn a_file_that_only_a_secret_or_a_large_value_names_stays(ground: Ground) {
    let store = ground.open().await;
    let run = begun(&store, new_run(run_id(1))).await;
    let mut handles = Vec::new();
    for number in 0..6 {
        let blob = store.put_blob(format!("file {number}").into_bytes(), None, None).await.unwrap();
        handles.push(Value::Blob(std::sync::Arc::new(blob)));
    }
    let filler = Value::from("x".repeat(90_000));
    let large = Value::map([("text", filler.clone()), ("file", handles[0].clone())]);
    run.writer.append([succeeded("large", large), succeeded("secret", handles[1].clone().tainted())]);
    let both = Value::map([("text", filler), ("file", handles[2].clone())]);
    run.writer.append([succeeded("both", both.tainted())]);
    let state = Value::map([("file", handles[3].clone())]);
    run.writer.append([Record::Stream { key: "s".to_owned(), state }]);
    let (key, output) = ("c".to_owned(), handles[4].clone());
    run.writer.append([Record::Cache { key, output, expires_at: in_days(100) }]);
    run.writer.commit().await.unwrap();
    let inputs = Value::map([("file", handles[5].clone())]);
    assert!(store.create_run(&NewRun { inputs, ..new_run(run_id(2)) }).await.unwrap());
    for days in [2, 4, 6] {
        let found = store.collect_garbage(in_days(days), DAY).await.unwrap();
        assert_eq!((found.files, found.aside, found.kept), (0, 0, 8), "after {days} days");
    }
}

async fn without_the_master_key_no_file_is_taken_for_garbage(ground: Ground) {
    let store = ground.open().await;
    let run = begun(&store, new_run(run_id(1))).await;
    let blob = store.put_blob(b"a file".to_vec(), None, None).await.unwrap();
    run.writer.append([succeeded("a", Value::Blob(std::sync::Arc::new(blob)).tainted())]);
    run.writer.commit().await.unwrap();
    store.close().await.unwrap();
    let blind = OpenOptions { sealer: None, ..ground.options() };
    let store = Store::open(&ground.url, blind).await.unwrap();
    let refused = store.collect_garbage(in_days(2), DAY).await;
    assert!(matches!(refused, Err(Error::NoMasterKey)), "{refused:?}");
    assert_eq!(files(&ground).len(), 1);
    assert!(!files(&ground)[0].to_string_lossy().contains("aside"));
}

/// A table that is new must be thought of where runs are removed, and a new column where files are looked for.
#[tokio::test]
async fn every_table_is_known_to_housekeeping() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("state.db").display());
    Store::open(&url, OpenOptions::default()).await.unwrap().close().await.unwrap();
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let rows = sqlx::query(
        "SELECT m.name, c.name, c.type FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' \
         ORDER BY m.name, c.cid",
    );
    let (mut of_runs, mut texts) = (Vec::new(), Vec::new());
    for row in rows.fetch_all(&mut connection).await.unwrap() {
        let (table, column, kind): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        if column == "run_id" {
            of_runs.push(table.clone());
        }
        if kind == "TEXT" {
            texts.push(format!("{table}.{column}"));
        }
    }
    // `Store::sweep` removes what is in these.
    let removed =
        ["approvals", "datasets", "effects", "inbox", "journal", "logs", "permits", "removals", "requests", "wire"];
    // What has fired is remembered whatever becomes of its run, and goes by its age.
    // So do what was generated, the calendar of posts, and the account of money: by an age of their own.
    let by_age = ["firings", "generations", "posts", "spending"];
    let known = |table: &str| by_age.contains(&table) || removed.contains(&table);
    assert!(of_runs.iter().all(|table| known(table)), "{of_runs:?}");
    // `Store::collect_garbage` looks into these; none of the others holds a value.
    let values = [
        "cache.output",
        "dataset_pages.page",
        "generations.inputs",
        "generations.output",
        "generations.tokens",
        "generations.value",
        "inbox.payload",
        "journal.events",
        "post_metrics.raw",
        "posts.post",
        "runs.inputs",
        "runs.outputs",
        "streams.state",
        "votes.form",
    ];
    let others = [
        "generation_terms.term",
        "generation_terms.generation",
        "generation_vectors.generation",
        "generation_vectors.model",
        "generation_vectors.vector",
        "generations.id",
        "generations.run_id",
        "generations.path",
        "generations.part",
        "generations.pipeline",
        "generations.kind",
        "generations.topic",
        "generations.connection",
        "generations.model",
        "generations.prompt",
        "generations.prompt_version",
        "generations.cost",
        "generations.unit",
        "generations.tags",
        "lessons.id",
        "lessons.content",
        "lessons.labels",
        "lessons.feature",
        "lessons.direction",
        "lessons.weight",
        "lessons.evidence",
        "lessons.generation",
        "lessons.state",
        "lessons.reason",
        "lessons.confirmed_by",
        "post_metrics.post",
        "posts.id",
        "posts.run_id",
        "posts.path",
        "posts.pipeline",
        "posts.connection",
        "posts.connector",
        "posts.labels",
        "posts.generations",
        "posts.state",
        "posts.remote_id",
        "posts.ids",
        "posts.url",
        "posts.error",
        "posts.ask",
        "spending.id",
        "spending.day",
        "spending.top_run",
        "spending.run_id",
        "spending.path",
        "spending.pipeline",
        "spending.connection",
        "spending.connector",
        "spending.operation",
        "spending.model",
        "spending.unit",
        "spending.reserved",
        "spending.settled",
        "spending.state",
        "spending_totals.scope",
        "spending_totals.unit",
        "spending_totals.amount",
        "approvals.id",
        "approvals.path",
        "approvals.run_id",
        "approvals.state",
        "votes.approval",
        "votes.comment",
        "votes.person",
        "votes.verdict",
        "budgets.budget",
        "budgets.state",
        "cache.cache_key",
        "chores.name",
        "dataset_pages.dataset_id",
        "datasets.id",
        "datasets.name",
        "datasets.next_cursor",
        "datasets.run_id",
        "effects.business_key",
        "effects.error",
        "effects.fingerprint",
        "effects.id",
        "effects.kind",
        "effects.path",
        "effects.remote_id",
        "effects.run_id",
        "effects.settled_by",
        "effects.state",
        "inbox.kind",
        "inbox.run_id",
        "journal.run_id",
        "logs.level",
        "logs.message",
        "logs.path",
        "logs.run_id",
        "approvals.id",
        "approvals.path",
        "approvals.run_id",
        "approvals.state",
        "firings.mark",
        "firings.pipeline",
        "firings.run_id",
        "firings.trigger_id",
        "trigger_files.hash",
        "trigger_files.path",
        "trigger_files.pipeline",
        "trigger_files.stamp",
        "trigger_files.trigger_id",
        "votes.approval",
        "votes.comment",
        "votes.person",
        "votes.verdict",
        "permits.path",
        "permits.run_id",
        "permits.scope",
        "pipewright_migrations.checksum",
        "remote_objects.effect_id",
        "remote_objects.remote_id",
        "remote_objects.scope",
        "requests.path",
        "requests.run_id",
        "requests.scope",
        "requests.when_full",
        "runs.started_by",
        "removals.run_id",
        "runs.error",
        "runs.id",
        "runs.owner",
        "runs.parent_path",
        "runs.parent_run",
        "runs.pipeline",
        "runs.reason",
        "runs.slot",
        "runs.state",
        "runs.version",
        "schedules.pipeline",
        "schedules.trigger_id",
        "secrets.name",
        "secrets.sealed",
        "streams.stream_key",
        "tokens.connection",
        "tokens.reason",
        "tokens.sealed",
        "tokens.state",
        "tokens.ticket",
        "versions.definition",
        "versions.id",
        "versions.pipeline",
        "workers.host",
        "workers.id",
        "workers.roles",
        "workers.version",
        "wire.path",
        "wire.record",
        "wire.run_id",
    ];
    let known: HashSet<&str> = values.into_iter().chain(others).collect();
    let unknown: Vec<_> = texts.iter().filter(|text| !known.contains(text.as_str())).collect();
    assert!(unknown.is_empty(), "say whether these can name files: {unknown:?}");
}
