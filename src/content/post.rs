//! A canonical post: what every platform is given, before it is adapted.

use crate::model::Map;
use crate::model::Value;

/// The keys that a canonical post has; a platform may take further ones.
pub const KEYS: [&str; 10] =
    ["text", "title", "description", "link", "media", "thread", "reply_to", "tags", "visibility", "made_with_ai"];

/// The longest text of a post, in bytes: what is longer is no post, and is not looked through.
const MOST_BYTES: usize = 256 * 1_024;

/// A canonical post. What is not given is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Post {
    pub text: String,
    pub title: String,
    pub description: String,
    pub link: String,
    pub media: Vec<Medium>,
    /// Further parts, posted as replies to one another.
    pub thread: Vec<String>,
    pub tags: Vec<String>,
    /// All else as it was given: `reply_to`, `visibility`, what only one platform knows.
    pub rest: Map,
}

/// A picture or a video of a post.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Medium {
    pub file: Value,
    pub url: String,
    pub alt: String,
    pub rest: Map,
}

impl Post {
    /// Reads a post.
    ///
    /// # Errors
    /// Everything in it that is of the wrong kind: the key, and what is wrong.
    pub fn read(value: &Value) -> Result<Self, Vec<(String, String)>> {
        let mut reading = Reading::default();
        let mut post = Self::default();
        let value = value.revealed();
        let Some(map) = value.as_map() else {
            return Err(vec![(String::new(), format!("a post is an object, found {}", value.kind().name()))]);
        };
        for (key, value) in map {
            match &**key {
                "text" => post.text = reading.text(key, value),
                "title" => post.title = reading.text(key, value),
                "description" => post.description = reading.text(key, value),
                "link" => post.link = reading.text(key, value),
                "thread" => post.thread = reading.texts(key, value),
                "tags" => post.tags = reading.texts(key, value),
                "media" => post.media = reading.media(value),
                _ if value.is_null() => {}
                _ => drop(post.rest.insert(key.clone(), value.clone())),
            }
        }
        if reading.faults.is_empty() { Ok(post) } else { Err(reading.faults) }
    }

    /// Returns the post as a value, without what is empty.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        let mut text = |key: &str, text: &str| {
            if !text.is_empty() {
                map.insert(key.into(), Value::from(text));
            }
        };
        text("text", &self.text);
        text("title", &self.title);
        text("description", &self.description);
        text("link", &self.link);
        let texts = |texts: &[String]| Value::list(texts.iter().map(|text| Value::from(text.as_str())).collect());
        if !self.thread.is_empty() {
            map.insert("thread".into(), texts(&self.thread));
        }
        if !self.tags.is_empty() {
            map.insert("tags".into(), texts(&self.tags));
        }
        if !self.media.is_empty() {
            map.insert("media".into(), Value::list(self.media.iter().map(Medium::to_value).collect()));
        }
        map.extend(self.rest.iter().map(|(key, value)| (key.clone(), value.clone())));
        Value::from(map)
    }

    /// Returns all that people read of the post, in order: for checks of its words.
    #[must_use]
    pub fn words(&self) -> String {
        let texts = [&self.title, &self.text].into_iter().chain(&self.thread).chain([&self.description]);
        texts.filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join("\n\n")
    }

    /// Returns each text of the post with where it stands.
    #[must_use]
    pub fn texts(&self) -> Vec<(String, &str)> {
        let mut texts = vec![
            ("title".to_owned(), self.title.as_str()),
            ("text".to_owned(), self.text.as_str()),
            ("description".to_owned(), self.description.as_str()),
        ];
        let numbered = |key: &str, index: usize| format!("{key}[{index}]");
        texts.extend(self.thread.iter().enumerate().map(|(index, part)| (numbered("thread", index), part.as_str())));
        texts.extend(self.tags.iter().enumerate().map(|(index, tag)| (numbered("tags", index), tag.as_str())));
        let alts = self.media.iter().enumerate();
        texts.extend(alts.map(|(index, medium)| (format!("media[{index}].alt"), medium.alt.as_str())));
        texts.retain(|(_, text)| !text.is_empty());
        texts
    }
}

impl Medium {
    /// Returns the medium as a value, without what is empty.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        if !self.file.is_null() {
            map.insert("file".into(), self.file.clone());
        }
        for (key, text) in [("url", &self.url), ("alt", &self.alt)] {
            if !text.is_empty() {
                map.insert(key.into(), Value::from(text.as_str()));
            }
        }
        map.extend(self.rest.iter().map(|(key, value)| (key.clone(), value.clone())));
        Value::from(map)
    }
}

#[derive(Debug, Default)]
struct Reading {
    faults: Vec<(String, String)>,
}

impl Reading {
    fn wrong(&mut self, key: &str, expected: &str, found: &Value) {
        self.faults.push((key.to_owned(), format!("expected {expected}, found {}", found.kind().name())));
    }

    /// Reads a text; space at its ends is nobody's.
    fn text(&mut self, key: &str, value: &Value) -> String {
        match value {
            Value::Null => String::new(),
            Value::String(text) if text.len() > MOST_BYTES => {
                let message = format!("has {} bytes, more than any platform takes", text.len());
                self.faults.push((key.to_owned(), message));
                String::new()
            }
            Value::String(text) => text.trim().to_owned(),
            Value::Map(_) | Value::List(_) | Value::Blob(_) => {
                self.wrong(key, "a text", value);
                String::new()
            }
            other => other.to_text(),
        }
    }

    fn texts(&mut self, key: &str, value: &Value) -> Vec<String> {
        match value {
            Value::Null => Vec::new(),
            Value::List(items) => {
                let texts = items.iter().map(|item| self.text(key, item)).collect::<Vec<_>>();
                texts.into_iter().filter(|text| !text.is_empty()).collect()
            }
            other => {
                self.wrong(key, "a list of texts", other);
                Vec::new()
            }
        }
    }

    fn media(&mut self, value: &Value) -> Vec<Medium> {
        let items = match value {
            Value::Null => &[],
            Value::List(items) => items.as_slice(),
            other => {
                self.wrong("media", "a list of media", other);
                return Vec::new();
            }
        };
        items.iter().enumerate().map(|(index, item)| self.medium(index, item)).collect()
    }

    fn medium(&mut self, index: usize, value: &Value) -> Medium {
        let key = format!("media[{index}]");
        let mut medium = Medium::default();
        let Some(map) = value.as_map() else {
            self.wrong(&key, "`{ file, url, alt }`", value);
            return medium;
        };
        for (name, value) in map {
            match &**name {
                "file" if matches!(value, Value::Blob(_) | Value::Null) => medium.file = value.clone(),
                "file" => self.wrong(&format!("{key}.file"), "a file", value),
                "url" => medium.url = self.text(&format!("{key}.url"), value),
                "alt" => medium.alt = self.text(&format!("{key}.alt"), value),
                _ if value.is_null() => {}
                _ => drop(medium.rest.insert(name.clone(), value.clone())),
            }
        }
        medium
    }
}
