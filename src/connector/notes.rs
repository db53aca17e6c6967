//! What is wrong with a manifest, gathered while its tree is read.

use std::sync::Arc;

use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Span;
use crate::diag::did_you_mean;
use crate::model::Duration;
use crate::model::Value;
use crate::template::SyntaxError;
use crate::template::Template;
use crate::template::TemplateTree;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// The diagnostics of one manifest; every reader of a section adds to them and reads on.
#[derive(Debug)]
pub struct Notes {
    /// The manifest's text, for places within scalars.
    pub source: Arc<str>,
    pub diagnostics: Vec<Diagnostic>,
}

impl Notes {
    #[must_use]
    pub fn new(source: Arc<str>) -> Self {
        Self { source, diagnostics: Vec::new() }
    }

    pub fn error(&mut self, code: Code, span: &Span, message: impl Into<String>) -> &mut Diagnostic {
        self.diagnostics.push(Diagnostic::error(code, span.clone(), message));
        self.diagnostics.last_mut().expect("it was just pushed")
    }

    pub fn warning(&mut self, code: Code, span: &Span, message: impl Into<String>) -> &mut Diagnostic {
        self.diagnostics.push(Diagnostic::warning(code, span.clone(), message));
        self.diagnostics.last_mut().expect("it was just pushed")
    }

    /// Says so where a value is of a wrong kind.
    pub fn wrong(&mut self, tree: &Tree, expected: &str) -> &mut Diagnostic {
        let message = format!("expected {expected}, found {}", tree.describe());
        self.error(Code::WrongType, &first_line(&tree.span), message)
    }

    /// Tells whether it is a mapping with these keys only; what is not is told.
    pub fn keys(&mut self, tree: &Tree, known: &[&str]) -> bool {
        if !self.mapping(tree) {
            return false;
        }
        for entry in tree.entries().iter().filter(|entry| !known.contains(&&*entry.key)) {
            let help = did_you_mean(&entry.key, known.iter().copied()).map_or_else(
                || format!("known here: {}", known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            self.error(Code::UnknownKey, &entry.key_span, format!("unknown key `{}`", entry.key)).help = Some(help);
        }
        true
    }

    pub fn mapping(&mut self, tree: &Tree) -> bool {
        if !matches!(tree.kind, TreeKind::Mapping(_)) {
            self.wrong(tree, "a mapping");
            return false;
        }
        true
    }

    pub fn sequence(&mut self, tree: &Tree) -> bool {
        if !matches!(tree.kind, TreeKind::Sequence(_)) {
            self.wrong(tree, "a list");
            return false;
        }
        true
    }

    /// Reads a text without an expression in it.
    pub fn text<'t>(&mut self, tree: &'t Tree) -> Option<&'t str> {
        let text = tree.as_text().filter(|_| !tree.is_null());
        if text.is_none() {
            self.wrong(tree, "a text");
        }
        text
    }

    pub fn flag(&mut self, tree: &Tree) -> Option<bool> {
        match tree.as_text() {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => {
                self.wrong(tree, "`true` or `false`");
                None
            }
        }
    }

    pub fn duration(&mut self, tree: &Tree) -> Option<Duration> {
        match tree.as_text().map(str::parse::<Duration>) {
            Some(Ok(duration)) => Some(duration),
            Some(Err(error)) => {
                self.error(Code::BadDuration, &tree.span, error.to_string());
                None
            }
            None => {
                self.wrong(tree, "a duration such as `30s`");
                None
            }
        }
    }

    pub fn number(&mut self, tree: &Tree, least: u32, most: u32) -> Option<u32> {
        let number = tree.as_text().and_then(|text| text.parse::<u32>().ok());
        let number = number.filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.wrong(tree, &format!("a whole number from {least} to {most}"));
        }
        number
    }

    /// Reads one of a few words.
    pub fn word<T: Copy>(&mut self, tree: &Tree, words: &[(&str, T)]) -> Option<T> {
        let found = words.iter().find(|(word, _)| tree.as_text() == Some(*word)).map(|(_, value)| *value);
        if found.is_none() {
            let near = tree.as_text().and_then(|text| did_you_mean(text, words.iter().map(|(word, _)| *word)));
            let help = near.map(|near| format!("did you mean `{near}`?"));
            let listed = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            self.wrong(tree, &format!("one of {listed}")).help = help;
        }
        found
    }

    /// Compiles a scalar as a template.
    pub fn template(&mut self, tree: &Tree) -> Option<Template> {
        let Some(text) = tree.as_text() else {
            self.wrong(tree, "a text or an expression");
            return None;
        };
        self.compiled(tree, Template::parse_lenient(text))
    }

    /// Compiles a part of a URL: what is computed in it is percent-encoded.
    pub fn url(&mut self, tree: &Tree) -> Option<Template> {
        let Some(text) = tree.as_text() else {
            self.wrong(tree, "a text or an expression");
            return None;
        };
        self.compiled(tree, Template::parse_url(text))
    }

    fn compiled(&mut self, tree: &Tree, compiled: Result<Template, SyntaxError>) -> Option<Template> {
        match compiled {
            Ok(template) => Some(template),
            Err(error) => {
                let (message, near) = match error.message.split_once("; did you mean") {
                    Some((message, near)) => (message.to_owned(), Some(format!("did you mean{near}"))),
                    None => (error.message.clone(), None),
                };
                let code = if message.starts_with("there is no") { Code::UnknownFilter } else { Code::TemplateSyntax };
                let span = tree.span_within(&self.source, error.range);
                self.error(code, &span, message).help = near;
                None
            }
        }
    }

    /// Compiles a value with templates anywhere in it; what is no template keeps the type that YAML gives it.
    pub fn tree(&mut self, tree: &Tree) -> TemplateTree {
        match &tree.kind {
            TreeKind::Scalar { text, .. } if text.contains("{{") || text.contains("{%") => {
                self.template(tree).map_or(TemplateTree::Literal(Value::Null), TemplateTree::Template)
            }
            TreeKind::Scalar { .. } => TemplateTree::Literal(tree.to_value()),
            TreeKind::Sequence(items) => {
                let items: Vec<_> = items.iter().map(|item| self.tree(item)).collect();
                let literal = |item: &TemplateTree| match item {
                    TemplateTree::Literal(value) => Some(value.clone()),
                    _ => None,
                };
                match items.iter().map(literal).collect::<Option<Vec<_>>>() {
                    Some(values) => TemplateTree::Literal(Value::list(values)),
                    None => TemplateTree::List(items),
                }
            }
            // Kept as a map even where all is literal: a null that is written leaves its key out.
            TreeKind::Mapping(entries) => {
                TemplateTree::Map(entries.iter().map(|entry| (entry.key.clone(), self.tree(&entry.value))).collect())
            }
        }
    }
}

/// Returns the beginning of a place, on its first line: a whole file is not underlined.
#[must_use]
pub fn first_line(span: &Span) -> Span {
    if span.end.line == span.start.line { span.clone() } else { Span { end: span.start, ..span.clone() } }
}
