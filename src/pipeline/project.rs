//! The project's settings: `pipewright.yaml`.

use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::did_you_mean;
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
    /// Databases by connection name, as URLs.
    pub databases: Vec<(String, String)>,
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
            databases: Vec::new(),
        }
    }
}

pub(super) const KEYS: &[&str] =
    &["store", "secrets", "connections", "server", "limits", "allow", "retention", "catalog"];

/// Reads the settings; every fault is told.
pub(super) fn read(tree: &Tree, diagnostics: &mut Vec<Diagnostic>) -> Project {
    let mut project = Project::default();
    known(tree, KEYS, diagnostics);
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
    for entry in tree.get("connections").map(Tree::entries).unwrap_or_default() {
        let url = entry.value.get("url").and_then(Tree::as_text);
        if let Some(url) =
            url.filter(|url| url.starts_with("sqlite:") || url.starts_with("postgres") || url.starts_with("{{"))
        {
            project.databases.push((entry.key.to_string(), url.to_owned()));
        }
    }
    project
}

fn secret_place(item: &Tree, diagnostics: &mut Vec<Diagnostic>) -> Option<SecretPlace> {
    let path = |key: &str| item.get(key).and_then(Tree::as_text).map(str::to_owned);
    match item.as_text() {
        Some("env") => return Some(SecretPlace::Environment),
        Some("store") => return Some(SecretPlace::Store),
        _ => {}
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

fn known(tree: &Tree, keys: &[&str], diagnostics: &mut Vec<Diagnostic>) {
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
