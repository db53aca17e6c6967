//! `social.publish`: publishes a post wherever its connection leads.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::social;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Value;
use crate::node::Misfit;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;
use crate::node::Surroundings;
use crate::node::Wanted;

/// The operation of a connector that publishes.
const PUBLISH: &str = "publish";
/// What of a post must not be lost: a platform that does not take it is no place for it.
const CARRIED: [&str; 5] = ["text", "link", "media", "thread", "reply_to"];
/// How often a post may be moved to another time.
const MOST_MOVES: u32 = 1_000;

/// Publishes a post: now, or at a time.
///
/// One canonical post goes to any platform: the operation `publish` of the connection's connector takes of it what the platform
/// knows (`content.adapt` makes it fit). Until its time comes it stands in the calendar, where `pipewright posts` lists, cancels
/// and moves it; a wait holds no worker and survives a restart. Each post of a thread is an effect of its own, so that after
/// any crash none is missing and none is there twice.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SocialPublish {
    /// The connection to the platform; its connector has an operation `publish`.
    connection: String,
    /// The post: `text`, `link`, `media` (`{ file | url, alt }` each), `thread` (further parts), `title`, `description`, `tags`,
    /// `reply_to`, `visibility`, `made_with_ai`.
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    post: Value,
    /// When it is published; at once by default, and where the time is over.
    #[serde(default)]
    #[schemars(with = "String", extend("format" = "date-time"))]
    at: Value,
    /// What it is like, for what is learned of it: `topic`, `format`, `style` and others.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    labels: Value,
    /// Ids of the generations that it was made of.
    #[serde(default)]
    generations: Vec<Value>,
}

/// What became of a post.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Published {
    /// `published`, or `canceled` where somebody took it out of the calendar.
    state: String,
    /// Its id in the calendar.
    post: String,
    /// The connection that it went to.
    connection: String,
    /// The platform's id of it, or of its first part.
    id: Option<String>,
    /// Where it can be seen.
    url: Option<String>,
    /// The platform's ids of all parts.
    ids: Vec<String>,
}

#[async_trait]
impl NodeType for SocialPublish {
    const NAME: &'static str = "social.publish";
    const EXAMPLE: &'static str = "connection: x\npost: { text: Tea is ready. }\n";
    type Output = Published;

    /// Reads: what it writes goes through the ledger of its steps.
    fn effect(_with: &Value) -> Effect {
        Effect::Read
    }

    fn calls(with: &Value) -> Vec<Wanted> {
        social::wanted(with, PUBLISH)
    }

    fn expand(with: &Value, around: &dyn Surroundings) -> Result<Option<String>, Misfit> {
        let places = social::places(with, around, PUBLISH)?;
        if let ([place], Some(post)) = (places.as_slice(), with.get("post").and_then(Value::as_map)) {
            let lost = lost(&social::takes(&*place.node), |key| post.get(key).is_some());
            if let Some(key) = lost {
                return Err(Misfit::new("post", refused(&place.connection, key)).help(HELP));
            }
        }
        let due = "steps.hold.output.state == 'due' and ";
        let mut steps = serde_json::Map::new();
        steps.insert(
            "hold".to_owned(),
            json!({
                "uses": "posts.hold",
                "with": {
                    "connection": "{{ input.connection }}",
                    "post": "{{ input.post }}",
                    "connector": connectors(&places),
                    "at": "{{ input.at }}",
                    "labels": "{{ input.labels }}",
                    "generations": "{{ input.generations }}",
                },
                "until": { "holds": "{{ output.state != 'rescheduled' }}", "every": "0s", "limit": MOST_MOVES },
            }),
        );
        steps.extend(social::steps(&places, due, "steps.hold.output.post", &["hold"]));
        let place = social::output(&places);
        // Where a run is repeated the calendar may know that it is published already.
        let output = format!("({place} or steps.hold.output.output)");
        steps.insert(
            "mark".to_owned(),
            json!({
                "when": "{{ steps.hold.output.state == 'due' }}",
                "uses": "posts.mark",
                "with": { "id": "{{ steps.hold.output.id }}", "output": format!("{{{{ {place} }}}}") },
            }),
        );
        let all = json!({
            "steps": steps,
            "output": {
                "state": "{{ 'canceled' if steps.hold.output.state == 'canceled' else 'published' }}",
                "post": "{{ steps.hold.output.id }}",
                "connection": "{{ input.connection }}",
                "id": format!("{{{{ {output}.id }}}}"),
                "url": format!("{{{{ {output}.url }}}}"),
                "ids": format!("{{{{ {output}.ids or [] }}}}"),
            },
        });
        Ok(Some(all.to_string()))
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let node = ctx.called(&self.connection, PUBLISH)?;
        // In a plan it may not be known yet; then nothing of it is.
        if self.post.as_map().is_none() && !matches!(self.post, Value::Unknown(_)) {
            return Err(NodeError::invalid("`post` is an object"));
        }
        let there = |key: &str| self.post.get(key).is_some_and(|value| value.is_known() && value.is_truthy());
        if let Some(key) = lost(&social::takes(&**node), there) {
            let message = format!("{}; {HELP}", refused(&self.connection, key));
            return Err(NodeError::message(ErrorClass::Rejected, message));
        }
        let labels = if self.labels.is_null() { Value::map::<&str>([]) } else { self.labels };
        let input = Value::map([
            ("connection", self.connection.into()),
            ("post", self.post),
            ("at", self.at),
            ("labels", labels),
            ("generations", Value::list(self.generations)),
        ]);
        Ok(Outcome::Child { pipeline: Self::NAME.to_owned(), inputs: Value::map([("input", input)]) })
    }
}

/// Returns an expression for the connector of the connection that is meant.
fn connectors(places: &[social::Place]) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "\\'"));
    let entries: Vec<String> = places
        .iter()
        .filter_map(|place| Some(format!("{}: {}", quoted(&place.connection), quoted(place.node.connector()?))))
        .collect();
    format!("{{{{ {{{}}}[input.connection] }}}}", entries.join(", "))
}

const HELP: &str = "`content.adapt` makes a post fit its platform";

/// Returns what a platform would lose of a post.
fn lost(takes: &[String], there: impl Fn(&str) -> bool) -> Option<&'static str> {
    CARRIED.into_iter().find(|key| there(key) && !takes.iter().any(|own| own == key))
}

fn refused(connection: &str, key: &str) -> String {
    format!("connection `{connection}` takes no `{key}` with a post")
}
