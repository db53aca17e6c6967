//! Creating, changing and deleting entities, with what the service itself does then: numbers, stamps, sums, prices.

use std::sync::Arc;

use rust_decimal::Decimal;
use rust_decimal::RoundingStrategy;

use super::Desk;
use super::edm::Kind;
use super::fault::Fault;
use super::fault::Reason;
use super::schema::Property;
use super::schema::Set;
use super::store;
use super::store::Store;
use crate::model::Duration;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;

/// How deep an entity may hold its parts.
const DEPTH: usize = 6;

/// Creates an entity with the parts that it holds; `given` is what its place says of it, by column.
pub(super) fn create(
    desk: &Desk<'_>,
    store: &mut Store,
    set: &Set,
    body: &Value,
    given: &[(Arc<str>, Value)],
) -> Result<usize, Fault> {
    let at = create_part(desk, store, set, body, given, 0)?;
    touch_wholes(desk, store, set, at);
    Ok(at)
}

fn create_part(
    desk: &Desk<'_>,
    store: &mut Store,
    set: &Set,
    body: &Value,
    given: &[(Arc<str>, Value)],
    depth: usize,
) -> Result<usize, Fault> {
    let table = desk.schema.tables.get(set.table);
    let table = table.ok_or_else(|| Fault::new(Reason::Resource, "Resource not found"))?;
    let mut row: Map = table.columns.iter().map(|(column, kind)| (column.clone(), kind.initial())).collect();
    row.extend(set.defaults.clone());
    let parts = fill(desk, set, &mut row, body)?;
    row.extend(given.iter().cloned());
    if let (Some(number), Some(last)) = (&set.number, set.key_columns().last())
        && let Some(kind) = table.columns.get(last)
        && row.get(last).is_none_or(|value| kind.is_initial(value))
    {
        let next = store.number(table, set.table, number.first, number.step, &row);
        let next = if matches!(kind, Kind::Text { .. }) { Value::from(next.to_string()) } else { Value::Int(next) };
        row.insert(last.clone(), next);
    }
    check_new(desk, store, set, &row)?;
    for property in set.created.iter().chain(&set.changed) {
        stamp(desk.now, property, &mut row);
    }
    reckon(set, &mut row);
    let at = store.push(set.table, row.clone());
    for (name, content) in parts {
        let Some(navigation) = set.navigations.get(&name) else { continue };
        if depth >= DEPTH || !navigation.many {
            return Err(Fault::new(Reason::Value, format!("'{name}' cannot be created in one")).at(&name));
        }
        let to = desk.set(&navigation.set)?;
        let content = content.get("results").cloned().unwrap_or(content);
        let wrong = || Fault::new(Reason::Value, format!("Property '{name}' is no list")).at(&name);
        for part in content.as_list().ok_or_else(wrong)? {
            create_part(desk, store, to, part, &store::bound(navigation, &row), depth + 1)?;
        }
    }
    sum_up(desk, store, set, at);
    Ok(at)
}

/// Puts what the client gives into a row; returns the parts.
fn fill(desk: &Desk<'_>, set: &Set, row: &mut Map, body: &Value) -> Result<Vec<(Arc<str>, Value)>, Fault> {
    let wrong = || Fault::new(Reason::Body, "The request body is no entity");
    let mut parts = Vec::new();
    for (name, value) in body.as_map().ok_or_else(wrong)? {
        if &**name == "__metadata" || name.contains('@') || value.get("__deferred").is_some() {
            continue;
        }
        if set.navigations.contains_key(name) {
            parts.push((name.clone(), value.clone()));
            continue;
        }
        let property = set.properties.get(name).ok_or_else(|| {
            Fault::new(Reason::Value, format!("Property '{name}' is invalid for type '{}'", set.type_name)).at(name)
        })?;
        let value = property.kind.accept(value, desk.source()).map_err(|error| {
            Fault::new(Reason::Value, format!("Failed to read property '{name}': {error}")).at(name)
        })?;
        row.insert(property.column.clone(), value);
    }
    Ok(parts)
}

fn check_new(desk: &Desk<'_>, store: &Store, set: &Set, row: &Map) -> Result<(), Fault> {
    let initial = |name: &str| {
        set.column(name).is_some_and(|(column, kind)| row.get(&column).is_none_or(|value| kind.is_initial(value)))
    };
    if let Some(name) = set.key.iter().chain(&set.required).find(|name| initial(name)) {
        return Err(Fault::new(Reason::Business, format!("Enter a value for '{name}'")).at(name));
    }
    check_references(store, set, row)?;
    let key = set.key_columns().into_iter();
    let key: Vec<_> = key.filter_map(|column| Some((column.clone(), row.get(&column)?.clone()))).collect();
    if store.positions(set.table, &key).is_empty() {
        return Ok(());
    }
    let shown = key.iter().map(|(_, value)| value.to_text()).collect::<Vec<_>>().join("/");
    Err(Fault::new(Reason::Exists, format!("{shown} of '{}' already exists", desk.shown_set(set))))
}

fn check_references(store: &Store, set: &Set, row: &Map) -> Result<(), Fault> {
    for refers in &set.refers {
        let Some(value) = row.get(&refers.column).filter(|value| **value != Value::from("")) else { continue };
        if store.positions(refers.table, &[(refers.key.clone(), value.clone())]).is_empty() {
            let message = refers.message.replace("{value}", &value.to_text());
            return Err(Fault::new(Reason::Business, message).with_code(&refers.code).at(&refers.property));
        }
    }
    Ok(())
}

/// Changes an entity: what is given, or, where it is replaced, all.
pub(super) fn update(
    desk: &Desk<'_>,
    store: &mut Store,
    set: &Set,
    at: usize,
    body: &Value,
    replace: bool,
) -> Result<(), Fault> {
    let old = store.row(set.table, at).cloned().unwrap_or_default();
    let mut row = (*old).clone();
    let key = set.key_columns();
    if replace {
        let kept = |column: &Arc<str>| key.contains(column) || set.created.iter().any(|own| own.column == *column);
        for property in set.properties.values().filter(|property| !kept(&property.column)) {
            row.insert(property.column.clone(), property.kind.initial());
        }
    }
    if let Some((name, _)) = fill(desk, set, &mut row, body)?.first() {
        return Err(Fault::new(Reason::Value, format!("'{name}' cannot be changed in one with the whole")).at(name));
    }
    if key.iter().any(|column| row.get(column) != old.get(column)) {
        return Err(Fault::new(Reason::Value, "The key of an entity cannot be changed"));
    }
    check_references(store, set, &row)?;
    store.replace(set.table, at, row);
    settle(desk, store, set, at);
    touch_wholes(desk, store, set, at);
    Ok(())
}

/// Puts values into an entity that the service itself changes.
pub(super) fn change(desk: &Desk<'_>, store: &mut Store, set: &Set, at: usize, values: &Map) {
    let mut row = store.row(set.table, at).map(|row| (**row).clone()).unwrap_or_default();
    row.extend(values.clone());
    store.replace(set.table, at, row);
    settle(desk, store, set, at);
}

/// Deletes an entity with its parts.
pub(super) fn delete(desk: &Desk<'_>, store: &mut Store, set: &Set, at: usize) {
    let Some(row) = store.row(set.table, at).cloned() else { return };
    for navigation in set.navigations.values().filter(|navigation| navigation.owns) {
        let Ok(to) = desk.set(&navigation.set) else { continue };
        let parts = store.related(navigation, to, &row);
        store.remove(to.table, &parts);
    }
    store.remove(set.table, &[at]);
    for (whole, position) in wholes(desk, store, set, &row) {
        settle(desk, store, whole, position);
    }
}

/// Brings up to date what an entity's change means for it.
fn settle(desk: &Desk<'_>, store: &mut Store, set: &Set, at: usize) {
    let mut row = store.row(set.table, at).map(|row| (**row).clone()).unwrap_or_default();
    for property in &set.changed {
        stamp(desk.now, property, &mut row);
    }
    reckon(set, &mut row);
    store.replace(set.table, at, row);
    sum_up(desk, store, set, at);
}

fn touch_wholes(desk: &Desk<'_>, store: &mut Store, set: &Set, at: usize) {
    let row = store.row(set.table, at).cloned().unwrap_or_default();
    for (whole, position) in wholes(desk, store, set, &row) {
        settle(desk, store, whole, position);
    }
}

/// Finds what a row is part of.
fn wholes<'a>(desk: &Desk<'a>, store: &Store, part: &Set, row: &Map) -> Vec<(&'a Set, usize)> {
    let mut found = Vec::new();
    for set in desk.service.sets.values() {
        for navigation in set.navigations.values().filter(|it| it.owns && it.set == part.name) {
            let value = |to: &Arc<str>| row.get(to).cloned().unwrap_or_default();
            let wanted: Vec<_> = navigation.on.iter().map(|(from, to)| (from.clone(), value(to))).collect();
            found.extend(store.positions(set.table, &wanted).into_iter().map(|at| (set, at)));
        }
    }
    found
}

/// Writes the time into a property; two changes never have the same.
fn stamp(now: Timestamp, property: &Property, row: &mut Map) {
    const DAY: i64 = 86_400_000_000;
    let of_day = now.micros().rem_euclid(DAY);
    let value = match property.kind {
        Kind::Date => Value::Time(Timestamp(now.micros() - of_day)),
        Kind::Time => {
            let seconds = u64::try_from(of_day / 1_000_000).unwrap_or_default();
            Value::Duration(Duration::from_secs(seconds))
        }
        _ => match row.get(&property.column) {
            Some(Value::Time(old)) if *old >= now => Value::Time(old.plus(Duration::from_micros(1))),
            _ => Value::Time(now),
        },
    };
    row.insert(property.column.clone(), value);
}

/// Works out an amount from quantity and price.
fn reckon(set: &Set, row: &mut Map) {
    let Some(price) = &set.price else { return };
    let listed = row.get(&price.by).and_then(Value::as_str).and_then(|name| price.list.get(name));
    let (Some(listed), Some(Value::Decimal(quantity))) = (listed, row.get(&price.quantity)) else { return };
    if let Some(amount) = listed.checked_mul(*quantity) {
        let mut amount = amount.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
        amount.rescale(2);
        row.insert(price.amount.clone(), Value::from(amount));
    }
}

/// Brings the sums of an entity up to date.
fn sum_up(desk: &Desk<'_>, store: &mut Store, set: &Set, at: usize) {
    let Some(row) = store.row(set.table, at).cloned().filter(|_| !set.sums.is_empty()) else { return };
    let mut summed = (*row).clone();
    for sum in &set.sums {
        let Some(navigation) = set.navigations.get(&sum.navigation) else { continue };
        let Ok(to) = desk.set(&navigation.set) else { continue };
        let mut total = Decimal::new(0, 2);
        for part in store.related(navigation, to, &row) {
            if let Some(Value::Decimal(amount)) = store.row(to.table, part).and_then(|part| part.get(&sum.of)) {
                total = total.checked_add(*amount).unwrap_or(total);
            }
        }
        summed.insert(sum.column.clone(), Value::from(total));
    }
    store.replace(set.table, at, summed);
}
