//! The outline of a file, and its one layout.

use std::ops::Range;

use lsp_types::DocumentSymbol;
use lsp_types::SymbolKind;
use lsp_types::TextEdit;
use similar::DiffOp;
use similar::TextDiff;

use super::position::Lines;
use super::view::PARTS;
use super::view::View;
use super::view::parsed;
use crate::format;
use crate::format::Kind;
use crate::yaml::Entry;
use crate::yaml::Tree;

/// Lists what a file is made of.
pub(super) fn outline(view: &View<'_>) -> Vec<DocumentSymbol> {
    // Places must be those of the text as it is: one that is no YAML has no outline until it is.
    let Some(tree) = parsed(view.text) else { return Vec::new() };
    let mut symbols = Vec::new();
    for entry in tree.entries() {
        let (kind, inner) = match (view.kind, &*entry.key) {
            (Kind::Pipeline, part) if PARTS.contains(&part) => (SymbolKind::NAMESPACE, Some(SymbolKind::FUNCTION)),
            (Kind::Connector, "operations") => (SymbolKind::NAMESPACE, Some(SymbolKind::METHOD)),
            (Kind::Pipeline, "inputs" | "outputs") => (SymbolKind::NAMESPACE, Some(SymbolKind::VARIABLE)),
            (Kind::Project, "connections") => (SymbolKind::NAMESPACE, Some(SymbolKind::INTERFACE)),
            _ => (SymbolKind::PROPERTY, None),
        };
        let mut children = Vec::new();
        if let Some(kind) = inner {
            for child in entry.value.entries() {
                let detail =
                    ["uses", "title", "type", "connector"].iter().find_map(|key| child.value.get(key)?.as_text());
                children.push(symbol(&view.lines, child, kind, detail.map(str::to_owned), Vec::new()));
            }
        }
        for (number, item) in entry.value.items().iter().enumerate() {
            children.extend(item_symbol(&view.lines, item, number));
        }
        let detail = entry.value.as_text().map(|text| text.lines().next().unwrap_or_default().to_owned());
        symbols.push(symbol(&view.lines, entry, kind, detail.filter(|detail| !detail.is_empty()), children));
    }
    symbols
}

/// Names an item of a list by its `name`, or its first key.
fn item_symbol(lines: &Lines<'_>, item: &Tree, number: usize) -> Option<DocumentSymbol> {
    let first = item.entries().first()?;
    let name =
        item.get("name").and_then(Tree::as_text).map_or_else(|| format!("{} {}", number + 1, first.key), str::to_owned);
    let detail = first.value.as_text().map(str::to_owned);
    let range = first.key_span.start.offset..item.span.end.offset.max(first.key_span.end.offset);
    Some(made(
        lines,
        name,
        SymbolKind::EVENT,
        detail,
        &range,
        &(first.key_span.start.offset..first.key_span.end.offset),
        Vec::new(),
    ))
}

fn symbol(
    lines: &Lines<'_>,
    entry: &Entry,
    kind: SymbolKind,
    detail: Option<String>,
    children: Vec<DocumentSymbol>,
) -> DocumentSymbol {
    let key = entry.key_span.start.offset..entry.key_span.end.offset;
    // An alias stands elsewhere than what it means; a block text may end before its key's line does.
    let whole = key.start..entry.value.span.end.offset.max(key.end);
    made(lines, entry.key.to_string(), kind, detail, &whole, &key, children)
}

fn made(
    lines: &Lines<'_>,
    name: String,
    kind: SymbolKind,
    detail: Option<String>,
    whole: &Range<usize>,
    selection: &Range<usize>,
    children: Vec<DocumentSymbol>,
) -> DocumentSymbol {
    #[expect(deprecated, reason = "the struct has no other way of being made")]
    DocumentSymbol {
        // An empty name is refused by editors.
        name: if name.is_empty() { "\"\"".to_owned() } else { name },
        detail,
        kind,
        tags: None,
        deprecated: None,
        range: lines.range(whole),
        selection_range: lines.range(selection),
        children: (!children.is_empty()).then_some(children),
    }
}

/// Makes the edits that bring a file into its layout; none where it has faults.
pub(super) fn formatted(view: &View<'_>) -> Option<Vec<TextEdit>> {
    let name = view.path().map(|path| path.display().to_string()).unwrap_or_default();
    if view.is_prompt() {
        return None;
    }
    let text = match format::format(&name.into(), view.text, view.kind) {
        Ok(text) => text,
        Err(format::Fault::Invalid(_)) => return None,
        Err(format::Fault::Changed(what)) => {
            tracing::error!(what, "a file is left as it is: formatted it would not mean the same");
            return None;
        }
    };
    Some(edits(view, &text))
}

/// Makes edits of whole lines, so that cursors elsewhere stay.
fn edits(view: &View<'_>, text: &str) -> Vec<TextEdit> {
    let before: Vec<&str> = view.text.split_inclusive('\n').collect();
    let after: Vec<&str> = text.split_inclusive('\n').collect();
    let mut starts = vec![0];
    for line in &before {
        starts.push(starts.last().copied().unwrap_or(0) + line.len());
    }
    let diff = TextDiff::from_slices(&before, &after);
    let mut edits = Vec::new();
    for op in diff.ops().iter().filter(|op| !matches!(op, DiffOp::Equal { .. })) {
        let (old, new) = (op.old_range(), op.new_range());
        let at = |line: usize| starts.get(line).copied().unwrap_or(view.text.len());
        let range = view.lines.range(&(at(old.start)..at(old.end)));
        edits.push(TextEdit { range, new_text: after.get(new).unwrap_or_default().concat() });
    }
    edits
}
