//! The checker on files: those in `tests/ok` give no diagnostic, those in `tests/err` exactly the text that stands
//! beside them; the same for the manifests of connectors in `tests/manifests`. A folder is a project. `UPDATE=1` rewrites the texts; read them as a user would.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use pipewright::diag;
use pipewright::diag::Code;
use pipewright::diag::Format;
use pipewright::nodes::registry;
use pipewright::pipeline::Catalog;
use pipewright::pipeline::Checked;

/// Lists the cases of a folder: files and projects.
fn cases(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new("tests").join(folder)).unwrap();
    let manifests = fs::read_dir(Path::new("tests/manifests").join(folder)).unwrap();
    let mut cases: Vec<PathBuf> = entries.chain(manifests).map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "yaml"));
    cases.sort();
    assert!(!cases.is_empty(), "no cases in {folder}");
    cases
}

fn check(case: &Path) -> Checked {
    if let Some(checked) = check_manifest(case) {
        return checked;
    }
    if case.is_dir() {
        return Catalog::open(case, pipewright::app::registry(case)).check(&[]);
    }
    let catalog = Catalog::open(case.parent().unwrap(), registry());
    let without = case.file_stem().is_some_and(|name| name == "no-master-key");
    let catalog = if without { catalog.without_master_key() } else { catalog };
    catalog.check(&[case.to_owned()])
}

/// Checks a case that is a connector's manifest.
fn check_manifest(case: &Path) -> Option<Checked> {
    let text: Arc<str> = fs::read_to_string(case).ok().filter(|text| text.starts_with("connector:"))?.into();
    let file: Arc<str> = case.display().to_string().into();
    let (_, diagnostics) = pipewright::connector::manifest::read(&file, &text);
    let mut sources = diag::Sources::default();
    sources.insert(file, text);
    Some(Checked { diagnostics, sources, files: 1 })
}

fn text(checked: &Checked) -> String {
    let mut text = String::new();
    diag::render(&checked.diagnostics, &checked.sources, Format::Text, false, &mut text).unwrap();
    text
}

#[test]
fn good_files_give_no_diagnostic() {
    let found: String = cases("ok").iter().map(|case| text(&check(case))).collect();
    assert!(found.is_empty(), "\n{found}");
}

#[test]
fn broken_files_give_exactly_the_text_beside_them() {
    let update = std::env::vars().any(|(name, _)| name == "UPDATE");
    let mut wrong = Vec::new();
    for case in cases("err") {
        let found = text(&check(&case));
        if found.is_empty() {
            wrong.push(format!("{} gives no diagnostic", case.display()));
        }
        let beside = case.with_extension("txt");
        if update {
            fs::write(&beside, &found).unwrap();
        } else if fs::read_to_string(&beside).unwrap_or_default() != found {
            wrong.push(format!("{}:\n{found}", beside.display()));
        }
    }
    assert!(wrong.is_empty(), "run again with UPDATE=1 and read what changes:\n\n{}", wrong.join("\n"));
}

#[test]
fn there_are_cases_enough_and_no_text_without_one() {
    assert!(cases("err").len() >= 80, "{} cases", cases("err").len());
    assert!(cases("ok").len() >= 15, "{} cases", cases("ok").len());
    for entry in fs::read_dir("tests/err").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let case = path.with_extension("");
            assert!(case.is_dir() || path.with_extension("yaml").is_file(), "{} has no case", path.display());
        }
    }
}

#[test]
fn every_code_has_a_case_and_an_explanation() {
    let found: BTreeSet<Code> =
        cases("err").iter().flat_map(|case| check(case).diagnostics).map(|diagnostic| diagnostic.code).collect();
    for code in Code::ALL {
        let explanation = code.explanation();
        assert!(explanation.len() > 60 && explanation.contains("```"), "`{}` has no real explanation", code.as_str());
        // Needs a file of a megabyte, or one that cannot be read: tested where they are made.
        // What running tests tells is tested with them.
        if [Code::Unreadable, Code::TestFailed].contains(code) {
            continue;
        }
        assert!(found.contains(code), "no case in tests/err gives `{}`", code.as_str());
    }
}

#[test]
fn a_version_covers_prompts_and_what_they_include_and_is_complete_without_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("pipelines/a.yaml", "steps:\n  write: { uses: template.render, with: { file: p/letter.j2 } }\n");
    put("pipelines/p/letter.j2", "Dear {% include 'sign.j2' %}");
    put("pipelines/p/sign.j2", "you");
    let load = || {
        let loaded = Catalog::open(folder.path(), registry()).load("a").unwrap();
        loaded.pipeline.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
    };
    let first = load();
    assert_eq!(load().version, first.version);
    put("pipelines/p/sign.j2", "all of you");
    let second = load();
    assert_ne!(second.version, first.version);
    // A run that began with the first text goes on with it, whatever became of the files.
    fs::remove_dir_all(folder.path()).unwrap();
    let again = pipewright::pipeline::compile_definition(&first.definition, &registry()).unwrap();
    assert_eq!(again.version, first.version);
    assert_ne!(again.version, second.version);
}

#[test]
fn a_child_that_many_use_is_stored_and_compiled_once() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(format!("{name}.yaml")), text).unwrap();
    // Two pipelines a level, each using both of the next: 2^40 ways lead from the first to the last.
    let calls = |level: usize| {
        let call = |side: &str| format!("  {side}: {{ uses: pipeline.run, with: {{ pipeline: {side}{level} }} }}\n");
        format!("steps:\n{}{}", call("a"), call("b"))
    };
    for level in 0..40 {
        put(&format!("a{level}"), &calls(level + 1));
        put(&format!("b{level}"), &calls(level + 1));
    }
    put("a40", "steps:\n  end: { uses: log.write, with: { message: end } }\n");
    put("b40", "steps:\n  end: { uses: log.write, with: { message: end } }\n");
    let loaded = Catalog::open(folder.path(), registry()).load("a0").unwrap();
    let first = loaded.pipeline.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    assert!(first.definition.len() < 100_000, "{} bytes", first.definition.len());
    let again = pipewright::pipeline::compile_definition(&first.definition, &registry()).unwrap();
    assert_eq!(again.version, first.version);
    assert_eq!(again.definition, first.definition);
    // Without a bound, a long way down would overflow the stack.
    for level in 40..1_000 {
        put(&format!("a{level}"), &calls(level + 1));
        put(&format!("b{level}"), &calls(level + 1));
    }
    let loaded = Catalog::open(folder.path(), registry()).load("a0").unwrap();
    let deep = "pipelines call one another more than 64 deep";
    assert!(loaded.diagnostics.iter().any(|diagnostic| diagnostic.message == deep), "{:?}", loaded.diagnostics);
}

#[test]
fn a_written_false_is_no_text() {
    let text = "steps:\n  a: { when: false, uses: log.write, with: { message: hi } }\n";
    let (pipeline, _) = pipewright::pipeline::compile_text("x.yaml", text, &registry());
    let pipeline = pipeline.unwrap();
    let when = pipeline.main.step("a").and_then(|step| step.when.as_ref()).unwrap();
    assert_eq!((when.literal(), when.source()), (None, "{{ false }}"));
}

#[test]
fn types_are_inferred_in_bounded_time_and_depth() {
    let nested = (0..25).fold("1".to_owned(), |inner, _| format!("(0 < ({inner}) < 3)"));
    let mut text = format!("steps:\n  nested: {{ uses: log.write, with: {{ message: \"{{{{ {nested} }}}}\" }} }}\n");
    // The last step stands first, so that its type is asked for before any other is known.
    for step in (1..2_000).rev() {
        let before = step - 1;
        text.push_str(&format!(
            "  s{step}: {{ for_each: \"{{{{ steps.s{before}.output }}}}\", uses: data.filter, with: {{ items: \"{{{{ steps.s{before}.output }}}}\", where: \"{{{{ item }}}}\" }} }}\n"
        ));
    }
    text.push_str("  s0: { uses: json.parse, with: { text: \"[]\" } }\n");
    let (_, diagnostics) = pipewright::pipeline::compile_text("x.yaml", &text, &registry());
    let codes: BTreeSet<Code> = diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
    assert!(codes.is_subset(&BTreeSet::from([Code::WrongOperation])), "{codes:?} {:?}", diagnostics.first());
}

#[test]
fn a_file_of_another_project_is_not_measured_by_this_one() {
    // Each folder by itself: names of pipelines are unique within one project only.
    for folder in ["tests/ok", "pipelines", "examples"] {
        let found = text(
            &Catalog::open(Path::new("."), pipewright::app::registry(Path::new("."))).check(&[PathBuf::from(folder)]),
        );
        assert!(found.is_empty(), "{folder}:\n{found}");
    }
}
