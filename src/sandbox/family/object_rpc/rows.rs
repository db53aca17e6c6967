//! Rows as they are stored, and what is computed from them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;

use super::fault::Fault;
use super::fault::Kind as FaultKind;
use super::schema::Field;
use super::schema::Kind;
use super::schema::Model;
use super::schema::Schema;
use super::schema::Source;
use super::values;
use crate::connector::render;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::add;
use crate::model::compare;
use crate::template::Template;

/// How far a value is followed through others; what is deeper turns in a circle.
const MAX_DEPTH: usize = 24;

/// The rows of all models. Cheap to copy: a call that goes wrong goes back to the copy.
pub(super) type Tables = IndexMap<Arc<str>, Arc<Table>>;

/// The rows of a model, by id.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) rows: BTreeMap<i64, Arc<Map>>,
    /// The highest id that was ever given.
    pub(super) last: i64,
}

/// The rows at one moment, for reading.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) schema: &'a Schema,
    pub(super) tables: &'a Tables,
    /// Whether archived rows are hidden.
    pub(super) active_only: bool,
}

impl<'a> View<'a> {
    pub(super) fn row(&self, model: &str, id: i64) -> Option<&'a Arc<Map>> {
        self.tables.get(model)?.rows.get(&id)
    }

    /// Returns all ids of a model.
    pub(super) fn ids(&self, model: &str) -> Vec<i64> {
        self.tables.get(model).map(|table| table.rows.keys().copied().collect()).unwrap_or_default()
    }

    /// Returns the value of a field; null where it is empty.
    pub(super) fn value(&self, model: &Model, id: i64, field: &Field) -> Value {
        self.deep_value(model, id, field, 0)
    }

    fn deep_value(&self, model: &Model, id: i64, field: &Field, depth: usize) -> Value {
        if depth > MAX_DEPTH {
            return Value::Null;
        }
        match &*field.name {
            "id" => return Value::from(id),
            "display_name" => return Value::from(self.deep_name(model, id, depth)),
            _ => {}
        }
        match &field.source {
            Source::Stored if field.kind == Kind::One2many => {
                Value::list(self.lines(field, id).into_iter().map(Value::from).collect())
            }
            Source::Stored if field.kind == Kind::Many2many => {
                let stored = self.stored(model, id, field);
                let there = |item: &&Value| self.is_shown(field, item);
                Value::list(stored.as_list().unwrap_or_default().iter().filter(there).cloned().collect())
            }
            Source::Stored => self.stored(model, id, field),
            Source::Inherited => self.behind(model, id, field, depth),
            Source::Computed(template) => {
                let value = self.compute(template, model, id, depth);
                value.and_then(|value| values::stored(field, &value)).unwrap_or_default()
            }
            Source::Sum(path) => self.sum(model, id, field, path, depth),
            Source::Related(path) => self.follow(model, id, path, depth).into_iter().next().unwrap_or_default(),
        }
    }

    fn stored(&self, model: &Model, id: i64, field: &Field) -> Value {
        self.row(&model.name, id).and_then(|row| row.get(&field.name)).cloned().unwrap_or_default()
    }

    fn behind(&self, model: &Model, id: i64, field: &Field, depth: usize) -> Value {
        let Some(parent) = &model.inherits else { return Value::Null };
        let link = model.field(&parent.field).map(|link| self.deep_value(model, id, link, depth + 1));
        let (Some(behind), Some(target)) = (self.schema.model(&parent.model), link.as_ref().and_then(values::id_of))
        else {
            return Value::Null;
        };
        let Some(field) = behind.field(&field.name) else { return Value::Null };
        self.deep_value(behind, target, field, depth + 1)
    }

    /// Returns the ids of the rows that point to this one by the inverse field.
    fn lines(&self, field: &Field, id: i64) -> Vec<i64> {
        let (Some(relation), Some(inverse)) = (&field.relation, &field.inverse) else { return Vec::new() };
        let Some(model) = self.schema.model(relation) else { return Vec::new() };
        let Some(table) = self.tables.get(relation) else { return Vec::new() };
        let points = |row: &Map| row.get(inverse).and_then(values::id_of) == Some(id);
        let mut found: Vec<i64> = table.rows.iter().filter(|(_, row)| points(row)).map(|(id, _)| *id).collect();
        found.retain(|id| self.is_shown(field, &Value::from(*id)));
        let _ = self.sort(model, &mut found, &model.order);
        found
    }

    /// Tells whether a row that a field holds is there, and not hidden.
    fn is_shown(&self, field: &Field, id: &Value) -> bool {
        let found = field.relation.as_ref().zip(values::id_of(id)).and_then(|(model, id)| self.row(model, id));
        found.is_some_and(|row| !self.active_only || row.get("active") != Some(&Value::Bool(false)))
    }

    fn sum(&self, model: &Model, id: i64, field: &Field, path: &[Arc<str>], depth: usize) -> Value {
        let total = self
            .follow(model, id, path, depth)
            .iter()
            .fold(Value::Int(0), |total, part| if part.is_null() { total } else { add(&total, part).unwrap_or(total) });
        values::stored(field, &total).unwrap_or_default()
    }

    /// Returns the values at the end of a path, one for each way there.
    fn follow(&self, model: &Model, id: i64, path: &[Arc<str>], depth: usize) -> Vec<Value> {
        let Some((first, rest)) = path.split_first() else { return Vec::new() };
        let Some(field) = model.field(first) else { return Vec::new() };
        let value = self.deep_value(model, id, field, depth + 1);
        if rest.is_empty() {
            return vec![value];
        }
        let Some(target) = field.relation.as_deref().and_then(|name| self.schema.model(name)) else {
            return Vec::new();
        };
        values::ids_of(&value).into_iter().flat_map(|id| self.follow(target, id, rest, depth + 1)).collect()
    }

    /// Returns the ids at the end of a path.
    pub(super) fn reached(&self, model: &Model, id: i64, path: &[Arc<str>]) -> Vec<i64> {
        self.follow(model, id, path, 0).iter().flat_map(values::ids_of).collect()
    }

    /// Returns what a row takes from others, where it has nothing of its own.
    pub(super) fn taken(&self, model: &Model, id: i64, given: &Map) -> Map {
        let mut taken = Map::new();
        for field in model.fields.values().filter(|field| !given.contains_key(&field.name)) {
            let Some(path) = &field.from else { continue };
            let own = self.stored(model, id, field);
            let first = self.follow(model, id, path, 0).into_iter().next();
            if let Some(value) = first.filter(|value| !own.is_truthy() && !value.is_null()) {
                taken.insert(field.name.clone(), value);
            }
        }
        taken
    }

    /// Evaluates an expression over the fields of a row.
    pub(super) fn evaluate(&self, template: &Template, model: &Model, id: i64) -> Result<Value, String> {
        self.compute(template, model, id, 0)
    }

    fn compute(&self, template: &Template, model: &Model, id: i64, depth: usize) -> Result<Value, String> {
        let mut row = Map::new();
        for reference in template.references() {
            let [root, name, ..] = reference.path.as_slice() else { continue };
            if let Some(field) = model.field(name).filter(|_| &**root == "row") {
                row.insert(name.clone(), values::filled(field, self.deep_value(model, id, field, depth + 1)));
            }
        }
        let scope = render::scope(vec![("row", Value::from(row))], Timestamp(0));
        template.eval(&scope).map_err(|error| error.message)
    }

    /// Returns what a row is called.
    pub(super) fn name(&self, model: &Model, id: i64) -> String {
        self.deep_name(model, id, 0)
    }

    fn deep_name(&self, model: &Model, id: i64, depth: usize) -> String {
        if let Some(template) = &model.display {
            return self.compute(template, model, id, depth + 1).map(|name| name.to_text()).unwrap_or_default();
        }
        let name = model.name_field().map(|field| self.deep_value(model, id, field, depth + 1));
        match name {
            Some(name) if !name.is_null() => name.to_text(),
            _ => format!("{},{id}", model.name),
        }
    }

    /// Puts ids in the order that is written, `name, id desc`.
    pub(super) fn sort(&self, model: &Model, ids: &mut Vec<i64>, order: &str) -> Result<(), Fault> {
        let mut keys = Vec::new();
        for part in order.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut words = part.split_whitespace();
            let name = words.next().unwrap_or_default();
            let down = match words.next().map(str::to_lowercase).as_deref() {
                None | Some("asc") => false,
                Some("desc") => true,
                Some(_) => {
                    let message = format!(
                        "Invalid \"order\" specified ({order}). A valid \"order\" specification is a comma-separated list \
                         of valid field names (optionally followed by asc/desc for the direction)"
                    );
                    return Err(Fault::new(FaultKind::User, message));
                }
            };
            let field = model.field(name).ok_or_else(|| Fault::field(&model.name, name))?;
            keys.push((field, down));
        }
        let mut decorated: Vec<(Vec<Value>, i64)> = ids
            .iter()
            .map(|id| (keys.iter().map(|(field, _)| self.sortable(model, *id, field)).collect(), *id))
            .collect();
        decorated.sort_by(|(left, left_id), (right, right_id)| {
            for ((a, b), (_, down)) in left.iter().zip(right).zip(&keys) {
                let found = nulls_last(a, b);
                if found != Ordering::Equal {
                    return if *down { found.reverse() } else { found };
                }
            }
            left_id.cmp(right_id)
        });
        *ids = decorated.into_iter().map(|(_, id)| id).collect();
        Ok(())
    }

    fn sortable(&self, model: &Model, id: i64, field: &Field) -> Value {
        let value = self.value(model, id, field);
        if field.kind == Kind::Many2one {
            let target = field.relation.as_deref().and_then(|name| self.schema.model(name));
            return match target.zip(values::id_of(&value)) {
                Some((target, id)) => Value::from(self.name(target, id).to_lowercase()),
                None => Value::Null,
            };
        }
        match &value {
            Value::String(text) if field.kind == Kind::Text => Value::from(text.to_lowercase()),
            Value::Null if field.kind == Kind::Boolean => Value::Bool(false),
            _ => value,
        }
    }
}

fn nulls_last(left: &Value, right: &Value) -> Ordering {
    match (left.is_null(), right.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => compare(left, right).unwrap_or(Ordering::Equal),
    }
}
