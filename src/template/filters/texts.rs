//! Filters over texts.

use minijinja::Environment;
use minijinja::Error;
use ring::digest;
use ring::hmac;

use super::super::MAX_TEXT;
use super::super::budget::plain_text as text;
use super::super::operators::MAX_LIST;
use super::super::operators::invalid;
use super::super::operators::too_long;
use super::super::operators::too_many;
use super::call::filter;
use super::patterns::escape_letters;
use super::percent;
use crate::model;
use crate::model::Value;

pub(super) fn register(environment: &mut Environment<'static>) {
    filter(environment, "string", 0, |value, _| text(&value).map(Value::from));
    filter(environment, "tojson", 0, |value, _| {
        let mut json = String::new();
        model::write_json(&value, &mut json);
        if json.len() > MAX_TEXT {
            return Err(too_long());
        }
        Ok(Value::from(json))
    });
    filter(environment, "upper", 0, |value, _| Ok(Value::from(text(&value)?.to_uppercase())));
    filter(environment, "lower", 0, |value, _| Ok(Value::from(text(&value)?.to_lowercase())));
    filter(environment, "capitalize", 0, |value, _| {
        let text = text(&value)?;
        let mut letters = text.chars();
        let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
        Ok(Value::from(first + &letters.as_str().to_lowercase()))
    });
    filter(environment, "title", 0, |value, _| text(&value).map(|text| Value::from(title(&text))));
    filter(environment, "trim", 1, |value, arguments| {
        let text = text(&value)?;
        Ok(Value::from(match arguments.text(0, "letters")? {
            Some(letters) => text.trim_matches(|letter| letters.contains(letter)),
            None => text.trim(),
        }))
    });
    filter(environment, "escape", 2, |value, arguments| {
        if let Some(letters) = arguments.text(0, "letters")? {
            return escape_letters(&text(&value)?, &letters, arguments);
        }
        let mut out = String::new();
        for letter in text(&value)?.chars() {
            match letter {
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '&' => out.push_str("&amp;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&#x27;"),
                '/' => out.push_str("&#x2f;"),
                letter => out.push(letter),
            }
        }
        Ok(Value::from(out))
    });
    filter(environment, "lines", 0, |value, _| listed(text(&value)?.lines()));
    filter(environment, "split", 2, |value, arguments| {
        let text = text(&value)?;
        let most = arguments.count(1, "most")?.map(|most| most.saturating_add(1));
        match (arguments.text(0, "between")?, most) {
            (Some(between), Some(most)) => listed(text.splitn(most, between.as_str())),
            (Some(between), None) => listed(text.split(between.as_str())),
            (None, Some(most)) => listed(words(&text, most).into_iter()),
            (None, None) => listed(text.split_whitespace()),
        }
    });
    // Of a secret text the values are secret; the names of members are structure, as the author of the secret made it.
    filter(environment, "from_json", 0, |value, arguments| {
        let json = text(&value)?;
        // Each value begins behind one of these, and is many times as large as its text.
        let values = json.bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
        arguments.afford(2 * values)?;
        model::parse_json(&json).map_err(|error| invalid(format!("not JSON: {error}")))
    });
    filter(environment, "replace", 2, |value, arguments| {
        let from = arguments.text(0, "")?.ok_or_else(|| invalid("`replace` takes what to replace"))?;
        let to = arguments.text(1, "")?.unwrap_or_default();
        let subject = text(&value)?;
        let count = if from.is_empty() { subject.len() + 1 } else { subject.matches(&*from).count() };
        if subject.len().saturating_add(count.saturating_mul(to.len())) > MAX_TEXT {
            return Err(too_long());
        }
        Ok(Value::from(subject.replace(&*from, &to)))
    });
    filter(environment, "truncate", 2, |value, arguments| {
        let length = arguments.count(0, "length")?.unwrap_or(255);
        let end = arguments.text(1, "end")?.unwrap_or_else(|| "…".to_owned());
        let subject = text(&value)?;
        if subject.chars().count() <= length {
            return Ok(Value::from(subject));
        }
        let kept: String = subject.chars().take(length.saturating_sub(end.chars().count())).collect();
        Ok(Value::from(format!("{kept}{end}")))
    });
    filter(environment, "indent", 3, |value, arguments| {
        let width = arguments.count(0, "width")?.unwrap_or(4);
        if width > 256 {
            return Err(invalid(format!("an indentation of {width}, more than 256")));
        }
        let first = arguments.flag(1, "first")?;
        let blank = arguments.flag(2, "blank")?;
        let subject = text(&value)?;
        if subject.len().saturating_add(subject.lines().count().saturating_mul(width)) > MAX_TEXT {
            return Err(too_long());
        }
        let pad = " ".repeat(width);
        let mut out = String::new();
        for (index, line) in subject.split('\n').enumerate() {
            if index > 0 {
                out.push('\n');
            }
            if (index > 0 || first) && (blank || !line.is_empty()) {
                out.push_str(&pad);
            }
            out.push_str(line);
        }
        Ok(Value::from(out))
    });
    filter(environment, "urlencode", 0, |value, _| Ok(Value::from(percent(&text(&value)?, false))));
    filter(environment, "base64", 0, |value, _| Ok(Value::from(base64(text(&value)?.as_bytes()))));
    filter(environment, "sha256", 0, |value, _| {
        Ok(Value::from(hex(digest::digest(&digest::SHA256, text(&value)?.as_bytes()).as_ref())))
    });
    filter(environment, "hmac_sha256", 1, |value, arguments| {
        let key = arguments.text(0, "key")?.ok_or_else(|| invalid("`hmac_sha256` takes a key"))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        Ok(Value::from(hex(hmac::sign(&key, text(&value)?.as_bytes()).as_ref())))
    });
}

/// Makes a list of texts.
fn listed<'t>(parts: impl Iterator<Item = &'t str>) -> Result<Value, Error> {
    let parts: Vec<_> = parts.take(MAX_LIST + 1).map(Value::from).collect();
    if parts.len() > MAX_LIST { Err(too_many()) } else { Ok(Value::list(parts)) }
}

/// Splits at space into so many parts at most; the last keeps the rest.
fn words(text: &str, most: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        match rest.split_once(char::is_whitespace).filter(|_| parts.len() + 1 < most) {
            Some((word, behind)) => {
                parts.push(word);
                rest = behind.trim_start();
            }
            None => {
                parts.push(rest);
                break;
            }
        }
    }
    parts
}

/// Makes the first letter of each word large and the others small.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at_start = true;
    for letter in text.chars() {
        if letter.is_whitespace() || matches!(letter, '-' | '(' | '{' | '[' | '<') {
            out.push(letter);
            at_start = true;
        } else if std::mem::take(&mut at_start) {
            out.extend(letter.to_uppercase());
        } else {
            out.extend(letter.to_lowercase());
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Base64 of RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for part in bytes.chunks(3) {
        let number = part.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for place in 0..4 {
            let six = usize::try_from(number >> (18 - 6 * place) & 63).unwrap_or(0);
            let letter = if place > part.len() { b'=' } else { LETTERS.get(six).copied().unwrap_or(b'=') };
            out.push(char::from(letter));
        }
    }
    out
}
