//! Commands to fields of many rows: `[0, 0, values]` creates, `[1, id, values]` changes, `[2, id, 0]` deletes, `[3, id]`
//! lets go, `[4, id]` adds, `[5]` empties, `[6, 0, ids]` replaces.

use super::fault::Fault;
use super::rows::View;
use super::schema::Field;
use super::schema::Kind;
use super::schema::Model;
use super::schema::OnDelete;
use super::session::Session;
use super::values;
use crate::model::Map;
use crate::model::Value;

impl<'a> Session<'a> {
    /// Carries out the commands to a field of many rows; a list of ids replaces them.
    pub(super) fn command(&mut self, model: &'a Model, id: i64, field: &'a Field, given: &Value) -> Result<(), Fault> {
        let commands = match given {
            Value::Null | Value::Bool(false) => return Ok(()),
            Value::List(items) => items.clone(),
            other => return Err(Fault::value(format!("Wrong value for {}.{}: {other}", model.name, field.name))),
        };
        if commands.iter().all(|item| matches!(item, Value::Int(_))) {
            return self.replace(model, id, field, &values::ids_of(given));
        }
        let target = self.model(field.relation.as_deref().unwrap_or_default())?;
        for command in commands.iter() {
            let wrong = || Fault::value(format!("Wrong value for {}.{}: {command}", model.name, field.name));
            let parts = command.as_list().ok_or_else(wrong)?;
            let row = parts.get(1).and_then(values::id_of);
            match parts.first() {
                Some(Value::Int(0)) => {
                    let mut vals = parts.get(2).and_then(Value::as_map).ok_or_else(wrong)?.clone();
                    if let Some(inverse) = &field.inverse {
                        vals.insert(inverse.clone(), Value::from(id));
                    }
                    let made = self.create(target, &vals)?;
                    if field.kind == Kind::Many2many {
                        self.link(model, id, field, made);
                    }
                }
                Some(Value::Int(1)) => {
                    let vals = parts.get(2).and_then(Value::as_map).ok_or_else(wrong)?;
                    self.write(target, &[row.ok_or_else(wrong)?], vals)?;
                }
                Some(Value::Int(2)) => self.unlink(target, &[row.ok_or_else(wrong)?])?,
                Some(Value::Int(3)) => self.cut(model, id, field, &[row.ok_or_else(wrong)?])?,
                Some(Value::Int(4)) => {
                    let row = row.ok_or_else(wrong)?;
                    self.check_there(target, &[row])?;
                    self.link(model, id, field, row);
                }
                Some(Value::Int(5)) => self.replace(model, id, field, &[])?,
                Some(Value::Int(6)) => {
                    let ids = parts.get(2).map(values::ids_of).ok_or_else(wrong)?;
                    self.replace(model, id, field, &ids)?;
                }
                _ => return Err(wrong()),
            }
        }
        Ok(())
    }

    fn held(&self, model: &Model, id: i64, field: &Field) -> Vec<i64> {
        let view = View { active_only: false, ..self.view() };
        values::ids_of(&view.value(model, id, field))
    }

    fn replace(&mut self, model: &'a Model, id: i64, field: &Field, ids: &[i64]) -> Result<(), Fault> {
        let target = self.model(field.relation.as_deref().unwrap_or_default())?;
        self.check_there(target, ids)?;
        let gone: Vec<i64> = self.held(model, id, field).into_iter().filter(|held| !ids.contains(held)).collect();
        self.cut(model, id, field, &gone)?;
        for row in ids {
            self.link(model, id, field, *row);
        }
        Ok(())
    }

    fn link(&mut self, model: &Model, id: i64, field: &Field, row: i64) {
        match (&field.relation, &field.inverse) {
            (Some(relation), Some(inverse)) if field.kind == Kind::One2many => {
                let relation = relation.clone();
                self.set(&relation, row, Map::from_iter([(inverse.clone(), Value::from(id))]));
            }
            _ => {
                let mut held = self.held(model, id, field);
                if !held.contains(&row) {
                    held.push(row);
                }
                self.hold(model, id, field, &held);
            }
        }
    }

    /// Lets rows go; lines that cannot be without their document are deleted.
    fn cut(&mut self, model: &'a Model, id: i64, field: &Field, rows: &[i64]) -> Result<(), Fault> {
        let inverse = match (&field.relation, &field.inverse) {
            (Some(relation), Some(inverse)) if field.kind == Kind::One2many => Some((self.model(relation)?, inverse)),
            _ => None,
        };
        let Some((target, inverse)) = inverse else {
            let held = self.held(model, id, field).into_iter().filter(|held| !rows.contains(held)).collect::<Vec<_>>();
            self.hold(model, id, field, &held);
            return Ok(());
        };
        let owned = target.field(inverse).is_some_and(|back| back.required || back.ondelete == OnDelete::Cascade);
        if owned && !rows.is_empty() {
            return self.unlink(target, rows);
        }
        for row in rows {
            self.set(&target.name, *row, Map::from_iter([(inverse.clone(), Value::Null)]));
        }
        Ok(())
    }

    fn hold(&mut self, model: &Model, id: i64, field: &Field, ids: &[i64]) {
        let ids = Value::list(ids.iter().copied().map(Value::from).collect());
        self.set(&model.name, id, Map::from_iter([(field.name.clone(), ids)]));
    }
}
