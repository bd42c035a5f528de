//! Conversations go on where they were, and never where others have been since.

use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::ids::TextHash;
use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Rule, Script};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Home, delta, is_cut_off, talk};
use crate::proxy::Setup;
use crate::talk::{Talk, calls, decision, posted, said, seconds, soon};

#[tokio::test(start_paused = true)]
async fn a_history_is_appended_after_one_look_at_its_thread() {
    for texts in [TextHash::Highway, TextHash::Sha256] {
        is_appended_after_one_look(texts).await;
    }
}

async fn is_appended_after_one_look(texts: TextHash) {
    let mut home = Home::saying("yes", 1);
    home.salt = Salt::of_state([7; 32], texts);
    let proxy = home.start();
    let mut before = talk(&proxy);
    before.says("one").await;
    let messages = before.messages.clone();

    home.kill(proxy).await;
    let proxy = home.start();
    let mut after = talk(&proxy);
    after.messages = messages;
    let reads = calls(&proxy, Kind::Read).len();
    let two = after.says("two").await;
    let looked = calls(&proxy, Kind::Read).len() - reads;
    let three = after.says("three").await;

    assert_eq!([decision(&two), decision(&three)], ["appended"; 2]);
    assert_eq!(looked, 2, "one before the POST, one after it");
    assert_eq!(posted(&proxy), [["one", "two", "three"]]);
}

#[tokio::test(start_paused = true)]
async fn a_handle_leads_where_it_led() {
    let mut home = Home::saying("yes", 1);
    let proxy = home.start();
    delta(&proxy, "mine").says("one").await;

    home.kill(proxy).await;
    let proxy = home.start();
    let two = proxy.ask(delta(&proxy, "mine").request("two", false)).await;

    assert_eq!((said(&two), decision(&two)), ("yes", "appended"));
    assert_eq!(posted(&proxy), [["one", "two"]]);
}

#[tokio::test(start_paused = true)]
async fn a_state_from_before_the_thread_moved_on_is_not_believed() {
    let mut home = Home::saying("yes", 1);
    let proxy = home.start();
    let mut before = talk(&proxy);
    before.says("one").await;
    let messages = before.messages.clone();
    let copy = home.shelf.copied();
    before.says("two").await;

    home.kill(proxy).await;
    home.shelf = copy;
    let proxy = home.start();
    let mut after = talk(&proxy);
    after.messages = messages;
    let other = after.says("another two").await;

    assert_eq!(decision(&other), "replayed");
    let threads = posted(&proxy);
    assert_eq!(threads[0], ["one", "two"]);
    assert!(threads[1][0].ends_with("another two"), "{threads:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_posts_on_a_thread_whose_run_is_still_under_way() {
    let mut home = Home::saying("yes", 30);
    let proxy = home.start();
    let mut before = talk(&proxy);
    before.says("one").await;
    let messages = before.messages.clone();
    is_cut_off(&proxy, before.request("two", false), 5).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let mut after = talk(&proxy);
    after.messages = messages;
    let other = after.says("another two").await;

    assert_eq!(decision(&other), "forked");
    assert_eq!(posted(&proxy)[0], ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn no_text_and_no_key_is_written() {
    let home = Home::saying("the secret answer", 1);
    let proxy = home.start();
    let mut talk = delta(&proxy, "mine").header("idempotency-key", "k-secret");
    talk.fields = serde_json::json!({"stop": ["a secret stop"]});
    talk.says("a secret question").await;

    let content = home.shelf.0.lock().unwrap();
    let mut bytes = Vec::new();
    for ((_, key), value) in &content.records {
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
    }
    let text = String::from_utf8_lossy(&bytes);

    assert!(text.contains("mine"), "the records were read");
    assert!(
        !text.contains("secret") && !text.contains("sk-caller"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn runs_whose_keys_never_come_back_keep_nobody_in_memory() {
    let slow = Rule {
        when: "two".to_owned(),
        times: None,
        behaviour: Behaviour::says("no", seconds(10_000)),
    };
    let mut home = Home::new(Script {
        rules: vec![slow],
        ..Script::always(soon("yes"))
    });
    let proxy = home.start();
    for number in 0..20 {
        let mut gone =
            Talk::new(&proxy).header("authorization", &format!("Bearer sk-gone-{number}"));
        gone.says("one").await;
        is_cut_off(&proxy, gone.request("two", false), 1).await;
    }

    home.kill(proxy).await;
    let mut setup = Setup::default();
    setup.config.conversations.max = 30;
    let proxy = home.start_with(setup);
    for number in 0..60 {
        talk(&proxy).says(&format!("opening {number}")).await;
    }

    let branches = home.shelf.restored().branches.len();
    assert_eq!(branches, 30, "of at most 30");
}

#[tokio::test(start_paused = true)]
async fn runs_that_a_restart_left_are_not_all_read_at_once() {
    let mut home = Home::saying("late", 60);
    let proxy = home.start();
    let texts: Vec<String> = (0..30).map(|n| format!("question {n}")).collect();
    let asked = texts.iter().map(|text| {
        let request = talk(&proxy).request(text, false);
        is_cut_off(&proxy, request, 5)
    });
    join_all(asked).await;
    home.kill(proxy).await;
    let proxy = home.start();
    let start = Instant::now();

    proxy.ask(talk(&proxy).request("question 0", false)).await;

    let firsts = home.sandbox.threads().into_iter().map(|thread| {
        let reads = home.sandbox.reads(&thread);
        reads.into_iter().find(|at| *at >= start).unwrap()
    });
    let mut firsts: Vec<Instant> = firsts.collect();
    firsts.sort_unstable();
    // The one that is asked for is read more often.
    let spread = firsts[firsts.len() - 1] - firsts[1];
    assert!((2000..3500).contains(&spread.as_millis()), "{spread:?}");
}
