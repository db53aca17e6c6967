//! `pipewright connectors`.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;

use super::Exit;
use super::Global;
use super::complete;
use super::print;
use crate::app;
use crate::app::Fault;
use crate::connector::contract;
use crate::connector::library::Library;
use crate::connector::library::Loaded;
use crate::connector::library::Origin;
use crate::connector::library::read;
use crate::connector::manifest::Act;
use crate::connector::manifest::Manifest;
use crate::connector::manifest::Operation;
use crate::connector::manifest::Reconcile;
use crate::diag::Severity;
use crate::diag::Sources;
use crate::diag::did_you_mean;
use crate::model::Effect;
use crate::model::Repeat;
use crate::model::Value;
use crate::pipeline::Catalog;
use crate::pipeline::Checked;
use crate::sandbox::plan::Plan;
use crate::system::System;

/// What can be done with connectors.
#[derive(Debug, Subcommand)]
pub(super) enum Connectors {
    /// List the connectors: those in the program, and those of the project.
    List,
    /// Show what a connector can do, or one of its operations.
    Show {
        /// The connector, or CONNECTOR.OPERATION.
        #[arg(add = ArgValueCandidates::new(complete::connectors))]
        name: String,
    },
    /// Make a manifest to start from in the project's `connectors/`.
    New {
        /// The connector's name: small letters, digits and `_`.
        name: String,
    },
    /// Hold manifests against their own examples; by default those of the project.
    Test {
        /// Connectors, or files.
        #[arg(add = ArgValueCandidates::new(complete::connectors))]
        names: Vec<String>,
    },
}

impl Connectors {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let root = app::find_root(global.project.as_deref(), Path::new("."));
        let library = Library::open(&root);
        match self {
            Self::List => list(&library),
            Self::Show { name } => show(&library, &name),
            Self::New { name } => new(&root, &library, &name),
            Self::Test { names } => test(&root, &library, names).await,
        }
    }
}

fn list(library: &Library) -> Result<Exit, Fault> {
    let mut rows = Vec::new();
    for (name, origin) in library.names() {
        let from = match origin {
            Origin::BuiltIn => "program",
            Origin::Project => "project",
            Origin::Override => "project, instead of the program's",
        };
        let (title, operations) = match library.get(&name) {
            Loaded::Manifest(manifest) => {
                let shown = manifest.operations.values().filter(|operation| !operation.hidden).count();
                (manifest.title.as_deref().unwrap_or_default().to_owned(), shown.to_string())
            }
            Loaded::Faulty { diagnostics, .. } => (format!("has {} faults", diagnostics.len()), String::new()),
            Loaded::Missing => Default::default(),
        };
        rows.push(vec![name, operations, from.to_owned(), title]);
    }
    print::table(&["connector", "operations", "from", "title"], &rows);
    Ok(Exit::Well)
}

fn found(library: &Library, name: &str) -> Result<Arc<Manifest>, Fault> {
    match library.whole(name) {
        Loaded::Manifest(manifest) => Ok(manifest),
        Loaded::Faulty { diagnostics, sources } => Err(Fault::Invalid { diagnostics, sources, files: 1 }),
        Loaded::Missing => {
            let names = library.names();
            let near = did_you_mean(name, names.iter().map(|(name, _)| name.as_str()));
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            Err(Fault::Usage(format!("there is no connector `{name}`{near}")))
        }
    }
}

fn show(library: &Library, name: &str) -> Result<Exit, Fault> {
    let (connector, operation) = name.split_once('.').map_or((name, None), |(one, two)| (one, Some(two)));
    let manifest = found(library, connector)?;
    let Some(wanted) = operation else {
        print::data(&overview(&manifest));
        return Ok(Exit::Well);
    };
    let Some(operation) = manifest.operations.get(wanted) else {
        let known = manifest.operations.keys().map(|name| &**name);
        let near = did_you_mean(wanted, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(Fault::Usage(format!("connector `{connector}` has no operation `{wanted}`{near}")));
    };
    print::data(&reference(&manifest, operation));
    Ok(Exit::Well)
}

fn overview(manifest: &Manifest) -> String {
    let mut page = format!("# {}\n", manifest.title.as_deref().unwrap_or(&manifest.name));
    if let Some(docs) = &manifest.docs {
        page.push_str(&format!("\n{docs}\n"));
    }
    page.push_str("\n| operation | effect | what it does |\n| --- | --- | --- |\n");
    for operation in manifest.operations.values().filter(|operation| !operation.hidden) {
        let what = operation.title.as_deref().or(operation.description.as_deref()).unwrap_or_default();
        page.push_str(&format!("| `{}.{}` | {} | {what} |\n", manifest.name, operation.name, effect(operation)));
    }
    let settings = properties(&manifest.config);
    if !settings.is_empty() {
        page.push_str(&format!("\nA connection may say: {}.\n", settings.join(", ")));
    }
    let secrets: Vec<_> = manifest.auth_keys.iter().map(|key| format!("`{key}`")).collect();
    if !secrets.is_empty() {
        page.push_str(&format!("\nUnder `auth` it says: {}.\n", secrets.join(", ")));
    }
    page
}

fn properties(schema: &serde_json::Value) -> Vec<String> {
    let properties = schema.get("properties").and_then(serde_json::Value::as_object);
    properties.into_iter().flatten().map(|(key, _)| format!("`{key}`")).collect()
}

fn effect(operation: &Operation) -> &'static str {
    operation.effect.map_or("as its caller", Effect::name)
}

/// Returns the reference page of an operation in Markdown.
fn reference(manifest: &Manifest, operation: &Operation) -> String {
    let name = format!("{}.{}", manifest.name, operation.name);
    let mut page = format!("## {name}\n");
    for text in [&operation.title, &operation.description].into_iter().flatten() {
        page.push_str(&format!("\n{text}\n"));
    }
    page.push_str(&format!("\nEffect: {}. {}\n", effect(operation), settlement(operation)));
    for (title, schema) in [("Input", Some(&operation.input)), ("Output", operation.returns.as_ref())] {
        let Some(properties) = schema.and_then(|schema| schema.get("properties")?.as_object()) else { continue };
        let required = schema.and_then(|schema| schema.get("required")?.as_array());
        page.push_str(&format!("\n{title}:\n\n| key | type | meaning |\n| --- | --- | --- |\n"));
        for (key, property) in properties {
            let must = required.is_some_and(|list| list.iter().any(|it| it.as_str() == Some(key)));
            let text =
                |word: &str| property.get(word).map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned));
            let kind = text("type").or_else(|| text("enum")).unwrap_or_else(|| "any".to_owned()).replace('"', "");
            let mut meaning = text("description").unwrap_or_default();
            for (word, said) in [("maxLength", "at most"), ("maxItems", "at most"), ("default", "default")] {
                if let Some(value) = text(word) {
                    meaning = format!("{meaning}{}{said} {value}", if meaning.is_empty() { "" } else { "; " });
                }
            }
            let must = if must { " (required)" } else { "" };
            page.push_str(&format!(
                "| `{key}`{must} | {kind} | {} |\n",
                meaning.replace('|', "\\|").replace('\n', " ")
            ));
        }
    }
    if let Some(example) = operation.examples.first() {
        page.push_str(&format!("\n```yaml\nuses: {name}\nwith: {}\n```\n", example.input));
        if let Some(output) = &example.output {
            page.push_str(&format!("\nwhich gives `{output}`.\n"));
        }
    }
    page
}

fn settlement(operation: &Operation) -> String {
    if !operation.effect.is_some_and(Effect::is_write) {
        return String::new();
    }
    let words = match (&operation.repeat, &operation.reconcile, &operation.act) {
        (_, _, Act::Steps { .. }) => "it is made of steps; each is settled by itself.".to_owned(),
        (Repeat::Always, ..) => "it is sent again: that does no harm.".to_owned(),
        (Repeat::Within(length), ..) => format!("it is sent again within {length} under the same key."),
        (_, Reconcile::Resend, _) => "it is sent again: the system refuses a second one.".to_owned(),
        (_, Reconcile::Ask(ask), _) => format!("`{}` is asked whether it happened.", ask.operation),
        (_, Reconcile::None, _) => "nobody can tell; `in_doubt` of the step decides.".to_owned(),
    };
    format!("When its answer is lost, {words}")
}

const TEMPLATE: &str = r#"# yaml-language-server: $schema=../schemas/connector.schema.json
# Check it with `pipewright connectors test NAME`; `uses: NAME.list` calls it from a pipeline.
connector: NAME
title: NAME
docs: https://example.com/api

base_url: { api: "{{ config.base_url | default('https://api.example.com') }}" }
auth: { bearer: { token: "{{ auth.api_key }}" } }

explain: { message: "{{ body.error.message }}" }
errors:
  - { status: 429, then: throttled, wait: "{{ headers['retry-after'] }}s" }

operations:
  list:
    title: List the things
    effect: read
    input: { properties: { since: { type: string } } }
    request: { get: /things, query: { since: "{{ input.since }}", cursor: "{{ next }}" } }
    items: "{{ body.data }}"
    item: { id: "{{ item.id }}", name: "{{ item.name }}" }
    paging: { next: "{{ body.next }}" }
    returns: { properties: { id: { type: string }, name: { type: string } } }
    examples:
      - title: two pages
        input: { since: "2026-01-01" }
        exchanges:
          - { expect: { get: /things, query: { since: "2026-01-01" } }, reply: { json: { data: [ { id: "1", name: one } ], next: c2 } } }
          - { expect: { get: /things, query: { cursor: c2 } }, reply: { json: { data: [ { id: "2", name: two } ], next: null } } }
        output: [ { id: "1", name: one }, { id: "2", name: two } ]
      - title: too fast
        input: {}
        exchanges: [ { expect: { get: /things }, reply: { status: 429, headers: { retry-after: "5" }, json: { error: { message: slow down } } } } ]
        error: throttled

  create:
    title: Create a thing
    effect: create
    input: { required: [name], properties: { name: { type: string, maxLength: 100 } } }
    request: { post: /things, json: { name: "{{ input.name }}", reference: "{{ effect.key }}" } }
    output: { id: "{{ body.id }}" }
    returns: { properties: { id: { type: string } } }
    # When the answer is lost, `list` is asked whether it happened. `repeat: always` where sending twice does no harm.
    reconcile: { operation: list, after: 5s, found: "{{ item.name == input.name }}", output: { id: "{{ item.id }}" } }
    undo: { operation: delete, with: { id: "{{ output.id }}" } }
    examples:
      - input: { name: one }
        exchanges: [ { expect: { post: /things, json: { name: one, reference: example-key } }, reply: { status: 201, json: { id: "1" } } } ]
        output: { id: "1" }
      - title: the answer is lost
        input: { name: one }
        exchanges:
          - { expect: { post: /things }, reply: { lost: true } }
          - { expect: { get: /things }, reply: { json: { data: [ { id: "1", name: one } ] } } }
        output: { id: "1" }

  delete:
    title: Delete a thing
    effect: delete
    repeat: always
    input: { required: [id], properties: { id: { type: string } } }
    request: { delete: "/things/{{ input.id }}" }
    output: { deleted: true }
    errors: [ { status: 404, then: done } ]
    examples:
      - { input: { id: "1" }, exchanges: [ { expect: { delete: /things/1 }, reply: { status: 204 } } ], output: { deleted: true } }
      - { input: { id: "2" }, exchanges: [ { expect: { delete: /things/2 }, reply: { status: 404 } } ], output: { deleted: true } }
"#;

fn new(root: &Path, library: &Library, name: &str) -> Result<Exit, Fault> {
    let path = root.join("connectors").join(format!("{name}.yaml"));
    if path.exists() {
        return Err(Fault::Usage(format!("`{}` is there already", path.display())));
    }
    let text = TEMPLATE.replace("NAME", name);
    // A name that no manifest may have is told before a file lies about.
    if let Loaded::Faulty { diagnostics, sources } = read(&format!("{name}.yaml").into(), &text.as_str().into()) {
        return Err(Fault::Invalid { diagnostics, sources, files: 1 });
    }
    let shadows = library.names().into_iter().any(|(own, origin)| own == name && origin == Origin::BuiltIn);
    std::fs::create_dir_all(root.join("connectors"))?;
    std::fs::write(&path, text)?;
    print::talk(&format!("wrote {}", path.display()));
    if shadows {
        print::hint(&format!("the program has a connector `{name}`; from now on the project's is used instead"));
    }
    print::hint(&format!("check it with `pipewright connectors test {name}`"));
    Ok(Exit::Well)
}

async fn test(root: &Path, library: &Library, names: Vec<String>) -> Result<Exit, Fault> {
    let names = if names.is_empty() {
        let own = library.names().into_iter().filter(|(_, origin)| *origin != Origin::BuiltIn);
        own.map(|(name, _)| name).collect()
    } else {
        names
    };
    if names.is_empty() {
        print::talk(
            "the project has no connectors of its own; name one, or make one with `pipewright connectors new NAME`",
        );
        return Ok(Exit::Well);
    }
    let catalog = Catalog::open(root, app::registry(root));
    let mut exit = Exit::Well;
    for name in names {
        let checked = catalog.check_connector(&name);
        if checked.diagnostics.iter().any(|it| it.severity == Severity::Error) {
            let Checked { diagnostics, sources, files } = checked;
            print::fault(&Fault::Invalid { diagnostics, sources, files });
            exit = Exit::Wrong;
            continue;
        }
        let manifest = named(library, &name)?;
        let (_, diagnostics) = Plan::make(&manifest, &Value::Null);
        if !diagnostics.is_empty() {
            let mut sources = Sources::default();
            sources.insert(manifest.file.clone(), manifest.source.clone());
            print::fault(&Fault::Invalid { diagnostics, sources, files: 1 });
            exit = Exit::Wrong;
            continue;
        }
        let report = contract::check(&manifest, &System::real()).await;
        for finding in &report.findings {
            print::line(&format!("{}:{}: {}", manifest.file, finding.line, finding.message));
        }
        let kept = if report.findings.is_empty() { "keeps its contract" } else { "does not keep its contract" };
        print::talk(&format!("{} {kept}: {} examples, {} requests", manifest.name, report.examples, report.requests));
        if !report.findings.is_empty() && exit == Exit::Well {
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

fn named(library: &Library, name: &str) -> Result<Arc<Manifest>, Fault> {
    let path = PathBuf::from(name);
    let is_file = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    if !is_file {
        return found(library, name);
    }
    let text =
        std::fs::read_to_string(&path).map_err(|error| Fault::Usage(format!("cannot read `{name}`: {error}")))?;
    match read(&name.into(), &text.into()) {
        Loaded::Manifest(manifest) => Ok(manifest),
        Loaded::Faulty { diagnostics, sources } => Err(Fault::Invalid { diagnostics, sources, files: 1 }),
        Loaded::Missing => Err(Fault::Usage(format!("there is no `{name}`"))),
    }
}
