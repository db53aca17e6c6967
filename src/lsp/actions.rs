//! The mends of diagnostics as edits.
//!
//! A diagnostic says its mend in words of a few fixed forms, as people read them: what is meant, what to add, what to write
//! instead, what to take away. Here each of these forms is an edit; what says more than that has none.

use std::ops::Range;

use lsp_types::CodeAction;
use lsp_types::CodeActionKind;
use lsp_types::CodeActionOrCommand;
use lsp_types::Diagnostic;
use lsp_types::DocumentChanges;
use lsp_types::NumberOrString;
use lsp_types::OneOf;
use lsp_types::OptionalVersionedTextDocumentIdentifier;
use lsp_types::TextDocumentEdit;
use lsp_types::TextEdit;
use lsp_types::WorkspaceEdit;

use super::view::View;
use super::view::parsed;
use crate::diag::Code;
use crate::yaml::Entry;
use crate::yaml::Tree;

/// What stands before the mend in a diagnostic's message.
pub(super) const HELP: &str = "\nhelp: ";

/// A mend as an edit of the file.
#[derive(Debug, PartialEq, Eq)]
struct Mend {
    title: String,
    range: Range<usize>,
    text: String,
}

/// Makes the actions for the diagnostics that an editor shows at a place.
pub(super) fn actions(view: &View<'_>, diagnostics: &[Diagnostic]) -> Vec<CodeActionOrCommand> {
    let mut actions = Vec::new();
    for diagnostic in diagnostics.iter().filter(|it| it.source.as_deref() == Some("pipewright")) {
        let Some((message, help)) = diagnostic.message.split_once(HELP) else { continue };
        let start = view.lines.offset(diagnostic.range.start);
        let range = start..view.lines.offset(diagnostic.range.end).max(start);
        let code = match &diagnostic.code {
            Some(NumberOrString::String(code)) => Code::ALL.iter().find(|known| known.as_str() == code).copied(),
            _ => None,
        };
        let Some(mend) = mend(view.text, code, message, help, range) else { continue };
        let edit = TextEdit { range: view.lines.range(&mend.range), new_text: mend.text };
        let changed = TextDocumentEdit {
            text_document: OptionalVersionedTextDocumentIdentifier {
                uri: view.document.uri.clone(),
                version: Some(view.document.version),
            },
            edits: vec![OneOf::Left(edit)],
        };
        actions.push(CodeActionOrCommand::CodeAction(CodeAction {
            title: mend.title,
            kind: Some(CodeActionKind::QUICKFIX),
            diagnostics: Some(vec![diagnostic.clone()]),
            edit: Some(WorkspaceEdit {
                document_changes: Some(DocumentChanges::Edits(vec![changed])),
                ..WorkspaceEdit::default()
            }),
            is_preferred: Some(true),
            ..CodeAction::default()
        }));
    }
    actions
}

fn mend(text: &str, code: Option<Code>, message: &str, help: &str, range: Range<usize>) -> Option<Mend> {
    let help = help.lines().next().unwrap_or_default();
    let quoted = |text: &str| -> Option<String> { Some(text.split('`').nth(1)?.to_owned()) };
    if help.starts_with("did you mean `") {
        let right = quoted(help)?;
        // Of the names in the sentence the wrong one is what is underlined.
        let mut names = message.split('`').skip(1).step_by(2);
        let (wrong, range) = names.find_map(|name| Some((name, place_of(text, &range, name)?)))?;
        return Some(Mend { title: format!("Change `{wrong}` to `{right}`"), range, text: right });
    }
    if code == Some(Code::MaybeAbsent) && help.starts_with("say what it is then") {
        let read = text.get(range.clone())?;
        let text = format!("({read} | default(none))");
        return Some(Mend { title: "Say that it is null then".to_owned(), range, text });
    }
    if help.starts_with("take it away") || help.starts_with("take `") {
        let tree = parsed(text)?;
        let entry = entry_at(&tree, range.start)?;
        let range = whole_entry(text, entry);
        return Some(Mend { title: format!("Take `{}` away", entry.key), range, text: String::new() });
    }
    if let Some(written) = help.strip_prefix("write `").and_then(|_| quoted(help))
        && let Some((key, value)) = written.split_once(": ")
    {
        let before = text.get(..range.start)?.trim_end();
        let fits = before.ends_with(&format!("{key}:")) && !value.contains('…') && !range.is_empty();
        return fits.then(|| Mend { title: format!("Write `{written}`"), range, text: value.to_owned() });
    }
    if code == Some(Code::MissingKey)
        && let Some(key) = help.strip_prefix("add `").and_then(|_| quoted(help)).filter(|key| key.ends_with(':'))
    {
        // It goes before the first key of the mapping: that which is underlined, or `with` of the node that is.
        let tree = parsed(text)?;
        let at = match entry_at(&tree, range.start).filter(|entry| entry.key_span.start.offset == range.start) {
            Some(entry) => entry.key_span.start.offset,
            None => first_of_with(&tree, range.start)?,
        };
        let start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
        let before = text.get(start..at)?;
        let depth = before.chars().count();
        let flow = before.contains('{');
        let added = if flow { format!("{key} , ") } else { format!("{key} \n{:depth$}", "") };
        return Some(Mend { title: format!("Add `{key}`"), range: at..at, text: added });
    }
    None
}

/// Finds a wrong name within what is underlined.
fn place_of(text: &str, range: &Range<usize>, wrong: &str) -> Option<Range<usize>> {
    let shown = text.get(range.clone())?;
    let part = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    let whole = |at: &usize| {
        let (before, after) = (shown.get(..*at), shown.get(at + wrong.len()..));
        !part(before.and_then(|text| text.chars().next_back())) && !part(after.and_then(|text| text.chars().next()))
    };
    let at = shown.match_indices(wrong).map(|(at, _)| at).filter(whole).last()?;
    Some(range.start + at..range.start + at + wrong.len())
}

/// Finds the first key of the `with` beside the `uses` whose value begins at a byte.
fn first_of_with(tree: &Tree, offset: usize) -> Option<usize> {
    let inner = |tree| first_of_with(tree, offset);
    let here = || {
        tree.get("uses").filter(|uses| uses.span.start.offset == offset)?;
        Some(tree.get("with")?.entries().first()?.key_span.start.offset)
    };
    here().or_else(|| tree.entries().iter().map(|entry| &entry.value).chain(tree.items()).find_map(inner))
}

/// Finds the entry whose key begins at a byte, else the innermost whose value does.
fn entry_at(tree: &Tree, offset: usize) -> Option<&Entry> {
    fn find<'t>(tree: &'t Tree, is: &dyn Fn(&Entry) -> bool) -> Option<&'t Entry> {
        tree.items().iter().find_map(|item| find(item, is)).or_else(|| {
            tree.entries().iter().find_map(|entry| find(&entry.value, is).or_else(|| is(entry).then_some(entry)))
        })
    }
    find(tree, &|entry| entry.key_span.start.offset == offset)
        .or_else(|| find(tree, &|entry| entry.value.span.start.offset == offset))
}

/// Returns all that belongs to an entry: its lines, or in a flow mapping its part up to the comma.
fn whole_entry(text: &str, entry: &Entry) -> Range<usize> {
    let (start, end) = (entry.key_span.start.offset, entry.value.span.end.offset.max(entry.key_span.end.offset + 1));
    let line = text.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
    let alone = text.get(line..start).is_some_and(|before| before.trim().is_empty());
    let rest = text.get(end..).unwrap_or_default();
    if alone {
        let end = rest.find('\n').map_or(text.len(), |length| end + length + 1);
        return line..end;
    }
    match rest.trim_start().strip_prefix(',') {
        Some(after) => {
            let space = after.len() - after.trim_start_matches(' ').len();
            start..text.len() - after.len() + space
        }
        None => {
            let before = text.get(..start).unwrap_or_default().trim_end();
            before.strip_suffix(',').map_or(start, str::len)..end
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(text: &str, code: Code, message: &str, help: &str) -> String {
        let (start, rest) = text.split_once('«').unwrap();
        let (inside, end) = rest.split_once('»').unwrap();
        let mut text = format!("{start}{inside}{end}");
        let range = start.len()..start.len() + inside.len();
        match mend(&text.clone(), Some(code), message, help, range) {
            Some(mend) => text.replace_range(mend.range, &mend.text),
            None => text = "none".to_owned(),
        }
        text
    }

    #[test]
    fn mends_are_edits() {
        for (text, code, message, help, expected) in [
            (
                "a: \"{{ «steps.refelct.output» }}\"",
                Code::UnknownStep,
                "step `refelct` does not exist",
                "did you mean `reflect`?",
                "a: \"{{ steps.reflect.output }}\"",
            ),
            ("«methd»: x", Code::UnknownKey, "unknown key `methd`", "did you mean `method`?", "method: x"),
            (
                "needs: «draft»\n",
                Code::WrongType,
                "expected a list of steps, found `draft`",
                "write `needs: [draft]`",
                "needs: [draft]\n",
            ),
            (
                "a:\n  «with»: {}\n",
                Code::MissingKey,
                "key `uses` is missing",
                "add `uses:`",
                "a:\n  uses: \n  with: {}\n",
            ),
            (
                "a:\n  uses: «log.write»\n  with:\n    level: warn\n",
                Code::MissingKey,
                "`log.write` needs `message` in `with`",
                "add `message:`; `pipewright nodes log.write` shows all keys",
                "a:\n  uses: log.write\n  with:\n    message: \n    level: warn\n",
            ),
            ("«mesage»: x", Code::UnknownKey, "`log.write` takes no `mesage`", "did you mean `message`?", "message: x"),
            ("a: { «with»: {} }", Code::MissingKey, "key `uses` is missing", "add `uses:`", "a: { uses: , with: {} }"),
            (
                "a:\n  uses: x\n  «key»: k\n  b: 1\n",
                Code::NotAWrite,
                "`key` is for writes",
                "take it away",
                "a:\n  uses: x\n  b: 1\n",
            ),
            ("a: { uses: x, «key»: k }", Code::NotAWrite, "`key` is for writes", "take it away", "a: { uses: x }"),
            ("a: { «key»: k, uses: x }", Code::NotAWrite, "`key` is for writes", "take it away", "a: { uses: x }"),
            ("x: «1»", Code::WrongType, "expected a list", "something else", "none"),
        ] {
            assert_eq!(mended(text, code, message, help), expected, "{text}");
        }
    }
}
