//! Text to tree: parser events from serde-saphyr's parser, under budgets, with all that we refuse named.

use std::collections::HashMap;
use std::sync::Arc;

use serde_yaml::granit_parser::Event;
use serde_yaml::granit_parser::Marker;
use serde_yaml::granit_parser::Parser;
use serde_yaml::granit_parser::ScalarStyle;
use serde_yaml::granit_parser::Span as ParserSpan;
use serde_yaml::granit_parser::Tag;

use super::Entry;
use super::Style;
use super::Tree;
use super::TreeKind;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::MOST_FAULTS;
use crate::diag::Position;
use crate::diag::Span;

/// The largest file that is read, in bytes.
pub const MAX_FILE: usize = 8 << 20;
/// How deep mappings and lists may stand in one another.
pub const MAX_DEPTH: usize = 64;
/// The largest scalar, in bytes.
const MAX_SCALAR: usize = 1 << 20;
/// How many nodes a document may have, aliases expanded; and how many its anchors may keep for aliases to come.
const MAX_NODES: usize = 500_000;
/// How many bytes the scalars of a document may have in all, aliases expanded.
const MAX_BYTES: usize = 32 << 20;

/// Reads one YAML document from bytes; see `parse`.
#[must_use]
pub fn parse_bytes(file: &Arc<str>, bytes: &[u8]) -> (Option<Tree>, Vec<Diagnostic>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(file, text),
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let valid = std::str::from_utf8(valid).unwrap_or_default();
            let place = end_of(valid);
            let span = Span { file: file.clone(), start: place, end: place };
            let diagnostic = Diagnostic::error(Code::NotUtf8, span, "the file is not UTF-8 text from here on")
                .with_help("save it as UTF-8");
            (None, vec![diagnostic])
        }
    }
}

/// Reads one YAML document: the tree, where one can be made, and every fault.
#[must_use]
pub fn parse(file: &Arc<str>, text: &str) -> (Option<Tree>, Vec<Diagnostic>) {
    let start = Position { line: 1, column: 1, offset: 0 };
    let whole = Span { file: file.clone(), start, end: start };
    if text.len() > MAX_FILE {
        let message = format!("the file has {} bytes, more than the {MAX_FILE} that are read", text.len());
        return (None, vec![Diagnostic::error(Code::TooLarge, whole, message)]);
    }
    let mut builder = Builder {
        file: file.clone(),
        source: text,
        diagnostics: Vec::new(),
        stack: Vec::new(),
        anchors: HashMap::new(),
        kept: 0,
        nodes: 0,
        bytes: 0,
        root: None,
        documents: 0,
    };
    let stopped = builder.read();
    if stopped.is_err() {
        return (None, builder.diagnostics);
    }
    if builder.root.is_none() && builder.diagnostics.is_empty() {
        let diagnostic = Diagnostic::error(Code::EmptyFile, whole, "the file is empty");
        builder.diagnostics.push(diagnostic);
    }
    (builder.root, builder.diagnostics)
}

/// Parsing cannot go on; the reason is among the diagnostics.
struct Stopped;

/// A collection that is being read.
enum Open {
    Sequence { items: Vec<Tree> },
    Mapping { entries: Vec<Entry>, seen: HashMap<Arc<str>, u32>, key: Option<(Arc<str>, Span)> },
}

struct Frame {
    open: Open,
    start: Position,
    anchor: usize,
    size: Size,
}

/// How much a node holds, aliases expanded.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    bytes: usize,
    /// How many levels of collections stand in one another.
    depth: usize,
}

struct Builder<'a> {
    file: Arc<str>,
    source: &'a str,
    diagnostics: Vec<Diagnostic>,
    stack: Vec<Frame>,
    /// Finished anchored nodes.
    anchors: HashMap<usize, (Tree, Size)>,
    /// How many nodes the anchors keep: those of anchors in one another repeatedly.
    kept: usize,
    nodes: usize,
    bytes: usize,
    root: Option<Tree>,
    documents: usize,
}

impl Builder<'_> {
    fn read(&mut self) -> Result<(), Stopped> {
        for next in Parser::new_from_str(self.source) {
            match next {
                Ok((event, span)) => self.event(event, &span)?,
                Err(error) => {
                    let place = self.position(error.marker());
                    let span = self.span(place, place);
                    let message = error.info();
                    let deep = message.contains("nesting") || message.contains("recursion");
                    let code = if deep { Code::TooLarge } else { Code::YamlSyntax };
                    let mut diagnostic = Diagnostic::error(code, span, sentence(&message));
                    if self.source.lines().any(|line| line.trim_start_matches(' ').starts_with('\t')) {
                        diagnostic = diagnostic.with_help("indent with spaces: YAML allows no tabs there");
                    }
                    self.diagnostics.push(diagnostic);
                    return Err(Stopped);
                }
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, span: &ParserSpan) -> Result<(), Stopped> {
        if self.diagnostics.len() >= MOST_FAULTS {
            return Err(Stopped);
        }
        let (start, end) = (self.position(&span.start), self.position(&span.end));
        let tagged = span.tag_span().map(|span| (self.position(&span.start), self.position(&span.end)));
        let tagged = tagged.unwrap_or((start, end));
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let diagnostic = Diagnostic::error(
                        Code::YamlSyntax,
                        self.span(start, end),
                        "a second document begins here; a file holds one",
                    );
                    self.diagnostics.push(diagnostic.with_help("put it into a file of its own"));
                    return Err(Stopped);
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tag(tag.as_deref(), tagged);
                if text.len() > MAX_SCALAR {
                    let message =
                        format!("a text of {} bytes, more than the {MAX_SCALAR} that are allowed", text.len());
                    return self.stop(Code::TooLarge, start, end, message);
                }
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
                    ScalarStyle::Literal => Style::Literal,
                    ScalarStyle::Folded => Style::Folded,
                };
                let size = Size { nodes: 1, bytes: text.len(), depth: 0 };
                let tree = Tree { span: self.span(start, end), kind: TreeKind::Scalar { text: (*text).into(), style } };
                self.place(tree, size, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), tagged);
                self.open(Open::Sequence { items: Vec::new() }, start, anchor)?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), tagged);
                self.open(Open::Mapping { entries: Vec::new(), seen: HashMap::new(), key: None }, start, anchor)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(end)?,
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some((tree, size)) => {
                    let (mut tree, size) = (tree.clone(), *size);
                    if self.stack.len() + size.depth > MAX_DEPTH {
                        return self.stop(Code::TooLarge, start, end, too_deep());
                    }
                    // A message about an alias points at the alias: that is what stands in the wrong place.
                    tree.span = self.span(start, end);
                    self.place(tree, size, 0)?;
                }
                None => return self.stop(Code::YamlSyntax, start, end, "an alias of a node that contains it"),
            },
            _ => {}
        }
        Ok(())
    }

    fn check_tag(&mut self, tag: Option<&Tag>, (start, end): (Position, Position)) {
        let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) else { return };
        let message = format!("the tag `{}` means nothing here", tag.original());
        let diagnostic = Diagnostic::error(Code::YamlTag, self.span(start, end), message);
        self.diagnostics.push(diagnostic.with_help("take it away"));
    }

    fn open(&mut self, open: Open, start: Position, anchor: usize) -> Result<(), Stopped> {
        if self.stack.len() >= MAX_DEPTH {
            return self.stop(Code::TooLarge, start, start, too_deep());
        }
        if let Some(Frame { open: Open::Mapping { key: None, .. }, .. }) = self.stack.last() {
            return self.stop(Code::YamlSyntax, start, start, "a key must be a plain text, found a list or a mapping");
        }
        self.stack.push(Frame { open, start, anchor, size: Size { nodes: 1, bytes: 0, depth: 1 } });
        Ok(())
    }

    fn close(&mut self, end: Position) -> Result<(), Stopped> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let (kind, last) = match frame.open {
            Open::Sequence { items } => {
                let last = items.last().map(|item| item.span.end);
                (TreeKind::Sequence(items), last)
            }
            Open::Mapping { entries, .. } => {
                let last = entries.last().map(|entry| entry.value.span.end.max(entry.key_span.end));
                (TreeKind::Mapping(entries), last)
            }
        };
        // A block ends where the parser notices, often lines further down: show it to its last content only.
        let flow = self.source.get(..end.offset).is_some_and(|text| text.ends_with([']', '}']));
        let end = if flow { end } else { last.unwrap_or(end) };
        let tree = Tree { span: self.span(frame.start, end), kind };
        // Its parts are counted already.
        let size = frame.size;
        self.nodes -= size.nodes - 1;
        self.bytes -= size.bytes;
        self.place(tree, size, frame.anchor)
    }

    fn place(&mut self, tree: Tree, size: Size, anchor: usize) -> Result<(), Stopped> {
        self.nodes += size.nodes;
        self.bytes += size.bytes;
        self.kept += if anchor > 0 { size.nodes } else { 0 };
        if self.nodes > MAX_NODES || self.bytes > MAX_BYTES || self.kept > MAX_NODES {
            let (start, end) = (tree.span.start, tree.span.end);
            return self.stop(Code::TooLarge, start, end, "the document grows too large here, aliases expanded");
        }
        if anchor > 0 {
            self.anchors.insert(anchor, (tree.clone(), size));
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(tree);
            return Ok(());
        };
        frame.size.nodes += size.nodes;
        frame.size.bytes += size.bytes;
        frame.size.depth = frame.size.depth.max(size.depth + 1);
        match &mut frame.open {
            Open::Sequence { items } => items.push(tree),
            Open::Mapping { entries, seen, key } => match key.take() {
                Some((key, key_span)) => entries.push(Entry { key, key_span, value: tree }),
                None => {
                    let TreeKind::Scalar { text, style } = tree.kind else {
                        let (start, end) = (tree.span.start, tree.span.end);
                        return self.stop(Code::YamlSyntax, start, end, "a key must be a plain text");
                    };
                    if &*text == "<<" && style == Style::Plain {
                        let diagnostic =
                            Diagnostic::error(Code::YamlMerge, tree.span.clone(), "merge keys are not supported");
                        self.diagnostics.push(diagnostic.with_help("write the keys out, or use `defaults`"));
                    } else if let Some(first) = seen.insert(text.clone(), tree.span.start.line) {
                        let message = format!("key `{text}` is given twice");
                        let diagnostic = Diagnostic::error(Code::DuplicateKey, tree.span.clone(), message);
                        self.diagnostics.push(diagnostic.with_help(format!("first given at line {first}; keep one")));
                    }
                    *key = Some((text, tree.span));
                }
            },
        }
        Ok(())
    }

    fn stop(&mut self, code: Code, start: Position, end: Position, message: impl Into<String>) -> Result<(), Stopped> {
        let span = self.span(start, end);
        self.diagnostics.push(Diagnostic::error(code, span, message));
        Err(Stopped)
    }

    fn span(&self, start: Position, end: Position) -> Span {
        Span { file: self.file.clone(), start, end: end.max(start) }
    }

    fn position(&self, marker: &Marker) -> Position {
        Position {
            line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
            column: u32::try_from(marker.col()).unwrap_or(u32::MAX).saturating_add(1),
            offset: marker.byte_offset().unwrap_or(self.source.len()),
        }
    }
}

fn too_deep() -> String {
    format!("nested deeper than {MAX_DEPTH} levels")
}

/// Brings the parser's words into our form: one sentence, lower case, no final stop.
fn sentence(message: &str) -> String {
    let line = message.lines().next().unwrap_or("the text is not YAML").trim().trim_end_matches('.');
    let mut letters = line.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => "the text is not YAML".to_owned(),
    }
}

fn end_of(text: &str) -> Position {
    let line = u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX).saturating_add(1);
    let column = text.chars().rev().take_while(|letter| *letter != '\n').count();
    Position { line, column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1), offset: text.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let (_, diagnostics) = parse(&"t.yaml".into(), text);
        let show = |d: &Diagnostic| {
            format!("{}:{}: {}: {}", d.span.start.line, d.span.start.column, d.code.as_str(), d.message)
        };
        diagnostics.iter().map(show).collect()
    }

    #[test]
    fn what_we_refuse_is_named_with_its_place() {
        assert_eq!(faults("a: 1\nb: 2\na: 3\n"), ["3:1: duplicate-key: key `a` is given twice"]);
        assert_eq!(faults("a: &x {b: 1}\nc:\n  <<: *x\n"), ["3:3: yaml-merge: merge keys are not supported"]);
        assert_eq!(faults("a: 1\n---\nb: 2\n"), ["2:1: yaml-syntax: a second document begins here; a file holds one"]);
        assert_eq!(faults(""), ["1:1: empty-file: the file is empty"]);
        assert_eq!(faults("a: !secret x\n"), ["1:4: yaml-tag: the tag `!secret` means nothing here"]);
    }

    #[test]
    fn what_would_grow_without_bound_is_stopped() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let before = level - 1;
            let aliases = vec![format!("*a{before}"); 10].join(",");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(faults(&bomb).first().unwrap().contains("too-large"), "{:?}", faults(&bomb));
        for open in ["[", "{a: ", "- "] {
            let deep = open.repeat(10_000);
            assert_eq!(faults(&deep).len(), 1, "{open}");
        }
        assert!(faults(&format!("a: {}", "x".repeat(10 << 20))).first().unwrap().contains("too-large"));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_placed() {
        let (tree, diagnostics) = parse_bytes(&"t.yaml".into(), b"a: 1\nb: \xff\n");
        assert!(tree.is_none());
        let place = diagnostics.first().unwrap().span.start;
        assert_eq!((place.line, place.column), (2, 4));
    }
}
