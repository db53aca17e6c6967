//! Texts that are meant as expressions: conditions, and the keys that a node evaluates itself.

use super::compile::Compiler;
use super::expressions::Place;
use crate::diag::Code;
use crate::template::Argument;
use crate::template::Expr;
use crate::template::ExprKind;
use crate::template::Part;
use crate::template::Template;
use crate::template::expression_of;
use crate::yaml::Tree;

impl Compiler<'_> {
    /// Compiles a condition. A written `true` or `false` is what it says; any other text would always hold.
    pub(super) fn condition(&mut self, tree: &Tree, place: &Place<'_>) -> Option<Template> {
        if let Some(word @ ("true" | "false")) = tree.as_text() {
            return Template::parse(&format!("{{{{ {word} }}}}")).ok();
        }
        let template = self.template(tree, place)?;
        if self.forgotten_braces(tree, place) {
            return Some(template);
        }
        let text = |part: &Part| matches!(part, Part::Text);
        let holds = match template.literal() {
            Some(text) => !text.is_empty(),
            // Text beside an expression is never empty, and what is not empty holds.
            None => template.parts().len() > 1 && template.parts().iter().any(text),
        };
        if holds {
            let message = "this condition always holds: it is a text, and not empty";
            self.warning(Code::AlwaysTrue, &tree.span, message).help =
                Some("write one expression, `\"{{ … }}\"`, with nothing around it".to_owned());
        }
        Some(template)
    }

    /// Says so where a text without braces reads as an expression over the names of its place.
    pub(super) fn forgotten_braces(&mut self, tree: &Tree, place: &Place<'_>) -> bool {
        let Some(text) = tree.as_text().filter(|text| !text.contains("{{") && !text.contains("{%")) else {
            return false;
        };
        let reads = |expr: &Expr| reads_root(expr, &place.roots);
        if !expression_of(text).is_some_and(|expr| reads(&expr)) {
            return false;
        }
        let text = text.trim().to_owned();
        let message = format!("`{text}` is a text here, though it reads as an expression");
        self.warning(Code::BareExpression, &tree.span, message).help = Some(format!("write `\"{{{{ {text} }}}}\"`"));
        true
    }
}

/// Tells whether an expression reads one of the roots.
fn reads_root(expr: &Expr, roots: &[&'static str]) -> bool {
    let any = |exprs: &[Expr]| exprs.iter().any(|expr| reads_root(expr, roots));
    let given = |arguments: &[Argument]| arguments.iter().any(|argument| reads_root(&argument.value, roots));
    match &expr.kind {
        ExprKind::Name(name) => roots.contains(&&**name),
        ExprKind::Constant(_) | ExprKind::Opaque => false,
        ExprKind::Member(inner, _) | ExprKind::Not(inner) | ExprKind::Negative(inner) => reads_root(inner, roots),
        ExprKind::Item(one, two) | ExprKind::Binary(_, one, two) => reads_root(one, roots) || reads_root(two, roots),
        ExprKind::Slice(inner, bounds) => reads_root(inner, roots) || any(bounds),
        ExprKind::Choice { condition, then, otherwise } => {
            let otherwise = otherwise.as_ref().is_some_and(|otherwise| reads_root(otherwise, roots));
            reads_root(condition, roots) || reads_root(then, roots) || otherwise
        }
        ExprKind::Filter { input, arguments, .. } => {
            input.as_ref().is_some_and(|input| reads_root(input, roots)) || given(arguments)
        }
        ExprKind::Test { input, arguments, .. } => reads_root(input, roots) || given(arguments),
        ExprKind::Call { arguments, .. } => given(arguments),
        ExprKind::List(items) => any(items),
        ExprKind::Map(entries) => entries.iter().any(|(key, value)| reads_root(key, roots) || reads_root(value, roots)),
    }
}
