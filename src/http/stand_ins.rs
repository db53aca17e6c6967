//! Transports for tests: one answers from a list, one goes wrong on purpose.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use async_trait::async_trait;

use super::Request;
use super::Response;
use super::Transport;
use super::TransportError;

/// Answers from a recording, in its order, and keeps what was asked.
#[derive(Clone, Debug, Default)]
pub struct RecordedTransport(Arc<Mutex<Recording>>);

#[derive(Debug, Default)]
struct Recording {
    answers: std::collections::VecDeque<Response>,
    requests: Vec<Request>,
}

/// Goes wrong on chosen calls, counted from 1; the others go through.
#[derive(Clone, Debug)]
pub struct FaultyTransport {
    inner: Arc<dyn Transport>,
    faults: Arc<BTreeMap<usize, Fault>>,
    calls: Arc<Mutex<usize>>,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection comes about: the request does not arrive.
    NotSent,
    /// The request arrives, and the answer is lost in a time-out.
    TimeoutAfterSending,
    /// The request arrives, and the connection breaks before its answer.
    Cut,
    /// The request does not arrive; somebody in between answers with this status.
    Status(u16),
    /// The request arrives and works; the answer is this status all the same.
    StatusAfterSending(u16),
}

impl RecordedTransport {
    #[must_use]
    pub fn new(answers: impl IntoIterator<Item = Response>) -> Self {
        Self(Arc::new(Mutex::new(Recording { answers: answers.into_iter().collect(), requests: Vec::new() })))
    }

    /// Returns what was asked so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.0).requests.clone()
    }
}

impl FaultyTransport {
    #[must_use]
    pub fn new(inner: Arc<dyn Transport>, faults: impl IntoIterator<Item = (usize, Fault)>) -> Self {
        Self { inner, faults: Arc::new(faults.into_iter().collect()), calls: Arc::default() }
    }

    /// Returns how many calls there were.
    #[must_use]
    pub fn calls(&self) -> usize {
        *lock(&self.calls)
    }
}

#[async_trait]
impl Transport for RecordedTransport {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let mut recording = lock(&self.0);
        recording.requests.push(request);
        recording.answers.pop_front().ok_or_else(|| TransportError::NotSent {
            host: "recording".to_owned(),
            reason: "the recording has no further answer".to_owned(),
        })
    }
}

#[async_trait]
impl Transport for FaultyTransport {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let call = {
            let mut calls = lock(&self.calls);
            *calls += 1;
            *calls
        };
        let host = || "faulty".to_owned();
        match self.faults.get(&call) {
            None => self.inner.send(request).await,
            Some(Fault::NotSent) => {
                Err(TransportError::NotSent { host: host(), reason: "connection refused".to_owned() })
            }
            Some(Fault::Status(status)) => Ok(empty(*status)),
            Some(Fault::TimeoutAfterSending) => {
                let after = request.timeout;
                self.inner.send(request).await?;
                Err(TransportError::Timeout { host: host(), after })
            }
            Some(Fault::Cut) => {
                self.inner.send(request).await?;
                Err(TransportError::Broken { host: host(), reason: "connection reset".to_owned() })
            }
            Some(Fault::StatusAfterSending(status)) => {
                self.inner.send(request).await?;
                Ok(empty(*status))
            }
        }
    }
}

fn empty(status: u16) -> Response {
    Response { status, headers: Vec::new(), body: Vec::new() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
