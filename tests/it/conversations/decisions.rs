//! Created, appended, forked, replayed: told to the caller, and posted accordingly.

use std::time::Duration;

use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Foreign, Script, When};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::{ANSWER, after_one, assistant, conversation, resuming, user};
use crate::proxy::{Proxy, Setup, prompt};
use crate::talk::{Talk, calls, decision, posted, said, seconds, soon};

#[tokio::test(start_paused = true)]
async fn a_first_message_creates_a_thread() {
    let proxy = Proxy::start(Setup::default());

    let reply = Talk::new(&proxy).says("one").await;

    assert_eq!((said(&reply), decision(&reply)), (ANSWER, "created"));
    assert!(conversation(&reply).starts_with("conv_"));
    assert_eq!(posted(&proxy), [["one"]]);
}

#[tokio::test(start_paused = true)]
async fn a_whole_history_goes_on_by_its_last_message_alone() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let first = talk.says("one").await;

    let second = talk.says("two").await;
    let third = talk.says("three").await;

    assert_eq!(
        (decision(&second), decision(&third)),
        ("appended", "appended")
    );
    assert_eq!(conversation(&second), conversation(&first));
    assert_eq!(conversation(&third), conversation(&first));
    assert_eq!(posted(&proxy), [["one", "two", "three"]]);
}

#[tokio::test(start_paused = true)]
async fn an_edited_message_forks() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let first = talk.says("one").await;
    talk.says("two").await;

    let mut edited = resuming(&proxy, &talk.messages[..2]);
    let reply = edited.says("two, in other words").await;

    assert_eq!(decision(&reply), "forked");
    assert_ne!(conversation(&reply), conversation(&first));
    assert_eq!(
        posted(&proxy),
        [
            vec!["one".to_owned(), "two".to_owned()],
            vec![after_one("two, in other words")],
        ]
    );
}

/// Long enough not to be read again when it is resent.
#[tokio::test(start_paused = true)]
async fn a_long_history_is_posted_as_it_was_said() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let texts = ["\"quoted\"\n\\", "caf\u{e9} \u{1f980}", "<b>&amp;</b>\t"];
    let texts = texts.map(|text| text.repeat(40).trim().to_owned());
    for text in &texts {
        let reply = talk.says(text).await;
        assert_ne!(decision(&reply), "forked");
    }
    let went_on = talk.says("short").await;

    let reply = resuming(&proxy, &talk.messages[..6]).says("other").await;

    assert_eq!([&went_on, &reply].map(decision), ["appended", "forked"]);
    let earlier = texts
        .iter()
        .map(|text| format!("User: {text}\n\nAssistant: {ANSWER}\n\n"));
    let earlier: String = earlier.collect();
    let forked = format!("Earlier conversation:\n\n{earlier}---\n\nother");
    assert_eq!(posted(&proxy)[1], [forked]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_asked_for_again_forks() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.says("one").await;
    talk.says("two").await;

    let reply = resuming(&proxy, &talk.messages[..2]).says("two").await;

    assert_eq!(decision(&reply), "forked");
    assert_eq!(posted(&proxy)[1], [after_one("two")]);
}

#[tokio::test(start_paused = true)]
async fn every_branch_can_be_gone_on_with() {
    let proxy = Proxy::start(Setup::default());
    let mut old = Talk::new(&proxy);
    old.says("one").await;
    let mut new = resuming(&proxy, &old.messages);
    old.says("two").await;
    new.says("other").await;

    let replies = [
        old.says("three").await,
        new.says("another").await,
        old.says("four").await,
    ];

    assert_eq!(replies.each_ref().map(decision), ["appended"; 3]);
    assert_eq!(
        posted(&proxy),
        [
            ["one", "two", "three", "four"].map(str::to_owned).to_vec(),
            vec![after_one("other"), "another".to_owned()],
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_second_of_two_on_one_tip_forks_at_once() {
    let proxy = Proxy::start(Setup::default());
    let mut one = Talk::new(&proxy);
    one.says("one").await;
    let mut other = resuming(&proxy, &one.messages);
    proxy
        .sandbox
        .set_script(Script::always(Behaviour::says(ANSWER, seconds(20))));
    let begun = Instant::now();

    let (first, second) = tokio::join!(one.says("two"), other.says("zwei"));

    assert_eq!(
        (decision(&first), decision(&second)),
        ("appended", "forked")
    );
    assert!(begun.elapsed() < seconds(40), "the runs overlap");
    assert_eq!(
        posted(&proxy),
        [
            vec!["one".to_owned(), "two".to_owned()],
            vec![after_one("zwei")],
        ]
    );
    assert_eq!(decision(&one.says("three").await), "appended");
    assert_eq!(decision(&other.says("drei").await), "appended");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_history_is_replayed_in_one_message() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = resuming(
        &proxy,
        &[user("one"), assistant(ANSWER), user("two"), assistant("b")],
    );

    let reply = talk.says("three").await;
    let next = talk.says("four").await;

    assert_eq!(
        (decision(&reply), decision(&next)),
        ("replayed", "appended")
    );
    assert_eq!(conversation(&reply), conversation(&next));
    let begins = "Earlier conversation:\n\nUser: one\n\nAssistant: hello\n\nUser: two\n\n\
                  Assistant: b\n\n---\n\nthree";
    assert_eq!(posted(&proxy), [[begins, "four"]]);
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_the_upstream_lost_is_replayed() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let first = talk.says("one").await;
    let lost = proxy.sandbox.threads()[0].clone();
    proxy.sandbox.forget(&lost);

    let reply = talk.says("two").await;
    let next = talk.says("three").await;

    assert_eq!(
        (decision(&reply), decision(&next)),
        ("replayed", "appended")
    );
    assert_eq!(conversation(&reply), conversation(&first));
    let posts = proxy.sandbox.posts();
    let elsewhere: Vec<_> = posts
        .iter()
        .filter(|(thread, _)| *thread != lost)
        .map(|(_, text)| text.as_str())
        .collect();
    assert_eq!(elsewhere, [after_one("two").as_str(), "three"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_closes_its_branch() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.says("one").await;
    let failed = talk.says(prompt::FAILS).await;

    let reply = talk.says("two").await;
    let next = talk.says("three").await;

    assert_eq!(
        (failed.code(), decision(&failed)),
        ("run_failed", "appended")
    );
    assert_eq!(
        (decision(&reply), decision(&next)),
        ("replayed", "appended")
    );
    assert_eq!(
        posted(&proxy),
        [
            vec!["one".to_owned(), prompt::FAILS.to_owned()],
            vec![after_one("two"), "three".to_owned()],
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_a_stranger_wrote_in_is_left() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let stranger = Behaviour {
        foreign: vec![Foreign {
            text: "from the app".to_owned(),
            at: When::Before,
            reply: None,
        }],
        ..soon(ANSWER)
    };
    let first = talk.is_met("one", stranger).await;
    proxy.sandbox.set_script(Script::always(soon(ANSWER)));

    let reply = talk.says("two").await;

    assert_eq!((said(&first), decision(&reply)), (ANSWER, "replayed"));
    assert_eq!(posted(&proxy), [["one".to_owned()], [after_one("two")]]);
}

#[tokio::test(start_paused = true)]
async fn two_who_begin_alike_get_two_threads() {
    let proxy = Proxy::start(Setup::default());

    let one = Talk::new(&proxy).says("hi").await;
    let other = Talk::new(&proxy).says("hi").await;

    assert_eq!((decision(&one), decision(&other)), ("created", "created"));
    assert_ne!(conversation(&one), conversation(&other));
    assert_eq!(posted(&proxy), [["hi"], ["hi"]]);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_tells_what_would_be_posted_and_posts_nothing() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.says("one").await;
    let known = talk.messages.clone();
    talk.says("two").await;
    let dry = async |messages: &[_], text: &str| {
        let talk = resuming(&proxy, messages).header("x-dry-run", "decision");
        let reply = proxy.ask(talk.request(text, false)).await;
        assert_eq!(decision(&reply), reply.body["decision"].as_str().unwrap());
        assert_eq!(
            conversation(&reply),
            reply.body["conversation"].as_str().unwrap()
        );
        json!([reply.body["decision"], reply.body["posts"]])
    };

    assert_eq!(dry(&[], "x").await, json!(["created", "x"]));
    assert_eq!(dry(&talk.messages, "x").await, json!(["appended", "x"]));
    assert_eq!(dry(&known, "x").await, json!(["forked", after_one("x")]));
    assert_eq!(
        dry(&[user("a"), assistant("b")], "x").await,
        json!([
            "replayed",
            "Earlier conversation:\n\nUser: a\n\nAssistant: b\n\n---\n\nx"
        ])
    );

    assert_eq!(calls(&proxy, Kind::Post).len(), 2);
    assert_eq!(decision(&talk.says("three").await), "appended");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_claims_no_handle() {
    let proxy = Proxy::start(Setup::default());
    let dry = Talk::new(&proxy)
        .header("x-conversation-id", "mine")
        .header("x-dry-run", "decision");

    for _ in 0..2 {
        let reply = proxy.ask(dry.request("one", false)).await;

        assert_eq!(
            reply.body,
            json!({"conversation": "mine", "decision": "created", "posts": "one"})
        );
    }

    assert_eq!(posted(&proxy), Vec::<Vec<String>>::new());
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_sees_an_edit_under_a_handle_and_a_run_to_attach_to() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy).header("x-conversation-id", "mine");
    talk.says("one").await;
    let known = talk.messages.clone();
    talk.says("two").await;
    let mut dry = Talk::new(&proxy)
        .header("x-conversation-id", "mine")
        .header("x-dry-run", "decision");
    dry.messages = known;

    let edit = proxy.ask(dry.request("else", false)).await;
    let left = proxy.send(talk.request("three", false));
    let _ = timeout(seconds(1), left).await;
    dry.messages.clone_from(&talk.messages);
    let same = proxy.ask(dry.request("three", false)).await;

    assert_eq!(decision(&edit), "forked");
    assert_eq!(decision(&same), "attached");
    assert_eq!(same.body["posts"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn the_conversation_used_longest_ago_makes_room() {
    let mut setup = Setup::default();
    setup.config.conversations.max = 2;
    let proxy = Proxy::start(setup);
    let mut talks = [Talk::new(&proxy), Talk::new(&proxy), Talk::new(&proxy)];
    // Each has a past of its own, so that none can stand in for another.
    for (talk, text) in talks.iter_mut().zip(["one", "two", "three"]) {
        talk.says(text).await;
        sleep(seconds(1)).await;
    }
    let [oldest, newer, newest] = &mut talks;

    let replies = [
        newest.says("and?").await,
        newer.says("and?").await,
        oldest.says("and?").await,
    ];

    assert_eq!(
        replies.each_ref().map(decision),
        ["appended", "appended", "replayed"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_conversation_out_of_use_too_long_is_forgotten() {
    let mut setup = Setup::default();
    setup.config.conversations.max_age = Duration::from_secs(3600);
    let proxy = Proxy::start(setup);
    let mut talk = Talk::new(&proxy);
    talk.says("one").await;
    sleep(seconds(3500)).await;
    let in_time = talk.says("two").await;
    sleep(seconds(3700)).await;

    let reply = talk.says("three").await;

    assert_eq!(
        (decision(&in_time), decision(&reply)),
        ("appended", "replayed")
    );
}

#[tokio::test(start_paused = true)]
async fn a_transcript_keeps_its_newest_messages_and_says_so() {
    let mut setup = Setup::default();
    setup.config.conversations.transcript = 40;
    let proxy = Proxy::start(setup);
    let history = [
        user("the very first question"),
        assistant("an old answer"),
        user("new"),
        assistant("newest"),
    ];

    let reply = resuming(&proxy, &history).says("and?").await;

    assert_eq!(decision(&reply), "replayed");
    insta::assert_snapshot!(posted(&proxy)[0][0], @"
    Earlier conversation:

    [earlier messages are left out]

    User: new

    Assistant: newest

    ---

    and?
    ");
}
