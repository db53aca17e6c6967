//! Finds known secret values in texts.

use std::collections::HashSet;
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

use super::base64;
use crate::model::Value;

/// What is shown in place of a secret.
const SHOWN: &str = "***";
/// A shorter secret is not searched for, in characters.
const SHORTEST: usize = 4;
/// A shorter piece of base64 would be found in texts that have nothing to do with the secret.
const SHORTEST_PIECE: usize = 8;

/// Knows secret values and finds them: plain, base64 (of the secret alone or within a longer text), URL-encoded, as in
/// JSON and XML. Clones share what they know.
///
/// A secret shorter than four characters is not searched for: it would be found everywhere, and its masking would tell
/// more than it hides. Values that are known to be secret (`Value::Secret`) are masked all the same.
#[derive(Clone, Default)]
pub struct Mask(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    plain: HashSet<String>,
    forms: Vec<String>,
}

impl Mask {
    /// Learns a secret.
    pub fn learn(&self, secret: &str) {
        if secret.chars().count() < SHORTEST || self.read(|known| known.plain.contains(secret)) {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.plain.insert(secret.to_owned()) {
            for form in forms(secret) {
                if !known.forms.contains(&form) {
                    known.forms.push(form);
                }
            }
        }
    }

    /// Learns every secret in a value.
    pub fn learn_value(&self, value: &Value) {
        match value {
            Value::Secret(inner) => self.learn(&inner.to_text()),
            Value::List(items) => items.iter().for_each(|item| self.learn_value(item)),
            Value::Map(map) => map.values().for_each(|value| self.learn_value(value)),
            _ => {}
        }
    }

    /// Replaces every known secret by `***`.
    #[must_use]
    pub fn hide(&self, text: &str) -> String {
        self.replaced(text, text.len())
    }

    /// Replaces every known secret in the beginning of a text, which ends after `limit` bytes; one that the end goes
    /// through is replaced as well.
    #[must_use]
    pub fn hide_head(&self, text: &str, limit: usize) -> String {
        let mut end = limit.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.replaced(text, end)
    }

    fn replaced(&self, text: &str, end: usize) -> String {
        let mut shown = String::with_capacity(end);
        let mut from = 0;
        for range in self.find(text).into_iter().take_while(|range| range.start < end) {
            shown.push_str(text.get(from..range.start).unwrap_or_default());
            shown.push_str(SHOWN);
            from = range.end;
        }
        shown.push_str(text.get(from..end).unwrap_or_default());
        shown
    }

    /// Marks every scalar in a value that holds a known secret as secret. A key that holds one is masked, because a key
    /// cannot be secret.
    #[must_use]
    pub fn scan(&self, value: &Value) -> Value {
        if self.read(|known| known.forms.is_empty()) {
            return value.clone();
        }
        self.scan_inside(value)
    }

    fn scan_inside(&self, value: &Value) -> Value {
        match value {
            Value::String(text) if self.holds(text) => value.clone().tainted(),
            Value::Int(_) | Value::Decimal(_) | Value::Number(_) if self.is_known(&value.to_text()) => {
                value.clone().tainted()
            }
            Value::List(items) => Value::list(items.iter().map(|item| self.scan_inside(item)).collect()),
            Value::Map(map) => Value::map(map.iter().map(|(key, value)| {
                let key = if self.holds(key) { self.hide(key).into() } else { key.clone() };
                (key, self.scan_inside(value))
            })),
            other => other.clone(),
        }
    }

    fn is_known(&self, text: &str) -> bool {
        self.read(|known| known.plain.contains(text))
    }

    fn holds(&self, text: &str) -> bool {
        self.read(|known| known.forms.iter().any(|form| text.contains(form.as_str())))
    }

    /// Returns where the text holds secrets, in order, overlapping places joined.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = self.read(|known| {
            let places = |form: &String| {
                let length = form.len();
                text.match_indices(form.as_str()).map(move |(start, _)| start..start + length).collect::<Vec<_>>()
            };
            known.forms.iter().flat_map(places).collect()
        });
        found.sort_by_key(|range| range.start);
        let mut joined: Vec<Range<usize>> = Vec::with_capacity(found.len());
        for range in found {
            match joined.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        joined
    }

    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Mask of {} secrets", self.read(|known| known.plain.len()))
    }
}

/// Returns the texts in which a secret can hide.
fn forms(secret: &str) -> HashSet<String> {
    let mut forms = HashSet::from([secret.to_owned()]);
    let encoded = base64::encode(secret.as_bytes());
    forms.insert(encoded.trim_end_matches('=').to_owned());
    forms.insert(encoded);
    for before in 0..3 {
        let piece = piece(secret.as_bytes(), before);
        if piece.len() >= SHORTEST_PIECE {
            forms.insert(piece);
        }
    }
    // The plain text goes through the replacement, too: a form that nobody writes, and that does no harm.
    let url_safe: Vec<String> = forms.iter().map(|form| form.replace('+', "-").replace('/', "_")).collect();
    forms.extend(url_safe);
    for upper in [true, false] {
        for plus in [true, false] {
            forms.insert(url_encoded(secret, upper, plus));
        }
    }
    let escaped = |text: &str| {
        let mut json = String::new();
        crate::model::write_json(&Value::from(text), &mut json);
        json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(&json).to_owned()
    };
    // JSON that says in a text what it was sent as JSON escapes it twice, and some write nothing but ASCII.
    let once = escaped(secret);
    for json in [once.clone(), ascii(&once)] {
        forms.insert(escaped(&json));
        forms.insert(json);
    }
    let xml = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    for quote in ["\"", "&quot;", "&#34;"] {
        forms.extend(["'", "&apos;", "&#39;"].map(|apostrophe| xml.replace('"', quote).replace('\'', apostrophe)));
    }
    // Lines of a secret, a private key say, are shown one by one.
    forms.extend(secret.lines().filter(|line| line.chars().count() >= 16).map(str::to_owned));
    forms
}

/// Writes what is not ASCII as JSON's escapes.
fn ascii(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii() {
            written.push(letter);
            continue;
        }
        let mut units = [0; 2];
        for unit in letter.encode_utf16(&mut units) {
            write!(written, "\\u{unit:04x}").expect("writing into a string cannot fail");
        }
    }
    written
}

/// Returns the digits of base64 that depend on the secret alone when `before` bytes (modulo 3) stand before it, as in
/// `Basic` of user and password.
fn piece(secret: &[u8], before: usize) -> String {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(secret);
    let encoded = base64::encode(&bytes);
    let first = (before * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    encoded.get(first..last).unwrap_or_default().to_owned()
}

fn url_encoded(text: &str, upper: bool, plus: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let written = match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
                Ok(())
            }
            b' ' if plus => {
                encoded.push('+');
                Ok(())
            }
            byte if upper => write!(encoded, "%{byte:02X}"),
            byte => write!(encoded, "%{byte:02x}"),
        };
        written.expect("writing into a string cannot fail");
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask() -> Mask {
        let mask = Mask::default();
        mask.learn("hunter2/ \"ä?");
        mask.learn("abcd");
        mask
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        let secret = "hunter2/ \"ä?";
        let basic = base64::encode(format!("user:{secret}").as_bytes());
        let longer = base64::encode(format!("user1:{secret} and more").as_bytes());
        let standard = base64::encode(secret.as_bytes());
        let forms = [
            secret.to_owned(),
            standard.trim_end_matches('=').to_owned(),
            standard.replace('+', "-").replace('/', "_"),
            standard,
            "hunter2%2F%20%22%C3%A4%3F".to_owned(),
            "hunter2%2f+%22%c3%a4%3f".to_owned(),
            r#"hunter2/ \"ä?"#.to_owned(),
            r#"hunter2/ \\\"ä?"#.to_owned(),
            r#"hunter2/ \"\u00e4?"#.to_owned(),
            "hunter2/ &quot;ä?".to_owned(),
        ];
        for form in forms {
            assert_eq!(mask().hide(&format!("<{form}> {form}")), "<***> ***", "{form}");
        }
        for wrapped in [basic, longer] {
            assert!(mask().hide(&wrapped).contains("***"), "{wrapped}");
        }
    }

    #[test]
    fn overlapping_secrets_leave_nothing_over() {
        let mask = Mask::default();
        mask.learn("abcdef");
        mask.learn("defghi");
        mask.learn("cdef");
        assert_eq!(mask.hide("xabcdefghiy"), "x***y");
    }

    #[test]
    fn a_cut_leaves_no_piece_of_a_secret() {
        let text = "abcd is abcd";
        let cut: Vec<String> = (0..=text.len()).map(|limit| mask().hide_head(text, limit)).collect();
        assert_eq!(cut[..6], ["", "***", "***", "***", "***", "*** "]);
        assert_eq!(
            cut[8..],
            ["*** is ", "*** is ***", "*** is ***", "*** is ***", "*** is ***"].map(str::to_owned)[..]
        );
        assert_eq!(mask().hide_head("ä", 1), "");
    }

    #[test]
    fn what_is_too_short_is_not_searched_for() {
        let mask = Mask::default();
        mask.learn("abc");
        assert_eq!(mask.hide("abc"), "abc");
    }

    #[test]
    fn a_scan_taints_what_holds_a_secret_and_nothing_else() {
        let value =
            Value::map([("said", Value::list(vec!["it is abcd!".into(), "nothing".into()])), ("abcd", Value::from(1))]);
        let scanned = mask().scan(&value);
        assert_eq!(scanned.to_string(), r#"{"said":["***","nothing"],"***":1}"#);
        assert_eq!(scanned.get("said").unwrap().revealed().as_list().unwrap()[0], Value::from("it is abcd!"));
        let number = Mask::default();
        number.learn("123456");
        assert!(number.scan(&Value::from(123_456)).is_tainted());
    }

    #[test]
    fn secrets_of_a_value_are_learned() {
        let mask = Mask::default();
        mask.learn_value(&Value::map([("token", Value::from("s3cr3t").tainted()), ("open", Value::from("public"))]));
        assert_eq!(mask.hide("public s3cr3t"), "public ***");
    }
}
