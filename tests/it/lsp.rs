//! The language server, spoken to as an editor speaks.

use std::fs;
use std::path::Path;

use serde_json::Value as Json;
use serde_json::json;

use crate::support::editor::Editor;
use crate::support::editor::applied;
use crate::support::editor::place;
use crate::support::shell::Shell;

const ORDERS: &str = "\
name: orders
description: Ö 😀 orders

inputs:
  topic: { type: string, description: What it is about. }
  limit: { type: integer, default: 3 }

steps:
  rows:
    uses: csv.read
    with: { file: \"{{ inputs.topic }}.csv\" }

  wide:
    needs: [rows]
    uses: data.map
    with:
      items: \"{{ steps.rows.output.rows }}\"
      to: \"{{ item }}\"

  child:
    uses: pipeline.run
    with: { pipeline: other, inputs: { word: \"{{ steps['rows'].state }}\" } }

  post:
    uses: team.send
    with: { connection: chat, text: \"{{ steps.wide.output | length }} {{ secrets.TOKEN }}\" }

  write:
    uses: template.render
    with: { text: \"{{ inputs.topic }}\" }

outputs:
  count: \"{{ steps.wide.output | length }}\"

finally:
  tell:
    uses: log.write
    with: { message: \"{{ steps.rows.state }}\" }
";

const OTHER: &str = "\
name: other
description: Says a word.
inputs:
  word: { type: string }
steps:
  say: { uses: log.write, with: { message: \"{{ inputs.word }}\" } }
outputs: { said: \"{{ inputs.word }}\" }
";

const TEAM: &str = "\
connector: team
title: Team chat
base_url: { api: https://chat.example.com }
auth:
  bearer: {}
operations:
  send:
    title: Send a message
    description: Sends a text to the team.
    effect: message
    repeat: always
    input: { required: [text], properties: { text: { type: string, description: What is said. } } }
    request: { post: /messages, json: { text: \"{{ input.text }}\" } }
    output: { id: \"{{ body.id }}\" }
    returns: { properties: { id: { type: string, description: The message's id. } } }
";

const SETTINGS: &str = "\
store: sqlite://.pipewright/state.db
connections:
  chat: { connector: team, auth: { token: \"{{ secrets.TOKEN }}\" } }
  spare: { connector: discord, auth: { webhook_url: \"{{ secrets.HOOK }}\" } }
";

fn project() -> Shell {
    let shell = Shell::project();
    fs::remove_file(shell.path().join("pipelines/hello.yaml")).unwrap();
    shell
        .file("pipewright.yaml", SETTINGS)
        .file("pipelines/orders.yaml", ORDERS)
        .file("pipelines/other.yaml", OTHER)
        .file("connectors/team.yaml", TEAM);
    shell
}

macro_rules! assert_said {
    ($name:literal, $text:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false }, { insta::assert_snapshot!($name, $text) });
    };
}

const FILE: &str = "pipelines/orders.yaml";

#[test]
fn faults_are_told_as_they_are_typed_and_of_all_that_depends_on_it() {
    let shell = project();
    let mut editor = Editor::open(shell.path());
    editor.show(FILE);
    assert_eq!(editor.faults(FILE), Vec::<String>::new());
    // Behind wide letters places count in UTF-16.
    editor.edit(FILE, "description: Ö 😀 orders", "description: Ö 😀 {{ x");
    editor.edit(FILE, "needs: [rows]", "needs: [rowz]");
    let faults = editor.faults(FILE);
    assert_eq!(faults, ["13:12-13:16 unknown-step step `rowz` does not exist\nhelp: did you mean `rows`?"]);
    editor.edit(FILE, "needs: [rowz]", "needs: [rows]");
    // What is broken is told where it breaks, and is well again when it is mended.
    editor.edit(FILE, "with: { file:", "with: { file: [");
    assert!(editor.faults(FILE)[0].contains("yaml-syntax"));
    editor.edit(FILE, "with: { file: [", "with: { file:");
    assert_eq!(editor.faults(FILE), Vec::<String>::new());
    // Another file's unsaved text counts: the child no longer has the input.
    editor.show("pipelines/other.yaml");
    editor.edit("pipelines/other.yaml", "  word: { type: string }", "  term: { type: string }");
    editor.until(FILE, |faults| faults.iter().any(|fault| fault.contains("faulty-pipeline")));
    assert!(editor.faults("pipelines/other.yaml").iter().any(|fault| fault.contains("unknown-input")));
    editor.replace("pipelines/other.yaml", &OTHER.replace("word", "term"));
    editor.until(FILE, |faults| faults.iter().any(|fault| fault.contains("`word`")));
    // Closed without saving, the disk counts again.
    let uri = editor.uri("pipelines/other.yaml");
    editor.tell("textDocument/didClose", json!({ "textDocument": { "uri": uri } }));
    editor.until(FILE, <[String]>::is_empty);
    // So do manifests and the project file.
    editor.show("connectors/team.yaml");
    editor.edit("connectors/team.yaml", "effect: message", "effect: mesage");
    editor.until("connectors/team.yaml", |faults| !faults.is_empty());
    editor.edit("connectors/team.yaml", "effect: mesage", "effect: message");
    editor.until("connectors/team.yaml", <[String]>::is_empty);
    editor.until(FILE, <[String]>::is_empty);
    editor.show("pipewright.yaml");
    editor.edit("pipewright.yaml", "  chat:", "  chut:");
    let faults = editor.until(FILE, |faults| !faults.is_empty());
    assert!(faults[0].contains("did you mean `chut`?"), "{faults:?}");
    // A file that changes on the disk is looked at when the editor says so.
    editor.edit("pipewright.yaml", "  chut:", "  chat:");
    editor.until(FILE, <[String]>::is_empty);
    shell.file("pipelines/other.yaml", "steps: {}\n");
    editor.tell("workspace/didChangeWatchedFiles", json!({ "changes": [] }));
    editor.until("pipelines/other.yaml", |faults| faults.iter().any(|fault| fault.contains("missing-key")));
    assert_eq!(editor.requests[0]["method"], "client/registerCapability");
    assert_eq!(editor.close(), 0);
}

#[test]
fn what_can_be_written_is_offered_at_every_place() {
    let shell = project();
    shell.file("pipelines/prompts/ask.md.j2", "Tell of {{ vars.x }}\n");
    let mut editor = Editor::open(shell.path());
    editor.show(FILE);
    editor.faults(FILE);
    let mut said = String::new();
    for (what, from, to, behind) in [
        ("keys of a pipeline", "outputs:", "pri\noutputs:", "pri"),
        ("keys of a step", "    needs: [rows]\n", "    needs: [rows]\n    re\n", "\n    re"),
        ("nodes", "uses: data.map", "uses: data.", "uses: data."),
        ("steps", "needs: [rows]", "needs: [rows, ]", "needs: [rows, "),
        ("keys of with", "with: { file: \"{{ inputs.topic }}.csv\" }", "with: { file: x, }", "with: { file: x, "),
        (
            "keys of with, of an operation",
            "with: { connection: chat, text:",
            "with: { connection: chat, x:",
            "connection: chat, x",
        ),
        ("connections", "connection: chat", "connection: ", "connection: "),
        ("pipelines", "pipeline: other", "pipeline: ", "pipeline: "),
        ("inputs of a child", "inputs: { word:", "inputs: { w:", "inputs: { w"),
        ("roots", "to: \"{{ item }}\"", "to: \"{{ i }}\"", "to: \"{{ i"),
        ("inputs", "text: \"{{ inputs.topic }}\"", "text: \"{{ inputs. }}\"", "text: \"{{ inputs."),
        ("steps in an expression", "{{ steps.rows.output.rows }}", "{{ steps. }}", "{{ steps."),
        ("members of a step", "{{ steps.rows.output.rows }}", "{{ steps.rows. }}", "{{ steps.rows."),
        ("members of an output", "{{ steps.rows.output.rows }}", "{{ steps.rows.output. }}", "{{ steps.rows.output."),
        ("secrets", "{{ secrets.TOKEN }}", "{{ secrets. }}", "{{ secrets."),
        ("fields of the run", "{{ steps.rows.state }}", "{{ run. }}", "{{ run."),
        (
            "types of inputs",
            "type: integer",
            "type: ",
            "topic: { type: string, description: What it is about. }\n  limit: { type: ",
        ),
        ("error classes", "    needs: [rows]\n", "    needs: [rows]\n    retry: { on: [] }\n", "retry: { on: ["),
        ("words", "    needs: [rows]\n", "    needs: [rows]\n    in_doubt: \n", "in_doubt: "),
    ] {
        editor.edit(FILE, from, to);
        let offered = editor.complete(FILE, behind);
        editor.replace(FILE, ORDERS);
        said.push_str(&format!("{what}: {}\n", offered.join(" ")));
    }
    // Text that is no YAML at all just now.
    editor.edit(
        FILE,
        "    with: { message: \"{{ steps.rows.state }}\" }",
        "    with: { message: \"{{ steps.wide.output | le",
    );
    let offered = editor.complete(FILE, "message: \"{{ steps.wide.output | le");
    assert!(offered.iter().any(|label| label == "length"), "{offered:?}");
    editor.replace(FILE, &ORDERS.replace("to: \"{{ item }}\"", "to: \"{{ steps.child.output."));
    said.push_str(&format!(
        "members in a broken text: {}\n",
        editor.complete(FILE, "{{ steps.child.output.").join(" ")
    ));
    editor.replace(FILE, ORDERS);
    editor.edit(FILE, "text: \"{{ inputs.topic }}\"", "prompt: ");
    editor.show("pipewright.yaml");
    editor.edit("pipewright.yaml", "store:", "re\nstore:");
    said.push_str(&format!("keys of the project file: {}\n", editor.complete("pipewright.yaml", "re").join(" ")));
    editor.show("connectors/team.yaml");
    editor.edit("connectors/team.yaml", "    effect: message", "    effect: ");
    said.push_str(&format!(
        "words of a manifest: {}\n",
        editor.complete("connectors/team.yaml", "    effect: ").join(" ")
    ));
    assert_said!("lsp_complete", said);
    // A completion says what it replaces, and what it is.
    editor.replace(FILE, &ORDERS.replace("uses: data.map", "uses: data.ma"));
    let list = editor.at("textDocument/completion", FILE, "uses: data.ma").unwrap();
    let item = list["items"].as_array().unwrap().iter().find(|item| item["label"] == "data.map").unwrap();
    assert_said!("lsp_complete_item", editor.plain(item));
    assert_eq!(editor.close(), 0);
}

#[test]
fn names_are_explained_found_and_followed() {
    let shell = project();
    let mut editor = Editor::open(shell.path());
    editor.show(FILE);
    editor.show("pipelines/other.yaml");
    editor.faults(FILE);
    let mut said = String::new();
    for behind in [
        "uses: data.m",
        "uses: team.se",
        "with: { file",
        "    nee",
        "inputs.top",
        "steps.ro",
        "{{ steps.rows.output.ro",
        "output | len",
        "connection: ch",
        "pipeline: oth",
        "secrets.TOK",
        "\n  post",
    ] {
        let hover = editor.at("textDocument/hover", FILE, behind).unwrap();
        let text = hover["contents"]["value"].as_str().unwrap_or("nothing");
        said.push_str(&format!("=== {behind:?}\n{text}\n"));
    }
    assert_said!("lsp_hover", said);
    let mut said = String::new();
    for behind in [
        "needs: [ro",
        "{{ steps.ro",
        "steps['ro",
        "inputs.top",
        "connection: ch",
        "uses: team.se",
        "pipeline: oth",
        "secrets.TOK",
    ] {
        let found = editor.at("textDocument/definition", FILE, behind).unwrap();
        said.push_str(&format!("{behind}: {}\n", places(&editor, &found)));
        let also = json!({ "context": { "includeDeclaration": false } });
        let found = editor.at_with("textDocument/references", FILE, behind, also).unwrap();
        said.push_str(&format!("  read at {}\n", places(&editor, &found)));
    }
    assert_said!("lsp_definitions", said);
    let uri = editor.uri(FILE);
    let outline = editor.ask("textDocument/documentSymbol", json!({ "textDocument": { "uri": uri } })).unwrap();
    let names = |symbols: &Json| -> Vec<String> {
        symbols.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&outline), ["name", "description", "inputs", "steps", "outputs", "finally"]);
    assert_eq!(names(&outline[3]["children"]), ["rows", "wide", "child", "post", "write"]);
    assert_eq!(outline[3]["children"][1]["detail"], "data.map");
    assert_eq!(editor.close(), 0);
}

/// Shows places as FILE:LINE:COLUMN, counted from 1.
fn places(editor: &Editor, found: &Json) -> String {
    let one = |it: &Json| {
        let start = &it["range"]["start"];
        let file = it["uri"].as_str().unwrap().replace(&editor.uri(""), "");
        format!("{file}:{}:{}", start["line"].as_u64().unwrap() + 1, start["character"].as_u64().unwrap() + 1)
    };
    found
        .as_array()
        .map(|all| all.iter().map(one).collect::<Vec<_>>().join(" "))
        .unwrap_or_else(|| "nowhere".to_owned())
}

#[test]
fn a_step_is_renamed_everywhere_it_is_read() {
    let shell = project();
    let prompt = "Tell {{ steps.rows.state }} and {{ vars.rows }}\n";
    let test = "pipeline: orders.yaml\ntests:\n  - name: one\n    given:\n      steps:\n        rows: { output: { rows: [] } }\n    faults:\n      - { step: rows, error: invalid }\n      - { crash: { after: \"rows[0]\" } }\n    then:\n      steps:\n        rows: { state: succeeded }\n      that: [\"{{ steps.rows.state == 'succeeded' }}\"]\n";
    shell.file("pipelines/prompts/tell.md.j2", prompt).file("pipelines/orders.test.yaml", test);
    let with_prompt = ORDERS.replace(
        "    with: { text: \"{{ inputs.topic }}\" }",
        "    with: { file: prompts/tell.md.j2, vars: { rows: \"{{ steps.rows.output.rows }}\" } }",
    );
    shell.file(FILE, &with_prompt);
    let mut editor = Editor::open(shell.path());
    editor.show(FILE);
    editor.faults(FILE);
    let prepared = editor.at("textDocument/prepareRename", FILE, "needs: [ro").unwrap();
    assert_eq!(prepared["placeholder"], "rows");
    assert_eq!(editor.at("textDocument/prepareRename", FILE, "uses: data").unwrap(), Json::Null);
    for (name, why) in [
        ("wi-de", "cannot name a step"),
        ("", "cannot name a step"),
        ("wide", "exists already"),
        ("tell", "exists already"),
    ] {
        let refused =
            editor.at_with("textDocument/rename", FILE, "needs: [ro", json!({ "newName": name })).unwrap_err();
        assert!(refused["message"].as_str().unwrap().contains(why), "{refused}");
    }
    let edit = editor.at_with("textDocument/rename", FILE, "\n  ro", json!({ "newName": "lines" })).unwrap();
    let mut files = Vec::new();
    for change in edit["documentChanges"].as_array().unwrap() {
        let file = change["textDocument"]["uri"].as_str().unwrap().replace(&editor.uri(""), "");
        let path = shell.path().join(&file);
        let text = applied(&fs::read_to_string(&path).unwrap(), &change["edits"]);
        files.push((file, change["textDocument"]["version"].clone(), text));
    }
    let renamed = |text: &str| text.replace("steps.rows", "steps.lines").replace("steps['rows']", "steps['lines']");
    let pipeline = renamed(&with_prompt).replace("\n  rows:", "\n  lines:").replace("needs: [rows]", "needs: [lines]");
    let tests = renamed(test)
        .replace("        rows:", "        lines:")
        .replace("step: rows", "step: lines")
        .replace("rows[0]", "lines[0]");
    let expected = [
        ("pipelines/orders.test.yaml".to_owned(), Json::Null, tests),
        (FILE.to_owned(), json!(1), pipeline),
        ("pipelines/prompts/tell.md.j2".to_owned(), Json::Null, renamed(prompt)),
    ];
    assert_eq!(files, expected);
    // A text that is no YAML hides places: nothing is renamed in it.
    editor.edit(FILE, "needs: [rows]", "needs: [rows");
    let refused = editor.at_with("textDocument/rename", FILE, "needs: [ro", json!({ "newName": "lines" })).unwrap_err();
    assert!(refused["message"].as_str().unwrap().contains("faults of syntax"), "{refused}");
    assert_eq!(editor.close(), 0);
}

#[test]
fn a_file_is_formatted_and_faults_are_mended() {
    let shell = project();
    let ugly = "steps:\n    a:\n        with: { mesage: \"Ö {{ inputs.topc }}\" }\n        uses: log.write\n        needs: a\n# kept\ninputs: { topic: { type: string } }\n";
    shell.file("pipelines/ugly.yaml", ugly);
    let mut editor = Editor::open(shell.path());
    let file = "pipelines/ugly.yaml";
    editor.show(file);
    let uri = editor.uri(file);
    let asked = json!({ "textDocument": { "uri": uri }, "options": { "tabSize": 2, "insertSpaces": true } });
    let edits = editor.ask("textDocument/formatting", asked.clone()).unwrap();
    let expected = "# kept\ninputs: { topic: { type: string } }\nsteps:\n  a:\n    needs: a\n    uses: log.write\n    with: { mesage: \"Ö {{ inputs.topc }}\" }\n";
    assert_eq!(applied(ugly, &edits), expected);
    // Of a text with faults of syntax nothing is changed.
    editor.edit(file, "uses: log.write", "uses: [log.write");
    assert_eq!(editor.ask("textDocument/formatting", asked).unwrap(), Json::Null);
    editor.replace(file, ugly);
    for _ in 0..3 {
        editor.faults(file);
        let (_, diagnostics) = editor.diagnostics[&editor.uri(file)].clone();
        let whole = json!({ "start": { "line": 0, "character": 0 }, "end": { "line": 99, "character": 0 } });
        let asked =
            json!({ "textDocument": { "uri": uri }, "range": whole, "context": { "diagnostics": diagnostics } });
        let actions = editor.ask("textDocument/codeAction", asked).unwrap();
        let Some(action) = actions.as_array().unwrap().first() else { break };
        let text = applied(editor.text(file), &action["edit"]["documentChanges"][0]["edits"]);
        editor.replace(file, &text);
    }
    assert_eq!(
        editor.text(file),
        ugly.replace("mesage", "message").replace("topc", "topic").replace("needs: a", "needs: [a]")
    );
    assert_eq!(editor.close(), 0);
}

#[test]
fn nothing_that_an_editor_says_brings_it_down() {
    let shell = project();
    let mut editor = Editor::start(shell.path());
    assert!(editor.process() > 0);
    assert_eq!(editor.ask("textDocument/hover", json!({})).unwrap_err()["code"], -32002);
    editor.raw("{ no json");
    editor.ask("initialize", json!({ "capabilities": {}, "processId": null, "rootUri": null })).unwrap();
    editor.tell("initialized", json!({}));
    assert_eq!(editor.ask("initialize", json!({ "capabilities": {} })).unwrap_err()["code"], -32600);
    for (method, code) in [("no/such", -32601), ("textDocument/hover", -32602), ("textDocument/rename", -32602)] {
        assert_eq!(editor.ask(method, json!({ "textDocument": 1 })).unwrap_err()["code"], code, "{method}");
    }
    editor.tell("textDocument/didChange", json!([1]));
    editor.tell("textDocument/didOpen", json!({ "textDocument": { "uri": "untitled:1", "languageId": "yaml", "version": 1, "text": "steps:\n  a:\n    us" } }));
    for position in
        [json!({ "line": 2, "character": 6 }), json!({ "line": 4_000_000_000_u32, "character": 4_000_000_000_u32 })]
    {
        for method in
            ["textDocument/completion", "textDocument/hover", "textDocument/definition", "textDocument/prepareRename"]
        {
            let params = json!({ "textDocument": { "uri": "untitled:1" }, "position": position });
            assert!(editor.ask(method, params).is_ok(), "{method}");
        }
    }
    // A file of nobody's project, one that is not open, edits that make no sense.
    let uri = "file:///nowhere/at/all.yaml";
    assert_eq!(
        editor.ask("textDocument/documentSymbol", json!({ "textDocument": { "uri": uri } })).unwrap(),
        Json::Null
    );
    editor.tell(
        "textDocument/didOpen",
        json!({ "textDocument": { "uri": uri, "languageId": "yaml", "version": 1, "text": "jobs: {}\n" } }),
    );
    let backwards = json!({ "start": { "line": 9, "character": 9 }, "end": { "line": 0, "character": 1 } });
    editor.tell("textDocument/didChange", json!({ "textDocument": { "uri": uri, "version": 0 }, "contentChanges": [{ "range": backwards, "text": "😀" }] }));
    assert!(editor.ask("textDocument/documentSymbol", json!({ "textDocument": { "uri": uri } })).is_ok());
    // What is canceled before its turn is answered as canceled, or was quicker.
    let id = editor.send("textDocument/documentSymbol", json!({ "textDocument": { "uri": uri } }));
    editor.tell("$/cancelRequest", json!({ "id": id }));
    assert!(editor.answer(id).map_or_else(|error| error["code"] == -32800, |_| true));
    editor.ask("shutdown", Json::Null).unwrap();
    assert_eq!(editor.ask("textDocument/hover", json!({})).unwrap_err()["code"], -32600);
    assert_eq!(editor.leave("exit"), 0);
    // An editor that exits without a word before, or is gone.
    assert_eq!(Editor::open(shell.path()).leave("exit"), 1);
    assert_eq!(Editor::open(shell.path()).vanish(), 1);
}

#[test]
fn after_any_edits_the_faults_are_those_of_a_fresh_check() {
    let shell = project();
    let fresh = project();
    let mut editor = Editor::open(shell.path());
    let files = [FILE, "pipelines/other.yaml", "connectors/team.yaml", "pipewright.yaml"];
    for file in files {
        editor.show(file);
    }
    let mut random = fastrand::Rng::with_seed(11);
    for round in 0..60 {
        let file = files[random.usize(..files.len())];
        let text = editor.text(file).to_owned();
        let start = text.floor_char_boundary(random.usize(..=text.len()));
        let end = text.ceil_char_boundary((start + random.usize(..6)).min(text.len()));
        let typed = ["", "x", " ", "\n", "{{ ", "}}", "steps.", ": ", "  - ", "ü😀"][random.usize(..10)];
        let range = json!({ "start": place(&text, start), "end": place(&text, end) });
        let mut after = text.clone();
        after.replace_range(start..end, typed);
        // Now and then all is well again.
        if random.u8(..4) == 0 {
            let original = fs::read_to_string(Path::new(shell.path()).join(file)).unwrap();
            editor.replace(file, &original);
        } else {
            editor.ranged(file, range, typed, after);
        }
        let now = editor.text(file).to_owned();
        fresh.file(file, &now);
        // What changes nothing is not told again.
        if now != text {
            editor.faults(file);
        }
        // What the same check says of other files comes before this answer.
        let uri = editor.uri(file);
        editor.ask("textDocument/documentSymbol", json!({ "textDocument": { "uri": uri } })).unwrap();
        let expected = checked(&fresh);
        for file in files {
            let told = editor.diagnostics.get(&editor.uri(file)).map(|(_, told)| told.clone());
            let mut told: Vec<String> = told
                .iter()
                .flat_map(|it| it.as_array().unwrap())
                .map(|it| {
                    let message = it["message"].as_str().unwrap().split('\n').next().unwrap().to_owned();
                    format!("{} {} {message}", it["range"]["start"]["line"], it["code"].as_str().unwrap())
                })
                .collect();
            told.sort();
            let expected = expected.get(file).cloned().unwrap_or_default();
            assert_eq!(told, expected, "round {round}, {file}\n{now}");
        }
    }
    assert_eq!(editor.close(), 0);
}

/// Checks a project from the disk, and lists the faults by file.
fn checked(shell: &Shell) -> std::collections::BTreeMap<String, Vec<String>> {
    let root = shell.path().canonicalize().unwrap();
    let catalog = pipewright::pipeline::Catalog::open(&root, pipewright::app::registry(&root));
    let mut found = std::collections::BTreeMap::<String, Vec<String>>::new();
    for it in catalog.check(&[]).diagnostics {
        let file = it.span.file.replace(&format!("{}/", root.display()), "");
        let shown =
            format!("{} {} {}", it.span.start.line - 1, it.code.as_str(), it.message.split('\n').next().unwrap());
        let list = found.entry(file).or_default();
        if !list.contains(&shown) {
            list.push(shown);
        }
    }
    found.values_mut().for_each(|list| list.sort());
    found
}
