//! A response is found by its id, by its own caller, for as long as its conversation is remembered.

use chaturdata_proxy::conversation::Turn;
use chaturdata_proxy::ids::ResponseId;
use chaturdata_proxy::run::Error;
use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Answer, Behaviour, Read, Script};
use tokio::time::sleep;

use super::{Rig, long, pieces};
use crate::talk::{answers, calls, first, seconds, shows, soon};

#[tokio::test(start_paused = true)]
async fn a_response_is_found_by_its_id_and_says_what_was_asked() {
    let rig = Rig::new();
    let told = rig.tells(rig.turn("how much?")).await;

    let stored = rig.stored(told.id()).unwrap();

    assert_eq!(stored.kept.model, "asked-for");
    assert_eq!(stored.kept.created, 1_700_000_000);
    assert_eq!(stored.conversation, told.conversation);
    assert_eq!(rig.finds(told.id()).await.unwrap(), "first");
}

#[tokio::test(start_paused = true)]
async fn nobody_else_finds_it() {
    let rig = Rig::new();
    let told = rig.tells(rig.turn("how much?")).await;
    let other = rig.caller("sk-other");

    assert!(rig.proxy.runner.response(&other, told.id()).is_none());
    assert!(!rig.proxy.runner.forget_response(&other, told.id()));
    assert_eq!(rig.finds(told.id()).await.unwrap(), "first");
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_not_to_be_kept_is_not_found() {
    let rig = Rig::new();
    let turn = rig.turn("how much?");
    let id = turn.keep.as_ref().unwrap().id;

    let told = rig.tells(Turn { keep: None, ..turn }).await;

    assert_eq!(told.id, None);
    assert!(rig.stored(id).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_response_that_was_forgotten_is_unknown_and_stays_so() {
    let rig = Rig::new();
    let id = rig.tells(rig.turn("how much?")).await.id();

    let forgot = rig.proxy.runner.forget_response(&rig.owner(), id);
    let again = rig.proxy.runner.forget_response(&rig.owner(), id);
    let rig = rig.restarted().await;

    assert_eq!((forgot, again), (true, false));
    assert!(rig.stored(id).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_told_the_id_of_the_first_request() {
    let rig = Rig::new();
    let turn = rig.turn("how much?");
    let first = rig.start(turn.clone());
    let id = first.kept().unwrap().id;
    drop(first);
    let mut retry = turn;
    retry.keep.as_mut().unwrap().id = ResponseId([77; 16]);

    let told = rig.tells(retry).await;

    assert_eq!(told.id(), id);
    assert!(rig.stored(ResponseId([77; 16])).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_left_memory_is_read_from_its_thread_once() {
    let rig = Rig::new();
    let id = rig.tells(rig.turn("how much?")).await.id();
    sleep(long()).await;
    rig.tells(rig.turn("and now?")).await;
    let reads = calls(&rig.proxy, Kind::Read).len();

    let found = [rig.finds(id).await, rig.finds(id).await];

    assert_eq!(found.map(Result::unwrap), ["first", "first"]);
    assert_eq!(calls(&rig.proxy, Kind::Read).len() - reads, 1);
}

#[tokio::test(start_paused = true)]
async fn a_response_is_found_after_a_restart() {
    let rig = Rig::new();
    let id = rig.tells(rig.turn("how much?")).await.id();

    let rig = rig.restarted().await;
    let stored = rig.stored(id).unwrap();
    let is_recalled = stored.is_recalled;
    drop(stored);
    sleep(long()).await;
    rig.tells(rig.turn("and now?")).await;

    assert!(is_recalled);
    assert_eq!(rig.finds(id).await.unwrap(), "first");
    assert_eq!(rig.home.sandbox.posts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_the_one_that_was_told_is_not_believed() {
    let turned = Behaviour {
        steps: vec![shows(1, "forty-two"), shows(100, "forty-three")],
        ..Behaviour::says("forty-two", seconds(1))
    };
    let rig = Rig::with(Script::always(turned));
    let id = rig.tells(rig.turn("how much?")).await.id();
    sleep(seconds(100)).await;

    let rig = rig.restarted().await;

    assert_eq!(rig.finds(id).await, Err(Error::NoResponse(id.to_string())));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_fails_is_no_reason_to_say_that_there_is_no_response() {
    let fails = Behaviour {
        reads: vec![Read::these(2, 3, Answer::status(500))],
        ..soon("first")
    };
    let rig = Rig::with(Script::always(fails));
    let id = rig.tells(rig.turn("how much?")).await.id();
    let rig = rig.restarted().await;

    let during = rig.finds(id).await;
    let after = rig.finds(id).await;

    assert_eq!(during, Err(Error::Unreachable));
    assert_eq!(after.unwrap(), "first");
}

#[tokio::test(start_paused = true)]
async fn whoever_listens_is_told_the_same_pieces_whenever_it_came() {
    let grows = Behaviour {
        steps: vec![shows(2, "one"), shows(12, "one two")],
        ..Behaviour::says("one two three", seconds(20))
    };
    let rig = Rig::with(Script::always(grows));
    let turn = rig.turn("how much?");
    let id = turn.keep.as_ref().unwrap().id;
    let place = rig.start(turn);
    let reader = |after| {
        let rig = &rig;
        async move {
            sleep(seconds(after)).await;
            pieces(rig.stored(id).unwrap().subscription).await
        }
    };

    let heard = tokio::join!(pieces(place), reader(1), reader(17), reader(60));

    assert_eq!(heard.0, ["one", " two", " three"]);
    assert_eq!([&heard.1, &heard.2, &heard.3], [&heard.0; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_found_with_its_error_and_without_its_words_later() {
    let failure = Behaviour::ends("failed", None, seconds(1));
    let rig = Rig::with(Script::always(failure));
    let id = rig.tells(rig.turn("how much?")).await.id();
    let before = rig.finds(id).await;

    let rig = rig.restarted().await;

    assert!(matches!(before, Err(Error::Failed(_))), "{before:?}");
    assert!(matches!(rig.finds(id).await, Err(Error::Failed(_))));
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_is_told_until_it_is_forgotten() {
    let refuses = answers(crate::talk::busy(400, None));
    let rig = Rig::with(first(1, refuses, soon("later")));
    let id = rig.tells(rig.turn("how much?")).await.id();

    assert!(matches!(rig.finds(id).await, Err(Error::Refused(_))));
    assert!(rig.restarted().await.stored(id).is_none());
}
