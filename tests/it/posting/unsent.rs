//! A POST that never left: tried again for a while, and then told.

use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Answer, Behaviour, Post, Script};
use tokio::time::Instant;

use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, answers, calls, decision, first, posted, said, seconds, soon, told};

#[tokio::test(start_paused = true)]
async fn a_post_that_never_leaves_is_tried_three_times_and_then_told() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let started = Instant::now();

    let reply = talk.is_met("hello", answers(Answer::Unreachable)).await;

    assert_eq!(
        told(&reply),
        "502 server_error upstream_unreachable retry-after=1"
    );
    assert_eq!(calls(&proxy, Kind::Post).len(), 3);
    assert!(started.elapsed() <= seconds(10));
    assert!(proxy.sandbox.posts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_post_that_leaves_at_the_third_try_is_posted_once() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    proxy
        .sandbox
        .set_script(first(2, answers(Answer::Unreachable), soon("hi")));

    let reply = talk.says("hello").await;

    assert_eq!((said(&reply), decision(&reply)), ("hi", "created"));
    assert_eq!(posted(&proxy), [["hello"]]);
}

#[tokio::test(start_paused = true)]
async fn tries_that_take_long_are_fewer() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let started = Instant::now();

    let reply = talk
        .is_met(
            "hello",
            Behaviour {
                post: Post {
                    accept_after: seconds(5),
                    answer: Answer::Unreachable,
                    ..Post::default()
                },
                ..Behaviour::default()
            },
        )
        .await;

    assert_eq!(
        told(&reply),
        "502 server_error upstream_unreachable retry-after=1"
    );
    assert_eq!(calls(&proxy, Kind::Post).len(), 2);
    assert!(started.elapsed() < seconds(11));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_does_not_hold_is_not_tried_again() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    let reply = talk.is_met("hello", answers(Answer::Certificate)).await;

    assert_eq!(
        told(&reply),
        "502 server_error upstream_unreachable retry-after=1"
    );
    assert_eq!(calls(&proxy, Kind::Post).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_a_post_never_left_for_goes_on() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    talk.is_met("one", soon("first")).await;
    let reads = calls(&proxy, Kind::Read).len();
    let unsent = talk.is_met("two", answers(Answer::Unreachable)).await;
    let reads_since = calls(&proxy, Kind::Read).len() - reads;
    let again = talk.is_met("two", soon("second")).await;

    assert_eq!(
        told(&unsent),
        "502 server_error upstream_unreachable retry-after=1"
    );
    assert_eq!(decision(&unsent), "appended");
    assert_eq!(reads_since, 0);
    assert_eq!((said(&again), decision(&again)), ("second", "appended"));
    assert_eq!(posted(&proxy), [["one", "two"]]);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_never_began_can_be_begun() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy).header("x-conversation-id", "orders");
    proxy
        .sandbox
        .set_script(Script::always(answers(Answer::Unreachable)));

    let unsent = talk.says("one").await;
    let again = talk.is_met("one", soon("first")).await;
    let next = talk.is_met("two", soon("second")).await;

    assert_eq!(unsent.header("x-conversation-id"), "orders");
    assert_eq!((said(&again), decision(&again)), ("first", "created"));
    assert_eq!((said(&next), decision(&next)), ("second", "appended"));
    assert_eq!(posted(&proxy), [["one", "two"]]);
}
