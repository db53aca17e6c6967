//! What a condition proves: the paths that are there where it holds.

use minijinja::machinery::ast::BinOpKind;
use minijinja::machinery::ast::Expr;
use minijinja::machinery::ast::UnaryOpKind;

/// A root and the keys behind it.
pub(super) type Path = Vec<String>;

/// Returns the paths that are there when the condition comes out as `outcome`.
pub(super) fn proven(condition: &Expr<'_>, outcome: bool) -> Vec<Path> {
    match condition {
        Expr::UnaryOp(unary) if matches!(unary.op, UnaryOpKind::Not) => proven(&unary.expr, !outcome),
        Expr::BinOp(binary) => match (&binary.op, outcome) {
            // Both sides of an `and` hold when it holds; both sides of an `or` fail when it fails.
            (BinOpKind::ScAnd, true) | (BinOpKind::ScOr, false) => {
                let mut paths = proven(&binary.left, outcome);
                paths.extend(proven(&binary.right, outcome));
                paths
            }
            (BinOpKind::Eq, true) | (BinOpKind::Ne, false) => succeeded(&binary.left, &binary.right)
                .or_else(|| succeeded(&binary.right, &binary.left))
                .into_iter()
                .collect(),
            _ => Vec::new(),
        },
        Expr::Test(test) => match (test.name, outcome) {
            ("defined", true) | ("undefined" | "none", false) => path_of(&test.expr).into_iter().collect(),
            _ => Vec::new(),
        },
        // What counts as true is there.
        Expr::Filter(filter) if matches!(filter.name, "default" | "d") && is_false(&filter.args) && outcome => {
            filter.expr.as_ref().and_then(path_of).into_iter().collect()
        }
        Expr::Var(_) | Expr::GetAttr(_) | Expr::GetItem(_) if outcome => path_of(condition).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Returns the path of an expression that is a name and literal keys.
pub(super) fn path_of(expr: &Expr<'_>) -> Option<Path> {
    let mut keys = Vec::new();
    let mut inner = expr;
    loop {
        match inner {
            Expr::Var(var) => {
                keys.push(var.id.to_owned());
                keys.reverse();
                return Some(keys);
            }
            Expr::GetAttr(attr) => {
                keys.push(attr.name.to_owned());
                inner = &attr.expr;
            }
            Expr::GetItem(item) => {
                let Expr::Const(constant) = &item.subscript_expr else { return None };
                keys.push(constant.value.to_string());
                inner = &item.expr;
            }
            _ => return None,
        }
    }
}

/// `steps.ID.state == 'succeeded'` proves the output of that step.
fn succeeded(state: &Expr<'_>, word: &Expr<'_>) -> Option<Path> {
    let Expr::Const(constant) = word else { return None };
    let path = path_of(state)?;
    match path.as_slice() {
        [steps, id, state] if steps == "steps" && state == "state" && constant.value.as_str() == Some("succeeded") => {
            Some(vec![steps.clone(), id.clone(), "output".to_owned()])
        }
        _ => None,
    }
}

/// Tells whether the arguments of `default` put something in the place that counts as false.
fn is_false(arguments: &[minijinja::machinery::ast::CallArg<'_>]) -> bool {
    use minijinja::machinery::ast::CallArg;
    match arguments.first() {
        None => true,
        Some(CallArg::Pos(Expr::Const(constant))) => !constant.value.is_true(),
        Some(_) => false,
    }
}
