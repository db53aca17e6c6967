//! The links in a text by the rules of twitter-text: with a scheme, or a bare domain whose ending is known.
//!
//! They are published as regular expressions; this follows them step by step without their backtracking.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;

use super::entities::is_accented;

/// The longest link, in characters, with its scheme.
const LONGEST: usize = 4_096;
/// The longest label of a domain, as it is written in ASCII.
const LABEL: usize = 63;
/// The longest name behind `t.co/`.
const SLUG: usize = 40;
/// How far a domain is looked for, in bytes: a name of the DNS has 253.
const DOMAIN: usize = 256;
/// The longest text that is searched, in bytes: a longer one is no post.
const TEXT: usize = 256 * 1_024;

static ENDINGS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("endings.txt").lines().filter(|line| !line.starts_with('#')).collect());
/// The longest ending, in bytes.
static LONGEST_ENDING: LazyLock<usize> = LazyLock::new(|| ENDINGS.iter().map(|it| it.len()).max().unwrap_or(0));

/// Finds the links in a text, in order.
#[must_use]
pub fn links(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    if text.len() > TEXT {
        return found;
    }
    // A domain ends at one of these, so most places need no closer look.
    let dots = text.match_indices('.');
    let ends: Vec<Ending> =
        dots.filter_map(|(dot, _)| Some(Ending { dot, end: dot + 1 + ending(text.get(dot + 1..)?)? })).collect();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|_| ends.last().is_some_and(|last| at < last.dot)) {
        let Some(letter) = rest.chars().next() else { break };
        let behind = at + letter.len_utf8();
        let before = may_stand_before(letter).then(|| link_at(text, &ends, behind, Some(letter))).flatten();
        let matched = before.or_else(|| if at == 0 { link_at(text, &ends, 0, None) } else { None });
        match matched {
            Some(Matched { end, links }) => {
                found.extend(links);
                at = end;
            }
            None => at = behind,
        }
    }
    found
}

/// A known ending of a domain: where its dot stands, and where it ends.
struct Ending {
    dot: usize,
    end: usize,
}

/// A place that has the shape of a link: where it ends, and what of it is one.
struct Matched {
    end: usize,
    links: Vec<Range<usize>>,
}

fn link_at(text: &str, ends: &[Ending], start: usize, before: Option<char>) -> Option<Matched> {
    let rest = text.get(start..)?;
    let scheme = scheme(rest);
    let with = (scheme > 0).then(|| shape(text, ends, start + scheme)).flatten();
    let (scheme, shape) = match with {
        Some(shape) => (scheme, shape),
        None => (0, shape(text, ends, start)?),
    };
    let Shape { domain, path, end } = shape;
    let name = text.get(domain.clone())?;
    let (written, longer) = encoded(name);
    let nothing = Some(Matched { end, links: Vec::new() });
    let implied = if scheme == 0 { "https://".len() } else { 0 };
    let length = text.get(start..end)?.chars().count().saturating_add(longer) + implied;
    if !written || length > LONGEST {
        return nothing;
    }
    if scheme > 0 {
        return Some(Matched { end, links: short(text, start..end, domain.end) });
    }
    if matches!(before, Some('-' | '_' | '.' | '/')) {
        return nothing;
    }
    // Without a scheme only what is written in the letters of Europe is a link.
    let mut links: Vec<_> = plain_domains(name).map(|own| domain.start + own.start..domain.start + own.end).collect();
    if let Some(last) = links.last_mut().filter(|_| path) {
        last.end = end;
    }
    Some(Matched { end, links })
}

/// Cuts a link of the platform's own short form where its name ends.
fn short(text: &str, link: Range<usize>, domain_end: usize) -> Vec<Range<usize>> {
    let whole = text.get(link.clone()).unwrap_or_default();
    let host = text.get(link.start + scheme(whole)..domain_end).unwrap_or_default();
    let behind = text.get(domain_end..link.end).unwrap_or_default();
    let Some(slug) = behind.strip_prefix('/').filter(|_| host.eq_ignore_ascii_case("t.co")) else { return vec![link] };
    let name = slug.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(slug.len());
    match name {
        0 => vec![link],
        longer if longer > SLUG => Vec::new(),
        _ => {
            let end = domain_end + 1 + name;
            let query = query_end(text.get(end..link.end).unwrap_or_default());
            std::iter::once(link.start..end + query).collect()
        }
    }
}

/// Where the parts of a link stand.
struct Shape {
    domain: Range<usize>,
    /// Whether there is a path behind the domain.
    path: bool,
    end: usize,
}

fn shape(text: &str, ends: &[Ending], start: usize) -> Option<Shape> {
    let domain = start..domain_end(text, ends, start)?;
    let mut end = domain.end;
    let port = text.get(end..).and_then(|rest| rest.strip_prefix(':')).unwrap_or_default();
    let digits = port.bytes().take_while(u8::is_ascii_digit).count();
    if digits > 0 {
        end += 1 + digits;
    }
    let rest = text.get(end..).unwrap_or_default();
    let path = rest.starts_with('/');
    if path {
        end += 1 + path_end(rest.get(1..).unwrap_or_default());
    }
    end += query_end(text.get(end..).unwrap_or_default());
    Some(Shape { domain, path, end })
}

fn scheme(text: &str) -> usize {
    let starts = |scheme: &&str| text.get(..scheme.len()).is_some_and(|own| own.eq_ignore_ascii_case(scheme));
    ["https://", "http://"].iter().find(|scheme| starts(scheme)).map_or(0, |scheme| scheme.len())
}

/// Finds where the longest domain that begins at a place ends: labels with dots between, the last a known ending.
fn domain_end(text: &str, ends: &[Ending], start: usize) -> Option<usize> {
    let far = ends.get(ends.partition_point(|ending| ending.dot < start)..)?;
    let within = far.partition_point(|ending| ending.dot <= start + DOMAIN);
    let within = far.get(..within).filter(|within| !within.is_empty())?;
    let (mut at, mut found) = (start, None);
    // All labels but the one before the ending may have underscores inside.
    while let Some(rest) = text.get(at..).filter(|_| at <= start + DOMAIN) {
        let length = rest.find(|letter: char| !(in_label(letter) || "-_".contains(letter))).unwrap_or(rest.len());
        let label = rest.get(..length).filter(|label| is_label(label));
        let Some(label) = label.filter(|_| rest.get(length..).is_some_and(|behind| behind.starts_with('.'))) else {
            break;
        };
        let dot = at + length;
        if let Ok(index) = within.binary_search_by_key(&dot, |ending| ending.dot)
            && !label.contains('_')
        {
            found = within.get(index).map(|ending| ending.end);
        }
        at = dot + 1;
    }
    found
}

/// A letter or digit at both ends, hyphens and underscores between.
fn is_label(label: &str) -> bool {
    let ends = [label.chars().next(), label.chars().next_back()];
    ends.into_iter().all(|end| end.is_some_and(in_label))
}

/// Returns the length of the known ending that stands at the beginning.
fn ending(text: &str) -> Option<usize> {
    let puny = text.get(..4).is_some_and(|own| own.eq_ignore_ascii_case("xn--"));
    if puny {
        let length = text.bytes().skip(4).take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'-').count();
        if length > 0 {
            return Some(4 + length);
        }
    }
    let ends = text.char_indices().take_while(|(_, letter)| in_label(*letter));
    let ends = ends.map(|(at, letter)| at + letter.len_utf8());
    let ends: Vec<usize> = ends.take_while(|end| *end <= *LONGEST_ENDING).collect();
    ends.into_iter().rev().find(|end| {
        let next = text.get(*end..).and_then(|rest| rest.chars().next());
        let is_whole = next.is_none_or(|next| !next.is_ascii_alphanumeric() && !"@+-".contains(next));
        is_whole && text.get(..*end).is_some_and(|own| ENDINGS.contains(own.to_ascii_lowercase().as_str()))
    })
}

/// Tells whether the labels of a domain can be written in ASCII, and how much longer it becomes by that.
fn encoded(domain: &str) -> (bool, usize) {
    let mut longer = 0_usize;
    let mut fits = true;
    for label in domain.split('.') {
        let is_encoded = label.get(..4).is_some_and(|own| own.eq_ignore_ascii_case("xn--"));
        let length = if label.is_ascii() {
            label.len()
        } else if is_encoded {
            // What is written in ASCII already has no other letters.
            usize::MAX
        } else {
            idna::punycode::encode_str(&label.to_lowercase()).map_or(usize::MAX, |own| "xn--".len() + own.len())
        };
        fits &= (1..=LABEL).contains(&length);
        longer = longer.saturating_add(length.saturating_sub(label.chars().count()));
    }
    (fits, longer)
}

/// Finds the domains within one that are written in the letters of Europe alone.
fn plain_domains(domain: &str) -> impl Iterator<Item = Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = domain.get(at..).filter(|rest| !rest.is_empty()) {
        let is_plain = |letter: char| letter == '-' || letter.is_ascii_alphanumeric() || is_accented(letter);
        let Some(start) = rest.find(is_plain) else { break };
        let run = rest.get(start..).unwrap_or_default();
        let end = run.find(|letter: char| letter != '.' && !is_plain(letter)).unwrap_or(run.len());
        let own = run.get(..end).unwrap_or_default();
        let last = own.match_indices('.').filter(|(dot, _)| {
            let label = own.get(..*dot).unwrap_or_default().rsplit('.').next();
            label.is_some_and(|label| !label.is_empty())
        });
        let length = last.filter_map(|(dot, _)| Some(dot + 1 + ending(run.get(dot + 1..)?)?)).next_back();
        match length {
            Some(length) => {
                found.push(at + start..at + start + length);
                at += start + length;
            }
            None => at += start + end.max(1),
        }
    }
    found.into_iter()
}

/// Returns how much of a text is a path, without the slash that it begins with.
fn path_end(text: &str) -> usize {
    let (mut at, mut end) = (0, 0);
    while let Some(rest) = text.get(at..) {
        let Some(letter) = rest.chars().next() else { break };
        if let Some(length) = parentheses(rest) {
            at += length;
            end = at;
        } else if in_path(letter) {
            at += letter.len_utf8();
            if ends_path(letter) {
                end = at;
            }
        } else {
            break;
        }
    }
    end
}

/// Returns the length of a pair of parentheses with a path inside, which may have one more pair inside.
fn parentheses(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut pairs = 0;
    // What the innermost pair has inside, and whether all pairs have something.
    let mut inside = [0_usize; 2];
    for (at, letter) in text.char_indices() {
        match letter {
            '(' if depth < 2 => {
                depth += 1;
                pairs += 1;
            }
            ')' if depth == 2 && inside[1] > 0 => depth = 1,
            ')' if depth == 1 => return (inside[0] + inside[1] > 0 && pairs <= 2).then_some(at + 1),
            _ if depth == 0 || !in_path(letter) => return None,
            _ => {
                if let Some(count) = inside.get_mut(depth - 1) {
                    *count += 1;
                }
            }
        }
    }
    None
}

fn query_end(text: &str) -> usize {
    let Some(query) = text.strip_prefix('?') else { return 0 };
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"!?*'@();:&=+$/%#[]-_.,~|".contains(&byte);
    let last = query.bytes().take_while(|byte| inside(*byte)).enumerate();
    let last = last.filter(|(_, byte)| byte.is_ascii_alphanumeric() || b"-_&=#/".contains(byte)).last();
    last.map_or(0, |(at, _)| at + 2)
}

fn may_stand_before(letter: char) -> bool {
    !letter.is_ascii_alphanumeric() && !matches!(letter, '@' | '＠' | '$' | '#' | '＃') && !is_never(letter)
}

fn in_path(letter: char) -> bool {
    letter.is_ascii_alphanumeric()
        || "!*';:=+,.$/%#[]-–_~@|&".contains(letter)
        || ('\u{400}'..='\u{4ff}').contains(&letter)
        || is_accented(letter)
}

fn ends_path(letter: char) -> bool {
    letter.is_ascii_alphanumeric()
        || "+-=_#/".contains(letter)
        || ('\u{400}'..='\u{4ff}').contains(&letter)
        || is_accented(letter)
}

/// Tells whether a letter may stand in a domain: all but punctuation, space, and what steers the direction.
fn in_label(letter: char) -> bool {
    let is_punctuation = "!'#%&()*+,\\-./:;<=>?@[]^_{|}~$".contains(letter);
    !is_punctuation && !is_space(letter) && !is_never(letter) && !is_direction(letter)
}

/// Space, as the rules list it.
pub(super) fn is_space(letter: char) -> bool {
    matches!(letter,
        '\t'..='\r' | ' ' | '\u{85}' | '\u{a0}' | '\u{1680}' | '\u{180e}' | '\u{2000}'..='\u{200a}'
            | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

fn is_never(letter: char) -> bool {
    matches!(letter, '\u{fffe}' | '\u{feff}' | '\u{ffff}')
}

fn is_direction(letter: char) -> bool {
    matches!(letter,
        '\u{202a}'..='\u{202e}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        links(text).into_iter().map(|it| text.get(it).unwrap()).collect()
    }

    #[test]
    fn links_end_before_punctuation() {
        assert_eq!(found("a (https://example.com/x). b"), ["https://example.com/x"]);
        assert_eq!(found("example.com, example.org"), ["example.com", "example.org"]);
        assert!(found("nothing.hereby to see").is_empty());
        assert_eq!(found("日本https://example.com日本"), ["https://example.com"]);
        assert_eq!(found("https://en.example.org/wiki/A_(b_(c)_d)!"), ["https://en.example.org/wiki/A_(b_(c)_d)"]);
    }

    #[test]
    fn a_hostile_text_is_searched_in_no_time() {
        for hostile in ["é.", "_.com", "-.com_", "http://", "(", "a.b-", "x.com/((("] {
            let _ = links(&hostile.repeat(TEXT / hostile.len()));
        }
        assert!(links(&"a.com ".repeat(TEXT)).is_empty());
    }
}
