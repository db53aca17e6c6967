//! Rows that a node hands over page by page, into the dataset of a step that says `into`.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use async_trait::async_trait;

use crate::model::Dataset;
use crate::model::ErrorClass;
use crate::model::RunId;
use crate::model::Value;
use crate::model::parse_json;
use crate::node::NodeError;
use crate::node::RowSink;
use crate::node::StreamState;
use crate::store::Error;
use crate::store::Fence;
use crate::store::Store;

/// The dataset of a step run.
#[derive(Clone, Debug)]
pub(super) struct DatasetSink {
    pub(super) store: Store,
    pub(super) run: RunId,
    pub(super) fence: Fence,
    pub(super) id: String,
    pub(super) name: Arc<str>,
    /// How many rows are there; nothing before the node has used it.
    pub(super) rows: Arc<Mutex<Option<u64>>>,
}

impl DatasetSink {
    fn known(&self) -> Option<u64> {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, rows: u64) {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = Some(rows);
    }

    /// Returns the handle of the rows, if the node has handed any over.
    pub(super) fn handle(&self) -> Option<Value> {
        let rows = self.known()?;
        Some(Value::Dataset(Arc::new(Dataset { name: self.name.to_string(), id: self.id.clone(), rows })))
    }

    async fn make(&self) -> Result<(), Error> {
        self.store.create_dataset(self.run, self.fence, &self.id, &self.name).await
    }
}

#[async_trait]
impl RowSink for DatasetSink {
    async fn resume(&self) -> Result<Option<(u64, Value)>, NodeError> {
        let found = self.store.dataset(&self.id).await.map_err(failed)?;
        match found {
            // Another attempt of this step run got so far.
            Some(record) if !record.complete && record.dataset.rows > 0 => {
                let place = record.cursor.as_deref().and_then(|text| parse_json(text).ok());
                match place.filter(|place| !place.is_null()) {
                    Some(place) => {
                        self.note(record.dataset.rows);
                        Ok(Some((record.dataset.rows, place)))
                    }
                    None => self.restart().await.map(|()| None),
                }
            }
            Some(_) => self.restart().await.map(|()| None),
            None => {
                self.make().await.map_err(failed)?;
                self.note(0);
                Ok(None)
            }
        }
    }

    async fn restart(&self) -> Result<(), NodeError> {
        self.make().await.map_err(failed)?;
        self.store.clear_dataset(self.run, self.fence, &self.id).await.map_err(failed)?;
        self.note(0);
        Ok(())
    }

    async fn append(
        &self,
        rows: Vec<Value>,
        place: Option<Value>,
        stream: Option<StreamState>,
    ) -> Result<(), NodeError> {
        let at = match self.known() {
            Some(at) => at,
            None => {
                self.restart().await?;
                0
            }
        };
        let place = place.map(|place| place.to_string());
        let stream = stream.as_ref().map(|stream| (stream.key.as_str(), &stream.state));
        let added = self.store.append_page(self.run, self.fence, &self.id, at, &rows, place.as_deref(), stream).await;
        self.note(added.map_err(failed)?.rows);
        Ok(())
    }
}

fn failed(error: Error) -> NodeError {
    NodeError::new(ErrorClass::Unavailable, error)
}
