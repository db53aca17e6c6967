//! Posts as statistics see them: when each was published, what it was, and what it came to in comparison.

use std::collections::BTreeMap;
use std::collections::HashMap;

use jiff::civil::Weekday;
use jiff::tz::TimeZone;

use crate::model::Duration;
use crate::model::Timestamp;
use crate::model::Value;
use crate::store::Labels;
use crate::store::Measurement;
use crate::store::Metrics;
use crate::store::PostRecord;

/// A younger measurement says nothing yet.
const YOUNGEST: Duration = Duration::from_secs(3_600);
/// Of later measurements the last before this age counts: posts are compared at about the same age.
const SETTLED: Duration = Duration::from_secs(7 * 86_400);
/// A post is compared with so many of its account before it, and as many behind it: an account grows.
const NEIGHBORS: usize = 50;
/// How fast a reward moves away from that of the median: twice as much as the median gives 0.85, half as much 0.15.
const STEEPNESS: f64 = 2.5;

/// A post that was published and measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    pub id: String,
    pub connection: String,
    pub connector: Option<String>,
    pub published_at: Timestamp,
    /// The hour of the audience's day, from 0.
    pub hour: u8,
    pub weekday: Weekday,
    pub labels: Labels,
    /// The beginning of its text.
    pub text: String,
    pub metrics: Metrics,
    /// How old it was when it was measured.
    pub age: Duration,
    /// From 0 to 1 against the account's median, which is 0.5; nothing where the platform says too little.
    pub reward: Option<f64>,
}

/// What an engagement is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Basis {
    /// Those who saw it.
    Rate,
    /// Nothing: the platform does not say how many saw it.
    Count,
}

impl Measured {
    /// Tells whether it was published on a Saturday or a Sunday.
    #[must_use]
    pub fn is_weekend(&self) -> bool {
        is_weekend(self.weekday)
    }

    /// Returns what it is in one respect: `hour`, `weekday`, `day` (`weekday` or `weekend`), `connection`, `connector`, or
    /// one of its labels.
    #[must_use]
    pub fn feature(&self, name: &str) -> Option<String> {
        Some(match name {
            "hour" => self.hour.to_string(),
            "weekday" => format!("{:?}", self.weekday).to_lowercase(),
            "day" => if self.is_weekend() { "weekend" } else { "weekday" }.to_owned(),
            "connection" => self.connection.clone(),
            "connector" | "platform" => self.labels.get(name).or(self.connector.as_ref())?.clone(),
            label => self.labels.get(label)?.clone(),
        })
    }
}

/// Tells whether a day is a Saturday or a Sunday.
#[must_use]
pub fn is_weekend(weekday: Weekday) -> bool {
    matches!(weekday, Weekday::Saturday | Weekday::Sunday)
}

/// Joins posts with their measurements, the oldest first. What was not published, or not measured, is left out.
#[must_use]
pub fn measured(posts: &[PostRecord], measurements: &[Measurement], zone: &TimeZone) -> Vec<Measured> {
    let mut by_post: HashMap<&str, Vec<&Measurement>> = HashMap::new();
    for measurement in measurements {
        by_post.entry(&measurement.post).or_default().push(measurement);
    }
    let mut found: Vec<Measured> = posts
        .iter()
        .filter_map(|post| {
            let published_at = post.published_at?;
            let measurement = telling(by_post.get(post.id.as_str())?)?;
            let local = published_at.to_jiff().to_zoned_datetime(zone.clone());
            Some(Measured {
                id: post.id.clone(),
                connection: post.connection.clone(),
                connector: post.connector.clone(),
                published_at,
                hour: u8::try_from(local.hour()).unwrap_or_default(),
                weekday: local.weekday(),
                labels: post.labels.clone(),
                text: beginning(&post.post),
                metrics: measurement.metrics,
                age: measurement.age,
                reward: None,
            })
        })
        .collect();
    found.sort_by(|one, other| (one.published_at, &one.id).cmp(&(other.published_at, &other.id)));
    reward(&mut found);
    found
}

/// Chooses the measurement that is compared: the last before the post has settled, else the first behind.
fn telling<'m>(measurements: &[&'m Measurement]) -> Option<&'m Measurement> {
    let grown = measurements.iter().filter(|one| one.age >= YOUNGEST);
    let before = grown.clone().filter(|one| one.age <= SETTLED).max_by_key(|one| one.age);
    before.or_else(|| grown.min_by_key(|one| one.age)).copied()
}

fn beginning(post: &Value) -> String {
    const MOST: usize = 280;
    let text = ["text", "title", "description"].into_iter().find_map(|key| post.get(key)?.as_str());
    text.unwrap_or_default().chars().take(MOST).collect()
}

/// Returns how much a post engaged those who saw it. Nothing where the platform says neither; what it does not say of the
/// parts counts for none of them, for every post of the account alike.
fn engagement(metrics: &Metrics) -> Option<(Basis, f64)> {
    let Metrics { likes, comments, shares, clicks, saves, .. } = *metrics;
    let said: Vec<i64> = [likes, comments, shares, clicks, saves].into_iter().flatten().collect();
    if said.is_empty() {
        return None;
    }
    let sum = figure(said.iter().fold(0, |sum: i64, part| sum.saturating_add(*part)));
    match metrics.impressions.or(metrics.reach).or(metrics.video_views) {
        None => Some((Basis::Count, sum)),
        // Nobody has seen it: nothing can be said.
        Some(0) => None,
        Some(seen) => Some((Basis::Rate, sum / figure(seen))),
    }
}

fn figure(number: i64) -> f64 {
    f64::from(u32::try_from(number.max(0)).unwrap_or(u32::MAX))
}

/// Gives each post its reward against the median of those of its account around it.
fn reward(posts: &mut [Measured]) {
    let mut accounts: BTreeMap<(String, Basis), Vec<(usize, f64)>> = BTreeMap::new();
    for (place, post) in posts.iter().enumerate() {
        if let Some((basis, value)) = engagement(&post.metrics) {
            accounts.entry((post.connection.clone(), basis)).or_default().push((place, value));
        }
    }
    for known in accounts.into_values() {
        let values: Vec<f64> = known.iter().map(|(_, value)| *value).collect();
        for ((place, _), reward) in known.iter().zip(rewards(&values)) {
            if let Some(post) = posts.get_mut(*place) {
                post.reward = Some(reward);
            }
        }
    }
}

/// Returns the rewards of an account's figures, which are in the order of time.
#[must_use]
pub fn rewards(values: &[f64]) -> Vec<f64> {
    let around = |place: usize| {
        let end = values.len().min(place + NEIGHBORS + 1);
        median(values.get(place.saturating_sub(NEIGHBORS)..end).unwrap_or_default()).unwrap_or_default()
    };
    values.iter().enumerate().map(|(place, value)| against(*value, around(place))).collect()
}

/// Returns a value from 0 to 1: the median gives 0.5.
fn against(value: f64, median: f64) -> f64 {
    let (value, median) = (value.powf(STEEPNESS), median.powf(STEEPNESS));
    if value + median > 0.0 { value / (value + median) } else { 0.5 }
}

/// Returns the median; nothing of nothing.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(half - 1)?, upper))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::RunId;
    use crate::model::StepPath;
    use crate::store::PostState;

    pub(in crate::memory) fn post(number: u32, published: Timestamp, labels: &[(&str, &str)]) -> PostRecord {
        PostRecord {
            id: format!("P{number:04}"),
            run: RunId::new(1, number.into()),
            path: StepPath::step("hold"),
            pipeline: "content".to_owned(),
            connection: "x".to_owned(),
            connector: Some("x".to_owned()),
            post: Value::map([("text", Value::from("Tea is ready."))]),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            generations: Vec::new(),
            state: PostState::Published,
            made_at: published,
            due_at: published,
            published_at: Some(published),
            remote_id: Some(number.to_string()),
            ids: Vec::new(),
            url: None,
            error: None,
            ask: None,
            revision: 1,
            run_state: None,
        }
    }

    pub(in crate::memory) fn measurement(number: u32, published: Timestamp, hours: u64, likes: i64) -> Measurement {
        let age = Duration::from_secs(hours * 3_600);
        Measurement {
            post: format!("P{number:04}"),
            at: published.plus(age),
            age,
            metrics: Metrics { impressions: Some(1_000), likes: Some(likes), ..Metrics::default() },
            raw: Value::Null,
        }
    }

    #[test]
    fn a_post_is_compared_with_the_median_of_its_account() {
        let at = |day: u64| Timestamp(0).plus(Duration::from_secs(day * 86_400));
        let likes = [10, 10, 20, 5, 0];
        let posts: Vec<_> = (0..5).map(|number| post(number, at(number.into()), &[])).collect();
        let seen: Vec<_> =
            (0..5).zip(likes).map(|(number, likes)| measurement(number, at(number.into()), 24, likes)).collect();
        let found = measured(&posts, &seen, &TimeZone::UTC);
        let rewards: Vec<_> = found.iter().map(|post| (post.reward.unwrap() * 100.0).round()).collect();
        assert_eq!(rewards, [50.0, 50.0, 85.0, 15.0, 0.0]);
    }

    #[test]
    fn what_the_platform_does_not_say_is_not_zero() {
        let engaged = |metrics: Metrics| engagement(&metrics);
        assert_eq!(engaged(Metrics { impressions: Some(10), ..Metrics::default() }), None);
        let counted = Metrics { likes: Some(3), ..Metrics::default() };
        assert_eq!(engaged(counted), Some((Basis::Count, 3.0)));
        assert_eq!(engaged(Metrics { impressions: Some(0), ..counted }), None);
        assert_eq!(engaged(Metrics { reach: Some(30), ..counted }), Some((Basis::Rate, 0.1)));
    }

    #[test]
    fn posts_are_compared_at_about_the_same_age_and_in_the_audiences_hours() {
        let at: Timestamp = "2026-07-01T22:30:00Z".parse().unwrap();
        let seen = [
            measurement(1, at, 0, 1),
            measurement(1, at, 24, 2),
            measurement(1, at, 160, 3),
            measurement(1, at, 900, 4),
        ];
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let found = measured(&[post(1, at, &[("format", "thread")])], &seen, &zone);
        assert_eq!((found[0].metrics.likes, found[0].hour, found[0].weekday), (Some(3), 0, Weekday::Thursday));
        assert_eq!(found[0].feature("format").as_deref(), Some("thread"));
        assert_eq!(found[0].feature("day").as_deref(), Some("weekday"));
        assert_eq!(found[0].feature("style"), None);
        let late = measured(&[post(1, at, &[])], &seen[3..], &zone);
        assert_eq!(late[0].metrics.likes, Some(4));
        assert!(measured(&[post(1, at, &[])], &seen[..1], &zone).is_empty(), "it is too young");
    }
}
