//! The command itself: exit codes, options, and what `validate` tells.

use std::fs;

use crate::support::shell::Shell;

const PIPELINE: &str = "name: x\nsteps:\n  say: { uses: data.map, with: { items: [1], to: \"{{ item + 1 }}\" } }\noutputs: { said: \"{{ steps.say.output }}\" }\n";
const GOOD: &str = "tests:\n  - name: it adds one\n    then: { outputs: { said: [2] } }\n";

fn project(tests: &str) -> Shell {
    let shell = Shell::empty();
    shell.file("pipewright.yaml", "{}\n").file("pipelines/x.yaml", PIPELINE).file("pipelines/x.test.yaml", tests);
    shell
}

#[test]
fn the_exit_code_tells_what_became_of_the_cases() {
    let shell = project(GOOD);
    let ended = shell.run(&["test"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "ok    pipelines/x.test.yaml  1 passed\n"), "{}", ended.err);
    shell.file("pipelines/x.test.yaml", &GOOD.replace("[2]", "[3]"));
    let ended = shell.run(&["test"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.out.contains("pipelines/x.test.yaml:3:31: error[test-failed]: `outputs.said[0]` is 2, expected 3"),
        "{}",
        ended.out
    );
    shell.file("pipelines/x.test.yaml", &GOOD.replace("outputs", "output"));
    let ended = shell.run(&["test"]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("did you mean `outputs`?"), "{}", ended.err);
    let ended = shell.run(&["validate"]);
    assert_eq!(ended.code, 2);
    assert!(ended.out.contains("pipelines/x.test.yaml:3:13: error[unknown-key]"), "{}", ended.out);
    assert_eq!(shell.run(&["test", "nowhere.yaml"]).code, 2);
}

#[test]
fn cases_of_a_pipeline_itself_are_run_and_make_no_other_version() {
    let shell = project(GOOD);
    shell.file(
        "pipelines/x.yaml",
        &format!("{PIPELINE}tests:\n  - {{ name: within, then: {{ outputs: {{ said: [2] }} }} }}\n"),
    );
    let listed = shell.run(&["test", "--list"]).out;
    assert_eq!(listed, "pipelines/x.test.yaml:2: it adds one\npipelines/x.yaml:6: within\n");
    assert_eq!(shell.run(&["test"]).code, 0);
    let versions = |shell: &Shell| {
        shell.run(&["run", "x", "-q"]);
        let shown = shell.run(&["runs", "list", "--limit", "1", "--json"]).out;
        shown.split("\"version\":\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned)
    };
    let before = versions(&shell);
    assert!(before.is_some());
    shell.file("pipelines/x.yaml", PIPELINE);
    assert_eq!(versions(&shell), before);
}

#[test]
fn options_choose_count_and_write() {
    let shell = project(
        "tests:\n  - { name: one thing, then: { outputs: { said: [2] } } }\n  - { name: another, then: { outputs: { said: [3] } } }\n",
    );
    assert_eq!(shell.run(&["test", "--filter", "one*thing"]).code, 0);
    assert_eq!(shell.run(&["test", "--filter", "another"]).code, 1);
    assert_eq!(shell.run(&["test", "--filter", "nothing"]).code, 2);
    let ended = shell.run(&["test", "--json", "--junit", "out.xml", "--coverage"]);
    assert_eq!(ended.code, 1);
    let told: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((told["passed"].as_i64(), told["failed"].as_i64()), (Some(1), Some(1)));
    assert_eq!(told["suites"][0]["cases"][1]["findings"][0]["line"], 3);
    assert_eq!(told["coverage"]["pipelines"]["x"]["percent"], 100);
    let document = fs::read_to_string(shell.path().join("out.xml")).unwrap();
    assert!(document.contains("<testsuite name=\"pipelines/x.test.yaml\" tests=\"2\" failures=\"1\""), "{document}");
}

#[test]
fn too_little_that_is_exercised_fails() {
    let shell = project(GOOD);
    shell.file(
        "pipelines/x.yaml",
        &format!("{PIPELINE}on_failure:\n  sorry: {{ uses: log.write, with: {{ message: sorry }} }}\n"),
    );
    assert_eq!(shell.run(&["test", "--coverage-min", "50"]).code, 0);
    let ended = shell.run(&["test", "--coverage-min", "60"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("the cases exercise 50%, less than 60%"), "{}", ended.err);
    assert!(shell.run(&["test", "--coverage"]).out.contains("sorry: runs"));
}

#[test]
fn a_snapshot_that_is_missing_is_made_and_in_ci_it_is_a_fault() {
    let shell = project("tests:\n  - { name: a, then: { snapshot: true } }\n");
    let run = |ci: &str| {
        let output = shell.command(&["test"]).env("CI", ci).output().unwrap();
        output.status.code().unwrap()
    };
    assert_eq!(run("true"), 1);
    assert!(!shell.path().join("pipelines/x.test.snap.yaml").exists());
    assert_eq!(run(""), 0);
    let kept = fs::read_to_string(shell.path().join("pipelines/x.test.snap.yaml")).unwrap();
    assert!(kept.ends_with("a:\n  outputs:\n    said: [2]\n"), "{kept}");
    assert_eq!(run("true"), 0);
    assert_eq!(shell.run(&["validate"]).code, 0);
}
