//! What a schema says of a text beyond its type, and whether a text keeps to it.

use serde_json::Value as Json;

use super::Count;
use super::EntityKind;
use super::count_text;
use super::entities;

/// The words of a schema that measure a text: `count minLength maxLength maxHashtags maxMentions maxCashtags maxLinks
/// links`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    pub count: Count,
    pub least: Option<usize>,
    pub most: Option<usize>,
    pub hashtags: Option<usize>,
    pub mentions: Option<usize>,
    pub cashtags: Option<usize>,
    pub links: Option<usize>,
    /// Whether readers can follow a link in it.
    pub live_links: bool,
}

impl Default for Measure {
    fn default() -> Self {
        let (least, most, hashtags, mentions, cashtags, links) = (None, None, None, None, None, None);
        Self { count: Count::Chars, least, most, hashtags, mentions, cashtags, links, live_links: true }
    }
}

/// Letters that no system takes in a text that it weighs.
const NEVER: [char; 3] = ['\u{fffe}', '\u{feff}', '\u{ffff}'];

impl Measure {
    /// Reads the words of a schema; a word that is computed of what is not known says nothing.
    #[must_use]
    pub fn of(schema: &serde_json::Map<String, Json>) -> Self {
        let number = |key: &str| schema.get(key).and_then(number);
        let word = |key: &str| schema.get(key).and_then(Json::as_str);
        Self {
            count: word("count").and_then(Count::by_name).unwrap_or_default(),
            least: number("minLength"),
            most: number("maxLength"),
            hashtags: number("maxHashtags"),
            mentions: number("maxMentions"),
            cashtags: number("maxCashtags"),
            links: number("maxLinks"),
            live_links: word("links") != Some("plain"),
        }
    }

    /// Counts a text as the schema does.
    #[must_use]
    pub fn length(&self, text: &str) -> usize {
        count_text(text, self.count)
    }

    /// Tells whether a text is not longer than it may be.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        self.most.is_none_or(|most| self.length(text) <= most)
    }

    /// Returns how many entities of a kind there may be.
    #[must_use]
    pub fn most_of(&self, kind: EntityKind) -> Option<usize> {
        match kind {
            EntityKind::Link => self.links,
            EntityKind::Mention => self.mentions,
            EntityKind::Hashtag => self.hashtags,
            EntityKind::Cashtag => self.cashtags,
        }
    }

    /// Says everything that is wrong with a text.
    #[must_use]
    pub fn faults(&self, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        if self.least.is_some() || self.most.is_some() {
            let (length, unit) = (self.length(text), self.count.unit());
            if let Some(most) = self.most.filter(|most| length > *most) {
                faults.push(format!("has {length} {unit}, at most {most} are allowed"));
            }
            if let Some(least) = self.least.filter(|least| length < *least) {
                faults.push(format!("has {length} {unit}, at least {least} are needed"));
            }
        }
        if self.count == Count::Twitter
            && let Some(letter) = text.chars().find(|letter| NEVER.contains(letter))
        {
            faults.push(format!("has the letter U+{:04X}, which is not allowed", u32::from(letter)));
        }
        if [self.hashtags, self.mentions, self.cashtags, self.links].iter().all(Option::is_none) {
            return faults;
        }
        let found = entities(text);
        let kinds = [
            (EntityKind::Hashtag, "hashtags"),
            (EntityKind::Mention, "mentions"),
            (EntityKind::Cashtag, "cashtags"),
            (EntityKind::Link, "links"),
        ];
        for (kind, name) in kinds {
            let count = found.iter().filter(|entity| entity.kind == kind).count();
            if let Some(most) = self.most_of(kind).filter(|most| count > *most) {
                let allowed = if most == 0 { "none is".to_owned() } else { format!("at most {most} are") };
                faults.push(format!("has {count} {name}, {allowed} allowed"));
            }
        }
        faults
    }

    /// Returns a text without letters that are never allowed.
    #[must_use]
    pub fn cleaned(&self, text: &str) -> String {
        match self.count {
            Count::Twitter => text.replace(NEVER, ""),
            _ => text.to_owned(),
        }
    }
}

/// Reads a bound: a number, or a text that is one, as an expression gives it.
fn number(json: &Json) -> Option<usize> {
    match json {
        Json::String(text) => text.parse().ok(),
        other => other.to_string().parse().ok(),
    }
}

/// Returns a list of texts as the one line that `maxJoined` measures: commas between, quotes around one with space in it.
#[must_use]
pub fn joined<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let quoted = |text: &str| match text.contains(char::is_whitespace) {
        true => format!("\"{text}\""),
        false => text.to_owned(),
    };
    texts.into_iter().map(quoted).collect::<Vec<_>>().join(",")
}
