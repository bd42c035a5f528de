//! Several answers in one body, or in one stream.

use http::StatusCode;
use serde_json::{Value, json};

use crate::proxy::{Proxy, Setup, Streamed, asking, prompt, request};

fn several(text: &str, n: u64) -> Value {
    let mut body = asking(text);
    body["n"] = json!(n);
    body
}

async fn streams(proxy: &Proxy, body: &Value) -> Streamed {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let headers = [("content-type", "application/json")];
    let request = request("POST", "/v1/chat/completions", &headers, &body.to_string());
    Streamed::of(proxy.send(request).await).await
}

fn chunks(streamed: &Streamed) -> Vec<Value> {
    let read = |frame: &String| serde_json::from_str(frame).ok();
    streamed.frames.iter().filter_map(read).collect()
}

#[tokio::test(start_paused = true)]
async fn all_answers_come_in_one_body() {
    let proxy = Proxy::start(Setup::default());

    let one = proxy.chat("hi").await;
    let reply = proxy
        .post_json("/v1/chat/completions", &several("hi", 3))
        .await;

    assert_eq!(reply.status, StatusCode::OK);
    let choices = reply.body["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3);
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], index);
        assert_eq!(choice["message"]["content"], "hello");
        assert_eq!(choice["finish_reason"], "stop");
    }
    let tokens = |body: &Value| body["usage"]["completion_tokens"].as_u64().unwrap();
    assert_eq!(tokens(&reply.body), 3 * tokens(&one.body));
    assert_eq!(
        reply.body["usage"]["prompt_tokens"],
        one.body["usage"]["prompt_tokens"]
    );
    assert_eq!(proxy.sandbox.posts().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_who_speaks_what_and_why_it_ends_for_each() {
    let proxy = Proxy::start(Setup::default());
    let mut body = several(prompt::GROWS, 3);
    body["stream_options"] = json!({"include_usage": true});

    let streamed = streams(&proxy, &body).await;

    let chunks = chunks(&streamed);
    for index in 0..3 {
        let of_it: Vec<&Value> = chunks
            .iter()
            .flat_map(|chunk| chunk["choices"].as_array().unwrap())
            .filter(|choice| choice["index"] == index)
            .collect();
        assert_eq!(of_it[0]["delta"]["role"], "assistant");
        let text: String = of_it
            .iter()
            .filter_map(|choice| choice["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, "one two");
        assert_eq!(of_it.last().unwrap()["finish_reason"], "stop");
    }
    let usage: Vec<&Value> = chunks
        .iter()
        .filter(|chunk| !chunk["usage"].is_null())
        .collect();
    assert_eq!(usage.len(), 1);
    assert_eq!(usage[0], chunks.last().unwrap());
    let done = streamed.frames.iter().filter(|frame| *frame == "[DONE]");
    assert_eq!(done.count(), 1);
    assert_eq!(streamed.frames.last().unwrap(), "[DONE]");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_an_error_whatever_the_others_say() {
    let proxy = Proxy::start(Setup::default());

    let reply = proxy
        .post_json("/v1/chat/completions", &several(prompt::FAILS, 2))
        .await;
    let streamed = streams(&proxy, &several(prompt::FAILS_HALFWAY, 2)).await;

    assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
    assert_eq!(reply.code(), "run_failed");
    assert_eq!(streamed.error()["code"], "run_failed");
    assert!(streamed.broken);
    assert!(!streamed.frames.iter().any(|frame| frame == "[DONE]"));
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_alone_goes_on_in_the_conversation() {
    let proxy = Proxy::start(Setup::default());
    let mut body = several("one", 2);
    body["conversation"] = json!("orders");
    proxy.post_json("/v1/chat/completions", &body).await;

    body["messages"] = json!([
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "two"},
    ]);
    body["n"] = json!(1);
    let next = proxy.post_json("/v1/chat/completions", &body).await;

    assert_eq!(next.header("x-conversation-decision"), "appended");
    let threads: Vec<_> = proxy
        .sandbox
        .posts()
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(threads[2], threads[0]);
    assert_ne!(threads[1], threads[0]);
}

#[tokio::test(start_paused = true)]
async fn eight_are_the_most() {
    let proxy = Proxy::start(Setup::default());

    for n in [0, 9, 1000] {
        let reply = proxy
            .post_json("/v1/chat/completions", &several("hi", n))
            .await;

        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        assert_eq!(reply.body["error"]["param"], "n");
    }
    assert!(proxy.sandbox.posts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_hung_up_finds_every_answer_again() {
    let proxy = Proxy::start(Setup::default());
    let body = several(prompt::GROWS, 3);

    let asking = proxy.post_json("/v1/chat/completions", &body);
    let gone = tokio::time::timeout(std::time::Duration::from_secs(8), asking).await;
    let again = proxy.post_json("/v1/chat/completions", &body).await;

    assert!(gone.is_err());
    assert_eq!(again.body["choices"].as_array().unwrap().len(), 3);
    assert_eq!(again.header("x-conversation-decision"), "attached");
    assert_eq!(proxy.sandbox.posts().len(), 3);
}
