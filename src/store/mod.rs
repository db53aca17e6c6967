//! Everything that is kept outside the process: versions, runs, journal, effects, logs, cache, datasets, blobs.
//!
//! The only room that knows SQL. `Store` is cheap to clone; a run's journal is written by its `JournalWriter`.

mod accounting;
mod approvals;
mod attempts;
mod blobs;
mod budgets;
mod cache;
mod children;
mod claims;
mod connect;
mod datasets;
mod db;
mod deadlock;
mod effects;
mod encode;
mod enqueue;
mod error;
pub mod external;
mod firings;
mod garbage;
mod generations;
mod inbox;
mod journal;
mod keep;
mod lease;
mod lessons;
mod logs;
mod migrate;
mod notices;
mod permits;
mod posts;
mod project;
mod queue;
mod runs;
mod schedules;
mod spending;
mod tokens;
mod upkeep;
mod vault;
mod workers;
mod world;
mod writer;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use self::accounting::Accounting;
pub use self::approvals::ApprovalFilter;
pub use self::approvals::ApprovalRecord;
pub use self::approvals::ApprovalState;
pub use self::approvals::Lapsed;
pub use self::approvals::Vote;
pub use self::budgets::BudgetRow;
pub use self::children::CHILD_ENDED;
pub use self::claims::Claimed;
pub use self::datasets::DatasetRecord;
use self::db::Arg;
use self::db::Batch;
use self::db::Db;
use self::db::Row;
pub use self::deadlock::GIVE_WAY;
pub use self::effects::EffectFilter;
pub use self::effects::EffectRecord;
pub use self::effects::EffectState;
pub use self::effects::Rivals;
use self::encode::Codec;
pub use self::enqueue::NewRun;
pub use self::enqueue::turn_of;
pub use self::error::Cause;
pub use self::error::Error;
use self::error::Place;
pub use self::error::SealError;
pub use self::firings::Ends;
pub use self::firings::FileRow;
pub use self::firings::NewFiring;
pub use self::garbage::Garbage;
pub use self::generations::Collection;
pub use self::generations::GenerationFilter;
pub use self::generations::GenerationRecord;
pub use self::generations::Indexed;
pub use self::generations::Posting;
pub use self::generations::generation_id;
pub use self::inbox::CHILD_TOLD;
pub use self::inbox::Signal;
pub use self::keep::Belonging;
pub use self::keep::Ended;
pub use self::lease::Fence;
pub use self::lease::Lease;
pub use self::lessons::Direction;
pub use self::lessons::Labels;
pub use self::lessons::LessonChanges;
pub use self::lessons::LessonFilter;
pub use self::lessons::LessonRecord;
pub use self::logs::LogLine;
pub use self::logs::WireLine;
use self::notices::Notices;
pub use self::permits::CANCEL;
pub use self::permits::PERMITTED;
pub use self::permits::Permit;
pub use self::permits::Request;
pub use self::permits::Waiting;
pub use self::permits::WhenFull;
pub use self::permits::describe;
pub use self::posts::Fate;
pub use self::posts::Measurement;
pub use self::posts::Metrics;
pub use self::posts::PostFilter;
pub use self::posts::PostRecord;
pub use self::posts::PostState;
pub use self::posts::post_id;
pub use self::queue::JournalWriter;
use self::queue::QueueHandle;
pub use self::queue::Record;
pub use self::runs::Gate;
pub use self::runs::RunFilter;
pub use self::runs::RunRecord;
pub use self::runs::VersionRecord;
pub use self::schedules::Progress;
pub use self::schedules::ScheduleRow;
pub use self::spending::NewSpending;
pub use self::spending::Overspent;
pub use self::spending::Reservation;
pub use self::spending::Settlement;
pub use self::spending::SpendingFilter;
pub use self::spending::SpendingLimits;
pub use self::spending::SpendingRecord;
pub use self::spending::SpendingScope;
pub use self::spending::SpendingState;
pub use self::spending::SpendingStep;
pub use self::tokens::TokenRow;
pub use self::tokens::TokenState;
pub use self::upkeep::Size;
pub use self::upkeep::Tended;
pub use self::workers::Presence;
pub use self::workers::SILENT;
pub use self::workers::WorkerRow;
use crate::model::Duration;
use crate::model::Value;
use crate::system::outside;

/// What weighs less is encoded at once, what weighs more on another thread.
const INLINE: usize = 48 * 1024;

/// The store of a project. Clones share one set of connections and one writer.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    queue: Arc<QueueHandle>,
    accounting: Arc<Accounting>,
    notices: Notices,
    writer: std::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
    /// When it was looked last whose time has come: microseconds since 1970.
    woken: std::sync::atomic::AtomicI64,
}

/// What the writer's task shares with the store.
#[derive(Debug)]
struct Shared {
    db: Db,
    place: Place,
    codec: Codec,
}

/// How a store is opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Seals secrets that have to be stored. Without one, storing a secret is an error.
    pub sealer: Option<Arc<dyn Sealer>>,
    /// Changes nothing, not even the schema; for listings on a read-only folder. Without a sealer, sealed values read
    /// as `***`.
    pub read_only: bool,
    /// The folder for blobs. An SQLite store has one beside its file by default; a PostgreSQL store has none, and keeps
    /// large values in their rows then.
    pub blobs: Option<PathBuf>,
    /// How long to wait for another process that writes; ten seconds by default.
    pub lock_timeout: Option<Duration>,
}

/// Seals secrets that have to be stored; `secrets::MasterKey` is one.
pub trait Sealer: Send + Sync + Debug {
    /// Returns a text that only `unseal` can read.
    fn seal(&self, open: &str) -> Result<String, SealError>;
    /// Returns what `seal` was given.
    fn unseal(&self, sealed: &str) -> Result<String, SealError>;
}

impl Store {
    /// Returns what seals secrets, if anything does.
    #[must_use]
    pub fn sealer(&self) -> Option<Arc<dyn Sealer>> {
        self.codec().sealer.clone()
    }

    /// Opens a store: `sqlite://path` (made with its folder where it is missing), `sqlite::memory:` or `postgres://…`.
    ///
    /// Must be called on a tokio runtime: the writer is a task of it.
    pub async fn open(url: &str, options: OpenOptions) -> Result<Self, Error> {
        let opened = outside(connect::open(url, &options)).await?;
        let codec = Codec { blobs: opened.blobs, sealer: options.sealer, read_only: options.read_only };
        let shared = Arc::new(Shared { db: opened.db, place: opened.place, codec });
        let (queue, task) = writer::start(shared.clone());
        let notices = notices::start(&shared);
        let accounting = Arc::new(Accounting::new(shared.clone()));
        Ok(Self(Arc::new(Inner {
            shared,
            queue,
            accounting,
            notices,
            writer: std::sync::Mutex::new(Some(task)),
            woken: Default::default(),
        })))
    }

    /// Writes everything that was appended and closes the connections. Later calls fail with `Error::Closed`.
    pub async fn close(&self) -> Result<(), Error> {
        self.0.accounting.flush().await;
        self.0.queue.close();
        let task = self.0.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(task) = task {
            // The task ends by itself; a panic in it has been reported to all that waited.
            let _ = task.await;
        }
        self.announced().await;
        let closed = self.0.shared.db.close().await;
        closed.map_err(|error| self.0.shared.place.error(error))
    }

    /// Tells whether the database works on nothing for this process, as far as that is known: whoever simulates time moves
    /// the clock only then. Records that wait for company are not waited for by anybody.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let free = match &self.0.shared.db {
            Db::Sqlite(sqlite) => sqlite.write.try_lock().is_ok(),
            Db::Postgres(_) => true,
        };
        free && self.0.queue.0.is_idle() && self.0.accounting.is_idle()
    }

    fn codec(&self) -> &Codec {
        &self.0.shared.codec
    }

    async fn fetch(&self, sql: impl Into<String>, args: Vec<Arg>) -> Result<Vec<Row>, Error> {
        self.0.shared.db.fetch(sql, args).await.map_err(|error| self.0.shared.place.error(error))
    }

    async fn fetch_varied(&self, sql: String) -> Result<Vec<Row>, Error> {
        self.0.shared.db.fetch_varied(sql).await.map_err(|error| self.0.shared.place.error(error))
    }

    async fn fetch_write(&self, sql: impl Into<String>, args: Vec<Arg>) -> Result<Vec<Row>, Error> {
        self.0.shared.db.fetch_write(sql, args).await.map_err(|error| self.0.shared.place.error(error))
    }

    async fn execute(&self, sql: impl Into<String>, args: Vec<Arg>) -> Result<u64, Error> {
        self.0.shared.db.execute(sql, args).await.map_err(|error| self.0.shared.place.error(error))
    }

    /// Executes a transaction to its end, even if the caller is canceled meanwhile: half a transaction would stay open.
    async fn apply(&self, batch: Batch) -> Result<Result<(), sqlx::Error>, Error> {
        let shared = self.0.shared.clone();
        tokio::spawn(async move { shared.db.apply(batch).await }).await.map_err(|_| Error::Closed)
    }

    /// Encodes a value; a large one on another thread, because it becomes a file.
    async fn encode(&self, value: &Value) -> Result<String, Error> {
        if queue::weight(value) < INLINE {
            return self.codec().encode(value);
        }
        let (shared, value) = (self.0.shared.clone(), value.clone());
        let encode = tokio::task::spawn_blocking(move || shared.codec.encode(&value));
        outside(encode).await.map_err(|_| Error::Closed)?
    }

    fn is_postgres(&self) -> bool {
        matches!(self.0.shared.db, Db::Postgres(_))
    }

    fn place(&self) -> &Place {
        &self.0.shared.place
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Executor;

    use super::*;
    use crate::model::RunEvent;
    use crate::model::RunId;
    use crate::model::Timestamp;
    use crate::model::VersionId;

    #[tokio::test]
    async fn a_full_disk_is_told_and_loses_nothing_that_was_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("state.db").display());
        let store = Store::open(&url, OpenOptions::default()).await.unwrap();
        let Db::Sqlite(sqlite) = &store.0.shared.db else { panic!("an SQLite store") };
        // What a full disk looks like from within.
        let limit = "PRAGMA max_page_count = 160";
        sqlite.write.lock().await.as_mut().unwrap().execute(limit).await.unwrap();
        let id = RunId::new(1, 1);
        let run = NewRun {
            id,
            pipeline: "demo".into(),
            version: VersionId("v".into()),
            inputs: Value::Null,
            slot: None,
            priority: 5,
            parent: None,
            spread: false,
            started_by: None,
            requests: Vec::new(),
            created_at: Timestamp(0),
        };
        store.create_run(&run).await.unwrap();
        let fence = store.claim(id, "w").await.unwrap().unwrap();
        let writer = store.writer(id, fence, 1, []);
        let mut acknowledged = 0;
        let error = loop {
            let reason = "x".repeat(10_000).into();
            let event = RunEvent::Skipped { path: "a".parse().unwrap(), at: Timestamp(0), reason };
            writer.append([Record::Event(event)]);
            match writer.commit().await {
                Ok(()) => acknowledged += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Full { .. }), "{error:?}");
        assert!(acknowledged > 5);
        assert!(matches!(writer.commit().await, Err(Error::Full { .. })));
        drop(store);
        let store = Store::open(&url, OpenOptions::default()).await.unwrap();
        assert_eq!(store.journal(id).await.unwrap().len(), acknowledged);
    }
}
