//! The figures of `pipewright test`: how long cases take. `cargo bench --bench testing` prints them.
//!
//! Nothing here passes or fails.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has nothing to say")]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pipewright::connector::library::Library;
use pipewright::pipeline::Catalog;
use pipewright::testing::file;
use pipewright::testing::run;
use pipewright::testing::snapshot::Mode;
use pipewright::testing::stage::Stage;

const CASES: usize = 1_000;
const STEPS: usize = 10;
const THREADS: usize = 2;

fn main() {
    println!("{:<58} {:>10}   goal", "workload", "time");
    measure("ten pure steps", pure(), "");
    measure("ten steps, three of them requests to a sandbox", mixed(), "5 s");
    measure("ten steps, all of them writes to a sandbox", writes(), "5 s");
    measure("ten waits of three days", waits(), "");
}

/// Steps one behind the other; `step` gives what the n-th uses.
fn chain(step: impl Fn(usize) -> String) -> String {
    let mut text = String::from("name: ten\nsteps:\n");
    for number in 0..STEPS {
        let needs = if number == 0 { String::new() } else { format!("needs: [s{}], ", number - 1) };
        writeln!(text, "  s{number}: {{ {needs}{} }}", step(number)).unwrap();
    }
    text
}

fn map(number: usize) -> String {
    format!("uses: data.map, with: {{ items: [1, 2, 3], to: \"{{{{ item * {number} }}}}\" }}")
}

fn post(number: usize) -> String {
    format!("uses: x.create_post, with: {{ connection: x, text: \"note {number}\" }}")
}

fn tell(number: usize) -> String {
    format!("uses: discord.send, with: {{ connection: discord, text: \"note {number}\" }}")
}

fn pure() -> String {
    chain(map)
}

fn mixed() -> String {
    chain(|number| match number % 5 {
        2 => post(number),
        4 => tell(number),
        _ => map(number),
    })
}

fn writes() -> String {
    chain(|number| if number % 2 == 0 { post(number) } else { tell(number) })
}

fn waits() -> String {
    chain(|_| "uses: time.wait, with: { for: 3d }".to_owned())
}

fn measure(what: &str, pipeline: String, goal: &str) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("pipelines")).unwrap();
    fs::write(root.join("pipelines/ten.yaml"), pipeline).unwrap();
    let mut cases = String::from("tests:\n");
    for number in 0..CASES {
        writeln!(
            cases,
            "  - name: case {number}\n    given: {{ seed: {number} }}\n    then: {{ steps: {{ s9: succeeded }} }}"
        )
        .unwrap();
    }
    fs::write(root.join("pipelines/ten.test.yaml"), cases).unwrap();
    let began = Instant::now();
    let failed = test(root);
    let took = began.elapsed();
    assert_eq!(failed, 0, "{what}");
    println!("{:<58} {took:>10.2?}   {goal}", format!("{CASES} cases, {THREADS} threads: {what}"));
}

/// Reads, compiles, checks, plays and judges, as the command does. Gives how many cases failed.
fn test(root: &Path) -> usize {
    let library = Arc::new(Library::open(root));
    let catalog = Catalog::open(root, pipewright::nodes::registry().with_operations(library.clone()));
    let stage = Stage::new(root, catalog.project().unwrap(), &library).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let prepared = runtime.block_on(run::prepare(&stage, &catalog, file::read(&[root.join("pipelines")])));
    assert!(prepared.diagnostics.is_empty(), "{:?}", prepared.diagnostics.first());
    let verdicts = run::run(&stage, &prepared.jobs, THREADS, Mode::Strict).unwrap();
    verdicts.iter().filter(|verdict| !verdict.findings.is_empty()).count()
}
