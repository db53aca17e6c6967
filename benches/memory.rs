//! The figures of the memory of content: how long it takes to keep a text and to find it among ten thousand.
//! `cargo bench --bench memory` prints them.
//!
//! Nothing here passes or fails.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has nothing to say")]

use std::time::Duration;
use std::time::Instant;

use pipewright::memory;
use pipewright::memory::search::Query;
use pipewright::memory::search::search;
use pipewright::model::RunId;
use pipewright::model::StepPath;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::store::GenerationFilter;
use pipewright::store::GenerationRecord;
use pipewright::store::OpenOptions;
use pipewright::store::Store;
use pipewright::store::generation_id;
use pipewright::system::Random;

const DOCUMENTS: u32 = 10_000;
const WORDS: u32 = 60;
const SEARCHES: usize = 50;
const DIMENSIONS: usize = 512;

#[tokio::main]
async fn main() {
    println!("{:<60} {:>10} {:>10}   goal", "workload", "p50", "p99");
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("state.db").display());
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    let random = Random::seeded(1);
    let mut kept = Vec::new();
    for number in 0..DOCUMENTS {
        let start = Instant::now();
        let vector = (number % 10 == 0).then(|| ("small".to_owned(), vector(&random)));
        memory::keep(&store, &record(number, &random), vector).await.unwrap();
        kept.push(start.elapsed());
    }
    row("a text of 60 words is kept", kept, "-");
    let drinks = GenerationFilter { topic: Some("topic3".to_owned()), ..GenerationFilter::default() };
    let cases = [
        ("rare words", Query { text: words(&random, 4, false), ..Query::default() }),
        ("words that nearly all have", Query { text: "word0 word1 word2".to_owned(), ..Query::default() }),
        ("a sentence of ten words", Query { text: words(&random, 10, true), ..Query::default() }),
        ("the same, of one topic", Query { text: words(&random, 10, true), filter: drinks, ..Query::default() }),
        (
            "the same, with a vector",
            Query {
                text: words(&random, 10, true),
                vector: Some(("small".to_owned(), vector(&random))),
                ..Query::default()
            },
        ),
    ];
    for (name, query) in cases {
        let query = Query { limit: 5, ..query };
        let mut took = Vec::new();
        for _ in 0..SEARCHES {
            let start = Instant::now();
            search(&store, &query).await.unwrap();
            took.push(start.elapsed());
        }
        row(&format!("10,000 texts are searched for {name}"), took, "50 ms");
    }
}

/// Words are as frequent as in a language: the tenth a tenth as often as the first.
fn words(random: &Random, count: u32, common: bool) -> String {
    let word = |_| {
        let least = if common { 0.0 } else { 0.6 };
        let place = (8_000_f64).powf(least + random.fraction() * (1.0 - least));
        format!("word{place:.0}")
    };
    (0..count).map(word).collect::<Vec<_>>().join(" ")
}

fn vector(random: &Random) -> Vec<f32> {
    (0..DIMENSIONS).map(|_| if random.fraction() < 0.5 { -1.0 } else { 1.0 }).collect()
}

fn record(number: u32, random: &Random) -> GenerationRecord {
    let (run, path) = (RunId::new(u64::from(number), number.into()), StepPath::step("write"));
    GenerationRecord {
        id: generation_id(run, &path, ""),
        at: Timestamp(i64::from(number)),
        run,
        path,
        part: String::new(),
        pipeline: "content".into(),
        kind: "generate".to_owned(),
        topic: Some(format!("topic{}", number % 10)),
        connection: None,
        model: None,
        prompt: None,
        prompt_version: None,
        inputs: Value::Null,
        output: words(random, WORDS, true),
        value: Value::Null,
        usage: Value::Null,
        cost: None,
        unit: None,
        tags: Vec::new(),
    }
}

fn row(name: &str, mut took: Vec<Duration>, goal: &str) {
    took.sort();
    let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)];
    println!("{name:<60} {:>8.1}ms {:>8.1}ms   {goal}", at(50).as_secs_f64() * 1e3, at(99).as_secs_f64() * 1e3);
}
