//! Uploads to YouTube's stand-in that go wrong at each of their requests, on virtual time: one video comes of each.

use std::sync::Arc;
use std::time::Duration as Real;

use pipewright::engine::Execution;
use pipewright::model::RunState;
use pipewright::model::Value;
use pipewright::model::parse_json;
use pipewright::sandbox::world::World as Sandbox;

use super::Played;
use super::Stage;

/// Two whole chunks of the sandbox and the rest.
const SIZE: usize = 2 * 1_048_576 + 300_000;
/// One opens the session, one asks it, three bring the video.
const REQUESTS: u64 = 5;
/// No rehearsal takes so long, of the machine's time.
const BOUND: Real = Real::from_secs(120);

const PIPELINE: &str = r#"steps:
  file: { uses: file.read, with: { path: tour.mp4, as: blob } }
  publish:
    uses: youtube.publish
    retry: { on: [throttled, unavailable, timeout, locked], attempts: 12, delay: 2s, max_delay: 1m }
    with: { connection: youtube, title: Release 2.4 tour, text: What is new., media: [ { file: "{{ steps.file.output.content }}" } ], thread: [Notes, More] }
outputs: { id: "{{ steps.publish.output.id }}", ids: "{{ steps.publish.output.ids | length }}", visibility: "{{ steps.publish.output.visibility }}" }
"#;

/// Publishes a video while these faults are at work.
async fn published(faults: &[&str], seed: u64, switches: Option<&str>) -> (Played, Arc<Sandbox>) {
    let (stage, sandbox) = Stage::new().sandboxed(faults, seed).await;
    let bytes: Vec<u8> = (0..SIZE).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect();
    std::fs::write(stage.folder.path().join("tour.mp4"), bytes).unwrap();
    if let Some(switches) = switches {
        let rows = parse_json(switches).unwrap();
        sandbox.seat("youtube").unwrap().load("switches", rows.as_list().unwrap()).unwrap();
    }
    let played = tokio::time::timeout(BOUND, stage.hasten(PIPELINE)).await;
    (played.unwrap_or_else(|_| panic!("{faults:?}: the run does not end")), sandbox)
}

/// Lists the ids of the videos that have come of uploads.
fn videos(sandbox: &Sandbox) -> Vec<String> {
    let state = sandbox.seat("youtube").unwrap().state();
    let rows = state.get("videos").and_then(Value::as_list).unwrap().to_vec();
    let is_new = |row: &&Value| row.get("upload").is_some_and(|upload| !upload.is_null());
    let whole = rows.iter().filter(is_new).filter(|row| row.get("stored") == row.get("size"));
    whole.map(|row| row.get("id").unwrap().to_text()).collect()
}

fn asked(sandbox: &Sandbox, operation: &str) -> usize {
    let received = sandbox.seat("youtube").unwrap().received();
    received.iter().filter(|seen| seen.operation.as_deref() == Some(operation)).count()
}

/// Sees that the run has published one video, which it knows.
fn is_one(played: &Played, sandbox: &Sandbox, what: &str) {
    let ended = matches!(played.execution, Execution::Finished { state: RunState::Succeeded, .. });
    assert!(ended, "{what}: {:?}\n{}", played.execution, played.told());
    let made = videos(sandbox);
    assert_eq!(made.len(), 1, "{what}: {made:?}");
    assert_eq!(played.outputs(), format!(r#"{{"id":"{}","ids":3,"visibility":"public"}}"#, made[0]), "{what}");
    let state = sandbox.seat("youtube").unwrap().state();
    assert_eq!(state.get("comments").and_then(Value::as_list).unwrap().len(), 2, "{what}");
}

/// Has a fault strike each request of an upload in turn, and sees that it did.
async fn at_every_request(kind: &str) {
    let mut struck = 0;
    for number in 1..=REQUESTS {
        let fault = match number {
            1 => format!("youtube.start_upload:{kind}=#1"),
            _ => format!("youtube.put_chunk:{kind}=#{}", number - 1),
        };
        let (played, sandbox) = published(&[&fault], number, None).await;
        is_one(&played, &sandbox, &fault);
        // Trouble within a session is settled within it.
        assert!(number == 1 || asked(&sandbox, "start_upload") == 1, "{fault}");
        struck += sandbox.struck().iter().map(|(_, struck)| struck).sum::<u64>();
    }
    assert_eq!(struck, REQUESTS, "{kind}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_at_any_request_of_an_upload_leaves_one_video() {
    at_every_request("drop-after-send").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_arrive_leaves_one_video() {
    at_every_request("drop-before-send").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_busy_midway_leaves_one_video() {
    at_every_request("503").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_midway_is_renewed_and_leaves_one_video() {
    at_every_request("expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_without_trouble_asks_once_and_sends_each_chunk_once() {
    let (played, sandbox) = published(&[], 1, None).await;
    is_one(&played, &sandbox, "no fault");
    assert_eq!((asked(&sandbox, "start_upload"), asked(&sandbox, "put_chunk")), (1, 4));
    // A session's URI is as good as a token: it stands in no journal in clear.
    let told = format!("{:?}", played.journal);
    let state = sandbox.seat("youtube").unwrap().state();
    let rows = state.get("videos").and_then(Value::as_list).unwrap();
    let upload = rows.iter().find_map(|row| row.get("upload").filter(|upload| !upload.is_null())).unwrap().to_text();
    assert!(!told.contains(&upload), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_taken_in_part_are_gone_on_with_where_they_were_cut() {
    for accepts in [0, 262_144, 524_288] {
        let switches = format!(r#"[{{"audited":true,"accepts":{accepts},"processing":2,"duplicates":true}}]"#);
        let (played, sandbox) = published(&[], 1, Some(&switches)).await;
        is_one(&played, &sandbox, &switches);
        assert!(asked(&sandbox, "put_chunk") > 4, "{accepts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_gone_is_replaced_by_another() {
    for fault in ["youtube.put_chunk:410=#1", "youtube.put_chunk:404=#3", "youtube.put_chunk:410=#4"] {
        let (played, sandbox) = published(&[fault], 1, None).await;
        is_one(&played, &sandbox, fault);
        assert_eq!(asked(&sandbox, "start_upload"), 2, "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_whose_last_answer_is_lost_with_its_session_is_found_among_the_uploads() {
    let faults = ["youtube.put_chunk:drop-after-send=#4", "youtube.put_chunk:404=#5"];
    let (played, sandbox) = published(&faults, 1, None).await;
    is_one(&played, &sandbox, "the session is gone with the last answer");
    assert_eq!((asked(&sandbox, "start_upload"), asked(&sandbox, "uploaded")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn much_that_goes_wrong_at_once_leaves_one_video_and_its_comments() {
    // A refresh token whose answer is lost needs a person; all else is the connector's to settle.
    let faults = [
        "youtube.put_chunk:503=0.15",
        "youtube.put_chunk:drop-after-send=0.1",
        "youtube.put_chunk:drop-before-send=0.05",
        "youtube.put_chunk:expired=0.2",
        "youtube.start_upload:drop-after-send=0.3",
        "youtube.comment:drop-after-send=0.3",
        "youtube.reply:drop-before-send=0.3",
        "youtube.processing:503=0.3",
    ];
    let mut trouble = 0;
    for seed in 0..4 {
        let switches = r#"[{"audited":true,"accepts":262144,"processing":20,"duplicates":true}]"#;
        let (played, sandbox) = published(&faults, seed, Some(switches)).await;
        is_one(&played, &sandbox, &format!("seed {seed}"));
        trouble += sandbox.struck().iter().map(|(_, struck)| struck).sum::<u64>();
    }
    assert!(trouble > 6, "{trouble}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_uploaded_before_is_refused_and_what_is_not_audited_stays_private() {
    let (stage, sandbox) = Stage::new().sandboxed(&[], 1).await;
    std::fs::write(stage.folder.path().join("tour.mp4"), b"a short film").unwrap();
    let pipeline = r#"steps:
  file: { uses: file.read, with: { path: tour.mp4, as: blob } }
  first: { uses: youtube.publish, with: { connection: youtube, title: one, media: [ { file: "{{ steps.file.output.content }}" } ] } }
  again: { uses: youtube.publish, needs: [first], on_error: continue, with: { connection: youtube, title: two, media: [ { file: "{{ steps.file.output.content }}" } ] } }
  scheduled: { uses: youtube.publish, needs: [again], with: { connection: youtube, title: three, publish_at: "2030-01-01T00:00:00Z", wait_processed: false, media: [ { file: "{{ steps.file.output.content }}" } ] } }
outputs: { first: "{{ steps.first.output.visibility }}", again: "{{ steps.again.error.message }}", scheduled: "{{ steps.scheduled.output.visibility }}" }
"#;
    let rows = parse_json(r#"[{"audited":false,"accepts":null,"processing":2,"duplicates":true}]"#).unwrap();
    sandbox.seat("youtube").unwrap().load("switches", rows.as_list().unwrap()).unwrap();
    let played = tokio::time::timeout(BOUND, stage.hasten(pipeline)).await.unwrap();
    let outputs = played.outputs();
    assert!(outputs.contains(r#""first":"private""#) && outputs.contains(r#""scheduled":"private""#), "{outputs}");
    assert!(outputs.contains("refuses video") && outputs.contains("duplicate"), "{outputs}");
}
