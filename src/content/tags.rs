//! Hashtags and names in a text: made of tags, held to their number, mapped to what a platform calls them.

use std::collections::BTreeMap;

use super::rules::TagRule;
use crate::text::Count;
use crate::text::Entity;
use crate::text::EntityKind;
use crate::text::count_text;
use crate::text::entities;
use crate::text::entities_of;
use crate::text::folded;
use crate::text::joined;

/// Makes a hashtag of a tag: `data science` becomes `#DataScience`; nothing where no letter is in it.
pub(super) fn hashtag(tag: &str) -> Option<String> {
    let mut name = String::new();
    let bare = tag.trim_start_matches(['#', '＃']);
    let words: Vec<&str> = bare.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    for word in &words {
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if words.len() > 1 => name.extend(first.to_uppercase()),
            first => name.extend(first),
        }
        name.push_str(letters.as_str());
    }
    let hashtag = format!("#{name}");
    let is_whole = matches!(entities(&hashtag).as_slice(), [only] if only.range == (0..hashtag.len()));
    is_whole.then_some(hashtag)
}

/// Tells whether a text has a hashtag already.
pub(super) fn has_hashtag(text: &str, hashtag: &str) -> bool {
    let wanted = folded(hashtag.trim_start_matches('#'));
    entities_of(text, EntityKind::Hashtag).iter().any(|own| folded(own.name(text)) == wanted)
}

/// Puts a hashtag behind a text: one line of them, apart from the text.
pub(super) fn with_hashtag(text: &str, hashtag: &str) -> String {
    if text.is_empty() {
        return hashtag.to_owned();
    }
    let last_line = text.lines().next_back().unwrap_or_default();
    let are_tags = last_line.split_whitespace().all(|word| word.starts_with('#'));
    format!("{text}{}{hashtag}", if are_tags { " " } else { "\n\n" })
}

/// Holds the entities of a kind to their number. Those at the very end of the text are left out, the others become plain
/// words, the last ones first. Returns how many of each.
pub(super) fn limit(text: &mut String, kind: EntityKind, most: usize) -> (usize, usize) {
    let (mut left_out, mut plain) = (0, 0);
    loop {
        let found = entities_of(text, kind);
        let Some(last) = found.last().filter(|_| found.len() > most) else { return (left_out, plain) };
        let behind = text.get(last.range.end..).unwrap_or_default();
        let is_label = kind == EntityKind::Hashtag && behind.trim().is_empty() && stands_apart(text, last);
        if is_label {
            text.truncate(last.range.start);
            text.truncate(text.trim_end().len());
            left_out += 1;
        } else {
            let name = last.name(text).to_owned();
            text.replace_range(last.range.clone(), &name);
            plain += 1;
        }
    }
}

/// Tells whether a hashtag at the end is a label, not the last word of a sentence: it follows another, or begins a line.
fn stands_apart(text: &str, last: &Entity) -> bool {
    let before = text.get(..last.range.start).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    line.trim().is_empty() || line.split_whitespace().next_back().is_some_and(|word| word.starts_with('#'))
}

/// Replaces the mentions of a text by what the platform calls them; one that it has no name for becomes a plain word.
/// Returns those that were changed.
pub(super) fn map_mentions(text: &mut String, table: &BTreeMap<String, Option<String>>) -> Vec<String> {
    let mut changed = Vec::new();
    for mention in entities_of(text, EntityKind::Mention).iter().rev() {
        let name = mention.name(text).to_owned();
        let known = table.iter().find(|(own, _)| own.trim_start_matches('@').eq_ignore_ascii_case(&name));
        let Some((_, by)) = known else { continue };
        let by = by.clone().unwrap_or_else(|| name.clone());
        if mention.text(text) != by {
            text.replace_range(mention.range.clone(), &by);
            changed.push(format!("`@{name}` became `{by}`"));
        }
    }
    changed.reverse();
    changed
}

/// Holds a list of tags to what the platform takes; returns those that were left out.
pub(super) fn hold(tags: &mut Vec<String>, rule: &TagRule) -> Vec<String> {
    let mut left_out = Vec::new();
    let mut kept: Vec<String> = Vec::new();
    for tag in std::mem::take(tags) {
        let bare = tag.trim_start_matches(['#', '＃']).to_owned();
        let fits = |kept: &[String]| {
            let line = joined(kept.iter().map(String::as_str).chain([bare.as_str()]));
            let (most, count) = rule.joined.unwrap_or((usize::MAX, Count::Chars));
            count_text(&line, count) <= most && rule.most.is_none_or(|most| kept.len() < most)
        };
        let is_new = !kept.iter().any(|own| folded(own) == folded(&bare));
        if bare.is_empty() || !is_new {
            continue;
        }
        if rule.tag.faults(&bare).is_empty() && fits(&kept) { kept.push(bare) } else { left_out.push(tag) }
    }
    *tags = kept;
    left_out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_becomes_a_hashtag_where_it_can() {
        let cases = [
            ("data", Some("#data")),
            ("#data", Some("#data")),
            ("data science", Some("#DataScience")),
            ("c++", Some("#c")),
            ("42", None),
            ("élan vital", Some("#ÉlanVital")),
            ("日本", Some("#日本")),
            ("", None),
        ];
        for (tag, expected) in cases {
            assert_eq!(hashtag(tag).as_deref(), expected, "{tag}");
        }
    }

    #[test]
    fn what_is_too_many_goes_from_the_end() {
        let limited = |text: &str, kind, most| {
            let mut text = text.to_owned();
            let counts = limit(&mut text, kind, most);
            (text, counts)
        };
        let tag = EntityKind::Hashtag;
        assert_eq!(limited("On #data.\n\n#etl #rust", tag, 1), ("On #data.".to_owned(), (2, 0)));
        assert_eq!(limited("On #data and #etl.", tag, 1), ("On #data and etl.".to_owned(), (0, 1)));
        assert_eq!(limited("We love #data", tag, 0), ("We love data".to_owned(), (0, 1)));
        assert_eq!(limited("@a and @b", EntityKind::Mention, 1), ("@a and b".to_owned(), (0, 1)));
        assert_eq!(limited("$ACME up, $XY down", EntityKind::Cashtag, 1), ("$ACME up, XY down".to_owned(), (0, 1)));
    }

    #[test]
    fn mentions_are_called_what_the_platform_calls_them() {
        let table = BTreeMap::from([
            ("Acme".to_owned(), Some("@acmedata".to_owned())),
            ("@ada".to_owned(), None),
            ("same".to_owned(), Some("@same".to_owned())),
        ]);
        let mut text = "Thanks @acme, @ada, @same and @other; not a@acme.example".to_owned();
        let changed = map_mentions(&mut text, &table);
        assert_eq!(text, "Thanks @acmedata, ada, @same and @other; not a@acme.example");
        assert_eq!(changed, ["`@acme` became `@acmedata`", "`@ada` became `ada`"]);
    }
}
