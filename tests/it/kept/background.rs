//! Runs that nobody waits for: asked for later, over a restart too, or cancelled.

use chaturdata_proxy::conversation::{Base, Decision, Names, Turn};
use chaturdata_proxy::ids::{Handle, ResponseId};
use chaturdata_proxy::run::Error;
use chaturdata_proxy::run::responses::NotCancelled;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Script};
use tokio::time::{Instant, sleep};

use super::{Rig, read};
use crate::talk::{first, posted, seconds, soon};

/// Whose upstream takes a minute for the first answer, and a second for others.
fn slow() -> Rig {
    Rig::with(slow_script())
}

fn slow_script() -> Script {
    first(1, Behaviour::says("slow", seconds(60)), soon("later"))
}

/// Its caller is told the id as soon as the upstream has the message.
async fn begun(rig: &Rig, turn: Turn) -> ResponseId {
    let mut place = rig.start(turn);
    place.next().await;
    let id = place.kept().unwrap().id;
    place.acknowledged();
    id
}

#[tokio::test(start_paused = true)]
async fn a_run_that_nobody_waits_for_is_asked_for_later() {
    let rig = slow();
    let id = begun(&rig, rig.background("how much?")).await;

    let mut during = rig.stored(id).unwrap().subscription;
    let early = (during.is_accepted(), during.ended());
    drop(during);
    sleep(seconds(90)).await;
    let late = rig.stored(id).unwrap().subscription.ended();

    assert_eq!(early, (true, None));
    assert_eq!(late.unwrap().unwrap().text, "slow");
}

#[tokio::test(start_paused = true)]
async fn it_survives_the_process() {
    let rig = slow();
    let id = begun(&rig, rig.background("how much?")).await;
    let rig = rig.restarted().await;

    let during = rig.stored(id).unwrap().subscription.ended();
    sleep(seconds(90)).await;
    let after = rig.stored(id).unwrap().subscription.ended();

    assert_eq!(during, None);
    assert_eq!(after.unwrap().unwrap().text, "slow");
    assert_eq!(rig.home.sandbox.posts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_follows_on_it_after_a_restart_goes_on_in_its_thread() {
    let rig = slow();
    let id = begun(&rig, rig.background("one")).await;
    let rig = rig.restarted().await;
    rig.finds(id).await.unwrap();

    let two = rig.tells(rig.after(id, "two")).await;

    assert_eq!(two.decision, Decision::Appended);
    assert_eq!(posted(&rig.proxy), [["one", "two"]]);
}

#[tokio::test(start_paused = true)]
async fn the_same_request_again_is_another_run_once_its_caller_knows_the_id() {
    let rig = slow();
    let turn = rig.background("how much?");
    let one = begun(&rig, turn.clone()).await;
    let mut again = turn;
    again.keep.as_mut().unwrap().id = ResponseId([77; 16]);

    let two = begun(&rig, again.clone()).await;
    again.repeat.marked = true;
    let retried = begun(&rig, again).await;

    assert_ne!(one, two);
    assert_eq!(retried, two);
}

#[tokio::test(start_paused = true)]
async fn the_same_request_again_is_the_same_run_while_its_caller_does_not_know_the_id() {
    let rig = slow();
    let turn = rig.background("how much?");
    drop(rig.start(turn.clone()));

    let again = rig.start(turn);

    assert_eq!(again.place().decision, Decision::Attached);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_is_told_so_at_once_and_for_good() {
    let rig = slow();
    let id = begun(&rig, rig.background("how much?")).await;
    let listener = rig.stored(id).unwrap();
    let began = Instant::now();

    let cancelled = rig.proxy.runner.cancel(&rig.owner(), id).await;
    let told = read(listener).await;
    let took = began.elapsed();
    sleep(seconds(90)).await;
    let later = rig.finds(id).await;
    let rig = rig.restarted().await;

    assert_eq!(cancelled, Ok(()));
    assert!(took < seconds(1), "{took:?}");
    for told in [told, later, rig.finds(id).await] {
        assert!(matches!(told, Err(Error::Cancelled(_))), "{told:?}");
    }
    assert!(rig.stored(id).unwrap().kept.cancelled);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_posted_on_the_thread_of_a_cancelled_run_before_it_ends() {
    for restarts in [false, true] {
        let mut rig = slow();
        let named = |turn: Turn| Turn {
            names: Names {
                handle: Some(Handle("mine".into())),
                ..Names::default()
            },
            ..turn
        };
        // What the thread holds is known, so that it is not looked at before the next is posted.
        rig.proxy.sandbox.set_script(Script::always(soon("first")));
        rig.tells(named(rig.turn("none"))).await;
        rig.proxy.sandbox.set_script(slow_script());
        let id = begun(&rig, named(rig.background("one"))).await;
        let began = Instant::now();
        rig.proxy.runner.cancel(&rig.owner(), id).await.unwrap();
        if restarts {
            rig = rig.restarted().await;
        }

        let two = rig.tells(named(rig.turn("two"))).await;

        assert_eq!((two.text(), two.decision), ("later", Decision::Appended));
        assert!(began.elapsed() > seconds(60), "restarts: {restarts}");
        assert_eq!(posted(&rig.proxy), [["none", "one", "two"]]);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_on_a_cancelled_run() {
    let rig = slow();
    let id = begun(&rig, rig.background("one")).await;
    rig.proxy.runner.cancel(&rig.owner(), id).await.unwrap();
    sleep(seconds(90)).await;

    let refused = rig.refused(rig.after(id, "two"));

    assert_eq!(
        refused,
        Error::NotFollowable(id.to_string(), "was cancelled")
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_its_turn_and_is_cancelled_is_not_posted() {
    let rig = slow();
    let names = Names {
        handle: Some(Handle("mine".into())),
        ..Names::default()
    };
    let within = |turn: Turn| Turn {
        names: names.clone(),
        base: Base::Conversation,
        ..turn
    };
    begun(&rig, within(rig.background("one"))).await;
    let waits = rig.start(within(rig.background("two")));
    let id = waits.kept().unwrap().id;
    waits.acknowledged();

    rig.proxy.runner.cancel(&rig.owner(), id).await.unwrap();
    sleep(seconds(120)).await;

    assert_eq!(posted(&rig.proxy), [["one"]]);
    assert!(matches!(rig.finds(id).await, Err(Error::Cancelled(_))));
}

#[tokio::test(start_paused = true)]
async fn only_what_runs_in_the_background_is_cancelled_and_only_by_its_own_caller() {
    let rig = slow();
    let place = rig.start(rig.turn("how much?"));
    let id = place.kept().unwrap().id;
    let other = begun(&rig, rig.background("how many?")).await;
    let runner = &rig.proxy.runner;

    let waited = runner.cancel(&rig.owner(), id).await;
    let unknown = runner.cancel(&rig.owner(), ResponseId([99; 16])).await;
    let foreign = runner.cancel(&rig.caller("sk-other"), other).await;

    assert_eq!(waited, Err(NotCancelled::NotBackground));
    assert_eq!([unknown, foreign], [Err(NotCancelled::Unknown); 2]);
    assert_eq!(rig.finds(other).await.unwrap(), "later");
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_is_not_cancelled_any_more() {
    let rig = Rig::with(Script::always(soon("forty-two")));
    let id = begun(&rig, rig.background("how much?")).await;
    sleep(seconds(10)).await;

    let cancelled = rig.proxy.runner.cancel(&rig.owner(), id).await;

    assert_eq!(cancelled, Ok(()));
    assert_eq!(rig.finds(id).await.unwrap(), "forty-two");
}
