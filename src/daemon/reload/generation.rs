//! What is active: all files of a project at one moment, checked.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::connector::library;
use crate::connector::library::Library;
use crate::connector::library::Texts;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Position;
use crate::diag::Severity;
use crate::diag::Sources;
use crate::diag::Span;
use crate::node::Registry;
use crate::pipeline::Catalog;
use crate::pipeline::Checked;
use crate::pipeline::ContentHash;
use crate::pipeline::Files;
use crate::pipeline::Knowledge;
use crate::pipeline::Pipeline;
use crate::pipeline::Project;
use crate::pipeline::Snapshot;

/// Where a project lies, and what its check may count on.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The project's folder, absolute and without `..`.
    pub root: PathBuf,
    /// Whether secrets can be sealed: the project has a master key.
    pub can_seal: bool,
}

/// A set of files that became active together.
///
/// A set of edits is active whole or not at all: while any file has an error, the last good generation stays, with what is
/// wrong in `checked`. Where there is none yet, because the process has just started, the pipelines without errors are
/// active: a broken file does not stop the others for ever.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Grows by one whenever another set of files becomes active.
    pub number: u64,
    /// The hash of the files that it was made from.
    pub hash: ContentHash,
    pub pipelines: BTreeMap<Arc<str>, Arc<Pipeline>>,
    pub project: Arc<Project>,
    /// The nodes, and the operations of connectors as they were then.
    pub registry: Registry,
    /// What is said of the files as they are now: of this generation warnings, of one that was refused all.
    pub checked: Arc<Checked>,
    /// The hash of the files as they are now.
    pub latest: ContentHash,
    known: Arc<Latest>,
}

/// What the newest check knows, whether it was good or not.
#[derive(Debug)]
struct Latest {
    knowledge: Arc<Knowledge>,
    registry: Registry,
    manifests: Texts,
}

/// What came of a set of files.
#[derive(Debug)]
pub struct Attempt {
    pub generation: Generation,
    pub outcome: Outcome,
    /// How many pipelines were compiled; all others are as they were.
    pub compiled: usize,
}

/// What became of a set of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is active.
    Active,
    /// It has errors, and the generation before stays.
    Refused,
    /// It has errors, and as there is nothing before it, what is valid of it is active.
    InPart,
    /// It is what is active already.
    Same,
}

impl Generation {
    /// Returns the errors that keep the files as they are now from being active.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.checked.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Tells whether the files as they are now are what is active.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.errors().next().is_none()
    }

    /// Returns what the newest check knows of each file.
    #[must_use]
    pub fn knowledge(&self) -> &Arc<Knowledge> {
        &self.known.knowledge
    }
}

/// Checks a set of files, and says what is active then; only what has changed is compiled.
#[must_use]
pub fn attempt(ground: &Ground, previous: Option<&Generation>, files: &Arc<Snapshot>) -> Attempt {
    let known = previous.map(|previous| &*previous.known);
    let (manifests, mut unreadable) = manifests(ground, files);
    let registry = match known.filter(|known| known.manifests == manifests) {
        Some(known) => known.registry.clone(),
        None => crate::nodes::registry().with_operations(Arc::new(Library::of_texts(manifests.clone()))),
    };
    let before = known.map(|known| known.knowledge.clone()).unwrap_or_default();
    let catalog = Catalog::open(&ground.root, registry.clone());
    let catalog = catalog.over(Files::Kept(files.clone())).knowing(before.clone());
    let catalog = if ground.can_seal { catalog } else { catalog.without_master_key() };
    let project = catalog.project();
    let mut checked = catalog.check(&[]);
    checked.files += unreadable.len();
    checked.diagnostics.append(&mut unreadable);
    if checked.diagnostics.is_empty() {
        // Texts are kept for the diagnostics that stand in them.
        checked.sources = Sources::default();
    }
    let knowledge = catalog.into_knowledge();
    let compiled = knowledge.compiled_since(&before);

    let hash = files.hash(&ground.root);
    let bad = checked.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    let outcome = match previous {
        Some(_) if bad => Outcome::Refused,
        Some(previous) if previous.hash == hash => Outcome::Same,
        None if bad => Outcome::InPart,
        _ => Outcome::Active,
    };
    let pipelines = || pipelines(&knowledge, &ground.root);
    let (checked, latest) = (Arc::new(checked), hash);
    let generation = match (previous.cloned(), outcome) {
        (Some(previous), Outcome::Refused | Outcome::Same) => {
            let known = Arc::new(Latest { registry, manifests, knowledge: Arc::new(knowledge) });
            Generation { checked, latest, known, ..previous }
        }
        (previous, _) => Generation {
            number: previous.map_or(1, |previous| previous.number + 1),
            hash,
            // Without its settings nothing of a project can be told from what it should be.
            pipelines: if project.is_ok() { pipelines() } else { BTreeMap::new() },
            project: Arc::new(project.unwrap_or_default()),
            registry: registry.clone(),
            checked,
            latest,
            known: Arc::new(Latest { registry, manifests, knowledge: Arc::new(knowledge) }),
        },
    };
    Attempt { generation, outcome, compiled }
}

/// Lists the valid pipelines of the project; of two with one name the first is meant, as everywhere.
fn pipelines(knowledge: &Knowledge, root: &Path) -> BTreeMap<Arc<str>, Arc<Pipeline>> {
    let folder = root.join("pipelines");
    let mut named = BTreeMap::new();
    for (_, pipeline) in knowledge.pipelines().filter(|(path, _)| path.starts_with(&folder)) {
        named.entry(pipeline.name.clone()).or_insert_with(|| pipeline.clone());
    }
    let conflicts = crate::pipeline::conflicts(named.values());
    named.retain(|name, _| !conflicts.pipelines.contains(name));
    named
}

/// Returns the project's own manifests, and what is wrong with files that cannot be read.
#[must_use]
pub fn manifests(ground: &Ground, files: &Snapshot) -> (Texts, Vec<Diagnostic>) {
    let (mut manifests, mut diagnostics) = (Texts::new(), Vec::new());
    for (path, found) in files.below(&ground.root.join("connectors")) {
        let Some(name) = library::name_of(path) else { continue };
        let file: Arc<str> = library::shown(path).into();
        let text = match &found.content {
            Ok(bytes) => std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text"),
            Err(why) => Err(&**why),
        };
        match text {
            // `x.yaml` comes before `x.yml`, and wins.
            Ok(text) => drop(manifests.entry(name.to_owned()).or_insert_with(|| (file, text.into()))),
            Err(why) => {
                let start = Position { line: 1, column: 1, offset: 0 };
                let span = Span { file, start, end: start };
                let message = format!("the file cannot be read: {why}");
                diagnostics.push(Diagnostic::error(Code::Unreadable, span, message));
            }
        }
    }
    (manifests, diagnostics)
}
