//! Plans as a user makes and applies them.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use crate::support::shell::Ended;
use crate::support::shell::Shell;

/// Compares with the snapshot of this name.
macro_rules! assert_shown {
    ($name:literal, $text:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false, filters => vec![
            (r"[0-9A-HJKMNP-TV-Z]{26}", "[RUN]"),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[TIME]"),
            (r"version [0-9a-f]{12}", "version [HASH]"),
        ] }, { insta::assert_snapshot!($name, $text) });
    };
}

const NOTES: &str = "\
name: notes
inputs: { word: { type: secret, default: none }, who: { type: string, default: Ada } }
steps:
  old: { uses: file.read, with: { path: data/list.txt } }
  list:
    uses: file.write
    with: { path: out/list.txt, content: \"{{ steps.old.output.content }}{{ inputs.who }}\\n\" }
  note: { uses: file.write, with: { path: out/note.txt, content: \"{{ steps.list.output.size }} bytes for {{ inputs.who }}\" } }
  away: { needs: [note], uses: file.delete, with: { path: data/old.txt } }
  more: { needs: [away], uses: file.read, with: { path: out/note.txt } }
  last: { uses: file.write, with: { path: out/last.txt, content: \"{{ steps.more.output.content | upper }}\" } }
";

fn project() -> Shell {
    let shell = Shell::project();
    shell.file("pipelines/notes.yaml", NOTES).file("data/list.txt", "one\ntwo\n").file("data/old.txt", "x");
    shell.file("out/list.txt", "one\nzwei\n");
    shell
}

#[track_caller]
fn refused(ended: &Ended, code: i32, expected: &str) {
    assert_eq!(ended.code, code, "{}{}", ended.out, ended.err);
    assert!(ended.err.contains(expected), "{}", ended.err);
}

#[test]
fn a_plan_is_shown_like_a_diff_and_changes_nothing() {
    let shell = project();
    let ended = shell.run(&["plan", "notes"]);
    assert_shown!("plan_notes", ended.shown());
    assert!(!shell.path().join("out/note.txt").exists() && shell.path().join("data/old.txt").exists());
    assert_eq!(shell.run(&["runs", "list", "--json"]).out, "", "no run is made");
    // It can be read by programs.
    let json = shell.run(&["plan", "notes", "--json"]);
    let plan = pipewright::model::parse_json(&json.out).unwrap();
    assert_eq!(plan.get("effects").and_then(|effects| effects.as_list().map(<[_]>::len)), Some(4));
}

#[test]
fn a_plan_is_applied_once_and_only_while_it_holds() {
    let shell = project();
    let made = |arguments: &[&str]| {
        let ended = shell.run(&[&["plan", "notes", "-o", "plan.json"], arguments].concat());
        assert_eq!(ended.code, 0, "{}", ended.err);
    };
    let apply = || shell.run(&["apply", "plan.json", "-i", "word=none"]);
    let untouched = || assert!(!shell.path().join("out/note.txt").exists(), "something was written");

    made(&[]);
    shell.file("data/list.txt", "one\ntwo\nthree\n");
    refused(&apply(), 4, "what `old` reads has changed");
    made(&[]);
    shell.file("out/list.txt", "somebody else\n");
    refused(&apply(), 4, "what effect `list` would change has changed");
    made(&[]);
    shell.file("pipelines/notes.yaml", &NOTES.replace("upper", "lower"));
    refused(&apply(), 4, "the pipeline, a prompt or a manifest of it has changed");
    shell.file("pipelines/notes.yaml", NOTES);
    made(&["--max-age", "0s"]);
    refused(&apply(), 4, "the plan was good until");
    made(&[]);
    fs::remove_file(shell.path().join("data/list.txt")).unwrap();
    refused(&apply(), 4, "it would fail now at `old`");
    shell.file("data/list.txt", "one\ntwo\n");
    made(&[]);
    let text = fs::read_to_string(shell.path().join("plan.json")).unwrap();
    shell.file("plan.json", &text.replace("bytes for Ada", "bytes for Eve"));
    refused(&apply(), 2, "the plan was changed by hand");
    shell.file("plan.json", &text);
    refused(&shell.run(&["apply", "plan.json", "-i", "who=Eve"]), 2, "only secret ones are given again");
    refused(&shell.run(&["apply", "plan.json", "--sandbox"]), 2, "apply it without `--sandbox`");
    refused(&shell.run(&["apply", "plan.json"]), 2, "the input `word` is secret");
    untouched();

    let ended = apply();
    assert_eq!(ended.code, 0, "{}", ended.err);
    let read = |file: &str| fs::read_to_string(shell.path().join(file)).unwrap();
    assert_eq!((read("out/list.txt").as_str(), read("out/last.txt").as_str()), ("one\ntwo\nAda\n", "12 BYTES FOR ADA"));
    assert!(!shell.path().join("data/old.txt").exists());
    refused(&apply(), 4, "has changed");
}

#[test]
fn run_plan_first_asks_and_does_what_it_has_shown() {
    let shell = project();
    let answered = |answer: &str| {
        let mut command = shell.command(&["run", "notes", "--plan-first"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = answered("no\n");
    assert!(code == Some(1) && said.contains("Do this? [y/N] nothing was done"), "{said}");
    assert!(!shell.path().join("out/note.txt").exists());
    let (code, said) = answered("y\n");
    assert!(code == Some(0) && said.contains("~ list  file.write"), "{said}");
    assert!(shell.path().join("out/last.txt").exists());
}
