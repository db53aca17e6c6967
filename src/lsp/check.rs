//! Checks of a project in a thread of their own: only what has changed is compiled, as in hot reload.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::connector::library::Library;
use crate::connector::library::Texts;
use crate::daemon::reload::Ground;
use crate::daemon::reload::manifests;
use crate::diag::Diagnostic;
use crate::node::Registry;
use crate::pipeline::Catalog;
use crate::pipeline::Files;
use crate::pipeline::Knowledge;
use crate::pipeline::Snapshot;
use crate::pipeline::plain;

/// A project to be checked.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ground: Ground,
    pub(super) files: Arc<Snapshot>,
    /// Pipelines that are open and lie elsewhere than in `pipelines`.
    pub(super) elsewhere: Vec<PathBuf>,
    pub(super) before: Option<Arc<Latest>>,
    /// The versions of the texts of open files.
    pub(super) versions: BTreeMap<PathBuf, i32>,
}

/// What the newest check knows.
#[derive(Debug)]
pub(super) struct Latest {
    pub(super) knowledge: Arc<Knowledge>,
    pub(super) registry: Registry,
    manifests: Texts,
}

/// What a check found.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) root: PathBuf,
    pub(super) files: Arc<Snapshot>,
    pub(super) latest: Arc<Latest>,
    pub(super) diagnostics: BTreeMap<PathBuf, Vec<Diagnostic>>,
    /// The files that pipelines asked for.
    pub(super) asked: BTreeSet<PathBuf>,
    pub(super) versions: BTreeMap<PathBuf, i32>,
}

/// Checks a project.
pub(super) fn check(job: Job) -> Done {
    let Job { ground, files, elsewhere, before, versions } = job;
    let (manifests, unreadable) = manifests(&ground, &files);
    let registry = match before.as_deref().filter(|before| before.manifests == manifests) {
        Some(before) => before.registry.clone(),
        None => crate::nodes::registry().with_operations(Arc::new(Library::of_texts(manifests.clone()))),
    };
    if before.is_none()
        && let Some(operations) = registry.operations()
    {
        // Who asks for all operations later does not wait for their manifests.
        operations.connectors().iter().for_each(|name| drop(operations.find(&format!("{name}."))));
    }
    let known = before.map(|before| before.knowledge.clone()).unwrap_or_default();
    let catalog = Catalog::open(&ground.root, registry.clone()).over(Files::Kept(files.clone())).knowing(known);
    let catalog = if ground.can_seal { catalog } else { catalog.without_master_key() };
    let mut found = catalog.check(&[]).diagnostics;
    found.extend(unreadable);
    if !elsewhere.is_empty() {
        found.extend(catalog.check(&elsewhere).diagnostics);
    }
    let mut diagnostics: BTreeMap<PathBuf, Vec<Diagnostic>> = BTreeMap::new();
    for diagnostic in found {
        let file = diagnostics.entry(path_of(&diagnostic.span.file)).or_default();
        if !file.contains(&diagnostic) {
            file.push(diagnostic);
        }
    }
    for diagnostics in diagnostics.values_mut() {
        diagnostics.sort_by_key(|it| (it.span.start, it.span.end, it.code));
    }
    let knowledge = Arc::new(catalog.into_knowledge());
    let asked = knowledge.asked().into_iter().map(Path::to_owned).collect();
    let latest = Arc::new(Latest { knowledge, registry, manifests });
    Done { root: ground.root, files, latest, diagnostics, asked, versions }
}

/// Returns the path of a file that is shown as the user would write it.
pub(super) fn path_of(shown: &str) -> PathBuf {
    let path = Path::new(shown);
    plain(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}
