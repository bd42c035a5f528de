//! Text that grows from poll to poll is streamed as it comes, and never text that changes.

use std::time::Duration;

use chaturdata_proxy::upstream::sandbox::script::{
    Answer, Behaviour, Content, Failure, Read, Rule, Script, Step,
};
use chaturdata_proxy::upstream::sandbox::shape::{Field, Order, Shape};

use super::{Watched, chunk};
use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, decision, posted, said, seconds, shows, soon};

fn started(behaviour: Behaviour) -> Proxy {
    let proxy = Proxy::start(Setup::default());
    proxy.sandbox.set_script(Script::always(behaviour));
    proxy
}

fn grows(steps: &[(u64, &str)], whole: &str, after: u64) -> Behaviour {
    Behaviour {
        steps: steps.iter().map(|(at, text)| shows(*at, text)).collect(),
        ..Behaviour::says(whole, seconds(after))
    }
}

fn deltas(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    let owned = expected.iter().map(|(at, text)| (*at, (*text).to_owned()));
    owned.collect()
}

#[tokio::test(start_paused = true)]
async fn each_poll_brings_what_the_text_grew_by() {
    let steps = [(1, "one"), (4, "one two"), (6, "one two three")];
    let proxy = started(grows(&steps, "one two three four", 12));

    let watched = Watched::says(&proxy, &Talk::new(&proxy), "count").await;

    assert_eq!(
        watched.deltas(),
        deltas(&[(2, "one"), (5, " two"), (8, " three"), (14, " four")])
    );
    assert_eq!(watched.finish_reason(), "stop");
    assert_eq!(watched.error(), "");
}

#[tokio::test(start_paused = true)]
async fn growth_is_streamed_on_a_thread_with_a_past_however_it_is_listed() {
    for order in [Order::OldestFirst, Order::NewestFirst] {
        for omit in [vec![], vec![Field::Id, Field::Role, Field::CreatedAt]] {
            let shaped = |behaviour| Behaviour {
                shape: Shape {
                    order,
                    omit: omit.clone(),
                    ..Shape::default()
                },
                ..behaviour
            };
            let proxy = started(Behaviour::default());
            let mut talk = Talk::new(&proxy);
            talk.is_met("one", shaped(soon("first"))).await;
            let steps = [(1, "sec"), (4, "secon")];
            proxy
                .sandbox
                .set_script(Script::always(shaped(grows(&steps, "second", 7))));

            let watched = Watched::says(&proxy, &talk, "one").await;

            let expected = deltas(&[(2, "sec"), (5, "on"), (8, "d")]);
            assert_eq!(watched.deltas(), expected, "{order:?} {omit:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_message_is_streamed_after_a_blank_line() {
    let step = |at, texts: &[&str]| Step {
        at: seconds(at),
        reply: texts
            .iter()
            .map(|text| Content::Text((*text).to_owned()))
            .collect(),
    };
    let proxy = started(Behaviour {
        reply: step(0, &["Wait.", "Here it is."]).reply,
        steps: vec![
            step(1, &["Wait."]),
            step(4, &["Wait.", ""]),
            step(7, &["Wait.", "Here"]),
            step(10, &["Wait.", "Here it is."]),
        ],
        ..Behaviour::says("", seconds(12))
    });

    let watched = Watched::says(&proxy, &Talk::new(&proxy), "well?").await;

    assert_eq!(
        watched.deltas(),
        deltas(&[(2, "Wait."), (8, "\n\nHere"), (11, " it is.")])
    );
    assert_eq!(watched.error(), "");
}

#[tokio::test(start_paused = true)]
async fn text_that_changes_after_it_was_sent_ends_the_stream_in_an_error() {
    for steps in [
        &[(1, "it is 12"), (7, "it is 13 now")][..],
        &[(1, "it is 12")],
        &[(1, "it is 13 now, or so")],
    ] {
        let proxy = started(grows(steps, "it is 13 now", 12));
        let mut talk = Talk::new(&proxy);

        let watched = Watched::says(&proxy, &talk, "what time is it?").await;
        let asked_again = Watched::says(&proxy, &talk, "what time is it?").await;
        let synchronous = talk.says("what time is it?").await;

        assert_eq!(watched.text(), steps[0].1);
        assert_eq!(watched.error(), "upstream_error");
        assert_eq!(watched.finish_reason(), "");
        // What it came to is there for whoever asks again.
        assert_eq!(asked_again.text(), "it is 13 now");
        assert_eq!(asked_again.error(), "");
        assert_eq!(said(&synchronous), "it is 13 now");
        assert_eq!(posted(&proxy).len(), 2, "the other question is another one");
    }
}

#[tokio::test(start_paused = true)]
async fn text_that_is_shorter_for_a_while_may_come_back() {
    let steps = [(1, "one two"), (4, "one"), (7, "o"), (10, "one two three")];
    let proxy = started(grows(&steps, "one two three four", 16));

    let watched = Watched::says(&proxy, &Talk::new(&proxy), "count").await;

    assert_eq!(
        watched.deltas(),
        deltas(&[(2, "one two"), (11, " three"), (17, " four")])
    );
    assert_eq!(watched.error(), "");
}

#[tokio::test(start_paused = true)]
async fn text_that_is_gone_for_a_while_may_come_back() {
    let proxy = started(Behaviour {
        reads: vec![
            Read::these(2, 1, Answer::Without(vec!["messages".to_owned()])),
            Read::these(3, 2, Answer::html(502)),
        ],
        ..grows(&[(1, "one")], "one two", 12)
    });

    let watched = Watched::says(&proxy, &Talk::new(&proxy), "count").await;

    assert_eq!(watched.text(), "one two");
    assert_eq!(watched.error(), "");
}

#[tokio::test(start_paused = true)]
async fn text_that_changes_for_a_while_and_comes_back_is_the_answer() {
    let steps = [(1, "one"), (4, "another draft"), (7, "one two")];
    let proxy = started(grows(&steps, "one two three", 12));

    let watched = Watched::says(&proxy, &Talk::new(&proxy), "count").await;

    assert_eq!(watched.text(), "one two three");
    assert_eq!(watched.error(), "");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_ends_shorter_than_it_was_sent_is_an_error() {
    let proxy = started(grows(&[(1, "one two")], "one", 6));

    let watched = Watched::says(&proxy, &Talk::new(&proxy), "count").await;

    assert_eq!(watched.text(), "one two");
    assert_eq!(watched.error(), "upstream_error");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_after_half_of_its_text_says_so() {
    let failure = Failure {
        words: "out of memory".to_owned(),
        place: Default::default(),
    };
    for (ending, code) in [
        ("failed", "run_failed"),
        ("cancelled", "run_cancelled"),
        ("expired", "run_expired"),
    ] {
        let proxy = started(Behaviour {
            steps: vec![shows(1, "half of")],
            ..Behaviour::ends(ending, Some(failure.clone()), seconds(6))
        });

        let watched = Watched::says(&proxy, &Talk::new(&proxy), "tell me").await;

        assert_eq!(watched.text(), "half of");
        assert_eq!(watched.error(), code);
        assert_eq!(watched.finish_reason(), "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_thread_is_lost_goes_on_where_the_new_answer_agrees() {
    for (second, error) in [("one two", ""), ("something else", "upstream_error")] {
        let lost = Rule {
            when: String::new(),
            times: Some(1),
            behaviour: Behaviour {
                reads: vec![Read::these(2, 1000, Answer::status(404))],
                ..grows(&[(1, "one")], "never", 60)
            },
        };
        let proxy = started(Behaviour::default());
        proxy.sandbox.set_script(Script {
            rules: vec![lost],
            ..Script::always(soon(second))
        });

        let watched = Watched::says(&proxy, &Talk::new(&proxy), "count").await;

        assert_eq!(watched.error(), error);
        assert_eq!(watched.deltas()[0], (2, "one".to_owned()));
        if error.is_empty() {
            assert_eq!(watched.text(), "one two");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_asked_for_again_begins_at_its_beginning() {
    let steps = [(1, "one"), (4, "one two")];
    let proxy = started(grows(&steps, "one two three", 20));
    let mut talk = Talk::new(&proxy);

    let left = tokio::time::timeout(seconds(9), talk.streams("count")).await;
    let watched = Watched::says(&proxy, &talk, "count").await;

    assert!(left.is_err());
    let pieces = [(0, "one"), (0, " two"), (11, " three")];
    assert_eq!(watched.deltas(), deltas(&pieces));
    assert_eq!(posted(&proxy), [["count"]]);
}

#[tokio::test(start_paused = true)]
async fn the_next_turn_follows_a_stream_as_it_follows_an_answer() {
    let proxy = started(grows(&[(1, "one")], "one two", 9));
    let mut talk = Talk::new(&proxy);

    let streamed = talk.streams("count").await;
    let next = talk.is_met("and on", soon("three")).await;

    assert_eq!(streamed.text(), "one two");
    assert_eq!((said(&next), decision(&next)), ("three", "appended"));
}

#[tokio::test(start_paused = true)]
async fn one_stream_in_which_everything_goes_wrong_that_may_is_still_the_answer() {
    let long: String = (0..400)
        .map(|n| format!("{n} \"é\u{1f600}\"\n\ndata: [DONE]\n\n"))
        .collect();
    let proxy = started(Behaviour {
        growth: 40,
        stale_reads: 1,
        message_lag: 2,
        reads: vec![
            Read::these(4, 1, Answer::Reset),
            Read::these(6, 2, Answer::Cut(100)),
            Read::these(9, 1, Answer::Without(vec!["run_status".to_owned()])),
        ],
        ..Behaviour::says(&long, Duration::from_mins(4))
    });

    let watched = Watched::says(&proxy, &Talk::new(&proxy), "all of it").await;

    assert!(watched.text() == long, "{} bytes", watched.text().len());
    assert_eq!(watched.error(), "");
    let last = watched.frames.iter().rev().nth(1).unwrap();
    assert_eq!(chunk(&last.1)["choices"][0]["finish_reason"], "stop");
}
