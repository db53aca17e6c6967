//! The front matter of a prompt: settings in YAML between two lines `---` at the beginning of its file.

use std::borrow::Cow;
use std::sync::Arc;

use super::SyntaxError;
use crate::model::Value;
use crate::yaml;
use crate::yaml::TreeKind;

/// Splits a file into its front matter, an object, and its text, in which empty lines stand for it so that places stay. The
/// third is how many there are.
///
/// # Errors
/// A front matter that is not closed, is no YAML, or no object.
pub(super) fn split(source: &str) -> Result<(Value, Cow<'_, str>, usize), SyntaxError> {
    let none = || Ok((Value::Null, Cow::Borrowed(source), 0));
    let Some(rest) = source.strip_prefix("---\n").or_else(|| source.strip_prefix("---\r\n")) else { return none() };
    let start = source.len() - rest.len();
    let mut length = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            let front = rest.get(..length).unwrap_or_default();
            let body = rest.get(length + line.len()..).unwrap_or_default();
            let lines = 2 + front.matches('\n').count();
            return Ok((read(front, start)?, format!("{}{body}", "\n".repeat(lines)).into(), lines));
        }
        length += line.len();
    }
    Err(SyntaxError { message: "the front matter is not closed; write `---` behind it".to_owned(), range: 0..3 })
}

fn read(front: &str, start: usize) -> Result<Value, SyntaxError> {
    let range = start..start + front.len();
    if front.trim().is_empty() {
        return Ok(Value::map::<&str>([]));
    }
    let file: Arc<str> = "front matter".into();
    let (tree, diagnostics) = yaml::parse(&file, front);
    if let Some(told) = diagnostics.first() {
        return Err(SyntaxError { message: format!("the front matter: {}", told.message), range });
    }
    match tree {
        Some(tree) if matches!(tree.kind, TreeKind::Mapping(_)) => Ok(tree.to_value()),
        None => Ok(Value::map::<&str>([])),
        // Comments alone.
        Some(tree) if tree.is_null() => Ok(Value::map::<&str>([])),
        Some(tree) => {
            let message = format!("the front matter is an object such as `max_tokens: 400`, found {}", tree.describe());
            Err(SyntaxError { message, range })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_stand_before_the_text_and_lines_keep_their_places() {
        let (front, body, lines) = split("---\nmodel: a\nstop: [x]\n---\nHello\n").unwrap();
        assert_eq!(front.to_string(), r#"{"model":"a","stop":["x"]}"#);
        assert_eq!((&*body, lines), ("\n\n\n\nHello\n", 4));
        for text in ["Hello", "----\nx\n", "", "--- \nx"] {
            let (front, body, lines) = split(text).unwrap();
            assert_eq!((front, &*body, lines), (Value::Null, text, 0));
        }
        assert_eq!(split("---\n---\nx").unwrap().0, Value::map::<&str>([]));
        for (text, said) in [
            ("---\nmodel: a\n", "not closed"),
            ("---\n[a]\n---\n", "is an object"),
            ("---\na: [\n---\n", "front matter: "),
        ] {
            let error = split(text).unwrap_err();
            assert!(error.message.contains(said), "{}", error.message);
        }
    }
}
