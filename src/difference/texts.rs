//! Two texts, line by line.

/// How many lines of a difference are told.
const MOST: usize = 40;
/// Longer texts are not compared line by line.
const LONGEST: usize = 4_000;

/// Returns the lines that are gone, `- …`, and those that are new, `+ …`, in the order of the texts.
pub(super) fn lines(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    if old.len() > LONGEST || new.len() > LONGEST {
        return vec![format!("{} lines before, {} now", old.len(), new.len())];
    }
    let head = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(old, new)| old == new).count();
    let (old, new) = (slice(&old, head, tail), slice(&new, head, tail));
    let common = longest_common(old, new);
    let (mut told, mut at_old, mut at_new) = (Vec::new(), 0, 0);
    for (in_old, in_new) in common.into_iter().chain([(old.len(), new.len())]) {
        told.extend(old.iter().take(in_old).skip(at_old).map(|line| format!("- {line}")));
        told.extend(new.iter().take(in_new).skip(at_new).map(|line| format!("+ {line}")));
        (at_old, at_new) = (in_old + 1, in_new + 1);
    }
    if told.len() > MOST {
        let more = told.len() - MOST;
        told.truncate(MOST);
        told.push(format!("and {more} more lines"));
    }
    told
}

fn slice<'t, 'l>(lines: &'t [&'l str], head: usize, tail: usize) -> &'t [&'l str] {
    lines.get(head..lines.len().saturating_sub(tail)).unwrap_or_default()
}

/// Finds the longest sequence of lines that both have, as pairs of places.
fn longest_common(old: &[&str], new: &[&str]) -> Vec<(usize, usize)> {
    let width = new.len() + 1;
    let mut lengths = vec![0_u32; (old.len() + 1) * width];
    let at = |table: &[u32], row: usize, column: usize| table.get(row * width + column).copied().unwrap_or(0);
    for (row, one) in old.iter().enumerate().rev() {
        for (column, other) in new.iter().enumerate().rev() {
            let length = if one == other {
                at(&lengths, row + 1, column + 1) + 1
            } else {
                at(&lengths, row + 1, column).max(at(&lengths, row, column + 1))
            };
            if let Some(cell) = lengths.get_mut(row * width + column) {
                *cell = length;
            }
        }
    }
    let (mut row, mut column, mut pairs) = (0, 0, Vec::new());
    while let (Some(one), Some(other)) = (old.get(row), new.get(column)) {
        if one == other {
            pairs.push((row, column));
            (row, column) = (row + 1, column + 1);
        } else if at(&lengths, row + 1, column) >= at(&lengths, row, column + 1) {
            row += 1;
        } else {
            column += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_told() {
        assert_eq!(lines("a\nb\nc\nd", "a\nx\nc\nd\ne"), ["- b", "+ x", "+ e"]);
        assert!(lines("a\nb", "a\nb").is_empty());
        assert_eq!(lines("", "a"), ["+ a"]);
        assert_eq!(lines("a\na\nb", "a\nb"), ["- a"]);
    }
}
