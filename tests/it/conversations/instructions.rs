//! System and developer messages: posted first, and again only when they change.

use serde_json::{Value, json};

use super::{adds, after_one, assistant, conversation, resuming, user};
use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, decision, posted};

fn system(text: &str) -> Value {
    json!({"role": "system", "content": text})
}

/// The history after `one`, under these instructions.
fn told_to(role: &str, text: &str) -> Vec<Value> {
    vec![
        json!({"role": role, "content": text}),
        user("one"),
        assistant("hello"),
    ]
}

#[tokio::test(start_paused = true)]
async fn instructions_are_posted_before_the_first_prompt_only() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = resuming(&proxy, &[system("Be brief.")]);

    let first = talk.says("one").await;
    let second = talk.says("two").await;

    assert_eq!([&first, &second].map(decision), ["created", "appended"]);
    assert_eq!(
        posted(&proxy),
        [["Instructions:\n\nBe brief.\n\n---\n\none", "two"]]
    );
}

#[tokio::test(start_paused = true)]
async fn a_system_and_a_developer_message_are_the_same_instructions() {
    let proxy = Proxy::start(Setup::default());
    resuming(&proxy, &[system("Be brief.")]).says("one").await;

    let reply = resuming(&proxy, &told_to("developer", "Be brief.\r\n"))
        .says("two")
        .await;

    assert_eq!(decision(&reply), "appended");
    assert_eq!(posted(&proxy)[0][1], "two");
}

#[tokio::test(start_paused = true)]
async fn changed_instructions_are_posted_once_with_the_next_prompt() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = resuming(&proxy, &[system("Be brief.")]).header("x-conversation-id", "mine");
    talk.says("one").await;

    talk.messages[0] = system("Be thorough.");
    let changed = talk.says("two").await;
    let same = talk.says("three").await;
    talk.messages.remove(0);
    let gone = talk.says("four").await;
    let still_gone = talk.says("five").await;

    assert_eq!(
        [&changed, &same, &gone, &still_gone].map(decision),
        ["appended"; 4]
    );
    assert_eq!(
        posted(&proxy),
        [[
            "Instructions:\n\nBe brief.\n\n---\n\none",
            "Updated instructions:\n\nBe thorough.\n\n---\n\ntwo",
            "three",
            "The earlier instructions no longer apply.\n\n---\n\nfour",
            "five",
        ]]
    );
}

#[tokio::test(start_paused = true)]
async fn a_user_id_keeps_the_thread_under_changed_instructions_too() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = resuming(&proxy, &[system("It is Monday.")]).fields(json!({"user": "ada"}));
    talk.says("one").await;

    talk.messages[0] = system("It is Tuesday.");
    let reply = talk.says("two").await;

    assert_eq!(decision(&reply), "appended");
    assert_eq!(
        posted(&proxy)[0][1],
        "Updated instructions:\n\nIt is Tuesday.\n\n---\n\ntwo"
    );
}

#[tokio::test(start_paused = true)]
async fn other_instructions_fork_where_nobody_says_who_asks() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = resuming(&proxy, &[system("Be brief.")]);
    let first = talk.says("one").await;

    let other = resuming(&proxy, &told_to("system", "Be thorough."))
        .says("two")
        .await;
    let own = talk.says("three").await;

    assert_eq!([&other, &own].map(decision), ["forked", "appended"]);
    assert_ne!(conversation(&other), conversation(&first));
    assert_eq!(
        posted(&proxy)[1],
        [format!(
            "Instructions:\n\nBe thorough.\n\n---\n\n{}",
            after_one("two")
        )]
    );
}

#[tokio::test(start_paused = true)]
async fn new_text_alone_leaves_the_instructions_that_are() {
    let proxy = Proxy::start(Setup::default());
    let instructed = async |instructions: &str, text: &str| {
        let mut talk =
            resuming(&proxy, &[system(instructions)]).header("x-conversation-id", "mine");
        talk.says(text).await
    };

    instructed("Be brief.", "one").await;
    adds(&proxy, "mine", "two").await;
    instructed("Be brief.", "three").await;
    instructed("Be thorough.", "four").await;

    assert_eq!(
        posted(&proxy),
        [[
            "Instructions:\n\nBe brief.\n\n---\n\none",
            "two",
            "three",
            "Updated instructions:\n\nBe thorough.\n\n---\n\nfour",
        ]]
    );
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_tells_changed_instructions_and_leaves_them() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy).header("x-conversation-id", "mine");
    talk.says("one").await;
    let dry = resuming(&proxy, &told_to("system", "Be brief."))
        .header("x-conversation-id", "mine")
        .header("x-dry-run", "decision");

    for _ in 0..2 {
        let reply = proxy.ask(dry.request("two", false)).await;

        assert_eq!(
            reply.body["posts"],
            "Updated instructions:\n\nBe brief.\n\n---\n\ntwo"
        );
    }
    talk.says("two").await;

    assert_eq!(posted(&proxy), [["one", "two"]]);
}
