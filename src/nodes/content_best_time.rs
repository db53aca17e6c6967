//! `content.best_time`: when to publish next.

use async_trait::async_trait;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use rust_decimal::prelude::FromPrimitive;
use schemars::JsonSchema;
use serde::Deserialize;

use super::moments;
use crate::memory;
use crate::memory::Memory;
use crate::memory::bandit::Arm;
use crate::memory::bandit::Belief;
use crate::memory::best_time::Quiet;
use crate::memory::best_time::Wish;
use crate::memory::best_time::best_time;
use crate::memory::best_time::pulls;
use crate::memory::measured::measured;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::RunId;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;
use crate::store::PostFilter;
use crate::store::PostState;
use crate::store::post_id;
use crate::system::Random;

/// Chooses when to publish next, and in which format, from what earlier posts have come to.
///
/// Each hour of the audience's day, on working days and at the end of the week, with each format, is an arm of a bandit
/// (Thompson sampling): what did well is chosen more often, what is not known is tried, and now and then anything is. A post
/// counts by its engagement against the median of its account; posts of long ago count less. Without any posts every moment
/// is as good as another. The choice is a function of the run: repeated, it is the same.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ContentBestTime {
    /// The account, a connection of the project file.
    connection: String,
    /// The audience's time zone, e.g. `Europe/Berlin`.
    timezone: String,
    /// Not before this moment; by default now.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    after: Value,
    /// How long after that at the latest, at most 62 days.
    #[serde(default = "one_day")]
    within: Duration,
    /// Parts of the audience's day in which nothing is published, e.g. `["22:00-07:00"]`.
    #[serde(default)]
    quiet: Vec<String>,
    /// The formats to choose from, e.g. `[post, thread]`, as posts bear them in their label `format`.
    #[serde(default)]
    formats: Vec<String>,
    /// How far it is from other posts of the account, scheduled or published.
    #[serde(default = "three_hours")]
    spacing: Duration,
    /// How far back posts count.
    #[serde(default = "half_a_year")]
    history: Duration,
}

/// A moment to publish at.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct BestTime {
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// The hour on the audience's clocks.
    hour: u8,
    weekend: bool,
    format: String,
    /// What a post may come to there, from 0 to 1; the account's median is 0.5.
    #[schemars(with = "String")]
    expected: Value,
    /// What was drawn for it, and was the most of all.
    #[schemars(with = "String")]
    sampled: Value,
    /// Whether it was chosen by chance alone.
    explored: bool,
    /// What could have been chosen, the most promising first, at most 20.
    arms: Vec<ArmTold>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
struct ArmTold {
    hour: u8,
    weekend: bool,
    format: String,
    #[schemars(with = "String")]
    expected: Value,
    /// How many posts that rests on, like ones in part.
    #[schemars(with = "String")]
    evidence: Value,
}

fn one_day() -> Duration {
    Duration::from_secs(86_400)
}

fn three_hours() -> Duration {
    Duration::from_secs(3 * 3_600)
}

fn half_a_year() -> Duration {
    Duration::from_secs(180 * 86_400)
}

#[async_trait]
impl NodeType for ContentBestTime {
    const NAME: &'static str = "content.best_time";
    const EXAMPLE: &'static str =
        "connection: x\ntimezone: Europe/Berlin\nwithin: 2d\nquiet: [\"22:00-07:00\"]\nformats: [post, thread]\n";
    type Output = BestTime;

    fn effect(_with: &Value) -> Effect {
        Effect::Read
    }

    fn check(with: &Value) -> Vec<(Option<String>, String)> {
        let mut problems = Vec::new();
        if let Some(name) = with.get("timezone").and_then(Value::as_str)
            && TimeZone::get(name).is_err()
        {
            problems.push((Some("timezone".to_owned()), format!("time zone `{name}` does not exist")));
        }
        for text in with.get("quiet").and_then(Value::as_list).unwrap_or_default().iter().filter_map(Value::as_str) {
            if let Err(error) = text.parse::<Quiet>() {
                problems.push((Some("quiet".to_owned()), error.to_string()));
            }
        }
        problems
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let now = ctx.system.clock.now();
        let zone = TimeZone::get(&self.timezone)
            .map_err(|_| NodeError::invalid(format!("time zone `{}` does not exist", self.timezone)))?;
        let quiet = self.quiet.iter().map(|text| text.parse());
        let quiet: Vec<Quiet> = quiet.collect::<Result<_, _>>().map_err(|error| NodeError::invalid(format!("{error}")))?;
        let after = moments::moment(&self.after, "after")?.unwrap_or(now).max(now);
        let store = Memory::of_step(ctx)?.store();
        let filter = PostFilter {
            connection: Some(self.connection.clone()),
            due_since: Some(Timestamp(now.micros().saturating_sub_unsigned(self.history.micros()))),
            ..PostFilter::default()
        };
        let posts = store.posts(&filter).await.map_err(memory::failed)?;
        let ids: Vec<String> =
            posts.iter().filter(|post| post.published_at.is_some()).map(|post| post.id.clone()).collect();
        let measurements = store.measurements(&ids).await.map_err(memory::failed)?;
        // What this very step run holds is no other post.
        let own = post_id(ctx.run, ctx.path);
        let taken = posts.iter().filter(|post| post.id != own).filter_map(|post| match post.state {
            PostState::Scheduled | PostState::Publishing => Some(post.due_at),
            PostState::Published => post.published_at,
            PostState::Canceled | PostState::Failed | PostState::Deleted => None,
        });
        let wish = Wish {
            after,
            within: self.within,
            quiet,
            formats: self.formats,
            spacing: self.spacing,
            taken: taken.collect(),
            zone: zone.clone(),
        };
        let learned = pulls(&measured(&posts, &measurements, &zone), now);
        let random = Random::seeded(seed(ctx));
        let Some(chosen) = best_time(&wish, &learned, &random) else {
            let text = format!(
                "no moment within {} after {after} is free: it is quiet then, or other posts are nearer than {}",
                wish.within, wish.spacing
            );
            return Err(NodeError::invalid(text));
        };
        let arms = chosen.arms.iter().take(20).map(|(arm, belief)| told(arm, *belief));
        Ok(Outcome::Done(Value::map([
            ("at", Value::Time(chosen.at)),
            ("hour", u32::from(chosen.arm.hour).into()),
            ("weekend", chosen.arm.weekend.into()),
            ("format", chosen.arm.format.as_str().into()),
            ("expected", decimal(chosen.expected)),
            ("sampled", decimal(chosen.sampled)),
            ("explored", chosen.explored.into()),
            ("arms", Value::list(arms.collect())),
        ])))
    }
}

/// Chance is the run's and the step's: whoever performs it again draws the same.
pub(super) fn seed(ctx: &StepContext<'_>) -> u64 {
    let id = RunId::child_of(ctx.run, &format!("{}/chance", ctx.path)).to_string();
    // The end of the id is random.
    let folded = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    folded ^ (folded >> 29)
}

fn told(arm: &Arm, belief: Belief) -> Value {
    Value::map([
        ("hour", u32::from(arm.hour).into()),
        ("weekend", arm.weekend.into()),
        ("format", arm.format.as_str().into()),
        ("expected", decimal(belief.expected())),
        ("evidence", decimal(belief.evidence)),
    ])
}

fn decimal(number: f64) -> Value {
    Value::Decimal(Decimal::from_f64(number).unwrap_or_default().round_dp(4).normalize())
}
