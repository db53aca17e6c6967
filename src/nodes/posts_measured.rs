//! `posts.measured`: keeps what a post has come to so far.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::moments;
use crate::memory;
use crate::memory::Memory;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::Repeat;
use crate::model::Settlement;
use crate::model::Value;
use crate::model::WriteKind;
use crate::model::decode;
use crate::node::LogLevel;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;
use crate::store::Measurement;
use crate::store::Metrics;
use crate::store::PostFilter;
use crate::store::PostRecord;
use crate::store::Store;

/// Keeps what a post has come to so far: impressions, likes and the like.
///
/// Name the post by its `id` in the calendar, or by its connection and the platform's id. Each moment is a measurement of its
/// own, so a post's figures are known over time. What the platform does not say is null, never zero.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostsMeasured {
    /// The post's id in the calendar.
    #[serde(default)]
    id: Option<String>,
    /// The connection that it was published over.
    #[serde(default)]
    connection: Option<String>,
    /// The platform's id.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    remote_id: Value,
    /// The figures, as `social.metrics` gives them: `impressions`, `reach`, `likes`, `comments`, `shares`, `clicks`, `saves`,
    /// `video_views`.
    metrics: Value,
    /// What the platform said, to be kept as it is; by default the figures.
    #[serde(default)]
    raw: Value,
    /// When it was measured; by default now.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    at: Value,
}

/// A measurement that was kept.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Measured {
    /// The post's id in the calendar; null where the calendar does not know it.
    id: Option<String>,
    /// Whether it was kept.
    kept: bool,
    /// How old the post was.
    #[schemars(with = "Option<String>")]
    age: Value,
}

#[async_trait]
impl NodeType for PostsMeasured {
    const NAME: &'static str = "posts.measured";
    const EXAMPLE: &'static str =
        "connection: x\nremote_id: \"1234\"\nmetrics: { impressions: 1200, likes: 31, saves: null }\n";
    type Output = Measured;

    fn effect(_with: &Value) -> Effect {
        Effect::Write(WriteKind::Upsert)
    }

    fn check(with: &Value) -> Vec<(Option<String>, String)> {
        let given = |key: &str| with.get(key).is_some();
        let named = given("id") != (given("connection") && given("remote_id"));
        if named { Vec::new() } else { vec![(None, "give `id`, or `connection` and `remote_id`".to_owned())] }
    }

    fn settlement(&self) -> Settlement {
        Settlement { repeat: Repeat::Always, reconcile: false, settle: Duration::ZERO, ..Settlement::default() }
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let store = Memory::of_step(ctx)?.changing()?;
        // A platform may say more than is compared.
        let figures = Metrics::default().all().map(|(name, _)| {
            let figure = self.metrics.get(name).cloned().unwrap_or_default();
            (name, figure)
        });
        let metrics: Metrics =
            decode(Value::map(figures)).map_err(|error| NodeError::invalid(format!("`metrics`: {error}")))?;
        if metrics.all().iter().any(|(_, figure)| figure.is_some_and(|figure| figure < 0)) {
            return Err(NodeError::invalid("`metrics`: no figure is below zero"));
        }
        let at = moments::moment(&self.at, "at")?.unwrap_or_else(|| ctx.system.clock.now());
        let Some(post) = self.find(store).await? else {
            ctx.log.log(LogLevel::Warn, "the calendar does not know the post that was measured");
            let unknown = [("id", Value::Null), ("kept", false.into()), ("age", Value::Null)];
            return Ok(Outcome::Done(Value::map(unknown)));
        };
        let age = at.since(post.published_at.unwrap_or(post.due_at));
        let raw = if self.raw.is_null() { self.metrics } else { self.raw };
        let measurement = Measurement { post: post.id.clone(), at, age, metrics, raw };
        store.put_measurement(&measurement).await.map_err(memory::failed)?;
        let kept = [("id", Value::from(post.id)), ("kept", true.into()), ("age", Value::Duration(age))];
        Ok(Outcome::Done(Value::map(kept)))
    }
}

impl PostsMeasured {
    async fn find(&self, store: &Store) -> Result<Option<PostRecord>, NodeError> {
        match (&self.id, &self.connection, &self.remote_id) {
            (Some(id), None, Value::Null) => store.post(id).await.map_err(memory::failed),
            (None, Some(connection), remote_id) if !remote_id.is_null() => {
                let filter = PostFilter {
                    connection: Some(connection.clone()),
                    remote_id: Some(remote_id.to_text()),
                    limit: Some(1),
                    ..PostFilter::default()
                };
                Ok(store.posts(&filter).await.map_err(memory::failed)?.pop())
            }
            _ => Err(NodeError::invalid("give `id`, or `connection` and `remote_id`")),
        }
    }
}
