//! The input of a response as items.

use async_openai::types::responses::ResponseItemList;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Caller, path, plain};

fn texts(page: &Value) -> Vec<&str> {
    let items = page["data"].as_array().unwrap().iter();
    items
        .map(|item| item["content"][0]["text"].as_str().unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_input_is_listed_page_by_page() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let input = json!([
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": [{"type": "input_text", "text": "two"}]},
    ]);
    let reply = caller.asks(input, json!({})).await;
    let items = format!("{}/input_items", path(&reply));

    let all = caller.gets(&items).await;
    let first = caller.gets(&format!("{items}?order=asc&limit=2")).await;
    let after = first.body["last_id"].as_str().unwrap();
    let second = caller
        .gets(&format!("{items}?order=asc&after={after}"))
        .await;

    serde_json::from_str::<ResponseItemList>(&all.text).unwrap();
    assert_eq!(texts(&all.body), ["two", "hello", "one"]);
    assert_eq!(texts(&first.body), ["one", "hello"]);
    assert_eq!(first.body["has_more"], true);
    assert_eq!(texts(&second.body), ["two"]);
    assert_eq!(second.body["has_more"], false);
    assert_eq!(
        all.header("x-conversation-id"),
        reply.header("x-conversation-id")
    );
}

#[tokio::test(start_paused = true)]
async fn a_page_that_cannot_be_is_refused_by_name() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let reply = caller.asks("hi", json!({})).await;

    for (query, param) in [
        ("limit=0", "limit"),
        ("order=up", "order"),
        ("after=x", "after"),
    ] {
        let refused = caller
            .gets(&format!("{}/input_items?{query}", path(&reply)))
            .await;

        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(refused.body["error"]["param"], param, "{query}");
    }
}
