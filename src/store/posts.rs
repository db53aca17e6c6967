//! The calendar of posts, what became of each, and what it came to.
//!
//! A row is made by the step run that holds a post until its time. While the run sleeps over it the row names what the run
//! asks, as an approval's row does: whoever cancels or moves the post takes the row and answers in one transaction.

use super::Arg;
use super::Batch;
use super::Error;
use super::Fence;
use super::Labels;
use super::Lapsed;
use super::Row;
use super::Store;
use super::datasets::is_guard;
use super::db::args;
use super::generations::json;
use super::generations::places;
use super::runs::ids_from_to;
use crate::model::Ask;
use crate::model::AskId;
use crate::model::Duration;
use crate::model::Lapse;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;

/// Where a post stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostState {
    /// It waits for its time.
    Scheduled,
    /// Its time has come, and its run publishes it.
    Publishing,
    Published,
    Canceled,
    Failed,
    /// It was published, and is no longer there.
    Deleted,
}

/// One post.
#[derive(Clone, Debug, PartialEq)]
pub struct PostRecord {
    /// Made of run and path: see [`post_id`].
    pub id: String,
    pub run: RunId,
    pub path: StepPath,
    /// The pipeline of the run above all.
    pub pipeline: String,
    pub connection: String,
    pub connector: Option<String>,
    /// The canonical post.
    pub post: Value,
    /// `format`, `style`, `topic` and others.
    pub labels: Labels,
    /// The generations that it was made of.
    pub generations: Vec<String>,
    pub state: PostState,
    pub made_at: Timestamp,
    pub due_at: Timestamp,
    pub published_at: Option<Timestamp>,
    /// The platform's id.
    pub remote_id: Option<String>,
    /// The platform's ids of all its parts.
    pub ids: Vec<String>,
    pub url: Option<String>,
    pub error: Option<String>,
    /// What its run asks while it sleeps over it.
    pub ask: Option<AskId>,
    /// Grows with every change.
    pub revision: i64,
    /// The state of its run; nothing where the run is no longer kept.
    pub run_state: Option<RunState>,
}

/// Which posts to list; those that are due last first.
#[derive(Clone, Debug, Default)]
pub struct PostFilter {
    pub states: Vec<PostState>,
    pub connection: Option<String>,
    /// Due at this moment or later.
    pub due_since: Option<Timestamp>,
    /// Published at this moment or later.
    pub published_since: Option<Timestamp>,
    pub remote_id: Option<String>,
    /// The beginning of the id, in any case.
    pub id_prefix: Option<String>,
    /// At most so many; all when there is no limit.
    pub limit: Option<u32>,
}

/// What a platform says of a post. What it does not say is nothing, never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Metrics {
    pub impressions: Option<i64>,
    pub reach: Option<i64>,
    pub likes: Option<i64>,
    pub comments: Option<i64>,
    pub shares: Option<i64>,
    pub clicks: Option<i64>,
    pub saves: Option<i64>,
    pub video_views: Option<i64>,
}

/// One measurement of a post.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    pub post: String,
    pub at: Timestamp,
    /// How old the post was.
    pub age: Duration,
    pub metrics: Metrics,
    /// What the platform said, as it was given.
    pub raw: Value,
}

/// What became of a post.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    Published { at: Timestamp, remote_id: String, ids: Vec<String>, url: Option<String> },
    Failed { error: String },
    Deleted,
}

/// Notes what its run asks.
pub(super) const ASK: &str = "UPDATE posts SET ask = $1, revision = revision + 1 WHERE id = $2";
/// Its run no longer asks.
pub(super) const CLOSE: &str = "UPDATE posts SET ask = NULL, revision = revision + 1 WHERE ask = $1";

const COLUMNS: &str = "id, run_id, path, pipeline, connection, connector, post, labels, generations, state, made_at, due_at, \
                       published_at, remote_id, ids, url, error, ask, revision, \
                       (SELECT state FROM runs WHERE runs.id = posts.run_id)";

const METRICS: [&str; 8] = ["impressions", "reach", "likes", "comments", "shares", "clicks", "saves", "video_views"];

impl PostState {
    pub const ALL: [Self; 6] =
        [Self::Scheduled, Self::Publishing, Self::Published, Self::Canceled, Self::Failed, Self::Deleted];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Publishing => "publishing",
            Self::Published => "published",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
            Self::Deleted => "deleted",
        }
    }

    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}

impl Metrics {
    /// Returns the figures in the order of their names.
    #[must_use]
    pub fn all(&self) -> [(&'static str, Option<i64>); 8] {
        let Self { impressions, reach, likes, comments, shares, clicks, saves, video_views } = *self;
        let figures = [impressions, reach, likes, comments, shares, clicks, saves, video_views];
        let mut named = [("", None); 8];
        for (place, pair) in named.iter_mut().zip(METRICS.into_iter().zip(figures)) {
            *place = pair;
        }
        named
    }
}

/// Returns the id of the post that a step run holds: the same in every round and whenever it is performed again.
#[must_use]
pub fn post_id(run: RunId, path: &StepPath) -> String {
    RunId::child_of(run, &format!("{}/post", path.clone().whole())).to_string()
}

impl Store {
    /// Makes the row of a post, and returns it as it is. Where there is one, of a step that is performed again, it keeps the
    /// time that people have given it, unless the pipeline wants another than it did then.
    ///
    /// # Errors
    /// The store's, here and below.
    pub async fn hold_post(&self, new: &PostRecord) -> Result<PostRecord, Error> {
        const NEW: &str = "INSERT INTO posts (id, run_id, path, pipeline, connection, connector, post, labels, generations, \
                           state, made_at, due_at, wanted_at, ids, revision) VALUES \
                           ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'scheduled', $10, $11, $11, '[]', 1) \
                           ON CONFLICT (id) DO UPDATE SET connection = excluded.connection, \
                           connector = excluded.connector, post = excluded.post, labels = excluded.labels, \
                           generations = excluded.generations, wanted_at = excluded.wanted_at, due_at = CASE WHEN \
                           posts.wanted_at = excluded.wanted_at THEN posts.due_at ELSE excluded.due_at END, \
                           revision = posts.revision + 1 WHERE posts.state IN ('scheduled', 'failed')";
        let post = self.encode(&new.post).await?;
        let args = args![
            new.id.as_str(),
            new.run.to_string(),
            new.path.to_string(),
            new.pipeline.as_str(),
            new.connection.as_str(),
            new.connector.as_deref(),
            post,
            json(&new.labels),
            json(&new.generations),
            new.made_at.micros(),
            new.due_at.micros(),
        ];
        self.execute(NEW, args).await?;
        let missing = || Error::Damaged { what: format!("post {}", new.id), reason: "it was not kept".to_owned() };
        self.post(&new.id).await?.ok_or_else(missing)
    }

    /// Notes that the time of a post has come. Returns false where somebody has changed it since it was read.
    pub async fn begin_post(&self, seen: &PostRecord) -> Result<bool, Error> {
        const BEGIN: &str = "UPDATE posts SET state = 'publishing', error = NULL, revision = revision + 1 \
                             WHERE id = $1 AND revision = $2";
        Ok(self.execute(BEGIN, args![seen.id.as_str(), seen.revision]).await? > 0)
    }

    /// Notes what became of a post. Returns false where that cannot be: one that was published does not fail, and only such
    /// a one is deleted.
    pub async fn mark_post(&self, id: &str, fate: &Fate) -> Result<bool, Error> {
        const PUBLISHED: &str = "UPDATE posts SET state = 'published', published_at = COALESCE(published_at, $2), \
                                 remote_id = $3, ids = $4, url = $5, error = NULL, revision = revision + 1 \
                                 WHERE id = $1 AND state IN ('scheduled', 'publishing', 'failed', 'published')";
        const FAILED: &str = "UPDATE posts SET state = 'failed', error = $2, revision = revision + 1 \
                              WHERE id = $1 AND state IN ('scheduled', 'publishing', 'failed')";
        const DELETED: &str = "UPDATE posts SET state = 'deleted', revision = revision + 1 \
                               WHERE id = $1 AND state IN ('published', 'deleted')";
        let touched = match fate {
            Fate::Published { at, remote_id, ids, url } => {
                let args = args![id, at.micros(), remote_id.as_str(), json(ids), url.as_deref()];
                self.execute(PUBLISHED, args).await?
            }
            Fate::Failed { error } => self.execute(FAILED, args![id, error.as_str()]).await?,
            Fate::Deleted => self.execute(DELETED, args![id]).await?,
        };
        Ok(touched > 0)
    }

    /// Cancels a post as it was read, or moves it to another time; the answer goes to its run in the same transaction,
    /// where the run sleeps over it. Returns false where the post is no longer as it was read, or no longer waits.
    pub async fn change_post(
        &self,
        seen: &PostRecord,
        state: PostState,
        due_at: Timestamp,
        answer: &Value,
        at: Timestamp,
    ) -> Result<bool, Error> {
        // As somebody else has left it, the number becomes null, which the table refuses.
        const CHANGE: &str = "UPDATE posts SET state = $3, due_at = $4, ask = NULL, revision = CASE WHEN \
                              state = 'scheduled' AND revision = $2 THEN revision + 1 END WHERE id = $1";
        let letters = match &seen.ask {
            Some(ask) => {
                let payload = Ask::answered(ask, &Ok(answer.clone()));
                Some(self.letters(seen.run, Ask::ANSWERED, &payload, at).await?)
            }
            None => None,
        };
        let changed = self
            .apply_again(|| {
                let mut batch = Batch::default();
                if let Some(letters) = &letters {
                    letters.add_to(&mut batch);
                }
                batch.push(CHANGE, args![seen.id.as_str(), seen.revision, state.name(), due_at.micros()]);
                batch
            })
            .await?;
        match changed {
            Ok(()) => Ok(true),
            Err(error) if error.as_database_error().is_some_and(|error| is_guard(&error.kind())) => Ok(false),
            Err(error) => Err(self.place().error(error)),
        }
    }

    /// Ends what a run asks about a post because its time has come.
    pub(super) async fn lapse_post(&self, ask: &Ask, lapse: &Lapse, run: RunId, fence: Fence) -> Result<Lapsed, Error> {
        const LAPSE: &str = "UPDATE posts SET state = $2, due_at = $3, revision = revision + 1 WHERE ask = $1 \
                             AND state = 'scheduled' AND due_at <= $4 \
                             AND EXISTS (SELECT 1 FROM runs WHERE id = $5 AND fence = $6)";
        const NOW: &str = "SELECT ask, state, due_at FROM posts WHERE id = $1";
        let id = ask.request.get("id").and_then(Value::as_str).unwrap_or_default();
        let output = lapse.answer.as_ref().ok();
        let due = match output.and_then(|output| output.get("at")) {
            Some(Value::Time(at)) => at.micros(),
            _ => lapse.at.micros(),
        };
        // A recorded run is told what somebody said then, as if the time had come for it.
        let (state, upto) = match output.and_then(|output| output.get("state")).and_then(Value::as_str) {
            Some("canceled") => (PostState::Canceled, i64::MAX),
            Some("rescheduled") => (PostState::Scheduled, i64::MAX),
            _ => (PostState::Publishing, lapse.at.micros()),
        };
        let args = args![&*ask.id.0, state.name(), due, upto, run.to_string(), fence.0];
        self.execute(LAPSE, args).await?;
        let rows = self.fetch(NOW, args![id]).await?;
        // What has no row can be changed by nobody.
        let Some(row) = rows.first() else { return Ok(Lapsed::Yes) };
        if row.optional_text(0)? != Some(&*ask.id.0) {
            return Ok(Lapsed::Answered);
        }
        let (now, at) = (row.text(1)?, Timestamp(row.int(2)?));
        if now == state.name() && (state != PostState::Scheduled || at.micros() == due) {
            return Ok(Lapsed::Yes);
        }
        if now == PostState::Scheduled.name() && at <= lapse.at {
            // Another process executes the run.
            return Ok(Lapsed::Answered);
        }
        // It was changed while its run was about to ask, so nobody could answer.
        let word = if now == PostState::Scheduled.name() { "rescheduled" } else { "canceled" };
        let mut output = output.and_then(Value::as_map).cloned().unwrap_or_default();
        output.insert("state".into(), word.into());
        output.insert("at".into(), Value::Time(at));
        Ok(Lapsed::Instead(Ok(Value::from(output))))
    }

    /// Lists posts.
    pub async fn posts(&self, filter: &PostFilter) -> Result<Vec<PostRecord>, Error> {
        let mut sql = format!("SELECT {COLUMNS} FROM posts WHERE 1 = 1");
        let mut args: Vec<Arg> = Vec::new();
        let mut bind = |arg: Arg| {
            args.push(arg);
            format!("${}", args.len())
        };
        if !filter.states.is_empty() {
            let places: Vec<String> = filter.states.iter().map(|state| bind(state.name().into())).collect();
            sql.push_str(&format!(" AND state IN ({})", places.join(", ")));
        }
        for (column, wanted) in [("connection", &filter.connection), ("remote_id", &filter.remote_id)] {
            if let Some(wanted) = wanted {
                sql.push_str(&format!(" AND {column} = {}", bind(wanted.as_str().into())));
            }
        }
        for (column, since) in [("due_at", filter.due_since), ("published_at", filter.published_since)] {
            if let Some(since) = since {
                sql.push_str(&format!(" AND {column} >= {}", bind(since.micros().into())));
            }
        }
        if let Some(prefix) = &filter.id_prefix {
            let Some((first, last)) = ids_from_to(prefix) else { return Ok(Vec::new()) };
            let (first, last) = (bind(first.into()), bind(last.into()));
            sql.push_str(&format!(" AND id BETWEEN {first} AND {last}"));
        }
        sql.push_str(" ORDER BY due_at DESC, id DESC");
        if let Some(limit) = filter.limit {
            sql.push_str(&format!(" LIMIT {}", bind(i64::from(limit).into())));
        }
        let rows = self.fetch(sql, args).await?;
        rows.iter().map(|row| self.post_record(row)).collect()
    }

    /// Returns a post by its whole id.
    pub async fn post(&self, id: &str) -> Result<Option<PostRecord>, Error> {
        let rows = self.fetch(format!("SELECT {COLUMNS} FROM posts WHERE id = $1"), args![id]).await?;
        rows.first().map(|row| self.post_record(row)).transpose()
    }

    /// Keeps a measurement; one of the same moment is replaced.
    pub async fn put_measurement(&self, measurement: &Measurement) -> Result<(), Error> {
        const PUT: &str = "INSERT INTO post_metrics (post, measured_at, age, impressions, reach, likes, comments, shares, \
                           clicks, saves, video_views, raw) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
                           ON CONFLICT (post, measured_at) DO UPDATE SET impressions = excluded.impressions, \
                           reach = excluded.reach, likes = excluded.likes, comments = excluded.comments, \
                           shares = excluded.shares, clicks = excluded.clicks, saves = excluded.saves, \
                           video_views = excluded.video_views, raw = excluded.raw";
        let age = i64::try_from(measurement.age.micros()).unwrap_or(i64::MAX);
        let mut args = args![measurement.post.as_str(), measurement.at.micros(), age];
        args.extend(measurement.metrics.all().map(|(_, figure)| Arg::from(figure)));
        args.push(self.encode(&measurement.raw).await?.into());
        self.execute(PUT, args).await?;
        Ok(())
    }

    /// Lists the measurements of some posts, by post, the oldest first.
    pub async fn measurements(&self, posts: &[String]) -> Result<Vec<Measurement>, Error> {
        /// As many arguments as any of the databases takes.
        const MOST: usize = 5_000;
        let mut found = Vec::new();
        for posts in posts.chunks(MOST) {
            let (places, args) = places(posts.iter().map(String::as_str));
            let sql = format!(
                "SELECT post, measured_at, age, {}, raw FROM post_metrics WHERE post IN ({places}) \
                 ORDER BY post, measured_at",
                METRICS.join(", ")
            );
            for row in self.fetch(sql, args).await? {
                found.push(self.measurement(&row)?);
            }
        }
        Ok(found)
    }

    /// Removes posts whose time was before a moment, and what they came to, a bounded number. What still waits stays, unless
    /// its run is gone. Returns how many.
    pub async fn remove_posts(&self, before: Timestamp, most: u32) -> Result<u64, Error> {
        const OLD: &str = "SELECT id FROM posts WHERE due_at < $1 AND COALESCE(published_at, due_at) < $1 AND \
                           (state NOT IN ('scheduled', 'publishing') OR NOT EXISTS \
                           (SELECT 1 FROM runs WHERE runs.id = posts.run_id)) ORDER BY due_at LIMIT $2";
        let rows = self.fetch(OLD, args![before.micros(), i64::from(most)]).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let ids: Vec<&str> = rows.iter().map(|row| row.text(0)).collect::<Result<_, _>>()?;
        let (list, args) = places(ids.iter().copied());
        let mut batch = Batch::default();
        batch.push(format!("DELETE FROM post_metrics WHERE post IN ({list})"), args.clone());
        batch.push(format!("DELETE FROM posts WHERE id IN ({list})"), args);
        batch.vary();
        self.apply(batch).await?.map_err(|error| self.place().error(error))?;
        Ok(rows.len() as u64)
    }

    fn measurement(&self, row: &Row) -> Result<Measurement, Error> {
        let post = row.text(0)?.to_owned();
        let figure = |column| row.optional_int(column);
        Ok(Measurement {
            at: Timestamp(row.int(1)?),
            age: Duration::from_micros(row.int(2)?.unsigned_abs()),
            metrics: Metrics {
                impressions: figure(3)?,
                reach: figure(4)?,
                likes: figure(5)?,
                comments: figure(6)?,
                shares: figure(7)?,
                clicks: figure(8)?,
                saves: figure(9)?,
                video_views: figure(10)?,
            },
            raw: self.codec().decode(row.text(11)?, &format!("a measurement of post {post}"))?,
            post,
        })
    }

    fn post_record(&self, row: &Row) -> Result<PostRecord, Error> {
        let id = row.text(0)?.to_owned();
        let what = format!("post {id}");
        let damaged = |reason: String| Error::Damaged { what: what.clone(), reason };
        let list = |column: usize| -> Result<Vec<String>, Error> {
            serde_json::from_str(row.text(column)?).map_err(|error| damaged(error.to_string()))
        };
        let text = |column: usize| row.optional_text(column).map(|text| text.map(str::to_owned));
        let state = row.text(9)?;
        Ok(PostRecord {
            run: row.parsed(1)?,
            path: row.parsed(2)?,
            pipeline: row.text(3)?.to_owned(),
            connection: row.text(4)?.to_owned(),
            connector: text(5)?,
            post: self.codec().decode(row.text(6)?, &what)?,
            labels: serde_json::from_str(row.text(7)?).map_err(|error| damaged(error.to_string()))?,
            generations: list(8)?,
            state: PostState::by_name(state).ok_or_else(|| damaged(format!("unknown state `{state}`")))?,
            made_at: Timestamp(row.int(10)?),
            due_at: Timestamp(row.int(11)?),
            published_at: row.optional_int(12)?.map(Timestamp),
            remote_id: text(13)?,
            ids: list(14)?,
            url: text(15)?,
            error: text(16)?,
            ask: row.optional_text(17)?.map(|ask| AskId(ask.into())),
            revision: row.int(18)?,
            run_state: row.optional_text(19)?.and_then(RunState::by_name),
            id,
        })
    }
}
