//! Approvals as people meet them: from the command line, with and without somebody who executes.

use crate::support::shell::Ended;
use crate::support::shell::Shell;

const PUBLISH: &str = r#"name: publish
steps:
  draft: { uses: template.render, with: { text: "Tea is ready." } }
  review:
    uses: approval.request
    with:
      title: Publish the post?
      show: { text: "{{ steps.draft.output.text }}", key: "{{ secrets.SHOWN }}" }
      form:
        text: { type: string, default: "{{ steps.draft.output.text }}", description: what is published }
        count: { type: integer, minimum: 1 }
      approvers: [editor]
      expires: 2d
outputs: { text: "{{ steps.review.output.form.text }}", by: "{{ steps.review.output.by }}" }
"#;

const PEOPLE: &str = "people:\n  ada: [editor]\n  bob: [editor]\n  cleo: [ops]\n";

fn project() -> Shell {
    let shell = Shell::project();
    shell.file("pipewright.yaml", PEOPLE).file("pipelines/publish.yaml", PUBLISH);
    shell
}

fn run(shell: &Shell, arguments: &[&str]) -> Ended {
    let output = shell.command(arguments).env("SHOWN", "very-secret-word").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ended = Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
    assert!(!ended.shown().contains("very-secret-word"), "{}", ended.shown());
    ended
}

fn asked(shell: &Shell) -> String {
    let listed = run(shell, &["approvals", "list", "--json"]).out;
    let (_, rest) = listed.split_once("\"approval\":\"").unwrap_or_else(|| panic!("nothing is asked: {listed}"));
    rest.split('"').next().unwrap().to_owned()
}

#[track_caller]
fn says(ended: &Ended, code: i32, text: &str) {
    assert!(ended.code == code && ended.shown().contains(text), "expected {code} and `{text}`:\n{}", ended.shown());
}

#[test]
fn a_person_finds_reads_and_approves_what_a_run_asks() {
    let shell = project();
    let parked = run(&shell, &["run", "publish", "--detach"]);
    says(&parked, 3, "waits for approval by `editor`, until ");
    let id = asked(&shell);
    says(&parked, 3, &format!("`pipewright approvals approve {id}` decides"));
    says(&run(&shell, &["status"]), 0, "1 approval open");
    let listed = run(&shell, &["approvals", "list"]);
    says(&listed, 0, "publish/review");
    says(&listed, 0, "Publish the post?");
    let shown = run(&shell, &["approvals", "show", id.get(..20).unwrap()]);
    for text in
        ["started   by `ada`, who cannot approve", "who       `ada`, `bob`", "\"key\": \"***\"", "must be given"]
    {
        says(&shown, 0, text);
    }
    says(&run(&shell, &["runs", "show", "last"]), 0, &format!("approval    {id} of step review"));
    let why = run(&shell, &["why", "run"]);
    says(&why, 0, "└ step `review` waits for approval by `editor`, until ");
    says(&why, 0, "  └ those who are asked: `ada`, `bob`");
    says(&run(&shell, &["why", "step", "last/draft"]), 0, "step `draft` succeeded at ");
    says(&run(&shell, &["why", "step", "last/nowhere"]), 2, "has no step `nowhere`");
    says(&run(&shell, &["why", "step", "last"]), 2, "expected a run and a step, as in `last/publish`");
    says(&run(&shell, &["why", "schedule", "publish"]), 2, "pipeline `publish` has no trigger that goes by time");
    says(&run(&shell, &["why", "run", "last", "--json"]), 0, r#""kind":"votes""#);
    // What does not count says why, and changes nothing.
    let say = |arguments: &[&str]| run(&shell, &[&["approvals", "approve", &id], arguments].concat());
    says(&say(&["--form", "count=1"]), 2, "`ada` started the run, so somebody else must approve it");
    says(&say(&["--as", "cleo", "--form", "count=1"]), 2, "`cleo` is not asked: it asks `editor`");
    says(&say(&["--as", "bab"]), 2, "has no `bab`; did you mean `bob`?");
    says(&say(&["--as", "bob"]), 2, "field `count` is missing; give it with `--form count=…`");
    says(&say(&["--as", "bob", "--form", "count=0"]), 2, "field `count`: expected at least 1, found 0");
    says(&say(&["--as", "bob", "--form", "cuont=1"]), 2, "there is no field `cuont`; did you mean `count`?");
    says(&say(&["--as", "bob", "--form", "count"]), 2, "expected `field=value`");
    says(&run(&shell, &["approvals", "approve", "ZZZ"]), 2, "there is no approval `ZZZ`");
    let word = say(&["--as", "bob", "--form", "count=2", "--form", "text=Coffee", "--comment", "better"]);
    says(&word, 0, "approved");
    says(&word, 0, &format!("`pipewright runs resume {}`", shell.last()));
    says(&say(&["--as", "bob", "--form", "count=2"]), 2, "it is approved already, since ");
    let ended = run(&shell, &["runs", "resume", "last"]);
    says(&ended, 0, "\"text\": \"Coffee\"");
    says(&run(&shell, &["approvals", "list"]), 0, "nothing waits for approval");
    says(&run(&shell, &["approvals", "list", "--all"]), 0, "approved");
    says(&run(&shell, &["approvals", "show", &id]), 0, "better");
}

#[test]
fn who_watches_is_told_how_to_decide_and_a_rejection_fails_the_run() {
    let shell = project();
    let mut child = shell.command(&["run", "publish"]);
    let child = child
        .env("SHOWN", "very-secret-word")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut id = String::new();
    for _ in 0..600 {
        let listed = run(&shell, &["approvals", "list", "--json"]).out;
        if let Some((_, rest)) = listed.split_once("\"approval\":\"") {
            id = rest.split('"').next().unwrap().to_owned();
            break;
        }
    }
    let word = run(&shell, &["approvals", "reject", &id, "--as", "bob", "--comment", "too short"]);
    says(&word, 0, "rejected; the process that executes run");
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    for text in [
        format!("decide with `pipewright approvals approve {id}` or `reject`"),
        "step `review` failed: rejected: rejected by `bob` (too short)".to_owned(),
    ] {
        assert!(err.contains(&text), "`{text}` is not in:\n{err}");
    }
}
