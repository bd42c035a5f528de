//! Bytes that are no proper requests, or hardly: at most one answer, and the connection closes.

mod bodies;
mod heads;
mod slow;
mod smuggled;

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;

use crate::proxy::{Listening, Proxy, Setup, asking, prompt, read_out};

/// Limits so small that every row ends soon.
async fn listening() -> Listening {
    let mut setup = Setup::quick();
    setup.config.server.head_timeout = Duration::from_millis(500);
    setup.config.server.idle_timeout = Duration::from_millis(500);
    setup.config.server.body_timeout = Duration::from_millis(500);
    Proxy::start(setup).listening().await
}

/// The status of each answer that is in these bytes.
fn statuses(answer: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answer);
    text.match_indices("HTTP/1.")
        .map(|(at, _)| text[at..].split(' ').nth(1).unwrap().parse().unwrap())
        .collect()
}

/// Name, bytes with stretches to fill in, and the status of each answer.
type Row = (&'static str, &'static str, &'static [u16]);

/// Sends each row on a connection of its own, and reads until the proxy closes it.
async fn check(rows: &[Row]) {
    let proxy = listening().await;
    let wrong = join_all(rows.iter().map(async |(name, bytes, expected)| {
        let answer = proxy.raw(filled_in(bytes).as_bytes()).await;
        let text = String::from_utf8_lossy(&answer);
        (statuses(&answer) != *expected).then(|| format!("{name}: not {expected:?}: {text}"))
    }))
    .await;
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(proxy.proxy.sandbox.posts().len(), 0);
    proxy.stop().await;
}

/// A whole request as it stands within another's body.
const WITHIN: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The bytes with the usual stretches in their places.
fn filled_in(bytes: &str) -> String {
    let headers = |count: u32| {
        (0..count)
            .map(|number| format!("X-{number}: 1\r\n"))
            .collect::<String>()
    };
    bytes
        .replace("{n}", &WITHIN.len().to_string())
        .replace("{n hex}", &format!("{:x}", WITHIN.len()))
        .replace("{live}", "GET /livez HTTP/1.1\r\nHost: localhost\r\n")
        .replace(
            "{form}",
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: text/plain\r\n",
        )
        .replace(
            "{chat}",
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/json\r\n",
        )
        .replace("{close}", "Connection: close\r\n\r\n")
        .replace("{chunked}", "Transfer-Encoding: chunked\r\n\r\n")
        .replace("{62 headers}", &headers(62))
        .replace("{63 headers}", &headers(63))
        .replace("{70 headers}", &headers(70))
        .replace("{5000 headers}", &headers(5000))
        .replace("{40 KiB}", &"x".repeat(40 << 10))
        .replace("{4 MiB}", &"x".repeat(4 << 20))
}

#[tokio::test]
async fn what_our_own_limits_refuse_is_told_in_the_envelope() {
    let proxy = listening().await;
    let rows = [
        ("{live}{70 headers}{close}", "headers_too_large"),
        ("{live}Host: localhost\r\n\r\n", "invalid_value"),
        (
            "GET /livez HTTP/1.1\r\nHost: evil.test\r\n{close}",
            "host_not_allowed",
        ),
        (
            "{chat}Content-Length: 9999999999\r\n\r\n{}",
            "request_too_large",
        ),
        ("{chat}Content-Length: 10\r\n\r\n{}", "request_timeout"),
        ("{chat}{chunked}z\r\n", "invalid_json"),
        (
            "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n{close}",
            "unknown_route",
        ),
    ];

    for (bytes, code) in rows {
        let answer = proxy.raw(filled_in(bytes).as_bytes()).await;

        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.contains(&format!(r#""code":"{code}""#)),
            "{code}: {answer}"
        );
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_refusal_is_read_although_the_body_still_comes() {
    const LENGTH: usize = 50 << 20;
    let proxy = listening().await;
    let mut socket = proxy.connect().await;

    let head = filled_in(&format!("{{chat}}Content-Length: {LENGTH}\r\n\r\n"));
    socket.write_all(head.as_bytes()).await.unwrap();
    let chunk = vec![b' '; 64 << 10];
    let mut sent = 0;
    while sent < LENGTH && socket.write_all(&chunk).await.is_ok() {
        sent += chunk.len();
    }
    let answer = read_out(&mut socket).await;

    assert_eq!(statuses(&answer), [413]);
    proxy.stop().await;
}

#[tokio::test]
async fn requests_in_one_breath_are_answered_in_order() {
    let proxy = listening().await;
    let requests = filled_in("{live}\r\n{live}X-Request-Id: second\r\n\r\n{live}{close}");

    let answer = proxy.raw(requests.as_bytes()).await;

    assert_eq!(statuses(&answer), [200, 200, 200]);
    let answer = String::from_utf8(answer).unwrap();
    let second = answer.split("HTTP/1.1 200").nth(2).unwrap();
    assert!(second.contains("x-request-id: second\r\n"), "{answer}");
    proxy.stop().await;
}

#[tokio::test]
async fn a_caller_that_hangs_up_stops_waiting_whatever_else_it_sent() {
    let proxy = listening().await;
    let waiting = async |callers: usize| {
        let line = format!("waiting_callers {callers}\n");
        while !proxy.proxy.metrics().contains(&line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let long = "x".repeat(10 << 10);
    for (number, more) in ["", "\r\n", "GET /li", WITHIN, &long].iter().enumerate() {
        let body = asking(&format!("{} {number}", prompt::SILENT)).to_string();
        let head = filled_in(&format!("{{chat}}Content-Length: {}\r\n\r\n", body.len()));
        let mut socket = proxy.connect().await;
        let request = [head.as_str(), &body, more].concat();
        socket.write_all(request.as_bytes()).await.unwrap();
        waiting(1).await;
        socket.write_all(more.as_bytes()).await.unwrap();

        drop(socket);

        tokio::time::timeout(Duration::from_secs(20), waiting(0))
            .await
            .unwrap_or_else(|_| panic!("{more:?}"));
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_request_sent_before_the_answer_to_another_is_answered_after_it() {
    let proxy = listening().await;
    let body = asking("hello").to_string();
    let head = filled_in(&format!("{{chat}}Content-Length: {}\r\n\r\n", body.len()));
    let mut socket = proxy.connect().await;

    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body.as_bytes()).await.unwrap();
    // In pieces: the first lies with hyper, the others come while the run is under way.
    let more = filled_in("{live}X-Request-Id: second\r\n\r\n{live}{close}");
    for piece in more.as_bytes().chunks(30) {
        socket.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let answer = read_out(&mut socket).await;

    assert_eq!(statuses(&answer), [200, 200, 200]);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("x-request-id: second\r\n"), "{answer}");
    proxy.stop().await;
}

#[tokio::test]
async fn a_body_in_pieces_is_one_body() {
    let proxy = listening().await;
    let mut socket = proxy.connect().await;
    let head = filled_in("{chat}Connection: close\r\n{chunked}");
    socket.write_all(head.as_bytes()).await.unwrap();

    for piece in asking("hello").to_string().as_bytes().chunks(7) {
        let size = format!("{:x}\r\n", piece.len());
        socket
            .write_all(&[size.as_bytes(), piece, b"\r\n"].concat())
            .await
            .unwrap();
    }
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = read_out(&mut socket).await;

    assert_eq!(statuses(&answer), [200]);
    proxy.stop().await;
}
