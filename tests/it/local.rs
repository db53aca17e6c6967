//! A real model: SmolLM2 with 135 million parameters, served by llama.cpp. What it writes has no sense, so forms are tested.
//!
//! `TEST_LOCAL_MODEL` is a Python with both; `CONTRIBUTING.md` says how to make one. Without it there is nothing to see.

use std::io::BufRead;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use pipewright::model::Value;
use pipewright::model::parse_json;

use crate::support::shell::Shell;

/// A model that runs as long as the test.
struct Model {
    child: Child,
    url: String,
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Model {
    /// Starts the model; nothing where there is none.
    #[expect(clippy::disallowed_methods, reason = "the test is told by the environment where its server is")]
    fn start(arguments: &[&str]) -> Option<Self> {
        let python = std::env::var_os("TEST_LOCAL_MODEL").map(PathBuf::from)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/local_model.py");
        let mut command = Command::new(python);
        command.args([script, "--port", &port.to_string(), "--n_ctx", "2048", "--model_alias", "smollm2"]);
        let mut child = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains("running on")), "the model did not start");
        // Whoever writes to nobody is ended, and whoever is not read waits.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { child, url: format!("http://127.0.0.1:{port}/v1") })
    }

    fn project(&self, settings: &str) -> Shell {
        let shell = Shell::project();
        let own = format!(
            "connector: local, model: smollm2, embed_model: smollm2, base_url: \"{}\", private: true",
            self.url
        );
        shell.file("pipewright.yaml", &format!("connections:\n  own: {{ {own}{settings} }}\n"));
        shell
    }
}

/// Runs one step, and gives what the run puts out.
fn run(shell: &Shell, step: &str) -> Result<Value, String> {
    shell.file(
        "pipelines/one.yaml",
        &format!("steps:\n  one: {step}\noutputs: {{ it: \"{{{{ steps.one.output }}}}\" }}\n"),
    );
    let ended = shell.run(&["run", "one"]);
    if ended.code != 0 {
        return Err(ended.err);
    }
    Ok(parse_json(&ended.out).unwrap().get("it").unwrap().clone())
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap()
}

fn number(value: &Value, key: &str) -> i128 {
    match value.get(key) {
        Some(Value::Int(number)) => *number,
        other => panic!("`{key}` is {other:?}"),
    }
}

#[test]
fn a_real_model_writes_by_a_schema_chooses_and_says_what_it_used() {
    let Some(model) = Model::start(&[]) else { return };
    let shell = model.project(", schema_as: json_object");

    let said = run(
        &shell,
        "{ uses: ai.generate, with: { connection: own, text: Say hello., max_tokens: 60, temperature: 0 } }",
    );
    let said = said.unwrap();
    assert!(!text(&said, "text").trim().is_empty());
    assert_eq!(text(&said, "model"), "smollm2");
    let usage = said.get("usage").unwrap();
    assert!(number(usage, "input") > 5 && number(usage, "output") > 0, "{usage}");
    assert_eq!(said.get("cost").unwrap().to_text(), "0 USD");

    let cut = run(
        &shell,
        "{ uses: ai.turn, with: { connection: own, messages: [ { role: user, content: Tell a long story. } ], max_tokens: 5 } }",
    );
    let cut = cut.unwrap();
    assert_eq!(text(&cut, "stop"), "length");
    assert_eq!(number(cut.get("usage").unwrap(), "output"), 5);

    // By a grammar even this model keeps to a schema.
    let schema = "{ type: object, required: [score, mood], additionalProperties: false, properties: { score: { type: integer }, mood: { enum: [glad, sad] } } }";
    let rated = run(
        &shell,
        &format!(
            "{{ uses: ai.generate, with: {{ connection: own, text: \"Rate: Ship it\", schema: {schema}, max_tokens: 60, temperature: 0 }} }}"
        ),
    );
    let rated = rated.unwrap();
    let value = rated.get("value").unwrap();
    assert!(matches!(value.get("score"), Some(Value::Int(_))), "{value}");
    assert!(["glad", "sad"].contains(&text(value, "mood")), "{value}");

    let chosen = run(
        &shell,
        "{ uses: ai.classify, with: { connection: own, text: It fails., labels: { praise: somebody is pleased, complaint: it does not work }, max_tokens: 200 } }",
    );
    let chosen = chosen.unwrap();
    assert!(["praise", "complaint"].contains(&text(&chosen, "label")), "{chosen}");

    let used = shell.run(&["usage", "--by", "model", "--json"]);
    assert!(used.out.contains("\"model\":\"smollm2\""), "{}", used.out);
    assert!(!used.out.contains("\"tokens_in\":0"), "{}", used.out);
}

#[test]
fn what_a_real_model_writes_is_shown_while_it_comes() {
    let Some(model) = Model::start(&[]) else { return };
    let shell = model.project("");
    let step =
        "uses: ai.generate, with: { connection: own, text: Count to ten in words., max_tokens: 40, temperature: 0 }";
    shell.file("pipelines/one.yaml", &format!("steps:\n  one: {{ {step} }}\noutputs: {{ text: \"{{{{ steps.one.output.text }}}}\", usage: \"{{{{ steps.one.output.usage }}}}\" }}\n"));
    // `script` makes a terminal for it.
    let line = format!("{} run one", env!("CARGO_BIN_EXE_pipewright"));
    let mut command = Command::new("script");
    let output =
        command.args(["-qec", &line, "/dev/null"]).current_dir(shell.path()).stdin(Stdio::null()).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}");
    let (before, after) = shown.rsplit_once("\"text\":").unwrap_or_else(|| panic!("{shown}"));
    let words: Vec<&str> = after.trim_start_matches([' ', '"']).split_whitespace().take(2).collect();
    let words: Vec<&str> = words.iter().map(|word| word.split('\\').next().unwrap()).collect();
    assert!(before.contains(words.first().unwrap()), "{words:?} is not shown while it comes: {shown}");
    // This server does not say in a stream what it used.
    assert!(after.replace(' ', "").contains("\"estimated\":true"), "{after}");
}

#[test]
fn what_a_real_server_cannot_do_is_said_with_a_way_out() {
    let Some(model) = Model::start(&["--embedding", "true"]) else { return };
    let shell = model.project("");
    let step =
        "{ uses: ai.generate, with: { connection: own, text: Rate it., schema: { type: object }, max_tokens: 20 } }";
    let told = run(&shell, step).unwrap_err();
    assert!(told.contains("say `schema_as: json_object` in the connection"), "{told}");
    let told = run(&shell, "{ uses: ai.embed, with: { connection: own, texts: [one, two three] } }").unwrap_err();
    assert!(told.contains("a vector for each token"), "{told}");
    let long = "word ".repeat(3_000);
    let told =
        run(&shell, &format!("{{ uses: ai.generate, with: {{ connection: own, text: {long}, max_tokens: 3 }} }}"));
    assert!(told.as_ref().is_err_and(|told| told.contains("maximum context length")), "{told:?}");
}
