//! What is kept is bounded by count, by age, and by the conversation that it belongs to.

use chaturdata_proxy::conversation::{Message, Role};
use chaturdata_proxy::run::items::NotKept;
use chaturdata_proxy::run::notes::{Full, Pending};
use tokio::time::sleep;

use super::{Rig, long};
use crate::proxy::Setup;
use crate::talk::{first, seconds, soon};

fn remembering(max: usize) -> Rig {
    let mut setup = Setup::default();
    setup.config.conversations.max = max;
    Rig::with_setup(first(1, soon("first"), soon("later")), setup)
}

#[tokio::test(start_paused = true)]
async fn a_response_goes_with_its_conversation() {
    let rig = Rig::new();
    let told = rig.tells(rig.turn("one")).await;
    sleep(long()).await;
    rig.tells(rig.turn("two")).await;

    rig.proxy
        .runner
        .forget_conversation(&rig.owner(), &told.conversation);

    assert!(rig.stored(told.id()).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_oldest_responses_make_room_for_new_ones() {
    let rig = remembering(3);
    let one = rig.tells(rig.turn("one")).await;
    let mut last = one.id();
    for _ in 0..6 {
        sleep(long()).await;
        last = rig.tells(rig.after(last, "more")).await.id();
    }

    assert!(rig.stored(one.id()).is_none());
    assert!(rig.stored(last).is_some());
    let turns = rig.home.shelf.restored().turns.len();
    assert!(turns <= 5, "{turns} are remembered");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_older_than_conversations_get_is_forgotten() {
    let mut setup = Setup::default();
    setup.config.conversations.max_age = seconds(60 * 60);
    let rig = Rig::with_setup(first(1, soon("first"), soon("later")), setup);
    let one = rig.tells(rig.turn("one")).await;
    let two = rig.tells(rig.after(one.id(), "two")).await;
    sleep(seconds(50 * 60)).await;
    rig.tells(rig.after(two.id(), "three")).await;
    sleep(seconds(50 * 60)).await;

    for _ in 0..3 {
        rig.tells(rig.turn("another")).await;
    }

    assert!(rig.stored(one.id()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_keeps_too_much_is_refused() {
    let rig = Rig::new();
    let (runner, owner) = (&rig.proxy.runner, rig.owner());
    let handle = runner
        .create_conversation(&owner, 1, None, Vec::new())
        .await
        .unwrap();
    let large = || {
        vec![Pending {
            message: Some(Message::said(Role::User, "x".repeat(7 << 20))),
            shown: "{}".into(),
        }]
    };

    let kept = [(); 3].map(|()| runner.add_items(&owner, &handle, large()));
    let other = rig.caller("sk-other");
    let elsewhere = runner.create_conversation(&other, 1, None, large()).await;

    assert_eq!(kept, [Ok(()), Ok(()), Err(NotKept::Full(Full))]);
    assert!(elsewhere.is_ok());
}
