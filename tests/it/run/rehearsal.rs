//! Runs against stand-ins that go wrong, on virtual time: what arrived is counted at the stand-in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use pipewright::connector::auth::custody::Custody;
use pipewright::connector::connection::Connection;
use pipewright::connector::library::Library;
use pipewright::connector::manifest::Manifest;
use pipewright::connector::runtime::Connections;
use pipewright::connector::runtime::Runtime;
use pipewright::engine::Engine;
use pipewright::engine::ExecuteOptions;
use pipewright::engine::Execution;
use pipewright::engine::plan::Bond;
use pipewright::model::Duration;
use pipewright::model::RunId;
use pipewright::model::RunState;
use pipewright::model::Value;
use pipewright::node::Services;
use pipewright::pipeline::Pipeline;
use pipewright::sandbox::fault::Faults;
use pipewright::sandbox::transport::Here;
use pipewright::sandbox::world::World as Sandbox;

use super::Stage;

#[derive(Debug)]
struct OfSandbox(Arc<Sandbox>);

impl Connections for OfSandbox {
    fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
        self.0.connection(name, manifest)
    }

    fn connector(&self, name: &str) -> Option<Arc<str>> {
        self.0.connector(name)
    }
}

impl Stage {
    /// Has stand-ins answer for every connector, with these faults.
    pub(super) async fn sandboxed(mut self, faults: &[&str], seed: u64) -> (Self, Arc<Sandbox>) {
        let library = Library::open(self.folder.path());
        let faults = Faults::new(faults.iter().map(|text| text.parse().unwrap()));
        let sandbox = Arc::new(Sandbox::new(library, Vec::new(), self.system.clone(), faults, seed));
        self.http = Arc::new(Here(sandbox.clone()));
        let store = self.engine().await.parts().store.clone();
        let custody = Custody { store, http: self.http.clone(), system: self.system.clone() };
        let runtime = Runtime::new(Arc::new(OfSandbox(sandbox.clone())));
        let runtime = runtime.with_library(sandbox.library().clone()).with_custody(custody);
        self.services = Services::default().with(Arc::new(runtime));
        (self, sandbox)
    }

    /// Executes a run while the clock goes a hundred times as fast as the machine's.
    pub(super) async fn hasten(&self, text: &str) -> super::Played {
        let engine = self.engine().await;
        let pipeline = self.pipeline(text);
        let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
        self.hasten_run(&engine, run, &pipeline, None).await
    }

    /// Executes a run, which a plan may bind, while the clock goes a hundred times as fast as the machine's.
    pub(super) async fn hasten_run(
        &self,
        engine: &Engine,
        run: RunId,
        pipeline: &Arc<Pipeline>,
        bond: Option<Arc<Bond>>,
    ) -> super::Played {
        let ended = Arc::new(AtomicBool::new(false));
        let ticking = std::thread::spawn({
            let (clock, ended) = (self.world.clock.clone(), ended.clone());
            move || {
                while !ended.load(Ordering::Relaxed) {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    clock.advance(Duration::from_millis(100));
                }
            }
        });
        let execution = loop {
            let options = ExecuteOptions { foreground: true, bond: bond.clone(), ..ExecuteOptions::default() };
            match engine.execute(run, pipeline.clone(), options).await.unwrap() {
                Execution::Waiting { until: Some(until), .. } => self.world.clock.advance_to(until),
                ended => break ended,
            }
        };
        ended.store(true, Ordering::Relaxed);
        ticking.join().unwrap();
        self.played(engine, run, execution).await
    }
}

/// Counts the rows of a collection by a member.
fn counted(sandbox: &Sandbox, stand: &str, collection: &str, member: &str) -> BTreeMap<String, usize> {
    let state = sandbox.seat(stand).unwrap().state();
    let mut counts = BTreeMap::new();
    for row in state.get(collection).and_then(Value::as_list).unwrap_or_default() {
        *counts.entry(row.get(member).map(Value::to_text).unwrap_or_default()).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn no_post_is_made_twice_and_none_is_lost_whatever_goes_wrong_on_the_way() {
    let faults = [
        "x.create_post:429=0.15",
        "x.create_post:503=0.15",
        "x.create_post:drop-after-send=0.15",
        "x.create_post:drop-before-send=0.15",
        "refuse=0.05",
    ];
    let pipeline = r#"steps:
  post:
    for_each: "{{ range(12) | list }}"
    max_parallel: 4
    retry: { on: [throttled, unavailable, timeout, locked], attempts: 12, backoff: exponential, delay: 2s, max_delay: 30s }
    uses: x.create_post
    with: { connection: x, text: "note {{ item }}" }
outputs: { ids: "{{ steps.post.output | map(attribute='id') | list | unique | list | length }}" }
"#;
    let (mut lost, mut refused) = (0, 0);
    for seed in 0..6 {
        let (stage, sandbox) = Stage::new().sandboxed(&faults, seed).await;
        let played = stage.hasten(pipeline).await;
        assert!(
            matches!(played.execution, Execution::Finished { state: RunState::Succeeded, .. }),
            "seed {seed}: {:?}\n{}",
            played.execution,
            played.told()
        );
        assert_eq!(played.outputs(), r#"{"ids":12}"#, "seed {seed}");
        let made = counted(&sandbox, "x", "posts", "sent");
        for number in 0..12 {
            assert_eq!(made.get(&format!("note {number}")), Some(&1), "seed {seed}: {made:?}");
        }
        let seen = sandbox.seat("x").unwrap().received();
        lost += seen.iter().filter(|seen| seen.method == "POST" && seen.status.is_none()).count();
        refused += seen.iter().filter(|seen| matches!(seen.status, Some(429 | 503))).count();
    }
    // The faults did come.
    assert!(lost > 3 && refused > 10, "{lost} {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_window_is_waited_for_and_nothing_is_sent_before_it_opens() {
    let (stage, sandbox) = Stage::new().sandboxed(&[], 1).await;
    let pipeline = r#"steps:
  tell:
    for_each: "{{ range(12) | list }}"
    retry: { attempts: 10, on: [throttled] }
    uses: discord.send
    with: { connection: discord, text: "note {{ item }}" }
"#;
    let played = stage.hasten(pipeline).await;
    assert_eq!(played.outputs(), "{}");
    assert_eq!(counted(&sandbox, "discord", "messages", "content").values().sum::<usize>(), 12);
    // Five in two seconds: it is learned from the answers, so that hardly any request is refused.
    let seen = sandbox.seat("discord").unwrap().received();
    let refused = seen.iter().filter(|seen| seen.status == Some(429)).count();
    assert!(refused <= 12, "{refused} of {} were refused", seen.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_expire_are_renewed_on_the_way() {
    let (stage, sandbox) = Stage::new().sandboxed(&["expire-tokens=20s"], 1).await;
    let pipeline = r#"steps:
  first: { uses: x.me, with: { connection: x } }
  rest: { uses: time.wait, needs: [first], with: { for: 30s } }
  second: { uses: x.me, needs: [rest], with: { connection: x } }
outputs: { name: "{{ steps.second.output.username }}" }
"#;
    assert_eq!(stage.hasten(pipeline).await.outputs(), r#"{"name":"acmedata"}"#);
    let seen = sandbox.seat("x").unwrap().received();
    let tokens = seen.iter().filter(|seen| seen.path.ends_with("/oauth2/token")).count();
    assert!(tokens >= 2, "{tokens} of {}", seen.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sandbox_is_another_world_though_the_store_is_the_same() {
    let pipeline = r#"steps:
  make: { uses: odoo.create, with: { connection: odoo, model: res.partner, key: ref, values: { name: Azure Interior, ref: A-1 } } }
outputs: { ok: "{{ steps.make.output is defined }}" }
"#;
    let mut stage = Stage::new();
    for seed in 0..2 {
        // Each sandbox gives the same numbers to what is made in it, and each time the first answer is lost.
        let (again, sandbox) = stage.sandboxed(&["odoo:drop-after-send=#1"], seed).await;
        stage = again;
        stage.engine().await.parts().store.enter(sandbox.id()).await.unwrap();
        assert_eq!(stage.hasten(pipeline).await.outputs(), r#"{"ok":true}"#);
        assert_eq!(counted(&sandbox, "odoo", "res.partner", "ref").get("A-1"), Some(&1), "sandbox {seed}");
    }
}
