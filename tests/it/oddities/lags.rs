//! Statuses that are the previous run's, messages that come late, text that grows.

use std::time::Duration;

use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Post};
use chaturdata_proxy::upstream::sandbox::shape::{Field, Order, Shape};
use tokio::time::Instant;

use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, calls, decision, message, posted, said, seconds, shows, soon, told};

/// A POST whose answer tells the status of the run before.
fn stale_post() -> Post {
    Post {
        status: Some("completed".to_owned()),
        ..Post::default()
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_previous_run_is_not_taken_for_ours() {
    for order in [Order::OldestFirst, Order::NewestFirst] {
        for omit in [
            &[][..],
            &[Field::Id],
            &[Field::Id, Field::Role, Field::CreatedAt],
        ] {
            let proxy = Proxy::start(Setup::default());
            let mut talk = Talk::new(&proxy);
            let shape = Shape {
                order,
                omit: omit.to_vec(),
                window: Some(20),
                ..Shape::default()
            };
            let behaviour = |text: &str| Behaviour {
                post: stale_post(),
                stale_reads: 2,
                message_lag: 2,
                shape: shape.clone(),
                ..soon(text)
            };

            for turn in 0..12 {
                let answer = format!("answer {turn}");
                let reply = talk.is_met("yes", behaviour(&answer)).await;

                assert_eq!(said(&reply), answer, "{shape:?}");
            }
            assert_eq!(posted(&proxy).len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_equal_old_answer_is_not_taken_for_ours_while_messages_lag() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.is_met("yes", soon("ok")).await;
    let started = Instant::now();

    let reply = talk
        .is_met(
            "yes",
            Behaviour {
                post: stale_post(),
                stale_reads: 3,
                message_lag: 3,
                ..soon("ok")
            },
        )
        .await;

    assert_eq!((said(&reply), decision(&reply)), ("ok", "appended"));
    // Read at once, and then every three seconds.
    assert_eq!(started.elapsed(), seconds(9));
}

#[tokio::test(start_paused = true)]
async fn a_status_that_goes_back_starts_the_wait_anew() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.is_met("one", soon("first")).await;

    let reply = talk
        .is_met(
            "two",
            Behaviour {
                post: stale_post(),
                stale_reads: 9,
                reply_lag: 9,
                ..Behaviour::says("second", Duration::from_mins(2))
            },
        )
        .await;

    assert_eq!(said(&reply), "second");
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_lag_behind_its_status_by_ten_polls() {
    for reply_lag in [1, 2, 10] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);

        let reply = talk
            .is_met(
                "hello",
                Behaviour {
                    reply_lag,
                    ..soon("here at last")
                },
            )
            .await;

        assert_eq!(said(&reply), "here at last");
        assert_eq!(calls(&proxy, Kind::Read).len(), reply_lag as usize + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_completed_run_whose_answer_never_comes_is_an_error_after_half_a_minute() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.is_met("one", soon("first")).await;
    let started = Instant::now();

    let reply = talk
        .is_met(
            "two",
            Behaviour {
                reply_lag: 1000,
                ..soon("never seen")
            },
        )
        .await;
    let waited = started.elapsed();
    let next = talk.is_met("three", soon("third")).await;

    assert_eq!(
        told(&reply),
        "502 server_error upstream_error x-should-retry=false"
    );
    assert_eq!(
        message(&reply),
        "the upstream gave no usable answer: the run completed, but its answer is not in the thread"
    );
    assert_eq!(waited, seconds(2 + 30));
    assert_eq!((said(&next), decision(&next)), ("third", "replayed"));
}

#[tokio::test(start_paused = true)]
async fn a_lagging_answer_has_ten_polls_and_half_a_minute_at_any_pace() {
    for (interval, polls, waited) in [(10, 11, 2 + 100), (2, 16, 2 + 30)] {
        let mut setup = Setup::default();
        setup.config.pace.interval = seconds(interval);
        let proxy = Proxy::start(setup);
        let mut talk = Talk::new(&proxy);
        let started = Instant::now();

        let reply = talk
            .is_met(
                "hello",
                Behaviour {
                    reply_lag: 1000,
                    ..soon("never seen")
                },
            )
            .await;

        assert_eq!(reply.code(), "upstream_error");
        assert_eq!(calls(&proxy, Kind::Read).len(), polls);
        assert_eq!(started.elapsed(), seconds(waited));
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_is_never_delivered() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    let reply = talk.is_met("hello", soon("")).await;

    assert_eq!(
        told(&reply),
        "502 server_error upstream_error x-should-retry=false"
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_shown_for_a_while_is_waited_for() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    for answer in ["one", "two"] {
        let reply = talk
            .is_met(
                "hello",
                Behaviour {
                    message_lag: 4,
                    ..soon(answer)
                },
            )
            .await;

        assert_eq!(said(&reply), answer);
    }
}

#[tokio::test(start_paused = true)]
async fn half_of_a_growing_answer_is_never_the_answer() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let growing = |text: &str| Behaviour {
        growth: 5,
        steps: vec![shows(1, &text[..3])],
        ..Behaviour::says(text, seconds(30))
    };

    let opening = talk.is_met("hello", growing("a rather long answer")).await;
    let next = talk.is_met("more", growing("and another long one")).await;

    assert_eq!(said(&opening), "a rather long answer");
    assert_eq!(said(&next), "and another long one");
}

#[tokio::test(start_paused = true)]
async fn half_of_an_answer_whose_rest_lags_behind_the_status_is_never_the_answer() {
    for reply_lag in [1, 2] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);
        let lagging = |text: &str| Behaviour {
            growth: 1,
            reply_lag,
            ..Behaviour::says(text, seconds(20))
        };

        let opening = talk.is_met("hello", lagging("a rather long answer")).await;
        let next = talk.is_met("more", lagging("and another long one")).await;

        assert_eq!(said(&opening), "a rather long answer");
        assert_eq!(said(&next), "and another long one");
    }
}

#[tokio::test(start_paused = true)]
async fn a_text_that_is_whole_before_its_run_ends_is_believed_two_polls_later() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let started = Instant::now();

    let early = talk
        .is_met(
            "hello",
            Behaviour {
                steps: vec![shows(4, "all of it")],
                ..Behaviour::says("all of it", seconds(7))
            },
        )
        .await;

    assert_eq!(said(&early), "all of it");
    assert_eq!(started.elapsed(), seconds(8 + 6));
}

#[tokio::test(start_paused = true)]
async fn a_text_that_changed_before_the_end_is_answered_as_it_ended() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    let reply = talk
        .is_met(
            "hello",
            Behaviour {
                steps: vec![shows(1, "a draft that is long"), shows(4, "another")],
                ..Behaviour::says("the answer", seconds(9))
            },
        )
        .await;
    let next = talk.is_met("more", soon("more of it")).await;

    assert_eq!(said(&reply), "the answer");
    assert_eq!((said(&next), decision(&next)), ("more of it", "appended"));
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_that_changes_later_is_not_taken_for_the_new_one() {
    for omit in [&[][..], &[Field::Id], &[Field::Id, Field::CreatedAt]] {
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let proxy = Proxy::start(Setup::default());
            let mut talk = Talk::new(&proxy);
            let shape = Shape {
                order,
                omit: omit.to_vec(),
                ..Shape::default()
            };
            let changing = Behaviour {
                steps: vec![shows(60, "the old answer, polished")],
                shape: shape.clone(),
                ..soon("the old answer")
            };
            let opening = talk.is_met("yes", changing).await;
            tokio::time::sleep(Duration::from_mins(2)).await;

            let next = talk
                .is_met(
                    "yes",
                    Behaviour {
                        shape,
                        ..Behaviour::says("the new answer", seconds(8))
                    },
                )
                .await;

            assert_eq!(said(&opening), "the old answer");
            assert_eq!(said(&next), "the new answer", "{order:?} {omit:?}");
        }
    }
}
