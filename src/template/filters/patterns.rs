//! Filters and tests over texts of outside systems: patterns, quoting, URLs.

use std::cell::RefCell;
use std::collections::HashMap;

use minijinja::Environment;
use minijinja::Error;
use regex_lite::Regex;
use regex_lite::RegexBuilder;

use super::super::MAX_TEXT;
use super::super::budget::plain_text as text;
use super::super::operators::MAX_LIST;
use super::super::operators::invalid;
use super::super::operators::too_long;
use super::call::Arguments;
use super::call::filter;
use super::call::making;
use super::kinds::test;
use super::list;
use super::member;
use super::percent;
use crate::model::Value;
use crate::text::EntityKind;
use crate::text::entities_of;
use crate::text::links;

/// The longest pattern, in bytes, and how large it may be when compiled.
const MAX_PATTERN: usize = 4_096;
const MAX_COMPILED: usize = 1 << 20;
/// How many compiled patterns a thread keeps.
const KEPT: usize = 256;

thread_local! {
    static PATTERNS: RefCell<HashMap<String, Regex>> = RefCell::default();
}

pub(super) fn register(environment: &mut Environment<'static>) {
    filter(environment, "regex_find", 2, |value, arguments| {
        let subject = text(&value)?;
        let group = arguments.count(1, "group")?.unwrap_or(0);
        let found = with_pattern(arguments, |pattern| {
            let found = pattern.captures(&subject)?.get(group)?;
            Some(found.as_str().to_owned())
        })?;
        Ok(found.map_or(Value::Null, Value::from))
    });
    filter(environment, "regex_count", 1, |value, arguments| {
        let subject = text(&value)?;
        let count = with_pattern(arguments, |pattern| pattern.find_iter(&subject).count())?;
        Ok(Value::Int(i128::try_from(count).unwrap_or(i128::MAX)))
    });
    filter(environment, "regex_replace", 2, |value, arguments| {
        let subject = text(&value)?;
        let to = arguments.text(1, "to")?.unwrap_or_default();
        let replaced = with_pattern(arguments, |pattern| {
            let growth =
                pattern.find_iter(&subject).count().saturating_mul(to.len().saturating_mul(4) + subject.len() / 8);
            (growth <= MAX_TEXT).then(|| pattern.replace_all(&subject, to.as_str()).into_owned())
        })?;
        replaced.filter(|text| text.len() <= MAX_TEXT).map(Value::from).ok_or_else(too_long)
    });
    test(environment, "matching", 1, |_, value, others| {
        let (Some(subject), Some(pattern)) = (value.as_str(), others.first().and_then(Value::as_str)) else {
            return Ok(false);
        };
        matched(pattern, |pattern| pattern.is_match(subject))
    });
    test(environment, "has_url", 0, |_, value, _| Ok(value.as_str().is_some_and(|text| !links(text).is_empty())));
    let kinds = [
        ("links", EntityKind::Link),
        ("mentions", EntityKind::Mention),
        ("hashtags", EntityKind::Hashtag),
        ("cashtags", EntityKind::Cashtag),
    ];
    for (name, kind) in kinds {
        making(environment, name, 0, 1, move |value, arguments| {
            let text = text(&value)?;
            // Each character is looked at a few times.
            arguments.afford(text.len() / 16)?;
            let found = entities_of(&text, kind);
            arguments.afford(found.len())?;
            let names = found.iter().map(|entity| Value::from(entity.name(&text)));
            Ok(Value::list(names.take(MAX_LIST).collect()))
        });
    }
    filter(environment, "name", 0, |value, _| {
        let name = text(&value)?;
        let good = name.chars().next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.'));
        if good { Ok(Value::from(name)) } else { Err(invalid(format!("`{}` is no plain name", name.escape_debug()))) }
    });
    filter(environment, "quoted", 1, |value, arguments| {
        let style = arguments.text(0, "style")?.unwrap_or_else(|| "odata".to_owned());
        quoted(&value, &style).map(Value::from)
    });
    filter(environment, "last_line", 0, |value, _| {
        let text = text(&value)?;
        let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
        Ok(Value::from(last.unwrap_or_default()))
    });
    filter(environment, "unescape_html", 0, |value, _| Ok(Value::from(unescaped(&text(&value)?))));
    filter(environment, "replace_each", 3, |value, arguments| {
        let mut subject = text(&value)?;
        let items = match arguments.get(0, "items")? {
            None | Some(Value::Null) => return Ok(Value::from(subject)),
            Some(items) => list(items)?,
        };
        let from = arguments.text(1, "from")?.ok_or_else(|| invalid("`replace_each` takes two names of members"))?;
        let to = arguments.text(2, "to")?.ok_or_else(|| invalid("`replace_each` takes two names of members"))?;
        for item in items.iter() {
            let (part, by) = (member(item, &from), member(item, &to));
            let (Value::String(part), Value::String(by)) = (part, by) else { continue };
            arguments.afford(1 + subject.len() / 64)?;
            if part.is_empty() || subject.len().saturating_add(subject.matches(&*part).count() * by.len()) > MAX_TEXT {
                continue;
            }
            subject = subject.replace(&*part, &by);
        }
        Ok(Value::from(subject))
    });
    filter(environment, "path", 0, |value, _| Ok(Value::from(percent(&text(&value)?, true))));
    filter(environment, "safe", 0, |value, _| text(&value).map(Value::from));
}

/// Puts a backslash before letters, but not within what a pattern keeps.
pub(super) fn escape_letters(subject: &str, letters: &str, arguments: &Arguments) -> Result<Value, Error> {
    let escaped = |part: &str, out: &mut String| {
        for letter in part.chars() {
            if letters.contains(letter) {
                out.push('\\');
            }
            out.push(letter);
        }
    };
    let mut out = String::with_capacity(subject.len());
    let Some(keep) = arguments.text(1, "keep")? else {
        escaped(subject, &mut out);
        return Ok(Value::from(out));
    };
    matched(&keep, |pattern| {
        let mut end = 0;
        for kept in pattern.find_iter(subject) {
            escaped(subject.get(end..kept.start()).unwrap_or_default(), &mut out);
            out.push_str(kept.as_str());
            end = kept.end();
        }
        escaped(subject.get(end..).unwrap_or_default(), &mut out);
    })?;
    Ok(Value::from(out))
}

fn with_pattern<T>(arguments: &Arguments, apply: impl FnOnce(&Regex) -> T) -> Result<T, Error> {
    let pattern = arguments.text(0, "pattern")?.ok_or_else(|| invalid("a pattern is missing"))?;
    matched(&pattern, apply)
}

/// Applies a pattern, compiled once a thread.
fn matched<T>(pattern: &str, apply: impl FnOnce(&Regex) -> T) -> Result<T, Error> {
    if pattern.len() > MAX_PATTERN {
        return Err(invalid(format!("a pattern of more than {MAX_PATTERN} bytes")));
    }
    PATTERNS.with_borrow_mut(|known| {
        if !known.contains_key(pattern) {
            let compiled = RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build();
            let compiled = compiled.map_err(|error| invalid(format!("the pattern is not valid: {error}")))?;
            if known.len() >= KEPT {
                known.clear();
            }
            known.insert(pattern.to_owned(), compiled);
        }
        let compiled = known.get(pattern).ok_or_else(|| invalid("a pattern was lost"))?;
        Ok(apply(compiled))
    })
}

/// Writes a literal of a query language: texts in single quotes, numbers and truth values plain.
fn quoted(value: &Value, style: &str) -> Result<String, Error> {
    let inner = text(value)?;
    match value {
        Value::Null => return Ok("null".to_owned()),
        Value::Int(_) | Value::Decimal(_) | Value::Number(_) | Value::Bool(_) => return Ok(inner),
        Value::List(_) | Value::Map(_) => {
            return Err(invalid(format!("{} cannot be quoted", value.kind().name())));
        }
        _ => {}
    }
    match style {
        // OData and SQL double the quote.
        "odata" | "sql" => Ok(format!("'{}'", inner.replace('\'', "''"))),
        "soql" => Ok(format!("'{}'", inner.replace('\\', "\\\\").replace('\'', "\\'"))),
        "double" => Ok(format!("\"{}\"", inner.replace('\\', "\\\\").replace('"', "\\\""))),
        other => Err(invalid(format!("there is no style `{other}`; known are `odata`, `sql`, `soql` and `double`"))),
    }
}

/// Writes the letters that HTML's escapes stand for: the five named ones, and numbers.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(rest.get(..at).unwrap_or_default());
        let behind = rest.get(at..).unwrap_or_default();
        let name = behind.get(1..).and_then(|behind| behind.get(..behind.find(';').filter(|end| *end < 10)?));
        let letter = name.and_then(|name| match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            "nbsp" => Some('\u{a0}'),
            number => {
                let number = number.strip_prefix('#')?;
                let code = match number.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => number.parse().ok()?,
                };
                char::from_u32(code)
            }
        });
        match (letter, name) {
            (Some(letter), Some(name)) => {
                out.push(letter);
                rest = behind.get(name.len() + 2..).unwrap_or_default();
            }
            _ => {
                out.push('&');
                rest = behind.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}
