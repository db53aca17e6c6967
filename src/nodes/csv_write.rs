//! `csv.write`: writes a table as text.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::files;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Repeat;
use crate::model::Settlement;
use crate::model::Value;
use crate::model::WriteKind;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::Rows;
use crate::node::StepContext;

/// Writes rows as CSV into a file of the project, or gives the text back.
///
/// With `file` it is a write, whole or not at all, as `file.write`; without, it touches nothing and the output's `text`
/// is the CSV. Null is written as an empty cell, lists and objects as JSON.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CsvWrite {
    /// The rows, each an object.
    rows: Rows,
    /// The file, e.g. `out/orders.csv`.
    #[serde(default)]
    file: Option<String>,
    /// The columns, in order; those of the first row where none are given. Other keys of a row are left out.
    #[serde(default)]
    columns: Vec<String>,
    /// What stands between two cells: one ASCII character.
    #[serde(default = "comma")]
    delimiter: String,
    /// Whether the first line names the columns.
    #[serde(default = "yes")]
    header: bool,
}

/// A table that was written.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct WrittenTable {
    /// The number of rows, without the header.
    rows: u64,
    /// The file as it was given, null without one.
    file: Option<String>,
    /// The CSV, null with a file.
    text: Option<String>,
}

fn yes() -> bool {
    true
}

fn comma() -> String {
    ",".to_owned()
}

#[async_trait]
impl NodeType for CsvWrite {
    const NAME: &'static str = "csv.write";
    const EXAMPLE: &'static str = "rows: [{ symbol: ACME, price: 19.90 }]\n";
    type Output = WrittenTable;

    fn effect(with: &Value) -> Effect {
        if with.get("file").is_some() { Effect::Write(WriteKind::Upsert) } else { Effect::Pure }
    }

    fn settlement(&self) -> Settlement {
        Settlement { repeat: Repeat::Always, ..Settlement::default() }
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let (bytes, secret) = self.table(ctx).await?;
        let mut output = vec![("rows", Value::from(u64::try_from(self.rows.len()).unwrap_or(u64::MAX)))];
        if let Some(file) = self.file {
            files::write(ctx, &file, bytes).await?;
            output.extend([("file", Value::from(file)), ("text", Value::Null)]);
        } else {
            let text = String::from_utf8(bytes).map_err(|error| NodeError::new(ErrorClass::Bug, error))?;
            let text = if secret { Value::from(text).tainted() } else { Value::from(text) };
            output.extend([("file", Value::Null), ("text", text)]);
        }
        Ok(Outcome::Done(Value::map(output)))
    }
}

impl CsvWrite {
    /// Returns the table, and whether a secret is in it.
    async fn table(&self, ctx: &StepContext<'_>) -> Result<(Vec<u8>, bool), NodeError> {
        let &[delimiter] = self.delimiter.as_bytes() else {
            return Err(NodeError::invalid("`delimiter` must be one ASCII character"));
        };
        let given: Vec<Arc<str>> = self.columns.iter().map(|column| Arc::from(column.as_str())).collect();
        let mut rows = self.rows.read(ctx);
        let mut next = rows.next().await?;
        let columns = match next.as_ref().and_then(|(_, first)| first.as_map()) {
            Some(first) if given.is_empty() => first.keys().cloned().collect(),
            _ => given,
        };
        let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
        if self.header && !columns.is_empty() {
            writer.write_record(columns.iter().map(|column| &**column)).map_err(unwritable)?;
        }
        let mut secret = false;
        while let Some((index, row)) = next {
            secret |= row.is_tainted();
            let Some(row) = row.as_map() else {
                let kind = row.kind().name();
                return Err(NodeError::invalid(format!("row {index} is not an object but {kind}")));
            };
            let cells = columns.iter().map(|column| row.get(column).map(Value::to_text).unwrap_or_default());
            writer.write_record(cells).map_err(unwritable)?;
            next = rows.next().await?;
        }
        let bytes = writer.into_inner();
        let bytes = bytes.map_err(|error| NodeError::new(ErrorClass::Bug, anyhow::Error::msg(error.to_string())))?;
        Ok((bytes, secret))
    }
}

fn unwritable(error: csv::Error) -> NodeError {
    NodeError::new(ErrorClass::Invalid, error).at("the rows cannot be written as CSV")
}
