//! `posts.hold`: enters a post into the calendar, and waits for its time.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::moments;
use crate::memory;
use crate::memory::Memory;
use crate::memory::calendar::held;
use crate::model::Ask;
use crate::model::Effect;
use crate::model::Lapse;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;
use crate::store::Labels;
use crate::store::PostRecord;
use crate::store::PostState;
use crate::store::Store;
use crate::store::post_id;

/// How often the row is looked at anew because somebody changed it meanwhile.
const ATTEMPTS: usize = 16;

/// Enters a post into the publishing calendar, and waits until it is due.
///
/// The first half of `social.publish`. The wait is durable and holds no worker; meanwhile `pipewright posts` lists the post,
/// and cancels or reschedules it. `state` says what came: `due`, `canceled`, `rescheduled`, or `published` where a run is
/// repeated whose post is there already. One that was rescheduled is waited for by the next round of an `until`, with the
/// same `with:`, because the calendar knows its new time: `until: { holds: "{{ output.state != 'rescheduled' }}", … }`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostsHold {
    /// Over which connection it will be published.
    connection: String,
    /// The connector of that connection, for those who read the calendar.
    #[serde(default)]
    connector: Option<String>,
    /// The post, as `social.publish` takes it.
    post: Value,
    /// When it is due; without it, or where that has passed, at once.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    at: Value,
    /// What it is, e.g. `{ format: thread, style: question, topic: tea }`: what lessons and the best time are learned by.
    #[serde(default)]
    labels: Labels,
    /// The ids of the generations that it was made of.
    #[serde(default)]
    generations: Vec<String>,
}

/// What became of the wait.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Held {
    /// The post's id in the calendar.
    id: String,
    /// `due`, `canceled`, `rescheduled` or `published`.
    state: String,
    /// When it is due.
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// The post.
    post: Value,
    /// What publishing it came to, where it is published: `{ id, url, ids }`.
    output: Value,
}

#[async_trait]
impl NodeType for PostsHold {
    const NAME: &'static str = "posts.hold";
    const EXAMPLE: &'static str = "connection: x\npost: { text: Tea is ready. }\nlabels: { format: post }\n";
    type Output = Held;

    fn effect(_with: &Value) -> Effect {
        // What it changes is the calendar, as a question to people changes the list of open questions.
        Effect::Read
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let now = ctx.system.clock.now();
        let at = moments::moment(&self.at, "at")?;
        let id = post_id(ctx.run, ctx.path);
        let memory = Memory::of_step(ctx)?;
        if memory.looks_only() {
            let at = at.unwrap_or(now);
            let then = held(&id, "due", at.max(now), &self.post, Value::Null);
            if at <= now {
                return Ok(Outcome::Done(then));
            }
            return Ok(Outcome::Wait { until: at, reason: reason(at, &self.connection), then });
        }
        let store = memory.changing()?;
        let mut row = self.row(ctx, store, id, at, now).await?;
        for _ in 0..ATTEMPTS {
            let said = |state: &str, output: Value| {
                Ok(Outcome::Done(held(&row.id, state, row.due_at, &row.post, output)))
            };
            match row.state {
                PostState::Canceled => return said("canceled", Value::Null),
                PostState::Published | PostState::Deleted => return said("published", published(&row)),
                PostState::Scheduled if row.due_at > now => return Ok(ask(&row)),
                PostState::Scheduled | PostState::Publishing | PostState::Failed => {
                    if store.begin_post(&row).await.map_err(memory::failed)? {
                        return said("due", Value::Null);
                    }
                }
            }
            let missing = || NodeError::invalid(format!("post `{}` is no longer in the calendar", row.id));
            row = store.post(&row.id).await.map_err(memory::failed)?.ok_or_else(missing)?;
        }
        Err(memory::failed(crate::store::Error::Locked { place: format!("post {}", row.id) }))
    }
}

impl PostsHold {
    /// Enters it, or finds it where it was entered before.
    async fn row(
        self,
        ctx: &StepContext<'_>,
        store: &Store,
        id: String,
        at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<PostRecord, NodeError> {
        // A later round waits for the time that somebody has given it, whatever `at` comes to now.
        if ctx.path.round.is_some()
            && let Some(row) = store.post(&id).await.map_err(memory::failed)?
        {
            return Ok(row);
        }
        let path: StepPath = ctx.path.clone().whole();
        let new = PostRecord {
            id,
            run: ctx.run,
            path,
            pipeline: memory::pipeline_of(store, ctx.run).await.map_err(memory::failed)?,
            connection: self.connection,
            connector: self.connector,
            post: self.post,
            labels: self.labels,
            generations: self.generations,
            state: PostState::Scheduled,
            made_at: now,
            due_at: at.unwrap_or(now),
            published_at: None,
            remote_id: None,
            ids: Vec::new(),
            url: None,
            error: None,
            ask: None,
            revision: 0,
            run_state: None,
        };
        store.hold_post(&new).await.map_err(memory::failed)
    }
}

fn reason(at: Timestamp, connection: &str) -> String {
    format!("waits until {at} to publish over `{connection}`")
}

/// Asks whether it is to be published at its time: nobody has to answer.
fn ask(row: &PostRecord) -> Outcome {
    let answer = Ok(held(&row.id, "due", row.due_at, &row.post, Value::Null));
    Outcome::Ask {
        kind: Ask::POST,
        request: Value::map([
            ("id", Value::from(row.id.as_str())),
            ("connection", row.connection.as_str().into()),
            ("at", Value::Time(row.due_at)),
        ]),
        reason: reason(row.due_at, &row.connection),
        lapse: Some(Lapse { at: row.due_at, answer }),
        binds: false,
    }
}

/// Returns what publishing it came to.
fn published(row: &PostRecord) -> Value {
    let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
    Value::map([
        ("id", text(&row.remote_id)),
        ("url", text(&row.url)),
        ("ids", Value::list(row.ids.iter().map(|id| Value::from(id.as_str())).collect())),
    ])
}
