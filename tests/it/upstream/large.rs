//! Answers so long that only few of them are held at once, and what that means for the others.

use std::time::Duration;

use chaturdata_proxy::upstream::chaturdata::ChatUrData;
use chaturdata_proxy::upstream::{Busy, PostError, ReadError, Thread, ThreadId, Upstream};
use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::chaturdata::{POSTED, zipped};
use super::peer::{bounded, choosing, http};
use super::{following, key, opening};

const MAX_BODY: usize = 4 * 1024 * 1024;
const LONG: usize = 512 * 1024;
const LONGEST: usize = 2 * 1024 * 1024;

fn padded(text: &[u8], length: usize) -> Vec<u8> {
    [text, &vec![b' '; length - text.len()]].concat()
}

fn unended(mut answer: Vec<u8>) -> Vec<u8> {
    answer.pop();
    answer
}

/// By the thread that the request names: what comes for it.
fn answer(head: &str) -> Vec<u8> {
    const GZIP: &str = "Content-Encoding: gzip\r\n";
    const SHOWN: &[u8] = br#"{"messages":[],"run_status":"completed"}"#;
    let thread = head.split_once("threadId=").map_or("", |(_, rest)| rest);
    match thread.split(' ').next().unwrap_or_default() {
        "slow" => unended(http("200 OK", "", &padded(SHOWN, LONG))),
        "slowest" => unended(http("200 OK", "", &padded(SHOWN, LONGEST))),
        "longest" => http("200 OK", "", &padded(SHOWN, LONGEST)),
        "longest-zipped" => http("200 OK", GZIP, &zipped(&padded(SHOWN, LONGEST))),
        "long" => http("200 OK", "", &padded(SHOWN, LONG)),
        "zipped" => http("200 OK", GZIP, &zipped(SHOWN)),
        "long-zipped" => http("200 OK", GZIP, &zipped(&padded(SHOWN, LONG))),
        "" if head.contains("content-length: 16\r\n") => http("200 OK", GZIP, &zipped(POSTED)),
        _ => http("200 OK", GZIP, &zipped(&padded(POSTED, LONG))),
    }
}

async fn read(upstream: &ChatUrData, thread: &str) -> Result<Thread, ReadError> {
    upstream.read(&key(), &ThreadId(thread.into())).await
}

/// The outcome while so many long answers do not come to their end.
async fn beside<T>(upstream: &ChatUrData, slow: &[&str], outcome: impl Future<Output = T>) -> T {
    let slow = join_all(slow.iter().map(|thread| read(upstream, thread)));
    let outcome = async {
        // Real time, and longer does no harm: by then the long answers are there but for their end.
        sleep(Duration::from_millis(500)).await;
        timeout(Duration::from_secs(10), outcome).await
    };
    tokio::select! {
        outcome = outcome => outcome.expect("it waits for others"),
        slow = slow => panic!("{slow:?}"),
    }
}

#[tokio::test]
async fn a_short_answer_waits_for_no_long_one_though_it_is_zipped() {
    let upstream = bounded(&choosing(answer).await, MAX_BODY as u64);
    let (key, message) = (key(), opening("hi"));
    let both = async {
        let posted = upstream.post(&key, &message).await;
        (posted, read(&upstream, "zipped").await)
    };

    let (posted, read) = beside(&upstream, &["slow"; 5], both).await;

    assert_eq!(
        posted.map(|posted| posted.thread.to_string()),
        Ok("th_1".to_owned())
    );
    assert!(read.is_ok(), "{read:?}");
}

#[tokio::test]
async fn a_few_long_answers_keep_none_of_the_others_waiting() {
    let upstream = bounded(&choosing(answer).await, MAX_BODY as u64);

    for thread in ["long", "long-zipped"] {
        let read = beside(
            &upstream,
            &["slow", "slow", "slowest"],
            read(&upstream, thread),
        )
        .await;

        assert!(read.is_ok(), "{thread}: {read:?}");
    }
}

#[tokio::test]
async fn a_long_answer_to_a_post_is_unknown_and_waits_for_nobody() {
    let upstream = bounded(&choosing(answer).await, MAX_BODY as u64);
    let thread = ThreadId("th_1".into());
    let (key, message) = (key(), following(&thread, "hi"));

    let posted = beside(&upstream, &["slow"; 5], upstream.post(&key, &message)).await;

    assert_eq!(
        posted,
        Err(PostError::Unknown("its answer is too large".to_owned()))
    );
}

#[tokio::test]
async fn the_longest_answers_are_read_one_at_a_time_and_the_others_later() {
    let upstream = bounded(&choosing(answer).await, MAX_BODY as u64);

    for thread in ["longest", "longest-zipped"] {
        let alone = read(&upstream, thread).await;
        let second = beside(&upstream, &["slowest"], read(&upstream, thread)).await;

        assert!(alone.is_ok(), "{thread}: {alone:?}");
        assert_eq!(second, Err(ReadError::Busy(Busy::HERE)), "{thread}");
    }
}
