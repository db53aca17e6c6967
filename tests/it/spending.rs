//! The account of money: calls under budgets on a simulated clock, and whole runs in the sandbox.

use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use pipewright::connector::auth::custody::Custody;
use pipewright::connector::call::Asked;
use pipewright::connector::call::Means;
use pipewright::connector::call::Stop;
use pipewright::connector::call::call;
use pipewright::connector::connection::Connection;
use pipewright::connector::library;
use pipewright::connector::library::Loaded;
use pipewright::connector::limits::Purse;
use pipewright::connector::manifest::Manifest;
use pipewright::connector::runtime::Connections;
use pipewright::connector::runtime::Link;
use pipewright::connector::runtime::Runtime;
use pipewright::http::Request;
use pipewright::http::Response;
use pipewright::http::Transport;
use pipewright::http::TransportError;
use pipewright::model::Duration;
use pipewright::model::ErrorClass;
use pipewright::model::RunId;
use pipewright::model::StepPath;
use pipewright::model::Value;
use pipewright::model::VersionId;
use pipewright::pipeline::Spend;
use pipewright::secrets::MasterKey;
use pipewright::store::NewRun;
use pipewright::store::OpenOptions;
use pipewright::store::SpendingFilter;
use pipewright::store::SpendingRecord;
use pipewright::store::SpendingState;
use pipewright::store::Store;
use pipewright::store::VersionRecord;
use pipewright::system::SimClock;
use pipewright::system::System;
use tokio_util::sync::CancellationToken;

use crate::support::shell::Shell;

/// 23:30 in Berlin.
const START: &str = "2026-03-02T22:30:00Z";

const FAR: &str = r#"connector: far
base_url: { api: https://far.example }
limits: { budgets: { spend: { unit: USD }, euros: { unit: EUR } } }
operations:
  post: { effect: read, cost: { spend: "0.015" }, request: { get: /x } }
  ask:
    effect: read
    cost: { spend: "{{ '0.02' | decimal }}" }
    spent: { spend: "{{ body.cost | decimal }}" }
    request: { get: /x }
  guess: { effect: read, cost: { spend: "{{ none }}" }, request: { get: /x } }
  abroad: { effect: read, cost: { euros: "0.01" }, request: { get: /x } }
  free: { effect: read, request: { get: /x } }
"#;

type Answer = Box<dyn Fn() -> Result<Response, TransportError> + Send + Sync>;

struct Far {
    answer: Mutex<Answer>,
    came: Mutex<usize>,
}

impl std::fmt::Debug for Far {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Far").finish_non_exhaustive()
    }
}

#[async_trait]
impl Transport for Far {
    async fn send(&self, _: Request) -> Result<Response, TransportError> {
        *self.came.lock().unwrap() += 1;
        tokio::task::yield_now().await;
        (self.answer.lock().unwrap())()
    }
}

fn reply(status: u16, body: &str) -> Result<Response, TransportError> {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Ok(Response { status, headers, body: body.as_bytes().to_vec() })
}

#[derive(Debug)]
struct To;

impl Connections for To {
    fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
        Connection::make(name, manifest, Value::map::<&str>([]), &Value::map::<&str>([]), false)
    }
}

#[derive(Clone)]
struct World {
    _folder: Arc<tempfile::TempDir>,
    clock: SimClock,
    custody: Custody,
    far: Arc<Far>,
    link: Arc<Link>,
}

fn run_id(number: u128) -> RunId {
    RunId::new(1_700_000_000_000, number)
}

impl World {
    /// Makes a run of a pipeline with a budget, and a run below it.
    async fn new(budget: &str, spend: Spend) -> Self {
        let (system, clock) = System::simulated(START.parse().unwrap(), 7);
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("state.db").display());
        let key = MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let options = OpenOptions { sealer: Some(Arc::new(key)), ..OpenOptions::default() };
        let store = Store::open(&url, options).await.unwrap();
        let text = format!("budget: {budget}\nsteps: {{}}\n");
        let definition = Value::map([("file", Value::from("news.yaml")), ("text", Value::from(text.as_str()))]);
        for (pipeline, definition) in [("news", definition.to_string()), ("child", "{}".to_owned())] {
            let version = VersionRecord {
                id: VersionId(pipeline.into()),
                pipeline: pipeline.into(),
                definition: definition.into(),
            };
            store.put_version(&version).await.unwrap();
        }
        let parent: StepPath = "child".parse().unwrap();
        for (number, pipeline, parent) in [(1, "news", None), (2, "child", Some((run_id(1), parent)))] {
            let run = NewRun {
                id: run_id(number),
                pipeline: pipeline.into(),
                version: VersionId(pipeline.into()),
                inputs: Value::map::<&str>([]),
                slot: None,
                priority: 5,
                parent,
                spread: false,
                started_by: None,
                requests: Vec::new(),
                created_at: system.clock.now(),
            };
            store.create_run(&run).await.unwrap();
        }
        let far = Arc::new(Far { answer: Mutex::new(Box::new(|| reply(200, "{}"))), came: Mutex::default() });
        let custody = Custody { store, http: far.clone(), system };
        let manifest = match library::read(&"far.yaml".into(), &FAR.into()) {
            Loaded::Manifest(manifest) => manifest,
            other => panic!("{other:?}"),
        };
        let runtime = Runtime::new(Arc::new(To)).with_custody(custody.clone()).with_purse(Purse::new(&spend));
        let link = Arc::new(runtime.link(&manifest, "far").unwrap());
        Self { _folder: Arc::new(folder), clock, custody, far, link }
    }

    fn answers(&self, answer: impl Fn() -> Result<Response, TransportError> + Send + Sync + 'static) {
        *self.far.answer.lock().unwrap() = Box::new(answer);
    }

    /// Asks as a step of a run does. Returns the class and the message of a failure.
    async fn ask(&self, run: u128, step: &str, operation: &str) -> Result<(), (ErrorClass, String)> {
        let (canceled, path) = (CancellationToken::new(), step.parse().unwrap());
        let means = Means { step: Some((run_id(run), &path)), ..self.custody.means(&canceled) };
        let operation = self.link.manifest.operation(operation).unwrap();
        match call(&self.link, &means, Asked::new(operation, Value::map::<&str>([]))).await {
            Ok(_) => Ok(()),
            Err(Stop::Failed(failure)) => Err((failure.class, failure.message)),
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn refused(&self, run: u128, step: &str, operation: &str) -> String {
        let before = *self.far.came.lock().unwrap();
        let (class, message) = self.ask(run, step, operation).await.unwrap_err();
        assert_eq!((class, *self.far.came.lock().unwrap()), (ErrorClass::Exhausted, before), "{message}");
        message
    }

    async fn rows(&self) -> Vec<SpendingRecord> {
        let filter = SpendingFilter { most: 1_000, ..SpendingFilter::default() };
        self.custody.store.spending(&filter).await.unwrap()
    }

    /// Returns state and amount of each request.
    async fn account(&self) -> Vec<(SpendingState, String)> {
        let shown = |row: &SpendingRecord| row.counted().map_or("?".to_owned(), |amount| amount.to_string());
        self.rows().await.iter().map(|row| (row.state, shown(row))).collect()
    }
}

#[tokio::test]
async fn many_at_once_never_spend_past_a_budget() {
    let world = World::new("{ run: 0.10 USD }", Spend::default()).await;
    // Runs below count for the run above.
    let tasks: Vec<_> = (0..64)
        .map(|number: u128| {
            let world = world.clone();
            tokio::spawn(async move { world.ask(1 + number % 2, "post", "post").await })
        })
        .collect();
    let mut refused = Vec::new();
    for task in tasks {
        refused.extend(task.await.unwrap().err());
    }
    assert_eq!((*world.far.came.lock().unwrap(), refused.len()), (6, 58));
    let message = "`far.post` was not sent: the budget `run` of pipeline `news` does not allow it: 0.09 of 0.1 USD are \
                   used, and it costs 0.015 USD";
    assert!(refused.iter().all(|(class, told)| *class == ErrorClass::Exhausted && told == message), "{refused:?}");
    // What costs nothing goes on, and leaves no row.
    world.ask(1, "post", "free").await.unwrap();
    assert_eq!(world.account().await, vec![(SpendingState::Settled, "0.015".to_owned()); 6]);
    assert!(world.rows().await.iter().all(|row| row.new.pipeline == "news"));
}

#[tokio::test]
async fn a_step_has_a_budget_of_its_own() {
    let world = World::new("{ step: 0.015 USD }", Spend::default()).await;
    world.ask(1, "one", "post").await.unwrap();
    world.ask(1, "two", "post").await.unwrap();
    world.ask(2, "one", "post").await.unwrap();
    let message = world.refused(1, "one", "post").await;
    assert!(message.contains("the budget `step` of pipeline `news`"), "{message}");
}

#[tokio::test]
async fn a_day_ends_where_the_project_says() {
    let spend = Spend { day: Some("0.02 USD".parse().unwrap()), timezone: Some("Europe/Berlin".to_owned()) };
    let world = World::new("{ day: 0.03 USD }", spend).await;
    world.ask(1, "post", "post").await.unwrap();
    let message = world.refused(1, "post", "post").await;
    let end = "the project's `limits.spend.day` does not allow it: 0.015 of 0.02 USD are used, and it costs 0.015 USD; \
               a new day begins at 2026-03-03 00:00 +01:00";
    assert!(message.ends_with(end), "{message}");
    // Midnight there is an hour before midnight UTC.
    world.clock.advance(Duration::from_secs(31 * 60));
    world.ask(1, "post", "post").await.unwrap();
    let days: Vec<_> = world.rows().await.into_iter().map(|row| row.new.day).collect();
    assert_eq!(days, ["2026-03-02", "2026-03-03"]);
}

#[tokio::test]
async fn only_what_may_have_been_charged_counts() {
    let world = World::new("{ run: 1 USD }", Spend::default()).await;
    let host = || "far.example".to_owned();
    let told = r#"{"cost":"1.5","model":"m1","usage":{"prompt_tokens":7,"completion_tokens":3}}"#;
    let answers: [(Answer, SpendingState, &str); 7] = [
        (Box::new(|| reply(400, "{}")), SpendingState::Released, "0"),
        (Box::new(|| reply(429, "{}")), SpendingState::Released, "0"),
        (Box::new(|| reply(500, "{}")), SpendingState::Unknown, "0.02"),
        (
            Box::new(move || Err(TransportError::Broken { host: host(), reason: "gone".to_owned() })),
            SpendingState::Unknown,
            "0.02",
        ),
        (
            Box::new(move || Err(TransportError::NotSent { host: host(), reason: "no route".to_owned() })),
            SpendingState::Released,
            "0",
        ),
        // It does not say what it cost.
        (Box::new(|| reply(200, "{}")), SpendingState::Unknown, "0.02"),
        // More than was reserved is recorded in full.
        (Box::new(move || reply(200, told)), SpendingState::Settled, "1.5"),
    ];
    let mut expected = Vec::new();
    for (answer, state, counted) in answers {
        expected.push((state, counted.to_owned()));
        *world.far.answer.lock().unwrap() = answer;
        let _ = world.ask(1, "ask", "ask").await;
        world.clock.advance(Duration::from_secs(60));
    }
    let message = world.refused(1, "ask", "ask").await;
    assert!(message.contains("1.56 of 1 USD are used"), "{message}");
    assert_eq!(world.account().await, expected);
    let last = world.rows().await.pop().unwrap();
    assert_eq!((last.model.as_deref(), last.tokens_in, last.tokens_out), (Some("m1"), Some(7), Some(3)));
}

#[tokio::test]
async fn an_unknown_price_is_let_go_and_another_currency_is_not() {
    let world = World::new("{ run: 0.015 USD }", Spend::default()).await;
    world.ask(1, "guess", "guess").await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    let message = world.refused(1, "abroad", "abroad").await;
    assert!(message.contains("it costs EUR, and the budget `run` of pipeline `news` is in USD"), "{message}");
    world.ask(1, "post", "post").await.unwrap();
    let message = world.refused(1, "guess", "guess").await;
    assert!(message.ends_with("0.015 of 0.015 USD are used, and it costs an unknown amount"), "{message}");
    let account = [(SpendingState::Unknown, "?".to_owned()), (SpendingState::Settled, "0.015".to_owned())];
    assert_eq!(world.account().await, account);
}

#[tokio::test]
async fn a_request_that_was_cut_off_stays_spent() {
    let world = World::new("{ run: 0.02 USD }", Spend::default()).await;
    let (left, seen) = (Arc::new(tokio::sync::Notify::new()), world.clone());
    let told = left.clone();
    world.answers(move || {
        told.notify_one();
        panic!("the process dies between the request and its answer")
    });
    let task = tokio::spawn(async move { seen.ask(1, "post", "post").await });
    left.notified().await;
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(world.account().await, [(SpendingState::Reserved, "0.015".to_owned())]);
    let message = {
        *world.far.answer.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Box::new(|| reply(200, "{}"));
        world.far.answer.clear_poison();
        world.refused(2, "post", "post").await
    };
    assert!(message.contains("0.015 of 0.02 USD are used"), "{message}");
}

#[test]
fn a_run_stops_at_its_budget_and_usage_tells() {
    let shell = Shell::empty();
    shell.file("pipewright.yaml", "connections: { ads: { connector: ads } }\nlimits: { spend: { day: 1 USD } }\n");
    shell.file(
        "connectors/ads.yaml",
        r#"connector: ads
base_url: { api: https://ads.example }
auth: none
limits: { budgets: { spend: { unit: USD } } }
operations:
  post:
    effect: create
    reconcile: none
    input: { properties: { text: { type: string } } }
    cost: { spend: "0.015" }
    request: { post: /posts, json: { text: "{{ input.text }}" } }
    output: { id: "{{ body.id }}" }
    sandbox: { reply: { json: { id: "1", model: m1, usage: { input_tokens: 7, output_tokens: 3 } } } }
"#,
    );
    shell.file(
        "pipelines/posts.yaml",
        r#"budget: { run: 0.05 USD, day: 0.50 USD }
steps:
  post:
    for_each: [one, two, three, four, five]
    max_parallel: 1
    uses: ads.post
    with: { connection: ads, text: "number {{ item }}" }
"#,
    );
    assert!(shell.run(&["--sandbox", "usage"]).out.contains("today: nothing was spent\n"));
    let ended = shell.run(&["run", "posts", "--sandbox", "--seed", "1"]);
    assert_eq!(ended.code, 1, "{}", ended.shown());
    assert!(ended.err.contains("the budget `run` of pipeline `posts` does not allow it"), "{}", ended.shown());
    let usage = shell.run(&["--sandbox", "usage"]);
    insta::with_settings!({ prepend_module_to_snapshot => false }, { insta::assert_snapshot!("usage", usage.shown()) });
    let json = shell.run(&["--sandbox", "usage", "--by", "step", "--json", "--pipeline", "posts"]).out;
    let lines: Vec<Value> = json.lines().map(|line| pipewright::model::parse_json(line).unwrap()).collect();
    let spent = |key: &str| lines[0].get(key).map(Value::to_text).unwrap_or_default();
    assert_eq!((spent("step"), spent("unit"), spent("unknown")), ("post".to_owned(), "USD".to_owned(), "0".to_owned()));
    assert_eq!(
        lines[1].get("left").map(Value::to_text),
        Some((decimal("0.50") - decimal(&spent("spent"))).to_string())
    );
    assert!(shell.run(&["usage"]).out.contains("today: nothing was spent\n"), "a rehearsal cost money");
}

fn decimal(text: &str) -> rust_decimal::Decimal {
    text.parse::<rust_decimal::Decimal>().unwrap().normalize()
}
