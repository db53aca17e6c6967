//! Triggers of files: real files, virtual time.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use pipewright::daemon::files::FileWatch;
use pipewright::engine::Engine;
use pipewright::model::Duration;
use pipewright::model::RunState;
use pipewright::model::Timestamp;
use pipewright::store::RunRecord;

use super::Stage;
use super::give;
use super::triggers::Daemon;
use super::triggers::runs;
use super::triggers::turn;

const INBOX: &str = r#"triggers: [ { files: "inbox/**/*.csv", inputs: { path: "{{ event.path }}", name: "{{ event.name }}", size: "{{ event.size }}", hash: "{{ event.hash }}" } } ]
inputs: { path: { type: string }, name: { type: string }, size: { type: integer }, hash: { type: string } }
steps: { a: { uses: test.one, with: { value: 1 } } }
"#;

/// A file watch at work.
struct At {
    stage: Stage,
    engine: Engine,
    daemon: Daemon,
    working: tokio::task::JoinHandle<()>,
}

impl Stage {
    fn path(&self, path: &str) -> PathBuf {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn put(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    async fn watch(self, text: &str) -> At {
        let engine = self.engine().await;
        let daemon = self.daemon(&engine, &[("inbox", text)]);
        let working = tokio::spawn(FileWatch::new(&daemon.scheduler).run());
        let at = At { stage: self, engine, daemon, working };
        at.begun().await;
        at
    }
}

impl At {
    /// Waits until the trigger knows what was there before it.
    async fn begun(&self) {
        for _ in 0..5_000 {
            let rows = self.engine.parts().store.schedules().await.unwrap();
            if rows.first().is_some_and(|row| row.begun > Timestamp(0)) {
                return;
            }
            turn().await;
        }
        panic!("it never begins");
    }

    /// Moves the clock in steps until so many runs are there; then sees that no more come.
    async fn until(&self, count: usize) -> Vec<RunRecord> {
        for _ in 0..2_000 {
            if runs(&self.engine, "inbox").await.len() >= count {
                break;
            }
            self.stage.world.clock.advance(Duration::from_millis(200));
            turn().await;
        }
        // Two rounds, in which everything is looked at again.
        for _ in 0..70 {
            self.stage.world.clock.advance(Duration::from_secs(1));
            turn().await;
        }
        let found = runs(&self.engine, "inbox").await;
        assert_eq!(found.len(), count, "{:?}", slots(&found));
        found
    }

    async fn stop(self) -> Stage {
        self.daemon.end(self.working).await;
        self.stage
    }
}

fn slots(runs: &[RunRecord]) -> Vec<String> {
    runs.iter().map(|run| run.slot.clone().unwrap_or_default()).collect()
}

fn paths(runs: &[RunRecord]) -> Vec<String> {
    runs.iter().map(|run| run.inputs.get("path").unwrap().to_text()).collect()
}

fn stage() -> Stage {
    Stage::new().read("test.one", |_, _| give(1))
}

#[tokio::test]
async fn a_new_file_fires_once_and_those_before_the_trigger_do_not() {
    let stage = stage();
    stage.put("inbox/old.csv", "old");
    let at = stage.watch(INBOX).await;
    at.until(0).await;
    at.stage.put("inbox/new.csv", "hello");
    at.stage.put("inbox/new.txt", "hello");
    let found = at.until(1).await;
    assert_eq!(
        found[0].inputs.to_string(),
        r#"{"path":"inbox/new.csv","name":"new.csv","size":5,"hash":"sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}"#
    );
    let slot = found[0].slot.clone().unwrap();
    assert!(slot.ends_with("@file:2cf24dba5fb0a30e26e83b2ac5b9e29e:inbox/new.csv"), "{slot}");
    // The old one counts once it is another.
    at.stage.put("inbox/old.csv", "changed");
    assert_eq!(paths(&at.until(2).await)[1], "inbox/old.csv");
    // Touched is not changed.
    let file = fs::File::options().append(true).open(at.stage.path("inbox/new.csv")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
    drop(file);
    at.until(2).await;
    at.stop().await;
}

#[tokio::test]
async fn a_file_that_is_still_written_waits_until_it_is_whole() {
    let at = stage().watch(&INBOX.replace("files: ", "settle: 10s, files: ")).await;
    for part in 1..=8 {
        at.stage.put("inbox/slow.csv", &"x".repeat(part * 100));
        for _ in 0..4 {
            at.stage.world.clock.advance(Duration::from_secs(1));
            turn().await;
        }
        assert!(runs(&at.engine, "inbox").await.is_empty(), "part {part}");
    }
    let found = at.until(1).await;
    assert_eq!(found[0].inputs.get("size").unwrap().to_text(), "800");
    at.stop().await;
}

#[tokio::test]
async fn a_name_that_a_file_gets_a_replacement_and_a_file_that_comes_back() {
    let at = stage().watch(INBOX).await;
    // Written beside it and renamed, as good programs do.
    at.stage.put("inbox/.a.csv.part", "one");
    fs::rename(at.stage.path("inbox/.a.csv.part"), at.stage.path("inbox/a.csv")).unwrap();
    at.until(1).await;
    at.stage.put("inbox/.a.csv.part", "two");
    fs::rename(at.stage.path("inbox/.a.csv.part"), at.stage.path("inbox/a.csv")).unwrap();
    at.until(2).await;
    // What comes back as it was has been there.
    fs::remove_file(at.stage.path("inbox/a.csv")).unwrap();
    at.until(2).await;
    at.stage.put("inbox/a.csv", "two");
    at.until(2).await;
    at.stage.put("inbox/a.csv", "three");
    at.until(3).await;
    // Another name is another file.
    fs::rename(at.stage.path("inbox/a.csv"), at.stage.path("inbox/b.csv")).unwrap();
    assert_eq!(paths(&at.until(4).await)[3], "inbox/b.csv");
    // A folder that comes, goes and comes again.
    at.stage.put("inbox/deep/er/c.csv", "c");
    at.until(5).await;
    fs::rename(at.stage.path("inbox/deep"), at.stage.path("elsewhere")).unwrap();
    at.until(5).await;
    fs::rename(at.stage.path("elsewhere"), at.stage.path("inbox/deep")).unwrap();
    at.until(5).await;
    at.stop().await;
}

#[tokio::test]
async fn what_came_while_nobody_looked_fires_once() {
    let at = stage().watch(INBOX).await;
    at.stage.put("inbox/a.csv", "a");
    at.until(1).await;
    let stage = at.stop().await;
    stage.put("inbox/b.csv", "b");
    stage.put("inbox/a.csv", "a, changed");
    stage.put("inbox/c.csv", "c");
    fs::remove_file(stage.path("inbox/c.csv")).unwrap();
    let at = stage.watch(INBOX).await;
    let found = at.until(3).await;
    assert_eq!(paths(&found).into_iter().collect::<BTreeSet<_>>().len(), 2);
    // Again and again.
    let mut stage = at.stop().await;
    for _ in 0..3 {
        let at = stage.watch(INBOX).await;
        at.until(3).await;
        stage = at.stop().await;
    }
}

#[tokio::test]
async fn existing_files_fire_where_the_trigger_says_so() {
    let stage = stage();
    stage.put("inbox/a.csv", "a");
    stage.put("inbox/b.csv", "b");
    let at = stage.watch(&INBOX.replace("files: ", "existing: true, files: ")).await;
    at.until(2).await;
    let stage = at.stop().await;
    let at = stage.watch(&INBOX.replace("files: ", "existing: true, files: ")).await;
    at.until(2).await;
    at.stop().await;
}

#[tokio::test]
async fn files_that_come_while_the_trigger_is_off_fire_when_it_is_on_again() {
    let at = stage().watch(INBOX).await;
    let store = at.engine.parts().store.clone();
    let trigger = store.schedules().await.unwrap().remove(0).trigger;
    store.switch_schedule("inbox", &trigger, true).await.unwrap();
    at.stage.world.clock.advance(Duration::from_secs(2));
    at.daemon.bell.ring();
    turn().await;
    at.stage.put("inbox/a.csv", "a");
    at.until(0).await;
    store.switch_schedule("inbox", &trigger, false).await.unwrap();
    at.daemon.bell.ring();
    at.until(1).await;
    at.stop().await;
}

#[tokio::test]
async fn thousands_of_files_fire_once_each_and_two_daemons_share_them() {
    let at = stage().watch(INBOX).await;
    let other = at.stage.engine().await;
    let second = at.stage.daemon(&other, &[("inbox", INBOX)]);
    let working = tokio::spawn(FileWatch::new(&second.scheduler).run());
    for number in 0..2_500 {
        at.stage.put(&format!("inbox/{}/{number}.csv", number % 7), &format!("file {number}"));
    }
    let found = at.until(2_500).await;
    assert_eq!(paths(&found).into_iter().collect::<BTreeSet<_>>().len(), 2_500);
    second.end(working).await;
    at.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_is_tried_again_when_the_pipeline_is_another() {
    let strict = INBOX.replace("size: { type: integer }", "size: { type: integer, maximum: 3 }");
    let at = stage().watch(&strict).await;
    at.stage.put("inbox/a.csv", "too long");
    at.stage.put("inbox/b.csv", "b");
    at.until(1).await;
    at.daemon.counted(r#"pipewright_triggers_total{kind="files",outcome="unfit"} 1"#);
    at.daemon.active.send_replace(at.stage.all(&[("inbox", INBOX)]));
    assert_eq!(paths(&at.until(2).await)[1], "inbox/a.csv");
    at.stop().await;
}

#[tokio::test]
async fn files_wait_for_room_in_the_bucket() {
    let at = stage().watch(&INBOX.replace("files: ", "max: 1, window: 1h, files: ")).await;
    for number in 0..4 {
        at.stage.put(&format!("inbox/{number}.csv"), &format!("{number}"));
    }
    let found = at.until(4).await;
    let mut starts: Vec<_> = found.iter().filter_map(|run| run.waiting_until).collect();
    starts.sort();
    let hour = Duration::from_secs(3_600);
    assert_eq!(starts, [starts[0], starts[0].plus(hour), starts[0].plus(hour.times(2))]);
    assert_eq!(found.iter().filter(|run| run.state == RunState::Queued).count(), 1);
    at.stop().await;
}

#[cfg(unix)]
#[tokio::test]
async fn links_within_the_project_count_and_others_do_not() {
    use std::os::unix::fs::symlink;
    let at = stage().watch(INBOX).await;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.csv"), "secret").unwrap();
    at.stage.put("data/real.csv", "real");
    fs::create_dir_all(at.stage.path("inbox/x")).unwrap();
    symlink(at.stage.path("data/real.csv"), at.stage.path("inbox/link.csv")).unwrap();
    symlink(outside.path().join("secret.csv"), at.stage.path("inbox/secret.csv")).unwrap();
    symlink(outside.path(), at.stage.path("inbox/out")).unwrap();
    symlink(at.stage.path("inbox"), at.stage.path("inbox/circle")).unwrap();
    assert_eq!(paths(&at.until(1).await), ["inbox/link.csv"]);
    // What it leads to changes, and then it leads elsewhere.
    at.stage.put("data/real.csv", "changed");
    at.until(2).await;
    at.stage.put("data/other.csv", "other");
    symlink(at.stage.path("data/other.csv"), at.stage.path("inbox/.next")).unwrap();
    fs::rename(at.stage.path("inbox/.next"), at.stage.path("inbox/link.csv")).unwrap();
    at.until(3).await;
    at.stop().await;
}
