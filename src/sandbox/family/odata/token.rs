//! Words and literals of `$filter`, `$orderby` and keys.

use super::edm;
use super::edm::Kind;
use super::edm::Version;
use crate::model::Duration;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::parse_number;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Open,
    Close,
    Comma,
    Equals,
    Word(String),
    Literal(Literal),
}

/// A literal; which there are depends on the version.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Boolean(bool),
    Text(String),
    Number(Value),
    Guid(String),
    /// `2026-11-02`.
    Date(Timestamp),
    /// `datetime'2026-11-02T00:00:00'`.
    DateTime(Timestamp),
    Offset(Timestamp),
    Time(Duration),
}

impl Literal {
    /// Returns the value where the literal is one of this type.
    pub(super) fn value(&self, kind: Kind, version: Version) -> Option<Value> {
        Some(match (self, kind, version) {
            (Self::Null, ..) => Value::Null,
            (Self::Boolean(value), Kind::Boolean, _) => Value::from(*value),
            (Self::Text(text), Kind::Text { .. }, _) => Value::from(text.as_str()),
            (Self::Number(number), Kind::Int { .. } | Kind::Decimal { .. }, _) => number.clone(),
            (Self::Guid(text), Kind::Guid, _) => Value::from(text.as_str()),
            (Self::Date(time), Kind::Date, Version::V4)
            | (Self::DateTime(time), Kind::Date | Kind::DateTime, Version::V2)
            | (Self::Offset(time), Kind::DateTimeOffset, _) => Value::Time(*time),
            (Self::Time(time), Kind::Time, _) => Value::Duration(*time),
            _ => return None,
        })
    }
}

/// Splits a text into tokens.
pub(super) fn split(text: &str, version: Version) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let mark = match letter {
            '(' => Some(Token::Open),
            ')' => Some(Token::Close),
            ',' => Some(Token::Comma),
            '=' => Some(Token::Equals),
            _ => None,
        };
        if let Some(mark) = mark {
            tokens.push(mark);
            rest = rest.get(1..).unwrap_or_default();
        } else if letter.is_whitespace() {
            rest = rest.trim_start();
        } else {
            let ends = |letter: char| letter.is_whitespace() || matches!(letter, '(' | ')' | ',' | '=' | '\'');
            let (word, tail) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
            if let Some(quoted) = tail.strip_prefix('\'') {
                let (content, tail) = until_quote(quoted).ok_or("a text has no closing quote")?;
                tokens.push(Token::Literal(prefixed(word, &content, version)?));
                rest = tail;
            } else {
                tokens.push(plain(word, version));
                rest = tail;
            }
        }
    }
    Ok(tokens)
}

/// Reads a quoted text behind its first quote; a quote in it stands twice.
fn until_quote(text: &str) -> Option<(String, &str)> {
    let mut content = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('\'')?;
        content.push_str(before);
        match after.strip_prefix('\'') {
            Some(more) => {
                content.push('\'');
                rest = more;
            }
            None => return Some((content, after)),
        }
    }
}

fn prefixed(prefix: &str, content: &str, version: Version) -> Result<Literal, String> {
    let read = match (prefix, version) {
        ("", _) => Some(Literal::Text(content.to_owned())),
        ("datetime", Version::V2) => edm::local(content).map(Literal::DateTime),
        ("datetimeoffset", Version::V2) => edm::moment(content).map(Literal::Offset),
        ("guid", Version::V2) => edm::is_guid(content).then(|| Literal::Guid(content.to_lowercase())),
        ("time", Version::V2) => edm::span(content).map(Literal::Time),
        _ => return Err(format!("there is no literal {prefix}'…' in this version")),
    };
    read.ok_or_else(|| format!("{prefix}'{content}' is malformed"))
}

fn plain(word: &str, version: Version) -> Token {
    let literal = match word {
        "null" => Some(Literal::Null),
        "true" => Some(Literal::Boolean(true)),
        "false" => Some(Literal::Boolean(false)),
        _ => number(word, version).map(Literal::Number).or_else(|| bare(word, version)),
    };
    literal.map_or_else(|| Token::Word(word.to_owned()), Token::Literal)
}

fn number(word: &str, version: Version) -> Option<Value> {
    let suffixes: &[char] = if version == Version::V2 { &['m', 'M', 'l', 'L', 'd', 'D', 'f', 'F'] } else { &[] };
    parse_number(word.strip_suffix(suffixes).unwrap_or(word))
}

/// Reads what V4 writes without quotes.
fn bare(word: &str, version: Version) -> Option<Literal> {
    if version == Version::V2 || !word.starts_with(|letter: char| letter.is_ascii_hexdigit()) {
        return None;
    }
    if edm::is_guid(word) {
        return Some(Literal::Guid(word.to_lowercase()));
    }
    let day = edm::day(word).map(Literal::Date);
    let time = || edm::clock(word).filter(|_| word.get(2..3) == Some(":")).map(Literal::Time);
    day.or_else(|| edm::moment(word).map(Literal::Offset)).or_else(time)
}
