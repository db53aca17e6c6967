//! A text that matches a regular expression, for the common ones: letters, classes, groups, counts. What it cannot read
//! gives nothing.

use std::iter::Peekable;
use std::str::Chars;

use regex_lite::Regex;

use super::words::hash;
use super::words::pick;

/// How often a part comes that may come any number of times more.
const MORE: u64 = 2;
/// Longer than what anyone waits for.
const LONGEST: usize = 4_096;

/// Makes a text that the pattern matches.
pub(super) fn example(pattern: &str, seed: u64) -> Option<String> {
    let mut maker = Maker { rest: pattern.chars().peekable(), seed, drawn: 0 };
    let text = maker.alternatives()?;
    let whole = maker.rest.next().is_none();
    (whole && Regex::new(pattern).ok()?.is_match(&text)).then_some(text)
}

struct Maker<'p> {
    rest: Peekable<Chars<'p>>,
    seed: u64,
    drawn: u64,
}

/// A part of a pattern: a text that stays, or letters of which one is drawn each time.
enum Part {
    Text(String),
    One(Vec<char>),
}

impl Maker<'_> {
    /// Makes the first of several alternatives, and reads over the rest.
    fn alternatives(&mut self) -> Option<String> {
        let first = self.sequence()?;
        while self.rest.next_if_eq(&'|').is_some() {
            self.sequence()?;
        }
        Some(first)
    }

    fn sequence(&mut self) -> Option<String> {
        let mut out = String::new();
        while let Some(letter) = self.rest.next_if(|letter| !matches!(letter, '|' | ')')) {
            let part = match letter {
                '^' | '$' => continue,
                '(' => self.group()?,
                '[' => Part::One(self.class()?),
                '.' => Part::One(letters(&[('a', 'z')])),
                '\\' => self.escape()?,
                '*' | '+' | '?' | '{' => return None,
                letter => Part::Text(letter.to_string()),
            };
            let times = self.times()?;
            for _ in 0..times {
                match &part {
                    Part::Text(text) => out.push_str(text),
                    Part::One(letters) => out.push(self.draw(letters)?),
                }
                if out.len() > LONGEST {
                    return None;
                }
            }
        }
        Some(out)
    }

    fn group(&mut self) -> Option<Part> {
        if self.rest.next_if_eq(&'?').is_some() {
            // A look-around is beyond this; a name is read over.
            match self.rest.next()? {
                ':' => {}
                'P' | '<' => while self.rest.next()? != '>' {},
                _ => return None,
            }
        }
        let text = self.alternatives()?;
        self.rest.next_if_eq(&')')?;
        Some(Part::Text(text))
    }

    fn escape(&mut self) -> Option<Part> {
        Some(match self.rest.next()? {
            'd' => Part::One(letters(&[('0', '9')])),
            'w' => Part::One(letters(&[('a', 'z'), ('0', '9')])),
            's' => Part::Text(" ".to_owned()),
            'D' | 'W' | 'S' | 'p' | 'P' | 'u' | 'x' => return None,
            'b' | 'B' => Part::Text(String::new()),
            't' => Part::Text("\t".to_owned()),
            'n' => Part::Text("\n".to_owned()),
            letter => Part::Text(letter.to_string()),
        })
    }

    fn class(&mut self) -> Option<Vec<char>> {
        let refused = self.rest.next_if_eq(&'^').is_some();
        let mut found = Vec::new();
        loop {
            let letter = match self.rest.next()? {
                ']' if !found.is_empty() => break,
                '\\' => match self.escape()? {
                    Part::One(letters) => {
                        found.extend(letters);
                        continue;
                    }
                    Part::Text(text) => text.chars().next()?,
                },
                letter => letter,
            };
            let mut ahead = self.rest.clone();
            if ahead.next() == Some('-') && ahead.next().is_some_and(|last| last != ']') {
                self.rest.next();
                let last = self.rest.next()?;
                found.extend((letter..=last).take(LONGEST));
            } else {
                found.push(letter);
            }
        }
        if !refused {
            return Some(found);
        }
        let all = letters(&[('a', 'z'), ('A', 'Z'), ('0', '9'), (' ', '/')]);
        Some(all.into_iter().filter(|letter| !found.contains(letter)).collect())
    }

    /// Reads how often the part before comes, and chooses.
    fn times(&mut self) -> Option<u64> {
        let (least, most) = match self.rest.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                self.rest.next();
                let mut text = String::new();
                while let Some(letter) = self.rest.next_if(|letter| *letter != '}') {
                    text.push(letter);
                }
                let (least, most) = text.split_once(',').map_or((&*text, Some(&*text)), |(least, most)| {
                    (least, Some(most).filter(|most| !most.is_empty()))
                });
                (least.parse().ok()?, most.map(str::parse).transpose().ok()?)
            }
            _ => return Some(1),
        };
        self.rest.next();
        self.rest.next_if_eq(&'?');
        Some(most.unwrap_or(least + MORE).min(least + MORE))
    }

    fn draw(&mut self, letters: &[char]) -> Option<char> {
        self.drawn += 1;
        pick(letters, hash(self.seed, &self.drawn.to_string())).copied()
    }
}

fn letters(ranges: &[(char, char)]) -> Vec<char> {
    ranges.iter().flat_map(|(first, last)| *first..=*last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_matches() {
        for pattern in [
            r"^\d{4}-\d{2}-\d{2}$",
            "^[A-Z]{2,3}-[0-9]+$",
            "^(draft|final)(_v[1-9])?$",
            r"^[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}$",
            r"^#[0-9a-fA-F]{6}$",
            r"^[^@\s]+$",
            "^(?:a|b){3}x*y?$",
            r"\bword\b",
            "^[]a]+$",
        ] {
            for seed in 0..5 {
                let text = example(pattern, seed).unwrap_or_else(|| panic!("{pattern}"));
                assert!(Regex::new(pattern).unwrap().is_match(&text), "{pattern}: {text}");
            }
        }
        assert_eq!(example("(?=x)y", 1), None);
        assert_eq!(example("(", 1), None);
    }
}
