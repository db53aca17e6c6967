//! Permits under random histories: claims, take-overs, steps that ask and give back, ends, and owners that are late. At no
//! moment do more hold a scope than may, whoever does what in which order.

use pipewright::model::RunEvent;
use pipewright::model::RunId;
use pipewright::model::RunState;
use pipewright::model::StepPath;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::model::VersionId;
use pipewright::store::Fence;
use pipewright::store::NewRun;
use pipewright::store::OpenOptions;
use pipewright::store::Record;
use pipewright::store::Request;
use pipewright::store::Store;
use pipewright::store::WhenFull;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000);
const SCOPES: [(&str, u32); 3] = [("lock:a", 1), ("lock:b", 2), ("run:group", 3)];

/// A run as somebody believes to hold it.
struct Holding {
    run: RunId,
    fence: Fence,
    /// Whether the fence is the run's still.
    is_current: bool,
    ended: bool,
}

fn requests(random: &mut fastrand::Rng) -> Vec<Request> {
    let mut chosen: Vec<_> = SCOPES.iter().filter(|_| random.bool()).collect();
    random.shuffle(&mut chosen);
    let request =
        |(scope, most): &&(&str, u32)| Request { scope: (*scope).into(), most: *most, when_full: WhenFull::Queue };
    chosen.iter().map(request).collect()
}

async fn check(store: &Store, holdings: &[Holding], told: &str) {
    for (scope, most) in SCOPES {
        let holders = store.holders(scope).await.unwrap();
        assert!(holders.len() <= most as usize, "{told}: {scope} is held by {holders:?}");
        for holder in holders {
            let ended = holdings.iter().any(|holding| holding.run == holder.run && holding.ended);
            assert!(!ended, "{told}: {scope} is held by a run that has ended: {holder:?}");
        }
    }
}

async fn play(seed: u64) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let store = Store::open("sqlite::memory:", OpenOptions::default()).await.unwrap();
    let mut holdings: Vec<Holding> = Vec::new();
    let mut waited = 0;
    let path: StepPath = "step".parse().unwrap();
    for step in 0..60_u32 {
        let told = format!("seed {seed}, step {step}");
        let chosen = (!holdings.is_empty()).then(|| random.usize(..holdings.len()));
        match (random.u8(..8), chosen) {
            (0 | 1, _) => {
                let run = NewRun {
                    id: RunId::new(1, u128::from(step)),
                    pipeline: "demo".into(),
                    version: VersionId("v".into()),
                    inputs: Value::Null,
                    slot: None,
                    priority: 5,
                    parent: None,
                    spread: false,
                    started_by: None,
                    requests: requests(&mut random),
                    created_at: NOW,
                };
                store.create_run(&run).await.unwrap();
            }
            (2, _) => {
                for claimed in store.claim_due("worker", NOW, 2).await.unwrap() {
                    let (run, fence) = (claimed.run.id, claimed.fence);
                    holdings.push(Holding { run, fence, is_current: true, ended: false });
                }
            }
            // Somebody takes a run over; who had it goes on believing that he has.
            (3, Some(place)) if !holdings[place].ended => {
                let run = holdings[place].run;
                let seen = store.lease(run).await.unwrap().unwrap();
                if let Some(fence) = store.steal(run, "other", &seen).await.unwrap() {
                    holdings.iter_mut().filter(|other| other.run == run).for_each(|other| other.is_current = false);
                    holdings.push(Holding { run, fence, is_current: true, ended: false });
                }
            }
            (4, Some(place)) if !holdings[place].ended => {
                let Holding { run, fence, .. } = holdings[place];
                store.request(run, fence, Some(&path), &requests(&mut random)).await.unwrap();
                waited += store.requests_of(run).await.unwrap().len();
            }
            (5, Some(place)) => {
                let Holding { run, fence, is_current, .. } = holdings[place];
                let before = store.permits_of(run).await.unwrap();
                store.give_back(run, fence, &path).await.unwrap();
                if !is_current {
                    let after = store.permits_of(run).await.unwrap();
                    assert_eq!(before, after, "{told}: whoever lost the run gave back what its owner holds");
                }
            }
            (6, Some(place)) if holdings[place].is_current && !holdings[place].ended => {
                let Holding { run, fence, .. } = holdings[place];
                let seq = store.journal(run).await.unwrap().len() as u64 + 1;
                let writer = store.writer(run, fence, seq, []);
                writer.holds_permits();
                let (state, outputs) = (RunState::Succeeded, Value::Null);
                writer.append([Record::Event(RunEvent::Finished { at: NOW, state, outputs, error: None })]);
                writer.commit().await.unwrap();
                holdings.iter_mut().filter(|other| other.run == run).for_each(|other| other.ended = true);
            }
            _ => {
                store.admit(None, NOW).await.unwrap();
            }
        }
        check(&store, &holdings, &told).await;
    }
    waited
}

#[test]
fn no_scope_is_held_by_more_than_may_whoever_is_late() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let waited: usize = runtime.block_on(async {
        let plays: Vec<_> = (0..120).map(|seed| tokio::spawn(play(seed))).collect();
        let mut waited = 0;
        for play in plays {
            waited += play.await.unwrap();
        }
        waited
    });
    assert!(waited > 100, "somebody had to wait: {waited}");
}
