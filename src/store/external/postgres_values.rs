//! PostgreSQL's binary values, to and from ours, by the types that the server names.

use jiff::civil::Date;
use sqlx::Encode;
use sqlx::Postgres;
use sqlx::Type;
use sqlx::TypeInfo;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgArgumentBuffer;
use sqlx::postgres::PgArguments;
use sqlx::postgres::PgTypeInfo;
use sqlx::postgres::PgTypeKind;

use super::SqlError;
use super::numeric;
use crate::model::Duration;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::parse_json;
use crate::model::parse_number;
use crate::model::write_json;
use crate::store::blobs::hex;

/// PostgreSQL counts from 2000-01-01.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const EPOCH: Date = jiff::civil::date(2000, 1, 1);

/// A parameter in the binary form of its type.
struct Param {
    kind: PgTypeInfo,
    bytes: Option<Vec<u8>>,
}

impl Type<Postgres> for Param {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("text")
    }

    fn compatible(_: &PgTypeInfo) -> bool {
        true
    }
}

impl Encode<'_, Postgres> for Param {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(match &self.bytes {
            None => IsNull::Yes,
            Some(bytes) => {
                buffer.extend_from_slice(bytes);
                IsNull::No
            }
        })
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(self.kind.clone())
    }
}

/// Encodes the parameters in the types that the server has inferred.
pub(super) fn arguments(types: &[PgTypeInfo], params: &[Value]) -> Result<PgArguments, SqlError> {
    let mut arguments = PgArguments::default();
    for (index, (kind, value)) in types.iter().zip(params).enumerate() {
        let number = index + 1;
        let bytes = write(kind, &value.revealed()).map_err(|expected| {
            // The value is not shown: it may be secret.
            let found = value.kind().name();
            SqlError::invalid(format!("parameter {number} must be {expected}, found a value of kind {found}"))
        })?;
        let param = Param { kind: kind.clone(), bytes };
        sqlx::Arguments::add(&mut arguments, param).map_err(|error| SqlError::invalid(error.to_string()))?;
    }
    Ok(arguments)
}

/// Writes a value in the binary form of a type; nothing for null. The error is what was expected.
fn write(kind: &PgTypeInfo, value: &Value) -> Result<Option<Vec<u8>>, String> {
    match kind.kind() {
        PgTypeKind::Domain(inner) => return write(inner, value),
        _ if value.is_null() => return Ok(None),
        PgTypeKind::Array(inner) => return write_array(inner, value).map(Some),
        PgTypeKind::Enum(_) => return Ok(Some(value.to_text().into_bytes())),
        _ => {}
    }
    let text = value.to_text();
    let bytes = match kind.name() {
        "BOOL" => match (value, text.as_str()) {
            (Value::Bool(truth), _) => Some(vec![u8::from(*truth)]),
            (_, "true") => Some(vec![1]),
            (_, "false") => Some(vec![0]),
            _ => None,
        },
        "INT2" => text.parse::<i16>().ok().map(|int| int.to_be_bytes().to_vec()),
        "INT4" => text.parse::<i32>().ok().map(|int| int.to_be_bytes().to_vec()),
        "INT8" => text.parse::<i64>().ok().map(|int| int.to_be_bytes().to_vec()),
        "FLOAT4" => text.parse::<f32>().ok().map(|float| float.to_be_bytes().to_vec()),
        "FLOAT8" => text.parse::<f64>().ok().map(|float| float.to_be_bytes().to_vec()),
        "NUMERIC" => numeric::to_bytes(&text),
        "TEXT" | "VARCHAR" | "CHAR" | "BPCHAR" | "NAME" | "citext" | "CITEXT" | "UNKNOWN" => Some(text.into_bytes()),
        "JSON" => Some(json(value).into_bytes()),
        "JSONB" => Some([b"\x01", json(value).as_bytes()].concat()),
        "TIMESTAMPTZ" | "TIMESTAMP" => {
            let moment = if let Value::Time(moment) = value { Some(*moment) } else { text.parse::<Timestamp>().ok() };
            moment
                .and_then(|moment| moment.micros().checked_sub(EPOCH_MICROS))
                .map(|micros| micros.to_be_bytes().to_vec())
        }
        "DATE" => {
            let date = match value {
                Value::Time(moment) => Some(jiff::tz::TimeZone::UTC.to_datetime(moment.to_jiff()).date()),
                _ => text.parse::<Date>().ok(),
            };
            date.and_then(|date| (date - EPOCH).get_days().to_be_bytes().to_vec().into())
        }
        "UUID" => bytes_of_hex(&text.replace('-', "")).filter(|bytes| bytes.len() == 16),
        "BYTEA" => text.strip_prefix("\\x").map_or_else(|| Some(text.clone().into_bytes()), bytes_of_hex),
        "INTERVAL" => match value {
            Value::Duration(length) => i64::try_from(length.micros()).ok().map(|micros| {
                // Microseconds, days, months.
                [micros.to_be_bytes().as_slice(), &[0; 8]].concat()
            }),
            _ => None,
        },
        other => return Err(format!("cast in the statement (`$1::text::…`): the type {other} is not known here")),
    };
    bytes.map(Some).ok_or_else(|| format!("a value for the type {}", kind.name()))
}

fn json(value: &Value) -> String {
    let mut text = String::new();
    write_json(value, &mut text);
    text
}

fn write_array(inner: &PgTypeInfo, value: &Value) -> Result<Vec<u8>, String> {
    let items = value.as_list().ok_or_else(|| format!("a list of {}", inner.name()))?;
    let oid =
        inner.oid().ok_or_else(|| format!("cast in the statement: the type {} is not known here", inner.name()))?;
    let length = i32::try_from(items.len()).map_err(|_| "a shorter list".to_owned())?;
    let has_null = i32::from(items.iter().any(Value::is_null));
    let mut bytes = Vec::new();
    for field in [i32::from(!items.is_empty()), has_null, oid.0.cast_signed()] {
        bytes.extend(field.to_be_bytes());
    }
    if !items.is_empty() {
        bytes.extend(length.to_be_bytes());
        bytes.extend(1_i32.to_be_bytes());
    }
    for item in items {
        match write(inner, item)? {
            None => bytes.extend((-1_i32).to_be_bytes()),
            Some(item) => {
                bytes.extend(i32::try_from(item.len()).map_err(|_| "shorter items".to_owned())?.to_be_bytes());
                bytes.extend(item);
            }
        }
    }
    Ok(bytes)
}

/// Reads a value that is not null.
pub(super) fn read(kind: &PgTypeInfo, bytes: &[u8]) -> Result<Value, SqlError> {
    match kind.kind() {
        PgTypeKind::Domain(inner) => return read(inner, bytes),
        PgTypeKind::Array(inner) => return read_array(inner, bytes),
        PgTypeKind::Enum(_) => return text(bytes),
        _ => {}
    }
    let damaged = || SqlError::invalid(format!("a value of type {} cannot be read", kind.name()));
    let value = match kind.name() {
        "BOOL" => bytes.first().map(|byte| Value::Bool(*byte != 0)),
        "INT2" => fixed(bytes).map(|bytes| Value::from(i32::from(i16::from_be_bytes(bytes)))),
        "INT4" => fixed(bytes).map(|bytes| Value::from(i32::from_be_bytes(bytes))),
        "INT8" => fixed(bytes).map(|bytes| Value::from(i64::from_be_bytes(bytes))),
        "OID" => fixed(bytes).map(|bytes| Value::from(u32::from_be_bytes(bytes))),
        "FLOAT4" => fixed(bytes).map(|bytes| Value::Float(f32::from_be_bytes(bytes).into())),
        "FLOAT8" => fixed(bytes).map(|bytes| Value::Float(f64::from_be_bytes(bytes))),
        // NaN and infinities are no numbers of ours: they come as their names.
        "NUMERIC" => numeric::from_bytes(bytes).map(|text| parse_number(&text).unwrap_or_else(|| Value::from(text))),
        "TEXT" | "VARCHAR" | "CHAR" | "\"CHAR\"" | "BPCHAR" | "NAME" | "citext" | "CITEXT" | "UNKNOWN" => {
            return text(bytes);
        }
        "JSON" => json_value(bytes),
        "JSONB" => bytes.strip_prefix(b"\x01").and_then(json_value),
        "TIMESTAMPTZ" | "TIMESTAMP" => fixed(bytes).map(|bytes| moment(i64::from_be_bytes(bytes))),
        "DATE" => fixed(bytes).and_then(|bytes| date(i32::from_be_bytes(bytes))),
        "TIME" => fixed(bytes).and_then(|bytes| time_of_day(i64::from_be_bytes(bytes))),
        "UUID" => fixed::<16>(bytes).map(|bytes| Value::from(uuid(bytes))),
        "BYTEA" => Some(Value::from(format!("\\x{}", hex(bytes)))),
        "INTERVAL" => interval(bytes),
        "VOID" => Some(Value::Null),
        other => return Err(SqlError::invalid(format!("the type {other} is not known here: cast it to text"))),
    };
    value.ok_or_else(damaged)
}

fn text(bytes: &[u8]) -> Result<Value, SqlError> {
    std::str::from_utf8(bytes).map(Value::from).map_err(|_| SqlError::invalid("the text is not UTF-8"))
}

fn json_value(bytes: &[u8]) -> Option<Value> {
    parse_json(std::str::from_utf8(bytes).ok()?).ok()
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn moment(micros: i64) -> Value {
    match micros {
        i64::MAX => Value::from("infinity"),
        i64::MIN => Value::from("-infinity"),
        micros => Value::Time(Timestamp(micros.saturating_add(EPOCH_MICROS))),
    }
}

fn date(days: i32) -> Option<Value> {
    match days {
        i32::MAX => Some(Value::from("infinity")),
        i32::MIN => Some(Value::from("-infinity")),
        days => {
            let span = jiff::Span::new().try_days(i64::from(days)).ok()?;
            EPOCH.checked_add(span).ok().map(|date| Value::from(date.to_string()))
        }
    }
}

fn time_of_day(micros: i64) -> Option<Value> {
    let span = jiff::Span::new().try_microseconds(micros).ok()?;
    // 24:00:00 is a time of PostgreSQL, and of nobody else.
    jiff::civil::Time::midnight().checked_add(span).ok().map(|time| Value::from(time.to_string()))
}

fn uuid(bytes: [u8; 16]) -> String {
    let digits = hex(&bytes);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// An interval without months is a length of time (a day has 24 hours); with months it is not, and comes as ISO 8601.
fn interval(bytes: &[u8]) -> Option<Value> {
    let micros = i64::from_be_bytes(fixed(bytes.get(0..8)?)?);
    let days = i32::from_be_bytes(fixed(bytes.get(8..12)?)?);
    let months = i32::from_be_bytes(fixed(bytes.get(12..16)?)?);
    let whole = i64::from(days).checked_mul(86_400_000_000).and_then(|days| days.checked_add(micros));
    match whole.and_then(|whole| u64::try_from(whole).ok()) {
        Some(whole) if months == 0 => Some(Value::Duration(Duration::from_micros(whole))),
        _ => {
            let span = jiff::Span::new().try_months(months).ok()?.try_days(days).ok()?.try_microseconds(micros).ok()?;
            Some(Value::from(span.to_string()))
        }
    }
}

fn read_array(inner: &PgTypeInfo, bytes: &[u8]) -> Result<Value, SqlError> {
    let damaged = || SqlError::invalid("a list cannot be read");
    let field = |index: usize| {
        let bytes = bytes.get(index * 4..index * 4 + 4).and_then(fixed).ok_or_else(damaged)?;
        Ok::<i32, SqlError>(i32::from_be_bytes(bytes))
    };
    match field(0)? {
        0 => return Ok(Value::list(Vec::new())),
        1 => {}
        _ => return Err(SqlError::invalid("a list of lists is not known here: cast it to text")),
    }
    let length = field(3)?;
    let mut rest = bytes.get(20..).ok_or_else(damaged)?;
    let mut items = Vec::new();
    for _ in 0..length {
        let (size, tail) = rest.split_at_checked(4).ok_or_else(damaged)?;
        let size = i32::from_be_bytes(fixed(size).ok_or_else(damaged)?);
        if size < 0 {
            items.push(Value::Null);
            rest = tail;
        } else {
            let size = usize::try_from(size).map_err(|_| damaged())?;
            let (item, tail) = tail.split_at_checked(size).ok_or_else(damaged)?;
            items.push(read(inner, item)?);
            rest = tail;
        }
    }
    Ok(Value::list(items))
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
