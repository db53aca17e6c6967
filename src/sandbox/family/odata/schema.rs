//! What settings mean: services, sets and tables, with every name resolved.

use std::sync::Arc;

use indexmap::IndexMap;
use rust_decimal::Decimal;

use super::edm::Kind;
use super::edm::Source;
use super::edm::Version;
use super::expression::Expression;
use super::filter;
use super::settings;
use super::settings::Settings;
use crate::model::Map;
use crate::model::Value;

/// A service; its sets know each other by name.
#[derive(Debug)]
pub(super) struct Service {
    /// As it stands in the path, behind the root.
    pub name: Arc<str>,
    pub version: Version,
    pub namespace: Arc<str>,
    pub component: Arc<str>,
    pub sets: IndexMap<Arc<str>, Set>,
    pub functions: IndexMap<Arc<str>, Function>,
}

#[derive(Debug)]
pub(super) struct Set {
    pub name: Arc<str>,
    pub type_name: Arc<str>,
    pub table: usize,
    pub key: Vec<Arc<str>>,
    pub properties: IndexMap<Arc<str>, Property>,
    pub navigations: IndexMap<Arc<str>, Navigation>,
    pub etag: Option<Property>,
    pub number: Option<settings::Number>,
    pub read_only: bool,
    pub required: Vec<Arc<str>>,
    /// By column.
    pub defaults: Map,
    pub created: Vec<Property>,
    pub changed: Vec<Property>,
    pub sums: Vec<Sum>,
    pub price: Option<Price>,
    pub refers: Vec<Refers>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Property {
    pub column: Arc<str>,
    pub kind: Kind,
}

#[derive(Debug)]
pub(super) struct Navigation {
    pub set: Arc<str>,
    /// Own column, the other's.
    pub on: Vec<(Arc<str>, Arc<str>)>,
    pub many: bool,
    /// Whether the others are parts, which are gone with the whole.
    pub owns: bool,
}

#[derive(Debug)]
pub(super) struct Sum {
    pub column: Arc<str>,
    pub navigation: Arc<str>,
    pub of: Arc<str>,
}

#[derive(Debug)]
pub(super) struct Price {
    pub amount: Arc<str>,
    pub quantity: Arc<str>,
    pub by: Arc<str>,
    pub list: IndexMap<Arc<str>, Decimal>,
}

#[derive(Debug)]
pub(super) struct Refers {
    pub property: Arc<str>,
    pub column: Arc<str>,
    pub table: usize,
    pub key: Arc<str>,
    pub code: String,
    pub message: String,
}

#[derive(Debug)]
pub(super) struct Function {
    pub set: Arc<str>,
    pub reads: bool,
    pub parameters: IndexMap<Arc<str>, Kind>,
    pub bound: bool,
    /// By column.
    pub change: Map,
    pub returns: Returns,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Returns {
    One,
    Many,
    Nothing,
    Value(Arc<str>),
}

/// The rows behind one set or several: all columns, with their types.
#[derive(Debug)]
pub(super) struct Table {
    pub name: Arc<str>,
    pub columns: IndexMap<Arc<str>, Kind>,
    pub key: Vec<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Scene {
    pub set: (usize, Arc<str>),
    pub when: Expression,
    pub written: settings::Scene,
}

/// All services.
#[derive(Debug)]
pub(super) struct Schema {
    pub services: Vec<Service>,
    pub tables: Vec<Table>,
    pub scenes: Vec<Scene>,
}

impl Schema {
    /// Checks settings.
    pub(super) fn make(written: &Settings) -> Result<Self, String> {
        let mut schema = Self { services: Vec::new(), tables: Vec::new(), scenes: Vec::new() };
        for (name, service) in &written.services {
            let service = schema.service(name, service).map_err(|error| format!("service `{name}`: {error}"))?;
            schema.services.push(service);
        }
        // What goes from service to service is known when all are.
        for (name, service) in &written.services {
            for (set_name, set) in &service.sets {
                let refers = schema.refers(name, set_name, set);
                let refers = refers.map_err(|error| format!("service `{name}`: set `{set_name}`: {error}"))?;
                let at = schema.services.iter_mut().find(|service| &*service.name == name.as_str());
                if let Some(set) = at.and_then(|service| service.sets.get_mut(set_name.as_str())) {
                    set.refers = refers;
                }
            }
        }
        for scene in &written.scenes {
            let (service, set) = schema.find(&scene.set).ok_or_else(|| format!("there is no set `{}`", scene.set))?;
            let version = schema.services.get(service).map_or(Version::V2, |service| service.version);
            let when = filter::condition(&scene.when, version, &|name| set.column(name))
                .map_err(|error| format!("`{}`: {error}", scene.when))?;
            let set = (service, set.name.clone());
            schema.scenes.push(Scene { set, when, written: scene.clone() });
        }
        Ok(schema)
    }

    /// Finds a set by `SERVICE/SET`, or by its name where there is but one.
    pub(super) fn find(&self, name: &str) -> Option<(usize, &Set)> {
        let mut found = None;
        for (at, service) in self.services.iter().enumerate() {
            for set in service.sets.values() {
                if format!("{}/{}", service.name, set.name) == name {
                    return Some((at, set));
                }
                if &*set.name == name {
                    // Sets of one table are one.
                    match found {
                        Some((_, other)) if !same_table(other, set) => return None,
                        Some(_) => {}
                        None => found = Some((at, set)),
                    }
                }
            }
        }
        found
    }

    fn service(&mut self, name: &str, written: &settings::Service) -> Result<Service, String> {
        let version = match written.version {
            2 => Version::V2,
            4 => Version::V4,
            other => return Err(format!("there is no version {other}: it is 2 or 4")),
        };
        let mut sets = IndexMap::new();
        for (set_name, set) in &written.sets {
            let made = self.set(name, set_name, version, set).map_err(|error| format!("set `{set_name}`: {error}"))?;
            sets.insert(Arc::from(set_name.as_str()), made);
        }
        for (set_name, set) in &written.sets {
            let navigations =
                navigations(&sets, set_name, set).map_err(|error| format!("set `{set_name}`: {error}"))?;
            let own = sets.get_mut(set_name.as_str()).ok_or("it is gone")?;
            own.navigations = navigations;
            let sums = sums(&sets, set_name, set).map_err(|error| format!("set `{set_name}`: {error}"))?;
            sets.get_mut(set_name.as_str()).ok_or("it is gone")?.sums = sums;
        }
        let mut functions = IndexMap::new();
        for (function_name, function) in &written.functions {
            let made = function_of(&sets, function);
            let made = made.map_err(|error| format!("function `{function_name}`: {error}"))?;
            functions.insert(Arc::from(function_name.as_str()), made);
        }
        let namespace = written.namespace.as_deref().unwrap_or(name);
        let (namespace, component) = (Arc::from(namespace), Arc::from(written.component.as_str()));
        Ok(Service { name: Arc::from(name), version, namespace, component, sets, functions })
    }

    fn set(&mut self, service: &str, name: &str, version: Version, written: &settings::Set) -> Result<Set, String> {
        let mut properties = IndexMap::new();
        for (property, text) in &written.properties {
            let (kind, column) = text.split_once(" of ").unwrap_or((text, property));
            let kind = Kind::parse(kind).filter(|kind| version == Version::V2 || *kind != Kind::DateTime);
            let kind = kind.ok_or_else(|| format!("property `{property}`: there is no type `{text}`"))?;
            properties.insert(Arc::from(property.as_str()), Property { column: Arc::from(column), kind });
        }
        let property = |name: &String| {
            properties.get(name.as_str()).cloned().ok_or_else(|| format!("there is no property `{name}`"))
        };
        let all = |names: &[String]| names.iter().map(property).collect::<Result<Vec<_>, _>>();
        let key = all(&written.key)?;
        if key.is_empty() {
            return Err("it has no key".to_owned());
        }
        let table_name = written.table.clone().unwrap_or_else(|| format!("{service}/{name}"));
        let table = self.table(&table_name, &properties, &key)?;
        let ending = if version == Version::V2 { "Type" } else { "_Type" };
        let type_name = written.type_name.clone().unwrap_or_else(|| format!("{name}{ending}"));
        all(&written.required)?;
        let price = written.price.as_ref().map(|written| price(&properties, written)).transpose()?;
        let arcs = |names: &[String]| names.iter().map(|name| Arc::from(name.as_str())).collect();
        Ok(Set {
            name: Arc::from(name),
            type_name: Arc::from(type_name),
            table,
            key: arcs(&written.key),
            navigations: IndexMap::new(),
            etag: written.etag.as_ref().map(property).transpose()?,
            number: written.number.clone(),
            read_only: written.read_only,
            required: arcs(&written.required),
            defaults: by_column(&properties, &written.defaults)?,
            created: all(&written.created)?,
            changed: all(&written.changed)?,
            sums: Vec::new(),
            price,
            refers: Vec::new(),
            properties,
        })
    }

    /// Joins the columns of a set to its table.
    fn table(
        &mut self,
        name: &str,
        properties: &IndexMap<Arc<str>, Property>,
        key: &[Property],
    ) -> Result<usize, String> {
        let at = self.tables.iter().position(|table| &*table.name == name).unwrap_or(self.tables.len());
        if at == self.tables.len() {
            let key = key.iter().map(|property| property.column.clone()).collect();
            self.tables.push(Table { name: Arc::from(name), columns: IndexMap::new(), key });
        }
        let table = self.tables.get_mut(at).ok_or("it is gone")?;
        for property in properties.values() {
            let kind = *table.columns.entry(property.column.clone()).or_insert(property.kind);
            if kind != property.kind {
                return Err(format!("column `{}` of table `{name}` has two types", property.column));
            }
        }
        if !table.key.iter().eq(key.iter().map(|property| &property.column)) {
            return Err(format!("its key is not the one of table `{name}`"));
        }
        Ok(at)
    }

    fn refers(&self, service: &str, set: &str, written: &settings::Set) -> Result<Vec<Refers>, String> {
        let mut found = Vec::new();
        for (name, refers) in &written.refers {
            let (_, own) = self.find(&format!("{service}/{set}")).ok_or("it is gone")?;
            let property = own.properties.get(name.as_str()).ok_or_else(|| format!("there is no property `{name}`"))?;
            let (_, other) = self.find(&refers.to).ok_or_else(|| format!("there is no set `{}`", refers.to))?;
            let [key] = other.key_columns().try_into().map_err(|_| format!("`{}` has no simple key", refers.to))?;
            found.push(Refers {
                property: Arc::from(name.as_str()),
                column: property.column.clone(),
                table: other.table,
                key,
                code: refers.code.clone(),
                message: refers.message.clone(),
            });
        }
        Ok(found)
    }
}

fn same_table(one: &Set, other: &Set) -> bool {
    one.table == other.table
}

impl Set {
    /// Finds the column and the type of a property.
    pub(super) fn column(&self, name: &str) -> Option<(Arc<str>, Kind)> {
        self.properties.get(name).map(|property| (property.column.clone(), property.kind))
    }

    pub(super) fn key_columns(&self) -> Vec<Arc<str>> {
        self.key.iter().filter_map(|name| Some(self.column(name)?.0)).collect()
    }
}

fn by_column(properties: &IndexMap<Arc<str>, Property>, values: &IndexMap<String, Value>) -> Result<Map, String> {
    let mut map = Map::new();
    for (name, value) in values {
        let property = properties.get(name.as_str()).ok_or_else(|| format!("there is no property `{name}`"))?;
        let value = property.kind.accept(value, Source::Rows).map_err(|error| format!("property `{name}`: {error}"))?;
        map.insert(property.column.clone(), value);
    }
    Ok(map)
}

fn navigations(
    sets: &IndexMap<Arc<str>, Set>,
    name: &str,
    written: &settings::Set,
) -> Result<IndexMap<Arc<str>, Navigation>, String> {
    let own = sets.get(name).ok_or("it is gone")?;
    let mut found = IndexMap::new();
    for (name, navigation) in &written.navigations {
        let other = sets.get(navigation.set.as_str()).ok_or_else(|| format!("there is no set `{}`", navigation.set))?;
        let mut on = Vec::new();
        for (from, to) in &navigation.on {
            let (from, _) = own.column(from).ok_or_else(|| format!("there is no property `{from}`"))?;
            let (to, _) = other.column(to).ok_or_else(|| format!("`{}` has no property `{to}`", other.name))?;
            on.push((from, to));
        }
        let (own_key, other_key) = (own.key_columns(), other.key_columns());
        let owns = navigation.many
            && own_key.iter().all(|key| on.iter().any(|(from, _)| from == key))
            && on.iter().all(|(_, to)| other_key.contains(to));
        let made = Navigation { set: other.name.clone(), on, many: navigation.many, owns };
        found.insert(Arc::from(name.as_str()), made);
    }
    Ok(found)
}

fn sums(sets: &IndexMap<Arc<str>, Set>, name: &str, written: &settings::Set) -> Result<Vec<Sum>, String> {
    let own = sets.get(name).ok_or("it is gone")?;
    let mut found = Vec::new();
    for (property, path) in &written.sums {
        let (column, _) = own.column(property).ok_or_else(|| format!("there is no property `{property}`"))?;
        let part = path.split_once('/').and_then(|(navigation, of)| {
            let set = sets.get(&own.navigations.get(navigation)?.set)?;
            Some((Arc::from(navigation), set.column(of)?.0))
        });
        let (navigation, of) = part.ok_or_else(|| format!("there is nothing at `{path}`"))?;
        found.push(Sum { column, navigation, of });
    }
    Ok(found)
}

fn price(properties: &IndexMap<Arc<str>, Property>, written: &settings::Price) -> Result<Price, String> {
    let column = |name: &str| {
        let property = properties.get(name).ok_or_else(|| format!("there is no property `{name}`"))?;
        Ok::<_, String>(property.column.clone())
    };
    let mut list = IndexMap::new();
    for (name, price) in &written.list {
        let kind = Kind::Decimal { precision: 28, scale: 5 };
        let Ok(Value::Decimal(price)) = kind.accept(price, Source::Rows) else {
            return Err(format!("the price of `{name}` is no number"));
        };
        list.insert(Arc::from(name.as_str()), price);
    }
    let (amount, quantity) = (column(&written.amount)?, column(&written.quantity)?);
    Ok(Price { amount, quantity, by: column(&written.by)?, list })
}

fn function_of(sets: &IndexMap<Arc<str>, Set>, written: &settings::Function) -> Result<Function, String> {
    let set = sets.get(written.set.as_str()).ok_or_else(|| format!("there is no set `{}`", written.set))?;
    let mut parameters = IndexMap::new();
    for (name, kind) in &written.parameters {
        let kind = Kind::parse(kind).ok_or_else(|| format!("there is no type `{kind}`"))?;
        parameters.insert(Arc::from(name.as_str()), kind);
    }
    let returns = match written.returns.as_str() {
        "one" => Returns::One,
        "many" => Returns::Many,
        "nothing" => Returns::Nothing,
        property if set.properties.contains_key(property) => Returns::Value(Arc::from(property)),
        other => return Err(format!("`returns` is `one`, `many`, `nothing` or a property, not `{other}`")),
    };
    let reads = match written.method.as_str() {
        "GET" => true,
        "POST" => false,
        other => return Err(format!("its method is `GET` or `POST`, not `{other}`")),
    };
    let change = by_column(&set.properties, &written.change)?;
    Ok(Function { set: set.name.clone(), reads, parameters, bound: written.bound, change, returns })
}
