//! A canonical post becomes what one platform takes.

use std::collections::BTreeMap;

use super::body;
use super::body::Body;
use super::media;
use super::post::Medium;
use super::post::Post;
use super::rules::Rules;
use super::split::Cutting;
use super::tags;
use crate::text::Measure;
use crate::text::links;
use crate::text::not_beside;

/// When a text that is too long becomes a thread, where the platform has threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threads {
    #[default]
    Auto,
    /// And the parts are numbered, `1/3`.
    Numbered,
    Never,
}

/// What is wished of an adaptation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wishes {
    pub threads: Threads,
    /// Whether something may be left out: a text is cut behind a sentence, media beyond the number are not posted.
    pub shorten: bool,
    /// By name what the platform calls those who are mentioned; nothing where it has no name for them.
    pub mentions: BTreeMap<String, Option<String>>,
}

/// A post as a platform takes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adapted {
    pub post: Post,
    /// What was changed, or is worth a look.
    pub notes: Vec<Note>,
    /// What is in the way. With any, the post is not what the platform takes.
    pub faults: Vec<Fault>,
}

/// Something that was done to a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where, e.g. `thread[1]`.
    pub at: String,
    pub message: String,
}

/// Something that is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at: String,
    pub message: String,
    /// The way out.
    pub mend: Option<String>,
}

/// Gathers what is done and what is in the way.
#[derive(Debug, Default)]
pub(super) struct Changes {
    notes: Vec<Note>,
    faults: Vec<Fault>,
}

impl Changes {
    pub(super) fn note(&mut self, at: impl Into<String>, message: impl Into<String>) {
        self.notes.push(Note { at: at.into(), message: message.into() });
    }

    pub(super) fn fault(&mut self, at: impl Into<String>, message: impl Into<String>, mend: impl Into<String>) {
        self.faults.push(Fault { at: at.into(), message: message.into(), mend: Some(mend.into()) });
    }
}

/// Returns the mentions whose new name is itself one that is mapped: adapting twice would map them twice.
#[must_use]
pub fn twice_mapped(mentions: &BTreeMap<String, Option<String>>) -> Vec<String> {
    let is_key = |by: &str, own: &str| {
        let name = by.trim_start_matches('@');
        by.starts_with('@')
            && !name.eq_ignore_ascii_case(own)
            && mentions.keys().any(|key| bare(key).eq_ignore_ascii_case(name))
    };
    let twice = mentions.iter().filter(|(own, by)| by.as_deref().is_some_and(|by| is_key(by, bare(own))));
    twice.map(|(own, _)| own.clone()).collect()
}

fn bare(name: &str) -> &str {
    name.trim_start_matches('@')
}

/// Adapts a post to the rules of a platform. It is deterministic, and adapting what was adapted changes nothing.
#[must_use]
pub fn adapt(post: Post, rules: &Rules, wishes: &Wishes) -> Adapted {
    let mut changes = Changes::default();
    let mut post = post;
    names(&mut post, wishes, &mut changes);
    place(&mut post, rules, &mut changes);
    media::hold(&mut post, rules.media.as_ref(), wishes.shorten, &mut changes);
    let link = link(&mut post, rules, &mut changes);
    let hashtags = hashtags(&mut post, rules, &mut changes);
    lay_text(&mut post, rules, wishes, &link, &hashtags, &mut changes);
    hold(&mut post.title, "title", rules.title, wishes, &mut changes);
    if rules.text.is_some() {
        hold(&mut post.description, "description", rules.description, wishes, &mut changes);
    }
    title(&mut post, rules, &mut changes);
    rest(&mut post, rules, &mut changes);
    needed(&post, rules, &mut changes);
    Adapted { post, notes: changes.notes, faults: changes.faults }
}

/// Calls those who are mentioned what the platform calls them.
fn names(post: &mut Post, wishes: &Wishes, changes: &mut Changes) {
    if wishes.mentions.is_empty() {
        return;
    }
    let Post { text, title, description, thread, .. } = post;
    let parts = thread.iter_mut().enumerate().map(|(index, part)| (format!("thread[{index}]"), part));
    let single = [("text", text), ("title", title), ("description", description)];
    for (at, text) in single.map(|(at, text)| (at.to_owned(), text)).into_iter().chain(parts) {
        for change in tags::map_mentions(text, &wishes.mentions) {
            changes.note(at.as_str(), change);
        }
    }
}

/// Puts every text where the platform has a place for it.
fn place(post: &mut Post, rules: &Rules, changes: &mut Changes) {
    if !post.thread.is_empty() && rules.thread.is_none() {
        let parts = [std::mem::take(&mut post.text)].into_iter().chain(std::mem::take(&mut post.thread));
        post.text = parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n");
        changes.note("thread", "became one text: there are no threads here");
    }
    let measures = [rules.text, rules.title, rules.description, rules.thread.as_ref().map(|thread| thread.part)];
    let [text, title, description, part] = measures.map(Option::unwrap_or_default);
    let texts = [(&mut post.text, text), (&mut post.title, title), (&mut post.description, description)];
    let further = post.thread.iter_mut().map(|own| (own, part));
    for (own, measure) in texts.into_iter().chain(further) {
        let cleaned = measure.cleaned(own);
        *own = cleaned.trim().to_owned();
    }
    post.thread.retain(|part| !part.is_empty());
    if post.text.is_empty() && !post.thread.is_empty() {
        post.text = post.thread.remove(0);
    }
    if rules.description.is_none() && !rules.open && !post.description.is_empty() {
        give("description", &mut post.description, &mut post.text, changes);
    }
    if rules.title.is_none() && !rules.open && !post.title.is_empty() {
        give("title", &mut post.title, &mut post.text, changes);
    }
    if rules.text.is_none() && rules.description.is_some() && !post.text.is_empty() {
        if post.description.is_empty() {
            post.description = std::mem::take(&mut post.text);
            changes.note("description", "is the text");
        } else {
            post.text.clear();
            changes.note("text", "left out: `description` says it here");
        }
    }
}

/// Makes a text of one that has no place, where there is no other.
fn give(name: &str, own: &mut String, text: &mut String, changes: &mut Changes) {
    let given = std::mem::take(own);
    if text.is_empty() {
        *text = given;
        changes.note("text", format!("is the `{name}`, which has no place of its own here"));
    } else {
        changes.note(name, "left out: it has no place here");
    }
}

/// Returns the link that goes behind the text.
fn link(post: &mut Post, rules: &Rules, changes: &mut Changes) -> String {
    let measure = rules.text.or(rules.description);
    let is_live = measure.is_none_or(|measure| measure.live_links);
    let texts = [&post.text, &post.description].into_iter().chain(&post.thread);
    let has = texts.filter(|text| !links(text).is_empty()).count();
    if !is_live && has > 0 {
        changes.note("text", "has a link, which nobody can follow here");
    }
    let is_given = |name: &String| post.to_value().get(name).is_some();
    let media: Vec<_> = post.media.iter().map(Medium::to_value).collect();
    let is_beside = rules.link_beside.as_ref().is_none_or(|word| not_beside(word, &media).is_none());
    let own = rules.open || rules.link && is_beside && !rules.link_excludes.iter().any(is_given);
    if post.link.is_empty() || own {
        return String::new();
    }
    let link = std::mem::take(&mut post.link);
    let texts = [&post.text, &post.description].into_iter().chain(&post.thread);
    if texts.into_iter().any(|text| text.contains(link.as_str())) {
        return String::new();
    }
    if measure.is_none() || !is_live {
        changes.note("link", "left out: nobody can follow a link in a text here");
        return String::new();
    }
    link
}

/// Returns the hashtags that become of the tags, where the platform has no place for tags.
fn hashtags(post: &mut Post, rules: &Rules, changes: &mut Changes) -> Vec<String> {
    if let Some(rule) = &rules.tags {
        let left_out = tags::hold(&mut post.tags, rule);
        if !left_out.is_empty() {
            let listed = left_out.iter().map(|tag| format!("`{tag}`")).collect::<Vec<_>>().join(", ");
            changes.note("tags", format!("{listed} left out: there is no room, or it is too long"));
        }
        return Vec::new();
    }
    if rules.open || post.tags.is_empty() {
        return Vec::new();
    }
    if rules.text.is_none() && rules.description.is_none() {
        post.tags.clear();
        changes.note("tags", "left out: they have no place here");
        return Vec::new();
    }
    let mut made: Vec<String> = Vec::new();
    for tag in std::mem::take(&mut post.tags) {
        match tags::hashtag(&tag) {
            Some(hashtag) if made.iter().any(|own| own.eq_ignore_ascii_case(&hashtag)) => {}
            Some(hashtag) => made.push(hashtag),
            None => changes.note("tags", format!("`{tag}` left out: it makes no hashtag")),
        }
    }
    made
}

/// Lays the text, or the description where that is the text, out in parts.
fn lay_text(post: &mut Post, rules: &Rules, wishes: &Wishes, link: &str, hashtags: &[String], changes: &mut Changes) {
    let Some((first, in_text)) =
        rules.text.map(|text| (text, true)).or_else(|| rules.description.map(|description| (description, false)))
    else {
        return;
    };
    let text = std::mem::take(if in_text { &mut post.text } else { &mut post.description });
    let thread = rules.thread.as_ref().filter(|_| in_text);
    let mut given: Vec<String> = std::mem::take(&mut post.thread);
    if !text.is_empty() || !given.is_empty() {
        given.insert(0, text);
    }
    let further = thread.map(|thread| thread.part);
    let body = Body { first, further, threads: wishes.threads, shorten: wishes.shorten, link, hashtags };
    let laid = body.lay(&given);
    let name = |number: usize| match (number, in_text) {
        (0, true) => "text".to_owned(),
        (0, false) => "description".to_owned(),
        (number, _) => format!("thread[{}]", number - 1),
    };
    for (number, message) in laid.notes {
        changes.note(name(number), message);
    }
    for (number, message, mend) in laid.faults {
        changes.faults.push(Fault { at: name(number), message, mend });
    }
    let mut parts = laid.parts.into_iter();
    let first = parts.next().unwrap_or_default();
    *(if in_text { &mut post.text } else { &mut post.description }) = first;
    post.thread = parts.collect();
    let count = post.thread.len();
    if let Some(most) = thread.and_then(|thread| thread.most).filter(|most| count > *most) {
        let message = format!("has {count} further parts, at most {most} are allowed");
        changes.fault("thread", message, "write a shorter text");
    }
}

/// Holds a text to its length.
fn hold(text: &mut String, name: &str, measure: Option<Measure>, wishes: &Wishes, changes: &mut Changes) {
    let Some(measure) = measure.filter(|measure| !measure.fits(text)) else { return };
    let short = wishes.shorten.then(|| Cutting::of(text).shortened(&|text| measure.fits(text))).flatten();
    match short {
        Some(short) => {
            changes.note(name, body::shortened(&measure, text));
            *text = short;
        }
        None => changes.fault(name, body::too_long(&measure, text), body::way_out(wishes.shorten)),
    }
}

/// Makes a title where one is needed and none is given: the first sentence.
fn title(post: &mut Post, rules: &Rules, changes: &mut Changes) {
    let is_needed = needs(post, rules).iter().any(|name| name == "title");
    let Some(measure) = rules.title.filter(|_| post.title.is_empty() && is_needed) else { return };
    let from = if post.text.is_empty() { &post.description } else { &post.text };
    let line = from.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let mut marks = line.match_indices(['.', '!', '?']).map(|(at, _)| at);
    let ends = marks.find(|at| line.get(at + 1..).is_some_and(|rest| rest.starts_with(' ')));
    let sentence = ends.and_then(|at| line.get(..=at)).unwrap_or(line).trim_end_matches('.');
    let title = if measure.fits(sentence) {
        Some(sentence.to_owned())
    } else {
        Cutting::of(sentence).shortened(&|text| measure.fits(text))
    };
    if let Some(title) = title.filter(|title| !title.is_empty()) {
        changes.note("title", format!("`{title}`, the beginning of the text: one is needed and none was given"));
        post.title = title;
    }
}

/// Leaves out what the platform does not know.
fn rest(post: &mut Post, rules: &Rules, changes: &mut Changes) {
    let unknown: Vec<_> = post.rest.keys().filter(|key| !rules.takes(key)).cloned().collect();
    for key in unknown {
        post.rest.shift_remove(&key);
        changes.note(key.to_string(), "left out: it is not taken here");
    }
}

/// Lists what the platform needs of a post as it is.
fn needs(post: &Post, rules: &Rules) -> Vec<String> {
    let value = post.to_value();
    let given = |name: &&String| value.get(name).is_some();
    let dependent = rules.dependent.iter().filter(|(name, _)| given(name)).flat_map(|(_, needed)| needed);
    rules.required.iter().chain(dependent).cloned().collect()
}

/// Tells what the platform needs and the post does not have.
fn needed(post: &Post, rules: &Rules, changes: &mut Changes) {
    let value = post.to_value();
    for name in &needs(post, rules) {
        let is_told = changes.faults.iter().any(|fault| fault.at.split('[').next() == Some(name));
        if !is_told && value.get(name).is_none() {
            changes.fault(name.as_str(), "is needed", format!("give `{name}`"));
        }
    }
}
