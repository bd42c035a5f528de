//! An answer is delivered when its last byte is with the caller's socket, and not before.

use std::time::Duration;

use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Script};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::proxy::{Listening, Proxy, Setup, asking, read_out};

/// More than is read of it and the buffers of two sockets take.
const LONG: usize = 7 << 20;
const READ: usize = 1 << 20;

async fn answering(text: &str) -> Listening {
    let proxy = Proxy::start(Setup::quick());
    let behaviour = Behaviour::says(text, Duration::from_millis(50));
    proxy.sandbox.set_script(Script::always(behaviour));
    proxy.listening().await
}

async fn asked(proxy: &Listening, body: &Value, more: &str) -> TcpStream {
    let body = body.to_string();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let mut socket = socket.connect(proxy.address).await.unwrap();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

/// The decision, and whether the whole answer came.
async fn decision(proxy: &Listening, body: &Value, more: &str, text: &str) -> (String, bool) {
    let answer = read_out(&mut asked(proxy, body, more).await).await;
    let answer = String::from_utf8(answer).unwrap();
    let decision = answer.split("x-conversation-decision: ").nth(1).unwrap();
    let decision = decision.split("\r\n").next().unwrap().to_owned();
    (decision, answer.contains(text))
}

fn streaming(text: &str) -> Value {
    let mut body = asking(text);
    body["stream"] = json!(true);
    body
}

/// Until the proxy has learnt that nobody waits any more.
async fn left(proxy: &Listening) {
    let alone = async {
        while !proxy.proxy.metrics().contains("waiting_callers 0\n") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), alone).await.unwrap();
}

#[tokio::test]
async fn a_caller_that_reads_a_part_and_resets_gets_its_answer_again() {
    let text = "x".repeat(LONG);
    let proxy = answering(&text).await;
    for body in [asking("whole"), streaming("in frames")] {
        let mut socket = asked(&proxy, &body, "").await;
        socket.read_exact(&mut vec![0; READ]).await.unwrap();
        socket.set_zero_linger().unwrap();
        drop(socket);
        left(&proxy).await;

        let again = decision(&proxy, &body, "", &text).await;

        assert_eq!(again, ("attached".to_owned(), true));
    }
    assert_eq!(proxy.proxy.sandbox.posts().len(), 2);
    proxy.stop().await;
}

#[tokio::test]
async fn what_was_written_out_is_given_again_to_a_retry_alone() {
    let proxy = answering("short").await;
    for body in [asking("whole"), streaming("in frames")] {
        let posts = proxy.proxy.sandbox.posts().len();
        let mut socket = asked(&proxy, &body, "").await;
        read_out(&mut socket).await;
        left(&proxy).await;

        let marked = "x-stainless-retry-count: 1\r\n";
        let retried = decision(&proxy, &body, marked, "short").await;
        left(&proxy).await;
        let again = decision(&proxy, &body, "", "short").await;

        assert_eq!(retried, ("attached".to_owned(), true));
        assert_eq!(again, ("created".to_owned(), true));
        assert_eq!(proxy.proxy.sandbox.posts().len(), posts + 2);
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_caller_that_shuts_its_own_side_still_gets_its_answer_or_it_is_kept() {
    let proxy = answering("short").await;
    let body = asking("half closed");
    let mut socket = asked(&proxy, &body, "").await;
    socket.shutdown().await.unwrap();

    let answer = String::from_utf8(read_out(&mut socket).await).unwrap();
    left(&proxy).await;
    let again = decision(&proxy, &body, "", "short").await;

    let was_answered = answer.contains("short");
    let expected = if was_answered { "created" } else { "attached" };
    assert_eq!(again, (expected.to_owned(), true), "{answer}");
    proxy.stop().await;
}
