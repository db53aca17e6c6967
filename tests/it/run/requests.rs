//! `http.request` on the runtime of the connectors: it waits where they wait, and is recorded as they are.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use pipewright::connector::connection::Connection;
use pipewright::connector::manifest::Manifest;
use pipewright::connector::runtime::Connections;
use pipewright::connector::runtime::Runtime;
use pipewright::engine::ExecuteOptions;
use pipewright::model::RunEvent;
use pipewright::model::Value;
use pipewright::node::Services;
use pipewright::system::Clock;

use super::Stage;
use crate::support::server::Reply;
use crate::support::server::Server;
use crate::support::shell::Shell;

#[derive(Debug)]
struct To(String);

impl Connections for To {
    fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
        let settings = Value::map([("base_url", Value::from(self.0.as_str()))]);
        Connection::make(name, manifest, settings, &Value::Null, true)
    }
}

fn stage(server: &Server) -> Stage {
    let mut stage = Stage::new();
    stage.services = Services::default().with(Arc::new(Runtime::new(Arc::new(To(server.url.clone())))));
    stage
}

#[tokio::test]
async fn a_refusal_pauses_all_requests_to_the_host_until_its_time() {
    let refused = AtomicUsize::new(0);
    let server = Server::start(move |_| match refused.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::json(429, "{}").with_header("Retry-After", "90"),
        _ => Reply::json(200, "{}"),
    });
    let url = &server.url;
    let text = format!(
        "steps:\n  a: {{ uses: http.request, on_error: continue, with: {{ url: \"{url}/a\" }} }}\n  b: {{ needs: [a], retry: {{ attempts: 1 }}, uses: http.request, with: {{ method: POST, url: \"{url}/b\" }} }}\n"
    );
    let stage = stage(&server);
    let started = stage.world.clock.now();
    let played = stage.play(&text).await;
    played.outputs();
    let reasons: Vec<_> = played
        .journal
        .iter()
        .filter_map(|event| match event {
            RunEvent::Failed { error, retry_at: Some(_), .. } => Some(error.message.clone()),
            _ => None,
        })
        .collect();
    let host = url.trim_start_matches("http://");
    assert_eq!(reasons, [format!("`http.request` to `{host}` is paused: the system answered 429")]);
    assert!(stage.world.clock.now().since(started).micros() >= 90_000_000);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_host_that_breaks_down_is_left_alone_by_requests_and_connectors_alike() {
    let server = Server::start(|_| Reply::json(500, "{}"));
    let stage = stage(&server);
    let folder = stage.folder.path().join("connectors");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(
        folder.join("desk.yaml"),
        "connector: desk\nbase_url: { api: \"{{ config.base_url }}\" }\noperations:\n  get: { effect: read, request: { get: /x } }\n",
    )
    .unwrap();
    let url = &server.url;
    let text = format!(
        "steps:\n  a: {{ for_each: [1, 2, 3, 4, 5], max_parallel: 1, on_error: continue, retry: {{ attempts: 1 }}, uses: http.request, with: {{ url: \"{url}/a\" }} }}\n  b: {{ needs: [a], on_error: continue, retry: {{ attempts: 1 }}, uses: http.request, with: {{ url: \"{url}/b\" }} }}\n  c: {{ needs: [b], retry: {{ attempts: 1 }}, uses: desk.get }}\n"
    );
    let failure = stage.play(&text).await.failure();
    assert!(failure.contains("has failed several times in a row and is left alone for a while"), "{failure}");
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn what_a_request_sent_and_got_is_recorded_without_its_secrets() {
    let server = Server::start(|_| Reply::json(200, r#"{"echo":"hunter22"}"#));
    let stage = stage(&server);
    let engine = stage.engine().await;
    let url = server.url.replace("http://", "http://anna:geheim@");
    let text = format!(
        "inputs: {{ key: {{ type: secret }} }}\nsteps:\n  a: {{ uses: http.request, with: {{ url: \"{url}/a\", query: {{ q: open, key: \"{{{{ inputs.key }}}}\" }}, headers: {{ X-Key: \"{{{{ inputs.key }}}}\", Authorization: Basic abcd }} }} }}\n"
    );
    let pipeline = stage.pipeline(&text);
    let inputs = Value::map([("key", Value::from("hunter22").tainted())]);
    let run = engine.start(&pipeline, inputs).await.unwrap();
    stage.resume(&engine, run, &pipeline, ExecuteOptions::default()).await.outputs();
    let wire = format!("{:?}", engine.parts().store.wire(run).await.unwrap());
    assert!(wire.contains("/a?q=open&key=***") && wire.contains("echo"), "{wire}");
    for secret in ["hunter22", "abcd", "geheim"] {
        assert!(!wire.contains(secret), "{wire}");
    }
}

#[test]
fn a_pause_is_kept_by_the_program_over_restarts() {
    let server = Server::start(|_| Reply::json(429, "{}").with_header("Retry-After", "90"));
    let shell = Shell::project();
    let step = format!(
        "steps: {{ a: {{ uses: http.request, retry: {{ attempts: 1 }}, with: {{ url: \"{}/a\" }} }} }}\n",
        server.url
    );
    shell.file("pipelines/ask.yaml", &step);
    assert_eq!(shell.run(&["run", "ask"]).code, 1);
    let waits = shell.run(&["run", "ask", "--detach"]);
    assert!(waits.code == 3 && waits.err.contains("is paused: the system answered 429"), "{}", waits.err);
    assert_eq!(server.seen().len(), 1);
}
