//! What all cases of a project share: its settings, its manifests, its people.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::case::Case;
use crate::connector::library::Library;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::Access;
use crate::pipeline::Person;
use crate::pipeline::Project;
use crate::sandbox::cast;
use crate::sandbox::fault::Faults;
use crate::sandbox::world::Plans;
use crate::sandbox::world::Wanted;
use crate::sandbox::world::World;
use crate::secrets::MasterKey;
use crate::secrets::Secrets;
use crate::secrets::Source;
use crate::store::Sealer;
use crate::system::System;
use crate::template::Scope;

/// Seals the secrets of stores that live in memory, as long as a case lasts.
const KEY: &str = "cGlwZXdyaWdodC10ZXN0LWNhc2Uta2V5LW5vdC1yZWE=";

/// What all cases of a project share. Cheap to share between threads.
#[derive(Debug)]
pub struct Stage {
    pub root: PathBuf,
    pub project: Project,
    plans: Arc<Plans>,
    pub(super) library: Arc<Library>,
    pub(super) sealer: Arc<dyn Sealer>,
    /// Where cases put files, one folder each.
    scratch: PathBuf,
    counted: AtomicU64,
}

impl Stage {
    /// Makes the stage of a project; `library` gives the manifests of its connectors.
    ///
    /// # Errors
    /// Nothing that a user could have done wrong.
    pub fn new(root: &Path, project: Project, library: &Arc<Library>) -> Result<Self, String> {
        let key = MasterKey::from_base64(KEY).map_err(|error| error.to_string())?;
        let own = format!("pipewright-test-{}-{:032x}", std::process::id(), System::real().random.bits());
        Ok(Self {
            root: root.to_owned(),
            project,
            plans: Arc::new(Plans::new(library.clone())),
            library: library.clone(),
            sealer: Arc::new(key),
            scratch: std::env::temp_dir().join(own),
            counted: AtomicU64::new(0),
        })
    }

    /// Names a folder that no other case has.
    pub(super) fn scratch(&self) -> PathBuf {
        self.scratch.join(self.counted.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// What a case may do: nothing beyond the sandbox.
    pub(super) fn access(&self) -> Access {
        Access {
            root: self.root.clone(),
            files_outside: self.project.files_outside,
            shell: false,
            databases: self.project.databases.clone(),
            rehearsal: true,
        }
    }

    /// Finds somebody by name; one whom the project does not know has no roles.
    pub(super) fn person(&self, name: &str) -> Person {
        let known = self.project.people.iter().find(|person| person.name == name).cloned();
        known.unwrap_or_else(|| Person { name: name.to_owned(), roles: Vec::new() })
    }

    /// Makes the secrets of a case: those that it gives, and else such as say their names.
    ///
    /// # Errors
    /// The sources'.
    pub(super) async fn secrets(&self, given: &BTreeMap<String, String>) -> Result<Arc<Secrets>, String> {
        let sources = [Source::Given(given.clone()), Source::Sandbox];
        Secrets::load(&sources, None).await.map(Arc::new).map_err(|error| error.to_string())
    }

    /// Makes the sandbox of a case, empty but for what its manifests say.
    ///
    /// # Errors
    /// A setting of a connection that has no value.
    pub(super) fn world(
        &self,
        case: &Case,
        secrets: &Arc<Secrets>,
        system: System,
        faults: Faults,
    ) -> Result<World, String> {
        let scope = Scope {
            lookup: secrets.clone(),
            globals: Arc::default(),
            locals: Vec::new(),
            // No setting depends on the time.
            now: Timestamp(0),
        };
        let mut wanted = cast::wanted(&self.project.connections, &scope)?;
        for (name, settings, _) in &case.given.connections {
            self.overlay(&mut wanted, name, settings);
        }
        Ok(World::of(self.plans.clone(), wanted, system, faults, case.given.seed))
    }

    fn overlay(&self, wanted: &mut Vec<Wanted>, name: &Arc<str>, settings: &Value) {
        let laid = |under: &Value| {
            let mut map: Map = under.as_map().cloned().unwrap_or_default();
            let over = settings.as_map().into_iter().flatten().filter(|(key, _)| &***key != "connector");
            map.extend(over.map(|(key, value)| (key.clone(), value.clone())));
            Value::from(map)
        };
        match wanted.iter_mut().find(|wanted| wanted.connection == *name) {
            Some(known) => known.settings = laid(&known.settings),
            None => {
                let connector =
                    settings.get("connector").and_then(Value::as_str).map_or_else(|| name.clone(), Arc::from);
                let settings = laid(&Value::Null);
                wanted.push(Wanted { connection: name.clone(), connector, settings, kind: None, flow: None });
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Only there where a case wrote a file.
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}
