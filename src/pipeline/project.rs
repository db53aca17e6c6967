//! The project's settings: `pipewright.yaml`.

use super::Person;
use super::Retention;
use super::Spend;
use super::budget;
use super::compile::first_line;
use super::people;
use super::retention;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::did_you_mean;
use crate::model::Value;
use crate::template::Template;
use crate::template::TemplateTree;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// The settings of a project.
#[derive(Clone, Debug)]
pub struct Project {
    /// `sqlite://PATH` or `postgres://…`.
    pub store: Option<String>,
    /// Where secrets come from, in this order.
    pub secrets: Vec<SecretPlace>,
    /// Whether files outside the project may be read and written.
    pub files_outside: bool,
    /// Whether `shell.run` may run programs.
    pub shell: bool,
    /// How many runs a daemon executes at the same time.
    pub most_runs: Option<u32>,
    /// How many steps a process does at the same time that look or work outside.
    pub most_steps: Option<u32>,
    /// How much may be spent, and where days begin.
    pub spend: Spend,
    /// Databases by connection name, as URLs.
    pub databases: Vec<(String, String)>,
    /// Connections to the systems of connectors.
    pub connections: Vec<ProjectConnection>,
    /// Who there is, and in which roles.
    pub people: Vec<Person>,
    /// How long what has ended is kept.
    pub retention: Retention,
}

/// A connection as the project file states it; its expressions read secrets.
#[derive(Clone, Debug)]
pub struct ProjectConnection {
    pub name: String,
    pub connector: String,
    /// All keys but `connector`, `auth` and `private`.
    pub settings: TemplateTree,
    pub auth: TemplateTree,
    /// Whether private and loopback addresses may be reached.
    pub private: bool,
    /// Settings and auth with null where an expression stands, for the check.
    pub literal: (Value, Value),
    /// Where it stands.
    pub tree: Tree,
}

/// A place of secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    Environment,
    EnvFile(String),
    Directory(String),
    Store,
}

impl Default for Project {
    /// An embedded store, secrets from the environment and the store, nothing allowed.
    fn default() -> Self {
        Self {
            store: None,
            secrets: vec![SecretPlace::Environment, SecretPlace::Store],
            files_outside: false,
            shell: false,
            most_runs: None,
            most_steps: None,
            spend: Spend::default(),
            databases: Vec::new(),
            connections: Vec::new(),
            people: Vec::new(),
            retention: Retention::default(),
        }
    }
}

/// The name of the project file.
pub(super) const FILE: &str = "pipewright.yaml";

/// Reads the settings; every fault is told.
pub(super) fn read(tree: &Tree, source: &str, diagnostics: &mut Vec<Diagnostic>) -> Project {
    let mut project = Project::default();
    known(tree, crate::format::PROJECT, diagnostics);
    if let Some(store) = tree.get("store") {
        match store.as_text() {
            Some(url)
                if url.starts_with("sqlite:") || url.starts_with("postgres://") || url.starts_with("postgresql://") =>
            {
                project.store = Some(url.to_owned());
            }
            _ => {
                let message = format!("expected `sqlite://PATH` or `postgres://…`, found {}", store.describe());
                diagnostics.push(Diagnostic::error(Code::WrongType, store.span.clone(), message));
            }
        }
    }
    if let Some(secrets) = tree.get("secrets") {
        project.secrets = secrets.items().iter().filter_map(|item| secret_place(item, diagnostics)).collect();
        if !matches!(secrets.kind, TreeKind::Sequence(_)) {
            let message = format!("expected a list of places, found {}", secrets.describe());
            diagnostics.push(
                Diagnostic::error(Code::WrongType, secrets.span.clone(), message)
                    .with_help("write `secrets: [env, { env_file: .env }, store]`"),
            );
        }
    }
    if let Some(allow) = tree.get("allow") {
        known(allow, &["files_outside", "shell"], diagnostics);
        project.files_outside = flag(allow, "files_outside", diagnostics);
        project.shell = flag(allow, "shell", diagnostics);
    }
    if let Some(tree) = tree.get("people") {
        project.people = people::read(tree, diagnostics);
    }
    if let Some(limits) = tree.get("limits") {
        known(limits, &["runs", "steps", "spend"], diagnostics);
        project.most_runs = number(limits, "runs", 10_000, diagnostics);
        project.most_steps = number(limits, "steps", 1_000_000, diagnostics);
        project.spend = limits.get("spend").map(|spend| budget::read_spend(spend, diagnostics)).unwrap_or_default();
    }
    if let Some(connections) = tree.get("connections") {
        check_connections(connections, diagnostics);
    }
    if let Some(kept) = tree.get("retention") {
        project.retention = retention::read(kept, diagnostics);
    }
    for entry in tree.entries().iter().filter(|entry| &*entry.key != "secrets") {
        check_templates(&entry.value, source, diagnostics);
    }
    for entry in tree.get("connections").map(Tree::entries).unwrap_or_default() {
        let url = entry.value.get("url").and_then(Tree::as_text);
        if let Some(url) =
            url.filter(|url| url.starts_with("sqlite:") || url.starts_with("postgres") || url.starts_with("{{"))
        {
            project.databases.push((entry.key.to_string(), url.to_owned()));
        }
    }
    for entry in tree.get("connections").map(Tree::entries).unwrap_or_default() {
        if let Some(connector) = entry.value.get("connector").and_then(Tree::as_text) {
            project.connections.push(connection(&entry.key, connector, &entry.value, diagnostics));
        }
    }
    project
}

/// Returns what a connection says of itself beside what every one may; null where an expression stands.
pub(super) fn settings(tree: &Tree) -> crate::model::Value {
    super::with::literals(&own_settings(tree))
}

fn own_settings(tree: &Tree) -> Tree {
    let own = |key: &str| matches!(key, "connector" | "auth" | "private");
    let settings: Vec<_> = tree.entries().iter().filter(|entry| !own(&entry.key)).cloned().collect();
    Tree { span: tree.span.clone(), kind: TreeKind::Mapping(settings) }
}

fn connection(name: &str, connector: &str, tree: &Tree, diagnostics: &mut Vec<Diagnostic>) -> ProjectConnection {
    let settings = own_settings(tree);
    let nothing = Tree { span: tree.span.clone(), kind: TreeKind::Mapping(Vec::new()) };
    let auth = tree.get("auth").unwrap_or(&nothing);
    ProjectConnection {
        name: name.to_owned(),
        connector: connector.to_owned(),
        settings: compiled(&settings),
        auth: compiled(auth),
        private: flag(tree, "private", diagnostics),
        literal: (super::with::literals(&settings), super::with::literals(auth)),
        tree: tree.clone(),
    }
}

/// Compiles a value with templates in it; what is no template is told elsewhere.
fn compiled(tree: &Tree) -> TemplateTree {
    match &tree.kind {
        TreeKind::Scalar { text, .. } if text.contains("{{") => {
            Template::parse(text).map_or(TemplateTree::Literal(Value::Null), TemplateTree::Template)
        }
        TreeKind::Scalar { .. } => TemplateTree::Literal(tree.to_value()),
        TreeKind::Sequence(items) => TemplateTree::List(items.iter().map(compiled).collect()),
        TreeKind::Mapping(entries) => {
            TemplateTree::Map(entries.iter().map(|entry| (entry.key.clone(), compiled(&entry.value))).collect())
        }
    }
}

/// A connection is a mapping: what stands in it depends on its connector, but a `connector` and a `url` are texts.
fn check_connections(tree: &Tree, diagnostics: &mut Vec<Diagnostic>) {
    if !matches!(tree.kind, TreeKind::Mapping(_)) {
        let message = format!("expected a mapping of connections by name, found {}", tree.describe());
        diagnostics.push(
            Diagnostic::error(Code::WrongType, first_line(&tree.span), message)
                .with_help("write `connections: { shop: { url: \"sqlite://data/shop.db\" } }`"),
        );
    }
    for entry in tree.entries() {
        let connection = &entry.value;
        if !matches!(connection.kind, TreeKind::Mapping(_)) {
            let message = format!("expected the keys of a connection, found {}", connection.describe());
            let told = Diagnostic::error(Code::WrongType, first_line(&connection.span), message);
            let url = connection.as_text().filter(|text| text.contains("://"));
            diagnostics.push(match url {
                Some(url) => told.with_help(format!("write `{}: {{ url: \"{url}\" }}`", entry.key)),
                None => told,
            });
            continue;
        }
        if connection.entries().is_empty() {
            let message = format!("connection `{}` says nothing", entry.key);
            diagnostics.push(
                Diagnostic::error(Code::MissingKey, entry.key_span.clone(), message)
                    .with_help("add `url:` or `connector:`"),
            );
        }
        for key in ["connector", "url"] {
            if let Some(value) = connection.get(key).filter(|value| value.as_text().is_none() || value.is_null()) {
                let message = format!("expected a text, found {}", value.describe());
                diagnostics.push(Diagnostic::error(Code::WrongType, first_line(&value.span), message));
            }
        }
    }
}

/// Expressions of the project file read secrets and nothing else.
fn check_templates(tree: &Tree, source: &str, diagnostics: &mut Vec<Diagnostic>) {
    match &tree.kind {
        TreeKind::Sequence(items) => items.iter().for_each(|item| check_templates(item, source, diagnostics)),
        TreeKind::Mapping(entries) => {
            entries.iter().for_each(|entry| check_templates(&entry.value, source, diagnostics));
        }
        TreeKind::Scalar { text, .. } => match Template::parse(text) {
            Ok(template) => {
                for reference in template.references() {
                    let root = reference.path.first().map_or("", |root| &**root);
                    if root != "secrets" {
                        let span = tree.span_within(source, reference.range.clone());
                        let message = format!("`{root}` is not known here");
                        diagnostics.push(
                            Diagnostic::error(Code::UnknownName, span, message)
                                .with_help("the project file reads `secrets` only"),
                        );
                    }
                }
            }
            Err(error) => {
                let (message, near) = match error.message.split_once("; did you mean") {
                    Some((message, near)) => (message.to_owned(), Some(near)),
                    None => (error.message.clone(), None),
                };
                let code = if message.starts_with("there is no") { Code::UnknownFilter } else { Code::TemplateSyntax };
                let mut told = Diagnostic::error(code, tree.span_within(source, error.range.clone()), message);
                told.help = near.map(|near| format!("did you mean{near}"));
                diagnostics.push(told);
            }
        },
    }
}

pub(super) fn secret_place(item: &Tree, diagnostics: &mut Vec<Diagnostic>) -> Option<SecretPlace> {
    let path = |key: &str| item.get(key).and_then(Tree::as_text).map(str::to_owned);
    match item.as_text() {
        Some("env") => return Some(SecretPlace::Environment),
        Some("store") => return Some(SecretPlace::Store),
        _ => {}
    }
    if matches!(item.kind, TreeKind::Mapping(_)) && item.entries().len() > 1 {
        let message = "one place of secrets has one key".to_owned();
        diagnostics.push(
            Diagnostic::error(Code::WrongType, first_line(&item.span), message)
                .with_help("write one item of the list for each place"),
        );
        return None;
    }
    if let Some(path) = path("env_file") {
        return Some(SecretPlace::EnvFile(path));
    }
    if let Some(path) = path("dir") {
        return Some(SecretPlace::Directory(path));
    }
    let message =
        format!("expected `env`, `store`, `{{ env_file: PATH }}` or `{{ dir: PATH }}`, found {}", item.describe());
    diagnostics.push(Diagnostic::error(Code::WrongType, item.span.clone(), message));
    None
}

fn number(tree: &Tree, key: &str, most: u32, diagnostics: &mut Vec<Diagnostic>) -> Option<u32> {
    let value = tree.get(key)?;
    let number = value.as_text().and_then(|text| text.parse().ok()).filter(|number| (1..=most).contains(number));
    if number.is_none() {
        let message = format!("expected a whole number from 1 to {most}, found {}", value.describe());
        diagnostics.push(Diagnostic::error(Code::WrongType, value.span.clone(), message));
    }
    number
}

fn flag(tree: &Tree, key: &str, diagnostics: &mut Vec<Diagnostic>) -> bool {
    let Some(value) = tree.get(key) else { return false };
    match value.as_text() {
        Some("true") => true,
        Some("false") => false,
        _ => {
            let message = format!("expected `true` or `false`, found {}", value.describe());
            diagnostics.push(Diagnostic::error(Code::WrongType, value.span.clone(), message));
            false
        }
    }
}

pub(super) fn known(tree: &Tree, keys: &[&str], diagnostics: &mut Vec<Diagnostic>) {
    if !matches!(tree.kind, TreeKind::Mapping(_)) {
        let message = format!("expected a mapping, found {}", tree.describe());
        diagnostics.push(Diagnostic::error(Code::WrongType, tree.span.clone(), message));
    }
    for entry in tree.entries().iter().filter(|entry| !keys.contains(&&*entry.key)) {
        let mut diagnostic =
            Diagnostic::error(Code::UnknownKey, entry.key_span.clone(), format!("unknown key `{}`", entry.key));
        let listed = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        diagnostic.help = Some(match did_you_mean(&entry.key, keys.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {listed}"),
        });
        diagnostics.push(diagnostic);
    }
}
