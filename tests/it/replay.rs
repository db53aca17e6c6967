//! Recorded runs, replayed as a user does it.

use std::fs;
use std::path::Path;

use crate::support::server::Reply;
use crate::support::server::Server;
use crate::support::shell::Shell;

/// Compares with the snapshot of this name.
macro_rules! assert_shown {
    ($name:literal, $text:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false, filters => vec![
            (r"[0-9A-HJKMNP-TV-Z]{26}", "[RUN]"),
            (r"/tmp/[^ `]*/", "[FOLDER]/"),
        ] }, { insta::assert_snapshot!($name, $text) });
    };
}

/// Retries, lost answers, items in parallel, a wait and an undo, against a stand-in that goes wrong.
const ROUGH: &str = "\
name: rough
steps:
  post:
    for_each: \"{{ range(6) | list }}\"
    max_parallel: 3
    retry: { on: [throttled, unavailable, timeout, locked], attempts: 12, delay: 20ms, max_delay: 50ms }
    uses: x.create_post
    with: { connection: x, text: \"note {{ item }} at {{ now() }}\" }
    undo: auto
  wait: { needs: [post], uses: time.wait, with: { for: 50ms } }
  boom: { needs: [wait], uses: assert.that, with: { that: false, message: no } }
";

/// A project with what we ship.
fn shipped() -> Shell {
    let shell = Shell::empty();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::copy(source.join("pipewright.yaml"), shell.path().join("pipewright.yaml")).unwrap();
    for name in ["pipelines", "pipelines/prompts", "examples", "examples/data", "examples/prompts"] {
        let target = shell.path().join(name);
        fs::create_dir_all(&target).unwrap();
        for entry in fs::read_dir(source.join(name)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, target.join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    shell
}

#[test]
fn every_recorded_run_has_the_same_effects_offline() {
    let shell = shipped();
    let mut recorded = 0;
    let mut record = |arguments: &[&str], code: i32| {
        recorded += 1;
        let file = format!("--record=kept/{recorded:02}.jsonl");
        let ended = shell.run(&[&["--sandbox", "run"], arguments, &[&file]].concat());
        assert_eq!(ended.code, code, "{arguments:?}\n{}", ended.err);
        assert!(ended.err.contains("recorded in kept/"), "{}", ended.err);
    };
    for folder in ["pipelines", "examples"] {
        let mut files: Vec<_> =
            fs::read_dir(shell.path().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
        // Tests of pipelines stand beside them.
        files.retain(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().contains(".test.")));
        files.sort();
        for file in files {
            record(&[file.to_str().unwrap()], 0);
        }
    }
    record(&["examples/undo.yaml", "-i", "sound=false"], 1);
    shell.file("rough.yaml", ROUGH);
    let faults = ["--fault", "x.create_post:429=0.2", "--fault", "x.create_post:503=0.1"];
    for seed in ["1", "2", "3"] {
        record(&[&["rough.yaml", "--seed", seed], &faults[..]].concat(), 1);
    }
    // Another folder: no project, no settings, no store, no secrets; and no transport that could reach anything.
    let elsewhere = Shell::empty();
    fs::rename(shell.path().join("kept"), elsewhere.path().join("kept")).unwrap();
    let ended = elsewhere.run(&["replay", "kept"]);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    assert!(ended.out.ends_with(&format!("{recorded} runs: {recorded} the same, 0 differ\n")), "{}", ended.out);
    assert!(ended.out.contains("undo  6 effects, the same"), "{}", ended.out);
    assert!(ended.out.contains("rough  12 effects, the same"), "{}", ended.out);
    assert!(!elsewhere.path().join(".pipewright").exists());
}

const ORDERS: &str = "\
name: orders
inputs: { least: { type: integer, default: 3 } }
steps:
  goods: { uses: csv.read, with: { file: goods.csv, types: { stock: integer } } }
  short:
    uses: data.filter
    with: { items: \"{{ steps.goods.output.rows }}\", where: \"{{ item.stock < inputs.least }}\" }
  order:
    for_each: \"{{ steps.short.output }}\"
    uses: file.write
    with: { path: \"out/{{ item.name }}.txt\", content: \"{{ inputs.least - item.stock }} of {{ item.name }}\" }
  done: { needs: [order], uses: file.write, with: { path: out/done.txt, content: done } }
outputs: { ordered: \"{{ steps.order.output | length }}\" }
";

#[test]
fn a_changed_version_shows_what_it_would_have_done() {
    let shell = Shell::project();
    shell.file("pipelines/orders.yaml", ORDERS).file("goods.csv", "name,stock\nbolt,1\nnut,2\nscrew,9\n");
    for number in ["1", "2", "3"] {
        let least = format!("least={number}");
        assert_eq!(shell.run(&["run", "orders", "-q", "-i", &least, &format!("--record=kept/{number}.jsonl")]).code, 0);
    }
    // What was read is on the cassette, not in the folder.
    shell.file("goods.csv", "name,stock\n");
    fs::remove_dir_all(shell.path().join("out")).unwrap();
    let edited = ORDERS
        .replace("{{ inputs.least - item.stock }} of", "{{ (inputs.least - item.stock) * 2 }} of")
        .replace("  done:", "  tell: { uses: file.delete, with: { path: out/old.txt } }\n  done:");
    shell.file("edited.yaml", &edited);
    let same = shell.run(&["replay", "kept"]);
    assert_eq!((same.code, same.out.lines().last().unwrap()), (0, "3 runs: 3 the same, 0 differ"), "{}", same.out);
    assert_shown!("replay_with", shell.run(&["replay", "kept", "--with", "edited.yaml"]).shown());
    // The store keeps no inputs of reads; the recorded version tells them.
    let stored = shell.run(&["replay", "--of", "orders", "--with", "edited.yaml"]);
    assert_eq!(stored.code, 1);
    let counted = |text: &str| text.lines().rev().take_while(|line| line.starts_with("  ")).count();
    let kept = shell.run(&["replay", "kept", "--with", "edited.yaml"]).out;
    assert_eq!(counted(&stored.out), counted(&kept), "{}", stored.out);
    assert!(!shell.path().join("out").exists(), "a replay writes nothing");
    let json = shell.run(&["replay", "kept/3.jsonl", "--with", "edited.yaml", "--json"]).out;
    let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["differences"][0]["fields"][0]["old"], "2 of bolt");
    assert_eq!(lines[1]["differ"], 1);
    let other = edited.replace("goods.csv", "wares.csv");
    shell.file("edited.yaml", &other);
    assert_shown!("replay_missing", shell.run(&["replay", "kept/3.jsonl", "--with", "edited.yaml"]).shown());
}

#[test]
fn a_cassette_that_is_no_good_is_refused() {
    let shell = Shell::project();
    shell.file("pipelines/orders.yaml", ORDERS).file("goods.csv", "name,stock\nbolt,1\n");
    assert_eq!(shell.run(&["run", "orders", "-q", "--record=kept.jsonl"]).code, 0);
    let text = fs::read_to_string(shell.path().join("kept.jsonl")).unwrap();
    shell.file("edited.jsonl", &text.replace("of bolt", "of gold"));
    shell.file("cut.jsonl", text.get(..text.len() / 2).unwrap());
    shell.file("foreign.jsonl", "{\"har\": 1}\n");
    shell.file("newer.jsonl", &text.replacen("\"cassette\":1", "\"cassette\":9", 1));
    let names = ["edited.jsonl", "cut.jsonl", "foreign.jsonl", "newer.jsonl", "none.jsonl", "01ABC"];
    let told: Vec<String> = names
        .iter()
        .map(|name| {
            let ended = shell.run(&["replay", name]);
            assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{name}");
            ended.err
        })
        .collect();
    assert_shown!("replay_refused", told.concat());
}

#[test]
fn a_long_body_lies_beside_the_cassette_and_is_held_to_its_hash() {
    let shell = Shell::project();
    shell.file("long.txt", &"0123456789abcdef".repeat(40_000));
    shell.file(
        "p.yaml",
        "steps:\n  a: { uses: file.read, with: { path: long.txt } }\n  b: { uses: file.write, with: { path: b.txt, content: \"{{ steps.a.output.content }}\" } }\n",
    );
    assert_eq!(
        shell.run(&["run", "p.yaml", "-q", "--record=k.jsonl"]).code,
        0,
        "{}",
        shell.run(&["run", "p.yaml"]).err
    );
    assert!(fs::metadata(shell.path().join("k.jsonl")).unwrap().len() < 100_000);
    assert_eq!(shell.run(&["replay", "k.jsonl"]).code, 0);
    let beside = fs::read_dir(shell.path().join("k.jsonl.files")).unwrap().next().unwrap().unwrap().path();
    fs::write(&beside, "{}").unwrap();
    let ended = shell.run(&["replay", "k.jsonl"]);
    assert!(ended.code == 2 && ended.err.contains("was changed since it was recorded"), "{}", ended.err);
}

#[test]
fn an_approval_is_given_again_at_its_time() {
    let shell = Shell::project();
    shell.file("pipewright.yaml", "people:\n  ada: [editor]\n  bob: [editor]\n");
    shell.file(
        "p.yaml",
        "steps:\n  ok: { uses: approval.request, with: { title: Go?, approvers: [editor], form: { note: { type: string } } } }\n  go: { uses: file.write, with: { path: go.txt, content: \"{{ steps.ok.output.form.note }}\" } }\n",
    );
    assert_eq!(shell.run(&["run", "p.yaml", "--detach"]).code, 3);
    let listed = shell.run(&["approvals", "list", "--json"]).out;
    let id = listed.split("\"approval\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    let voted = shell.run(&["approvals", "approve", &id, "--as", "bob", "--form", "note=yes"]);
    assert_eq!(voted.code, 0, "{}", voted.err);
    let run = shell.last();
    assert_eq!(shell.run(&["runs", "resume", &run]).code, 0);
    let ended = shell.run(&["replay", &run]);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("1 effect, the same"), "{}", ended.out);
}

/// A secret that looks different in every place where it can stand.
const CANARY: &str = "canary/7+\"ö\\ 9x";

#[test]
fn no_secret_is_on_a_cassette_in_any_form() {
    let server = Server::start(|seen| {
        // It tells back what it was told, as some systems do.
        let told = serde_json::json!({ "id": "1", "path": seen.path, "auth": seen.header("authorization"), "body": seen.body });
        Reply::json(200, &told.to_string())
    });
    let shell = Shell::project();
    shell.file("pipewright.yaml", "secrets: [{ env_file: .env }]\n");
    shell.file(".env", &format!("KEY='{CANARY}'\n"));
    shell.file(
        "p.yaml",
        &format!(
            "\
name: caged
inputs: {{ word: {{ type: secret }} }}
steps:
  read:
    uses: http.request
    with:
      method: GET
      url: {url}/things
      query: {{ token: \"{{{{ secrets.KEY }}}}\" }}
      headers: {{ Authorization: \"Basic {{{{ ('ada:' ~ secrets.KEY) | base64 }}}}\" }}
  write:
    uses: http.request
    with:
      method: POST
      url: {url}/things
      json: {{ word: \"{{{{ inputs.word }}}}\", key: \"it is {{{{ secrets.KEY }}}}\", seen: \"{{{{ steps.read.output.body.id }}}}\" }}
  keep: {{ uses: log.write, with: {{ message: \"{{{{ steps.write.output.body.id }}}}\" }} }}
",
            url = server.url
        ),
    );
    let word = format!("word={CANARY}-input");
    let ended = shell.run(&["run", "p.yaml", "-i", &word, "--record=k.jsonl"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(server.seen().len(), 2);
    // It did arrive.
    assert!(server.seen()[1].body.contains("canary"), "{:?}", server.seen());
    let replayed = shell.run(&["replay", "k.jsonl"]);
    assert_eq!(replayed.code, 0, "{}{}", replayed.out, replayed.err);
    assert_eq!(server.seen().len(), 2, "a replay asks nobody");
    let kept = fs::read_to_string(shell.path().join("k.jsonl")).unwrap();
    assert!(kept.contains("\"wire\""), "exchanges are kept");
    let wired = shell.run(&["runs", "show", "last", "--wire", "--json"]);
    let journal = shell.run(&["runs", "show", "last", "--json"]);
    let logs = shell.run(&["runs", "logs", "last"]);
    let peeked = shell.run(&["eval", "steps.write.output.body", "--run", "last"]);
    let derived = shell.run(&["eval", "inputs.word ~ '!'", "--run", "last"]);
    for secret in [CANARY.to_owned(), format!("{CANARY}-input")] {
        for form in forms(&secret) {
            for (what, text) in [
                ("cassette", &kept),
                ("run", &ended.err),
                ("run", &ended.out),
                ("replay", &replayed.out),
                ("wire", &wired.out),
                ("journal", &journal.out),
                ("logs", &logs.out),
                ("eval", &peeked.out),
                ("eval", &derived.out),
            ] {
                assert!(!text.contains(&form), "{what} holds `{form}`:\n{text}");
            }
        }
    }
}

/// Lists how a secret can be written.
fn forms(secret: &str) -> Vec<String> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let escaped = serde_json::to_string(secret).unwrap();
    let escaped = escaped.trim_matches('"').to_owned();
    let twice = serde_json::to_string(&escaped).unwrap().trim_matches('"').to_owned();
    let percent: String = secret
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    let mut forms = vec![secret.to_owned(), escaped, twice, percent.clone(), percent.replace("%20", "+")];
    for before in ["", "ada:"] {
        // The digits that depend on the secret alone.
        let whole = STANDARD.encode(format!("{before}{secret}"));
        let from = (before.len() * 8).div_ceil(6);
        forms.push(whole.get(from..whole.len() - 4).unwrap().to_owned());
    }
    forms.push("canary".to_owned());
    forms
}
