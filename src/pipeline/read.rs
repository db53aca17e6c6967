//! Reading the keys of a mapping, with a diagnostic for each that is wrong.

use super::compile::Compiler;
use super::compile::first_line;
use crate::diag::Code;
use crate::diag::Span;
use crate::diag::did_you_mean;
use crate::model::Duration;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// Reads a mapping whose keys are known.
pub(super) struct Reader<'c, 't, 'w> {
    compiler: &'c mut Compiler<'w>,
    tree: &'t Tree,
    before: usize,
}

impl<'c, 't, 'w> Reader<'c, 't, 'w> {
    /// Takes a mapping; unknown keys are told. Nothing when it is no mapping, which is told too.
    pub(super) fn new(compiler: &'c mut Compiler<'w>, tree: &'t Tree, known: &[&str]) -> Option<Self> {
        if !Self::mapping(compiler, tree) {
            return None;
        }
        for entry in tree.entries() {
            // A merge key has been told by the parser.
            if !known.contains(&&*entry.key) && &*entry.key != "<<" {
                let near = did_you_mean(&entry.key, known.iter().copied());
                let help = near.map_or_else(
                    || {
                        format!(
                            "known here: {}",
                            known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
                        )
                    },
                    |near| format!("did you mean `{near}`?"),
                );
                compiler.error(Code::UnknownKey, &entry.key_span, format!("unknown key `{}`", entry.key)).help =
                    Some(help);
            }
        }
        let before = compiler.diagnostics.len();
        Some(Self { compiler, tree, before })
    }

    /// Returns how many faults were told since the reader began.
    pub(super) fn faults(&self) -> usize {
        self.compiler.diagnostics.len() - self.before
    }

    /// Tells whether it is a mapping, and says so where it is not.
    pub(super) fn mapping(compiler: &mut Compiler<'_>, tree: &Tree) -> bool {
        if matches!(tree.kind, TreeKind::Mapping(_)) {
            return true;
        }
        compiler.error(
            Code::WrongType,
            &first_line(&tree.span),
            format!("expected a mapping, found {}", tree.describe()),
        );
        false
    }

    /// Says so when a key is missing.
    pub(super) fn require(&mut self, key: &str) -> bool {
        if self.tree.get(key).is_some() {
            return true;
        }
        if self.tree.get("<<").is_some() {
            return false;
        }
        let span = self.tree.entries().first().map_or(&self.tree.span, |entry| &entry.key_span);
        self.compiler.error(Code::MissingKey, &first_line(span), format!("key `{key}` is missing")).help =
            Some(format!("add `{key}:`"));
        false
    }

    pub(super) fn text(&mut self, key: &str) -> Option<(&'t str, &'t Span)> {
        let tree = self.tree.get(key)?;
        match tree.as_text().filter(|_| !tree.is_null()) {
            Some(text) => Some((text, &tree.span)),
            None => {
                self.wrong(tree, "a text");
                None
            }
        }
    }

    pub(super) fn duration(&mut self, key: &str) -> Option<Duration> {
        let tree = self.tree.get(key)?;
        match tree.as_text().map(str::parse::<Duration>) {
            Some(Ok(duration)) => Some(duration),
            Some(Err(error)) => {
                self.compiler.error(Code::BadDuration, &tree.span, error.to_string());
                None
            }
            None => {
                self.wrong(tree, "a duration such as `30s`");
                None
            }
        }
    }

    pub(super) fn number(&mut self, key: &str, least: u32, most: u32) -> Option<u32> {
        let tree = self.tree.get(key)?;
        let number = tree.as_text().and_then(|text| text.parse::<u32>().ok());
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => Some(number),
            None => {
                self.wrong(tree, &format!("a whole number from {least} to {most}"));
                None
            }
        }
    }

    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let tree = self.tree.get(key)?;
        match tree.as_text() {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => {
                self.wrong(tree, "`true` or `false`");
                None
            }
        }
    }

    pub(super) fn word(&mut self, key: &str, words: &[&'static str]) -> Option<&'static str> {
        let tree = self.tree.get(key)?;
        let found = words.iter().find(|word| tree.as_text() == Some(**word)).copied();
        if found.is_none() {
            let near = tree.as_text().and_then(|text| did_you_mean(text, words.iter().copied()));
            let help = near.map(|near| format!("did you mean `{near}`?"));
            let listed = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            self.compiler
                .error(
                    Code::WrongType,
                    &first_line(&tree.span),
                    format!("expected one of {listed}, found {}", tree.describe()),
                )
                .help = help;
        }
        found
    }

    fn wrong(&mut self, tree: &Tree, expected: &str) {
        let message = format!("expected {expected}, found {}", tree.describe());
        self.compiler.error(Code::WrongType, &first_line(&tree.span), message);
    }
}
