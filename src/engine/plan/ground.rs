//! What a plan stands on: a store in memory, a network that takes reads only.

use std::sync::Arc;

use async_trait::async_trait;

use crate::engine::Error;
use crate::engine::Parts;
use crate::http::Request;
use crate::http::Response;
use crate::http::Transport;
use crate::http::TransportError;
use crate::memory::Memory;
use crate::model::Blob;
use crate::model::RunId;
use crate::model::Value;
use crate::node::Keep;
use crate::node::NodeError;
use crate::pipeline::Pipeline;
use crate::store::Fence;
use crate::store::NewRun;
use crate::store::OpenOptions;
use crate::store::Store;

/// The methods that change nothing by themselves (RFC 9110, 9.2.1).
const SAFE: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

/// Lets requests through that change nothing: of a safe method, or of an operation that says so.
#[derive(Debug)]
struct ReadsOnly(Arc<dyn Transport>);

#[async_trait]
impl Transport for ReadsOnly {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        if request.reads || SAFE.contains(&request.method.as_str()) {
            return self.0.send(request).await;
        }
        let reason = format!("a plan sends nothing that could change something, and this is a {}", request.method);
        let host = crate::http::Origin::of(&request.url).map_or_else(String::new, |origin| origin.host);
        Err(TransportError::NotAllowed { host, reason })
    }
}

/// Reads what the project's store has, and keeps new files in memory.
#[derive(Debug)]
struct Kept {
    store: Store,
    scratch: Store,
}

#[async_trait]
impl Keep for Kept {
    async fn read_blob(&self, blob: &Blob) -> Result<Vec<u8>, NodeError> {
        match Keep::read_blob(&self.scratch, blob).await {
            Ok(bytes) => Ok(bytes),
            Err(_) => Keep::read_blob(&self.store, blob).await,
        }
    }

    async fn put_blob(
        &self,
        bytes: Vec<u8>,
        media_type: Option<&str>,
        file_name: Option<&str>,
    ) -> Result<Blob, NodeError> {
        Keep::put_blob(&self.scratch, bytes, media_type, file_name).await
    }

    async fn stream(&self, key: &str) -> Result<Option<Value>, NodeError> {
        Keep::stream(&self.store, key).await
    }
}

/// What the steps of a plan work with.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    /// As a run's, but over the store in memory and the guarded network.
    pub(super) parts: Arc<Parts>,
    /// The project's store, which is only read.
    pub(super) store: Store,
    pub(super) keep: Arc<dyn Keep>,
    pub(super) fence: Fence,
}

impl Ground {
    pub(super) async fn new(parts: &Parts, pipeline: &Pipeline, run: RunId) -> Result<Self, Error> {
        let scratch =
            Store::open("sqlite::memory:", OpenOptions { sealer: parts.store.sealer(), ..OpenOptions::default() });
        let scratch = scratch.await?;
        // Datasets belong to a run.
        let row = NewRun {
            id: run,
            pipeline: pipeline.name.clone(),
            version: pipeline.version.clone(),
            inputs: Value::Null,
            slot: None,
            priority: 0,
            parent: None,
            spread: false,
            started_by: None,
            requests: Vec::new(),
            created_at: parts.system.clock.now(),
        };
        let fence = scratch.create_held(&row, &parts.owner).await?.unwrap_or(Fence(1));
        let keep: Arc<dyn Keep> = Arc::new(Kept { store: parts.store.clone(), scratch: scratch.clone() });
        // What is remembered is looked at where it is, and nothing is added.
        let services = parts.services.clone().with(Arc::new(Memory::looking(parts.store.clone())));
        let http = Arc::new(ReadsOnly(parts.http.clone()));
        let planning = Parts { store: scratch, http, services, ..parts.clone() };
        Ok(Self { parts: Arc::new(planning), store: parts.store.clone(), keep, fence })
    }
}
