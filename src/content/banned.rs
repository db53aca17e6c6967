//! Words that no post may have.

use crate::text::folded;

/// Words and phrases that no post may have; case, accents and widths do not matter, and only whole words count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Banned {
    /// As they are written, and as they compare.
    words: Vec<(String, String)>,
}

impl Banned {
    /// Reads a list: one word or phrase a line; what stands behind `#` at the beginning of a line is a comment.
    #[must_use]
    pub fn parse(list: &str) -> Self {
        let lines = list.trim_start_matches('\u{feff}').lines().map(str::trim);
        let words = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let folded = words.map(|word| (word.to_owned(), folded(word).trim().to_owned()));
        Self { words: folded.filter(|(_, word)| !word.is_empty()).collect() }
    }

    /// Returns the banned words that a text has, as the list writes them.
    #[must_use]
    pub fn found(&self, text: &str) -> Vec<&str> {
        let text = folded(text);
        self.words.iter().filter(|(_, word)| has_word(&text, word)).map(|(written, _)| written.as_str()).collect()
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let behind = text.get(at + word.len()..).and_then(|behind| behind.chars().next());
        let goes_on = |own: Option<char>, other: Option<char>| match (own, other) {
            (Some(own), Some(other)) => own.is_alphanumeric() && other.is_alphanumeric() && is_spaced(own),
            _ => false,
        };
        !goes_on(word.chars().next(), before) && !goes_on(word.chars().next_back(), behind)
    })
}

/// Tells whether a letter is of a script that writes space between words.
fn is_spaced(letter: char) -> bool {
    !matches!(u32::from(letter),
        0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x3400..=0x9fff | 0xf900..=0xfaff
            | 0x20000..=0x3ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_are_found_however_they_are_written() {
        let banned = Banned::parse("\u{feff}# comment\nCrème\n\n free   money \nc++\n🖕\n坏\n#\n");
        let found = |text: &str| banned.found(text).join(",");
        let cases = [
            ("creme brulee", "Crème"),
            ("CRE\u{301}ME", "Crème"),
            ("Get #créme now", "Crème"),
            ("cremes", ""),
            ("FREE\nmoney!", "free   money"),
            ("freemoney", ""),
            ("C++20 and C", "c++"),
            ("I like C++.", "c++"),
            ("no 🖕🏽 here", "🖕"),
            ("很坏的", "坏"),
            ("cr\u{200b}eme", "Crème"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(found(text), expected, "{text}");
        }
    }
}
