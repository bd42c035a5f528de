//! How the proxy stops.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::proxy::{Listening, Proxy, Setup, asking, prompt, read_out};

const DRAIN: Duration = Duration::from_secs(2);

async fn listening() -> Listening {
    let mut setup = Setup::quick();
    setup.config.server.drain_timeout = DRAIN;
    Proxy::start(setup).listening().await
}

async fn asked(proxy: &Listening, text: &str, stream: bool) -> TcpStream {
    let mut body = asking(text);
    body["stream"] = stream.into();
    let body = body.to_string();
    let mut socket = proxy.connect().await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body.as_bytes()).await.unwrap();
    socket
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_end() {
    let proxy = listening().await;
    let mut fresh = proxy.connect().await;
    let mut used = proxy.connect().await;
    used.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = vec![0; 12];
    used.read_exact(&mut answer).await.unwrap();
    let start = Instant::now();

    proxy.stop().await;

    assert!(start.elapsed() < DRAIN / 2);
    read_out(&mut fresh).await;
    read_out(&mut used).await;
}

#[tokio::test]
async fn an_answer_that_comes_in_time_is_delivered() {
    let mut setup = Setup::quick();
    setup.config.server.drain_timeout = Duration::from_secs(20);
    let proxy = Proxy::start(setup).listening().await;
    let mut socket = asked(&proxy, "hello", false).await;
    waits(&proxy, 1).await;

    proxy.stop().await;

    let answer = String::from_utf8(read_out(&mut socket).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.to_lowercase().contains("connection: close"),
        "{answer}"
    );
}

#[tokio::test]
async fn who_still_waits_is_told_so_before_the_end() {
    let proxy = listening().await;
    let mut sync = asked(&proxy, prompt::SILENT, false).await;
    let mut stream = asked(&proxy, prompt::SILENT, true).await;
    waits(&proxy, 2).await;
    let mut head = vec![0; 12];
    stream.read_exact(&mut head).await.unwrap();
    let start = Instant::now();

    proxy.stop().await;

    let answer = String::from_utf8(read_out(&mut sync).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("retry-after-ms: "), "{answer}");
    assert!(answer.contains("shutting_down"), "{answer}");
    let frames = String::from_utf8(read_out(&mut stream).await).unwrap();
    assert!(frames.contains("shutting_down"), "{frames}");
    assert!(
        !frames.contains("[DONE]") && !frames.ends_with("0\r\n\r\n"),
        "{frames}"
    );
    assert!(start.elapsed() < DRAIN + Duration::from_secs(5));
}

#[tokio::test]
async fn half_a_request_does_not_hold_the_end() {
    let proxy = listening().await;
    let mut half = proxy.connect().await;
    half.write_all(b"GET /livez HT").await.unwrap();
    let mut body = proxy.connect().await;
    body.write_all(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n\
          Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    )
    .await
    .unwrap();
    let start = Instant::now();

    proxy.stop().await;

    assert!(start.elapsed() < DRAIN + Duration::from_secs(5));
}

#[tokio::test]
async fn no_connection_is_taken_once_it_stops() {
    let proxy = listening().await;
    let address = proxy.address;
    let waiting = asked(&proxy, prompt::SILENT, false).await;
    waits(&proxy, 1).await;

    proxy.begin_to_stop();
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DRAIN * 5, refused)
        .await
        .expect("the port is closed");

    drop(waiting);
    proxy.stopped().await;
}

/// Until so many callers wait.
async fn waits(proxy: &Listening, callers: usize) {
    let line = format!("waiting_callers {callers}\n");
    while !proxy.proxy.metrics().contains(&line) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
