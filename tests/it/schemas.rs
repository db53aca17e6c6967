//! The published JSON Schemas against the checker: an editor that uses them must not contradict `validate`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use jsonschema::Validator;
use pipewright::diag::Code;
use pipewright::nodes::registry;
use pipewright::pipeline::Catalog;
use serde_json::Value as Json;

fn schema(name: &str) -> Validator {
    let text = fs::read_to_string(format!("schemas/{name}.schema.json")).unwrap();
    let schema: Json = serde_json::from_str(&text).unwrap();
    jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{name} is not a JSON Schema: {error}"));
    jsonschema::validator_for(&schema).unwrap()
}

/// Reads a YAML file as an editor would; nothing when it is no YAML.
fn document(path: &Path) -> Option<Json> {
    let (tree, _) = pipewright::yaml::parse_bytes(&path.display().to_string().into(), &fs::read(path).unwrap());
    serde_json::from_str(&tree?.to_value().to_string()).ok()
}

fn yaml_files(folder: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            yaml_files(path.to_str().unwrap(), found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") && !is_snapshot(&path) {
            found.push(path);
        }
    }
}

/// Tells whether a file holds what tests gave: no file that people write.
fn is_snapshot(path: &Path) -> bool {
    path.to_str().is_some_and(|name| name.ends_with(".test.snap.yaml"))
}

fn kind_of(path: &Path) -> &'static str {
    let name = path.file_name().unwrap().to_str().unwrap();
    match name {
        "pipewright.yaml" => "project",
        name if name.ends_with(".test.yaml") => "test",
        _ => "pipeline",
    }
}

#[test]
fn what_the_checker_accepts_the_schemas_accept() {
    let (pipeline, project, test) = (schema("pipeline"), schema("project"), schema("test"));
    let mut files = vec![PathBuf::from("pipewright.yaml")];
    for folder in ["pipelines", "examples", "tests/ok"] {
        yaml_files(folder, &mut files);
    }
    assert!(files.len() > 20, "{} files", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let Some(document) = document(&path) else { panic!("{} is no YAML", path.display()) };
        let validator = match kind_of(&path) {
            "project" => &project,
            "test" => &test,
            _ => &pipeline,
        };
        for error in validator.iter_errors(&document) {
            wrong.push(format!("{} at {}: {error}", path.display(), error.instance_path()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_shape_that_the_checker_refuses_the_schemas_refuse() {
    let pipeline = schema("pipeline");
    let mut files = Vec::new();
    yaml_files("tests/err", &mut files);
    let (mut refused, mut passed) = (0, Vec::new());
    for path in files {
        // What a child takes as inputs, and what operations a connector has, stands in another file, which a schema does not
        // see.
        let elsewhere =
            ["tests/err/child-inputs", "tests/err/connectors", "tests/err/posts"].iter().any(|it| path.starts_with(it));
        if kind_of(&path) == "project" || elsewhere {
            continue;
        }
        let Some(document) = document(&path) else { continue };
        let checked = Catalog::open(path.parent().unwrap(), registry()).check(std::slice::from_ref(&path));
        let codes: BTreeSet<Code> = checked.diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
        let shape = [Code::UnknownKey, Code::MissingKey, Code::WrongType, Code::UnknownNode];
        if !shape.iter().any(|code| codes.contains(code)) {
            continue;
        }
        match pipeline.is_valid(&document) {
            false => refused += 1,
            true => passed.push(path.display().to_string()),
        }
    }
    assert!(refused >= 30, "only {refused} files are refused");
    assert!(passed.is_empty(), "the schema accepts: {passed:#?}");
}

#[test]
fn the_connector_schema_knows_the_vocabulary_of_a_manifest() {
    let connector = schema("connector");
    let manifest = serde_json::json!({
        "connector": "shop",
        "base_url": { "api": "https://shop.example" },
        "auth": { "bearer": { "token": "{{ config.token }}" } },
        "send": { "headers": { "Accept": "application/json" } },
        "limits": { "budgets": { "calls": { "limit": 100, "per": "minute" } } },
        "errors": [{ "status": 429, "then": "throttled", "wait": "20s", "happened": false }],
        "operations": {
            "create_order": {
                "effect": "create",
                "input": { "required": ["sku"] },
                "request": { "post": "/orders", "json": { "sku": "{{ input.sku }}" } },
                "output": { "id": "{{ body.id }}" },
                "repeat": "24h",
                "reconcile": { "operation": "list_orders" },
                "cost": { "calls": 1 },
            }
        }
    });
    let faults: Vec<_> = connector.iter_errors(&manifest).map(|error| error.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?}");
    let refused = [
        ("/auth", serde_json::json!("bearer")),
        ("/limits/budget", serde_json::json!({})),
        ("/errors/0/status_code", serde_json::json!(429)),
        ("/operations/create_order/effect", serde_json::json!("write")),
        ("/operations/create_order/retries", serde_json::json!(3)),
        ("/operations", serde_json::json!([])),
    ];
    for (place, value) in refused {
        let mut broken = manifest.clone();
        let (parent, key) = place.rsplit_once('/').unwrap();
        broken.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
        assert!(!connector.is_valid(&broken), "{place}");
    }
    let mut open = manifest;
    open["auth"] = serde_json::json!("none");
    assert!(connector.is_valid(&open));
}

#[test]
fn every_manifest_that_the_reader_accepts_the_schema_accepts() {
    let connector = schema("connector");
    let mut files = Vec::new();
    yaml_files("connectors", &mut files);
    yaml_files("tests/manifests/vendors", &mut files);
    let mut faults = Vec::new();
    for path in files {
        let document = document(&path).unwrap();
        faults.extend(connector.iter_errors(&document).map(|error| {
            format!(
                "{} at {}: {}",
                path.display(),
                error.instance_path(),
                error.to_string().chars().take(200).collect::<String>()
            )
        }));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
