//! Generations as steps see them.

use std::sync::Arc;

use schemars::JsonSchema;

use crate::model::Value;
use crate::store::GenerationRecord;

/// Something that was generated, or a note.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Remembered {
    id: String,
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// What it is, e.g. `generate` or `note`.
    kind: String,
    topic: Option<String>,
    text: String,
    /// What the text means, where it has structure.
    value: Value,
    tags: Vec<String>,
    pipeline: String,
    run: String,
    connection: Option<String>,
    model: Option<String>,
    prompt: Option<String>,
    /// The hash of the prompt's text.
    prompt_version: Option<String>,
    /// What it cost; null where that is not known.
    #[schemars(with = "Option<String>")]
    cost: Value,
    unit: Option<String>,
}

/// Makes what a step sees of a generation.
pub(super) fn remembered(record: GenerationRecord) -> Vec<(Arc<str>, Value)> {
    let optional = |text: Option<String>| text.map_or(Value::Null, Value::from);
    let fields = [
        ("id", Value::from(record.id)),
        ("at", Value::Time(record.at)),
        ("kind", record.kind.into()),
        ("topic", optional(record.topic)),
        ("text", record.output.into()),
        ("value", record.value),
        ("tags", Value::list(record.tags.into_iter().map(Value::from).collect())),
        ("pipeline", (&*record.pipeline).into()),
        ("run", record.run.to_string().into()),
        ("connection", optional(record.connection)),
        ("model", optional(record.model)),
        ("prompt", optional(record.prompt)),
        ("prompt_version", optional(record.prompt_version)),
        ("cost", optional(record.cost.map(|cost| cost.to_string()))),
        ("unit", optional(record.unit)),
    ];
    fields.into_iter().map(|(key, value)| (key.into(), value)).collect()
}

/// Makes an output of rows: the rows under their name, and how many there are.
pub(super) fn rows(name: &str, rows: Vec<Value>) -> Value {
    let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    Value::map([(name, Value::list(rows)), ("count", count.into())])
}
