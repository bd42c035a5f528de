//! Conversations of many turns.

use super::{Home, talk};
use crate::proxy::Proxy;
use crate::talk::decision;

/// More than are written with the conversation itself.
const TURNS: usize = 80;

/// Goes on with a conversation up to where it has so many turns.
async fn goes_on(proxy: &Proxy, messages: &mut Vec<serde_json::Value>, turns: usize) {
    let mut talk = talk(proxy);
    talk.messages.clone_from(messages);
    for turn in messages.len() / 2..turns {
        let expected = if turn == 0 { "created" } else { "appended" };
        let reply = talk.says(&format!("turn {turn}")).await;
        assert_eq!(decision(&reply), expected, "turn {turn}");
    }
    messages.clone_from(&talk.messages);
}

#[tokio::test(start_paused = true)]
async fn every_turn_is_known_after_restarts_for_one_that_has_been() {
    let mut home = Home::saying("yes", 1);
    let mut messages = Vec::new();
    for turns in [TURNS / 3, 2 * TURNS / 3, TURNS] {
        let proxy = home.start();
        goes_on(&proxy, &mut messages, turns).await;
        home.kill(proxy).await;
    }

    let proxy = home.start();
    for turn in 1..TURNS {
        let mut edited = talk(&proxy);
        edited.messages = messages[..2 * turn].to_vec();
        let reply = edited.says("something else").await;
        assert_eq!(decision(&reply), "forked", "turn {turn}");
    }
    goes_on(&proxy, &mut messages, TURNS + 1).await;
}
