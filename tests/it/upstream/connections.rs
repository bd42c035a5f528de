//! The connections to the upstream: when one is used again, and when it must not be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chaturdata_proxy::upstream::chaturdata::ChatUrData;
use chaturdata_proxy::upstream::{PostError, ThreadId, Upstream};
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use super::chaturdata::POSTED;
use super::peer::{MAX_BODY, answering, client, http, listener, request, settings, spawn};
use super::{key, opening};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(10);

fn through(proxy: &str, url: &str) -> ChatUrData {
    let mut settings = settings(url, MAX_BODY);
    settings.proxy = Some(proxy.to_owned());
    ChatUrData::new(&settings).unwrap()
}

/// A server that answers so many requests on each connection, and then closes it without having said so.
async fn closing_after(requests: usize) -> (String, Arc<AtomicUsize>) {
    let (listener, url) = listener().await;
    let connections = Arc::new(AtomicUsize::new(0));
    let seen = connections.clone();
    spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::Relaxed);
            for _ in 0..requests {
                if request(&mut stream).await.is_none() {
                    break;
                }
                stream.write_all(&http("200 OK", "", POSTED)).await.unwrap();
            }
            // By now the connection has been put aside for the next call.
            sleep(Duration::from_millis(5)).await;
        }
    });
    (url, connections)
}

#[tokio::test]
async fn a_connection_is_used_for_one_call_after_the_other() {
    let (url, connections) = closing_after(usize::MAX).await;
    let upstream = client(&url);

    for _ in 0..20 {
        upstream.post(&key(), &opening("hi")).await.unwrap();
    }

    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_connection_that_its_peer_has_closed_is_not_used() {
    let (url, connections) = closing_after(2).await;
    let upstream = client(&url);

    for _ in 0..10 {
        upstream.post(&key(), &opening("hi")).await.unwrap();
        // For the end of the connection to arrive; the longer, the surer.
        sleep(Duration::from_millis(50)).await;
    }

    assert_eq!(connections.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn what_follows_an_answer_is_no_answer_to_the_next_call() {
    let mut answers = http("200 OK", "", POSTED);
    answers.extend(http("401 Unauthorized", "", b"{}"));
    let (url, received) = answering(answers).await;
    let upstream = client(&url);

    for _ in 0..3 {
        upstream.post(&key(), &opening("hi")).await.unwrap();
    }

    assert_eq!(received.connections(), 3);
}

#[tokio::test]
async fn the_answer_to_a_call_that_was_given_up_reaches_no_other() {
    let (listener, url) = listener().await;
    spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = request(&mut stream).await;
            if held.is_empty() {
                held.push(stream);
            } else {
                let thread = http("200 OK", "", br#"{"messages":[]}"#);
                stream.write_all(&thread).await.unwrap();
                // Only now, when the second caller has its answer.
                held[0].write_all(&http("404 X", "", b"")).await.unwrap();
                held.push(stream);
            }
        }
    });
    let upstream = client(&url);
    let thread = ThreadId("th_1".into());

    let given_up = timeout(Duration::from_millis(50), upstream.read(&key(), &thread)).await;
    let next = upstream.read(&key(), &thread).await;

    assert!(given_up.is_err());
    assert!(next.is_ok(), "{next:?}");
}

#[tokio::test]
async fn a_connection_that_nobody_needs_is_closed() {
    let (listener, url) = listener().await;
    let ended = Arc::new(tokio::sync::Notify::new());
    let seen = ended.clone();
    spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while request(&mut stream).await.is_some() {
            stream.write_all(&http("200 OK", "", POSTED)).await.unwrap();
        }
        seen.notify_one();
    });
    let upstream = client(&url);

    upstream.post(&key(), &opening("hi")).await.unwrap();

    assert!(timeout(LONG, ended.notified()).await.is_ok());
}

#[tokio::test]
async fn calls_go_through_the_proxy_that_is_set() {
    let (proxy, received) = answering(http("200 OK", "", POSTED)).await;
    let upstream = through(&proxy, "http://127.0.0.1:9/prefix");
    let thread = ThreadId("th 1".into());

    upstream.post(&key(), &opening("hi")).await.unwrap();
    let read = upstream.read(&key(), &thread).await;

    assert!(read.is_ok(), "{read:?}");
    let requests = received.requests();
    let lines: Vec<_> = requests.iter().filter_map(|r| r.lines().next()).collect();
    assert_eq!(
        lines,
        [
            "POST http://127.0.0.1:9/prefix/api/newMessage HTTP/1.1",
            "GET http://127.0.0.1:9/prefix/api/getThread?threadId=th%201 HTTP/1.1"
        ]
    );
    assert!(requests[0].contains("authorization: Bearer sk-test"));
    assert!(requests[0].ends_with(r#"{"message":"hi"}"#));
}

#[tokio::test]
async fn a_proxy_that_is_not_there_or_breaks_off_is_told_apart() {
    let gone = listener().await.1;
    let (breaking, _) = answering(Vec::new()).await;

    let unsent = through(&gone, "http://127.0.0.1:9");
    let unsent = unsent.post(&key(), &opening("hi")).await;
    let unknown = through(&breaking, "http://127.0.0.1:9");
    let unknown = unknown.post(&key(), &opening("hi")).await;

    assert!(matches!(unsent, Err(PostError::Unsent(_))), "{unsent:?}");
    assert!(matches!(unknown, Err(PostError::Unknown(_))), "{unknown:?}");
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test that skips says so")]
async fn what_is_secret_goes_through_a_proxy_in_a_tunnel() {
    let (proxy, received) = answering(http("502 Bad Gateway", "", b"")).await;
    if std::panic::catch_unwind(|| through(&proxy, "https://localhost:9")).is_err() {
        eprintln!("skipped: this machine has no CA certificates");
        return;
    }

    let outcome = through(&proxy, "https://localhost:9")
        .post(&key(), &opening("hi"))
        .await;

    assert!(matches!(outcome, Err(PostError::Unsent(_))), "{outcome:?}");
    let requests = received.requests();
    assert!(requests[0].starts_with("CONNECT localhost:9 HTTP/1.1\r\n"));
    assert!(!requests.concat().contains("sk-test"));
}
