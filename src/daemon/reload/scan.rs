//! Reads the files of a project from the disk, again only those that may have changed.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::fs::Metadata;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::pipeline::File;
use crate::pipeline::Link;
use crate::pipeline::MAX_FOLDERS;
use crate::pipeline::SecretPlace;
use crate::pipeline::Snapshot;
use crate::pipeline::is_pipeline;
use crate::pipeline::names_only;
use crate::pipeline::secret_places;
use crate::system::System;

/// The largest file that is read; no pipeline and no prompt is near it.
const MAX_BYTES: u64 = 8 << 20;
/// How far file systems round times: what changed shortly before it was read may have changed again unseen.
const ROUNDED: i64 = 2_000_000;

/// Reads the files of one project, time and again.
#[derive(Debug)]
pub struct Scanner {
    root: PathBuf,
    system: System,
    /// Files and folders that are read besides the project's own.
    also: BTreeSet<PathBuf>,
    /// Files that pipelines asked for, wherever they lie in the project.
    asked: BTreeSet<PathBuf>,
    read: BTreeMap<PathBuf, Read>,
}

/// What one pass over the files found.
#[derive(Debug, Default)]
pub struct Scanned {
    pub snapshot: Snapshot,
    /// The folders in which a change matters.
    pub(super) folders: BTreeMap<PathBuf, Stamp>,
    /// What counts in them beside what is always read: files that were asked for, secrets, where links lead.
    pub(super) counted: BTreeSet<PathBuf>,
    /// Files that changed while they were read.
    pub(super) moving: BTreeSet<PathBuf>,
}

/// A file that was read, and what told then whether it changes.
#[derive(Debug)]
struct Read {
    stamp: Stamp,
    at: i64,
    file: File,
}

/// What a file system says of a file: another content has another stamp, but for times that are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Stamp {
    place: (u64, u64),
    size: u64,
    /// In microseconds.
    changed: i64,
    fine: i64,
}

impl Scanner {
    #[must_use]
    pub fn new(root: &Path, also: impl IntoIterator<Item = PathBuf>, system: System) -> Self {
        Self {
            root: root.to_owned(),
            system,
            also: also.into_iter().collect(),
            asked: BTreeSet::new(),
            read: BTreeMap::new(),
        }
    }

    /// Takes the files that pipelines asked for; tells whether they are others than before.
    pub fn ask(&mut self, asked: BTreeSet<PathBuf>) -> bool {
        let other = asked != self.asked;
        self.asked = asked;
        other
    }

    /// Forgets what was read, so that all of it is read again.
    pub fn forget(&mut self) {
        self.read.clear();
    }

    /// Reads what may have changed.
    pub fn scan(&mut self) -> Scanned {
        let before = std::mem::take(&mut self.read);
        let real = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        let now = self.system.clock.now().micros();
        let mut pass = Pass { before, read: BTreeMap::new(), real, now, scanned: Scanned::default() };
        pass.folder_above(&self.root);
        if fs::symlink_metadata(&self.root).is_ok_and(|root| root.is_symlink()) {
            pass.link(&self.root);
        }
        pass.file(&self.root.join("pipewright.yaml"), Link::Inside);
        pass.walk(&self.root.join("pipelines"), Link::Inside, 0, is_pipeline);
        pass.walk(&self.root.join("connectors"), Link::Inside, MAX_FOLDERS, |path| {
            path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml")
        });
        for path in self.also.iter().chain(self.asked.iter().filter(|path| path.starts_with(&self.root))) {
            if pass.scanned.snapshot.get(path).is_none() {
                let link = pass.leads(path, Link::Inside);
                pass.path(path, link);
            }
        }
        pass.secrets(&self.root);
        self.read = pass.read;
        pass.scanned
    }
}

/// One pass over the files.
struct Pass {
    before: BTreeMap<PathBuf, Read>,
    read: BTreeMap<PathBuf, Read>,
    /// The project's folder without links.
    real: PathBuf,
    now: i64,
    scanned: Scanned,
}

impl Pass {
    /// Reads a file or a folder that was named.
    fn path(&mut self, path: &Path, link: Link) {
        if path.is_dir() {
            return self.walk(path, link, 0, is_pipeline);
        }
        self.place(path);
        if fs::symlink_metadata(path).is_ok_and(|file| file.is_symlink()) {
            self.link(path);
        }
        self.file(path, link);
    }

    /// Reads the files of a folder, and of those in it.
    fn walk(&mut self, folder: &Path, link: Link, depth: usize, wanted: fn(&Path) -> bool) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        self.folder(folder);
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(mut kind) = entry.file_type() else { continue };
            let mut link = link;
            if kind.is_symlink() {
                self.link(&path);
                let Ok(target) = fs::metadata(&path) else { continue };
                kind = target.file_type();
                link = self.leads(&path, link);
            }
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if kind.is_dir() && !hidden && depth < MAX_FOLDERS {
                self.walk(&path, link, depth + 1, wanted);
            } else if kind.is_file() && wanted(&path) {
                self.file(&path, link);
            } else if kind.is_file() {
                self.scanned.snapshot.insert_beside(path);
            }
        }
    }

    /// Tells whether a path leads out of the project.
    fn leads(&self, path: &Path, before: Link) -> Link {
        match path.canonicalize() {
            Ok(real) if real.starts_with(&self.real) => Link::Inside,
            Ok(real) if real.is_dir() => Link::FolderOutside,
            Ok(real) if path.parent().and_then(|folder| folder.canonicalize().ok()).as_deref() == real.parent() => {
                Link::FolderOutside
            }
            Ok(_) => Link::FileOutside,
            Err(_) => before,
        }
    }

    /// Notes where a link leads: what changes there changes here.
    fn link(&mut self, path: &Path) {
        let mut hop = path.to_owned();
        // A link may lead to a link; where they lead in a circle, there is no file.
        for _ in 0..MAX_FOLDERS {
            self.place(&hop);
            let Ok(target) = fs::read_link(&hop) else { break };
            hop = hop.parent().unwrap_or(&hop).join(target);
        }
        if let Ok(real) = path.canonicalize() {
            self.place(&real);
        }
    }

    /// Notes a path, and the folder in which it appears and goes.
    fn place(&mut self, path: &Path) {
        if let Some(folder) = path.parent() {
            self.folder_above(folder);
        }
        self.scanned.counted.insert(path.to_owned());
    }

    fn folder(&mut self, folder: &Path) -> bool {
        let found = fs::metadata(folder).ok().filter(Metadata::is_dir);
        if let Some(found) = &found {
            self.scanned.folders.insert(folder.to_owned(), Stamp::of_folder(found));
        }
        found.is_some()
    }

    /// Notes a folder, or what is left of the way to it: there it will come back.
    fn folder_above(&mut self, folder: &Path) {
        for folder in folder.ancestors() {
            if self.folder(folder) {
                return;
            }
        }
    }

    fn file(&mut self, path: &Path, link: Link) {
        // Another may change it meanwhile: a stamp that is the same before and after is one of what was read.
        for _ in 0..3 {
            let metadata = match fs::metadata(path) {
                Ok(metadata) if metadata.is_file() => metadata,
                Ok(_) => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Err(error) => return self.keep(path, File::unreadable(error.to_string()), link),
            };
            let stamp = Stamp::of(&metadata);
            if let Some(before) = self.before.remove(path)
                && before.stamp == stamp
                && before.at.saturating_sub(stamp.changed) > ROUNDED
            {
                self.keep(path, before.file.clone(), link);
                self.read.insert(path.to_owned(), before);
                return;
            }
            let file = if metadata.len() > MAX_BYTES {
                File::unreadable("it is larger than 8 MiB")
            } else {
                match fs::read(path) {
                    Ok(bytes) => File::new(bytes),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => File::unreadable(error.to_string()),
                }
            };
            if fs::metadata(path).is_ok_and(|after| Stamp::of(&after) == stamp) {
                self.keep(path, file.clone(), link);
                self.read.insert(path.to_owned(), Read { stamp, at: self.now, file });
                return;
            }
        }
        self.scanned.moving.insert(path.to_owned());
    }

    fn keep(&mut self, path: &Path, file: File, link: Link) {
        self.scanned.snapshot.insert(path.to_owned(), File { link, ..file });
    }

    /// Notes which secrets there are in files and folders: their names, and nothing of what they hold.
    fn secrets(&mut self, root: &Path) {
        let text = self.scanned.snapshot.get(&root.join("pipewright.yaml")).and_then(|file| file.content.clone().ok());
        let Some(text) = text else { return };
        for place in secret_places(&String::from_utf8_lossy(&text)) {
            match place {
                SecretPlace::EnvFile(path) => {
                    let path = root.join(path);
                    self.place(&path);
                    if let Ok(text) = fs::read_to_string(&path) {
                        self.keep(&path, File::new(names_only(&text).into_bytes()), Link::Inside);
                    }
                }
                SecretPlace::Directory(path) => {
                    let folder = root.join(path);
                    self.place(&folder);
                    self.folder_above(&folder);
                    let Ok(entries) = fs::read_dir(&folder) else { continue };
                    self.keep(&folder, File::new(Vec::new()), Link::Inside);
                    for entry in entries.flatten() {
                        self.keep(&entry.path(), File::new(Vec::new()), Link::Inside);
                    }
                }
                SecretPlace::Environment | SecretPlace::Store => {}
            }
        }
    }
}

impl std::fmt::Display for Stamp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { place: (device, number), size, changed, fine } = self;
        write!(formatter, "{device:x}.{number:x}.{size:x}.{changed:x}.{fine:x}")
    }
}

impl Stamp {
    /// Of a folder only which one it is matters: what is in it is looked at anyway.
    pub(in crate::daemon) fn of_folder(metadata: &Metadata) -> Self {
        let created = metadata.created().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let fine = created.map_or(0, |age| i64::try_from(age.as_nanos()).unwrap_or_default());
        Self { size: 0, changed: 0, fine, ..Self::of(metadata) }
    }

    #[cfg(unix)]
    pub(in crate::daemon) fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        // The time of the last change of the file's entry cannot be set back, unlike that of its content.
        let changed = metadata.ctime().saturating_mul(1_000_000).saturating_add(metadata.ctime_nsec() / 1_000);
        let fine =
            metadata.ctime_nsec().wrapping_add(metadata.mtime().wrapping_mul(1_000_000_000)) ^ metadata.mtime_nsec();
        Self { place: (metadata.dev(), metadata.ino()), size: metadata.len(), changed, fine }
    }

    #[cfg(not(unix))]
    pub(in crate::daemon) fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let age = modified.unwrap_or_default();
        let changed = i64::try_from(age.as_micros()).unwrap_or_default();
        let fine = i64::try_from(age.as_nanos()).unwrap_or_default();
        Self { place: (0, 0), size: metadata.len(), changed, fine }
    }
}
