//! The manifests that there are: those in the binary, and those of the project, which win.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use super::manifest;
use super::manifest::Manifest;
use super::operation::OperationNode;
use super::prices::Faulty;
use super::prices::Prices;
use crate::diag::Diagnostic;
use crate::diag::Severity;
use crate::diag::Sources;
use crate::model::Value;
use crate::node::Found;
use crate::node::Node;
use crate::node::Operations;
use crate::node::Whole;

/// Embeds the manifests of `connectors/`; a test sees that none is forgotten.
macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        /// The manifests in the binary: name and text.
        pub const BUILT_IN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../connectors/", $name, ".yaml")))),*];
    };
}

built_in![
    "anthropic",
    "cohere",
    "discord",
    "facebook",
    "instagram",
    "linkedin",
    "local",
    "odoo",
    "ollama",
    "openai",
    "sap",
    "x",
    "youtube"
];

/// Finds manifests by name; each is read when it is first named.
#[derive(Debug, Default)]
pub struct Library {
    own: Own,
    loaded: Mutex<HashMap<String, Loaded>>,
    /// The texts that a version keeps, by connector: file and text.
    kept: HashMap<String, (Arc<str>, Arc<str>)>,
}

/// Manifests by the names of their connectors: the file as the user would write it, and its text.
pub type Texts = BTreeMap<String, (Arc<str>, Arc<str>)>;

/// The project's own connectors.
#[derive(Clone, Debug, Default)]
enum Own {
    #[default]
    None,
    Folder(PathBuf),
    /// Files and texts by name, as they were at one moment.
    Texts(Arc<Texts>),
}

/// A manifest, or why there is none.
#[derive(Clone, Debug)]
pub enum Loaded {
    Manifest(Arc<Manifest>),
    Faulty { diagnostics: Vec<Diagnostic>, sources: Sources },
    Missing,
}

/// Where a manifest comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    BuiltIn,
    Project,
    /// The project's, of a name that is in the binary too.
    Override,
}

impl Library {
    /// Opens the manifests of a project; nothing is read yet.
    #[must_use]
    pub fn open(root: &Path) -> Self {
        Self { own: Own::Folder(root.join("connectors")), ..Self::default() }
    }

    /// Makes the library of a project whose own manifests are these.
    #[must_use]
    pub fn of_texts(own: Texts) -> Self {
        Self { own: Own::Texts(Arc::new(own)), ..Self::default() }
    }

    /// Returns a manifest by its name.
    pub fn get(&self, name: &str) -> Loaded {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = loaded.get(name) {
            return known.clone();
        }
        let found = self.load(name);
        loaded.insert(name.to_owned(), found.clone());
        found
    }

    /// Returns a manifest as its file is now, which may have been written since it was first asked for.
    pub fn current(&self, name: &str) -> Loaded {
        let found = self.get(name);
        if !matches!(self.own, Own::Folder(_)) {
            return found;
        }
        let text = self.path(name).and_then(|path| std::fs::read_to_string(path).ok());
        let built_in = BUILT_IN.iter().find(|(own, _)| *own == name).filter(|_| text.is_none());
        let is_current = match (&found, &text, built_in) {
            (Loaded::Manifest(manifest), Some(text), _) => *manifest.source == **text,
            (Loaded::Manifest(manifest), None, Some((_, text))) => *manifest.source == *without_examples(text),
            (Loaded::Missing, None, None) => true,
            _ => false,
        };
        if is_current {
            return found;
        }
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.get(name)
    }

    fn load(&self, name: &str) -> Loaded {
        // A name is a plain word: it cannot lead out of the folder.
        if !name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')) {
            return Loaded::Missing;
        }
        if let Some((file, text)) = self.kept.get(name) {
            return read(file, text);
        }
        if let Own::Texts(texts) = &self.own
            && let Some((file, text)) = texts.get(name)
        {
            return read(file, text);
        }
        if let Some(path) = self.path(name) {
            let file: Arc<str> = shown(&path).into();
            return match std::fs::read_to_string(&path) {
                Ok(text) => read(&file, &text.into()),
                Err(error) => {
                    let start = crate::diag::Position { line: 1, column: 1, offset: 0 };
                    let span = crate::diag::Span { file, start, end: start };
                    let message = format!("the file cannot be read: {error}");
                    let diagnostics = vec![Diagnostic::error(crate::diag::Code::Unreadable, span, message)];
                    Loaded::Faulty { diagnostics, sources: Sources::default() }
                }
            };
        }
        match BUILT_IN.iter().find(|(own, _)| *own == name) {
            // A run has no use for examples and stand-ins, which are most of the text.
            Some((_, text)) => read(&format!("connectors/{name}.yaml").into(), &without_examples(text).into()),
            None => Loaded::Missing,
        }
    }

    /// Returns a manifest with its examples and its stand-in; `get` leaves out those of the ones in the binary.
    pub fn whole(&self, name: &str) -> Loaded {
        match BUILT_IN.iter().find(|(own, _)| *own == name) {
            Some((_, text)) if !self.is_own(name) => read(&format!("connectors/{name}.yaml").into(), &(*text).into()),
            _ => self.get(name),
        }
    }

    fn is_own(&self, name: &str) -> bool {
        match &self.own {
            Own::Texts(texts) => texts.contains_key(name),
            _ => self.path(name).is_some(),
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        let Own::Folder(folder) = &self.own else { return None };
        ["yaml", "yml"].into_iter().map(|ending| folder.join(format!("{name}.{ending}"))).find(|path| path.is_file())
    }

    /// Lists all names with where they come from, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<(String, Origin)> {
        let mut names: BTreeMap<String, Origin> =
            BUILT_IN.iter().map(|(name, _)| ((*name).to_owned(), Origin::BuiltIn)).collect();
        for own in self.own_names() {
            let origin = if names.contains_key(&own) { Origin::Override } else { Origin::Project };
            names.insert(own, origin);
        }
        names.into_iter().collect()
    }

    fn own_names(&self) -> BTreeSet<String> {
        let folder = match &self.own {
            Own::None => return BTreeSet::new(),
            Own::Texts(texts) => return texts.keys().cloned().collect(),
            Own::Folder(folder) => folder,
        };
        let paths = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        paths.filter_map(|path| name_of(&path).map(str::to_owned)).collect()
    }
}

/// Returns the name of the connector whose manifest a file is.
#[must_use]
pub fn name_of(path: &Path) -> Option<&str> {
    let is_yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_yaml)
}

impl Operations for Library {
    fn find(&self, name: &str) -> Found {
        let Some((connector, wanted)) = name.split_once('.') else { return Found::NoConnector };
        match self.get(connector) {
            Loaded::Missing => Found::NoConnector,
            Loaded::Faulty { diagnostics, sources } => Found::Faulty { diagnostics, sources },
            Loaded::Manifest(manifest) => match manifest.operations.get(wanted) {
                Some(operation) if !operation.hidden => {
                    Found::Node(Arc::new(OperationNode::new(manifest.clone(), operation.clone())))
                }
                found => {
                    let known = manifest.operations.values().filter(|operation| !operation.hidden);
                    Found::NoOperation {
                        known: known.map(|operation| operation.name.to_string()).collect(),
                        hidden: found.is_some(),
                    }
                }
            },
        }
    }

    fn sibling(&self, connector: &str, operation: &str) -> Option<Arc<dyn Node>> {
        let Loaded::Manifest(manifest) = self.get(connector) else { return None };
        let operation = manifest.operations.get(operation)?.clone();
        Some(Arc::new(OperationNode::new(manifest, operation)))
    }

    fn connectors(&self) -> Vec<String> {
        self.names().into_iter().map(|(name, _)| name).collect()
    }

    fn own_connectors(&self) -> Vec<String> {
        self.own_names().into_iter().collect()
    }

    fn whole(&self, connector: &str) -> Whole {
        match self.get(connector) {
            Loaded::Missing => Whole::default(),
            Loaded::Faulty { diagnostics, sources } => Whole { diagnostics, sources, ..Whole::default() },
            Loaded::Manifest(manifest) => {
                let node = |operation: &Arc<super::manifest::Operation>| -> Arc<dyn Node> {
                    Arc::new(OperationNode::new(manifest.clone(), operation.clone()))
                };
                let mut sources = Sources::default();
                sources.insert(manifest.file.clone(), manifest.source.clone());
                Whole { operations: manifest.operations.values().map(node).collect(), diagnostics: Vec::new(), sources }
            }
        }
    }

    fn beside(&self) -> Whole {
        let Own::Folder(folder) = &self.own else { return Whole::default() };
        match folder.parent().map(Prices::open) {
            Some(Err(Faulty { diagnostics, sources })) => Whole { diagnostics, sources, ..Whole::default() },
            _ => Whole::default(),
        }
    }

    fn check_connection(&self, connector: &str, settings: &Value, auth: &Value) -> Vec<(Option<String>, String)> {
        match self.get(connector) {
            Loaded::Missing => {
                let names = self.connectors();
                let near = crate::diag::did_you_mean(connector, names.iter().map(String::as_str));
                let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                vec![(Some("connector".to_owned()), format!("there is no connector `{connector}`{near}"))]
            }
            // Its faults are told where an operation of it is used.
            Loaded::Faulty { .. } => Vec::new(),
            Loaded::Manifest(manifest) => super::connection::check(&manifest, settings, auth),
        }
    }

    fn kept(&self, connector: &str) -> Value {
        match self.get(connector) {
            Loaded::Manifest(manifest) => {
                Value::map([("file", Value::from(&*manifest.file)), ("text", Value::from(&*manifest.source))])
            }
            _ => Value::Null,
        }
    }

    fn restored(&self, kept: &Value) -> Arc<dyn Operations> {
        let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(Arc::from);
        let kept = kept
            .as_map()
            .into_iter()
            .flatten()
            .filter_map(|(name, entry)| Some((name.to_string(), (text(entry, "file")?, text(entry, "text")?))));
        Arc::new(Self { own: self.own.clone(), loaded: Mutex::default(), kept: kept.collect() })
    }
}

/// Blanks the lines of `examples:` and `sandbox:` blocks, and takes out what only people read; all other lines keep their
/// places.
fn without_examples(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut block = None;
    for line in text.lines() {
        let depth = line.len() - line.trim_start().len();
        let is_empty = line.trim().is_empty();
        if block.is_some_and(|start| depth <= start && !is_empty) {
            block = None;
        }
        if block.is_none() && (line.trim() == "examples:" || line.trim_start().starts_with("sandbox:")) {
            block = Some(depth);
        }
        let is_prose = depth == OF_OPERATION && PROSE.iter().any(|key| line.trim_start().starts_with(key));
        if block.is_none() && !is_prose {
            push_undescribed(line, &mut out);
        }
        out.push('\n');
    }
    out
}

/// How deep the keys of an operation stand in the manifests of the binary, and those that are for people only.
const OF_OPERATION: usize = 4;
const PROSE: &[&str] = &["title:", "description:"];

/// Writes a line without the quoted descriptions of the properties in it.
fn push_undescribed(line: &str, out: &mut String) {
    let mut rest = line;
    while let Some((before, after)) = rest.split_once(", description: \"") {
        out.push_str(before);
        let mut escaped = false;
        let end = after.char_indices().find(|(_, letter)| {
            let is_end = *letter == '"' && !escaped;
            escaped = *letter == '\\' && !escaped;
            is_end
        });
        rest = end.and_then(|(at, _)| after.get(at + 1..)).unwrap_or_default();
    }
    out.push_str(rest);
}

/// Reads a manifest's text.
#[must_use]
pub fn read(file: &Arc<str>, text: &Arc<str>) -> Loaded {
    let (manifest, diagnostics) = manifest::read(file, text);
    match manifest {
        Some(manifest) if !diagnostics.iter().any(|it| it.severity == Severity::Error) => {
            Loaded::Manifest(Arc::new(manifest))
        }
        _ => {
            let mut sources = Sources::default();
            sources.insert(file.clone(), text.clone());
            Loaded::Faulty { diagnostics, sources }
        }
    }
}

/// Returns a path as the user would write it.
#[must_use]
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short = here.as_deref().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path);
    short.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_of_the_binary_are_the_same_without_their_examples() {
        let library = Library::default();
        for (name, text) in BUILT_IN {
            let (Loaded::Manifest(short), Loaded::Manifest(whole)) = (library.get(name), library.whole(name)) else {
                panic!("{name}")
            };
            let operations = |manifest: &Manifest| -> Vec<String> {
                // What they refer to by line must be at the same place.
                let rules = |operation: &crate::connector::manifest::Operation| -> Vec<u32> {
                    operation.errors.iter().map(|rule| rule.line).collect()
                };
                let operations = manifest.operations.values();
                operations.map(|it| format!("{} {:?} {:?}", it.name, it.effect, rules(it))).collect()
            };
            assert_eq!(operations(&short), operations(&whole), "{name}");
            assert!(short.operations.values().all(|operation| operation.examples.is_empty()), "{name}");
            assert!(whole.operations.values().any(|operation| !operation.examples.is_empty()), "{name}");
            assert_eq!(short.source.lines().count(), text.lines().count());
        }
    }

    #[test]
    fn descriptions_are_taken_out_of_a_line_and_nothing_else() {
        let cut = |line: &str| {
            let mut out = String::new();
            push_undescribed(line, &mut out);
            out
        };
        let line = r#"a: { type: string, description: "say \"no, description: x\", or so", maxLength: 5 }, b: { description: c }"#;
        assert_eq!(cut(line), r#"a: { type: string, maxLength: 5 }, b: { description: c }"#);
        assert_eq!(cut("plain: {}"), "plain: {}");
    }
}
