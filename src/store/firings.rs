//! What triggers have fired that do not go by time: deliveries, files, ends of runs; and their buckets.

use super::Batch;
use super::Error;
use super::NewRun;
use super::RunRecord;
use super::ScheduleRow;
use super::Store;
use super::db::args;
use super::schedules;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::Timestamp;

/// How many paths are asked for at once.
const PATHS: usize = 200;

/// A firing of a trigger, with its run.
#[derive(Clone, Debug, PartialEq)]
pub struct NewFiring {
    pub trigger: String,
    /// What fires, unique for the trigger: `delivery:…`, `after:…`, `file:…`.
    pub mark: String,
    /// Its slot names the trigger and the mark.
    pub run: NewRun,
    /// When the run may start, where its trigger's bucket is empty.
    pub not_before: Option<Timestamp>,
    /// The file that fires.
    pub file: Option<FileRow>,
}

/// A content that a file has or had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRow {
    pub path: String,
    pub hash: String,
    pub size: u64,
    /// What the file system says of the file: while it is the same, so is the content.
    pub stamp: String,
}

/// Which ends of runs a trigger waits for.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'e> {
    /// The pipeline whose runs end, and how they do.
    pub of: &'e str,
    pub states: &'static [RunState],
    /// The trigger that waits, and its pipeline.
    pub pipeline: &'e str,
    pub trigger: &'e str,
    /// Earlier ends are not looked at.
    pub since: Timestamp,
    pub most: u32,
}

impl Store {
    /// Returns where a trigger stands; nothing where it was never looked at.
    ///
    /// # Errors
    /// The store's.
    pub async fn trigger(&self, pipeline: &str, trigger: &str) -> Result<Option<ScheduleRow>, Error> {
        let sql = format!("SELECT {} FROM schedules WHERE pipeline = $1 AND trigger_id = $2", schedules::COLUMNS);
        let rows = self.fetch(sql, args![pipeline, trigger]).await?;
        rows.first().map(schedules::row).transpose()
    }

    /// Notes since when files and ends of runs count for triggers.
    ///
    /// # Errors
    /// The store's.
    pub async fn begin_triggers(&self, triggers: &[(String, String)], now: Timestamp) -> Result<(), Error> {
        const BEGIN: &str = "UPDATE schedules SET begun = $3 WHERE pipeline = $1 AND trigger_id = $2 AND begun < $3";
        let mut batch = Batch::default();
        for (pipeline, trigger) in triggers {
            batch.push(BEGIN, args![pipeline.as_str(), trigger.as_str(), now.micros()]);
        }
        self.apply(batch).await?.map_err(|error| self.place().error(error))
    }

    /// Takes tokens from a trigger's bucket: it is full at `full_at` then. Returns false where somebody else was faster.
    ///
    /// # Errors
    /// The store's.
    pub async fn take_tokens(
        &self,
        pipeline: &str,
        trigger: &str,
        seen: Timestamp,
        full_at: Timestamp,
    ) -> Result<bool, Error> {
        const TAKE: &str = "UPDATE schedules SET full_at = $4 WHERE pipeline = $1 AND trigger_id = $2 AND full_at = $3";
        Ok(self.execute(TAKE, args![pipeline, trigger, seen.micros(), full_at.micros()]).await? > 0)
    }

    /// Makes the runs of firings and remembers what fired, in one transaction. What has a run gets no second one.
    ///
    /// # Errors
    /// The store's.
    pub async fn fire_events(&self, firings: &[NewFiring], now: Timestamp) -> Result<(), Error> {
        const FIRED: &str = "INSERT INTO firings (pipeline, trigger_id, mark, run_id, fired_at) \
                             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
        const LAST: &str = "UPDATE schedules SET fired_at = $3 WHERE pipeline = $1 AND trigger_id = $2 \
                            AND (fired_at IS NULL OR fired_at < $3)";
        let mut batch = Batch::default();
        let runs: Vec<NewRun> = firings.iter().map(|firing| firing.run.clone()).collect();
        self.add_runs(&mut batch, &runs).await?;
        let mut last: Option<(&str, &str)> = None;
        for firing in firings {
            let NewFiring { run, trigger, mark, .. } = firing;
            let (pipeline, id) = (&*run.pipeline, run.id.to_string());
            if let Some(until) = firing.not_before {
                batch.push(schedules::PUT_OFF, schedules::put_off(run.id, until));
            }
            batch.push(FIRED, args![pipeline, trigger.as_str(), mark.as_str(), id, now.micros()]);
            if let Some(file) = &firing.file {
                note(&mut batch, pipeline, trigger, file, now);
            }
            // Firings of a trigger come together.
            if last.replace((pipeline, trigger)) != Some((pipeline, trigger)) {
                batch.push(LAST, args![pipeline, trigger.as_str(), now.micros()]);
            }
        }
        self.apply(batch).await?.map_err(|error| self.place().error(error))?;
        self.announce();
        Ok(())
    }

    /// Returns the run of what fired; the run itself may have been forgotten since.
    ///
    /// # Errors
    /// The store's.
    pub async fn run_of_firing(&self, pipeline: &str, trigger: &str, mark: &str) -> Result<Option<RunId>, Error> {
        const FIND: &str = "SELECT run_id FROM firings WHERE pipeline = $1 AND trigger_id = $2 AND mark = $3";
        let rows = self.fetch(FIND, args![pipeline, trigger, mark]).await?;
        rows.first().map(|row| row.parsed(0)).transpose()
    }

    /// Lists runs whose end a trigger waits for and that have not fired it, the earliest first. Child runs do not count.
    ///
    /// # Errors
    /// The store's.
    pub async fn ends(&self, ends: Ends<'_>) -> Result<Vec<RunRecord>, Error> {
        let states = ends.states.iter().map(|state| format!("'{}'", state.name())).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "SELECT {} FROM runs WHERE pipeline = $1 AND ended_at IS NOT NULL AND ended_at >= $2 \
             AND parent_run IS NULL AND state IN ({states}) AND NOT EXISTS (SELECT 1 FROM firings \
             WHERE firings.pipeline = $3 AND firings.trigger_id = $4 AND firings.mark = 'after:' || runs.id) \
             ORDER BY ended_at, id LIMIT $5",
            super::runs::COLUMNS
        );
        let args = args![ends.of, ends.since.micros(), ends.pipeline, ends.trigger, i64::from(ends.most)];
        let rows = self.fetch(sql, args).await?;
        rows.iter().map(|row| self.run_record(row)).collect()
    }

    /// Lists the files of a trigger as they were last seen.
    ///
    /// # Errors
    /// The store's.
    pub async fn trigger_files(&self, pipeline: &str, trigger: &str) -> Result<Vec<FileRow>, Error> {
        const FILES: &str = "SELECT path, hash, size, stamp FROM trigger_files \
                             WHERE pipeline = $1 AND trigger_id = $2 AND left_at IS NULL ORDER BY path, seen_at";
        let rows = self.fetch(FILES, args![pipeline, trigger]).await?;
        let file = |row: &super::Row| {
            let size = u64::try_from(row.int(2)?).unwrap_or_default();
            Ok(FileRow {
                path: row.text(0)?.to_owned(),
                hash: row.text(1)?.to_owned(),
                size,
                stamp: row.text(3)?.to_owned(),
            })
        };
        rows.iter().map(file).collect()
    }

    /// Lists the contents that files ever had, as path and hash.
    ///
    /// # Errors
    /// The store's.
    pub async fn known_contents(
        &self,
        pipeline: &str,
        trigger: &str,
        paths: &[&str],
    ) -> Result<Vec<(String, String)>, Error> {
        let mut known = Vec::new();
        for paths in paths.chunks(PATHS) {
            let places = (0..paths.len()).map(|place| format!("${}", place + 3)).collect::<Vec<_>>().join(", ");
            let sql = format!(
                "SELECT path, hash FROM trigger_files WHERE pipeline = $1 AND trigger_id = $2 AND path IN ({places})"
            );
            let mut args = args![pipeline, trigger];
            args.extend(paths.iter().map(|path| (*path).into()));
            for row in self.fetch(sql, args).await? {
                known.push((row.text(0)?.to_owned(), row.text(1)?.to_owned()));
            }
        }
        Ok(known)
    }

    /// Notes files as they are, of which none fires; `begins` when they are those that were there before the trigger.
    ///
    /// # Errors
    /// The store's.
    pub async fn note_files(
        &self,
        pipeline: &str,
        trigger: &str,
        files: &[FileRow],
        now: Timestamp,
        begins: bool,
    ) -> Result<(), Error> {
        const BEGUN: &str = "UPDATE schedules SET begun = $3 WHERE pipeline = $1 AND trigger_id = $2";
        let mut batch = Batch::default();
        for file in files {
            note(&mut batch, pipeline, trigger, file, now);
        }
        if begins {
            batch.push(BEGUN, args![pipeline, trigger, now.micros()]);
        }
        self.apply(batch).await?.map_err(|error| self.place().error(error))
    }

    /// Notes files that are gone.
    ///
    /// # Errors
    /// The store's.
    pub async fn files_left(
        &self,
        pipeline: &str,
        trigger: &str,
        paths: &[String],
        now: Timestamp,
    ) -> Result<(), Error> {
        const LEFT: &str = "UPDATE trigger_files SET left_at = $4 \
                            WHERE pipeline = $1 AND trigger_id = $2 AND path = $3 AND left_at IS NULL";
        let mut batch = Batch::default();
        for path in paths {
            batch.push(LEFT, args![pipeline, trigger, path.as_str(), now.micros()]);
        }
        self.apply(batch).await?.map_err(|error| self.place().error(error))
    }

    /// Forgets some of what fired before a moment, and of the contents that files have no more since another. Returns how
    /// many that were.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_firings(&self, fired: Timestamp, left: Timestamp) -> Result<u64, Error> {
        const FIRED: &str = "DELETE FROM firings WHERE (pipeline, trigger_id, mark) IN \
                             (SELECT pipeline, trigger_id, mark FROM firings WHERE fired_at < $1 LIMIT 1000)";
        const LEFT: &str = "DELETE FROM trigger_files WHERE (pipeline, trigger_id, path, hash) IN \
                            (SELECT pipeline, trigger_id, path, hash FROM trigger_files \
                            WHERE left_at IS NOT NULL AND left_at < $1 LIMIT 1000)";
        let fired = self.execute(FIRED, args![fired.micros()]).await?;
        Ok(fired + self.execute(LEFT, args![left.micros()]).await?)
    }
}

/// Notes the content that a file has now; another that it had is left.
fn note(batch: &mut Batch, pipeline: &str, trigger: &str, file: &FileRow, now: Timestamp) {
    const OTHERS: &str = "UPDATE trigger_files SET left_at = $5 WHERE pipeline = $1 AND trigger_id = $2 AND path = $3 \
                          AND hash <> $4 AND left_at IS NULL";
    const NOTE: &str = "INSERT INTO trigger_files (pipeline, trigger_id, path, hash, size, stamp, seen_at, left_at) \
                        VALUES ($1, $2, $3, $4, $5, $6, $7, NULL) ON CONFLICT (pipeline, trigger_id, path, hash) \
                        DO UPDATE SET stamp = excluded.stamp, seen_at = excluded.seen_at, left_at = NULL";
    let (path, hash) = (file.path.as_str(), file.hash.as_str());
    batch.push(OTHERS, args![pipeline, trigger, path, hash, now.micros()]);
    let size = i64::try_from(file.size).unwrap_or(i64::MAX);
    batch.push(NOTE, args![pipeline, trigger, path, hash, size, file.stamp.as_str(), now.micros()]);
}
