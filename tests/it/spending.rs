//! The account of money: calls under budgets on a simulated clock, and whole runs in the sandbox.

use std::process::Stdio;
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

use crate::support::server::Reply;
use crate::support::server::Seen;
use crate::support::server::Server;
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
    insta::with_settings!({ prepend_module_to_snapshot => false, filters => vec![
        (r"[0-9A-HJKMNP-TV-Z]{26}", "[ID]"),
    ] }, { insta::assert_snapshot!("usage", usage.shown()) });
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

#[test]
fn a_killed_process_pays_once_for_a_question_and_again_only_where_the_step_says_so() {
    for (policy, code, asked) in [("", 1, 1), (", in_doubt: resend", 0, 2)] {
        let came = Arc::new(Mutex::new(0));
        let counted = came.clone();
        let server = Server::start(move |_: &Seen| {
            let mut came = counted.lock().unwrap();
            *came += 1;
            // The first one is never answered.
            if *came == 1 { Reply::Silence } else { Reply::json(200, r#"{"text":"tea"}"#) }
        });
        let shell = Shell::project();
        let connection = format!("{{ connector: far, base_url: \"{}\", private: true }}", server.url);
        shell.file("pipewright.yaml", &format!("connections: {{ far: {connection} }}\n"));
        let manifest = "connector: far\nbase_url: { api: \"{{ config.base_url }}\" }\nauth: none\n\
                        limits: { budgets: { spend: { unit: USD } } }\noperations:\n  \
                        ask: { effect: read, cost: { spend: \"0.02\" }, request: { get: /ask }, output: \"{{ body.text }}\" }\n";
        shell.file("connectors/far.yaml", manifest);
        let step = format!("{{ uses: far.ask, with: {{ connection: far }}{policy} }}");
        shell.file(
            "pipelines/ask.yaml",
            &format!("steps: {{ a: {step} }}\noutputs: {{ text: \"{{{{ steps.a.output }}}}\" }}\n"),
        );
        let mut command = shell.command(&["run", "ask"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while *came.lock().unwrap() == 0 {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it asked");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let run = shell.last();
        let ended = shell.run(&["runs", "resume", &run]);
        assert_eq!((ended.code, *came.lock().unwrap()), (code, asked), "{policy}\n{}", ended.shown());
        let usage = shell.run(&["usage"]).out;
        if code == 0 {
            let shown = shell.run(&["runs", "logs", &run]).shown();
            assert!(shown.contains("perhaps paid for once more"), "{shown}");
            assert!(usage.contains("0.04 USD"), "{usage}");
        } else {
            assert!(ended.err.contains(&format!("`pipewright runs retry {run}` asks once more")), "{}", ended.shown());
            assert!(usage.contains("0.02 USD"), "{usage}");
            assert_eq!(shell.run(&["runs", "retry", &run]).code, 0);
            assert_eq!(*came.lock().unwrap(), 2);
        }
    }
}

const ADS: &str = r#"connector: ads
base_url: { api: "{{ config.base_url }}" }
config: { properties: { base_url: { type: string } } }
auth: none
limits: { budgets: { spend: { unit: USD } } }
operations:
  post:
    effect: create
    reconcile: none
    input: { properties: { text: { type: string } } }
    cost: { spend: "{{ none if input.text == 'dear' else '0.015' | decimal }}" }
    request: { post: /posts, json: { text: "{{ input.text }}" } }
    output: { id: "{{ body.id }}" }
"#;

/// A project whose pipeline posts these texts.
fn posting(server: &Server, budget: &str, texts: &str) -> Shell {
    let shell = Shell::project();
    let ads = format!("{{ connector: ads, base_url: \"{}\", private: true }}", server.url);
    shell.file("pipewright.yaml", &format!("connections: {{ ads: {ads} }}\nlimits: {{ spend: {{ day: 1 USD }} }}\n"));
    shell.file("connectors/ads.yaml", ADS);
    let step = "uses: ads.post, with: { connection: ads, text: \"{{ item }}\" }";
    let text = format!("budget: {budget}\nsteps:\n  post: {{ for_each: {texts}, max_parallel: 1, {step} }}\n");
    shell.file("pipelines/posts.yaml", &text);
    shell
}

fn ads() -> Server {
    Server::start(|_| Reply::json(200, r#"{"id":"1"}"#))
}

#[test]
fn a_plan_says_what_it_needs_of_each_budget_and_refuses_what_cannot_fit() {
    let server = ads();
    let shell = posting(&server, "{ run: 0.05 USD, day: 0.06 USD }", "[one, two, three]");
    let plan = shell.run(&["plan", "posts"]);
    assert_eq!(plan.code, 0, "{}", plan.shown());
    assert!(
        plan.out.contains("budget: `budget.run` of pipeline `posts`: 0.05 USD; the run needs 0.045 USD\n"),
        "{}",
        plan.out
    );
    assert!(
        plan.out.contains("budget: the project's `limits.spend.day`: 1 USD; the run needs 0.045 USD\n"),
        "{}",
        plan.out
    );
    assert_eq!(shell.run(&["run", "posts"]).code, 0);
    // What is used of the day counts.
    let plan = shell.run(&["plan", "posts", "-o", "plan.json"]);
    let why = "the run would need 0.045 USD, and of `budget.day` of pipeline `posts` 0.015 of 0.06 USD are left";
    assert!(plan.code == 1 && plan.err.contains(why), "{}", plan.shown());
    assert!(
        plan.out.contains("0.06 USD, 0.045 USD are used; the run needs 0.045 USD; it does not fit"),
        "{}",
        plan.out
    );
    let applied = shell.run(&["apply", "plan.json"]);
    assert!(applied.code == 1 && applied.err.contains(why), "{}", applied.shown());
    let json = shell.run(&["plan", "posts", "--json"]).out;
    let budgets = pipewright::model::parse_json(&json).unwrap().get("budgets").cloned().unwrap();
    let fits: Vec<_> = budgets.as_list().unwrap().iter().map(|it| it.get("fits").unwrap().to_text()).collect();
    assert_eq!(fits, ["true", "false", "true"]);
    assert_eq!(shell.run(&["runs", "list", "--json"]).out.lines().count(), 1);
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn a_plan_counts_no_unknown_price_as_nothing() {
    let server = ads();
    let shell = posting(&server, "{ run: 0.05 USD }", "[one, dear]");
    let plan = shell.run(&["plan", "posts"]);
    let line = "the run needs 0.015 USD, 1 request of which nobody knows the price\n";
    assert!(plan.code == 0 && plan.out.contains(line), "{}", plan.shown());
    // A model without a price is not asked, however much a plan may spend; one with a price is told of.
    let ask = |model: &str| {
        shell.file(
            "pipewright.yaml",
            "connections: { gpt: { connector: openai, auth: { api_key: k } } }\nlimits: { spend: { day: 1 USD } }\n",
        );
        let with = format!("{{ connection: gpt, model: {model}, text: Hello., max_tokens: 100 }}");
        shell.file("pipelines/ask.yaml", &format!("steps: {{ ask: {{ uses: ai.generate, with: {with} }} }}\n"));
        shell.run(&["plan", "ask", "--sandbox", "--spend", "5"]).out
    };
    let unknown = ask("gpt-of-nobody");
    assert!(unknown.contains("reads made: 0"), "{unknown}");
    assert!(unknown.contains("1 USD; the run needs 1 request of which nobody knows the price"), "{unknown}");
    let known = ask("gpt-6-luna");
    assert!(known.contains("reads made: 1: ask ai.generate"), "{known}");
    assert!(known.contains("spent by this plan 0."), "{known}");
}

#[test]
fn usage_tells_what_runs_and_steps_used_of_their_own_budgets() {
    let server = ads();
    let shell = posting(&server, "{ run: 0.05 USD, step: 0.02 USD }", "[one, two, three]");
    assert_eq!(shell.run(&["run", "posts"]).code, 0);
    let run = {
        let listed = shell.run(&["runs", "list", "--json"]).out;
        pipewright::model::parse_json(listed.trim()).unwrap().get("run").unwrap().to_text()
    };
    let json = shell.run(&["usage", "--run", &run, "--json"]).out;
    let lines: Vec<Value> = json.lines().map(|line| pipewright::model::parse_json(line).unwrap()).collect();
    let of = |line: &Value, key: &str| line.get(key).map(Value::to_text).unwrap_or_default();
    let shown: Vec<_> = lines
        .iter()
        .map(|line| ["period", "budget", "spent", "reserved", "used", "left"].map(|key| of(line, key)))
        .collect();
    let row = |cells: [&str; 6]| cells.map(str::to_owned);
    assert_eq!(shown.first(), Some(&row(["this run", "", "0.045", "0", "", ""])), "{json}");
    assert_eq!(shown.get(1), Some(&row(["", "run", "", "", "0.045", "0.005"])), "{json}");
    assert_eq!(shown.get(2), Some(&row(["", "step", "", "", "0.015", "0.005"])), "{json}");
    assert_eq!(of(&lines[2], "step"), "post[0]");
    let table = shell.run(&["usage"]).out;
    assert!(
        table.lines().any(|line| line.starts_with("run") && line.contains(&run) && line.contains("0.045 USD")),
        "{table}"
    );
    let none = shell.run(&["usage", "--run", "ZZZ"]);
    assert!(none.code == 2 && none.err.contains("there is no run `ZZZ`"), "{}", none.shown());
}

#[test]
fn more_texts_than_a_provider_takes_at_once_are_embedded_in_several_requests() {
    let shell = Shell::project();
    let connection = "{ connector: cohere, embed_model: embed-v4.0, auth: { api_key: k } }";
    shell.file("pipewright.yaml", &format!("connections: {{ co: {connection} }}\n"));
    for (count, requests) in [(96, "1"), (97, "2"), (200, "3")] {
        let texts = format!("\"{{{{ range({count}) | map('string') | list }}}}\"");
        let step = format!("uses: ai.embed, with: {{ connection: co, dimensions: 256, texts: {texts} }}");
        let outputs = r#"outputs:
  count: "{{ steps.embed.output.vectors | length }}"
  differ: "{{ steps.embed.output.vectors | first != steps.embed.output.vectors | last }}"
  tokens: "{{ steps.embed.output.usage.input }}"
  cost: "{{ steps.embed.output.cost | string }}"
"#;
        shell.file("pipelines/embed.yaml", &format!("steps: {{ embed: {{ {step} }} }}\n{outputs}"));
        let ended = shell.run(&["run", "embed", "--sandbox"]);
        assert_eq!(ended.code, 0, "{}", ended.shown());
        let outputs = pipewright::model::parse_json(&ended.out).unwrap();
        let of = |key: &str| outputs.get(key).map(Value::to_text).unwrap_or_default();
        assert_eq!((of("count"), of("differ")), (count.to_string(), "true".to_owned()));
        assert!(of("tokens").parse::<u32>().unwrap() >= count, "{}", ended.out);
        let run = shell.run(&["--sandbox", "usage", "--run", "last", "--json"]).out;
        let used = pipewright::model::parse_json(run.lines().next().unwrap()).unwrap();
        let told = |key: &str| used.get(key).map(Value::to_text).unwrap_or_default();
        assert_eq!(told("requests"), requests, "{run}");
        assert_eq!(decimal(&told("spent")), decimal(of("cost").strip_suffix(" USD").unwrap()));
    }
}

fn decimal(text: &str) -> rust_decimal::Decimal {
    text.parse::<rust_decimal::Decimal>().unwrap().normalize()
}
