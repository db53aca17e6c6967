//! Finding test files, and reading them.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::case;
use super::case::Suite;
use crate::connector::notes::Notes;
use crate::connector::notes::first_line;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Position;
use crate::diag::Sources;
use crate::diag::Span;
use crate::pipeline::MAX_FOLDERS;
use crate::pipeline::is_pipeline;
use crate::yaml;

/// How the name of a test file ends.
pub const ENDING: &str = ".test.yaml";

/// Test files that were read.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub suites: Vec<Suite>,
    pub diagnostics: Vec<Diagnostic>,
    pub sources: Sources,
    /// How many files hold cases.
    pub files: usize,
}

/// Tells by its name whether a file holds tests of a pipeline.
#[must_use]
pub fn is_tests(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(ENDING))
}

/// Reads the tests below some paths: test files, those beside a pipeline that is named, and those that stand in pipelines.
#[must_use]
pub fn read(paths: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for file in files(paths) {
        read_one(&file, &mut found);
    }
    found
}

/// Lists the files below some paths in which tests may stand.
#[must_use]
pub fn files(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files, 0);
        let beside = beside(path);
        if path.is_file() && !is_tests(path) && beside.is_file() {
            files.push(beside);
        }
    }
    files.dedup();
    files
}

/// Returns where the tests of a pipeline stand.
#[must_use]
pub fn beside(pipeline: &Path) -> PathBuf {
    let stem = pipeline.file_stem().unwrap_or_default().to_string_lossy();
    pipeline.with_file_name(format!("{stem}{ENDING}"))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>, depth: usize) {
    if path.is_file() {
        files.push(path.to_owned());
        return;
    }
    let Ok(entries) = std::fs::read_dir(path) else { return };
    let mut entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if entry.is_dir() && !hidden && depth < MAX_FOLDERS {
            collect(&entry, files, depth + 1);
        } else if entry.is_file() && (is_tests(&entry) || is_pipeline(&entry)) {
            files.push(entry);
        }
    }
}

fn read_one(path: &Path, found: &mut Found) {
    let file: Arc<str> = shown(path).into();
    let own = is_tests(path);
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        // A pipeline that cannot be read is told of by whoever runs it.
        Err(_) if !own => return,
        Err(error) => {
            let start = Position { line: 1, column: 1, offset: 0 };
            let span = Span { file, start, end: start };
            let told = Diagnostic::error(Code::Unreadable, span, format!("the file cannot be read: {error}"));
            found.diagnostics.push(told);
            return;
        }
    };
    if !own && !text.lines().any(|line| line.starts_with("tests:")) {
        return;
    }
    let source: Arc<str> = text.into();
    let (tree, diagnostics) = yaml::parse(&file, &source);
    found.files += 1;
    found.sources.insert(file.clone(), source.clone());
    if !own && !diagnostics.is_empty() {
        return;
    }
    found.diagnostics.extend(diagnostics);
    let Some(tree) = tree else { return };
    let mut notes = Notes::new(source.clone());
    if own && !notes.keys(&tree, crate::format::TESTS) {
        found.diagnostics.extend(notes.diagnostics);
        return;
    }
    let start = Span { end: tree.span.start, ..tree.span.clone() };
    let pipeline = match tree.get("pipeline").filter(|_| own) {
        Some(named) => notes.text(named).map(|name| (target(path, name), named.span.clone())),
        None if own => Some((tested_by(path).display().to_string(), start)),
        None => Some((path.display().to_string(), start)),
    };
    let list = tree.get("tests");
    if list.is_none() {
        notes.error(Code::MissingKey, &first_line(&tree.span), "key `tests` is missing").help =
            Some("add `tests:` with a list of cases".to_owned());
    }
    let shared = tree.get("given").filter(|_| own);
    let cases = list.map(|list| case::read_all(list, shared, &mut notes)).unwrap_or_default();
    found.diagnostics.extend(notes.diagnostics);
    if let Some(pipeline) = pipeline {
        found.suites.push(Suite { file, path: path.to_owned(), source, pipeline, cases });
    }
}

/// Returns the pipeline that a test file without `pipeline` is of.
fn tested_by(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(ENDING).unwrap_or(&name);
    let yml = path.with_file_name(format!("{stem}.yml"));
    if yml.is_file() { yml } else { path.with_file_name(format!("{stem}.yaml")) }
}

/// Returns the pipeline that is named: a file counts from the test file, and one beside it wins over one of the project.
fn target(path: &Path, name: &str) -> String {
    let folder = path.parent().unwrap_or(Path::new(""));
    let is_file = name.contains('/') || name.ends_with(".yaml") || name.ends_with(".yml");
    let beside = folder.join(if is_file { name.to_owned() } else { format!("{name}.yaml") });
    if is_file || beside.is_file() { beside.display().to_string() } else { name.to_owned() }
}

/// Returns a path as the user would write it.
fn shown(path: &Path) -> String {
    let text = crate::connector::library::shown(path);
    text.strip_prefix("./").unwrap_or(&text).to_owned()
}
