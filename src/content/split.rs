//! Where a text may be cut: between paragraphs, sentences, words, and never inside a link, a name, a tag or an emoji.

use std::ops::Range;

use unicode_properties::GeneralCategory;
use unicode_properties::UnicodeGeneralCategory;
use unicode_segmentation::UnicodeSegmentation;

use crate::text::Entity;
use crate::text::entities;

/// What stands where something was left out.
const ELLIPSIS: char = '…';

/// A text that is cut: the places, by how good they are.
#[derive(Debug)]
pub(super) struct Cutting<'t> {
    text: &'t str,
    entities: Vec<Entity>,
    paragraphs: Vec<usize>,
    sentences: Vec<usize>,
    /// At space.
    words: Vec<usize>,
    /// Between words of a script that has no space between them.
    joints: Vec<usize>,
    /// Between what people take for letters.
    letters: Vec<usize>,
}

impl<'t> Cutting<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let entities = entities(text);
        let free = |at: &usize| is_free(*at, &entities) && *at > 0 && *at < text.len();
        let sentences = text.split_sentence_bound_indices().map(|(at, _)| at).filter(free).collect();
        let joints = text.split_word_bound_indices().map(|(at, _)| at);
        let joints = joints.filter(free).filter(|at| is_joint(text, *at)).collect();
        let letters = text.grapheme_indices(true).map(|(at, _)| at);
        let letters = letters.filter(free).filter(|at| !makes_names(text, *at)).collect();
        let words = text.char_indices().filter(|(_, letter)| letter.is_whitespace()).map(|(at, _)| at).collect();
        let (paragraphs, sentences, words, joints, letters) = (paragraphs(text), sentences, words, joints, letters);
        Self { text, entities, paragraphs, sentences, words, joints, letters }
    }

    /// Splits the text into parts that fit; `fits` gets the number of the part, from 0.
    ///
    /// # Errors
    /// A link, name or tag that does not fit alone, as it is written.
    pub(super) fn split(&self, fits: &dyn Fn(usize, &str) -> bool) -> Result<Vec<String>, String> {
        let mut parts = Vec::new();
        let mut at = self.skipped(0);
        loop {
            let rest = self.slice(at..self.text.len());
            let number = parts.len();
            if rest.is_empty() {
                return Ok(parts);
            }
            // What is this long fits nowhere, and need not be counted.
            if rest.len() <= MOST_BYTES && fits(number, rest) {
                parts.push(rest.to_owned());
                return Ok(parts);
            }
            let cut = self.cut(at, &|part| fits(number, part)).ok_or_else(|| self.stuck(at))?;
            parts.push(self.slice(at..cut).to_owned());
            at = self.skipped(cut);
        }
    }

    /// Returns the text up to a place from which on it is left out, with an ellipsis; nothing where not even that fits.
    pub(super) fn shortened(&self, fits: &dyn Fn(&str) -> bool) -> Option<String> {
        let at = self.skipped(0);
        let whole = |cut: usize| {
            let kept = self.slice(at..cut);
            // Behind a whole sentence it stands apart.
            let ends = kept.ends_with(['.', '!', '?', '。', '！', '？', ELLIPSIS]);
            let kept = if ends { kept } else { kept.trim_end_matches([',', ';', ':', '-', '–', ' ']) };
            format!("{kept}{}{ELLIPSIS}", if ends { " " } else { "" })
        };
        let cuts = |places: &[usize]| largest(places, at, &|cut| !self.slice(at..cut).is_empty() && fits(&whole(cut)));
        let levels = [&self.words, &self.joints, &self.letters];
        let most = levels.into_iter().find_map(|places| cuts(places))?;
        let sentence = cuts(&self.sentences).filter(|cut| (cut - at) * 3 >= most - at);
        Some(whole(sentence.unwrap_or(most)))
    }

    /// Finds the best place to cut what begins at a place.
    fn cut(&self, at: usize, fits: &dyn Fn(&str) -> bool) -> Option<usize> {
        let last = |places: &[usize]| {
            largest(places, at, &|cut| {
                let part = self.slice(at..cut);
                !part.is_empty() && part.len() <= MOST_BYTES && fits(part)
            })
        };
        let most = [&self.words, &self.joints, &self.letters].into_iter().find_map(|places| last(places))?;
        // A better place is worth an emptier part, up to a point.
        let worth = |cut: &usize, share: usize| (cut - at) * share >= most - at;
        let paragraph = last(&self.paragraphs).filter(|cut| worth(cut, 2));
        Some(paragraph.or_else(|| last(&self.sentences).filter(|cut| worth(cut, 3))).unwrap_or(most))
    }

    fn slice(&self, range: Range<usize>) -> &'t str {
        self.text.get(range).unwrap_or_default().trim()
    }

    /// Returns where the next word begins.
    fn skipped(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        at + rest.len() - rest.trim_start().len()
    }

    /// Returns what stands at a place and cannot be cut.
    fn stuck(&self, at: usize) -> String {
        let entity = self.entities.iter().find(|entity| entity.range.contains(&at));
        let letter = || self.text.get(at..).and_then(|rest| rest.graphemes(true).next()).unwrap_or_default();
        entity.map_or_else(letter, |entity| entity.text(self.text)).to_owned()
    }
}

/// The longest part that is looked at, in bytes: no system takes a longer text.
const MOST_BYTES: usize = 256 * 1_024;

/// Finds the last of the places behind `from` that is good, where of two good ones the later is mostly better.
fn largest(places: &[usize], from: usize, good: &dyn Fn(usize) -> bool) -> Option<usize> {
    let places = places.get(places.partition_point(|place| *place <= from)..)?;
    let is_good = |index: usize| places.get(index).is_some_and(|place| good(*place));
    let mut best = None;
    let (mut low, mut step) = (0, 1);
    // Leap ahead as long as it is well, then halve what is between: long texts are cut in many places.
    while is_good(low) {
        best = Some(low);
        low += step;
        step *= 2;
    }
    let mut high = low.min(places.len());
    let mut start = best.map_or(0, |best| best + 1);
    while start < high {
        let middle = start + (high - start) / 2;
        if is_good(middle) {
            best = Some(middle);
            start = middle + 1;
        } else {
            high = middle;
        }
    }
    places.get(best?).copied()
}

fn is_free(at: usize, entities: &[Entity]) -> bool {
    let behind = entities.partition_point(|entity| entity.range.end <= at);
    entities.get(behind).is_none_or(|entity| at <= entity.range.start)
}

/// Finds the blank lines.
fn paragraphs(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() && at > 0 {
            found.push(at);
        }
        at += line.len();
    }
    found
}

fn around(text: &str, at: usize) -> (Option<char>, Option<char>) {
    let before = text.get(..at).and_then(|before| before.chars().next_back());
    (before, text.get(at..).and_then(|behind| behind.chars().next()))
}

/// Tells whether a cut would make a name or a tag of what is none.
fn makes_names(text: &str, at: usize) -> bool {
    let is_sign = |letter: Option<char>| letter.is_some_and(|letter| "@＠#＃$&".contains(letter));
    let (before, behind) = around(text, at);
    is_sign(before) || is_sign(behind)
}

/// Tells whether a bound between words may be cut: not before what closes, nor behind what opens.
fn is_joint(text: &str, at: usize) -> bool {
    let (before, behind) = around(text, at);
    let opens = before.is_some_and(|letter| {
        matches!(letter.general_category(), GeneralCategory::OpenPunctuation | GeneralCategory::InitialPunctuation)
    });
    let closes = behind.is_some_and(|letter| {
        matches!(
            letter.general_category(),
            GeneralCategory::ClosePunctuation
                | GeneralCategory::FinalPunctuation
                | GeneralCategory::OtherPunctuation
                | GeneralCategory::DashPunctuation
                | GeneralCategory::ConnectorPunctuation
        )
    });
    !opens && !closes && !makes_names(text, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, most: usize) -> Vec<String> {
        Cutting::of(text).split(&|_, part| part.chars().count() <= most).unwrap()
    }

    #[test]
    fn a_text_is_cut_where_it_hurts_least() {
        let cases: [(&str, usize, &[&str]); 6] = [
            ("One two.\n\nThree four. Five six.", 24, &["One two.\n\nThree four.", "Five six."]),
            ("One two three.\n\nFour five six.", 20, &["One two three.", "Four five six."]),
            ("One two. Three four five six", 15, &["One two.", "Three four five", "six"]),
            ("a very long sentence without end", 12, &["a very long", "sentence", "without end"]),
            // The short heading would leave its part all but empty.
            ("Hi.\n\nA sentence that is longer than that", 22, &["Hi.\n\nA sentence that", "is longer than that"]),
            ("  fits  ", 4, &["fits"]),
        ];
        for (text, most, expected) in cases {
            assert_eq!(split(text, most), expected, "{text}");
        }
        assert!(split(" \n ", 1).is_empty());
    }

    #[test]
    fn what_belongs_together_is_never_cut() {
        assert_eq!(split("see https://example.com/a-b now", 25), ["see", "https://example.com/a-b", "now"]);
        assert_eq!(split("ab👩‍👩‍👧cd", 5), ["ab", "👩‍👩‍👧", "cd"]);
        assert_eq!(split("日本語。テストです。", 6), ["日本語。", "テストです。"]);
        // No name comes about that was none.
        assert!(split("aaaa@bbbb", 5).iter().all(|part| !part.starts_with('@')));
        let stuck = Cutting::of("x https://example.com/long").split(&|_, part| part.len() <= 9);
        assert_eq!(stuck, Err("https://example.com/long".to_owned()));
    }

    #[test]
    fn a_text_is_shortened_at_a_sentence_where_there_is_one() {
        let short = |text: &str, most: usize| Cutting::of(text).shortened(&|part| part.chars().count() <= most);
        assert_eq!(short("One two. Three four five.", 14).as_deref(), Some("One two. …"));
        assert_eq!(short("One, two three four five.", 12).as_deref(), Some("One, two…"));
        assert_eq!(short("One, two", 5).as_deref(), Some("One…"));
        assert_eq!(short("abcdefgh", 4).as_deref(), Some("abc…"));
        assert_eq!(short("abc", 0), None);
    }
}
