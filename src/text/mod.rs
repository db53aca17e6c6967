//! Texts as outside systems read them: how long they are, and the links, names and tags in them. Pure.
//!
//! The template filters, the schemas of manifests and `content` ask the same functions, so that what is refused, what is
//! counted and what is adapted never differ.

mod count;
mod emoji;
mod entities;
mod fold;
mod link;
mod measure;
mod media;

pub use self::count::Count;
pub use self::count::count_text;
pub use self::entities::Entity;
pub use self::entities::EntityKind;
pub use self::entities::entities;
pub use self::entities::entities_of;
pub use self::fold::folded;
pub use self::link::links;
pub use self::measure::Measure;
pub use self::measure::joined;
pub use self::media::fits_media;
pub use self::media::media_type;
pub use self::media::media_type_of;
pub use self::media::most_bytes;
pub use self::media::not_beside;
pub use self::media::wrong_kind;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Value;

    #[test]
    fn texts_hold_and_weigh_what_the_published_rules_say() {
        let (tree, faults) = crate::yaml::parse(&"posts.yaml".into(), include_str!("../../tests/data/posts.yaml"));
        assert!(faults.is_empty(), "{faults:?}");
        let cases = tree.unwrap().to_value();
        let cases = cases.as_list().unwrap();
        assert!(cases.len() > 60);
        let kinds = [
            ("links", EntityKind::Link),
            ("mentions", EntityKind::Mention),
            ("hashtags", EntityKind::Hashtag),
            ("cashtags", EntityKind::Cashtag),
        ];
        let mut wrong = Vec::new();
        for case in cases {
            let text = case.get("text").unwrap().to_text();
            let weight = case.get("weight").unwrap().to_text();
            let own = count_text(&text, Count::Twitter).to_string();
            if own != weight {
                wrong.push(format!("{text:?} weighs {own}, expected {weight}"));
            }
            for (key, kind) in kinds {
                let expected = case.get(key).and_then(Value::as_list).unwrap_or_default();
                let expected: Vec<String> = expected.iter().map(Value::to_text).collect();
                let found: Vec<_> = entities_of(&text, kind).iter().map(|it| it.name(&text).to_owned()).collect();
                if found != expected {
                    wrong.push(format!("{text:?} has {key} {found:?}, expected {expected:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_can_be_read(text in "\\PC{0,80}", signs in r"[@#$./:a-z0-9éあ😀 \u{fe0f}\u{200d}-]{0,60}") {
            for text in [text, signs] {
                let mut end = 0;
                for entity in entities(&text) {
                    prop_assert!(entity.range.start >= end && text.get(entity.range.clone()).is_some());
                    end = entity.range.end;
                }
                for (_, count) in Count::NAMES {
                    prop_assert!(count_text(&text, count) <= text.len() * 2 + 23 * links(&text).len());
                }
                prop_assert_eq!(folded(&folded(&text)), folded(&text));
            }
        }
    }
}
