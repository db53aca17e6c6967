//! `time.wait`: sleeps durably.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::Duration;
use crate::model::Effect;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;

/// Waits for a length of time, or until a moment.
///
/// The wait is durable: the process may stop and start in between, and a wait holds no worker. Give `for` or `until`. The
/// output says until when it waited.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TimeWait {
    /// How long, e.g. `90s` or `1h30m`.
    #[serde(default, rename = "for")]
    length: Option<Duration>,
    /// Until when, e.g. `2026-01-31T09:00:00Z`; a moment that has passed ends the wait at once.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    until: Value,
}

/// What a wait gives back.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Waited {
    /// The moment at which the wait ended or was due.
    #[schemars(with = "String")]
    until: Value,
}

#[async_trait]
impl NodeType for TimeWait {
    const NAME: &'static str = "time.wait";
    const EXAMPLE: &'static str = "for: 10ms\n";
    type Output = Waited;

    fn effect(_with: &Value) -> Effect {
        Effect::Read
    }

    fn check(with: &Value) -> Vec<(Option<String>, String)> {
        if with.get("for").is_some() != with.get("until").is_some() {
            return Vec::new();
        }
        vec![(None, "give one of `for` and `until`".to_owned())]
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let now = ctx.system.clock.now();
        let until = match (self.length, &self.until) {
            (Some(length), Value::Null) => now.plus(length),
            (None, Value::Time(moment)) => *moment,
            (None, Value::String(text)) => {
                text.parse::<Timestamp>().map_err(|error| NodeError::invalid(format!("`until`: {error}")))?
            }
            (None, Value::Null) | (Some(_), _) => return Err(NodeError::invalid("give one of `for` and `until`")),
            (None, other) => {
                return Err(NodeError::invalid(format!("`until` must be a moment, found {}", other.kind().name())));
            }
        };
        let then = Value::map([("until", Value::Time(until))]);
        if until <= now {
            return Ok(Outcome::Done(then));
        }
        Ok(Outcome::Wait { until, reason: format!("waits until {until}"), then })
    }
}
