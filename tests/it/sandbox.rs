//! The sandbox from outside: rehearsals of whole projects, and stand-ins that others' clients take for the real thing.

use std::io::BufRead;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use pipewright::connector::library;
use pipewright::connector::library::Loaded;
use pipewright::connector::manifest::Manifest;
use pipewright::model::Value;
use pipewright::model::parse_json;

use crate::support::clients;
use crate::support::shell::Shell;

const CONNECTIONS: &str = r#"connections:
  x: { connector: x, auth: { client_id: "{{ secrets.X_CLIENT_ID }}" } }
  ops: { connector: discord, auth: { webhook_url: "{{ secrets.DISCORD_WEBHOOK }}" } }
"#;

fn project(connections: &str, pipeline: &str) -> Shell {
    let shell = Shell::empty();
    shell.file("pipewright.yaml", connections).file("pipelines/test.yaml", pipeline);
    shell
}

#[test]
fn a_pipeline_is_rehearsed_without_credentials_and_apart_from_the_real_store() {
    let shell = project(
        CONNECTIONS,
        r#"steps:
  post: { uses: x.create_post, with: { connection: x, text: "hello https://example.com/a" } }
  list: { uses: x.list_posts, needs: [post], with: { connection: x, since: "2026-11-21T00:00:00Z" } }
  tell: { uses: discord.send, with: { connection: ops, text: "posted {{ steps.post.output.id }}" } }
outputs: { texts: "{{ steps.list.output | map(attribute='text') | list }}" }
"#,
    );
    let ended = shell.run(&["run", "test", "--sandbox", "--seed", "1"]);
    assert_eq!(ended.code, 0, "{}", ended.shown());
    // The stand-in has written the link as the platform does, and the connector has put it back.
    assert!(ended.out.contains(r#""hello https://example.com/a""#), "{}", ended.out);
    assert!(ended.err.contains("sandbox: x 3 requests: create_post 1, list_posts 1, me 1"), "{}", ended.err);
    assert!(ended.err.contains("sandbox: discord 1 request: send 1"), "{}", ended.err);
    assert!(!shell.path().join(".pipewright/state.db").exists(), "the real store was opened");
    let listed = shell.run(&["--sandbox", "runs", "list"]);
    assert!(listed.out.contains("succeeded"), "{}", listed.out);
    assert!(!shell.run(&["runs", "list"]).out.contains("succeeded"));
}

#[test]
fn a_rehearsal_reaches_nothing_else() {
    let shell = project(
        "allow: { shell: true }\nconnections: { shop: { url: \"postgres://shop:secret@127.0.0.1:5432/shop\" } }\n",
        r#"steps:
  web: { uses: http.request, on_error: continue, with: { url: "http://127.0.0.1:9/" } }
  program: { uses: shell.run, on_error: continue, with: { program: touch, args: [made] } }
  rows: { uses: sql.query, on_error: continue, with: { database: shop, sql: "select 1" } }
outputs: { web: "{{ steps.web.error.message }}", program: "{{ steps.program.error.message }}", rows: "{{ steps.rows.error.message }}" }
"#,
    );
    let ended = shell.run(&["run", "test", "--sandbox"]);
    assert_eq!(ended.code, 0, "{}", ended.shown());
    for part in [
        "no stand-in for it, and reaches nothing else",
        "`shell.run` does not run in the sandbox",
        "not reached in the sandbox",
    ] {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
    assert!(!shell.path().join("made").exists());
}

#[test]
fn a_connector_that_is_dropped_in_has_a_stand_in_that_remembers() {
    let shell = project(
        "connections: { shop: { connector: shop, auth: { api_key: \"{{ secrets.SHOP }}\" } } }\n",
        r#"steps:
  make: { for_each: "{{ range(12) | list }}", uses: shop.create, with: { connection: shop, name: "thing {{ item }}" } }
  list: { uses: shop.list, needs: [make], with: { connection: shop } }
  gone: { uses: shop.delete, needs: [list], with: { connection: shop, id: "1" } }
  rest: { uses: shop.list, needs: [gone], with: { connection: shop } }
outputs: { listed: "{{ steps.list.output | length }}", rest: "{{ steps.rest.output | length }}", last: "{{ (steps.list.output | last).name is startingwith('thing') }}" }
"#,
    );
    assert_eq!(shell.run(&["connectors", "new", "shop"]).code, 0);
    let ended = shell.run(&["run", "test", "--sandbox", "--json"]);
    assert_eq!(ended.code, 0, "{}", ended.shown());
    // Two from the examples and twelve that were made, in pages of ten.
    assert!(ended.out.contains(r#""listed":14,"rest":13,"last":true"#), "{}", ended.out);
}

#[test]
fn what_a_manifest_says_wrongly_of_its_stand_in_is_told_with_its_place() {
    let shell = project("", "steps: { a: { uses: data.set, with: { value: 1 } } }\n");
    shell.file(
        "connectors/shop.yaml",
        r#"connector: shop
base_url: { api: https://shop.example }
sandbox:
  data: { things: [] }
  limits: [ { limit: 5, per: 1m, operations: [lst] } ]
operations:
  list:
    effect: read
    request: { get: /things }
    items: "{{ body.data }}"
    sandbox: { list: { in: thngs, newest: true }, set: { a: 1 }, reply: { json: "{{ itms }}" } }
    examples: [ { input: {}, exchanges: [ { expect: { get: /things }, reply: { json: { data: [] } } } ], output: [] } ]
"#,
    );
    let ended = shell.run(&["connectors", "test", "shop"]);
    assert_eq!(ended.code, 2, "{}", ended.shown());
    insta::assert_snapshot!(
        ended.err.lines().filter(|line| line.contains("error") || line.contains("help")).collect::<Vec<_>>().join("\n")
    );
    // A rehearsal says it, too.
    shell.file("pipelines/test.yaml", "steps: { a: { uses: shop.list, with: { connection: shop } } }\n");
    let ended = shell.run(&["run", "test", "--sandbox"]);
    assert_ne!(ended.code, 0);
    assert!(ended.err.contains("connectors/shop.yaml:5"), "{}", ended.err);
}

#[test]
fn faults_go_with_a_rehearsal_and_wrong_ones_are_told() {
    let shell = project(CONNECTIONS, "steps: { a: { uses: x.me, with: { connection: x } } }\n");
    let ended = shell.run(&["run", "test", "--fault", "429=1"]);
    assert!(ended.code == 2 && ended.err.contains("go with `--sandbox`"), "{}", ended.shown());
    let ended = shell.run(&["run", "test", "--sandbox", "--fault", "drop-after-sent=1"]);
    assert!(ended.code == 2 && ended.err.contains("did you mean `drop-after-send`?"), "{}", ended.shown());
    let ended = shell.run(&["run", "test", "--sandbox", "--fault", "x.me:402"]);
    assert!(
        ended.code == 1 && ended.err.contains("exhausted") && ended.err.contains("CreditsDepleted"),
        "{}",
        ended.shown()
    );
    let ended = shell.run(&["run", "test", "--sandbox=http://127.0.0.1:1"]);
    assert_eq!(ended.code, 2, "{}", ended.shown());
}

/// A sandbox that is served as long as the test.
struct Served {
    child: Child,
    shell: Shell,
    told: Value,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    fn start(shell: Shell, arguments: &[&str]) -> Self {
        let mut command = shell.command(&[&["sandbox", "--port", "0", "--json"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told = parse_json(&line).unwrap();
        Self { child, shell, told }
    }

    fn url(&self) -> String {
        self.told.get("url").unwrap().to_text()
    }

    fn stand(&self, name: &str) -> &Value {
        let stands = self.told.get("stands").and_then(Value::as_list).unwrap();
        stands.iter().find(|stand| stand.get("name").unwrap().to_text() == name).unwrap()
    }

    fn address(&self, name: &str) -> String {
        self.stand(name).get("url").unwrap().to_text()
    }

    fn credential(&self, name: &str, key: &str) -> String {
        self.stand(name).get("auth").and_then(|auth| auth.get(key)).unwrap().to_text()
    }
}

/// Runs a client that this project did not write; it ends well or says what was wrong.
fn client(script: &str, arguments: &[&str]) -> String {
    let path = PathBuf::from("tests/clients").join(script);
    let output = Command::new(clients::installed("bin/python")).arg(path).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.lines().filter(|line| line.starts_with("ok ")).count() > 2, "{out}");
    out.into_owned()
}

#[test]
fn two_processes_and_a_person_share_a_sandbox_that_is_served() {
    let pipeline = r#"inputs: { text: { type: string } }
steps:
  post: { uses: x.create_post, with: { connection: x, text: "{{ inputs.text }}" } }
"#;
    let served = Served::start(project(CONNECTIONS, pipeline), &["x", "discord"]);
    let sandbox = format!("--sandbox={}", served.url());
    for text in ["one", "two"] {
        let ended = served.shell.run(&["run", "test", &sandbox, "-i", &format!("text={text}")]);
        assert_eq!(ended.code, 0, "{}", ended.shown());
    }
    // The stand-in remembers what another process has posted.
    let ended = served.shell.run(&["run", "test", &sandbox, "-i", "text=one"]);
    assert!(ended.code == 1 && ended.err.contains("conflict"), "{}", ended.shown());
    let listed = served.shell.run(&["sandbox", "--list"]);
    assert!(listed.code == 0 && listed.out.contains("posts 5"), "{}", listed.shown());
    let get = |path: &str| clients::get(&format!("{}{path}", served.address("x")));
    let received = parse_json(&get("/_sandbox/received")).unwrap();
    let posts =
        received.as_list().unwrap().iter().filter(|seen| seen.get("operation") == Some(&Value::from("create_post")));
    let posted: Vec<_> = posts.map(|seen| seen.get("body").unwrap().get("text").unwrap().to_text()).collect();
    assert_eq!(posted, ["one", "two", "one"]);
    assert!(!received.to_string().contains("sandbox.access."), "{received}");
    assert!(get("/_sandbox/state").contains(r#""sent":"two""#));
    assert_eq!(served.shell.run(&["run", "test", &sandbox, "--fault", "429", "-i", "text=x"]).code, 2);
}

#[test]
fn tweepy_takes_the_stand_in_for_x() {
    let served = Served::start(project("connections: { x: { connector: x, names: tweet } }\n", "steps: {}\n"), &["x"]);
    client("x_client.py", &[&served.address("x")]);
}

#[test]
fn the_sdk_of_meta_takes_the_stand_ins_for_facebook_and_instagram() {
    let served = Served::start(Shell::empty(), &["facebook", "instagram"]);
    let token = |name: &str| served.credential(name, "access_token");
    let (facebook, instagram) = (served.address("facebook"), served.address("instagram"));
    client("facebook_client.py", &[&facebook, &instagram, &token("facebook"), &token("instagram")]);
}

#[test]
fn a_client_for_webhooks_takes_the_stand_in_for_discord() {
    let served = Served::start(Shell::empty(), &["discord"]);
    let hook = served.credential("discord", "webhook_url");
    let path = hook.split_once("/webhooks").unwrap().1.to_owned();
    client("discord_client.py", &[&format!("{}/api/v10/webhooks{path}", served.address("discord"))]);
}

#[test]
fn pyodata_takes_the_stand_in_for_sap() {
    let served = Served::start(Shell::empty(), &["sap"]);
    let (user, password) = (served.credential("sap", "user"), served.credential("sap", "password"));
    client("sap_client.py", &[&served.address("sap"), &user, &password]);
}

#[test]
fn odoo_client_lib_takes_the_stand_in_for_odoo() {
    let served = Served::start(Shell::empty(), &["odoo"]);
    let address = served.address("odoo");
    let (host, port) = address.trim_start_matches("http://").split_once(':').unwrap();
    let (login, key) = (served.credential("odoo", "login"), served.credential("odoo", "api_key"));
    client("odoo_client.py", &[host, port, "sandbox", &login, &key]);
}

/// Makes a pipeline of the first example of each operation, and the connection that they are about.
fn of_examples(manifest: &Manifest) -> (String, String) {
    let config = manifest.operations.values().flat_map(|operation| &operation.examples).map(|example| &example.config);
    let config = config.into_iter().find(|config| !config.is_null()).cloned();
    let mut steps = String::new();
    for operation in manifest.operations.values().filter(|operation| !operation.hidden) {
        let shown = operation.examples.iter().find(|example| {
            let same = example.config.is_null() || Some(&example.config) == config.as_ref();
            // Files are made by the suite, and a pipeline has none of them.
            same && example.error.is_none() && !example.input.to_string().contains("\"file\"")
        });
        let Some(example) = shown else { continue };
        let mut with = example.input.as_map().cloned().unwrap_or_default();
        with.insert("connection".into(), Value::from(&*manifest.name));
        let (name, operation) = (&manifest.name, &operation.name);
        steps.push_str(&format!("  {operation}: {{ uses: {name}.{operation}, with: {} }}\n", Value::from(with)));
    }
    let mut connection = config.and_then(|config| config.as_map().cloned()).unwrap_or_default();
    connection.insert("connector".into(), Value::from(&*manifest.name));
    (format!("connections: {{ {}: {} }}\n", manifest.name, Value::from(connection)), format!("steps:\n{steps}"))
}

#[test]
fn a_manifest_without_a_word_about_the_sandbox_is_rehearsed_by_its_examples() {
    for name in ["alphavantage", "dynamics", "linkedin", "netsuite", "polygon", "yahoo", "youtube"] {
        let text = std::fs::read_to_string(format!("tests/manifests/vendors/{name}.yaml")).unwrap();
        let Loaded::Manifest(manifest) = library::read(&name.into(), &text.as_str().into()) else { panic!("{name}") };
        let (connections, pipeline) = of_examples(&manifest);
        let shell = project(&connections, &pipeline);
        shell.file(&format!("connectors/{name}.yaml"), &text);
        let ended = shell.run(&["run", "test", "--sandbox"]);
        assert_eq!(ended.code, 0, "{name}\n{pipeline}\n{}", ended.shown());
    }
}

#[test]
fn an_upload_session_stands_in_no_record_of_the_wire() {
    let shell = project(
        "connections: { youtube: { connector: youtube, auth: { client_id: c } } }\n",
        r#"steps:
  file: { uses: file.read, with: { path: tour.mp4, as: blob } }
  post: { uses: youtube.publish, with: { connection: youtube, title: tour, wait_processed: false, media: [ { file: "{{ steps.file.output.content }}" } ] } }
"#,
    );
    shell.file("tour.mp4", "a short film");
    let ended = shell.run(&["run", "test", "--sandbox"]);
    assert_eq!(ended.code, 0, "{}", ended.shown());
    let listed = shell.run(&["--sandbox", "runs", "list"]).out;
    let session = listed.lines().find(|line| line.contains("youtube.upload_session")).unwrap();
    let run = session.split_whitespace().next().unwrap();
    let shown = shell.run(&["--sandbox", "runs", "show", run, "--wire"]).out;
    assert!(shown.contains("location: ***") && shown.contains("PUT ***"), "{shown}");
    assert!(!shown.contains("upload_id"), "{shown}");
}

#[test]
fn the_client_of_google_takes_the_stand_in_for_youtube() {
    let served = Served::start(Shell::empty(), &["youtube"]);
    client("youtube_client.py", &[&served.address("youtube")]);
}

#[test]
fn the_client_of_openai_takes_the_stand_in_for_it() {
    let served = Served::start(Shell::empty(), &["openai"]);
    let base = format!("{}/v1", served.address("openai"));
    client("openai_client.py", &[&base, &served.credential("openai", "api_key")]);
}

#[test]
fn the_client_of_anthropic_takes_the_stand_in_for_it() {
    let served = Served::start(Shell::empty(), &["anthropic"]);
    client("anthropic_client.py", &[&served.address("anthropic"), &served.credential("anthropic", "api_key")]);
}

#[test]
fn the_client_of_cohere_takes_the_stand_in_for_it() {
    let served = Served::start(Shell::empty(), &["cohere"]);
    client("cohere_client.py", &[&served.address("cohere"), &served.credential("cohere", "api_key")]);
}

#[test]
fn the_client_of_ollama_takes_the_stand_in_for_it() {
    let served = Served::start(Shell::empty(), &["ollama"]);
    client("ollama_client.py", &[&served.address("ollama")]);
}

#[test]
fn one_question_is_asked_of_every_provider() {
    for (name, model, embedder) in [
        ("anthropic", "claude-haiku-5-5", None),
        ("cohere", "command-a-03-2025", Some("embed-v4.0")),
        ("local", "mistral-small", Some("nomic-embed-text")),
        ("ollama", "gpt-oss:20b", Some("nomic-embed-text")),
        ("openai", "gpt-6-sol", Some("text-embedding-3-small")),
    ] {
        let url = if name == "local" { ", base_url: \"http://127.0.0.1:9/v1\"" } else { "" };
        let choice = if name == "ollama" { "auto" } else { "required" };
        let embed = embedder.map_or_else(String::new, |embedder| {
            format!(
                "  embed: {{ uses: {name}.embed, with: {{ model: \"{embedder}\", texts: [a, b], dimensions: 256 }} }}\n"
            )
        });
        let vectors = if embedder.is_some() { "steps.embed.output.vectors[1] | length" } else { "256" };
        let tools = "tools: [ { name: get_quote, parameters: { type: object, properties: { symbol: { type: string } }, required: [symbol], additionalProperties: false } } ]";
        let said = "role: user, content: \"What is the quote of ACME?\"";
        let schema = "schema: { type: object, properties: { score: { type: integer } }, required: [score], additionalProperties: false }";
        let ask = format!("uses: {name}.chat");
        let question = format!("model: \"{model}\", max_tokens: 600");
        let pipeline = format!(
            r#"steps:
  call: {{ {ask}, with: {{ {question}, messages: [ {{ {said} }} ], {tools}, tool_choice: {choice} }} }}
  done: {{ {ask}, with: {{ {question}, stream: true, {tools}, messages: [ {{ {said} }}, "{{{{ steps.call.output.message }}}}", {{ role: tool, tool_call_id: "{{{{ steps.call.output.tool_calls[0].id }}}}", content: "101.25" }} ] }} }}
  rate: {{ {ask}, with: {{ {question}, stream: true, {schema}, messages: [ {{ role: user, content: "Rate this as JSON" }} ] }} }}
  models: {{ uses: {name}.models }}
{embed}outputs:
  all: "{{{{ [steps.call.output.stop, steps.done.output.text, (steps.rate.output.text | from_json).score is integer, steps.rate.output.usage.total > 0, '{model}' in (steps.models.output | map(attribute='id') | list), {vectors}] }}}}"
"#
        );
        let shell = project(&format!("connections: {{ {name}: {{ connector: {name}{url} }} }}\n"), &pipeline);
        let ended = shell.run(&["run", "test", "--sandbox", "--json"]);
        assert_eq!(ended.code, 0, "{name}: {}", ended.shown());
        let expected = r#"["tool_use","get_quote says: 101.25",true,true,true,256]"#;
        assert!(ended.out.contains(expected), "{name}: {}", ended.out);
    }
}

#[test]
fn the_client_of_linkedin_takes_the_stand_in_for_it() {
    let served = Served::start(Shell::empty(), &["linkedin"]);
    client("linkedin_client.py", &[&served.address("linkedin")]);
}
