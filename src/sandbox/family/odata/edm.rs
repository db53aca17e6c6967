//! Types of properties, and their values as they stand in JSON and in URLs of both versions.

use rust_decimal::Decimal;

use crate::model::Duration;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::parse_number;

/// The version of the protocol that a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V2,
    V4,
}

/// The type of a property; the same for both versions, which name some of them differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text {
        length: Option<usize>,
    },
    Boolean,
    Int {
        bits: u32,
    },
    Decimal {
        precision: u32,
        scale: u32,
    },
    Guid,
    /// A day of the calendar.
    Date,
    /// A moment without a zone; V2 only.
    DateTime,
    DateTimeOffset,
    /// A time of the day.
    Time,
}

/// Where a value comes from, which decides how strictly it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Rows of the manifest or of a test: whatever is clear.
    Rows,
    V2,
    /// Decimals are texts where the client says so.
    V4 {
        texts: bool,
    },
}

impl Kind {
    /// Reads a type as settings write it, `String(10)` or `Decimal(16,3)`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, sizes) = match text.split_once('(') {
            Some((name, rest)) => (name, rest.strip_suffix(')')?.split(',').map(str::trim).collect()),
            None => (text, Vec::new()),
        };
        let size = |text: &&str| text.parse::<u32>().ok();
        Some(match (name.trim(), sizes.as_slice()) {
            ("String", []) => Self::Text { length: None },
            ("String", [length]) => Self::Text { length: Some(length.parse().ok()?) },
            ("Decimal", [precision, scale]) => {
                let (precision, scale) = (size(precision)?, size(scale)?);
                (scale <= precision && precision <= 28).then_some(Self::Decimal { precision, scale })?
            }
            ("Boolean", []) => Self::Boolean,
            ("Int16", []) => Self::Int { bits: 16 },
            ("Int32", []) => Self::Int { bits: 32 },
            ("Int64", []) => Self::Int { bits: 64 },
            ("Guid", []) => Self::Guid,
            ("Date", []) => Self::Date,
            ("DateTime", []) => Self::DateTime,
            ("DateTimeOffset", []) => Self::DateTimeOffset,
            ("Time", []) => Self::Time,
            _ => return None,
        })
    }

    /// Returns the name that a description of a service uses.
    pub(super) fn name(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::Text { .. }, _) => "Edm.String",
            (Self::Boolean, _) => "Edm.Boolean",
            (Self::Int { bits: 16 }, _) => "Edm.Int16",
            (Self::Int { bits: 32 }, _) => "Edm.Int32",
            (Self::Int { .. }, _) => "Edm.Int64",
            (Self::Decimal { .. }, _) => "Edm.Decimal",
            (Self::Guid, _) => "Edm.Guid",
            (Self::Date, Version::V4) => "Edm.Date",
            (Self::Date | Self::DateTime, _) => "Edm.DateTime",
            (Self::DateTimeOffset, _) => "Edm.DateTimeOffset",
            (Self::Time, Version::V2) => "Edm.Time",
            (Self::Time, Version::V4) => "Edm.TimeOfDay",
        }
    }

    /// Returns what stands where nothing was given.
    pub(super) fn initial(self) -> Value {
        match self {
            Self::Text { .. } => Value::from(""),
            Self::Boolean => Value::from(false),
            Self::Int { .. } => Value::from(0),
            Self::Decimal { scale, .. } => Value::from(Decimal::new(0, scale)),
            Self::Guid | Self::Date | Self::DateTime | Self::DateTimeOffset | Self::Time => Value::Null,
        }
    }

    /// Tells whether a value is the one that stands where nothing was given.
    pub(super) fn is_initial(self, value: &Value) -> bool {
        value.is_null() || *value == self.initial()
    }

    /// Reads a value from JSON; null gives what stands where nothing was given.
    pub(super) fn accept(self, value: &Value, source: Source) -> Result<Value, String> {
        let text = value.as_str();
        let read = match (self, value) {
            (_, Value::Null) => Some(self.initial()),
            (Self::Text { length }, Value::String(text)) => {
                if let Some(length) = length.filter(|length| text.chars().count() > *length) {
                    return Err(format!("it is longer than {length} characters"));
                }
                Some(value.clone())
            }
            (Self::Boolean, Value::Bool(_)) => Some(value.clone()),
            (Self::Int { bits }, _) => self.integer(bits, value, source),
            (Self::Decimal { precision, scale }, _) => {
                let number = decimal_of(value, source);
                if let Some(number) = number {
                    check_size(number, precision, scale)?;
                }
                number.map(Value::from)
            }
            (Self::Guid, _) => text.filter(|text| is_guid(text)).map(|text| Value::from(text.to_lowercase())),
            (Self::Date | Self::DateTime | Self::DateTimeOffset, Value::Time(time)) => {
                (!matches!(source, Source::V4 { .. })).then_some(Value::Time(*time))
            }
            (Self::Date, _) => text.and_then(|text| date(text, source)).map(Value::Time),
            (Self::DateTime, _) => text.and_then(|text| local(text).or_else(|| moment(text))).map(Value::Time),
            (Self::DateTimeOffset, _) => text.and_then(moment).map(Value::Time),
            (Self::Time, Value::Duration(time)) => Some(Value::Duration(*time)),
            (Self::Time, _) => text.and_then(|text| time_of_day(text, source)).map(Value::Duration),
            _ => None,
        };
        read.ok_or_else(|| match self {
            Self::Decimal { .. } if source == Source::V2 => "a decimal is a text such as `\"2.5\"`".to_owned(),
            Self::Decimal { .. } => "a decimal is a number".to_owned(),
            _ => format!("it is no {}", self.name(if source == Source::V2 { Version::V2 } else { Version::V4 })),
        })
    }

    fn integer(self, bits: u32, value: &Value, source: Source) -> Option<Value> {
        let number = match (value, source) {
            (Value::Int(number), _) => *number,
            (Value::String(text), Source::V2 | Source::Rows | Source::V4 { texts: true }) if bits == 64 => {
                text.parse().ok()?
            }
            _ => return None,
        };
        let limit = 1_i128 << (bits - 1);
        (-limit..limit).contains(&number).then_some(Value::Int(number))
    }

    /// Returns a value as it stands in JSON.
    pub(super) fn shown(self, value: &Value, version: Version, texts: bool) -> Value {
        match (self, value, version) {
            (Self::Decimal { .. } | Self::Int { bits: 64 }, Value::Int(_) | Value::Decimal(_), _)
                if version == Version::V2 || texts =>
            {
                Value::from(value.to_text())
            }
            (Self::Date | Self::DateTime, Value::Time(time), Version::V2) => {
                Value::from(format!("/Date({})/", time.micros().div_euclid(1000)))
            }
            (Self::DateTimeOffset, Value::Time(time), Version::V2) => {
                Value::from(format!("/Date({}+0000)/", time.micros().div_euclid(1000)))
            }
            (_, Value::Time(_) | Value::Duration(_), _) => Value::from(self.written(value, version)),
            _ => value.clone(),
        }
    }

    /// Returns a value as it stands in a URL, not encoded.
    pub(super) fn literal(self, value: &Value, version: Version) -> String {
        let text = self.written(value, version);
        match (self, version) {
            _ if value.is_null() => "null".to_owned(),
            (Self::Text { .. }, _) => format!("'{}'", text.replace('\'', "''")),
            (Self::Guid, Version::V2) => format!("guid'{text}'"),
            (Self::Date | Self::DateTime, Version::V2) => format!("datetime'{text}'"),
            (Self::DateTimeOffset, Version::V2) => format!("datetimeoffset'{text}'"),
            (Self::Time, Version::V2) => format!("time'{text}'"),
            (Self::Decimal { .. }, Version::V2) => format!("{text}M"),
            (Self::Int { bits: 64 }, Version::V2) => format!("{text}L"),
            _ => text,
        }
    }

    fn written(self, value: &Value, version: Version) -> String {
        match (value, self) {
            (Value::Time(time), Self::Date) if version == Version::V4 => time.to_jiff().strftime("%F").to_string(),
            (Value::Time(time), Self::Date | Self::DateTime) => time.to_jiff().strftime("%FT%T").to_string(),
            (Value::Time(time), _) => precise(*time),
            (Value::Duration(time), _) => {
                let seconds = time.micros() / 1_000_000;
                let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
                match version {
                    Version::V2 => format!("PT{hours:02}H{minutes:02}M{seconds:02}S"),
                    Version::V4 => format!("{hours:02}:{minutes:02}:{seconds:02}"),
                }
            }
            _ => value.to_text(),
        }
    }
}

/// Writes a moment with the seven digits that services keep, or none.
fn precise(time: Timestamp) -> String {
    let micros = time.micros().rem_euclid(1_000_000);
    let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}0") };
    format!("{}{fraction}Z", time.to_jiff().strftime("%FT%T"))
}

fn decimal_of(value: &Value, source: Source) -> Option<Decimal> {
    let plain = match (value, source) {
        (Value::String(text), Source::V2 | Source::Rows | Source::V4 { texts: true }) => parse_number(text)?,
        (Value::Int(_) | Value::Decimal(_), Source::Rows | Source::V4 { .. }) => value.clone(),
        _ => return None,
    };
    match plain {
        Value::Decimal(number) => Some(number),
        Value::Int(number) => Decimal::try_from_i128_with_scale(number, 0).ok(),
        _ => None,
    }
}

fn check_size(number: Decimal, precision: u32, scale: u32) -> Result<(), String> {
    if number.normalize().scale() > scale {
        return Err(format!("it has more than {scale} decimals"));
    }
    let limit = 10_i128.checked_pow(precision - scale).unwrap_or(i128::MAX);
    let whole = number.trunc().mantissa().abs();
    if whole >= limit { Err(format!("it has more than {precision} digits")) } else { Ok(()) }
}

pub(super) fn is_guid(text: &str) -> bool {
    let lengths: Vec<_> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// Reads a moment with its zone.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(Timestamp::from_jiff)
}

/// Reads a moment without a zone as one of UTC.
pub(super) fn local(text: &str) -> Option<Timestamp> {
    if !text.contains('T') || text.ends_with('Z') {
        return None;
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(civil).ok().map(Timestamp::from_jiff)
}

/// Reads a day, `2026-11-02`.
pub(super) fn day(text: &str) -> Option<Timestamp> {
    (text.len() == 10).then(|| local(&format!("{text}T00:00:00"))).flatten()
}

fn date(text: &str, source: Source) -> Option<Timestamp> {
    match source {
        Source::V4 { .. } => day(text),
        Source::V2 => local(text),
        Source::Rows => day(text).or_else(|| local(text)).or_else(|| moment(text)),
    }
}

fn time_of_day(text: &str, source: Source) -> Option<Duration> {
    match source {
        Source::V2 => span(text),
        Source::V4 { .. } => clock(text),
        Source::Rows => span(text).or_else(|| clock(text)),
    }
}

/// Reads `PT09H15M30S`.
pub(super) fn span(text: &str) -> Option<Duration> {
    let length = text.strip_prefix("PT").and_then(|_| text.parse::<jiff::SignedDuration>().ok())?;
    u64::try_from(length.as_micros()).ok().map(Duration::from_micros)
}

/// Reads `09:15:30`.
pub(super) fn clock(text: &str) -> Option<Duration> {
    let time = text.parse::<jiff::civil::Time>().ok()?;
    let length = time.duration_since(jiff::civil::Time::midnight());
    u64::try_from(length.as_micros()).ok().map(Duration::from_micros)
}
