//! Links, mentions, hashtags and cashtags in a text, by the rules of twitter-text.

use std::ops::Range;

use unicode_properties::GeneralCategory;
use unicode_properties::GeneralCategoryGroup;
use unicode_properties::UnicodeGeneralCategory;

use super::link::is_space;
use super::link::links;

/// Something in a text that is more than words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    pub kind: EntityKind,
    /// Bytes of the text, with the sign it begins with.
    pub range: Range<usize>,
}

/// What something in a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntityKind {
    Link,
    /// `@name`, or `@name/list`.
    Mention,
    /// `#tag`.
    Hashtag,
    /// `$ABC`.
    Cashtag,
}

impl Entity {
    /// Returns what is written.
    #[must_use]
    pub fn text<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.range.clone()).unwrap_or_default()
    }

    /// Returns what is written without its sign.
    #[must_use]
    pub fn name<'t>(&self, text: &'t str) -> &'t str {
        let whole = self.text(text);
        match self.kind {
            EntityKind::Link => whole,
            _ => whole.trim_start_matches(['#', '＃', '@', '＠', '$']),
        }
    }
}

/// Finds all entities in a text, in order; none overlaps another.
#[must_use]
pub fn entities(text: &str) -> Vec<Entity> {
    let of = |kind: EntityKind, ranges: Vec<Range<usize>>| ranges.into_iter().map(move |range| Entity { kind, range });
    let mut all: Vec<Entity> = of(EntityKind::Link, links(text)).collect();
    all.extend(of(EntityKind::Mention, mentions(text)));
    all.extend(of(EntityKind::Hashtag, hashtags(text)));
    all.extend(of(EntityKind::Cashtag, cashtags(text)));
    all.sort_by_key(|entity| entity.range.start);
    let mut end = 0;
    all.retain(|entity| {
        let free = entity.range.start >= end;
        if free {
            end = entity.range.end;
        }
        free
    });
    all
}

/// Finds the entities of one kind.
#[must_use]
pub fn entities_of(text: &str, kind: EntityKind) -> Vec<Entity> {
    entities(text).into_iter().filter(|entity| entity.kind == kind).collect()
}

fn mentions(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, sign) in text.match_indices(['@', '＠']) {
        let (before, behind) = (text.get(..at).unwrap_or_default(), text.get(at + sign.len()..).unwrap_or_default());
        if !may_be_mentioned_after(before) {
            continue;
        }
        let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let name = behind.bytes().take(20).take_while(in_name).count();
        if name == 0 {
            continue;
        }
        let mut length = name;
        let list = behind.get(name..).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
        if list.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
            length += 1 + list.bytes().take(25).take_while(|byte| in_name(byte) || *byte == b'-').count();
        }
        let rest = behind.get(length..).unwrap_or_default();
        let goes_on = rest.starts_with(['@', '＠']) || rest.starts_with(is_accented) || rest.starts_with("://");
        if !goes_on {
            found.push(at..at + sign.len() + length);
        }
    }
    found
}

fn may_be_mentioned_after(before: &str) -> bool {
    let Some(last) = before.chars().next_back() else { return true };
    if !last.is_ascii_alphanumeric() && !"_!#$%&*@＠".contains(last) {
        return true;
    }
    // `RT@name`, as people once wrote.
    let bare = before.strip_suffix(':').unwrap_or(before);
    let Some(start) = bare.len().checked_sub(2) else { return false };
    let is_mark = bare.get(start..).is_some_and(|mark| mark.eq_ignore_ascii_case("rt"));
    let ahead = bare.get(..start).and_then(|rest| rest.chars().next_back());
    is_mark && ahead.is_none_or(|ahead| !ahead.is_ascii_alphanumeric() && !"_+~.-".contains(ahead))
}

fn hashtags(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut end = 0;
    for (at, sign) in text.match_indices(['#', '＃']) {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let may = before
            .is_none_or(|before| matches!(before, '\u{fe0e}' | '\u{fe0f}') || !(in_hashtag(before) || before == '&'));
        let behind = text.get(at + sign.len()..).unwrap_or_default();
        if at < end || !may || behind.starts_with(['\u{fe0f}', '\u{20e3}']) {
            continue;
        }
        let length = behind.find(|letter| !in_hashtag(letter)).unwrap_or(behind.len());
        let (name, rest) = behind.split_at_checked(length).unwrap_or_default();
        end = at + sign.len() + length;
        if name.chars().any(is_letter) && !rest.starts_with(['#', '＃']) && !rest.starts_with("://") {
            found.push(at..end);
        }
    }
    found
}

fn is_letter(letter: char) -> bool {
    matches!(letter.general_category_group(), GeneralCategoryGroup::Letter | GeneralCategoryGroup::Mark)
}

fn in_hashtag(letter: char) -> bool {
    const ALSO: &str = "_\u{200c}\u{200d}\u{a67e}\u{5be}\u{5f3}\u{5f4}\u{ff5e}\u{301c}\u{309b}\u{309c}\u{30a0}\u{30fb}\u{3003}\u{f0b}\u{f0c}\u{b7}";
    is_letter(letter) || letter.general_category() == GeneralCategory::DecimalNumber || ALSO.contains(letter)
}

fn cashtags(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('$') {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        if !before.is_none_or(is_space) {
            continue;
        }
        let behind = text.get(at + 1..).unwrap_or_default();
        let letters = |text: &str, most: usize| text.bytes().take(most).take_while(u8::is_ascii_alphabetic).count();
        let ends = |length: usize| {
            let next = behind.get(length..).and_then(|rest| rest.chars().next());
            next.is_none_or(|next| is_space(next) || "!'#%&()*+,\\-./:;<=>?@[]^_{|}~$".contains(next))
        };
        let name = letters(behind, 6);
        if name == 0 {
            continue;
        }
        let suffix = behind.get(name..).and_then(|rest| rest.strip_prefix(['.', '_'])).unwrap_or_default();
        let long = name + 1 + letters(suffix, 2);
        let length = if long > name + 1 && ends(long) { long } else { name };
        if ends(length) {
            found.push(at..at + 1 + length);
        }
    }
    found
}

/// Tells whether a letter is a Latin one with an accent, or an accent, as the rules list them.
pub(super) fn is_accented(letter: char) -> bool {
    matches!(letter,
        '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{24f}' | '\u{253}' | '\u{254}' | '\u{256}'
            | '\u{257}' | '\u{259}' | '\u{25b}' | '\u{263}' | '\u{268}' | '\u{26f}' | '\u{272}' | '\u{289}'
            | '\u{28b}' | '\u{2bb}' | '\u{300}'..='\u{36f}' | '\u{1e00}'..='\u{1eff}')
}
