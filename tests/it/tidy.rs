//! Holds the house rules that no lint knows: layers, lengths, lists, names.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Lowest first. A module may use modules of lower rows only, never of its own row.
const LAYERS: &[&[&str]] = &[
    &["model", "diag"],
    &["system", "yaml", "telemetry", "text"],
    &["template", "http", "schedule", "format"],
    &["node"],
    &["store", "pipeline"],
    &["secrets", "approval", "difference"],
    &["ai", "connector", "content", "memory", "portfolio", "why"],
    &["nodes", "engine"],
    &["daemon", "sandbox", "replay"],
    &["testing"],
    &["app"],
    &["lsp"],
    &["cli"],
];

/// Crates that one room keeps to itself.
const KEPT: &[(&str, &str)] =
    &[("sqlx", "store"), ("reqwest", "http"), ("minijinja", "template"), ("clap", "cli"), ("notify", "daemon")];

/// The crates that the product is built on; each carries weight in `src`.
const FOUNDATIONS: &[&str] = &[
    "tokio",
    "serde",
    "serde_yaml",
    "petgraph",
    "sqlx",
    "reqwest",
    "minijinja",
    "clap",
    "tracing",
    "notify",
    "cron",
    "rust_decimal",
];

/// Names that say nothing, and so collect everything.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc", "types", "stuff"];

const LONGEST_FILE: usize = 600;

/// A Rust file of the product.
struct Source {
    path: PathBuf,
    /// The top module that it belongs to.
    module: String,
    /// The lines before the tests that stand in the file.
    lines: Vec<String>,
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let root = folders[0].clone();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(&root).unwrap().to_owned();
                let first = below.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
                let text = fs::read_to_string(&path).unwrap();
                let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").map(str::to_owned).collect();
                found.push(Source { path: below, module: first.trim_end_matches(".rs").to_owned(), lines });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// Runs a check over every line of the product's code and shows all that it finds.
fn check_lines(mut problem: impl FnMut(&Source, &str) -> Option<String>) {
    let mut problems = Vec::new();
    for source in sources() {
        for (number, line) in source.lines.iter().enumerate() {
            if let Some(problem) = problem(&source, line) {
                problems.push(format!("src/{}:{}: {problem}", source.path.display(), number + 1));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

fn identifier(text: &str) -> &str {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap()
}

/// Tells whether a line of code names the crate in a path.
fn names_crate(line: &str, name: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = code.get(..at).unwrap().chars().next_back();
        before.is_none_or(|letter| !letter.is_alphanumeric() && letter != '_' && letter != ':')
    })
}

#[test]
fn every_module_has_its_layer() {
    for source in sources() {
        let known = layer_of(&source.module).is_some() || ["lib", "main"].contains(&source.module.as_str());
        assert!(known, "src/{}: give `{}` a row in LAYERS", source.path.display(), source.module);
    }
}

#[test]
fn modules_look_down_only() {
    check_lines(|source, line| {
        let own = layer_of(&source.module)?;
        line.split("crate::").skip(1).map(identifier).find_map(|used| {
            let allowed = used == source.module || layer_of(used).is_none_or(|layer| layer < own);
            (!allowed).then(|| format!("`{}` must not use `{used}`", source.module))
        })
    });
}

#[test]
fn imports_name_one_path_each() {
    check_lines(|_, line| {
        let line = line.trim_start();
        let import = line.starts_with("use ") || line.starts_with("pub use ");
        (import && line.contains('{')).then(|| "one path for each `use`".to_owned())
    });
}

#[test]
fn some_crates_are_known_to_one_room_only() {
    check_lines(|source, line| {
        let (name, room) = KEPT.iter().find(|(name, room)| source.module != *room && names_crate(line, name))?;
        Some(format!("only `{room}` knows {name}"))
    });
}

#[test]
fn the_engine_names_no_node() {
    let nodes = pipewright::nodes::registry();
    let names: Vec<String> = nodes.names().map(|name| format!("\"{name}\"")).collect();
    check_lines(|source, line| {
        let named = names.iter().find(|name| source.module == "engine" && line.contains(name.as_str()))?;
        Some(format!("the engine must not know {named}"))
    });
}

#[test]
fn files_are_short() {
    for source in sources() {
        let (path, length) = (source.path.display(), source.lines.len());
        // Modules of tests stand in files of their own where they are long.
        let tests = source.path.to_string_lossy().ends_with("tests.rs");
        assert!(tests || length <= LONGEST_FILE, "src/{path}: {length} lines, more than {LONGEST_FILE}");
    }
}

#[test]
fn every_file_of_the_nodes_is_in_the_list() {
    let sources = sources();
    let list = sources.iter().find(|source| source.path == Path::new("nodes/mod.rs")).unwrap();
    let list = list.lines.join("\n");
    for source in sources.iter().filter(|source| source.module == "nodes") {
        let name = source.path.file_stem().unwrap().to_string_lossy().into_owned();
        let listed = list.contains(&format!("{name}::")) || list.contains(&format!("mod {name};"));
        assert!(listed || name == "mod", "src/{}: not in the list of src/nodes/mod.rs", source.path.display());
    }
}

#[test]
fn no_name_is_empty() {
    for source in sources() {
        for part in source.path.iter() {
            let part = part.to_string_lossy();
            let name = part.trim_end_matches(".rs");
            assert!(!EMPTY_NAMES.contains(&name), "src/{}: `{name}` says nothing", source.path.display());
        }
    }
}

#[test]
fn every_foundation_carries_weight() {
    let sources = sources();
    for name in FOUNDATIONS {
        let lines = sources.iter().flat_map(|source| &source.lines);
        assert!(lines.into_iter().any(|line| names_crate(line, name)), "nothing in src uses {name}");
    }
}

#[test]
fn nothing_is_left_to_do() {
    check_lines(|_, line| {
        let left = ["todo!(", "unimplemented!(", "FIXME", "XXX"].into_iter().find(|mark| line.contains(mark))?;
        Some(format!("`{left}` is left"))
    });
}
