//! Responses as numbered events, told once or again.

use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{Caller, Events, PATH, asks, plain};
use crate::proxy::prompt;

#[tokio::test(start_paused = true)]
async fn events_come_in_their_order_and_are_numbered() {
    let proxy = plain();

    let events = Caller::new(&proxy).streams(prompt::GROWS, json!({})).await;

    assert_eq!(
        events.names(),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
    );
    for (number, data) in events.data.iter().enumerate() {
        assert_eq!(data["sequence_number"], number);
    }
    assert!(!events.broken);
    let whole = &events.last()["response"];
    assert_eq!(whole["status"], "completed");
    assert_eq!(whole["output"][0]["content"][0]["text"], "one two");
}

#[tokio::test(start_paused = true)]
async fn a_stream_taken_up_again_is_the_tail_of_the_first() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let first = caller.streams(prompt::GROWS, json!({})).await;

    let again = caller.follows(first.id(), None).await;
    assert_eq!(again.data, first.data);
    for after in 0..first.data.len() - 1 {
        let tail = caller.follows(first.id(), Some(after)).await;

        assert_eq!(tail.data, first.data[after + 1..], "after {after}");
        assert!(!tail.broken);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_taken_up_while_its_run_goes_on() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let mut body = asks(prompt::GROWS, json!({"background": true}));
    body["stream"] = json!(true);
    let request = caller.request("POST", PATH, &body.to_string());
    let mut response = proxy.send(request).await.into_body();
    let first = response.frame().await.unwrap().unwrap();
    let first = str::from_utf8(first.data_ref().unwrap())
        .unwrap()
        .to_owned();
    drop(response);

    let data = first.lines().nth(1).unwrap();
    let created: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    let id = created["response"]["id"].as_str().unwrap();
    let rest = caller.follows(id, Some(0)).await;
    let whole = caller.follows(id, None).await;

    assert_eq!(rest.data, whole.data[1..]);
    assert_eq!(whole.names()[..3], ["created", "queued", "in_progress"]);
    assert_eq!(rest.last()["type"], "response.completed");
    assert_eq!(proxy.sandbox.posts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_ends_its_stream_in_order() {
    let proxy = plain();
    let caller = Caller::new(&proxy);

    let events = caller.streams(prompt::FAILS_HALFWAY, json!({})).await;
    let again = caller.follows(events.id(), None).await;

    assert!(!events.broken);
    let last = events.last();
    assert_eq!(last["type"], "response.failed");
    assert_eq!(last["response"]["status"], "failed");
    assert_eq!(last["response"]["error"]["code"], "server_error");
    assert_eq!(again.last()["type"], "response.failed");
    assert_eq!(again.last()["response"], last["response"]);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_an_error_and_a_broken_body() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let mut body = asks(prompt::SILENT, json!({}));
    body["stream"] = json!(true);
    let mut request = caller.request("POST", PATH, &body.to_string());
    let timeout = http::HeaderValue::from_static("60");
    request.headers_mut().insert("x-request-timeout", timeout);

    let events = Events::of(proxy.send(request).await).await;

    assert!(events.broken);
    assert_eq!(events.last()["type"], "error");
    assert_eq!(events.last()["code"], "run_timeout");
    let found = caller.gets(&format!("{PATH}/{}", events.id())).await;
    assert_eq!(found.body["status"], "in_progress");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_before_a_stream_begins_is_a_status() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let mut body = asks(prompt::REFUSED, json!({}));
    body["stream"] = json!(true);

    let reply = caller.posts(PATH, &body).await;

    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(reply.code(), "upstream_refused");
}

#[tokio::test(start_paused = true)]
async fn silence_is_bridged_by_comments_alone() {
    let proxy = plain();
    let mut body = asks(prompt::GROWS, json!({}));
    body["stream"] = json!(true);
    let request = Caller::new(&proxy).request("POST", PATH, &body.to_string());

    let response = proxy.send(request).await;
    let whole = response.into_body().collect().await.unwrap().to_bytes();

    let text = String::from_utf8(whole.to_vec()).unwrap();
    let kept_alive = text.matches(": keep-alive\n\n").count();
    assert!(kept_alive >= 2, "{text}");
    assert!(!text.contains("[DONE]"));
}

#[tokio::test(start_paused = true)]
async fn a_query_that_cannot_be_read_is_refused_by_name() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let reply = caller.asks("hi", json!({})).await;

    for (query, param) in [
        ("stream=maybe", "stream"),
        ("starting_after=1", "starting_after"),
        ("stream=true&starting_after=x", "starting_after"),
    ] {
        let refused = caller
            .gets(&format!("{}?{query}", super::path(&reply)))
            .await;

        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(refused.body["error"]["param"], param, "{query}");
    }
    let ignored = format!("{}?include[]=file_search_call.results", super::path(&reply));
    assert_eq!(caller.gets(&ignored).await.status, StatusCode::OK);
}
