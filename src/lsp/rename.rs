//! Another name for a step, everywhere it is read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lsp_types::DocumentChanges;
use lsp_types::OneOf;
use lsp_types::OptionalVersionedTextDocumentIdentifier;
use lsp_types::PrepareRenameResponse;
use lsp_types::TextDocumentEdit;
use lsp_types::TextEdit;
use lsp_types::WorkspaceEdit;

use super::names;
use super::names::Symbol;
use super::position::Lines;
use super::position::uri_of;
use super::view::PARTS;
use super::view::View;
use super::view::parsed;

/// Says what would be renamed; nothing where it is no step.
pub(super) fn prepare(view: &View<'_>) -> Option<PrepareRenameResponse> {
    let (symbol, range) = names::symbol(view)?;
    let Symbol::Step(_, id) = symbol else { return None };
    Some(PrepareRenameResponse::RangeWithPlaceholder { range: view.lines.range(&range), placeholder: id })
}

/// Makes the edits that give a step another name.
///
/// # Errors
/// Why it cannot have it.
pub(super) fn rename(view: &View<'_>, name: &str) -> Result<WorkspaceEdit, String> {
    let (Some((Symbol::Step(path, id), _)), Some(project)) = (names::symbol(view), view.project) else {
        return Err("only steps can be renamed".to_owned());
    };
    let first = name.chars().next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    if !first || !name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
        return Err(format!("`{name}` cannot name a step: use letters, digits and `_`, a letter first"));
    }
    // In a text that is no YAML not every place can be found.
    let Some(tree) = project.text(&path).and_then(parsed) else {
        return Err(format!("`{id}` cannot be renamed while {} has faults of syntax", path.display()));
    };
    let steps = |name: &str| PARTS.iter().any(|part| tree.get(part).is_some_and(|part| part.get(name).is_some()));
    if name == id {
        return Ok(WorkspaceEdit::default());
    }
    if steps(name) {
        return Err(format!("a step `{name}` exists already"));
    }
    if !steps(&id) {
        return Err(format!("there is no step `{id}`"));
    }
    let mut edits: BTreeMap<PathBuf, Vec<(usize, usize)>> = BTreeMap::new();
    for occurrence in names::occurrences(project, &Symbol::Step(path, id)) {
        edits.entry(occurrence.path).or_default().push(occurrence.range);
    }
    let mut changes = Vec::new();
    for (path, mut ranges) in edits {
        ranges.sort_unstable();
        ranges.dedup();
        let text = project.text(&path).map(str::to_owned).or_else(|| std::fs::read_to_string(&path).ok());
        let Some((text, uri)) = text.zip(uri_of(&path)) else { continue };
        let lines = Lines::new(&text, view.state.encoding);
        let version = view.state.document_of(&path).map(|document| document.version);
        let edit = |(start, end)| TextEdit { range: lines.range(&(start..end)), new_text: name.to_owned() };
        changes.push(TextDocumentEdit {
            text_document: OptionalVersionedTextDocumentIdentifier { uri, version },
            edits: ranges.into_iter().map(edit).map(OneOf::Left).collect(),
        });
    }
    Ok(WorkspaceEdit { document_changes: Some(DocumentChanges::Edits(changes)), ..WorkspaceEdit::default() })
}
