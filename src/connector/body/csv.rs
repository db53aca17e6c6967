//! CSV bodies: rows of objects ⇄ text. Every field that is read is a text; `typed` gives types.

use std::sync::Arc;

use ::csv::ReaderBuilder;
use ::csv::Terminator;
use ::csv::WriterBuilder;
use indexmap::IndexSet;

use super::Payload;
use super::scalar;
use crate::model::Map;
use crate::model::Value;

/// Writes rows below one line of names: those of the first row in its order, then names that only later rows have.
/// Null and what a row lacks are empty fields; lines end with LF.
pub fn encode(rows: &Value) -> Result<Payload, String> {
    let rows = rows.as_list().ok_or("csv takes a list of rows")?;
    let mut columns: IndexSet<Arc<str>> = IndexSet::new();
    for (index, row) in rows.iter().enumerate() {
        let row = row.as_map().ok_or_else(|| format!("row {} of the csv is not an object", index + 1))?;
        columns.extend(row.keys().cloned());
    }
    let mut writer = WriterBuilder::new().terminator(Terminator::Any(b'\n')).from_writer(Vec::new());
    let broken = |error: ::csv::Error| format!("cannot write csv: {error}");
    if !columns.is_empty() {
        writer.write_record(columns.iter().map(|name| name.as_bytes())).map_err(broken)?;
        for (index, row) in rows.iter().enumerate() {
            let field = |name: &Arc<str>| match row.get(name) {
                None | Some(Value::Null) => Ok(String::new()),
                Some(value) => scalar(value, &format!("`{name}` in row {} of the csv", index + 1)),
            };
            let fields = columns.iter().map(field).collect::<Result<Vec<_>, _>>()?;
            writer.write_record(fields).map_err(broken)?;
        }
    }
    let bytes = writer.into_inner().map_err(|error| format!("cannot write csv: {error}"))?;
    Ok(Payload::new("text/csv; charset=utf-8", bytes))
}

/// Reads rows below a line of names. A row with fewer fields lacks the last ones; one with more is an error.
pub fn decode(text: &str) -> Result<Value, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let names = reader.headers().map_err(|error| error.to_string())?;
    let names: Vec<Arc<str>> = names.iter().map(Arc::from).collect();
    let mut seen = IndexSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(Arc::clone(name))) {
        return Err(format!("the csv has two columns `{twice}`"));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| format!("the body is not csv: {error}"))?;
        if record.len() > names.len() {
            let line = record.position().map_or(0, ::csv::Position::line);
            return Err(format!("line {line} of the csv has {} fields for {} columns", record.len(), names.len()));
        }
        let row: Map = names.iter().cloned().zip(record.iter().map(Value::from)).collect();
        rows.push(Value::from(row));
    }
    Ok(Value::list(rows))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connector::body::samples;
    use crate::model::parse_json;

    fn written(json: &str) -> Result<String, String> {
        Ok(String::from_utf8(encode(&parse_json(json).unwrap())?.bytes).unwrap())
    }

    #[test]
    fn rows_are_written_below_the_names_of_the_first() {
        assert_eq!(
            written(r#"[{"b":1.50,"a":"x,\"y\"\n"},{"a":null,"c":true},{}]"#).unwrap(),
            "b,a,c\n1.50,\"x,\"\"y\"\"\n\",\n,,true\n,,\n"
        );
        assert_eq!(written("[]").unwrap(), "");
    }

    #[test]
    fn what_is_no_row_is_told() {
        assert_eq!(written("{}").unwrap_err(), "csv takes a list of rows");
        assert_eq!(written("[{},1]").unwrap_err(), "row 2 of the csv is not an object");
        let error = written(r#"[{"a":[1]}]"#).unwrap_err();
        assert_eq!(error, "`a` in row 1 of the csv takes a text or a number, not an array");
    }

    #[test]
    fn rows_are_read_as_texts() {
        let rows = decode("\u{feff}Id,Name\r\n1,\"a\nb\"\r\n2\r\n").unwrap();
        assert_eq!(rows.to_string(), r#"[{"Id":"1","Name":"a\nb"},{"Id":"2"}]"#);
        assert_eq!(decode("a,b\n").unwrap().to_string(), "[]");
        assert_eq!(decode("a,a\n").unwrap_err(), "the csv has two columns `a`");
        assert_eq!(decode("a\n1\n1,2\n").unwrap_err(), "line 3 of the csv has 2 fields for 1 columns");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            names in proptest::collection::btree_set("[a-zA-Z,\" ;]{1,6}", 1..5),
            cells in proptest::collection::vec(proptest::collection::vec("[ -~\n\rä€]{0,8}", 5), 1..6),
        ) {
            let rows: Vec<Value> = cells.iter()
                .map(|row| Value::map(names.iter().map(String::as_str).zip(row.iter().map(|cell| Value::from(cell.as_str())))))
                .collect();
            let rows = Value::list(rows);
            let text = String::from_utf8(encode(&rows).unwrap().bytes).unwrap();
            prop_assert_eq!(decode(&text).unwrap(), rows);
        }

        #[test]
        fn damaged_csv_never_panics(bytes in samples::mutated(b"a,b\n1,\"2\"\n\"x\ny\",z\n".to_vec())) {
            let _ = decode(&String::from_utf8_lossy(&bytes));
        }
    }
}
