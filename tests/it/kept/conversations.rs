//! Conversations that callers make, describe, add to, and forget; they go on in any endpoint.

use chaturdata_proxy::conversation::{Base, Decision, Message, Role, Turn};
use chaturdata_proxy::ids::Handle;
use chaturdata_proxy::run::Error;
use chaturdata_proxy::run::items::{Conversation, NotKept};
use chaturdata_proxy::run::notes::Pending;
use chaturdata_proxy::upstream::sandbox::script::Behaviour;
use tokio::time::sleep;

use super::Rig;
use crate::restarts::delta;
use crate::talk::{Talk, answers, busy, decision, first, posted, seconds, soon};

fn pending(role: Role, text: &str) -> Pending {
    Pending {
        message: Some(Message::said(role, text)),
        shown: format!("{{\"text\": {text:?}}}").into(),
    }
}

impl Rig {
    async fn makes(&self, items: Vec<Pending>) -> Handle {
        let metadata = Some("{\"topic\":\"sales\"}".into());
        let (runner, owner) = (&self.proxy.runner, self.owner());
        let made = runner.create_conversation(&owner, 1_700_000_000, metadata, items);
        made.await.unwrap()
    }

    fn knows(&self, handle: &Handle) -> Option<Conversation> {
        self.proxy.runner.conversation(&self.owner(), handle)
    }
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_was_made_goes_on_under_its_name() {
    let rig = Rig::new();
    let handle = rig.makes(Vec::new()).await;

    let one = rig.tells(rig.within(&handle, "one")).await;
    let two = rig.tells(rig.within(&handle, "two")).await;

    assert_eq!(
        [one.decision, two.decision],
        [Decision::Created, Decision::Appended]
    );
    assert_eq!([&one.conversation, &two.conversation], [&handle; 2]);
    assert_eq!(posted(&rig.proxy), [["one", "two"]]);
    assert_eq!(rig.knows(&handle).unwrap().created, 1_700_000_000);
}

#[tokio::test(start_paused = true)]
async fn items_are_posted_once_with_the_next_prompt_and_counted() {
    let rig = Rig::new();
    let handle = rig
        .makes(vec![
            pending(Role::User, "aside"),
            pending(Role::Assistant, "noted"),
        ])
        .await;

    let one = rig.tells(rig.within(&handle, "one")).await;
    rig.tells(rig.within(&handle, "two")).await;
    let mut whole = rig.turn("three");
    for (role, text) in [
        (Role::User, "aside"),
        (Role::Assistant, "noted"),
        (Role::User, "one"),
        (Role::Assistant, "first"),
        (Role::User, "two"),
        (Role::Assistant, "later"),
    ] {
        whole.history.push(Message::said(role, text));
    }
    let three = rig.tells(whole).await;

    let told = "Earlier conversation:\n\nUser: aside\n\nAssistant: noted\n\n---\n\none";
    assert_eq!(
        [one.decision, three.decision],
        [Decision::Created, Decision::Appended]
    );
    assert_eq!(posted(&rig.proxy), [[told, "two", "three"]]);
}

#[tokio::test(start_paused = true)]
async fn items_are_not_lost_with_a_turn_that_was_refused() {
    let rig = Rig::with(first(1, answers(busy(400, None)), soon("later")));
    let handle = rig.makes(vec![pending(Role::User, "aside")]).await;

    let refused = rig.tells(rig.within(&handle, "one")).await;
    let again = rig.tells(rig.within(&handle, "two")).await;

    assert!(matches!(refused.answer, Err(Error::Refused(_))));
    assert_eq!((again.text(), again.decision), ("later", Decision::Created));
    let told = "Earlier conversation:\n\nUser: aside\n\n---\n\ntwo";
    assert_eq!(posted(&rig.proxy), [[told]]);
}

#[tokio::test(start_paused = true)]
async fn whoever_sends_a_whole_history_leaves_items_to_the_next_prompt() {
    let rig = Rig::new();
    let handle = rig.makes(vec![pending(Role::User, "aside")]).await;
    let said = |(role, text)| Message::said(role, text);
    let whole = Turn {
        base: Base::Nothing,
        history: [(Role::User, "zero"), (Role::Assistant, "nothing")]
            .map(said)
            .into(),
        ..rig.within(&handle, "one")
    };

    rig.tells(whole).await;
    rig.tells(rig.within(&handle, "two")).await;

    let whole = "Earlier conversation:\n\nUser: zero\n\nAssistant: nothing\n\n---\n\none";
    let later = "Earlier conversation:\n\nUser: aside\n\n---\n\ntwo";
    assert_eq!(posted(&rig.proxy), [[whole, later]]);
}

#[tokio::test(start_paused = true)]
async fn what_is_posted_nowhere_ends_with_the_process_and_the_conversation_does_not() {
    let rig = Rig::new();
    let handle = rig.makes(vec![pending(Role::User, "aside")]).await;
    let before = rig.knows(&handle).unwrap();

    let rig = rig.restarted().await;
    let after = rig.knows(&handle).unwrap();
    let one = rig.tells(rig.within(&handle, "one")).await;

    assert_eq!(before.metadata.as_deref(), Some("{\"topic\":\"sales\"}"));
    assert_eq!((after.created, after.metadata), (1_700_000_000, None));
    assert_eq!(one.decision, Decision::Created);
    assert_eq!(posted(&rig.proxy), [["one"]]);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_begun_in_a_chat_goes_on_and_back() {
    let rig = Rig::new();
    let mut chat = delta(&rig.proxy, "mine");
    chat.says("one").await;
    chat.messages.clear();
    let handle = Handle("mine".into());

    let two = rig.tells(rig.within(&handle, "two")).await;
    let three = chat.says("three").await;

    assert_eq!(two.decision, Decision::Appended);
    assert_eq!(decision(&three), "appended");
    assert_eq!(posted(&rig.proxy), [["one", "two", "three"]]);
    assert!(rig.knows(&handle).unwrap().created > 1_700_000_000);
}

#[tokio::test(start_paused = true)]
async fn a_chat_that_sends_its_history_goes_on_where_a_response_has_spoken() {
    let rig = Rig::new();
    let mut chat = Talk::new(&rig.proxy).header("authorization", "Bearer sk-caller");
    let one = chat.says("one").await;
    let handle = Handle(one.header("x-conversation-id").into());
    rig.tells(rig.within(&handle, "two")).await;
    chat.remember("two", &"later".into());

    let three = chat.says("three").await;

    assert_eq!(decision(&three), "appended");
    assert_eq!(posted(&rig.proxy), [["one", "two", "three"]]);
}

#[tokio::test(start_paused = true)]
async fn nobody_else_knows_it() {
    let rig = Rig::new();
    let handle = rig.makes(Vec::new()).await;
    let other = rig.caller("sk-other");
    let foreign = Turn {
        caller: other.clone(),
        ..rig.within(&handle, "one")
    };
    let runner = &rig.proxy.runner;

    assert_eq!(
        rig.refused(foreign),
        Error::NoConversation(handle.to_string())
    );
    assert_eq!(runner.conversation(&other, &handle), None);
    assert!(!runner.forget_conversation(&other, &handle));
    let unknown = Err(NotKept::Unknown);
    assert_eq!(runner.add_items(&other, &handle, Vec::new()), unknown);
    assert_eq!(
        runner.describe_conversation(&other, &handle, "{}".into()),
        unknown
    );
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_was_forgotten_is_unknown_and_its_run_goes_on() {
    let rig = Rig::with(first(
        1,
        soon("first"),
        Behaviour::says("slow", seconds(60)),
    ));
    let handle = rig.makes(Vec::new()).await;
    rig.tells(rig.within(&handle, "one")).await;
    let mut place = rig.start(rig.within(&handle, "two"));
    sleep(seconds(5)).await;

    let forgot = rig.proxy.runner.forget_conversation(&rig.owner(), &handle);
    let answer = place.answer().await;
    let refused = rig.refused(rig.within(&handle, "three"));
    let rig = rig.restarted().await;

    assert!(forgot);
    assert_eq!(answer.unwrap().text, "slow");
    assert_eq!(refused, Error::NoConversation(handle.to_string()));
    assert_eq!(rig.knows(&handle), None);
}

#[tokio::test(start_paused = true)]
async fn requests_in_a_conversation_wait_for_one_another() {
    let rig = Rig::new();
    let handle = rig.makes(Vec::new()).await;

    let told = tokio::join!(
        rig.tells(rig.within(&handle, "one")),
        rig.tells(rig.within(&handle, "two")),
        rig.tells(rig.within(&handle, "three")),
    );

    assert_eq!(told.0.decision, Decision::Created);
    assert_eq!([told.1.decision, told.2.decision], [Decision::Appended; 2]);
    assert_eq!(posted(&rig.proxy), [["one", "two", "three"]]);
}

#[tokio::test(start_paused = true)]
async fn instructions_stay_until_others_are_given() {
    let rig = Rig::new();
    let handle = rig.makes(Vec::new()).await;
    let mut turn = rig.within(&handle, "one");
    turn.instructions = Some("Be brief.".to_owned());
    rig.tells(turn).await;

    rig.tells(rig.within(&handle, "two")).await;

    assert_eq!(
        posted(&rig.proxy),
        [["Instructions:\n\nBe brief.\n\n---\n\none", "two"]]
    );
}
