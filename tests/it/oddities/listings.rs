//! The order of a thread's messages, what they lack, and how many of them are shown.

use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Echo, Post};
use chaturdata_proxy::upstream::sandbox::shape::{Field, Order, Shape, TextShape};

use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, calls, decision, posted, said, soon};

/// Turns enough to fill a window of twenty messages and to move it on.
const TURNS: usize = 13;

/// What callers say: often the same as the time before.
const PROMPTS: [&str; 4] = ["yes", "yes", "and  by\nregion?", "yes"];

/// Holds a conversation of so many turns; every answer must be its own turn's, and every turn must
/// go on where the last one ended.
async fn converse(turns: usize, shape: &Shape, echo: Echo) {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    for turn in 0..turns {
        let answer = format!("answer {turn}");
        let behaviour = Behaviour {
            shape: shape.clone(),
            echo,
            ..soon(&answer)
        };

        let reply = talk.is_met(PROMPTS[turn % 4], behaviour).await;

        let case = format!("turn {turn}, {echo:?}, {shape:?}");
        assert_eq!(reply.status, 200, "{case}: {}", reply.text);
        assert_eq!(said(&reply), answer, "{case}");
        let expected = if turn == 0 { "created" } else { "appended" };
        assert_eq!(decision(&reply), expected, "{case}");
    }
    assert_eq!(posted(&proxy).len(), 1);
    assert_eq!(calls(&proxy, Kind::Post).len(), turns);
    assert_eq!(calls(&proxy, Kind::Read).len(), turns);
}

fn shape(order: Order, omit: &[Field]) -> Shape {
    Shape {
        order,
        omit: omit.to_vec(),
        ..Shape::default()
    }
}

/// Whatever messages may lack.
fn lacks() -> Vec<Vec<Field>> {
    let some = |bits: usize| {
        let fields = Field::ALL.into_iter().enumerate();
        let lacking = fields.filter(|(at, _)| bits >> at & 1 == 1);
        lacking.map(|(_, field)| field).collect()
    };
    (0..16).map(some).collect()
}

#[tokio::test(start_paused = true)]
async fn oldest_first_is_understood_whatever_messages_lack() {
    for omit in lacks() {
        converse(TURNS, &shape(Order::OldestFirst, &omit), Echo::Same).await;
    }
}

#[tokio::test(start_paused = true)]
async fn newest_first_is_understood_whatever_messages_lack() {
    for omit in lacks() {
        converse(TURNS, &shape(Order::NewestFirst, &omit), Echo::Same).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_twenty_are_enough_in_either_order_whatever_messages_lack() {
    for order in [Order::OldestFirst, Order::NewestFirst] {
        for omit in lacks() {
            let shape = Shape {
                window: Some(20),
                ..shape(order, &omit)
            };
            converse(TURNS, &shape, Echo::Same).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_is_shown_trimmed_or_rewrapped_is_recognised() {
    for echo in [Echo::Trimmed, Echo::Rewrapped] {
        for order in [Order::OldestFirst, Order::NewestFirst] {
            for omit in lacks() {
                converse(4, &shape(order, &omit), echo).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_text_is_read_in_every_shape_it_may_have() {
    for text in [TextShape::Value, TextShape::Bare, TextShape::Content] {
        let shape = Shape {
            text,
            ..Shape::default()
        };
        converse(3, &shape, Echo::Same).await;
    }
}

#[tokio::test(start_paused = true)]
async fn thirty_turns_stay_on_one_thread_of_which_twenty_messages_are_shown() {
    let everything = [Field::Id, Field::Role, Field::CreatedAt, Field::RunId];

    for omit in [&[][..], &[Field::Id], &everything] {
        let shape = Shape {
            window: Some(20),
            ..shape(Order::NewestFirst, omit)
        };
        converse(30, &shape, Echo::Same).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_reads_the_same_both_ways_tells_nothing_of_the_order() {
    for order in [Order::OldestFirst, Order::NewestFirst] {
        for omit in lacks() {
            let proxy = Proxy::start(Setup::default());
            let mut talk = Talk::new(&proxy);
            let behaviour = |text: &str| Behaviour {
                shape: shape(order, &omit),
                ..soon(text)
            };

            talk.is_met("hello", behaviour("hello")).await;
            let second = talk.is_met("more", behaviour("here is more")).await;
            let third = talk.is_met("more", behaviour("still more")).await;

            assert_eq!(said(&second), "here is more", "{order:?} {omit:?}");
            assert_eq!(said(&third), "still more", "{order:?} {omit:?}");
            assert_eq!(decision(&third), "appended", "{order:?} {omit:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_one_second_are_told_apart() {
    for order in [Order::OldestFirst, Order::NewestFirst] {
        for omit in lacks() {
            let proxy = Proxy::start(Setup::default());
            let mut talk = Talk::new(&proxy);
            for turn in 0..4 {
                let answer = format!("answer {turn}");
                let at_once = Behaviour {
                    shape: shape(order, &omit),
                    post: Post {
                        status: Some("completed".to_owned()),
                        ..Post::default()
                    },
                    reply_after: Some(std::time::Duration::ZERO),
                    ..soon(&answer)
                };

                let reply = talk.is_met("yes", at_once).await;

                assert_eq!(said(&reply), answer, "{order:?} {omit:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_equal_answer_to_an_equal_prompt_is_the_new_one() {
    for order in [Order::OldestFirst, Order::NewestFirst] {
        for omit in lacks() {
            let proxy = Proxy::start(Setup::default());
            let mut talk = Talk::new(&proxy);
            let behaviour = || Behaviour {
                shape: shape(order, &omit),
                ..Behaviour::says("ok", crate::talk::seconds(4))
            };

            for _ in 0..4 {
                let reply = talk.is_met("yes", behaviour()).await;

                assert_eq!(said(&reply), "ok", "{order:?} {omit:?}");
            }

            // A stale answer would have been there two seconds after the POST.
            assert_eq!(calls(&proxy, Kind::Read).len(), 8, "{order:?} {omit:?}");
            assert_eq!(posted(&proxy).len(), 1);
        }
    }
}
