//! The real upstream's client against answers that no well-behaved server gives.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chaturdata_proxy::clock::Moment;
use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::upstream::{PostError, Posted, ReadError, ThreadId, Upstream};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::peer::{MAX_BODY, answering, client, http, on_wall};
use super::{following, key, opening};

pub const POSTED: &[u8] = br#"{"thread_id":"th_1","run_status":{"status":"in_progress"}}"#;

fn unknown(outcome: &Result<Posted, PostError>) -> bool {
    matches!(outcome, Err(PostError::Unknown(_)))
}

pub fn zipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_post_carries_the_key_and_the_message_and_little_else() {
    let (url, received) = answering(http("200 OK", "", POSTED)).await;
    let thread = ThreadId("th_1".into());

    client(&url)
        .post(&key(), &following(&thread, "hi"))
        .await
        .unwrap();

    let host = url.trim_start_matches("http://");
    let request = received.requests().remove(0).replace(host, "HOST");
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().chain([body]).collect();
    lines[1..].sort_unstable();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    POST /api/newMessage HTTP/1.1
    accept-encoding: gzip
    accept: application/json
    authorization: Bearer sk-test
    content-length: 35
    content-type: application/json
    host: HOST
    user-agent: chaturdata-proxy/0.1.0
    {"message":"hi","thread_id":"th_1"}
    "#);
}

#[tokio::test]
async fn a_connection_from_before_the_machine_slept_is_not_used() {
    static WALL: AtomicU64 = AtomicU64::new(0);
    let (url, received) = answering(http("200 OK", "", POSTED)).await;
    let upstream = on_wall(|| Moment(WALL.load(Ordering::Relaxed)), &url);
    let mut connections = Vec::new();

    for passed in [0, 29_000, 3_600_000, 0] {
        WALL.fetch_add(passed, Ordering::Relaxed);
        upstream.post(&key(), &opening("hi")).await.unwrap();
        connections.push(received.connections());
    }

    assert_eq!(connections, [1, 1, 2, 2]);
}

#[tokio::test]
async fn a_thread_id_cannot_steer_the_call() {
    let (url, received) = answering(http("200 OK", "", br#"{"messages":[]}"#)).await;
    let thread = ThreadId("../x?a=b&threadId=c #é".into());

    client(&url).read(&key(), &thread).await.unwrap();

    let request = received.requests().remove(0);
    let line = request.lines().next().unwrap();
    assert_eq!(
        line,
        "GET /api/getThread?threadId=..%2Fx%3Fa%3Db%26threadId%3Dc%20%23%C3%A9 HTTP/1.1"
    );
}

#[tokio::test]
async fn a_key_that_no_header_can_carry_is_refused_before_anything_is_sent() {
    let (url, received) = answering(http("200 OK", "", POSTED)).await;
    let key = Secret::new("sk\r\nx: y");
    let upstream = client(&url);

    let post = upstream.post(&key, &opening("hi")).await;
    let read = upstream.read(&key, &ThreadId("th_1".into())).await;

    assert!(matches!(post, Err(PostError::Refused(refusal)) if refusal.status == 401));
    assert_eq!(read, Err(ReadError::KeyRefused(401)));
    assert_eq!(received.connections(), 0);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_other_host_sees_nothing() {
    let (other, elsewhere) = answering(http("200 OK", "", POSTED)).await;
    for status in ["301 X", "302 X", "303 X", "307 X", "308 X"] {
        let (url, _) = answering(http(
            status,
            &format!("Location: {other}/api/newMessage\r\n"),
            b"",
        ))
        .await;
        let upstream = client(&url);

        let read = upstream.read(&key(), &ThreadId("th_1".into())).await;

        assert!(
            unknown(&upstream.post(&key(), &opening("hi")).await),
            "{status}"
        );
        assert!(matches!(read, Err(ReadError::Passing(_))), "{status}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_zipped_answer_is_read() {
    for header in ["Content-Encoding: gzip\r\n", "Content-Encoding: X-GZIP\r\n"] {
        let (url, _) = answering(http("200 OK", header, &zipped(POSTED))).await;

        let posted = client(&url).post(&key(), &opening("hi")).await.unwrap();

        assert_eq!(posted.thread, ThreadId("th_1".into()));
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_whole_leaves_the_outcome_unknown() {
    let max = usize::try_from(MAX_BODY).unwrap();
    let padded = |length: usize| [POSTED, &vec![b' '; length - POSTED.len()]].concat();
    let gzip = "Content-Encoding: gzip\r\n";
    let brotli = "Content-Encoding: br\r\n";
    let whole = http("200 OK", "", POSTED);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let table = [
        ("oversized", http("200 OK", "", &padded(max + 1))),
        (
            "oversized once unzipped",
            http("200 OK", gzip, &zipped(&padded(max + 1))),
        ),
        ("half of a zip", http("200 OK", gzip, &zipped(POSTED)[..30])),
        ("not a zip", http("200 OK", gzip, POSTED)),
        ("encoded as nobody asked", http("200 OK", brotli, POSTED)),
        ("cut in the body", whole[..whole.len() - 5].to_vec()),
        ("cut in the head", b"HTTP/1.1 200 OK\r\nContent-".to_vec()),
        (
            "cut between chunks",
            format!("{chunked}5\r\n{{\"thr\r\n").into_bytes(),
        ),
        ("no HTTP at all", b"220 smtp ready\r\n\r\n".to_vec()),
        ("nothing at all", Vec::new()),
    ];

    for (what, answer) in table {
        let (url, received) = answering(answer).await;

        let outcome = client(&url).post(&key(), &opening("hi")).await;

        assert!(unknown(&outcome), "{what}");
        assert_eq!(received.requests().len(), 1, "{what}");
    }
    let (url, _) = answering(http("200 OK", "", &padded(max))).await;
    assert!(client(&url).post(&key(), &opening("hi")).await.is_ok());
}

#[tokio::test]
async fn a_refusal_stands_though_its_words_broke_off() {
    let (url, _) = answering(b"HTTP/1.1 429 X\r\nContent-Length: 50\r\n\r\n{\"err".to_vec()).await;

    let outcome = client(&url).post(&key(), &opening("hi")).await;

    assert!(
        matches!(outcome, Err(PostError::Refused(refusal)) if refusal.status == 429 && refusal.words.is_empty())
    );
}

#[tokio::test]
async fn a_post_to_a_closed_port_is_unsent() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let upstream = client(&format!("http://127.0.0.1:{port}"));

    let outcome = upstream.post(&key(), &opening("hi")).await;

    let Err(PostError::Unsent(what)) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(what.contains("onnection refused"), "{what}");
}

#[tokio::test]
async fn an_error_names_neither_the_url_nor_the_thread_nor_the_key() {
    let (url, _) = answering(Vec::new()).await;
    let thread = ThreadId("th_hidden".into());

    let error = client(&url).read(&key(), &thread).await.unwrap_err();

    let text = format!("{error} {error:?}");
    assert!(
        !text.contains("127.0.0.1") && !text.contains("th_hidden") && !text.contains("sk-test"),
        "{text}"
    );
}

#[tokio::test]
async fn a_post_takes_no_connection_that_has_idled_for_long() {
    let (url, received) = answering(http("200 OK", "", POSTED)).await;
    let upstream = client(&url);

    upstream.post(&key(), &opening("one")).await.unwrap();
    // Real time, and longer does no harm: the connection's age is what is tried here.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    upstream.post(&key(), &opening("two")).await.unwrap();

    assert_eq!((received.connections(), received.requests().len()), (2, 2));
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test that skips says so")]
async fn a_certificate_that_nobody_signed_is_told_from_other_failures_to_connect() {
    if std::panic::catch_unwind(|| client("https://localhost:1")).is_err() {
        eprintln!("skipped: this machine has no CA certificates");
        return;
    }
    let certificate = include_bytes!("localhost.crt.der").to_vec();
    let private = include_bytes!("localhost.key.der").to_vec();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], private.try_into().unwrap())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut tls = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
        let _ = stream.read(&mut [0; 64]);
    });
    let upstream = client(&format!("https://localhost:{port}"));

    let outcome = upstream.post(&key(), &opening("hi")).await;

    assert!(
        matches!(outcome, Err(PostError::Certificate(_))),
        "{outcome:?}"
    );
}
