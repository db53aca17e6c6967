//! Files of the project: where a path leads, and reading and writing without surprises.

use std::io;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use super::scratch::Scratch;
use crate::model::ErrorClass;
use crate::model::Value;
use crate::node::Access;
use crate::node::NodeError;
use crate::node::StepContext;
use crate::system::outside;

/// A plan shows the text of files that are not longer, in bytes.
const PREVIEW: u64 = 16 * 1024;
/// The largest file that is read unless a node says otherwise, in bytes.
pub(super) const MAX_BYTES: u64 = 64 * 1024 * 1024;

pub(super) fn default_max_bytes() -> u64 {
    MAX_BYTES
}

/// Finds the file that a path of a pipeline means, following links, and refuses what lies outside the project unless the
/// project allows it. The file need not exist.
pub(super) fn locate(access: &Access, path: &str) -> Result<PathBuf, NodeError> {
    if path.is_empty() || path.contains('\0') {
        return Err(NodeError::invalid(format!("`{}` is not a path", path.escape_debug())));
    }
    let wanted = access.root.join(path);
    if access.files_outside {
        return Ok(wanted);
    }
    let root = access.root.canonicalize().map_err(|error| failed("find the project's folder", ".", error))?;
    let real = real_path(&wanted).map_err(|error| failed("find", path, error))?;
    if real.starts_with(&root) && real != root {
        return Ok(real);
    }
    Err(NodeError::message(
        ErrorClass::Rejected,
        format!(
            "`{path}` lies outside the project, or is the project itself: the project file can allow it by `allow: {{ files_outside: true }}`"
        ),
    ))
}

/// Resolves every link on the way; what does not exist yet is taken as it is written.
fn real_path(wanted: &Path) -> io::Result<PathBuf> {
    match wanted.canonicalize() {
        Ok(real) => return Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // A link that leads nowhere yet could lead outside once its target exists.
    if wanted.symlink_metadata().is_ok() {
        return Err(io::Error::other("a link that leads nowhere"));
    }
    match (wanted.parent(), wanted.components().next_back()) {
        (Some(parent), Some(Component::Normal(name))) => Ok(real_path(parent)?.join(name)),
        (Some(parent), Some(Component::CurDir)) => real_path(parent),
        _ => Err(io::Error::other("`..` behind a folder that does not exist")),
    }
}

/// Reads a whole file that is not larger than `max_bytes`.
pub(super) async fn read(ctx: &StepContext<'_>, path: &str, max_bytes: u64) -> Result<Vec<u8>, NodeError> {
    let (access, shown, scratch) = (ctx.access.clone(), path.to_owned(), scratch(ctx));
    blocking(move || {
        use std::io::Read;
        let real = locate(&access, &shown)?;
        let real = scratch.map_or_else(|| real.clone(), |scratch| scratch.to_read(&access, &real));
        let file = std::fs::File::open(real).map_err(|error| failed("open", &shown, error))?;
        let metadata = file.metadata().map_err(|error| failed("open", &shown, error))?;
        if !metadata.is_file() {
            return Err(NodeError::invalid(format!("`{shown}` is not a file")));
        }
        let mut bytes = Vec::new();
        file.take(max_bytes.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| failed("read", &shown, error))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > max_bytes {
            let message = format!("`{shown}` is larger than {max_bytes} bytes (`max_bytes`)");
            return Err(NodeError::message(ErrorClass::Exhausted, message));
        }
        Ok(bytes)
    })
    .await
}

/// Reads a whole text file; see `read`.
pub(super) async fn read_text(ctx: &StepContext<'_>, path: &str, max_bytes: u64) -> Result<String, NodeError> {
    let bytes = read(ctx, path, max_bytes).await?;
    String::from_utf8(bytes).map_err(|_| NodeError::invalid(format!("`{path}` is not UTF-8 text")))
}

/// Reads what a plan shows of a file that will be changed: its text where that is short, else its size. Null where there
/// is none.
pub(super) async fn preview(ctx: &StepContext<'_>, path: &str) -> Result<Value, NodeError> {
    let (access, shown) = (ctx.access.clone(), path.to_owned());
    blocking(move || {
        let real = locate(&access, &shown)?;
        let metadata = match std::fs::metadata(&real) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Value::Null),
            Err(error) => return Err(failed("read", &shown, error)),
        };
        let short = metadata.is_file() && metadata.len() <= PREVIEW;
        let text = short.then(|| std::fs::read_to_string(&real).ok()).flatten();
        Ok(text.map_or_else(|| Value::from(format!("({} bytes)", metadata.len())), Value::from))
    })
    .await
}

/// Puts a file in its place whole or not at all: written beside it, made durable, and renamed over it.
pub(super) async fn write(ctx: &StepContext<'_>, path: &str, bytes: Vec<u8>) -> Result<(), NodeError> {
    let (access, shown, scratch) = (ctx.access.clone(), path.to_owned(), scratch(ctx));
    let unique = ctx.system.random.bits();
    blocking(move || {
        let real = locate(&access, &shown)?;
        if let Some(scratch) = scratch {
            // Nobody needs it after the run: it need not be durable.
            let place = scratch.to_write(&access, &real);
            let folder = place.parent().map_or(Ok(()), std::fs::create_dir_all);
            return folder.and_then(|()| std::fs::write(place, bytes)).map_err(|error| failed("write", &shown, error));
        }
        let (Some(folder), Some(name)) = (real.parent(), real.file_name()) else {
            return Err(NodeError::invalid(format!("`{shown}` is not the path of a file")));
        };
        std::fs::create_dir_all(folder).map_err(|error| failed("make the folder of", &shown, error))?;
        let beside = folder.join(format!(".{}.{unique:032x}.part", name.to_string_lossy()));
        let written = put(&beside, &real, &bytes);
        if written.is_err() {
            // The first fault is what counts; a left-over part is only untidy.
            let _ = std::fs::remove_file(&beside);
        }
        written.map_err(|error| failed("write", &shown, error))?;
        Ok(())
    })
    .await
}

fn put(beside: &Path, real: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(beside)?;
    file.write_all(bytes)?;
    if let Ok(present) = std::fs::metadata(real) {
        file.set_permissions(present.permissions())?;
    }
    file.sync_all()?;
    std::fs::rename(beside, real)?;
    // The new name is durable when its folder is.
    match real.parent() {
        Some(folder) if cfg!(unix) => std::fs::File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Removes a file and tells whether there was one.
pub(super) async fn delete(ctx: &StepContext<'_>, path: &str) -> Result<bool, NodeError> {
    let (access, shown, scratch) = (ctx.access.clone(), path.to_owned(), scratch(ctx));
    blocking(move || {
        let real = locate(&access, &shown)?;
        if let Some(scratch) = scratch {
            return scratch.delete(&access, &real).map_err(|error| failed("delete", &shown, error));
        }
        match std::fs::remove_file(real) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("delete", &shown, error)),
        }
    })
    .await
}

/// Returns the folder that lies over the project's, where a run is only tried out.
pub(super) fn scratch(ctx: &StepContext<'_>) -> Option<Scratch> {
    ctx.services.get::<Scratch>().cloned()
}

/// Runs what blocks on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NodeError> + Send + 'static,
) -> Result<T, NodeError> {
    match outside(tokio::task::spawn_blocking(work)).await {
        Ok(result) => result,
        Err(error) => Err(NodeError::new(ErrorClass::Bug, error)),
    }
}

fn failed(verb: &str, path: &str, error: io::Error) -> NodeError {
    let class = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorClass::Exhausted,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorClass::Auth,
        io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => ErrorClass::Unavailable,
        _ => ErrorClass::Invalid,
    };
    NodeError::new(class, error).at(format!("cannot {verb} `{path}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(root: &Path) -> Access {
        Access { root: root.to_owned(), files_outside: false, shell: false, databases: Vec::new(), rehearsal: false }
    }

    #[test]
    fn only_paths_within_the_project_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("project");
        std::fs::create_dir_all(root.join("data")).unwrap();
        std::fs::write(folder.path().join("secret.txt"), "x").unwrap();
        let access = access(&root);
        for path in ["a.txt", "data/b.txt", "data/../c.txt", "./d.txt", "new/folder/e.txt"] {
            assert!(locate(&access, path).is_ok(), "{path}");
        }
        for path in ["../secret.txt", "/etc/passwd", "data/../../secret.txt", "", "a\0b", ".", "new/../../x", "data/.."]
        {
            assert!(locate(&access, path).is_err(), "{path}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_outside_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("project");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(folder.path().join("secret.txt"), "x").unwrap();
        std::os::unix::fs::symlink(folder.path(), root.join("out")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret.txt"), root.join("file.txt")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("not-yet.txt"), root.join("later.txt")).unwrap();
        for path in ["out/secret.txt", "out/new.txt", "file.txt", "later.txt"] {
            assert!(locate(&access(&root), path).is_err(), "{path}");
        }
    }
}
