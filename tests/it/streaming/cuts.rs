//! Where `stop` and `max_tokens` cut an answer, streamed or not; and what `usage` says of it.

use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Script};
use serde_json::{Value, json};

use super::{Watched, chunk};
use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, decision, finish_reason, posted, said, seconds, shows, soon};

const WHOLE: &str = "Größe: 1, 2, 3, 4.\n\nQ: und dann? END";

/// The whole text: at once, or growing in steps that split every stop sequence.
fn ways() -> Vec<Behaviour> {
    let every: Vec<_> = (1..WHOLE.chars().count())
        .map(|n| WHOLE.chars().take(n).collect::<String>())
        .collect();
    let steps = (1..).step_by(3).zip(&every);
    vec![
        soon(WHOLE),
        Behaviour {
            steps: steps.map(|(at, text)| shows(at, text)).collect(),
            ..Behaviour::says(WHOLE, seconds(140))
        },
    ]
}

/// Asks with these limits, as an answer and as a stream, and goes on; both must end so.
async fn check(limits: Value, text: &str, reason: &str) {
    for behaviour in ways() {
        let proxy = Proxy::start(Setup::default());
        let mut whole = Talk::new(&proxy).fields(limits.clone());
        let mut streamed = Talk::new(&proxy).fields(limits.clone());
        streamed.messages.clear();

        let reply = whole.is_met("how big?", behaviour.clone()).await;
        let watched = Watched::says(&proxy, &streamed, "how big is it?").await;
        streamed.messages.extend([
            json!({"role": "user", "content": "how big is it?"}),
            json!({"role": "assistant", "content": watched.text()}),
        ]);
        whole.fields = json!({});
        streamed.fields = json!({});
        let next = whole.is_met("and now?", soon("more")).await;
        let next_streamed = streamed.says("and now?").await;

        assert_eq!(
            (said(&reply), finish_reason(&reply)),
            (text, reason),
            "{limits}"
        );
        assert_eq!(watched.text(), text, "{limits}");
        assert_eq!(watched.finish_reason(), reason, "{limits}");
        assert_eq!(watched.error(), "");
        for next in [next, next_streamed] {
            assert_eq!(
                (said(&next), decision(&next)),
                ("more", "appended"),
                "{limits}"
            );
        }
        assert_eq!(posted(&proxy).len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_limits_is_whole() {
    check(json!({}), WHOLE, "stop").await;
    check(json!({"stop": null, "max_tokens": null}), WHOLE, "stop").await;
    check(
        json!({"stop": ["nowhere"], "max_tokens": 1000}),
        WHOLE,
        "stop",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_ends_before_the_first_stop_sequence() {
    check(json!({"stop": "\n\nQ:"}), "Größe: 1, 2, 3, 4.", "stop").await;
    check(json!({"stop": ["END", "3"]}), "Größe: 1, 2, ", "stop").await;
    check(json!({"stop": ["öße"]}), "Gr", "stop").await;
    check(
        json!({"stop": ["END!", "?"]}),
        "Größe: 1, 2, 3, 4.\n\nQ: und dann",
        "stop",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_be_cut_to_nothing() {
    check(json!({"stop": "G"}), "", "stop").await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_ends_where_its_tokens_are_used_up() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy).fields(json!({"max_tokens": 5}));
    let cut = talk.is_met("how big?", soon(WHOLE)).await;
    let cut = said(&cut).to_owned();
    assert!(WHOLE.starts_with(&cut) && cut.len() < WHOLE.len(), "{cut}");

    check(json!({"max_tokens": 5}), &cut, "length").await;
    check(json!({"max_completion_tokens": 5}), &cut, "length").await;
    check(json!({"max_tokens": 5, "stop": "END"}), &cut, "length").await;
    check(
        json!({"max_tokens": 500, "stop": "END"}),
        WHOLE.strip_suffix("END").unwrap(),
        "stop",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_answer_that_a_stop_sequence_cuts_has_stopped() {
    for (stop, expected) in [("2", ("1 ", "stop")), ("9", ("1 2 3", "length"))] {
        let incomplete = Behaviour {
            ending: "incomplete".to_owned(),
            ..soon("1 2 3")
        };
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy).fields(json!({"stop": stop}));

        let reply = talk.is_met("count", incomplete.clone()).await;
        let watched = Watched::says(&proxy, &talk, "count on").await;

        assert_eq!((said(&reply), finish_reason(&reply)), expected);
        assert_eq!(watched.text(), expected.0);
        assert_eq!(watched.finish_reason(), expected.1);
    }
}

#[tokio::test(start_paused = true)]
async fn text_beyond_the_cut_may_change() {
    let proxy = Proxy::start(Setup::default());
    proxy.sandbox.set_script(Script::always(Behaviour {
        steps: vec![shows(1, "one END draft"), shows(4, "one END other")],
        ..Behaviour::says("one END final", seconds(9))
    }));
    let talk = Talk::new(&proxy).fields(json!({"stop": "END"}));

    let watched = Watched::says(&proxy, &talk, "count").await;

    assert_eq!(watched.text(), "one ");
    assert_eq!(watched.error(), "");
    assert_eq!(watched.finish_reason(), "stop");
}

fn usages(watched: &Watched) -> Vec<Value> {
    let chunks = watched.frames.iter().map(|(_, frame)| chunk(frame));
    let usages = chunks.filter_map(|chunk| chunk.get("usage").cloned());
    usages.collect()
}

#[tokio::test(start_paused = true)]
async fn usage_comes_last_where_it_is_asked_for_and_not_at_all_elsewhere() {
    let proxy = Proxy::start(Setup::default());
    proxy.sandbox.set_script(Script::always(soon(WHOLE)));
    let asking = |fields| Talk::new(&proxy).fields(fields);
    let include = |include: bool| json!({"stream_options": {"include_usage": include}});

    let synchronous = asking(json!({})).says("how big?").await;
    let with = Watched::says(&proxy, &asking(include(true)), "how big?").await;
    let without = Watched::says(&proxy, &asking(include(false)), "how big?").await;
    let unasked = Watched::says(&proxy, &asking(json!({})), "how big?").await;

    let usage = &synchronous.body["usage"];
    let count = |name: &str| usage[name].as_u64().unwrap();
    assert!(count("prompt_tokens") > 0 && count("completion_tokens") > 0);
    assert_eq!(
        count("total_tokens"),
        count("prompt_tokens") + count("completion_tokens")
    );
    let told = usages(&with);
    let (last, others) = told.split_last().unwrap();
    assert_eq!(last, usage);
    assert!(others.iter().all(Value::is_null));
    let (_, last_chunk) = with.frames.iter().rev().nth(1).unwrap();
    assert_eq!(chunk(last_chunk)["choices"], json!([]));
    assert!(usages(&without).is_empty() && usages(&unasked).is_empty());
}

#[tokio::test(start_paused = true)]
async fn usage_counts_what_was_sent_and_not_what_was_cut() {
    let proxy = Proxy::start(Setup::default());
    let mut whole = Talk::new(&proxy);
    let mut cut = Talk::new(&proxy).fields(json!({"max_tokens": 5}));

    let whole = whole.is_met("how big?", soon(WHOLE)).await;
    let cut = cut.is_met("how big?", soon(WHOLE)).await;

    let counted = |body: &Value| body["usage"]["completion_tokens"].as_u64().unwrap();
    assert!(counted(&cut.body) <= 5);
    assert!(counted(&whole.body) > 5);
}
