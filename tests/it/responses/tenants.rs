//! What one tenant keeps, no other sees, or can tell to be there.

use http::StatusCode;
use serde_json::json;

use super::{Caller, id};
use crate::proxy::Proxy;

#[tokio::test(start_paused = true)]
async fn a_foreign_response_is_as_one_that_never_was() {
    let proxy = Proxy::passing_through();
    let (owner, other) = (
        Caller::new(&proxy),
        Caller::new(&proxy).with_key("sk-other"),
    );
    let reply = owner.asks("hi", json!({"background": true})).await;
    let never = format!("resp_{}", "0".repeat(32));

    let mut told = Vec::new();
    for name in [id(&reply), &never] {
        let path = format!("/v1/responses/{name}");
        let fields = json!({"previous_response_id": name});
        let answers = [
            other.gets(&path).await,
            other.gets(&format!("{path}?stream=true")).await,
            other.gets(&format!("{path}/input_items")).await,
            other.posts(&format!("{path}/cancel"), &json!({})).await,
            other.deletes(&path).await,
            other.asks("hi", fields).await,
        ];
        for answer in answers {
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
            let mut names: Vec<&str> = answer
                .headers
                .keys()
                .map(http::HeaderName::as_str)
                .collect();
            names.sort_unstable();
            told.push((answer.text.replace(name, "ID"), names.join(" ")));
        }
    }

    let (foreign, unknown) = told.split_at(told.len() / 2);
    assert_eq!(foreign, unknown);
    let found = owner.gets(&format!("/v1/responses/{}", id(&reply))).await;
    assert_eq!(found.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_conversation_is_as_one_that_never_was() {
    let proxy = Proxy::passing_through();
    let (owner, other) = (
        Caller::new(&proxy),
        Caller::new(&proxy).with_key("sk-other"),
    );
    let made = owner.posts("/v1/conversations", &json!({})).await;
    let never = format!("conv_{}", "0".repeat(32));

    let mut told = Vec::new();
    for name in [made.body["id"].as_str().unwrap(), &never] {
        let path = format!("/v1/conversations/{name}");
        let items = json!({"items": [{"role": "user", "content": "hi"}]});
        let answers = [
            other.gets(&path).await,
            other.posts(&path, &json!({"metadata": {}})).await,
            other.gets(&format!("{path}/items")).await,
            other.posts(&format!("{path}/items"), &items).await,
            other.gets(&format!("{path}/items/msg_1")).await,
            other.deletes(&format!("{path}/items/msg_1")).await,
            other.deletes(&path).await,
        ];
        for answer in answers {
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
            assert_eq!(answer.code(), "conversation_not_found");
            told.push(answer.text.replace(name, "ID"));
        }
    }

    let (foreign, unknown) = told.split_at(told.len() / 2);
    assert_eq!(foreign, unknown);
}
