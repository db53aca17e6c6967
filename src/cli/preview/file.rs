//! A post in a file: YAML, or Markdown with front matter.

use std::path::Path;
use std::sync::Arc;

use crate::app::Fault;
use crate::content::KEYS;
use crate::content::Post;
use crate::diag::Diagnostic;
use crate::diag::Sources;
use crate::diag::did_you_mean;
use crate::model::Blob;
use crate::model::Map;
use crate::model::Value;
use crate::text::media_type_of;
use crate::yaml;

/// Reads a post from a file.
///
/// # Errors
/// What cannot be read, and what is no post.
pub(super) fn read(path: &Path) -> Result<Post, Fault> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fault::Usage(format!("cannot read `{shown}`: {error}")))?
        .replace("\r\n", "\n");
    let is_markdown = path.extension().is_some_and(|ending| ending == "md" || ending == "markdown");
    let mut map = if is_markdown { markdown(&shown, &text)? } else { mapping(&shown, &text)? };
    let folder = path.parent().unwrap_or(Path::new("."));
    if let Some(Value::List(items)) = map.get("media") {
        let media = items.iter().map(|item| medium(folder, item)).collect::<Result<Vec<_>, _>>()?;
        map.insert("media".into(), Value::list(media));
    }
    Post::read(&Value::from(map)).map_err(|wrong| {
        let told = wrong.into_iter().map(|(key, message)| format!("`{key}` {message}"));
        Fault::Usage(format!("`{shown}` is no post: {}", told.collect::<Vec<_>>().join("; ")))
    })
}

fn mapping(file: &str, text: &str) -> Result<Map, Fault> {
    let name: Arc<str> = file.into();
    let (tree, diagnostics) = yaml::parse(&name, text);
    if !diagnostics.is_empty() {
        return Err(invalid(&name, text, diagnostics));
    }
    let value = tree.map(|tree| tree.to_value()).unwrap_or_default();
    let Some(map) = value.as_map() else {
        return Err(Fault::Usage(format!("`{file}` is no post: expected `text:` and other keys of one")));
    };
    // What only one platform knows may stand here, so a word that is nearly one of ours is all that can be told.
    for key in map.keys().filter(|key| !KEYS.contains(&&***key)) {
        if let Some(near) = did_you_mean(key, KEYS) {
            return Err(Fault::Usage(format!("`{file}`: a post has no `{key}`; did you mean `{near}`?")));
        }
    }
    Ok(map.clone())
}

fn invalid(file: &Arc<str>, text: &str, diagnostics: Vec<Diagnostic>) -> Fault {
    let mut sources = Sources::default();
    sources.insert(file.clone(), text.into());
    Fault::Invalid { diagnostics, sources, files: 1 }
}

/// Reads front matter between two lines `---`, and behind it the text: lines of a paragraph become one, as Markdown means
/// them, and a heading at the beginning is the title where the front matter has none.
fn markdown(file: &str, text: &str) -> Result<Map, Fault> {
    let text = text.trim_start_matches('\u{feff}');
    let front = text.strip_prefix("---\n").and_then(|rest| {
        let end = rest.match_indices("---").find(|(at, _)| {
            let starts = *at == 0 || rest.get(..*at).is_some_and(|before| before.ends_with('\n'));
            let behind = rest.get(at + 3..).unwrap_or_default();
            starts && (behind.is_empty() || behind.starts_with('\n'))
        });
        let (at, _) = end?;
        Some((rest.get(..at)?, rest.get(at + 3..)?))
    });
    let (front, body) = front.unwrap_or(("", text));
    // The line above keeps its place, so that faults are told where they stand.
    let mut map = if front.trim().is_empty() { Map::new() } else { mapping(file, &format!("\n{front}"))? };
    let mut body = body.trim();
    if let Some(rest) = body.strip_prefix("# ") {
        let (heading, behind) = rest.split_once('\n').unwrap_or((rest, ""));
        map.entry("title".into()).or_insert_with(|| Value::from(heading.trim()));
        body = behind.trim();
    }
    if !body.is_empty() {
        let text = paragraphs(body);
        map.entry("text".into()).or_insert_with(|| Value::from(text));
    }
    Ok(map)
}

/// Joins the lines of paragraphs; those of lists, quotes and tables stay.
fn paragraphs(body: &str) -> String {
    let mut out = String::new();
    let mut breaks = true;
    for line in body.lines() {
        let bare = line.trim();
        let stands = bare.is_empty()
            || line.starts_with("    ")
            || bare.starts_with(['-', '*', '+', '>', '|', '#'])
            || bare.split_once(['.', ')']).is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        if !out.is_empty() {
            out.push(if breaks || stands { '\n' } else { ' ' });
        }
        out.push_str(bare);
        breaks = bare.is_empty() || line.ends_with("  ") || line.ends_with('\\');
    }
    out
}

/// Reads a medium: a path beside the file, or `{ file, url, alt }`.
fn medium(folder: &Path, item: &Value) -> Result<Value, Fault> {
    let file = |path: &str| -> Result<Value, Fault> {
        let found = folder.join(path);
        let size = std::fs::metadata(&found).map_err(|error| Fault::Usage(format!("cannot read `{path}`: {error}")))?;
        let name = found.file_name().map(|name| name.to_string_lossy().into_owned());
        // Nothing is sent from here, so nothing is kept.
        let address = format!("file:{path}");
        let media_type = media_type_of(path).map(str::to_owned);
        Ok(Value::Blob(Arc::new(Blob { address, size: size.len(), offset: None, media_type, file_name: name })))
    };
    match item {
        Value::String(path) if path.starts_with("http://") || path.starts_with("https://") => {
            Ok(Value::map([("url", item.clone())]))
        }
        Value::String(path) => Ok(Value::map([("file", file(path)?)])),
        Value::Map(map) => {
            let mut map = Map::clone(map);
            if let Some(path) = map.get("file").and_then(Value::as_str).map(str::to_owned) {
                map.insert("file".into(), file(&path)?);
            }
            Ok(Value::from(map))
        }
        other => Ok(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_is_a_post() {
        let text = "---\ntitle: T\ntags: [a]\n---\n\n# Heading\n\nOne line\nand another.\n\n- a\n- b\nend\n";
        let map = markdown("a.md", text).unwrap();
        assert_eq!(map["title"].as_str(), Some("T"));
        assert_eq!(map["text"].as_str(), Some("One line and another.\n\n- a\n- b end"));
        let map = markdown("a.md", "# Heading\nText").unwrap();
        assert_eq!((map["title"].as_str(), map["text"].as_str()), (Some("Heading"), Some("Text")));
        let map = markdown("a.md", "---\ntitle: only\n---\n").unwrap();
        assert_eq!(Value::from(map).to_string(), r#"{"title":"only"}"#);
        assert!(
            matches!(markdown("a.md", "---\ntitel: x\n---\n"), Err(Fault::Usage(text)) if text.contains("`title`"))
        );
    }
}
