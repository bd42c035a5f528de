//! Messages that somebody else writes on our thread, as people do in the upstream's own page.

use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::upstream::sandbox::script::{Answer, Behaviour, Foreign, Script, When};
use chaturdata_proxy::upstream::sandbox::shape::{Field, Order, Shape};
use chaturdata_proxy::upstream::{NewMessage, Upstream};

use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, answers, decision, first, posted, said, seconds, soon, told};

fn stranger(at: When) -> Foreign {
    Foreign {
        text: "what a stranger asks".to_owned(),
        reply: Some("what a stranger is answered".to_owned()),
        at,
    }
}

fn with_a_stranger(at: When, text: &str) -> Behaviour {
    Behaviour {
        foreign: vec![stranger(at)],
        ..soon(text)
    }
}

/// The turn after a stranger was seen: on a thread of its own, which knows nothing of the stranger.
async fn goes_on_elsewhere(proxy: &Proxy, talk: &mut Talk<'_>) {
    let threads = posted(proxy).len();

    let next = talk.is_met("and now?", soon("now this")).await;
    let after = talk.is_met("thanks", soon("welcome")).await;

    assert_eq!((said(&next), decision(&next)), ("now this", "replayed"));
    assert_eq!((said(&after), decision(&after)), ("welcome", "appended"));
    let posted = posted(proxy);
    assert_eq!(posted.len(), threads + 1);
    assert_eq!(posted[threads].len(), 2, "{posted:?}");
    let (begun, thanks) = (&posted[threads][0], &posted[threads][1]);
    assert!(begun.starts_with("Earlier conversation:\n\n"), "{begun}");
    assert!(begun.ends_with("\n\n---\n\nand now?"), "{begun}");
    assert!(!begun.contains("stranger"), "{begun}");
    assert_eq!(thanks, "thanks");
}

#[tokio::test(start_paused = true)]
async fn a_strangers_message_before_ours_marks_the_branch() {
    for order in [Order::OldestFirst, Order::NewestFirst] {
        for omit in [&[][..], &[Field::Role], &[Field::Id, Field::CreatedAt]] {
            let proxy = Proxy::start(Setup::default());
            let mut talk = Talk::new(&proxy);
            let shape = Shape {
                order,
                omit: omit.to_vec(),
                ..Shape::default()
            };
            let plain = Behaviour {
                shape: shape.clone(),
                ..soon("first")
            };
            talk.is_met("one", plain).await;

            let reply = talk
                .is_met(
                    "two",
                    Behaviour {
                        foreign: vec![Foreign {
                            reply: None,
                            ..stranger(When::Before)
                        }],
                        shape,
                        ..soon("second")
                    },
                )
                .await;

            assert_eq!((said(&reply), decision(&reply)), ("second", "appended"));
            goes_on_elsewhere(&proxy, &mut talk).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_strangers_message_on_a_new_thread_marks_the_branch() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let lone = Foreign {
        reply: None,
        ..stranger(When::Before)
    };

    let reply = talk
        .is_met(
            "one",
            Behaviour {
                foreign: vec![lone],
                ..soon("first")
            },
        )
        .await;

    assert_eq!(said(&reply), "first");
    goes_on_elsewhere(&proxy, &mut talk).await;
}

#[tokio::test(start_paused = true)]
async fn a_strangers_message_after_our_answer_marks_the_branch() {
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);
        let behaviour = Behaviour {
            shape: Shape {
                order,
                ..Shape::default()
            },
            ..with_a_stranger(When::After(std::time::Duration::from_millis(1500)), "first")
        };

        let reply = talk.is_met("one", behaviour).await;

        assert_eq!(said(&reply), "first");
        goes_on_elsewhere(&proxy, &mut talk).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_strangers_message_is_never_ours() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.is_met("one", soon("first")).await;

    let reply = talk
        .is_met("two", with_a_stranger(When::AtOnce, "second"))
        .await;
    let next = talk.is_met("three", soon("third")).await;

    // Which of the two was answered cannot be told.
    assert_eq!(
        told(&reply),
        "502 server_error upstream_error x-should-retry=false"
    );
    assert_eq!((said(&next), decision(&next)), ("third", "replayed"));
}

#[tokio::test(start_paused = true)]
async fn a_stranger_between_two_turns_marks_the_branch_at_the_second() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.is_met("one", soon("first")).await;
    let thread = proxy.sandbox.threads().remove(0);
    let strange = NewMessage {
        thread: Some(thread),
        text: "what a stranger asks".to_owned(),
    };
    proxy
        .sandbox
        .post(&Secret::new("sk-other"), &strange)
        .await
        .unwrap();
    tokio::time::sleep(seconds(5)).await;

    let reply = talk.is_met("two", soon("second")).await;

    assert_eq!((said(&reply), decision(&reply)), ("second", "appended"));
    goes_on_elsewhere(&proxy, &mut talk).await;
}

/// So many strange messages that nothing of ours is among the newest twenty; some are like ours.
async fn flood(proxy: &Proxy, shape: &Shape) {
    let thread = proxy.sandbox.threads().pop();
    let plain = Behaviour {
        shape: shape.clone(),
        ..soon("not for us")
    };
    proxy.sandbox.set_script(Script::always(plain));
    for text in ["yes", "a", "b", "c", "d", "e", "f", "g", "h", "i", "yes"] {
        let strange = NewMessage {
            thread: thread.clone(),
            text: text.to_owned(),
        };
        let key = Secret::new("sk-other");
        proxy.sandbox.post(&key, &strange).await.unwrap();
        tokio::time::sleep(seconds(2)).await;
    }
}

fn few_shown(omit: &[Field]) -> Shape {
    Shape {
        omit: omit.to_vec(),
        window: Some(20),
        ..Shape::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_strange_messages_does_not_make_an_old_answer_ours() {
    for omit in [&[][..], &[Field::Id], &[Field::Id, Field::CreatedAt]] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);
        let shape = few_shown(omit);
        let behaviour = |text: &str, after| Behaviour {
            shape: shape.clone(),
            ..Behaviour::says(text, seconds(after))
        };
        talk.is_met("yes", behaviour("first", 1)).await;
        flood(&proxy, &shape).await;

        let reply = talk.is_met("yes", behaviour("second", 9)).await;

        assert_eq!(said(&reply), "second", "{omit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_strange_message_that_is_like_ours_is_not_taken_for_a_lost_one() {
    for omit in [&[][..], &[Field::Id], &[Field::Id, Field::CreatedAt]] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);
        let shape = few_shown(omit);
        talk.is_met("yes", soon("first")).await;
        flood(&proxy, &shape).await;
        proxy
            .sandbox
            .set_script(first(1, answers(Answer::Reset), soon("second")));

        let reply = talk.says("yes").await;

        assert_eq!(said(&reply), "second", "{omit:?}");
        assert_eq!(decision(&reply), "replayed");
    }
}
