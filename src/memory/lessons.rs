//! Which lessons count, how much, and when they are none any more: the numbers decide, not who says it. Pure.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use rust_decimal::Decimal;
use rust_decimal::prelude::FromPrimitive;
use rust_decimal::prelude::ToPrimitive;

use super::bandit::kept;
use super::measured::Measured;
use super::measured::median;
use super::terms::terms;
use crate::model::Duration;
use crate::model::Timestamp;
use crate::store::Direction;
use crate::store::Labels;
use crate::store::LessonRecord;

/// A lesson rests on so many posts at least.
pub const LEAST_CITED: usize = 2;
/// A claim is compared over so many posts on each side at least.
pub const LEAST_COMPARED: usize = 2;
/// The medians of rewards differ by so much at least where a claim holds.
pub const MARGIN: f64 = 0.03;
/// A claim is new knowledge where chance would give the like no more often than this, whichever value of the feature were
/// claimed and whichever of the two spans were looked at.
pub const CHANCE: f64 = 0.05;
/// Tastes change: a claim is held against the whole history and against so many of the newest posts; either may show it,
/// and the newest may not say the contrary.
pub const NEWEST: usize = 20;
/// Later posts speak for or against a lesson from so many on each side.
pub const LEAST_LATER: usize = 3;
/// They speak against it where the ranks of their rewards are further apart than chance lets them be one time in twenty, on
/// one side. They are looked at again and again, so chance gets there sooner or later: a lesson that is dropped for nothing
/// is soon learned again.
pub const AGAINST: f64 = 1.645;
/// They speak for it where chance lets them be so one time in a hundred: what is confirmed for nothing stays.
pub const FOR: f64 = 2.326;
/// After so long without being confirmed a lesson has half its weight.
pub const HALF_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// What a lesson weighs when it is new: one that numbers support, and one that they cannot check.
const CHECKED: f64 = 0.5;
const UNCHECKED: f64 = 0.3;
/// A confirmation takes so much of what is missing to the whole weight.
const GAIN: f64 = 0.35;
const LONGEST: usize = 500;

/// What somebody says that posts teach.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proposed {
    pub text: String,
    /// Where it holds.
    pub labels: Labels,
    /// What it is about, e.g. `hour=9`, `format=thread`, `style=question`.
    pub feature: Option<String>,
    pub direction: Option<Direction>,
    /// The posts that it rests on.
    pub cites: Vec<String>,
}

/// A lesson that counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    pub lesson: Proposed,
    pub weight: Decimal,
}

/// A lesson that does not.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    pub text: String,
    pub reason: String,
}

/// The posts that have what a lesson is about, and the others.
struct Compared {
    featured: Vec<f64>,
    rest: Vec<f64>,
}

/// Returns what a lesson weighs now: it fades from when it was last confirmed.
#[must_use]
pub fn weight(lesson: &LessonRecord, now: Timestamp, half_life: Duration) -> Decimal {
    let left = lesson.weight.to_f64().unwrap_or_default() * kept(now.since(lesson.confirmed_at), half_life);
    rounded(left)
}

/// Returns what a lesson weighs that is confirmed once more.
#[must_use]
pub fn confirmed(weight: Decimal) -> Decimal {
    let weight = weight.to_f64().unwrap_or_default().clamp(0.0, 1.0);
    rounded(weight + (1.0 - weight) * GAIN)
}

/// Tells whether a lesson holds for something with these labels: it says nothing that they contradict.
#[must_use]
pub fn holds_for(lesson: &Labels, wanted: &Labels) -> bool {
    lesson.iter().all(|(name, value)| wanted.get(name).is_none_or(|other| same(other, value)))
}

/// Judges what somebody says that posts teach: each lesson cites posts that there are, and where numbers can check it, they
/// support it.
#[must_use]
pub fn accept(proposed: &[Proposed], posts: &[Measured]) -> (Vec<Accepted>, Vec<Refused>) {
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for lesson in proposed {
        match judge(lesson, posts) {
            Ok(accept) => accepted.push(accept),
            Err(reason) => refused.push(Refused { text: lesson.text.clone(), reason }),
        }
    }
    (accepted, refused)
}

fn judge(lesson: &Proposed, posts: &[Measured]) -> Result<Accepted, String> {
    let text = lesson.text.trim();
    if text.is_empty() {
        return Err("it says nothing".to_owned());
    }
    if text.chars().count() > LONGEST {
        return Err(format!("it is longer than {LONGEST} characters"));
    }
    let cites: BTreeSet<&str> = lesson.cites.iter().map(|id| id.trim()).collect();
    if let Some(unknown) = cites.iter().find(|id| !posts.iter().any(|post| post.id == **id)) {
        return Err(format!("there is no measured post `{unknown}`"));
    }
    if cites.len() < LEAST_CITED {
        return Err(format!("it rests on {} posts, and needs {LEAST_CITED}", cites.len()));
    }
    let cites: Vec<String> = cites.into_iter().map(str::to_owned).collect();
    let kept = Proposed { text: text.to_owned(), cites, ..lesson.clone() };
    let (feature, direction) = match (lesson.feature.as_deref(), lesson.direction) {
        (None, None) => return Ok(Accepted { lesson: kept, weight: rounded(UNCHECKED) }),
        (Some(feature), Some(direction)) => (feature, direction),
        (Some(feature), None) => return Err(format!("it says not whether `{feature}` is better or worse")),
        (None, Some(_)) => return Err("it says not what is better or worse".to_owned()),
    };
    let (name, value) = split(feature).ok_or_else(|| format!("`{feature}` is no feature such as `hour=9`"))?;
    let cited = |post: &&Measured| kept.cites.contains(&post.id) && has(post, &name, &value);
    let cited: Vec<f64> = posts.iter().filter(cited).filter_map(|post| post.reward).collect();
    let claim = Claim { feature, direction, cited: &cited };
    let whole = compare(&name, &value, &lesson.labels, posts);
    let newest = compare(&name, &value, &lesson.labels, &newest(posts, &name, &lesson.labels));
    let values = alternatives(&name, &lesson.labels, posts);
    if let Err(reason) = claim.shows(&whole, 2 * values) {
        // What is new shows in the newest first; else the whole history says what is missing.
        claim.shows(&newest, 2 * values).map_err(|_| reason)?;
    }
    let spoken = newest.featured.len().min(newest.rest.len()) >= LEAST_LATER;
    if spoken && claim.apart(&newest) < 0.0 {
        let (found, rest) = (newest.featured_median(), newest.rest_median());
        let way = direction.name();
        return Err(format!(
            "of the last {NEWEST} posts those with `{feature}` come to {found:.2}, the others to {rest:.2}: no longer `{way}`"
        ));
    }
    Ok(Accepted { lesson: Proposed { feature: Some(format!("{name}={value}")), ..kept }, weight: rounded(CHECKED) })
}

/// What is said of a feature.
struct Claim<'c> {
    feature: &'c str,
    direction: Direction,
    /// The rewards of the posts that are cited for it.
    cited: &'c [f64],
}

impl Claim<'_> {
    /// Tells whether posts show it, where that many claims could have been made.
    fn shows(&self, compared: &Compared, claims: usize) -> Result<(), String> {
        let feature = self.feature;
        if compared.featured.len() < LEAST_COMPARED || compared.rest.len() < LEAST_COMPARED {
            let (with, without) = (compared.featured.len(), compared.rest.len());
            return Err(format!("there are {with} posts with `{feature}` and {without} without, too few to compare"));
        }
        if self.cited.len() < LEAST_CITED {
            return Err(format!("only {} of the posts that it cites have `{feature}`", self.cited.len()));
        }
        let (rest, way) = (compared.rest_median(), self.direction.name());
        let cited = median(self.cited).unwrap_or_default();
        for (what, found) in [("posts with", compared.featured_median()), ("cited posts with", cited)] {
            let gain = match self.direction {
                Direction::Up => found - rest,
                Direction::Down => rest - found,
            };
            if gain < MARGIN {
                return Err(format!("the {what} `{feature}` come to {found:.2}, the others to {rest:.2}: not `{way}`"));
            }
        }
        let chance = (beyond(self.apart(compared)) * number(claims)).min(1.0);
        if chance > CHANCE {
            let percent = (chance * 100.0).round();
            let (with, without) = (compared.featured.len(), compared.rest.len());
            return Err(format!(
                "{with} posts with `{feature}` and {without} without differ no more than chance has it {percent} times in a \
                 hundred"
            ));
        }
        Ok(())
    }

    /// Returns how far the two sides are apart in the way that is claimed.
    fn apart(&self, compared: &Compared) -> f64 {
        let apart = apart(&compared.featured, &compared.rest);
        if self.direction == Direction::Up { apart } else { -apart }
    }
}

impl Compared {
    fn featured_median(&self) -> f64 {
        median(&self.featured).unwrap_or_default()
    }

    fn rest_median(&self) -> f64 {
        median(&self.rest).unwrap_or_default()
    }
}

/// Returns the newest posts of a scope that say something of a feature.
fn newest(posts: &[Measured], name: &str, scope: &Labels) -> Vec<Measured> {
    let told = |post: &&Measured| {
        post.reward.is_some()
            && post.feature(name).is_some()
            && scope.iter().all(|(name, value)| has(post, name, value))
    };
    let mut newest: Vec<Measured> = posts.iter().filter(told).cloned().collect();
    newest.sort_by_key(|post| post.published_at);
    newest.split_off(newest.len().saturating_sub(NEWEST))
}

/// Counts the values of a feature of which something could be claimed.
fn alternatives(name: &str, scope: &Labels, posts: &[Measured]) -> usize {
    let in_scope = posts.iter().filter(|post| scope.iter().all(|(name, value)| has(post, name, value)));
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for value in in_scope.filter_map(|post| post.feature(name)) {
        *counts.entry(value.to_lowercase()).or_default() += 1;
    }
    counts.into_values().filter(|count| *count >= LEAST_COMPARED).count().max(1)
}

/// Says why a lesson no longer counts: posts that were published since it was last confirmed say the contrary. Nothing as
/// long as they do not, or are too few.
#[must_use]
pub fn contradicted(lesson: &LessonRecord, later: &[Measured]) -> Option<String> {
    let (compared, apart) = since(lesson, later)?;
    if apart > -AGAINST {
        return None;
    }
    let (feature, way) = (lesson.feature.as_deref()?, lesson.direction?.name());
    let (with, without) = (compared.featured.len(), compared.rest.len());
    let (found, rest) = (compared.featured_median(), compared.rest_median());
    Some(format!(
        "it said `{feature}` is `{way}`, but since then {with} such posts came to {found:.2} and {without} others to \
         {rest:.2} (rank test, z = {apart:.1})"
    ))
}

/// Tells whether posts that were published since a lesson was last confirmed say the same.
#[must_use]
pub fn supported(lesson: &LessonRecord, later: &[Measured]) -> bool {
    since(lesson, later).is_some_and(|(_, apart)| apart >= FOR)
}

/// Compares the posts since a lesson was last confirmed; how far they are apart is positive where they support it.
fn since(lesson: &LessonRecord, later: &[Measured]) -> Option<(Compared, f64)> {
    let (name, value) = split(lesson.feature.as_deref()?)?;
    let later: Vec<Measured> = later.iter().filter(|post| post.published_at > lesson.confirmed_at).cloned().collect();
    let compared = compare(&name, &value, &lesson.labels, &later);
    if compared.featured.len() < LEAST_LATER || compared.rest.len() < LEAST_LATER {
        return None;
    }
    let apart = apart(&compared.featured, &compared.rest);
    let apart = if lesson.direction? == Direction::Up { apart } else { -apart };
    Some((compared, apart))
}

/// Finds the lesson that says the same: of the same feature, way and scope, or in the same words.
#[must_use]
pub fn same_lesson<'l>(lesson: &Proposed, known: &'l [LessonRecord]) -> Option<&'l LessonRecord> {
    known.iter().find(|other| {
        let scope = other.labels == lesson.labels;
        match (&lesson.feature, &other.feature) {
            (Some(feature), Some(known)) => scope && same(feature, known) && lesson.direction == other.direction,
            (None, None) => scope && terms(&lesson.text) == terms(&other.text),
            _ => false,
        }
    })
}

fn compare(name: &str, value: &str, scope: &Labels, posts: &[Measured]) -> Compared {
    let mut compared = Compared { featured: Vec::new(), rest: Vec::new() };
    for post in posts {
        let in_scope = scope.iter().all(|(name, value)| has(post, name, value));
        // What says nothing in this respect is on neither side.
        if !in_scope || post.feature(name).is_none() {
            continue;
        }
        let Some(reward) = post.reward else { continue };
        if has(post, name, value) { compared.featured.push(reward) } else { compared.rest.push(reward) }
    }
    compared
}

fn has(post: &Measured, name: &str, value: &str) -> bool {
    post.feature(name).is_some_and(|own| same(&own, value))
}

fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// Reads `hour=9`; an hour may be written as `09` or `09:00`.
fn split(feature: &str) -> Option<(String, String)> {
    let (name, value) = feature.split_once('=')?;
    let (name, value) = (name.trim().to_lowercase(), value.trim());
    if name.is_empty() || value.is_empty() {
        return None;
    }
    if name == "hour" {
        let hour: u8 = value.strip_suffix(":00").unwrap_or(value).parse().ok()?;
        return (hour < 24).then(|| (name, hour.to_string()));
    }
    Some((name, value.to_owned()))
}

/// Returns how far two samples are apart by their ranks (Mann and Whitney), in deviations of what chance would give:
/// positive where the first is higher.
fn apart(one: &[f64], other: &[f64]) -> f64 {
    let (ones, others) = (number(one.len()), number(other.len()));
    let all = ones + others;
    let mut values: Vec<(f64, bool)> = one.iter().map(|value| (*value, true)).collect();
    values.extend(other.iter().map(|value| (*value, false)));
    values.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let (mut rank_sum, mut ties, mut before) = (0.0, 0.0, 0.0);
    for equal in values.chunk_by(|(one, _), (other, _)| one.total_cmp(other).is_eq()) {
        let count = number(equal.len());
        let rank = before + f64::midpoint(count, 1.0);
        rank_sum += rank * number(equal.iter().filter(|(_, first)| *first).count());
        ties += count * count * count - count;
        before += count;
    }
    let surplus = rank_sum - ones * (all + 1.0) / 2.0;
    let variance = ones * others / 12.0 * ((all + 1.0) - ties / (all * (all - 1.0)).max(1.0));
    if variance > 0.0 { surplus / variance.sqrt() } else { 0.0 }
}

/// Returns how often chance is so far out, on one side: the tail of the normal distribution (Abramowitz and Stegun, 26.2.17).
fn beyond(deviations: f64) -> f64 {
    if deviations < 0.0 {
        return 1.0 - beyond(-deviations);
    }
    const FACTORS: [f64; 5] = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530];
    let t = 1.0 / (1.0 + 0.231_641_9 * deviations);
    let sum = FACTORS.into_iter().fold(0.0, |sum, factor| sum * t + factor) * t;
    sum * (-deviations * deviations / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

fn number(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn rounded(number: f64) -> Decimal {
    Decimal::from_f64(number.clamp(0.0, 1.0)).unwrap_or_default().round_dp(4).normalize()
}

#[cfg(test)]
mod tests {
    use jiff::civil::Weekday;
    use proptest::prelude::*;

    use super::*;
    use crate::store::Metrics;

    fn post(number: usize, hour: u8, format: &str, reward: f64) -> Measured {
        Measured {
            id: format!("P{number}"),
            connection: "x".to_owned(),
            connector: Some("x".to_owned()),
            published_at: Timestamp(1_000_000).plus(Duration::from_secs(u64::try_from(number).unwrap())),
            hour,
            weekday: Weekday::Monday,
            labels: [("format".to_owned(), format.to_owned())].into(),
            text: String::new(),
            metrics: Metrics::default(),
            age: Duration::from_secs(86_400),
            reward: Some(reward),
        }
    }

    /// Posts at 9 came to more than those at 15.
    fn posts() -> Vec<Measured> {
        (0..12)
            .map(|number| {
                let (hour, base) = if number % 2 == 0 { (9, 0.7) } else { (15, 0.4) };
                let format = if number % 3 == 0 { "thread" } else { "post" };
                post(number, hour, format, base + 0.01 * (number % 4) as f64)
            })
            .collect()
    }

    fn proposed(feature: &str, direction: &str, cites: &[&str]) -> Proposed {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let direction = match direction {
            "up" => Some(Direction::Up),
            "down" => Some(Direction::Down),
            _ => None,
        };
        let cites = cites.iter().map(ToString::to_string).collect();
        Proposed { text: "Post at nine.".to_owned(), labels: Labels::new(), feature: given(feature), direction, cites }
    }

    #[track_caller]
    fn check(lesson: Proposed, expected: &str) {
        let (accepted, refused) = accept(&[lesson], &posts());
        let said =
            accepted.iter().map(|one| format!("{} {}", one.lesson.feature.as_deref().unwrap_or("-"), one.weight));
        let said: Vec<_> = said.chain(refused.into_iter().map(|one| one.reason)).collect();
        assert_eq!(said, [expected]);
    }

    #[test]
    fn a_lesson_counts_where_its_posts_are_there_and_their_numbers_support_it() {
        check(proposed("hour=9", "up", &["P0", "P2"]), "hour=9 0.5");
        check(proposed("hour = 09:00", "up", &["P0", "P2", "P2"]), "hour=9 0.5");
        check(proposed("hour=15", "down", &["P1", "P3"]), "hour=15 0.5");
        check(proposed("", "", &["P1", "P3"]), "- 0.3");
        check(proposed("hour=9", "up", &["P0", "P99"]), "there is no measured post `P99`");
        check(proposed("hour=9", "up", &["P0", "P0"]), "it rests on 1 posts, and needs 2");
        check(proposed("hour=9", "", &["P0", "P2"]), "it says not whether `hour=9` is better or worse");
        check(proposed("", "up", &["P0", "P2"]), "it says not what is better or worse");
        check(proposed("hour", "up", &["P0", "P2"]), "`hour` is no feature such as `hour=9`");
        check(
            proposed("hour=9", "down", &["P0", "P2"]),
            "the posts with `hour=9` come to 0.71, the others to 0.42: not `down`",
        );
        check(proposed("hour=9", "up", &["P1", "P3"]), "only 0 of the posts that it cites have `hour=9`");
        check(
            proposed("hour=8", "up", &["P1", "P3"]),
            "there are 0 posts with `hour=8` and 12 without, too few to compare",
        );
        check(
            proposed("mood=sad", "up", &["P1", "P3"]),
            "there are 0 posts with `mood=sad` and 0 without, too few to compare",
        );
        check(
            proposed("format=thread", "up", &["P0", "P6"]),
            "the posts with `format=thread` come to 0.56, the others to 0.56: not `up`",
        );
    }

    #[test]
    fn a_scope_compares_only_what_is_in_it() {
        let scope: Labels = [("format".to_owned(), "thread".to_owned())].into();
        let lesson = Proposed { labels: scope, ..proposed("hour=9", "up", &["P0", "P6"]) };
        // Of twelve posts two on each side are in it, which says nothing.
        check(
            lesson.clone(),
            "2 posts with `hour=9` and 2 without differ no more than chance has it 24 times in a hundred",
        );
        let more: Vec<Measured> = (0..3_usize).flat_map(|_| posts()).collect();
        assert_eq!(accept(&[lesson], &more).0.len(), 1);
        let nowhere: Labels = [("audience".to_owned(), "experts".to_owned())].into();
        let lesson = Proposed { labels: nowhere, ..proposed("hour=9", "up", &["P0", "P6"]) };
        check(lesson, "there are 0 posts with `hour=9` and 0 without, too few to compare");
    }

    fn learned(feature: &str, direction: Direction) -> LessonRecord {
        LessonRecord {
            id: "L1".to_owned(),
            at: Timestamp(0),
            text: "Post at nine.".to_owned(),
            labels: Labels::new(),
            feature: Some(feature.to_owned()),
            direction: Some(direction),
            weight: rounded(0.5),
            evidence: vec!["P0".to_owned()],
            generation: None,
            confirmed_at: Timestamp(0),
            retired: None,
        }
    }

    #[test]
    fn later_numbers_retire_a_lesson_that_they_contradict() {
        let all = posts();
        let wrong = learned("hour=9", Direction::Down);
        let said = contradicted(&wrong, &all).unwrap();
        assert!(
            said.starts_with("it said `hour=9` is `down`, but since then 6 such posts came to 0.71 and 6 others"),
            "{said}"
        );
        assert_eq!(contradicted(&learned("hour=9", Direction::Up), &all), None);
        assert!(supported(&learned("hour=9", Direction::Up), &all));
        assert!(!supported(&wrong, &all));
        // Too few, or none since it was confirmed.
        assert_eq!(contradicted(&wrong, &all[..5]), None);
        assert_eq!(contradicted(&LessonRecord { confirmed_at: Timestamp(i64::MAX), ..wrong }, &all), None);
        // What makes no difference contradicts nothing.
        let even: Vec<Measured> = all.into_iter().map(|post| Measured { reward: Some(0.5), ..post }).collect();
        assert_eq!(contradicted(&learned("hour=9", Direction::Down), &even), None);
    }

    #[test]
    fn the_tail_of_the_normal_distribution_is_known() {
        for (deviations, expected) in [(0.0, 0.5), (AGAINST, 0.05), (FOR, 0.01), (3.090, 0.001), (-AGAINST, 0.95)] {
            assert!((beyond(deviations) / expected - 1.0).abs() < 2e-3, "{deviations}: {}", beyond(deviations));
        }
    }

    #[test]
    fn what_the_newest_posts_show_is_learned_and_what_they_deny_is_not() {
        // Threads did well forty times, and badly since.
        let turned = |number: usize| {
            let format = if number.is_multiple_of(2) { "thread" } else { "post" };
            let well = (number < 80) == (format == "thread");
            post(number, 9, format, if well { 0.7 } else { 0.4 } + 0.001 * (number % 7) as f64)
        };
        let posts: Vec<Measured> = (0..100).map(turned).collect();
        let said = |format: &str, cites: &[&str]| {
            let (accepted, refused) = accept(&[proposed(&format!("format={format}"), "up", cites)], &posts);
            (accepted.len(), refused.into_iter().map(|refused| refused.reason).collect::<String>())
        };
        assert_eq!(said("post", &["P97", "P99"]), (1, String::new()));
        let (count, reason) = said("thread", &["P0", "P2"]);
        assert_eq!(count, 0);
        assert!(reason.starts_with("of the last 20 posts those with `format=thread` come to 0.40"), "{reason}");
    }

    #[test]
    fn a_lesson_fades_and_is_confirmed() {
        let lesson = learned("hour=9", Direction::Up);
        let after =
            |days: u64| weight(&lesson, Timestamp(0).plus(Duration::from_secs(days * 86_400)), HALF_LIFE).to_string();
        assert_eq!([after(0), after(30), after(60)], ["0.5", "0.25", "0.125"]);
        assert_eq!(confirmed(rounded(0.5)).to_string(), "0.675");
        assert!((0..50).fold(rounded(0.5), |weight, _| confirmed(weight)) <= Decimal::ONE);
    }

    #[test]
    fn the_same_lesson_is_found_by_what_it_is_about() {
        let known = [learned("hour=9", Direction::Up)];
        assert!(same_lesson(&proposed("hour=9", "up", &[]), &known).is_some());
        assert!(same_lesson(&proposed("hour=9", "down", &[]), &known).is_none());
        assert!(same_lesson(&proposed("", "", &[]), &known).is_none());
        let scope: Labels = [("platform".to_owned(), "x".to_owned())].into();
        assert!(same_lesson(&Proposed { labels: scope, ..proposed("hour=9", "up", &[]) }, &known).is_none());
        let plain = [LessonRecord { feature: None, direction: None, ..learned("hour=9", Direction::Up) }];
        assert!(same_lesson(&Proposed { text: "post at NINE".to_owned(), ..proposed("", "", &[]) }, &plain).is_some());
    }

    proptest! {
        /// Of posts between which there is no difference a lesson is learned as rarely as `CHANCE` says, whichever is best.
        #[test]
        fn chance_teaches_nothing(seed: u64) {
            let random = crate::system::Random::seeded(seed);
            let mut learned = 0;
            for _ in 0..60 {
                let post = |number: usize| {
                    let format = ["post", "thread", "story"][number % 3];
                    post(number, u8::try_from(number % 12).unwrap(), format, random.fraction())
                };
                let posts: Vec<Measured> = (0..36).map(post).collect();
                let claims = ["post", "thread", "story"].map(|format| {
                    let cites = posts.iter().filter(|post| post.labels["format"] == format).map(|post| post.id.clone());
                    Proposed { cites: cites.collect(), ..proposed(&format!("format={format}"), "up", &[]) }
                });
                learned += u32::from(!accept(&claims, &posts).0.is_empty());
            }
            prop_assert!(learned <= 10, "{} of 60", learned);
        }

        /// Chance contradicts a lesson about one time in twenty, and no more.
        #[test]
        fn ranks_are_apart_as_chance_has_it(seed: u64) {
            let random = crate::system::Random::seeded(seed);
            let mut beyond = 0;
            for _ in 0..400 {
                let draw = |count: usize| -> Vec<f64> { (0..count).map(|_| random.fraction()).collect() };
                beyond += u32::from(apart(&draw(8), &draw(12)) > AGAINST);
            }
            prop_assert!(beyond < 45, "{} of 400", beyond);
        }

        #[test]
        fn the_order_of_the_two_sides_turns_the_sign(one in prop::collection::vec(0.0_f64..1.0, 1..20), other in prop::collection::vec(0.0_f64..1.0, 1..20)) {
            prop_assert!((apart(&one, &other) + apart(&other, &one)).abs() < 1e-9);
        }
    }
}
