//! Looks for files whose paths match, and reads what they hold. Blocks: it runs on threads that may.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::fs::Metadata;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use crate::daemon::reload::scan::Stamp;
use crate::model::Timestamp;
use crate::pipeline::Glob;
use crate::pipeline::Within;

/// So deep folders are followed: links may lead in circles.
const DEEPEST: usize = 64;
/// So much of a file is read at once.
const CHUNK: usize = 256 * 1024;

/// A file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundFile {
    pub(super) stamp: Stamp,
    pub(super) size: u64,
    pub(super) modified: Timestamp,
}

/// What a look found.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// The files of each pattern, by their paths.
    pub(super) files: Vec<BTreeMap<String, FoundFile>>,
    /// The folders in which a change matters.
    pub(super) folders: BTreeMap<PathBuf, Stamp>,
    /// What counts in folders that hold much else.
    pub(super) counted: BTreeSet<PathBuf>,
    /// What matches and is not looked at, with the reason.
    pub(super) passed_over: BTreeMap<PathBuf, &'static str>,
}

/// Looks for the files of some patterns, each relative to the project's folder.
pub(super) fn look(root: &Path, patterns: &[&Glob], outside: bool) -> Looked {
    let mut looked = Looked::default();
    let real = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    for pattern in patterns {
        let mut walk = Walk { root, real: &real, outside, pattern, files: BTreeMap::new(), looked: &mut looked };
        for base in pattern.bases() {
            walk.base(&base);
        }
        let files = walk.files;
        looked.files.push(files);
    }
    looked
}

struct Walk<'w> {
    root: &'w Path,
    /// The project's folder without links.
    real: &'w Path,
    outside: bool,
    pattern: &'w Glob,
    files: BTreeMap<String, FoundFile>,
    looked: &'w mut Looked,
}

impl Walk<'_> {
    fn base(&mut self, base: &str) {
        let path = if base.is_empty() { self.root.to_owned() } else { self.root.join(base) };
        // Where it is not there yet, it will appear in what is there of the way to it.
        self.looked.counted.insert(path.clone());
        for folder in path.ancestors() {
            if self.note(folder) {
                break;
            }
        }
        if self.allowed(&path) {
            self.folder(&path, base, &mut Vec::new());
        }
    }

    /// Notes a folder in which a change matters; tells whether it is there.
    fn note(&mut self, folder: &Path) -> bool {
        let found = fs::metadata(folder).ok().filter(Metadata::is_dir);
        if let Some(found) = &found {
            self.looked.folders.insert(folder.to_owned(), Stamp::of_folder(found));
        }
        found.is_some()
    }

    /// Tells whether a path, links followed, lies where files may be read.
    fn allowed(&mut self, path: &Path) -> bool {
        if self.outside {
            return true;
        }
        match path.canonicalize() {
            Ok(real) if real.starts_with(self.real) => true,
            Ok(_) => {
                self.looked.passed_over.insert(path.to_owned(), "it leads out of the project");
                false
            }
            Err(_) => false,
        }
    }

    fn folder(&mut self, folder: &Path, shown: &str, above: &mut Vec<PathBuf>) {
        let Ok(real) = folder.canonicalize() else { return };
        if above.contains(&real) || above.len() >= DEEPEST {
            return;
        }
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(_) => {
                self.looked.passed_over.insert(folder.to_owned(), "the folder cannot be read");
                return;
            }
        };
        self.note(folder);
        above.push(real);
        for entry in entries.flatten() {
            self.entry(&entry, shown, above);
        }
        above.pop();
    }

    fn entry(&mut self, entry: &fs::DirEntry, folder: &str, above: &mut Vec<PathBuf>) {
        let path = entry.path();
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            self.looked.passed_over.insert(path, "its name is not UTF-8");
            return;
        };
        let shown = match folder {
            "" => name.to_owned(),
            "/" => format!("/{name}"),
            folder => format!("{folder}/{name}"),
        };
        let Ok(mut kind) = entry.file_type() else { return };
        let (matches, within) = (self.pattern.matches(&shown), self.pattern.within(&shown) == Within::Some);
        if !matches && !within {
            return;
        }
        if kind.is_symlink() {
            let Ok(target) = fs::metadata(&path) else { return };
            kind = target.file_type();
            if !self.allowed(&path) {
                return;
            }
            // A change of what it leads to is told where that lies.
            if let Some(real) = path.canonicalize().ok().filter(|_| kind.is_file()) {
                real.parent().map(|folder| self.note(folder));
                self.looked.counted.insert(real);
            }
        }
        if kind.is_dir() && within {
            self.folder(&path, &shown, above);
        } else if kind.is_file() && matches {
            // It may have gone since.
            let Ok(metadata) = fs::metadata(&path) else { return };
            self.files.insert(shown, found(&metadata));
        }
    }
}

fn found(metadata: &Metadata) -> FoundFile {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let modified = modified.and_then(|age| i64::try_from(age.as_micros()).ok()).unwrap_or_default();
    FoundFile { stamp: Stamp::of(metadata), size: metadata.len(), modified: Timestamp(modified) }
}

/// Hashes what a file holds; nothing where it changes meanwhile.
pub(super) fn hash(path: &Path, found: &FoundFile) -> io::Result<Option<String>> {
    let mut file = fs::File::open(path)?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        context.update(buffer.get(..count).unwrap_or_default());
    }
    let unchanged = fs::metadata(path).is_ok_and(|now| Stamp::of(&now) == found.stamp);
    let hex: String = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(unchanged.then(|| format!("sha256:{hex}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(root: &Path, pattern: &str, outside: bool) -> Vec<String> {
        let glob = Glob::parse(pattern).unwrap();
        look(root, &[&glob], outside).files.remove(0).into_keys().collect()
    }

    #[test]
    fn files_are_found_as_the_pattern_says() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for path in ["in/a.csv", "in/b.txt", "in/x/c.csv", "in/.x/d.csv", "in/.e.csv", "f.csv", "other/g.csv"] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), path).unwrap();
        }
        assert_eq!(paths(root, "in/*.csv", false), ["in/a.csv"]);
        assert_eq!(paths(root, "in/**/*.csv", false), ["in/a.csv", "in/x/c.csv"]);
        assert_eq!(paths(root, "*.csv", false), ["f.csv"]);
        assert_eq!(paths(root, "{in,other}/*.csv", false), ["in/a.csv", "other/g.csv"]);
        assert_eq!(paths(root, "nowhere/*.csv", false), [""; 0]);
        let absolute = format!("{}/in/*.csv", root.display());
        assert_eq!(paths(root, &absolute, true), [format!("{}/in/a.csv", root.display())]);
        let looked = look(root, &[&Glob::parse("nowhere/at/all/*.csv").unwrap()], false);
        assert!(looked.folders.contains_key(root), "where it will appear is watched");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_within_the_project_and_circles_end() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("project");
        fs::create_dir_all(root.join("in")).unwrap();
        fs::create_dir_all(root.join("real")).unwrap();
        fs::write(root.join("real/a.csv"), "a").unwrap();
        fs::write(folder.path().join("secret.csv"), "x").unwrap();
        symlink(root.join("real"), root.join("in/folder")).unwrap();
        symlink(root.join("real/a.csv"), root.join("in/link.csv")).unwrap();
        symlink(root.join("in"), root.join("in/circle")).unwrap();
        symlink(folder.path(), root.join("in/out")).unwrap();
        symlink(folder.path().join("secret.csv"), root.join("in/secret.csv")).unwrap();
        symlink(root.join("nowhere"), root.join("in/dead.csv")).unwrap();
        assert_eq!(paths(&root, "in/**/*.csv", false), ["in/folder/a.csv", "in/link.csv"]);
        let looked = look(&root, &[&Glob::parse("in/**/*.csv").unwrap()], false);
        assert_eq!(looked.passed_over.len(), 2, "{:?}", looked.passed_over);
        assert!(paths(&root, "in/*.csv", true).contains(&"in/secret.csv".to_owned()));
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_has_no_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "hello").unwrap();
        let before = found(&fs::metadata(&path).unwrap());
        let expected = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(hash(&path, &before).unwrap().as_deref(), Some(expected));
        fs::write(&path, "hello, again").unwrap();
        assert_eq!(hash(&path, &before).unwrap(), None);
        fs::remove_file(&path).unwrap();
        assert!(hash(&path, &before).is_err());
    }
}
