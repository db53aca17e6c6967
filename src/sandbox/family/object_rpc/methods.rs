//! What the methods of every model do, and those that settings declare.

use super::access::Accounts;
use super::domain::Domain;
use super::fault::Fault;
use super::fault::Kind as FaultKind;
use super::import;
use super::schema::Field;
use super::schema::Kind;
use super::schema::LOGGED;
use super::schema::Method;
use super::schema::Model;
use super::session::Session;
use super::values;
use crate::model::Map;
use crate::model::Value;

/// What a method is called with.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) model: &'a Model,
    pub(super) method: &'a str,
    pub(super) ids: Vec<i64>,
    pub(super) arguments: Map,
}

impl Call<'_> {
    fn argument(&self, name: &str) -> &Value {
        self.arguments.get(name).unwrap_or(&Value::Null)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.argument(name).as_str().filter(|text| !text.is_empty())
    }

    fn count(&self, name: &str) -> Option<usize> {
        values::id_of(self.argument(name)).and_then(|count| usize::try_from(count).ok())
    }

    fn names(&self, name: &str) -> Vec<String> {
        self.argument(name).as_list().unwrap_or_default().iter().map(Value::to_text).collect()
    }

    /// Carries the call out; null is what the language calls nothing.
    pub(super) fn perform<'s>(
        &self,
        session: &mut Session<'s>,
        accounts: &mut Accounts,
        random: &mut fastrand::Rng,
    ) -> Result<Value, Fault> {
        let model = session.model(&self.model.name)?;
        if let Some(method) = model.methods.get(self.method) {
            return self.declared(session, model, method);
        }
        let now = session.began;
        match self.method {
            "search" => Ok(numbers(&self.search(session)?)),
            "search_count" => {
                let found = i64::try_from(self.search(session)?.len()).unwrap_or(i64::MAX);
                Ok(Value::from(found))
            }
            "search_read" => {
                let found = self.search(session)?;
                self.read(session, &found)
            }
            "read" => {
                let there = self.ids.iter().copied().filter(|id| session.view().row(&model.name, *id).is_some());
                let there: Vec<i64> = there.collect();
                self.read(session, &there)
            }
            "create" => self.create(session, model),
            "write" => {
                let wrong = || Fault::new(FaultKind::Arguments, "'vals' is an object of values by field");
                session.write(model, &self.ids, self.argument("vals").as_map().ok_or_else(wrong)?)?;
                Ok(Value::Bool(true))
            }
            "unlink" => session.unlink(model, &self.ids).map(|()| Value::Bool(true)),
            "copy" => self.copy(session, model),
            "fields_get" => Ok(self.fields_get(model)),
            "name_search" => self.name_search(session),
            "name_create" => {
                let name = self.argument("name").clone();
                let id = session.create(model, &Map::from_iter([("name".into(), name)]))?;
                Ok(Value::list(vec![Value::from(id), Value::from(session.view().name(model, id))]))
            }
            "default_get" => self.default_get(session, model),
            "load" => import::load(session, model, &self.names("fields"), self.argument("data")),
            "exists" => {
                let there = self.ids.iter().copied().filter(|id| session.view().row(&model.name, *id).is_some());
                Ok(numbers(&there.collect::<Vec<_>>()))
            }
            "get_metadata" => self.metadata(session, model),
            "has_access" => {
                let right = self.text("operation").unwrap_or_default();
                Ok(Value::Bool(session.user.check(right, &model.name, &model.title).is_ok()))
            }
            "action_archive" | "action_unarchive" => {
                let active = Value::Bool(self.method == "action_unarchive");
                session.write(model, &self.ids, &Map::from_iter([("active".into(), active)]))?;
                Ok(Value::Null)
            }
            "context_get" => {
                let user = session.user;
                let zone = user.zone.as_deref().map_or(Value::Bool(false), Value::from);
                let language = Value::from(user.language.as_str());
                Ok(Value::map([("lang", language), ("tz", zone), ("uid", Value::from(user.id))]))
            }
            "generate" => {
                let until = self.text("expiration_date");
                accounts.generate(self.text("key").unwrap_or_default(), until, now, random).map(Value::from)
            }
            "revoke" => accounts.revoke(self.text("key").unwrap_or_default(), now).map(|()| Value::Null),
            other => Err(Fault::new(FaultKind::Method, format!("The method '{}.{other}' does not exist", model.name))),
        }
    }

    fn search(&self, session: &Session<'_>) -> Result<Vec<i64>, Fault> {
        let model = session.model(&self.model.name)?;
        session.user.check("read", &model.name, &model.title)?;
        let domain = Domain::read(self.argument("domain"), session.schema, model)?;
        let view = session.view();
        let hides = session.active_test && model.field("active").is_some() && !domain.names("active");
        let archived = |id: i64| {
            let active = model.field("active").map(|field| view.value(model, id, field));
            active.is_some_and(|active| !active.is_truthy())
        };
        let mut found = view.ids(&model.name);
        found.retain(|id| domain.holds(&view, model, *id) && !(hides && archived(*id)));
        view.sort(model, &mut found, self.text("order").unwrap_or(&model.order))?;
        let limit = self.count("limit").filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        Ok(found.into_iter().skip(self.count("offset").unwrap_or(0)).take(limit).collect())
    }

    fn read(&self, session: &Session<'_>, ids: &[i64]) -> Result<Value, Fault> {
        let model = session.model(&self.model.name)?;
        session.user.check("read", &model.name, &model.title)?;
        let mut fields: Vec<&Field> = Vec::new();
        for name in self.names("fields") {
            let field = model.field(&name).filter(|field| !field.hidden);
            fields.push(field.ok_or_else(|| Fault::field(&model.name, &name))?);
        }
        if fields.is_empty() {
            fields = model.fields.values().filter(|field| !field.hidden).collect();
        }
        let classic = self.arguments.get("load").is_none_or(|load| load.as_str() == Some("_classic_read"));
        let view = session.view();
        let row = |id: &i64| {
            let mut row = Map::from_iter([("id".into(), Value::from(*id))]);
            for field in &fields {
                row.insert(field.name.clone(), view.shown(model, *id, field, classic));
            }
            Value::from(row)
        };
        Ok(Value::list(ids.iter().map(row).collect()))
    }

    fn create<'s>(&self, session: &mut Session<'s>, model: &'s Model) -> Result<Value, Fault> {
        let wrong = || Fault::new(FaultKind::Arguments, "'vals_list' is a list of objects of values by field");
        let given = self.argument("vals_list");
        let rows = match given {
            Value::List(rows) => rows.to_vec(),
            one => vec![one.clone()],
        };
        let mut made = Vec::new();
        for row in &rows {
            made.push(session.create(model, row.as_map().ok_or_else(wrong)?)?);
        }
        Ok(numbers(&made))
    }

    fn copy<'s>(&self, session: &mut Session<'s>, model: &'s Model) -> Result<Value, Fault> {
        session.check_there(model, &self.ids)?;
        let mut made = Vec::new();
        for id in &self.ids {
            let mut row = session.view().row(&model.name, *id).map(|row| (**row).clone()).unwrap_or_default();
            row.retain(|key, _| model.field(key).is_some_and(|field| field.is_writable() && field.default.is_none()));
            row.retain(|key, _| !model.unique.iter().any(|unique| unique.fields.contains(key)));
            if let Some(name) = row.get("name").and_then(Value::as_str) {
                let name = Value::from(format!("{name} (copy)"));
                row.insert("name".into(), name);
            }
            row.extend(self.argument("default").as_map().cloned().unwrap_or_default());
            made.push(session.create(model, &row)?);
        }
        Ok(numbers(&made))
    }

    fn fields_get(&self, model: &Model) -> Value {
        let (wanted, attributes) = (self.names("allfields"), self.names("attributes"));
        let shown =
            |field: &&Field| !field.hidden && (wanted.is_empty() || wanted.iter().any(|name| **name == *field.name));
        let one = |field: &Field| {
            let mut entries = description(field);
            entries.retain(|key, _| attributes.is_empty() || attributes.iter().any(|it| **it == **key));
            (field.name.clone(), Value::from(entries))
        };
        Value::map(model.fields.values().filter(shown).map(one).collect::<Vec<_>>())
    }

    fn name_search(&self, session: &Session<'_>) -> Result<Value, Fault> {
        let model = session.model(&self.model.name)?;
        let operator = self.text("operator").unwrap_or("ilike");
        let mut domain = self.argument("domain").as_list().unwrap_or_default().to_vec();
        if let Some(name) = self.text("name") {
            let leaf = vec![Value::from("display_name"), Value::from(operator), Value::from(name)];
            domain.push(Value::list(leaf));
        }
        let limit = self.arguments.get("limit").cloned().unwrap_or(Value::Int(100));
        let arguments = Map::from_iter([("domain".into(), Value::list(domain)), ("limit".into(), limit)]);
        let found = Call { model: self.model, method: "search", ids: Vec::new(), arguments }.search(session)?;
        let view = session.view();
        let pair = |id: &i64| Value::list(vec![Value::from(*id), Value::from(view.name(model, *id))]);
        Ok(Value::list(found.iter().map(pair).collect()))
    }

    fn default_get(&self, session: &Session<'_>, model: &Model) -> Result<Value, Fault> {
        let mut found = Map::new();
        for name in self.names("fields") {
            let default = model.field(&name).and_then(|field| Some((field, field.default.as_ref()?)));
            if let Some((field, default)) = default {
                let value = session.written(default, model, 0, &Map::new())?;
                found.insert(field.name.clone(), value);
            }
        }
        Ok(Value::from(found))
    }

    fn metadata(&self, session: &Session<'_>, model: &Model) -> Result<Value, Fault> {
        session.check_there(model, &self.ids)?;
        let view = session.view();
        let one = |id: &i64| {
            let names = import::names_of(&view, session.external_ids, &model.name, *id);
            let first = names.first().map_or(Value::Bool(false), |name| Value::from(name.as_str()));
            let all = names.into_iter().map(|name| Value::map([("xmlid", Value::from(name))]));
            let mut row = Map::from_iter([("id".into(), Value::from(*id)), ("xmlid".into(), first)]);
            row.insert("xmlids".into(), Value::list(all.collect()));
            row.insert("noupdate".into(), Value::Bool(false));
            for field in LOGGED.iter().filter_map(|name| model.field(name)).filter(|field| !field.name.starts_with('d'))
            {
                row.insert(field.name.clone(), view.shown(model, *id, field, true));
            }
            Value::from(row)
        };
        Ok(Value::list(self.ids.iter().map(one).collect()))
    }

    /// Calls a method that settings declare.
    fn declared<'s>(&self, session: &mut Session<'s>, model: &'s Model, method: &Method) -> Result<Value, Fault> {
        session.user.check("write", &model.name, &model.title)?;
        session.check_there(model, &self.ids)?;
        let domain = Domain::read(&method.when, session.schema, model)?;
        if !self.ids.iter().all(|id| domain.holds(&session.view(), model, *id)) {
            return Err(Fault::new(FaultKind::User, method.refuse.clone()));
        }
        for id in &self.ids {
            let row = session.view().row(&model.name, *id).map(|row| (**row).clone()).unwrap_or_default();
            let mut changed = Map::new();
            for (field, written) in &method.set {
                changed.insert(field.clone(), session.written(written, model, *id, &row)?);
            }
            session.change(model, *id, &changed)?;
        }
        Ok(method.returns.clone())
    }
}

/// Describes all fields of a model.
pub(super) fn described(model: &Model) -> Value {
    let shown = model.fields.values().filter(|field| !field.hidden);
    Value::map(shown.map(|field| (field.name.clone(), Value::from(description(field)))).collect::<Vec<_>>())
}

/// Describes a field as callers are told.
fn description(field: &Field) -> Map {
    let mut entries = Map::new();
    let mut tell = |key: &str, value: Value| entries.insert(key.into(), value);
    tell("type", Value::from(field.kind_name.as_str()));
    tell("string", Value::from(field.label.as_str()));
    tell("name", Value::from(&*field.name));
    tell("required", Value::Bool(field.required));
    tell("readonly", Value::Bool(field.readonly));
    tell("store", Value::Bool(field.is_stored() && &*field.name != "display_name"));
    tell("searchable", Value::Bool(true));
    tell("sortable", Value::Bool(!field.kind.is_many()));
    if let Some(relation) = &field.relation {
        tell("relation", Value::from(&**relation));
    }
    if let Some(inverse) = &field.inverse {
        tell("relation_field", Value::from(&**inverse));
    }
    if field.kind == Kind::Selection {
        let pair = |(key, label): &(_, _)| Value::list(vec![text(key), text(label)]);
        tell("selection", Value::list(field.selection.iter().map(pair).collect()));
    }
    entries
}

fn text(text: &std::sync::Arc<str>) -> Value {
    Value::String(text.clone())
}

fn numbers(ids: &[i64]) -> Value {
    Value::list(ids.iter().copied().map(Value::from).collect())
}
