//! How near a post is to earlier ones.

use std::collections::HashSet;

use unicode_segmentation::UnicodeSegmentation;

use crate::model::Timestamp;
use crate::text::EntityKind;
use crate::text::entities_of;
use crate::text::folded;

/// How many words in a row are compared.
const ROW: usize = 3;

/// A text that was posted before.
#[derive(Clone, Debug, PartialEq)]
pub struct Earlier {
    pub id: String,
    pub text: String,
    pub at: Option<Timestamp>,
}

/// The earlier text that is nearest.
#[derive(Clone, Debug, PartialEq)]
pub struct Near<'e> {
    pub earlier: &'e Earlier,
    /// From 0, nothing in common, to 1, the same words; in hundredths.
    pub hundredths: u32,
}

/// Finds the earlier text that a text is nearest to: how many of the rows of three words of both they have in common
/// (Jaccard). Case, accents, punctuation and links do not count.
#[must_use]
pub fn nearest<'e>(text: &str, earlier: &'e [Earlier]) -> Option<Near<'e>> {
    let own = rows(text);
    let near = earlier.iter().map(|earlier| Near { earlier, hundredths: alike(&own, &rows(&earlier.text)) });
    // Of equally near ones the first: the list is in the order of the caller.
    near.reduce(|best, next| if next.hundredths > best.hundredths { next } else { best })
}

fn alike(one: &HashSet<Vec<String>>, other: &HashSet<Vec<String>>) -> u32 {
    let both = one.intersection(other).count();
    let all = one.len() + other.len() - both;
    // Nothing is like nothing: a picture without words repeats no other.
    (both * 100).checked_div(all).map_or(0, |share| u32::try_from(share).unwrap_or(100))
}

/// Returns the rows of words; of a text that is shorter than one row, all its words.
fn rows(text: &str) -> HashSet<Vec<String>> {
    let mut bare = text.to_owned();
    for link in entities_of(text, EntityKind::Link).iter().rev() {
        bare.replace_range(link.range.clone(), " ");
    }
    let bare = folded(&bare);
    let words: Vec<String> = bare.unicode_words().map(str::to_owned).collect();
    match words.len() {
        0 => HashSet::new(),
        short if short < ROW => HashSet::from([words]),
        _ => words.windows(ROW).map(<[String]>::to_vec).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(one: &str, other: &str) -> u32 {
        let earlier = [Earlier { id: "1".to_owned(), text: other.to_owned(), at: None }];
        nearest(one, &earlier).map_or(0, |near| near.hundredths)
    }

    #[test]
    fn nearness_is_of_words() {
        let text = "Release 2.4 is out: imports are twice as fast";
        assert_eq!(near(text, text), 100);
        assert_eq!(near(text, "release 2.4 IS out - imports are twice as fast! https://example.com"), 100);
        assert_eq!(near(text, "Release 2.5 is out: imports are twice as fast"), 55);
        assert_eq!(near(text, "Something else entirely, about crashes and how we test"), 0);
        assert_eq!(near("Hello", "hello!"), 100);
        assert_eq!(near("🎉", "🎉"), 0);
        assert_eq!(near("", ""), 0);
        assert!(near("我们发布了新版本的数据工具", "我们发布了新版本的数据平台") >= 60);
    }

    #[test]
    fn the_first_of_equals_is_told() {
        let earlier =
            ["a b c", "x y z", "x y z"].map(|text| Earlier { id: text.to_owned(), text: text.to_owned(), at: None });
        assert_eq!(nearest("x y z", &earlier).map(|near| near.earlier), earlier.get(1));
        assert_eq!(nearest("x", &[]), None);
    }
}
