//! From text and tree to a layout in which every comment has its place.

use super::Kind;
use super::order;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Position;
use crate::diag::Span;
use crate::yaml::Style;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// A whole file.
#[derive(Debug)]
pub(super) struct Document {
    /// What stands before the first key and stays there: directives, `---`, comments on the file.
    pub(super) head: Vec<Comment>,
    pub(super) root: Node,
    pub(super) foot: Vec<Comment>,
}

/// A comment on a line of its own.
#[derive(Clone, Debug)]
pub(super) struct Comment {
    pub(super) text: String,
    /// Whether a blank line stands before it.
    pub(super) blank: bool,
    column: usize,
}

/// A comment behind something, and how far behind.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    pub(super) space: usize,
    pub(super) text: String,
}

/// A value with what stands around it.
#[derive(Debug)]
pub(super) struct Node {
    /// Anchor and tag.
    pub(super) properties: Vec<String>,
    /// The comment on the line of the key, where the value begins below.
    pub(super) beside: Option<Tail>,
    /// The comments between the key and a value below that is neither mapping nor list.
    pub(super) inner: Vec<Comment>,
    /// Whether a text begins on a line below its key.
    pub(super) below: bool,
    pub(super) body: Body,
    pub(super) tail: Option<Tail>,
}

#[derive(Debug)]
pub(super) enum Body {
    Nothing,
    /// A plain or quoted text, an alias, or a flow collection: lines with how much deeper each stands.
    Lines(Vec<(usize, String)>),
    /// A literal or folded text: its head, and its lines without their indentation.
    Block {
        header: String,
        lines: Vec<String>,
    },
    Mapping(Vec<Entry>, Vec<Comment>),
    Sequence(Vec<Item>, Vec<Comment>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) comments: Vec<Comment>,
    pub(super) blank: bool,
    pub(super) key: String,
    /// How far behind its key the value stands.
    pub(super) space: usize,
    pub(super) value: Node,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) comments: Vec<Comment>,
    pub(super) blank: bool,
    pub(super) value: Node,
}

type Read<T> = Result<T, Box<Diagnostic>>;

/// Reads the layout; says where something stands that has none.
pub(super) fn read(source: &str, tree: &Tree, kind: Kind) -> Read<Document> {
    let mut reader = Reader { source, tree, kind, at: 0, path: Vec::new(), head: Vec::new() };
    reader.head();
    let root = reader.node(tree, None)?;
    let foot = reader.foot()?;
    Ok(Document { head: reader.head, root, foot })
}

/// Comments above the first key that a blank line parts from it are about the file; so are those that editors read.
fn take_head(head: &mut Vec<Comment>, entries: &mut [Entry]) {
    let Some(first) = entries.first_mut() else { return };
    let editors = |text: &str| {
        ["yaml-language-server", "vim:", "yamllint", "!"]
            .iter()
            .any(|it| text.trim_start_matches('#').trim_start().starts_with(it))
    };
    let parted = match first.blank {
        true => first.comments.len(),
        false => first.comments.iter().rposition(|comment| comment.blank).unwrap_or(0),
    };
    let read = first.comments.iter().rposition(|comment| editors(&comment.text)).map_or(0, |at| at + 1);
    head.extend(first.comments.drain(..parted.max(read)));
}

struct Reader<'s> {
    source: &'s str,
    tree: &'s Tree,
    kind: Kind,
    at: usize,
    /// The keys that lead here.
    path: Vec<String>,
    head: Vec<Comment>,
}

/// What stands between two things on lines of their own.
struct Gap {
    comments: Vec<Comment>,
    /// Where each of the comments ends.
    ends: Vec<usize>,
    /// Whether a blank line stands behind the last of them.
    blank: bool,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn spaces(&mut self) -> usize {
        let rest = self.rest();
        let count = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        self.at += count;
        count
    }

    fn line(&self) -> &str {
        self.rest().split('\n').next().unwrap_or_default()
    }

    fn column(&self) -> usize {
        let before = self.source.get(..self.at).unwrap_or_default();
        self.at - before.rfind('\n').map_or(0, |end| end + 1)
    }

    /// Takes comments and blank lines up to the next other letter.
    fn gap(&mut self) -> Gap {
        let mut gap = Gap { comments: Vec::new(), ends: Vec::new(), blank: false };
        let mut lines = 0;
        loop {
            self.spaces();
            match self.peek() {
                Some('\n') => {
                    lines += 1;
                    self.at += 1;
                }
                Some('#') => {
                    let text = self.line().trim_end().to_owned();
                    gap.comments.push(Comment { text, blank: lines > 1, column: self.column() });
                    self.at += self.line().len();
                    gap.ends.push(self.at);
                    lines = 0;
                }
                _ => break,
            }
        }
        gap.blank = lines > 1;
        gap
    }

    /// Takes the comment on the rest of this line.
    fn tail(&mut self) -> Option<Tail> {
        let before = self.at;
        let space = self.spaces();
        if self.peek() != Some('#') {
            self.at = before;
            return None;
        }
        let text = self.line().trim_end().to_owned();
        self.at += self.line().len();
        Some(Tail { space: space.max(1), text })
    }

    /// Takes what stands before the document: directives, and `---`.
    fn head(&mut self) {
        let mut lines = Vec::new();
        let (mut offset, mut blank) = (0, false);
        for line in self.source.split_inclusive('\n') {
            offset += line.len();
            let text = line.trim_end();
            let marks = text == "---" || text.starts_with("--- ") || text.starts_with("---\t");
            if text.is_empty() {
                blank = true;
                continue;
            }
            if !marks && !text.starts_with('%') && !text.trim_start().starts_with('#') {
                return;
            }
            let rest = text.get(3..).unwrap_or_default().trim_start();
            let whole = !marks || rest.is_empty() || rest.starts_with('#');
            let text = if whole { text.trim_start() } else { "---" };
            lines.push(Comment { text: text.to_owned(), blank, column: 0 });
            blank = false;
            if marks {
                let end = if whole { line.trim_end_matches('\n').len() } else { 3 };
                self.at = offset - line.len() + end;
                self.head = lines;
                return;
            }
        }
    }

    fn foot(&mut self) -> Read<Vec<Comment>> {
        let mut comments = self.gap().comments;
        // The end of a document may be written; nothing but comments may follow.
        if self.line().trim_end() == "..." || self.line().starts_with("... ") {
            self.at += 3;
            comments.push(Comment { text: "...".to_owned(), blank: false, column: 0 });
            if let Some(tail) = self.tail() {
                comments.push(Comment { text: tail.text, blank: false, column: 0 });
            }
            comments.extend(self.gap().comments);
        }
        if self.at < self.source.len() {
            return Err(self.refused("what stands here"));
        }
        Ok(comments)
    }

    /// Reads a value; `parent` is the column of the key or dash before it.
    fn node(&mut self, tree: &Tree, parent: Option<usize>) -> Read<Node> {
        let mut node = Node {
            properties: Vec::new(),
            beside: None,
            inner: Vec::new(),
            below: false,
            body: Body::Nothing,
            tail: None,
        };
        let nothing = tree.span.start.offset == tree.span.end.offset;
        let empty = nothing && matches!(&tree.kind, TreeKind::Scalar { style: Style::Plain, .. });
        let mut blank = false;
        if parent.is_none() {
            let gap = self.gap();
            (node.inner, blank) = (gap.comments, gap.blank);
        }
        loop {
            self.spaces();
            match self.peek() {
                Some('&' | '!') if !self.is_of_key(tree) => {
                    let word = self.rest().split([' ', '\t', '\n']).next().unwrap_or_default().to_owned();
                    self.at += word.len();
                    node.properties.push(word);
                }
                Some('#') if node.beside.is_none() && !node.below => {
                    let text = self.line().trim_end().to_owned();
                    let before = self.source.get(..self.at).unwrap_or_default();
                    let space = before.len() - before.trim_end_matches([' ', '\t']).len();
                    self.at += self.line().len();
                    node.beside = Some(Tail { space: space.max(1), text });
                }
                Some('\n') | None if empty => break,
                Some('\n') => {
                    node.below = true;
                    let gap = self.gap();
                    node.inner.extend(gap.comments);
                    blank = gap.blank;
                }
                _ => break,
            }
        }
        if empty && self.peek() != Some('*') {
            node.tail = node.beside.take();
            node.inner = self.closing(parent.map_or(0, |column| column + 1), parent);
            return Ok(node);
        }
        let first = self.peek();
        match &tree.kind {
            TreeKind::Mapping(entries) if !matches!(first, Some('{' | '*')) => {
                node.body = self.mapping(entries, std::mem::take(&mut node.inner), blank, parent)?;
            }
            TreeKind::Sequence(items) if !matches!(first, Some('[' | '*')) => {
                node.body = self.sequence(items, std::mem::take(&mut node.inner), blank, parent)?;
            }
            TreeKind::Scalar { style: Style::Literal | Style::Folded, .. } if first != Some('*') => {
                self.block(&mut node, parent)?;
            }
            _ => {
                let end = tree.span.end.offset;
                let Some(raw) = self.source.get(self.at..end).map(str::trim_end) else {
                    return Err(self.refused("this value"));
                };
                let flow = first == Some('{') || first == Some('[');
                node.body = Body::Lines(if flow { flow_lines(raw) } else { text_lines(raw) });
                self.at += raw.len();
                node.tail = self.tail();
            }
        }
        Ok(node)
    }

    /// Tells whether an anchor here is the first key's, not the mapping's.
    fn is_of_key(&self, tree: &Tree) -> bool {
        let first = tree.entries().first().filter(|_| !self.rest().is_empty());
        first.is_some_and(|entry| {
            self.source.get(self.at..entry.key_span.start.offset).is_some_and(|between| !between.contains(['\n', '{']))
        })
    }

    fn mapping(
        &mut self,
        entries: &[crate::yaml::Entry],
        mut comments: Vec<Comment>,
        mut blank: bool,
        parent: Option<usize>,
    ) -> Read<Body> {
        let column = self.column();
        let mut read = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            if index > 0 {
                let gap = self.gap();
                (comments, blank) = (gap.comments, gap.blank);
            }
            let end = entry.key_span.end.offset;
            let key = self.source.get(self.at..end).unwrap_or_default().trim_end().to_owned();
            let explicit = self.rest().starts_with("? ") || self.rest().starts_with("?\n");
            if key.is_empty() && end > self.at || key.contains('\n') || explicit {
                return Err(self.refused("a key with `?`, or of several lines,"));
            }
            self.at = self.at.max(end);
            self.spaces();
            if self.peek() != Some(':') {
                return Err(self.refused("this key"));
            }
            self.at += 1;
            let rest = self.rest();
            let space = rest.len() - rest.trim_start_matches(' ').len();
            self.path.push(entry.key.to_string());
            let value = self.node(&entry.value, Some(column))?;
            self.path.pop();
            read.push(Entry { comments: std::mem::take(&mut comments), blank, key, space, value });
        }
        let end = self.closing(column, parent);
        if self.path.is_empty() {
            take_head(&mut self.head, &mut read);
        }
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        if let Some(order) = order::order(self.kind, &path).filter(|_| !self.has_anchors(entries)) {
            let places = order::sorted(order, entries.iter().map(|entry| &*entry.key));
            read = moved(read, &places);
        }
        Ok(Body::Mapping(read, end))
    }

    /// Tells whether entries hold anchors or aliases: an alias must stay behind its anchor.
    fn has_anchors(&self, entries: &[crate::yaml::Entry]) -> bool {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return false };
        let end = last.value.span.end.offset.max(last.key_span.end.offset).max(self.at);
        let text = self.source.get(first.key_span.start.offset..end).unwrap_or_default();
        let mut before = ' ';
        text.chars().any(|letter| {
            let found = matches!(letter, '&' | '*') && matches!(before, ' ' | '\n' | '\t' | '[' | '{' | ',');
            before = letter;
            found
        }) && self.tree_has_aliases()
    }

    fn tree_has_aliases(&self) -> bool {
        fn any(tree: &Tree, source: &str) -> bool {
            let alias = source.get(tree.span.start.offset..).is_some_and(|text| text.starts_with('*'));
            alias
                || tree.items().iter().any(|it| any(it, source))
                || tree.entries().iter().any(|it| any(&it.value, source))
        }
        any(self.tree, self.source)
    }

    fn sequence(
        &mut self,
        items: &[Tree],
        mut comments: Vec<Comment>,
        mut blank: bool,
        parent: Option<usize>,
    ) -> Read<Body> {
        let column = self.column();
        let mut read = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                let gap = self.gap();
                (comments, blank) = (gap.comments, gap.blank);
            }
            if self.peek() != Some('-') {
                return Err(self.refused("this item"));
            }
            self.at += 1;
            self.path.push(order::ITEM.to_owned());
            let value = self.node(item, Some(column))?;
            self.path.pop();
            read.push(Item { comments: std::mem::take(&mut comments), blank, value });
        }
        Ok(Body::Sequence(read, self.closing(column, parent)))
    }

    /// Takes the comments that belong to the end of a mapping or list in this column: those that stand as deep, before
    /// something less deep.
    fn closing(&mut self, column: usize, parent: Option<usize>) -> Vec<Comment> {
        let before = self.at;
        let Gap { mut comments, ends, .. } = self.gap();
        let next = self.peek().map(|_| self.column());
        // A list may stand as deep as the key that it belongs to: what follows there is the key's.
        let least = if parent == Some(column) { column + 1 } else { column };
        let own = comments.iter().take_while(|comment| comment.column >= least).count();
        let own = if next.is_some_and(|next| next >= column && parent != Some(column)) { 0 } else { own };
        self.at = own.checked_sub(1).and_then(|last| ends.get(last)).copied().unwrap_or(before);
        comments.truncate(own);
        comments
    }

    /// Reads a literal or folded text.
    fn block(&mut self, node: &mut Node, parent: Option<usize>) -> Read<()> {
        let header = self.rest().split([' ', '\t', '\n']).next().unwrap_or_default().to_owned();
        self.at += header.len();
        if let Some(tail) = self.tail()
            && let Some(Tail { text, .. }) = node.beside.replace(tail)
        {
            node.inner.insert(0, Comment { text, blank: false, column: 0 });
        }
        self.spaces();
        let stated = header.chars().find_map(|letter| letter.to_digit(10)).and_then(|it| usize::try_from(it).ok());
        let keep = header.contains('+');
        let body = self.rest().get(1..).unwrap_or_default();
        let depth = |line: &str| line.len() - line.trim_start_matches(' ').len();
        let first = body.lines().find(|line| !line.trim_start_matches(' ').is_empty()).map_or(0, depth);
        let indent = stated.map_or(first, |stated| parent.unwrap_or(0) + stated);
        let least = parent.map_or(0, |column| column + 1);
        let (mut lines, mut length, mut taken, mut kept) = (Vec::new(), 0, 0, 0);
        for line in body.split_inclusive('\n') {
            let bare = line.strip_suffix('\n').unwrap_or(line);
            let nothing = bare.trim_start_matches(' ').is_empty();
            if !nothing && (depth(bare) < indent || indent < least) {
                break;
            }
            length += line.len();
            lines.push(bare.get(indent..).unwrap_or_default().to_owned());
            if !nothing || bare.len() > indent {
                (taken, kept) = (length, lines.len());
            }
        }
        if keep {
            (taken, kept) = (length, lines.len());
        }
        lines.truncate(kept);
        if kept > 0 {
            let text = body.get(..taken).unwrap_or_default();
            self.at += 1 + text.strip_suffix('\n').unwrap_or(text).len();
        }
        // Where a digit says how deep the text stands, it stands two deep from now on.
        let header = header.chars().map(|letter| if letter.is_ascii_digit() { '2' } else { letter }).collect();
        node.body = Body::Block { header, lines };
        Ok(())
    }

    fn refused(&self, what: &str) -> Box<Diagnostic> {
        let before = self.source.get(..self.at).unwrap_or_default();
        let line = u32::try_from(before.matches('\n').count()).unwrap_or(u32::MAX).saturating_add(1);
        let letters = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let column = u32::try_from(letters).unwrap_or(u32::MAX).saturating_add(1);
        let place = Position { line, column, offset: self.at };
        let span = Span { file: self.tree.span.file.clone(), start: place, end: place };
        let told = Diagnostic::error(Code::YamlSyntax, span, format!("{what} cannot be formatted"));
        Box::new(told.with_help("write it as `key: value`"))
    }
}

/// Puts entries into their order. Blank lines part places, not entries: who comes first has what the first one had.
fn moved(entries: Vec<Entry>, places: &[usize]) -> Vec<Entry> {
    if places.iter().enumerate().all(|(place, from)| place == *from) {
        return entries;
    }
    let mut entries: Vec<Option<Entry>> = entries.into_iter().map(Some).collect();
    let mut sorted: Vec<Entry> = places.iter().filter_map(|from| entries.get_mut(*from)?.take()).collect();
    let Some(was_first) = places.iter().position(|from| *from == 0).filter(|place| *place > 0) else { return sorted };
    if let [now, .., was] = sorted.get_mut(..=was_first).unwrap_or_default() {
        std::mem::swap(parted(now), parted(was));
    }
    sorted
}

/// Whether a blank line stands before an entry with its comments.
fn parted(entry: &mut Entry) -> &mut bool {
    match entry.comments.first_mut() {
        Some(comment) => &mut comment.blank,
        None => &mut entry.blank,
    }
}

/// Returns the lines of a plain or quoted text.
fn text_lines(raw: &str) -> Vec<(usize, String)> {
    let lines = raw.split('\n').enumerate();
    lines
        .map(|(number, line)| if number == 0 { (0, end(line)) } else { (1, end(line.trim_start_matches([' ', '\t']))) })
        .collect()
}

/// Takes the spaces from the end of a line, but one behind a `\` that it belongs to.
fn end(line: &str) -> String {
    let trimmed = line.trim_end_matches([' ', '\t']);
    let escaped = trimmed.ends_with('\\') && trimmed.len() < line.len();
    line.get(..trimmed.len() + usize::from(escaped)).unwrap_or(trimmed).to_owned()
}

/// Returns the lines of a flow collection, each one level deeper than the line on which its bracket was opened.
fn flow_lines(raw: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    // The lines on which the open brackets stand.
    let mut open: Vec<usize> = Vec::new();
    let mut quote: Option<char> = None;
    for (number, line) in raw.split('\n').enumerate() {
        let text = if number == 0 { end(line) } else { end(line.trim_start_matches([' ', '\t'])) };
        let twice = text.is_empty() && lines.last().is_some_and(|(_, last)| last.is_empty());
        let closed = if quote.is_some() { 0 } else { text.chars().take_while(|it| matches!(it, ']' | '}')).count() };
        let mut levels: Vec<usize> = open.get(..open.len().saturating_sub(closed)).unwrap_or_default().to_vec();
        levels.dedup();
        let depth = if number == 0 { 0 } else { levels.len() };
        scan(&text, number, &mut open, &mut quote);
        if !twice || quote.is_some() {
            lines.push((depth, text));
        }
    }
    lines
}

/// Follows brackets and quotes over a line.
fn scan(line: &str, number: usize, open: &mut Vec<usize>, quote: &mut Option<char>) {
    let mut letters = line.chars().peekable();
    // Whether a new text may begin: only there a quote opens.
    let (mut begins, mut before) = (true, ' ');
    while let Some(letter) = letters.next() {
        match (*quote, letter) {
            (Some('"'), '\\') => drop(letters.next()),
            (Some('\''), '\'') if letters.peek() == Some(&'\'') => drop(letters.next()),
            (Some(mark), _) if mark == letter => *quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if begins => {
                *quote = Some(letter);
                begins = false;
            }
            (None, '#') if before == ' ' || before == '\t' => return,
            (None, '[' | '{') => {
                open.push(number);
                begins = true;
            }
            (None, ']' | '}') => {
                open.pop();
                begins = false;
            }
            (None, ',' | ':') => begins = true,
            (None, ' ' | '\t') => {}
            (None, _) => begins = false,
        }
        before = letter;
    }
}
