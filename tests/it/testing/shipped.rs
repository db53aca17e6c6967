//! Every pipeline that we ship has tests of its own, with faults, and keeps them.

use std::collections::BTreeSet;
use std::path::Path;

use pipewright::pipeline::is_pipeline;

use super::Bench;

const FOLDERS: [&str; 2] = ["pipelines", "examples"];

#[test]
fn every_pipeline_that_we_ship_has_tests_with_faults_and_keeps_them() {
    let bench = Bench::shipped();
    let tested = bench.test(&FOLDERS);
    tested.is_kept();
    let mut without = Vec::new();
    for folder in FOLDERS {
        for entry in std::fs::read_dir(bench.root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_file() || !is_pipeline(&path) || path.extension().is_none_or(|ending| ending != "yaml") {
                continue;
            }
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let own: Vec<_> = tested.verdicts.iter().filter(|verdict| *verdict.job.pipeline.name == *name).collect();
            let faults = own.iter().any(|verdict| !verdict.job.case.faults.is_empty());
            if own.len() < 4 || !faults {
                without.push(name);
            }
        }
    }
    assert!(without.is_empty(), "too few tests, or none with faults: {without:?}");
}

#[test]
fn their_tests_exercise_nearly_all_of_them() {
    let coverage = Bench::shipped().test(&FOLDERS).coverage();
    let missing: BTreeSet<String> = coverage
        .pipelines
        .iter()
        .flat_map(|(name, part)| part.missing().map(move |fact| format!("{name} {}: {}", fact.of, fact.what)))
        .collect();
    // The table has twenty columns, whatever is read.
    let known = BTreeSet::from(["momentum gains: no items".to_owned()]);
    assert_eq!(missing, known);
    for (name, part) in &coverage.connectors {
        assert!(part.exercised() * 3 >= part.facts.len(), "{name}: {:?}", part.missing().collect::<Vec<_>>());
    }
}

#[test]
fn cases_leave_no_file_in_the_project() {
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join(".pipewright/out");
    let before = out.exists();
    Bench::shipped().test(&["examples/undo.yaml", "examples/shop-etl.yaml"]).is_kept();
    assert_eq!(out.exists(), before);
}
