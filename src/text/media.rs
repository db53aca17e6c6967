//! Files beside a text: which media types a pattern means, how large one may be.

use serde_json::Value as Json;

use crate::model::Value;

/// Media types by the endings of file names.
const ENDINGS: [(&str, &str); 14] = [
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("png", "image/png"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("bmp", "image/bmp"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("mp4", "video/mp4"),
    ("m4v", "video/mp4"),
    ("mov", "video/quicktime"),
    ("webm", "video/webm"),
    ("pdf", "application/pdf"),
    ("svg", "image/svg+xml"),
];

/// Tells whether a media type is what a pattern such as `image/*` means.
#[must_use]
pub fn fits_media(pattern: &str, own: &str) -> bool {
    let own = own.split(';').next().unwrap_or(own).trim();
    pattern == own || pattern.strip_suffix("/*").is_some_and(|family| own.split('/').next() == Some(family))
}

/// Returns the media type that the name of a file, or the path of a URL, ends with.
#[must_use]
pub fn media_type_of(name: &str) -> Option<&'static str> {
    let path = name.split(['?', '#']).next().unwrap_or(name);
    let ending = path.rsplit('/').next()?.rsplit_once('.')?.1;
    ENDINGS.iter().find(|(own, _)| own.eq_ignore_ascii_case(ending)).map(|(_, kind)| *kind)
}

/// Returns the media type of a file, or of a medium `{ file, url }` of a post; nothing where nobody says.
#[must_use]
pub fn media_type(item: &Value) -> Option<String> {
    match item {
        Value::Blob(blob) => {
            let named = || blob.file_name.as_deref().and_then(media_type_of).map(str::to_owned);
            blob.media_type.clone().or_else(named)
        }
        Value::Map(map) => {
            let file = map.get("file").and_then(media_type);
            file.or_else(|| map.get("url").and_then(Value::as_str).and_then(media_type_of).map(str::to_owned))
        }
        _ => None,
    }
}

/// Reads the word `maxBytes`: a number, or one for each media type, of which the nearest counts.
#[must_use]
pub fn most_bytes(word: Option<&Json>, kind: Option<&str>) -> Option<u64> {
    let number = |json: &Json| plain(json).parse().ok();
    match word? {
        Json::Object(by_kind) => {
            let fitting = by_kind.iter().filter(|(pattern, _)| kind.is_some_and(|kind| fits_media(pattern, kind)));
            fitting.max_by_key(|(pattern, _)| !pattern.ends_with("/*")).and_then(|(_, most)| number(most))
        }
        most => number(most),
    }
}

/// Says what is wrong with the kind of a medium, where a schema lists in `media_types` those that are taken.
#[must_use]
pub fn wrong_kind(allowed: &[&str], kind: Option<&str>) -> Option<String> {
    let kind = kind.filter(|kind| !allowed.is_empty() && !allowed.iter().any(|allowed| fits_media(allowed, kind)))?;
    Some(format!("is `{kind}`, and only {} is taken", allowed.join(", ")))
}

/// Reads one entry of the word `beside`, and says why a property does not go with the media that a post has.
#[must_use]
pub fn not_beside(word: &Json, media: &[Value]) -> Option<String> {
    let most = word.get("maxItems").and_then(|most| plain(most).parse::<usize>().ok());
    if let Some(most) = most.filter(|most| media.len() > *most) {
        return Some(format!("goes with {most} at most, and there are {}", media.len()));
    }
    let allowed = word.get("media_types").and_then(Json::as_array).into_iter().flatten();
    let allowed: Vec<&str> = allowed.filter_map(Json::as_str).collect();
    let other = media.iter().filter_map(media_type).find(|kind| wrong_kind(&allowed, Some(kind)).is_some())?;
    Some(format!("goes with {} only, and one is `{other}`", allowed.join(", ")))
}

fn plain(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_beside_media_is_held_to_their_number_and_kinds() {
        let word: Json = serde_json::from_str(r#"{ "maxItems": 1, "media_types": ["image/*"] }"#).unwrap();
        let medium = |name: &str| Value::map([("url", Value::from(format!("https://example.com/{name}")))]);
        assert_eq!(not_beside(&word, &[medium("a.png")]), None);
        // Of what is not known nothing is said.
        assert_eq!(not_beside(&word, &[medium("a")]), None);
        let told = not_beside(&word, &[medium("a.mp4")]).unwrap();
        assert_eq!(told, "goes with image/* only, and one is `video/mp4`");
        let told = not_beside(&word, &[medium("a.png"), medium("b.png")]).unwrap();
        assert_eq!(told, "goes with 1 at most, and there are 2");
    }

    #[test]
    fn the_nearest_bound_counts() {
        let word: Json =
            serde_json::from_str(r#"{ "image/*": 5, "image/gif": 15, "video/*": "512", "x": 1 }"#).unwrap();
        let most = |kind: Option<&str>| most_bytes(Some(&word), kind);
        assert_eq!([most(Some("image/png")), most(Some("image/gif"))], [Some(5), Some(15)]);
        assert_eq!([most(Some("video/mp4; codecs=x")), most(Some("audio/ogg")), most(None)], [Some(512), None, None]);
        assert_eq!(most_bytes(Some(&Json::from(7)), None), Some(7));
    }

    #[test]
    fn a_medium_is_of_the_kind_that_it_or_its_name_says() {
        assert_eq!(media_type_of("https://cdn.example.com/a.b/c.JPG?x=1.png"), Some("image/jpeg"));
        assert_eq!(media_type_of("https://example.com"), None);
        let medium = Value::map([("url", Value::from("https://example.com/v.mp4"))]);
        assert_eq!(media_type(&medium).as_deref(), Some("video/mp4"));
    }
}
