//! Whose history is whose, and when two histories are the same.

use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::server::Access;
use chaturdata_proxy::store::callers::CallerKeys;
use serde_json::{Value, json};

use super::{ANSWER, adds, after_one, assistant, conversation, resuming, user};
use crate::proxy::{Proxy, Setup, prompt};
use crate::talk::{Talk, decision, posted, said, soon};

#[tokio::test(start_paused = true)]
async fn tenants_are_kept_apart() {
    let proxy = Proxy::passing_through();
    let mut owner = Talk::new(&proxy).header("authorization", "Bearer sk-owner");
    owner.says("one").await;

    let other = resuming(&proxy, &owner.messages)
        .header("authorization", "Bearer sk-other")
        .says("two")
        .await;
    let own = owner.says("three").await;

    assert_eq!([&other, &own].map(decision), ["replayed", "appended"]);
    assert_eq!(
        posted(&proxy),
        [
            vec!["one".to_owned(), "three".to_owned()],
            vec![after_one("two")],
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn one_handle_of_two_tenants_is_two_conversations() {
    let proxy = Proxy::passing_through();
    for text in ["one", "two"] {
        for key in ["Bearer sk-a", "Bearer sk-b"] {
            let mut talk = Talk::new(&proxy)
                .header("authorization", key)
                .header("x-conversation-id", "mine");
            talk.says(&format!("{text} of {key}")).await;
        }
    }

    assert_eq!(
        posted(&proxy),
        [
            ["one of Bearer sk-a", "two of Bearer sk-a"],
            ["one of Bearer sk-b", "two of Bearer sk-b"],
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn users_are_kept_apart() {
    let proxy = Proxy::start(Setup::default());
    let mut nobody = Talk::new(&proxy);
    nobody.says("one").await;
    let history = nobody.messages.clone();
    let as_user = |fields: Value| resuming(&proxy, &history).fields(fields);
    let mut talks = [
        as_user(json!({"user": "ada"})),
        as_user(json!({"user": "bob"})),
        as_user(json!({"safety_identifier": "ada"})),
        resuming(&proxy, &history).header("x-openwebui-user-id", "ada"),
    ];

    for talk in &mut talks {
        assert_eq!(decision(&talk.says("two").await), "replayed");
    }
    for talk in &mut talks {
        assert_eq!(decision(&talk.says("three").await), "appended");
    }

    assert_eq!(decision(&nobody.says("two").await), "appended");
}

#[tokio::test(start_paused = true)]
async fn models_are_kept_apart() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.says("one").await;

    let other = resuming(&proxy, &talk.messages)
        .fields(json!({"model": "another"}))
        .says("two")
        .await;

    assert_eq!(decision(&other), "replayed");
    assert_eq!(decision(&talk.says("two").await), "appended");
}

#[tokio::test(start_paused = true)]
async fn a_chat_programs_id_chooses_among_equal_histories() {
    let proxy = Proxy::start(Setup::default());
    let chat = |id| Talk::new(&proxy).header("x-openwebui-chat-id", id);
    let (mut a, mut b) = (chat("a"), chat("b"));
    a.says("hi").await;
    b.says("hi").await;

    let decisions = [
        decision(&a.says("from a").await).to_owned(),
        decision(&b.says("from b").await).to_owned(),
    ];

    assert_eq!(decisions, ["appended", "appended"]);
    assert_eq!(posted(&proxy), [["hi", "from a"], ["hi", "from b"]]);
}

#[tokio::test(start_paused = true)]
async fn a_chat_programs_id_joins_nothing_by_itself() {
    let proxy = Proxy::start(Setup::default());
    let chat = |id, messages: &[Value]| {
        resuming(&proxy, messages).header("x-librechat-conversation-id", id)
    };
    let mut a = chat("a", &[]);
    a.says("one").await;

    let another_history = chat("a", &[user("x"), assistant("y")]).says("z").await;
    let another_chat = chat("b", &a.messages).says("two").await;

    assert_eq!(decision(&another_history), "replayed");
    assert_eq!(decision(&another_chat), "forked");
    assert_eq!(decision(&a.says("two").await), "appended");
}

#[tokio::test(start_paused = true)]
async fn what_clients_change_in_a_text_does_not_count() {
    let parts = |texts: [&str; 2]| {
        let part = |text| json!({"type": "text", "text": text});
        Value::from(texts.map(part).to_vec())
    };
    let ways = [
        (json!("one\ntwo"), json!("caf\u{e9}\n\nbar")),
        (
            json!("  one\r\ntwo\n"),
            json!("\n cafe\u{301}\r\n\r\nbar \t"),
        ),
        (parts(["one", "two"]), parts(["caf\u{e9}\n", "bar"])),
        (
            json!("one\ntwo"),
            json!("<think>a bar?\nyes</think>\n\ncaf\u{e9}\n\nbar"),
        ),
    ];
    for (asked, answered) in ways {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);
        talk.is_met("one\ntwo", soon("caf\u{e9}\n\nbar")).await;
        talk.messages[0]["content"] = asked;
        talk.messages[1]["content"] = answered;

        let reply = talk.says("three").await;

        assert_eq!(decision(&reply), "appended", "{:?}", talk.messages);
    }
}

#[tokio::test(start_paused = true)]
async fn reasoning_in_an_answer_may_be_sent_back_or_not() {
    for sent_back in ["hello", "<think>hm</think>\n\nhello"] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);
        let answer = soon("<think>hm</think>\n\nhello");
        talk.is_met("one", answer).await;
        talk.messages[1] = assistant(sent_back);

        let reply = talk.says("two").await;

        assert_eq!(decision(&reply), "appended", "{sent_back}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_word_counts() {
    for (at, text) in [(0, "One"), (1, "hello!")] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);
        talk.says("one").await;
        talk.messages[at]["content"] = json!(text);

        let reply = talk.says("two").await;

        assert_eq!(decision(&reply), "replayed", "{text}");
    }
}

/// A history in which a tool was called.
fn called(id: &str, name: &str, arguments: &str) -> Vec<Value> {
    let function = json!({"name": name, "arguments": arguments});
    let call = json!({"id": id, "type": "function", "function": function});
    vec![
        user("one"),
        json!({"role": "assistant", "content": null, "tool_calls": [call]}),
        json!({"role": "tool", "tool_call_id": id, "content": "rain"}),
        assistant("It rains."),
    ]
}

#[tokio::test(start_paused = true)]
async fn tool_calls_count_by_name_and_arguments_not_by_id() {
    let proxy = Proxy::start(Setup::default());
    let known = called("call_1", "weather", r#"{"city": "Ulm", "days": 2}"#);
    let first = resuming(&proxy, &known).says("two").await;
    let answered = [user("two"), assistant(said(&first))];
    let asks = async |history: Vec<Value>| {
        let history = [history, answered.to_vec()].concat();
        resuming(&proxy, &history).says("three").await
    };

    let other_name = asks(called("call_1", "clock", r#"{"city":"Ulm","days":2}"#)).await;
    let other_days = asks(called("call_1", "weather", r#"{"city":"Ulm","days":3}"#)).await;
    let same = asks(called("call_9", "weather", r#"{"days":2,"city":"Ulm"}"#)).await;

    assert_eq!(
        [&first, &other_name, &other_days, &same].map(decision),
        ["replayed", "replayed", "replayed", "appended"]
    );
    insta::assert_snapshot!(posted(&proxy)[0].join("\n=====\n"), @r#"
    Earlier conversation:

    User: one

    Assistant: 
    [called weather with {"city": "Ulm", "days": 2}]

    Result of weather: rain

    Assistant: It rains.

    ---

    two
    =====
    three
    "#);
}

#[tokio::test(start_paused = true)]
async fn several_trailing_messages_of_a_user_are_one_prompt() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = resuming(&proxy, &[user("one"), user("more")]);

    let first = talk.says("and this").await;
    talk.messages.push(user("two"));
    let second = talk.says("three").await;

    assert_eq!([&first, &second].map(decision), ["created", "appended"]);
    assert_eq!(
        posted(&proxy),
        [["one\n\nmore\n\nand this", "two\n\nthree"]]
    );
}

#[tokio::test(start_paused = true)]
async fn every_answer_says_where_it_belongs() {
    let proxy = Proxy::start(Setup::default());
    for text in ["one", prompt::FAILS, prompt::REFUSED, prompt::KEY_REFUSED] {
        let reply = adds(&proxy, text, text).await;

        assert_eq!(conversation(&reply), text);
        assert_eq!(decision(&reply), "created", "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_stream_says_where_it_belongs() {
    let proxy = Proxy::start(Setup::default());
    for text in [
        "one",
        prompt::FAILS,
        prompt::FAILS_HALFWAY,
        prompt::REFUSED_LATE,
    ] {
        let mut talk = Talk::new(&proxy).header("x-conversation-id", text);
        let streamed = talk.streams(text).await;

        assert_eq!(streamed.headers["x-conversation-id"], text);
        assert_eq!(streamed.headers["x-conversation-decision"], "created");
        assert_eq!(streamed.broken, text != "one", "{text}");
    }

    let refused = Talk::new(&proxy).header("x-conversation-id", "mine");
    let reply = proxy.ask(refused.request(prompt::REFUSED, true)).await;
    assert_eq!(
        (conversation(&reply), decision(&reply)),
        ("mine", "created")
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_streamed_is_gone_on_with() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let streamed = talk.streams("one").await;

    let reply = talk.says("two").await;

    assert_eq!((streamed.text().as_str(), said(&reply)), (ANSWER, ANSWER));
    assert_eq!(decision(&reply), "appended");
}

#[tokio::test(start_paused = true)]
async fn an_answer_cut_short_is_known_as_it_was_sent() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy).fields(json!({"stop": ["ll"]}));
    let first = talk.says("one").await;

    let reply = talk.says("two").await;

    assert_eq!((said(&first), decision(&reply)), ("he", "appended"));
}

#[tokio::test(start_paused = true)]
async fn a_callers_key_may_be_changed_and_its_conversations_stay() {
    let keys = ["sk-old", "sk-new"].map(|key| ("ann".to_owned(), Secret::new(key)));
    let proxy = Proxy::start(Setup {
        access: Access::Held {
            key: Secret::new("sk-upstream"),
            callers: CallerKeys::of(keys),
            anyone: false,
        },
        ..Setup::default()
    });
    let mut old = Talk::new(&proxy).header("authorization", "Bearer sk-old");
    old.says("one").await;

    let mut new = Talk::new(&proxy).header("authorization", "Bearer sk-new");
    new.messages = old.messages;
    let reply = new.says("two").await;

    assert_eq!((said(&reply), decision(&reply)), ("hello", "appended"));
}
