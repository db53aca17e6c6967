//! The pipelines of a project: found by name or by file, compiled with what they use.

use std::cell::OnceCell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::Pipeline;
use super::Project;
use super::calendars;
use super::calendars::FoundCalendar;
use super::compile::Child;
use super::compile::Schemas;
use super::compile::World;
use super::compile::compile;
use super::declared::Declared;
use super::project;
use super::prompts;
use super::prompts::PromptFile;
use super::triggers::Around;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Position;
use crate::diag::Sources;
use crate::diag::Span;
use crate::diag::did_you_mean;
use crate::node::Registry;
use crate::node::Whole;
use crate::yaml;

/// How deep pipelines may call one another.
const MAX_DEPTH: usize = 64;

/// The pipelines of a folder.
#[derive(Debug)]
pub struct Catalog {
    root: PathBuf,
    registry: Registry,
    schemas: Schemas,
    can_seal: bool,
    declared: OnceCell<Declared>,
    /// The folder of the project's own pipelines.
    folder: OnceCell<Option<PathBuf>>,
    /// What has been compiled, by path.
    done: RefCell<BTreeMap<PathBuf, Compiled>>,
    /// The files that are being compiled, outermost first.
    open: RefCell<Vec<PathBuf>>,
    sources: RefCell<Sources>,
    /// The calendars that were asked for, by name.
    calendars: RefCell<BTreeMap<String, FoundCalendar>>,
}

type Compiled = (Option<Arc<Pipeline>>, Vec<Diagnostic>);

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    pub diagnostics: Vec<Diagnostic>,
    pub sources: Sources,
    pub files: usize,
}

/// A pipeline that was asked for.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub pipeline: Option<Arc<Pipeline>>,
    pub diagnostics: Vec<Diagnostic>,
    pub sources: Sources,
    pub files: usize,
}

impl Catalog {
    /// Opens the catalog of a project's folder; nothing is read yet.
    #[must_use]
    pub fn open(root: &Path, registry: Registry) -> Self {
        Self {
            root: root.to_owned(),
            registry,
            schemas: Schemas::default(),
            can_seal: true,
            declared: OnceCell::new(),
            folder: OnceCell::new(),
            done: RefCell::default(),
            open: RefCell::default(),
            sources: RefCell::default(),
            calendars: RefCell::default(),
        }
    }

    /// Tells that the project has no master key: then a pipeline that would store a secret is an error.
    #[must_use]
    pub fn without_master_key(mut self) -> Self {
        self.can_seal = false;
        self
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads the project's settings.
    ///
    /// # Errors
    /// The faults of `pipewright.yaml`.
    pub fn project(&self) -> Result<Project, Checked> {
        let path = self.root.join("pipewright.yaml");
        let Ok(bytes) = std::fs::read(&path) else { return Ok(Project::default()) };
        let file: Arc<str> = self.shown(&path).into();
        let (tree, mut diagnostics) = yaml::parse_bytes(&file, &bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let only_comments = diagnostics.iter().all(|diagnostic| diagnostic.code == Code::EmptyFile);
        let project = match tree {
            Some(tree) => {
                let project = project::read(&tree, &text, &mut diagnostics);
                self.check_connections(&project, &mut diagnostics);
                project
            }
            None if only_comments => return Ok(Project::default()),
            None => Project::default(),
        };
        if diagnostics.is_empty() {
            return Ok(project);
        }
        let mut sources = Sources::default();
        sources.insert(file, text.into());
        Err(Checked { diagnostics, sources, files: 1 })
    }

    /// Holds connections against the manifests of their connectors.
    fn check_connections(&self, project: &Project, diagnostics: &mut Vec<Diagnostic>) {
        let Some(operations) = self.registry.operations() else { return };
        for connection in &project.connections {
            let (settings, auth) = &connection.literal;
            for (key, message) in operations.check_connection(&connection.connector, settings, auth) {
                let entry = key.as_deref().and_then(|key| connection.tree.entry(key));
                let span = entry.map_or(&connection.tree.span, |entry| &entry.key_span);
                let span = super::compile::first_line(span);
                let message = format!("connection `{}`: {message}", connection.name);
                diagnostics.push(
                    Diagnostic::error(Code::BadConnection, span, message).with_help(format!(
                        "`pipewright connectors show {}` tells what it takes",
                        connection.connector
                    )),
                );
            }
        }
    }

    /// Loads a pipeline by file or by name.
    ///
    /// # Errors
    /// There is none, in words.
    pub fn load(&self, target: &str) -> Result<Loaded, String> {
        let path = self.find(target)?;
        let (pipeline, diagnostics) = self.compiled(&path);
        let mut all = diagnostics;
        // Faults of children are told with their files.
        for (other, (_, diagnostics)) in self.done.borrow().iter() {
            if *other != path {
                all.extend(diagnostics.iter().cloned());
            }
        }
        let files = self.done.borrow().len();
        Ok(Loaded { pipeline, diagnostics: all, sources: self.sources.borrow().clone(), files })
    }

    /// Checks files and folders; without any, the project's pipelines and its settings.
    #[must_use]
    pub fn check(&self, paths: &[PathBuf]) -> Checked {
        self.gather(paths).1
    }

    /// Compiles the project's pipelines: those without errors, and what a check says of all.
    #[must_use]
    pub fn all(&self) -> (Vec<Arc<Pipeline>>, Checked) {
        self.gather(&[])
    }

    fn gather(&self, paths: &[PathBuf]) -> (Vec<Arc<Pipeline>>, Checked) {
        let mut files = Vec::new();
        let whole = paths.is_empty();
        let pipelines = self.root.join("pipelines");
        let default = [if pipelines.is_dir() { pipelines } else { self.root.clone() }];
        for path in if whole { &default[..] } else { paths } {
            collect(path, &mut files, 0);
        }
        let mut diagnostics = Vec::new();
        let mut count = files.len();
        let mut sources = Sources::default();
        if whole && self.root.join("pipewright.yaml").is_file() {
            count += 1;
            if let Err(checked) = self.project() {
                diagnostics.extend(checked.diagnostics);
                sources = checked.sources;
            }
        }
        let mut names: BTreeMap<Arc<str>, PathBuf> = BTreeMap::new();
        let mut pipelines = Vec::new();
        for file in files {
            let (pipeline, found) = self.compiled(&file);
            diagnostics.extend(found);
            let Some(pipeline) = pipeline else { continue };
            if let Some(first) = names.insert(pipeline.name.clone(), file.clone()) {
                let start = Position { line: 1, column: 1, offset: 0 };
                let span = Span { file: self.shown(&file).into(), start, end: start };
                let message = format!("pipeline `{}` exists already in {}", pipeline.name, self.shown(&first));
                diagnostics.push(
                    Diagnostic::error(Code::DuplicatePipeline, span, message)
                        .with_help("give one of them another `name`"),
                );
                continue;
            }
            pipelines.push(pipeline);
        }
        sources.extend(&self.sources.borrow());
        // Connectors of the project's own, whether a pipeline uses them or not.
        let own = self.registry.operations().filter(|_| whole).map(|it| it.own_connectors());
        for connector in own.into_iter().flatten() {
            let checked = self.check_connector(&connector);
            count += checked.files;
            sources.extend(&checked.sources);
            let new: Vec<_> = checked.diagnostics.into_iter().filter(|it| !diagnostics.contains(it)).collect();
            diagnostics.extend(new);
        }
        (pipelines, Checked { diagnostics, sources, files: count })
    }

    /// Checks a connector with the steps of its operations.
    #[must_use]
    pub fn check_connector(&self, connector: &str) -> Checked {
        let Some(operations) = self.registry.operations() else { return Checked::default() };
        let Whole { operations, mut diagnostics, mut sources } = operations.whole(connector);
        let (child, prompt) =
            (|_: &str| Child::Unknown { near: None }, |name: &str| Err(format!("there is no file `{name}`")));
        let (declared, foreign) = (Declared::default(), RefCell::default());
        let world = World {
            registry: &self.registry,
            foreign: &foreign,
            child: &child,
            schemas: &self.schemas,
            can_seal: self.can_seal,
            declared: &declared,
            around: None,
            prompt: &prompt,
        };
        for composite in operations.iter().filter_map(|operation| operation.composite()) {
            let name = format!("{}.{}", composite.connector, composite.operation);
            let (_, found) = super::composite::compile(&composite, &world, vec![name]);
            // One that others use has its faults told with theirs.
            let new: Vec<_> = found.into_iter().filter(|it| !diagnostics.contains(it)).collect();
            diagnostics.extend(new);
        }
        sources.extend(&foreign.borrow());
        Checked { diagnostics, sources, files: 1 }
    }

    fn find(&self, target: &str) -> Result<PathBuf, String> {
        let path = PathBuf::from(target);
        if path.is_file() {
            return Ok(path);
        }
        if target.contains('/') || target.ends_with(".yaml") || target.ends_with(".yml") {
            return Err(format!("there is no file `{target}`"));
        }
        if let Some(path) = self.by_name(target) {
            return Ok(path);
        }
        let names = self.names();
        let near = did_you_mean(target, names.iter().map(String::as_str));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Err(format!("there is no pipeline `{target}` in {}{near}", self.shown(&self.root.join("pipelines"))))
    }

    /// Finds a pipeline's file: by the file's name, else by the `name` that it states.
    fn by_name(&self, name: &str) -> Option<PathBuf> {
        let folders = [self.root.join("pipelines"), self.root.clone()];
        let near = self.open.borrow().last().and_then(|file| file.parent().map(PathBuf::from));
        for folder in near.iter().chain(&folders) {
            let path = folder.join(format!("{name}.yaml"));
            if path.is_file() {
                return Some(path);
            }
        }
        let mut files = Vec::new();
        collect(&self.root.join("pipelines"), &mut files, 0);
        files.into_iter().find(|file| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            text.lines().any(|line| {
                line.strip_prefix("name:").is_some_and(|rest| rest.trim().trim_matches(['"', '\'']) == name)
            })
        })
    }

    /// Lists the names of the project's pipelines, by their files.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut files = Vec::new();
        collect(&self.root.join("pipelines"), &mut files, 0);
        files.iter().filter_map(|file| Some(file.file_stem()?.to_string_lossy().into_owned())).collect()
    }

    fn compiled(&self, path: &Path) -> Compiled {
        if let Some(done) = self.done.borrow().get(path) {
            return done.clone();
        }
        let file: Arc<str> = self.shown(path).into();
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let start = Position { line: 1, column: 1, offset: 0 };
                let span = Span { file, start, end: start };
                return (
                    None,
                    vec![Diagnostic::error(Code::Unreadable, span, format!("the file cannot be read: {error}"))],
                );
            }
        };
        let text: Arc<str> = String::from_utf8_lossy(&bytes).into();
        self.sources.borrow_mut().insert(file.clone(), text.clone());
        if std::str::from_utf8(&bytes).is_err() {
            return (None, yaml::parse_bytes(&file, &bytes).1);
        }
        self.open.borrow_mut().push(path.to_owned());
        let child = |name: &str| self.child(name);
        let prompt = |name: &str| self.prompt(path, name);
        // A file elsewhere may be meant for another project: what this one declares says nothing of it.
        let folder = self.folder.get_or_init(|| self.root.join("pipelines").canonicalize().ok());
        let own = folder.as_ref().is_some_and(|folder| path.canonicalize().is_ok_and(|path| path.starts_with(folder)));
        let (elsewhere, around) = (Declared::default(), Elsewhere(self));
        let world = World {
            registry: &self.registry,
            foreign: &self.sources,
            child: &child,
            can_seal: self.can_seal,
            schemas: &self.schemas,
            declared: if own { self.declared.get_or_init(|| Declared::read(&self.root)) } else { &elsewhere },
            around: Some(if own { self } else { &around }),
            prompt: &prompt,
        };
        let compiled = compile(&file, &text, &world);
        self.open.borrow_mut().pop();
        self.done.borrow_mut().insert(path.to_owned(), compiled.clone());
        compiled
    }

    /// Reads a file of a prompt, and keeps it for diagnostics.
    fn prompt(&self, pipeline: &Path, name: &str) -> Result<PromptFile, String> {
        let folder = pipeline.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (path, text) = prompts::read(&self.root, folder, name)?;
        let file = PromptFile { shown: self.shown(&path).into(), text: text.into() };
        self.sources.borrow_mut().insert(file.shown.clone(), file.text.clone());
        Ok(file)
    }

    fn child(&self, name: &str) -> Child {
        let Some(path) = self.by_name(name) else {
            let names = self.names();
            return Child::Unknown { near: did_you_mean(name, names.iter().map(String::as_str)).map(str::to_owned) };
        };
        let stem =
            |path: &PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let same = |other: &PathBuf| other.canonicalize().ok() == path.canonicalize().ok();
        if let Some(from) = self.open.borrow().iter().position(same) {
            let mut names: Vec<String> = self.open.borrow().iter().skip(from).map(stem).collect();
            names.push(stem(&path));
            return Child::Loop(names);
        }
        if self.open.borrow().len() >= MAX_DEPTH {
            return Child::TooDeep(MAX_DEPTH);
        }
        match self.compiled(&path).0 {
            Some(pipeline) => Child::Found(pipeline),
            None => Child::Faulty,
        }
    }

    /// Returns a path as the user would write it.
    fn shown(&self, path: &Path) -> String {
        let here = std::env::current_dir().ok();
        let short = here.as_deref().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path);
        let text = short.display().to_string();
        text.strip_prefix("./").unwrap_or(&text).to_owned()
    }
}

impl Around for Catalog {
    fn pipeline(&self, name: &str) -> Result<(), Option<String>> {
        if self.by_name(name).is_some() {
            return Ok(());
        }
        let names = self.names();
        Err(did_you_mean(name, names.iter().map(String::as_str)).map(str::to_owned))
    }

    fn calendar(&self, name: &str) -> (FoundCalendar, Vec<Diagnostic>) {
        if let Some(found) = self.calendars.borrow().get(name) {
            return (found.clone(), Vec::new());
        }
        let shown = |path: &Path| self.shown(path);
        let (found, faults) = calendars::find(&self.root, name, &shown, &mut self.sources.borrow_mut());
        self.calendars.borrow_mut().insert(name.to_owned(), found.clone());
        (found, faults)
    }
}

/// The surroundings of a file that may be meant for another project: what is not found is not missed.
struct Elsewhere<'c>(&'c Catalog);

impl Around for Elsewhere<'_> {
    fn pipeline(&self, _name: &str) -> Result<(), Option<String>> {
        Ok(())
    }

    fn calendar(&self, name: &str) -> (FoundCalendar, Vec<Diagnostic>) {
        match self.0.calendar(name) {
            (FoundCalendar::Unknown { .. }, faults) => (FoundCalendar::Unchecked, faults),
            found => found,
        }
    }
}

/// Lists the pipeline files below a folder, in order of their paths.
fn collect(path: &Path, files: &mut Vec<PathBuf>, depth: usize) {
    if path.is_file() {
        files.push(path.to_owned());
        return;
    }
    let Ok(entries) = std::fs::read_dir(path) else { return };
    let mut entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    for entry in entries {
        let name = entry.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let pipeline = (name.ends_with(".yaml") || name.ends_with(".yml"))
            && !name.ends_with(".test.yaml")
            && name != "pipewright.yaml";
        if entry.is_dir() && !name.starts_with('.') && !(depth == 0 && name == calendars::FOLDER) && depth < 8 {
            collect(&entry, files, depth + 1);
        } else if pipeline && entry.is_file() {
            files.push(entry);
        }
    }
}

/// Compiles a text that stands alone: no children, no files.
#[must_use]
pub fn compile_text(file: &str, text: &str, registry: &Registry) -> (Option<Arc<Pipeline>>, Vec<Diagnostic>) {
    let schemas = Schemas::default();
    let child = |_: &str| Child::Unknown { near: None };
    let prompt = |name: &str| Err(format!("there is no file `{name}`"));
    let declared = Declared::default();
    let foreign = RefCell::default();
    let world = World {
        registry,
        foreign: &foreign,
        child: &child,
        schemas: &schemas,
        can_seal: true,
        declared: &declared,
        around: None,
        prompt: &prompt,
    };
    compile(&file.into(), text, &world)
}
