//! Filters over files: they work on handles alone, never on bytes.

use std::sync::Arc;

use minijinja::Environment;
use minijinja::Error;

use super::super::budget::plain_text as text;
use super::super::operators::MAX_LIST;
use super::super::operators::invalid;
use super::super::operators::too_many;
use super::call::Arguments;
use super::call::making;
use super::call::moving;
use crate::model::Blob;
use crate::model::Value;

pub(super) fn register(environment: &mut Environment<'static>) {
    moving(environment, "size", 0, 0, |value, _| Ok(Value::from(blob(&value)?.size)));
    moving(environment, "media_type", 0, 0, |value, _| {
        Ok(blob(&value)?.media_type.clone().map_or_else(|| Value::from("application/octet-stream"), Value::from))
    });
    moving(environment, "file_name", 0, 0, |value, _| {
        Ok(blob(&value)?.file_name.clone().map_or_else(|| Value::from("file"), Value::from))
    });
    making(environment, "chunks", 1, 1, |value, arguments| {
        let size = bytes(arguments)?;
        let whole = blob(&value)?;
        if whole.size / size > u64::try_from(MAX_LIST).unwrap_or(u64::MAX) {
            return Err(too_many());
        }
        let mut parts = Vec::new();
        let mut first = 0;
        while first < whole.size {
            parts.push(Value::Blob(Arc::new(part(whole, first, size))));
            first += size;
        }
        Ok(Value::list(parts))
    });
}

/// Takes a part of a file: so many bytes from the first on, fewer at its end.
pub(super) fn sliced(whole: &Blob, arguments: &Arguments) -> Result<Value, Error> {
    let first = arguments.count(0, "first")?.ok_or_else(|| invalid("`slice` of a file takes the first byte"))?;
    let length = arguments.count(1, "length")?.unwrap_or(usize::MAX);
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    Ok(Value::Blob(Arc::new(part(whole, number(first), number(length)))))
}

fn part(whole: &Blob, first: u64, length: u64) -> Blob {
    let first = first.min(whole.size);
    let size = length.min(whole.size - first);
    let offset = whole.offset.unwrap_or(0).saturating_add(first);
    Blob { size, offset: Some(offset), ..whole.clone() }
}

fn blob(value: &Value) -> Result<&Blob, Error> {
    match value {
        Value::Blob(blob) => Ok(blob),
        other => Err(invalid(format!("expected a file, found {}", other.kind().name()))),
    }
}

/// Reads a size: a number of bytes, or `4MiB`.
fn bytes(arguments: &Arguments) -> Result<u64, Error> {
    let given = arguments.get(0, "size")?.ok_or_else(|| invalid("`chunks` takes a size such as `4MiB`"))?;
    let written = text(&given)?;
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("kB", 1_000), ("MB", 1_000_000), ("B", 1)];
    let unit = units.iter().find_map(|(unit, bytes)| Some((written.strip_suffix(unit)?, *bytes)));
    let (number, unit) = unit.unwrap_or((&written, 1_u64));
    let size = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    size.filter(|size| *size > 0).ok_or_else(|| invalid(format!("`{written}` is no size; write `4MiB`")))
}
