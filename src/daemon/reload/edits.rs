//! Edits of files, once they have settled.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::timeout;

use super::notices::Notices;
use super::scan::Scanned;
use super::scan::Scanner;
use crate::pipeline::Snapshot;
use crate::pipeline::is_pipeline;
use crate::system::System;

/// How long files must be quiet before they are read: editors write in several steps.
pub const QUIET: Duration = Duration::from_millis(100);
/// How long edits that do not end are waited for.
pub const LONGEST: Duration = Duration::from_secs(1);
/// How often files are looked at though nothing was heard: notices get lost, and not every file system sends them.
pub const ROUND: Duration = Duration::from_secs(30);
/// The same, where notices are known to be missing.
const DEAF_ROUND: Duration = Duration::from_secs(1);
/// How often a folder may turn out to be new in one scan before its next notice is waited for.
const MOST_SCANS: usize = 8;

/// Waits for edits of a project's files.
#[derive(Debug)]
pub struct Edits {
    /// Shared with the thread that scans.
    scanner: Arc<Mutex<Scanner>>,
    notices: Notices,
    counted: BTreeSet<PathBuf>,
    snapshot: Snapshot,
    /// Files that are still being written, and so are not in the snapshot as they are now.
    held: BTreeSet<PathBuf>,
}

/// Why files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Something was heard, and then nothing more for a while.
    Quiet,
    /// Something is heard all the time, or nothing was heard at all: only looking twice tells what is still being written.
    Unsure,
}

impl Edits {
    /// Reads the files of a project, and others beside: files, and folders of pipelines.
    pub async fn open(root: &Path, also: impl IntoIterator<Item = PathBuf>, system: System) -> Self {
        Self::hearing(Notices::open(root), root, also, system).await
    }

    async fn hearing(notices: Notices, root: &Path, also: impl IntoIterator<Item = PathBuf>, system: System) -> Self {
        let also: BTreeSet<PathBuf> = also.into_iter().collect();
        let own = ["pipewright.yaml", "pipelines", "connectors"].map(|name| root.join(name));
        let mut edits = Self {
            notices,
            counted: own.into_iter().chain(also.iter().cloned()).collect(),
            scanner: Arc::new(Mutex::new(Scanner::new(root, also, system))),
            snapshot: Snapshot::default(),
            held: BTreeSet::new(),
        };
        let scanned = edits.scan().await;
        edits.accept(scanned.snapshot, scanned.moving);
        edits
    }

    /// Returns the files as they were when they last had settled.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Takes the files that pipelines asked for; tells whether those are others than were read.
    pub async fn ask<'p>(&mut self, asked: impl IntoIterator<Item = &'p Path>) -> bool {
        let asked: BTreeSet<PathBuf> = asked.into_iter().map(Path::to_owned).collect();
        if !self.scanner().ask(asked) {
            return false;
        }
        let Scanned { snapshot, moving, .. } = self.scan().await;
        let mut files = self.snapshot.clone();
        for path in moved(&self.snapshot, &snapshot).into_iter().filter(|path| !self.is_own(path)) {
            match snapshot.get(&path) {
                Some(file) => files.insert(path, file.clone()),
                None => drop(files.remove(&path)),
            }
        }
        let changed = !files.is_same(&self.snapshot);
        // What else changed meanwhile is an edit like any other: it is looked at next.
        let held = moved(&files, &snapshot).into_iter().chain(moving).collect();
        self.accept(files, held);
        changed
    }

    /// Waits until the files are others than before and have settled. Where it is not waited for to its end, an edit may be
    /// found a round later only.
    pub async fn next(&mut self) -> &Snapshot {
        loop {
            let cause = self.wait().await;
            if self.look(cause).await {
                return &self.snapshot;
            }
        }
    }

    /// Reads all files now, whatever is known of them; tells whether they are others than before.
    pub async fn look_at_once(&mut self) -> bool {
        self.scanner().forget();
        self.look(Cause::Unsure).await
    }

    async fn wait(&self) -> Cause {
        let round = match () {
            () if !self.held.is_empty() => QUIET,
            () if self.notices.is_deaf() => DEAF_ROUND,
            () => ROUND,
        };
        if timeout(round, self.notices.heard()).await.is_err() {
            return Cause::Unsure;
        }
        let quiet = async { while timeout(QUIET, self.notices.heard()).await.is_ok() {} };
        match timeout(LONGEST, quiet).await {
            Ok(()) => Cause::Quiet,
            Err(_) => Cause::Unsure,
        }
    }

    async fn look(&mut self, cause: Cause) -> bool {
        let first = self.scan().await;
        if first.moving.is_empty() && first.snapshot.is_same(&self.snapshot) {
            self.held.clear();
            return false;
        }
        let (snapshot, moving) = match cause {
            Cause::Quiet => (first.snapshot, first.moving),
            Cause::Unsure => {
                // Nothing is waited for but the time: what comes meanwhile is seen by the second look.
                let _ = timeout(QUIET, std::future::pending::<()>()).await;
                let second = self.scan().await;
                let mut moving = moved(&first.snapshot, &second.snapshot);
                moving.extend(second.moving);
                (second.snapshot, moving)
            }
        };
        let (snapshot, held) = held_back(&self.snapshot, snapshot, moving);
        let changed = !snapshot.is_same(&self.snapshot);
        self.accept(snapshot, held);
        changed
    }

    fn accept(&mut self, snapshot: Snapshot, held: BTreeSet<PathBuf>) {
        self.snapshot = snapshot;
        self.held = held;
    }

    /// Scans, and listens to the folders that there are now.
    async fn scan(&mut self) -> Scanned {
        let mut scanned = Scanned::default();
        for _ in 0..MOST_SCANS {
            let scanner = self.scanner.clone();
            let scan = tokio::task::spawn_blocking(move || {
                let mut scanner = scanner.lock().unwrap_or_else(PoisonError::into_inner);
                scanner.scan()
            });
            scanned = scan.await.expect("a scan does not panic and is not aborted");
            let counted = self.counted.iter().chain(&scanned.counted).cloned().collect();
            if !self.notices.follow(&scanned.folders, counted) {
                break;
            }
        }
        scanned
    }

    fn scanner(&self) -> MutexGuard<'_, Scanner> {
        self.scanner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether a file is read whether pipelines ask for it or not.
    fn is_own(&self, path: &Path) -> bool {
        let below = || self.counted.iter().any(|own| path.starts_with(own));
        self.counted.contains(path) || is_pipeline(path) && below()
    }
}

/// Lists the files that differ.
fn moved(one: &Snapshot, other: &Snapshot) -> BTreeSet<PathBuf> {
    let differ = |from: &Snapshot, to: &Snapshot| -> Vec<PathBuf> {
        from.iter().filter(|(path, file)| to.get(path) != Some(file)).map(|(path, _)| path.to_owned()).collect()
    };
    differ(one, other).into_iter().chain(differ(other, one)).collect()
}

/// Returns the files as they are now, but those that are still being written as they were before, and these.
fn held_back(before: &Snapshot, mut now: Snapshot, moving: BTreeSet<PathBuf>) -> (Snapshot, BTreeSet<PathBuf>) {
    for path in &moving {
        match before.get(path) {
            Some(file) => now.insert(path.clone(), file.clone()),
            None => drop(now.remove(path)),
        }
    }
    (now, moving)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::File;

    fn snapshot(files: &[(&str, &str)]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (path, text) in files {
            snapshot.insert(PathBuf::from(path), File::new(text.as_bytes().to_vec()));
        }
        snapshot
    }

    #[tokio::test]
    async fn what_nobody_tells_of_is_found_by_looking() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pipewright.yaml"), "one").unwrap();
        let mut edits = Edits::hearing(Notices::deaf(folder.path()), folder.path(), [], System::real()).await;
        std::fs::write(folder.path().join("pipewright.yaml"), "two").unwrap();
        let next = timeout(Duration::from_secs(60), edits.next()).await.unwrap();
        let file = next.get(&folder.path().join("pipewright.yaml")).unwrap();
        assert_eq!(file.content.as_deref(), Ok(&b"two"[..]));
    }

    #[test]
    fn a_file_that_is_still_being_written_is_held_back_and_the_others_are_not() {
        let before = snapshot(&[("a", "old"), ("b", "old")]);
        let first = snapshot(&[("a", "ne"), ("b", "new"), ("c", "ha")]);
        let second = snapshot(&[("a", "new"), ("b", "new"), ("c", "half")]);
        let (settled, held) = held_back(&before, second.clone(), moved(&first, &second));
        assert!(settled.is_same(&snapshot(&[("a", "old"), ("b", "new")])));
        assert_eq!(held, BTreeSet::from(["a".into(), "c".into()]));
        let (settled, held) = held_back(&settled, second.clone(), moved(&second, &second));
        assert!(settled.is_same(&second) && held.is_empty());
    }
}
