//! Hot reload: edited files become active, all that belong together at once, and never one that is wrong.
//!
//! ```text
//! notices ─┐
//! a round ─┼─> edits ── settled files ──> attempt ──> generation ──> whoever watches
//! SIGHUP  ─┘   (scan)    (snapshot)       (pure)
//! ```
//!
//! Notices only say when to look; what is looked at is what the files hold. So it does not matter how a file was changed.

mod edits;
mod generation;
pub(in crate::daemon) mod notices;
pub(in crate::daemon) mod scan;

use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::edits::Edits;
pub use self::edits::LONGEST;
pub use self::edits::QUIET;
pub use self::edits::ROUND;
pub use self::generation::Attempt;
pub use self::generation::Generation;
pub use self::generation::Ground;
pub use self::generation::Outcome;
pub use self::generation::attempt;
pub use self::generation::manifests;
pub use self::scan::Scanned;
pub use self::scan::Scanner;
use crate::connector::prices;
use crate::pipeline::plain;
use crate::system::System;

/// How often pipelines may ask for files that ask for others: as deep as prompts include one another.
const MOST_ROUNDS: usize = 64;
/// How many errors of a refused edit are logged; `checked` has all.
const MOST_LOGGED: usize = 20;

/// Keeps the active generation of a project; stops when it is dropped.
#[derive(Debug)]
pub struct Reloader {
    /// Bounded by one: who asks while another asks waits.
    asks: mpsc::Sender<oneshot::Sender<()>>,
    generations: watch::Receiver<Arc<Generation>>,
    task: JoinHandle<()>,
}

impl Reloader {
    /// Reads a project's files, and from then on follows their edits.
    pub async fn open(ground: Ground, system: System) -> (Self, watch::Receiver<Arc<Generation>>) {
        let ground = Ground { root: absolute(&ground.root), ..ground };
        let edits = Edits::open(&ground.root, [ground.root.join(prices::FILE)], system).await;
        let mut following = Following { ground: Arc::new(ground), edits };
        let first = following.attempt(None).await;
        log(&first);
        let (sender, generations) = watch::channel(Arc::new(first.generation));
        let (asks, asked) = mpsc::channel(1);
        let task = tokio::spawn(following.follow(sender, asked));
        (Self { asks, generations: generations.clone(), task }, generations)
    }

    /// Reads all files again now, as SIGHUP wishes, and returns what is active then.
    pub async fn reload_now(&self) -> Arc<Generation> {
        let (done, answer) = oneshot::channel();
        if self.asks.send(done).await.is_ok() {
            // Where it stops meanwhile, what is active stays so.
            let _ = answer.await;
        }
        self.generations.borrow().clone()
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        // It only reads: it can stop anywhere.
        self.task.abort();
    }
}

struct Following {
    ground: Arc<Ground>,
    edits: Edits,
}

impl Following {
    async fn follow(mut self, sender: watch::Sender<Arc<Generation>>, mut asked: mpsc::Receiver<oneshot::Sender<()>>) {
        loop {
            let (done, changed) = tokio::select! {
                _ = self.edits.next() => (None, true),
                done = asked.recv() => match done {
                    Some(done) => (Some(done), self.edits.look_at_once().await),
                    None => return,
                },
            };
            if changed {
                let active = sender.borrow().clone();
                let attempt = self.attempt(Some(active)).await;
                log(&attempt);
                sender.send_replace(Arc::new(attempt.generation));
            }
            if let Some(done) = done {
                // Who asked may have gone.
                let _ = done.send(());
            }
        }
    }

    /// Checks the files; those that pipelines ask for are read then, and it is done again with them.
    async fn attempt(&mut self, active: Option<Arc<Generation>>) -> Attempt {
        let mut rounds = 0;
        loop {
            let attempt = self.attempt_once(active.clone()).await;
            rounds += 1;
            let knowledge = attempt.generation.knowledge();
            if !self.edits.ask(knowledge.asked()).await || rounds == MOST_ROUNDS {
                return attempt;
            }
        }
    }

    async fn attempt_once(&self, active: Option<Arc<Generation>>) -> Attempt {
        let (ground, files) = (self.ground.clone(), Arc::new(self.edits.snapshot().clone()));
        let work = tokio::task::spawn_blocking(move || attempt(&ground, active.as_deref(), &files));
        work.await.expect("a check does not panic and is not aborted")
    }
}

fn log(attempt: &Attempt) {
    let Attempt { generation, outcome, compiled } = attempt;
    let (number, pipelines) = (generation.number, generation.pipelines.len());
    match outcome {
        Outcome::Active => tracing::info!(generation = number, pipelines, compiled, "files are active"),
        Outcome::Same => tracing::info!(generation = number, "files are again as they were"),
        Outcome::Refused => {
            tracing::warn!(generation = number, "edited files have errors; the last good ones stay active")
        }
        Outcome::InPart => tracing::warn!(pipelines, "files have errors; the pipelines without any are active"),
    }
    for error in generation.errors().take(MOST_LOGGED) {
        let span = &error.span;
        let place = format!("{}:{}:{}", span.file, span.start.line, span.start.column);
        tracing::warn!(%place, code = error.code.as_str(), message = error.message, "error in a file");
    }
}

/// Returns an absolute path without `..`, by which a project's files are named; links in it stay, as they may be swapped.
#[must_use]
pub fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let goes_up = path.components().any(|part| part == Component::ParentDir);
    let real = if goes_up { path.canonicalize().ok() } else { None };
    real.unwrap_or_else(|| plain(&path))
}
