//! Wakes the daemon of a project: another process that has written something for it rings, by a datagram to a socket in
//! the project's folder.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::sync::Notify;
use tokio::sync::watch;

/// Where the socket is, below the project's folder; a rehearsal has a daemon of its own.
const SOCKET: &str = ".pipewright/daemon.sock";
const REHEARSED: &str = ".pipewright/sandbox.sock";
/// So often it is tried to take the place of another socket.
#[cfg(unix)]
const SEVERAL: u32 = 32;

/// Is rung by other processes, and by this one.
#[derive(Clone, Debug, Default)]
pub struct Bell {
    rings: Arc<watch::Sender<u64>>,
    ends: Arc<Ends>,
}

/// The ends of runs that somebody in this process waits for.
#[derive(Debug, Default)]
struct Ends {
    state: Mutex<Awaited>,
    some: Notify,
}

#[derive(Debug, Default)]
struct Awaited {
    /// The pipelines whose runs are waited for, and those of which one has ended since.
    pipelines: BTreeSet<Arc<str>>,
    ended: BTreeSet<Arc<str>>,
}

impl Bell {
    /// Rings here.
    pub fn ring(&self) {
        self.rings.send_modify(|rings| *rings += 1);
    }

    /// Tells that a run of a pipeline has ended, and is stored so; it costs nothing where nobody waits for it.
    pub fn ended(&self, pipeline: &str) {
        let mut state = self.ends.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = state.pipelines.get(pipeline).cloned() {
            state.ended.insert(name);
            self.ends.some.notify_one();
        }
    }

    /// Waits for the ends of runs of these pipelines.
    pub(super) fn await_ends(&self, pipelines: BTreeSet<Arc<str>>) {
        self.ends.state.lock().unwrap_or_else(PoisonError::into_inner).pipelines = pipelines;
    }

    /// Returns the pipelines of which runs have ended, when there are some.
    pub(super) async fn some_ended(&self) -> BTreeSet<Arc<str>> {
        self.ends.some.notified().await;
        std::mem::take(&mut self.ends.state.lock().unwrap_or_else(PoisonError::into_inner).ended)
    }

    /// Returns what hears it from now on.
    #[must_use]
    pub fn listen(&self) -> watch::Receiver<u64> {
        self.rings.subscribe()
    }

    /// Returns when it was rung since the listener has heard it last.
    pub async fn rung(listener: &mut watch::Receiver<u64>) {
        if listener.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Listens for other processes, as long as what it returns is kept.
    ///
    /// # Errors
    /// The socket cannot be made.
    #[cfg(unix)]
    pub fn hang_up(&self, root: &Path, rehearsal: bool) -> std::io::Result<Hung> {
        let path = socket(root, rehearsal);
        // A project on PostgreSQL may have no folder of its own yet.
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let bind = || {
            // One that was left behind by a daemon that was killed; a living one is told from it by the lock.
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            tokio::net::UnixDatagram::bind(&path)
        };
        // Daemons of one PostgreSQL may begin in one folder at the same moment; the last one has the socket.
        let mut socket = bind();
        for _ in 0..SEVERAL {
            if socket.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse) {
                socket = bind();
            }
        }
        let socket = socket?;
        let bell = self.clone();
        let listening = tokio::spawn(async move {
            let mut buffer = [0; 8];
            while socket.recv(&mut buffer).await.is_ok() {
                bell.ring();
            }
        });
        Ok(Hung { path, listening })
    }

    #[cfg(not(unix))]
    pub fn hang_up(&self, root: &Path, rehearsal: bool) -> std::io::Result<Hung> {
        Ok(Hung { path: socket(root, rehearsal), listening: tokio::spawn(std::future::pending()) })
    }
}

/// A bell that others can ring.
#[derive(Debug)]
pub struct Hung {
    path: PathBuf,
    listening: tokio::task::JoinHandle<()>,
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.listening.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

fn socket(root: &Path, rehearsal: bool) -> PathBuf {
    root.join(if rehearsal { REHEARSED } else { SOCKET })
}

/// Rings the bell of the project's daemon. Returns whether there is one that hears it; it looks by itself, too, only later.
#[cfg(unix)]
pub fn ring(root: &Path, rehearsal: bool) -> bool {
    let Ok(own) = std::os::unix::net::UnixDatagram::unbound() else { return false };
    match own.set_nonblocking(true).and_then(|()| own.send_to(b"!", socket(root, rehearsal))) {
        Ok(_) => true,
        // One that has not yet heard the last rings will look.
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

#[cfg(not(unix))]
pub fn ring(_: &Path, _: bool) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_process_rings_and_a_socket_that_was_left_behind_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join(".pipewright")).unwrap();
        assert!(!ring(folder.path(), false));
        std::fs::write(socket(folder.path(), false), "").unwrap();
        let bell = Bell::default();
        let hung = bell.hang_up(folder.path(), false).unwrap();
        let mut listener = bell.listen();
        assert!(ring(folder.path(), false));
        Bell::rung(&mut listener).await;
        drop(hung);
        assert!(!socket(folder.path(), false).exists());
    }
}
