//! Starts runs for new and changed files, also for those that came while nobody looked.
//!
//! Notices of the operating system only say when to look; what counts is what the files are. A file fires when it has not
//! changed for a while, and once for each content: that is a row, written together with the run.

mod look;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::look::FoundFile;
use self::look::Looked;
use super::bell::Bell;
use super::firing::Firing;
use super::firing::Starter;
use super::reload::notices::Notices;
use super::reload::scan::Stamp;
use super::scheduler::Active;
use super::scheduler::Scheduler;
use crate::engine::Error;
use crate::model::Duration;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::FilesTrigger;
use crate::pipeline::Pipeline;
use crate::pipeline::Trigger;
use crate::pipeline::TriggerKind;
use crate::store::FileRow;

/// How often files are looked at though nothing was heard: notices get lost, and not every file system sends them.
const ROUND: Duration = Duration::from_secs(30);
/// The same, where notices are known to be missing.
const DEAF_ROUND: Duration = Duration::from_secs(1);
/// What is heard in so short a time is one look.
const QUIET: Duration = Duration::from_millis(100);
/// The rows are not asked more often than this, however often somebody rings.
const PAUSE: Duration = Duration::from_secs(1);
/// Wait so long after a fault of the store before asking it again.
const REST: Duration = Duration::from_secs(1);
/// How often a folder may turn out to be new in one look before its next notice is waited for.
const MOST_LOOKS: usize = 8;
/// So many files, and so many bytes, are read in one turn, so that others get theirs.
const FILES: usize = 1_000;
const BYTES: u64 = 512 << 20;
/// So many paths are remembered of which something was said.
const MOST_TOLD: usize = 10_000;

/// Waits for files.
#[derive(Debug)]
pub struct FileWatch {
    active: watch::Receiver<Active>,
    stop: CancellationToken,
    starter: Starter,
    notices: Notices,
    watched: Vec<Watched>,
    /// What has been said once and is not said again.
    told: HashSet<PathBuf>,
}

/// A trigger that waits for files.
#[derive(Debug)]
struct Watched {
    pipeline: Arc<Pipeline>,
    trigger: usize,
    files: FilesTrigger,
    /// Whether it knows what was there before it.
    begun: bool,
    /// The contents that are known, by path: what the file system said of them, and their hashes.
    known: HashMap<String, (String, String)>,
    /// Files that are new or changed, and since when they have not changed again, by our own clock.
    moving: HashMap<String, (Stamp, Duration)>,
    /// Files of which no inputs could be made; another version of the pipeline may.
    unfit: HashMap<String, Stamp>,
}

/// A file that has settled, and what it holds.
#[derive(Debug)]
struct Settled {
    row: FileRow,
    found: FoundFile,
}

/// Whether the rows of the triggers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    Anew,
    Kept,
}

/// What came of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turned {
    /// When a file may have settled.
    next: Option<Duration>,
    /// There was more than one turn does.
    more: bool,
}

impl FileWatch {
    /// Makes one that works beside a scheduler, on what it works on.
    #[must_use]
    pub fn new(scheduler: &Scheduler) -> Self {
        let notices = Notices::open(&scheduler.engine.parts().access.root);
        let (active, stop, starter) = (scheduler.active.clone(), scheduler.stop.clone(), Starter::new(scheduler));
        Self { active, stop, starter, notices, watched: Vec::new(), told: HashSet::new() }
    }

    /// Waits until it is stopped.
    pub async fn run(mut self) {
        let clock = self.starter.engine.parts().system.clock.clone();
        let bell = self.starter.bell.clone();
        let mut rung = bell.listen();
        let mut turn = Some(Arm::Anew);
        let (mut until, mut asked, mut ask) = (clock.now(), clock.now(), None);
        while !self.stop.is_cancelled() {
            if let Some(arm) = turn {
                let mut rest = if self.notices.is_deaf() { DEAF_ROUND } else { ROUND };
                match self.turn(arm).await {
                    Ok(Turned { more: true, .. }) => {
                        turn = Some(Arm::Kept);
                        continue;
                    }
                    Ok(Turned { next: Some(next), .. }) => {
                        let left = next.micros().saturating_sub(clock.monotonic().micros());
                        rest = rest.min(Duration::from_micros(left));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::error!(%error, "the files of triggers could not be looked at; trying again");
                        rest = REST;
                    }
                }
                until = clock.now().plus(rest);
            }
            let idle = self.watched.is_empty();
            turn = tokio::select! {
                changed = self.active.changed() => {
                    // Without a sender nothing changes any more.
                    if changed.is_err() {
                        self.stop.cancelled().await;
                    }
                    Some(Arm::Anew)
                }
                () = self.notices.heard(), if !idle => {
                    tokio::select! {
                        () = clock.sleep_until(clock.now().plus(QUIET)) => {}
                        () = self.stop.cancelled() => return,
                    }
                    Some(Arm::Kept)
                }
                // Somebody may have switched one on or off; it rings for much else, too.
                () = Bell::rung(&mut rung), if ask.is_none() => {
                    ask = Some(asked.plus(PAUSE));
                    None
                }
                () = clock.sleep_until(ask.unwrap_or(until)), if ask.is_some_and(|ask| ask < until) => {
                    (ask, asked) = (None, clock.now());
                    self.switched().await.then_some(Arm::Anew)
                }
                () = clock.sleep_until(until) => Some(Arm::Anew),
                () = self.stop.cancelled() => return,
            };
        }
    }

    /// Tells whether a trigger has been switched on or off.
    async fn switched(&self) -> bool {
        let active = self.active.borrow().clone();
        let Ok(rows) = self.starter.engine.parts().store.schedules().await else { return true };
        for pipeline in active.iter() {
            for (place, trigger) in pipeline.triggers.iter().enumerate() {
                if !trigger.enabled || !matches!(trigger.kind, TriggerKind::Files(_)) {
                    continue;
                }
                let row = rows.iter().find(|row| row.pipeline == *pipeline.name && row.trigger == *trigger.id);
                let on = row.is_some_and(|row| !row.disabled);
                let own = |watched: &Watched| watched.pipeline.name == pipeline.name && watched.trigger == place;
                if self.watched.iter().any(own) != on {
                    return true;
                }
            }
        }
        false
    }

    async fn turn(&mut self, arm: Arm) -> Result<Turned, Error> {
        let now = self.starter.engine.parts().system.clock.now();
        if arm == Arm::Anew {
            self.arm(now).await?;
        }
        if self.watched.is_empty() {
            self.notices.follow(&BTreeMap::new(), BTreeSet::new());
            return Ok(Turned { next: None, more: false });
        }
        let looked = self.looked().await;
        if self.told.len() > MOST_TOLD {
            self.told.clear();
        }
        for (path, why) in &looked.passed_over {
            if self.told.insert(path.clone()) {
                tracing::warn!(path = %path.display(), why, "a file that a trigger waits for is passed over");
            }
        }
        let mut turned = Turned { next: None, more: false };
        let mut budget = (FILES, BYTES);
        let mut all = std::mem::take(&mut self.watched);
        let mut result = Ok(());
        for (watched, files) in all.iter_mut().zip(looked.files) {
            result = self.decide(watched, files, &mut budget, &mut turned, now).await;
            if result.is_err() {
                // Nothing is known of what was written: the rows tell.
                all.clear();
                break;
            }
        }
        self.watched = all;
        result.map(|()| turned)
    }

    /// Looks up which triggers wait, and what is known of their files.
    async fn arm(&mut self, now: Timestamp) -> Result<(), Error> {
        let active = self.active.borrow_and_update().clone();
        let store = &self.starter.engine.parts().store;
        let mut before: HashMap<(Arc<str>, Arc<str>), Watched> = HashMap::new();
        for watched in self.watched.drain(..) {
            if let Some(id) = watched.pipeline.triggers.get(watched.trigger).map(|trigger| trigger.id.clone()) {
                before.insert((watched.pipeline.name.clone(), id), watched);
            }
        }
        for pipeline in active.iter() {
            for (place, trigger) in pipeline.triggers.iter().enumerate() {
                let TriggerKind::Files(files) = &trigger.kind else { continue };
                let (name, id) = (&*pipeline.name, &*trigger.id);
                let row = match store.trigger(name, id).await? {
                    Some(row) => row,
                    None => {
                        store.meet_schedules(&[(name.to_owned(), id.to_owned())], now).await?;
                        let Some(row) = store.trigger(name, id).await? else { continue };
                        row
                    }
                };
                if !trigger.enabled || row.disabled {
                    continue;
                }
                let kept = before.remove(&(pipeline.name.clone(), trigger.id.clone()));
                let (pipeline, files) = (pipeline.clone(), files.clone());
                let begun = row.begun > Timestamp(0);
                let watched = match kept {
                    Some(mut kept) => {
                        if kept.pipeline.version != pipeline.version {
                            kept.unfit.clear();
                        }
                        Watched { pipeline, trigger: place, files, begun, ..kept }
                    }
                    None => {
                        let rows = store.trigger_files(name, id).await?;
                        let known = rows.into_iter().map(|row| (row.path, (row.stamp, row.hash))).collect();
                        let (moving, unfit) = (HashMap::new(), HashMap::new());
                        Watched { pipeline, trigger: place, files, begun, known, moving, unfit }
                    }
                };
                self.watched.push(watched);
            }
        }
        Ok(())
    }

    /// Looks at the files, and listens where they are.
    async fn looked(&mut self) -> Looked {
        let access = &self.starter.engine.parts().access;
        for round in 1.. {
            let (root, outside) = (access.root.clone(), access.files_outside);
            let patterns: Vec<_> = self.watched.iter().map(|watched| watched.files.pattern.clone()).collect();
            let work =
                tokio::task::spawn_blocking(move || look::look(&root, &patterns.iter().collect::<Vec<_>>(), outside));
            let Ok(mut looked) = work.await else { break };
            let new = self.notices.follow(&looked.folders, std::mem::take(&mut looked.counted));
            // What came into a new folder before it was listened to is seen by a second look.
            if !new || round == MOST_LOOKS {
                return looked;
            }
        }
        Looked { files: self.watched.iter().map(|_| BTreeMap::new()).collect(), ..Looked::default() }
    }

    /// Fires what has settled of a trigger's files.
    async fn decide(
        &mut self,
        watched: &mut Watched,
        files: BTreeMap<String, FoundFile>,
        budget: &mut (usize, u64),
        turned: &mut Turned,
        now: Timestamp,
    ) -> Result<(), Error> {
        let pipeline = watched.pipeline.clone();
        let Some(trigger) = pipeline.triggers.get(watched.trigger) else { return Ok(()) };
        if !watched.begun && !watched.files.existing {
            return self.begin(watched, &pipeline, trigger, files, now).await;
        }
        let store = self.starter.engine.parts().store.clone();
        if !watched.begun {
            store.begin_triggers(&[(pipeline.name.to_string(), trigger.id.to_string())], now).await?;
            watched.begun = true;
        }
        let gone: Vec<String> = watched.known.keys().filter(|path| !files.contains_key(*path)).cloned().collect();
        if !gone.is_empty() {
            store.files_left(&pipeline.name, &trigger.id, &gone, now).await?;
            gone.iter().for_each(|path| drop(watched.known.remove(path)));
        }
        watched.moving.retain(|path, _| files.contains_key(path));
        watched.unfit.retain(|path, _| files.contains_key(path));
        let settled = self.settled(watched, files, budget, turned).await;
        self.fire(watched, &pipeline, trigger, settled, now).await
    }

    /// Takes the files that are there as those that were before the trigger.
    async fn begin(
        &mut self,
        watched: &mut Watched,
        pipeline: &Pipeline,
        trigger: &Trigger,
        files: BTreeMap<String, FoundFile>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let count = files.len();
        let rows: Vec<FileRow> =
            self.hashed(files.into_iter().collect()).await.0.into_iter().map(|it| it.row).collect();
        self.starter.engine.parts().store.note_files(&pipeline.name, &trigger.id, &rows, now, true).await?;
        tracing::info!(
            pipeline = &*pipeline.name,
            trigger = &*trigger.id,
            count,
            "files that are there already do not fire"
        );
        watched.known = rows.into_iter().map(|row| (row.path, (row.stamp, row.hash))).collect();
        watched.begun = true;
        Ok(())
    }

    /// Reads the files that have not changed for long enough, the oldest first.
    async fn settled(
        &mut self,
        watched: &mut Watched,
        files: BTreeMap<String, FoundFile>,
        budget: &mut (usize, u64),
        turned: &mut Turned,
    ) -> Vec<Settled> {
        let clock = self.starter.engine.parts().system.clock.monotonic();
        let mut ready = Vec::new();
        for (path, found) in files {
            let known = watched.known.get(&path).is_some_and(|(stamp, _)| *stamp == found.stamp.to_string());
            if known || watched.unfit.get(&path) == Some(&found.stamp) {
                watched.moving.remove(&path);
                continue;
            }
            let since = match watched.moving.get(&path) {
                Some((stamp, since)) if *stamp == found.stamp => *since,
                _ => clock,
            };
            watched.moving.insert(path.clone(), (found.stamp, since));
            let due = since.plus(watched.files.settle);
            if due <= clock {
                ready.push((path, found));
            } else {
                turned.next = Some(turned.next.map_or(due, |next| next.min(due)));
            }
        }
        ready.sort_by(|(path, found), (other, than)| (found.modified, path).cmp(&(than.modified, other)));
        let mut taken = Vec::new();
        for (path, found) in ready {
            // One file at least, however large.
            if budget.0 == 0 || (budget.1 < found.size && budget.1 < BYTES) {
                turned.more = true;
                break;
            }
            *budget = (budget.0 - 1, budget.1.saturating_sub(found.size));
            taken.push((path, found));
        }
        let (settled, failed) = self.hashed(taken).await;
        for (path, error) in failed {
            // What changed waits anew; what cannot be read is tried again in a while.
            let later = match error {
                Some(error) => {
                    if self.told.insert(PathBuf::from(&path)) {
                        tracing::warn!(path, %error, "a file that a trigger waits for cannot be read");
                    }
                    ROUND
                }
                None => Duration::ZERO,
            };
            if let Some((_, since)) = watched.moving.get_mut(&path) {
                *since = clock.plus(later);
                let due = since.plus(watched.files.settle);
                turned.next = Some(turned.next.map_or(due, |next| next.min(due)));
            }
        }
        settled
    }

    /// Hashes files on a thread that may block. Returns those that hold still, and the paths of the others: those that
    /// changed, and those that cannot be read.
    async fn hashed(&self, files: Vec<(String, FoundFile)>) -> (Vec<Settled>, Vec<(String, Option<std::io::Error>)>) {
        if files.is_empty() {
            return Default::default();
        }
        let root = self.starter.engine.parts().access.root.clone();
        let work = tokio::task::spawn_blocking(move || {
            let (mut settled, mut failed) = (Vec::new(), Vec::new());
            for (path, found) in files {
                match look::hash(&root.join(&path), &found) {
                    Ok(Some(hash)) => {
                        let row = FileRow { path, hash, size: found.size, stamp: found.stamp.to_string() };
                        settled.push(Settled { row, found });
                    }
                    Ok(None) => failed.push((path, None)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => failed.push((path, None)),
                    Err(error) => failed.push((path, Some(error))),
                }
            }
            (settled, failed)
        });
        work.await.unwrap_or_default()
    }

    async fn fire(
        &mut self,
        watched: &mut Watched,
        pipeline: &Pipeline,
        trigger: &Trigger,
        settled: Vec<Settled>,
        now: Timestamp,
    ) -> Result<(), Error> {
        if settled.is_empty() {
            return Ok(());
        }
        let store = self.starter.engine.parts().store.clone();
        let paths: Vec<&str> = settled.iter().map(|settled| settled.row.path.as_str()).collect();
        let had: HashSet<_> = store.known_contents(&pipeline.name, &trigger.id, &paths).await?.into_iter().collect();
        let (mut firings, mut same, mut noted) = (Vec::new(), Vec::new(), Vec::new());
        for Settled { row, found } in settled {
            watched.moving.remove(&row.path);
            if had.contains(&(row.path.clone(), row.hash.clone())) {
                same.push(row);
                continue;
            }
            let mark = mark(&row);
            match self.starter.run(pipeline, trigger, &mark, event(&row, &found)) {
                Some(run) => {
                    noted.push(row.clone());
                    firings.push(Firing { mark, run, file: Some(row) });
                }
                None => drop(watched.unfit.insert(row.path, found.stamp)),
            }
        }
        self.starter.start(pipeline, trigger, firings, now).await?;
        if !same.is_empty() {
            store.note_files(&pipeline.name, &trigger.id, &same, now, false).await?;
        }
        watched.known.extend(noted.into_iter().chain(same).map(|row| (row.path, (row.stamp, row.hash))));
        Ok(())
    }
}

/// Names a content of a file: a slot is not longer than an index takes.
fn mark(row: &FileRow) -> String {
    let hash: String = row.hash.trim_start_matches("sha256:").chars().take(32).collect();
    let path = if row.path.len() <= 200 {
        row.path.clone()
    } else {
        let digest = ring::digest::digest(&ring::digest::SHA256, row.path.as_bytes());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    format!("file:{hash}:{path}")
}

/// What the inputs of a trigger can read of a file.
fn event(row: &FileRow, found: &FoundFile) -> [(&'static str, Value); 5] {
    let name = Path::new(&row.path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    [
        ("path", Value::from(row.path.as_str())),
        ("name", Value::from(name)),
        ("size", Value::Int(i128::from(row.size))),
        ("hash", Value::from(row.hash.as_str())),
        ("modified", Value::Time(found.modified)),
    ]
}
