//! Templates in a file: their syntax, and the names that they read.

use std::collections::BTreeSet;
use std::ops::Range;

use super::compile::Compiler;
use super::compile::first_line;
use super::infer;
use super::kinds::Type;
use super::shapes::Scope;
use crate::diag::Code;
use crate::diag::Severity;
use crate::diag::Span;
use crate::diag::did_you_mean;
use crate::model::Value;
use crate::template::Prompt;
use crate::template::Reference;
use crate::template::Template;
use crate::template::TemplateTree;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// Where an expression stands: which roots it may read, and what reading them means.
pub(super) struct Place<'p> {
    pub(super) roots: Vec<&'static str>,
    /// The step it belongs to: reading that step is a loop.
    pub(super) own: Option<&'p str>,
    /// The steps whose output is there wherever the place is reached.
    pub(super) proven: Vec<String>,
    /// The steps that it reads, each with a place.
    pub(super) reads: std::cell::RefCell<Vec<(String, Span)>>,
    /// Whether a secret that it reads would be shown.
    pub(super) shown: bool,
    /// What the roots are that a node gives to an expression of its own.
    pub(super) given: Vec<(&'static str, Type)>,
}

impl Place<'_> {
    fn with(roots: &[&'static str]) -> Self {
        Self {
            roots: roots.to_vec(),
            own: None,
            proven: Vec::new(),
            reads: Default::default(),
            shown: false,
            given: Vec::new(),
        }
    }

    /// Before the first step.
    pub(super) fn start() -> Self {
        Self::with(&["inputs", "secrets", "run"])
    }

    /// Before there is a run.
    pub(super) fn made() -> Self {
        Self::with(&["inputs"])
    }

    /// After the last step.
    pub(super) fn end() -> Self {
        Self::with(&["inputs", "steps", "secrets", "run"])
    }

    pub(super) fn plan() -> Self {
        Self::with(&["inputs", "effects", "run"])
    }

    pub(super) fn event() -> Self {
        Self::with(&["event", "secrets", "run"])
    }
}

impl<'p> Place<'p> {
    /// In a step.
    pub(super) fn step(id: &'p str, roots: &[&'static str], proven: &[String]) -> Self {
        let mut place =
            Self { own: Some(id), proven: proven.to_vec(), ..Self::with(&["inputs", "steps", "secrets", "run"]) };
        place.roots.extend_from_slice(roots);
        place
    }
}

/// The roots of the steps of a manifest.
const INSIDE: [&str; 5] = ["input", "steps", "config", "tables", "connection"];

impl Compiler<'_> {
    /// Returns the place of a step, of a pipeline or of a manifest.
    pub(super) fn place<'p>(&self, id: &'p str, roots: &[&'static str], proven: &[String]) -> Place<'p> {
        let mut place = Place::step(id, roots, proven);
        if self.inside.is_some() {
            place.roots = INSIDE.iter().chain(roots).copied().collect();
        }
        place
    }

    /// Compiles a scalar as a template.
    pub(super) fn template(&mut self, tree: &Tree, place: &Place<'_>) -> Option<Template> {
        let TreeKind::Scalar { text, .. } = &tree.kind else {
            let message = format!("expected a text or an expression, found {}", tree.describe());
            self.error(Code::WrongType, &first_line(&tree.span), message);
            return None;
        };
        // What a system answers is read leniently, in the steps of a manifest too.
        let parsed = if self.inside.is_some() { Template::parse_lenient(text) } else { Template::parse(text) };
        let template = match parsed {
            Ok(template) => template,
            Err(error) => {
                let span = tree.span_within(self.source, error.range);
                let message = error.message;
                let (message, help) = match message.split_once("; did you mean") {
                    Some((message, near)) => (message.to_owned(), Some(format!("did you mean{near}"))),
                    None => (message, None),
                };
                let code = if message.starts_with("there is no") { Code::UnknownFilter } else { Code::TemplateSyntax };
                self.error(code, &span, message).help = help;
                return None;
            }
        };
        for reference in template.references() {
            let span = tree.span_within(self.source, reference.range.clone());
            self.reference(reference, &span, place);
        }
        if !place.shown {
            self.infer(&template, tree, place);
        }
        Some(template)
    }

    /// Infers what a template gives, and tells the faults that show on the way.
    fn infer(&mut self, template: &Template, tree: &Tree, place: &Place<'_>) {
        let scope = Scope { compiler: self, own: place.own, roots: &place.roots, given: &place.given };
        let (kind, findings) = infer::template(template, &scope);
        let source = self.source;
        if self.inside.is_some() {
            // In a manifest what is missing is null and fits anywhere; but what no schema knows is never there.
            let unknown = findings.into_iter().filter(|finding| finding.code == Code::UnknownField);
            self.tell(unknown.collect(), |range| tree.span_within(source, range));
            return;
        }
        self.tell(findings, |range| tree.span_within(source, range));
        self.inferred.templates.insert(tree.span.start.offset, kind);
    }

    /// Infers the text of a prompt's file for the faults that show.
    pub(super) fn infer_prompt(&mut self, text: &str, place: &Place<'_>, span: impl Fn(Range<usize>) -> Span) {
        let scope = Scope { compiler: self, own: place.own, roots: &place.roots, given: &place.given };
        let (_, findings) = infer::parts(text, &Prompt::parts_of(text), &scope);
        self.tell(findings, span);
    }

    fn tell(&mut self, findings: Vec<infer::Finding>, span: impl Fn(Range<usize>) -> Span) {
        for finding in findings {
            let span = span(finding.range);
            let told = match finding.severity {
                Severity::Error => self.error(finding.code, &span, finding.message),
                Severity::Warning => self.warning(finding.code, &span, finding.message),
            };
            told.help = finding.help;
        }
    }

    /// Compiles a value with templates in it.
    pub(super) fn tree(&mut self, tree: &Tree, place: &Place<'_>) -> TemplateTree {
        match &tree.kind {
            TreeKind::Scalar { text, .. } if text.contains("{{") || text.contains("{%") || text.contains("{#") => {
                self.template(tree, place).map_or(TemplateTree::Literal(Value::Null), TemplateTree::Template)
            }
            TreeKind::Scalar { .. } => TemplateTree::Literal(tree.to_value()),
            TreeKind::Sequence(items) => {
                let items: Vec<_> = items.iter().map(|item| self.tree(item, place)).collect();
                fold_list(items)
            }
            TreeKind::Mapping(entries) => {
                let entries: Vec<_> =
                    entries.iter().map(|entry| (entry.key.clone(), self.tree(&entry.value, place))).collect();
                fold_map(entries)
            }
        }
    }

    /// Checks a name that an expression reads.
    pub(super) fn reference(&mut self, reference: &Reference, span: &Span, place: &Place<'_>) {
        let path: Vec<&str> = reference.path.iter().map(|key| &**key).collect();
        let Some(root) = path.first().copied() else { return };
        if !place.roots.contains(&root) {
            let known: BTreeSet<_> = place.roots.iter().copied().collect();
            let elsewhere =
                ["item", "index", "output", "previous", "effects", "event", "inputs", "steps", "secrets", "run"];
            if elsewhere.contains(&root) {
                self.error(Code::UnknownName, span, format!("`{root}` is not known here")).help = Some(match root {
                    "item" | "index" => "it exists in a step with `for_each`".to_owned(),
                    "output" => "it exists in `undo` and `until`".to_owned(),
                    "previous" => "it exists in `until` and in a step with `for_each`".to_owned(),
                    other => format!("`{other}` exists elsewhere; here are {}", listed(&known)),
                });
            } else {
                let near = self.home_of(root, place);
                let near = near.as_deref().or_else(|| did_you_mean(root, known.iter().copied()));
                let help = near.map_or_else(
                    || format!("known here: {}", listed(&known)),
                    |near| format!("did you mean `{near}`?"),
                );
                self.error(Code::UnknownName, span, format!("`{root}` is not known here")).help = Some(help);
            }
            return;
        }
        match (root, path.get(1).copied()) {
            ("inputs", Some(name)) if self.inputs_known && !self.inputs.iter().any(|input| &*input.name == name) => {
                let known: Vec<String> = self.inputs.iter().map(|input| input.name.to_string()).collect();
                let known = known.iter().map(String::as_str);
                self.unknown(Code::UnknownInput, span, "input {} does not exist", name, known);
            }
            ("steps", Some(id)) => {
                let optional = reference.optional || self.inside.is_some();
                self.step_reference(id, &path, span, place, optional);
            }
            ("secrets", Some(name)) if place.shown => {
                self.error(Code::SecretShown, span, format!("secret `{name}` would flow into a log")).help =
                    Some("log something else: secrets are for connections and requests".to_owned());
            }
            ("secrets", Some(name)) => self.known_secret(name, span),
            ("run", Some(key)) => {
                let known = ["id", "pipeline", "slot", "state", "error"];
                if !known.contains(&key) {
                    self.unknown(Code::UnknownField, span, "`run` has no field {}", key, known);
                }
            }
            _ => {}
        }
    }

    /// Returns where a bare name lives: people write `topic` for `inputs.topic`.
    fn home_of(&self, name: &str, place: &Place<'_>) -> Option<String> {
        if self.inputs.iter().any(|input| &*input.name == name) && place.roots.contains(&"inputs") {
            return Some(format!("inputs.{name}"));
        }
        (self.steps.contains_key(name) && place.roots.contains(&"steps")).then(|| format!("steps.{name}.output"))
    }

    fn step_reference(&mut self, id: &str, path: &[&str], span: &Span, place: &Place<'_>, optional: bool) {
        if place.own == Some(id) {
            self.error(Code::DependencyCycle, span, format!("step `{id}` refers to itself")).help =
                Some("take the output of another step; in `until` and `undo` use `output`".to_owned());
            return;
        }
        let Some(known) = self.steps.get(id).cloned() else {
            let ids: Vec<String> = self.steps.keys().cloned().collect();
            self.unknown(Code::UnknownStep, span, "step {} does not exist", id, ids.iter().map(String::as_str));
            return;
        };
        place.reads.borrow_mut().push((id.to_owned(), span.clone()));
        match path.get(2).copied() {
            None | Some("state" | "error") => {}
            Some("output") => {
                if let Some(reason) = known.absent.filter(|_| !optional && !place.proven.iter().any(|step| step == id))
                {
                    self.error(Code::MaybeAbsent, span, format!("the output of step `{id}` may be absent: {reason}"))
                        .help = Some(format!("say what it is then: `steps.{id}.output | default(…)`"));
                }
            }
            Some(other) => {
                self.unknown(Code::UnknownField, span, "a step has no field {}", other, ["output", "state", "error"]);
            }
        }
    }
}

fn listed(names: &BTreeSet<&str>) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A list without templates is one literal, shared by all runs.
fn fold_list(items: Vec<TemplateTree>) -> TemplateTree {
    let literals: Option<Vec<Value>> = items.iter().map(literal).collect();
    literals.map_or(TemplateTree::List(items), |literals| TemplateTree::Literal(Value::list(literals)))
}

fn fold_map(entries: Vec<(std::sync::Arc<str>, TemplateTree)>) -> TemplateTree {
    let literals: Option<Vec<_>> = entries.iter().map(|(key, tree)| Some((key.clone(), literal(tree)?))).collect();
    literals.map_or(TemplateTree::Map(entries), |literals| TemplateTree::Literal(Value::map(literals)))
}

fn literal(tree: &TemplateTree) -> Option<Value> {
    match tree {
        TemplateTree::Literal(value) => Some(value.clone()),
        _ => None,
    }
}
