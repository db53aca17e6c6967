//! The pipelines of a project: found by name or by file, compiled with what they use.

mod around;

use std::cell::OnceCell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use self::around::Elsewhere;
use super::Pipeline;
use super::Project;
use super::across;
use super::calendars::FoundCalendar;
use super::compile::Child;
use super::compile::Schemas;
use super::compile::World;
use super::compile::compile;
use super::declared::Declared;
use super::files::ContentHash;
use super::files::Files;
use super::files::plain;
use super::known;
use super::known::Knowledge;
use super::known::Known;
use super::known::Uses;
use super::project;
use super::prompts;
use super::prompts::PromptFile;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Position;
use crate::diag::Sources;
use crate::diag::Span;
use crate::diag::did_you_mean;
use crate::model::Value;
use crate::node::Operations;
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
    files: Files,
    /// What an earlier check found.
    before: Arc<Knowledge>,
    declared: OnceCell<Declared>,
    /// Whether all that is not a pipeline's own is as it was before.
    surroundings: OnceCell<bool>,
    /// By connector, whether its manifest is as it was before.
    manifests: RefCell<HashMap<String, bool>>,
    /// The project's pipelines by the names that they state.
    stated: OnceCell<HashMap<String, PathBuf>>,
    /// What has been compiled, by path.
    done: RefCell<BTreeMap<PathBuf, Arc<Known>>>,
    /// What was found about connectors of the project's own.
    connectors: RefCell<BTreeMap<String, (Value, Checked)>>,
    /// The files that are being compiled, outermost first, with what each has used so far.
    open: RefCell<Vec<(PathBuf, Uses)>>,
    sources: RefCell<Sources>,
    /// The calendars that were asked for, by name.
    calendars: RefCell<BTreeMap<String, FoundCalendar>>,
}

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
            files: Files::Disk,
            before: Arc::default(),
            declared: OnceCell::new(),
            surroundings: OnceCell::new(),
            manifests: RefCell::default(),
            stated: OnceCell::new(),
            done: RefCell::default(),
            connectors: RefCell::default(),
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

    /// Reads files from elsewhere than the disk.
    #[must_use]
    pub fn over(mut self, files: Files) -> Self {
        self.files = files;
        self
    }

    /// Takes over what an earlier check found and what has not changed since.
    #[must_use]
    pub fn knowing(mut self, before: Arc<Knowledge>) -> Self {
        self.before = before;
        self
    }

    /// Returns what was found, for the next check.
    #[must_use]
    pub fn into_knowledge(self) -> Knowledge {
        let declared = self.declared.into_inner().unwrap_or_else(|| Declared::read(&self.files, &self.root));
        Knowledge {
            files: self.done.into_inner(),
            connectors: self.connectors.into_inner(),
            declared,
            can_seal: self.can_seal,
            registry: self.registry,
        }
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
        let Some(Ok(bytes)) = self.files.read(&path) else { return Ok(Project::default()) };
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
        let loaded = self.compiled(&path);
        let mut all = loaded.diagnostics.clone();
        // Faults of children are told with their files.
        for (other, known) in self.done.borrow().iter() {
            if *other != path {
                all.extend(known.diagnostics.iter().cloned());
            }
        }
        let files = self.done.borrow().len();
        Ok(Loaded {
            pipeline: loaded.pipeline.clone(),
            diagnostics: all,
            sources: self.sources.borrow().clone(),
            files,
        })
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
        let pipelines = self.root.join("pipelines");
        if !paths.is_empty() {
            self.check_files(paths.iter().flat_map(|path| self.files.pipelines(path)).collect())
        } else if matches!(self.files, Files::Disk) && !pipelines.is_dir() {
            self.check_whole(self.files.pipelines(&self.root))
        } else {
            self.check_whole(self.files.pipelines(&pipelines))
        }
    }

    fn check_whole(&self, files: Vec<PathBuf>) -> (Vec<Arc<Pipeline>>, Checked) {
        let (pipelines, checked) = self.check_files(files);
        let Checked { mut diagnostics, mut sources, files: mut count } = checked;
        if self.files.is_file(&self.root.join(project::FILE)) {
            count += 1;
            if let Err(checked) = self.project() {
                diagnostics.splice(0..0, checked.diagnostics);
                sources.extend(&checked.sources);
            }
        }
        if let Some(beside) = self.registry.operations().map(|it| it.beside()).filter(|it| !it.diagnostics.is_empty()) {
            count += 1;
            sources.extend(&beside.sources);
            diagnostics.extend(beside.diagnostics);
        }
        // Connectors of the project's own, whether a pipeline uses them or not.
        let own = self.registry.operations().map(|it| it.own_connectors());
        for connector in own.into_iter().flatten() {
            let checked = self.check_connector(&connector);
            count += checked.files;
            sources.extend(&checked.sources);
            let new: Vec<_> = checked.diagnostics.into_iter().filter(|it| !diagnostics.contains(it)).collect();
            diagnostics.extend(new);
        }
        (pipelines, Checked { diagnostics, sources, files: count })
    }

    fn check_files(&self, files: Vec<PathBuf>) -> (Vec<Arc<Pipeline>>, Checked) {
        let (mut pipelines, mut diagnostics) = (Vec::new(), Vec::new());
        let count = files.len();
        let mut names: BTreeMap<Arc<str>, PathBuf> = BTreeMap::new();
        for file in files {
            let known = self.compiled(&file);
            diagnostics.extend(known.diagnostics.iter().cloned());
            let Some(pipeline) = &known.pipeline else { continue };
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
            pipelines.push(pipeline.clone());
        }
        let conflicts = across::conflicts(&pipelines);
        diagnostics.extend(conflicts.diagnostics);
        pipelines.retain(|pipeline| !conflicts.pipelines.contains(&pipeline.name));
        (pipelines, Checked { diagnostics, sources: self.sources.borrow().clone(), files: count })
    }

    /// Checks a connector with the steps of its operations.
    #[must_use]
    pub fn check_connector(&self, connector: &str) -> Checked {
        let Some(operations) = self.registry.operations() else { return Checked::default() };
        let manifest = operations.kept(connector);
        let before = self.before.connectors.get(connector).filter(|(text, _)| *text == manifest && !text.is_null());
        let checked = match before.filter(|_| self.before.can_seal == self.can_seal) {
            Some((_, checked)) => checked.clone(),
            None => self.checked_connector(operations, connector),
        };
        self.connectors.borrow_mut().insert(connector.to_owned(), (manifest, checked.clone()));
        checked
    }

    fn checked_connector(&self, operations: &Arc<dyn Operations>, connector: &str) -> Checked {
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
            let (_, found) = super::composite::compile(&composite, &world, vec![name], false);
            // One that others use has its faults told with theirs.
            let new: Vec<_> = found.into_iter().filter(|it| !diagnostics.contains(it)).collect();
            diagnostics.extend(new);
        }
        sources.extend(&foreign.borrow());
        Checked { diagnostics, sources, files: 1 }
    }

    fn find(&self, target: &str) -> Result<PathBuf, String> {
        let path = PathBuf::from(target);
        if self.files.is_file(&path) {
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
        let near = self.open.borrow().last().and_then(|(file, _)| file.parent().map(PathBuf::from));
        for folder in near.iter().chain(&folders) {
            let path = folder.join(format!("{name}.yaml"));
            if self.files.is_file(&path) {
                return Some(path);
            }
            self.note(|uses| {
                uses.files.insert(plain(&path), None);
            });
        }
        self.stated.get_or_init(|| self.stated_names()).get(name).cloned()
    }

    /// Reads the names that pipelines state; of two with one name the first has it.
    fn stated_names(&self) -> HashMap<String, PathBuf> {
        let mut names = HashMap::new();
        for file in self.files.pipelines(&self.root.join("pipelines")) {
            let Some(Ok(bytes)) = self.files.read(&file) else { continue };
            let Ok(text) = std::str::from_utf8(&bytes) else { continue };
            for rest in text.lines().filter_map(|line| line.strip_prefix("name:")) {
                names.entry(rest.trim().trim_matches(['"', '\'']).to_owned()).or_insert_with(|| file.clone());
            }
        }
        names
    }

    /// Lists the names of the project's pipelines, by their files.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let files = self.files.pipelines(&self.root.join("pipelines"));
        files.iter().filter_map(|file| Some(file.file_stem()?.to_string_lossy().into_owned())).collect()
    }

    fn compiled(&self, path: &Path) -> Arc<Known> {
        if let Some(done) = self.done.borrow().get(path) {
            return done.clone();
        }
        let known = match self.before.files.get(path).filter(|known| self.holds(path, known)) {
            Some(known) => {
                // Its warnings are told again, with its text.
                if let Some(Ok(bytes)) = self.files.read(path).filter(|_| !known.diagnostics.is_empty()) {
                    let text = String::from_utf8_lossy(&bytes).into();
                    self.sources.borrow_mut().insert(self.shown(path).into(), text);
                }
                known.clone()
            }
            None => Arc::new(self.compile(path)),
        };
        self.done.borrow_mut().insert(path.to_owned(), known.clone());
        known
    }

    /// Tells whether what was compiled before is what would be compiled now.
    fn holds(&self, path: &Path, known: &Known) -> bool {
        let Some(pipeline) = &known.pipeline else { return false };
        let hash = |file: &PathBuf| match self.files.read(file)? {
            Ok(bytes) => Some(ContentHash::of(&bytes)),
            Err(_) => None,
        };
        let own = known.uses.files.iter().all(|(file, before)| match &self.files {
            Files::Kept(snapshot) => snapshot.get(file).map(|file| file.hash) == *before,
            Files::Disk => hash(file) == *before,
        });
        if !own
            || !self.surroundings_hold()
            || !known::connectors(pipeline).into_iter().all(|it| self.manifest_holds(it))
        {
            return false;
        }
        self.open.borrow_mut().push((path.to_owned(), Uses::default()));
        let children = known.uses.children.iter().all(|(name, (file, version))| {
            let found = self.by_name(name).filter(|found| found == file && self.place_in_loop(found).is_none());
            let child = found.and_then(|found| self.compiled(&found).pipeline.clone());
            child.is_some_and(|child| child.version == *version)
        });
        self.open.borrow_mut().pop();
        children
    }

    fn surroundings_hold(&self) -> bool {
        *self
            .surroundings
            .get_or_init(|| self.before.can_seal == self.can_seal && self.before.declared == *self.declared())
    }

    fn manifest_holds(&self, connector: &str) -> bool {
        let (Some(now), Some(before)) = (self.registry.operations(), self.before.registry.operations()) else {
            return self.registry.operations().is_none() && self.before.registry.operations().is_none();
        };
        if Arc::ptr_eq(now, before) {
            return true;
        }
        if let Some(known) = self.manifests.borrow().get(connector) {
            return *known;
        }
        let same = now.kept(connector) == before.kept(connector);
        self.manifests.borrow_mut().insert(connector.to_owned(), same);
        same
    }

    fn declared(&self) -> &Declared {
        self.declared.get_or_init(|| Declared::read(&self.files, &self.root))
    }

    fn compile(&self, path: &Path) -> Known {
        let file: Arc<str> = self.shown(path).into();
        let faulty = |diagnostics: Vec<Diagnostic>| Known { diagnostics, ..Known::default() };
        let why = match self.files.read(path) {
            Some(Ok(bytes)) => return self.compile_bytes(path, &file, &bytes),
            Some(Err(why)) => why,
            None => "there is no such file".into(),
        };
        let start = Position { line: 1, column: 1, offset: 0 };
        let span = Span { file, start, end: start };
        faulty(vec![Diagnostic::error(Code::Unreadable, span, format!("the file cannot be read: {why}"))])
    }

    fn compile_bytes(&self, path: &Path, file: &Arc<str>, bytes: &[u8]) -> Known {
        let text: Arc<str> = String::from_utf8_lossy(bytes).into();
        self.sources.borrow_mut().insert(file.clone(), text.clone());
        if std::str::from_utf8(bytes).is_err() {
            return Known { diagnostics: yaml::parse_bytes(file, bytes).1, ..Known::default() };
        }
        let mut uses = Uses::default();
        uses.files.insert(path.to_owned(), Some(ContentHash::of(bytes)));
        let ((pipeline, diagnostics), uses) = self.within(path, uses, |world| compile(file, &text, world));
        Known { pipeline, diagnostics, uses }
    }

    /// Does work on a file with all that is known beside it, and notes what it uses.
    pub(super) fn within<T>(&self, path: &Path, uses: Uses, work: impl FnOnce(&World<'_>) -> T) -> (T, Uses) {
        self.open.borrow_mut().push((path.to_owned(), uses));
        let child = |name: &str| self.child(name);
        let prompt = |name: &str| self.prompt(path, name);
        // A file elsewhere may be meant for another project: what this one declares says nothing of it.
        let own = self.files.is_within(path, &self.root.join("pipelines"));
        let (elsewhere, around) = (Declared::default(), Elsewhere(self));
        let done = work(&World {
            registry: &self.registry,
            foreign: &self.sources,
            child: &child,
            can_seal: self.can_seal,
            schemas: &self.schemas,
            declared: if own { self.declared() } else { &elsewhere },
            around: Some(if own { self } else { &around }),
            prompt: &prompt,
        });
        let (_, uses) = self.open.borrow_mut().pop().unwrap_or_default();
        (done, uses)
    }

    /// Notes what the pipeline that is being compiled has used.
    fn note(&self, note: impl FnOnce(&mut Uses)) {
        if let Some((_, uses)) = self.open.borrow_mut().last_mut() {
            note(uses);
        }
    }

    /// Reads a file of a prompt, and keeps it for diagnostics.
    fn prompt(&self, pipeline: &Path, name: &str) -> Result<PromptFile, String> {
        let folder = pipeline.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let wanted = plain(&folder.join(name));
        let read = prompts::read(&self.files, &self.root, folder, name);
        let hash = read.as_ref().ok().map(|(_, text)| ContentHash::of(text.as_bytes()));
        self.note(|uses| {
            uses.files.insert(wanted, hash);
        });
        let (path, text) = read?;
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
        if let Some(from) = self.place_in_loop(&path) {
            let mut names: Vec<String> = self.open.borrow().iter().skip(from).map(|(file, _)| stem(file)).collect();
            names.push(stem(&path));
            return Child::Loop(names);
        }
        if self.open.borrow().len() >= MAX_DEPTH {
            return Child::TooDeep(MAX_DEPTH);
        }
        match &self.compiled(&path).pipeline {
            Some(pipeline) => {
                let used = (path, pipeline.version.clone());
                self.note(|uses| {
                    uses.children.insert(name.to_owned(), used);
                });
                Child::Found(pipeline.clone())
            }
            None => Child::Faulty,
        }
    }

    /// Returns where a file stands among those that are being compiled: then it ends up calling itself.
    fn place_in_loop(&self, path: &Path) -> Option<usize> {
        let real = self.files.real(path);
        self.open.borrow().iter().position(|(open, _)| self.files.real(open) == real)
    }

    /// Returns a path as the user would write it.
    fn shown(&self, path: &Path) -> String {
        let here = std::env::current_dir().ok();
        let short = here.as_deref().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path);
        let text = short.display().to_string();
        text.strip_prefix("./").unwrap_or(&text).to_owned()
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
