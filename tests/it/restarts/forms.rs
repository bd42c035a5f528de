//! Answers in a form: the form is not remembered, but what was told, and where it stands, is.

use chaturdata_proxy::upstream::sandbox::script::Behaviour;
use tokio::time::sleep;

use super::{Home, is_cut_off, talk};
use crate::proxy::Proxy;
use crate::structured::{MENDING, number, script};
use crate::talk::{Talk, decision, said, seconds, soon, told};

const GOOD: &str = "{\"n\": 42}";

fn home(rules: &[(&str, Behaviour)]) -> Home {
    Home::new(script(rules))
}

fn counting(proxy: &Proxy) -> Talk<'_> {
    talk(proxy).fields(number())
}

/// How many messages were posted that ask for an answer to be mended, and how many others.
fn posted(home: &Home) -> (usize, usize) {
    let posts = home.sandbox.posts();
    let is_mending = |text: &&str| text.starts_with(MENDING);
    let mendings = posts
        .iter()
        .map(|(_, text)| text.as_str())
        .filter(is_mending)
        .count();
    (mendings, posts.len() - mendings)
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_came_while_the_proxy_was_down_is_checked_by_who_asks_again() {
    for (text, mendings) in [(GOOD, 0), ("forty-two", 1)] {
        let mut home = home(&[
            (MENDING, soon(GOOD)),
            ("", Behaviour::says(text, seconds(30))),
        ]);
        let proxy = home.start();
        is_cut_off(&proxy, counting(&proxy).request("how many?", false), 5).await;

        home.kill(proxy).await;
        let proxy = home.start();
        let again = proxy
            .ask(counting(&proxy).request("how many?", false))
            .await;

        assert_eq!((said(&again), decision(&again)), (GOOD, "attached"));
        assert_eq!(posted(&home), (mendings, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_whose_answer_was_being_mended_is_mended_for_who_asks_again() {
    let slowly = Behaviour::says(GOOD, seconds(60));
    let mut home = home(&[(MENDING, slowly), ("", soon("forty-two"))]);
    let proxy = home.start();
    is_cut_off(&proxy, counting(&proxy).request("how many?", false), 20).await;
    assert_eq!(posted(&home), (1, 1));

    home.kill(proxy).await;
    let proxy = home.start();
    let mut talk = counting(&proxy);
    let again = talk.says("how many?").await;

    // Nobody knows any more where the first was.
    assert_eq!(said(&again), GOOD);
    assert_eq!(posted(&home), (2, 1));
    assert_eq!(decision(&talk.says("and now?").await), "appended");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_mended_is_read_where_it_stands() {
    let mut home = home(&[(MENDING, soon(GOOD)), ("", soon("forty-two"))]);
    let proxy = home.start();
    is_cut_off(&proxy, counting(&proxy).request("how many?", false), 2).await;
    sleep(seconds(60)).await;
    assert_eq!(posted(&home), (1, 1));

    home.kill(proxy).await;
    let proxy = home.start();
    let mut talk = counting(&proxy);
    let again = talk.says("how many?").await;

    assert_eq!((said(&again), decision(&again)), (GOOD, "attached"));
    assert_eq!(posted(&home), (1, 1));
    assert_eq!(decision(&talk.says("and now?").await), "appended");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_could_not_be_mended_stays_an_error() {
    let mut home = home(&[("", soon("forty-two"))]);
    let proxy = home.start();
    let before = counting(&proxy).says("how many?").await;

    home.kill(proxy).await;
    let proxy = home.start();
    let after = counting(&proxy).says("how many?").await;

    assert_eq!(told(&after), told(&before));
    assert_eq!(after.code(), "structured_output_failed");
    assert_eq!(posted(&home), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn who_waits_again_before_the_answer_has_come_gets_it_in_its_form() {
    let mut home = home(&[
        (MENDING, soon(GOOD)),
        ("", Behaviour::says("forty-two", seconds(90))),
    ]);
    let proxy = home.start();
    is_cut_off(&proxy, counting(&proxy).request("how many?", false), 5).await;

    home.kill(proxy).await;
    let proxy = home.start();
    // Another request of this caller has the run taken up.
    let asking = counting(&proxy);
    let (_, again) = tokio::join!(
        is_cut_off(&proxy, talk(&proxy).request("hello", false), 1),
        async {
            sleep(seconds(10)).await;
            proxy.ask(asking.request("how many?", false)).await
        },
    );

    assert_eq!(said(&again), GOOD);
}

#[tokio::test(start_paused = true)]
async fn what_a_thread_knows_of_the_form_is_remembered() {
    let mut home = home(&[("", soon(GOOD))]);
    let proxy = home.start();
    let mut before = counting(&proxy);
    before.says("one").await;
    let messages = before.messages.clone();

    home.kill(proxy).await;
    let proxy = home.start();
    let mut after = counting(&proxy);
    after.messages = messages;
    after.says("two").await;

    let posts = home.sandbox.posts();
    assert!(!posts[1].1.contains("\"integer\""), "{}", posts[1].1);
}
