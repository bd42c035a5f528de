//! Requests that follow on a response.

use http::StatusCode;
use serde_json::json;

use super::{Caller, decision, id, plain, posted, said, status};
use crate::proxy::prompt;

#[tokio::test(start_paused = true)]
async fn the_newest_point_is_appended_to_and_an_older_one_forks() {
    let proxy = plain();
    let caller = Caller::new(&proxy);

    let first = caller.asks("one", json!({})).await;
    let follow = |id: &str| json!({"previous_response_id": id});
    let second = caller.asks("two", follow(id(&first))).await;
    let third = caller.asks("three", follow(id(&first))).await;

    assert_eq!(decision(&second), "appended");
    assert_eq!(second.body["previous_response_id"], first.body["id"]);
    assert_eq!(decision(&third), "forked");
    assert_eq!(said(&third), "hello");
    let posts = posted(&proxy);
    assert_eq!(posts[..2], ["one", "two"]);
    assert_eq!(
        posts[2],
        "Earlier conversation:\n\nUser: one\n\nAssistant: hello\n\n---\n\nthree"
    );
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_there_is_told_of_alike() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let unknown = format!("resp_{}", "0".repeat(32));

    let mut told = Vec::new();
    for id in [unknown.as_str(), "resp_x", "resp_0"] {
        let reply = caller.asks("hi", json!({"previous_response_id": id})).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
        assert_eq!(reply.code(), "response_not_found");
        told.push(reply.text.replace(id, "ID"));
        let found = caller.gets(&format!("/v1/responses/{id}")).await;
        told.push(found.text.replace(id, "ID"));
    }

    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(proxy.sandbox.posts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_history_of_its_own_makes_up_for_an_unknown_response() {
    let proxy = plain();
    let input = json!([
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "two"},
    ]);
    let unknown = format!("resp_{}", "0".repeat(32));

    let fields = json!({"previous_response_id": unknown});
    let reply = Caller::new(&proxy).asks(input, fields).await;

    assert_eq!(decision(&reply), "replayed");
    assert_eq!(status(&reply), "completed");
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_on_what_has_no_answer() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let later = caller
        .asks(prompt::GROWS, json!({"background": true}))
        .await;

    let fields = json!({"previous_response_id": id(&later)});
    let reply = caller.asks("and?", fields).await;

    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    let words = reply.body["error"]["message"].as_str().unwrap();
    assert!(words.contains(id(&later)), "{words}");
}

#[tokio::test(start_paused = true)]
async fn an_item_that_is_named_stands_for_what_its_response_followed_on() {
    let proxy = plain();
    let caller = Caller::new(&proxy);

    let first = caller.asks("one", json!({})).await;
    let item = &first.body["output"][0]["id"];
    let input = json!([
        {"type": "item_reference", "id": item},
        {"role": "user", "content": "two"},
    ]);
    let second = caller.asks(input, json!({})).await;

    assert_eq!(decision(&second), "appended");
    assert_eq!(posted(&proxy), ["one", "two"]);
}
