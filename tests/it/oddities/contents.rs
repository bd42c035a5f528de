//! What messages hold beside plain text, and answers of several messages.

use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Content};
use chaturdata_proxy::upstream::sandbox::shape::{Field, Order, Shape};
use serde_json::{Value, json};

use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, decision, said, soon};

fn text(text: &str) -> Content {
    Content::Text(text.to_owned())
}

fn holding(reply: Vec<Content>) -> Behaviour {
    Behaviour { reply, ..soon("") }
}

fn parts(parts: &[Value]) -> Behaviour {
    holding(vec![Content::Parts(parts.to_vec())])
}

#[tokio::test(start_paused = true)]
async fn several_assistant_messages_are_one_answer_in_their_order() {
    for order in [Order::OldestFirst, Order::NewestFirst] {
        for omit in [vec![], vec![Field::Id, Field::Role, Field::CreatedAt]] {
            let proxy = Proxy::start(Setup::default());
            let mut talk = Talk::new(&proxy);
            let behaviour = || Behaviour {
                shape: Shape {
                    order,
                    omit: omit.clone(),
                    ..Shape::default()
                },
                ..holding(vec![text("First."), text("Second."), text("Third.")])
            };

            let opening = talk.is_met("hello", behaviour()).await;
            let next = talk.is_met("hello", behaviour()).await;

            assert_eq!(said(&opening), "First.\n\nSecond.\n\nThird.");
            assert_eq!(said(&next), said(&opening), "{order:?} {omit:?}");
            assert_eq!(decision(&next), "appended");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_image_is_markdown_and_other_kinds_are_short_notes() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    let reply = talk
        .is_met(
            "draw it",
            parts(&[
                json!({"type": "text", "text": {"value": "Here:", "annotations": []}}),
                json!({"type": "image_url", "image_url": {"url": "https://x.test/a (1).png"}}),
                json!({"type": "image_file", "image_file": {"file_id": "file-9"}}),
                json!({"type": "hologram", "id": "holo-1", "depth": [1, 2]}),
                json!({"type": "hologram"}),
            ]),
        )
        .await;

    insta::assert_snapshot!(said(&reply), @"
    Here:

    ![image](https://x.test/a%20%281%29.png)

    [image file file-9]

    [content of kind hologram holo-1]

    [content of kind hologram]
    ");
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_any_text_is_an_answer() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    let image = json!({"type": "image_file", "image_file": {"file_id": "file-9"}});
    let drawn = talk.is_met("draw it", parts(&[image])).await;
    let next = talk.is_met("thanks", soon("At your service.")).await;

    assert_eq!(said(&drawn), "[image file file-9]");
    assert_eq!(said(&next), "At your service.");
    assert_eq!(decision(&next), "appended");
}

#[tokio::test(start_paused = true)]
async fn an_empty_message_beside_the_answer_leaves_no_gap() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let reply = vec![Content::Parts(Vec::new()), text("All of it."), text(" ")];

    let reply = talk.is_met("hello", holding(reply)).await;

    assert_eq!(said(&reply), "All of it.");
}

/// A sentence that names its source at these places.
fn cited(value: &str, start: usize, end: usize) -> Content {
    let source = json!({
        "type": "url_citation", "start_index": start, "end_index": end,
        "url": "https://x.test/orders", "title": "Orders",
    });
    let value = json!({"value": value, "annotations": [source]});
    Content::Parts(vec![json!({"type": "text", "text": value})])
}

fn citation(start: usize, end: usize) -> Value {
    json!({"type": "url_citation", "url_citation": {
        "start_index": start, "end_index": end, "url": "https://x.test/orders", "title": "Orders",
    }})
}

#[tokio::test(start_paused = true)]
async fn sources_are_kept_and_move_with_their_text() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    let reply = talk
        .is_met(
            "who says so?",
            holding(vec![cited("Größe [1]", 6, 9), cited("No [1]", 3, 6)]),
        )
        .await;

    let message = &reply.body["choices"][0]["message"];
    assert_eq!(said(&reply), "Größe [1]\n\nNo [1]");
    assert_eq!(
        message["annotations"],
        json!([citation(6, 9), citation(14, 17)])
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_the_sources_after_the_text() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    proxy
        .sandbox
        .set_script(chaturdata_proxy::upstream::sandbox::script::Script::always(
            holding(vec![cited("No [1]", 3, 6)]),
        ));

    let streamed = talk.streams("who says so?").await;

    let sources: Vec<Value> = streamed
        .frames
        .iter()
        .filter_map(|frame| serde_json::from_str::<Value>(frame).ok())
        .map(|chunk| chunk["choices"][0]["delta"]["annotations"].clone())
        .filter(|annotations| !annotations.is_null())
        .collect();
    assert_eq!(streamed.text(), "No [1]");
    assert_eq!(sources, [json!([citation(3, 6)])]);
}

#[tokio::test(start_paused = true)]
async fn a_source_whose_text_is_cut_off_goes_with_it() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy).fields(json!({"stop": "But"}));

    let reply = talk
        .is_met(
            "who says so?",
            holding(vec![cited("No [1]", 3, 6), cited("But yes [1]", 8, 11)]),
        )
        .await;

    assert_eq!(said(&reply), "No [1]\n\n");
    assert_eq!(
        reply.body["choices"][0]["message"]["annotations"],
        json!([citation(3, 6)])
    );
}
