//! A paid read whose process dies: whatever it was doing then, what may have been paid for is asked again only if the step says
//! so. What arrived is counted at the remote, and what was spent in the account of money.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use pipewright::connector::auth::custody::Custody;
use pipewright::connector::connection::Connection;
use pipewright::connector::limits::Purse;
use pipewright::connector::manifest::Manifest;
use pipewright::connector::runtime::Connections;
use pipewright::connector::runtime::Runtime;
use pipewright::engine::Engine;
use pipewright::engine::ExecuteOptions;
use pipewright::engine::Parts;
use pipewright::engine::Point;
use pipewright::engine::Probe;
use pipewright::http::Request;
use pipewright::http::Response;
use pipewright::http::Transport;
use pipewright::http::TransportError;
use pipewright::model::Happened;
use pipewright::model::RunEvent;
use pipewright::model::RunId;
use pipewright::model::Value;
use pipewright::node::Services;
use pipewright::pipeline::Pipeline;
use pipewright::pipeline::Spend;
use pipewright::store::SpendingFilter;
use pipewright::store::SpendingState;
use pipewright::store::Store;
use tokio::sync::Notify;

use super::Played;
use super::Stage;

const FAR: &str = r#"connector: far
base_url: { api: https://far.example }
auth: none
limits: { budgets: { spend: { unit: USD } } }
operations:
  ask:
    effect: read
    cost: { spend: "0.02" }
    spent: { spend: "{{ body.cost | decimal }}" }
    request: { get: /ask }
    output: "{{ body.text }}"
  twice:
    effect: read
    steps:
      one: { uses: ask }
      two: { uses: ask, needs: [one] }
    output: "{{ steps.two.output }}"
"#;

const ASK: &str = "steps:\n  a: { uses: far.ask, with: { connection: far }, retry: { attempts: 4, delay: 1s }POLICY }\n  \
                   b: { needs: [a], uses: far.ask, with: { connection: far } }\noutputs: { text: \"{{ steps.a.output }}\" }\n";

/// Where the process dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
    /// The attempt is in the journal, and nothing is reserved.
    Sending(&'static str),
    /// What it costs is reserved, and nothing has left.
    Reserved,
    /// The remote has it, and the answer is not here.
    Sent,
    /// The answer is here and settled, and not in the journal.
    Answered(&'static str),
}

/// A remote that answers, counts, and ends the process that asks.
struct Far {
    came: AtomicUsize,
    /// How many more requests end the process, and when.
    deadly: Mutex<(usize, Death)>,
    died: Notify,
}

impl std::fmt::Debug for Far {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Far")
    }
}

impl Far {
    fn new() -> Arc<Self> {
        let deadly = Mutex::new((0, Death::Sent));
        Arc::new(Self { came: AtomicUsize::new(0), deadly, died: Notify::new() })
    }

    fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }

    fn is_deadly(&self, now: Death) -> bool {
        let mut deadly = self.deadly.lock().unwrap();
        let dies = deadly.0 > 0 && deadly.1 == now;
        deadly.0 -= usize::from(dies);
        dies
    }

    async fn die(&self) {
        self.died.notify_one();
        std::future::pending::<()>().await;
    }
}

#[async_trait]
impl Transport for Far {
    async fn send(&self, _: Request) -> Result<Response, TransportError> {
        if self.is_deadly(Death::Reserved) {
            self.die().await;
        }
        self.came.fetch_add(1, Ordering::SeqCst);
        if self.is_deadly(Death::Sent) {
            self.die().await;
        }
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Ok(Response { status: 200, headers, body: br#"{"cost":"0.01","text":"tea"}"#.to_vec() })
    }
}

#[derive(Debug)]
struct To;

impl Connections for To {
    fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
        Connection::make(name, manifest, Value::map::<&str>([]), &Value::map::<&str>([]), false)
    }
}

struct Theatre {
    stage: Stage,
    far: Arc<Far>,
    run: RunId,
    pipeline: Arc<Pipeline>,
    /// That of all who pay.
    books: Store,
}

impl Theatre {
    /// Makes a run.
    async fn new(text: &str) -> Self {
        let mut stage = Stage::new();
        let path = stage.folder.path().join("connectors/far.yaml");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, FAR).unwrap();
        let far = Far::new();
        stage.http = far.clone();
        let engine = stage.engine().await;
        let books = engine.parts().store.clone();
        let custody = Custody { store: books.clone(), http: far.clone(), system: stage.system.clone() };
        let runtime = Runtime::new(Arc::new(To)).with_custody(custody).with_purse(Purse::new(&Spend::default()));
        stage.services = Services::default().with(Arc::new(runtime));
        let pipeline = stage.pipeline(text);
        let run = engine.start(&pipeline, Value::map::<&str>([])).await.unwrap();
        Self { stage, far, run, pipeline, books }
    }

    async fn engine(&self, owner: &str, death: Option<Death>) -> Engine {
        let engine = self.stage.engine().await;
        let far = self.far.clone();
        let probe = Probe::new(move |point| {
            let dies = match (&point, death) {
                (Point::Sending(path), Some(Death::Sending(step))) => *path.step == *step,
                (Point::Answered(path), Some(Death::Answered(step))) => *path.step == *step,
                _ => false,
            };
            if dies {
                far.died.notify_one();
                std::panic::resume_unwind(Box::new("the process dies here"));
            }
        });
        let probe = if death.is_some() { probe } else { Probe::default() };
        Engine::new(Parts { probe, owner: owner.to_owned(), ..engine.parts().clone() })
    }

    /// Executes the run until its process dies.
    async fn die(&self, death: Death) {
        *self.far.deadly.lock().unwrap() = (1, death);
        let engine = self.engine("test", Some(death)).await;
        // What has no end dies with the runtime that it is on.
        let run = self.stage.resume(&engine, self.run, &self.pipeline, ExecuteOptions::default());
        let caught = futures_catch(run);
        tokio::select! {
            biased;
            () = self.far.died.notified() => {}
            ended = caught => panic!("{death:?} did not come: {}", ended.is_some()),
        }
        self.far.deadly.lock().unwrap().0 = 0;
        // What was said behind is there, or would count as it was reserved.
        self.books.spending_written().await;
    }

    async fn go_on(&self) -> Played {
        let engine = self.engine("test", None).await;
        self.stage.resume(&engine, self.run, &self.pipeline, ExecuteOptions::default()).await
    }

    /// Returns what each request counts as, with its state.
    async fn account(&self) -> Vec<(SpendingState, String)> {
        let filter = SpendingFilter { most: 100, ..SpendingFilter::default() };
        let rows = self.books.spending(&filter).await.unwrap();
        rows.iter().map(|row| (row.state, row.counted().unwrap().normalize().to_string())).collect()
    }

    async fn logs(&self) -> String {
        let store = self.stage.engine().await.parts().store.clone();
        let logs = store.logs(self.run).await.unwrap();
        logs.into_iter().map(|line| format!("{}\n", line.message)).collect()
    }
}

/// A crash within the engine's own work comes up through it, behind the word that the process died.
async fn futures_catch(run: impl Future<Output = Played>) -> Option<Played> {
    let mut run = Box::pin(run);
    let ended = std::future::poll_fn(move |context| {
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.as_mut().poll(context)));
        match polled {
            Ok(std::task::Poll::Ready(played)) => std::task::Poll::Ready(Some(played)),
            Ok(std::task::Poll::Pending) => std::task::Poll::Pending,
            Err(_) => std::task::Poll::Ready(None),
        }
    });
    match ended.await {
        Some(played) => Some(played),
        None => std::future::pending().await,
    }
}

/// Counts the attempts that a run's journal tells of a step, and those of them that lost an answer.
fn attempts(played: &Played, step: &str) -> (usize, usize) {
    let of = |event: &&RunEvent| event.path().is_some_and(|path| *path.step == *step);
    let own = || played.journal.iter().filter(of);
    let begun = own().filter(|event| matches!(event, RunEvent::StepStarted { .. })).count();
    let lost = own().filter(|event| matches!(event, RunEvent::Failed { happened: Happened::Perhaps, .. })).count();
    (begun, lost)
}

/// What had come to the remote when the process died, and whether it may have been paid for.
const DEATHS: [(Death, usize, bool); 5] = [
    (Death::Sending("a"), 0, false),
    (Death::Reserved, 0, true),
    (Death::Sent, 1, true),
    (Death::Answered("a"), 1, true),
    // All before it is durable then, and so is the answer.
    (Death::Sending("b"), 1, false),
];

#[tokio::test]
async fn what_may_be_paid_for_is_not_asked_again_in_silence_wherever_the_process_dies() {
    for (death, came, paid) in DEATHS {
        let theatre = Theatre::new(&ASK.replace("POLICY", "")).await;
        theatre.die(death).await;
        assert_eq!(theatre.far.came(), came, "{death:?}");
        let played = theatre.go_on().await;
        if !paid {
            assert_eq!(played.outputs(), r#"{"text":"tea"}"#, "{death:?}");
            assert_eq!(theatre.far.came(), 2, "{death:?}: each step asks once");
            assert_eq!(theatre.account().await, vec![(SpendingState::Settled, "0.01".to_owned()); 2], "{death:?}");
            continue;
        }
        let told = played.failure();
        let asked = "unavailable: step `a`: the process ended before the answer was kept, and it counts as spent (`far.ask` of \
                     connection `far` at 2023-11-14T22:13:20Z, ";
        assert!(told.starts_with(asked), "{death:?}: {told}");
        let mend = format!("`in_doubt: resend`; `pipewright runs retry {}` asks once more", theatre.run);
        assert!(told.ends_with(&mend), "{death:?}: {told}");
        let settled = death == Death::Answered("a");
        assert_eq!(told.contains("0.01 USD spent"), settled, "{told}");
        assert_eq!(told.contains("0.02 USD reserved"), !settled, "{told}");
        // Its `retry` is for what was answered.
        assert_eq!((theatre.far.came(), attempts(&played, "a")), (came, (1, 1)), "{death:?}");
        // A person may ask once more, and what was lost stays spent.
        let engine = theatre.engine("test", None).await;
        let retried = theatre.stage.retry(&engine, theatre.run, &theatre.pipeline, None).await;
        assert_eq!(retried.outputs(), r#"{"text":"tea"}"#);
        assert_eq!((theatre.far.came(), theatre.account().await.len()), (came + 2, 3), "{death:?}");
    }
}

#[tokio::test]
async fn a_step_that_says_so_is_asked_again_and_what_it_costs_twice_is_told() {
    for (death, came, paid) in DEATHS {
        let theatre = Theatre::new(&ASK.replace("POLICY", ", in_doubt: resend")).await;
        theatre.die(death).await;
        let played = theatre.go_on().await;
        assert_eq!(played.outputs(), r#"{"text":"tea"}"#, "{death:?}");
        let again = usize::from(paid);
        let all = if paid { came + 2 } else { 2 };
        assert_eq!((theatre.far.came(), attempts(&played, "a").1), (all, again), "{death:?}");
        assert_eq!(theatre.account().await.len(), 2 + again, "{death:?}");
        let told = theatre.logs().await.matches("perhaps paid for once more").count();
        assert_eq!(told, again, "{death:?}");
    }
}

#[tokio::test]
async fn a_process_that_always_dies_pays_a_bounded_number_of_times() {
    let theatre = Theatre::new(&ASK.replace("POLICY", ", in_doubt: resend")).await;
    for _ in 0..6 {
        theatre.die(Death::Sent).await;
    }
    let told = theatre.go_on().await.failure();
    assert!(told.contains("it was asked again 5 times already"), "{told}");
    assert_eq!(theatre.far.came(), 6);
}

#[tokio::test]
async fn an_attempt_that_has_paid_for_nothing_is_not_blamed_for_the_one_before() {
    let theatre = Theatre::new(&ASK.replace("POLICY", "")).await;
    theatre.die(Death::Sent).await;
    theatre.go_on().await.failure();
    // Both attempts bear the number 1, and begin at the same moment.
    let engine = theatre.engine("test", Some(Death::Sending("a"))).await;
    let retried = theatre.stage.retry(&engine, theatre.run, &theatre.pipeline, None);
    tokio::select! {
        biased;
        () = theatre.far.died.notified() => {}
        _ = futures_catch(retried) => panic!("it did not die"),
    }
    assert_eq!(theatre.go_on().await.outputs(), r#"{"text":"tea"}"#);
    assert_eq!(theatre.far.came(), 3);
}

#[tokio::test]
async fn who_takes_a_run_over_asks_nothing_again_that_the_other_one_has_asked() {
    let theatre = Theatre::new(&ASK.replace("POLICY", "")).await;
    *theatre.far.deadly.lock().unwrap() = (1, Death::Sent);
    let first = theatre.engine("first", None).await;
    let execute = first.execute(theatre.run, theatre.pipeline.clone(), ExecuteOptions::default());
    tokio::pin!(execute);
    tokio::select! {
        biased;
        () = theatre.far.died.notified() => {}
        _ = &mut execute => panic!("the remote answers"),
    }
    // The first one lives, and waits for its answer.
    let second = theatre.engine("second", None).await;
    let seen = second.parts().store.lease(theatre.run).await.unwrap().unwrap();
    assert!(second.take_over(theatre.run, &seen).await.unwrap());
    let played = theatre.stage.resume(&second, theatre.run, &theatre.pipeline, ExecuteOptions::default()).await;
    assert!(played.failure().contains("it counts as spent"), "{}", played.failure());
    assert_eq!(theatre.far.came(), 1);
}

#[tokio::test]
async fn steps_of_an_operation_have_the_word_of_the_step_around_them() {
    let text = "steps:\n  a: { uses: far.twice, with: { connection: far }, retry: { attempts: 3, delay: 1s }POLICY }\n";
    let theatre = Theatre::new(&text.replace("POLICY", "")).await;
    theatre.die(Death::Sent).await;
    let told = theatre.go_on().await.failure();
    assert!(told.contains("it counts as spent"), "{told}");
    // Neither the steps nor the one around them are tried again.
    assert_eq!(theatre.far.came(), 1);

    let theatre = Theatre::new(&text.replace("POLICY", ", in_doubt: resend")).await;
    theatre.die(Death::Sent).await;
    theatre.go_on().await.outputs();
    assert_eq!(theatre.far.came(), 3);
}
