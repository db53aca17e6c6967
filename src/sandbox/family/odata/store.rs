//! The rows of all tables; cheap to copy, so that what fails half way is taken back.

use std::collections::HashSet;
use std::sync::Arc;

use super::edm::Source;
use super::schema::Navigation;
use super::schema::Schema;
use super::schema::Set;
use super::schema::Table;
use crate::model::Map;
use crate::model::Value;

#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    tables: Vec<Rows>,
}

#[derive(Clone, Debug, Default)]
struct Rows {
    rows: Vec<Arc<Map>>,
    /// The highest number that was ever given: none is given again.
    last: i128,
}

impl Store {
    pub(super) fn new(schema: &Schema) -> Self {
        Self { tables: schema.tables.iter().map(|_| Rows::default()).collect() }
    }

    pub(super) fn rows(&self, table: usize) -> &[Arc<Map>] {
        self.tables.get(table).map(|table| table.rows.as_slice()).unwrap_or_default()
    }

    pub(super) fn row(&self, table: usize, at: usize) -> Option<&Arc<Map>> {
        self.rows(table).get(at)
    }

    /// Returns where the rows are that have these values.
    pub(super) fn positions(&self, table: usize, values: &[(Arc<str>, Value)]) -> Vec<usize> {
        let fits = |row: &Map| values.iter().all(|(column, value)| row.get(column) == Some(value));
        self.rows(table).iter().enumerate().filter(|(_, row)| fits(row)).map(|(at, _)| at).collect()
    }

    /// Returns where the rows are that a row's navigation leads to.
    pub(super) fn related(&self, navigation: &Navigation, to: &Set, row: &Map) -> Vec<usize> {
        self.positions(to.table, &bound(navigation, row))
    }

    pub(super) fn push(&mut self, table: usize, row: Map) -> usize {
        let Some(table) = self.tables.get_mut(table) else { return 0 };
        table.rows.push(Arc::new(row));
        table.rows.len() - 1
    }

    pub(super) fn replace(&mut self, table: usize, at: usize, row: Map) {
        if let Some(old) = self.tables.get_mut(table).and_then(|table| table.rows.get_mut(at)) {
            *old = Arc::new(row);
        }
    }

    /// Takes rows away; the others move up.
    pub(super) fn remove(&mut self, table: usize, gone: &[usize]) {
        if let Some(table) = self.tables.get_mut(table) {
            let mut at = 0..;
            table.rows.retain(|_| !at.next().is_some_and(|at| gone.contains(&at)));
        }
    }

    /// Gives the next number of a table: beyond all that there were, or beyond those of the same whole.
    pub(super) fn number(&mut self, table: &Table, at: usize, first: i64, step: i64, given: &Map) -> i128 {
        let (first, step) = (i128::from(first), i128::from(step));
        let Some((last, others)) = table.key.split_last() else { return first };
        let Some(rows) = self.tables.get_mut(at) else { return first };
        let siblings = rows.rows.iter().filter(|row| others.iter().all(|column| row.get(column) == given.get(column)));
        let highest = siblings.filter_map(|row| number_of(row.get(last)?)).max().unwrap_or(first - step);
        let highest = if others.is_empty() { highest.max(rows.last) } else { highest };
        let number = highest.saturating_add(step).max(first);
        rows.last = rows.last.max(number);
        number
    }

    /// Replaces the rows of a collection: a table, `SERVICE/SET`, or a set where there is but one of its name.
    pub(super) fn load(&mut self, schema: &Schema, collection: &str, rows: &[Value]) -> Result<(), String> {
        let set = schema.find(collection).map(|(_, set)| set);
        let named = schema.tables.iter().position(|table| &*table.name == collection);
        let at = named.or(set.map(|set| set.table));
        let found = at.and_then(|at| Some((at, schema.tables.get(at)?)));
        let (at, table) = found.ok_or_else(|| format!("there is no collection `{collection}`"))?;
        let (mut loaded, mut keys) = (Vec::new(), HashSet::new());
        for (number, row) in rows.iter().enumerate() {
            let row = read(table, set, row).map_err(|error| format!("row {number} of `{collection}`: {error}"))?;
            let key: Vec<_> = table.key.iter().map(|column| row.get(column).map(Value::to_text)).collect();
            if !keys.insert(key) {
                return Err(format!("row {number} of `{collection}`: there is one with this key"));
            }
            loaded.push(Arc::new(row));
        }
        if let Some(table) = self.tables.get_mut(at) {
            *table = Rows { rows: loaded, last: 0 };
        }
        Ok(())
    }

    /// Returns all rows by table.
    pub(super) fn state(&self, schema: &Schema) -> Value {
        let all = schema.tables.iter().zip(&self.tables);
        Value::map(all.map(|(table, rows)| {
            (table.name.clone(), Value::list(rows.rows.iter().map(|row| Value::Map(row.clone())).collect()))
        }))
    }
}

/// Returns what a navigation demands of the other side.
pub(super) fn bound(navigation: &Navigation, row: &Map) -> Vec<(Arc<str>, Value)> {
    let value = |from: &Arc<str>| row.get(from).cloned().unwrap_or_default();
    navigation.on.iter().map(|(from, to)| (to.clone(), value(from))).collect()
}

fn number_of(value: &Value) -> Option<i128> {
    match value {
        Value::Int(number) => Some(*number),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Reads a row by the names of a set's properties, or of the table's columns.
fn read(table: &Table, set: Option<&Set>, row: &Value) -> Result<Map, String> {
    let given = row.as_map().ok_or("it is no mapping")?;
    let mut made: Map = table.columns.iter().map(|(column, kind)| (column.clone(), kind.initial())).collect();
    for (name, value) in given {
        let of_set = set.and_then(|set| set.column(name));
        let known = of_set.or_else(|| table.columns.get_key_value(name).map(|(column, kind)| (column.clone(), *kind)));
        let (column, kind) = known.ok_or_else(|| format!("there is no property `{name}`"))?;
        let value = kind.accept(value, Source::Rows).map_err(|error| format!("`{name}`: {error}"))?;
        made.insert(column, value);
    }
    let missing = table.key.iter().find(|column| made.get(*column).is_none_or(|value| *value == Value::from("")));
    match missing {
        Some(column) => Err(format!("it has no `{column}`")),
        None => Ok(made),
    }
}
