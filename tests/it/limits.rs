//! Limits, on virtual time, against a system that keeps its own account and tells when somebody comes too early.

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
use pipewright::connector::manifest::Manifest;
use pipewright::connector::runtime::Connections;
use pipewright::connector::runtime::Link;
use pipewright::connector::runtime::Runtime;
use pipewright::http::Request;
use pipewright::http::Response;
use pipewright::http::Transport;
use pipewright::http::TransportError;
use pipewright::model::Duration;
use pipewright::model::EffectId;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::node::EffectContext;
use pipewright::secrets::MasterKey;
use pipewright::store::OpenOptions;
use pipewright::store::Store;
use pipewright::system::SimClock;
use pipewright::system::System;
use tokio_util::sync::CancellationToken;

/// 23:00 in Los Angeles.
const START: &str = "2026-03-02T07:00:00Z";

type Answer = Box<dyn Fn(&mut Told, Timestamp) -> Result<Response, TransportError> + Send + Sync>;

/// A system far away; each request takes 200 ms of virtual time.
struct Far {
    system: System,
    answer: Answer,
    told: Mutex<Told>,
}

/// What it has seen.
#[derive(Debug, Default)]
struct Told {
    /// When each request came.
    came: Vec<Timestamp>,
    refused: usize,
    accepted: Vec<Timestamp>,
    /// Until when nobody is to come.
    closed: Option<Timestamp>,
    /// Requests that left when we had already been told not to come.
    too_early: usize,
    under_way: usize,
    together: usize,
}

impl std::fmt::Debug for Far {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Far").finish_non_exhaustive()
    }
}

#[async_trait]
impl Transport for Far {
    async fn send(&self, _: Request) -> Result<Response, TransportError> {
        let left = self.system.clock.now();
        {
            let mut told = self.told.lock().unwrap();
            told.under_way += 1;
            told.together = told.together.max(told.under_way);
            // What is under way when we are told cannot be called back.
            let closed = told.closed.is_some_and(|closed| left < closed);
            told.too_early += usize::from(closed);
        }
        self.system.clock.sleep_until(left.plus(Duration::from_millis(200))).await;
        let now = self.system.clock.now();
        let mut told = self.told.lock().unwrap();
        told.under_way -= 1;
        told.came.push(left);
        (self.answer)(&mut told, now)
    }
}

fn reply(status: u16, headers: &[(&str, String)], body: &str) -> Response {
    let mut headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    headers.push(("content-type".to_owned(), "application/json".to_owned()));
    Response { status, headers, body: body.as_bytes().to_vec() }
}

#[derive(Debug)]
struct To;

impl Connections for To {
    fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
        Connection::make(name, manifest, Value::map::<&str>([]), &Value::map::<&str>([]), false)
    }
}

/// A process with a store: its memory goes with it.
#[derive(Clone)]
struct Process {
    custody: Custody,
    link: Arc<Link>,
    far: Arc<Far>,
}

/// A world that stands still until somebody sleeps.
struct World {
    folder: tempfile::TempDir,
    system: System,
    clock: SimClock,
    far: Arc<Far>,
    /// Whether limits are kept in the store. A store takes real time, so what happens in one moment has no order.
    kept: bool,
}

impl World {
    fn new(answer: impl Fn(&mut Told, Timestamp) -> Result<Response, TransportError> + Send + Sync + 'static) -> Self {
        let (system, clock) = System::simulated(START.parse().unwrap(), 7);
        let far = Far { system: system.clone(), answer: Box::new(answer), told: Mutex::default() };
        Self { folder: tempfile::tempdir().unwrap(), system, clock, far: Arc::new(far), kept: true }
    }

    async fn process(&self, limits: &str) -> Process {
        let url = format!("sqlite://{}", self.folder.path().join("state.db").display());
        let key = MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let options = OpenOptions { sealer: Some(Arc::new(key)), ..OpenOptions::default() };
        let store = Store::open(&url, options).await.unwrap();
        let custody = Custody { store, http: self.far.clone(), system: self.system.clone() };
        let text = format!("connector: far\nbase_url: {{ api: https://far.example }}\n{limits}");
        let manifest = match library::read(&"far.yaml".into(), &text.as_str().into()) {
            Loaded::Manifest(manifest) => manifest,
            other => panic!("{other:?}"),
        };
        let runtime = Runtime::new(Arc::new(To));
        let runtime = if self.kept { runtime.with_custody(custody.clone()) } else { runtime };
        let link = runtime.link(&manifest, "far").unwrap();
        Process { custody, link: Arc::new(link), far: self.far.clone() }
    }

    /// Lets time pass as somebody waits for it, until all have come to an end.
    async fn pass<T: Send + 'static>(&self, tasks: Vec<tokio::task::JoinHandle<T>>) -> Vec<T> {
        let clock = self.clock.clone();
        let moving = tokio::spawn(async move {
            // Those who are awake are given real time to do what they do.
            let real = System::real().clock;
            loop {
                real.sleep_until(real.now().plus(Duration::from_micros(300))).await;
                clock.advance(Duration::from_millis(100));
            }
        });
        let mut ended = Vec::new();
        for task in tasks {
            ended.push(task.await.unwrap());
        }
        moving.abort();
        ended
    }
}

impl Process {
    async fn once(&self, name: &str) -> Result<Value, Stop> {
        let canceled = CancellationToken::new();
        let operation = self.link.manifest.operation(name).unwrap();
        let asked = Asked::new(operation, Value::map::<&str>([]));
        let success = call(&self.link, &self.custody.means(&canceled), asked).await?;
        Ok(success.answered.text.clone())
    }

    /// Asks as the engine does: again when it is told to, and after what may pass. Returns the failures on the way.
    async fn until_done(self, name: &'static str) -> Vec<String> {
        let mut failures = Vec::new();
        loop {
            let until = match self.once(name).await {
                Ok(_) => return failures,
                Err(Stop::Later { until, .. }) => until,
                Err(Stop::Failed(failure)) => {
                    failures.push(failure.message);
                    let wait = failure.retry_after.unwrap_or(Duration::from_secs(1));
                    self.far.system.clock.now().plus(wait)
                }
            };
            self.custody.system.clock.sleep_until(until).await;
        }
    }

    async fn later(&self, name: &str) -> (Timestamp, String) {
        match self.once(name).await {
            Err(Stop::Later { until, reason }) => (until, reason),
            other => panic!("{other:?}"),
        }
    }
}

const PLAIN: &str = "operations: { get: { effect: read, request: { get: /x } } }\n";

/// Ten requests in a minute, refused ones not counted; it says when one will be free.
fn ten_a_minute(told: &mut Told, now: Timestamp) -> Result<Response, TransportError> {
    let minute = Duration::from_secs(60);
    told.accepted.retain(|at| now.since(*at) < minute);
    if told.accepted.len() < 10 {
        told.accepted.push(now);
        return Ok(reply(200, &[], "{}"));
    }
    told.refused += 1;
    let until = told.accepted[0].plus(minute);
    told.closed = told.closed.max(Some(until));
    let wait = until.since(now).micros().div_ceil(1_000_000);
    Ok(reply(429, &[("retry-after", wait.to_string())], "{}"))
}

#[tokio::test]
async fn a_storm_of_refusals_pauses_all_and_comes_back_slowly() {
    let world = World { kept: false, ..World::new(ten_a_minute) };
    let process = world.process(PLAIN).await;
    let tasks = (0..40).map(|_| tokio::spawn(process.clone().until_done("get"))).collect();
    let failures: usize = world.pass(tasks).await.iter().map(Vec::len).sum();
    let told = world.far.told.lock().unwrap();
    // All forty left before anybody knew; thirty of them were refused, and after that only what a window's end brings.
    assert_eq!(told.too_early, 0, "{told:?}");
    assert_eq!(told.came.len(), 40 + told.refused);
    assert!((30..=60).contains(&told.refused) && failures == told.refused, "{} {failures}", told.refused);
    // After the pause one goes ahead.
    let second: Vec<_> = told.came.iter().skip(40).take(4).collect();
    assert!(second[0] < second[1] && second[1].since(*second[0]) >= Duration::from_millis(200), "{second:?}");
}

#[tokio::test]
async fn without_a_word_of_when_the_wait_doubles() {
    let world = World::new(|told, _| {
        let refuse = told.came.len() <= 4;
        Ok(reply(if refuse { 429 } else { 200 }, &[], "{}"))
    });
    let world = World { kept: false, ..world };
    let process = world.process(PLAIN).await;
    world.pass(vec![tokio::spawn(process.until_done("get"))]).await;
    let told = world.far.told.lock().unwrap();
    let gaps: Vec<_> = told.came.windows(2).map(|two| two[1].since(two[0]).micros() / 1_000_000).collect();
    // The machine may be busy while the time passes: a wait comes out longer then, and never shorter.
    assert!(gaps.iter().zip([1, 2, 4, 8]).all(|(gap, least)| (least..least + 10).contains(gap)), "{gaps:?}");
}

#[tokio::test]
async fn a_budget_of_a_day_holds_over_restarts_and_processes_until_midnight_of_its_zone() {
    let limits = "limits: { budgets: { posts: { limit: 5, per: day, timezone: America/Los_Angeles } } }\noperations:\n  get: { effect: read, cost: { posts: 2 }, request: { get: /x } }\n  free: { effect: read, request: { get: /y } }\n";
    let world = World::new(|_, _| Ok(reply(200, &[], "{}")));
    let (one, two) = (world.process(limits).await, world.process(limits).await);
    world.pass(vec![tokio::spawn(one.clone().until_done("get")), tokio::spawn(two.until_done("get"))]).await;
    let midnight: Timestamp = "2026-03-02T08:00:00Z".parse().unwrap();
    let reason = "the limit `posts` of `far` (5 in a day) is used up".to_owned();
    assert_eq!(one.later("get").await, (midnight, reason.clone()));
    // What started later remembers it as well, and what costs nothing goes on.
    let three = world.process(limits).await;
    assert_eq!(three.later("get").await, (midnight, reason));
    world.pass(vec![tokio::spawn(three.clone().until_done("free"))]).await;
    world.clock.advance_to(midnight);
    world.pass(vec![tokio::spawn(three.until_done("get"))]).await;
    assert_eq!(world.far.told.lock().unwrap().came.len(), 4);
}

#[tokio::test]
async fn a_rolling_window_lets_one_go_for_one_that_leaves_it() {
    let limits = format!("limits: {{ budgets: {{ calls: {{ limit: 3, per: 10s }} }} }}\n{PLAIN}");
    let world = World::new(|_, _| Ok(reply(200, &[], "{}")));
    let process = world.process(&limits).await;
    let tasks = (0..12).map(|_| tokio::spawn(process.clone().until_done("get"))).collect();
    world.pass(tasks).await;
    let mut came = world.far.told.lock().unwrap().came.clone();
    came.sort_unstable();
    for four in came.windows(4) {
        assert!(four[3].since(four[0]) >= Duration::from_secs(10), "{came:?}");
    }
    assert!(came[11].since(came[0]) < Duration::from_secs(33), "{came:?}");
}

#[tokio::test]
async fn no_more_are_under_way_than_may_be() {
    let limits = format!("limits: {{ budgets: {{ calls: {{ in_flight: 3 }} }} }}\n{PLAIN}");
    let world = World::new(|_, _| Ok(reply(200, &[], "{}")));
    let process = world.process(&limits).await;
    let tasks = (0..30).map(|_| tokio::spawn(process.clone().until_done("get"))).collect();
    world.pass(tasks).await;
    let told = world.far.told.lock().unwrap();
    assert_eq!((told.together, told.came.len()), (3, 30));
}

#[tokio::test]
async fn what_answers_tell_is_kept_to() {
    let limits = "limits:\n  learn:\n    - { limit: \"{{ headers['x-limit'] }}\", used: \"{{ headers['x-used'] }}\", reset: \"{{ headers['x-reset'] | int | from_epoch }}\" }\noperations:\n  get: { effect: read, request: { get: /x } }\n  other: { effect: read, request: { get: /y } }\n";
    // Three in a quarter of an hour; it is learned only from the answers, and it is one operation's.
    let world = World::new(|told, now| {
        let reset = (now.micros() / 1_000_000 / 900 + 1) * 900;
        let used = told.came.iter().filter(|at| at.micros() / 900_000_000 == now.micros() / 900_000_000).count();
        let headers = [("x-limit", "3".to_owned()), ("x-used", used.to_string()), ("x-reset", reset.to_string())];
        if used > 3 {
            told.refused += 1;
        }
        Ok(reply(if used > 3 { 429 } else { 200 }, &headers, "{}"))
    });
    let process = world.process(limits).await;
    for _ in 0..3 {
        world.pass(vec![tokio::spawn(process.clone().until_done("get"))]).await;
    }
    let (until, reason) = process.later("get").await;
    assert_eq!(until.to_string(), "2026-03-02T07:15:00Z");
    assert_eq!(reason, "the limit of `far.get` is paused: it is used up, as the system says");
    // Another process that starts now has not heard an answer, and knows all the same.
    let other = world.process(limits).await;
    assert_eq!(other.later("get").await.0, until);
    let learned: Result<Value, Stop> = {
        let task = tokio::spawn(async move { process.once("other").await });
        world.pass(vec![task]).await.remove(0)
    };
    assert!(!matches!(learned, Err(Stop::Later { .. })), "{learned:?}");
}

#[tokio::test]
async fn what_an_answer_says_it_cost_is_settled() {
    let limits = "limits: { budgets: { tokens: { limit: 100, per: 1h } } }\noperations:\n  get: { effect: read, cost: { tokens: 60 }, spent: { tokens: \"{{ body.used }}\" }, request: { get: /x } }\n";
    let world = World::new(|_, _| Ok(reply(200, &[], r#"{"used":10}"#)));
    let process = world.process(limits).await;
    // Each reserves 60 and uses 10: after five 50 are used, and 60 do not fit.
    for _ in 0..5 {
        world.pass(vec![tokio::spawn(process.clone().until_done("get"))]).await;
    }
    let (until, _) = process.later("get").await;
    let came = world.far.told.lock().unwrap().came.clone();
    assert!(came[0].plus(Duration::from_secs(3_600)).since(until) < Duration::from_secs(1), "{until}");
    let row = process.custody.store.budget("a:far:tokens").await.unwrap().unwrap();
    let used: i64 = row.state.lines().map(|line| line.split_once(' ').unwrap().1.parse::<i64>().unwrap()).sum();
    assert_eq!(used, 50);
}

#[tokio::test]
async fn what_is_more_than_a_budget_never_goes_and_says_so() {
    let limits = "limits: { budgets: { tokens: { limit: 100, per: 1h, unit: tokens } } }\noperations: { get: { effect: read, cost: { tokens: 101 }, request: { get: /x } } }\n";
    let world = World::new(|_, _| Ok(reply(200, &[], "{}")));
    let Err(Stop::Failed(failure)) = world.process(limits).await.once("get").await else { panic!() };
    assert_eq!(
        failure.message,
        "one request needs 101 and can never go: the limit `tokens` of `far` (100 tokens in 1h) is used up"
    );
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_left_alone_and_asked_by_one() {
    let world = World::new(|told, _| {
        if told.came.len() > 7 {
            return Ok(reply(200, &[], "{}"));
        }
        Err(TransportError::NotSent { host: "far.example".to_owned(), reason: "connection refused".to_owned() })
    });
    let process = world.process(PLAIN).await;
    let failures = world.pass(vec![tokio::spawn(process.clone().until_done("get"))]).await.remove(0);
    let came = world.far.told.lock().unwrap().came.clone();
    let gaps: Vec<_> = came.windows(2).map(|two| two[1].since(two[0]).micros() / 1_000_000).collect();
    // Five in a row, then a single one after 10, 20 and 40 seconds.
    assert!(gaps[..4].iter().all(|gap| *gap < 3), "{gaps:?}");
    let probes = gaps[4..].iter().zip([10, 20, 40]).all(|(gap, least)| (least - 1..least + 4).contains(gap));
    assert!(gaps.len() == 7 && probes, "{gaps:?}");
    assert!(
        failures.iter().any(|it| it.contains("`far.example:443` has failed several times in a row")),
        "{failures:?}"
    );
}

#[tokio::test]
async fn a_pause_holds_in_other_processes_and_after_a_restart() {
    let world = World::new(|_, _| Ok(reply(429, &[("retry-after", "90".to_owned())], "{}")));
    let process = world.process(PLAIN).await;
    let task = tokio::spawn(async move { process.once("get").await });
    world.pass(vec![task]).await;
    let other = world.process(PLAIN).await;
    let (until, reason) = other.later("get").await;
    let wait = until.since(world.system.clock.now()).micros() / 1_000_000;
    assert!((85..=90).contains(&wait), "{wait}");
    assert_eq!(reason, "connection `far` is paused: the system answered 429");
    assert_eq!(world.far.told.lock().unwrap().came.len(), 1);
}

#[tokio::test]
async fn what_was_let_go_too_late_to_be_sent_is_given_back() {
    let limits = "limits: { budgets: { posts: { limit: 1, per: 1h } } }\noperations: { post: { effect: create, reconcile: none, request: { post: /x } } }\n";
    let world = World::new(|_, _| Ok(reply(200, &[], "{}")));
    let process = world.process(limits).await;
    world.clock.advance(Duration::from_secs(1));
    // Its time for sending was over before its turn came.
    let effect = EffectContext {
        id: EffectId("run/step".into()),
        key: "key".into(),
        started_at: world.system.clock.now(),
        send_within: Some(Duration::ZERO),
        doubted: false,
    };
    let canceled = CancellationToken::new();
    let means = Means { effect: Some(&effect), ..process.custody.means(&canceled) };
    let operation = process.link.manifest.operation("post").unwrap();
    let stopped = call(&process.link, &means, Asked::new(operation, Value::map::<&str>([]))).await;
    assert!(matches!(stopped, Err(Stop::Later { .. })), "{stopped:?}");
    assert!(world.far.told.lock().unwrap().came.is_empty());
    // The one that there is goes to the next.
    let failures = world.pass(vec![tokio::spawn(process.until_done("post"))]).await;
    assert_eq!(failures, [Vec::<String>::new()]);
    assert!(world.system.clock.now().since(START.parse().unwrap()) < Duration::from_secs(60));
}

#[tokio::test]
async fn an_unknown_price_is_neither_zero_nor_an_error() {
    let operation = |name: &str, used: &str| {
        format!(
            "  {name}: {{ effect: read, cost: {{ spend: \"{{{{ tables.prices | row_of('{name}') | price(tokens_in=600000, tokens_out=0) }}}}\" }}, spent: {{ spend: \"{used}\" }}, request: {{ get: /x }} }}\n"
        )
    };
    let limits = format!(
        "tables: {{ prices: {{ known: {{ in: 1, out: 1 }}, free: {{ in: 0, out: 0 }} }} }}\nlimits: {{ budgets: {{ spend: {{ limit: 1, per: 1h, unit: USD }} }} }}\noperations:\n{}{}{}{}",
        operation("known", "{{ none }}"),
        operation("free", "{{ none }}"),
        operation("unknown", "{{ none }}"),
        operation("told", "{{ body.used }}"),
    );
    let world = World::new(|_, _| Ok(reply(200, &[], r#"{"used":"0.25"}"#)));
    let process = world.process(&limits).await;
    let used = async || {
        let row = process.custody.store.budget("a:far:spend").await.unwrap();
        let state = row.map(|row| row.state).unwrap_or_default();
        let amounts =
            state.lines().map(|line| line.split_once(' ').unwrap().1.parse::<rust_decimal::Decimal>().unwrap());
        amounts.sum::<rust_decimal::Decimal>().normalize().to_string()
    };
    // A free one costs nothing, and of an unknown one nothing is counted until an answer says it.
    for (name, expected) in [("free", "0"), ("unknown", "0"), ("told", "0.25"), ("known", "0.85"), ("told", "1.1")] {
        let failures = world.pass(vec![tokio::spawn(process.clone().until_done(name))]).await;
        assert_eq!(failures, [Vec::<String>::new()], "{name}");
        assert_eq!(used().await, expected, "{name}");
    }
    assert!(process.later("known").await.1.contains("USD"));
}
