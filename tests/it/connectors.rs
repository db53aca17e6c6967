//! The manifests that come with the binary, held against their own examples; and the suite itself against bad ones.

use std::sync::Arc;

use pipewright::connector::contract;
use pipewright::connector::library;
use pipewright::connector::library::Loaded;
use pipewright::connector::manifest::Manifest;
use pipewright::diag;
use pipewright::diag::Format;
use pipewright::model::Effect;
use pipewright::model::Value;
use pipewright::node::Found;
use pipewright::node::Operations;
use pipewright::system::System;

use crate::support::shell::Shell;

fn manifest(file: &str, text: &str) -> Arc<Manifest> {
    match library::read(&file.into(), &text.into()) {
        Loaded::Manifest(manifest) => manifest,
        Loaded::Faulty { diagnostics, sources } => {
            let mut text = String::new();
            diag::render(&diagnostics, &sources, Format::Text, false, &mut text).unwrap();
            panic!("\n{text}");
        }
        Loaded::Missing => panic!("{file} is missing"),
    }
}

async fn findings(manifest: &Arc<Manifest>) -> Vec<String> {
    let report = contract::check(manifest, &System::real()).await;
    assert!(report.examples > 0, "{} has no example", manifest.file);
    report.findings.into_iter().map(|it| format!("{}:{}: {}", manifest.file, it.line, it.message)).collect()
}

#[tokio::test]
async fn every_built_in_manifest_keeps_its_contract() {
    let mut all = Vec::new();
    for (name, text) in library::BUILT_IN {
        let manifest = manifest(&format!("connectors/{name}.yaml"), text);
        all.extend(findings(&manifest).await);
    }
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

/// The hard parts of other vendors' manifests: every construct of the vocabulary is used by one of them.
#[tokio::test]
async fn the_manifests_of_other_vendors_keep_their_contracts() {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("tests/manifests/vendors").unwrap() {
        let path = entry.unwrap().path().display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        let found = findings(&manifest(&path, &text)).await;
        // Operations that others only use are shown by them.
        all.extend(found);
    }
    all.sort();
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

const BAD: &str = r#"connector: bad
base_url: { api: https://api.example.com }
explain: { message: "{{ body.message }}" }
limits:
  budgets:
    few: { limit: 3, per: 1h }
    none: { limit: "{{ config.limit }}", per: 1h }
    much: { limit: 4, per: 1h }
errors:
  - { status: 429, then: throttled }
  - { when: "{{ body.eror }}", then: rejected }
operations:
  list:
    effect: read
    input: { properties: { since: {} } }
    request: { get: /items, query: { since: "{{ input.since }}", next: "{{ next }}" } }
    items: "{{ body.data }}"
    item: { id: "{{ item.id }}" }
    paging: { next: "{{ body.nxt }}" }
    examples:
      - { input: { since: 1 }, exchanges: [ { expect: { get: /items, query: { since: "2" } }, reply: { json: { data: [] } } } ], output: [] }
      - { input: {}, exchanges: [ { expect: { post: /items }, reply: { json: { data: [] } } } ], output: [] }
      - { input: {}, exchanges: [ { expect: { get: /items }, reply: { json: { data: [ { id: 1 } ] } } } ], output: [ { id: 2 } ] }
      - { input: {}, exchanges: [ { expect: { get: /items }, reply: { status: 500, text: oops } } ], output: [] }
      - { input: {}, exchanges: [ { expect: { get: /items }, reply: { json: {} } }, { expect: { get: /items }, reply: {} } ], output: [] }
      - { input: { sinse: 1 }, exchanges: [], output: [] }
  create:
    effect: create
    request: { post: /items, json: { a: "{{ input.a }}" } }
    output: { id: "{{ body.id }}", etag: "{{ headers.etag }}" }
    reconcile: { operation: list, found: "{{ item.id }}", output: { id: "{{ item.id }}" } }
    examples:
      - { input: { a: 1.10 }, exchanges: [ { expect: { post: /items, json: { a: 1.1 } }, reply: { json: { id: 5 } } } ], output: { id: 5, etag: null } }
  plain: { effect: read, request: { get: /plain } }
  put:
    effect: update
    repeat: always
    request: { put: "/items/{{ input.id }}", headers: { X-Key: "{{ now() | iso }}" }, json: {} }
    cost: { few: 1, none: 1 }
    examples:
      - { input: { id: 1 }, exchanges: [ { expect: { put: /items/1 }, reply: { json: { ok: true } } } ], output: { ok: true } }
  dear:
    effect: read
    request: { get: /dear }
    cost: { much: 5 }
    examples:
      - { exchanges: [ { expect: { get: /dear }, reply: { json: { ok: true } } } ], output: { ok: true } }
  many:
    effect: read
    request: { get: /many }
    items: "{{ body.data }}"
    item: { id: "{{ item.id }}", name: "{{ item.nmae }}" }
    examples:
      - { exchanges: [ { expect: { get: /many }, reply: { json: { data: [ { id: 1, name: a } ] } } } ], output: [ { id: 1, name: null } ] }
  each:
    effect: read
    request: { get: /each, query: { ids: "{{ batch | join(',') }}" } }
    batch: { over: "{{ input.ids }}", results: "{{ body.data }}", output: { id: "{{ row.id }}" }, errors: [ { when: "{{ row.fehler }}", then: rejected } ] }
    examples:
      - { input: { ids: [1] }, exchanges: [ { expect: { get: /each }, reply: { json: { data: [ { id: 1 } ] } } } ], output: [ { ok: true, output: { id: 1 }, error: null } ] }
"#;

#[tokio::test]
async fn the_suite_tells_what_a_manifest_does_not_keep() {
    let found = findings(&manifest("bad.yaml", BAD)).await;
    insta::assert_snapshot!(found.join("\n"));
}

#[test]
fn every_manifest_of_the_folder_is_in_the_binary() {
    for entry in std::fs::read_dir("connectors").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "yaml") {
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            assert!(library::BUILT_IN.iter().any(|(name, _)| *name == stem), "`{stem}` is not in `BUILT_IN`");
        }
    }
}

#[test]
fn a_new_manifest_keeps_its_contract_and_a_broken_one_is_told() {
    let shell = Shell::project();
    let made = shell.run(&["connectors", "new", "tickets"]);
    assert_eq!(made.code, 0, "{}", made.err);
    // What is there is not written over.
    assert_eq!(shell.run(&["connectors", "new", "tickets"]).code, 2);
    let tested = shell.run(&["connectors", "test", "tickets"]);
    assert_eq!((tested.code, tested.err.as_str()), (0, "tickets keeps its contract: 6 examples, 8 requests\n"));
    let listed = shell.run(&["connectors", "list"]).out;
    for name in [
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
        "tickets",
        "x",
        "youtube",
    ] {
        assert!(listed.contains(name), "{listed}");
    }
    let shown = shell.run(&["connectors", "show", "tickets"]).out;
    assert!(shown.contains("tickets.create") || shown.contains("create"), "{shown}");
    let path = shell.path().join("connectors/tickets.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("/things/{{ input.id }}", "/thing/{{ input.id }}")).unwrap();
    let tested = shell.run(&["connectors", "test", "tickets"]);
    assert_eq!(tested.code, 1, "{}{}", tested.out, tested.err);
    assert!(tested.out.contains("expected /things/1"), "{}", tested.out);
    assert_eq!(shell.run(&["connectors", "show", "nobody"]).code, 2);
    // Faults of one hide nothing of another, and the steps of an operation are checked though nobody uses it.
    std::fs::write(&path, text).unwrap();
    let chain = "connector: chain\nbase_url: { api: https://a.example }\noperations:\n  do: { effect: create, steps: { one: { uses: wait, with: { fro: 1s } } } }\n";
    shell.file("connectors/chain.yaml", chain);
    let tested = shell.run(&["connectors", "test"]);
    assert_eq!(tested.code, 2, "{}{}", tested.out, tested.err);
    assert!(tested.err.contains("`time.wait` takes no `fro`"), "{}", tested.err);
    assert!(tested.err.contains("tickets keeps its contract"), "{}", tested.err);
    let validated = shell.run(&["validate"]);
    assert!(validated.code == 2 && validated.out.contains("`time.wait` takes no `fro`"), "{}", validated.out);
}

#[test]
fn what_a_model_is_asked_counts_as_spent_and_what_is_listed_does_not() {
    let library = library::Library::default();
    for name in ["anthropic", "cohere", "local", "ollama", "openai"] {
        let effect = |operation: &str| match library.find(&format!("{name}.{operation}")) {
            Found::Node(node) => Some(node.effect(&Value::Null)),
            _ => None,
        };
        assert_eq!(effect("chat"), Some(Effect::PaidRead), "{name}");
        assert_eq!(effect("embed").unwrap_or(Effect::PaidRead), Effect::PaidRead, "{name}");
        assert_eq!(effect("models"), Some(Effect::Read), "{name}");
    }
}

#[test]
fn a_project_has_prices_of_its_own_and_hears_what_is_wrong_with_them() {
    let shell = Shell::project();
    let row = "connector: openai, model: gpt-6-sol, currency: USD, source: our contract, seen: 2026-11-20";
    shell.file("pipelines/ask.yaml", "steps: { a: { uses: openai.chat, with: { model: gpt-6-sol, max_tokens: 1000, messages: [ { role: user, content: Hi } ] } } }\n");
    shell.file(
        "pipewright.yaml",
        "connections: { openai: { connector: openai, auth: { api_key: \"{{ secrets.KEY }}\" } } }\n",
    );
    shell.file("prices.yaml", &format!("prices:\n  - {{ {row}, in: 1, uot: 2 }}\n"));
    let validated = shell.run(&["validate"]);
    assert_eq!(validated.code, 2, "{}", validated.shown());
    for part in ["prices.yaml:2:", "unknown key `uot`", "did you mean `out`?"] {
        assert!(validated.out.contains(part), "{part}: {}", validated.out);
    }
    // A run does not begin with prices that nobody can read.
    let ended = shell.run(&["run", "ask", "--sandbox"]);
    assert!(ended.code != 0 && ended.err.contains("unknown key `uot`"), "{}", ended.shown());
    // A plan says what it will cost at most, by the project's row: 1000 tokens at 1000 for a million, and the question.
    shell.file("prices.yaml", &format!("prices:\n  - {{ {row}, in: 0, out: 1000 }}\n"));
    assert_eq!(shell.run(&["validate"]).code, 0);
    let plan = || shell.run(&["plan", "ask", "--sandbox", "--spend", "5"]);
    assert!(plan().out.contains("spent by this plan 1 USD"), "{}", plan().shown());
    // What nobody knows the price of is not within what may be spent.
    let unknown = "steps: { a: { uses: openai.chat, with: { model: gpt-4.1-mini, messages: [ { role: user, content: Hi } ] } } }\n";
    shell.file("pipelines/ask.yaml", unknown);
    assert!(plan().out.contains("it costs money, and `--spend` does not allow it"), "{}", plan().shown());
}
