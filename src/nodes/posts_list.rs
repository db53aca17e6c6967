//! `posts.list`: the publishing calendar, with what posts have come to.

use std::collections::HashMap;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::generations::rows;
use super::moments;
use crate::memory;
use crate::memory::Memory;
use crate::memory::calendar;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;
use crate::store::Labels;
use crate::store::Measurement;
use crate::store::Metrics;
use crate::store::PostFilter;
use crate::store::PostRecord;
use crate::store::PostState;

/// Lists the posts of the publishing calendar with what they have come to, those that are due last first.
///
/// With `measure_at` only those that are to be measured now: published, old enough for one of these ages, and not measured
/// since they were. Of ages that were missed, the greatest counts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostsList {
    /// Only posts in one of these states: `scheduled`, `publishing`, `published`, `canceled`, `failed`, `deleted`.
    #[serde(default)]
    states: Vec<State>,
    /// Only posts over this connection.
    #[serde(default)]
    connection: Option<String>,
    /// Only posts due since this moment, or for so long, e.g. `30d`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    since: Value,
    /// Only posts that were published within so long.
    #[serde(default)]
    published_within: Option<Duration>,
    /// At which ages posts are measured, e.g. `[1h, 1d, 7d]`.
    #[serde(default)]
    measure_at: Vec<Duration>,
    /// How many at most.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 10000))]
    limit: u32,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    Scheduled,
    Publishing,
    Published,
    Canceled,
    Failed,
    Deleted,
}

/// Posts of the calendar.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Posts {
    posts: Vec<Post>,
    /// The number of posts.
    count: u64,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
struct Post {
    /// Its id in the calendar.
    id: String,
    /// Its state, or `stranded` where its run ended before it was published.
    state: String,
    connection: String,
    connector: Option<String>,
    pipeline: String,
    run: String,
    #[schemars(extend("format" = "date-time"))]
    due_at: String,
    #[schemars(with = "Option<String>")]
    published_at: Value,
    /// The platform's id.
    remote_id: Option<String>,
    /// The platform's ids of all its parts.
    ids: Vec<String>,
    url: Option<String>,
    error: Option<String>,
    /// The canonical post.
    post: Value,
    labels: Labels,
    /// The generations that it was made of.
    generations: Vec<String>,
    /// Its latest figures; null where it was not measured yet.
    metrics: Option<Metrics>,
    /// How old it was then.
    #[schemars(with = "Option<String>")]
    measured_age: Value,
}

fn hundred() -> u32 {
    100
}

#[async_trait]
impl NodeType for PostsList {
    const NAME: &'static str = "posts.list";
    const EXAMPLE: &'static str = "connection: x\nmeasure_at: [1h, 1d, 7d]\n";
    type Output = Posts;

    fn effect(_with: &Value) -> Effect {
        Effect::Read
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let now = ctx.system.clock.now();
        let before = |length: Duration| Timestamp(now.micros().saturating_sub_unsigned(length.micros()));
        let mut states: Vec<PostState> = self.states.iter().map(|state| state.known()).collect();
        if states.is_empty() && !self.measure_at.is_empty() {
            states.push(PostState::Published);
        }
        let limit = self.limit.clamp(1, 10_000);
        let filter = PostFilter {
            states,
            connection: self.connection,
            due_since: moments::since(&self.since, "since", now)?,
            published_since: self.published_within.map(before),
            // Whether one is to be measured is known only with its measurements.
            limit: self.measure_at.is_empty().then_some(limit),
            ..PostFilter::default()
        };
        let store = Memory::of_step(ctx)?.store();
        let mut posts = store.posts(&filter).await.map_err(memory::failed)?;
        let ids: Vec<String> = posts.iter().map(|post| post.id.clone()).collect();
        let measurements = store.measurements(&ids).await.map_err(memory::failed)?;
        // The oldest come first, so the last stays.
        let latest: HashMap<&str, &Measurement> =
            measurements.iter().map(|measurement| (measurement.post.as_str(), measurement)).collect();
        if !self.measure_at.is_empty() {
            posts.retain(|post| {
                let measured = latest.get(post.id.as_str()).map(|measurement| measurement.age);
                post.published_at.is_some_and(|at| is_due(&self.measure_at, now.since(at), measured))
            });
        }
        posts.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let posts = posts.into_iter().map(|post| {
            let measurement = latest.get(post.id.as_str()).copied();
            row(post, measurement)
        });
        Ok(Outcome::Done(rows("posts", posts.collect())))
    }
}

impl State {
    fn known(self) -> PostState {
        match self {
            Self::Scheduled => PostState::Scheduled,
            Self::Publishing => PostState::Publishing,
            Self::Published => PostState::Published,
            Self::Canceled => PostState::Canceled,
            Self::Failed => PostState::Failed,
            Self::Deleted => PostState::Deleted,
        }
    }
}

/// Tells whether a post of this age is to be measured: it has passed one of the ages since it was measured last.
fn is_due(ages: &[Duration], age: Duration, measured: Option<Duration>) -> bool {
    let passed = ages.iter().filter(|due| **due <= age).max();
    passed.is_some_and(|due| measured.is_none_or(|measured| measured < *due))
}

fn row(post: PostRecord, measurement: Option<&Measurement>) -> Value {
    let state = calendar::standing(&post).name();
    let optional = |text: Option<String>| text.map_or(Value::Null, Value::from);
    let texts = |texts: Vec<String>| Value::list(texts.into_iter().map(Value::from).collect());
    let metrics = measurement.map_or(Value::Null, |measurement| {
        Value::map(measurement.metrics.all().map(|(name, figure)| (name, figure.map_or(Value::Null, Value::from))))
    });
    Value::map([
        ("id", Value::from(post.id)),
        ("state", state.into()),
        ("connection", post.connection.into()),
        ("connector", optional(post.connector)),
        ("pipeline", post.pipeline.into()),
        ("run", post.run.to_string().into()),
        ("due_at", Value::Time(post.due_at)),
        ("published_at", post.published_at.map_or(Value::Null, Value::Time)),
        ("remote_id", optional(post.remote_id)),
        ("ids", texts(post.ids)),
        ("url", optional(post.url)),
        ("error", optional(post.error)),
        ("post", post.post),
        ("labels", Value::map(post.labels.into_iter().map(|(name, value)| (name, Value::from(value))))),
        ("generations", texts(post.generations)),
        ("metrics", metrics),
        ("measured_age", measurement.map_or(Value::Null, |measurement| Value::Duration(measurement.age))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_is_measured_once_at_each_age_and_missed_ones_are_not_made_up_for() {
        let length = |text: &str| text.parse::<Duration>().unwrap();
        let due = |age: &str, measured: Option<&str>| {
            is_due(&[length("7d"), length("1h"), length("1d")], length(age), measured.map(length))
        };
        assert!(!due("59m", None));
        assert!(due("1h", None) && !due("2h", Some("1h")) && !due("23h", Some("70m")));
        assert!(due("25h", Some("70m")) && !due("26h", Some("25h")));
        assert!(due("30d", None) && due("30d", Some("2d")) && !due("31d", Some("30d")));
        assert!(!is_due(&[], length("30d"), None));
    }
}
