//! The composition root: from a project's folder to an engine. Nothing else builds these, and nothing else reads the
//! environment but `secrets`.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;

use crate::connector::auth::custody::Custody;
use crate::connector::connection::Connection;
use crate::connector::library::Library;
use crate::connector::library::Loaded;
use crate::connector::limits::Purse;
use crate::connector::manifest::Manifest;
use crate::connector::prices::Faulty;
use crate::connector::prices::Prices;
use crate::connector::runtime::Connections;
use crate::connector::runtime::Link;
use crate::connector::runtime::Runtime;
use crate::daemon::presence;
use crate::daemon::presence::Role;
use crate::diag::Diagnostic;
use crate::diag::Sources;
use crate::diag::did_you_mean;
use crate::engine::Deck;
use crate::engine::Engine;
use crate::engine::Parts;
use crate::engine::Probe;
use crate::engine::SecretSource;
use crate::http::ReqwestTransport;
use crate::http::Transport;
use crate::model::Duration;
use crate::model::Value;
use crate::node::Access;
use crate::node::Live;
use crate::node::Registry;
use crate::node::Services;
use crate::pipeline::Catalog;
use crate::pipeline::Project;
use crate::pipeline::ProjectConnection;
use crate::pipeline::SecretPlace;
use crate::replay::Recorder;
use crate::sandbox::cast::SandboxConnections;
use crate::sandbox::cast::wanted;
use crate::sandbox::fault as sandbox;
use crate::sandbox::transport::Here;
use crate::sandbox::transport::There;
use crate::sandbox::world::World;
use crate::secrets::MasterKey;
use crate::secrets::Secrets;
use crate::secrets::Source;
use crate::store::OpenOptions;
use crate::store::Presence;
use crate::store::Sealer;
use crate::store::Store;
use crate::system::AgreedClock;
use crate::system::Random;
use crate::system::System;
use crate::system::SystemClock;
use crate::template::Lookup;
use crate::template::Scope;
use crate::template::StepView;
use crate::template::TemplateTree;

/// Where the master key of a project stands, below its folder.
pub const MASTER_KEY: &str = ".pipewright/master.key";

/// Where a rehearsal keeps its runs and tokens, below the project's folder, and the key that seals them where the project
/// has none.
const SANDBOX_STORE: &str = ".pipewright/sandbox.db";
const SANDBOX_KEY: &str = ".pipewright/sandbox.key";

/// What stands in for the world outside.
#[derive(Clone, Debug, Default)]
pub struct Rehearsal {
    /// The address of a sandbox that another process serves; without one it lives in this process, as long as that does.
    pub url: Option<String>,
    pub faults: Vec<sandbox::Fault>,
    pub seed: Option<u64>,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub enum Fault {
    /// The command line, or what it names, is wrong.
    Usage(String),
    /// Files are invalid.
    Invalid {
        diagnostics: Vec<Diagnostic>,
        sources: Sources,
        files: usize,
    },
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// A project that is open.
#[derive(Debug)]
pub struct App {
    pub root: PathBuf,
    pub project: Project,
    pub registry: Registry,
    pub engine: Engine,
    /// What operations of connectors run on; the engine hands it to them.
    pub runtime: Arc<Runtime>,
    /// Where texts go while they are made.
    pub live: Live,
    /// What stands in for the world outside, in this process.
    pub sandbox: Option<Arc<World>>,
    /// The clock of whoever shares a store with other machines: it keeps to the store's time.
    pub clock: Option<Arc<AgreedClock>>,
}

/// Reads an environment variable.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment for settings")]
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Finds the project's folder: the one that is named, else the nearest above `from` with a `pipewright.yaml`, else the one
/// that holds it as `pipelines`, else `from` itself.
#[must_use]
pub fn find_root(named: Option<&Path>, from: &Path) -> PathBuf {
    if let Some(named) = named {
        return absolute(named);
    }
    let from = absolute(from);
    let above = from.ancestors().find(|folder| folder.join("pipewright.yaml").is_file());
    let holds = from.file_name().is_some_and(|name| name == "pipelines").then(|| from.parent()).flatten();
    above.or(holds).unwrap_or(&from).to_owned()
}

fn absolute(path: &Path) -> PathBuf {
    // The folder of a file that is named alone is empty.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Makes the registry of a project: the built-in nodes, and the operations of connectors, which are loaded when they are
/// named.
#[must_use]
pub fn registry(root: &Path) -> Registry {
    crate::nodes::registry().with_operations(Arc::new(Library::open(root)))
}

/// Reads the master key of a project, if it has one.
///
/// # Errors
/// A key that is there and cannot be used.
pub fn master_key(root: &Path) -> Result<Option<MasterKey>, Fault> {
    MasterKey::find(&root.join(MASTER_KEY)).context("reading the master key").map_err(Fault::Other)
}

/// Opens a project: its settings, its store, its secrets, and an engine over them. A rehearsal has a store and secrets of
/// its own, and reaches nothing but stand-ins.
///
/// # Errors
/// Faults of `pipewright.yaml`, and what keeps the store or the secrets from being opened.
pub async fn open(
    root: PathBuf,
    registry: Registry,
    project: Project,
    rehearsal: Option<Rehearsal>,
) -> Result<App, Fault> {
    let mut key = master_key(&root)?;
    if rehearsal.is_some() && key.is_none() {
        key = sandbox_key(&root)?;
    }
    let key = key.map(|key| Arc::new(key) as Arc<dyn Sealer>);
    let url = match rehearsal {
        Some(_) => format!("sqlite://{}", root.join(SANDBOX_STORE).display()),
        None => store_url(&root, project.store.as_deref()),
    };
    let options = OpenOptions { sealer: key, ..OpenOptions::default() };
    let store = Store::open(&url, options).await.context("opening the store")?;
    let places = if rehearsal.is_some() { vec![Source::Sandbox] } else { sources(&root, &project) };
    let secrets = Secrets::load(&places, Some(&store)).await.context("reading the secrets")?;
    let access = Access {
        root: root.clone(),
        files_outside: project.files_outside,
        shell: project.shell,
        databases: project.databases.clone(),
        rehearsal: rehearsal.is_some(),
    };
    let secrets = Arc::new(secrets);
    let (system, clock) = system(&store).await?;
    let mut world = None;
    let (http, connections): (Arc<dyn Transport>, Arc<dyn Connections>) = match rehearsal {
        None => {
            let connections = ProjectConnections { connections: project.connections.clone(), secrets: secrets.clone() };
            (Arc::new(ReqwestTransport::new()), Arc::new(connections))
        }
        Some(rehearsal) => {
            let made = Arc::new(cast(&root, &project, &secrets, &rehearsal, &system)?);
            let http: Arc<dyn Transport> = match &rehearsal.url {
                None => {
                    world = Some(made.clone());
                    Arc::new(Here(made.clone()))
                }
                Some(url) => {
                    let there = There::connect(url, made.clone()).await.map_err(Fault::Usage)?;
                    store.enter(there.id()).await.context("entering the sandbox")?;
                    Arc::new(there)
                }
            };
            (http, Arc::new(SandboxConnections(made)))
        }
    };
    let custody = Custody { store: store.clone(), http: http.clone(), system: system.clone() };
    let library = Arc::new(Library::open(&root));
    let prices = Prices::open(&root).map_err(|Faulty { diagnostics, sources }| Fault::Invalid {
        diagnostics,
        sources,
        files: 1,
    })?;
    let runtime = Runtime::new(connections).with_library(library).with_custody(custody).with_prices(prices);
    let runtime = runtime.with_purse(Purse::new(&project.spend));
    let runtime = Arc::new(runtime);
    let live = Live::default();
    let parts = Parts {
        system,
        store,
        http,
        access,
        secrets,
        owner: owner(),
        owner_is_gone,
        send_window: Duration::from_secs(10),
        services: Services::default().with(runtime.clone()).with(Arc::new(live.clone())),
        probe: Probe::default(),
        tape: Deck::default(),
    };
    let engine = engine(parts, &project);
    Ok(App { root, project, registry, engine, runtime, live, sandbox: world, clock })
}

fn engine(parts: Parts, project: &Project) -> Engine {
    match project.most_steps.and_then(|steps| usize::try_from(steps).ok()) {
        Some(steps) => Engine::limited(parts, steps),
        None => Engine::new(parts),
    }
}

/// Makes clock and randomness. Processes on several machines agree on the store's time: what one has put off, another goes
/// on with.
async fn system(store: &Store) -> Result<(System, Option<Arc<AgreedClock>>), Fault> {
    let mut system = System::real();
    // Machines whose clocks differ, for tests; no part of what is released.
    if cfg!(debug_assertions)
        && let Some(text) = environment("PIPEWRIGHT_TEST_CLOCK_WRONG_BY")
    {
        let seconds: i64 = text.parse().context("reading PIPEWRIGHT_TEST_CLOCK_WRONG_BY")?;
        system.clock = Arc::new(SystemClock::wrong_by(seconds.saturating_mul(1_000_000)));
    }
    if !store.is_shared() {
        return Ok((system, None));
    }
    let agreed = Arc::new(AgreedClock::new(system.clock.clone()));
    presence::agree(store, &agreed).await.context("asking the store for the time")?;
    system.clock = agreed.clone();
    Ok((system, Some(agreed)))
}

impl App {
    /// Has a recorder hear what the runs of this process are told, and chance drawn from a seed that it knows.
    #[must_use]
    pub fn recorded(self) -> (Self, Arc<Recorder>) {
        let mut parts = self.engine.parts().clone();
        let seed = u64::try_from(parts.system.random.bits() >> 64).unwrap_or_default();
        parts.system.random = Random::seeded(seed);
        let (clock, secrets) = (parts.system.clock.clone(), parts.secrets.clone());
        let recorder = Arc::new(Recorder::new(clock, secrets, seed, parts.access.rehearsal));
        parts.tape = Deck::new(recorder.clone());
        (Self { engine: engine(parts, &self.project), ..self }, recorder)
    }

    /// Tells the daemons of the project that something was written for them. Returns whether there is one that executes
    /// runs.
    ///
    /// # Errors
    /// The store's.
    pub async fn ring(&self) -> Result<bool, Fault> {
        let here = self.ring_now();
        let store = &self.engine.parts().store;
        if !store.is_shared() {
            return Ok(here);
        }
        store.announced().await;
        Ok(self.engine.has_workers().await?)
    }

    /// Tells the daemons of the project that something was written for them, and does not wait until those on other machines
    /// know of it. Returns whether one in this folder hears it.
    #[must_use]
    pub fn ring_now(&self) -> bool {
        self.engine.parts().store.announce();
        crate::daemon::bell::ring(&self.root, self.engine.parts().access.rehearsal)
    }

    /// Says what a daemon of this process is, for others that share its store.
    #[must_use]
    pub fn presence(&self, roles: &[Role]) -> Presence {
        Presence {
            id: self.engine.parts().owner.clone(),
            host: host(),
            pid: std::process::id(),
            roles: roles.iter().map(|role| role.name().to_owned()).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Links a connection of the project file with the manifest that there is now.
    ///
    /// # Errors
    /// There is no such connection, its connector is missing or faulty, or a secret of it is.
    pub fn link(&self, name: &str) -> Result<Link, Fault> {
        let known = &self.project.connections;
        let Some(found) = known.iter().find(|connection| connection.name == name) else {
            let near = did_you_mean(name, known.iter().map(|connection| connection.name.as_str()));
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(Fault::Usage(format!("the project file has no connection `{name}`{near}")));
        };
        let manifest = match Library::open(&self.root).get(&found.connector) {
            Loaded::Manifest(manifest) => manifest,
            Loaded::Faulty { diagnostics, sources } => return Err(Fault::Invalid { diagnostics, sources, files: 1 }),
            Loaded::Missing => {
                return Err(Fault::Usage(format!("connection `{name}`: there is no connector `{}`", found.connector)));
            }
        };
        self.runtime.link(&manifest, name).map_err(|failure| Fault::Other(anyhow::anyhow!(failure.message)))
    }
}

/// Makes the sandbox of a project: a stand-in for each of its connections, and for every connector beside.
///
/// # Errors
/// A setting of a connection that has no value.
pub async fn sandbox(root: &Path, project: &Project, rehearsal: &Rehearsal) -> Result<World, Fault> {
    let secrets = Secrets::load(&[Source::Sandbox], None).await.context("reading the secrets")?;
    cast(root, project, &Arc::new(secrets), rehearsal, &System::real())
}

fn cast(
    root: &Path,
    project: &Project,
    secrets: &Arc<Secrets>,
    rehearsal: &Rehearsal,
    system: &System,
) -> Result<World, Fault> {
    let scope = settings_scope(secrets.clone());
    let wanted = wanted(&project.connections, &scope).map_err(Fault::Usage)?;
    let seed = rehearsal.seed.unwrap_or_else(|| u64::try_from(system.random.bits() >> 64).unwrap_or_default());
    let faults = sandbox::Faults::new(rehearsal.faults.iter().cloned());
    Ok(World::new(Library::open(root), wanted, system.clone(), faults, seed))
}

/// Reads the key that seals what a rehearsal keeps; makes it where there is none.
fn sandbox_key(root: &Path) -> Result<Option<MasterKey>, Fault> {
    let path = root.join(SANDBOX_KEY);
    if !path.exists() {
        std::fs::create_dir_all(root.join(".pipewright"))?;
        crate::secrets::create_master_key_file(&path).context("making the sandbox's key")?;
    }
    MasterKey::from_file(&path).context("reading the sandbox's key").map_err(Fault::Other)
}

/// Makes the scope of a connection's expressions: secrets, and nothing else.
fn settings_scope(secrets: Arc<Secrets>) -> Scope {
    // No setting depends on the time.
    Scope {
        lookup: Arc::new(Settings(secrets)),
        globals: Arc::default(),
        locals: Vec::new(),
        now: crate::model::Timestamp(0),
    }
}

/// Opens the project's store for reading; nothing when it is not there yet or cannot be opened.
pub async fn open_to_read(root: &Path) -> Option<Store> {
    let project = Catalog::open(root, Registry::default()).project().ok()?;
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    Store::open(&store_url(root, project.store.as_deref()), options).await.ok()
}

/// Opens the store of a project's rehearsals for reading; nothing when it is not there yet or cannot be opened.
pub async fn open_to_read_rehearsals(root: &Path) -> Option<Store> {
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    Store::open(&format!("sqlite://{}", root.join(SANDBOX_STORE).display()), options).await.ok()
}

fn store_url(root: &Path, stated: Option<&str>) -> String {
    let url = stated.unwrap_or("sqlite://.pipewright/state.db");
    match url.strip_prefix("sqlite://") {
        Some(path) if Path::new(path).is_relative() => format!("sqlite://{}", root.join(path).display()),
        _ => url.to_owned(),
    }
}

fn sources(root: &Path, project: &Project) -> Vec<Source> {
    let source = |place: &SecretPlace| match place {
        SecretPlace::Environment => Source::Environment,
        SecretPlace::EnvFile(path) => Source::EnvFile(root.join(path)),
        SecretPlace::Directory(path) => Source::Directory(root.join(path)),
        SecretPlace::Store => Source::Store,
    };
    project.secrets.iter().map(source).collect()
}

/// The connections of a project; their secrets are read when they are first used.
#[derive(Debug)]
struct ProjectConnections {
    connections: Vec<ProjectConnection>,
    secrets: Arc<Secrets>,
}

impl Connections for ProjectConnections {
    fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
        let nothing = || Connection::without_settings(name, manifest);
        let Some(found) = self.connections.iter().find(|connection| connection.name == name) else {
            // A system that wants neither settings nor credentials needs no connection.
            return if name == &*manifest.name { nothing() } else { Err(format!("there is no connection `{name}`")) };
        };
        if found.connector != *manifest.name {
            return Err(format!("connection `{name}` is of connector `{}`, not `{}`", found.connector, manifest.name));
        }
        let scope = settings_scope(self.secrets.clone());
        let evaluated = |tree: &TemplateTree, what: &str| {
            tree.eval(&scope).map_err(|error| format!("connection `{name}`, {what}: {}", error.message))
        };
        let settings = evaluated(&found.settings, "its settings")?;
        let auth = evaluated(&found.auth, "`auth`")?;
        Connection::make(name, manifest, settings, &auth, found.private)
    }

    fn connector(&self, name: &str) -> Option<Arc<str>> {
        let found = self.connections.iter().find(|connection| connection.name == name)?;
        Some(found.connector.as_str().into())
    }
}

/// What the settings of a connection can read.
#[derive(Debug)]
struct Settings(Arc<Secrets>);

impl Lookup for Settings {
    fn step(&self, _: &str) -> Option<StepView> {
        None
    }

    fn secret(&self, name: &str) -> Result<Value, String> {
        SecretSource::get(&*self.0, name)
    }
}

/// Names this process: its number and what the number is unique within, so that another process that sees the same
/// numbers can tell whether it still exists. Where that is not known, a name that nobody else has.
fn owner() -> String {
    let space = process_space().unwrap_or_else(|| format!("{:032x}", System::real().random.bits()));
    format!("{}@{space}", std::process::id())
}

/// Returns the machine's name, for people.
fn host() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = environment("COMPUTERNAME").unwrap_or_default();
    name
}

/// Names what process numbers are unique within: the boot of the machine, and the container.
fn process_space() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let container = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{}/{}", boot.trim(), container.display()))
}

/// Tells whether a process certainly no longer exists. Of other machines and containers nothing is certain.
fn owner_is_gone(owner: &str) -> bool {
    let Some((process, space)) = owner.split_once('@') else { return false };
    let Ok(process) = process.parse::<u32>() else { return false };
    process_space().is_some_and(|own| own == space) && !process_exists(process)
}

/// Asks the kernel, not `/proc`: there a service may not see the processes of others.
#[cfg(unix)]
fn process_exists(process: u32) -> bool {
    let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    process.is_some_and(|process| {
        let asked = rustix::process::test_kill_process(process);
        asked != Err(rustix::io::Errno::SRCH)
    })
}

#[cfg(not(unix))]
fn process_exists(_: u32) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_of_the_same_space_is_known_to_be_gone() {
        let own = owner();
        assert!(!owner_is_gone(&own), "{own} is this process");
        let (_, space) = own.split_once('@').unwrap();
        if process_space().is_none() {
            return;
        }
        // No process has a number as large.
        assert!(owner_is_gone(&format!("4294967295@{space}")));
        assert!(!owner_is_gone(&format!("4294967295@{space}0")));
        assert!(!owner_is_gone("4294967295@"));
    }
}
