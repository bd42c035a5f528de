//! How the status of a run is told, and every way of ending.

use std::time::Duration;

use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{
    Answer, Behaviour, Failure, Place, Post, Read, Script,
};
use chaturdata_proxy::upstream::sandbox::shape::{Shape, StatusShape};
use http::StatusCode;
use tokio::time::Instant;

use crate::proxy::{Proxy, Reply, Setup};
use crate::talk::{
    Talk, calls, decision, finish_reason, message, posted, said, seconds, shows, soon, told,
};

fn failure(place: Place) -> Failure {
    Failure {
        words: "no such table".to_owned(),
        place,
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_may_be_a_bare_string() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let bare = |text: &str| Behaviour {
        shape: Shape {
            run_status: StatusShape::Bare,
            ..Shape::default()
        },
        ..Behaviour::says(text, seconds(4))
    };

    let opening = talk.is_met("hello", bare("one")).await;
    let next = talk.is_met("more", bare("two")).await;

    assert_eq!((said(&opening), said(&next)), ("one", "two"));
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_missing_on_some_polls_is_waited_for() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let without = |field: &str| Answer::Without(vec![field.to_owned()]);

    let reply = talk
        .is_met(
            "hello",
            Behaviour {
                post: Post {
                    answer: without("run_status"),
                    ..Post::default()
                },
                reads: vec![Read::these(1, 2, without("run_status"))],
                ..soon("there it is")
            },
        )
        .await;

    assert_eq!(said(&reply), "there it is");
    assert_eq!(calls(&proxy, Kind::Read).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_missing_on_some_polls_are_waited_for() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let without = Answer::Without(vec!["messages".to_owned()]);

    let reply = talk
        .is_met(
            "hello",
            Behaviour {
                reads: vec![Read::these(1, 2, without)],
                ..soon("there it is")
            },
        )
        .await;

    assert_eq!(said(&reply), "there it is");
}

#[tokio::test(start_paused = true)]
async fn words_that_are_no_ending_are_pending() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let words = [
        "queued",
        "in_progress",
        "requires_action",
        "cancelling",
        "thinking_hard",
    ];

    let reply = talk
        .is_met(
            "hello",
            Behaviour {
                running: words.map(str::to_owned).to_vec(),
                steps: vec![shows(1, "half of")],
                ..Behaviour::says("half of it", seconds(20))
            },
        )
        .await;

    assert_eq!(said(&reply), "half of it");
    assert_eq!(calls(&proxy, Kind::Read).len(), 7);
}

/// How a turn ends for a caller that asks again as long as it is told to.
async fn ends_at_last(talk: &mut Talk<'_>, behaviour: Behaviour) -> Reply {
    let mut reply = talk.is_met("hello", behaviour).await;
    while reply.code() == "run_timeout" {
        assert_eq!(reply.header("x-should-retry"), "true");
        reply = talk.says("hello").await;
        assert_eq!(decision(&reply), "attached");
    }
    reply
}

#[tokio::test(start_paused = true)]
async fn a_word_that_never_becomes_an_ending_is_pending_until_the_runs_limit() {
    for word in ["requires_action", "cancelling", "somehow_over"] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);
        let started = Instant::now();

        let reply = ends_at_last(&mut talk, Behaviour::ends(word, None, seconds(1))).await;

        assert_eq!(
            told(&reply),
            "504 server_error run_expired x-should-retry=false"
        );
        assert_eq!(started.elapsed(), Duration::from_mins(30), "{word}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_never_told_is_pending_until_the_runs_limit() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let silent = Behaviour {
        shape: Shape {
            run_status: StatusShape::Missing,
            ..Shape::default()
        },
        ..soon("perhaps all")
    };

    let reply = ends_at_last(&mut talk, silent).await;

    assert_eq!(
        told(&reply),
        "504 server_error run_expired x-should-retry=false"
    );
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_run_ends_with_what_text_there_is() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    let reply = talk
        .is_met(
            "tell me all",
            Behaviour {
                ending: "incomplete".to_owned(),
                ..soon("Once upon a")
            },
        )
        .await;
    let next = talk.is_met("go on", soon("time")).await;

    assert_eq!(
        (said(&reply), finish_reason(&reply)),
        ("Once upon a", "length")
    );
    assert_eq!((said(&next), decision(&next)), ("time", "appended"));
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_run_without_text_has_failed() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    let reply = talk
        .is_met(
            "tell me all",
            Behaviour::ends("incomplete", Some(failure(Place::LastError)), seconds(1)),
        )
        .await;

    assert_eq!(
        told(&reply),
        "502 server_error run_failed x-should-retry=false"
    );
    assert_eq!(message(&reply), "the run failed: no such table");
}

#[tokio::test(start_paused = true)]
async fn the_words_of_a_failure_are_found_wherever_they_stand() {
    for place in [
        Place::LastError,
        Place::LastErrorText,
        Place::Error,
        Place::ErrorMessage,
        Place::Message,
    ] {
        for run_status in [StatusShape::Object, StatusShape::Bare] {
            let lost = run_status == StatusShape::Bare
                && matches!(place, Place::LastError | Place::LastErrorText);
            let proxy = Proxy::start(Setup::default());
            let mut talk = Talk::new(&proxy);

            let reply = talk
                .is_met(
                    "hello",
                    Behaviour {
                        shape: Shape {
                            run_status,
                            ..Shape::default()
                        },
                        ..Behaviour::ends("failed", Some(failure(place)), seconds(1))
                    },
                )
                .await;

            let words = if lost {
                "the upstream gave no reason"
            } else {
                "no such table"
            };
            assert_eq!(
                told(&reply),
                "502 server_error run_failed x-should-retry=false"
            );
            assert_eq!(
                message(&reply),
                format!("the run failed: {words}"),
                "{place:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_bad_ending_has_its_own_code_and_is_not_to_be_retried() {
    for (ending, expected) in [
        ("failed", "502 server_error run_failed x-should-retry=false"),
        (
            "cancelled",
            "502 server_error run_cancelled x-should-retry=false",
        ),
        (
            "expired",
            "504 server_error run_expired x-should-retry=false",
        ),
    ] {
        for at_once in [true, false] {
            let proxy = Proxy::start(Setup::default());
            let mut talk = Talk::new(&proxy);
            let mut behaviour = Behaviour::ends(ending, None, seconds(1));
            behaviour.post.status = at_once.then(|| ending.to_owned());

            let reply = talk.is_met("hello", behaviour).await;

            assert_eq!(told(&reply), expected);
            assert_eq!(calls(&proxy, Kind::Read).len(), usize::from(!at_once));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn text_beside_a_bad_ending_is_no_answer() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    let reply = talk
        .is_met(
            "hello",
            Behaviour {
                steps: vec![shows(1, "I am sorry, but")],
                ..Behaviour::ends("failed", Some(failure(Place::Error)), seconds(3))
            },
        )
        .await;

    assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
    assert!(!reply.text.contains("sorry"), "{}", reply.text);
}

#[tokio::test(start_paused = true)]
async fn after_a_run_that_ended_badly_the_conversation_goes_on_elsewhere() {
    for ending in ["failed", "cancelled", "expired"] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);

        talk.is_met("one", soon("first")).await;
        talk.is_met("two", Behaviour::ends(ending, None, seconds(1)))
            .await;
        let next = talk.is_met("three", soon("third")).await;

        assert_eq!((said(&next), decision(&next)), ("third", "replayed"));
        let posted = posted(&proxy);
        assert_eq!(posted[0], ["one", "two"]);
        insta::allow_duplicates! {
            insta::assert_snapshot!(posted[1].join("|"), @"
            Earlier conversation:

            User: one

            Assistant: first

            ---

            three
            ");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn long_words_of_a_failure_are_capped() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let failure = Failure {
        words: "no ".repeat(10_000),
        place: Place::Message,
    };
    proxy.sandbox.set_script(Script::always(Behaviour::ends(
        "failed",
        Some(failure),
        seconds(1),
    )));

    let reply = talk.says("hello").await;

    assert!(message(&reply).len() < 600, "{}", message(&reply).len());
}
