//! When a thread is read: at fixed times, never too close, never after the end.

use std::time::Duration;

use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Post, Script};
use tokio::time::{Instant, sleep};

use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, calls, said, seconds, soon};

/// When the threads were read, in milliseconds since `start`.
fn reads_since(proxy: &Proxy, start: Instant) -> Vec<u128> {
    let calls = calls(proxy, Kind::Read).into_iter();
    let since = calls.filter(|call| call.at >= start);
    since.map(|call| (call.at - start).as_millis()).collect()
}

async fn reads_of(behaviour: Behaviour, setup: Setup) -> Vec<u128> {
    let proxy = Proxy::start(setup);
    let mut talk = Talk::new(&proxy);
    let start = Instant::now();
    talk.is_met("hello", behaviour).await;
    let reads = reads_since(&proxy, start);
    sleep(Duration::from_hours(1)).await;
    assert_eq!(reads_since(&proxy, start), reads, "no poll after the end");
    reads
}

fn paced(interval: Duration, min_gap: Duration) -> Setup {
    let mut setup = Setup::default();
    setup.config.pace.interval = interval;
    setup.config.pace.min_gap = min_gap;
    setup
}

#[tokio::test(start_paused = true)]
async fn the_first_poll_comes_after_the_least_gap_and_the_others_after_the_interval() {
    let run = || Behaviour::says("at last", seconds(13));

    let vendors = reads_of(run(), Setup::default()).await;
    let own = reads_of(run(), paced(seconds(5), Duration::from_millis(500))).await;
    let tight = reads_of(run(), paced(seconds(4), seconds(4))).await;

    assert_eq!(vendors, [2000, 5000, 8000, 11_000, 14_000]);
    assert_eq!(own, [500, 5500, 10_500, 15_500]);
    assert_eq!(tight, [4000, 8000, 12_000, 16_000]);
}

#[tokio::test(start_paused = true)]
async fn polls_are_spaced_from_the_answers_on_where_calls_take_long() {
    let slow = Behaviour {
        post: Post {
            accept_after: seconds(4),
            answer_after: seconds(1),
            ..Post::default()
        },
        read_delay: seconds(7),
        ..Behaviour::says("at last", seconds(20))
    };

    let reads = reads_of(slow, Setup::default()).await;

    // The POST is answered after 5 s, each read after 7 s.
    assert_eq!(reads, [7000, 17_000]);
}

#[tokio::test(start_paused = true)]
async fn a_post_that_answers_completed_is_read_at_once() {
    let done = |status: &str, ending: &str| Behaviour {
        ending: ending.to_owned(),
        post: Post {
            status: Some(status.to_owned()),
            ..Post::default()
        },
        reply_after: Some(Duration::ZERO),
        ..soon("there")
    };

    assert_eq!(
        reads_of(done("completed", "completed"), Setup::default()).await,
        [0]
    );
    assert_eq!(
        reads_of(done("incomplete", "incomplete"), Setup::default()).await,
        [0]
    );
    assert_eq!(
        reads_of(done("in_progress", "completed"), Setup::default()).await,
        [2000]
    );
}

#[tokio::test(start_paused = true)]
async fn a_post_that_answers_completed_too_early_is_polled_on_at_the_same_pace() {
    let stale = Behaviour {
        post: Post {
            status: Some("completed".to_owned()),
            ..Post::default()
        },
        ..Behaviour::says("there", seconds(7))
    };

    assert_eq!(
        reads_of(stale, Setup::default()).await,
        [0, 3000, 6000, 9000]
    );
}

#[tokio::test(start_paused = true)]
async fn a_turn_on_a_known_thread_is_posted_without_a_read_before() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    for turn in 0..5 {
        let start = Instant::now();
        talk.is_met("hello", soon("hi")).await;

        assert_eq!(reads_since(&proxy, start), [2000], "turn {turn}");
        assert_eq!(calls(&proxy, Kind::Post).last().unwrap().at, start);
        sleep(seconds(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_runs_are_each_polled_at_their_own_pace() {
    let proxy = Proxy::start(Setup::default());
    proxy
        .sandbox
        .set_script(Script::always(Behaviour::says("hi", seconds(9))));
    let start = Instant::now();

    let late = async {
        sleep(seconds(1)).await;
        Talk::new(&proxy).says("late").await
    };
    let mut early = Talk::new(&proxy);
    let (early, late) = tokio::join!(early.says("early"), late);

    assert_eq!((said(&early), said(&late)), ("hi", "hi"));
    let of = |thread: usize| {
        let reads = proxy.sandbox.reads(&proxy.sandbox.threads()[thread]);
        let since = reads.iter().map(|at| (*at - start).as_secs());
        since.collect::<Vec<u64>>()
    };
    assert_eq!(of(0), [2, 5, 8, 11]);
    assert_eq!(of(1), [3, 6, 9, 12]);
}

#[tokio::test(start_paused = true)]
async fn whoever_joins_a_run_causes_no_polls() {
    let proxy = Proxy::start(Setup::default());
    proxy
        .sandbox
        .set_script(Script::always(Behaviour::says("hi", seconds(9))));
    let start = Instant::now();
    let talk = || Talk::new(&proxy).header("idempotency-key", "k-1");

    let (mut a, mut b, mut c) = (talk(), talk(), talk());
    let replies = tokio::join!(a.says("hello"), b.says("hello"), c.says("hello"));

    assert_eq!(said(&replies.0), "hi");
    assert_eq!(said(&replies.1), "hi");
    assert_eq!(said(&replies.2), "hi");
    assert_eq!(reads_since(&proxy, start), [2000, 5000, 8000, 11_000]);
    assert_eq!(proxy.sandbox.posts().len(), 1);
}
