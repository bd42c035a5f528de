//! What was asked before the kill is answered after it.

use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::ids::TextHash;
use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{
    Answer, Behaviour, Failure, Place, Read, Script,
};
use serde_json::json;
use tokio::time::sleep;

use super::{Home, is_cut_off, talk};
use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, calls, decision, first, said, seconds, told};

#[tokio::test(start_paused = true)]
async fn a_run_that_was_under_way_is_answered_to_who_asks_again() {
    for texts in [TextHash::Highway, TextHash::Sha256] {
        is_answered_to_who_asks_again(texts).await;
    }
}

async fn is_answered_to_who_asks_again(texts: TextHash) {
    let mut home = Home::saying("forty-two", 60);
    home.salt = Salt::of_state([7; 32], texts);
    let proxy = home.start();
    is_cut_off(&proxy, talk(&proxy).request("how much?", false), 5).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let again = proxy.ask(talk(&proxy).request("how much?", false)).await;

    assert_eq!((said(&again), decision(&again)), ("forty-two", "attached"));
    assert_eq!(home.sandbox.posts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_heard_is_read_from_its_thread_again() {
    let mut home = Home::saying("forty-two", 10);
    let proxy = home.start();
    is_cut_off(&proxy, talk(&proxy).request("how much?", false), 5).await;
    sleep(seconds(60)).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let again = proxy.ask(talk(&proxy).request("how much?", false)).await;

    assert_eq!(said(&again), "forty-two");
    assert_eq!(home.sandbox.posts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_read_from_its_thread_once_there_is_room() {
    let mut home = Home::saying("forty-two", 10);
    let proxy = home.start();
    is_cut_off(&proxy, talk(&proxy).request("how much?", false), 5).await;
    sleep(seconds(60)).await;
    home.kill(proxy).await;
    let mut setup = Setup::default();
    setup.config.upstream.max_connections = 1;
    setup.config.upstream.queue_timeout = seconds(1);
    let proxy = home.start_with(setup);
    let mut slow = Behaviour::says("slow", seconds(1));
    slow.post.accept_after = seconds(60);
    home.sandbox.set_script(Script::always(slow));

    let mut other = Talk::new(&proxy).header("authorization", "Bearer sk-other");
    let asking = async {
        sleep(seconds(1)).await;
        proxy.ask(talk(&proxy).request("how much?", false)).await
    };
    let (other, again) = tokio::join!(other.says("slow"), asking);

    assert_eq!([said(&other), said(&again)], ["slow", "forty-two"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_heard_is_another_one_when_it_is_asked_again() {
    let script = first(
        1,
        Behaviour::says("first", seconds(1)),
        Behaviour::says("second", seconds(1)),
    );
    let mut home = Home::new(script);
    let proxy = home.start();
    let before = proxy.ask(talk(&proxy).request("how much?", false)).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let after = proxy.ask(talk(&proxy).request("how much?", false)).await;

    assert_eq!([said(&before), said(&after)], ["first", "second"]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_says_so_gets_what_was_written_out_just_before() {
    let mut home = Home::saying("forty-two", 1);
    let proxy = home.start();
    proxy.ask(talk(&proxy).request("how much?", false)).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let retry = talk(&proxy).header("x-stainless-retry-count", "1");
    let retry = proxy.ask(retry.request("how much?", false)).await;

    assert_eq!(said(&retry), "forty-two");
    assert_eq!(home.sandbox.posts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_is_kept_over_a_restart() {
    let mut home = Home::saying("forty-two", 1);
    let proxy = home.start();
    let keyed = talk(&proxy).header("idempotency-key", "k-1");
    proxy.ask(keyed.request("how much?", false)).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let keyed = talk(&proxy).header("idempotency-key", "k-1");
    sleep(seconds(3600)).await;
    let again = proxy.ask(keyed.request("how much?", false)).await;
    let other = proxy.ask(keyed.request("how many?", false)).await;

    assert_eq!(said(&again), "forty-two");
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(
        told(&other),
        "422 invalid_request_error idempotency_key_reused"
    );
    assert_eq!(home.sandbox.posts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_stands_is_repeated_without_its_words() {
    let failure = Some(Failure {
        words: "no table".to_owned(),
        place: Place::default(),
    });
    let mut home = Home::new(Script::always(Behaviour::ends(
        "failed",
        failure,
        seconds(1),
    )));
    let proxy = home.start();
    is_cut_off(&proxy, talk(&proxy).request("how much?", false), 1).await;
    sleep(seconds(60)).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let again = proxy.ask(talk(&proxy).request("how much?", false)).await;

    assert_eq!(
        told(&again),
        "502 server_error run_failed x-should-retry=false"
    );
    assert!(!again.text.contains("no table"), "{}", again.text);
    assert_eq!(home.sandbox.posts().len(), 1);
}

fn asks(proxy: &Proxy) -> Talk<'_> {
    talk(proxy).fields(json!({"stop": [" three"]}))
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_cut_as_its_request_says() {
    for wait in [2, 60] {
        let mut home = Home::saying("one. two. three.", 10);
        let proxy = home.start();
        is_cut_off(&proxy, asks(&proxy).request("how much?", false), 5).await;
        sleep(seconds(wait)).await;

        home.kill(proxy).await;
        let proxy = home.start();
        let mut talk = asks(&proxy);
        let again = talk.says("how much?").await;
        let next = talk.says("and then?").await;

        assert_eq!(said(&again), "one. two.");
        assert_eq!(decision(&next), "appended", "killed after {wait} s");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_before_the_key_is_presented_by_any_request() {
    let mut home = Home::saying("forty-two", 10);
    let proxy = home.start();
    is_cut_off(&proxy, talk(&proxy).request("how much?", false), 5).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let reads = calls(&proxy, Kind::Read).len();
    sleep(seconds(60)).await;
    let other = [("authorization", "Bearer sk-other")];
    proxy
        .ask(crate::proxy::request("GET", "/v1/models", &other, ""))
        .await;
    sleep(seconds(60)).await;
    let untouched = calls(&proxy, Kind::Read).len();
    let own = [("authorization", "Bearer sk-caller")];
    proxy
        .ask(crate::proxy::request("GET", "/v1/models", &own, ""))
        .await;
    sleep(seconds(60)).await;

    assert_eq!(untouched, reads);
    assert!(calls(&proxy, Kind::Read).len() > reads);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_asks_for_is_not_owed_for_ever() {
    let script = first(
        1,
        Behaviour::says("an old answer", seconds(10)),
        Behaviour::says("a new answer", seconds(1)),
    );
    let mut home = Home::new(script);
    let proxy = home.start();
    is_cut_off(&proxy, asks(&proxy).request("how much?", false), 5).await;

    home.kill(proxy).await;
    let proxy = home.start();
    // The key brings the run to its end, but only the request says where its answer is cut.
    let key = [("authorization", "Bearer sk-caller")];
    proxy
        .ask(crate::proxy::request("GET", "/v1/models", &key, ""))
        .await;
    sleep(seconds(60)).await;
    home.kill(proxy).await;
    let proxy = home.start();
    sleep(seconds(20 * 60)).await;
    let again = proxy.ask(asks(&proxy).request("how much?", false)).await;

    assert_eq!(said(&again), "a new answer");
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_key_was_refused_is_followed_once_the_key_is_taken_again() {
    let refused = Behaviour {
        reads: vec![Read::these(1, 1, Answer::status(401))],
        ..Behaviour::says("forty-two", seconds(10))
    };
    let mut home = Home::new(Script::always(refused));
    let proxy = home.start();
    let before = proxy.ask(talk(&proxy).request("how much?", false)).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let after = proxy.ask(talk(&proxy).request("how much?", false)).await;

    assert_eq!(before.code(), "invalid_api_key");
    assert_eq!((said(&after), decision(&after)), ("forty-two", "attached"));
    assert_eq!(home.sandbox.posts().len(), 1);
}
