//! Conversations that callers name.

use std::time::Duration;

use chaturdata_proxy::upstream::sandbox::script::{Answer, Script};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{ANSWER, adds, after_one, assistant, conversation, resuming, user};
use crate::proxy::{Proxy, Reply, Setup};
use crate::talk::{Talk, answers, decision, posted, said, soon, told};

#[tokio::test(start_paused = true)]
async fn every_place_for_a_handle_names_the_conversation() {
    let proxy = Proxy::start(Setup::default());
    let fields = [
        json!({"conversation": "h0"}),
        json!({"conversation": {"id": "h1"}}),
        json!({"conversation_id": "h2"}),
        json!({"thread_id": "h3"}),
        json!({"session_id": "h4"}),
        json!({"chat_id": "h5"}),
        json!({"metadata": {"conversation": "h6"}}),
        json!({"metadata": {"conversation_id": "h7"}}),
        json!({"metadata": {"thread_id": "h8"}}),
        json!({"metadata": {"session_id": "h9"}}),
        json!({"metadata": {"chat_id": "h10"}}),
    ];

    for (at, fields) in fields.into_iter().enumerate() {
        let first = Talk::new(&proxy).fields(fields.clone()).says("one").await;
        let second = Talk::new(&proxy).fields(fields.clone()).says("two").await;
        let by_header = adds(&proxy, &format!("h{at}"), "three").await;

        let decisions = [&first, &second, &by_header].map(decision);
        assert_eq!(decisions, ["created", "appended", "appended"], "{fields}");
        assert_eq!(conversation(&first), format!("h{at}"));
        assert_eq!(posted(&proxy)[at], ["one", "two", "three"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_goes_before_the_body() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy)
        .header("x-conversation-id", "head")
        .fields(json!({"conversation_id": "body"}));

    let reply = talk.says("one").await;

    assert_eq!(conversation(&reply), "head");
}

#[tokio::test(start_paused = true)]
async fn a_placeholder_is_no_handle() {
    let proxy = Proxy::start(Setup::default());
    for name in ["", "new", "null", "undefined", "{{CHAT_ID}}"] {
        for field in ["conversation", "thread_id"] {
            let mut talk = Talk::new(&proxy).fields(json!({field: name}));
            let reply = talk.says("one").await;

            assert_eq!(decision(&reply), "created", "{field}: {name}");
            assert!(conversation(&reply).starts_with("conv_"), "{field}: {name}");
        }
        let reply = adds(&proxy, name, "one").await;

        assert_eq!(decision(&reply), "created", "{name}");
        assert!(conversation(&reply).starts_with("conv_"), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_from_an_earlier_answer_is_a_handle() {
    let proxy = Proxy::start(Setup::default());
    let first = Talk::new(&proxy).says("one").await;

    let second = adds(&proxy, conversation(&first), "two").await;

    assert_eq!(decision(&second), "appended");
    assert_eq!(conversation(&second), conversation(&first));
    assert_eq!(posted(&proxy), [["one", "two"]]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_id_of_ours_with_a_history_is_replayed_under_a_new_one() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = resuming(&proxy, &[user("one"), assistant(ANSWER)])
        .header("x-conversation-id", "conv_unknown");

    let reply = talk.says("two").await;

    assert_eq!(decision(&reply), "replayed");
    assert!(conversation(&reply).starts_with("conv_"));
    assert_ne!(conversation(&reply), "conv_unknown");
    assert_eq!(posted(&proxy), [[after_one("two")]]);
}

#[tokio::test(start_paused = true)]
async fn an_id_of_ours_tells_nobody_else_whether_it_exists() {
    let proxy = Proxy::passing_through();
    let mut owner = Talk::new(&proxy).header("authorization", "Bearer sk-owner");
    let first = owner.says("one").await;
    let id = conversation(&first);
    let asks = async |proxy, key: &str, messages: &[Value]| {
        let mut talk = resuming(proxy, messages)
            .header("authorization", key)
            .header("x-conversation-id", id);
        talk.says("two").await
    };
    let nowhere = Proxy::passing_through();

    let foreign = asks(&proxy, "Bearer sk-other", &[]).await;
    let unknown = asks(&nowhere, "Bearer sk-other", &[]).await;
    let replayed = asks(&proxy, "Bearer sk-other", &owner.messages).await;

    assert_eq!(
        told(&foreign),
        "404 invalid_request_error conversation_not_found"
    );
    assert_eq!(foreign.text, unknown.text);
    assert_eq!(stable(&foreign), stable(&unknown));
    assert_eq!(decision(&replayed), "replayed");
    assert_ne!(conversation(&replayed), id);
    assert_eq!(posted(&proxy), [["one".to_owned()], [after_one("two")]]);
    let own = asks(&proxy, "Bearer sk-owner", &[]).await;
    assert_eq!(decision(&own), "appended");
}

/// The headers that do not differ by request.
fn stable(reply: &Reply) -> HeaderMap {
    let mut headers = reply.headers.clone();
    for name in ["x-request-id", "openai-processing-ms", "date"] {
        headers.remove(name);
    }
    headers
}

#[tokio::test(start_paused = true)]
async fn new_text_is_appended_until_an_assistant_message_comes() {
    let proxy = Proxy::start(Setup::default());
    let created = adds(&proxy, "mine", "one").await;
    let appended = adds(&proxy, "mine", "two").await;
    let again = adds(&proxy, "mine", "two").await;
    let history = ["one", "two", "two"].map(|text| [user(text), assistant(ANSWER)]);
    let mut whole = resuming(&proxy, &history.concat()).header("x-conversation-id", "mine");
    let known = whole.says("three").await;

    let opening = adds(&proxy, "mine", "four").await;
    let seen_before = adds(&proxy, "mine", "one").await;

    assert_eq!(
        [&created, &appended, &again, &known, &opening, &seen_before].map(decision),
        [
            "created", "appended", "appended", "appended", "forked", "forked"
        ]
    );
    assert_eq!(conversation(&opening), "mine");
    assert_eq!(
        posted(&proxy),
        [
            vec!["one", "two", "two", "three"],
            vec!["four"],
            vec!["one"]
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn under_a_chat_programs_header_a_request_is_the_whole_history() {
    let proxy = Proxy::start(Setup::default());
    for header in ["x-openwebui-chat-id", "x-librechat-conversation-id"] {
        let handle = format!("under {header}");
        let asks = async || {
            let mut talk = Talk::new(&proxy)
                .header("x-conversation-id", &handle)
                .header(header, "chat-1");
            talk.says("one").await
        };

        let first = asks().await;
        let second = asks().await;

        assert_eq!([&first, &second].map(decision), ["created", "forked"]);
    }
    assert_eq!(posted(&proxy), [["one"]; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_window_of_the_history_is_appended_under_a_handle_only() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy).header("x-conversation-id", "mine");
    for text in ["one", "two", "three"] {
        talk.says(text).await;
    }
    let window = &talk.messages[3..];

    let named = resuming(&proxy, window)
        .header("x-conversation-id", "mine")
        .says("four")
        .await;
    let unnamed = resuming(&proxy, window).says("five").await;

    assert_eq!([&named, &unnamed].map(decision), ["appended", "replayed"]);
    assert_eq!(posted(&proxy)[0], ["one", "two", "three", "four"]);
}

#[tokio::test(start_paused = true)]
async fn a_history_that_does_not_fit_forks_and_takes_the_handle_along() {
    let proxy = Proxy::start(Setup::default());
    let named = |messages: &[Value]| resuming(&proxy, messages).header("x-conversation-id", "mine");
    let mut old = named(&[]);
    old.says("one").await;
    let mut new = named(&old.messages);
    old.says("two").await;

    let forked = new.says("other").await;
    let window = named(&new.messages[2..]).says("another").await;
    let back = old.says("three").await;

    assert_eq!(
        [&forked, &window, &back].map(decision),
        ["forked", "appended", "appended"]
    );
    assert_eq!([&forked, &window, &back].map(conversation), ["mine"; 3]);
    assert_eq!(
        posted(&proxy),
        [
            ["one", "two", "three"].map(str::to_owned).to_vec(),
            vec![after_one("other"), "another".to_owned()],
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn new_texts_wait_in_their_order_and_only_so_many() {
    let mut setup = Setup::default();
    setup.config.run.queue = 2;
    let proxy = Proxy::start(setup);
    adds(&proxy, "mine", "one").await;
    let later = async |moments: u64, text: &'static str| {
        sleep(Duration::from_millis(moments)).await;
        adds(&proxy, "mine", text).await
    };

    let (two, three, four, five) = tokio::join!(
        later(1, "two"),
        later(2, "three"),
        later(3, "four"),
        later(4, "five"),
    );

    assert_eq!([&two, &three, &four].map(said), [ANSWER; 3]);
    assert_eq!([&two, &three, &four].map(decision), ["appended"; 3]);
    assert_eq!(five.status, 429);
    assert_eq!(five.code(), "too_many_waiting");
    assert!(five.header("retry-after").parse::<u32>().is_ok());
    assert_eq!(conversation(&five), "mine");
    assert_eq!(posted(&proxy), [["one", "two", "three", "four"]]);
    assert_eq!(decision(&adds(&proxy, "mine", "five").await), "appended");
}

#[tokio::test(start_paused = true)]
async fn a_lost_thread_is_told_once_to_a_caller_without_a_history() {
    let proxy = Proxy::start(Setup::default());
    adds(&proxy, "mine", "one").await;
    proxy.sandbox.forget(&proxy.sandbox.threads()[0]);

    let lost = adds(&proxy, "mine", "two").await;
    // Later than an error that stands is told again.
    sleep(Duration::from_secs(120)).await;
    let anew = adds(&proxy, "mine", "two").await;

    assert_eq!(
        told(&lost),
        "404 invalid_request_error conversation_not_found"
    );
    assert_eq!(conversation(&lost), "mine");
    assert_eq!(decision(&anew), "created");
    assert_eq!(conversation(&anew), "mine");
    assert_eq!(proxy.sandbox.posts().last().unwrap().1, "two");
}

#[tokio::test(start_paused = true)]
async fn a_handle_out_of_use_too_long_begins_anew() {
    let mut setup = Setup::default();
    setup.config.conversations.max_age = Duration::from_secs(3600);
    let proxy = Proxy::start(setup);
    adds(&proxy, "mine", "one").await;
    sleep(Duration::from_secs(3700)).await;

    let anew = adds(&proxy, "mine", "two").await;
    let next = adds(&proxy, "mine", "three").await;

    assert_eq!([&anew, &next].map(decision), ["created", "appended"]);
    assert_eq!(posted(&proxy), [vec!["one"], vec!["two", "three"]]);
}

#[tokio::test(start_paused = true)]
async fn a_fork_that_is_refused_leaves_the_name_where_it_was() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy).header("x-conversation-id", "mine");
    talk.says("one").await;
    talk.says("two").await;
    let mut edited = Talk::new(&proxy).header("x-conversation-id", "mine");
    edited.messages = talk.messages[..2].to_vec();
    let refusal = answers(Answer::status(413));
    edited.is_met("another two", refusal).await;

    proxy.sandbox.set_script(Script::always(soon("yes")));
    let window = talk.messages.split_off(2);
    talk.messages = window;
    let three = talk.says("three").await;

    assert_eq!(decision(&three), "appended", "by a window of its end");
}
