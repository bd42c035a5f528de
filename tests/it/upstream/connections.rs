//! The connections to the upstream: when one is used again, and when it must not be.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chaturdata_proxy::upstream::chaturdata::ChatUrData;
use chaturdata_proxy::upstream::{PostError, ThreadId, Upstream};
use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::task::consume_budget;
use tokio::time::{sleep, timeout};

use super::chaturdata::POSTED;
use super::peer::{
    MAX_BODY, answering, choosing, client, http, listener, request, settings, spawn,
};
use super::{key, opening};

/// An answer to a new message, and to a read as well.
const BOTH: &[u8] = br#"{"thread_id":"th_1","run_status":{"status":"in_progress"},"messages":[]}"#;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(10);

fn through(proxy: &str, url: &str) -> ChatUrData {
    let mut settings = settings(url, MAX_BODY);
    settings.proxy = Some(proxy.to_owned());
    ChatUrData::new(&settings).unwrap()
}

/// A server that answers so many requests on each connection, and closes it once `close` is told, without
/// having said so; how many connections there were, and who is told that one was closed.
async fn closing_after(requests: usize) -> (String, Arc<AtomicUsize>, [Arc<Notify>; 2]) {
    let (listener, url) = listener().await;
    let connections = Arc::new(AtomicUsize::new(0));
    let [close, closed]: [Arc<Notify>; 2] = std::array::from_fn(|_| Arc::default());
    let (seen, told) = (connections.clone(), [close.clone(), closed.clone()]);
    spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::Relaxed);
            for _ in 0..requests {
                if request(&mut stream).await.is_none() {
                    break;
                }
                stream.write_all(&http("200 OK", "", POSTED)).await.unwrap();
            }
            close.notified().await;
            drop(stream);
            closed.notify_one();
        }
    });
    (url, connections, told)
}

/// How many connections a server has, has had at once, and has had.
#[derive(Debug, Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
    opened: AtomicUsize,
}

/// A server that takes its time to close a connection that its peer has closed.
async fn closing_late() -> (String, Arc<Counts>) {
    let (listener, url) = listener().await;
    let counts = Arc::new(Counts::default());
    let seen = counts.clone();
    spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
            seen.opened.fetch_add(1, Ordering::Relaxed);
            let now = seen.now.fetch_add(1, Ordering::Relaxed) + 1;
            seen.most.fetch_max(now, Ordering::Relaxed);
            spawn(async move {
                while request(&mut stream).await.is_some() {
                    stream.write_all(&http("200 OK", "", BOTH)).await.unwrap();
                }
                sleep(Duration::from_millis(20)).await;
                seen.now.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    (url, counts)
}

fn with_connections(url: &str, most: usize) -> ChatUrData {
    let mut settings = settings(url, MAX_BODY);
    settings.max_connections = most;
    ChatUrData::new(&settings).unwrap()
}

/// So many reads at once, whose connections no new message takes any more.
async fn read_at_once(upstream: &ChatUrData, count: usize) {
    let (key, thread) = (key(), ThreadId("th_1".into()));
    let reads = (0..count).map(|_| upstream.read(&key, &thread));
    assert!(join_all(reads).await.iter().all(Result::is_ok));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    tokio::time::resume();
}

/// A server that sends one answer in these pieces, for each request.
async fn in_pieces(pieces: Vec<Vec<u8>>) -> String {
    let (listener, url) = listener().await;
    spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let pieces = pieces.clone();
            spawn(async move {
                while request(&mut stream).await.is_some() {
                    for piece in &pieces {
                        stream.write_all(piece).await.unwrap();
                        // So that each comes by itself; what is tried holds however they come.
                        sleep(Duration::from_millis(2)).await;
                    }
                }
            });
        }
    });
    url
}

fn messages(text: &str) -> String {
    let content = format!(r#"[{{"type":"text","text":{{"value":"{text}"}}}}]"#);
    format!(r#"{{"messages":[{{"role":"user","content":{content}}}]}}"#)
}

/// `text` as a body in chunks of so many bytes, with a trailer.
fn chunked(text: &str, bytes: usize) -> Vec<Vec<u8>> {
    let chunks = text.as_bytes().chunks(bytes);
    let mut pieces = vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()];
    pieces.extend(chunks.map(|chunk| {
        let mut piece = format!("{:x}\r\n", chunk.len()).into_bytes();
        piece.extend_from_slice(chunk);
        piece.extend_from_slice(b"\r\n");
        piece
    }));
    pieces.push(b"0\r\nX-Trailer: x\r\n\r\n".to_vec());
    pieces
}

#[tokio::test]
async fn a_connection_is_used_for_one_call_after_the_other() {
    let (url, connections, _) = closing_after(usize::MAX).await;
    let upstream = client(&url);

    for _ in 0..20 {
        upstream.post(&key(), &opening("hi")).await.unwrap();
    }

    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn reads_and_new_messages_share_connections() {
    let (url, received) = answering(http("200 OK", "", BOTH)).await;
    let upstream = client(&url);

    for _ in 0..5 {
        upstream.post(&key(), &opening("hi")).await.unwrap();
        upstream
            .read(&key(), &ThreadId("th_1".into()))
            .await
            .unwrap();
    }

    assert_eq!(received.connections(), 1);
}

/// It may be closed a moment later, and it would not be known of a message on it whether it was taken.
#[tokio::test]
async fn a_connection_that_a_refusal_came_over_carries_reads_alone() {
    let (url, received) = answering(http("429 Too Many Requests", "", b"{}")).await;
    let upstream = client(&url);
    let (key, thread) = (key(), ThreadId("th_1".into()));

    upstream.read(&key, &thread).await.unwrap_err();
    upstream.post(&key, &opening("hi")).await.unwrap_err();
    assert_eq!(received.connections(), 2);
    upstream.read(&key, &thread).await.unwrap_err();
    assert_eq!(received.connections(), 2);
}

/// A new message wants a connection that was used a moment ago, and reads have left older ones.
#[tokio::test]
async fn a_connection_is_opened_beside_idle_ones() {
    let (url, counts) = closing_late().await;
    let upstream = with_connections(&url, 4);

    read_at_once(&upstream, 2).await;
    for _ in 0..3 {
        upstream.post(&key(), &opening("hi")).await.unwrap();
    }

    assert_eq!(counts.opened.load(Ordering::Relaxed), 3);
    assert_eq!(counts.now.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_peer_never_has_more_connections_than_there_may_be() {
    let (url, counts) = closing_late().await;
    let upstream = with_connections(&url, 4);

    read_at_once(&upstream, 3).await;
    let (key, text) = (key(), opening("hi"));
    let posts = (0..4).map(|_| upstream.post(&key, &text));
    assert!(join_all(posts).await.iter().all(Result::is_ok));

    assert_eq!(counts.opened.load(Ordering::Relaxed), 7);
    assert_eq!(counts.most.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_connection_that_its_peer_has_closed_is_not_used() {
    let (url, connections, [close, closed]) = closing_after(2).await;
    let upstream = client(&url);

    for _ in 0..5 {
        upstream.post(&key(), &opening("hi")).await.unwrap();
        upstream.post(&key(), &opening("hi")).await.unwrap();
        close.notify_one();
        closed.notified().await;
        // Whatever came is taken in when the runtime has nothing else to do.
        sleep(Duration::from_millis(1)).await;
    }

    assert_eq!(connections.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn an_answer_may_come_in_any_pieces() {
    let text = messages("in pieces");
    let whole = http("200 OK", "", text.as_bytes());
    let bytes = |bytes| whole.chunks(bytes).map(<[u8]>::to_vec).collect();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
    let table: [(&str, Vec<Vec<u8>>); 6] = [
        ("whole", vec![whole.clone()]),
        ("a few bytes at a time", bytes(7)),
        (
            "the head alone first",
            vec![head.into_bytes(), text.clone().into_bytes()],
        ),
        ("in chunks", chunked(&text, 20)),
        (
            "in chunks that come together",
            vec![chunked(&text, 20).concat()],
        ),
        ("after a hint", {
            let mut hinted = vec![b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec()];
            hinted.extend(chunked(&text, 30));
            hinted
        }),
    ];

    for (what, pieces) in table {
        let upstream = client(&in_pieces(pieces).await);
        for _ in 0..3 {
            let read = timeout(LONG, upstream.read(&key(), &ThreadId("th_1".into()))).await;
            let texts: Vec<_> = read.unwrap().unwrap().messages;
            assert_eq!(texts[0].text, "in pieces", "{what}");
        }
    }
}

/// A task that has been busy may look once more, or a few times; then tokio lets others go first.
#[tokio::test]
async fn an_answer_is_found_by_a_task_that_has_been_busy() {
    let [head, chunks @ ..] = &chunked(&messages("busy"), 20)[..] else {
        unreachable!("there is a head")
    };
    // The head comes with a chunk, and the rest of the body later.
    let first = [head.as_slice(), &chunks[0]].concat();
    let url = in_pieces(vec![first, chunks[1..].concat()]).await;
    let upstream = client(&url);
    let thread = ThreadId("th_1".into());
    upstream.read(&key(), &thread).await.unwrap();

    for busy in 0..128 {
        let key = key();
        let mut read = upstream.read(&key, &thread);
        let busily = poll_fn(|cx| {
            for _ in 0..busy {
                let _ = pin!(consume_budget()).poll(cx);
            }
            read.as_mut().poll(cx)
        });
        let read = timeout(LONG, busily).await;
        assert!(matches!(read, Ok(Ok(_))), "after {busy}: {read:?}");
    }
}

#[tokio::test]
async fn calls_at_once_have_each_their_own_answer() {
    let url = choosing(|head| {
        let (_, thread) = head.split_once("threadId=").unwrap();
        let thread = thread.split(' ').next().unwrap();
        http("200 OK", "", messages(thread).as_bytes())
    })
    .await;
    let upstream = client(&url);

    for _ in 0..20 {
        let threads = (0..50).map(|number| ThreadId(format!("th_{number}").into()));
        let reads = threads.map(|thread| {
            let upstream = &upstream;
            async move {
                let shown = upstream.read(&key(), &thread).await.unwrap();
                assert_eq!(shown.messages[0].text, *thread.0);
            }
        });
        join_all(reads).await;
    }
}

#[tokio::test]
async fn an_answer_that_came_before_its_question_was_sent_ends_the_connection() {
    let (listener, url) = listener().await;
    let connections = Arc::new(AtomicUsize::new(0));
    let seen = connections.clone();
    spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::Relaxed);
            // Nothing of the body is read, and it fits no socket's buffer.
            stream.readable().await.unwrap();
            stream.write_all(&http("413 X", "", b"")).await.unwrap();
            held.push(stream);
        }
    });
    let upstream = client(&url);
    let long = opening(&"x".repeat(32 << 20));

    for _ in 0..2 {
        let outcome = timeout(LONG, upstream.post(&key(), &long)).await.unwrap();
        assert!(
            matches!(&outcome, Err(PostError::Refused(refusal)) if refusal.status == 413),
            "{outcome:?}"
        );
    }

    assert_eq!(connections.load(Ordering::Relaxed), 2);
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
    let asked = Arc::new(Notify::new());
    let given_up = Arc::new(Notify::new());
    let (seen, go_on) = (asked.clone(), given_up.clone());
    spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        request(&mut first).await.unwrap();
        seen.notify_one();
        go_on.notified().await;
        // It may be refused: the connection of a call that was given up is closed.
        let _ = first.write_all(&http("404 X", "", b"")).await;
        let (mut second, _) = listener.accept().await.unwrap();
        while request(&mut second).await.is_some() {
            let thread = http("200 OK", "", messages("its own").as_bytes());
            second.write_all(&thread).await.unwrap();
        }
    });
    let upstream = client(&url);
    let key = key();
    let thread = ThreadId("th_1".into());
    let read = || timeout(LONG, upstream.read(&key, &thread));

    tokio::select! {
        read = read() => panic!("nobody has answered {read:?}"),
        () = asked.notified() => {}
    }
    given_up.notify_one();

    for _ in 0..2 {
        let shown = read().await.unwrap().unwrap();
        assert_eq!(shown.messages[0].text, "its own");
    }
}

#[tokio::test]
async fn a_connection_that_nobody_needs_is_closed() {
    let (listener, url) = listener().await;
    let ended = Arc::new(Notify::new());
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
    assert!(requests[0].contains("user-agent: chaturdata-proxy/"));
    assert!(!requests.concat().contains("sk-test"));
}
