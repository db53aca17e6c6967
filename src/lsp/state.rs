//! What the server holds: open texts, and the projects that they belong to.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use lsp_types::TextDocumentContentChangeEvent;
use lsp_types::Uri;

use super::check::Done;
use super::check::Job;
use super::check::Latest;
use super::position::Encoding;
use super::position::Lines;
use super::position::path_of;
use super::schema::Schemas;
use crate::app;
use crate::daemon::reload::Ground;
use crate::daemon::reload::Scanner;
use crate::diag::Diagnostic;
use crate::format::Kind;
use crate::pipeline::File;
use crate::pipeline::Snapshot;
use crate::system::System;
use crate::yaml;

/// All that the server holds.
#[derive(Debug)]
pub(super) struct State {
    pub(super) encoding: Encoding,
    pub(super) documents: HashMap<String, Document>,
    /// By their folders.
    pub(super) projects: BTreeMap<PathBuf, Project>,
    pub(super) schemas: Schemas,
}

/// An open text.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) uri: Uri,
    /// Nothing for a text that is no file yet.
    pub(super) path: Option<PathBuf>,
    pub(super) version: i32,
    pub(super) text: Arc<str>,
    /// The last text that was YAML.
    pub(super) good: Arc<str>,
    pub(super) root: Option<PathBuf>,
}

/// A project.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) root: PathBuf,
    scanner: Scanner,
    disk: Snapshot,
    /// The files as they are: open texts over the disk.
    pub(super) files: Arc<Snapshot>,
    /// Whether something has changed since the last check began.
    pub(super) changed: bool,
    pub(super) checking: bool,
    pub(super) latest: Option<Arc<Latest>>,
    pub(super) diagnostics: BTreeMap<PathBuf, Vec<Diagnostic>>,
    /// The files for which the editor shows something, with what.
    pub(super) published: BTreeMap<PathBuf, Vec<Diagnostic>>,
}

impl State {
    pub(super) fn new(encoding: Encoding) -> Self {
        Self { encoding, documents: HashMap::new(), projects: BTreeMap::new(), schemas: Schemas::default() }
    }

    /// Takes the projects of the editor's folders.
    pub(super) fn folder(&mut self, folder: &Path) {
        let root = app::find_root(None, folder);
        if is_project(&root) {
            self.project(&root);
        }
    }

    fn project(&mut self, root: &Path) -> &mut Project {
        self.projects.entry(root.to_owned()).or_insert_with(|| Project::open(root))
    }

    pub(super) fn opened(&mut self, uri: Uri, version: i32, text: &str) {
        let path = path_of(&uri);
        let root = path.as_deref().and_then(Path::parent).map(|folder| app::find_root(None, folder));
        let text: Arc<str> = text.into();
        let key = uri.as_str().to_owned();
        let document = Document { uri, path, version, good: text.clone(), text, root: root.clone() };
        self.documents.insert(key, document);
        if let Some(root) = root {
            self.project(&root);
            self.overlay(&root);
        }
    }

    /// Applies edits. A version that is older than what is there comes from a confused editor; the text wins.
    pub(super) fn edited(&mut self, uri: &Uri, version: i32, changes: &[TextDocumentContentChangeEvent]) {
        let encoding = self.encoding;
        let Some(document) = self.documents.get_mut(uri.as_str()) else { return };
        let mut text = document.text.to_string();
        for change in changes {
            match change.range {
                None => text.clone_from(&change.text),
                Some(range) => {
                    let lines = Lines::new(&text, encoding);
                    let (start, end) = (lines.offset(range.start), lines.offset(range.end));
                    text.replace_range(start.min(end)..end.max(start), &change.text);
                }
            }
        }
        document.version = version;
        document.text = text.into();
        if yaml::parse(&"".into(), &document.text).0.is_some() {
            document.good = document.text.clone();
        }
        if let Some(root) = document.root.clone() {
            self.overlay(&root);
        }
    }

    pub(super) fn closed(&mut self, uri: &Uri) {
        let Some(document) = self.documents.remove(uri.as_str()) else { return };
        if let Some(root) = document.root {
            self.overlay(&root);
        }
    }

    /// Lays the open texts over a project's files.
    fn overlay(&mut self, root: &Path) {
        let Some(project) = self.projects.get_mut(root) else { return };
        let mut files = project.disk.clone();
        for document in self.documents.values().filter(|document| document.root.as_deref() == Some(root)) {
            if let Some(path) = &document.path {
                let before = files.get(path).map(|file| file.link).unwrap_or_default();
                let file = File { link: before, ..File::new(document.text.as_bytes()) };
                files.insert(path.clone(), file);
            }
        }
        if project.latest.is_none() || !files.is_same(&project.files) {
            project.changed = true;
        }
        project.files = Arc::new(files);
    }

    /// Looks at the disk again.
    pub(super) fn looked(&mut self) {
        for root in self.projects.keys().cloned().collect::<Vec<_>>() {
            if let Some(project) = self.projects.get_mut(&root) {
                project.scan();
            }
            self.overlay(&root);
        }
    }

    /// Makes the jobs that are due.
    pub(super) fn jobs(&mut self) -> Vec<Job> {
        let mut jobs = Vec::new();
        for project in self.projects.values_mut().filter(|project| project.changed && !project.checking) {
            (project.changed, project.checking) = (false, true);
            let open = self.documents.values().filter(|it| it.root.as_deref() == Some(&*project.root));
            let versions: BTreeMap<PathBuf, i32> = open.filter_map(|it| Some((it.path.clone()?, it.version))).collect();
            let elsewhere = versions.keys().filter(|path| is_elsewhere(project, path)).cloned().collect();
            jobs.push(Job {
                ground: Ground { root: project.root.clone(), can_seal: can_seal(&project.root) },
                files: project.files.clone(),
                elsewhere,
                before: project.latest.clone(),
                versions,
            });
        }
        jobs
    }

    /// Takes what a check found; tells of which files the editor must be told.
    pub(super) fn checked(&mut self, done: Done) -> Option<&mut Project> {
        let project = self.projects.get_mut(&done.root)?;
        project.checking = false;
        project.latest = Some(done.latest);
        project.diagnostics = done.diagnostics;
        if project.scanner.ask(done.asked) {
            project.scan();
            let root = project.root.clone();
            self.overlay(&root);
        }
        self.projects.get_mut(&done.root)
    }

    /// Tells whether a text is ours to speak of: other systems have YAML, too.
    pub(super) fn is_ours(&self, document: &Document) -> bool {
        let project = document.root.as_ref().and_then(|root| self.projects.get(root));
        let (Some(path), Some(project)) = (&document.path, project) else { return true };
        let own =
            ["pipelines", "connectors", "pipewright.yaml"].iter().any(|it| path.starts_with(project.root.join(it)));
        let beside = || !crate::pipeline::is_pipeline(path) && is_project(&project.root);
        own || beside() || is_elsewhere(project, path) || Kind::of(path, &document.good) == Kind::Connector
    }

    /// Returns the open text of a file.
    pub(super) fn document_of(&self, path: &Path) -> Option<&Document> {
        self.documents.values().find(|document| document.path.as_deref() == Some(path))
    }
}

impl Project {
    fn open(root: &Path) -> Self {
        let mut project = Self {
            root: root.to_owned(),
            scanner: Scanner::new(root, [], System::real()),
            disk: Snapshot::default(),
            files: Arc::default(),
            changed: true,
            checking: false,
            latest: None,
            diagnostics: BTreeMap::new(),
            published: BTreeMap::new(),
        };
        project.scan();
        project.files = Arc::new(project.disk.clone());
        project
    }

    fn scan(&mut self) {
        self.disk = self.scanner.scan().snapshot;
    }

    /// Returns a file's text as it is now.
    pub(super) fn text(&self, path: &Path) -> Option<&str> {
        text_in(&self.files, path)
    }

    /// Lists the pipelines of the project, and what else is open of that kind.
    pub(super) fn pipelines(&self) -> impl Iterator<Item = (&Path, &str)> {
        let all = self.files.iter().filter(|(path, _)| crate::pipeline::is_pipeline(path));
        all.filter_map(|(path, file)| {
            let text = std::str::from_utf8(file.content.as_deref().ok()?).ok()?;
            (Kind::of(path, text) == Kind::Pipeline && !path.starts_with(self.root.join("connectors")))
                .then_some((path, text))
        })
    }
}

pub(super) fn text_in<'f>(files: &'f Snapshot, path: &Path) -> Option<&'f str> {
    std::str::from_utf8(files.get(path)?.content.as_deref().ok()?).ok()
}

/// Tells whether a folder is a project, and not only where a file lies.
fn is_project(root: &Path) -> bool {
    root.join("pipewright.yaml").is_file() || root.join("pipelines").is_dir()
}

/// Tells whether an open file is a pipeline that lies elsewhere than the project's. What is not certainly ours is left
/// alone: other systems have files with steps, too.
fn is_elsewhere(project: &Project, path: &Path) -> bool {
    let own = ["pipelines", "connectors"].iter().any(|folder| path.starts_with(project.root.join(folder)));
    let Some(text) = project.text(path).filter(|_| !own && crate::pipeline::is_pipeline(path)) else { return false };
    let says = text.lines().take(20).any(|line| line.contains("pipeline.schema.json"));
    Kind::of(path, text) == Kind::Pipeline && (says || is_project(&project.root))
}

fn can_seal(root: &Path) -> bool {
    // A key that cannot be read is told where it is needed.
    app::master_key(root).map_or(true, |key| key.is_some())
}

/// Lists the files of either of two sets of diagnostics.
pub(super) fn either<'d>(
    one: &'d BTreeMap<PathBuf, Vec<Diagnostic>>,
    other: &'d BTreeMap<PathBuf, Vec<Diagnostic>>,
) -> BTreeSet<&'d PathBuf> {
    one.keys().chain(other.keys()).collect()
}
