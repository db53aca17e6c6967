//! What is told: faults of test files, failures, snapshots, coverage, JUnit; and no secret in any of it.

use pipewright::testing::junit;
use pipewright::testing::report;
use pipewright::testing::snapshot::Mode;

use super::Bench;

const SECRET: &str = "canary-4711-do-not-show";

#[test]
fn faults_of_test_files_are_told_with_their_places_and_mends() {
    let bench = Bench::new();
    bench.file("pipelines/x.yaml", "name: x\ninputs: { topic: { type: string, default: tea } }\nsteps:\n  post: { uses: x.create_post, with: { connection: x, text: \"{{ inputs.topic }}\" } }\n");
    bench.file(
        "pipelines/x.test.yaml",
        "tests:\n  - name: a\n    given: { inputs: { topik: x }, clok: 1, steps: { pots: { output: 1 } }, sandbox: { x: { post: [] } } }\n    \
         faults: [ { on: x.create_pots, status: 503 }, { on: x, status: 200 }, { crash: { after: nope } } ]\n    \
         then: { state: done, steps: { post: { atempts: 1 } }, requests: { y.create_post: 1, x.create_post: 1 }, sandbox: { x: { pots: { count: 1 } } }, that: \"{{ step.post }}\" }\n  \
         - name: a\n    then: { finished_by: soon, error: { class: throtled } }\n  - { name: b }\n",
    );
    let faults = bench.prepare(&["pipelines"]).map(|_| ()).unwrap_err();
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!("test_file_faults", faults) });
}

#[test]
fn a_failure_tells_the_expectation_what_came_and_the_journal() {
    let bench = Bench::new();
    let pipeline = "name: x\nsteps:\n  post: { uses: x.create_post, with: { connection: x, text: hello }, retry: { attempts: 2, delay: 5s } }\noutputs: { done: true }\n";
    let tested = bench.case(pipeline, "faults: [ { on: x.create_post, call: 1, status: 503 } ]\nthen:\n  outputs: { done: false }\n  steps: { post: { attempts: 1 } }");
    let told = tested.told().replace(&format!("{}/", bench.root().display()), "");
    insta::with_settings!({ omit_expression => true, filters => vec![(r"\+\S+", "+TIME"), (r"[0-9]{15,}", "ID"), (r" +\+TIME", " +TIME")] }, {
        insta::assert_snapshot!("test_failure", told);
    });
}

#[test]
fn secrets_are_in_nothing_that_is_told() {
    let bench = Bench::new();
    let pipeline = "name: x\nsteps:\n  post: { uses: x.create_post, with: { connection: x, text: \"key {{ secrets.KEY }}\" } }\n  \
                    keep: { uses: data.map, with: { items: [\"{{ secrets.KEY }}\"], to: \"{{ item }}\" } }\n\
                    outputs: { key: \"{{ steps.keep.output[0] }}\", echo: \"{{ steps.post.output }}\" }\n";
    let case = format!(
        "given: {{ secrets: {{ KEY: {SECRET} }} }}\nthen:\n  snapshot: true\n  outputs: {{ key: other, echo: nothing }}\n  \
                        sandbox: {{ x: {{ posts: {{ none: {{ sent: {{ contains: key }} }} }} }} }}\n  that: [ \"{{{{ outputs.key == 'x' }}}}\" ]"
    );
    bench.file("pipelines/x.yaml", pipeline);
    let indented: String = case.lines().map(|line| format!("    {line}\n")).collect();
    bench.file("pipelines/x.test.yaml", &format!("tests:\n  - name: a case\n{indented}"));
    let tested = bench.test_as(&["pipelines"], Mode::New);
    assert!(tested.findings().len() >= 4, "{:?}", tested.findings());
    let json = report::json(&tested.verdicts, std::time::Duration::ZERO).to_string();
    let kept = std::fs::read_to_string(bench.root().join("pipelines/x.test.snap.yaml")).unwrap();
    for (what, text) in [
        ("the report", tested.told()),
        ("JUnit", junit::document(&tested.verdicts)),
        ("JSON", json),
        ("the snapshot", kept),
    ] {
        // The expectation itself is the author's.
        let text: String = text.lines().filter(|line| !line.contains("given: {")).collect();
        assert!(!text.contains(SECRET), "{what}: {text}");
        assert!(text.contains("***"), "{what}: {text}");
    }
}

#[test]
fn snapshots_are_kept_compared_and_missing_ones_are_faults() {
    let bench = Bench::new();
    let pipeline = |word: &str| {
        format!(
            "name: x\nsteps:\n  say: {{ uses: data.map, with: {{ items: [1], to: \"{{{{ '{word}' }}}}\" }} }}\noutputs: {{ said: \"{{{{ steps.say.output }}}}\" }}\n"
        )
    };
    let case = "then: { snapshot: true, steps: { say: { snapshot: true } } }";
    let findings = bench.case(&pipeline("tea"), case).findings();
    assert_eq!(findings, ["3: there is no snapshot of `outputs`", "3: there is no snapshot of `steps.say`"]);
    bench.test_as(&["pipelines"], Mode::New).is_kept();
    bench.test(&["pipelines"]).is_kept();
    let findings = bench.case(&pipeline("coffee"), case).findings();
    assert_eq!(findings[0], "3: `outputs.said[0]` is \"coffee\", was \"tea\" in the snapshot");
    bench.test_as(&["pipelines"], Mode::Update).is_kept();
    bench.test(&["pipelines"]).is_kept();
}

#[test]
fn coverage_tells_what_no_case_has_exercised() {
    let bench = Bench::new();
    let pipeline = "name: x\ninputs: { loud: { type: boolean, default: false }, list: { type: array, default: [] } }\nsteps:\n  \
                    shout: { when: \"{{ inputs.loud }}\", uses: log.write, with: { message: hi } }\n  \
                    each: { for_each: \"{{ inputs.list }}\", uses: data.map, with: { items: [1], to: \"{{ item }}\" } }\n  \
                    post: { uses: x.create_post, with: { connection: x, text: hello }, retry: { attempts: 2, delay: 1s }, undo: auto }\n\
                    on_failure:\n  sorry: { uses: log.write, with: { message: sorry } }\n";
    let coverage = bench.case(pipeline, "then: {}").is_kept().coverage();
    let missing: Vec<String> =
        coverage.pipelines["x"].missing().map(|fact| format!("{}: {}", fact.of, fact.what)).collect();
    assert_eq!(
        missing,
        [
            "each: one item",
            "each: several items",
            "post: a lost answer is asked for",
            "post: is tried again",
            "post: is undone",
            "shout: `when` is true",
            "shout: runs",
            "sorry: runs"
        ]
    );
    assert!(coverage.connectors["x"].exercised() < coverage.connectors["x"].facts.len());
    let case = "given: { inputs: { loud: true, list: [1] } }\nfaults: [ { on: x.create_post, call: 1, status: 429 } ]\nthen: {}";
    let coverage = bench.case(pipeline, case).is_kept().coverage();
    let missing: Vec<String> =
        coverage.pipelines["x"].missing().map(|fact| format!("{}: {}", fact.of, fact.what)).collect();
    assert!(!missing.iter().any(|fact| fact.contains("tried again") || fact == "shout: runs"), "{missing:?}");
    assert!(coverage.connectors["x"].exercised() > 0, "the rule for the 429 was applied");
}

#[test]
fn junit_is_well_formed_and_counts() {
    let bench = Bench::new();
    bench.file("pipelines/x.yaml", "name: x\nsteps:\n  a: { uses: data.map, with: { items: [1], to: \"{{ item }}\" } }\noutputs: { a: \"{{ steps.a.output }}\" }\n");
    bench.file("pipelines/x.test.yaml", "tests:\n  - { name: \"good <&> \\\"quoted\\\"\", then: {} }\n  - { name: bad, then: { outputs: { a: [2] } } }\n");
    let document = junit::document(&bench.test(&["pipelines"]).verdicts);
    assert!(document.contains("tests=\"2\" failures=\"1\""), "{document}");
    assert!(document.contains("name=\"good &lt;&amp;&gt; &quot;quoted&quot;\""), "{document}");
    assert!(
        document.contains("`outputs.a[0]` is 1, expected 2</failure>") || document.contains("<failure"),
        "{document}"
    );
    let opened = document.matches("<testcase").count();
    assert_eq!(opened, 2);
    assert_eq!(document.matches("</failure>").count(), 1);
}
