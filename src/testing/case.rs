//! The cases of a test file, as they are written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::faults;
use super::faults::Trouble;
use super::given;
use super::given::Given;
use super::then;
use super::then::Then;
use crate::connector::notes::Notes;
use crate::connector::notes::first_line;
use crate::diag::Code;
use crate::diag::Span;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// The cases of one file.
#[derive(Clone, Debug)]
pub struct Suite {
    /// The file as the user would write it.
    pub file: Arc<str>,
    pub path: PathBuf,
    pub source: Arc<str>,
    /// The pipeline that is tested, by file or by name, and where it is named.
    pub pipeline: (String, Span),
    pub cases: Vec<Arc<Case>>,
}

/// A case: what is given, what goes wrong, and what must come of it.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: Arc<str>,
    /// Where the name stands.
    pub span: Span,
    pub given: Given,
    pub faults: Vec<Trouble>,
    pub then: Then,
}

/// Reads the cases of a list; faults are noted.
pub(super) fn read_all(list: &Tree, shared: Option<&Tree>, notes: &mut Notes) -> Vec<Arc<Case>> {
    if !notes.sequence(list) {
        return Vec::new();
    }
    let mut names: BTreeMap<Arc<str>, Span> = BTreeMap::new();
    let mut cases = Vec::new();
    for tree in list.items() {
        let Some(case) = read(tree, shared, notes) else { continue };
        if let Some(first) = names.insert(case.name.clone(), case.span.clone()) {
            let message = format!("a case `{}` stands already in line {}", case.name, first.start.line);
            notes.error(Code::DuplicateKey, &case.span, message).help =
                Some("give one of them another name".to_owned());
        }
        cases.push(Arc::new(case));
    }
    cases
}

fn read(tree: &Tree, shared: Option<&Tree>, notes: &mut Notes) -> Option<Case> {
    if !notes.keys(tree, crate::format::CASE) {
        return None;
    }
    let place = tree.entries().first().map_or(&tree.span, |entry| &entry.key_span);
    let Some(name) = tree.get("name") else {
        notes.error(Code::MissingKey, &first_line(place), "key `name` is missing").help =
            Some("say in a few words what the case shows".to_owned());
        return None;
    };
    let text = notes.text(name)?;
    let mut given = Given::default();
    for part in shared.into_iter().chain(tree.get("given")) {
        given::read(&mut given, part, notes);
    }
    let faults = tree.get("faults").map(|faults| faults::read(faults, notes)).unwrap_or_default();
    let Some(expected) = tree.get("then") else {
        notes.error(Code::MissingKey, &first_line(place), "key `then` is missing").help =
            Some("say what must come of it, e.g. `then: { state: succeeded }`".to_owned());
        return None;
    };
    let then = then::read(expected, notes);
    Some(Case { name: text.into(), span: name.span.clone(), given, faults, then })
}

/// Tells whether a value is a list.
pub(super) fn is_list(tree: &Tree) -> bool {
    matches!(tree.kind, TreeKind::Sequence(_))
}
