//! `pipewright daemon`.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use clap::Args;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Exit;
use super::Global;
use super::interrupts::HangUps;
use super::interrupts::Interrupts;
use super::print;
use super::validate::open_project;
use crate::app::App;
use crate::app::Fault;
use crate::connector::prices::Prices;
use crate::connector::runtime::Runtime;
use crate::daemon::after::Afters;
use crate::daemon::bell::Bell;
use crate::daemon::files::FileWatch;
use crate::daemon::invariant::Inspector;
use crate::daemon::keeper::Keeper;
use crate::daemon::metrics::Metrics;
use crate::daemon::page;
use crate::daemon::page::Page;
use crate::daemon::presence;
use crate::daemon::presence::Role;
use crate::daemon::reload::Generation;
use crate::daemon::reload::Ground;
use crate::daemon::reload::Reloader;
use crate::daemon::scheduler::Active;
use crate::daemon::scheduler::Scheduler;
use crate::daemon::webhook::Hooks;
use crate::daemon::worker::Worker;
use crate::model::Duration;
use crate::store::Store;

/// How many runs are executed at the same time where nothing says otherwise.
const RUNS: usize = 128;
/// Held by the daemon of an embedded store, below the project's folder.
const LOCK: &str = ".pipewright/daemon.lock";
const SANDBOX_LOCK: &str = ".pipewright/sandbox.lock";

/// Works until it is told to end: fires schedules, takes over edited files, executes runs that are queued or that wait for a
/// time, a retry or a person's word, and those whose process is gone.
#[derive(Debug, Args)]
pub(super) struct Daemon {
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4120")]
    listen: SocketAddr,
    /// So many runs are executed at the same time; `limits.runs` of the project where it is not said, else 128.
    #[arg(long, value_name = "NUMBER")]
    runs: Option<usize>,
    /// What this daemon does: `scheduler` fires triggers, `worker` executes runs. Of an embedded store one daemon does all.
    #[arg(long = "role", value_name = "ROLE,…", value_delimiter = ',', value_enum, default_values_t = [Part::Scheduler, Part::Worker])]
    roles: Vec<Part>,
    /// How long steps under way may take to end when the daemon is told to.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    drain_timeout: Duration,
}

/// A part of a daemon's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Scheduler,
    Worker,
}

impl Daemon {
    /// Returns what it does, each role once.
    fn roles(&self) -> Vec<Role> {
        let named = |role: &Role| self.roles.iter().any(|part| Role::from(*part) == *role);
        Role::ALL.into_iter().filter(named).collect()
    }

    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let app = open_project(global).await?;
        let _lock = locked(&app)?;
        let roles = self.roles();
        if _lock.is_some() && roles != Role::ALL {
            let message = "an embedded store takes one daemon, so that one must have every role; a PostgreSQL store \
                           (`store: postgres://…` in pipewright.yaml) takes many that share them";
            return Err(Fault::Usage(message.to_owned()));
        }
        let has = |role| roles.contains(&role);
        if let Some(world) = &app.sandbox {
            app.engine.parts().store.enter(world.id()).await?;
        }
        let (mut interrupts, mut hang_ups) = (Interrupts::listen()?, HangUps::listen()?);
        let (bell, stop) = (Bell::default(), CancellationToken::new());
        let presence = app.presence(&roles);
        let metrics = Arc::new(Metrics::of(&presence.roles));
        let hung = bell.hang_up(&app.root, app.engine.parts().access.rehearsal)?;
        let ready = Arc::new(AtomicBool::new(false));
        let store = app.engine.parts().store.clone();
        let (activate, active) = watch::channel(Active::default());
        let engine = &app.engine;
        let hooks = Hooks::new(engine.clone(), active.clone(), bell.clone(), metrics.clone(), ready.clone());
        let page =
            Page { store: store.clone(), metrics: metrics.clone(), ready: ready.clone(), hooks: Arc::new(hooks) };
        let address = page::serve(page, self.listen).await.map_err(|error| {
            let help = "`--listen` names another address";
            Fault::Usage(format!("cannot listen at {}: {error}; {help}", self.listen))
        })?;
        let ground = Ground { root: app.root.clone(), can_seal: store.can_seal() };
        let (reloader, mut generations) = Reloader::open(ground, app.engine.parts().system.clone()).await;
        let of = |generation: &Generation| Arc::new(generation.pipelines.values().cloned().collect::<Vec<_>>());
        activate.send_replace(of(&generations.borrow()));
        let kept = |generation: &Generation| Arc::new(generation.project.retention.clone());
        let (retain, retention) = watch::channel(kept(&generations.borrow()));
        let (runtime, root) = (app.runtime.clone(), app.root.clone());
        let following = AbortOnDropHandle::new(tokio::spawn(async move {
            while generations.changed().await.is_ok() {
                let generation = generations.borrow_and_update().clone();
                reprice(&runtime, &root);
                activate.send_replace(of(&generation));
                retain.send_replace(kept(&generation));
            }
        }));
        let scheduler = Scheduler {
            engine: app.engine.clone(),
            active,
            bell: bell.clone(),
            metrics: metrics.clone(),
            stop: stop.clone(),
        };
        let hearing = hear(&store, &bell);
        let afters = Afters::new(&scheduler);
        let files = FileWatch::new(&scheduler);
        let limit = app.project.most_runs.and_then(|runs| usize::try_from(runs).ok());
        let most = self.runs.or(limit).unwrap_or(RUNS).max(1);
        let system = app.engine.parts().system.clone();
        let active = scheduler.active.clone();
        let keeper = Keeper::new(store.clone(), system.clone(), active, retention, metrics.clone(), stop.clone());
        let inspector = Inspector {
            store: store.clone(),
            system,
            active: scheduler.active.clone(),
            metrics: metrics.clone(),
            most,
            stop: stop.clone(),
        };
        let worker = Worker {
            engine: app.engine.clone(),
            registry: app.registry.clone(),
            active: scheduler.active.clone(),
            bell,
            metrics,
            most,
            stop: stop.clone(),
            drain: self.drain_timeout,
        };
        let mut firing = JoinSet::new();
        if has(Role::Scheduler) {
            firing.spawn(scheduler.run());
            firing.spawn(afters.run());
            firing.spawn(files.run());
        } else {
            let stop = stop.clone();
            firing.spawn(async move { stop.cancelled().await });
        }
        let mut working = spawn_if(has(Role::Worker), &stop, worker.work());
        let mut keeping = tokio::spawn(keeper.keep());
        let mut inspecting = tokio::spawn(inspector.inspect());
        let gone = CancellationToken::new();
        let showing = presence::show(app.engine.clone(), presence, app.clock.clone(), gone.clone());
        let showing = AbortOnDropHandle::new(tokio::spawn(showing));
        ready.store(true, Relaxed);
        supervisor::ready();
        let watchdog = supervisor::watch();
        let named = roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(",");
        tracing::info!(%address, project = %app.root.display(), roles = named, "the daemon works");
        loop {
            tokio::select! {
                () = interrupts.next() => break,
                // A daemon without one of them would look alive and do nothing: whoever supervises it starts another.
                _ = firing.join_next() => return Err(Fault::Other(anyhow::anyhow!("what fires triggers broke"))),
                _ = &mut working => return Err(Fault::Other(anyhow::anyhow!("the worker broke"))),
                _ = &mut keeping => return Err(Fault::Other(anyhow::anyhow!("the housekeeper broke"))),
                _ = &mut inspecting => return Err(Fault::Other(anyhow::anyhow!("the inspector broke"))),
                () = hang_ups.next() => {
                    supervisor::reloading();
                    reloader.reload_now().await;
                    supervisor::ready();
                }
            }
        }
        ready.store(false, Relaxed);
        supervisor::stopping();
        tracing::info!("the daemon ends in good order; a second signal ends it at once");
        stop.cancel();
        drop((reloader, following));
        // What it is just writing is written.
        while firing.join_next().await.is_some() {}
        // What these do can stop anywhere, and is done again another time.
        keeping.abort();
        inspecting.abort();
        let left = tokio::select! {
            left = &mut working => left.ok().flatten().unwrap_or_default(),
            () = interrupts.next() => return Ok(Exit::Interrupted),
        };
        // Until its last run has ended it is there.
        gone.cancel();
        let _ = showing.await;
        drop((hung, watchdog, hearing));
        store.close().await?;
        if left > 0 {
            print::talk(&format!(
                "{left} runs were given up after {}; they go on from their journals",
                self.drain_timeout
            ));
        }
        Ok(Exit::Well)
    }
}

impl From<Part> for Role {
    fn from(part: Part) -> Self {
        match part {
            Part::Scheduler => Self::Scheduler,
            Part::Worker => Self::Worker,
        }
    }
}

/// Rings the bell for what others announce by the store, for as long as what it returns is kept.
fn hear(store: &Store, bell: &Bell) -> (AbortOnDropHandle<()>, AbortOnDropHandle<()>) {
    let (mut notices, bell, store) = (store.notices(), bell.clone(), store.clone());
    let listening = tokio::spawn(async move { store.listen().await });
    let forwarding = tokio::spawn(async move {
        while notices.changed().await.is_ok() {
            bell.ring();
        }
    });
    (AbortOnDropHandle::new(listening), AbortOnDropHandle::new(forwarding))
}

/// Does a part of the work where it is this daemon's; else nothing, until it is stopped.
fn spawn_if<T: Send + 'static>(
    own: bool,
    stop: &CancellationToken,
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<Option<T>> {
    let stop = stop.clone();
    tokio::spawn(async move {
        if own {
            return Some(work.await);
        }
        drop(work);
        stop.cancelled().await;
        None
    })
}

/// Sees that an embedded store has one daemon; the lock lasts as long as what is returned.
fn locked(app: &App) -> Result<Option<File>, Fault> {
    let shared = app.project.store.as_deref().is_some_and(|url| !url.starts_with("sqlite:"));
    let rehearsal = app.engine.parts().access.rehearsal;
    if shared && !rehearsal {
        return Ok(None);
    }
    let path = app.root.join(if rehearsal { SANDBOX_LOCK } else { LOCK });
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let file = File::options().create(true).truncate(false).write(true).open(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => {
            let message = "this project has a daemon already, and its embedded store takes one; a PostgreSQL store \
                           (`store: postgres://…` in pipewright.yaml) takes many";
            Err(Fault::Usage(message.to_owned()))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

/// What a service manager is told. Where there is none, nothing happens.
mod supervisor {
    #[cfg(unix)]
    use tokio_util::task::AbortOnDropHandle;

    #[cfg(unix)]
    fn tell(state: sd_notify::NotifyState<'_>) {
        if let Err(error) = sd_notify::notify(&[state]) {
            tracing::warn!(%error, "the service manager could not be told");
        }
    }

    #[cfg(unix)]
    pub(super) fn ready() {
        tell(sd_notify::NotifyState::Ready);
    }

    #[cfg(unix)]
    pub(super) fn reloading() {
        tell(sd_notify::NotifyState::Reloading);
        if let Ok(now) = sd_notify::NotifyState::monotonic_usec_now() {
            tell(now);
        }
    }

    #[cfg(not(unix))]
    pub(super) fn reloading() {}

    #[cfg(unix)]
    pub(super) fn stopping() {
        tell(sd_notify::NotifyState::Stopping);
    }

    /// Says regularly that the process lives, for as long as what it returns is kept: the runtime's tasks run.
    #[cfg(unix)]
    pub(super) fn watch() -> Option<AbortOnDropHandle<()>> {
        let every = sd_notify::watchdog_enabled()? / 2;
        Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let mut beat = tokio::time::interval(every);
            loop {
                beat.tick().await;
                tell(sd_notify::NotifyState::Watchdog);
            }
        })))
    }

    #[cfg(not(unix))]
    pub(super) fn ready() {}

    #[cfg(not(unix))]
    pub(super) fn stopping() {}

    #[cfg(not(unix))]
    pub(super) fn watch() {}
}

/// Takes the prices as their file has them now; where it has faults, those that were known stay.
fn reprice(runtime: &Runtime, root: &Path) {
    match Prices::open(root) {
        Ok(prices) => runtime.replace_prices(prices),
        Err(faulty) => {
            for error in &faulty.diagnostics {
                let place = format!("{}:{}:{}", error.span.file, error.span.start.line, error.span.start.column);
                let message = error.message.as_str();
                tracing::warn!(%place, message, "the prices have errors; the last good ones stay in effect");
            }
        }
    }
}
