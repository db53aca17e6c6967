//! What a path behind a service names.

use std::sync::Arc;

use super::Desk;
use super::edm::Version;
use super::fault::Fault;
use super::fault::Reason;
use super::schema::Function;
use super::schema::Set;
use super::store;
use super::store::Store;
use super::token;
use super::token::Literal;
use super::token::Token;
use crate::connector::body::form;
use crate::model::Map;
use crate::model::Value;

/// What a path names, found in the store.
#[derive(Debug)]
pub(super) enum Resource<'a> {
    Service,
    Metadata,
    Many(Rows<'a>),
    /// Nothing where a navigation leads to none.
    One(&'a Set, Option<usize>),
    Count(Rows<'a>),
    Property {
        set: &'a Set,
        row: usize,
        name: Arc<str>,
        /// The value alone.
        raw: bool,
    },
    Call(Call<'a>),
}

/// Rows of a set.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    pub set: &'a Set,
    pub rows: Vec<usize>,
    /// What the path says of each, by column: a new one gets it.
    pub given: Vec<(Arc<str>, Value)>,
}

#[derive(Debug)]
pub(super) struct Call<'a> {
    pub name: Arc<str>,
    pub function: &'a Function,
    pub set: &'a Set,
    /// Those that it is bound to.
    pub rows: Option<Vec<usize>>,
    /// As they stand in the path.
    pub arguments: Vec<(String, Literal)>,
}

/// Decodes a segment of a path, where a plus is a plus.
pub(super) fn decoded(text: &str) -> String {
    let plain = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let pairs = form::parse(&format!("x={plain}")).ok();
    pairs.and_then(|pairs| pairs.into_iter().next()).map_or_else(|| text.to_owned(), |(_, value)| value)
}

/// Finds what a path behind a service names.
pub(super) fn resolve<'a>(desk: &Desk<'a>, store: &Store, path: &str) -> Result<Resource<'a>, Fault> {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty()).map(decoded);
    let Some(first) = segments.next() else { return Ok(Resource::Service) };
    let mut found = match first.as_str() {
        "$metadata" => Resource::Metadata,
        segment => start(desk, store, segment)?,
    };
    for segment in segments {
        found = step(desk, store, found, &segment)?;
    }
    Ok(found)
}

fn start<'a>(desk: &Desk<'a>, store: &Store, segment: &str) -> Result<Resource<'a>, Fault> {
    let (name, arguments) = call_of(segment, desk.service.version)?;
    if let Some(set) = desk.service.sets.get(name) {
        let all = Rows { set, rows: (0..store.rows(set.table).len()).collect(), given: Vec::new() };
        return chosen(desk, store, all, arguments);
    }
    match desk.service.functions.get_key_value(name).filter(|(_, function)| !function.bound) {
        Some((name, function)) => {
            let set = desk.set(&function.set)?;
            Ok(Resource::Call(Call { name: name.clone(), function, set, rows: None, arguments: named(arguments)? }))
        }
        None => Err(unknown(name)),
    }
}

fn unknown(segment: &str) -> Fault {
    Fault::new(Reason::Resource, format!("Resource not found for segment '{segment}'"))
}

fn step<'a>(desk: &Desk<'a>, store: &Store, from: Resource<'a>, segment: &str) -> Result<Resource<'a>, Fault> {
    let (name, arguments) = call_of(segment, desk.service.version)?;
    match from {
        Resource::Many(rows) if segment == "$count" => Ok(Resource::Count(rows)),
        Resource::Many(rows) => bound(desk, rows.set, rows.rows, name, arguments),
        Resource::One(set, Some(row)) => {
            let Some(values) = store.row(set.table, row) else { return Err(unknown(segment)) };
            if let Some(navigation) = set.navigations.get(name) {
                let to = desk.set(&navigation.set)?;
                let rows = store.related(navigation, to, values);
                if !navigation.many && arguments.is_none() {
                    return Ok(Resource::One(to, rows.first().copied()));
                }
                return chosen(desk, store, Rows { set: to, rows, given: store::bound(navigation, values) }, arguments);
            }
            match set.properties.get_key_value(name).filter(|_| arguments.is_none()) {
                Some((name, _)) => Ok(Resource::Property { set, row, name: name.clone(), raw: false }),
                None => bound(desk, set, vec![row], name, arguments),
            }
        }
        Resource::Property { set, row, name, raw: false } if segment == "$value" => {
            Ok(Resource::Property { set, row, name, raw: true })
        }
        _ => Err(unknown(segment)),
    }
}

/// Finds a function of V4 behind what it is bound to; its name space stands before its name.
fn bound<'a>(
    desk: &Desk<'a>,
    set: &'a Set,
    rows: Vec<usize>,
    segment: &str,
    arguments: Option<Vec<(Option<String>, Literal)>>,
) -> Result<Resource<'a>, Fault> {
    let name = segment.rsplit('.').next().unwrap_or(segment);
    let found = desk.service.functions.get_key_value(name);
    match found.filter(|(_, function)| function.bound && function.set == set.name) {
        Some((name, function)) => {
            let arguments = named(arguments)?;
            Ok(Resource::Call(Call { name: name.clone(), function, set, rows: Some(rows), arguments }))
        }
        None => Err(unknown(segment)),
    }
}

/// Takes the row that a key names, or all.
fn chosen<'a>(
    desk: &Desk<'a>,
    store: &Store,
    all: Rows<'a>,
    key: Option<Vec<(Option<String>, Literal)>>,
) -> Result<Resource<'a>, Fault> {
    let Some(key) = key.filter(|key| !key.is_empty()) else { return Ok(Resource::Many(all)) };
    let set = all.set;
    let mut wanted: Vec<(Arc<str>, Value)> = Vec::new();
    for (name, literal) in &key {
        let name = match (name, set.key.as_slice()) {
            (Some(name), _) => name.as_str(),
            (None, [only]) => only,
            (None, _) => return Err(Fault::new(Reason::Query, "The key needs the names of its properties")),
        };
        let property = set.properties.get(name).filter(|_| set.key.iter().any(|own| &**own == name));
        let property = property.ok_or_else(|| {
            Fault::new(Reason::Query, format!("Property '{name}' is not in the key of '{}'", set.name))
        })?;
        let value = literal.value(property.kind, desk.service.version).filter(|value| !value.is_null());
        let value = value.ok_or_else(|| Fault::new(Reason::Query, format!("Malformed value of key '{name}'")))?;
        wanted.push((property.column.clone(), value));
    }
    if wanted.len() != set.key.len() {
        return Err(Fault::new(Reason::Query, format!("The key of '{}' is not complete", set.name)));
    }
    let found = store.positions(set.table, &wanted).into_iter().find(|at| all.rows.contains(at));
    match found {
        Some(row) => Ok(Resource::One(set, Some(row))),
        None => Err(none(set)),
    }
}

pub(super) fn none(set: &Set) -> Fault {
    Fault::new(Reason::Entity, format!("Resource not found for segment '{}'", set.type_name))
}

fn named(arguments: Option<Vec<(Option<String>, Literal)>>) -> Result<Vec<(String, Literal)>, Fault> {
    let each = |(name, literal): (Option<String>, Literal)| Some((name?, literal));
    let named = arguments.unwrap_or_default().into_iter().map(each).collect::<Option<Vec<_>>>();
    named.ok_or_else(|| Fault::new(Reason::Query, "Parameters need their names"))
}

type Arguments = Option<Vec<(Option<String>, Literal)>>;

/// Splits `name(…)` into the name and the literals, with their names where they have them.
fn call_of(segment: &str, version: Version) -> Result<(&str, Arguments), Fault> {
    let malformed = || Fault::new(Reason::Query, format!("Malformed segment '{segment}'"));
    let Some((name, rest)) = segment.split_once('(') else { return Ok((segment, None)) };
    let inner = rest.strip_suffix(')').ok_or_else(malformed)?;
    let mut tokens = token::split(inner, version).map_err(|_| malformed())?.into_iter().peekable();
    let mut found = Vec::new();
    while let Some(token) = tokens.next() {
        let one = match token {
            Token::Literal(literal) => (None, literal),
            Token::Word(word) if tokens.next_if_eq(&Token::Equals).is_some() => match tokens.next() {
                Some(Token::Literal(literal)) => (Some(word), literal),
                _ => return Err(malformed()),
            },
            _ => return Err(malformed()),
        };
        found.push(one);
        if tokens.next().is_some_and(|token| token != Token::Comma) {
            return Err(malformed());
        }
    }
    Ok((name, Some(found)))
}

impl Call<'_> {
    /// Gathers the arguments, from the path, the query or the body, by name.
    pub(super) fn parameters(&self, desk: &Desk<'_>, query: &[(String, String)], body: &Value) -> Result<Map, Fault> {
        let wrong = |name: &str| Fault::new(Reason::Query, format!("Parameter '{name}' is missing or malformed"));
        let version = desk.service.version;
        let mut map = Map::new();
        for (name, kind) in &self.function.parameters {
            let in_path = self.arguments.iter().find(|(own, _)| own == &**name).map(|(_, literal)| literal.clone());
            let in_query = query.iter().find(|(own, _)| own == &**name).map(|(_, text)| text);
            let literal = match (in_path, in_query) {
                (None, Some(text)) if version == Version::V2 => {
                    let tokens = token::split(text, version).map_err(|_| wrong(name))?;
                    let [Token::Literal(literal)] = tokens.as_slice() else { return Err(wrong(name)) };
                    Some(literal.clone())
                }
                (literal, _) => literal,
            };
            let value = match literal {
                Some(literal) => literal.value(*kind, version),
                None => body.get(name).and_then(|value| kind.accept(value, desk.source()).ok()),
            };
            map.insert(name.clone(), value.ok_or_else(|| wrong(name))?);
        }
        let unknown = body.as_map().into_iter().flatten().find(|(name, _)| !map.contains_key(*name));
        let in_path = self.arguments.iter().find(|(name, _)| !map.contains_key(name.as_str()));
        match unknown.map(|(name, _)| &**name).or(in_path.map(|(name, _)| name.as_str())) {
            Some(name) => Err(Fault::new(Reason::Query, format!("There is no parameter '{name}'"))),
            None => Ok(map),
        }
    }
}
