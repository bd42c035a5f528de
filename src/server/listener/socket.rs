//! A socket that gives up on callers who are too slow.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::outbox::Outbox;

/// How long a connection may take over what.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// A request's head, from its first byte.
    pub head: Duration,
    /// From one answer to the next request.
    pub idle: Duration,
    /// Writing, without any progress.
    pub write: Duration,
}

/// What is read and thrown away after the last answer, so that a caller who is still sending
/// reads it before it sees a reset.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// The IO of one connection, as hyper sees it.
#[derive(Debug)]
pub struct Socket<T> {
    io: T,
    outbox: Arc<Outbox>,
    deadlines: Arc<Deadlines>,
    /// Requests that had begun when the reading clock was last set.
    begun: u64,
    reading: Clock,
    in_head: bool,
    /// hyper waits for more to read, and so hears when the caller goes.
    listening: bool,
    /// Read although hyper did not ask for it.
    ahead: Vec<u8>,
    writing: Clock,
    lingering: Linger,
}

/// The most that is read ahead.
const AHEAD: usize = 16 * 1024;

#[derive(Debug)]
enum Linger {
    /// The caller may still be told something.
    NotYet,
    /// Nothing more is written; so many bytes may still be thrown away.
    Left(usize),
}

impl<T> Socket<T> {
    pub fn new(io: T, outbox: Arc<Outbox>, deadlines: Arc<Deadlines>) -> Self {
        Self {
            io,
            outbox,
            deadlines,
            begun: 0,
            reading: Clock::default(),
            in_head: false,
            listening: false,
            ahead: Vec::new(),
            writing: Clock::default(),
            lingering: Linger::NotYet,
        }
    }

    /// Sets the reading clock by what came; a request that is under way has no such clock (its
    /// body is timed by whoever reads it).
    fn received(&mut self, bytes: usize) {
        if self.under_way() {
            return;
        }
        if bytes > 0 && !self.in_head {
            self.in_head = true;
            self.reading.set(self.deadlines.head);
        }
    }

    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.under_way() {
            return Poll::Pending;
        }
        if !self.reading.is_set() {
            self.reading.set(self.deadlines.idle);
        }
        self.reading.poll(context)
    }

    fn under_way(&mut self) -> bool {
        let (begun, under_way) = self.outbox.progress();
        if begun != self.begun {
            self.begun = begun;
            self.in_head = false;
            self.reading.stop();
        }
        under_way
    }

    fn written(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(result) => {
                self.writing.stop();
                Poll::Ready(result)
            }
            Poll::Pending => {
                if !self.writing.is_set() {
                    self.writing.set(self.deadlines.write);
                }
                ready!(self.writing.poll(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<T: AsyncRead + Unpin> Socket<T> {
    /// An error if the caller has gone. hyper does not read on while bytes of a next request wait
    /// in its buffer, and would let the one under way run for nobody.
    fn look_ahead(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.listening || !self.under_way() {
            return Ok(());
        }
        let mut space = [0; 1024];
        while self.ahead.len() < AHEAD {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.io).poll_read(context, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Poll::Ready(Ok(())) => self.ahead.extend_from_slice(buffer.filled()),
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Socket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if !self.ahead.is_empty() {
            let taken = self.ahead.len().min(buffer.remaining());
            let taken: Vec<u8> = self.ahead.drain(..taken).collect();
            buffer.put_slice(&taken);
            self.received(taken.len());
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        self.listening = polled.is_pending();
        match polled {
            Poll::Ready(result) => {
                self.received(buffer.filled().len() - before);
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(self.poll_overdue(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(context, bytes);
        self.written(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.written(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(context))?;
        self.outbox.flushed();
        self.look_ahead(context)?;
        // hyper does not ask again for what it was told to wait for while the request was under way.
        match self.poll_overdue(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Linger::NotYet = self.lingering {
            ready!(Pin::new(&mut self.io).poll_shutdown(context))?;
            self.reading.set(LINGER);
            self.lingering = Linger::Left(LINGER_BYTES);
        }
        let mut space = [0; 8192];
        while let Linger::Left(left) = self.lingering {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.io).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && left > 0 => {
                    let left = left.saturating_sub(buffer.filled().len());
                    self.lingering = Linger::Left(left);
                }
                Poll::Ready(_) => break,
                // Only who was in the middle of a request is waited for.
                Poll::Pending if left == LINGER_BYTES && !self.outbox.is_unread() => break,
                Poll::Pending => {
                    ready!(self.reading.poll(context));
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T> Drop for Socket<T> {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

/// A deadline that can be set again; the timer is made when first needed and then kept.
#[derive(Debug, Default)]
struct Clock {
    timer: Option<Pin<Box<Sleep>>>,
    set: bool,
}

impl Clock {
    fn is_set(&self) -> bool {
        self.set
    }

    fn set(&mut self, after: Duration) {
        let deadline = Instant::now() + after;
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(deadline),
            None => self.timer = Some(Box::pin(sleep_until(deadline))),
        }
        self.set = true;
    }

    fn stop(&mut self) {
        self.set = false;
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.timer {
            Some(timer) if self.set => timer.as_mut().poll(context),
            _ => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const DEADLINES: Deadlines = Deadlines {
        head: Duration::from_secs(5),
        idle: Duration::from_secs(75),
        write: Duration::from_secs(30),
    };

    fn connected() -> (DuplexStream, Socket<DuplexStream>, Arc<Outbox>) {
        let (caller, io) = duplex(64);
        let outbox = Arc::new(Outbox::default());
        let socket = Socket::new(io, Arc::clone(&outbox), Arc::new(DEADLINES));
        (caller, socket, outbox)
    }

    /// When reading ends, and how.
    async fn read_out(socket: &mut Socket<DuplexStream>) -> (Duration, io::ErrorKind) {
        let start = Instant::now();
        let mut bytes = Vec::new();
        let error = socket.read_to_end(&mut bytes).await.unwrap_err();
        (start.elapsed(), error.kind())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_byte_is_cut_when_idle_for_too_long() {
        let (_caller, mut socket, _outbox) = connected();

        let (after, kind) = read_out(&mut socket).await;

        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert_eq!(after.as_secs(), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_head_is_cut_counted_from_its_first_byte() {
        let (mut caller, mut socket, _outbox) = connected();

        let trickle = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            for byte in b"GET / HTTP" {
                caller.write_all(&[*byte]).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            std::future::pending::<()>().await;
        };
        let (after, kind) = tokio::select! {
            read = read_out(&mut socket) => read,
            () = trickle => unreachable!(),
        };

        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert_eq!(after.as_secs(), 65);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_is_not_cut_and_the_next_head_is_timed_anew() {
        let (mut caller, mut socket, outbox) = connected();
        caller.write_all(b"one head").await.unwrap();
        let mut head = [0; 8];
        socket.read_exact(&mut head).await.unwrap();

        outbox.begin();
        let waiting = tokio::time::timeout(Duration::from_secs(600), socket.read_u8()).await;
        drop(super::super::outbox::Outgoing::new(
            axum::body::Body::empty(),
            Arc::clone(&outbox),
        ));
        socket.flush().await.unwrap();
        let (after, _) = read_out(&mut socket).await;

        assert!(waiting.is_err(), "the request was still under way");
        assert_eq!(after.as_secs(), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_was_answered_is_not_waited_for_without_end_although_nobody_reads() {
        let (_caller, mut socket, outbox) = connected();
        outbox.begin();
        drop(super::super::outbox::Outgoing::new(
            axum::body::Body::empty(),
            Arc::clone(&outbox),
        ));
        socket.flush().await.unwrap();
        let start = Instant::now();

        let woken =
            std::future::poll_fn(|context| match Pin::new(&mut socket).poll_flush(context) {
                Poll::Ready(Ok(())) => Poll::Pending,
                Poll::Ready(Err(error)) => Poll::Ready(error.kind()),
                Poll::Pending => Poll::Pending,
            });

        assert_eq!(woken.await, io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn writing_is_cut_after_a_while_without_progress() {
        let (mut caller, mut socket, _outbox) = connected();
        let start = Instant::now();

        let slow_reader = async {
            tokio::time::sleep(Duration::from_secs(29)).await;
            caller.read_exact(&mut [0; 1]).await.unwrap();
            std::future::pending::<()>().await;
        };
        let error = tokio::select! {
            written = socket.write_all(&[0; 256]) => written.unwrap_err(),
            () = slow_reader => unreachable!(),
        };

        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 59);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_is_still_sending_is_read_out_for_a_second() {
        let (mut caller, mut socket, _outbox) = connected();
        let start = Instant::now();

        let sender = async {
            while caller.write_all(&[0; 64]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            biased;
            () = sender => unreachable!(),
            closed = socket.shutdown() => closed.unwrap(),
        }

        assert_eq!(start.elapsed().as_millis(), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_caller_is_not_waited_for() {
        let (_caller, mut socket, _outbox) = connected();
        let start = Instant::now();

        socket.shutdown().await.unwrap();

        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
