//! How long a text is, as different systems count it.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::is_nfc;

use super::emoji;
use super::link::links;

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Count {
    /// Unicode code points.
    #[default]
    Chars,
    Utf16,
    Bytes,
    /// Weighted as twitter-text does since its third configuration: most scripts of Europe and punctuation 1, everything
    /// else 2, an emoji 2 however many code points it has, a link 23. The text is normalized first (NFC).
    Twitter,
}

impl Count {
    /// All of them by the name that manifests and templates use.
    pub const NAMES: [(&'static str, Self); 4] =
        [("chars", Self::Chars), ("utf16", Self::Utf16), ("bytes", Self::Bytes), ("twitter", Self::Twitter)];

    /// Finds one by its name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(own, _)| *own == name).map(|(_, count)| *count)
    }

    /// Names what is counted, for messages.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Chars => "characters",
            Self::Utf16 => "UTF-16 units",
            Self::Bytes => "bytes",
            Self::Twitter => "weighted characters",
        }
    }
}

/// What a link counts, however long it is.
const LINK: usize = 23;
/// What an emoji counts.
const EMOJI: usize = 2;
/// What is weighted 1; everything else is weighted 2.
const LIGHT: [(u32, u32); 4] = [(0, 4_351), (8_192, 8_205), (8_208, 8_223), (8_242, 8_247)];

/// Counts a text.
#[must_use]
pub fn count_text(text: &str, count: Count) -> usize {
    match count {
        Count::Chars => text.chars().count(),
        Count::Utf16 => text.encode_utf16().count(),
        Count::Bytes => text.len(),
        Count::Twitter if is_nfc(text) => weighted(text),
        Count::Twitter => weighted(&text.nfc().collect::<String>()),
    }
}

fn weighted(text: &str) -> usize {
    let mut length = 0;
    let mut end = 0;
    for link in links(text) {
        length += weight(text.get(end..link.start).unwrap_or_default()) + LINK;
        end = link.end;
    }
    length + weight(text.get(end..).unwrap_or_default())
}

/// Weighs a text without links.
fn weight(text: &str) -> usize {
    let mut length = 0;
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let emoji = emoji::at_start(rest);
        length += if emoji > 0 { EMOJI } else { weight_of(letter) };
        rest = rest.get(emoji.max(letter.len_utf8())..).unwrap_or_default();
    }
    length
}

fn weight_of(letter: char) -> usize {
    let code = u32::from(letter);
    if LIGHT.iter().any(|(first, last)| (*first..=*last).contains(&code)) { 1 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_counted_as_systems_do() {
        let cases = [
            ("hello", 5, 5, 5, 5),
            ("été", 3, 3, 5, 3),
            ("日本", 2, 2, 6, 4),
            ("👍", 1, 2, 4, 2),
            ("👩‍👩‍👧", 5, 8, 18, 2),
            ("👍🏽", 2, 4, 8, 2),
            ("🇩🇪", 2, 4, 8, 2),
            ("see https://example.com/a/very/long/path?with=a&query=1 now", 59, 59, 59, 31),
            ("see example.com now", 19, 19, 19, 31),
            ("mail a@example.com", 18, 18, 18, 18),
            ("v1.2 and 3.14", 13, 13, 13, 13),
        ];
        for (text, chars, utf16, bytes, weighted) in cases {
            let found = [Count::Chars, Count::Utf16, Count::Bytes, Count::Twitter].map(|it| count_text(text, it));
            assert_eq!(found, [chars, utf16, bytes, weighted], "{text}");
        }
    }
}
