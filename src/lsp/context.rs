//! Where the cursor stands, told by lines and indentation: what is being typed is seldom YAML.

use std::ops::Range;

use super::expression;
use super::expression::Expression;

/// A step on the way from the whole file to a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Key(String),
    Item,
}

/// Whether a key stands at the place, or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Key,
    Value,
}

/// Where a cursor stands in a file.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The keys that lead here; of a value its own key, too.
    pub(super) path: Vec<Part>,
    /// Where each part is written.
    starts: Vec<usize>,
    pub(super) side: Side,
    /// What stands between the beginning of the word and the cursor.
    pub(super) word: Range<usize>,
    /// Whether it stands within `{ }` or `[ ]`.
    pub(super) flow: bool,
    /// What is being typed within `{{ }}`.
    pub(super) expression: Option<Expression>,
}

impl Place {
    /// Returns the keys of the path; items are `*`.
    pub(super) fn keys(&self) -> Vec<&str> {
        keys(&self.path)
    }

    /// Returns where the text of the entry begins to which the first parts lead.
    pub(super) fn start_of(&self, parts: usize) -> Option<usize> {
        self.starts.get(parts.checked_sub(1)?).copied()
    }
}

pub(super) fn keys(path: &[Part]) -> Vec<&str> {
    path.iter()
        .map(|part| match part {
            Part::Key(key) => key.as_str(),
            Part::Item => "*",
        })
        .collect()
}

/// What a line begins with: dashes, and a key.
struct Line<'t> {
    depth: usize,
    /// Columns of the dashes.
    dashes: Vec<usize>,
    /// The column of the key, and the key.
    key: Option<(usize, &'t str)>,
    /// What stands behind the key or the dashes, and its column.
    rest: (usize, &'t str),
}

impl<'t> Line<'t> {
    fn read(text: &'t str) -> Self {
        let depth = text.len() - text.trim_start_matches(' ').len();
        let (mut column, mut dashes) = (depth, Vec::new());
        loop {
            let rest = text.get(column..).unwrap_or_default();
            let Some(after) = rest.strip_prefix('-').filter(|after| after.is_empty() || after.starts_with(' ')) else {
                break;
            };
            dashes.push(column);
            column += 1 + after.len() - after.trim_start_matches(' ').len();
        }
        let content = text.get(column..).unwrap_or_default();
        let key = key_of(content);
        let rest = match key {
            Some(_) => {
                let from = column + content.find(':').map_or(0, |colon| colon + 1);
                let after = text.get(from..).unwrap_or_default();
                let space = after.len() - after.trim_start().len();
                (from + space, after.trim_start())
            }
            None => (column, content),
        };
        Self { depth, dashes, key: key.map(|key| (column, key)), rest }
    }
}

/// Returns the key with which a text begins.
fn key_of(text: &str) -> Option<&str> {
    let (key, rest) = text.split_once(':')?;
    let plain = !key.is_empty() && !key.contains(['{', '[', '#', '"', '\'', ',', ' ']) || is_quoted(key);
    (plain && (rest.is_empty() || rest.starts_with([' ', '\t', '\r']))).then(|| key.trim_matches(['"', '\'']))
}

fn is_quoted(key: &str) -> bool {
    let mut letters = key.chars();
    let first = letters.next();
    matches!(first, Some('"' | '\'')) && key.len() > 1 && letters.next_back() == first
}

/// Tells where a cursor stands.
pub(super) fn place(text: &str, offset: usize) -> Place {
    let offset = text.floor_char_boundary(offset);
    let before = text.get(..offset).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = Line::read(before.get(start..).unwrap_or_default());
    let first = line.dashes.first().copied().unwrap_or(line.rest.0.min(line.key.map_or(usize::MAX, |(at, _)| at)));
    let (mut path, mut starts, last) = above(text, start, first, !line.dashes.is_empty());
    let mut place = Place {
        path: Vec::new(),
        starts: Vec::new(),
        side: Side::Key,
        word: word_before(text, offset, false),
        flow: false,
        expression: expression::at(text, offset, last.as_ref().is_some_and(|last| last.is_text)),
    };
    // Within a text or a collection of several lines, lines mean nothing.
    if let Some(Open { value, is_text, is_flow, .. }) = last.filter(|last| last.is_text || last.is_flow) {
        if is_text {
            (place.path, place.starts, place.side) = (path, starts, Side::Value);
            place.word = word_before(text, offset, false);
            return place;
        }
        if is_flow && let Some(inside) = flow(before.get(value..).unwrap_or_default(), value) {
            return within(place, path, starts, inside, text, offset);
        }
    }
    for dash in &line.dashes {
        path.push(Part::Item);
        starts.push(start + dash);
    }
    let (rest_at, rest) = line.rest;
    if let Some((at, key)) = line.key {
        path.push(Part::Key(key.to_owned()));
        starts.push(start + at);
        place.side = Side::Value;
    }
    let rest = rest.trim_start();
    let begins = start + rest_at;
    let is_flow = rest.starts_with('[') || rest.starts_with('{') && !rest.starts_with("{{");
    if is_flow && let Some(inside) = flow(rest, begins) {
        return within(place, path, starts, inside, text, offset);
    }
    place.word = match place.side {
        Side::Key => begins.min(offset)..offset,
        Side::Value => word_before(text, offset, true),
    };
    (place.path, place.starts) = (path, starts);
    place
}

fn within(mut place: Place, path: Vec<Part>, starts: Vec<usize>, inside: Inside, text: &str, offset: usize) -> Place {
    (place.path, place.starts) = (path, starts);
    for (part, at) in inside.parts {
        place.path.push(part);
        place.starts.push(at);
    }
    place.side = inside.side;
    place.flow = true;
    let word = word_before(text, offset, true);
    place.word = word.start.max(inside.from)..offset;
    place
}

/// A value above the cursor that may not have ended.
struct Open {
    value: usize,
    is_text: bool,
    is_flow: bool,
}

/// Follows the lines above, each less deep than the one before.
fn above(text: &str, start: usize, column: usize, dashed: bool) -> (Vec<Part>, Vec<usize>, Option<Open>) {
    let (mut path, mut starts, mut open) = (Vec::new(), Vec::new(), None);
    // A list may stand as deep as its key.
    let (mut limit, mut equal) = (column, dashed);
    let above = text.get(..start).unwrap_or_default();
    let mut end = above.len();
    for line in above.split_inclusive('\n').rev() {
        if limit == 0 && !equal {
            break;
        }
        end -= line.len();
        let bare = line.trim_end();
        if bare.trim_start().is_empty() || bare.trim_start().starts_with('#') {
            continue;
        }
        let line = Line::read(bare);
        if line.depth > limit || line.depth == limit && !equal {
            continue;
        }
        if let Some((at, key)) =
            line.key.filter(|(at, _)| *at < limit || equal && *at == limit && line.dashes.is_empty())
        {
            if path.is_empty() && open.is_none() {
                let value = line.rest.1;
                open = Some(Open {
                    value: end + line.rest.0,
                    is_text: value.starts_with(['|', '>']) || unclosed_quote(value),
                    is_flow: value.starts_with(['[', '{']),
                });
            }
            path.push(Part::Key(key.to_owned()));
            starts.push(end + at);
            (limit, equal) = (at, false);
        } else if line.dashes.is_empty() && line.key.is_none() && path.is_empty() && open.is_none() {
            // A text or a collection that goes on: the line that begins it stands above.
            continue;
        }
        for dash in line.dashes.iter().rev() {
            if *dash > limit || *dash == limit && !equal {
                continue;
            }
            if limit == *dash {
                // Another item of the same list.
                break;
            }
            path.push(Part::Item);
            starts.push(end + dash);
            (limit, equal) = (*dash, true);
        }
    }
    path.reverse();
    starts.reverse();
    (path, starts, open)
}

fn unclosed_quote(value: &str) -> bool {
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value.matches(quote).count() % 2 == 1,
        _ => false,
    }
}

/// Where a cursor stands within a flow collection.
struct Inside {
    parts: Vec<(Part, usize)>,
    side: Side,
    from: usize,
}

enum Frame {
    Map { key: Option<(String, usize)> },
    List,
}

/// Reads a flow collection up to the cursor; nothing where it has ended.
fn flow(text: &str, base: usize) -> Option<Inside> {
    let mut frames: Vec<Frame> = Vec::new();
    let (mut word, mut word_at) = (String::new(), 0);
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' | '\'' if word.trim().is_empty() => {
                word_at = at + 1;
                word.clear();
                let mut closed = false;
                while let Some((_, inner)) = letters.next() {
                    match inner {
                        '\\' if letter == '"' => drop(letters.next()),
                        inner if inner == letter => {
                            closed = true;
                            break;
                        }
                        inner => word.push(inner),
                    }
                }
                if !closed {
                    break;
                }
            }
            '{' if letters.peek().is_some_and(|(_, next)| *next == '{') && !frames.is_empty() => {
                // An expression that should have been quoted.
                let rest = text.get(at..).unwrap_or_default();
                let Some(end) = rest.find("}}") else { break };
                while letters.next_if(|(next, _)| *next < at + end + 2).is_some() {}
            }
            '{' => {
                frames.push(Frame::Map { key: None });
                (word, word_at) = (String::new(), at + 1);
            }
            '[' => {
                frames.push(Frame::List);
                (word, word_at) = (String::new(), at + 1);
            }
            '}' | ']' => {
                frames.pop();
                if frames.is_empty() {
                    return None;
                }
            }
            ',' => {
                if let Some(Frame::Map { key }) = frames.last_mut() {
                    *key = None;
                }
                (word, word_at) = (String::new(), at + 1);
            }
            ':' if letters.peek().is_none_or(|(_, next)| next.is_whitespace()) => {
                if let Some(Frame::Map { key: key @ None }) = frames.last_mut() {
                    let space = word.len() - word.trim_start().len();
                    *key = Some((word.trim().to_owned(), base + word_at + space));
                }
                (word, word_at) = (String::new(), at + 1);
            }
            letter => word.push(letter),
        }
    }
    let side = match frames.last()? {
        Frame::Map { key: None } => Side::Key,
        _ => Side::Value,
    };
    let parts = frames.into_iter().filter_map(|frame| match frame {
        Frame::Map { key } => key.map(|(key, at)| (Part::Key(key), at)),
        Frame::List => Some((Part::Item, base)),
    });
    let space = word.len() - word.trim_start().len();
    Some(Inside { parts: parts.collect(), side, from: base + word_at + space })
}

/// Returns the word that ends at the cursor; names of nodes and files hold more than letters.
fn word_before(text: &str, offset: usize, wide: bool) -> Range<usize> {
    let before = text.get(..offset).unwrap_or_default();
    let part = |letter: char| letter.is_alphanumeric() || letter == '_' || wide && matches!(letter, '.' | '-' | '/');
    let start = before.char_indices().rev().take_while(|(_, letter)| part(*letter)).last().map_or(offset, |(at, _)| at);
    start..offset
}

/// Returns the end of the word in which a cursor stands.
pub(super) fn word_end(text: &str, offset: usize) -> usize {
    let offset = text.floor_char_boundary(offset);
    let rest = text.get(offset..).unwrap_or_default();
    let wide = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.' | '/');
    let end = rest.find(|letter: char| !wide(letter)).unwrap_or(rest.len());
    // What ends a sentence is no part of the word.
    let word = rest.get(..end).unwrap_or_default();
    offset + word.trim_end_matches(['.', '-', '/']).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows where `§` stands.
    fn shown(text: &str) -> String {
        let offset = text.find('§').unwrap();
        let text = text.replace('§', "");
        let place = place(&text, offset);
        let side = if place.side == Side::Key { "key" } else { "value" };
        let expression = place.expression.map(|_| " expression").unwrap_or_default();
        format!(
            "{} {side} `{}`{expression}",
            place
                .path
                .iter()
                .map(|part| match part {
                    Part::Key(key) => key.as_str(),
                    Part::Item => "*",
                })
                .collect::<Vec<_>>()
                .join("/"),
            text.get(place.word).unwrap()
        )
    }

    #[test]
    fn a_cursor_stands_where_lines_and_brackets_say() {
        for (text, expected) in [
            ("§", " key ``"),
            ("na§", " key `na`"),
            ("name: x§", "name value `x`"),
            ("steps:\n  a:\n    us§", "steps/a key `us`"),
            ("steps:\n  a:\n    uses: http.re§", "steps/a/uses value `http.re`"),
            ("steps:\n  a:\n    uses: http.request\n    with:\n      §\n  b: {}\n", "steps/a/with key ``"),
            ("steps:\n  a: { uses: x, with: { me§ } }", "steps/a/with key `me`"),
            ("steps:\n  a: { uses: x, needs: [b, c§] }", "steps/a/needs/* value `c`"),
            ("steps:\n  a:\n    needs:\n      - b\n      - c§", "steps/a/needs/* key `c`"),
            ("steps:\n  a:\n    needs:\n    - b\n    - c§", "steps/a/needs/* key `c`"),
            ("triggers:\n  - cron: x\n    time§", "triggers/* key `time`"),
            ("triggers:\n- cron: x\n  time§", "triggers/* key `time`"),
            ("triggers:\n- cron: x\n- ev§", "triggers/* key `ev`"),
            (
                "steps:\n  a:\n    with:\n      text: |\n        key: hello {{ inputs.§ }}\n",
                "steps/a/with/text value `` expression",
            ),
            ("steps:\n  a:\n    with: {\n      a: 1,\n      b§", "steps/a/with key `b`"),
            ("steps:\n  a:\n    with: { a: \"{{ steps.x.out§", "steps/a/with/a value `steps.x.out` expression"),
            ("steps:\n  # a comment: x\n\n  a:\n    §", "steps/a key ``"),
            ("labels: {}\n§", " key ``"),
            ("a: { b: {{ inputs.x }}, c§", "a key `c`"),
            ("inputs:\n  \"x y\":\n    t§", "inputs/x y key `t`"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
