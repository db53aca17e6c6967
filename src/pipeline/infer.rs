//! What an expression gives, inferred from what its names are; and the faults that show on the way.

mod calls;
mod operators;

use std::ops::Range;
use std::sync::Arc;

use super::kinds::Field;
use super::kinds::Kinds;
use super::kinds::Rest;
use super::kinds::Type;
use crate::diag::Code;
use crate::diag::Severity;
use crate::diag::did_you_mean;
use crate::template::Expr;
use crate::template::ExprKind;
use crate::template::Operator;
use crate::template::Part;
use crate::template::Template;

/// What the names of a place are.
pub(super) trait Names {
    /// Returns the type of a root other than `steps`.
    fn root(&self, name: &str) -> Type;
    /// Returns the type of a step's output.
    fn output(&self, step: &str) -> Type;
}

/// A fault of an expression, at bytes of the template's source.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) code: Code,
    pub(super) severity: Severity,
    pub(super) range: Range<usize>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// Infers what a template gives.
pub(super) fn template(template: &Template, names: &dyn Names) -> (Type, Vec<Finding>) {
    if let Some(text) = template.literal() {
        return (Type::of_value(&text.into()), Vec::new());
    }
    parts(template.source(), &template.parts(), names)
}

/// Infers what the parts of a source give.
pub(super) fn parts(source: &str, parts: &[Part], names: &dyn Names) -> (Type, Vec<Finding>) {
    let mut inference = Inference { source, names, findings: Vec::new(), bound: Vec::new() };
    let gives = match parts {
        [Part::Value(whole)] => inference.expr(whole),
        parts => {
            inference.parts(parts);
            Type::text()
        }
    };
    (gives, inference.findings)
}

struct Inference<'n> {
    source: &'n str,
    names: &'n dyn Names,
    findings: Vec<Finding>,
    /// Names that the template itself binds, innermost last.
    bound: Vec<(Arc<str>, Type)>,
}

impl Inference<'_> {
    fn parts(&mut self, parts: &[Part]) {
        for part in parts {
            match part {
                Part::Text | Part::Other => {}
                Part::Value(value) => {
                    self.expr(value);
                }
                Part::Loop { names, list, filter, body, otherwise } => {
                    let item = self.expr(list).item();
                    let before = self.bound.len();
                    let single = names.len() == 1;
                    self.bound.push(("loop".into(), Type::ANY));
                    for name in names {
                        self.bound.push((name.clone(), if single { item.clone() } else { Type::ANY }));
                    }
                    if let Some(filter) = filter {
                        self.expr(filter);
                    }
                    self.parts(body);
                    self.bound.truncate(before);
                    self.parts(otherwise);
                }
                Part::Choice { condition, then, otherwise } => {
                    self.expr(condition);
                    // What a branch sets, the text behind it sees: nothing certain is known of it.
                    let before = self.bound.len();
                    let mut set = Vec::new();
                    for branch in [then, otherwise] {
                        self.parts(branch);
                        set.extend(self.bound.drain(before..).map(|(name, _)| (name, Type::ANY)));
                    }
                    self.bound.extend(set);
                }
                Part::Set { names, value } => {
                    let kind = self.expr(value);
                    let single = names.len() == 1;
                    for name in names {
                        self.bound.push((name.clone(), if single { kind.clone() } else { Type::ANY }));
                    }
                }
            }
        }
    }

    fn expr(&mut self, expr: &Expr) -> Type {
        match &expr.kind {
            ExprKind::Name(name) => self.name(name),
            ExprKind::Constant(value) => Type::of_value(value),
            ExprKind::Member(inner, key) => self.member(expr, inner, key),
            ExprKind::Item(inner, key) => {
                let gives = self.expr(inner);
                let key = self.expr(key);
                if gives.kinds.only(Kinds::LIST) && key.kinds.only(Kinds::INTEGER) { gives.item() } else { Type::ANY }
            }
            ExprKind::Slice(inner, bounds) => {
                let gives = self.expr(inner);
                for bound in bounds {
                    self.expr(bound);
                }
                if gives.kinds.only(Kinds::LIST.or(Kinds::TEXT)) { gives } else { Type::ANY }
            }
            ExprKind::Not(inner) => {
                self.expr(inner);
                Type::of(Kinds::BOOL)
            }
            ExprKind::Negative(inner) => self.negative(expr, inner),
            ExprKind::Binary(operator, left, right) => self.binary(*operator, left, right, expr),
            ExprKind::Choice { condition, then, otherwise } => {
                self.expr(condition);
                let then = self.expr(then);
                match otherwise {
                    Some(otherwise) => then.or(self.expr(otherwise)),
                    // Without `else` it is undefined where the condition does not hold.
                    None => then.or_null(),
                }
            }
            ExprKind::Filter { name, input, arguments } => self.filter(name, input.as_deref(), arguments, expr),
            ExprKind::Test { name, input, arguments } => {
                let before = self.findings.len();
                self.expr(input);
                if matches!(&**name, "defined" | "undefined") {
                    // Who asks whether it is there knows that it may not be.
                    self.findings.truncate(before);
                }
                for argument in arguments {
                    self.expr(&argument.value);
                }
                Type::of(Kinds::BOOL)
            }
            ExprKind::Call { name, arguments } => {
                for argument in arguments {
                    self.expr(&argument.value);
                }
                name.as_deref().map_or(Type::ANY, calls::function)
            }
            ExprKind::List(items) => {
                let items: Vec<Type> = items.iter().map(|item| self.expr(item)).collect();
                Type::list(Type::of_items(items.into_iter()))
            }
            ExprKind::Map(entries) => {
                let mut fields = Vec::new();
                let mut rest = Rest::Closed;
                for (key, value) in entries {
                    let value = self.expr(value);
                    match key.text() {
                        Some(key) => fields.push((key.into(), value)),
                        None => {
                            self.expr(key);
                            rest = Rest::Open;
                        }
                    }
                }
                Type::map(fields, rest)
            }
            ExprKind::Opaque => Type::ANY,
        }
    }

    fn name(&self, name: &str) -> Type {
        match self.bound.iter().rev().find(|(bound, _)| &**bound == name) {
            Some((_, kind)) => kind.clone(),
            None if name == "steps" => Type::ANY,
            None => self.names.root(name),
        }
    }

    fn is_bound(&self, name: &str) -> bool {
        self.bound.iter().any(|(bound, _)| &**bound == name)
    }

    fn member(&mut self, expr: &Expr, inner: &Expr, key: &str) -> Type {
        // `steps.ID.output`: other keys of a step, and ids, are checked as names.
        if let ExprKind::Member(steps, id) = &inner.kind
            && matches!(&steps.kind, ExprKind::Name(root) if &**root == "steps" && !self.is_bound("steps"))
        {
            return match key {
                "output" => self.names.output(id),
                "state" => Type::text(),
                _ => Type::ANY,
            };
        }
        let gives = self.expr(inner);
        let range = self.field_range(expr, key);
        let (kind, finding) = field_of(&gives, key, range, || self.described(inner));
        self.findings.extend(finding);
        kind
    }

    /// Returns where the key of a member stands: at its end.
    fn field_range(&self, expr: &Expr, key: &str) -> Range<usize> {
        let end = expr.range.end;
        let start = end.saturating_sub(key.len());
        if self.source.get(start..end) == Some(key) { start..end } else { expr.range.clone() }
    }

    /// Names what a field is looked for in.
    fn described(&self, inner: &Expr) -> String {
        if let ExprKind::Member(step, output) = &inner.kind
            && let ExprKind::Member(steps, id) = &step.kind
            && matches!(&steps.kind, ExprKind::Name(root) if &**root == "steps")
            && &**output == "output"
        {
            return format!("the output of step `{id}`");
        }
        let plain = path_of(inner).map(|path| path.join("."));
        plain.map_or_else(|| "this value".to_owned(), |path| format!("`{path}`"))
    }

    /// Returns the place from where an expression begins: that of a filter or a member is where its own name stands.
    fn whole_range(&self, first: &Expr, end: usize) -> Range<usize> {
        let start = leftmost(first);
        let space = self.source.get(start..end).map_or(0, |text| text.len() - text.trim_start().len());
        start + space..end
    }

    fn error(&mut self, code: Code, range: &Range<usize>, message: String, help: Option<&str>) {
        let help = help.map(str::to_owned);
        self.findings.push(Finding { code, severity: Severity::Error, range: range.clone(), message, help });
    }

    fn warning(&mut self, code: Code, range: &Range<usize>, message: String, help: Option<&str>) {
        let help = help.map(str::to_owned);
        self.findings.push(Finding { code, severity: Severity::Warning, range: range.clone(), message, help });
    }
}

/// Finds a field, and says so where it cannot be.
fn field_of(gives: &Type, key: &str, range: Range<usize>, what: impl Fn() -> String) -> (Type, Option<Finding>) {
    let known = gives.field_names();
    let found = |severity, message, help| Finding { code: Code::UnknownField, severity, range, message, help };
    let finding = match gives.field(key) {
        Field::Known(kind) => return (kind, None),
        // Of null there is nothing to say but that it may be absent, which is another fault.
        Field::Missing if gives.kinds.only(Kinds::NULL) => None,
        Field::Missing if known.is_empty() && !gives.kinds.has(Kinds::MAP) => {
            let message = format!("{} is {}, which has no field `{key}`", what(), gives.kinds.named());
            Some(found(Severity::Error, message, None))
        }
        Field::Missing => Some(found(Severity::Error, format!("{} has no field `{key}`", what()), mend(key, &known))),
        // More than is declared is let through: only what looks like a slip of the finger is told.
        Field::Undeclared => did_you_mean(key, known.iter().copied()).map(|near| {
            let message = format!("{} declares no field `{key}`", what());
            found(Severity::Warning, message, Some(format!("did you mean `{near}`?")))
        }),
    };
    (Type::ANY, finding)
}

fn leftmost(expr: &Expr) -> usize {
    let inner = match &expr.kind {
        ExprKind::Member(inner, _) | ExprKind::Item(inner, _) | ExprKind::Slice(inner, _) => Some(inner),
        ExprKind::Filter { input, .. } => input.as_ref(),
        ExprKind::Test { input, .. } | ExprKind::Binary(_, input, _) => Some(input),
        _ => None,
    };
    inner.map_or(expr.range.start, |inner| leftmost(inner).min(expr.range.start))
}

/// Returns the name and the literal keys of a plain path.
pub(super) fn path_of(expr: &Expr) -> Option<Vec<&str>> {
    match &expr.kind {
        ExprKind::Name(name) => Some(vec![name]),
        ExprKind::Member(inner, key) => {
            let mut path = path_of(inner)?;
            path.push(key);
            Some(path)
        }
        _ => None,
    }
}

fn mend(key: &str, known: &[&str]) -> Option<String> {
    match did_you_mean(key, known.iter().copied()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if known.is_empty() || known.len() > 12 => None,
        None => {
            Some(format!("known here: {}", known.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ")))
        }
    }
}

/// Returns the steps whose output is there wherever a condition holds.
pub(super) fn proven_steps(condition: &Template) -> Vec<String> {
    match condition.parts().as_slice() {
        [Part::Value(expr)] => proven(expr, true),
        _ => Vec::new(),
    }
}

fn proven(condition: &Expr, outcome: bool) -> Vec<String> {
    let output_of = |expr: &Expr| match path_of(expr)?.as_slice() {
        ["steps", id, "output", ..] => Some((*id).to_owned()),
        _ => None,
    };
    let state_of = |expr: &Expr| match path_of(expr)?.as_slice() {
        ["steps", id, "state"] => Some((*id).to_owned()),
        _ => None,
    };
    match (&condition.kind, outcome) {
        (ExprKind::Not(inner), _) => proven(inner, !outcome),
        (ExprKind::Binary(Operator::And, left, right), true) | (ExprKind::Binary(Operator::Or, left, right), false) => {
            let mut steps = proven(left, outcome);
            steps.extend(proven(right, outcome));
            steps
        }
        // What both sides of an `or` prove holds, whichever it was.
        (ExprKind::Binary(Operator::Or, left, right), true) | (ExprKind::Binary(Operator::And, left, right), false) => {
            let right = proven(right, outcome);
            proven(left, outcome).into_iter().filter(|step| right.contains(step)).collect()
        }
        (ExprKind::Binary(Operator::Equal, left, right), true)
        | (ExprKind::Binary(Operator::NotEqual, left, right), false) => {
            let word = [left, right].into_iter().find_map(|side| side.text());
            let state = state_of(left).or_else(|| state_of(right)).filter(|_| word == Some("succeeded"));
            // What equals a value that is written out is there.
            let constant = |side: &Expr| matches!(&side.kind, ExprKind::Constant(value) if !value.is_null());
            let output = [(left, right), (right, left)]
                .into_iter()
                .find_map(|(side, other)| if constant(other) { output_of(side) } else { None });
            state.or(output).into_iter().collect()
        }
        (ExprKind::Test { name, input, .. }, outcome) => match (&**name, outcome) {
            ("defined" | "true" | "mapping" | "sequence" | "string" | "number", true)
            | ("undefined" | "none", false) => output_of(input).into_iter().collect(),
            _ => Vec::new(),
        },
        (ExprKind::Filter { name, input: Some(input), arguments }, true) if matches!(&**name, "default" | "d") => {
            let falls_to_false = arguments
                .first()
                .is_none_or(|argument| matches!(&argument.value.kind, ExprKind::Constant(value) if !value.is_truthy()));
            output_of(input).filter(|_| falls_to_false).into_iter().collect()
        }
        (ExprKind::Name(_) | ExprKind::Member(..), true) => output_of(condition).into_iter().collect(),
        _ => Vec::new(),
    }
}
