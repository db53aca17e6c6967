//! Hears from the operating system that something changed in a folder.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use notify::EventKind;
use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher;
use notify::event::ModifyKind;
use tokio::sync::Notify;

use super::scan::Stamp;

/// The folders that are listened to.
///
/// Each is watched by itself: so folders that go and come back, and those behind links, are followed the same way.
#[derive(Debug)]
pub(in crate::daemon) struct Notices {
    watcher: Option<RecommendedWatcher>,
    folders: BTreeMap<PathBuf, Stamp>,
    heard: Arc<Heard>,
    /// Whether something changes that nobody would tell of.
    deaf: bool,
}

/// What has been heard and not yet been looked at.
#[derive(Debug)]
struct Heard {
    root: PathBuf,
    some: Notify,
    /// What counts in the project's own folder, where much else may lie: a database, say.
    counted: Mutex<BTreeSet<PathBuf>>,
    /// Folders that went away or were moved: whoever stands there now is another.
    gone: Mutex<BTreeSet<PathBuf>>,
}

impl Notices {
    pub(in crate::daemon) fn open(root: &Path) -> Self {
        let heard = Arc::new(Heard {
            root: root.to_owned(),
            some: Notify::new(),
            counted: Mutex::default(),
            gone: Mutex::default(),
        });
        let hears = heard.clone();
        let watcher = notify::recommended_watcher(move |event| hears.hear(event));
        let mut notices = Self { watcher: None, folders: BTreeMap::new(), heard, deaf: false };
        match watcher {
            Ok(watcher) => notices.watcher = Some(watcher),
            Err(error) => notices.go_deaf(&error),
        }
        notices
    }

    /// Makes one that hears nothing, as where a machine has no more watches.
    #[cfg(test)]
    pub(super) fn deaf(root: &Path) -> Self {
        Self { watcher: None, deaf: true, ..Self::open(root) }
    }

    /// Listens to these folders and to no others; tells whether there are new ones, of which something may have been
    /// missed.
    pub(in crate::daemon) fn follow(&mut self, folders: &BTreeMap<PathBuf, Stamp>, counted: BTreeSet<PathBuf>) -> bool {
        *self.heard.counted.lock().unwrap_or_else(PoisonError::into_inner) = counted;
        let gone = std::mem::take(&mut *self.heard.gone.lock().unwrap_or_else(PoisonError::into_inner));
        let is_gone = |folder: &Path| folder.ancestors().any(|above| gone.contains(above));
        let Some(watcher) = &mut self.watcher else { return false };
        let stays = |folder: &Path, stamp: &Stamp| folders.get(folder) == Some(stamp) && !is_gone(folder);
        let left = self.folders.extract_if(.., |folder, stamp| !stays(folder, stamp));
        for (folder, _) in left {
            // The watch of a folder that is gone went with it.
            let _ = watcher.unwatch(&folder);
        }
        let mut new = false;
        let mut failed = None;
        for (folder, stamp) in folders {
            if self.folders.contains_key(folder) {
                continue;
            }
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.folders.insert(folder.clone(), *stamp);
                    new = true;
                }
                // It went away just now, and its parent will say so.
                Err(error) if !folder.is_dir() => drop(error),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => self.go_deaf(&error),
            None => self.deaf = false,
        }
        new
    }

    /// Whether changes must be looked for, because nobody tells of all of them.
    pub(in crate::daemon) fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Returns when something was heard since the last time.
    pub(in crate::daemon) async fn heard(&self) {
        self.heard.some.notified().await;
    }

    fn go_deaf(&mut self, error: &notify::Error) {
        if !self.deaf {
            tracing::warn!(%error, "files cannot be watched; they are looked at every second instead");
        }
        self.deaf = true;
    }
}

impl Heard {
    fn hear(&self, event: notify::Result<notify::Event>) {
        // What could not be told may be anything.
        let Ok(event) = event else { return self.some.notify_one() };
        // Reading is an event too.
        if event.kind.is_access() {
            return;
        }
        if matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))) {
            self.gone.lock().unwrap_or_else(PoisonError::into_inner).extend(event.paths.iter().cloned());
        }
        if event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(|path| self.counts(path)) {
            self.some.notify_one();
        }
    }

    fn counts(&self, path: &Path) -> bool {
        let Some(folder) = path.parent().filter(|folder| self.root.starts_with(folder)) else { return true };
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        // A folder on the way to what counts may come back with it.
        let on_the_way = counted.range(path.to_owned()..).next().is_some_and(|next| next.starts_with(path));
        on_the_way || self.root.starts_with(path) || counted.contains(folder)
    }
}
