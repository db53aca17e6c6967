//! Making runs: their rows, their turns in the queue, and what they ask for.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use super::Batch;
use super::Error;
use super::Fence;
use super::Gate;
use super::Request;
use super::Store;
use super::db::Arg;
use super::db::args;
use crate::model::Duration;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::VersionId;

/// A run to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    pub id: RunId,
    pub pipeline: Arc<str>,
    pub version: VersionId,
    /// An object; secrets in it are stored sealed.
    pub inputs: Value,
    /// The due firing of a trigger: a second run of the same pipeline and slot is not made.
    pub slot: Option<String>,
    /// 0 to 9, higher first.
    pub priority: u8,
    /// The run and the step run that started this one.
    pub parent: Option<(RunId, StepPath)>,
    /// Whether any worker may execute it although it has a parent.
    pub spread: bool,
    /// A person, or what else started it.
    pub started_by: Option<Arc<str>>,
    /// What it must hold before it begins.
    pub requests: Vec<Request>,
    pub created_at: Timestamp,
}

macro_rules! insert_into_runs {
    ($rest:literal) => {
        concat!(
            "INSERT INTO runs (id, pipeline, version, inputs, slot, priority, parent_run, parent_path, created_at, state, ",
            "owner, fence, beat, signals, last_signal, turn, gate, started_by) VALUES ",
            $rest
        )
    };
}
const INSERT: &str = insert_into_runs!("");
const ONCE: &str = " ON CONFLICT DO NOTHING";

/// How much longer a run must have waited to go before one whose priority is higher by one.
const A_PRIORITY: Duration = Duration::from_secs(3600);
/// How far apart the turns of one pipeline's queued runs are.
const A_TURN: Duration = Duration::from_secs(1);

/// Returns the place of a run in the queue: the lowest goes first.
///
/// It is a moment that never changes. A priority moves it ahead by an hour, so that nothing waits for ever behind what is
/// more urgent. What is queued of the same pipeline and priority stands before it, a second apart: a thousand runs of one
/// pipeline leave room for those that others queue meanwhile (start-time fair queueing, Goyal, Vin and Cheng 1996, with a
/// fixed cost of a run and the real time as virtual time).
#[must_use]
pub fn turn_of(created: Timestamp, priority: u8, last: Option<Timestamp>) -> Timestamp {
    let own = Timestamp(created.micros().saturating_sub_unsigned(A_PRIORITY.micros() * u64::from(priority)));
    last.map_or(own, |last| own.max(last.plus(A_TURN)))
}

fn add_requests(batch: &mut Batch, run: &NewRun, turn: Timestamp) {
    // Only for a run that was made.
    const ASK: &str = "INSERT INTO requests (run_id, path, scope, most, turn, when_full) \
                       SELECT id, '', $2, $3, $4, $5 FROM runs WHERE id = $1 ON CONFLICT DO NOTHING";
    for request in &run.requests {
        let full = request.when_full.name();
        batch.push(ASK, args![run.id.to_string(), &*request.scope, i64::from(request.most), turn.micros(), full]);
    }
}

impl NewRun {
    fn gate(&self) -> Gate {
        match self.parent {
            Some(_) if !self.spread => Gate::Parent,
            _ if !self.requests.is_empty() => Gate::Permits,
            _ => Gate::Open,
        }
    }
}

impl Store {
    /// Makes a run, queued. Returns false when a run of this id or slot exists: repeating is harmless.
    pub async fn create_run(&self, run: &NewRun) -> Result<bool, Error> {
        self.create(run, None).await
    }

    /// Makes a run that this owner holds from the start: nobody else takes it from the queue.
    pub async fn create_held(&self, run: &NewRun, owner: &str) -> Result<Option<Fence>, Error> {
        Ok(self.create(run, Some(owner)).await?.then_some(Fence(1)))
    }

    /// Makes many runs in one transaction, as `create_run` does.
    pub async fn create_runs(&self, runs: &[NewRun]) -> Result<(), Error> {
        let mut batch = Batch::default();
        self.add_runs(&mut batch, runs).await?;
        self.apply(batch).await?.map_err(|error| self.place().error(error))?;
        self.announce();
        Ok(())
    }

    async fn create(&self, run: &NewRun, owner: Option<&str>) -> Result<bool, Error> {
        let turn = self.turns(std::slice::from_ref(run)).await?.pop().unwrap_or_default();
        let columns = self.columns(run, owner, turn).await?;
        if run.requests.is_empty() {
            const ONE: &str = insert_into_runs!(
                "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) ON CONFLICT DO NOTHING"
            );
            let made = self.execute(ONE, columns).await? > 0;
            if made && owner.is_none() {
                self.announce();
            }
            return Ok(made);
        }
        if self.lease(run.id).await?.is_some() {
            return Ok(false);
        }
        let mut batch = Batch::default();
        batch.push_rows(INSERT, vec![columns], ONCE);
        add_requests(&mut batch, run, turn);
        self.apply(batch).await?.map_err(|error| self.place().error(error))?;
        Ok(self.lease(run.id).await?.is_some())
    }

    /// Adds the making of runs to a transaction, unless there are some of their ids or slots.
    pub(super) async fn add_runs(&self, batch: &mut Batch, runs: &[NewRun]) -> Result<(), Error> {
        let turns = self.turns(runs).await?;
        let mut rows = Vec::with_capacity(runs.len());
        for (run, turn) in runs.iter().zip(&turns) {
            rows.push(self.columns(run, None, *turn).await?);
        }
        if !rows.is_empty() {
            batch.push_rows(INSERT, rows, ONCE);
        }
        for (run, turn) in runs.iter().zip(turns) {
            add_requests(batch, run, turn);
        }
        Ok(())
    }

    /// Returns the turns of runs to be made, each behind those of its pipeline and priority that are queued.
    async fn turns(&self, runs: &[NewRun]) -> Result<Vec<Timestamp>, Error> {
        const LAST: &str = "SELECT MAX(turn) FROM runs WHERE owner IS NULL AND state = 'queued' AND pipeline = $1 \
                            AND priority = $2";
        const ALL: &str = "SELECT pipeline, priority, MAX(turn) FROM runs WHERE owner IS NULL AND state = 'queued' \
                           GROUP BY pipeline, priority";
        // One question for each costs more than one for all where there are many.
        const FEW: usize = 8;
        let pairs: BTreeSet<(&str, u8)> = runs.iter().map(|run| (&*run.pipeline, run.priority)).collect();
        let mut last: HashMap<(String, u8), Timestamp> = HashMap::new();
        if pairs.len() <= FEW {
            for (pipeline, priority) in pairs {
                let rows = self.fetch(LAST, args![pipeline, i64::from(priority)]).await?;
                let turn = rows.first().map(|row| row.optional_int(0)).transpose()?.flatten();
                last.extend(turn.map(|turn| ((pipeline.to_owned(), priority), Timestamp(turn))));
            }
        } else {
            for row in self.fetch(ALL, args![]).await? {
                let priority = u8::try_from(row.int(1)?).unwrap_or_default();
                last.insert((row.text(0)?.to_owned(), priority), Timestamp(row.int(2)?));
            }
        }
        let turns = runs.iter().map(|run| {
            let key = (run.pipeline.to_string(), run.priority);
            let turn = turn_of(run.created_at, run.priority, last.get(&key).copied());
            last.insert(key, turn);
            turn
        });
        Ok(turns.collect())
    }

    /// Returns the columns of a new run's row, in the order of `INSERT`.
    async fn columns(&self, run: &NewRun, owner: Option<&str>, turn: Timestamp) -> Result<Vec<Arg>, Error> {
        let (parent_run, parent_path) =
            run.parent.as_ref().map(|(id, path)| (id.to_string(), path.to_string())).unzip();
        Ok(args![
            run.id.to_string(),
            &*run.pipeline,
            &*run.version.0,
            self.encode(&run.inputs).await?,
            run.slot.clone(),
            i64::from(run.priority),
            parent_run,
            parent_path,
            run.created_at.micros(),
            "queued",
            owner.map(str::to_owned),
            i64::from(owner.is_some()),
            0,
            0,
            0,
            turn.micros(),
            run.gate().number(),
            run.started_by.as_deref(),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// A queue that is served one run a step, in the order of the turns.
    #[derive(Default)]
    struct Queue {
        waiting: BTreeSet<(Timestamp, usize, u8, &'static str)>,
        made: usize,
    }

    impl Queue {
        fn put(&mut self, at: i64, pipeline: &'static str, priority: u8) -> usize {
            let same = |entry: &&(Timestamp, usize, u8, &str)| entry.2 == priority && entry.3 == pipeline;
            let last = self.waiting.iter().filter(same).map(|entry| entry.0).max();
            self.made += 1;
            self.waiting.insert((turn_of(Timestamp(at), priority, last), self.made, priority, pipeline));
            self.made
        }

        fn take(&mut self) -> Option<usize> {
            self.waiting.pop_first().map(|entry| entry.1)
        }

        /// How many go before this one.
        fn before(&mut self, number: usize) -> usize {
            let mut count = 0;
            while self.take().is_some_and(|taken| taken != number) {
                count += 1;
            }
            count
        }
    }

    #[test]
    fn a_thousand_runs_of_one_pipeline_leave_room_for_one_of_another() {
        let mut queue = Queue::default();
        for _ in 0..1_000 {
            queue.put(0, "many", 5);
        }
        let one = queue.put(3 * SECOND, "one", 5);
        assert!(queue.before(one) <= 4, "those of the seconds before go first");
    }

    #[test]
    fn of_one_pipeline_the_older_goes_first_and_of_two_that_fill_the_queue_each_in_turn() {
        let mut queue = Queue::default();
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..50 {
            a.push(queue.put(0, "a", 5));
        }
        for _ in 0..50 {
            b.push(queue.put(0, "b", 5));
        }
        let order: Vec<usize> = std::iter::from_fn(|| queue.take()).collect();
        let of = |list: &[usize]| order.iter().filter(|number| list.contains(number)).copied().collect::<Vec<_>>();
        assert_eq!((of(&a), of(&b)), (a.clone(), b));
        for pair in order.chunks(2) {
            assert_eq!(pair.iter().filter(|number| a.contains(number)).count(), 1, "{pair:?}");
        }
    }

    #[test]
    fn the_higher_priority_goes_first_also_before_older_ones_of_the_same_pipeline() {
        let mut queue = Queue::default();
        for _ in 0..1_000 {
            queue.put(0, "many", 2);
        }
        let urgent = queue.put(SECOND, "many", 7);
        assert_eq!(queue.before(urgent), 0);
    }

    #[test]
    fn nothing_waits_for_ever_behind_what_is_more_urgent() {
        // Twice as much as can be served comes with the highest priority.
        let mut queue = Queue::default();
        let poor = queue.put(0, "poor", 0);
        for minute in 0..20 * 60 {
            queue.put(minute * 60 * SECOND, "rich", 9);
            queue.put(minute * 60 * SECOND, "richer", 9);
            if queue.take() == Some(poor) {
                assert!(minute >= 60, "a priority counts for something: {minute}");
                return;
            }
        }
        panic!("it starves");
    }

    #[test]
    fn any_order_of_arrivals_is_served_whole_and_always_the_same() {
        for seed in 0..200 {
            let serve = || {
                let mut random = fastrand::Rng::with_seed(seed);
                let (mut queue, mut served) = (Queue::default(), Vec::new());
                for step in 0..200 {
                    let pipeline = ["a", "b", "c"][random.usize(..3)];
                    queue.put(step * SECOND / 10, pipeline, random.u8(..10));
                    if random.bool() {
                        served.extend(queue.take());
                    }
                }
                served.extend(std::iter::from_fn(|| queue.take()));
                served
            };
            let served = serve();
            assert_eq!(served, serve());
            assert_eq!(served.iter().collect::<BTreeSet<_>>().len(), 200);
        }
    }
}
