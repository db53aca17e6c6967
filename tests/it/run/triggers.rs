//! Triggers that do not go by time, on virtual time: requests, ends of runs, buckets.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::Body;
use axum::body::to_bytes;
use axum::extract::Request;
use pipewright::daemon::after::Afters;
use pipewright::daemon::bell::Bell;
use pipewright::daemon::metrics::Metrics;
use pipewright::daemon::scheduler::Active;
use pipewright::daemon::scheduler::Scheduler;
use pipewright::daemon::webhook::Hooks;
use pipewright::engine::Engine;
use pipewright::engine::SecretSource;
use pipewright::engine::Signal;
use pipewright::model::Duration;
use pipewright::model::RunId;
use pipewright::model::RunState;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::model::parse_json;
use pipewright::pipeline::Pipeline;
use pipewright::store::RunFilter;
use pipewright::store::RunRecord;
use pipewright::system::System;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Act;
use super::START;
use super::Stage;
use super::give;

/// Secrets that a test knows; one that begins with `no` is not there.
#[derive(Debug)]
pub(super) struct Known;

impl SecretSource for Known {
    fn get(&self, name: &str) -> Result<Value, String> {
        match name {
            "GITHUB" => Ok(Value::from("It's a Secret to Everybody").tainted()),
            "SLACK" => Ok(Value::from("8f742231b10e8888abcd99yyyzzz85a5").tainted()),
            "EMPTY" => Ok(Value::from("").tainted()),
            name => Err(format!("there is no secret `{name}`")),
        }
    }

    fn mask(&self, text: String) -> String {
        text.replace("It's a Secret to Everybody", "***")
    }

    fn learn(&self, _: &Value) {}

    fn scan(&self, value: Value) -> Value {
        value
    }
}

/// The loops of a daemon but the worker, and what they are given.
pub(super) struct Daemon {
    pub(super) active: watch::Sender<Active>,
    pub(super) bell: Bell,
    pub(super) metrics: Arc<Metrics>,
    pub(super) ready: Arc<AtomicBool>,
    stop: CancellationToken,
    pub(super) scheduler: Scheduler,
}

impl Stage {
    pub(super) fn knowing(mut self) -> Self {
        self.secrets = Arc::new(Known);
        self
    }

    pub(super) fn all(&self, files: &[(&str, &str)]) -> Active {
        for (name, text) in files {
            self.file(name, text);
        }
        let (pipelines, checked) = pipewright::pipeline::Catalog::open(self.folder.path(), self.registry()).all();
        assert_eq!(pipelines.len(), files.len(), "{:#?}", checked.diagnostics);
        Arc::new(pipelines)
    }

    pub(super) fn daemon(&self, engine: &Engine, files: &[(&str, &str)]) -> Daemon {
        let (active, receiver) = watch::channel(self.all(files));
        let (bell, metrics, stop) = (Bell::default(), Arc::new(Metrics::default()), CancellationToken::new());
        let scheduler = Scheduler {
            engine: engine.clone(),
            active: receiver,
            bell: bell.clone(),
            metrics: metrics.clone(),
            stop: stop.clone(),
        };
        Daemon { active, bell, metrics, ready: Arc::new(AtomicBool::new(true)), stop, scheduler }
    }
}

impl Daemon {
    fn hooks(&self) -> Hooks {
        let Scheduler { engine, active, bell, metrics, .. } = &self.scheduler;
        Hooks::new(engine.clone(), active.clone(), bell.clone(), metrics.clone(), self.ready.clone())
    }

    fn afters(&self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(Afters::new(&self.scheduler).run())
    }

    pub(super) async fn end(self, working: tokio::task::JoinHandle<()>) {
        self.stop.cancel();
        working.await.unwrap();
    }

    #[track_caller]
    pub(super) fn counted(&self, line: &str) {
        let text = self.metrics.text(&[]);
        assert!(text.lines().any(|own| own == line), "{line}\n{text}");
    }
}

pub(super) async fn runs(engine: &Engine, pipeline: &str) -> Vec<RunRecord> {
    let filter = RunFilter { pipeline: Some(pipeline.to_owned()), ..RunFilter::default() };
    let mut runs = engine.parts().store.runs(&filter).await.unwrap();
    runs.sort_by_key(|run| run.id);
    runs
}

/// Sends a request. Returns the status, `Retry-After`, and the answer.
async fn send(hooks: &Hooks, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String, String) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = hooks.answer(request.body(Body::from(body.to_owned())).unwrap()).await;
    let later = answer.headers().get("retry-after").map(|later| later.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    let bytes = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, later.unwrap_or_default(), String::from_utf8(bytes.to_vec()).unwrap().trim().to_owned())
}

fn run_of(answer: &str) -> String {
    parse_json(answer).unwrap().get("run").unwrap_or_else(|| panic!("{answer}")).to_text()
}

const STEP: &str = "steps: { a: { uses: test.one, with: { value: 1 } } }\n";

const GITHUB: &str = r#"triggers: [ { webhook: { path: github, preset: github, secret: ["{{ secrets.GITHUB }}"] },
  inputs: { said: "{{ event.body }}", seen: "{{ event.headers }}", from: "{{ event.query.from }}", id: "{{ event.delivery }}", at: "{{ event.received }}" } } ]
inputs: { said: { type: string }, seen: { type: object }, from: { type: string }, id: { type: string }, at: { type: datetime } }
steps: { a: { uses: test.one, with: { value: "{{ inputs.said }} {{ run.slot }}" } } }
"#;
const SIGNED: (&str, &str) =
    ("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");

#[tokio::test]
async fn a_signed_request_starts_one_run_however_often_it_comes() {
    let stage = Stage::new().knowing().read("test.one", |_, input| give(input.clone()));
    let engine = stage.engine().await;
    let daemon = stage.daemon(&engine, &[("github", GITHUB)]);
    let hooks = daemon.hooks();
    let headers =
        [SIGNED, ("X-GitHub-Delivery", "72d3"), ("Authorization", "Basic eA=="), ("Content-Type", "text/plain")];
    let (status, _, answer) = send(&hooks, "POST", "/hooks/github?from=there", &headers, "Hello, World!").await;
    assert_eq!(status, 202, "{answer}");
    let run = run_of(&answer);
    for _ in 0..3 {
        let (status, _, answer) = send(&hooks, "POST", "/hooks/github?from=there", &headers, "Hello, World!").await;
        assert_eq!((status, run_of(&answer)), (200, run.clone()), "{answer}");
    }
    let all = runs(&engine, "github").await;
    assert_eq!(all.len(), 1);
    let made = &all[0];
    assert_eq!(made.id.to_string(), run);
    let slot = made.slot.clone().unwrap();
    assert!(slot.starts_with("webhook-") && slot.ends_with("@delivery:72d3"), "{slot}");
    assert_eq!(made.started_by.as_deref(), Some(format!("trigger {}", slot.split_once('@').unwrap().0).as_str()));
    assert_eq!(
        made.inputs.to_string(),
        format!(
            r#"{{"said":"Hello, World!","seen":{{"x-github-delivery":"72d3","content-type":"text/plain"}},"from":"there","id":"72d3","at":"{START}"}}"#
        ),
        "neither the signature nor credentials are shown"
    );
    // `run.slot` is the whole of it: another time is not read into it.
    let claimed = engine.take(8).await.unwrap();
    assert_eq!(claimed.len(), 1);
    let pipeline = daemon.active.borrow()[0].clone();
    engine.execute(made.id, pipeline, pipewright::engine::ExecuteOptions::default()).await.unwrap();
    assert!(stage.world.calls()[0].contains(&format!("Hello, World! {slot}")), "{:?}", stage.world.calls());
    daemon.counted(r#"pipewright_triggers_total{kind="webhook",outcome="fired"} 1"#);
    daemon.counted(r#"pipewright_triggers_total{kind="webhook",outcome="repeated"} 3"#);
}

#[tokio::test]
async fn a_delivery_that_comes_many_times_at_once_and_to_two_daemons_has_one_run() {
    let stage = Stage::new().knowing();
    let stage = stage.read("test.one", |_, input| give(input.clone()));
    let (one, other) = (stage.engine().await, stage.engine().await);
    let daemons = [stage.daemon(&one, &[("github", GITHUB)]), stage.daemon(&other, &[("github", GITHUB)])];
    let hooks = [Arc::new(daemons[0].hooks()), Arc::new(daemons[1].hooks())];
    let mut sending = tokio::task::JoinSet::new();
    for number in 0..32 {
        let hooks = hooks[number % 2].clone();
        sending.spawn(async move {
            let headers = [SIGNED, ("X-GitHub-Delivery", "once")];
            send(&hooks, "POST", "/hooks/github?from=x", &headers, "Hello, World!").await
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = sending.join_next().await {
        answers.push(answer.unwrap());
    }
    let run = runs(&one, "github").await;
    assert_eq!(run.len(), 1);
    assert!(
        answers
            .iter()
            .all(|(status, _, answer)| [200, 202].contains(status) && run_of(answer) == run[0].id.to_string()),
        "{answers:?}"
    );
    assert_eq!(answers.iter().filter(|(status, ..)| *status == 202).count(), 1, "{answers:?}");
}

#[tokio::test]
async fn what_is_not_signed_or_not_for_us_starts_nothing() {
    let stage = Stage::new().knowing().read("test.one", |_, _| give(1));
    let engine = stage.engine().await;
    let lost = r#"triggers: [ { webhook: { path: lost, secret: "{{ secrets.LOST }}" } }, { webhook: { path: empty, secret: "{{ secrets.EMPTY }}" } }, { webhook: { path: off, auth: none }, enabled: false } ]
"#;
    let small = r#"triggers: [ { webhook: { path: a/small, auth: none, max_body: 10 } } ]
"#;
    let daemon = stage.daemon(
        &engine,
        &[("github", GITHUB), ("lost", &format!("{lost}{STEP}")), ("small", &format!("{small}{STEP}"))],
    );
    let hooks = daemon.hooks();
    let id = ("X-GitHub-Delivery", "1");
    for (method, path, headers, body, status, word) in [
        ("POST", "/hooks/github", vec![id], "Hello, World!", 401, "missing"),
        ("POST", "/hooks/github", vec![id, SIGNED], "Hello, World?", 401, "does not fit"),
        ("POST", "/hooks/github", vec![id, ("X-Hub-Signature-256", "sha256=00")], "Hello, World!", 401, "does not fit"),
        ("GET", "/hooks/github", vec![], "", 405, "POST"),
        ("PUT", "/hooks/github", vec![id, SIGNED], "Hello, World!", 405, "POST"),
        ("POST", "/hooks/githu", vec![id, SIGNED], "Hello, World!", 404, "no such"),
        ("POST", "/hooks/github/", vec![id, SIGNED], "Hello, World!", 404, "no such"),
        ("POST", "/hooks/off", vec![], "{}", 404, "no such"),
        ("POST", "/hooks/lost", vec![("webhook-id", "1")], "{}", 503, "not set up"),
        ("POST", "/hooks/empty", vec![("webhook-id", "1")], "{}", 503, "not set up"),
        ("POST", "/hooks/a/small", vec![], "{\"a\":12345}", 413, "too large"),
        ("POST", "/hooks/a/small", vec![("Content-Type", "application/json")], "{\"a\":", 422, "cannot be read"),
        ("POST", "/hooks/a/small", vec![("Content-Type", "image/png")], "x", 415, "neither"),
    ] {
        let (found, _, answer) = send(&hooks, method, path, &headers, body).await;
        assert!(found == status && answer.contains(word), "{method} {path}: {found} {answer}");
        assert!(!answer.contains("Secret to Everybody") && !answer.contains("757107ea"), "{answer}");
    }
    daemon.ready.store(false, Relaxed);
    let (status, later, _) = send(&hooks, "POST", "/hooks/github", &[id, SIGNED], "Hello, World!").await;
    assert_eq!((status, later.as_str()), (503, "5"), "while it drains");
    for name in ["github", "lost", "small"] {
        assert!(runs(&engine, name).await.is_empty(), "{name}");
    }
    daemon.counted(r#"pipewright_triggers_total{kind="webhook",outcome="unsigned"} 3"#);
}

const TYPED: &str = r#"triggers: [ { webhook: { path: typed, auth: none } } ]
inputs: { name: { type: string, pattern: "^[a-z]+$" }, count: { type: integer, default: 7 }, price: { type: money, default: "1.00 EUR" } }
"#;

#[tokio::test]
async fn members_of_a_body_are_the_inputs_and_must_fit() {
    let stage = Stage::new().knowing().read("test.one", |_, _| give(1));
    let engine = stage.engine().await;
    let daemon = stage.daemon(&engine, &[("typed", &format!("{TYPED}{STEP}"))]);
    let hooks = daemon.hooks();
    let json = ("Content-Type", "application/json");
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    for (kind, body) in [
        (json, r#"{"name":"news","count":3,"price":"2.50 EUR","more":true}"#),
        (form, "name=news&count=3&price=2.50+EUR&more=true"),
    ] {
        let (status, _, answer) = send(&hooks, "POST", "/hooks/typed", &[kind], body).await;
        assert_eq!(status, 202, "{answer}");
        let run: RunId = run_of(&answer).parse().unwrap();
        let made = engine.parts().store.run(run).await.unwrap().unwrap();
        assert_eq!(made.inputs.to_string(), r#"{"name":"news","count":3,"price":"2.50 EUR"}"#);
    }
    // Nobody signs and names these: each is one of its own.
    assert_eq!(send(&hooks, "POST", "/hooks/typed", &[json], r#"{"name":"news"}"#).await.0, 202);
    assert_eq!(send(&hooks, "POST", "/hooks/typed", &[json], r#"{"name":"news"}"#).await.0, 202);
    assert_eq!(runs(&engine, "typed").await.len(), 4);
    for (body, reasons) in [
        (r#"{"name":"News","count":"many"}"#, vec!["does not match", "expected a whole number"]),
        ("[1,2]", vec!["input `name` is missing"]),
        ("", vec!["input `name` is missing"]),
    ] {
        let (status, _, answer) = send(&hooks, "POST", "/hooks/typed", &[json], body).await;
        assert_eq!(status, 422, "{answer}");
        assert!(reasons.iter().all(|reason| answer.contains(reason)) && !answer.contains("-i "), "{answer}");
    }
    assert_eq!(runs(&engine, "typed").await.len(), 4);
}

#[tokio::test]
async fn slack_is_believed_at_its_time_only() {
    let mut stage = Stage::new().knowing().read("test.one", |_, _| give(1));
    (stage.system, stage.world.clock) = System::simulated(Timestamp(1_531_420_618_000_000), 7);
    let engine = stage.engine().await;
    let text = r#"triggers: [ { webhook: { path: slack, preset: slack, window: 1m, secret: "{{ secrets.SLACK }}" }, inputs: { command: "{{ event.body.command }}" } } ]
inputs: { command: { type: string } }
"#;
    let daemon = stage.daemon(&engine, &[("slack", &format!("{text}{STEP}"))]);
    let hooks = daemon.hooks();
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let headers = [
        ("X-Slack-Signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
        ("X-Slack-Request-Timestamp", "1531420618"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let (status, _, answer) = send(&hooks, "POST", "/hooks/slack", &headers, body).await;
    assert_eq!(status, 202, "{answer}");
    let again = send(&hooks, "POST", "/hooks/slack", &headers, body).await;
    assert_eq!((again.0, run_of(&again.2)), (200, run_of(&answer)), "sent again within the window");
    stage.world.clock.advance(Duration::from_secs(61));
    let (status, _, answer) = send(&hooks, "POST", "/hooks/slack", &headers, body).await;
    assert!(status == 401 && answer.contains("not of now"), "{status} {answer}");
    assert_eq!(runs(&engine, "slack").await[0].inputs.to_string(), r#"{"command":"/webhook-collect"}"#);
}

#[tokio::test]
async fn a_webhook_fires_no_more_often_than_its_bucket_says() {
    let stage = Stage::new().knowing().read("test.one", |_, _| give(1));
    let engine = stage.engine().await;
    let text = r#"triggers: [ { webhook: { path: some, auth: none }, max: 3, window: 60s } ]
"#;
    let daemon = stage.daemon(&engine, &[("some", &format!("{text}{STEP}"))]);
    let hooks = daemon.hooks();
    let post = async |id: &str| send(&hooks, "POST", "/hooks/some", &[("webhook-id", id)], "{}").await;
    for id in ["1", "2", "3"] {
        assert_eq!(post(id).await.0, 202);
    }
    let (status, later, _) = post("4").await;
    assert_eq!((status, later.as_str()), (429, "20"));
    assert_eq!(post("2").await.0, 200, "what has a run needs no token");
    stage.world.clock.advance(Duration::from_secs(19));
    assert_eq!(post("4").await.1, "1");
    stage.world.clock.advance(Duration::from_secs(1));
    assert_eq!(post("4").await.0, 202);
    assert_eq!(post("5").await.0, 429);
    // Another process knows it, too.
    let other = stage.engine().await;
    let again = stage.daemon(&other, &[("some", &format!("{text}{STEP}"))]);
    assert_eq!(send(&again.hooks(), "POST", "/hooks/some", &[("webhook-id", "5")], "{}").await.0, 429);
    daemon.counted(r#"pipewright_triggers_total{kind="webhook",outcome="throttled"} 3"#);
}

#[tokio::test]
async fn a_webhook_that_is_switched_off_is_not_there() {
    let stage = Stage::new().knowing().read("test.one", |_, _| give(1));
    let engine = stage.engine().await;
    let daemon = stage.daemon(&engine, &[("typed", &format!("{TYPED}{STEP}"))]);
    let hooks = daemon.hooks();
    let post = async || send(&hooks, "POST", "/hooks/typed", &[], r#"{"name":"a"}"#).await.0;
    assert_eq!(post().await, 202);
    let store = &engine.parts().store;
    let row = store.schedules().await.unwrap().remove(0);
    assert_eq!(row.fired_at, Some(START));
    store.switch_schedule("typed", &row.trigger, true).await.unwrap();
    assert_eq!(post().await, 404);
    store.switch_schedule("typed", &row.trigger, false).await.unwrap();
    assert_eq!(post().await, 202);
}

// Ends of runs.

const FIRST: &str = r#"inputs: { fail: { type: boolean, default: false } }
steps: { a: { uses: test.one, with: { fail: "{{ inputs.fail }}" } } }
outputs: { out: "{{ steps.a.output }}" }
"#;

fn second(on: &str, more: &str) -> String {
    format!(
        r#"triggers: [ {{ after: {{ pipeline: first, on: {on} }}, {more} inputs: {{ run: "{{{{ event.run }}}}", state: "{{{{ event.state }}}}", out: "{{{{ event.outputs | default({{}}) }}}}", error: "{{{{ event.error | default({{}}) }}}}" }} }} ]
inputs: {{ run: {{ type: string }}, state: {{ type: string }}, out: {{ type: object, default: {{}} }}, error: {{ type: object, default: {{}} }} }}
{STEP}"#
    )
}

fn fails(stage: Stage) -> Stage {
    stage.read("test.one", |_, input| match input.get("fail").and_then(Value::as_bool) {
        Some(true) => Act::Fail(pipewright::model::ErrorClass::Invalid),
        _ => give(5),
    })
}

async fn run(engine: &Engine, pipeline: &Arc<Pipeline>, fail: bool) -> RunId {
    let inputs = Value::map([("fail", Value::Bool(fail))]);
    let run = engine.start(pipeline, inputs).await.unwrap();
    engine.execute(run, pipeline.clone(), pipewright::engine::ExecuteOptions::default()).await.unwrap();
    run
}

/// Lets the threads of the store, and those that read files, get on: they need real time.
pub(super) async fn turn() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    tokio::task::spawn_blocking(|| std::thread::sleep(std::time::Duration::from_millis(2))).await.unwrap();
}

/// Waits until so many runs of a pipeline are there, and then whether there are more; time stands still.
async fn until(engine: &Engine, pipeline: &str, count: usize) -> Vec<RunRecord> {
    let mut found = Vec::new();
    for _ in 0..1_000 {
        found = runs(engine, pipeline).await;
        if found.len() >= count {
            break;
        }
        turn().await;
    }
    for _ in 0..10 {
        turn().await;
        found = runs(engine, pipeline).await;
    }
    assert_eq!(found.len(), count, "{pipeline}");
    found
}

#[tokio::test]
async fn a_run_follows_each_end_that_counts_once() {
    for (on, expected) in [
        ("succeeded", vec!["succeeded"]),
        ("failed", vec!["failed"]),
        ("both", vec!["succeeded", "failed"]),
        ("ended", vec!["succeeded", "failed", "canceled"]),
    ] {
        let stage = fails(Stage::new());
        let engine = stage.engine().await;
        let daemon = stage.daemon(&engine, &[("first", FIRST), ("second", &second(on, ""))]);
        let working = daemon.afters();
        let first = daemon.active.borrow()[0].clone();
        // It is new, and has to have looked once.
        for _ in 0..3_000 {
            let rows = engine.parts().store.schedules().await.unwrap();
            if rows.iter().any(|row| row.begun > Timestamp(0)) {
                break;
            }
            turn().await;
        }
        stage.world.clock.advance(Duration::from_secs(1));
        let mut ended = vec![run(&engine, &first, false).await, run(&engine, &first, true).await];
        let canceled = engine.start(&first, Value::map([("fail", Value::Bool(false))])).await.unwrap();
        engine.signal(canceled, &Signal::Cancel { undo: false }).await.unwrap();
        engine.execute(canceled, first.clone(), pipewright::engine::ExecuteOptions::default()).await.unwrap();
        ended.push(canceled);
        daemon.bell.ended("first");
        let found = until(&engine, "second", expected.len()).await;
        let mut states: Vec<_> = found.iter().map(|run| run.inputs.get("state").unwrap().to_text()).collect();
        states.sort();
        let mut wanted = expected.clone();
        wanted.sort_unstable();
        assert_eq!(states, wanted, "{on}");
        for run in &found {
            let of = run.inputs.get("run").unwrap().to_text();
            assert!(run.slot.as_deref().unwrap().ends_with(&format!("@after:{of}")), "{:?}", run.slot);
            assert!(ended.iter().any(|run| run.to_string() == of));
            match run.inputs.get("state").unwrap().to_text().as_str() {
                "succeeded" => assert_eq!(run.inputs.get("out").unwrap().to_string(), r#"{"out":5}"#),
                "failed" => assert!(run.inputs.get("error").unwrap().to_string().contains(r#""class":"invalid""#)),
                _ => {}
            }
        }
        // Whatever wakes it later finds nothing new.
        for _ in 0..5 {
            daemon.bell.ended("first");
            daemon.bell.ring();
            stage.world.clock.advance(Duration::from_secs(40));
        }
        until(&engine, "second", expected.len()).await;
        daemon.end(working).await;
    }
}

#[tokio::test]
async fn what_ended_while_nobody_looked_is_followed_and_what_ended_before_is_not() {
    let stage = fails(Stage::new());
    let engine = stage.engine().await;
    let text = second("succeeded", "");
    let files = [("first", FIRST), ("second", text.as_str())];
    let early = {
        let first = stage.all(&files)[0].clone();
        run(&engine, &first, false).await
    };
    stage.world.clock.advance(Duration::from_secs(1));
    let daemon = stage.daemon(&engine, &files);
    let first = daemon.active.borrow()[0].clone();
    let working = daemon.afters();
    until(&engine, "second", 0).await;
    stage.world.clock.advance(Duration::from_secs(5));
    let seen = run(&engine, &first, false).await;
    // Nobody rings: it looks by itself.
    stage.world.clock.advance(Duration::from_secs(31));
    until(&engine, "second", 1).await;
    daemon.end(working).await;
    // The daemon is down for three days; one run ends meanwhile, and one by a clock that is ten minutes behind.
    stage.world.clock.advance(Duration::from_secs(3 * 86_400));
    let missed = run(&engine, &first, false).await;
    let daemon = stage.daemon(&engine, &files);
    let working = daemon.afters();
    let found = until(&engine, "second", 2).await;
    let of: Vec<_> = found.iter().map(|run| run.inputs.get("run").unwrap().to_text()).collect();
    assert_eq!(of, [seen.to_string(), missed.to_string()]);
    assert!(!of.contains(&early.to_string()));
    daemon.end(working).await;
}

#[tokio::test]
async fn an_end_by_a_clock_that_is_behind_is_followed() {
    let stage = fails(Stage::new());
    let engine = stage.engine().await;
    let text = second("succeeded", "");
    let daemon = stage.daemon(&engine, &[("first", FIRST), ("second", &text)]);
    let first = daemon.active.borrow()[0].clone();
    let working = daemon.afters();
    until(&engine, "second", 0).await;
    // An hour later it has looked and noted how far it came.
    for _ in 0..120 {
        stage.world.clock.advance(Duration::from_secs(30));
        until(&engine, "second", 0).await;
    }
    // Another machine, whose clock is ten minutes behind, ends a run.
    let mut behind = fails(Stage::new());
    let now = stage.world.clock_now();
    (behind.system, behind.world.clock) = System::simulated(Timestamp(now.micros() - 600_000_000), 9);
    behind.folder = stage.folder;
    let other = behind.engine().await;
    run(&other, &first, false).await;
    stage.world.clock.advance(Duration::from_secs(31));
    until(&engine, "second", 1).await;
    daemon.end(working).await;
}

#[tokio::test]
async fn two_daemons_follow_an_end_once() {
    let stage = fails(Stage::new());
    let (one, other) = (stage.engine().await, stage.engine().await);
    let text = second("succeeded", "");
    let files = [("first", FIRST), ("second", text.as_str())];
    let daemons = [stage.daemon(&one, &files), stage.daemon(&other, &files)];
    let first = daemons[0].active.borrow()[0].clone();
    let working: Vec<_> = daemons.iter().map(Daemon::afters).collect();
    until(&one, "second", 0).await;
    stage.world.clock.advance(Duration::from_secs(1));
    for _ in 0..20 {
        run(&one, &first, false).await;
        daemons.iter().for_each(|daemon| daemon.bell.ended("first"));
    }
    let found = until(&one, "second", 20).await;
    let mut of: Vec<_> = found.iter().map(|run| run.inputs.get("run").unwrap().to_text()).collect();
    of.sort();
    of.dedup();
    assert_eq!(of.len(), 20);
    for (daemon, working) in daemons.into_iter().zip(working) {
        daemon.end(working).await;
    }
}

#[tokio::test]
async fn ends_while_the_trigger_is_off_are_let_go() {
    let stage = fails(Stage::new());
    let engine = stage.engine().await;
    let text = second("succeeded", "");
    let daemon = stage.daemon(&engine, &[("first", FIRST), ("second", &text)]);
    let first = daemon.active.borrow()[0].clone();
    let working = daemon.afters();
    until(&engine, "second", 0).await;
    let store = &engine.parts().store;
    let trigger = store.schedules().await.unwrap().remove(0).trigger;
    store.switch_schedule("second", &trigger, true).await.unwrap();
    daemon.bell.ring();
    stage.world.clock.advance(Duration::from_secs(2));
    until(&engine, "second", 0).await;
    run(&engine, &first, false).await;
    stage.world.clock.advance(Duration::from_secs(60));
    until(&engine, "second", 0).await;
    // As `schedules enable` does.
    store.begin_triggers(&[("second".to_owned(), trigger.clone())], stage.world.clock_now()).await.unwrap();
    store.switch_schedule("second", &trigger, false).await.unwrap();
    daemon.bell.ring();
    stage.world.clock.advance(Duration::from_secs(2));
    until(&engine, "second", 0).await;
    run(&engine, &first, false).await;
    daemon.bell.ended("first");
    until(&engine, "second", 1).await;
    daemon.end(working).await;
}

#[tokio::test]
async fn what_the_bucket_has_no_room_for_starts_later_and_is_not_lost() {
    let stage = fails(Stage::new());
    let engine = stage.engine().await;
    let text = second("succeeded", "max: 2, window: 20s,");
    let daemon = stage.daemon(&engine, &[("first", FIRST), ("second", &text)]);
    let first = daemon.active.borrow()[0].clone();
    let working = daemon.afters();
    until(&engine, "second", 0).await;
    stage.world.clock.advance(Duration::from_secs(1));
    for _ in 0..6 {
        run(&engine, &first, false).await;
    }
    daemon.bell.ended("first");
    let found = until(&engine, "second", 6).await;
    let now = stage.world.clock_now();
    let mut waits: Vec<_> =
        found.iter().map(|run| run.waiting_until.map_or(0, |until| until.since(now).micros() / 1_000_000)).collect();
    waits.sort_unstable();
    assert_eq!(waits, [0, 0, 10, 20, 30, 40]);
    assert!(
        found
            .iter()
            .filter(|run| run.state == RunState::Waiting)
            .all(|run| run.reason.as_deref() == Some("its trigger has fired as often as it may"))
    );
    let take = async || {
        let mut taken = Vec::new();
        for claimed in engine.take(32).await.unwrap() {
            if &*claimed.run.pipeline == "second" {
                taken.push(claimed.run.id);
            }
        }
        taken.len()
    };
    assert_eq!(take().await, 2);
    for _ in 0..4 {
        assert_eq!(take().await, 0);
        stage.world.clock.advance(Duration::from_secs(10));
        assert_eq!(take().await, 1);
    }
    daemon.counted(r#"pipewright_triggers_total{kind="after",outcome="put_off"} 4"#);
    daemon.end(working).await;
}

#[tokio::test]
async fn an_end_that_fits_no_inputs_is_told_and_keeps_nothing_else_back() {
    let stage = fails(Stage::new());
    let engine = stage.engine().await;
    let text = r#"triggers: [ { after: first, inputs: { out: "{{ event.outputs.out }}" } } ]
inputs: { out: { type: integer, maximum: 3 } }
"#;
    let daemon = stage
        .daemon(&engine, &[("first", FIRST), ("second", &format!("{text}{STEP}")), ("third", &second("both", ""))]);
    let first = daemon.active.borrow()[0].clone();
    let working = daemon.afters();
    until(&engine, "second", 0).await;
    stage.world.clock.advance(Duration::from_secs(1));
    run(&engine, &first, false).await;
    for _ in 0..4 {
        daemon.bell.ended("first");
        until(&engine, "third", 1).await;
    }
    until(&engine, "second", 0).await;
    daemon.counted(r#"pipewright_triggers_total{kind="after",outcome="unfit"} 1"#);
    daemon.end(working).await;
}

#[tokio::test]
async fn slots_that_are_too_many_start_later_and_none_is_lost() {
    let stage = Stage::new().read("test.one", |_, _| give(1));
    let engine = stage.engine().await;
    let text = r#"triggers: [ { every: 1m, missed: all, bucket: { max: 2, window: 20m } } ]
"#;
    let files = format!("{text}{STEP}");
    let daemon = stage.daemon(&engine, &[("some", &files)]);
    let metrics = daemon.metrics.clone();
    let (stop, scheduler) = (daemon.stop, daemon.scheduler);
    // The trigger is met, and then nobody looks for six minutes.
    let store = &engine.parts().store;
    let trigger = daemon.active.borrow()[0].triggers[0].id.to_string();
    store.meet_schedules(&[("some".to_owned(), trigger)], stage.world.clock_now()).await.unwrap();
    stage.world.clock.advance(Duration::from_secs(360));
    let working = tokio::spawn(scheduler.run());
    let mut found = until(&engine, "some", 6).await;
    found.sort_by_key(|run| run.slot.clone());
    let now = stage.world.clock_now();
    let waits = found.iter().map(|run| run.waiting_until.map_or(0, |until| until.since(now).micros() / 60_000_000));
    assert_eq!(waits.collect::<Vec<_>>(), [0, 0, 10, 20, 30, 40], "the earlier slot starts first");
    let row = store.schedules().await.unwrap().remove(0);
    assert_eq!((row.fired_at, row.full_at), (Some(now), now.plus(Duration::from_secs(3_600))));
    assert!(metrics.text(&[]).contains(r#"pipewright_triggers_total{kind="every",outcome="put_off"} 4"#));
    stop.cancel();
    working.await.unwrap();
}
