//! What an evaluation may spend: the size of the data that it walks, the depth of what it builds, and its fuel.

use minijinja::Error;
use minijinja::State;

use super::operators::invalid;
use super::value::touch;
use crate::model::Value;

/// How large a value may be that an expression looks through, in bytes of its text; what is shared counts every time.
pub(super) const MAX_DATA: usize = 64 << 20;
/// How deep a result may nest: what is stored is read again by a parser that takes 128 levels.
pub(super) const MAX_RESULT_DEPTH: usize = 100;
/// How deep a value may nest that an expression looks through: data from outside, and what a template puts around it.
const MAX_DEPTH: usize = 256;
/// How many bytes of data one unit of fuel pays for where they are only read.
const BYTES_READ: usize = 512;
/// How many values one unit of fuel pays for where they are only read.
const VALUES_READ: usize = 32;
/// How many bytes of data one unit of fuel pays for where they are made; minijinja charges texts at the same rate.
const BYTES_MADE: usize = 64;

/// What a walk through a value found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// About the length of the value's JSON text.
    pub(super) bytes: usize,
    /// How many values there are in it, itself included.
    pub(super) count: usize,
    pub(super) is_tainted: bool,
}

/// Walks a value and gives up when it is too large, so that the walk itself is bounded.
pub(super) fn weigh(value: &Value, max_bytes: usize, max_depth: usize) -> Result<Weight, String> {
    let mut weight = Weight::default();
    walk(value, max_bytes, max_depth, &mut weight).map(|()| weight)
}

fn walk(value: &Value, max_bytes: usize, depth_left: usize, weight: &mut Weight) -> Result<(), String> {
    weight.count += 1;
    weight.bytes += match value {
        Value::String(text) | Value::Number(text) => text.len() + 2,
        Value::List(items) => 2 + 2 * items.len(),
        Value::Map(map) => 2 + map.keys().map(|key| key.len() + 4).sum::<usize>(),
        _ => 6,
    };
    if weight.bytes > max_bytes {
        return Err(format!("the value is too large here: more than {max_bytes} bytes as a text"));
    }
    let left = depth_left.checked_sub(1).ok_or("the value nests too deep: lists or objects in one another")?;
    match value {
        Value::List(items) => items.iter().try_for_each(|item| walk(item, max_bytes, left, weight)),
        Value::Map(map) => map.values().try_for_each(|item| walk(item, max_bytes, left, weight)),
        Value::Secret(inner) => {
            weight.is_tainted = true;
            walk(inner, max_bytes, left, weight)
        }
        _ => Ok(()),
    }
}

/// Opens a value for an operation that looks all through it: pays for the walk, and notes a secret in it. Tells whether
/// there was one; then the value is laid open.
pub(super) fn open(state: &State<'_, '_>, value: Value) -> Result<(Value, bool), Error> {
    if is_small(&value) {
        return Ok((value, false));
    }
    let weight = weigh(&value, MAX_DATA, MAX_DEPTH).map_err(invalid)?;
    spend(state, weight.bytes / BYTES_READ + weight.count / VALUES_READ)?;
    if weight.is_tainted {
        touch();
        return Ok((value.revealed(), true));
    }
    Ok((value, false))
}

/// Tells whether anything in the value is secret; of a value that is too large to walk, that it may be.
pub(super) fn may_be_tainted(value: &Value) -> bool {
    !is_small(value) && weigh(value, MAX_DATA, MAX_DEPTH).map_or(true, |weight| weight.is_tainted)
}

/// Refuses a value that is too large to look through.
pub(super) fn weigh_all(value: &Value) -> Result<(), Error> {
    weigh(value, MAX_DATA, MAX_DEPTH).map(|_| ()).map_err(invalid)
}

/// Returns the text that a template writes for a value, bounded; notes when it is a secret's, and tells it.
fn bounded_text(value: &Value) -> Result<(String, bool), Error> {
    let mut is_secret = false;
    if !is_small(value) {
        is_secret = weigh(value, super::MAX_TEXT, MAX_DEPTH).map_err(invalid)?.is_tainted;
        if is_secret {
            touch();
        }
    }
    Ok((value.to_text(), is_secret))
}

/// Returns the text that a template writes for a value, bounded.
pub(super) fn plain_text(value: &Value) -> Result<String, Error> {
    bounded_text(value).map(|(text, _)| text)
}

/// Returns the text that a template writes for a value, paid for, and whether there is a secret in it.
pub(super) fn text(state: &State<'_, '_>, value: &Value) -> Result<(String, bool), Error> {
    let (text, is_secret) = bounded_text(value)?;
    read(state, text.len())?;
    Ok((text, is_secret))
}

/// Pays for a list or an object that was made.
pub(super) fn pay_for(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let bytes = match value {
        Value::List(items) => {
            let texts = items.iter().map(|item| if let Value::String(text) = item { text.len() } else { 0 });
            // A text that is shared is paid for again: whether it was made here is not known.
            items.len() * size_of::<Value>() + texts.sum::<usize>() / 8
        }
        Value::Map(map) => map.len() * 3 * size_of::<Value>(),
        _ => return Ok(()),
    };
    spend(state, bytes / BYTES_MADE)
}

/// Pays for the work on something of so many bytes.
pub(super) fn read(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    spend(state, bytes / BYTES_READ)
}

/// Takes fuel.
pub(super) fn spend(state: &State<'_, '_>, fuel: usize) -> Result<(), Error> {
    if fuel == 0 {
        return Ok(());
    }
    state.consume_fuel(u64::try_from(fuel).unwrap_or(u64::MAX))
}

/// Tells whether a value is a scalar whose handling costs nothing to speak of.
fn is_small(value: &Value) -> bool {
    match value {
        Value::List(_) | Value::Map(_) | Value::Secret(_) => false,
        Value::String(text) | Value::Number(text) => text.len() < BYTES_READ,
        _ => true,
    }
}
