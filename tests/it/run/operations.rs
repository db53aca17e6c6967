//! Operations of connectors in whole runs, against a server on loopback and on virtual time.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use pipewright::connector::connection::Connection;
use pipewright::connector::manifest::Manifest;
use pipewright::connector::runtime::Connections;
use pipewright::connector::runtime::Runtime;
use pipewright::engine::ExecuteOptions;
use pipewright::model::Duration;
use pipewright::model::RunEvent;
use pipewright::model::Value;
use pipewright::model::parse_json;
use pipewright::node::Services;
use pipewright::pipeline::compile_definition;
use pipewright::system::Clock;
use pipewright::system::System;

use super::Played;
use super::Stage;
use crate::support::server::Reply;
use crate::support::server::Seen;
use crate::support::server::Server;

const SHOP: &str = r#"connector: shop
base_url: { api: "{{ config.base_url }}" }
auth: { bearer: { token: "{{ auth.token }}" } }
explain: { message: "{{ body.message }}" }
errors:
  - { status: 404, then: not_found }
operations:
  create:
    effect: create
    timeout: 5s
    input: { required: [name], properties: { name: { type: string }, after: { type: string } } }
    request: { post: /things, json: { name: "{{ input.name }}", after: "{{ input.after }}" } }
    output: { id: "{{ body.id }}" }
    returns: { properties: { id: { type: string } } }
    reconcile: { operation: list, after: 3s, found: "{{ item.name == input.name }}", output: { id: "{{ item.id }}" } }
    undo: { operation: remove, with: { id: "{{ output.id }}" } }
  list:
    effect: read
    request: { get: /things, query: { cursor: "{{ next }}" } }
    items: "{{ body.data }}"
    paging: { next: "{{ body.next }}" }
  remove: { effect: delete, repeat: always, input: { properties: { id: {} } }, request: { delete: "/things/{{ input.id }}" } }
  changes:
    effect: read
    request: { get: /changes, query: { from: "{{ window.from | iso }}", to: "{{ window.to | iso }}" } }
    items: "{{ body.data }}"
    sync: { id: "{{ item.id }}", window: { overlap: 10s, settle: 5s, resolution: 1s } }
  chain:
    effect: create
    input: { properties: { names: { type: array } } }
    steps:
      make: { for_each: "{{ input.names }}", uses: create, with: { name: "{{ item }}", after: "{{ previous.id }}" } }
      rest: { needs: [make], uses: wait, with: { for: 30s } }
      list: { needs: [rest], uses: list }
    output: { ids: "{{ steps.make.output | map(attribute='id') | list }}", count: "{{ steps.list.output | length }}" }
"#;

/// One connection, to a server of a test.
#[derive(Debug)]
struct To {
    url: String,
    private: bool,
}

impl Connections for To {
    fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
        let settings = Value::map([("base_url", Value::from(self.url.as_str()))]);
        let auth = Value::map([("token", Value::from("s3cret-token"))]);
        Connection::make(name, manifest, settings, &auth, self.private)
    }
}

impl Stage {
    /// Adds the connector `shop`, connected to a server.
    fn shop(mut self, server: &Server) -> Self {
        let runtime = Runtime::new(Arc::new(To { url: server.url.clone(), private: true }));
        self.services = Services::default().with(Arc::new(runtime));
        // A lost answer is asked about when nothing can still arrive.
        self.asked_after = Some(Duration::from_secs(10 + 5 + 3));
        self.connector("shop", SHOP);
        self
    }

    fn connector(&self, name: &str, text: &str) {
        let folder = self.folder.path().join("connectors");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.yaml")), text).unwrap();
    }
}

fn body(seen: &Seen) -> Value {
    parse_json(&seen.body).unwrap_or_default()
}

/// What a shop's server has made, in order.
#[derive(Debug, Default)]
struct Things(Mutex<Vec<String>>);

impl Things {
    fn add(&self, seen: &Seen) -> String {
        let mut things = self.0.lock().unwrap();
        things.push(body(seen).get("name").and_then(Value::as_str).unwrap_or_default().to_owned());
        format!(r#"{{"id":"{}"}}"#, things.len())
    }

    fn list(&self) -> String {
        let things = self.0.lock().unwrap();
        let rows = things.iter().enumerate().map(|(at, name)| format!(r#"{{"id":"{}","name":"{name}"}}"#, at + 1));
        format!(r#"{{"data":[{}]}}"#, rows.collect::<Vec<_>>().join(","))
    }
}

fn asked(server: &Server) -> Vec<String> {
    server.seen().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect()
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_and_the_thing_exists_once() {
    let things = Arc::new(Things::default());
    let server = {
        let things = things.clone();
        Server::start(move |seen| match seen.method.as_str() {
            // It is made, and the answer is lost.
            "POST" => {
                things.add(seen);
                Reply::Drop
            }
            _ => Reply::json(200, &things.list()),
        })
    };
    let stage = Stage::new().shop(&server);
    let played = stage
        .play("steps:\n  a: { uses: shop.create, with: { name: one } }\noutputs: { id: \"{{ steps.a.output.id }}\" }\n")
        .await;
    assert_eq!(played.outputs(), r#"{"id":"1"}"#);
    assert_eq!(asked(&server), ["POST /things", "GET /things"]);
    assert_eq!(*things.0.lock().unwrap(), ["one"]);
    assert_eq!(server.seen()[0].header("authorization"), Some("Bearer s3cret-token"));
    assert!(played.journal.iter().any(|event| matches!(event, RunEvent::InDoubt { .. })));
}

#[tokio::test]
async fn a_round_whose_answer_is_lost_is_followed_by_the_next_until_the_condition_holds() {
    let things = Arc::new(Things::default());
    let server = {
        let things = things.clone();
        Server::start(move |seen| match seen.method.as_str() {
            "POST" if things.add(seen).contains(r#""id":"3""#) => Reply::json(201, r#"{"id":"3"}"#),
            "POST" => Reply::Drop,
            _ => Reply::json(200, &things.list()),
        })
    };
    let until = r#"until: { holds: "{{ output.id == '3' }}", limit: 9 }"#;
    let step = format!(
        r#"{{ uses: shop.create, with: {{ name: "{{{{ previous.id if previous else 'first' }}}}" }}, {until} }}"#
    );
    let played = Stage::new().shop(&server);
    let played =
        played.play(&format!("steps: {{ a: {step} }}\noutputs: {{ id: \"{{{{ steps.a.output.id }}}}\" }}\n")).await;
    assert_eq!(played.outputs(), r#"{"id":"3"}"#);
    // What was found of the first two went into the rounds behind them.
    assert_eq!(*things.0.lock().unwrap(), ["first", "1", "2"]);
    assert_eq!(played.journal.iter().filter(|event| matches!(event, RunEvent::Round { .. })).count(), 2);
}

#[tokio::test]
async fn equal_ids_of_two_kinds_are_two_things() {
    // Each model numbers its rows from 1, and the answer to the second write is lost.
    let made: Arc<Mutex<Vec<String>>> = Arc::default();
    let server = {
        let made = made.clone();
        Server::start(move |seen| {
            let mut made = made.lock().unwrap();
            match (seen.method.as_str(), seen.path.as_str()) {
                ("POST", path) => {
                    made.push(path.to_owned());
                    if path == "/order" { Reply::Drop } else { Reply::json(201, r#"{"id":1}"#) }
                }
                (_, path) => Reply::json(200, if made.iter().any(|it| it == path) { r#"[{"id":1}]"# } else { "[]" }),
            }
        })
    };
    let stage = Stage::new().shop(&server);
    let text = r#"connector: shop
base_url: { api: "{{ config.base_url }}" }
operations:
  create:
    effect: create
    timeout: 5s
    input: { required: [model], properties: { model: { type: string } } }
    request: { post: "/{{ input.model }}" }
    output: { id: "{{ body.id }}" }
    reconcile: { operation: list, after: 3s, with: { model: "{{ input.model }}" }, found: "{{ true }}", output: { id: "{{ item.id }}" }, kind: "{{ input.model }}" }
  list: { effect: read, input: { properties: { model: { type: string } } }, request: { get: "/{{ input.model }}" }, items: "{{ body }}" }
"#;
    stage.connector("shop", text);
    let steps = "steps:\n  a: { uses: shop.create, with: { model: partner } }\n  b: { needs: [a], uses: shop.create, with: { model: order } }\noutputs: { id: \"{{ steps.b.output.id }}\" }\n";
    assert_eq!(stage.play(steps).await.outputs(), r#"{"id":1}"#);
    assert_eq!(*made.lock().unwrap(), ["/partner", "/order"]);
}

#[tokio::test]
async fn a_throttled_request_comes_back_when_the_server_says() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::json(429, r#"{"message":"slow down"}"#).with_header("Retry-After", "40"),
        _ => Reply::json(200, r#"{"data":[]}"#),
    });
    let stage = Stage::new().shop(&server);
    let played = stage.play("steps:\n  a: { uses: shop.list }\n").await;
    played.outputs();
    let waits: Vec<_> = played
        .journal
        .iter()
        .filter_map(|event| match event {
            RunEvent::Failed { at, retry_at: Some(retry_at), error, .. } => {
                Some(format!("{}: {} after {}", error.class.name(), error.message, retry_at.since(*at)))
            }
            _ => None,
        })
        .collect();
    assert_eq!(waits, ["throttled: `shop.list`: 429 Too Many Requests: slow down after 40s"]);
}

#[tokio::test]
async fn a_limit_puts_a_step_off_and_the_run_ends_when_it_lets_it() {
    let server = Server::start(|_| Reply::json(200, r#"{"data":[]}"#));
    let stage = Stage::new().shop(&server);
    let limits = "limits: { budgets: { calls: { limit: 2, per: 1h } } }\noperations:\n";
    stage.connector("shop", &SHOP.replace("operations:\n", limits));
    let text = "steps:\n  a: { for_each: [1, 2, 3, 4, 5], retry: { attempts: 1 }, uses: shop.list }\n";
    let (engine, pipeline) = (stage.engine().await, stage.pipeline(text));
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let started = stage.world.clock.now();
    let played = stage.resume(&engine, run, &pipeline, ExecuteOptions::default()).await;
    played.outputs();
    // Two an hour: the last comes after two of them. Three attempts would not be enough if a wait counted as one.
    let hours = stage.world.clock.now().since(started).micros() / 3_600_000_000;
    assert_eq!((asked(&server).len(), hours), (5, 2));
    let reasons: Vec<_> = played
        .journal
        .iter()
        .filter_map(|event| match event {
            RunEvent::Failed { error, retry_at: Some(_), .. } => Some(error.message.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(reasons[0], "the limit `calls` of `shop` (2 in 1h) is used up");
}

#[tokio::test]
async fn what_an_operation_made_is_taken_back_as_it_declares_itself() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "POST" => Reply::json(200, r#"{"id":"7"}"#),
        "DELETE" => Reply::json(200, "{}"),
        _ => Reply::json(404, "{}"),
    });
    let stage = Stage::new().shop(&server);
    stage.connector(
        "shop",
        &SHOP.replace("with: { id: \"{{ output.id }}\" }", "with: { id: \"{{ output.id ~ '-' ~ input.name }}\" }"),
    );
    let text = "steps:\n  a: { uses: shop.create, with: { name: chair, connection: shop }, undo: auto }\n  b: { needs: [a], uses: shop.list, retry: { attempts: 1 } }\n";
    stage.play(text).await.failure();
    assert_eq!(asked(&server), ["POST /things", "GET /things", "DELETE /things/7-chair"]);
}

/// What a limit allows of a shop's connector, beside its operations.
fn limited(limits: &str, operations: &str) -> String {
    SHOP.replace("operations:\n", &format!("limits: {{ budgets: {{ calls: {limits} }} }}\noperations:\n{operations}"))
}

/// Plays while time passes by itself: what waits within an attempt tells nobody until when.
async fn play_in_time(stage: &Stage, step: Duration, text: &str) -> Played {
    let clock = stage.world.clock.clone();
    let moving = tokio::spawn(async move {
        let real = System::real().clock;
        loop {
            real.sleep_until(real.now().plus(Duration::from_millis(1))).await;
            clock.advance(step);
        }
    });
    let played = stage.play(text).await;
    moving.abort();
    played
}

#[tokio::test]
async fn a_read_that_a_limit_interrupts_does_not_begin_anew() {
    let page = AtomicUsize::new(1);
    let server = Server::start(move |_| {
        let page = page.fetch_add(1, Ordering::Relaxed);
        let next = if page >= 5 { "null".to_owned() } else { format!("\"p{page}\"") };
        Reply::json(200, &format!(r#"{{"data":[{{"id":{page}}}],"next":{next}}}"#))
    });
    let stage = Stage::new().shop(&server);
    stage.connector("shop", &limited("{ limit: 2, per: 1h }", ""));
    let text =
        "steps:\n  a: { uses: shop.list }\noutputs: { ids: \"{{ steps.a.output | map(attribute='id') | list }}\" }\n";
    let started = stage.world.clock.now();
    let played = play_in_time(&stage, Duration::from_secs(20), text).await;
    assert_eq!(played.outputs(), r#"{"ids":[1,2,3,4,5]}"#);
    // Two an hour: from the beginning each time, it would never have come to the third page.
    let hours = stage.world.clock.now().since(started).micros() / 3_600_000_000;
    assert!(asked(&server).len() == 5 && hours >= 2, "{hours} {:?}", asked(&server));
}

const PUT: &str = r#"  put:
    effect: create
    timeout: 5s
    reconcile: none
    input: { properties: { names: { type: array } } }
    request: { post: /things, json: { names: "{{ batch }}" } }
    batch: { over: "{{ input.names }}", max: 1, results: "{{ body.data }}", output: { id: "{{ row.id }}" } }
"#;

const PUT_SIX: &str = "steps:\n  a: { uses: shop.put, timeout: 2m, with: { names: [a, b, c, d, e, f] } }\noutputs: { ok: \"{{ steps.a.output | map(attribute='ok') | list }}\" }\n";

#[tokio::test]
async fn the_parts_of_a_write_are_sent_once_whatever_limits_and_time_do() {
    let bodies = |server: &Server| server.seen().iter().map(|seen| body(seen).to_string()).collect::<Vec<_>>();
    let six = ["a", "b", "c", "d", "e", "f"].map(|name| format!(r#"{{"names":["{name}"]}}"#));
    let done = r#"{"ok":[true,true,true,true,true,true]}"#;
    // A limit lets the rest go only after a while.
    let server = Server::start(|_| Reply::json(200, r#"{"data":[{"id":1}]}"#));
    let stage = Stage::new().shop(&server);
    stage.connector("shop", &limited("{ limit: 2, per: 10s }", PUT));
    assert_eq!(play_in_time(&stage, Duration::from_millis(100), PUT_SIX).await.outputs(), done);
    assert_eq!(bodies(&server), six);
    // All together take longer than the first byte of a write may.
    let mut stage = Stage::new();
    let clock = stage.world.clock.clone();
    let server = Server::start(move |_| {
        clock.advance(Duration::from_secs(4));
        Reply::json(200, r#"{"data":[{"id":1}]}"#)
    });
    stage = stage.shop(&server);
    stage.connector("shop", &limited("{ in_flight: 9 }", PUT));
    assert_eq!(stage.play(&PUT_SIX.replace("timeout: 2m, ", "")).await.outputs(), done);
    assert_eq!(bodies(&server), six);
    // What a limit lets go only when nobody waits any more is in doubt, and is not sent again.
    let server = Server::start(|_| Reply::json(200, r#"{"data":[{"id":1}]}"#));
    let stage = Stage::new().shop(&server);
    stage.connector("shop", &limited("{ limit: 2, per: 1h }", PUT));
    let played = stage.play(PUT_SIX).await;
    played.waits();
    let doubts = played.journal.iter().filter(|event| matches!(event, RunEvent::InDoubt { .. })).count();
    assert_eq!((doubts, bodies(&server).len()), (1, 2));
}

#[tokio::test]
async fn pages_that_go_round_in_a_circle_end_the_read() {
    let server = Server::start(|seen| {
        let next = match seen.path.rsplit('=').next() {
            Some("b") => "c",
            Some("c") => "d",
            _ => "b",
        };
        Reply::json(200, &format!(r#"{{"data":[],"next":"{next}"}}"#))
    });
    let stage = Stage::new().shop(&server);
    let failure = stage.play("steps:\n  a: { uses: shop.list, retry: { attempts: 1 } }\n").await.failure();
    assert!(failure.contains("the pages of `shop.list` go round in a circle"), "{failure}");
    assert!(asked(&server).len() < 12, "{:?}", asked(&server));
}

#[tokio::test]
async fn a_read_into_a_dataset_goes_on_behind_the_last_page() {
    let broken = AtomicUsize::new(0);
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/things" => Reply::json(200, r#"{"data":[{"id":1},{"id":2}],"next":"b"}"#),
        "/things?cursor=b" if broken.fetch_add(1, Ordering::Relaxed) == 0 => Reply::json(503, "{}"),
        "/things?cursor=b" => Reply::json(200, r#"{"data":[{"id":3}],"next":"c"}"#),
        _ => Reply::json(200, r#"{"data":[{"id":4}]}"#),
    });
    let stage = Stage::new().shop(&server);
    let text = "steps:\n  a: { uses: shop.list, into: things }\n  b: { for_each: \"{{ steps.a.output }}\", uses: data.map, with: { items: [1], to: \"{{ item }}\" } }\noutputs: { rows: \"{{ steps.a.output.rows }}\" }\n";
    let played = stage.play(text).await;
    assert_eq!(played.outputs(), r#"{"rows":4}"#);
    assert_eq!(asked(&server), ["GET /things", "GET /things?cursor=b", "GET /things?cursor=b", "GET /things?cursor=c"]);
}

#[tokio::test]
async fn an_incremental_read_goes_on_where_the_last_run_ended() {
    let server = Server::start(|_| Reply::json(200, r#"{"data":[{"id":7}]}"#));
    let stage = Stage::new().shop(&server);
    let text = "steps:\n  a: { uses: shop.changes }\noutputs: { rows: \"{{ steps.a.output }}\" }\n";
    assert_eq!(stage.play(text).await.outputs(), r#"{"rows":[{"id":7,"@sync":{"id":7}}]}"#);
    // No time has passed: there can be nothing new, and nobody is asked.
    assert_eq!(stage.play(text).await.outputs(), r#"{"rows":[]}"#);
    stage.world.clock.advance(Duration::from_secs(60));
    stage.play(&text.replace("shop.changes }", "shop.changes, into: new }")).await.outputs();
    stage.world.clock.advance(Duration::from_secs(60));
    stage.play(text).await.outputs();
    let asked: Vec<_> = asked(&server).into_iter().map(|it| it.replace("%3A", ":")).collect();
    // The clock began at 22:13:20; five seconds are left to settle, ten are read again.
    assert_eq!(
        asked,
        [
            "GET /changes?from=1970-01-01T00:00:00Z&to=2023-11-14T22:13:15Z",
            "GET /changes?from=2023-11-14T22:13:05Z&to=2023-11-14T22:14:15Z",
            "GET /changes?from=2023-11-14T22:14:05Z&to=2023-11-14T22:15:15Z",
        ]
    );
}

#[tokio::test]
async fn an_operation_of_steps_keeps_what_it_has_done() {
    let things = Arc::new(Things::default());
    let refused = AtomicUsize::new(0);
    let server = {
        let things = things.clone();
        Server::start(move |seen| match seen.method.as_str() {
            "POST" if seen.body.contains("two") && refused.fetch_add(1, Ordering::Relaxed) == 0 => {
                Reply::json(400, r#"{"message":"not now"}"#)
            }
            "POST" => Reply::json(201, &things.add(seen)),
            _ => Reply::json(200, &things.list()),
        })
    };
    let stage = Stage::new().shop(&server);
    let text = "steps:\n  a: { uses: shop.chain, with: { names: [one, two, three] } }\noutputs: { ids: \"{{ steps.a.output.ids }}\", count: \"{{ steps.a.output.count }}\" }\n";
    let (engine, pipeline) = (stage.engine().await, stage.pipeline(text));
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let failed = stage.resume(&engine, run, &pipeline, ExecuteOptions::default()).await;
    assert_eq!(failed.failure(), "rejected: step `a`: step `make`: item 1: `shop.create`: 400 Bad Request: not now");
    let done = stage.retry(&engine, run, &pipeline, None).await;
    assert_eq!(done.outputs(), r#"{"ids":["1","2","3"],"count":3}"#);
    // The first was not made again, and each knows the one before.
    assert_eq!(*things.0.lock().unwrap(), ["one", "two", "three"]);
    let after: Vec<_> = server
        .seen()
        .iter()
        .filter(|seen| seen.method == "POST")
        .map(|seen| body(seen).get("after").map_or("nothing".to_owned(), Value::to_text))
        .collect();
    assert_eq!(after, ["nothing", "1", "1", "2"]);
}

#[tokio::test]
async fn operations_of_steps_are_spread_over_workers_too() {
    let things = Arc::new(Things::default());
    let server = {
        let things = things.clone();
        Server::start(move |seen| match seen.method.as_str() {
            "POST" => Reply::json(201, &things.add(seen)),
            _ => Reply::json(200, &things.list()),
        })
    };
    let stage = Stage::new().shop(&server);
    let text = "steps:\n  a: { for_each: [[one, two], [three]], spread: true, uses: shop.chain, with: { names: \"{{ item }}\" } }\noutputs: { made: \"{{ steps.a.output | map(attribute='ids') | map('length') | list }}\" }\n";
    let (engine, pipeline) = (stage.engine().await, stage.pipeline(text));
    let run = engine.enqueue(&pipeline, Value::map::<&str>([]), None).await.unwrap().unwrap();
    // Whoever takes a child knows nothing of it but what the store has.
    let _working = stage.works(&engine);
    let record = stage.ended(&engine, run, Duration::from_millis(200)).await;
    assert_eq!(record.outputs.to_string(), r#"{"made":[2,1]}"#, "{record:?}");
    let mut made = things.0.lock().unwrap().clone();
    made.sort();
    assert_eq!(made, ["one", "three", "two"]);
}

#[tokio::test]
async fn a_run_keeps_the_manifest_with_which_it_began() {
    let server = Server::start(|_| Reply::json(200, r#"{"data":[]}"#));
    let stage = Stage::new().shop(&server);
    let text = "steps:\n  a: { uses: time.wait, with: { for: 1h } }\n  b: { needs: [a], uses: shop.list }\n";
    let (engine, pipeline) = (stage.engine().await, stage.pipeline(text));
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    // Meanwhile the file is edited, and broken.
    stage.connector("shop", &SHOP.replace("get: /things", "get: /elsewhere"));
    assert_ne!(stage.pipeline(text).version, pipeline.version);
    stage.connector("shop", "connector: shop\nnonsense: 1\n");
    let kept = compile_definition(&pipeline.definition, &stage.registry()).unwrap();
    assert_eq!(kept.version, pipeline.version);
    stage.resume(&engine, run, &kept, ExecuteOptions::default()).await.outputs();
    assert_eq!(asked(&server), ["GET /things"]);
}

#[tokio::test]
async fn a_connector_is_there_when_its_file_is() {
    let server = Server::start(|seen| Reply::json(200, &format!(r#"{{"path":"{}"}}"#, seen.path)));
    let stage = Stage::new().shop(&server);
    stage.play("steps:\n  a: { uses: shop.list }\n").await.outputs();
    let loaded = pipewright::pipeline::Catalog::open(stage.folder.path(), stage.registry());
    stage.file("test", "steps:\n  a: { uses: desk.ticket, with: { id: 5 } }\n");
    let missing = loaded.load("test").unwrap().diagnostics;
    assert_eq!(missing[0].message, "node `desk.ticket` does not exist");
    let desk = "connector: desk\nbase_url: { api: \"{{ config.base_url }}\" }\noperations:\n  ticket: { effect: read, input: { properties: { id: { type: integer } } }, request: { get: \"/tickets/{{ input.id }}\" }, output: { path: \"{{ body.path }}\" } }\n";
    stage.connector("desk", desk);
    let played = stage
        .play("steps:\n  a: { uses: desk.ticket, with: { id: 5 } }\noutputs: { path: \"{{ steps.a.output.path }}\" }\n")
        .await;
    assert_eq!(played.outputs(), r#"{"path":"/tickets/5"}"#);
}

#[tokio::test]
async fn private_addresses_are_reached_only_where_the_connection_says_so() {
    let server = Server::start(|_| Reply::json(200, "{}"));
    for url in
        [server.url.clone(), server.url.replace("127.0.0.1", "localhost"), "http://[::ffff:127.0.0.1]:1".to_owned()]
    {
        let mut stage = Stage::new().shop(&server);
        let runtime = Runtime::new(Arc::new(To { url, private: false }));
        stage.services = Services::default().with(Arc::new(runtime));
        let played = stage.play("steps:\n  a: { uses: shop.list }\n").await;
        // It is a fault of the project file, which no second attempt mends.
        let failed = played.journal.iter().filter(|event| matches!(event, RunEvent::Failed { .. })).count();
        assert_eq!(failed, 1);
        let failure = played.failure();
        assert!(
            failure.contains("its address is not public; a connection to it must say `private: true`"),
            "{failure}"
        );
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn nothing_secret_is_in_what_went_over_the_wire() {
    let server = Server::start(|_| {
        Reply::json(200, r#"{"data":[],"echo":"Bearer s3cret-token"}"#).with_header("Set-Cookie", "sid=abcdef")
    });
    let stage = Stage::new().shop(&server);
    let engine = stage.engine().await;
    let pipeline = stage.pipeline("steps:\n  a: { uses: shop.list }\n");
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    stage.resume(&engine, run, &pipeline, ExecuteOptions::default()).await.outputs();
    let wire = engine.parts().store.wire(run).await.unwrap();
    assert_eq!(wire.len(), 1);
    let text = format!("{wire:?}");
    assert!(!text.contains("s3cret-token") && !text.contains("abcdef"), "{text}");
    assert!(text.contains("Bearer ***"), "{text}");
    let bytes = std::fs::read(stage.folder.path().join("state.db")).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("s3cret-token"));
}

/// A token with signs that JSON, XML and URLs write in other ways.
#[derive(Debug)]
struct Signs(String);

const SIGNS: &str = r#"s3c"ret<&/token one"#;

impl Connections for Signs {
    fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
        let settings = Value::map([("base_url", Value::from(self.0.as_str()))]);
        Connection::make(name, manifest, settings, &Value::map([("token", Value::from(SIGNS))]), true)
    }
}

#[tokio::test]
async fn a_secret_is_hidden_in_every_form_that_a_body_gives_it_and_at_the_cut() {
    let forms = [
        "s3c\\\"ret<&/token one",
        "s3c\"ret&lt;&amp;/token one",
        "s3c&quot;ret&lt;&amp;/token one",
        "s3c%22ret%3C%26%2Ftoken%20one",
        "s3c%22ret%3C%26%2Ftoken+one",
        "czNjInJldDwmL3Rva2VuIG9uZQ==",
    ];
    let long = format!("{}\n{}{SIGNS} and more", forms.join("\n"), "x".repeat(4_090 - forms.join("\n").len()));
    let server = Server::start(move |seen| match seen.method.as_str() {
        "POST" => Reply::json(418, &long).with_header("X-Echo", SIGNS),
        _ => Reply::json(200, r#"{"data":[]}"#),
    });
    let mut stage = Stage::new().shop(&server);
    let runtime = Runtime::new(Arc::new(Signs(server.url.clone())));
    stage.services = Services::default().with(Arc::new(runtime));
    stage.connector(
        "shop",
        &SHOP.replace("after: \"{{ input.after }}\"", "after: \"{{ input.after }}\", key: \"{{ auth.token }}\""),
    );
    let engine = stage.engine().await;
    let pipeline = stage.pipeline("steps:\n  a: { uses: shop.create, with: { name: x } }\n");
    let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
    let failure = stage.resume(&engine, run, &pipeline, ExecuteOptions::default()).await.failure();
    let wire = format!("{:?}\n{failure}", engine.parts().store.wire(run).await.unwrap());
    assert!(server.seen()[0].body.contains(r#"s3c\"ret"#), "{}", server.seen()[0].body);
    for piece in ["s3c", "czNj", "ret&", "ret<"] {
        assert!(!wire.contains(piece), "{piece}: {wire}");
    }
}
