//! Each thing that `then` can say: it holds where it should, and where it does not, its place is told.

use super::Bench;

const PIPELINE: &str = r#"name: x
inputs:
  net: { type: money, default: "10.00 EUR" }
  many: { type: array, default: [1, 2] }
  loud: { type: boolean, default: false }
steps:
  gross: { uses: data.map, with: { items: ["{{ inputs.net }}"], to: "{{ item * 2 }}" } }
  each: { for_each: "{{ inputs.many }}", uses: data.map, with: { items: ["{{ item }}"], to: "{{ item }}" } }
  shout: { when: "{{ inputs.loud }}", uses: log.write, with: { message: loud, level: warn } }
  post: { needs: [gross, each], uses: x.create_post, with: { connection: x, text: "now {{ steps.gross.output[0] }}" } }
  tell: { needs: [post], uses: discord.send, with: { connection: discord, text: "see {{ steps.post.output.url }}" } }
  keep: { needs: [tell], uses: file.write, with: { path: out/a.txt, content: "kept" } }
outputs:
  gross: "{{ steps.gross.output[0] }}"
  items: "{{ steps.each.output }}"
"#;

/// What `then` says, what is told instead where it is wrong, and in which line of the file.
const FORMS: &[(&str, &str, &str)] = &[
    ("state: succeeded", "state: failed", "3: the run is succeeded, expected failed"),
    (
        "outputs: { gross: 20 EUR }",
        "outputs: { gross: 21 EUR }",
        "3: `outputs.gross` is \"20.00 EUR\", expected \"21 EUR\"",
    ),
    (
        "outputs: { equals: { gross: 20 EUR, items: [[1], [2]] } }",
        "outputs: { equals: { gross: 20 EUR } }",
        "3: `outputs.items` is [[1],[2]], expected nothing",
    ),
    (
        "steps: { post: succeeded }",
        "steps: { post: skipped }",
        "3: `steps.post.state` is \"succeeded\", expected \"skipped\"",
    ),
    (
        "steps: { post: { attempts: 1 } }",
        "steps: { post: { attempts: 2 } }",
        "3: `steps.post.attempts` is 1, expected 2",
    ),
    (
        "steps: { shout: { state: skipped, skipped: \"`when` is false\" } }",
        "steps: { shout: { skipped: false } }",
        "3: `steps.shout.skipped` is \"`when` is false\", expected nothing",
    ),
    (
        "steps: { each: { items: { count: 2 }, output: [[1], [2]] } }",
        "steps: { each: { items: { count: 3 } } }",
        "3: `steps.each.items | length` is 2, expected 3",
    ),
    (
        "steps: { gross: { that: \"{{ value[0] > ('19 EUR' | money) }}\" } }",
        "steps: { gross: { that: \"{{ value[0] > ('29 EUR' | money) }}\" } }",
        "3: `steps.gross.output` is [\"20.00 EUR\"], expected what `{{ value[0] > ('29 EUR' | money) }}` holds for",
    ),
    (
        "that: [ \"{{ steps.post.state == 'succeeded' and requests['x.create_post'] == 1 }}\" ]",
        "that: [ \"{{ requests['x.create_post'] == 2 }}\" ]",
        "3: does not hold: it gives false",
    ),
    (
        "requests: { x.create_post: 1, discord: 1, x.list_posts: 0 }",
        "requests: { x.create_post: { min: 2 } }",
        "3: `requests[x.create_post]` is 1, expected at least 2",
    ),
    (
        "sandbox: { x: { posts: { matches: [ { sent: { contains: 20.00 EUR } } ], unique: id } } }",
        "sandbox: { x: { posts: { none: { sent: { contains: 20.00 EUR } } } } }",
        "expected no item such as this",
    ),
    (
        "messages: { discord: [ { text: { contains: \"see https://\" }, step: tell } ] }",
        "messages: { discord: { count: 2 } }",
        "3: `messages.discord | length` is 1, expected 2",
    ),
    (
        "effects: { create: 1, message: 1, upsert: 1, in_doubt: 0 }",
        "effects: { delete: 1 }",
        "3: `effects.delete` is 0, expected 1",
    ),
    (
        "files: { out/a.txt: kept, out/b.txt: { absent: true } }",
        "files: { out/a.txt: lost }",
        "3: `files[out/a.txt]` is \"kept\", expected \"lost\"",
    ),
    ("finished_by: 1m", "finished_by: 2025-12-31T00:00:00Z", "3: the run ended at 2026-01-01T00:00:00Z, after 0s"),
];

#[test]
fn every_form_holds_where_it_should_and_tells_its_place_where_it_does_not() {
    let bench = Bench::new();
    for (good, bad, told) in FORMS {
        bench.case(PIPELINE, &format!("then: {{ {good} }}")).is_kept();
        let findings = bench.case(PIPELINE, &format!("then: {{ {bad} }}")).findings();
        assert_eq!(findings.len(), 1, "{bad}: {findings:#?}");
        assert!(findings[0].contains(told), "{bad}: {findings:#?}");
    }
}

#[test]
fn a_run_that_fails_is_not_passed_over_and_its_error_can_be_expected() {
    let bench = Bench::new();
    let pipeline =
        "name: x\nsteps:\n  no: { uses: assert.that, with: { that: \"{{ 1 == 2 }}\", message: sums differ } }\n";
    let findings = bench.case(pipeline, "then: { outputs: {} }").findings();
    assert!(findings[0].starts_with("2: the run is failed (") && findings[0].contains("sums differ"), "{findings:?}");
    bench
        .case(pipeline, "then: { error: sums differ, steps: { no: { state: failed, error: { class: rejected } } } }")
        .is_kept();
    let findings = bench.case(pipeline, "then: { error: { class: timeout, contains: sums differ } }").findings();
    assert_eq!(findings, ["3: `error.class` is \"rejected\", expected \"timeout\""]);
}

#[test]
fn logs_and_asks_can_be_expected() {
    let bench = Bench::new();
    let pipeline = "name: x\nsteps:\n  say: { uses: log.write, with: { message: \"tea is ready\", level: warn } }\n  \
                    ask: { needs: [say], uses: approval.request, with: { title: Pour it?, expires: 2d } }\n";
    let case = "given: { answers: { ask: { approve: true, by: anna, after: 3h } } }\n\
                then:\n  logs: [ { step: say, level: warn, message: { contains: tea } } ]\n  \
                asks: [ { step: ask, title: Pour it? } ]\n  finished_by: 3h1s\n  steps: { ask: { output: { by: [anna] } } }\n";
    bench.case(pipeline, case).is_kept();
    let wrong =
        case.replace("contains: tea", "contains: coffee").replace("3h1s", "2h").replace("Pour it? }", "Drink it? }");
    let findings = bench.case(pipeline, &wrong).findings();
    assert_eq!(findings.len(), 3, "{findings:#?}");
    assert!(findings.iter().any(|told| told.contains("ended at 2026-01-01T03:00:00Z, after 3h")), "{findings:#?}");
}

#[test]
fn what_nobody_comes_for_waits() {
    let bench = Bench::new();
    let pipeline = "name: x\nsteps:\n  ask: { uses: approval.request, with: { title: Pour it? } }\n";
    bench.case(pipeline, "then: { waits: approval, state: waiting }").is_kept();
    let findings = bench.case(pipeline, "then: { state: succeeded }").findings();
    assert!(findings[0].starts_with("3: the run is waiting ("), "{findings:?}");
}
