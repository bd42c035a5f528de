//! Callers that wait and runs under way are bounded, in all and by key.

use std::time::Duration;

use axum::body::Body;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Post, Script};
use futures_util::future::join_all;
use futures_util::{FutureExt, stream};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::{asks, counted, question, shared};
use crate::proxy::{Proxy, prompt};
use crate::talk::{said, seconds, told};

fn seats(in_all: usize, per_key: usize) -> Proxy {
    shared(|setup| {
        setup.config.server.max_waiting = in_all;
        setup.config.server.max_waiting_per_key = per_key;
    })
}

/// Callers that wait for good, until this is dropped.
fn waiting<'a>(proxy: &'a Proxy, caller: &'a str, count: usize) -> impl Future + 'a {
    let asked = (0..count).map(move |n| async move {
        let text = format!("{} {n}", prompt::SILENT);
        proxy.send(question(caller, &text)).await
    });
    let mut all = Box::pin(join_all(asked));
    assert!((&mut all).now_or_never().is_none());
    all
}

#[tokio::test(start_paused = true)]
async fn a_key_that_has_its_share_of_seats_is_told_to_come_back() {
    let proxy = seats(100, 3);
    let held = waiting(&proxy, "a", 3);

    let fourth = asks(&proxy, "a", "hello").await;
    let other = asks(&proxy, "b", "hello").await;
    drop(held);
    let again = asks(&proxy, "a", "hello").await;

    assert!(told(&fourth).starts_with("429 rate_limit_error too_many_waiting retry-after="));
    assert_eq!((said(&other), said(&again)), ("hello", "hello"));
    assert_eq!(counted(&proxy, r#"shed_total{whose="key"}"#), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_proxy_is_overloaded_for_those_who_hold_nothing() {
    let proxy = seats(2, 1);
    let _held = (waiting(&proxy, "a", 1), waiting(&proxy, "b", 1));

    let third = asks(&proxy, "c", "hello").await;

    assert!(told(&third).starts_with("503 server_error overloaded retry-after="));
    assert_eq!(counted(&proxy, r#"shed_total{whose="all"}"#), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_who_floods_keeps_others_out() {
    let proxy = seats(50, 50);
    let asked = (0..200).map(|n| {
        let text = format!("{} {n}", prompt::SILENT);
        let proxy = &proxy;
        async move { asks(proxy, "a", &text).await }
    });
    let mut flood = Box::pin(join_all(asked));
    assert!((&mut flood).now_or_never().is_none());

    for caller in ["b", "c", "d", "e"] {
        assert_eq!(said(&asks(&proxy, caller, "hello").await), "hello");
    }
    assert_eq!(counted(&proxy, "waiting_callers"), 40);
}

#[tokio::test(start_paused = true)]
async fn those_who_are_turned_away_do_not_come_back_together_nor_late() {
    let proxy = seats(100, 1);
    let _held = waiting(&proxy, "a", 1);

    let mut waits = Vec::new();
    for _ in 0..10 {
        let reply = asks(&proxy, "a", "hello").await;
        waits.push(reply.header("retry-after").parse::<u64>().unwrap());
    }

    assert!(waits.iter().all(|wait| (2..=6).contains(wait)), "{waits:?}");
    waits.sort_unstable();
    waits.dedup();
    assert_eq!(waits.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_long_body_is_read_for_whoever_is_turned_away() {
    let proxy = seats(100, 1);
    let _held = waiting(&proxy, "a", 1);
    let (mut head, _) = question("a", "").into_parts();
    head.headers.insert("content-length", 5_000_000.into());
    let never = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());

    let asked = proxy.ask(Request::from_parts(head, never));
    let reply = timeout(Duration::from_millis(1), asked).await.unwrap();

    assert_eq!(reply.code(), "too_many_waiting");
    assert_eq!(reply.header("connection"), "close");
}

#[tokio::test(start_paused = true)]
async fn long_bodies_count_for_more() {
    let proxy = seats(100, 40);
    let long = |caller| question(caller, &"x".repeat(5 * 1024 * 1024));
    let mut waits = Box::pin(proxy.ask(long("a")));
    assert!((&mut waits).now_or_never().is_none());

    let second = proxy.ask(long("a")).await;

    assert_eq!(second.code(), "too_many_waiting");
    assert_eq!(waits.await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_length_is_not_told_counts_for_what_it_was_once_it_is_read() {
    let proxy = seats(1000, 500);
    let chunked = |n: usize| {
        let (head, body) = question("a", &format!("{} {n}", prompt::SILENT)).into_parts();
        Request::from_parts(head, Body::from_stream(body.into_data_stream()))
    };
    let mut waits = Vec::new();
    for n in 0..20 {
        let mut asked = Box::pin(proxy.ask(chunked(n)));
        assert!((&mut asked).now_or_never().is_none(), "{n} is answered");
        waits.push(asked);
    }

    assert_eq!(counted(&proxy, "waiting_callers"), 20);
    assert_eq!(said(&asks(&proxy, "a", "hello").await), "hello");
}

#[tokio::test]
async fn a_caller_that_is_turned_away_keeps_its_connection() {
    let proxy = seats(100, 1).listening().await;
    let text = |text: &str| {
        let body =
            format!(r#"{{"model": "m", "messages": [{{"role": "user", "content": "{text}"}}]}}"#);
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-a\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut first = proxy.connect().await;
    first
        .write_all(text(prompt::SILENT).as_bytes())
        .await
        .unwrap();
    let until_waiting = async {
        while counted(&proxy.proxy, "waiting_callers") == 0 {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(seconds(20), until_waiting).await.unwrap();

    let mut second = proxy.connect().await;
    for _ in 0..3 {
        second.write_all(text("hello").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}}") {
            let mut byte = [0];
            let read = timeout(seconds(20), second.read_exact(&mut byte)).await;
            read.unwrap().unwrap();
            answer.push(byte[0]);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn runs_that_nobody_waits_for_are_bounded_too() {
    let proxy = shared(|setup| {
        setup.config.run.max_active = 8;
        setup.config.run.max_active_per_key = 4;
        setup.config.run.limit = seconds(1000);
    });
    drop(waiting(&proxy, "a", 4));
    assert_eq!(counted(&proxy, "waiting_callers"), 0);
    assert_eq!(counted(&proxy, "runs_active"), 4);

    let fifth = asks(&proxy, "a", "hello").await;
    let other = asks(&proxy, "b", "hello").await;
    sleep(seconds(1100)).await;
    let later = asks(&proxy, "a", "hello").await;

    assert_eq!(
        told(&fifth),
        "429 rate_limit_error too_many_waiting retry-after=5"
    );
    assert_eq!(proxy.sandbox.posts().len(), 6, "nothing of it was posted");
    assert_eq!((said(&other), said(&later)), ("hello", "hello"));
    assert_eq!(counted(&proxy, "runs_active"), 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_attaches_to_a_run_needs_no_further_one() {
    let proxy = shared(|setup| setup.config.run.max_active = 1);
    let left = timeout(seconds(1), asks(&proxy, "a", "hello")).await;
    assert!(left.is_err());

    let again = asks(&proxy, "a", "hello").await;

    assert_eq!(said(&again), "hello");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_connection_upstream_is_bounded_by_time() {
    let proxy = shared(|setup| {
        // Two of them for new messages, at most.
        setup.config.upstream.max_connections = 3;
        setup.config.upstream.queue_timeout = seconds(3);
    });
    let slow = Behaviour {
        post: Post {
            accept_after: seconds(2),
            ..Post::default()
        },
        ..Behaviour::says("hi", seconds(1))
    };
    proxy.sandbox.set_script(Script::always(slow));

    let texts: Vec<String> = (0..6).map(|n| format!("question {n}")).collect();
    let replies = join_all(texts.iter().map(|text| asks(&proxy, "a", text))).await;

    let overloaded = replies.iter().filter(|reply| reply.code() == "overloaded");
    assert_eq!(overloaded.clone().count(), 2);
    assert!(
        overloaded
            .into_iter()
            .all(|reply| reply.header("retry-after") == "5")
    );
    assert_eq!(proxy.sandbox.posts().len(), 4);
}
