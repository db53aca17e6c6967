//! Patterns of paths: `inbox/*.csv`, `data/**/*.{json,xml}`.

use std::fmt;

/// The most alternatives that braces may open up.
const MOST: usize = 64;

/// A pattern of paths below a folder. `*` and `?` stand for what has no slash in it, `[a-z]` for one letter, `{a,b}` for one
/// of several, and a `**` between slashes for any folders. What begins with a dot is meant only where the pattern says the
/// dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
    /// One for each alternative of its braces.
    ways: Vec<Vec<Part>>,
}

/// What stands between two slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Any folders, none too.
    Folders,
    Name(Vec<Piece>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Letter(char),
    One,
    Some,
    Set { not: bool, ranges: Vec<(char, char)> },
}

/// What a pattern says of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// Nothing in it can match.
    Nothing,
    /// Something in it may match.
    Some,
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.ends_with('/') {
            return Err("it names no file".to_owned());
        }
        if text.contains('\\') {
            return Err("folders are divided by `/`".to_owned());
        }
        let mut ways = Vec::new();
        for way in alternatives(text)? {
            let way = way.strip_prefix("./").unwrap_or(&way).to_owned();
            let (root, below) = match way.strip_prefix('/') {
                Some(below) => (true, below),
                None => (false, way.as_str()),
            };
            let mut parts = if root { vec![Part::Name(Vec::new())] } else { Vec::new() };
            for part in below.split('/') {
                parts.push(match part {
                    "" => return Err("two slashes follow each other".to_owned()),
                    "**" => Part::Folders,
                    part if part.contains("**") => return Err("`**` stands alone between slashes".to_owned()),
                    part => Part::Name(pieces(part)?),
                });
            }
            if matches!(parts.last(), Some(Part::Folders)) {
                return Err("it ends in folders: `**/*` means all files in them".to_owned());
            }
            ways.push(parts);
        }
        Ok(Self { text: text.to_owned(), ways })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Tells whether it leads out of the folder that it is relative to.
    #[must_use]
    pub fn leads_out(&self) -> bool {
        let up = [Piece::Letter('.'), Piece::Letter('.')];
        self.ways.iter().any(|way| {
            let absolute = matches!(way.first(), Some(Part::Name(pieces)) if pieces.is_empty());
            absolute || way.iter().any(|part| matches!(part, Part::Name(pieces) if *pieces == up))
        })
    }

    /// Returns the folders that are written out at its beginning, by alternative: where its files are looked for.
    #[must_use]
    pub fn bases(&self) -> Vec<String> {
        let mut bases: Vec<String> = self
            .ways
            .iter()
            .map(|way| {
                let folders = way.split_last().map_or(&[] as &[Part], |(_, folders)| folders);
                let written = folders.iter().map_while(|part| match part {
                    Part::Name(pieces) => pieces.iter().map(letter).collect::<Option<String>>(),
                    Part::Folders => None,
                });
                let base = written.collect::<Vec<_>>().join("/");
                let absolute = matches!(way.first(), Some(Part::Name(pieces)) if pieces.is_empty());
                if base.is_empty() && absolute { "/".to_owned() } else { base }
            })
            .collect();
        bases.sort();
        bases.dedup();
        bases
    }

    /// Tells whether a file's path, relative to where the pattern is, matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let names: Vec<&str> = path.split('/').collect();
        self.ways.iter().any(|way| whole(way, &names))
    }

    /// Tells whether anything in a folder may match.
    #[must_use]
    pub fn within(&self, folder: &str) -> Within {
        let names: Vec<&str> = if folder.is_empty() { Vec::new() } else { folder.split('/').collect() };
        if self.ways.iter().any(|way| begins(way, &names)) { Within::Some } else { Within::Nothing }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

fn letter(piece: &Piece) -> Option<char> {
    match piece {
        Piece::Letter(letter) => Some(*letter),
        _ => None,
    }
}

/// Opens the braces.
fn alternatives(text: &str) -> Result<Vec<String>, String> {
    let Some((before, rest)) = text.split_once('{') else {
        return if text.contains('}') { Err("a `}` has no `{`".to_owned()) } else { Ok(vec![text.to_owned()]) };
    };
    let Some((inner, after)) = rest.split_once('}') else { return Err("a `{` is not closed".to_owned()) };
    if inner.contains('{') {
        return Err("braces do not stand in braces".to_owned());
    }
    if before.contains('}') {
        return Err("a `}` has no `{`".to_owned());
    }
    let ends = alternatives(after)?;
    let all: Vec<String> =
        inner.split(',').flat_map(|one| ends.iter().map(move |end| format!("{before}{one}{end}"))).collect();
    if all.len() > MOST { Err(format!("its braces have more than {MOST} alternatives")) } else { Ok(all) }
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        pieces.push(match letter {
            '*' => Piece::Some,
            '?' => Piece::One,
            '[' => set(&mut letters)?,
            letter => Piece::Letter(letter),
        });
    }
    Ok(pieces)
}

fn set(letters: &mut std::str::Chars<'_>) -> Result<Piece, String> {
    let mut inner: Vec<char> = Vec::new();
    loop {
        match letters.next() {
            Some(']') if !inner.is_empty() && inner != ['!'] => break,
            Some(letter) => inner.push(letter),
            None => return Err("a `[` is not closed".to_owned()),
        }
    }
    let not = inner.first() == Some(&'!');
    let mut rest = inner.get(usize::from(not)..).unwrap_or_default();
    let mut ranges = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        match after {
            ['-', last, after @ ..] if first <= last => {
                ranges.push((*first, *last));
                rest = after;
            }
            ['-', last, ..] => return Err(format!("`{first}-{last}` goes backwards")),
            after => {
                ranges.push((*first, *first));
                rest = after;
            }
        }
    }
    Ok(Piece::Set { not, ranges })
}

fn whole(parts: &[Part], names: &[&str]) -> bool {
    match (parts.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((Part::Folders, rest)), _) => {
            whole(rest, names)
                || names.split_first().is_some_and(|(name, names)| !name.starts_with('.') && whole(parts, names))
        }
        (Some((Part::Name(pieces), rest)), Some((name, names))) => named(pieces, name) && whole(rest, names),
        _ => false,
    }
}

/// Tells whether what these folders hold may match.
fn begins(parts: &[Part], folders: &[&str]) -> bool {
    match (parts.split_first(), folders.split_first()) {
        (Some(_), None) => true,
        (Some((Part::Folders, rest)), Some((name, names))) => {
            (!name.starts_with('.') && begins(parts, names)) || begins(rest, folders)
        }
        // The last part is the file's.
        (Some((Part::Name(pieces), rest)), Some((name, names))) => {
            !rest.is_empty() && named(pieces, name) && begins(rest, names)
        }
        (None, _) => false,
    }
}

fn named(pieces: &[Piece], name: &str) -> bool {
    let hidden = name.starts_with('.') && pieces.first() != Some(&Piece::Letter('.'));
    let letters: Vec<char> = name.chars().collect();
    !hidden && lettered(pieces, &letters)
}

/// Goes back to the last `*` only: so the time is bounded by the product of the lengths.
fn lettered(pieces: &[Piece], letters: &[char]) -> bool {
    let (mut piece, mut at) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while at < letters.len() || piece < pieces.len() {
        let fits = match (pieces.get(piece), letters.get(at)) {
            (Some(Piece::Some), _) => {
                back = Some((piece + 1, at));
                piece += 1;
                continue;
            }
            (Some(Piece::One), Some(_)) => true,
            (Some(Piece::Letter(wanted)), Some(letter)) => wanted == letter,
            (Some(Piece::Set { not, ranges }), Some(letter)) => {
                ranges.iter().any(|(first, last)| (first..=last).contains(&letter)) != *not
            }
            _ => false,
        };
        if fits {
            piece += 1;
            at += 1;
            continue;
        }
        match back {
            Some((next, taken)) if taken < letters.len() => {
                back = Some((next, taken + 1));
                piece = next;
                at = taken + 1;
            }
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let glob = Glob::parse(pattern).unwrap();
        for path in yes {
            assert!(glob.matches(path), "{pattern} {path}");
            for (at, _) in path.match_indices('/') {
                let folder = path.get(..at).unwrap();
                assert_eq!(glob.within(folder), Within::Some, "{pattern} looks into {folder}");
            }
        }
        for path in no {
            assert!(!glob.matches(path), "{pattern} {path}");
        }
    }

    #[test]
    fn patterns_match_paths() {
        check(
            "inbox/*.md",
            &["inbox/a.md", "inbox/ä b.md"],
            &["a.md", "inbox/a.txt", "inbox/x/a.md", "inbox/.a.md", "outbox/a.md"],
        );
        check(
            "**/*.csv",
            &["a.csv", "x/a.csv", "x/y/z/a.csv"],
            &[".x/a.csv", "x/.git/a.csv", "x/.a.csv", "a.csv.part"],
        );
        check(
            "in/**/day-?/[a-c]*.{json,xml}",
            &["in/day-1/a.json", "in/x/day-2/bb.xml"],
            &["in/day-12/a.json", "in/day-1/d.json", "in/day-1/a.yaml"],
        );
        check("in/[!0-9_]*", &["in/a", "in/-"], &["in/1a", "in/_"]);
        check("in/.hidden/*.txt", &["in/.hidden/a.txt"], &["in/hidden/a.txt"]);
        check("*a*b*c", &["abc", "xxaxxbxxc", "aabbcc"], &["acb", "abcd"]);
        check("[]]x", &["]x"], &["x"]);
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        for (pattern, why) in [
            ("", "no file"),
            ("inbox/", "no file"),
            ("a//b", "slashes"),
            ("a**b", "stands alone"),
            ("in/**", "ends in folders"),
            ("[a", "not closed"),
            ("[z-a]", "backwards"),
            ("{a", "not closed"),
            ("a}", "has no"),
            ("{a,{b}}", "in braces"),
            ("a\\b", "divided"),
            ("{a,b,c,d,e}{a,b,c,d,e}{a,b,c,d,e}", "alternatives"),
        ] {
            let told = Glob::parse(pattern).unwrap_err();
            assert!(told.contains(why), "{pattern}: {told}");
        }
    }

    #[test]
    fn its_bases_are_where_files_are_looked_for() {
        let bases = |pattern: &str| Glob::parse(pattern).unwrap().bases();
        assert_eq!(bases("inbox/new/*.md"), ["inbox/new"]);
        assert_eq!(bases("*.md"), [""]);
        assert_eq!(bases("**/x"), [""]);
        assert_eq!(bases("{a,b}/x/*"), ["a/x", "b/x"]);
        assert_eq!(bases("/srv/in/*"), ["/srv/in"]);
        assert!(Glob::parse("/srv/*").unwrap().leads_out() && Glob::parse("a/../../b").unwrap().leads_out());
        assert!(!Glob::parse("a/b..c/*").unwrap().leads_out());
    }

    #[test]
    fn a_folder_that_cannot_hold_a_match_is_not_looked_into() {
        let glob = Glob::parse("in/*/x-*.csv").unwrap();
        let within = |folder: &str| glob.within(folder) == Within::Some;
        assert!(within("") && within("in") && within("in/a"));
        assert!(!within("out") && !within("in/a/b") && !within("in/.a"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_matching_ends(pattern in ".{0,40}", path in "[a-c./]{0,40}") {
            if let Ok(glob) = Glob::parse(&pattern) {
                let _ = (glob.matches(&path), glob.within(&path), glob.bases());
            }
        }

        #[test]
        fn a_name_without_signs_matches_itself_only(name in "[a-z]{1,8}", other in "[a-z]{1,8}") {
            let glob = Glob::parse(&name).unwrap();
            prop_assert!(glob.matches(&name));
            prop_assert_eq!(glob.matches(&other), name == other);
        }
    }
}
