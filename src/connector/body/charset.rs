//! Character sets of answers: UTF-8, UTF-16 and the Latin one.

use super::MediaType;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charset {
    Utf8,
    Utf16 {
        big: bool,
    },
    /// ISO 8859-1 as the web reads it: windows-1252.
    Latin1,
}

/// What windows-1252 has in place of the control characters 0x80 to 0x9f.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Returns the text of a body for people and for rules: what cannot be read is replaced by `�`.
#[must_use]
pub fn text_of(content_type: Option<&str>, bytes: &[u8]) -> String {
    let media = content_type.map(MediaType::parse);
    decode(media.as_ref(), bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned())
}

/// Returns the text of a body: a byte order mark counts, then the parameter `charset`, then UTF-8.
pub(super) fn decode(media: Option<&MediaType>, bytes: &[u8]) -> Result<String, String> {
    decode_as(named(media)?, bytes)
}

/// Returns the text of an XML document, whose declaration counts where the header names no charset.
pub(super) fn decode_xml(media: Option<&MediaType>, bytes: &[u8]) -> Result<String, String> {
    if media.is_some_and(|media| media.parameter("charset").is_some()) {
        return decode(media, bytes);
    }
    decode_as(declared(bytes).map(charset).transpose()?, bytes)
}

fn named(media: Option<&MediaType>) -> Result<Option<Charset>, String> {
    media.and_then(|media| media.parameter("charset")).map(charset).transpose()
}

fn charset(name: &str) -> Result<Charset, String> {
    match name.trim().to_ascii_lowercase().as_str() {
        "utf-8" | "utf8" | "us-ascii" | "ascii" => Ok(Charset::Utf8),
        // Without a mark the web reads UTF-16 as little-endian.
        "utf-16" | "utf-16le" => Ok(Charset::Utf16 { big: false }),
        "utf-16be" => Ok(Charset::Utf16 { big: true }),
        "iso-8859-1" | "iso8859-1" | "latin1" | "latin-1" | "l1" | "windows-1252" | "cp1252" => Ok(Charset::Latin1),
        other => Err(format!("the charset `{other}` is not known; known are utf-8, utf-16, iso-8859-1, windows-1252")),
    }
}

/// Returns the encoding that an XML declaration names; it is ASCII in all charsets but UTF-16, which has its mark.
fn declared(bytes: &[u8]) -> Option<&str> {
    let head = bytes.get(..bytes.len().min(200))?;
    let end = head.windows(2).position(|pair| pair == b"?>")?;
    let declaration = std::str::from_utf8(head.get(..end)?).ok()?.trim_start();
    let (_, rest) = declaration.strip_prefix("<?xml")?.split_once("encoding")?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|letter| matches!(letter, '"' | '\''))?;
    rest.get(1..)?.split_once(quote).map(|(name, _)| name)
}

fn decode_as(named: Option<Charset>, bytes: &[u8]) -> Result<String, String> {
    let (charset, bytes) = match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => (Charset::Utf8, rest),
        [0xff, 0xfe, rest @ ..] => (Charset::Utf16 { big: false }, rest),
        [0xfe, 0xff, rest @ ..] => (Charset::Utf16 { big: true }, rest),
        plain => (named.unwrap_or(Charset::Utf8), plain),
    };
    match charset {
        Charset::Utf8 => std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|error| format!("the body is not UTF-8 from byte {} on", error.valid_up_to())),
        Charset::Utf16 { big } => utf16(bytes, big),
        Charset::Latin1 => Ok(bytes.iter().map(|byte| latin(*byte)).collect()),
    }
}

fn utf16(bytes: &[u8], big: bool) -> Result<String, String> {
    let pairs = bytes.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err("the body is UTF-16 with half a character at its end".to_owned());
    }
    let units = pairs.map(|pair| match pair {
        [first, second] if big => u16::from_be_bytes([*first, *second]),
        [first, second] => u16::from_le_bytes([*first, *second]),
        _ => 0,
    });
    char::decode_utf16(units).collect::<Result<String, _>>().map_err(|_| "the body is not UTF-16".to_owned())
}

fn latin(byte: u8) -> char {
    let special = byte.checked_sub(0x80).and_then(|index| WINDOWS_1252.get(usize::from(index)));
    special.copied().unwrap_or(char::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content_type: &str, bytes: &[u8], expected: &str) {
        let media = MediaType::parse(content_type);
        assert_eq!(decode(Some(&media), bytes).unwrap(), expected, "{content_type}");
    }

    #[test]
    fn the_charset_is_followed_and_a_mark_before_it() {
        check("a/b", "ä€".as_bytes(), "ä€");
        check("a/b; charset=\"UTF-8\"", b"\xef\xbb\xbfa", "a");
        check("a/b; charset=ISO-8859-1", b"\xe4\x80\xff", "ä€ÿ");
        check("a/b; charset=utf-16le", b"a\0\xac\x20", "a€");
        check("a/b; charset=utf-16be", b"\0a\x20\xac", "a€");
        check("a/b; charset=latin1", b"\xff\xfea\0", "a");
        check("a/b", b"\xfe\xff\xd8\x3d\xde\x00", "😀");
    }

    #[test]
    fn what_is_no_text_is_told() {
        let error = |charset: &str, bytes: &[u8]| {
            decode(Some(&MediaType::parse(&format!("a/b; charset={charset}"))), bytes).unwrap_err()
        };
        assert_eq!(error("utf-8", b"ab\xff"), "the body is not UTF-8 from byte 2 on");
        assert_eq!(error("utf-16le", b"abc"), "the body is UTF-16 with half a character at its end");
        assert_eq!(error("utf-16le", b"\x00\xd8"), "the body is not UTF-16");
        assert!(error("koi8-r", b"").contains("`koi8-r` is not known"));
        assert_eq!(text_of(Some("a/b; charset=koi8-r"), b"ab\xff"), "ab\u{fffd}");
    }

    #[test]
    fn the_declaration_of_a_document_names_its_encoding() {
        for quote in ["\"", "'"] {
            let text = format!("<?xml version={quote}1.0{quote} encoding = {quote}windows-1252{quote}?><a>");
            let mut bytes = text.into_bytes();
            bytes.push(0x80);
            assert!(decode_xml(None, &bytes).unwrap().ends_with("<a>€"));
            assert!(decode_xml(Some(&MediaType::parse("text/xml; charset=utf-8")), &bytes).is_err());
        }
        assert!(decode_xml(None, b"<a encoding=\"latin1\">\xff").is_err());
    }
}
