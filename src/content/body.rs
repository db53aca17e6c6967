//! The text of a post in as many parts as a platform wants.

use super::adapt::Threads;
use super::split::Cutting;
use super::tags;
use crate::text::EntityKind;
use crate::text::Measure;
use crate::text::entities_of;
use crate::text::links;

/// What is to become of a text.
#[derive(Debug)]
pub(super) struct Body<'b> {
    /// How the first part is measured.
    pub(super) first: Measure,
    /// How further parts are measured, where there may be some.
    pub(super) further: Option<Measure>,
    pub(super) threads: Threads,
    pub(super) shorten: bool,
    /// What stands behind the first part, apart from it: a link.
    pub(super) link: &'b str,
    /// Hashtags that are put behind the last part as far as there is room.
    pub(super) hashtags: &'b [String],
}

/// A text in parts, with what was done to it.
#[derive(Debug, Default)]
pub(super) struct Laid {
    pub(super) parts: Vec<String>,
    /// The number of the part, and what was done.
    pub(super) notes: Vec<(usize, String)>,
    /// The number of the part, what is in the way, and the way out.
    pub(super) faults: Vec<(usize, String, Option<String>)>,
}

/// The most parts that are numbered.
const MOST_DIGITS: usize = 5;

impl Body<'_> {
    /// Lays a text and the further parts that it was given out.
    pub(super) fn lay(&self, given: &[String]) -> Laid {
        let mut given = given.to_vec();
        let mut laid = Laid::default();
        let fits = |number: usize, part: &str| self.fits(number, part);
        let with_link = |text: &str| with_link(text, self.link);
        let splits = self.further.is_some() && self.threads != Threads::Never;
        if !self.link.is_empty() {
            let text = given.first().map_or("", String::as_str);
            let whole = with_link(text);
            if fits(0, &whole) || splits || !self.shorten {
                replace_first(&mut given, whole);
            } else {
                // The link stays, and the words before it are fewer.
                let Some(short) = Cutting::of(text).shortened(&|text| fits(0, &with_link(text))) else {
                    let message = format!("has no room beside the link `{}`", self.link);
                    laid.faults.push((0, message, Some("take a shorter link".to_owned())));
                    replace_first(&mut given, whole);
                    return Laid { parts: given, ..laid };
                };
                laid.notes.push((0, shortened(&self.first, text)));
                replace_first(&mut given, with_link(&short));
            }
            laid.notes.push((0, format!("the link `{}` was put behind the text", self.link)));
        }
        let is_long = given.iter().enumerate().any(|(number, part)| !self.fits(number, part));
        if !is_long {
            let parts = self.dress(given, 0, &mut laid.notes);
            return Laid { parts, ..laid };
        }
        if splits { self.split(&given, laid) } else { self.cut(given, laid) }
    }

    /// Tells whether a part is not too long; where there is a thread, links that are too many go to its next part.
    fn fits(&self, number: usize, part: &str) -> bool {
        let measure = self.measure(number);
        let splits = self.further.is_some() && self.threads != Threads::Never;
        let most = measure.links.filter(|_| splits);
        measure.fits(part) && most.is_none_or(|most| links(part).len() <= most)
    }

    fn measure(&self, number: usize) -> Measure {
        if number == 0 { self.first } else { self.further.unwrap_or(self.first) }
    }

    /// Splits what is too long, and numbers the parts where that is wished, or where two would be the same: platforms
    /// refuse what they have just seen.
    fn split(&self, given: &[String], mut laid: Laid) -> Laid {
        let numbered = self.threads == Threads::Numbered;
        let plain = if numbered { None } else { Some(0) };
        for digits in plain.into_iter().chain(1..=MOST_DIGITS) {
            let reserved = number_of(&"9".repeat(digits), &"9".repeat(digits), digits);
            let parts = match self.pieces(given, &reserved) {
                Ok(parts) => parts,
                Err((part, stuck)) => {
                    let message = format!("`{stuck}` alone is longer than a part may be");
                    laid.faults.push((part, message, Some("take a shorter one".to_owned())));
                    return Laid { parts: given.to_vec(), ..laid };
                }
            };
            let mut notes = Vec::new();
            let total = parts.len();
            let mut parts = self.dress(parts, digits, &mut notes);
            let same = |parts: &[String]| {
                (1..parts.len()).any(|at| {
                    parts.get(..at).is_some_and(|before| parts.get(at).is_some_and(|part| before.contains(part)))
                })
            };
            if digits == 0 && same(&parts) || digits > 0 && total.to_string().len() > digits {
                continue;
            }
            if digits > 0 {
                let all = total.to_string();
                for (index, part) in parts.iter_mut().enumerate() {
                    part.push_str(&number_of(&(index + 1).to_string(), &all, digits));
                }
            }
            if total > given.len() {
                laid.notes.insert(0, (0, format!("the text became {total} parts")));
            }
            laid.notes.append(&mut notes);
            return Laid { parts, ..laid };
        }
        laid.faults.push((0, "has more parts than can be numbered".to_owned(), None));
        Laid { parts: given.to_vec(), ..laid }
    }

    fn pieces(&self, given: &[String], reserved: &str) -> Result<Vec<String>, (usize, String)> {
        let mut pieces: Vec<String> = Vec::new();
        for part in given {
            let before = pieces.len();
            let fits = |number: usize, piece: &str| self.fits(before + number, &format!("{piece}{reserved}"));
            pieces.extend(Cutting::of(part).split(&fits).map_err(|stuck| (before, stuck))?);
        }
        Ok(pieces)
    }

    /// Shortens what is too long, where that is allowed.
    fn cut(&self, mut given: Vec<String>, mut laid: Laid) -> Laid {
        for (number, part) in given.iter_mut().enumerate() {
            let measure = self.measure(number);
            if measure.fits(part) {
                continue;
            }
            let short = self.shorten.then(|| Cutting::of(part).shortened(&|text| measure.fits(text))).flatten();
            match short {
                Some(short) => {
                    laid.notes.push((number, shortened(&measure, part)));
                    *part = short;
                }
                None => laid.faults.push((number, too_long(&measure, part), Some(way_out(self.shorten)))),
            }
        }
        let parts = self.dress(given, 0, &mut laid.notes);
        Laid { parts, ..laid }
    }

    /// Holds the names and tags of the parts to their numbers, and puts the hashtags behind the last.
    fn dress(&self, mut parts: Vec<String>, digits: usize, notes: &mut Vec<(usize, String)>) -> Vec<String> {
        for (number, part) in parts.iter_mut().enumerate() {
            let kinds =
                [(EntityKind::Hashtag, "hashtag"), (EntityKind::Mention, "mention"), (EntityKind::Cashtag, "cashtag")];
            for (kind, name) in kinds {
                let Some(most) = self.measure(number).most_of(kind) else { continue };
                let (left_out, plain) = tags::limit(part, kind, most);
                if left_out > 0 {
                    notes.push((number, format!("{} left out: {}", counted(left_out, name), allowed(most))));
                }
                if plain > 0 {
                    notes.push((number, format!("{} made plain: {}", counted(plain, name), allowed(most))));
                }
            }
        }
        let number = parts.len().saturating_sub(1);
        let measure = self.measure(number);
        let reserved = number_of(&"9".repeat(digits), &"9".repeat(digits), digits);
        let mut last = parts.pop().unwrap_or_default();
        let (mut added, mut left_out) = (Vec::new(), Vec::new());
        for hashtag in self.hashtags {
            if tags::has_hashtag(&last, hashtag) || parts.iter().any(|part| tags::has_hashtag(part, hashtag)) {
                continue;
            }
            let more = tags::with_hashtag(&last, hashtag);
            if measure.faults(&format!("{more}{reserved}")).is_empty() {
                last = more;
                added.push(hashtag.as_str());
            } else {
                left_out.push(hashtag.as_str());
            }
        }
        if !added.is_empty() {
            notes.push((number, format!("{} put behind the text", added.join(" "))));
        }
        if !left_out.is_empty() {
            let most = measure.hashtags.filter(|most| entities_of(&last, EntityKind::Hashtag).len() >= *most);
            let why = most.map_or("there is no room".to_owned(), allowed);
            notes.push((number, format!("{} left out: {why}", left_out.join(" "))));
        }
        if !last.is_empty() || !parts.is_empty() {
            parts.push(last);
        }
        parts
    }
}

/// Puts a link behind a text, but before a last paragraph of hashtags: these go on behind it.
fn with_link(text: &str, link: &str) -> String {
    let (body, tags) = text.rsplit_once("\n\n").unwrap_or(("", text));
    let are_tags = !tags.is_empty() && tags.split_whitespace().all(|word| word.starts_with('#'));
    match (text.is_empty(), are_tags && !body.is_empty()) {
        (true, _) => link.to_owned(),
        (false, true) => format!("{body}\n\n{link}\n\n{tags}"),
        (false, false) => format!("{text}\n\n{link}"),
    }
}

fn allowed(most: usize) -> String {
    if most == 1 { "at most 1 is allowed".to_owned() } else { format!("at most {most} are allowed") }
}

fn replace_first(given: &mut Vec<String>, text: String) {
    match given.first_mut() {
        Some(first) => *first = text,
        None => given.push(text),
    }
}

fn number_of(number: &str, total: &str, digits: usize) -> String {
    if digits == 0 { String::new() } else { format!(" {number}/{total}") }
}

pub(super) fn counted(count: usize, name: &str) -> String {
    if count == 1 { format!("1 {name} was") } else { format!("{count} {name}s were") }
}

pub(super) fn shortened(measure: &Measure, text: &str) -> String {
    let most = measure.most.unwrap_or_default();
    format!("shortened from {} {}, of which {most} are allowed", measure.length(text), measure.count.unit())
}

pub(super) fn too_long(measure: &Measure, text: &str) -> String {
    let most = measure.most.unwrap_or_default();
    format!("has {} {}, at most {most} are allowed", measure.length(text), measure.count.unit())
}

pub(super) fn way_out(shorten: bool) -> String {
    if shorten { "write a shorter one".to_owned() } else { "write a shorter one, or allow `shorten: true`".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_stands_before_the_hashtags_that_end_a_text() {
        let cases = [
            ("", "L"),
            ("Words", "Words\n\nL"),
            ("Words\n\n#a #b", "Words\n\nL\n\n#a #b"),
            ("Words\n\n#a is new", "Words\n\n#a is new\n\nL"),
            ("#a #b", "#a #b\n\nL"),
        ];
        for (text, expected) in cases {
            assert_eq!(with_link(text, "L"), expected, "{text}");
        }
    }

    #[test]
    fn links_that_are_too_many_for_a_part_go_to_the_next_one() {
        let part = Measure { links: Some(1), most: Some(90), ..Measure::default() };
        let (threads, shorten) = (Threads::Auto, false);
        let body = Body { first: part, further: Some(part), threads, shorten, link: "", hashtags: &[] };
        let given = ["One: https://example.com/a. Two: https://example.com/b.".to_owned()];
        let laid = body.lay(&given);
        assert_eq!(laid.parts, ["One: https://example.com/a.", "Two: https://example.com/b."]);
        let never = Body { threads: Threads::Never, ..body };
        assert_eq!(never.lay(&given).parts, given);
    }
}
