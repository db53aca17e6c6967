//! Business systems whose objects are called from outside: models with rows, found by domains, over XML-RPC, JSON-RPC
//! and JSON with one path for each method. All three work on the same rows.

mod access;
mod commands;
mod domain;
mod fault;
mod import;
mod json;
mod methods;
mod rows;
mod rpc;
mod schema;
mod session;
mod settings;
mod signature;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::access::Accounts;
use self::access::User;
use self::fault::Fault;
use self::fault::Kind as FaultKind;
use self::methods::Call;
use self::rows::Table;
use self::rows::Tables;
use self::rows::View;
use self::schema::Model;
use self::schema::Schema;
use self::schema::Written;
use self::session::Session;
use self::settings::MadeSettings;
use self::settings::Settings;
use self::signature::Signature;
use self::signature::Special;
use super::Family;
use super::Moment;
use crate::connector::render;
use crate::model::Duration;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::decode;
use crate::sandbox::exchange::Received;
use crate::sandbox::exchange::Reply;

/// How far apart the rows of the beginning were written: no whole seconds, as in a real database.
const APART: Duration = Duration::from_micros(37 * 60 * 1_000_000 + 123_457);

/// The stand-in: its settings and its rows.
#[derive(Debug)]
pub(super) struct ObjectRpc {
    product: String,
    /// The product's name, small: the package of its exceptions.
    package: String,
    version: String,
    database: String,
    hosted: Vec<String>,
    database_header: String,
    user_model: Arc<str>,
    key_model: Arc<str>,
    external_ids: Arc<str>,
    /// One of so many writing calls lasts up to so many seconds.
    slow: Option<(u32, u32)>,
    /// Of so many writing calls one fails.
    contended: Option<u32>,
    since: Timestamp,
    schema: Schema,
    tables: Tables,
    accounts: Accounts,
}

/// What a method is called with: as a list behind ids, or by name.
#[derive(Debug)]
enum Arguments {
    Positional(Vec<Value>),
    Ids(Vec<i64>),
}

/// A call as a protocol has read it.
#[derive(Debug)]
struct Asked<'a> {
    model: &'a str,
    method: &'a str,
    arguments: Arguments,
    named: Map,
    context: Map,
}

impl ObjectRpc {
    /// Makes the stand-in of the section `sandbox`.
    pub(super) fn make(settings: &Value) -> Result<Self, String> {
        let settings: Settings = decode(settings.clone()).map_err(|error| error.to_string())?;
        let since = values::read_moment(&settings.since)
            .ok_or_else(|| format!("`since` is a moment such as `2026-01-31 09:00:00`, not `{}`", settings.since))?;
        let mut made = Self {
            package: settings.product.to_lowercase(),
            product: settings.product,
            version: settings.version,
            database: settings.database,
            hosted: settings.hosted,
            database_header: settings.database_header,
            slow: settings.slow.map(|slow| (slow.one_in.max(1), slow.seconds)),
            contended: settings.contended.filter(|one_in| *one_in > 0),
            since,
            schema: Schema::make(&settings.models, &settings.user_model)?,
            tables: Tables::new(),
            accounts: Accounts::make(&settings.users),
            user_model: settings.user_model,
            key_model: settings.key_model,
            external_ids: settings.external_ids,
        };
        for (name, model) in &settings.models {
            let mut rows = model.rows.clone();
            if let Some(written) = &model.made {
                rows.extend(further(written)?);
            }
            made.load(name, &rows).map_err(|error| format!("model `{name}`: {error}"))?;
        }
        for name in settings.models.keys() {
            made.complete(name);
        }
        Ok(made)
    }

    fn special(&self) -> Special<'_> {
        Special { users: &self.user_model, keys: &self.key_model }
    }

    /// Carries out a call as one transaction. Only what goes well stays.
    fn run(&mut self, user: &User, asked: Asked<'_>, moment: &mut Moment) -> Result<Value, Fault> {
        let schema = &self.schema;
        let model = schema.model(asked.model).ok_or_else(|| Fault::new(FaultKind::Model, asked.model))?;
        let special = Special { users: &self.user_model, keys: &self.key_model };
        let signature = special.find(model, asked.method)?;
        let (ids, positional) = match asked.arguments {
            Arguments::Ids(ids) if signature.of_model && !ids.is_empty() => {
                let message = format!("cannot call {}.{} with ids", asked.model, asked.method);
                return Err(Fault::new(FaultKind::Arguments, message));
            }
            Arguments::Ids(ids) => (ids, Vec::new()),
            Arguments::Positional(positional) if signature.of_model => (Vec::new(), positional),
            Arguments::Positional(positional) => {
                let mut positional = positional.into_iter();
                let missing = || Fault::new(FaultKind::Arguments, "missing 1 required positional argument: 'ids'");
                (values::ids_of(&positional.next().ok_or_else(missing)?), positional.collect())
            }
        };
        let call = Call { model, method: asked.method, ids, arguments: signature.bind(&positional, asked.named)? };
        if self.contended.is_some_and(|one_in| signature.writes && moment.random.u32(0..one_in) == 0) {
            return Err(Fault::contended());
        }
        let before = self.tables.clone();
        let mut session = Session {
            schema,
            tables: &mut self.tables,
            user,
            began: began(self.slow.filter(|_| signature.writes), moment),
            active_test: asked.context.get("active_test").is_none_or(Value::is_truthy),
            external_ids: &self.external_ids,
            depth: 0,
        };
        let result = call.perform(&mut session, &mut self.accounts, &mut moment.random);
        if result.is_err() {
            self.tables = before;
        }
        result
    }

    /// Gives the rows of a model what they take from others.
    fn complete(&mut self, name: &str) {
        let Some(model) = self.schema.model(name) else { return };
        let view = View { schema: &self.schema, tables: &self.tables, active_only: false };
        let taken = view.ids(name).into_iter().map(|id| (id, view.taken(model, id, &Map::new())));
        let taken: Vec<(i64, Map)> = taken.filter(|(_, taken)| !taken.is_empty()).collect();
        let Some(table) = self.tables.get_mut(name).filter(|_| !taken.is_empty()) else { return };
        let table = Arc::make_mut(table);
        for (id, values) in taken {
            if let Some(row) = table.rows.get_mut(&id) {
                Arc::make_mut(row).extend(values);
            }
        }
    }

    /// Fills a table with rows as they are written in settings.
    fn fill(&self, model: &Model, rows: &[Value]) -> Result<Table, String> {
        let mut table = Table::default();
        let mut at = self.since;
        for row in rows {
            let given = row.as_map().ok_or("a row is an object of values by field")?;
            at = at.plus(APART);
            let id = given.get("id").and_then(values::id_of).unwrap_or(table.last + 1);
            table.last = table.last.max(id);
            let date = Value::from(values::moment_text(at));
            let mut row = Map::new();
            for key in given.keys() {
                if model.field(key).is_none() {
                    return Err(format!("there is no field `{key}`"));
                }
            }
            let scope = vec![("id", Value::from(id)), ("now", date.clone()), ("row", Value::from(given.clone()))];
            let scope = render::scope(scope, at);
            for field in model.fields.values().filter(|field| field.is_stored() && field.inverse.is_none()) {
                let value = match (given.get(&field.name), &*field.name, &field.default) {
                    (Some(value), ..) => value.clone(),
                    (None, "create_date" | "write_date", _) => date.clone(),
                    (None, _, Some(Written::Value(value))) => value.clone(),
                    (None, _, Some(Written::Expression(template))) => {
                        template.eval(&scope).map_err(|error| format!("field `{}`: {}", field.name, error.message))?
                    }
                    _ => Value::Null,
                };
                let value =
                    values::stored(field, &value).map_err(|error| format!("field `{}`: {error}", field.name))?;
                if !["id", "display_name"].contains(&&*field.name) {
                    row.insert(field.name.clone(), value);
                }
            }
            table.rows.insert(id, Arc::new(row));
        }
        Ok(table)
    }
}

/// Returns the moment by which a transaction dates its rows: its beginning, which may lie back.
fn began(slow: Option<(u32, u32)>, moment: &mut Moment) -> Timestamp {
    match slow {
        Some((one_in, seconds)) if moment.random.u32(0..one_in) == 0 => {
            let back = i64::from(moment.random.u32(0..=seconds)) * 1_000_000;
            Timestamp(moment.now.micros().saturating_sub(back))
        }
        _ => moment.now,
    }
}

/// Makes further rows by expressions over `n`.
fn further(written: &MadeSettings) -> Result<Vec<Value>, String> {
    let mut cells = BTreeMap::new();
    for (name, value) in &written.row {
        cells.insert(name.clone(), Written::read(value)?);
    }
    let mut rows = Vec::new();
    for n in 0..written.count {
        let scope = render::scope(vec![("n", Value::from(n))], Timestamp(0));
        let mut row = Map::new();
        for (name, cell) in &cells {
            let value = match cell {
                Written::Value(value) => value.clone(),
                Written::Expression(template) => template.eval(&scope).map_err(|error| error.message)?,
            };
            row.insert(name.clone(), value);
        }
        rows.push(Value::from(row));
    }
    Ok(rows)
}

impl Family for ObjectRpc {
    fn answer(&mut self, request: &Received, moment: &mut Moment) -> Option<Reply> {
        let path = request.path.trim_end_matches('/');
        if let Some(service) = path.strip_prefix("/xmlrpc/2/") {
            return Some(self.xml_rpc(service, request, moment, rpc::Codes::Numbers));
        }
        if let Some(service) = path.strip_prefix("/xmlrpc/") {
            return Some(self.xml_rpc(service, request, moment, rpc::Codes::Texts));
        }
        match path {
            "/jsonrpc" => Some(self.json_rpc(request, moment)),
            "/web/version" => Some(Reply::json(200, &self.version_page())),
            _ if path == "/json/2" || path.starts_with("/json/2/") => Some(self.json_2(request, path, moment)),
            _ => {
                let model = path.strip_prefix("/doc-bearer/")?.strip_suffix(".json")?;
                Some(self.documentation(model, request, moment))
            }
        }
    }

    fn state(&self) -> Value {
        let rows = |table: &Table| {
            let one = |(id, row): (&i64, &Arc<Map>)| {
                let mut whole = Map::from_iter([("id".into(), Value::from(*id))]);
                whole.extend((**row).clone());
                Value::from(whole)
            };
            Value::list(table.rows.iter().map(one).collect())
        };
        Value::map(self.tables.iter().map(|(name, table)| (name.clone(), rows(table))).collect::<Vec<_>>())
    }

    fn load(&mut self, collection: &str, rows: &[Value]) -> Result<(), String> {
        let model = self.schema.model(collection).ok_or_else(|| format!("there is no model `{collection}`"))?;
        let table = self.fill(model, rows)?;
        self.tables.insert(model.name.clone(), Arc::new(table));
        self.complete(collection);
        Ok(())
    }
}
