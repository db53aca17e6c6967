//! Every pipeline that we ship validates, runs offline with its defaults, and gives what it gave yesterday.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use pipewright::app::App;
use pipewright::app::Rehearsal;
use pipewright::engine::ExecuteOptions;
use pipewright::engine::Execution;
use pipewright::model::RunState;
use pipewright::model::Value;
use pipewright::model::parse_json;
use pipewright::pipeline::Catalog;
use pipewright::pipeline::Given;
use pipewright::pipeline::check_inputs;
use rust_decimal::Decimal;

const FOLDERS: [&str; 2] = ["pipelines", "examples"];

/// A copy of what we ship, so that runs leave nothing in the repository.
struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn copy() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(source.join("pipewright.yaml"), folder.path().join("pipewright.yaml")).unwrap();
        for name in ["pipelines", "pipelines/prompts", "examples", "examples/data", "examples/prompts"] {
            let target = folder.path().join(name);
            std::fs::create_dir_all(&target).unwrap();
            for file in files(&source.join(name)) {
                std::fs::copy(&file, target.join(file.file_name().unwrap())).unwrap();
            }
        }
        Self { folder }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    async fn run(&self, file: &str, given: &[(&str, &str)]) -> (RunState, Value) {
        let registry = pipewright::app::registry(self.root());
        let catalog = Catalog::open(self.root(), registry.clone());
        let settings = catalog.project().unwrap_or_else(|checked| panic!("{:?}", checked.diagnostics));
        let path = self.root().join(file);
        let loaded = catalog.load(if path.is_file() { path.to_str().unwrap() } else { file }).unwrap();
        let rehearsal = REHEARSED.contains(&file).then(Rehearsal::default);
        let pipeline = loaded.pipeline.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
        let app = pipewright::app::open(self.root().to_owned(), registry, settings, rehearsal).await;
        let app: App = app.unwrap_or_else(|fault| panic!("{fault:?}"));
        if let Some(world) = &app.sandbox {
            app.engine.parts().store.enter(world.id()).await.unwrap();
        }
        let given: Vec<_> =
            given.iter().map(|(name, text)| ((*name).to_owned(), Given::Text((*text).to_owned()))).collect();
        let inputs = check_inputs(&pipeline, &given).unwrap();
        let run = app.engine.start(&pipeline, inputs).await.unwrap();
        match app.engine.execute(run, pipeline, ExecuteOptions::default()).await.unwrap() {
            Execution::Finished { state, outputs, .. } => (state, outputs),
            other => panic!("{file}: {other:?}"),
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// Lists what we ship, as `examples/report.yaml`.
fn shipped() -> Vec<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = FOLDERS.iter().flat_map(|folder| files(&source.join(folder)));
    let yaml =
        all.filter(|path| pipewright::pipeline::is_pipeline(path) && path.extension().is_some_and(|it| it == "yaml"));
    yaml.map(|path| path.strip_prefix(source).unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_file_is_valid_and_says_what_it_is() {
    let project = Project::copy();
    let folders: Vec<_> = FOLDERS.iter().map(|folder| project.root().join(folder)).collect();
    let registry = pipewright::app::registry(project.root());
    let checked = Catalog::open(project.root(), registry).check(&folders);
    assert!(checked.diagnostics.is_empty(), "{:#?}", checked.diagnostics);
    assert_eq!(checked.files, shipped().len());
    for file in shipped() {
        let text = std::fs::read_to_string(project.root().join(&file)).unwrap();
        assert!(text.starts_with("# yaml-language-server: $schema=../schemas/pipeline.schema.json\n"), "{file}");
        assert!(text.contains("\ndescription: "), "{file}");
        assert!(text.contains("\noutputs:\n"), "{file}");
    }
}

/// What reaches systems outside is rehearsed.
const REHEARSED: &[&str] =
    &["examples/announce.yaml", "pipelines/content.yaml", "pipelines/metrics.yaml", "pipelines/reflection.yaml"];

/// What gives something else each time.
const NEW_EACH_TIME: &[&str] = &["pipelines/content.yaml"];

/// Exactly what each gives. A new example is a new line here.
const OUTPUTS: &[(&str, &str)] = &[
    (
        "examples/billing.yaml",
        r#"{"owed":"2797.15 EUR","invoices":[{"customer":"Ada GmbH","net":"1999.99 EUR","tax":"380.00 EUR","gross":"2379.99 EUR"},{"customer":"Grace AG","net":"0.05 EUR","tax":"0.01 EUR","gross":"0.06 EUR"},{"customer":"Emmy KG","net":"350.50 EUR","tax":"66.60 EUR","gross":"417.10 EUR"}]}"#,
    ),
    (
        "examples/announce.yaml",
        r#"{"orders":4,"newest":"Release 2.4 is out, and 4 orders are waiting for it: https://example.com/r","told":true}"#,
    ),
    ("examples/durable-wait.yaml", r#"{"counted":3}"#),
    ("examples/invoice.yaml", r#"{"customer":"ACME","net":"100.00 EUR","tax":"19.00 EUR","gross":"119.00 EUR"}"#),
    (
        "examples/momentum.yaml",
        r#"{"from":"2021-12-29","to":"2022-11-29","winners":[{"symbol":"XOM","gain":0.879409},{"symbol":"CVX","gain":0.590093},{"symbol":"RRC","gain":0.508303},{"symbol":"MRK","gain":0.450283},{"symbol":"LLY","gain":0.325063}],"losers":[{"symbol":"AMD","gain":-0.504991},{"symbol":"MSFT","gain":-0.290591},{"symbol":"HD","gain":-0.216334},{"symbol":"AAPL","gain":-0.208444},{"symbol":"BAC","gain":-0.156571}]}"#,
    ),
    (
        "examples/newsletter.yaml",
        r##"{"letter":"# Week 7\n\n- Espresso: 12.50 EUR (was 14.00 EUR)\n- Matcha: 29.90 EUR\n\nUntil next week, newsletter"}"##,
    ),
    (
        "examples/order-book.yaml",
        r#"{"net":[{"symbol":"ACME","quantity":0.3},{"symbol":"BOLT","quantity":3}],"longest":12345678901234567890.123456789}"#,
    ),
    (
        "examples/report.yaml",
        r#"{"file":".pipewright/out/report.md","days":249,"figures":[{"low":125.674,"high":180.434},{"low":212.649,"high":330.092},{"low":60.127,"high":112.333}]}"#,
    ),
    (
        "examples/shop-etl.yaml",
        r#"{"loaded":5,"sums":[{"country":"DE","orders":2,"net":200.00},{"country":"FR","orders":1,"net":20.00},{"country":"US","orders":1,"net":1250.05},{"country":"unknown","orders":1,"net":75.00}]}"#,
    ),
    (
        "examples/undo.yaml",
        r#"{"files":[".pipewright/out/undo/first.txt",".pipewright/out/undo/second.txt",".pipewright/out/undo/third.txt"]}"#,
    ),
    ("examples/when-things-fail.yaml", r#"{"total":"19.75 EUR","bad":1,"currency":"EUR","alarm":"skipped"}"#),
    // The ids of the posts are new each time: only how many there are is compared, see `NEW_EACH_TIME`.
    ("pipelines/content.yaml", "3"),
    ("pipelines/metrics.yaml", r#"{"measured":0}"#),
    ("pipelines/reflection.yaml", r#"{"accepted":[],"refused":[],"retired":[]}"#),
    (
        "pipelines/rebalance.yaml",
        r#"{"as_of":"2022-12-28","orders":[{"side":"sell","symbol":"WMT","quantity":40,"price":"140.181 USD","value":"5607.240 USD","fee":"3.81 USD"},{"side":"sell","symbol":"XOM","quantity":75,"price":"106.627 USD","value":"7997.025 USD","fee":"5.00 USD"},{"side":"buy","symbol":"JNJ","quantity":12,"price":"174.085 USD","value":"2089.020 USD","fee":"2.05 USD"},{"side":"buy","symbol":"KO","quantity":133,"price":"62.609 USD","value":"8326.997 USD","fee":"5.17 USD"},{"side":"buy","symbol":"MSFT","quantity":32,"price":"233.434 USD","value":"7469.888 USD","fee":"4.74 USD"},{"side":"buy","symbol":"PG","quantity":13,"price":"149.133 USD","value":"1938.729 USD","fee":"1.97 USD"}],"holdings":{"AAPL":180,"JNJ":102,"JPM":120,"KO":133,"MSFT":92,"PG":88,"XOM":135},"cash":"6256.891 USD","value_before":"119527.895 USD","value_after":"119505.155 USD","fees":"22.74 USD","max_drift_before":0.07,"max_drift_after":0.0098884579}"#,
    ),
];

#[tokio::test]
async fn every_file_runs_without_arguments_and_gives_what_is_expected() {
    let listed: BTreeSet<_> = OUTPUTS.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(listed, shipped().into_iter().collect());
    let project = Project::copy();
    for (file, expected) in OUTPUTS {
        let (state, outputs) = project.run(file, &[]).await;
        assert_eq!(state, RunState::Succeeded, "{file}");
        if NEW_EACH_TIME.contains(file) {
            let posts = outputs.get("posts").and_then(Value::as_list).unwrap();
            let published = posts.iter().filter(|post| post.get("state") == Some(&Value::from("published")));
            assert_eq!(published.count().to_string(), *expected, "{file}: {outputs}");
            continue;
        }
        assert_eq!(outputs.to_string(), *expected, "{file}");
    }
}

#[tokio::test]
async fn the_rebalanced_books_agree_with_the_file_itself() {
    let project = Project::copy();
    let table = std::fs::read_to_string(project.root().join("examples/data/us-large-caps-daily.csv")).unwrap();
    assert_eq!(table.lines().count(), 1_258);
    let names = table.lines().next().unwrap().split(',');
    let closes = table.lines().last().unwrap().split(',');
    let price = |symbol: &str| {
        let (_, close) = names.clone().zip(closes.clone()).find(|(name, _)| *name == symbol).unwrap();
        Decimal::from_str_exact(close).unwrap()
    };
    let given = [("holdings", r#"{"AMD": 12.5, "GE": 3, "LLY": 7}"#), ("targets", r#"{"AMD": 0.5, "CVX": 0.5}"#)];
    for lot in ["1", "0.0001"] {
        let inputs = [given[0], given[1], ("cash", "0.01 USD"), ("lot", lot), ("min_trade", "0 USD")];
        let (state, outputs) = project.run("rebalance", &inputs).await;
        assert_eq!(state, RunState::Succeeded);
        let number = |value: &Value| Decimal::from_str_exact(value.to_text().trim_end_matches(" USD")).unwrap();
        let amount = |key: &str| number(outputs.get(key).unwrap());
        let before = Decimal::from_str_exact("12.5").unwrap() * price("AMD")
            + Decimal::from(3) * price("GE")
            + Decimal::from(7) * price("LLY")
            + Decimal::new(1, 2);
        assert_eq!(amount("value_before"), before);
        let held = outputs.get("holdings").and_then(Value::as_map).unwrap();
        let after: Decimal = held.iter().map(|(symbol, units)| number(units) * price(symbol)).sum();
        assert_eq!(after + amount("cash") + amount("fees"), before);
        assert!(amount("cash") >= Decimal::ZERO);
    }
    let kept = std::fs::read_to_string(project.root().join(".pipewright/out/orders.csv")).unwrap();
    assert!(kept.starts_with("side,symbol,quantity,price,value,fee\n") && kept.lines().count() > 2, "{kept}");
}

#[tokio::test]
async fn a_failed_check_takes_the_files_back() {
    let project = Project::copy();
    let folder = project.root().join(".pipewright/out/undo");
    project.run("examples/undo.yaml", &[]).await;
    assert_eq!(files(&folder).len(), 3);
    let (state, _) = project.run("examples/undo.yaml", &[("sound", "false")]).await;
    assert_eq!(state, RunState::Failed);
    assert!(files(&folder).is_empty(), "{:?}", files(&folder));
}

#[tokio::test]
async fn loading_twice_doubles_nothing() {
    let project = Project::copy();
    let (_, first) = project.run("examples/shop-etl.yaml", &[]).await;
    let (_, second) = project.run("examples/shop-etl.yaml", &[]).await;
    assert_eq!(first, second);
    assert!(parse_json(&first.to_string()).unwrap().get("sums").is_some());
}
