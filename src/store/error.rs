//! Why the store could not do something, in kinds that callers match.

use std::path::PathBuf;
use std::sync::Arc;

use crate::model::RunId;

/// Why the store could not do something. Cheap to clone: one failed commit answers all that waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("`{url}` is not a store: expected `sqlite://path`, `sqlite::memory:` or `postgres://…`")]
    Url { url: String },
    #[error("cannot open the store `{place}`")]
    Open { place: String, source: Cause },
    #[error("cannot create the folder `{path}`")]
    Folder { path: PathBuf, source: Cause },
    #[error("the store `{place}` cannot be written: it or its folder is read-only")]
    ReadOnly { place: String },
    #[error("`{place}` is damaged or not a database")]
    Corrupt { place: String, source: Cause },
    #[error("`{place}` is a database, but not a store of Pipewright")]
    Foreign { place: String },
    #[error("the store `{place}` has schema {found}, this program knows up to {known}: use a newer Pipewright")]
    Newer { place: String, found: i64, known: i64 },
    #[error("migration {number} of the store `{place}` is not the one that this program brings")]
    Altered { place: String, number: i64 },
    #[error("the store `{place}` is locked by another program")]
    Locked { place: String },
    #[error("the disk of the store `{place}` is full")]
    Full { place: String },
    /// What the file system says of a full disk, of a quota, and of a disk that fails, cannot be told apart.
    #[error("the store `{place}` cannot be written: the disk is full, or a quota is reached, or the disk fails")]
    Unwritable { place: String, source: Cause },
    #[error("the store `{place}` cannot be reached")]
    Unavailable { place: String, source: Cause },
    /// Another worker took the run over: this one must stop at once and change nothing more.
    #[error("run {run} was taken over by another worker")]
    LeaseLost { run: RunId },
    /// The journal does not continue where the writer thinks it does.
    #[error("event {seq} of run {run} does not follow the journal")]
    Gap { run: RunId, seq: u64 },
    #[error("a secret would have to be stored, but the store has no master key")]
    NoMasterKey,
    #[error("cannot seal or open a secret: {0}")]
    Seal(SealError),
    #[error("stored data of {what} is damaged: {reason}")]
    Damaged { what: String, reason: String },
    #[error("the blob `{address}` is not in the store")]
    NoBlob { address: String },
    #[error("a PostgreSQL store needs a folder for blobs")]
    NoBlobFolder,
    #[error("cannot {verb} the blob file `{path}`")]
    BlobFile { verb: &'static str, path: PathBuf, source: Cause },
    #[error("the store is closed")]
    Closed,
    #[error("the store refused a statement")]
    Sql { source: Cause },
}

/// The error below, shared.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct Cause(Arc<dyn std::error::Error + Send + Sync>);

/// Why a secret could not be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("it was sealed with another master key (key id {found}, this one is {own})")]
    WrongKey { found: String, own: String },
    #[error("the sealed text is damaged")]
    Damaged,
    #[error("{0}")]
    Kms(String),
}

impl Cause {
    pub(crate) fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }
}

/// Where a store is, for messages; never with a password.
#[derive(Clone, Debug)]
pub(super) struct Place(Arc<str>);

impl Place {
    pub(super) fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// Says what a driver's error means.
    pub(super) fn error(&self, error: sqlx::Error) -> Error {
        self.shared_error(&Arc::new(error))
    }

    /// Says what a driver's error means that several are told of.
    pub(super) fn shared_error(&self, error: &Arc<sqlx::Error>) -> Error {
        let place = self.0.to_string();
        let cause = || Cause(error.clone());
        let Some(database) = error.as_database_error() else {
            return match &**error {
                sqlx::Error::PoolClosed => Error::Closed,
                sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
                    Error::Damaged { what: place, reason: error.to_string() }
                }
                _ => Error::Unavailable { place, source: cause() },
            };
        };
        let code = database.code().unwrap_or_default().into_owned();
        if database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
            return match code.as_str() {
                "53100" => Error::Full { place },
                "25006" => Error::ReadOnly { place },
                "55P03" | "40P01" | "40001" => Error::Locked { place },
                "3D000" => Error::Open { place, source: cause() },
                "XX001" | "XX002" => Error::Corrupt { place, source: cause() },
                code if code.starts_with("28") => Error::Open { place, source: cause() },
                code if code.starts_with("08") || code.starts_with("57P") || code.starts_with("53") => {
                    Error::Unavailable { place, source: cause() }
                }
                _ => Error::Sql { source: cause() },
            };
        }
        // The low byte of an extended result code of SQLite is the primary one.
        let code = code.parse::<i32>().unwrap_or(0);
        // Of input and output the second byte says what was tried: write, sync, cut off, map the index of the log.
        if code & 0xff == 10 && matches!(code >> 8, 3..=6 | 19) {
            return Error::Unwritable { place, source: cause() };
        }
        match code & 0xff {
            5 | 6 => Error::Locked { place },
            8 => Error::ReadOnly { place },
            11 | 26 => Error::Corrupt { place, source: cause() },
            13 => Error::Full { place },
            10 => Error::Unavailable { place, source: cause() },
            3 | 14 => Error::Open { place, source: cause() },
            _ => Error::Sql { source: cause() },
        }
    }

    /// Says what a driver's error means while the store is being opened.
    pub(super) fn opening(&self, error: sqlx::Error) -> Error {
        match self.error(error) {
            Error::Unavailable { place, source } => Error::Open { place, source },
            other => other,
        }
    }
}
