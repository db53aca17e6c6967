//! Runs that wait for each other's locks: found, and ended by having one of them give way.
//!
//! A run that holds a lock as a whole, or in a step that calls another pipeline, and asks for more in a step can wait for
//! one that waits for it. Nobody can know that beforehand, because names of locks are expressions.

use std::collections::BTreeSet;
use std::collections::HashMap;

use super::Batch;
use super::Error;
use super::Store;
use super::db::args;
use super::permits::CANCEL;
use super::permits::describe;
use crate::model::Timestamp;
use crate::model::Value;

/// The signal that a step run is not to wait any longer for its locks, with the reason.
pub const GIVE_WAY: &str = "give_way";

/// A request that is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    /// The highest one first gives way: the last in the queue.
    turn: i64,
    run: String,
    /// Empty for a run as a whole.
    path: String,
    scope: String,
    most: i64,
}

/// What is held, who waits, and who is whose child.
#[derive(Debug, Default)]
struct Picture {
    asked: Vec<Asked>,
    /// Scopes, each with the run whose end gives the place back.
    held: Vec<(String, String)>,
    parents: HashMap<String, String>,
}

impl Picture {
    /// Returns whoever has to give way so that the others can go on; nothing where nobody waits in a circle.
    ///
    /// A run ends when it gets what it asks for and its children end. Whoever waits only for what those will give back who
    /// do not wait in a circle themselves will get it.
    fn victim(&self) -> Option<&Asked> {
        let with_parents =
            |run: &str| -> Vec<String> { std::iter::once(run).chain(self.above(run)).map(str::to_owned).collect() };
        let mut stuck: BTreeSet<String> = self.asked.iter().flat_map(|asked| with_parents(&asked.run)).collect();
        loop {
            let free = |asked: &Asked| {
                let kept = self.held.iter().filter(|(scope, run)| *scope == asked.scope && stuck.contains(run));
                i64::try_from(kept.count()).unwrap_or(i64::MAX) < asked.most
            };
            let waits = self.asked.iter().filter(|asked| !free(asked));
            let still: BTreeSet<String> = waits.flat_map(|asked| with_parents(&asked.run)).collect();
            if still.len() == stuck.len() {
                break;
            }
            stuck = still;
        }
        let holds = |run: &str| self.held.iter().any(|(_, holder)| holder == run);
        let candidates = self.asked.iter().filter(|asked| {
            stuck.contains(&asked.run) && (holds(&asked.run) || self.above(&asked.run).into_iter().any(holds))
        });
        // A step can fail; a run that has not begun can only be canceled.
        candidates.max_by_key(|asked| (!asked.path.is_empty(), asked.turn, &asked.run, &asked.path))
    }

    /// Returns the parent of a run, and its parent, and so on.
    fn above(&self, run: &str) -> Vec<&str> {
        let first = self.parents.get(run).map(String::as_str);
        std::iter::successors(first, |run| self.parents.get(*run).map(String::as_str)).collect()
    }
}

impl Store {
    /// Looks for runs that wait for each other, and has one of them give way. Returns whether there were some.
    ///
    /// # Errors
    /// The store's.
    pub async fn break_deadlock(&self, now: Timestamp) -> Result<bool, Error> {
        // Only who holds something can be waited for while he waits.
        const ANY: &str = "SELECT scope FROM requests WHERE EXISTS (SELECT 1 FROM permits WHERE permits.scope = requests.scope) \
                           AND (path <> '' OR EXISTS (SELECT 1 FROM runs WHERE id = requests.run_id AND parent_run IS NOT NULL)) LIMIT 1";
        const LEAVE: &str = "DELETE FROM requests WHERE run_id = $1 AND path = $2";
        if self.fetch(ANY, args![]).await?.is_empty() {
            return Ok(false);
        }
        let picture = self.picture().await?;
        let Some(victim) = picture.victim() else { return Ok(false) };
        let others = picture.held.iter().filter(|(scope, _)| *scope == victim.scope);
        let others: BTreeSet<_> = others.map(|(_, run)| format!("`{run}`")).collect();
        let others = others.into_iter().collect::<Vec<_>>().join(", ");
        let reason =
            format!("a deadlock: {} is held by run {others}, which waits for this one", describe(&victim.scope));
        let (kind, about) = if victim.path.is_empty() {
            (CANCEL, *picture.above(&victim.run).last().unwrap_or(&&*victim.run))
        } else {
            (GIVE_WAY, victim.run.as_str())
        };
        let payload =
            Value::map([("path", Value::from(victim.path.as_str())), ("reason", Value::from(reason.as_str()))]);
        let mut batch = Batch::default();
        batch.push(LEAVE, args![victim.run.as_str(), victim.path.as_str()]);
        self.add_signal(&mut batch, about, kind, &payload, now).await?;
        self.apply(batch).await?.map_err(|error| self.place().error(error))?;
        // Another process may execute whoever gives way.
        self.announce();
        Ok(true)
    }

    async fn picture(&self) -> Result<Picture, Error> {
        const ASKED: &str = "SELECT turn, run_id, path, scope, most FROM requests ORDER BY turn, run_id, path, scope";
        // What a step holds that calls another pipeline is free when that run has ended; other steps do not wait meanwhile.
        const HELD: &str = "SELECT scope, CASE WHEN path = '' THEN run_id ELSE (SELECT MAX(id) FROM runs \
                            WHERE parent_run = permits.run_id AND parent_path = permits.path \
                            AND state IN ('queued', 'running', 'waiting')) END FROM permits ORDER BY scope, number";
        const PARENT: &str = "SELECT parent_run FROM runs WHERE id = $1";
        let mut picture = Picture::default();
        for row in self.fetch(ASKED, args![]).await? {
            let (run, path, scope) = (row.text(1)?.to_owned(), row.text(2)?.to_owned(), row.text(3)?.to_owned());
            picture.asked.push(Asked { turn: row.int(0)?, run, path, scope, most: row.int(4)? });
        }
        for row in self.fetch(HELD, args![]).await? {
            if let Some(run) = row.optional_text(1)? {
                picture.held.push((row.text(0)?.to_owned(), run.to_owned()));
            }
        }
        let mut open: Vec<String> = picture.asked.iter().map(|asked| asked.run.clone()).collect();
        while let Some(run) = open.pop() {
            if picture.parents.contains_key(&run) {
                continue;
            }
            let rows = self.fetch(PARENT, args![run.as_str()]).await?;
            if let Some(parent) = rows.first().map(|row| row.optional_text(0)).transpose()?.flatten() {
                open.push(parent.to_owned());
                picture.parents.insert(run, parent.to_owned());
            }
        }
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(turn: i64, run: &str, scope: &str, most: i64) -> Asked {
        let (run, scope) = (run.to_owned(), scope.to_owned());
        Asked { turn, run, path: "step".to_owned(), scope, most }
    }

    fn picture(asked: &[Asked], held: &[(&str, &str)], parents: &[(&str, &str)]) -> Picture {
        let pairs = |list: &[(&str, &str)]| {
            list.iter().map(|(left, right)| ((*left).to_owned(), (*right).to_owned())).collect::<Vec<_>>()
        };
        Picture { asked: asked.to_vec(), held: pairs(held), parents: pairs(parents).into_iter().collect() }
    }

    #[test]
    fn of_those_who_wait_for_each_other_the_last_in_the_queue_gives_way() {
        let asked = [asks(1, "r1", "b", 1), asks(2, "r2", "a", 1), asks(3, "r3", "a", 1)];
        let picture = picture(&asked, &[("a", "r1"), ("b", "r2")], &[]);
        assert_eq!(picture.victim().unwrap().run, "r2", "the third holds nothing, so nobody waits for it");
    }

    #[test]
    fn a_line_is_no_circle() {
        let asked = [asks(1, "r1", "b", 1), asks(2, "r2", "c", 1), asks(3, "r4", "a", 1)];
        assert_eq!(picture(&asked, &[("a", "r1"), ("b", "r2"), ("c", "r3")], &[]).victim(), None);
    }

    #[test]
    fn a_place_that_somebody_will_give_back_is_no_circle() {
        let asked = [asks(1, "r1", "b", 2), asks(2, "r2", "a", 1)];
        let open = picture(&asked, &[("a", "r1"), ("b", "r2"), ("b", "r3")], &[]);
        assert_eq!(open.victim(), None, "the third ends some day");
        let stuck = picture(&asked, &[("a", "r1"), ("b", "r2"), ("b", "r1")], &[]);
        assert_eq!(stuck.victim().unwrap().run, "r2");
    }

    #[test]
    fn children_of_one_run_follow_each_other_and_a_child_is_stuck_with_its_parents_lock() {
        let siblings = [("c1", "p"), ("c2", "p")];
        let found = |asked: &[Asked], held: &[(&str, &str)]| picture(asked, held, &siblings).victim().cloned();
        assert_eq!(found(&[asks(1, "c2", "own", 1)], &[("own", "c1"), ("all", "p")]), None);
        let asked = [asks(1, "c2", "own", 1), asks(2, "r", "all", 1)];
        let found = found(&asked, &[("own", "r"), ("all", "p")]).unwrap();
        assert_eq!(found.run, "r", "the parent waits with its child");
    }

    /// Against the definition: whoever is not stuck can be led to his end, one after the other.
    #[test]
    fn whoever_gives_way_is_stuck_and_without_one_all_can_end() {
        const SCOPES: [(&str, i64); 3] = [("a", 1), ("b", 2), ("c", 1)];
        let (mut found, mut none) = (0, 0);
        for seed in 0..3_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut asked, mut held) = (Vec::new(), Vec::new());
            let runs: Vec<String> = (0..5).map(|number| format!("r{number}")).collect();
            let count = |held: &[(String, String)], scope: &str| {
                i64::try_from(held.iter().filter(|(own, _)| own == scope).count()).unwrap()
            };
            for run in &runs {
                let (scope, most) = SCOPES[random.usize(..3)];
                if count(&held, scope) < most && random.u8(..4) > 0 {
                    held.push((scope.to_owned(), run.clone()));
                }
            }
            for (turn, run) in (0..).zip(&runs) {
                let (scope, most) = SCOPES[random.usize(..3)];
                let own = held.contains(&(scope.to_owned(), run.clone()));
                if !own && count(&held, scope) == most {
                    asked.push(asks(turn, run, scope, most));
                }
            }
            // Whoever asks for nothing that is full ends, and gives back what it holds; until nobody can any more.
            let (mut left, mut open) = (held.clone(), asked.clone());
            let mut alive: BTreeSet<String> = runs.iter().cloned().collect();
            loop {
                let can = |run: &String| {
                    open.iter().filter(|asked| asked.run == *run).all(|asked| count(&left, &asked.scope) < asked.most)
                };
                let Some(run) = alive.iter().find(|run| can(run)).cloned() else { break };
                left.retain(|(_, holder)| *holder != run);
                open.retain(|asked| asked.run != run);
                alive.remove(&run);
            }
            let picture = Picture { asked, held, parents: HashMap::new() };
            match picture.victim() {
                None => {
                    assert!(alive.is_empty(), "seed {seed}: {alive:?} {picture:?}");
                    none += 1;
                }
                Some(victim) => {
                    assert!(alive.contains(&victim.run), "seed {seed}: {picture:?}");
                    found += 1;
                }
            }
        }
        assert!(found > 100 && none > 100, "{found} {none}");
    }
}
