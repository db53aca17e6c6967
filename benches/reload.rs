//! The figures of hot reload: how long an edit takes to become active. `cargo bench --bench reload` prints them.
//!
//! Nothing here passes or fails.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has nothing to say")]

use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use pipewright::daemon::reload::Ground;
use pipewright::daemon::reload::QUIET;
use pipewright::daemon::reload::Reloader;
use pipewright::system::System;

/// How often a file is edited.
const EDITS: usize = 200;

#[tokio::main]
async fn main() {
    println!("{:<52} {:>12} {:>12}   goal", "workload", "p50", "p99");
    for pipelines in [500, 2_000] {
        measure(pipelines).await;
    }
}

async fn measure(pipelines: usize) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("pipelines/prompts")).unwrap();
    fs::write(
        root.join("pipelines/prompts/p.j2"),
        "Tell of {{ inputs.topic }} in {{ steps.rows.output | length }} words",
    )
    .unwrap();
    for number in 0..pipelines {
        write(root, number, 0);
    }
    let start = Instant::now();
    let ground = Ground { root: root.to_owned(), can_seal: true };
    let (_reloader, mut generations) = Reloader::open(ground, System::real()).await;
    let opened = start.elapsed();
    assert!(generations.borrow().is_current(), "{:?}", generations.borrow().checked.diagnostics.first());
    println!("{:<52} {opened:>12.1?}", format!("open {pipelines} pipelines"));

    let (mut one, mut prompt) = (Vec::new(), Vec::new());
    for edit in 1..=EDITS {
        write(root, edit % pipelines, edit);
        one.push(active(&mut generations, edit).await);
    }
    row(&format!("{pipelines} pipelines, edit of one, after the debounce"), one, "100 ms");
    for edit in 1..=EDITS / 10 {
        fs::write(root.join("pipelines/prompts/p.j2"), format!("Edit {edit} of {{{{ inputs.topic }}}}")).unwrap();
        prompt.push(active(&mut generations, EDITS + edit).await);
    }
    row(&format!("{pipelines} pipelines, edit of a prompt of a tenth"), prompt, "");
}

/// Waits until an edit is active, and returns how long that took after the debounce.
async fn active(
    generations: &mut tokio::sync::watch::Receiver<std::sync::Arc<pipewright::daemon::reload::Generation>>,
    edit: usize,
) -> Duration {
    let start = Instant::now();
    generations.wait_for(|generation| generation.number > edit as u64).await.unwrap();
    start.elapsed().saturating_sub(QUIET)
}

fn row(name: &str, mut took: Vec<Duration>, goal: &str) {
    took.sort_unstable();
    let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)];
    println!("{name:<52} {:>12.1?} {:>12.1?}   {goal}", at(50), at(99));
}

fn write(root: &Path, number: usize, edit: usize) {
    let with = if number.is_multiple_of(10) { "file: prompts/p.j2" } else { "text: \"{{ inputs.topic }}\"" };
    let text = format!(
        "description: Pipeline {number}, edit {edit}.
inputs: {{ topic: {{ type: string, default: news }} }}
triggers:
  - cron: \"{} 9 * * MON-FRI\"
    timezone: Europe/Berlin
steps:
  rows: {{ uses: data.filter, with: {{ items: [{{ n: 1 }}, {{ n: 2 }}], where: \"{{{{ item.n > 1 }}}}\" }} }}
  text: {{ uses: template.render, with: {{ {with} }} }}
  each:
    for_each: \"{{{{ steps.rows.output }}}}\"
    uses: template.render
    with: {{ text: \"{{{{ steps.text.output }}}} {{{{ item.n }}}}\" }}
outputs: {{ texts: \"{{{{ steps.each.output }}}}\" }}
",
        number % 60
    );
    fs::write(root.join(format!("pipelines/p{number}.yaml")), text).unwrap();
}
