//! Where the files of a project are read from: the disk, or memory, as they were at one moment.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::calendars;
use super::project;

/// How deep folders of pipelines are looked into.
pub const MAX_FOLDERS: usize = 8;

/// Where files are read from.
#[derive(Clone, Debug, Default)]
pub enum Files {
    #[default]
    Disk,
    Kept(Arc<Snapshot>),
}

/// The hash of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

/// The files of a project as they were at one moment, by absolute paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    files: BTreeMap<PathBuf, File>,
    /// Files that stand beside and are not read: a message may say that one of them was meant.
    beside: BTreeSet<PathBuf>,
}

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub hash: ContentHash,
    /// The bytes, or why they cannot be read.
    pub content: Result<Arc<[u8]>, Arc<str>>,
    pub link: Link,
}

/// Where links lead that a path goes by: a prompt stands in the project, or beside its pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    #[default]
    Inside,
    /// A folder of the path lies outside the project, and the file in it.
    FolderOutside,
    /// The file itself lies outside the project.
    FileOutside,
}

impl ContentHash {
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
        Self(hash)
    }
}

impl std::fmt::Display for ContentHash {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl File {
    #[must_use]
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self { hash: ContentHash::of(&bytes), content: Ok(bytes), link: Link::Inside }
    }

    #[must_use]
    pub fn unreadable(why: impl Into<Arc<str>>) -> Self {
        let why = why.into();
        Self { hash: ContentHash::of(format!("unreadable: {why}").as_bytes()), content: Err(why), link: Link::Inside }
    }
}

impl Snapshot {
    pub fn insert(&mut self, path: PathBuf, file: File) {
        self.files.insert(path, file);
    }

    pub fn insert_beside(&mut self, path: PathBuf) {
        self.beside.insert(path);
    }

    pub fn remove(&mut self, path: &Path) -> Option<File> {
        self.files.remove(path)
    }

    #[must_use]
    pub fn get(&self, path: &Path) -> Option<&File> {
        self.files.get(path)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Path, &File)> {
        self.files.iter().map(|(path, file)| (path.as_path(), file))
    }

    /// Lists the files below a folder.
    pub fn below(&self, folder: &Path) -> impl Iterator<Item = (&Path, &File)> {
        let (folder, first) = (folder.to_owned(), folder.to_owned());
        let from = self.files.range(first..);
        from.map(|(path, file)| (path.as_path(), file)).take_while(move |(path, _)| path.starts_with(&folder))
    }

    /// Tells whether the files that are read are the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.files == other.files
    }

    /// Returns the hash over all files that are read: their paths below the root, and what they hold.
    #[must_use]
    pub fn hash(&self, root: &Path) -> ContentHash {
        let mut all = Vec::with_capacity(self.files.len() * 80);
        for (path, file) in &self.files {
            all.extend_from_slice(path.strip_prefix(root).unwrap_or(path).as_os_str().as_encoded_bytes());
            all.push(0);
            all.extend_from_slice(&file.hash.0);
            all.push(file.link as u8);
        }
        ContentHash::of(&all)
    }
}

impl Files {
    /// Reads a file; nothing where there is none.
    pub(super) fn read(&self, path: &Path) -> Option<Result<Arc<[u8]>, Arc<str>>> {
        match self {
            Self::Disk => match std::fs::read(path) {
                Ok(bytes) => Some(Ok(bytes.into())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => Some(Err(error.to_string().into())),
            },
            Self::Kept(snapshot) => snapshot.get(&plain(path)).map(|file| file.content.clone()),
        }
    }

    pub(super) fn is_file(&self, path: &Path) -> bool {
        match self {
            Self::Disk => path.is_file(),
            Self::Kept(snapshot) => snapshot.get(&plain(path)).is_some(),
        }
    }

    /// Returns the one path of a file to which several may lead.
    pub(super) fn real(&self, path: &Path) -> Option<PathBuf> {
        match self {
            Self::Disk => path.canonicalize().ok(),
            Self::Kept(_) => Some(plain(path)),
        }
    }

    /// Tells whether a file that is there lies in a folder, wherever links lead.
    pub(super) fn is_within(&self, path: &Path, folder: &Path) -> bool {
        match self {
            Self::Disk => match (path.canonicalize(), folder.canonicalize()) {
                (Ok(path), Ok(folder)) => path.starts_with(folder),
                _ => false,
            },
            Self::Kept(snapshot) => {
                let (path, folder) = (plain(path), plain(folder));
                let beside = |folder: &Path| snapshot.below(folder).find(|(path, _)| path.parent() == Some(folder));
                path.starts_with(&folder)
                    && snapshot.get(&path).is_some_and(|file| match file.link {
                        Link::Inside => true,
                        Link::FolderOutside => {
                            beside(&folder).is_some_and(|(_, file)| file.link == Link::FolderOutside)
                        }
                        Link::FileOutside => false,
                    })
            }
        }
    }

    pub(super) fn is_folder(&self, path: &Path) -> bool {
        match self {
            Self::Disk => path.is_dir(),
            // A folder whose entries matter is noted itself.
            Self::Kept(snapshot) => snapshot.get(&plain(path)).is_some(),
        }
    }

    /// Lists the names of a folder's entries.
    pub(super) fn names(&self, folder: &Path) -> Vec<String> {
        match self {
            Self::Disk => {
                let entries = std::fs::read_dir(folder).into_iter().flatten();
                entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
            }
            Self::Kept(snapshot) => {
                let folder = plain(folder);
                let all = snapshot.files.keys().chain(&snapshot.beside);
                let within = all.filter(|path| path.parent() == Some(&*folder));
                within.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
            }
        }
    }

    /// Lists the pipeline files below a folder, in order of their paths; a file is itself.
    pub(super) fn pipelines(&self, folder: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        match self {
            Self::Disk => collect(folder, &mut files, 0),
            Self::Kept(snapshot) => {
                let folder = plain(folder);
                let below = snapshot.below(&folder).map(|(path, _)| path);
                files.extend(below.filter(|path| *path == folder || is_pipeline(path)).map(Path::to_owned));
            }
        }
        files
    }
}

/// Tells by its name whether a file is a pipeline.
#[must_use]
pub fn is_pipeline(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    (name.ends_with(".yaml") || name.ends_with(".yml")) && !is_of_tests(name) && name != project::FILE
}

/// Tells by its name whether a file holds tests, or what they gave.
fn is_of_tests(name: &str) -> bool {
    name.ends_with(".test.yaml") || name.ends_with(".test.snap.yaml")
}

fn collect(path: &Path, files: &mut Vec<PathBuf>, depth: usize) {
    if path.is_file() {
        // Tests are no pipelines, also where they are named.
        if !path.to_str().is_some_and(is_of_tests) {
            files.push(path.to_owned());
        }
        return;
    }
    let Ok(entries) = std::fs::read_dir(path) else { return };
    let mut entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        // Calendars lie beside the pipelines where these have no folder of their own.
        let calendars = depth == 0 && entry.file_name().is_some_and(|name| name == calendars::FOLDER);
        if entry.is_dir() && !hidden && !calendars && depth < MAX_FOLDERS {
            collect(&entry, files, depth + 1);
        } else if is_pipeline(&entry) && entry.is_file() {
            files.push(entry);
        }
    }
}

/// Returns a path without `.` and `..`, as its text says: what is in memory has no links.
#[must_use]
pub fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}
