//! Errors that stand are told again for a while, since some clients retry whatever they are told.

use chaturdata_proxy::upstream::sandbox::script::{Answer, Behaviour, Failure, Place, Script};
use tokio::time::sleep;

use super::{asked, posts, scripted};
use crate::proxy::{Proxy, Reply};
use crate::talk::{Talk, answers, decision, first, said, seconds, soon, told};

const FAILED: &str = "502 server_error run_failed x-should-retry=false";
const UNKNOWN: &str = "502 server_error upstream_outcome_unknown x-should-retry=false";

fn fails() -> Behaviour {
    let failure = Failure {
        words: "no table".to_owned(),
        place: Place::default(),
    };
    Behaviour::ends("failed", Some(failure), seconds(1))
}

/// The first run fails, or it is not known whether it began; all others succeed.
fn once(behaviour: Behaviour) -> Proxy {
    scripted(first(1, behaviour, soon("an answer")))
}

async fn later(proxy: &Proxy, after: u64) -> Reply {
    sleep(seconds(after)).await;
    proxy.ask(asked(proxy)).await
}

/// Asks again after each of these pauses, and is told the same; then it is a new turn.
async fn check(behaviour: Behaviour, error: &str, pauses: &[u64], last: u64) {
    let proxy = once(behaviour);

    assert_eq!(told(&proxy.ask(asked(&proxy)).await), error);
    let begun = proxy.sandbox.calls().len();
    for pause in pauses {
        let again = later(&proxy, *pause).await;
        assert_eq!((told(&again), decision(&again)), (error.into(), "attached"));
    }
    assert_eq!(proxy.sandbox.calls().len(), begun, "nothing was asked");

    let anew = later(&proxy, last).await;
    assert_eq!((said(&anew), decision(&anew)), ("an answer", "created"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_told_again_within_ten_seconds_of_the_last_time() {
    check(fails(), FAILED, &[], 11).await;
    check(fails(), FAILED, &[0, 9, 9], 11).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_told_again_for_a_minute_in_all() {
    check(fails(), FAILED, &[9, 9, 9, 9, 9, 9, 5], 2).await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_told_again_within_65_seconds_of_the_last_time() {
    let lost = || answers(Answer::status(500));
    check(lost(), UNKNOWN, &[], 66).await;
    check(lost(), UNKNOWN, &[64, 64], 66).await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_told_again_for_three_minutes_in_all() {
    let lost = answers(Answer::status(500));
    check(lost, UNKNOWN, &[60, 60, 58], 4).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_that_nobody_was_told_is_told_once_more() {
    let proxy = once(fails());

    drop(proxy.send(asked(&proxy)).await);
    let again = later(&proxy, 600).await;

    assert_eq!(
        (told(&again), decision(&again)),
        (FAILED.into(), "attached")
    );
    assert_eq!(posts(&proxy), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ended_in_an_error_is_told_it_again() {
    let proxy = scripted(Script::always(fails()));
    let stream = || Talk::new(&proxy).request("how much?", true);

    let streamed = Talk::new(&proxy).streams("how much?").await;
    let again = proxy.ask(stream()).await;

    assert_eq!(streamed.error()["code"], "run_failed");
    assert_eq!(
        (told(&again), decision(&again)),
        (FAILED.into(), "attached")
    );
    assert_eq!(posts(&proxy), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_before_the_post_is_not_told_again() {
    let proxy = once(answers(Answer::status(422)));

    let refused = proxy.ask(asked(&proxy)).await;
    let again = proxy.ask(asked(&proxy)).await;

    assert_eq!(refused.code(), "upstream_refused");
    assert_eq!((said(&again), decision(&again)), ("an answer", "created"));
}
