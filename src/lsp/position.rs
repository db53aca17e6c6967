//! Places: bytes of a text, lines and columns of the protocol, paths and addresses of files.

use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;

use lsp_types::Position;
use lsp_types::PositionEncodingKind;
use lsp_types::Uri;

use crate::pipeline::plain;

/// How an editor counts columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    Utf16,
}

impl Encoding {
    /// Takes what an editor offers; without an offer it counts in UTF-16.
    pub(super) fn negotiated(offered: Option<&[PositionEncodingKind]>) -> Self {
        let utf8 = offered.is_some_and(|kinds| kinds.contains(&PositionEncodingKind::UTF8));
        if utf8 { Self::Utf8 } else { Self::Utf16 }
    }

    pub(super) fn kind(self) -> PositionEncodingKind {
        match self {
            Self::Utf8 => PositionEncodingKind::UTF8,
            Self::Utf16 => PositionEncodingKind::UTF16,
        }
    }

    fn width(self, letter: char) -> usize {
        match self {
            Self::Utf8 => letter.len_utf8(),
            Self::Utf16 => letter.len_utf16(),
        }
    }
}

/// Where the lines of a text begin.
#[derive(Debug)]
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
    encoding: Encoding,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str, encoding: Encoding) -> Self {
        let mut starts = vec![0];
        let bytes = text.as_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            // A carriage return alone ends a line, too.
            if *byte == b'\n' || *byte == b'\r' && bytes.get(at + 1) != Some(&b'\n') {
                starts.push(at + 1);
            }
        }
        Self { text, starts, encoding }
    }

    /// Returns the place of a byte.
    pub(super) fn position(&self, offset: usize) -> Position {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        let start = self.starts.get(line).copied().unwrap_or_default();
        let before = self.text.get(start..offset).unwrap_or_default();
        let column: usize = before.chars().map(|letter| self.encoding.width(letter)).sum();
        Position { line: number(line), character: number(column) }
    }

    pub(super) fn range(&self, range: &Range<usize>) -> lsp_types::Range {
        lsp_types::Range { start: self.position(range.start), end: self.position(range.end) }
    }

    /// Returns the byte at a place; what lies behind the end of a line or text is its end.
    pub(super) fn offset(&self, position: Position) -> usize {
        let line = usize::try_from(position.line).unwrap_or(usize::MAX);
        let Some(start) = self.starts.get(line).copied() else { return self.text.len() };
        let end = self.starts.get(line + 1).copied().unwrap_or(self.text.len());
        let mut left = usize::try_from(position.character).unwrap_or(usize::MAX);
        let mut offset = start;
        for letter in self.text.get(start..end).unwrap_or_default().chars() {
            let width = self.encoding.width(letter);
            if left < width || matches!(letter, '\n' | '\r') {
                break;
            }
            left -= width;
            offset += letter.len_utf8();
        }
        offset
    }
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Returns the path of a file's address; nothing for what is no file.
pub(super) fn path_of(uri: &Uri) -> Option<PathBuf> {
    let rest = uri.as_str().strip_prefix("file://")?;
    let path = rest.get(rest.find('/')?..)?;
    let path = decoded(path.split(['?', '#']).next().unwrap_or(path))?;
    // `/C:/x` is `C:/x`.
    let drive = path.as_bytes().get(2) == Some(&b':') && cfg!(windows);
    Some(plain(Path::new(if drive { path.trim_start_matches('/') } else { &path })))
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let value = digit(rest.next()?)? * 16 + digit(rest.next()?)?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// Returns the address of a file.
pub(super) fn uri_of(path: &Path) -> Option<Uri> {
    let mut text = "file://".to_owned();
    let path = path.to_str()?;
    if !path.starts_with('/') {
        text.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b'\\' if cfg!(windows) => text.push('/'),
            b'/' | b'-' | b'_' | b'.' | b'~' | b':' => text.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    Uri::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_go_there_and_back_in_both_encodings() {
        let text = "a: 1\r\nü: \"😀x\"\nend";
        for encoding in [Encoding::Utf8, Encoding::Utf16] {
            let lines = Lines::new(text, encoding);
            for (offset, letter) in text.char_indices() {
                if letter != '\n' && letter != '\r' {
                    assert_eq!(lines.offset(lines.position(offset)), offset, "{encoding:?} {offset}");
                }
            }
        }
        let at = |encoding, letter: char| Lines::new(text, encoding).position(text.find(letter).unwrap());
        assert_eq!(at(Encoding::Utf16, 'x'), Position { line: 1, character: 6 });
        assert_eq!(at(Encoding::Utf8, 'x'), Position { line: 1, character: 9 });
        let lines = Lines::new(text, Encoding::Utf16);
        // Within a letter, behind a line, behind the text.
        assert_eq!(lines.offset(Position { line: 1, character: 5 }), text.find('😀').unwrap());
        assert_eq!(lines.offset(Position { line: 0, character: 99 }), 4);
        assert_eq!(lines.offset(Position { line: 99, character: 0 }), text.len());
    }

    #[test]
    fn addresses_are_paths() {
        for path in ["/a b/ü.yaml", "/x/#1%.yaml"] {
            let uri = uri_of(Path::new(path)).unwrap();
            assert_eq!(path_of(&uri).unwrap(), Path::new(path), "{}", uri.as_str());
        }
        let uri = |text: &str| Uri::from_str(text).unwrap();
        assert_eq!(path_of(&uri("file:///a/../b%20c.yaml")).unwrap(), Path::new("/b c.yaml"));
        assert_eq!(path_of(&uri("untitled:Untitled-1")), None);
        assert_eq!(path_of(&uri("file:///%ff")), None);
    }
}
