//! What a name means, where it is said, and where it is read: definitions, references.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;

use lsp_types::Location;

use super::context::Side;
use super::expression;
use super::position::Lines;
use super::position::uri_of;
use super::state::Project;
use super::view::PARTS;
use super::view::View;
use super::view::is_yaml;
use super::view::parsed;
use super::view::prompts_of;
use crate::format::Kind;
use crate::pipeline::plain;
use crate::template::Prompt;
use crate::yaml::Entry;
use crate::yaml::Tree;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Symbol {
    /// Of the pipeline in this file.
    Step(PathBuf, String),
    Input(PathBuf, String),
    Secret(String),
    Connection(String),
    Pipeline(String),
    /// A prompt's file.
    File(PathBuf),
    /// What `uses` names.
    Uses(String),
}

/// A place where a name stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Occurrence {
    pub(super) path: PathBuf,
    pub(super) range: Bytes,
    /// Whether it is where the name is given.
    pub(super) gives: bool,
}

/// Where it begins and ends, in bytes.
pub(super) type Bytes = (usize, usize);

/// Finds what the name under the cursor stands for, with where it is written.
pub(super) fn symbol(view: &View<'_>) -> Option<(Symbol, Range<usize>)> {
    let own = view.path()?.to_owned();
    let several = view.is_prompt() || view.place().expression.is_some();
    if several || view.kind != Kind::Other {
        let mentions = expression::mentions(view.text);
        let under = mentions.into_iter().find(|it| it.start <= view.offset && view.offset <= it.range.end);
        if let Some(mention) = under {
            let pipeline = if view.is_prompt() || view.kind == Kind::Tests { pipeline_of(view)? } else { own };
            let symbol = match mention.root {
                "steps" => Symbol::Step(pipeline, mention.name),
                "inputs" => Symbol::Input(pipeline, mention.name),
                _ => Symbol::Secret(mention.name),
            };
            return Some((symbol, mention.range));
        }
    }
    if view.is_prompt() {
        return None;
    }
    let place = view.place_of_word();
    let word = view.slice(&place.word).to_owned();
    if word.is_empty() || place.expression.is_some() {
        return None;
    }
    let mut keys = place.keys();
    if place.side == Side::Key {
        keys.push(&word);
    }
    let item = place.side == Side::Key && matches!(keys.as_slice(), [.., "*", _]);
    let found = match keys.as_slice() {
        [part, id] if view.kind == Kind::Pipeline && PARTS.contains(part) && place.side == Side::Key => {
            Symbol::Step(own, (*id).to_owned())
        }
        [part, _, "needs", "*"] if PARTS.contains(part) => Symbol::Step(own, word.clone()),
        [part, _, "needs", "*", _] if PARTS.contains(part) && item => Symbol::Step(own, word.clone()),
        ["inputs", name] if view.kind == Kind::Pipeline && place.side == Side::Key => {
            Symbol::Input(own, (*name).to_owned())
        }
        ["connections", name] if view.kind == Kind::Project && place.side == Side::Key => {
            Symbol::Connection((*name).to_owned())
        }
        ["defaults", "connection"] | [.., "with", "connection" | "database"] => Symbol::Connection(word.clone()),
        [.., "uses"] if place.side == Side::Value => Symbol::Uses(word.clone()),
        [.., "with", "pipeline"] | ["triggers", "*", "after"] | ["triggers", "*", "after", "pipeline"]
            if place.side == Side::Value =>
        {
            Symbol::Pipeline(word.clone())
        }
        ["name"] if view.kind == Kind::Pipeline && place.side == Side::Value => Symbol::Pipeline(word.clone()),
        [.., "given" | "then", "steps", id] if view.kind == Kind::Tests && place.side == Side::Key => {
            Symbol::Step(pipeline_of(view)?, (*id).to_owned())
        }
        ["pipeline"] if view.kind == Kind::Tests => Symbol::Pipeline(word.clone()),
        [part, _, .., "with", _] | [part, _, .., "with", _, _] if PARTS.contains(part) && place.side == Side::Value => {
            let path = plain(&own.parent()?.join(&word));
            let there = view.project.is_some_and(|project| project.files.get(&path).is_some()) || path.is_file();
            Symbol::File(there.then_some(path)?)
        }
        _ => return None,
    };
    Some((found, place.word))
}

/// Returns the pipeline to which a prompt or a test belongs.
fn pipeline_of(view: &View<'_>) -> Option<PathBuf> {
    let (own, project) = (view.path()?, view.project?);
    if view.kind == Kind::Tests {
        return tested_by(project, own, view.text);
    }
    let name = own.file_name()?.to_str()?;
    let users = project.pipelines().filter(|(_, text)| text.contains(name));
    let mut found =
        users.filter(|(path, text)| parsed(text).is_some_and(|tree| prompt_files(project, &tree, path).contains(own)));
    found.next().map(|(path, _)| path.to_owned())
}

/// Finds the pipeline that a test file tests: the one that it names, else the one beside it.
fn tested_by(project: &Project, test: &Path, text: &str) -> Option<PathBuf> {
    let named =
        text.lines().find_map(|line| line.strip_prefix("pipeline:")).map(|name| name.trim().trim_matches(['"', '\'']));
    let folder = test.parent()?;
    match named {
        Some(name) if name.ends_with(".yaml") || name.ends_with(".yml") => Some(plain(&folder.join(name))),
        Some(name) => file_of(project, name),
        None => {
            let stem = test.file_name()?.to_str()?.strip_suffix(".test.yaml")?;
            Some(folder.join(format!("{stem}.yaml")))
        }
    }
}

/// Finds the file of a pipeline by its name: that of the file, else the stated one.
pub(super) fn file_of(project: &Project, name: &str) -> Option<PathBuf> {
    let by_file = project.pipelines().find(|(path, _)| path.file_stem().is_some_and(|stem| stem == name));
    let stated = || {
        project.pipelines().find(|(_, text)| {
            text.lines().any(|line| {
                line.strip_prefix("name:").is_some_and(|rest| rest.trim().trim_matches(['"', '\'']) == name)
            })
        })
    };
    by_file.or_else(stated).map(|(path, _)| path.to_owned())
}

/// Lists the files of a pipeline's prompts, with those that they include.
pub(super) fn prompt_files(project: &Project, tree: &Tree, pipeline: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open: Vec<PathBuf> = prompts_of(tree, pipeline).into_iter().map(|(path, _)| path).collect();
    while let Some(path) = open.pop() {
        let Some(text) = project.text(&path).filter(|_| !is_yaml(&path)) else { continue };
        if found.insert(path.clone()) {
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            open.extend(Prompt::includes(text).into_iter().map(|name| plain(&folder.join(name))));
        }
    }
    found
}

/// Lists where a symbol is given and read.
pub(super) fn occurrences(project: &Project, symbol: &Symbol) -> Vec<Occurrence> {
    let mut found = Vec::new();
    match symbol {
        Symbol::Step(path, id) => within_pipeline(project, path, "steps", id, &mut found),
        Symbol::Input(path, name) => within_pipeline(project, path, "inputs", name, &mut found),
        Symbol::Secret(name) => {
            for (path, file) in project.files.iter() {
                let text = file.content.as_deref().ok().and_then(|bytes| std::str::from_utf8(bytes).ok());
                mentioned(path, text.unwrap_or_default(), "secrets", name, &mut found);
            }
        }
        Symbol::Connection(name) => {
            let settings = project.root.join("pipewright.yaml");
            let tree = project.text(&settings).and_then(parsed);
            let entry = tree.as_ref().and_then(|tree| tree.get("connections")?.entry(name));
            found.extend(entry.map(|entry| given(&settings, entry)));
            each(
                project,
                &mut |path, keys, tree| {
                    let names = matches!(keys, ["defaults", "connection"] | [.., "with", "connection" | "database"]);
                    (names && tree.as_text() == Some(name)).then(|| read(path, tree))
                },
                &mut found,
            );
        }
        Symbol::Pipeline(name) => {
            if let Some(path) = file_of(project, name) {
                let stated = project.text(&path).and_then(parsed).and_then(|tree| Some(span_of(tree.get("name")?)));
                found.push(Occurrence { path, range: stated.unwrap_or_default(), gives: true });
            }
            each(
                project,
                &mut |path, keys, tree| {
                    let names = matches!(
                        keys,
                        [.., "with", "pipeline"] | ["triggers", "*", "after"] | ["triggers", "*", "after", "pipeline"]
                    );
                    (names && tree.as_text() == Some(name)).then(|| read(path, tree))
                },
                &mut found,
            );
        }
        Symbol::File(file) => {
            found.push(Occurrence { path: file.clone(), range: (0, 0), gives: true });
            for (path, text) in project.pipelines() {
                let named = parsed(text).map(|tree| prompts_of(&tree, path)).unwrap_or_default();
                let here = named.into_iter().filter(|(prompt, _)| prompt == file);
                found.extend(here.map(|(_, range)| Occurrence {
                    path: path.to_owned(),
                    range: (range.start, range.end),
                    gives: false,
                }));
            }
        }
        Symbol::Uses(name) => {
            found.extend(operation(project, name));
            each(
                project,
                &mut |path, keys, tree| {
                    (matches!(keys, [.., "uses"]) && tree.as_text() == Some(name)).then(|| read(path, tree))
                },
                &mut found,
            );
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Finds the operation in a manifest of the project's own.
fn operation(project: &Project, name: &str) -> Option<Occurrence> {
    let (connector, operation) = name.split_once('.')?;
    let folder = project.root.join("connectors");
    let paths = ["yaml", "yml"].map(|ending| folder.join(format!("{connector}.{ending}")));
    let path = paths.into_iter().find(|path| project.files.get(path).is_some())?;
    let tree = project.text(&path).and_then(parsed)?;
    Some(given(&path, tree.get("operations")?.entry(operation)?))
}

fn given(path: &Path, entry: &Entry) -> Occurrence {
    let range = (entry.key_span.start.offset, entry.key_span.end.offset);
    Occurrence { path: path.to_owned(), range, gives: true }
}

fn read(path: &Path, tree: &Tree) -> Occurrence {
    Occurrence { path: path.to_owned(), range: span_of(tree), gives: false }
}

fn span_of(tree: &Tree) -> Bytes {
    (tree.span.start.offset, tree.span.end.offset)
}

/// Says of a text, with its file and the keys that lead to it, whether it is an occurrence.
type Looks<'l> = &'l mut dyn FnMut(&Path, &[&str], &Tree) -> Option<Occurrence>;

/// Looks at each text of all pipelines with the keys that lead to it.
fn each(project: &Project, look: Looks<'_>, found: &mut Vec<Occurrence>) {
    for (path, text) in project.pipelines() {
        if let Some(tree) = parsed(text) {
            walk(&tree, &mut Vec::new(), &mut |keys, tree| found.extend(look(path, keys, tree)));
        }
    }
}

/// Walks over all texts of a tree.
pub(super) fn walk<'t>(tree: &'t Tree, keys: &mut Vec<&'t str>, look: &mut dyn FnMut(&[&str], &'t Tree)) {
    for item in tree.items() {
        keys.push("*");
        walk(item, keys, look);
        keys.pop();
    }
    for entry in tree.entries() {
        keys.push(&entry.key);
        walk(&entry.value, keys, look);
        keys.pop();
    }
    if tree.as_text().is_some() {
        look(keys, tree);
    }
}

fn mentioned(path: &Path, text: &str, root: &str, name: &str, found: &mut Vec<Occurrence>) {
    if !text.contains(name) {
        return;
    }
    let here = expression::mentions(text).into_iter().filter(|mention| mention.root == root && mention.name == name);
    found.extend(here.map(|mention| Occurrence {
        path: path.to_owned(),
        range: (mention.range.start, mention.range.end),
        gives: false,
    }));
}

/// Finds a step or an input: in the pipeline, in its prompts, in the tests beside it.
fn within_pipeline(project: &Project, path: &Path, root: &str, name: &str, found: &mut Vec<Occurrence>) {
    let Some(text) = project.text(path) else { return };
    mentioned(path, text, root, name, found);
    let Some(tree) = parsed(text) else { return };
    let parts: &[&str] = if root == "steps" { &PARTS } else { &["inputs"] };
    let entries = parts.iter().filter_map(|part| tree.get(part)?.entry(name));
    found.extend(entries.map(|entry| given(path, entry)));
    if root == "steps" {
        walk(&tree, &mut Vec::new(), &mut |keys, tree| {
            if matches!(keys, [part, _, "needs", "*"] if PARTS.contains(part)) && tree.as_text() == Some(name) {
                found.push(unquoted(project, read(path, tree)));
            }
        });
    }
    for prompt in prompt_files(project, &tree, path) {
        mentioned(&prompt, project.text(&prompt).unwrap_or_default(), root, name, found);
    }
    for (test, text) in tests_of(project, path) {
        mentioned(&test, &text, root, name, found);
        if let Some(tree) = parsed(&text).filter(|_| root == "steps") {
            test_steps(&test, &text, &tree, &mut Vec::new(), name, found);
        }
    }
}

/// Of a name in quotes only the name counts.
fn unquoted(project: &Project, occurrence: Occurrence) -> Occurrence {
    let (start, end) = occurrence.range;
    let raw = project.text(&occurrence.path).and_then(|text| text.get(start..end)).unwrap_or_default();
    let quoted = raw.starts_with(['"', '\'']) && raw.len() > 1;
    if quoted { Occurrence { range: (start + 1, end - 1), ..occurrence } } else { occurrence }
}

/// Lists the test files of a pipeline, with their texts.
fn tests_of(project: &Project, pipeline: &Path) -> Vec<(PathBuf, String)> {
    let folder = pipeline.parent().unwrap_or(Path::new(""));
    let mut tests = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if !path.to_string_lossy().ends_with(".test.yaml") {
            continue;
        }
        let text = project.text(&path).map(str::to_owned).or_else(|| std::fs::read_to_string(&path).ok());
        let Some(text) = text else { continue };
        if tested_by(project, &path, &text).as_deref() == Some(pipeline) {
            tests.push((path, text));
        }
    }
    tests
}

/// Finds a step in a test: under `steps` of what is given and what must come, and where faults name it.
fn test_steps<'t>(
    path: &Path,
    text: &str,
    tree: &'t Tree,
    keys: &mut Vec<&'t str>,
    name: &str,
    found: &mut Vec<Occurrence>,
) {
    for item in tree.items() {
        keys.push("*");
        test_steps(path, text, item, keys, name, found);
        keys.pop();
    }
    for entry in tree.entries() {
        let steps = matches!(keys.as_slice(), [.., "given" | "then", "steps"]);
        if steps && &*entry.key == name {
            let range = (entry.key_span.start.offset, entry.key_span.end.offset);
            let quoted = text.get(range.0..range.1).is_some_and(|raw| raw.starts_with(['"', '\'']));
            let range = if quoted { (range.0 + 1, range.1 - 1) } else { range };
            found.push(Occurrence { path: path.to_owned(), range, gives: false });
        }
        keys.push(&entry.key);
        test_steps(path, text, &entry.value, keys, name, found);
        keys.pop();
    }
    let names = matches!(keys.as_slice(), [.., "faults", "*", "step"] | [.., "faults", "*", "crash", _]);
    let item = |text: &str| text.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('['));
    if let Some(whole) = tree.as_text().filter(|whole| names && item(whole)) {
        let start = tree.span.start.offset;
        let at = text.get(start..tree.span.end.offset).and_then(|raw| raw.find(whole)).unwrap_or_default();
        found.push(Occurrence { path: path.to_owned(), range: (start + at, start + at + name.len()), gives: false });
    }
}

/// Makes places for the editor.
pub(super) fn locations(view: &View<'_>, project: &Project, found: &[Occurrence]) -> Vec<Location> {
    let mut locations = Vec::new();
    for occurrence in found {
        let text = project.text(&occurrence.path).map(str::to_owned);
        let text = text.or_else(|| std::fs::read_to_string(&occurrence.path).ok()).unwrap_or_default();
        let lines = Lines::new(&text, view.state.encoding);
        let range = lines.range(&(occurrence.range.0..occurrence.range.1));
        locations.extend(uri_of(&occurrence.path).map(|uri| Location { uri, range }));
    }
    locations
}
