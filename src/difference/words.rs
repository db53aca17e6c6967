//! Expressions and values as they are written, on a line.

use crate::model::Value;
use crate::template::Template;
use crate::template::TemplateTree;

/// The longest piece of a text that is shown in a line.
const MOST: usize = 70;

/// Returns a tree as the value that it is written as: expressions are their sources.
pub(super) fn written(tree: &TemplateTree) -> Value {
    match tree {
        TemplateTree::Literal(value) => value.clone(),
        TemplateTree::Template(template) => Value::from(template.source()),
        TemplateTree::List(items) => Value::list(items.iter().map(written).collect()),
        TemplateTree::Map(entries) => Value::map(entries.iter().map(|(key, tree)| (key.clone(), written(tree)))),
    }
}

/// Returns the source of an expression that may be missing, without its braces.
pub(super) fn source(template: Option<&Template>) -> Option<String> {
    template.map(|template| bare(template.source()).to_owned())
}

/// Takes the braces off a text that is one expression.
pub(super) fn bare(source: &str) -> &str {
    let inner = source.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).map(str::trim);
    inner.filter(|inner| !inner.contains("{{")).unwrap_or(source)
}

/// Returns a value on a line: a text as it is written, in backticks.
pub(super) fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => bare(text).replace('\n', "⏎"),
        other => other.to_string(),
    };
    format!("`{}`", clip(&text))
}

/// Says that something was `old` and is `new`, from where they begin to differ.
pub(super) fn from_to(old: &str, new: &str) -> String {
    let (old, new) = (old.replace('\n', "⏎"), new.replace('\n', "⏎"));
    let common = old.chars().zip(new.chars()).take_while(|(old, new)| old == new).count();
    // A little of what is equal stays, so that one sees where it is.
    let skipped = common.saturating_sub(15);
    let longest = old.chars().count().max(new.chars().count());
    if longest <= MOST || skipped < 10 {
        return format!("`{}` → `{}`", clip(&old), clip(&new));
    }
    let tail = |text: &str| format!("…{}", clip(&text.chars().skip(skipped).collect::<String>()));
    format!("`{}` → `{}`", tail(&old), tail(&new))
}

fn clip(text: &str) -> String {
    if text.chars().count() <= MOST { text.to_owned() } else { text.chars().take(MOST - 1).chain(['…']).collect() }
}

/// Returns `a`, `a and b`, `a, b and c`.
pub(super) fn and(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_shown_from_where_they_differ() {
        assert_eq!(from_to("a", "b"), "`a` → `b`");
        let long = "x".repeat(100);
        let shown = from_to(&format!("{long} old"), &format!("{long} new"));
        assert_eq!(shown, "`…xxxxxxxxxxxxxx old` → `…xxxxxxxxxxxxxx new`");
    }

    #[test]
    fn one_expression_needs_no_braces() {
        assert_eq!(bare("{{ a.b }}"), "a.b");
        assert_eq!(bare("{{ a }}{{ b }}"), "{{ a }}{{ b }}");
    }
}
