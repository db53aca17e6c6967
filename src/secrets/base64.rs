//! Base64 (RFC 4648): keys and sealed texts, and the forms in which a mask looks for secrets.

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes with the standard alphabet and padding.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let digit = usize::try_from(group >> (18 - 6 * index) & 63).unwrap_or(0);
            let filled = index <= chunk.len();
            text.push(if filled { char::from(STANDARD.get(digit).copied().unwrap_or(b'=')) } else { '=' });
        }
    }
    text
}

/// Decodes the standard alphabet with padding; nothing else.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let body = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in body.as_bytes().chunks(4) {
        let mut group = 0_u32;
        for digit in chunk {
            let value = STANDARD.iter().position(|known| known == digit)?;
            group = group << 6 | u32::try_from(value).ok()?;
        }
        let missing = 4 - chunk.len();
        group <<= 6 * missing;
        let decoded = group.to_be_bytes();
        let (_, decoded) = decoded.split_at(1);
        bytes.extend_from_slice(decoded.get(..3 - missing.min(2)).filter(|_| missing < 3)?);
    }
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard_hold() {
        let examples =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (open, encoded) in examples {
            assert_eq!(encode(open.as_bytes()), encoded);
            assert_eq!(decode(encoded).as_deref(), Some(open.as_bytes()));
        }
        for wrong in ["Z", "Zg=", "Zg", "Zh==", "Z===", "Zm9v!", "====", "Zm9v====", "Zg==Zg=="] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
