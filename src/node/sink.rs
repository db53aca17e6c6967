//! Where a read puts rows that are too many for a value, and files.

use async_trait::async_trait;

use super::NodeError;
use crate::model::Blob;
use crate::model::Value;

/// Takes the rows of a step that says `into`: a page lands together with the place behind it, in one transaction.
#[async_trait]
pub trait RowSink: Send + Sync + std::fmt::Debug {
    /// Returns where an earlier attempt of this step run left off: how many rows are there, and the place behind them.
    async fn resume(&self) -> Result<Option<(u64, Value)>, NodeError>;
    /// Forgets all rows: the read begins anew.
    async fn restart(&self) -> Result<(), NodeError>;
    /// Appends a page. `place` is where the read goes on, nothing with the last page; then `stream` is kept too.
    async fn append(
        &self,
        rows: Vec<Value>,
        place: Option<Value>,
        stream: Option<StreamState>,
    ) -> Result<(), NodeError>;
}

/// Where an incremental read stands, from run to run.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamState {
    /// Names the stream: connection, operation and a hash of its input.
    pub key: String,
    pub state: Value,
}

/// Keeps files by handle, and where incremental reads stand.
#[async_trait]
pub trait Keep: Send + Sync + std::fmt::Debug {
    /// Returns the bytes of a file, or of the part that the handle names.
    async fn read_blob(&self, blob: &Blob) -> Result<Vec<u8>, NodeError>;
    async fn put_blob(
        &self,
        bytes: Vec<u8>,
        media_type: Option<&str>,
        file_name: Option<&str>,
    ) -> Result<Blob, NodeError>;
    /// Returns where a stream stands; see `StreamState::key`.
    async fn stream(&self, key: &str) -> Result<Option<Value>, NodeError>;
}
