//! From a text to its terms: no language is known, and none is needed.
//!
//! Letters are compared without case and without the accents of Latin, Greek and Cyrillic. Scripts that write no spaces
//! between words are cut into pairs of characters, which find what a dictionary would.

use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Longer words are cut: nobody looks for them.
const LONGEST: usize = 64;

/// Returns the terms of a text, each once, in order, and how often each is in it.
#[must_use]
pub fn terms(text: &str) -> Vec<(String, u32)> {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut count = |term: String| *counts.entry(term).or_default() += 1;
    let folded: String = text.nfkd().filter(|letter| !is_accent(*letter)).nfc().flat_map(char::to_lowercase).collect();
    let mut word = String::new();
    let mut run: Vec<char> = Vec::new();
    for letter in folded.chars().chain([' ']) {
        if is_unspaced(letter) {
            take_word(&mut word, &mut count);
            run.push(letter);
            continue;
        }
        take_run(&mut run, &mut count);
        if letter.is_alphanumeric() || is_combining_mark(letter) {
            if word.chars().count() < LONGEST {
                word.push(letter);
            }
        } else {
            take_word(&mut word, &mut count);
        }
    }
    counts.into_iter().collect()
}

fn take_word(word: &mut String, count: &mut impl FnMut(String)) {
    // Single letters are what is left of `it's` and `l'eau`.
    let word = std::mem::take(word);
    let single = word.len() == 1 && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    if !word.is_empty() && !single {
        count(word);
    }
}

fn take_run(run: &mut Vec<char>, count: &mut impl FnMut(String)) {
    let run = std::mem::take(run);
    match run.as_slice() {
        [] => {}
        [single] => count(single.to_string()),
        run => run.windows(2).for_each(|pair| count(pair.iter().collect())),
    }
}

fn is_accent(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{36f}')
}

/// Tells whether a letter is of a script without spaces between words.
fn is_unspaced(letter: char) -> bool {
    matches!(letter,
        '\u{0e01}'..='\u{0e4e}' // Thai
        | '\u{0e81}'..='\u{0ecd}' // Lao
        | '\u{1000}'..='\u{109f}' // Myanmar
        | '\u{1780}'..='\u{17d3}' // Khmer
        | '\u{3041}'..='\u{30ff}' // Hiragana, Katakana
        | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}' // Han
        | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found: Vec<String> = terms(text).into_iter().map(|(term, _)| term).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn words_are_compared_without_case_and_accents() {
        check("Crème BRÛLÉE, crème!", &["brulee", "creme"]);
        check("cafe\u{301} Ёлка", &["cafe", "елка"]);
        check("It's l'eau #tea @bob 2026", &["2026", "bob", "eau", "it", "tea"]);
        check("ﬁne ＴＥＡ", &["fine", "tea"]);
        check("", &[]);
        check("🍵 — !", &[]);
    }

    #[test]
    fn scripts_without_spaces_are_cut_into_pairs() {
        check("抹茶ラテ tea", &["tea", "ラテ", "抹茶", "茶ラ"]);
        check("茶", &["茶"]);
        // Hangul has spaces, and its syllables stay whole.
        check("녹차 주세요", &["녹차", "주세요"]);
        check("हिन्दी", &["हिन्दी"]);
    }

    #[test]
    fn terms_are_counted() {
        assert_eq!(terms("tea tea Tea pot"), [("pot".to_owned(), 1), ("tea".to_owned(), 3)]);
    }
}
