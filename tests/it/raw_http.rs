//! Bytes that are no proper requests, or hardly: at most one answer, and the connection closes.

use std::time::Duration;

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

#[rustfmt::skip]
const ROWS: [Row; 72] = [
    ("whole", "{live}{close}", &[200]),
    ("http/1.0", "GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n", &[200]),
    ("empty lines before", "\r\n\r\n{live}{close}", &[200]),
    ("no host", "GET /livez HTTP/1.1\r\n\r\n", &[400]),
    ("no host, http/1.0", "GET /livez HTTP/1.0\r\n\r\n", &[400]),
    ("two hosts", "{live}Host: localhost\r\n\r\n", &[400]),
    ("two other hosts", "{live}Host: evil.test\r\n\r\n", &[400]),
    ("empty host", "GET /livez HTTP/1.1\r\nHost:\r\n{close}", &[403]),
    ("other host", "GET /livez HTTP/1.1\r\nHost: evil.test\r\n{close}", &[403]),
    ("host with user", "GET /livez HTTP/1.1\r\nHost: a@localhost\r\n{close}", &[403]),
    ("absolute form", "GET http://localhost/livez HTTP/1.1\r\nHost: localhost\r\n{close}", &[200]),
    ("absolute form elsewhere", "GET http://evil.test/livez HTTP/1.1\r\nHost: localhost\r\n{close}", &[403]),
    ("authority form", "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n{close}", &[404]),
    ("authority form elsewhere", "CONNECT evil.test:80 HTTP/1.1\r\nHost: localhost\r\n{close}", &[403]),
    ("asterisk form", "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n{close}", &[404]),
    ("http/0.9", "GET /livez\r\n", &[400]),
    ("http/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[]),
    ("http/3.0", "GET /livez HTTP/3.0\r\nHost: localhost\r\n\r\n", &[400]),
    ("http/1.2", "GET /livez HTTP/1.2\r\nHost: localhost\r\n\r\n", &[400]),
    ("lower-case http", "GET /livez http/1.1\r\nHost: localhost\r\n\r\n", &[400]),
    ("no version", "GET /livez \r\nHost: localhost\r\n\r\n", &[400]),
    ("two spaces", "GET  /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
    ("tab", "GET\t/livez HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
    ("no path", "GET HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
    ("no slash", "GET livez HTTP/1.1\r\nHost: localhost\r\n{close}", &[403]),
    ("nul in path", "GET /li\0vez HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
    ("space in path", "GET /li vez HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
    ("method of odd bytes", "G\u{1}T /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
    ("unknown method", "BREW /livez HTTP/1.1\r\nHost: localhost\r\n{close}", &[405]),
    ("tls hello", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}", &[400]),
    ("bare lf", "GET /livez HTTP/1.1\nHost: localhost\nConnection: close\n\n", &[200]),
    ("bare cr", "GET /livez HTTP/1.1\rHost: localhost\r\r", &[400]),
    ("folded header", "{live}X-A: b\r\n c\r\n\r\n", &[400]),
    ("space before colon", "{live}X-A : b\r\n\r\n", &[400]),
    ("space before name", "{live} X-A: b\r\n\r\n", &[400]),
    ("no colon", "{live}X-A\r\n\r\n", &[400]),
    ("no name", "{live}: b\r\n\r\n", &[400]),
    ("nul in value", "{live}X-A: a\0b\r\n\r\n", &[400]),
    ("nul in name", "{live}X\0A: b\r\n\r\n", &[400]),
    ("control byte in value", "{live}X-A: a\u{1}b\r\n\r\n", &[400]),
    ("too many headers for us", "{live}{70 headers}{close}", &[431]),
    ("too many headers for hyper", "{live}{5000 headers}{close}", &[431]),
    ("long header", "{live}X-Long: {40 KiB}\r\n{close}", &[431]),
    ("endless header", "{live}X: {4 MiB}", &[431]),
    ("endless path", "GET /{4 MiB}", &[431]),
    ("half a head", "{live}", &[]),
    ("one byte", "G", &[]),
    ("nothing", "", &[]),
    ("unwanted upgrade", "{live}Connection: upgrade, close\r\nUpgrade: websocket\r\n\r\n", &[200]),
    ("length and chunks", "{chat}Content-Length: 5\r\n{chunked}0\r\n\r\n", &[400]),
    ("chunks and length", "{chat}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", &[400]),
    ("smuggled after chunks", "{chat}Content-Length: 6\r\n{chunked}0\r\n\r\n{live}\r\n", &[400]),
    ("chunked twice", "{chat}Transfer-Encoding: chunked\r\n{chunked}0\r\n\r\n", &[400]),
    ("chunked, chunked", "{chat}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", &[400]),
    ("xchunked", "{chat}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", &[400]),
    ("chunked, then identity", "{chat}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", &[400]),
    ("chunks over http/1.0", "POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\n{chunked}0\r\n\r\n", &[400]),
    ("two lengths", "{chat}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", &[400]),
    ("signed length", "{chat}Content-Length: +2\r\n\r\n{}", &[400]),
    ("negative length", "{chat}Content-Length: -2\r\n\r\n{}", &[400]),
    ("list of lengths", "{chat}Content-Length: 2, 2\r\n\r\n{}", &[400]),
    ("hex length", "{chat}Content-Length: 0x2\r\n\r\n{}", &[400]),
    ("length beyond all numbers", "{chat}Content-Length: 99999999999999999999\r\n\r\n{}", &[400]),
    ("huge length", "{chat}Content-Length: 9999999999\r\n\r\n{}", &[413]),
    ("bad chunk size", "{chat}{chunked}z\r\n{}\r\n0\r\n\r\n", &[400]),
    ("huge chunk size", "{chat}{chunked}fffffffffffffffff\r\n{}", &[400]),
    ("chunk without its end", "{chat}{chunked}2\r\n{}xx0\r\n\r\n", &[400]),
    ("short body", "{chat}Content-Length: 10\r\n\r\n{}", &[408]),
    ("no body", "{chat}Content-Length: 10\r\n\r\n", &[408]),
    ("half a chunk", "{chat}{chunked}a\r\n{}", &[408]),
    ("expectation", "{chat}Content-Length: 2\r\nExpect: 100-continue\r\n{close}{}", &[100, 400]),
    ("expectation in vain", "{chat}Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n", &[413]),
];

/// The bytes with the usual stretches in their places.
fn filled_in(bytes: &str) -> String {
    let headers = |count: u32| {
        (0..count)
            .map(|number| format!("X-{number}: 1\r\n"))
            .collect::<String>()
    };
    bytes
        .replace("{live}", "GET /livez HTTP/1.1\r\nHost: localhost\r\n")
        .replace(
            "{chat}",
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/json\r\n",
        )
        .replace("{close}", "Connection: close\r\n\r\n")
        .replace("{chunked}", "Transfer-Encoding: chunked\r\n\r\n")
        .replace("{70 headers}", &headers(70))
        .replace("{5000 headers}", &headers(5000))
        .replace("{40 KiB}", &"x".repeat(40 << 10))
        .replace("{4 MiB}", &"x".repeat(4 << 20))
}

#[tokio::test]
async fn no_bytes_get_more_than_one_answer_or_keep_the_connection() {
    let proxy = listening().await;

    let mut wrong = Vec::new();
    for (name, bytes, expected) in ROWS {
        let answer = proxy.raw(filled_in(bytes).as_bytes()).await;
        if statuses(&answer) != expected {
            wrong.push(format!("{name}: {}", String::from_utf8_lossy(&answer)));
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    proxy.stop().await;
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
async fn a_caller_that_hangs_up_stops_waiting() {
    let proxy = listening().await;
    let body = asking(prompt::SILENT).to_string();
    let mut socket = proxy.connect().await;
    let head = filled_in(&format!("{{chat}}Content-Length: {}\r\n\r\n", body.len()));
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body.as_bytes()).await.unwrap();
    let waiting = async |callers: usize| {
        let line = format!("waiting_callers {callers}\n");
        while !proxy.proxy.metrics().contains(&line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    waiting(1).await;

    drop(socket);

    tokio::time::timeout(Duration::from_secs(20), waiting(0))
        .await
        .unwrap();
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
