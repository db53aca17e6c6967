//! Source to something that can be evaluated again and again.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use minijinja::Environment;
use minijinja::Expression;
use minijinja::machinery;
use minijinja::machinery::ast::CallArg;
use minijinja::machinery::ast::Expr;
use minijinja::machinery::ast::Stmt;

use super::EvalError;
use super::MAX_TEXT;
use super::Prompt;
use super::Reference;
use super::Scope;
use super::SyntaxError;
use super::budget;
use super::environment::Root;
use super::environment::root;
use super::environment::shared;
use super::environment::step_value;
use super::filters;
use super::limits;
use super::rewrite::Callee;
use super::rewrite::Rewriter;
use super::rewrite::quote;
use super::rewrite::within;
use super::value::from_jinja;
use super::value::made;
use super::value::taken;
use super::value::watch;
use super::value::watch_unknown;
use crate::diag::did_you_mean;
use crate::model::Unknown;
use crate::model::Value;

/// The longest message, in bytes: it may quote a value of any length.
const MAX_MESSAGE: usize = 1_000;
/// How many parts a text may have that is evaluated as one expression; beyond, it is rendered part by part.
const MAX_PARTS: usize = 500;

/// Whether this process checks templates and hardly ever evaluates one.
static ONLY_CHECKS: AtomicBool = AtomicBool::new(false);

/// Says that from now on this process only checks templates: the code of an expression, ten times its text, is not kept.
/// One that is evaluated all the same is compiled for that.
pub fn only_check() {
    ONLY_CHECKS.store(true, Ordering::Relaxed);
}

/// A compiled template.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) source: Arc<str>,
    pub(super) references: Vec<Reference>,
    code: Code,
    /// Whether what is missing is null.
    lenient: bool,
    /// Whether it is one expression and nothing else.
    single: bool,
    /// Whether it only picks and arranges what it reads.
    hands_on: bool,
}

/// How a text is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// What is missing is an error.
    Strict,
    /// What is missing is null.
    Lenient,
    /// Lenient, and what is computed is percent-encoded, unless it is the whole text.
    Url,
}

enum Code {
    /// Nothing to evaluate.
    Literal(Value),
    /// A name and literal keys behind it: read without the engine.
    Path(Vec<Arc<str>>),
    /// One expression; of several parts with text between them one that joins them.
    Expression(Expression<'static, 'static>),
    /// The text of such an expression, which has been compiled for the check only.
    Checked(Box<str>),
    /// A prompt's file with what it includes.
    Prompt(Box<Prompt>),
    /// Statements: an environment of its own that holds it.
    Statements(Box<Environment<'static>>),
}

impl std::fmt::Debug for Code {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Literal(_) => "Literal",
            Self::Path(_) => "Path",
            Self::Expression(_) => "Expression",
            Self::Checked(_) => "Checked",
            Self::Prompt(_) => "Prompt",
            Self::Statements(_) => "Statements",
        })
    }
}

pub(super) fn compile(source: &str, mode: Mode) -> Result<Compiled, SyntaxError> {
    let lenient = mode != Mode::Strict;
    let environment = if lenient { super::environment::lenient() } else { shared() };
    let done = |references, code| Compiled {
        source: source.into(),
        references,
        code,
        lenient,
        single: false,
        hands_on: false,
    };
    if !["{{", "{%", "{#"].iter().any(|open| source.contains(open)) {
        return Ok(done(Vec::new(), Code::Literal(Value::from(source))));
    }
    limits::check(source)?;
    let tree =
        machinery::parse(source, "<template>", super::environment::syntax()).map_err(|error| syntax(source, &error))?;
    let Stmt::Template(template) = &tree else { return Ok(done(Vec::new(), Code::Literal(Value::from(source)))) };
    let mut rewriter = if lenient { Rewriter::lenient(source) } else { Rewriter::new(source) };
    let plain = template.children.iter().all(|child| matches!(child, Stmt::EmitRaw(_) | Stmt::EmitExpr(_)));
    if !plain || template.children.len() > MAX_PARTS {
        let mut text = String::new();
        rewriter.stmts(&template.children, &mut text)?;
        check_calls(&rewriter)?;
        no_includes(&rewriter)?;
        let mut own = environment.clone();
        own.add_template_owned("<template>", text).map_err(|error| rewritten(source, &error))?;
        return Ok(done(rewriter.references, Code::Statements(Box::new(own))));
    }
    let emitted: Vec<_> = template.children.iter().filter(|child| matches!(child, Stmt::EmitExpr(_))).collect();
    let mut text = String::new();
    match (template.children.as_slice(), emitted.as_slice()) {
        ([Stmt::EmitExpr(emit)], _) => {
            rewriter.expr(&emit.expr, &mut text)?;
            check_calls(&rewriter)?;
            if let Some(path) = path(source, &rewriter.references) {
                return Ok(Compiled { single: true, ..done(rewriter.references, Code::Path(path)) });
            }
        }
        (_, []) => {
            // Comments alone: what is left is text.
            let raw = template.children.iter().filter_map(|child| match child {
                Stmt::EmitRaw(raw) => Some(raw.raw),
                _ => None,
            });
            return Ok(done(Vec::new(), Code::Literal(Value::from(raw.collect::<String>()))));
        }
        (children, _) => {
            // The empty text in front makes a text of it, whatever the parts are.
            text.push_str("''|__concat(");
            for (index, child) in children.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                match child {
                    Stmt::EmitRaw(raw) => quote(raw.raw, &mut text),
                    Stmt::EmitExpr(emit) if mode == Mode::Url && !is_encoded(&emit.expr) => {
                        text.push('(');
                        rewriter.expr(&emit.expr, &mut text)?;
                        text.push_str(")|__encode");
                    }
                    Stmt::EmitExpr(emit) => rewriter.expr(&emit.expr, &mut text)?,
                    _ => {}
                }
            }
            text.push(')');
            check_calls(&rewriter)?;
        }
    }
    let kept = ONLY_CHECKS.load(Ordering::Relaxed).then(|| text.clone().into_boxed_str());
    let expression = environment.compile_expression_owned(text).map_err(|error| rewritten(source, &error))?;
    let code = kept.map_or(Code::Expression(expression), Code::Checked);
    let (single, hands_on) = match template.children.as_slice() {
        [Stmt::EmitExpr(emit)] => (true, hands_on(&emit.expr)),
        _ => (false, false),
    };
    Ok(Compiled { single, hands_on, ..done(rewriter.references, code) })
}

/// Tells whether an author says how an expression is encoded in a URL.
fn is_encoded(expr: &Expr<'_>) -> bool {
    matches!(expr, Expr::Filter(filter) if matches!(filter.name, "path" | "safe"))
}

/// Tells whether an expression only picks and arranges what it reads: what is unknown of that stays what it is, and the
/// rest is known.
fn hands_on(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::Var(_) | Expr::Const(_) => true,
        Expr::GetAttr(attr) => hands_on(&attr.expr),
        Expr::GetItem(item) => hands_on(&item.expr) && matches!(item.subscript_expr, Expr::Const(_)),
        Expr::List(list) => list.items.iter().all(hands_on),
        Expr::Map(map) => map.keys.iter().all(|key| matches!(key, Expr::Const(_))) && map.values.iter().all(hands_on),
        Expr::Filter(filter) => {
            let plain = filter.expr.as_ref().is_some_and(hands_on);
            let attribute = || matches!(filter.args.as_slice(), [CallArg::Kwarg("attribute", Expr::Const(_))]);
            plain && (matches!(filter.name, "list" | "first" | "last") || filter.name == "map" && attribute())
        }
        _ => false,
    }
}

/// Returns the keys of an expression that is a plain path, `steps.a.output.x`.
fn path(source: &str, references: &[Reference]) -> Option<Vec<Arc<str>>> {
    let [reference] = references else { return None };
    let inner = source.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.trim_start_matches('-').trim_end_matches('-').trim();
    let plain = reference.path.join(".");
    // A word of the syntax, as in `{{ true }}`, leaves no reference.
    (inner == plain && &*reference.path.first()?.clone() != "now").then(|| reference.path.clone())
}

/// Refuses filters, tests and functions that do not exist.
pub(super) fn check_calls(rewriter: &Rewriter<'_>) -> Result<(), SyntaxError> {
    for (callee, name, range) in &rewriter.calls {
        let (kind, known) = match callee {
            Callee::Filter => ("filter", filters::names(filters::Sort::Filter)),
            Callee::Test => ("test", filters::names(filters::Sort::Test)),
            Callee::Function => ("function", filters::names(filters::Sort::Function)),
        };
        if !known.contains(&name.as_str()) {
            let mut message = format!("there is no {kind} `{name}`");
            if let Some(near) = did_you_mean(name, known.iter().copied()) {
                message.push_str(&format!("; did you mean `{near}`?"));
            }
            return Err(SyntaxError { message: shortened(message), range: range.clone() });
        }
    }
    Ok(())
}

pub(super) fn syntax(source: &str, error: &minijinja::Error) -> SyntaxError {
    let range = error.range().map_or(0..source.len(), |range| within(source, range));
    SyntaxError { message: message_of(error), range }
}

/// Says why what a template was rewritten to does not compile: its places are not those of the source.
pub(super) fn rewritten(source: &str, error: &minijinja::Error) -> SyntaxError {
    let mut message = message_of(error);
    if message.contains("recursion") {
        "the expression nests too deep; split it up".clone_into(&mut message);
    }
    SyntaxError { message, range: 0..source.len() }
}

impl Compiled {
    pub(super) fn literal(&self) -> Option<&str> {
        match &self.code {
            Code::Literal(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn prompt(prompt: Prompt) -> Self {
        let references = prompt.references().iter().map(|(_, reference)| reference.clone()).collect();
        Self {
            source: prompt.name().into(),
            references,
            code: Code::Prompt(Box::new(prompt)),
            lenient: false,
            single: false,
            hands_on: false,
        }
    }

    pub(super) fn rendered_prompt(&self) -> Option<&Prompt> {
        match &self.code {
            Code::Prompt(prompt) => Some(prompt),
            _ => None,
        }
    }

    pub(super) fn is_one_expression(&self) -> bool {
        self.single
    }

    pub(super) fn eval(&self, scope: &Scope) -> Result<Value, EvalError> {
        let plans = scope.lookup.plans();
        if !plans || matches!(self.code, Code::Literal(_) | Code::Path(_)) {
            return self.eval_known(scope);
        }
        let (result, mut met) = watch_unknown(plans, || self.eval_known(scope));
        // Of a way through unknown members the last is enough.
        let all = met.clone();
        met.retain(|place| {
            !all.iter().any(|other| other.strip_prefix(&**place).is_some_and(|rest| rest.starts_with('.')))
        });
        match result {
            result if met.is_empty() => result,
            // It has only handed on what it met.
            Ok(value) if self.hands_on => Ok(value),
            // What was computed with a stand-in for it says nothing, its failure neither.
            result => {
                let shown = match result {
                    Ok(Value::String(text)) if !self.single => Some(text),
                    _ => None,
                };
                Ok(Value::Unknown(Arc::new(Unknown { of: met, shown })))
            }
        }
    }

    fn eval_known(&self, scope: &Scope) -> Result<Value, EvalError> {
        match &self.code {
            Code::Literal(value) => Ok(value.clone()),
            Code::Path(path) if self.lenient => Ok(found(path, scope)),
            Code::Path(path) => follow(path, scope),
            Code::Expression(expression) => self.expression(expression, scope),
            Code::Checked(text) => {
                let environment = if self.lenient { super::environment::lenient() } else { shared() };
                match environment.compile_expression_owned(text.to_string()) {
                    Ok(expression) => self.expression(&expression, scope),
                    Err(error) => Err(EvalError { message: message_of(&error) }),
                }
            }
            Code::Prompt(prompt) => prompt.render(scope),
            Code::Statements(environment) => {
                let root = minijinja::Value::from_object(Root(scope.clone()));
                let (result, touched) =
                    watch(|| render(environment, "<template>", root).map_err(|error| self.explain(&error, scope)));
                finish(result.map(Value::from), touched)
            }
        }
    }

    fn expression(&self, expression: &Expression<'_, '_>, scope: &Scope) -> Result<Value, EvalError> {
        let root = minijinja::Value::from_object(Root(scope.clone()));
        let (result, touched) = watch(|| {
            let value = expression.eval(root).map_err(|error| self.explain(&error, scope))?;
            if value.is_undefined() && !self.lenient {
                return Err(self.undefined(scope));
            }
            result_of(&value).map_err(|message| EvalError { message })
        });
        finish(result, touched)
    }

    /// Says why there is no value: of undefined names which one.
    fn explain(&self, error: &minijinja::Error, scope: &Scope) -> EvalError {
        if error.kind() == minijinja::ErrorKind::UndefinedError {
            return self.undefined(scope);
        }
        EvalError { message: message_of(error) }
    }

    fn undefined(&self, scope: &Scope) -> EvalError {
        for reference in self.references.iter().filter(|reference| !reference.optional) {
            if let Err(error) = follow(&reference.path, scope) {
                return error;
            }
        }
        EvalError { message: shortened(format!("something in `{}` is undefined", self.source.trim())) }
    }
}

/// Returns what an error says to an author.
pub(super) fn message_of(error: &minijinja::Error) -> String {
    if error.kind() == minijinja::ErrorKind::OutOfFuel {
        return "the expression takes too long, or makes too much".to_owned();
    }
    shortened(error.detail().map_or_else(|| error.kind().to_string(), str::to_owned))
}

fn shortened(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.push('…');
    }
    message
}

/// Takes the result out; what the template built is checked before others walk it without bounds.
fn result_of(value: &minijinja::Value) -> Result<Value, String> {
    let result = taken(value)?;
    if made(value) > 0 {
        budget::weigh(&result, budget::MAX_DATA, budget::MAX_RESULT_DEPTH)?;
    }
    Ok(result)
}

/// An expression in a pipeline has no files to include.
fn no_includes(rewriter: &Rewriter<'_>) -> Result<(), SyntaxError> {
    match rewriter.includes.first() {
        Some(include) => {
            let message = "`include` works in prompt files only".to_owned();
            Err(SyntaxError { message, range: include.range.clone() })
        }
        None => Ok(()),
    }
}

pub(super) fn finish(result: Result<Value, EvalError>, touched: bool) -> Result<Value, EvalError> {
    match result {
        Ok(value) if touched => Ok(value.tainted()),
        // The message may quote what was looked into.
        Err(_) if touched => Err(EvalError { message: "an expression over a secret has no value".to_owned() }),
        other => other,
    }
}

/// Renders a template into a bounded text.
pub(super) fn render(
    environment: &Environment<'_>,
    name: &str,
    root: minijinja::Value,
) -> Result<String, minijinja::Error> {
    let mut bounded = Bounded(Vec::new());
    environment.get_template(name)?.render_captured_to(root, &mut bounded).map(|_| ()).map_err(|error| match error
        .kind()
    {
        minijinja::ErrorKind::WriteFailure => minijinja::Error::new(
            minijinja::ErrorKind::InvalidOperation,
            format!("a text of more than {MAX_TEXT} bytes"),
        ),
        _ => error,
    })?;
    String::from_utf8(bounded.0).map_err(|_| minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, "not UTF-8"))
}

struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + part.len() > MAX_TEXT {
            return Err(std::io::Error::other("too long"));
        }
        self.0.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Reads a path without the engine; what is missing is null.
fn found(path: &[Arc<str>], scope: &Scope) -> Value {
    let Some((first, rest)) = path.split_first() else { return Value::Null };
    if matches!(&**first, "steps" | "secrets") {
        return follow(path, scope).unwrap_or_default();
    }
    let mut value = match root(scope, first) {
        Some(value) => value,
        None => return Value::Null,
    };
    for (depth, key) in rest.iter().enumerate() {
        value = match value {
            Value::Map(map) => match map.get(key) {
                Some(next) => next,
                None => return Value::Null,
            },
            Value::Null => return Value::Null,
            // Handles, money and lists have keys of their own kind.
            _ => {
                let inner: Vec<_> = std::iter::once(first).chain(rest).take(depth + 1).cloned().collect();
                let tail = rest.get(depth..).unwrap_or_default();
                return follow(&[&inner[..], tail].concat(), scope).unwrap_or_default();
            }
        };
    }
    value.clone()
}

/// Reads a path without the engine.
pub(super) fn follow(path: &[Arc<str>], scope: &Scope) -> Result<Value, EvalError> {
    let missing = |message: String| EvalError { message: shortened(message) };
    let Some((first, rest)) = path.split_first() else { return Ok(Value::Null) };
    let (mut value, rest) = match (&**first, rest) {
        ("steps", [id, rest @ ..]) => {
            let view = scope.lookup.step(id).ok_or_else(|| missing(format!("there is no step `{id}`")))?;
            match rest {
                [key, rest @ ..] if &**key == "output" => (view.output, rest),
                rest => (step_value(&view, scope.lookup.unknown_state(id)), rest),
            }
        }
        ("secrets", [name, rest @ ..]) => (scope.lookup.secret(name).map_err(missing)?, rest),
        ("steps" | "secrets", []) => return Err(missing(format!("`{first}` alone has no value; name one"))),
        (name, rest) => {
            let value = root(scope, name).ok_or_else(|| missing(format!("`{name}` is not known here")))?;
            (value.clone(), rest)
        }
    };
    let mut so_far = path.iter().take(path.len() - rest.len()).map(|key| &**key).collect::<Vec<_>>().join(".");
    for key in rest {
        let next = match &value {
            Value::Map(map) => map.get(key).cloned().ok_or_else(|| {
                let near = did_you_mean(key, map.keys().map(|key| &**key));
                let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                missing(format!("`{so_far}` has no `{key}`{near}"))
            }),
            Value::Unknown(unknown) => Ok(unknown.member(key)),
            Value::Null => Err(missing(format!("`{so_far}` is null and has no `{key}`"))),
            Value::Money(money) if &**key == "amount" => Ok(Value::Decimal(money.amount)),
            Value::Money(money) if &**key == "currency" => Ok(Value::from(money.currency.as_str())),
            Value::List(items) => key
                .parse::<usize>()
                .ok()
                .and_then(|index| items.get(index))
                .cloned()
                .ok_or_else(|| missing(format!("`{so_far}` is a list and has no `{key}`"))),
            other => {
                // Handles have keys too; the engine's object knows them.
                let object = super::value::to_jinja(other);
                match object.get_attr(key) {
                    Ok(found) if !found.is_undefined() => from_jinja(&found).map_err(missing),
                    _ => Err(missing(format!("`{so_far}` is {} and has no `{key}`", other.kind().name()))),
                }
            }
        };
        value = next?;
        so_far = format!("{so_far}.{key}");
    }
    Ok(value)
}
