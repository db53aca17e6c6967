//! What the project file declares: the names that pipelines may read of it.

use std::collections::BTreeSet;
use std::path::Path;

use super::Person;
use super::compile::Compiler;
use super::files::Files;
use super::people;
use super::project;
use super::project::SecretPlace;
use crate::diag::Code;
use crate::diag::Span;
use crate::model::Value;
use crate::yaml;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// Keys of `with:` that name a connection of the project.
const CONNECTION_KEYS: [&str; 2] = ["connection", "database"];

/// The names of the project file; nothing where they cannot be known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Declared {
    connections: Option<Vec<String>>,
    /// The connector of each connection that has one.
    connectors: Vec<(String, String)>,
    /// What each connection with a connector says of itself; null where an expression stands.
    settings: Vec<(String, Value)>,
    /// All secrets there are. Of the environment and of the store nobody knows before a run.
    secrets: Option<BTreeSet<String>>,
    files_outside: Option<bool>,
    people: Option<Vec<Person>>,
}

impl Declared {
    /// Reads the names of a project's file; faults are told elsewhere.
    pub(super) fn read(files: &Files, root: &Path) -> Self {
        let Some(text) = text(files, &root.join(project::FILE)) else {
            return Self { files_outside: Some(false), ..Self::default() };
        };
        let (Some(tree), _) = yaml::parse(&project::FILE.into(), &text) else { return Self::default() };
        if !matches!(tree.kind, TreeKind::Mapping(_)) {
            return Self::default();
        }
        let connections = match tree.get("connections") {
            Some(connections) if !matches!(connections.kind, TreeKind::Mapping(_)) => None,
            Some(connections) => Some(connections.entries().iter().map(|entry| entry.key.to_string()).collect()),
            None => Some(Vec::new()),
        };
        let entries = tree.get("connections").map(Tree::entries).unwrap_or_default();
        let connectors = entries
            .iter()
            .filter_map(|entry| Some((entry.key.to_string(), entry.value.get("connector")?.as_text()?.to_owned())));
        let settings = entries.iter().map(|entry| (entry.key.to_string(), project::settings(&entry.value)));
        let settings = settings.collect();
        let secrets = tree.get("secrets").and_then(|places| secrets(files, root, places));
        let outside = tree.get("allow").and_then(|allow| allow.get("files_outside")).and_then(Tree::as_text);
        let files_outside = Some(outside == Some("true"));
        let mut faults = Vec::new();
        let people = tree.get("people").map(|tree| people::read(tree, &mut faults)).unwrap_or_default();
        let people = faults.is_empty().then_some(people);
        Self { connections, connectors: connectors.collect(), settings, secrets, files_outside, people }
    }
}

fn text(files: &Files, path: &Path) -> Option<String> {
    String::from_utf8(files.read(path)?.ok()?.to_vec()).ok()
}

/// Lists the secrets of files and folders; nothing where another place may have more.
fn secrets(files: &Files, root: &Path, places: &Tree) -> Option<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    if places.items().is_empty() {
        return None;
    }
    for place in places.items() {
        if let Some(path) = place.get("env_file").and_then(Tree::as_text) {
            for name in names_in(&text(files, &root.join(path))?) {
                names.insert(name?.to_owned());
            }
        } else if let Some(path) = place.get("dir").and_then(Tree::as_text) {
            let folder = root.join(path);
            if !files.is_folder(&folder) {
                return None;
            }
            names.extend(files.names(&folder));
        } else {
            return None;
        }
    }
    Some(names)
}

/// Reads the names of an env file; nothing where a line is none.
fn names_in(text: &str) -> impl Iterator<Item = Option<&str>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| Some(line.strip_prefix("export ").unwrap_or(line).split_once('=')?.0.trim()))
}

/// Returns an env file's text without the values: a check reads the names only.
#[must_use]
pub fn names_only(text: &str) -> String {
    names_in(text).map(|name| name.map_or_else(|| "?\n".to_owned(), |name| format!("{name}=\n"))).collect()
}

/// Lists the places of secrets that a project file's text names.
#[must_use]
pub fn secret_places(text: &str) -> Vec<SecretPlace> {
    let (tree, _) = yaml::parse(&project::FILE.into(), text);
    let places = tree.as_ref().and_then(|tree| tree.get("secrets")).map(Tree::items).unwrap_or_default();
    places.iter().filter_map(|place| project::secret_place(place, &mut Vec::new())).collect()
}

impl Declared {
    /// Makes what a stored version knows of connections: which there were, by connector.
    pub(super) fn of_connections(connectors: Vec<(String, String)>) -> Self {
        Self { connectors, ..Self::default() }
    }

    /// Tells whether it is certain that files outside of the project must not be read.
    pub(super) fn keeps_files_inside(&self) -> bool {
        self.files_outside == Some(false)
    }

    /// Lists the connections of a connector.
    pub(super) fn connections_of(&self, connector: &str) -> Vec<&str> {
        let own = self.connectors.iter().filter(|(_, own)| own == connector);
        own.map(|(name, _)| name.as_str()).collect()
    }

    /// Lists the connections that have a connector, in the order of the project file.
    pub(super) fn connections(&self) -> impl Iterator<Item = &str> {
        self.connectors.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the connector of a connection.
    pub(super) fn connector_of(&self, connection: &str) -> Option<&str> {
        self.connectors.iter().find(|(name, _)| name == connection).map(|(_, connector)| connector.as_str())
    }

    /// Returns what a connection says of itself; nothing where that is not known.
    pub(super) fn settings_of(&self, connection: &str) -> Value {
        self.settings.iter().find(|(name, _)| name == connection).map(|(_, own)| own.clone()).unwrap_or_default()
    }

    /// Returns who there is.
    pub(super) fn people(&self) -> Option<&[Person]> {
        self.people.as_deref()
    }

    /// Tells whether all connections that there are are known.
    pub(super) fn is_complete(&self) -> bool {
        self.connections.is_some()
    }
}

impl Compiler<'_> {
    /// Says so where a secret is read that no place of the project has.
    pub(super) fn known_secret(&mut self, name: &str, span: &Span) {
        let Some(secrets) = &self.world.declared.secrets else { return };
        if secrets.contains(name) {
            return;
        }
        let names: Vec<String> = secrets.iter().cloned().collect();
        let what = "no place of `secrets` in the project file has a secret {}";
        self.unknown(Code::UnknownSecret, span, what, name, names.iter().map(String::as_str));
    }

    /// Says so where `with:` names a connection that the project file does not have.
    pub(super) fn known_connections(&mut self, with: &Tree) {
        for key in CONNECTION_KEYS {
            let Some(value) = with.get(key) else { continue };
            let name = value.as_text().filter(|name| !name.contains("{{") && !name.contains(':') && !value.is_null());
            if let Some(name) = name {
                self.known_connection(name, &value.span);
            }
        }
    }

    pub(super) fn known_connection(&mut self, name: &str, span: &Span) {
        let Some(connections) = &self.world.declared.connections else { return };
        if connections.iter().any(|known| known == name) {
            return;
        }
        // It is found by its key, and again by what its node calls.
        let code = Code::UnknownConnection;
        if self.diagnostics.iter().any(|told| told.code == code && told.span == *span) {
            return;
        }
        let names = connections.clone();
        self.unknown(code, span, "connection {} is not in the project file", name, names.iter().map(String::as_str));
        if let Some(told) = self.diagnostics.last_mut() {
            let help = format!("add it to `{}`: `connections: {{ {name}: {{ … }} }}`", project::FILE);
            told.help.get_or_insert(help);
        }
    }
}
