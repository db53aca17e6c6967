//! Where an expression of a manifest stands: which roots it may read, and what is known of them.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::connector::notes::Notes;
use crate::diag::Code;
use crate::diag::did_you_mean;
use crate::template::Reference;
use crate::template::Template;
use crate::template::TemplateTree;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// The roots before anything is sent.
pub const BEFORE: &[&str] = &[
    "config",
    "auth",
    "account",
    "session",
    "tables",
    "input",
    "batch",
    "next",
    "cursor",
    "window",
    "effect",
    "attempt",
    "operation",
];
/// The further roots when an answer has come.
pub const ANSWER: &[&str] = &["status", "headers", "body", "text", "items"];

/// Where an expression stands. Made for each section; cheap to derive from.
#[derive(Clone, Debug)]
pub struct Place<'m> {
    roots: Vec<&'static str>,
    /// The schema of `input`, where there is one.
    input: Option<&'m serde_json::Value>,
    /// The names of the manifest's `tables`.
    tables: &'m [String],
    seen: &'m Seen,
}

/// What the expressions of a manifest read of the connection: such keys are known though no schema declares them.
#[derive(Debug, Default)]
pub struct Seen {
    pub config: RefCell<BTreeSet<String>>,
    pub auth: RefCell<BTreeSet<String>>,
    /// The roots that were read.
    roots: RefCell<BTreeSet<String>>,
}

impl<'m> Place<'m> {
    /// A place outside all operations.
    #[must_use]
    pub fn new(tables: &'m [String], seen: &'m Seen) -> Self {
        Self { roots: BEFORE.to_vec(), input: None, tables, seen }
    }

    /// A place with these roots only.
    #[must_use]
    pub fn of(roots: &[&'static str], tables: &'m [String], seen: &'m Seen) -> Self {
        Self { roots: roots.to_vec(), input: None, tables, seen }
    }

    /// Takes out which roots were read so far.
    #[must_use]
    pub fn roots_read(&self) -> BTreeSet<String> {
        self.seen.roots.take()
    }

    /// Returns which roots were read since `before` was taken out, and puts that back.
    #[must_use]
    pub fn roots_since(&self, before: BTreeSet<String>) -> BTreeSet<String> {
        self.seen.roots.replace(before)
    }

    /// Notes that the connection must say something under `auth`, without an expression that reads it.
    pub fn reads_auth(&self, key: &str) {
        self.seen.auth.borrow_mut().insert(key.to_owned());
    }

    /// The same place with further roots.
    #[must_use]
    pub fn and(&self, roots: &[&'static str]) -> Self {
        let mut place = self.clone();
        place.roots.extend_from_slice(roots);
        place
    }

    /// The same place when an answer has come.
    #[must_use]
    pub fn answered(&self) -> Self {
        self.and(ANSWER)
    }

    /// The same place in an operation with this input.
    #[must_use]
    pub fn of_input(&self, input: Option<&'m serde_json::Value>) -> Self {
        Self { input, ..self.clone() }
    }

    /// Compiles a scalar and checks the names that it reads.
    pub fn template(&self, tree: &Tree, notes: &mut Notes) -> Option<Template> {
        let template = notes.template(tree)?;
        self.check(&template, tree, notes);
        Some(template)
    }

    /// Compiles a text whose computed parts are percent-encoded.
    pub fn url(&self, tree: &Tree, notes: &mut Notes) -> Option<Template> {
        let template = notes.url(tree)?;
        self.check(&template, tree, notes);
        Some(template)
    }

    /// Compiles a value with templates anywhere in it.
    pub fn tree(&self, tree: &Tree, notes: &mut Notes) -> TemplateTree {
        self.check_all(tree, notes);
        notes.tree(tree)
    }

    fn check_all(&self, tree: &Tree, notes: &mut Notes) {
        match &tree.kind {
            TreeKind::Scalar { text, .. } if text.contains("{{") || text.contains("{%") => {
                // What is no template is told when it is compiled.
                if let Ok(template) = Template::parse_lenient(text) {
                    self.check(&template, tree, notes);
                }
            }
            TreeKind::Scalar { .. } => {}
            TreeKind::Sequence(items) => items.iter().for_each(|item| self.check_all(item, notes)),
            TreeKind::Mapping(entries) => entries.iter().for_each(|entry| self.check_all(&entry.value, notes)),
        }
    }

    fn check(&self, template: &Template, tree: &Tree, notes: &mut Notes) {
        for reference in template.references() {
            let Some(root) = reference.path.first().map(|root| &**root) else { continue };
            if root == "now" {
                continue;
            }
            if !self.roots.contains(&root) {
                self.unknown_root(root, reference, tree, notes);
                continue;
            }
            self.seen.roots.borrow_mut().insert(root.to_owned());
            let Some(key) = reference.path.get(1).map(|key| &**key) else { continue };
            match root {
                "config" => drop(self.seen.config.borrow_mut().insert(key.to_owned())),
                "auth" => drop(self.seen.auth.borrow_mut().insert(key.to_owned())),
                "input" => self.known_input(key, reference, tree, notes),
                "tables" if !self.tables.iter().any(|table| table == key) => {
                    let known = self.tables.iter().map(String::as_str);
                    unknown(notes, tree, reference, &format!("there is no table `{key}`"), key, known);
                }
                "effect" if !["key", "started_at"].contains(&key) => {
                    let message = format!("`effect` has no `{key}`");
                    unknown(notes, tree, reference, &message, key, ["key", "started_at"].into_iter());
                }
                "window" if !["from", "to"].contains(&key) => {
                    unknown(
                        notes,
                        tree,
                        reference,
                        &format!("`window` has no `{key}`"),
                        key,
                        ["from", "to"].into_iter(),
                    );
                }
                _ => {}
            }
        }
    }

    fn unknown_root(&self, root: &str, reference: &Reference, tree: &Tree, notes: &mut Notes) {
        let span = tree.span_within(&notes.source, reference.range.clone());
        let near = did_you_mean(root, self.roots.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        let listed = || {
            format!("known here: {}", self.roots.iter().map(|root| format!("`{root}`")).collect::<Vec<_>>().join(", "))
        };
        notes.error(Code::UnknownName, &span, format!("`{root}` is not known here")).help =
            Some(near.unwrap_or_else(listed));
    }

    fn known_input(&self, key: &str, reference: &Reference, tree: &Tree, notes: &mut Notes) {
        let Some(input) = self.input else { return };
        let Some(properties) = input.get("properties").and_then(serde_json::Value::as_object) else { return };
        let open = input.get("additionalProperties").is_some_and(|more| more != &serde_json::Value::Bool(false));
        if open || properties.contains_key(key) || key.chars().all(|letter| letter.is_ascii_digit()) {
            return;
        }
        let message = format!("`input` has no `{key}`");
        unknown(notes, tree, reference, &message, key, properties.keys().map(String::as_str));
    }
}

fn unknown<'k>(
    notes: &mut Notes,
    tree: &Tree,
    reference: &Reference,
    message: &str,
    key: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) {
    let span = tree.span_within(&notes.source, reference.range.clone());
    let near = did_you_mean(key, known.clone()).map(|near| format!("did you mean `{near}`?"));
    let listed = || format!("known here: {}", known.map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "));
    notes.error(Code::UnknownField, &span, message).help = Some(near.unwrap_or_else(listed));
}
