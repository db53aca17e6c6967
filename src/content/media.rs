//! Pictures and videos against what a platform takes.

use super::adapt::Changes;
use super::body;
use super::post::Medium;
use super::post::Post;
use super::rules::MediaRule;
use super::split::Cutting;
use crate::model::Value;
use crate::text;
use crate::text::fits_media;
use crate::text::media_type;
use crate::text::media_type_of;
use crate::text::most_bytes;

/// Holds the media of a post to what the platform takes; nothing is left out unless `shorten` allows it.
pub(super) fn hold(post: &mut Post, rule: Option<&MediaRule>, shorten: bool, changes: &mut Changes) {
    if post.media.is_empty() {
        return;
    }
    let Some(rule) = rule else {
        if shorten {
            post.media.clear();
            changes.note("media", "left out: none are taken here");
        } else {
            changes.fault("media", "none are taken here", "leave them out, or allow `shorten: true`");
        }
        return;
    };
    if shorten {
        strange(&mut post.media, rule, changes);
    }
    alone(&mut post.media, rule, shorten, changes);
    let count = post.media.len();
    if let Some(most) = rule.most.filter(|most| count > *most) {
        if shorten {
            post.media.truncate(most);
            changes.note("media", format!("only the first {most} of {count}: more are not allowed"));
        } else {
            let message = format!("has {count} items, at most {most} are allowed");
            changes.fault("media", message, "choose the best, or allow `shorten: true`, which takes the first");
        }
    }
    for (index, medium) in post.media.iter_mut().enumerate() {
        one(medium, rule, &format!("media[{index}]"), shorten, changes);
    }
}

/// Leaves out media of kinds that are not taken here, where there are others.
fn strange(media: &mut Vec<Medium>, rule: &MediaRule, changes: &mut Changes) {
    let is_taken = |medium: &Medium| {
        let file = rule.file.as_ref().filter(|_| !medium.file.is_null());
        let url = rule.url.as_ref().filter(|_| !medium.url.is_empty());
        file.is_some_and(|file| wrong_kind(&file.media_types, media_type(&medium.file).as_deref()).is_none())
            || url.is_some_and(|url| wrong_kind(&url.media_types, media_type_of(&medium.url)).is_none())
    };
    let taken = media.iter().filter(|medium| is_taken(medium)).count();
    if taken == 0 || taken == media.len() {
        return;
    }
    for (index, medium) in media.iter().enumerate().filter(|(_, medium)| !is_taken(medium)) {
        let kind = media_type(&medium.to_value()).map_or_else(|| "it".to_owned(), |kind| format!("`{kind}`"));
        changes.note(format!("media[{index}]"), format!("left out: {kind} is not taken here"));
    }
    media.retain(is_taken);
}

/// Sees to kinds of which one excludes all others.
fn alone(media: &mut Vec<Medium>, rule: &MediaRule, shorten: bool, changes: &mut Changes) {
    let is_alone = |medium: &Medium| {
        let kind = media_type(&medium.to_value());
        kind.is_some_and(|kind| rule.alone.iter().any(|pattern| fits_media(pattern, &kind)))
    };
    let Some(first) = media.iter().position(is_alone).filter(|_| media.len() > 1) else { return };
    if !shorten {
        let kind = media.get(first).and_then(|medium| media_type(&medium.to_value())).unwrap_or_default();
        let message = format!("is `{kind}`, which stands alone, and there are {} media", media.len());
        changes.fault(format!("media[{first}]"), message, "post it by itself, or allow `shorten: true`");
        return;
    }
    if first == 0 {
        media.truncate(1);
        changes.note("media", "only the first: it stands alone");
    } else {
        media.retain(|medium| !is_alone(medium));
        changes.note("media", "those that stand alone were left out");
    }
}

fn one(medium: &mut Medium, rule: &MediaRule, path: &str, shorten: bool, changes: &mut Changes) {
    if medium.file.is_null() && medium.url.is_empty() {
        changes.fault(path, "has neither `file` nor `url`", "give one of them");
    }
    if !medium.file.is_null() {
        file(medium, rule, path, changes);
    }
    if !medium.url.is_empty() {
        match &rule.url {
            None if medium.file.is_null() => changes.fault(path, "is taken as a file only", "give its `file`"),
            None => {
                medium.url.clear();
                changes.note(path, "its `url` was left out: a file is taken");
            }
            Some(url) => {
                let kind = media_type_of(&medium.url).map(str::to_owned);
                match wrong_kind(&url.media_types, kind.as_deref()) {
                    Some(message) if !medium.file.is_null() => {
                        medium.url.clear();
                        changes.note(path, format!("its file is taken: the `url` {message}"));
                    }
                    Some(message) => changes.fault(path, message, "convert it before it is posted"),
                    None => {}
                }
            }
        }
    }
    alt(medium, rule, path, shorten, changes);
    let unknown: Vec<_> = medium
        .rest
        .keys()
        .filter(|key| rule.known.as_ref().is_some_and(|known| !known.contains(&***key)))
        .cloned()
        .collect();
    for key in unknown {
        medium.rest.shift_remove(&key);
        changes.note(path, format!("its `{key}` was left out: it is not taken here"));
    }
}

/// Sees to the file of a medium. Where it is not what the platform takes, and there is a public copy, that is taken.
fn file(medium: &mut Medium, rule: &MediaRule, path: &str, changes: &mut Changes) {
    let kind = media_type(&medium.file);
    let has_copy = !medium.url.is_empty() && rule.url.is_some();
    let fault = match &rule.file {
        None => {
            Some(("cannot be sent, the platform fetches media itself".to_owned(), "give the `url` of a public copy"))
        }
        Some(file) => {
            let most = most_bytes(file.most_bytes.as_ref(), kind.as_deref());
            let size = if let Value::Blob(blob) = &medium.file { blob.size } else { 0 };
            let fetched = rule.url.as_ref().is_some_and(|url| wrong_kind(&url.media_types, kind.as_deref()).is_none());
            if file.by_url {
                Some((
                    "cannot be sent, the platform fetches media itself".to_owned(),
                    "give the `url` of a public copy",
                ))
            } else if let Some(message) = wrong_kind(&file.media_types, kind.as_deref()) {
                let mend = if fetched { "give the `url` of a public copy" } else { "convert it before it is posted" };
                Some((message, mend))
            } else if let Some(most) = most.filter(|most| size > *most) {
                let message = format!("has {size} bytes, at most {most} are allowed");
                Some((message, "make it smaller before it is posted"))
            } else {
                None
            }
        }
    };
    match fault {
        Some((message, _)) if has_copy => {
            medium.file = Value::Null;
            changes.note(path, format!("its `url` is taken: the file {message}"));
        }
        Some((message, mend)) => changes.fault(path, message, mend),
        None => {}
    }
}

fn wrong_kind(allowed: &[String], kind: Option<&str>) -> Option<String> {
    let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
    text::wrong_kind(&allowed, kind)
}

/// Sees to what is told to those who do not see the picture.
fn alt(medium: &mut Medium, rule: &MediaRule, path: &str, shorten: bool, changes: &mut Changes) {
    let own = format!("{path}.alt");
    match &rule.alt {
        None if medium.alt.is_empty() => {}
        None => {
            medium.alt.clear();
            changes.note(own, "left out: it is not taken here");
        }
        Some(_) if medium.alt.is_empty() && rule.required.contains("alt") => {
            changes.fault(own, "is needed", "say what is to be seen");
        }
        Some(_) if medium.alt.is_empty() => {
            changes.note(own, "is missing: those who do not see the picture learn nothing of it");
        }
        Some(measure) if !measure.fits(&medium.alt) => {
            let short = shorten.then(|| Cutting::of(&medium.alt).shortened(&|text| measure.fits(text))).flatten();
            match short {
                Some(short) => {
                    changes.note(own, body::shortened(measure, &medium.alt));
                    medium.alt = short;
                }
                None => changes.fault(own, body::too_long(measure, &medium.alt), body::way_out(shorten)),
            }
        }
        Some(_) => {}
    }
}
