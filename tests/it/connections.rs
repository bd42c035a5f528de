//! Connections and what is owed on them, whatever the service.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use chaturdata_proxy::config::Config;
use chaturdata_proxy::metrics::Metrics;
use chaturdata_proxy::server::{Limits, Outbox, Owed, Receipt, Stop, serve};
use chaturdata_proxy::signal::Signal;
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower::service_fn;

use crate::proxy::read_out;

/// A server that answers `/short`, and `/endless` as long as someone reads.
struct Server {
    connect_to: std::net::SocketAddr,
    delivered: Arc<AtomicUsize>,
    metrics: Metrics,
    signal: Signal,
    served: JoinHandle<()>,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "the server runs beside the test")]
    async fn start(change: impl FnOnce(&mut Limits)) -> Self {
        let metrics = Metrics::new();
        let mut limits = Limits::new(&Config::default().server, metrics.connections());
        change(&mut limits);
        let delivered = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&delivered);
        let service = service_fn(move |request: Request| {
            let delivered = Arc::clone(&counted);
            async move { Ok::<_, Infallible>(answer(&request, delivered)) }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connect_to = listener.local_addr().unwrap();
        let signal = Signal::default();
        let stop = Stop::on(signal.clone());
        Self {
            connect_to,
            delivered,
            metrics,
            signal,
            served: tokio::spawn(serve(listener, service, limits, stop)),
        }
    }

    async fn ask(&self, path: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.connect_to).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    }

    async fn until_open(&self, connections: usize) {
        let line = format!("connections {connections}\n");
        let open = async {
            while !self.metrics.render().contains(&line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), open)
            .await
            .expect("so many are open");
    }

    async fn stop(self) {
        self.signal.give();
        self.served.await.unwrap();
    }
}

fn answer(request: &Request, delivered: Arc<AtomicUsize>) -> Response {
    let outbox: Option<&Arc<Outbox>> = request.extensions().get();
    let receipt = Receipt::new(move || {
        delivered.fetch_add(1, Ordering::SeqCst);
    });
    let body = match request.uri().path() {
        "/endless" => {
            let chunk = Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 65_536]));
            Body::from_stream(stream::repeat(chunk))
        }
        _ => Body::from("short"),
    };
    Response::new(Body::new(Owed::new(body, receipt, outbox.cloned())))
}

async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("it comes to pass");
}

#[tokio::test]
async fn an_answer_is_delivered_when_it_is_written() {
    let server = Server::start(|_| {}).await;

    let mut socket = server.ask("/short").await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"short") {
        socket.read_buf(&mut answer).await.unwrap();
    }

    until(|| server.delivered.load(Ordering::SeqCst) == 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_cut_and_the_answer_stays_owed() {
    let server = Server::start(|limits| limits.write_timeout = Duration::from_millis(300)).await;

    let socket = server.ask("/endless").await;
    server.until_open(1).await;
    server.until_open(0).await;

    assert_eq!(server.delivered.load(Ordering::SeqCst), 0);
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_cut_when_the_drain_is_over() {
    let drain = Duration::from_secs(1);
    let server = Server::start(|limits| limits.drain_timeout = drain).await;
    let socket = server.ask("/endless").await;
    server.until_open(1).await;
    let start = Instant::now();

    server.stop().await;

    assert!(start.elapsed() >= drain && start.elapsed() < drain + Duration::from_secs(10));
    drop(socket);
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_for_its_place() {
    let server = Server::start(|limits| limits.max_connections = 1).await;
    let first = server.ask("/endless").await;
    server.until_open(1).await;

    let mut second = server.ask("/short").await;
    let early = tokio::time::timeout(Duration::from_millis(200), second.read_u8()).await;
    drop(first);
    let late = tokio::time::timeout(Duration::from_secs(20), second.read_u8()).await;

    assert!(early.is_err(), "there was no place for the second");
    assert_eq!(late.unwrap().unwrap(), b'H');
    server.stop().await;
}

#[tokio::test]
async fn half_a_head_is_cut_in_time() {
    let server = Server::start(|limits| limits.head_timeout = Duration::from_millis(200)).await;
    let mut socket = TcpStream::connect(server.connect_to).await.unwrap();

    socket
        .write_all(b"GET /short HTTP/1.1\r\nHost: lo")
        .await
        .unwrap();
    let answer = read_out(&mut socket).await;

    assert_eq!(answer, b"", "there is nothing to say to half a head");
    server.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let server = Server::start(|limits| limits.idle_timeout = Duration::from_millis(200)).await;

    let mut socket = server.ask("/short").await;
    let answer = read_out(&mut socket).await;

    assert!(answer.ends_with(b"short"));
    server.stop().await;
}
