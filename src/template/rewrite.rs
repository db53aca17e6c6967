//! Templates rewritten so that operators are calls of ours: syntax tree in, source out, names noted on the way.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use minijinja::machinery::Span;
use minijinja::machinery::ast::BinOpKind;
use minijinja::machinery::ast::CallArg;
use minijinja::machinery::ast::CompareOpKind;
use minijinja::machinery::ast::Expr;
use minijinja::machinery::ast::Stmt;
use minijinja::machinery::ast::UnaryOpKind;

use super::Reference;
use super::SyntaxError;

/// Writes a template's syntax tree as source again.
pub(super) struct Rewriter<'s> {
    source: &'s str,
    pub(super) references: Vec<Reference>,
    /// Filters, tests and functions that are named, each with its place.
    pub(super) calls: Vec<(Callee, String, Range<usize>)>,
    /// Names that the template itself binds: loop variables, `set`.
    bound: Vec<BTreeSet<String>>,
}

/// What kind of thing is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callee {
    Filter,
    Test,
    Function,
}

type Written = Result<(), SyntaxError>;

impl<'s> Rewriter<'s> {
    pub(super) fn new(source: &'s str) -> Self {
        Self { source, references: Vec::new(), calls: Vec::new(), bound: Vec::new() }
    }

    /// Writes an expression, every operation in parentheses.
    pub(super) fn expr(&mut self, expr: &Expr<'_>, out: &mut String) -> Written {
        match expr {
            Expr::Var(var) => {
                self.name(var.id, Vec::new(), range(var.span()));
                out.push_str(var.id);
            }
            Expr::Const(constant) => self.constant(constant.span(), &constant.value, out),
            Expr::Slice(slice) => {
                self.expr(&slice.expr, out)?;
                out.push('[');
                for (index, part) in [&slice.start, &slice.stop, &slice.step].into_iter().enumerate() {
                    if index > 0 && (index < 2 || part.is_some()) {
                        out.push(':');
                    }
                    if let Some(part) = part {
                        self.expr(part, out)?;
                    }
                }
                out.push(']');
            }
            Expr::UnaryOp(unary) => {
                out.push_str(match unary.op {
                    UnaryOpKind::Not => "(not ",
                    UnaryOpKind::Neg => "__neg(",
                });
                self.expr(&unary.expr, out)?;
                out.push(')');
            }
            Expr::BinOp(binary) => self.binary(binary.op_kind(), &binary.left, &binary.right, out)?,
            Expr::Compare(compare) => {
                // `a < b < c` holds when both hold; the middle is written twice, which is the same: nothing has effects.
                let mut left = &compare.expr;
                for (index, op) in compare.ops.iter().enumerate() {
                    out.push_str(if index > 0 { " and " } else { "(" });
                    let call = match op.op {
                        CompareOpKind::Eq => "__eq(",
                        CompareOpKind::Ne => "__ne(",
                        CompareOpKind::Lt => "__lt(",
                        CompareOpKind::Lte => "__le(",
                        CompareOpKind::Gt => "__gt(",
                        CompareOpKind::Gte => "__ge(",
                        CompareOpKind::In => "__in(",
                        CompareOpKind::NotIn => "not __in(",
                    };
                    out.push_str(call);
                    self.expr(left, out)?;
                    out.push_str(", ");
                    self.expr(&op.expr, out)?;
                    out.push(')');
                    left = &op.expr;
                }
                out.push(')');
            }
            Expr::IfExpr(choice) => {
                out.push('(');
                self.expr(&choice.true_expr, out)?;
                out.push_str(" if ");
                self.expr(&choice.test_expr, out)?;
                if let Some(otherwise) = &choice.false_expr {
                    out.push_str(" else ");
                    self.expr(otherwise, out)?;
                }
                out.push(')');
            }
            Expr::Filter(filter) => {
                self.calls.push((Callee::Filter, filter.name.to_owned(), range(filter.span())));
                if let Some(inner) = &filter.expr {
                    out.push('(');
                    self.expr(inner, out)?;
                    out.push('|');
                }
                out.push_str(filter.name);
                self.arguments(&filter.args, out)?;
                if filter.expr.is_some() {
                    out.push(')');
                }
            }
            Expr::Test(test) => {
                self.calls.push((Callee::Test, test.name.to_owned(), range(test.span())));
                out.push('(');
                self.expr(&test.expr, out)?;
                out.push_str(" is ");
                out.push_str(test.name);
                if !test.args.is_empty() {
                    self.arguments(&test.args, out)?;
                }
                out.push(')');
            }
            Expr::GetAttr(_) | Expr::GetItem(_) => self.access(expr, out)?,
            Expr::Call(call) => {
                if let Expr::Var(var) = &call.expr {
                    self.calls.push((Callee::Function, var.id.to_owned(), range(var.span())));
                    out.push_str(var.id);
                } else {
                    self.expr(&call.expr, out)?;
                }
                self.arguments(&call.args, out)?;
            }
            Expr::List(list) => {
                out.push('[');
                self.listed(&list.items, out)?;
                out.push(']');
            }
            Expr::Tuple(tuple) => {
                out.push('(');
                self.listed(&tuple.items, out)?;
                out.push_str(if tuple.items.len() == 1 { ",)" } else { ")" });
            }
            Expr::Map(map) => {
                out.push('{');
                for (index, (key, value)) in map.keys.iter().zip(&map.values).enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    self.expr(key, out)?;
                    out.push_str(": ");
                    self.expr(value, out)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }

    fn constant(&mut self, span: Span, value: &minijinja::Value, out: &mut String) {
        let text = self.source.get(range(span)).unwrap_or_default();
        if value.kind() == minijinja::value::ValueKind::Number && !value.is_integer() {
            // The lexer made a binary float of it; the digits still stand in the source.
            out.push_str(&format!("__decimal('{}')", text.replace('_', "")));
        } else if let Some(text) = value.as_str() {
            quote(text, out);
        } else if value.is_none() {
            out.push_str("none");
        } else {
            out.push_str(&value.to_string());
        }
    }

    fn binary(&mut self, op: BinOpKind, left: &Expr<'_>, right: &Expr<'_>, out: &mut String) -> Written {
        let (open, between) = match op {
            BinOpKind::ScAnd => ("(", " and "),
            BinOpKind::ScOr => ("(", " or "),
            BinOpKind::Add => ("__add(", ", "),
            BinOpKind::Sub => ("__sub(", ", "),
            BinOpKind::Mul => ("__mul(", ", "),
            BinOpKind::Div => ("__div(", ", "),
            BinOpKind::FloorDiv => ("__floordiv(", ", "),
            BinOpKind::Rem => ("__rem(", ", "),
            BinOpKind::Pow => ("__pow(", ", "),
            BinOpKind::Concat => ("__concat(", ", "),
            BinOpKind::Eq => ("__eq(", ", "),
            BinOpKind::Ne => ("__ne(", ", "),
            BinOpKind::Lt => ("__lt(", ", "),
            BinOpKind::Lte => ("__le(", ", "),
            BinOpKind::Gt => ("__gt(", ", "),
            BinOpKind::Gte => ("__ge(", ", "),
            BinOpKind::In => ("__in(", ", "),
        };
        out.push_str(open);
        self.expr(left, out)?;
        out.push_str(between);
        self.expr(right, out)?;
        out.push(')');
        Ok(())
    }

    fn listed(&mut self, items: &[Expr<'_>], out: &mut String) -> Written {
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            self.expr(item, out)?;
        }
        Ok(())
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>], out: &mut String) -> Written {
        out.push('(');
        for (index, argument) in arguments.iter().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            let inner = match argument {
                CallArg::Pos(inner) => inner,
                CallArg::Kwarg(name, inner) => {
                    out.push_str(name);
                    out.push('=');
                    inner
                }
                CallArg::PosSplat(inner) => {
                    out.push('*');
                    inner
                }
                CallArg::KwargSplat(inner) => {
                    out.push_str("**");
                    inner
                }
            };
            self.expr(inner, out)?;
        }
        out.push(')');
        Ok(())
    }

    /// Writes `a.b['c'][0]` and notes the literal keys behind the name.
    fn access(&mut self, expr: &Expr<'_>, out: &mut String) -> Written {
        let mut keys = Vec::new();
        let mut inner = expr;
        let mut literal_from = 0;
        loop {
            match inner {
                Expr::GetAttr(attr) => {
                    keys.push(attr.name.to_owned());
                    inner = &attr.expr;
                }
                Expr::GetItem(item) => {
                    match &item.subscript_expr {
                        Expr::Const(constant) if constant.value.as_str().is_some() => {
                            keys.push(constant.value.as_str().unwrap_or_default().to_owned());
                        }
                        _ => {
                            // What stands behind a computed key is not known by name.
                            keys.push(String::new());
                            literal_from = keys.len();
                        }
                    }
                    inner = &item.expr;
                }
                _ => break,
            }
        }
        if let Expr::Var(var) = inner {
            let literal: Vec<_> = keys.iter().skip(literal_from).rev().cloned().collect();
            let place = range(var.span()).start..range(expr.span()).end;
            self.name(var.id, literal, place);
            out.push_str(var.id);
            return self.keys(expr, out);
        }
        self.expr(inner, out)?;
        self.keys(expr, out)
    }

    fn keys(&mut self, expr: &Expr<'_>, out: &mut String) -> Written {
        match expr {
            Expr::GetAttr(attr) => {
                self.keys(&attr.expr, out)?;
                out.push('.');
                out.push_str(attr.name);
                Ok(())
            }
            Expr::GetItem(item) => {
                self.keys(&item.expr, out)?;
                out.push('[');
                self.expr(&item.subscript_expr, out)?;
                out.push(']');
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn name(&mut self, name: &str, keys: Vec<String>, range: Range<usize>) {
        if self.bound.iter().any(|names| names.contains(name)) {
            return;
        }
        let path = std::iter::once(name.to_owned()).chain(keys).map(Arc::from).collect();
        self.references.push(Reference { path, range });
    }

    /// Writes statements: what a prompt or a longer text is made of.
    pub(super) fn stmts(&mut self, stmts: &[Stmt<'_>], out: &mut String) -> Written {
        for stmt in stmts {
            self.stmt(stmt, out)?;
        }
        Ok(())
    }

    fn stmt(&mut self, stmt: &Stmt<'_>, out: &mut String) -> Written {
        match stmt {
            Stmt::Template(template) => self.stmts(&template.children, out)?,
            Stmt::EmitRaw(raw) => raw_text(raw.raw, out),
            Stmt::EmitExpr(emit) => {
                out.push_str("{{ ");
                self.expr(&emit.expr, out)?;
                out.push_str(" }}");
            }
            Stmt::ForLoop(lp) => {
                if lp.recursive {
                    return Err(refused("recursive loops", range(lp.span())));
                }
                out.push_str("{% for ");
                let names = target(&lp.target, out);
                out.push_str(" in ");
                self.expr(&lp.iter, out)?;
                self.bound.push(names.into_iter().chain(["loop".to_owned()]).collect());
                if let Some(filter) = &lp.filter_expr {
                    out.push_str(" if ");
                    self.expr(filter, out)?;
                }
                out.push_str(" %}");
                self.stmts(&lp.body, out)?;
                if !lp.else_body.is_empty() {
                    out.push_str("{% else %}");
                    self.stmts(&lp.else_body, out)?;
                }
                self.bound.pop();
                out.push_str("{% endfor %}");
            }
            Stmt::IfCond(cond) => {
                out.push_str("{% if ");
                self.expr(&cond.expr, out)?;
                out.push_str(" %}");
                self.stmts(&cond.true_body, out)?;
                if !cond.false_body.is_empty() {
                    out.push_str("{% else %}");
                    self.stmts(&cond.false_body, out)?;
                }
                out.push_str("{% endif %}");
            }
            Stmt::Set(set) => {
                let mut value = String::new();
                self.expr(&set.expr, &mut value)?;
                out.push_str("{% set ");
                let names = target(&set.target, out);
                self.bound.push(names.into_iter().collect());
                out.push_str(&format!(" = {value} %}}"));
            }
            Stmt::Include(include) => {
                out.push_str("{% include ");
                match &include.name {
                    Expr::Const(constant) if constant.value.as_str().is_some() => {
                        quote(constant.value.as_str().unwrap_or_default(), out);
                    }
                    _ => return Err(refused("includes with a computed name", range(include.span()))),
                }
                if include.ignore_missing {
                    out.push_str(" ignore missing");
                }
                out.push_str(" %}");
            }
            Stmt::Continue(_) => out.push_str("{% continue %}"),
            Stmt::Break(_) => out.push_str("{% break %}"),
            Stmt::WithBlock(block) => return Err(refused("`with` blocks", range(block.span()))),
            Stmt::SetBlock(block) => return Err(refused("`set` blocks", range(block.span()))),
            Stmt::AutoEscape(block) => return Err(refused("`autoescape` blocks", range(block.span()))),
            Stmt::FilterBlock(block) => return Err(refused("`filter` blocks", range(block.span()))),
            Stmt::Block(block) => return Err(refused("`block`", range(block.span()))),
            Stmt::Import(import) => return Err(refused("`import`", range(import.span()))),
            Stmt::FromImport(import) => return Err(refused("`import`", range(import.span()))),
            Stmt::Extends(extends) => return Err(refused("`extends`", range(extends.span()))),
            Stmt::Macro(macro_) => return Err(refused("macros", range(macro_.span()))),
            Stmt::CallBlock(call) => return Err(refused("`call` blocks", range(call.span()))),
            Stmt::Do(call) => return Err(refused("`do`", range(call.span()))),
        }
        Ok(())
    }
}

/// `BinOp`'s kind by value: the tree only lends it.
trait Kind {
    fn op_kind(&self) -> BinOpKind;
}

impl Kind for minijinja::machinery::ast::BinOp<'_> {
    fn op_kind(&self) -> BinOpKind {
        match self.op {
            BinOpKind::Eq => BinOpKind::Eq,
            BinOpKind::Ne => BinOpKind::Ne,
            BinOpKind::Lt => BinOpKind::Lt,
            BinOpKind::Lte => BinOpKind::Lte,
            BinOpKind::Gt => BinOpKind::Gt,
            BinOpKind::Gte => BinOpKind::Gte,
            BinOpKind::ScAnd => BinOpKind::ScAnd,
            BinOpKind::ScOr => BinOpKind::ScOr,
            BinOpKind::Add => BinOpKind::Add,
            BinOpKind::Sub => BinOpKind::Sub,
            BinOpKind::Mul => BinOpKind::Mul,
            BinOpKind::Div => BinOpKind::Div,
            BinOpKind::FloorDiv => BinOpKind::FloorDiv,
            BinOpKind::Rem => BinOpKind::Rem,
            BinOpKind::Pow => BinOpKind::Pow,
            BinOpKind::Concat => BinOpKind::Concat,
            BinOpKind::In => BinOpKind::In,
        }
    }
}

fn refused(what: &str, range: Range<usize>) -> SyntaxError {
    SyntaxError { message: format!("{what} are not supported"), range }
}

pub(super) fn range(span: Span) -> Range<usize> {
    let number = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
    number(span.start_offset)..number(span.end_offset)
}

/// Writes the target of a loop or `set` and returns its names.
fn target(expr: &Expr<'_>, out: &mut String) -> Vec<String> {
    let items = match expr {
        Expr::Var(var) => {
            out.push_str(var.id);
            return vec![var.id.to_owned()];
        }
        Expr::List(list) => &list.items,
        Expr::Tuple(tuple) => &tuple.items,
        _ => return Vec::new(),
    };
    let mut names = Vec::new();
    out.push('(');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        names.extend(target(item, out));
    }
    out.push(')');
    names
}

fn raw_text(text: &str, out: &mut String) {
    if text.contains("{{") || text.contains("{%") || text.contains("{#") {
        out.push_str("{{ ");
        quote(text, out);
        out.push_str(" }}");
        return;
    }
    out.push_str(text);
}

/// Writes a string literal.
pub(super) fn quote(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if letter < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out.push('"');
}
