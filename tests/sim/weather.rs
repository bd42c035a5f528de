//! Which upstream it is, and what befalls its POSTs and reads.

use std::time::Duration;

use chaturdata_proxy::upstream::sandbox::script::{
    Answer, Behaviour, Canned, Echo, Foreign, Lands, Post, Read, Rule, Script, When,
};
use chaturdata_proxy::upstream::sandbox::shape::{Field, Order, Shape, StatusShape};

use crate::dice::Dice;

/// How often something goes wrong: once in so many.
const FAULTS: [u64; 4] = [1_000_000, 20, 8, 3];

/// A script for one upstream.
pub fn script(dice: &Dice) -> Script {
    let rare = *dice.pick(&FAULTS);
    let strangers = dice.one_in(6);
    let fair = Behaviour {
        recites: true,
        reply_after: Some(*dice.pick(&[
            Duration::ZERO,
            Duration::from_secs(1),
            Duration::from_secs(4),
            Duration::from_secs(15),
        ])),
        shape: shape(dice, strangers),
        echo: *dice.pick(&[Echo::Same, Echo::Trimmed, Echo::Rewrapped]),
        ..Behaviour::default()
    };
    let rules = (0..60)
        .map(|_| Rule {
            when: String::new(),
            times: Some(1),
            behaviour: behaviour(dice, rare, strangers, &fair),
        })
        .collect();
    Script {
        seed: dice.below(1 << 40),
        rules,
        ..Script::always(fair)
    }
}

/// Without roles nobody can tell a stranger's message from an answer.
fn shape(dice: &Dice, roles: bool) -> Shape {
    Shape {
        order: *dice.pick(&[Order::OldestFirst, Order::OldestFirst, Order::NewestFirst]),
        omit: Field::ALL
            .into_iter()
            .filter(|field| dice.one_in(4) && !(roles && *field == Field::Role))
            .collect(),
        window: dice.one_in(3).then_some(20),
        run_status: *dice.pick(&[StatusShape::Object, StatusShape::Object, StatusShape::Bare]),
        ..Shape::default()
    }
}

fn behaviour(dice: &Dice, rare: u64, strangers: bool, fair: &Behaviour) -> Behaviour {
    let mut behaviour = fair.clone();
    behaviour.reply_after = Some(match dice.below(6) {
        0 => Duration::ZERO,
        1 => dice.seconds(20..90),
        _ => dice.seconds(0..12),
    });
    behaviour.post = post(dice, rare);
    if dice.one_in(2 * rare) {
        behaviour.ending =
            (*dice.pick(&["failed", "cancelled", "expired", "incomplete"])).to_owned();
    }
    if dice.one_in(3) {
        // Text that grows while its status is stale, or lags behind it, cannot be told from whole text.
        behaviour.growth = dice.below(5) as u32;
        behaviour.post.status = None;
    } else if dice.one_in(2) {
        behaviour.stale_reads = dice.below(3) as u32;
        behaviour.message_lag = dice.below(3) as u32;
        behaviour.reply_lag = dice.below(3) as u32;
    }
    for _ in 0..3 {
        if dice.one_in(rare) {
            let (from, count) = (dice.among(1..6) as u32, dice.among(1..3) as u32);
            behaviour.reads.push(Read::these(from, count, read(dice)));
        }
    }
    if strangers && dice.one_in(8) {
        // Nobody answers it here: an answer to somebody else that comes after our message is one to us,
        // for all that shows.
        behaviour.foreign.push(Foreign {
            text: "somebody else".to_owned(),
            reply: None,
            at: *dice.pick(&[
                When::Before,
                When::AtOnce,
                When::After(Duration::from_secs(3)),
            ]),
        });
    }
    behaviour.read_delay = if dice.one_in(4) {
        dice.millis(1..800)
    } else {
        Duration::ZERO
    };
    behaviour
}

fn post(dice: &Dice, rare: u64) -> Post {
    let mut post = Post {
        accept_after: if dice.one_in(2) {
            Duration::ZERO
        } else {
            dice.millis(0..6_000)
        },
        answer_after: if dice.one_in(2) {
            Duration::ZERO
        } else {
            dice.millis(0..3_000)
        },
        status: dice.one_in(3).then(|| "completed".to_owned()),
        while_active: (*dice.pick(&[None, Some(400), Some(409)])),
        ..Post::default()
    };
    if !dice.one_in(rare) {
        return post;
    }
    let (answer, ambiguous) = match dice.below(12) {
        0 | 1 => (Answer::Reset, true),
        2 => (Answer::Hang, true),
        3 => (Answer::Cut(dice.below(40) as usize), true),
        4 => (Answer::html(502), true),
        5 => (Answer::Without(vec!["thread_id".to_owned()]), true),
        6 => (Answer::Unreachable, false),
        7 => (busy(429, "3"), false),
        8 => (busy(503, "40"), false),
        9 => (Answer::status(400), false),
        10 => (Answer::status(409), false),
        _ => (Answer::html(500), true),
    };
    post.lands = ambiguous.then(|| match dice.below(7) {
        0 | 1 => Lands::AtOnce,
        2 | 3 => Lands::Never,
        _ => Lands::After(dice.seconds(1..90)),
    });
    post.answer = answer;
    post
}

fn read(dice: &Dice) -> Answer {
    match dice.below(7) {
        0 => Answer::Reset,
        1 => Answer::Cut(20),
        2 => Answer::html(502),
        3 => Answer::status(404),
        4 => busy(429, "5"),
        5 => Answer::Without(vec!["run_status".to_owned()]),
        _ => Answer::Without(vec!["messages".to_owned()]),
    }
}

fn busy(status: u16, retry_after: &str) -> Answer {
    Answer::Canned(Canned {
        status,
        retry_after: Some(retry_after.to_owned()),
        ..Canned::default()
    })
}
