//! Rows for a node: a list, or a dataset that is read in batches.

use std::borrow::Cow;

use async_trait::async_trait;
use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error;

use super::NodeError;
use super::StepContext;
use crate::model::ErrorClass;
use crate::model::Value;

/// How many rows of a dataset are in memory at once.
pub const ROWS_A_BATCH: usize = 1_000;

/// How many rows are worked on before other tasks get their turn.
const ROWS_A_TURN: u64 = 2_048;

/// Reads the rows of datasets.
#[async_trait]
pub trait RowSource: Send + Sync + std::fmt::Debug {
    /// Returns up to `limit` rows of a dataset, from row `from` (counted from 0) on.
    async fn rows(&self, dataset: &str, from: u64, limit: u64) -> Result<Vec<Value>, NodeError>;
}

/// The rows that a node works on: a field of its `with:`.
#[derive(Clone, Debug)]
pub struct Rows(Value);

/// Gives the rows one after the other.
#[derive(Debug)]
pub struct RowReader<'a> {
    ctx: &'a StepContext<'a>,
    rows: Value,
    /// Rows given so far.
    given: u64,
    batch: std::vec::IntoIter<Value>,
}

impl Rows {
    /// Returns a reader that stands before the first row.
    #[must_use]
    pub fn read<'a>(&self, ctx: &'a StepContext<'a>) -> RowReader<'a> {
        RowReader { ctx, rows: self.0.clone(), given: 0, batch: Vec::new().into_iter() }
    }

    /// Returns how many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Value::List(rows) => rows.len(),
            Value::Dataset(dataset) => usize::try_from(dataset.rows).unwrap_or(usize::MAX),
            _ => 0,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl RowReader<'_> {
    /// Returns the next row with its number, from 0. Lets other tasks run now and then.
    ///
    /// # Errors
    /// A dataset that cannot be read; the step was canceled.
    pub async fn next(&mut self) -> Result<Option<(usize, Value)>, NodeError> {
        if self.given % ROWS_A_TURN == ROWS_A_TURN - 1 {
            tokio::task::yield_now().await;
            if self.ctx.canceled.is_cancelled() {
                return Err(NodeError::message(ErrorClass::Canceled, "canceled"));
            }
        }
        let index = usize::try_from(self.given).unwrap_or(usize::MAX);
        let row = match &self.rows {
            Value::List(rows) => rows.get(index).cloned(),
            Value::Dataset(dataset) => {
                if self.batch.len() == 0 && self.given < dataset.rows {
                    let limit = u64::try_from(ROWS_A_BATCH).unwrap_or(u64::MAX).min(dataset.rows - self.given);
                    let rows = self.ctx.rows.rows(&dataset.id, self.given, limit).await?;
                    if rows.is_empty() {
                        let message = format!("dataset `{}` ends before row {}", dataset.name, self.given);
                        return Err(NodeError::invalid(message));
                    }
                    self.batch = rows.into_iter();
                }
                self.batch.next()
            }
            _ => None,
        };
        self.given += u64::from(row.is_some());
        Ok(row.map(|row| (index, row)))
    }
}

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            rows @ (Value::List(_) | Value::Dataset(_)) => Ok(Self(rows)),
            other => Err(D::Error::custom(format!("expected a list or a dataset, found {}", other.kind().name()))),
        }
    }
}

impl JsonSchema for Rows {
    fn schema_name() -> Cow<'static, str> {
        "Rows".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// In a file the rows are a list; a dataset comes by an expression.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        <Vec<Value>>::json_schema(generator)
    }
}
