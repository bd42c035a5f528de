//! A POST while a run is active on the thread: taken, or refused and waited for.

use std::time::Duration;

use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::Answer;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Canned, Post, Script};
use chaturdata_proxy::upstream::{NewMessage, Upstream};
use tokio::time::Instant;

use crate::proxy::{Proxy, Setup};
use crate::talk::{
    Talk, answers, calls, decision, first, message, posted, said, seconds, shows, soon, told,
};

/// Refused with this status while a run is active.
fn strict(status: u16, behaviour: Behaviour) -> Behaviour {
    Behaviour {
        post: Post {
            while_active: Some(status),
            ..Post::default()
        },
        ..behaviour
    }
}

/// A turn whose run looks complete at the first poll and goes on for a minute all the same.
fn lingering(text: &str) -> Behaviour {
    Behaviour {
        stale_reads: 1,
        steps: vec![shows(1, text)],
        ..Behaviour::says(text, Duration::from_mins(1))
    }
}

/// Somebody else's message, whose run takes a minute.
async fn stranger(proxy: &Proxy) {
    let strange = NewMessage {
        thread: proxy.sandbox.threads().pop(),
        text: "what a stranger asks".to_owned(),
    };
    proxy.sandbox.set_script(Script::always(Behaviour::says(
        "for a stranger",
        Duration::from_mins(1),
    )));
    proxy
        .sandbox
        .post(&Secret::new("sk-other"), &strange)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_post_that_is_refused_during_a_run_is_posted_after_it() {
    for status in [400, 409] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);
        talk.is_met("one", lingering("first")).await;

        let reply = talk.is_met("two", strict(status, soon("second"))).await;

        assert_eq!((said(&reply), decision(&reply)), ("second", "appended"));
        assert_eq!(posted(&proxy), [["one", "two"]]);
        assert_eq!(calls(&proxy, Kind::Post).len(), 3, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_that_is_taken_during_a_run_waits_for_nothing() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.is_met("one", lingering("first")).await;
    let started = Instant::now();

    let reply = talk.is_met("two", soon("second")).await;

    assert_eq!((said(&reply), decision(&reply)), ("second", "appended"));
    assert_eq!(started.elapsed(), seconds(2));
}

#[tokio::test(start_paused = true)]
async fn a_strangers_run_that_is_in_the_way_makes_the_turn_go_on_elsewhere() {
    for status in [400, 409] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);
        talk.is_met("one", soon("first")).await;
        stranger(&proxy).await;

        let reply = talk.is_met("two", strict(status, soon("second"))).await;

        assert_eq!((said(&reply), decision(&reply)), ("second", "replayed"));
        let posted = posted(&proxy);
        assert_eq!(posted[0], ["one", "what a stranger asks"]);
        assert_eq!(
            posted[1],
            ["Earlier conversation:\n\nUser: one\n\nAssistant: first\n\n---\n\ntwo"]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_strangers_run_that_is_not_in_the_way_marks_the_branch() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.is_met("one", soon("first")).await;
    stranger(&proxy).await;

    let reply = talk.is_met("two", soon("second")).await;
    let next = talk.is_met("three", soon("third")).await;

    assert_eq!((said(&reply), decision(&reply)), ("second", "appended"));
    assert_eq!((said(&next), decision(&next)), ("third", "replayed"));
}

#[tokio::test(start_paused = true)]
async fn a_400_without_any_run_is_about_the_message() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.is_met("one", soon("first")).await;
    let reads = calls(&proxy, Kind::Read).len();
    let too_long = Answer::Canned(Canned {
        status: 400,
        body: "too long".to_owned(),
        content_type: "text/plain".to_owned(),
        ..Canned::default()
    });

    let reply = talk.is_met("two", answers(too_long)).await;

    assert_eq!(told(&reply), "400 invalid_request_error upstream_refused");
    assert_eq!(
        message(&reply),
        "the upstream refused the message: too long"
    );
    assert_eq!(calls(&proxy, Kind::Read).len() - reads, 1);
    assert_eq!(calls(&proxy, Kind::Post).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_409_of_a_run_that_has_just_ended_is_tried_once_more() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.is_met("one", soon("first")).await;
    proxy
        .sandbox
        .set_script(first(1, answers(Answer::status(409)), soon("second")));

    let reply = talk.says("two").await;

    assert_eq!((said(&reply), decision(&reply)), ("second", "appended"));
    assert_eq!(posted(&proxy), [["one", "two"]]);
}

#[tokio::test(start_paused = true)]
async fn a_409_that_stays_moves_the_conversation_to_a_new_thread() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.is_met("one", soon("first")).await;
    proxy
        .sandbox
        .set_script(first(2, answers(Answer::status(409)), soon("second")));

    let reply = talk.says("two").await;

    assert_eq!((said(&reply), decision(&reply)), ("second", "replayed"));
    let threads = posted(&proxy);
    assert_eq!(threads[0], ["one"]);
    assert!(threads[1][0].ends_with("two"), "{threads:?}");
}
