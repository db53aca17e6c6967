//! Templates rewritten so that operators are filters of ours: syntax tree in, source out, names noted on the way.
//!
//! A filter and not a function, because `a|__add(b)|__add(c)` does not nest where `__add(__add(a, b), c)` does.

mod stmts;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use minijinja::machinery::Span;
use minijinja::machinery::ast::BinOpKind;
use minijinja::machinery::ast::CallArg;
use minijinja::machinery::ast::Compare;
use minijinja::machinery::ast::CompareOpKind;
use minijinja::machinery::ast::Expr;
use minijinja::machinery::ast::Filter;
use minijinja::machinery::ast::Spanned;
use minijinja::machinery::ast::UnaryOpKind;

use super::Reference;
use super::SyntaxError;
use super::guards::Path;
use super::guards::path_of;
use super::guards::proven;

/// How many names a template may bind at one place.
const MAX_BOUND: usize = 1_000;
/// How many files a template may include, counted once for each place.
const MAX_INCLUDES: usize = 250;
/// How many proven paths count at one place, innermost first: every name is compared with them.
const MAX_PROVEN: usize = 250;

/// Writes a template's syntax tree as source again.
pub(super) struct Rewriter<'s> {
    source: &'s str,
    pub(super) references: Vec<Reference>,
    /// Filters, tests and functions that are named, each with its place.
    pub(super) calls: Vec<(Callee, String, Range<usize>)>,
    /// Files that are included, each with its place and whether it may be missing.
    pub(super) includes: Vec<Include>,
    /// Names that the template itself binds, innermost block last: loop variables, `set`.
    bound: Vec<BTreeSet<String>>,
    /// Paths that the conditions around this place prove to be there.
    proven: Vec<Path>,
    /// How many values have been kept for a second reading.
    kept: usize,
    /// Whether what is missing is null.
    lenient: bool,
}

/// A file that a template includes.
#[derive(Clone, Debug)]
pub(super) struct Include {
    pub(super) name: String,
    pub(super) range: Range<usize>,
    pub(super) ignore_missing: bool,
    /// What is known at this place, and so in the file.
    pub(super) around: Around,
}

/// What a template knows at one place of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    /// Names that it binds there.
    pub(super) bound: BTreeSet<String>,
    /// Paths that the conditions around the place prove to be there.
    pub(super) proven: Vec<Path>,
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
        Self {
            source,
            references: Vec::new(),
            calls: Vec::new(),
            includes: Vec::new(),
            bound: vec![BTreeSet::new()],
            proven: Vec::new(),
            kept: 0,
            lenient: false,
        }
    }

    /// Writes what is missing as null, at any depth.
    pub(super) fn lenient(source: &'s str) -> Self {
        Self { lenient: true, ..Self::new(source) }
    }

    /// Writes an expression that filters and operators may follow; `operand` is for what members may follow.
    pub(super) fn expr(&mut self, expr: &Expr<'_>, out: &mut String) -> Written {
        match expr {
            Expr::Var(var) => {
                self.name(var.id, Vec::new(), range(var.span()), false);
                out.push_str(var.id);
            }
            Expr::Const(constant) => self.constant(constant.span(), &constant.value, out),
            Expr::Slice(slice) => {
                self.expr(&slice.expr, out)?;
                out.push_str("|__slice(");
                for (index, part) in [&slice.start, &slice.stop, &slice.step].into_iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    match part {
                        Some(part) => self.expr(part, out)?,
                        None => out.push_str("none"),
                    }
                }
                out.push(')');
            }
            Expr::UnaryOp(unary) => match unary.op {
                UnaryOpKind::Not => {
                    out.push_str("(not ");
                    self.expr(&unary.expr, out)?;
                    out.push(')');
                }
                UnaryOpKind::Neg => {
                    self.expr(&unary.expr, out)?;
                    out.push_str("|__neg");
                }
            },
            Expr::BinOp(binary) => self.binary(&binary.op, &binary.left, &binary.right, out)?,
            Expr::Compare(compare) => self.chained(compare, out)?,
            Expr::IfExpr(choice) => {
                out.push('(');
                self.under(proven(&choice.test_expr, true), |it| it.expr(&choice.true_expr, out))?;
                out.push_str(" if ");
                self.expr(&choice.test_expr, out)?;
                if let Some(otherwise) = &choice.false_expr {
                    out.push_str(" else ");
                    self.under(proven(&choice.test_expr, false), |it| it.expr(otherwise, out))?;
                } else if self.lenient {
                    out.push_str(" else none");
                }
                out.push(')');
            }
            Expr::Filter(filter) => self.filter(filter, out)?,
            Expr::Test(test) => {
                self.calls.push((Callee::Test, test.name.to_owned(), range(test.span())));
                out.push('(');
                match test.name {
                    "defined" | "undefined" | "none" => self.tolerant(&test.expr, out)?,
                    _ => self.expr(&test.expr, out)?,
                }
                out.push_str(" is ");
                out.push_str(match test.name {
                    "defined" if self.lenient => "not none",
                    "undefined" if self.lenient => "none",
                    name => name,
                });
                if !test.args.is_empty() {
                    self.arguments(&test.args, out)?;
                }
                out.push(')');
            }
            Expr::GetAttr(_) | Expr::GetItem(_) => self.access(expr, false, out)?,
            Expr::Call(call) => {
                match &call.expr {
                    Expr::Var(var) => {
                        self.calls.push((Callee::Function, var.id.to_owned(), range(var.span())));
                        out.push_str(var.id);
                    }
                    Expr::GetAttr(attr) if attr.name == "cycle" && is_loop(&attr.expr) => out.push_str("loop.cycle"),
                    callee => {
                        let message = "values have no methods; use a filter: `x | name(…)`".to_owned();
                        return Err(SyntaxError { message, range: range(callee.span()) });
                    }
                }
                self.arguments(&call.args, out)?;
            }
            Expr::List(list) => self.listed(&list.items, out)?,
            Expr::Tuple(tuple) => self.listed(&tuple.items, out)?,
            Expr::Map(map) => {
                // Names and values in turn: minijinja's own object would hash its keys, however large they are.
                out.push('[');
                for (index, (key, value)) in map.keys.iter().zip(&map.values).enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    self.expr(key, out)?;
                    out.push_str(", ");
                    self.expr(value, out)?;
                }
                out.push_str("]|__map");
            }
        }
        Ok(())
    }

    /// Writes an expression behind which `.member`, `[…]` and `(…)` mean the whole of it.
    fn operand(&mut self, expr: &Expr<'_>, out: &mut String) -> Written {
        if matches!(expr, Expr::Var(_) | Expr::GetAttr(_) | Expr::GetItem(_)) {
            return self.expr(expr, out);
        }
        out.push('(');
        self.expr(expr, out)?;
        out.push(')');
        Ok(())
    }

    /// Writes something while more is proven to be there.
    fn under(&mut self, paths: Vec<Path>, write: impl FnOnce(&mut Self) -> Written) -> Written {
        let before = self.proven.len();
        self.proven.extend(paths);
        let written = write(self);
        self.proven.truncate(before);
        written
    }

    fn constant(&mut self, span: Span, value: &minijinja::Value, out: &mut String) {
        if let Some(text) = value.as_str() {
            return quote(text, out);
        }
        if value.is_none() {
            return out.push_str("none");
        }
        let digits = self.source.get(range(span)).unwrap_or_default().replace('_', "");
        let is_decimal = digits.starts_with(|letter: char| letter.is_ascii_digit()) && !digits.starts_with("0x");
        let is_exact = value.is_integer() && value.as_i64().is_some();
        if value.kind() == minijinja::value::ValueKind::Number && !is_exact && is_decimal {
            // The lexer made a binary float of it; the digits still stand in the source.
            out.push_str(&format!("'{digits}'|__decimal"));
        } else {
            out.push_str(&value.to_string());
        }
    }

    fn binary(&mut self, op: &BinOpKind, left: &Expr<'_>, right: &Expr<'_>, out: &mut String) -> Written {
        let filter = match op {
            BinOpKind::ScAnd | BinOpKind::ScOr => return self.logical(op, left, right, out),
            BinOpKind::Concat => return self.concatenated(left, right, out),
            BinOpKind::Add => "|__add(",
            BinOpKind::Sub => "|__sub(",
            BinOpKind::Mul => "|__mul(",
            BinOpKind::Div => "|__div(",
            BinOpKind::FloorDiv => "|__floordiv(",
            BinOpKind::Rem => "|__rem(",
            BinOpKind::Pow => "|__pow(",
            BinOpKind::Eq => "|__eq(",
            BinOpKind::Ne => "|__ne(",
            BinOpKind::Lt => "|__lt(",
            BinOpKind::Lte => "|__le(",
            BinOpKind::Gt => "|__gt(",
            BinOpKind::Gte => "|__ge(",
            BinOpKind::In => "|__in(",
        };
        self.expr(left, out)?;
        out.push_str(filter);
        self.expr(right, out)?;
        out.push(')');
        Ok(())
    }

    /// Writes `and` and `or`; a chain of the same word needs no parentheses inside.
    fn logical(&mut self, op: &BinOpKind, left: &Expr<'_>, right: &Expr<'_>, out: &mut String) -> Written {
        let is_and = matches!(op, BinOpKind::ScAnd);
        let mut sides = vec![right];
        let mut first = left;
        while let Expr::BinOp(inner) = first
            && matches!((&inner.op, is_and), (BinOpKind::ScAnd, true) | (BinOpKind::ScOr, false))
        {
            sides.push(&inner.right);
            first = &inner.left;
        }
        sides.push(first);
        let before = self.proven.len();
        out.push('(');
        for (index, side) in sides.into_iter().rev().enumerate() {
            if index > 0 {
                out.push_str(if is_and { " and " } else { " or " });
            }
            self.expr(side, out)?;
            // The next side is only read where this one came out so.
            self.proven.extend(proven(side, is_and));
        }
        self.proven.truncate(before);
        out.push(')');
        Ok(())
    }

    fn concatenated(&mut self, left: &Expr<'_>, right: &Expr<'_>, out: &mut String) -> Written {
        let mut parts = vec![right];
        let mut first = left;
        while let Expr::BinOp(inner) = first
            && matches!(inner.op, BinOpKind::Concat)
        {
            parts.push(&inner.right);
            first = &inner.left;
        }
        self.expr(first, out)?;
        out.push_str("|__concat(");
        for (index, part) in parts.into_iter().rev().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            self.expr(part, out)?;
        }
        out.push(')');
        Ok(())
    }

    /// `a < b < c` holds when both hold. The middle is evaluated once and kept: written twice, a chain in the middle of
    /// a chain would double the text at every level.
    fn chained(&mut self, compare: &Compare<'_>, out: &mut String) -> Written {
        out.push('(');
        self.expr(&compare.expr, out)?;
        for (index, op) in compare.ops.iter().enumerate() {
            // Where `not` stands in front, the operand that is already written moves behind it.
            let call = match op.op {
                CompareOpKind::Eq => "|__eq(",
                CompareOpKind::Ne => "|__ne(",
                CompareOpKind::Lt => "|__lt(",
                CompareOpKind::Lte => "|__le(",
                CompareOpKind::Gt => "|__gt(",
                CompareOpKind::Gte => "|__ge(",
                CompareOpKind::In => "|__in(",
                CompareOpKind::NotIn => "|__notin(",
            };
            out.push_str(call);
            self.expr(&op.expr, out)?;
            if index + 1 < compare.ops.len() {
                self.kept += 1;
                out.push_str(&format!("|__keep({kept})) and {kept}|__kept", kept = self.kept));
            } else {
                out.push(')');
            }
        }
        out.push(')');
        Ok(())
    }

    fn filter(&mut self, filter: &Spanned<Filter<'_>>, out: &mut String) -> Written {
        self.calls.push((Callee::Filter, filter.name.to_owned(), range(filter.span())));
        let Some(inner) = &filter.expr else {
            return Err(refused("`filter` blocks", range(filter.span())));
        };
        match filter.name {
            "default" | "d" => self.tolerant(inner, out)?,
            _ => self.expr(inner, out)?,
        }
        out.push('|');
        out.push_str(filter.name);
        if !filter.args.is_empty() {
            self.arguments(&filter.args, out)?;
        }
        Ok(())
    }

    /// Writes an expression of which every member may be missing.
    fn tolerant(&mut self, expr: &Expr<'_>, out: &mut String) -> Written {
        match expr {
            Expr::Var(var) => {
                self.name(var.id, Vec::new(), range(var.span()), true);
                out.push_str(var.id);
                Ok(())
            }
            Expr::GetAttr(_) | Expr::GetItem(_) => self.access(expr, true, out),
            _ => self.expr(expr, out),
        }
    }

    fn listed(&mut self, items: &[Expr<'_>], out: &mut String) -> Written {
        out.push('[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            self.expr(item, out)?;
        }
        out.push_str("]|__list");
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
                // It would copy an object of any size for nothing.
                CallArg::KwargSplat(inner) => {
                    return Err(refused("arguments from an object (`**`)", range(inner.span())));
                }
            };
            self.expr(inner, out)?;
        }
        out.push(')');
        Ok(())
    }

    /// Writes `a.b['c'][0]` and notes the literal keys behind the name.
    fn access(&mut self, expr: &Expr<'_>, tolerant: bool, out: &mut String) -> Written {
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
            let is_optional = tolerant || path_of(expr).is_some_and(|path| self.is_proven(&path));
            self.name(var.id, literal, place, is_optional);
            out.push_str(var.id);
        } else {
            self.operand(inner, out)?;
        }
        self.keys(expr, tolerant, out)
    }

    fn keys(&mut self, expr: &Expr<'_>, tolerant: bool, out: &mut String) -> Written {
        match expr {
            Expr::GetAttr(attr) => {
                self.keys(&attr.expr, tolerant, out)?;
                if tolerant || self.lenient {
                    out.push_str(if self.lenient { "|__find(" } else { "|__get(" });
                    quote(attr.name, out);
                    out.push(')');
                } else {
                    out.push('.');
                    out.push_str(attr.name);
                }
                Ok(())
            }
            Expr::GetItem(item) => {
                self.keys(&item.expr, tolerant, out)?;
                let filter = if self.lenient { Some("|__find(") } else { tolerant.then_some("|__get(") };
                out.push_str(filter.unwrap_or("["));
                self.expr(&item.subscript_expr, out)?;
                out.push(if filter.is_some() { ')' } else { ']' });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Notes that the innermost block binds these names.
    fn bind(&mut self, names: Vec<String>, place: Range<usize>) -> Written {
        if let Some(innermost) = self.bound.last_mut() {
            innermost.extend(names);
        }
        if self.bound.iter().map(BTreeSet::len).sum::<usize>() > MAX_BOUND {
            let message = format!("more than {MAX_BOUND} names are bound at one place");
            return Err(SyntaxError { message, range: place });
        }
        Ok(())
    }

    fn is_proven(&self, path: &[String]) -> bool {
        self.proven.iter().rev().take(MAX_PROVEN).any(|proven| path.starts_with(proven))
    }

    fn name(&mut self, name: &str, keys: Vec<String>, range: Range<usize>, optional: bool) {
        if self.bound.iter().any(|names| names.contains(name)) {
            return;
        }
        let path: Vec<String> = std::iter::once(name.to_owned()).chain(keys).collect();
        let optional = optional || self.is_proven(&path);
        let path = path.into_iter().map(Arc::from).collect();
        self.references.push(Reference { path, range, optional });
    }
}

fn is_loop(expr: &Expr<'_>) -> bool {
    matches!(expr, Expr::Var(var) if var.id == "loop")
}

fn refused(what: &str, range: Range<usize>) -> SyntaxError {
    SyntaxError { message: format!("{what} are not supported"), range }
}

pub(super) fn range(span: Span) -> Range<usize> {
    let number = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
    number(span.start_offset)..number(span.end_offset)
}

/// Returns a place as bytes of the text: the lexer's may reach behind the end, or into the middle of a letter.
pub(super) fn within(source: &str, range: Range<usize>) -> Range<usize> {
    let start = source.floor_char_boundary(range.start);
    start..source.ceil_char_boundary(range.end).max(start)
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
