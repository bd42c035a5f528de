//! A POST of which it is not known whether the upstream took it: looked for, never sent again to a
//! thread that it may still reach.

use chaturdata_proxy::config::OnUnknown;
use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{
    Answer, Behaviour, Canned, Lands, Post, Read, Rule, Script,
};
use chaturdata_proxy::upstream::sandbox::shape::{Field, Order, Shape};
use serde_json::{Map, json};
use tokio::time::{Instant, sleep};

use crate::proxy::{Proxy, Reply, Setup};
use crate::talk::{Talk, answers, busy, calls, decision, first, posted, said, seconds, soon, told};

const UNKNOWN: &str = "502 server_error upstream_outcome_unknown x-should-retry=false";
/// What a new thread begins with after the first turn of these tests.
const EARLIER: &str = "Earlier conversation:\n\nUser: one\n\nAssistant: first\n\n---\n\ntwo";

/// Every answer that says nothing certain.
fn ambiguous() -> Vec<Answer> {
    let canned = |status: u16, body: &str| {
        Answer::Canned(Canned {
            status,
            body: body.to_owned(),
            location: Some("https://elsewhere.test/".to_owned()),
            ..Canned::default()
        })
    };
    let mut another = Map::new();
    another.insert("thread_id".to_owned(), json!("th_another"));
    vec![
        Answer::Reset,
        Answer::Hang,
        Answer::Cut(9),
        Answer::Endless,
        Answer::html(502),
        Answer::html(200),
        Answer::status(500),
        Answer::status(503),
        Answer::status(504),
        Answer::status(408),
        canned(200, ""),
        canned(200, "[]"),
        canned(302, ""),
        canned(307, r#"{"thread_id": "th_another"}"#),
        Answer::Without(vec!["thread_id".to_owned()]),
        Answer::With(another),
    ]
}

/// The same on a new thread, where any id would do.
fn ambiguous_on_a_new_thread() -> Vec<Answer> {
    let mut answers = ambiguous();
    answers.pop();
    answers
}

fn lost(answer: Answer, lands: Lands) -> Behaviour {
    Behaviour {
        post: Post {
            answer,
            lands: Some(lands),
            ..Post::default()
        },
        ..soon("second")
    }
}

fn telling() -> Setup {
    let mut setup = Setup::default();
    setup.config.run.on_unknown = OnUnknown::Tell;
    setup
}

/// The second turn, whose first POST goes as told and whose others are taken.
async fn second_turn(proxy: &Proxy, talk: &mut Talk<'_>, lost: Behaviour) -> Reply {
    talk.is_met("one", soon("first")).await;
    proxy
        .sandbox
        .set_script(first(1, lost, soon("second, again")));
    talk.says("two").await
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_found_on_its_thread_is_followed() {
    for answer in ambiguous() {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);

        let reply = second_turn(&proxy, &mut talk, lost(answer.clone(), Lands::AtOnce)).await;
        let next = talk.is_met("three", soon("third")).await;

        assert_eq!(
            (said(&reply), decision(&reply)),
            ("second", "appended"),
            "{answer:?}"
        );
        assert_eq!((said(&next), decision(&next)), ("third", "appended"));
        assert_eq!(posted(&proxy), [["one", "two", "three"]]);
        assert_eq!(calls(&proxy, Kind::Post).len(), 3, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_found_is_asked_once_more_on_a_new_thread() {
    for answer in ambiguous() {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);

        let reply = second_turn(&proxy, &mut talk, lost(answer.clone(), Lands::Never)).await;
        let next = talk.is_met("three", soon("third")).await;

        assert_eq!(
            (said(&reply), decision(&reply)),
            ("second, again", "replayed"),
            "{answer:?}"
        );
        assert_eq!((said(&next), decision(&next)), ("third", "appended"));
        let posted = posted(&proxy);
        assert_eq!(posted[0], ["one"]);
        assert_eq!(posted[1], [EARLIER, "three"]);
        assert_eq!(calls(&proxy, Kind::Post).len(), 4, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_found_is_told_where_that_is_configured() {
    let proxy = Proxy::start(telling());
    let mut talk = Talk::new(&proxy);

    let reply = second_turn(&proxy, &mut talk, lost(Answer::Reset, Lands::Never)).await;
    let posts = calls(&proxy, Kind::Post).len();
    let next = talk.is_met("another two", soon("second")).await;

    assert_eq!(told(&reply), UNKNOWN);
    assert_eq!(posts, 2);
    // The lost one may arrive on the old thread yet.
    assert_eq!((said(&next), decision(&next)), ("second", "replayed"));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_found_is_followed_where_telling_is_configured() {
    let proxy = Proxy::start(telling());
    let mut talk = Talk::new(&proxy);

    let reply = second_turn(&proxy, &mut talk, lost(Answer::Hang, Lands::AtOnce)).await;

    assert_eq!((said(&reply), decision(&reply)), ("second", "appended"));
}

#[tokio::test(start_paused = true)]
async fn on_a_new_thread_it_is_always_told() {
    for setup in [Setup::default, telling] {
        for answer in ambiguous_on_a_new_thread() {
            for lands in [Lands::AtOnce, Lands::Never] {
                let proxy = Proxy::start(setup());
                let mut talk = Talk::new(&proxy);

                let reply = talk.is_met("one", lost(answer.clone(), lands)).await;

                assert_eq!(told(&reply), UNKNOWN, "{answer:?}");
                assert_eq!(decision(&reply), "created");
                assert_eq!(calls(&proxy, Kind::Post).len(), 1, "{answer:?}");
                assert!(calls(&proxy, Kind::Read).is_empty(), "{answer:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_again_after_an_unknown_outcome_is_told_it_again_and_later_gets_a_new_turn() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    let lost = talk.is_met("one", answers(Answer::Reset)).await;
    let at_once = talk.is_met("one", soon("first")).await;
    sleep(seconds(66)).await;
    let later = talk.is_met("one", soon("first")).await;

    assert_eq!(told(&lost), UNKNOWN);
    assert_eq!(
        (told(&at_once).as_str(), decision(&at_once)),
        (UNKNOWN, "attached")
    );
    assert_eq!((said(&later), decision(&later)), ("first", "created"));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_arrives_within_seconds_is_found() {
    for after in [1, 3, 6, 9] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);
        let late = lost(Answer::Reset, Lands::After(seconds(after)));

        let reply = second_turn(&proxy, &mut talk, late).await;

        assert_eq!(
            (said(&reply), decision(&reply)),
            ("second", "appended"),
            "{after}"
        );
        assert_eq!(posted(&proxy), [["one", "two"]]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_arrives_later_changes_no_answer() {
    for setup in [Setup::default, telling] {
        for after in (11..=95).step_by(4) {
            let proxy = Proxy::start(setup());
            let mut talk = Talk::new(&proxy);
            let late = lost(Answer::Reset, Lands::After(seconds(after)));

            second_turn(&proxy, &mut talk, late).await;
            for turn in 3..20 {
                let answer = format!("answer {turn}");
                // The same as the first would be told the same again.
                let text = if turn == 3 { "or two" } else { "two" };
                let reply = talk
                    .is_met(text, Behaviour::says(&answer, seconds(4)))
                    .await;

                assert_eq!(said(&reply), answer, "after {after} s, turn {turn}");
            }

            let posted = posted(&proxy);
            assert_eq!(posted[0], ["one", "two"], "after {after} s");
            assert_eq!(posted.len(), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_later_refusal_makes_an_unknown_outcome_certain() {
    for refusal in [
        Answer::status(400),
        Answer::status(401),
        Answer::status(403),
        Answer::status(404),
        Answer::status(409),
        Answer::status(422),
        busy(429, Some("1")),
        busy(503, Some("50")),
        Answer::Unreachable,
        Answer::Certificate,
        Answer::Reset,
        Answer::html(502),
    ] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);
        talk.is_met("one", soon("first")).await;
        proxy.sandbox.set_script(first(
            1,
            lost(Answer::Hang, Lands::Never),
            answers(refusal.clone()),
        ));

        let reply = talk.says("two").await;

        assert_eq!(told(&reply), UNKNOWN, "{refusal:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_unknown_too_after_waits_for_a_busy_upstream() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let rule = |times, answer| Rule {
        when: String::new(),
        times: Some(times),
        behaviour: answers(answer),
    };
    proxy.sandbox.set_script(Script {
        rules: vec![rule(1, busy(429, Some("1"))), rule(1, Answer::Reset)],
        ..Script::always(soon("hi"))
    });

    let reply = talk.says("one").await;

    assert_eq!(told(&reply), UNKNOWN);
    assert_eq!(calls(&proxy, Kind::Post).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_older_message_with_the_same_words_is_not_taken_for_the_lost_one() {
    let everything = [Field::Id, Field::Role, Field::CreatedAt];
    for order in [Order::OldestFirst, Order::NewestFirst] {
        for omit in [&[][..], &[Field::Id], &everything] {
            let proxy = Proxy::start(Setup::default());
            let mut talk = Talk::new(&proxy);
            let shown = |text: &str| Behaviour {
                shape: Shape {
                    order,
                    omit: omit.to_vec(),
                    window: Some(20),
                    ..Shape::default()
                },
                ..soon(text)
            };
            for turn in 0..12 {
                talk.is_met("yes", shown(&format!("answer {turn}"))).await;
            }
            proxy
                .sandbox
                .set_script(first(1, answers(Answer::Reset), shown("the right answer")));

            let reply = talk.says("yes").await;

            assert_eq!(said(&reply), "the right answer", "{order:?} {omit:?}");
            assert_eq!(decision(&reply), "replayed");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_thread_that_an_answer_names_is_never_read() {
    for lands in [Lands::AtOnce, Lands::Never] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);
        let another = ambiguous().pop().unwrap();

        second_turn(&proxy, &mut talk, lost(another, lands)).await;

        let ours = proxy.sandbox.threads();
        for read in calls(&proxy, Kind::Read) {
            assert!(ours.contains(&read.thread.unwrap()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_is_looked_for_over_ten_seconds_and_no_closer_than_the_least_gap() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.is_met("one", soon("first")).await;
    let thread = proxy.sandbox.threads().remove(0);
    let started = Instant::now();
    proxy
        .sandbox
        .set_script(first(1, answers(Answer::Reset), soon("second")));

    talk.says("two").await;

    let looks: Vec<_> = proxy.sandbox.reads(&thread).split_off(1);
    assert_eq!(looks.len(), 3);
    assert!(looks.windows(2).all(|pair| pair[1] - pair[0] >= seconds(2)));
    assert_eq!(
        (*looks.last().unwrap() - started).as_secs_f64().round(),
        10.0
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_found_is_polled_no_closer_than_the_least_gap() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    let reply = second_turn(&proxy, &mut talk, lost(Answer::Reset, Lands::AtOnce)).await;

    let thread = proxy.sandbox.threads().remove(0);
    let reads = proxy.sandbox.reads(&thread);
    assert_eq!(said(&reply), "second");
    assert!(
        reads.windows(2).all(|pair| pair[1] - pair[0] >= seconds(2)),
        "{reads:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_that_cannot_be_looked_for_is_asked_once_more_elsewhere() {
    for blind in [
        Answer::Reset,
        Answer::html(502),
        Answer::status(404),
        Answer::Cut(20),
        busy(429, Some("1")),
    ] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);
        talk.is_met(
            "one",
            Behaviour {
                reads: vec![Read {
                    from: 2,
                    count: None,
                    answer: blind.clone(),
                }],
                ..soon("first")
            },
        )
        .await;
        proxy
            .sandbox
            .set_script(first(1, answers(Answer::Reset), soon("second")));

        let reply = talk.says("two").await;

        assert_eq!(
            (said(&reply), decision(&reply)),
            ("second", "replayed"),
            "{blind:?}"
        );
        assert_eq!(posted(&proxy), [["one"], [EARLIER]]);
    }
}

#[tokio::test(start_paused = true)]
async fn in_delta_mode_the_new_thread_begins_with_what_the_old_one_shows() {
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let proxy = Proxy::start(Setup::default());
        let shown = |text: &str| Behaviour {
            shape: Shape {
                order,
                ..Shape::default()
            },
            ..soon(text)
        };
        // A caller that sends new text alone.
        let says = async |text: &str, script: Script| {
            proxy.sandbox.set_script(script);
            Talk::new(&proxy)
                .header("x-conversation-id", "orders")
                .says(text)
                .await
        };

        says("one", Script::always(shown("first"))).await;
        let lost = first(1, answers(Answer::Reset), shown("second"));
        let reply = says("two", lost).await;
        let next = says("three", Script::always(shown("third"))).await;

        assert_eq!((said(&reply), decision(&reply)), ("second", "replayed"));
        assert_eq!((said(&next), decision(&next)), ("third", "appended"));
        assert_eq!(posted(&proxy)[1], [EARLIER, "three"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_an_answer_to_an_opening_is_believed() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let typed = answers(Answer::Typed("text/html".to_owned()));

    let reply = talk.is_met("one", typed).await;

    assert_eq!(said(&reply), "an answer");
}
