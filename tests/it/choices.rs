//! Several answers to one request: the first is the conversation's own, each other has a thread of its
//! own that begins with the same.

use chaturdata_proxy::upstream::sandbox::script::{Answer, Behaviour, Rule, Script};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::proxy::{Proxy, Reply, Setup};
use crate::structured::{self, MENDING, number};
use crate::talk::{Talk, answers, decision, posted, seconds, soon};

/// The runs say `answer 1`, `answer 2`, .., each so many seconds after its acceptance.
fn numbered(after: u64) -> Script {
    let rule = |number| Rule {
        when: String::new(),
        times: Some(1),
        behaviour: Behaviour::says(&format!("answer {number}"), seconds(after)),
    };
    Script {
        rules: (1..20).map(rule).collect(),
        ..Script::default()
    }
}

fn proxy() -> Proxy {
    scripted(Setup::default(), numbered(1))
}

fn scripted(setup: Setup, script: Script) -> Proxy {
    let proxy = Proxy::start(setup);
    proxy.sandbox.set_script(script);
    proxy
}

fn asking_for(proxy: &Proxy, n: u8) -> Talk<'_> {
    Talk::new(proxy).fields(json!({"n": n}))
}

/// The texts of all choices, in the order of their indices.
fn texts(reply: &Reply) -> Vec<&str> {
    assert_eq!(reply.status, 200, "{}", reply.text);
    let choices = reply.body["choices"].as_array().unwrap();
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], index);
    }
    choices
        .iter()
        .map(|choice| choice["message"]["content"].as_str().unwrap())
        .collect()
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

#[tokio::test(start_paused = true)]
async fn three_answers_come_from_three_threads_at_once() {
    let proxy = scripted(Setup::default(), numbered(20));
    let began = Instant::now();

    let reply = asking_for(&proxy, 3).says("how much?").await;

    let mut texts = texts(&reply);
    texts.sort_unstable();
    assert_eq!(texts, ["answer 1", "answer 2", "answer 3"]);
    assert_eq!(
        posted(&proxy),
        [["how much?"], ["how much?"], ["how much?"]]
    );
    assert!(began.elapsed() < seconds(30), "one after another");
    assert_eq!(decision(&reply), "created");
}

#[tokio::test(start_paused = true)]
async fn the_first_appends_and_the_others_begin_with_what_was_said() {
    let proxy = proxy();
    let mut talk = Talk::new(&proxy);
    talk.says("one").await;

    talk.fields = json!({"n": 3});
    let reply = talk.says("two").await;

    assert_eq!(decision(&reply), "appended");
    let told = "Earlier conversation:\n\nUser: one\n\nAssistant: answer 1\n\n---\n\ntwo";
    assert_eq!(posted(&proxy), [vec!["one", "two"], vec![told], vec![told]]);
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_on_with_another_choice_appends_to_its_thread() {
    for named in [false, true] {
        let proxy = proxy();
        let talk = asking_for(&proxy, 3);
        let mut talk = if named {
            talk.header("x-openwebui-chat-id", "chat")
        } else {
            talk
        };
        let reply = talk.says("one").await;
        let third = texts(&reply)[2].to_owned();

        talk.messages.truncate(1);
        talk.messages.push(assistant(&third));
        talk.fields = json!({});
        let next = talk.says("two").await;

        assert_eq!(decision(&next), "appended", "named: {named}");
        let threads = posted(&proxy);
        assert_eq!(threads.len(), 3);
        assert_eq!(threads.iter().filter(|posts| posts.len() == 2).count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn under_a_handle_new_text_alone_goes_on_with_the_first() {
    let proxy = proxy();
    let mut talk = Talk::new(&proxy).header("x-conversation-id", "mine");
    let say = async |talk: &mut Talk<'_>, text: &str, n: u8| {
        talk.fields = json!({"n": n});
        talk.messages.clear();
        talk.says(text).await
    };
    say(&mut talk, "one", 1).await;

    let reply = say(&mut talk, "two", 3).await;
    let next = say(&mut talk, "three", 1).await;

    assert_eq!(
        (decision(&reply), decision(&next)),
        ("appended", "appended")
    );
    let told = "Earlier conversation:\n\nUser: one\n\nAssistant: answer 1\n\n---\n\ntwo";
    assert_eq!(
        posted(&proxy),
        [vec!["one", "two", "three"], vec![told], vec![told]]
    );
}

#[tokio::test(start_paused = true)]
async fn under_a_handle_that_is_new_all_begin_alike() {
    let proxy = proxy();

    let mut talk = asking_for(&proxy, 2).header("x-conversation-id", "mine");
    talk.says("one").await;
    talk.messages.clear();
    talk.fields = json!({});
    let next = talk.says("two").await;

    assert_eq!(decision(&next), "appended");
    assert_eq!(posted(&proxy), [vec!["one", "two"], vec!["one"]]);
}

#[tokio::test(start_paused = true)]
async fn after_a_hang_up_the_same_request_gets_all_its_answers() {
    for key in [None, Some("k-1")] {
        let proxy = scripted(Setup::default(), numbered(20));
        let talk = || match key {
            Some(key) => asking_for(&proxy, 3).header("idempotency-key", key),
            None => asking_for(&proxy, 3),
        };
        let asked = proxy.send(talk().request("how much?", false));
        assert!(timeout(seconds(5), asked).await.is_err());
        sleep(seconds(60)).await;

        let reply = talk().says("how much?").await;

        let mut texts = texts(&reply);
        texts.sort_unstable();
        assert_eq!(texts, ["answer 1", "answer 2", "answer 3"]);
        assert_eq!(decision(&reply), "attached");
        assert_eq!(posted(&proxy).len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_beside_a_failure_is_there_for_the_next_try() {
    let mut script = numbered(1);
    script.rules[1].behaviour = answers(Answer::status(400));
    let proxy = scripted(Setup::default(), script);
    let failed = asking_for(&proxy, 3).says("how much?").await;
    assert_eq!(failed.code(), "upstream_refused");
    sleep(seconds(20)).await;

    let reply = asking_for(&proxy, 3).says("how much?").await;

    assert_eq!(texts(&reply).len(), 3);
    assert_eq!(posted(&proxy).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn choices_that_find_no_place_wait_for_one() {
    let mut setup = Setup::default();
    setup.config.run.max_active_per_key = 1;
    let proxy = scripted(setup, numbered(10));
    let began = Instant::now();

    let reply = asking_for(&proxy, 3).says("how much?").await;

    assert_eq!(texts(&reply).len(), 3);
    assert!(began.elapsed() > seconds(30), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_first_answer_finds_no_place_is_refused_whole() {
    let mut setup = Setup::default();
    setup.config.run.max_active_per_key = 1;
    let proxy = scripted(setup, Script::always(Behaviour::says("slow", seconds(60))));
    let mut other = Talk::new(&proxy);

    let (_, refused) = tokio::join!(other.says("one"), async {
        sleep(seconds(5)).await;
        asking_for(&proxy, 3).says("how much?").await
    });

    assert_eq!(refused.code(), "too_many_waiting");
    assert_eq!(posted(&proxy), [["one"]]);
}

#[tokio::test(start_paused = true)]
async fn a_choice_in_a_form_is_mended_by_itself() {
    let proxy = scripted(
        Setup::default(),
        structured::script(&[(MENDING, soon("{\"n\": 1}")), ("", soon("one"))]),
    );
    let mut fields = number();
    fields["n"] = json!(2);

    let reply = Talk::new(&proxy).fields(fields).says("how many?").await;

    assert_eq!(texts(&reply), ["{\"n\": 1}", "{\"n\": 1}"]);
    assert_eq!(posted(&proxy).len(), 4);
}
