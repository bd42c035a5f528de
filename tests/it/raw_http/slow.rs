//! Callers that take their time: each is cut, and none holds up another.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};

use super::{filled_in, listening, statuses};
use crate::proxy::{Listening, read_out};

/// Three times what the limits of [`listening`] and a busy machine add up to.
const LATEST: Duration = Duration::from_secs(10);

/// Sends a byte now and then for as long as it may; what comes back.
async fn trickled(proxy: &Listening, first: &str, byte: u8) -> Vec<u8> {
    let mut socket = proxy.connect().await;
    socket.write_all(filled_in(first).as_bytes()).await.unwrap();
    let start = Instant::now();
    while start.elapsed() < LATEST && socket.write_all(&[byte]).await.is_ok() {
        sleep(Duration::from_millis(50)).await;
    }
    read_out(&mut socket).await
}

#[tokio::test]
async fn three_hundred_slow_callers_are_cut_and_hold_up_nobody() {
    let proxy = listening().await;
    let first = [
        "",
        "GET /li",
        "{live}X-Slow: ",
        "{chat}Content-Length: 1000\r\n\r\n{",
    ];
    let start = Instant::now();

    let slow = join_all((0..300).map(|number| trickled(&proxy, first[number % 4], b'a')));
    let quick = async {
        sleep(Duration::from_millis(100)).await;
        let request = filled_in("{live}{close}");
        let asked = proxy.raw(request.as_bytes());
        timeout(Duration::from_secs(5), asked).await.unwrap()
    };
    let (slow, quick) = tokio::join!(slow, quick);

    assert_eq!(statuses(&quick), [200]);
    for (number, answer) in slow.iter().enumerate() {
        let told = statuses(answer);
        // A reset may overtake the refusal of a body.
        let expected: &[u16] = if number % 4 == 3 { &[408] } else { &[] };
        assert!(told == expected || told.is_empty(), "{number}: {told:?}");
    }
    assert!(start.elapsed() < LATEST, "{:?}", start.elapsed());
    proxy.stop().await;
}

#[tokio::test]
async fn a_slow_body_is_refused_in_words() {
    let proxy = listening().await;

    for first in [
        "{chat}Content-Length: 1000\r\n\r\n{",
        "{chat}{chunked}3e8\r\n{",
    ] {
        let answer = trickled(&proxy, first, b' ').await;

        assert_eq!(statuses(&answer), [408], "{first}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn chunks_of_one_byte_without_an_end_are_cut() {
    let proxy = listening().await;
    let mut socket = proxy.connect().await;
    let head = filled_in("{chat}{chunked}");
    socket.write_all(head.as_bytes()).await.unwrap();

    let start = Instant::now();
    while start.elapsed() < LATEST && socket.write_all(b"1\r\n \r\n").await.is_ok() {
        sleep(Duration::from_millis(20)).await;
    }
    let answer = read_out(&mut socket).await;

    assert!(start.elapsed() < LATEST);
    assert!([&[408][..], &[]].contains(&statuses(&answer).as_slice()));
    proxy.stop().await;
}
