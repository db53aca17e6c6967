//! What a check found, kept so that the next one compiles only what has changed.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::Checked;
use super::Pipeline;
use super::declared::Declared;
use super::files::ContentHash;
use crate::diag::Diagnostic;
use crate::model::Value;
use crate::model::VersionId;
use crate::node::Registry;

/// What a check of a project found, file by file.
#[derive(Debug, Default)]
pub struct Knowledge {
    pub(super) files: BTreeMap<PathBuf, Arc<Known>>,
    /// By connector of the project: its manifest, and what a check of it found.
    pub(super) connectors: BTreeMap<String, (Value, Checked)>,
    pub(super) declared: Declared,
    pub(super) can_seal: bool,
    pub(super) registry: Registry,
}

/// What is known of one pipeline's file.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) pipeline: Option<Arc<Pipeline>>,
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) uses: Uses,
}

/// What a compilation read: while this is the same, so is what it gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Uses {
    /// The pipeline's own file and those of its prompts; nothing where one was looked for and is not there.
    pub(super) files: BTreeMap<PathBuf, Option<ContentHash>>,
    /// The children by the names that call them.
    pub(super) children: BTreeMap<String, (PathBuf, VersionId)>,
}

impl Knowledge {
    /// Lists the files that a check looked for, whether they are there or not.
    #[must_use]
    pub fn asked(&self) -> BTreeSet<&Path> {
        self.files.values().flat_map(|known| known.uses.files.keys().map(PathBuf::as_path)).collect()
    }

    /// Lists the valid pipelines by their files.
    pub fn pipelines(&self) -> impl Iterator<Item = (&Path, &Arc<Pipeline>)> {
        self.files.iter().filter_map(|(path, known)| Some((path.as_path(), known.pipeline.as_ref()?)))
    }

    /// Lists the valid pipelines whose own text, or that of a prompt of theirs, is another than before.
    pub fn edited_since<'k>(&'k self, before: &'k Self) -> impl Iterator<Item = (&'k Path, &'k Arc<Pipeline>)> {
        self.pipelines().filter(|(path, _)| {
            let own = |knowledge: &Self| knowledge.files.get(*path).map(|known| known.uses.files.clone());
            own(self) != own(before)
        })
    }

    /// Counts the pipelines that were compiled, and not taken over from before.
    #[must_use]
    pub fn compiled_since(&self, before: &Self) -> usize {
        let taken = |path: &Path, known: &Arc<Known>| before.files.get(path).is_some_and(|it| Arc::ptr_eq(it, known));
        self.files.iter().filter(|(path, known)| !taken(path, known)).count()
    }
}

/// Lists what stands before the dot in the names of a pipeline's nodes: its connectors are among them.
pub(super) fn connectors(pipeline: &Pipeline) -> BTreeSet<&str> {
    let graphs = [&pipeline.main, &pipeline.on_failure, &pipeline.finally];
    let steps = graphs.into_iter().flat_map(|graph| &graph.steps);
    let nodes = steps.flat_map(|step| std::iter::once(&step.node).chain(step.undo.as_ref().map(|undo| &undo.node)));
    nodes.filter_map(|node| Some(node.name().split_once('.')?.0)).collect()
}
