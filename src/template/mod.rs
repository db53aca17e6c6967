//! Templates and expressions: minijinja with exact numbers, bounded in time and memory.

mod budget;
mod compile;
mod environment;
mod filters;
mod front;
mod guards;
mod limits;
mod operators;
mod prompt;
mod rewrite;
mod shape;
#[cfg(test)]
mod tests;
mod value;

use std::ops::Range;
use std::sync::Arc;

pub use self::compile::only_check;
pub use self::filters::Entry;
pub use self::filters::OutOfRange;
pub use self::filters::Sort;
pub use self::filters::catalog;
pub use self::filters::estimate_tokens;
pub use self::filters::price_of;
pub use self::filters::row_of;
pub use self::prompt::Prompt;
pub use self::shape::Argument;
pub use self::shape::Expr;
pub use self::shape::ExprKind;
pub use self::shape::Operator;
pub use self::shape::Part;
pub use self::shape::expression_of;

use crate::model::StepError;
use crate::model::StepState;
use crate::model::Timestamp;
use crate::model::Value;

/// A text with `{{ … }}`, compiled once; cheap to clone.
#[derive(Clone, Debug)]
pub struct Template(Arc<compile::Compiled>);

/// A value with templates in it, as `with:` is: compiled once, evaluated into a value.
#[derive(Clone, Debug)]
pub enum TemplateTree {
    Literal(Value),
    Template(Template),
    List(Vec<TemplateTree>),
    Map(Vec<(Arc<str>, TemplateTree)>),
}

/// A name that an expression reads: the root and the literal keys behind it, `steps.draft.output.text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub path: Vec<Arc<str>>,
    /// Bytes of the template's source.
    pub range: Range<usize>,
    /// Whether it may be missing at exactly this place: `| default(…)` or `is defined` stands behind it, or a condition
    /// around it proves that it is there.
    pub optional: bool,
}

/// Why a text is not a template.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct SyntaxError {
    pub message: String,
    /// Bytes of the template's source.
    pub range: Range<usize>,
}

/// Why an expression has no value. The message holds no secret.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct EvalError {
    pub message: String,
}

/// What a step has come to, as expressions see it under `steps.ID`.
#[derive(Clone, Debug)]
pub struct StepView {
    pub output: Value,
    pub state: StepState,
    pub error: Option<StepError>,
}

/// Gives `steps` and `secrets` on demand, so that a scope is made in O(1).
pub trait Lookup: Send + Sync + std::fmt::Debug {
    /// Returns the step as it is now, or nothing when there is no such step.
    fn step(&self, id: &str) -> Option<StepView>;
    /// Returns the secret, or why there is none.
    fn secret(&self, name: &str) -> Result<Value, String>;
    /// Tells whether values may be unknown: a plan is made.
    fn plans(&self) -> bool {
        false
    }
    /// Returns the state of a step where it is not known yet.
    fn unknown_state(&self, _id: &str) -> Option<Value> {
        None
    }
}

/// What the names in an expression mean. Made in O(1); cheap to clone.
#[derive(Clone, Debug)]
pub struct Scope {
    /// `steps` and `secrets`.
    pub lookup: Arc<dyn Lookup>,
    /// The other roots of the whole run: `inputs`, `run`.
    pub globals: Arc<Vec<(Arc<str>, Value)>>,
    /// The roots of this place, later wins: `item`, `index`, `output`, `previous`, `event`, `effects`.
    pub locals: Vec<(&'static str, Value)>,
    /// What `now()` gives.
    pub now: Timestamp,
}

/// The longest text that a template gives, in bytes.
pub const MAX_TEXT: usize = 16 << 20;
/// The longest source of a template, in bytes.
pub const MAX_SOURCE: usize = 1 << 20;

impl Template {
    /// Compiles a text. A text without `{{` or `{%` is a template too, and gives itself.
    pub fn parse(source: &str) -> Result<Self, SyntaxError> {
        compile::compile(source, compile::Mode::Strict).map(|compiled| Self(Arc::new(compiled)))
    }

    /// Compiles a text of which everything that is missing is null, at any depth, and a filter over null gives null: for
    /// expressions over answers of outside systems.
    pub fn parse_lenient(source: &str) -> Result<Self, SyntaxError> {
        compile::compile(source, compile::Mode::Lenient).map(|compiled| Self(Arc::new(compiled)))
    }

    /// Compiles a part of a URL: the text stays as it is written, what is computed in it is percent-encoded, unless
    /// `| path` (slashes stay) or `| safe` (all stays) says otherwise. One expression alone is not encoded. Lenient.
    pub fn parse_url(source: &str) -> Result<Self, SyntaxError> {
        compile::compile(source, compile::Mode::Url).map(|compiled| Self(Arc::new(compiled)))
    }

    /// Tells whether it is one `{{ … }}` and nothing else, so that its value keeps its kind.
    #[must_use]
    pub fn is_one_expression(&self) -> bool {
        self.0.is_one_expression()
    }

    /// Evaluates: one `{{ … }}` and nothing else keeps its kind, anything else gives a string. What is computed from a
    /// secret comes out secret.
    pub fn eval(&self, scope: &Scope) -> Result<Value, EvalError> {
        self.0.eval(scope)
    }

    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Returns the prompt that it renders, if it is one.
    #[must_use]
    pub fn prompt(&self) -> Option<&Prompt> {
        self.0.rendered_prompt()
    }

    /// Adds what is unknown of all that it may read: for those who evaluate it later, with further roots.
    pub fn unknowns(&self, scope: &Scope, places: &mut Vec<Arc<str>>) {
        for reference in self.references() {
            // A root that is not there yet is the node's to give.
            if let Ok(value) = compile::follow(&reference.path, scope) {
                value.unknowns(places);
            }
        }
    }

    #[must_use]
    pub fn references(&self) -> &[Reference] {
        &self.0.references
    }

    /// Returns the text itself when there is nothing to evaluate in it.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        self.0.literal()
    }
}

impl From<Prompt> for Template {
    /// A template that renders the file; its source is the file's name.
    fn from(prompt: Prompt) -> Self {
        Self(Arc::new(compile::Compiled::prompt(prompt)))
    }
}

impl TemplateTree {
    pub fn eval(&self, scope: &Scope) -> Result<Value, EvalError> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Template(template) => template.eval(scope),
            Self::List(items) => {
                items.iter().map(|item| item.eval(scope)).collect::<Result<Vec<_>, _>>().map(Value::list)
            }
            Self::Map(entries) => {
                let entries = entries.iter().map(|(key, tree)| Ok((key.clone(), tree.eval(scope)?)));
                entries.collect::<Result<crate::model::Map, EvalError>>().map(Value::from)
            }
        }
    }
}
