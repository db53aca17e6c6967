//! Loading rows by texts and external ids: all of them, or none.

use std::sync::Arc;

use super::fault::Fault;
use super::rows::View;
use super::schema::Field;
use super::schema::Kind;
use super::schema::Model;
use super::session::Session;
use super::values;
use crate::model::Map;
use crate::model::Value;

/// The module of external ids that name none.
const NO_MODULE: &str = "__import__";

/// A column: a field, and how a reference in it is written.
#[derive(Debug)]
struct Column<'a> {
    field: &'a Field,
    by: By,
    /// The column of lines of a document.
    below: Option<Box<Column<'a>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Name,
    ExternalId,
    Id,
}

/// What a row says of itself, beside its fields.
#[derive(Debug)]
enum Head<'a> {
    ExternalId,
    Id,
    Field(Column<'a>),
}

/// Why a row cannot be loaded.
#[derive(Debug)]
struct Problem {
    field: String,
    message: String,
}

/// Loads rows; what goes wrong is told, and nothing is kept.
pub(super) fn load<'a>(
    session: &mut Session<'a>,
    model: &'a Model,
    fields: &[String],
    data: &Value,
) -> Result<Value, Fault> {
    let before = session.tables.clone();
    let rows: Vec<&[Value]> = data.as_list().unwrap_or_default().iter().filter_map(Value::as_list).collect();
    let heads: Result<Vec<Head<'a>>, Problem> = fields.iter().map(|name| head(session, model, name)).collect();
    let heads = match heads {
        Ok(heads) => heads,
        Err(problem) => return Ok(answer(None, &[message(&problem, 0, rows.len())])),
    };
    let (mut ids, mut messages) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(first) = rows.get(at) {
        let lines = rows.get(at + 1..).unwrap_or_default();
        let more = lines.iter().take_while(|line| continues(&heads, line)).count();
        match one(session, model, &heads, first, lines.get(..more).unwrap_or_default()) {
            Ok(id) => ids.push(id),
            Err(problem) => messages.push(message(&problem, at, more + 1)),
        }
        at += more + 1;
    }
    if !messages.is_empty() {
        *session.tables = before;
        return Ok(answer(None, &messages));
    }
    Ok(answer(Some(&ids), &[]))
}

fn answer(ids: Option<&[i64]>, messages: &[Value]) -> Value {
    let ids = ids.map_or(Value::Bool(false), |ids| Value::list(ids.iter().copied().map(Value::from).collect()));
    Value::map([("ids", ids), ("messages", Value::list(messages.to_vec())), ("nextrow", Value::Int(0))])
}

fn message(problem: &Problem, row: usize, rows: usize) -> Value {
    let number = |number: usize| Value::from(i64::try_from(number).unwrap_or(i64::MAX));
    let last = (row + rows).saturating_sub(1);
    Value::map([
        ("type", Value::from("error")),
        ("message", Value::from(problem.message.as_str())),
        ("field", Value::from(problem.field.as_str())),
        ("record", number(row)),
        ("rows", Value::map([("from", number(row)), ("to", number(last))])),
    ])
}

/// Reads the head of a column.
fn head<'a>(session: &Session<'a>, model: &'a Model, name: &str) -> Result<Head<'a>, Problem> {
    match name {
        "id" => Ok(Head::ExternalId),
        ".id" => Ok(Head::Id),
        _ => column(session, model, name).map(Head::Field),
    }
}

fn column<'a>(session: &Session<'a>, model: &'a Model, name: &str) -> Result<Column<'a>, Problem> {
    let problem = |message: String| Problem { field: name.to_owned(), message };
    let (first, rest) = name.split_once('/').map_or((name, None), |(first, rest)| (first, Some(rest)));
    let field = model.field(first).filter(|field| field.is_writable() && !field.hidden);
    let field = field.ok_or_else(|| problem(format!("Unknown field '{first}' on '{}'", model.title)))?;
    let (by, below) = match rest {
        None => (By::Name, None),
        Some("id") if field.kind != Kind::One2many => (By::ExternalId, None),
        Some(".id") if field.kind != Kind::One2many => (By::Id, None),
        Some(rest) if field.kind == Kind::One2many => {
            let target =
                session.model(field.relation.as_deref().unwrap_or_default()).map_err(|fault| problem(fault.message))?;
            (By::Name, Some(Box::new(column(session, target, rest)?)))
        }
        Some(rest) => return Err(problem(format!("Unknown sub-field '{rest}'"))),
    };
    Ok(Column { field, by, below })
}

/// Tells whether a row only brings further lines of the one before.
fn continues(heads: &[Head<'_>], row: &[Value]) -> bool {
    let mut lines = false;
    for (head, cell) in heads.iter().zip(row) {
        let given = !is_empty(cell);
        match head {
            Head::Field(column) if column.below.is_some() => lines |= given,
            _ if given => return false,
            _ => {}
        }
    }
    lines
}

fn is_empty(cell: &Value) -> bool {
    matches!(cell, Value::Null | Value::Bool(false)) || cell.as_str().is_some_and(str::is_empty)
}

/// Creates or changes one row, and creates its lines.
fn one<'a>(
    session: &mut Session<'a>,
    model: &'a Model,
    heads: &[Head<'a>],
    first: &[Value],
    more: &[&[Value]],
) -> Result<i64, Problem> {
    let (mut vals, mut name, mut id) = (Map::new(), None, None);
    for (head, cell) in heads.iter().zip(first) {
        match head {
            Head::ExternalId => name = Some(cell.to_text()).filter(|text| !text.is_empty()),
            Head::Id => id = cell.to_text().trim().parse::<i64>().ok(),
            Head::Field(column) if column.below.is_none() => {
                vals.insert(column.field.name.clone(), read(session, column, cell)?);
            }
            Head::Field(_) => {}
        }
    }
    for row in std::iter::once(&first).chain(more) {
        lines(session, heads, row, &mut vals)?;
    }
    let name = name.map(|name| full(&name));
    if let Some(name) = &name {
        id = id.or_else(|| target(&session.view(), session.external_ids, name, &model.name));
    }
    let told = |fault: Fault| Problem { field: String::new(), message: fault.message };
    let id = match id {
        Some(id) => {
            session.write(model, &[id], &vals).map_err(told)?;
            id
        }
        None => session.create(model, &vals).map_err(told)?,
    };
    if let Some(name) = name {
        remember(session, model, &name, id).map_err(told)?;
    }
    Ok(id)
}

/// Keeps the external id of a row.
fn remember(session: &mut Session<'_>, model: &Model, name: &str, id: i64) -> Result<(), Fault> {
    if target(&session.view(), session.external_ids, name, &model.name) == Some(id) {
        return Ok(());
    }
    let (module, own) = name.split_once('.').unwrap_or((NO_MODULE, name));
    let row = [
        ("module", Value::from(module)),
        ("name", Value::from(own)),
        ("model", Value::from(&*model.name)),
        ("res_id", Value::from(id)),
    ];
    let row = row.into_iter().map(|(key, value)| (Arc::from(key), value)).collect();
    let names = session.model(session.external_ids)?;
    session.create(names, &row).map(|_| ())
}

/// Adds the line that a row brings.
fn lines(session: &Session<'_>, heads: &[Head<'_>], row: &[Value], vals: &mut Map) -> Result<(), Problem> {
    let mut found: Vec<(Arc<str>, Map)> = Vec::new();
    for (head, cell) in heads.iter().zip(row).filter(|(_, cell)| !is_empty(cell)) {
        let Head::Field(Column { field, below: Some(below), .. }) = head else { continue };
        let value = read(session, below, cell)?;
        match found.iter_mut().find(|(name, _)| *name == field.name) {
            Some((_, line)) => {
                line.insert(below.field.name.clone(), value);
            }
            None => found.push((field.name.clone(), Map::from_iter([(below.field.name.clone(), value)]))),
        }
    }
    for (name, line) in found {
        let mut commands = vals.get(&name).and_then(Value::as_list).unwrap_or_default().to_vec();
        commands.push(Value::list(vec![Value::Int(0), Value::Int(0), Value::from(line)]));
        vals.insert(name, Value::list(commands));
    }
    Ok(())
}

/// Reads a cell as the value of its field.
fn read(session: &Session<'_>, column: &Column<'_>, cell: &Value) -> Result<Value, Problem> {
    let field = column.field;
    let problem = |message: String| Problem { field: field.name.to_string(), message };
    if is_empty(cell) {
        return Ok(Value::Bool(false));
    }
    let text = cell.to_text();
    match field.kind {
        Kind::Many2one => reference(session, column, text.trim()).map(Value::from),
        Kind::One2many | Kind::Many2many => {
            let ids = text.split(',').map(|part| reference(session, column, part.trim()).map(Value::from));
            let ids = Value::list(ids.collect::<Result<_, _>>()?);
            Ok(Value::list(vec![Value::list(vec![Value::Int(6), Value::Int(0), ids])]))
        }
        Kind::Boolean => match text.to_lowercase().as_str() {
            "1" | "true" | "yes" => Ok(Value::Bool(true)),
            "0" | "false" | "no" => Ok(Value::Bool(false)),
            _ => Err(problem(format!("Unknown value '{text}' for boolean field '{}'", field.label))),
        },
        Kind::Selection => {
            let known = field.selection.iter().find(|(key, label)| **key == *text || **label == *text);
            let unknown = || problem(format!("Value '{text}' not found in selection field '{}'", field.label));
            known.map(|(key, _)| Value::String(key.clone())).ok_or_else(unknown)
        }
        Kind::Integer | Kind::Float | Kind::Monetary => {
            let wrong = format!("'{text}' does not seem to be a number for field '{}'", field.label);
            values::stored(field, cell).map_err(|_| problem(wrong))
        }
        Kind::Date | Kind::DateTime => {
            let wrong = format!("'{text}' does not seem to be a valid {} for field '{}'", field.kind_name, field.label);
            values::stored(field, cell).map_err(|_| problem(wrong))
        }
        Kind::Text | Kind::Any => Ok(cell.clone()),
    }
}

fn reference(session: &Session<'_>, column: &Column<'_>, text: &str) -> Result<i64, Problem> {
    let field = column.field;
    let relation = field.relation.as_deref().unwrap_or_default();
    let view = View { active_only: false, ..session.view() };
    let (found, sort) = match column.by {
        By::ExternalId => (target(&view, session.external_ids, &full(text), relation), "external id"),
        By::Id => (text.parse().ok().filter(|id| view.row(relation, *id).is_some()), "database id"),
        By::Name => {
            let target = session.schema.model(relation);
            let named = |model: &Model| view.ids(relation).into_iter().find(|id| view.name(model, *id) == text);
            (target.and_then(named), "name")
        }
    };
    found.ok_or_else(|| Problem {
        field: field.name.to_string(),
        message: format!("No matching record found for {sort} '{text}' in field '{}'", field.label),
    })
}

fn full(name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { format!("{NO_MODULE}.{name}") }
}

/// Finds the row that an external id names.
fn target(view: &View<'_>, external_ids: &str, name: &str, model: &str) -> Option<i64> {
    let (module, own) = name.split_once('.')?;
    let is = |row: &Map, key: &str, value: &str| row.get(key).and_then(Value::as_str) == Some(value);
    let rows = &view.tables.get(external_ids)?.rows;
    let found =
        rows.values().find(|row| is(row, "module", module) && is(row, "name", own) && is(row, "model", model))?;
    found.get("res_id").and_then(values::id_of).filter(|id| view.row(model, *id).is_some())
}

/// Returns the external ids of a row.
pub(super) fn names_of(view: &View<'_>, external_ids: &str, model: &str, id: i64) -> Vec<String> {
    let rows = view.tables.get(external_ids).into_iter().flat_map(|table| table.rows.values());
    let of = |row: &&Arc<Map>| {
        row.get("model").and_then(Value::as_str) == Some(model) && row.get("res_id").and_then(values::id_of) == Some(id)
    };
    let part = |row: &Map, key: &str| row.get(key).map(Value::to_text).unwrap_or_default();
    rows.filter(of).map(|row| format!("{}.{}", part(row, "module"), part(row, "name"))).collect()
}
