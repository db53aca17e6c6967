//! Source to something that can be evaluated again and again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use minijinja::Environment;
use minijinja::Expression;
use minijinja::machinery;
use minijinja::machinery::ast::Stmt;

use super::EvalError;
use super::MAX_SOURCE;
use super::MAX_TEXT;
use super::Reference;
use super::Scope;
use super::SyntaxError;
use super::environment::Root;
use super::environment::environment;
use super::environment::root;
use super::environment::shared;
use super::environment::step_value;
use super::filters;
use super::rewrite::Callee;
use super::rewrite::Rewriter;
use super::rewrite::quote;
use super::value::from_jinja;
use super::value::watch;
use crate::diag::did_you_mean;
use crate::model::Value;

/// How deep brackets may stand in one another.
const MAX_DEPTH: usize = 64;
/// How many tokens a template may have between two braces.
const MAX_TOKENS: usize = 1_000;

/// A compiled template.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) source: Arc<str>,
    pub(super) references: Vec<Reference>,
    code: Code,
}

enum Code {
    /// Nothing to evaluate.
    Literal(Value),
    /// A name and literal keys behind it: read without the engine.
    Path(Vec<Arc<str>>),
    /// One expression; of several parts with text between them one that joins them.
    Expression(Expression<'static, 'static>),
    /// Statements: an environment of its own that holds it.
    Statements(Box<Environment<'static>>),
}

impl std::fmt::Debug for Code {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Literal(_) => "Literal",
            Self::Path(_) => "Path",
            Self::Expression(_) => "Expression",
            Self::Statements(_) => "Statements",
        })
    }
}

pub(super) fn compile(source: &str) -> Result<Compiled, SyntaxError> {
    let done = |references, code| Compiled { source: source.into(), references, code };
    if !["{{", "{%", "{#"].iter().any(|open| source.contains(open)) {
        return Ok(done(Vec::new(), Code::Literal(Value::from(source))));
    }
    check_size(source)?;
    let tree =
        machinery::parse(source, "<template>", super::environment::syntax()).map_err(|error| syntax(source, &error))?;
    let Stmt::Template(template) = &tree else { return Ok(done(Vec::new(), Code::Literal(Value::from(source)))) };
    let mut rewriter = Rewriter::new(source);
    let plain = template.children.iter().all(|child| matches!(child, Stmt::EmitRaw(_) | Stmt::EmitExpr(_)));
    if !plain {
        let mut text = String::new();
        rewriter.stmts(&template.children, &mut text)?;
        check_calls(&rewriter)?;
        let mut own = environment();
        own.add_template_owned("<template>", text).map_err(|error| syntax(source, &error))?;
        return Ok(done(rewriter.references, Code::Statements(Box::new(own))));
    }
    let emitted: Vec<_> = template.children.iter().filter(|child| matches!(child, Stmt::EmitExpr(_))).collect();
    let mut text = String::new();
    match (template.children.as_slice(), emitted.as_slice()) {
        ([Stmt::EmitExpr(emit)], _) => {
            rewriter.expr(&emit.expr, &mut text)?;
            check_calls(&rewriter)?;
            if let Some(path) = path(source, &text, &rewriter.references) {
                return Ok(done(rewriter.references, Code::Path(path)));
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
            text.push_str("__concat(");
            for (index, child) in children.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                match child {
                    Stmt::EmitRaw(raw) => quote(raw.raw, &mut text),
                    Stmt::EmitExpr(emit) => rewriter.expr(&emit.expr, &mut text)?,
                    _ => {}
                }
            }
            text.push(')');
            check_calls(&rewriter)?;
        }
    }
    let expression = shared().compile_expression_owned(text).map_err(|error| syntax(source, &error))?;
    Ok(done(rewriter.references, Code::Expression(expression)))
}

/// Returns the keys of an expression that is a plain path, `steps.a.output.x`.
fn path(source: &str, rewritten: &str, references: &[Reference]) -> Option<Vec<Arc<str>>> {
    let [reference] = references else { return None };
    let inner = source.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.trim_start_matches('-').trim_end_matches('-').trim();
    let plain = reference.path.join(".");
    (inner == plain && rewritten == plain && &*reference.path.first()?.clone() != "now").then(|| reference.path.clone())
}

/// Refuses what would take the parser long or deep before it sees it.
fn check_size(source: &str) -> Result<(), SyntaxError> {
    let refuse = |message: String, range: Range<usize>| Err(SyntaxError { message, range });
    if source.len() > MAX_SOURCE {
        return refuse(format!("a template of more than {MAX_SOURCE} bytes"), 0..0);
    }
    let (mut depth, mut tokens, mut quoted) = (0_usize, 0_usize, None);
    let mut word = false;
    let mut inside = false;
    let bytes = source.as_bytes();
    for (at, byte) in bytes.iter().copied().enumerate() {
        let next = bytes.get(at + 1).copied().unwrap_or(0);
        if !inside {
            if byte == b'{' && matches!(next, b'{' | b'%') {
                (inside, depth, tokens, word) = (true, 0, 0, false);
            }
            continue;
        }
        if let Some(mark) = quoted {
            if byte == mark && bytes.get(at - 1) != Some(&b'\\') {
                quoted = None;
            }
            continue;
        }
        match byte {
            b'"' | b'\'' => quoted = Some(byte),
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'}' | b'%' if next == b'}' && (byte == b'%' || depth <= 1) => inside = false,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        let is_word = byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
        let goes_on = byte.is_ascii_whitespace() || (is_word && word);
        if !goes_on {
            tokens += 1;
        }
        word = is_word;
        if depth > MAX_DEPTH {
            return refuse(format!("brackets nested deeper than {MAX_DEPTH}"), at..at + 1);
        }
        if tokens > MAX_TOKENS {
            return refuse(format!("an expression of more than {MAX_TOKENS} words and signs"), at..at + 1);
        }
    }
    Ok(())
}

/// Refuses filters, tests and functions that do not exist.
fn check_calls(rewriter: &Rewriter<'_>) -> Result<(), SyntaxError> {
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
            return Err(SyntaxError { message, range: range.clone() });
        }
    }
    Ok(())
}

fn syntax(source: &str, error: &minijinja::Error) -> SyntaxError {
    let range = error.range().filter(|range| range.end <= source.len()).unwrap_or(0..source.len());
    let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    SyntaxError { message, range }
}

impl Compiled {
    pub(super) fn literal(&self) -> Option<&str> {
        match &self.code {
            Code::Literal(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn eval(&self, scope: &Scope) -> Result<Value, EvalError> {
        match &self.code {
            Code::Literal(value) => Ok(value.clone()),
            Code::Path(path) => follow(path, scope),
            Code::Expression(expression) => {
                let root = minijinja::Value::from_object(Root(scope.clone()));
                let (result, touched) = watch(|| {
                    let value = expression.eval(root).map_err(|error| self.explain(&error, scope))?;
                    if value.is_undefined() {
                        return Err(self.undefined(scope));
                    }
                    from_jinja(&value).map_err(|message| EvalError { message })
                });
                finish(result, touched)
            }
            Code::Statements(environment) => {
                let root = minijinja::Value::from_object(Root(scope.clone()));
                let (result, touched) =
                    watch(|| render(environment, "<template>", root).map_err(|error| self.explain(&error, scope)));
                finish(result.map(Value::from), touched)
            }
        }
    }

    /// Says why there is no value: of undefined names which one.
    fn explain(&self, error: &minijinja::Error, scope: &Scope) -> EvalError {
        if error.kind() == minijinja::ErrorKind::UndefinedError {
            return self.undefined(scope);
        }
        if error.kind() == minijinja::ErrorKind::OutOfFuel {
            return EvalError { message: "the expression takes too long".to_owned() };
        }
        EvalError { message: error.detail().map_or_else(|| error.kind().to_string(), str::to_owned) }
    }

    fn undefined(&self, scope: &Scope) -> EvalError {
        for reference in &self.references {
            if let Err(error) = follow(&reference.path, scope) {
                return error;
            }
        }
        EvalError { message: format!("something in `{}` is undefined", self.source.trim()) }
    }
}

fn finish(result: Result<Value, EvalError>, touched: bool) -> Result<Value, EvalError> {
    match result {
        Ok(value) if touched => Ok(value.tainted()),
        // The message may quote what was looked into.
        Err(_) if touched => Err(EvalError { message: "an expression over a secret has no value".to_owned() }),
        other => other,
    }
}

/// Renders a template into a bounded text.
fn render(environment: &Environment<'_>, name: &str, root: minijinja::Value) -> Result<String, minijinja::Error> {
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

/// Reads a path without the engine.
fn follow(path: &[Arc<str>], scope: &Scope) -> Result<Value, EvalError> {
    let missing = |message: String| EvalError { message };
    let Some((first, rest)) = path.split_first() else { return Ok(Value::Null) };
    let (mut value, rest) = match (&**first, rest) {
        ("steps", [id, rest @ ..]) => {
            let view = scope.lookup.step(id).ok_or_else(|| missing(format!("there is no step `{id}`")))?;
            match rest {
                [key, rest @ ..] if &**key == "output" => (view.output, rest),
                rest => (step_value(&view), rest),
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

/// A prompt: a file and those that it includes, with the same operators and filters as expressions.
#[derive(Debug)]
pub struct Prompt {
    environment: Environment<'static>,
    main: String,
    references: Vec<Reference>,
}

impl Prompt {
    /// Compiles a file and its includes; `files` holds them all by the names that `include` uses.
    ///
    /// # Errors
    /// The file and what is wrong in it; an include that is not among the files.
    pub fn parse(main: &str, files: &BTreeMap<String, String>) -> Result<Self, (String, SyntaxError)> {
        let mut own = environment();
        let mut references = Vec::new();
        for (name, source) in files {
            let fault = |error: SyntaxError| (name.clone(), error);
            check_size(source).map_err(fault)?;
            let tree = machinery::parse(source, name, super::environment::syntax())
                .map_err(|error| fault(syntax(source, &error)))?;
            let mut rewriter = Rewriter::new(source);
            let mut text = String::new();
            if let Stmt::Template(template) = &tree {
                rewriter.stmts(&template.children, &mut text).map_err(fault)?;
            }
            check_calls(&rewriter).map_err(fault)?;
            references.append(&mut rewriter.references);
            own.add_template_owned(name.clone(), text).map_err(|error| fault(syntax(source, &error)))?;
        }
        Ok(Self { environment: own, main: main.to_owned(), references })
    }

    /// Returns the names that the file and its includes read.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// Renders it.
    pub fn render(&self, scope: &Scope) -> Result<Value, EvalError> {
        let root = minijinja::Value::from_object(Root(scope.clone()));
        let (result, touched) = watch(|| {
            render(&self.environment, &self.main, root).map_err(|error| {
                let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
                let place = error.name().map(|name| format!(" in `{name}`")).unwrap_or_default();
                EvalError { message: format!("{message}{place}") }
            })
        });
        finish(result.map(Value::from), touched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Map;
    use crate::model::StepState;
    use crate::model::Timestamp;
    use crate::template::Lookup;
    use crate::template::StepView;
    use crate::template::Template;

    #[derive(Debug)]
    struct World;

    impl Lookup for World {
        fn step(&self, id: &str) -> Option<StepView> {
            let output = crate::model::parse_json(r#"{"text":"hi","price":19.99,"id":1234567890123456789}"#).unwrap();
            (id == "draft").then_some(StepView { output, state: StepState::Succeeded, error: None })
        }

        fn secret(&self, name: &str) -> Result<Value, String> {
            match name {
                "KEY" => Ok(Value::from("hunter2").tainted()),
                _ => Err(format!("there is no secret `{name}`")),
            }
        }
    }

    fn scope() -> Scope {
        let inputs =
            crate::model::parse_json(r#"{"n":3,"list":[1,2.50],"big":12345678901234567890.123456789,"no":null}"#);
        let mut inputs: Map = inputs.unwrap().as_map().unwrap().clone();
        inputs.insert("usd".into(), Value::Money("10.00 USD".parse().unwrap()));
        inputs.insert("eur".into(), Value::Money("10.00 EUR".parse().unwrap()));
        let globals = Arc::new(vec![("inputs".into(), Value::from(inputs))]);
        Scope { lookup: Arc::new(World), globals, locals: vec![("item", Value::from(7))], now: Timestamp(0) }
    }

    fn eval(source: &str) -> String {
        match Template::parse(source) {
            Ok(template) => match template.eval(&scope()) {
                Ok(value) => format!("{value}{}", if value.is_tainted() { " secret" } else { "" }),
                Err(error) => format!("error: {}", error.message),
            },
            Err(error) => format!("syntax {:?}: {}", error.range, error.message),
        }
    }

    #[test]
    fn one_expression_keeps_its_kind_and_text_is_text() {
        for (source, expected) in [
            ("plain", "\"plain\""),
            ("{{ item }}", "7"),
            ("{{ item * 2 }}", "14"),
            ("n={{ item }}", "\"n=7\""),
            ("{{ inputs.list }}", "[1,2.50]"),
            ("{{ steps.draft.output.text }}{{ item }}", "\"hi7\""),
            ("{{ steps.draft.state }}", "\"succeeded\""),
            ("{{ [item, inputs.n] }}", "[7,3]"),
            ("{{ {'a': item} }}", "{\"a\":7}"),
            ("{% if item > 5 %}big{% else %}small{% endif %}\n", "\"big\\n\""),
            ("{% for x in inputs.list %}{{ x }};{% endfor %}", "\"1;2.50;\""),
            ("{{ inputs.no }}", "null"),
            ("x{{ inputs.no }}", "\"x\""),
            ("{{ inputs.list[0] }}", "1"),
            ("{{ 'a' if item == 7 else 'b' }}", "\"a\""),
            ("{{ 1 < item <= 7 }}", "true"),
            ("{{ item not in [1, 2] }}", "true"),
        ] {
            assert_eq!(eval(source), expected, "{source}");
        }
    }

    #[test]
    fn numbers_are_exact() {
        for (source, expected) in [
            ("{{ 0.1 + 0.2 }}", "0.3"),
            ("{{ 0.1 + 0.2 == 0.3 }}", "true"),
            ("{{ steps.draft.output.price * 3 }}", "59.97"),
            ("{{ steps.draft.output.id + 1 }}", "1234567890123456790"),
            ("{{ inputs.big }}", "12345678901234567890.123456789"),
            ("{{ inputs.big + 0 }}", "12345678901234567890.123456789"),
            ("{{ inputs.usd * 1.5 }}", "\"15.000 USD\""),
            ("{{ inputs.usd + inputs.eur }}", "error: cannot add USD and EUR: two currencies"),
            (
                "{{ inputs.usd * (0.5 | float) }}",
                "error: a float does not mix with money: take `| float` away, or make both floats",
            ),
            ("{{ 7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }}", "\"3 2 1024\""),
            ("{{ 1 / 0 }}", "error: division by zero"),
            ("{{ -inputs.n }}", "-3"),
        ] {
            assert_eq!(eval(source), expected, "{source}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        for (source, expected) in [
            ("{{ nothing }}", "error: `nothing` is not known here"),
            ("{{ steps.draft.output.txt }}", "error: `steps.draft.output` has no `txt`; did you mean `text`?"),
            ("{{ steps.draft.output.txt ~ 'x' }}", "error: `steps.draft.output` has no `txt`; did you mean `text`?"),
            ("{{ steps.refelct.output }}", "error: there is no step `refelct`"),
            ("{{ secrets.NO }}", "error: there is no secret `NO`"),
            ("{{ steps.draft.output.txt | default('x') }}", "\"x\""),
            ("{{ item | roud }}", "syntax 10..14: there is no filter `roud`; did you mean `round`?"),
            (
                "{{ item is startingwit('a') }}",
                "syntax 11..27: there is no test `startingwit`; did you mean `startingwith`?",
            ),
            ("{{ rang(3) }}", "syntax 3..7: there is no function `rang`; did you mean `range`?"),
        ] {
            assert_eq!(eval(source), expected, "{source}");
        }
        assert!(eval("{{ item").starts_with("syntax"), "{}", eval("{{ item"));
    }

    #[test]
    fn what_touches_a_secret_is_secret() {
        for source in [
            "{{ secrets.KEY }}",
            "k={{ secrets.KEY }}",
            "{{ secrets.KEY | upper }}",
            "{{ secrets.KEY | base64 }}",
            "{% if true %}{{ secrets.KEY }}{% endif %}",
        ] {
            assert!(eval(source).ends_with("\"***\" secret"), "{source}: {}", eval(source));
        }
        assert_eq!(eval("{{ [secrets.KEY, 1] }}"), "[\"***\",1] secret");
        assert_eq!(eval("{{ secrets.KEY | int }}"), "error: an expression over a secret has no value");
        assert_eq!(eval("{{ secrets.KEY + 1 }}"), "error: an expression over a secret has no value");
        assert_eq!(eval("{{ secrets.KEY == 'hunter2' }}"), "\"***\" secret");
        assert_eq!(
            Template::parse("k={{ secrets.KEY }}").unwrap().eval(&scope()).unwrap().revealed(),
            Value::from("k=hunter2")
        );
    }

    #[test]
    fn nothing_runs_for_ever_or_grows_without_bound() {
        let many = "+1".repeat(5_000);
        let deep = format!("{{{{ {}1{} }}}}", "(".repeat(5_000), ")".repeat(5_000));
        let lists = format!("{{{{ {}1{} }}}}", "[".repeat(5_000), "]".repeat(5_000));
        for source in [
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "{{ range(10 ** 12) }}",
            "{{ 'a' * 10 ** 12 }}",
            "{{ ('a' * 1000000) | replace('a', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb') }}",
            "{% for a in range(1000000) %}{{ 'a' * 100000 }}{% endfor %}",
            "{{ 2 ** 100000 }}",
            "{{ 10 ** 10000 }}",
            &format!("{{{{ 1{many} }}}}"),
            &deep,
            &lists,
            "{% set x = 'a' * 1000000 %}{% set x = x ~ x %}{% set x = x ~ x %}{% set x = x ~ x %}{% set x = x ~ x %}{% set x = x ~ x %}{% set x = x ~ x %}{{ x }}",
        ] {
            let result = eval(source);
            assert!(result.starts_with("error") || result.starts_with("syntax"), "{source:.60}: {result:.60}");
        }
    }

    #[test]
    fn references_are_the_names_that_are_read() {
        let template = Template::parse(
            "{{ steps.a.output['x'].y + inputs.n }}{% for s in steps.b.output %}{{ s.z }}{{ loop.index }}{% endfor %}",
        );
        let shown: Vec<_> = template.unwrap().references().iter().map(|it| it.path.join(".")).collect();
        assert_eq!(shown, ["steps.a.output.x.y", "inputs.n", "steps.b.output"]);
        let template = Template::parse("ab {{ steps.a.output }}").unwrap();
        assert_eq!(template.references()[0].range, 6..20);
    }

    #[test]
    fn a_prompt_includes_other_files() {
        let files = BTreeMap::from([
            ("main.j2".to_owned(), "Hello {{ item }}{% include 'part.j2' %}".to_owned()),
            ("part.j2".to_owned(), ", {{ 0.1 + 0.2 }}!\n".to_owned()),
        ]);
        let prompt = Prompt::parse("main.j2", &files).unwrap();
        assert_eq!(prompt.render(&scope()).unwrap(), Value::from("Hello 7, 0.3!\n"));
    }

    #[test]
    fn any_text_gives_a_value_or_an_error() {
        let pieces = [
            "{{", "}}", "{%", "%}", " a ", "item", "|", "(", ")", "[", "]", "'", "\"", "1.5", "if", "for x in",
            "endfor", ".", "-", "é", "\n", "~", "{#", "#}", "is", "not", "*", "**",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let source: String = (0..random.usize(1..14)).map(|_| pieces[random.usize(..pieces.len())]).collect();
            eval(&source);
        }
    }
}
