//! `file.read`: reads a file of the project.

use std::sync::Arc;

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
    /// How the content is given: `text` (UTF-8), `json` (a value, numbers exact), `base64` (any bytes), or `blob` (a handle
    /// of the file, for what sends files; its media type follows from the name).
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
    Blob,
}

/// Media types by the ending of a name, for what is sent to others.
const MEDIA_TYPES: &[(&str, &str)] = &[
    ("bmp", "image/bmp"),
    ("csv", "text/csv"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("gif", "image/gif"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("json", "application/json"),
    ("m4a", "audio/mp4"),
    ("md", "text/markdown"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("srt", "application/x-subrip"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain"),
    ("vtt", "text/vtt"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("xml", "application/xml"),
    ("zip", "application/zip"),
];

/// Tells the media type of a file by its name.
fn media_type(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    let known = MEDIA_TYPES.iter().find(|(own, _)| *own == ending);
    known.map_or("application/octet-stream", |(_, kind)| kind)
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
            Form::Blob => {
                let name = self.path.rsplit('/').next().unwrap_or(&self.path);
                Value::Blob(Arc::new(ctx.keep.put_blob(bytes, Some(media_type(name)), Some(name)).await?))
            }
            Form::Base64 => Value::from(STANDARD.encode(bytes)),
            Form::Text => Value::from(text(bytes)?),
            Form::Json => parse_json(&text(bytes)?).map_err(|error| {
                NodeError::new(ErrorClass::Invalid, error).at(format!("`{}` is not JSON", self.path))
            })?,
        };
        Ok(Outcome::Done(Value::map([("path", Value::from(self.path)), ("size", size.into()), ("content", content)])))
    }
}
