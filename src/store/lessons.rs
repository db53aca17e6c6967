//! What was learned from posts; `memory` decides what is a lesson and when it is none any more.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::Arg;
use super::Batch;
use super::Error;
use super::Row;
use super::Store;
use super::db::args;
use super::generations::json;
use super::runs::ids_from_to;
use crate::model::Timestamp;

/// Labels of a post, or the scope of a lesson: `platform`, `topic`, `audience` and others.
pub type Labels = BTreeMap<String, String>;

/// Which way a feature moves what posts come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Up,
    Down,
}

/// One lesson.
#[derive(Clone, Debug, PartialEq)]
pub struct LessonRecord {
    pub id: String,
    pub at: Timestamp,
    pub text: String,
    /// Where it holds; everywhere where there are none.
    pub labels: Labels,
    /// What it is about where numbers can check it, e.g. `hour=9`.
    pub feature: Option<String>,
    pub direction: Option<Direction>,
    /// From 0 to 1, as it was when it was last confirmed; it fades from then on.
    pub weight: Decimal,
    /// The posts that it rests on.
    pub evidence: Vec<String>,
    /// The generation that said it.
    pub generation: Option<String>,
    pub confirmed_at: Timestamp,
    /// Since when and why it is no longer counted.
    pub retired: Option<(Timestamp, String)>,
}

/// Which lessons to list; newest first.
#[derive(Clone, Debug, Default)]
pub struct LessonFilter {
    /// Only those that count.
    pub active: bool,
    /// The beginning of the id, in any case.
    pub id_prefix: Option<String>,
    /// At most so many; all when there is no limit.
    pub limit: Option<u32>,
}

/// What a reflection changes; all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LessonChanges {
    /// The step run that reflects: when it is performed again, nothing changes twice.
    pub origin: String,
    pub at: Timestamp,
    pub new: Vec<LessonRecord>,
    /// Lessons that the numbers confirm, with their new weight and all their evidence.
    pub confirmed: Vec<(String, Decimal, Vec<String>)>,
    /// Lessons that later numbers contradict, and how.
    pub retired: Vec<(String, String)>,
}

const COLUMNS: &str = "id, learned_at, content, labels, feature, direction, weight, evidence, generation, confirmed_at, \
                       retired_at, reason, state";

impl Direction {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        [Self::Up, Self::Down].into_iter().find(|known| known.name() == name)
    }
}

impl Store {
    /// Lists lessons.
    ///
    /// # Errors
    /// The store's, here and below.
    pub async fn lessons(&self, filter: &LessonFilter) -> Result<Vec<LessonRecord>, Error> {
        let mut args: Vec<Arg> = Vec::new();
        let mut sql = format!("SELECT {COLUMNS} FROM lessons WHERE 1 = 1");
        if filter.active {
            sql.push_str(" AND state = 'active'");
        }
        if let Some(prefix) = &filter.id_prefix {
            let Some((first, last)) = ids_from_to(prefix) else { return Ok(Vec::new()) };
            args.extend(args![first, last]);
            sql.push_str(" AND id BETWEEN $1 AND $2");
        }
        sql.push_str(" ORDER BY learned_at DESC, id DESC");
        if let Some(limit) = filter.limit {
            args.push(i64::from(limit).into());
            sql.push_str(&format!(" LIMIT ${}", args.len()));
        }
        self.fetch(sql, args).await?.iter().map(lesson).collect()
    }

    /// Changes lessons as a reflection says, in one transaction.
    pub async fn apply_lessons(&self, changes: &LessonChanges) -> Result<(), Error> {
        const NEW: &str = "INSERT INTO lessons (id, learned_at, content, labels, feature, direction, weight, evidence, \
                           generation, state, confirmed_at, confirmed_by) VALUES \
                           ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'active', $10, $11) ON CONFLICT (id) DO NOTHING";
        const CONFIRM: &str = "UPDATE lessons SET weight = $2, evidence = $3, confirmed_at = $4, confirmed_by = $5 \
                               WHERE id = $1 AND state = 'active' AND confirmed_by <> $5";
        const RETIRE: &str = "UPDATE lessons SET state = 'retired', retired_at = $2, reason = $3 WHERE id = $1 \
                              AND state = 'active'";
        let (at, origin) = (changes.at.micros(), changes.origin.as_str());
        let mut batch = Batch::default();
        for lesson in &changes.new {
            batch.push(
                NEW,
                args![
                    lesson.id.as_str(),
                    lesson.at.micros(),
                    lesson.text.as_str(),
                    json(&lesson.labels),
                    lesson.feature.as_deref(),
                    lesson.direction.map(Direction::name),
                    lesson.weight.to_string(),
                    json(&lesson.evidence),
                    lesson.generation.as_deref(),
                    lesson.confirmed_at.micros(),
                    origin,
                ],
            );
        }
        for (id, weight, evidence) in &changes.confirmed {
            batch.push(CONFIRM, args![id.as_str(), weight.to_string(), json(evidence), at, origin]);
        }
        for (id, reason) in &changes.retired {
            batch.push(RETIRE, args![id.as_str(), at, reason.as_str()]);
        }
        if changes.new.is_empty() && changes.confirmed.is_empty() && changes.retired.is_empty() {
            return Ok(());
        }
        batch.vary();
        self.apply(batch).await?.map_err(|error| self.place().error(error))
    }

    /// Retires a lesson. Returns false where it does not count already.
    pub async fn retire_lesson(&self, id: &str, at: Timestamp, reason: &str) -> Result<bool, Error> {
        const RETIRE: &str = "UPDATE lessons SET state = 'retired', retired_at = $2, reason = $3 WHERE id = $1 \
                              AND state = 'active'";
        Ok(self.execute(RETIRE, args![id, at.micros(), reason]).await? > 0)
    }

    /// Lets a lesson count again, as if it were confirmed now. Returns false where it counts.
    pub async fn restore_lesson(&self, id: &str, at: Timestamp) -> Result<bool, Error> {
        const RESTORE: &str = "UPDATE lessons SET state = 'active', retired_at = NULL, reason = NULL, \
                               confirmed_at = $2 WHERE id = $1 AND state = 'retired'";
        Ok(self.execute(RESTORE, args![id, at.micros()]).await? > 0)
    }

    /// Removes lessons that were retired, or confirmed last, before a moment, a bounded number. Returns how many.
    pub async fn remove_lessons(&self, before: Timestamp, most: u32) -> Result<u64, Error> {
        const REMOVE: &str = "DELETE FROM lessons WHERE id IN (SELECT id FROM lessons WHERE \
                              COALESCE(retired_at, confirmed_at) < $1 LIMIT $2)";
        self.execute(REMOVE, args![before.micros(), i64::from(most)]).await
    }
}

fn lesson(row: &Row) -> Result<LessonRecord, Error> {
    let id = row.text(0)?.to_owned();
    let damaged = |reason: &str| Error::Damaged { what: format!("lesson {id}"), reason: reason.to_owned() };
    let parsed = |error: serde_json::Error| damaged(&error.to_string());
    let direction = match row.optional_text(5)? {
        Some(name) => Some(Direction::by_name(name).ok_or_else(|| damaged("unknown direction"))?),
        None => None,
    };
    let retired = match (row.text(12)?, row.optional_int(10)?) {
        ("retired", at) => {
            Some((Timestamp(at.unwrap_or_default()), row.optional_text(11)?.unwrap_or_default().to_owned()))
        }
        _ => None,
    };
    Ok(LessonRecord {
        at: Timestamp(row.int(1)?),
        text: row.text(2)?.to_owned(),
        labels: serde_json::from_str(row.text(3)?).map_err(parsed)?,
        feature: row.optional_text(4)?.map(str::to_owned),
        direction,
        weight: Decimal::from_str_exact(row.text(6)?).map_err(|error| damaged(&error.to_string()))?,
        evidence: serde_json::from_str(row.text(7)?).map_err(parsed)?,
        generation: row.optional_text(8)?.map(str::to_owned),
        confirmed_at: Timestamp(row.int(9)?),
        retired,
        id,
    })
}
