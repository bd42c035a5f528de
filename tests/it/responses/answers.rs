//! A response that is waited for.

use async_openai::types::responses::Response as Strict;
use http::StatusCode;
use serde_json::json;

use super::{Caller, PATH, asks, id, path, plain, posted, said, status};
use crate::proxy::{Proxy, Setup, prompt, request};

#[tokio::test(start_paused = true)]
async fn a_response_is_what_strict_clients_read() {
    let proxy = plain();

    let fields = json!({
        "instructions": "Be kind.",
        "metadata": {"purpose": "test"},
        "temperature": 0.5,
    });
    let reply = Caller::new(&proxy).asks("Who sells most?", fields).await;

    let read: Strict = serde_json::from_str(&reply.text).unwrap();
    assert!(read.id.starts_with("resp_"));
    assert_eq!(said(&reply), "hello");
    assert_eq!(status(&reply), "completed");
    assert_eq!(reply.body["instructions"], "Be kind.");
    assert_eq!(reply.body["metadata"], json!({"purpose": "test"}));
    assert_eq!(reply.body["error"], json!(null));
    assert_eq!(reply.header("x-conversation-decision"), "created");
    assert_eq!(reply.header("x-ignored-params"), "temperature");
    assert_eq!(reply.header("x-usage-source"), "estimated");
    assert!(reply.body["usage"]["total_tokens"].as_u64().unwrap() > 0);
    assert_eq!(
        posted(&proxy),
        ["Instructions:\n\nBe kind.\n\n---\n\nWho sells most?"]
    );
}

#[tokio::test(start_paused = true)]
async fn every_prefix_leads_to_responses() {
    let proxy = plain();

    for path in ["/responses", PATH, "/openai/v1/responses"] {
        let reply = proxy.post_json(path, &asks("hi", json!({}))).await;
        let found = proxy.get(&format!("{path}/{}", id(&reply))).await;

        assert_eq!(found.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_an_error_and_then_a_failed_response() {
    let proxy = plain();
    let caller = Caller::new(&proxy);

    let streamed = caller.streams(prompt::FAILS_HALFWAY, json!({})).await;
    let reply = caller.asks(prompt::FAILS, json!({})).await;
    let found = caller.gets(&format!("{PATH}/{}", streamed.id())).await;

    assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
    assert_eq!(reply.code(), "run_failed");
    assert_eq!(reply.header("x-should-retry"), "false");
    assert_eq!(found.status, StatusCode::OK);
    assert_eq!(status(&found), "failed");
    assert_eq!(found.body["error"]["code"], "server_error");
    let words = found.body["error"]["message"].as_str().unwrap();
    assert!(words.contains("no table"), "{words}");
    serde_json::from_str::<Strict>(&found.text).unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_not_stored_cannot_be_asked_for() {
    let proxy = plain();
    let caller = Caller::new(&proxy);

    let reply = caller.asks("hi", json!({"store": false})).await;
    let found = caller.gets(&path(&reply)).await;
    let fields = json!({"previous_response_id": id(&reply)});
    let next = caller.asks("and?", fields).await;

    assert_eq!(said(&reply), "hello");
    assert_eq!(found.code(), "response_not_found");
    assert_eq!(next.code(), "response_not_found");
}

#[tokio::test(start_paused = true)]
async fn a_history_that_is_resent_goes_on_in_its_thread_stored_or_not() {
    for store in [true, false] {
        let proxy = plain();
        let caller = Caller::new(&proxy);
        let fields = json!({"store": store});

        let first = caller.asks("one", fields.clone()).await;
        let mut input = vec![json!({"role": "user", "content": "one"})];
        input.extend(first.body["output"].as_array().unwrap().clone());
        input.push(json!({"role": "user", "content": "two"}));
        let second = caller.asks(input, fields).await;

        assert_eq!(said(&second), "hello");
        assert_eq!(second.header("x-conversation-decision"), "appended");
        assert_eq!(posted(&proxy), ["one", "two"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_posts_nothing_and_keeps_nothing() {
    let proxy = plain();
    let headers = [
        ("content-type", "application/json"),
        ("x-dry-run", "decision"),
    ];

    for fields in [json!({}), json!({"background": true})] {
        let body = asks("hi", fields).to_string();
        let reply = proxy.ask(request("POST", PATH, &headers, &body)).await;

        assert_eq!(reply.body["decision"], "created");
        assert_eq!(reply.body["posts"], "hi");
    }
    assert!(proxy.sandbox.posts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_had_is_refused_by_name() {
    let proxy = plain();
    let caller = Caller::new(&proxy);

    for (fields, param) in [
        (json!({"background": true, "store": false}), "background"),
        (
            json!({"previous_response_id": "resp_1", "conversation": "c"}),
            "previous_response_id",
        ),
        (json!({"truncation": "sometimes"}), "truncation"),
        (json!({"metadata": {"a": "b".repeat(513)}}), "metadata.a"),
        (json!({"input": null}), "input"),
    ] {
        let reply = caller.asks("hi", fields.clone()).await;

        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{fields}");
        assert_eq!(reply.body["error"]["param"], param, "{fields}");
    }
    assert!(proxy.sandbox.posts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_told_of_the_response_that_there_is() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let body = asks(prompt::GROWS, json!({})).to_string();

    let asking = proxy.send(caller.request("POST", PATH, &body));
    let gone = tokio::time::timeout(std::time::Duration::from_secs(5), asking).await;
    let again = proxy.ask(caller.request("POST", PATH, &body)).await;
    let found = caller.gets(&path(&again)).await;

    assert!(gone.is_err());
    assert_eq!(said(&again), "one two");
    assert_eq!(again.header("x-conversation-decision"), "attached");
    assert_eq!(found.body["id"], again.body["id"]);
    assert_eq!(proxy.sandbox.posts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_cut_is_incomplete() {
    let proxy = plain();
    let caller = Caller::new(&proxy);

    let reply = caller
        .asks(prompt::GROWS, json!({"max_output_tokens": 1}))
        .await;
    let found = caller.gets(&path(&reply)).await;

    for reply in [reply, found] {
        assert_eq!(status(&reply), "incomplete");
        let details = json!({"reason": "max_output_tokens"});
        assert_eq!(reply.body["incomplete_details"], details);
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_are_counted_without_a_run() {
    let proxy = Proxy::start(Setup::default());
    let caller = Caller::new(&proxy);

    let path = format!("{PATH}/input_tokens");
    let reply = caller
        .posts(&path, &asks("Who sells most?", json!({})))
        .await;

    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.body["object"], "response.input_tokens");
    assert!(reply.body["input_tokens"].as_u64().unwrap() > 3);
    assert!(proxy.sandbox.posts().is_empty());
}
