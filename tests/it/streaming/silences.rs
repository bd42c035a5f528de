//! What keeps a stream alive while there is no text.

use std::time::Duration;

use chaturdata_proxy::config::KeepAlive;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Post, Script};
use serde_json::json;

use super::{Watched, chunk};
use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, seconds, shows};

/// A stream of a message that is accepted late, whose text comes after long silences.
async fn watched(kind: KeepAlive) -> Watched {
    let mut setup = Setup::default();
    setup.config.stream.keep_alive = kind;
    let proxy = Proxy::start(setup);
    proxy.sandbox.set_script(Script::always(Behaviour {
        post: Post {
            accept_after: seconds(28),
            ..Post::default()
        },
        steps: vec![shows(60, "one")],
        ..Behaviour::says("one two", Duration::from_mins(3))
    }));
    Watched::says(&proxy, &Talk::new(&proxy), "hello").await
}

/// The longest time without a frame.
fn longest_silence(watched: &Watched) -> Duration {
    let mut last = watched.begun;
    let mut longest = Duration::ZERO;
    for at in watched
        .frames
        .iter()
        .map(|(at, _)| *at)
        .chain([watched.ended])
    {
        longest = longest.max(at - last);
        last = at;
    }
    longest
}

#[tokio::test(start_paused = true)]
async fn an_empty_delta_comes_at_least_every_ten_seconds() {
    let watched = watched(KeepAlive::Chunk).await;

    assert!(longest_silence(&watched) <= seconds(10));
    assert_eq!(watched.text(), "one two");
    for (_, frame) in &watched.frames {
        if frame == "[DONE]" {
            continue;
        }
        let chunk = chunk(frame);
        assert_eq!(chunk["object"], "chat.completion.chunk", "{frame}");
        let delta = &chunk["choices"][0]["delta"];
        assert!(
            *delta == json!({}) || delta["content"].is_string(),
            "{frame}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_comment_comes_at_least_every_ten_seconds_where_that_is_configured() {
    let watched = watched(KeepAlive::Comment).await;

    let comments = watched
        .frames
        .iter()
        .filter(|(_, frame)| frame == ": keep-alive");
    assert!(comments.count() > 15);
    assert!(longest_silence(&watched) <= seconds(10));
    assert_eq!(watched.text(), "one two");
    assert_eq!(watched.error(), "");
}

#[tokio::test(start_paused = true)]
async fn nothing_comes_where_that_is_configured() {
    let watched = watched(KeepAlive::Off).await;

    assert!(longest_silence(&watched) > seconds(60));
    // The role, two pieces of text, the finish reason, the end.
    assert_eq!(watched.frames.len(), 5, "{:?}", watched.frames);
    assert_eq!(watched.text(), "one two");
}

#[tokio::test(start_paused = true)]
async fn no_keep_alive_comes_while_text_does() {
    let proxy = Proxy::start(Setup::default());
    let every_three: Vec<String> = (1..=20).map(|n| "x".repeat(n)).collect();
    let steps = (1..).step_by(3).zip(&every_three);
    proxy.sandbox.set_script(Script::always(Behaviour {
        steps: steps.map(|(at, text)| shows(at, text)).collect(),
        ..Behaviour::says(&"x".repeat(21), seconds(60))
    }));

    let watched = Watched::says(&proxy, &Talk::new(&proxy), "hello").await;

    assert_eq!(watched.deltas().len(), 21);
    assert_eq!(watched.frames.len(), 24, "{:?}", watched.frames);
}
