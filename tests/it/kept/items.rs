//! The items of a conversation: what its thread shows, taken apart, and what is not posted yet.

use chaturdata_proxy::conversation::{Message, Role, Turn};
use chaturdata_proxy::ids::Handle;
use chaturdata_proxy::run::Error;
use chaturdata_proxy::run::items::Item;
use chaturdata_proxy::run::notes::Pending;
use chaturdata_proxy::upstream::sandbox::Kind;
use tokio::time::Instant;

use super::Rig;
use crate::talk::calls;

impl Rig {
    async fn lists(&self, handle: &Handle) -> Vec<String> {
        let items = self.proxy.runner.items(&self.owner(), handle).await;
        items.unwrap().iter().map(line).collect()
    }
}

fn line(item: &Item) -> String {
    match item {
        Item::Shown { message, .. } => format!("{:?}: {}", message.role, message.text),
        Item::Pending(pending) => format!("to be posted: {}", pending.shown),
    }
}

fn keys(items: &[Item]) -> Vec<[u8; 16]> {
    let key = |item: &Item| match item {
        Item::Shown { key, .. } => Some(*key),
        Item::Pending(_) => None,
    };
    items.iter().filter_map(key).collect()
}

#[tokio::test(start_paused = true)]
async fn a_conversation_is_shown_without_what_we_wrap_it_in() {
    let rig = Rig::new();
    let mut turn = rig.turn("two");
    turn.instructions = Some("Be brief.\n\n---\n\nBe kind.".to_owned());
    turn.history = vec![
        Message::said(Role::User, "one"),
        Message::said(Role::Assistant, "yes"),
    ];
    let handle = rig.tells(turn).await.conversation;
    let aside = Pending {
        message: Some(Message::said(Role::User, "aside")),
        shown: "aside".into(),
    };
    let runner = &rig.proxy.runner;
    runner
        .add_items(&rig.owner(), &handle, vec![aside])
        .unwrap();

    assert_eq!(
        rig.lists(&handle).await,
        [
            "User: one",
            "Assistant: yes",
            "User: two",
            "Assistant: first",
            "to be posted: aside",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_item_keeps_its_key_when_others_come_and_after_a_restart() {
    let rig = Rig::new();
    let handle = rig.tells(rig.turn("yes")).await.conversation;
    let before = rig.proxy.runner.items(&rig.owner(), &handle).await.unwrap();
    rig.tells(rig.within(&handle, "yes")).await;
    let rig = rig.restarted().await;

    let after = rig.proxy.runner.items(&rig.owner(), &handle).await.unwrap();

    let (before, mut after) = (keys(&before), keys(&after));
    assert_eq!(before, after[..2]);
    after.sort_unstable();
    after.dedup();
    assert_eq!(after.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn reading_items_does_not_crowd_the_thread() {
    let rig = Rig::new();
    let handle = rig.tells(rig.turn("one")).await.conversation;

    let lists = (0..5).map(|_| rig.lists(&handle));
    futures_util::future::join_all(lists).await;

    let reads: Vec<Instant> = calls(&rig.proxy, Kind::Read)
        .iter()
        .map(|call| call.at)
        .collect();
    let least = chaturdata_proxy::config::Config::default().pace.min_gap;
    let gaps: Vec<_> = reads.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap >= least), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn an_item_that_is_not_posted_is_taken_back() {
    let rig = Rig::new();
    let handle = rig.tells(rig.turn("one")).await.conversation;
    let item = |text: &str| Pending {
        message: None,
        shown: text.into(),
    };
    let (runner, owner) = (&rig.proxy.runner, rig.owner());
    runner
        .add_items(&owner, &handle, vec![item("a"), item("b")])
        .unwrap();

    let dropped = runner.drop_items(&owner, &handle, |item| &*item.shown == "a");
    let again = runner.drop_items(&owner, &handle, |item| &*item.shown == "a");

    assert_eq!((dropped, again), (true, false));
    assert_eq!(
        rig.lists(&handle).await,
        ["User: one", "Assistant: first", "to be posted: b"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_conversation_without_a_thread_and_one_that_is_unknown_differ() {
    let rig = Rig::new();
    let (runner, owner) = (&rig.proxy.runner, rig.owner());
    let made = runner
        .create_conversation(&owner, 1, None, Vec::new())
        .await
        .unwrap();
    let unknown = Handle("conv_unknown".into());
    let lost = rig
        .tells(Turn {
            keep: None,
            ..rig.turn("one")
        })
        .await
        .conversation;
    rig.home.sandbox.forget(&rig.home.sandbox.threads()[0]);

    assert_eq!(runner.items(&owner, &made).await, Ok(Vec::new()));
    for handle in [unknown, lost] {
        assert_eq!(
            runner.items(&owner, &handle).await,
            Err(Error::NoConversation(handle.to_string()))
        );
    }
}
