//! `ai.reflect`: learns from how posts did.

use async_trait::async_trait;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;

use super::asking;
use super::asking::Fallback;
use super::asking::On;
use super::asking::Record;
use super::asking::Turn;
use crate::memory;
use crate::memory::Memory;
use crate::memory::measured::measured;
use crate::memory::reflection;
use crate::memory::reflection::Origin;
use crate::memory::reflection::Reflected;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;
use crate::node::Wanted;
use crate::store::LessonFilter;
use crate::store::PostFilter;

/// Has a model say what the numbers of posts teach, and keeps what they bear out.
///
/// The model sees posts with their figures and the lessons that are known. A lesson counts only if it cites posts that there
/// are, and where it is about a feature (`hour=9`, `format=thread`), if the numbers of posts support it beyond what chance
/// gives. Known lessons gain weight where later posts bear them out, and are retired where these contradict them; to say them
/// again changes nothing. `context.lessons` hands them on to the next prompt. Without enough measured posts nobody is asked,
/// and nothing is paid.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AiReflect {
    /// The connection that is asked; its connector has an operation `chat`.
    connection: String,
    /// The model; by default the one that the connection names.
    #[serde(default)]
    model: Option<String>,
    /// Connections that are asked, in this order, where the one before cannot answer.
    #[serde(default)]
    fallback: Vec<Fallback>,
    /// The classes of errors after which the next one is asked.
    #[serde(default = "asking::usual")]
    fallback_on: Vec<On>,
    /// The audience's time zone, by which hours are told.
    #[serde(default = "utc")]
    timezone: String,
    /// How far back posts count.
    #[serde(default = "quarter")]
    history: Duration,
    /// How many measured posts there must be.
    #[serde(default = "six")]
    #[schemars(range(min = 2))]
    least: u32,
    /// How often the model may mend an answer that does not fit.
    #[serde(default = "asking::two")]
    #[schemars(range(max = 10))]
    repairs: u32,
    /// The longest answer, in tokens, thoughts included.
    #[serde(default)]
    max_tokens: Option<u64>,
}

/// What was learned.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Learned {
    /// New lessons.
    accepted: Vec<Value>,
    /// Lessons of the model that do not count, each with the reason.
    refused: Vec<Value>,
    /// Lessons that later numbers contradict, each with the reason.
    retired: Vec<Value>,
    /// Lessons that were borne out again.
    confirmed: Vec<Value>,
    /// How many measured posts were looked at.
    posts: u32,
    /// Whether a model was asked.
    asked: bool,
    /// What it cost; null where a price is not known, or nobody was asked.
    cost: Value,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn quarter() -> Duration {
    Duration::from_secs(90 * 86_400)
}

fn six() -> u32 {
    6
}

#[async_trait]
impl NodeType for AiReflect {
    const NAME: &'static str = "ai.reflect";
    const EXAMPLE: &'static str = "connection: openai\nmodel: gpt-6-luna\ntimezone: Europe/Berlin\n";
    type Output = Learned;

    fn effect(_with: &Value) -> Effect {
        Effect::PaidRead
    }

    fn calls(with: &Value) -> Vec<Wanted> {
        asking::wanted(with, asking::CHAT)
    }

    fn check(with: &Value) -> Vec<(Option<String>, String)> {
        let name = with.get("timezone").and_then(Value::as_str);
        let wrong = name.filter(|name| TimeZone::get(name).is_err());
        wrong.map(|name| (Some("timezone".to_owned()), format!("time zone `{name}` does not exist"))).into_iter().collect()
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let zone = TimeZone::get(&self.timezone)
            .map_err(|_| NodeError::invalid(format!("time zone `{}` does not exist", self.timezone)))?;
        let now = ctx.system.clock.now();
        let memory = Memory::of_step(ctx)?;
        let store = memory.store();
        let since = Timestamp(now.micros().saturating_sub_unsigned(self.history.micros()));
        let filter = PostFilter { published_since: Some(since), ..PostFilter::default() };
        let posts = store.posts(&filter).await.map_err(memory::failed)?;
        let ids: Vec<String> = posts.iter().map(|post| post.id.clone()).collect();
        let figures = store.measurements(&ids).await.map_err(memory::failed)?;
        let mut measured = measured(&posts, &figures, &zone);
        measured.retain(|post| post.reward.is_some());
        let count = u64::try_from(measured.len()).unwrap_or(u64::MAX);
        if count < u64::from(self.least) {
            return Ok(Outcome::Done(told(&Reflected::default(), count, false, Value::Null)));
        }
        let active = LessonFilter { active: true, ..LessonFilter::default() };
        let active = store.lessons(&active).await.map_err(memory::failed)?;
        let outcome = asking::take(self.turn(&reflection::question(&measured, &active, now)), ctx).await?;
        let Outcome::Done(turned) = outcome else { return Ok(outcome) };
        let of = |key: &str| turned.get(key).cloned().unwrap_or_default();
        let generation = of("generation").as_str().map(str::to_owned);
        let origin = Origin { run: ctx.run, path: ctx.path.clone(), generation, now };
        let reflected = reflection::judge(&of("value"), &measured, &active, &origin);
        if !memory.looks_only() {
            memory.changing()?.apply_lessons(reflected.changes()).await.map_err(memory::failed)?;
        }
        Ok(Outcome::Done(told(&reflected, count, true, of("cost"))))
    }
}

impl AiReflect {
    fn turn(self, question: &reflection::Question) -> Turn {
        let mut settings = Map::new();
        settings.insert("schema_name".into(), "lessons".into());
        if let Some(most) = self.max_tokens {
            settings.insert("max_tokens".into(), most.into());
        }
        let first = Fallback { connection: self.connection, model: self.model };
        Turn {
            chain: std::iter::once(first).chain(self.fallback).collect(),
            on: self.fallback_on.into_iter().map(On::class).collect(),
            settings,
            messages: question.messages.as_list().unwrap_or_default().to_vec(),
            schema: Some(asking::to_json(&question.schema)),
            repairs: self.repairs,
            usage: Value::Null,
            cost: Value::Null,
            turns: 0,
            record: Record::of("reflect"),
        }
    }
}

fn told(reflected: &Reflected, posts: u64, asked: bool, cost: Value) -> Value {
    let mut map = reflected.to_value().as_map().cloned().unwrap_or_default();
    map.insert("posts".into(), posts.into());
    map.insert("asked".into(), asked.into());
    map.insert("cost".into(), cost);
    Value::from(map)
}
