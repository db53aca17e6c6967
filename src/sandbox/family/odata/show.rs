//! Entities as clients see them, in both versions.

use std::fmt::Write;

use super::Desk;
use super::edm::Version;
use super::query::Shape;
use super::schema::Set;
use super::store::Store;
use crate::model::Map;
use crate::model::Value;

/// Returns an entity with what was asked for of it.
pub(super) fn entity(desk: &Desk<'_>, store: &Store, set: &Set, row: &Map, shape: &Shape) -> Value {
    let version = desk.service.version;
    let mut shown = Map::new();
    let uri = format!("{}/{}", desk.link_root(), address(desk, set, row));
    let etag = etag(desk, set, row);
    match version {
        Version::V2 => {
            let kind = format!("{}.{}", desk.service.namespace, set.type_name);
            let mut about = vec![("id", uri.clone()), ("uri", uri.clone()), ("type", kind)];
            about.extend(etag.map(|etag| ("etag", etag)));
            let about = about.into_iter().map(|(key, value)| (key, Value::from(value)));
            shown.insert("__metadata".into(), Value::map(about));
        }
        Version::V4 => {
            shown.extend(etag.map(|etag| ("@odata.etag".into(), Value::from(etag))));
        }
    }
    for (name, property) in set.properties.iter().filter(|(name, _)| shape.selects(name)) {
        let value = row.get(&property.column).cloned().unwrap_or_default();
        shown.insert(name.clone(), property.kind.shown(&value, version, desk.texts));
    }
    for (name, navigation) in &set.navigations {
        let Ok(to) = desk.set(&navigation.set) else { continue };
        // In V2 what is not selected is not shown, expanded or not.
        if version == Version::V2 && !shape.selects(name) {
            continue;
        }
        let Some(query) = shape.expand.get(name) else {
            if version == Version::V2 {
                let uri = Value::from(format!("{uri}/{name}"));
                shown.insert(name.clone(), Value::map([("__deferred", Value::map([("uri", uri)]))]));
            }
            continue;
        };
        let page = query.page(store, to, &store.related(navigation, to, row), usize::MAX);
        let rows = page.rows.iter().filter_map(|at| store.row(to.table, *at));
        let entities: Vec<_> = rows.map(|row| entity(desk, store, to, row, &query.shape)).collect();
        if query.count {
            shown.insert(format!("{name}@odata.count").into(), Value::from(page.count as u64));
        }
        let content = match (navigation.many, version) {
            (false, _) => entities.into_iter().next().unwrap_or_default(),
            (true, Version::V2) => Value::map([("results", Value::list(entities))]),
            (true, Version::V4) => Value::list(entities),
        };
        shown.insert(name.clone(), content);
    }
    Value::from(shown)
}

/// Returns the path of an entity behind its service.
pub(super) fn address(desk: &Desk<'_>, set: &Set, row: &Map) -> String {
    let literal = |name: &str| {
        let (column, kind) = set.column(name)?;
        Some(kind.literal(row.get(&column)?, desk.service.version))
    };
    let key = match set.key.as_slice() {
        [only] => literal(only).unwrap_or_default(),
        names => {
            let pairs = names.iter().map(|name| format!("{name}={}", literal(name).unwrap_or_default()));
            pairs.collect::<Vec<_>>().join(",")
        }
    };
    escaped(&format!("{}({key})", set.name), "'(),=:;$@!*")
}

/// Returns the version of an entity, where its set has one.
pub(super) fn etag(desk: &Desk<'_>, set: &Set, row: &Map) -> Option<String> {
    let property = set.etag.as_ref()?;
    let literal = property.kind.literal(row.get(&property.column)?, desk.service.version);
    Some(match desk.service.version {
        Version::V2 => format!("W/\"{}\"", escaped(&literal, "'")),
        Version::V4 => format!("W/\"{}\"", literal.replace(['-', ':', '\''], "")),
    })
}

/// Encodes a text for a URL, but for letters, digits, `-._~` and these marks.
pub(super) fn escaped(text: &str, kept: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let letter = char::from(byte);
        if letter.is_ascii_alphanumeric() || "-._~".contains(letter) || (byte.is_ascii() && kept.contains(letter)) {
            out.push(letter);
        } else {
            write!(out, "%{byte:02X}").expect("writing into a string cannot fail");
        }
    }
    out
}

/// Writes a query for a link.
pub(super) fn query(pairs: &[(String, String)]) -> String {
    let kept = "'(),:;$@!*/";
    let pairs = pairs.iter().map(|(name, value)| format!("{}={}", escaped(name, kept), escaped(value, kept)));
    pairs.collect::<Vec<_>>().join("&")
}
