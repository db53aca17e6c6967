//! One attempt of a node: bounded in time, cancelable, and unable to take the process down.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::Parts;
use super::finish::JournalLog;
use super::perform::Doing;
use super::sink::DatasetSink;
use super::tape::Call;
use crate::model::Blob;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::EffectContext;
use crate::node::Keep;
use crate::node::LogLevel;
use crate::node::LogSink;
use crate::node::NodeError;
use crate::node::Outcome;
use crate::node::Prediction;
use crate::node::Reconciled;
use crate::node::RowSink;
use crate::node::RowSource;
use crate::node::StepContext;
use crate::node::WireRecord;
use crate::store::Fence;
use crate::store::Store;
use crate::system::Clock;
use crate::template::Scope;

/// All that an attempt needs, owned, so that it can run anywhere.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) parts: Arc<Parts>,
    pub(super) run: RunId,
    pub(super) path: StepPath,
    pub(super) number: u32,
    /// The number of the journal's event with which it began, of paid reads.
    pub(super) begun: Option<u64>,
    pub(super) doing: Doing,
    pub(super) declared: Effect,
    pub(super) input: Value,
    pub(super) scope: Scope,
    pub(super) effect: Option<EffectContext>,
    /// With what right a write that is sent again claims the object that the answer names; nothing where it may not.
    pub(super) fence: Option<Fence>,
    pub(super) deadline: Option<Timestamp>,
    pub(super) canceled: CancellationToken,
    pub(super) log: Log,
    /// Where the rows of a step go that says `into`.
    pub(super) into: Option<DatasetSink>,
    /// Where files and the places of streams are kept; by default in the store.
    pub(super) keep: Option<Arc<dyn Keep>>,
}

/// Where the log lines of an attempt go.
#[derive(Clone, Debug)]
pub(super) enum Log {
    Journal(JournalLog),
    /// A plan keeps none.
    Quiet,
}

impl LogSink for Log {
    fn log(&self, level: LogLevel, message: &str) {
        if let Self::Journal(journal) = self {
            journal.log(level, message);
        }
    }

    fn wire(&self, record: WireRecord) {
        if let Self::Journal(journal) = self {
            journal.wire(record);
        }
    }
}

/// What an attempt came to.
pub(super) type AttemptResult = Result<Outcome, NodeError>;

type AttemptFuture = Pin<Box<dyn Future<Output = AttemptResult> + Send>>;

impl Attempt {
    /// Runs it to its end.
    pub(super) async fn run(self) -> AttemptResult {
        let (clock, deadline, declared) = (self.parts.system.clock.clone(), self.deadline, self.declared);
        let canceled = self.canceled.clone();
        let work = guarded(self.future());
        let Some(deadline) = deadline else {
            return tokio::select! {
                result = work => result,
                () = interrupted(&canceled, declared) => Err(canceled_error()),
            };
        };
        tokio::select! {
            result = work => result,
            () = clock.sleep_until(deadline) => Err(timeout_error(declared)),
            () = interrupted(&canceled, declared) => Err(canceled_error()),
        }
    }

    /// Runs it here and now as far as it goes without waiting: pure nodes end at once and cost no task.
    pub(super) fn run_inline(self) -> Result<AttemptResult, AttemptFuture> {
        let mut future = self.future();
        let mut context = Context::from_waker(Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context))) {
            Ok(Poll::Ready(result)) => Ok(result),
            Ok(Poll::Pending) => Err(future),
            Err(panic) => Ok(Err(panic_error(&*panic))),
        }
    }

    /// Says what a plan may say of it.
    pub(super) async fn predict(self) -> Result<Prediction, NodeError> {
        let work = async move {
            let attempt = self;
            attempt.doing.node().predict(attempt.input.clone(), &attempt.context()).await
        };
        guarded(Box::pin(work)).await
    }

    /// Asks the remote whether the write happened.
    pub(super) async fn reconcile(self) -> Result<Reconciled, NodeError> {
        let clock = self.parts.system.clock.clone();
        let deadline = self.deadline;
        let work = async move {
            let attempt = self;
            let asked = async { attempt.doing.node().reconcile(attempt.input.clone(), &attempt.context()).await };
            attempt.parts.tape.reconciled(|| attempt.call(true), asked).await
        };
        let work = guarded(Box::pin(work));
        match deadline {
            None => work.await,
            Some(deadline) => tokio::select! {
                result = work => result,
                () = clock.sleep_until(deadline) => Err(timeout_error(Effect::Read)),
            },
        }
    }

    fn future(self) -> AttemptFuture {
        Box::pin(async move {
            let attempt = self;
            // What has no effect needs nobody to remember it, and a child run has calls of its own.
            if attempt.declared == Effect::Pure || attempt.doing.is_child() {
                return attempt.outcome().await;
            }
            attempt.parts.tape.outcome(|| attempt.call(false), attempt.outcome()).await
        })
    }

    async fn outcome(&self) -> AttemptResult {
        let (node, ctx) = (self.doing.node(), self.context());
        let outcome = match self.parts.probe.instead(node.name(), &self.input, &ctx).await {
            Some(outcome) => outcome?,
            None => node.run(self.input.clone(), &ctx).await?,
        };
        let outcome = match outcome {
            Outcome::Created { output, remote_id } => self.claimed(output, remote_id).await?,
            outcome => outcome,
        };
        // Rows that were handed over page by page are the step's output, and their stream stands with them.
        match (outcome, self.into.as_ref().and_then(DatasetSink::handle)) {
            (Outcome::Done(_) | Outcome::Read { .. }, Some(handle)) => Ok(Outcome::Done(handle)),
            (outcome, _) => Ok(outcome),
        }
    }

    /// A second sending may be answered by the object of an earlier one. That was this effect's, unless another one owns
    /// it: a remote that refuses what it has already cannot tell whose it is.
    async fn claimed(&self, output: Value, remote_id: String) -> AttemptResult {
        let (Some(effect), Some(fence), Log::Journal(log)) = (&self.effect, self.fence, &self.log) else {
            return Ok(Outcome::Created { output, remote_id });
        };
        if !effect.doubted {
            return Ok(Outcome::Created { output, remote_id });
        }
        let claim = async {
            // What other effects of the run were answered is known first.
            log.journal.commit().await?;
            let store = &self.parts.store;
            let scope = self.doing.node().name();
            let is_ours = store.claim_remote(self.run, fence, &effect.id, scope, &remote_id).await?;
            Ok::<_, crate::store::Error>(if is_ours { None } else { store.remote_owner(scope, &remote_id).await? })
        };
        match claim.await {
            Ok(None) => Ok(Outcome::Created { output, remote_id }),
            Ok(Some(owner)) => {
                let message =
                    format!("what the answer names was made by another effect, `{}`: this is its duplicate", owner.0);
                Err(NodeError::message(ErrorClass::Conflict, message))
            }
            Err(error) => Err(NodeError::new(ErrorClass::Unavailable, error).perhaps()),
        }
    }

    fn call(&self, question: bool) -> Call {
        Call {
            run: self.run,
            path: self.path.clone(),
            attempt: self.number,
            question,
            node: self.doing.node().name().into(),
            effect: self.doing.effect(),
            input: self.input.clone(),
            evaluated: self.scope.now,
        }
    }

    fn context(&self) -> StepContext<'_> {
        StepContext {
            run: self.run,
            path: &self.path,
            attempt: self.number,
            begun: self.begun,
            declared: self.declared,
            system: &self.parts.system,
            http: &*self.parts.http,
            access: &self.parts.access,
            effect: self.effect.as_ref(),
            deadline: self.deadline,
            canceled: &self.canceled,
            expressions: self.doing.expressions(),
            scope: &self.scope,
            calls: self.doing.calls(),
            log: &self.log,
            rows: &self.parts.store,
            into: self.into.as_ref().map(|into| into as &dyn RowSink),
            keep: self.keep.as_deref().unwrap_or(&self.parts.store),
            services: &self.parts.services,
        }
    }
}

#[async_trait]
impl RowSource for Store {
    async fn rows(&self, dataset: &str, from: u64, limit: u64) -> Result<Vec<Value>, NodeError> {
        let rows = Self::rows(self, dataset, from, limit).await;
        rows.map_err(|error| NodeError::new(ErrorClass::Unavailable, error))
    }
}

#[async_trait]
impl Keep for Store {
    async fn read_blob(&self, blob: &Blob) -> Result<Vec<u8>, NodeError> {
        Self::read_blob(self, blob).await.map_err(|error| NodeError::new(ErrorClass::Unavailable, error))
    }

    async fn put_blob(
        &self,
        bytes: Vec<u8>,
        media_type: Option<&str>,
        file_name: Option<&str>,
    ) -> Result<Blob, NodeError> {
        let put = Self::put_blob(self, bytes, media_type, file_name).await;
        put.map_err(|error| NodeError::new(ErrorClass::Unavailable, error))
    }

    async fn stream(&self, key: &str) -> Result<Option<Value>, NodeError> {
        Self::stream(self, key).await.map_err(|error| NodeError::new(ErrorClass::Unavailable, error))
    }
}

/// Runs what `run_inline` left.
pub(super) async fn run_rest(
    future: AttemptFuture,
    canceled: CancellationToken,
    clock: Arc<dyn Clock>,
    deadline: Option<Timestamp>,
) -> AttemptResult {
    let late = async {
        match deadline {
            Some(deadline) => clock.sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = guarded(future) => result,
        () = late => Err(timeout_error(Effect::Pure)),
        () = canceled.cancelled() => Err(canceled_error()),
    }
}

/// A write under way is not cut off: that would only put it in doubt. It is told, and may end early by itself.
async fn interrupted(canceled: &CancellationToken, declared: Effect) {
    if declared.is_write() {
        std::future::pending::<()>().await;
    }
    canceled.cancelled().await;
}

/// Turns a panic of the future into an error of class `bug`.
async fn guarded<T>(mut future: Pin<Box<dyn Future<Output = Result<T, NodeError>> + Send>>) -> Result<T, NodeError> {
    std::future::poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll,
        Err(panic) => Poll::Ready(Err(panic_error(&*panic))),
    })
    .await
}

fn panic_error(panic: &(dyn Any + Send)) -> NodeError {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    NodeError::message(ErrorClass::Bug, format!("the node panicked: {text}")).perhaps()
}

fn timeout_error(declared: Effect) -> NodeError {
    let error = NodeError::message(ErrorClass::Timeout, "no result within the time-out");
    if declared.is_write() { error.perhaps() } else { error }
}

fn canceled_error() -> NodeError {
    NodeError::message(ErrorClass::Canceled, "canceled")
}
