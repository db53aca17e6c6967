//! What the manifests of the binary say for people. A run has no use for it, so the library leaves it out; it is read once,
//! beside the work.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::Value as Json;

use crate::connector::library::BUILT_IN;
use crate::node::Node;
use crate::yaml;
use crate::yaml::Tree;

/// What is said of an operation.
#[derive(Debug, Default)]
struct Said {
    docs: Option<String>,
    /// Of the keys of its input.
    keys: HashMap<String, String>,
}

static PROSE: OnceLock<HashMap<String, Said>> = OnceLock::new();

/// Reads it; who asks before that is told what the library has.
pub(super) fn load() {
    PROSE.get_or_init(|| {
        let mut all = HashMap::new();
        for (connector, text) in BUILT_IN {
            let (tree, _) = yaml::parse(&(*connector).into(), text);
            let operations = tree.as_ref().and_then(|tree| tree.get("operations")).map(Tree::entries);
            for entry in operations.unwrap_or_default() {
                all.insert(format!("{connector}.{}", entry.key), said(&entry.value));
            }
        }
        all
    });
}

fn said(operation: &Tree) -> Said {
    let text = |tree: &Tree, key: &str| Some(tree.get(key)?.as_text()?.to_owned());
    let docs = match (text(operation, "title"), text(operation, "description")) {
        (Some(title), Some(description)) => Some(format!("{title}. {description}")),
        (title, description) => title.or(description),
    };
    let input = operation.get("input").and_then(|input| input.get("properties")).map(Tree::entries);
    let keys = input.unwrap_or_default().iter();
    let keys = keys.filter_map(|entry| Some((entry.key.to_string(), text(&entry.value, "description")?))).collect();
    Said { docs, keys }
}

/// Finds what is said of a node of the binary's connectors; `own` names those of the project, which say it themselves.
fn of<'p>(node: &dyn Node, own: &[String]) -> Option<&'p Said> {
    let connector = node.connector()?;
    if own.iter().any(|name| name == connector) {
        return None;
    }
    PROSE.get()?.get(node.name())
}

/// Returns what a node does, in Markdown.
pub(super) fn docs(node: &dyn Node, own: &[String]) -> String {
    of(node, own).and_then(|said| said.docs.clone()).unwrap_or_else(|| node.docs())
}

/// Returns the schema of a node's `with:`, with what is said of its keys.
pub(super) fn input_schema(node: &dyn Node, own: &[String]) -> Json {
    let mut schema = node.input_schema();
    let properties = schema.get_mut("properties").and_then(Json::as_object_mut);
    if let (Some(said), Some(properties)) = (of(node, own), properties) {
        for (key, text) in &said.keys {
            if let Some(Json::Object(property)) = properties.get_mut(key) {
                property.entry("description").or_insert_with(|| text.clone().into());
            }
        }
    }
    schema
}
