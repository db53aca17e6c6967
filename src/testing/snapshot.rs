//! What cases gave when somebody looked at it: kept beside their file, and compared with what they give now.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::file::ENDING;
use super::matcher::same_whole;
use super::matcher::shown;
use crate::model::Map;
use crate::model::Value;
use crate::model::parse_json;
use crate::yaml;

/// What is done about snapshots that are missing or differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Missing ones are kept, others compared.
    New,
    /// All are kept as they are now.
    Update,
    /// Missing ones are a fault: where nobody looks at what is new.
    Strict,
}

/// The snapshots of one test file.
#[derive(Clone, Debug)]
pub struct Snapshots {
    path: PathBuf,
    mode: Mode,
    before: Value,
    /// What is kept from now on, by case and part.
    now: Map,
    /// How many are new, or others than before.
    pub written: usize,
}

impl Snapshots {
    /// Reads the snapshots beside a test file.
    #[must_use]
    pub fn of(tests: &Path, mode: Mode) -> Self {
        let name = tests.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.strip_suffix(ENDING).or_else(|| name.strip_suffix(".yaml")).unwrap_or(&name);
        let path = tests.with_file_name(format!("{stem}.test.snap.yaml"));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let (tree, _) = yaml::parse(&path.display().to_string().into(), &text);
        let before = tree.map(|tree| tree.to_value()).unwrap_or_default();
        Self { path, mode, now: before.as_map().cloned().unwrap_or_default(), before, written: 0 }
    }

    /// Compares a part of what a case gives with what is kept. `text` is the value as JSON, without secrets. Gives what
    /// differs, and where it is kept.
    pub(super) fn check(&mut self, case: &Arc<str>, part: &str, text: &Value, found: &Value) -> (Vec<String>, String) {
        let kept = crate::connector::library::shown(&self.path);
        // What is kept is what can be read again: money and moments are texts there, and secrets are masked.
        let found = text.as_str().and_then(|text| parse_json(text).ok()).unwrap_or_else(|| found.clone());
        let before = self.before.get(case).and_then(|parts| parts.get(part)).cloned();
        match (before, self.mode) {
            (Some(before), Mode::New | Mode::Strict) => {
                let mut differences = Vec::new();
                differ(part, Some(&before), Some(&found), &mut differences);
                return (differences, kept);
            }
            (None, Mode::Strict) => return (vec![format!("there is no snapshot of `{part}`")], kept),
            (Some(before), Mode::Update) if same_whole(&before, &found) => return (Vec::new(), kept),
            _ => {}
        }
        let mut parts = self.now.get(case).and_then(Value::as_map).cloned().unwrap_or_default();
        parts.insert(part.into(), found);
        self.now.insert(case.clone(), Value::from(parts));
        self.written += 1;
        (Vec::new(), kept)
    }

    /// Writes what is new.
    ///
    /// # Errors
    /// The file system's, with the path.
    pub fn save(&self) -> Result<(), String> {
        if self.written == 0 {
            return Ok(());
        }
        let mut text = String::from("# Kept by `pipewright test --update`: what cases gave. Look at what changes.\n");
        write(&Value::from(self.now.clone()), 0, &mut text);
        std::fs::write(&self.path, text).map_err(|error| format!("cannot write `{}`: {error}", self.path.display()))
    }
}

/// Tells where two values differ.
fn differ(path: &str, before: Option<&Value>, now: Option<&Value>, out: &mut Vec<String>) {
    match (before, now) {
        (Some(Value::Map(before)), Some(Value::Map(now))) => {
            let names = before.keys().chain(now.keys().filter(|name| !before.contains_key(*name)));
            for name in names {
                differ(&format!("{path}.{name}"), before.get(name), now.get(name), out);
            }
        }
        (Some(Value::List(before)), Some(Value::List(now))) if before.len() == now.len() => {
            for (index, (before, now)) in before.iter().zip(now.iter()).enumerate() {
                differ(&format!("{path}[{index}]"), Some(before), Some(now), out);
            }
        }
        (Some(before), Some(now)) if same_whole(before, now) => {}
        (Some(before), Some(now)) => {
            out.push(format!("`{path}` is {}, was {} in the snapshot", shown(now), shown(before)));
        }
        (None, Some(now)) => out.push(format!("`{path}` is {}, was not there in the snapshot", shown(now))),
        (Some(before), None) => out.push(format!("`{path}` is not there, was {} in the snapshot", shown(before))),
        (None, None) => {}
    }
}

/// Writes a value as YAML: blocks of what has parts, JSON of what has none.
fn write(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let plain = |name: &str| {
        let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let odd = ["true", "false", "null", "yes", "no", "on", "off"].contains(&&*name.to_lowercase());
        let number = name.starts_with(|letter: char| letter.is_ascii_digit());
        if !name.is_empty() && name.chars().all(word) && !odd && !number {
            name.to_owned()
        } else {
            Value::from(name).to_string()
        }
    };
    let has_parts = |value: &Value| match value {
        Value::Map(map) => !map.is_empty(),
        Value::List(items) => items.iter().any(|item| item.as_map().is_some() || item.as_list().is_some()),
        _ => false,
    };
    match value {
        Value::Map(map) => {
            for (name, inner) in map.iter() {
                out.push_str(&format!("{indent}{}:", plain(name)));
                if has_parts(inner) {
                    out.push('\n');
                    write(inner, depth + 1, out);
                } else {
                    out.push_str(&format!(" {inner}\n"));
                }
            }
        }
        Value::List(items) => {
            for item in items.iter() {
                out.push_str(&format!("{indent}- {item}\n"));
            }
        }
        other => out.push_str(&format!("{indent}{other}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_kept_compared_and_updated() {
        let folder = tempfile::tempdir().unwrap();
        let tests = folder.path().join("x.test.yaml");
        let value = |text: &str| parse_json(text).unwrap();
        let run = |mode: Mode, found: &Value| {
            let mut snapshots = Snapshots::of(&tests, mode);
            let (told, _) = snapshots.check(&"a case: one".into(), "outputs", &Value::from(found.to_string()), found);
            snapshots.save().unwrap();
            told
        };
        let first = value(r#"{"a": [{"b": "1.10 EUR"}, {"b": 2}], "yes": "no", "empty": {}}"#);
        assert_eq!(run(Mode::Strict, &first), ["there is no snapshot of `outputs`"]);
        assert_eq!(run(Mode::New, &first), Vec::<String>::new());
        assert_eq!(run(Mode::Strict, &first), Vec::<String>::new());
        let second = value(r#"{"a": [{"b": "1.10 EUR"}, {"b": 3}], "yes": "no", "empty": {}}"#);
        assert_eq!(run(Mode::New, &second), ["`outputs.a[1].b` is 3, was 2 in the snapshot"]);
        assert_eq!(run(Mode::Update, &second), Vec::<String>::new());
        assert_eq!(run(Mode::Strict, &second), Vec::<String>::new());
        let text = std::fs::read_to_string(folder.path().join("x.test.snap.yaml")).unwrap();
        assert!(text.contains("\"a case: one\":\n  outputs:\n"), "{text}");
    }
}
