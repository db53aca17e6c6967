//! What a platform takes, as the input schema of its `publish` says it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::text::Count;
use crate::text::Measure;

/// What a platform takes.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub(super) text: Option<Measure>,
    pub(super) title: Option<Measure>,
    pub(super) description: Option<Measure>,
    pub(super) link: bool,
    /// What a link of its own does not go with: it stands in the text then.
    pub(super) link_excludes: Vec<String>,
    /// How many and which media a link of its own goes with.
    pub(super) link_beside: Option<Json>,
    pub(super) thread: Option<ThreadRule>,
    pub(super) tags: Option<TagRule>,
    pub(super) media: Option<MediaRule>,
    pub(super) required: BTreeSet<String>,
    /// What is needed where something else is given.
    pub(super) dependent: BTreeMap<String, Vec<String>>,
    /// All that is declared.
    pub(super) known: BTreeSet<String>,
    /// Whether what is not declared is taken, too.
    pub(super) open: bool,
}

/// How long a text of a post is as the platform counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Length {
    /// Where it stands, e.g. `thread[1]`.
    pub at: String,
    pub text: String,
    pub length: usize,
    pub most: Option<usize>,
    /// What is counted.
    pub unit: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct ThreadRule {
    /// How many further parts there may be.
    pub(super) most: Option<usize>,
    pub(super) part: Measure,
}

#[derive(Clone, Debug)]
pub(super) struct TagRule {
    pub(super) most: Option<usize>,
    pub(super) tag: Measure,
    /// How long all may be in one line, and how that is counted.
    pub(super) joined: Option<(usize, Count)>,
}

#[derive(Clone, Debug)]
pub(super) struct MediaRule {
    pub(super) most: Option<usize>,
    /// Kinds of which one excludes all others.
    pub(super) alone: Vec<String>,
    pub(super) file: Option<FileRule>,
    pub(super) url: Option<UrlRule>,
    pub(super) alt: Option<Measure>,
    pub(super) required: BTreeSet<String>,
    /// What is declared of an item; nothing where that is open.
    pub(super) known: Option<BTreeSet<String>>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct UrlRule {
    pub(super) media_types: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct FileRule {
    pub(super) media_types: Vec<String>,
    pub(super) most_bytes: Option<Json>,
    /// The platform fetches the file by itself.
    pub(super) by_url: bool,
}

impl Rules {
    /// Reads the input schema of an operation `publish`, whose computed words are evaluated.
    #[must_use]
    pub fn of(schema: &Json) -> Self {
        let properties = schema.get("properties").and_then(Json::as_object);
        let property = |name: &str| properties.and_then(|properties| properties.get(name));
        let measure = |name: &str| property(name).map(measure_of);
        let thread = property("thread").map(|thread| ThreadRule {
            most: number(thread, "maxItems"),
            // Where a part says nothing itself, it is as the first one.
            part: match thread.get("items").filter(|items| items.get("maxLength").is_some()) {
                Some(items) => measure_of(items),
                None => measure("text").unwrap_or_default(),
            },
        });
        let tags = property("tags").map(|tags| TagRule {
            most: number(tags, "maxItems"),
            tag: tags.get("items").map(measure_of).unwrap_or_default(),
            joined: number(tags, "maxJoined").map(|most| (most, measure_of(tags).count)),
        });
        Self {
            text: measure("text"),
            title: measure("title"),
            description: measure("description"),
            link: property("link").is_some(),
            link_excludes: names(property("link").and_then(|link| link.get("excludes"))),
            link_beside: property("link").and_then(|link| link.get("beside")?.get("media")).cloned(),
            thread,
            tags,
            media: property("media").map(media),
            required: names(schema.get("required")).into_iter().collect(),
            dependent: schema
                .get("dependentRequired")
                .and_then(Json::as_object)
                .into_iter()
                .flatten()
                .map(|(name, needed)| (name.clone(), names(Some(needed))))
                .collect(),
            known: properties.into_iter().flatten().map(|(name, _)| name.clone()).collect(),
            open: properties.is_none() || schema.get("additionalProperties").is_some_and(|it| *it != Json::Bool(false)),
        }
    }

    /// Tells whether the platform takes something under a name.
    pub(super) fn takes(&self, name: &str) -> bool {
        self.open || self.known.contains(name)
    }

    /// Measures each text of an adapted post that has a measure.
    #[must_use]
    pub fn lengths(&self, post: &super::Post) -> Vec<Length> {
        let measured = |path: &str| {
            let name = path.split('[').next().unwrap_or(path);
            match name {
                "text" => self.text,
                "title" => self.title,
                "description" => self.description,
                "thread" => self.thread.as_ref().map(|thread| thread.part),
                _ => None,
            }
        };
        let mut lengths = Vec::new();
        for (at, text) in post.texts() {
            if let Some(measure) = measured(&at) {
                let (length, most, unit) = (measure.length(text), measure.most, measure.count.unit());
                lengths.push(Length { at, text: text.to_owned(), length, most, unit });
            }
        }
        lengths
    }
}

fn media(schema: &Json) -> MediaRule {
    let items = schema.get("items");
    let properties = items.and_then(|items| items.get("properties")).and_then(Json::as_object);
    let file = properties.and_then(|properties| properties.get("file"));
    MediaRule {
        most: number(schema, "maxItems"),
        alone: names(schema.get("alone")),
        file: file.map(|file| FileRule {
            media_types: names(file.get("media_types")),
            most_bytes: file.get("maxBytes").cloned(),
            by_url: file.get("deliver").and_then(Json::as_str) == Some("url"),
        }),
        url: match properties {
            Some(properties) => properties.get("url").map(|url| UrlRule { media_types: names(url.get("media_types")) }),
            None => Some(UrlRule::default()),
        },
        alt: properties.and_then(|properties| properties.get("alt")).map(measure_of),
        required: names(items.and_then(|items| items.get("required"))).into_iter().collect(),
        known: properties.map(|properties| properties.keys().cloned().collect()),
    }
}

fn measure_of(schema: &Json) -> Measure {
    schema.as_object().map(Measure::of).unwrap_or_default()
}

fn number(schema: &Json, word: &str) -> Option<usize> {
    let json = schema.get(word)?;
    json.as_str().map_or_else(|| json.to_string(), str::to_owned).parse().ok()
}

fn names(list: Option<&Json>) -> Vec<String> {
    list.and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect()
}
