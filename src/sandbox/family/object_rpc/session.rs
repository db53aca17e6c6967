//! One call as one transaction: creating, writing and deleting rows.

use std::sync::Arc;

use super::access::User;
use super::domain::Domain;
use super::fault::Fault;
use super::fault::Kind as FaultKind;
use super::rows::Table;
use super::rows::Tables;
use super::rows::View;
use super::schema::Field;
use super::schema::Kind;
use super::schema::LOGGED;
use super::schema::Model;
use super::schema::OnDelete;
use super::schema::Schema;
use super::schema::Source;
use super::schema::Written;
use super::settings::GuardSettings;
use super::values;
use crate::connector::render;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;

/// How deep rows may bring rows, or take them with them.
const MAX_DEPTH: usize = 64;

/// What a call works with.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) schema: &'a Schema,
    pub(super) tables: &'a mut Tables,
    pub(super) user: &'a User,
    /// The beginning of the transaction, by which rows are dated.
    pub(super) began: Timestamp,
    pub(super) active_test: bool,
    pub(super) external_ids: &'a str,
    pub(super) depth: usize,
}

impl<'a> Session<'a> {
    pub(super) fn view(&self) -> View<'_> {
        View { schema: self.schema, tables: self.tables, active_only: self.active_test }
    }

    pub(super) fn model(&self, name: &str) -> Result<&'a Model, Fault> {
        self.schema.model(name).ok_or_else(|| Fault::new(FaultKind::Model, name))
    }

    /// Refuses ids of rows that are not there.
    pub(super) fn check_there(&self, model: &Model, ids: &[i64]) -> Result<(), Fault> {
        match ids.iter().find(|id| self.view().row(&model.name, **id).is_none()) {
            Some(id) => Err(Fault::missing(&model.name, *id, self.user.id)),
            None => Ok(()),
        }
    }

    /// Creates a row and returns its id.
    pub(super) fn create(&mut self, model: &'a Model, given: &Map) -> Result<i64, Fault> {
        self.user.check("create", &model.name, &model.title)?;
        self.deeper(|session| session.create_within(model, given))
    }

    fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth >= MAX_DEPTH {
            return Err(Fault::too_deep());
        }
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        result
    }

    fn create_within(&mut self, model: &'a Model, given: &Map) -> Result<i64, Fault> {
        let id = self.tables.get(&model.name).map_or(0, |table| table.last) + 1;
        let Parted { mut own, behind, through } = part(model, given)?;
        self.create_behind(model, &mut own, &behind)?;
        let mut row = Map::new();
        let mut commands = Vec::new();
        for field in model.fields.values().filter(|field| field.is_stored() && field.is_writable()) {
            let value = match own.get(&field.name) {
                Some(value) => value.clone(),
                None => match &field.default {
                    Some(default) => self.written(default, model, id, &row)?,
                    None => Value::Null,
                },
            };
            if field.kind.is_many() {
                commands.push((field, value));
            } else {
                row.insert(field.name.clone(), stored(model, field, &value)?);
            }
        }
        let now = Value::from(values::moment_text(self.began));
        for (key, value) in [("create_date", &now), ("write_date", &now)] {
            row.insert(key.into(), value.clone());
        }
        for key in ["create_uid", "write_uid"] {
            row.insert(key.into(), Value::from(self.user.id));
        }
        let table = self.table(&model.name);
        table.last = id;
        table.rows.insert(id, Arc::new(row));
        let taken = self.view().taken(model, id, &own);
        self.set(&model.name, id, taken);
        for (field, value) in commands {
            self.command(model, id, field, &value)?;
        }
        self.check(model, &[id])?;
        if let Some(brings) = model.brings.as_ref().filter(|_| self.depth == 1) {
            let child = self.model(&brings.model)?;
            self.create(child, &Map::from_iter([(brings.field.clone(), Value::from(id))]))?;
        }
        self.write_through(model, id, &through)?;
        Ok(id)
    }

    /// Creates the row that stands behind, or changes the one that is named.
    fn create_behind(&mut self, model: &'a Model, own: &mut Map, behind: &Map) -> Result<(), Fault> {
        let Some(parent) = &model.inherits else { return Ok(()) };
        let target = self.model(&parent.model)?;
        match own.get(&parent.field).and_then(values::id_of) {
            Some(id) if !behind.is_empty() => self.write(target, &[id], behind),
            Some(_) => Ok(()),
            None => {
                let id = self.create(target, behind)?;
                own.insert(parent.field.clone(), Value::from(id));
                Ok(())
            }
        }
    }

    /// Writes the same values to rows.
    pub(super) fn write(&mut self, model: &'a Model, ids: &[i64], given: &Map) -> Result<(), Fault> {
        self.user.check("write", &model.name, &model.title)?;
        self.check_there(model, ids)?;
        let parted = part(model, given)?;
        for guard in &model.frozen {
            if given.keys().any(|key| !guard.except.contains(key)) {
                self.guard(model, ids, guard)?;
            }
        }
        for id in ids {
            self.write_one(model, *id, &parted)?;
        }
        self.check(model, ids)
    }

    /// Changes a row as a method of the server does, which no guard holds up.
    pub(super) fn change(&mut self, model: &'a Model, id: i64, given: &Map) -> Result<(), Fault> {
        self.write_one(model, id, &part(model, given)?)?;
        self.check(model, &[id])
    }

    fn write_one(&mut self, model: &'a Model, id: i64, parted: &Parted) -> Result<(), Fault> {
        let Parted { own, behind, through } = parted;
        let mut changed = Map::new();
        let mut commands = Vec::new();
        for (key, value) in own {
            let field = model.field(key).ok_or_else(|| Fault::field(&model.name, key))?;
            match field.kind.is_many() {
                true => commands.push((field, value)),
                false => {
                    changed.insert(key.clone(), stored(model, field, value)?);
                }
            }
        }
        changed.insert("write_date".into(), Value::from(values::moment_text(self.began)));
        changed.insert("write_uid".into(), Value::from(self.user.id));
        self.set(&model.name, id, changed);
        for (field, value) in commands {
            self.command(model, id, field, value)?;
        }
        let parent = model.inherits.as_ref().filter(|_| !behind.is_empty());
        if let Some(parent) = parent {
            let link = self.view().row(&model.name, id).and_then(|row| row.get(&parent.field)).and_then(values::id_of);
            if let Some(link) = link {
                self.write(self.model(&parent.model)?, &[link], behind)?;
            }
        }
        self.write_through(model, id, through)
    }

    /// Writes values of related fields to where they come from.
    fn write_through(&mut self, model: &'a Model, id: i64, through: &Map) -> Result<(), Fault> {
        for (key, value) in through {
            let Some(Source::Related(path)) = model.field(key).map(|field| &field.source) else { continue };
            let Some((last, way)) = path.split_last() else { continue };
            let mut target = model;
            for step in way {
                let relation = target.field(step).and_then(|field| field.relation.as_deref());
                target = self.model(relation.unwrap_or_default())?;
            }
            let ids = self.view().reached(model, id, way);
            self.write(target, &ids, &Map::from_iter([(last.clone(), value.clone())]))?;
        }
        Ok(())
    }

    /// Deletes rows, and what goes with them.
    pub(super) fn unlink(&mut self, model: &'a Model, ids: &[i64]) -> Result<(), Fault> {
        self.user.check("unlink", &model.name, &model.title)?;
        self.check_there(model, ids)?;
        for guard in &model.kept {
            self.guard(model, ids, guard)?;
        }
        // They go first: what they take with them may point back.
        let table = self.table(&model.name);
        for id in ids {
            table.rows.remove(id);
        }
        for other in self.schema.0.values() {
            for field in other.fields.values().filter(|field| field.is_stored() && field.kind == Kind::Many2one) {
                if field.relation.as_ref() == Some(&model.name) {
                    self.deeper(|session| session.let_go(other, field, ids))?;
                }
            }
        }
        self.forget(&model.name, ids);
        Ok(())
    }

    /// Settles what points to rows that go.
    fn let_go(&mut self, other: &'a Model, field: &Field, ids: &[i64]) -> Result<(), Fault> {
        let points = |row: &Map| row.get(&field.name).and_then(values::id_of).is_some_and(|id| ids.contains(&id));
        let rows = self.tables.get(&other.name).into_iter().flat_map(|table| &table.rows);
        let found: Vec<i64> = rows.filter(|(_, row)| points(row)).map(|(id, _)| *id).collect();
        match field.ondelete {
            _ if found.is_empty() => Ok(()),
            OnDelete::Cascade => self.unlink(other, &found),
            OnDelete::Clear => {
                for id in found {
                    self.set(&other.name, id, Map::from_iter([(field.name.clone(), Value::Null)]));
                }
                Ok(())
            }
            OnDelete::Restrict => {
                let message = format!(
                    "The operation cannot be completed: another model requires the record being deleted. If possible, \
                     archive it instead.\n\nModel: {} ({})\nConstraint: {}_{}_fkey\n",
                    other.title,
                    other.name,
                    other.name.replace('.', "_"),
                    field.name
                );
                Err(Fault::new(FaultKind::Validation, message))
            }
        }
    }

    /// Takes away the external ids of rows that are gone.
    fn forget(&mut self, model: &str, ids: &[i64]) {
        let name = self.external_ids.to_owned();
        let Some(table) = self.tables.get_mut(name.as_str()) else { return };
        let gone = |row: &Map| {
            row.get("model").and_then(Value::as_str) == Some(model)
                && row.get("res_id").and_then(values::id_of).is_some_and(|id| ids.contains(&id))
        };
        if table.rows.values().any(|row| gone(row)) {
            Arc::make_mut(table).rows.retain(|_, row| !gone(row));
        }
    }

    fn table(&mut self, model: &str) -> &mut Table {
        Arc::make_mut(self.tables.entry(model.into()).or_default())
    }

    pub(super) fn set(&mut self, model: &str, id: i64, changed: Map) {
        if let Some(row) = self.table(model).rows.get_mut(&id) {
            Arc::make_mut(row).extend(changed);
        }
    }

    /// Evaluates what settings write: an expression over the row so far, its id, the moment and the user.
    pub(super) fn written(&self, written: &Written, model: &Model, id: i64, row: &Map) -> Result<Value, Fault> {
        let template = match written {
            Written::Value(value) => return Ok(value.clone()),
            Written::Expression(template) => template,
        };
        let roots = vec![
            ("row", Value::from(row.clone())),
            ("id", Value::from(id)),
            ("now", Value::from(values::moment_text(self.began))),
            ("user", Value::from(self.user.id)),
        ];
        let broken = |message: String| Fault::value(format!("{}: {message}", model.name));
        template.eval(&render::scope(roots, self.began)).map_err(|error| broken(error.message))
    }

    /// Refuses where a guard finds one of the rows.
    fn guard(&self, model: &Model, ids: &[i64], guard: &GuardSettings) -> Result<(), Fault> {
        let domain = Domain::read(&guard.when, self.schema, model)?;
        match ids.iter().any(|id| domain.holds(&self.view(), model, *id)) {
            true => Err(Fault::new(FaultKind::User, guard.message.clone())),
            false => Ok(()),
        }
    }

    /// Refuses rows that may not be as they are.
    fn check(&self, model: &Model, ids: &[i64]) -> Result<(), Fault> {
        for id in ids {
            let Some(row) = self.view().row(&model.name, *id) else { continue };
            for field in model.fields.values().filter(|field| field.is_stored()) {
                self.check_field(model, field, row)?;
            }
            for (that, message) in &model.checks {
                let holds = self.view().evaluate(that, model, *id).map_err(Fault::value)?;
                if !holds.is_truthy() {
                    return Err(Fault::new(FaultKind::Validation, message.clone()));
                }
            }
            for unique in &model.unique {
                let key = |row: &Map| -> Option<Vec<Value>> {
                    unique.fields.iter().map(|field| row.get(field).filter(|it| !it.is_null()).cloned()).collect()
                };
                let Some(own) = key(row) else { continue };
                let rows = self.tables.get(&model.name).map(|table| &table.rows);
                if rows.into_iter().flatten().any(|(other, row)| other != id && key(row).as_ref() == Some(&own)) {
                    let message = format!("The operation cannot be completed: {}", unique.message);
                    return Err(Fault::new(FaultKind::Validation, message));
                }
            }
        }
        Ok(())
    }

    fn check_field(&self, model: &Model, field: &Field, row: &Map) -> Result<(), Fault> {
        let value = row.get(&field.name);
        let empty = value.is_none_or(Value::is_null);
        if field.required && empty && !field.kind.is_many() && !field.kind.is_number() && field.kind != Kind::Boolean {
            let message = format!(
                "The operation cannot be completed:\n- Create/update: a mandatory field is not set.\n- Delete: another \
                 model requires the record being deleted. If possible, archive it instead.\n\nModel: {} ({})\nField: {} \
                 ({})\n",
                model.title, model.name, field.label, field.name
            );
            return Err(Fault::new(FaultKind::Validation, message));
        }
        let target = value.and_then(values::id_of).filter(|_| field.kind == Kind::Many2one);
        let (Some(target), Some(relation)) = (target, &field.relation) else { return Ok(()) };
        if self.view().row(relation, target).is_some() || LOGGED.contains(&&*field.name) {
            return Ok(());
        }
        let message = format!(
            "The operation cannot be completed: {relation}({target},) does not exist.\n\nModel: {} ({})\nConstraint: \
             {}_{}_fkey\n",
            model.title,
            model.name,
            model.name.replace('.', "_"),
            field.name
        );
        Err(Fault::new(FaultKind::Validation, message))
    }
}

fn stored(model: &Model, field: &Field, value: &Value) -> Result<Value, Fault> {
    values::stored(field, value).map_err(|message| {
        let message = message.replace("Wrong value for ", &format!("Wrong value for {}.", model.name));
        Fault::value(message)
    })
}

/// What a caller gives, by where it is kept.
#[derive(Debug, Default)]
struct Parted {
    own: Map,
    /// In the row that stands behind.
    behind: Map,
    /// In rows that related fields come from.
    through: Map,
}

fn part(model: &Model, given: &Map) -> Result<Parted, Fault> {
    let mut parted = Parted::default();
    for (key, value) in given {
        let field = model.field(key).filter(|field| !field.hidden).ok_or_else(|| Fault::field(&model.name, key))?;
        let place = match field.source {
            // What the server computes and keeps itself is not taken from outside, and not refused either.
            _ if !field.is_writable() => continue,
            Source::Inherited => &mut parted.behind,
            Source::Related(_) => &mut parted.through,
            _ => &mut parted.own,
        };
        place.insert(key.clone(), value.clone());
    }
    Ok(parted)
}
