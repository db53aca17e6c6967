//! From the layout to lines.

use super::WIDTH;
use super::read::Body;
use super::read::Comment;
use super::read::Document;
use super::read::Entry;
use super::read::Item;
use super::read::Node;
use super::read::Tail;

/// How much deeper each level stands.
const STEP: usize = 2;

pub(super) fn write(document: Document) -> Vec<String> {
    let mut out = Out { lines: Vec::new() };
    out.comments(&document.head, 0);
    let parted = !document.head.is_empty() && first_is_parted(&document);
    if parted {
        out.lines.push(String::new());
    }
    match &document.root.body {
        Body::Mapping(entries, end) if document.root.properties.is_empty() => {
            out.beside(document.root.beside.as_ref());
            out.mapping(entries, end, 0);
        }
        Body::Sequence(items, end) if document.root.properties.is_empty() => {
            out.beside(document.root.beside.as_ref());
            out.sequence(items, end, 0);
        }
        Body::Mapping(entries, end) => {
            out.lines.push(with_tail(document.root.properties.join(" "), document.root.beside.as_ref()));
            out.mapping(entries, end, 0);
        }
        Body::Sequence(items, end) => {
            out.lines.push(with_tail(document.root.properties.join(" "), document.root.beside.as_ref()));
            out.sequence(items, end, 0);
        }
        _ => {
            let node = Node { below: false, ..document.root };
            out.value(None, &node, 0);
        }
    }
    out.comments(&document.foot, 0);
    out.lines
}

/// Tells whether a blank line stands between the head of a file and its first key.
fn first_is_parted(document: &Document) -> bool {
    match &document.root.body {
        Body::Mapping(entries, _) => entries.first().is_some_and(|entry| match entry.comments.first() {
            Some(comment) => comment.blank,
            None => entry.blank,
        }),
        _ => false,
    }
}

struct Out {
    lines: Vec<String>,
}

impl Out {
    /// Writes what stood behind nothing: the comment beside a document's mark.
    fn beside(&mut self, tail: Option<&Tail>) {
        if let Some(tail) = tail {
            self.lines.push(tail.text.clone());
        }
    }

    fn comments(&mut self, comments: &[Comment], indent: usize) {
        for comment in comments {
            if comment.blank && !self.lines.is_empty() {
                self.lines.push(String::new());
            }
            self.lines.push(format!("{:indent$}{}", "", comment.text));
        }
    }

    /// Writes what stands before an entry or item; `first` in its mapping or list has no blank line before it.
    fn before(&mut self, comments: &[Comment], blank: bool, indent: usize, first: bool) {
        let start = self.lines.len();
        self.comments(comments, indent);
        if first && comments.first().is_some_and(|comment| comment.blank) && start > 0 {
            self.lines.remove(start);
        }
        if blank && (!first || !comments.is_empty()) {
            self.lines.push(String::new());
        }
    }

    fn mapping(&mut self, entries: &[Entry], end: &[Comment], indent: usize) {
        for (index, entry) in entries.iter().enumerate() {
            self.before(&entry.comments, entry.blank, indent, index == 0);
            let space = " ".repeat(aligned(entries, index).saturating_sub(1));
            self.value(Some(format!("{:indent$}{}:{space}", "", entry.key)), &entry.value, indent);
        }
        self.comments(end, indent);
    }

    fn sequence(&mut self, items: &[Item], end: &[Comment], indent: usize) {
        for (index, item) in items.iter().enumerate() {
            self.before(&item.comments, item.blank, indent, index == 0);
            let line = format!("{:indent$}-", "");
            let compact = item.value.properties.is_empty()
                && item.value.beside.is_none()
                && match &item.value.body {
                    Body::Mapping(entries, _) => entries.first().is_some_and(|first| first.comments.is_empty()),
                    Body::Sequence(items, _) => items.first().is_some_and(|first| first.comments.is_empty()),
                    _ => false,
                };
            if !compact {
                self.value(Some(line), &item.value, indent);
                continue;
            }
            let start = self.lines.len();
            match &item.value.body {
                Body::Mapping(entries, end) => self.mapping(entries, end, indent + STEP),
                Body::Sequence(items, end) => self.sequence(items, end, indent + STEP),
                _ => {}
            }
            if let Some(first) = self.lines.get_mut(start) {
                *first = format!("{line} {}", first.trim_start());
            }
        }
        self.comments(end, indent);
    }

    /// Writes a value behind its key or dash; the document's own has none.
    fn value(&mut self, line: Option<String>, node: &Node, indent: usize) {
        let root = line.is_none();
        let deeper = if root { indent } else { indent + STEP };
        let mut line = line.unwrap_or_default();
        let add = |line: &mut String, text: &str| {
            if !line.is_empty() && !text.is_empty() {
                line.push(' ');
            }
            line.push_str(text);
        };
        for property in &node.properties {
            add(&mut line, property);
        }
        match &node.body {
            Body::Nothing => {
                self.lines.push(with_tail(line, node.tail.as_ref()));
                self.comments(&node.inner, deeper);
            }
            Body::Lines(lines) => {
                let (first, more) =
                    lines.split_first().map_or(("", lines.as_slice()), |(first, more)| (&*first.1, more));
                let wide = line.chars().count() + 1 + first.chars().count() > WIDTH;
                let below =
                    node.beside.is_some() || !node.inner.is_empty() || (node.below && (wide || !more.is_empty()));
                if below && !root {
                    self.lines.push(with_tail(line, node.beside.as_ref()));
                    self.comments(&node.inner, deeper);
                    line = format!("{:deeper$}{first}", "");
                } else {
                    self.beside(node.beside.as_ref());
                    self.comments(&node.inner, deeper);
                    add(&mut line, first);
                }
                self.lines.push(line);
                for (depth, text) in more {
                    // What stands below its key is its own first line's depth deeper.
                    let depth = match below && !root {
                        true => deeper + depth.saturating_sub(usize::from(!is_flow(first))) * STEP,
                        false => indent + depth * STEP,
                    };
                    self.lines.push(if text.is_empty() { String::new() } else { format!("{:depth$}{text}", "") });
                }
                if let Some(last) = self.lines.last_mut() {
                    *last = with_tail(std::mem::take(last), node.tail.as_ref());
                }
            }
            Body::Block { header, lines } => {
                if !node.inner.is_empty() && !root {
                    self.lines.push(std::mem::take(&mut line));
                    self.comments(&node.inner, deeper);
                    line = " ".repeat(deeper);
                    line.push_str(header);
                } else {
                    self.comments(&node.inner, deeper);
                    add(&mut line, header);
                }
                self.lines.push(with_tail(line, node.beside.as_ref()));
                let deeper = if root { STEP } else { deeper };
                for text in lines {
                    self.lines.push(if text.is_empty() { String::new() } else { format!("{:deeper$}{text}", "") });
                }
            }
            Body::Mapping(entries, end) => {
                self.lines.push(with_tail(line, node.beside.as_ref()));
                self.mapping(entries, end, deeper);
            }
            Body::Sequence(items, end) => {
                self.lines.push(with_tail(line, node.beside.as_ref()));
                self.sequence(items, end, deeper);
            }
        }
    }
}

/// Returns how far behind its key a value stands: one space, unless it is aligned with the one before or after it.
fn aligned(entries: &[Entry], index: usize) -> usize {
    let column = |entry: &Entry| {
        let alone =
            matches!(entry.value.body, Body::Lines(_)) && !entry.value.below && entry.value.properties.is_empty();
        alone.then(|| entry.key.chars().count() + entry.space)
    };
    let Some(entry) = entries.get(index) else { return 1 };
    let around = [index.checked_sub(1), Some(index + 1)].into_iter().flatten();
    let own = column(entry);
    let shared = own.is_some() && around.filter_map(|other| entries.get(other)).any(|other| column(other) == own);
    if shared { entry.space } else { 1 }
}

fn is_flow(first: &str) -> bool {
    first.starts_with(['[', '{'])
}

fn with_tail(mut line: String, tail: Option<&Tail>) -> String {
    if let Some(tail) = tail {
        line.push_str(&" ".repeat(tail.space));
        line.push_str(&tail.text);
    }
    line
}
