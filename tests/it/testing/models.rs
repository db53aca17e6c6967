//! What is made with models: prompts, schemas that are kept to, tools, chains of connections.

use super::Bench;

/// A project with two connections to models.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.file(
        "pipewright.yaml",
        "connections:\n  writer: { connector: openai, auth: { api_key: \"{{ secrets.K }}\" } }\n  \
         spare: { connector: openai, organization: spare, auth: { api_key: \"{{ secrets.K }}\" } }\n  \
         x: { connector: x, auth: { client_id: \"{{ secrets.X }}\" } }\n",
    );
    bench
}

const ASK: &str = "name: x\nsteps:\n  draft: { uses: ai.generate, with: { connection: writer, model: gpt-6-luna, text: Write. } }\n\
                   outputs: { text: \"{{ steps.draft.output.text }}\", by: \"{{ steps.draft.output.connection }}\" }\n";

#[test]
fn a_text_is_written_and_what_it_took_is_told() {
    let bench = bench();
    let case = "given: { sandbox: { writer: { replies: [ { text: Tea is ready. } ] } } }\n\
                then:\n  outputs: { text: Tea is ready., by: writer }\n  requests: { openai.chat: 1 }\n  \
                steps: { draft: { output: { stop: end, repairs: 0, turns: 1, usage: { output: { min: 1 } }, value: null } } }";
    bench.case(ASK, case).is_kept();
}

#[test]
fn a_prompt_is_a_file_with_settings_and_includes() {
    let bench = bench();
    bench.file(
        "pipelines/prompts/post.md.j2",
        "---\nmodel: gpt-6-luna\nmax_tokens: 77\nsystem: You write posts.\nschema: { type: object, required: [text], properties: { text: { type: string } } }\n---\nPost about {{ vars.what }}.\n{% include 'style.md.j2' %}\n",
    );
    bench.file("pipelines/prompts/style.md.j2", "Be brief.\n");
    let pipeline = "name: x\nsteps:\n  draft: { uses: ai.generate, with: { connection: writer, prompt: prompts/post.md.j2, vars: { what: tea } } }\n\
                    outputs: { text: \"{{ steps.draft.output.value.text }}\" }\n";
    let case = "given: { sandbox: { writer: { replies: [ { json: { text: Tea! } } ] } } }\n\
                then:\n  outputs: { text: Tea! }\n  that:\n  \
                - \"{{ (sandbox.writer.questions | first).question.max_tokens == 77 }}\"\n  \
                - \"{{ 'Post about tea.' in (sandbox.writer.questions | first).asked }}\"\n  \
                - \"{{ 'Be brief.' in (sandbox.writer.questions | first).asked }}\"\n  \
                - \"{{ 'You write posts.' in (sandbox.writer.questions | string) }}\"";
    bench.case(pipeline, case).is_kept();
    // A setting that there is not is told with its place in the prompt.
    bench.file("pipelines/prompts/post.md.j2", "---\nmodel: gpt-6-luna\nmaxtokens: 77\n---\nHi\n");
    let told = bench.prepare(&["pipelines"]).map(|_| ()).unwrap_err();
    assert!(told.contains("post.md.j2:3:1: error[unknown-key]: a prompt has no setting `maxtokens`"), "{told}");
    assert!(told.contains("did you mean `max_tokens`?"), "{told}");
}

const RATE: &str = "name: x\nsteps:\n  rate:\n    uses: ai.generate\n    with:\n      connection: writer\n      model: gpt-6-luna\n      text: Rate it.\n      \
                    schema: { type: object, required: [score], properties: { score: { type: integer, maximum: 5 } } }\n      repairs: 2\n\
                    outputs: { score: \"{{ steps.rate.output.value.score }}\", repairs: \"{{ steps.rate.output.repairs }}\" }\n";

#[test]
fn an_answer_that_does_not_fit_is_mended_by_the_model_and_not_for_ever() {
    let bench = bench();
    let mended = "given: { sandbox: { writer: { replies: [ { text: \"no json\" }, { json: { score: 9 } }, { json: { score: 4 } } ] } } }\n\
                  then:\n  outputs: { score: 4, repairs: 2 }\n  requests: { openai.chat: 3 }\n  \
                  that: [ \"{{ '`/score`' in (sandbox.writer.questions | last | string) }}\" ]";
    bench.case(RATE, mended).is_kept();
    let hopeless = "given: { sandbox: { writer: { replies: [ { json: { score: 9 } }, { json: { score: 8 } }, { json: { score: 7 } }, { json: { score: 1 } } ] } } }\n\
                    then:\n  error: { class: invalid, contains: after 2 repairs }\n  requests: { openai.chat: 3 }";
    bench.case(RATE, hopeless).is_kept();
    let refused = "given: { sandbox: { writer: { replies: [ { refusal: I will not. } ] } } }\n\
                   then: { error: { class: rejected, contains: I will not. }, requests: { openai.chat: 1 } }";
    bench.case(RATE, refused).is_kept();
}

#[test]
fn what_was_answered_before_a_repair_failed_is_not_paid_for_again() {
    let bench = bench();
    let case = "given: { sandbox: { writer: { replies: [ { text: \"no json\" }, { json: { score: 4 } }, { json: { score: 1 } } ] } } }\n\
                faults: [ { on: openai.chat, call: 2, status: 503 } ]\n\
                then:\n  outputs: { score: 4, repairs: 1 }\n  requests: { openai.chat: 3 }\n  steps: { rate: { attempts: 2 } }\n  \
                that: [ \"{{ 'no json' in (sandbox.writer.questions | last | string) }}\" ]";
    bench.case(RATE, case).is_kept();
}

#[test]
fn the_next_connection_is_asked_where_one_cannot_answer() {
    let bench = bench();
    let pipeline = ASK.replace(
        "model: gpt-6-luna, text",
        "model: gpt-6-luna, fallback: [ { connection: spare, model: gpt-4.1-mini } ], text",
    );
    let down = "given: { sandbox: { spare: { replies: [ { text: Spare. } ] } } }\n\
                faults: [ { on: openai.chat, call: 1, status: 503 } ]\n\
                then: { outputs: { text: Spare., by: spare }, steps: { draft: { attempts: 1 } }, logs: [ { level: warn } ] }";
    bench.case(&pipeline, down).is_kept();
    // What a chain does not help against is not hidden by it.
    let wrong = "given: { sandbox: { writer: { replies: [ { error: { status: 400, message: bad } } ] } } }\n\
                 then: { error: { class: rejected }, requests: { spare: 0 } }";
    bench.case(&pipeline, wrong).is_kept();
}

const TOOLS: &str = "name: x\nsteps:\n  ask:\n    uses: ai.generate\n    with:\n      connection: writer\n      model: gpt-6-luna\n      text: \"Which posts did well?\"\n      rounds: 3\n      \
                     tools:\n      - { uses: x.list_posts, name: posts, with: { connection: x } }\n      - { pipeline: double }\n\
                     outputs: { text: \"{{ steps.ask.output.text }}\", turns: \"{{ steps.ask.output.turns }}\" }\n";

#[test]
fn tools_are_steps_of_their_own_and_their_results_are_read() {
    let bench = bench();
    bench.file(
        "pipelines/double.yaml",
        "name: double\ndescription: Doubles a number.\ninputs: { n: { type: integer } }\nsteps:\n  \
         d: { uses: data.map, with: { items: \"{{ [inputs.n] }}\", to: \"{{ item * 2 }}\" } }\noutputs: { n: \"{{ steps.d.output | first }}\" }\n",
    );
    let case = "given:\n  sandbox:\n    writer:\n      replies:\n      \
                - { tool: [ { name: posts, arguments: { since: \"2026-11-01T00:00:00Z\" } }, { name: double, arguments: { n: 21 } }, { name: double, arguments: { n: \"x\" } } ] }\n      \
                - { text: The second one. }\n\
                then:\n  outputs: { text: The second one., turns: 2 }\n  requests: { openai.chat: 2, x.list_posts: 1 }\n  that:\n  \
                - \"{{ '42' in (sandbox.writer.questions | last | string) }}\"\n  \
                - \"{{ 'How we test crashes' in (sandbox.writer.questions | last | string) }}\"\n  \
                - \"{{ 'error' in (sandbox.writer.questions | last | string) }}\"";
    bench.case(TOOLS, case).is_kept();
    // A model that never ends is stopped: its last turn has no tools.
    let endless = "given:\n  sandbox:\n    writer:\n      replies:\n      - { tool: { name: double, arguments: { n: 1 } } }\n      \
                   - { tool: { name: double, arguments: { n: 2 } } }\n      - { text: Enough. }\n\
                   then: { outputs: { text: Enough., turns: 3 }, requests: { openai.chat: 3 } }";
    bench.case(TOOLS, endless).is_kept();
}

#[test]
fn an_answer_that_a_crash_has_lost_is_paid_for_again_only_where_the_step_says_so() {
    let bench = bench();
    let lost = "class: unavailable, contains: it counts as spent";
    for crash in ["answered: draft", "after: draft"] {
        let case = |then: &str| {
            format!(
                "given: {{ sandbox: {{ writer: {{ replies: [ {{ text: One. }}, {{ text: Two. }} ] }} }} }}\nfaults: [ {{ crash: {{ {crash} }} }} ]\nthen: {{ {then} }}"
            )
        };
        let resend = ASK.replace("text: Write. } }", "text: Write. }, in_doubt: resend }");
        bench.case(&resend, &case("state: succeeded")).is_kept();
        if crash.starts_with("answered") {
            bench
                .case(
                    ASK,
                    &case(&format!(
                        "error: {{ {lost} }}, requests: {{ openai.chat: 1 }}, steps: {{ draft: {{ attempts: 1 }} }}"
                    )),
                )
                .is_kept();
            let told = "logs: [ { step: draft, level: warn, message: { contains: perhaps paid for once more } } ]";
            bench
                .case(
                    &resend,
                    &case(&format!("outputs: {{ text: Two., by: writer }}, requests: {{ openai.chat: 2 }}, {told}")),
                )
                .is_kept();
        }
    }
    let nothing = "given: { sandbox: { writer: { replies: [ { text: One. } ] } } }\nfaults: [ { crash: { sending: draft } } ]\n\
                   then: { outputs: { text: One., by: writer }, requests: { openai.chat: 1 } }";
    bench.case(ASK, nothing).is_kept();
}

#[test]
fn turns_with_tools_have_the_word_of_their_step() {
    let bench = bench();
    bench.file(
        "pipelines/double.yaml",
        "name: double\ndescription: Doubles a number.\ninputs: { n: { type: integer } }\nsteps:\n  \
         d: { uses: data.map, with: { items: \"{{ [inputs.n] }}\", to: \"{{ item * 2 }}\" } }\noutputs: { n: \"{{ steps.d.output | first }}\" }\n",
    );
    let case = |then: &str| {
        format!(
            "given:\n  sandbox:\n    writer:\n      replies:\n      - {{ tool: {{ name: double, arguments: {{ n: 21 }} }} }}\n      \
             - {{ text: Lost. }}\n      - {{ text: Kept. }}\nfaults: [ {{ crash: {{ answered: turn_2 }} }} ]\nthen: {{ {then} }}"
        )
    };
    let retried = TOOLS.replace("uses: ai.generate\n", "uses: ai.generate\n    retry: { attempts: 3 }\n");
    assert_ne!(retried, TOOLS);
    let then = "error: { class: unavailable, contains: it counts as spent }, requests: { openai.chat: 2 }";
    bench.case(&retried, &case(then)).is_kept();
    // What was answered before is not asked again.
    let resent = TOOLS.replace("uses: ai.generate\n", "uses: ai.generate\n    in_doubt: resend\n");
    bench.case(&resent, &case("outputs: { text: Kept., turns: 2 }, requests: { openai.chat: 3 }")).is_kept();
}

#[test]
fn a_tool_that_writes_must_be_allowed_and_is_in_the_ledger() {
    let bench = bench();
    let pipeline = "name: x\nsteps:\n  ask:\n    uses: ai.generate\n    with:\n      connection: writer\n      model: gpt-6-luna\n      text: \"Post it.\"\n      \
                    tools:\n      - { uses: x.create_post, with: { connection: x } }\n\
                    outputs: { text: \"{{ steps.ask.output.text }}\" }\n";
    bench.file("pipelines/x.yaml", pipeline).file("pipelines/x.test.yaml", "tests: [ { name: a, then: {} } ]\n");
    let told = bench.prepare(&["pipelines"]).map(|_| ()).unwrap_err();
    assert!(told.contains("x.yaml:10:9: error[invalid-with]: tool `x.create_post` changes the world"), "{told}");
    let allowed = pipeline.replace("with: { connection: x } }", "with: { connection: x }, writes: true }");
    let replies = "- { tool: { name: x_create_post, arguments: { text: Hello } } }\n      - { text: Done. }";
    let case = format!(
        "given:\n  sandbox:\n    writer:\n      replies:\n      {replies}\nfaults: [ {{ on: x.create_post, call: 1, lost: after }} ]\n\
         then: {{ outputs: {{ text: Done. }}, sandbox: {{ x: {{ posts: {{ matches: [ {{ text: Hello }} ] }} }} }}, effects: {{ create: 1 }} }}"
    );
    bench.case(&allowed, &case).is_kept();
}

#[test]
fn what_does_not_fit_a_tool_or_a_connection_is_told_before_a_run() {
    let bench = bench();
    let told = |with: &str| {
        let pipeline = format!("name: x\nsteps:\n  ask: {{ uses: ai.generate, with: {{ {with} }} }}\n");
        bench.file("pipelines/x.yaml", &pipeline).file("pipelines/x.test.yaml", "tests: [ { name: a, then: {} } ]\n");
        bench.prepare(&["pipelines"]).map(|_| ()).unwrap_err()
    };
    let cases = [
        ("connection: x, text: hi", "needs a connection that can `chat`, and connector `x` cannot"),
        ("connection: writr, text: hi", "connection `writr` is not in the project file"),
        ("connection: writer", "give the prompt"),
        ("connection: writer, text: hi, fallback: [ { connection: x } ]", "needs a connection that can `chat`"),
        ("connection: writer, text: hi, tools: [ { uses: x.nothing } ]", "node `x.nothing` does not exist"),
        ("connection: writer, text: hi, tools: [ { pipeline: no } ]", "pipeline `no` does not exist"),
        ("connection: writer, text: hi, tools: [ {} ]", "a tool says either `uses` or `pipeline`"),
        ("connection: writer, text: hi, tools: [ { uses: x.me, name: a b } ]", "`a b` cannot name a tool"),
        ("connection: writer, text: hi, tools: [ { uses: x.me }, { uses: x.me } ]", "two tools are called `x_me`"),
    ];
    for (with, said) in cases {
        let told = told(with);
        assert!(told.contains(said), "{with}\n{told}");
    }
}

#[test]
fn only_labels_that_were_given_come_out() {
    let bench = bench();
    let pipeline = "name: x\nsteps:\n  one:\n    uses: ai.classify\n    with: { connection: writer, model: gpt-6-luna, text: It broke!, labels: { praise: nice, complaint: broken } }\n\
                    outputs: { label: \"{{ steps.one.output.label }}\" }\n";
    let case = "given: { sandbox: { writer: { replies: [ { json: { why: w, label: anger } }, { json: { why: w, label: complaint } } ] } } }\n\
                then: { outputs: { label: complaint }, requests: { openai.chat: 2 } }";
    bench.case(pipeline, case).is_kept();
    let several = pipeline.replace("labels: {", "several: true, labels: {");
    let case = "given: { sandbox: { writer: { replies: [ { json: { why: w, labels: [] } } ] } } }\n\
                then: { outputs: { label: null }, steps: { one: { output: { labels: [], why: w } } } }";
    bench.case(&several, case).is_kept();
}

#[test]
fn vectors_come_in_the_order_of_their_texts() {
    let bench = bench();
    let pipeline = "name: x\nsteps:\n  v:\n    uses: ai.embed\n    with: { connection: writer, model: text-embedding-3-small, texts: [ tea, coffee, tea ], dimensions: 8 }\n\
                    outputs: { same: \"{{ steps.v.output.vectors[0] == steps.v.output.vectors[2] }}\", other: \"{{ steps.v.output.vectors[0] == steps.v.output.vectors[1] }}\" }\n";
    bench.case(pipeline, "then: { outputs: { same: true, other: false }, requests: { openai.embed: 1 } }").is_kept();
}

#[test]
fn what_a_model_leaves_out_of_a_call_is_the_default() {
    let bench = bench();
    bench.file(
        "pipelines/greet.yaml",
        "name: greet\ninputs: { name: { type: string, default: World }, loud: { type: boolean, default: false } }\nsteps:\n  \
         g: { uses: template.render, with: { text: \"Hello {{ inputs.name }}\" } }\noutputs: { text: \"{{ steps.g.output.text }}\" }\n",
    );
    bench.file("data/a.csv", "n\n1\n2\n");
    let pipeline = "name: x\nsteps:\n  ask:\n    uses: ai.generate\n    with:\n      connection: writer\n      model: gpt-6-luna\n      text: Greet.\n      \
                    tools: [ { pipeline: greet }, { uses: csv.read, with: { file: data/a.csv } } ]\n\
                    outputs: { text: \"{{ steps.ask.output.text }}\" }\n";
    let case = "given:\n  sandbox:\n    writer:\n      replies:\n      \
                - { tool: [ { name: greet, arguments: {} }, { name: csv_read, arguments: { header: true } } ] }\n      - { text: Done. }\n\
                then:\n  outputs: { text: Done. }\n  that:\n  \
                - \"{{ 'Hello World' in (sandbox.writer.questions | last | string) }}\"\n  \
                - \"{{ 'rows' in (sandbox.writer.questions | last | string) }}\"";
    bench.case(pipeline, case).is_kept();
}
