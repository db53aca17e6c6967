//! A folder that lies over the project's: a run that is only tried out changes no file.

use std::collections::BTreeSet;
use std::io;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::node::Access;

/// Where the files of a run lie that writes none of the project's: what it writes goes there, and what it reads is looked for
/// there first. A service of `node::Services`; the nodes that have to do with files take it out. Clones share it, and the
/// last one removes the folder.
#[derive(Clone, Debug)]
pub struct Scratch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Made when it is needed.
    folder: PathBuf,
    /// What was deleted.
    gone: Mutex<BTreeSet<PathBuf>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What was never made cannot be removed, and what somebody else removed is gone.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Scratch {
    /// Makes one over a folder that nobody else has; it need not exist.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self(Arc::new(Inner { folder, gone: Mutex::default() }))
    }

    /// Puts a file at a path of the project.
    ///
    /// # Errors
    /// The file system's.
    pub fn put(&self, access: &Access, path: &str, content: &[u8]) -> io::Result<()> {
        let place = self.to_write(access, &access.root.join(path));
        if let Some(folder) = place.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(place, content)
    }

    /// Returns what a run would read at a path of the project; nothing where there is no file.
    #[must_use]
    pub fn content(&self, access: &Access, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.to_read(access, &access.root.join(path))).ok()
    }

    /// Returns where a file is read.
    pub(super) fn to_read(&self, access: &Access, real: &Path) -> PathBuf {
        let place = self.place(access, real);
        let gone = self.0.gone.lock().unwrap_or_else(PoisonError::into_inner).contains(&place);
        if gone || place.exists() { place } else { real.to_owned() }
    }

    /// Returns where a file is written.
    pub(super) fn to_write(&self, access: &Access, real: &Path) -> PathBuf {
        let place = self.place(access, real);
        self.0.gone.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
        place
    }

    /// Deletes a file, and tells whether there was one.
    pub(super) fn delete(&self, access: &Access, real: &Path) -> io::Result<bool> {
        let there = self.to_read(access, real).is_file();
        let place = self.place(access, real);
        if place.exists() {
            std::fs::remove_file(&place)?;
        }
        self.0.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(place);
        Ok(there)
    }

    /// Returns where a file is that is both read and written, a database: the project's is copied first.
    pub(super) fn to_change(&self, access: &Access, real: &Path) -> io::Result<PathBuf> {
        let found = self.to_read(access, real);
        let place = self.to_write(access, real);
        if found != place && found.exists() {
            if let Some(folder) = place.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::copy(found, &place)?;
        }
        Ok(place)
    }

    /// Returns what lies over a file, wherever that is.
    fn place(&self, access: &Access, real: &Path) -> PathBuf {
        let root = access.root.canonicalize().unwrap_or_else(|_| access.root.clone());
        let within = real.strip_prefix(&root).or_else(|_| real.strip_prefix(&access.root));
        let mut place = match within {
            Ok(_) => self.0.folder.join("project"),
            Err(_) => self.0.folder.join("outside"),
        };
        for part in within.unwrap_or(real).components() {
            match part {
                Component::Normal(name) => place.push(name),
                Component::ParentDir => drop(place.pop()),
                _ => {}
            }
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_and_deleted_over_a_project_leaves_it_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (root, over) = (folder.path().join("project"), folder.path().join("over"));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("a.txt"), "a").unwrap();
        std::fs::write(root.join("b.txt"), "b").unwrap();
        let access =
            Access { root: root.clone(), files_outside: false, shell: false, databases: Vec::new(), rehearsal: true };
        let scratch = Scratch::new(over.clone());
        let content = |path: &str| scratch.content(&access, path).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(content("a.txt").as_deref(), Some("a"));
        assert!(!over.exists(), "what only reads makes no folder");
        scratch.put(&access, "a.txt", b"new").unwrap();
        scratch.put(&access, "out/c.txt", b"c").unwrap();
        assert!(scratch.delete(&access, &root.join("b.txt")).unwrap());
        assert!(!scratch.delete(&access, &root.join("b.txt")).unwrap());
        assert_eq!((content("a.txt").as_deref(), content("out/c.txt").as_deref()), (Some("new"), Some("c")));
        assert_eq!(content("b.txt"), None);
        scratch.put(&access, "b.txt", b"again").unwrap();
        assert_eq!(content("b.txt").as_deref(), Some("again"));
        assert_eq!(std::fs::read(root.join("a.txt")).unwrap(), b"a");
        assert_eq!(std::fs::read(root.join("b.txt")).unwrap(), b"b");
        drop(scratch);
        assert!(!over.exists());
    }
}
