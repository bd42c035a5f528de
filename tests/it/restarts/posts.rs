//! The kill comes while a message is posted.

use chaturdata_proxy::config::OnUnknown;
use chaturdata_proxy::upstream::sandbox::script::{Answer, Behaviour, Lands, Post, Script};
use tokio::time::sleep;

use super::{Home, is_cut_off, talk};
use crate::proxy::Setup;
use crate::talk::{answers, busy, decision, first, posted, said, seconds, told};

/// Its POST is never answered; what becomes of the message.
fn hangs(lands: Lands) -> Behaviour {
    Behaviour {
        post: Post {
            answer: Answer::Hang,
            lands: Some(lands),
            ..Post::default()
        },
        ..Behaviour::says("yes", seconds(1))
    }
}

fn then_fair(behaviour: Behaviour) -> Script {
    first(1, behaviour, Behaviour::says("yes", seconds(1)))
}

#[tokio::test(start_paused = true)]
async fn on_a_new_thread_nobody_knows_and_the_caller_is_told() {
    let mut home = Home::new(then_fair(hangs(Lands::AtOnce)));
    let proxy = home.start();
    is_cut_off(&proxy, talk(&proxy).request("one", false), 5).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let again = proxy.ask(talk(&proxy).request("one", false)).await;
    sleep(seconds(200)).await;
    let later = proxy.ask(talk(&proxy).request("one", false)).await;

    assert_eq!(
        told(&again),
        "502 server_error upstream_outcome_unknown x-should-retry=false"
    );
    assert_eq!((said(&later), decision(&later)), ("yes", "created"));
    assert_eq!(posted(&proxy), [["one"], ["one"]]);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_key_was_refused_is_posted_when_it_comes_again() {
    let mut home = Home::new(then_fair(answers(busy(401, None))));
    let proxy = home.start();
    let refused = proxy.ask(talk(&proxy).request("one", false)).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let again = proxy.ask(talk(&proxy).request("one", false)).await;

    assert!(
        told(&refused).contains("invalid_api_key"),
        "{}",
        told(&refused)
    );
    assert_eq!((said(&again), decision(&again)), ("yes", "created"));
    assert_eq!(posted(&proxy), [["one"]]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_came_to_its_known_thread_is_followed_there() {
    let mut home = Home::saying("yes", 1);
    let proxy = home.start();
    let mut before = talk(&proxy);
    before.says("one").await;
    let messages = before.messages.clone();
    home.sandbox.set_script(then_fair(hangs(Lands::AtOnce)));
    is_cut_off(&proxy, before.request("two", false), 5).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let mut after = talk(&proxy);
    after.messages = messages;
    let two = after.says("two").await;
    let three = after.says("three").await;

    assert_eq!((said(&two), decision(&two)), ("yes", "attached"));
    assert_eq!(decision(&three), "appended");
    assert_eq!(posted(&proxy), [["one", "two", "three"]]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_may_yet_come_is_replayed_elsewhere_or_told() {
    for (on_unknown, outcome) in [
        (OnUnknown::Replay, "replayed"),
        (
            OnUnknown::Tell,
            "502 server_error upstream_outcome_unknown x-should-retry=false",
        ),
    ] {
        let setup = || {
            let mut setup = Setup::default();
            setup.config.run.on_unknown = on_unknown;
            setup
        };
        let mut home = Home::saying("yes", 1);
        let proxy = home.start_with(setup());
        let mut before = talk(&proxy);
        before.says("one").await;
        let messages = before.messages.clone();
        let late = hangs(Lands::After(seconds(300)));
        home.sandbox.set_script(then_fair(late));
        is_cut_off(&proxy, before.request("two", false), 5).await;

        home.kill(proxy).await;
        let proxy = home.start_with(setup());
        let mut after = talk(&proxy);
        after.messages = messages;
        let mut two = after.says("two").await;
        if two.code() == "upstream_error" {
            // It had attached to the search for the message.
            two = after.says("two").await;
        }
        sleep(seconds(600)).await;

        let seen = if two.status == 200 {
            decision(&two).to_owned()
        } else {
            told(&two)
        };
        assert_eq!(seen, outcome);
        assert_eq!(posted(&proxy)[0], ["one", "two"], "it came late, once");
    }
}
