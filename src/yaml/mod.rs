//! YAML text to a tree in which every key and value knows its place, and from there to typed values.

mod decode;
mod parse;

use std::ops::Range;
use std::sync::Arc;

pub use self::decode::Spanned;
pub use self::decode::decode;
pub use self::parse::MAX_DEPTH;
pub use self::parse::MAX_FILE;
pub use self::parse::parse;
pub use self::parse::parse_bytes;
use crate::diag::Position;
use crate::diag::Span;
use crate::model::Map;
use crate::model::Value;
use crate::model::parse_number;

/// A node of a YAML document. Scalars stay text: who asks for a type decides how to read it.
#[derive(Clone, Debug)]
pub struct Tree {
    pub span: Span,
    pub kind: TreeKind,
}

#[derive(Clone, Debug)]
pub enum TreeKind {
    Scalar { text: Arc<str>, style: Style },
    Sequence(Vec<Tree>),
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: Arc<str>,
    pub key_span: Span,
    pub value: Tree,
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    Quoted,
    /// `|`
    Literal,
    /// `>`
    Folded,
}

impl Tree {
    /// Returns the entry of a mapping.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| &*entry.key == key)
    }

    /// Returns the value of a mapping's key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Returns the entries of a mapping; none for anything else.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.kind {
            TreeKind::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// Returns the items of a sequence; none for anything else.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match &self.kind {
            TreeKind::Sequence(items) => items,
            _ => &[],
        }
    }

    /// Returns the text of a scalar.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            TreeKind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Tells whether it is null: nothing, `~` or `null`, not quoted.
    #[must_use]
    pub fn is_null(&self) -> bool {
        match &self.kind {
            TreeKind::Scalar { text, style: Style::Plain } => matches!(&**text, "" | "~" | "null" | "Null" | "NULL"),
            _ => false,
        }
    }

    /// Returns what it is, for messages: the text of a short scalar, else its kind.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.kind {
            TreeKind::Scalar { .. } if self.is_null() => "nothing".to_owned(),
            TreeKind::Scalar { text, .. } => {
                let short: String = text.chars().take(40).collect();
                if short.len() < text.len() { format!("`{short}…`") } else { format!("`{short}`") }
            }
            TreeKind::Sequence(_) => "a list".to_owned(),
            TreeKind::Mapping(_) => "a mapping".to_owned(),
        }
    }

    /// Returns the value by the YAML 1.2 core schema, numbers exact. `.inf` and `.nan` stay text: a binary float exists
    /// only where an expression asks for one.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match &self.kind {
            TreeKind::Scalar { text, style: Style::Plain } => plain_value(text),
            TreeKind::Scalar { text, .. } => Value::String(text.clone()),
            TreeKind::Sequence(items) => Value::list(items.iter().map(Self::to_value).collect()),
            TreeKind::Mapping(entries) => {
                let entries = entries.iter().map(|entry| (entry.key.clone(), entry.value.to_value()));
                Value::from(entries.collect::<Map>())
            }
        }
    }

    /// Returns the place of a byte range of a scalar's text: exact for plain and simply quoted scalars, the line for
    /// literal blocks, the whole scalar otherwise. `source` is the file's text.
    #[must_use]
    pub fn span_within(&self, source: &str, range: Range<usize>) -> Span {
        let TreeKind::Scalar { text, style } = &self.kind else { return self.span.clone() };
        // Who counts bytes may end within a letter.
        let range = text.floor_char_boundary(range.start)..text.ceil_char_boundary(range.end);
        let Some(raw) = source.get(self.span.start.offset..self.span.end.offset) else { return self.span.clone() };
        let exact = match style {
            Style::Plain if raw == &**text => Some((0, range)),
            Style::Quoted => {
                let inner = raw.get(1..raw.len().saturating_sub(1)).filter(|inner| *inner == &**text);
                inner.map(|_| (1, range))
            }
            Style::Literal => return self.line_within(source, raw, text, range),
            _ => None,
        };
        let Some((skip, range)) = exact else { return self.span.clone() };
        let start = self.span.start.offset + skip + range.start;
        let end = self.span.start.offset + skip + range.end.max(range.start);
        Span {
            file: self.span.file.clone(),
            start: position(source, &self.span.start, start),
            end: position(source, &self.span.start, end),
        }
    }

    /// Finds the text of a literal block line by line: each line stands in the source behind some indentation.
    fn line_within(&self, source: &str, raw: &str, text: &str, range: Range<usize>) -> Span {
        let head = raw.find('\n').map_or(raw.len(), |at| at + 1);
        let mut source_offset = self.span.start.offset + if raw.starts_with('|') { head } else { 0 };
        let mut text_offset = 0;
        for line in text.split_inclusive('\n') {
            let Some(rest) = source.get(source_offset..) else { break };
            let source_line = rest.split_inclusive('\n').next().unwrap_or("");
            let bare = line.trim_end_matches('\n');
            let indent = source_line.find(bare).filter(|_| !bare.is_empty()).unwrap_or(0);
            if range.start < text_offset + line.len() {
                let start = source_offset + indent + (range.start - text_offset);
                let end = source_offset
                    + indent
                    + range.end.saturating_sub(text_offset).min(bare.len()).max(range.start - text_offset);
                return Span {
                    file: self.span.file.clone(),
                    start: position(source, &self.span.start, start),
                    end: position(source, &self.span.start, end),
                };
            }
            source_offset += source_line.len();
            text_offset += line.len();
        }
        self.span.clone()
    }
}

/// Returns line and column of a byte offset, counted on from a known place before it.
fn position(source: &str, from: &Position, offset: usize) -> Position {
    let Some(between) = source.get(from.offset..offset) else { return *from };
    let mut position = Position { offset, ..*from };
    for letter in between.chars() {
        if letter == '\n' {
            position.line += 1;
            position.column = 1;
        } else {
            position.column += 1;
        }
    }
    position
}

fn plain_value(text: &Arc<str>) -> Value {
    match &**text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if let Some(number) = parse_number(unsigned) {
        return number;
    }
    let radix = |prefix: &str, radix: u32| i128::from_str_radix(text.strip_prefix(prefix)?, radix).ok();
    if let Some(integer) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Value::Int(integer);
    }
    // YAML allows `007`, `.5` and `5.` where JSON does not.
    yaml_number(unsigned).unwrap_or_else(|| Value::String(text.clone()))
}

fn yaml_number(text: &str) -> Option<Value> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    // `e1` is a text, `.5` a number.
    let mut letters = digits.bytes();
    let first = letters.next();
    let fraction = first == Some(b'.') && letters.next().is_some_and(|byte| byte.is_ascii_digit());
    if !fraction && !first.is_some_and(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let trimmed = digits.trim_start_matches('0');
    let whole = if trimmed.starts_with(|letter: char| letter.is_ascii_digit()) { "" } else { "0" };
    let text = format!("{sign}{whole}{trimmed}");
    parse_number(&text).or_else(|| parse_number(text.strip_suffix('.')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Tree {
        let (tree, diagnostics) = parse(&"t.yaml".into(), text);
        assert_eq!(diagnostics, []);
        tree.unwrap()
    }

    #[test]
    fn scalars_are_read_by_the_core_schema_and_exactly() {
        let cases = [
            ("1234567890123456789", "1234567890123456789"),
            ("12345678901234567890.123456789", "12345678901234567890.123456789"),
            ("1.10", "1.10"),
            ("0x1F", "31"),
            ("007", "7"),
            (".5", "0.5"),
            ("-.5", "-0.5"),
            ("+3", "3"),
            ("'5'", "\"5\""),
            ("~", "null"),
            ("yes", "\"yes\""),
            ("1.2.3", "\"1.2.3\""),
            (".inf", "\".inf\""),
            ("-", "[null]"),
            ("1e3", "1000"),
            ("e1", "\"e1\""),
            ("-e1", "\"-e1\""),
            (".e1", "\".e1\""),
            ("5.", "5"),
        ];
        for (yaml, json) in cases {
            assert_eq!(tree(yaml).to_value().to_string(), json, "{yaml}");
        }
    }

    #[test]
    fn a_place_within_a_scalar_is_found() {
        let source = "a: plain text\nb: \"quoted text\"\nc: |\n  first\n  second text\n";
        let tree = tree(source);
        let check = |key: &str, range: Range<usize>, line: u32, column: u32| {
            let span = tree.get(key).unwrap().span_within(source, range);
            assert_eq!((span.start.line, span.start.column), (line, column), "{key}");
        };
        check("a", 6..10, 1, 10);
        check("b", 7..11, 2, 12);
        check("c", 13..17, 5, 10);
    }
}
