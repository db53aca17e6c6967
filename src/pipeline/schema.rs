//! JSON Schemas of the files that people write, for editors. The checker never uses them: it knows more.

mod connector;
mod file;
mod project;
mod test;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Map;
use serde_json::Value as Json;
use serde_json::json;

use crate::node::Node;
use crate::node::Registry;

/// A kind of file that people write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Pipeline,
    Project,
    Connector,
    Test,
}

impl FileKind {
    pub const ALL: [Self; 4] = [Self::Pipeline, Self::Project, Self::Connector, Self::Test];

    /// Returns the word for it, e.g. `pipeline`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Project => "project",
            Self::Connector => "connector",
            Self::Test => "test",
        }
    }

    /// Finds the kind by its word.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Returns the JSON Schema of a kind of file; of a pipeline with the `with:` of every node.
#[must_use]
pub fn schema(kind: FileKind, registry: &Registry) -> Json {
    match kind {
        FileKind::Pipeline => with_nodes(of::<file::PipelineFile>(), registry),
        FileKind::Project => of::<project::ProjectFile>(),
        FileKind::Connector => of::<connector::ConnectorFile>(),
        FileKind::Test => of::<test::TestFile>(),
    }
}

fn of<T: JsonSchema>() -> Json {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

/// What stands for any value that is computed.
fn computed() -> Json {
    json!({ "type": "string", "pattern": "\\{\\{|\\{%" })
}

/// Says for every node what stands under `with:` of a step that uses it.
fn with_nodes(mut schema: Json, registry: &Registry) -> Json {
    let names: Vec<Json> = registry.names().map(Json::from).collect();
    let mut groups: Vec<&str> =
        registry.names().filter_map(|name| name.split_once('.')).map(|(group, _)| group).collect();
    groups.dedup();
    let mut cases = Vec::new();
    let mut definitions = Map::new();
    for node in registry.iter() {
        let (input, found) = input_of(&**node);
        definitions.extend(found);
        let name = format!("{}.with", node.name());
        let with = json!({ "$ref": format!("#/$defs/{name}") });
        definitions.insert(name, input);
        cases.push(json!({
            "if": { "properties": { "uses": { "const": node.name() } }, "required": ["uses"] },
            "then": { "properties": { "with": { "anyOf": [with, computed()] } } },
        }));
    }
    let Some(all) = schema.get_mut("$defs").and_then(Json::as_object_mut) else { return schema };
    all.extend(definitions);
    for name in ["StepFile", "UndoFile"] {
        let Some(step) = all.get_mut(name).and_then(Json::as_object_mut) else { continue };
        if let Some(Json::Object(uses)) = step.get_mut("properties").and_then(|properties| properties.get_mut("uses")) {
            // Which operations connectors have is known to the checker only; what begins as a node does is one.
            let operation =
                json!({ "pattern": format!("^(?!({})\\.)[A-Za-z0-9_-]+\\.[A-Za-z0-9_]+$", groups.join("|")) });
            uses.insert("anyOf".to_owned(), json!([{ "enum": names }, operation]));
        }
        step.insert("allOf".to_owned(), Json::Array(cases.clone()));
    }
    schema
}

/// Returns the schema of a node's input as an author may write it, and the definitions that it refers to.
fn input_of(node: &dyn Node) -> (Json, Map<String, Json>) {
    // The definitions of all nodes stand side by side: each gets its node's name.
    let text = node.input_schema().to_string().replace("#/$defs/", &format!("#/$defs/{}.", node.name()));
    let mut input: Json = serde_json::from_str(&text).unwrap_or_default();
    let mut definitions = Map::new();
    if let Some(object) = input.as_object_mut() {
        object.remove("$schema");
        if let Some(Json::Object(found)) = object.remove("$defs") {
            for (name, mut definition) in found {
                loosen(&mut definition);
                definitions.insert(format!("{}.{name}", node.name()), definition);
            }
        }
    }
    loosen(&mut input);
    (input, definitions)
}

/// Lets an expression stand wherever a value of another type is asked for.
fn loosen(schema: &mut Json) {
    let Some(object) = schema.as_object_mut() else { return };
    for key in ["properties", "items", "additionalProperties", "anyOf", "oneOf"] {
        match object.get_mut(key) {
            Some(Json::Object(inner)) if key == "properties" => inner.values_mut().for_each(or_computed),
            Some(inner @ Json::Object(_)) => or_computed(inner),
            Some(Json::Array(inner)) => inner.iter_mut().for_each(loosen),
            _ => {}
        }
    }
}

fn or_computed(schema: &mut Json) {
    loosen(schema);
    let open = schema.get("type").is_none() && schema.get("$ref").is_none() && schema.get("anyOf").is_none();
    if open || schema.get("type") == Some(&json!("string")) && schema.get("enum").is_none() {
        return;
    }
    let Some(object) = schema.as_object_mut() else { return };
    // What an editor shows beside the key stays at the key.
    let kept: Map<String, Json> =
        ["description", "default"].into_iter().filter_map(|key| object.remove_entry(key)).collect();
    let inner = std::mem::take(object);
    object.extend(kept);
    object.insert("anyOf".to_owned(), json!([inner, computed()]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(schema: &Json, definition: Option<&str>) -> Vec<String> {
        let schema = definition.map_or(schema, |name| &schema["$defs"][name]);
        let mut keys: Vec<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    }

    fn sorted(known: &[&str]) -> Vec<String> {
        let mut known: Vec<String> = known.iter().map(ToString::to_string).collect();
        known.sort();
        known
    }

    #[test]
    fn the_schemas_know_the_keys_that_the_checker_knows() {
        let registry = crate::node::Registry::default();
        let pipeline = schema(FileKind::Pipeline, &registry);
        assert_eq!(keys(&pipeline, None), sorted(crate::format::PIPELINE));
        assert_eq!(keys(&pipeline, Some("StepFile")), sorted(super::super::step::STEP_KEYS));
        assert_eq!(keys(&pipeline, Some("StepFile")), sorted(crate::format::STEP));
        assert_eq!(keys(&pipeline, Some("TriggerFile")), sorted(crate::format::TRIGGER));
        assert_eq!(keys(&pipeline, Some("InputFile")), sorted(super::super::inputs::KEYS));
        let project = schema(FileKind::Project, &registry);
        assert_eq!(keys(&project, None), sorted(crate::format::PROJECT));
        assert_eq!(keys(&project, Some("RetentionFile")), sorted(super::super::retention::KEYS));
        assert_eq!(keys(&project, Some("KeptRuns")), sorted(super::super::retention::RUNS_KEYS));
        assert_eq!(keys(&project, Some("KeptPipeline")), sorted(super::super::retention::PIPELINE_KEYS));
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &Json, root: &Json) {
            match value {
                Json::Object(object) => {
                    if let Some(target) = object.get("$ref").and_then(Json::as_str) {
                        assert!(root.pointer(target.trim_start_matches('#')).is_some(), "{target}");
                    }
                    object.values().for_each(|inner| walk(inner, root));
                }
                Json::Array(items) => items.iter().for_each(|inner| walk(inner, root)),
                _ => {}
            }
        }
        for kind in FileKind::ALL {
            let schema = schema(kind, &crate::node::Registry::default());
            walk(&schema, &schema);
        }
    }

    #[test]
    fn an_expression_may_stand_for_a_number_but_not_for_a_text() {
        let mut input =
            json!({ "properties": { "n": { "type": "integer", "description": "d" }, "t": { "type": "string" } } });
        loosen(&mut input);
        assert_eq!(input["properties"]["n"]["description"], "d");
        assert_eq!(input["properties"]["n"]["anyOf"][0], json!({ "type": "integer" }));
        assert_eq!(input["properties"]["t"], json!({ "type": "string" }));
    }
}
