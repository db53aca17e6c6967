//! `file.read`: reads a file of the project.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;

use super::files;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Value;
use crate::model::parse_json;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;

/// Reads a file whole.
///
/// Paths are relative to the project's folder; a path that leads outside it, also by a link, is refused unless the
/// project file says `allow: { files_outside: true }`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FileRead {
    /// The file, e.g. `data/orders.json`.
    path: String,
    /// How the content is given: `text` (UTF-8), `json` (a value, numbers exact), or `base64` (any bytes).
    #[serde(default, rename = "as")]
    form: Form,
    /// The largest file that is read, in bytes.
    #[serde(default = "files::default_max_bytes")]
    max_bytes: u64,
}

/// How the content is given.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Form {
    #[default]
    Text,
    Json,
    Base64,
}

/// A file that was read.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Content {
    /// The path as it was given.
    path: String,
    /// The length in bytes.
    size: u64,
    /// The content, as `as` says.
    content: Value,
}

#[async_trait]
impl NodeType for FileRead {
    const NAME: &'static str = "file.read";
    const EXAMPLE: &'static str = "path: data/orders.json\nas: json\n";
    type Output = Content;

    fn effect(_with: &Value) -> Effect {
        Effect::Read
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let bytes = files::read(ctx, &self.path, self.max_bytes).await?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let text = |bytes| {
            String::from_utf8(bytes).map_err(|_| NodeError::invalid(format!("`{}` is not UTF-8 text", self.path)))
        };
        let content = match self.form {
            Form::Base64 => Value::from(STANDARD.encode(bytes)),
            Form::Text => Value::from(text(bytes)?),
            Form::Json => parse_json(&text(bytes)?).map_err(|error| {
                NodeError::new(ErrorClass::Invalid, error).at(format!("`{}` is not JSON", self.path))
            })?,
        };
        Ok(Outcome::Done(Value::map([("path", Value::from(self.path)), ("size", size.into()), ("content", content)])))
    }
}
