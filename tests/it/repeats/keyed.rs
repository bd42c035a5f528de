//! `Idempotency-Key`: one key is one turn, whoever listens, for a day.

use axum::body::Body;
use chaturdata_proxy::upstream::sandbox::script::{Answer, Behaviour, Script};
use http::Request;
use tokio::time::sleep;

use super::{hang_up, posts, scripted, two_answers};
use crate::proxy::{Proxy, Setup, prompt};
use crate::talk::{Talk, answers, decision, first, said, seconds, soon, told};

const HOUR: u64 = 60 * 60;

fn keyed(proxy: &Proxy, text: &str) -> Request<Body> {
    talk(proxy).request(text, false)
}

fn talk(proxy: &Proxy) -> Talk<'_> {
    Talk::new(proxy).header("idempotency-key", "k-1")
}

#[tokio::test(start_paused = true)]
async fn callers_with_the_same_key_share_a_run_while_all_listen() {
    let proxy = two_answers(20);

    let (first, at_once, later) = tokio::join!(
        proxy.ask(keyed(&proxy, "how much?")),
        proxy.ask(keyed(&proxy, "how much?")),
        async {
            sleep(seconds(5)).await;
            proxy.ask(keyed(&proxy, "how much?")).await
        }
    );

    assert_eq!(decision(&first), "created");
    for reply in [at_once, later] {
        assert_eq!(
            (said(&reply), decision(&reply)),
            ("first answer", "attached")
        );
        assert_eq!(reply.header("idempotent-replayed"), "", "it had not ended");
    }
    assert_eq!(posts(&proxy), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_answered_is_answered_the_same_for_a_day() {
    for (hours, text, by) in [
        (0, "first answer", "attached"),
        (23, "first answer", "attached"),
        (25, "second answer", "created"),
    ] {
        let proxy = two_answers(1);

        proxy.ask(keyed(&proxy, "how much?")).await;
        sleep(seconds(hours * HOUR)).await;
        // Other turns sweep what is no longer needed.
        for _ in 0..5 {
            proxy.chat("something else").await;
        }

        let again = proxy.ask(keyed(&proxy, "how much?")).await;
        assert_eq!((said(&again), decision(&again)), (text, by), "{hours} h");
        let is_replay = again.header("idempotent-replayed") == "true";
        assert_eq!(is_replay, by == "attached", "{hours} h");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_caller_hung_up_is_kept_for_a_day() {
    let proxy = two_answers(20);

    hang_up(&proxy, keyed(&proxy, "how much?"), 10).await;
    sleep(seconds(23 * HOUR)).await;

    let again = proxy.ask(keyed(&proxy, "how much?")).await;
    assert_eq!(
        (said(&again), decision(&again)),
        ("first answer", "attached")
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_used_for_another_request_is_refused() {
    for wait in [0, 60] {
        let proxy = two_answers(20);
        let other_handle = talk(&proxy).header("x-conversation-id", "another");
        let others = [
            keyed(&proxy, "how many?"),
            talk(&proxy).request("how much?", true),
            other_handle.request("how much?", false),
        ];

        hang_up(&proxy, keyed(&proxy, "how much?"), 10).await;
        sleep(seconds(wait)).await;

        for other in others {
            let reply = proxy.ask(other).await;
            assert_eq!(
                told(&reply),
                "422 invalid_request_error idempotency_key_reused"
            );
        }
        assert_eq!(posts(&proxy), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn keys_of_two_tenants_have_nothing_to_do_with_each_other() {
    let proxy = Proxy::passing_through();
    let of = |key: &str, text| {
        let talk = talk(&proxy).header("authorization", &format!("Bearer {key}"));
        proxy.ask(talk.request(text, false))
    };

    let one = of("sk-one", "how much?").await;
    let two = of("sk-two", "how many?").await;

    assert_eq!((decision(&one), decision(&two)), ("created", "created"));
}

#[tokio::test(start_paused = true)]
async fn another_key_is_another_turn() {
    let proxy = two_answers(20);
    let other = Talk::new(&proxy).header("idempotency-key", "k-2");

    hang_up(&proxy, keyed(&proxy, "how much?"), 10).await;
    let reply = proxy.ask(other.request("how much?", false)).await;

    assert_eq!(
        (said(&reply), decision(&reply)),
        ("second answer", "created")
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_that_stands_is_replayed_under_its_key() {
    let proxy = Proxy::start(Setup::default());

    let failed = proxy.ask(keyed(&proxy, prompt::FAILS)).await;
    sleep(seconds(HOUR)).await;
    let again = proxy.ask(keyed(&proxy, prompt::FAILS)).await;

    let expected = "502 server_error run_failed x-should-retry=false";
    assert_eq!(
        (told(&failed), told(&again)),
        (expected.into(), expected.into())
    );
    assert_eq!(decision(&again), "attached");
    assert_eq!(posts(&proxy), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_is_unknown_is_never_tried_again_under_its_key() {
    let lost = answers(Answer::status(500));
    let proxy = scripted(first(1, lost, soon("an answer")));

    proxy.ask(keyed(&proxy, "how much?")).await;
    sleep(seconds(HOUR)).await;
    let again = proxy.ask(keyed(&proxy, "how much?")).await;

    assert_eq!(
        told(&again),
        "502 server_error upstream_outcome_unknown x-should-retry=false"
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_not_posted_is_tried_anew_under_its_key() {
    let refused = answers(Answer::status(422));
    let proxy = scripted(first(1, refused, soon("an answer")));

    let first = proxy.ask(keyed(&proxy, "how much?")).await;
    let second = proxy.ask(keyed(&proxy, "how much?")).await;
    let third = proxy.ask(keyed(&proxy, "how much?")).await;

    assert_eq!(first.code(), "upstream_refused");
    assert_eq!((said(&second), decision(&second)), ("an answer", "created"));
    assert_eq!((said(&third), decision(&third)), ("an answer", "attached"));
}

#[tokio::test(start_paused = true)]
async fn a_keyed_request_never_attaches_to_a_run_without_its_key() {
    let proxy = scripted(Script::always(Behaviour::says("an answer", seconds(20))));

    hang_up(&proxy, Talk::new(&proxy).request("how much?", false), 10).await;
    let reply = proxy.ask(keyed(&proxy, "how much?")).await;

    assert_eq!(decision(&reply), "created");
}
