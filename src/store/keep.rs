//! Removing what is no longer kept: ended runs with all that belongs to them, old logs, versions and schedules that
//! nobody has any more.
//!
//! A run goes in two steps. In one transaction its row leaves `runs` and its id is noted in `removals`; then what belonged
//! to it goes in small transactions, child runs among it, and last the note. So nobody sees half a run, no transaction is
//! long, and what a crash interrupts is gone on with.

use std::collections::HashSet;

use super::Batch;
use super::Error;
use super::Row;
use super::Store;
use super::db::args;
use crate::model::RunId;
use crate::model::Timestamp;
use crate::model::VersionId;

/// The end of a run: ended runs stand in the order of their ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ended {
    pub at: Timestamp,
    pub run: RunId,
}

impl Ended {
    /// Returns the last place of a moment.
    #[must_use]
    pub fn upto(at: Timestamp) -> Self {
        Self { at, run: RunId::new(u64::MAX >> 16, u128::MAX) }
    }
}

/// What belongs to a run and may go before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belonging {
    Logs,
    Wire,
}

/// The runs whose belongings are removed by one transaction.
const FIRST: &str = "(SELECT run_id FROM removals ORDER BY run_id LIMIT 100)";

/// Effects that are told apart from later equal ones by their rows alone: nobody knows which remote object is theirs, so
/// no object may be taken for another's while they are remembered.
const REMEMBERED: &str =
    "(fingerprint IS NOT NULL AND (state = 'dropped' OR (state = 'confirmed' AND remote_id IS NULL)))";

impl Store {
    /// Lists the pipelines that have ended runs.
    ///
    /// # Errors
    /// The store's, here and below.
    pub async fn ended_pipelines(&self) -> Result<Vec<String>, Error> {
        // From one name to the next by the index, however many runs each has.
        const NAMES: &str = "WITH RECURSIVE names (name) AS (SELECT MIN(pipeline) FROM runs UNION ALL SELECT (SELECT \
                             MIN(pipeline) FROM runs WHERE pipeline > name) FROM names WHERE name IS NOT NULL) \
                             SELECT name FROM names WHERE name IS NOT NULL";
        let rows = self.fetch(NAMES, args![]).await?;
        rows.iter().map(|row| row.text(0).map(str::to_owned)).collect()
    }

    /// Returns the newest of a pipeline's ended runs that is one too many when `count` are kept. Child runs are their
    /// parents'.
    pub async fn first_beyond(&self, pipeline: &str, count: u64) -> Result<Option<Ended>, Error> {
        // Counting the index is much cheaper than looking into rows, and mostly enough.
        const COUNT: &str = "SELECT COUNT(*) FROM runs WHERE pipeline = $1 AND ended_at IS NOT NULL";
        const BEYOND: &str = "SELECT ended_at, id FROM runs WHERE pipeline = $1 AND ended_at IS NOT NULL \
                              AND parent_run IS NULL ORDER BY ended_at DESC, id DESC LIMIT 1 OFFSET $2";
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let rows = self.fetch(COUNT, args![pipeline]).await?;
        if rows.first().map(|row| row.int(0)).transpose()?.unwrap_or_default() <= count {
            return Ok(None);
        }
        let rows = self.fetch(BEYOND, args![pipeline, count]).await?;
        rows.first().map(ended).transpose()
    }

    /// Lists ended runs of a pipeline that nobody holds, child runs not among them: those behind `after`, up to `upto` and
    /// with it, the oldest first.
    pub async fn ended_runs(
        &self,
        pipeline: &str,
        after: Option<Ended>,
        upto: Ended,
        most: u32,
    ) -> Result<Vec<Ended>, Error> {
        const RUNS: &str = "SELECT ended_at, id FROM runs WHERE pipeline = $1 AND ended_at IS NOT NULL \
                            AND ended_at >= $2 AND ended_at <= $4 AND (ended_at > $2 OR id > $3) \
                            AND (ended_at < $4 OR id <= $5) AND parent_run IS NULL AND owner IS NULL \
                            ORDER BY ended_at, id LIMIT $6";
        self.ended_of(RUNS, pipeline, after, upto, most).await
    }

    /// Lists ended runs as `ended_runs`, child runs and held ones among them.
    pub async fn all_ended_runs(
        &self,
        pipeline: &str,
        after: Option<Ended>,
        upto: Ended,
        most: u32,
    ) -> Result<Vec<Ended>, Error> {
        const RUNS: &str = "SELECT ended_at, id FROM runs WHERE pipeline = $1 AND ended_at IS NOT NULL \
                            AND ended_at >= $2 AND ended_at <= $4 AND (ended_at > $2 OR id > $3) \
                            AND (ended_at < $4 OR id <= $5) ORDER BY ended_at, id LIMIT $6";
        self.ended_of(RUNS, pipeline, after, upto, most).await
    }

    async fn ended_of(
        &self,
        sql: &'static str,
        pipeline: &str,
        after: Option<Ended>,
        upto: Ended,
        most: u32,
    ) -> Result<Vec<Ended>, Error> {
        let (from, run) = after.map_or((i64::MIN, String::new()), |after| (after.at.micros(), after.run.to_string()));
        let args = args![pipeline, from, run, upto.at.micros(), upto.run.to_string(), i64::from(most)];
        self.fetch(sql, args).await?.iter().map(ended).collect()
    }

    /// Says which of some runs must stay: a run below them has not ended, an effect of theirs is not settled, or a person
    /// is asked.
    pub async fn must_stay(&self, runs: &[RunId]) -> Result<HashSet<RunId>, Error> {
        let sql = format!(
            "WITH RECURSIVE tree (root, id) AS (SELECT id, id FROM runs WHERE id IN ({}) \
             UNION ALL SELECT tree.root, runs.id FROM tree JOIN runs ON runs.parent_run = tree.id) \
             SELECT DISTINCT root FROM tree JOIN runs ON runs.id = tree.id WHERE runs.ended_at IS NULL OR EXISTS \
             (SELECT 1 FROM effects WHERE effects.run_id = tree.id AND state IN ('open', 'in_doubt')) OR EXISTS \
             (SELECT 1 FROM approvals WHERE approvals.run_id = tree.id AND state = 'open')",
            list(runs)
        );
        let rows = self.fetch_varied(sql).await?;
        rows.iter().map(|row| row.parsed(0)).collect()
    }

    /// Takes ended runs that nobody holds out of the store; what belongs to them goes with `sweep`. Returns how many.
    pub async fn remove_runs(&self, runs: &[RunId]) -> Result<u64, Error> {
        if runs.is_empty() {
            return Ok(0);
        }
        let these = format!("id IN ({}) AND ended_at IS NOT NULL AND owner IS NULL", list(runs));
        let take = self.0.shared.db.take_lock();
        let mut batch = Batch::default();
        batch.push(
            format!("INSERT INTO removals (run_id) SELECT id FROM runs WHERE {these}{take} ON CONFLICT DO NOTHING"),
            args![],
        );
        batch.push(format!("DELETE FROM runs WHERE {these} AND id IN (SELECT run_id FROM removals)"), args![]);
        batch.vary();
        self.apply(batch).await?.map_err(|error| self.place().error(error))?;
        let left = self.fetch_varied(format!("SELECT COUNT(*) FROM runs WHERE id IN ({})", list(runs))).await?;
        let left = left.first().map(|row| row.int(0)).transpose()?.unwrap_or_default();
        Ok((runs.len() as u64).saturating_sub(left.unsigned_abs()))
    }

    /// Removes some of what belonged to runs that were removed. Returns whether there is more.
    pub async fn sweep(&self) -> Result<bool, Error> {
        const ANY: &str = "SELECT run_id FROM removals LIMIT 1";
        if self.fetch(ANY, args![]).await?.is_empty() {
            return Ok(false);
        }
        let take = self.0.shared.db.take_lock();
        let mut batch = Batch::default();
        let mut push = |sql: String| batch.push(sql, args![]);
        push(format!(
            "INSERT INTO removals (run_id) SELECT id FROM runs WHERE parent_run IN {FIRST} LIMIT 200{take} \
             ON CONFLICT DO NOTHING"
        ));
        push(format!("DELETE FROM runs WHERE parent_run IN {FIRST} AND id IN (SELECT run_id FROM removals)"));
        for (table, number, most) in [("journal", "seq", 300), ("inbox", "number", 500), ("logs", "number", 1_000)] {
            push(some_of(table, number, most));
        }
        push(some_of("wire", "number", 300));
        // Whoever has ended holds nothing and waits for nothing; but nothing may be left either.
        push(format!("DELETE FROM permits WHERE run_id IN {FIRST}"));
        push(format!("DELETE FROM requests WHERE run_id IN {FIRST}"));
        push(format!(
            "DELETE FROM votes WHERE approval IN (SELECT id FROM approvals WHERE run_id IN {FIRST} LIMIT 200)"
        ));
        push(format!(
            "DELETE FROM approvals WHERE id IN (SELECT id FROM approvals WHERE run_id IN {FIRST} AND NOT EXISTS \
             (SELECT 1 FROM votes WHERE votes.approval = approvals.id) LIMIT 200)"
        ));
        push(format!(
            "DELETE FROM effects WHERE (run_id, id) IN (SELECT run_id, id FROM effects WHERE run_id IN {FIRST} \
             AND NOT {REMEMBERED} LIMIT 500)"
        ));
        push(format!(
            "DELETE FROM dataset_pages WHERE (dataset_id, first_row) IN (SELECT dataset_id, first_row FROM dataset_pages \
             WHERE dataset_id IN (SELECT id FROM datasets WHERE run_id IN {FIRST}) LIMIT 50)"
        ));
        push(format!(
            "DELETE FROM datasets WHERE run_id IN {FIRST} AND NOT EXISTS \
             (SELECT 1 FROM dataset_pages WHERE dataset_id = datasets.id)"
        ));
        let gone = |table: &str, column: &str| {
            format!("AND NOT EXISTS (SELECT 1 FROM {table} WHERE {table}.{column} = removals.run_id) ")
        };
        let mut done = format!(
            "DELETE FROM removals WHERE run_id IN {FIRST} AND NOT EXISTS (SELECT 1 FROM effects WHERE \
             effects.run_id = removals.run_id AND NOT {REMEMBERED}) "
        );
        done.push_str(&gone("runs", "parent_run"));
        for table in ["journal", "inbox", "logs", "wire", "datasets", "approvals"] {
            done.push_str(&gone(table, "run_id"));
        }
        push(done);
        self.apply(batch).await?.map_err(|error| self.place().error(error))?;
        Ok(!self.fetch(ANY, args![]).await?.is_empty())
    }

    /// Removes what of some runs may go before them, a bounded number of rows. Returns how many rows went.
    pub async fn drop_belongings(&self, what: Belonging, runs: &[RunId]) -> Result<u64, Error> {
        let table = match what {
            Belonging::Logs => "logs",
            Belonging::Wire => "wire",
        };
        // Mostly there is nothing: looking takes nobody's turn to write.
        let these = format!("run_id IN ({})", list(runs));
        let count = format!("SELECT COUNT(*) FROM (SELECT 1 FROM {table} WHERE {these} LIMIT 1000) AS few");
        let found = self.fetch_varied(count).await?;
        let found = found.first().map(|row| row.int(0)).transpose()?.unwrap_or_default();
        if found > 0 {
            let mut batch = Batch::default();
            batch.push(
                format!(
                    "DELETE FROM {table} WHERE (run_id, number) IN (SELECT run_id, number FROM {table} WHERE {these} \
                     LIMIT 1000)"
                ),
                args![],
            );
            batch.vary();
            self.apply(batch).await?.map_err(|error| self.place().error(error))?;
        }
        Ok(found.unsigned_abs())
    }

    /// Lists up to `most` versions behind `after`, and whether a run needs each.
    pub async fn versions_after(&self, after: &str, most: u32) -> Result<Vec<(VersionId, bool)>, Error> {
        const NEEDED: &str = "SELECT id, CAST(CASE WHEN EXISTS (SELECT 1 FROM runs WHERE runs.pipeline = \
                              versions.pipeline AND runs.version = versions.id) THEN 1 ELSE 0 END AS BIGINT) \
                              FROM versions WHERE id > $1 ORDER BY id LIMIT $2";
        let rows = self.fetch(NEEDED, args![after, i64::from(most)]).await?;
        rows.iter().map(|row| Ok((VersionId(row.text(0)?.into()), row.int(1)? != 0))).collect()
    }

    /// Removes versions that have been idle since before `before`, and notes since when the others are. Returns how many
    /// were removed. Whoever puts a version takes the note away.
    pub async fn retire_versions(&self, idle: &[VersionId], now: Timestamp, before: Timestamp) -> Result<u64, Error> {
        const NOTE: &str = "UPDATE versions SET idle_since = $2 WHERE id = $1 AND idle_since IS NULL";
        const REMOVE: &str = "DELETE FROM versions WHERE id = $1 AND idle_since <= $2 AND NOT EXISTS (SELECT 1 FROM runs \
                              WHERE runs.pipeline = versions.pipeline AND runs.version = versions.id)";
        let mut removed = 0;
        for version in idle {
            let gone = self.execute(REMOVE, args![&*version.0, before.micros()]).await?;
            removed += gone;
            if gone == 0 {
                self.execute(NOTE, args![&*version.0, now.micros()]).await?;
            }
        }
        Ok(removed)
    }

    /// Notes which schedules no file has any more, takes the note from those that files have again, and removes those
    /// that have been gone since before `before`. Returns how many were removed.
    pub async fn retire_schedules(
        &self,
        known: &HashSet<(&str, &str)>,
        now: Timestamp,
        before: Timestamp,
    ) -> Result<u64, Error> {
        const ALL: &str = "SELECT pipeline, trigger_id, gone_since FROM schedules";
        const NOTE: &str = "UPDATE schedules SET gone_since = $3 WHERE pipeline = $1 AND trigger_id = $2";
        const FILES: &str = "DELETE FROM trigger_files WHERE pipeline = $1 AND trigger_id = $2 AND EXISTS (SELECT 1 \
                             FROM schedules WHERE pipeline = $1 AND trigger_id = $2 AND gone_since <= $3)";
        const REMOVE: &str = "DELETE FROM schedules WHERE pipeline = $1 AND trigger_id = $2 AND gone_since <= $3";
        let mut removed = 0;
        for row in self.fetch(ALL, args![]).await? {
            let (pipeline, trigger, gone) = (row.text(0)?, row.text(1)?, row.optional_int(2)?);
            match (known.contains(&(pipeline, trigger)), gone) {
                (true, Some(_)) => drop(self.execute(NOTE, args![pipeline, trigger, None::<i64>]).await?),
                (false, None) => drop(self.execute(NOTE, args![pipeline, trigger, now.micros()]).await?),
                (false, Some(since)) if since <= before.micros() => {
                    // Its files first: where only they are gone, the rest is gone on with.
                    self.execute(FILES, args![pipeline, trigger, before.micros()]).await?;
                    removed += self.execute(REMOVE, args![pipeline, trigger, before.micros()]).await?;
                }
                _ => {}
            }
        }
        Ok(removed)
    }

    /// Forgets which remote objects were made by effects of removed runs that began before a moment, a bounded number of
    /// them; `after` is where the last call ended. Returns how many were forgotten, and where to go on.
    pub async fn forget_claims(
        &self,
        before: Timestamp,
        after: Option<(String, String)>,
    ) -> Result<(u64, Option<(String, String)>), Error> {
        const SOME: &str = "SELECT scope, remote_id, effect_id FROM remote_objects WHERE (scope, remote_id) > ($1, $2) \
                            ORDER BY scope, remote_id LIMIT 2000";
        const FORGET: &str = "DELETE FROM remote_objects WHERE scope = $1 AND remote_id = $2 AND NOT EXISTS \
                              (SELECT 1 FROM effects WHERE run_id = $3 AND id = $4)";
        const UNNAMED: &str = "DELETE FROM effects WHERE fingerprint IS NOT NULL AND state IN ('dropped', 'confirmed') \
                               AND intended_at <= $1 AND NOT EXISTS (SELECT 1 FROM runs WHERE id = effects.run_id)";
        let (scope, remote) = after.unwrap_or_default();
        let rows = self.fetch(SOME, args![scope, remote]).await?;
        let mut forgotten = 0;
        for row in &rows {
            let (scope, remote, effect) = (row.text(0)?, row.text(1)?, row.text(2)?);
            // An effect's id begins with its run's, and that with the time of its making.
            let run = effect.split('/').next().and_then(|run| run.parse::<RunId>().ok());
            let Some(run) = run.filter(|run| i128::from(run.milliseconds()) * 1_000 <= i128::from(before.micros()))
            else {
                continue;
            };
            forgotten += self.execute(FORGET, args![scope, remote, run.to_string(), effect]).await?;
        }
        let next = match rows.last().filter(|_| rows.len() == 2_000) {
            Some(row) => Some((row.text(0)?.to_owned(), row.text(1)?.to_owned())),
            None => None,
        };
        if next.is_none() {
            forgotten += self.execute(UNNAMED, args![before.micros()]).await?;
        }
        Ok((forgotten, next))
    }

    /// Takes a chore that is due, for one process of all: returns true to the one that is to do it.
    pub async fn take_chore(&self, name: &str, now: Timestamp, next: Timestamp) -> Result<bool, Error> {
        const TAKE: &str = "INSERT INTO chores (name, due) VALUES ($1, $3) ON CONFLICT (name) DO UPDATE \
                            SET due = excluded.due WHERE chores.due <= $2";
        Ok(self.execute(TAKE, args![name, now.micros(), next.micros()]).await? > 0)
    }
}

/// Removes some rows of a table whose key is the run and a number.
fn some_of(table: &str, number: &str, most: u32) -> String {
    format!(
        "DELETE FROM {table} WHERE (run_id, {number}) IN \
         (SELECT run_id, {number} FROM {table} WHERE run_id IN {FIRST} LIMIT {most})"
    )
}

/// Writes ids into a statement: they are letters and digits of ours.
fn list(runs: &[RunId]) -> String {
    let ids: Vec<String> = runs.iter().map(|run| format!("'{run}'")).collect();
    if ids.is_empty() { "NULL".to_owned() } else { ids.join(", ") }
}

fn ended(row: &Row) -> Result<Ended, Error> {
    Ok(Ended { at: Timestamp(row.int(0)?), run: row.parsed(1)? })
}
