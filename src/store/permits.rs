//! Permits: places of `concurrency` groups and locks, who holds them, and who waits for them.
//!
//! A scope with a limit of n has n numbered places, and a row is a place that is taken, so that no race gives out more. A
//! permit belongs to a run, or to a step run of it: the run's lease is its lease, and it ends with the run. Who waits stands
//! in `requests`; `decide` says who goes next.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use super::Batch;
use super::Error;
use super::Fence;
use super::Row;
use super::Store;
use super::db::args;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;

/// The signal that a step run has its permits.
pub const PERMITTED: &str = "permitted";
/// The signal that a run is not to go on, with the reason.
pub const CANCEL: &str = "cancel";

/// So many of those who wait in a scope are looked at in one go.
const HEADS: i64 = 64;
/// So often it is decided anew, where others decide at the same time.
const ROUNDS: u32 = 16;

/// A permit that a run or a step run needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is limited.
    pub scope: Arc<str>,
    /// How many may hold it at a time.
    pub most: u32,
    pub when_full: WhenFull,
}

/// What becomes of a run that finds its group full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits.
    #[default]
    Queue,
    /// It is canceled.
    Skip,
    /// Those before it are.
    Replace,
}

impl WhenFull {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Skip => "skip",
            Self::Replace => "replace",
        }
    }

    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Queue, Self::Skip, Self::Replace].into_iter().find(|word| word.name() == name)
    }
}

/// A place that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    pub scope: String,
    pub run: RunId,
    /// Nothing where the run as a whole holds it.
    pub path: Option<StepPath>,
}

/// Somebody who waits for a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub scope: String,
    pub run: RunId,
    pub path: Option<StepPath>,
    pub most: u32,
    pub turn: Timestamp,
}

/// Who waits, and for what: a run, or a step run of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Waiter {
    turn: i64,
    run: String,
    /// Empty for the run as a whole.
    path: String,
    /// Whether its run, or one above it, holds something already: others may wait for that.
    holds: bool,
    wants: Vec<Want>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Want {
    scope: String,
    most: i64,
    when_full: WhenFull,
}

/// What becomes of one who waits.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    /// It gets these numbers of its scopes, all at once.
    Grant { waiter: usize, numbers: Vec<(String, i64)> },
    /// It does not wait: the scope is full.
    TurnAway { waiter: usize, scope: String },
    /// Those before it in the scope go.
    Replace { waiter: usize, scope: String },
}

/// Decides who gets what. `waiters` stand in the order of their turns; `held` are the numbers that are taken.
///
/// Whoever cannot have all of his permits yet keeps his place in each scope, so that those behind do not overtake him for
/// ever. Places are not kept from those who hold something already: whoever waits for that would wait for himself.
fn decide(waiters: &[Waiter], held: &HashMap<String, BTreeSet<i64>>) -> Vec<Decision> {
    let mut taken = held.clone();
    let mut kept: HashMap<&str, usize> = HashMap::new();
    let mut decisions = Vec::new();
    for (place, waiter) in waiters.iter().enumerate() {
        let used = |want: &Want| {
            let taken = taken.get(&want.scope).map_or(0, BTreeSet::len);
            let kept = if waiter.holds { 0 } else { kept.get(want.scope.as_str()).copied().unwrap_or(0) };
            i64::try_from(taken + kept).unwrap_or(i64::MAX)
        };
        let full = waiter.wants.iter().find(|want| used(want) >= want.most);
        let Some(full) = full else {
            let mut numbers = Vec::new();
            for want in &waiter.wants {
                let taken = taken.entry(want.scope.clone()).or_default();
                if let Some(free) = (1..).find(|number| !taken.contains(number)) {
                    taken.insert(free);
                    numbers.push((want.scope.clone(), free));
                }
            }
            decisions.push(Decision::Grant { waiter: place, numbers });
            continue;
        };
        let impatient = waiter.wants.iter().find(|want| want.when_full != WhenFull::Queue && used(want) >= want.most);
        let scope = impatient.unwrap_or(full).scope.clone();
        match impatient.map(|want| want.when_full) {
            // It keeps no place.
            Some(WhenFull::Skip) => {
                decisions.push(Decision::TurnAway { waiter: place, scope });
                continue;
            }
            Some(WhenFull::Replace) => decisions.push(Decision::Replace { waiter: place, scope }),
            _ => {}
        }
        for want in &waiter.wants {
            *kept.entry(&want.scope).or_default() += 1;
        }
    }
    decisions
}

impl Store {
    /// Gives free places to those who wait for them: in these scopes, or in all. Returns whether somebody got what he
    /// waited for, or has to go.
    ///
    /// # Errors
    /// The store's.
    pub async fn admit(&self, scopes: Option<&[Arc<str>]>, now: Timestamp) -> Result<bool, Error> {
        let mut any = false;
        for _ in 0..ROUNDS {
            let scopes = match scopes {
                Some(scopes) => scopes.iter().map(ToString::to_string).collect(),
                None => self.wanted().await?,
            };
            let (waiters, held, holders) = self.waiters(scopes).await?;
            let decisions = decide(&waiters, &held);
            if decisions.is_empty() {
                if any {
                    // Somebody can be claimed now.
                    self.announce();
                }
                return Ok(any);
            }
            for decision in decisions {
                let batch = self.carry_out(&decision, &waiters, &holders, now).await?;
                match self.apply_again(|| batch.clone()).await? {
                    Ok(()) => any = true,
                    // Somebody else decided at the same moment, and was faster: look again.
                    Err(error)
                        if error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation) => {}
                    Err(error) => return Err(self.place().error(error)),
                }
            }
        }
        Ok(any)
    }

    /// Lists the scopes that somebody waits for.
    async fn wanted(&self) -> Result<Vec<String>, Error> {
        const SCOPES: &str = "SELECT DISTINCT scope FROM requests ORDER BY scope";
        let rows = self.fetch(SCOPES, args![]).await?;
        rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
    }

    /// Loads the first of those who wait in these scopes, and in the other scopes that they wait for, in their order; the
    /// numbers that are taken, and which runs hold them, the oldest first.
    async fn waiters(
        &self,
        mut open: Vec<String>,
    ) -> Result<(Vec<Waiter>, HashMap<String, BTreeSet<i64>>, HashMap<String, Vec<String>>), Error> {
        const HELD: &str = "SELECT number, run_id, path FROM permits WHERE scope = $1 ORDER BY run_id";
        const FIRST: &str = "SELECT run_id, path FROM requests WHERE scope = $1 ORDER BY turn, run_id, path LIMIT $2";
        const IMPATIENT: &str = "SELECT run_id, path FROM requests WHERE scope = $1 AND when_full <> 'queue'";
        const HOLDING: &str = "SELECT run_id, path FROM requests WHERE scope = $1 AND EXISTS (WITH RECURSIVE above (id) \
                               AS (SELECT requests.run_id UNION ALL SELECT runs.parent_run FROM runs JOIN above \
                               ON runs.id = above.id WHERE runs.parent_run IS NOT NULL) \
                               SELECT 1 FROM permits WHERE permits.run_id IN (SELECT id FROM above))";
        const HOLDS: &str = "WITH RECURSIVE above (id) AS (SELECT id FROM runs WHERE id = $1 UNION ALL \
                             SELECT runs.parent_run FROM runs JOIN above ON runs.id = above.id \
                             WHERE runs.parent_run IS NOT NULL) \
                             SELECT 1 FROM permits WHERE run_id IN (SELECT id FROM above) LIMIT 1";
        const WANTS: &str = "SELECT scope, most, turn, when_full FROM requests WHERE run_id = $1 AND path = $2 \
                             ORDER BY scope";
        let mut waiters: BTreeMap<(bool, i64, String, String), Vec<Want>> = BTreeMap::new();
        let (mut held, mut holders) = (HashMap::new(), HashMap::new());
        let mut met: HashSet<(String, String)> = HashSet::new();
        while let Some(scope) = open.pop() {
            if held.contains_key(&scope) {
                continue;
            }
            let rows = self.fetch(HELD, args![scope.as_str()]).await?;
            let numbers = rows.iter().map(|row| row.int(0)).collect::<Result<BTreeSet<_>, _>>()?;
            let runs = rows.iter().filter(|row| row.text(2).is_ok_and(str::is_empty));
            let runs = runs.map(|row| Ok(row.text(1)?.to_owned())).collect::<Result<Vec<_>, Error>>()?;
            holders.insert(scope.clone(), runs);
            held.insert(scope.clone(), numbers);
            let mut rows = self.fetch(FIRST, args![scope.as_str(), HEADS]).await?;
            rows.extend(self.fetch(IMPATIENT, args![scope.as_str()]).await?);
            rows.extend(self.fetch(HOLDING, args![scope.as_str()]).await?);
            for row in rows {
                let who = (row.text(0)?.to_owned(), row.text(1)?.to_owned());
                if !met.insert(who.clone()) {
                    continue;
                }
                let rows = self.fetch(WANTS, args![who.0.as_str(), who.1.as_str()]).await?;
                let Some(turn) = rows.first().map(|row| row.int(2)).transpose()? else { continue };
                let wants = rows.iter().map(want).collect::<Result<Vec<_>, _>>()?;
                open.extend(wants.iter().map(|want| want.scope.clone()));
                let holds = !self.fetch(HOLDS, args![who.0.as_str()]).await?.is_empty();
                // Those who hold something go first.
                waiters.insert((!holds, turn, who.0, who.1), wants);
            }
        }
        let waiters = waiters.into_iter();
        let waiters = waiters.map(|((free, turn, run, path), wants)| Waiter { turn, run, path, holds: !free, wants });
        let waiters = waiters.collect();
        Ok((waiters, held, holders))
    }

    /// Returns the transaction of a decision.
    async fn carry_out(
        &self,
        decision: &Decision,
        waiters: &[Waiter],
        holders: &HashMap<String, Vec<String>>,
        now: Timestamp,
    ) -> Result<Batch, Error> {
        const GIVE: &str = "INSERT INTO permits (scope, number, run_id, path) SELECT scope, $4, run_id, path \
                            FROM requests WHERE run_id = $1 AND path = $2 AND scope = $3";
        const PATIENT: &str = "UPDATE requests SET when_full = 'queue' WHERE run_id = $1 AND path = $2";
        let mut batch = Batch::default();
        let of = |waiter: &usize| waiters.get(*waiter).ok_or(Error::Closed);
        match decision {
            Decision::Grant { waiter, numbers } => {
                let waiter = of(waiter)?;
                let lock = self.0.shared.db.share_lock();
                for (scope, number) in numbers {
                    let args = args![waiter.run.as_str(), waiter.path.as_str(), scope.as_str(), *number];
                    batch.push(format!("{GIVE}{lock}"), args);
                }
                self.leave(&mut batch, waiter);
                if !waiter.path.is_empty() {
                    let payload = Value::map([("path", Value::from(waiter.path.as_str()))]);
                    self.add_signal(&mut batch, &waiter.run, PERMITTED, &payload, now).await?;
                }
            }
            Decision::TurnAway { waiter, scope } => {
                let reason = format!("{} is full, and `when_full` is `skip`", describe(scope));
                self.turn_away(&mut batch, of(waiter)?, &reason, now).await?;
            }
            Decision::Replace { waiter, scope } => {
                let waiter = of(waiter)?;
                let reason =
                    format!("a newer run replaces it: {} is full, and `when_full` is `replace`", describe(scope));
                let older = waiters.iter().take_while(|other| *other != waiter);
                for older in older.filter(|other| other.path.is_empty()) {
                    if older.wants.iter().any(|want| want.scope == *scope) {
                        self.turn_away(&mut batch, older, &reason, now).await?;
                    }
                }
                // One place is needed: that of whoever has it longest.
                if let Some(oldest) = holders.get(scope).and_then(|holders| holders.first()) {
                    self.add_signal(&mut batch, oldest, CANCEL, &canceled(&reason), now).await?;
                }
                batch.push(PATIENT, args![waiter.run.as_str(), waiter.path.as_str()]);
            }
        }
        Ok(batch)
    }

    /// Has a run that waits canceled by whoever takes it.
    async fn turn_away(&self, batch: &mut Batch, waiter: &Waiter, reason: &str, now: Timestamp) -> Result<(), Error> {
        self.leave(batch, waiter);
        self.add_signal(batch, &waiter.run, CANCEL, &canceled(reason), now).await
    }

    /// Ends a wait. Its run can be taken.
    fn leave(&self, batch: &mut Batch, waiter: &Waiter) {
        const LEAVE: &str = "DELETE FROM requests WHERE run_id = $1 AND path = $2";
        const OPEN: &str = "UPDATE runs SET gate = 0 WHERE id = $1 AND gate = 1";
        batch.push(LEAVE, args![waiter.run.as_str(), waiter.path.as_str()]);
        if waiter.path.is_empty() {
            batch.push(OPEN, args![waiter.run.as_str()]);
        }
    }

    /// Asks for the permits of a step run, or of the run as a whole, for the owner of this fence; repeating is harmless.
    ///
    /// # Errors
    /// The store's.
    pub async fn request(
        &self,
        run: RunId,
        fence: Fence,
        path: Option<&StepPath>,
        requests: &[Request],
    ) -> Result<(), Error> {
        const SHUT: &str = "UPDATE runs SET gate = 1 WHERE id = $1 AND fence = $2 AND gate = 0 AND EXISTS \
                            (SELECT 1 FROM requests WHERE run_id = $1 AND path = '')";
        let ask = format!(
            "INSERT INTO requests (run_id, path, scope, most, turn, when_full) SELECT id, $3, $4, $5, turn, \
             'queue' FROM runs WHERE id = $1 AND fence = $2 AND NOT EXISTS (SELECT 1 FROM permits WHERE run_id = $1 AND \
             path = $3){} ON CONFLICT DO NOTHING",
            self.0.shared.db.share_lock()
        );
        let (run, path) = (run.to_string(), path.map(ToString::to_string).unwrap_or_default());
        let mut batch = Batch::default();
        for request in requests {
            let args = args![run.as_str(), fence.0, path.as_str(), &*request.scope, i64::from(request.most)];
            batch.push(ask.as_str(), args);
        }
        if path.is_empty() {
            batch.push(SHUT, args![run.as_str(), fence.0]);
        }
        self.apply(batch).await?.map_err(|error| self.place().error(error))
    }

    /// Gives back what a step run holds, or no longer waits for it; for the owner of this fence.
    ///
    /// # Errors
    /// The store's.
    pub async fn give_back(&self, run: RunId, fence: Fence, path: &StepPath) -> Result<(), Error> {
        const OWN: &str =
            " WHERE run_id = $1 AND path = $3 AND EXISTS (SELECT 1 FROM runs WHERE id = $1 AND fence = $2)";
        let mut batch = Batch::default();
        for table in ["requests", "permits"] {
            batch.push(format!("DELETE FROM {table}{OWN}"), args![run.to_string(), fence.0, path.to_string()]);
        }
        self.apply(batch).await?.map_err(|error| self.place().error(error))
    }

    /// Lists what a run and its step runs hold.
    ///
    /// # Errors
    /// The store's.
    pub async fn permits_of(&self, run: RunId) -> Result<Vec<Permit>, Error> {
        const OF: &str = "SELECT scope, run_id, path FROM permits WHERE run_id = $1 ORDER BY scope, path";
        self.fetch(OF, args![run.to_string()]).await?.iter().map(permit).collect()
    }

    /// Lists who holds places of a scope.
    ///
    /// # Errors
    /// The store's.
    pub async fn holders(&self, scope: &str) -> Result<Vec<Permit>, Error> {
        const OF: &str = "SELECT scope, run_id, path FROM permits WHERE scope = $1 ORDER BY number";
        self.fetch(OF, args![scope]).await?.iter().map(permit).collect()
    }

    /// Lists what a run and its step runs wait for.
    ///
    /// # Errors
    /// The store's.
    pub async fn requests_of(&self, run: RunId) -> Result<Vec<Waiting>, Error> {
        const OF: &str = "SELECT scope, run_id, path, most, turn FROM requests WHERE run_id = $1 ORDER BY path, scope";
        self.fetch(OF, args![run.to_string()]).await?.iter().map(waiting).collect()
    }

    /// Lists who waits for a scope, in the order in which they get it.
    ///
    /// # Errors
    /// The store's.
    pub async fn line_for(&self, scope: &str) -> Result<Vec<Waiting>, Error> {
        const OF: &str = "SELECT scope, run_id, path, most, turn FROM requests WHERE scope = $1 \
                          ORDER BY turn, run_id, path";
        self.fetch(OF, args![scope]).await?.iter().map(waiting).collect()
    }

    /// Takes back what runs hold that have ended or are gone: nothing leaks, whatever a process died of. Returns how many
    /// permits that were.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep_permits(&self) -> Result<u64, Error> {
        const PERMITS: &str = "DELETE FROM permits WHERE NOT EXISTS (SELECT 1 FROM runs WHERE id = permits.run_id AND \
                               state IN ('queued', 'running', 'waiting'))";
        const REQUESTS: &str = "DELETE FROM requests WHERE NOT EXISTS (SELECT 1 FROM runs WHERE id = requests.run_id AND \
                                state IN ('queued', 'running', 'waiting'))";
        self.execute(REQUESTS, args![]).await?;
        self.execute(PERMITS, args![]).await
    }
}

/// Statements that take away what a run that ends holds and waits for. In this order: what is granted at the same moment
/// is seen by the second.
pub(super) const LET_GO: [&str; 2] =
    ["DELETE FROM requests WHERE run_id = $1", "DELETE FROM permits WHERE run_id = $1"];

/// Returns what a scope limits, in words.
#[must_use]
pub fn describe(scope: &str) -> String {
    let (kind, name) = scope.split_once(':').unwrap_or(("", scope));
    match (kind, name.split_once(':')) {
        ("run", Some((pipeline, key))) => format!("`concurrency` of `{pipeline}` with the key `{key}`"),
        ("run", None) => format!("`concurrency` of `{name}`"),
        _ => format!("the lock `{name}`"),
    }
}

fn canceled(reason: &str) -> Value {
    Value::map([("undo", Value::Bool(false)), ("reason", Value::from(reason))])
}

fn want(row: &Row) -> Result<Want, Error> {
    let when_full = WhenFull::by_name(row.text(3)?).unwrap_or_default();
    Ok(Want { scope: row.text(0)?.to_owned(), most: row.int(1)?, when_full })
}

fn permit(row: &Row) -> Result<Permit, Error> {
    Ok(Permit { scope: row.text(0)?.to_owned(), run: row.parsed(1)?, path: path(row)? })
}

fn waiting(row: &Row) -> Result<Waiting, Error> {
    let most = u32::try_from(row.int(3)?).unwrap_or(u32::MAX);
    let (scope, turn) = (row.text(0)?.to_owned(), Timestamp(row.int(4)?));
    Ok(Waiting { scope, run: row.parsed(1)?, path: path(row)?, most, turn })
}

fn path(row: &Row) -> Result<Option<StepPath>, Error> {
    if row.text(2)?.is_empty() { Ok(None) } else { row.parsed(2).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPES: [(&str, i64); 4] = [("lock:a", 1), ("lock:b", 2), ("lock:c", 3), ("run:d", 1)];

    fn waiter(turn: i64, wants: &[usize], when_full: WhenFull) -> Waiter {
        let want = |index: &usize| {
            let (scope, most) = SCOPES[*index];
            Want { scope: scope.to_owned(), most, when_full }
        };
        Waiter {
            turn,
            run: format!("{turn:06}"),
            path: String::new(),
            holds: false,
            wants: wants.iter().map(want).collect(),
        }
    }

    /// The rows of the two tables, and what `admit` makes of them.
    #[derive(Default)]
    struct Table {
        waiting: Vec<Waiter>,
        held: HashMap<String, BTreeSet<i64>>,
        holders: Vec<(String, Vec<(String, i64)>)>,
        turned_away: Vec<String>,
    }

    impl Table {
        fn admit(&mut self) {
            self.waiting.sort_by(|a, b| (a.turn, &a.run).cmp(&(b.turn, &b.run)));
            let decisions = decide(&self.waiting, &self.held);
            assert_eq!(decisions, decide(&self.waiting, &self.held));
            let mut gone = BTreeSet::new();
            for decision in decisions {
                match decision {
                    Decision::Grant { waiter, numbers } => {
                        assert_eq!(numbers.len(), self.waiting[waiter].wants.len(), "all or nothing");
                        for (scope, number) in &numbers {
                            assert!(
                                self.held.entry(scope.clone()).or_default().insert(*number),
                                "a place is taken once"
                            );
                        }
                        self.holders.push((self.waiting[waiter].run.clone(), numbers));
                        gone.insert(waiter);
                    }
                    Decision::TurnAway { waiter, .. } => {
                        self.turned_away.push(self.waiting[waiter].run.clone());
                        gone.insert(waiter);
                    }
                    Decision::Replace { .. } => {}
                }
            }
            let mut place = 0;
            self.waiting.retain(|_| {
                place += 1;
                !gone.contains(&(place - 1))
            });
            for (scope, most) in SCOPES {
                let held = self.held.get(scope).map_or(0, BTreeSet::len);
                assert!(held <= usize::try_from(most).unwrap(), "{scope}: {held}");
            }
        }

        fn release(&mut self, holder: usize) {
            let (_, numbers) = self.holders.swap_remove(holder);
            for (scope, number) in numbers {
                self.held.get_mut(&scope).unwrap().remove(&number);
            }
        }
    }

    #[test]
    fn no_limit_is_broken_and_nobody_waits_for_ever() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut table = Table::default();
            let mut arrived = Vec::new();
            // Whoever wants more than one scope meets a steady stream of those who want one of them.
            for turn in 0..120 {
                let wants: Vec<usize> = (0..SCOPES.len()).filter(|_| random.u32(..3) == 0).collect();
                if !wants.is_empty() {
                    arrived.push((format!("{turn:06}"), turn));
                    table.waiting.push(waiter(turn, &wants, WhenFull::Queue));
                }
                table.admit();
                if !table.holders.is_empty() && random.bool() {
                    let holder = random.usize(..table.holders.len());
                    table.release(holder);
                    table.admit();
                }
                // Of those who wait for the same nobody has overtaken another.
                for pair in table.waiting.windows(2) {
                    assert!(pair[0].turn < pair[1].turn);
                }
                let first = table.waiting.first();
                if let Some(first) = first {
                    let full = first.wants.iter().any(|want| {
                        i64::try_from(table.held.get(&want.scope).map_or(0, BTreeSet::len)).unwrap() >= want.most
                    });
                    assert!(full, "the first waits only for what is held: seed {seed}");
                }
            }
            // Each release lets somebody in, so that so many are enough.
            for _ in 0..arrived.len() {
                if !table.holders.is_empty() {
                    table.release(0);
                    table.admit();
                }
            }
            assert!(table.waiting.is_empty(), "seed {seed}: {:?}", table.waiting);
        }
    }

    #[test]
    fn who_waits_for_two_is_not_overtaken_by_those_who_wait_for_one_of_them() {
        let held = HashMap::from([("lock:a".to_owned(), BTreeSet::from([1]))]);
        let both = waiter(1, &[0, 3], WhenFull::Queue);
        let one = waiter(2, &[3], WhenFull::Queue);
        assert_eq!(decide(&[both.clone(), one.clone()], &held), [], "`d` is free, and kept for who came first");
        let granted = decide(&[both, one], &HashMap::new());
        let numbers = vec![("lock:a".to_owned(), 1), ("run:d".to_owned(), 1)];
        assert_eq!(granted, [Decision::Grant { waiter: 0, numbers }]);
    }

    #[test]
    fn no_place_is_kept_from_who_is_waited_for() {
        // The first waits for `a`, which the second holds, and has a place in `d`, which the second wants.
        let held = HashMap::from([("lock:a".to_owned(), BTreeSet::from([1]))]);
        let second = Waiter { holds: true, ..waiter(2, &[3], WhenFull::Queue) };
        let decisions = decide(&[second, waiter(1, &[0, 3], WhenFull::Queue)], &held);
        assert_eq!(decisions, [Decision::Grant { waiter: 0, numbers: vec![("run:d".to_owned(), 1)] }]);
    }

    #[test]
    fn who_does_not_wait_is_turned_away_and_keeps_no_place() {
        let held = HashMap::from([("lock:b".to_owned(), BTreeSet::from([2]))]);
        let waiters =
            [waiter(1, &[1], WhenFull::Skip), waiter(2, &[1], WhenFull::Skip), waiter(3, &[1], WhenFull::Queue)];
        let decisions = decide(&waiters, &held);
        assert_eq!(
            decisions,
            [
                Decision::Grant { waiter: 0, numbers: vec![("lock:b".to_owned(), 1)] },
                Decision::TurnAway { waiter: 1, scope: "lock:b".to_owned() },
            ]
        );
    }

    #[test]
    fn scopes_are_told_in_words() {
        assert_eq!(describe("run:post:tea"), "`concurrency` of `post` with the key `tea`");
        assert_eq!(describe("run:post"), "`concurrency` of `post`");
        assert_eq!(describe("lock:erp:acme"), "the lock `erp:acme`");
    }
}
