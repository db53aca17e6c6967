//! Multipart bodies: forms with files (RFC 7578), and the frame of any other `multipart/*` (RFC 2046).

use super::MediaType;
use super::Payload;
use super::media::parameter_value;

/// A part of a form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub filename: Option<String>,
    pub content_type: Option<String>,
    pub bytes: Vec<u8>,
}

/// One entity of a multipart body: its headers (names in lower case) and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity<'b> {
    pub headers: Vec<(String, String)>,
    pub content: &'b [u8],
}

impl Entity<'_> {
    /// Returns the first header with this name, which is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// Returns a boundary of 70 letters at most from what chance gave.
#[must_use]
pub fn boundary(chance: u128) -> String {
    format!("part-{chance:032x}")
}

/// Writes a `multipart/form-data` body. A boundary that occurs within a part is refused.
pub fn encode(parts: &[Part], boundary: &str) -> Result<Payload, String> {
    check_boundary(boundary)?;
    let mark = format!("--{boundary}");
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.bytes.len() + 200).sum());
    for part in parts {
        if find(&part.bytes, mark.as_bytes()).is_some() {
            return Err(format!("the boundary occurs in the part `{}`", part.name));
        }
        let mut head = format!("{mark}\r\nContent-Disposition: form-data; name=\"{}\"", quoted(&part.name));
        if let Some(filename) = &part.filename {
            head.push_str(&format!("; filename=\"{}\"", quoted(filename)));
        }
        if let Some(content_type) = &part.content_type {
            if content_type.contains(['\r', '\n']) {
                return Err(format!("the content type of the part `{}` has more than one line", part.name));
            }
            head.push_str(&format!("\r\nContent-Type: {content_type}"));
        }
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes.extend_from_slice(&part.bytes);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("{mark}--\r\n").as_bytes());
    Ok(Payload::new(&format!("multipart/form-data; boundary={boundary}"), bytes))
}

/// Reads a `multipart/form-data` body.
pub fn decode(content_type: &str, bytes: &[u8]) -> Result<Vec<Part>, String> {
    let entities = split(content_type, bytes)?;
    entities.iter().map(part).collect()
}

fn part(entity: &Entity<'_>) -> Result<Part, String> {
    let disposition = entity.header("content-disposition").unwrap_or_default();
    let (kind, mut rest) = disposition.split_once(';').unwrap_or((disposition, ""));
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return Err("a part has no `Content-Disposition: form-data`".to_owned());
    }
    let mut part = Part { content_type: entity.header("content-type").map(str::to_owned), ..Part::default() };
    let mut named = false;
    while let Some((name, tail)) = rest.split_once('=') {
        // Not by the rule of quoted-string: browsers write `%22` for a quote and never a backslash.
        let (value, tail) = match tail.trim_start().strip_prefix('"').and_then(|quoted| quoted.split_once('"')) {
            Some((value, tail)) => (unquoted(value), tail.split_once(';').map_or("", |(_, tail)| tail)),
            None => parameter_value(tail),
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "name" => {
                part.name = value;
                named = true;
            }
            "filename" => part.filename = Some(value),
            _ => {}
        }
        rest = tail;
    }
    if !named {
        return Err("a part has no name".to_owned());
    }
    part.bytes = entity.content.to_vec();
    Ok(part)
}

/// Splits a multipart body into its entities, by the boundary that the content type names.
pub fn split<'b>(content_type: &str, bytes: &'b [u8]) -> Result<Vec<Entity<'b>>, String> {
    let media = MediaType::parse(content_type);
    let boundary = media.parameter("boundary").ok_or("the content type of a multipart body names no boundary")?;
    check_boundary(boundary)?;
    let mark = format!("--{boundary}");
    let mut entities = Vec::new();
    let mut rest = after_mark(bytes, &mark).ok_or("the multipart body does not begin with its boundary")?;
    loop {
        if rest.starts_with(b"--") {
            return Ok(entities);
        }
        rest = after_line(rest).ok_or("the multipart body ends within a boundary")?;
        let (content, next) = until_mark(rest, &mark).ok_or("the multipart body ends within a part")?;
        entities.push(entity(content)?);
        rest = next;
    }
}

/// Splits headers from what follows the empty line.
pub fn entity(bytes: &[u8]) -> Result<Entity<'_>, String> {
    let mut headers: Vec<(String, String)> = Vec::new();
    let mut rest = bytes;
    loop {
        let Some(at) = find(rest, b"\n") else {
            // Headers that end with the part: there is no content.
            return match rest {
                [] | b"\r" => Ok(Entity { headers, content: &[] }),
                _ => Err("a part ends within its headers".to_owned()),
            };
        };
        let (line, tail) = (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default());
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Ok(Entity { headers, content: tail });
        }
        let line = std::str::from_utf8(line).map_err(|_| "a header of a part is not UTF-8".to_owned())?;
        match headers.last_mut() {
            // A folded line goes on with the header above it.
            Some((_, value)) if line.starts_with([' ', '\t']) => {
                value.push(' ');
                value.push_str(line.trim());
            }
            _ => {
                let (name, value) = line.split_once(':').ok_or("a header of a part has no colon")?;
                headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        rest = tail;
    }
}

fn check_boundary(boundary: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    if boundary.is_empty() || boundary.len() > 70 || !boundary.bytes().all(fits) {
        return Err("a boundary has 1 to 70 letters, digits or signs of `'()+_,-./:=?`".to_owned());
    }
    Ok(())
}

/// Returns what follows the first boundary; a preamble before it is passed over.
fn after_mark<'b>(bytes: &'b [u8], mark: &str) -> Option<&'b [u8]> {
    if let Some(rest) = bytes.strip_prefix(mark.as_bytes()) {
        return Some(rest);
    }
    until_mark(bytes, mark).map(|(_, rest)| rest)
}

/// Splits at the next line that begins with the boundary; the line end before it belongs to the boundary.
fn until_mark<'b>(bytes: &'b [u8], mark: &str) -> Option<(&'b [u8], &'b [u8])> {
    // A part may be empty, with the boundary in its first line.
    if let Some(rest) = bytes.strip_prefix(mark.as_bytes()) {
        return Some((&[], rest));
    }
    let line = format!("\n{mark}");
    let mut from = 0;
    loop {
        let at = from + find(bytes.get(from..)?, line.as_bytes())?;
        let rest = bytes.get(at + line.len()..)?;
        // A longer word that merely begins like the boundary is content.
        if matches!(rest.first(), None | Some(b'\r' | b'\n' | b' ' | b'\t' | b'-')) {
            let content = bytes.get(..at)?;
            return Some((content.strip_suffix(b"\r").unwrap_or(content), rest));
        }
        from = at + 1;
    }
}

fn after_line(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(find(bytes, b"\n")? + 1..)
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// Quotes a name as browsers do: a quote and line ends become percent escapes, the rest is UTF-8.
fn quoted(text: &str) -> String {
    text.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

fn unquoted(text: &str) -> String {
    text.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connector::body::samples;

    fn part(name: &str, filename: Option<&str>, content_type: Option<&str>, bytes: &[u8]) -> Part {
        Part {
            name: name.to_owned(),
            filename: filename.map(str::to_owned),
            content_type: content_type.map(str::to_owned),
            bytes: bytes.to_vec(),
        }
    }

    #[test]
    fn a_form_with_a_file_looks_like_a_browsers() {
        let parts = [
            part("payload_json", None, Some("application/json"), b"{}"),
            part("files[0]", Some("a \"b\"\r\nü.png"), Some("image/png"), b"\x89PNG"),
        ];
        let payload = encode(&parts, "X").unwrap();
        assert_eq!(payload.content_type.as_deref(), Some("multipart/form-data; boundary=X"));
        let expected = "--X\r\nContent-Disposition: form-data; name=\"payload_json\"\r\nContent-Type: application/json\r\n\r\n\
            {}\r\n--X\r\nContent-Disposition: form-data; name=\"files[0]\"; filename=\"a %22b%22%0D%0Aü.png\"\r\n\
            Content-Type: image/png\r\n\r\n";
        let expected = [expected.as_bytes(), b"\x89PNG\r\n--X--\r\n"].concat();
        assert_eq!(payload.bytes, expected);
    }

    #[test]
    fn a_boundary_within_a_part_is_refused() {
        let error = encode(&[part("a", None, None, b"..--X..")], "X").unwrap_err();
        assert_eq!(error, "the boundary occurs in the part `a`");
        assert!(encode(&[], "a b").is_err());
        assert!(encode(&[], &"x".repeat(71)).is_err());
        assert!(encode(&[part("a", None, Some("a/b\r\nX-Evil: 1"), b"")], "X").is_err());
        assert!(boundary(u128::MAX).len() <= 70);
    }

    #[test]
    fn preamble_bare_line_ends_and_folded_headers_are_read() {
        let bytes = b"preamble\n--b \nContent-Disposition: form-data;\n name=a; filename=f\n\n--bx\n\n--b--\nepilogue";
        let parts = decode("multipart/form-data; boundary=\"b\"", bytes).unwrap();
        assert_eq!(parts, [part("a", Some("f"), None, b"--bx\n")]);
    }

    #[test]
    fn what_is_broken_is_told() {
        let cases: [(&str, &[u8], &str); 6] = [
            ("multipart/mixed", b"", "the content type of a multipart body names no boundary"),
            ("a/b; boundary=x", b"hello", "the multipart body does not begin with its boundary"),
            ("a/b; boundary=x", b"--x\r\nA: b\r\n\r\nrest", "the multipart body ends within a part"),
            ("a/b; boundary=x", b"--x", "the multipart body ends within a boundary"),
            ("a/b; boundary=x", b"--x\r\nfoo\r\n\r\n--x--", "a header of a part has no colon"),
            ("a/b; boundary=x", b"--x\r\nA: b\r\n\r\n\r\n--x--", "a part has no `Content-Disposition: form-data`"),
        ];
        for (content_type, bytes, expected) in cases {
            assert_eq!(decode(content_type, bytes).unwrap_err(), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            drawn in proptest::collection::vec((".{0,9}", proptest::option::of(".{0,9}"), any::<Vec<u8>>()), 1..5)
        ) {
            // `%22` in a name cannot be told from a quote: that is how browsers write it.
            prop_assume!(drawn.iter().all(|(name, file, _)| !name.contains('%') && !file.iter().any(|f| f.contains('%'))));
            let parts: Vec<Part> = drawn.iter().map(|(name, file, bytes)| part(name, file.as_deref(), Some("a/b"), bytes)).collect();
            let payload = encode(&parts, &boundary(7)).unwrap();
            prop_assert_eq!(decode(&payload.content_type.unwrap(), &payload.bytes).unwrap(), parts);
        }

        #[test]
        fn damaged_bodies_never_panic(bytes in samples::mutated(
            b"--b\r\nContent-Disposition: form-data; name=\"a\"; filename=\"f\"\r\n\r\nx\r\n--b\r\n\r\n--b--".to_vec()
        )) {
            let _ = decode("multipart/form-data; boundary=b", &bytes);
        }
    }
}
