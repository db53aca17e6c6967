//! How long a text is, as different systems count it, and the links in it.

use std::ops::Range;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Unicode code points.
    Chars,
    Utf16,
    Bytes,
    /// Weighted as twitter-text v3 does: most scripts of Europe and punctuation 1, everything else 2, an emoji 2, a link
    /// 23.
    Twitter,
}

/// What a link counts, however long it is.
const LINK: usize = 23;
/// What is weighted 1; in hundredths the configuration says 100 there and 200 elsewhere.
const LIGHT: [(u32, u32); 4] = [(0, 4_351), (8_192, 8_205), (8_208, 8_223), (8_242, 8_247)];

/// Counts a text.
#[must_use]
pub fn count_text(text: &str, count: Count) -> usize {
    match count {
        Count::Chars => text.chars().count(),
        Count::Utf16 => text.encode_utf16().count(),
        Count::Bytes => text.len(),
        Count::Twitter => weighted(text),
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

fn weight(text: &str) -> usize {
    let mut length = 0;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if is_emoji(letter) || (letters.peek() == Some(&'\u{fe0f}') || letters.peek() == Some(&'\u{20e3}')) {
            length += 2;
            // An emoji with its modifiers and what is joined to it counts as one.
            loop {
                match letters.peek() {
                    Some('\u{fe0f}' | '\u{20e3}') => drop(letters.next()),
                    Some(next) if ('\u{1f3fb}'..='\u{1f3ff}').contains(next) => drop(letters.next()),
                    Some(next) if ('\u{e0020}'..='\u{e007f}').contains(next) => drop(letters.next()),
                    Some('\u{200d}') => {
                        letters.next();
                        if letters
                            .peek()
                            .is_some_and(|next| is_emoji(*next) || ('\u{2600}'..='\u{27bf}').contains(next))
                        {
                            letters.next();
                        }
                    }
                    Some(next) if is_flag(letter) && is_flag(*next) => {
                        letters.next();
                        break;
                    }
                    _ => break,
                }
            }
            continue;
        }
        // Combining marks are part of their letter where a composed form exists, as it does for those of Europe.
        if ('\u{300}'..='\u{36f}').contains(&letter) && length > 0 {
            continue;
        }
        let code = u32::from(letter);
        length += if LIGHT.iter().any(|(first, last)| (*first..=*last).contains(&code)) { 1 } else { 2 };
    }
    length
}

fn is_flag(letter: char) -> bool {
    ('\u{1f1e6}'..='\u{1f1ff}').contains(&letter)
}

fn is_emoji(letter: char) -> bool {
    matches!(u32::from(letter), 0x1f000..=0x1faff | 0x2600..=0x26ff | 0x2700..=0x27bf)
}

/// Finds the links in a text: with a scheme, or a bare domain of a well-known ending.
#[must_use]
pub(super) fn links(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    for word in text.split_inclusive(|letter: char| letter.is_whitespace() || !letter.is_ascii()) {
        let start = at;
        at += word.len();
        let word = word.trim_end_matches(|letter: char| letter.is_whitespace() || !letter.is_ascii());
        if let Some(range) = link_in(word) {
            found.push(start + range.start..start + range.end);
        }
    }
    found
}

/// Endings of domains that count as links without a scheme.
const ENDINGS: [&str; 24] = [
    "com", "org", "net", "io", "dev", "ai", "app", "co", "de", "uk", "fr", "eu", "jp", "in", "info", "biz", "edu",
    "gov", "me", "tv", "us", "ca", "au", "nl",
];

fn link_in(word: &str) -> Option<Range<usize>> {
    let lower = word.to_ascii_lowercase();
    let scheme =
        ["https://", "http://"].into_iter().filter_map(|scheme| Some((lower.find(scheme)?, scheme.len()))).min();
    let (start, host_at) = match scheme {
        Some((start, length)) => (start, start + length),
        None => {
            let start = word.find(|letter: char| letter.is_ascii_alphanumeric())?;
            // An address of mail is no link.
            if word.contains('@') || word.get(..start).is_some_and(|before| before.ends_with(['#', '$'])) {
                return None;
            }
            (start, start)
        }
    };
    let behind = word.get(host_at..)?;
    let end_of_host = behind.find(|letter: char| !letter.is_ascii_alphanumeric() && !matches!(letter, '.' | '-'));
    let host = behind.get(..end_of_host.unwrap_or(behind.len()))?.trim_end_matches(['.', '-']);
    let (name, ending) = host.rsplit_once('.')?;
    let plausible = ending.len() >= 2 && ending.chars().all(|letter| letter.is_ascii_alphabetic()) && !name.is_empty();
    let known = ENDINGS.contains(&ending.to_ascii_lowercase().as_str());
    if !plausible || (scheme.is_none() && !known) {
        return None;
    }
    let rest = behind.get(host.len()..)?;
    let is_path = rest.starts_with(['/', '?', '#', ':']);
    let path = if is_path { rest.trim_end_matches(['.', ',', '!', '?', ';', ':', '\'', '"', ')', ']']) } else { "" };
    Some(start..host_at + host.len() + path.len())
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

    #[test]
    fn links_end_before_punctuation() {
        let found = |text: &str| links(text).into_iter().map(|it| text.get(it).unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(found("a (https://example.com/x). b"), ["https://example.com/x"]);
        assert_eq!(found("example.com, example.org"), ["example.com", "example.org"]);
        assert!(found("nothing.here to see").is_empty());
        assert_eq!(found("日本https://example.com日本"), ["https://example.com"]);
    }
}
