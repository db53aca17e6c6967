//! The scheduler on virtual time: each slot once, none forgotten, whoever looked or did not.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipewright::daemon::bell::Bell;
use pipewright::daemon::metrics::Metrics;
use pipewright::daemon::scheduler::Active;
use pipewright::daemon::scheduler::Scheduler;
use pipewright::engine::Engine;
use pipewright::model::Duration;
use pipewright::model::Timestamp;
use pipewright::store::RunFilter;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::START;
use super::Stage;
use super::give;

/// A scheduler at work, and what it is given.
struct At {
    active: watch::Sender<Active>,
    bell: Bell,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    working: tokio::task::JoinHandle<()>,
}

impl Stage {
    fn scheduler(&self, engine: &Engine, files: &[(&str, &str)]) -> At {
        let pipelines: Vec<_> = files
            .iter()
            .map(|(name, text)| {
                self.file(name, text);
                let loaded =
                    pipewright::pipeline::Catalog::open(self.folder.path(), self.registry()).load(name).unwrap();
                loaded.pipeline.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics))
            })
            .collect();
        let (active, receiver) = watch::channel(Arc::new(pipelines));
        let (bell, metrics, stop) = (Bell::default(), Arc::new(Metrics::default()), CancellationToken::new());
        let scheduler = Scheduler {
            engine: engine.clone(),
            active: receiver,
            bell: bell.clone(),
            metrics: metrics.clone(),
            stop: stop.clone(),
        };
        At { active, bell, metrics, stop, working: tokio::spawn(scheduler.run()) }
    }

    /// Moves the clock on in steps, and lets everybody see each.
    async fn pass(&self, engine: &Engine, length: Duration, step: Duration) {
        let end = self.world.clock_now().plus(length);
        while self.world.clock_now() < end {
            self.world.clock.advance(step);
            // Their reads and writes are done on threads of the store, which need real time.
            for _ in 0..4 {
                engine.parts().store.schedules().await.unwrap();
                // On a slow disk a write takes longer than a read.
                let now = self.world.clock_now();
                engine.parts().store.take_chore("pass", now, now).await.unwrap();
                tokio::task::yield_now().await;
            }
            tokio::task::spawn_blocking(|| std::thread::sleep(std::time::Duration::from_millis(3))).await.unwrap();
        }
    }

    /// Waits until as many runs are there as are expected, and no more come.
    async fn slots(&self, engine: &Engine, expected: usize) -> BTreeMap<String, usize> {
        let mut slots = BTreeMap::new();
        for _ in 0..2_000 {
            slots.clear();
            for run in engine.parts().store.runs(&RunFilter::default()).await.unwrap() {
                *slots.entry(run.slot.unwrap_or_default()).or_default() += 1;
            }
            if slots.len() >= expected {
                break;
            }
            tokio::task::yield_now().await;
        }
        slots
    }
}

impl At {
    async fn end(self) {
        self.stop.cancel();
        self.working.await.unwrap();
    }
}

/// 2023-11-14T22:13:20Z is the start of these tests.
const HOURLY: &str = r#"triggers: [ { cron: "0 * * * *", missed: all, inputs: { hour: "{{ event.slot }}" } } ]
inputs: { hour: { type: datetime } }
steps: { a: { uses: test.one, with: { value: "{{ inputs.hour }}" } } }
"#;

fn times(slots: &BTreeMap<String, usize>) -> Vec<&str> {
    slots.keys().map(|slot| slot.rsplit_once('@').unwrap().1).collect()
}

#[tokio::test]
async fn each_slot_is_fired_once_with_its_inputs_at_its_time() {
    let stage = Stage::new().read("test.one", |_, _| give(1));
    let engine = stage.engine().await;
    let at = stage.scheduler(&engine, &[("hourly", HOURLY)]);
    stage.pass(&engine, Duration::from_secs(3 * 3_600), Duration::from_secs(600)).await;
    let slots = stage.slots(&engine, 3).await;
    assert_eq!(times(&slots), ["2023-11-14T23:00:00Z", "2023-11-15T00:00:00Z", "2023-11-15T01:00:00Z"]);
    assert!(slots.values().all(|count| *count == 1));
    for run in engine.parts().store.runs(&RunFilter::default()).await.unwrap() {
        let slot = run.slot.unwrap();
        assert_eq!(run.inputs.get("hour").unwrap().to_text(), slot.rsplit_once('@').unwrap().1);
    }
    at.end().await;
}

#[tokio::test]
async fn two_schedulers_on_one_store_never_fire_a_slot_twice() {
    let stage = Stage::new().read("test.one", |_, _| give(1));
    let engine = stage.engine().await;
    let quick = HOURLY.replace("0 * * * *", "* * * * *");
    let both = [stage.scheduler(&engine, &[("quick", &quick)]), stage.scheduler(&engine, &[("quick", &quick)])];
    stage.pass(&engine, Duration::from_secs(40 * 60), Duration::from_secs(20)).await;
    let slots = stage.slots(&engine, 40).await;
    assert_eq!(slots.len(), 40, "{slots:?}");
    assert!(slots.values().all(|count| *count == 1), "{slots:?}");
    for at in both {
        at.end().await;
    }
}

#[tokio::test]
async fn what_was_missed_while_nobody_looked_is_the_triggers_to_say() {
    for (missed, expected) in [("all", 5), ("last", 1), ("none", 0)] {
        let stage = Stage::new().read("test.one", |_, _| give(1));
        let engine = stage.engine().await;
        let text = HOURLY.replace("missed: all", &format!("missed: {missed}"));
        let at = stage.scheduler(&engine, &[("hourly", &text)]);
        stage.pass(&engine, Duration::from_secs(60), Duration::from_secs(20)).await;
        at.end().await;
        // The daemon is down for five hours and a bit.
        stage.world.clock.advance_to(Timestamp(START.0 + 5 * 3_600_000_000));
        let at = stage.scheduler(&engine, &[("hourly", &text)]);
        stage.pass(&engine, Duration::from_secs(60), Duration::from_secs(20)).await;
        let slots = stage.slots(&engine, expected).await;
        assert_eq!(slots.len(), expected, "{missed}: {slots:?}");
        at.end().await;
    }
}

#[tokio::test]
async fn a_schedule_that_is_switched_off_does_not_fire_and_missed_says_what_follows() {
    let stage = Stage::new().read("test.one", |_, _| give(1));
    let engine = stage.engine().await;
    let text = HOURLY.replace("missed: all", "missed: last");
    let at = stage.scheduler(&engine, &[("hourly", &text)]);
    stage.pass(&engine, Duration::from_secs(60), Duration::from_secs(20)).await;
    let store = &engine.parts().store;
    let trigger = store.schedules().await.unwrap().first().unwrap().trigger.clone();
    assert!(store.switch_schedule("hourly", &trigger, true).await.unwrap());
    at.bell.ring();
    stage.pass(&engine, Duration::from_secs(3 * 3_600), Duration::from_secs(1_200)).await;
    assert_eq!(stage.slots(&engine, 0).await.len(), 0);
    assert!(at.metrics.text(&[]).contains(r#"schedules{state="off"} 1"#));
    assert!(store.switch_schedule("hourly", &trigger, false).await.unwrap());
    at.bell.ring();
    stage.pass(&engine, Duration::from_secs(60), Duration::from_secs(20)).await;
    assert_eq!(times(&stage.slots(&engine, 1).await), ["2023-11-15T01:00:00Z"]);
    at.end().await;
}

#[tokio::test]
async fn an_edited_pipeline_is_scheduled_as_it_is_now_and_its_past_is_not_fired() {
    let stage = Stage::new().read("test.one", |_, _| give(1));
    let engine = stage.engine().await;
    let at = stage.scheduler(&engine, &[("hourly", HOURLY)]);
    stage.pass(&engine, Duration::from_secs(60), Duration::from_secs(20)).await;
    let edited = HOURLY.replace("0 * * * *", "30 * * * *");
    stage.file("hourly", &edited);
    let pipeline = stage.pipeline(&edited);
    at.active.send_replace(Arc::new(vec![pipeline]));
    stage.pass(&engine, Duration::from_secs(2 * 3_600), Duration::from_secs(600)).await;
    assert_eq!(times(&stage.slots(&engine, 2).await), ["2023-11-14T22:30:00Z", "2023-11-14T23:30:00Z"]);
    at.end().await;
}
