//! The one minijinja environment, and the names that an evaluation sees in it.

use std::fmt;
use std::sync::Arc;
use std::sync::LazyLock;

use minijinja::Environment;
use minijinja::Error;
use minijinja::ErrorKind;
use minijinja::Output;
use minijinja::State;
use minijinja::UndefinedBehavior;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Object;

use super::Scope;
use super::budget;
use super::filters;
use super::operators;
use super::operators::ours;
use super::value::to_jinja;
use crate::model::StepError;
use crate::model::Value;

/// How many instructions one evaluation may take.
const FUEL: u64 = 5_000_000;

static SHARED: LazyLock<Environment<'static>> = LazyLock::new(environment);
static LENIENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = environment();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment
});

/// Returns the environment that all expressions share.
pub(super) fn shared() -> &'static Environment<'static> {
    &SHARED
}

/// Returns the environment of lenient expressions: what is missing is null there, and a filter over null gives null.
pub(super) fn lenient() -> &'static Environment<'static> {
    &LENIENT
}

/// Tells whether an evaluation is a lenient one.
pub(super) fn is_lenient(state: &State<'_, '_>) -> bool {
    state.env().undefined_behavior() == UndefinedBehavior::Chainable
}

/// Returns the syntax: Jinja's own, but a newline at the end of a text stays, as YAML's block scalars mean it.
pub(super) fn syntax() -> SyntaxConfig {
    let mut builder = SyntaxConfig::builder();
    builder.keep_trailing_newline(true);
    builder.build().expect("the default delimiters are valid")
}

/// Makes an environment: no loader, nothing of minijinja's own, every operator, filter and test of ours.
fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_formatter(format);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    // Blocks are bounded in each file, and so are includes; this leaves room for the deepest of both.
    environment.set_recursion_limit(1_000);
    environment.set_syntax(syntax());
    operators::register(&mut environment);
    filters::register(&mut environment);
    environment
}

/// Writes a value as the rest of the language does: null as nothing, lists and objects as JSON.
fn format(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &minijinja::Value) -> Result<(), Error> {
    if value.is_undefined() && !is_lenient(state) {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    match value.as_str() {
        Some(text) => out.write_str(text)?,
        None => out.write_str(&budget::text(state, &ours(value)?)?.0)?,
    }
    Ok(())
}

/// The root of an evaluation: asks the scope name by name, so that making it costs nothing.
pub(super) struct Root(pub(super) Scope);

/// Error text that a lookup leaves behind: minijinja's lookups can only say "undefined".
#[derive(Clone, Debug)]
struct Steps(Scope);

#[derive(Clone, Debug)]
struct Secrets(Scope);

impl fmt::Debug for Root {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Root")
    }
}

impl Object for Root {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<minijinja::Value> {
        match key {
            "steps" => return Some(minijinja::Value::from_object(Steps(self.0.clone()))),
            "secrets" => return Some(minijinja::Value::from_object(Secrets(self.0.clone()))),
            "__now" => return Some(to_jinja(&Value::Time(self.0.now))),
            _ => {}
        }
        root(&self.0, key).map(to_jinja)
    }
}

/// Returns what a plain root name means.
pub(super) fn root<'s>(scope: &'s Scope, name: &str) -> Option<&'s Value> {
    let local = scope.locals.iter().rev().find(|(local, _)| *local == name).map(|(_, value)| value);
    local.or_else(|| scope.globals.iter().find(|(global, _)| &**global == name).map(|(_, value)| value))
}

impl Object for Steps {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<minijinja::Value> {
        let view = self.0.lookup.step(key)?;
        Some(to_jinja(&step_value(&view, self.0.lookup.unknown_state(key))))
    }
}

/// Returns a step as an object.
pub(super) fn step_value(view: &super::StepView, unknown_state: Option<Value>) -> Value {
    let error = view.error.as_ref().map_or(Value::Null, StepError::to_value);
    let (state, error) = match unknown_state {
        Some(unknown) => (unknown.clone(), unknown),
        None => (view.state.name().into(), error),
    };
    Value::map([("output", view.output.clone()), ("state", state), ("error", error)])
}

impl Object for Secrets {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<minijinja::Value> {
        self.0.lookup.secret(key).ok().map(|secret| to_jinja(&secret.tainted()))
    }
}
