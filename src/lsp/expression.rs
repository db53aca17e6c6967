//! Expressions as they are being typed, and the names in them, told by letters: they need not be whole.

use std::ops::Range;

/// How far back the beginning of an expression is looked for, in bytes.
const FARTHEST: usize = 20_000;

/// What is being typed within `{{ }}` or `{% %}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expression {
    pub(super) what: What,
    /// What of it is typed already.
    pub(super) word: Range<usize>,
}

/// What may stand at a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A name, or a function.
    Root,
    /// A member of what the path leads to; items of lists are `*`.
    Member(Vec<String>),
    /// Behind `|`.
    Filter,
    /// Behind `is`.
    Test,
    /// Within a text.
    Nothing,
}

/// A name that an expression reads: `steps.ID`, `inputs.NAME`, `secrets.NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mention {
    pub(super) root: &'static str,
    pub(super) name: String,
    /// Where the name is written.
    pub(super) range: Range<usize>,
    /// Where the root begins.
    pub(super) start: usize,
}

const ROOTS: [&str; 3] = ["steps", "inputs", "secrets"];

/// Tells what is being typed at a cursor; nothing outside of an expression. A text of several lines may hold one that began
/// on a line above.
pub(super) fn at(text: &str, offset: usize, several: bool) -> Option<Expression> {
    let before = text.get(..offset)?;
    let line = before.rfind('\n').map_or(0, |end| end + 1);
    let from = if several { before.ceil_char_boundary(offset.saturating_sub(FARTHEST)) } else { line };
    let part = before.get(from..)?;
    let opened = [part.rfind("{{"), part.rfind("{%")].into_iter().flatten().max()?;
    let inside = part.get(opened + 2..)?;
    if inside.contains("}}") || inside.contains("%}") {
        return None;
    }
    let base = from + opened + 2;
    Some(typed(inside, base))
}

/// Tells what is being typed at the end of an expression's beginning.
fn typed(inside: &str, base: usize) -> Expression {
    let ident = |letter: char| letter.is_alphanumeric() || letter == '_';
    let word = inside.len() - inside.trim_end_matches(ident).len();
    let start = inside.len() - word;
    let range = base + start..base + inside.len();
    let before = inside.get(..start).unwrap_or_default();
    let expression = |what| Expression { what, word: range.clone() };
    if let Some(chain) =
        before.strip_suffix("['").or_else(|| before.strip_suffix("[\"")).or_else(|| before.strip_suffix("[\\\""))
    {
        return expression(path_before(chain).map_or(What::Nothing, What::Member));
    }
    if in_text(before) {
        return expression(What::Nothing);
    }
    if let Some(chain) = before.strip_suffix('.') {
        return expression(path_before(chain).map_or(What::Nothing, What::Member));
    }
    let left = before.trim_end();
    let last = left.rsplit(|letter: char| !ident(letter)).next().unwrap_or_default();
    let not = left.strip_suffix("not").map(str::trim_end).is_some_and(|left| left.ends_with(" is"));
    match () {
        () if left.ends_with('|') => expression(What::Filter),
        () if last == "is" || last == "not" && not => expression(What::Test),
        () => expression(What::Root),
    }
}

/// Tells whether a text is open at the end.
fn in_text(expression: &str) -> bool {
    let mut quote = None;
    for letter in expression.chars() {
        match quote {
            Some(open) if open == letter => quote = None,
            None if matches!(letter, '\'' | '"') => quote = Some(letter),
            _ => {}
        }
    }
    quote.is_some()
}

/// Reads the path at the end of an expression's beginning: `steps.a.output[0]` is `steps a output *`.
fn path_before(text: &str) -> Option<Vec<String>> {
    let ident = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut path = Vec::new();
    let mut rest = text;
    loop {
        if let Some(inner) = rest.strip_suffix(']') {
            let open = inner.rfind('[')?;
            let key = inner.get(open + 1..)?.trim();
            let name = key.trim_matches(['\'', '"', '\\']);
            let quoted = name.len() < key.len();
            path.push(if quoted { name.to_owned() } else { "*".to_owned() });
            rest = inner.get(..open)?;
            continue;
        }
        let name = rest.len() - rest.trim_end_matches(ident).len();
        if name == 0 {
            return None;
        }
        let start = rest.len() - name;
        path.push(rest.get(start..)?.to_owned());
        match rest.get(..start)?.strip_suffix('.') {
            Some(before) => rest = before,
            None => break,
        }
    }
    path.reverse();
    Some(path)
}

/// Returns the dotted path at whose end a cursor stands, with where its last part is written.
pub(super) fn path_at(text: &str, offset: usize, several: bool) -> Option<(Vec<String>, Range<usize>)> {
    let rest = text.get(offset..)?;
    let more = rest.find(|letter: char| !(letter.is_alphanumeric() || letter == '_')).unwrap_or(rest.len());
    let end = offset + more;
    let expression = at(text, end, several)?;
    let name = text.get(expression.word.clone())?.to_owned();
    if name.is_empty() {
        return None;
    }
    match expression.what {
        What::Root => Some((vec![name], expression.word)),
        What::Member(mut path) => {
            path.push(name);
            Some((path, expression.word))
        }
        What::Filter => Some((vec!["|".to_owned(), name], expression.word)),
        What::Test => Some((vec!["is".to_owned(), name], expression.word)),
        What::Nothing => None,
    }
}

/// Lists the names that the expressions of a text read.
pub(super) fn mentions(text: &str) -> Vec<Mention> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        let opened = [("{{", "}}"), ("{%", "%}")];
        let next = opened.iter().filter_map(|(open, close)| Some((rest.find(open)?, *close))).min();
        let Some((open, close)) = next else { break };
        let start = at + open + 2;
        let inside = text.get(start..).unwrap_or_default();
        // Of what is not closed only the line is meant.
        let end = inside.find(close).or_else(|| inside.find('\n')).unwrap_or(inside.len());
        names(inside.get(..end).unwrap_or_default(), start, &mut found);
        at = start + end;
    }
    found
}

fn names(inside: &str, base: usize, found: &mut Vec<Mention>) {
    let ident = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = inside.as_bytes();
    let mut at = 0;
    let mut quote = None;
    while let Some(byte) = bytes.get(at).copied() {
        match quote {
            Some(open) => {
                if byte == open {
                    quote = None;
                }
                at += 1;
            }
            None if matches!(byte, b'\'' | b'"') => {
                quote = Some(byte);
                at += 1;
            }
            None if ident(byte) => {
                let end =
                    bytes.iter().skip(at).position(|byte| !ident(*byte)).map_or(bytes.len(), |length| at + length);
                let before = inside.get(..at).unwrap_or_default().trim_end();
                let root = ROOTS.into_iter().find(|root| inside.get(at..end) == Some(root));
                let free = !before.ends_with('.');
                if let Some(root) = root.filter(|_| free)
                    && let Some(name) = name_behind(inside, end)
                {
                    let text = inside.get(name.clone()).unwrap_or_default().to_owned();
                    found.push(Mention {
                        root,
                        name: text,
                        range: base + name.start..base + name.end,
                        start: base + at,
                    });
                    // The quote behind a name in quotes opens nothing.
                    let quoted = inside.get(name.end..).unwrap_or_default();
                    let mark = ["\\\"", "\"", "'"].into_iter().find(|mark| quoted.starts_with(mark));
                    at = name.end + mark.map_or(0, str::len);
                } else {
                    at = end;
                }
            }
            None => at += 1,
        }
    }
}

/// Finds the name behind a root: `.name` or `['name']`.
fn name_behind(inside: &str, end: usize) -> Option<Range<usize>> {
    let ident = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let rest = inside.get(end..)?;
    let bare = rest.trim_start();
    let mut start = inside.len() - bare.len();
    if let Some(name) = bare.strip_prefix('.') {
        start += 1 + name.len() - name.trim_start().len();
        let name = name.trim_start();
        let length = name.find(|letter| !ident(letter)).unwrap_or(name.len());
        return (length > 0).then(|| start..start + length);
    }
    let key = bare.strip_prefix('[')?;
    start += 1 + key.len() - key.trim_start().len();
    let key = key.trim_start();
    let mark = ["\\\"", "\"", "'"].into_iter().find(|mark| key.starts_with(mark))?;
    start += mark.len();
    let name = key.get(mark.len()..)?;
    let length = name.find(mark)?;
    (length > 0).then(|| start..start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_told() {
        let what = |text: &str| at(text, text.len(), false).map(|it| (it.what, text.get(it.word).unwrap().to_owned()));
        let path = |parts: &[&str]| What::Member(parts.iter().map(|part| (*part).to_owned()).collect());
        for (text, expected) in [
            ("a: \"{{ inp", (What::Root, "inp")),
            ("a: \"{{ inputs.", (path(&["inputs"]), "")),
            ("a: \"{{ x + steps.a.output.ro", (path(&["steps", "a", "output"]), "ro")),
            ("a: \"{{ steps['a'].output[0].", (path(&["steps", "a", "output", "*"]), "")),
            ("a: \"{{ steps['", (path(&["steps"]), "")),
            ("a: \"{{ x | def", (What::Filter, "def")),
            ("a: \"{{ x is not def", (What::Test, "def")),
            ("a: \"{{ x is ", (What::Test, "")),
            ("a: \"{{ 'text inp", (What::Nothing, "inp")),
            ("a: {% for x in inputs.", (path(&["inputs"]), "")),
        ] {
            assert_eq!(what(text), Some((expected.0, expected.1.to_owned())), "{text}");
        }
        assert_eq!(what("a: \"{{ x }} y"), None);
        assert_eq!(what("a: b"), None);
    }

    #[test]
    fn names_are_found_in_every_way_of_writing() {
        let text = "{{ steps.a.output ~ x.steps.no ~ 'steps.no' ~ steps[\"b\"] }} steps.no {% if inputs . c %}{{ secrets['D'] | f(steps.e) }}";
        let found: Vec<String> = mentions(text)
            .into_iter()
            .map(|it| {
                assert_eq!(text.get(it.range.clone()), Some(&*it.name));
                assert!(text.get(it.start..).unwrap().starts_with(it.root));
                format!("{}.{}", it.root, it.name)
            })
            .collect();
        assert_eq!(found, ["steps.a", "steps.b", "inputs.c", "secrets.D", "steps.e"]);
        assert_eq!(mentions("\"{{ steps[\\\"a\\\"].x }}\"").len(), 1);
    }
}
