//! Each thing that a case can begin with, and each thing that can go wrong in it.

use std::time::Duration;
use std::time::Instant;

use super::Bench;

const POST: &str = "name: x\nsteps:\n  post:\n    uses: x.create_post\n    \
                    with: { connection: x, text: hello }\n    \
                    retry: { attempts: 4, delay: 2s, on: [throttled, unavailable, timeout, auth] }\n\
                    outputs: { id: \"{{ steps.post.output.id }}\" }\n";

#[test]
fn a_month_of_waiting_takes_no_time() {
    let bench = Bench::new();
    let pipeline = "name: x\nsteps:\n  \
                    rest: { uses: time.wait, with: { for: 30d } }\n  \
                    poll: { needs: [rest], uses: data.reduce, with: { items: [1], initial: \"{{ previous or 0 }}\", to: \"{{ acc + item }}\" }, \
                    until: { holds: \"{{ output >= 5 }}\", every: 1d, limit: 9 } }\n";
    #[expect(clippy::disallowed_methods, reason = "the machine's time is what is measured")]
    let began = Instant::now();
    bench
        .case(pipeline, "given: { clock: 2026-02-01T00:00:00Z }\nthen: { finished_by: 2026-03-07T00:00:00Z, steps: { poll: { rounds: 5 } } }")
        .is_kept();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let findings = bench.case(pipeline, "given: { limit: 20d }\nthen: {}").findings();
    assert!(findings[0].contains("not over after 20d of virtual time"), "{findings:?}");
}

#[test]
fn stubs_give_what_is_written_by_call_and_by_item() {
    let bench = Bench::new();
    let pipeline = "name: x\ninputs: { ids: { type: array, default: [7, 8] } }\nsteps:\n  \
                    fetch:\n    for_each: \"{{ inputs.ids }}\"\n    uses: http.request\n    with: { url: \"https://api.example.com/{{ item }}\" }\n    \
                    retry: { attempts: 3, delay: 10s }\n    on_error: continue\n  \
                    total: { uses: data.map, with: { items: \"{{ steps.fetch.output }}\", to: \"{{ item.body.n if item else 0 }}\" } }\n\
                    outputs: { all: \"{{ steps.total.output }}\" }\n";
    let by_item = "given:\n  steps:\n    fetch:\n      items:\n        - [ { error: { class: unavailable } }, { output: { body: { n: \"{{ item * 10 }}\" } }, after: 3s } ]\n        \
                   - { error: { class: rejected, message: no such id } }\n\
                   then: { outputs: { all: [70, 0] }, steps: { fetch: { items: [ { attempts: 2 }, { state: failed, error: { message: no such id } } ] } } }";
    bench.case(pipeline, by_item).is_kept();
    let by_call = "given: { steps: { fetch: [ { output: { body: { n: 1 } } }, { output: { body: { n: 2 } } } ] } }\n\
                   then: { outputs: { all: [1, 2] }, requests: { x: 0 } }";
    bench.case(pipeline, by_call).is_kept();
    let unstubbed = bench.case(pipeline, "then: { steps: { fetch: { attempts: 2 } } }");
    assert!(unstubbed.journal().contains("the sandbox has no stand-in for it"), "{}", unstubbed.journal());
}

#[test]
fn faults_come_where_they_are_asked_for() {
    let bench = Bench::new();
    let cases = [
        (
            "{ on: x.create_post, call: 1, status: 503 }",
            "requests: { x.create_post: 2 }, steps: { post: { attempts: 2 } }",
        ),
        ("{ on: x.create_post, call: [1, 2], status: 503 }", "requests: { x.create_post: 3 }"),
        ("\"x.create_post:503=#1\"", "requests: { x.create_post: 2 }"),
        (
            "{ on: x.create_post, call: 1, refuse: true }",
            "requests: { x.create_post: 1 }, steps: { post: { attempts: 2 } }",
        ),
        (
            "{ on: x.create_post, call: 1, lost: after }",
            "sandbox: { x: { posts: { matches: { sent: hello } } } }, requests: { x.create_post: 1 }",
        ),
        ("{ on: x.create_post, call: 1, lost: before }", "effects: { create: 1 }, requests: { x.create_post: 1 }"),
        ("{ on: x.create_post, call: 1, delay: 20s }", "finished_by: 25s"),
        (
            "{ step: post, call: 1, error: { class: unavailable } }",
            "steps: { post: { attempts: 2 } }, requests: { x.create_post: 1 }",
        ),
        ("{ crash: { after: post } }", "requests: { x.create_post: 1 }, steps: { post: succeeded }"),
        ("{ crash: { sending: post } }", "effects: { create: 1 }, requests: { x.create_post: 1 }"),
        ("{ crash: { answered: post } }", "effects: { create: 1 }, requests: { x.create_post: 1 }"),
    ];
    for (fault, then) in cases {
        let tested = bench.case(POST, &format!("faults: [ {fault} ]\nthen: {{ {then} }}"));
        assert!(tested.findings().is_empty(), "{fault}\n{}", tested.told());
    }
}

#[test]
fn an_expired_token_is_renewed_once() {
    let bench = Bench::new();
    bench.file("pipewright.yaml", "connections:\n  x: { connector: x, auth: { client_id: \"{{ secrets.ID }}\" } }\n");
    let tested = bench.case(POST, "faults: [ { on: x.create_post, call: 1, token: expired } ]\nthen: { requests: { x.create_post: 2 }, effects: { create: 1 } }");
    tested.is_kept();
}

#[test]
fn a_fault_that_never_comes_and_an_answer_nobody_asks_for_fail_the_case() {
    let bench = Bench::new();
    let findings = bench.case(POST, "faults:\n  - { on: x.create_post, call: 2, status: 503 }\nthen: {}").findings();
    assert_eq!(findings, ["4: this fault never came: there were 1 requests that it could strike"]);
    let findings = bench
        .case(POST, "faults:\n  - { crash: { sending: post } }\n  - { crash: { sending: post } }\nthen: {}")
        .findings();
    assert!(findings.iter().all(|told| told.starts_with("5: the process did not die")), "{findings:?}");
    let findings = bench.case(POST, "given: { answers: { post: { approve: true } } }\nthen: {}").findings();
    assert_eq!(findings, ["3: `post` did not ask for this answer"]);
}

#[test]
fn the_same_seed_gives_the_same_journal_and_cases_do_not_see_each_other() {
    let bench = Bench::new();
    bench.file("pipelines/x.yaml", POST);
    let case = |number: usize, seed: usize| {
        format!(
            "  - name: case {number}\n    given: {{ seed: {seed}, clock: 2026-05-01T00:00:00Z }}\n    \
                 faults: [ {{ on: x.create_post, share: 0.4, status: 503 }} ]\n    \
                 then: {{ that: \"{{{{ requests['x.create_post'] >= 1 }}}}\", sandbox: {{ x: {{ posts: {{ count: {{ max: 2 }} }} }} }} }}\n"
        )
    };
    let cases: String = (0..24).map(|number| case(number, number / 2)).collect();
    bench.file("pipelines/x.test.yaml", &format!("tests:\n{cases}"));
    let journals = || -> Vec<String> {
        let tested = bench.test(&["pipelines"]);
        tested.verdicts.iter().map(|verdict| pipewright::testing::report::journal(&verdict.played).join("\n")).collect()
    };
    let first = journals();
    assert_eq!(first, journals());
    assert!(first.chunks(2).all(|pair| pair[0] == pair[1]));
    let different: std::collections::BTreeSet<_> = first.iter().collect();
    assert!(different.len() > 2, "chance goes by the seed");
}

#[test]
fn files_are_laid_over_the_project_which_stays_as_it_is() {
    let bench = Bench::new();
    bench.file("data/in.csv", "a\n1\n").file("out/b.txt", "before");
    let pipeline = "name: x\nsteps:\n  read: { uses: csv.read, with: { file: data/in.csv } }\n  \
                    write: { uses: file.write, with: { path: out/b.txt, content: \"{{ steps.read.output.rows | length }}\" } }\n  \
                    table: { uses: sql.execute, with: { database: \"sqlite://out/x.db\", sql: CREATE TABLE t (a), repeat: always } }\n\
                    outputs: { rows: \"{{ steps.read.output.rows | length }}\" }\n";
    bench.case(pipeline, "then: { outputs: { rows: 1 }, files: { out/b.txt: \"1\" } }").is_kept();
    bench
        .case(pipeline, "given: { files: { data/in.csv: \"a\\n1\\n2\\n\" } }\nthen: { outputs: { rows: 2 } }")
        .is_kept();
    assert_eq!(std::fs::read_to_string(bench.root().join("out/b.txt")).unwrap(), "before");
    assert_eq!(std::fs::read_to_string(bench.root().join("data/in.csv")).unwrap(), "a\n1\n");
    assert!(!bench.root().join("out/x.db").exists());
}

#[test]
fn what_a_sandbox_holds_and_what_fires_can_be_given() {
    let bench = Bench::new();
    let pipeline = "name: x\ninputs: { topic: { type: string } }\ntriggers:\n  \
                    - { webhook: { path: in, auth: none }, inputs: { topic: \"{{ event.body.topic }}\" } }\n  \
                    - { cron: \"0 9 * * *\", inputs: { topic: \"{{ run.slot }}\" } }\n\
                    steps:\n  list: { uses: x.list_posts, with: { connection: x, since: \"2026-01-01T00:00:00Z\" } }\n\
                    outputs: { topic: \"{{ inputs.topic }}\", texts: \"{{ steps.list.output | map(attribute='text') | list }}\" }\n";
    let case = "given:\n  clock: 2026-02-01T00:00:00Z\n  event: { body: { topic: tea } }\n  \
                sandbox: { x: { posts: [ { id: \"1\", text: one, author_id: \"1001\", created_at: \"2026-01-20T00:00:00Z\" } ] } }\n\
                then: { outputs: { topic: tea, texts: [one] } }";
    bench.case(pipeline, case).is_kept();
    let slot = "given: { slot: 2026-01-02T09:00:00Z }\nthen: { outputs: { topic: { contains: 2026-01-02T09 } } }";
    bench.case(pipeline, slot).is_kept();
    let findings = bench.case(pipeline, "given: { trigger: webhok, event: {} }\nthen: {}").findings();
    assert!(findings[0].contains("there is no trigger `webhok`; did you mean `webhook`?"), "{findings:?}");
}

#[test]
fn people_answer_in_their_order_and_their_roles_count() {
    let bench = Bench::new();
    bench.file("pipewright.yaml", "people: { anna: [editor], bob: [editor], carl: [] }\n");
    let pipeline = "name: x\nsteps:\n  ok: { uses: approval.request, with: { title: Go?, approvers: [editor], quorum: 2, expires: 3d } }\n";
    let case = "given:\n  started_by: dora\n  answers: { ok: [ { approve: true, by: anna }, { approve: true, by: bob, after: 1d } ] }\n\
                then: { finished_by: 1d1s, steps: { ok: { output: { by: [anna, bob] } } } }";
    bench.case(pipeline, case).is_kept();
    let findings = bench
        .case(pipeline, "given: { answers: { ok: { approve: true, by: carl } } }\nthen: { error: { class: rejected } }")
        .findings();
    assert!(
        findings.iter().any(|told| told.contains("this answer does not count: `carl` is not asked")),
        "{findings:?}"
    );
    bench.case(pipeline, "then: { error: { class: rejected }, finished_by: 3d1s }").is_kept();
}
