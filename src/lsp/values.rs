//! The names that can be offered: connections, secrets, pipelines, files of prompts.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use super::expression;
use super::state::Project;
use super::view::parsed;
use crate::yaml::Tree;

/// How deep files of prompts are looked for below a pipeline's folder, and how many are offered.
const MAX_DEPTH: usize = 3;
const MOST_FILES: usize = 500;

/// Lists the connections of a project, with the connector or the database of each.
pub(super) fn connections(project: &Project) -> Vec<(String, String)> {
    let Some(tree) = project.text(&project.root.join("pipewright.yaml")).and_then(parsed) else { return Vec::new() };
    let entries = tree.get("connections").map(Tree::entries).unwrap_or_default();
    let what = |tree: &Tree| tree.get("connector").and_then(Tree::as_text).unwrap_or("a database").to_owned();
    entries.iter().map(|entry| (entry.key.to_string(), what(&entry.value))).collect()
}

/// Lists the names of secrets: those that the project's places state, and those that its files read. Never a value.
pub(super) fn secrets(project: &Project) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (path, file) in project.files.iter() {
        let Some(text) = file.content.as_deref().ok().and_then(|bytes| std::str::from_utf8(bytes).ok()) else {
            continue;
        };
        if text.contains("secrets") {
            let read = expression::mentions(text).into_iter().filter(|mention| mention.root == "secrets");
            names.extend(read.map(|mention| mention.name));
        }
        // An env file is kept without its values.
        let is_env = path.file_name().is_some_and(|name| name.to_string_lossy().contains(".env"));
        if is_env {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            names.extend(lines.map(|(name, _)| name.trim().trim_start_matches("export ").to_owned()));
        }
    }
    names
}

/// Lists the pipelines by the names that others call them by, with what each says of itself.
pub(super) fn pipelines(project: &Project) -> BTreeMap<String, Option<String>> {
    let said = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim().trim_matches(['"', '\'']).to_owned())
    };
    let folder = project.root.join("pipelines");
    let own = project.pipelines().filter(|(path, _)| path.starts_with(&folder));
    own.filter_map(|(path, text)| {
        let stem = path.file_stem()?.to_str()?.to_owned();
        Some((said(text, "name:").unwrap_or(stem), said(text, "description:")))
    })
    .collect()
}

/// Lists the files that can be prompts, by their paths from a pipeline's folder.
pub(super) fn prompts(folder: &Path) -> Vec<String> {
    fn collect(folder: &Path, below: &str, depth: usize, found: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = entry.path();
            if name.starts_with('.') || found.len() >= MOST_FILES {
                continue;
            }
            if path.is_dir() && depth < MAX_DEPTH {
                collect(&path, &format!("{below}{name}/"), depth + 1, found);
            } else if ["j2", "md", "txt", "jinja"].iter().any(|ending| name.ends_with(&format!(".{ending}"))) {
                found.push(format!("{below}{name}"));
            }
        }
    }
    let mut found = Vec::new();
    collect(folder, "", 0, &mut found);
    found.sort();
    found
}
