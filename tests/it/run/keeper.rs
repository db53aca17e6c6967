//! Housekeeping on virtual time: a year of a busy daemon, and the store does not grow.

use std::sync::Arc;

use pipewright::daemon::keeper::Keeper;
use pipewright::daemon::keeper::Scope;
use pipewright::daemon::keeper::prune;
use pipewright::daemon::metrics::Metrics;
use pipewright::daemon::scheduler::Active;
use pipewright::engine::Engine;
use pipewright::engine::ExecuteOptions;
use pipewright::engine::Execution;
use pipewright::model::Duration;
use pipewright::model::RunState;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::pipeline::Keep;
use pipewright::pipeline::Retention;
use pipewright::store::EffectFilter;
use pipewright::store::EffectState;
use pipewright::store::RunFilter;
use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::Row;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Act;
use super::Stage;
use super::give;
use super::held;
use super::repeatable;

const DAY: Duration = Duration::from_secs(86_400);

/// A run of it leaves a little of everything.
const BUSY: &str = r#"inputs: { day: { type: integer, default: 0 } }
steps:
  read: { uses: test.read, with: { day: "{{ inputs.day }}" }, cache: { ttl: 2d } }
  told: { uses: log.write, with: { message: "day {{ inputs.day }} of EDIT" } }
  made: { uses: test.make, needs: [read], with: { day: "{{ inputs.day }}" } }
  below: { uses: pipeline.run, with: { pipeline: small, inputs: { day: "{{ inputs.day }}" } } }
outputs: { read: "{{ steps.read.output }}" }
"#;
const SMALL: &str = r#"inputs: { day: { type: integer } }
steps:
  rows: { uses: csv.read, with: { text: "n,m\n1,2\n3,4\n" }, into: rows }
  told: { uses: log.write, with: { message: "day {{ inputs.day }}" } }
"#;

/// A keeper, and what it is told.
struct At {
    keeper: Keeper,
    active: watch::Sender<Active>,
    metrics: Arc<Metrics>,
}

fn at(engine: &Engine, retention: Retention) -> At {
    let (active, receiver) = watch::channel(Active::default());
    let (parts, metrics) = (engine.parts(), Arc::new(Metrics::default()));
    let (_, retention) = watch::channel(Arc::new(retention));
    let stop = CancellationToken::new();
    let keeper = Keeper::new(parts.store.clone(), parts.system.clone(), receiver, retention, metrics.clone(), stop);
    At { keeper, active, metrics }
}

/// What grows in a store that nobody keeps: rows of each table, bytes, files.
async fn measured(stage: &Stage, engine: &Engine) -> Vec<(String, i64)> {
    let url = format!("sqlite://{}", stage.folder.path().join("state.db").display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let tables = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name");
    let tables = tables.fetch_all(&mut connection).await.unwrap();
    let mut found = Vec::new();
    for table in tables.iter().map(|row| row.get::<String, _>(0)) {
        let count = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        let count: i64 = sqlx::query(count).fetch_one(&mut connection).await.unwrap().get(0);
        found.push((table, count));
    }
    let size = engine.parts().store.size().await.unwrap();
    found.push(("bytes".to_owned(), i64::try_from(size.bytes).unwrap()));
    found.push(("log bytes".to_owned(), i64::try_from(size.log_bytes).unwrap()));
    let files = walk(&stage.folder.path().join("blobs"));
    found.push(("blobs".to_owned(), i64::try_from(files).unwrap()));
    found
}

fn walk(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { 1 }).sum()
}

#[tokio::test]
async fn a_daemon_that_runs_for_a_year_does_not_grow() {
    let stage = Stage::new()
        // Each day another large value, which becomes a file.
        .read("test.read", |_, input| give(format!("{} {}", input.to_text(), "x".repeat(70_000))))
        .write("test.make", repeatable(), |_, _| give(1));
    stage.file("small", SMALL);
    // Files have the machine's times: the virtual year begins later.
    stage.world.clock.advance_to(in_two_days());
    let engine = stage.engine().await;
    let keep = Keep { age: Some(DAY.times(30)), count: Some(10), logs: Some(DAY.times(10)), wire: Some(DAY.times(3)) };
    let mut at = at(&engine, Retention::every(keep));
    let mut months = Vec::new();
    let mut pipeline = stage.pipeline(BUSY);
    for day in (0..360_i64).step_by(5) {
        if day % 30 == 0 {
            // An edit a month: another version, and another schedule than before.
            let triggers = format!("triggers: [ {{ cron: \"{} 9 * * *\" }} ]\n", day / 30);
            pipeline = stage.pipeline(&format!("{triggers}{}", BUSY.replace("EDIT", &format!("edit {day}"))));
            at.active.send_replace(Arc::new(vec![pipeline.clone()]));
            let new = (pipeline.name.to_string(), pipeline.triggers[0].id.to_string());
            engine.parts().store.meet_schedules(&[new], stage.world.clock_now()).await.unwrap();
        }
        for _ in 0..2 {
            let inputs = Value::map([("day", Value::from(day))]);
            let run = engine.start(&pipeline, inputs).await.unwrap();
            let ended = engine.execute(run, pipeline.clone(), ExecuteOptions::default()).await.unwrap();
            assert!(matches!(ended, Execution::Finished { state: RunState::Succeeded, .. }), "{ended:?}");
            stage.world.clock.advance(Duration::from_secs(60));
        }
        stage.world.clock.advance(DAY.times(5));
        at.keeper.turn().await.unwrap();
        if day % 30 == 25 {
            months.push(measured(&stage, &engine).await);
        }
    }
    let (third, twelfth) = (&months[2], &months[11]);
    for ((name, early), (_, late)) in third.iter().zip(twelfth) {
        let allowed = match name.as_str() {
            // Which pages are free differs a little from month to month.
            "bytes" | "log bytes" => early / 20 + 400_000,
            _ => early / 20 + 2,
        };
        assert!(late - early <= allowed, "{name} grows: {early} in month 3, {late} in month 12\n{months:#?}");
    }
    let rows = |month: &[(String, i64)], name: &str| month.iter().find(|(own, _)| own == name).unwrap().1;
    // It is not empty either: 10 runs and their children, logs of ten days, versions and schedules of a month or two.
    assert_eq!(rows(twelfth, "runs"), 20, "{twelfth:?}");
    assert!((4..=12).contains(&rows(twelfth, "logs")) && rows(twelfth, "journal") >= 20, "{twelfth:?}");
    assert!((1..=4).contains(&rows(twelfth, "versions")) && (8..=20).contains(&rows(twelfth, "blobs")), "{twelfth:?}");
    let told = at.metrics.text(&[]);
    assert!(told.contains("pipewright_housekeeping_failures_total 0"), "{told}");
    // What is kept can be read to the end.
    for run in engine.parts().store.runs(&RunFilter::default()).await.unwrap() {
        assert!(!engine.parts().store.journal(run.id).await.unwrap().is_empty());
        assert!(engine.parts().store.version(&run.version).await.unwrap().is_some());
    }
}

#[expect(clippy::disallowed_methods, reason = "the ages of files go by the machine's clock")]
fn in_two_days() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_micros()).unwrap()).plus(DAY.times(2))
}

#[tokio::test]
async fn what_is_in_doubt_or_open_stays_and_dry_changes_nothing() {
    let stage = Stage::new().read("test.one", |_, _| give(1)).write("test.make", held(), |_, _| Act::Lose(true));
    let engine = stage.engine().await;
    let plain = stage.pipeline("name: plain\nsteps: { a: { uses: test.one, with: { value: 1 } } }\n");
    for _ in 0..5 {
        let run = engine.start(&plain, Value::map::<&str>([])).await.unwrap();
        engine.execute(run, plain.clone(), ExecuteOptions::default()).await.unwrap();
    }
    let doubtful = stage.pipeline("name: doubtful\nsteps: { a: { uses: test.make, with: { value: 1 } } }\n");
    let run = engine.start(&doubtful, Value::map::<&str>([])).await.unwrap();
    let ended = engine.execute(run, doubtful, ExecuteOptions::default()).await.unwrap();
    assert!(matches!(ended, Execution::Waiting { in_doubt: true, .. }), "{ended:?}");
    stage.world.clock.advance(DAY.times(1_000));
    let (parts, stop) = (engine.parts(), CancellationToken::new());
    let retention = Retention::default();
    let scope = Scope { retention: &retention, pipeline: None, dry: true };
    let dry = prune(&parts.store, &parts.system, &scope, &stop).await.unwrap();
    assert_eq!(dry.runs, [("plain".to_owned(), 5)]);
    assert_eq!(parts.store.runs(&RunFilter::default()).await.unwrap().len(), 6);
    let scope = Scope { dry: false, ..scope };
    let done = prune(&parts.store, &parts.system, &scope, &stop).await.unwrap();
    assert_eq!(done, dry);
    let left = parts.store.runs(&RunFilter::default()).await.unwrap();
    assert_eq!(left.iter().map(|run| run.id).collect::<Vec<_>>(), [run]);
    let doubts = EffectFilter { states: vec![EffectState::InDoubt], ..EffectFilter::default() };
    assert_eq!(parts.store.effects(&doubts).await.unwrap().len(), 1);
}

#[tokio::test]
async fn of_two_keepers_one_does_a_round() {
    let stage = Stage::new().read("test.one", |_, _| give(1));
    let engine = stage.engine().await;
    let pipeline = stage.pipeline("steps: { a: { uses: test.one, with: { value: 1 } } }\n");
    let keep = Keep { count: Some(1), ..Keep::default() };
    let mut both = [at(&engine, Retention::every(keep)), at(&engine, Retention::every(keep))];
    for _ in 0..4 {
        for _ in 0..3 {
            let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
            engine.execute(run, pipeline.clone(), ExecuteOptions::default()).await.unwrap();
        }
        for one in &mut both {
            one.keeper.turn().await.unwrap();
        }
        assert_eq!(engine.parts().store.runs(&RunFilter::default()).await.unwrap().len(), 1);
        stage.world.clock.advance(Duration::from_secs(601));
    }
    let removed = |one: &At| {
        let text = one.metrics.text(&[]);
        let line = text.lines().find(|line| line.starts_with("pipewright_removed_total{what=\"runs\"}")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(both.iter().map(removed).sum::<u64>(), 11);
}
