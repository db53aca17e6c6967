//! `posts.mark`: notes in the calendar what became of a post.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::memory;
use crate::memory::Memory;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::Repeat;
use crate::model::Settlement;
use crate::model::Value;
use crate::model::WriteKind;
use crate::node::LogLevel;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;
use crate::store::Fate;

/// Notes in the publishing calendar what became of a post.
///
/// The second half of `social.publish`. Give one of `output`, `error` and `deleted`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostsMark {
    /// The post's id in the calendar, as `posts.hold` gives it.
    id: String,
    /// What publishing it came to: `{ id, url, ids }`.
    #[serde(default)]
    output: Value,
    /// Why it could not be published: a text, or the `error` of a step.
    #[serde(default)]
    error: Value,
    /// Whether it is no longer there.
    #[serde(default)]
    deleted: bool,
}

/// Where the post stands now.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Marked {
    /// The post's id in the calendar.
    id: String,
    /// `published`, `failed` or `deleted`; null where the calendar does not know it.
    state: Option<String>,
}

#[async_trait]
impl NodeType for PostsMark {
    const NAME: &'static str = "posts.mark";
    const EXAMPLE: &'static str = "id: 01KE41A7M0V1C3S5Z8W2Q4T6Y9\noutput: { id: \"1234\", url: \"https://x.example/1234\" }\n";
    type Output = Marked;

    fn effect(_with: &Value) -> Effect {
        Effect::Write(WriteKind::Upsert)
    }

    fn check(with: &Value) -> Vec<(Option<String>, String)> {
        let given = ["output", "error", "deleted"].iter().filter(|key| with.get(key).is_some()).count();
        // One that is a template may come to nothing.
        if given > 0 { Vec::new() } else { vec![(None, "give one of `output`, `error` and `deleted`".to_owned())] }
    }

    fn settlement(&self) -> Settlement {
        Settlement { repeat: Repeat::Always, reconcile: false, settle: Duration::ZERO, ..Settlement::default() }
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let fate = match (&self.output, &self.error, self.deleted) {
            (Value::Null, Value::Null, true) => Fate::Deleted,
            (Value::Null, error, false) if !error.is_null() => Fate::Failed { error: told(error) },
            (output, Value::Null, false) if !output.is_null() => {
                let text = |key: &str| output.get(key).filter(|value| !value.is_null()).map(Value::to_text);
                let remote_id = text("id").ok_or_else(|| NodeError::invalid("`output` has no `id`"))?;
                let ids = output.get("ids").and_then(Value::as_list).unwrap_or_default();
                let ids: Vec<String> = ids.iter().map(Value::to_text).collect();
                let ids = if ids.is_empty() { vec![remote_id.clone()] } else { ids };
                Fate::Published { at: ctx.system.clock.now(), remote_id, ids, url: text("url") }
            }
            _ => return Err(NodeError::invalid("give one of `output`, `error` and `deleted`")),
        };
        let store = Memory::of_step(ctx)?.changing()?;
        let marked = store.mark_post(&self.id, &fate).await.map_err(memory::failed)?;
        let row = store.post(&self.id).await.map_err(memory::failed)?;
        let state = row.as_ref().map(|row| row.state.name());
        if !marked {
            // What has happened outside has happened: a calendar that does not know of it fails nothing.
            let text = match state {
                Some(state) => format!("post `{}` is {state}, and stays so", self.id),
                None => format!("the calendar knows no post `{}`", self.id),
            };
            ctx.log.log(LogLevel::Warn, &text);
        }
        let state = state.map_or(Value::Null, Value::from);
        Ok(Outcome::Done(Value::map([("id", Value::from(self.id)), ("state", state)])))
    }
}

/// Returns an error in a line.
fn told(error: &Value) -> String {
    let text = |key: &str| error.get(key).and_then(Value::as_str);
    match (text("class"), text("message")) {
        (Some(class), Some(message)) => format!("{class}: {message}"),
        (None, Some(message)) => message.to_owned(),
        _ if error.is_tainted() => "***".to_owned(),
        _ => error.to_text(),
    }
}
