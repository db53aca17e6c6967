//! Bodies that are handed over piece by piece while they are sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use tokio::sync::mpsc;

/// So many pieces may wait to be sent.
const AHEAD: usize = 2;

/// The receiving end of a body whose size is known. Clones are the same body, and it is sent once.
#[derive(Clone, Debug)]
pub struct Streamed {
    pub size: u64,
    pieces: Arc<Mutex<Option<mpsc::Receiver<Bytes>>>>,
}

impl Streamed {
    /// Makes a body, and where its pieces are handed over. One that is given up before its size is reached is not sent to
    /// its end, and no server takes it for whole.
    #[must_use]
    pub fn new(size: u64) -> (mpsc::Sender<Bytes>, Self) {
        let (sender, receiver) = mpsc::channel(AHEAD);
        (sender, Self { size, pieces: Arc::new(Mutex::new(Some(receiver))) })
    }

    /// Takes the body to be sent; nothing when it was sent already.
    pub(super) fn body(&self, touched: Arc<AtomicBool>) -> Option<Pieces> {
        let pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Pieces { pieces, left: self.size, touched })
    }

    /// Takes the body as a whole; nothing when it was taken already, or is given up before its end.
    pub async fn whole(&self) -> Option<Vec<u8>> {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let size = usize::try_from(self.size).ok()?;
        let mut whole = Vec::with_capacity(size);
        while whole.len() < size {
            whole.extend_from_slice(&pieces.recv().await?);
        }
        Some(whole)
    }
}

/// A body on its way, which notes when it is first looked at.
#[derive(Debug)]
pub(super) struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    left: u64,
    touched: Arc<AtomicBool>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.touched.store(true, Ordering::Relaxed);
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(context).map(|piece| {
            let Some(piece) = piece else {
                return Some(Err(io::Error::other("the file could not be read to its end")));
            };
            self.left = self.left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            Some(Ok(Frame::data(piece)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.touched.store(true, Ordering::Relaxed);
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
