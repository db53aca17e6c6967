//! `diff` and `eval`, as a user sees them.

use std::io::Write;
use std::process::Stdio;

use crate::support::shell::Shell;

/// Compares with the snapshot of this name.
macro_rules! assert_shown {
    ($name:literal, $text:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false, filters => vec![
            (r"[0-9A-HJKMNP-TV-Z]{26}", "[RUN]"),
            (r"[0-9a-f]{12}", "[HASH]"),
        ] }, { insta::assert_snapshot!($name, $text) });
    };
}

const PROJECT: &str = "\
connections:
  erp: { connector: odoo, url: \"https://erp.example.com\", database: sandbox, auth: { login: a, api_key: b } }
  x: { connector: x, auth: { client_id: c } }
  team: { connector: discord, auth: { webhook_url: \"https://discord.example.com\" } }
people:
  ada: [editor]
";

const OLD: &str = "\
name: orders
triggers:
  - cron: \"0 9 * * MON-FRI\"
    timezone: Europe/Berlin
inputs:
  limit: { type: integer, default: 10 }
  topic: { type: string, default: tea }
guards:
  before: [{ that: \"{{ inputs.limit < 100 }}\", message: too many }]
steps:
  orders:
    uses: odoo.count
    with: { connection: erp, model: sale.order, domain: [[state, \"=\", sale]] }
    retry: { attempts: 4, delay: 1s }
  ok: { uses: approval.request, with: { title: Post it?, approvers: [editor] } }
  post:
    needs: [ok]
    when: \"{{ inputs.limit > 3 }}\"
    uses: x.create_post
    with: { connection: x, text: \"We have {{ steps.orders.output.count }} orders\" }
    undo: auto
  note: { uses: file.write, with: { path: out.txt, content: x } }
  letter: { uses: template.render, with: { file: letter.md.j2, vars: { n: 1 } } }
outputs: { n: \"{{ steps.orders.output.count }}\" }
";

const NEW: &str = "\
name: orders
triggers:
  - cron: \"30 9 * * MON-FRI\"
    timezone: Europe/Berlin
    inputs: { lines: 3 }
inputs:
  limit: { type: string, default: many }
  lines: { type: integer }
steps:
  orders:
    uses: odoo.count
    with: { connection: erp, model: sale.order, domain: [[state, \"=\", done]] }
    retry: { attempts: 2, delay: 1s }
  post:
    key: \"{{ run.slot }}\"
    uses: x.create_post
    with: { connection: x, text: \"We have {{ steps.orders.output.count }} orders today\" }
    undo: auto
    on_error: continue
  write: { uses: file.write, with: { path: out.txt, content: x } }
  tell: { uses: discord.send, with: { connection: team, text: hi }, timeout: 5s }
  letter: { uses: template.render, with: { file: letter.md.j2, vars: { n: 1 } } }
outputs: { n: \"{{ steps.orders.output.count }}\" }
";

const MOMENT: &str = "2026-11-28T12:00:00Z";

fn project() -> Shell {
    let shell = Shell::project();
    shell.file("pipewright.yaml", PROJECT).file("letter.md.j2", "Dear all,\n\nwe have {{ vars.n }}.\n");
    shell.file("old.yaml", OLD).file("new.yaml", NEW);
    shell
}

#[test]
fn what_is_risky_is_told_first() {
    let shell = project();
    assert_shown!("diff", shell.run(&["diff", "old.yaml", "new.yaml", "--from", MOMENT]).shown());
    assert_shown!("diff_back", shell.run(&["diff", "new.yaml", "old.yaml", "--from", MOMENT]).shown());
    let json = shell.run(&["diff", "old.yaml", "new.yaml", "--json"]);
    let lines: Vec<serde_json::Value> = json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        json.code == 1 && lines.iter().any(|line| line["weight"] == "risk" && line["step"] == "tell"),
        "{}",
        json.out
    );
}

#[test]
fn comments_order_and_form_are_no_difference() {
    let shell = project();
    let (head, steps) = OLD.split_once("steps:\n").unwrap();
    let note = "  note: { uses: file.write, with: { path: out.txt, content: x } }\n";
    let moved = format!(
        "# a comment\n{head}steps:\n  note:\n    with: {{ content: \"x\", path: out.txt }}\n    uses: file.write\n{}",
        steps.replace(note, "")
    );
    shell.file("moved.yaml", &moved);
    let ended = shell.run(&["diff", "old.yaml", "moved.yaml"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "nothing of meaning changed\n"), "{}", ended.err);
    let ended = shell.run(&["diff", "old.yaml", "old.yaml"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "the same version\n"));
}

#[test]
fn prompts_children_and_stored_versions_are_compared() {
    let shell = project();
    let parent = "name: parent\nsteps:\n  c: { uses: pipeline.run, with: { pipeline: child } }\n  l: { uses: template.render, with: { file: letter.md.j2, vars: { n: 1 } } }\n";
    shell.file("pipelines/parent.yaml", parent).file("pipelines/letter.md.j2", "Dear all,\n\nwe have {{ vars.n }}.\n");
    shell.file(
        "pipelines/child.yaml",
        "name: child\nsteps:\n  w: { uses: file.write, with: { path: a.txt, content: a } }\n",
    );
    assert_eq!(shell.run(&["run", "parent", "-q"]).code, 0);
    shell.file("pipelines/letter.md.j2", "Dear all,\n\nwe have {{ vars.n }} more.\n");
    shell.file(
        "pipelines/child.yaml",
        "name: child\nsteps:\n  w: { uses: file.write, with: { path: b.txt, content: a } }\n",
    );
    assert_shown!("diff_live", shell.run(&["diff", "parent@live", "parent"]).shown());
    let listed = shell.run(&["runs", "list", "--json", "--pipeline", "parent"]).out;
    let version = listed.split("\"version\":\"").nth(1).and_then(|rest| rest.get(..10)).unwrap();
    let stored = shell.run(&["diff", &format!("parent@{version}"), "parent"]);
    assert_eq!(stored.out, shell.run(&["diff", "parent@live", "parent"]).out);
    for target in ["parent@zz", "nobody@live", "gone.yaml"] {
        let ended = shell.run(&["diff", target, "parent"]);
        assert!(ended.code == 2 && ended.err.starts_with("error: "), "{target}: {}", ended.err);
    }
    let mut child = shell.command(&["diff", "-", "old.yaml"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(OLD.replace("title: Post it?", "title: Send it?").as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(2), "a prompt of a text from stdin has no folder");
}

const TOTALS: &str = "\
name: totals
inputs: { word: { type: secret } }
steps:
  lines: { uses: json.parse, with: { text: '[{\"net\": 0.1, \"id\": 9007199254740993001}, {\"net\": 0.2, \"id\": 2}]' } }
  double: { for_each: \"{{ steps.lines.output }}\", uses: template.render, with: { text: \"{{ item.net * 2 }}\" } }
  shown: { uses: template.render, with: { text: \"<{{ inputs.word }}>\" } }
  never: { when: false, uses: template.render, with: { text: x } }
outputs: { n: 1 }
";

#[test]
fn expressions_are_evaluated_over_a_stored_run() {
    let shell = Shell::project();
    shell.file("totals.yaml", TOTALS);
    assert_eq!(shell.run(&["run", "totals.yaml", "-q", "-i", "word=hunter22"]).code, 0);
    let over = |expression: &str, more: &[&str]| shell.run(&[&["eval", expression, "--run", "last"], more].concat());
    for (expression, more, given) in [
        ("steps.lines.output | map(attribute='net') | sum", &[][..], "0.3\n"),
        ("(steps.lines.output | first).id + 1", &[], "9007199254740993002\n"),
        ("{{ run.pipeline }} {{ run.state }}", &[], "totals succeeded\n"),
        ("steps.never.state", &[], "skipped\n"),
        ("item.net ~ ' ' ~ index ~ ' ' ~ output.text", &["--step", "double[1]"], "0.2 1 0.4\n"),
        ("inputs.word", &[], "\"***\"\n"),
        ("steps.shown.output.text", &[], "\"***\"\n"),
        ("inputs.word == 'hunter22'", &[], "\"***\"\n"),
        ("inputs.more + 1", &["-i", "more=2"], "3\n"),
        ("run.pipeline", &["--json"], "\"totals\"\n"),
    ] {
        let ended = over(expression, more);
        assert_eq!((ended.code, ended.out.as_str()), (0, given), "{expression}: {}", ended.err);
    }
    let wrong = [
        "steps.line.output",
        "steps.lines.output | lenght",
        "inputs.wrod",
        "1 +",
        "rum.state",
        "steps.lines.output.net",
        "1 / 0",
    ];
    let told: Vec<String> = wrong
        .iter()
        .map(|expression| {
            let ended = over(expression, &[]);
            assert!(ended.code == 1 || ended.code == 2, "{expression}");
            format!("{expression}  (exit {})\n{}{}", ended.code, ended.out, ended.err)
        })
        .collect();
    assert_shown!("eval_faults", told.concat());
    assert!(!told.concat().contains("hunter22"));
    let alone = shell.run(&["eval", "inputs.price * inputs.n", "-i", "price=1.10", "-i", "n=3"]);
    assert_eq!((alone.code, alone.out.as_str()), (0, "3.30\n"), "{}", alone.err);
    let without = shell.run(&["eval", "steps.a.output"]);
    assert!(without.err.contains("without `--run` there are no steps"), "{}", without.err);
}
