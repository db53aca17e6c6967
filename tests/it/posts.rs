//! The publishing calendar and lessons as people meet them: from the command line.

use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::model::parse_json;
use pipewright::store::Direction;
use pipewright::store::LessonChanges;
use pipewright::store::LessonRecord;
use pipewright::store::OpenOptions;
use pipewright::store::Store;
use rust_decimal::Decimal;

use crate::daemon::Daemon;
use crate::support::shell::Ended;
use crate::support::shell::Shell;

/// Compares with the snapshot of this name; ids, times and widths differ from run to run.
macro_rules! assert_shown {
    ($name:literal, $ended:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false, filters => vec![
            (r"[0-9A-HJKMNP-TV-Z]{26}", "[ID]"),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[TIME]"),
            (r"in \d+h\d+m", "in [LENGTH]"),
            (r"\d+(ms|us)(\d+us)?\b", "[TOOK]"),
            (r"(\S) {2,}", "$1  "),
        ] }, { insta::assert_snapshot!($name, $ended.shown()) });
    };
}

const PUBLISH: &str = r#"name: publish
inputs: { at: { type: string } }
steps:
  hold:
    uses: posts.hold
    with:
      connection: x
      connector: x
      post: { text: "Tea is ready." }
      at: "{{ inputs.at }}"
      labels: { format: post, style: question }
      generations: [G1]
    until: { holds: "{{ output.state != 'rescheduled' }}", limit: 100 }
  publish:
    uses: file.write
    when: "{{ steps.hold.output.state == 'due' }}"
    with: { path: out/post.txt, content: "{{ steps.hold.output.post.text }}" }
  mark:
    uses: posts.mark
    when: "{{ steps.publish.state == 'succeeded' }}"
    with: { id: "{{ steps.hold.output.id }}", output: { id: r1, url: "https://x.example/r1" } }
  measured:
    uses: posts.measured
    needs: [mark]
    when: "{{ steps.publish.state == 'succeeded' }}"
    with: { connection: x, remote_id: r1, metrics: { impressions: 1000, likes: 30, reach: null } }
outputs: { state: "{{ steps.hold.output.state }}" }
"#;

/// A connector that needs no credentials.
const MINI: &str = "connector: mini\nbase_url: { api: https://mini.example }\noperations:\n  get: { effect: read, request: { get: / } }\n";

fn project() -> Shell {
    let shell = Shell::project();
    shell.file("pipelines/publish.yaml", PUBLISH);
    shell.file("connectors/mini.yaml", MINI).file("pipewright.yaml", "connections: { x: { connector: mini } }\n");
    shell
}

#[track_caller]
fn says(ended: &Ended, code: i32, text: &str) {
    assert!(ended.code == code && ended.shown().contains(text), "expected {code} and `{text}`:\n{}", ended.shown());
}

/// Starts a run that sleeps over its post, and returns the post's id.
fn scheduled(shell: &Shell) -> String {
    let parked = shell.run(&["run", "publish", "--detach", "-i", "at=2999-01-01T09:00:00Z"]);
    says(&parked, 3, "waits until 2999-01-01T09:00:00Z to publish over `x`");
    let listed = shell.run(&["posts", "list", "--json"]).out;
    let (_, rest) = listed.split_once("\"post\":\"").unwrap_or_else(|| panic!("no post is listed: {listed}"));
    rest.split('"').next().unwrap().to_owned()
}

#[test]
fn a_person_finds_moves_and_cancels_a_post() {
    let shell = project();
    says(&shell.run(&["posts", "list"]), 0, "no post waits to be published");
    let id = scheduled(&shell);
    assert_shown!("posts_list", shell.run(&["posts", "list"]));
    assert_shown!("posts_show", shell.run(&["posts", "show", id.get(..20).unwrap()]));
    // What cannot be meant changes nothing.
    says(&shell.run(&["posts", "cancel", "ZZZ"]), 2, "there is no post `ZZZ`");
    says(&shell.run(&["posts", "reschedule", &id, "soon"]), 2, "expected a time such as `2026-12-01T09:00`");
    says(&shell.run(&["posts", "reschedule", &id, "+2h", "--timezone", "Mars/Base"]), 2, "`Mars/Base` does not exist");
    let gap = ["posts", "reschedule", &id, "2998-03-25T02:30", "--timezone", "Europe/Berlin"];
    says(&shell.run(&gap), 2, "does not exist in Europe/Berlin: the clock jumps over it");
    let moved = shell.run(&["posts", "reschedule", &id, "2998-12-01T09:00", "--timezone", "Europe/Berlin"]);
    says(&moved, 0, "rescheduled to 2998-12-01T08:00:00Z (2998-12-01 09:00 Europe/Berlin), in ");
    says(&moved, 0, &format!("`pipewright runs resume {}`", shell.last()));
    says(&shell.run(&["posts", "show", &id, "--json"]), 0, "\"due\":\"2998-12-01T08:00:00Z\"");
    says(&shell.run(&["posts", "cancel", &id]), 0, "canceled");
    says(&shell.run(&["posts", "cancel", &id]), 2, "it is canceled already");
    says(&shell.run(&["runs", "resume", "last"]), 0, "\"state\": \"canceled\"");
    says(&shell.run(&["replay", "last"]), 0, "the same");
    says(&shell.run(&["posts", "list"]), 0, "no post waits to be published");
    says(&shell.run(&["posts", "list", "--all"]), 0, "canceled");
    assert!(!shell.path().join("out/post.txt").exists());
}

#[test]
fn a_post_that_is_moved_to_now_is_published_and_then_refuses_changes() {
    let shell = project();
    let id = scheduled(&shell);
    says(&shell.run(&["posts", "reschedule", &id, "2001-01-01T09:00"]), 0, "it is published at once");
    says(&shell.run(&["runs", "resume", "last"]), 0, "\"state\": \"due\"");
    assert_eq!(std::fs::read_to_string(shell.path().join("out/post.txt")).unwrap(), "Tea is ready.");
    says(&shell.run(&["replay", "last"]), 0, "the same");
    assert_shown!("posts_show_published", shell.run(&["posts", "show", &id]));
    assert_shown!("posts_list_published", shell.run(&["posts", "list", "--state", "published", "--connection", "x"]));
    says(&shell.run(&["posts", "cancel", &id]), 2, "is published already; delete it where it is");
    says(&shell.run(&["posts", "reschedule", &id, "+2h"]), 2, "is published already; delete it where it is");
    says(&shell.run(&["posts", "list", "--state", "gone"]), 2, "expected one of scheduled, publishing, published");
    says(&shell.run(&["posts", "list", "--all", "--json"]), 0, "\"impressions\":1000,\"reach\":null,\"likes\":30");
}

#[test]
fn a_post_whose_run_has_ended_is_told_of_as_it_is() {
    let shell = project();
    let id = scheduled(&shell);
    says(&shell.run(&["runs", "cancel", "last"]), 0, "canceled   hold");
    let listed = shell.run(&["posts", "list"]);
    says(&listed, 0, "stranded");
    says(&listed, 0, "was canceled");
    says(&shell.run(&["posts", "reschedule", &id, "+2h"]), 2, "was canceled, so nobody would publish it");
    says(&shell.run(&["posts", "cancel", &id]), 0, "canceled");
    says(&shell.run(&["posts", "list"]), 0, "no post waits");
}

#[test]
fn a_time_is_read_on_the_clocks_of_the_schedule() {
    let shell = project();
    let zoned = PUBLISH.replace("steps:\n", "triggers: [ { cron: \"0 6 1 1 *\", timezone: Europe/Berlin, inputs: { at: \"2999-01-01T09:00:00Z\" } } ]\nsteps:\n");
    shell.file("pipelines/publish.yaml", &zoned);
    let id = scheduled(&shell);
    let moved = shell.run(&["posts", "reschedule", &id, "2998-12-01T09:00"]);
    says(
        &moved,
        0,
        "rescheduled to 2998-12-01T08:00:00Z (2998-12-01 09:00 Europe/Berlin, the zone of the schedule of `publish`), in ",
    );
    let twice = shell.run(&["posts", "reschedule", &id, "2998-10-28T02:30"]);
    says(&twice, 2, "is there twice in Europe/Berlin: say `2998-10-28T02:30:00+02` or `2998-10-28T02:30:00+01`");
    let utc = shell.run(&["posts", "reschedule", &id, "2998-10-28T02:30:00+01"]);
    says(&utc, 0, "rescheduled to 2998-10-28T01:30:00Z");
    // Without a zone of its own, the project's counts.
    shell.file("pipelines/publish.yaml", PUBLISH);
    shell.file(
        "pipewright.yaml",
        "connections: { x: { connector: mini } }\nlimits: { spend: { timezone: Asia/Tokyo } }\n",
    );
    let moved = shell.run(&["posts", "reschedule", &id, "2998-12-01T09:00"]);
    says(
        &moved,
        0,
        "rescheduled to 2998-12-01T00:00:00Z (2998-12-01 09:00 Asia/Tokyo, where the project's days begin)",
    );
}

/// Waits until a post has a state; half a minute at most.
fn until(shell: &Shell, id: &str, state: &str) {
    for _ in 0..300 {
        if shell.run(&["posts", "show", id, "--json"]).out.contains(&format!("\"state\":\"{state}\"")) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{}", shell.run(&["posts", "show", id]).shown());
}

#[test]
fn a_running_daemon_keeps_to_a_calendar_that_others_change() {
    let shell = project();
    let publish = PUBLISH.replace("path: out/post.txt", "path: \"out/{{ run.id }}.txt\"");
    shell.file("pipelines/publish.yaml", &publish);
    let daemon = Daemon::start(&shell);
    let held = |at: &str| {
        let parked = shell.run(&["run", "publish", "--detach", "-i", &format!("at={at}")]);
        assert_eq!(parked.code, 3, "{}", parked.shown());
        let listed = shell.run(&["posts", "list", "--json"]).out;
        let run = shell.last();
        let mut posts = listed.lines().map(|line| parse_json(line).unwrap());
        let post = posts.find(|post| post.get("run").map(Value::to_text) == Some(run.clone())).unwrap();
        (post.get("post").unwrap().to_text(), run)
    };
    let there = |run: &str| shell.path().join(format!("out/{run}.txt")).exists();
    let (later, later_run) = held("2999-01-01T09:00:00Z");
    let (sooner, sooner_run) = held("2999-01-01T09:00:00Z");
    let (never, never_run) = held("2999-01-01T09:00:00Z");
    // A time that nearly comes is given up for a later one.
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(12);
    says(&shell.run(&["posts", "reschedule", &later, &soon.to_string()]), 0, "the daemon goes on with run");
    says(&shell.run(&["posts", "reschedule", &later, "2999-02-01T09:00"]), 0, "the daemon goes on with run");
    says(&shell.run(&["posts", "cancel", &never]), 0, "canceled");
    says(&shell.run(&["posts", "reschedule", &sooner, "+1s"]), 0, "rescheduled to");
    until(&shell, &sooner, "published");
    assert!(there(&sooner_run));
    // A canceled post ends its run, which has succeeded in not publishing it.
    until(&shell, &never, "canceled");
    let state = |run: &str| {
        let shown = shell.run(&["runs", "show", run, "--json"]).out;
        // The last event of one that has ended.
        let last = shown.lines().rfind(|line| !line.is_empty()).unwrap_or("{}");
        parse_json(last).unwrap().get("state").map(Value::to_text)
    };
    for _ in 0..300 {
        if state(&never_run).as_deref() == Some("succeeded") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(state(&never_run).as_deref(), Some("succeeded"));
    assert!(!there(&never_run));
    // Its first time passes, and nothing is published.
    while jiff::Timestamp::now() < soon + jiff::SignedDuration::from_secs(1) {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    says(&shell.run(&["posts", "show", &later, "--json"]), 0, "\"state\":\"scheduled\"");
    assert!(!there(&later_run));
    assert_eq!(daemon.end(), 0);
}

fn lesson(number: u32, text: &str, feature: Option<&str>) -> LessonRecord {
    // Long ago for the weight to be always the same.
    let at = Timestamp(1_600_000_000_000_000);
    LessonRecord {
        id: format!("01EHX8VW00000000000000000{number}"),
        at,
        text: text.to_owned(),
        labels: [("platform".to_owned(), "x".to_owned())].into(),
        feature: feature.map(str::to_owned),
        direction: feature.map(|_| Direction::Up),
        weight: Decimal::new(5, 1),
        evidence: vec!["01EHX8VW0000000000000000P1".to_owned(), "01EHX8VW0000000000000000P2".to_owned()],
        generation: Some("01EHX8VW0000000000000000G1".to_owned()),
        confirmed_at: at,
        retired: None,
    }
}

#[test]
fn lessons_are_listed_retired_and_restored() {
    let shell = Shell::project();
    says(&shell.run(&["lessons", "list"]), 0, "nothing was learned yet");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("sqlite://{}", shell.path().join(".pipewright/state.db").display());
        let store = Store::open(&url, OpenOptions::default()).await.unwrap();
        let new = vec![lesson(1, "Ask questions.", Some("style=question")), lesson(2, "Be brief.", None)];
        store.apply_lessons(&LessonChanges { new, ..LessonChanges::default() }).await.unwrap();
        store.close().await.unwrap();
    });
    assert_shown!("lessons_list", shell.run(&["lessons", "list"]));
    assert_shown!("lessons_show", shell.run(&["lessons", "show", &lesson(1, "", None).id]));
    says(&shell.run(&["lessons", "retire", "01EHX8VW"]), 2, "several lessons begin with `01EHX8VW`");
    let id = lesson(1, "", None).id;
    says(&shell.run(&["lessons", "retire", &id, "--reason", "it is spring now"]), 0, "retired; it counts no more");
    says(&shell.run(&["lessons", "retire", &id]), 0, "it is retired already");
    let listed = shell.run(&["lessons", "list", "--json"]).out;
    assert!(!listed.contains("Ask questions.") && listed.contains("Be brief."), "{listed}");
    says(&shell.run(&["lessons", "show", &id]), 0, "by `ada`: it is spring now");
    says(&shell.run(&["lessons", "list", "--all"]), 0, "retired");
    says(&shell.run(&["lessons", "restore", &id]), 0, "restored; it counts from now on");
    says(&shell.run(&["lessons", "restore", &id]), 0, "it counts already");
    // What counts again weighs as if it were confirmed now.
    says(&shell.run(&["lessons", "list"]), 0, "0.5");
}
