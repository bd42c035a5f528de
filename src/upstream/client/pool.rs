//! Connections to the origin, each driven by the call that uses it. A task for every connection would be
//! woken, and wake the call, for each answer.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::poll_fn;
use http::header::{HOST, HeaderValue, USER_AGENT};
use http::{Request, Response, Uri};
use http_body::{Body as _, Frame};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until, timeout_at};
use tower::ServiceExt as _;

use super::{AGENT, broken, late, unsent};
use crate::gather::Gather;
use crate::upstream::wire::Failure;

/// A peer that is gone without a word is found out within a minute.
const PROBED: Duration = Duration::from_secs(15);
const PROBES: u32 = 3;
#[cfg(target_os = "linux")]
const UNHEARD: Duration = Duration::from_secs(30);

/// For how long a peer is waited for that is to close its side of a connection that nobody uses.
const CLOSING: Duration = Duration::from_secs(1);

type Stream = Gather<MaybeHttpsStream<TokioIo<TcpStream>>>;

/// The connections to one origin that nobody uses just now.
pub struct Pool {
    origin: Uri,
    host: HeaderValue,
    connector: HttpsConnector<HttpConnector>,
    connect_timeout: Duration,
    /// For how long a connection that is not used is young, and for how long it is kept. What must not be
    /// sent twice goes over a young one.
    young: Duration,
    idle: Duration,
    /// How many there may be with those in use, as the peer counts them. There are never more calls at
    /// once.
    most: usize,
    open: Arc<AtomicUsize>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// By when they were used, the last one last.
    open: VecDeque<(Instant, Box<Open>)>,
    /// Whether a task waits to close them.
    has_reaper: bool,
}

/// A connection that a request can be sent on.
struct Open {
    sender: SendRequest<Full<Bytes>>,
    connection: Connection<Stream, Full<Bytes>>,
    counted: Counted,
}

/// One of the connections that the peer may have, until it is dropped.
struct Counted(Arc<AtomicUsize>);

/// What there is for a request.
enum Found {
    Fit(Box<Open>),
    /// None that fits, and there may be one more.
    Room(Counted),
    /// None that fits, and this one is to make room.
    Full(Box<Open>),
}

/// An answer whose head has come, and the connection that its body comes over.
pub struct Answer {
    head: Response<Incoming>,
    /// `None` once it has ended.
    open: Option<Box<Open>>,
    pool: Arc<Pool>,
}

impl Pool {
    /// `None` where the origin is no URL with a host.
    pub fn new(
        origin: &str,
        tls: ClientConfig,
        connect_timeout: Duration,
        (young, idle): (Duration, Duration),
        most: usize,
    ) -> Option<Self> {
        let origin: Uri = origin.parse().ok()?;
        let host = HeaderValue::from_str(origin.authority()?.as_str()).ok()?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        tcp.set_keepalive(Some(PROBED));
        tcp.set_keepalive_interval(Some(PROBED));
        tcp.set_keepalive_retries(Some(PROBES));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(UNHEARD));
        Some(Self {
            origin,
            host,
            connector: HttpsConnector::from((tcp, tls)),
            connect_timeout,
            young,
            idle,
            most,
            open: Arc::default(),
            kept: Mutex::default(),
        })
    }

    /// Sends it once, on a connection that was used within `idle` or on a new one: on another only where
    /// the first was closed before it was written.
    pub async fn send(
        self: &Arc<Self>,
        request: Request<Bytes>,
        until: Instant,
        idle: Duration,
    ) -> Result<Answer, Failure> {
        let mut request = request.map(Full::new);
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        loop {
            let (open, is_kept) = match self.take(idle) {
                Found::Fit(open) => (open, true),
                // Apart, since most calls have no use for the room that it takes.
                Found::Room(counted) => (Box::pin(self.connect(counted, until)).await?, false),
                Found::Full(old) => (Box::pin(self.replace(old, until)).await?, false),
            };
            let answered = timeout_at(until, open.send(request, self.clone())).await;
            match answered.map_err(|_| late())? {
                Ok(answer) => return Ok(answer),
                Err(mut error) => match error.take_message() {
                    Some(unwritten) if is_kept => request = unwritten,
                    Some(_) => return Err(unsent(error.error())),
                    None => return Err(broken(error.error())),
                },
            }
        }
    }

    async fn replace(&self, old: Box<Open>, until: Instant) -> Result<Box<Open>, Failure> {
        let counted = old.closed(until).await;
        self.connect(counted, until).await
    }

    async fn connect(&self, counted: Counted, until: Instant) -> Result<Box<Open>, Failure> {
        let until = until.min(Instant::now() + self.connect_timeout);
        let stream = self.connector.clone().oneshot(self.origin.clone());
        let Ok(stream) = timeout_at(until, stream).await else {
            return Err(Failure::Unsent("connecting took too long".to_owned()));
        };
        let stream = stream.map_err(|error| unsent(&*error))?;
        let (sender, connection) = handshake(Gather(stream))
            .await
            .map_err(|error| unsent(&error))?;
        Ok(Box::new(Open {
            sender,
            connection,
            counted,
        }))
    }

    /// The one that was used last fits if that was within `idle` and its peer has not closed it.
    fn take(&self, idle: Duration) -> Found {
        loop {
            let mut kept = self.kept();
            let young = kept.open.pop_back_if(|(since, _)| since.elapsed() < idle);
            if let Some((_, mut open)) = young {
                drop(kept);
                if open.is_ready() {
                    return Found::Fit(open);
                }
                continue;
            }
            // The last quarter is for calls that find none: a peer may take in ends after beginnings.
            let beside = self.most - self.most / 4;
            if self.open.load(Ordering::Relaxed) >= beside
                && let Some((_, oldest)) = kept.open.pop_front()
            {
                return Found::Full(oldest);
            }
            // Under the lock, so that no two of them are the last.
            return Found::Room(Counted::new(&self.open));
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "nobody waits for the task: it holds what nobody uses, and may end at any time"
    )]
    fn keep(self: &Arc<Self>, open: Box<Open>, since: Instant) {
        let mut kept = self.kept();
        let at = kept.open.partition_point(|(other, _)| *other <= since);
        kept.open.insert(at, (since, open));
        if !kept.has_reaper {
            kept.has_reaper = true;
            tokio::spawn(reap(Arc::downgrade(self)));
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what has idled for too long; when to come again, if any are left.
    fn close_idle(&self) -> Option<Instant> {
        let mut kept = self.kept();
        let idle = kept
            .open
            .partition_point(|(since, _)| since.elapsed() >= self.idle);
        let young = kept.open.split_off(idle);
        let idle = mem::replace(&mut kept.open, young);
        let next = kept.open.front().map(|(since, _)| *since + self.idle);
        kept.has_reaper = next.is_some();
        drop(kept);
        // Calls need not wait for this.
        drop(idle);
        next
    }
}

/// Ends with the last connection or with the pool, whichever is first.
async fn reap(pool: Weak<Pool>) {
    while let Some(next) = pool.upgrade().and_then(|pool| pool.close_idle()) {
        sleep_until(next).await;
    }
}

impl Counted {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Open {
    /// Closes it. Its peer, who counts what it has open, has closed it too by then, or takes its time.
    async fn closed(self, until: Instant) -> Counted {
        let mut stream = TokioIo::new(self.connection.into_parts().io);
        let end = async {
            stream.shutdown().await?;
            let mut rest = [0; 64];
            while stream.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // Whatever comes of it, nobody uses it any more.
        let _ = timeout_at(until.min(Instant::now() + CLOSING), end).await;
        self.counted
    }

    /// Takes in what the peer has done since, and tells whether another request may follow.
    fn is_ready(&mut self) -> bool {
        let mut quiet = Context::from_waker(Waker::noop());
        Pin::new(&mut self.connection).poll(&mut quiet).is_pending() && self.sender.is_ready()
    }

    async fn send(
        mut self: Box<Self>,
        request: Request<Full<Bytes>>,
        pool: Arc<Pool>,
    ) -> Result<Answer, TrySendError<Request<Full<Bytes>>>> {
        // Looked at whatever its task has done before: told to come again, it would wake nobody, and a
        // connection that waits for its body to be read has nothing more to wake for.
        let mut sent = pin!(unconstrained(self.sender.try_send_request(request)));
        let mut open = Some(self);
        let head = poll_fn(|cx| Self::seek(&mut open, cx, |cx| sent.as_mut().poll(cx)));
        let head = head.await?;
        Ok(Answer { head, open, pool })
    }

    /// Drives the connection, and looks for what is waited for. At first so that nobody is woken: a connection
    /// wakes whoever drove it when something is taken that it had ready, and the call that takes it would
    /// be queued once more for nothing. Where nothing has come, it is driven again, and asks again for all
    /// that it waits for.
    fn seek<T>(
        open: &mut Option<Box<Self>>,
        cx: &mut Context<'_>,
        mut look: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        for driver in [&mut Context::from_waker(Waker::noop()), cx] {
            Self::drive(open, driver);
            let seen = look(&mut waiter(open, driver));
            if seen.is_ready() {
                return seen;
            }
        }
        Poll::Pending
    }

    fn drive(open: &mut Option<Box<Self>>, cx: &mut Context<'_>) {
        if let Some(own) = open
            && Pin::new(&mut own.connection).poll(cx).is_ready()
        {
            *open = None;
        }
    }
}

/// Whom an answer wakes: nobody, as long as the call drives the connection and looks for its answer after
/// each time. It would be woken for what it has seen.
fn waiter<'a>(open: &Option<Box<Open>>, cx: &Context<'a>) -> Context<'a> {
    Context::from_waker(match open {
        Some(_) => Waker::noop(),
        None => cx.waker(),
    })
}

impl Answer {
    pub fn head(&self) -> &Response<Incoming> {
        &self.head
    }

    /// More of the body; `None` after its end, when the connection is free again. Trailers are passed over.
    pub async fn chunk(&mut self) -> hyper::Result<Option<Bytes>> {
        while let Some(frame) = poll_fn(|cx| self.poll_frame(cx)).await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        if let Some(mut open) = self.open.take()
            && (open.sender.is_ready() || open.is_ready())
        {
            self.pool.keep(open, self.used());
        }
        Ok(None)
    }

    /// When its connection counts as used.
    fn used(&self) -> Instant {
        let now = Instant::now();
        if self.head.status().is_success() {
            return now;
        }
        // Whoever refuses may close the connection a moment later, and a message would be lost on it.
        now.checked_sub(self.pool.young).unwrap_or(now)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let mut body = Pin::new(self.head.body_mut());
        let come = body.as_mut().poll_frame(&mut waiter(&self.open, cx));
        if come.is_ready() {
            return come;
        }
        Open::seek(&mut self.open, cx, |cx| body.as_mut().poll_frame(cx))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.head.status())
            .finish_non_exhaustive()
    }
}
