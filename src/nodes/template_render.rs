//! `template.render`: makes a text of a template.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Value;
use crate::node::ExpressionKey;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;

/// Renders a template to a text: a report, a message, a prompt.
///
/// The template sees `vars` beside all that the step sees. It is always a text, also where it is one `{{ … }}` alone; loops
/// and conditions (`{% for %}`, `{% if %}`) work.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TemplateRender {
    /// The template, e.g. `"Dear {{ vars.name }}"`.
    #[serde(default)]
    text: Option<String>,
    /// A file with the template instead, relative to the pipeline's file, e.g. `prompts/letter.md.j2`; literal. It may
    /// `{% include %}` others, relative to itself.
    #[serde(default, rename = "file")]
    _file: Option<String>,
    /// Values for the template, as `vars`.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    vars: Value,
}

/// A text that was rendered.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Rendered {
    text: String,
}

#[async_trait]
impl NodeType for TemplateRender {
    const NAME: &'static str = "template.render";
    const EXAMPLE: &'static str =
        "text: \"{% for name in vars.names %}Hello {{ name }}! {% endfor %}\"\nvars: { names: [Ada, Grace] }\n";
    const EXPRESSIONS: &'static [ExpressionKey] = &[ExpressionKey { key: "text", roots: &["vars"] }];
    const PROMPTS: &'static [ExpressionKey] = &[ExpressionKey { key: "file", roots: &["vars"] }];
    type Output = Rendered;

    fn effect(_with: &Value) -> Effect {
        Effect::Pure
    }

    fn check(with: &Value) -> Vec<(Option<String>, String)> {
        let given = ["text", "file"].iter().filter(|key| with.get(key).is_some()).count();
        if given == 1 { Vec::new() } else { vec![(None, "give one template: `text` or `file`".to_owned())] }
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let vars = if self.vars.is_null() { Value::map::<&str>([]) } else { self.vars };
        let key = if self.text.is_some() { "text" } else { "file" };
        let value = ctx
            .eval(key, &[("vars", vars)])
            .map_err(|error| NodeError::new(ErrorClass::Invalid, error).at(format!("`{key}`")))?;
        let text = Value::from(value.to_text());
        let text = if value.is_tainted() { text.tainted() } else { text };
        Ok(Outcome::Done(Value::map([("text", text)])))
    }
}
