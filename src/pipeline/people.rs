//! `people` of the project file: who there is, and in which roles.

use super::compile::first_line;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// Somebody who may be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    pub roles: Vec<String>,
}

/// Reads the people; every fault is told.
pub(super) fn read(tree: &Tree, diagnostics: &mut Vec<Diagnostic>) -> Vec<Person> {
    if !matches!(tree.kind, TreeKind::Mapping(_)) {
        let message = format!("expected a mapping of people to their roles, found {}", tree.describe());
        let told = Diagnostic::error(Code::WrongType, first_line(&tree.span), message);
        diagnostics.push(told.with_help("write `people: { anna: [editor], bob: [editor, ops] }`"));
        return Vec::new();
    }
    let names: Vec<&str> = tree.entries().iter().map(|entry| &*entry.key).collect();
    let mut people = Vec::new();
    for entry in tree.entries() {
        if !is_name(&entry.key) {
            let message = format!("`{}` cannot name a person", entry.key);
            let told = Diagnostic::error(Code::BadName, entry.key_span.clone(), message);
            diagnostics.push(told.with_help(HOW));
        }
        if !matches!(entry.value.kind, TreeKind::Sequence(_)) {
            let message = format!("expected a list of roles, found {}", entry.value.describe());
            let told = Diagnostic::error(Code::WrongType, first_line(&entry.value.span), message);
            diagnostics.push(told.with_help(format!("write `{}: [editor]`, or `[]` for none", entry.key)));
        }
        let mut roles = Vec::new();
        for role in entry.value.items() {
            match role.as_text().filter(|text| is_name(text) && !role.is_null()) {
                Some(text) if names.contains(&text) => {
                    let message = format!("`{text}` is a person, and cannot be a role, too");
                    let told = Diagnostic::error(Code::BadName, role.span.clone(), message);
                    diagnostics.push(told.with_help("give the role another name: `approvers` names both"));
                }
                Some(text) => roles.push(text.to_owned()),
                None => {
                    let message = format!("expected the name of a role, found {}", role.describe());
                    let told = Diagnostic::error(Code::WrongType, first_line(&role.span), message);
                    diagnostics.push(told.with_help(HOW));
                }
            }
        }
        people.push(Person { name: entry.key.to_string(), roles });
    }
    people
}

const HOW: &str = "use letters, digits and `. _ - @ +`";

fn is_name(text: &str) -> bool {
    let known = |letter: char| letter.is_alphanumeric() || "._-@+".contains(letter);
    !text.is_empty() && text.chars().all(known)
}
