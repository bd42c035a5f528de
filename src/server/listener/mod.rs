//! Connections: our own accept loop, so that every wait on a caller has an end.

mod in_place;
mod outbox;
mod socket;
mod stop;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tower::{BoxError, Service};
use tracing::{debug, warn};

pub use outbox::{Outbox, Owed, Receipt};
pub use stop::Stop;

use crate::config;
use crate::gather::Gather;
use crate::signal::Signal;
use in_place::InPlace;
use outbox::{Incoming, Outgoing};
use socket::{Deadlines, Socket};

/// What connections are allowed.
#[derive(Clone, Debug)]
pub struct Limits {
    pub max_connections: usize,
    pub max_head: usize,
    pub head_timeout: Duration,
    pub idle_timeout: Duration,
    pub write_timeout: Duration,
    pub drain_timeout: Duration,
    /// Follows the number of open connections.
    pub open: Gauge,
}

impl Limits {
    pub fn new(settings: &config::Server, open: Gauge) -> Self {
        Self {
            max_connections: settings.max_connections,
            max_head: usize::try_from(settings.max_head).unwrap_or(usize::MAX),
            head_timeout: settings.head_timeout,
            idle_timeout: settings.idle_timeout,
            write_timeout: settings.write_timeout,
            drain_timeout: settings.drain_timeout,
            open,
        }
    }
}

/// Who is at the other end; an extension of every request that came by a socket.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Serves until `stop` says so, and then until every connection has ended or was cut. The service is
/// always ready; an error of it ends its connection without an answer.
pub async fn serve<S>(listener: TcpListener, service: S, limits: Limits, stop: Stop)
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let tasks = TaskTracker::new();
    let cut = Signal::default();
    let http = protocol(&limits);
    let deadlines = Arc::new(deadlines(&limits));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.draining() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((place, stream, peer)) = accepted else {
            break;
        };
        let outbox = Arc::new(Outbox::default());
        let io = Socket::new(stream, Arc::clone(&outbox), Arc::clone(&deadlines));
        let wakes = Arc::clone(&outbox.wakes);
        let tagged = Tagged {
            service: service.clone(),
            outbox,
            peer,
        };
        let connection = http.serve_connection(Gather(TokioIo::new(io)), tagged);
        let mut connection = InPlace::new(connection, wakes);
        let (stop, cut) = (stop.clone(), cut.clone());
        let held = (place, Open::new(&limits.open));
        tasks.spawn(async move {
            let _held = &held;
            if until_draining(&mut connection, &stop).await {
                Pin::new(&mut connection.future).graceful_shutdown();
                tokio::select! {
                    biased;
                    ended = &mut connection => note(ended),
                    () = cut.given() => {}
                }
            }
        });
    }
    drop(listener);
    tasks.close();
    drain(&tasks, &stop, limits.drain_timeout).await;
    cut.give();
    tasks.wait().await;
}

fn protocol(limits: &Limits) -> http1::Builder {
    // hyper's own limits lie above ours, so that ours answer in the envelope. Its limit of 100
    // headers needs no change, and another number would cost an allocation per request.
    const ROOM: usize = 16 * 1024;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(limits.max_head.saturating_add(ROOM));
    http
}

fn deadlines(limits: &Limits) -> Deadlines {
    Deadlines {
        head: limits.head_timeout,
        idle: limits.idle_timeout,
        write: limits.write_timeout,
    }
}

/// The next connection, once there is a place for it. `None` never comes while places are given.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(tokio::sync::OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Small frames are the point of a stream.
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(error = &error as &dyn std::error::Error, "no TCP_NODELAY");
                }
                return Some((place, stream, peer));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Most likely no descriptors are left: some will be given back.
                warn!(
                    error = &error as &dyn std::error::Error,
                    "a connection could not be accepted"
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

type Connection<S> = InPlace<http1::Connection<Gather<TokioIo<Socket<TcpStream>>>, Tagged<S>>>;

/// Whether it is still open when draining begins. The connection stays where it is: moved into this, it would
/// have room in its task twice.
async fn until_draining<S>(connection: &mut Connection<S>, stop: &Stop) -> bool
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone,
    S::Error: Into<BoxError>,
{
    tokio::select! {
        biased;
        ended = connection => {
            note(ended);
            false
        }
        () = stop.draining() => true,
    }
}

fn note(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        debug!(
            error = &error as &dyn std::error::Error,
            "a connection broke off"
        );
    }
}

/// Waits for the connections; tells those who wait for an answer in time for them to hear it.
async fn drain(tasks: &TaskTracker, stop: &Stop, within: Duration) {
    let last_words = (within / 8).min(Duration::from_secs(1));
    if tokio::time::timeout(within - last_words, tasks.wait())
        .await
        .is_ok()
    {
        return;
    }
    stop.close();
    if tokio::time::timeout(last_words, tasks.wait())
        .await
        .is_err()
    {
        warn!(
            connections = tasks.len(),
            "connections are cut, for the time to drain is over"
        );
    }
}

/// Counts a connection for as long as it lives.
struct Open(Gauge);

impl Open {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The service with what a request needs to know of its connection.
#[derive(Clone, Debug)]
struct Tagged<S> {
    service: S,
    outbox: Arc<Outbox>,
    peer: SocketAddr,
}

impl<S> hyper::service::Service<Request<hyper::body::Incoming>> for Tagged<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone,
{
    type Response = Response<Outgoing>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Self::Future {
        let outbox = &self.outbox;
        outbox.begin();
        let mut request = request.map(|body| Body::new(Incoming::new(body, Arc::clone(outbox))));
        request.extensions_mut().insert(Arc::clone(outbox));
        request.extensions_mut().insert(Peer(self.peer));
        Answering {
            answering: Box::pin(self.service.clone().call(request)),
            outbox: Arc::clone(outbox),
        }
    }
}

/// A response in the making.
#[derive(Debug)]
struct Answering<F> {
    answering: Pin<Box<F>>,
    outbox: Arc<Outbox>,
}

impl<F, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = Result<Response<Outgoing>, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { answering, outbox } = &mut *self;
        let response = ready!(outbox.wakes.serving(|| answering.as_mut().poll(context)))?;
        let outbox = Arc::clone(outbox);
        Poll::Ready(Ok(response.map(|body| Outgoing::new(body, outbox))))
    }
}
