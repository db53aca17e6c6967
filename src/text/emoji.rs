//! Which code points are one emoji: the sequences that Unicode recommends for interchange.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Asks for the presentation as an emoji; a sequence means the same without it.
const AS_EMOJI: char = '\u{fe0f}';
/// Asks for the presentation as text.
const AS_TEXT: char = '\u{fe0e}';
/// The code points of the longest sequence, with the selectors that may stand in it.
const LONGEST: usize = 16;

/// The sequences without their selectors, by the first code point.
static SEQUENCES: LazyLock<HashMap<char, Vec<Box<str>>>> = LazyLock::new(|| {
    let toned = emojis::iter().filter_map(emojis::Emoji::skin_tones).flatten();
    let mut sequences: HashMap<char, Vec<Box<str>>> = HashMap::new();
    for emoji in emojis::iter().chain(toned) {
        let bare: Box<str> = emoji.as_str().chars().filter(|letter| *letter != AS_EMOJI).collect();
        let known = bare.chars().next().map(|first| sequences.entry(first).or_default());
        if let Some(known) = known.filter(|known| !known.contains(&bare)) {
            known.push(bare);
        }
    }
    sequences
});

/// Returns how many bytes at the beginning of a text are one emoji; none: 0.
pub(super) fn at_start(text: &str) -> usize {
    let mut letters = text.chars();
    let Some(first) = letters.next() else { return 0 };
    let second = letters.next();
    // Digits and signs are letters unless they are told to be keys.
    if first.is_ascii() && !matches!(second, Some(AS_EMOJI | '\u{20e3}')) {
        return 0;
    }
    let Some(known) = SEQUENCES.get(&first) else { return 0 };
    let (mut bare, mut best, mut end) = (String::new(), 0, 0);
    for letter in text.chars().take(LONGEST) {
        end += letter.len_utf8();
        if letter == AS_EMOJI {
            // It belongs to what stands before it.
            if best > 0 && best + letter.len_utf8() == end {
                best = end;
            }
            continue;
        }
        bare.push(letter);
        if !known.iter().any(|sequence| sequence.starts_with(bare.as_str())) {
            break;
        }
        if known.iter().any(|sequence| **sequence == *bare) {
            best = end;
        }
    }
    let shape = text.get(..best).unwrap_or_default();
    let is_single = shape.chars().count() == 1;
    // Those that are letters by default are emoji where they are told so; what is told to be text is none.
    let is_told = !matches!(first, '©' | '®' | '™' | '♟') || !is_single;
    if is_told && !(is_single && second == Some(AS_TEXT)) { best } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emoji_ends_where_its_sequence_does() {
        let cases = [
            ("😀😀", 4),
            ("👍🏽!", 8),
            ("👩‍💻x", 11),
            ("🇩🇪🇫🇷", 8),
            ("🇩", 0),
            ("1️⃣2", 7),
            ("1⃣", 4),
            ("1", 0),
            ("#a", 0),
            ("©", 0),
            ("©\u{fe0f}", 5),
            ("❤\u{fe0f}\u{200d}🔥", 13),
            ("❤\u{fe0e}", 0),
            // No sequence that Unicode recommends: the cat alone is one.
            ("🐱‍👤", 4),
            ("字", 0),
            ("", 0),
        ];
        for (text, bytes) in cases {
            assert_eq!(at_start(text), bytes, "{text}");
        }
    }
}
