//! Whether two texts mean the same: values with how they are written, keys, the order where it means something, comments.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Kind;
use super::order;
use crate::yaml;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// Says what differs.
pub(super) fn same(file: &Arc<str>, source: &str, tree: &Tree, formatted: &str, kind: Kind) -> Result<(), String> {
    let (other, diagnostics) = yaml::parse(file, formatted);
    if let Some(diagnostic) = diagnostics.first() {
        return Err(format!("line {} of it is no longer YAML: {}", diagnostic.span.start.line, diagnostic.message));
    }
    let other = other.ok_or("it is empty")?;
    equal(tree, &other, kind, &mut Vec::new())?;
    let (before, after) = (letters(source), letters(formatted));
    let mut all = before.keys().chain(after.keys());
    match all.find(|letter| before.get(*letter) != after.get(*letter)) {
        Some(letter) => Err(format!("it has another number of `{letter}`")),
        None => Ok(()),
    }
}

/// Counts what is written; only spaces and how deep a block text stands may differ.
fn letters(text: &str) -> BTreeMap<char, usize> {
    let mut counts = BTreeMap::new();
    for letter in text.chars().filter(|letter| !letter.is_whitespace() && !letter.is_ascii_digit()) {
        *counts.entry(letter).or_insert(0) += 1;
    }
    counts
}

fn equal<'t>(one: &'t Tree, other: &Tree, kind: Kind, path: &mut Vec<&'t str>) -> Result<(), String> {
    let differs = |path: &[&str]| format!("`{}` of line {} is another", path.join("."), one.span.start.line);
    match (&one.kind, &other.kind) {
        (TreeKind::Scalar { text, style }, TreeKind::Scalar { text: other, style: written }) => {
            if text == other && style == written { Ok(()) } else { Err(differs(path)) }
        }
        (TreeKind::Sequence(items), TreeKind::Sequence(others)) if items.len() == others.len() => {
            for (item, other) in items.iter().zip(others) {
                path.push(order::ITEM);
                equal(item, other, kind, path)?;
                path.pop();
            }
            Ok(())
        }
        (TreeKind::Mapping(entries), TreeKind::Mapping(others)) if entries.len() == others.len() => {
            let any_order = order::order(kind, path).is_some();
            for (entry, beside) in entries.iter().zip(others) {
                let found = if any_order { other.entry(&entry.key) } else { Some(beside) };
                let found = found.filter(|found| found.key == entry.key).ok_or_else(|| differs(path))?;
                path.push(&entry.key);
                equal(&entry.value, &found.value, kind, path)?;
                path.pop();
            }
            Ok(())
        }
        _ => Err(differs(path)),
    }
}
