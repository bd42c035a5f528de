//! What is not in the form that was asked for is mended, or is an error: never passed on.

use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Answer, Behaviour, Lands, Post};
use serde_json::json;

use super::{MENDING, adding, number, proxy, proxy_with};
use crate::proxy::{Proxy, Setup};
use crate::talk::{
    Talk, answers, busy, calls, decision, finish_reason, message, posted, said, seconds, shows,
    soon, told,
};

const GOOD: &str = "{\"n\": 42}";

fn talk(proxy: &Proxy) -> Talk<'_> {
    Talk::new(proxy).fields(number())
}

#[tokio::test(start_paused = true)]
async fn json_amid_words_is_taken_out_of_them() {
    let answer = "Here you are:\n\n```json\n{\"n\": 42}\n```\n\nAnything else?";
    let proxy = proxy(&[("how many?", soon(answer))]);

    let reply = talk(&proxy).says("how many?").await;

    assert_eq!((said(&reply), finish_reason(&reply)), (GOOD, "stop"));
    assert_eq!(posted(&proxy).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_in_its_form_is_mended_on_a_thread_of_its_own() {
    let proxy = proxy(&[(MENDING, soon(GOOD)), ("how many?", soon("forty-two"))]);

    let reply = talk(&proxy).says("how many?").await;

    assert_eq!((said(&reply), decision(&reply)), (GOOD, "created"));
    let threads = posted(&proxy);
    assert_eq!(threads.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    assert!(threads[0][0].starts_with("how many?"), "{threads:?}");
    for part in [MENDING, "how many?", "forty-two"] {
        assert!(threads[1][0].contains(part), "{}", threads[1][0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_conversation_goes_on_after_an_answer_that_was_mended() {
    let proxy = proxy(&[(MENDING, soon(GOOD)), ("how many?", soon("forty-two"))]);
    let mut talk = talk(&proxy);
    talk.says("how many?").await;

    proxy.sandbox.set_script(super::script(&[("", soon(GOOD))]));
    let reply = talk.says("and now?").await;

    assert_eq!(decision(&reply), "appended");
    assert_eq!(posted(&proxy)[0].len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_mended_is_an_error_that_says_what_is_wrong_with_it() {
    let proxy = proxy(&[(MENDING, soon("{\"n\": \"42\"}")), ("", soon("forty-two"))]);
    let mut talk = talk(&proxy);

    let reply = talk.says("how many?").await;

    assert_eq!(
        told(&reply),
        "502 server_error structured_output_failed x-should-retry=false"
    );
    assert!(message(&reply).contains("n"), "{}", reply.text);
    assert_eq!(posted(&proxy).len(), 2);

    // As after a run that failed, nothing is posted on that thread any more.
    talk.remember("how many?", &json!("forty-two"));
    let next = talk.says("again").await;
    assert_ne!(decision(&next), "appended");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_again_is_told_the_same_and_posts_nothing() {
    let proxy = proxy(&[("", soon("forty-two"))]);
    let first = talk(&proxy).says("how many?").await;

    let second = talk(&proxy).says("how many?").await;

    assert_eq!(message(&second), message(&first));
    assert_eq!(decision(&second), "attached");
    assert_eq!(posted(&proxy).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_mended_as_often_as_is_set() {
    for repairs in [0, 1, 3] {
        let mut setup = Setup::default();
        setup.config.structured.repairs = repairs;
        let proxy = proxy_with(setup, &[("", soon("forty-two"))]);

        let reply = talk(&proxy).says("how many?").await;

        assert_eq!(reply.code(), "structured_output_failed");
        assert_eq!(posted(&proxy).len(), 1 + repairs as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn each_mending_mends_the_last_answer() {
    let mut setup = Setup::default();
    setup.config.structured.repairs = 2;
    let rules = [
        ("The answer was:\n\nsecond", soon(GOOD)),
        (MENDING, soon("second")),
        ("", soon("first")),
    ];
    let proxy = proxy_with(setup, &rules);

    let reply = talk(&proxy).says("how many?").await;

    assert_eq!(said(&reply), GOOD);
    assert_eq!(posted(&proxy).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_mending_that_comes_to_nothing_is_not_told_but_what_was_wrong_at_first() {
    let lost = Behaviour {
        post: Post {
            answer: Answer::Reset,
            lands: Some(Lands::AtOnce),
            ..Post::default()
        },
        ..soon(GOOD)
    };
    let plain = proxy(&[("", soon("forty-two"))]);
    plain.sandbox.set_script(super::script(&[
        (MENDING, answers(Answer::status(400))),
        ("", soon("forty-two")),
    ]));
    let refused = talk(&plain).says("how many?").await;
    for mending in [
        lost,
        answers(busy(429, Some("3"))),
        Behaviour::ends("failed", None, seconds(1)),
    ] {
        let proxy = proxy(&[(MENDING, mending), ("", soon("forty-two"))]);

        let reply = talk(&proxy).says("how many?").await;

        assert_eq!(reply.code(), "structured_output_failed");
        assert_eq!(message(&reply), message(&refused));
        let mendings = posted(&proxy).concat();
        let mendings = mendings.iter().filter(|text| text.starts_with(MENDING));
        assert!(mendings.count() <= 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_mending_whose_outcome_is_unknown_is_not_posted_again() {
    let lost = answers(Answer::Hang);
    let proxy = proxy(&[(MENDING, lost), ("", soon("forty-two"))]);

    let reply = talk(&proxy).says("how many?").await;

    assert_eq!(reply.code(), "structured_output_failed");
    assert_eq!(calls(&proxy, Kind::Post).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_refused_while_an_answer_is_mended_is_told_as_such() {
    let rules = [
        (MENDING, answers(Answer::status(401))),
        ("", soon("forty-two")),
    ];
    let proxy = Proxy::passing_through();
    proxy.sandbox.set_script(super::script(&rules));

    let mut talk = talk(&proxy).header("authorization", "Bearer sk-caller");
    let reply = talk.says("how many?").await;

    assert_eq!(reply.code(), "invalid_api_key");
}

#[tokio::test(start_paused = true)]
async fn json_is_cut_by_neither_stop_nor_tokens() {
    let proxy = proxy(&[("", soon(GOOD))]);
    let mut fields = number();
    fields["stop"] = json!(["4"]);
    fields["max_tokens"] = json!(1);

    let reply = Talk::new(&proxy).fields(fields).says("how many?").await;

    assert_eq!((said(&reply), finish_reason(&reply)), (GOOD, "stop"));
}

#[tokio::test(start_paused = true)]
async fn of_a_run_that_ended_early_what_is_whole_is_an_answer_and_what_is_not_is_mended() {
    let early = |text| Behaviour {
        ending: "incomplete".to_owned(),
        ..soon(text)
    };
    for (text, threads) in [(GOOD, 1), ("{\"n\": 4", 2)] {
        let proxy = proxy(&[(MENDING, soon(GOOD)), ("", early(text))]);

        let reply = talk(&proxy).says("how many?").await;

        assert_eq!((said(&reply), finish_reason(&reply)), (GOOD, "stop"));
        assert_eq!(posted(&proxy).len(), threads);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_sends_nothing_of_an_answer_before_it_is_whole_and_good() {
    let growing = Behaviour {
        steps: vec![shows(3, "{\"n\":"), shows(9, "{\"n\": oh")],
        ..Behaviour::says("{\"n\": oh no", seconds(12))
    };
    let proxy = proxy(&[(MENDING, soon(GOOD)), ("", growing)]);

    let streamed = talk(&proxy).streams("how many?").await;

    assert_eq!(streamed.text(), GOOD);
    assert!(!streamed.broken);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_answer_is_not_to_be_had_sends_none_of_it() {
    let proxy = proxy(&[("", Behaviour::says("forty-two", seconds(12)))]);

    let streamed = talk(&proxy).streams("how many?").await;

    assert_eq!(streamed.text(), "");
    assert_eq!(streamed.error()["code"], "structured_output_failed");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_valid_is_mended_like_any_other_answer() {
    let call = |arguments: &str| {
        format!("{{\"tool_calls\": [{{\"name\": \"add\", \"arguments\": {arguments}}}]}}")
    };
    let proxy = proxy(&[
        (MENDING, soon(&call("{\"a\": 1, \"b\": 2}"))),
        ("", soon(&call("{\"a\": 1}"))),
    ]);

    let reply = Talk::new(&proxy)
        .fields(adding("auto"))
        .says("1 and 2?")
        .await;

    assert_eq!(finish_reason(&reply), "tool_calls");
    let called = &reply.body["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(called["name"], "add");
    assert_eq!(posted(&proxy).len(), 2);
}
