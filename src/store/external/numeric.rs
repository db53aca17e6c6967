//! PostgreSQL's NUMERIC on the wire: digits of base 10,000, to and from exact text.

/// Reads the binary form. NaN and infinities have no digits: they come as their names.
pub(super) fn from_bytes(bytes: &[u8]) -> Option<String> {
    let mut fields = bytes.chunks_exact(2).map(|pair| i16::from_be_bytes(pair.try_into().unwrap_or_default()));
    let count = usize::try_from(fields.next()?).ok()?;
    let weight = i32::from(fields.next()?);
    let sign = fields.next()?.cast_unsigned();
    let scale = usize::try_from(fields.next()?).ok()?;
    let digits: Vec<i16> = fields.collect();
    if digits.len() != count {
        return None;
    }
    let mut text = match sign {
        0x0000 => String::new(),
        0x4000 => "-".to_owned(),
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("Infinity".to_owned()),
        0xF000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    let digit =
        |position: i32| usize::try_from(position).ok().and_then(|index| digits.get(index)).copied().unwrap_or(0);
    if weight < 0 {
        text.push('0');
    }
    for position in 0..=weight {
        let digit = digit(position);
        text.push_str(&if position == 0 { digit.to_string() } else { format!("{digit:04}") });
    }
    if scale > 0 {
        let mut fraction = String::new();
        // Digit `i` stands for 10,000 to the power of `weight - i`; what is not there is zero.
        let mut position = weight + 1;
        while fraction.len() < scale {
            fraction.push_str(&format!("{:04}", digit(position)));
            position += 1;
        }
        fraction.truncate(scale);
        text.push('.');
        text.push_str(&fraction);
    }
    Some(text)
}

/// Writes the binary form of a plain number as JSON writes it (no exponent).
pub(super) fn to_bytes(text: &str) -> Option<Vec<u8>> {
    let (sign, unsigned) = text.strip_prefix('-').map_or((0_u16, text), |rest| (0x4000, rest));
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let is_number = !whole.is_empty() && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let groups = whole.len().div_ceil(4);
    let padded = format!("{whole:0>width$}", width = groups * 4);
    let tail = format!("{fraction:0<width$}", width = fraction.len().div_ceil(4) * 4);
    let mut digits: Vec<i16> = Vec::new();
    for group in padded.as_bytes().chunks(4).chain(tail.as_bytes().chunks(4)) {
        digits.push(std::str::from_utf8(group).ok()?.parse().ok()?);
    }
    let mut weight = i16::try_from(groups).ok()?.checked_sub(1)?;
    while digits.first() == Some(&0) {
        digits.remove(0);
        weight = weight.checked_sub(1)?;
    }
    while digits.last() == Some(&0) {
        digits.pop();
    }
    if digits.is_empty() {
        weight = 0;
    }
    let mut bytes = Vec::with_capacity(8 + digits.len() * 2);
    bytes.extend(i16::try_from(digits.len()).ok()?.to_be_bytes());
    bytes.extend(weight.to_be_bytes());
    bytes.extend((if digits.is_empty() { 0 } else { sign }).to_be_bytes());
    bytes.extend(i16::try_from(fraction.len()).ok()?.to_be_bytes());
    for digit in digits {
        bytes.extend(digit.to_be_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_survive_the_wire() {
        for text in [
            "0",
            "1",
            "-1",
            "10000",
            "9999",
            "100000000",
            "0.1",
            "0.00000001",
            "-0.0000123400",
            "12345678901234567890.123456789",
            "1.50",
            "10000.0001",
            "20000000000000000000000000000000000000000000000",
        ] {
            assert_eq!(from_bytes(&to_bytes(text).unwrap()).as_deref(), Some(text), "{text}");
        }
        for wrong in ["", "-", "1e5", "a", ".5", "1..2", "+1", "NaN"] {
            assert_eq!(to_bytes(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_number_survives_the_wire(whole in "(0|[1-9][0-9]{0,60})", zeros in "0{0,9}", fraction in "[0-9]{0,40}", minus: bool) {
            let fraction = format!("{zeros}{fraction}");
            let mut text = if fraction.is_empty() { whole } else { format!("{whole}.{fraction}") };
            if minus && text.bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
                text.insert(0, '-');
            }
            prop_assert_eq!(from_bytes(&to_bytes(&text).unwrap()), Some(text));
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = from_bytes(&bytes);
        }
    }
}
