//! Legacy completions: a prompt in, a text out.

use async_openai::types::completions::CreateCompletionResponse;
use http::StatusCode;
use serde_json::{Value, json};

use crate::proxy::{Proxy, Setup, Streamed, prompt, request};

const PATH: &str = "/v1/completions";

fn completing(prompt: &Value) -> Value {
    json!({"model": "chaturdata", "prompt": prompt})
}

async fn stream(proxy: &Proxy, body: &Value) -> Streamed {
    let headers = [("content-type", "application/json")];
    let request = request("POST", PATH, &headers, &body.to_string());
    Streamed::of(proxy.send(request).await).await
}

/// The text of each choice, as its pieces join up.
fn texts(streamed: &Streamed, choices: usize) -> Vec<String> {
    let mut texts = vec![String::new(); choices];
    for frame in &streamed.frames {
        let chunk: Value = serde_json::from_str(frame).unwrap_or_default();
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
            texts[index].push_str(choice["text"].as_str().unwrap());
        }
    }
    texts
}

#[tokio::test(start_paused = true)]
async fn a_prompt_is_answered_with_a_text() {
    let proxy = Proxy::start(Setup::default());

    let reply = proxy
        .post_json(PATH, &completing(&json!("Who sells most?")))
        .await;

    assert_eq!(reply.status, StatusCode::OK);
    let read: CreateCompletionResponse = serde_json::from_str(&reply.text).unwrap();
    assert!(read.id.starts_with("cmpl-"));
    assert_eq!(read.object, "text_completion");
    assert_eq!(read.choices.len(), 1);
    assert_eq!(read.choices[0].text, "hello");
    assert!(read.usage.unwrap().total_tokens > 0);
    assert_eq!(reply.header("x-conversation-decision"), "created");
    assert_eq!(reply.header("x-usage-source"), "estimated");
    assert_eq!(proxy.sandbox.posts()[0].1, "Who sells most?");
}

#[tokio::test(start_paused = true)]
async fn each_of_several_prompts_gets_a_thread_of_its_own() {
    let proxy = Proxy::start(Setup::default());
    let body = completing(&json!(["one?", "two?", "three?"]));

    let reply = proxy.post_json(PATH, &body).await;

    let choices = reply.body["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3);
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], index);
        assert_eq!(choice["text"], "hello");
    }
    let posts = proxy.sandbox.posts();
    let mut posted: Vec<&str> = posts.iter().map(|(_, text)| text.as_str()).collect();
    posted.sort_unstable();
    assert_eq!(posted, ["one?", "three?", "two?"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_each_choice_by_its_index_and_is_done_once() {
    let proxy = Proxy::start(Setup::default());
    let mut body = completing(&json!(["first?", prompt::GROWS]));
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});

    let streamed = stream(&proxy, &body).await;

    assert_eq!(texts(&streamed, 2), ["hello", "one two"]);
    let done = streamed.frames.iter().filter(|frame| *frame == "[DONE]");
    assert_eq!(done.count(), 1);
    assert_eq!(streamed.frames.last().unwrap(), "[DONE]");
    let usage: Vec<Value> = streamed
        .frames
        .iter()
        .filter_map(|frame| serde_json::from_str::<Value>(frame).ok())
        .filter(|chunk| !chunk["usage"].is_null())
        .collect();
    assert_eq!(usage.len(), 1);
    assert_eq!(usage[0]["choices"], json!([]));
    let reasons = streamed
        .frames
        .iter()
        .filter(|frame| frame.contains(r#""finish_reason":"stop""#));
    assert_eq!(reasons.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_failure_among_several_is_an_error() {
    let proxy = Proxy::start(Setup::default());
    let mut body = completing(&json!(["first?", prompt::FAILS]));

    let reply = proxy.post_json(PATH, &body).await;
    body["stream"] = json!(true);
    body["prompt"] = json!(["another?", prompt::FAILS_HALFWAY]);
    let streamed = stream(&proxy, &body).await;

    assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
    assert_eq!(reply.code(), "run_failed");
    assert_eq!(reply.header("x-should-retry"), "false");
    assert_eq!(streamed.error()["code"], "run_failed");
    assert!(streamed.broken);
    assert!(!streamed.frames.iter().any(|frame| frame == "[DONE]"));
}

#[tokio::test(start_paused = true)]
async fn whoever_was_told_of_one_failure_is_still_owed_the_other_answers() {
    let proxy = Proxy::start(Setup::default());
    let body = completing(&json!(["first?", prompt::FAILS]));

    let reply = proxy.post_json(PATH, &body).await;
    let again = proxy.post_json(PATH, &body).await;

    assert_eq!(reply.code(), "run_failed");
    assert_eq!(again.code(), "run_failed");
    assert_eq!(again.header("x-conversation-decision"), "attached");
    assert_eq!(proxy.sandbox.posts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_echo_leads_the_text() {
    let proxy = Proxy::start(Setup::default());
    let mut body = completing(&json!("Say: "));
    body["echo"] = json!(true);

    let reply = proxy.post_json(PATH, &body).await;
    body["stream"] = json!(true);
    let streamed = stream(&proxy, &body).await;

    assert_eq!(reply.body["choices"][0]["text"], "Say: hello");
    assert_eq!(texts(&streamed, 1), ["Say: hello"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_had_is_refused_by_name() {
    let proxy = Proxy::start(Setup::default());

    let cases = [
        (json!({"prompt": [1, 2]}), "prompt", "unsupported_parameter"),
        (json!({"prompt": []}), "prompt", "invalid_value"),
        (
            json!({"prompt": "x", "suffix": "y"}),
            "suffix",
            "unsupported_parameter",
        ),
        (
            json!({"prompt": "x", "best_of": 3}),
            "best_of",
            "unsupported_parameter",
        ),
        (json!({"prompt": vec!["x"; 9]}), "prompt", "invalid_value"),
        (json!({}), "prompt", "invalid_value"),
    ];
    for (mut body, param, code) in cases {
        body["model"] = json!("chaturdata");
        let reply = proxy.post_json(PATH, &body).await;

        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(reply.body["error"]["param"], param, "{body}");
        assert_eq!(reply.code(), code, "{body}");
    }
    assert!(proxy.sandbox.posts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_posts_nothing_here_either() {
    let proxy = Proxy::start(Setup::default());
    let headers = [
        ("content-type", "application/json"),
        ("x-dry-run", "decision"),
    ];
    let body = completing(&json!("x")).to_string();

    let reply = proxy.ask(request("POST", PATH, &headers, &body)).await;

    assert_eq!(reply.body["decision"], "created");
    assert!(proxy.sandbox.posts().is_empty());
}
