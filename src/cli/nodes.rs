//! `pipewright nodes`.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::Exit;
use super::complete;
use super::print;
use crate::app::Fault;
use crate::diag::did_you_mean;
use crate::model::Value;
use crate::node::Node;

/// Lists what `uses` can name, or explains one of them.
#[derive(Debug, Args)]
pub(super) struct Nodes {
    /// A node's name, e.g. `http.request`.
    #[arg(add = ArgValueCandidates::new(complete::nodes))]
    name: Option<String>,
}

impl Nodes {
    pub(super) fn execute(self) -> Result<Exit, Fault> {
        let registry = crate::nodes::registry();
        let Some(name) = self.name else {
            let rows = registry.iter().map(|node| {
                let docs = node.docs();
                let first = docs.lines().next().unwrap_or_default().to_owned();
                vec![node.name().to_owned(), node.effect(&Value::Null).name().to_owned(), first]
            });
            print::table(&["node", "effect", "what it does"], &rows.collect::<Vec<_>>());
            return Ok(Exit::Well);
        };
        let Some(node) = registry.get(&name) else {
            let near = did_you_mean(&name, registry.names());
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(Fault::Usage(format!("there is no node `{name}`{near}")));
        };
        print::data(&reference(&**node));
        Ok(Exit::Well)
    }
}

/// Returns the reference page of a node in Markdown.
#[must_use]
pub(crate) fn reference(node: &dyn Node) -> String {
    let mut page = format!("## {}\n\n{}\n\nEffect: {}.\n", node.name(), node.docs(), node.effect(&Value::Null).name());
    let schema = node.input_schema();
    let required: Vec<&str> = schema
        .get("required")
        .and_then(|list| list.as_array())
        .into_iter()
        .flatten()
        .filter_map(|it| it.as_str())
        .collect();
    if let Some(properties) = schema.get("properties").and_then(|map| map.as_object()) {
        page.push_str("\n| key | type | meaning |\n| --- | --- | --- |\n");
        for (key, property) in properties {
            let must = if required.contains(&key.as_str()) { " (required)" } else { "" };
            let meaning = property.get("description").and_then(|text| text.as_str()).unwrap_or_default();
            let default = property
                .get("default")
                .filter(|it| !it.is_null())
                .map(|it| format!(" Default: `{it}`."))
                .unwrap_or_default();
            let meaning = meaning.replace('\n', " ").replace('|', "\\|");
            page.push_str(&format!("| `{key}`{must} | {} | {meaning}{default} |\n", kind(property)));
        }
    }
    page.push_str(&format!("\n```yaml\nuses: {}\nwith:\n", node.name()));
    for line in node.example().lines() {
        page.push_str(&format!("  {line}\n"));
    }
    page.push_str("```\n");
    page
}

fn kind(property: &serde_json::Value) -> String {
    match property.get("type") {
        Some(serde_json::Value::String(kind)) => kind.clone(),
        Some(serde_json::Value::Array(kinds)) => {
            let kinds = kinds.iter().filter_map(|kind| kind.as_str()).filter(|kind| *kind != "null");
            kinds.collect::<Vec<_>>().join(" or ")
        }
        _ => match property.get("$ref").and_then(|reference| reference.as_str()) {
            Some(reference) => reference.rsplit('/').next().unwrap_or("any").to_lowercase(),
            None => "any".to_owned(),
        },
    }
}
