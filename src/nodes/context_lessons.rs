//! `context.lessons`: what earlier posts have taught.

use async_trait::async_trait;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use schemars::JsonSchema;
use serde::Deserialize;

use super::content_best_time::seed;
use crate::memory;
use crate::memory::Memory;
use crate::memory::lessons::HALF_LIFE;
use crate::memory::lessons::holds_for;
use crate::memory::lessons::weight;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::Value;
use crate::model::decode;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;
use crate::store::Labels;
use crate::store::LessonFilter;
use crate::system::Random;

/// Returns the lessons that hold for what is about to be written, the weightiest first.
///
/// A lesson rests on posts and their numbers; `ai.reflect` finds them. It loses half its weight in `half_life`, unless posts
/// confirm it, and counts no more once later posts contradict it. `text` has them as a list for a prompt. `pipewright lessons`
/// shows and retires them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ContextLessons {
    /// What they must hold for, e.g. `{ platform: x, topic: tea }`. A lesson that says nothing of a label holds for all.
    #[serde(default)]
    labels: Labels,
    /// How many at most.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 200))]
    limit: u32,
    /// After how long without being confirmed a lesson has half its weight.
    #[serde(default = "half_life")]
    half_life: Duration,
    /// What weighs less is left out; from 0 to 1.
    #[serde(default = "least")]
    least: Decimal,
    /// How often each lesson is held back, from 0 (never, the default) to 1. A lesson that is always followed has nothing to
    /// be compared with any more: what is written without it now and then shows whether it still holds. One that has faded is
    /// held back more often. Which are held back is a function of the run.
    #[serde(default)]
    explore: Decimal,
}

/// Lessons that hold.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Lessons {
    lessons: Vec<Lesson>,
    /// The number of lessons.
    count: u64,
    /// All of them, each on a line that begins with `- `.
    text: String,
    /// How many were held back.
    held: u64,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
struct Lesson {
    id: String,
    text: String,
    /// What it weighs now, from 0 to 1.
    #[schemars(with = "String")]
    weight: Value,
    /// Where it holds.
    labels: Labels,
    /// What it is about, e.g. `hour=9`.
    feature: Option<String>,
    /// `up` or `down`.
    direction: Option<String>,
    /// The posts that it rests on.
    evidence: Vec<String>,
}

fn ten() -> u32 {
    10
}

fn half_life() -> Duration {
    HALF_LIFE
}

/// Returns how often a lesson is held back: the more often, the longer nothing has confirmed it.
fn held_back(share: f64, weight: Decimal) -> f64 {
    /// What weighs so much is believed in.
    const SURE: f64 = 0.3;
    if share <= 0.0 {
        return 0.0;
    }
    let sureness = (weight.to_f64().unwrap_or_default() / SURE).min(1.0);
    1.0 - (1.0 - share) * sureness
}

fn is_share(share: Decimal) -> bool {
    (Decimal::ZERO..=Decimal::ONE).contains(&share)
}

fn no_share(share: Decimal) -> String {
    format!("{share} is no share from 0 to 1")
}

fn least() -> Decimal {
    Decimal::new(5, 2)
}

#[async_trait]
impl NodeType for ContextLessons {
    const NAME: &'static str = "context.lessons";
    const EXAMPLE: &'static str = "labels: { platform: x }\nlimit: 5\n";
    type Output = Lessons;

    fn effect(_with: &Value) -> Effect {
        Effect::Read
    }

    fn check(with: &Value) -> Vec<(Option<String>, String)> {
        let given = with.get("explore").and_then(|share| decode::<Decimal>(share.clone()).ok());
        let wrong = given.filter(|share| !is_share(*share));
        wrong.map(|share| (Some("explore".to_owned()), no_share(share))).into_iter().collect()
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        if !is_share(self.explore) {
            return Err(NodeError::invalid(format!("`explore`: {}", no_share(self.explore))));
        }
        let now = ctx.system.clock.now();
        let filter = LessonFilter { active: true, ..LessonFilter::default() };
        let active = Memory::of_step(ctx)?.store().lessons(&filter).await.map_err(memory::failed)?;
        let holding = active.into_iter().filter(|lesson| holds_for(&lesson.labels, &self.labels));
        let mut weighed: Vec<_> = holding.map(|lesson| (weight(&lesson, now, self.half_life), lesson)).collect();
        weighed.retain(|(weight, _)| *weight >= self.least);
        weighed.sort_by(|(one, first), (other, second)| other.cmp(one).then_with(|| second.id.cmp(&first.id)));
        let random = Random::seeded(seed(ctx));
        let share = self.explore.to_f64().unwrap_or_default();
        let known = weighed.len();
        weighed.retain(|(weight, _)| random.fraction() >= held_back(share, *weight));
        let held = u64::try_from(known - weighed.len()).unwrap_or(u64::MAX);
        weighed.truncate(usize::try_from(self.limit.clamp(1, 200)).unwrap_or(200));
        let text: Vec<String> = weighed.iter().map(|(_, lesson)| format!("- {}", lesson.text)).collect();
        let lessons = weighed.into_iter().map(|(weight, lesson)| {
            let labels = lesson.labels.into_iter().map(|(name, value)| (name, Value::from(value)));
            Value::map([
                ("id", Value::from(lesson.id)),
                ("text", lesson.text.into()),
                ("weight", Value::Decimal(weight)),
                ("labels", Value::map(labels)),
                ("feature", lesson.feature.map_or(Value::Null, Value::from)),
                ("direction", lesson.direction.map_or(Value::Null, |direction| direction.name().into())),
                ("evidence", Value::list(lesson.evidence.into_iter().map(Value::from).collect())),
            ])
        });
        let lessons: Vec<Value> = lessons.collect();
        let count = u64::try_from(lessons.len()).unwrap_or(u64::MAX);
        Ok(Outcome::Done(Value::map([
            ("lessons", Value::list(lessons)),
            ("count", count.into()),
            ("text", text.join("\n").into()),
            ("held", held.into()),
        ])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_faded_is_held_back_more_often_and_nothing_where_nobody_asks_for_it() {
        let held = |share: f64, hundredths: i64| (held_back(share, Decimal::new(hundredths, 2)) * 100.0).round();
        assert_eq!([held(0.2, 90), held(0.2, 30), held(0.2, 15), held(0.2, 0)], [20.0, 20.0, 60.0, 100.0]);
        assert_eq!([held(0.0, 90), held(0.0, 1), held(1.0, 90)], [0.0, 0.0, 100.0]);
    }
}
