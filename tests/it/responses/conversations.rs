//! Conversations by their ids: made, described, filled, asked in, and forgotten.

use async_openai::types::responses::ResponseItemList;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Caller, plain, posted, said};
use crate::proxy::{Proxy, Setup};
use crate::talk::Talk;

const PATH: &str = "/v1/conversations";

fn texts(page: &Value) -> Vec<(String, String)> {
    let items = page["data"].as_array().unwrap().iter();
    let texts = items.map(|item| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&item["role"]), text(&item["content"][0]["text"]))
    });
    texts.collect()
}

fn pair(role: &str, text: &str) -> (String, String) {
    (role.to_owned(), text.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_conversation_is_made_described_and_forgotten() {
    let proxy = plain();
    let caller = Caller::new(&proxy);

    let made = caller
        .posts(PATH, &json!({"metadata": {"topic": "orders"}}))
        .await;
    let id = made.body["id"].as_str().unwrap();
    let path = format!("{PATH}/{id}");
    let found = caller.gets(&path).await;
    let described = caller
        .posts(&path, &json!({"metadata": {"topic": "sales"}}))
        .await;
    let deleted = caller.deletes(&path).await;
    let gone = caller.gets(&path).await;

    assert!(id.starts_with("conv_"));
    assert_eq!(made.body["object"], "conversation");
    assert_eq!(made.body["metadata"], json!({"topic": "orders"}));
    assert_eq!(made.header("x-conversation-id"), id);
    assert_eq!(found.body, made.body);
    assert_eq!(described.body["metadata"], json!({"topic": "sales"}));
    let expected = json!({"id": id, "object": "conversation.deleted", "deleted": true});
    assert_eq!(deleted.body, expected);
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    assert_eq!(gone.code(), "conversation_not_found");
}

#[tokio::test(start_paused = true)]
async fn items_wait_for_the_next_prompt_and_go_with_it() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let items = json!([
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "hello"},
    ]);
    let made = caller.posts(PATH, &json!({"items": items})).await;
    let id = made.body["id"].as_str().unwrap();
    let path = format!("{PATH}/{id}/items");
    let more = json!({"items": [{"role": "user", "content": "drop me"}]});

    let added = caller.posts(&path, &more).await;
    let waiting = caller.gets(&format!("{path}?order=asc")).await;
    let item = added.body["data"][0]["id"].as_str().unwrap();
    let one = caller.gets(&format!("{path}/{item}")).await;
    let dropped = caller.deletes(&format!("{path}/{item}")).await;
    let reply = caller.asks("two", json!({"conversation": id})).await;
    let shown = caller.gets(&format!("{path}?order=asc")).await;

    assert_eq!(texts(&added.body), [pair("user", "drop me")]);
    assert_eq!(
        texts(&waiting.body),
        [
            pair("user", "one"),
            pair("assistant", "hello"),
            pair("user", "drop me")
        ]
    );
    assert_eq!(one.body["id"], item);
    assert_eq!(dropped.body["object"], "conversation");
    assert_eq!(said(&reply), "hello");
    assert_eq!(reply.body["conversation"]["id"], id);
    assert_eq!(
        posted(&proxy),
        ["Earlier conversation:\n\nUser: one\n\nAssistant: hello\n\n---\n\ntwo"]
    );
    serde_json::from_str::<ResponseItemList>(&shown.text).unwrap();
    assert_eq!(
        texts(&shown.body),
        [
            pair("user", "one"),
            pair("assistant", "hello"),
            pair("user", "two"),
            pair("assistant", "hello"),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_posted_stays() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    caller.asks("one", json!({"conversation": "orders"})).await;
    let path = format!("{PATH}/orders/items");

    let items = caller.gets(&path).await;
    let item = items.body["data"][0]["id"].as_str().unwrap();
    let one = caller.gets(&format!("{path}/{item}")).await;
    let kept = caller.deletes(&format!("{path}/{item}")).await;
    let unknown = caller.deletes(&format!("{path}/msg_x")).await;
    let again = caller.gets(&path).await;

    assert_eq!(one.body, items.body["data"][0]);
    assert_eq!(kept.status, StatusCode::BAD_REQUEST);
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(unknown.code(), "item_not_found");
    assert_eq!(again.body, items.body);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_goes_on_whichever_endpoint_it_is_asked_in() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let mut chat = Talk::new(&proxy)
        .header("authorization", "Bearer sk-caller")
        .header("x-conversation-id", "orders");

    chat.says("one").await;
    let second = caller.asks("two", json!({"conversation": "orders"})).await;
    chat.remember("two", &json!("hello"));
    let third = chat.says("three").await;
    let fourth = caller
        .asks("four", json!({"conversation": {"id": "orders"}}))
        .await;

    for reply in [&second, &third, &fourth] {
        assert_eq!(reply.header("x-conversation-decision"), "appended");
        assert_eq!(reply.header("x-conversation-id"), "orders");
    }
    assert_eq!(posted(&proxy), ["one", "two", "three", "four"]);
    let items = caller.gets(&format!("{PATH}/orders/items?order=asc")).await;
    let said: Vec<_> = texts(&items.body)
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(
        said,
        [
            "one", "hello", "two", "hello", "three", "hello", "four", "hello"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_was_made_is_asked_in_by_chat() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let items = json!([{"role": "user", "content": "zero"}]);
    let made = caller.posts(PATH, &json!({"items": items})).await;
    let id = made.body["id"].as_str().unwrap();
    let mut chat = Talk::new(&proxy)
        .header("authorization", "Bearer sk-caller")
        .header("x-conversation-id", id);

    let first = chat.says("one").await;
    let second = caller.asks("two", json!({"conversation": id})).await;

    assert_eq!(first.header("x-conversation-id"), id);
    assert_eq!(second.header("x-conversation-decision"), "appended");
    let begun = "Earlier conversation:\n\nUser: zero\n\n---\n\none";
    assert_eq!(posted(&proxy), [begun, "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_is_forgotten_is_not_asked_in() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let made = caller.posts(PATH, &json!({})).await;
    let id = made.body["id"].as_str().unwrap();
    let first = caller.asks("one", json!({"conversation": id})).await;

    caller.deletes(&format!("{PATH}/{id}")).await;
    let next = caller.asks("two", json!({"conversation": id})).await;
    let found = caller.gets(&super::path(&first)).await;

    assert_eq!(next.code(), "conversation_not_found");
    assert_eq!(found.status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_is_refused_by_name() {
    let proxy = Proxy::start(Setup::default());
    let caller = Caller::new(&proxy);
    let item = json!({"role": "user", "content": "x"});

    for (body, param) in [
        (json!({"items": vec![item; 21]}), "items"),
        (
            json!({"items": [{"role": "nobody", "content": "x"}]}),
            "items[0].role",
        ),
        (json!({"metadata": 7}), "metadata"),
    ] {
        let reply = caller.posts(PATH, &body).await;

        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(reply.body["error"]["param"], param, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_of_a_conversation_is_forgotten_with_it() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let path = format!("{PATH}/orders");
    let within = json!({"conversation": "orders"});
    caller.asks("one", within.clone()).await;
    caller
        .posts(&path, &json!({"metadata": {"topic": "sales"}}))
        .await;
    let items = json!({"items": [{"role": "user", "content": "never"}]});
    caller.posts(&format!("{path}/items"), &items).await;

    caller.deletes(&path).await;
    caller.asks("two", within).await;
    let found = caller.gets(&path).await;

    assert_eq!(found.body["metadata"], json!({}));
    assert_eq!(posted(&proxy), ["one", "two"]);
}
