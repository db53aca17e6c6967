//! Statements, rewritten: what a prompt or a longer text is made of.

use std::collections::BTreeSet;
use std::ops::Range;

use minijinja::machinery::ast::Expr;
use minijinja::machinery::ast::ForLoop;
use minijinja::machinery::ast::IfCond;
use minijinja::machinery::ast::Stmt;

use super::Around;
use super::Include;
use super::MAX_INCLUDES;
use super::MAX_PROVEN;
use super::Rewriter;
use super::Written;
use super::proven;
use super::quote;
use super::range;
use super::refused;
use crate::template::SyntaxError;

impl Rewriter<'_> {
    /// Writes statements.
    pub(in crate::template) fn stmts(&mut self, stmts: &[Stmt<'_>], out: &mut String) -> Written {
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
            Stmt::ForLoop(lp) => self.for_loop(lp, range(lp.span()), out)?,
            Stmt::IfCond(cond) => {
                out.push_str("{% if ");
                let before = self.proven.len();
                self.branches(cond, out)?;
                self.proven.truncate(before);
                out.push_str("{% endif %}");
            }
            Stmt::Set(set) => {
                let mut value = String::new();
                self.expr(&set.expr, &mut value)?;
                out.push_str("{% set ");
                let names = target(&set.target, out)?;
                self.bind(names, range(set.span()))?;
                out.push_str(&format!(" = {value} %}}"));
            }
            Stmt::Include(include) => {
                let place = range(include.span());
                let name = match &include.name {
                    Expr::Const(constant) => constant.value.as_str().map(str::to_owned),
                    _ => None,
                };
                let Some(name) = name else { return Err(refused("includes with a computed name", place)) };
                out.push_str("{% include ");
                quote(&name, out);
                if include.ignore_missing {
                    out.push_str(" ignore missing");
                }
                out.push_str(" %}");
                if self.includes.len() >= MAX_INCLUDES {
                    let message = format!("more than {MAX_INCLUDES} places where files are included");
                    return Err(SyntaxError { message, range: place });
                }
                let proven = self.proven.iter().rev().take(MAX_PROVEN).cloned().collect();
                let around = Around { bound: self.bound.iter().flatten().cloned().collect(), proven };
                self.includes.push(Include { name, range: place, ignore_missing: include.ignore_missing, around });
            }
            Stmt::Continue(_) => out.push_str("{% continue %}"),
            Stmt::Break(_) => out.push_str("{% break %}"),
            Stmt::WithBlock(block) => return Err(refused("`with` blocks", range(block.span()))),
            Stmt::SetBlock(block) => return Err(refused("`set` blocks", range(block.span()))),
            Stmt::AutoEscape(block) => return Err(refused("`autoescape` blocks", range(block.span()))),
            Stmt::FilterBlock(block) => return Err(refused("`filter` blocks", range(block.span()))),
            Stmt::Block(block) => return Err(no_inheritance("block", range(block.span()))),
            Stmt::Extends(extends) => return Err(no_inheritance("extends", range(extends.span()))),
            Stmt::Import(import) => return Err(no_import(range(import.span()))),
            Stmt::FromImport(import) => return Err(no_import(range(import.span()))),
            Stmt::Macro(macro_) => return Err(refused("macros", range(macro_.span()))),
            Stmt::CallBlock(call) => return Err(refused("`call` blocks", range(call.span()))),
            Stmt::Do(call) => return Err(refused("`do` statements", range(call.span()))),
        }
        Ok(())
    }

    fn for_loop(&mut self, lp: &ForLoop<'_>, place: Range<usize>, out: &mut String) -> Written {
        if lp.recursive {
            return Err(refused("recursive loops", place));
        }
        out.push_str("{% for ");
        let names = target(&lp.target, out)?;
        out.push_str(" in ");
        self.expr(&lp.iter, out)?;
        self.bound.push(BTreeSet::from(["loop".to_owned()]));
        self.bind(names, place)?;
        let before = self.proven.len();
        if let Some(filter) = &lp.filter_expr {
            out.push_str(" if ");
            self.expr(filter, out)?;
            self.proven.extend(proven(filter, true));
        }
        out.push_str(" %}");
        self.stmts(&lp.body, out)?;
        self.proven.truncate(before);
        self.bound.pop();
        if !lp.else_body.is_empty() {
            out.push_str("{% else %}");
            self.stmts(&lp.else_body, out)?;
        }
        out.push_str("{% endfor %}");
        Ok(())
    }

    /// Writes what stands behind `if` or `elif`; what the conditions before it prove stays proven.
    fn branches(&mut self, cond: &IfCond<'_>, out: &mut String) -> Written {
        self.expr(&cond.expr, out)?;
        out.push_str(" %}");
        self.under(proven(&cond.expr, true), |it| it.stmts(&cond.true_body, out))?;
        self.proven.extend(proven(&cond.expr, false));
        match cond.false_body.as_slice() {
            [] => Ok(()),
            // As `elif`, so that a long chain does not nest deeper than it was written.
            [Stmt::IfCond(next)] => {
                out.push_str("{% elif ");
                self.branches(next, out)
            }
            otherwise => {
                out.push_str("{% else %}");
                self.stmts(otherwise, out)
            }
        }
    }
}

fn no_inheritance(word: &str, range: Range<usize>) -> SyntaxError {
    let message =
        format!("`{word}` is not supported: a file cannot extend another; put the common part in with `include`");
    SyntaxError { message, range }
}

fn no_import(range: Range<usize>) -> SyntaxError {
    SyntaxError { message: "`import` is not supported: put the other file in with `include`".to_owned(), range }
}

/// Writes the target of a loop or `set` and returns its names.
fn target(expr: &Expr<'_>, out: &mut String) -> Result<Vec<String>, SyntaxError> {
    let items = match expr {
        Expr::Var(var) => {
            out.push_str(var.id);
            return Ok(vec![var.id.to_owned()]);
        }
        Expr::List(list) => &list.items,
        Expr::Tuple(tuple) => &tuple.items,
        other => return Err(refused("assignments to anything but a name", range(other.span()))),
    };
    let mut names = Vec::new();
    out.push('(');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        names.extend(target(item, out)?);
    }
    // The comma keeps a list of one name a list.
    out.push_str(if items.len() == 1 { ",)" } else { ")" });
    Ok(names)
}

fn raw_text(text: &str, out: &mut String) {
    // A brace at the end would join the one that the next expression begins with.
    if text.contains("{{") || text.contains("{%") || text.contains("{#") || text.ends_with('{') {
        out.push_str("{{ ");
        quote(text, out);
        out.push_str(" }}");
        return;
    }
    out.push_str(text);
}
