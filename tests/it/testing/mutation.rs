//! Faults are put into what we ship, one at a time: the tests of the pipeline or of the manifest must catch each.
//!
//! `cargo test --test it mutation -- --nocapture` prints the list and the score.

#![expect(clippy::print_stdout, reason = "the list and the score are what it is for")]

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use pipewright::connector::contract;
use pipewright::connector::library;
use pipewright::connector::library::Loaded;
use pipewright::system::System;
use pipewright::testing::run;
use pipewright::testing::snapshot::Mode;

use super::Bench;

/// A fault: what is wrong, in which file, which text stands there, and what stands there instead.
type Mutation = (&'static str, &'static str, &'static str, &'static str);

const MUTATIONS: &[Mutation] = &[
    // announce
    ("other orders are counted", "examples/announce.yaml", "[[state, \"=\", sale]]", "[[state, \"=\", draft]]"),
    (
        "the wrong figure is posted",
        "examples/announce.yaml",
        "{{ steps.orders.output.count }} orders are",
        "{{ inputs.release }} orders are",
    ),
    (
        "the team gets an id instead of a link",
        "examples/announce.yaml",
        "Posted: {{ steps.post.output.url }}",
        "Posted: {{ steps.post.output.id }}",
    ),
    ("posts are listed before one is made", "examples/announce.yaml", "    needs: [tell]\n", ""),
    (
        "posts are listed from a later day",
        "examples/announce.yaml",
        "since: \"2026-11-20T00:00:00Z\"",
        "since: \"2026-12-20T00:00:00Z\"",
    ),
    (
        "an output says another thing",
        "examples/announce.yaml",
        "orders: \"{{ steps.orders.output.count }}\"",
        "orders: \"{{ inputs.release }}\"",
    ),
    // billing
    ("every invoice is of the default amount", "examples/billing.yaml", ", net: \"{{ item.net | money }}\"", ""),
    ("nets are added up instead of grosses", "examples/billing.yaml", "acc + item.gross", "acc + item.net"),
    ("the sum begins with something", "examples/billing.yaml", "'0 EUR'", "'1 EUR'"),
    ("an inverted condition", "examples/billing.yaml", "output | length) == (", "output | length) != ("),
    (
        "every invoice is of the same customer",
        "examples/billing.yaml",
        "customer: \"{{ item.name }}\"",
        "customer: Ada GmbH",
    ),
    // invoice
    ("the tax is rounded to tenths", "examples/invoice.yaml", "round(2)", "round(1)"),
    ("halves are rounded up", "examples/invoice.yaml", "round(2)", "round(2, 'up')"),
    ("the tax is taken off", "examples/invoice.yaml", "inputs.net + steps.tax", "inputs.net - steps.tax"),
    ("another rate of tax", "examples/invoice.yaml", "default: 0.19", "default: 0.07"),
    ("a wrong currency", "examples/invoice.yaml", "default: 100.00 EUR", "default: 100.00 USD"),
    // durable-wait
    ("it gives up too early", "examples/durable-wait.yaml", "limit: 25", "limit: 5"),
    ("one round too many", "examples/durable-wait.yaml", "output >= inputs.wanted", "output > inputs.wanted"),
    ("the pause is forgotten", "examples/durable-wait.yaml", "for: \"{{ inputs.pause }}\"", "for: 20ms"),
    ("nothing waits for the pause", "examples/durable-wait.yaml", "    needs: [pause]\n", ""),
    // momentum
    ("months of twenty days", "examples/momentum.yaml", "21 * inputs.months", "20 * inputs.months"),
    ("gains are rounded to cents", "examples/momentum.yaml", "- 1) | round(6)", "- 1) | round(2)"),
    ("losers are called winners", "examples/momentum.yaml", "descending: true", "descending: false"),
    (
        "the window is read backwards",
        "examples/momentum.yaml",
        "items: [\"{{ steps.window.output[0][item] }}\"]",
        "items: [\"{{ steps.window.output[1][item] }}\"]",
    ),
    ("all are winners", "examples/momentum.yaml", "steps.ranked.output[:inputs.top]", "steps.ranked.output"),
    // newsletter
    ("letters may be ten times as long", "examples/newsletter.yaml", "<= 1000", "<= 10000"),
    ("a thousand letters are too many", "examples/newsletter.yaml", "<= 1000", "< 1000"),
    (
        "the old price is said to be the new one",
        "examples/prompts/letter.md.j2",
        "(was {{ good.old }})",
        "(was {{ good.price }})",
    ),
    ("every price is an old one", "examples/prompts/letter.md.j2", "{% if good.old %}", "{% if good.price %}"),
    // order-book
    (
        "an id may lose its last digits",
        "examples/order-book.yaml",
        ".id == 9007199254740993001",
        ".id != 9007199254740993001",
    ),
    ("prices are added up", "examples/order-book.yaml", "attribute='quantity'", "attribute='price'"),
    ("the first price is given", "examples/order-book.yaml", "output | last).price", "output | first).price"),
    // report
    ("the lowest is the highest", "examples/report.yaml", "item < acc.low", "item > acc.low"),
    (
        "a table with the columns exchanged",
        "examples/report.yaml",
        "{{ row[1].low }} | {{ row[1].high }}",
        "{{ row[1].high }} | {{ row[1].low }}",
    ),
    ("always the same file", "examples/report.yaml", "path: \"{{ inputs.file }}\"", "path: .pipewright/out/report.md"),
    ("always the same year", "examples/report.yaml", "startingwith(inputs.year | string)", "startingwith('2022')"),
    // shop-etl
    ("orders without a customer are lost", "examples/shop-etl.yaml", "      keep: left\n", ""),
    (
        "joined by the wrong key",
        "examples/shop-etl.yaml",
        "left_key: \"{{ item.customer }}\"",
        "left_key: \"{{ item.id }}\"",
    ),
    (
        "an order that comes again is passed over",
        "examples/shop-etl.yaml",
        "DO UPDATE SET day = excluded.day, country = excluded.country, net = excluded.net",
        "DO NOTHING",
    ),
    (
        "sums are texts in a row",
        "examples/shop-etl.yaml",
        "'orders': item['items'] | length",
        "'orders': item['items'] | map(attribute='net') | unique | list | length",
    ),
    // undo
    (
        "the wrong file is taken back",
        "examples/undo.yaml",
        "with: { path: \"{{ output.path }}\" }",
        "with: { path: \"{{ inputs.folder }}/first.txt\" }",
    ),
    (
        "nothing is taken back",
        "examples/undo.yaml",
        "    undo:\n      uses: file.delete\n      with: { path: \"{{ output.path }}\" }\n",
        "",
    ),
    ("an inverted check", "examples/undo.yaml", "that: \"{{ inputs.sound }}\"", "that: \"{{ not inputs.sound }}\""),
    ("nobody looks behind the files", "examples/undo.yaml", "    needs: [write]\n", ""),
    ("a failure is told as news", "examples/undo.yaml", "level: error", "level: info"),
    // when-things-fail
    ("a lost retry", "examples/when-things-fail.yaml", "attempts: 3", "attempts: 1"),
    ("one bad item stops all", "examples/when-things-fail.yaml", "    on_error: continue\n", ""),
    ("the limit itself raises the alarm", "examples/when-things-fail.yaml", "total.output > (", "total.output >= ("),
    ("the bad ones are kept", "examples/when-things-fail.yaml", "item is not none", "item is none"),
    ("another currency by default", "examples/when-things-fail.yaml", "currency: EUR", "currency: USD"),
    ("nobody says goodbye", "examples/when-things-fail.yaml", "finally:\n  goodbye:", "on_failure:\n  goodbye:"),
    // rebalance
    ("the smallest order first", "pipelines/rebalance.yaml", "descending: true", "descending: false"),
    (
        "prices of five years ago",
        "pipelines/rebalance.yaml",
        "prices: \"{{ steps.history.output.rows | last }}\"",
        "prices: \"{{ steps.history.output.rows | first }}\"",
    ),
    (
        "books need not balance",
        "pipelines/rebalance.yaml",
        "output.value_before == steps.plan.output.value_after + steps.plan.output.fees",
        "output.value_before >= steps.plan.output.value_after",
    ),
    (
        "orders leave before the books are looked at",
        "pipelines/rebalance.yaml",
        "  keep_orders:\n    needs: [books_balance, value_agrees]\n",
        "  keep_orders:\n",
    ),
    ("no fees", "pipelines/rebalance.yaml", "rate: \"{{ inputs.fee_rate }}\"", "rate: 0"),
    (
        "the cash of before is given",
        "pipelines/rebalance.yaml",
        "cash: \"{{ steps.plan.output.cash_after }}\"",
        "cash: \"{{ inputs.cash }}\"",
    ),
    (
        "a column is missing in the file",
        "pipelines/rebalance.yaml",
        "quantity, price, value, fee]",
        "quantity, price, value]",
    ),
    (
        "the value of the parts is not looked at",
        "pipelines/rebalance.yaml",
        ") == (steps.plan.output.value_before | amount)",
        ") != 0",
    ),
    // x
    (
        "a lost post is not found again",
        "connectors/x.yaml",
        "found: \"{{ item.text == ((input.text or '')",
        "found: \"{{ false and item.text == ((input.text or '')",
    ),
    (
        "any post is taken for the lost one",
        "connectors/x.yaml",
        "found: \"{{ item.text == ((input.text or '')",
        "found: \"{{ true or item.text == ((input.text or '')",
    ),
    (
        "a wrong field",
        "connectors/x.yaml",
        "        text: \"{{ input.text }}\"\n        reply:",
        "        body: \"{{ input.text }}\"\n        reply:",
    ),
    (
        "the link leads elsewhere",
        "connectors/x.yaml",
        "    output: { id: \"{{ body.data.id }}\", url: \"https://x.com/i/status/{{ body.data.id }}\" }",
        "    output: { id: \"{{ body.data.id }}\", url: \"https://x.com/i/{{ body.data.id }}\" }",
    ),
    (
        "a wrong class of effect",
        "connectors/x.yaml",
        "    effect: create\n    input:\n      properties:\n        text:",
        "    effect: update\n    input:\n      properties:\n        text:",
    ),
    (
        "too many requests end it",
        "connectors/x.yaml",
        "  - { status: 429, then: throttled, wait:",
        "  - { status: 429, then: rejected, wait:",
    ),
    (
        "without credits it is tried again",
        "connectors/x.yaml",
        "{ status: 402, then: exhausted }",
        "{ status: 402, then: unavailable }",
    ),
    (
        "a wrong key of pages",
        "connectors/x.yaml",
        "        pagination_token: \"{{ next }}\"\n        post.fields",
        "        next_token: \"{{ next }}\"\n        post.fields",
    ),
    (
        "pages end after the first",
        "connectors/x.yaml",
        "paging: { next: \"{{ body.meta.next_token }}\" }\n    returns: { properties: { id: { type: string }, text: { type: string }, created_at",
        "paging: { next: \"{{ body.meta.token }}\" }\n    returns: { properties: { id: { type: string }, text: { type: string }, created_at",
    ),
    ("what is gone cannot be taken back", "connectors/x.yaml", "    errors: [ { status: 404, then: done } ]\n", ""),
    // discord
    (
        "messages are said to be created",
        "connectors/discord.yaml",
        "effect: message\n    input:\n      properties:\n        text: { type: string, maxLength: 2000",
        "effect: create\n    input:\n      properties:\n        text: { type: string, maxLength: 2000",
    ),
    (
        "a message without its text",
        "connectors/discord.yaml",
        "            content: \"{{ input.text }}\"\n            embeds:",
        "            message: \"{{ input.text }}\"\n            embeds:",
    ),
    (
        "everybody is called",
        "connectors/discord.yaml",
        "input.mentions | default([])",
        "input.mentions | default(['everyone'])",
    ),
    (
        "no answer is waited for",
        "connectors/discord.yaml",
        "query: { wait: true, thread_id: \"{{ input.thread }}\" }\n      multipart",
        "query: { thread_id: \"{{ input.thread }}\" }\n      multipart",
    ),
    (
        "a lost message is sent again",
        "connectors/discord.yaml",
        "    reconcile: none\n    undo: { operation: delete, with: { id: \"{{ output.id }}\", thread",
        "    repeat: always\n    undo: { operation: delete, with: { id: \"{{ output.id }}\", thread",
    ),
    (
        "a refusal for now is one for good",
        "connectors/discord.yaml",
        "  - { status: 429, then: throttled, wait:",
        "  - { status: 429, then: rejected, wait:",
    ),
    // odoo
    (
        "rows are counted without their domain",
        "connectors/odoo.yaml",
        "named: { domain: \"{{ input.domain }}\" } }\n    output: { count",
        "named: { domain: [] } }\n    output: { count",
    ),
    ("rows are searched instead of counted", "connectors/odoo.yaml", "method: search_count", "method: search"),
    (
        "a wrong header",
        "connectors/odoo.yaml",
        "Authorization: \"bearer {{ auth.api_key }}\"",
        "Authorization: \"key {{ auth.api_key }}\"",
    ),
    (
        "who may not is tried again",
        "connectors/odoo.yaml",
        "  - { status: 401, then: auth_broken }\n",
        "  - { status: 401, then: unavailable }\n",
    ),
    (
        "what the database locked is given up",
        "connectors/odoo.yaml",
        "OperationalError') }}\", then: locked }",
        "OperationalError') }}\", then: rejected }",
    ),
];

/// The number of a fault, and what became of it.
type Told = (usize, Option<Result<String, String>>);

/// Copies what we ship, with one fault in it. Gives nothing where the text does not stand there.
fn project((what, file, from, to): &Mutation) -> Bench {
    let bench = Bench::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::copy(source.join("pipewright.yaml"), bench.root().join("pipewright.yaml")).unwrap();
    for folder in ["pipelines", "examples", "examples/data", "examples/prompts"] {
        std::fs::create_dir_all(bench.root().join(folder)).unwrap();
        for entry in std::fs::read_dir(source.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, bench.root().join(folder).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    let text = std::fs::read_to_string(source.join(file)).unwrap();
    assert!(text.contains(from), "{what}: {file} has no `{from}`");
    bench.file(file, &text.replacen(from, to, 1));
    bench
}

/// Returns the tests that are to catch a fault of a file.
fn tests_of(file: &str) -> Vec<&str> {
    match file {
        "examples/invoice.yaml" => vec!["examples/invoice.yaml", "examples/billing.yaml"],
        "examples/prompts/letter.md.j2" => vec!["examples/newsletter.yaml"],
        file if file.starts_with("connectors/") => vec!["examples/announce.yaml"],
        file => vec![file],
    }
}

/// Tells which test catches a fault; nothing where none does, and what the checker says where it is no fault for a test.
fn caught(mutation: &Mutation) -> Option<Result<String, String>> {
    let (what, file, ..) = mutation;
    let bench = project(mutation);
    let (stage, prepared) = match bench.prepare(&tests_of(file)) {
        Ok(prepared) => prepared,
        Err(faults) => return Some(Err(faults)),
    };
    // The first that fails is enough.
    for job in &prepared.jobs {
        let verdicts = run::run(&stage, std::slice::from_ref(job), 1, Mode::Strict).unwrap();
        if verdicts.iter().any(|verdict| !verdict.findings.is_empty()) {
            return Some(Ok(format!("the case `{}`", job.case.name)));
        }
    }
    if !file.starts_with("connectors/") {
        return None;
    }
    // A manifest's own tests are its examples.
    let text: Arc<str> = std::fs::read_to_string(bench.root().join(file)).unwrap().into();
    let Loaded::Manifest(manifest) = library::read(&(*file).into(), &text) else { panic!("{what}: a faulty manifest") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(contract::check(&manifest, &System::real()));
    report.findings.first().map(|finding| Ok(format!("its examples ({})", finding.message)))
}

#[test]
fn every_fault_that_is_put_into_what_we_ship_is_caught_by_its_tests() {
    assert!(MUTATIONS.len() >= 40);
    let next = AtomicUsize::new(0);
    let told: Mutex<Vec<Told>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((index, mutation)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    MUTATIONS.get(index).map(|mutation| (index, mutation))
                } {
                    let caught = caught(mutation);
                    told.lock().unwrap().push((index, caught));
                }
            });
        }
    });
    let mut told = told.into_inner().unwrap();
    told.sort_by_key(|(index, _)| *index);
    let mut survived = Vec::new();
    for (index, caught) in &told {
        let (what, file, ..) = MUTATIONS[*index];
        match caught {
            Some(Ok(by)) => println!("caught    {file}: {what}, by {by}"),
            Some(Err(faults)) => {
                println!("REFUSED   {file}: {what}\n{faults}");
                survived.push(format!("{file}: {what}: the checker finds it, so it is no fault for a test"));
            }
            None => {
                println!("SURVIVED  {file}: {what}");
                survived.push(format!("{file}: {what}"));
            }
        }
    }
    println!("{} of {} faults are caught", told.len() - survived.len(), MUTATIONS.len());
    assert_eq!(told.len(), MUTATIONS.len());
    assert!(survived.is_empty(), "these survive:\n{}", survived.join("\n"));
}
