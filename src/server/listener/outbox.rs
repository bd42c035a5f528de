//! What the socket, the service and the bodies of one connection tell each other.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use std::sync::Arc;

use super::in_place::Wakes;

/// Something to do once the last byte of an answer is out. Dropped undone, it is a hang-up.
pub struct Receipt(Box<dyn FnOnce() + Send>);

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}

impl Receipt {
    pub fn new(act: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(act))
    }

    fn redeem(self) {
        (self.0)();
    }

    /// For an answer all of whose data has been taken: redeemed when the connection has written
    /// it, or at once where there is no connection (a request within the process).
    pub fn hand_over(self, outbox: Option<&Outbox>) {
        match outbox {
            Some(outbox) => outbox.put(self),
            None => self.redeem(),
        }
    }
}

/// One connection's receipts, and how far it has got.
///
/// hyper flushes the socket only once its own buffer is empty, so whatever was handed over before
/// a flush began is with the system's socket when that flush ends.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<State>,
    pub wakes: Arc<Wakes>,
}

#[derive(Debug, Default)]
struct State {
    receipts: Vec<Receipt>,
    flushes: u64,
    waiting: Vec<Waker>,
    /// Requests that reached the service.
    begun: u64,
    /// Responses whose body is finished with.
    ended: u64,
    /// Of those, the ones that are written out.
    written: u64,
    /// A request's body was dropped before its end: the caller may still be sending.
    unread: bool,
    closed: bool,
}

impl Outbox {
    fn put(&self, receipt: Receipt) {
        let mut state = self.state();
        if !state.closed {
            state.receipts.push(receipt);
        }
    }

    /// The socket has everything that was to be written.
    pub fn flushed(&self) {
        let mut state = self.state();
        state.flushes += 1;
        state.written = state.ended;
        let receipts = mem::take(&mut state.receipts);
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        receipts.into_iter().for_each(Receipt::redeem);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The connection is gone: what is not written never will be.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let receipts = mem::take(&mut state.receipts);
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        drop(receipts);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Flushes so far; to be noted before the data whose flush is to be awaited is given away.
    pub fn flushes(&self) -> u64 {
        self.state().flushes
    }

    /// Ready when a flush has ended since `before` was noted; false where the connection is gone.
    pub fn poll_flushed(&self, context: &Context<'_>, before: u64) -> Poll<bool> {
        let mut state = self.state();
        if state.flushes > before {
            return Poll::Ready(true);
        }
        if state.closed {
            return Poll::Ready(false);
        }
        state.waiting.push(context.waker().clone());
        Poll::Pending
    }

    pub fn begin(&self) {
        self.state().begun += 1;
    }

    fn end(&self) {
        self.state().ended += 1;
    }

    fn leave_unread(&self) {
        self.state().unread = true;
    }

    pub fn is_unread(&self) -> bool {
        self.state().unread
    }

    /// How many requests have begun, and whether one is under way.
    pub fn progress(&self) -> (u64, bool) {
        let state = self.state();
        (state.begun, state.begun > state.written)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body, which is hyper's; watched for being dropped before its end.
#[derive(Debug)]
pub struct Incoming<B> {
    body: B,
    outbox: Arc<Outbox>,
    ended: bool,
}

impl<B: http_body::Body> Incoming<B> {
    pub fn new(body: B, outbox: Arc<Outbox>) -> Self {
        let ended = body.is_end_stream();
        Self {
            body,
            outbox,
            ended,
        }
    }
}

impl<B: http_body::Body + Unpin> http_body::Body for Incoming<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Self { body, outbox, .. } = &mut *self;
        let polled = outbox.wakes.taking(|| Pin::new(body).poll_frame(context));
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.ended = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Incoming<B> {
    fn drop(&mut self) {
        if !self.ended {
            self.outbox.leave_unread();
        }
    }
}

/// A response's body; tells the connection when it is finished with.
#[derive(Debug)]
pub struct Outgoing {
    body: Body,
    outbox: Arc<Outbox>,
}

impl Outgoing {
    pub fn new(body: Body, outbox: Arc<Outbox>) -> Self {
        Self { body, outbox }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.outbox.end();
    }
}

/// A response's body with a receipt: handed over when the body is dropped after all its data has
/// been taken. hyper drops a body of known length right after the last frame, without asking for
/// more, so the drop is the one moment that always comes.
#[derive(Debug)]
pub struct Owed {
    body: Body,
    receipt: Option<Receipt>,
    outbox: Option<Arc<Outbox>>,
    taken: bool,
}

impl Owed {
    pub fn new(body: Body, receipt: Receipt, outbox: Option<Arc<Outbox>>) -> Self {
        let taken = http_body::Body::is_end_stream(&body);
        Self {
            body,
            receipt: Some(receipt),
            outbox,
            taken,
        }
    }
}

impl http_body::Body for Owed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.taken = match &polled {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => self.body.is_end_stream(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(receipt) = self.receipt.take()
            && self.taken
        {
            receipt.hand_over(self.outbox.as_deref());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use http_body_util::BodyExt;

    use super::*;

    fn watched() -> (Arc<AtomicBool>, Receipt) {
        let redeemed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&redeemed);
        (
            redeemed,
            Receipt::new(move || flag.store(true, Ordering::SeqCst)),
        )
    }

    #[tokio::test]
    async fn an_answer_is_delivered_by_the_flush_after_its_last_frame() {
        let outbox = Arc::new(Outbox::default());
        let (redeemed, receipt) = watched();
        let mut body = Owed::new(Body::from("answer"), receipt, Some(Arc::clone(&outbox)));

        body.frame().await;
        outbox.flushed();
        let before = redeemed.load(Ordering::SeqCst);
        drop(body);
        outbox.flushed();

        assert!(!before, "the body was not finished with at the first flush");
        assert!(redeemed.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn an_answer_that_was_not_taken_is_not_delivered() {
        let outbox = Arc::new(Outbox::default());
        let (redeemed, receipt) = watched();

        drop(Owed::new(
            Body::from("answer"),
            receipt,
            Some(Arc::clone(&outbox)),
        ));
        outbox.flushed();

        assert!(!redeemed.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn an_answer_that_was_taken_but_not_written_is_not_delivered() {
        let outbox = Arc::new(Outbox::default());
        let (redeemed, receipt) = watched();
        let mut body = Owed::new(Body::from("answer"), receipt, Some(Arc::clone(&outbox)));

        body.frame().await;
        drop(body);
        outbox.close();
        outbox.flushed();

        assert!(!redeemed.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn without_a_connection_the_end_of_the_body_delivers() {
        let (redeemed, receipt) = watched();

        let _ = Owed::new(Body::from("answer"), receipt, None)
            .collect()
            .await;

        assert!(redeemed.load(Ordering::SeqCst));
    }

    #[test]
    fn a_request_is_under_way_until_its_answer_is_written() {
        let outbox = Arc::new(Outbox::default());

        outbox.begin();
        let body = Outgoing::new(Body::empty(), Arc::clone(&outbox));
        outbox.flushed();
        assert_eq!(outbox.progress(), (1, true));
        drop(body);
        assert_eq!(outbox.progress(), (1, true));
        outbox.flushed();

        assert_eq!(outbox.progress(), (1, false));
    }

    #[test]
    fn a_pipelined_request_is_still_under_way_when_the_first_is_written() {
        let outbox = Arc::new(Outbox::default());

        outbox.begin();
        outbox.end();
        outbox.begin();
        outbox.flushed();

        assert_eq!(outbox.progress(), (2, true));
    }

    #[test]
    fn a_body_dropped_before_its_end_is_unread() {
        let outbox = Arc::new(Outbox::default());

        drop(Incoming::new(Body::empty(), Arc::clone(&outbox)));
        let after_empty = outbox.is_unread();
        drop(Incoming::new(Body::from("more"), Arc::clone(&outbox)));

        assert!(!after_empty);
        assert!(outbox.is_unread());
    }
}
