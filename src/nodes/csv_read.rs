//! `csv.read`: reads a table of text.

use std::sync::Arc;

use async_trait::async_trait;
use csv::StringRecord;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::files;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Map;
use crate::model::Value;
use crate::model::parse_number;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;

/// Reads CSV from a file of the project or from a text.
///
/// The output holds the rows, each an object by column name, and the names of the columns. Numbers keep their digits:
/// `1.10` stays `1.10`, an id of nineteen digits stays itself. Give `file` or `text`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CsvRead {
    /// The file, e.g. `data/prices.csv`.
    #[serde(default)]
    file: Option<String>,
    /// The CSV itself.
    #[serde(default)]
    text: Option<String>,
    /// Whether the first line names the columns.
    #[serde(default = "yes")]
    header: bool,
    /// The names of the columns, where no line names them; else the columns to keep.
    #[serde(default)]
    columns: Vec<String>,
    /// What stands between two cells: one ASCII character.
    #[serde(default = "comma")]
    delimiter: String,
    /// Whether a cell that reads as a number becomes one. `007` and `1e5x` are no numbers.
    #[serde(default = "yes")]
    numbers: bool,
    /// The types of single columns, before `numbers`: a cell that does not fit is an error.
    #[serde(default)]
    types: IndexMap<String, CellType>,
    /// The cells that mean null.
    #[serde(default = "empty_is_null")]
    nulls: Vec<String>,
    /// How many rows may come; more are an error.
    #[serde(default = "default_max_rows")]
    max_rows: usize,
    /// The largest file that is read, in bytes.
    #[serde(default = "files::default_max_bytes")]
    max_bytes: u64,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum CellType {
    String,
    Integer,
    Decimal,
    Boolean,
    /// `12.50 USD`.
    Money,
    /// RFC 3339, e.g. `2026-01-31T09:00:00Z`.
    Datetime,
}

/// A table that was read.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Table {
    /// The names of the columns, in order.
    columns: Vec<String>,
    /// The rows, each an object by column.
    rows: Vec<IndexMap<String, Value>>,
}

fn yes() -> bool {
    true
}

fn comma() -> String {
    ",".to_owned()
}

fn empty_is_null() -> Vec<String> {
    vec![String::new()]
}

fn default_max_rows() -> usize {
    1_000_000
}

#[async_trait]
impl NodeType for CsvRead {
    const NAME: &'static str = "csv.read";
    const EXAMPLE: &'static str = "text: |\n  symbol,price\n  ACME,19.90\n";
    type Output = Table;

    fn effect(with: &Value) -> Effect {
        if with.get("file").is_some() { Effect::Read } else { Effect::Pure }
    }

    fn check(with: &Value) -> Vec<(Option<String>, String)> {
        if with.get("file").is_some() != with.get("text").is_some() {
            return Vec::new();
        }
        vec![(None, "give one of `file` and `text`".to_owned())]
    }

    async fn run(mut self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let text = match (self.file.take(), self.text.take()) {
            (Some(file), None) => files::read_text(ctx, &file, self.max_bytes).await?,
            (None, Some(text)) => text,
            _ => return Err(NodeError::invalid("give one of `file` and `text`")),
        };
        // Reading a large table takes a while, and nobody else should wait for it.
        let table =
            if text.len() > 100_000 { files::blocking(move || self.parse(&text)).await? } else { self.parse(&text)? };
        Ok(Outcome::Done(table))
    }
}

impl CsvRead {
    fn parse(&self, text: &str) -> Result<Value, NodeError> {
        let &[delimiter] = self.delimiter.as_bytes() else {
            return Err(NodeError::invalid("`delimiter` must be one ASCII character"));
        };
        // Many programs write a byte-order mark, which would become a part of the first column's name.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader =
            csv::ReaderBuilder::new().has_headers(self.header).delimiter(delimiter).from_reader(text.as_bytes());
        let names: Vec<Arc<str>> = if self.header {
            reader.headers().map_err(malformed)?.iter().map(Arc::from).collect()
        } else {
            self.columns.iter().map(|name| Arc::from(name.as_str())).collect()
        };
        if let Some(twice) = names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|n| n == *name)) {
            return Err(NodeError::invalid(format!("two columns are named `{}`", twice.1)));
        }
        if names.is_empty() && !self.header {
            return Err(NodeError::invalid("without a header `columns` must name the columns"));
        }
        for wanted in self.columns.iter().chain(self.types.keys()) {
            if !names.iter().any(|name| **name == **wanted) {
                return Err(NodeError::invalid(format!("there is no column `{wanted}`")));
            }
        }
        let kept: Vec<(usize, Arc<str>, Option<CellType>)> = names
            .iter()
            .enumerate()
            .filter(|(_, name)| !self.header || self.columns.is_empty() || self.columns.iter().any(|c| **c == ***name))
            .map(|(at, name)| (at, name.clone(), self.types.get(&**name).copied()))
            .collect();
        let mut rows = Vec::new();
        let mut record = StringRecord::new();
        while reader.read_record(&mut record).map_err(malformed)? {
            if rows.len() >= self.max_rows {
                let message = format!("the table has more than {} rows (`max_rows`)", self.max_rows);
                return Err(NodeError::message(ErrorClass::Exhausted, message));
            }
            if record.len() != names.len() {
                let line = record.position().map_or(0, csv::Position::line);
                let message = format!("line {line} has {} cells, expected {}", record.len(), names.len());
                return Err(NodeError::invalid(message));
            }
            rows.push(self.row(&record, &kept)?);
        }
        let columns = kept.iter().map(|(_, name, _)| Value::String(name.clone())).collect();
        Ok(Value::map([("columns", Value::list(columns)), ("rows", Value::list(rows))]))
    }

    fn row(&self, record: &StringRecord, kept: &[(usize, Arc<str>, Option<CellType>)]) -> Result<Value, NodeError> {
        let mut row = Map::with_capacity(kept.len());
        for (at, name, kind) in kept {
            let cell = record.get(*at).unwrap_or_default();
            let value = self.cell(cell, *kind).ok_or_else(|| {
                let line = record.position().map_or(0, csv::Position::line);
                NodeError::invalid(format!("line {line}, column `{name}`: `{cell}` is not of the column's type"))
            })?;
            row.insert(name.clone(), value);
        }
        Ok(row.into())
    }

    fn cell(&self, cell: &str, kind: Option<CellType>) -> Option<Value> {
        if self.nulls.iter().any(|null| null == cell) {
            return Some(Value::Null);
        }
        match kind {
            Some(CellType::String) => Some(Value::from(cell)),
            Some(CellType::Integer) => parse_number(cell).filter(|number| matches!(number, Value::Int(_))),
            Some(CellType::Decimal) => parse_number(cell),
            Some(CellType::Boolean) => match cell {
                "true" | "TRUE" | "True" | "1" => Some(Value::Bool(true)),
                "false" | "FALSE" | "False" | "0" => Some(Value::Bool(false)),
                _ => None,
            },
            Some(CellType::Money) => cell.parse().ok().map(Value::Money),
            Some(CellType::Datetime) => cell.parse().ok().map(Value::Time),
            None if self.numbers => Some(parse_number(cell).unwrap_or_else(|| Value::from(cell))),
            None => Some(Value::from(cell)),
        }
    }
}

fn malformed(error: csv::Error) -> NodeError {
    NodeError::new(ErrorClass::Invalid, error).at("the text is not CSV")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::decode;
    use crate::model::parse_json;

    fn check(with: &str, expected: &str) {
        let node: CsvRead = decode(parse_json(with).unwrap()).unwrap();
        let text = node.text.clone().unwrap();
        let shown = match node.parse(&text) {
            Ok(table) => table.get("rows").unwrap().to_string(),
            Err(error) => error.text(),
        };
        assert_eq!(shown, expected, "{with}");
    }

    #[test]
    fn cells_keep_their_digits() {
        check(r#"{"text":"a,b\n1.10,007\n"}"#, r#"[{"a":1.10,"b":"007"}]"#);
        check(r#"{"text":"a\n9007199254740993\n\n"}"#, r#"[{"a":9007199254740993}]"#);
        check(r#"{"text":"a,b\n\"x, \"\"y\"\"\",\n"}"#, r#"[{"a":"x, \"y\"","b":null}]"#);
        check(r#"{"text":"a;b\n1;2\n","delimiter":";","columns":["b"]}"#, r#"[{"b":2}]"#);
        check(r#"{"text":"1,2\n","header":false,"columns":["a","b"]}"#, r#"[{"a":1,"b":2}]"#);
        check(r#"{"text":"a\n5\n","numbers":false}"#, r#"[{"a":"5"}]"#);
        check(r#"{"text":"\ufeffa\n5\n","types":{"a":"string"}}"#, r#"[{"a":"5"}]"#);
    }

    #[test]
    fn faults_say_where_they_are() {
        let ragged = "the text is not CSV: CSV error: record 1 (line: 2, byte: 4): found record with 1 fields, but the \
                      previous record has 2 fields";
        check(r#"{"text":"a,b\n1\n"}"#, ragged);
        check(r#"{"text":"a\nx\n","types":{"a":"integer"}}"#, "line 2, column `a`: `x` is not of the column's type");
        check(r#"{"text":"a\n1\n2\n","max_rows":1}"#, "the table has more than 1 rows (`max_rows`)");
        check(r#"{"text":"a,a\n1,2\n"}"#, "two columns are named `a`");
        check(r#"{"text":"a\n1\n","columns":["b"]}"#, "there is no column `b`");
    }
}
