//! What a template is made of, as a small tree of our own: from it the checker infers types.

use std::ops::Range;
use std::sync::Arc;

use minijinja::machinery;
use minijinja::machinery::ast;
use minijinja::machinery::ast::BinOpKind;
use minijinja::machinery::ast::CallArg;
use minijinja::machinery::ast::CompareOpKind;
use minijinja::machinery::ast::Stmt;
use minijinja::machinery::ast::UnaryOpKind;

use super::Template;
use super::rewrite::range;
use super::value::from_jinja;
use crate::model::Value;
use crate::model::parse_number;

/// How deep an expression is told; what lies deeper is opaque.
const MAX_DEPTH: usize = 100;

/// A part of a template.
#[derive(Clone, Debug)]
pub enum Part {
    /// Text that is written as it stands.
    Text,
    /// `{{ … }}`.
    Value(Expr),
    /// `{% for … %}`; a target that takes items apart binds several names.
    Loop { names: Vec<Arc<str>>, list: Expr, filter: Option<Expr>, body: Vec<Part>, otherwise: Vec<Part> },
    /// `{% if … %}`.
    Choice { condition: Expr, then: Vec<Part>, otherwise: Vec<Part> },
    /// `{% set … %}`.
    Set { names: Vec<Arc<str>>, value: Expr },
    /// What gives nothing that has a type.
    Other,
}

/// An expression, with its bytes in the template's source.
#[derive(Clone, Debug)]
pub struct Expr {
    pub kind: ExprKind,
    pub range: Range<usize>,
}

/// A form of expression.
#[derive(Clone, Debug)]
pub enum ExprKind {
    Name(Arc<str>),
    Constant(Value),
    /// `x.key` and `x['key']`.
    Member(Box<Expr>, Arc<str>),
    /// `x[…]` with a key that is no literal text.
    Item(Box<Expr>, Box<Expr>),
    /// `x[a:b]`, with the bounds that are given.
    Slice(Box<Expr>, Vec<Expr>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    /// `a if condition else b`.
    Choice {
        condition: Box<Expr>,
        then: Box<Expr>,
        otherwise: Option<Box<Expr>>,
    },
    /// Without an input within `map('name')` and its like only.
    Filter {
        name: Arc<str>,
        input: Option<Box<Expr>>,
        arguments: Vec<Argument>,
    },
    Test {
        name: Arc<str>,
        input: Box<Expr>,
        arguments: Vec<Argument>,
    },
    /// A call of a function; without a name where what is called is computed.
    Call {
        name: Option<Arc<str>>,
        arguments: Vec<Argument>,
    },
    List(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    /// Too deep to be told.
    Opaque,
}

/// An argument of a filter, test or function.
#[derive(Clone, Debug)]
pub struct Argument {
    pub name: Option<Arc<str>>,
    pub value: Expr,
}

/// An operator with two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    And,
    Or,
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
    Concatenate,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

impl Operator {
    /// Returns the operator as it is written.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::And => "and",
            Self::Or => "or",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::FloorDivide => "//",
            Self::Remainder => "%",
            Self::Power => "**",
            Self::Concatenate => "~",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
            Self::NotIn => "not in",
        }
    }
}

impl Expr {
    /// Returns the text of a constant.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            ExprKind::Constant(value) => value.as_str(),
            _ => None,
        }
    }
}

impl Template {
    /// Returns the parts of the template in their order; none where nothing is to be evaluated.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        if self.literal().is_some() {
            return Vec::new();
        }
        parts(self.source())
    }
}

impl super::Prompt {
    /// Returns the parts of one file of a prompt; what it includes is not followed.
    #[must_use]
    pub fn parts_of(text: &str) -> Vec<Part> {
        parts(text)
    }
}

/// Tells whether a text without braces reads as an expression, for texts that look as if the braces were forgotten.
#[must_use]
pub fn expression_of(text: &str) -> Option<Expr> {
    if text.contains('{') || text.contains('}') {
        return None;
    }
    let source = format!("{{{{{text}}}}}");
    let mut parts = parts(&source);
    Template::parse(&source).ok()?;
    match parts.pop() {
        Some(Part::Value(expr)) if parts.is_empty() => Some(expr),
        _ => None,
    }
}

fn parts(source: &str) -> Vec<Part> {
    let reader = Reader { source };
    match machinery::parse(source, "<template>", super::environment::syntax()) {
        Ok(Stmt::Template(template)) => reader.parts(&template.children, 0),
        _ => Vec::new(),
    }
}

struct Reader<'s> {
    source: &'s str,
}

impl Reader<'_> {
    fn parts(&self, stmts: &[Stmt<'_>], depth: usize) -> Vec<Part> {
        stmts.iter().map(|stmt| self.part(stmt, depth + 1)).collect()
    }

    fn part(&self, stmt: &Stmt<'_>, depth: usize) -> Part {
        if depth > MAX_DEPTH {
            return Part::Other;
        }
        match stmt {
            Stmt::EmitRaw(_) => Part::Text,
            Stmt::EmitExpr(emit) => Part::Value(self.expr(&emit.expr, 0)),
            Stmt::ForLoop(lp) => Part::Loop {
                names: targets(&lp.target),
                list: self.expr(&lp.iter, 0),
                filter: lp.filter_expr.as_ref().map(|filter| self.expr(filter, 0)),
                body: self.parts(&lp.body, depth),
                otherwise: self.parts(&lp.else_body, depth),
            },
            Stmt::IfCond(cond) => Part::Choice {
                condition: self.expr(&cond.expr, 0),
                then: self.parts(&cond.true_body, depth),
                otherwise: self.parts(&cond.false_body, depth),
            },
            Stmt::Set(set) => Part::Set { names: targets(&set.target), value: self.expr(&set.expr, 0) },
            _ => Part::Other,
        }
    }

    fn boxed(&self, expr: &ast::Expr<'_>, depth: usize) -> Box<Expr> {
        Box::new(self.expr(expr, depth))
    }

    fn expr(&self, expr: &ast::Expr<'_>, depth: usize) -> Expr {
        let place = range(expr.span());
        if depth > MAX_DEPTH {
            return Expr { kind: ExprKind::Opaque, range: place };
        }
        let deeper = depth + 1;
        let kind = match expr {
            ast::Expr::Var(var) => ExprKind::Name(var.id.into()),
            ast::Expr::Const(constant) => self.constant(&constant.value, &place),
            ast::Expr::Slice(slice) => ExprKind::Slice(
                self.boxed(&slice.expr, deeper),
                [&slice.start, &slice.stop, &slice.step]
                    .into_iter()
                    .flatten()
                    .map(|bound| self.expr(bound, deeper))
                    .collect(),
            ),
            ast::Expr::UnaryOp(unary) => match unary.op {
                UnaryOpKind::Not => ExprKind::Not(self.boxed(&unary.expr, deeper)),
                UnaryOpKind::Neg => ExprKind::Negative(self.boxed(&unary.expr, deeper)),
            },
            ast::Expr::BinOp(binary) => ExprKind::Binary(
                operator(&binary.op),
                self.boxed(&binary.left, deeper),
                self.boxed(&binary.right, deeper),
            ),
            ast::Expr::Compare(compare) => return self.compare(compare, place, deeper),
            ast::Expr::IfExpr(choice) => ExprKind::Choice {
                condition: self.boxed(&choice.test_expr, deeper),
                then: self.boxed(&choice.true_expr, deeper),
                otherwise: choice.false_expr.as_ref().map(|otherwise| self.boxed(otherwise, deeper)),
            },
            ast::Expr::Filter(filter) => ExprKind::Filter {
                name: filter.name.into(),
                input: filter.expr.as_ref().map(|input| self.boxed(input, deeper)),
                arguments: self.arguments(&filter.args, deeper),
            },
            ast::Expr::Test(test) => ExprKind::Test {
                name: test.name.into(),
                input: self.boxed(&test.expr, deeper),
                arguments: self.arguments(&test.args, deeper),
            },
            ast::Expr::GetAttr(attr) => ExprKind::Member(self.boxed(&attr.expr, deeper), attr.name.into()),
            ast::Expr::GetItem(item) => match &item.subscript_expr {
                ast::Expr::Const(constant) if constant.value.as_str().is_some() => {
                    ExprKind::Member(self.boxed(&item.expr, deeper), constant.value.as_str().unwrap_or_default().into())
                }
                key => ExprKind::Item(self.boxed(&item.expr, deeper), self.boxed(key, deeper)),
            },
            ast::Expr::Call(call) => ExprKind::Call {
                name: match &call.expr {
                    ast::Expr::Var(var) => Some(var.id.into()),
                    _ => None,
                },
                arguments: self.arguments(&call.args, deeper),
            },
            ast::Expr::List(list) => ExprKind::List(self.all(&list.items, deeper)),
            ast::Expr::Tuple(tuple) => ExprKind::List(self.all(&tuple.items, deeper)),
            ast::Expr::Map(map) => {
                let keys = map.keys.iter().map(|key| self.expr(key, deeper));
                ExprKind::Map(keys.zip(self.all(&map.values, deeper)).collect())
            }
        };
        Expr { kind, range: place }
    }

    fn all(&self, items: &[ast::Expr<'_>], depth: usize) -> Vec<Expr> {
        items.iter().map(|item| self.expr(item, depth)).collect()
    }

    fn arguments(&self, arguments: &[CallArg<'_>], depth: usize) -> Vec<Argument> {
        let one = |argument: &CallArg<'_>| match argument {
            CallArg::Pos(value) => Argument { name: None, value: self.expr(value, depth) },
            CallArg::Kwarg(name, value) => Argument { name: Some((*name).into()), value: self.expr(value, depth) },
            // What is spread out could be any argument.
            CallArg::PosSplat(value) | CallArg::KwargSplat(value) => {
                Argument { name: Some("*".into()), value: self.expr(value, depth) }
            }
        };
        arguments.iter().map(one).collect()
    }

    /// `a < b < c` is `a < b and b < c`; what stands in the middle is told once, lest a nest of these doubles at each
    /// level.
    fn compare(&self, compare: &ast::Compare<'_>, place: Range<usize>, depth: usize) -> Expr {
        let mut left = self.expr(&compare.expr, depth);
        let mut whole: Option<Expr> = None;
        for op in compare.ops.iter().take(MAX_DEPTH) {
            let right = self.expr(&op.expr, depth);
            let operator = match op.op {
                CompareOpKind::Eq => Operator::Equal,
                CompareOpKind::Ne => Operator::NotEqual,
                CompareOpKind::Lt => Operator::Less,
                CompareOpKind::Lte => Operator::LessOrEqual,
                CompareOpKind::Gt => Operator::Greater,
                CompareOpKind::Gte => Operator::GreaterOrEqual,
                CompareOpKind::In => Operator::In,
                CompareOpKind::NotIn => Operator::NotIn,
            };
            let range = left.range.start..right.range.end;
            let plain = matches!(right.kind, ExprKind::Name(_) | ExprKind::Constant(_));
            let again = if plain { right.kind.clone() } else { ExprKind::Opaque };
            let again = Expr { kind: again, range: right.range.clone() };
            let next = Expr { kind: ExprKind::Binary(operator, Box::new(left), Box::new(right)), range };
            whole = Some(match whole {
                None => next,
                Some(before) => Expr {
                    range: place.clone(),
                    kind: ExprKind::Binary(Operator::And, Box::new(before), Box::new(next)),
                },
            });
            left = again;
        }
        whole.unwrap_or(left)
    }

    fn constant(&self, value: &minijinja::Value, place: &Range<usize>) -> ExprKind {
        let text = self.source.get(place.clone()).unwrap_or_default();
        if value.kind() == minijinja::value::ValueKind::Number && !value.is_integer() {
            // The lexer made a binary float of it; the digits still stand in the source.
            return parse_number(&text.replace('_', "")).map_or(ExprKind::Opaque, ExprKind::Constant);
        }
        from_jinja(value).map_or(ExprKind::Opaque, ExprKind::Constant)
    }
}

fn operator(kind: &BinOpKind) -> Operator {
    match kind {
        BinOpKind::ScAnd => Operator::And,
        BinOpKind::ScOr => Operator::Or,
        BinOpKind::Add => Operator::Add,
        BinOpKind::Sub => Operator::Subtract,
        BinOpKind::Mul => Operator::Multiply,
        BinOpKind::Div => Operator::Divide,
        BinOpKind::FloorDiv => Operator::FloorDivide,
        BinOpKind::Rem => Operator::Remainder,
        BinOpKind::Pow => Operator::Power,
        BinOpKind::Concat => Operator::Concatenate,
        BinOpKind::Eq => Operator::Equal,
        BinOpKind::Ne => Operator::NotEqual,
        BinOpKind::Lt => Operator::Less,
        BinOpKind::Lte => Operator::LessOrEqual,
        BinOpKind::Gt => Operator::Greater,
        BinOpKind::Gte => Operator::GreaterOrEqual,
        BinOpKind::In => Operator::In,
    }
}

fn targets(expr: &ast::Expr<'_>) -> Vec<Arc<str>> {
    match expr {
        ast::Expr::Var(var) => vec![var.id.into()],
        ast::Expr::List(list) => list.items.iter().flat_map(targets).collect(),
        ast::Expr::Tuple(tuple) => tuple.items.iter().flat_map(targets).collect(),
        _ => Vec::new(),
    }
}
